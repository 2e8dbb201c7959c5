-- Payments: attempts, receipts, refunds and disputes, and what each does to invoice, credit and books.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT plan_create('hundred', 'Hundred', 'custom', '{"type": "fixed", "base_price": 100, "currency": "USD", "billing_period": "monthly"}') IS NULL \g /dev/null
SELECT count(tenant_create('pay-' || n, plan => 'hundred', isolation => 'pool', starts_at => '2026-01-01 00:00+00')) FROM generate_series(1, 9) n \g /dev/null
SELECT invoices FROM billing_run('2026-02-01 00:00+00') \g /dev/null
CREATE VIEW bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.invoice_of(slug text, n integer DEFAULT 1) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM bill b WHERE b.slug = $1 ORDER BY period_start, id OFFSET n - 1 LIMIT 1 $$;
CREATE FUNCTION public.books(slug text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(account || ' ' || amount, ', ' ORDER BY account) FROM (
        SELECT account, sum(amount)::numeric(20,2) AS amount FROM tenancy.ledger_entry WHERE tenant_id = slug::regtenant GROUP BY account HAVING sum(amount) <> 0) b $$;
CREATE FUNCTION public.stands(slug text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(state || ' ' || amount_due, ', ' ORDER BY period_start, id) FROM bill b WHERE b.slug = $1 $$;

-- methods
SELECT results_eq($$SELECT provider, token, details, is_default, removed_at FROM payment_method_add('pay-1', 'manual', 'mandate-1', '{"type": "sepa_debit", "last4": "3000"}')$$,
    $$VALUES ('manual', 'mandate-1', '{"type": "sepa_debit", "last4": "3000"}'::jsonb, true, NULL::timestamptz)$$, 'the first method of a tenant is its default');
SELECT is((payment_method_add('pay-1', 'manual', 'mandate-2')).is_default, false, 'the second is not');
SELECT is((payment_method_add('pay-1', 'manual', 'mandate-3', is_default => true)).is_default, true, 'unless it is said so');
SELECT is((SELECT string_agg(token, ',') FROM tenancy.payment_method WHERE is_default), 'mandate-3', 'there is one default');
SELECT id AS m2 FROM tenancy.payment_method WHERE token = 'mandate-2' \gset
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', 'mandate-2')$$, '23505', NULL, 'a method twice');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'nobody', 't')$$, '42704', NULL, 'an unknown provider');
SELECT throws_ok($$SELECT payment_method_add(gen_random_uuid(), 'manual', 't')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', '4242 4242 4242 4242')$$, '22023', 'argument "token" looks like the number of a card', 'the number of a card');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', 't', '{"number": "4242424242424242"}')$$, '22023', NULL, 'details that could pay');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', 't', '{"last4": "42424"}')$$, '22023', NULL, 'more than four digits');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', '')$$, '22023', NULL, 'no token');
SELECT throws_ok($$SELECT payment_method_add('pay-1', NULL, 't')$$, '22004', NULL, 'no provider');
SELECT throws_ok($$SELECT payment_method_add('pay-1', 'manual', 't', NULL)$$, '22004', NULL, 'null for details');
SELECT isnt((payment_method_remove(:'m2')).removed_at, NULL, 'a method is removed');
SELECT throws_ok(format('SELECT payment_method_remove(%L)', :'m2'), '42704', NULL, 'once');
SELECT throws_ok('SELECT payment_method_remove(NULL)', '22004', NULL, 'none at all');

-- an attempt
SELECT id AS i1 FROM bill WHERE slug = 'pay-1' \gset
SELECT id AS p1 FROM payment_process(:'i1') \gset
SELECT results_eq($$SELECT state, amount, captured, currency, provider, attempt FROM tenancy.payment$$, $$VALUES ('requested', 100.00, 0::numeric, 'USD', 'manual', 1)$$, 'an attempt is requested');
SELECT results_eq($$SELECT payload->>'payment', payload->>'token', payload->>'amount', payload->>'currency', payload->>'invoice' FROM tenancy.outbox_event WHERE type = 'payment.requested'$$,
    format('VALUES (%L, %L, %L, %L, %L)', :'p1', 'mandate-3', '100.00', 'USD', :'i1'), 'with a command, once per payment');
