-- Credit notes on real invoices.  Amounts come from the golden cases of Lago and Kill Bill, which are named, and from arithmetic that is shown.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-03-01 00:00:00+00';
SELECT id FROM tax_rate_create('vat25', 25, 'VAT') \g /dev/null
SELECT id FROM tax_rate_create('vat20', 20, 'VAT') \g /dev/null
SELECT id FROM tax_rate_create('vat2333', 23.33, 'VAT') \g /dev/null
SELECT id FROM tax_rate_create('vat20i', 20, 'VAT', is_inclusive => true) \g /dev/null
SELECT id FROM legal_entity_set('whole', '{"name": "Whole Ltd", "tax_rounding": "invoice", "tax_rates": ["vat20"], "invoice_series": "W", "credit_note_series": "WCN", "number_width": 4}') \g /dev/null
SELECT slug FROM tenant_create('acme', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('other', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('whole', isolation => 'pool') \g /dev/null
SELECT tenant_id FROM billing_account_set('whole', '{"legal_entity": "whole"}') \g /dev/null

-- An invoice of lines that are billed once: amounts, and the rates of all of them.
CREATE FUNCTION public.bill(who text, prices numeric[], rates text[] DEFAULT '{}', currency text DEFAULT 'USD') RETURNS uuid LANGUAGE sql AS $$
    SELECT invoice_item_add(who, 'Line ' || n, p, currency, tax_rates => rates) FROM unnest(prices) WITH ORDINALITY u(p, n);
    SELECT (invoice_finalize((invoice_generate(who)).id)).id $$;
CREATE FUNCTION public.books(who text) RETURNS TABLE (account text, balance numeric) LANGUAGE sql AS $$
    SELECT e.account, sum(e.amount) FROM tenancy.ledger_entry e WHERE e.tenant_id = who::regtenant GROUP BY 1 HAVING sum(e.amount) <> 0 ORDER BY 1 $$;

-- lago-cn-round-1 to -3: 29 of 30 days of 200.00 and of 160.00 at 25 %, 6 of 7 days of 29.99 at 23.33 %
SELECT public.bill('acme', '{200.00}', '{vat25}') AS r1 \gset
SELECT public.bill('acme', '{160.00}', '{vat25}') AS r2 \gset
SELECT public.bill('acme', '{29.99}', '{vat2333}') AS r3 \gset
SELECT results_eq(format($$SELECT n.number, n.subtotal, n.discount, n.tax, n.total, n.amount_off_due, n.amount_to_credit, n.amount_to_refund, n.line_count, n.tax_count
    FROM credit_note_create(%L, 'unused', jsonb_build_array(jsonb_build_object('position', 1, 'amount', round(200.00 * 29 / 30, 2)))) n$$, :'r1'),
    $$VALUES ('CN-000001', 193.33, 0.00, 48.33, 241.66, 241.66, 0.00, 0.00, 1, 1)$$, 'lago-cn-round-1: 193.33 and 48.33 of tax');
SELECT results_eq(format($$SELECT number, subtotal, tax, total FROM credit_note_create(%L, 'unused', jsonb_build_array(jsonb_build_object('position', 1, 'amount', round(160.00 * 29 / 30, 2))))$$, :'r2'),
    $$VALUES ('CN-000002', 154.67, 38.67, 193.34)$$, 'lago-cn-round-2: 154.67 and 38.67');
SELECT results_eq(format($$SELECT number, subtotal, tax, total FROM credit_note_create(%L, 'unused', jsonb_build_array(jsonb_build_object('position', 1, 'amount', round(29.99 * 6 / 7, 2))))$$, :'r3'),
    $$VALUES ('CN-000003', 25.71, 6.00, 31.71)$$, 'lago-cn-round-3: 25.71 and 6.00');
SELECT results_eq(format('SELECT state, total, amount_credited, amount_due FROM tenancy.invoice WHERE id = %L', :'r1'), $$VALUES ('open', 250.00, 241.66, 8.34)$$, 'what is due is reduced');
SELECT results_eq(format($$SELECT subtotal, tax, total FROM credit_note_create(%L, 'the rest')$$, :'r1'), $$VALUES (6.67, 1.67, 8.34)$$, 'the rest: 200 - 193.33, and 50 - 48.33 of tax');
SELECT results_eq(format('SELECT state, paid_at, amount_due FROM tenancy.invoice WHERE id = %L', :'r1'), $$VALUES ('paid', '2026-03-01 00:00:00+00'::timestamptz, 0.00)$$, 'an invoice of which nothing is due is paid');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'again')$$, :'r1'), '55000', 'nothing is left of invoice "INV-000001" to be credited', 'more than all cannot be credited');

