/* workflow: definitions, and workflows that run by them. */

CREATE TABLE tenancy.workflow_definition (
    name            text NOT NULL,
    version         integer NOT NULL,
    definition      jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    shipped         boolean NOT NULL,
    CONSTRAINT workflow_definition_pkey PRIMARY KEY (name, version)
);
COMMENT ON TABLE tenancy.workflow_definition IS
'What workflows are made of; each change is a new version, and a workflow keeps the one that it was started with. Kept for ever.';
REVOKE ALL ON tenancy.workflow_definition FROM PUBLIC;
GRANT SELECT ON tenancy.workflow_definition TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.workflow_definition', 'WHERE NOT shipped');

INSERT INTO tenancy.workflow_definition (name, version, definition, created_at, shipped) VALUES
    ('onboarding', 1, '{"steps": [
        {"id": "tenant_creation", "name": "Create Tenant", "type": "system", "processor": "tenant.create", "compensation": "tenant.delete", "retry": {"non_retryable": ["22023", "23505", "42704", "42939"]}},
        {"id": "database_setup", "name": "Setup Database", "type": "system", "depends_on": ["tenant_creation"], "processor": "database.check"},
        {"id": "github_integration", "name": "Connect GitHub", "type": "user", "depends_on": ["database_setup"], "processor": "github.connect", "compensation": "github.disconnect"},
        {"id": "initial_catalog_import", "name": "Import Initial Catalog", "type": "system", "required": false, "depends_on": ["github_integration"], "processor": "catalog.import", "compensation": "catalog.remove"},
        {"id": "plugin_selection", "name": "Select Plugins", "type": "user", "required": false, "depends_on": ["initial_catalog_import"], "processor": "plugins.select", "compensation": "plugins.deselect"}]}', now(), true);

CREATE TABLE tenancy.workflow (
    id              uuid NOT NULL,
    name            text NOT NULL,
    version         integer NOT NULL,
    tenant_id       uuid,
    state           text NOT NULL,
    request         jsonb NOT NULL,
    error           text,
    idempotency_key text,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    CONSTRAINT workflow_pkey PRIMARY KEY (id),
    CONSTRAINT workflow_idempotency_key_key UNIQUE (idempotency_key),
    CONSTRAINT workflow_definition_fkey FOREIGN KEY (name, version) REFERENCES tenancy.workflow_definition (name, version),
    CONSTRAINT workflow_state_check CHECK (state IN ('running', 'completed', 'failed', 'compensating',
        'compensation_failed', 'compensated'))
);
COMMENT ON TABLE tenancy.workflow IS
'Workflows, such as the onboarding of one tenant. Kept for ever.';
COMMENT ON COLUMN tenancy.workflow.tenant_id IS 'null until a step has made the tenant';
COMMENT ON COLUMN tenancy.workflow.state IS 'failed: a required step has; compensating: it is being undone; compensation_failed: that went wrong, and needs a human; compensated: all has been undone';
CREATE INDEX workflow_tenant_idx ON tenancy.workflow (tenant_id);
REVOKE ALL ON tenancy.workflow FROM PUBLIC;
GRANT SELECT ON tenancy.workflow TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.workflow', '');

CREATE TABLE tenancy.workflow_step (
    workflow_id     uuid NOT NULL,
    step            text NOT NULL,
    position        integer NOT NULL,
    state           text NOT NULL,
    attempts        integer NOT NULL,
    result          jsonb,
    error           text,
    job_id          uuid,
    started_at      timestamptz,
    finished_at     timestamptz,
    input           jsonb,
    is_outside      boolean NOT NULL,
    CONSTRAINT workflow_step_pkey PRIMARY KEY (workflow_id, step),
    CONSTRAINT workflow_step_workflow_fkey FOREIGN KEY (workflow_id) REFERENCES tenancy.workflow (id) ON DELETE CASCADE,
    CONSTRAINT workflow_step_state_check CHECK (state IN ('pending', 'running', 'completed', 'failed', 'skipped', 'compensating', 'compensated'))
);
COMMENT ON TABLE tenancy.workflow_step IS
'The steps of workflows. Kept as long as the workflow. What a user gave to a step is not kept.';
COMMENT ON COLUMN tenancy.workflow_step.state IS 'running: its job is enqueued or at work; compensating: that which undoes it';
COMMENT ON COLUMN tenancy.workflow_step.input IS 'what its command was given';
COMMENT ON COLUMN tenancy.workflow_step.is_outside IS 'it has begun to do something outside of the database, which is undone also where the step has failed';
REVOKE ALL ON tenancy.workflow_step FROM PUBLIC;
GRANT SELECT ON tenancy.workflow_step TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.workflow_step', '');

/* An installation of a GitHub App is one tenant's. */
CREATE UNIQUE INDEX tenant_github_installation_key ON tenancy.tenant ((configuration #>> '{integrations,github,installation_id}'));

CREATE TABLE tenancy.catalog_entity (
    tenant_id       uuid NOT NULL,
    entity_ref      text NOT NULL,
    entity          jsonb NOT NULL,
    imported_at     timestamptz NOT NULL,
    workflow_id     uuid,
    CONSTRAINT catalog_entity_pkey PRIMARY KEY (tenant_id, entity_ref)
);
COMMENT ON TABLE tenancy.catalog_entity IS
'Entities that the onboarding of tenants or catalog_import() has imported, for the application to take up. Kept until the onboarding is rolled back.';
COMMENT ON COLUMN tenancy.catalog_entity.workflow_id IS 'the onboarding that brought it; null for catalog_import()';
ALTER TABLE tenancy.catalog_entity ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.catalog_entity FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.catalog_entity FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.catalog_entity FROM PUBLIC;
GRANT SELECT ON tenancy.catalog_entity TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.catalog_entity', '');
