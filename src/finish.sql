/* The end of the install script: hand what was made to its owner, and open nothing by accident. */
CREATE FUNCTION tenancy.install_finish() RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_install_finish'
LANGUAGE C STRICT;
SELECT tenancy.install_finish();
DROP FUNCTION tenancy.install_finish();
