#!/bin/bash
# pg_dump and pg_restore: everything that users own comes back, in a fresh database and in a
# fresh cluster whose roles pg_dumpall has brought.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off

psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
CREATE TABLE shared_note (tenant_id uuid, id integer, body text, PRIMARY KEY (tenant_id, id));
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', plan => 'professional', template => 'portal', starts_at => '2026-01-01 00:00+00');
SELECT slug FROM tenant_create('globex', plan => 'starter', isolation => 'pool', starts_at => '2026-01-01 00:00+00');
SELECT plan_create('special', 'Special', 'custom', '{"type": "fixed", "base_price": 7, "currency": "EUR", "billing_period": "yearly"}') IS NULL;
SELECT metric_create('builds', 'build') IS NULL;
SELECT relation FROM tenant_table_register('shared_note');
SELECT metric FROM usage_record('acme', 'users', 53, 'u1', '2026-01-10 00:00+00');
SELECT * FROM billing_run('2026-03-01 00:00+00');
SELECT setting FROM ceiling_set('work_mem', '8MB');
SELECT setting FROM ceiling_set('lock_timeout', '7s', 'professional');
SELECT id FROM legal_entity_set('default', '{"name": "Seller of the test", "address": {"city": "Bonn"}}');
SELECT kind FROM schedule_set('storage.measure', every => '7 minutes');
BEGIN; SELECT tenant_context_set('acme'); INSERT INTO note VALUES (1, 'kept'); INSERT INTO shared_note VALUES (DEFAULT, 1, 'shared'); COMMIT;
SELECT usage_flush();
SQL

works() { # works DATABASE
	is "$(sql "BEGIN; SELECT current_tenant() IS NULL, tenant_context_set('acme') IS NOT NULL; SELECT body, (SELECT body FROM shared_note) FROM note; COMMIT" "$1")" \
		"t|t
kept|shared" "the tenant is entered and finds its rows"
	is "$(sql "SELECT * FROM billing_run('2026-03-01 00:00+00')" "$1")" "0|0|0|{}" "nothing is billed twice"
	is "$(sql "SELECT invoices, failed FROM billing_run('2026-04-01 00:00+00')" "$1")" "2|0" "and the next month once"
	like "$(sql "UPDATE tenancy.invoice SET total = 0" "$1")" 55000 "invoices are as immutable as before"
	is "$(sql "SELECT quantity, recorded_at < now() - interval '1 second' FROM usage_record('acme', 'users', 53, 'u1', '2026-01-10 00:00+00')" "$1")" "53|t" "an event that comes again is recognised"
	like "$(sql "SELECT usage_record('acme', 'users', 54, 'u1', '2026-01-10 00:00+00')" "$1")" 23505 "and another one under its id"
	is "$(sql "BEGIN; SELECT tenant_context_set('acme') IS NULL, current_setting('work_mem'), current_setting('lock_timeout'); COMMIT" "$1" | tail -n 1)" "f|4MB|7s" "ceilings that were changed hold, and those that were not"
	is "$(sql "SELECT value FROM limit_explain('acme') l, LATERAL (SELECT replace(l.explanation, 'at most ', '')) v(value) WHERE l.kind = 'ceiling' AND l.name IN ('work_mem', 'temp_file_limit') ORDER BY l.name" "$1" | paste -sd ' ')" "10GB 8MB" "and are explained"
	is "$(sql "SELECT ceiling_set('work_mem', '2MB')" "$1")" "(*,work_mem,2MB,f)" "and are changed again"
	is "$(sql "SELECT slug FROM tenant_create('new', template => 'portal')" "$1")" new "a tenant is made of the template"
}

contents app > "$PGHOST/before"
is "$(grep -c '^==' "$PGHOST/before")" "$(sql "SELECT count(*) FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r' AND obj_description(oid, 'pg_class') NOT LIKE '% Not dumped.'")" "all tables are compared"
pg_dump -Fc -f "$PGHOST/app.dump" app
ok $? "pg_dump"
pg_dumpall --globals-only > "$PGHOST/globals.sql"
ok $? "pg_dumpall --globals-only"

createdb restored
pg_restore --exit-on-error -d restored "$PGHOST/app.dump" 2> "$PGHOST/errors"
ok $? "pg_restore into a fresh database"
sed 's/^/# /' "$PGHOST/errors"
diff <(contents restored) "$PGHOST/before" > "$PGHOST/diff"
ok $? "brings every row"
head -n 20 "$PGHOST/diff" | sed 's/^/# /'
works restored

second=$cluster_dir.second
environment=$("$top/test/cluster" start "$second" --no-extension --set tenancy.workers=off)
trap '"$top/test/cluster" stop "$second"; cluster_stop' EXIT
first=$PGHOST
eval "$environment"
psql -Xq -f "$first/globals.sql" postgres 2>&1 | grep -v 'role "postgres" already exists' | sed 's/^/# /'
pg_restore --exit-on-error -d app "$first/app.dump" 2> "$PGHOST/errors"
ok $? "pg_restore into a fresh cluster, after the roles"
sed 's/^/# /' "$PGHOST/errors"
diff <(contents app) "$first/before" > "$PGHOST/diff"
ok $? "brings every row"
head -n 20 "$PGHOST/diff" | sed 's/^/# /'
works app

# where workers run: they wait for the end of the session that restores, however long it takes
"$top/test/cluster" stop "$second"
environment=$("$top/test/cluster" start "$second" --no-extension)
eval "$environment"
psql -Xq -f "$first/globals.sql" postgres >/dev/null 2>&1
pg_restore -f "$PGHOST/app.sql" "$first/app.dump"
ok $? "pg_restore into a file"
sed -i '/^CREATE EXTENSION.* pg_tenancy /a SELECT pg_catalog.pg_sleep(5);' "$PGHOST/app.sql"
psql -Xq -v ON_ERROR_STOP=1 -f "$PGHOST/app.sql" app > "$PGHOST/errors" 2>&1
ok $? "which is restored beside workers"
sed 's/^/# /' "$PGHOST/errors" | grep -v pg_sleep | head -n 5
for _ in $(seq 300); do
	[ "$(sql "SELECT count(*) FROM tenancy.job_run WHERE state = 'succeeded'" app)" -gt 3 ] 2>/dev/null && break
	sleep 0.2
done
is "$(sql "SELECT count(*) > 3 FROM tenancy.job_run WHERE state = 'succeeded'" app)" t "and then they work"
is "$(sql "SELECT schedule.every FROM tenancy.schedule WHERE kind = 'storage.measure'" app)" 00:07:00 "as the schedule of the dump says"

# without the roles it says so
eval "$(echo "export PGHOST='$first'")"
sql "CREATE DATABASE orphan TEMPLATE app" postgres >/dev/null
sql "UPDATE tenancy.tenant SET role_name = 't_gone' WHERE slug = 'acme'" orphan >/dev/null
like "$(sql "BEGIN; SELECT tenant_context_set('acme'); COMMIT" orphan)" 'pg_dumpall' "a tenant whose role is missing says what to do"
is "$(sql "SELECT status FROM tenant_health('acme') WHERE check_name = 'role'" orphan)" critical "so does its health"
done_testing
