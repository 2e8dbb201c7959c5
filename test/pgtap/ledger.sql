-- The ledger: what is posted is whole and balanced, and stays, whoever writes.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT slug FROM tenant_create('acme', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('globex', isolation => 'pool') \g /dev/null
SELECT id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT id AS globex FROM tenancy.tenant WHERE slug = 'globex' \gset

SELECT set_eq('SELECT code FROM tenancy.ledger_account', 'SELECT tenancy.ledger_accounts()', 'the chart of accounts is that of the library');
SELECT is((SELECT count(*) FROM tenancy.ledger_account a WHERE pg_get_constraintdef((SELECT oid FROM pg_constraint WHERE conname = 'ledger_entry_account_check')) LIKE '%''' || code || '''%'),
    (SELECT count(*) FROM tenancy.ledger_account), 'and that of the entries');

-- a superuser writes as the library does
CREATE FUNCTION public.open_transaction(n integer, tenant uuid DEFAULT 'acme'::regtenant, currency text DEFAULT 'USD', effective_at timestamptz DEFAULT '2026-01-01 00:00+00')
RETURNS integer LANGUAGE sql AS $$
    INSERT INTO tenancy.ledger_transaction (id, tenant_id, legal_entity, kind, document_id, purpose, currency, effective_at, recorded_at, description)
    VALUES (lpad(n::text, 32, '0')::uuid, $2, 'default', 'invoice', lpad(n::text, 32, '0')::uuid, '', $3, $4, now(), '') RETURNING n $$;
CREATE FUNCTION public.enter(n integer, accounts text[], amounts numeric[], first integer DEFAULT 1, tenant uuid DEFAULT 'acme'::regtenant, currency text DEFAULT 'USD')
RETURNS bigint LANGUAGE sql AS $$
    WITH i AS (INSERT INTO tenancy.ledger_entry (transaction_id, position, tenant_id, account, currency, amount)
        SELECT lpad(n::text, 32, '0')::uuid, first + (o - 1)::integer, $5, a, $6, m FROM unnest(accounts, amounts) WITH ORDINALITY u(a, m, o) RETURNING 1)
    SELECT count(*) FROM i $$;
SELECT open_transaction(n) FROM generate_series(1, 5) n \g /dev/null
SELECT lives_ok($$SELECT enter(1, '{receivable,revenue,tax_payable}', '{119.00,-100.00,-19.00}')$$, 'what is balanced is taken');
SELECT lives_ok($$INSERT INTO tenancy.ledger_entry SELECT lpad(n::text, 32, '0')::uuid, p, 'acme'::regtenant, (ARRAY['receivable', 'revenue'])[p], 'USD', (ARRAY[n, -n])[p]
    FROM generate_series(1, 2) p, generate_series(2, 3) n ORDER BY p, n$$, 'in any order of the rows');

-- what is not
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{119.00,-100.00}')$$, '23514', 'ledger transaction "00000000-0000-0000-0000-000000000004" is not balanced', 'entries that do not add up to zero');
SELECT throws_ok($$SELECT enter(4, '{receivable}', '{119.00}')$$, '23514', NULL, 'one entry alone');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{0,0}')$$, '23514', NULL, 'entries of nothing');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{NaN,NaN}')$$, '23514', NULL, 'what is no number');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{Infinity,-Infinity}')$$, '23514', NULL, 'nor infinity');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{0.001,-0.001}')$$, '23514', NULL, 'fractions of a cent');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{1,-1}', currency => 'XYZ')$$, '22023', NULL, 'an unknown currency');
SELECT throws_ok($$SELECT enter(4, '{receivable,petty_cash}', '{1,-1}')$$, '23514', NULL, 'an unknown account');
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{1,-1}', first => 2)$$, '23514', NULL, 'entries that do not begin at 1');
SELECT throws_ok($$SELECT enter(1, '{receivable,revenue}', '{1,-1}', first => 4)$$, '23514', NULL, 'a balanced pair added to what was posted before');
SELECT throws_ok($$SELECT enter(1, '{receivable,revenue}', '{1,-1}')$$, '23505', NULL, 'or put in its place');
SELECT throws_ok($$SELECT enter(6, '{receivable,revenue}', '{1,-1}')$$, '23503', NULL, 'entries of no transaction');
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry VALUES (lpad('4', 32, '0')::uuid, 1, 'acme'::regtenant, 'receivable', 'USD', 1), (lpad('4', 32, '0')::uuid, 2, 'globex'::regtenant, 'revenue', 'USD', -1)$$, '23514', NULL, 'two tenants in one transaction');
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry VALUES (lpad('4', 32, '0')::uuid, 1, 'acme'::regtenant, 'receivable', 'USD', 1), (lpad('4', 32, '0')::uuid, 2, 'acme'::regtenant, 'revenue', 'EUR', -1)$$, '23514', NULL, 'two currencies');
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry SELECT lpad(n::text, 32, '0')::uuid, 1, 'acme'::regtenant, 'receivable', 'USD', n - 4.5 FROM generate_series(4, 5) n$$, '23514', NULL, 'two transactions that are balanced together alone');
SELECT throws_ok($$WITH a AS (INSERT INTO tenancy.ledger_entry VALUES (lpad('4', 32, '0')::uuid, 1, 'acme'::regtenant, 'receivable', 'USD', 1)) SELECT enter(5, '{receivable,revenue}', '{1,-1}')$$, '23514', NULL, 'one half in a WITH');
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry AS e VALUES (lpad('1', 32, '0')::uuid, 1, 'acme'::regtenant, 'receivable', 'USD', 1) ON CONFLICT (transaction_id, position) DO UPDATE SET amount = 1$$, '55000', NULL, 'INSERT … ON CONFLICT DO UPDATE');
SELECT throws_ok($$MERGE INTO tenancy.ledger_entry e USING (VALUES (1)) v(n) ON e.position = v.n WHEN MATCHED THEN DELETE$$, '55000', NULL, 'MERGE');

-- nothing is changed, nor taken away
SELECT throws_ok('UPDATE tenancy.ledger_entry SET amount = 2 * amount', '55000', 'rows of "ledger_entry" cannot be changed', 'UPDATE of entries');
SELECT throws_ok('DELETE FROM tenancy.ledger_entry', '55000', NULL, 'DELETE of entries');
SELECT throws_ok('TRUNCATE tenancy.ledger_entry', '55000', NULL, 'TRUNCATE of entries');
SELECT throws_ok($$UPDATE tenancy.ledger_transaction SET currency = 'EUR'$$, '55000', NULL, 'UPDATE of transactions');
SELECT throws_ok('DELETE FROM tenancy.ledger_transaction', '55000', NULL, 'DELETE of transactions');
SELECT throws_ok('TRUNCATE tenancy.ledger_transaction CASCADE', '55000', NULL, 'TRUNCATE of transactions');
SELECT throws_ok($$UPDATE tenancy.ledger_account SET kind = 'asset', normal_side = 'debit'$$, '55000', NULL, 'UPDATE of accounts');
SELECT throws_ok('DELETE FROM tenancy.ledger_account', '55000', NULL, 'DELETE of accounts');
SELECT throws_ok('TRUNCATE tenancy.ledger_account', '55000', NULL, 'TRUNCATE of accounts');

-- a replica's session has no other rules
SET session_replication_role = replica;
SELECT throws_ok($$SELECT enter(4, '{receivable,revenue}', '{119.00,-100.00}')$$, '23514', NULL, 'as a replica: entries that do not add up');
SELECT throws_ok('UPDATE tenancy.ledger_entry SET amount = 2 * amount', '55000', NULL, 'as a replica: UPDATE');
SELECT throws_ok('DELETE FROM tenancy.ledger_entry', '55000', NULL, 'as a replica: DELETE');
SELECT throws_ok('TRUNCATE tenancy.ledger_entry', '55000', NULL, 'as a replica: TRUNCATE');
RESET session_replication_role;

-- the owner of the tables writes no other way
SET ROLE tenancy_owner;
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry VALUES (lpad('4', 32, '0')::uuid, 1, '00000000-0000-0000-0000-000000000000', 'receivable', 'USD', 1)$$, '23514', NULL, 'as the owner: entries that do not add up');
SELECT throws_ok('DELETE FROM tenancy.ledger_entry', '55000', NULL, 'as the owner: DELETE');
RESET ROLE;

SELECT is((SELECT count(*) FROM tenancy.ledger_entry), 7::bigint, 'nothing of all this has left a row');

-- several currencies, each with its exponent
SELECT open_transaction(7, currency => 'JPY') \g /dev/null
SELECT throws_ok($$SELECT enter(7, '{receivable,revenue}', '{0.5,-0.5}', currency => 'JPY')$$, '23514', NULL, 'half a yen');
SELECT lives_ok($$SELECT enter(7, '{receivable,revenue}', '{1000,-1000}', currency => 'JPY')$$, 'a thousand yen');
SELECT open_transaction(8, tenant => 'globex'::regtenant, currency => 'BHD') \g /dev/null
SELECT lives_ok($$SELECT enter(8, '{cash,customer_credit}', '{1.151,-1.151}', tenant => 'globex'::regtenant, currency => 'BHD')$$, 'a dinar has a thousand fils');

-- reports, by hand
SELECT results_eq($$SELECT currency, account, debit, credit, balance FROM tenancy.trial_balance ORDER BY 1, 2$$,
    $$VALUES ('BHD', 'cash', 1.151, 0::numeric, 1.151), ('BHD', 'customer_credit', 0, 1.151, 1.151), ('JPY', 'receivable', 1000, 0, 1000), ('JPY', 'revenue', 0, 1000, 1000),
             ('USD', 'receivable', 124.00, 0, 124.00), ('USD', 'revenue', 0, 105.00, 105.00), ('USD', 'tax_payable', 0, 19.00, 19.00)$$, 'the trial balance');
SELECT set_eq($$SELECT * FROM tenancy.trial_balance$$, $$SELECT * FROM ledger_balance()$$, 'is that of now');
SELECT is_empty($$SELECT * FROM ledger_balance('2025-12-31 23:59:59+00')$$, 'before the first document there is none');
SELECT results_eq($$SELECT currency, account, balance FROM ledger_balance(tenant => 'globex')$$, $$VALUES ('BHD', 'cash', 1.151), ('BHD', 'customer_credit', 1.151)$$, 'that of one tenant');
SELECT is((SELECT sum(debit - credit) FROM tenancy.trial_balance), 0::numeric, 'debits are credits');
SELECT results_eq($$SELECT t.slug, b.currency, b.receivable, b.credit, b.balance FROM tenancy.customer_balance b JOIN tenancy.tenant t ON t.id = b.tenant_id ORDER BY 1, 2$$,
    $$VALUES ('acme', 'JPY', 1000::numeric, 0::numeric, 1000::numeric), ('acme', 'USD', 124, 0, 124), ('globex', 'BHD', 0, 1.151, -1.151)$$, 'what tenants owe, and what they have to their credit');
SELECT results_eq($$SELECT position, account, debit, credit FROM tenancy.ledger_document WHERE document_id = lpad('1', 32, '0')::uuid ORDER BY 1$$,
    $$VALUES (1, 'receivable', 119.00, NULL::numeric), (2, 'revenue', NULL, 100.00), (3, 'tax_payable', NULL, 19.00)$$, 'the entries of a document');

-- who may read
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT results_eq('SELECT currency, credit FROM tenancy.customer_balance', $$VALUES ('BHD', 1.151)$$, 'a tenant sees its own balance');
SELECT is((SELECT count(*) FROM tenancy.ledger_transaction), 1::bigint, 'and transactions');
SELECT is((SELECT string_agg(account, ',') FROM tenancy.ledger_entry), 'customer_credit', 'and of their entries those that concern it');
COMMIT;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
SELECT throws_ok('SELECT * FROM tenancy.trial_balance', '42501', NULL, 'but not the books');
SELECT throws_ok($$SELECT * FROM ledger_balance()$$, '42501', NULL, 'neither by the function');
SELECT throws_ok($$INSERT INTO tenancy.ledger_entry VALUES (lpad('4', 32, '0')::uuid, 1, current_tenant_id(), 'receivable', 'USD', 1)$$, '42501', NULL, 'nor does it write');
COMMIT;
CREATE ROLE ldg_reader IN ROLE tenancy_auditor;
SET ROLE ldg_reader;
SELECT is((SELECT count(*) FROM tenancy.trial_balance), 7::bigint, 'an auditor reads the books');
SELECT throws_ok('DELETE FROM tenancy.ledger_entry', '42501', NULL, 'and may not write');
RESET ROLE;
DROP ROLE ldg_reader;
SELECT * FROM finish();
