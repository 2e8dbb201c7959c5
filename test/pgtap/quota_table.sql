-- Counted tables: every way that rows come and go, and every way around the count.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE SCHEMA qb_portal;
CREATE TABLE qb_portal.kind (id integer PRIMARY KEY);
CREATE TABLE qb_portal.entity (id integer PRIMARY KEY, kind integer REFERENCES qb_portal.kind ON DELETE CASCADE ON UPDATE CASCADE, name text);
CREATE TABLE qb_portal.part (id integer, name text) PARTITION BY RANGE (id);
CREATE TABLE qb_portal.part_1 PARTITION OF qb_portal.part FOR VALUES FROM (0) TO (100);
CREATE TABLE qb_portal.part_2 PARTITION OF qb_portal.part FOR VALUES FROM (100) TO (200);
SELECT quota_count_table('entities', 'qb_portal.entity'), quota_count_table('plugins', 'qb_portal.part') \g /dev/null
SELECT template_create('qb', 'qb_portal') \g /dev/null
SELECT slug FROM tenant_create('qb-a', template => 'qb', owns_ddl => true) \g /dev/null
SELECT slug FROM tenant_create('qb-b', template => 'qb') \g /dev/null
SELECT quota_set(s, 'entities', NULL, 10), quota_set(s, 'plugins', NULL, 10) FROM (VALUES ('qb-a'), ('qb-b')) v (s) \g /dev/null
SELECT schema_name AS a FROM tenancy.tenant WHERE slug = 'qb-a' \gset
SELECT role_name AS a_role, schema_name AS a_schema FROM tenancy.tenant WHERE slug = 'qb-a' \gset
SELECT schema_name AS b_schema FROM tenancy.tenant WHERE slug = 'qb-b' \gset
CREATE ROLE qb_app LOGIN IN ROLE tenancy_app;
CREATE FUNCTION pg_temp.used(metric text, slug text DEFAULT 'qb-a') RETURNS numeric LANGUAGE sql AS $$ SELECT (quota_check(slug, metric)).used $$;
-- by its own count, which asks no trigger
CREATE FUNCTION pg_temp.rows(schema_name text, relation text) RETURNS numeric LANGUAGE plpgsql AS
    $$ DECLARE n numeric; BEGIN EXECUTE format('SELECT count(*) FROM %I.%I', schema_name, relation) INTO n; RETURN n; END $$;

-- ways to add, each with room for less than it adds
INSERT INTO :a_schema.kind SELECT g FROM generate_series(1, 3) g;
INSERT INTO :a_schema.entity SELECT g, 1 + g % 3 FROM generate_series(1, 8) g;
BEGIN;
SELECT tenant_context_set('qb-a') \g /dev/null
CREATE TEMP TABLE source AS SELECT g AS id FROM generate_series(1, 20) g;
PREPARE more AS INSERT INTO entity SELECT g FROM generate_series(101, 103) g;
CREATE FUNCTION more() RETURNS void LANGUAGE sql AS 'INSERT INTO entity SELECT g FROM generate_series(101, 103) g';
CREATE VIEW entities AS SELECT * FROM entity;
SELECT throws_ok(q, '53400', 'quota "entities" of tenant "qb-a" is used up', w) FROM (VALUES
    ('INSERT INTO entity SELECT id + 100 FROM source LIMIT 3', 'INSERT … SELECT'),
    ('INSERT INTO entity SELECT id FROM source ON CONFLICT DO NOTHING', 'ON CONFLICT DO NOTHING: twelve are new'),
    ('INSERT INTO entity SELECT id FROM source ON CONFLICT (id) DO UPDATE SET name = ''x''', 'ON CONFLICT DO UPDATE'),
    ('MERGE INTO entity e USING source s ON e.id = s.id WHEN MATCHED THEN UPDATE SET name = ''m'' WHEN NOT MATCHED THEN INSERT VALUES (s.id)', 'MERGE'),
    ('WITH w AS (INSERT INTO entity SELECT id + 100 FROM source RETURNING 1) SELECT count(*) FROM w', 'a WITH query'),
    ('EXECUTE more', 'a prepared statement'),
    ('SELECT more()', 'a function'),
    ('INSERT INTO entities SELECT id + 100 FROM source', 'a view'),
    ('DO $do$ BEGIN FOR i IN 101..103 LOOP INSERT INTO entity VALUES (i); END LOOP; END $do$', 'row by row in a block')) v (q, w);