SELECT throws_ok(format('SELECT payment_process(%L)', :'i1'), '55000', NULL, 'another has to wait');
SELECT is((payment_result(:'p1', 'processing')).state, 'processing', 'it is processing');
SELECT throws_ok(format('SELECT payment_process(%L)', :'i1'), '55000', NULL, 'and others wait');
SELECT is((payment_result(:'p1', 'failed', failure_code => 'insufficient_funds', failure_message => 'not enough')).state, 'failed', 'it fails');
SELECT results_eq(format('SELECT failure_code, failure_message FROM tenancy.payment WHERE id = %L', :'p1'), $$VALUES ('insufficient_funds', 'not enough')$$, 'for a reason');
SELECT is((payment_result(:'p1', 'processing')).state, 'failed', 'late news is no news');
SELECT id AS p2 FROM payment_process(:'i1') \gset
SELECT is((SELECT attempt FROM tenancy.payment WHERE id = :'p2'), 2, 'the second attempt');
SELECT is((payment_result(:'p2', 'unknown')).state, 'unknown', 'nobody knows what became of it');
SELECT throws_ok(format('SELECT payment_process(%L)', :'i1'), '55000', NULL, 'so nobody tries again');
SELECT is((payment_result(:'p2', 'succeeded', 'ch_2')).state, 'succeeded', 'until somebody knows');
SELECT is(stands('pay-1'), 'paid 0.00', 'the invoice is paid');
SELECT is((SELECT paid_at FROM bill WHERE id = :'i1'), '2026-02-01 00:00+00'::timestamptz, 'since then');
SELECT is(books('pay-1'), 'cash 100.00, revenue -100.00', 'and so say the books');
SELECT is((payment_result(:'p2', 'succeeded', 'ch_2')).state, 'succeeded', 'told twice');
SELECT is((payment_result(:'p2', 'failed')).state, 'succeeded', 'or otherwise, the money stays');
SELECT is(books('pay-1'), 'cash 100.00, revenue -100.00', 'nothing is posted twice');
SELECT throws_ok(format('SELECT payment_process(%L)', :'i1'), '55000', NULL, 'a paid invoice is not collected');
SELECT is((SELECT string_agg(type, ',' ORDER BY id) FROM tenancy.outbox_event WHERE type LIKE 'payment.%'), 'payment.requested,payment.failed,payment.requested,payment.unknown,payment.succeeded', 'all was told');
-- an attempt that failed and has succeeded all the same
SELECT is((payment_result(:'p1', 'succeeded', 'ch_1')).state, 'succeeded', 'money that came in late');
SELECT is(books('pay-1'), 'cash 200.00, customer_credit -100.00, revenue -100.00', 'is credit of the tenant');

-- what is refused
SELECT id AS i2 FROM bill WHERE slug = 'pay-2' \gset
SELECT throws_ok(format('SELECT payment_process(%L)', :'i2'), '55000', NULL, 'no method');
SELECT throws_ok(format('SELECT payment_process(%L, (SELECT id FROM tenancy.payment_method WHERE is_default))', :'i2'), '42704', NULL, 'the method of another tenant');
SELECT throws_ok('SELECT payment_process(gen_random_uuid())', '42704', NULL, 'an unknown invoice');
SELECT throws_ok('SELECT payment_process(NULL)', '22004', NULL, 'no invoice');
SELECT id AS m FROM payment_method_add('pay-2', 'manual', 'x') \gset
SELECT throws_ok(format('SELECT payment_process(%L, amount => 100.01)', :'i2'), '22023', NULL, 'more than is due');
SELECT throws_ok(format('SELECT payment_process(%L, amount => 0)', :'i2'), '22023', NULL, 'nothing');
SELECT throws_ok(format('SELECT payment_process(%L, amount => 0.001)', :'i2'), '22023', NULL, 'a part of a cent');
SELECT throws_ok($$SELECT payment_result(gen_random_uuid(), 'failed')$$, '42704', NULL, 'an unknown payment');
SELECT throws_ok(format('SELECT payment_result(%L, %L)', :'p1', 'paid'), '22023', NULL, 'an unknown status');
SELECT throws_ok(format('SELECT payment_result(%L, NULL)', :'p1'), '22004', NULL, 'no status');
SELECT throws_ok(format('SELECT payment_result(%L, %L, amount => 5)', :'p1', 'failed'), '22023', NULL, 'an amount that failed');
-- parts
SELECT id AS p3 FROM payment_process(:'i2', :'m', 30) \gset
SELECT is((payment_result(:'p3', 'succeeded')).captured, 30.00, 'a part is collected');
SELECT is(stands('pay-2'), 'open 70.00', 'and the rest is due');
SELECT throws_ok(format('SELECT payment_failed(%L)', :'i2'), '55000', NULL, 'no attempt is under way that could fail');
SELECT id AS p4 FROM payment_process(:'i2') \gset
SELECT is((SELECT amount FROM tenancy.payment WHERE id = :'p4'), 70.00, 'which the next attempt asks for');
SELECT results_eq(format($$SELECT id, state, failure_code FROM payment_failed(%L, 'lost_card')$$, :'i2'), format($$VALUES (%L::uuid, 'failed', 'lost_card')$$, :'p4'), 'it fails');
SELECT throws_ok('SELECT payment_failed(gen_random_uuid())', '42704', NULL, 'of an unknown invoice nothing does');
SELECT throws_ok('SELECT payment_failed(NULL)', '22004', NULL, 'of none neither');

