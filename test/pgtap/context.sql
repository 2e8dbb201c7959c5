-- Entering a tenant, staying in it, and every way out.
SELECT * FROM no_plan();
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
SELECT count(*) FROM template_create('portal', 'portal') \g /dev/null
SELECT slug FROM tenant_create('acme', plan => 'starter', template => 'portal') \g /dev/null
SELECT slug FROM tenant_create('globex', template => 'portal') \g /dev/null
SELECT id AS acme, schema_name AS acme_schema, role_name AS acme_role FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT id AS globex, schema_name AS globex_schema FROM tenancy.tenant WHERE slug = 'globex' \gset
CREATE ROLE ctx_app LOGIN IN ROLE tenancy_app;
CREATE ROLE ctx_nobody LOGIN;
-- grants that somebody gave by mistake: the guard must hold where they do not
GRANT USAGE ON SCHEMA :globex_schema TO PUBLIC;
GRANT ALL ON :globex_schema.note TO PUBLIC;
INSERT INTO :globex_schema.note VALUES (1, 'of globex');

SELECT is(current_tenant_id(), NULL, 'no tenant outside of a context');
SELECT is(tenant_context(), NULL, 'and no document');

SET ROLE ctx_app;
BEGIN;
SELECT is(tenant_context_set('acme'), :'acme'::uuid, 'entering returns the id');
SELECT is(current_tenant_id(), :'acme'::uuid, 'current_tenant_id()');
SELECT is(current_tenant()::text, 'acme', 'current_tenant() shows the slug');
SELECT is(current_user::text, :'acme_role', 'the role is the tenant''s');
SELECT is(current_setting('search_path'), :'acme_schema' || ', pg_catalog, public, pg_temp', 'so is the search path');
SELECT is(tenant_context()->>'tenant_slug', 'acme', 'tenant_context(): slug');
SELECT is(tenant_context()->'limits'->>'max_users', '10', 'tenant_context(): limits of the plan');
INSERT INTO note VALUES (1, 'of acme');
SELECT is(tenant_context_set('acme'), :'acme'::uuid, 'entering the same tenant again is nothing');
SAVEPOINT s;
SELECT throws_ok(format('SELECT count(*) FROM %I.note', :'globex_schema'), '42501',
    'permission denied for schema ' || :'globex_schema', 'another tenant''s table, in spite of grants');
SELECT throws_ok('SET ROLE tenancy_owner', '42501', NULL, 'SET ROLE');
SELECT throws_ok('RESET ROLE', '42501', NULL, 'RESET ROLE');
SELECT throws_ok('SET SESSION AUTHORIZATION DEFAULT', '42501', NULL, 'SET SESSION AUTHORIZATION');
SELECT throws_ok('SELECT set_config(''role'', ''none'', false)', '42501', NULL, 'set_config(role)');
SELECT throws_ok('SELECT tenant_context_set(' || quote_literal(:'globex') || '::uuid)', '42501', NULL, 'another tenant, by id');
SELECT throws_ok('SELECT ''globex''::regtenant', '42704', NULL, 'another tenant''s slug does not exist here');
SELECT is((:'globex'::uuid)::regtenant::text, :'globex', 'and its id shows no slug');
SELECT throws_ok('TRUNCATE ' || :'globex_schema' || '.note', '42501', NULL, 'TRUNCATE of another tenant''s table');
SELECT throws_ok('LOCK ' || :'globex_schema' || '.note IN ACCESS SHARE MODE', '42501', NULL, 'LOCK of another tenant''s table');
SELECT throws_ok('DECLARE c CURSOR FOR SELECT * FROM ' || :'globex_schema' || '.note', '42501', NULL, 'a cursor on another tenant''s table');
COMMIT;
SELECT is(current_user::text, 'ctx_app', 'COMMIT leaves');
SELECT is(current_tenant_id(), NULL, 'and clears the tenant');
RESET ROLE;
SELECT is((SELECT body FROM :acme_schema.note), 'of acme', 'the row is in the schema of the tenant');

-- without a context
SET ROLE ctx_app;
SELECT throws_ok(format('SELECT count(*) FROM %I.note', :'globex_schema'), '42501', 'permission denied for relation "note"', 'no context: refused in spite of grants');
SET ROLE ctx_nobody;
SELECT throws_ok('SELECT tenant_context_set(' || quote_literal(:'acme') || '::uuid)', '42501', NULL, 'a role without the right cannot enter');
SELECT throws_ok('SELECT ''acme''::regtenant', '42704', NULL, 'nor see that the tenant exists');
RESET ROLE;
SELECT is((SELECT count(*) FROM :globex_schema.note), 1::bigint, 'a superuser without a context passes');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok(format('SELECT count(*) FROM %I.note', :'globex_schema'), '42501', NULL, 'a superuser in a context is that tenant');
SELECT throws_ok('SELECT pg_read_file(''postgresql.conf'')', '42501', NULL, 'and no superuser');
ROLLBACK;
SELECT is(current_user::text, session_user::text, 'ROLLBACK leaves');

