#!/bin/bash
# making a tenant from a template of 20 tables, against its DDL sent as one psql script
#
# The template has keys, two more indexes a table, 10 foreign keys, 5 views, 3 functions
# and 2 triggers.  Time per tenant, so below 1.00 is faster than the script.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-20}

bench_cluster loaded
{
	for ((i = 1; i <= 20; i++)); do
		echo "CREATE TABLE %s.t$i (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a integer NOT NULL DEFAULT 0,
			b text, c timestamptz DEFAULT now(), parent bigint);
			CREATE INDEX t${i}_a ON %s.t$i (a); CREATE INDEX t${i}_b ON %s.t$i (b, c);"
	done
	for ((i = 1; i <= 10; i++)); do
		echo "ALTER TABLE %s.t$((i + 10)) ADD FOREIGN KEY (parent) REFERENCES %s.t$i;"
	done
	for ((i = 1; i <= 5; i++)); do
		echo "CREATE VIEW %s.v$i AS SELECT x.id, y.b FROM %s.t$i x JOIN %s.t$((i + 10)) y ON y.parent = x.id;"
	done
	for ((i = 1; i <= 3; i++)); do
		echo "CREATE FUNCTION %s.f$i() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
	done
	echo "CREATE TRIGGER r1 BEFORE INSERT ON %s.t1 FOR EACH ROW EXECUTE FUNCTION %s.f1();"
	echo "CREATE TRIGGER r2 BEFORE INSERT ON %s.t2 FOR EACH ROW EXECUTE FUNCTION %s.f2();"
} > "$bench_dir/structure"
{ echo "CREATE SCHEMA template;"; sed 's/%s/template/g' "$bench_dir/structure"; } | on loaded psql -Xq -1
on loaded psql -Xqc "SELECT name FROM template_create('bench', 'template')" >/dev/null

count=0
milliseconds() { # milliseconds COMMAND...
	local started=$(date +%s%N)
	"$@" >/dev/null
	echo $((($(date +%s%N) - started) / 1000))
}
function_side() {
	count=$((count + 1))
	milliseconds on loaded psql -Xqc "SELECT slug FROM tenant_create('f$RANDOM$RANDOM', template => 'bench')"
}
script_side() {
	local schema=s$RANDOM$RANDOM
	{
		echo "CREATE ROLE $schema; CREATE ROLE o_$schema; CREATE SCHEMA $schema AUTHORIZATION o_$schema; SET ROLE o_$schema;"
		sed "s/%s/$schema/g" "$bench_dir/structure"
		echo "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA $schema TO $schema;"
		echo "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA $schema TO $schema;"
	} > "$bench_dir/script.sql"
	milliseconds on loaded psql -Xq -1 -f "$bench_dir/script.sql"
}
interleave 2 function_side script_side # warm
interleave "$rounds" function_side script_side
echo "per tenant: function $(median < "$bench_dir/function_side.txt") µs, script $(median < "$bench_dir/script_side.txt") µs"
echo "tenant_create ratio=$(ratio function_side script_side)"
