#!/bin/bash
# Commands: named in a file, run without a shell, with bounds.
. "$(dirname "$0")/lib.sh"
commands=$(mktemp)
trap 'rm -f "$commands"' EXIT
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s --set "tenancy.command_file=$commands" --set max_worker_processes=16
trap 'cluster_stop; rm -f "$commands"' EXIT
cat > "$commands" <<'EOT'
{"echo": {"argv": ["/bin/echo", "${what}", "x=${what}"]},
 "two": {"argv": ["/bin/echo", "${first}${second}"]},
 "option": {"argv": ["/bin/echo", "-${first}", "${second}"]},
 "cat": {"argv": ["/bin/cat"]},
 "env": {"argv": ["/usr/bin/env"], "environment": {"COLOUR": "blue", "PORT": 5432, "QUIET": true}},
 "list": {"argv": ["/usr/bin/env"], "environment": {"COLOURS": ["blue"]}},
 "status": {"argv": ["/bin/sh", "-c", "echo oops >&2; exit $0", "${status}"]},
 "slow": {"argv": ["/bin/sh", "-c", "sleep 61.0217 & sleep 60.0217"], "timeout_seconds": 1},
 "loud": {"argv": ["/usr/bin/head", "-c", "1000000", "/dev/zero"]},
 "fds": {"argv": ["/bin/ls", "-l", "/proc/self/fd"]},
 "none": {"argv": ["/does/not/exist"]},
 "relative": {"argv": ["echo"]}}
EOT
# of this program alone
sed -i "s/0217/$$/g" "$commands"
chmod 644 "$commands"
run() { # run ARGUMENTS: sets id when the job is finished or waits to be tried again
	id=$(sql "SELECT id FROM job_enqueue('command.run', '$1', tenant => ${2:-NULL}, retry => '{\"max_attempts\": 2, \"delays_seconds\": [3600]}')")
	wait_for 30 "SELECT count(*) FROM tenancy.job WHERE id = '$id' AND (finished_at IS NOT NULL OR failures IS NOT NULL)" 1
}
job() { sql "SELECT $1 FROM tenancy.job WHERE id = '$id'"; }

run '{"command": "echo", "parameters": {"what": "$(id); `id` \"quoted\" '"''"'; rm -rf /"}}'
is "$(job "state, result->>'output'")" "succeeded|\$(id); \`id\` \"quoted\" '; rm -rf / x=\$(id); \`id\` \"quoted\" '; rm -rf /" "a parameter is one argument, or a part of one"
run '{"command": "echo", "parameters": {"what": 1.50}}'
is "$(job "result->>'output'")" "1.50 x=1.50" "numbers as they are written"
run '{"command": "echo", "parameters": {"what": "-e"}}'
like "$(job "state || error")" 'scheduled.*dash' "but no option"
run '{"command": "two", "parameters": {"first": "", "second": "-e"}}'
like "$(job "state || error")" 'scheduled.*dash' "nor behind one that is empty"
run '{"command": "two", "parameters": {"first": "a", "second": "-e"}}'
is "$(job "result->>'output'")" "a-e" "a dash within is none"
run '{"command": "option", "parameters": {"first": "n", "second": "b"}}'
is "$(job "result->>'output'")" "b" "an option that the file names is one"
run '{"command": "echo"}'
like "$(job error)" 'parameter "what".*missing' "none may be missing"
run '{"command": "echo", "parameters": {"what": {"a": 1}}}'
like "$(job error)" 'must be a text' "nor be a document"
run '{"command": "cat", "input": {"name": "Grüße", "list": [1, 2]}}'
is "$(job "result->>'output'")" '{"list": [1, 2], "name": "Grüße"}' "the input comes as JSON"
sql "SELECT count(tenant_create('acme', isolation => 'pool'))" >/dev/null
run '{"command": "env"}' "'acme'"
is "$(job "result->>'output'" | grep . | sort | sed "s/$id/ID/")" "COLOUR=blue
PATH=/usr/sbin:/usr/bin:/sbin:/bin
PORT=5432
QUIET=true
TENANCY_JOB=ID
TENANCY_TENANT=$(sql "SELECT id FROM tenancy.tenant")" "the environment is what the file says, the job and the tenant"
run '{"command": "list"}'
like "$(job error)" 'variable "COLOURS" of the command must be a text' "which takes no lists"
run '{"command": "status", "parameters": {"status": 1}}'
is "$(job "state, error, failures->0->'evidence'->>'errors'")" "discarded|the command ended with status 1|oops" "a status other than 0 is final"
run '{"command": "status", "parameters": {"status": 75}}'
is "$(job "state, failures->0->'evidence'->'status'")" "scheduled|75" "but 75, which is tried again"
run '{"command": "slow"}'
is "$(job "state, error")" "scheduled|the command took longer than 1 s" "a command that takes too long is stopped"
asleep() { pgrep -cf "^sleep 6[01].$$\$"; }
await_asleep() { local i; for ((i = 0; i < 300; i++)); do [ "$(asleep)" = "$1" ] && break; sleep 0.1; done; }
await_asleep 0
is "$(asleep)" 0 "with all that it started"
run '{"command": "loud"}'
is "$(job "state, result->>'capped', length(result->>'output') <= 4000")" "succeeded|true|t" "output is capped"
run '{"command": "fds"}'
is "$(job "result->>'output'" | grep -cE 'base/|socket|global')" 0 "nothing of the server is open to it"
run '{"command": "none"}'
is "$(job "state, error")" "discarded|the command ended with status 127" "a program that is not there"
run '{"command": "relative"}'
like "$(job error)" 'absolute path' "or not with its whole name"
run '{"command": "unknown"}'
like "$(job error)" 'command "unknown" does not exist' "a command that the file does not have"
like "$(sql "SELECT id FROM job_enqueue('command.run', '{\"command\": \"slow\"}', retry => '{\"max_attempts\": 1}')")" '^[0-9a-f-]{36}$' "one that is"
id=$(sql "SELECT id FROM tenancy.job WHERE kind = 'command.run' ORDER BY id DESC LIMIT 1")
sed -i 's/"timeout_seconds": 1}/"timeout_seconds": 60}/' "$commands"
wait_for 30 "SELECT count(*) FROM tenancy.job_pending WHERE id = '$id'" 0
run_slow=$(sql "SELECT id FROM job_enqueue('command.run', '{\"command\": \"slow\"}', retry => '{\"max_attempts\": 1}')")
await_asleep 2
sql "SELECT state FROM job_cancel('$run_slow')" >/dev/null
await_asleep 0
is "$(asleep)" 0 "cancelled is killed with all that it started"
like "$(PGUSER=postgres sql "BEGIN; SELECT tenant_context_set('acme'); SELECT job_enqueue('command.run', '{\"command\": \"echo\"}')")" 42501 "tenants run no commands"
sql "CREATE ROLE app LOGIN IN ROLE tenancy_app" >/dev/null
like "$(PGUSER=app sql "SELECT job_enqueue('command.run', '{\"command\": \"echo\"}')")" 42501 "nor do applications"
set_and_reload tenancy.command_file ""
run '{"command": "echo"}'
like "$(job error)" 'there are no commands' "without a file there are none"
done_testing
