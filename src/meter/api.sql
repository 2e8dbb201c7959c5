/* meter: recording, counting, reporting. */

CREATE OR REPLACE FUNCTION @extschema@.metric_create(
    name text, unit text, aggregation text DEFAULT 'sum', carries_over boolean DEFAULT false,
    description text DEFAULT NULL, property text DEFAULT NULL)
RETURNS tenancy.metric
AS 'MODULE_PATHNAME', 'tenancy_metric_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text) IS
'Creates a metric that usage_record() takes. name: lower-case letters, digits, underscores and dots. unit: shown on reports and invoices. aggregation: count, latest, max, sum, unique, or weighted_sum (events are changes of a level; the result is its average over the period). carries_over: for latest, max and weighted_sum, whether the level before a period holds at its start. description: free text. property: for unique, the member of the events'' properties whose values are counted. Result: the row. Errors: 22023 bad name, aggregation or property; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.usage_record(
    tenant @extschema@.regtenant, metric text, quantity numeric DEFAULT 1, event_id text DEFAULT NULL,
    occurred_at timestamptz DEFAULT now(), properties jsonb DEFAULT '{}')
RETURNS tenancy.usage_event
AS 'MODULE_PATHNAME', 'tenancy_usage_record'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_record(@extschema@.regtenant, text, numeric, text, timestamptz, jsonb) IS
'Records a usage event. tenant: slug or id. metric: one that takes events. quantity: in the unit of the metric; for a sum or a weighted_sum, negative to take back. event_id: 1 to 255 bytes, makes repeats harmless; made up when null. occurred_at: decides the billing period; at most 5 minutes ahead; left out, a repeat may come later. properties: any JSON object; for unique, with the property of the metric. Result: the row, the first one when the same event comes again. Errors: 23505 another event has that id; 42704 unknown tenant or metric; 22003 not finite; 22023 negative, in the future, bad id or properties. Rights: tenancy_admin, tenancy_app, and a tenant for itself. Side effects: the commit waits for the disk.';
REVOKE ALL ON FUNCTION @extschema@.usage_record(@extschema@.regtenant, text, numeric, text, timestamptz, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_record(@extschema@.regtenant, text, numeric, text, timestamptz, jsonb) TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.usage_record_batch(
    events jsonb, OUT recorded bigint, OUT repeated bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_usage_record_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_record_batch(jsonb) IS
'Records many usage events in one statement, all or none. events: a list of at most 100000 objects {tenant, metric, quantity, event_id, occurred_at, properties}, with the meaning and the defaults that usage_record() has; tenant may be left out in a tenant context. Result: how many were recorded, and how many had been before. Errors: those of usage_record(), naming the event as in events[3]. Rights: tenancy_admin, tenancy_app, and a tenant for itself. Side effects: the commit waits for the disk.';
REVOKE ALL ON FUNCTION @extschema@.usage_record_batch(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_record_batch(jsonb) TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.usage_inbox_write() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_usage_inbox_write'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.usage_inbox_write() IS
'Trigger: records what is inserted into tenancy.usage_inbox as usage events.';
REVOKE ALL ON FUNCTION tenancy.usage_inbox_write() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.usage_inbox_write() TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE VIEW tenancy.usage_inbox AS
    SELECT NULL::text AS tenant, NULL::text AS metric, NULL::numeric AS quantity, NULL::text AS event_id,
           NULL::timestamptz AS occurred_at, NULL::jsonb AS properties
     WHERE false;
COMMENT ON VIEW tenancy.usage_inbox IS
'Always empty: what is inserted here, by COPY too, is recorded as usage events, all of a statement or none. Columns have the meaning of the arguments of usage_record(); null is their default, and in a tenant context a null tenant is that one.';
CREATE OR REPLACE TRIGGER usage_inbox_begin BEFORE INSERT ON tenancy.usage_inbox
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.usage_inbox_write();
CREATE OR REPLACE TRIGGER usage_inbox_add INSTEAD OF INSERT ON tenancy.usage_inbox
    FOR EACH ROW EXECUTE FUNCTION tenancy.usage_inbox_write();
CREATE OR REPLACE TRIGGER usage_inbox_write AFTER INSERT ON tenancy.usage_inbox
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.usage_inbox_write();
REVOKE ALL ON tenancy.usage_inbox FROM PUBLIC;
GRANT SELECT, INSERT ON tenancy.usage_inbox TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.usage_cancel(tenant @extschema@.regtenant, event_id text)
RETURNS tenancy.usage_event
AS 'MODULE_PATHNAME', 'tenancy_usage_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_cancel(@extschema@.regtenant, text) IS
'Cancels a usage event: it stays, and counts no more. tenant: slug or id. event_id: of the event. Result: the row; cancelling twice changes nothing. Errors: 42704 unknown tenant or event. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_cancel(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_cancel(@extschema@.regtenant, text) TO tenancy_admin;

/* The list of metrics comes first in the join: where none is asked for, no hour is read. */
CREATE OR REPLACE VIEW tenancy.usage_observation AS
    SELECT e.tenant_id, e.metric, e.quantity, e.occurred_at, e.recorded_at
      FROM tenancy.usage_event e
     WHERE e.cancelled_at IS NULL
    UNION ALL
    SELECT h.tenant_id, m.metric,
           CASE m.metric
               WHEN 'storage'                   THEN h.storage_bytes / 1000000000.0
               WHEN 'statement.blocks_read'     THEN h.blocks_read::numeric
               WHEN 'statement.calls'           THEN h.calls::numeric
               WHEN 'statement.cpu_seconds'     THEN h.cpu_us / 1000000.0
               WHEN 'statement.elapsed_seconds' THEN h.elapsed_us / 1000000.0
               WHEN 'statement.rows'            THEN h.rows::numeric
               WHEN 'statement.wal_bytes'       THEN h.wal_bytes::numeric
           END,
           h.hour, h.hour
      FROM (VALUES ('storage'), ('statement.blocks_read'), ('statement.calls'),
                   ('statement.cpu_seconds'), ('statement.elapsed_seconds'), ('statement.rows'),
                   ('statement.wal_bytes')) AS m(metric)
      JOIN tenancy.usage_hour h ON m.metric <> 'storage' OR h.storage_bytes IS NOT NULL;
COMMENT ON VIEW tenancy.usage_observation IS
'Every quantity that counts: events that are not cancelled, and what the server measured, by the hour.';
REVOKE ALL ON tenancy.usage_observation FROM PUBLIC;
GRANT SELECT ON tenancy.usage_observation TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION tenancy.usage_quantity(
    tenant_id uuid, metric text, from_time timestamptz, to_time timestamptz) RETURNS numeric
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE m.aggregation
               WHEN 'count'  THEN period.count
               WHEN 'sum'    THEN coalesce(period.sum, 0)
               WHEN 'max'    THEN coalesce(greatest(period.max, level.quantity), 0)
               WHEN 'latest' THEN coalesce(level.quantity, 0)
               WHEN 'unique' THEN different.count
               WHEN 'weighted_sum' THEN weighted.quantity
           END
      FROM tenancy.metric m
      LEFT JOIN LATERAL (
          SELECT pg_catalog.count(*), pg_catalog.sum(o.quantity), pg_catalog.max(o.quantity)
            FROM tenancy.usage_observation o
           WHERE o.tenant_id = usage_quantity.tenant_id AND o.metric = usage_quantity.metric
             AND o.occurred_at >= from_time AND o.occurred_at < to_time
             AND m.aggregation IN ('count', 'sum', 'max')
      ) AS period ON true
      /*
       * The level before the period counts into its maximum; the last one is that at its
       * end.  Each source gives its last, from the end of its index.
       */
      LEFT JOIN LATERAL (
          SELECT o.quantity
            FROM ((SELECT e.quantity, e.occurred_at, e.recorded_at
                     FROM tenancy.usage_event e
                    WHERE e.tenant_id = usage_quantity.tenant_id AND e.metric = usage_quantity.metric
                      AND e.occurred_at >= CASE WHEN m.carries_over THEN '-infinity' ELSE from_time END
                      AND e.occurred_at < CASE m.aggregation WHEN 'max' THEN from_time ELSE to_time END
                      AND e.cancelled_at IS NULL AND m.aggregation IN ('max', 'latest')
                    ORDER BY e.occurred_at DESC, e.recorded_at DESC, e.quantity DESC LIMIT 1)
                  UNION ALL
                  (SELECT h.storage_bytes / 1000000000.0, h.hour, h.hour
                     FROM tenancy.usage_hour h
                    WHERE h.tenant_id = usage_quantity.tenant_id AND usage_quantity.metric = 'storage'
                      AND h.hour >= CASE WHEN m.carries_over THEN '-infinity' ELSE from_time END
                      AND h.hour < CASE m.aggregation WHEN 'max' THEN from_time ELSE to_time END
                      AND h.storage_bytes IS NOT NULL
                    ORDER BY h.hour DESC LIMIT 1)) AS o
           ORDER BY o.occurred_at DESC, o.recorded_at DESC, o.quantity DESC LIMIT 1
      ) AS level ON true
      LEFT JOIN LATERAL (
          SELECT pg_catalog.count(DISTINCT e.properties ->> m.property)
            FROM tenancy.usage_event e
           WHERE e.tenant_id = usage_quantity.tenant_id AND e.metric = usage_quantity.metric
             AND e.occurred_at >= from_time AND e.occurred_at < to_time
             AND e.cancelled_at IS NULL AND m.aggregation = 'unique'
      ) AS different ON true
      /* Each change of the level counts for the part of the period that it holds. */
      LEFT JOIN LATERAL (
          SELECT coalesce(pg_catalog.sum(
                     CASE WHEN o.occurred_at < from_time THEN o.quantity
                          ELSE o.quantity * EXTRACT(epoch FROM to_time - o.occurred_at)
                                          / EXTRACT(epoch FROM to_time - from_time) END), 0) AS quantity
            FROM tenancy.usage_observation o
           WHERE o.tenant_id = usage_quantity.tenant_id AND o.metric = usage_quantity.metric
             AND o.occurred_at >= CASE WHEN m.carries_over THEN '-infinity' ELSE from_time END
             AND o.occurred_at < to_time AND m.aggregation = 'weighted_sum'
      ) AS weighted ON true
     WHERE m.name = usage_quantity.metric;
END;
COMMENT ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) IS
'What a tenant used of a metric between two times, the second excluded: the one place that aggregates, for reports and invoices alike. Result: in the unit of the metric; null for an unknown metric. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.usage_quantities(
    tenant_ids uuid[], metrics text[], from_times timestamptz[], to_times timestamptz[])
RETURNS TABLE (ordinal integer, quantity numeric)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT u.ordinal::integer, tenancy.usage_quantity(u.tenant_id, u.metric, u.from_time, u.to_time)
      FROM ROWS FROM (pg_catalog.unnest(tenant_ids), pg_catalog.unnest(metrics),
                      pg_catalog.unnest(from_times), pg_catalog.unnest(to_times))
           WITH ORDINALITY AS u(tenant_id, metric, from_time, to_time, ordinal);
END;
COMMENT ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) IS
'What tenants used, for many tenants, metrics and periods in one statement. tenant_ids, metrics, from_times, to_times: lists of one length, an entry of each a question; the second time is excluded. Result: a row a question, with its place in the lists, from 1, and what usage_quantity() answers. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.usage_report(
    tenant @extschema@.regtenant, from_time timestamptz, to_time timestamptz,
    metric text DEFAULT NULL, bucket interval DEFAULT NULL)
