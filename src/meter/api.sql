/* meter: counting. */

CREATE OR REPLACE FUNCTION @extschema@.usage_flush() RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_usage_flush'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_flush() IS
'Moves statement counters from shared memory to tenancy.usage_minute, usage_hour and latency_hour, as the background worker does. Result: how many tenants had any. Errors: 55000. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_flush() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_flush() TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.storage_measure(
    max_tenants integer DEFAULT 100, budget interval DEFAULT NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_storage_measure'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.storage_measure(integer, interval) IS
'Measures the storage of the tenants that were measured least recently, table by table, and estimates that of tenants without a schema from samples of the shared tables that were sampled least recently. max_tenants: at most this many with a schema. budget: it ends when this time is over, in the middle of the rotation, which the next call goes on with; at least a few tenants and a table have their turn. Null for no limit. Result: how many tenants were, of both. Errors: 22023 bad max_tenants or budget. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.storage_measure(integer, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.storage_measure(integer, interval) TO tenancy_admin;

CREATE OR REPLACE VIEW tenancy.storage_rotation AS
    SELECT 'tenants'::text AS kind, pg_catalog.count(*) AS objects,
           pg_catalog.count(*) FILTER (WHERE m.measured_at IS NULL) AS never_measured,
           pg_catalog.min(m.measured_at) AS oldest, pg_catalog.max(m.measured_at) AS newest,
           pg_catalog.now() - pg_catalog.min(m.measured_at) AS stale_for,
           pg_catalog.count(*) FILTER (WHERE EXISTS (
               SELECT FROM tenancy.tenant_relation_storage r
                WHERE r.tenant_id = t.id AND NOT r.is_shared AND r.measured_at < m.measured_at)) AS skipped
      FROM tenancy.tenant t
      LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id
     WHERE t.schema_name IS NOT NULL AND t.state IN ('active', 'suspended', 'deactivated')
    UNION ALL
    SELECT 'shared tables', pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE m.measured_at IS NULL),
           pg_catalog.min(m.measured_at), pg_catalog.max(m.measured_at),
           pg_catalog.now() - pg_catalog.min(m.measured_at),
           pg_catalog.count(m.skipped_at)
      FROM tenancy.tenant_table t
      JOIN pg_catalog.pg_class c ON c.oid = t.relation::pg_catalog.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN tenancy.shared_table_measurement m
        ON m.schema_name = n.nspname AND m.relation_name = c.relname
     WHERE c.relkind = 'r';