-- lago-cn-sequence: tax of 2 × 68.33 at 20 %, rounded on the invoice, is 27.33: 13.67 with the first line, and the last note takes the 13.66 that are left
SELECT public.bill('whole', '{68.33,68.33}', '{vat20}') AS seq \gset
SELECT results_eq(format('SELECT number, tax, total FROM tenancy.invoice WHERE id = %L', :'seq'), $$VALUES ('W-0001', 27.33, 163.99)$$, 'tax is rounded once for the invoice');
SELECT results_eq(format($$SELECT number, tax, total FROM credit_note_create(%L, 'first', '[{"position": 1}]')$$, :'seq'), $$VALUES ('WCN-0001', 13.67, 82.00)$$, 'lago-cn-sequence: 13.67 and 82.00');
SELECT id FROM legal_entity_set('whole', '{"tax_rounding": "line"}') \g /dev/null
SELECT results_eq(format($$SELECT number, tax, total FROM credit_note_create(%L, 'second', '[{"position": 2}]')$$, :'seq'), $$VALUES ('WCN-0002', 13.66, 81.99)$$, 'then 13.66 and 81.99');

-- kb-item-adj-paid: 100 were paid, 10 are taken back: 90 charged, 10 of credit, nothing due
SELECT public.bill('other', '{100}') AS kb \gset
CREATE FUNCTION public.pay(invoice uuid, amount numeric) RETURNS numeric LANGUAGE sql AS $$
    UPDATE tenancy.invoice i SET amount_paid = i.amount_paid + amount, state = CASE WHEN i.amount_due = amount THEN 'paid' ELSE 'open' END, paid_at = CASE WHEN i.amount_due = amount THEN '2026-02-14 00:00+00'::timestamptz END WHERE i.id = pay.invoice RETURNING amount_paid $$;
SELECT public.pay(:'kb', 100) \g /dev/null
SELECT results_eq(format($$SELECT amount_off_due, amount_to_credit, amount_to_refund FROM credit_note_create(%L, 'adjustment', '[{"position": 1, "amount": 10}]')$$, :'kb'), $$VALUES (0.00, 10.00, 0.00)$$, 'kb-item-adj-paid: what was paid becomes credit');
SELECT results_eq($$SELECT source, reason, amount, remaining FROM tenancy.credit WHERE tenant_id = 'other'::regtenant$$, $$VALUES ('credit_note', 'credit note CN-000005', 10.00, 10.00)$$, '10.00 of it');
SELECT results_eq(format('SELECT i.total - sum(n.total), i.amount_due, i.state, i.paid_at FROM tenancy.invoice i JOIN tenancy.credit_note n ON n.invoice_id = i.id WHERE i.id = %L GROUP BY i.id', :'kb'), $$VALUES (90.00, 0.00, 'paid', '2026-02-14 00:00+00'::timestamptz)$$, '90 are charged, nothing is due, and it has been paid since');
SELECT results_eq($$SELECT * FROM public.books('other')$$, $$VALUES ('customer_credit', -10.00), ('receivable', 100.00), ('revenue', -90.00)$$, 'in the ledger (whose receivable the payment, which this test wrote by hand, has not lowered)');
-- kb-refund-adj: the same, paid out: 90 charged, no credit, nothing due
SELECT results_eq(format($$SELECT amount_off_due, amount_to_credit, amount_to_refund FROM credit_note_create(%L, 'adjustment', '[{"position": 1, "amount": 10}]', 'refund')$$, :'kb'), $$VALUES (0.00, 0.00, 10.00)$$, 'kb-refund-adj: 10.00 are to go back');
SELECT results_eq(format('SELECT amount_credited, amount_due, state FROM tenancy.invoice WHERE id = %L', :'kb'), $$VALUES (10.00, -10.00, 'paid')$$, 'until then the seller owes it');
SELECT is((SELECT count(*) FROM tenancy.credit WHERE tenant_id = 'other'::regtenant), 1::bigint, 'and it is no credit, which invoices would use up');
SELECT results_eq(format($$SELECT amount_to_credit, amount_to_refund FROM credit_note_create(%L, 'all', NULL, 'refund')$$, :'kb'), $$VALUES (0.00, 80.00)$$, 'the rest, too: no more goes back than was paid');

