-- What is measured beyond calls and time: bytes, rows written, JIT, memory, blocks; retention.
SELECT * FROM no_plan();
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SELECT schema_name AS acme_schema, id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
CREATE TABLE public.seen AS SELECT * FROM tenancy.tenant_stat WITH NO DATA;
-- Looks and remembers; a second look gives what came since.
CREATE FUNCTION public.look() RETURNS bigint LANGUAGE sql AS $$
    DELETE FROM public.seen; INSERT INTO public.seen SELECT * FROM tenancy.tenant_stat; SELECT count(*) FROM public.seen $$;
CREATE FUNCTION public.since(who text, measure text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE now numeric; before numeric;
BEGIN
    EXECUTE format('SELECT %I FROM tenancy.tenant_stat WHERE slug = $1', measure) INTO now USING who;
    EXECUTE format('SELECT %I FROM public.seen WHERE slug = $1', measure) INTO before USING who;
    RETURN now - coalesce(before, 0);
END $$;
GRANT USAGE ON SCHEMA public TO tenancy_tenant;

BEGIN; SELECT tenant_context_set('acme') \g /dev/null
COMMIT;
SELECT public.look() \g /dev/null

-- bytes sent: the rows are that large
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT repeat('x', 1000) FROM generate_series(1, 500) \g /dev/null
COMMIT;
-- protocol: DataRow is 5 + 2 + 4 + length; the rest of it are some hundred bytes
SELECT ok(public.since('acme', 'bytes_sent') BETWEEN 500 * (1000 + 11) AND 500 * (1000 + 11) + 2000, 'bytes sent are those of the rows: ' || public.since('acme', 'bytes_sent'));
SELECT is(public.since('globex', 'bytes_sent'), NULL, 'another tenant has none of it');

-- bytes received: the text, once for all its statements
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT length('') FROM (VALUES (1), (2)) v \; SELECT 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy' \g /dev/null
COMMIT;
-- tenant_context_set: 33 characters and 6 bytes; the other 162 to 165 and 6
SELECT ok(public.since('acme', 'bytes_received') BETWEEN 190 AND 230, 'bytes received are those of the texts: ' || public.since('acme', 'bytes_received'));

-- COPY both ways: rows and bytes
CREATE TABLE public.load (a integer, b text);
GRANT ALL ON public.load TO tenancy_tenant;
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COPY public.load FROM STDIN;
1	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
2	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
3	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
\.
COMMIT;
-- 3 lines of 103 bytes, and the texts
SELECT ok(public.since('acme', 'bytes_received') BETWEEN 309 AND 309 + 100, 'COPY FROM STDIN is received: ' || public.since('acme', 'bytes_received'));
SELECT is(public.since('acme', 'rows_written'), 3::numeric, 'and written');
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COPY (SELECT repeat('z', 100) FROM generate_series(1, 1000)) TO STDOUT \g /dev/null
COMMIT;
-- CopyData: 5 bytes, the value, a newline
SELECT ok(public.since('acme', 'bytes_sent') BETWEEN 106000 AND 107000, 'COPY TO STDOUT is sent: ' || public.since('acme', 'bytes_sent'));
SELECT is(public.since('acme', 'rows'), 1001::numeric, 'its rows are rows');
SELECT is(public.since('acme', 'rows_written'), 0::numeric, 'that nobody wrote');

-- rows written, by every statement that writes; triggers and cascades are not its rows
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO public.load SELECT g, 'b' FROM generate_series(11, 20) g;
UPDATE public.load SET b = 'c' WHERE a > 15;
DELETE FROM public.load WHERE a > 18;
SELECT count(*) FROM public.load \g /dev/null
COMMIT;
SELECT is(public.since('acme', 'rows_written'), 17::numeric, 'rows written');
SELECT is(public.since('acme', 'rows'), 19::numeric, 'of all rows');

-- WAL up to the commit callback: what the server says it inserted
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO public.load SELECT g, repeat('w', 100) FROM generate_series(1, 1000) g;
COMMIT;
SELECT ok(public.since('acme', 'wal_records') BETWEEN 1001 AND 1030, 'a record a row, and the commit: ' || public.since('acme', 'wal_records'));
SELECT ok(public.since('acme', 'wal_bytes') > 1000 * 150, 'and its bytes');

-- foreign keys and triggers are part of the statement
CREATE TABLE public.parent (id integer PRIMARY KEY);
CREATE TABLE public.child (id integer REFERENCES public.parent);
INSERT INTO public.parent SELECT generate_series(1, 1000);
GRANT ALL ON public.parent, public.child TO tenancy_tenant;
VACUUM ANALYZE public.parent;
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO public.child SELECT generate_series(1, 1000);
COMMIT;
SELECT is(public.since('acme', 'calls'), 2::numeric, 'a foreign key check is no call');
SELECT ok(public.since('acme', 'blocks_hit') > 2000, 'but its blocks are the tenant''s: ' || public.since('acme', 'blocks_hit'));

-- memory of a sort
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SET LOCAL work_mem = '64MB';
SELECT count(*) FROM (SELECT g FROM generate_series(1, 200000) g ORDER BY md5(g::text) OFFSET 0) x \g /dev/null
COMMIT;
SELECT ok(memory_bytes BETWEEN 8000000 AND 80000000, 'the memory of a sort: ' || memory_bytes) FROM tenancy.tenant_stat WHERE slug = 'globex';

-- a cancelled statement: what it used
SELECT public.look() \g /dev/null
\set ON_ERROR_STOP 0
\set VERBOSITY terse
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SET LOCAL statement_timeout = 300;
SELECT count(*) FROM generate_series(1, 2000000000) \g /dev/null
ROLLBACK;
\set ON_ERROR_STOP 1
SELECT ok(public.since('acme', 'elapsed_ms') BETWEEN 20 AND 60000, 'a statement that is cancelled took its time');
SELECT ok(public.since('acme', 'cpu_ms') > 1, 'and its CPU');
SELECT is(public.since('acme', 'rollbacks'), 1::numeric, 'and rolled back');

-- DO and CALL are one call each, at any depth
CREATE PROCEDURE public.deep(n integer) LANGUAGE plpgsql AS $$ BEGIN IF n > 0 THEN CALL public.deep(n - 1); PERFORM 1; END IF; END $$;
CREATE FUNCTION public.caught() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1..3 LOOP BEGIN EXECUTE 'SELECT 1 / 0'; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; RETURN 1; END $$;
SELECT public.look() \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
CALL public.deep(3);
DO $$ BEGIN PERFORM public.caught(); PERFORM 2; END $$;
SELECT public.caught() \g /dev/null
SELECT 2 \g /dev/null
COMMIT;
SELECT is(public.since('acme', 'calls'), 5::numeric, 'errors that are caught leave the level where it was');
SELECT is(public.since('acme', 'utilities'), 2::numeric, 'CALL and DO are one each');

-- the minutes are the hour
SELECT usage_flush() \g /dev/null
SELECT results_eq($$SELECT sum(calls), sum(rows), sum(bytes_sent), sum(wal_bytes), sum(cpu_us), max(memory_bytes) FROM tenancy.usage_minute WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'acme')$$,
    $$SELECT sum(calls), sum(rows), sum(bytes_sent), sum(wal_bytes), sum(cpu_us), max(memory_bytes) FROM tenancy.usage_hour WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'acme')$$, 'minutes add up to hours');
