-- Metrics over the events of others: filters, groups, the aggregations; buckets in civil time.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SET timezone = 'UTC';

-- filters: what fits
SELECT is(tenancy.usage_matches(p::jsonb, f::jsonb), fits, p || CASE WHEN fits THEN ' fits ' ELSE ' does not fit ' END || f) FROM (VALUES
    ('{"region": "eu", "status": 200}', '{"region": "eu"}', true),
    ('{"region": "us"}', '{"region": "eu"}', false),
    ('{}', '{"region": "eu"}', false),
    ('{"region": "eu"}', '{"region": ["us", "eu"]}', true),
    ('{"region": "ap"}', '{"region": ["us", "eu"]}', false),
    ('{"status": 200.0}', '{"status": 200}', true),
    ('{"status": "200"}', '{"status": 200}', false),
    ('{"paid": true}', '{"paid": true}', true),
    ('{"paid": false}', '{"paid": true}', false),
    ('{"paid": null}', '{"paid": null}', true),
    ('{}', '{"paid": null}', false),
    ('{"bytes": 1024}', '{"bytes": {">=": 1024, "<": 4096}}', true),
    ('{"bytes": 4096}', '{"bytes": {">=": 1024, "<": 4096}}', false),
    ('{"bytes": 10}', '{"bytes": {">": 9}}', true),
    ('{"bytes": "10"}', '{"bytes": {">": 9}}', false),
    ('{"version": "b"}', '{"version": {">": "a", "<=": "b"}}', true),
    ('{"version": "ba"}', '{"version": {"<=": "b"}}', false),
    ('{"kind": "x"}', '{"kind": {"<>": "y"}}', true),
    ('{"kind": "y"}', '{"kind": {"<>": "y"}}', false),
    ('{}', '{"kind": {"<>": "y"}}', false),
    ('{"kind": 1}', '{"kind": {"=": 1}}', true),
    ('{"region": "eu", "status": 500}', '{"region": "eu", "status": 200}', false),
    ('{"list": ["eu"]}', '{"list": "eu"}', false),
    ('{"list": {"a": 1}}', '{"list": {"<>": "eu"}}', true)) v (p, f, fits);
-- filters: what is refused, and where
SELECT throws_matching(format('SELECT metric_create(%L, %L, filters => %L)', 'bad', 'x', f), message, 'refused: ' || f) FROM (VALUES
    ('[]', '"filters" must be a JSON object'), ('1', '"filters" must be a JSON object'), ('{}', '1 to 20 members'),
    ('{"a": {"like": "x"}}', '"a.like" is no comparison'), ('{"a": {}}', '"a" must be at least one comparison'),
    ('{"a": {"<": true}}', '"a.<" must be a number or a text'), ('{"a": {"<": null}}', '"a.<" must be'), ('{"a": {"=": [1]}}', '"a.=" must be a text, a number'),
    ('{"a": {"=": {"b": 1}}}', '"a.=" must be'), ('{"a": []}', '"a" must be a list of 1'), ('{"a": [1, [2]]}', '"a\[1\]" must be'), ('{"a": [{"b": 1}]}', '"a\[0\]" must be')) v (f, message);
SELECT throws_ok($$SELECT metric_create('bad', 'x', filters => (SELECT jsonb_object_agg('p' || g, g) FROM generate_series(1, 21) g))$$, '22023', NULL, 'as are too many');
SELECT throws_ok(format('SELECT metric_create(%L, %L, group_by => %L)', 'bad', 'x', g), '22023', NULL, 'refused groups: ' || g)
  FROM (VALUES ('{a,a}'), ('{NULL}'), ('{""}'), ('{{a},{b}}'), ('{a,b,c,d,e,f,g,h,i}')) v (g);
SELECT throws_ok($$SELECT metric_create('bad', 'x', event => 'nothing')$$, '42704', NULL, 'a metric counts the events of one that is there');
SELECT throws_ok($$SELECT metric_create('bad', 'x', event => 'statement.calls')$$, '42704', NULL, 'and that has events');

-- one stream of events feeds several metrics
SELECT (metric_create('requests', 'request', group_by => '{region,plan}')).group_by,
    (metric_create('requests.eu', 'request', 'count', event => 'requests', filters => '{"region": "eu"}')).event,
    (metric_create('requests.errors', 'request', 'sum', event => 'requests', filters => '{"status": {">=": 500}}', group_by => '{region}')).filters,
    (metric_create('requests.users', 'user', 'unique', property => 'user', event => 'requests', group_by => '{region}')).property,
    (metric_create('requests.slowest', 'ms', 'max', event => 'requests')).name,
    (metric_create('requests.least', 'ms', 'min', event => 'requests')).name,
    (metric_create('requests.mean', 'ms', 'avg', event => 'requests')).name,
    (metric_create('requests.last', 'ms', 'latest', event => 'requests', filters => '{"region": ["us"]}')).name \g /dev/null