-- part is due, part was paid
SELECT public.bill('other', '{100}') AS part \gset
SELECT results_eq(format('SELECT amount_applied, amount_due FROM tenancy.invoice WHERE id = %L', :'part'), 'VALUES (10.00, 90.00)', 'credit of a note pays for the next invoice');
SELECT public.pay(:'part', 50) \g /dev/null
SELECT results_eq(format($$SELECT amount_off_due, amount_to_credit, amount_to_refund FROM credit_note_create(%L, 'part', '[{"position": 1, "amount": 30}]', 'refund')$$, :'part'), $$VALUES (30.00, 0.00, 0.00)$$, 'what is due goes first');
SELECT results_eq(format($$SELECT amount_off_due, amount_to_credit, amount_to_refund FROM credit_note_create(%L, 'rest', NULL, 'refund')$$, :'part'), $$VALUES (10.00, 10.00, 50.00)$$, '10 were due, 50 paid, and the 10 of credit are credit again');

-- discounts: 10 % off, as two lines share it; the last note takes what is left of each
SELECT slug FROM tenant_create('thrifty', isolation => 'pool') \g /dev/null
SELECT code FROM coupon_create('ten', '{"kind": "percent", "value": 10, "duration": "forever"}') \g /dev/null
SELECT id FROM coupon_apply('thrifty', 'ten') \g /dev/null
SELECT public.bill('thrifty', '{33.33,66.65}', '{vat20}') AS disc \gset
-- 99.98 less 10.00 (99.98 × 10 % = 9.998), of which 3.33 and 6.67 (3.3337 and 6.6663 by largest remainder); tax 6.00 and 12.00 (30.00 and 59.98 × 20 % = 11.996)
SELECT results_eq(format('SELECT subtotal, discount, tax, total FROM tenancy.invoice WHERE id = %L', :'disc'), 'VALUES (99.98, 10.00, 18.00, 107.98)', 'an invoice with a coupon');
SELECT results_eq(format($$SELECT subtotal, discount, tax, total FROM credit_note_create(%L, 'a third', '[{"position": 2, "amount": 22.22}]')$$, :'disc'), 'VALUES (22.22, 2.22, 4.00, 24.00)', '22.22 less 6.67 × 22.22 / 66.65 = 2.22, and 20 % of 20.00');
SELECT results_eq(format($$SELECT subtotal, discount, tax, total FROM credit_note_create(%L, 'a third', '[{"position": 2, "amount": 22.22}]')$$, :'disc'), 'VALUES (22.22, 2.22, 4.00, 24.00)', 'the same again');
SELECT results_eq(format($$SELECT position, credited, corrected, remaining FROM tenancy.creditable_line WHERE invoice_id = %L ORDER BY 1$$, :'disc'), 'VALUES (1, 0::numeric, 0::numeric, 33.33), (2, 44.44, 0, 22.21)', 'what is left can be seen');
SELECT results_eq(format($$SELECT subtotal, discount, tax, total FROM credit_note_create(%L, 'the rest', '[{"position": 1}, {"position": 2}]')$$, :'disc'), 'VALUES (33.33 + 22.21, 10.00 - 2.22 - 2.22, 18.00 - 4.00 - 4.00, 107.98 - 48.00)', 'the last takes what is left');
SELECT results_eq(format($$SELECT sum(n.subtotal), sum(n.discount), sum(n.tax), sum(n.total), sum(n.deferred) FROM tenancy.credit_note n WHERE n.invoice_id = %L$$, :'disc'),
    format('SELECT subtotal, discount, tax, total, deferred FROM tenancy.invoice WHERE id = %L', :'disc'), 'together they are the invoice');
