-- What statements are counted for, and usage events.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE SCHEMA portal;
CREATE TABLE portal.item (id integer PRIMARY KEY, body text);
CREATE TABLE portal.part (item integer REFERENCES portal.item);
CREATE FUNCTION portal.insert_many(n integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN FOR i IN 1..n LOOP INSERT INTO item VALUES (i, 'x'); END LOOP; END $$;
SELECT count(*) FROM template_create('portal', 'portal') \g /dev/null
SELECT slug FROM tenant_create('acme', template => 'portal') \g /dev/null
SELECT slug FROM tenant_create('globex', template => 'portal') \g /dev/null
SELECT schema_name AS acme_schema, id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
CREATE FUNCTION counted(who text, OUT calls bigint, OUT rows bigint) LANGUAGE sql AS $$
    SELECT coalesce(sum(s.calls), 0), coalesce(sum(s.rows), 0) FROM tenancy.tenant_stat s WHERE slug = who $$;

BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO item SELECT g, 'x' FROM generate_series(1001, 1100) g;
SELECT count(*) FROM item \g /dev/null
COMMIT;
-- entering counts too: the transaction is the tenant's from its beginning
SELECT results_eq($$SELECT * FROM counted('acme')$$, 'VALUES (3::bigint, 102::bigint)', 'calls and rows of a transaction');
SELECT results_eq($$SELECT * FROM counted('globex')$$, 'VALUES (0::bigint, 0::bigint)', 'nothing of it for another tenant');
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT insert_many(50) \g /dev/null
COMMIT;
SELECT results_eq($$SELECT * FROM counted('globex')$$, 'VALUES (2::bigint, 2::bigint)', 'statements within a function are counted once, with it');
SELECT cmp_ok((SELECT wal_records FROM tenancy.tenant_stat WHERE slug = 'globex'), '>=', 100::numeric::bigint, 'what they write is counted all the same');
SELECT cmp_ok((SELECT blocks_hit FROM tenancy.tenant_stat WHERE slug = 'acme'), '>', 0::bigint, 'blocks');
SELECT cmp_ok((SELECT elapsed_ms FROM tenancy.tenant_stat WHERE slug = 'acme'), '>', 0::numeric, 'time');
SELECT cmp_ok((SELECT cpu_ms FROM tenancy.tenant_stat WHERE slug = 'globex'), '>', 0::numeric, 'CPU time');

CREATE TEMP TABLE before AS SELECT * FROM counted('acme');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
DECLARE c CURSOR FOR SELECT * FROM item ORDER BY id;
FETCH 10 FROM c \g /dev/null
FETCH 20 FROM c \g /dev/null
COMMIT;
SELECT results_eq($$SELECT a.calls - b.calls, a.rows - b.rows FROM counted('acme') a, before b$$, 'VALUES (4::bigint, 31::bigint)', 'a cursor, portion by portion');
TRUNCATE before; INSERT INTO before SELECT * FROM counted('acme');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COPY item FROM STDIN;
1	one
2	two
\.
COPY (SELECT 1 FROM item) TO STDOUT \g /dev/null
PREPARE p AS SELECT * FROM item WHERE id <= $1;
EXECUTE p(2) \g /dev/null
COMMIT;
SELECT results_eq($$SELECT a.calls - b.calls, a.rows - b.rows FROM counted('acme') a, before b$$, 'VALUES (5::bigint, 107::bigint)', 'COPY both ways, and EXECUTE');
TRUNCATE before; INSERT INTO before SELECT * FROM counted('acme');
\set ON_ERROR_STOP 0
\o /dev/null
BEGIN;
SELECT tenant_context_set('acme');
SELECT 1 / (id - 1) FROM item WHERE id = 1;
ROLLBACK;
\o
\set ON_ERROR_STOP 1
SELECT is((SELECT a.calls - b.calls FROM counted('acme') a, before b), 2::bigint, 'a statement that fails is counted');
TRUNCATE before; INSERT INTO before SELECT * FROM counted('acme');
SELECT count(*) FROM :acme_schema.item \g /dev/null
SELECT is((SELECT a.calls - b.calls FROM counted('acme') a, before b), 1::bigint, 'without a context the schema that is touched tells the tenant');
SET tenancy.metering = off;
SELECT count(*) FROM :acme_schema.item \g /dev/null
RESET tenancy.metering;
SELECT is((SELECT a.calls - b.calls FROM counted('acme') a, before b), 1::bigint, 'tenancy.metering = off');

-- to the tables
SELECT cmp_ok(usage_flush(), '>=', 0::bigint, 'a flush');
SELECT is((SELECT sum(calls) || ' ' || sum(rows) || ' ' || sum(wal_bytes) FROM tenancy.usage_hour WHERE tenant_id = :'acme'),
    (SELECT calls || ' ' || rows || ' ' || wal_bytes FROM tenancy.tenant_stat WHERE slug = 'acme'), 'brings everything to the tables');
BEGIN;
SELECT count(*) FROM :acme_schema.item \g /dev/null
COMMIT;
BEGIN;
SELECT usage_flush() \g /dev/null
ROLLBACK;
SELECT usage_flush() \g /dev/null
SELECT is((SELECT sum(calls) FROM tenancy.usage_hour WHERE tenant_id = :'acme'), (SELECT calls::numeric FROM tenancy.tenant_stat WHERE slug = 'acme'), 'a flush rolled back loses nothing and counts nothing twice');
DO $$ BEGIN
    BEGIN PERFORM usage_flush(); RAISE 'x'; EXCEPTION WHEN raise_exception THEN NULL; END;
    PERFORM usage_flush(); PERFORM usage_flush();
END $$;
SELECT is((SELECT sum(calls) FROM tenancy.usage_hour WHERE tenant_id = :'acme'), (SELECT calls::numeric FROM tenancy.tenant_stat WHERE slug = 'acme'), 'nor one in a subtransaction');

-- storage
SELECT is(storage_measure(10), 2::bigint, 'the storage of two tenants');
SELECT is((SELECT max(storage_bytes) FROM tenancy.usage_hour WHERE tenant_id = :'acme'),
    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = :'acme_schema'::regnamespace AND relkind = 'r'), 'is what PostgreSQL says');
