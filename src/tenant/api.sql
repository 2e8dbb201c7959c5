/* tenant: life, configuration, templates, shared tables. */

CREATE OR REPLACE FUNCTION @extschema@.tenant_create(
    slug text, name text DEFAULT NULL, plan text DEFAULT NULL,
    isolation text DEFAULT 'schema', template text DEFAULT 'default', domain text DEFAULT NULL,
    configuration jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}', owns_ddl boolean DEFAULT false,
    starts_at timestamptz DEFAULT now())
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_create(text, text, text, text, text, text, jsonb, jsonb, boolean, timestamptz) IS
'Creates a tenant: its row, its role and owner, its schema with the structure of a template, and with a plan its subscription. slug: a DNS label, unique, not reserved. name: shown to people; the slug by default. plan: id of a plan, or null. isolation: "schema" or "pool". template: name of a template; "default" is empty until one of that name exists. domain: a host name that it claims, as by tenant_domain_add(), or null. configuration: see tenant_configure(). metadata: any JSON object. owns_ddl: whether the tenants role owns its schemas and may change what is in them. starts_at: start of the subscription. Result: the row of the tenant. Errors: 22023 bad slug, isolation, domain or JSON; 42939 reserved slug or domain; 42704 unknown plan or template; 23505 slug taken; 53400 the plan has no custom domain; 42501 within a tenant context. Rights: tenancy_admin. Side effects: roles t_… and o_…, schema t_….';
REVOKE ALL ON FUNCTION @extschema@.tenant_create(text, text, text, text, text, text, jsonb, jsonb, boolean, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_create(text, text, text, text, text, text, jsonb, jsonb, boolean, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_get(
    tenant @extschema@.regtenant)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_get'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tenant_get(@extschema@.regtenant) IS
'The row of a tenant. tenant: slug or id. Result: tenancy.tenant. Errors: 42704 unknown tenant, or not the sessions own within a context. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.tenant_get(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_get(@extschema@.regtenant) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.tenant_rename(
    tenant @extschema@.regtenant, slug text DEFAULT NULL, name text DEFAULT NULL)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_rename'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_rename(@extschema@.regtenant, text, text) IS
'Changes the slug or the name of a tenant; its id, schema and role stay. tenant: slug or id. slug: the new one, or null to keep it. name: the new one, or null to keep it. Result: the row. Errors: 22023, 42939 bad slug; 23505 slug taken; 42704 unknown tenant. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_rename(@extschema@.regtenant, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_rename(@extschema@.regtenant, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_schema_add(
    tenant @extschema@.regtenant, name text)
RETURNS tenancy.tenant_schema
AS 'MODULE_PATHNAME', 'tenancy_tenant_schema_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_schema_add(@extschema@.regtenant, text) IS
'Gives a tenant a further, empty schema, which follows its main one in the search path. tenant: slug or id. name: lower-case letters, digits and underscores; the schema is called t_…_name. Result: the row of the schema. Errors: 22023 bad name; 42P06 the tenant has one of that name; 55000 a tenant of the pool. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_schema_add(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_schema_add(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_suspend(
    tenant @extschema@.regtenant, reason text)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_suspend'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_suspend(@extschema@.regtenant, text) IS
'Suspends an active tenant: until tenant_resume() its sessions read and delete, and nothing else (55000); with tenancy.suspended_access = none it cannot be entered. tenant: slug or id. reason: for the record. Result: the row. Errors: 55000 in another state; 42704 unknown tenant. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_suspend(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_suspend(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_resume(
    tenant @extschema@.regtenant)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_resume(@extschema@.regtenant) IS
'Makes a suspended tenant active again. tenant: slug or id. Result: the row. Errors: 55000 in another state; 42704 unknown tenant. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_resume(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_resume(@extschema@.regtenant) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_configure(
    tenant @extschema@.regtenant, configuration jsonb)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_tenant_configure'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_configure(@extschema@.regtenant, jsonb) IS
'Changes the configuration of a tenant by a JSON merge patch (RFC 7396): members given replace, null removes. tenant: slug or id. configuration: an object of branding, authentication, features, feature_limits, integrations, security, compliance. Result: the configuration as it is then, without the defaults of the plan. Errors: 22023 naming the path of the first fault; 42704 unknown tenant. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_configure(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_configure(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_configuration(
    tenant @extschema@.regtenant)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_tenant_configuration'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tenant_configuration(@extschema@.regtenant) IS
'The configuration that holds for a tenant: its own over the features and limits of its plan. tenant: slug or id. Result: an object. Errors: 42704. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.tenant_configuration(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_configuration(@extschema@.regtenant) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.tenant_health(
    tenant @extschema@.regtenant,
    OUT check_name text, OUT status text, OUT value text, OUT detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_tenant_health'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tenant_health(@extschema@.regtenant) IS
