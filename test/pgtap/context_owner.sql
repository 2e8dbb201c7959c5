-- Entering as the owner of a tenant's objects: migrations that nothing of the tenant turns on their caller.
SELECT * FROM no_plan();
SELECT count(tenant_create(s)) FROM unnest(ARRAY['own-a', 'own-b']) s \g /dev/null
SELECT slug FROM tenant_create('own-ddl', owns_ddl => true) \g /dev/null
SELECT id AS a, schema_name AS a_schema, role_name AS a_role, owner_name AS a_owner FROM tenancy.tenant WHERE slug = 'own-a' \gset
SELECT schema_name AS b_schema FROM tenancy.tenant WHERE slug = 'own-b' \gset
SELECT schema_name AS d_schema, owner_name AS d_owner FROM tenancy.tenant WHERE slug = 'own-ddl' \gset
CREATE TABLE :b_schema.secret (x int);
CREATE TABLE public.ledger_of_migrations (version text);

BEGIN;
INSERT INTO public.ledger_of_migrations VALUES ('1');
SELECT is(tenant_context_set_owner('own-a', 'deploy'), :'a'::uuid, 'the id');
SELECT is(current_user::text, :'a_owner', 'the owner');
SELECT is(current_tenant_id(), :'a'::uuid, 'in the context');
SELECT is(tenant_context()->>'actor', 'deploy', 'for the record');
CREATE TABLE items (id int PRIMARY KEY, name text);
CREATE INDEX ON items (name);
ALTER TABLE items ADD COLUMN n int DEFAULT 1;
INSERT INTO items VALUES (1, 'one');
SELECT is((SELECT relnamespace::regnamespace::text || '/' || relowner::regrole::text FROM pg_class WHERE oid = 'items'::regclass), :'a_schema' || '/' || :'a_owner', 'its objects are made in its schema, and its own');
SELECT throws_ok('RESET ROLE', NULL, NULL, 'there is no way back by RESET ROLE');
SELECT throws_ok('SET ROLE postgres', '42501', NULL, 'by SET ROLE');
SELECT throws_ok('SET SESSION AUTHORIZATION DEFAULT', NULL, NULL, 'by SET SESSION AUTHORIZATION');
SELECT throws_ok(format('SELECT * FROM %I.secret', :'b_schema'), '42501', NULL, 'and none to another tenant');
SELECT throws_ok($$INSERT INTO public.ledger_of_migrations VALUES ('2')$$, '42501', NULL, 'nor to what is the caller''s');
SELECT throws_ok($$SELECT tenant_context_set_owner('own-a')$$, '42501', NULL, 'nor in again');
COMMIT;
SELECT is(current_user::text, session_user::text, 'it ends with the transaction');
SELECT is((SELECT count(*) FROM public.ledger_of_migrations), 1::bigint, 'in which the caller has made a record');

-- a trigger that the tenant has left for whoever migrates
BEGIN;
SELECT tenant_context_set('own-ddl') \g /dev/null
CREATE TABLE trap (n int);
CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN new; END $$;
CREATE TRIGGER spring BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION spring();
COMMIT;
BEGIN;
SET LOCAL ROLE :d_owner;
SELECT lives_ok(format('INSERT INTO %I.trap VALUES (1)', :'d_schema'), 'after SET ROLE the trigger springs');
SELECT is(current_user::text, session_user::text, 'and the session is the superuser''s again');
ROLLBACK;
BEGIN;
SELECT tenant_context_set_owner('own-ddl') \g /dev/null
SELECT throws_ok('INSERT INTO trap VALUES (1)', NULL, NULL, 'after this it cannot');
SELECT is(current_user::text, :'d_owner', 'and it is still the owner');
ROLLBACK;

SELECT count(*) FROM tenant_suspend('own-b', 'unpaid') \g /dev/null
BEGIN;
SELECT lives_ok($$SELECT tenant_context_set_owner('own-b')$$, 'a suspended tenant');
SELECT throws_ok('CREATE TABLE more (n int)', NULL, NULL, 'to which nothing is added');
ROLLBACK;

SELECT throws_ok($$SELECT tenant_context_set_owner('nobody')$$, '42704', NULL, 'no such tenant');
SELECT throws_ok($$SELECT tenant_context_set_owner(NULL)$$, '22004', NULL, 'no tenant');
BEGIN;
SELECT tenant_context_set('own-a') \g /dev/null
SELECT throws_ok($$SELECT tenant_context_set_owner('own-a')$$, '42501', NULL, 'not out of a context');
ROLLBACK;
CREATE ROLE own_manager LOGIN IN ROLE tenancy_admin;
SET SESSION AUTHORIZATION own_manager;
SELECT throws_ok($$SELECT public.tenant_context_set_owner('own-a')$$, '42501', NULL, 'who administers tenants does not own their data');
RESET SESSION AUTHORIZATION;
GRANT :a_owner TO own_manager;
SET SESSION AUTHORIZATION own_manager;
BEGIN;
SELECT is(public.tenant_context_set_owner('own-a'), :'a'::uuid, 'unless the owner was granted');
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET ROLE tenancy_app;
SELECT throws_ok($$SELECT public.tenant_context_set_owner('own-a')$$, '42501', NULL, 'the application does not');
RESET ROLE;
DROP TABLE public.ledger_of_migrations;
SELECT * FROM finish();
