-- Retention of usage events: rows go, and reports by the hour, invoices, roll-ups and what is known of an id stay.
SELECT * FROM no_plan();
SET timezone = 'UTC';
\ir quiet.psql
SELECT metric_create('payments', 'EUR') \g /dev/null
SELECT metric_create('calls.users', 'user', 'unique', property => 'user', event => 'api_calls', group_by => '{user}'),
    metric_create('calls.max', 'call', 'max', true, event => 'api_calls'), metric_create('calls.last', 'call', 'latest', event => 'api_calls'),
    metric_create('calls.area', 'call', 'weighted_sum', true, event => 'api_calls') \g /dev/null
-- 10 free, up to 50 at 0.25 and a fee of 1, then 0.125, by hand
SELECT count(*) FROM plan_create('tiers', 'Tiers', 'custom', '{"type": "custom", "base_price": 0, "currency": "USD", "billing_period": "monthly",
    "charges": [{"id": "calls", "name": "Calls", "model": "graduated", "metric": "api_calls", "unit": "call", "tiers": [{"up_to": 10}, {"up_to": 50, "unit_price": 0.25, "flat_fee": 1}, {"unit_price": 0.125}]}]}') \g /dev/null
SELECT count(*) FROM plan_create('fees', 'Fees', 'custom', '{"type": "custom", "base_price": 0, "currency": "USD", "billing_period": "monthly",
    "charges": [{"id": "fee", "name": "Fee", "model": "percentage", "metric": "payments", "unit": "EUR", "rate": 0.01}]}') \g /dev/null
CREATE FUNCTION tiers(n numeric) RETURNS numeric LANGUAGE sql AS
    'SELECT round(CASE WHEN n > 10 THEN 1 ELSE 0 END + 0.25 * greatest(0, least(n, 50) - 10) + 0.125 * greatest(0, n - 50), 2)';
-- periods that begin in the middle of an hour; and a tenant that is not billed
SET tenancy.test_clock = '2026-01-05 10:20+00';
SELECT slug FROM tenant_create('acme', plan => 'tiers', starts_at => '2026-01-05 10:20+00') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SELECT slug FROM tenant_create('idle') \g /dev/null
SELECT id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT id AS globex FROM tenancy.tenant WHERE slug = 'globex' \gset
-- an event every 50 minutes from January 5 to April 4
SET tenancy.test_clock = '2026-04-04 12:00+00';
SELECT sum(recorded) FROM (SELECT (usage_record_batch(jsonb_agg(jsonb_build_object('tenant', t, 'metric', 'api_calls', 'event_id', 'e' || n, 'quantity', 1 + n % 3,
    'occurred_at', '2026-01-05 10:00+00'::timestamptz + n * interval '50 minutes', 'properties', jsonb_build_object('user', 'u' || n % 7))))).recorded
    FROM generate_series(0, 2560) n, unnest('{acme,globex}'::text[]) t) r \g /dev/null
