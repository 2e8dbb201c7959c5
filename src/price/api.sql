/* price: what is sold, and at what price. */

CREATE OR REPLACE FUNCTION @extschema@.plan_create(
    id text, name text, tier text, pricing jsonb, limits jsonb DEFAULT '{}',
    features jsonb DEFAULT '{}', support jsonb DEFAULT '{}', sla jsonb DEFAULT '{}',
    kind text DEFAULT 'plan', family text DEFAULT 'default', changes_to text[] DEFAULT NULL)
RETURNS tenancy.plan
AS 'MODULE_PATHNAME', 'tenancy_plan_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, text[]) IS
'Creates a plan with the first version of its price. id: lower-case letters, digits, underscores and hyphens. tier: starter, professional, enterprise or custom. pricing: type (fixed, usage_based, tiered, hybrid, custom), currency (ISO 4217), billing_period (daily, weekly, monthly, quarterly, yearly), base_price and base_timing (advance, arrears), usage_metrics (name, metric, price, unit, and included or the name of a limit), metric and tiers (up_to, unit_price, flat_fee), setup_fee, charges (id, name, metric or per_seat, unit, timing, recurring, limit, tax_rates, and a price as for price_calculate()), trial_days, trial_usage (billed, free), minimum and maximum of a period, proration_unit (second, day, none), tax_rates, and currency_options (by currency, an RFC 7396 merge patch of all this). limits: numbers by name, -1 is unlimited. features: true or false by name. support, sla: any objects. kind: plan, or addon for what is subscribed to beside a plan. family: a tenant has one subscription a family. changes_to: ids of the plans that a subscription may change to; null for all of the family. Result: the row. Errors: 22023 naming the path of the first fault; 42704 unknown metric or limit; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_create(text, text, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, text[]) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.plan_price_change(
    plan text, pricing jsonb, valid_from timestamptz DEFAULT now())
RETURNS tenancy.plan_price
AS 'MODULE_PATHNAME', 'tenancy_plan_price_change'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) IS
'Gives a plan a new version of its price; subscriptions that exist keep theirs. plan: id. pricing: as for plan_create(). valid_from: for subscriptions that start then or later. Result: the row of the version in the currency of the document. Errors: 22023; 42704 unknown plan, metric or limit. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_price_change(text, jsonb, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.plan_retire(
    plan text, at timestamptz DEFAULT now())
RETURNS tenancy.plan
AS 'MODULE_PATHNAME', 'tenancy_plan_retire'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_retire(text, timestamptz) IS
'Takes a plan off the market: nobody can subscribe to it from then on, and who has it keeps it. plan: id. at: from when on. Result: the row. Errors: 42704 unknown plan; 22004 a null; 22008 a time that is not finite. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_retire(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_retire(text, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.plan_export(
    plan text)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_plan_export'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.plan_export(text) IS
'A plan as a document, with all versions of its prices in all currencies. plan: id. Result: what plan_import() reads. Errors: 42704 unknown plan; 22004 a null. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.plan_export(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_export(text) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.plan_import(
    document jsonb)
RETURNS tenancy.plan
AS 'MODULE_PATHNAME', 'tenancy_plan_import'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.plan_import(jsonb) IS
'Makes the plan that plan_export() wrote, here or in another database; it then exports to the same document. A plan that exists gets the versions that it lacks. document: that of plan_export(). Result: the row. Errors: 22023 naming the path of the first fault; 42704 unknown metric or limit; 23505 a plan or a version of the id says otherwise. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.plan_import(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.plan_import(jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.price_calculate(
    price jsonb, quantity numeric, currency text, transactions numeric[] DEFAULT NULL,
    parts numeric[] DEFAULT NULL, part numeric DEFAULT NULL, whole numeric DEFAULT NULL,
    billed_quantity numeric DEFAULT NULL)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_price_calculate'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.price_calculate(jsonb, numeric, text, numeric[], numeric[], numeric, numeric, numeric) IS