RETURNS TABLE (metric_name text, bucket_start timestamptz, quantity numeric, unit text)
AS 'MODULE_PATHNAME', 'tenancy_usage_report'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval) IS
'What a tenant used. tenant: slug or id. from_time, to_time: the second is excluded. metric: one metric, or null for all that were used. bucket: length of the parts, at most 10000 of them, counted from from_time in the civil time of the session; null for one. Result: one row a metric and bucket, in the unit of the metric. Errors: 22023 bad times or bucket; 42704 unknown tenant or metric. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.usage_flush() RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_usage_flush'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_flush() IS
'Moves statement counters from shared memory to tenancy.usage_hour, as the background worker does. Result: how many tenants had any. Errors: 55000. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_flush() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_flush() TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.storage_measure(max_tenants integer DEFAULT 100) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_storage_measure'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.storage_measure(integer) IS
'Measures the storage of the tenants that were measured least recently, and estimates that of tenants without a schema from a sample of the shared tables. max_tenants: at most this many with a schema. Result: how many were, of both. Errors: 22023. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.storage_measure(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.storage_measure(integer) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.tenant_stat_read(
    OUT tenant_id uuid, OUT selects bigint, OUT inserts bigint, OUT updates bigint,
    OUT deletes bigint, OUT merges bigint, OUT utilities bigint, OUT rows bigint,
    OUT elapsed_us bigint, OUT cpu_us bigint, OUT blocks_hit bigint, OUT blocks_read bigint,
    OUT blocks_dirtied bigint, OUT blocks_written bigint, OUT local_blocks_read bigint,
    OUT local_blocks_written bigint, OUT temp_blocks_read bigint, OUT temp_blocks_written bigint,
    OUT wal_records bigint, OUT wal_bytes bigint, OUT commits bigint, OUT rollbacks bigint,
    OUT planning_us bigint, OUT io_us bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_tenant_stat_read'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.tenant_stat_read() IS
