-- Options of subscriptions: an anchor at a time, a coupon, a first payment; pauses that end by themselves.  Amounts by hand.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT plan_create('a31', 'Arrears', 'custom', '{"type": "custom", "base_price": 31, "currency": "USD", "billing_period": "monthly"}'),
       plan_create('ten', 'Advance', 'custom', '{"type": "custom", "base_price": 10, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}') \g /dev/null
SELECT coupon_create('half', '{"kind": "percent", "value": 50, "duration": "once"}') \g /dev/null
CREATE FUNCTION public.join_(who text, plan text, starts timestamptz, options jsonb) RETURNS uuid LANGUAGE sql AS $$
    SELECT tenant_create(who, isolation => 'pool');
    SELECT (subscription_create(who, plan, starts, options => options)).id $$;
CREATE VIEW public.bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;

-- an anchor at a time
SET tenancy.test_clock = '2026-01-11 00:00:00+00';
SELECT public.join_('timed', 'a31', '2026-01-11 00:00+00', '{"anchor": "2026-01-15 00:00+00"}') AS timed \gset
SELECT results_eq(format('SELECT anchor, period_start, period_end FROM tenancy.subscription WHERE id = %L', :'timed'), $$VALUES ('2026-01-15 00:00+00'::timestamptz, '2026-01-11 00:00+00'::timestamptz, '2026-01-15 00:00+00'::timestamptz)$$, 'a first period up to the anchor');
SELECT public.join_('before', 'a31', '2026-01-11 00:00+00', '{"anchor": "2025-12-31 00:00+00"}') AS before \gset
SELECT count(*) FROM billing_run('2026-03-31 00:00+00') \g /dev/null
SELECT results_eq($$SELECT (period_start AT TIME ZONE 'UTC')::date, total FROM public.bill WHERE slug = 'timed' ORDER BY 1$$, $$VALUES ('2026-01-11'::date, 4.00), ('2026-01-15', 31.00), ('2026-02-15', 31.00)$$, '31 × 4 ÷ 31 days from December 15 on, then whole months');
SELECT results_eq($$SELECT (period_start AT TIME ZONE 'UTC')::date, (period_end AT TIME ZONE 'UTC')::date, total FROM public.bill WHERE slug = 'before' ORDER BY 1$$,
    $$VALUES ('2026-01-11'::date, '2026-01-31'::date, 20.00), ('2026-01-31', '2026-02-28', 31.00), ('2026-02-28', '2026-03-31', 31.00)$$, 'one before the start is kept to: 20 of the 31 days from December 31 on');

-- a coupon from the start
SELECT public.join_('thrifty', 'a31', '2026-01-11 00:00+00', '{"coupon": "half"}') \g /dev/null
SELECT count(*) FROM billing_run('2026-03-31 00:00+00') \g /dev/null
SELECT results_eq($$SELECT subtotal, discount, total FROM public.bill WHERE slug = 'thrifty' ORDER BY period_start$$, 'VALUES (31.00, 15.50, 15.50), (31.00, 0.00, 31.00)', 'comes off the first invoice');
SELECT throws_ok($$SELECT public.join_('nobody', 'a31', '2026-01-11 00:00+00', '{"coupon": "nothing"}')$$, '42704', NULL, 'an unknown coupon');

-- pauses of invoices that end by themselves: what is billed before says draft, void, uncollectible; after it, open
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
SELECT public.join_('p' || m, 'a31', '2026-04-01 00:00+00', '{}') FROM unnest('{draft,void,uncollectible}'::text[]) m \g /dev/null
SET tenancy.test_clock = '2026-04-20 00:00:00+00';
SELECT subscription_pause(s.id, substr(t.slug, 2), '2026-05-10 00:00+00') FROM tenancy.subscription s JOIN tenancy.tenant t ON t.id = s.tenant_id WHERE t.slug IN ('pdraft', 'pvoid', 'puncollectible') \g /dev/null
SET tenancy.test_clock = '2026-05-01 00:00:00+00';
SELECT count(*) FROM billing_run('2026-05-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, state, total FROM public.bill WHERE slug ~ '^p(draft|void|unc)' ORDER BY 1$$, $$VALUES ('pdraft', 'draft', 31.00), ('puncollectible', 'uncollectible', 31.00), ('pvoid', 'void', 31.00)$$, 'April is billed in the pause');
SET tenancy.test_clock = '2026-05-10 00:00:00+00';
SELECT count(*) FROM billing_run('2026-05-10 00:00+00') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT s.state || coalesce(' ' || s.pause_mode, ''), ', ') FROM tenancy.subscription s JOIN tenancy.tenant t ON t.id = s.tenant_id WHERE t.slug ~ '^p(draft|void|unc)'), 'active', 'its end comes with the run');
SELECT is((invoice_preview('pdraft', '2026-06-01 00:00+00'))->0->>'state', 'open', 'what is previewed');
SET tenancy.test_clock = '2026-06-01 00:00:00+00';
SELECT count(*) FROM billing_run('2026-06-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, state, total FROM public.bill WHERE slug ~ '^p(draft|void|unc)' AND period_start = '2026-05-01 00:00+00' ORDER BY 1$$, $$VALUES ('pdraft', 'open', 31.00), ('puncollectible', 'open', 31.00), ('pvoid', 'open', 31.00)$$, 'is billed: all of May');

-- a first payment is asked for
SET tenancy.test_clock = '2026-07-01 00:00:00+00';
SELECT public.join_('pays', 'ten', '2026-07-01 00:00+00', '{"requires_payment": true}') AS pays \gset
SELECT public.join_('waits', 'ten', '2026-07-01 00:00+00', '{"requires_payment": true}') AS waits \gset
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'pays'), 'incomplete', 'a subscription begins with its first payment');
SELECT count(*) FROM billing_run('2026-07-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, state, total FROM public.bill WHERE slug IN ('pays', 'waits') ORDER BY 1$$, $$VALUES ('pays', 'open', 10.00), ('waits', 'open', 10.00)$$, 'its first invoice is there');
SELECT payment_record('pays', 10, 'wire') \g /dev/null
SELECT results_eq(format('SELECT state, bills_at FROM tenancy.subscription WHERE id = %L', :'pays'), $$VALUES ('active', '2026-08-01 00:00+00'::timestamptz)$$, 'paid, it is active');
SET tenancy.test_clock = '2026-07-01 22:59:59+00';
SELECT count(*) FROM billing_run('2026-07-01 22:59:59+00') \g /dev/null
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'waits'), 'incomplete', 'the other waits for 23 hours');
SET tenancy.test_clock = '2026-07-01 23:00:00+00';
SELECT count(*) FROM billing_run('2026-07-01 23:00+00') \g /dev/null
SELECT results_eq(format('SELECT s.state, b.state, b.state_reason FROM tenancy.subscription s JOIN public.bill b ON b.subscription_id = s.id WHERE s.id = %L', :'waits'), $$VALUES ('ended', 'void', 'not paid in time')$$, 'and ends, its invoice void');
SELECT count(*) FROM billing_run('2026-09-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, count(*) FROM public.bill WHERE slug IN ('pays', 'waits') GROUP BY 1 ORDER BY 1$$, $$VALUES ('pays', 3::bigint), ('waits', 1)$$, 'only the first goes on');
SELECT * FROM finish();
