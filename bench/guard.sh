#!/bin/bash
# pgbench select-only on a tenant's table, entered: guard on against off
#
# Both sides have the library loaded.  "Off" is a database without the extension, where every
# hook stands aside: the same reads by a role of the same rights.  Throughput, so 1.00 is
# "costs nothing".  Metering is off on both sides.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-16}
seconds=${SECONDS_PER_ROUND:-3}

bench_cluster guarded --set tenancy.metering=off --set tenancy.workers=off
on guarded psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE DATABASE plain;
SELECT slug FROM tenant_create('bench');
SELECT format('CREATE TABLE %I.accounts AS SELECT g AS aid, 0 AS abalance, repeat(''x'', 84) AS filler
	FROM generate_series(1, 100000) g', schema_name), format('ALTER TABLE %I.accounts ADD PRIMARY KEY (aid)', schema_name),
	format('GRANT SELECT ON %I.accounts TO %I', schema_name, role_name) FROM tenancy.tenant \gexec
VACUUM ANALYZE;
\c plain
CREATE TABLE accounts AS SELECT g AS aid, 0 AS abalance, repeat('x', 84) AS filler FROM generate_series(1, 100000) g;
ALTER TABLE accounts ADD PRIMARY KEY (aid);
GRANT SELECT ON accounts TO app;
VACUUM ANALYZE;
SQL

script() { # script ENTRY
	echo "BEGIN;"
	echo "$1"
	for ((i = 0; i < 1000; i++)); do
		echo '\set aid random(1, 100000)'
		echo 'SELECT abalance FROM accounts WHERE aid = :aid;'
	done
	echo "COMMIT;"
}
script "SELECT tenant_context_set('bench');" > "$bench_dir/guarded.sql"
script "SELECT 1;" > "$bench_dir/plain.sql"

tps() { # tps SCRIPT DATABASE
	on guarded env PGUSER=app pgbench -n -M prepared -c 1 -T "$seconds" -f "$bench_dir/$1.sql" "$2" 2>/dev/null |
		awk '/^tps/ { print $3 * 1000 }'
}
guarded() { tps guarded app; }
plain() { tps plain plain; }
again() { tps plain plain; }

interleave 2 guarded plain # warm
interleave "$rounds" plain again
echo "A/A       ratio=$(ratio again plain)"
interleave "$rounds" guarded plain
echo "statements per second: guarded $(median < "$bench_dir/guarded.txt"), plain $(median < "$bench_dir/plain.txt")"
echo "guard ratio=$(ratio guarded plain)"