SELECT throws_ok($$SELECT metric_create('bad', 'x', event => 'requests.eu')$$, '42704', NULL, 'not of one that counts those of another');
SELECT throws_ok($$SELECT usage_record('acme', 'requests.eu')$$, '42704', NULL, 'which takes none itself');
CREATE TABLE sent AS
    SELECT 'e' || n AS event_id, (n * 7 % 40)::numeric AS quantity, '2026-03-10 00:00+00'::timestamptz + n * interval '17 minutes' AS occurred_at,
           jsonb_strip_nulls(jsonb_build_object('region', (ARRAY['eu', 'us', 'ap', NULL])[1 + n % 4], 'plan', 'p' || n % 3, 'status', 200 + 100 * (n % 5), 'user', 'u' || n % 11)) AS properties
      FROM generate_series(1, 200) n;
SELECT recorded FROM usage_record_batch((SELECT jsonb_agg(jsonb_build_object('tenant', 'acme', 'metric', 'requests', 'event_id', event_id, 'quantity', quantity, 'occurred_at', occurred_at, 'properties', properties)) FROM sent)) \g /dev/null
-- somebody else's do not count
SELECT usage_record('globex', 'requests', 1000, 'e1', '2026-03-10 01:00+00', '{"region": "eu", "user": "x"}') \g /dev/null
SELECT results_eq($$SELECT metric_name, quantity, groups FROM usage_report('acme', '2026-03-10', '2026-03-20') ORDER BY 1$$,
    $$SELECT * FROM (SELECT 'requests', sum(quantity), NULL::jsonb FROM sent
      UNION ALL SELECT 'requests.errors', sum(quantity), NULL FROM sent WHERE properties @> '{"status": 500}' OR properties @> '{"status": 600}'
      UNION ALL SELECT 'requests.eu', count(*), NULL FROM sent WHERE properties @> '{"region": "eu"}'
      UNION ALL SELECT 'requests.last', (array_agg(quantity ORDER BY occurred_at DESC))[1], NULL FROM sent WHERE properties @> '{"region": "us"}'
      UNION ALL SELECT 'requests.mean', avg(quantity), NULL FROM sent
      UNION ALL SELECT 'requests.slowest', max(quantity), NULL FROM sent
      UNION ALL SELECT 'requests.users', count(DISTINCT properties->>'user'), NULL FROM sent) x$$, 'each as SQL has it; the least is nothing, and left out');
