/* catalog: the registry of tenants. */

CREATE TABLE tenancy.tenant (
    id              uuid NOT NULL,
    slug            text NOT NULL,
    name            text NOT NULL,
    plan            text,
    isolation       text NOT NULL,
    state           text NOT NULL,
    state_reason    text,
    template        text,
    schema_name     name,
    role_name       name NOT NULL,
    owner_name      name NOT NULL,
    owns_ddl        boolean NOT NULL,
    configuration   jsonb NOT NULL,
    metadata        jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT tenant_pkey PRIMARY KEY (id),
    CONSTRAINT tenant_slug_key UNIQUE (slug),
    CONSTRAINT tenant_role_name_key UNIQUE (role_name),
    CONSTRAINT tenant_isolation_check CHECK (isolation IN ('pool', 'schema')),
    CONSTRAINT tenant_state_check CHECK (state IN (
        'pending', 'provisioning', 'active', 'suspended', 'deactivated', 'purging', 'purged',
        'failed')),
    CONSTRAINT tenant_schema_check CHECK ((isolation = 'schema') = (schema_name IS NOT NULL))
);
COMMENT ON TABLE tenancy.tenant IS
'The tenants of this database, one row each. Kept until a tenant is purged.';
COMMENT ON COLUMN tenancy.tenant.slug IS 'the name in URLs: a DNS label; it may change, the id does not';
COMMENT ON COLUMN tenancy.tenant.schema_name IS 'the main schema; further ones are in tenancy.tenant_schema';
COMMENT ON COLUMN tenancy.tenant.role_name IS 'the role that sessions of the tenant become';
COMMENT ON COLUMN tenancy.tenant.owner_name IS 'the owner of the tenant''s objects; the role itself when owns_ddl';
COMMENT ON COLUMN tenancy.tenant.configuration IS 'what the tenant set itself; tenant_configuration() merges the defaults of the plan under it';
SELECT pg_catalog.pg_extension_config_dump('tenancy.tenant', '');

CREATE TABLE tenancy.tenant_schema (
    tenant_id       uuid NOT NULL,
    schema_name     name NOT NULL,
    label           text NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT tenant_schema_pkey PRIMARY KEY (schema_name),
    CONSTRAINT tenant_schema_label_key UNIQUE (tenant_id, label),
    CONSTRAINT tenant_schema_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.tenant_schema IS
'Which schema belongs to which tenant. The guard follows this table. Kept as long as the schema.';
SELECT pg_catalog.pg_extension_config_dump('tenancy.tenant_schema', '');

CREATE TABLE tenancy.tenant_table (
    relation        regclass NOT NULL,
    registered_at   timestamptz NOT NULL,
    CONSTRAINT tenant_table_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE tenancy.tenant_table IS
'Tables that hold rows of many tenants, told apart by tenant_id and row security. Kept as long as the table.';
SELECT pg_catalog.pg_extension_config_dump('tenancy.tenant_table', '');

/* A change of rows alone tells other backends nothing. */
CREATE FUNCTION tenancy.registry_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_registry_changed'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.registry_changed() IS
'Trigger: makes every backend forget what it remembers of the registry.';
REVOKE ALL ON FUNCTION tenancy.registry_changed() FROM PUBLIC;

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.tenant_schema FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.tenant_schema ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.tenant_table FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.tenant_table ENABLE ALWAYS TRIGGER registry_changed;

