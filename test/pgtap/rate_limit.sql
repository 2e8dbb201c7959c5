-- Rate limits: the algorithms against published cases, policies together, what they leave alone.
SELECT * FROM no_plan();
SELECT slug FROM tenant_create('rl-a') \g /dev/null
SELECT slug FROM tenant_create('rl-b') \g /dev/null
CREATE ROLE rl_app LOGIN IN ROLE tenancy_app;

CREATE FUNCTION pg_temp.at(ms numeric) RETURNS void LANGUAGE sql AS
    $$ SELECT set_config('tenancy.test_clock', (timestamptz '2026-03-01 00:00+00' + ms * interval '1 millisecond')::text, false) $$;
CREATE FUNCTION pg_temp.ask(slug text, endpoint text DEFAULT '/', user_id text DEFAULT NULL, cost int DEFAULT 1) RETURNS tenancy.rate_limit_result LANGUAGE sql AS
    $$ SELECT rate_limit_enforce(slug, endpoint, user_id, cost) $$;

-- the table of redis-cell: max_burst 4, one a second (Brandur Leach, redis-cell, test table of cell::store)
SELECT rate_limit_configure('rl-a', '{"global_limits": [{"limit": 1, "period_seconds": 1, "burst": 4}]}') \g /dev/null
CREATE TEMP TABLE gcra (n serial, at_ms int, quantity int, limited int, remaining int, reset_ms int, retry_ms int);
INSERT INTO gcra (at_ms, quantity, limited, remaining, reset_ms, retry_ms) VALUES
    (0, 6, 1, 5, 0, -1), (0, 1, 0, 4, 1000, -1), (0, 1, 0, 3, 2000, -1), (0, 1, 0, 2, 3000, -1), (0, 1, 0, 1, 4000, -1), (0, 1, 0, 0, 5000, -1), (0, 1, 1, 0, 5000, 1000),
    (3000, 1, 0, 2, 3000, -1), (3100, 1, 0, 1, 3900, -1), (4000, 1, 0, 1, 4000, -1), (8000, 1, 0, 4, 1000, -1), (9500, 1, 0, 4, 1000, -1), (9500, 0, 0, 4, 1000, -1),
    (9500, 2, 0, 2, 3000, -1), (9500, 5, 1, 2, 3000, 3000);
CREATE FUNCTION pg_temp.try_gcra(g gcra) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r tenancy.rate_limit_result;
BEGIN
    PERFORM pg_temp.at(g.at_ms);
    r := pg_temp.ask('rl-a', cost => g.quantity);
    RETURN is(row(r.limited::int, r.remaining, r.reset_after_ms, r.retry_after_ms, r."limit")::text, row(g.limited, g.remaining, g.reset_ms, g.retry_ms, 5)::text,
        format('GCRA at %s ms, quantity %s', g.at_ms, g.quantity));
END $$;
SELECT pg_temp.try_gcra(g) FROM gcra g ORDER BY n;

-- Cloudflare: 42 requests in the last minute, 18 in this one, 15 s in: 42 × 0.75 + 18 = 49.5
SELECT rate_limit_configure('rl-a', '{"sliding_window": true, "global_limits": [{"limit": 50, "period_seconds": 60}]}') \g /dev/null
SELECT pg_temp.at(59000), pg_temp.ask('rl-a', cost => 42) \g /dev/null
SELECT pg_temp.at(60000), pg_temp.ask('rl-a', cost => 8) \g /dev/null
SELECT pg_temp.at(75000), pg_temp.ask('rl-a', cost => 10) \g /dev/null
SELECT is((pg_temp.ask('rl-a', cost => 0)).remaining, 0::bigint, 'sliding window: 49.5 of 50 leave no whole request');
SELECT ok((pg_temp.ask('rl-a')).limited, 'the 51st is denied');
SELECT is((pg_temp.ask('rl-a')).retry_after_ms, 714::bigint, 'for as long as half a request of the last minute takes to leave: 0.5 / 42 × 60 s');
SELECT pg_temp.at(75714) \g /dev/null
SELECT ok((pg_temp.ask('rl-a')).limited, 'not a millisecond less');
SELECT pg_temp.at(75715) \g /dev/null
SELECT ok(NOT (pg_temp.ask('rl-a')).limited, 'then it may come');
SELECT pg_temp.at(180000) \g /dev/null
SELECT is((pg_temp.ask('rl-a', cost => 0)).remaining, 50::bigint, 'two windows later all is forgotten');

-- several policies: all or none
SELECT rate_limit_configure('rl-a', '{"burst_allowance": 0, "global_limits": [{"limit": 10, "period_seconds": 10, "burst": 9}],
    "endpoint_limits": [{"endpoint": "GET /search*", "limit": 2, "period_seconds": 10, "burst": 1}], "user_limits": [{"limit": 3, "period_seconds": 10, "burst": 2}]}') \g /dev/null