-- savepoints
BEGIN;
SAVEPOINT a;
SELECT tenant_context_set('acme') \g /dev/null
RELEASE a;
SELECT is(current_tenant()::text, 'acme', 'an entry survives RELEASE');
SELECT is(current_setting('search_path'), :'acme_schema' || ', pg_catalog, public, pg_temp', 'with its search path');
COMMIT;
BEGIN;
SAVEPOINT a;
SELECT tenant_context_set('acme') \g /dev/null
ROLLBACK TO a;
SELECT is(current_tenant_id(), NULL, 'ROLLBACK TO undoes it');
SELECT is(current_user::text, session_user::text, 'and gives the user back');
SELECT throws_ok('SELECT tenant_context_set(''globex'')', '42501', NULL, 'the first tenant of a transaction is final all the same');
ROLLBACK;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SAVEPOINT b;
SELECT lives_ok('INSERT INTO note VALUES (2, ''x'')', 'work below a savepoint');
ROLLBACK TO b;
SELECT is(current_tenant()::text, 'acme', 'ROLLBACK TO a later savepoint stays in the tenant');
COMMIT;
DO $$ BEGIN
    BEGIN
        PERFORM tenant_context_set('acme');
        RAISE EXCEPTION 'x';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    IF current_tenant_id() IS NOT NULL OR current_user <> session_user THEN
        RAISE 'still in the tenant';
    END IF;
END $$;
SELECT pass('an EXCEPTION block undoes an entry');
CREATE PROCEDURE public.commits() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenant_context_set('acme');
    COMMIT;
    IF current_tenant_id() IS NOT NULL OR current_user <> session_user THEN
        RAISE 'still in the tenant';
    END IF;
END $$;
CALL public.commits();
SELECT pass('COMMIT in a procedure leaves');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COMMIT AND CHAIN;
SELECT is(current_tenant_id(), NULL, 'COMMIT AND CHAIN leaves');
COMMIT;

-- functions that would keep more rights than they came with
CREATE FUNCTION public.definer() RETURNS uuid LANGUAGE sql SECURITY DEFINER AS $$ SELECT tenant_context_set('acme') $$;
CREATE FUNCTION public.with_set() RETURNS uuid LANGUAGE sql SET work_mem = '1MB' AS $$ SELECT tenant_context_set('acme') $$;
SET ROLE ctx_app;
BEGIN;
SELECT throws_ok('SELECT public.definer()', '42501', 'cannot enter a tenant inside a security-definer function', 'refused inside a security-definer function');
SELECT throws_ok('SELECT public.with_set()', '42501', 'cannot enter a tenant inside a function with a SET clause', 'refused under a SET clause');
SELECT is(current_user::text, 'ctx_app', 'the user is the one who came');
COMMIT;
SELECT is(current_user::text, 'ctx_app', 'also after the transaction');
RESET ROLE;

-- states and settings
SELECT state FROM tenant_suspend('globex', 'no payment') \g /dev/null
BEGIN;
SELECT lives_ok('SELECT tenant_context_set(''globex'')', 'a suspended tenant is entered');
SELECT throws_ok('CREATE TABLE x ()', '55000', 'tenant "globex" is suspended', 'to read and to delete');
ROLLBACK;
SELECT state FROM tenant_resume('globex') \g /dev/null
BEGIN;
SELECT lives_ok('SELECT tenant_context_set(''globex'')', 'a resumed one is');
ROLLBACK;
BEGIN;
SET LOCAL tenancy.trusted_entry = off;
SELECT throws_ok('SELECT tenant_context_set(''globex'')', '42501', 'trusted entry is switched off', 'tenancy.trusted_entry = off');
ROLLBACK;
ALTER ROLE :acme_role BYPASSRLS;
BEGIN;
SELECT throws_ok('SELECT tenant_context_set(''acme'')', '42501', NULL, 'a role with an attribute is not entered');
ROLLBACK;
ALTER ROLE :acme_role NOBYPASSRLS;
GRANT pg_read_all_data TO :acme_role;
BEGIN;
SELECT throws_ok('SELECT tenant_context_set(''acme'')', '42501', NULL, 'nor one with a predefined role');
ROLLBACK;
REVOKE pg_read_all_data FROM :acme_role;

-- within a context nothing is administered
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok('SELECT tenant_create(''mallory'')', '42501', NULL, 'no tenant is created in a context');
SELECT is((SELECT count(*) FROM tenancy.tenant), 1::bigint, 'a tenant sees its own row of the registry');
SELECT is((tenant_get('acme')).slug, 'acme', 'and may get it');
SELECT throws_ok('SELECT tenant_get(' || quote_literal(:'globex') || '::uuid)', '42704', NULL, 'but no other');
SELECT throws_ok('SELECT * FROM tenancy.template', '42501', NULL, 'nor what is not for tenants');
ROLLBACK;

-- an autocommit entry says so
SELECT is(current_tenant_id(), NULL, 'nothing is left');
-- a plan that was cached in one tenant serves another its own rows
SET plan_cache_mode = force_generic_plan;
CREATE FUNCTION notes() RETURNS TABLE(tenant text, body text) LANGUAGE plpgsql AS
$$BEGIN RETURN QUERY SELECT current_tenant()::text, (SELECT n.body FROM note n ORDER BY id LIMIT 1); END$$;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT results_eq('SELECT * FROM notes()', $$VALUES ('acme'::text, 'of acme'::text)$$, 'a generic plan, in acme');
COMMIT;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT results_eq('SELECT * FROM notes()', $$VALUES ('globex'::text, 'of globex'::text)$$, 'the same plan, in globex');
COMMIT;
SELECT * FROM finish();
