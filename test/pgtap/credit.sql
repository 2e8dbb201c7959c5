-- Credit of tenants, without invoices: granting, expiring, revoking, and what is posted for it.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-01-10 00:00:00+00';
SELECT slug FROM tenant_create('acme', plan => 'starter', isolation => 'pool', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT slug FROM tenant_create('globex', isolation => 'pool') \g /dev/null
CREATE FUNCTION public.books() RETURNS TABLE (slug text, currency text, account text, balance numeric) LANGUAGE sql AS $$
    SELECT t.slug, e.currency, e.account, sum(e.amount) FROM tenancy.ledger_entry e JOIN tenancy.tenant t ON t.id = e.tenant_id GROUP BY 1, 2, 3 HAVING sum(e.amount) <> 0 ORDER BY 1, 2, 3 $$;

SELECT results_eq($$SELECT currency, source, reason, amount, remaining, priority, legal_entity, document_id, expires_at, created_at FROM credit_add('acme', 25, 'welcome')$$,
    $$VALUES ('USD', 'promotion', 'welcome', 25.00, 25.00, 50, 'default', NULL::uuid, NULL::timestamptz, '2026-01-10 00:00+00'::timestamptz)$$, 'credit in the currency of the subscription');
SELECT results_eq($$SELECT currency, source, amount, priority, expires_at FROM credit_add('globex', 1000, 'top-up', 'JPY', '2026-02-01 00:00+00', 7, 'purchase')$$,
    $$VALUES ('JPY', 'purchase', 1000::numeric, 7, '2026-02-01 00:00+00'::timestamptz)$$, 'and in another, for a while');
SELECT results_eq('SELECT * FROM books()', $$VALUES ('acme', 'USD', 'customer_credit', -25.00), ('acme', 'USD', 'promotion', 25.00), ('globex', 'JPY', 'cash', 1000), ('globex', 'JPY', 'customer_credit', -1000)$$,
    'what is given away costs, what is paid is cash');
SELECT results_eq($$SELECT t.slug, b.currency, b.granted, b.used, b.remaining, b.next_expiry FROM tenancy.credit_balance b JOIN tenancy.tenant t ON t.id = b.tenant_id ORDER BY 1$$,
    $$VALUES ('acme', 'USD', 25.00, 0.00, 25.00, NULL::timestamptz), ('globex', 'JPY', 1000, 0, 1000, '2026-02-01 00:00+00')$$, 'balances');
SELECT results_eq($$SELECT payload->>'currency', payload->>'amount' FROM tenancy.outbox_event WHERE type = 'credit.granted' ORDER BY id$$, $$VALUES ('USD', '25.00'), ('JPY', '1000')$$, 'each is told of');

-- what is refused
SELECT throws_ok($$SELECT credit_add('acme', 0, 'x')$$, '22023', NULL, 'no amount');
SELECT throws_ok($$SELECT credit_add('acme', -1, 'x')$$, '22023', NULL, 'a negative one');
SELECT throws_ok($$SELECT credit_add('acme', 'NaN', 'x')$$, '22003', NULL, 'what is no number');
SELECT throws_ok($$SELECT credit_add('acme', 0.001, 'x')$$, '22023', 'argument "amount" has more than 2 decimals, which is what USD has', 'a tenth of a cent');
SELECT throws_ok($$SELECT credit_add('acme', 0.5, 'x', 'JPY')$$, '22023', NULL, 'half a yen');
SELECT throws_ok($$SELECT credit_add('acme', 1, 'x', 'XYZ')$$, '22023', NULL, 'an unknown currency');
SELECT throws_ok($$SELECT credit_add('globex', 1, 'x')$$, '22023', NULL, 'no currency, and no subscription that has one');
SELECT throws_ok($$SELECT credit_add('acme', 1, NULL)$$, '22004', NULL, 'no reason');
SELECT throws_ok($$SELECT credit_add('acme', NULL, 'x')$$, '22004', NULL, 'null for an amount');
SELECT throws_ok($$SELECT credit_add(NULL, 1, 'x')$$, '22004', NULL, 'no tenant');
SELECT throws_ok($$SELECT credit_add(gen_random_uuid(), 1, 'x', 'USD')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT credit_add('acme', 1, 'x', expires_at => '2026-01-09 00:00+00')$$, '22023', NULL, 'credit that has expired');
SELECT throws_ok($$SELECT credit_add('acme', 1, 'x', priority => 1001)$$, '22023', NULL, 'a priority out of range');
SELECT throws_ok($$SELECT credit_add('acme', 1, 'x', source => 'overpayment')$$, '22023', NULL, 'a source that is that of a document');

-- expiry
SELECT is(credit_expire('2026-01-31 23:59:59+00'), 0::bigint, 'nothing expires before its time');
SELECT is(credit_expire('2026-02-01 00:00+00'), 1::bigint, 'at its time it does');
SELECT is(credit_expire('2026-02-01 00:00+00'), 0::bigint, 'once');
SELECT results_eq('SELECT * FROM books()', $$VALUES ('acme', 'USD', 'customer_credit', -25.00), ('acme', 'USD', 'promotion', 25.00), ('globex', 'JPY', 'breakage', -1000), ('globex', 'JPY', 'cash', 1000)$$,
    'what was paid and not used is earned');
SELECT results_eq($$SELECT kind, amount, document_id, created_at FROM tenancy.credit_entry$$, $$VALUES ('expiry', -1000::numeric, NULL::uuid, '2026-02-01 00:00+00'::timestamptz)$$, 'and on record');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'credit.expired'), 1::bigint, 'and told of');
SELECT id FROM credit_add('acme', 10, 'short', expires_at => '2026-03-01 00:00+00') \g /dev/null
SELECT count(*) FROM (SELECT credit_add('acme', 1, 'many', expires_at => '2026-03-01 00:00+00') FROM generate_series(1, 1001)) c \g /dev/null
SELECT is(credit_expire('2026-04-01 00:00+00'), 1002::bigint, 'more than a step at once');
SELECT results_eq($$SELECT account, balance FROM books() WHERE slug = 'acme'$$, $$VALUES ('customer_credit', -25.00), ('promotion', 25.00)$$, 'what was given away and not used has cost nothing');
SELECT throws_ok('SELECT credit_expire(NULL)', '22004', NULL, 'at no time');

