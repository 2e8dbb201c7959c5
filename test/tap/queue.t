#!/bin/bash
# test/run: long
# Queued jobs done by background workers: functions as their owners in the tenant's context,
# wakes, fairness, and jobs that happen once whatever is killed.
#
#   test/tap/queue.t [JOBS]   # so many jobs under kill -9, and before another's; 1,500 and 5,000 by default
. "$(dirname "$0")/lib.sh"
jobs=${1:-1500} crowd=${1:-5000}
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s \
	--set max_worker_processes=24 --set tenancy.max_job_workers=4 --set restart_after_crash=on --set track_commit_timestamp=on

sql "CREATE ROLE worker_role NOLOGIN; CREATE ROLE app LOGIN IN ROLE tenancy_app; CREATE SCHEMA work AUTHORIZATION worker_role;
	SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['a', 'b', 'c']) s; SELECT slug FROM tenant_create('owning', owns_ddl => true)" >/dev/null
sql "SET ROLE worker_role;
	CREATE TABLE work.done (n bigint, tenant uuid, who text, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION work.note(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN
		INSERT INTO work.done (n, tenant, who) VALUES ((j->>'n')::bigint, public.current_tenant_id(), current_user);
		RETURN jsonb_build_object('path', current_setting('search_path')); END \$\$;
	CREATE FUNCTION work.slow(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN
		PERFORM pg_sleep((j->>'s')::float); RETURN work.note(j); END \$\$;
	CREATE FUNCTION work.meet(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(2);
		FOR i IN 1..600 LOOP
			IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2) = 2 OR EXISTS (SELECT FROM work.done WHERE n = -2) THEN
				INSERT INTO work.done (n) VALUES (-2); RETURN '{\"met\": true}';
			END IF;
			PERFORM pg_sleep(0.1);
		END LOOP; RETURN '{\"met\": false}'; END \$\$;
	CREATE FUNCTION work.bad(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN
		INSERT INTO work.done (n) VALUES (-1); RAISE 'out of paper' USING ERRCODE = '58000'; END \$\$;
	CREATE FUNCTION work.temp(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN CREATE TEMP TABLE t (a int); RETURN j; END \$\$;
	CREATE FUNCTION work.wrong(j jsonb, k jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT j';" >/dev/null
sql "GRANT USAGE ON SCHEMA work TO tenancy_tenant; GRANT INSERT ON work.done TO tenancy_tenant" >/dev/null
define() { sql "SELECT name FROM job_kind_define('$1', 'work.$1(jsonb)'${2:+, $2})"; }
for kind in note slow bad temp meet; do define $kind >/dev/null; done
is "$(sql "SELECT executor FROM tenancy.job_kind WHERE name = 'note'")" function "a function does the work"
like "$(sql "SELECT name FROM job_kind_define('wrong', 'work.wrong(jsonb, jsonb)')")" 42809 "of one signature"
sql "CREATE FUNCTION public.root(j jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT j'" >/dev/null
like "$(sql "SELECT name FROM job_kind_define('root', 'public.root(jsonb)')")" 42501 "and no superuser's"
sql "CREATE ROLE manager LOGIN IN ROLE tenancy_admin; GRANT USAGE ON SCHEMA work TO manager" >/dev/null
like "$(PGUSER=manager sql "SELECT name FROM job_kind_define('other', 'work.note(jsonb)')")" "must be owner" "nor one of somebody else"

# wakes: an idle database, and one with an idle worker
finished() { wait_for 120 "SELECT count(*) FROM tenancy.job_pending" 0; }
sql "SELECT kind FROM job_enqueue('note', '{\"n\": 1}', 'a')" >/dev/null
finished
ok $? "a worker comes and does it"
is "$(sql "SELECT n, tenant = 'a'::regtenant, who FROM work.done")" "1|t|worker_role" "as its owner, in the tenant's context"
is "$(sql "SELECT state, result->>'path' FROM tenancy.job")" "succeeded|pg_catalog, public, pg_temp" "and leaves its result"
sql "SELECT kind FROM job_enqueue('note', '{\"n\": 2}')" >/dev/null
finished
# who is not woken sleeps for a minute
is "$(sql "SELECT count(*) FROM tenancy.job_done WHERE finished_at - enqueued_at < '30 s'")" 2 "at once"
sql "SELECT kind FROM job_enqueue('note', '{\"n\": 3}', run_at => clock_timestamp() + interval '1500 ms')" >/dev/null
finished
is "$(sql "SELECT finished_at - run_at BETWEEN '0' AND '30 s' FROM tenancy.job_done ORDER BY finished_at DESC LIMIT 1")" t "a scheduled one at its time"

# the context is the tenant's, and restricted
sql "SELECT name FROM job_kind_define('mine', 'work.note(jsonb)', run_as => 'tenant')" >/dev/null
sql "SELECT kind FROM job_enqueue('mine', '{\"n\": 4}', 'owning'); SELECT kind FROM job_enqueue('note', '{\"n\": 5}', 'owning'); SELECT kind FROM job_enqueue('mine', '{\"n\": 6}', retry => '{\"max_attempts\": 1}')" >/dev/null
finished
is "$(sql "SELECT who = (SELECT role_name FROM tenancy.tenant WHERE slug = 'owning') FROM work.done WHERE n = 4")" t "a kind can run as the tenant"
like "$(sql "SELECT d.result->>'path' FROM tenancy.job_done d WHERE kind = 'mine' AND d.outcome = 'succeeded'")" "^t_" "then with its schemas in the path"
is "$(sql "SELECT d.result->>'path' FROM tenancy.job_done d JOIN tenancy.tenant t ON t.id = d.tenant_id WHERE kind = 'note' AND t.slug = 'owning'")" "pg_catalog, public, pg_temp" "else not, where the tenant can create in them"
like "$(sql "SELECT error FROM tenancy.job WHERE kind = 'mine' AND state = 'discarded'")" "has none" "but not without one"
sql "SELECT kind FROM job_enqueue('temp', retry => '{\"max_attempts\": 1}')" >/dev/null
finished
like "$(sql "SELECT error FROM tenancy.job WHERE kind = 'temp'")" "security-restricted operation" "a restricted operation"
sql "ALTER FUNCTION work.note(jsonb) OWNER TO postgres" >/dev/null
sql "SELECT kind FROM job_enqueue('note', '{\"n\": 7}', retry => '{\"max_attempts\": 1}')" >/dev/null
finished
like "$(sql "SELECT error FROM tenancy.job WHERE kind = 'note' AND state = 'discarded'")" "superuser" "never as a superuser"
sql "ALTER FUNCTION work.note(jsonb) OWNER TO worker_role" >/dev/null

# a failure leaves nothing but its record
sql "SELECT kind FROM job_enqueue('bad', retry => '{\"max_attempts\": 3, \"delays_seconds\": [0]}')" >/dev/null
finished
is "$(sql "SELECT state, attempt, jsonb_array_length(failures), failures->2->>'sqlstate', error FROM tenancy.job WHERE kind = 'bad'")" "discarded|3|3|58000|out of paper" "three attempts, each recorded"
is "$(sql "SELECT count(*) FROM work.done WHERE n = -1")" 0 "and undone"

# timeout, cancel, a tenant that cannot be entered
sql "SELECT kind FROM job_enqueue('slow', '{\"s\": 600}', timeout => '1 second', retry => '{\"max_attempts\": 1}')" >/dev/null
finished
is "$(sql "SELECT state, failures->0->>'sqlstate' FROM tenancy.job WHERE kind = 'slow'")" "discarded|57014" "a job that takes too long is stopped"
job=$(sql "SELECT id FROM job_enqueue('slow', '{\"s\": 600}')")
wait_for 30 "SELECT state FROM tenancy.job WHERE id = '$job'" running
sql "SELECT state FROM job_cancel('$job', 'enough')" >/dev/null
wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" 0
ok $? "one that is cancelled is interrupted"
is "$(sql "SELECT state, error FROM tenancy.job WHERE id = '$job'")" "cancelled|enough" "and stays cancelled"
sql "SELECT count(*) FROM tenant_suspend('c', 'unpaid')" >/dev/null
job=$(sql "SELECT id FROM job_enqueue('note', '{\"n\": 8}', 'c')")
wait_for 30 "SELECT state, attempt FROM tenancy.job WHERE id = '$job'" "scheduled|0"
ok $? "the job of a suspended tenant is put off"
sql "SELECT count(*) FROM tenant_resume('c'); SELECT state FROM job_cancel('$job')" >/dev/null

# parallel: each waits for the other
sql "SELECT count(job_enqueue('meet')) FROM generate_series(1, 2)" >/dev/null
finished
is "$(sql "SELECT DISTINCT result->>'met' FROM tenancy.job_done WHERE kind = 'meet'")" true "two jobs run at the same time"

# statements that need the database
sql "SELECT kind FROM job_enqueue('slow', '{\"s\": 600, \"n\": 9}', retry => '{\"delays_seconds\": [3600]}')" >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.job WHERE state = 'running'" 1
started=$SECONDS
like "$(sql "CREATE DATABASE copy TEMPLATE app" postgres)" '^$' "CREATE DATABASE … TEMPLATE in the middle of a job"
ok $((SECONDS - started >= 60)) "does not wait for it"
wait_for 30 "SELECT state FROM tenancy.job WHERE kind = 'slow' AND finished_at IS NULL" scheduled
ok $? "the job is tried again"
sql "DROP DATABASE copy" postgres >/dev/null
sql "SELECT count(job_cancel(id)) FROM tenancy.job WHERE finished_at IS NULL" >/dev/null

# a tenant with many jobs and, behind them, another with one
crowd() { echo "SELECT count(job_enqueue('note', '{\"n\": 10}', 'a')) FROM generate_series(1, $1)"; }
sql "$(crowd $((crowd - 500)))" >/dev/null
sql "$(crowd 500); SELECT kind FROM job_enqueue('note', jsonb_build_object('n', 11, 'xid', txid_current()), 'b')" >/dev/null
wait_for 30 "SELECT count(*) FROM work.done WHERE n = 11" 1
# before it begin those alone that run or are claimed when it is committed, four at a time
is "$(sql "WITH b AS (SELECT started_at, pg_xact_commit_timestamp((arguments->>'xid')::xid) AS committed_at FROM tenancy.job_done WHERE arguments->>'n' = '11')
	SELECT count(*) <= 20 FROM tenancy.job_done a, b WHERE a.arguments->>'n' = '10' AND a.started_at > b.committed_at AND a.started_at < b.started_at")" t "a tenant with many jobs delays another's only one by no more than what runs"
wait_for $((60 + crowd / 200)) "SELECT count(*) FROM tenancy.job_pending" 0
is "$(sql "SELECT count(*) FROM work.done WHERE n = 10")" $crowd "which are all done"
is "$(sql "SELECT count(*) > 100 FROM work.done WHERE n = 10 AND at > (SELECT at FROM work.done WHERE n = 11)")" t "most of them afterwards"

# kill -9 of workers and of the postmaster, at random: each job once
sql "TRUNCATE work.done" >/dev/null
sql "SELECT count(job_enqueue('slow', jsonb_build_object('n', n, 's', 0.02), (ARRAY['a', 'b', 'c'])[1 + n % 3]::regtenant, retry => '{\"max_attempts\": 100, \"delays_seconds\": [0]}')) FROM generate_series(1, $jobs) n" >/dev/null
kills=0
deadline=$((SECONDS + 120 + jobs / 100))
while [ $SECONDS -lt $deadline ]; do
	left=$(sql "SELECT count(*) FROM tenancy.job_pending" 2>/dev/null)
	[ "$left" != 0 ] || break
	if ((RANDOM % 4 == 0)); then
		pid=$(head -n 1 "$PGHOST/data/postmaster.pid")
		kill -9 "$pid"
		# what is left of the old server leaves when it notices
		for ((i = 0; i < 600; i++)); do pgrep -g "$pid" >/dev/null 2>&1 || break; sleep 0.05; done
		for ((i = 0; i < 100; i++)); do cluster_restart immediate >/dev/null 2>&1 && break; sleep 0.3; done
	else
		pid=$(sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy job worker' ORDER BY random() LIMIT 1" 2>/dev/null)
		[[ $pid =~ ^[0-9]+$ ]] && kill -9 "$pid" 2>/dev/null
	fi
	kills=$((kills + 1))
	sleep 0.$((RANDOM % 9 + 1))
	((kills < 40)) || sleep 2
done
wait_for 120 "SELECT count(*) FROM tenancy.job_pending" 0
ok $? "all $jobs jobs are finished in spite of $kills kills"
is "$(sql "SELECT count(*), count(DISTINCT n), min(n), max(n) FROM work.done")" "$jobs|$jobs|1|$jobs" "each was done once"
is "$(sql "SELECT count(*) FROM tenancy.job_done WHERE arguments->>'n' IS NOT NULL AND retry->>'max_attempts' = '100' AND outcome = 'succeeded'")" "$jobs" "and has succeeded"
cut_off=$(sql "SELECT sum(attempt - 1) FROM tenancy.job_done WHERE retry->>'max_attempts' = '100'")
ok $((cut_off == 0)) "although $cut_off attempts were cut off"
done_testing
