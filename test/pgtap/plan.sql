-- The catalogue: plans, versions of prices, currencies; export and import.
SELECT * FROM no_plan();
CREATE FUNCTION public.plan(id text, pricing text, limits text DEFAULT '{}') RETURNS text LANGUAGE sql
    AS $$ SELECT (plan_create(id, upper(id), 'custom', '{"type": "custom", "currency": "USD", "billing_period": "monthly"}'::jsonb || pricing::jsonb, limits::jsonb)).id $$;

-- what a plan is
SELECT is((plan_create('team', 'Team', 'starter', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "weekly"}')).kind, 'plan', 'a plan');
SELECT results_eq($$SELECT kind, family, changes_to, retired_at FROM tenancy.plan WHERE id = 'team'$$, $$VALUES ('plan', 'default', NULL::text[], NULL::timestamptz)$$, 'of the default family, changing to any');
SELECT is((plan_create('backup', 'Backup', 'custom', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}', kind => 'addon', family => 'storage', changes_to => '{}')).changes_to, '{}', 'an add-on that changes to nothing');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}', kind => 'bundle')$$, '22023', 'invalid kind "bundle"', 'no other kind');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'gold', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}')$$, '22023', 'invalid tier "gold"', 'no other tier');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}', family => 'A b')$$, '22023', 'invalid family "A b" for a plan', 'a family has a name');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}', changes_to => '{NULL}')$$, '22004', NULL, 'of plans that may follow all are named');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', '{"type": "fixed", "base_price": 5, "currency": "EUR", "billing_period": "monthly"}', changes_to => '{"A b"}')$$, '22023', NULL, 'as plans are');
SELECT throws_ok($$SELECT plan_create('x', 'X', 'custom', NULL)$$, '22004', NULL, 'a plan has a price');
SELECT throws_ok($$SELECT plan('team', '{"base_price": 1}')$$, '23505', 'plan "team" already exists', 'once');

-- faults of a pricing, by their path
SELECT throws_ok(format('SELECT plan(''x'', %L)', pricing), '22023', 'invalid pricing: ' || fault, fault) FROM (VALUES
    ('{"billing_period": "hourly"}', '"billing_period" must be one of "daily", "weekly", "monthly", "quarterly", "yearly"'),
    ('{"trial_days": -1}', '"trial_days" must be at least 0'),
    ('{"trial_usage": "half"}', '"trial_usage" must be one of "billed", "free"'),
    ('{"proration_unit": "hour"}', '"proration_unit" must be one of "second", "day", "none"'),
    ('{"minimum": 2, "maximum": 1}', '"maximum" must be at least 2'),
    ('{"colour": 1}', '"colour" is unknown'),
    ('{"type": "usage_based"}', '"usage_metrics" is missing'),
    ('{"type": "tiered"}', '"tiers" is missing'),
    ('{"type": "fixed"}', '"base_price" is missing'),
    ('{"type": "fixed", "charges": [{"id": "a", "model": "per_unit", "metric": "users", "unit_price": 1}]}', '"charges" are metered'),
    ('{"type": "fixed", "base_price": 1, "usage_metrics": [{"name": "a", "metric": "users", "unit": "u", "price": 1}]}', '"usage_metrics" has no meaning'),
    ('{"usage_metrics": [{"name": "a", "metric": "users", "unit": "u", "price": 1, "included": 1, "limit": "x"}]}', '"usage_metrics[0].limit" has no meaning beside "included"'),
    ('{"charges": [{"model": "flat", "unit_price": 1}]}', '"charges[0].id" is missing'),
    ('{"charges": [{"id": "A", "model": "flat", "unit_price": 1}]}', '"charges[0].id" must be of lower-case letters, digits, underscores and hyphens'),
    ('{"charges": [{"id": "a", "model": "flat", "unit_price": 1, "metric": "users"}]}', '"charges[0].metric" has no meaning for model "flat"'),
    ('{"charges": [{"id": "a", "model": "flat", "unit_price": 1, "per_seat": true}]}', '"charges[0].per_seat" has no meaning for model "flat"'),
    ('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1}]}', '"charges[0].metric" is missing'),
    ('{"charges": [{"id": "a", "model": "percentage", "rate": 1, "per_seat": true}]}', '"charges[0].metric" is missing'),
    ('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "users", "per_seat": true}]}', '"charges[0].per_seat" has no meaning beside "metric"'),
    ('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "users", "timing": "advance"}]}', '"charges[0].timing" must be "arrears": it is metered'),
    ('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "users", "recurring": false}]}', '"charges[0].recurring" must be true: it is metered'),
    ('{"charges": [{"id": "a", "model": "package", "unit_price": 1, "package_size": 1, "metric": "users", "prorate": true}]}', '"charges[0].prorate" must be false for model "package" of a metric'),
    ('{"charges": [{"id": "a", "model": "flat", "unit_price": 1, "recurring": false, "prorate": true}]}', '"charges[0].prorate" must be false: it is billed once'),
    ('{"charges": [{"id": "a", "model": "graduated", "metric": "users", "tiers": [{"up_to": 1}, {"up_to": 2}]}]}', '"charges[0].tiers[1].up_to" must be absent'),
    ('{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "users", "included": 1, "limit": "x"}]}', '"charges[0].limit" has no meaning beside "included"'),
    ('{"base_price": 1, "charges": [{"id": "base", "model": "flat", "unit_price": 1}]}', 'there are two charges "base"'),
    ('{"currency_options": {"EUR": 5}}', '"currency_options.EUR" must be an object'),
    ('{"currency_options": {"USD": {}}}', '"currency_options.USD" must be another currency of ISO 4217'),
    ('{"currency_options": {"XQQ": {}}}', '"currency_options.XQQ" must be another currency of ISO 4217'),
    ('{"currency_options": {"EUR": {"billing_period": "yearly"}}}', '"currency_options.EUR.billing_period" is the same in all currencies')) v(pricing, fault);