SELECT is_empty($$SELECT * FROM public.books('thrifty')$$, 'and nothing is left in the ledger');

-- taxes that prices include: 120.00 contain 20.00; a third of it contains 6.67, and the last note takes the rest
SELECT public.bill('acme', '{120.00}', '{vat20i}') AS incl \gset
SELECT results_eq(format($$SELECT subtotal, tax, inclusive_tax, total FROM credit_note_create(%L, 'a third', '[{"position": 1, "amount": 40}]')$$, :'incl'), 'VALUES (40.00, 0.00, 6.67, 40.00)', '40 × 20 / 120 = 6.67');
SELECT results_eq(format($$SELECT inclusive_tax, total FROM credit_note_create(%L, 'a third', '[{"position": 1, "amount": 40}]')$$, :'incl'), 'VALUES (6.67, 40.00)', 'again');
SELECT results_eq(format($$SELECT inclusive_tax, total FROM credit_note_create(%L, 'the rest')$$, :'incl'), 'VALUES (6.66, 40.00)', 'and the rest');
SELECT results_eq(format($$SELECT l.net FROM tenancy.credit_note_line l JOIN tenancy.credit_note n ON n.id = l.credit_note_id WHERE l.invoice_id = %L ORDER BY n.number$$, :'incl'), 'VALUES (33.33), (33.33), (33.34)', 'net, they are 100.00');

-- rounded on the invoice: two lines of 1.00 at 7 % within contain 14 / 107 = 0.13, the first 0.07 and the second 0.06 (both 0.0654…); a note over the second has its 0.06
SELECT id FROM tax_rate_create('vat7i', 7, 'VAT', is_inclusive => true) \g /dev/null
SELECT id FROM legal_entity_set('whole', '{"tax_rounding": "invoice"}') \g /dev/null
SELECT public.bill('whole', '{1.00,1.00}', '{vat7i}') AS within \gset
SELECT results_eq(format('SELECT position, net FROM tenancy.invoice_line WHERE invoice_id = %L ORDER BY 1', :'within'), 'VALUES (1, 0.93), (2, 0.94)', 'by largest remainder');
SELECT id AS second FROM credit_note_create(:'within', 'second', '[{"position": 2}]') \gset
SELECT results_eq(format($$SELECT n.inclusive_tax, n.total, x.base, x.amount, l.net FROM tenancy.credit_note n JOIN tenancy.credit_note_tax x ON x.credit_note_id = n.id JOIN tenancy.credit_note_line l ON l.credit_note_id = n.id WHERE n.id = %L$$, :'second'), 'VALUES (0.06, 1.00, 0.94, 0.06, 0.94)', 'lines and taxes of a note add up to it');
SELECT results_eq(format($$SELECT inclusive_tax, total FROM credit_note_create(%L, 'first')$$, :'within'), 'VALUES (0.07, 1.00)', 'and notes to the invoice');
-- 0.02 within 1.00 at 2 %: each quarter contains 0.0049, so the first three 0.00 and the last all; at 2.1 % the first two of four halves of a cent have it
SELECT id FROM tax_rate_create('vat21i', 2.1, 'VAT', is_inclusive => true) \g /dev/null
SELECT public.bill('whole', '{1.00}', '{vat21i}') AS quarters \gset
SELECT results_eq(format($$SELECT (credit_note_create(%L, 'quarter', '[{"position": 1, "amount": 0.25}]')).inclusive_tax FROM generate_series(1, 4)$$, :'quarters'), 'VALUES (0.01), (0.01), (0.00), (0.00)', 'never more tax than the line has left');

