-- From plans to invoices.  Amounts come from the plan document and from arithmetic by hand.
SELECT * FROM no_plan();
\ir quiet.psql

-- the plans that are shipped
SELECT results_eq($$SELECT id, tier, limits->>'max_users', pricing->>'type', (pricing->>'base_price')::numeric
    FROM tenancy.plan JOIN tenancy.plan_price ON plan = id ORDER BY 5$$,
    $$VALUES ('starter', 'starter', '10', 'fixed', 29::numeric), ('professional', 'professional', '50', 'usage_based', 99), ('enterprise', 'enterprise', '-1', 'custom', 500)$$,
    'starter, professional and enterprise');

SELECT slug FROM tenant_create('small', plan => 'starter', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT slug FROM tenant_create('middle', plan => 'professional', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT slug FROM tenant_create('large', plan => 'enterprise', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('middle', 'users', 53, 'u1', '2026-01-15 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('middle', 'storage', 62.5, 's1', '2026-01-20 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('large', 'users', 5000, 'u1', '2026-01-15 00:00+00') \g /dev/null

SELECT results_eq($$SELECT * FROM billing_run('2026-01-31 23:59:59+00')$$, $$VALUES (0::bigint, 0::bigint, 0::bigint, '{}'::jsonb)$$, 'before the end of the period nothing is due');
SELECT results_eq($$SELECT * FROM billing_run('2026-02-01 00:00+00')$$, $$VALUES (3::bigint, 5::bigint, 0::bigint, '{"USD": 698.00}'::jsonb)$$, 'at its end it is: 29 + 169 + 500');
SELECT results_eq($$SELECT * FROM billing_run('2026-02-01 00:00+00')$$, $$VALUES (0::bigint, 0::bigint, 0::bigint, '{}'::jsonb)$$, 'a second run adds nothing');
CREATE VIEW bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
SELECT is((SELECT total FROM bill WHERE slug = 'small'), 29.00, 'starter: 29.00');
SELECT is((SELECT total FROM bill WHERE slug = 'middle'), 169.00, 'professional with 53 users and 62.5 GB: 99 + 3 × 15 + 12.5 × 2 = 169.00');
SELECT is((SELECT total FROM bill WHERE slug = 'large'), 500.00, 'enterprise: 500.00, users without limit');
SELECT results_eq($$SELECT description, quantity, amount FROM tenancy.invoice_line l JOIN bill b ON b.id = l.invoice_id WHERE slug = 'middle' ORDER BY position$$,
    $$VALUES ('Professional', 1::numeric, 99.00), ('additional_users', 3, 45.00), ('storage_overage', 12.5, 25.00)$$, 'its lines');
SELECT set_eq('SELECT number FROM tenancy.invoice', ARRAY['INV-000001', 'INV-000002', 'INV-000003'], 'numbers without gaps');
SELECT is((SELECT count(*) FROM tenancy.invoice i WHERE total <> (SELECT sum(amount) FROM tenancy.invoice_line l WHERE l.invoice_id = i.id)), 0::bigint, 'totals are the sums of the lines');
SELECT matches((SELECT string_agg(s, ' ') FROM bill b, invoice_explain(b.id) s WHERE slug = 'middle'), '53 of metric "users" were used and 50 are included in plan "professional"; 3 × 15 = 45; that is 45.00 USD', 'the invoice explains itself');

-- a level carries over, a sum does not; months are caught up
SELECT count(*) FROM usage_record('middle', 'users', 60, 'u2', '2026-03-10 00:00+00') \g /dev/null
SELECT is((SELECT invoices FROM billing_run('2026-04-01 00:00+00')), 6::bigint, 'two months are caught up');
SELECT results_eq($$SELECT period_start AT TIME ZONE 'UTC', total FROM bill WHERE slug = 'middle' ORDER BY 1$$,
    $$VALUES ('2026-01-01'::timestamp, 169.00), ('2026-02-01', 169.00), ('2026-03-01', 99 + 150 + 25.00)$$, 'with the levels of each month');
-- the same by an independent way: plain SQL over the events
CREATE FUNCTION public.level(what text, month timestamptz) RETURNS numeric LANGUAGE sql AS $$
    SELECT max(quantity) FROM (
        SELECT quantity FROM tenancy.usage_event WHERE tenant_id = 'middle'::regtenant AND metric = what
           AND occurred_at >= month AND occurred_at < month + interval '1 month'
        UNION ALL
        (SELECT quantity FROM tenancy.usage_event WHERE tenant_id = 'middle'::regtenant AND metric = what
           AND occurred_at < month ORDER BY occurred_at DESC LIMIT 1)) e $$;
SELECT results_eq($$SELECT period_start, total FROM bill WHERE slug = 'middle' ORDER BY 1$$,
    $$SELECT m, 99 + 15 * greatest(0, level('users', m) - 50) + round(2 * greatest(0, level('storage', m) - 50), 2)
        FROM generate_series('2026-01-01 00:00+00'::timestamptz, '2026-03-01 00:00+00', interval '1 month') m$$, 'recomputed from the events');

-- anchors: always from the first, as Stripe, Lago and OpenMeter have it
SELECT results_eq($$SELECT (tenancy.period_boundary('2023-01-31 00:00+00', n, 'monthly', 'UTC') AT TIME ZONE 'UTC')::date FROM generate_series(0, 4) n$$,
    $$VALUES ('2023-01-31'::date), ('2023-02-28'), ('2023-03-31'), ('2023-04-30'), ('2023-05-31')$$, 'Jan 31 by the month');
SELECT results_eq($$SELECT (tenancy.period_boundary('2024-02-29 00:00+00', n, 'yearly', 'UTC') AT TIME ZONE 'UTC')::date FROM generate_series(0, 4) n$$,
    $$VALUES ('2024-02-29'::date), ('2025-02-28'), ('2026-02-28'), ('2027-02-28'), ('2028-02-29')$$, 'Feb 29 by the year');
SELECT results_eq($$SELECT (tenancy.period_boundary('2023-08-31 00:00+00', n, 'quarterly', 'UTC') AT TIME ZONE 'UTC')::date FROM generate_series(0, 3) n$$,
    $$VALUES ('2023-08-31'::date), ('2023-11-30'), ('2024-02-29'), ('2024-05-31')$$, 'Aug 31 by the quarter');
SELECT results_eq($$SELECT tenancy.period_boundary('2022-01-01 05:00+00', n, 'quarterly', 'America/New_York') FROM generate_series(0, 1) n$$,
    $$VALUES ('2022-01-01 05:00+00'::timestamptz), ('2022-04-01 04:00+00')$$, 'midnight in New York across the change to summer time');

-- one that fails does not stop the others
SELECT slug FROM tenant_create('broken', plan => 'starter', starts_at => '2026-04-01 00:00+00') \g /dev/null
CREATE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'broken') THEN RAISE 'sabotage' USING ERRCODE = 'P0001'; END IF; RETURN NEW; END $$;
ALTER FUNCTION public.sabotage() SECURITY DEFINER;
CREATE TRIGGER sabotage BEFORE INSERT ON tenancy.invoice_line FOR EACH ROW EXECUTE FUNCTION public.sabotage();
SELECT results_eq($$SELECT invoices, failed FROM billing_run('2026-05-01 00:00+00')$$, 'VALUES (3::bigint, 1::bigint)', 'three are billed, one fails');
SELECT results_eq($$SELECT sqlstate, error FROM tenancy.billing_failure$$, $$VALUES ('P0001', 'sabotage')$$, 'and says why');
SELECT is((SELECT count(*) FROM bill WHERE slug = 'broken'), 0::bigint, 'without half an invoice');
DROP TRIGGER sabotage ON tenancy.invoice_line;
SELECT results_eq($$SELECT invoices, failed FROM billing_run('2026-05-01 00:00+00')$$, 'VALUES (1::bigint, 0::bigint)', 'the next run bills it');
SELECT is((SELECT max(number) || ' ' || count(*) FROM tenancy.invoice), 'INV-000013 13', 'the failure left no gap');

-- single invoices
SELECT throws_ok($$SELECT invoice_generate('nobody-here')$$, '42704', NULL, 'no such tenant');
SELECT slug FROM tenant_create('fresh') \g /dev/null
SELECT throws_ok($$SELECT invoice_generate('fresh')$$, '55000', 'tenant "fresh" has no subscription', 'no subscription');
SELECT is((subscription_create('fresh', 'starter', '2026-06-15 00:00+00', 'Europe/Berlin')).state, 'active', 'subscribed');
SELECT throws_ok($$SELECT subscription_create('fresh', 'enterprise')$$, '23505', NULL, 'once');
SELECT is((invoice_generate('fresh')).state, 'draft', 'a draft');
SELECT is((SELECT number FROM bill WHERE slug = 'fresh'), NULL, 'has no number');
SELECT is((invoice_generate('fresh', '[2026-06-15 00:00+00,2026-07-15 00:00+00)')).id, (SELECT id FROM bill WHERE slug = 'fresh'), 'the same period gives the same invoice');
SELECT throws_ok($$SELECT invoice_generate('fresh', '[2026-01-15 00:00+00,2026-02-15 00:00+00)')$$, '22023', NULL, 'another period is refused');
SELECT id AS draft FROM bill WHERE slug = 'fresh' \gset
SELECT lives_ok($$UPDATE tenancy.invoice SET due_at = now() WHERE id = $$ || quote_literal(:'draft'), 'a draft can be changed');
SELECT is((invoice_finalize(:'draft')).number, 'INV-000014', 'finalizing gives the next number');
SELECT throws_ok('SELECT invoice_finalize(' || quote_literal(:'draft') || ')', '55000', NULL, 'once');
SELECT throws_ok('UPDATE tenancy.invoice SET total = 0 WHERE id = ' || quote_literal(:'draft'), '55000', 'a finalized invoice cannot be changed', 'not even by a superuser');
SELECT throws_ok('DELETE FROM tenancy.invoice WHERE id = ' || quote_literal(:'draft'), '55000', NULL, 'nor deleted');
SELECT throws_ok('UPDATE tenancy.invoice_line SET amount = 0', '55000', NULL, 'nor a line');
SELECT throws_ok('DELETE FROM tenancy.invoice_line', '55000', NULL, 'nor a line deleted');
SELECT throws_ok('INSERT INTO tenancy.invoice_line SELECT (pg_catalog.jsonb_populate_record(l, ''{"position": 9}'')).* FROM tenancy.invoice_line l LIMIT 1', '55000', NULL, 'nor one added');
SELECT throws_ok('TRUNCATE tenancy.invoice CASCADE', '55000', NULL, 'nor all');
SELECT throws_ok($$UPDATE tenancy.plan_price SET pricing = '{}'$$, '55000', NULL, 'a version of a price stays');
SET session_replication_role = replica;
SELECT throws_ok('UPDATE tenancy.invoice_line SET amount = 0', '55000', NULL, 'also as a replica');
RESET session_replication_role;
SELECT is((invoice_void(:'draft', 'mistake')).number, 'INV-000014', 'a void invoice keeps its number');
SELECT throws_ok('SELECT invoice_void(' || quote_literal(:'draft') || ', ''again'')', '55000', NULL, 'and is final');

-- a period whose invoice is void is billed anew when asked for, and only then
SELECT is((SELECT count(*) FROM billing_run('2026-07-15 00:00+00') r, tenancy.invoice i WHERE i.subscription_id = (SELECT subscription_id FROM bill WHERE id = :'draft') AND i.state <> 'void'), 0::bigint, 'a run leaves a void period alone');
SELECT is((invoice_generate('fresh', '[2026-06-15 00:00+00,2026-07-15 00:00+00)')).state, 'draft', 'a void period can be billed again');
SELECT is((invoice_generate('fresh', '[2026-06-15 00:00+00,2026-07-15 00:00+00)')).total, 29.00, 'once, and in full');
SELECT results_eq($$SELECT state, total FROM bill WHERE slug = 'fresh' ORDER BY created_at, id$$, $$VALUES ('void', 29.00), ('draft', 29.00)$$, 'beside the void one');
SELECT lives_ok($$SELECT billing_run('2026-08-15 00:00+00')$$, 'a run goes on');
SELECT results_eq($$SELECT period_number, state FROM bill WHERE slug = 'fresh' ORDER BY 1, 2 DESC$$, $$VALUES (0, 'void'), (0, 'draft'), (1, 'open')$$, 'and leaves drafts to who made them');

-- plans and prices
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "currency": "USD", "billing_period": "monthly"}')$$, '22023', 'invalid pricing: "base_price" is missing', 'a fault is named: missing');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": -1, "currency": "USD", "billing_period": "monthly"}')$$, '22023', 'invalid pricing: "base_price" must be at least 0', 'too small');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": 1, "currency": "USX", "billing_period": "monthly"}')$$, '22023', NULL, 'no currency');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "usage_based", "base_price": 1, "currency": "USD", "billing_period": "monthly", "usage_metrics": [{"name": "a", "metric": "users", "price": "1", "unit": "u"}]}')$$, '22023', 'invalid pricing: "usage_metrics[0].price" must be a number', 'deep in the document');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "tiered", "base_price": 1, "currency": "USD", "billing_period": "monthly", "metric": "api_calls", "tiers": [{"unit_price": 1}, {"up_to": 3}]}')$$, '22023', NULL, 'tiers in disorder');
SELECT lives_ok($$SELECT plan_create('api', 'API', 'custom', '{"type": "hybrid", "base_price": 10, "currency": "JPY", "billing_period": "monthly", "metric": "api_calls", "tiers": [{"up_to": 1000}, {"up_to": 2000, "unit_price": 0.5, "flat_fee": 3}, {"unit_price": 0.25}]}')$$, 'hybrid, in a currency without decimals');
SELECT slug FROM tenant_create('caller', plan => 'api', starts_at => '2026-01-01 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('caller', 'api_calls', 700, occurred_at => '2026-01-05 00:00+00') \g /dev/null
SELECT count(*) FROM usage_record('caller', 'api_calls', 1301, occurred_at => '2026-01-06 00:00+00') \g /dev/null
SELECT is((invoice_generate('caller')).total, 10::numeric + round(1000 * 0.5 + 3 + 1 * 0.25), 'base + 1000 × 0.5 + 3 + 1 × 0.25, to the yen');
SELECT is((plan_price_change('starter', '{"type": "fixed", "base_price": 39, "currency": "USD", "billing_period": "monthly"}', '2026-06-01 00:00+00')).version, 2, 'a new version of a price');
SELECT is((SELECT invoices FROM billing_run('2026-07-01 00:00+00')) > 0, true, 'the months go on');
SELECT is((SELECT DISTINCT total FROM bill WHERE slug = 'small'), 29.00, 'who has subscribed keeps the price');
SELECT slug FROM tenant_create('later', plan => 'starter', starts_at => '2026-07-01 00:00+00') \g /dev/null
SELECT is((invoice_generate('later')).total, 39.00, 'who comes later pays the new one');

-- cancelling
SELECT id AS sub FROM tenancy.subscription WHERE tenant_id = 'later'::regtenant \gset
SET tenancy.test_clock = '2026-08-10 00:00+00';
SELECT is((subscription_cancel(:'sub', 'too dear')).ends_at, '2026-09-01 00:00+00'::timestamptz, 'cancelled at the end of the period');
SELECT is((SELECT count(*) FROM billing_run('2027-01-01 00:00+00')), 1::bigint, 'billed to the end');
SELECT is((SELECT count(*) || ' ' || max(period_end AT TIME ZONE 'UTC') FROM bill WHERE slug = 'later'), '2 2026-09-01 00:00:00', 'and not further');
SELECT is((SELECT state FROM tenancy.subscription WHERE id = :'sub'), 'ended', 'it has ended');
SELECT id AS sub FROM tenancy.subscription WHERE tenant_id = 'fresh'::regtenant \gset
RESET tenancy.test_clock;
SELECT slug FROM tenant_create('quits', plan => 'starter', starts_at => '2026-04-01 00:00+00') \g /dev/null
SELECT id AS sub FROM tenancy.subscription WHERE tenant_id = 'quits'::regtenant \gset
SET tenancy.test_clock = '2026-04-16 00:00+00';
SELECT count(*) FROM subscription_cancel(:'sub', NULL, at_period_end => false) \g /dev/null
SELECT is((invoice_generate('quits')).total, 14.50, 'ending now bills 15 of 30 days: 14.50');
RESET tenancy.test_clock;

-- the page
SELECT matches(invoice_html((SELECT id FROM bill WHERE slug = 'middle' ORDER BY period_start LIMIT 1)), '^<!DOCTYPE html>.*Additional users.*169\.00.*</html>', 'the invoice as a page');
SELECT name FROM tenant_rename('middle', name => '<script>alert(1)</script> & "co"') \g /dev/null
SELECT is(strpos(invoice_html((SELECT id FROM bill WHERE slug = 'middle' ORDER BY period_start LIMIT 1)), '<script'), 0, 'with what names hold escaped');

-- who may
BEGIN;
SELECT tenant_context_set('small') \g /dev/null
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.invoice), 1::bigint, 'a tenant sees its own invoices');
SELECT is((SELECT count(DISTINCT tenant_id) FROM tenancy.invoice_line), 1::bigint, 'and lines');
SELECT throws_ok('SELECT * FROM billing_run()', '42501', NULL, 'and bills nobody');
ROLLBACK;
SELECT id AS foreign_invoice FROM bill WHERE slug = 'large' LIMIT 1 \gset
BEGIN;
SELECT tenant_context_set('small') \g /dev/null
SELECT throws_ok('SELECT invoice_html(' || quote_literal(:'foreign_invoice') || ')', '42704', NULL, 'another''s invoice does not exist');
SELECT throws_ok('SELECT invoice_explain(' || quote_literal(:'foreign_invoice') || ')', '42704', NULL, 'nor its explanation');
COMMIT;
SELECT * FROM finish();
