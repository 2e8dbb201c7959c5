-- Allocations: documents, ceilings, explanations; sizing by what was used.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT slug FROM tenant_create('rs-a', plan => 'starter') \g /dev/null
SELECT slug FROM tenant_create('rs-b') \g /dev/null
SELECT id AS a, schema_name AS a_schema FROM tenancy.tenant WHERE slug = 'rs-a' \gset
SELECT id AS b FROM tenancy.tenant WHERE slug = 'rs-b' \gset
CREATE ROLE rs_app LOGIN IN ROLE tenancy_app;
CREATE ROLE rs_nobody LOGIN;

-- documents
SELECT throws_ok(format('SELECT resource_allocate(''rs-a'', %L)', d), '22023', NULL, 'refused: ' || d) FROM unnest(ARRAY[
    '[]', '{"x": 1}', '{"limits": {"cpu": 1}}', '{"limits": {"cpu_seconds_per_minute": 0}}', '{"limits": {"connections": 1.5}}', '{"limits": {"connections": null}}',
    '{"requests": {"settings": {}}}', '{"limits": {"settings": {"search_path": "x"}}}', '{"limits": {"settings": {"work_mem": "much"}}}', '{"limits": {"settings": {"work_mem": 8}}}',
    '{"requests": {"storage_gb": 2}, "limits": {"storage_gb": 1}}', '{"scaling": {"connections": {"min": 1, "max": 2}}}', '{"scaling": {"storage_gb": {"min": 3, "max": 2}}}',
    '{"scaling": {"storage_gb": {"min": 1}}}']) d;
SELECT throws_ok($$SELECT resource_allocate('rs-none', '{}')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT resource_allocate('rs-a', NULL)$$, '22004', NULL, 'no document');
SELECT throws_ok($$SELECT resource_scale('rs-a', '{}')$$, '55000', NULL, 'nothing to scale');
SELECT throws_ok($$SELECT resource_capacity_set('storage_gb', -1)$$, '22023', NULL, 'no negative capacity');

-- ceilings by allocation
SELECT resource_allocate('rs-a', '{"limits": {"memory_mb": 64, "connections": 4, "settings": {"statement_timeout": "7s", "temp_file_limit": "3MB"}}}') \g /dev/null
BEGIN;
SET LOCAL ROLE rs_app;
SET LOCAL work_mem = '1GB';
SELECT tenant_context_set('rs-a') \g /dev/null
SELECT is(current_setting('work_mem') || ' ' || current_setting('statement_timeout') || ' ' || current_setting('temp_file_limit'), '4MB 7s 3MB', '64 MB for four sessions: 16 each, a quarter of it for a node; and what is named');
SELECT throws_ok('SET LOCAL work_mem = ''5MB''', '42501', NULL, 'it cannot be raised');
SELECT throws_ok('SET LOCAL maintenance_work_mem = ''17MB''', '42501', NULL, 'nor that of maintenance above the share');
SELECT lives_ok('SET LOCAL maintenance_work_mem = ''16MB''', 'which it may take');
SELECT results_eq($$SELECT name, source, explanation FROM limit_explain(current_tenant()) WHERE kind = 'ceiling' AND name = 'temp_file_limit'$$, $$VALUES ('temp_file_limit', 'resource_allocate()', 'at most 3MB')$$, 'a tenant is told why');
SELECT throws_ok($$SELECT * FROM limit_explain('rs-b')$$, '42704', NULL, 'of itself alone');
SELECT throws_ok($$SELECT resource_scale('rs-a', '{}')$$, '42501', NULL, 'and changes nothing');
SELECT throws_ok($$SELECT * FROM resource_rightsize('rs-a')$$, '42501', NULL, 'nor asks what could be');
ROLLBACK;
BEGIN;
SELECT tenant_context_set('rs-b') \g /dev/null
SELECT isnt(current_setting('temp_file_limit'), '3MB', 'another tenant is as before');
ROLLBACK;
SELECT resource_scale('rs-a', '{"limits": {"settings": {"temp_file_limit": null}, "memory_mb": null}}') \g /dev/null
BEGIN;
SELECT tenant_context_set('rs-a') \g /dev/null
SELECT is(current_setting('temp_file_limit') || ' ' || current_setting('statement_timeout'), '10GB 7s', 'a change holds from the next transaction');
ROLLBACK;
SET ROLE rs_nobody;
SELECT throws_ok($$SELECT * FROM limit_explain('rs-a')$$, '42704', NULL, 'nobody else is told');
RESET ROLE;

