#!/bin/bash
# How many sessions a tenant may have: exactly so many, whoever comes at once and however they go.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set max_connections=60
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
SELECT slug FROM tenant_create('hog', plan => 'starter');
SELECT slug FROM tenant_create('victim');
SELECT quota_set('hog', 'connections', NULL, 5);
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE ROLE hog_bi LOGIN;
CREATE ROLE hog_etl LOGIN;
SELECT role_name FROM tenant_login_bind('hog_bi', 'hog');
SELECT role_name FROM tenant_login_bind('hog_etl', 'hog');
SQL
export PGOPTIONS="-c client_min_messages=warning"
hog_id=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'hog'")
sessions() { sql "SELECT tenancy.tenant_sessions('$hog_id')"; }
enter="BEGIN; SELECT tenant_context_set('hog') IS NULL"
quietly() { "$@" >/dev/null 2>&1; }

# forty at once, each of which says whether it came in and then stays until all have tried
for _ in $(seq 40); do
	PGUSER=app psql -Xq -v ON_ERROR_STOP=1 app -c "$enter; SELECT pg_sleep(600); COMMIT" >/dev/null 2>> "$PGHOST/refused" &
done
most=0
refused() { grep -c 'too many connections for tenant "hog"' "$PGHOST/refused"; }
for _ in $(seq 600); do
	now=$(sessions)
	[ "$now" -le "$most" ] || most=$now
	[ "$(refused)" -lt 35 ] || break
	sleep 0.1
done
now=$(sessions)
[ "$now" -le "$most" ] || most=$now
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'" >/dev/null
wait $(jobs -p)
is "$most" 5 "of forty sessions at once five are in the tenant"
is "$(refused)" 35 "and the others were refused"
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 0
ok $? "when they have gone none is counted"
is "$(sql "SELECT refusals, used, hard, wanted FROM tenancy.refusal_read('$hog_id') WHERE kind = 'connections'")" "35|5|5|1" "the refusals are told"
like "$(PGUSER=app psql -XAtq -v VERBOSITY=verbose app -c "SELECT quota_set('hog', 'connections', NULL, 0)" 2>&1)" 42501 "the application does not raise its limit"

# many transactions on few connections: nothing is left behind
echo "$enter; COMMIT; " > "$PGHOST/enter.sql"
printf '%s\n' "BEGIN;" "SELECT tenant_context_set('hog');" "SELECT 1;" "ROLLBACK;" > "$PGHOST/enter.sql"
PGUSER=app pgbench -n -c 5 -t 200 -f "$PGHOST/enter.sql" app > "$PGHOST/bench" 2>&1
like "$(cat "$PGHOST/bench")" 'processed: 1000/1000' "five sessions enter and leave a thousand times"
is "$(sessions)" 0 "and none is counted then"
is "$(PGUSER=app psql -XAtq app 2>&1 <<< "BEGIN; SAVEPOINT s; SELECT tenant_context_set('hog') IS NULL; SELECT 1/0; ROLLBACK TO s; SELECT tenancy.tenant_sessions('$hog_id'); ROLLBACK;" | tail -1)" 0 "an entry that is rolled back to a savepoint is not counted"

# bound logins are counted from when they connect, whether they say anything or not
fifos=()
idle_pids=()
idle_login() { # idle_login ROLE: a session that sends nothing
	mkfifo "$PGHOST/idle.${#fifos[@]}"
	PGUSER="$1" psql -Xq app -f "$PGHOST/idle.${#fifos[@]}" >/dev/null 2>&1 &
	idle_pids+=($!)
	fifos+=("$PGHOST/idle.${#fifos[@]}")
}
for _ in 1 2 3; do idle_login hog_bi; done
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 3
ok $? "idle sessions of a bound login are counted"
quietly env PGUSER=app psql -Xq app -c "$enter; SELECT pg_sleep(600)" &
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 4
ok $? "together with those of a pool"
idle_login hog_etl
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 5
ok $? "and with another login's"
like "$(PGUSER=hog_etl psql -XAtq app -c "SELECT 1" 2>&1)" 'FATAL: .*too many connections.*quota_set' "the sixth may not connect, and is told why"
like "$(PGUSER=app psql -XAtq -v VERBOSITY=verbose app -c "$enter" 2>&1)" '53300.*too many connections' "nor enter"
is "$(PGUSER=app psql -XAtq app -c "BEGIN; SELECT tenant_context_set('victim') IS NULL; COMMIT" 2>&1)" f "another tenant's session does"
like "$(sql "SELECT (q).used, (q).hard, (q).allowed FROM (SELECT quota_check('hog', 'connections') AS q OFFSET 0) x")" '5\|5\|f' "quota_check() says that all are taken"
sql "SELECT quota_set('hog', 'connections', NULL, 2)" >/dev/null
is "$(sql "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'hog_%'")" 4 "a lower limit ends no session"
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hog_bi'" >/dev/null
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 2
ok $? "sessions that are terminated are counted no more"

kill "${idle_pids[@]:0:3}" 2>/dev/null

# a killed backend takes the server down and up again; nothing is left of the count
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE usename = 'hog_etl'")"
is "$(sessions)" 0 "after kill -9 of a backend none is counted"
is "$(PGUSER=hog_etl psql -XAtq app -c "SELECT 1" 2>&1)" 1 "and there is room"
kill "${idle_pids[3]}" 2>/dev/null

# from the plan
sql "SELECT id FROM plan_create('tiny', 'Tiny', 'custom', '{\"type\": \"fixed\", \"base_price\": 1, \"currency\": \"USD\", \"billing_period\": \"monthly\"}', '{\"max_connections\": 1}')" >/dev/null
sql "SELECT slug FROM tenant_create('small', plan => 'tiny')" >/dev/null
quietly env PGUSER=app psql -Xq app -c "BEGIN; SELECT tenant_context_set('small'); SELECT pg_sleep(601)" &
wait_for 30 "SELECT (quota_check('small', 'connections')).used" 1
like "$(PGUSER=app psql -XAtq -v VERBOSITY=verbose app -c "BEGIN; SELECT tenant_context_set('small')" 2>&1)" '53300.*plan "tiny"' "a plan limits them, too"
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(601)%' AND usename = 'app'" >/dev/null
done_testing
