#!/bin/bash
# Bound logins: a session is its tenant's from the first statement, in autocommit, and stays so.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set max_prepared_transactions=5
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
CREATE INDEX note_body ON portal.note (body);
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', template => 'portal', owns_ddl => true);
SELECT slug FROM tenant_create('globex', template => 'portal', owns_ddl => true);
CREATE ROLE acme_login LOGIN;
CREATE ROLE acme_bi LOGIN;
CREATE ROLE globex_login LOGIN;
CREATE ROLE fat_login LOGIN IN ROLE pg_monitor;
CREATE ROLE no_login;
SELECT role_name FROM tenant_login_bind('acme_login', 'acme', own_catalog => true);
SELECT role_name FROM tenant_login_bind('acme_bi', 'acme');
SELECT role_name FROM tenant_login_bind('globex_login', 'globex', own_catalog => true);
SQL
parallel=$(sql "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')")
export PGOPTIONS="-c client_min_messages=warning"
acme=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'acme'")
globex=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'globex'")
sql "INSERT INTO $globex.note VALUES (1, 'CANARY')" >/dev/null
as() { # as USER SQL...
	local user=$1
	shift
	PGUSER=$user psql -XAtq -v VERBOSITY=verbose app "${@/#/-c}" 2>&1
}

is "$(as acme_login "SELECT current_tenant()")" acme "in autocommit, from the first statement"
is "$(as acme_login "INSERT INTO note VALUES (1, 'of acme')" "SELECT body FROM note")" "of acme" "bare names are the tenant's tables"
is "$(as acme_login "BEGIN" "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE" "SHOW transaction_isolation" "COMMIT")" serializable "SET TRANSACTION comes first"
is "$(as globex_login "SELECT body FROM note")" CANARY "another login has another tenant"
is "$(as acme_login "SET enable_seqscan = off" "CREATE TEMP TABLE t (i integer)" "INSERT INTO t VALUES (1)" "SHOW enable_seqscan" "SELECT count(*) FROM t")" "off
1" "session settings and temporary tables stay"
is "$(as acme_login "CREATE TABLE own (i integer)" "CREATE INDEX CONCURRENTLY own_i ON own (i)" "REINDEX INDEX CONCURRENTLY own_i" "VACUUM own" "ANALYZE own" "DROP TABLE own")" "" "DDL, also that which needs autocommit"
is "$(as acme_login "PREPARE p AS SELECT current_tenant()" "EXECUTE p" "DISCARD ALL" "SELECT current_tenant()")" "acme
acme" "DISCARD ALL leaves it where it is"

# no way out
for attempt in "SELECT * FROM $globex.note" "TABLE $globex.note" "SELECT tenant_context_set('globex')" "SET ROLE globex_login" "SELECT set_config('role', 'globex_login', false)" \
	"SET SESSION AUTHORIZATION globex_login" "ALTER ROLE acme_login SET role = 'postgres'" "LISTEN x" "NOTIFY x" "SELECT count(pid) FROM pg_stat_activity" \
	"SELECT pg_advisory_lock(1)" "CREATE SCHEMA s" "GRANT SELECT ON note TO PUBLIC" "GRANT USAGE ON SCHEMA $acme TO globex_login" "COPY $globex.note TO STDOUT" \
	"SELECT tenant_login_bind('acme_bi', 'globex')" "SET work_mem = '1GB'" "SET statement_timeout = 0" "SELECT set_config('work_mem', '1GB', false)"; do
	like "$(as acme_login "SELECT 1" "$attempt")" '42501|42704' "refused: ${attempt//$globex/other}"
done
for attempt in "SET ROLE NONE" "SELECT set_config('role', 'none', false) IS NULL" "RESET ROLE"; do
	like "$(as acme_login "$attempt" "SELECT current_tenant()" "SELECT * FROM $globex.note")" 'acme.*42501' "still the tenant after: $attempt"
done
is "$(as acme_login "SELECT 1" "RESET ALL" "SHOW work_mem" "SHOW statement_timeout")" "1
4MB
30min" "RESET ALL returns to no more than the ceilings"
is "$(as acme_login "SELECT 1" "SET lock_timeout = 0" "SHOW lock_timeout" | grep -v LOCATION)" "1
WARNING:  42501: permission denied to set parameter \"lock_timeout\"
DETAIL:  The ceiling for this tenant is 1min.
1min" "asking for no limit gives the ceiling"
like "$(PGOPTIONS='-c work_mem=1GB' as acme_login "SELECT 1" "SHOW work_mem")" '64MB' "nor does the start of a session"
is "$(PGOPTIONS='-c role=none' as acme_login "SELECT current_tenant()")" acme "the tenant is that of the login, whatever its role"
like "$(as acme_login "CREATE FUNCTION f() RETURNS text LANGUAGE sql SET work_mem = '1GB' AS 'SELECT count(*)::text FROM note'" "SELECT f()" "DROP FUNCTION f()")" '1' "a function cannot raise a ceiling for what it runs"

