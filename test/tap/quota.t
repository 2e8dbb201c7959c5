#!/bin/bash
# test/run: long
# Quotas under load, across restarts, and against a flood.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.metering_flush_interval=500ms
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.entity (id bigserial PRIMARY KEY, name text);
CREATE TABLE portal.blob (id bigserial PRIMARY KEY, body text);
ALTER TABLE portal.blob ALTER body SET STORAGE EXTERNAL;
SELECT quota_count_table('entities', 'portal.entity');
SELECT template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', template => 'portal');
SELECT slug FROM tenant_create('globex', template => 'portal');
SELECT quota_set('acme', 'entities', NULL, 1000);
SELECT quota_set('globex', 'storage', NULL, 0.05);
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SQL
export PGOPTIONS="-c client_min_messages=warning"
acme=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'acme'")
globex=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'globex'")
as_tenant() { # as_tenant SLUG SQL
	PGUSER=app psql -XAtq -v VERBOSITY=verbose app 2>&1 <<< "BEGIN; SELECT tenant_context_set('$1') \\g /dev/null
$2
COMMIT;"
}
used() { sql "SELECT (quota_check('acme', 'entities')).used"; }
rows() { sql "SELECT count(*) FROM $acme.entity"; }

# fifty at once, some of which roll back
printf '%s\n' "BEGIN;" "SELECT tenant_context_set('acme');" "INSERT INTO entity (name) VALUES ('x');" "COMMIT;" > "$PGHOST/insert.sql"
printf '%s\n' "BEGIN;" "SELECT tenant_context_set('acme');" "INSERT INTO entity (name) SELECT 'y' FROM generate_series(1, 3);" "ROLLBACK;" > "$PGHOST/undo.sql"
inserter() { # goes on after an error, as an application does
	for _ in $(seq 25); do PGUSER=app psql -Xq app -f "$PGHOST/$1.sql" >/dev/null 2>&1; done
}
for n in $(seq 45); do inserter insert & done
for n in $(seq 5); do inserter undo & done
wait $(jobs -p)
# an undone insert may have held the last places: once more, alone
inserter insert
is "$(rows)" 1000 "fifty inserters end with exactly 1000 rows"
is "$(used)" 1000 "and the count says so"
like "$(as_tenant acme "INSERT INTO entity (name) VALUES ('z');")" '53400.*quota_set' "one more is refused, with a hint"
is "$(as_tenant acme "SELECT count(*) FROM entity;")" 1000 "reading works"
is "$(as_tenant acme "WITH gone AS (DELETE FROM entity WHERE id IN (SELECT id FROM entity LIMIT 10) RETURNING 1) SELECT count(*) FROM gone;")" 10 "deleting works"
is "$(as_tenant acme "INSERT INTO entity (name) SELECT 'z' FROM generate_series(1, 10);")" "" "and makes room"
like "$(as_tenant acme "COPY entity (name) FROM STDIN;
a
\\.")" '53400' "COPY is counted"

# restarts: the first touch counts
cluster_restart immediate >/dev/null
like "$(as_tenant acme "INSERT INTO entity (name) VALUES ('z');")" '53400' "after a crash the rows are counted again"
is "$(as_tenant acme "DELETE FROM entity WHERE id IN (SELECT id FROM entity LIMIT 5);")" "" "a delete is counted"
is "$(used)" "$(rows)" "exactly"
cluster_restart >/dev/null
for n in 1 2 3 4; do inserter insert & done
wait $(jobs -p)
is "$(rows)" 1000 "many that come first after a restart end with exactly 1000"
is "$(used)" 1000 "and so does the count"
like "$(as_tenant acme "INSERT INTO entity (name) VALUES ('z'); PREPARE TRANSACTION 'x';")" '53400|0A000' "a transaction that counts is not prepared"

# events that are refused beyond the limit, many at once, before and after a crash
# (all in one month, whenever this runs)
clock="SET tenancy.test_clock = '2026-06-10 12:00+00'"
sql "SELECT quota_set('globex', 'api_calls', NULL, 700, true); ALTER ROLE app ${clock}" >/dev/null
echo "DO \$\$ BEGIN PERFORM usage_record('globex', 'api_calls', 1 + (random() * 2)::int, NULL, '2026-06-10 11:00+00'); EXCEPTION WHEN configuration_limit_exceeded THEN NULL; END \$\$;" > "$PGHOST/event.sql"
record() { PGUSER=app pgbench -n -c 10 -t "$1" -f "$PGHOST/event.sql" app > "$PGHOST/event.out" 2>&1 || cat "$PGHOST/event.out" >&2; }
counted() { sql "SELECT sum(quantity) FROM tenancy.usage_event WHERE metric = 'api_calls' AND tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'globex')"; }
used_calls() { sql "$clock; SELECT (quota_check('globex', 'api_calls')).used"; }
record 15
before=$(counted)
cluster_restart immediate >/dev/null
is "$(used_calls)" "$before" "usage events are counted again after a crash"
record 60
[ "$(counted)" -ge 698 ] && [ "$(counted)" -le 700 ]
ok $? "ten sessions that record events end at the limit ($(counted) of 700)"
is "$(used_calls)" "$(counted)" "and the count is that of the events"
record 5
[ "$(counted)" -le 700 ]
ok $? "from then on all is refused that does not fit"
sql "ALTER ROLE app RESET tenancy.test_clock" >/dev/null