-- receipts
SELECT results_eq($$SELECT state, amount, captured, provider_reference, provider FROM payment_record('pay-3', 60, 'wire 1', invoice_of('pay-3'))$$, $$VALUES ('succeeded', 60.00, 60.00, 'wire 1', 'manual')$$, 'a bank transfer');
SELECT is(stands('pay-3'), 'open 40.00', 'pays a part');
SELECT is((SELECT count(*) FROM payment_record('pay-3', 60, 'wire 1', invoice_of('pay-3'))), 1::bigint, 'the same receipt again');
SELECT is(stands('pay-3'), 'open 40.00', 'pays nothing twice');
SELECT throws_ok($$SELECT payment_record('pay-3', 61, 'wire 1')$$, '23505', NULL, 'with another amount it is an error');
SELECT throws_ok($$SELECT payment_record('pay-4', 60, 'wire 1')$$, '23505', NULL, 'and of another tenant');
SELECT id AS w2 FROM payment_record('pay-3', 65, 'wire 2', invoice_of('pay-3')) \gset
SELECT is(stands('pay-3'), 'paid 0.00', 'too much pays it');
SELECT is((SELECT remaining || ' ' || source FROM tenancy.credit WHERE tenant_id = 'pay-3'::regtenant), '25.00 overpayment', 'and the rest is credit');
SELECT is(books('pay-3'), 'cash 125.00, customer_credit -25.00, revenue -100.00', 'in the books, too');
-- the credit pays the next invoice
SET tenancy.test_clock = '2026-03-01 00:00:00+00';
SELECT invoices FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT is(stands('pay-3'), 'paid 0.00, open 75.00', 'the next invoice uses the credit up');
SELECT is(books('pay-3'), 'cash 125.00, receivable 75.00, revenue -200.00', 'and 75 are owed');
-- what names no invoice goes to the oldest
SELECT is(stands('pay-4'), 'open 100.00, open 100.00', 'two invoices are open');
SELECT id AS w4 FROM payment_record('pay-4', 150, 'wire 4') \gset
SELECT is(stands('pay-4'), 'paid 0.00, open 50.00', 'the oldest is paid first');
SELECT throws_ok($$SELECT payment_record('pay-4', 0, 'w')$$, '22023', NULL, 'nothing came in');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, NULL)$$, '22004', NULL, 'no reference');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w', invoice_of('pay-3'))$$, '42704', NULL, 'an invoice of another tenant');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w', invoice_of('pay-4'), 'EUR')$$, '22023', NULL, 'another currency than that of the invoice');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w', currency => 'XYZ')$$, '22023', NULL, 'an unknown currency');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w', provider => 'none')$$, '42704', NULL, 'an unknown provider');
SELECT payment_provider_create('card', 'stripe') IS NULL \g /dev/null
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w', provider => 'card')$$, '55000', NULL, 'one that tells by webhooks');
SELECT is((payment_record('pay-4', 7, 'wire 5', currency => 'EUR')).currency, 'EUR', 'another currency');
SELECT results_eq($$SELECT currency, remaining FROM tenancy.credit_balance WHERE tenant_id = 'pay-4'::regtenant$$, $$VALUES ('EUR', 7.00)$$, 'is credit in it');
-- a receipt answers the attempt that waits for it
SELECT id FROM payment_method_add('pay-5', 'manual', 'standing order') \g /dev/null
SELECT id AS p5 FROM payment_process(invoice_of('pay-5')) \gset
SELECT is((payment_record('pay-5', 100, 'wire 6', invoice_of('pay-5'))).id, :'p5'::uuid, 'a receipt for an attempt is no payment of its own');
SELECT is(stands('pay-5'), 'paid 0.00, open 100.00', 'and pays the invoice');

