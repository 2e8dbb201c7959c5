#!/bin/bash
# Without workers: timeouts of jobs, clients that are gone, times that are out of bounds, what stays.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
sql "CREATE ROLE late; CREATE SCHEMA late AUTHORIZATION late; SET ROLE late; CREATE TABLE late.trace (id integer);
	CREATE FUNCTION late.work(job jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO late.trace VALUES (1); PERFORM pg_sleep((job->>'seconds')::float); RETURN '{}'; END \$\$" >/dev/null
sql "SELECT count(*) FROM job_run_due(); SELECT count(job_kind_define('late.work', 'late.work(jsonb)', '{\"max_attempts\": 1}', '3 seconds'))" >/dev/null

# a job has its timeout
sql "SELECT count(job_enqueue('late.work', jsonb_build_object('seconds', s))) FROM unnest(ARRAY[30, 0]) s" >/dev/null
is "$(sql "SELECT state, error FROM job_run_due() WHERE kind = 'late.work'; SELECT count(*), pg_sleep(3.2) FROM late.trace")" "failed|it was cancelled after its timeout of 3 s
succeeded|
1|" "a job that takes too long is cancelled and undone, the next is done, and its timeout is its own"
is "$(sql "SELECT state, failures->0->>'sqlstate' FROM tenancy.job WHERE kind = 'late.work' ORDER BY 1")" "discarded|57014
succeeded|" "as it is recorded"
id=$(sql "SELECT id FROM job_enqueue('late.work', '{\"seconds\": 30}', timeout => '20 seconds')")
like "$(PGOPTIONS="-c statement_timeout=1500" sql "SELECT count(*) FROM job_run_due()")" '57014.*statement timeout' "the timeout of the statement ends the statement"
is "$(sql "SELECT state, attempt FROM tenancy.job WHERE id = '$id'")" "ready|0" "and the job waits as before"
sql "SELECT count(job_cancel('$id'))" >/dev/null

# both run out, and the job goes on for a moment after the first
sql "SET ROLE late; CREATE FUNCTION late.stubborn(job jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(60); RETURN '{}'; END \$\$" >/dev/null
sql "SELECT count(job_kind_define('late.stubborn', 'late.stubborn(jsonb)', '{\"max_attempts\": 1}', '4 seconds'))" >/dev/null
id=$(sql "SELECT id FROM job_enqueue('late.stubborn')")
like "$(PGOPTIONS="-c statement_timeout=1500" sql "SELECT count(*) FROM job_run_due()")" '^ERROR:  57014' "the timeout of the statement is not taken for the job's own that follows it"
is "$(sql "SELECT state, attempt FROM tenancy.job WHERE id = '$id'")" "ready|0" "and the job waits as before"
sql "SELECT count(job_cancel('$id'))" >/dev/null

# a client that is gone: nobody of its kind comes to look
id=$(sql "SELECT name FROM job_kind_define('late.mail', retry => '{\"delays_seconds\": [60, 60, 60]}')" >/dev/null; sql "SELECT id FROM job_enqueue('late.mail')")
fence=$(sql "SELECT fence FROM job_claim('late.mail', lease => '1 second')")
sleep 1.2
sql "SELECT count(*) FROM job_run_due()" >/dev/null
is "$(sql "SELECT state, attempt, error FROM tenancy.job WHERE id = '$id'")" "scheduled|1|the worker is gone, or has not been heard of in time" "its job is rescued nevertheless"
like "$(sql "SELECT job_complete('$id', $fence)")" 55000 "and the client refused"
sql "UPDATE tenancy.job_pending SET run_at = now() WHERE id = '$id'" >/dev/null
like "$(sql "LISTEN tenancy_job; SELECT count(*) FROM job_run_due(); SELECT state FROM tenancy.job WHERE id = '$id'")" 'ready.*notification "tenancy_job" with payload "late.mail"' "when it is ready again, clients are told"

# nobody waits for jobs that others have locked
in_background() { # in_background SQL: until it sleeps; stop_background ends and undoes it
	PGAPPNAME=background psql -XAtqc "$1" app >/dev/null 2>&1 &
	wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'background' AND wait_event = 'PgSleep'" 1
}
stop_background() { sql "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE application_name = 'background'" >/dev/null; wait; }
fence=$(sql "SELECT fence FROM job_claim('late.mail', lease => '1 second')")
slow=$(sql "SELECT id FROM job_enqueue('late.work', '{\"seconds\": 60}', timeout => '2 minutes')")
sleep 1.2
in_background "SELECT count(*) FROM job_run_due()"
ok $? "a job is at work"
is "$(sql "SELECT fence FROM tenancy.job_pending WHERE id = '$id' FOR UPDATE NOWAIT")" "$fence" "that of a client which is over is locked by nobody until it is done"
stop_background
sql "SELECT count(job_cancel('$slow'))" >/dev/null
in_background "SELECT pg_sleep(60) FROM (SELECT FROM tenancy.job_pending WHERE id = '$id' FOR UPDATE) j"
ok $? "a job is locked"
sleep 1.2
is "$(PGOPTIONS="-c statement_timeout=20s" sql "SELECT count(*) FROM job_claim('late.mail')")" 0 "who claims does not wait for it"
stop_background
sleep 1.2
sql "SELECT count(*) FROM job_claim('late.mail')" >/dev/null
is "$(sql "SELECT state, attempt FROM tenancy.job WHERE id = '$id'")" "scheduled|2" "and rescues it later"
sql "UPDATE tenancy.job_pending SET run_at = now() WHERE id = '$id'" >/dev/null

# times out of bounds
fence=$(sql "SELECT fence FROM job_claim('late.mail')")
for span in '-1 second' '31 days' '178000000 years' '-178000000 years'; do
	like "$(sql "SELECT job_fail('$id', $fence, 'no', retry_after => '$span')")" 22023 "no time to try again after: $span"
done
like "$(sql "SELECT job_heartbeat('$id', $fence, '178000000 years')")" 22023 "nor a lease"
like "$(sql "SELECT job_enqueue('late.mail', timeout => '178000000 years')")" 22023 "nor a timeout"
is "$(sql "SELECT run_at > now() + interval '29 days' FROM job_fail('$id', $fence, 'no', retry_after => '30 days')")" t "thirty days are"
done_testing
