-- Levels that are prorated in invoices: each change walks the tiers.  Amounts are those of Lago's own tests (prorated_graduated_service_spec, lago-progr-3, -5 and -6 in test/vectors), whose prorated units are these days.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT metric_create('seats', 'seat', 'weighted_sum', true) \g /dev/null
SELECT plan_create('seats', 'Seats', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "charges": [{"id": "seats", "name": "Seats", "model": "graduated", "metric": "seats", "prorate": true, "tiers": [{"up_to": 5, "unit_price": 10, "flat_fee": 100}, {"unit_price": 5, "flat_fee": 50}]}]}'),
       plan_create('days', 'Days', 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly", "proration_unit": "day", "maximum": 150, "charges": [{"id": "seats", "name": "Seats", "model": "graduated", "metric": "seats", "prorate": true, "tiers": [{"up_to": 5, "unit_price": 10, "flat_fee": 100}, {"unit_price": 5, "flat_fee": 50}]}]}') \g /dev/null
CREATE FUNCTION public.changes(who text, month timestamptz, changes numeric[], days_left int[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(usage_record(who, 'seats', c, who || n, month + interval '1 month' - make_interval(days => d))) FROM unnest(changes, days_left) WITH ORDINALITY u(c, d, n) $$;
CREATE VIEW bill AS SELECT t.slug, i.period_start AS month, l.* FROM tenancy.invoice i JOIN tenancy.invoice_line l ON l.invoice_id = i.id JOIN tenancy.tenant t ON t.id = i.tenant_id;
SELECT count(tenant_create(slug, plan => plan, isolation => 'pool', starts_at => starts_at)) FROM (VALUES ('p3', 'seats', '2026-01-01 00:00+00'::timestamptz), ('p5', 'seats', '2026-04-01 00:00+00'), ('p6', 'seats', '2026-04-01 00:00+00'), ('p6d', 'days', '2026-04-01 00:00+00')) t(slug, plan, starts_at) \g /dev/null
SET tenancy.test_clock = '2026-05-01 00:00+00';
SELECT public.changes('p3', '2026-01-01 00:00+00', '{1,4,1,-5,-1}', '{22,12,7,5,2}'), public.changes('p5', '2026-04-01 00:00+00', '{4,2,-3}', '{21,15,6}'), public.changes('p6', '2026-04-01 00:00+00', '{5,2,-4,10}', '{21,15,12,6}'), public.changes('p6d', '2026-04-01 00:00+00', '{5,2,-4,10}', '{21,15,12,6}') \g /dev/null
SELECT count(*) FROM billing_run('2026-05-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT slug, amount FROM bill WHERE slug <> 'p6d' AND amount > 100 AND month IN ('2026-01-01 00:00+00', '2026-04-01 00:00+00') ORDER BY 1$$, $$VALUES ('p3', 165.81), ('p5', 180.50), ('p6', 190.00)$$, 'units that came last leave first, for the part that is left; fees of all tiers that were entered');
SELECT results_eq($$SELECT amount, discount FROM bill WHERE slug = 'p6d'$$, 'VALUES (190.00, 40.00)', 'by the day the same, and at most 150');
SELECT results_eq($$SELECT trace->'by_changes', trace ? 'part' FROM bill WHERE slug = 'p6'$$, $$VALUES ('true'::jsonb, false)$$, 'which the line tells');
SELECT matches((SELECT string_agg(s, ' ') FROM tenancy.invoice i, invoice_explain(i.id) s WHERE i.tenant_id = 'p5'::regtenant), 'prices each change of the level for the part of the period that was left', 'and explains');
-- 3 of 4 + 2 − 3 seats are there all of May, and one more from May 21 on: 3 × 10 + 10 × 11 ÷ 31 + 100
SET tenancy.test_clock = '2026-06-01 02:00+00';
SELECT usage_record('p5', 'seats', 1, 'may', '2026-05-21 00:00+00') \g /dev/null
SELECT count(*) FROM billing_run('2026-06-01 00:00+00') \g /dev/null
SELECT results_eq($$SELECT amount, round(quantity, 6) FROM bill WHERE slug = 'p5' AND month = '2026-05-01 00:00+00'$$, 'VALUES (133.55, round(3 + 11 / 31.0, 6))', 'what was there before the period is there from its start');
-- it came late that 2 more were there from May 21 on: 6 seats enter the second tier
SET tenancy.test_clock = '2026-06-10 00:00+00';
SELECT usage_record('p5', 'seats', 2, 'late', '2026-05-21 12:00+00') \g /dev/null
SET tenancy.test_clock = '2026-07-01 02:00+00';
SELECT count(*) FROM billing_run('2026-07-01 00:00+00') \g /dev/null
-- of the 2, one at 10 and one at 5, for 10.5 days of 31, and the fee of 50
SELECT results_eq($$SELECT amount FROM bill WHERE slug = 'p5' AND kind = 'late'$$, 'SELECT round(3 * 10 + 10 * 11 / 31.0 + 15 * 10.5 / 31.0 + 150, 2) - 133.55', 'and late by the difference');
SELECT * FROM finish();
