-- Metrics for Prometheus, and what it is to scrape.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['met-a', 'met-b', 'met-c']) s \g /dev/null
CREATE FUNCTION pg_temp.samples() RETURNS TABLE (name text, labels text, value numeric) LANGUAGE sql AS $$
	SELECT m[1], coalesce(m[2], ''), m[3]::numeric FROM regexp_split_to_table(metrics_prometheus(), '\n') l, regexp_match(l, '^([a-z0-9_]+)(?:\{(.*)\})? ([0-9.e+-]+)$') m WHERE l !~ '^#' AND l <> '' $$;

-- what the tenants have done
BEGIN;
SELECT tenant_context_set('met-a') \g /dev/null
SELECT 1 \g /dev/null
SELECT 2 \g /dev/null
SELECT pg_sleep(0.3) \g /dev/null
COMMIT;
BEGIN;
SELECT tenant_context_set('met-c') \g /dev/null
SELECT pg_sleep(0.2) \g /dev/null
SELECT pg_sleep(0.2) \g /dev/null
SELECT pg_sleep(0.2) \g /dev/null
COMMIT;
BEGIN;
SELECT tenant_context_set('met-b') \g /dev/null
SELECT 1 \g /dev/null
COMMIT;
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_statements_total' AND labels = 'tenant="met-a",command="select"'), 4::numeric, 'statements of a tenant');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_statements_total' AND labels = 'tenant="met-b",command="select"'), 2::numeric, 'and of another');
SELECT cmp_ok((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_statement_seconds_total' AND labels = 'tenant="met-a"'), '>=', 0.2, 'time is in seconds');
SELECT cmp_ok((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_latency_seconds' AND labels = 'tenant="met-c",percentile="99"'), '>=', 0.19, 'and so are latencies');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_database_tenants'), 3::numeric, 'tenants by state');
SELECT is((SELECT count(*) FROM (SELECT name, labels FROM pg_temp.samples() GROUP BY 1, 2 HAVING count(*) > 1) d), 0::bigint, 'no sample is there twice');
-- the exposition format: samples of a metric stand together, behind HELP and TYPE; the last line ends
SELECT is(right(metrics_prometheus(), 1), E'\n', 'the last line is ended');
SELECT is((SELECT count(*) FROM (SELECT l, lag(l) OVER (ORDER BY n) AS before FROM regexp_split_to_table(metrics_prometheus(), '\n') WITH ORDINALITY AS t(l, n)) x
	WHERE l ~ '^# TYPE' AND before <> regexp_replace(l, '^# TYPE (\S+) .*', '# HELP \1') AND before !~ ('^# HELP ' || split_part(l, ' ', 3) || ' .')), 0::bigint, 'each TYPE follows its HELP');
SELECT is((SELECT count(*) - count(DISTINCT split_part(l, ' ', 3)) FROM regexp_split_to_table(metrics_prometheus(), '\n') l WHERE l ~ '^# TYPE'), 0::bigint, 'each once');

-- few tenants have series of their own
ALTER SYSTEM SET tenancy.metrics_tenants = 1;
\set setting tenancy.metrics_tenants
\set value 1
\ir reload.psql
SELECT results_eq($$SELECT count(DISTINCT labels) FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_rows_total' AND labels IN ('tenant="_none"', 'tenant="_other"', 'tenant="met-c"')$$, $$VALUES (3::bigint)$$, 'the busiest has');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_statements_total' AND labels = 'tenant="_other",command="select"'), 6::numeric, 'the others are added up');
ALTER SYSTEM RESET tenancy.metrics_tenants;
SELECT pg_reload_conf() \g /dev/null

-- limits
SELECT quota_set('met-a', 'custom_domains', NULL, 1) \g /dev/null
SELECT tenant_domain_add('met-a', 'met.example') \g /dev/null
SELECT throws_ok($$SELECT tenant_domain_add('met-a', 'met2.example')$$, '53400', NULL, 'a limit refuses');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_quota_limit' AND labels = 'tenant="met-a",resource="custom_domains"'), 1::numeric, 'the limit is told');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_quota_used' AND labels = 'tenant="met-a",resource="custom_domains"'), 1::numeric, 'and what is used');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_tenant_refusals_total' AND labels ~ '^tenant="met-a",limit="quota"'), 1::numeric, 'and the refusal');
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_domains' AND labels = 'state="pending"'), 1::numeric, 'domains');
SELECT job_enqueue('met.wait') FROM job_kind_define('met.wait') \g /dev/null
SELECT is((SELECT value FROM pg_temp.samples() WHERE name = 'pg_tenancy_jobs' AND labels = 'kind="met.wait",state="ready"'), 1::numeric, 'jobs');

