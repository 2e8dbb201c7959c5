-- Subscriptions: creating, changing, pausing and ending them, and what that bills.  Amounts are computed by hand, beside each.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
CREATE FUNCTION public.join_(who text, plan text, starts timestamptz, zone text DEFAULT 'UTC', quantity numeric DEFAULT 1, options jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql AS $$
    SELECT slug FROM tenant_create(who, isolation => 'pool'); SELECT id FROM subscription_create(who, plan, starts, zone, quantity, options => options) $$;
CREATE VIEW public.line AS SELECT t.slug, i.number, i.purpose, i.state, l.position, l.kind, l.description, l.quantity, l.amount, l.period_start, l.period_end
    FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.run(at timestamptz) RETURNS bigint LANGUAGE sql AS $$ SELECT set_config('tenancy.test_clock', at::text, false); SELECT invoices FROM billing_run(at) $$;
SELECT plan_create('s29', 'Small', 'custom', '{"type": "fixed", "base_price": 29, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}'),
       plan_create('s99', 'Large', 'custom', '{"type": "fixed", "base_price": 99, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}'),
       plan_create('y299', 'Yearly', 'custom', '{"type": "fixed", "base_price": 299, "base_timing": "advance", "currency": "USD", "billing_period": "yearly"}'),
       plan_create('a30', 'Arrears', 'custom', '{"type": "custom", "base_price": 30, "currency": "USD", "billing_period": "monthly", "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}]}'),
       plan_create('seats', 'Seats', 'custom', '{"type": "custom", "base_price": 0, "currency": "USD", "billing_period": "monthly", "charges": [{"id": "seats", "name": "Seats", "model": "per_unit", "per_seat": true, "timing": "advance", "unit_price": 10}]}'),
       plan_create('tryit', 'Trial', 'custom', '{"type": "custom", "base_price": 30, "currency": "USD", "billing_period": "monthly", "trial_days": 14, "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}]}'),
       plan_create('tryfree', 'Free trial', 'custom', '{"type": "custom", "base_price": 30, "currency": "USD", "billing_period": "monthly", "trial_days": 14, "trial_usage": "free", "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}]}'),
       plan_create('extra', 'Extra', 'custom', '{"type": "fixed", "base_price": 15, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}', kind => 'addon'),
       plan_create('apart', 'Apart', 'custom', '{"type": "fixed", "base_price": 1, "currency": "USD", "billing_period": "monthly"}', family => 'apart') \g /dev/null

-- upgrade now: own-upgrade-nov11 of the golden cases, as in April: 29 → 99 on the 11th of 30 days: -19.33 and 66.00
SELECT public.join_('up', 's29', '2026-04-01 00:00+00') AS up \gset
SELECT public.run('2026-04-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-11 00:00+00';
SELECT is((subscription_update(:'up', '{"plan": "s99", "invoice": "now"}')).plan, 's99', 'an upgrade takes effect at once');
SELECT public.run('2026-04-11 00:00+00') \g /dev/null
SELECT results_eq($$SELECT purpose, kind, amount, period_start, period_end FROM public.line WHERE slug = 'up' AND amount <> 29 ORDER BY position$$,
    $$VALUES ('change', 'credit', -19.33, '2026-04-11 00:00+00'::timestamptz, '2026-05-01 00:00+00'::timestamptz), ('change', 'advance', 66.00, '2026-04-11 00:00+00', '2026-05-01 00:00+00')$$, 'own-upgrade-nov11: what is not used is credited, and the rest billed');
-- to the second: back after a quarter of the rest of it, 5 days less 1 second
SELECT results_eq(format($$SELECT plan, quantity FROM subscription_history(%L, '2026-04-10 00:00+00')$$, :'up'), $$VALUES ('s29', 1::numeric)$$, 'what was in force before');
SELECT results_eq(format($$SELECT plan FROM subscription_history(%L, '2026-04-12 00:00+00')$$, :'up'), $$VALUES ('s99')$$, 'and after');
SELECT results_eq(format($$SELECT plan FROM subscription_history(%L, '2026-04-12 00:00+00', '2026-04-05 00:00+00')$$, :'up'), $$VALUES ('s29')$$, 'as was known before');
-- a downgrade waits, is replaced by another, and billed at the end of the period
SET tenancy.test_clock = '2026-04-20 00:00+00';
SELECT is((subscription_update(:'up', '{"plan": "s29"}')).plan, 's99', 'a downgrade waits');
SELECT is((subscription_update(:'up', '{"plan": "s99"}')).plan, 's99', 'and is replaced by what is said later');
SELECT is((SELECT count(*) FROM tenancy.subscription_item WHERE subscription_id = :'up' AND superseded_at = 'infinity' AND ends_at = 'infinity'), 1::bigint, 'nothing is stacked');
SELECT plan FROM subscription_update(:'up', '{"plan": "s29"}') \g /dev/null
SELECT public.run('2026-05-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT description, amount FROM public.line WHERE slug = 'up' AND period_start = '2026-05-01 00:00+00'$$, $$VALUES ('Small', 29.00)$$, 'the next period has the smaller plan');
SELECT is((SELECT plan FROM tenancy.subscription WHERE id = :'up'), 's29', 'and so has the subscription');

-- to the second: 99 for 30 days of April, left at 12:00:01 of the 16th; 15.5 days and 1 second of 2592000 s are used
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
SELECT public.join_('second', 's99', '2026-04-01 00:00+00') AS second \gset
SELECT public.run('2026-04-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-16 12:00:01+00';
SELECT is((subscription_cancel(:'second', 'done', at_period_end => false)).state, 'cancelled', 'cancelled now');
SELECT public.run('2026-04-16 12:00:01+00') \g /dev/null
SELECT is((SELECT amount FROM public.line WHERE slug = 'second' AND kind = 'credit'), round(99 * 1339201::numeric / 2592000, 2) - 99, '99 × 1339201 / 2592000 = 51.15 are kept');
SELECT results_eq(format('SELECT state, ends_at FROM tenancy.subscription WHERE id = %L', :'second'), $$VALUES ('ended', '2026-04-16 12:00:01+00'::timestamptz)$$, 'it has ended');
SELECT throws_ok(format('SELECT subscription_reactivate(%L)', :'second'), '55000', NULL, 'and stays so');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"plan": "s29"}')$$, :'second'), '55000', NULL, 'and does not change');
SELECT throws_ok(format('SELECT subscription_cancel(%L)', :'second'), '55000', NULL, 'nor end again');

-- seats and add-ons within a period: 5 seats of 10, 8 from the 16th: -25 and 40; an add-on of 15 from the 16th: 7.50, with its base it ends
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
SELECT public.join_('crew', 'seats', '2026-04-01 00:00+00', 'UTC', 5) AS crew \gset
SELECT public.run('2026-04-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-16 00:00+00';
SELECT id FROM subscription_update(:'crew', '{"quantity": 8, "addons": [{"plan": "extra", "quantity": 2}], "invoice": "now"}') \g /dev/null
SELECT public.run('2026-04-16 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, quantity, amount FROM public.line WHERE slug = 'crew' AND purpose = 'change' AND period_start = '2026-04-16 00:00+00' AND description NOT LIKE '%Extra%' ORDER BY amount$$, $$VALUES ('credit', 5::numeric, -25.00), ('advance', 8, 40.00)$$, 'more seats at once');
SELECT is((SELECT count(*) FROM public.line WHERE slug = 'crew' AND description = 'Extra'), 1::bigint, 'an add-on comes on the same invoice');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"addons": [{"plan": "s29", "quantity": 1}]}')$$, :'crew'), '55000', NULL, 'a plan is no add-on');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"plan": "extra"}')$$, :'crew'), '55000', NULL, 'nor an add-on a plan');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"plan": "apart"}')$$, :'crew'), '55000', NULL, 'another family does not follow');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"colour": 1}')$$, :'crew'), '22023', NULL, 'an unknown member');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"quantity": -1}')$$, :'crew'), '22023', NULL, 'less than no seats');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"quantity": 1, "effective": "2026-03-01 00:00+00"}')$$, :'crew'), '22023', NULL, 'in a period that has been billed');
SELECT throws_ok(format($$SELECT subscription_update(%L, NULL)$$, :'crew'), '22004', NULL, 'nothing');
SELECT throws_ok($$SELECT subscription_update(gen_random_uuid(), '{"quantity": 1}')$$, '42704', NULL, 'an unknown subscription');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"addons": [{"plan": "extra", "quantity": 0}, {"plan": "s29", "quantity": 0}]}')$$, :'crew'), '42704', NULL, 'an add-on that it has not');
SELECT id FROM subscription_update(:'crew', '{"addons": [{"plan": "extra", "quantity": 0}], "quantity": 3}') \g /dev/null
SELECT public.run('2026-05-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT quantity, amount FROM public.line WHERE slug = 'crew' AND period_start = '2026-05-01 00:00+00'$$, 'VALUES (3::numeric, 30.00)', 'fewer seats and no add-on from the next period on');
SELECT is((SELECT sum(amount) FROM public.line WHERE slug = 'crew' AND kind = 'credit'), -25.00, 'and nothing credited for what waited');

-- a cancellation at the end is reversible
SET tenancy.test_clock = '2026-05-10 00:00+00';
SELECT results_eq(format($$SELECT state, ends_at, cancel_reason FROM subscription_cancel(%L, 'too dear')$$, :'crew'), $$VALUES ('cancelled', '2026-06-01 00:00+00'::timestamptz, 'too dear')$$, 'cancelled at the end of the period');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"quantity": 9, "effective": "period_end"}')$$, :'crew'), '22023', 'a change cannot take effect when the subscription has ended', 'nothing changes after the end');
SELECT results_eq(format('SELECT state, ends_at, cancelled_at FROM subscription_reactivate(%L)', :'crew'), $$VALUES ('active', NULL::timestamptz, NULL::timestamptz)$$, 'and taken back');
SELECT throws_ok(format('SELECT subscription_reactivate(%L)', :'crew'), '55000', NULL, 'once');
SELECT throws_ok(format($$SELECT subscription_cancel(%L, at => '2026-04-01 00:00+00')$$, :'crew'), '22023', NULL, 'not at a time that has been billed');
SELECT is((subscription_cancel(:'crew', at => '2026-06-16 00:00+00')).ends_at, '2026-06-16 00:00+00'::timestamptz, 'at a time');
SELECT public.run('2026-07-01 00:00+00') \g /dev/null
-- June to the 16th is 15 of 30 days of 30.00
SELECT is((SELECT sum(amount) FROM public.line WHERE slug = 'crew' AND period_start >= '2026-06-01 00:00+00'), 15.00, 'what is billed ends there');
SELECT throws_ok($$SELECT subscription_cancel(gen_random_uuid())$$, '42704', NULL, 'an unknown one');

