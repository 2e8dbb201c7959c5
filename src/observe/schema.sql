/* observe: what monitoring asks for. */

CREATE TABLE tenancy.scrape_target (
    tenant_id       uuid NOT NULL,
    target          text NOT NULL,
    labels          jsonb NOT NULL,
    changed_at      timestamptz NOT NULL,
    CONSTRAINT scrape_target_pkey PRIMARY KEY (tenant_id, target),
    CONSTRAINT scrape_target_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.scrape_target IS
'What Prometheus is to scrape for tenants: the door tells it of those of active tenants (/sd). Kept until scrape_target_remove().';
COMMENT ON COLUMN tenancy.scrape_target.target IS 'host:port';
COMMENT ON COLUMN tenancy.scrape_target.labels IS 'names and texts; "tenant", the slug, is added';
REVOKE ALL ON tenancy.scrape_target FROM PUBLIC;
GRANT SELECT ON tenancy.scrape_target TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.scrape_target', '');

