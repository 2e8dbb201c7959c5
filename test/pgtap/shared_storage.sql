-- The storage of tenants without a schema: shares of the shared tables.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT slug FROM tenant_create('pool-a', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('pool-b', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('pool-c', isolation => 'pool') \g /dev/null
-- what autovacuum does in between changes sizes
CREATE TABLE big (tenant_id uuid, id integer, body text, PRIMARY KEY (tenant_id, id)) WITH (autovacuum_enabled = off);
CREATE TABLE small (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id)) WITH (autovacuum_enabled = off);
SELECT tenant_table_register('big'), tenant_table_register('small') \g /dev/null
-- three quarters of the bytes are a's: as many rows, three times as wide, mixed
INSERT INTO big SELECT t.id, g, repeat('x', CASE slug WHEN 'pool-a' THEN 864 ELSE 264 END) FROM generate_series(1, 20000) g, tenancy.tenant t WHERE slug IN ('pool-a', 'pool-b') ORDER BY g;
INSERT INTO small SELECT id, 1 FROM tenancy.tenant WHERE slug = 'pool-b';
SELECT cmp_ok(pg_relation_size('big') / 8192, '>', 1000::bigint, 'the table is larger than the sample');
SELECT is(storage_measure(), 3::bigint, 'all three are measured');
CREATE TEMP TABLE measured AS SELECT slug, bytes FROM tenancy.storage_measurement m JOIN tenancy.tenant t ON t.id = m.tenant_id;
SELECT cmp_ok(abs((SELECT sum(bytes) FROM measured) - pg_total_relation_size('big') - pg_total_relation_size('small')), '<', 10::numeric, 'together they have all of the tables, indexes too');
WITH exact AS (SELECT sum(pg_column_size(b.*)) FILTER (WHERE slug = 'pool-a')::numeric / sum(pg_column_size(b.*)) AS share FROM big b JOIN tenancy.tenant t ON t.id = b.tenant_id)
SELECT ok(abs(bytes / pg_total_relation_size('big')::numeric - share) < 0.03, format('a has %s of it, and %s by the sample', round(share, 4), round(bytes / pg_total_relation_size('big')::numeric, 4))) FROM measured, exact WHERE slug = 'pool-a';
SELECT is((SELECT bytes FROM measured WHERE slug = 'pool-c'), 0::bigint, 'who has no rows has none');
SELECT ok((quota_check('pool-a', 'storage')).used BETWEEN 0.01 AND 0.1, 'the quota knows');
SELECT cmp_ok((SELECT quantity FROM usage_report('pool-a', now() - interval '2 hours', now() + interval '1 hour', 'storage')), '>', 0.01, 'and the bill will');
DELETE FROM big;
VACUUM big;
SELECT storage_measure() \g /dev/null
SELECT is((SELECT bytes FROM tenancy.storage_measurement m JOIN tenancy.tenant t ON t.id = m.tenant_id WHERE slug = 'pool-a'), 0::bigint, 'what is deleted is given back');
SELECT * FROM finish();
