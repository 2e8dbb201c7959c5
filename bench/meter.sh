#!/bin/bash
# pgbench select-only, prepared, 2 clients: library loaded and metering in full, against library not loaded
#
# The ratio is that of throughput, so 1.00 is "costs nothing", and pg_stat_statements alone is measured
# in the same run.  Then READS reads within a transaction that enters a tenant first, against
# transactions of a server without the library: one that reads, and one that sets by hand the role, the
# search path and the statement timeout that a tenant gets.  What those cost is PostgreSQL's own price.
# On a machine that does other things, bench/run meter_instructions decides.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-16}
seconds=${SECONDS_PER_ROUND:-3}
reads=${READS:-200}

bench_cluster loaded
bench_cluster bare --no-library --no-extension
bench_cluster stats --no-library --no-extension --preload pg_stat_statements

structure="CREATE TABLE %s.accounts AS SELECT g AS aid, 0 AS abalance, repeat('x', 84) AS filler
	FROM generate_series(1, 100000) g; ALTER TABLE %s.accounts ADD PRIMARY KEY (aid);"
for side in bare stats; do
	on $side psql -Xqc "${structure//%s/public}" -c "CREATE ROLE app LOGIN" -c "GRANT SELECT ON accounts TO app"
done
on stats psql -Xqc "CREATE EXTENSION pg_stat_statements" -c "VACUUM ANALYZE"
on bare psql -Xqc "CREATE SCHEMA tenant" -c "${structure//%s/tenant}" -c "CREATE ROLE tenant ROLE app" \
	-c "GRANT USAGE ON SCHEMA tenant TO tenant" -c "GRANT SELECT ON tenant.accounts TO tenant" -c "VACUUM ANALYZE"
on loaded psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('bench');
SELECT format(\$\$${structure}\$\$, schema_name, schema_name) FROM tenancy.tenant \gexec
SELECT format('GRANT SELECT ON %I.accounts TO %I', schema_name, role_name) FROM tenancy.tenant \gexec
SQL
on loaded psql -Xqc "${structure//%s/public}" -c "GRANT SELECT ON accounts TO app" -c "VACUUM ANALYZE"

timeout=$(on loaded psql -XAtqc "SELECT value FROM tenancy.ceiling WHERE setting = 'statement_timeout' AND plan = '*' ORDER BY shipped LIMIT 1")
printf '\\set aid random(1, 100000)\nSELECT abalance FROM accounts WHERE aid = :aid;\n' > "$bench_dir/one.sql"
transaction() { # transaction STATEMENT...: these first, then the reads
	echo "BEGIN;"
	[ $# -eq 0 ] || printf '%s;\n' "$@"
	for ((i = 0; i < reads; i++)); do cat "$bench_dir/one.sql"; done
	echo "COMMIT;"
}
transaction > "$bench_dir/plain.sql"
transaction "SELECT tenant_context_set('bench')" > "$bench_dir/entered.sql"
transaction "SET LOCAL ROLE tenant" "SET LOCAL search_path = tenant, public" \
	"SET LOCAL statement_timeout = '$timeout'" > "$bench_dir/by_hand.sql"

tps() { # tps SIDE SCRIPT
	on "$1" env PGUSER=app pgbench -n -M prepared -c 2 -j 2 -T "$seconds" -f "$bench_dir/$2.sql" app 2>/dev/null |
		awk '/^tps/ { print $3 }'
}
loaded() { tps loaded one; }
bare() { tps bare one; }
again() { tps bare one; }
stats() { tps stats one; }
entered() { tps loaded entered; }
plain() { tps bare plain; }
by_hand() { tps bare by_hand; }

interleave 2 loaded bare # warm
interleave "$rounds" bare again
echo "A/A       ratio=$(ratio again bare)"
interleave "$rounds" stats bare
echo "pg_stat_statements ratio=$(ratio stats bare)"
interleave 2 entered by_hand # warm
interleave "$rounds" entered by_hand
echo "$reads reads in a tenant, against role, path and timeout by hand ratio=$(ratio entered by_hand)"
interleave "$rounds" entered plain
echo "$reads reads in a tenant, against reads alone ratio=$(ratio entered plain)"
interleave "$rounds" loaded bare
echo "reads per second: loaded $(median < "$bench_dir/loaded.txt"), bare $(median < "$bench_dir/bare.txt")"
echo "meter ratio=$(ratio loaded bare)"