-- currencies without decimals, and with three
SELECT public.bill('other', '{1000}', '{vat2333}', 'JPY') AS yen \gset
SELECT results_eq(format($$SELECT subtotal, tax, total FROM credit_note_create(%L, 'x', '[{"position": 1, "amount": 333}]')$$, :'yen'), 'VALUES (333::numeric, 78::numeric, 411::numeric)', 'yen: 333 × 23.33 % = 77.7');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": 0.5}]')$$, :'yen'), '22023', 'the amount of line 1 has more than 0 decimals, which is what JPY has', 'half a yen');
SELECT public.bill('other', '{10.001}', '{vat2333}', 'BHD') AS dinar \gset
SELECT results_eq(format($$SELECT subtotal, tax, total FROM credit_note_create(%L, 'x', '[{"position": 1, "amount": 3.335}]')$$, :'dinar'), 'VALUES (3.335, 0.778, 4.113)', 'dinars: 3.335 × 23.33 % = 0.7780555');

-- lines that gave something back
SELECT public.bill('acme', '{100,-30}', '{vat20}') AS mixed \gset
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1}]')$$, :'mixed'), '22023', 'more would be credited than is left of invoice "INV-000010"', 'notes never come to more than the invoice');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 2}]')$$, :'mixed'), '22023', 'the credit note would be over -36.00 USD', 'nor to less than nothing');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 2, "amount": 5}, {"position": 1}]')$$, :'mixed'), '22023', '5.00 cannot be credited of line 2', 'of a negative line only a negative amount is left');
SELECT results_eq(format($$SELECT subtotal, tax, total, line_count FROM credit_note_create(%L, 'x')$$, :'mixed'), 'VALUES (70.00, 14.00, 84.00, 2)', 'all of it: 70 and 14 of tax');
SELECT public.bill('acme', '{10,-30}') AS negative \gset
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x')$$, :'negative'), '55000', NULL, 'an invoice over less than nothing has nothing to be credited');

-- what was given up
SELECT public.bill('thrifty', '{100}', '{vat20}') AS lost \gset
SELECT state FROM invoice_write_off(:'lost', 'gone') \g /dev/null
SELECT results_eq($$SELECT * FROM public.books('thrifty')$$, $$VALUES ('revenue', -90.00), ('tax_payable', -18.00), ('write_off', 108.00)$$, 'what was given up');
SELECT results_eq(format($$SELECT amount_off_due FROM credit_note_create(%L, 'x', '[{"position": 1, "amount": 50}]')$$, :'lost'), 'VALUES (54.00)', 'can be credited');
SELECT results_eq($$SELECT * FROM public.books('thrifty')$$, $$VALUES ('revenue', -45.00), ('tax_payable', -9.00), ('write_off', 54.00)$$, 'and was less of a loss');
SELECT is((SELECT state FROM tenancy.invoice WHERE id = :'lost'), 'uncollectible', 'the rest stays given up');

-- what was given up and becomes void leaves nothing behind
SELECT slug FROM tenant_create('given', isolation => 'pool') \g /dev/null
SELECT public.bill('given', '{100}', '{vat20}') AS given \gset
SELECT invoice_write_off(:'given', 'gone'), invoice_void(:'given', 'mistake') \g /dev/null
SELECT is_empty($$SELECT * FROM public.books('given')$$, 'what was given up and becomes void leaves nothing in the ledger');

