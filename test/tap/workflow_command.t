#!/bin/bash
# Steps that commands do: done and checked, tried again, undone in order, left to a human.
. "$(dirname "$0")/lib.sh"
outside=$(mktemp -d)
chmod 777 "$outside"
trap 'rm -rf "$outside"' EXIT
cluster_start --set tenancy.runner_idle_timeout=1s --set "tenancy.command_file=$outside/commands" --set max_worker_processes=16
trap 'cluster_stop; rm -rf "$outside"' EXIT

# Each command writes down what it does and makes or removes a file; what is in NAME.ACTION is its status.
cat > "$outside/act" <<'EOT'
#!/bin/sh
cd "$(dirname "$0")" || exit 1
input=$(cat)
echo "$1 $2" >> log
[ ! -e "$1.$2.slow" ] || { touch "$1.$2.begun"; while [ -e "$1.$2.slow" ]; do sleep 0.1; done; }
case $2 in
	do) echo "$input" > "$1.made" ;;
	undo) rm -f "$1.made" ;;
esac
status=$(cat "$1.$2" 2>/dev/null)
[ "${status:-0}" = 0 ] || echo "$1 cannot $2" >&2
echo "{\"name\": \"$1\", \"job\": \"$TENANCY_JOB\"}"
exit ${status:-0}
EOT
chmod 755 "$outside/act"
: > "$outside/log"; chmod 666 "$outside/log"
for name in a b c; do
	echo "\"$name\": {\"argv\": [\"$outside/act\", \"$name\", \"\${action}\"]}"
done | paste -sd, | sed 's/.*/{&, "plain": {"argv": ["\/bin\/echo", "no json"]}}/' > "$outside/commands"
chmod 644 "$outside/commands"

