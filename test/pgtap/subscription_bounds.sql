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
-- what cannot be meant is refused, by its name
SELECT tenant_create('v', isolation => 'pool') \g /dev/null
SELECT throws_ok(format($$SELECT subscription_create('v', 'bare', '2026-05-01', %L)$$, z), '22023', format('time zone "%s" is not the name of a zone', z), 'the zone ' || z) FROM unnest('{+02:00,EST5,Europe5,<+02>-2}'::text[]) z;
SELECT throws_ok($$SELECT subscription_create('v', 'bare', '2026-05-01', 'Mars/Olympus')$$, '22023', 'time zone "Mars/Olympus" not recognized', 'a zone that there is not');
SELECT is((SELECT time_zone FROM subscription_create('v', 'bare', '2026-05-01', 'EST5EDT')), 'EST5EDT', 'a name may have a digit');
SELECT throws_ok($$SELECT coupon_create('c', '{"kind": "fixed", "value": 5.005, "currency": "USD"}')$$, '22023', 'invalid coupon: "value" must have at most 2 decimals, which is what USD has', 'a coupon of half a cent');
SELECT throws_ok($$SELECT coupon_create('c', '{"kind": "fixed", "value": 5.5, "currency": "JPY"}')$$, '22023', 'invalid coupon: "value" must have at most 0 decimals, which is what JPY has', 'or of half a yen');
SELECT throws_ok($$SELECT coupon_create('c', '{"kind": "fixed", "value": 5, "currency": "yen"}')$$, '22023', NULL, 'or of no currency');
SELECT is((SELECT value FROM coupon_create('c', '{"kind": "fixed", "value": 5.005, "currency": "BHD"}')), 5.005, 'a dinar has three decimals');
SELECT is((SELECT value FROM coupon_create('d', '{"kind": "percent", "value": 33.333}')), 33.333, 'a percentage as many as it likes');
SELECT throws_ok($$SELECT coupon_create('e', '{"kind": "percent", "value": 5, "valid_from": "2030-01-01", "valid_until": "2030-01-01"}')$$, '22023', 'invalid coupon: "valid_until" must be later than "valid_from"', 'a coupon that is never valid');
SELECT throws_ok($$SELECT coupon_create('e', '{"kind": "percent", "value": 5, "valid_from": "never"}')$$, '22007', NULL, 'no time');
SELECT is((SELECT valid_until FROM coupon_create('e', '{"kind": "percent", "value": 5, "valid_from": "-infinity", "valid_until": "infinity"}')), 'infinity', 'always');
SELECT throws_ok(format('SELECT tax_rate_create(%L, %s)', 'x', p), '22023', 'argument "percentage" must be at least 0 and less than 1000', 'a tax of ' || p) FROM unnest('{-1,1000}'::numeric[]) p;
SELECT throws_ok($$SELECT legal_entity_set('other', '{"name": "Other", "invoice_series": "INV"}')$$, '23505', 'series "INV" is one of legal entity "default"', 'a series that is taken');
SELECT throws_ok($$SELECT legal_entity_set('other', '{"name": "Other", "credit_note_series": "INV"}')$$, '23505', NULL, 'for whatever it is taken');
SELECT throws_ok($$SELECT billing_account_set('v', '{"dunning_policy": "none"}')$$, '42704', 'dunning policy "none" does not exist', 'an unknown policy');
SELECT * FROM finish();