SELECT throws_ok('SELECT storage_measure(0)', '22023', NULL, 'none is too few');

-- events
SELECT is((usage_record('acme', 'api_calls', 5, 'e1', '2026-01-01 10:00+00', '{"path": "/"}')).quantity, 5::numeric, 'an event');
SELECT is((usage_record('acme', 'api_calls', 5.00, 'e1', '2026-01-01 11:00+01', '{"path":"/"}')).recorded_at, (SELECT recorded_at FROM tenancy.usage_event WHERE event_id = 'e1'), 'again: the first row');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 6, 'e1', '2026-01-01 10:00+00', '{"path": "/"}')$$, '23505', NULL, 'another quantity under its id');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 5, 'e1', '2026-01-01 10:00+00')$$, '23505', NULL, 'other properties');
SELECT lives_ok($$SELECT usage_record('globex', 'api_calls', 7, 'e1', '2026-01-01 10:00+00')$$, 'another tenant has its own ids');
SELECT throws_ok($$SELECT usage_record('acme', 'nothing', 1)$$, '42704', NULL, 'an unknown metric');
SELECT throws_ok($$SELECT usage_record('acme', 'statement.calls', 1)$$, '42704', NULL, 'one that the server counts');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 'NaN')$$, '22003', NULL, 'not a number');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 1, occurred_at => now() + interval '6 minutes')$$, '22023', NULL, 'the future');
SELECT lives_ok($$SELECT usage_record('acme', 'api_calls', 1, occurred_at => now() + interval '4 minutes')$$, 'a clock that is a little ahead');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 1, '')$$, '22023', NULL, 'an empty id');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 1, properties => '[]')$$, '22023', NULL, 'properties that are no object');
SELECT is((usage_cancel('acme', 'e1')).cancelled_at IS NOT NULL, true, 'an event is cancelled');
SELECT throws_ok($$SELECT usage_cancel('acme', 'none')$$, '42704', NULL, 'not one that is not there');
SELECT is((SELECT quantity FROM usage_report('acme', '2026-01-01', '2026-02-01', 'api_calls')), 0::numeric, 'and counts no more');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 6, 'e1')$$, '23505', NULL, 'its id stays taken');