'Looks whether everything is there that a tenant needs: state, role, schemas, ownership, storage. tenant: slug or id. Result: one row a check; status is ok, warning or critical, detail says what is wrong. Errors: 42704. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.tenant_health(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_health(@extschema@.regtenant) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.template_create(
    name text, schema regnamespace)
RETURNS tenancy.template
AS 'MODULE_PATHNAME', 'tenancy_template_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.template_create(text, regnamespace) IS
'Captures the structure of a schema as a template for new tenants: all that pg_dump --schema-only would carry. name: of the template. schema: the schema; the caller must have USAGE on it. Result: the row of the template. Errors: 23505 a template of that name exists; 0A000 the schema holds what cannot be cloned, which is named; 22023 bad name, or a schema of the system; 42501. Rights: tenancy_admin. Side effects: the schema is locked against changes of its name for the moment.';
REVOKE ALL ON FUNCTION @extschema@.template_create(text, regnamespace) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.template_create(text, regnamespace) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.template_refresh(
    name text)
RETURNS tenancy.template
AS 'MODULE_PATHNAME', 'tenancy_template_refresh'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.template_refresh(text) IS
'Captures the schema of a template again; tenants that exist stay as they are. name: of the template. Result: its row. Errors: 42704 unknown template; else as template_create(). Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.template_refresh(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.template_refresh(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.template_is_stale(
    name text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_template_is_stale'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.template_is_stale(text) IS
'Whether the schema of a template has changed since it was captured. name: of the template. Result: true when template_refresh() would change it. Errors: 42704. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.template_is_stale(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.template_is_stale(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.template_drop(
    name text)
RETURNS tenancy.template
AS 'MODULE_PATHNAME', 'tenancy_template_drop'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.template_drop(text) IS
'Forgets a template; its schema stays. name: of the template. Result: its former row. Errors: 42704 unknown template; 2BP01 tenants were made from it. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.template_drop(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.template_drop(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_table_register(
    relation regclass)
RETURNS tenancy.tenant_table
AS 'MODULE_PATHNAME', 'tenancy_tenant_table_register'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_table_register(regclass) IS
'Makes a table, with its partitions, hold rows of many tenants that see their own alone: tenant_id gets NOT NULL and the current tenant as default, row security is enabled and forced with a restrictive policy, and tenancy_tenant may read and write. relation: a table with a column tenant_id uuid. Result: its row in the registry. Errors: 42703 no column tenant_id; 42804 of another type; 42P16 a key or foreign key without tenant_id; 42809 not a table, or a tenants; 42501 not the owner. Rights: tenancy_admin, and owner of the table. Side effects: takes an exclusive lock.';
REVOKE ALL ON FUNCTION @extschema@.tenant_table_register(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_table_register(regclass) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_table_unregister(
    relation regclass)
RETURNS tenancy.tenant_table
AS 'MODULE_PATHNAME', 'tenancy_tenant_table_unregister'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_table_unregister(regclass) IS
'Takes back tenant_table_register(): policies, default, grants; row security stays enabled, so that nobody but the owner sees rows. relation: a registered table. Result: its former row. Errors: 42704 not registered; 42501 not the owner. Rights: tenancy_admin, and owner of the table. Side effects: takes an exclusive lock.';
REVOKE ALL ON FUNCTION @extschema@.tenant_table_unregister(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_table_unregister(regclass) TO tenancy_admin;


CREATE OR REPLACE FUNCTION @extschema@.isolation_lint() RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_isolation_lint'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.isolation_lint() IS
'Looks through the whole database for what would let one tenant reach another, and prints it as TAP (Test Anything Protocol): a line for each thing that must hold, and below it, as comments, each object where it does not with the cure. For a test run of your own: psql -XAtc "SELECT isolation_lint()" > isolation.tap; prove -e cat isolation.tap. Rights: tenancy_admin and tenancy_auditor. Changes nothing.';
REVOKE ALL ON FUNCTION @extschema@.isolation_lint() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_lint() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.isolation_enforce(
    tenant @extschema@.regtenant DEFAULT NULL, dry_run boolean DEFAULT false)
RETURNS TABLE (object text, finding text, action text)
AS 'MODULE_PATHNAME', 'tenancy_isolation_enforce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.isolation_enforce(@extschema@.regtenant, boolean) IS
'Repairs what isolation_lint() finds. tenant: slug or id; null for all tenants and what belongs to none. dry_run: true says what would be done. Result: a row per fault, with what was done, would be done, failed, or is left to an operator with the cure. Rights of tenants and strangers are only ever taken, row security only ever added. Errors: 42704 unknown tenant. Rights: tenancy_admin. Side effects: exclusive locks on tables that are repaired.';
REVOKE ALL ON FUNCTION @extschema@.isolation_enforce(@extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.isolation_enforce(@extschema@.regtenant, boolean) TO tenancy_admin;
