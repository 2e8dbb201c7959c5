/* privacy: how long data is kept, what must not go, and how tenants go. */

CREATE TABLE tenancy.legal_hold (
    id              uuid NOT NULL,
    scope           text NOT NULL,
    tenant_id       uuid,
    schema_name     name,
    table_name      name,
    predicate       text,
    subject         jsonb,
    blocks_updates  boolean NOT NULL,
    reason          text NOT NULL,
    case_id         text NOT NULL,
    set_by          name NOT NULL,
    set_at          timestamptz NOT NULL,
    released_by     name,
    released_at     timestamptz,
    release_reason  text,
    CONSTRAINT legal_hold_pkey PRIMARY KEY (id),
    CONSTRAINT legal_hold_scope_check CHECK (scope IN ('relation', 'subject', 'tenant')),
    CONSTRAINT legal_hold_tenant_check CHECK (scope = 'relation' OR tenant_id IS NOT NULL),
    CONSTRAINT legal_hold_relation_check CHECK ((schema_name IS NULL) = (table_name IS NULL)
        AND (scope <> 'relation' OR table_name IS NOT NULL) AND (scope <> 'tenant' OR table_name IS NULL)),
    CONSTRAINT legal_hold_predicate_check CHECK (predicate IS NULL OR scope = 'relation'),
    CONSTRAINT legal_hold_subject_check CHECK ((subject IS NOT NULL) = (scope = 'subject')),
    CONSTRAINT legal_hold_released_check CHECK ((released_at IS NULL) = (released_by IS NULL)
        AND (released_at IS NULL) = (release_reason IS NULL) AND released_by <> set_by)
);
COMMENT ON TABLE tenancy.legal_hold IS
'What must be preserved, and for which case. While a hold is in force nobody deletes what it covers. Kept until the tenant is purged, which lists them in its certificate; those of no tenant for ever.';
COMMENT ON COLUMN tenancy.legal_hold.scope IS 'tenant: all tables of its schemas and its rows of shared tables; subject: rows in them that have one of these values; relation: a table, or the rows that fit the predicate';
COMMENT ON COLUMN tenancy.legal_hold.predicate IS 'null for the whole table';
COMMENT ON COLUMN tenancy.legal_hold.subject IS 'names of columns and the value that a row of the subject has there';
COMMENT ON COLUMN tenancy.legal_hold.blocks_updates IS 'false: the rows may change, but neither go nor leave the hold';
CREATE INDEX legal_hold_tenant_idx ON tenancy.legal_hold (tenant_id);
CREATE INDEX legal_hold_active_idx ON tenancy.legal_hold (id) WHERE released_at IS NULL;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.legal_hold FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.legal_hold ENABLE ALWAYS TRIGGER registry_changed;
REVOKE ALL ON tenancy.legal_hold FROM PUBLIC;
GRANT SELECT ON tenancy.legal_hold TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.legal_hold', '');

CREATE TABLE tenancy.retention_policy (
    id              uuid NOT NULL,
    template        text,
    schema_name     name NOT NULL,
    table_name      name NOT NULL,
    time_expression text NOT NULL,
    period          interval,
    action          text NOT NULL,
    legal_basis     text NOT NULL,
    batch_rows      integer NOT NULL,
    anonymise       jsonb,
    filter          text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT retention_policy_pkey PRIMARY KEY (id),
    CONSTRAINT retention_policy_table_key UNIQUE (schema_name, table_name, action),
    CONSTRAINT retention_policy_action_check CHECK (action IN ('anonymise', 'delete', 'drop_partition')),
    CONSTRAINT retention_policy_anonymise_check CHECK ((anonymise IS NOT NULL) = (action = 'anonymise')),
    CONSTRAINT retention_policy_batch_rows_check CHECK (batch_rows BETWEEN 1 AND 100000)
);
COMMENT ON TABLE tenancy.retention_policy IS
'How long rows of which table are kept, why, and what becomes of them then. Kept until retention_policy_remove().';
COMMENT ON COLUMN tenancy.retention_policy.template IS 'the table is one of this template: the policy is for its copy in the schema of each tenant';
COMMENT ON COLUMN tenancy.retention_policy.period IS 'null for retention_days of the tenant''s configuration or, without, of its plan''s limits';
COMMENT ON COLUMN tenancy.retention_policy.anonymise IS 'columns, and the constant or {"expression": …} that takes the place of what they hold';
COMMENT ON COLUMN tenancy.retention_policy.filter IS 'a condition: the policy is for these rows alone';
REVOKE ALL ON tenancy.retention_policy FROM PUBLIC;
GRANT SELECT ON tenancy.retention_policy TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.retention_policy', '');