-- faults
SELECT public.bill('acme', '{50,0}') AS plain \gset
SELECT throws_ok($$SELECT credit_note_create(gen_random_uuid(), 'x')$$, '42704', NULL, 'an unknown invoice');
SELECT throws_ok(format($$SELECT credit_note_create(NULL, 'x')$$), '22004', NULL, 'no invoice');
SELECT throws_ok(format($$SELECT credit_note_create(%L, NULL)$$, :'plain'), '22004', NULL, 'no reason');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', use => NULL)$$, :'plain'), '22004', NULL, 'no use');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', use => 'gift')$$, :'plain'), '22023', 'argument "use" must be "credit" or "refund"', 'another use');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '{}')$$, :'plain'), '22023', 'invalid credit note: "lines" must be an array', 'no list');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[]')$$, :'plain'), '22023', 'invalid credit note: "lines" is empty', 'an empty one');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"amount": 1}]')$$, :'plain'), '22023', 'invalid credit note: "lines[0].position" is missing', 'a line that is not named');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": "1"}]')$$, :'plain'), '22023', 'invalid credit note: "lines[0].amount" must be a number', 'a text for an amount');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 3}]')$$, :'plain'), '22023', 'invoice "INV-000014" has no line 3', 'a line that there is not');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1}, {"position": 1}]')$$, :'plain'), '22023', 'line 1 is credited twice', 'one twice');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": 50.01}]')$$, :'plain'), '22023', '50.01 cannot be credited of line 1', 'more than there is');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": 0}]')$$, :'plain'), '22023', NULL, 'nothing of a line');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": -1}]')$$, :'plain'), '22023', NULL, 'less than nothing');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 2}]')$$, :'plain'), '22023', NULL, 'a line over nothing');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": 1.001}]')$$, :'plain'), '22023', NULL, 'a tenth of a cent');
SELECT id FROM invoice_item_add('acme', 'draft', 5, 'USD') \g /dev/null
SELECT id AS draft FROM invoice_generate('acme') \gset
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x')$$, :'draft'), '55000', NULL, 'a draft');
SELECT state FROM invoice_void((invoice_finalize(:'draft')).id, 'x') \g /dev/null
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x')$$, :'draft'), '55000', 'invoice "INV-000015" is void', 'a void one');
SELECT is((SELECT count(*) FROM tenancy.creditable_line WHERE invoice_id = :'draft'), 0::bigint, 'of which nothing is left to be credited');
SELECT results_eq(format($$SELECT number FROM credit_note_create(%L, 'x', '[{"position": 1, "amount": 20}]')$$, :'plain'), format('SELECT %L', 'CN-' || lpad(((SELECT count(*) FROM tenancy.credit_note WHERE number LIKE 'CN-%') + 1)::text, 6, '0')), 'faults have left no gap');
SELECT throws_ok(format($$SELECT invoice_void(%L, 'x')$$, :'plain'), '55000', NULL, 'what was credited in part cannot become void');

-- what was issued stays
SELECT throws_ok('UPDATE tenancy.credit_note SET total = 1', '55000', 'a credit note cannot be changed', 'a credit note stays');
SELECT throws_ok('DELETE FROM tenancy.credit_note', '55000', NULL, 'whoever asks');
SELECT throws_ok('UPDATE tenancy.credit_note_line SET amount = 1', '55000', 'a line of a credit note cannot be changed', 'and its lines');
SELECT throws_ok('DELETE FROM tenancy.credit_note_tax', '55000', 'a tax of a credit note cannot be changed', 'and taxes');
SELECT throws_ok('TRUNCATE tenancy.credit_note_line', '55000', NULL, 'all of them');
SELECT throws_ok('INSERT INTO tenancy.credit_note_line SELECT (pg_catalog.jsonb_populate_record(l, ''{"position": 9}'')).* FROM tenancy.credit_note_line l LIMIT 1', '55000', NULL, 'and none is added');
SELECT throws_ok('INSERT INTO tenancy.credit_note_tax SELECT (pg_catalog.jsonb_populate_record(l, ''{"position": 9}'')).* FROM tenancy.credit_note_tax l LIMIT 1', '55000', NULL, 'nor a tax');
SET session_replication_role = replica;
SELECT throws_ok('DELETE FROM tenancy.credit_note_line', '55000', NULL, 'also as a replica');
RESET session_replication_role;

