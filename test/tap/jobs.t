#!/bin/bash
# Jobs that fail, hang, are cut off or lose their lease, and databases that cannot be served.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s \
	--set max_worker_processes=16

use() { # use TENANT [DATABASE]: some work of the tenant
	psql -XAtq -d "${2:-app}" -c "BEGIN; SELECT tenant_context_set('$1'); CREATE TEMP TABLE x AS SELECT 1; ROLLBACK" >/dev/null 2>&1
}
job=job.retention
due() { # what is due now, and the launcher told
	sql "UPDATE tenancy.schedule SET next_run_at = now(), failures = 0, last_error = NULL, lease_until = NULL WHERE kind = '$job'; SELECT kind FROM schedule_set('$job', enabled => true)" >/dev/null
}
schedule() { sql "SELECT $1 FROM tenancy.schedule WHERE kind = '$job'"; }
last_run="FROM tenancy.job_run WHERE kind = '$job' ORDER BY started_at DESC LIMIT 1"
sabotage() { # sabotage BODY: what deleting from the history does
	sql "CREATE OR REPLACE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $1; RETURN OLD; END \$\$; GRANT EXECUTE ON FUNCTION public.sabotage() TO tenancy_owner" >/dev/null
}
flushed() { sql "SELECT coalesce(sum(utilities), 0) FROM tenancy.usage_hour" "${1:-app}"; }
is_at_work="SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner' AND wait_event = 'PgSleep'"
runner() { sql "SELECT $1(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner' AND wait_event = 'PgSleep'" postgres; }

wait_for 30 "SELECT count(*) FROM tenancy.job_run WHERE state = 'succeeded'" 3
sql "INSERT INTO tenancy.job_run (id, kind, state, started_at) VALUES (tenancy.id_new(), 'ancient', 'failed', '2020-01-01')" >/dev/null

# a failure
sabotage "RAISE 'disk on fire' USING ERRCODE = '58030'"
sql "CREATE TRIGGER sabotage BEFORE DELETE ON tenancy.job_run FOR EACH ROW EXECUTE FUNCTION public.sabotage()" >/dev/null
due
wait_for 30 "SELECT last_error FROM tenancy.schedule WHERE kind = '$job'" "disk on fire"
ok $? "a failure is shown"
sleep 2
is "$(schedule "failures, next_run_at BETWEEN last_finished_at + interval '20 seconds' AND last_finished_at + interval '40 seconds'")" "1|t" "and not tried again at once"
is "$(sql "SELECT state, sqlstate, result IS NULL $last_run")" "failed|58030|t" "the history has its SQLSTATE"
like "$(grep -c 'job "job.retention" failed: disk on fire' "$server_log")" '^1$' "the log has one line"

# a cancelled job has failed; so has one that takes too long, which is cancelled likewise
sabotage "PERFORM pg_sleep(60)"
due
wait_for 30 "$is_at_work" 1
is "$(sql "SELECT count(*) FROM job_run_due() WHERE kind = '$job'")" 0 "who else runs jobs leaves alone what runs"
is "$(runner pg_cancel_backend)" t "a job is cancelled"
wait_for 30 "SELECT state, sqlstate $last_run" "failed|57014"
ok $? "and has failed"

# a runner that is told to stop, or is killed
due
wait_for 30 "$is_at_work" 1
is "$(runner pg_terminate_backend)" t "a runner is terminated"
use none
wait_for 30 "SELECT failures, lease_until IS NULL AND next_run_at > now() FROM tenancy.schedule WHERE kind = '$job'" "1|t"
ok $? "its job is not left claimed"
is "$(sql "SELECT state, sqlstate $last_run")" "failed|57P02" "the run was cut off"
due
wait_for 30 "$is_at_work" 1
crash "$(runner max)"
wait_for 30 "SELECT failures, lease_until IS NULL AND next_run_at > now() FROM tenancy.schedule WHERE kind = '$job'" "1|t"
ok $? "a job that crashes the server is not tried again at once"
is "$(sql "SELECT count(*) FROM tenancy.job_run WHERE state = 'running'")" 0 "no run stays running"

# a statement that needs the database to itself stops the job
due
wait_for 30 "$is_at_work" 1
started=$SECONDS
like "$(sql "CREATE DATABASE copy TEMPLATE app" postgres)" '^$' "CREATE DATABASE … TEMPLATE in the middle of a job"
ok $((SECONDS - started >= 30)) "does not wait for its minute"
wait_for 30 "SELECT count(*) FROM tenancy.schedule WHERE lease_until IS NOT NULL" 0

# a lease that was lost
sabotage "WHILE EXISTS (SELECT FROM tenancy.schedule WHERE kind = '$job' AND lease_until IS NOT NULL) LOOP PERFORM pg_sleep(0.1); END LOOP"
due
wait_for 30 "$is_at_work" 1
sql "UPDATE tenancy.schedule SET fence = fence + 1, lease_until = NULL, next_run_at = now() + interval '1 day' WHERE kind = '$job'" >/dev/null
for ((i = 0; i < 300; i++)); do grep -q 'took longer than its lease' "$server_log" && break; sleep 0.1; done
grep -q 'took longer than its lease' "$server_log"
ok $? "a lease is lost"
is "$(sql "SELECT count(*) FROM tenancy.job_run WHERE kind = 'ancient'")" 1 "and the work under it undone"
sql "DROP TRIGGER sabotage ON tenancy.job_run" >/dev/null
due
wait_for 30 "SELECT state, result $last_run" 'succeeded|{"jobs": 0, "runs": 1, "events": 0}'
ok $? "then it succeeds, and says what it did"

