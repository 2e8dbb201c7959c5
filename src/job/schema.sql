/* job: when periodic work is due, and what became of it. */

CREATE TABLE tenancy.schedule (
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
    CONSTRAINT schedule_pkey PRIMARY KEY (kind),
    CONSTRAINT schedule_every_check CHECK (every >= interval '1 second')
);
COMMENT ON TABLE tenancy.schedule IS
'Periodic work of this database, one row a kind. Kept for ever.';
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