-- trials: usage of the trial is billed, or free; the first paid period begins after it, 14 days of April
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
SELECT public.join_('try', 'tryit', '2026-04-01 00:00+00') AS try, public.join_('tryfree', 'tryfree', '2026-04-01 00:00+00') AS tryfree \gset
SELECT results_eq(format('SELECT state, trial_ends_at, anchor FROM tenancy.subscription WHERE id = %L', :'try'), $$VALUES ('trialing', '2026-04-15 00:00+00'::timestamptz, '2026-04-15 00:00+00'::timestamptz)$$, 'a trial has a period of its own');
SET tenancy.test_clock = '2026-04-20 00:00:00+00';
SELECT usage_record('try', 'api_calls', 7, occurred_at => '2026-04-10 00:00+00'), usage_record('tryfree', 'api_calls', 7, occurred_at => '2026-04-10 00:00+00'), usage_record('tryfree', 'api_calls', 5, occurred_at => '2026-04-15 00:00+00') \g /dev/null
SELECT public.run('2026-05-15 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, description, amount, (period_start AT TIME ZONE 'UTC')::date FROM public.line WHERE slug LIKE 'try%' AND amount <> 0 ORDER BY 1, 4, 2 DESC$$,
    $$VALUES ('try', 'Calls', 7.00, '2026-04-01'::date), ('try', 'Trial', 30.00, '2026-04-15'), ('tryfree', 'Free trial', 30.00, '2026-04-15'), ('tryfree', 'Calls', 5.00, '2026-04-15')$$, 'usage of the trial is billed or free, its price never');
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'try'), 'active', 'after it the subscription is active');

