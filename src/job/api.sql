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
    SELECT k.name, k.every, k.timeout, k.description, 'library' AS executor
      FROM tenancy.job_kind_read() k
     UNION ALL
    SELECT d.name, NULL, d.timeout, d.description, CASE WHEN d.procedure IS NULL THEN 'client' ELSE 'function' END
      FROM tenancy.job_kind_defined d;
COMMENT ON VIEW tenancy.job_kind IS 'The kinds of work, with the default intervals of those that are periodic, how long each may take, and who does it: the library, a function, or clients that claim jobs.';
REVOKE ALL ON tenancy.job_kind FROM PUBLIC;
GRANT SELECT ON tenancy.job_kind TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.job_run_due(
    max_jobs integer DEFAULT 100, OUT kind text, OUT state text, OUT error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_job_run_due'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_run_due(integer) IS
'Runs the periodic work that is due, and queued jobs that functions do, for databases whose work pg_cron or an operator drives; all in the callers transaction. max_jobs: at most this many. Result: one row a run; state is succeeded or failed, and a failure does not stop the others; what has no schedule, such as metering.flush, is told of where it failed. Errors: 22023; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.job_run_due(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_run_due(integer) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.schedule_set(
    name text, kind text DEFAULT NULL, every interval DEFAULT NULL, enabled boolean DEFAULT NULL,
    arguments jsonb DEFAULT NULL, tenant @extschema@.regtenant DEFAULT NULL, anchor timestamptz DEFAULT NULL,
    zone text DEFAULT NULL, misfire text DEFAULT NULL, overlap text DEFAULT NULL)
RETURNS tenancy.schedule
AS 'MODULE_PATHNAME', 'tenancy_schedule_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.schedule_set(text, text, interval, boolean, jsonb, @extschema@.regtenant, timestamptz, text, text, text) IS
'Enqueues jobs again and again, or changes how; null keeps what is. name: of the schedule or, to change how often it runs or whether it does, a periodic kind of tenancy.job_kind. kind: of the jobs. every: between one second and one year. enabled: true for a new one. arguments, tenant: of the jobs. anchor: the times are multiples of every after it, now by default. zone: a named time zone, in whose civil time days and months are counted; UTC by default. misfire: of times that have passed, "skip" those more than a minute ago, run "once" for all (the default), or run "all". overlap: while the last job is unfinished "skip" the time (the default) or "allow" another job. Result: the row. Errors: 42704 unknown schedule, kind or tenant; 22023 bad argument; 22008 bad anchor; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.schedule_set(text, text, interval, boolean, jsonb, @extschema@.regtenant, timestamptz, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.schedule_set(text, text, interval, boolean, jsonb, @extschema@.regtenant, timestamptz, text, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.schedule_drop(
    name text)
RETURNS tenancy.schedule
AS 'MODULE_PATHNAME', 'tenancy_schedule_drop'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.schedule_drop(text) IS
'Drops a schedule; jobs that it has enqueued stay. name: of one made by schedule_set(). Result: what it was. Errors: 42704 unknown, or a kind of the extension; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.schedule_drop(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.schedule_drop(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.cron_install(
    schedule text DEFAULT '* * * * *')
RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_cron_install'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cron_install(text) IS
'Lets pg_cron call job_run_due(), for databases whose background workers are switched off (tenancy.workers). schedule: five fields, as pg_cron takes them; every minute by default. Result: the id of the job in cron.job, which is the callers. Errors: 55000 pg_cron does not exist in this database; those of cron.schedule(); 42501 within a tenant context. Rights: tenancy_admin, and USAGE on the schema cron.';
REVOKE ALL ON FUNCTION @extschema@.cron_install(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.cron_install(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.cron_uninstall()
RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_cron_uninstall'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.cron_uninstall() IS
'Takes back what cron_install() did. Result: whether there was a job of the caller. Errors: 55000 pg_cron does not exist in this database; 42501 within a tenant context. Rights: tenancy_admin, and USAGE on the schema cron.';
REVOKE ALL ON FUNCTION @extschema@.cron_uninstall() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.cron_uninstall() TO tenancy_admin;

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

CREATE OR REPLACE VIEW tenancy.job WITH (security_invoker = true) AS
    SELECT p.id, p.kind, p.tenant_id, CASE WHEN p.lease_until IS NULL THEN p.state ELSE 'running' END AS state,
           p.arguments, p.priority, p.run_at, p.attempt, p.max_attempts,
           pg_catalog.make_interval(secs => p.timeout) AS timeout, p.fence, p.lease_until, p.enqueued_at, p.started_at,
           NULL::timestamptz AS finished_at, NULL::jsonb AS result, p.failures -> -1 ->> 'error' AS error,
           p.failures, p.unique_key, p.schedule
      FROM tenancy.job_pending p
     UNION ALL
    SELECT d.id, d.kind, d.tenant_id, d.outcome, d.arguments, d.priority, d.run_at, d.attempt, d.max_attempts,
           pg_catalog.make_interval(secs => d.timeout), d.fence, NULL, d.enqueued_at, d.started_at,
           d.finished_at, d.result, CASE WHEN d.outcome <> 'succeeded' THEN d.failures -> -1 ->> 'error' END,
           d.failures, d.unique_key, d.schedule
      FROM tenancy.job_done d;
COMMENT ON VIEW tenancy.job IS 'Queued jobs, finished or not. state: blocked by another job, scheduled for run_at, held because its tenant has as many as it may, ready, running; succeeded, discarded (it has failed for good), cancelled. Of kinds of the extension itself applications see none, and tenants the deliveries to their own endpoints.';
REVOKE ALL ON tenancy.job FROM PUBLIC;
GRANT SELECT ON tenancy.job TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE VIEW tenancy.job_stat WITH (security_invoker = true) AS
    SELECT k.kind, coalesce(p.blocked, 0) AS blocked, coalesce(p.scheduled, 0) AS scheduled, coalesce(p.held, 0) AS held,
           coalesce(p.ready, 0) AS ready, coalesce(p.running, 0) AS running, p.oldest_ready_at,
           coalesce(d.succeeded, 0) AS succeeded, coalesce(d.discarded, 0) AS discarded,
           d.failed_attempts::numeric / nullif(d.attempts, 0) AS failure_rate,
           d.wait_p50, d.wait_p95, d.run_p50, d.run_p95
      FROM (SELECT j.kind FROM tenancy.job_pending j UNION SELECT j.kind FROM tenancy.job_done j
             WHERE j.finished_at > now() - interval '1 hour') k
      LEFT JOIN (
            SELECT j.kind, count(*) FILTER (WHERE j.state = 'blocked') AS blocked,
                   count(*) FILTER (WHERE j.state = 'scheduled') AS scheduled,
                   count(*) FILTER (WHERE j.state = 'held') AS held,
                   count(*) FILTER (WHERE j.state = 'ready' AND j.lease_until IS NULL) AS ready,
                   count(j.lease_until) AS running,
                   min(j.run_at) FILTER (WHERE j.state = 'ready' AND j.lease_until IS NULL) AS oldest_ready_at
              FROM tenancy.job_pending j GROUP BY j.kind) p ON p.kind = k.kind
      LEFT JOIN (
            SELECT j.kind, count(*) FILTER (WHERE j.outcome = 'succeeded') AS succeeded,
                   count(*) FILTER (WHERE j.outcome = 'discarded') AS discarded,
                   sum(j.attempt) AS attempts,
                   sum(CASE WHEN j.outcome = 'succeeded' THEN j.attempt - 1 ELSE j.attempt END) AS failed_attempts,
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY j.started_at - j.run_at) AS wait_p50,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY j.started_at - j.run_at) AS wait_p95,
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY j.finished_at - j.started_at) AS run_p50,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY j.finished_at - j.started_at) AS run_p95
              FROM tenancy.job_done j
             WHERE j.finished_at > now() - interval '1 hour' AND j.outcome <> 'cancelled' GROUP BY j.kind) d ON d.kind = k.kind;
COMMENT ON VIEW tenancy.job_stat IS 'What waits and runs of each kind of queued jobs, and how it went in the last hour: wait is from the time when a job was due to the start of its last attempt, run is that attempt; failure_rate is of attempts.';
REVOKE ALL ON tenancy.job_stat FROM PUBLIC;
GRANT SELECT ON tenancy.job_stat TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.job_kind_define(
    name text, procedure regprocedure DEFAULT NULL, retry jsonb DEFAULT '{}', "timeout" interval DEFAULT '5 minutes', run_as text DEFAULT 'owner', for_tenants boolean DEFAULT false, description text DEFAULT NULL)
