/* job: when periodic work is due, and what became of it. */

CREATE TABLE tenancy.schedule (
    name                text NOT NULL,
    kind                text NOT NULL,
    every               interval NOT NULL,
    next_run_at         timestamptz NOT NULL,
    enabled             boolean NOT NULL,
    fence               bigint NOT NULL,
    lease_until         timestamptz,
    last_started_at     timestamptz,
    last_finished_at    timestamptz,
    last_error          text,
    failures            integer NOT NULL,
    arguments           jsonb,
    tenant_id           uuid,
    anchor              timestamptz,
    zone                text,
    misfire             text,
    overlap             text,
    last_job            uuid,
    CONSTRAINT schedule_pkey PRIMARY KEY (name),
    CONSTRAINT schedule_misfire_check CHECK (misfire IN ('skip', 'once', 'all')),
    CONSTRAINT schedule_overlap_check CHECK (overlap IN ('skip', 'allow')),
    CONSTRAINT schedule_anchor_check CHECK ((anchor IS NULL) = (zone IS NULL) AND (anchor IS NULL) = (misfire IS NULL)
        AND (anchor IS NULL) = (overlap IS NULL) AND (anchor IS NULL) = (arguments IS NULL)),
    CONSTRAINT schedule_every_check CHECK (every >= interval '1 second')
);
COMMENT ON TABLE tenancy.schedule IS
'Periodic work of this database: one row for each kind of the library, of the same name, and those that applications make, which enqueue jobs. Kept until schedule_drop().';
COMMENT ON COLUMN tenancy.schedule.anchor IS 'the n-th time is n times every after it, in the civil time of the zone; null for a kind of the library, whose next run follows the last';
COMMENT ON COLUMN tenancy.schedule.misfire IS 'times that nobody was there for: skip them, run once for all of them, or run all';
COMMENT ON COLUMN tenancy.schedule.overlap IS 'when the last job is not finished: skip the time, or allow another job beside it';
COMMENT ON COLUMN tenancy.schedule.fence IS 'number of the last claim; an outcome under an older one is discarded';
COMMENT ON COLUMN tenancy.schedule.failures IS 'since the last success';
REVOKE ALL ON tenancy.schedule FROM PUBLIC;
GRANT SELECT ON tenancy.schedule TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.schedule', '');

CREATE TABLE tenancy.job_run (
    id                  uuid NOT NULL,
    kind                text NOT NULL,
    state               text NOT NULL,
    started_at          timestamptz NOT NULL,
    finished_at         timestamptz,
    error               text,
    sqlstate            text,
    result              jsonb,
    CONSTRAINT job_run_pkey PRIMARY KEY (id),
    CONSTRAINT job_run_state_check CHECK (state IN ('running', 'succeeded', 'failed'))
);
COMMENT ON TABLE tenancy.job_run IS
'Every run of periodic work. Kept for 30 days, by the kind job.retention. A kind without a schedule is recorded only where it failed. A run that a crash or a shutdown cut off is failed when the next one looks.';
COMMENT ON COLUMN tenancy.job_run.result IS 'what the run did, counted; null where it failed';
CREATE INDEX job_run_started_at_idx ON tenancy.job_run (started_at);
CREATE INDEX job_run_running_idx ON tenancy.job_run (kind) WHERE state = 'running';
REVOKE ALL ON tenancy.job_run FROM PUBLIC;
GRANT SELECT ON tenancy.job_run TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_run', '');


CREATE TABLE tenancy.outbox_event (
    id              uuid NOT NULL,
    tenant_id       uuid,
    type            text NOT NULL,
    version         integer NOT NULL,
    payload         jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    /* No foreign key to the tenant: that one is gone is an event, too. */
    CONSTRAINT outbox_event_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_event_version_check CHECK (version >= 1)
);
COMMENT ON TABLE tenancy.outbox_event IS
'What has happened, written in the transaction in which it did. Kept for tenancy.event_retention, by the kind job.retention.';
COMMENT ON COLUMN tenancy.outbox_event.id IS 'in order of time (UUIDv7); receivers tell by it what they have had already';
COMMENT ON COLUMN tenancy.outbox_event.tenant_id IS 'null for what concerns no tenant';
COMMENT ON COLUMN tenancy.outbox_event.version IS 'of the payload''s structure; a member more is no new version';
CREATE INDEX outbox_event_tenant_idx ON tenancy.outbox_event (tenant_id, id);
ALTER TABLE tenancy.outbox_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.outbox_event FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.outbox_event FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.outbox_event FROM PUBLIC;
GRANT SELECT ON tenancy.outbox_event TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.outbox_event', '');

