/* meter: what statements used. */

/*
 * Counters by time.  Their parts are made by partition.c and are no members of the extension:
 * pg_dump writes them as it writes any table, rows included.  Each part has a primary key, of
 * tenant_id and the time; the whole has none, with which the parts could not be restored.
 */
CREATE TABLE tenancy.usage_minute (
    tenant_id            uuid NOT NULL,
    minute               timestamptz NOT NULL,
    calls                bigint NOT NULL GENERATED ALWAYS AS
                             (selects + inserts + updates + deletes + merges + utilities) STORED,
    selects              bigint NOT NULL DEFAULT 0,
    inserts              bigint NOT NULL DEFAULT 0,
    updates              bigint NOT NULL DEFAULT 0,
    deletes              bigint NOT NULL DEFAULT 0,
    merges               bigint NOT NULL DEFAULT 0,
    utilities            bigint NOT NULL DEFAULT 0,
    rows                 bigint NOT NULL DEFAULT 0,
    rows_written         bigint NOT NULL DEFAULT 0,
    elapsed_us           bigint NOT NULL DEFAULT 0,
    planning_us          bigint NOT NULL DEFAULT 0,
    cpu_us               bigint NOT NULL DEFAULT 0,
    commits              bigint NOT NULL DEFAULT 0,
    rollbacks            bigint NOT NULL DEFAULT 0,
    bytes_received       bigint NOT NULL DEFAULT 0,
    bytes_sent           bigint NOT NULL DEFAULT 0,
    jit_functions        bigint NOT NULL DEFAULT 0,
    jit_us               bigint NOT NULL DEFAULT 0,
    blocks_hit           bigint NOT NULL DEFAULT 0,
    blocks_read          bigint NOT NULL DEFAULT 0,
    blocks_dirtied       bigint NOT NULL DEFAULT 0,
    blocks_written       bigint NOT NULL DEFAULT 0,
    local_blocks_hit     bigint NOT NULL DEFAULT 0,
    local_blocks_read    bigint NOT NULL DEFAULT 0,
    local_blocks_dirtied bigint NOT NULL DEFAULT 0,
    local_blocks_written bigint NOT NULL DEFAULT 0,
    temp_blocks_read     bigint NOT NULL DEFAULT 0,
    temp_blocks_written  bigint NOT NULL DEFAULT 0,
    io_us                bigint NOT NULL DEFAULT 0,
    temp_io_us           bigint NOT NULL DEFAULT 0,
    wal_records          bigint NOT NULL DEFAULT 0,
    wal_pages            bigint NOT NULL DEFAULT 0,
    wal_bytes            bigint NOT NULL DEFAULT 0,
    connections          bigint NOT NULL DEFAULT 0,
    connection_us        bigint NOT NULL DEFAULT 0,
    lock_waits           bigint NOT NULL DEFAULT 0,
    lock_wait_us         bigint NOT NULL DEFAULT 0,
    memory_bytes         bigint NOT NULL DEFAULT 0
) PARTITION BY RANGE (minute);
COMMENT ON TABLE tenancy.usage_minute IS
'What statements used, per tenant and minute of the flush; the nil uuid stands for work of no tenant. Kept for tenancy.usage_minute_retention, by the kind metering.partitions.';
ALTER TABLE tenancy.usage_minute ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_minute FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_minute FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_minute FROM PUBLIC;
GRANT SELECT ON tenancy.usage_minute TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE TABLE tenancy.usage_hour (
    tenant_id            uuid NOT NULL,
    hour                 timestamptz NOT NULL,
    calls                bigint NOT NULL GENERATED ALWAYS AS
                             (selects + inserts + updates + deletes + merges + utilities) STORED,
    selects              bigint NOT NULL DEFAULT 0,
    inserts              bigint NOT NULL DEFAULT 0,
    updates              bigint NOT NULL DEFAULT 0,
    deletes              bigint NOT NULL DEFAULT 0,
    merges               bigint NOT NULL DEFAULT 0,
    utilities            bigint NOT NULL DEFAULT 0,
    rows                 bigint NOT NULL DEFAULT 0,
    rows_written         bigint NOT NULL DEFAULT 0,
    elapsed_us           bigint NOT NULL DEFAULT 0,
    planning_us          bigint NOT NULL DEFAULT 0,
    cpu_us               bigint NOT NULL DEFAULT 0,
    commits              bigint NOT NULL DEFAULT 0,
    rollbacks            bigint NOT NULL DEFAULT 0,
    bytes_received       bigint NOT NULL DEFAULT 0,
    bytes_sent           bigint NOT NULL DEFAULT 0,
    jit_functions        bigint NOT NULL DEFAULT 0,
    jit_us               bigint NOT NULL DEFAULT 0,
    blocks_hit           bigint NOT NULL DEFAULT 0,
    blocks_read          bigint NOT NULL DEFAULT 0,
    blocks_dirtied       bigint NOT NULL DEFAULT 0,
    blocks_written       bigint NOT NULL DEFAULT 0,
    local_blocks_hit     bigint NOT NULL DEFAULT 0,
    local_blocks_read    bigint NOT NULL DEFAULT 0,
    local_blocks_dirtied bigint NOT NULL DEFAULT 0,
    local_blocks_written bigint NOT NULL DEFAULT 0,
    temp_blocks_read     bigint NOT NULL DEFAULT 0,
    temp_blocks_written  bigint NOT NULL DEFAULT 0,
    io_us                bigint NOT NULL DEFAULT 0,
    temp_io_us           bigint NOT NULL DEFAULT 0,
    wal_records          bigint NOT NULL DEFAULT 0,
    wal_pages            bigint NOT NULL DEFAULT 0,
    wal_bytes            bigint NOT NULL DEFAULT 0,
    connections          bigint NOT NULL DEFAULT 0,
    connection_us        bigint NOT NULL DEFAULT 0,
    lock_waits           bigint NOT NULL DEFAULT 0,
    lock_wait_us         bigint NOT NULL DEFAULT 0,
    memory_bytes         bigint NOT NULL DEFAULT 0,
    storage_bytes        bigint
) PARTITION BY RANGE (hour);
COMMENT ON TABLE tenancy.usage_hour IS
'What statements used, per tenant and hour of the flush; the nil uuid stands for work of no tenant. Kept for tenancy.usage_hour_retention, by the kind metering.partitions.';
COMMENT ON COLUMN tenancy.usage_hour.rows_written IS 'of the rows: those that INSERT, UPDATE, DELETE, MERGE, COPY FROM and CREATE TABLE AS wrote';
COMMENT ON COLUMN tenancy.usage_hour.elapsed_us IS 'in the executor and in utility statements';
COMMENT ON COLUMN tenancy.usage_hour.cpu_us IS 'of the servers processes, to the end of the transaction';
COMMENT ON COLUMN tenancy.usage_hour.bytes_received IS 'texts of queries, values of parameters, data of COPY FROM STDIN: what the server shows of it';
COMMENT ON COLUMN tenancy.usage_hour.bytes_sent IS 'messages of the protocol, before TLS';
COMMENT ON COLUMN tenancy.usage_hour.jit_us IS 'compiling; not of statements that failed';
COMMENT ON COLUMN tenancy.usage_hour.io_us IS 'reading and writing blocks of tables; 0 where track_io_timing is off';
COMMENT ON COLUMN tenancy.usage_hour.temp_io_us IS 'reading and writing temporary files; 0 where track_io_timing is off';
COMMENT ON COLUMN tenancy.usage_hour.wal_pages IS 'full images of pages in the write-ahead log';
COMMENT ON COLUMN tenancy.usage_hour.wal_bytes IS 'write-ahead log that the processes inserted, the commit included';
COMMENT ON COLUMN tenancy.usage_hour.connections IS 'sessions of logins that are bound to the tenant that ran a statement';
COMMENT ON COLUMN tenancy.usage_hour.connection_us IS 'how long they lasted';
COMMENT ON COLUMN tenancy.usage_hour.lock_waits IS 'samples, one a second or flush interval, that found a session waiting for a lock';
COMMENT ON COLUMN tenancy.usage_hour.lock_wait_us IS 'the time that these samples stand for';
COMMENT ON COLUMN tenancy.usage_hour.memory_bytes IS 'the most that a statement of at least a millisecond had allocated in the executor';
COMMENT ON COLUMN tenancy.usage_hour.storage_bytes IS 'the most that was measured in the hour; null when it was not';
ALTER TABLE tenancy.usage_hour ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_hour FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_hour FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_hour FROM PUBLIC;
GRANT SELECT ON tenancy.usage_hour TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE TABLE tenancy.latency_hour (
    tenant_id       uuid NOT NULL,
    hour            timestamptz NOT NULL,
    statements      bigint NOT NULL,
    histogram       bigint[] NOT NULL
) PARTITION BY RANGE (hour);
COMMENT ON TABLE tenancy.latency_hour IS
'How long statements took, per tenant and hour of the flush; the nil uuid stands for work of no tenant. Kept for tenancy.latency_hour_retention, by the kind metering.partitions.';
COMMENT ON COLUMN tenancy.latency_hour.histogram IS
'pairs of a bucket and a count, in the order of buckets: bucket i has what took more than g^(i-1) and at most g^i microseconds, g = 1.02 / 0.98; tenancy.latency_merge() adds two';
ALTER TABLE tenancy.latency_hour ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.latency_hour FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.latency_hour FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.latency_hour FROM PUBLIC;
GRANT SELECT ON tenancy.latency_hour TO tenancy_admin, tenancy_auditor, tenancy_tenant;

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