SELECT throws_ok($$SELECT plan('x', '{"currency_options": {"EUR": {"base_price": -1}}}')$$, '22023', 'invalid pricing in EUR: "base_price" must be at least 0', 'in another currency');
SELECT throws_ok($$SELECT plan('x', '{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "unheard"}]}')$$, '42704', 'metric "unheard" does not exist', 'an unknown metric');
SELECT throws_ok($$SELECT plan('x', '{"charges": [{"id": "a", "model": "per_unit", "unit_price": 1, "metric": "users", "limit": "max_users"}]}')$$, '42704', 'limit "max_users" is not among the limits of the plan', 'an unknown limit');
SELECT is((SELECT count(*) FROM tenancy.plan WHERE id = 'x'), 0::bigint, 'nothing of that was made');

-- currencies
SELECT is(plan('world', '{"base_price": 10, "charges": [{"id": "seat", "model": "per_unit", "unit_price": 3, "per_seat": true}], "currency_options": {"JPY": {"base_price": 1500, "charges": [{"id": "seat", "model": "per_unit", "unit_price": 450, "per_seat": true}]}, "EUR": {"base_price": 9}}}'), 'world', 'in three currencies');
SELECT results_eq($$SELECT currency, is_main, pricing->>'currency', (pricing->>'base_price')::numeric, (pricing->'charges'->0->>'unit_price')::numeric, pricing ? 'currency_options' FROM tenancy.plan_price WHERE plan = 'world' ORDER BY 1$$,
    $$VALUES ('EUR', false, 'EUR', 9::numeric, 3::numeric, false), ('JPY', false, 'JPY', 1500, 450, false), ('USD', true, 'USD', 10, 3, false)$$, 'each complete');
SELECT is((plan_price_change('world', '{"type": "fixed", "base_price": 11, "currency": "EUR", "billing_period": "monthly", "currency_options": {"USD": {"base_price": 12}}}', '2027-01-01')).currency, 'EUR', 'a new version, mainly in another');
SELECT results_eq($$SELECT version, currency, is_main FROM tenancy.plan_price WHERE plan = 'world' AND version > 1 ORDER BY 2$$, $$VALUES (2, 'EUR', true), (2, 'USD', false)$$, 'has its own currencies');
SELECT throws_ok($$UPDATE tenancy.plan_price SET valid_from = now() WHERE plan = 'world'$$, '55000', 'a version of a price cannot be changed', 'versions stay');
SELECT throws_ok($$DELETE FROM tenancy.plan_price WHERE plan = 'world'$$, '55000', NULL, 'all of them');
SET client_min_messages = warning;
SELECT throws_ok($$TRUNCATE tenancy.plan_price CASCADE$$, '55000', NULL, 'always');
SET session_replication_role = replica;
SELECT throws_ok($$DELETE FROM tenancy.plan_price WHERE plan = 'world'$$, '55000', NULL, 'also as a replica');
RESET session_replication_role;

-- retired
SELECT is((plan_retire('team', '2026-12-31 00:00+00')).retired_at, '2026-12-31 00:00+00'::timestamptz, 'a plan is taken off the market');
SELECT throws_ok($$SELECT plan_retire('nothing')$$, '42704', 'plan "nothing" does not exist', 'one that there is');
SELECT throws_ok($$SELECT plan_retire('team', NULL)$$, '22004', NULL, 'at a time');
SELECT throws_ok($$SELECT plan_retire('team', 'infinity')$$, '22008', NULL, 'that comes');

