-- Quantities beyond what is counted in shared memory: never around zero, never let in for it, and exact again.
SELECT * FROM no_plan();
-- in one month
SET tenancy.test_clock = '2026-06-10 12:00+00';
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SELECT metric_create('tokens', 'token'), metric_create('strict', 'token') \g /dev/null
CREATE FUNCTION pg_temp.look(slug text, resource text, amount numeric DEFAULT 1) RETURNS text LANGUAGE sql AS
    $$ SELECT concat_ws(' ', (q).allowed, (q).used) FROM (SELECT quota_check(slug, resource, amount) q) x $$;
CREATE FUNCTION pg_temp.record(slug text, metric text, quantity numeric) RETURNS numeric LANGUAGE sql AS
    $$ SELECT quantity FROM usage_record(slug, metric, quantity, NULL, '2026-06-10 11:00+00') $$;
-- 2^62 - 1 millionths is the most that is counted
SELECT lives_ok($$SELECT quota_set('acme', 'tokens', NULL, 4611686018427.387902)$$, 'the largest limit');
SELECT throws_ok($$SELECT quota_set('acme', 'tokens', NULL, 4611686018427.387903)$$, '22023', 'argument "hard" must be at most 4611686018427.387902', 'what is not less than what is counted is none');
SELECT throws_ok($$SELECT quota_set('acme', 'tokens', 1e40, NULL)$$, '22023', NULL, 'nor is much more');
SELECT throws_ok($$SELECT quota_set('acme', 'tokens', NULL, -1e40)$$, '22023', NULL, 'nor much less');
SELECT is(pg_temp.look('acme', 'tokens', 4611686018427.387902), 't 0', 'as much may be asked for');
SELECT is(pg_temp.look('acme', 'tokens', 4611686018427.387903), 'f 0', 'and not more');
SELECT is(pg_temp.look('acme', 'tokens', 1e40), 'f 0', 'however much');

-- up
SELECT pg_temp.record('acme', 'tokens', 1) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 't 1', 'one is used');
SELECT pg_temp.record('acme', 'tokens', 4000000000000) FROM generate_series(1, 2) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 'f 4611686018427.387903', 'more than is counted is used');
SELECT pg_temp.record('acme', 'tokens', 4000000000000) FROM generate_series(1, 5) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 'f 4611686018427.387903', 'which stays so');
SELECT is((SELECT quantity FROM usage_report('acme', '2026-06-01 00:00+00', '2026-07-01 00:00+00', 'tokens')), 28000000000001::numeric, 'and is reported as it is');
SELECT pg_temp.record('acme', 'tokens', -28000000000000) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 't 1', 'taken back it is what it was');
SELECT pg_temp.record('acme', 'tokens', 1e30) FROM generate_series(1, 3) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 'f 4611686018427.387903', 'of very much');
SELECT pg_temp.record('acme', 'tokens', -1e30) FROM generate_series(1, 3) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 't 1', 'too');
-- and down, within one transaction and its parts
BEGIN;
SELECT pg_temp.record('acme', 'tokens', q) FROM unnest('{1e30,1e30,-1e30,-1e30,7}'::numeric[]) q \g /dev/null
SAVEPOINT s;
SELECT pg_temp.record('acme', 'tokens', 1e40) \g /dev/null
ROLLBACK TO s;
SAVEPOINT s;
SELECT pg_temp.record('acme', 'tokens', -1e40) \g /dev/null
RELEASE s;
SELECT pg_temp.record('acme', 'tokens', 1e40) \g /dev/null
COMMIT;
SELECT is(pg_temp.look('acme', 'tokens'), 't 8', 'a transaction with very much and very little adds up');
SELECT pg_temp.record('acme', 'tokens', -1e30) FROM generate_series(1, 3) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 't -4611686018427.387903', 'less than is counted');
SELECT pg_temp.record('acme', 'tokens', 3e30) \g /dev/null
SELECT is(pg_temp.look('acme', 'tokens'), 't 8', 'and back');
SELECT pg_temp.record('acme', 'tokens', -8) \g /dev/null

-- refused
SELECT quota_set('globex', 'strict', NULL, 100, true) \g /dev/null
SELECT throws_ok(format('SELECT usage_record(%L, %L, %s, NULL, %L)', 'globex', 'strict', q, '2026-06-10 11:00+00'), '53400', NULL, 'refused: ' || q) FROM unnest('{101,4611686018427.387902,4611686018427.387903,9223372036854.775807,1e30}'::numeric[]) q;
SELECT pg_temp.record('globex', 'strict', q) FROM unnest('{-1e30,50}'::numeric[]) q \g /dev/null
SELECT is(pg_temp.look('globex', 'strict'), 't -4611686018427.387903', 'taken back beyond');
SELECT pg_temp.record('globex', 'strict', 1e30) \g /dev/null
SELECT is(pg_temp.look('globex', 'strict'), 't 50', 'and given again');
SELECT throws_ok($$SELECT usage_record('globex', 'strict', 51, NULL, '2026-06-10 11:00+00')$$, '53400', NULL, 'what is known is exact: not more than the limit');
SELECT lives_ok($$SELECT usage_record('globex', 'strict', 50, NULL, '2026-06-10 11:00+00')$$, 'but up to it');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-06-01 00:00+00', '2026-07-01 00:00+00', 'strict')), 100::numeric, 'as the table has it');
SELECT * FROM finish();
