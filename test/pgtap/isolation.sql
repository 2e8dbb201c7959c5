-- isolation_lint() finds what was broken, each thing; isolation_enforce() repairs what it can.
SELECT * FROM no_plan();
CREATE ROLE iso_owner;
CREATE ROLE iso_pool LOGIN IN ROLE tenancy_app;
CREATE ROLE iso_bi LOGIN;
CREATE ROLE iso_other;
CREATE SCHEMA iso_portal;
CREATE TABLE iso_portal.entity (id integer PRIMARY KEY, name text);
CREATE TABLE iso_portal.event (tenant_id uuid, id integer);
SELECT template_create('iso', 'iso_portal'), tenant_create('iso-a', template => 'iso'), tenant_create('iso-b', template => 'iso', owns_ddl => true) \g /dev/null
SELECT id AS a, role_name AS a_role, owner_name AS a_owner, schema_name AS a_schema FROM tenancy.tenant WHERE slug = 'iso-a' \gset
SELECT id AS b, role_name AS b_role, schema_name AS b_schema FROM tenancy.tenant WHERE slug = 'iso-b' \gset
CREATE SCHEMA iso AUTHORIZATION iso_owner;
SET ROLE iso_owner;
CREATE TABLE iso.customer (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id));
CREATE TABLE iso.event (tenant_id uuid, at date) PARTITION BY RANGE (at);
RESET ROLE;
SELECT tenant_table_register('iso.customer'), tenant_table_register('iso.event'), tenant_login_bind('iso_bi', 'iso-a') \g /dev/null