-- refunds
SELECT results_eq(format($$SELECT state, amount, reason FROM payment_refund(%L, 20, 'goodwill')$$, :'p5'), $$VALUES ('succeeded', 20.00, 'goodwill')$$, 'a part goes back');
SELECT is(stands('pay-5'), 'open 20.00, open 100.00', 'and is due again');
SELECT is((SELECT paid_at FROM bill WHERE id = invoice_of('pay-5')), NULL, 'the invoice is paid no more');
SELECT results_eq(format('SELECT state, captured, refunded FROM tenancy.payment WHERE id = %L', :'p5'), $$VALUES ('succeeded', 100.00, 20.00)$$, 'the payment has succeeded, less that');
SELECT is(books('pay-5'), 'cash 80.00, receivable 120.00, revenue -200.00', 'so say the books');
SELECT throws_ok(format('SELECT payment_refund(%L, 80.01)', :'p5'), '22023', NULL, 'not more than came in');
SELECT throws_ok(format('SELECT payment_refund(%L, 0)', :'p5'), '22023', NULL, 'nor nothing');
SELECT throws_ok(format('SELECT payment_refund(%L, 0.001)', :'p5'), '22023', NULL, 'nor a part of a cent');
SELECT is((payment_refund(:'p5')).amount, 80.00, 'the rest goes back');
SELECT is((SELECT state FROM tenancy.payment WHERE id = :'p5'), 'refunded', 'all of it is refunded');
SELECT throws_ok(format('SELECT payment_refund(%L)', :'p5'), '55000', NULL, 'and nothing more can be');
SELECT is(books('pay-5'), 'receivable 200.00, revenue -200.00', 'as if nobody had paid');
SELECT throws_ok('SELECT payment_refund(gen_random_uuid())', '42704', NULL, 'an unknown payment');
SELECT throws_ok('SELECT payment_refund(NULL)', '22004', NULL, 'none at all');
SELECT throws_ok(format('SELECT payment_refund(%L, credit_note => gen_random_uuid())', :'w4'), '42704', NULL, 'an unknown credit note');
-- an overpayment goes back first, as credit
SELECT id AS w6 FROM payment_record('pay-6', 130, 'wire 7', invoice_of('pay-6')) \gset
SELECT is((payment_refund(:'w6', 30)).state, 'succeeded', 'what was too much goes back');
SELECT is(stands('pay-6'), 'paid 0.00, open 100.00', 'and the invoice stays paid');
SELECT is(books('pay-6'), 'cash 100.00, receivable 100.00, revenue -200.00', 'the credit is gone');
-- credit that an invoice has used is taken back from it
SELECT is(stands('pay-3'), 'paid 0.00, open 75.00', 'an overpayment of 25 pays another invoice');
SELECT is((payment_refund(:'w2')).amount, 65.00, 'all of the payment goes back');
SELECT is(stands('pay-3'), 'open 40.00, open 100.00', 'both are due again');
SELECT is(books('pay-3'), 'cash 60.00, receivable 140.00, revenue -200.00', 'in the books, too');
SELECT is((SELECT count(*) FROM tenancy.credit c WHERE remaining <> amount + coalesce((SELECT sum(e.amount) FROM tenancy.credit_entry e WHERE e.credit_id = c.id), 0)), 0::bigint, 'credits are what became of them');