SELECT is((SELECT quantity FROM usage_report('acme', now() - interval '1 day', now() + interval '1 day', 'statement.bytes_sent')), (SELECT sum(bytes_sent) FROM tenancy.usage_hour WHERE tenant_id = :'acme'), 'and are a metric');
SELECT is((SELECT quantity FROM usage_report('acme', now() - interval '1 day', now() + interval '1 day', 'statement.rows_written')), (SELECT sum(rows_written) FROM tenancy.usage_hour WHERE tenant_id = :'acme'), 'as are others');

-- latencies by the hour: known histograms, merged, against exact quantiles
SELECT is(tenancy.latency_merge('{3,1,7,2}', '{1,5,7,1}'), '{1,5,3,1,7,3}'::bigint[], 'two histograms are added');
SELECT is(tenancy.latency_merge('{}', '{}'), '{}'::bigint[], 'or none');
SELECT throws_ok($$SELECT tenancy.latency_merge('{1}', '{}')$$, '22023', NULL, 'half a pair is none');
SELECT throws_ok($$SELECT tenancy.latency_merge('{551,1}', '{}')$$, '22023', NULL, 'nor a bucket that there is not');
SELECT throws_ok($$SELECT tenancy.latency_merge('{NULL,1}', '{}')$$, '22023', NULL, 'nor a null');
SET tenancy.test_clock = '2026-02-10 00:00+00';
SELECT made FROM usage_partition_maintain() \g /dev/null
RESET tenancy.test_clock;
CREATE TABLE public.sample AS SELECT '2026-02-10 00:00+00'::timestamptz + (g % 7) * interval '1 hour' AS hour,
    ceil(exp(4 + 3 * sqrt(-2 * ln((g * 7919 % 10007 + 1) / 10009.0)) * cos(2 * pi() * (g * 104729 % 10007) / 10007.0))) AS us FROM generate_series(1, 10000) g;