SELECT usage_record('acme', 'payments', 100, 'p1', '2026-01-10 12:00+00') \g /dev/null
-- usage of January 5 to February 5 is billed, and of the next period; the third is open
SET tenancy.test_clock = '2026-02-05 12:00+00';
SELECT invoices FROM billing_run('2026-02-05 12:00+00') \g /dev/null
SET tenancy.test_clock = '2026-03-05 12:00+00';
SELECT invoices FROM billing_run('2026-03-05 12:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-04 12:00+00';
SELECT results_eq($$SELECT period_start, period_end FROM tenancy.invoice ORDER BY 1$$, $$VALUES ('2026-01-05 10:20+00'::timestamptz, '2026-02-05 10:20+00'::timestamptz), ('2026-02-05 10:20+00', '2026-03-05 10:20+00')$$, 'two periods are billed');
CREATE FUNCTION used(from_time timestamptz, to_time timestamptz) RETURNS numeric LANGUAGE sql AS
    $$SELECT sum(1 + n % 3)::numeric FROM generate_series(0, 2560) n WHERE '2026-01-05 10:00+00'::timestamptz + n * interval '50 minutes' >= from_time AND '2026-01-05 10:00+00'::timestamptz + n * interval '50 minutes' < to_time$$;
SELECT is((SELECT total FROM tenancy.invoice WHERE period_start < '2026-02-01'), tiers(used('2026-01-05 10:20+00', '2026-02-05 10:20+00')), 'for what was used');

-- for ever unless it is said
SELECT is((SELECT r::text FROM usage_event_prune() r), '(0,0,0,t)', 'nothing goes by default');
SELECT is((SELECT r::text FROM usage_event_prune(true, '20 days') r), '(0,0,0,t)', 'nor before it is rolled up');
SELECT is((SELECT r::text FROM usage_event_prune(older_than => '20 days') r), '(0,0,0,t)', 'whatever its age');
\ir roll.psql
CALL roll(20);
SELECT is((SELECT min(rolled_until) FROM tenancy.usage_frontier), '2026-04-04 11:00+00', 'all is rolled up');
CREATE VIEW everything AS
    SELECT t.slug, 'day' AS kind, r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-01-01', '2026-04-05', bucket => '1 day') r
    UNION ALL SELECT t.slug, 'hour', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-02-03', '2026-02-06', bucket => '1 hour') r
    UNION ALL SELECT t.slug, 'odd', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-20 01:17', '2026-04-03 13:01', bucket => '13 hours 41 minutes') r
    UNION ALL SELECT t.slug, 'group', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-01-01', '2026-04-05', group_by => '{user}') r
    UNION ALL SELECT t.slug, 'period', r.* FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-01-05 10:20', '2026-02-05 10:20') r WHERE t.slug = 'acme';
CREATE TABLE before AS SELECT * FROM everything;
SELECT is((SELECT quantity FROM before WHERE kind = 'period' AND metric_name = 'api_calls'), used('2026-01-05 10:20+00', '2026-02-05 10:20+00'), 'reports to compare with');

-- what may go, by hand: before March 15 12:00; of acme before March 5 10:00 and not in the hours in which its periods begin
CREATE VIEW may_go AS
    SELECT e.*, date_trunc('hour', e.occurred_at) AS hour FROM tenancy.usage_event e
     WHERE e.occurred_at < '2026-03-15 12:00+00'
       AND (e.tenant_id <> (SELECT id FROM tenancy.tenant WHERE slug = 'acme') OR e.occurred_at < '2026-03-05 10:00+00'
            AND date_trunc('hour', e.occurred_at) NOT IN ('2026-01-05 10:00+00', '2026-02-05 10:00+00', '2026-03-05 10:00+00'));
SELECT ok((SELECT count(*) FROM may_go) BETWEEN 3000 AND 4000, 'most may go');
SELECT count(*) AS events, count(DISTINCT (tenant_id, metric, hour)) AS hours FROM may_go \gset
SELECT is((SELECT r::text FROM usage_event_prune(true, '20 days') r), format('(%s,%s,2,t)', :events, :hours), 'a dry run counts them');
BEGIN READ ONLY;
SELECT is((SELECT events FROM usage_event_prune(true, '20 days')), :events::bigint, 'also where nothing may be written');
SELECT throws_ok($$SELECT usage_event_prune(older_than => '20 days')$$, '25006', NULL, 'where nothing goes');
COMMIT;
SELECT is((SELECT count(*) FROM may_go), :events::bigint, 'and removes none');
CREATE TABLE kept AS SELECT e.* FROM tenancy.usage_event e EXCEPT ALL SELECT m.tenant_id, m.event_id, m.metric, m.quantity, m.occurred_at, m.recorded_at, m.properties, m.cancelled_at, m.month_of_year FROM may_go m;
SELECT is((SELECT finished FROM usage_event_prune(older_than => '20 days', max_events => 500)), false, 'a part of it');
SELECT ok((SELECT count(*) FROM may_go) BETWEEN :events - 502 AND :events - 500, 'is to the end of its hour');
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'and the roll-ups are what is kept');
SELECT is((SELECT finished FROM usage_event_prune(older_than => '20 days')), true, 'all of it');
SELECT bag_eq('SELECT * FROM tenancy.usage_event', 'SELECT * FROM kept', 'leaves what has to be kept');
SELECT is((SELECT r::text FROM usage_event_prune(older_than => '20 days') r), '(0,0,0,t)', 'and goes once');
SELECT bag_eq('SELECT * FROM everything', 'SELECT * FROM before', 'reports are what they were');
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'roll-ups are what the events add up to that are kept');
SELECT is((SELECT count(*) FROM tenancy.usage_event_key), 2 * 2561 + 1::bigint, 'identities stay');
SELECT throws_ok($$SELECT * FROM usage_report('globex', '2026-02-01 00:30', '2026-02-02', 'api_calls')$$, '55000', 'usage events of metric "api_calls" are not kept any more', 'a part of an hour is not told any more');
SELECT throws_ok($$SELECT * FROM usage_report('globex', '2026-02-01', '2026-02-02 00:30', 'calls.last')$$, '55000', NULL, 'nor a level within it');
SELECT throws_ok($$SELECT * FROM usage_report('globex', '2026-02-01 00:00+05:30', '2026-02-02 00:00+05:30', 'api_calls', '1 day', 'Asia/Kolkata')$$, '55000', NULL, 'which the days of some countries begin within');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-03-20 00:30', '2026-03-21', 'api_calls')), used('2026-03-20 00:30', '2026-03-21'), 'of newer ones it is');