-- refunds that a provider makes
SELECT id FROM payment_method_add('pay-7', 'card', 'pm_7') \g /dev/null
SELECT id AS p7 FROM payment_process(invoice_of('pay-7')) \gset
SELECT is((payment_result(:'p7', 'succeeded', 'pi_7')).state, 'succeeded', 'a card pays');
SELECT id AS r7 FROM payment_refund(:'p7', 40) \gset
SELECT is((SELECT state FROM tenancy.refund WHERE id = :'r7'), 'requested', 'the provider is asked for a refund');
SELECT results_eq($$SELECT payload->>'refund', payload->>'provider_reference', payload->>'amount' FROM tenancy.outbox_event WHERE type = 'payment.refund_requested'$$, format($$VALUES (%L, 'pi_7', '40.00')$$, :'r7'), 'by a command');
SELECT is(stands('pay-7'), 'paid 0.00, open 100.00', 'until it has gone nothing changes');
SELECT throws_ok(format('SELECT payment_refund(%L, 61)', :'p7'), '22023', NULL, 'what is under way cannot go back again');
SELECT is((refund_result(:'r7', 'processing')).state, 'processing', 'it is processing');
SELECT is((refund_result(:'r7', 'unknown')).state, 'unknown', 'nobody knows');
SELECT is((refund_result(:'r7', 'succeeded', 're_7')).state, 'succeeded', 'it has gone');
SELECT is((refund_result(:'r7', 'succeeded')).state, 'succeeded', 'told twice');
SELECT throws_ok(format($$SELECT refund_result(%L, 'processing')$$, :'r7'), '55000', NULL, 'it is not under way again');
SELECT is(stands('pay-7'), 'open 40.00, open 100.00', 'and is due again');
SELECT id AS r7b FROM payment_refund(:'p7', 60) \gset
SELECT is((refund_result(:'r7b', 'failed', failure_code => 'expired_card')).failure_code, 'expired_card', 'another fails');
SELECT is((SELECT refunded FROM tenancy.payment WHERE id = :'p7'), 40.00, 'and takes nothing');
SELECT throws_ok($$SELECT refund_result(gen_random_uuid(), 'failed')$$, '42704', NULL, 'an unknown refund');
SELECT throws_ok(format($$SELECT refund_result(%L, 'gone')$$, :'r7'), '22023', NULL, 'an unknown status');
SELECT throws_ok($$SELECT refund_result(NULL, 'failed')$$, '22004', NULL, 'no refund');

