-- Who sells, who pays, and taxes, on real invoices.  Amounts are computed by hand, beside each.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-03-01 00:00:00+00';

-- rates
SELECT results_eq($$SELECT id, name, percentage, is_inclusive, category, country, active FROM tax_rate_create('de19', 19, 'VAT', country => 'DE')$$, $$VALUES ('de19', 'VAT', 19::numeric, false, 'S', 'DE', true)$$, 'a rate');
SELECT results_eq($$SELECT name, is_inclusive, category, country FROM tax_rate_create('in20', 20, is_inclusive => true)$$, $$VALUES ('in20', true, 'S', NULL::text)$$, 'its name is its id without another');
SELECT throws_ok($$SELECT tax_rate_create('de19', 20)$$, '23505', NULL, 'one that is there');
SELECT throws_ok($$SELECT tax_rate_create('x', 5, category => 'Q')$$, '22023', NULL, 'an unknown category');
SELECT throws_ok($$SELECT tax_rate_create('x', 5, country => 'Germany')$$, '22023', NULL, 'no country');
SELECT throws_ok($$SELECT tax_rate_create('x', -1)$$, '22023', NULL, 'less than nothing');
SELECT throws_ok($$SELECT tax_rate_create('x', 1000)$$, '22023', NULL, 'a thousand percent');
SELECT throws_ok($$SELECT tax_rate_create('', 1)$$, '22023', NULL, 'no name at all');
SELECT throws_ok($$SELECT tax_rate_create(repeat('x', 64), 1)$$, '22023', NULL, 'too long a one');
SELECT throws_ok($$SELECT tax_rate_create(NULL, 1)$$, '22004', NULL, 'null for an id');
SELECT throws_ok($$SELECT tax_rate_create('x', NULL)$$, '22004', NULL, 'null for a percentage');
SELECT throws_ok($$SELECT tax_rate_create('x', 'NaN')$$, '22003', NULL, 'what is no number');
SELECT id FROM tax_rate_create('old', 16) \g /dev/null
SELECT results_eq($$SELECT id, active FROM tax_rate_retire('old')$$, $$VALUES ('old', false)$$, 'a rate is retired');
SELECT throws_ok($$SELECT tax_rate_retire('nothing')$$, '42704', NULL, 'an unknown one is not');
SELECT throws_ok($$SELECT tax_rate_retire(NULL)$$, '22004', NULL, 'nor null');

-- sellers: every member, and what stays
SELECT results_eq($$SELECT id, name, country, invoice_series, credit_note_series, number_width, tax_rounding, zero_invoices, payment_terms_days, tax_rates FROM legal_entity_set('acme-eu', '{}')$$,
    $$VALUES ('acme-eu', 'acme-eu', NULL::text, 'ACME-EU-INV', 'ACME-EU-CN', 6, 'line', 'issue', 14, '{}'::text[])$$, 'defaults');
SELECT results_eq($$SELECT name, address, country, tax_id, email, bank_account, invoice_series, credit_note_series, number_width, tax_rounding, zero_invoices, payment_terms_days, tax_rates FROM legal_entity_set('acme-eu',
    '{"name": "Acme", "address": {"line1": "a", "line2": "b", "postal_code": "c", "city": "d", "region": "e"}, "country": "DE", "tax_id": "DE1", "email": "x@y", "bank_account": {"iban": "i", "bic": "b", "holder": "h"}, "invoice_series": "EU/I", "credit_note_series": "EU/C", "number_width": 3, "tax_rounding": "invoice", "zero_invoices": "skip", "payment_terms_days": 0, "tax_rates": ["de19"]}')$$,
    $$VALUES ('Acme', '{"line1": "a", "line2": "b", "postal_code": "c", "city": "d", "region": "e"}'::jsonb, 'DE', 'DE1', 'x@y', '{"iban": "i", "bic": "b", "holder": "h"}'::jsonb, 'EU/I', 'EU/C', 3, 'invoice', 'skip', 0, '{de19}'::text[])$$, 'every member');
