-- Storage by relation: what PostgreSQL says of each, in rotation under a budget, and parts of shared tables.
SELECT * FROM no_plan();
SET client_min_messages = warning;
\ir quiet.psql
CREATE SCHEMA shop;
-- what autovacuum does in between changes sizes
CREATE TABLE shop.note (id integer PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
CREATE TABLE shop.tag (id integer, name text) WITH (autovacuum_enabled = off);
CREATE INDEX ON shop.tag (name);
CREATE INDEX ON shop.tag (id);
CREATE MATERIALIZED VIEW shop.summary AS SELECT count(*) FROM shop.note;
CREATE VIEW shop.all_notes AS SELECT * FROM shop.note;
SELECT template_create('shop', 'shop') \g /dev/null
SELECT count(*) FROM generate_series(1, 34) n, tenant_create('s' || n, template => 'shop') \g /dev/null
SELECT id AS s1, schema_name AS s1_schema FROM tenancy.tenant WHERE slug = 's1' \gset
SELECT id AS s2, schema_name AS s2_schema FROM tenancy.tenant WHERE slug = 's2' \gset
-- incompressible, so that it is out of line
CREATE FUNCTION noise(n integer) RETURNS text LANGUAGE sql AS $$SELECT string_agg(md5(n || '.' || g), '') FROM generate_series(1, 200) g$$;
SELECT format('INSERT INTO %I.note SELECT g, noise(g) FROM generate_series(1, 300) g', :'s1_schema') \gexec
SELECT format('INSERT INTO %I.tag SELECT g, g FROM generate_series(1, 5000) g', :'s1_schema') \gexec
CREATE VIEW wrong AS
    SELECT r.tenant_id, r.schema_name, r.relation_name FROM tenancy.tenant_relation_storage r
     WHERE NOT r.is_shared AND (r.total_bytes, r.index_bytes, r.heap_bytes + r.toast_bytes) IS DISTINCT FROM
           (pg_total_relation_size(format('%I.%I', r.schema_name, r.relation_name)), pg_indexes_size(format('%I.%I', r.schema_name, r.relation_name)), pg_table_size(format('%I.%I', r.schema_name, r.relation_name)));

-- nobody waits longer than the budget: without any, a call does one step
SELECT results_eq('SELECT objects, never_measured, oldest FROM tenancy.storage_rotation WHERE kind = $$tenants$$', $$VALUES (34::bigint, 34::bigint, NULL::timestamptz)$$, 'nobody was measured yet');
SELECT is(storage_measure(1000, '0'), 10::bigint, 'one step without any time');
SELECT is((SELECT count(DISTINCT tenant_id) || ' ' || count(*) FROM tenancy.tenant_relation_storage), '10 30', 'of tenants, with their tables and materialized views');
SELECT is((SELECT never_measured FROM tenancy.storage_rotation WHERE kind = 'tenants'), 24::bigint, 'who waits is shown');
SELECT is((SELECT array_agg(storage_measure(1000, '0')) FROM generate_series(1, 2)), '{10,10}', 'the next ones go on');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.tenant_relation_storage), 30::bigint, 'with others');
SELECT max(measured_at) AS third FROM tenancy.tenant_relation_storage \gset
SELECT is(storage_measure(1000, '0'), 10::bigint, 'and reach the last');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT tenant_id) FROM tenancy.tenant_relation_storage), '102 34', 'all have their turn');
SELECT is((SELECT count(*) FROM tenancy.tenant_relation_storage WHERE measured_at > :'third'), 30::bigint, 'the last four, and the first six again');
SELECT results_eq($$SELECT never_measured, stale_for < interval '5 minutes', newest > oldest FROM tenancy.storage_rotation WHERE kind = 'tenants'$$, 'VALUES (0::bigint, true, true)', 'and the view says how stale the oldest is');
SELECT is_empty('SELECT * FROM wrong', 'sizes are those of PostgreSQL');
SELECT set_eq(format($$SELECT relation_name::text, heap_bytes > 0 AS heap, index_bytes > 0 AS index, toast_bytes > 1000000 AS toast FROM tenancy.tenant_relation_storage WHERE tenant_id = %L ORDER BY 1$$, :'s1'),
    $$VALUES ('note', true, true, true), ('summary', true, false, false), ('tag', true, true, false)$$, 'told apart: heap, indexes and what is out of line');
