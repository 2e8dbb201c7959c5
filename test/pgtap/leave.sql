-- What a tenant could leave on a pooled connection, and what it may not do there at all.
SELECT * FROM no_plan();
CREATE SCHEMA portal;
CREATE TABLE portal.note (id serial PRIMARY KEY, body text);
SELECT count(*) FROM template_create('portal', 'portal') \g /dev/null
SELECT slug FROM tenant_create('acme', template => 'portal') \g /dev/null
SELECT slug FROM tenant_create('globex', template => 'portal') \g /dev/null
SELECT schema_name AS acme_schema FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT schema_name AS globex_schema FROM tenancy.tenant WHERE slug = 'globex' \gset
CREATE TABLE left_over (what text);
CREATE ROLE lv_app LOGIN IN ROLE tenancy_app;
SET ROLE lv_app;
SET TimeZone = 'Europe/Vienna';
SET my.note = 'of the application';
CREATE TEMP TABLE of_application (i integer);

BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
CREATE TEMP TABLE scratch AS SELECT 'secret' AS body;
CREATE FUNCTION pg_temp.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE TYPE pg_temp.mood AS ENUM ('good');
SAVEPOINT s;
SET TimeZone = 'Asia/Tokyo';
RELEASE s;
SELECT set_config('my.note', 'of acme', false) \g /dev/null
SET DateStyle = 'German';
SET LOCAL DateStyle = 'SQL';
INSERT INTO note (body) VALUES ('x');
PREPARE p AS SELECT 'literal of acme';
SELECT is((SELECT body FROM scratch), 'secret', 'within the transaction all of it is there');
SELECT is(current_setting('TimeZone'), 'Asia/Tokyo', 'and so are its settings');
COMMIT;
SELECT is(to_regclass('pg_temp.scratch'), NULL, 'a temporary table is gone with the transaction');
SELECT hasnt_function('pg_temp', 'f', 'a temporary function');
SELECT is(to_regtype('pg_temp.mood'), NULL, 'a temporary type');
SELECT isnt(to_regclass('pg_temp.of_application'), NULL, 'that of the application is not');
SELECT is(current_setting('TimeZone'), 'Europe/Vienna', 'SET ends with the transaction, also in a savepoint');
SELECT is(current_setting('my.note'), 'of the application', 'set_config(…, false) too');
SELECT is(current_setting('DateStyle'), 'ISO, MDY', 'and SET under SET LOCAL');
SELECT throws_ok('EXECUTE p', '26000', NULL, 'a prepared statement is gone');
RESET ROLE;
SELECT throws_ok(format('SELECT currval(%L)', :'acme_schema' || '.note_id_seq'), '55000', NULL, 'currval() has forgotten');
SET ROLE lv_app;

-- a rollback leaves no more
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
PREPARE q AS SELECT 'literal of acme';
INSERT INTO note (body) VALUES ('x');
ROLLBACK;
SELECT throws_ok('EXECUTE q', '26000', NULL, 'after a rollback: no prepared statement');
RESET ROLE;
SELECT throws_ok(format('SELECT currval(%L)', :'acme_schema' || '.note_id_seq'), '55000', NULL, 'after a rollback: no currval()');
SET ROLE lv_app;

-- an entry that was rolled back to a savepoint leaves too
BEGIN;
SAVEPOINT s;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO note (body) VALUES ('x');
ROLLBACK TO s;
COMMIT;
RESET ROLE;
SELECT throws_ok(format('SELECT currval(%L)', :'acme_schema' || '.note_id_seq'), '55000', NULL, 'an entry rolled back to a savepoint: no currval()');
SET ROLE lv_app;