SELECT is(pg_temp.used('entities'), 8::numeric, 'nothing of it is left');
-- all but the third row of the block, whose error is caught
DO $$ BEGIN FOR i IN 101..105 LOOP BEGIN INSERT INTO entity VALUES (i); EXCEPTION WHEN configuration_limit_exceeded THEN NULL; END; END LOOP; END $$;
SELECT is(pg_temp.used('entities'), 10::numeric, 'whoever catches the error has what fits');
SELECT lives_ok('MERGE INTO entity e USING source s ON e.id = s.id WHEN MATCHED AND s.id > 6 THEN DELETE WHEN MATCHED THEN UPDATE SET name = ''m''', 'MERGE that deletes');
SELECT is(pg_temp.used('entities'), 8::numeric, 'makes room');
COMMIT;
SELECT is(pg_temp.used('entities'), pg_temp.rows(:'a_schema', 'entity'), 'the count is that of the table');
-- cascades
DELETE FROM :a_schema.kind WHERE id IN (1, 2);
SELECT is(pg_temp.used('entities'), pg_temp.rows(:'a_schema', 'entity'), 'a cascade over several parents is counted');
UPDATE :a_schema.kind SET id = 9;
SELECT is(pg_temp.used('entities'), pg_temp.rows(:'a_schema', 'entity'), 'one of an update changes nothing');
SELECT lives_ok(format('TRUNCATE %I.kind CASCADE', :'a_schema'), 'TRUNCATE that cascades');
SELECT is(pg_temp.used('entities') || ' ' || pg_temp.rows(:'a_schema', 'entity'), '0 0', 'is counted');

-- partitions: through the parent, and not
BEGIN;
SELECT tenant_context_set('qb-a') \g /dev/null
INSERT INTO part SELECT g FROM generate_series(96, 103) g;
SELECT is(pg_temp.used('plugins'), 8::numeric, 'rows that are routed count once');
SELECT throws_ok('INSERT INTO part_1 SELECT g FROM generate_series(1, 3) g', '53400', NULL, 'those put into a partition count, too');
INSERT INTO part_2 VALUES (150);
UPDATE part SET id = id + 50 WHERE id BETWEEN 90 AND 99;
SELECT is(pg_temp.used('plugins'), 9::numeric, 'a row that moves to another partition is one row');
SELECT is((SELECT count(*) FROM part_2), 9::bigint, 'they have moved');
-- a tenant that owns its tables makes a partition of its own
CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM (200) TO (300);
SELECT throws_ok('INSERT INTO part_3 SELECT g FROM generate_series(200, 201) g', '53400', NULL, 'a new partition is counted');
CREATE TABLE loose (id integer, name text);
INSERT INTO loose SELECT g FROM generate_series(300, 399) g;
SELECT throws_ok('ALTER TABLE part ATTACH PARTITION loose FOR VALUES FROM (300) TO (400)', '53400', NULL, 'rows that come with a partition are counted');
DELETE FROM loose WHERE id > 300;
SELECT lives_ok('ALTER TABLE part ATTACH PARTITION loose FOR VALUES FROM (300) TO (400)', 'one row fits');
SELECT throws_ok('INSERT INTO loose VALUES (301)', '53400', NULL, 'and is the last');
SELECT lives_ok('DROP TABLE loose', 'a partition that is dropped');
SELECT is(pg_temp.used('plugins'), 9::numeric, 'makes room');
CREATE TABLE child () INHERITS (entity);
SELECT throws_ok('INSERT INTO child SELECT g FROM generate_series(1, 11) g', '53400', NULL, 'a child is counted');
INSERT INTO child SELECT g FROM generate_series(1, 10) g;
SELECT throws_ok('INSERT INTO entity VALUES (1)', '53400', NULL, 'with its parent');
TRUNCATE ONLY entity;
SELECT is(pg_temp.used('entities'), 10::numeric, 'TRUNCATE takes away what it takes away, and no more');
DROP TABLE child;
SELECT is(pg_temp.used('entities'), 0::numeric, 'a child that is dropped makes room');
COMMIT;
SELECT is(pg_temp.used('plugins'), pg_temp.rows(:'a_schema', 'part'), 'the count is that of the table');