SELECT results_eq($$SELECT name, country, tax_id, number_width, address FROM legal_entity_set('acme-eu', '{"tax_id": null, "address": {"city": "f"}, "number_width": 4}')$$,
    $$VALUES ('Acme', 'DE', NULL::text, 4, '{"city": "f"}'::jsonb)$$, 'what is not named stays, null is the default, an address is replaced');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"colour": "red"}')$$, '22023', NULL, 'an unknown member');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"address": {"street": "x"}}')$$, '22023', NULL, 'one within');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"country": "de"}')$$, '22023', NULL, 'a country in small letters');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"tax_rounding": "never"}')$$, '22023', NULL, 'another rounding');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"number_width": 19}')$$, '22023', NULL, 'too wide');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"invoice_series": "a b"}')$$, '22023', NULL, 'a series with a space');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"tax_rates": ["nothing"]}')$$, '42704', 'tax rate "nothing" does not exist or is not active', 'an unknown rate');
SELECT throws_ok($$SELECT legal_entity_set('acme-eu', '{"tax_rates": ["old"]}')$$, '42704', NULL, 'a retired one');
SELECT throws_ok($$SELECT legal_entity_set('other', '{"invoice_series": "INV"}')$$, '23505', NULL, 'the series of another');
SELECT throws_ok($$SELECT legal_entity_set('Other', '{}')$$, '22023', NULL, 'an id in capitals');
SELECT throws_ok($$SELECT legal_entity_set(NULL, '{}')$$, '22004', NULL, 'null for an id');
SELECT throws_ok($$SELECT legal_entity_set('x', NULL)$$, '22004', NULL, 'null for what it is');

-- payers
SELECT count(tenant_create(t, isolation => 'pool')) FROM unnest('{one,two,three,free,away,incl,yen,dinar,part,planned}'::text[]) t \g /dev/null
SELECT results_eq($$SELECT legal_entity, name, tax_treatment, consolidates, tax_rates, payment_terms_days FROM billing_account_set('one', '{}')$$, $$VALUES ('default', NULL::text, 'taxed', false, NULL::text[], NULL::integer)$$, 'defaults');
SELECT results_eq($$SELECT legal_entity, name, email, address, country, tax_id, tax_treatment, exemption_reason, payment_terms_days, consolidates, tax_rates FROM billing_account_set('one',
    '{"legal_entity": "acme-eu", "name": "One", "email": "a@b", "address": {"city": "Paris"}, "country": "FR", "tax_id": "FR1", "tax_treatment": "exempt", "exemption_reason": "a school", "payment_terms_days": 30, "consolidates": true, "tax_rates": ["de19"]}')$$,
    $$VALUES ('acme-eu', 'One', 'a@b', '{"city": "Paris"}'::jsonb, 'FR', 'FR1', 'exempt', 'a school', 30, true, '{de19}'::text[])$$, 'every member');
SELECT results_eq($$SELECT name, country, tax_treatment, exemption_reason, tax_rates FROM billing_account_set('one', '{"tax_treatment": "taxed", "tax_rates": null, "country": null}')$$, $$VALUES ('One', NULL::text, 'taxed', NULL::text, NULL::text[])$$, 'what is not named stays; who is taxed has no reason');
SELECT throws_ok($$SELECT billing_account_set('one', '{"tax_treatment": "exempt"}')$$, '22023', NULL, 'exempt for no reason');
SELECT throws_ok($$SELECT billing_account_set('one', '{"tax_treatment": "taxed", "exemption_reason": "x"}')$$, '22023', NULL, 'a reason for nothing');
SELECT throws_ok($$SELECT billing_account_set('one', '{"payment_terms_days": -1}')$$, '22023', NULL, 'due before it is issued');
SELECT throws_ok($$SELECT billing_account_set('one', '{"legal_entity": "nobody"}')$$, '42704', NULL, 'an unknown seller');
SELECT throws_ok($$SELECT billing_account_set('one', '{"tax_rates": ["nothing"]}')$$, '42704', NULL, 'an unknown rate');
SELECT throws_ok($$SELECT billing_account_set('nobody', '{}')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT billing_account_set(NULL, '{}')$$, '22004', NULL, 'none');
SELECT throws_ok($$SELECT billing_account_set('one', NULL)$$, '22004', NULL, 'nothing');
SELECT throws_ok($$SELECT billing_account_set('one', '{"iban": "x"}')$$, '22023', NULL, 'an unknown member');

