-- Roll-ups: reports are the same with them, whatever comes late or is cancelled; and the view that
-- watches them sees what is wrong.
SELECT * FROM no_plan();
SET timezone = 'UTC';
-- by nobody else
\ir quiet.psql
SET tenancy.test_clock = '2026-03-20 12:30+00';
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SELECT id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT metric_create('requests', 'request', group_by => '{region}'),
    metric_create('requests.n', 'request', 'count', event => 'requests', filters => '{"region": "eu"}'),
    metric_create('requests.users', 'user', 'unique', property => 'user', event => 'requests', group_by => '{region}'),
    metric_create('requests.max', 'x', 'max', event => 'requests'), metric_create('requests.min', 'x', 'min', event => 'requests'),
    metric_create('requests.avg', 'x', 'avg', event => 'requests'), metric_create('requests.last', 'x', 'latest', event => 'requests'),
    metric_create('requests.level', 'x', 'max', true, event => 'requests', group_by => '{region}'),
    metric_create('requests.area', 'x', 'weighted_sum', true, event => 'requests', group_by => '{region}') \g /dev/null
CREATE FUNCTION send(first integer, last integer) RETURNS bigint LANGUAGE sql AS $$
    SELECT recorded FROM usage_record_batch((SELECT jsonb_agg(jsonb_build_object('tenant', (ARRAY['acme', 'globex'])[1 + (n % 7 = 0)::int], 'metric', 'requests', 'event_id', 'e' || n,
        'quantity', 1 + n * 7 % 40 / 8.0, 'occurred_at', '2026-03-17 00:00+00'::timestamptz + n * interval '7 minutes 3 seconds',
        'properties', jsonb_strip_nulls(jsonb_build_object('region', (ARRAY['eu', 'us', NULL])[1 + n % 3], 'user', 'u' || n % 11)))) FROM generate_series(first, last) n)) $$;
-- everything that reports say: all metrics, by days, odd parts of an hour and groups
CREATE VIEW everything AS
    SELECT t.slug, 'day' AS kind, r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-16', '2026-03-22', bucket => '1 day') r
    UNION ALL SELECT t.slug, 'odd', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-17 01:17', '2026-03-20 13:00', bucket => '13 hours 41 minutes') r
    UNION ALL SELECT t.slug, 'india', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-17 00:00+05:30', '2026-03-20 00:00+05:30', bucket => '1 day', time_zone => 'Asia/Kolkata') r
    UNION ALL SELECT t.slug, 'group', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-17 01:17', '2026-03-20 13:00', group_by => '{region}') r
    UNION ALL SELECT t.slug, 'later', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-21', '2026-03-22') r;
