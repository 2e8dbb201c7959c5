#!/bin/bash
# Known work, by pgbench: calls and rows are exact, WAL is what the server says, CPU time is that
# of the processes; what is no tenant's is shown as that.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set autovacuum=off --set wal_level=minimal --set max_wal_senders=0 --set checkpoint_timeout=1h

psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('acme');
SELECT slug FROM tenant_create('globex');
CREATE TABLE item (id integer PRIMARY KEY, n integer);
INSERT INTO item SELECT g, 0 FROM generate_series(1, 1000) g;
GRANT ALL ON item TO tenancy_tenant;
VACUUM ANALYZE item;
SQL
for slug in acme globex; do
	cat > "$PGHOST.$slug" <<SQL
\set id random(1, 990)
BEGIN;
SELECT tenant_context_set('$slug');
SELECT n FROM item WHERE id BETWEEN :id AND :id + 2;
UPDATE item SET n = n + 1 WHERE id = :id;
COMMIT;
SQL
done
# clients take turns of unequal length: 3 x 200 of acme, 2 x 100 of globex
counts="SELECT string_agg(format('%s %s %s %s %s', slug, selects, updates, rows, rows_written), ', ' ORDER BY slug) FROM tenancy.tenant_stat WHERE slug IS NOT NULL"
wal="SELECT (SELECT wal_bytes FROM pg_stat_wal) - (SELECT sum(wal_bytes) FROM tenancy.tenant_stat)"
# a session's share is with the server when it is gone
settle() { wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'" 1; }
sql "$wal" >/dev/null
settle
before=$(sql "$wal")
PGUSER=app pgbench -n -M prepared -c 3 -t 200 -f "$PGHOST.acme" app >/dev/null 2>&1 &
PGUSER=app pgbench -n -M simple -c 2 -t 100 -f "$PGHOST.globex" app >/dev/null 2>&1
wait
rm -f "$PGHOST.acme" "$PGHOST.globex"
# a transaction is 2 selects of 1 and 3 rows, and an update of one
is "$(sql "$counts")" "acme 1200 600 3000 600, globex 400 200 1000 200" "calls and rows"
is "$(sql "SELECT string_agg(format('%s %s', slug, commits), ', ' ORDER BY slug) FROM tenancy.tenant_stat WHERE slug IS NOT NULL")" "acme 600, globex 200" "transactions"
is "$(sql "SELECT string_agg(format('%s %s', slug, statements), ', ' ORDER BY slug) FROM tenancy.tenant_latency WHERE slug IS NOT NULL")" "acme 1800, globex 600" "and latencies"
settle
is "$(($(sql "$wal") - before))" 0 "every byte of WAL that backends inserted is somebody's"
is "$(sql "SELECT wal_bytes > 600 * 50 FROM tenancy.tenant_stat WHERE slug = 'acme'")" t "or nobody's, which is not most of it"

# the CPU time that the kernel gives the process, and that of all entries
psql -XAtq app > "$PGHOST.cpu" <<'SQL'
SELECT 1 \g /dev/null
SELECT pg_sleep(0.002) \g /dev/null
SELECT split_part(pg_read_file('/proc/self/schedstat', 0, 100), ' ', 1)::bigint / 1000000.0 AS process \gset
SELECT sum(cpu_ms) AS counted FROM tenancy.tenant_stat \gset
SELECT format('BEGIN; SELECT tenant_context_set(%L); SELECT sum(sqrt(g)) FROM generate_series(1, 200000) g; COMMIT', CASE g % 2 WHEN 0 THEN 'acme' ELSE 'globex' END) FROM generate_series(1, 30) g \gexec
SELECT pg_sleep(0.002) \g /dev/null
SELECT round((sum(cpu_ms) - :counted)::numeric, 1) AS counted FROM tenancy.tenant_stat \gset
SELECT round(split_part(pg_read_file('/proc/self/schedstat', 0, 100), ' ', 1)::bigint / 1000000.0 - :process, 1) AS process \gset
SELECT abs(:counted / :process - 1) < 0.02, :counted, :process;
SQL
like "$(tail -n 1 "$PGHOST.cpu")" '^t' "CPU time within 2 %: $(tail -n 1 "$PGHOST.cpu")"
rm -f "$PGHOST.cpu"
is "$(sql "SELECT count(*) FROM tenancy.tenant_stat WHERE slug IS NULL AND calls > 0 AND cpu_ms > 0")" 1 "what is no tenant's is shown"
done_testing
