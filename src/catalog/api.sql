/* catalog: the gate, for its test; rows that are shipped. */

CREATE OR REPLACE FUNCTION tenancy.gate_check(OUT statement text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_gate_check'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.gate_check() IS
'Prepares every named statement of the library against the tables as they are. Result: their names. Errors: those of the first that does not fit. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.gate_check() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.gate_check() TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.replace_shipped() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_replace_shipped'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.replace_shipped() IS
'Trigger: a row that comes in replaces the one that the extension has brought under its key, as when a dump is restored.';
REVOKE ALL ON FUNCTION tenancy.replace_shipped() FROM PUBLIC;