CREATE FUNCTION check_all(what text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT bag_eq('SELECT * FROM everything', 'SELECT * FROM before', what || ': reports are what they were');
    RETURN NEXT is_empty('SELECT * FROM tenancy.usage_rollup_difference', what || ': the roll-ups are what the events add up to');
END $$;
\ir roll.psql

SELECT send(1, 700) \g /dev/null
CREATE TABLE before AS SELECT * FROM everything;
SELECT ok((SELECT count(*) FROM before) > 200 AND (SELECT count(DISTINCT metric_name) FROM before) = 9, 'reports to compare with');
-- by hand, so that there is something outside of the code
SELECT results_eq($$SELECT sum(quantity) FROM before WHERE slug = 'acme' AND kind = 'day' AND metric_name = 'requests'$$,
    $$SELECT sum(1 + n * 7 % 40 / 8.0) FROM generate_series(1, 700) n WHERE n % 7 <> 0$$, 'sums of days');

-- the steps
SELECT is((SELECT rolled || ' ' || merged FROM usage_roll_up()), '0 0', 'first it is announced');
SELECT is((SELECT count(*) FROM tenancy.usage_announcement WHERE metric ~ '^requests' AND rolls_until = '2026-03-20 12:00+00' AND waits_for IS NULL), 9::bigint, 'up to the last hour that is over');
SELECT check_all('announced');
SELECT is((SELECT rolled FROM usage_roll_up()), 0::bigint, 'then those who may not know are noted');
SELECT is((SELECT count(*) FROM tenancy.usage_announcement WHERE waits_for IS NULL AND metric ~ '^requests'), 0::bigint, 'all of them');
SELECT ok((SELECT rolled FROM usage_roll_up()) > 1000, 'then it is rolled up');
SELECT is((SELECT DISTINCT rolled_until FROM tenancy.usage_frontier WHERE metric ~ '^requests'), '2026-03-20 12:00+00', 'to one frontier');
SELECT check_all('rolled up');
SELECT is((SELECT rolled || ' ' || merged FROM usage_roll_up()), '0 0', 'once');
SELECT results_eq($$SELECT count, sum FROM tenancy.usage_rollup r WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'globex') AND metric = 'requests.max' AND hour = '2026-03-17 02:00+00'$$,
    $$SELECT count(*), sum(1 + n * 7 % 40 / 8.0) FROM generate_series(1, 700) n WHERE n % 7 = 0 AND date_trunc('hour', '2026-03-17 00:00+00'::timestamptz + n * interval '7 minutes 3 seconds') = '2026-03-17 02:00+00'$$, 'an hour is what is in it');
-- reports read them
BEGIN;
DELETE FROM tenancy.usage_event WHERE occurred_at < '2026-03-20 12:00+00';
SELECT results_eq($$SELECT * FROM everything WHERE kind = 'day' ORDER BY 1, 2, 3, 4$$, $$SELECT * FROM before WHERE kind = 'day' ORDER BY 1, 2, 3, 4$$, 'whole hours need no events');
SELECT isnt_empty('SELECT * FROM tenancy.usage_rollup_difference', 'though the view misses them');
ROLLBACK;

-- late events and cancelled ones
SELECT send(715, 718) \g /dev/null
SELECT count(*) FROM generate_series(1, 40) n, usage_record((ARRAY['acme', 'globex'])[1 + n % 2], 'requests', n, 'late' || n, '2026-03-18 00:00+00'::timestamptz + n * interval '13 minutes', jsonb_build_object('region', (ARRAY['eu', 'ap'])[1 + n % 2], 'user', 'v' || n % 5)) \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_rollup WHERE is_delta AND metric = 'requests'), 40::bigint, 'each late event leaves a row');
SELECT usage_cancel('acme', e) FROM unnest('{e5,e100,e101,late2,late3,e650}'::text[]) e WHERE e <> 'late3' \g /dev/null
SELECT usage_cancel('globex', e) FROM unnest('{late1,late3,late5}'::text[]) e \g /dev/null
CREATE TEMP TABLE late_report AS SELECT * FROM everything;
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'late and cancelled ones are in the roll-ups at once');
SELECT results_eq($$SELECT sum(quantity) FROM late_report WHERE slug = 'acme' AND kind = 'day' AND metric_name = 'requests'$$,
    $$SELECT sum(quantity) FROM tenancy.usage_event WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'acme') AND cancelled_at IS NULL AND occurred_at >= '2026-03-16' AND occurred_at < '2026-03-22'$$, 'and in the reports');
