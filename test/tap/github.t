#!/bin/bash
# The step that connects a tenant to GitHub, against a server that answers as GitHub documents it.
. "$(dirname "$0")/lib.sh"
command -v openssl >/dev/null && command -v python3 >/dev/null || skip_all "openssl and python3 are needed"
outside=$(mktemp -d)
chmod 755 "$outside"
cluster_start --set tenancy.runner_idle_timeout=1s --set "tenancy.command_file=$outside/commands" --set max_worker_processes=16
trap 'kill $server 2>/dev/null; cluster_stop; rm -rf "$outside"' EXIT
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$outside/key.pem" 2>/dev/null
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$outside/other.pem" 2>/dev/null
openssl pkey -in "$outside/key.pem" -pubout -out "$outside/public.pem"
chmod 644 "$outside"/*.pem
# https://docs.github.com/en/rest/apps/apps, "Get an installation for the authenticated app"
cat > "$outside/server" <<'EOT'
import base64, http.server, json, os, subprocess, sys, tempfile, time
directory = sys.argv[1]
def decoded(text): return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
def is_signed(token):
    head, body, signature = token.split(".")
    with tempfile.NamedTemporaryFile() as file:
        file.write(decoded(signature)); file.flush()
        done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", directory + "/public.pem", "-signature", file.name],
                              input=(head + "." + body).encode(), capture_output=True)
    claims = json.loads(decoded(body))
    return (done.returncode == 0 and json.loads(decoded(head))["alg"] == "RS256" and claims["iss"] == "Iv1.app"
            and claims["iat"] <= time.time() < claims["exp"] <= time.time() + 600)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        number = self.path.rsplit("/", 1)[1]
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        status, document = 404, {"message": "Not Found", "status": "404"}
        if os.path.exists(directory + "/busy"): status, document = 503, {"message": "Service Unavailable"}
        elif kind != "Bearer" or not is_signed(token): status, document = 401, {"message": "A JSON web token could not be decoded"}
        elif self.path.startswith("/app/installations/") and number in ("4711", "4712", "4713", "4714"):
            status, document = 200, {"id": int(number), "account": {"login": "octo-org", "id": 1, "type": "Organization"}, "app_id": 1,
                "repository_selection": "selected", "permissions": {"contents": "read"}, "suspended_at": "2026-01-01T00:00:00Z" if number == "4712" else None}
        data = json.dumps(document).encode()
        self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
EOT
python3 "$outside/server" "$outside" > "$outside/port" &
server=$!
for _ in $(seq 600); do [ -s "$outside/port" ] && break; sleep 0.1; done
cp -r "$(dirname "$0")/../../recipes" "$outside/recipes" && chmod -R a+rX "$outside/recipes"
commands() { # commands KEY: the command file, with the key that questions are signed with
	printf '{"github": {"argv": ["%s/recipes/github", "${action}"], "environment": {"GITHUB_API": "http://127.0.0.1:%s", "GITHUB_APP_ID": "Iv1.app", "GITHUB_KEY_FILE": "%s/%s.pem"}}}' \
		"$outside" "$(cat "$outside/port")" "$outside" "$1" > "$outside/commands"
	chmod 644 "$outside/commands"
}
begin() { # begin SLUG: an onboarding up to the step
	id=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"$1\", \"plan\": \"starter\"}')")
	wait_for 30 "SELECT state FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'database_setup'" completed
}
connect() { sql "SELECT state FROM onboarding_step_execute('$id', 'github_integration', '{\"installation_id\": $1, \"webhook_secret\": \"0123456789abcdef\"}')"; }
step() { sql "SELECT state || coalesce(': ' || error, '') FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'github_integration'"; }
settled() { wait_for 30 "SELECT state <> 'running' FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'github_integration'" t; step; }
github() { sql "SELECT configuration #> '{integrations,github}' ->> '$1' FROM tenancy.tenant t JOIN tenancy.workflow w ON w.tenant_id = t.id WHERE w.id = '$id'"; }

echo '{}' > "$outside/commands"; chmod 644 "$outside/commands"
begin unasked
is "$(connect 1)" completed "without the command the step is done"
is "$(github is_installed)" false "and marked so"

commands key
begin right
like "$(sql "SELECT onboarding_step_validate('$id', 'github_integration', '{\"installation_id\": -1, \"webhook_secret\": \"0123456789abcdef\"}')")" 'positive integer' "the form is judged at once"
is "$(connect 4711)" running "with it the step waits for GitHub"
is "$(settled)" completed "which knows the installation"
is "$(github account), $(github is_installed), $(github installation_id)" "octo-org, true, 4711" "and whose it is"
is "$(sql "SELECT count(*) FROM tenancy.workflow_step WHERE (input::text || result::text) LIKE '%0123456789abcdef%'")$(sql "SELECT count(*) FROM tenancy.job_done WHERE arguments::text LIKE '%0123456789abcdef%'")" 00 "the secret is kept nowhere"

begin wrong
connect 99 >/dev/null
like "$(settled)" "failed: .*the application has no installation 99\$" "one that is not the application's"
is "$(github installation_id)" "" "is not connected"
sql "SELECT state FROM onboarding_recover('$id', 'retry')" >/dev/null
is "$(step)" pending "the user may do the step again"
connect 4712 >/dev/null
like "$(settled)" "failed: .*installation 4712 is suspended\$" "one that is suspended"
sql "SELECT state FROM onboarding_recover('$id', 'retry')" >/dev/null
touch "$outside/busy"
connect 4713 >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.job WHERE kind = 'github.verify' AND state = 'scheduled' AND attempt >= 1" 1
ok $? "where GitHub is out of order the question is asked again"
rm "$outside/busy"
is "$(settled)" completed "until it is answered"
begin second
like "$(connect 4711)" '23505.*connected to another tenant' "an installation is one tenant's"
like "$(sql "SELECT tenant_configure('second', '{\"integrations\": {\"github\": {\"installation_id\": 4711}}}')")" 23505 "however it is said"
id=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"third\", \"plan\": \"starter\", \"github_account\": \"Else\"}')")
wait_for 30 "SELECT state FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'database_setup'" completed
connect 4714 >/dev/null
like "$(settled)" 'failed: .*is of another account' "and of the account that the request names"
commands other
begin forged
connect 4714 >/dev/null
like "$(settled)" 'failed: .*401' "a question signed with another key"
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensated "can be rolled back"
done_testing
