-- How long statements take, how transactions end, and what planning costs.
SELECT * FROM no_plan();
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null

-- the estimate of the histogram: 2 % (DDSketch, theorem 3), merged or not
SELECT is((SELECT count(*) FROM (SELECT us, tenancy.latency_estimate(us) AS estimate FROM (SELECT floor(power(1.007, g)) AS us FROM generate_series(0, 3150) g) x) y
    WHERE abs(estimate - us) > us * 0.0200001), 0::bigint, 'from a microsecond to an hour nothing is off by more than 2 %');
SELECT is((SELECT count(DISTINCT tenancy.latency_estimate(us)) FROM (SELECT floor(power(1.007, g)) AS us FROM generate_series(0, 3150) g) x) <= 551, true, 'in 551 buckets');
SELECT ok(tenancy.latency_estimate(1e12) BETWEEN 3.4e9 AND 3.8e9, 'what is longer than an hour is an hour');
SELECT throws_ok('SELECT tenancy.latency_estimate(-1)', '22003', NULL, 'no negative duration');

-- known durations: 90 of 10 ms, 10 of 50 ms
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT 'SELECT pg_sleep(0.01)' FROM generate_series(1, 90) \gexec
SELECT 'SELECT pg_sleep(0.05)' FROM generate_series(1, 9) \gexec
COMMIT;
SELECT cmp_ok(statements, '>=', 100::bigint, 'all are there') FROM tenancy.tenant_latency WHERE slug = 'acme';
SELECT ok(p50_ms BETWEEN 9.8 AND 200 AND p95_ms BETWEEN 49 AND 300 AND p99_ms BETWEEN 49 AND 400, format('p50 %s, p95 %s, p99 %s ms', round(p50_ms::numeric, 2), round(p95_ms::numeric, 2), round(p99_ms::numeric, 2)))
  FROM tenancy.tenant_latency WHERE slug = 'acme';
SELECT is((SELECT count(*) FROM tenancy.tenant_latency WHERE slug = 'globex' AND p50_ms > 5), 0::bigint, 'another tenant has none of it');
CREATE ROLE lat_app LOGIN IN ROLE tenancy_app;
BEGIN;
SET LOCAL ROLE lat_app;
SELECT tenant_context_set('acme') \g /dev/null
SELECT results_eq('SELECT DISTINCT slug FROM tenancy.tenant_latency', $$VALUES ('acme')$$, 'a tenant sees its own alone');
COMMIT;
SET ROLE lat_app;
SELECT throws_ok('SELECT * FROM tenancy.tenant_latency', '42501', NULL, 'the application sees none');
RESET ROLE;

-- transactions and planning
SELECT commits AS commits_before, rollbacks AS rollbacks_before, planning_ms AS planning_before FROM tenancy.tenant_stat WHERE slug = 'acme' \gset
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COMMIT;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
ROLLBACK;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SAVEPOINT s;
SELECT count(*) FROM pg_class a, pg_class b, pg_attribute c, pg_attribute d WHERE a.oid = b.oid AND c.attrelid = a.oid AND d.attrelid = b.oid AND c.attnum = d.attnum \g /dev/null
ROLLBACK TO s;
COMMIT;
SELECT is((commits - :commits_before) || ' ' || (rollbacks - :rollbacks_before), '2 1', 'transactions are counted by how they end') FROM tenancy.tenant_stat WHERE slug = 'acme';
SELECT cmp_ok(planning_ms, '>', :planning_before::numeric, 'planning takes time') FROM tenancy.tenant_stat WHERE slug = 'acme';
SELECT cmp_ok(planning_ms, '<', elapsed_ms + 10000, 'not all of it') FROM tenancy.tenant_stat WHERE slug = 'acme';
SET track_io_timing = on;
CHECKPOINT;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
CREATE TEMP TABLE spill ON COMMIT DROP AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000);
SELECT count(x) FROM spill \g /dev/null
COMMIT;
SELECT cmp_ok(io_ms, '>', 0::numeric, 'I/O is timed where that is tracked') FROM tenancy.tenant_stat WHERE slug = 'globex';
SELECT * FROM finish();
