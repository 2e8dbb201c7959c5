-- Several batches in a run: two that fail are left out and everybody else is billed once.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT count(*) FROM plan_create('flat', 'Flat', 'custom', '{"type": "fixed", "base_price": 10, "currency": "USD", "billing_period": "monthly"}') \g /dev/null
INSERT INTO tenancy.tenant (id, slug, name, plan, isolation, state, role_name, owner_name, owns_ddl, configuration, metadata, created_at, updated_at)
    SELECT tenancy.id_new(), 'many-' || n, 'Many ' || n, 'flat', 'pool', 'active', 'r_' || n, 'o_' || n, false, '{}', '{}', now(), now() FROM generate_series(1, 1100) n;
SELECT count(*) FROM tenancy.tenant t, subscription_create(t.id, 'flat', '2026-01-01 00:00+00') \g /dev/null
CREATE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF (SELECT slug FROM tenancy.tenant WHERE id = NEW.tenant_id) IN ('many-500', 'many-1100') THEN RAISE 'sabotage'; END IF; RETURN NEW; END $$;
CREATE TRIGGER sabotage BEFORE INSERT ON tenancy.invoice_line FOR EACH ROW EXECUTE FUNCTION public.sabotage();
SELECT results_eq($$SELECT invoices, lines, failed, total FROM billing_run('2026-03-01 00:00+00')$$, $$VALUES (2196::bigint, 2196::bigint, 2::bigint, '{"USD": 21960.00}'::jsonb)$$,
    'two months of all the others; what is counted is what was done');
SELECT set_eq($$SELECT t.slug FROM tenancy.billing_failure f JOIN tenancy.tenant t ON t.id = f.tenant_id$$, ARRAY['many-500', 'many-1100'], 'those that failed are recorded');
SELECT is((SELECT count(*) FROM tenancy.billing_failure), 2::bigint, 'once');
SELECT is_empty($$SELECT subscription_id FROM tenancy.invoice GROUP BY subscription_id, period_start HAVING count(*) > 1$$, 'no period twice');
SELECT results_eq($$SELECT count(DISTINCT number), min(number), max(number) FROM tenancy.invoice$$, $$VALUES (2196::bigint, 'INV-000001', 'INV-002196')$$, 'what failed left no gap');
SELECT is((SELECT sum(amount) FROM tenancy.ledger_entry WHERE account = 'receivable'), 21960.00, 'nothing of an attempt that was undone is posted');
DROP TRIGGER sabotage ON tenancy.invoice_line;
SELECT results_eq($$SELECT invoices, failed, total FROM billing_run('2026-03-01 00:00+00')$$, $$VALUES (4::bigint, 0::bigint, '{"USD": 40.00}'::jsonb)$$, 'the next run bills them');
SELECT * FROM finish();
