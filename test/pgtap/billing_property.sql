-- Three years of random plans, subscriptions, changes, usage, coupons, taxes, payments, refunds, credit notes, voids and re-issues: what must always hold.
--   PGOPTIONS="-c billing.seed=0.7 -c billing.tenants=40" psql -f test/pgtap/billing_property.sql
SELECT * FROM no_plan();
\ir quiet.psql
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

-- What happens to invoices once they are there.
CREATE TABLE public.done (what text, count int);
CREATE FUNCTION public.done(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO public.done VALUES (what, 1)';
CREATE PROCEDURE public.correct_some(step int) LANGUAGE plpgsql AS $$
DECLARE
    v record;
    line record;
    p record;
    r tenancy.refund;
    note uuid;
    dice float8;
    again uuid;
BEGIN
    FOR v IN SELECT i.*, CASE i.currency WHEN 'BHD' THEN 3 ELSE 2 END AS decimals FROM tenancy.invoice i WHERE i.state IN ('open', 'paid', 'uncollectible') AND i.issued_at > current_setting('tenancy.test_clock')::timestamptz - interval '120 days' ORDER BY i.number LOOP
        CONTINUE WHEN random() > 0.25;
        dice := random();
        BEGIN
            IF dice < 0.3 AND v.amount_due > 0 THEN -- a part, all of it, or too much
                PERFORM payment_record(v.tenant_id, round(v.amount_due * pick(ARRAY[0.3, 1, 1, 1.25]) + 0.01, v.decimals), 'bank-' || step || '-' || v.number, CASE WHEN random() < 0.7 THEN v.id END, v.currency);
                PERFORM done('recorded');
            ELSIF dice < 0.4 AND v.amount_due > 0 THEN
                p := payment_process(v.id);
                p := payment_result(p.id, pick(ARRAY['succeeded', 'succeeded', 'failed']), 'gate-' || step || '-' || v.number, CASE WHEN random() < 0.2 THEN round(v.amount_due * 0.6 + 0.01, v.decimals) END, 'declined');
                PERFORM done(p.state);
            ELSIF dice < 0.65 THEN -- a line in part, or all that is left
                SELECT * INTO line FROM tenancy.creditable_line c WHERE c.invoice_id = v.id AND c.remaining > 0 ORDER BY c.position OFFSET floor(random() * 2) LIMIT 1;
                note := (credit_note_create(v.id, 'random', CASE WHEN line IS NOT NULL AND random() < 0.8 THEN
                    jsonb_build_array(jsonb_build_object('position', line.position, 'amount', least(line.remaining, round(line.remaining * pick(ARRAY[0.1, 0.333, 0.5, 1]) + 0.005, v.decimals)))) END, pick(ARRAY['credit', 'refund']))).id;
                PERFORM done('note');
            ELSIF dice < 0.9 THEN -- of a credit note, or of the payment as such
                SELECT q.* INTO p FROM tenancy.payment q JOIN tenancy.payment_allocation a ON a.payment_id = q.id WHERE a.invoice_id = v.id AND q.captured > q.refunded ORDER BY q.id LIMIT 1;
                CONTINUE WHEN NOT FOUND;
                note := (SELECT n.id FROM tenancy.credit_note n WHERE n.invoice_id = v.id AND n.amount_off_due < n.total ORDER BY n.number DESC LIMIT 1);
                r := payment_refund(p.id, CASE WHEN random() < 0.4 THEN round((p.captured - p.refunded) * 0.2 + 0.01, v.decimals) END, 'random', CASE WHEN random() < 0.8 THEN note END);
                PERFORM done('refund ' || CASE WHEN r.credit_note_id IS NULL THEN 'of a payment' ELSE 'of a note' END);
                IF r.state = 'requested' THEN
                    r := refund_result(r.id, pick(ARRAY['succeeded', 'succeeded', 'failed']), 're-' || r.id, 'refused');
                    PERFORM done('refund ' || r.state);
                    IF r.state = 'succeeded' AND random() < 0.4 THEN
                        PERFORM refund_result(r.id, 'failed', failure_code => 'returned');
                        PERFORM done('refund returned');
                    END IF;
                END IF;
            ELSIF dice < 0.95 THEN
                PERFORM invoice_void(v.id, 'random');
                PERFORM done('void');
                IF random() < 0.7 AND v.purpose = 'cycle' THEN
                    again := (invoice_generate(v.tenant_id, tstzrange(v.period_start, v.period_end))).id;
                    PERFORM invoice_finalize(again);
                    PERFORM done('issued again');
                END IF;
            ELSIF dice < 0.97 THEN
                PERFORM invoice_write_off(v.id, 'random');
                PERFORM done('given up');
            ELSE
                PERFORM credit_add(v.tenant_id, round((random() * 30 + 1)::numeric, 2), 'random', v.currency, source => pick(ARRAY['promotion', 'purchase']));
                PERFORM done('credit');
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_parameter_value THEN PERFORM done('refused: ' || SQLERRM);
        END;
    END LOOP;
END $$;

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
    PERFORM payment_provider_create('gate', 'standard');
    FOR n IN 1 .. 8 LOOP
        PERFORM plan_create('plan' || n, 'Plan ' || n, 'custom', jsonb_build_object('type', 'custom', 'base_price', round((random() * 100)::numeric, 2), 'base_timing', pick(ARRAY['advance', 'arrears']),
            'billing_period', CASE WHEN n <= 6 THEN 'monthly' ELSE pick(ARRAY['yearly', 'quarterly', 'weekly']) END, 'currency', CASE WHEN n = 6 THEN 'BHD' ELSE 'USD' END,
            'proration_unit', CASE WHEN n <= 5 THEN pick(ARRAY['second', 'day']) ELSE 'second' END,
            'charges', (SELECT jsonb_agg(any_charge(c)) FROM generate_series(1, 1 + n % 3) c))
            || CASE WHEN random() < 0.3 THEN '{"minimum": 30}'::jsonb ELSE '{}' END || CASE WHEN random() < 0.3 THEN '{"trial_days": 14}'::jsonb ELSE '{}' END || CASE WHEN random() < 0.3 OR n = 1 THEN '{"setup_fee": 12.5}'::jsonb ELSE '{}' END);
    END LOOP;
    FOR n IN 1 .. tenant_count LOOP
        t := (tenant_create('p-' || n, isolation => 'pool')).id;
        PERFORM payment_method_add(t, 'gate', 'token-' || n);
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
        CALL correct_some(step);
    END LOOP;
END $$;
CALL simulate();
SELECT set_config('tenancy.test_clock', '2027-03-15 00:00+00', false) \g /dev/null
SELECT count(*) FROM billing_run('2027-03-15 00:00+00') \g /dev/null

SELECT cmp_ok((SELECT count(*) FROM tenancy.invoice), '>', 10 * current_setting('billing.tenants')::bigint, 'hundreds of invoices');
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
    WITH base AS (SELECT i.subscription_id, i.line, i.plan, i.price_version, v.pricing->>'proration_unit' AS unit, range_agg(tstzrange(greatest(i.starts_at, coalesce(s.trial_ends_at, '-infinity')), least(i.ends_at, s.period_start))) AS times
          FROM tenancy.subscription_item i JOIN tenancy.subscription s ON s.id = i.subscription_id JOIN tenancy.plan_price v ON (v.plan, v.version, v.currency) = (i.plan, i.price_version, i.currency)
         WHERE i.superseded_at = 'infinity' AND v.pricing->>'base_timing' = 'arrears' AND (v.pricing->>'base_price')::numeric > 1
           AND greatest(i.starts_at, coalesce(s.trial_ends_at, '-infinity')) < least(i.ends_at, s.period_start) GROUP BY 1, 2, 3, 4, 5),
    billed AS (SELECT l.subscription_id, l.item_line, l.plan, l.price_version, range_agg(tstzrange(l.period_start, l.period_end)) AS times FROM tenancy.invoice_line l WHERE l.charge = 'base' AND l.kind = 'recurring' AND l.amount > 0 GROUP BY 1, 2, 3, 4)
    SELECT b.*, x.times FROM base b LEFT JOIN billed x ON (x.subscription_id, x.item_line, x.plan, x.price_version) = (b.subscription_id, b.line, b.plan, b.price_version)
     WHERE EXISTS (SELECT FROM unnest(b.times - coalesce(x.times, '{}')) u WHERE upper(u) - lower(u) > CASE b.unit WHEN 'day' THEN interval '1 day' ELSE interval '1 hour' END)$$, 'every hour in force has its base price, or every day');