CREATE TABLE tenancy.tenant_relation_storage (
    tenant_id       uuid NOT NULL,
    schema_name     name NOT NULL,
    relation_name   name NOT NULL,
    is_shared       boolean NOT NULL,
    heap_bytes      bigint NOT NULL,
    index_bytes     bigint NOT NULL,
    toast_bytes     bigint NOT NULL,
    total_bytes     bigint NOT NULL GENERATED ALWAYS AS (heap_bytes + index_bytes + toast_bytes) STORED,
    measured_at     timestamptz NOT NULL,
    CONSTRAINT tenant_relation_storage_pkey PRIMARY KEY (tenant_id, schema_name, relation_name)
) WITH (fillfactor = 70);
COMMENT ON TABLE tenancy.tenant_relation_storage IS
'The last measurement of each table and materialized view of each tenant, and its part of each shared table. Kept as long as the relation and the tenant''s data. Not dumped.';
COMMENT ON COLUMN tenancy.tenant_relation_storage.is_shared IS 'estimated: its part of a shared table, by the widths of rows in a sample';
COMMENT ON COLUMN tenancy.tenant_relation_storage.heap_bytes IS 'with free space and visibility maps';
COMMENT ON COLUMN tenancy.tenant_relation_storage.toast_bytes IS 'with its index';
COMMENT ON COLUMN tenancy.tenant_relation_storage.total_bytes IS 'what pg_total_relation_size() says';
CREATE INDEX tenant_relation_storage_shared_idx ON tenancy.tenant_relation_storage (schema_name, relation_name) WHERE is_shared;
ALTER TABLE tenancy.tenant_relation_storage ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.tenant_relation_storage FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.tenant_relation_storage FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.tenant_relation_storage FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_relation_storage TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE TABLE tenancy.shared_table_measurement (
    schema_name     name NOT NULL,
    relation_name   name NOT NULL,
    measured_at     timestamptz,
    skipped_at      timestamptz,
    CONSTRAINT shared_table_measurement_pkey PRIMARY KEY (schema_name, relation_name),
    CONSTRAINT shared_table_measurement_at_check CHECK (measured_at IS NOT NULL OR skipped_at IS NOT NULL)
);
COMMENT ON TABLE tenancy.shared_table_measurement IS
'When each shared table was sampled last: whose turn it is. Kept as long as the table is registered. Not dumped.';
COMMENT ON COLUMN tenancy.shared_table_measurement.measured_at IS 'null when it never was';
COMMENT ON COLUMN tenancy.shared_table_measurement.skipped_at IS 'when it was passed over last, as somebody had locked it or an index of it; null when it has been sampled since';
REVOKE ALL ON tenancy.shared_table_measurement FROM PUBLIC;
GRANT SELECT ON tenancy.shared_table_measurement TO tenancy_admin, tenancy_auditor;