SELECT is((SELECT quantity FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests.least')), (SELECT min(quantity) FROM sent), 'unless asked for');
SELECT results_eq($$SELECT metric, count(*) FROM tenancy.usage_observation o JOIN tenancy.tenant t ON t.id = o.tenant_id WHERE slug = 'acme' AND metric IN ('requests', 'requests.eu') GROUP BY 1 ORDER BY 1$$,
    $$VALUES ('requests', 200::bigint), ('requests.eu', 50)$$, 'and so are observations');
-- told apart
SELECT results_eq($$SELECT groups, quantity FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{region}') ORDER BY groups->>'region'$$,
    $$SELECT jsonb_build_object('region', r), sum(quantity) FROM (SELECT properties->>'region' AS r, quantity FROM sent) x GROUP BY r ORDER BY r$$, 'by one property, also by its absence');
SELECT results_eq($$SELECT bucket_start, groups->>'plan', groups->>'region', quantity FROM usage_report('acme', '2026-03-10', '2026-03-12', 'requests', '1 day', group_by => '{plan,region}') ORDER BY 1, 2, 3$$,
    $$SELECT date_trunc('day', occurred_at), properties->>'plan', properties->>'region', sum(quantity) FROM sent WHERE occurred_at < '2026-03-12' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3$$, 'by two, and days');
SELECT results_eq($$SELECT groups->>'region', quantity FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests.users', group_by => '{region}') ORDER BY 1$$,
    $$SELECT properties->>'region', count(DISTINCT properties->>'user')::numeric FROM sent GROUP BY 1 ORDER BY 1$$, 'unique values of each group');
SELECT results_eq($$SELECT groups->>'region', quantity FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests.errors', group_by => '{region}') ORDER BY 1$$,
    $$SELECT properties->>'region', sum(quantity) FROM sent WHERE (properties->>'status')::int >= 500 GROUP BY 1 ORDER BY 1$$, 'filtered and told apart');
SELECT set_eq($$SELECT DISTINCT metric_name FROM usage_report('acme', '2026-03-10', '2026-03-20', group_by => '{region}')$$, $$VALUES ('requests'), ('requests.errors'), ('requests.users')$$, 'without a metric, all that have the property');
SELECT is_empty($$SELECT * FROM usage_report('globex', '2026-04-10', '2026-04-20', 'requests', group_by => '{region}')$$, 'nothing has no groups');
SELECT is((SELECT quantity FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{}')), (SELECT sum(quantity) FROM sent), 'by nothing is not told apart');
SELECT throws_ok($$SELECT * FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{user}')$$, '22023', NULL, 'not by what the metric does not know');
SELECT throws_ok($$SELECT * FROM usage_report('acme', '2026-03-10', '2026-03-20', 'statement.calls', group_by => '{region}')$$, '22023', NULL, 'nor what the server measured');
SELECT throws_ok($$SELECT * FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{NULL}')$$, '22023', NULL, 'nor by null');
-- levels that carry over, in groups
SELECT metric_create('seats', 'seat', 'latest', true, group_by => '{team}'), metric_create('peak', 'seat', 'max', true, event => 'seats', group_by => '{team}'),
    metric_create('low', 'seat', 'min', true, event => 'seats', group_by => '{team}') \g /dev/null
SELECT count(*) FROM (VALUES ('2026-01-05', 'a', 4), ('2026-01-20', 'a', 9), ('2026-02-10', 'a', 6), ('2026-01-02', 'b', 3)) v (d, team, n),
    usage_record('acme', 'seats', n, d || team, d::timestamptz, jsonb_build_object('team', team)) \g /dev/null
SELECT results_eq($$SELECT metric_name, groups->>'team', quantity FROM usage_report('acme', '2026-02-01', '2026-03-01', group_by => '{team}') ORDER BY 1, 2$$,
    $$VALUES ('low', 'a', 6::numeric), ('low', 'b', 3), ('peak', 'a', 9), ('peak', 'b', 3), ('seats', 'a', 6), ('seats', 'b', 3)$$, 'the level before counts in each group');
SELECT results_eq($$SELECT metric_name, quantity FROM usage_report('acme', '2026-02-01', '2026-03-01') WHERE metric_name IN ('seats', 'peak', 'low') ORDER BY 1$$,
    $$VALUES ('low', 6::numeric), ('peak', 9), ('seats', 6)$$, 'and in all');

-- quotas of a metric that counts another's events
SET tenancy.test_clock = '2026-03-25 12:00+00';
SELECT quota_set('acme', 'requests.eu', NULL, 60) \g /dev/null
SELECT is((SELECT used FROM quota_check('acme', 'requests.eu')), (SELECT count(*)::numeric FROM sent WHERE occurred_at >= '2026-03-01 00:00+00' AND properties @> '{"region": "eu"}'), 'what is used of it this month');
SELECT count(*) FROM usage_record('acme', 'requests', 5, 'q1', '2026-03-25 11:00+00', '{"region": "eu"}') \g /dev/null
SELECT usage_record('acme', 'requests', 5, 'q2', '2026-03-25 11:00+00', '{"region": "us"}') \g /dev/null
SELECT is((SELECT used FROM quota_check('acme', 'requests.eu')), (SELECT count(*) + 1::numeric FROM sent WHERE properties @> '{"region": "eu"}'), 'grows by the events that fit');
RESET tenancy.test_clock;

-- buckets in civil time: Kill Bill's TestDSTUsageIssue (issue #1934), three, four and two events in its months
SELECT count(*) FROM unnest(ARRAY['2023-03-01T04:00:00-05:00', '2023-03-15T00:00:00-04:00', '2023-03-31T23:59:00-04:00', '2023-04-01T00:00:00-04:00', '2023-04-01T00:01:00-04:00',
    '2023-04-15T00:00:00-04:00', '2023-04-30T23:59:00-04:00', '2023-05-01T00:00:00-04:00', '2023-05-01T00:01:00-04:00']) t, usage_record('globex', 'api_calls', 1, 'kb' || t, t::timestamptz) \g /dev/null
SELECT results_eq($$SELECT to_char(bucket_start AT TIME ZONE 'America/New_York', 'YYYY-MM'), quantity FROM usage_report('globex', '2023-03-01 00:00-05', '2023-06-01 00:00-04', 'api_calls', '1 month', 'America/New_York')$$,
    $$VALUES ('2023-03', 3::numeric), ('2023-04', 4), ('2023-05', 2)$$, 'kb-dst-usage');
SELECT is((SELECT quantity FROM usage_report('globex', '2023-03-01 00:00-05', '2023-06-01 00:00-04', 'api_calls', '1 month', 'UTC') LIMIT 1), 5::numeric, 'which other zones count otherwise');
SELECT results_eq(format($$SELECT count(*), count(*) FILTER (WHERE bucket_start >= '2026-01-01') FROM usage_report('globex', %L::timestamp AT TIME ZONE %L, (%L::timestamp + interval '1 day') AT TIME ZONE %L, 'api_calls', %L, %L)$$, d, z, d, z, b, z),
    format('VALUES (%s::bigint, %s::bigint)', n, n), d || ' in ' || z || ' has ' || n || ' buckets of ' || b) FROM (VALUES
    ('2026-03-08', 'America/New_York', '1 hour', 23), ('2026-11-01', 'America/New_York', '1 hour', 25), ('2026-07-01', 'America/New_York', '1 hour', 24),
    ('2026-03-29', 'Europe/Berlin', '30 minutes', 46), ('2026-03-29', 'Europe/Berlin', '6 hours', 4), ('2026-10-25', 'Europe/Berlin', '6 hours', 4),
    ('2026-10-25', 'Europe/Berlin', '1 day', 1), ('2026-03-29', 'Europe/Berlin', '2 hours', 12)) v (d, z, b, n);
SELECT results_eq($$SELECT to_char(bucket_start AT TIME ZONE 'Europe/Berlin', 'DD HH24:MI') FROM usage_report('globex', '2026-10-25 00:00+02', '2026-10-27 00:00+01', 'api_calls', '6 hours', 'Europe/Berlin')$$,
    $$VALUES ('25 00:00'), ('25 06:00'), ('25 12:00'), ('25 18:00'), ('26 00:00'), ('26 06:00'), ('26 12:00'), ('26 18:00')$$, 'parts of a day begin at the same times of each');
SELECT results_eq($$SELECT bucket_start FROM usage_report('globex', '2026-05-01 00:00+05:30', '2026-05-03 00:00+05:30', 'api_calls', '1 day', 'Asia/Kolkata')$$,
    $$VALUES ('2026-04-30 18:30+00'::timestamptz), ('2026-05-01 18:30+00')$$, 'days may begin within an hour of UTC');
SELECT throws_ok($$SELECT * FROM usage_report('globex', '2026-05-01', '2026-05-03', 'api_calls', '1 day', 'Mars/Olympus')$$, '22023', NULL, 'an unknown zone');
SELECT throws_ok(format('SELECT * FROM usage_report(%L, %L, %L, %L, %L)', 'globex', '2026-05-01', '2026-05-03', 'api_calls', b), '22023', NULL, 'a bucket of ' || b)
  FROM (VALUES ('0'), ('-1 hour'), ('1 second'), ('-1 day'), ('1 month -31 days')) v (b);

-- many questions
SELECT throws_ok($$SELECT * FROM tenancy.usage_quantities(ARRAY[NULL]::uuid[], '{a}', '{2026-01-01}', '{2026-01-02}')$$, '22004', NULL, 'null is no question');
SELECT throws_ok($$SELECT * FROM tenancy.usage_quantities(NULL, '{a}', '{2026-01-01}', '{2026-01-02}')$$, '22004', NULL, 'nor is no list');
SELECT throws_ok($$SELECT * FROM tenancy.usage_quantities('{}', '{a}', '{2026-01-01}', '{2026-01-02}')$$, '22023', NULL, 'nor half of one');
SELECT is_empty($$SELECT * FROM tenancy.usage_quantities('{}', '{}', '{}', '{}')$$, 'no questions have no answers');
SELECT is((SELECT quantity FROM tenancy.usage_quantities(ARRAY[t.id], '{requests}', '{-infinity}', '{infinity}')), (SELECT sum(quantity) + 10 FROM sent), 'of all times') FROM tenancy.tenant t WHERE slug = 'acme';
SELECT is(tenancy.usage_quantity(id, 'requests', '2026-05-01', '2026-04-01'), 0::numeric, 'nothing is used before it begins') FROM tenancy.tenant WHERE slug = 'acme';

-- rights
CREATE ROLE metrics_app LOGIN IN ROLE tenancy_app;
SET ROLE metrics_app;
SELECT throws_ok($$SELECT * FROM tenancy.usage_quantities('{}', '{}', '{}', '{}')$$, '42501', NULL, 'the control plane asks about many');
SELECT throws_ok($$SELECT tenancy.usage_quantity(gen_random_uuid(), 'requests', '2026-01-01', '2026-02-01')$$, '42501', NULL, 'and about one');
SELECT throws_ok($$SELECT * FROM tenancy.usage_event_key$$, '42501', NULL, 'and sees which ids are taken');
SELECT lives_ok($$SELECT * FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{region}')$$, 'the application has reports');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT throws_ok($$SELECT * FROM usage_report('acme', '2026-03-10', '2026-03-20', 'requests', group_by => '{region}')$$, '42704', NULL, 'a tenant has no report of another');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-03-10', '2026-03-20', 'requests', group_by => '{region}')), 1000::numeric, 'but one of its own');
COMMIT;
DROP ROLE metrics_app;
SELECT * FROM finish();
