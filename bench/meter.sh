#!/bin/bash
# pgbench select-only, 2 clients: library loaded and a tenant entered, against library not loaded
#
# All sides run the same 1000 prepared point reads in one transaction; ours enters a
# tenant first, and meters in full.  Throughput, so 1.00 is "costs nothing".  Then the same reads
# each in a transaction of its own, without a tenant.  pg_stat_statements alone, for comparison.
# On a machine that does other things, bench/run meter_instructions decides.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-16}
seconds=${SECONDS_PER_ROUND:-3}

bench_cluster loaded
bench_cluster bare --no-library --no-extension
bench_cluster stats --no-library --no-extension --preload pg_stat_statements

structure="CREATE TABLE %s.accounts AS SELECT g AS aid, 0 AS abalance, repeat('x', 84) AS filler
	FROM generate_series(1, 100000) g; ALTER TABLE %s.accounts ADD PRIMARY KEY (aid);"
for side in bare stats; do
	on $side psql -Xqc "${structure//%s/public}" -c "VACUUM ANALYZE" -c "CREATE ROLE app LOGIN" \
		-c "GRANT SELECT ON accounts TO app"
done
on stats psql -Xqc "CREATE EXTENSION pg_stat_statements"
on loaded psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('bench');
SELECT format(\$\$${structure}\$\$, schema_name, schema_name) FROM tenancy.tenant \gexec
SELECT format('GRANT SELECT ON %I.accounts TO %I', schema_name, role_name) FROM tenancy.tenant \gexec
SQL
on loaded psql -Xqc "${structure//%s/public}" -c "GRANT SELECT ON accounts TO app" -c "VACUUM ANALYZE"
printf '\\set aid random(1, 100000)\nSELECT abalance FROM accounts WHERE aid = :aid;\n' > "$bench_dir/one.sql"

{
	echo "BEGIN;"
	echo "%ENTER%"
	for ((i = 0; i < 1000; i++)); do
		echo '\set aid random(1, 100000)'
		echo 'SELECT abalance FROM accounts WHERE aid = :aid;'
	done
	echo "COMMIT;"
} > "$bench_dir/script"
sed '/%ENTER%/d' "$bench_dir/script" > "$bench_dir/bare.sql"
cp "$bench_dir/bare.sql" "$bench_dir/stats.sql"
sed "s/%ENTER%/SELECT tenant_context_set('bench');/" "$bench_dir/script" > "$bench_dir/loaded.sql"

tps() { # tps SIDE
	on "$1" env PGUSER=app pgbench -n -M prepared -c 2 -j 2 -T "$seconds" -f "$bench_dir/$1.sql" app 2>/dev/null |
		awk '/^tps/ { print $3 * 1000 }'
}
single() { # single SIDE: each read in a transaction of its own
	on "$1" env PGUSER=app pgbench -n -M prepared -c 2 -j 2 -T "$seconds" -f "$bench_dir/one.sql" app 2>/dev/null |
		awk '/^tps/ { print $3 }'
}
loaded() { tps loaded; }
bare() { tps bare; }
again() { tps bare; }
stats() { tps stats; }
loaded_single() { single loaded; }
bare_single() { single bare; }

interleave 2 loaded bare # warm
interleave "$rounds" bare again
echo "A/A       ratio=$(ratio again bare)"
interleave "$rounds" stats bare
echo "pg_stat_statements ratio=$(ratio stats bare)"
interleave "$rounds" loaded_single bare_single
echo "autocommit ratio=$(ratio loaded_single bare_single)"
interleave "$rounds" loaded bare
echo "statements per second: loaded $(median < "$bench_dir/loaded.txt"), bare $(median < "$bench_dir/bare.txt")"
echo "meter ratio=$(ratio loaded bare)"
