#!/bin/bash
# What the install script makes keeps its rules, and the documentation says what the server says.
. "$(dirname "$0")/../tap/lib.sh"
cluster_start --set tenancy.workers=off

member="FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND d.deptype = 'e' AND e.extname = 'pg_tenancy'"
none() { is "$(sql "$1")" "" "$2"; }
none "SELECT p.oid::regprocedure $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE obj_description(p.oid, 'pg_proc') IS NULL" "every function has a comment"
none "SELECT p.oid::regprocedure $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE p.proacl IS NULL" "and explicit grants"
none "SELECT p.oid::regprocedure $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE p.prorettype = 'void'::regtype" "none returns void"
none "SELECT p.proname $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid GROUP BY 1 HAVING count(*) > 1" "none is overloaded"
none "SELECT p.oid::regprocedure $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname NOT IN ('c', 'sql')" "all are in C, or SQL"
none "SELECT p.oid::regprocedure $member JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid WHERE p.prosecdef" "none is SECURITY DEFINER"
none "SELECT c.oid::regclass $member JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid WHERE obj_description(c.oid, 'pg_class') IS NULL" "every table and view has a comment"
none "SELECT c.oid::regclass $member JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p') AND c.relreplident <> 'f'" "every table has a primary key, or says that a whole row is one"
none "SELECT c.oid::regclass $member JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid WHERE c.relkind = 'r' AND NOT c.oid = ANY (e.extconfig) AND obj_description(c.oid, 'pg_class') NOT LIKE '% Not dumped.'" "every table's rows are dumped, or its comment says that they are not"
none "SELECT c.oid::regclass $member JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid JOIN pg_constraint k ON k.conrelid = c.oid AND k.coninhcount = 0 WHERE k.conname !~ ('^' || c.relname)" "every constraint is named"
none "SELECT c.oid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'tenancy'::regnamespace AND a.atttypid = 'regtenant'::regtype" "no column has type regtenant"
none "SELECT t.oid::regtype $member JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid WHERE t.typtype <> 'c' AND t.typcategory <> 'A' AND obj_description(t.oid, 'pg_type') IS NULL" "every type has a comment"
none "SELECT name FROM pg_settings WHERE name LIKE 'tenancy.%' AND (short_desc IS NULL OR extra_desc IS NULL OR context = 'user')" "every setting says what and when, and none is for everybody"
none "SELECT tgrelid::regclass || '.' || tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'tenancy'::regnamespace AND NOT tgisinternal AND tgenabled <> 'A' AND c.relkind <> 'v'" "our triggers always fire"

mkdir "$PGHOST.docs"
"$top/test/docs" "$PGHOST.docs"
for page in functions settings states; do
	diff "$top/doc/$page.md" "$PGHOST.docs/$page.md" > "$PGHOST.docs/diff"
	ok $? "doc/$page.md is what test/docs writes"
	head -n 10 "$PGHOST.docs/diff" | sed 's/^/# /'
done
rm -r "$PGHOST.docs"

is "$(psql -XAtq -v document="$(cat "$top/META.json")" <<< "SELECT :'document'::json->>'name'")" pg_tenancy "META.json is JSON"

# the extension in a schema of its own, and in one that is open to everybody
is "$(sql "CREATE DATABASE elsewhere" postgres)$(sql "CREATE SCHEMA saas; CREATE EXTENSION pg_tenancy SCHEMA saas; SELECT slug FROM saas.tenant_create('acme'); SELECT count(*) > 80 FROM tenancy.gate_check()" elsewhere)" "acme
t" "the extension in a schema of its own"
is "$(sql "BEGIN; SELECT saas.tenant_context_set('acme') IS NULL; SELECT current_tenant()::text; COMMIT" elsewhere)" "f
acme" "whose functions a tenant finds"
sql "CREATE DATABASE open" postgres >/dev/null
like "$(sql "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE EXTENSION pg_tenancy" open)" 42501 "a schema where everybody may create is refused"
like "$(sql "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE FUNCTION public.tenant_get(uuid) RETURNS integer LANGUAGE sql AS 'SELECT 1'; CREATE EXTENSION pg_tenancy; SELECT 1" open)" 1 "a function of another signature is none of ours"
done_testing