RETURNS tenancy.job_kind_defined
AS 'MODULE_PATHNAME', 'tenancy_job_kind_define'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_kind_define(text, regprocedure, jsonb, interval, text, boolean, text) IS
'Defines a kind of jobs, or changes it. name: lower-case letters, digits, dots, dashes and underscores. procedure: a function of one jsonb, the arguments of the job, that returns jsonb, its result; it runs in the context of the jobs tenant, in a restricted operation, and in one transaction with the record that the job is done. Null: clients claim the jobs with job_claim(). retry: {"max_attempts": 20, "initial_seconds": 5, "factor": 2, "max_seconds": 3600, "jitter": "full" or "none"}, or "delays_seconds": [0, 60, …] in place of the exponential; "non_retryable": SQLSTATEs, or beginnings of them. timeout: of one attempt, from one second to seven days. run_as: "owner" of the function, whose search path has the schemas of the tenant unless the tenant owns them; or "tenant". for_tenants: whether tenants may enqueue such jobs. Errors: 22023 bad argument; 42939 a kind of the extension; 42809 another signature; 42501 the function is not yours, or a superusers; 55006 who does the work would change while there are jobs. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.job_kind_define(text, regprocedure, jsonb, interval, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_kind_define(text, regprocedure, jsonb, interval, text, boolean, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.job_kind_drop(
    name text)
RETURNS tenancy.job_kind_defined
AS 'MODULE_PATHNAME', 'tenancy_job_kind_drop'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_kind_drop(text) IS
'Drops a kind of jobs. name: one of tenancy.job_kind_defined. Result: what it was. Errors: 42704 unknown; 55006 it has jobs that are not finished. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.job_kind_drop(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_kind_drop(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.job_enqueue(
    kind text, arguments jsonb DEFAULT '{}', tenant @extschema@.regtenant DEFAULT NULL, run_at timestamptz DEFAULT NULL, unique_key text DEFAULT NULL, idempotency_key text DEFAULT NULL, priority integer DEFAULT 5, depends_on uuid[] DEFAULT NULL, "timeout" interval DEFAULT NULL, retry jsonb DEFAULT NULL)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_enqueue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_enqueue(text, jsonb, @extschema@.regtenant, timestamptz, text, text, integer, uuid[], interval, jsonb) IS
'Enqueues a job, which exists if the transaction commits. kind: one of job_kind_define(). arguments: a JSON object. tenant: whose work it is, or null; within a context its tenant. run_at: not before; now by default, and for a time in the past. unique_key: there is at most one unfinished job of the kind and tenant under it, which is then returned. idempotency_key: the same key and arguments return the first job, finished or not, as long as it is kept. priority: 0, the first, to 9; a step is worth 100 places in line, so nothing waits for ever. depends_on: jobs that must have succeeded before. timeout: of one attempt; that of the kind by default. retry: as in job_kind_define(); that of the kind by default. Result: the job. Errors: 42704 unknown kind, tenant or dependency; 22023 bad argument; 23505 the idempotency key was used with other arguments; 40001 it is being used right now: try again; 55000 a dependency has failed; 42501 in a context, for another tenant or a kind that is not for tenants. Rights: tenancy_admin, tenancy_app, and a tenant for itself. Side effects: NOTIFY tenancy_job, with the kind, where clients claim it.';
REVOKE ALL ON FUNCTION @extschema@.job_enqueue(text, jsonb, @extschema@.regtenant, timestamptz, text, text, integer, uuid[], interval, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_enqueue(text, jsonb, @extschema@.regtenant, timestamptz, text, text, integer, uuid[], interval, jsonb) TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.job_claim(
    kind text, max_jobs integer DEFAULT 1, lease interval DEFAULT '1 minute', bound boolean DEFAULT false, OUT id uuid, OUT fence bigint, OUT tenant_id uuid, OUT arguments jsonb, OUT attempt integer, OUT lease_until timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_job_claim'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_claim(text, integer, interval, boolean) IS
'Claims ready jobs, fairly among tenants, for a client that does the work. Commit before the work starts: the attempt is then counted. kind: one without a function. max_jobs: from 1 to 10,000. lease: after it, or the timeout of the job, another may claim the job unless job_heartbeat() comes; up to seven days. bound: whether the end of this session ends the lease. Result: the jobs, with the fencing numbers under which their ends are reported. Errors: 42704 unknown kind; 22023; 42501 within a tenant context. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_claim(text, integer, interval, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_claim(text, integer, interval, boolean) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_heartbeat(
    job uuid, fence bigint, lease interval DEFAULT '1 minute')
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'tenancy_job_heartbeat'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_heartbeat(uuid, bigint, interval) IS
'Says that a claimed job is still being worked on. job, fence: as claimed. lease: from now; not beyond the timeout of the job. Result: the end of the lease. Errors: 55000 the claim is lost: stop; 22023; 42501 a kind of the extension, without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_heartbeat(uuid, bigint, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_heartbeat(uuid, bigint, interval) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_complete(
    job uuid, fence bigint, result jsonb DEFAULT NULL)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_complete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_complete(uuid, bigint, jsonb) IS
