#!/bin/bash
# 64 tenants, another in each transaction: entering against SET LOCAL ROLE and search_path
#
# The other side is a database without the extension, with roles, schemas, tables and grants like
# those of the tenants.  Three reads a transaction; all is prepared, each tenant's for itself, and plans
# are generic from the beginning, as they become in a session that lives long: planning would hide what
# is measured.  Throughput, so more than 1.00 is "cheaper".  The second ratio is with the statement
# timeout set by hand, too, which a tenant gets.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-16}
seconds=${SECONDS_PER_ROUND:-3}

bench_cluster switch --set tenancy.workers=off --set max_locks_per_transaction=512
on switch psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE SCHEMA portal;
CREATE TABLE portal.item (id integer PRIMARY KEY, body text);
SELECT template_create('portal', 'portal');
SELECT format('SELECT slug FROM tenant_create(%L, template => ''portal'')', 't' || g) FROM generate_series(1, 64) g \gexec
SELECT format('INSERT INTO %I.item SELECT g, md5(g::text) FROM generate_series(1, 1000) g', schema_name) FROM tenancy.tenant \gexec
VACUUM ANALYZE;
CREATE DATABASE plain;
SQL
on switch psql -Xq -d plain -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
SELECT format('CREATE ROLE %1$I ROLE app; CREATE SCHEMA %1$I; GRANT USAGE ON SCHEMA %1$I TO %1$I; CREATE TABLE %1$I.item (id integer PRIMARY KEY, body text); INSERT INTO %1$I.item SELECT g, md5(g::text) FROM generate_series(1, 1000) g; GRANT SELECT, INSERT, UPDATE, DELETE ON %1$I.item TO %1$I', 't' || g) FROM generate_series(1, 64) g \gexec
VACUUM ANALYZE;
SQL
timeout=$(on switch psql -XAtqc "SELECT value FROM tenancy.ceiling WHERE setting = 'statement_timeout' AND plan = '*' ORDER BY shipped LIMIT 1")

script() { # script NAME N STATEMENT...
	{
		echo 'BEGIN;'
		printf '%s;\n' "${@:3}"
		for _ in 1 2 3; do printf '%s\n' '\set id random(1, 1000)' 'SELECT body FROM item WHERE id = :id;'; done
		echo 'COMMIT;'
	} > "$bench_dir/$1.$2.sql"
}
for n in {1..64}; do
	script enter "$n" "SELECT tenant_context_set('t$n')"
	script set "$n" "SET LOCAL ROLE t$n" "SET LOCAL search_path = t$n, public"
	script timed "$n" "SET LOCAL ROLE t$n" "SET LOCAL search_path = t$n, public" "SET LOCAL statement_timeout = '$timeout'"
done
tps() { # tps SCRIPT DATABASE
	on switch env PGUSER=app PGOPTIONS="-c plan_cache_mode=force_generic_plan" pgbench -n -M prepared -c 2 -j 2 -T "$seconds" \
		$(printf -- "-f $bench_dir/$1.%d.sql " {1..64}) "$2" 2>/dev/null | awk '/^tps/ { print $3 }'
}
enter() { tps enter app; }
set_role() { tps set plain; }
set_timeout() { tps timed plain; }
again() { tps set plain; }
interleave 1 enter set_role
interleave "$rounds" again set_role
echo "A/A    ratio=$(ratio again set_role)"
interleave "$rounds" enter set_timeout
echo "against role, path and timeout by hand ratio=$(ratio enter set_timeout)"
interleave "$rounds" enter set_role
echo "transactions per second: entering $(median < "$bench_dir/enter.txt"), SET $(median < "$bench_dir/set_role.txt")"
echo "switch ratio=$(ratio enter set_role)"