-- credit that came later pays an invoice that is open
SELECT slug FROM tenant_create('pay-c', plan => 'hundred', isolation => 'pool', starts_at => '2026-02-01 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT is((credit_use(invoice_of('pay-c'))).amount_due, 100.00, 'there is none');
SELECT credit_add('pay-c', 30, 'sorry') IS NULL \g /dev/null
SELECT is((credit_use(invoice_of('pay-c'))).amount_due, 70.00, 'a part');
SELECT credit_add('pay-c', 80, 'very sorry') IS NULL \g /dev/null
SELECT is((credit_use(invoice_of('pay-c'))).state, 'paid', 'and the rest');
SELECT is(books('pay-c'), 'customer_credit -10.00, promotion 110.00, revenue -100.00', 'in the books, too');
SELECT throws_ok($$SELECT credit_use(invoice_of('pay-c'))$$, '55000', NULL, 'once');
SELECT throws_ok('SELECT credit_use(gen_random_uuid())', '42704', NULL, 'an unknown invoice');
SELECT throws_ok('SELECT credit_use(NULL)', '22004', NULL, 'none at all');

-- refunds of credit notes: what is refunded is not due again
SELECT count(tenant_create('pay-n' || n, plan => 'hundred', isolation => 'pool', starts_at => '2026-02-01 00:00+00')) FROM generate_series(1, 2) n \g /dev/null
SELECT invoices FROM billing_run('2026-03-01 00:00+00') \g /dev/null
-- Kill Bill's example: 100 billed, 10 taken back, 100 paid, 10 refunded; 90 are charged and nothing is left
SELECT id AS n1 FROM payment_record('pay-n1', 100, 'wire n1') \gset
SELECT id AS c1 FROM credit_note_create(invoice_of('pay-n1'), 'adjustment', '[{"position": 1, "amount": 10}]') \gset
SELECT is((SELECT remaining FROM tenancy.credit WHERE document_id = :'c1'), 10.00, 'a credit note makes 10 of what was paid credit');
SELECT throws_ok(format('SELECT payment_refund(%L, 10.01, credit_note => %L)', :'n1', :'c1'), '22023', NULL, 'no more than that is refunded by it');
SELECT results_eq(format('SELECT amount, state, credit_note_id FROM payment_refund(%L, credit_note => %L)', :'n1', :'c1'), format($$VALUES (10.00, 'succeeded', %L::uuid)$$, :'c1'), 'which goes back');
SELECT is(stands('pay-n1'), 'paid 0.00', 'the invoice stays paid');
SELECT is(books('pay-n1'), 'cash 90.00, revenue -90.00', '90 are charged and paid, and nothing is left');
SELECT throws_ok(format('SELECT payment_refund(%L, credit_note => %L)', :'n1', :'c1'), '55000', NULL, 'once');
-- a credit note that keeps what is to be refunded
SELECT id AS n2 FROM payment_record('pay-n2', 100, 'wire n2') \gset
SELECT id AS c2 FROM credit_note_create(invoice_of('pay-n2'), 'adjustment', '[{"position": 1, "amount": 30}]', 'refund') \gset
SELECT is(stands('pay-n2'), 'paid -30.00', 'less than nothing is due');
SELECT is((payment_refund(:'n2', 10, credit_note => :'c2')).state, 'succeeded', 'a part of it goes back');
SELECT is(stands('pay-n2'), 'paid -20.00', 'and 20 are left');
SELECT is((payment_refund(:'n2', credit_note => :'c2')).amount, 20.00, 'then the rest');
SELECT is(stands('pay-n2'), 'paid 0.00', 'and all is even');
SELECT is(books('pay-n2'), 'cash 70.00, revenue -70.00', 'in the books, too');
SELECT throws_ok(format('SELECT payment_refund(%L, credit_note => %L)', :'n2', :'c2'), '55000', NULL, 'and nothing more');
SELECT throws_ok(format('SELECT payment_refund(%L, credit_note => %L)', :'n1', :'c2'), '42704', NULL, 'nor of another tenant');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');

-- disputes
SELECT id AS p8 FROM payment_record('pay-8', 100, 'wire 8', invoice_of('pay-8')) \gset
SELECT results_eq(format($$SELECT state, dispute_state, disputed FROM payment_dispute(%L, 'open')$$, :'p8'), $$VALUES ('disputed', 'open', 100.00)$$, 'a dispute is opened');
SELECT is(books('pay-8'), 'disputed 100.00, receivable 100.00, revenue -200.00', 'the provider holds the money');
SELECT is(stands('pay-8'), 'paid 0.00, open 100.00', 'the invoice stays paid');
SELECT throws_ok(format('SELECT payment_refund(%L)', :'p8'), '55000', NULL, 'it cannot go back meanwhile');
SELECT is((payment_dispute(:'p8', 'won')).state, 'succeeded', 'it is won');
SELECT is(books('pay-8'), 'cash 100.00, receivable 100.00, revenue -200.00', 'and the money is there again');
SELECT is((payment_dispute(:'p8', 'open')).state, 'succeeded', 'what comes late opens it no more');
SELECT id AS p9 FROM payment_record('pay-9', 100, 'wire 9', invoice_of('pay-9')) \gset
SELECT is((payment_dispute(:'p9', 'open', 60)).disputed, 60.00, 'a part is disputed');
SELECT is((payment_dispute(:'p9', 'lost')).state, 'disputed', 'and lost');
SELECT is(stands('pay-9'), 'open 60.00, open 100.00', 'it is due again');
SELECT is(books('pay-9'), 'cash 40.00, receivable 160.00, revenue -200.00', 'in the books, too');
SELECT is((payment_refund(:'p9')).amount, 40.00, 'the rest can go back');
SELECT throws_ok(format($$SELECT payment_dispute(%L, 'lost')$$, :'p4'), '55000', NULL, 'what never came in cannot be disputed');
SELECT throws_ok(format($$SELECT payment_dispute(%L, 'maybe')$$, :'p9'), '22023', NULL, 'an unknown outcome');
SELECT throws_ok(format($$SELECT payment_dispute(%L, 'open', 101)$$, :'p9'), '22023', NULL, 'more than came in');
SELECT throws_ok($$SELECT payment_dispute(gen_random_uuid(), 'open')$$, '42704', NULL, 'an unknown payment');
SELECT throws_ok($$SELECT payment_dispute(NULL, 'open')$$, '22004', NULL, 'none at all');

-- what was given up, and is paid all the same
SELECT is((invoice_write_off(invoice_of('pay-9', 2), 'gone')).state, 'uncollectible', 'an invoice is given up');
SELECT is(books('pay-9'), 'receivable 100.00, revenue -200.00, write_off 100.00', 'and is no receivable any more');
SELECT id AS p10 FROM payment_record('pay-9', 100, 'wire 10', invoice_of('pay-9', 2)) \gset
SELECT is(stands('pay-9'), 'open 100.00, paid 0.00', 'paid after all');
SELECT is(books('pay-9'), 'cash 100.00, receivable 100.00, revenue -200.00', 'it is a loss no more');


SELECT throws_ok('UPDATE tenancy.payment_allocation SET amount = 1', '55000', NULL, 'where money went stays');
SELECT throws_ok('DELETE FROM tenancy.payment_allocation', '55000', NULL, 'all of it');
SELECT is((SELECT sum(debit - credit) FROM tenancy.trial_balance), 0::numeric, 'the books balance');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'and agree with all documents');