'What a quantity costs. price: model and its members: flat (unit_price), per_unit (unit_price), graduated and volume (tiers of up_to, unit_price, flat_fee), package (unit_price, package_size, package_rounding up or down), percentage (rate in percent, fixed_fee, free_events, free_amount, transaction_minimum, transaction_maximum), graduated_percentage (tiers of up_to, rate, flat_fee), block_graduated and block_volume (tiers of size, max_blocks, price), dynamic (multiplier); with included (free units), quantity_rounding (up, down, half_up) and quantity_decimals, minimum, maximum, prorate. quantity: in the unit of the price. currency: ISO 4217. transactions: of a percentage the value of each, in order; of per_unit, graduated and volume the changes of a level. parts: with changes of a level, of each the part that falls to the period. part, whole: how much of a period is billed. billed_quantity: billed before; what it cost is taken off. Result: the amount, rounded once, half away from zero, to the exponent of the currency; null where one of the first three is. Errors: 22023 naming the path of the first fault; 22003 a number that is not finite; 22004 a null among transactions or parts, or one of part and whole without the other. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.price_calculate(jsonb, numeric, text, numeric[], numeric[], numeric, numeric, numeric) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.price_explain(
    price jsonb, quantity numeric, currency text, transactions numeric[] DEFAULT NULL,
    parts numeric[] DEFAULT NULL, part numeric DEFAULT NULL, whole numeric DEFAULT NULL,
    OUT step integer, OUT rule text, OUT description text, OUT quantity_of_step numeric,
    OUT unit_price numeric, OUT amount numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_price_explain'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.price_explain(jsonb, numeric, text, numeric[], numeric[], numeric, numeric) IS
'How price_calculate() comes to its amount. Arguments: as there. Result: one row a step; the amounts of the steps are exact and add up to the total before it is rounded, which is the last row. Errors: as there. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.price_explain(jsonb, numeric, text, numeric[], numeric[], numeric, numeric) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.quantity_round(
    quantity numeric, rounding text, decimals integer DEFAULT 0)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_quantity_round'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.quantity_round(numeric, text, integer) IS
'A quantity rounded as prices say. rounding: up, down, half_up. decimals: 0 to 12. Errors: 22023; 22003 a quantity that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.quantity_round(numeric, text, integer) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.commitment(
    minimum numeric, billed numeric, currency text, part numeric DEFAULT 1, whole numeric DEFAULT 1)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_commitment'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.commitment(numeric, numeric, text, numeric, numeric) IS
'What is missing to a minimum. minimum: of a whole period. billed: the sum of the rounded lines that count towards it. currency: ISO 4217. part, whole: how much of the period is billed. Result: the amount of the line that fills it up, or 0. Errors: 22023; 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.commitment(numeric, numeric, text, numeric, numeric) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.document_calculate(
    document jsonb)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_document_calculate'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.document_calculate(jsonb) IS
'From lines to a total: percentages, maximum spend, fixed discounts, taxes, credits, in this order. document: currency; lines (amount, plan, metric, charge, subscription, taxes: ids, absent for all); discounts (kind percent, fixed or maximum, value, plans, metrics, charge, subscription, per_line); taxes (id, percentage, inclusive, compound); tax_rounding (line, invoice); tax_base (line, exact); inclusive_rounding (tax, net); tax_treatment (taxed, exempt, reverse_charge); credits (available). Result: lines (amount, discount, net, tax, total), discounts (kind, base, amount, shares of lines), taxes (id, percentage, base, amount), credits used, subtotal, discount, tax, inclusive_tax, total, credited, due. Errors: 22023 naming the path of the first fault. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.document_calculate(jsonb) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.credit_note_calculate(
    note jsonb)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_credit_note_calculate'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.credit_note_calculate(jsonb) IS
'What a credit note over part of an invoice comes to: discounts and taxes are taken back pro rata, and who credits the rest takes all that remains. note: currency; lines (amount, discount, earlier and earlier_discount of earlier notes, credit, taxes: ids, absent for all); taxes (id, percentage, inclusive, compound, base, amount, earlier_base, earlier_amount); tax_rounding, inclusive_rounding, tax_treatment as for document_calculate(). Result: lines (credit, discount, net), taxes (id, base, amount), subtotal, discount, tax, total. Errors: 22023 naming the path of the first fault, or more than is left. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.credit_note_calculate(jsonb) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.allocate(
    amount numeric, weights numeric[], decimals integer DEFAULT 2)
RETURNS numeric[]
AS 'MODULE_PATHNAME', 'tenancy_allocate'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.allocate(numeric, numeric[], integer) IS
'Spreads an amount over weights by largest remainder, ties by order: the shares add up to it. weights: of at least 0; all zero count as equal. decimals: of the shares, 0 to 12. Errors: 22023; 22004 a null; 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.allocate(numeric, numeric[], integer) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.prorate(
    amount numeric, part numeric, whole numeric, currency text DEFAULT NULL)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_prorate'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.prorate(numeric, numeric, numeric, text) IS