-- the histogram: the end of the bucket, buckets 0.01 × 1.05^n wide (VPA's CPU histogram)
CREATE FUNCTION pg_temp.bucket_end(v float8) RETURNS float8 LANGUAGE sql AS
    $$ SELECT min(e) FROM (SELECT sum(0.01 * power(1.05::float8, n)) OVER (ORDER BY n) AS e FROM generate_series(0, 400) n) x WHERE e > v $$;
SELECT is(round(tenancy.usage_percentile(ARRAY[v], ARRAY[0], 0.9)::numeric, 9), round(pg_temp.bucket_end(v)::numeric, 9), 'the bucket of ' || v) FROM unnest(ARRAY[0.0, 0.005, 0.015, 0.5, 3.3, 60, 900]::float8[]) v;
SELECT is(round(tenancy.usage_percentile(ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], array_fill(0::float8, ARRAY[10]), f)::numeric, 9), round(pg_temp.bucket_end(w)::numeric, 9), 'percentile ' || f) FROM (VALUES (0.5::float8, 5), (0.9, 9), (0.95, 10), (0, 1), (1, 10)) v (f, w);
-- 1 of today, and 100 of three days ago weigh 1 and 1/8: more than 8/9 is below
SELECT is(round(tenancy.usage_percentile(ARRAY[1, 100], ARRAY[0, 3], f)::numeric, 9), round(pg_temp.bucket_end(w)::numeric, 9), 'weights halve with a day: ' || f) FROM (VALUES (0.88::float8, 1), (0.89, 100)) v (f, w);
SELECT throws_ok('SELECT tenancy.usage_percentile(ARRAY[1], ARRAY[1, 2], 0.5)', '22023', NULL, 'each value has an age');
-- VPA's own cases (estimator_test.go): multiplier 0.1, exponent 2
SELECT is(round(tenancy.usage_confidence(3.14, 0.1, 2, 0.00625)::numeric, 2), 907.46, 'confidence of nine minutes');
SELECT is(round(tenancy.usage_confidence(3.14, 0.1, 2, 0.5)::numeric, 4), 4.5216, 'of half a day');
SELECT throws_ok('SELECT tenancy.usage_confidence(1, 1, 1, 0)', '22023', NULL, 'of nothing there is none');
-- HPA: ceil(current × metric / target), tolerance 0.1
SELECT is(tenancy.scale_to_target(c, u, t), w::float8, format('scale %s at %s of %s percent', c, u, t)) FROM (VALUES (10, 70, 70, 10), (10, 77, 70, 10), (10, 78, 70, 12), (10, 63, 70, 10), (10, 62, 70, 9), (3, 100, 50, 6), (10, 0, 70, 0), (7, 90, 70, 9)) v (c, u, t, w);

-- right-sizing: two days of 6 CPU seconds a minute, but for an hour a day of 30
SELECT set_config('tenancy.test_clock', '2026-04-11 00:30+00', false) \g /dev/null
UPDATE tenancy.tenant SET created_at = '2026-04-09 00:00+00' WHERE slug = 'rs-b';
SELECT results_eq($$SELECT resource, observations, action FROM resource_rightsize('rs-b')$$, $$VALUES ('cpu_seconds_per_minute', 48, 'none: nothing is allocated'), ('storage_gb', 0, 'none: there is no history')$$, 'nothing is allocated');
SELECT set_config('tenancy.test_clock', '2026-04-09 00:00+00', false) \g /dev/null
SELECT made FROM usage_partition_maintain() \g /dev/null
SELECT set_config('tenancy.test_clock', '2026-04-11 00:30+00', false) \g /dev/null
INSERT INTO tenancy.usage_hour (tenant_id, hour, cpu_us, storage_bytes)
    SELECT :'b', h, CASE EXTRACT(hour FROM h) WHEN 12 THEN 30 ELSE 6 END * 60 * 1000000::bigint, CASE WHEN h < '2026-04-10' THEN 2000000000 ELSE 3000000000 END
      FROM generate_series(timestamptz '2026-04-09 00:00+00', '2026-04-10 23:00+00', '1 hour') h;
