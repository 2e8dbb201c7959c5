#!/bin/bash
# a shared table of 1 million rows under its policy, against a constant predicate
#
# Two tenants own half of the rows each.  Time, so 1.00 is "costs nothing": a scan of all
# rows, and 1000 prepared point reads through the key.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-16}

bench_cluster loaded --set max_parallel_workers_per_gather=0 --set jit=off
on loaded psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
SELECT slug FROM tenant_create('a', isolation => 'pool');
SELECT slug FROM tenant_create('b', isolation => 'pool');
-- a column of another name: the guard refuses tables with a tenant_id that are not registered
CREATE TABLE plain (owner_id uuid NOT NULL, id bigint NOT NULL, body text, PRIMARY KEY (owner_id, id));
INSERT INTO plain SELECT t.id, g, repeat('x', 40) FROM generate_series(1, 500000) g, tenancy.tenant t ORDER BY g;
CREATE TABLE shared (tenant_id uuid NOT NULL, id bigint NOT NULL, body text, PRIMARY KEY (tenant_id, id));
INSERT INTO shared SELECT * FROM plain;
SELECT relation FROM tenant_table_register('shared');
GRANT SELECT ON plain TO tenancy_tenant;
SQL
on loaded psql -Xqc "VACUUM ANALYZE"
id=$(on loaded psql -XAtqc "SELECT id FROM tenancy.tenant WHERE slug = 'a'")

script() { # script TABLE PREDICATE KIND
	echo "BEGIN;"
	echo "SELECT tenant_context_set('a');"
	if [ "$3" = scan ]; then
		echo "SELECT count(*) FROM $1 WHERE ${2}body <> 'y';"
	else
		for ((i = 0; i < 1000; i++)); do
			echo '\set id random(1, 500000)'
			echo "SELECT body FROM $1 WHERE ${2}id = :id;"
		done
	fi
	echo "COMMIT;"
}
for kind in scan point; do
	script shared "" $kind > "$bench_dir/policy_$kind.sql"
	script plain "owner_id = '$id' AND " $kind > "$bench_dir/constant_$kind.sql"
done

latency() { # latency FILE TRANSACTIONS
	on loaded pgbench -n -M prepared -c 1 -t "$2" -f "$bench_dir/$1.sql" app 2>/dev/null |
		awk '/^latency average/ { print $4 }'
}
policy_scan() { latency policy_scan 8; }
constant_scan() { latency constant_scan 8; }
policy_point() { latency policy_point 20; }
constant_point() { latency constant_point 20; }
again_point() { latency constant_point 20; }

interleave 2 policy_scan constant_scan # warm
interleave "$rounds" constant_point again_point
echo "A/A point ratio=$(ratio again_point constant_point)"
interleave "$rounds" policy_scan constant_scan
interleave "$rounds" policy_point constant_point
echo "scan: policy $(median < "$bench_dir/policy_scan.txt") ms, constant $(median < "$bench_dir/constant_scan.txt") ms"
echo "rls ratio=$(ratio policy_scan constant_scan) point=$(ratio policy_point constant_point)"