-- documents
SELECT is(plan_export('backup'), '{"id": "backup", "sla": {}, "kind": "addon", "name": "Backup", "tier": "custom", "family": "storage", "limits": {}, "support": {}, "features": {}, "changes_to": [],
    "prices": [{"main": true, "pricing": {"type": "fixed", "currency": "EUR", "base_price": 5, "billing_period": "monthly"}, "version": 1, "valid_from": "-infinity"}]}', 'a plan as a document');
SELECT is(plan_export('team')->>'retired_at', '2026-12-31T00:00:00+00:00', 'with when it was retired');
SELECT is((plan_import(plan_export('world'))).id, 'world', 'importing what is there changes nothing');
SELECT is((plan_import(jsonb_set(plan_export('world'), '{id}', '"globe"'))).name, 'WORLD', 'under another id');
SELECT is(plan_export('globe') - 'id', plan_export('world') - 'id', 'it is the same');
SELECT is((SELECT (plan_import(jsonb_set(plan_export('globe'), '{prices}', (plan_export('globe')->'prices') || (SELECT jsonb_agg(jsonb_set(p, '{version}', '3')) FROM jsonb_array_elements(plan_export('globe')->'prices') p WHERE p->>'version' = '2')))).id), 'globe', 'versions that it lacks');
SELECT is((SELECT count(*) FROM tenancy.plan_price WHERE plan = 'globe' AND version = 3), 2::bigint, 'are added');
SELECT throws_ok($$SELECT plan_import(jsonb_set(plan_export('globe'), '{prices,0,pricing,base_price}', '99'))$$, '23505', 'plan "globe" already has another version 1', 'a version that says otherwise is refused');
SELECT throws_ok($$SELECT plan_import(jsonb_set(plan_export('globe'), '{limits}', '{"max_users": 1}'))$$, '23505', 'plan "globe" already exists, with another "limits"', 'and a plan that does');
SELECT throws_ok($$SELECT plan_import(jsonb_set(plan_export('globe'), '{id}', '"other"') #- '{prices,0}')$$, '22023', 'invalid plan: "prices[0].main" must be true for one price of each version', 'a version has a main currency');
SELECT throws_ok($$SELECT plan_import(jsonb_set(plan_export('globe'), '{prices}', '[]'))$$, '22023', 'invalid plan: "prices" must not be empty', 'a plan has a price');
SELECT throws_ok($$SELECT plan_import(jsonb_set(plan_export('backup'), '{prices,0,pricing,base_price}', '"5"'))$$, '22023', 'invalid pricing: "base_price" must be a number', 'a valid one');
SELECT throws_ok($$SELECT plan_import(plan_export('backup') || '{"id": "new", "prices": [{"main": true, "version": 1, "valid_from": "yesterdayish", "pricing": {"type": "fixed", "currency": "EUR", "base_price": 5, "billing_period": "monthly"}}]}')$$, '22007', NULL, 'since a time');
SELECT throws_ok($$SELECT plan_import(plan_export('backup') - 'family')$$, '22023', 'invalid plan: "family" is missing', 'a document says all');
SELECT throws_ok($$SELECT plan_import(NULL)$$, '22004', NULL, 'nothing cannot be imported');
SELECT throws_ok($$SELECT plan_export('nothing')$$, '42704', 'plan "nothing" does not exist', 'nor exported');
SELECT throws_ok($$SELECT plan_export(NULL)$$, '22004', NULL, 'whatever it is');

-- who may
SELECT is((SELECT count(*) FROM (VALUES ('plan_retire(text, timestamptz)'), ('plan_import(jsonb)'), ('plan_price_change(text, jsonb, timestamptz)')) v(f) WHERE has_function_privilege('tenancy_admin', f, 'EXECUTE') AND NOT has_function_privilege('tenancy_app', f, 'EXECUTE') AND NOT has_function_privilege('tenancy_tenant', f, 'EXECUTE') AND NOT has_function_privilege('tenancy_auditor', f, 'EXECUTE')), 3::bigint, 'the control plane alone changes the catalogue');
SELECT slug FROM tenant_create('acme') \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok($$SELECT plan_export('team')$$, '42501', NULL, 'a tenant exports nothing');
SELECT throws_ok($$SELECT plan_retire('team')$$, '42501', NULL, 'nor retires');
SELECT is((SELECT count(*) > 0 FROM tenancy.plan_price WHERE plan = 'team'), true, 'but sees what there is to buy');
COMMIT;
SELECT * FROM finish();