'The live counters of this database, per tenant, since the server started. Result: times in microseconds; blocks of the server''s block size; WAL in records and bytes; io_us is 0 where track_io_timing is off. Rights: tenancy_admin, tenancy_auditor, pg_monitor; a tenant in its context is shown its own row alone.';
REVOKE ALL ON FUNCTION tenancy.tenant_stat_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.tenant_stat_read() TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

/* A barrier: no condition of the reader is tried on the slug of a row that it is not shown. */
CREATE OR REPLACE VIEW tenancy.tenant_stat WITH (security_barrier = true) AS
    SELECT s.tenant_id, t.slug,
           s.selects + s.inserts + s.updates + s.deletes + s.merges + s.utilities AS calls,
           s.selects, s.inserts, s.updates, s.deletes, s.merges, s.utilities, s.rows,
           s.elapsed_us / 1000.0 AS elapsed_ms, s.cpu_us / 1000.0 AS cpu_ms, s.blocks_hit,
           s.blocks_read, s.blocks_dirtied, s.blocks_written, s.local_blocks_read,
           s.local_blocks_written, s.temp_blocks_read, s.temp_blocks_written, s.wal_records,
           s.wal_bytes, s.commits, s.rollbacks, s.planning_us / 1000.0 AS planning_ms,
           s.io_us / 1000.0 AS io_ms
      FROM tenancy.tenant_stat_read() s
      LEFT JOIN tenancy.tenant t ON t.id = s.tenant_id;
