-- Coupons on real invoices.  Amounts are computed by hand, beside each.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-03-01 00:00:00+00';
SELECT count(tenant_create(t, isolation => 'pool')) FROM unnest('{once,fixed,many,ever,scoped,stack,money,back,late}'::text[]) t \g /dev/null
SELECT id FROM plan_create('base', 'Base', 'custom', '{"type": "custom", "base_price": 100, "currency": "USD", "billing_period": "monthly", "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}]}') \g /dev/null
SELECT id FROM plan_create('extra', 'Extra', 'custom', '{"type": "fixed", "base_price": 50, "currency": "USD", "billing_period": "monthly"}', kind => 'addon') \g /dev/null

-- making them
SELECT results_eq($$SELECT code, name, kind, value, currency, duration, duration_periods, plans, metrics, max_redemptions, redemptions FROM coupon_create('TEN', '{"kind": "percent", "value": 10}')$$,
    $$VALUES ('TEN', 'TEN', 'percent', 10::numeric, NULL::text, 'once', NULL::integer, NULL::text[], NULL::text[], NULL::integer, 0)$$, 'a coupon for one invoice');
SELECT results_eq($$SELECT name, kind, currency, duration, duration_periods, plans, metrics, valid_from, valid_until, max_redemptions FROM coupon_create('ALL', '{"kind": "fixed", "value": 5, "currency": "USD", "name": "All of it", "duration": "repeating", "duration_periods": 3, "plans": ["base"], "metrics": ["api_calls"], "valid_from": "2026-01-01 00:00+00", "valid_until": "2026-12-31 00:00+00", "max_redemptions": 2}')$$,
    $$VALUES ('All of it', 'fixed', 'USD', 'repeating', 3, '{base}'::text[], '{api_calls}'::text[], '2026-01-01 00:00+00'::timestamptz, '2026-12-31 00:00+00'::timestamptz, 2)$$, 'every member');
SELECT throws_ok($$SELECT coupon_create('TEN', '{"kind": "percent", "value": 10}')$$, '23505', NULL, 'one that is there');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 101}')$$, '22023', NULL, 'more than all');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 0}')$$, '22023', NULL, 'nothing');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "currency": "USD"}')$$, '22023', NULL, 'a percentage in dollars');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "fixed", "value": 5}')$$, '22023', NULL, 'five of what');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "fixed", "value": 5, "currency": "QQQ"}')$$, '22023', NULL, 'an unknown currency');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "gift", "value": 5}')$$, '22023', NULL, 'another kind');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent"}')$$, '22023', 'invalid coupon: "value" is missing', 'no value');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "duration": "repeating"}')$$, '22023', NULL, 'repeating, how often');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "duration_periods": 2}')$$, '22023', NULL, 'once, twice');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "plans": ["nothing"]}')$$, '42704', NULL, 'an unknown plan');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "metrics": ["nothing"]}')$$, '42704', NULL, 'an unknown metric');
SELECT throws_ok($$SELECT coupon_create('X', '{"kind": "percent", "value": 5, "colour": 1}')$$, '22023', NULL, 'an unknown member');
SELECT throws_ok($$SELECT coupon_create('', '{"kind": "percent", "value": 5}')$$, '22023', NULL, 'no code');
SELECT throws_ok($$SELECT coupon_create(NULL, '{"kind": "percent", "value": 5}')$$, '22004', NULL, 'null');
SELECT throws_ok($$SELECT coupon_create('X', NULL)$$, '22004', NULL, 'nothing at all');

-- giving and taking them
SELECT results_eq($$SELECT coupon, state, periods_left, amount_left, applied_at FROM coupon_apply('once', 'TEN')$$, $$VALUES ('TEN', 'active', 1, NULL::numeric, '2026-03-01 00:00+00'::timestamptz)$$, 'given');
SELECT throws_ok($$SELECT coupon_apply('once', 'TEN')$$, '23505', NULL, 'once at a time');
SELECT throws_ok($$SELECT coupon_apply('once', 'NOTHING')$$, '42704', NULL, 'an unknown one');
SELECT throws_ok($$SELECT coupon_apply('nobody', 'TEN')$$, '42704', NULL, 'to nobody');
SELECT throws_ok($$SELECT coupon_apply(NULL, 'TEN')$$, '22004', NULL, 'to null');
SELECT coupon_apply('ever', 'ALL'), coupon_apply('many', 'ALL') \g /dev/null
SELECT throws_ok($$SELECT coupon_apply('once', 'ALL')$$, '53400', NULL, 'given as often as it may');
SELECT coupon_create('SOON', '{"kind": "percent", "value": 10, "valid_from": "2026-04-01 00:00+00"}'), coupon_create('GONE', '{"kind": "percent", "value": 10, "valid_until": "2026-03-01 00:00+00"}') \g /dev/null
SELECT throws_ok($$SELECT coupon_apply('once', 'SOON')$$, '55000', NULL, 'too early');
SELECT throws_ok($$SELECT coupon_apply('once', 'GONE')$$, '55000', NULL, 'too late: until is not within');
SELECT results_eq($$SELECT state FROM coupon_revoke('ever', 'ALL')$$, $$VALUES ('revoked')$$, 'taken');
SELECT throws_ok($$SELECT coupon_revoke('ever', 'ALL')$$, '42704', NULL, 'once');
SELECT throws_ok($$SELECT coupon_revoke('ever', NULL)$$, '22004', NULL, 'none');
SELECT state FROM coupon_revoke('many', 'ALL') \g /dev/null