-- what comes again, and what is taken back
SELECT results_eq($$SELECT event_id, metric, quantity, occurred_at, recorded_at, properties, cancelled_at, month_of_year FROM usage_record('globex', 'api_calls', 2, 'e1', '2026-01-05 10:50+00', '{"user": "u1"}')$$,
    $$VALUES ('e1', 'api_calls', 2::numeric, '2026-01-05 10:50+00'::timestamptz, NULL::timestamptz, '{"user": "u1"}'::jsonb, NULL::timestamptz, 1::smallint)$$, 'an event that comes again is known: all of it, but when it came first');
SELECT is((SELECT (recorded, repeated)::text FROM usage_record_batch('[{"tenant": "globex", "metric": "api_calls", "quantity": 2, "event_id": "e1", "occurred_at": "2026-01-05 10:50+00", "properties": {"user": "u1"}}]')), '(0,1)', 'in a batch, too');
SELECT throws_ok($$SELECT usage_record('globex', 'api_calls', 3, 'e1', '2026-01-05 10:50+00', '{"user": "u1"}')$$, '23505', 'usage event "e1" was recorded with another content', 'another one under its id is refused');
CREATE FUNCTION conflict_detail() RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text;
BEGIN PERFORM usage_record('globex', 'api_calls', 3, 'e1', '2026-01-05 10:50+00', '{"user": "u1"}'); RETURN NULL;
EXCEPTION WHEN unique_violation THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RETURN d; END $$;
SELECT matches(conflict_detail(), '[0-9a-f]{32}.*[0-9a-f]{32}', 'with both digests');
SELECT throws_ok($$SELECT usage_cancel('globex', 'e1')$$, '55000', 'usage event "e1" is not kept any more', 'it cannot be cancelled');
SELECT throws_ok($$SELECT usage_cancel('globex', 'never')$$, '42704', NULL, 'which is another case than one that never was');
SELECT is((SELECT count(*) FROM tenancy.usage_event), (SELECT count(*) FROM kept), 'nothing has come');
-- an event without a time, whose row goes
RESET tenancy.test_clock;
SELECT occurred_at FROM usage_record('idle', 'api_calls', 1, 'untimed') \gset untimed_
DELETE FROM tenancy.usage_event WHERE event_id = 'untimed';
SELECT pg_sleep(0.01) \g /dev/null
SELECT is((SELECT occurred_at FROM usage_record('idle', 'api_calls', 1, 'untimed')), :'untimed_occurred_at'::timestamptz, 'a time that was left out is the first one');
SET tenancy.test_clock = '2026-04-04 12:00+00';
DELETE FROM tenancy.usage_event_key k USING tenancy.tenant t WHERE t.id = k.tenant_id AND t.slug = 'idle';

