/* resource: what tenants are given, and how it is sized. */

CREATE TABLE tenancy.resource_capacity (
    resource        text NOT NULL,
    capacity        numeric NOT NULL,
    overcommit      numeric NOT NULL,
    CONSTRAINT resource_capacity_pkey PRIMARY KEY (resource),
    CONSTRAINT resource_capacity_capacity_check CHECK (capacity >= 0),
    CONSTRAINT resource_capacity_overcommit_check CHECK (overcommit > 0)
);
COMMENT ON TABLE tenancy.resource_capacity IS
'What the server has of a resource, as declared; requests of tenants together stay within capacity times overcommit. Kept until changed.';
REVOKE ALL ON tenancy.resource_capacity FROM PUBLIC;
GRANT SELECT ON tenancy.resource_capacity TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.resource_capacity', '');

CREATE TABLE tenancy.allocation (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    requests        jsonb NOT NULL,
    limits          jsonb NOT NULL,
    scaling         jsonb NOT NULL,
    state           text NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    CONSTRAINT allocation_pkey PRIMARY KEY (id),
    CONSTRAINT allocation_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT allocation_state_check CHECK (state IN ('active', 'released'))
);
COMMENT ON TABLE tenancy.allocation IS
'What tenants are guaranteed and may use of resources, one active row a tenant. Kept for ever.';
COMMENT ON COLUMN tenancy.allocation.scaling IS 'how far resource_autoscale() may change a limit: {resource: {min, max, target_percent}}';
CREATE UNIQUE INDEX allocation_active_idx ON tenancy.allocation (tenant_id) WHERE state = 'active';
REVOKE ALL ON tenancy.allocation FROM PUBLIC;
GRANT SELECT ON tenancy.allocation TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.allocation', '');

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.allocation FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.allocation ENABLE ALWAYS TRIGGER registry_changed;

CREATE TABLE tenancy.resource_sample (
    tenant_id       uuid NOT NULL,
    sampled_at      timestamptz NOT NULL,
    cpu_us          bigint NOT NULL,
    storage_bytes   bigint,
    CONSTRAINT resource_sample_pkey PRIMARY KEY (tenant_id, sampled_at)
);
COMMENT ON TABLE tenancy.resource_sample IS
'What resource_autoscale() measured: CPU time since the server started, and storage. Kept for an hour. Not dumped.';
REVOKE ALL ON tenancy.resource_sample FROM PUBLIC;
GRANT SELECT ON tenancy.resource_sample TO tenancy_admin, tenancy_auditor;

CREATE TABLE tenancy.scaling_decision (
    tenant_id       uuid NOT NULL,
    resource        text NOT NULL,
    decided_at      timestamptz NOT NULL,
    from_limit      numeric NOT NULL,
    to_limit        numeric NOT NULL,
    used            numeric NOT NULL,
    target_percent  integer NOT NULL,
    reason          text NOT NULL,
    CONSTRAINT scaling_decision_pkey PRIMARY KEY (tenant_id, resource, decided_at),
    CONSTRAINT scaling_decision_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.scaling_decision IS
'Limits that resource_autoscale() has changed, and why. Kept for ever.';
REVOKE ALL ON tenancy.scaling_decision FROM PUBLIC;
GRANT SELECT ON tenancy.scaling_decision TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.scaling_decision', '');