SELECT is((SELECT toast_bytes FROM tenancy.tenant_relation_storage WHERE tenant_id = :'s1' AND relation_name = 'note'), (SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = format('%I.note', :'s1_schema')::regclass), 'TOAST with its index');
SELECT is_empty($$SELECT t.id FROM tenancy.tenant t JOIN tenancy.storage_measurement m ON m.tenant_id = t.id JOIN tenancy.tenant_relation_storage r ON r.tenant_id = t.id GROUP BY t.id, m.bytes HAVING m.bytes <> sum(r.total_bytes)$$, 'they add up to what a tenant has');
SELECT is(storage_measure(7, '0'), 7::bigint, 'no more than asked for');
SELECT is(storage_measure(1000), 34::bigint, 'without a limit all, once');
SELECT is(storage_measure(1000, '1 hour'), 34::bigint, 'with time enough, too');

-- changes
SELECT format('INSERT INTO %I.tag SELECT g, g FROM generate_series(1, 9000) g', :'s2_schema') \gexec
SELECT format('DROP TABLE %I.note CASCADE', :'s1_schema') \gexec
SELECT format('CREATE TABLE %I.fresh AS SELECT g FROM generate_series(1, 3000) g', :'s1_schema') \gexec
SELECT isnt_empty($$SELECT * FROM tenancy.tenant_relation_storage r WHERE pg_total_relation_size(to_regclass(format('%I.%I', r.schema_name, r.relation_name))) IS DISTINCT FROM r.total_bytes$$, 'what changes is stale');
SELECT storage_measure(1000) \g /dev/null
SELECT is_empty('SELECT * FROM wrong', 'until it is measured');
SELECT set_eq(format('SELECT relation_name::text FROM tenancy.tenant_relation_storage WHERE tenant_id = %L', :'s1'), '{tag,fresh}'::text[], 'what is dropped is not there, and what is new is');
BEGIN;
SELECT format('CREATE TABLE %I.mine (id integer PRIMARY KEY)', :'s1_schema') \gexec
SELECT storage_measure(1000) \g /dev/null
SELECT is((SELECT index_bytes FROM tenancy.tenant_relation_storage WHERE relation_name = 'mine'), 8192::bigint, 'a table of the transaction itself is measured');
COMMIT;