COMMENT ON VIEW tenancy.tenant_stat IS
'Live statement counters per tenant since the server started, those of running sessions included up to their last transaction; slug is null for work of no tenant.';
REVOKE ALL ON tenancy.tenant_stat FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_stat TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

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
'How long the statements of each tenant took since the server started, in the executor. Result: quantiles in microseconds, off by at most 2 %. Rights: tenancy_admin, tenancy_auditor, pg_monitor; a tenant in its context is shown its own alone.';
REVOKE ALL ON FUNCTION tenancy.tenant_latency_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.tenant_latency_read() TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

CREATE OR REPLACE VIEW tenancy.tenant_latency WITH (security_barrier = true) AS
    SELECT l.tenant_id, t.slug, l.statements, l.p50_us / 1000.0 AS p50_ms, l.p95_us / 1000.0 AS p95_ms,
           l.p99_us / 1000.0 AS p99_ms
      FROM tenancy.tenant_latency_read() l
      LEFT JOIN tenancy.tenant t ON t.id = l.tenant_id;
COMMENT ON VIEW tenancy.tenant_latency IS
'How long the statements of each tenant took since the server started: quantiles in milliseconds; slug is null for work of no tenant.';
REVOKE ALL ON tenancy.tenant_latency FROM PUBLIC;
GRANT SELECT ON tenancy.tenant_latency TO tenancy_admin, tenancy_auditor, tenancy_tenant, pg_monitor;

CREATE OR REPLACE FUNCTION tenancy.meter_read(
    OUT used bigint, OUT capacity bigint, OUT refused bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_meter_read'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.meter_read() IS
'How full the shared memory of metering is, for the whole cluster. Result: entries used, one a tenant and one more a database; the capacity (tenancy.max_tenants); how often counts of a tenant went to no tenant for want of room. Rights: tenancy_admin, tenancy_auditor, pg_monitor.';
REVOKE ALL ON FUNCTION tenancy.meter_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.meter_read() TO tenancy_admin, tenancy_auditor, pg_monitor;