CREATE TABLE tenancy.job_kind_defined (
    name            text NOT NULL,
    procedure       text,
    run_as          text NOT NULL,
    for_tenants     boolean NOT NULL,
    retry           jsonb NOT NULL,
    timeout         interval NOT NULL,
    description     text,
    CONSTRAINT job_kind_defined_pkey PRIMARY KEY (name),
    CONSTRAINT job_kind_defined_run_as_check CHECK (run_as IN ('owner', 'tenant'))
);
COMMENT ON TABLE tenancy.job_kind_defined IS
'Kinds of jobs that applications have defined. Kept until they are dropped.';
COMMENT ON COLUMN tenancy.job_kind_defined.procedure IS 'the function that does the work, as its signature; null where clients claim the jobs';
COMMENT ON COLUMN tenancy.job_kind_defined.run_as IS 'whose rights the function has: its owner''s, or those of the tenant';
COMMENT ON COLUMN tenancy.job_kind_defined.for_tenants IS 'whether tenants may enqueue jobs of the kind';
REVOKE ALL ON tenancy.job_kind_defined FROM PUBLIC;
GRANT SELECT ON tenancy.job_kind_defined TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_kind_defined', '');

/*
 * Jobs of the extension's own kinds carry what is the operator's: roles, databases, upstreams, the
 * output of commands.  It reads a table in memory, so that no right on others is needed.
 */