-- anchors: of the calendar, explicit, the 31st, February 29; in time zones across changes of the clock
SET tenancy.test_clock = '2026-01-10 00:00:00+00';
SELECT public.join_('calendar', 'a30', '2026-01-11 00:00+00', 'UTC', 1, '{"anchor": "calendar"}') \g /dev/null
SELECT public.run('2026-02-01 00:00+00') \g /dev/null
SELECT is((SELECT amount FROM public.line WHERE slug = 'calendar' AND description = 'Arrears'), round(30 * 21 / 31.0, 2), 'the first period is cut short: 21 of 31 days of 30.00');
SELECT public.join_('day31', 'a30', '2026-01-31 00:00+00') AS day31, public.join_('feb29', 'y299', '2024-02-29 00:00+00') AS feb29 \gset
SELECT public.run('2026-05-31 00:00+00') \g /dev/null
SELECT results_eq($$SELECT (period_end AT TIME ZONE 'UTC')::date FROM public.line WHERE slug = 'day31' AND description = 'Arrears' ORDER BY 1$$, $$VALUES ('2026-02-28'::date), ('2026-03-31'), ('2026-04-30'), ('2026-05-31')$$, 'stripe-anchor-31: the 31st is the last day of shorter months');
SELECT results_eq($$SELECT (period_start AT TIME ZONE 'UTC')::date, amount FROM public.line WHERE slug = 'feb29' ORDER BY 1$$, $$VALUES ('2024-02-29'::date, 299.00), ('2025-02-28', 299.00), ('2026-02-28', 299.00)$$, 'lago-anchor-feb29: and February 29 the 28th; a start in the past is caught up');
SET tenancy.test_clock = '2026-03-01 00:00:00+00';
SELECT public.join_('york', 'a30', '2026-03-01 00:00 America/New_York', 'America/New_York'), public.join_('berlin', 'a30', '2026-03-01 00:00 Europe/Berlin', 'Europe/Berlin') \g /dev/null
SELECT public.run('2026-05-01 12:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, period_start, period_end, amount FROM public.line WHERE slug IN ('york', 'berlin') AND description = 'Arrears' ORDER BY 1 DESC, 2$$,
    $$VALUES ('york', '2026-03-01 05:00+00'::timestamptz, '2026-04-01 04:00+00'::timestamptz, 30.00), ('york', '2026-04-01 04:00+00', '2026-05-01 04:00+00', 30.00),
             ('berlin', '2026-02-28 23:00+00', '2026-03-31 22:00+00', 30.00), ('berlin', '2026-03-31 22:00+00', '2026-04-30 22:00+00', 30.00)$$, 'midnight is midnight there, and a month with an hour less costs as much');

