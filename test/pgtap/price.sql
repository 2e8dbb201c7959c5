-- Prices, charges, parts of periods.  Expected amounts come from the documents named, or from
-- arithmetic by hand; more of them are in test/vectors, and random ones in test/recompute.
SELECT * FROM no_plan();
CREATE FUNCTION public.cost(price text, quantity numeric, currency text DEFAULT 'USD') RETURNS numeric LANGUAGE sql
    AS $$ SELECT price_calculate(price::jsonb, quantity, currency) $$;

-- the models
SELECT is(cost('{"model": "flat", "unit_price": 29}', 7), 29.00, 'flat: whatever the quantity');
SELECT is(cost('{"model": "per_unit", "unit_price": 0.001}', 100), 0.10, 'per unit');
SELECT is(cost('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 7}, {"up_to": 10, "unit_price": 6.5}, {"unit_price": 6}]}', 20), 127.50, 'graduated (Stripe)');
SELECT is(cost('{"model": "volume", "tiers": [{"up_to": 5, "unit_price": 7}, {"up_to": 10, "unit_price": 6.5}, {"unit_price": 6}]}', 25), 150.00, 'volume (Stripe)');
SELECT results_eq($$SELECT cost('{"model": "volume", "tiers": [{"up_to": 15, "unit_price": 10}, {"unit_price": 5}]}', q) FROM unnest('{15,16}'::numeric[]) q$$, 'VALUES (150.00), (80.00)', 'volume: crossing a tier may lower the total (OpenMeter)');
SELECT is(cost('{"model": "volume", "tiers": [{"up_to": 5, "flat_fee": 100}, {"unit_price": 5}]}', 0), 100.00, 'nothing is in the first tier, and its fee is due (OpenMeter)');
SELECT is(cost('{"model": "graduated", "tiers": [{"up_to": 0}, {"flat_fee": 10, "unit_price": 1}]}', 0), 0.00, 'unless a tier ends at nothing');
SELECT results_eq($$SELECT cost('{"model": "package", "unit_price": 5, "package_size": 100, "included": 100}', q) FROM unnest('{0,100,101,201}'::numeric[]) q$$, 'VALUES (0.00), (0.00), (5.00), (10.00)', 'package: started ones, after what is included (Lago)');
SELECT is(cost('{"model": "package", "unit_price": 1, "package_size": 100, "package_rounding": "down"}', 250), 2.00, 'package: filled ones (Flexprice)');
SELECT is(cost('{"model": "block_graduated", "tiers": [{"size": 1, "max_blocks": 10, "price": 1.5}, {"size": 1, "max_blocks": 100, "price": 1}, {"size": 1, "max_blocks": 1000, "price": 0.5}]}', 111), 115.50, 'blocks, all tiers (Kill Bill)');
SELECT is(cost('{"model": "block_volume", "tiers": [{"size": 100, "max_blocks": 10, "price": 1}, {"size": 1000, "max_blocks": 100, "price": 1}, {"size": 1000, "max_blocks": 100, "price": 0.5}]}', 300000), 150.00, 'blocks, top tier (Kill Bill)');
SELECT is(cost('{"model": "block_graduated", "tiers": [{"size": 10, "max_blocks": 2, "price": 3}]}', 1000), 6.00, 'what goes beyond a last tier of so many blocks costs no more');
SELECT is(cost('{"model": "graduated_percentage", "tiers": [{"up_to": 10, "rate": 1, "flat_fee": 200}, {"up_to": 20, "rate": 2, "flat_fee": 300}, {"rate": 3, "flat_fee": 400}]}', 21), 900.33, 'graduated percentage (Lago)');
SELECT is(cost('{"model": "dynamic", "multiplier": 1.33333}', 10), 13.33, 'dynamic (OpenMeter)');
SELECT is(cost('{"model": "dynamic"}', 10.005), 10.01, 'dynamic: as the events say');
SELECT is(price_calculate('{"model": "percentage", "rate": 1.2, "fixed_fee": 0.1, "free_events": 3, "free_amount": 500}', 450, 'USD', '{200,100,100,50}'), 0.70, 'percentage: what is free ends by the event (Lago)');
SELECT is(price_calculate('{"model": "percentage", "rate": 2.99, "free_events": 3, "free_amount": 10000, "transaction_minimum": 1.75, "transaction_maximum": 12}', 10090, 'USD', '{10,80,10000}'), 2.69, 'or by the amount, and then costs for the rest (Lago)');
SELECT is(price_calculate('{"model": "percentage", "rate": 2.99, "fixed_fee": 2, "transaction_minimum": 1.75, "transaction_maximum": 12}', 10090, 'USD', '{10,80,10000}'), 18.69, 'at least and at most so much a transaction (Lago)');
SELECT is(price_calculate('{"model": "percentage", "rate": 10, "fixed_fee": 1}', 90, 'USD', '{100,-10}'), 10.00, 'a refund gives back its rate and not its fee');
SELECT is(cost('{"model": "per_unit", "unit_price": 15, "included": 50}', 40), 0.00, 'less than is included costs nothing');
SELECT is(cost('{"model": "per_unit", "unit_price": 59.99, "quantity_rounding": "down"}', 4.6), 239.96, 'rounded quantities (Zuora)');
SELECT is(cost('{"model": "per_unit", "unit_price": 1, "quantity_rounding": "up", "quantity_decimals": 1}', 4.61), 4.70, 'up, to a decimal');
SELECT is(cost('{"model": "per_unit", "unit_price": 1}', -5), 0.00, 'less than nothing costs nothing');

