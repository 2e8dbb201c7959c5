-- The rater as a pure function.  Expected amounts are those of the documents named.
-- Stripe, "Graduated pricing": 5 at 7.00, 10 at 6.50, the rest at 6.00
SELECT q, price_calculate('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 7}, {"up_to": 10, "unit_price": 6.5}, {"unit_price": 6}]}', q, 'USD')
  FROM unnest('{0, 1, 5, 6, 10, 20}'::numeric[]) q;
-- the same with a flat fee: the first tier's is due for nothing too
SELECT q, price_calculate('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 5, "flat_fee": 10}, {"unit_price": 4, "flat_fee": 20}]}', q, 'USD')
  FROM unnest('{0, 5, 5.001, 6}'::numeric[]) q;
-- half away from zero, once, to the exponent of the currency
SELECT currency, price_calculate('{"model": "per_unit", "unit_price": 0.025}', 1, currency) AS amount
  FROM unnest('{USD, JPY, KWD, CLF}'::text[]) currency;
SELECT price_calculate('{"model": "per_unit", "unit_price": 10.333333}', 3, 'USD');
SELECT price_calculate('{"model": "per_unit", "unit_price": 15, "included": 50}', 53, 'USD');
SELECT price_calculate('{"model": "per_unit", "unit_price": 15, "included": 50}', 49, 'USD');
-- no floating point
SELECT price_calculate('{"model": "per_unit", "unit_price": 0.1}', 3, 'USD') = 0.30 AS exact;
SELECT price_calculate('{"model": "per_unit", "unit_price": 123456789012345678.25}', 4, 'USD');
-- faults
SELECT price_calculate('{"model": "per_unit"}', 1, 'USD');
SELECT price_calculate('{"model": "per_unit", "unit_price": 1, "colour": 2}', 1, 'USD');
SELECT price_calculate('{"model": "magic"}', 1, 'USD');
SELECT price_calculate('{"model": "graduated", "tiers": []}', 1, 'USD');
SELECT price_calculate('{"model": "graduated", "tiers": [{"up_to": 5}, {"up_to": 4}, {}]}', 1, 'USD');
SELECT price_calculate('{"model": "graduated", "tiers": [{"up_to": 5}]}', 1, 'USD');
SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 'NaN', 'USD');
SELECT price_calculate('{"model": "per_unit", "unit_price": 1}', 1, 'usd');
SELECT price_calculate('[]', 1, 'USD');
