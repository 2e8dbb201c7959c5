#!/bin/bash
# test/run: long
# Retention by jobs beside an application: nobody waits, nothing under hold goes, a crash loses nothing.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set restart_after_crash=on --set max_connections=40
sql "CREATE ROLE second LOGIN SUPERUSER; CREATE SCHEMA portal;
	CREATE TABLE portal.customer (id integer PRIMARY KEY, at timestamptz NOT NULL, body text);
	CREATE TABLE portal.orders (id integer PRIMARY KEY, customer integer NOT NULL REFERENCES portal.customer ON DELETE CASCADE);
	CREATE TABLE portal.paper (id integer PRIMARY KEY, customer integer NOT NULL REFERENCES portal.customer ON DELETE CASCADE);
	CREATE INDEX ON portal.orders (customer); CREATE INDEX ON portal.paper (customer)" >/dev/null
sql "SELECT count(template_create('portal', 'portal')); SELECT count(tenant_create('acme', template => 'portal'))" >/dev/null
schema=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'acme'")
rows=8000
sql "INSERT INTO $schema.customer SELECT g, now() - interval '3 years' + g * interval '1 second', repeat('x', 50) FROM generate_series(1, $rows) g;
	INSERT INTO $schema.orders SELECT g, g FROM generate_series(1, $rows) g WHERE g % 3 = 0; INSERT INTO $schema.paper SELECT g, g FROM generate_series(1, $rows) g WHERE g % 10 = 0; ANALYZE" >/dev/null
sql "SELECT count(retention_policy_set('portal.customer', 'at', '2 years', 'delete', 'contract'));
	SELECT count(legal_hold_set('relation', 'suit', 'R-1', relation => '$schema.paper', predicate => 'id % 1000 = 0'));
	SELECT count(legal_hold_set('relation', 'suit', 'R-2', relation => '$schema.customer', predicate => 'id % 777 = 0'))" >/dev/null
held() { sql "SELECT (SELECT count(*) FROM $schema.paper WHERE id % 1000 = 0), (SELECT count(*) FROM $schema.customer WHERE id % 777 = 0 AND id <= $rows), (SELECT count(*) FROM $schema.customer c JOIN $schema.paper p ON p.customer = c.id WHERE p.id % 1000 = 0)"; }
before=$(held)
is "$before" "8|10|8" "rows are under hold, some by what refers to them"
is "$(sql "SELECT rows, held, referenced FROM retention_enforce(dry_run => true)")" "$((rows - 8 - 10))|10|8" "a dry run knows"

# the application, and a job that commits each 50 ms: job_run_due() one at a time, as a worker does
cat > "$PGHOST/app.sql" <<SQL
\\set id random(1, $rows)
\\set new random(1000000, 900000000)
UPDATE $schema.customer SET body = repeat('y', 50) WHERE id = :id AND id % 777 <> 0;
INSERT INTO $schema.customer VALUES (:new, now(), 'new') ON CONFLICT DO NOTHING;
SELECT count(*) FROM $schema.orders WHERE customer = :id;
SQL
chmod a+r "$PGHOST/app.sql"
sql "SELECT name FROM schedule_set('retention.start', every => '1 second')" >/dev/null
(cd "$PGHOST" && pgbench -n -c 3 -T 8 -l --log-prefix="$PGHOST/app" -f "$PGHOST/app.sql" app > "$PGHOST/bench" 2>&1) &
bench=$!
# the start is due once; from there on a step a call
steps=0
left() { sql "SELECT count(*) FROM $schema.customer WHERE at < now() - interval '2 years'"; }
while kill -0 $bench 2>/dev/null || { [ $steps -lt 200 ] && [ "$(left)" = $rows ]; }; do
	psql -XAtqc "UPDATE tenancy.job_pending SET state = 'scheduled', run_at = now() WHERE kind = 'retention.step' AND state = 'scheduled'" -c "SELECT count(*) FROM job_run_due(5)" app >/dev/null 2>&1
	steps=$((steps + 1))
done
wait $bench
is "$(held)" "$before" "nothing under hold has gone while the application ran"
left=$(left)
ok "$([ "$left" -lt $rows ]; echo $?)" "of what was overdue some has ($left left after $steps calls)"
is "$(grep -c 'aborted' "$PGHOST/bench")" 0 "no statement of the application failed"

