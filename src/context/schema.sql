/* context: the type regtenant, the current tenant, and who sees which row of the registry. */

CREATE TYPE @extschema@.regtenant;

CREATE FUNCTION @extschema@.regtenant_in(cstring) RETURNS @extschema@.regtenant
AS 'MODULE_PATHNAME', 'tenancy_regtenant_in'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.regtenant_in(cstring) IS
'Input of regtenant: a slug, looked up, or a uuid, taken as it is. Errors: 42704 for a slug that does not exist or that the session may not see.';
GRANT EXECUTE ON FUNCTION @extschema@.regtenant_in(cstring) TO PUBLIC;

CREATE FUNCTION @extschema@.regtenant_out(@extschema@.regtenant) RETURNS cstring
AS 'MODULE_PATHNAME', 'tenancy_regtenant_out'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.regtenant_out(@extschema@.regtenant) IS
'Output of regtenant: the slug, or the uuid where the session may not see the tenant. Never fails.';
GRANT EXECUTE ON FUNCTION @extschema@.regtenant_out(@extschema@.regtenant) TO PUBLIC;

CREATE FUNCTION @extschema@.regtenant_recv(internal) RETURNS @extschema@.regtenant
AS 'MODULE_PATHNAME', 'tenancy_regtenant_recv'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.regtenant_recv(internal) IS 'Binary input of regtenant: that of uuid.';
GRANT EXECUTE ON FUNCTION @extschema@.regtenant_recv(internal) TO PUBLIC;

CREATE FUNCTION @extschema@.regtenant_send(@extschema@.regtenant) RETURNS bytea
AS 'MODULE_PATHNAME', 'tenancy_regtenant_send'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.regtenant_send(@extschema@.regtenant) IS 'Binary output of regtenant: that of uuid.';
GRANT EXECUTE ON FUNCTION @extschema@.regtenant_send(@extschema@.regtenant) TO PUBLIC;

CREATE TYPE @extschema@.regtenant (
    INPUT = @extschema@.regtenant_in,
    OUTPUT = @extschema@.regtenant_out,
    RECEIVE = @extschema@.regtenant_recv,
    SEND = @extschema@.regtenant_send,
    LIKE = pg_catalog.uuid
);
COMMENT ON TYPE @extschema@.regtenant IS
'A tenant, read and shown by its slug: for arguments and display, not for columns.';

CREATE FUNCTION @extschema@.regtenant_from_text(text) RETURNS @extschema@.regtenant
AS 'MODULE_PATHNAME', 'tenancy_regtenant_from_text'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.regtenant_from_text(text) IS
'Cast of text to regtenant: as its input. Errors: 42704.';
GRANT EXECUTE ON FUNCTION @extschema@.regtenant_from_text(text) TO PUBLIC;