SELECT resource_allocate('rs-b', '{"requests": {"cpu_seconds_per_minute": 40, "storage_gb": 1}, "limits": {"cpu_seconds_per_minute": 50, "storage_gb": 100}}') \g /dev/null
-- by hand: all three percentiles are the bucket of 6; 1.15 × it, × (1 + 0.001 / 2) ^ -2, × (1 + 1 / 2)
SELECT is(row(lower_bound, target, upper_bound, confidence_days, observations, new_request, new_limit, action)::text,
    row(round((1.15 * pg_temp.bucket_end(6) * power(1.0005, -2))::numeric, 3), round((1.15 * pg_temp.bucket_end(6))::numeric, 3), round((1.15 * pg_temp.bucket_end(6) * 1.5)::numeric, 3), 2.000, 48,
        round((1.15 * pg_temp.bucket_end(6))::numeric, 3), round((1.15 * pg_temp.bucket_end(6) * 1.5)::numeric, 3), 'would be changed')::text, 'too much CPU is found')
    FROM resource_rightsize('rs-b') WHERE resource = 'cpu_seconds_per_minute';
SELECT is((SELECT limits ->> 'cpu_seconds_per_minute' FROM tenancy.allocation WHERE tenant_id = :'b' AND state = 'active'), '50', 'a dry run changes nothing');
SELECT set_eq($$SELECT action FROM resource_rightsize('rs-b', false)$$, ARRAY['changed'], 'else it does');
SELECT is((SELECT (requests ->> 'cpu_seconds_per_minute')::numeric BETWEEN 6.9 AND 7.3 AND (limits ->> 'storage_gb')::numeric BETWEEN 3 AND 6 FROM tenancy.allocation WHERE tenant_id = :'b' AND state = 'active'), true, 'the allocation');
SELECT set_eq($$SELECT action FROM resource_rightsize('rs-b', false)$$, ARRAY['none: it fits'], 'once');
SELECT throws_ok($$SELECT * FROM resource_rightsize('rs-none')$$, '42704', NULL, 'of nobody there is nothing');
SELECT throws_ok($$SELECT * FROM resource_rightsize('rs-b', NULL)$$, '22004', NULL, 'dry or not');

-- autoscaling: the counter tells 7.2 s a minute, then 1
SELECT results_eq($$SELECT * FROM resource_autoscale('rs-b')$$, $$SELECT * FROM resource_autoscale(NULL) WHERE false$$, 'without a range nothing is scaled');
SELECT resource_scale('rs-b', '{"requests": {"cpu_seconds_per_minute": 1}, "limits": {"cpu_seconds_per_minute": 8}, "scaling": {"cpu_seconds_per_minute": {"min": 2, "max": 20, "target_percent": 60}}}') \g /dev/null
SELECT is((SELECT action || ': ' || reason FROM resource_autoscale('rs-b', true)), 'none: it was not measured yet', 'nor without measurements');
INSERT INTO tenancy.resource_sample VALUES (:'b', '2026-04-11 00:20+00', 0, NULL), (:'b', '2026-04-11 00:25+00', 36000000, NULL);
SELECT is((SELECT row(current_limit, used, new_limit, action)::text FROM resource_autoscale('rs-b', true)), '(8,7.200,12.000,"would be changed")', '7.2 of 8 are more than 60 percent: 12');
SELECT is((SELECT limits ->> 'cpu_seconds_per_minute' FROM tenancy.allocation WHERE tenant_id = :'b' AND state = 'active'), '8', 'a dry run changes nothing');
UPDATE tenancy.resource_sample SET cpu_us = 300000000 WHERE sampled_at = '2026-04-11 00:25+00';
SELECT is((SELECT new_limit FROM resource_autoscale('rs-b', true)), 16::numeric, 'at most twice what it was');
SELECT resource_scale('rs-b', '{"limits": {"cpu_seconds_per_minute": 16}}') \g /dev/null
SELECT is((SELECT new_limit FROM resource_autoscale('rs-b', true)), 20::numeric, 'and no more than its maximum');
UPDATE tenancy.resource_sample SET cpu_us = 36000000 WHERE sampled_at = '2026-04-11 00:25+00';
INSERT INTO tenancy.resource_sample VALUES (:'b', '2026-04-11 00:29+00', 40000000, NULL);
SELECT is((SELECT row(used, new_limit)::text FROM resource_autoscale('rs-b', true)), '(1.000,12.000)', 'it falls to what the last quarter of an hour wants');
SELECT is((SELECT new_limit || ' ' || action FROM resource_autoscale('rs-b')), '12.000 changed', 'and is changed');
SELECT results_eq($$SELECT resource, from_limit, to_limit, target_percent FROM tenancy.scaling_decision$$, $$VALUES ('cpu_seconds_per_minute', 16::numeric, 12::numeric, 60)$$, 'which is written down');
SELECT set_config('tenancy.test_clock', '2026-04-11 00:50+00', false) \g /dev/null
INSERT INTO tenancy.resource_sample VALUES (:'b', '2026-04-11 00:45+00', 1000000, NULL), (:'b', '2026-04-11 00:49+00', 2000000, NULL);
SELECT is((SELECT new_limit FROM resource_autoscale('rs-b', true)), 2::numeric, 'later to less, but not below its minimum');
SELECT throws_ok($$SELECT * FROM resource_autoscale('rs-none')$$, '42704', NULL, 'of nobody there is nothing');
SELECT throws_ok($$SELECT * FROM resource_autoscale(NULL, NULL)$$, '22004', NULL, 'dry or not');
RESET tenancy.test_clock;

