/* worker: who is at work. */

CREATE OR REPLACE FUNCTION tenancy.worker_read(
    OUT role text, OUT database oid, OUT pid integer, OUT next_due_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_worker_read'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.worker_read() IS
'The launcher, and the databases that it looks after; pid is null where no runner is at work. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.worker_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.worker_read() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.worker WITH (security_invoker = true) AS
    SELECT w.role, d.datname AS database, w.pid, w.next_due_at
      FROM tenancy.worker_read() w
      LEFT JOIN pg_catalog.pg_database d ON d.oid = w.database;
COMMENT ON VIEW tenancy.worker IS 'The background workers of the cluster.';
REVOKE ALL ON tenancy.worker FROM PUBLIC;
GRANT SELECT ON tenancy.worker TO tenancy_admin, tenancy_auditor;