CREATE CAST (pg_catalog.uuid AS @extschema@.regtenant) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (@extschema@.regtenant AS pg_catalog.uuid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (pg_catalog.text AS @extschema@.regtenant)
    WITH FUNCTION @extschema@.regtenant_from_text(text) AS IMPLICIT;
CREATE CAST (pg_catalog.varchar AS @extschema@.regtenant)
    WITH FUNCTION @extschema@.regtenant_from_text(text) AS IMPLICIT;

/*
 * STABLE and never IMMUTABLE: a cached plan would serve one tenant's rows to the
 * next.  COST 1: it reads a variable.
 */
CREATE FUNCTION @extschema@.current_tenant_id() RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_current_tenant_id'
LANGUAGE C STRICT STABLE PARALLEL SAFE COST 1;
COMMENT ON FUNCTION @extschema@.current_tenant_id() IS
'The id of the tenant that this transaction has entered; null when it has entered none. Rights: anybody.';
GRANT EXECUTE ON FUNCTION @extschema@.current_tenant_id() TO PUBLIC;

ALTER TABLE tenancy.tenant ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.tenant FOR SELECT TO tenancy_admin, tenancy_app, tenancy_auditor
    USING (true);
CREATE POLICY own ON tenancy.tenant FOR SELECT TO tenancy_tenant
    USING (id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.tenant FROM PUBLIC;
GRANT SELECT ON tenancy.tenant TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

ALTER TABLE tenancy.tenant_schema ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.tenant_schema FOR SELECT TO tenancy_admin, tenancy_app, tenancy_auditor
    USING (true);
CREATE POLICY own ON tenancy.tenant_schema FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.tenant_schema FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_schema TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

REVOKE ALL ON tenancy.tenant_table FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_table TO tenancy_admin, tenancy_auditor;


CREATE TABLE tenancy.tenant_login (
    role_name       name NOT NULL,
    tenant_id       uuid NOT NULL,
    own_catalog     boolean NOT NULL,
    bound_at        timestamptz NOT NULL,
    CONSTRAINT tenant_login_pkey PRIMARY KEY (role_name),
    CONSTRAINT tenant_login_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.tenant_login IS
'Logins whose sessions are in one tenant from their first statement. Kept until tenant_login_unbind().';
COMMENT ON COLUMN tenancy.tenant_login.own_catalog IS 'whether the system catalogs show such a session the objects of its own tenant only';
REVOKE ALL ON tenancy.tenant_login FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_login TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.tenant_login', '');

CREATE TABLE tenancy.ceiling (
    plan            text NOT NULL,
    setting         text NOT NULL,
    value           text NOT NULL,
    shipped         boolean NOT NULL,
    CONSTRAINT ceiling_pkey PRIMARY KEY (plan, setting, shipped)
);
COMMENT ON TABLE tenancy.ceiling IS
'Settings that tenants may lower but not raise, by plan; plan * is every plan without a row of its own. Kept until changed.';
COMMENT ON COLUMN tenancy.ceiling.shipped IS 'came with the extension, and is not dumped; a row beside it that is not goes before it';
REVOKE ALL ON tenancy.ceiling FROM PUBLIC;
GRANT SELECT ON tenancy.ceiling TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.ceiling', 'WHERE NOT shipped');

INSERT INTO tenancy.ceiling (plan, setting, value, shipped) VALUES
    ('*', 'hash_mem_multiplier', '2', true),
    ('*', 'idle_in_transaction_session_timeout', '5min', true),
    ('*', 'lock_timeout', '1min', true),
    ('*', 'log_parameter_max_length_on_error', '0', true),
    ('*', 'maintenance_work_mem', '256MB', true),
    ('*', 'max_parallel_maintenance_workers', '2', true),
    ('*', 'max_parallel_workers_per_gather', '2', true),
    ('*', 'statement_timeout', '30min', true),
    ('*', 'temp_file_limit', '10GB', true),
    ('*', 'work_mem', '64MB', true);

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.tenant FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.tenant ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.tenant_login FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.tenant_login ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.ceiling FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.ceiling ENABLE ALWAYS TRIGGER registry_changed;

CREATE TABLE tenancy.token_key (
    key_id          bigint NOT NULL,
    public_key      bytea NOT NULL,
    state           text NOT NULL,
    valid_from      timestamptz NOT NULL,
    valid_until     timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    revoked_at      timestamptz,
    CONSTRAINT token_key_pkey PRIMARY KEY (key_id),
    CONSTRAINT token_key_public_key_key UNIQUE (public_key),
    CONSTRAINT token_key_key_id_check CHECK (key_id BETWEEN 0 AND 4294967295),
    CONSTRAINT token_key_public_key_check CHECK (octet_length(public_key) = 32),
    CONSTRAINT token_key_state_check CHECK (state IN ('active', 'revoked')),
    CONSTRAINT token_key_revoked_check CHECK ((state = 'revoked') = (revoked_at IS NOT NULL)),
    CONSTRAINT token_key_valid_check CHECK (valid_until > valid_from)
);
COMMENT ON TABLE tenancy.token_key IS
'Ed25519 public keys whose tokens tenant_enter() takes. Kept for ever, so that a revoked key cannot come back.';
COMMENT ON COLUMN tenancy.token_key.key_id IS 'the first four bytes of the key''s BLAKE2b-256: tokens name their key by it';
REVOKE ALL ON tenancy.token_key FROM PUBLIC;
GRANT SELECT ON tenancy.token_key TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.token_key', '');

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.token_key FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.token_key ENABLE ALWAYS TRIGGER registry_changed;
