/* core: what the ground floor shows of itself. */

CREATE OR REPLACE FUNCTION tenancy.state_moves(
    OUT machine text, OUT relation text, OUT from_state text, OUT event text, OUT to_state text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_state_moves'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.state_moves() IS
'The moves of every state machine: from a state, on an event, to a state. Result: one row a move. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.state_moves() TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.id_new() RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_id_new'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.id_new() IS
'A new UUIDv7 (RFC 9562): in the order of time, to the millisecond. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.id_new() TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.period_boundary(
    anchor timestamptz, n integer, billing_period text, time_zone text) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'tenancy_period_boundary'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.period_boundary(timestamptz, integer, text, text) IS
'The n-th boundary of billing periods, from the anchor as civil time in the zone: after Jan 31 come Feb 28 and Mar 31. anchor: boundary 0. n: any whole number. billing_period: daily, weekly, monthly, quarterly or yearly. time_zone: a name of the IANA data base. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.period_boundary(timestamptz, integer, text, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.period_at(
    anchor timestamptz, billing_period text, at timestamptz, time_zone text DEFAULT 'UTC',
    OUT number integer, OUT starts_at timestamptz, OUT ends_at timestamptz)
AS 'MODULE_PATHNAME', 'tenancy_period_at'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.period_at(timestamptz, text, timestamptz, text) IS
'The billing period that a moment lies in. anchor, billing_period, time_zone: as for period_boundary(). at: the moment. Result: the number of the period, negative before the anchor, and its half-open range. Errors: 22023; 22008 a time that is not finite. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.period_at(timestamptz, text, timestamptz, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.money_round(amount numeric, currency text) RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_money_round'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.money_round(numeric, text) IS
'An amount, rounded half away from zero to the exponent of its currency. currency: ISO 4217. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.money_round(numeric, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.money_to_minor(amount numeric, currency text, gateway text DEFAULT NULL) RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_money_to_minor'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.money_to_minor(numeric, text, text) IS
'An amount in the minor units that a payment gateway counts in. amount: in the currency; null gives null. currency: ISO 4217. gateway: null for the units of ISO 4217; stripe keeps two decimals of ISK and UGX, and the last of three decimals zero. Result: a whole number. Errors: 22023; 22004 no currency. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.money_to_minor(numeric, text, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.money_from_minor(minor numeric, currency text, gateway text DEFAULT NULL) RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_money_from_minor'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.money_from_minor(numeric, text, text) IS
'The amount that so many minor units of a payment gateway are: the reverse of money_to_minor(). minor: units; null gives null. currency: ISO 4217. gateway: as for money_to_minor(). Errors: 22023; 22004 no currency. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.money_from_minor(numeric, text, text) TO PUBLIC;
