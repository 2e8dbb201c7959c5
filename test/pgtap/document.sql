-- Documents: discounts, taxes, credits, credit notes.  Expected amounts come from the documents
-- named, or from arithmetic by hand; random ones are in test/recompute.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE FUNCTION public.doc(members text) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT tenancy.document_calculate('{"currency": "USD"}'::jsonb || members::jsonb) $$;
CREATE FUNCTION public.sums(document jsonb) RETURNS text LANGUAGE sql
    AS $$ SELECT concat_ws(' ', document->>'subtotal', '-' || (document->>'discount'), '+' || (document->>'tax'), '=' || (document->>'total')) $$;
CREATE FUNCTION public.lines(document jsonb, member text) RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(e->>member, ' ' ORDER BY n) FROM jsonb_array_elements(document->'lines') WITH ORDINALITY l(e, n) $$;

-- lines
SELECT is(sums(doc('{"lines": [{"amount": 10.333333}, {"amount": 10.333333}, {"amount": 10.333333}]}')), '30.99 -0 +0 =30.99', 'the sum of rounded lines (Flexprice)');
SELECT is(sums(doc('{"lines": []}')), '0 -0 +0 =0', 'no lines');
SELECT is(sums(doc('{"currency": "JPY", "lines": [{"amount": 100.4}, {"amount": 200.5}, {"amount": 300.6}]}')), '602 -0 +0 =602', 'in yen');

-- discounts
SELECT is(sums(doc('{"lines": [{"amount": 100}], "discounts": [{"kind": "percent", "value": 10}, {"kind": "percent", "value": 10}]}')), '100.00 -19.00 +0 =81.00', 'percentages of what is left (Flexprice)');
SELECT is(sums(doc('{"lines": [{"amount": 100}], "discounts": [{"kind": "fixed", "value": 50}, {"kind": "percent", "value": 10}]}')), '100.00 -60.00 +0 =40.00', 'percentages before fixed amounts (Meteroid)');
SELECT is(sums(doc('{"lines": [{"amount": 100}], "discounts": [{"kind": "fixed", "value": 200}]}')), '100.00 -100.00 +0 =0.00', 'not more than there is (Stripe)');
SELECT is(lines(doc('{"lines": [{"amount": 3.33}, {"amount": 3.33}, {"amount": 3.34}], "discounts": [{"kind": "fixed", "value": 1}]}'), 'net'), '3.00 3.00 3.00', 'spread by largest remainder (Meteroid)');
SELECT is(doc('{"lines": [{"amount": 1}, {"amount": 1}], "discounts": [{"kind": "percent", "value": 33.33}]}')->>'discount', '0.67', 'a percentage of the whole (Polar)');
SELECT is(doc('{"lines": [{"amount": 1}, {"amount": 1}], "discounts": [{"kind": "percent", "value": 33.33, "per_line": true}]}')->>'discount', '0.66', 'or of each line');
SELECT is(lines(doc('{"lines": [{"amount": 100}, {"amount": -50}], "discounts": [{"kind": "percent", "value": 10}]}'), 'discount'), '10.00 0.00', 'what is given back gets no discount');
SELECT is(lines(doc('{"lines": [{"amount": 10, "plan": "a", "metric": "x"}, {"amount": 10, "plan": "a"}, {"amount": 10, "plan": "b", "metric": "x"}], "discounts": [{"kind": "percent", "value": 10, "plans": ["a"]}]}'), 'discount'), '1.00 1.00 0.00', 'on a plan');
SELECT is(lines(doc('{"lines": [{"amount": 10, "plan": "a", "metric": "x"}, {"amount": 10, "plan": "a"}, {"amount": 10, "plan": "b", "metric": "x"}], "discounts": [{"kind": "percent", "value": 10, "metrics": ["x", "y"]}]}'), 'discount'), '1.00 0.00 1.00', 'on metrics');
SELECT is(lines(doc('{"lines": [{"amount": 10, "subscription": 1, "charge": "c"}, {"amount": 10, "subscription": 2, "charge": "c"}, {"amount": 10, "subscription": 2}], "discounts": [{"kind": "percent", "value": 10, "subscription": 2, "charge": "c"}]}'), 'discount'), '0.00 1.00 0.00', 'on a charge of a subscription');
SELECT is(lines(doc('{"lines": [{"amount": 10, "metric": "x"}, {"amount": 10}], "discounts": [{"kind": "fixed", "value": 10}, {"kind": "fixed", "value": 10, "metrics": ["x"]}]}'), 'discount'), '10.00 10.00', 'those that are limited most come first');
SELECT is(sums(doc('{"lines": [{"amount": 200}], "discounts": [{"kind": "maximum", "value": 65}, {"kind": "percent", "value": 50}]}')), '200.00 -135.00 +0 =65.00', 'the maximum spend after percentages (OpenMeter)');
SELECT is(sums(doc('{"lines": [{"amount": 200}], "discounts": [{"kind": "maximum", "value": 65}, {"kind": "fixed", "value": 5}]}')), '200.00 -140.00 +0 =60.00', 'and before fixed amounts');
SELECT is((SELECT bool_and((d->>'amount')::numeric = (SELECT sum(s::numeric) FROM jsonb_array_elements_text(d->'shares') s)) FROM jsonb_array_elements(doc('{"lines": [{"amount": 3.33}, {"amount": 7.01}, {"amount": 0.02}], "discounts": [{"kind": "percent", "value": 33.3}, {"kind": "fixed", "value": 2.22}]}')->'discounts') d), true, 'shares add up');