# cut off in the middle, by kill -9 of the backend that works: what is committed stays, the rest goes on
sql "SELECT name FROM schedule_set('retention.start', enabled => false); DELETE FROM tenancy.job_pending WHERE kind LIKE 'retention.%'" >/dev/null
sql "INSERT INTO $schema.customer SELECT g, now() - interval '3 years', 'x' FROM generate_series(2000000, 2002000) g" >/dev/null
sql "SELECT name FROM schedule_set('retention.start', every => '1 second', enabled => true)" >/dev/null
sleep 1
sql "SELECT count(*) FROM job_run_due(3)" >/dev/null
first=$(sql "SELECT count(*) FROM $schema.customer WHERE at < now() - interval '2 years'")
psql -XAtqc "BEGIN" -c "SELECT count(*) FROM job_run_due(3)" -c "SELECT 'boundary', pg_sleep(60)" app > "$PGHOST/out" 2>&1 &
victim=$!
wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT ''boundary''%' AND wait_event = 'PgSleep'" 1
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT ''boundary''%' AND wait_event = 'PgSleep'")"
wait $victim
is "$(sql "SELECT count(*) FROM $schema.customer WHERE at < now() - interval '2 years'")" "$first" "a step that was cut off has done nothing"
for ((i = 0; i < 400; i++)); do
	[ "$(sql "SELECT count(*) FROM $schema.customer c WHERE at < now() - interval '2 years' AND id % 777 <> 0 AND NOT EXISTS (SELECT FROM $schema.paper p WHERE p.customer = c.id AND p.id % 1000 = 0)")" != 0 ] || break
	psql -XAtqc "UPDATE tenancy.job_pending SET run_at = now() WHERE kind = 'retention.step' AND state = 'scheduled'" -c "SELECT count(*) FROM job_run_due(5)" app >/dev/null 2>&1
done
is "$(sql "SELECT count(*) FROM $schema.customer c WHERE at < now() - interval '2 years' AND id % 777 <> 0 AND NOT EXISTS (SELECT FROM $schema.paper p WHERE p.customer = c.id AND p.id % 1000 = 0)")" 0 "in the end all that may go is gone"
is "$(held)" "$before" "and nothing under hold"
is "$(sql "SELECT count(*) FROM $schema.orders o WHERE NOT EXISTS (SELECT FROM $schema.customer c WHERE c.id = o.customer)")" 0 "no foreign key is broken"
is "$(sql "SELECT sum(rows) FROM tenancy.retention_log")" "$(sql "SELECT $rows + 2001 - count(*) FROM $schema.customer WHERE at < now() - interval '2 years'")" "the log has counted them all"

# the extension does not go from under a hold
like "$(sql "DROP EXTENSION pg_tenancy CASCADE")" '55000.*legal hold' "DROP EXTENSION is refused while a hold is in force"
like "$(sql "DROP OWNED BY tenancy_owner CASCADE")" '55000.*legal hold|2BP01' "and so is DROP OWNED"
is "$(held)" "$before" "all is there"

# a dump has the holds, and its triggers
pg_dump app > "$PGHOST/dump.sql" 2>/dev/null
sql "CREATE DATABASE copy" postgres >/dev/null
psql -Xqf "$PGHOST/dump.sql" copy > "$PGHOST/restore" 2>&1
is "$(grep -c ERROR "$PGHOST/restore")" 0 "a dump with holds is restored"
like "$(sql "DELETE FROM $schema.paper WHERE id = 1000" copy)" '55000.*legal hold' "and they hold in the copy"

# when they are released, the rest goes
for hold in $(sql "SELECT id FROM tenancy.legal_hold"); do PGUSER=second sql "SELECT count(legal_hold_release('$hold', 'over'))" >/dev/null; done
sql "SELECT count(*) FROM retention_enforce()" >/dev/null
is "$(sql "SELECT count(*) FROM $schema.customer WHERE at < now() - interval '2 years'")" 0 "when the holds are released, the rest goes"

# a large tenant is purged by jobs, cut off by a crash of the server in between; its certificate can be checked
sql "CREATE TABLE shared (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id)); SELECT count(tenant_table_register('shared')); INSERT INTO shared SELECT id, g FROM tenancy.tenant, generate_series(1, 60000) g" >/dev/null
sql "SELECT count(tenant_delete('acme', '0')); SELECT count(tenant_purge_start('acme'))" >/dev/null
sql "SELECT count(*) FROM job_run_due(1)" >/dev/null
cluster_restart immediate >/dev/null 2>&1
is "$(sql "SELECT state FROM tenancy.tenant WHERE slug = 'acme'")" purging "a purge that was cut off is not finished"
for ((i = 0; i < 100; i++)); do
	[ "$(sql "SELECT count(*) FROM tenancy.tenant WHERE state = 'purging'")" != 0 ] || break
	sql "SELECT count(*) FROM job_run_due(1)" >/dev/null
done
is "$(sql "SELECT state FROM tenancy.tenant; SELECT count(*) FROM shared; SELECT e->>'rows' FROM tenancy.deletion_certificate c, jsonb_array_elements(c.document->'removed') e WHERE e->>'object' = 'public.shared'")" "purged
0
60000" "and goes on to its end"
is "$(sql "SELECT encode(hash, 'hex') FROM tenancy.deletion_certificate")" "$(sql "SELECT document FROM tenancy.deletion_certificate" | tr -d '\n' | b2sum -l 256 | cut -d' ' -f1)" "the hash of the certificate is what b2sum computes"
# counters that come late are swept up
sql "INSERT INTO tenancy.storage_measurement SELECT id, 0, now() FROM tenancy.tenant" >/dev/null
sql "SELECT name FROM schedule_set('retention.start', every => '1 second')" >/dev/null; sleep 1; sql "SELECT count(*) FROM job_run_due()" >/dev/null
is "$(sql "SELECT count(*) FROM tenancy.storage_measurement m JOIN tenancy.deletion_certificate c USING (tenant_id)")" 0 "what counters write after the purge is swept up"
done_testing