-- credits never exceed what was billed
SELECT is_empty($$SELECT c.corrects, c.corrects_position, sum(c.amount - n.back) FROM tenancy.invoice_line c JOIN tenancy.invoice i ON i.id = c.invoice_id AND i.state <> 'void' JOIN tenancy.invoice_line b ON (b.invoice_id, b.position) = (c.corrects, c.corrects_position),
    LATERAL (SELECT coalesce(sum(amount), 0) AS back FROM tenancy.credit_note_line e WHERE (e.invoice_id, e.invoice_position) = (c.invoice_id, c.position)) n GROUP BY 1, 2, b.amount, b.discount HAVING -sum(c.amount - n.back) > b.amount - b.discount OR sum(c.amount - n.back) > 0$$, 'credits never exceed what they take back, less what credit notes took back of them');
SELECT is_empty($$SELECT l.invoice_id, l.position, n.credited - c.corrected AS taken, l.amount - l.discount AS net FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id AND i.state <> 'void',
    LATERAL (SELECT coalesce(sum(e.amount - e.discount), 0) AS credited FROM tenancy.credit_note_line e WHERE (e.invoice_id, e.invoice_position) = (l.invoice_id, l.position)) n,
    LATERAL (SELECT coalesce(sum(o.amount - coalesce((SELECT sum(e.amount) FROM tenancy.credit_note_line e WHERE (e.invoice_id, e.invoice_position) = (o.invoice_id, o.position)), 0)), 0) AS corrected FROM tenancy.invoice_line o JOIN tenancy.invoice v ON v.id = o.invoice_id AND v.state <> 'void' WHERE (o.corrects, o.corrects_position) = (l.invoice_id, l.position)) c
    WHERE l.kind = 'advance' AND n.credited - c.corrected > l.amount - l.discount + 0.01$$, 'nor do they together with credit notes');
