#!/bin/bash
# 64 tenants, another in each transaction: entering against SET LOCAL ROLE and search_path
#
# The same roles, schemas and prepared reads on both sides; what a new search path costs
# PostgreSQL itself (planning again) is on both.  Throughput, so more than 1.00 is "cheaper".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
seconds=${SECONDS_PER_ROUND:-3}

bench_cluster switch --set tenancy.workers=off --set max_locks_per_transaction=512
on switch psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE SCHEMA portal;
CREATE TABLE portal.item (id integer PRIMARY KEY, body text);
SELECT template_create('portal', 'portal');
SELECT format('SELECT slug FROM tenant_create(%L, template => ''portal'')', 't' || g) FROM generate_series(1, 64) g \gexec
SELECT format('INSERT INTO %I.item SELECT g, md5(g::text) FROM generate_series(1, 1000) g', schema_name), format('GRANT %I TO app', role_name) FROM tenancy.tenant \gexec
VACUUM ANALYZE;
SQL
# The other side is a database without the extension: the same schemas and roles, no hooks at work.
on switch psql -Xq -d postgres -c "CREATE DATABASE plain" >/dev/null
on switch bash -c 'pg_dump -n "t_*" app | psql -Xq plain' >/dev/null
on switch psql -Xq plain -c "VACUUM ANALYZE" >/dev/null
mapfile -t tenants < <(on switch psql -XAtqc "SELECT id || ' ' || quote_ident(role_name) FROM tenancy.tenant ORDER BY slug")
rm -f "$bench_dir"/enter.*.sql "$bench_dir"/set.*.sql
for ((i = 0; i < ${#tenants[@]}; i++)); do
	read -r id role <<< "${tenants[$i]}"
	reads=$(for _ in 1 2 3; do printf '%s\n' '\set id random(1, 1000)' 'SELECT body FROM item WHERE id = :id;'; done)
	printf '%s\n' "BEGIN;" "SELECT tenant_context_set('$id');" "$reads" "COMMIT;" > "$bench_dir/enter.$i.sql"
	printf '%s\n' "BEGIN;" "SET LOCAL ROLE $role;" "SET LOCAL search_path = $role, public;" "$reads" "COMMIT;" > "$bench_dir/set.$i.sql"
done
tps() { # tps PREFIX DATABASE
	local files=()
	for ((i = 0; i < ${#tenants[@]}; i++)); do files+=(-f "$bench_dir/$1.$i.sql"); done
	on switch env PGUSER=app pgbench -n -M prepared -c 1 -T "$seconds" "${files[@]}" "$2" 2>/dev/null | awk '/^tps/ { print $3 }'
}
enter() { tps enter app; }
set_role() { tps set plain; }
again() { tps set plain; }
interleave 1 enter set_role
interleave "$rounds" again set_role
echo "A/A    ratio=$(ratio again set_role)"
interleave "$rounds" enter set_role
echo "transactions per second: entering $(median < "$bench_dir/enter.txt"), SET $(median < "$bench_dir/set_role.txt")"
echo "switch ratio=$(ratio enter set_role)"
