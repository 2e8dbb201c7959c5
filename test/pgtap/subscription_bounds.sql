-- Where subscriptions begin and meet: add-ons from the start, trials with minimums and pauses, one after the other.
SELECT * FROM no_plan();
SELECT count(*) FROM schedule_set('billing.run', enabled => false) \g /dev/null
CREATE VIEW bill AS SELECT t.slug, i.state, l.* FROM tenancy.invoice i JOIN tenancy.invoice_line l ON l.invoice_id = i.id JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.sub(of text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM tenancy.subscription WHERE tenant_id = of::regtenant ORDER BY starts_at DESC, id DESC LIMIT 1';
SET tenancy.test_clock = '2026-01-01 00:00+00';
SELECT plan_create('bare', 'Bare', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "base_price": 10}'),
       plan_create('extra', 'Extra', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "base_price": 7, "base_timing": "advance", "setup_fee": 3}', kind => 'addon'),
       plan_create('tried', 'Tried', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "trial_days": 10, "base_price": 31, "minimum": 100, "charges": [{"id": "c", "name": "C", "model": "per_unit", "metric": "api_calls", "unit_price": 1, "minimum": 20}]}') \g /dev/null

-- an add-on that is paid in advance, to a plan that is not
SELECT tenant_create('a', isolation => 'pool') \g /dev/null
SELECT is((SELECT has_advance FROM subscription_create('a', 'bare', '2026-01-01 00:00+00', options => '{"addons": [{"plan": "extra"}]}')), true, 'an add-on from the start');
SELECT count(*) FROM billing_run('2026-01-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, amount, period_start, period_end FROM bill WHERE slug = 'a' ORDER BY kind$$,
    $$VALUES ('advance', 7.00, '2026-01-01 00:00+00'::timestamptz, '2026-02-01 00:00+00'::timestamptz), ('one_off', 3.00, '2026-01-01 00:00+00', '2026-01-01 00:00+00')$$, 'is billed at the start, with its setup fee');
SELECT count(*) FROM billing_run('2026-02-01 00:00+00') \g /dev/null
SELECT is((SELECT sum(amount) FROM bill WHERE slug = 'a'), 27.00, 'and again for February, with January of the plan: 7 + 3 + 10 + 7');

-- a trial of 10 days: what was used, and no minimum
SET tenancy.test_clock = '2026-04-01 00:00+00';
SELECT tenant_create('t', isolation => 'pool') \g /dev/null
SELECT subscription_create('t', 'tried', '2026-04-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-05 00:00+00';
SELECT usage_record('t', 'api_calls', 4, 't1', '2026-04-04 00:00+00') \g /dev/null
SELECT is((subscription_pause(sub('t'), 'service')).state, 'paused', 'a pause');
SELECT is((subscription_resume(sub('t'))).state, 'trialing', 'within a trial ends in the trial');
SET tenancy.test_clock = '2026-04-11 00:00+00';
SELECT count(*) FROM billing_run('2026-04-11 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, amount FROM bill WHERE slug = 't'$$, $$VALUES ('usage', 4.00)$$, 'only usage is billed of a trial');
SELECT is((SELECT state FROM tenancy.subscription WHERE id = sub('t')), 'active', 'which is over then');
SELECT usage_record('t', 'api_calls', 1, 't2', '2026-04-04 12:00+00') \g /dev/null
SELECT is((subscription_pause(sub('t'), 'service')).state || (subscription_resume(sub('t'))).state, 'pausedactive', 'after it a pause ends in it no more');
SET tenancy.test_clock = '2026-05-11 00:00+00';
SELECT count(*) FROM billing_run('2026-05-11 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, charge, amount FROM bill WHERE slug = 't' AND invoice_id = (SELECT max(invoice_id::text)::uuid FROM bill WHERE slug = 't') ORDER BY amount$$,
    $$VALUES ('late', 'c', 1.00), ('minimum', 'c', 20.00), ('recurring', 'base', 31.00), ('minimum', NULL, 49.00)$$, 'nor of what comes late for it; then both minimums hold: 20 and 100');

-- one after the other
SELECT subscription_cancel(sub('t'), 'enough', false) \g /dev/null
SELECT throws_ok($$SELECT subscription_create('t', 'tried', '2026-05-11 00:00+00')$$, '23505', NULL, 'one that has not ended is in the way');
SELECT count(*) FROM billing_run('2026-05-11 00:00+00') \g /dev/null
SELECT throws_like($$SELECT subscription_create('t', 'bare', '2026-05-10 23:59:59+00')$$, '%cannot begin before the end of another of its family%', 'none begins in what has been billed');
SELECT throws_ok($$SELECT subscription_create('t', 'bare', '2026-05-10 23:59:59+00')$$, '22023', NULL, 'as says its code');
SELECT is((SELECT state FROM subscription_create('t', 'bare', '2026-05-11 00:00+00')), 'active', 'the next one begins where the last one ended');
SELECT tenant_create('u', isolation => 'pool') \g /dev/null
SELECT is((SELECT state FROM subscription_create('u', 'bare', '2026-05-01 00:00+00')), 'active', 'another tenant is free to');
SELECT * FROM finish();
