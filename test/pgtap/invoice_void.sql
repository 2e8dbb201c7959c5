-- What a void invoice billed is not billed again unless somebody asks, and then once.  Amounts come from arithmetic that is shown.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT metric_create('calls', 'call') \g /dev/null
SELECT plan_create('a100', 'Hundred', 'custom', '{"type": "custom", "base_price": 100, "base_timing": "advance", "setup_fee": 9, "minimum": 150, "currency": "USD", "billing_period": "monthly", "charges": [{"id": "calls", "name": "Calls", "model": "per_unit", "unit_price": 2, "metric": "calls"}]}'),
       plan_create('a200', 'Two hundred', 'custom', '{"type": "custom", "base_price": 200, "base_timing": "advance", "currency": "USD", "billing_period": "monthly"}') \g /dev/null
CREATE VIEW public.bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.lines(invoice uuid) RETURNS TABLE (kind text, charge text, amount numeric) LANGUAGE sql AS 'SELECT kind, charge, amount FROM tenancy.invoice_line l WHERE l.invoice_id = $1 ORDER BY position';

SET tenancy.test_clock = '2026-01-01 00:00:00+00';
SELECT slug FROM tenant_create('again', plan => 'a100', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT s.id AS sub FROM tenancy.subscription s WHERE tenant_id = 'again'::regtenant \gset
SELECT results_eq($$SELECT invoices, total FROM billing_run('2026-01-01 00:00+00')$$, $$VALUES (1::bigint, '{"USD": 109.00}'::jsonb)$$, 'a month in advance, and what is due once');
SELECT id AS first FROM public.bill WHERE slug = 'again' \gset
SELECT invoice_void(:'first', 'mistake') \g /dev/null
SELECT is((SELECT invoices FROM billing_run('2026-01-01 00:00+00')), 0::bigint, 'what was void is not billed again by itself');
SET tenancy.test_clock = '2026-01-11 00:00:00+00';
SELECT subscription_update(:'sub', '{"plan": "a200", "effective": "now", "invoice": "now"}') \g /dev/null
SELECT count(*) FROM billing_run('2026-01-11 00:00+00') \g /dev/null
SELECT id AS change FROM public.bill WHERE slug = 'again' ORDER BY id DESC LIMIT 1 \gset
SELECT results_eq(format('SELECT * FROM public.lines(%L)', :'change'), $$VALUES ('advance', 'base', 135.48)$$, '200 × 21 ÷ 31; nothing comes back of what was not charged');

-- the first invoice is issued again after all: then the unused part of it is credited, by the next
SELECT id AS second FROM invoice_generate('again', '[2026-01-01 00:00+00,2026-02-01 00:00+00)') \gset
SELECT results_eq(format('SELECT state, total, purpose, replaces FROM tenancy.invoice WHERE id = %L', :'second'), format($$VALUES ('draft', 109.00, 'change', %L::uuid)$$, :'first'), 'with the same lines');
SELECT invoice_finalize(:'second') \g /dev/null
SELECT is((SELECT total->>'USD' FROM billing_run('2026-02-01 00:00+00')), '132.26', '200 for February, less 100 × 21 ÷ 31 = 67.74 of January');
SELECT is((invoice_generate('again', '[2026-01-01 00:00+00,2026-02-01 00:00+00)')).id, (SELECT id FROM public.bill WHERE slug = 'again' AND purpose = 'cycle'), 'there is nothing more to be billed again: the same period is the same invoice');
-- a credit of a void invoice counts as given
SELECT invoice_void(id, 'mistake') FROM public.bill WHERE slug = 'again' AND purpose = 'cycle' \g /dev/null
SELECT is((SELECT total->>'USD' FROM billing_run('2026-03-01 00:00+00')), '200.00', 'March; neither February nor the credit come again');
SELECT is((SELECT total FROM invoice_generate('again', '[2026-01-01 00:00+00,2026-02-01 00:00+00)')), 132.26, 'until somebody asks');
SELECT throws_ok(format($$UPDATE tenancy.invoice SET replaces = %L WHERE state = 'draft'$$, :'first'), '23505', NULL, 'and a void invoice is replaced once');
SELECT is((SELECT count(*) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id WHERE l.kind = 'credit' AND i.state <> 'void' AND i.subscription_id = :'sub'), 1::bigint, 'one credit counts');

-- what was committed to was billed, whatever became of it: 150 less 100 in advance less 10 × 2
SET tenancy.test_clock = '2026-01-01 00:00:00+00';
SELECT slug FROM tenant_create('least', plan => 'a100', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT count(*) FROM billing_run('2026-01-01 00:00+00') \g /dev/null
SELECT invoice_void(id, 'mistake') FROM public.bill WHERE slug = 'least' \g /dev/null
SET tenancy.test_clock = '2026-01-10 00:00:00+00';
SELECT usage_record('least', 'calls', 10, 'l1', '2026-01-05 00:00+00') \g /dev/null
SELECT count(*) FROM billing_run('2026-02-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT l.* FROM public.bill b, public.lines(b.id) l WHERE b.slug = 'least' AND b.purpose = 'cycle'$$, $$VALUES ('usage', 'calls', 20.00), ('minimum', NULL, 30.00), ('advance', 'base', 100.00)$$, 'a void invoice does not raise what is missing to the minimum');
-- late usage of a void period: what came late, and no more
SELECT invoice_void(id, 'mistake') FROM public.bill WHERE slug = 'least' AND purpose = 'cycle' \g /dev/null
SELECT pg_sleep(0.01) \g /dev/null
SELECT usage_record('least', 'calls', 3, 'l2', '2026-01-06 00:00+00') \g /dev/null
SELECT count(*) FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT l.kind, l.amount, l.quantity FROM public.bill b JOIN tenancy.invoice_line l ON l.invoice_id = b.id WHERE b.slug = 'least' AND l.kind = 'late' AND l.charge = 'calls'$$, $$VALUES ('late', 6.00, 13::numeric)$$, '3 × 2 of the void month');

-- items
SELECT slug FROM tenant_create('item', plan => 'a200', isolation => 'pool', starts_at => '2026-03-01 00:00+00') \g /dev/null
SELECT id AS item FROM invoice_item_add('item', 'Extra', 7, 'USD') \gset
SELECT count(*) FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT id AS with_item FROM public.bill WHERE slug = 'item' \gset
SELECT results_eq(format('SELECT * FROM public.lines(%L)', :'with_item'), $$VALUES ('advance', 'base', 200.00), ('manual', NULL, 7.00)$$, 'an item beside a subscription');
SELECT invoice_void(:'with_item', 'mistake') \g /dev/null
SELECT is((SELECT invoice_id FROM tenancy.invoice_item WHERE id = :'item'), NULL, 'is to be billed once more when it is void');
SELECT id AS anew FROM invoice_generate('item', '[2026-03-01 00:00+00,2026-04-01 00:00+00)') \gset
SELECT is((SELECT invoice_id FROM tenancy.invoice_item WHERE id = :'item'), :'anew', 'an invoice that replaces it takes it again');
SELECT invoice_void((invoice_finalize(:'anew')).id, 'again') \g /dev/null
SELECT id AS alone FROM invoice_generate('item') \gset
SELECT results_eq(format('SELECT * FROM public.lines(%L)', :'alone'), $$VALUES ('manual', NULL::text, 7.00)$$, 'or the next one does');
SELECT throws_ok($$SELECT invoice_generate('item', '[2026-03-01 00:00+00,2026-04-01 00:00+00)')$$, '55000', 'the void invoice of the period cannot be billed again', 'then the same lines would bill it twice');
SELECT is((SELECT count(*) FROM public.bill WHERE replaces = :'anew'), 0::bigint, 'and nothing is left of the attempt');

-- what a pause made void stays so; credit does not pay for it
SELECT slug FROM tenant_create('rest', plan => 'a200', isolation => 'pool', starts_at => '2026-03-01 00:00+00') \g /dev/null
SELECT count(*) FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT id AS rest FROM tenancy.subscription WHERE tenant_id = 'rest'::regtenant \gset
SET tenancy.test_clock = '2026-03-15 00:00:00+00';
SELECT credit_add('rest', 500, 'gift') \g /dev/null
SELECT subscription_pause(:'rest', 'void') \g /dev/null
SELECT count(*) FROM billing_run('2026-04-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT state, total, amount_applied FROM public.bill WHERE slug = 'rest' AND purpose = 'cycle'$$, $$VALUES ('void', 200.00, 0::numeric)$$, 'April in advance is void');
SET tenancy.test_clock = '2026-04-10 00:00:00+00';
SELECT subscription_resume(:'rest') \g /dev/null
SELECT is((SELECT invoices FROM billing_run('2026-04-30 00:00+00')), 0::bigint, 'and is not billed after the pause');
SELECT count(*) FROM billing_run('2026-05-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT state, total FROM public.bill WHERE slug = 'rest' AND purpose = 'cycle' ORDER BY period_start$$, $$VALUES ('void', 200.00), ('paid', 200.00)$$, 'May is, and credit pays for it');

-- given up, paid all the same, paid back, given up once more, and void at last
CREATE FUNCTION public.books(who text) RETURNS TABLE (account text, balance numeric) LANGUAGE sql AS $$
    SELECT e.account, sum(e.amount) FROM tenancy.ledger_entry e WHERE e.tenant_id = who::regtenant GROUP BY 1 HAVING sum(e.amount) <> 0 ORDER BY 1 $$;
SELECT slug FROM tenant_create('fickle', isolation => 'pool') \g /dev/null
SELECT id FROM invoice_item_add('fickle', 'Thing', 100, 'USD') \g /dev/null
SELECT id AS fickle FROM invoice_generate('fickle') \gset
SELECT invoice_write_off((invoice_finalize(:'fickle')).id, 'gone') \g /dev/null
SELECT id AS paid FROM payment_record('fickle', 100, 'late', :'fickle') \gset
SELECT is((SELECT state FROM tenancy.invoice WHERE id = :'fickle'), 'paid', 'what was given up is paid');
SELECT payment_refund(:'paid') \g /dev/null
SELECT is((invoice_write_off(:'fickle', 'gone again')).amount_due, 100.00, 'due again, and given up again');
SELECT results_eq($$SELECT * FROM public.books('fickle')$$, $$VALUES ('revenue', -100.00), ('write_off', 100.00)$$, 'which the ledger has');
SELECT invoice_void(:'fickle', 'mistake') \g /dev/null
SELECT is_empty($$SELECT * FROM public.books('fickle')$$, 'and nothing of it when it is void');
-- a coupon that was given again meanwhile
SELECT code FROM coupon_create('once', '{"kind": "fixed", "value": 10, "currency": "USD"}') \g /dev/null
SELECT coupon_apply('fickle', 'once'), invoice_item_add('fickle', 'Thing', 100, 'USD') \g /dev/null
SELECT id AS discounted FROM invoice_generate('fickle') \gset
SELECT total FROM invoice_finalize(:'discounted') \g /dev/null
SELECT coupon_apply('fickle', 'once') \g /dev/null
SELECT is((invoice_void(:'discounted', 'mistake')).state, 'void', 'does not stand in the way');
SELECT results_eq($$SELECT state FROM tenancy.coupon_redemption WHERE tenant_id = 'fickle'::regtenant ORDER BY id$$, $$VALUES ('used_up'), ('active')$$, 'and is active once');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the ledger has what the documents say');
SELECT * FROM finish();