-- late events for hours that are gone: counted, cancelled, merged, and removed in their turn
SELECT usage_record('globex', 'api_calls', 1000, 'late1', '2026-02-01 05:10+00', '{"user": "late"}') \g /dev/null
SELECT usage_record('globex', 'api_calls', 500, 'late2', '2026-02-01 05:20+00', '{"user": "late"}') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'what comes late is in the roll-ups');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'api_calls')), used('2026-02-01', '2026-02-02') + 1500, 'and counts');
SELECT usage_cancel('globex', 'late1') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'so is what is taken back');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'api_calls')), used('2026-02-01', '2026-02-02') + 500, 'and does not count, while what was removed does');
SELECT is((SELECT max(quantity) FROM usage_report('globex', '2026-02-01', '2026-02-02', 'calls.max')), 500::numeric, 'a level is that of the other one');
CALL roll(2);
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'merging knows them apart');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'api_calls')), used('2026-02-01', '2026-02-02') + 500, 'and changes nothing');
-- a metric that is made now sees what is there, and is rolled up
SELECT metric_create('calls.n', 'call', 'count', event => 'api_calls') \g /dev/null
SELECT is((SELECT events FROM usage_event_prune(older_than => '20 days')), 0::bigint, 'nothing goes that a new metric has still to count');
CALL roll(20);
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'it is rolled up');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'calls.n')), 1::numeric, 'of what is kept');
SELECT usage_cancel('globex', 'late2') \g /dev/null
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'and made anew');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'calls.n')), 0::numeric, 'when that is cancelled');
SELECT usage_record('globex', 'api_calls', 7, 'late3', '2026-02-01 05:30+00', '{"user": "late"}') \g /dev/null
SELECT is((SELECT r::text FROM usage_event_prune(older_than => '20 days') r), '(3,1,1,t)', 'late ones go, too, cancelled or not');
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'and the view is as it must be');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'api_calls')), used('2026-02-01', '2026-02-02') + 7, 'what they added stays');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'calls.n')), 1::numeric, 'in all metrics');
DROP TABLE before;

-- usage that is late for a period that is billed and removed
SELECT usage_record('acme', 'api_calls', 40, 'late4', '2026-01-20 05:10+00') \g /dev/null
SELECT usage_record('acme', 'api_calls', 60, 'late5', '2026-01-05 10:15+00') \g /dev/null
CREATE TABLE issued AS SELECT * FROM tenancy.invoice_line;
SET tenancy.test_clock = '2026-04-05 12:00+00';
SELECT invoices FROM billing_run('2026-04-05 12:00+00') \g /dev/null
SELECT results_eq($$SELECT l.quantity, l.amount, l.period_start, l.period_end FROM tenancy.invoice_line l WHERE l.kind = 'late'$$,
    $$SELECT q + 40, tiers(q + 40) - tiers(q), '2026-01-05 10:20+00'::timestamptz, '2026-02-05 10:20+00'::timestamptz FROM used('2026-01-05 10:20+00', '2026-02-05 10:20+00') q$$, 'is billed as if nothing was removed: of the cut hour what is within the period');
SELECT bag_eq('SELECT l.* FROM tenancy.invoice_line l JOIN issued i USING (invoice_id, position)', 'SELECT * FROM issued', 'and what was billed is as it was');
SELECT is((SELECT l.amount FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id WHERE i.period_start > '2026-03-01' AND l.kind = 'usage'), tiers(used('2026-03-05 10:20+00', '2026-04-05 10:20+00')), 'the open period was whole');
-- an hour of a period whose transactions are wanted one by one
SET tenancy.test_clock = '2026-04-06 12:00+00';
SELECT slug FROM tenant_create('shop') \g /dev/null
SELECT usage_record('shop', 'payments', 100, 'p' || n, '2026-03-01 12:00+00') FROM generate_series(1, 3) n \g /dev/null
CALL roll(3);
SELECT ok((SELECT events FROM usage_event_prune(older_than => '20 days')) >= 3, 'the next ones go');
SELECT is((SELECT count(*) FROM tenancy.usage_event e JOIN tenancy.tenant t ON t.id = e.tenant_id WHERE t.slug = 'shop'), 0::bigint, 'who is not billed keeps none of them');
SELECT count(*) FROM subscription_create('shop', 'fees', '2026-03-01 00:00+00') \g /dev/null
SELECT is((SELECT failed FROM billing_run('2026-04-06 12:00+00')), 1::bigint, 'who subscribes for then is not billed too little, but not at all');
SELECT matches((SELECT string_agg(f::text, ' ') FROM tenancy.billing_failure f), 'usage events of metric ""payments"" are not kept', 'which says why');