-- minimum, maximum, parts, what was billed
SELECT is(cost('{"model": "per_unit", "unit_price": 1, "minimum": 50}', 7), 50.00, 'a minimum');
SELECT is(cost('{"model": "per_unit", "unit_price": 10, "maximum": 50}', 7), 50.00, 'a maximum');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 100, "minimum": 10}', 1, 'USD', part => 17, whole => 31), 54.84, 'a part of a period');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 1, "minimum": 10}', 0, 'USD', part => 25, whole => 28), 8.93, 'of its minimum, too');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 100, "prorate": false}', 1, 'USD', part => 17, whole => 31), 100.00, 'unless the price is not prorated');
SELECT is(price_calculate('{"model": "graduated", "tiers": [{"up_to": 5, "flat_fee": 100}, {"up_to": 10, "flat_fee": 50}, {"up_to": 15, "unit_price": 5}, {"unit_price": 1}]}', 22, 'USD', billed_quantity => 12), 22.00, 'f(total) - f(billed), which is not f(total - billed) (OpenMeter)');
SELECT is(price_calculate('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 10, "flat_fee": 100}, {"unit_price": 5, "flat_fee": 50}]}', 0, 'USD', '{4,2,-3}', '{2.8,1,-0.6}'), 180.50, 'levels over time: what came last leaves first (Lago)');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 10, "included": 2}', 0, 'USD', '{5,-1}', '{5,-0.5}'), 25.00, 'above what is included: 3 for all of it, one less for half');

-- half away from zero, once
SELECT results_eq($$SELECT cost('{"model": "per_unit", "unit_price": 1}', q, c) FROM (VALUES (10.125, 'USD'), (100.5, 'JPY'), (1.1505, 'BHD')) v(q, c)$$, 'VALUES (10.13), (101), (1.151)', 'half up, by the exponent of the currency');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 1}', 999999999999999.99, 'USD', part => 1, whole => 3), 333333333333333.33, 'a quotient is not cut before it is rounded');
SELECT is(tenancy.prorate(0.0149999999999999999999999999, 1, 1, 'USD'), 0.01, 'what is just below a half stays below');
SELECT is(tenancy.prorate(-10, 1, 16, 'USD'), -0.63, 'credits are rounded as charges are');

-- steps that add up
SELECT is((SELECT sum(amount) FROM tenancy.price_explain(p::jsonb, 123.4, 'USD', part => 17, whole => 31) WHERE rule <> 'total')::numeric(20, 9),
          tenancy.prorate((SELECT sum(amount) FROM tenancy.price_explain(p::jsonb, 123.4, 'USD') WHERE rule <> 'total'), 17, 31)::numeric(20, 9), 'the steps of a part: ' || (p::jsonb->>'model'))
  FROM unnest(ARRAY['{"model": "flat", "unit_price": 3}', '{"model": "per_unit", "unit_price": 3, "included": 4}', '{"model": "graduated", "tiers": [{"up_to": 50, "unit_price": 2, "flat_fee": 3}, {"unit_price": 1}]}',
      '{"model": "volume", "tiers": [{"up_to": 50, "unit_price": 2, "flat_fee": 3}, {"unit_price": 1}]}', '{"model": "package", "unit_price": 3, "package_size": 5}', '{"model": "percentage", "rate": 2.5, "fixed_fee": 1}',
      '{"model": "graduated_percentage", "tiers": [{"up_to": 50, "rate": 2}, {"rate": 1}]}', '{"model": "block_graduated", "tiers": [{"size": 5, "max_blocks": 3, "price": 1}, {"size": 10, "price": 2}]}',
      '{"model": "block_volume", "tiers": [{"size": 5, "max_blocks": 3, "price": 1}, {"size": 10, "price": 2}]}', '{"model": "dynamic", "multiplier": 2}']) p;