-- other tests leave things behind: what is asked is what is about ours
CREATE FUNCTION pg_temp.lint(about text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM isolation_lint() WITH ORDINALITY AS l (line, n) WHERE line LIKE '#%' AND line ~ about ORDER BY n $$;
SELECT is_empty($$SELECT pg_temp.lint('iso|app|tenancy_')$$, 'nothing is wrong to begin with');
SELECT is((SELECT array_agg(line ORDER BY n) FROM (SELECT regexp_replace(line, ' - .*', '') AS line, n FROM isolation_lint() WITH ORDINALITY AS l (line, n) WHERE line LIKE 'ok%' OR line LIKE 'not ok%' OR line ~ '^1\.\.') x WHERE line ~ '^1\.\.'),
    ARRAY['1..' || (SELECT count(*) FROM isolation_lint() l (line) WHERE line ~ '^(not )?ok \d+ - ')], 'the plan is the number of lines');

-- the second wall around tables with a tenant_id
SELECT ok(relrowsecurity AND NOT relforcerowsecurity, 'a tenant''s table with a tenant_id has row security') FROM pg_class WHERE oid = (:'a_schema' || '.event')::regclass;
SELECT ok(relrowsecurity AND relforcerowsecurity, 'forced where the tenant owns it') FROM pg_class WHERE oid = (:'b_schema' || '.event')::regclass;
INSERT INTO :a_schema.event VALUES (:'a', 1), (:'b', 2);
BEGIN;
SELECT tenant_context_set('iso-a') \g /dev/null
SELECT results_eq('SELECT id FROM event', 'VALUES (1)', 'a row that is another''s is not seen');
SELECT throws_ok(format('INSERT INTO event VALUES (%L, 3)', :'b'), '42501', NULL, 'nor written');
COMMIT;

-- each break, what is said of it, whether it can be repaired
CREATE TEMP TABLE break (n serial, sql text, finding text, is_repaired boolean, undo text);
INSERT INTO break (sql, finding, is_repaired, undo) VALUES
    (format('ALTER ROLE %I LOGIN CREATEDB', :'a_role'), format('role %s: it is CREATEDB, LOGIN', :'a_role'), true, NULL),
    (format('ALTER ROLE %I BYPASSRLS', :'a_owner'), format('role %s: it is BYPASSRLS', :'a_owner'), true, NULL),
    (format('GRANT pg_read_all_data TO %I', :'a_role'), format('role %s: it is a member of pg_read_all_data', :'a_role'), true, NULL),
    (format('GRANT %I TO %I', :'b_role', :'a_role'), format('role %s: it is a member of %s', :'a_role', :'b_role'), true, NULL),
    (format('REVOKE tenancy_tenant FROM %I', :'a_role'), format('role %s: it is no member of tenancy_tenant', :'a_role'), true, NULL),
    (format('GRANT %I TO iso_other', :'a_role'), format('role %s: iso_other is a member, and is not bound to it', :'a_role'), true, NULL),
    (format('GRANT %I TO iso_bi', :'a_owner'), format('role %s: iso_bi is a member, and is not bound to it', :'a_owner'), true, NULL),
    ('ALTER ROLE iso_bi CREATEROLE', 'login iso_bi: it is superuser, CREATEROLE, BYPASSRLS or REPLICATION', false, 'ALTER ROLE iso_bi NOCREATEROLE'),
    ('GRANT iso_other TO iso_bi', 'login iso_bi: it is a member of iso_other', false, 'REVOKE iso_other FROM iso_bi'),
    (format('REVOKE %I FROM iso_bi', :'a_role'), format('login iso_bi: it is no member of %s', :'a_role'), false, format('GRANT %I TO iso_bi', :'a_role')),
    (format('ALTER ROLE iso_bi IN DATABASE %I RESET role', current_database()), format('login iso_bi: its settings in this database do not make it %s', :'a_role'), false,
        'SELECT tenant_login_bind(''iso_bi'', ''iso-a'')'),
    (format('ALTER TABLE %I.entity OWNER TO iso_other', :'a_schema'), format('relation %s.entity: its owner is iso_other', :'a_schema'), false, format('ALTER TABLE %I.entity OWNER TO %I', :'a_schema', :'a_owner')),
    (format('CREATE FUNCTION %I.f() RETURNS int LANGUAGE sql AS ''SELECT 1''', :'a_schema'), format('function %s.f(): its owner is postgres', :'a_schema'), false, format('DROP FUNCTION %I.f()', :'a_schema')),
    (format('GRANT USAGE ON SCHEMA %I TO PUBLIC', :'a_schema'), format('schema %s: USAGE is granted to PUBLIC', :'a_schema'), true, NULL),
    (format('GRANT SELECT, UPDATE ON %I.entity TO iso_pool', :'a_schema'), format('relation %s.entity: SELECT, UPDATE is granted to iso_pool', :'a_schema'), true, NULL),
    (format('GRANT SELECT ON %I.entity TO %I', :'a_schema', :'b_role'), format('relation %s.entity: SELECT is granted to %s', :'a_schema', :'b_role'), true, NULL),
    (format('ALTER TABLE %I.event DISABLE ROW LEVEL SECURITY', :'a_schema'), format('table %s.event: it has a tenant_id and lacks the policy tenancy_isolation', :'a_schema'), true, NULL),
    (format('DROP POLICY tenancy_isolation ON %I.event', :'b_schema'), format('table %s.event: it has a tenant_id and lacks the policy tenancy_isolation', :'b_schema'), true, NULL),
    (format('ALTER POLICY tenancy_isolation ON %I.event USING (true)', :'b_schema'), format('table %s.event: it has a tenant_id and lacks the policy tenancy_isolation', :'b_schema'), true, NULL),
    (format('UPDATE pg_class SET relforcerowsecurity = false WHERE oid = %L::regclass', 'iso.customer'), 'table iso.customer: row security is not forced', true, NULL),
    ('UPDATE pg_policy SET polpermissive = true WHERE polrelid = ''iso.customer''::regclass AND polname = ''tenancy_isolation''', 'table iso.customer: the policy tenancy_isolation is not ours', true, NULL),
    ('DELETE FROM pg_attrdef WHERE adrelid = ''iso.customer''::regclass', 'table iso.customer: tenant_id has not the current tenant as default', true, NULL),
    ('CREATE TABLE iso.event_2026 PARTITION OF iso.event FOR VALUES FROM (''2026-01-01'') TO (''2027-01-01'')', 'table iso.event_2026: it is a partition or child of a shared table and is not registered', true, NULL),
    ('INSERT INTO tenancy.tenant_table VALUES (4711, now())', 'table 4711: it is registered and does not exist', true, NULL),
    ('CREATE TABLE iso.forgotten (tenant_id uuid, x int)', 'table iso.forgotten: it has a tenant_id, and nothing tells its rows apart', false, 'DROP TABLE iso.forgotten'),
    ('CREATE TABLE iso.inert (x int); CREATE POLICY p ON iso.inert USING (false)', 'table iso.inert: it has 1 policies, and row security is not enabled', false, 'DROP TABLE iso.inert'),
    ('CREATE MATERIALIZED VIEW iso.kept AS SELECT * FROM iso.customer', 'materialized view iso.kept: it keeps rows of iso.customer', false, 'DROP MATERIALIZED VIEW iso.kept'),
    ('CREATE VIEW iso.past AS SELECT * FROM iso.customer', 'view iso.past: its owner reads past row security of iso.customer', false, 'DROP VIEW iso.past'),
    ('ALTER ROLE iso_pool BYPASSRLS', 'login iso_pool: it is superuser, CREATEROLE, BYPASSRLS or REPLICATION', false, 'ALTER ROLE iso_pool NOBYPASSRLS'),
    ('GRANT pg_read_all_data TO iso_pool', 'login iso_pool: it is a member of pg_read_all_data', false, 'REVOKE pg_read_all_data FROM iso_pool'),
    ('GRANT iso_owner TO iso_pool', 'table iso.customer: login iso_pool owns it, and can enter tenants', false, 'REVOKE iso_owner FROM iso_pool'),
    ('CREATE FUNCTION iso.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS ''SELECT 1''', 'function iso.definer(): it is SECURITY DEFINER and does not pin search_path', false, 'DROP FUNCTION iso.definer()'),
    ('GRANT CREATE ON SCHEMA iso TO PUBLIC', 'schema iso: CREATE is granted to PUBLIC', false, 'REVOKE CREATE ON SCHEMA iso FROM PUBLIC'),
    ('GRANT CREATE ON SCHEMA public TO iso_other', 'schema public: role iso_other may create in it, and what it creates there can be called with the rights of others', false, 'REVOKE CREATE ON SCHEMA public FROM iso_other'),
    (format('ALTER DATABASE %I OWNER TO iso_other', current_database()), 'schema public: role iso_other may create in it, and what it creates there can be called with the rights of others', false, format('ALTER DATABASE %I OWNER TO %I', current_database(), current_user)),
    ('ALTER DEFAULT PRIVILEGES FOR ROLE iso_owner GRANT SELECT ON TABLES TO PUBLIC', 'default privileges of iso_owner: SELECT on new tables goes to PUBLIC', false, 'ALTER DEFAULT PRIVILEGES FOR ROLE iso_owner REVOKE SELECT ON TABLES FROM PUBLIC'),
    ('GRANT EXECUTE ON FUNCTION tenant_suspend TO PUBLIC', 'function public.tenant_suspend(public.regtenant,text): EXECUTE is granted to PUBLIC since it was installed', false, 'REVOKE EXECUTE ON FUNCTION tenant_suspend FROM PUBLIC'),
    ('GRANT UPDATE ON tenancy.tenant TO iso_pool', 'table tenancy.tenant: UPDATE is granted to iso_pool since it was installed', false, 'REVOKE UPDATE ON tenancy.tenant FROM iso_pool'),
    ('CREATE FOREIGN DATA WRAPPER iso_fdw; CREATE SERVER iso_server FOREIGN DATA WRAPPER iso_fdw; GRANT USAGE ON FOREIGN SERVER iso_server TO tenancy_tenant',
        'foreign server iso_server: USAGE is granted to tenancy_tenant', false, 'DROP FOREIGN DATA WRAPPER iso_fdw CASCADE');
SET allow_system_table_mods = on;
CREATE FUNCTION pg_temp.try_break(b break) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE before text[] := ARRAY(SELECT l FROM isolation_lint() l WHERE l LIKE '#%');
        found text[];
        action text;
BEGIN
    EXECUTE b.sql;
    found := ARRAY(SELECT l FROM isolation_lint() l WHERE l LIKE '#%');
    RETURN NEXT ok(EXISTS (SELECT FROM unnest(found) f WHERE starts_with(f, '# ' || b.finding || '; ') AND NOT f = ANY (before)), 'found: ' || b.sql);
    SELECT e.action INTO action FROM isolation_enforce(dry_run => true) e WHERE e.object || ': ' || e.finding = b.finding;
    RETURN NEXT matches(action, CASE WHEN b.is_repaired THEN '^would be repaired: ' ELSE '^left: ' END, 'and what would be done');
    RETURN NEXT is(ARRAY(SELECT l FROM isolation_lint() l WHERE l LIKE '#%'), found, 'which a dry run does not do');
    SELECT e.action INTO action FROM isolation_enforce() e WHERE e.object || ': ' || e.finding = b.finding;
    RETURN NEXT matches(action, CASE WHEN b.is_repaired THEN '^repaired: ' ELSE '^left: ' END, 'and done');
    IF b.undo IS NOT NULL THEN EXECUTE b.undo; END IF;
    RETURN NEXT is(ARRAY(SELECT l FROM isolation_lint() l WHERE l LIKE '#%'), before, 'then all is as before');
END $$;
SELECT pg_temp.try_break(b) FROM break b ORDER BY n;

-- one tenant alone
ALTER ROLE :a_role LOGIN;
ALTER ROLE :b_role LOGIN;
SELECT results_eq($$SELECT object FROM isolation_enforce('iso-a') WHERE finding = 'it is LOGIN'$$, format('VALUES (%L)', 'role ' || :'a_role'), 'the tenant asked for is repaired');
SELECT results_eq($$SELECT rolcanlogin FROM pg_roles WHERE rolname = $$ || quote_literal(:'b_role'), 'VALUES (true)', 'and the other is not');
ALTER ROLE :b_role NOLOGIN;
SELECT throws_ok($$SELECT * FROM isolation_enforce('iso-none')$$, '42704', NULL, 'an unknown tenant is told');
BEGIN;
SELECT tenant_context_set('iso-a') \g /dev/null
SELECT throws_ok('SELECT isolation_lint()', '42501', NULL, 'a tenant does not look');
ROLLBACK;
SET ROLE iso_pool;
SELECT throws_ok('SELECT isolation_lint()', '42501', NULL, 'nor does the pool');
RESET ROLE;
DROP OWNED BY iso_pool, iso_bi, iso_other;
SELECT * FROM finish();