-- which rate: charge, then plan, then account, then seller
SELECT count(tax_rate_create('r' || p, p)) FROM generate_series(1, 4) p \g /dev/null
SELECT id FROM legal_entity_set('default', '{"tax_rates": ["r4"]}') \g /dev/null
SELECT id FROM plan_create('charged', 'Charged', 'custom', '{"type": "custom", "base_price": 100, "currency": "USD", "billing_period": "monthly", "tax_rates": ["r2"], "charges": [{"id": "support", "name": "Support", "model": "flat", "unit_price": 100, "tax_rates": ["r1"]}]}') \g /dev/null
SELECT id FROM plan_create('bare', 'Bare', 'custom', '{"type": "fixed", "base_price": 100, "currency": "USD", "billing_period": "monthly"}') \g /dev/null
SELECT tenant_id FROM billing_account_set('two', '{"tax_rates": ["r3"]}') \g /dev/null
SELECT subscription_create('planned', 'charged', '2026-02-01 00:00+00'), subscription_create('two', 'bare', '2026-02-01 00:00+00'), subscription_create('three', 'bare', '2026-02-01 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2026-03-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT t.slug, l.description, l.tax_rates, l.tax FROM tenancy.invoice_line l JOIN tenancy.tenant t ON t.id = l.tenant_id ORDER BY 1, 2$$,
    $$VALUES ('planned', 'Charged', '{r2}'::text[], 2.00), ('planned', 'Support', '{r1}', 1.00), ('three', 'Bare', '{r4}', 4.00), ('two', 'Bare', '{r3}', 3.00)$$, 'charge before plan before account before seller');
SELECT results_eq($$SELECT x.tax_rate, x.base, x.amount FROM tenancy.invoice_tax x JOIN tenancy.tenant t ON t.id = x.tenant_id WHERE t.slug = 'planned' ORDER BY 1$$, $$VALUES ('r1', 100.00, 1.00), ('r2', 100.00, 2.00)$$, 'each rate by itself');

-- rounding, exemption, and prices that contain tax
CREATE FUNCTION public.bill(who text, prices numeric[], rates text[], currency text DEFAULT 'USD') RETURNS uuid LANGUAGE sql AS $$
    SELECT invoice_item_add(who, 'Line ' || n, p, currency, tax_rates => rates) FROM unnest(prices) WITH ORDINALITY u(p, n);
    SELECT (invoice_finalize((invoice_generate(who)).id)).id $$;