-- a start that is to come
SET tenancy.test_clock = '2026-06-01 00:00:00+00';
SELECT public.join_('soon', 's29', '2026-06-10 00:00+00') AS soon, public.join_('nope', 's29', '2026-06-10 00:00+00') AS nope \gset
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'soon'), 'pending', 'it is pending');
SELECT is((subscription_cancel(:'nope', at_period_end => false)).state, 'ended', 'what has not begun ends without a bill');
SELECT public.run('2026-06-09 00:00+00') \g /dev/null
SELECT is_empty($$SELECT * FROM public.line WHERE slug IN ('soon', 'nope')$$, 'nothing is billed before');
SELECT public.run('2026-06-10 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, amount FROM public.line WHERE slug IN ('soon', 'nope')$$, $$VALUES ('soon', 29.00)$$, 'then it is');
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'soon'), 'active', 'and active');

-- pauses: of the service, from the 11th to the 21st of September: 20 of 30 days are used
SET tenancy.test_clock = '2026-09-01 00:00:00+00';
SELECT public.join_('p' || m, 'a30', '2026-09-01 00:00+00') FROM unnest('{service,draft,void,uncollectible}'::text[]) m \g /dev/null
SET tenancy.test_clock = '2026-09-11 00:00:00+00';
SELECT results_eq($$SELECT p.state, p.pause_mode, p.resumes_at FROM tenancy.subscription s, subscription_pause(s.id, 'service', '2026-09-21 00:00+00', 'holidays') p WHERE s.tenant_id = 'pservice'::regtenant$$, $$VALUES ('paused', 'service', '2026-09-21 00:00+00'::timestamptz)$$, 'paused for a while');
SELECT subscription_pause(s.id, substr(t.slug, 2)) FROM tenancy.subscription s JOIN tenancy.tenant t ON t.id = s.tenant_id WHERE t.slug IN ('pdraft', 'pvoid', 'puncollectible') \g /dev/null
SELECT id AS paused FROM tenancy.subscription WHERE tenant_id = 'pdraft'::regtenant \gset
SELECT throws_ok(format($$SELECT subscription_pause(%L)$$, :'paused'), '55000', NULL, 'once');
SELECT throws_ok(format($$SELECT subscription_pause(%L, 'sleep')$$, :'paused'), '22023', NULL, 'in another mode');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"quantity": 2}')$$, :'paused'), '55000', NULL, 'what is paused does not change');
SELECT throws_ok($$SELECT subscription_pause(gen_random_uuid())$$, '42704', NULL, 'an unknown one');
SELECT public.run('2026-10-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT t.slug, i.state, i.total FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id WHERE t.slug IN ('pdraft', 'pvoid', 'puncollectible', 'pservice') AND i.period_start < '2026-10-01 00:00+00' ORDER BY 1$$,
    $$VALUES ('pdraft', 'draft', 30.00), ('pservice', 'open', 20.00), ('puncollectible', 'uncollectible', 30.00), ('pvoid', 'void', 30.00)$$, 'the service is not billed while it rests; other pauses say what becomes of invoices');
