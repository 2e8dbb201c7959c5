/* domain: host names of tenants. */

CREATE TABLE tenancy.domain (
    tenant_id       uuid NOT NULL,
    domain          text NOT NULL,
    state           text NOT NULL,
    record_name     text NOT NULL,
    record_value    text NOT NULL,
    created_at      timestamptz NOT NULL,
    verified_at     timestamptz,
    checked_at      timestamptz,
    CONSTRAINT domain_pkey PRIMARY KEY (tenant_id, domain),
    CONSTRAINT domain_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT domain_state_check CHECK (state IN ('pending', 'verified', 'lost')),
    CONSTRAINT domain_verified_check CHECK (state = 'pending' OR verified_at IS NOT NULL)
);
COMMENT ON TABLE tenancy.domain IS
'Host names that tenants claim. Any number of tenants may claim one, so that a claim keeps nobody from proving what is his; one of them has verified it. Kept until tenant_domain_remove().';
COMMENT ON COLUMN tenancy.domain.domain IS 'in lower case, without a dot at the end';
COMMENT ON COLUMN tenancy.domain.state IS 'lost: another tenant has proven the domain, and the record of this one was gone';
COMMENT ON COLUMN tenancy.domain.record_name IS 'where in the Domain Name System the proof is looked for, as a TXT record';
COMMENT ON COLUMN tenancy.domain.record_value IS 'what the record must hold: random, anew for each claim, so that a record that was left behind proves nothing later; no secret, for only who controls the domain can publish it';
COMMENT ON COLUMN tenancy.domain.checked_at IS 'when the record was last seen';
CREATE UNIQUE INDEX domain_verified_idx ON tenancy.domain (domain) WHERE state = 'verified';
CREATE INDEX domain_domain_idx ON tenancy.domain (domain);
ALTER TABLE tenancy.domain ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.domain FOR SELECT TO tenancy_admin, tenancy_app, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.domain FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.domain FROM PUBLIC;
GRANT SELECT ON tenancy.domain TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.domain', '');

/* Claims count for the quota custom_domains. */
CREATE TRIGGER quota_count_insert AFTER INSERT ON tenancy.domain REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count('custom_domains');
CREATE TRIGGER quota_count_delete AFTER DELETE ON tenancy.domain REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count('custom_domains');
CREATE TRIGGER quota_count_truncate BEFORE TRUNCATE ON tenancy.domain
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count('custom_domains');
CREATE TRIGGER quota_count_move BEFORE UPDATE ON tenancy.domain
    FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id) EXECUTE FUNCTION tenancy.quota_count('custom_domains');
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER quota_count_insert;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER quota_count_delete;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER quota_count_truncate;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER quota_count_move;

/* What is in shared memory follows the rows. */
CREATE FUNCTION tenancy.domain_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_domain_changed'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.domain_changed() IS
'Trigger: has the names that changed looked up again when the transaction commits. Errors: 0A000 when the transaction is to be prepared.';
REVOKE ALL ON FUNCTION tenancy.domain_changed() FROM PUBLIC;

/* A claim that is not proven stands for nothing: that tenants make and remove them costs nobody else. */
CREATE TRIGGER domain_changed_insert AFTER INSERT ON tenancy.domain
    FOR EACH ROW WHEN (NEW.state = 'verified') EXECUTE FUNCTION tenancy.domain_changed();
CREATE TRIGGER domain_changed_delete AFTER DELETE ON tenancy.domain
    FOR EACH ROW WHEN (OLD.state = 'verified') EXECUTE FUNCTION tenancy.domain_changed();
CREATE TRIGGER domain_changed_state AFTER UPDATE ON tenancy.domain
    FOR EACH ROW WHEN ((OLD.state = 'verified' OR NEW.state = 'verified') AND (OLD.state <> NEW.state
        OR OLD.domain <> NEW.domain OR OLD.tenant_id <> NEW.tenant_id))
    EXECUTE FUNCTION tenancy.domain_changed();
CREATE TRIGGER domain_changed_all AFTER TRUNCATE ON tenancy.domain
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.domain_changed();
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER domain_changed_insert;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER domain_changed_delete;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER domain_changed_state;
ALTER TABLE tenancy.domain ENABLE ALWAYS TRIGGER domain_changed_all;

CREATE TRIGGER domain_changed AFTER INSERT OR DELETE ON tenancy.tenant
    FOR EACH ROW EXECUTE FUNCTION tenancy.domain_changed();
CREATE TRIGGER domain_changed_state AFTER UPDATE ON tenancy.tenant
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.slug IS DISTINCT FROM NEW.slug)
    EXECUTE FUNCTION tenancy.domain_changed();
CREATE TRIGGER domain_changed_all AFTER TRUNCATE ON tenancy.tenant
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.domain_changed();
ALTER TABLE tenancy.tenant ENABLE ALWAYS TRIGGER domain_changed;
ALTER TABLE tenancy.tenant ENABLE ALWAYS TRIGGER domain_changed_state;
ALTER TABLE tenancy.tenant ENABLE ALWAYS TRIGGER domain_changed_all;

