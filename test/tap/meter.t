#!/bin/bash
# Metering on every way out: sessions that are killed, prepared transactions, a memory that is
# full, an extension that is dropped, parallel queries, a stop and a crash of the server.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set tenancy.max_tenants=16 --set max_prepared_transactions=2

calls() { sql "SELECT calls FROM tenancy.tenant_stat WHERE slug = '$1'"; }
as() { # as TENANT STATEMENT: one transaction of the tenant
	psql -XAtq -d app -o /dev/null -c "BEGIN" -c "SELECT tenant_context_set('$1')" -c "$2" -c "COMMIT"
}

# no worker makes the next month's parts, and a flush that does holds up who vacuums
sql "SELECT made FROM usage_partition_maintain()" >/dev/null
sql "SELECT slug FROM tenant_create('acme')" >/dev/null
as acme "SELECT 1"
is "$(calls acme)" 2 "a transaction of two statements"

# a session that is killed in the middle of a statement
psql -XAtq -d app -c "BEGIN" -c "SELECT tenant_context_set('acme')" -c "SELECT pg_sleep(60)" >/dev/null 2>&1 &
wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" 1
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" >/dev/null
wait
is "$(calls acme)" 4 "those of a session that was killed are counted"
like "$(sql "SELECT elapsed_ms > 10 FROM tenancy.tenant_stat WHERE slug = 'acme'")" t "with the time that they took"

# a flush whose commit nobody would hear of
like "$(psql -XAtq -d app -v VERBOSITY=verbose -c "BEGIN" -c "SELECT usage_flush()" -c "PREPARE TRANSACTION 'flush'" 2>&1)" 0A000 "a flush cannot be prepared"
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT sum(calls) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'acme'")" 4 "and nothing was flushed twice"
as acme "CREATE TEMP TABLE t AS SELECT 1" # a temporary table cannot be prepared, a plain statement can
is "$(calls acme)" 6 "before"
psql -XAtq -d app -o /dev/null -c "CREATE TABLE plain (a integer)" -c "BEGIN" -c "INSERT INTO plain VALUES (1)" -c "PREPARE TRANSACTION 'work'" -c "COMMIT PREPARED 'work'"
like "$(sql "SELECT inserts FROM tenancy.tenant_stat WHERE slug IS NULL")" '^[1-9]' "a prepared transaction is counted when it is prepared"

# a flush does not hold up a vacuum of its table, nor the other way round
coproc FLUSHER { exec psql -XAtq -d app; }
flusher=$FLUSHER_PID
echo "BEGIN; SELECT usage_flush();" >&"${FLUSHER[1]}"
read -r _ <&"${FLUSHER[0]}"
is "$(psql -XAtq -d app -c "SET lock_timeout = '20s'" -c "VACUUM tenancy.usage_hour" -c "SELECT 'done'" 2>&1)" done "a vacuum beside a flush"
like "$(sql "SET lock_timeout = '200ms'; SELECT usage_flush()")" 55P03 "one flush at a time"
echo 'COMMIT; \q' >&"${FLUSHER[1]}"
wait "$flusher"

# two that write hours wait for one another in one order
sql "SELECT count(*) FROM generate_series(1, 6) g, tenant_create('t' || g)" >/dev/null
for i in 1 2 3 4 5 6; do as t$i "SELECT 1"; done
deadlocks=0
for round in 1 2 3 4 5; do
	for i in 1 2 3; do as t$i "SELECT 1"; done
	sql "SELECT usage_flush()" > "$PGHOST.one" & sql "SELECT storage_measure()" > "$PGHOST.two" & wait
	cat "$PGHOST.one" "$PGHOST.two" | grep -q ERROR && deadlocks=$((deadlocks + 1))
done
rm -f "$PGHOST.one" "$PGHOST.two"
is $deadlocks 0 "flushing and measuring at once"

