/* worker: who is at work. */

CREATE OR REPLACE FUNCTION tenancy.worker_read(
    OUT role text, OUT database oid, OUT pid integer, OUT state text, OUT since timestamptz,
    OUT next_due_at timestamptz, OUT failures integer, OUT retry_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_worker_read'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.worker_read() IS
'The launcher, and the databases that it looks after. Result: pid is null where no runner is at work; state is running, idle, paused, failing, or off for the launcher; since is when the runner came or the last one left; next_due_at is null where it is not known or nothing is scheduled; failures is a count in a row, and retry_at when the next runner comes after them. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.worker_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.worker_read() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION tenancy.directory_read(
    OUT used bigint, OUT capacity bigint, OUT refused bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_directory_read'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.directory_read() IS
'How many databases the launcher looks after. Result: used, of capacity (tenancy.max_databases), and how often there was no room for another. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.directory_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.directory_read() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.worker WITH (security_invoker = true) AS
    SELECT w.role, d.datname AS database, w.pid, w.state, w.since, w.next_due_at, w.failures, w.retry_at
      FROM tenancy.worker_read() w
      LEFT JOIN pg_catalog.pg_database d ON d.oid = w.database;
COMMENT ON VIEW tenancy.worker IS 'The background workers of the cluster, and the databases that they look after.';
REVOKE ALL ON tenancy.worker FROM PUBLIC;
GRANT SELECT ON tenancy.worker TO tenancy_admin, tenancy_auditor;