-- what was billed in advance and is not used is credited by itself: nothing is credited twice
SELECT id FROM plan_create('ahead', 'Ahead', 'custom', '{"type": "fixed", "base_price": 100, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}') \g /dev/null
SET tenancy.test_clock = '2026-04-01 00:00:00+00';
SELECT count(tenant_create(t, isolation => 'pool')) FROM unnest('{first,later,never}'::text[]) t \g /dev/null
SELECT count(subscription_create(t::regtenant, 'ahead', '2026-04-01 00:00+00')) FROM unnest('{first,later,never}'::text[]) t \g /dev/null
SELECT invoices FROM billing_run('2026-04-01 00:00+00') \g /dev/null
CREATE VIEW public.ahead AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id WHERE t.slug IN ('first', 'later', 'never');
SELECT total FROM credit_note_create((SELECT id FROM public.ahead WHERE slug = 'first'), 'bad start', '[{"position": 1, "amount": 40}]') \g /dev/null
SET tenancy.test_clock = '2026-04-16 00:00:00+00';
SELECT count(subscription_cancel(s.id, at_period_end => false)) FROM tenancy.subscription s WHERE s.plan = 'ahead' AND s.tenant_id <> 'never'::regtenant \g /dev/null
SELECT invoices FROM billing_run('2026-04-16 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, total FROM public.ahead WHERE purpose = 'cycle' ORDER BY 1$$, $$VALUES ('first', -30.00), ('later', -50.00)$$, 'half of April is credited: of 100, and of the 60 that a note had left');
SELECT results_eq($$SELECT l.amount, l.credited, l.corrected, l.remaining FROM tenancy.creditable_line l JOIN public.ahead i ON i.id = l.invoice_id WHERE i.purpose = 'change' ORDER BY i.slug$$, 'VALUES (100.00, 40.00, 30.00, 30.00), (100.00, 0, 50.00, 50.00), (100.00, 0, 0, 100.00)', 'and is not left for notes');
SELECT results_eq($$SELECT total FROM credit_note_create((SELECT id FROM public.ahead WHERE slug = 'later' AND purpose = 'change'), 'all')$$, 'VALUES (50.00)', 'a note takes what is left');
SELECT throws_ok($$SELECT credit_note_create((SELECT id FROM public.ahead WHERE slug = 'later' AND purpose = 'change'), 'all')$$, '55000', NULL, 'once');
-- a note after a part was credited takes from what is used: when less of it is used then, nothing is credited again
SELECT id AS never FROM tenancy.subscription WHERE tenant_id = 'never'::regtenant \gset
SELECT count(subscription_cancel(:'never', at => '2026-04-25 00:00+00')) \g /dev/null
SELECT count(*) FROM invoice_item_add('never', 'Else', 5, 'USD') \g /dev/null
UPDATE tenancy.subscription SET bills_at = '2026-04-16 00:00+00' WHERE id = :'never';
SELECT invoices FROM billing_run('2026-04-16 00:00+00') \g /dev/null
SELECT is((SELECT corrected FROM tenancy.creditable_line l JOIN public.ahead i ON i.id = l.invoice_id WHERE i.slug = 'never' AND i.purpose = 'change' ORDER BY i.number LIMIT 1), 20.00, '6 of 30 days are credited');
SELECT is((SELECT total FROM credit_note_create((SELECT id FROM public.ahead WHERE slug = 'never' AND purpose = 'change' ORDER BY number LIMIT 1), 'all')), 80.00, 'and the rest by a note');
SELECT subscription_reactivate(:'never'), subscription_cancel(:'never', at => '2026-04-20 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2026-05-01 00:00+00') \g /dev/null
SELECT is((SELECT sum(i.total) - (SELECT sum(n.total) FROM tenancy.credit_note n WHERE n.tenant_id = 'never'::regtenant) FROM public.ahead i WHERE i.slug = 'never'), 5.00, 'nothing twice: all that is left to pay is the other item');
SET tenancy.test_clock = '2026-03-01 00:00:00+00';

-- all of them add up
SELECT is((SELECT count(*) FROM tenancy.credit_note n WHERE n.subtotal <> (SELECT sum(amount) FROM tenancy.credit_note_line l WHERE l.credit_note_id = n.id)
    OR n.discount <> (SELECT sum(discount) FROM tenancy.credit_note_line l WHERE l.credit_note_id = n.id)
    OR n.tax + n.inclusive_tax <> coalesce((SELECT sum(amount) FROM tenancy.credit_note_tax x WHERE x.credit_note_id = n.id), 0)), 0::bigint, 'every note is the sum of its parts');
SELECT is((SELECT count(*) FROM tenancy.invoice i WHERE (SELECT sum(n.total) FROM tenancy.credit_note n WHERE n.invoice_id = i.id) > i.total), 0::bigint, 'no invoice is credited for more than it was');
SELECT results_eq($$SELECT type, payload->>'number', payload->>'total', payload->>'currency', payload->>'invoice' FROM tenancy.outbox_event WHERE type LIKE 'credit_note%' ORDER BY id LIMIT 1$$, format($$VALUES ('credit_note.created', 'CN-000001', '241.66', 'USD', %L)$$, :'r1'), 'each is told of');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'credit_note.created'), (SELECT count(*) FROM tenancy.credit_note), 'once');

