#!/bin/bash
# pg_restore --jobs into a database beside workers: of its sessions, which come one after the other and
# at once, all are waited for.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off

psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
CREATE TABLE shared_note (tenant_id uuid, id integer, body text, PRIMARY KEY (tenant_id, id));
CREATE SCHEMA a_slow;
-- restored first, by both jobs at once, which takes them some seconds
CREATE TABLE a_slow.one (id integer CHECK (pg_catalog.pg_sleep(CASE pg_catalog.current_database() WHEN 'app' THEN 0 ELSE 3 END) IS NOT NULL));
CREATE TABLE a_slow.two (LIKE a_slow.one INCLUDING CONSTRAINTS);
INSERT INTO a_slow.one VALUES (1);
INSERT INTO a_slow.two VALUES (1);
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', plan => 'professional', template => 'portal', starts_at => '2026-01-01 00:00+00');
SELECT slug FROM tenant_create('globex', plan => 'starter', isolation => 'pool', starts_at => '2026-01-01 00:00+00');
SELECT relation FROM tenant_table_register('shared_note');
SELECT metric FROM usage_record('acme', 'users', 53, 'u1', '2026-01-10 00:00+00');
SELECT * FROM billing_run('2026-03-01 00:00+00');
SELECT kind FROM schedule_set('storage.measure', every => '7 minutes');
SELECT kind FROM schedule_set('billing.run', enabled => false);
BEGIN; SELECT tenant_context_set('acme'); INSERT INTO note VALUES (1, 'kept'); INSERT INTO shared_note VALUES (DEFAULT, 1, 'shared'); COMMIT;
SELECT usage_flush();
SQL
contents app > "$PGHOST/before"
pg_dump -Fc -f "$PGHOST/app.dump" app 2>/dev/null
ok $? "pg_dump"
sql "ALTER SYSTEM SET tenancy.workers = on" postgres >/dev/null
sql "SELECT pg_reload_conf()" postgres >/dev/null

createdb restored
# a session that takes part when it is told to
exec {last}> >(exec psql -Xq restored >/dev/null 2>&1)
echo "SET check_function_bodies = off; SELECT set_config('search_path', '', false);" >&"$last"
pg_restore --jobs=2 --exit-on-error -d restored "$PGHOST/app.dump" 2> "$PGHOST/errors"
ok $? "pg_restore --jobs beside workers"
sed 's/^/# /' "$PGHOST/errors"
# it stays until the rows are compared
echo "SET row_security = on;" >&"$last"
diff <(contents restored) "$PGHOST/before" > "$PGHOST/diff"
ok $? "brings every row, and workers wait for the last session"
head -n 20 "$PGHOST/diff" | sed 's/^/# /'
is "$(sql "SELECT count(*) FROM pg_constraint WHERE NOT convalidated" restored)$(sql "SHOW session_replication_role" restored)" 0origin "constraints are valid"
is "$(sql "SELECT count(*) FROM tenancy.job_run WHERE state = 'succeeded'" restored)" 0 "no worker has come"
like "$(sql "SELECT state FROM tenancy.worker WHERE database = 'restored'")" paused "which can be seen"
exec {last}>&-
for _ in $(seq 300); do
	[ "$(sql "SELECT count(*) > 3 FROM tenancy.job_run WHERE state = 'succeeded'" restored)" = t ] && break
	sleep 0.2
done
is "$(sql "SELECT count(*) > 3 FROM tenancy.job_run WHERE state = 'succeeded'" restored)" t "then they work"
is "$(sql "SELECT schedule.every FROM tenancy.schedule WHERE kind = 'storage.measure'" restored)" 00:07:00 "as the schedule of the dump says"
is "$(sql "BEGIN; SELECT tenant_context_set('acme') IS NOT NULL; SELECT body, (SELECT body FROM shared_note) FROM note; COMMIT" restored)" "t
kept|shared" "a tenant finds its rows"
like "$(sql "INSERT INTO tenancy.usage_event_key SELECT * FROM tenancy.usage_event_key" restored)" 23505 "keys are"
like "$(sql "INSERT INTO tenancy.tenant_table SELECT relation FROM tenancy.tenant_table" restored)" 23 "and rows are checked again"

# who says so in a database that is not being restored, stops nobody
sql "SET check_function_bodies = off; SELECT set_config('search_path', '', false); SET row_security = on; SELECT state FROM tenancy.worker WHERE database = 'restored'" restored > "$PGHOST/state"
is "$(grep -c paused "$PGHOST/state")" 0 "settings alone stop no worker"
printf 'nobody\t00000000-0000-0000-0000-000000000001\tf\t2026-01-01\n' > "$PGHOST/row"
like "$(psql -XAtq -v VERBOSITY=verbose -d restored -c "SET check_function_bodies = off" -c "SELECT set_config('search_path', '', false)" -c "\\copy tenancy.tenant_login FROM $PGHOST/row" 2>&1)" '23503.*tenant_login_tenant_fkey' "nor any check"
done_testing
