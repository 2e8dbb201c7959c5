-- Three years of random plans, subscriptions, changes, usage, coupons and taxes: what must always hold.
--   PGOPTIONS="-c billing.seed=0.7 -c billing.tenants=40" psql -f test/pgtap/billing_property.sql
SELECT * FROM no_plan();
SELECT count(*) FROM schedule_set('billing.run', enabled => false) \g /dev/null
SELECT set_config('billing.seed', coalesce(nullif(current_setting('billing.seed', true), ''), '0.42'), false),
       set_config('billing.tenants', coalesce(nullif(current_setting('billing.tenants', true), ''), '16'), false) \g /dev/null

CREATE FUNCTION public.pick(choices anyarray) RETURNS anyelement LANGUAGE sql VOLATILE AS
    'SELECT choices[1 + floor(random() * cardinality(choices))::int]';
CREATE FUNCTION public.any_charge(n int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    model text := pick(ARRAY['per_unit', 'graduated', 'volume', 'package', 'flat']);
    charge jsonb := jsonb_build_object('id', 'c' || n, 'name', 'Charge ' || n, 'model', model);
BEGIN
    IF model = 'flat' THEN
        charge := charge || jsonb_build_object('unit_price', round((random() * 50)::numeric, 2), 'timing', pick(ARRAY['advance', 'arrears']), 'recurring', random() < 0.8);
    ELSIF random() < 0.3 AND model = 'per_unit' THEN
        charge := charge || jsonb_build_object('unit_price', round((random() * 20)::numeric, 3), 'per_seat', true, 'unit', 'seat', 'timing', pick(ARRAY['advance', 'arrears']));
    ELSE
        charge := charge || jsonb_build_object('metric', pick(ARRAY['p_sum', 'p_max', 'p_count']), 'unit', 'u')
            || CASE model WHEN 'per_unit' THEN jsonb_build_object('unit_price', round((random() * 2)::numeric, 4))
                          WHEN 'package' THEN jsonb_build_object('unit_price', 5, 'package_size', 10)
                          ELSE '{"tiers": [{"up_to": 10, "unit_price": 0.5, "flat_fee": 1}, {"up_to": 100, "unit_price": 0.333}, {"unit_price": 0.1, "flat_fee": 7}]}'::jsonb END
            || CASE WHEN random() < 0.2 THEN '{"maximum": 40}'::jsonb WHEN random() < 0.2 THEN '{"minimum": 8}' ELSE '{}' END;
    END IF;
    RETURN charge;
END $$;

CREATE TABLE public.previews (step int, tenant uuid, previewed jsonb, billed jsonb);
-- What says when and where, and what only a document that exists has, left out.
CREATE FUNCTION public.essence(document jsonb) RETURNS jsonb LANGUAGE sql AS
    $$SELECT document - ARRAY['id', 'number', 'issued_at', 'due_at']$$;

CREATE PROCEDURE public.simulate() LANGUAGE plpgsql AS $$
DECLARE
    tenant_count int := current_setting('billing.tenants');
    clock timestamptz := '2024-01-31 00:00+00';
    ends timestamptz := '2027-01-31 00:00+00';
    step int := 0;
    sub record;
    plans text[];
    previewed jsonb;
    t uuid;
BEGIN
    PERFORM setseed(current_setting('billing.seed')::float8);
    PERFORM set_config('tenancy.test_clock', clock::text, false);
    PERFORM metric_create('p_sum', 'u'), metric_create('p_max', 'u', 'max', true), metric_create('p_count', 'u', 'count');
    PERFORM tax_rate_create('vat', 19), tax_rate_create('inc', 7, is_inclusive => true), tax_rate_create('city', 2.125);
    PERFORM legal_entity_set('default', jsonb_build_object('tax_rounding', pick(ARRAY['line', 'invoice']), 'tax_rates', pick(ARRAY['[]', '["vat"]', '["vat", "city"]'])::jsonb));
    PERFORM legal_entity_set('second', jsonb_build_object('name', 'Second', 'tax_rounding', 'invoice', 'tax_rates', '["inc"]'::jsonb));
    PERFORM coupon_create('p10', '{"kind": "percent", "value": 10, "duration": "forever"}'), coupon_create('p33', '{"kind": "percent", "value": 33.3, "duration": "repeating", "duration_periods": 3}'),
            coupon_create('f25', '{"kind": "fixed", "value": 25, "currency": "USD"}'), coupon_create('f5', '{"kind": "fixed", "value": 5, "currency": "USD", "duration": "forever", "metrics": ["p_sum"]}');
    FOR n IN 1 .. 8 LOOP
        PERFORM plan_create('plan' || n, 'Plan ' || n, 'custom', jsonb_build_object('type', 'custom', 'base_price', round((random() * 100)::numeric, 2), 'base_timing', pick(ARRAY['advance', 'arrears']),
            'billing_period', CASE WHEN n <= 6 THEN 'monthly' ELSE pick(ARRAY['yearly', 'quarterly', 'weekly']) END, 'currency', CASE WHEN n = 6 THEN 'BHD' ELSE 'USD' END,
            'proration_unit', CASE WHEN n <= 5 THEN pick(ARRAY['second', 'day']) ELSE 'second' END,
            'charges', (SELECT jsonb_agg(any_charge(c)) FROM generate_series(1, 1 + n % 3) c))
            || CASE WHEN random() < 0.3 THEN '{"minimum": 30}'::jsonb ELSE '{}' END || CASE WHEN random() < 0.3 THEN '{"trial_days": 14}'::jsonb ELSE '{}' END || CASE WHEN random() < 0.3 THEN '{"setup_fee": 12.5}'::jsonb ELSE '{}' END);
    END LOOP;
    FOR n IN 1 .. tenant_count LOOP
        t := (tenant_create('p-' || n, isolation => 'pool')).id;
        IF random() < 0.5 THEN PERFORM billing_account_set(t, jsonb_build_object('legal_entity', pick(ARRAY['default', 'second']), 'consolidates', random() < 0.3)); END IF;
        PERFORM subscription_create(t, pick(ARRAY['plan1', 'plan2', 'plan3', 'plan4', 'plan5', 'plan6', 'plan7', 'plan8']), clock - random() * interval '20 days', pick(ARRAY['UTC', 'America/New_York', 'Europe/Berlin']), 1 + floor(random() * 5)::numeric);
    END LOOP;
    WHILE clock < ends LOOP
        step := step + 1;
        clock := clock + random() * interval '20 days';
        PERFORM set_config('tenancy.test_clock', clock::text, false);
        FOR sub IN SELECT s.*, p.pricing->>'currency' AS money FROM tenancy.subscription s JOIN tenancy.plan_price p ON (p.plan, p.version, p.currency) = (s.plan, s.price_version, s.currency) ORDER BY s.id LOOP
            BEGIN
                IF random() < 0.5 THEN
                    PERFORM usage_record(sub.tenant_id, pick(ARRAY['p_sum', 'p_max', 'p_count']), floor(random() * 60)::numeric, occurred_at => clock - random() * random() * interval '60 days');
                END IF;
                IF sub.state IN ('active', 'trialing', 'past_due') AND random() < 0.08 THEN
                    plans := ARRAY(SELECT id FROM tenancy.plan l JOIN tenancy.plan_price v ON v.plan = l.id WHERE v.currency = sub.currency AND id LIKE 'plan%');
                    PERFORM subscription_update(sub.id, jsonb_strip_nulls(jsonb_build_object('plan', CASE WHEN random() < 0.6 THEN pick(plans) END, 'quantity', floor(random() * 6),
                        'effective', pick(ARRAY['now', 'period_end', NULL]), 'invoice', pick(ARRAY['now', 'next']))), clock);
                ELSIF sub.state IN ('active', 'trialing') AND random() < 0.03 THEN
                    PERFORM subscription_pause(sub.id, pick(ARRAY['service', 'service', 'draft', 'void', 'uncollectible']), CASE WHEN random() < 0.5 THEN clock + interval '40 days' END);
                ELSIF sub.state = 'paused' AND random() < 0.4 THEN
                    PERFORM subscription_resume(sub.id);
                ELSIF sub.state IN ('active', 'trialing') AND random() < 0.02 THEN
                    PERFORM subscription_cancel(sub.id, 'random', random() < 0.5);
                ELSIF sub.state = 'cancelled' AND random() < 0.3 AND sub.ends_at > clock THEN
                    PERFORM subscription_reactivate(sub.id);
                ELSIF random() < 0.04 THEN
                    PERFORM coupon_apply(sub.tenant_id, pick(ARRAY['p10', 'p33', 'f25', 'f5']));
                ELSIF random() < 0.03 THEN
                    PERFORM invoice_item_add(sub.tenant_id, 'Extra', round((random() * 100 - 20)::numeric, 2), sub.currency);
                END IF;
            EXCEPTION WHEN unique_violation OR invalid_parameter_value THEN NULL; -- has the coupon; a time that has been billed
            END;
        END LOOP;
        -- one is previewed before it is billed
        t := pick(ARRAY(SELECT s.tenant_id FROM tenancy.subscription s WHERE s.bills_at <= clock GROUP BY 1 HAVING count(*) = 1 AND min(s.period_end) + interval '6 days' > clock ORDER BY 1));
        previewed := CASE WHEN t IS NOT NULL THEN invoice_preview(t, clock) END;
        IF (SELECT failed FROM billing_run(clock)) > 0 THEN
            RAISE 'billing failed: %', (SELECT error FROM tenancy.billing_failure LIMIT 1);
        END IF;
        IF t IS NOT NULL AND previewed <> '[]' THEN
            INSERT INTO previews SELECT step, t, essence(previewed->0), essence(tenancy.invoice_document(i.id))
              FROM tenancy.invoice i WHERE i.tenant_id = t AND i.created_at = clock ORDER BY i.number LIMIT 1;
        END IF;
    END LOOP;
END $$;
CALL simulate();
SELECT set_config('tenancy.test_clock', '2027-03-15 00:00+00', false) \g /dev/null
SELECT count(*) FROM billing_run('2027-03-15 00:00+00') \g /dev/null

SELECT cmp_ok((SELECT count(*) FROM tenancy.invoice), '>', 200::bigint, 'hundreds of invoices');
SELECT set_has('SELECT kind FROM tenancy.invoice_line', $$VALUES ('advance'), ('credit'), ('late'), ('manual'), ('minimum'), ('one_off'), ('recurring'), ('usage')$$, 'with lines of every kind');
SELECT is((SELECT count(*) FROM tenancy.billing_failure), 0::bigint, 'none failed');
SELECT results_eq($$SELECT invoices, lines, failed FROM billing_run('2027-03-15 00:00+00')$$, 'VALUES (0::bigint, 0::bigint, 0::bigint)', 'a second run adds nothing');
-- sums
SELECT is_empty($$SELECT i.number, i.subtotal, l.* FROM tenancy.invoice i, LATERAL (SELECT count(*) AS lines, sum(amount) AS amount, sum(discount) AS discount, sum(tax) AS tax, sum(net) AS net FROM tenancy.invoice_line l WHERE l.invoice_id = i.id) l
    WHERE (i.line_count, i.subtotal, i.discount, i.tax) IS DISTINCT FROM (l.lines, l.amount, l.discount, l.tax) OR i.total - i.tax - i.inclusive_tax <> l.net$$, 'invoices are the sums of their lines');
SELECT is_empty($$SELECT i.number FROM tenancy.invoice i WHERE i.discount <> (SELECT coalesce(sum(amount), 0) FROM tenancy.invoice_discount d WHERE d.invoice_id = i.id)$$, 'discounts are those of the coupons and maximums');
SELECT is_empty($$SELECT i.number FROM tenancy.invoice i WHERE (i.tax, i.inclusive_tax) IS DISTINCT FROM (SELECT ROW(coalesce(sum(amount) FILTER (WHERE NOT is_inclusive), 0), coalesce(sum(amount) FILTER (WHERE is_inclusive), 0)) FROM tenancy.invoice_tax x WHERE x.invoice_id = i.id)$$, 'taxes are those of the rates');
SELECT is_empty($$SELECT l.* FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id WHERE round(l.amount, CASE i.currency WHEN 'BHD' THEN 3 ELSE 2 END) <> l.amount OR l.discount < 0 OR l.discount > greatest(l.amount, 0)$$, 'no amount is finer than its currency, no discount larger than its line');
-- periods
SELECT is_empty($$SELECT * FROM (SELECT subscription_id, period_start, period_end, lag(period_end) OVER (PARTITION BY subscription_id ORDER BY period_start) AS before FROM tenancy.invoice WHERE purpose = 'cycle' AND state <> 'void' AND subscription_id IS NOT NULL) p WHERE period_start < before$$, 'no period is billed twice');
SELECT is_empty($$SELECT s.id FROM tenancy.subscription s WHERE s.bills_at <= '2027-03-15 00:00+00'$$, 'none is left behind');
SELECT is_empty($$SELECT l.subscription_id, l.item_line, l.charge FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id AND i.state <> 'void' WHERE l.kind IN ('recurring', 'usage')
    GROUP BY l.subscription_id, l.item_line, l.plan, l.price_version, l.charge
    HAVING (SELECT sum(upper(u) - lower(u)) FROM unnest(range_agg(tstzrange(l.period_start, l.period_end))) u) <> sum(l.period_end - l.period_start)$$, 'no time of a charge is billed twice');
-- the base price in arrears: every second in force, outside of trials, is on a line
SELECT is_empty($$
    WITH base AS (SELECT i.subscription_id, i.line, i.plan, i.price_version, range_agg(tstzrange(greatest(i.starts_at, coalesce(s.trial_ends_at, '-infinity')), least(i.ends_at, s.period_start))) AS times
          FROM tenancy.subscription_item i JOIN tenancy.subscription s ON s.id = i.subscription_id JOIN tenancy.plan_price v ON (v.plan, v.version, v.currency) = (i.plan, i.price_version, i.currency)
         WHERE i.superseded_at = 'infinity' AND v.pricing->>'base_timing' = 'arrears' AND (v.pricing->>'base_price')::numeric > 1
           AND greatest(i.starts_at, coalesce(s.trial_ends_at, '-infinity')) < least(i.ends_at, s.period_start) GROUP BY 1, 2, 3, 4),
    billed AS (SELECT l.subscription_id, l.item_line, l.plan, l.price_version, range_agg(tstzrange(l.period_start, l.period_end)) AS times FROM tenancy.invoice_line l WHERE l.charge = 'base' AND l.kind = 'recurring' AND l.amount > 0 GROUP BY 1, 2, 3, 4)
    SELECT b.*, x.times FROM base b LEFT JOIN billed x ON (x.subscription_id, x.item_line, x.plan, x.price_version) = (b.subscription_id, b.line, b.plan, b.price_version)
     WHERE EXISTS (SELECT FROM unnest(b.times - coalesce(x.times, '{}')) u WHERE upper(u) - lower(u) > interval '1 hour')$$, 'every hour in force has its base price');
-- credits never exceed what was billed
SELECT is_empty($$SELECT c.corrects, sum(c.amount), b.amount - b.discount FROM tenancy.invoice_line c JOIN tenancy.invoice_line b ON (b.invoice_id, b.position) = (c.corrects, c.corrects_position) GROUP BY c.corrects, c.corrects_position, b.amount, b.discount HAVING -sum(c.amount) > b.amount - b.discount OR sum(c.amount) > 0$$, 'credits never exceed what they take back');
-- maximums
SELECT is_empty($$SELECT l.subscription_id, l.charge, l.period_start, sum(l.amount - l.discount) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id AND i.state <> 'void' JOIN tenancy.plan_price v ON v.plan = l.plan AND v.version = l.price_version, jsonb_array_elements(v.pricing->'charges') c
    WHERE c->>'id' = l.charge AND c ? 'maximum' GROUP BY l.subscription_id, l.item_line, l.charge, l.period_start, c HAVING sum(l.amount - l.discount) > (c->>'maximum')::numeric$$, 'no charge exceeds its maximum');
-- money
SELECT is_empty($$SELECT currency, sum(amount) FROM tenancy.ledger_entry GROUP BY transaction_id, currency HAVING sum(amount) <> 0$$, 'every posting is balanced');
SELECT results_eq($$SELECT currency, sum(amount) FROM tenancy.ledger_entry WHERE account = 'receivable' GROUP BY 1 HAVING sum(amount) <> 0 ORDER BY 1$$,
    $$SELECT currency, sum(amount_due) FROM tenancy.invoice WHERE state = 'open' GROUP BY 1 HAVING sum(amount_due) <> 0 ORDER BY 1$$, 'what is receivable is what is due');
SELECT results_eq($$SELECT -sum(amount) FROM tenancy.ledger_entry WHERE account = 'tax_payable'$$, $$SELECT sum(tax + inclusive_tax) FROM tenancy.invoice WHERE state NOT IN ('draft', 'void')$$, 'the tax payable is that of the invoices');
SELECT is_empty($$SELECT legal_entity FROM tenancy.invoice WHERE number IS NOT NULL GROUP BY 1 HAVING count(*) <> max(regexp_replace(number, '^.*-', '')::int) OR count(DISTINCT number) <> count(*)$$, 'numbers have no gaps in each series');
-- previews
SELECT cmp_ok((SELECT count(*) FROM previews), '>', 10::bigint, 'some invoices were previewed');
SELECT is_empty('SELECT step, previewed, billed FROM previews WHERE previewed <> billed', 'what was previewed was billed');
SELECT * FROM finish();