# parallel workers
is "$(as acme_login "SET $parallel = on" "SELECT current_tenant(), count(*) FROM note")" "acme|1" "parallel workers know the tenant"
is "$(sql "SET $parallel = on; SELECT current_tenant() IS NULL")" t "and no tenant where there is none"

# the catalogs
is "$(as acme_login "SELECT count(*) FROM pg_class WHERE relname = 'note'")" 1 "own_catalog: one table of that name"
is "$(as acme_bi "SELECT count(*) >= 3 FROM pg_class WHERE relname = 'note'")" t "without it: all of them"
is "$(as acme_login "SELECT count(*) FROM pg_indexes WHERE indexname = 'note_body'" "SELECT count(*) FROM information_schema.columns WHERE table_name = 'note'" \
	"SELECT count(*) FROM pg_namespace WHERE nspname = '$globex'" "SELECT count(*) FROM pg_attribute WHERE attrelid::regclass::text LIKE 'note'" \
	"WITH c AS (SELECT oid FROM pg_class WHERE relname = 'note') SELECT count(*) FROM c" "SELECT count(*) FROM (VALUES (1)) v WHERE EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = '$globex')")" "1
2
0
8
1
0" "through views, subqueries and under any name"
sql "SELECT 1" >/dev/null
like "$(as acme_login '\d note')" 'body.text' "psql's \\d works"
is "$(as acme_login '\dt')" "$acme|note|table|$(sql "SELECT role_name FROM tenancy.tenant WHERE slug = 'acme'")" "and \\dt"
like "$(as acme_login "EXPLAIN SELECT 1 FROM pg_class WHERE relname = 'note' AND relnamespace = 1")" 'pg_class_relname_nsp_index' "the condition stops no index"

# pg_dump of a tenant by its login
PGUSER=acme_login pg_dump --enable-row-security -n "$acme" app > "$PGHOST/dump.sql" 2>"$PGHOST/dump.err"
status=$?
sed 's/^/# /' "$PGHOST/dump.err"
ok $status "pg_dump of the tenant's schema"
like "$(cat "$PGHOST/dump.sql")" 'of acme' "has its rows"
PGUSER=acme_login pg_dump --enable-row-security app > "$PGHOST/dump.sql" 2>&1
is "$(grep -c CANARY "$PGHOST/dump.sql")" 0 "and never another's"

# who may be bound
like "$(sql "SELECT tenant_login_bind('fat_login', 'acme')")" '42501.*pg_monitor|42501.*rights that no tenant may have' "a role with rights cannot be bound"
like "$(sql "SELECT tenant_login_bind('postgres', 'acme')")" '55006|42501' "nor a superuser"
like "$(sql "SELECT tenant_login_bind('no_login', 'acme')")" 22023 "nor a role without LOGIN"
like "$(sql "SELECT tenant_login_bind('acme_login', 'globex')")" 55000 "nor one that is another tenant's"
sql "GRANT pg_read_all_data TO acme_bi" >/dev/null
like "$(as acme_bi "SELECT * FROM note")" 42501 "a bound login that got rights later can do nothing"
sql "REVOKE pg_read_all_data FROM acme_bi" >/dev/null
is "$(as acme_bi "SELECT body FROM note")" "of acme" "until they are taken away"
sql "SELECT slug FROM tenant_suspend('acme', 'unpaid')" >/dev/null
is "$(as acme_login "SELECT count(*) FROM note")" 1 "a suspended tenant's login reads"
like "$(as acme_login "UPDATE note SET body = body")" '55000.*suspended' "and changes nothing"
like "$(as acme_login "CREATE TEMP TABLE x ()")" '55000.*suspended' "nor defines anything"
set_and_reload tenancy.suspended_access none
like "$(as acme_login "SELECT * FROM note")" '55000' "unless it is told to keep it out altogether"
sql "SELECT slug FROM tenant_resume('acme')" >/dev/null
is "$(as acme_login "SELECT count(*) FROM note")" 1 "and works again when it is resumed"

# metering
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT calls > 10 FROM tenancy.tenant_stat WHERE slug = 'acme'")" t "its statements are metered"

# an open session follows
# usage is reported by the application; a tenant does not take its own back
like "$(as acme_bi "SELECT quantity FROM public.usage_record('acme', 'api_calls', -5)")" 42501 "a tenant does not lower its own usage"
is "$(as acme_bi "SELECT quantity FROM public.usage_record('acme', 'api_calls', 5)")" 5 "it may report some"
exec 3> >(PGUSER=acme_bi psql -XAtq -v VERBOSITY=verbose app > "$PGHOST/open.out" 2>&1)
echo "SELECT count(*) FROM note;" >&3
for ((i = 0; i < 300; i++)); do [ -s "$PGHOST/open.out" ] && break; sleep 0.1; done
sql "SELECT role_name FROM tenant_login_unbind('acme_bi')" >/dev/null
echo "SELECT count(*) FROM note;" >&3
exec 3>&-
wait $! 2>/dev/null
like "$(cat "$PGHOST/open.out")" '1.*42501' "unbinding reaches sessions that are open"
like "$(sql "SELECT tenant_login_unbind('acme_bi')")" 42704 "what is not bound is not unbound"
done_testing