# a flush that fails
sql "SELECT slug FROM tenant_create('acme')" >/dev/null
sabotage "RAISE 'no room' USING ERRCODE = '53100'"
sql "CREATE TRIGGER sabotage BEFORE INSERT ON tenancy.usage_hour EXECUTE FUNCTION public.sabotage()" >/dev/null
use acme
wait_for 30 "SELECT count(*) > 0 FROM tenancy.job_run WHERE kind = 'metering.flush' AND sqlstate = '53100'" t
ok $? "a flush that fails is recorded"
before=$(sql "SELECT count(*) FROM tenancy.job_run WHERE kind = 'metering.flush'")
started=$SECONDS
for ((i = 0; i < 30; i++)); do use acme; sleep 0.1; done
tried=$(($(sql "SELECT count(*) FROM tenancy.job_run WHERE kind = 'metering.flush'") - before))
# each pause is twice the one before: once more in twice the time
for ((most = 3, time = 4; time < SECONDS - started; time *= 2)); do most=$((most + 1)); done
ok $((tried > most)) "and tried again later and later"
like "$(sql "SELECT failures >= 1, retry_at IS NOT NULL FROM tenancy.worker WHERE database = 'app'")" '^t.t$' "tenancy.worker shows it"
before=$(flushed)
sql "DROP TRIGGER sabotage ON tenancy.usage_hour" >/dev/null
wait_for 120 "SELECT coalesce(sum(utilities), 0) >= $before + 31 FROM tenancy.usage_hour" t
ok $? "nothing is lost by it"
wait_for 30 "SELECT failures, retry_at IS NULL FROM tenancy.worker WHERE database = 'app'" "0|t"
ok $? "and a success clears it"

# more databases than runners
for name in one two three; do
	sql "CREATE DATABASE $name" postgres >/dev/null
	sql "CREATE EXTENSION pg_tenancy; SELECT slug FROM tenant_create('acme')" $name >/dev/null
done
sql "ALTER SYSTEM SET tenancy.max_runners = 1" postgres >/dev/null
set_and_reload tenancy.runner_idle_timeout 1h
for name in one two three; do
	use acme $name
	for ((i = 0; i < 200; i++)); do
		for busy in one two three; do use acme $busy; done
		[ "$(flushed $name)" -gt 0 ] && break
	done
	ok $((i == 200)) "database $name has its turn"
done
sql "ALTER SYSTEM RESET tenancy.max_runners" postgres >/dev/null
sql "ALTER SYSTEM RESET tenancy.runner_idle_timeout" postgres >/dev/null
reload

# a database that takes no connections
begin_in() { # begin_in DATABASE: a session that has done nothing yet
	coproc SESSION { exec psql -XAtq "$1"; }
	pid=$SESSION_PID
	wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE datname = '$1' AND backend_type = 'client backend'" 1
}
use_it() { # it does what is work for a runner
	local line=
	echo "BEGIN; SELECT tenant_context_set('acme'); CREATE TEMP TABLE x AS SELECT 1; ROLLBACK; SELECT 'done';" >&"${SESSION[1]}"
	until [ "$line" = done ]; do read -r line <&"${SESSION[0]}" || return; done
}
end_it() {
	echo '\q' >&"${SESSION[1]}"
	wait "$pid"
}
begin_in one
sql "ALTER DATABASE one ALLOW_CONNECTIONS false" postgres >/dev/null
refused() { grep -c 'not currently accepting connections' "$server_log"; }
# a runner that was on its way has come
sleep 2
before=$(refused)
use_it
sleep 2
is "$(refused)" "$before" "a closed database is left alone"
end_it
sql "ALTER DATABASE one ALLOW_CONNECTIONS true" postgres >/dev/null
before=$(flushed one)
use acme one
wait_for 30 "SELECT coalesce(sum(utilities), 0) > $before FROM tenancy.usage_hour" t one
ok $? "and served when it is open again"

# one that cannot be connected to
base=$PGHOST/data/base/$(sql "SELECT oid FROM pg_database WHERE datname = 'two'" postgres)
begin_in two
mv "$base/PG_VERSION" "$base/hidden"
started=$SECONDS
# one that was there has left after a second
for ((i = 0; i < 20; i++)); do
	use_it
	sleep 3
	[ "$(sql "SELECT failures > 0 FROM tenancy.worker WHERE database = 'two'")" != t ] || break
done
end_it
is "$(sql "SELECT failures > 0 FROM tenancy.worker WHERE database = 'two'")" t "a runner that cannot connect has failed"
sleep 3
for ((most = 4, time = 16; time < SECONDS - started; time *= 2)); do most=$((most + 1)); done
ok $(($(sql "SELECT failures FROM tenancy.worker WHERE database = 'two'") > most)) "and comes later and later"
wait_for 30 "SELECT pid IS NULL FROM tenancy.worker WHERE database = 'two'" t
ok $? "and is not thought to be there"
mv "$base/hidden" "$base/PG_VERSION"
wait_for 120 "SELECT failures FROM tenancy.worker WHERE database = 'two'" 0
ok $? "until it can"

# a directory that is full
sql "ALTER SYSTEM SET tenancy.max_databases = 1" postgres >/dev/null
cluster_restart
wait_for 30 "SELECT used, capacity, refused > 0 FROM tenancy.directory_read()" "1|1|t"
ok $? "databases that have no room are counted"
done_testing