-- taxes
SELECT is(lines(doc('{"lines": [{"amount": 0.43}, {"amount": 4.84}], "taxes": [{"id": "t", "percentage": 15}]}'), 'tax'), '0.06 0.73', 'by the line (Stripe)');
SELECT is(sums(doc('{"lines": [{"amount": 68.33}, {"amount": 68.33}], "taxes": [{"id": "t", "percentage": 20}], "tax_rounding": "invoice"}')), '136.66 -0 +27.33 =163.99', 'by the invoice (Lago)');
SELECT is(lines(doc('{"lines": [{"amount": 68.33}, {"amount": 68.33}], "taxes": [{"id": "t", "percentage": 20}], "tax_rounding": "invoice"}'), 'tax'), '13.67 13.66', 'with shares that add up');
SELECT is(doc('{"lines": [{"amount": 99.99}], "taxes": [{"id": "a", "percentage": 8.875}, {"id": "b", "percentage": 2.125}, {"id": "c", "percentage": 0.5}]}')->>'tax', '11.49', 'several rates on one base, rounded separately (Flexprice)');
SELECT is(doc('{"lines": [{"amount": 100}], "taxes": [{"id": "a", "percentage": 5}, {"id": "b", "percentage": 10, "compound": true}]}')->'taxes', '[{"id": "a", "base": 100.00, "amount": 5.00, "percentage": 5}, {"id": "b", "base": 105.00, "amount": 10.50, "percentage": 10}]', 'a compound one on top of others');
SELECT is(lines(doc('{"lines": [{"amount": 10, "taxes": ["a"]}, {"amount": 10, "taxes": []}, {"amount": 10}], "taxes": [{"id": "a", "percentage": 10}, {"id": "b", "percentage": 1}]}'), 'tax'), '1.00 0 1.10', 'each line its own');
SELECT is(lines(doc('{"currency": "JPY", "lines": [{"amount": 1000}], "taxes": [{"id": "t", "percentage": 10, "inclusive": true}]}'), 'net'), '909', 'inclusive: 909 and 91');
SELECT is(doc('{"lines": [{"amount": 2.99}], "taxes": [{"id": "t", "percentage": 4, "inclusive": true}]}')->>'inclusive_tax', '0.12', 'the tax rounded (Zuora)');
SELECT is(doc('{"lines": [{"amount": 2.99}], "taxes": [{"id": "t", "percentage": 4, "inclusive": true}], "inclusive_rounding": "net"}')->>'inclusive_tax', '0.11', 'or the net amount');
SELECT is(sums(doc('{"lines": [{"amount": 110}], "taxes": [{"id": "i", "percentage": 10, "inclusive": true}, {"id": "x", "percentage": 5}]}')), '110.00 -0 +5.00 =115.00', 'one within, one on top of what is left');
SELECT is(sums(doc('{"lines": [{"amount": 100}], "discounts": [{"kind": "fixed", "value": 10}], "taxes": [{"id": "t", "percentage": 10}]}')), '100.00 -10.00 +9.00 =99.00', 'after discounts');
SELECT is(sums(doc('{"lines": [{"amount": 100}, {"amount": -40}], "taxes": [{"id": "t", "percentage": 10}]}')), '60.00 -0 +6.00 =66.00', 'what is given back gives back its tax');
SELECT is(doc('{"lines": [{"amount": 100}], "taxes": [{"id": "t", "percentage": 10}], "tax_treatment": "reverse_charge"}')->'taxes', '[{"id": "t", "base": 100.00, "amount": 0.00, "percentage": 10}]', 'a tax-free customer: the rate is there, and comes to nothing');
SELECT is(doc('{"lines": [{"amount": 0.014}], "taxes": [{"id": "t", "percentage": 50}], "tax_base": "exact"}')->>'tax', '0.01', 'of the unrounded amount: 0.007');
SELECT is(doc('{"lines": [{"amount": 0.006}], "taxes": [{"id": "t", "percentage": 50}]}')->>'tax', '0.01', 'or the rounded one: 0.005');