'Reports that a claimed job has succeeded; in the transaction that did its work, both happen once or not at all. job, fence: as claimed. result: kept with the job. Result: the job. Errors: 55000 the claim is lost: undo the work; 42501 a kind of the extension, without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_complete(uuid, bigint, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_complete(uuid, bigint, jsonb) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_complete_batch(
    jobs uuid[], fences bigint[], results jsonb[] DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME', 'tenancy_job_complete_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_complete_batch(uuid[], bigint[], jsonb[]) IS
'Reports that claimed jobs have succeeded. jobs, fences, results: arrays of one length, results null for none. Result: how many; those whose claims are lost are left out. Errors: 2202E arrays of several lengths; 22004; 42501 a kind of the extension, without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_complete_batch(uuid[], bigint[], jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_complete_batch(uuid[], bigint[], jsonb[]) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_fail(
    job uuid, fence bigint, error text, retry boolean DEFAULT true, retry_after interval DEFAULT NULL, evidence jsonb DEFAULT NULL)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_fail'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_fail(uuid, bigint, text, boolean, interval, jsonb) IS
'Reports that a claimed job has failed; it is tried again as its policy says, or discarded. job, fence: as claimed. error: kept, up to 2,000 bytes. retry: false to discard it at once. retry_after: at least this long, up to 30 days. evidence: kept with the attempt. Result: the job. Errors: 55000 the claim is lost; 22023; 42501 a kind of the extension, without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_fail(uuid, bigint, text, boolean, interval, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_fail(uuid, bigint, text, boolean, interval, jsonb) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_snooze(
    job uuid, fence bigint, until timestamptz)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_snooze'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_snooze(uuid, bigint, timestamptz) IS
'Puts a claimed job off, without counting the attempt. job, fence: as claimed. until: when it is ready again. Result: the job. Errors: 55000 the claim is lost; 22008; 42501 a kind of the extension, without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_snooze(uuid, bigint, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_snooze(uuid, bigint, timestamptz) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_cancel(
    job uuid, reason text DEFAULT NULL)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_cancel(uuid, text) IS
'Cancels a job that is not finished; one that runs is interrupted where a background worker has it, and its end refused elsewhere. Jobs that depend on it are discarded. job: id. reason: kept. Result: the job. Errors: 42704 unknown; 55000 it is finished; 42501 within a tenant context, or a kind of the extension without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_cancel(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_cancel(uuid, text) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_replay(
    job uuid)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_job_replay'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_replay(uuid) IS
