/* job: periodic work. */

CREATE OR REPLACE FUNCTION tenancy.job_kind_read(
    OUT name text, OUT every interval, OUT timeout interval, OUT description text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_job_kind_read'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.job_kind_read() IS
'The kinds of periodic work that the library has; every and timeout are null for a kind that runs whenever it has work. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.job_kind_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.job_kind_read() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.job_kind WITH (security_invoker = true) AS
    SELECT k.name, k.every, k.timeout, k.description FROM tenancy.job_kind_read() k;
COMMENT ON VIEW tenancy.job_kind IS 'The kinds of periodic work, with their default intervals, and how long a background worker lets each run.';
REVOKE ALL ON tenancy.job_kind FROM PUBLIC;
GRANT SELECT ON tenancy.job_kind TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.job_run_due(
    max_jobs integer DEFAULT 100, OUT kind text, OUT state text, OUT error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_job_run_due'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_run_due(integer) IS
'Runs the periodic work that is due, for databases whose work pg_cron or an operator drives. max_jobs: at most this many. Result: one row a run; state is succeeded or failed, and a failure does not stop the others. Errors: 22023; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.job_run_due(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_run_due(integer) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.schedule_set(
    kind text, every interval DEFAULT NULL, enabled boolean DEFAULT NULL)
RETURNS tenancy.schedule
AS 'MODULE_PATHNAME', 'tenancy_schedule_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.schedule_set(text, interval, boolean) IS
'Changes how often a kind of periodic work runs, or whether it does. kind: a scheduled kind of tenancy.job_kind. every: between one second and one year, or null to keep it. enabled: or null to keep it. Result: the row. Errors: 42704 unknown kind; 22023 bad interval. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.schedule_set(text, interval, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.schedule_set(text, interval, boolean) TO tenancy_admin;


CREATE OR REPLACE FUNCTION tenancy.event_type_read(
    OUT name text, OUT version integer, OUT description text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_event_type_read'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.event_type_read() IS
'The types of events that the extension puts out. Result: name, version of the payload, and what an event of the type says. Rights: the control plane, and tenants.';
REVOKE ALL ON FUNCTION tenancy.event_type_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.event_type_read() TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE VIEW tenancy.event_type WITH (security_invoker = true) AS
    SELECT t.name, t.version, t.description FROM tenancy.event_type_read() t;
COMMENT ON VIEW tenancy.event_type IS 'The types of events that the extension puts out.';
REVOKE ALL ON tenancy.event_type FROM PUBLIC;
GRANT SELECT ON tenancy.event_type TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.event_publish(
    tenant @extschema@.regtenant, type text, payload jsonb, version integer DEFAULT 1)
RETURNS tenancy.outbox_event
AS 'MODULE_PATHNAME', 'tenancy_event_publish'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.event_publish(@extschema@.regtenant, text, jsonb, integer) IS
'Tells those who have subscribed that something has happened to a tenant, if the transaction commits. tenant: slug or id. type: two or more parts joined by dots, as in "order.shipped"; not one of tenancy.event_type. payload: a JSON object of at most 20,000 bytes. version: of the structure of the payload, from 1. Result: the event. Errors: 22023 bad type, payload or version; 42939 a type of the extension; 54000 payload too large; 42704 unknown tenant. Rights: tenancy_admin, tenancy_app, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.event_publish(@extschema@.regtenant, text, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.event_publish(@extschema@.regtenant, text, jsonb, integer) TO tenancy_admin, tenancy_app, tenancy_tenant;
