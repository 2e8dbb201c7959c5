/* provision: what tenants have outside of the database. */

CREATE TABLE tenancy.provision (
    tenant_id       uuid NOT NULL,
    component       text NOT NULL,
    name            text NOT NULL,
    state           text NOT NULL,
    spec            jsonb NOT NULL,
    input           jsonb,
    holdings        jsonb,
    evidence        jsonb,
    error           text,
    job_id          uuid,
    workflow_id     uuid,
    step            text,
    requested_at    timestamptz NOT NULL,
    finished_at     timestamptz,
    checked_at      timestamptz,
    CONSTRAINT provision_pkey PRIMARY KEY (tenant_id, component, name),
    CONSTRAINT provision_component_check CHECK (component IN ('infrastructure', 'database', 'application', 'dns', 'ssl',
        'monitoring', 'backups')),
    CONSTRAINT provision_state_check CHECK (state IN ('pending', 'active', 'drifted', 'failed', 'removing',
        'removal_failed', 'removed')),
    CONSTRAINT provision_step_check CHECK ((workflow_id IS NULL) = (step IS NULL))
);
COMMENT ON TABLE tenancy.provision IS
'What tenants have outside of the database, what was asked for, and the evidence that it is there. Kept until the tenant is purged.';
COMMENT ON COLUMN tenancy.provision.name IS 'the domain of dns and ssl, of which a tenant may have several; else "main"';
COMMENT ON COLUMN tenancy.provision.state IS 'pending: asked for, see error for what goes wrong meanwhile; active: done and checked; drifted: a check has failed since; removing: being undone';
COMMENT ON COLUMN tenancy.provision.spec IS 'what was asked for';
COMMENT ON COLUMN tenancy.provision.input IS 'what its command was given, and is given to undo it; null where it has none';
COMMENT ON COLUMN tenancy.provision.holdings IS 'what it has in the database';
COMMENT ON COLUMN tenancy.provision.evidence IS 'what the command said when it did, checked and undid it';
COMMENT ON COLUMN tenancy.provision.job_id IS 'the last job that worked on it';
COMMENT ON COLUMN tenancy.provision.workflow_id IS 'the workflow and its step that asked for it; null where a call did';
COMMENT ON COLUMN tenancy.provision.checked_at IS 'when it was last seen to be right';
CREATE UNIQUE INDEX provision_domain_idx ON tenancy.provision (component, name)
    WHERE component IN ('dns', 'ssl') AND state <> 'removed';
CREATE INDEX provision_workflow_idx ON tenancy.provision (workflow_id) WHERE workflow_id IS NOT NULL;
CREATE INDEX provision_checked_idx ON tenancy.provision (checked_at) WHERE state IN ('active', 'drifted');
REVOKE ALL ON tenancy.provision FROM PUBLIC;
GRANT SELECT ON tenancy.provision TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.provision', '');

CREATE TABLE tenancy.application_migration (
    tenant_id       uuid NOT NULL,
    version         text NOT NULL,
    checksum        text NOT NULL,
    applied_at      timestamptz NOT NULL,
    CONSTRAINT application_migration_pkey PRIMARY KEY (tenant_id, version)
);
COMMENT ON TABLE tenancy.application_migration IS
'Which migrations of the application have been run for which tenant, by provision_application(). Kept until the tenant is purged.';
COMMENT ON COLUMN tenancy.application_migration.checksum IS 'SHA-256 of what was run, in hexadecimal';
REVOKE ALL ON tenancy.application_migration FROM PUBLIC;
GRANT SELECT ON tenancy.application_migration TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.application_migration', '');

INSERT INTO tenancy.workflow_definition (name, version, definition, created_at, shipped) VALUES
    ('provisioning', 1, '{"purpose": "provisioning", "steps": [
        {"id": "infrastructure", "name": "Infrastructure", "type": "system", "processor": "provision.infrastructure", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "database", "name": "Database", "type": "system", "depends_on": ["infrastructure"], "processor": "provision.database", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "application", "name": "Application", "type": "system", "depends_on": ["database"], "processor": "provision.application", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "dns", "name": "Domain Name System", "type": "system", "depends_on": ["database"], "processor": "provision.dns", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "ssl", "name": "Certificate", "type": "system", "depends_on": ["application", "dns"], "processor": "provision.ssl", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "monitoring", "name": "Monitoring", "type": "system", "depends_on": ["application"], "processor": "provision.monitoring", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "backups", "name": "Backups", "type": "system", "depends_on": ["application"], "processor": "provision.backups", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}}]}', now(), true),
    ('onboarding_hosted', 1, '{"steps": [
        {"id": "tenant_creation", "name": "Create Tenant", "type": "system", "processor": "tenant.create", "compensation": "tenant.delete", "retry": {"non_retryable": ["22023", "23505", "42704", "42939"]}},
        {"id": "database_setup", "name": "Setup Database", "type": "system", "depends_on": ["tenant_creation"], "processor": "database.check"},
        {"id": "initial_catalog_import", "name": "Import Initial Catalog", "type": "system", "required": false, "depends_on": ["database_setup"], "processor": "catalog.import", "compensation": "catalog.remove"},
        {"id": "infrastructure", "name": "Infrastructure", "type": "system", "depends_on": ["database_setup"], "processor": "provision.infrastructure", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "database", "name": "Database", "type": "system", "depends_on": ["infrastructure"], "processor": "provision.database", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "application", "name": "Application", "type": "system", "depends_on": ["database"], "processor": "provision.application", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "dns", "name": "Domain Name System", "type": "system", "depends_on": ["database"], "processor": "provision.dns", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "ssl", "name": "Certificate", "type": "system", "depends_on": ["application", "dns"], "processor": "provision.ssl", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "monitoring", "name": "Monitoring", "type": "system", "depends_on": ["application"], "processor": "provision.monitoring", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}},
        {"id": "backups", "name": "Backups", "type": "system", "depends_on": ["application"], "processor": "provision.backups", "compensation": "provision.remove", "retry": {"non_retryable": ["22023", "23505", "42704", "55000"]}}]}', now(), true);
