-- Tables that hold rows of many tenants.
SELECT * FROM no_plan();
SELECT slug FROM tenant_create('a', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('b', isolation => 'pool') \g /dev/null
SELECT id AS a FROM tenancy.tenant WHERE slug = 'a' \gset
SELECT id AS b FROM tenancy.tenant WHERE slug = 'b' \gset
CREATE ROLE sht_owner;
CREATE SCHEMA app AUTHORIZATION sht_owner;
SET ROLE sht_owner;
CREATE TABLE app.customer (tenant_id uuid, id integer, email text, PRIMARY KEY (tenant_id, id));
CREATE TABLE app.invoice (tenant_id uuid, id serial, customer integer, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer) REFERENCES app.customer ON DELETE CASCADE);
CREATE TABLE app.bad_key (tenant_id uuid, id integer PRIMARY KEY);
CREATE TABLE app.no_column (id integer);
CREATE TABLE app.wrong_type (tenant_id text);
CREATE TABLE app.bad_reference (tenant_id uuid, id integer, customer integer, PRIMARY KEY (tenant_id, id));
CREATE VIEW app.definer_view AS SELECT * FROM app.customer;
CREATE VIEW app.invoker_view WITH (security_invoker = true) AS SELECT * FROM app.customer;
CREATE TABLE app.event (tenant_id uuid, at date, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);
CREATE TABLE app.event_2026 PARTITION OF app.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
RESET ROLE;

SELECT is((tenant_table_register('app.customer')).relation, 'app.customer'::regclass, 'a table is registered');
SELECT lives_ok($$SELECT tenant_table_register('app.customer')$$, 'twice is once');
SELECT lives_ok($$SELECT tenant_table_register('app.invoice')$$, 'one that refers to it by tenant too');
SELECT ok(relrowsecurity AND relforcerowsecurity, 'row security is enabled and forced') FROM pg_class WHERE oid = 'app.customer'::regclass;
SELECT results_eq($$SELECT polname::text COLLATE "default", polpermissive FROM pg_policy WHERE polrelid = 'app.customer'::regclass ORDER BY 1$$,
    $$VALUES ('tenancy_access', true), ('tenancy_isolation', false)$$, 'with a restrictive policy beside a permissive one');
SELECT col_not_null('app', 'invoice', 'tenant_id', 'tenant_id is NOT NULL');
SELECT throws_ok($$SELECT tenant_table_register('app.bad_key')$$, '42P16', NULL, 'a key without tenant_id is refused');
SELECT throws_ok($$SELECT tenant_table_register('app.no_column')$$, '42703', NULL, 'a table without tenant_id');
SELECT throws_ok($$SELECT tenant_table_register('app.wrong_type')$$, '42804', NULL, 'a tenant_id of another type');
SELECT throws_ok($$SELECT tenant_table_register('app.definer_view')$$, '42809', NULL, 'a view');
SELECT throws_ok($$SELECT tenant_table_register('tenancy.tenant')$$, '42809', NULL, 'a table of ours');
CREATE UNIQUE INDEX customer_id ON app.customer (tenant_id, id, email);
ALTER TABLE app.bad_reference ADD CONSTRAINT mixes FOREIGN KEY (tenant_id, customer) REFERENCES app.customer (tenant_id, id);
ALTER TABLE app.bad_reference DROP CONSTRAINT mixes;
CREATE UNIQUE INDEX not_by_tenant ON app.bad_reference (customer);
SELECT throws_ok($$SELECT tenant_table_register('app.bad_reference')$$, '42P16', 'key "app.not_by_tenant" of table "app.bad_reference" does not contain "tenant_id"', 'a unique index without it, by name');

BEGIN;
SELECT tenant_context_set('a') \g /dev/null
INSERT INTO app.customer (id, email) VALUES (1, 'one@a'), (2, 'two@a');
INSERT INTO app.invoice (customer) VALUES (1);
COMMIT;
BEGIN;
SELECT tenant_context_set('b') \g /dev/null
INSERT INTO app.customer (id, email) VALUES (1, 'one@b');
SELECT results_eq('SELECT id, email FROM app.customer', $$VALUES (1, 'one@b')$$, 'a tenant sees its own rows');
SELECT is((SELECT count(*) FROM app.invoice), 0::bigint, 'and no others');
UPDATE app.customer SET email = 'changed';
DELETE FROM app.customer WHERE id = 2;
SELECT throws_ok($$INSERT INTO app.customer VALUES ($$ || quote_literal(:'a') || $$, 9, 'x')$$, '42501', NULL, 'no row in another''s name');
SELECT throws_ok($$UPDATE app.customer SET tenant_id = $$ || quote_literal(:'a'), '42501', NULL, 'no row moved to another');
SELECT throws_ok('INSERT INTO app.invoice (customer) VALUES (2)', '23503', NULL, 'no reference to another''s row');
SELECT throws_ok('TRUNCATE app.customer CASCADE', '42501', NULL, 'no TRUNCATE');
SELECT results_eq('SELECT id FROM app.invoker_view', 'VALUES (1)', 'a security_invoker view shows its own rows')
    WHERE has_table_privilege('app.invoker_view', 'SELECT');