-- what could be saved
CREATE TABLE :a_schema.item AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 30000) g;
CREATE INDEX never_used ON :a_schema.item (body, id);
CREATE UNIQUE INDEX unused_key ON :a_schema.item (id);
SELECT pg_stat_force_next_flush() IS NULL \g /dev/null
SELECT results_eq($$SELECT finding, numbers ->> 'scans' FROM resource_optimize('rs-a') WHERE object LIKE '%never_used'$$, $$VALUES ('unused index', '0')$$, 'an index that is never used');
SELECT is((SELECT bytes FROM resource_optimize('rs-a') WHERE object LIKE '%never_used'), pg_relation_size(format('%I.never_used', :'a_schema')::regclass), 'and what it takes');
SELECT is_empty($$SELECT 1 FROM resource_optimize('rs-a') WHERE object LIKE '%unused_key'$$, 'a key is there for another reason');
SELECT is_empty($$SELECT 1 FROM resource_optimize('rs-a') WHERE finding = 'idle tenant'$$, 'a tenant of today is not idle');
SELECT slug FROM tenant_create('rs-c') \g /dev/null
UPDATE tenancy.tenant SET created_at = now() - interval '30 days' WHERE slug = 'rs-c';
SELECT is((SELECT numbers ->> 'calls_in_7_days' FROM resource_optimize('rs-c') WHERE finding = 'idle tenant'), '0', 'one that did nothing for a week is');
SELECT throws_ok($$SELECT * FROM resource_optimize('rs-none')$$, '42704', NULL, 'of nobody there is nothing');
SET ROLE rs_app;
SELECT throws_ok(q, '42501', NULL, 'not the application''s: ' || q) FROM unnest(ARRAY['SELECT * FROM resource_optimize(''rs-a'')', 'SELECT * FROM resource_autoscale()', 'SELECT * FROM resource_rightsize(''rs-a'')',
    'SELECT resource_allocate(''rs-a'', ''{}'')', 'SELECT tenant_scale(''rs-a'', ''{}'')', 'SELECT quota_limit_set(''x'', ''users'')']) q;
RESET ROLE;

-- what went over the network is counted
SELECT slug FROM tenant_create('rs-net') \g /dev/null
BEGIN;
SELECT tenant_context_set('rs-net') \g /dev/null
SELECT repeat('x', 5000) \g /dev/null
COMMIT;
SELECT usage_flush() \g /dev/null
SELECT ok((u->'network'->>'bytes_sent')::bigint BETWEEN 5000 AND 7000 AND (u->'network'->>'bytes_received')::bigint BETWEEN 20 AND 500, 'resource_usage() has it: ' || (u->>'network')) FROM resource_usage('rs-net') u;
SELECT is((SELECT sum(bytes_sent) || ' ' || sum(bytes_received) FROM resource_metrics('rs-net', now() - interval '2 hours', now() + interval '1 hour')), (SELECT (u->'network'->>'bytes_sent') || ' ' || (u->'network'->>'bytes_received') FROM resource_usage('rs-net') u), 'and so has resource_metrics()');
SELECT matches(resource_usage('rs-net')->'cpu'->>'seconds', '^[0-9]+[.][0-9]{6}$', 'CPU seconds are exact to the microsecond');
SELECT * FROM finish();
