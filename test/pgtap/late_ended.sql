-- Usage that comes after the last invoice of a subscription that has ended is billed for its period, once.
-- Amounts by hand: 10 free, up to 50 at 0.25 and a fee of 1, then 0.125.
SELECT * FROM no_plan();
SET timezone = 'UTC';
SELECT count(*) FROM schedule_set('billing.run', enabled => false) \g /dev/null
SELECT count(*) FROM plan_create('tiers', 'Tiers', 'custom', '{"type": "custom", "base_price": 5, "base_timing": "advance", "currency": "USD", "billing_period": "monthly",
    "charges": [{"id": "calls", "name": "Calls", "model": "graduated", "metric": "api_calls", "unit": "call", "tiers": [{"up_to": 10}, {"up_to": 50, "unit_price": 0.25, "flat_fee": 1}, {"unit_price": 0.125}]}]}') \g /dev/null
CREATE FUNCTION public.tiers(n numeric) RETURNS numeric LANGUAGE sql AS
    'SELECT round(CASE WHEN n > 10 THEN 1 ELSE 0 END + 0.25 * greatest(0, least(n, 50) - 10) + 0.125 * greatest(0, n - 50), 2)';
CREATE VIEW bill AS SELECT i.number, i.purpose, i.subscription_id AS subscription, l.* FROM tenancy.invoice i JOIN tenancy.invoice_line l ON l.invoice_id = i.id;
CREATE FUNCTION public.sub(slug text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM tenancy.subscription WHERE tenant_id = slug::regtenant ORDER BY starts_at DESC, id DESC LIMIT 1';
SET tenancy.test_clock = '2026-01-01 00:00+00';
SELECT slug FROM tenant_create('gone', plan => 'tiers', starts_at => '2026-01-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-01-20 00:00+00';
SELECT usage_record('gone', 'api_calls', 40, 'e1', '2026-01-20 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-02-01 02:00+00';
SELECT count(*) FROM billing_run('2026-02-01 00:00+00') \g /dev/null
SELECT usage_record('gone', 'api_calls', 20, 'e2', '2026-02-01 02:00+00'), subscription_cancel(sub('gone'), 'over') \g /dev/null
SET tenancy.test_clock = '2026-03-01 02:00+00';
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-03-01 00:00+00')$$, $$VALUES (1::bigint, '3.50')$$, 'February is the last month');
SELECT is((SELECT state FROM tenancy.subscription), 'ended', 'and the subscription has ended');
SELECT results_eq($$SELECT invoices, lines, failed FROM billing_run('2026-03-01 00:00+00')$$, 'VALUES (0::bigint, 0::bigint, 0::bigint)', 'nothing comes late, nothing is billed');

-- for both months, after the end; and at the end, to the second, for nothing
SET tenancy.test_clock = '2026-03-10 00:00+00';
SELECT usage_record('gone', 'api_calls', 60, 'e3', '2026-01-31 23:00+00'), usage_record('gone', 'api_calls', 5, 'e4', '2026-02-27 00:00+00'),
       usage_record('gone', 'api_calls', 1000, 'e5', '2026-03-01 00:00+00'), usage_record('gone', 'api_calls', 1000, 'e6', '2025-12-31 23:59:59+00') \g /dev/null
SELECT is((SELECT count(*) FROM billing_run('2026-02-28 00:00+00') WHERE invoices = 0), 1::bigint, 'a run up to a time before the end leaves it alone');
SELECT is(jsonb_array_length(invoice_preview('gone', '2026-03-10 00:00+00')), 1, 'a preview shows it');
CREATE TEMP TABLE previewed AS SELECT invoice_preview('gone') -> 0 AS document;
SELECT is((SELECT count(*) FROM tenancy.invoice), 3::bigint, 'and leaves nothing');
SELECT results_eq($$SELECT invoices, lines, total->>'USD' FROM billing_run('2026-03-10 00:00+00')$$, $$VALUES (1::bigint, 2::bigint, '10.00')$$, 'one more invoice');
SELECT results_eq($$SELECT kind, quantity, amount, period_start, period_end FROM bill WHERE purpose = 'late' ORDER BY period_start$$,
    $$VALUES ('late', 100::numeric, tiers(100) - tiers(40), '2026-01-01 00:00+00'::timestamptz, '2026-02-01 00:00+00'::timestamptz),
             ('late', 25, tiers(25) - tiers(20), '2026-02-01 00:00+00', '2026-03-01 00:00+00')$$, 'with a line for each month: of all of it, less what was billed');
SELECT results_eq($$SELECT subscription_id = sub('gone'), period_start, period_end, state, number FROM tenancy.invoice WHERE purpose = 'late'$$,
    $$VALUES (true, '2026-01-01 00:00+00'::timestamptz, '2026-03-01 00:00+00'::timestamptz, 'open', 'INV-000004')$$, 'of the subscription, over the time of its lines');
SELECT is((SELECT document - 'id' FROM previewed), (SELECT tenancy.invoice_document(id) - 'id' FROM tenancy.invoice WHERE purpose = 'late'), 'and it is what was previewed');
SELECT matches((SELECT string_agg(s, ' ') FROM tenancy.invoice i, invoice_explain(i.id) s WHERE i.purpose = 'late'),
    '100 of metric "api_calls" are known now for this period, which cost 17.25, and 8.50 was billed for it before', 'which explains itself');
SELECT is((SELECT sum(amount) FROM tenancy.ledger_entry), 0::numeric, 'the ledger is balanced');
SELECT results_eq($$SELECT invoices, lines, failed FROM billing_run('2026-03-10 00:00+00')$$, 'VALUES (0::bigint, 0::bigint, 0::bigint)', 'a second run adds nothing');
SELECT is(invoice_preview('gone'), '[]', 'nor does a preview');
SELECT throws_ok($$SELECT invoice_generate('gone')$$, '55000', 'tenant "gone" has no subscription', 'nor a draft');

-- an event is cancelled after that
SET tenancy.test_clock = '2026-03-20 00:00+00';
SELECT usage_cancel('gone', 'e3') \g /dev/null
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-03-20 00:00+00')$$, $$VALUES (1::bigint, '-8.75')$$, 'what was billed too much');
SELECT is((SELECT sum(amount) FROM tenancy.ledger_entry WHERE account = 'customer_credit'), -8.75, 'is credit of the tenant');
SELECT is((SELECT sum(amount) FROM bill WHERE period_start = '2026-01-01 00:00+00' AND kind IN ('usage', 'late')), tiers(40), 'January costs what January used, over all invoices');

-- a draft counts as billed; a void one does, until it is billed again
SET tenancy.test_clock = '2026-04-01 00:00+00';
SELECT usage_record('gone', 'api_calls', 100, 'e7', '2026-02-20 00:00+00') \g /dev/null
SELECT results_eq($$SELECT purpose, state, total FROM invoice_generate('gone')$$, $$VALUES ('late', 'draft', tiers(125) - tiers(25))$$, 'a draft of it');
SELECT is((SELECT invoices FROM billing_run('2026-04-01 00:00+00')), 0::bigint, 'is not billed beside');
SELECT count(*) FROM tenancy.invoice i, invoice_finalize(i.id), invoice_void(i.id, 'test') WHERE i.state = 'draft' \g /dev/null
SELECT is((SELECT invoices FROM billing_run('2026-04-02 00:00+00')), 0::bigint, 'nor when it is void');
SELECT results_eq($$SELECT purpose, state, total FROM invoice_generate('gone', '[2026-02-01 00:00+00, 2026-03-01 00:00+00)')$$, $$VALUES ('late', 'draft', tiers(125) - tiers(25))$$, 'until its period is billed again');

-- a new subscription of the same tenant: each has its own time
SET tenancy.test_clock = '2026-05-01 00:00+00';
SELECT subscription_create('gone', 'tiers', '2026-05-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-05-20 00:00+00';
SELECT usage_record('gone', 'api_calls', 12, 'n1', '2026-05-20 00:00+00'), usage_record('gone', 'api_calls', 5, 'n2', '2026-02-21 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-06-01 02:00+00';
CREATE TEMP TABLE both_previewed AS SELECT invoice_preview('gone', '2026-06-01 00:00+00') AS documents;
SELECT is((SELECT invoices FROM billing_run('2026-06-01 00:00+00')), 3::bigint, 'the start, the end of May, and what was late for the one that has ended');
SELECT results_eq($$SELECT purpose, kind, amount, subscription = sub('gone') FROM bill WHERE number > 'INV-000006' AND metric IS NOT NULL ORDER BY purpose$$,
    $$VALUES ('cycle', 'usage', tiers(12), true), ('late', 'late', tiers(130) - tiers(125), false)$$, 'each of it once');
SELECT is((SELECT invoices FROM billing_run('2026-06-01 00:00+00')), 0::bigint, 'and once only');

-- cancelled now: what is recorded right after the last invoice, too soon to be noted as late
SELECT slug FROM tenant_create('quick', plan => 'tiers', starts_at => '2026-06-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-06-16 00:00+00';
SELECT count(*) FROM billing_run('2026-06-16 00:00+00') \g /dev/null
SELECT subscription_cancel(sub('quick'), 'now', false) \g /dev/null
SELECT count(*) FROM billing_run('2026-06-16 00:00+00') \g /dev/null
SELECT is((SELECT state FROM tenancy.subscription WHERE id = sub('quick')), 'ended', 'one that ends now');
SET tenancy.test_clock = '2026-06-16 00:00:30+00';
SELECT usage_record('quick', 'api_calls', 12, 'q1', '2026-06-15 23:59:59+00') \g /dev/null
SET tenancy.test_clock = '2026-06-16 01:00+00';
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-06-16 01:00+00')$$, $$VALUES (1::bigint, '1.50')$$, 'does not lose it');
SELECT is((SELECT invoices FROM billing_run('2026-06-16 02:00+00')), 0::bigint, 'nor bill it twice');

-- a purge: nothing is known any more, and nothing is given back for that
SET tenancy.test_clock = '2026-06-26 00:00+00';
SELECT usage_record('quick', 'api_calls', 20, 'q2', '2026-06-10 00:00+00') \g /dev/null
SELECT count(*) FROM tenant_delete('quick'), tenant_purge('quick', force => true) \g /dev/null
SELECT is((SELECT failed FROM billing_run('2026-06-27 00:00+00')), 0::bigint, 'a run after the purge has no trouble');
SELECT is((SELECT count(*) FROM tenancy.invoice i JOIN tenancy.subscription s ON s.id = i.subscription_id AND s.starts_at = '2026-06-01 00:00+00' WHERE i.created_at > '2026-06-20 00:00+00'), 0::bigint, 'and bills nothing of it');

-- a price of transactions, some of which retention has removed
SELECT plan_create('share', 'Share', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "base_price": 9, "charges": [{"id": "pct", "name": "Pct", "model": "percentage", "metric": "api_calls", "rate": 1, "transaction_maximum": 3}, {"id": "each", "name": "Each", "model": "per_unit", "metric": "api_calls", "unit_price": 0.01}]}') \g /dev/null
SET tenancy.test_clock = '2026-07-01 00:00+00';
SELECT tenant_create('merchant', isolation => 'pool') \g /dev/null
SELECT subscription_create('merchant', 'share', '2026-07-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-07-20 00:00+00';
SELECT usage_record('merchant', 'api_calls', 100, 'm1', '2026-07-10 10:10+00') \g /dev/null
SET tenancy.test_clock = '2026-08-01 02:00+00';
SELECT count(*) FROM billing_run('2026-08-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-08-20 00:00+00';
\ir roll.psql
CALL roll(20);
SELECT usage_event_prune(false, '10 days') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE tenant_id = 'merchant'::regtenant), 0::bigint, 'its event is removed');
SELECT usage_record('merchant', 'api_calls', 50, 'm2', '2026-07-10 10:20+00') \g /dev/null
SET tenancy.test_clock = '2026-09-01 02:00+00';
SELECT results_eq($$SELECT failed FROM billing_run('2026-09-01 00:00+00')$$, 'VALUES (0::bigint)', 'one that comes for that time does not keep the tenant from being billed');
SELECT results_eq($$SELECT kind, charge, amount FROM bill WHERE tenant_id = 'merchant'::regtenant AND number = (SELECT max(number) FROM bill WHERE tenant_id = 'merchant'::regtenant) ORDER BY 1, 2$$,
    $$VALUES ('late', 'each', 0.50), ('recurring', 'base', 9.00)$$, 'of its prices those hold that need no more than the sum: 50 at 0.01');

-- a trial that is cancelled early: 28 at most in 14 days, 10 in 5
SELECT plan_create('try', 'Try', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "base_price": 30, "trial_days": 14, "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1, "maximum": 28}]}') \g /dev/null
SELECT slug FROM tenant_create('trier', plan => 'try', starts_at => '2026-09-02 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-04 00:00+00';
SELECT usage_record('trier', 'api_calls', 4, 't1', '2026-09-04 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-07 00:00+00';
SELECT subscription_cancel(sub('trier'), 'no', false) \g /dev/null
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-09-07 00:00+00')$$, $$VALUES (1::bigint, '4.00')$$, 'five days of a trial');
SET tenancy.test_clock = '2026-09-07 01:00+00';
SELECT usage_record('trier', 'api_calls', 3, 't2', '2026-09-06 12:00+00') \g /dev/null
SELECT results_eq($$SELECT invoices, lines, total->>'USD' FROM billing_run('2026-09-07 01:00+00')$$, $$VALUES (1::bigint, 1::bigint, '3.00')$$, 'what comes late for it is billed once');
SELECT results_eq($$SELECT period_start, period_end FROM bill WHERE kind = 'late' AND subscription = sub('trier')$$, $$VALUES ('2026-09-02 00:00+00'::timestamptz, '2026-09-07 00:00+00'::timestamptz)$$, 'for the days that it had');
SELECT usage_record('trier', 'api_calls', 2, 't3', '2026-09-06 12:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-07 02:00+00';
SELECT throws_ok($$SELECT invoice_generate('trier', '[2026-10-01 00:00+00, 2026-11-01 00:00+00)')$$, '55000', 'tenant "trier" has no subscription', 'a period that is asked for is not passed over');
SELECT results_eq($$SELECT purpose, state, total FROM invoice_generate('trier')$$, $$VALUES ('late', 'draft', 2.00)$$, 'what is late is drafted where none is');
SELECT usage_record('trier', 'api_calls', 50, 't4', '2026-09-05 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-07 03:00+00';
SELECT is((SELECT total->>'USD' FROM billing_run('2026-09-07 03:00+00')), '1.00', 'up to the part of the maximum');

-- a seller who skips invoices over nothing, and a coupon that takes all: the period has been billed
SELECT legal_entity_set('skips', '{"name": "Skips", "invoice_series": "SK", "credit_note_series": "SC", "zero_invoices": "skip"}'),
       coupon_create('FREE', '{"kind": "percent", "value": 100}'),
       plan_create('each', 'Each', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}]}') \g /dev/null
SET tenancy.test_clock = '2026-09-08 00:00+00';
SELECT slug FROM unnest('{guest,regular}'::text[]) g, tenant_create(g, plan => 'each', starts_at => '2026-09-08 00:00+00') \g /dev/null
SELECT billing_account_set(g::regtenant, '{"legal_entity": "skips"}'), coupon_apply(g::regtenant, 'FREE') FROM unnest('{guest,regular}'::text[]) g \g /dev/null
SET tenancy.test_clock = '2026-09-10 00:00+00';
SELECT usage_record(g::regtenant, 'api_calls', 100, 'g1', '2026-09-10 00:00+00') FROM unnest('{guest,regular}'::text[]) g \g /dev/null
SET tenancy.test_clock = '2026-09-20 00:00+00';
SELECT subscription_cancel(sub('guest'), 'no', false) \g /dev/null
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-09-20 00:00+00')$$, $$VALUES (1::bigint, '0.00')$$, 'what a coupon took off is not billed as late by the same run');
SELECT results_eq($$SELECT purpose, state, subtotal, discount, total FROM tenancy.invoice WHERE subscription_id = sub('guest')$$, $$VALUES ('cycle', 'paid', 100.00, 100.00, 0.00)$$, 'and an invoice says what was taken off');
SET tenancy.test_clock = '2026-09-20 00:30+00';
SELECT is((SELECT invoices FROM billing_run('2026-09-20 00:30+00')), 0::bigint, 'nor by the next');
SET tenancy.test_clock = '2026-10-08 00:00+00';
SELECT count(*) FROM billing_run('2026-10-08 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, amount, net FROM bill WHERE subscription = sub('regular')$$, $$VALUES ('usage', 100.00, 0.00)$$, 'one that goes on');
SET tenancy.test_clock = '2026-10-09 00:00+00';
SELECT usage_record(g::regtenant, 'api_calls', 7, 'g2', '2026-09-12 00:00+00') FROM unnest('{regular}'::text[]) g \g /dev/null
SET tenancy.test_clock = '2026-11-08 00:00+00';
SELECT count(*) FROM billing_run('2026-11-08 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, quantity, amount, discount FROM bill WHERE subscription = sub('regular') ORDER BY number$$, $$VALUES ('usage', 100::numeric, 100.00, 100.00), ('late', 107, 7.00, 0.00)$$, 'is billed what came late and no more');

-- a period over nothing is not ended behind an invoice of late usage
SELECT plan_create('nil', 'Nil', 'custom', '{"type": "fixed", "base_price": 0, "currency": "USD", "billing_period": "monthly"}') \g /dev/null
SELECT subscription_create('guest', 'nil', '2026-11-08 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-11-09 00:00+00';
SELECT usage_record('guest', 'api_calls', 7, 'g3', '2026-09-12 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-12-08 02:00+00';
SELECT throws_ok($$SELECT invoice_generate('guest')$$, '55000', NULL, 'a draft of a period over nothing is none');
SELECT is((SELECT period_start FROM tenancy.subscription WHERE id = sub('guest')), '2026-11-08 00:00+00'::timestamptz, 'and leaves it open');
SELECT count(*) FROM billing_run('2026-12-08 00:00+00') \g /dev/null
SELECT results_eq($$SELECT purpose, total FROM tenancy.invoice WHERE tenant_id = 'guest'::regtenant AND purpose <> 'cycle'$$, $$VALUES ('late', 7.00)$$, 'a run ends it and bills what was late');

SET ROLE tenancy_auditor;
SELECT throws_ok($$SELECT invoice_preview('gone')$$, '42501', NULL, 'not for everybody');
RESET ROLE;
SELECT * FROM finish();