-- what is billed in advance covers each moment once: seats and prices that follow each other, none beside the other
SELECT is_empty($$SELECT a.invoice_id, a.position, b.invoice_id, b.position FROM tenancy.invoice_line a JOIN tenancy.invoice i ON i.id = a.invoice_id AND i.state <> 'void' JOIN tenancy.invoice_line b ON (b.subscription_id, b.item_line, b.charge, b.plan, b.price_version, b.quantity) = (a.subscription_id, a.item_line, a.charge, a.plan, a.price_version, a.quantity) AND (b.invoice_id, b.position) > (a.invoice_id, a.position)
    JOIN tenancy.invoice j ON j.id = b.invoice_id AND j.state <> 'void' WHERE a.kind = 'advance' AND b.kind = 'advance' AND tstzrange(a.period_start, a.period_end) && tstzrange(b.period_start, b.period_end)$$, 'nothing is billed twice in advance');
SELECT results_eq($$SELECT count(*) FROM tenancy.invoice_item WHERE invoice_id IS NOT NULL$$, $$SELECT count(*) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id AND i.state <> 'void' WHERE l.kind = 'manual'$$, 'each item is on one invoice that counts');
-- maximums
SELECT is_empty($$SELECT l.subscription_id, l.charge, l.period_start, sum(l.amount - l.discount) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id AND i.state <> 'void' JOIN tenancy.plan_price v ON v.plan = l.plan AND v.version = l.price_version, jsonb_array_elements(v.pricing->'charges') c
    WHERE c->>'id' = l.charge AND c ? 'maximum' GROUP BY l.subscription_id, l.item_line, l.charge, l.period_start, c HAVING sum(l.amount - l.discount) > (c->>'maximum')::numeric$$, 'no charge exceeds its maximum');
-- money
SELECT is_empty($$SELECT currency, sum(amount) FROM tenancy.ledger_entry GROUP BY transaction_id, currency HAVING sum(amount) <> 0$$, 'every posting is balanced');
SELECT results_eq($$SELECT currency, sum(amount) FROM tenancy.ledger_entry WHERE account = 'receivable' GROUP BY 1 HAVING sum(amount) <> 0 ORDER BY 1$$,
    $$SELECT currency, sum(amount_due) FROM tenancy.invoice WHERE state IN ('open', 'paid') GROUP BY 1 HAVING sum(amount_due) <> 0 ORDER BY 1$$, 'what is receivable is what is due');
SELECT results_eq($$SELECT currency, sum(amount) FROM tenancy.ledger_entry WHERE account = 'write_off' GROUP BY 1 HAVING sum(amount) <> 0 ORDER BY 1$$,
    $$SELECT currency, sum(amount_due) FROM tenancy.invoice WHERE state = 'uncollectible' GROUP BY 1 HAVING sum(amount_due) <> 0 ORDER BY 1$$, 'what was given up is what is due of it');
