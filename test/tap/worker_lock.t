#!/bin/bash
# Workers and locks of others: a flush waits for nobody long, and DROP EXTENSION and a worker wait for
# each other at the extension alone, where neither holds what the other wants.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s \
	--set deadlock_timeout=200ms --set tenancy.max_job_workers=1

exec {hold}> >(exec psql -XAtq -d app >/dev/null 2>&1)
hold() { echo "$1" >&"$hold"; } # hold SQL: in a session that stays
use() { sql "BEGIN; SELECT tenant_context_set('acme'); COMMIT" >/dev/null; }
# what runners do; asked in another database, or the question would be work for them
runners() { sql "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner' AND ($1)" postgres; }
await() { # await SECONDS COMMAND...: until it succeeds
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}
waits() { [ "$(runners "query = '$1' AND wait_event_type = 'Lock'")" = 1 ]; }
is_logged() { grep -q "$1" "$server_log"; }
is_gone() { [ "$(runners "pid = $1")" = 0 ]; }
holds() { [ "$(sql "SELECT count(*) > 0 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = 'tenancy.usage_hour'::regclass")" = t ]; }

holds_extension() { [ "$(sql "SELECT count(*) > 0 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND locktype = 'object' AND classid = 'pg_extension'::regclass" postgres)" = t ]; }

sql "SELECT slug FROM tenant_create('acme')" >/dev/null
wait_for 30 "SELECT count(DISTINCT kind) = (SELECT count(*) FROM tenancy.schedule) FROM tenancy.job_run WHERE state = 'succeeded'" t
ok $? "the schedule has run"
sql "SELECT count(schedule_set(kind, enabled => false)) FROM tenancy.schedule" >/dev/null

