/* meter: what statements used. */

CREATE TABLE tenancy.usage_hour (
    tenant_id           uuid NOT NULL,
    hour                timestamptz NOT NULL,
    calls               bigint NOT NULL GENERATED ALWAYS AS
                            (selects + inserts + updates + deletes + merges + utilities) STORED,
    selects             bigint NOT NULL DEFAULT 0,
    inserts             bigint NOT NULL DEFAULT 0,
    updates             bigint NOT NULL DEFAULT 0,
    deletes             bigint NOT NULL DEFAULT 0,
    merges              bigint NOT NULL DEFAULT 0,
    utilities           bigint NOT NULL DEFAULT 0,
    rows                bigint NOT NULL DEFAULT 0,
    elapsed_us          bigint NOT NULL DEFAULT 0,
    cpu_us              bigint NOT NULL DEFAULT 0,
    blocks_hit          bigint NOT NULL DEFAULT 0,
    blocks_read         bigint NOT NULL DEFAULT 0,
    blocks_dirtied      bigint NOT NULL DEFAULT 0,
    blocks_written      bigint NOT NULL DEFAULT 0,
    local_blocks_read   bigint NOT NULL DEFAULT 0,
    local_blocks_written bigint NOT NULL DEFAULT 0,
    temp_blocks_read    bigint NOT NULL DEFAULT 0,
    temp_blocks_written bigint NOT NULL DEFAULT 0,
    wal_records         bigint NOT NULL DEFAULT 0,
    wal_bytes           bigint NOT NULL DEFAULT 0,
    commits             bigint NOT NULL DEFAULT 0,
    rollbacks           bigint NOT NULL DEFAULT 0,
    planning_us         bigint NOT NULL DEFAULT 0,
    io_us               bigint NOT NULL DEFAULT 0,
    storage_bytes       bigint,
    CONSTRAINT usage_hour_pkey PRIMARY KEY (tenant_id, hour)
);
COMMENT ON TABLE tenancy.usage_hour IS
'What statements used, per tenant and hour of the flush; the nil uuid stands for work of no tenant. Kept for ever.';
COMMENT ON COLUMN tenancy.usage_hour.storage_bytes IS 'the most that was measured in the hour; null when it was not';
ALTER TABLE tenancy.usage_hour ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_hour FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_hour FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_hour FROM PUBLIC;
GRANT SELECT ON tenancy.usage_hour TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_hour', '');

CREATE TABLE tenancy.storage_measurement (
    tenant_id       uuid NOT NULL,
    bytes           bigint NOT NULL,
    measured_at     timestamptz NOT NULL,
    CONSTRAINT storage_measurement_pkey PRIMARY KEY (tenant_id)
);
COMMENT ON TABLE tenancy.storage_measurement IS
'The last measurement of each tenant''s storage, one row a tenant: whose turn it is.';
REVOKE ALL ON tenancy.storage_measurement FROM PUBLIC;
GRANT SELECT ON tenancy.storage_measurement TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.storage_measurement', '');

