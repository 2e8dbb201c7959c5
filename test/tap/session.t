#!/bin/bash
# What only shows from outside: protocols, autocommit, settings of the server, COPY.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set "tenancy.compatible_settings=app.current_tenant_id, my.tenant"
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', template => 'portal');
SELECT slug FROM tenant_create('globex', template => 'portal');
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE ROLE stranger LOGIN;
SQL
export PGOPTIONS="-c client_min_messages=warning"
acme=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'acme'")
globex=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'globex'")
as() { # as USER SQL...
	local user=$1
	shift
	PGUSER=$user psql -XAtq -v VERBOSITY=verbose app "${@/#/-c}" 2>&1
}

# settings that older policies read
is "$(as app "SELECT current_setting('app.current_tenant_id')")" "" "a compatible setting is empty without a context"
is "$(as app "BEGIN; SELECT tenant_context_set('acme'); SELECT current_setting('app.current_tenant_id'), current_setting('my.tenant', true); COMMIT")" "$acme
$acme|$acme" "and shows the tenant within one"
for attempt in "SET app.current_tenant_id = 'x'" "SET LOCAL app.current_tenant_id = 'x'" "SELECT set_config('app.current_tenant_id', 'x', false)" \
	"RESET app.current_tenant_id" "ALTER ROLE app SET app.current_tenant_id = 'x'" "SELECT set_config('app.current_tenant_id', NULL, false)"; do
	like "$(as postgres "BEGIN; SELECT tenant_context_set('acme') IS NULL; $attempt; COMMIT")" 'ERROR' "nobody can: $attempt"
done
is "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; RESET ALL; SELECT current_setting('app.current_tenant_id'); COMMIT")" "f
$acme" "RESET ALL leaves it alone"
like "$(PGOPTIONS='-c app.current_tenant_id=x' psql -XAtc 'SELECT 1' app 2>&1)" 'FATAL' "nor at the start of a session"
psql -Xq postgres -c "CREATE DATABASE plain"
is "$(psql -XAtqc "SELECT current_setting('app.current_tenant_id')" plain)" "" "it is there, and empty, where the extension is not"

# autocommit, and several statements in one message
like "$(as app "SELECT tenant_context_set('acme')")" 'WARNING:  25P01.*ends with this statement' "entering in autocommit says that it ends at once"
like "$(as app "SELECT count(*) FROM note")" '42P01' "and it has"
is "$(as app "SELECT tenant_context_set('acme') IS NULL; INSERT INTO note VALUES (1, 'x'); SELECT count(*) FROM note")" "f
1" "statements of one message share a transaction"
like "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; SELECT count(*) FROM $globex.note; COMMIT")" '42501' "also behind an entry in the same message"

# ON_ERROR_ROLLBACK puts a savepoint around every statement, as JDBC's autosave does
is "$(PGUSER=app psql -XAtq -v ON_ERROR_ROLLBACK=on app 2>/dev/null <<< "BEGIN;
SELECT tenant_context_set('acme') IS NULL;
SELECT 1/0;
SELECT current_tenant()::text, count(*) FROM note;
COMMIT;")" "f
acme|1" "an entry within a savepoint holds after an error"

# paths past the executor
sql "GRANT USAGE ON SCHEMA $globex TO PUBLIC; GRANT ALL ON $globex.note TO PUBLIC" >/dev/null
for attempt in "COPY $globex.note TO STDOUT" "COPY (SELECT * FROM $globex.note) TO STDOUT" "TABLE $globex.note" "EXPLAIN SELECT * FROM $globex.note" \
	"CREATE TEMP TABLE x AS SELECT * FROM $globex.note" "TRUNCATE $globex.note" "LOCK $globex.note" "DELETE FROM $globex.note" \
	"MERGE INTO $globex.note n USING (SELECT 1 AS id) s ON n.id = s.id WHEN MATCHED THEN DELETE" "PREPARE p AS SELECT * FROM $globex.note; EXECUTE p"; do
	like "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; $attempt; COMMIT")" '42501' "refused in a context, whatever was granted: ${attempt/$globex/other}"
	like "$(as stranger "$attempt")" '42501' "and without one"
done
like "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; COPY $globex.note FROM STDIN; COMMIT" < /dev/null)" '42501' "COPY FROM"
# a view and a function of somebody with more rights
sql "CREATE VIEW public.peek AS SELECT * FROM $globex.note; GRANT SELECT ON public.peek TO PUBLIC;
	CREATE FUNCTION public.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM $globex.note'" >/dev/null
like "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; SELECT * FROM public.peek; COMMIT")" '42501' "a superuser's view"
like "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; SELECT public.peek(); COMMIT")" '42501' "a superuser's security-definer function"

# is the connection clean?
is "$(as app "SELECT connection_check()")" t "a new connection is clean"
is "$(as app "BEGIN; SELECT tenant_context_set('acme') IS NULL; SET work_mem = '1MB'; CREATE TEMP TABLE t (i integer); PREPARE p AS SELECT 1; COMMIT" "SELECT connection_check()")" "f
t" "so is one that a tenant has used"
is "$(as app "SET TimeZone = 'UTC'" "SELECT connection_check()")" t "and one with a setting that poolers follow"
for leftover in "SET work_mem = '1MB'" "SET my.note = 'x'" "CREATE TEMP TABLE t (i integer)" "PREPARE p AS SELECT 1" "LISTEN x" "SELECT pg_advisory_lock(1)" \
	"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"; do
	like "$(as app "$leftover" "SELECT connection_check()")" '55000' "not one with what is left by: $leftover"
	is "$(as app "$leftover" "DISCARD ALL" "SELECT connection_check()" | grep .)" t "DISCARD ALL cleans it"
done

# the library without the extension, and the extension without the library
is "$(psql -XAtqc "CREATE TABLE t (i integer); INSERT INTO t VALUES (1); SELECT * FROM t" plain)" 1 "a database without the extension is left alone"
like "$(psql -XAtq plain -v VERBOSITY=verbose -c "SELECT 'acme'::regtype" 2>&1)" 42704 "errors there are PostgreSQL's"
done_testing