SELECT results_eq($$SELECT step, rule, amount::numeric(12, 2) FROM tenancy.price_explain('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 7}, {"unit_price": 6}], "included": 2, "minimum": 100}', 9, 'USD')$$,
    $$VALUES (1, 'included', 0.00), (2, 'tier', 35.00), (3, 'tier', 12.00), (4, 'minimum', 53.00), (5, 'total', 100.00)$$, 'price_explain() tells how');
SELECT is((SELECT description FROM tenancy.price_explain('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 7}, {"unit_price": 6, "flat_fee": 1}]}', 9, 'USD') WHERE step = 2), 'tier 2, above 5: 4 × 6 + 1 = 25', 'in words');
SELECT is((SELECT amount FROM tenancy.price_explain('{"model": "per_unit", "unit_price": 7, "maximum": 50}', 9, 'USD') WHERE rule = 'maximum'), -13::numeric, 'a maximum takes off');
SELECT is_empty($$SELECT tenancy.price_explain(NULL, 1, 'USD')$$, 'of nothing');

-- faults of a price, by their path
SELECT throws_ok(format('SELECT price_calculate(%L, 1, ''USD'')', price), '22023', 'invalid price: ' || fault, fault) FROM (VALUES
    ('{"model": "package", "unit_price": 1}', '"package_size" is missing'),
    ('{"model": "package", "unit_price": 1, "package_size": 0}', '"package_size" must be more than 0'),
    ('{"model": "per_unit", "unit_price": 1, "tiers": [{}]}', '"tiers" has no meaning'),
    ('{"model": "percentage"}', '"rate" is missing'),
    ('{"model": "percentage", "rate": 1, "free_events": 1.5}', '"free_events" must be a whole number'),
    ('{"model": "percentage", "rate": 1, "transaction_minimum": 2, "transaction_maximum": 1}', '"transaction_maximum" must be at least 2'),
    ('{"model": "volume", "tiers": [{"up_to": 1, "rate": 1}, {}]}', '"tiers[0].rate" has no meaning'),
    ('{"model": "volume", "tiers": [{"up_to": 5}, {"up_to": 5}, {}]}', '"tiers[1].up_to" must be more than 5'),
    ('{"model": "volume", "tiers": [{}, {}]}', '"tiers[0].up_to" must be a number'),
    ('{"model": "volume", "tiers": [{"unit_price": "1"}]}', '"tiers[0].unit_price" must be a number'),
    ('{"model": "block_volume", "tiers": [{"size": 1}]}', '"tiers[0].price" is missing'),
    ('{"model": "block_volume", "tiers": [{"size": 1, "price": 1}, {"size": 1, "price": 1}]}', '"tiers[0].max_blocks" must be a number'),
    ('{"model": "per_unit", "unit_price": 1.0000000000001}', '"unit_price" must be a number of at most 12 decimals'),
    ('{"model": "per_unit", "unit_price": -1}', '"unit_price" must be at least 0'),
    ('{"model": "per_unit", "unit_price": 1e30}', '"unit_price" must be at most 999999999999999999999999'),
    ('{"model": "per_unit", "unit_price": 1, "minimum": 2, "maximum": 1}', '"maximum" must be at least 2'),
    ('{"model": "per_unit", "unit_price": 1, "quantity_decimals": 2}', '"quantity_rounding" is missing'),
    ('{"model": "per_unit", "unit_price": 1, "quantity_rounding": "half_even"}', '"quantity_rounding" must be one of "up", "down", "half_up"'),
    ('{"unit_price": 1}', '"model" is missing')) v(price, fault);
