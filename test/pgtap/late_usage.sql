-- Usage that comes after the invoice of its period is billed for that period, on the next invoice.
-- Amounts by hand: 10 free, up to 50 at 0.25 and a fee of 1, then 0.125.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT count(*) FROM plan_create('tiers', 'Tiers', 'custom', '{"type": "custom", "base_price": 0, "currency": "USD", "billing_period": "monthly",
    "charges": [{"id": "calls", "name": "Calls", "model": "graduated", "metric": "api_calls", "unit": "call", "tiers": [{"up_to": 10}, {"up_to": 50, "unit_price": 0.25, "flat_fee": 1}, {"unit_price": 0.125}]},
                {"id": "users", "name": "Users", "model": "per_unit", "metric": "users", "unit": "user", "unit_price": 3, "maximum": 12}]}') \g /dev/null
CREATE FUNCTION public.tiers(n numeric) RETURNS numeric LANGUAGE sql AS
    'SELECT round(CASE WHEN n > 10 THEN 1 ELSE 0 END + 0.25 * greatest(0, least(n, 50) - 10) + 0.125 * greatest(0, n - 50), 2)';
SELECT slug FROM tenant_create('late', plan => 'tiers', starts_at => '2026-01-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-01-20 00:00+00';
SELECT count(*) FROM usage_record('late', 'api_calls', 40, 'e1', '2026-01-20 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-02-01 02:00+00';
SELECT results_eq($$SELECT invoices, total->>'USD' FROM billing_run('2026-02-01 00:00+00')$$, $$VALUES (1::bigint, '8.50')$$, '40 calls cost 1 + 30 × 0.25');
SELECT is((SELECT total FROM tenancy.invoice), tiers(40), 'as the formula has it');

-- 60 more for January, known in February
SET tenancy.test_clock = '2026-02-03 00:00+00';
SELECT count(*) FROM usage_record('late', 'api_calls', 60, 'e2', '2026-01-31 23:00+00') \g /dev/null
SELECT count(*) FROM usage_record('late', 'api_calls', 20, 'e3', '2026-02-03 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-03-01 02:00+00';
SELECT is((SELECT invoices FROM billing_run('2026-03-01 00:00+00')), 1::bigint, 'February is billed');
CREATE VIEW bill AS SELECT i.period_start AS billed_in, l.* FROM tenancy.invoice i JOIN tenancy.invoice_line l ON l.invoice_id = i.id;
SELECT results_eq($$SELECT kind, quantity, amount, period_start, period_end FROM bill WHERE billed_in = '2026-02-01 00:00+00' ORDER BY kind$$,
    $$VALUES ('late', 100::numeric, tiers(100) - tiers(40), '2026-01-01 00:00+00'::timestamptz, '2026-02-01 00:00+00'::timestamptz),
             ('usage', 20, tiers(20), '2026-02-01 00:00+00', '2026-03-01 00:00+00')$$, 'and what is missing for January, as of all of it less what was billed');
SELECT matches((SELECT string_agg(s, ' ') FROM tenancy.invoice i, invoice_explain(i.id) s WHERE i.period_start = '2026-02-01 00:00+00'),
    '100 of metric "api_calls" are known now for this period, which cost 17.25, and 8.50 was billed for it before', 'which explains itself');
SELECT is((SELECT total FROM tenancy.invoice WHERE period_start = '2026-01-01 00:00+00'), 8.50, 'the invoice of January is as it was');

-- an event of January is cancelled in March; another of it was late by two invoices
SET tenancy.test_clock = '2026-03-10 00:00+00';
SELECT count(*) FROM usage_cancel('late', 'e1') \g /dev/null
SELECT count(*) FROM usage_record('late', 'api_calls', 5, 'e4', '2026-01-02 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-04-01 02:00+00';
SELECT is((SELECT invoices FROM billing_run('2026-04-01 00:00+00')), 1::bigint, 'March is billed');
SELECT results_eq($$SELECT kind, quantity, amount FROM bill WHERE billed_in = '2026-03-01 00:00+00'$$, $$VALUES ('late', 65::numeric, tiers(65) - tiers(100))$$, 'less is billed for what is known to be less');
SELECT is((SELECT sum(amount) FROM bill WHERE period_start = '2026-01-01 00:00+00'), tiers(65), 'January costs what January used, over all invoices');
SELECT is((SELECT state || ' ' || total FROM tenancy.invoice WHERE period_start = '2026-03-01 00:00+00'), 'paid -4.37', 'an invoice over less than nothing');
SELECT is((SELECT sum(amount) FROM tenancy.ledger_entry WHERE account = 'customer_credit'), -4.37, 'is credit of the tenant');

-- nothing twice
SET tenancy.test_clock = '2026-05-01 02:00+00';
SELECT is((SELECT invoices FROM billing_run('2026-05-01 00:00+00')), 0::bigint, 'nothing late, nothing used: no invoice');
-- a charge that had no line in its period, and one with a maximum
SET tenancy.test_clock = '2026-05-02 00:00+00';
SELECT count(*) FROM usage_record('late', 'users', 3, 'u1', '2026-04-10 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-06-01 02:00+00';
SELECT count(*) FROM usage_record('late', 'users', 2, 'u2', '2026-05-10 00:00+00') \g /dev/null
SELECT is((SELECT invoices FROM billing_run('2026-06-01 00:00+00')), 1::bigint, 'May is billed');
SELECT results_eq($$SELECT kind, quantity, amount, period_start FROM bill WHERE billed_in = '2026-05-01 00:00+00' ORDER BY kind$$,
    $$VALUES ('late', 3::numeric, 9.00, '2026-04-01 00:00+00'::timestamptz), ('usage', 3, 9.00, '2026-05-01 00:00+00')$$, 'April had no invoice and gets its line; a level carries over');
SET tenancy.test_clock = '2026-06-02 00:00+00';
SELECT count(*) FROM usage_record('late', 'users', 30, 'u3', '2026-05-20 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('late', 'users', 0, 'u4', '2026-06-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-07-01 02:00+00';
SELECT is((SELECT invoices FROM billing_run('2026-07-01 00:00+00')), 1::bigint, 'June is billed');
SELECT results_eq($$SELECT amount FROM bill WHERE billed_in = '2026-06-01 00:00+00' AND kind = 'late'$$, 'VALUES (3.00)', 'with late usage up to the maximum of May alone: 12 − 9');

-- usage that is recorded right after the invoice, whose period was barely over when it was made
SELECT slug FROM tenant_create('prompt', plan => 'tiers', starts_at => '2026-07-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-08-01 00:00+00';
SELECT is((SELECT invoices FROM billing_run('2026-08-01 00:00+00')), 0::bigint, 'at the end of July, to the second, nothing was used');
SET tenancy.test_clock = '2026-08-01 00:00:30+00';
SELECT count(*) FROM usage_record('prompt', 'api_calls', 40, 'p1', '2026-07-31 23:59:59+00') \g /dev/null
SET tenancy.test_clock = '2026-09-01 02:00+00';
SELECT count(*) FROM billing_run('2026-09-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT kind, amount FROM bill WHERE tenant_id = 'prompt'::regtenant$$, $$VALUES ('late', 8.50)$$, 'is not lost');

-- transactions: 2 % and 0.30 of each, the first free
SELECT metric_create('volume', 'USD'), metric_create('big', 'call', 'count', event => 'api_calls', filters => '{"size": {">=": 100}}') \g /dev/null
SELECT count(*) FROM plan_create('pay', 'Pay', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "charges": [{"id": "fee", "name": "Fee", "model": "percentage", "metric": "volume", "rate": 2, "fixed_fee": 0.3, "free_events": 1}]}') \g /dev/null
SELECT slug FROM tenant_create('shop', plan => 'pay', starts_at => '2026-09-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-09-20 00:00+00';
SELECT usage_record('shop', 'volume', 100, 's1', '2026-09-10 00:00+00'), usage_record('shop', 'volume', 50, 's2', '2026-09-12 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-10-01 02:00+00';
SELECT is((SELECT total->>'USD' FROM billing_run('2026-10-01 00:00+00')), '1.30', 'the first is free, 50 × 2 % + 0.30');
SET tenancy.test_clock = '2026-10-03 00:00+00';
SELECT usage_record('shop', 'volume', 200, 's3', '2026-09-05 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-11-01 02:00+00';
SELECT count(*) FROM billing_run('2026-11-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT quantity, amount, period_start FROM bill WHERE tenant_id = 'shop'::regtenant AND kind = 'late'$$, $$VALUES (350::numeric, 2.30, '2026-09-01 00:00+00'::timestamptz)$$,
    'an earlier one is the free one then: 100 × 2 % + 0.30 and 50 × 2 % + 0.30 are 3.60, less 1.30');

-- the minimum of a whole plan: 20 less what was used at 1 each
SELECT count(*) FROM plan_create('floor', 'Floor', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "minimum": 20, "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "metric": "api_calls", "unit_price": 1}, {"id": "big", "name": "Big", "model": "per_unit", "metric": "big", "unit_price": 2}]}') \g /dev/null
SELECT slug FROM tenant_create('least', plan => 'floor', starts_at => '2026-11-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-11-20 00:00+00';
SELECT usage_record('least', 'api_calls', 5, 'l1', '2026-11-10 00:00+00') \g /dev/null
SET tenancy.test_clock = '2026-12-01 02:00+00';
SELECT is((SELECT total->>'USD' FROM billing_run('2026-12-01 00:00+00')), '20.00', '5 and the 15 that are missing');
SET tenancy.test_clock = '2026-12-03 00:00+00';
SELECT usage_record('least', 'api_calls', 8, 'l2', '2026-11-12 00:00+00') \g /dev/null
SET tenancy.test_clock = '2027-01-01 02:00+00';
SELECT is((SELECT total->>'USD' FROM billing_run('2027-01-01 00:00+00')), '20.00', 'December; November still comes to 20');
SELECT results_eq($$SELECT charge, amount FROM bill WHERE tenant_id = 'least'::regtenant AND kind = 'late' ORDER BY position$$, $$VALUES ('calls', 8.00), (NULL, -8.00)$$, '8 more, of which nothing was missing');
SELECT matches((SELECT string_agg(s, ' ') FROM tenancy.invoice i, invoice_explain(i.id) s WHERE i.tenant_id = 'least'::regtenant AND i.period_start = '2026-12-01 00:00+00'),
    'at least 20.00 was agreed, 13.00 is known now to count towards it, and 15.00 was billed for what was missing', 'which explains itself');
-- beyond it, and by an event that two metrics count
SET tenancy.test_clock = '2027-01-03 00:00+00';
SELECT usage_record('least', 'api_calls', 9, 'l3', '2026-11-13 00:00+00', '{"size": 500}') \g /dev/null
SET tenancy.test_clock = '2027-02-01 02:00+00';
SELECT count(*) FROM billing_run('2027-02-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT charge, quantity, amount FROM bill WHERE tenant_id = 'least'::regtenant AND kind = 'late' AND billed_in = '2027-01-01 00:00+00' ORDER BY charge$$, $$VALUES ('big', 1::numeric, 2.00), ('calls', 22, 9.00), (NULL, 1, -7.00)$$, '22 at 1 and one at 2 are 24: 4 more than were agreed');
SELECT is((SELECT sum(amount) FROM bill WHERE tenant_id = 'least'::regtenant AND period_start = '2026-11-01 00:00+00'), 24.00, 'over all invoices');
SELECT * FROM finish();