-- durations
CREATE FUNCTION public.bill(who text, prices numeric[], currency text DEFAULT 'USD') RETURNS uuid LANGUAGE sql AS $$
    SELECT invoice_item_add(who, 'Line ' || n, p, currency) FROM unnest(prices) WITH ORDINALITY u(p, n);
    SELECT (invoice_finalize((invoice_generate(who)).id)).id $$;
CREATE VIEW public.bills AS SELECT t.slug, i.number, i.discount, i.total FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
SELECT public.bill('once', '{0}'), public.bill('once', '{50,50}'), public.bill('once', '{100}') \g /dev/null
SELECT results_eq($$SELECT discount FROM public.bills WHERE slug = 'once' ORDER BY number$$, 'VALUES (0.00), (10.00), (0.00)', 'once: on the first invoice that it can reduce');
SELECT results_eq($$SELECT state, periods_left FROM tenancy.coupon_redemption WHERE tenant_id = 'once'::regtenant$$, $$VALUES ('used_up', 0)$$, 'then it is used up');
SELECT is((coupon_apply('once', 'TEN')).state, 'active', 'and can be given again');
-- 150 off, once: 100, then the 50 that are left
SELECT coupon_create('BIG', '{"kind": "fixed", "value": 150, "currency": "USD"}') \g /dev/null
SELECT amount_left FROM coupon_apply('fixed', 'BIG') \g /dev/null
SELECT public.bill('fixed', '{100}'), public.bill('fixed', '{1000}', 'JPY'), public.bill('fixed', '{30}'), public.bill('fixed', '{30}') \g /dev/null
SELECT results_eq($$SELECT discount, total FROM public.bills WHERE slug = 'fixed' ORDER BY number$$, 'VALUES (100.00, 0.00), (0, 1000), (30.00, 0.00), (20.00, 10.00)', 'a fixed amount carries forward what it could not take, in its currency');
SELECT results_eq($$SELECT state, amount_left FROM tenancy.coupon_redemption WHERE tenant_id = 'fixed'::regtenant$$, $$VALUES ('used_up', 0.00)$$, 'until nothing is left');
-- 70 off two invoices: what it could not take of one is lost
SELECT coupon_create('TWICE', '{"kind": "fixed", "value": 70, "currency": "USD", "duration": "repeating", "duration_periods": 2}'), coupon_apply('many', 'TWICE') \g /dev/null
SELECT public.bill('many', '{50}'), public.bill('many', '{100}'), public.bill('many', '{100}') \g /dev/null
SELECT results_eq($$SELECT discount FROM public.bills WHERE slug = 'many' ORDER BY number$$, 'VALUES (50.00), (70.00), (0.00)', 'repeating: so many invoices');
SELECT coupon_create('EVER', '{"kind": "percent", "value": 12.5, "duration": "forever"}'), coupon_apply('ever', 'EVER') \g /dev/null
SELECT public.bill('ever', '{0.04}'), public.bill('ever', '{0.05,-0.03}'), public.bill('ever', '{33.33,33.33,33.34}') \g /dev/null
-- 12.5 % of 0.04 is 0.005, of 0.05 is 0.00625, of 100.00 is 12.50
SELECT results_eq($$SELECT discount FROM public.bills WHERE slug = 'ever' ORDER BY number$$, 'VALUES (0.01), (0.01), (12.50)', 'forever, rounded once; what is given back is not discounted');
SELECT is((SELECT sum(l.discount) FROM tenancy.invoice_line l JOIN tenancy.tenant t ON t.id = l.tenant_id WHERE t.slug = 'ever' AND l.amount > 30), 12.50, 'the lines have all of it');

-- scopes: calls of 40, base of 100, an add-on of 50
SELECT coupon_create('M50', '{"kind": "percent", "value": 50, "metrics": ["api_calls"], "duration": "forever"}'), coupon_create('P10', '{"kind": "percent", "value": 10, "plans": ["base"], "duration": "forever"}'),
       coupon_create('A20', '{"kind": "fixed", "value": 20, "currency": "USD", "plans": ["extra"], "duration": "forever"}') \g /dev/null
