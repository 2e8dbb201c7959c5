/* context: who the tenant is. */

CREATE OR REPLACE FUNCTION @extschema@.current_tenant() RETURNS @extschema@.regtenant
AS 'MODULE_PATHNAME', 'tenancy_current_tenant_id'
LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION @extschema@.current_tenant() IS
'The tenant that this transaction has entered, shown by its slug; null when it has entered none. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.current_tenant() TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.tenant_context() RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_tenant_context'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tenant_context() IS
'The context of this transaction: tenant_id, tenant_slug, tenant_name, plan, schema, role, actor, limits, features, configuration, metadata; null when it has entered no tenant. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.tenant_context() TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.tenant_context_set(
    tenant @extschema@.regtenant, actor text DEFAULT NULL) RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_tenant_context_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_context_set(@extschema@.regtenant, text) IS
'Enters a tenant for the rest of this transaction: its role, its schemas in the search path. tenant: slug or id. actor: who acts, for the record. Result: the id of the tenant. Errors: 42501 without the right, inside a security-definer function, under a SET clause, or when the transaction has entered another tenant; 42704 unknown tenant; 55000 when it is not active or has no role. Rights: members of tenancy_app while the setting tenancy.trusted_entry is on. Side effects: none that outlive the transaction.';
REVOKE ALL ON FUNCTION @extschema@.tenant_context_set(@extschema@.regtenant, text) FROM PUBLIC;
-- A tenant's role may say again what is so; it cannot enter.
GRANT EXECUTE ON FUNCTION @extschema@.tenant_context_set(@extschema@.regtenant, text) TO tenancy_app, tenancy_tenant;