-- two tables for one metric: emptying one does not empty the other
CREATE TABLE qb_portal.extra (id integer);
SELECT quota_count_table('plugins', 'qb_portal.extra') \g /dev/null
SELECT format('CREATE TABLE %I.extra (id integer)', :'b_schema') \gexec
INSERT INTO :b_schema.extra SELECT g FROM generate_series(1, 4) g;
INSERT INTO :b_schema.part SELECT g FROM generate_series(1, 5) g;
SELECT is(pg_temp.used('plugins', 'qb-b'), 5::numeric, 'before');
SELECT quota_count_table('plugins', format('%I.extra', :'b_schema')::regclass) \g /dev/null
SELECT is(pg_temp.used('plugins', 'qb-b'), 9::numeric, 'a second table comes with its rows');
SELECT quota_count_table('plugins', format('%I.extra', :'b_schema')::regclass) \g /dev/null
SELECT is(pg_temp.used('plugins', 'qb-b'), 9::numeric, 'once');
SELECT format('TRUNCATE %I.extra', :'b_schema') \gexec
SELECT is(pg_temp.used('plugins', 'qb-b'), 5::numeric, 'emptied, the rows of the other stay');
INSERT INTO :b_schema.extra SELECT g FROM generate_series(1, 2) g;
SELECT format('BEGIN; DROP TABLE %I.extra; ROLLBACK', :'b_schema') \gexec
SELECT is(pg_temp.used('plugins', 'qb-b'), 7::numeric, 'a DROP that is rolled back changes nothing');
SELECT quota_uncount_table(format('%I.extra', :'b_schema')::regclass) \g /dev/null
SELECT is(pg_temp.used('plugins', 'qb-b'), 5::numeric, 'counted no more');
SELECT throws_ok(format('SELECT quota_uncount_table(%L)', format('%I.extra', :'b_schema')), '42704', NULL, 'once');
SELECT is(quota_recount('qb-b', 'plugins'), 5::bigint, 'counting anew finds the same');
SET session_replication_role = replica;
INSERT INTO :b_schema.part VALUES (50);
RESET session_replication_role;
SELECT is(pg_temp.used('plugins', 'qb-b'), 6::numeric, 'a session that is a replica counts, too');
SELECT throws_ok($$SELECT quota_recount('qb-b', 'api_calls')$$, '42704', NULL, 'a sum is not counted');
SELECT throws_ok($$SELECT quota_recount('qb-none', 'plugins')$$, '42704', NULL, 'nor for nobody');
BEGIN;
INSERT INTO :b_schema.part VALUES (51);
SELECT throws_ok($$SELECT quota_recount('qb-b', 'plugins')$$, '25001', NULL, 'nor in the midst of a change');
ROLLBACK;

-- what a tenant with tables of its own may not
BEGIN;
SET LOCAL ROLE qb_app;
SELECT tenant_context_set('qb-a') \g /dev/null
CREATE TABLE mine (id integer);
INSERT INTO mine SELECT g FROM generate_series(1, 50) g;
SELECT throws_ok(q, '42501', NULL, 'refused: ' || q) FROM unnest(ARRAY[
    'DROP TRIGGER tenancy_quota_insert ON entity',
    'DROP TRIGGER IF EXISTS tenancy_quota_truncate ON entity CASCADE',
    'ALTER TABLE entity DISABLE TRIGGER tenancy_quota_insert',
    'ALTER TABLE entity DISABLE TRIGGER USER',
    'ALTER TABLE entity DISABLE TRIGGER ALL',
    'ALTER TABLE entity ENABLE REPLICA TRIGGER tenancy_quota_insert',
    'ALTER TABLE entity ENABLE TRIGGER tenancy_quota_insert',
    'CREATE OR REPLACE TRIGGER tenancy_quota_insert AFTER INSERT ON entity FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()',
    'CREATE TRIGGER back AFTER DELETE ON mine REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count(''entities'')',
    'CREATE TRIGGER back BEFORE TRUNCATE ON mine FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count(''entities'')',
    'DROP FUNCTION tenancy.quota_count() CASCADE',
    'SET session_replication_role = replica',
    'SELECT set_config(''session_replication_role'', ''replica'', true)',
    'DO $$ BEGIN EXECUTE ''DROP TRIGGER tenancy_quota_delete ON entity''; END $$',
    'SELECT quota_uncount_table(''entity'')',
    'SELECT quota_set(''qb-a'', ''entities'', NULL, 1000)',
    'SELECT quota_recount(''qb-a'', ''entities'')',
    'UPDATE tenancy.quota SET hard = 1000',
    'DELETE FROM tenancy.quota_table']) q;
-- another table under the name of the counted one
INSERT INTO entity SELECT g FROM generate_series(1, 10) g;
ALTER TABLE entity RENAME TO entity_old;
SELECT throws_ok('INSERT INTO entity_old VALUES (11)', '53400', NULL, 'the trigger goes with the name');
CREATE TABLE entity (id integer);
SELECT throws_ok('INSERT INTO entity VALUES (11)', '53400', NULL, 'a new table of the name is counted');
DROP TABLE entity_old CASCADE;
INSERT INTO entity SELECT g FROM generate_series(1, 10) g;
SELECT throws_ok('INSERT INTO entity VALUES (11)', '53400', NULL, 'with the same limit');
DROP TABLE entity;
SELECT throws_ok('CREATE TABLE entity AS SELECT g AS id FROM generate_series(1, 11) g', '53400', NULL, 'or made with too many rows');
SELECT lives_ok('CREATE TABLE entity AS SELECT g AS id FROM generate_series(1, 10) g', 'or just enough');
DROP TABLE entity;
SELECT throws_ok('ALTER TABLE mine RENAME TO entity', '53400', NULL, 'or renamed to it');
ROLLBACK;
SELECT is(pg_temp.used('entities') || ' ' || pg_temp.rows(:'a_schema', 'entity'), '0 0', 'nothing happened');