-- credits come after tax
SELECT is(doc('{"lines": [{"amount": 50}, {"amount": 20}], "discounts": [{"kind": "fixed", "value": 10}], "taxes": [{"id": "t", "percentage": 10}], "credits": [{"available": 20}, {"available": 30}]}') - '{lines,discounts,taxes}'::text[],
    '{"due": 16.00, "tax": 6.00, "total": 66.00, "credits": [20.00, 30.00], "credited": 50.00, "discount": 10.00, "subtotal": 70.00, "inclusive_tax": 0}', 'discounts, taxes, credits (Lago)');
SELECT is(doc('{"lines": [{"amount": 10}], "credits": [{"available": 7}, {"available": 7}]}')->'credits', '[7.00, 3.00]', 'in their order');
SELECT is(doc('{"lines": [{"amount": -10}], "credits": [{"available": 7}]}')->>'due', '-10.00', 'what is given back needs none');

-- faults
SELECT throws_ok(format('SELECT doc(%L)', document), '22023', fault, fault) FROM (VALUES
    ('{}', 'invalid document: "lines" is missing'),
    ('{"currency": "XQQ", "lines": []}', 'invalid document: "currency" must be a currency of ISO 4217, such as "USD"'),
    ('{"lines": [{"amount": "1"}]}', 'invalid document: "lines[0].amount" must be a number'),
    ('{"lines": [{"amount": 1, "taxes": ["x"]}]}', 'invalid document: "lines[0].taxes[0]" must be the id of one of "taxes"'),
    ('{"lines": [], "discounts": [{"kind": "free", "value": 1}]}', 'invalid document: "discounts[0].kind" must be one of "percent", "maximum", "fixed"'),
    ('{"lines": [], "discounts": [{"kind": "percent", "value": 101}]}', 'invalid document: "discounts[0].value" must be at most 100'),
    ('{"lines": [], "discounts": [{"kind": "fixed", "value": 1, "per_line": true}]}', 'invalid document: "discounts[0].per_line" has no meaning for what is no percentage'),
    ('{"lines": [], "taxes": [{"id": "t", "percentage": -1}]}', 'invalid document: "taxes[0].percentage" must be at least 0'),
    ('{"lines": [], "credits": [{"available": -1}]}', 'invalid document: "credits[0].available" must be at least 0'),
    ('{"lines": [], "total": 1}', 'invalid document: "total" is unknown')) v(document, fault);
SELECT throws_ok('SELECT tenancy.document_calculate(''[]'')', '22023', 'invalid document: it must be a JSON object', 'an array');
SELECT is(tenancy.document_calculate(NULL), NULL, 'nothing of nothing');

