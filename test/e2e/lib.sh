# The servers around a database, for real, in a network namespace of their own: knot, pebble,
# Caddy, PgBouncer, Prometheus, and an application that says for whom it was asked.
#
#   . "$(dirname "$0")/lib.sh"      # skips where something is missing; goes on in the namespace
#   outside_start [options of test/cluster]
#
# All of it lives in a directory of the test's server and dies with the program, however that ends.
export LC_ALL=C.UTF-8
missing=
for program in knotd nsupdate dig pebble lego caddy pgbouncer prometheus promtool openssl curl jq unshare setpriv; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing="$missing $program"
done
[ -x /usr/bin/python3 ] || missing="$missing /usr/bin/python3"
if [ -n "$missing" ]; then
	echo "1..0 # SKIP not installed:$missing"
	exit 0
elif [ "$(id -u)" -ne 0 ] || ! unshare -n true 2>/dev/null; then
	echo "1..0 # SKIP a network namespace needs root"
	exit 0
elif [ "${TENANCY_E2E_NAMESPACE:-}" != yes ]; then
	TENANCY_E2E_NAMESPACE=yes exec unshare -n "$0" "$@"
fi
PATH=$PATH:/usr/sbin:/sbin
# lo is down in a new namespace; not everybody has ip.
/usr/bin/python3 - <<'EOT'
import fcntl, socket, struct
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    flags = struct.unpack_from("16sh", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0)))[1]
    fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
EOT
. "$(dirname "${BASH_SOURCE[0]}")/../tap/lib.sh"

daemons=()
as_server() { # as_server COMMAND...: as the user that the test's server runs as; ends with us
	exec setpriv --reuid "$server_user" --regid "$(id -g "$server_user")" --clear-groups --pdeathsig KILL "$@"
}

daemon() { # daemon NAME COMMAND...
	local name=$1
	shift
	as_server "$@" > "$outside/$name.log" 2>&1 < /dev/null &
	daemons+=("$!")
}

await() { # await NAME COMMAND...: until it succeeds, for a minute
	local name=$1 i
	shift
	for ((i = 0; i < 600; i++)); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "Bail out! $name does not answer"
	sed 's/^/# /' "$outside/$name.log" | tail -n 20
	exit 1
}

