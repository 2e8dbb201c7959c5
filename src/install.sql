/* The head of the install script: runs before any floor. */
\echo Use "CREATE EXTENSION pg_tenancy" to load this file. \quit

/* Group roles, the schema of our tables, and what must be true of the target schema. */
CREATE FUNCTION @extschema@.tenancy_install_begin(target name) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_install_begin'
LANGUAGE C STRICT;
SELECT @extschema@.tenancy_install_begin('@extschema@');
DROP FUNCTION @extschema@.tenancy_install_begin(name);