SELECT is((SELECT state FROM tenancy.subscription WHERE tenant_id = 'pservice'::regtenant), 'active', 'it resumes by itself');
SELECT is((subscription_resume(:'paused')).state, 'active', 'or when it is told to');
SELECT throws_ok(format('SELECT subscription_resume(%L)', :'paused'), '55000', NULL, 'once');

-- versions of prices: who has one keeps it until told to take the latest
SET tenancy.test_clock = '2026-10-01 00:00:00+00';
SELECT public.join_('price', 's29', '2026-10-01 00:00+00') AS price \gset
SELECT version FROM plan_price_change('s29', '{"type": "fixed", "base_price": 39, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}', '2026-10-15 00:00+00') \g /dev/null
SELECT public.run('2026-11-01 00:00+00') \g /dev/null
SELECT is((SELECT DISTINCT amount FROM public.line WHERE slug = 'price'), 29.00, 'who has subscribed keeps the price');
SELECT is((subscription_update(:'price', '{"latest_price": true, "effective": "period_end"}')).price_version, 1, 'the latest is taken at the end of the period');
SELECT public.run('2026-12-01 00:00+00') \g /dev/null
SELECT is((SELECT amount FROM public.line WHERE slug = 'price' AND period_start = '2026-12-01 00:00+00'), 39.00, 'from then on');
-- another billing period begins at once, with an anchor of its own: 39 for December, left on the 11th after 10 of 31 days: -26.42
SET tenancy.test_clock = '2026-12-11 00:00:00+00';
SELECT id FROM subscription_update(:'price', '{"plan": "y299", "effective": "now", "invoice": "now"}') \g /dev/null
SELECT public.run('2026-12-11 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, amount, (period_start AT TIME ZONE 'UTC')::date, (period_end AT TIME ZONE 'UTC')::date FROM public.line WHERE slug = 'price' AND period_start = '2026-12-11 00:00+00' ORDER BY amount$$,
    $$VALUES ('credit', round(39 * 10 / 31.0, 2) - 39, '2026-12-11'::date, '2027-01-01'::date), ('advance', 299.00, '2026-12-11', '2027-12-11')$$, 'a year begins, and the month is credited');