outside_stop() {
	[ ${#daemons[@]} -eq 0 ] || kill -9 "${daemons[@]}" 2>/dev/null
	wait "${daemons[@]}" 2>/dev/null
	daemons=()
	cluster_stop
}

# A file of the directory, for the user of the daemons.
put() { # put NAME < TEXT
	cat > "$outside/$1"
	chown "$server_user" "$outside/$1"
}

authority() { # an authority for pebble's own address
	(
		cd "$outside" || exit
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 \
			-subj "/CN=pebble's own" -addext "basicConstraints=critical,CA:true"
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout pebble.key -out pebble.csr -subj "/CN=localhost"
		printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > pebble.ext
		openssl x509 -req -in pebble.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile pebble.ext -out pebble.pem
		chown "$server_user" ./*
	) 2>/dev/null
}

start_dns() {
	local secret
	secret=$(openssl rand -base64 32)
	put dns.key <<< "key \"e2e\" { algorithm hmac-sha256; secret \"$secret\"; };"
	chmod 600 "$outside/dns.key"
	put knot.conf <<-EOT
		server:
		    rundir: "$outside/knot"
		    listen: 127.0.0.1@5353
		database:
		    storage: "$outside/knot"
		key:
		  - id: e2e
		    algorithm: hmac-sha256
		    secret: $secret
		acl:
		  - id: update
		    key: e2e
		    action: update
		template:
		  - id: default
		    storage: "$outside/knot"
		    acl: update
		    zonefile-sync: -1
		    journal-content: all
		zone:
		  - domain: saas.test
		    file: saas.zone
	EOT
	put knot/saas.zone <<-'EOT'
		$ORIGIN saas.test.
		$TTL 60
		@ SOA ns hostmaster 1 3600 600 86400 1
		@ NS ns
		ns A 127.0.0.1
		taken A 127.0.0.9
	EOT
	daemon knot knotd -c "$outside/knot.conf"
	await knot dig @127.0.0.1 -p 5353 +time=1 +tries=1 saas.test SOA
}

start_pebble() {
	put pebble.json <<-EOT
		{"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
		 "certificate": "$outside/pebble.pem", "privateKey": "$outside/pebble.key",
		 "httpPort": 5080, "tlsPort": 5443}}
	EOT
	daemon pebble env PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config "$outside/pebble.json" -dnsserver 127.0.0.1:5353 -strict
	await pebble curl -sf --cacert "$outside/ca.pem" https://127.0.0.1:14000/dir
	curl -sf --cacert "$outside/ca.pem" https://127.0.0.1:15000/roots/0 | put roots.pem
}

start_caddy() { # start_caddy URL: that it asks whether a name may have a certificate
	put caddy.json <<-EOT
		{"admin": {"listen": "127.0.0.1:2019", "config": {"persist": false}},
		 "storage": {"module": "file_system", "root": "$outside/caddy"},
		 "apps": {
		  "http": {"http_port": 5080, "https_port": 5443, "servers": {"srv0": {"listen": ["127.0.0.1:5443"], "routes": []}}},
		  "tls": {"automation": {"on_demand": {"ask": "$1"}, "policies": [{"on_demand": true, "issuers": [
		   {"module": "acme", "ca": "https://127.0.0.1:14000/dir", "email": "e2e@saas.test", "trusted_roots_pem_files": ["$outside/ca.pem"]}]}]}}}}
	EOT
	daemon caddy env HOME="$outside/caddy" caddy run --config "$outside/caddy.json"
	await caddy curl -sf http://127.0.0.1:2019/config/
}

start_pgbouncer() {
	put pgbouncer.ini <<-EOT
		%include $outside/databases.ini
		[pgbouncer]
		listen_addr = 127.0.0.1
		listen_port = 6432
		unix_socket_dir = $outside
		auth_type = trust
		auth_file = $outside/users
		admin_users = postgres
		pidfile = $outside/pgbouncer.pid
	EOT
	put databases.ini <<< '[databases]'
	put users <<< '"postgres" ""'
	daemon pgbouncer pgbouncer "$outside/pgbouncer.ini"
	await pgbouncer psql -h 127.0.0.1 -p 6432 -U postgres -d pgbouncer -c "SHOW VERSION"
}

start_prometheus() {
	put prometheus.yml <<-EOT
		global: {scrape_interval: 1s, evaluation_interval: 1s}
		rule_files: ["$outside/rules/*.yml"]
		scrape_configs:
		  - job_name: tenants
		    file_sd_configs: [{files: ["$outside/targets/*.json"], refresh_interval: 1s}]
		  - job_name: door
		    http_sd_configs: [{url: "http://127.0.0.1:8181/sd", refresh_interval: 1s}]
	EOT
	daemon prometheus prometheus --config.file="$outside/prometheus.yml" --storage.tsdb.path="$outside/tsdb" \
		--web.listen-address=127.0.0.1:9090 --web.enable-lifecycle
	await prometheus curl -sf http://127.0.0.1:9090/-/ready
}

# Says for which tenant and host it was asked; has metrics.
start_application() {
	put application.py <<-'EOT'
		from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
		class Handler(BaseHTTPRequestHandler):
		    def do_GET(self):
		        body = f"page of {self.headers['X-Tenant']} at {self.headers['Host']}\n"
		        if self.path == "/metrics":
		            body = "# TYPE application_up gauge\napplication_up 1\n"
		        self.send_response(404 if self.path.startswith("/ask") and "demand" not in self.path else 200)
		        self.send_header("Content-Type", "text/plain; version=0.0.4")
		        self.end_headers()
		        self.wfile.write(body.encode())
		    def log_message(self, *arguments):
		        pass
		ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
	EOT
	daemon application /usr/bin/python3 "$outside/application.py"
	await application curl -sf http://127.0.0.1:8080/
}

write_commands() { # the shipped ones, as an operator would fill them in
	local recipes=$1
	/usr/bin/python3 - "$recipes/commands.json" "$outside" "$recipes" "$PGHOST" <<-'EOT' | put commands.json
		import json, sys
		path, outside, recipes, socket = sys.argv[1:]
		commands = json.load(open(path))
		del commands["github"] # which is not on this machine
		values = {
		    "DNS_SERVER": "127.0.0.1", "DNS_PORT": "5353", "DNS_ZONE": "saas.test", "DNS_KEY_FILE": f"{outside}/dns.key",
		    "DNS_ADDRESSES": "127.0.0.1", "PGBOUNCER_FILE": f"{outside}/databases.ini", "PGBOUNCER_HOST": "127.0.0.1",
		    "PGBOUNCER_PORT": "6432", "PGBOUNCER_USER": "postgres", "POOL_HOST": socket, "POOL_PORT": "5432",
		    "TABLESPACE_DIRECTORY": f"{outside}/tablespaces", "PGHOST": socket, "PGPORT": "5432", "PGUSER": "postgres",
		    "CADDY_ADMIN": "http://127.0.0.1:2019", "CADDY_SERVER": "srv0", "UPSTREAM": "127.0.0.1:8080",
		    "BUNDLES": f"{outside}/bundles", "TLS_ADDRESS": "127.0.0.1:5443", "TLS_CA_FILE": f"{outside}/roots.pem",
		    "CADDY_STORAGE": f"{outside}/caddy", "ACME_SERVER": "https://127.0.0.1:14000/dir", "ACME_EMAIL": "e2e@saas.test",
		    "ACME_RESOLVER": "127.0.0.1:5353", "LEGO_PATH": f"{outside}/lego", "LEGO_CA_CERTIFICATES": f"{outside}/ca.pem",
		    "PROMETHEUS": "http://127.0.0.1:9090", "TARGETS_DIRECTORY": f"{outside}/targets",
		    "RULES_DIRECTORY": f"{outside}/rules", "TARGET": "127.0.0.1:8080", "VERIFY_USER": "tenancy_restore",
		}
		for command in commands.values():
		    command["argv"][0] = recipes + "/" + command["argv"][0].rsplit("/", 1)[1]
		    environment = command["environment"]
		    for name in environment:
		        environment[name] = values.get(name, environment[name])
		    if "LEGO_PATH" in environment:
		        environment["LEGO_CA_CERTIFICATES"] = values["LEGO_CA_CERTIFICATES"]
		        environment["ACME_RESOLVER"] = values["ACME_RESOLVER"]
		        environment["TLS_CA_FILE"] = values["TLS_CA_FILE"]
		print(json.dumps(commands, indent=1))
	EOT
}

outside_start() {
	cluster_start "$@"
	trap outside_stop EXIT
	trap 'exit 130' INT TERM
	server_user=$(stat -c %U "$PGHOST")
	outside=$PGHOST/outside
	recipes=$PGHOST/stage$("${PG_CONFIG:-pg_config}" --sharedir)/pg_tenancy/recipes
	for directory in . knot caddy tablespaces bundles lego targets rules tsdb backups; do
		mkdir -p "$outside/$directory"
		chown "$server_user" "$outside/$directory"
	done
	authority
	write_commands "$recipes"
	start_dns
	start_pebble
	start_application
	start_pgbouncer
	start_prometheus
}