-- lago-tax-2x6833 of the golden cases: 2 × 68.33 at 20 %: 27.33 rounded once, 13.67 + 13.67 by line
SELECT id FROM tax_rate_create('x20', 20) \g /dev/null
SELECT public.bill('one', '{68.33,68.33}', '{x20}') AS whole, public.bill('two', '{68.33,68.33}', '{x20}') AS lines \gset
SELECT results_eq(format('SELECT tax, total FROM tenancy.invoice WHERE id = %L', :'whole'), 'VALUES (27.33, 163.99)', 'tax rounded once an invoice');
SELECT is((SELECT sum(tax) FROM tenancy.invoice_line WHERE invoice_id = :'whole'), 27.33, 'and shared by its lines');
SELECT results_eq(format('SELECT tax, total FROM tenancy.invoice WHERE id = %L', :'lines'), 'VALUES (27.34, 164.00)', 'or by line');
SELECT results_eq(format('SELECT number, due_at FROM tenancy.invoice WHERE id = %L', :'whole'), $$VALUES ('EU/I-0001', '2026-03-31 00:00+00'::timestamptz)$$, 'in the series of its seller, due in the 30 days of its payer');
SELECT results_eq(format($$SELECT seller->>'name', seller->>'country', customer->>'name' FROM tenancy.invoice WHERE id = %L$$, :'whole'), $$VALUES ('Acme', 'DE', 'One')$$, 'seller and customer are kept');
SELECT legal_entity_set('acme-eu', '{"name": "Renamed"}'), billing_account_set('one', '{"name": "Somebody else"}') \g /dev/null
SELECT results_eq(format($$SELECT seller->>'name', customer->>'name' FROM tenancy.invoice WHERE id = %L$$, :'whole'), $$VALUES ('Acme', 'One')$$, 'as they were');
SELECT billing_account_set('free', '{"tax_treatment": "exempt", "exemption_reason": "A school"}'), billing_account_set('away', '{"tax_treatment": "reverse_charge", "exemption_reason": "Article 196"}') \g /dev/null
SELECT public.bill('free', '{100}', '{x20,r1}') AS free, public.bill('away', '{100}', '{x20}') AS away \gset
SELECT results_eq(format('SELECT tax_rate, percentage, category, reason, base, amount FROM tenancy.invoice_tax WHERE invoice_id = %L ORDER BY position', :'free'), $$VALUES ('x20', 0::numeric, 'E', 'A school', 100.00, 0.00), ('r1', 0, 'E', 'A school', 100.00, 0.00)$$, 'who is exempt has rates of zero, and the reason');
SELECT results_eq(format('SELECT percentage, category, reason, base, amount FROM tenancy.invoice_tax WHERE invoice_id = %L', :'away'), $$VALUES (0::numeric, 'AE', 'Article 196', 100.00, 0.00)$$, 'reverse charge, too');
SELECT is((SELECT total FROM tenancy.invoice WHERE id = :'away'), 100.00, 'and pays none');
-- 120.00 contain 120 × 20 / 120 = 20.00; 9.99 contain 1.665, which is 1.67
SELECT public.bill('incl', '{120,9.99}', '{in20}') AS incl \gset
SELECT results_eq(format('SELECT subtotal, tax, inclusive_tax, total FROM tenancy.invoice WHERE id = %L', :'incl'), 'VALUES (129.99, 0.00, 21.67, 129.99)', 'prices that contain tax');
SELECT results_eq(format('SELECT amount, net, tax FROM tenancy.invoice_line WHERE invoice_id = %L ORDER BY position', :'incl'), 'VALUES (120.00, 100.00, 0.00), (9.99, 8.32, 0.00)', 'by line');
-- zuora-incl and own-tax-incl-jpy of the golden cases: 1000 yen contain 10 %: 909 and 91
SELECT id FROM tax_rate_create('in10', 10, is_inclusive => true) \g /dev/null
SELECT public.bill('yen', '{1000}', '{in10}', 'JPY') AS yen, public.bill('dinar', '{11.505}', '{r1}', 'BHD') AS dinar \gset
SELECT results_eq(format('SELECT net FROM tenancy.invoice_line WHERE invoice_id = %L', :'yen'), 'VALUES (909::numeric)', 'yen have no decimals');
SELECT results_eq(format('SELECT tax, total FROM tenancy.invoice WHERE id = %L', :'dinar'), 'VALUES (0.115, 11.620)', 'dinars have three: 0.11505');
-- a zero invoice is skipped where its seller says so
SELECT id FROM invoice_item_add('one', 'Nothing', 0, 'USD') \g /dev/null
SELECT throws_ok($$SELECT invoice_generate('one')$$, '55000', NULL, 'an invoice over nothing is skipped');
SELECT is((public.bill('two', '{0}', '{x20}')) IS NOT NULL, true, 'or issued');

-- who may
BEGIN;
SELECT tenant_context_set('two') \g /dev/null
SELECT results_eq('SELECT tax_rates FROM tenancy.billing_account', $$VALUES ('{r3}'::text[])$$, 'a tenant sees its own account');
SELECT throws_ok($$SELECT billing_account_set('two', '{}')$$, '42501', NULL, 'and sets nothing');
SELECT throws_ok($$SELECT legal_entity_set('x', '{}')$$, '42501', NULL, 'nor who sells');
SELECT throws_ok($$SELECT tax_rate_create('y', 0)$$, '42501', NULL, 'nor rates');
SELECT throws_ok('SELECT * FROM tenancy.legal_entity', '42501', NULL, 'nor sees them');
ROLLBACK;
SET ROLE tenancy_auditor;
SELECT isnt_empty('SELECT * FROM tenancy.billing_account', 'an auditor reads all');
SELECT throws_ok($$SELECT tax_rate_retire('r1')$$, '42501', NULL, 'and changes nothing');
RESET ROLE;
SELECT * FROM finish();