define() { sql "SELECT version FROM workflow_define('$1', '{\"steps\": [$2]}')"; }
retry='"retry": {"max_attempts": 3, "delays_seconds": [0.1]}'
step() { echo "{\"id\": \"$1\", \"type\": \"system\", $retry, \"command\": {\"name\": \"$1\", \"do\": \"do\", \"check\": \"check\", \"undo\": \"undo\"}${2:+, $2}}"; }
begin() { : > "$outside/log"; id=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"s$1\"}', '${2:-three}')"); }
ends() { wait_for 30 "SELECT state FROM tenancy.workflow WHERE id = '$id'" "$1"; sql "SELECT state FROM tenancy.workflow WHERE id = '$id'"; }
steps() { sql "SELECT string_agg(step || '=' || state, ' ' ORDER BY position) FROM tenancy.workflow_step WHERE workflow_id = '$id'"; }
log() { paste -sd, "$outside/log"; }
made() { (cd "$outside" && ls ./*.made 2>/dev/null | paste -sd,); }

like "$(define x '{"id": "a", "type": "system"}')" '22023.*neither a processor nor a command' "a step without work"
like "$(define x '{"id": "a", "type": "user", "command": {"name": "a"}}')" '22023.*a user' "users' steps have no commands"
like "$(define x '{"id": "a", "type": "system", "command": {"do": "do"}}')" '22023.*command.*name' "a command needs its name"
like "$(sql "SELECT workflow_define('x', '{\"purpose\": \"fun\", \"steps\": [$(step a)]}')")" '22023.*purpose' "an unknown purpose"

sql "CREATE ROLE doer NOLOGIN; CREATE SCHEMA work AUTHORIZATION doer;
	CREATE TABLE work.note (n int); ALTER TABLE work.note OWNER TO doer;
	CREATE FUNCTION work.input(j jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ SELECT jsonb_build_object('for', j->'request'->'slug') \$\$;
	CREATE FUNCTION work.note(j jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ INSERT INTO work.note VALUES (1) RETURNING '{}'::jsonb \$\$;
	CREATE FUNCTION work.unnote(j jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ DELETE FROM work.note; SELECT '{}'::jsonb \$\$;
	ALTER FUNCTION work.input OWNER TO doer; ALTER FUNCTION work.note OWNER TO doer; ALTER FUNCTION work.unnote OWNER TO doer" >/dev/null
define three "$(step a '"processor": "work.input(jsonb)"'), {\"id\": \"note\", \"type\": \"system\", \"depends_on\": [\"a\"], \"processor\": \"work.note(jsonb)\", \"compensation\": \"work.unnote(jsonb)\"},
	$(step b '"depends_on": ["note"]'), $(step c '"depends_on": ["b"]')" >/dev/null

# all goes well
begin 1
is "$(ends completed)" completed "commands do their steps"
is "$(log)" "a do,a check,b do,b check,c do,c check" "in order, each checked"
is "$(cat "$outside/a.made")" '{"for": "s1"}' "the processor makes the input"
is "$(sql "SELECT input->'request'->>'slug' FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'b'")" s1 "without one it is the request"
is "$(sql "SELECT result->'do'->>'name', result->'check'->>'name', (result->'do'->>'job')::uuid = job_id FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'b'")" "b|b|t" "the evidence is kept; the job is the idempotency key"
like "$(sql "SELECT onboarding_recover('$id', 'rollback')")" 55000 "what is complete is not rolled back"
define plain '{"id": "p", "type": "system", "command": {"name": "plain"}}' >/dev/null
begin 1 plain
is "$(ends completed)" completed "one that says no JSON"
is "$(sql "SELECT result FROM tenancy.workflow_step WHERE workflow_id = '$id'")" '{"do": "no json\n"}' "is kept as it says it"

# tried again, and failed
often='"retry": {"max_attempts": 50, "delays_seconds": [0.3]}'
define often "$(retry=$often step a '"processor": "work.input(jsonb)"'), $(retry=$often step b '"depends_on": ["a"]'), $(retry=$often step c '"depends_on": ["b"]')" >/dev/null
echo 75 > "$outside/b.check"
begin 2 often
wait_for 30 "SELECT attempt >= 2 FROM tenancy.job_pending WHERE kind = 'workflow.command'" t
rm "$outside/b.check"
is "$(ends completed)" completed "status 75 is tried again"
like "$(log)" '^a do,a check,b do,b check,b do,b check.*,c do,c check$' "doing and checking both"
echo 75 > "$outside/b.check"
begin 3
is "$(ends failed)" failed "until the policy says that it is enough"
is "$(log)" "a do,a check,b do,b check,b do,b check,b do,b check" "three times"
is "$(sql "SELECT error FROM tenancy.workflow WHERE id = '$id'")" "the command ended with status 75: b cannot check" "and says why"
rm "$outside/b.check"
sql "SELECT onboarding_recover('$id')" >/dev/null
is "$(ends completed)" completed "it is retried"
echo 1 > "$outside/b.do"
begin 4
is "$(ends failed)" failed "another status is final"
is "$(log)" "a do,a check,b do" "at once"

# rolled back
: > "$outside/log"
is "$(made), $(sql "SELECT count(*) > 0 FROM work.note")" "./a.made,./b.made,./c.made, t" "there is something to undo"
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensating "commands are undone by jobs"
like "$(sql "SELECT onboarding_complete('$id')")" 55000 "meanwhile it is not complete"
is "$(ends compensated)" compensated "until all is undone"
is "$(log)" "b undo,a undo" "the last first; what has failed may have been done in part"
is "$(made), $(sql "SELECT count(*) FROM work.note")" "./c.made, 0" "what was done in the database between them, too"
is "$(steps)" "a=compensated note=compensated b=compensated c=pending" "step by step"
like "$(sql "SELECT onboarding_recover('$id', 'rollback')")" 55000 "once"

# what cannot be undone
echo 1 > "$outside/a.undo"
begin 5
is "$(ends failed)" failed "it fails again"
sql "SELECT onboarding_recover('$id', 'rollback')" >/dev/null
is "$(ends compensation_failed)" compensation_failed "and cannot be undone"
is "$(steps)" "a=compensating note=compensated b=compensated c=pending" "from a step on"
is "$(sql "SELECT error FROM tenancy.workflow WHERE id = '$id'")" "the command ended with status 1: a cannot undo" "it says why"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.onboarding.undo_failed'")" 1 "as an event, too"
sql "SELECT onboarding_recover('$id', 'rollback')" >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.onboarding.undo_failed'" 2
is "$(ends compensation_failed)" compensation_failed "once more in vain"
rm "$outside/a.undo"
sql "SELECT onboarding_recover('$id', 'rollback')" >/dev/null
is "$(ends compensated)" compensated "mended, it goes on"
echo 1 > "$outside/a.undo"
begin 6; ends failed >/dev/null; sql "SELECT onboarding_recover('$id', 'rollback')" >/dev/null; ends compensation_failed >/dev/null
is "$(sql "SELECT state FROM onboarding_recover('$id', 'skip')")" compensated "or a human has undone it"
rm -f "$outside/a.undo" "$outside/b.do"

# rolled back while a command is at work
touch "$outside/b.do.slow"; rm -f "$outside/b.do.begun"
begin 7
for ((i = 0; i < 600; i++)); do [ -e "$outside/b.do.begun" ] && break; sleep 0.1; done
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensating "it is given up while a command is at work"
is "$(steps)" "a=completed note=completed b=running c=pending" "which is waited for"
rm "$outside/b.do.slow"
is "$(ends compensated)" compensated "and then undone"
is "$(log)" "a do,a check,b do,b check,b undo,a undo" "in order"

# the worker is killed at work
touch "$outside/b.do.slow"; rm -f "$outside/b.do.begun"
begin 8
for ((i = 0; i < 600; i++)); do [ -e "$outside/b.do.begun" ] && break; sleep 0.1; done
crash "$(sql "SELECT worker_pid FROM tenancy.job_pending WHERE kind = 'workflow.command'")"
rm "$outside/b.do.slow"
is "$(ends completed)" completed "the server is killed while a command is at work"
like "$(log)" '^a do,a check,b do,b do,b check,c do,c check$' "what had begun is done again, once"

# a command that is not there
define lost '{"id": "p", "type": "system", "retryable": false, "command": {"name": "lost"}}' >/dev/null
begin 9 lost
is "$(ends failed)" failed "a command that the file does not have"
is "$(sql "SELECT error FROM tenancy.workflow WHERE id = '$id'")" 'command "lost" does not exist' "it says so"
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensated "nothing was done, nothing is undone"
done_testing