-- reports
SELECT count(*) FROM generate_series(1, 3) d, usage_record('acme', 'users', d * 10, 'u' || d, '2026-03-01 00:00+00'::timestamptz + d * interval '1 day') \g /dev/null
SELECT count(*) FROM generate_series(1, 3) d, usage_record('acme', 'api_calls', d, 'c' || d, '2026-03-01 00:00+00'::timestamptz + d * interval '1 day') \g /dev/null
SELECT results_eq($$SELECT metric_name, quantity, unit FROM usage_report('acme', '2026-03-01 00:00+00', '2026-04-01 00:00+00')$$,
    $$VALUES ('api_calls', 6::numeric, 'call'), ('users', 30, 'user')$$, 'a month: sums and highest levels');
SELECT results_eq($$SELECT quantity FROM usage_report('acme', '2026-03-01 00:00+00', '2026-03-06 00:00+00', 'users', '1 day')$$,
    $$VALUES (0::numeric), (10), (20), (30), (30)$$, 'by the day: a level carries over');
SELECT results_eq($$SELECT quantity FROM usage_report('acme', '2026-03-01 00:00+00', '2026-03-06 00:00+00', 'api_calls', '1 day')$$,
    $$VALUES (0::numeric), (1), (2), (3), (0)$$, 'a sum does not');
SELECT throws_ok($$SELECT usage_report('acme', '2026-03-01', '2026-03-01')$$, '22023', NULL, 'an empty time');
SELECT throws_ok($$SELECT usage_report('acme', '2026-03-01', '2026-03-02', bucket => '0')$$, '22023', NULL, 'a bucket of no length');
SELECT throws_ok($$SELECT usage_report('acme', '2020-03-01', '2026-03-02', bucket => '1 second')$$, '22023', NULL, 'too many buckets');
SELECT is((metric_create('builds.minutes', 'min')).aggregation, 'sum', 'a metric of one''s own');
SELECT throws_ok($$SELECT metric_create('builds.minutes', 'min')$$, '23505', NULL, 'once');
SELECT throws_ok($$SELECT metric_create('x', 'y', 'median')$$, '22023', NULL, 'with an aggregation that there is');
SELECT throws_ok($$SELECT metric_create('x', 'y', 'sum', true)$$, '22023', NULL, 'a sum carries nothing over');

-- a tenant, for itself
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT lives_ok($$SELECT usage_record('acme', 'builds.minutes', 3)$$, 'records');
SELECT is((SELECT sum(quantity) FROM usage_report('acme', now() - interval '1 hour', now() + interval '1 hour', 'builds.minutes')), 3::numeric, 'and reads');
SELECT throws_ok($$SELECT usage_record((SELECT o.tenant_id FROM tenancy.usage_event o WHERE false), 'builds.minutes', 3)$$, '22004', NULL, 'nobody is nobody');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.usage_event), 1::bigint, 'and sees its own events');
SELECT throws_ok($$SELECT usage_cancel('acme', 'e1')$$, '42501', NULL, 'but cancels nothing');
SELECT results_eq($$SELECT DISTINCT slug FROM tenancy.tenant_stat$$, $$VALUES ('acme')$$, 'and sees its own counters alone');
COMMIT;
SELECT * FROM finish();