-- shared tables, with the same names in two schemas
SELECT slug FROM tenant_create('pool-a', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('pool-b', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('pool-c', isolation => 'pool') \g /dev/null
CREATE SCHEMA other;
CREATE TABLE wide (tenant_id uuid, id integer, body text, PRIMARY KEY (tenant_id, id));
CREATE TABLE other.wide (tenant_id uuid, id integer, body text, PRIMARY KEY (tenant_id, id));
SELECT tenant_table_register('wide'), tenant_table_register('other.wide') \g /dev/null
-- three quarters of the bytes of one are a's, all of the other b's
INSERT INTO wide SELECT t.id, g, repeat('x', CASE slug WHEN 'pool-a' THEN 864 ELSE 264 END) FROM generate_series(1, 20000) g, tenancy.tenant t WHERE slug IN ('pool-a', 'pool-b') ORDER BY g;
INSERT INTO other.wide SELECT id, g, noise(g) FROM tenancy.tenant, generate_series(1, 100) g WHERE slug = 'pool-b';
SELECT results_eq($$SELECT objects, never_measured FROM tenancy.storage_rotation WHERE kind = 'shared tables'$$, 'VALUES (2::bigint, 2::bigint)', 'two shared tables');
SELECT is(storage_measure(1, '0'), 4::bigint, 'one step: three tenants without a schema, and one with');
SELECT is((SELECT count(*) FROM tenancy.shared_table_measurement), 1::bigint, 'of one table');
SELECT storage_measure(1, '0') \g /dev/null
SELECT is((SELECT never_measured FROM tenancy.storage_rotation WHERE kind = 'shared tables'), 0::bigint, 'then of the other');
CREATE VIEW shares AS SELECT t.slug, r.* FROM tenancy.tenant_relation_storage r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE r.is_shared;
SELECT set_eq('SELECT slug, schema_name::text, relation_name::text FROM shares', $$VALUES ('pool-a', current_schema()::text, 'wide'), ('pool-b', current_schema()::text, 'wide'), ('pool-b', 'other', 'wide')$$, 'parts of each tenant that has any');
WITH exact AS (SELECT sum(pg_column_size(b.*)) FILTER (WHERE slug = 'pool-a')::numeric / sum(pg_column_size(b.*)) AS share FROM wide b JOIN tenancy.tenant t ON t.id = b.tenant_id)
SELECT ok(abs(total_bytes / pg_total_relation_size('wide')::numeric - share) < 0.03, format('a has %s of it, and %s by the sample', round(share, 4), round(total_bytes / pg_total_relation_size('wide')::numeric, 4))) FROM shares, exact WHERE slug = 'pool-a';
SELECT ok(abs(sum(index_bytes) - pg_indexes_size('wide')) < 3 AND abs(sum(total_bytes) - pg_total_relation_size('wide')) < 9, 'together they have all of it') FROM shares WHERE schema_name <> 'other';
SELECT ok(abs(toast_bytes - (SELECT pg_total_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'other.wide'::regclass)) < 2 AND toast_bytes > 500000, 'what is out of line, too') FROM shares WHERE schema_name = 'other';
SELECT is_empty($$SELECT s.slug FROM shares s JOIN tenancy.storage_measurement m USING (tenant_id) GROUP BY s.slug, m.bytes HAVING m.bytes <> sum(s.total_bytes)$$, 'and add up to what a tenant has');
SELECT is((SELECT bytes FROM tenancy.storage_measurement m JOIN tenancy.tenant t ON t.id = m.tenant_id WHERE slug = 'pool-c'), 0::bigint, 'who has none has none');
DELETE FROM wide w USING tenancy.tenant t WHERE t.id = w.tenant_id AND t.slug = 'pool-a';
SELECT tenant_table_unregister('other.wide') \g /dev/null
SELECT storage_measure(1) \g /dev/null
SELECT set_eq('SELECT slug, schema_name::text FROM shares', $$VALUES ('pool-b', current_schema()::text)$$, 'who has deleted his rows, and a table that is not shared any more, are not there');
UPDATE tenancy.tenant SET state = 'purged' WHERE slug = 's3';
SELECT storage_measure(1) \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.tenant_relation_storage r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE t.slug = 's3'), 0::bigint, 'nor is who is purged');

-- arguments and rights
SELECT throws_ok('SELECT storage_measure(0)', '22023', NULL, 'nobody');
SELECT throws_ok('SELECT storage_measure(NULL)', '22004', NULL, 'null');
SELECT throws_ok($$SELECT storage_measure(1, '-1 second')$$, '22023', NULL, 'less than no time');
SELECT throws_ok($$SELECT storage_measure(1, '61 minutes')$$, '22023', NULL, 'more than an hour');
SELECT throws_ok($$SELECT storage_measure(1, '1 day')$$, '22023', NULL, 'or a day');
BEGIN;
SELECT tenant_context_set('s1') \g /dev/null
SELECT results_eq('SELECT DISTINCT tenant_id FROM tenancy.tenant_relation_storage', 'SELECT current_tenant_id()', 'a tenant sees its own');
SELECT throws_ok('SELECT * FROM tenancy.storage_rotation', '42501', NULL, 'and nobody''s turn');
COMMIT;
CREATE ROLE storage_app LOGIN IN ROLE tenancy_app;
SET ROLE storage_app;
SELECT throws_ok('SELECT * FROM tenancy.tenant_relation_storage', '42501', NULL, 'the application sees none');
SELECT throws_ok('SELECT storage_measure()', '42501', NULL, 'and measures nothing');
RESET ROLE;
DROP ROLE storage_app;
SELECT * FROM finish();