-- credit notes
CREATE FUNCTION public.note(members text) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT tenancy.credit_note_calculate('{"currency": "USD", "tax_rounding": "invoice"}'::jsonb || members::jsonb) $$;
SELECT is(note('{"lines": [{"amount": 68.33, "credit": 68.33}, {"amount": 68.33, "credit": 0}], "taxes": [{"id": "t", "percentage": 20, "base": 136.66, "amount": 27.33}]}') - '{lines,taxes}'::text[],
    '{"tax": 13.67, "total": 82.00, "discount": 0, "subtotal": 68.33}', 'a credit note over one of two lines (Lago)');
SELECT is(note('{"lines": [{"amount": 68.33, "earlier": 68.33, "credit": 0}, {"amount": 68.33, "credit": 68.33}], "taxes": [{"id": "t", "percentage": 20, "base": 136.66, "amount": 27.33, "earlier_base": 68.33, "earlier_amount": 13.67}]}') - '{lines,taxes}'::text[],
    '{"tax": 13.66, "total": 81.99, "discount": 0, "subtotal": 68.33}', 'the last one takes the remainder (Lago)');
SELECT is(note('{"lines": [{"amount": 100, "discount": 10, "credit": 50}], "taxes": []}'), '{"tax": 0, "lines": [{"net": 45.00, "credit": 50.00, "discount": 5.00}], "taxes": [], "total": 45.00, "discount": 5.00, "subtotal": 50.00}', 'a discount is taken back pro rata');
SELECT is(note('{"lines": [{"amount": 110, "credit": 55}], "taxes": [{"id": "t", "percentage": 10, "inclusive": true, "base": 100, "amount": 10}]}')->'taxes', '[{"id": "t", "base": 50.00, "amount": 5.00}]', 'an inclusive tax, too');
SELECT is(note('{"lines": [{"amount": -10, "credit": -10}], "taxes": []}')->>'total', '-10.00', 'what was given back can be taken back');
SELECT throws_ok($$SELECT note('{"lines": [{"amount": 10, "earlier": 6, "credit": 5}], "taxes": []}')$$, '22023', '5.00 cannot be credited', 'not more than is left');
SELECT throws_ok($$SELECT note('{"lines": [{"amount": 10, "credit": -1}], "taxes": []}')$$, '22023', NULL, 'nor less than nothing');
SELECT throws_ok($$SELECT note('{"lines": [{"credit": 1}]}')$$, '22023', 'invalid credit note: "lines[0].amount" is missing', 'of lines that say what they are');
SELECT throws_ok($$SELECT note('{"lines": [], "taxes": [{"id": "t", "percentage": 1, "base": 1}]}')$$, '22023', 'invalid credit note: "taxes[0].amount" is missing', 'and taxes');

-- a document of many lines, discounts and taxes always adds up
SELECT is((SELECT count(*) FROM (SELECT setseed(0.5)) s, LATERAL (
    SELECT tenancy.document_calculate(jsonb_build_object('currency', c, 'tax_rounding', r, 'taxes', '[{"id": "a", "percentage": 19}, {"id": "b", "percentage": 7.7}]'::jsonb,
            'discounts', jsonb_build_array(jsonb_build_object('kind', 'percent', 'value', 12.5), jsonb_build_object('kind', 'fixed', 'value', 17)),
            'lines', (SELECT jsonb_agg(jsonb_build_object('amount', round((random() * 1000)::numeric, 4))) FROM generate_series(1, 50) WHERE n > 0))) AS d
      FROM generate_series(1, 20) n, unnest('{JPY,USD,BHD}'::text[]) c, unnest('{line,invoice}'::text[]) r) x
    WHERE (d->>'total')::numeric <> (SELECT sum((l->>'total')::numeric) FROM jsonb_array_elements(d->'lines') l)
       OR (d->>'discount')::numeric <> (SELECT sum((l->>'discount')::numeric) FROM jsonb_array_elements(d->'lines') l)
       OR (d->>'tax')::numeric <> (SELECT sum((t->>'amount')::numeric) FROM jsonb_array_elements(d->'taxes') t)
       OR (d->>'total')::numeric <> (d->>'subtotal')::numeric - (d->>'discount')::numeric + (d->>'tax')::numeric), 0::bigint, 'lines add up to totals');
SELECT * FROM finish();