SELECT results_eq($$SELECT currency, -sum(amount) FROM tenancy.ledger_entry WHERE account = 'tax_payable' GROUP BY 1 HAVING sum(amount) <> 0 ORDER BY 1$$,
    $$SELECT currency, sum(tax) FROM (SELECT currency, tax + inclusive_tax AS tax FROM tenancy.invoice WHERE state NOT IN ('draft', 'void') UNION ALL SELECT currency, -tax - inclusive_tax FROM tenancy.credit_note) x GROUP BY 1 HAVING sum(tax) <> 0 ORDER BY 1$$, 'the tax payable is that of the invoices less that of the credit notes');
-- what a tenant owes, or has to its credit: documents less payments
SELECT is_empty($$
    SELECT tenant_id, currency, sum(amount) FROM (
        SELECT tenant_id, currency, total AS amount FROM tenancy.invoice WHERE state NOT IN ('draft', 'void')
        UNION ALL SELECT tenant_id, currency, -total FROM tenancy.credit_note
        UNION ALL SELECT tenant_id, currency, -captured FROM tenancy.payment
        UNION ALL SELECT tenant_id, currency, amount FROM tenancy.refund WHERE state = 'succeeded'
        UNION ALL SELECT tenant_id, currency, -amount FROM tenancy.credit WHERE source IN ('promotion', 'purchase')
        UNION ALL SELECT tenant_id, currency, -amount_due FROM tenancy.invoice WHERE state = 'uncollectible'
        UNION ALL SELECT tenant_id, currency, -balance FROM tenancy.customer_balance) x
     GROUP BY 1, 2 HAVING sum(amount) <> 0$$, 'the balance of a customer is documents less payments');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the ledger has what the documents say');
SELECT is_empty($$SELECT c.id, c.remaining FROM tenancy.credit c WHERE c.remaining < 0 OR c.remaining > c.amount$$, 'no credit is used beyond what was given');
SELECT is_empty($$SELECT i.number FROM tenancy.invoice i WHERE i.amount_paid <> (SELECT coalesce(sum(amount), 0) FROM tenancy.payment_allocation a WHERE a.invoice_id = i.id)$$, 'what is paid of an invoice is what payments paid of it');
SELECT is_empty($$SELECT p.id FROM tenancy.payment p WHERE p.refunded > p.captured OR p.refunded <> (SELECT coalesce(sum(amount), 0) FROM tenancy.refund r WHERE r.payment_id = p.id AND r.state = 'succeeded')$$, 'refunds never exceed payments');
SELECT is_empty($$SELECT n.number FROM tenancy.credit_note n WHERE n.amount_to_credit + n.amount_to_refund < (SELECT sum(amount) FROM tenancy.refund r WHERE r.credit_note_id = n.id AND r.state <> 'failed')$$, 'nor what credit notes have to give');
-- credit notes
SELECT is_empty($$SELECT i.number, l.position FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id,
    LATERAL (SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum(discount), 0) AS discount, coalesce(sum(net), 0) AS net FROM tenancy.credit_note_line n WHERE (n.invoice_id, n.invoice_position) = (l.invoice_id, l.position)) n
    WHERE abs(n.amount) > abs(l.amount) OR n.amount * l.amount < 0 OR n.discount > l.discount OR abs(n.net) > abs(l.net)$$, 'credit notes never take more of a line than it was');
SELECT is_empty($$SELECT i.number, x.tax_rate FROM tenancy.invoice_tax x JOIN tenancy.invoice i ON i.id = x.invoice_id,
    LATERAL (SELECT coalesce(sum(amount), 0) AS amount FROM tenancy.credit_note_tax n WHERE (n.invoice_id, n.invoice_position) = (x.invoice_id, x.position)) n WHERE x.amount > 0 AND n.amount > x.amount$$, 'nor of a tax');
SELECT is_empty($$SELECT i.number FROM tenancy.invoice i JOIN tenancy.credit_note n ON n.invoice_id = i.id GROUP BY i.id HAVING sum(n.total) > i.total OR sum(n.deferred) > i.deferred AND i.deferred > 0$$, 'nor of an invoice');
SELECT is_empty($$SELECT n.number FROM tenancy.credit_note n WHERE (n.subtotal, n.discount, n.subtotal - n.discount - n.inclusive_tax) IS DISTINCT FROM (SELECT ROW(sum(amount), sum(discount), sum(net)) FROM tenancy.credit_note_line l WHERE l.credit_note_id = n.id)$$, 'credit notes are the sums of their lines');
-- the last takes the remainder
CREATE TABLE public.closed AS SELECT i.id, (credit_note_create(i.id, 'all that is left', use => CASE WHEN i.number ~ '[02468]$' THEN 'refund' ELSE 'credit' END)).id AS note
  FROM tenancy.invoice i WHERE i.state IN ('open', 'paid', 'uncollectible') AND i.number ~ '[0-6]$'
   AND i.total > (SELECT coalesce(sum(n.total), 0) FROM tenancy.credit_note n WHERE n.invoice_id = i.id)
   AND NOT EXISTS (SELECT FROM tenancy.creditable_line c WHERE c.invoice_id = i.id AND c.corrected <> 0);