-- the job
SELECT id FROM credit_add('acme', 10, 'short', expires_at => '2026-03-01 00:00+00') \g /dev/null
SET tenancy.test_clock = '2099-05-01 00:00:00+00';
SELECT count(*) FROM schedule_set('credit.expire', enabled => true) \g /dev/null
SELECT results_eq('SELECT kind, state FROM job_run_due(1)', $$VALUES ('credit.expire', 'succeeded')$$, 'the periodic work expires, too');
SELECT is((SELECT sum((result->>'credits')::int) FROM tenancy.job_run WHERE kind = 'credit.expire'), 1::bigint, 'and counts');
SELECT count(*) FROM schedule_set('credit.expire', enabled => false) \g /dev/null
SET tenancy.test_clock = '2026-05-01 00:00:00+00';

-- revoking
SELECT id AS welcome FROM tenancy.credit WHERE reason = 'welcome' \gset
SELECT results_eq(format($$SELECT amount, remaining FROM credit_revoke(%L, 'mistake')$$, :'welcome'), $$VALUES (25.00, 0.00)$$, 'credit is revoked');
SELECT is_empty($$SELECT * FROM books() WHERE slug = 'acme'$$, 'as if it had never been');
SELECT throws_ok(format($$SELECT credit_revoke(%L, 'again')$$, :'welcome'), '55000', NULL, 'once');
SELECT throws_ok($$SELECT credit_revoke(gen_random_uuid(), 'x')$$, '42704', NULL, 'an unknown one');
SELECT throws_ok(format($$SELECT credit_revoke(%L, NULL)$$, :'welcome'), '22004', NULL, 'for no reason');
SELECT throws_ok($$SELECT credit_revoke(NULL, 'x')$$, '22004', NULL, 'none at all');
SELECT is((SELECT count(*) FROM tenancy.credit c WHERE remaining <> amount + coalesce((SELECT sum(e.amount) FROM tenancy.credit_entry e WHERE e.credit_id = c.id), 0)), 0::bigint, 'what remains is what was granted and what became of it');
SELECT throws_ok('UPDATE tenancy.credit_entry SET amount = -1', '55000', NULL, 'which stays as it was');
SELECT throws_ok('DELETE FROM tenancy.credit_entry', '55000', NULL, 'all of it');
SELECT throws_ok('TRUNCATE tenancy.credit_entry', '55000', NULL, 'whoever asks');

