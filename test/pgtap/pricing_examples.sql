-- The examples of doc/billing.md, with the amounts that it computes by hand.
SELECT * FROM no_plan();
SELECT is(price_calculate('{"model": "flat", "unit_price": 5}', 7, 'USD'), 5.00, 'flat');
SELECT is(price_calculate('{"model": "per_unit", "unit_price": 2, "included": 3}', 7, 'USD'), 8.00, 'per_unit');
SELECT is(price_calculate('{"model": "graduated", "tiers": [{"up_to": 5, "unit_price": 2}, {"unit_price": 1, "flat_fee": 3}]}', 7, 'USD'), 15.00, 'graduated');
SELECT is(price_calculate('{"model": "volume", "tiers": [{"up_to": 5, "unit_price": 2}, {"unit_price": 1}]}', 7, 'USD'), 7.00, 'volume');
SELECT is(price_calculate('{"model": "package", "package_size": 5, "unit_price": 4}', 7, 'USD'), 8.00, 'package');
SELECT is(price_calculate('{"model": "block_graduated", "tiers": [{"size": 2, "max_blocks": 2, "price": 3}, {"size": 5, "price": 4}]}', 7, 'USD'), 10.00, 'block_graduated');
SELECT is(price_calculate('{"model": "block_volume", "tiers": [{"size": 2, "max_blocks": 2, "price": 3}, {"size": 5, "price": 4}]}', 7, 'USD'), 8.00, 'block_volume');
SELECT is(price_calculate('{"model": "percentage", "rate": 2, "fixed_fee": 0.3}', 150, 'USD', transactions => '{100,50}'), 3.60, 'percentage');
SELECT is(price_calculate('{"model": "graduated_percentage", "tiers": [{"up_to": 100, "rate": 2}, {"rate": 1}]}', 150, 'USD'), 2.50, 'graduated_percentage');
SELECT is(price_calculate('{"model": "dynamic"}', 150, 'USD'), 150.00, 'dynamic');
SELECT * FROM finish();