SELECT coupon_apply('scoped', 'P10'), coupon_apply('scoped', 'A20'), coupon_apply('scoped', 'M50') \g /dev/null
SELECT subscription_create('scoped', 'base', '2026-02-01 00:00+00', options => '{"addons": [{"plan": "extra"}]}'), usage_record('scoped', 'api_calls', 40, occurred_at => '2026-02-10 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT l.description, l.amount, l.discount FROM tenancy.invoice_line l WHERE l.tenant_id = 'scoped'::regtenant ORDER BY l.amount$$,
    $$VALUES ('Calls', 40.00, 20.00 + 2.00), ('Extra', 50.00, 20.00), ('Base', 100.00, 10.00)$$, 'on metrics, on plans; 50 % of 40, then 10 % of the 20 and 100 that are left');
SELECT results_eq($$SELECT coupon, amount FROM tenancy.invoice_discount WHERE tenant_id = 'scoped'::regtenant ORDER BY coupon$$, $$VALUES ('A20', 20.00), ('M50', 20.00), ('P10', 12.00)$$, 'what each took');

-- several: fx-chain and meteroid-coupon-mixed of the golden cases
SELECT coupon_create('TEN2', '{"kind": "percent", "value": 10, "duration": "forever"}'), coupon_create('FIVE', '{"kind": "fixed", "value": 5, "currency": "USD", "duration": "forever"}') \g /dev/null
SELECT coupon_apply('stack', 'FIVE'), coupon_apply('stack', 'TEN2'), coupon_apply('stack', 'TEN') \g /dev/null
SELECT public.bill('stack', '{100}') \g /dev/null
SELECT results_eq($$SELECT discount, total FROM public.bills WHERE slug = 'stack'$$, 'VALUES (24.00, 76.00)', 'percentages first, each of what is left: 10, 9, then 5');

-- a coupon in another currency waits; a void invoice gives back
SELECT coupon_create('YEN', '{"kind": "fixed", "value": 300, "currency": "JPY"}'), coupon_apply('money', 'YEN') \g /dev/null
SELECT public.bill('money', '{100}') \g /dev/null
SELECT results_eq($$SELECT state, amount_left FROM tenancy.coupon_redemption WHERE tenant_id = 'money'::regtenant$$, $$VALUES ('active', 300::numeric)$$, 'yen take nothing off dollars');
SELECT coupon_create('BACK', '{"kind": "percent", "value": 10, "duration": "repeating", "duration_periods": 1}'), coupon_create('BACKF', '{"kind": "fixed", "value": 30, "currency": "USD"}') \g /dev/null
SELECT coupon_apply('back', 'BACK'), coupon_apply('back', 'BACKF') \g /dev/null
SELECT public.bill('back', '{100}') AS back \gset
SELECT results_eq($$SELECT coupon, state, periods_left, amount_left FROM tenancy.coupon_redemption WHERE tenant_id = 'back'::regtenant ORDER BY 1$$, $$VALUES ('BACK', 'used_up', 0, NULL::numeric), ('BACKF', 'used_up', 0, 0.00)$$, 'both are used up');
SELECT state FROM invoice_void(:'back', 'mistake') \g /dev/null
SELECT results_eq($$SELECT coupon, state, periods_left, amount_left FROM tenancy.coupon_redemption WHERE tenant_id = 'back'::regtenant ORDER BY 1$$, $$VALUES ('BACK', 'active', 1, NULL::numeric), ('BACKF', 'active', 1, 30.00)$$, 'a void invoice gives both back');
SELECT invoice_finalize((invoice_generate('back')).id) \g /dev/null
SELECT results_eq($$SELECT discount, total FROM public.bills WHERE slug = 'back' ORDER BY number$$, 'VALUES (40.00, 60.00), (40.00, 60.00)', 'so that the next has the same: 10 % of 100, and 30');
-- a coupon that was taken comes off no more
SELECT coupon_apply('late', 'EVER'), public.bill('late', '{100}'), coupon_revoke('late', 'EVER') \g /dev/null
SELECT public.bill('late', '{100}') \g /dev/null
SELECT results_eq($$SELECT discount FROM public.bills WHERE slug = 'late' ORDER BY number$$, 'VALUES (12.50), (0.00)', 'what was taken comes off no more');

-- who may
BEGIN;
SELECT tenant_context_set('stack') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.coupon_redemption), 3::bigint, 'a tenant sees what it has');
SELECT throws_ok($$SELECT coupon_apply('stack', 'YEN')$$, '42501', NULL, 'and takes nothing');
SELECT throws_ok($$SELECT coupon_create('Z', '{}')$$, '42501', NULL, 'nor makes any');
SELECT throws_ok($$SELECT coupon_revoke('stack', 'FIVE')$$, '42501', NULL, 'nor gives back');
SELECT throws_ok('SELECT * FROM tenancy.coupon', '42501', NULL, 'nor looks for codes');
COMMIT;
SELECT * FROM finish();