SELECT throws_ok($$SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 'Infinity', 'USD')$$, '22003', NULL, 'a quantity is finite');
SELECT throws_ok($$SELECT price_calculate('{"model": "percentage", "rate": 1}', 1, 'USD', '{1,NaN}')$$, '22003', NULL, 'transactions are');
SELECT throws_ok($$SELECT price_calculate('{"model": "percentage", "rate": 1}', 1, 'USD', '{1,NULL}')$$, '22004', NULL, 'and not null');
SELECT throws_ok($$SELECT price_calculate('{"model": "percentage", "rate": 1}', 1, 'USD', '{{1},{2}}')$$, '22023', NULL, 'in one list');
SELECT throws_ok($$SELECT price_calculate('{"model": "percentage", "rate": 1}', 1, 'USD', '{1}', '{1}')$$, '22023', 'argument "parts" has no meaning for model "percentage"', 'parts are of levels');
SELECT throws_ok($$SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 1, 'USD', '{1}', '{1,2}')$$, '22023', NULL, 'one of each');
SELECT throws_ok($$SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 1, 'USD', part => 1)$$, '22004', NULL, 'a part has a whole');
SELECT throws_ok($$SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 1, 'USD', part => 1, whole => 0)$$, '22023', 'argument "whole" must be more than 0', 'that is something');
SELECT throws_ok($$SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 1, 'XQQ')$$, '22023', NULL, 'a currency is one of ISO 4217');
SELECT is(price_calculate(NULL, 1, 'USD'), NULL, 'nothing of nothing');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 1}', NULL, 'USD'), NULL, 'nor of an unknown quantity');

-- a whole pricing
SELECT results_eq($$SELECT charge, kind, description, metric, quantity, unit_price, amount FROM tenancy.pricing_rate(
        (SELECT pricing FROM tenancy.plan_price WHERE plan = 'professional'), '{"users": 53, "storage": 62.5}', (SELECT limits FROM tenancy.plan WHERE id = 'professional'))$$,
    $$VALUES ('base', 'charge', 'Base price', NULL, 1::numeric, 99::numeric, 99.00), ('additional_users', 'charge', 'additional_users', 'users', 3, 15, 45.00), ('storage_overage', 'charge', 'storage_overage', 'storage', 12.5, 2, 25.00)$$, 'the professional plan');
SELECT is((SELECT sum(amount) FROM tenancy.pricing_rate((SELECT pricing FROM tenancy.plan_price WHERE plan = 'enterprise'), '{"users": 99999}', '{"max_users": -1}')), 500.00, 'the enterprise plan');
CREATE FUNCTION public.rate(members text, usage text DEFAULT '{}', seats numeric DEFAULT 1, part numeric DEFAULT 1, whole numeric DEFAULT 1, is_first boolean DEFAULT true)
RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(coalesce(charge, '-') || ' ' || kind || ' ' || amount, ', ' ORDER BY line) FROM tenancy.pricing_rate(
        '{"type": "custom", "currency": "USD", "billing_period": "monthly"}'::jsonb || members::jsonb, usage::jsonb, '{"few": 2, "all": -1}', seats, part, whole, is_first) $$;