CREATE FUNCTION tenancy.job_kind_is_own(kind text) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_job_kind_is_own'
LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION tenancy.job_kind_is_own(text) IS
'Whether a kind of jobs is one of the extension itself. kind: its name. Result: false also where there is none of that name. Rights: the control plane, and tenants.';
REVOKE ALL ON FUNCTION tenancy.job_kind_is_own(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.job_kind_is_own(text) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

/*
 * Claiming changes no indexed column, so that it is a heap-only update: half of each page is
 * left free for it.  A job is running while it has a lease.
 */
CREATE TABLE tenancy.job_pending (
    id              uuid NOT NULL,
    lane            text NOT NULL,
    kind            text NOT NULL,
    tenant_id       uuid,
    state           text NOT NULL,
    rank            bigint,
    priority        smallint NOT NULL,
    run_at          timestamptz NOT NULL,
    attempt         integer NOT NULL,
    max_attempts    integer NOT NULL,
    timeout         integer NOT NULL,
    blocked_by      integer NOT NULL,
    has_dependents  boolean NOT NULL,
    is_limited      boolean NOT NULL,
    fence           bigint NOT NULL,
    lease_until     timestamptz,
    started_at      timestamptz,
    worker_pid      integer,
    worker_since    timestamptz,
    enqueued_at     timestamptz NOT NULL,
    arguments       jsonb NOT NULL,
    retry           jsonb,
    unique_key      text,
    schedule        text,
    failures        jsonb,
    CONSTRAINT job_pending_pkey PRIMARY KEY (id),
    CONSTRAINT job_pending_state_check CHECK (state IN ('blocked', 'scheduled', 'held', 'ready')),
    CONSTRAINT job_pending_rank_check CHECK ((state = 'ready') = (rank IS NOT NULL)),
    CONSTRAINT job_pending_lease_check CHECK (lease_until IS NULL OR state = 'ready'),
    CONSTRAINT job_pending_priority_check CHECK (priority BETWEEN 0 AND 9)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE tenancy.job_pending IS
'Jobs that are not finished; tenancy.job shows them with those that are. Kept until they are.';
COMMENT ON COLUMN tenancy.job_pending.lane IS 'empty for the kinds that background workers run; else the kind that clients claim';
COMMENT ON COLUMN tenancy.job_pending.state IS 'blocked by a job that it depends on; scheduled for run_at; held because its tenant has as many as it may; ready, and running while it has a lease';
COMMENT ON COLUMN tenancy.job_pending.rank IS 'place in the line of the lane, which is fair to tenants';
COMMENT ON COLUMN tenancy.job_pending.attempt IS 'how often it was claimed; a claim counts before the work starts';
COMMENT ON COLUMN tenancy.job_pending.timeout IS 'seconds that one attempt may take';
COMMENT ON COLUMN tenancy.job_pending.fence IS 'number of the last claim; what is reported under an older one is refused';
COMMENT ON COLUMN tenancy.job_pending.worker_pid IS 'the backend whose death ends the lease, with the time of its start; null where it does not';
COMMENT ON COLUMN tenancy.job_pending.is_limited IS 'whether finishing it lets another of its tenant begin';
COMMENT ON COLUMN tenancy.job_pending.failures IS 'what became of earlier attempts';
CREATE INDEX job_pending_ready_idx ON tenancy.job_pending (lane, rank) WHERE state = 'ready';
CREATE INDEX job_pending_due_idx ON tenancy.job_pending (run_at) WHERE state = 'scheduled';
CREATE INDEX job_pending_tenant_idx ON tenancy.job_pending (tenant_id, state, id) WHERE tenant_id IS NOT NULL;
CREATE UNIQUE INDEX job_pending_unique_idx ON tenancy.job_pending
    (kind, (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')), unique_key) WHERE unique_key IS NOT NULL;
ALTER TABLE tenancy.job_pending ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.job_pending FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY application ON tenancy.job_pending FOR SELECT TO tenancy_app USING (NOT tenancy.job_kind_is_own(kind));
CREATE POLICY own ON tenancy.job_pending FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id() AND NOT tenancy.job_kind_is_own(kind));
REVOKE ALL ON tenancy.job_pending FROM PUBLIC;
GRANT SELECT ON tenancy.job_pending TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_pending', '');

CREATE TABLE tenancy.job_done (
    id              uuid NOT NULL,
    kind            text NOT NULL,
    tenant_id       uuid,
    outcome         text NOT NULL,
    priority        smallint NOT NULL,
    run_at          timestamptz NOT NULL,
    attempt         integer NOT NULL,
    max_attempts    integer NOT NULL,
    timeout         integer NOT NULL,
    fence           bigint NOT NULL,
    started_at      timestamptz,
    enqueued_at     timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL,
    arguments       jsonb NOT NULL,
    retry           jsonb,
    unique_key      text,
    schedule        text,
    failures        jsonb,
    result          jsonb,
    CONSTRAINT job_done_pkey PRIMARY KEY (id),
    CONSTRAINT job_done_outcome_check CHECK (outcome IN ('succeeded', 'discarded', 'cancelled'))
);
COMMENT ON TABLE tenancy.job_done IS
'Jobs that are finished. Kept for tenancy.job_retention, and the discarded, which job_replay() can take up, four times as long; of the succeeded of one kind the latest tenancy.job_history at most. By the kind job.retention.';
COMMENT ON COLUMN tenancy.job_done.outcome IS 'discarded: it has failed for good';
CREATE INDEX job_done_finished_at_idx ON tenancy.job_done USING brin (finished_at) WITH (pages_per_range = 16);
CREATE INDEX job_done_discarded_idx ON tenancy.job_done (finished_at) WHERE outcome = 'discarded';
ALTER TABLE tenancy.job_done ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.job_done FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY application ON tenancy.job_done FOR SELECT TO tenancy_app USING (NOT tenancy.job_kind_is_own(kind));
CREATE POLICY own ON tenancy.job_done FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id() AND NOT tenancy.job_kind_is_own(kind));
REVOKE ALL ON tenancy.job_done FROM PUBLIC;
GRANT SELECT ON tenancy.job_done TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_done', '');

CREATE TABLE tenancy.job_dependency (
    depends_on      uuid NOT NULL,
    job_id          uuid NOT NULL,
    CONSTRAINT job_dependency_pkey PRIMARY KEY (depends_on, job_id)
);
COMMENT ON TABLE tenancy.job_dependency IS
'Which job waits for which. Kept until the one that is waited for is finished.';
CREATE INDEX job_dependency_job_idx ON tenancy.job_dependency (job_id);
REVOKE ALL ON tenancy.job_dependency FROM PUBLIC;
GRANT SELECT ON tenancy.job_dependency TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_dependency', '');

CREATE TABLE tenancy.job_key (
    scope           uuid NOT NULL,
    kind            text NOT NULL,
    key             text NOT NULL,
    job_id          uuid NOT NULL,
    arguments_hash  bytea NOT NULL,
    CONSTRAINT job_key_pkey PRIMARY KEY (scope, kind, key)
);
COMMENT ON TABLE tenancy.job_key IS
'Idempotency keys of jobs. Kept as long as the job.';
COMMENT ON COLUMN tenancy.job_key.scope IS 'the tenant; all zeros for none';
CREATE INDEX job_key_job_idx ON tenancy.job_key (job_id);
REVOKE ALL ON tenancy.job_key FROM PUBLIC;
GRANT SELECT ON tenancy.job_key TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_key', '');

CREATE TABLE tenancy.job_limit (
    tenant_id       uuid NOT NULL,
    max_running     integer NOT NULL,
    CONSTRAINT job_limit_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT job_limit_max_running_check CHECK (max_running >= 0)
);
COMMENT ON TABLE tenancy.job_limit IS
'How many jobs of a tenant may run at the same time; without a row as many as there are workers. Kept until it is taken back.';
ALTER TABLE tenancy.job_limit ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.job_limit FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.job_limit FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.job_limit FROM PUBLIC;
GRANT SELECT ON tenancy.job_limit TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.job_limit', '');

CREATE TABLE tenancy.endpoint (
    id              uuid NOT NULL,
    tenant_id       uuid,
    url             text NOT NULL,
    event_types     text[] NOT NULL,
    enabled         boolean NOT NULL,
    disabled_reason text,
    created_at      timestamptz NOT NULL,
    CONSTRAINT endpoint_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE tenancy.endpoint IS
'Who is told of events: one row an URL. Kept until endpoint_delete().';
COMMENT ON COLUMN tenancy.endpoint.tenant_id IS 'whose events; null for the operator, who is told of all';
COMMENT ON COLUMN tenancy.endpoint.event_types IS 'types; "invoice.*" is all that begin so, "*" all';
CREATE INDEX endpoint_tenant_idx ON tenancy.endpoint (tenant_id);
ALTER TABLE tenancy.endpoint ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.endpoint FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.endpoint FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.endpoint FROM PUBLIC;
GRANT SELECT ON tenancy.endpoint TO tenancy_admin, tenancy_auditor, tenancy_tenant;
/* What a tenant sees of the extension's own jobs: the deliveries to its endpoints. */
CREATE POLICY own_delivery ON tenancy.job_pending FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id() AND kind OPERATOR(pg_catalog.=) 'webhook.deliver'
           AND EXISTS (SELECT FROM tenancy.endpoint e
                        WHERE e.id::pg_catalog.text OPERATOR(pg_catalog.=) (arguments OPERATOR(pg_catalog.->>) 'endpoint')));
CREATE POLICY own_delivery ON tenancy.job_done FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id() AND kind OPERATOR(pg_catalog.=) 'webhook.deliver'
           AND EXISTS (SELECT FROM tenancy.endpoint e
                        WHERE e.id::pg_catalog.text OPERATOR(pg_catalog.=) (arguments OPERATOR(pg_catalog.->>) 'endpoint')));
SELECT pg_catalog.pg_extension_config_dump('tenancy.endpoint', '');

CREATE TABLE tenancy.endpoint_key (
    id              uuid NOT NULL,
    endpoint_id     uuid NOT NULL,
    scheme          text NOT NULL,
    secret          bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    CONSTRAINT endpoint_key_pkey PRIMARY KEY (id),
    CONSTRAINT endpoint_key_endpoint_fkey FOREIGN KEY (endpoint_id) REFERENCES tenancy.endpoint (id) ON DELETE CASCADE,
    CONSTRAINT endpoint_key_scheme_check CHECK (scheme IN ('v1', 'v1a'))
);
COMMENT ON TABLE tenancy.endpoint_key IS
'What deliveries are signed with. Nobody may read it; a dump of the database has it. Kept until the key has expired, or as long as the endpoint.';
COMMENT ON COLUMN tenancy.endpoint_key.scheme IS 'of Standard Webhooks: v1 is HMAC-SHA256, v1a Ed25519';
CREATE INDEX endpoint_key_endpoint_idx ON tenancy.endpoint_key (endpoint_id);
REVOKE ALL ON tenancy.endpoint_key FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenancy.endpoint_key', '');