-- explained
SELECT id AS third FROM tenancy.credit_note WHERE invoice_id = :'disc' ORDER BY number DESC LIMIT 1 \gset
SELECT results_eq(format('SELECT * FROM credit_note_explain(%L)', :'third'), $$VALUES
    ('Credit note CN-000012 takes something of invoice INV-000006 back: the rest.'),
    ('Line 1, Line 1: 33.33 of 33.33 USD, less 3.33 of its discount of 3.33.'),
    ('Line 2, Line 2: 22.21 of 66.65 USD, of which credit notes had taken 44.44 before, less 2.23 of its discount of 6.67.'),
    ('VAT of 20 % on 49.98: 10.00 USD, the rest of the 18.00 of the invoice.'),
    ('Lines of 55.54 less discounts of 5.56 plus tax of 10.00: total 59.98 USD.'),
    ('Of that, 59.98 is due no more, 0.00 is credit now, and 0.00 goes back.')$$, 'a note explains itself');
SELECT throws_ok('SELECT * FROM credit_note_explain(gen_random_uuid())', '42704', NULL, 'an unknown one does not');
SELECT is_empty('SELECT * FROM credit_note_explain(NULL)', 'null neither');
SELECT throws_ok('SELECT credit_note_html(gen_random_uuid())', '42704', NULL, 'nor is it a page');
SELECT is(credit_note_html(NULL), NULL, 'nor null');

-- who may
SELECT id AS own_note FROM tenancy.credit_note WHERE tenant_id = 'other'::regtenant LIMIT 1 \gset
BEGIN;
SELECT tenant_context_set('other') \g /dev/null
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.credit_note), 1::bigint, 'a tenant sees its own credit notes');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.credit_note_line), 1::bigint, 'their lines');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.credit_note_tax), 1::bigint, 'and taxes');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.creditable_line), 1::bigint, 'and what is left');
SELECT isnt_empty(format('SELECT * FROM credit_note_explain(%L)', :'own_note'), 'and why');
SELECT throws_ok(format('SELECT * FROM credit_note_explain(%L)', :'third'), '42704', NULL, 'another''s does not exist');
SELECT matches(credit_note_html(:'own_note'), '^<!DOCTYPE html>.*</html>', 'its credit note is a page');
SELECT throws_ok(format('SELECT credit_note_html(%L)', :'third'), '42704', NULL, 'and another''s is none');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'for me')$$, :'kb'), '42501', NULL, 'it credits itself nothing');
ROLLBACK;
SET ROLE tenancy_auditor;
SELECT isnt_empty(format('SELECT * FROM credit_note_explain(%L)', :'third'), 'an auditor reads');
SELECT throws_ok(format($$SELECT credit_note_create(%L, 'x')$$, :'plain'), '42501', NULL, 'and writes nothing');
RESET ROLE;
SET ROLE tenancy_admin;
SELECT lives_ok(format($$SELECT credit_note_create(%L, 'x', '[{"position": 1, "amount": 1}]')$$, :'plain'), 'an administrator does');
RESET ROLE;
SELECT * FROM finish();