COMMIT;
SELECT is((SELECT count(*) FROM app.customer), 3::bigint, 'a superuser without a context sees all');
SELECT is((SELECT count(*) FROM app.customer WHERE email = 'changed'), 1::bigint, 'an UPDATE without WHERE changed one tenant');
GRANT SELECT ON app.definer_view, app.invoker_view TO tenancy_tenant;
ALTER ROLE sht_owner BYPASSRLS;
BEGIN;
SELECT tenant_context_set('b') \g /dev/null
SELECT throws_ok('SELECT * FROM app.definer_view', '42501', 'permission denied for relation "customer"', 'a view of an owner with BYPASSRLS is refused');
SELECT results_eq('SELECT id FROM app.invoker_view', 'VALUES (1)', 'a security_invoker view is not');
ROLLBACK;
ALTER ROLE sht_owner NOBYPASSRLS;
BEGIN;
SELECT tenant_context_set('a') \g /dev/null
SELECT lives_ok('DELETE FROM app.customer WHERE id = 1', 'a cascade runs through');
SELECT is((SELECT count(*) FROM app.invoice), 0::bigint, 'and deletes what refers');
ROLLBACK;

CREATE ROLE sht_app IN ROLE tenancy_app;
GRANT USAGE ON SCHEMA app TO sht_app;
GRANT SELECT ON app.customer TO sht_app;
SET ROLE sht_app;
SELECT throws_ok('SELECT * FROM app.customer', '42501', 'permission denied for relation "customer"', 'without a context it is an error, not an empty table');
RESET ROLE;

SELECT lives_ok($$SELECT tenant_table_register('app.event')$$, 'a partitioned table');
SELECT is((SELECT count(*) FROM tenancy.tenant_table WHERE relation::text LIKE 'app.event%'), 2::bigint, 'with its partitions');
BEGIN;
SELECT tenant_context_set('a') \g /dev/null
INSERT INTO app.event (at) VALUES ('2026-05-05');
COMMIT;
BEGIN;
SELECT tenant_context_set('b') \g /dev/null
SELECT is((SELECT count(*) FROM app.event_2026), 0::bigint, 'a partition named directly shows no foreign row');
COMMIT;

-- parallel workers see the tenant of their leader
INSERT INTO app.customer SELECT :'a', g, 'x' FROM generate_series(100, 20000) g;
ANALYZE app.customer;
BEGIN;
SELECT tenant_context_set('a') \g /dev/null
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL enable_indexscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_indexonlyscan = off;
CREATE TEMP TABLE plan_text (line text) ON COMMIT DROP;
DO $$ DECLARE line text; BEGIN FOR line IN EXPLAIN (COSTS OFF) SELECT count(*) FROM app.customer LOOP INSERT INTO plan_text VALUES (line); END LOOP; END $$;
SELECT matches((SELECT string_agg(line, ' ') FROM plan_text), 'Workers Planned: [1-9]', 'the query runs in parallel');
SELECT throws_ok('EXPLAIN ANALYZE SELECT count(*) FROM app.customer', '42501', NULL, 'EXPLAIN ANALYZE would count the rows of others');
SELECT is((SELECT count(*) FROM app.customer), 19903::bigint, 'and counts the rows of the tenant');
COMMIT;

SELECT throws_ok($$SELECT tenant_table_unregister('app.no_column')$$, '42704', NULL, 'what is not registered is not unregistered');
SELECT lives_ok($$SELECT tenant_table_unregister('app.invoice')$$, 'unregistered');
SELECT is((SELECT count(*) FROM pg_policy WHERE polrelid = 'app.invoice'::regclass), 0::bigint, 'the policies are gone');
SELECT ok(relrowsecurity, 'row security stays on') FROM pg_class WHERE oid = 'app.invoice'::regclass;
CREATE ROLE sht_admin IN ROLE tenancy_admin;
GRANT USAGE ON SCHEMA app TO sht_admin;
SET ROLE sht_admin;
SELECT throws_ok($$SELECT tenant_table_register('app.wrong_type')$$, '42501', 'must be owner of table "wrong_type"', 'who does not own the table registers nothing');
RESET ROLE;
SELECT * FROM finish();
