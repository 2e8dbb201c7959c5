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

-- what is registered stays as it is
SET ROLE sht_owner;
SELECT throws_ok(format('CREATE POLICY wide ON app.customer %s', x), '42501', 'permission denied for policy "wide" of shared table "customer"', 'the owner makes no policy: ' || x)
    FROM unnest(ARRAY['USING (true)', 'FOR SELECT TO PUBLIC USING (id > 0)', 'AS RESTRICTIVE USING (true)']) x;
SELECT throws_ok(x, '42501', NULL, 'nor touches ours: ' || x) FROM unnest(ARRAY[
    'DROP POLICY tenancy_isolation ON app.customer', 'DROP POLICY tenancy_access ON app.customer',
    'ALTER POLICY tenancy_isolation ON app.customer USING (true)', 'ALTER POLICY tenancy_isolation ON app.customer RENAME TO x']) x;
SELECT throws_ok(x, '42501', 'table "app.customer" is shared by tenants', 'nor weakens the table: ' || x) FROM unnest(ARRAY[
    'ALTER TABLE app.customer DISABLE ROW LEVEL SECURITY', 'ALTER TABLE app.customer NO FORCE ROW LEVEL SECURITY',
    'ALTER TABLE app.customer ALTER tenant_id DROP DEFAULT', 'ALTER TABLE app.customer ALTER tenant_id SET DEFAULT gen_random_uuid()',
    'DO ''BEGIN ALTER TABLE app.customer NO FORCE ROW LEVEL SECURITY; END''']) x;
SELECT throws_ok(x, state, NULL, 'nor its column: ' || x) FROM (VALUES ('ALTER TABLE app.customer DROP tenant_id CASCADE', '42703'),
    ('ALTER TABLE app.customer RENAME tenant_id TO owner_id', '42703'), ('ALTER TABLE app.invoice ALTER tenant_id DROP NOT NULL', '42P16')) v (x, state);
CREATE TABLE app.empty (tenant_id uuid, id integer, email text, PRIMARY KEY (tenant_id, id));
RESET ROLE;
SELECT tenant_table_register('app.empty') \g /dev/null
SET ROLE sht_owner;
SELECT throws_ok(x, '42P16', NULL, 'no key without the tenant: ' || x) FROM unnest(ARRAY[
    'CREATE UNIQUE INDEX by_email ON app.empty (email)', 'CREATE UNIQUE INDEX by_email ON app.empty (lower(email))', 'CREATE UNIQUE INDEX by_email ON app.empty (email) INCLUDE (tenant_id)',
    'ALTER TABLE app.empty ADD UNIQUE (email)', 'ALTER TABLE app.empty ADD COLUMN code integer UNIQUE',
    'ALTER TABLE app.empty ADD EXCLUDE USING btree (email WITH =)']) x;
SELECT lives_ok(x, 'but with it: ' || x) FROM unnest(ARRAY[
    'CREATE UNIQUE INDEX by_email ON app.empty (tenant_id, email)', 'CREATE INDEX by_mail ON app.empty (email)', 'ALTER TABLE app.empty ADD COLUMN code integer',
    'ALTER TABLE app.empty RENAME COLUMN code TO code2', 'DROP INDEX app.by_email']) x;
CREATE TABLE app.note (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id));
RESET ROLE;
SELECT tenant_table_register('app.note') \g /dev/null
SET ROLE sht_owner;
ALTER TABLE app.note ADD other uuid, ADD customer integer;
SELECT throws_ok($$ALTER TABLE app.note ADD CONSTRAINT crosses FOREIGN KEY (other, customer) REFERENCES app.customer (tenant_id, id)$$, '42P16', NULL, 'no reference by another column');
SELECT lives_ok($$ALTER TABLE app.note ADD FOREIGN KEY (tenant_id, customer) REFERENCES app.customer$$, 'a reference by the tenant');
DROP TABLE app.note;
RESET ROLE;
SELECT is((SELECT count(*) FROM tenancy.tenant_table t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation)), 0::bigint, 'a table that is dropped leaves the registry');
CREATE ROLE sht_operator IN ROLE tenancy_admin, sht_owner;
SET ROLE sht_operator;
SELECT lives_ok('CREATE POLICY recent ON app.customer AS RESTRICTIVE FOR SELECT USING (id < 1000000)', 'the operator who owns it makes policies');
SELECT throws_ok('DROP POLICY tenancy_isolation ON app.customer', '42501', NULL, 'but leaves ours');
DROP POLICY recent ON app.customer;
RESET ROLE;
SELECT throws_ok('DROP POLICY tenancy_isolation ON app.customer', '42501', NULL, 'a superuser too');
SELECT throws_ok('ALTER TABLE app.customer NO FORCE ROW LEVEL SECURITY', '42501', NULL, 'who does not turn it off');
CREATE MATERIALIZED VIEW app.kept AS SELECT tenant_id, customer FROM app.bad_reference;
DROP INDEX app.not_by_tenant;
SELECT throws_ok($$SELECT tenant_table_register('app.bad_reference')$$, '42P16', 'materialized view "app.kept" reads table "app.bad_reference"', 'a materialized view keeps rows of all');
DROP MATERIALIZED VIEW app.kept;
CREATE VIEW app.seen AS SELECT * FROM app.bad_reference;
SELECT throws_ok($$SELECT tenant_table_register('app.bad_reference')$$, '42P16', 'view "app.seen" reads table "app.bad_reference" past row security', 'a superuser''s view');
ALTER VIEW app.seen SET (security_invoker = on);
SELECT lives_ok($$SELECT tenant_table_register('app.bad_reference')$$, 'unless it asks as who calls it');
DROP VIEW app.seen;
DROP TABLE app.bad_reference;

-- partitions by tenant: the plan reads one
SET ROLE sht_owner;
CREATE TABLE app.listed (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (tenant_id);
CREATE TABLE app.hashed (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id);
SELECT format('CREATE TABLE app.hashed_%s PARTITION OF app.hashed FOR VALUES WITH (MODULUS 4, REMAINDER %s)', g, g) FROM generate_series(0, 3) g \gexec
SELECT format('CREATE TABLE app.listed_%s PARTITION OF app.listed FOR VALUES IN (%L)', n, id) FROM (VALUES ('a', :'a'), ('b', :'b')) v (n, id) \gexec
RESET ROLE;
SELECT tenant_table_register('app.listed'), tenant_table_register('app.hashed') \g /dev/null
BEGIN;
SELECT tenant_context_set('a') \g /dev/null
INSERT INTO app.listed SELECT current_tenant_id(), g FROM generate_series(1, 10) g;
INSERT INTO app.hashed SELECT current_tenant_id(), g FROM generate_series(1, 10) g;
CREATE TEMP TABLE pruned (name text, line text) ON COMMIT DROP;
DO $$ DECLARE line text; name text; BEGIN
  FOREACH name IN ARRAY ARRAY['listed', 'hashed'] LOOP
    FOR line IN EXECUTE format('EXPLAIN (COSTS OFF) SELECT count(*) FROM app.%s', name) LOOP INSERT INTO pruned VALUES (name, line); END LOOP;
  END LOOP; END $$;
SELECT is(substring(string_agg(line, ' ') FROM 'Subplans Removed: (\d)'), removed, 'partitions of others are pruned: ' || name)
  FROM pruned JOIN (VALUES ('listed', '1'), ('hashed', '3')) e (n, removed) ON n = name GROUP BY name, removed;
SELECT results_eq('SELECT (SELECT count(*) FROM app.listed), (SELECT count(*) FROM app.hashed)', 'VALUES (10::bigint, 10::bigint)', 'and the rows are there');
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