SELECT is(array_agg(r.name ORDER BY r.name), ARRAY['endpoint GET /search*', 'global', 'user'], 'limits have names') FROM tenancy.rate_limit r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE slug = 'rl-a';
SELECT pg_temp.at(300000) \g /dev/null
SELECT is((r).policy || ' ' || (r).remaining, 'endpoint GET /search* 1', 'the least that remains is told') FROM (SELECT pg_temp.ask('rl-a', 'GET /search?q=1', 'ada') AS r OFFSET 0) x;
SELECT is((r).limited::text || ' ' || (r).policy || ' ' || (r).remaining, 'false endpoint GET /search* 0', 'the second search') FROM (SELECT pg_temp.ask('rl-a', 'GET /search', 'ada') AS r OFFSET 0) x;
SELECT is((r).limited::text || ' ' || (r).policy || ' ' || (r).retry_after_ms, 'true endpoint GET /search* 5000', 'the third is denied by the endpoint') FROM (SELECT pg_temp.ask('rl-a', 'GET /search', 'ada') AS r OFFSET 0) x;
-- draft-ietf-httpapi-ratelimit-headers-10: a list of all policies, each with what is left and until when
SELECT is((r).ratelimit_policy, '"endpoint GET /search*";q=2;w=10,"global";q=10;w=10,"user";q=3;w=10', 'each policy is told') FROM (SELECT pg_temp.ask('rl-a', 'GET /search', 'ada', 0) AS r OFFSET 0) x;
SELECT is((r).ratelimit, '"endpoint GET /search*";r=0;t=10,"global";r=8;t=2,"user";r=1;t=7', 'with what it leaves') FROM (SELECT pg_temp.ask('rl-a', 'GET /search', 'ada', 0) AS r OFFSET 0) x;
SELECT is((pg_temp.ask('rl-a', '/', 'ada', 0)).remaining, 1::bigint, 'and was not counted for the user');
SELECT is((pg_temp.ask('rl-a', '/', NULL, 0)).remaining, 8::bigint, 'nor for the tenant');
SELECT is((pg_temp.ask('rl-a', '/', 'bob', 0)).remaining, 3::bigint, 'another user has all of his');
SELECT is((pg_temp.ask('rl-b', '/', 'ada', 0)).policy, NULL, 'another tenant has no limits');
SELECT ok(NOT (pg_temp.ask('rl-b')).limited, 'and is let through');

-- limits of all tenants, and one's own in its place
SELECT rate_limit_configure(NULL, '{"global_limits": [{"limit": 5, "period_seconds": 1}], "service_limits": [{"limit": 8, "period_seconds": 1}]}') \g /dev/null
SELECT pg_temp.at(600000) \g /dev/null
SELECT is((pg_temp.ask('rl-b', cost => 5)).limited, false, 'a limit of all tenants holds for each');
SELECT is((r).policy, 'global', 'alike') FROM (SELECT pg_temp.ask('rl-b') AS r OFFSET 0) x WHERE (r).limited;
SELECT is((pg_temp.ask('rl-a', cost => 3)).limited, false, 'one''s own takes the place of that name');
SELECT is((r).policy, 'service', 'what the service bears is one for all') FROM (SELECT pg_temp.ask('rl-a') AS r OFFSET 0) x WHERE (r).limited;
SELECT rate_limit_configure(NULL, '{}') \g /dev/null
SELECT is_empty('SELECT 1 FROM tenancy.rate_limit WHERE tenant_id = ''00000000-0000-0000-0000-000000000000''', 'what is not in the document is no more');

-- shadow
SELECT rate_limit_configure('rl-b', '{"global_limits": [{"limit": 1, "period_seconds": 3600, "shadow": true}]}') \g /dev/null
SELECT pg_temp.at(700000), pg_temp.ask('rl-b') \g /dev/null
SELECT is((r).limited::text || ' ' || (r).shadow_policy, 'false global', 'a shadow denies nothing and says that it would') FROM (SELECT pg_temp.ask('rl-b') AS r OFFSET 0) x;
SELECT results_eq($$SELECT allowed, limited FROM tenancy.rate_limit_stat WHERE slug = 'rl-b' AND shadow$$, 'VALUES (1::bigint, 1::bigint)', 'and counts');

-- at once
SELECT rate_limit_configure('rl-b', '{"concurrency_limits": [{"limit": 2}]}') \g /dev/null
BEGIN;
SELECT is((pg_temp.ask('rl-b')).remaining, 1::bigint, 'concurrency: one of two');
SAVEPOINT s;
SELECT is((pg_temp.ask('rl-b')).remaining, 0::bigint, 'two of two');
ROLLBACK TO s;
SELECT ok((pg_temp.ask('rl-b')).limited, 'held until the end of the transaction');
ROLLBACK;
SELECT is((pg_temp.ask('rl-b', cost => 0)).remaining, 2::bigint, 'and then given back');
SELECT is((r).ratelimit_policy || ' ' || (r).ratelimit, '"concurrency";q=2;qu="concurrent-requests" "concurrency";r=2', 'with the unit of the draft, and no time') FROM (SELECT pg_temp.ask('rl-b', cost => 0) AS r OFFSET 0) x;
SELECT is((SELECT refusals || ' ' || used || ' ' || hard || ' ' || wanted FROM tenancy.refusal_read((SELECT id FROM tenancy.tenant WHERE slug = 'rl-b')) WHERE name = 'concurrency'), '1 2 2 1', 'what was denied is remembered');