'Part of an amount: amount × part ÷ whole. part, whole: in any unit. currency: ISO 4217, to round to its exponent; null leaves 16 digits or more. Errors: 22023; 22004 a null; 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.prorate(numeric, numeric, numeric, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.proration_length(
    starts_at timestamptz, ends_at timestamptz, unit text DEFAULT 'second', time_zone text DEFAULT 'UTC')
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_proration_length'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.proration_length(timestamptz, timestamptz, text, text) IS
'How long a half-open range is. unit: second; day, civil days of the zone, of which the last does not count; day_of_30, days of months of 30; none, always 1. time_zone: a name of the IANA data base. Errors: 22023; 22008 a time that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.proration_length(timestamptz, timestamptz, text, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.proration_split(
    starts_at timestamptz, ends_at timestamptz, anchor timestamptz, billing_period text,
    unit text DEFAULT 'second', time_zone text DEFAULT 'UTC',
    OUT part_start timestamptz, OUT part_end timestamptz, OUT period_start timestamptz, OUT period_end timestamptz,
    OUT part numeric, OUT whole numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_proration_split'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.proration_split(timestamptz, timestamptz, timestamptz, text, text, text) IS
'Splits a range at the boundaries of billing periods, so that no part is larger than its period. starts_at, ends_at: half-open. anchor, billing_period, time_zone: as for period_boundary(). unit: as for proration_length(). Result: one row a period: the part of the range in it, the period, and the lengths of both. Errors: 22023; 22008 a time that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.proration_split(timestamptz, timestamptz, timestamptz, text, text, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.proration_change(
    old_amount numeric, new_amount numeric, part numeric, whole numeric, currency text,
    resets boolean DEFAULT false, OUT credit numeric, OUT debit numeric, OUT net numeric)
AS 'MODULE_PATHNAME', 'tenancy_proration_change'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.proration_change(numeric, numeric, numeric, numeric, text, boolean) IS
'What a change of price within a period comes to. old_amount, new_amount: of a whole period. part, whole: what is left of the period, and all of it. currency: ISO 4217. resets: a new period begins, and the new amount is due in full. Result: the credit for the unused part of the old amount, the debit for the new one, each rounded, and debit - credit. Errors: 22023; 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.proration_change(numeric, numeric, numeric, numeric, text, boolean) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.credit_cap(
    credit numeric, paid numeric, earlier numeric)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_credit_cap'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.credit_cap(numeric, numeric, numeric) IS
'What may be given back: at most what was paid less earlier credits, at least nothing. credit: what was asked for. Errors: 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.credit_cap(numeric, numeric, numeric) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.amount_due(
    charged numeric, paid numeric, refunded numeric, OUT due numeric, OUT overpaid numeric)
AS 'MODULE_PATHNAME', 'tenancy_amount_due'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.amount_due(numeric, numeric, numeric) IS
'What is still due of a document, or was paid too much and is the customer''s. charged: its total less credit notes. paid, refunded: amounts of at least 0. Errors: 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.amount_due(numeric, numeric, numeric) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.pricing_rate(
    pricing jsonb, usage jsonb DEFAULT '{}', limits jsonb DEFAULT '{}', seats numeric DEFAULT 1,
    part numeric DEFAULT 1, whole numeric DEFAULT 1, is_first boolean DEFAULT true,
    OUT line integer, OUT charge text, OUT kind text, OUT description text, OUT metric text, OUT unit text,
    OUT quantity numeric, OUT unit_price numeric, OUT amount numeric, OUT exact numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_pricing_rate'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.pricing_rate(jsonb, jsonb, jsonb, numeric, numeric, numeric, boolean) IS
'The lines that a pricing makes of one period, before discounts and taxes. pricing: as for plan_create(). usage: by metric a quantity, or an object of quantity, values (of transactions, or changes of a level), parts (of the changes that fall to the period) and billed (an amount billed before). limits: of the plan. seats: of the subscription. part, whole: how much of the period is billed. is_first: whether it is the first one, which bears what is billed once. Result: one row a line: charge (null for the commitment of the whole pricing), kind (charge, minimum), amount rounded, and exact. Errors: 22023 naming the path of the first fault; 22003 a number that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.pricing_rate(jsonb, jsonb, jsonb, numeric, numeric, numeric, boolean) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.document_number(series text, number bigint, width integer)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_document_number'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.document_number(text, bigint, integer) IS
'The number of a document as it is printed: INV-000001. series: what it begins with. number: from 1. width: digits at least, 1 to 18; a larger number has as many as it needs. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.document_number(text, bigint, integer) TO PUBLIC;