# a flood: 50 MB are allowed, 1 MB a statement
flooded=0
while [ $flooded -lt 400 ]; do
	got=$(as_tenant globex "INSERT INTO blob (body) SELECT repeat(md5(random()::text), 32768) FROM generate_series(1, 1);")
	[[ $got == *53400* ]] && break
	flooded=$((flooded + 1))
	# slowly near the limit, so that a flush comes in time also where it waits for its turn
	[ $flooded -lt 45 ] && sleep 0.02 || sleep 0.3
done
like "$got" '53400.*quota "storage" of tenant "globex" is used up' "a storage flood is stopped"
bytes=$(sql "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relnamespace = '$globex'::regnamespace AND relkind = 'r'")
[ "$bytes" -gt 50000000 ] && [ "$bytes" -lt 120000000 ]
ok $? "at $((bytes / 1000000)) MB of 50, within a flush interval or two"
like "$(as_tenant globex "UPDATE blob SET body = body || 'x' WHERE id = 1;")" '53400' "updates are off"
like "$(as_tenant globex "WITH n AS (INSERT INTO blob (body) VALUES ('x') RETURNING 1) SELECT * FROM n;")" '53400' "inserts in a WITH, too"
like "$(as_tenant globex "COPY blob (body) FROM STDIN;
x
\\.")" '53400' "and COPY"
is "$(as_tenant globex "SELECT count(*) > 20 FROM blob;")" t "reading works"
like "$(as_tenant globex "CREATE TABLE x AS SELECT * FROM blob;")" '42501|53400' "no way around"
like "$(as_tenant globex "MERGE INTO blob USING (VALUES (1)) v(i) ON false WHEN NOT MATCHED THEN INSERT (body) VALUES ('x');")" '53400' "MERGE that inserts is off"
is "$(as_tenant globex "MERGE INTO blob USING (VALUES (-1)) v(i) ON id = i WHEN MATCHED THEN DELETE;")" "" "MERGE that deletes is not"
is "$(as_tenant globex "CREATE TEMP TABLE t AS SELECT id FROM blob; INSERT INTO t VALUES (1); SELECT count(*) > 20 FROM t;")" t "temporary tables are not"
like "$(sql "SELECT slug FROM tenant_suspend('globex', 'over its quota')")" globex "it can be suspended"
sql "SELECT slug FROM tenant_resume('globex')" >/dev/null
sql "SELECT slug FROM tenant_suspend('globex', 'unpaid')" >/dev/null
like "$(as_tenant globex "INSERT INTO blob (body) VALUES ('x');")" '55000.*suspended' "suspended, it cannot add"
is "$(as_tenant globex "SELECT count(*) > 20 FROM blob;")" t "but read"
is "$(as_tenant globex "WITH gone AS (DELETE FROM blob WHERE id = (SELECT max(id) FROM blob) RETURNING 1) SELECT count(*) FROM gone;")" 1 "and delete"
sql "SELECT slug FROM tenant_resume('globex')" >/dev/null
is "$(as_tenant globex "WITH gone AS (DELETE FROM blob RETURNING 1) SELECT count(*) > 20 FROM gone;")" t "deleting works"
sql "VACUUM FULL $globex.blob" >/dev/null
wait_for_room() {
	for _ in $(seq 200); do
		[[ $(as_tenant globex "INSERT INTO blob (body) VALUES ('x');") == "" ]] && return
		sleep 0.25
	done
	return 1
}
wait_for_room
ok $? "and once there is room, writing is on again"

# a flood in one statement
sql "TRUNCATE $globex.blob" >/dev/null
wait_for_room
started=$EPOCHSECONDS
like "$(as_tenant globex "INSERT INTO blob (body) SELECT repeat(md5(random()::text), 32768) FROM generate_series(1, 4000);")" '53400.*quota "storage"' "a statement that passes the limit by itself is stopped"
bytes=$(sql "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relnamespace = '$globex'::regnamespace AND relkind = 'r'")
[ "$bytes" -gt 50000000 ] && [ "$bytes" -lt 1500000000 ]
ok $? "at $((bytes / 1000000)) MB of 50, long before its end at 4000"
is "$(sql "SELECT refusals > 0 AND used > hard AND hard = 0.05 FROM tenancy.refusal_read((SELECT id FROM tenancy.tenant WHERE slug = 'globex')) WHERE name = 'storage'")" t "and it is told why"
done_testing