-- rights
BEGIN;
SELECT tenant_context_set('pay-8') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.payment), 1::bigint, 'a tenant sees its payments');
SELECT is((SELECT count(*) FROM tenancy.payment_allocation), 1::bigint, 'and where they went');
SELECT is((SELECT count(*) FROM tenancy.refund), 0::bigint, 'no refund of another');
SELECT throws_ok(format('SELECT payment_refund(%L)', :'p8'), '42501', NULL, 'and gives itself nothing back');
COMMIT;
BEGIN;
SELECT tenant_context_set('pay-7') \g /dev/null
SELECT is((SELECT count(id) FROM tenancy.payment_method), 1::bigint, 'a tenant sees its methods');
SELECT throws_ok('SELECT token FROM tenancy.payment_method', '42501', NULL, 'but not the tokens');
COMMIT;
CREATE ROLE pay_auditor IN ROLE tenancy_auditor;
CREATE ROLE pay_app IN ROLE tenancy_app;
SET ROLE pay_auditor;
SELECT is((SELECT count(*) > 5 FROM tenancy.payment), true, 'an auditor sees all payments');
SELECT throws_ok(format($$SELECT payment_result(%L, 'succeeded')$$, :'p1'), '42501', NULL, 'and says nothing');
SELECT throws_ok($$SELECT payment_record('pay-4', 5, 'w')$$, '42501', NULL, 'records nothing');
SELECT throws_ok(format('SELECT credit_use(%L)', :'i1'), '42501', NULL, 'uses no credit');
RESET ROLE;
SET ROLE pay_app;
SELECT throws_ok(format('SELECT payment_process(%L)', :'i1'), '42501', NULL, 'the gateway collects nothing');
SELECT throws_ok('SELECT * FROM tenancy.payment_provider_secret', '42501', NULL, 'nobody reads secrets');
RESET ROLE;
SET ROLE tenancy_admin;
SELECT throws_ok('SELECT * FROM tenancy.payment_provider_secret', '42501', NULL, 'administrators neither');
RESET ROLE;
DROP ROLE pay_auditor, pay_app;

-- secrets
SELECT is_empty($$SELECT t, r FROM unnest('{tenancy.payment_provider_secret,tenancy.endpoint_key}'::regclass[]) t, unnest('{tenancy_admin,tenancy_app,tenancy_auditor,tenancy_tenant,pg_monitor}'::regrole[]) r
    WHERE has_table_privilege(r, t, 'SELECT') OR has_any_column_privilege(r, t, 'SELECT')$$, 'nobody but the library reads secrets');
SELECT * FROM finish();