COMMENT ON VIEW tenancy.storage_rotation IS
'How stale the measurements of storage are: of tenants with a schema, and of shared tables; skipped: of how many the last turn passed over a table that somebody had locked, which keeps what was measured before.';
REVOKE ALL ON tenancy.storage_rotation FROM PUBLIC;
GRANT SELECT ON tenancy.storage_rotation TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION tenancy.relation_size_read(
    relation oid, OUT heap_bytes bigint, OUT index_bytes bigint, OUT toast_bytes bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_relation_size_read'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.relation_size_read(oid) IS
'How large a table or materialized view is, in bytes, without waiting. relation: its oid. Result: what pg_total_relation_size() adds up; nulls when somebody has locked it or an index of it for himself, and where there is no such relation. Rights: none but the extension''s own.';
REVOKE ALL ON FUNCTION tenancy.relation_size_read(oid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.tenant_stat_read(
    OUT tenant_id uuid, OUT selects bigint, OUT inserts bigint, OUT updates bigint,
    OUT deletes bigint, OUT merges bigint, OUT utilities bigint, OUT rows bigint,
    OUT rows_written bigint, OUT elapsed_us bigint, OUT planning_us bigint, OUT cpu_us bigint,
    OUT commits bigint, OUT rollbacks bigint, OUT bytes_received bigint, OUT bytes_sent bigint,
    OUT jit_functions bigint, OUT jit_us bigint, OUT blocks_hit bigint, OUT blocks_read bigint,
    OUT blocks_dirtied bigint, OUT blocks_written bigint, OUT local_blocks_hit bigint,
    OUT local_blocks_read bigint, OUT local_blocks_dirtied bigint,
    OUT local_blocks_written bigint, OUT temp_blocks_read bigint, OUT temp_blocks_written bigint,
    OUT io_us bigint, OUT temp_io_us bigint, OUT wal_records bigint, OUT wal_pages bigint,
    OUT wal_bytes bigint, OUT connections bigint, OUT connection_us bigint, OUT lock_waits bigint,
    OUT lock_wait_us bigint, OUT memory_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_tenant_stat_read'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.tenant_stat_read() IS
'The live counters of this database, per tenant, since the server started, or since the tenant had to make room for another. Result: the columns of tenancy.usage_hour; times in microseconds; blocks of the server''s block size; memory_bytes is a maximum. Rights: tenancy_admin, tenancy_auditor, pg_monitor; a tenant in its context is shown its own row alone.';
REVOKE ALL ON FUNCTION tenancy.tenant_stat_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.tenant_stat_read() TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

/* A barrier: no condition of the reader is tried on the slug of a row that it is not shown. */
CREATE OR REPLACE VIEW tenancy.tenant_stat WITH (security_barrier = true) AS
    SELECT s.tenant_id, t.slug,
           s.selects + s.inserts + s.updates + s.deletes + s.merges + s.utilities AS calls,
           s.selects, s.inserts, s.updates, s.deletes, s.merges, s.utilities, s.rows,
           s.rows_written, s.elapsed_us / 1000.0 AS elapsed_ms,
           s.planning_us / 1000.0 AS planning_ms, s.cpu_us / 1000.0 AS cpu_ms, s.commits,
           s.rollbacks, s.bytes_received, s.bytes_sent, s.jit_functions,
           s.jit_us / 1000.0 AS jit_ms, s.blocks_hit, s.blocks_read, s.blocks_dirtied,
           s.blocks_written, s.local_blocks_hit, s.local_blocks_read, s.local_blocks_dirtied,
           s.local_blocks_written, s.temp_blocks_read, s.temp_blocks_written,
           s.io_us / 1000.0 AS io_ms, s.temp_io_us / 1000.0 AS temp_io_ms, s.wal_records,
           s.wal_pages, s.wal_bytes, s.connections, s.connection_us / 1000.0 AS connection_ms,
           s.lock_waits, s.lock_wait_us / 1000.0 AS lock_wait_ms, s.memory_bytes
      FROM tenancy.tenant_stat_read() s
      LEFT JOIN tenancy.tenant t ON t.id = s.tenant_id;
COMMENT ON VIEW tenancy.tenant_stat IS
'Live statement counters per tenant since the server started, those of running sessions included up to their last transaction; slug is null for work of no tenant.';
REVOKE ALL ON tenancy.tenant_stat FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_stat TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

CREATE OR REPLACE FUNCTION tenancy.latency_merge(a bigint[], b bigint[]) RETURNS bigint[]
AS 'MODULE_PATHNAME', 'tenancy_latency_merge'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.latency_merge(bigint[], bigint[]) IS
'Adds two histograms of tenancy.latency_hour: the histogram of all that both have seen. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.latency_merge(bigint[], bigint[]) TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.usage_latency(
    tenant @extschema@.regtenant, from_time timestamptz, to_time timestamptz,
    OUT statements bigint, OUT p50_ms double precision, OUT p95_ms double precision,
    OUT p99_ms double precision)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_usage_latency'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.usage_latency(@extschema@.regtenant, timestamptz, timestamptz) IS
'How long the statements of a tenant took, in the executor, over any number of hours. tenant: slug or id. from_time, to_time: hours (of UTC) that begin between them, the second excluded, as far as they are flushed. Result: how many statements, and quantiles in milliseconds that are off by at most 2 %, null where there were none. Errors: 22023 bad times; 42704 unknown tenant. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.usage_latency(@extschema@.regtenant, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_latency(@extschema@.regtenant, timestamptz, timestamptz) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.usage_partition_maintain(OUT made integer, OUT dropped integer)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_usage_partition_maintain'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_partition_maintain() IS
'Makes the next parts of the tables of counters by time, and drops those that are older than tenancy.usage_minute_retention, usage_hour_retention and latency_hour_retention, as the job metering.partitions does. Result: how many parts were made and dropped; one of a table that is being read is dropped by a later call. Errors: 55000. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_partition_maintain() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_partition_maintain() TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.latency_estimate(us double precision) RETURNS double precision
AS 'MODULE_PATHNAME', 'tenancy_latency_estimate'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.latency_estimate(double precision) IS
'What the histogram of latencies keeps of a duration, in microseconds: off by at most 2 % between 1 us and an hour. Errors: 22003. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.latency_estimate(double precision) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.tenant_latency_read(
    OUT tenant_id uuid, OUT statements bigint, OUT p50_us double precision,
    OUT p95_us double precision, OUT p99_us double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_tenant_latency_read'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.tenant_latency_read() IS
'How long the statements of each tenant took in this hour and the one before, in the executor. Result: quantiles in microseconds, off by at most 2 %. Rights: tenancy_admin, tenancy_auditor, pg_monitor; a tenant in its context is shown its own alone.';
REVOKE ALL ON FUNCTION tenancy.tenant_latency_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.tenant_latency_read() TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

CREATE OR REPLACE VIEW tenancy.tenant_latency WITH (security_barrier = true) AS
    SELECT l.tenant_id, t.slug, l.statements, l.p50_us / 1000.0 AS p50_ms, l.p95_us / 1000.0 AS p95_ms,
           l.p99_us / 1000.0 AS p99_ms
      FROM tenancy.tenant_latency_read() l
      LEFT JOIN tenancy.tenant t ON t.id = l.tenant_id;
COMMENT ON VIEW tenancy.tenant_latency IS
'How long the statements of each tenant took in this hour and the one before: quantiles in milliseconds; slug is null for work of no tenant. usage_latency() tells of any hours.';
REVOKE ALL ON tenancy.tenant_latency FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_latency TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

CREATE OR REPLACE FUNCTION tenancy.meter_read(
    OUT used bigint, OUT capacity bigint, OUT evicted bigint, OUT overflow bigint,
    OUT refused bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_meter_read'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.meter_read() IS
'How full the shared memory of metering is, for the whole cluster. Result: entries used, one a tenant and one more a database; the capacity (tenancy.max_tenants); how many entries made room for others, all that they held being in the tables; how often counts went by way of a file for want of room; how often they went to no tenant, for the file failed too. Rights: tenancy_admin, tenancy_auditor, pg_monitor.';
REVOKE ALL ON FUNCTION tenancy.meter_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.meter_read() TO tenancy_admin, tenancy_auditor, pg_monitor;
