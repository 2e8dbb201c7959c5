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
'The context of this transaction: tenant_id, tenant_slug, tenant_name, plan, schema, role, actor, limits, features, configuration, metadata, and what the token says: read_only, no_ddl, support; null when it has entered no tenant. Rights: anybody.';
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

CREATE OR REPLACE FUNCTION @extschema@.tenant_context_set_owner(
    tenant @extschema@.regtenant, actor text DEFAULT NULL) RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_tenant_context_set_owner'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_context_set_owner(@extschema@.regtenant, text) IS
'Enters a tenant for the rest of this transaction as the owner of its objects: for the migrations of an application, whose triggers and functions can then not become the caller again, as they can after SET ROLE. tenant: slug or id. actor: who acts, for the record. Result: the id of the tenant. Errors: 42501 without the right, or where the transaction is in a context; those of tenant_context_set(). Rights: superusers and members of the owner. Side effects: none that outlive the transaction.';
REVOKE ALL ON FUNCTION @extschema@.tenant_context_set_owner(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_context_set_owner(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_enter(token text) RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_tenant_enter'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_enter(text) IS
'Enters the tenant of a signed token for the rest of this transaction, as tenant_context_set() does: for pools where not even SQL injected into the application may enter a tenant. token: t1.payload.signature, signed with Ed25519; doc/token.md. Result: the id of the tenant. Errors: 28000 for every token that is malformed, expired, used before, of an unknown or revoked key or for another database (the server log says which); 42501 and 55000 as tenant_context_set(). Rights: anybody: the token is the right. Side effects: with tenancy.token_replay = once the token is used up, also when the transaction fails.';
GRANT EXECUTE ON FUNCTION @extschema@.tenant_enter(text) TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.tenant_token_audience() RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_tenant_token_audience'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tenant_token_audience() IS
'What a token for this database must name: system_identifier (text, since JSON numbers lose digits) and database (its oid). Rights: tenancy_app and tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_token_audience() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_token_audience() TO tenancy_app, tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_token_key_add(
    public_key bytea, valid_from timestamptz DEFAULT now(), valid_until timestamptz DEFAULT 'infinity')
RETURNS tenancy.token_key
AS 'MODULE_PATHNAME', 'tenancy_tenant_token_key_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_token_key_add(bytea, timestamptz, timestamptz) IS
'Lets tokens enter that the owner of a key has signed; again for the same key, changes how long it is valid. public_key: Ed25519, the raw 32 bytes. valid_from, valid_until: when its tokens are taken. Result: the row, with the key_id that tokens name. Errors: 22023 for what is no such key, or no time; 55000 for a revoked key. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_token_key_add(bytea, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_token_key_add(bytea, timestamptz, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_token_key_revoke(key_id bigint) RETURNS tenancy.token_key
AS 'MODULE_PATHNAME', 'tenancy_tenant_token_key_revoke'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_token_key_revoke(bigint) IS
'Takes no more tokens of a key, for ever; again changes nothing. Transactions that have entered go on. key_id: of tenancy.token_key. Result: the row. Errors: 42704 unknown key. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_token_key_revoke(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_token_key_revoke(bigint) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_login_bind(
    role regrole, tenant @extschema@.regtenant, own_catalog boolean DEFAULT false)