-- a month later
SET tenancy.test_clock = '2026-05-20 12:00+00';
CALL roll(20);
SELECT ok((SELECT events FROM usage_event_prune(true, '20 days')) > 500, 'a month later there is more');
SELECT ok((SELECT events FROM usage_event_prune(older_than => '20 days')) > 500, 'which goes');
SELECT is_empty('SELECT * FROM tenancy.usage_rollup_difference', 'and nothing is lost');

-- a level that is prorated is known by all of its changes
SET tenancy.test_clock = '2026-06-01 00:00+00';
SELECT metric_create('seats', 'seat', 'weighted_sum', true) \g /dev/null
SELECT count(*) FROM plan_create('seated', 'Seated', 'custom', '{"type": "custom", "base_price": 0, "currency": "USD", "billing_period": "monthly",
    "charges": [{"id": "seats", "name": "Seats", "model": "per_unit", "metric": "seats", "unit": "seat", "unit_price": 3, "prorate": true}]}') \g /dev/null
SELECT slug FROM tenant_create('seated', plan => 'seated', starts_at => '2026-06-01 00:00+00') \g /dev/null
SELECT usage_record('seated', 'seats', 5, 's1', '2026-06-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-01 00:00+00';
SELECT count(*) FROM billing_run('2026-09-01 00:00+00') \g /dev/null
CALL roll(4);
SELECT count(*) FROM usage_event_prune(older_than => '1 day') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE tenant_id = 'seated'::regtenant), 1::bigint, 'a change of a level that is prorated stays');
SET tenancy.test_clock = '2026-10-01 00:00+00';
SELECT count(*) FROM billing_run('2026-10-01 00:00+00') \g /dev/null
SELECT is((SELECT array_agg(l.amount ORDER BY i.period_start) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id WHERE i.tenant_id = 'seated'::regtenant AND l.kind = 'usage'),
	ARRAY[15, 15, 15, 15]::numeric[], 'for it is billed each month');

-- arguments and rights
SELECT throws_ok('SELECT usage_event_prune(max_events => 0)', '22023', NULL, 'none at all');
SELECT throws_ok($$SELECT usage_event_prune(older_than => '23 hours')$$, '22023', NULL, 'what is of today');
SELECT throws_ok($$SELECT usage_event_prune(older_than => '-1 month')$$, '22023', NULL, 'or of tomorrow');
SELECT throws_ok('SELECT usage_event_prune(NULL)', '22004', NULL, 'null');
SELECT throws_ok('SELECT usage_event_prune(max_events => NULL)', '22004', NULL, 'null events');
CREATE ROLE prune_app LOGIN IN ROLE tenancy_app;
CREATE ROLE prune_admin LOGIN IN ROLE tenancy_admin;
SET ROLE prune_app;
SELECT throws_ok('SELECT usage_event_prune(true)', '42501', NULL, 'not by the application');
SELECT throws_ok('SELECT * FROM tenancy.usage_event_pruned', '42501', NULL, 'which is not told either');
SET ROLE prune_admin;
SELECT lives_ok('SELECT usage_event_prune()', 'but by an administrator');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT throws_ok('SELECT usage_event_prune(true)', '42501', NULL, 'nor by a tenant');
SELECT is((SELECT quantity FROM usage_report('globex', '2026-02-01', '2026-02-02', 'api_calls')), used('2026-02-01', '2026-02-02') + 7, 'whose reports are as before');
COMMIT;
DROP ROLE prune_app, prune_admin;
SELECT * FROM finish();
