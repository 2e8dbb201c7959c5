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
'The n-th boundary of billing periods, from the anchor as civil time in the zone: after Jan 31 come Feb 28 and Mar 31. anchor: boundary 0. n: any whole number. billing_period: monthly, quarterly or yearly. time_zone: a name of the IANA data base. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.period_boundary(timestamptz, integer, text, text) TO PUBLIC;