-- targets
SELECT is((scrape_target_set('met-a', t)).target, t, format('a target: %s', t)) FROM unnest(ARRAY['127.0.0.1:9100', 'db.example.com:80', '[::1]:9100', 'backstage:7007', 'x.example.:65535']) t;
SELECT throws_ok(format('SELECT scrape_target_set(%L, %L)', 'met-a', t), '22023', NULL, format('no target: %s', t)) FROM unnest(ARRAY['', 'host', ':80', 'host:', 'host:0', 'host:65536', 'host:080808', 'host:80/x', 'http://host:80', '::1:80', '[::g]:80', 'a b:80', E'a\n:80', 'user@host:80', '256.0.0.1:80', '-a.example:80', 'host:-1']) t;
SELECT is((scrape_target_set('met-a', 'db.example.com:80', '{"job": "portal", "__metrics_path__": "/m", "quote": "a\"b"}')).labels->>'job', 'portal', 'labels are changed');
SELECT throws_ok(format('SELECT scrape_target_set(%L, %L, %L)', 'met-a', 'h:1', l), '22023', NULL, format('no labels: %s', left(l, 40))) FROM unnest(ARRAY['[]', '1', '{"a": 1}', '{"a": null}', '{"1a": "x"}', '{"a-b": "x"}', '{"": "x"}', '{"__address__": "x"}', '{"tenant": "x"}', '{"ä": "x"}', format('{"a": "%s"}', repeat('x', 201))]) l;
SELECT throws_ok(q, s, NULL, q) FROM (VALUES ($$SELECT scrape_target_set(NULL, 'h:1')$$, '22004'), ($$SELECT scrape_target_set('met-a', NULL)$$, '22004'), ($$SELECT scrape_target_set('met-a', 'h:1', NULL)$$, '22004'),
	($$SELECT scrape_target_set('met-none', 'h:1')$$, '42704'), ($$SELECT scrape_target_remove('met-b', 'db.example.com:80')$$, '42704'), ($$SELECT scrape_target_remove('met-a', 'none:1')$$, '42704'),
	($$SELECT scrape_target_remove(NULL, 'h:1')$$, '22004'), ($$SELECT scrape_target_remove('met-a', NULL)$$, '22004')) v(q, s);
SELECT is((scrape_target_remove('met-a', '[::1]:9100')).target, '[::1]:9100', 'one is removed');
SELECT count(scrape_target_set('met-b', 'h:' || n)) FROM generate_series(1, 100) n \g /dev/null
SELECT throws_ok($$SELECT scrape_target_set('met-b', 'h:101')$$, '53400', NULL, 'a hundred are enough');
SELECT is((scrape_target_set('met-b', 'h:100', '{"a": "b"}')).labels->>'a', 'b', 'of which each can be changed');

-- who may
BEGIN;
SELECT tenant_context_set('met-a') \g /dev/null
SELECT throws_ok(q, '42501', NULL, q) FROM unnest(ARRAY['SELECT metrics_prometheus()', $$SELECT scrape_target_set('met-a', 'h:1')$$, $$SELECT scrape_target_remove('met-a', 'h:1')$$, 'SELECT FROM tenancy.scrape_target', 'SELECT FROM tenancy.refusal_count_read()']) q;
ROLLBACK;
SET ROLE tenancy_auditor;
SELECT isnt(metrics_prometheus(), NULL, 'an auditor reads');
SELECT throws_ok($$SELECT scrape_target_set('met-a', 'h:1')$$, '42501', NULL, 'and sets nothing');
RESET ROLE;
SELECT * FROM finish();
