/* core: what the ground floor shows of itself. */

CREATE OR REPLACE FUNCTION tenancy.state_moves(
    OUT machine text, OUT relation text, OUT from_state text, OUT event text, OUT to_state text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_state_moves'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.state_moves() IS
'The moves of every state machine: from a state, on an event, to a state. Result: one row a move. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.state_moves() TO PUBLIC;