'Enqueues a finished job again, as a new one with all its attempts. job: id, of tenancy.job. Result: the new job. Errors: 42704 there is no such finished job; 42501 within a tenant context, or a kind of the extension without tenancy_admin. Rights: tenancy_admin, tenancy_app.';
REVOKE ALL ON FUNCTION @extschema@.job_replay(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_replay(uuid) TO tenancy_admin, tenancy_app;

CREATE OR REPLACE FUNCTION @extschema@.job_limit_set(
    tenant @extschema@.regtenant, max_running integer)
RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_job_limit_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.job_limit_set(@extschema@.regtenant, integer) IS
'Limits how many jobs of a tenant run at the same time; others are held. tenant: slug or id. max_running: 0 to stop them all, or null for no limit. Result: the id of the tenant. Errors: 42704 unknown tenant; 22023 negative; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.job_limit_set(@extschema@.regtenant, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.job_limit_set(@extschema@.regtenant, integer) TO tenancy_admin;

CREATE OR REPLACE VIEW tenancy.delivery WITH (security_invoker = true) AS
    SELECT j.id AS job_id, (j.arguments ->> 'event')::uuid AS event_id, (j.arguments ->> 'endpoint')::uuid AS endpoint_id,
           j.tenant_id, j.state, j.attempt, j.max_attempts, j.run_at AS next_attempt_at, j.started_at AS last_attempt_at, j.finished_at,
           coalesce((j.result ->> 'status')::integer, (j.failures -> -1 -> 'evidence' ->> 'status')::integer) AS status,
           j.result, j.error, j.failures
      FROM tenancy.job j WHERE j.kind = 'webhook.deliver';
COMMENT ON VIEW tenancy.delivery IS 'Deliveries of events to endpoints: states as in tenancy.job; status is that of the last answer, 0 where there was none; result and failures say what the receiver answered.';
REVOKE ALL ON tenancy.delivery FROM PUBLIC;
GRANT SELECT ON tenancy.delivery TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.endpoint_create(
    tenant @extschema@.regtenant, url text, event_types text[] DEFAULT '{*}', scheme text DEFAULT 'v1', secret text DEFAULT NULL, OUT id uuid, OUT key text)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_endpoint_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.endpoint_create(@extschema@.regtenant, text, text[], text, text) IS
'Has events delivered to an URL from now on, signed as Standard Webhooks 1.0 says. tenant: whose events, or null for the events of all. url: https, of a public address; also http within tenancy.webhook_allowed_networks. event_types: types, "invoice.*" for all that begin so, or "*". scheme: "v1" for HMAC-SHA256, "v1a" for Ed25519. secret: "whsec_…" or "whsk_…" of your own, or null for a new one. Result: the id, and what the receiver verifies with, "whsec_…" or "whpk_…", which is not shown again. Errors: 22023 bad argument; 42704 unknown tenant; 53400 there are 50 endpoints already; 42501 null within a tenant context. Rights: tenancy_admin, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.endpoint_create(@extschema@.regtenant, text, text[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.endpoint_create(@extschema@.regtenant, text, text[], text, text) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.endpoint_set(
    endpoint uuid, url text DEFAULT NULL, event_types text[] DEFAULT NULL, enabled boolean DEFAULT NULL)
RETURNS tenancy.endpoint
AS 'MODULE_PATHNAME', 'tenancy_endpoint_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.endpoint_set(uuid, text, text[], boolean) IS
'Changes an endpoint; null keeps what is. endpoint: id. url, event_types: as in endpoint_create(). enabled: whether events are delivered; one that answered with 410 is enabled again so. Result: the row. Errors: 42704 unknown; 22023. Rights: tenancy_admin, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.endpoint_set(uuid, text, text[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.endpoint_set(uuid, text, text[], boolean) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.endpoint_rotate(
    endpoint uuid, overlap interval DEFAULT '24 hours', scheme text DEFAULT 'v1', OUT id uuid, OUT key text)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_endpoint_rotate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.endpoint_rotate(uuid, interval, text) IS
'Gives an endpoint a new key. endpoint: id. overlap: for so long, up to 30 days, deliveries are signed with the old key, too. scheme: of the new one. Result: the id, and what the receiver verifies with. Errors: 42704 unknown; 22023. Rights: tenancy_admin, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.endpoint_rotate(uuid, interval, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.endpoint_rotate(uuid, interval, text) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.endpoint_delete(
    endpoint uuid)
RETURNS tenancy.endpoint
AS 'MODULE_PATHNAME', 'tenancy_endpoint_delete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.endpoint_delete(uuid) IS
'Delivers nothing to an endpoint any more. endpoint: id. Result: what it was. Errors: 42704 unknown. Rights: tenancy_admin, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.endpoint_delete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.endpoint_delete(uuid) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.delivery_replay(
    event uuid, endpoint uuid)
RETURNS tenancy.job
AS 'MODULE_PATHNAME', 'tenancy_delivery_replay'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.delivery_replay(uuid, uuid) IS
'Delivers an event again, under the same id. event: of tenancy.outbox_event. endpoint: id. Result: the job of the delivery. Errors: 42704 unknown event or endpoint; 22023 the endpoint is another tenant''s than the event. Rights: tenancy_admin, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.delivery_replay(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.delivery_replay(uuid, uuid) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.webhook_signature(
    secret text, id text, "timestamp" bigint, body text)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_webhook_signature'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.webhook_signature(text, text, bigint, text) IS
'A signature of Standard Webhooks 1.0. secret: "whsec_…" or "whsk_…". id, timestamp (seconds since 1970), body: of the message. Result: "v1,…" or "v1a,…". Errors: 22023 bad secret. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.webhook_signature(text, text, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.webhook_signature(text, text, bigint, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.address_is_public(
    address inet)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_address_is_public'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.address_is_public(inet) IS
'Whether the public Internet can reach an address, as RFC 6890 and its registries say; the rest deliveries do not go to. address: one address; its netmask does not count. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.address_is_public(inet) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.address_is_public(inet) TO tenancy_admin;