SELECT results_eq(format('SELECT billing_period, anchor, period_end FROM tenancy.subscription WHERE id = %L', :'price'), $$VALUES ('yearly', '2026-12-11 00:00+00'::timestamptz, '2027-12-11 00:00+00'::timestamptz)$$, 'on an anchor of its own');

-- faults of creating one
SELECT slug FROM tenant_create('plain', isolation => 'pool') \g /dev/null
SELECT throws_ok($$SELECT subscription_create('plain', 'nothing')$$, '42704', NULL, 'an unknown plan');
SELECT throws_ok($$SELECT subscription_create('nobody', 's29')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT subscription_create('plain', 'extra')$$, '55000', NULL, 'an add-on alone');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', time_zone => 'Mars/Base')$$, '22023', NULL, 'an unknown time zone');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', quantity => -1)$$, '22023', NULL, 'less than no seats');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', currency => 'JPY')$$, '55000', NULL, 'a currency that it has not');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', options => '{"colour": 1}')$$, '22023', NULL, 'an unknown option');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', options => '{"coupon": "NOTHING"}')$$, '42704', NULL, 'an unknown coupon');
SELECT throws_ok($$SELECT subscription_create('plain', 's29', options => '{"anchor": "infinity"}')$$, '22008', NULL, 'an anchor at no time');
SELECT throws_ok($$SELECT subscription_create('plain', NULL)$$, '22004', NULL, 'no plan');
SELECT is((SELECT count(*) FROM tenancy.subscription WHERE tenant_id = 'plain'::regtenant), 0::bigint, 'leave nothing');

-- no period is billed twice, and none skipped
SELECT is_empty($$SELECT subscription_id, period_start FROM (SELECT i.subscription_id, i.period_start, lag(i.period_end) OVER (PARTITION BY i.subscription_id ORDER BY i.period_start) AS before FROM tenancy.invoice i WHERE i.purpose = 'cycle') p WHERE before <> period_start$$, 'periods follow each other');
SELECT is_empty($$SELECT transaction_id FROM tenancy.ledger_entry GROUP BY 1 HAVING sum(amount) <> 0$$, 'and the ledger is in balance');

-- who may
BEGIN;
SELECT tenant_context_set('up') \g /dev/null
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.subscription), 1::bigint, 'a tenant sees its own subscription');
SELECT isnt_empty(format('SELECT * FROM subscription_history(%L)', :'up'), 'and what it consists of');
SELECT is_empty(format('SELECT * FROM subscription_history(%L)', :'crew'), 'and not that of others');
SELECT throws_ok(format($$SELECT subscription_update(%L, '{"quantity": 9}')$$, :'up'), '42501', NULL, 'it changes nothing');
SELECT throws_ok(format('SELECT subscription_cancel(%L)', :'up'), '42501', NULL, 'nor ends it');
SELECT throws_ok(format('SELECT subscription_pause(%L)', :'up'), '42501', NULL, 'nor pauses it');
SELECT throws_ok($$SELECT subscription_create('up', 's29')$$, '42501', NULL, 'nor begins another');
COMMIT;
SELECT * FROM finish();