CREATE TABLE tenancy.retention_period (
    policy_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    period          interval NOT NULL,
    set_at          timestamptz NOT NULL,
    CONSTRAINT retention_period_pkey PRIMARY KEY (policy_id, tenant_id),
    CONSTRAINT retention_period_policy_fkey FOREIGN KEY (policy_id) REFERENCES tenancy.retention_policy (id) ON DELETE CASCADE,
    CONSTRAINT retention_period_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.retention_period IS
'Periods of single tenants, in the place of the policy''s. Kept as long as the policy and the tenant.';
CREATE INDEX retention_period_tenant_idx ON tenancy.retention_period (tenant_id);
REVOKE ALL ON tenancy.retention_period FROM PUBLIC;
GRANT SELECT ON tenancy.retention_period TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.retention_period', '');

CREATE TABLE tenancy.retention_log (
    id              uuid NOT NULL,
    policy_id       uuid NOT NULL,
    relation        text NOT NULL,
    tenant_id       uuid,
    action          text NOT NULL,
    legal_basis     text NOT NULL,
    cutoff          timestamptz NOT NULL,
    rows            bigint NOT NULL,
    partitions      integer NOT NULL,
    batches         integer NOT NULL,
    first_time      timestamptz,
    last_time       timestamptz,
    keys_hash       bytea NOT NULL,
    held            bigint NOT NULL,
    referenced      bigint NOT NULL,
    reason          text,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    CONSTRAINT retention_log_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE tenancy.retention_log IS
'What retention has deleted or anonymised, when and by which policy: a row for each table, or partition, that a run has worked at. Kept for tenancy.retention_log_retention, or until the tenant is purged.';
COMMENT ON COLUMN tenancy.retention_log.keys_hash IS 'BLAKE2b-256 over the former hash and the keys of each batch in turn: proves which rows went to who still knows them';
COMMENT ON COLUMN tenancy.retention_log.held IS 'overdue rows that stayed for a legal hold';
COMMENT ON COLUMN tenancy.retention_log.referenced IS 'overdue rows that stayed because others refer to them, or whose deletion failed, as "reason" says';
COMMENT ON COLUMN tenancy.retention_log.finished_at IS 'null while the run is at it';
CREATE INDEX retention_log_started_idx ON tenancy.retention_log (started_at);
CREATE INDEX retention_log_tenant_idx ON tenancy.retention_log (tenant_id);
REVOKE ALL ON tenancy.retention_log FROM PUBLIC;
GRANT SELECT ON tenancy.retention_log TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.retention_log', '');

CREATE TABLE tenancy.tenant_deletion (
    tenant_id       uuid NOT NULL,
    requested_at    timestamptz NOT NULL,
    requested_by    name NOT NULL,
    reason          text,
    purge_after     timestamptz NOT NULL,
    CONSTRAINT tenant_deletion_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenant_deletion_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.tenant_deletion IS
'Tenants that are deleted and not purged, and from when on they may be. Kept until tenant_undelete() or the purge.';
REVOKE ALL ON tenancy.tenant_deletion FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_deletion TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.tenant_deletion', '');

CREATE TABLE tenancy.deletion_certificate (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    requested_by    name NOT NULL,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    document        jsonb,
    hash            bytea,
    CONSTRAINT deletion_certificate_pkey PRIMARY KEY (id),
    CONSTRAINT deletion_certificate_tenant_key UNIQUE (tenant_id),
    CONSTRAINT deletion_certificate_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT deletion_certificate_finished_check CHECK ((finished_at IS NULL) = (document IS NULL) AND (finished_at IS NULL) = (hash IS NULL))
);
COMMENT ON TABLE tenancy.deletion_certificate IS
'What the purge of a tenant removed, what it kept and why. Kept for ever.';
COMMENT ON COLUMN tenancy.deletion_certificate.document IS 'null while the purge is not finished';
COMMENT ON COLUMN tenancy.deletion_certificate.hash IS 'BLAKE2b-256 of the text of the document, as b2sum -l 256 computes it';
REVOKE ALL ON tenancy.deletion_certificate FROM PUBLIC;
GRANT SELECT ON tenancy.deletion_certificate TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.deletion_certificate', '');

CREATE TABLE tenancy.deletion_item (
    certificate_id  uuid NOT NULL,
    kind            text NOT NULL,
    object          text NOT NULL,
    rows            bigint,
    bytes           bigint,
    kept            text,
    CONSTRAINT deletion_item_pkey PRIMARY KEY (certificate_id, kind, object),
    CONSTRAINT deletion_item_certificate_fkey FOREIGN KEY (certificate_id) REFERENCES tenancy.deletion_certificate (id),
    CONSTRAINT deletion_item_kind_check CHECK (kind IN ('hold', 'login', 'provision', 'record', 'role', 'rows', 'schema', 'table'))
);
COMMENT ON TABLE tenancy.deletion_item IS
'What a purge that is at work has done so far. Kept until its certificate is written.';
COMMENT ON COLUMN tenancy.deletion_item.kind IS 'rows: of a shared table; record: of a table of the extension; hold: one that was released';
COMMENT ON COLUMN tenancy.deletion_item.kept IS 'why it stays; null for what is removed';
REVOKE ALL ON tenancy.deletion_item FROM PUBLIC;
GRANT SELECT ON tenancy.deletion_item TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.deletion_item', '');