SELECT is((SELECT sum(quantity) FROM late_report WHERE slug = 'globex' AND kind = 'group' AND metric_name = 'requests' AND groups = '{"region": "ap"}'), (SELECT sum(n)::numeric FROM generate_series(7, 40) n WHERE n % 2 = 1), 'in the right group');
DROP TABLE before;
CREATE TABLE before AS SELECT * FROM late_report;
SELECT ok((SELECT merged FROM usage_roll_up()) > 20, 'rows of late events are merged');
SELECT is((SELECT count(*) FROM tenancy.usage_rollup WHERE is_delta), 0::bigint, 'all');
SELECT is((SELECT count(*) FROM (SELECT FROM tenancy.usage_rollup GROUP BY tenant_id, metric, hour, group_values, value HAVING count(*) > 1) x), 0::bigint, 'one row an hour, group and value');
SELECT check_all('merged');
-- between the announcement and the roll-up
SET tenancy.test_clock = '2026-03-20 15:30+00';
SELECT ok(announced > 0, 'the next hours') FROM usage_roll_up();
SELECT usage_record('acme', 'requests', 3, 'between1', '2026-03-20 13:01+00', '{"region": "eu", "user": "w"}') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_rollup WHERE is_delta AND metric = 'requests'), 1::bigint, 'is late although nothing is rolled up yet');
SELECT is((SELECT quantity FROM usage_report('acme', '2026-03-20 13:00', '2026-03-20 14:00', 'requests.n')), (SELECT count(*)::numeric FROM tenancy.usage_event WHERE tenant_id = :'acme' AND occurred_at >= '2026-03-20 13:00' AND occurred_at < '2026-03-20 14:00' AND properties @> '{"region": "eu"}'), 'and counts once');
SELECT usage_cancel('acme', 'between1') \g /dev/null
SELECT usage_record('acme', 'requests', 4, 'between2', '2026-03-20 13:02+00', '{"region": "eu", "user": "w"}') \g /dev/null
DROP TABLE before;
CREATE TABLE before AS SELECT * FROM everything;
CALL roll(2);
SELECT is((SELECT DISTINCT rolled_until FROM tenancy.usage_frontier WHERE metric ~ '^requests'), '2026-03-20 15:00+00', 'the frontier has moved');
SELECT check_all('moved on');

-- a metric made later sees what is there, before and after it is rolled up
SELECT metric_create('requests.late', 'x', 'sum', event => 'requests', filters => '{"region": ["us", "ap"]}', group_by => '{user}') \g /dev/null
DROP TABLE before;
CREATE TABLE before AS SELECT * FROM everything;
CREATE TEMP TABLE fresh AS SELECT r.* FROM usage_report('acme', '2026-03-16', '2026-03-22', 'requests.late', '7 hours') r UNION ALL SELECT * FROM usage_report('acme', '2026-03-16', '2026-03-22', 'requests.late', group_by => '{user}');
SELECT is((SELECT sum(quantity) FROM fresh WHERE groups IS NULL), (SELECT sum(quantity) FROM tenancy.usage_event WHERE tenant_id = :'acme' AND cancelled_at IS NULL AND properties->>'region' IN ('us', 'ap')), 'a new metric counts old events');
CALL roll(3);
SELECT is((SELECT rolled_until FROM tenancy.usage_frontier WHERE metric = 'requests.late'), '2026-03-20 15:00+00', 'and is rolled up');
SELECT bag_eq($$SELECT r.* FROM usage_report('acme', '2026-03-16', '2026-03-22', 'requests.late', '7 hours') r UNION ALL SELECT * FROM usage_report('acme', '2026-03-16', '2026-03-22', 'requests.late', group_by => '{user}')$$, 'SELECT * FROM fresh', 'to the same');
SELECT check_all('another metric');