# somebody has the table of counters for himself
hold "BEGIN; LOCK TABLE tenancy.usage_hour IN ACCESS EXCLUSIVE MODE;"
await 60 holds
ok $? "a session has the table"
use
await 60 waits metering.flush
ok $? "a flush waits for it"
await 60 is_logged 'job "metering.flush" failed: canceling statement due to lock timeout'
ok $? "for two seconds"
holds
ok $? "while the session still has it"
use
# at once, as it waits for two seconds alone
terminate() {
	pid=$(sql "WITH w AS MATERIALIZED (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner' AND query = 'metering.flush' AND wait_event_type = 'Lock')
		SELECT pid FROM w WHERE pg_terminate_backend(pid)" postgres)
	[[ $pid =~ ^[0-9]+$ ]]
}
await 120 terminate
ok $? "it tries again"
await 60 is_gone "$pid"
ok $? "and leaves when it is told to, waiting or not"
holds
ok $? "while the session still has it"
calls=$(sql "SELECT calls FROM tenancy.tenant_stat WHERE slug = 'acme'")
hold "ROLLBACK;"
wait_for 30 "SELECT sum(calls) = $calls FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'acme'" t
ok $? "then all is flushed, once"

# a worker is in the middle of its work
hold "BEGIN; LOCK TABLE tenancy.storage_measurement IN ACCESS EXCLUSIVE MODE;"
sql "SELECT kind FROM schedule_set('storage.measure', enabled => true); UPDATE tenancy.schedule SET next_run_at = now() WHERE kind = 'storage.measure'" >/dev/null
use
await 60 waits storage.measure
ok $? "a worker waits in the middle of its work"
is "$(sql "SELECT string_agg(l.mode, ' ') FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.query = 'storage.measure' AND l.locktype = 'object' AND l.classid = 'pg_extension'::regclass AND l.granted")" AccessShareLock "with the extension in its hand"
psql -XAtq -d app -c "SET application_name = 'drop'" -c "DROP EXTENSION pg_tenancy CASCADE" > "$PGHOST/drop" 2>&1 &
drop=$!
dropping="SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'drop'"
wait_for 30 "$dropping AND NOT l.granted AND l.locktype = 'object' AND l.classid = 'pg_extension'::regclass" 1
ok $? "DROP EXTENSION waits for the worker at the extension"
is "$(sql "$dropping AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'")" 0 "and has no table that the worker may want"
hold "ROLLBACK;"
wait $drop
is "$(grep -c ERROR "$PGHOST/drop")" 0 "then it drops"
is "$(sql "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'")" 0 "all"
is "$(grep -c 'deadlock detected' "$server_log")" 0 "without a deadlock"

# somebody drops it, and does not say yet whether he means it
sql "CREATE EXTENSION pg_tenancy; SELECT slug FROM tenant_create('acme')" >/dev/null
wait_for 30 "SELECT count(DISTINCT kind) = (SELECT count(*) FROM tenancy.schedule) FROM tenancy.job_run WHERE state = 'succeeded'" t
sql "SELECT count(schedule_set(kind, enabled => false)) FROM tenancy.schedule" >/dev/null
await 60 eval '[ "$(runners true)" = 0 ]'
ok $? "no worker is left"
timeouts=$(grep -c 'ERROR:  canceling statement due to lock timeout' "$server_log")
use
hold "BEGIN; DROP EXTENSION pg_tenancy CASCADE;"
await 60 holds_extension
ok $? "a DROP EXTENSION that has not committed"
gives_up() { [ "$(grep -c 'ERROR:  canceling statement due to lock timeout' "$server_log")" -gt "$timeouts" ]; }
await 60 gives_up
ok $? "a worker comes, and does not wait for it"
holds_extension
ok $? "while it goes on"
hold "ROLLBACK;"
wait_for 30 "SELECT sum(calls) > 0 FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'acme'" t
ok $? "taken back, it has done no harm"

# a worker that could not hold the extension, and can afterwards: the first job waits for that
sql "CREATE TABLE public.seen (at serial, lock_timeout text, pid integer);
	CREATE FUNCTION public.see(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN
		INSERT INTO public.seen (lock_timeout, pid) VALUES (current_setting('lock_timeout'), pg_backend_pid());
		WHILE EXISTS (SELECT FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND locktype = 'object' AND classid = 'pg_extension'::regclass) LOOP PERFORM pg_sleep(0.01); END LOOP;
		RETURN NULL; END \$\$;
	CREATE FUNCTION public.other() RETURNS integer LANGUAGE sql AS 'SELECT 1';
	CREATE ROLE seer; ALTER TABLE public.seen OWNER TO seer; ALTER FUNCTION public.see(jsonb) OWNER TO seer;
	SELECT name FROM job_kind_define('see', procedure => 'public.see(jsonb)')" >/dev/null
hold "BEGIN; ALTER FUNCTION public.other() DEPENDS ON EXTENSION pg_tenancy;"
await 60 holds_extension
ok $? "somebody has locked the extension"
sql "SELECT (job_enqueue('see', depends_on => ARRAY[first.id])).state FROM (SELECT id FROM job_enqueue('see')) first" >/dev/null
at_work="SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_tenancy%' AND wait_event = 'PgSleep'"
wait_for 60 "$at_work" 1
ok $? "a job is done meanwhile"
hold "ROLLBACK;"
wait_for 60 "SELECT string_agg(lock_timeout, ' ' ORDER BY at), count(DISTINCT pid) FROM public.seen" "500ms 0|1"
ok $? "which waits for no lock long, and the next of the same worker as long as it must"
use
hold "BEGIN; DROP EXTENSION pg_tenancy CASCADE; COMMIT;"
await 60 eval '[ "$(sql "SELECT count(*) FROM pg_extension WHERE extname = '"'pg_tenancy'"'")" = 0 ]'
ok $? "when it commits it is gone"
await 60 eval '[ "$(runners true)" = 0 ]'
ok $? "and so are the workers"
is "$(grep -cE 'deadlock detected|PANIC|terminated by signal' "$server_log")" 0 "without a deadlock or a crash"
done_testing
