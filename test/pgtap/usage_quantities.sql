-- Very many questions at once are answered by reading all of their time: the same as one by one, and as SQL has it.
SELECT * FROM no_plan();
SET timezone = 'UTC';
\ir quiet.psql
SET tenancy.test_clock = '2026-03-20 12:30+00';
SELECT metric_create('load', 'x'), metric_create('load.eu', 'x', 'count', event => 'load', filters => '{"region": "eu"}'), metric_create('load.users', 'user', 'unique', property => 'user', event => 'load'),
    metric_create('load.area', 'x', 'weighted_sum', true, event => 'load'), metric_create('load.level', 'x', 'max', true, event => 'load') \g /dev/null
-- 2,500 tenants with 8 events each in ten days, some of them cancelled; ids by hand, as no tenant is looked up
CREATE FUNCTION a_tenant(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$SELECT md5('tenant ' || n)::uuid$$;
INSERT INTO tenancy.usage_event (tenant_id, event_id, metric, quantity, occurred_at, recorded_at, properties, cancelled_at, month_of_year)
    SELECT a_tenant(n % 2500), 'e' || n, 'load', n * 7 % 40 / 8.0, '2026-03-08 00:00+00'::timestamptz + n % 19997 * interval '43.2 seconds', now(),
           jsonb_build_object('region', (ARRAY['eu', 'us'])[1 + n % 2], 'user', 'u' || n % 3), CASE WHEN n % 50 = 0 THEN now() END, 3 FROM generate_series(0, 19999) n;
-- each asks for a time of its own: parts of hours, whole hours, less than an hour, nothing, and the other way round
CREATE TABLE question AS
    SELECT row_number() OVER (ORDER BY n, metric) AS ordinal, a_tenant(n) AS tenant_id, metric, '2026-03-09 00:00+00'::timestamptz + n % 100 * interval '37 minutes' AS starts,
           CASE n % 10 WHEN 0 THEN '2026-03-09 00:10+00'::timestamptz + n % 100 * interval '37 minutes' WHEN 1 THEN '2026-03-08 12:00+00' ELSE '2026-03-15 00:00+00'::timestamptz + n % 77 * interval '67 minutes' END AS ends
      FROM generate_series(0, 2499) n, unnest('{load,load.eu,load.users,load.area,load.level}'::text[]) metric;
CREATE FUNCTION answers(first bigint, last bigint) RETURNS TABLE (ordinal bigint, quantity numeric) LANGUAGE sql AS $$
    SELECT first - 1 + q.ordinal, q.quantity FROM (SELECT array_agg(tenant_id ORDER BY ordinal) t, array_agg(metric ORDER BY ordinal) m, array_agg(starts ORDER BY ordinal) s, array_agg(ends ORDER BY ordinal) e FROM question WHERE ordinal BETWEEN first AND last) a,
           tenancy.usage_quantities(t, m, s, e) q $$;
CREATE TABLE expected AS
    SELECT q.ordinal, CASE WHEN q.starts >= q.ends THEN 0 ELSE CASE q.metric
        WHEN 'load' THEN coalesce(sum(e.quantity) FILTER (WHERE e.occurred_at >= q.starts), 0)
        WHEN 'load.eu' THEN count(*) FILTER (WHERE e.occurred_at >= q.starts AND e.properties->>'region' = 'eu')
        WHEN 'load.users' THEN count(DISTINCT e.properties->>'user') FILTER (WHERE e.occurred_at >= q.starts)
        WHEN 'load.area' THEN coalesce(sum(e.quantity * extract(epoch FROM q.ends - greatest(e.occurred_at, q.starts))), 0) / extract(epoch FROM q.ends - q.starts)
        ELSE coalesce(greatest(max(e.quantity) FILTER (WHERE e.occurred_at >= q.starts), (array_agg(e.quantity ORDER BY e.occurred_at DESC) FILTER (WHERE e.occurred_at < q.starts))[1]), 0) END END AS quantity
      FROM question q LEFT JOIN tenancy.usage_event e ON e.tenant_id = q.tenant_id AND e.occurred_at < q.ends AND e.cancelled_at IS NULL
     GROUP BY q.ordinal, q.metric, q.starts, q.ends;
SELECT ok(count(*) = 12500 AND sum(quantity) > 10000 AND count(*) FILTER (WHERE quantity = 0) > 1000, '12,500 questions to ask') FROM expected;
CREATE FUNCTION look_ups() RETURNS bigint LANGUAGE sql AS $$SELECT sum(coalesce(idx_scan, 0))::bigint FROM pg_stat_xact_all_tables WHERE schemaname = 'tenancy' AND relname IN ('usage_event_03', 'usage_rollup')$$;
CREATE FUNCTION check_all(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE before bigint; together bigint; apart bigint;
BEGIN
    before := look_ups();
    CREATE TEMP TABLE at_once AS SELECT * FROM answers(1, 12500);
    together := look_ups() - before;
    CREATE TEMP TABLE by_parts AS SELECT * FROM answers(1, 2500) UNION ALL SELECT * FROM answers(2501, 5000) UNION ALL SELECT * FROM answers(5001, 7500) UNION ALL SELECT * FROM answers(7501, 10000) UNION ALL SELECT * FROM answers(10001, 12500);
    apart := look_ups() - before - together;
    RETURN NEXT is_empty('SELECT * FROM at_once a FULL JOIN expected e USING (ordinal) WHERE round(a.quantity, 9) IS DISTINCT FROM round(e.quantity, 9)', what || ': all at once are what SQL says');
    RETURN NEXT is_empty('SELECT * FROM at_once a FULL JOIN by_parts p USING (ordinal) WHERE a.quantity IS DISTINCT FROM p.quantity', what || ': and what they are by parts');
    -- levels are looked up either way
    RETURN NEXT ok(apart - together > 8000, format('%s: of another way: %s look-ups and %s', what, together, apart));
    DROP TABLE at_once, by_parts;
END $$;
-- so that few ranges are looked up by index
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
ANALYZE tenancy.usage_event;
SELECT check_all('from the events');
\ir roll.psql
CALL roll(3);
SELECT is((SELECT min(rolled_until) FROM tenancy.usage_frontier WHERE metric ~ '^load'), '2026-03-20 12:00+00', 'all is rolled up');
SELECT check_all('rolled up');
-- the frontier in the middle of what is asked
DELETE FROM tenancy.usage_rollup WHERE hour >= '2026-03-12 00:00+00';
UPDATE tenancy.usage_frontier SET rolled_until = '2026-03-12 00:00+00';
UPDATE tenancy.metric SET description = description;
SELECT check_all('a part rolled up');
SELECT * FROM finish();