-- shared tables
CREATE TABLE qb_user (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id);
CREATE TABLE qb_user_0 PARTITION OF qb_user FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE qb_user_1 PARTITION OF qb_user FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT tenant_table_register('qb_user') \g /dev/null
SELECT quota_set(s, 'users', NULL, 3) FROM (VALUES ('qb-a'), ('qb-b')) v (s) \g /dev/null
SELECT quota_count_table('users', 'qb_user') \g /dev/null
INSERT INTO qb_user SELECT t.id, g FROM tenancy.tenant t, generate_series(1, 2) g WHERE slug IN ('qb-a', 'qb-b');
SELECT is(pg_temp.used('users') || ' ' || pg_temp.used('users', 'qb-b'), '2 2', 'shared: each has its count');
SELECT throws_ok($$UPDATE qb_user SET tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'qb-b'), id = id + 10$$, '0A000', NULL, 'rows do not move to another tenant');
SELECT lives_ok($$UPDATE qb_user SET id = id + 10$$, 'but change');
SELECT is(pg_temp.used('users') || ' ' || pg_temp.used('users', 'qb-b'), '2 2', 'and count as before');
BEGIN;
SELECT tenant_context_set('qb-a') \g /dev/null
SELECT throws_ok('INSERT INTO qb_user (id) SELECT g FROM generate_series(1, 2) g', '53400', NULL, 'by the parent');
SELECT lives_ok('DELETE FROM qb_user', 'deleting works');
ROLLBACK;

-- our own tables can be counted, too: rows of tenants by their tenant_id
SELECT metric_create('logins', 'login', 'max', true) \g /dev/null
SELECT quota_set('qb-a', 'logins', NULL, 1), quota_count_table('logins', 'tenancy.tenant_login') \g /dev/null
CREATE ROLE qb_login_1 LOGIN;
CREATE ROLE qb_login_2 LOGIN;
SELECT lives_ok($$SELECT tenant_login_bind('qb_login_1', 'qb-a')$$, 'one login');
SELECT throws_ok($$SELECT tenant_login_bind('qb_login_2', 'qb-a')$$, '53400', NULL, 'and no second');
SELECT lives_ok($$SELECT tenant_login_bind('qb_login_2', 'qb-b')$$, 'of another tenant');
SELECT is(pg_temp.used('logins') || ' ' || pg_temp.used('logins', 'qb-b'), '1 1', 'they are counted');
SELECT tenant_login_unbind('qb_login_1'), tenant_login_unbind('qb_login_2') \g /dev/null
SELECT is(pg_temp.used('logins') || ' ' || pg_temp.used('logins', 'qb-b'), '0 0', 'and uncounted');
SELECT quota_uncount_table('tenancy.tenant_login') \g /dev/null

-- one's own limit in the configuration, and names for limits
SELECT throws_ok($$SELECT quota_limit_set('max_widgets', 'nothing')$$, '42704', NULL, 'a limit of an unknown metric');
SELECT throws_ok($$SELECT quota_limit_set('', 'users')$$, '22023', NULL, 'of no name');
SELECT metric_create('widgets', 'widget', 'max', true) \g /dev/null
SELECT is((quota_limit_set('max_widgets', 'widgets')).metric, 'widgets', 'plans can limit a metric of one''s own');
SELECT tenant_configure('qb-b', '{"feature_limits": {"max_widgets": 7}}') \g /dev/null
SELECT is((q).hard || ' ' || (q)."limit" || ' ' || (q).reason, '7 7 within the 7 of tenant_configure()', 'a limit of the tenant''s own') FROM (SELECT quota_check('qb-b', 'widgets') AS q OFFSET 0) x;
SELECT tenant_configure('qb-b', '{"feature_limits": {"max_widgets": -1}}') \g /dev/null
SELECT is((q).hard || ' ' || (q)."limit", NULL, '-1 is none') FROM (SELECT quota_check('qb-b', 'widgets') AS q OFFSET 0) x;
SELECT is((q)."limit" || ' ' || (q).reason, '-1 unlimited: nothing limits it', 'and says so') FROM (SELECT quota_check('qb-b', 'widgets') AS q OFFSET 0) x;
SELECT is((SELECT refusals > 0 AND hard = 10 FROM tenancy.refusal_read((SELECT id FROM tenancy.tenant WHERE slug = 'qb-a')) WHERE name = 'entities'), true, 'refusals are remembered');
SELECT * FROM finish();
