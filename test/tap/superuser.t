#!/bin/bash
# A superuser who comes upon what a tenant has made does not run it.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
sql "SELECT slug FROM tenant_create('owning', owns_ddl => true); SELECT slug FROM tenant_create('plain'); SELECT slug FROM tenant_create('pool', isolation => 'pool')" >/dev/null
role=$(sql "SELECT role_name FROM tenancy.tenant WHERE slug = 'owning'")
sql "CREATE ROLE bi LOGIN; CREATE ROLE pooled LOGIN; SELECT role_name FROM tenant_login_bind('bi', 'owning'); SELECT role_name FROM tenant_login_bind('pooled', 'pool')" >/dev/null
# What the tenant leaves needs its session, for temporary functions go with it.
coproc tenant { PGUSER=bi psql -XAtq 2>&1; }
say() { echo "$1;" >&"${tenant[1]}"; echo '\echo done' >&"${tenant[1]}"; while read -r line <&"${tenant[0]}" && [ "$line" != done ]; do echo "$line"; done; }
say "CREATE TABLE t (n int); CREATE FUNCTION pg_temp.v(n int) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN 'ran as ' || current_user; END \$\$;
	CREATE FUNCTION pg_temp.s(n int) RETURNS text LANGUAGE sql AS \$\$ SELECT 'ran as ' || current_user \$\$;
	CREATE FUNCTION pg_temp.trap() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'ran as %', current_user; END \$\$;
	CREATE FUNCTION own(n int) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN 'ran as ' || current_user; END \$\$;
	CREATE VIEW look AS SELECT pg_temp.v(1); CREATE VIEW inlined AS SELECT pg_temp.s(1); CREATE VIEW from_own AS SELECT own(1);
	CREATE TABLE trapped (n int); CREATE TRIGGER trap BEFORE INSERT ON trapped FOR EACH ROW EXECUTE FUNCTION pg_temp.trap();
	CREATE TABLE checked (n int CHECK (pg_temp.v(n) <> ''))" >/dev/null
is "$(say 'SELECT * FROM look')" "ran as $role" "the tenant runs its temporary function"
for view in look inlined from_own; do
	like "$(sql "SELECT * FROM $role.$view")" '42501.*may not run function' "a superuser does not, by the view $view"
done
like "$(sql "INSERT INTO $role.trapped VALUES (1)")" '42501.*may not run function' "nor by a trigger"
like "$(sql "INSERT INTO $role.checked VALUES (1)")" '42501.*may not run function' "nor by a CHECK"
sql "CREATE FUNCTION pg_temp.mine() RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN 'mine'; END \$\$; SELECT pg_temp.mine()" > "$PGHOST/mine"
is "$(cat "$PGHOST/mine")" mine "its own temporary functions it does"

# where everybody may create, because somebody has granted that
sql "CREATE SCHEMA open; GRANT CREATE, USAGE ON SCHEMA open TO PUBLIC" >/dev/null
say "CREATE FUNCTION open.f() RETURNS text LANGUAGE sql AS 'SELECT current_user::text'" >/dev/null
is "$(say 'SELECT open.f()')" "$role" "a tenant's function in an open schema is the tenant's"
like "$(PGUSER=pooled sql "SELECT open.f()")" '42501.*permission denied for function' "and of no other tenant"
like "$(sql "SELECT open.f()")" '42501.*may not run function' "nor of a superuser"
PGUSER=pooled sql "CREATE FUNCTION open.g() RETURNS text LANGUAGE sql AS 'SELECT current_user::text'" >/dev/null
like "$(say 'SELECT open.g()')" 'permission denied for function' "whoever made it"
sql "CREATE FUNCTION open.h() RETURNS text LANGUAGE sql AS 'SELECT current_user::text'; CREATE ROLE shop; ALTER FUNCTION open.h() OWNER TO shop" >/dev/null
is "$(say 'SELECT open.h()')" "$role" "an application's are everybody's"
sql "CREATE FUNCTION open.old() RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN RETURN current_user; END \$\$; ALTER FUNCTION open.old() OWNER TO $role" >/dev/null
like "$(sql "SELECT open.old()")" '42501.*may not run function' "whatever schema a tenant's function is in"
sql "ALTER FUNCTION open.old() OWNER TO bi" >/dev/null
like "$(sql "SELECT open.old()")" '42501.*may not run function' "or a bound login's"
sql "CREATE ROLE somebody; ALTER FUNCTION open.old() OWNER TO somebody" >/dev/null
is "$(sql "SELECT open.old()")" postgres "others' functions run as PostgreSQL runs them"
done_testing
