#!/bin/bash
# A tenant's schema is what pg_dump would carry of its template: the two dumps are equal
# when the names of schema and roles are.
. "$(dirname "$0")/lib.sh"
cluster_start

# One dump with the names replaced by placeholders, statements in a fixed order: pg_dump
# sorts some by name of the schema or by oid.
#
# The template's own name is replaced in both: a table of that name is a legal alias, and
# what a comment says is left alone.  That no reference to the template stays is tested by
# dropping it.
normalised() { # normalised SCHEMA OWNER ROLE TEMPLATE
	pg_dump --schema-only --no-sync -n "$1" app |
		sed -e '/^--/d' -e '/^\\\(un\)\{0,1\}restrict/d' -e '/^SET /d' -e '/^SELECT pg_catalog.set_config/d' \
			-e "s/\\b$1\\./SCHEMA./g" -e "s/\\b$4\\./SCHEMA./g" -e "s/SCHEMA $1\\b/SCHEMA NAME/g" -e "s/'$1'/'SCHEMA'/g" \
			-e "s/\\b$2\\b/OWNER/g" -e "s/\\b$3\\b/ROLE/g" |
		perl -00 -e 'print sort map { s/\n+\z/\n\n/r } <>'
}

same_dump() { # same_dump TEMPLATE SCHEMA SLUG TEMPLATE_OWNER NAME
	local tenant=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = '$3'")
	normalised "$2" "$4" tenancy_tenant "$2" > "$PGHOST.template"
	normalised "$tenant" "o_${tenant#t_}" "$tenant" "$2" > "$PGHOST.tenant"
	# The tenant may use its schema; where the template grants nothing it may use what is in it.
	diff <(clean < "$PGHOST.template") <(clean < "$PGHOST.tenant") > "$PGHOST.diff" &&
		[ "$(grep -c '^CREATE ' "$PGHOST.tenant")" -gt 10 ]
	ok $? "$5"
	head -n 60 "$PGHOST.diff" | sed 's/^/# /'
	rm -f "$PGHOST".{template,tenant,diff}
}

clean() { grep -vE '^GRANT USAGE ON SCHEMA NAME TO ROLE|^$'; }

psql -Xq -v ON_ERROR_STOP=1 -f "$top/test/tap/hostile_template.sql" app 2>&1 | sed 's/^/# /'
is "$(sql "SELECT name FROM template_create('portal', 'portal')")" portal "a schema with everything becomes a template"
is "$(sql "SELECT slug FROM tenant_create('acme', template => 'portal')")" acme "a tenant is made of it"
same_dump portal portal acme template_owner "the dumps of template and tenant are equal"
is "$(sql "SELECT template_is_stale('portal')")" f "capturing again finds nothing new"

tenant=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'acme'")
is "$(sql "INSERT INTO $tenant.entities (ref, namespace) VALUES ('r', 'n'), ('s', 'n'); SELECT $tenant.count_entities('API'), $tenant.atomic(1), (SELECT count(*) FROM $tenant.rows_of()), (SELECT count(*) FROM portal.entities)")" \
	"2|3|2|0" "functions of a tenant read its own tables"
is "$(sql "SELECT pg_get_serial_sequence('$tenant.entities', 'number'), pg_get_serial_sequence('$tenant.pg_class', 'id')")" \
	"$tenant.entities_number_seq|$tenant.pg_class_id_seq" "columns own the sequences of their schema"
sql "ALTER SCHEMA portal RENAME TO gone" >/dev/null
is "$(sql "SELECT $tenant.count_entities('API'), $tenant.atomic(1), (SELECT count(*) FROM $tenant.rows_of()), (SELECT count(*) FROM $tenant.as_table()), (SELECT n FROM $tenant.counts)")" \
	"2|3|2|0|" "and do not need the template"
sql "ALTER SCHEMA gone RENAME TO portal" >/dev/null
is "$(sql "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = '$tenant' AND c.relowner <> 'o_${tenant#t_}'::regrole")" 0 "everything belongs to the tenant's owner"
is "$(sql "SELECT count(*) FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
	JOIN pg_class r ON d.refclassid = 'pg_class'::regclass AND r.oid = d.refobjid
	WHERE c.relnamespace = '$tenant'::regnamespace AND r.relnamespace = 'portal'::regnamespace")" 0 \
	"nothing of the tenant depends on the template"
sql "ALTER TABLE portal.entities ADD COLUMN more text" >/dev/null
is "$(sql "SELECT template_is_stale('portal')")" t "a changed template is noticed"
is "$(sql "SELECT statement_count > 0 FROM template_refresh('portal')")" t "and captured again"
like "$(sql "SELECT template_drop('portal')")" 2BP01 "a template in use is not dropped"

for what in "CREATE OPERATOR odd.=== (FUNCTION = int4eq, LEFTARG = integer, RIGHTARG = integer)" \
	"CREATE COLLATION odd.c (LOCALE = 'C')" "CREATE TEXT SEARCH CONFIGURATION odd.t (COPY = simple)" \
	"CREATE AGGREGATE odd.s (integer) (SFUNC = int4pl, STYPE = integer)"; do
	sql "DROP SCHEMA IF EXISTS odd CASCADE; CREATE SCHEMA odd; $what" >/dev/null
	like "$(sql "SELECT template_create('odd', 'odd')")" 0A000 "refused, by name: ${what%% odd*}"
done
sql "CREATE SCHEMA speaks; CREATE FUNCTION speaks.f() RETURNS text LANGUAGE sql AS 'SELECT ''see speaks.x here'''" >/dev/null
like "$(sql "SELECT template_create('speaks', 'speaks')")" "mentions schema" "a literal that mentions the schema is warned about"

shared=$top/../shared/data/backstage
if [ -d "$shared" ]; then
	for file in schema schema_full_catalog_plugin schema_one_tenant_4_plugins; do
		sql "DROP SCHEMA IF EXISTS catalog CASCADE" >/dev/null
		psql -Xq -f "$shared/$file.sql" app >/dev/null 2>&1
		schema=$(sed -n 's/^CREATE SCHEMA \(.*\);/\1/p' "$shared/$file.sql" | head -n 1)
		slug=${file//_/-}
		is "$(sql "SELECT (template_create('$file', '$schema')).name")" "$file" "Backstage's $file is a template"
		is "$(sql "SELECT slug FROM tenant_create('$slug', template => '$file')")" "$slug" "a tenant is made of it"
		# No grants in there: the tenant's own are the only difference.
		tenant_grants='^GRANT .* TO ROLE;$'
		clean() { grep -vE "$tenant_grants|^\$"; }
		same_dump "$file" "$schema" "$slug" postgres "the dumps are equal"
		sql "DROP SCHEMA $schema CASCADE" >/dev/null
	done
else
	echo "# SKIP Backstage's schemas: ../shared is not there"
fi
done_testing
