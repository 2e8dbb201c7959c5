/* backup: copies of tenants, outside of the database. */

CREATE TABLE tenancy.backup (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    state           text NOT NULL,
    requested_at    timestamptz NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz,
    expires_at      timestamptz,
    removed_at      timestamptz,
    job_id          uuid,
    source          jsonb,
    size_bytes      bigint,
    sha256          text,
    evidence        jsonb,
    error           text,
    verified_at     timestamptz,
    verification    jsonb,
    /* No foreign key to the tenant: the row outlives it. */
    CONSTRAINT backup_pkey PRIMARY KEY (id),
    CONSTRAINT backup_state_check CHECK (state IN ('requested', 'running', 'succeeded', 'failed', 'expiring', 'expired')),
    CONSTRAINT backup_evidence_check CHECK (state <> 'succeeded' OR (evidence IS NOT NULL AND sha256 IS NOT NULL AND size_bytes > 0))
);
COMMENT ON TABLE tenancy.backup IS
'Backups of tenants: a file each, <tenancy.backup_directory>/<tenant_id>/<id>.tar, or .tar.age where it is encrypted. Kept for ever: the row says when its file was removed.';
COMMENT ON COLUMN tenancy.backup.expires_at IS 'when the file is to be removed; null for not by time';
COMMENT ON COLUMN tenancy.backup.job_id IS 'of the command that was asked for last';
COMMENT ON COLUMN tenancy.backup.source IS 'the tenant as it was: what a restored one is made from; null when the file is gone';
COMMENT ON COLUMN tenancy.backup.evidence IS 'of each table the number of rows and a digest of them (BLAKE2b-128 of each line of COPY, added up), in the snapshot of the dump; the version of pg_dump';
COMMENT ON COLUMN tenancy.backup.verification IS 'what the last drill found: the same, of a restored copy';
CREATE INDEX backup_tenant_idx ON tenancy.backup (tenant_id, requested_at);
CREATE INDEX backup_open_idx ON tenancy.backup (state) WHERE state IN ('requested', 'running', 'expiring');
REVOKE ALL ON tenancy.backup FROM PUBLIC;
GRANT SELECT ON tenancy.backup TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.backup', '');

CREATE TABLE tenancy.backup_policy (
    tenant_id       uuid NOT NULL,
    every           interval NOT NULL,
    keep_for        interval,
    keep            integer,
    next_at         timestamptz NOT NULL,
    CONSTRAINT backup_policy_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT backup_policy_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT backup_policy_every_check CHECK (every >= interval '1 minute'),
    CONSTRAINT backup_policy_keep_for_check CHECK (keep_for > interval '0'),
    CONSTRAINT backup_policy_keep_check CHECK (keep >= 1)
);
COMMENT ON TABLE tenancy.backup_policy IS
'How often a tenant is backed up, and how long and how many of its backups are kept; null is no limit. Kept until backup_policy_reset().';
REVOKE ALL ON tenancy.backup_policy FROM PUBLIC;
GRANT SELECT ON tenancy.backup_policy TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.backup_policy', '');

CREATE TABLE tenancy.restoration (
    id              uuid NOT NULL,
    backup_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    state           text NOT NULL,
    requested_at    timestamptz NOT NULL,
    finished_at     timestamptz,
    job_id          uuid,
    error           text,
    CONSTRAINT restoration_pkey PRIMARY KEY (id),
    CONSTRAINT restoration_backup_fkey FOREIGN KEY (backup_id) REFERENCES tenancy.backup (id),
    CONSTRAINT restoration_state_check CHECK (state IN ('unpacking', 'applying', 'succeeded', 'failed'))
);
COMMENT ON TABLE tenancy.restoration IS
'Backups that were restored, each into a new tenant. Kept for ever.';
COMMENT ON COLUMN tenancy.restoration.tenant_id IS 'the new one';
CREATE INDEX restoration_open_idx ON tenancy.restoration (state) WHERE state IN ('unpacking', 'applying');
REVOKE ALL ON tenancy.restoration FROM PUBLIC;
GRANT SELECT ON tenancy.restoration TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.restoration', '');

