-- Revenue that is billed in advance, receivables by age, recurring revenue, and where documents and books disagree.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT plan_create('year', 'Year', 'custom', '{"type": "fixed", "base_price": 1200, "base_timing": "advance", "currency": "USD", "billing_period": "yearly"}') IS NULL \g /dev/null
SELECT plan_create('year-more', 'More', 'custom', '{"type": "fixed", "base_price": 2400, "base_timing": "advance", "currency": "USD", "billing_period": "yearly"}') IS NULL \g /dev/null
SELECT plan_create('month', 'Month', 'custom', '{"type": "fixed", "base_price": 50, "currency": "USD", "billing_period": "monthly"}') IS NULL \g /dev/null
SELECT plan_create('seats', 'Seats', 'custom', '{"type": "custom", "currency": "EUR", "billing_period": "quarterly", "charges": [{"id": "platform", "model": "flat", "unit_price": 30}, {"id": "seats", "model": "per_unit", "per_seat": true, "unit_price": 15}]}') IS NULL \g /dev/null
SET tenancy.test_clock = '2026-01-01 00:00:00+00';
SELECT slug FROM tenant_create('rev-a', plan => 'year', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT slug FROM tenant_create('rev-b', plan => 'year', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT slug FROM tenant_create('rev-c', plan => 'month', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2026-01-01 00:00+00') \g /dev/null
CREATE VIEW bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.books(slug text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(account || ' ' || amount, ', ' ORDER BY account) FROM (
        SELECT account, sum(amount)::numeric(20,2) AS amount FROM tenancy.ledger_entry WHERE tenant_id = slug::regtenant GROUP BY account HAVING sum(amount) <> 0) b $$;

-- straight lines
SELECT is(tenancy.revenue_earned(100, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2026-01-11 00:00+00', 'USD'), 33.33, 'a third of a hundred');
SELECT is(tenancy.revenue_earned(100, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2026-01-21 00:00+00', 'USD'), 66.67, 'two thirds');
SELECT is(tenancy.revenue_earned(-100, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2026-01-21 00:00+00', 'USD'), -66.67, 'of less than nothing, too');
SELECT is(tenancy.revenue_earned(100, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2026-01-11 00:00+00', 'JPY'), 33::numeric, 'in whole yen');
SELECT is(tenancy.revenue_earned(100, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2025-01-01 00:00+00', 'USD'), 0::numeric, 'nothing before');
SELECT is(tenancy.revenue_earned(100.01, '2026-01-01 00:00+00', '2026-01-31 00:00+00', '2026-01-31 00:00+00', 'USD'), 100.01, 'all at the end');
SELECT is(tenancy.revenue_earned(100, '2026-01-01 00:00+00', '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'USD'), 100::numeric, 'and at once where there is no time');
SELECT throws_ok($$SELECT tenancy.revenue_earned(100, '2026-01-01', 'infinity', '2026-01-01', 'USD')$$, '22008', NULL, 'a period without an end');

-- a year in advance is earned day by day
SELECT is(books('rev-a'), 'deferred_revenue -1200.00, receivable 1200.00', 'billed and not earned');
SELECT results_eq($$SELECT month, amount FROM deferred_revenue_schedule('2026-01-01 00:00+00', 'rev-a')$$,
    $$SELECT (date '2026-01-01' + make_interval(months => n))::date,
             round(1200.0 * ((date '2026-01-01' + make_interval(months => n + 1))::date - date '2026-01-01') / 365, 2) - round(1200.0 * ((date '2026-01-01' + make_interval(months => n))::date - date '2026-01-01') / 365, 2)
        FROM generate_series(0, 11) n$$, 'the schedule of a year, by days of 365');
SELECT is((SELECT sum(amount) FROM deferred_revenue_schedule('2026-01-01 00:00+00', 'rev-a')), 1200.00, 'comes to all of it');
-- where clocks change in March and November
SET timezone = 'America/New_York';
SELECT results_eq($$SELECT month, amount FROM deferred_revenue_schedule('2026-01-01 00:00+00', 'rev-a')$$,
    $$SELECT (date '2026-01-01' + make_interval(months => n))::date,
             round(1200.0 * ((date '2026-01-01' + make_interval(months => n + 1))::date - date '2026-01-01') / 365, 2) - round(1200.0 * ((date '2026-01-01' + make_interval(months => n))::date - date '2026-01-01') / 365, 2)
        FROM generate_series(0, 11) n$$, 'whatever the zone of who asks');
RESET timezone;
SELECT is(revenue_recognize('2026-02-01 00:00+00'), 2::bigint, 'a month later');
SELECT is(books('rev-a'), 'deferred_revenue -1098.08, receivable 1200.00, revenue -101.92', '31 of 365 days are earned: 101.92');
SELECT is(revenue_recognize('2026-02-01 00:00+00'), 0::bigint, 'once');
SELECT is(revenue_recognize('2026-01-15 00:00+00'), 0::bigint, 'an earlier moment adds nothing');
SELECT is((SELECT sum(amount) FROM deferred_revenue_schedule('2026-02-01 00:00+00', 'rev-a')), 1098.08, 'the schedule has the rest');
SELECT is((SELECT sum(amount) FROM deferred_revenue_schedule('2026-02-10 06:00+00', 'rev-a')), 1200 - round(1200 * 40.25 / 365, 2), 'in the middle of a month, too');
SELECT results_eq($$SELECT effective_at, kind, debit, credit FROM tenancy.ledger_document WHERE kind = 'recognition' AND tenant_id = 'rev-a'::regtenant ORDER BY position$$,
    $$VALUES ('2026-02-01 00:00+00'::timestamptz, 'recognition', NULL::numeric, 101.92), ('2026-02-01 00:00+00', 'recognition', 101.92, NULL)$$, 'as of that moment');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');

-- an upgrade in the middle: what is not used is credited, and the rest is earned to the end
SET tenancy.test_clock = '2026-07-02 12:00:00+00';
SELECT count(subscription_update(s.id, '{"plan": "year-more", "invoice": "now"}')) FROM tenancy.subscription s WHERE tenant_id = 'rev-b'::regtenant \g /dev/null
SELECT ok((SELECT count(*) > 0 FROM billing_run('2026-07-02 12:00+00')), 'an upgrade is billed');
SELECT is((SELECT sum(l.net) FROM tenancy.invoice_line l WHERE tenant_id = 'rev-b'::regtenant), 1200 + 600.00, 'twice the price for the second half of the year');
SELECT is(revenue_recognize('2026-07-02 12:00+00') > 0, true, 'half a year is over');
SELECT is((SELECT sum(recognized) FROM tenancy.revenue_recognition WHERE tenant_id = 'rev-b'::regtenant), 600.00, '182.5 of 365 days');
SELECT is((SELECT sum(amount) FROM deferred_revenue_schedule('2026-07-02 12:00+00', 'rev-b')), 1200.00, 'and the rest is twice that');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');

-- a credit note counts from its issue on
SET tenancy.test_clock = '2026-07-02 12:00:00+00';
SELECT is((credit_note_create((SELECT id FROM bill WHERE slug = 'rev-a'), 'goodwill', '[{"position": 1, "amount": 365}]')).total, 365.00, 'a credit note');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree at once');
SET tenancy.test_clock = '2026-07-03 00:00:00+00';
SELECT ok(revenue_recognize('2026-07-03 00:00+00') > 0, 'the next run');
SELECT is((SELECT recognized FROM tenancy.revenue_recognition WHERE tenant_id = 'rev-a'::regtenant), round(835 * 183.0 / 365, 2), 'earns of what is left');
SELECT is((SELECT sum(amount) FROM deferred_revenue_schedule('2026-07-03 00:00+00', 'rev-a')), 835 - round(835 * 183.0 / 365, 2), 'so does the schedule');

-- at the end all is earned, to the cent
SELECT ok(revenue_recognize('2027-01-01 00:00+00') > 0, 'the year is over');
SELECT is(books('rev-a'), 'receivable 835.00, revenue -835.00', 'nothing is deferred');
SELECT is((SELECT -sum(amount) FROM tenancy.ledger_entry WHERE tenant_id = 'rev-b'::regtenant AND account = 'revenue'), 1800.00, 'nor where it was changed');
SELECT is((SELECT count(*) FROM tenancy.revenue_recognition WHERE NOT is_complete), 0::bigint, 'all is complete');
SELECT is_empty('SELECT * FROM deferred_revenue_schedule(''2027-01-01 00:00+00'')', 'no schedule is left');
SELECT is(revenue_recognize('2027-02-01 00:00+00'), 0::bigint, 'and nothing is left to do');
SET tenancy.test_clock = '2027-02-01 00:00:00+00';
SELECT is((credit_note_create((SELECT id FROM bill WHERE slug = 'rev-a'), 'late goodwill', '[{"position": 1, "amount": 35}]')).total, 35.00, 'a credit note after the end');
SELECT is(revenue_recognize('2027-02-02 00:00+00'), 1::bigint, 'is taken out of what was earned');
SELECT is(books('rev-a'), 'receivable 800.00, revenue -800.00', 'all of it');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');
-- what is void was never earned
SET tenancy.test_clock = '2026-01-01 00:00:00+00';
SELECT slug FROM tenant_create('rev-v', plan => 'year', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT state FROM invoice_finalize((invoice_generate('rev-v')).id) \g /dev/null
SELECT is(revenue_recognize('2027-03-01 00:00+00'), 1::bigint, 'earned');
SELECT is((invoice_void((SELECT id FROM bill WHERE slug = 'rev-v'), 'mistake')).state, 'void', 'and void');
SELECT is(books('rev-v'), NULL, 'leaves nothing');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');
SELECT throws_ok('SELECT revenue_recognize(NULL)', '22004', NULL, 'at no time');
SELECT throws_ok($$SELECT revenue_recognize('infinity')$$, '22008', NULL, 'nor at the end of time');

-- recurring revenue, by hand: 50 a month, 1200 a year, seats at 15 and a platform at 30 a quarter
SELECT is(tenancy.plan_monthly_value('month', 1, 'USD', 1), 50::numeric, 'a month is a month');
SELECT is(tenancy.plan_monthly_value('year', 1, 'USD', 1), 100::numeric, 'a year is twelve');
SELECT is(tenancy.plan_monthly_value('seats', 1, 'EUR', 4), 30::numeric, 'a quarter is three: (30 + 4 × 15) / 3');
SELECT throws_ok($$SELECT tenancy.plan_monthly_value('seats', 9, 'EUR', 4)$$, '42704', NULL, 'an unknown version');
SELECT throws_ok($$SELECT tenancy.plan_monthly_value(NULL, 1, 'EUR', 4)$$, '22004', NULL, 'no plan');
SET tenancy.test_clock = '2028-01-10 00:00:00+00';
UPDATE tenancy.subscription SET bills_at = 'infinity' WHERE bills_at IS NOT NULL;
CREATE FUNCTION public.movements(months text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', to_char(month, 'YYYY-MM'), currency, opening::numeric(20,2), new::numeric(20,2), expansion::numeric(20,2), contraction::numeric(20,2), churn::numeric(20,2), reactivation::numeric(20,2), closing::numeric(20,2))
      FROM mrr_movements((months[1] || '-01')::date, (months[2] || '-01')::date) WHERE currency = 'EUR' $$;
SELECT is((SELECT string_agg(concat_ws(' ', to_char(month, 'YYYY-MM'), opening::int, new::int, expansion::int, closing::int), ', ' ORDER BY month) FROM mrr_movements('2025-12-15', '2026-07-03') WHERE currency = 'USD'),
    '2025-12 0 0 0 0, 2026-01 0 350 0 350, 2026-02 350 0 0 350, 2026-03 350 0 0 350, 2026-04 350 0 0 350, 2026-05 350 0 0 350, 2026-06 350 0 0 350, 2026-07 350 0 100 450', 'three of 100 and one of 50 begin, one doubles');
SELECT slug FROM tenant_create('rev-m1', isolation => 'pool') \g /dev/null
SELECT id AS s1 FROM subscription_create('rev-m1', 'seats', '2028-01-10 00:00+00', quantity => 4) \gset
SELECT slug FROM tenant_create('rev-m2', isolation => 'pool') \g /dev/null
SELECT id AS s2 FROM subscription_create('rev-m2', 'seats', '2028-01-20 00:00+00', quantity => 2) \gset
SET tenancy.test_clock = '2028-02-10 00:00:00+00';
SELECT count(subscription_update(:'s1', '{"quantity": 7}')) \g /dev/null
SET tenancy.test_clock = '2028-03-10 00:00:00+00';
SELECT count(subscription_update(:'s1', '{"quantity": 1, "effective": "now"}')) \g /dev/null
SELECT count(subscription_cancel(:'s2', at_period_end => false)) \g /dev/null
SET tenancy.test_clock = '2028-05-10 00:00:00+00';
SELECT count(*) FROM billing_run('2028-05-10 00:00+00') \g /dev/null
SELECT id FROM subscription_create('rev-m2', 'seats', '2028-05-10 00:00+00', quantity => 4) \g /dev/null
SELECT results_eq($$SELECT * FROM movements('{2028-01,2028-05}')$$, ARRAY[
    '2028-01 EUR 0.00 50.00 0.00 0.00 0.00 0.00 50.00',
    '2028-02 EUR 50.00 0.00 15.00 0.00 0.00 0.00 65.00',
    '2028-03 EUR 65.00 0.00 0.00 -30.00 -20.00 0.00 15.00',
    '2028-04 EUR 15.00 0.00 0.00 0.00 0.00 0.00 15.00',
    '2028-05 EUR 15.00 0.00 0.00 0.00 0.00 30.00 45.00'], 'new 30 + 20; 3 seats more; 6 less and one gone; nothing; back with 4 seats');

-- receivables: invoices of 50 on the first of each month, due 14 days later
UPDATE tenancy.subscription SET bills_at = 'infinity' WHERE bills_at IS NOT NULL;
SET tenancy.test_clock = '2029-01-01 00:00:00+00';
SELECT slug FROM tenant_create('rev-d', plan => 'month', isolation => 'pool', starts_at => '2029-01-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2029-02-01 00:00:00+00';
SELECT invoices FROM billing_run('2029-02-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2029-03-01 00:00:00+00';
SELECT invoices FROM billing_run('2029-03-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2029-04-01 00:00:00+00';
SELECT invoices FROM billing_run('2029-04-01 00:00+00') \g /dev/null
CREATE FUNCTION public.aged(at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', not_due, days_0_30, days_31_60, days_61_90, days_over_90, total) FROM receivables_aged(at) WHERE tenant_id = 'rev-d'::regtenant $$;
SELECT is(aged('2029-02-01 00:00+00'), '50.00 0 0 0 0 50.00', 'one is not due');
SELECT is(aged('2029-02-15 00:00+00'), '0 50.00 0 0 0 50.00', 'on the due date it is');
SELECT is(aged('2029-03-17 23:59+00'), '0 100.00 0 0 0 100.00', '30 days and some hours later');
SELECT is(aged('2029-03-18 00:00+00'), '0 50.00 50.00 0 0 100.00', 'and on the 31st');
SELECT is(aged('2029-04-16 23:59+00'), '0 50.00 100.00 0 0 150.00', '60 days are the last of the second');
SELECT is(aged('2029-04-17 00:00+00'), '0 50.00 50.00 50.00 0 150.00', '61 of the third');
SELECT is(aged('2029-05-17 00:00+00'), '0 0 50.00 50.00 50.00 150.00', '91 days');
SET tenancy.test_clock = '2029-04-20 00:00:00+00';
SELECT id AS w FROM payment_record('rev-d', 70, 'aged 1') \gset
SELECT is(aged('2029-04-19 00:00+00'), '0 50.00 50.00 50.00 0 150.00', 'a payment does not change what was before it');
SELECT is(aged('2029-04-20 00:00+00'), '0 50.00 30.00 0 0 80.00', 'from then on it does');
SET tenancy.test_clock = '2029-04-21 00:00:00+00';
SELECT state FROM invoice_write_off((SELECT id FROM bill WHERE slug = 'rev-d' AND amount_due = 30), 'gone') \g /dev/null
SELECT is(aged('2029-04-21 00:00+00'), '0 50.00 0 0 0 50.00', 'what is given up is owed no more');
SET tenancy.test_clock = '2029-04-22 00:00:00+00';
SELECT total FROM credit_note_create((SELECT id FROM bill WHERE slug = 'rev-d' AND amount_due = 50), 'goodwill', '[{"position": 1, "amount": 10}]') \g /dev/null
SELECT is(aged('2029-04-22 00:00+00'), '0 40.00 0 0 0 40.00', 'nor what is credited');
SET tenancy.test_clock = '2029-04-23 00:00:00+00';
SELECT state FROM payment_refund(:'w', 20) \g /dev/null
SELECT is((SELECT string_agg(DISTINCT 'equal', '') FROM generate_series('2029-01-01 00:00+00'::timestamptz, '2029-06-01 00:00+00', '5 days') d
    WHERE coalesce((SELECT sum(total) FROM receivables_aged(d) a WHERE a.tenant_id = 'rev-d'::regtenant), 0) <> coalesce((SELECT balance FROM ledger_balance(d, 'rev-d') WHERE account = 'receivable'), 0)), NULL, 'on every day they come to what the books say');
SELECT is((SELECT sum(total) FROM receivables_aged('2100-01-01')), (SELECT sum(balance) FROM tenancy.trial_balance WHERE account = 'receivable'), 'those of all tenants, too');

-- the view of disagreements, each made on purpose and undone
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'documents and books agree');
CREATE FUNCTION public.breaks(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE kinds text;
BEGIN
    BEGIN
        EXECUTE statement;
        SELECT string_agg(DISTINCT kind, ', ' ORDER BY kind) INTO kinds FROM tenancy.ledger_mismatch;
        RAISE EXCEPTION USING ERRCODE = 'TN998';
    EXCEPTION WHEN SQLSTATE 'TN998' THEN NULL;
    END;
    RETURN kinds;
END $$;
SELECT id AS paid FROM bill WHERE slug = 'rev-d' AND amount_paid > 0 LIMIT 1 \gset
SELECT credit_add('rev-d', 5, 'x', 'USD') IS NULL \g /dev/null
SELECT is(breaks(format('UPDATE tenancy.invoice SET amount_paid = amount_paid + 1 WHERE id = %L', :'paid')), 'amount paid, receivable', 'an invoice that says that more was paid');
SELECT is(breaks(format('UPDATE tenancy.invoice SET amount_applied = amount_applied + 1 WHERE id = %L', :'paid')), 'amount applied, receivable', 'or applied');
SELECT is(breaks(format('UPDATE tenancy.invoice SET amount_credited = amount_credited + 1 WHERE id = %L', :'paid')), 'amount credited, receivable', 'or credited');
SELECT is(breaks(format($$INSERT INTO tenancy.invoice (id, tenant_id, legal_entity, purpose, number, state, period_start, period_end, currency, line_count, tax_count, discount_count, subtotal, discount, tax, inclusive_tax, total, deferred, usage_cutoff, payment_terms_days, issued_at, created_at)
    SELECT gen_random_uuid(), tenant_id, legal_entity, 'manual', 'X-1', 'open', period_start, period_end, currency, 0, 0, 0, 100, 0, 7, 0, 107, 20, usage_cutoff, 0, now(), now() FROM tenancy.invoice WHERE id = %L$$, :'paid')), 'deferred revenue, invoice, receivable, tax', 'an invoice that was never posted');
SELECT is(breaks($$UPDATE tenancy.credit SET remaining = remaining - 1 WHERE reason = 'x'$$), 'credit, credit remaining', 'a credit of which something is missing');
SELECT is(breaks($$UPDATE tenancy.payment SET captured = captured + 1$$), 'cash', 'a payment that came to more');
SELECT is(breaks($$UPDATE tenancy.refund SET amount = amount + 1$$), 'refunded', 'a refund that came to more');
SELECT is(breaks($$UPDATE tenancy.revenue_recognition SET recognized = recognized + 1$$), 'deferred revenue', 'revenue that was earned and not posted');
SELECT is(breaks($$INSERT INTO tenancy.ledger_transaction VALUES (gen_random_uuid(), 'rev-d'::regtenant, 'default', 'payment', gen_random_uuid(), '', 'USD', now(), now(), '')$$), 'transaction', 'a transaction without entries');
SELECT is(breaks($$WITH t AS (INSERT INTO tenancy.ledger_transaction VALUES (gen_random_uuid(), 'rev-d'::regtenant, 'default', 'payment', gen_random_uuid(), '', 'USD', now(), now(), '') RETURNING id)
    INSERT INTO tenancy.ledger_entry SELECT t.id, p, 'rev-a'::regtenant, (ARRAY['promotion', 'write_off'])[p], 'USD', (ARRAY[1, -1])[p] FROM t, generate_series(1, 2) p$$), 'transaction', 'entries of another tenant');
SELECT is(breaks($$WITH t AS (INSERT INTO tenancy.ledger_transaction VALUES (gen_random_uuid(), 'rev-d'::regtenant, 'default', 'payment', gen_random_uuid(), '', 'USD', now(), now(), '') RETURNING id)
    INSERT INTO tenancy.ledger_entry SELECT t.id, p, 'rev-d'::regtenant, (ARRAY['cash', 'customer_credit', 'receivable', 'tax_payable'])[p], 'USD', (ARRAY[4, -1, -1, -2])[p] FROM t, generate_series(1, 4) p$$), 'cash, credit, receivable, tax', 'what was posted without a document');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'and all was undone');

-- rights
CREATE ROLE rev_auditor IN ROLE tenancy_auditor;
SET ROLE rev_auditor;
SELECT ok((SELECT count(*) > 0 FROM receivables_aged()), 'an auditor sees receivables');
SELECT ok((SELECT count(*) > 0 FROM mrr_movements('2026-01-01', '2026-02-01')), 'and revenue');
SELECT is((SELECT count(*) FROM tenancy.ledger_mismatch), 0::bigint, 'and that the books agree');
SELECT throws_ok('SELECT revenue_recognize()', '42501', NULL, 'but recognizes nothing');
RESET ROLE;
DROP ROLE rev_auditor;
BEGIN;
SELECT tenant_context_set('rev-d') \g /dev/null
SELECT throws_ok('SELECT * FROM receivables_aged()', '42501', NULL, 'a tenant sees none of this');
SELECT throws_ok($$SELECT * FROM deferred_revenue_schedule()$$, '42501', NULL, 'no schedule');
SELECT throws_ok($$SELECT * FROM mrr_movements('2026-01-01', '2026-02-01')$$, '42501', NULL, 'no revenue');
SELECT throws_ok('SELECT * FROM tenancy.ledger_mismatch', '42501', NULL, 'no books');
COMMIT;
SELECT * FROM finish();