-- what invoices use, and in which order; the totals are those of Lago's prepaid credits: 14.29 and 14.27 with 24 % tax, from 39.00
SELECT tax_rate_create('vat24', 24) IS NULL \g /dev/null
SELECT slug FROM tenant_create('initech', isolation => 'pool') \g /dev/null
SELECT id AS last FROM credit_add('initech', 9, 'last', 'EUR', priority => 90, source => 'purchase') \gset
SELECT id AS first FROM credit_add('initech', 10, 'first', 'EUR', priority => 10) \gset
SELECT id AS old FROM credit_add('initech', 10, 'expires later', 'EUR', expires_at => '2026-12-01 00:00+00') \gset
SELECT id AS soon FROM credit_add('initech', 10, 'expires soon', 'EUR', expires_at => '2026-06-01 00:00+00') \gset
SELECT id AS other FROM credit_add('initech', 10, 'other', 'USD') \gset
CREATE FUNCTION public.bill_item(price numeric) RETURNS tenancy.invoice LANGUAGE sql AS $$
    SELECT invoice_item_add('initech', 'work', price, 'EUR', tax_rates => ARRAY['vat24']) IS NULL;
    SELECT f FROM invoice_generate('initech') g, invoice_finalize(g.id) f $$;
CREATE FUNCTION public.remains() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(reason || ' ' || remaining, ', ' ORDER BY reason) FROM tenancy.credit WHERE tenant_id = 'initech'::regtenant $$;
SELECT results_eq('SELECT total, amount_applied, amount_due, state FROM bill_item(14.29)', $$VALUES (17.72, 17.72, 0.00, 'paid')$$, 'credit pays the total with its tax');
SELECT is(remains(), 'expires later 10.00, expires soon 2.28, first 0.00, last 9.00, other 10.00', 'by priority, then what expires first');
SELECT is((SELECT remaining FROM tenancy.credit_balance WHERE tenant_id = 'initech'::regtenant AND currency = 'EUR'), 21.28, '21.28 remain');
SELECT id AS second FROM bill_item(14.27) \gset
SELECT results_eq(format('SELECT total, amount_applied, amount_due FROM tenancy.invoice WHERE id = %L', :'second'), $$VALUES (17.69, 17.69, 0.00)$$, 'the second');
SELECT is((SELECT remaining FROM tenancy.credit_balance WHERE tenant_id = 'initech'::regtenant AND currency = 'EUR'), 3.59, 'leaves 3.59');
SELECT results_eq($$SELECT amount_applied, amount_due, state FROM bill_item(10)$$, $$VALUES (3.59, 8.81, 'open')$$, 'the third is paid in part');
SELECT is(remains(), 'expires later 0.00, expires soon 0.00, first 0.00, last 0.00, other 10.00', 'and credit in another currency is not touched');
-- what is void gives it back; what has expired meanwhile expires again
SET tenancy.test_clock = '2026-07-01 00:00:00+00';
SELECT id AS third FROM tenancy.invoice WHERE tenant_id = 'initech'::regtenant AND state = 'open' \gset
SELECT results_eq(format($$SELECT state, amount_applied FROM invoice_void(%L, 'mistake')$$, :'third'), $$VALUES ('void', 0.00)$$, 'an invoice is void');
SELECT is(remains(), 'expires later 0.00, expires soon 0.00, first 0.00, last 3.59, other 10.00', 'and its credit is back');
SELECT is((SELECT string_agg(account || ' ' || balance, ', ') FROM books() WHERE slug = 'initech' AND currency = 'EUR'),
    'cash 9.00, customer_credit -3.59, promotion 30.00, revenue -28.56, tax_payable -6.85', 'in the books, too');
SELECT is(credit_expire('2026-07-01 00:00+00'), 0::bigint, 'what is back has no end');

-- rights
SELECT id AS rest FROM credit_add('globex', 5, 'x', 'EUR') \gset
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT results_eq('SELECT currency, remaining FROM tenancy.credit_balance ORDER BY 1', $$VALUES ('EUR', 5.00), ('JPY', 0)$$, 'a tenant sees its own balance');
SELECT is((SELECT count(*) FROM tenancy.credit), 2::bigint, 'and its own credits');
SELECT is((SELECT count(*) FROM tenancy.credit_entry), 1::bigint, 'and what became of them');
SELECT throws_ok($$SELECT credit_add('globex', 5, 'x', 'EUR')$$, '42501', NULL, 'it grants itself none');
COMMIT;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT throws_ok($$SELECT credit_expire()$$, '42501', NULL, 'nor does it expire any');
COMMIT;
CREATE ROLE crd_auditor IN ROLE tenancy_auditor;
SET ROLE crd_auditor;
SELECT is((SELECT count(*) FROM tenancy.credit_balance), 5::bigint, 'an auditor sees all');
SELECT throws_ok($$SELECT credit_add('globex', 5, 'x', 'EUR')$$, '42501', NULL, 'and grants none');
SELECT throws_ok(format($$SELECT credit_revoke(%L, 'x')$$, :'rest'), '42501', NULL, 'revokes none');
RESET ROLE;
DROP ROLE crd_auditor;
SELECT * FROM finish();