# CPU time of parallel workers
psql -XAtq -d app -o /dev/null <<'SQL'
CREATE TABLE wide AS SELECT g AS a FROM generate_series(1, 500000) g;
GRANT SELECT ON wide TO tenancy_tenant;
ALTER TABLE wide SET (parallel_workers = 2);
ANALYZE wide;
SQL
measure() { # measure WORKERS: CPU milliseconds of one query
	local before after
	before=$(sql "SELECT cpu_ms FROM tenancy.tenant_stat WHERE slug = 'acme'")
	psql -XAtq -d app -o /dev/null -c "SET max_parallel_workers_per_gather = $1; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET parallel_leader_participation = $2" \
		-c "BEGIN" -c "SELECT tenant_context_set('acme')" -c "SELECT sum(sqrt(a) * ln(a)) FROM wide" -c "COMMIT"
	after=$(sql "SELECT cpu_ms FROM tenancy.tenant_stat WHERE slug = 'acme'")
	echo "$after $before" | awk '{ print $1 - $2 }'
}
measure 0 on >/dev/null
alone=$(measure 0 on)
together=$(measure 2 off)
ok "$(echo "$alone $together" | awk '{ print !($2 > 0.6 * $1) }')" "workers' CPU time is counted: $alone ms alone, $together ms by two workers"

# beyond tenancy.max_tenants: counts that are not in the tables go there by way of a file, and
# entries whose counts are make room
sql "SELECT count(*) FROM generate_series(7, 40) g, tenant_create('t' || g)" >/dev/null
sql "SELECT usage_flush()" >/dev/null
before=$(sql "SELECT sum(calls) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id")
for ((i = 7; i <= 40; i++)); do as t$i "SELECT 1"; done
is "$(sql "SELECT used BETWEEN 14 AND 17, evicted > 0, overflow > 0, refused FROM tenancy.meter_read()")" "t|t|t|0" "the memory is full, and says so"
psql -XAtq -d app -o /dev/null -c "BEGIN" -c "SELECT usage_flush()" -c "ROLLBACK"
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT sum(calls) - $before FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id")" 68 "and every call of every tenant is in the tables"
is "$(sql "SELECT count(*) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug ~ '^t([7-9]|[1-4][0-9])$' AND calls = 2 AND rows = 2")" 34 "as its own"
is "$(sql "SELECT sum(statements) FROM tenancy.latency_hour l JOIN tenancy.tenant t ON t.id = l.tenant_id WHERE slug ~ '^t([7-9]|[1-4][0-9])$'")" 68 "and its latencies"
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT sum(calls) - $before FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id")" 68 "once"
is "$(sql "CREATE DATABASE another" postgres)$(sql "CREATE EXTENSION pg_tenancy" another)$(sql "SELECT 1 FROM pg_class LIMIT 1; " another)$(sql "SELECT count(*) FROM tenancy.tenant_stat WHERE slug IS NULL" another)" 11 "another database has its place for work of no tenant"

# a database and an extension that go leave nothing behind
used=$(sql "SELECT used FROM tenancy.meter_read()")
sql "DROP DATABASE another" postgres >/dev/null
is "$(sql "SELECT $used - used FROM tenancy.meter_read()")" 1 "DROP DATABASE"
psql -XAtq -d app -o /dev/null -c "BEGIN" -c "SAVEPOINT a" -c "DROP EXTENSION pg_tenancy CASCADE" -c "ROLLBACK TO a" -c "COMMIT" 2>/dev/null
is "$(sql "SELECT used > 8 FROM tenancy.meter_read()")" t "a DROP EXTENSION that is rolled back forgets nothing"
sql "DROP EXTENSION pg_tenancy CASCADE" >/dev/null
sql "CREATE EXTENSION pg_tenancy" >/dev/null
is "$(sql "SELECT used, (SELECT count(*) FROM tenancy.tenant_stat WHERE tenant_id <> '00000000-0000-0000-0000-000000000000') FROM tenancy.meter_read()")" "0|0" "one that commits forgets all"

# what was flushed survives a crash, once
sql "SELECT slug FROM tenant_create('late')" >/dev/null
as late "SELECT 1"
sql "SELECT usage_flush()" >/dev/null
as late "SELECT 1"
cluster_restart immediate
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT sum(calls) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'late'")" 2 "a crash loses what was not flushed, and repeats nothing"
done_testing