-- what it does not need: a table to write to, a transaction that lasts
SELECT rate_limit_configure('rl-b', '{"global_limits": [{"limit": 100, "period_seconds": 60}]}') \g /dev/null
SELECT pg_temp.at(900000) \g /dev/null
BEGIN READ ONLY;
SELECT is((pg_temp.ask('rl-b')).remaining, 99::bigint, 'counts in a READ ONLY transaction');
ROLLBACK;
SELECT is((pg_temp.ask('rl-b')).remaining, 98::bigint, 'and after it was rolled back');
SELECT is(row((r).ratelimit_policy, (r).ratelimit, (r).retry_after)::text, '("""global"";q=100;w=60","""global"";r=97;t=2",)', 'header fields of the draft') FROM (SELECT pg_temp.ask('rl-b') AS r OFFSET 0) x;
SELECT is((r).retry_after::text || ' ' || (r).ratelimit, '2 "global";r=97;t=2', 'and Retry-After, in whole seconds, not before t') FROM (SELECT pg_temp.ask('rl-b', cost => 100) AS r OFFSET 0) x;
BEGIN;
SET LOCAL ROLE rl_app;
SELECT tenant_context_set('rl-b') \g /dev/null
SELECT is((rate_limit_enforce('rl-b', '/')).remaining, 96::bigint, 'a tenant asks for itself');
SELECT throws_ok($$SELECT rate_limit_enforce('rl-a', '/')$$, '42704', NULL, 'and for no other');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.rate_limit_read()), 1::bigint, 'whose counts it does not see');
SELECT throws_ok($$SELECT rate_limit_configure('rl-b', '{}')$$, '42501', NULL, 'nor does it set its limits');
ROLLBACK;
RESET tenancy.test_clock;

-- documents
SELECT throws_ok(format('SELECT rate_limit_configure(''rl-a'', %L)', d), '22023', NULL, 'refused: ' || d) FROM unnest(ARRAY[
    '[]', '{"x": 1}', '{"global_limits": [{"limit": 0, "period_seconds": 1}]}', '{"global_limits": [{"limit": 1}]}', '{"global_limits": [{"limit": 1, "period_seconds": 0}]}',
    '{"global_limits": [{"limit": 1, "period_seconds": 1}, {"limit": 2, "period_seconds": 60}]}', '{"endpoint_limits": [{"limit": 1, "period_seconds": 1}]}',
    '{"service_limits": [{"limit": 1, "period_seconds": 1}]}', '{"concurrency_limits": [{"limit": 1, "period_seconds": 1}]}', '{"on_full": "maybe"}',
    '{"global_limits": [{"limit": 1, "period_seconds": 1, "name": "a\"b"}]}', '{"global_limits": [{"limit": 1000000001, "period_seconds": 1}]}']) d;
SELECT lives_ok($$SELECT rate_limit_configure('rl-a', '{"global_limits": [{"limit": 1, "period_seconds": 1, "name": "second"}, {"limit": 1000000000, "period_seconds": 31622400, "burst": 1000000000, "name": "year"}]}')$$, 'two paces, the largest numbers');
SELECT ok(NOT (rate_limit_enforce('rl-a', '/', NULL, 0)).limited, 'which do not overflow');
SELECT is((rate_limit_enforce('rl-a', '/', NULL, 2147483647)).limited, true, 'nor does the largest cost');
SELECT throws_ok($$SELECT rate_limit_enforce('rl-a', '/', NULL, -1)$$, '22023', NULL, 'no negative cost');
SELECT throws_ok($$SELECT rate_limit_enforce('rl-a', repeat('x', 3000))$$, '22023', NULL, 'no endless endpoint');
SELECT throws_ok($$SELECT rate_limit_enforce('rl-none', '/')$$, '42704', NULL, 'an unknown tenant is told');

-- patterns
SELECT rate_limit_configure('rl-a', '{"endpoint_limits": [{"endpoint": "*/items/*/edit", "limit": 9, "period_seconds": 9}]}') \g /dev/null
SELECT is((rate_limit_enforce('rl-a', e, NULL, 0)).policy IS NOT NULL, expected, 'pattern: ' || e) FROM (VALUES ('/items/1/edit', true), ('PUT /v1/items/a/b/edit', true), ('/items/1/edit/x', false), ('/items/edit', false), ('', false)) v (e, expected);
SELECT * FROM finish();