-- months are steps
SELECT metric_create('old', 'x') \g /dev/null
SELECT count(*) FROM generate_series(0, 5) m, usage_record('acme', 'old', m, 'old' || m, '2025-10-20 10:10+00'::timestamptz + m * interval '1 month') \g /dev/null
DROP TABLE before;
CREATE TABLE before AS SELECT * FROM everything;
SELECT usage_roll_up() \g /dev/null
SELECT is((SELECT rolls_until FROM tenancy.usage_announcement WHERE metric = 'old'), '2025-11-01 00:00+00', 'one to the end of the month of the first event');
CALL roll(2);
SELECT is((SELECT rolled_from || ' ' || rolled_until FROM tenancy.usage_frontier WHERE metric = 'old'), '2025-10-20 10:00:00+00 2025-11-01 00:00:00+00', 'which it begins with');
CALL roll(15);
SELECT is((SELECT rolled_until FROM tenancy.usage_frontier WHERE metric = 'old'), '2026-03-20 15:00+00', 'and on to now');
SELECT results_eq($$SELECT hour, sum FROM tenancy.usage_rollup WHERE metric = 'old' ORDER BY 1$$, $$SELECT '2025-10-20 10:00+00'::timestamptz + m * interval '1 month', m::numeric FROM generate_series(0, 5) m$$, 'all of it');
SELECT check_all('months');
-- a step within a transaction that announced it waits for the next one
SET tenancy.test_clock = '2026-03-20 17:30+00';
BEGIN;
SELECT usage_roll_up(), usage_roll_up(), usage_roll_up() \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_announcement WHERE waits_for IS NULL AND metric ~ '^requests'), (SELECT count(*) FROM tenancy.metric WHERE name ~ '^requests'), 'nobody else has heard of what is not committed');
ROLLBACK;
SELECT check_all('rolled back');

-- the view sees what is wrong
CREATE FUNCTION breaks(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found bigint;
BEGIN
    BEGIN
        EXECUTE statement;
        SELECT count(*) INTO found FROM tenancy.usage_rollup_difference;
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN NULL; END;
    RETURN is(found > 0, true, 'seen: ' || statement);
END $$;
SELECT breaks($$UPDATE tenancy.usage_rollup SET sum = sum + 1 WHERE ctid = (SELECT min(ctid) FROM tenancy.usage_rollup)$$);
SELECT breaks($$UPDATE tenancy.usage_rollup SET latest = latest + 1 WHERE latest IS NOT NULL AND hour = '2026-03-17 05:00+00'$$);
SELECT breaks($$UPDATE tenancy.usage_rollup SET moment = moment + 1 WHERE hour = '2026-03-17 05:00+00'$$);
SELECT breaks($$UPDATE tenancy.usage_rollup SET group_values = '{mars}' WHERE metric = 'requests' AND hour = '2026-03-17 05:00+00'$$);
SELECT breaks($$DELETE FROM tenancy.usage_rollup WHERE metric = 'requests.users' AND hour = '2026-03-17 05:00+00'$$);
SELECT breaks($$INSERT INTO tenancy.usage_rollup SELECT tenant_id, metric, hour, gen_random_uuid(), group_values, value, 1, 1, 1, 1, NULL, NULL, NULL, NULL, false FROM tenancy.usage_rollup LIMIT 1$$);
SELECT breaks($$DELETE FROM tenancy.usage_event WHERE event_id = 'e9'$$);
SELECT breaks($$UPDATE tenancy.usage_event SET cancelled_at = now() WHERE event_id = 'e9'$$);
SELECT breaks($$INSERT INTO tenancy.usage_event SELECT tenant_id, 'smuggled', metric, 1, occurred_at, recorded_at, properties, NULL, month_of_year FROM tenancy.usage_event WHERE event_id = 'e9'$$);
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'and nothing else');

-- rights
CREATE ROLE rollup_app LOGIN IN ROLE tenancy_app;
SET ROLE rollup_app;
SELECT throws_ok('SELECT usage_roll_up()', '42501', NULL, 'the application rolls nothing up');
SELECT throws_ok('SELECT * FROM tenancy.usage_rollup', '42501', NULL, 'nor reads it');
SELECT throws_ok('SELECT * FROM tenancy.usage_rollup_difference', '42501', NULL, 'nor how it is watched');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT results_eq('SELECT DISTINCT tenant_id FROM tenancy.usage_rollup', 'SELECT current_tenant_id()', 'a tenant sees its own');
COMMIT;
BEGIN READ ONLY;
SELECT throws_ok('SELECT usage_roll_up()', '25006', NULL, 'not in a transaction that only reads');
COMMIT;
DROP ROLE rollup_app;
SELECT * FROM finish();