SELECT cmp_ok((SELECT count(*) FROM public.closed), '>', 50::bigint, 'what is left of many invoices is taken back');
SELECT is_empty($$SELECT i.number FROM public.closed c JOIN tenancy.invoice i USING (id) JOIN tenancy.credit_note n ON n.invoice_id = i.id GROUP BY i.id
    HAVING (sum(n.subtotal), sum(n.discount), sum(n.tax), sum(n.inclusive_tax), sum(n.total), sum(n.deferred)) IS DISTINCT FROM (i.subtotal, i.discount, i.tax, i.inclusive_tax, i.total, i.deferred)$$, 'together, credit notes are the invoice to the last cent');
SELECT is_empty($$SELECT l.invoice_id, l.position FROM public.closed c JOIN tenancy.invoice_line l ON l.invoice_id = c.id LEFT JOIN tenancy.credit_note_line n ON (n.invoice_id, n.invoice_position) = (l.invoice_id, l.position) GROUP BY l.invoice_id, l.position
    HAVING (coalesce(sum(n.amount), 0), coalesce(sum(n.discount), 0), coalesce(sum(n.net), 0)) IS DISTINCT FROM (l.amount, l.discount, l.net)$$, 'line by line');
SELECT is_empty($$SELECT x.invoice_id, x.tax_rate FROM public.closed c JOIN tenancy.invoice_tax x ON x.invoice_id = c.id LEFT JOIN tenancy.credit_note_tax n ON (n.invoice_id, n.invoice_position) = (x.invoice_id, x.position) GROUP BY x.invoice_id, x.position
    HAVING (coalesce(sum(n.amount), 0), coalesce(sum(n.base), 0)) IS DISTINCT FROM (x.amount, x.base)$$, 'and tax by tax');
SELECT is_empty($$SELECT c.id, d.account FROM public.closed c, LATERAL (SELECT c.id AS document UNION ALL SELECT n.id FROM tenancy.credit_note n WHERE n.invoice_id = c.id) x JOIN tenancy.ledger_document d ON d.document_id = x.document AND d.kind IN ('invoice', 'credit_note', 'recognition')
    WHERE d.account IN ('revenue', 'deferred_revenue', 'tax_payable') GROUP BY 1, 2 HAVING sum(coalesce(d.debit, 0) - coalesce(d.credit, 0)) <> 0$$, 'nothing of them is left in the ledger');
SELECT is_empty($$SELECT i.number FROM public.closed c JOIN tenancy.invoice i USING (id) WHERE i.amount_due > 0 AND NOT EXISTS (SELECT FROM tenancy.payment_allocation a JOIN tenancy.refund r ON r.payment_id = a.payment_id WHERE a.invoice_id = i.id)$$, 'and nothing is due, but what went back by itself');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the ledger has what the documents say');
SELECT is_empty($$SELECT legal_entity FROM tenancy.invoice WHERE number IS NOT NULL GROUP BY 1 HAVING count(*) <> max(regexp_replace(number, '^.*-', '')::int) OR count(DISTINCT number) <> count(*)$$, 'numbers have no gaps in each series');
SELECT is_empty($$SELECT legal_entity FROM tenancy.credit_note GROUP BY 1 HAVING count(*) <> max(regexp_replace(number, '^.*-', '')::int) OR count(DISTINCT number) <> count(*)$$, 'nor in those of credit notes');
SELECT set_has('SELECT what FROM public.done ', $$VALUES ('recorded'), ('succeeded'), ('failed'), ('note'), ('refund of a note'), ('refund of a payment'), ('refund succeeded'), ('refund returned'), ('void'), ('issued again'), ('given up'), ('credit')$$, 'all of this has happened');
-- previews
SELECT cmp_ok((SELECT count(*) FROM previews), '>', 10::bigint, 'some invoices were previewed');
SELECT is_empty('SELECT step, previewed, billed FROM previews WHERE previewed <> billed', 'what was previewed was billed');
SELECT * FROM finish();
