/* catalog: the gate, for its test. */

CREATE OR REPLACE FUNCTION tenancy.gate_check(OUT statement text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_gate_check'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.gate_check() IS
'Prepares every named statement of the library against the tables as they are. Result: their names. Errors: those of the first that does not fit. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.gate_check() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.gate_check() TO tenancy_admin;