RETURNS tenancy.tenant_login
AS 'MODULE_PATHNAME', 'tenancy_tenant_login_bind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_login_bind(regrole, @extschema@.regtenant, boolean) IS
'Binds a login to a tenant: its sessions in this database are in that tenant from their first statement, in autocommit and in every transaction, and can be in no other. role: a role with LOGIN, without attributes and without memberships. tenant: slug or id. own_catalog: true shows such sessions the objects of their own tenant only in pg_class and its kin, under whatever name; for applications that look objects up by bare names. Bind again after tenant_schema_add(), for the search path. Result: the binding. Errors: 22023 no login; 42501 for a role with rights that no tenant may have; 42704 unknown role or tenant; 55000 when bound to another tenant or the tenant is not active; 55006 for the login of this session. Rights: tenancy_admin. Side effects: the login becomes NOINHERIT and a member of the tenant''s role; its settings role and search_path in this database are set.';
REVOKE ALL ON FUNCTION @extschema@.tenant_login_bind(regrole, @extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_login_bind(regrole, @extschema@.regtenant, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_login_unbind(role regrole)
RETURNS tenancy.tenant_login
AS 'MODULE_PATHNAME', 'tenancy_tenant_login_unbind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_login_unbind(regrole) IS
'Undoes tenant_login_bind(). Sessions that are open lose the tenant and with it all access. role: the login. Result: the binding that was. Errors: 42704 when it is not bound. Rights: tenancy_admin. Side effects: the login is no member of the tenant''s role any more; its settings are reset.';
REVOKE ALL ON FUNCTION @extschema@.tenant_login_unbind(regrole) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_login_unbind(regrole) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.ceiling_set(
    setting text, value text, plan text DEFAULT NULL) RETURNS tenancy.ceiling
AS 'MODULE_PATHNAME', 'tenancy_ceiling_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.ceiling_set(text, text, text) IS
'Says how high tenants may set a setting: a higher value is lowered on entry, and refused later. setting: one of those that have a ceiling. value: as for SET, with its unit; the setting''s own word for no limit (0 or -1) lifts the ceiling. plan: the plan whose tenants it is for; null is every plan without one of its own. Result: the row. Errors: 22023 for a setting without ceiling or an invalid value; 42704 unknown plan. Rights: tenancy_admin. Side effects: holds from the next transaction of each tenant, and for bound logins from their next statement.';
REVOKE ALL ON FUNCTION @extschema@.ceiling_set(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.ceiling_set(text, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.is_own_namespace(namespace oid) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_is_own_namespace'
LANGUAGE C STRICT STABLE PARALLEL SAFE LEAKPROOF COST 1;
COMMENT ON FUNCTION tenancy.is_own_namespace(oid) IS
'Whether a schema is the current tenant''s, the system''s, or one that is no tenant''s and that the session may use: what sessions with own_catalog see in the system catalogs. namespace: its oid. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.is_own_namespace(oid) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.is_own_relation(relation oid) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_is_own_relation'
LANGUAGE C STRICT STABLE PARALLEL SAFE LEAKPROOF COST 1;
COMMENT ON FUNCTION tenancy.is_own_relation(oid) IS
'The same for the schema of a relation: tenancy.is_own_namespace(). relation: its oid. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.is_own_relation(oid) TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.connection_check(terminate boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_connection_check'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.connection_check(boolean) IS
'Whether this connection can be given to another client. Clean is a connection without a tenant, temporary relations, statements prepared by SQL, cursors WITH HOLD, LISTEN, session-level advisory locks, and settings that were SET but for those that poolers follow themselves. terminate: true ends the session that is not clean, as a pooler needs it that only notices a lost connection: server_check_query = SELECT connection_check(true) with server_check_delay = 0 for PgBouncer. Result: true. Errors: 55000 naming the first leftover. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.connection_check(boolean) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_setval(regclass, bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_setval'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.own_setval(regclass, bigint) IS
'setval() for the tenant''s own sequences: what takes its place in a tenant session. Arguments and result: those of setval(). Errors: 42501 for another sequence. Rights: those of setval().';
GRANT EXECUTE ON FUNCTION tenancy.own_setval(regclass, bigint) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_setval_called(regclass, bigint, boolean) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_setval'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.own_setval_called(regclass, bigint, boolean) IS
'setval() for the tenant''s own sequences: what takes its place in a tenant session. Arguments and result: those of setval(). Errors: 42501 for another sequence. Rights: those of setval().';
GRANT EXECUTE ON FUNCTION tenancy.own_setval_called(regclass, bigint, boolean) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_relation_size(regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_relation_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.own_relation_size(regclass) IS
'pg_relation_size() for the tenant''s own relations: what takes its place in a tenant session. Arguments and result: those of pg_relation_size(); null for other relations. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.own_relation_size(regclass) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_fork_size(regclass, text) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_relation_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.own_fork_size(regclass, text) IS
'pg_relation_size() for the tenant''s own relations: what takes its place in a tenant session. Arguments and result: those of pg_relation_size(); null for other relations. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.own_fork_size(regclass, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_table_size(regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_table_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.own_table_size(regclass) IS
'pg_table_size() for the tenant''s own relations: what takes its place in a tenant session. Arguments and result: those of pg_table_size(); null for other relations. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.own_table_size(regclass) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_indexes_size(regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_indexes_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.own_indexes_size(regclass) IS
'pg_indexes_size() for the tenant''s own relations: what takes its place in a tenant session. Arguments and result: those of pg_indexes_size(); null for other relations. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.own_indexes_size(regclass) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.own_total_relation_size(regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_own_total_relation_size'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.own_total_relation_size(regclass) IS
'pg_total_relation_size() for the tenant''s own relations: what takes its place in a tenant session. Arguments and result: those of pg_total_relation_size(); null for other relations. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.own_total_relation_size(regclass) TO PUBLIC;
