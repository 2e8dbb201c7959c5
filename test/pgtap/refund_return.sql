-- From a credit note to the refund, which fails, succeeds, and is returned by the bank after that.  Amounts by hand.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-03-01 00:00:00+00';
SELECT payment_provider_create('gate', 'standard') \g /dev/null
CREATE FUNCTION public.bill(who text, price numeric) RETURNS uuid LANGUAGE sql AS $$
    SELECT tenant_create(who, isolation => 'pool') WHERE NOT EXISTS (SELECT FROM tenancy.tenant WHERE slug = who);
    SELECT payment_method_add(who, 'gate', 'token of ' || who) WHERE NOT EXISTS (SELECT FROM tenancy.payment_method WHERE token = 'token of ' || who);
    SELECT invoice_item_add(who, 'Thing', price, 'USD');
    SELECT (invoice_finalize((invoice_generate(who)).id)).id $$;
CREATE FUNCTION public.pay(invoice uuid, amount numeric DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    SELECT (payment_result((payment_process(invoice)).id, 'succeeded', 'pi_' || invoice, amount)).id $$;
CREATE FUNCTION public.books(who text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(account || ' ' || balance, ', ' ORDER BY account) FROM (SELECT e.account, sum(e.amount) AS balance FROM tenancy.ledger_entry e WHERE e.tenant_id = who::regtenant GROUP BY 1 HAVING sum(e.amount) <> 0) b $$;
CREATE FUNCTION public.invoice(id uuid) RETURNS text LANGUAGE sql AS 'SELECT concat_ws('' '', state, amount_paid, amount_due) FROM tenancy.invoice i WHERE i.id = $1';
CREATE FUNCTION public.payment(id uuid) RETURNS text LANGUAGE sql AS 'SELECT concat_ws('' '', state, captured, refunded, returned) FROM tenancy.payment p WHERE p.id = $1';

-- 100 paid, 30 taken back by a note that is to be paid out
SELECT public.bill('noted', 100) AS inv \gset
SELECT public.pay(:'inv') AS paid \gset
SELECT id AS note FROM credit_note_create(:'inv', 'broken', '[{"position": 1, "amount": 30}]', 'refund') \gset
SELECT is(public.invoice(:'inv'), 'paid 100.00 -30.00', 'the seller owes 30');
SELECT results_eq(format('SELECT amount, state FROM payment_refund(%L, credit_note => %L)', :'paid', :'note'), $$VALUES (30.00, 'requested')$$, 'which the provider is asked to give back');
SELECT throws_ok(format('SELECT payment_refund(%L, 1, credit_note => %L)', :'paid', :'note'), '55000', NULL, 'once');
SELECT id AS r1 FROM tenancy.refund WHERE credit_note_id = :'note' \gset
SELECT is((refund_result(:'r1', 'failed', failure_code => 'closed_account')).state, 'failed', 'it could not');
SELECT is(public.invoice(:'inv'), 'paid 100.00 -30.00', 'so it is owed still');
SELECT id AS r2 FROM payment_refund(:'paid', credit_note => :'note') \gset
SELECT is((refund_result(:'r2', 'succeeded', 're_2')).state, 'succeeded', 'the second attempt succeeds');
SELECT is(public.invoice(:'inv') || ', ' || public.payment(:'paid'), 'paid 70.00 0.00, succeeded 100.00 30.00 0', 'nothing is owed any more');
SELECT is(public.books('noted'), 'cash 70.00, revenue -70.00', 'in the books');
SELECT is((refund_result(:'r2', 'failed', failure_code => 'lost_account')).state, 'failed', 'then the bank returns it');
SELECT is(public.invoice(:'inv') || ', ' || public.payment(:'paid'), 'paid 100.00 -30.00, succeeded 100.00 0.00 30.00', 'it is owed again');
SELECT is(public.books('noted'), 'cash 100.00, receivable -30.00, revenue -70.00', 'in the books, too');
SELECT is((refund_result(:'r2', 'failed')).failure_code, 'lost_account', 'told twice');
SELECT is(public.payment(:'paid'), 'succeeded 100.00 0.00 30.00', 'it is returned once');
SELECT throws_ok(format($$SELECT refund_result(%L, 'succeeded')$$, :'r2'), '55000', NULL, 'and has not succeeded after that');
SELECT id AS r3 FROM payment_refund(:'paid', credit_note => :'note') \gset
SELECT is((refund_result(:'r3', 'succeeded')).amount, 30.00, 'a third attempt');
SELECT is(public.payment(:'paid') || ', ' || public.books('noted'), 'succeeded 100.00 30.00 30.00, cash 70.00, revenue -70.00', 'ends it');

-- 20 by credit and 80 paid, all taken back: 80 are paid out, and the credit stays credit
SELECT public.bill('mixed', 0.00) \g /dev/null
SELECT credit_add('mixed', 20, 'gift', 'USD') \g /dev/null
SELECT public.bill('mixed', 100) AS inv \gset
SELECT public.pay(:'inv') AS paid \gset
SELECT id AS note FROM credit_note_create(:'inv', 'all', use => 'refund') \gset
SELECT results_eq(format('SELECT amount_to_refund, amount_to_credit FROM tenancy.credit_note WHERE id = %L', :'note'), 'VALUES (80.00, 20.00)', 'what was paid is to be paid out');
SELECT id AS r FROM payment_refund(:'paid', 50, credit_note => :'note') \gset
SELECT refund_result(:'r', 'succeeded') \g /dev/null
SELECT is((SELECT sum(remaining) FROM tenancy.credit WHERE tenant_id = 'mixed'::regtenant), 20.00, 'out of what is kept for it first');
SELECT is((payment_refund(:'paid', credit_note => :'note')).amount, 30.00, 'and the rest of the payment');

-- without a note the invoice is due again, until the money is
SELECT public.bill('plain', 100) AS inv \gset
SELECT public.pay(:'inv') AS paid \gset
SELECT id AS r FROM payment_refund(:'paid', 40) \gset
SELECT refund_result(:'r', 'succeeded') \g /dev/null
SELECT is(public.invoice(:'inv'), 'open 60.00 40.00', '40 are due again');
SELECT refund_result(:'r', 'failed') \g /dev/null
SELECT is(public.invoice(:'inv') || ', ' || public.books('plain'), 'paid 100.00 0.00, cash 100.00, revenue -100.00', 'and paid by what was returned');
-- or it is credit, as what was paid too much
SELECT public.bill('much', 100) AS inv \gset
SELECT public.pay(:'inv', 130) AS paid \gset
SELECT id AS r FROM payment_refund(:'paid', 30) \gset
SELECT refund_result(:'r', 'succeeded') \g /dev/null
SELECT is(public.books('much'), 'cash 100.00, revenue -100.00', 'what was too much has gone');
SELECT refund_result(:'r', 'failed') \g /dev/null
SELECT is(public.books('much'), 'cash 130.00, customer_credit -30.00, revenue -100.00', 'and is credit again');
SELECT is((payment_refund(:'paid', 30)).amount, 30.00, 'which can be refunded again');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the ledger has what the documents say');

-- an invoice of which nothing is due is no longer dunned
SELECT dunning_policy_set('default', '{"retries": [3, 5]}') \g /dev/null
SELECT public.bill('dunned', 100) AS inv \gset
SELECT (payment_result((payment_process(:'inv')).id, 'failed', failure_code => 'declined')).state \g /dev/null
SELECT is((SELECT state FROM tenancy.dunning WHERE invoice_id = :'inv'), 'active', 'an invoice is dunned');
SELECT amount_off_due FROM credit_note_create(:'inv', 'part', '[{"position": 1, "amount": 60}]') \g /dev/null
SELECT is((SELECT state FROM tenancy.dunning WHERE invoice_id = :'inv'), 'active', 'while something is due');
SELECT amount_off_due FROM credit_note_create(:'inv', 'rest') \g /dev/null
SELECT is((SELECT state FROM tenancy.dunning WHERE invoice_id = :'inv'), 'settled', 'and no longer, at once');
SELECT * FROM finish();