-- refused, since it would outlive the transaction
CREATE FUNCTION pg_temp.in_acme(statement text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE statement; END$$;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok('LISTEN x', '0A000', NULL, 'LISTEN');
SELECT throws_ok('DECLARE c CURSOR WITH HOLD FOR SELECT 1', '0A000', NULL, 'WITH HOLD');
SELECT throws_ok('NOTIFY x', '42501', NULL, 'NOTIFY');
SELECT throws_ok('SELECT pg_notify(''x'', ''y'')', '42501', NULL, 'pg_notify()');
SELECT throws_ok('SELECT pg_advisory_lock(1)', '42501', NULL, 'advisory locks');
SELECT throws_ok('SELECT count(*) FROM pg_stat_activity', '42501', NULL, 'pg_stat_activity');
SELECT throws_ok('SELECT count(*) FROM pg_locks', '42501', NULL, 'pg_locks');
SELECT throws_ok('SELECT count(*) FROM pg_prepared_statements', '42501', NULL, 'pg_prepared_statements');
SELECT throws_ok('SELECT n_live_tup FROM pg_stat_all_tables', '42501', NULL, 'pg_stat_all_tables');
SELECT is(pg_relation_size(1259), NULL, 'pg_relation_size() of what is not the tenant''s');
SELECT is(pg_relation_size('note'), 8192::bigint, 'pg_relation_size() of its own table');
SELECT throws_ok('SELECT pg_database_size(current_database())', '42501', NULL, 'pg_database_size()');
SELECT throws_ok('SELECT lo_create(0)', '42501', NULL, 'large objects');
SELECT throws_ok('SELECT pg_terminate_backend(pid) FROM (VALUES (1)) v(pid)', '42501', NULL, 'pg_terminate_backend()');
SELECT throws_ok(statement, '42501', NULL, statement) FROM unnest(ARRAY[
    'CREATE SCHEMA s', 'CREATE ROLE r', 'ALTER ROLE lv_app SET work_mem = ''1MB''', 'LOAD ''auto_explain''', 'CREATE EXTENSION hstore',
    'CREATE PUBLICATION p', 'ALTER SYSTEM SET work_mem = ''1MB''', 'CHECKPOINT ', 'GRANT lv_app TO CURRENT_USER', 'REASSIGN OWNED BY CURRENT_USER TO lv_app',
    'GRANT SELECT ON note TO PUBLIC', 'GRANT SELECT ON note TO lv_app', 'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC',
    'CREATE SERVER s FOREIGN DATA WRAPPER f', 'SECURITY LABEL ON TABLE note IS ''x''', 'VACUUM FULL note', 'CLUSTER note', 'REINDEX SCHEMA portal',
    'CREATE SUBSCRIPTION s CONNECTION ''x'' PUBLICATION p', 'ALTER FUNCTION lower(text) DEPENDS ON EXTENSION pg_tenancy']) AS statement;
SELECT lives_ok('SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace', 'the catalogs can be read');
COMMIT;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
\set ON_ERROR_STOP 0
PREPARE TRANSACTION 'x';
ROLLBACK;
\set ON_ERROR_STOP 1
SELECT is(pg_backend_pid() > 0, true, 'PREPARE TRANSACTION has rolled back');
RESET ROLE;
SELECT is((SELECT count(*) FROM pg_prepared_xacts), 0::bigint, 'and left nothing');
SELECT lives_ok('SELECT pg_advisory_lock(1), pg_notify(''x'', ''y''), count(*) FROM pg_stat_activity', 'without a context all is as it was');
SELECT pg_advisory_unlock_all() \g /dev/null

-- a function in the schema of another tenant, in spite of grants
CREATE FUNCTION :globex_schema.whisper() RETURNS text LANGUAGE sql AS $$SELECT 'of globex'$$;
GRANT USAGE ON SCHEMA :globex_schema TO PUBLIC;
SET ROLE lv_app;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok('SELECT ' || :'globex_schema' || '.whisper()', '42501', NULL, 'another tenant''s function');
SELECT throws_ok(format('SELECT %L::regclass', :'globex_schema' || '.note'), '42501', NULL, 'another tenant''s table as regclass');
COMMIT;

-- reported to the client
SET ROLE lv_app;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT is(current_setting('tenancy.current_tenant'), current_tenant_id()::text, 'the tenant is reported');
SELECT throws_ok($$SET tenancy.current_tenant = 'x'$$, '55P02', NULL, 'by nobody else');
COMMIT;
SELECT is(current_setting('tenancy.current_tenant'), '', 'until the transaction ends');

-- ceilings
RESET ROLE;
SELECT is((ceiling_set('work_mem', '8MB')).value, '8MB', 'a ceiling for all plans');
SELECT is((ceiling_set('work_mem', '16MB', 'professional')).value, '16MB', 'one for a plan');
SELECT is((ceiling_set('statement_timeout', '10s')).value, '10s', 'a timeout');
SELECT throws_ok($$SELECT ceiling_set('search_path', 'x')$$, '22023', 'setting "search_path" has no ceiling', 'a setting without ceiling');
SELECT throws_ok($$SELECT ceiling_set('work_mem', 'much')$$, '22023', NULL, 'a value that is none');
SELECT throws_ok($$SELECT ceiling_set('work_mem', '8MB', 'none')$$, '42704', 'plan "none" does not exist', 'a plan that is none');
SET ROLE lv_app;
SELECT throws_ok($$SELECT ceiling_set('work_mem', '1GB')$$, '42501', NULL, 'only administrators set ceilings');
SET work_mem = '32MB';
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT is(current_setting('work_mem'), '8MB', 'entering lowers what is above the ceiling');
SELECT is(current_setting('statement_timeout'), '10s', 'no timeout is above any');
SELECT throws_ok('SET work_mem = ''9MB''', '42501', 'permission denied to set parameter "work_mem"', 'SET above it');
SELECT throws_ok('SET LOCAL statement_timeout = 0', '42501', NULL, 'SET LOCAL to no limit');
SELECT lives_ok('SET work_mem = ''1MB''', 'below it');
RESET statement_timeout;
SELECT is(current_setting('statement_timeout'), '10s', 'RESET returns to the ceiling');
SET statement_timeout TO DEFAULT;
SELECT is(current_setting('statement_timeout'), '10s', 'so does SET TO DEFAULT');
RESET ALL;
SELECT is(current_setting('statement_timeout'), '10s', 'and RESET ALL');
SAVEPOINT s;
\set ON_ERROR_STOP 0
SELECT set_config('work_mem', '1GB', false);
\set ON_ERROR_STOP 1
ROLLBACK TO s;
SELECT is(current_setting('work_mem'), '4MB', 'set_config() above it was refused');
COMMIT;
SELECT is(current_setting('work_mem'), '32MB', 'the session has its own again');
SELECT is(current_setting('statement_timeout'), '0', 'and no timeout');

-- each sort of setting: a fraction, a word, one without a limit, one that -1 frees
RESET ROLE;
SELECT ceiling_set('hash_mem_multiplier', '1.5'), ceiling_set('synchronous_commit', 'on'), ceiling_set('temp_file_limit', '-1'), ceiling_set('idle_session_timeout', '0') \g /dev/null
SET hash_mem_multiplier = 1.75;
SET synchronous_commit = off;
SET temp_file_limit = '1TB';
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT is(current_setting('hash_mem_multiplier') || ' ' || current_setting('synchronous_commit') || ' ' || current_setting('temp_file_limit') || ' ' || current_setting('idle_session_timeout'), '1.5 on 1TB 0', 'a fraction and a word are lowered; where there is no limit, none is');
SELECT lives_ok('SET LOCAL hash_mem_multiplier = 1.5', 'a fraction as high as the ceiling');
SELECT throws_ok('SET LOCAL hash_mem_multiplier = 1.51', '42501', 'permission denied to set parameter "hash_mem_multiplier"', 'and above it');
SELECT lives_ok('SET LOCAL hash_mem_multiplier = 1', 'and below');
SELECT throws_ok('SET LOCAL synchronous_commit = off', '42501', NULL, 'a word that is another');
SELECT throws_ok('SET LOCAL synchronous_commit = remote_apply', '42501', NULL, 'on either side');
SELECT lives_ok('SET LOCAL idle_session_timeout = 7', 'anything where there is no limit');
COMMIT;
RESET ALL;
SELECT ceiling_set('temp_file_limit', '1GB') \g /dev/null
SET temp_file_limit = -1;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT is(current_setting('temp_file_limit'), '1GB', 'no limit of -1 is above any');
COMMIT;
SELECT is(current_setting('temp_file_limit'), '-1', 'until the transaction ends');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT lives_ok('SET LOCAL work_mem = $$8MB$$', 'as much as the ceiling');
SELECT throws_ok('SET LOCAL work_mem = $$8193kB$$', '42501', NULL, 'a kilobyte more');
COMMIT;
SELECT * FROM finish();
