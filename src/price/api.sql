/* price: what is sold, and at what price. */

CREATE OR REPLACE FUNCTION @extschema@.plan_create(
    id text, name text, tier text, pricing jsonb, limits jsonb DEFAULT '{}',
    features jsonb DEFAULT '{}', support jsonb DEFAULT '{}', sla jsonb DEFAULT '{}')
RETURNS tenancy.plan
AS 'MODULE_PATHNAME', 'tenancy_plan_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb) IS
'Creates a plan with the first version of its price. id: lower-case letters, digits, underscores and hyphens. tier: starter, professional, enterprise or custom. pricing: type (fixed, usage_based, tiered, hybrid, custom), base_price, currency (ISO 4217), billing_period (monthly, quarterly, yearly), usage_metrics (name, metric, price, unit, and included or the name of a limit), metric and tiers (up_to, unit_price, flat_fee). limits: numbers by name, -1 is unlimited. features: true or false by name. support, sla: any objects. Result: the row. Errors: 22023 naming the path of the first fault; 42704 unknown metric or limit; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.plan_price_change(
    plan text, pricing jsonb, valid_from timestamptz DEFAULT now())
RETURNS tenancy.plan_price
AS 'MODULE_PATHNAME', 'tenancy_plan_price_change'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) IS
'Gives a plan a new version of its price; subscriptions that exist keep theirs. plan: id. pricing: as for plan_create(). valid_from: for subscriptions that start then or later. Result: the row of the version. Errors: 22023; 42704 unknown plan, metric or limit. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.rate(
    pricing jsonb, limits jsonb, usage jsonb, part numeric, whole numeric,
    OUT line integer, OUT description text, OUT metric text, OUT quantity numeric, OUT unit text,
    OUT unit_price numeric, OUT amount numeric, OUT trace jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_rate'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.rate(jsonb, jsonb, jsonb, numeric, numeric) IS
'Rates one period: the lines of its invoice. pricing, limits: of the plan. usage: quantities by metric. part, whole: the seconds billed and the seconds of the full period. Result: one row a line; amount is rounded half away from zero to the exponent of the currency. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.rate(jsonb, jsonb, jsonb, numeric, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.rate(jsonb, jsonb, jsonb, numeric, numeric) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.price_calculate(
    price jsonb, quantity numeric, currency text)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_price_calculate'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.price_calculate(jsonb, numeric, text) IS
'What a quantity costs. price: model per_unit with unit_price, or graduated with tiers (up_to, unit_price, flat_fee); included is free. quantity: in the unit of the price. currency: ISO 4217. Result: the amount, rounded once, half away from zero, to the exponent of the currency. Errors: 22023 naming the path of the first fault. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.price_calculate(jsonb, numeric, text) TO PUBLIC;