SELECT is(rate('{"base_price": 20, "setup_fee": 5}'), 'base charge 20.00, setup_fee charge 5.00', 'a setup fee on the first invoice');
SELECT is(rate('{"base_price": 20, "setup_fee": 5}', is_first => false), 'base charge 20.00', 'and on no other');
SELECT is(rate('{"base_price": 20, "setup_fee": 5}', part => 1, whole => 2), 'base charge 10.00, setup_fee charge 5.00', 'which is never prorated');
SELECT is(rate('{"charges": [{"id": "seats", "model": "per_unit", "unit_price": 7, "per_seat": true}]}', seats => 3), 'seats charge 21.00', 'seats');
SELECT is(rate('{"charges": [{"id": "seats", "model": "per_unit", "unit_price": 7, "per_seat": true}]}', seats => 3, part => 1, whole => 2), 'seats charge 10.50', 'are prorated');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls", "limit": "few"}, {"id": "b", "model": "per_unit", "unit_price": 1, "metric": "calls", "limit": "all"}]}', '{"calls": 5}', part => 1, whole => 2), 'a charge 3.00', 'usage is not; limits include');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 2, "metric": "seats", "prorate": true}]}', '{"seats": {"values": [5, 5], "parts": [5, 2.5]}}'), 'a charge 15.00', 'unless it is a level');
SELECT is(rate('{"minimum": 100, "base_price": 20}'), 'base charge 20.00, - minimum 80.00', 'a commitment');
SELECT is(rate('{"minimum": 100, "base_price": 20}', part => 1, whole => 4), 'base charge 5.00, - minimum 20.00', 'of a part');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls", "minimum": 10}]}', '{"calls": 4}'), 'a charge 4.00, a minimum 6.00', 'a minimum of a charge');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls", "minimum": 10}]}', '{"calls": {"quantity": 12, "billed": 10}}'), 'a charge 2.00', 'late usage: what is missing to what was billed, its minimum included');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls", "minimum": 10}]}', '{"calls": {"quantity": 9, "billed": 10}}'), NULL, 'which may be nothing');
SELECT is(rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls"}]}', '{"users": 9}'), NULL, 'what was not used makes no line');
SELECT throws_ok($$SELECT rate('{"base_price": 1}', seats => -1)$$, '22023', NULL, 'no seats less than none');
SELECT throws_ok($$SELECT rate('{"base_price": 1}', part => 1, whole => 0)$$, '22023', NULL, 'no part of nothing');
SELECT throws_ok($$SELECT rate('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "calls"}]}', '{"calls": {"amount": 1}}')$$, '22023', 'invalid usage of "calls": "amount" is unknown', 'usage is validated');

-- parts of periods and of amounts
SELECT results_eq($$SELECT tenancy.proration_length('2026-03-28 23:00+00', '2026-03-30 22:00+00', u, 'Europe/Berlin') FROM unnest('{second,day,none}'::text[]) u$$, 'VALUES (169200::numeric), (2), (1)', 'two civil days across the change to summer time');
SELECT is(tenancy.proration_length('2026-01-01 00:00:00.25+00', '2026-01-01 00:00:01+00'), 0.75, 'a part of a second');
SELECT is(tenancy.proration_length('2023-02-23', '2023-03-15', 'day_of_30'), 22::numeric, 'months of 30 days (Kill Bill)');
SELECT is(tenancy.proration_length('2026-01-02', '2026-01-01', 'day'), -1::numeric, 'backwards');
SELECT throws_ok($$SELECT tenancy.proration_length('2026-01-02', '2026-01-01', 'hour')$$, '22023', NULL, 'in no other unit');
SELECT throws_ok($$SELECT tenancy.proration_length('2026-01-02', 'infinity')$$, '22008', NULL, 'nor without end');
SELECT throws_ok($$SELECT tenancy.proration_length('2026-01-01', '2026-01-02', 'day', 'Europe/Nowhere')$$, '22023', NULL, 'nor anywhere');
SELECT results_eq($$SELECT part, whole FROM tenancy.proration_split('2011-01-10', '2012-03-04', '2011-01-17', 'yearly', 'day')$$, 'VALUES (7::numeric, 365::numeric), (365, 365), (47, 366)', 'whole periods are split off first (Kill Bill)');
SELECT is_empty($$SELECT * FROM tenancy.proration_split('2026-01-02', '2026-01-02', '2011-01-17', 'monthly')$$, 'an empty range has no parts');
SELECT throws_ok($$SELECT * FROM tenancy.proration_split('2026-01-02', 'infinity', '2011-01-17', 'monthly')$$, '22008', NULL, 'an endless one is refused');
SELECT results_eq($$SELECT * FROM tenancy.proration_change(29, 99, 20, 30, 'USD')$$, 'VALUES (19.33, 66.00, 46.67)', 'an upgrade on day 11 of 30');
SELECT results_eq($$SELECT * FROM tenancy.proration_change(100, 1000, 22, 29, 'USD', true)$$, 'VALUES (75.86, 1000.00, 924.14)', 'to another period (Polar)');
SELECT throws_ok($$SELECT * FROM tenancy.proration_change(1, 1, -1, 30, 'USD')$$, '22023', NULL, 'a part is not negative');
SELECT is(tenancy.prorate(10, 1, 3), 3.3333333333333333, 'unrounded');
SELECT throws_ok('SELECT tenancy.prorate(NULL, 1, 3)', '22004', NULL, 'of something');
SELECT results_eq($$SELECT tenancy.credit_cap(c, 200, e) FROM (VALUES (100, 50), (100, 150), (100, 250), (-50, 50)) v(c, e)$$, 'VALUES (100::numeric), (50), (0), (0)', 'credits never exceed what was paid (Flexprice)');
SELECT is(tenancy.allocate(100, '{1,1,1}', 0), '{34,33,33}'::numeric[], 'the first among equals');
SELECT is(tenancy.allocate(0.05, '{1,2,2}'), '{0.01,0.02,0.02}'::numeric[], 'largest remainder');
SELECT is(tenancy.allocate(-100, '{1,1,1}', 0), '{-34,-33,-33}'::numeric[], 'of a credit');
SELECT is(tenancy.allocate(10, '{0,0}'), '{5.00,5.00}'::numeric[], 'weights of nothing are equal');
SELECT is(tenancy.allocate(0, '{}'), '{}'::numeric[], 'nothing over nobody');
SELECT throws_ok($$SELECT tenancy.allocate(1, '{}')$$, '22023', 'argument "weights" must not be empty', 'something is not');
SELECT throws_ok($$SELECT tenancy.allocate(1, '{1,-1}')$$, '22023', NULL, 'nor over less than nothing');
SELECT throws_ok($$SELECT tenancy.allocate(1, '{1,NULL}')$$, '22004', NULL, 'nor a null');
SELECT throws_ok($$SELECT tenancy.allocate(0.005, '{1}')$$, '22023', NULL, 'nor half a cent');
SELECT throws_ok($$SELECT tenancy.allocate(1, '{1}', 13)$$, '22023', NULL, 'nor to 13 decimals');
SELECT is(tenancy.quantity_round(-4.61, 'up', 1), -4.6, 'up is towards more');
SELECT throws_ok($$SELECT tenancy.quantity_round(1, 'even')$$, '22023', NULL, 'no other rounding');
SELECT is(tenancy.commitment(1000, 8500.5, 'USD'), 0.00, 'a commitment that is met');
SELECT is(tenancy.commitment(10, 8, 'USD', 25, 28), 0.93, 'or not (Lago)');
SELECT results_eq($$SELECT * FROM tenancy.amount_due(90, 100, 10)$$, 'VALUES (0::numeric, 0::numeric)', 'paid, and what was too much refunded (Kill Bill)');
SELECT results_eq($$SELECT * FROM tenancy.amount_due(90, 100, 0)$$, 'VALUES (0::numeric, 10::numeric)', 'paid too much');

-- money, periods, numbers
SELECT results_eq($$SELECT tenancy.money_to_minor(a, c, 'stripe') FROM (VALUES (5.124, 'KWD'), (5, 'ISK'), (500, 'JPY'), (10.99, 'USD')) v(a, c)$$, 'VALUES (5120::numeric), (500), (500), (1099)', 'minor units of Stripe');
SELECT is(tenancy.money_to_minor(5.124, 'KWD'), 5124::numeric, 'of ISO 4217');
SELECT is(tenancy.money_from_minor(500, 'ISK', 'stripe'), 5::numeric, 'and back');
SELECT is(tenancy.money_to_minor(NULL, 'USD'), NULL, 'of nothing');
SELECT throws_ok('SELECT tenancy.money_to_minor(1, NULL)', '22004', NULL, 'in no currency');
SELECT is(tenancy.money_round(17.9699999999999988631316, 'EUR'), 17.97, 'money_round()');
SELECT results_eq($$SELECT * FROM tenancy.period_at('2025-01-31 15:00+00', 'monthly', '2025-02-28 15:00+00')$$, $$VALUES (1, '2025-02-28 15:00+00'::timestamptz, '2025-03-31 15:00+00'::timestamptz)$$, 'a boundary begins a period (OpenMeter)');
SELECT is((SELECT number FROM tenancy.period_at('2025-01-31 15:00+00', 'weekly', '2025-01-31 14:59+00')), -1, 'before the anchor');
SELECT throws_ok($$SELECT tenancy.period_at('2025-01-31', 'hourly', '2025-02-28')$$, '22023', NULL, 'of no other length');
SELECT is(tenancy.document_number('INV', 42, 6), 'INV-000042', 'a number as it is printed');
SELECT is(tenancy.document_number('INV', 1234567, 6), 'INV-1234567', 'that needs more digits');
SELECT throws_ok($$SELECT tenancy.document_number('INV', 0, 6)$$, '22023', NULL, 'from 1 on');

-- anybody may calculate
CREATE ROLE price_nobody;
SET ROLE price_nobody;
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 2}', 3, 'USD'), 6.00, 'anybody may calculate');
RESET ROLE;
SELECT * FROM finish();