-- DDSketch: bucket = ceil(log(us) / log(gamma)), gamma = 1.02 / 0.98
INSERT INTO tenancy.latency_hour (tenant_id, hour, statements, histogram)
SELECT :'acme', hour, sum(n), array_agg(x ORDER BY bucket, part) FROM (
    SELECT hour, bucket, n, part, CASE part WHEN 1 THEN bucket ELSE n END AS x FROM (
        SELECT hour, greatest(ceil(ln(us) / ln(1.02 / 0.98)), 0)::bigint AS bucket, count(*) AS n FROM public.sample GROUP BY 1, 2) b, generate_series(1, 2) part) p
GROUP BY hour;
SELECT ok(l.statements = 10000 AND abs(l.p50_ms * 1000 - e.q[1]) <= 0.0201 * e.q[1] AND abs(l.p95_ms * 1000 - e.q[2]) <= 0.0201 * e.q[2] AND abs(l.p99_ms * 1000 - e.q[3]) <= 0.0201 * e.q[3],
    format('seven hours: %s, exactly %s us', l, e.q))
  FROM usage_latency('acme', '2026-02-10 00:00+00', '2026-02-10 07:00+00') l, (SELECT percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY us) AS q FROM public.sample) e;
SELECT ok(abs(l.p95_ms * 1000 - e.q) <= 0.0201 * e.q, 'two of them')
  FROM usage_latency('acme', '2026-02-10 01:00+00', '2026-02-10 03:00+00') l, (SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY us) AS q FROM public.sample WHERE hour BETWEEN '2026-02-10 01:00+00' AND '2026-02-10 02:00+00') e;
SELECT is((usage_latency('acme', '2026-02-01', '2026-02-02'))::text, '(0,,,)', 'none where there were none');
SELECT ok((usage_latency('acme', now() - interval '2 hours', now() + interval '1 hour')).statements > 20, 'those of this session');
SELECT throws_ok($$SELECT usage_latency('acme', '2026-02-02', '2026-02-02')$$, '22023', NULL, 'an empty time');
SELECT throws_ok($$SELECT usage_latency('nobody', '2026-02-01', '2026-02-02')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT usage_latency(NULL, '2026-02-01', '2026-02-02')$$, '22004', NULL, 'none');
CREATE ROLE measures_nobody;
SET ROLE measures_nobody;
SELECT throws_ok($$SELECT usage_latency((SELECT NULL::uuid), '2026-02-01', '2026-02-02')$$, '42501', NULL, 'not for everybody');
SELECT throws_ok('SELECT usage_partition_maintain()', '42501', NULL, 'nor are the parts');
SELECT throws_ok('SELECT * FROM tenancy.usage_minute', '42501', NULL, 'nor the minutes');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_minute WHERE tenant_id = :'acme') + (SELECT count(*) FROM tenancy.latency_hour WHERE tenant_id = :'acme'), 0::bigint, 'a tenant sees no other''s');
SELECT cmp_ok((SELECT count(*) FROM tenancy.usage_minute), '>', 0::bigint, 'but its own');
SELECT throws_ok($$SELECT usage_latency('acme', '2026-02-01', '2026-02-02')$$, '42704', NULL, 'nor its latencies');
COMMIT;

-- parts are made ahead, and dropped when all of them is old
SELECT is((SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'tenancy.latency_hour'::regclass AND c.relname IN ('latency_hour_202602', 'latency_hour_202603')),
    'latency_hour_202602 latency_hour_202603', 'this month and the next');
SET tenancy.test_clock = '2040-01-31 23:59+00';
-- no flush of the present comes between
BEGIN;
SELECT usage_partition_maintain() \g /dev/null
SELECT set_eq($$SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname IN ('usage_minute', 'usage_hour', 'latency_hour') AND p.relnamespace = 'tenancy'::regnamespace AND p.relkind = 'p'$$,
    ARRAY['usage_minute_20400131', 'usage_minute_20400201', 'usage_hour_204001', 'usage_hour_204002', 'latency_hour_204001', 'latency_hour_204002'], 'years later all others are gone');
SELECT is((usage_partition_maintain())::text, '(0,0)', 'and then there is nothing to do');
SELECT is((SELECT count(*) FROM pg_class c WHERE c.relname ~ '^(usage|latency)_.*2040' AND c.relkind = 'r' AND (c.relacl::text ~ '(^|[{,])=' OR NOT c.relrowsecurity)), 0::bigint, 'parts are open to nobody');
COMMIT;
RESET tenancy.test_clock;
DROP ROLE measures_nobody;
SELECT * FROM finish();
