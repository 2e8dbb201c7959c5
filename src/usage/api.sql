/* usage: metrics, recording, reporting. */

CREATE OR REPLACE FUNCTION @extschema@.metric_create(
    name text, unit text, aggregation text DEFAULT 'sum', carries_over boolean DEFAULT false,
    description text DEFAULT NULL, property text DEFAULT NULL, filters jsonb DEFAULT NULL,
    group_by text[] DEFAULT NULL, event text DEFAULT NULL)
RETURNS tenancy.metric
AS 'MODULE_PATHNAME', 'tenancy_metric_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text, jsonb, text[], text) IS
'Creates a metric that usage_record() takes. name: lower-case letters, digits, underscores and dots. unit: shown on reports and invoices. aggregation: avg, count, latest, max, min, sum, unique, or weighted_sum (events are changes of a level; the result is its average over the period). carries_over: for latest, max, min and weighted_sum, whether the level before a period holds at its start. description: free text. property: for unique, the member of the events'' properties whose values are counted. filters: which events count, by their properties, all of which must fit: a value, a list of values, or comparisons, as in {"region": ["eu", "us"], "status": 200, "bytes": {">=": 1024}}. group_by: at most 8 properties by whose values usage_report() can tell the quantities apart. event: the metric whose events count; null for its own. Result: the row. Errors: 22023 bad name, aggregation, property, filters (naming the path) or group_by; 42704 no such event; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text, jsonb, text[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.metric_create(text, text, text, boolean, text, text, jsonb, text[], text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.usage_matches(properties jsonb, filters jsonb) RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_usage_matches'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.usage_matches(jsonb, jsonb) IS
'Whether an event counts for a metric. properties: of the event. filters: of the metric. Result: true when every member of the filters fits. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.usage_matches(jsonb, jsonb) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.usage_group(properties jsonb, group_by text[]) RETURNS text[]
AS 'MODULE_PATHNAME', 'tenancy_usage_group'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.usage_group(jsonb, text[]) IS
'The values by which an event is told apart. properties: of the event. group_by: names of properties. Result: their values as text, null where one is absent. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.usage_group(jsonb, text[]) TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.usage_record(
    tenant @extschema@.regtenant, metric text, quantity numeric DEFAULT 1, event_id text DEFAULT NULL,
    occurred_at timestamptz DEFAULT now(), properties jsonb DEFAULT '{}')
RETURNS tenancy.usage_event
AS 'MODULE_PATHNAME', 'tenancy_usage_record'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_record(@extschema@.regtenant, text, numeric, text, timestamptz, jsonb) IS
'Records a usage event. tenant: slug or id. metric: one that takes events. quantity: in the unit of the metric; for a sum or a weighted_sum, negative to take back. event_id: 1 to 255 bytes, makes repeats harmless; made up when null. occurred_at: decides the billing period; at most 5 minutes ahead; left out, a repeat may come later. properties: any JSON object; for unique, with the property of the metric. Result: the row, the first one when the same event comes again; with a null recorded_at, and the time and what else was said, when retention has removed it. Errors: 23505 another event has that id; 42704 unknown tenant or metric; 22003 not finite; 22023 negative, in the future, bad id or properties. Rights: tenancy_admin, tenancy_app, and a tenant for itself. Side effects: the commit waits for the disk.';
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
'Cancels a usage event: it stays, and counts no more. tenant: slug or id. event_id: of the event. Result: the row; cancelling twice changes nothing. Errors: 42704 unknown tenant or event; 55000 retention has removed it. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_cancel(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_cancel(@extschema@.regtenant, text) TO tenancy_admin;

/* What the server measured.  The other columns of tenancy.usage_hour are no metrics. */
CREATE OR REPLACE VIEW tenancy.usage_measurement AS
    SELECT h.tenant_id, m.metric, h.hour, m.quantity
      FROM tenancy.usage_hour h
     CROSS JOIN LATERAL (VALUES
               ('statement.blocks_read',          h.blocks_read::numeric),
               ('statement.bytes_received',       h.bytes_received::numeric),
               ('statement.bytes_sent',           h.bytes_sent::numeric),
               ('statement.calls',                h.calls::numeric),
               ('statement.connection_seconds',   h.connection_us / 1000000.0),
               ('statement.connections',          h.connections::numeric),
               ('statement.cpu_seconds',          h.cpu_us / 1000000.0),
               ('statement.elapsed_seconds',      h.elapsed_us / 1000000.0),
               ('statement.io_seconds',           (h.io_us + h.temp_io_us) / 1000000.0),
               ('statement.lock_wait_seconds',    h.lock_wait_us / 1000000.0),
               ('statement.memory_bytes',         h.memory_bytes::numeric),
               ('statement.planning_seconds',     h.planning_us / 1000000.0),
               ('statement.rows',                 h.rows::numeric),
               ('statement.rows_written',         h.rows_written::numeric),
               ('statement.temp_blocks_written',  h.temp_blocks_written::numeric),
               ('statement.transactions',         (h.commits + h.rollbacks)::numeric),
               ('statement.wal_bytes',            h.wal_bytes::numeric),
               ('storage',                        h.storage_bytes / 1000000000.0),
               ('storage.bytes',                  h.storage_bytes::numeric)) AS m(metric, quantity)
     WHERE m.quantity IS NOT NULL;
COMMENT ON VIEW tenancy.usage_measurement IS
'What the server measured of each tenant, by metric and hour.';
REVOKE ALL ON tenancy.usage_measurement FROM PUBLIC;
GRANT SELECT ON tenancy.usage_measurement TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.usage_observation AS
    SELECT e.tenant_id, m.name AS metric, e.quantity, e.occurred_at, e.recorded_at
      FROM tenancy.usage_event e
      JOIN tenancy.metric m ON m.event = e.metric
     WHERE e.cancelled_at IS NULL
       AND (m.filters IS NULL OR tenancy.usage_matches(e.properties, m.filters))
    UNION ALL
    SELECT u.tenant_id, u.metric, u.quantity, u.hour, u.hour FROM tenancy.usage_measurement u;
COMMENT ON VIEW tenancy.usage_observation IS
'Every quantity that counts for a metric: of events that are not cancelled, and what the server measured, by the hour.';
REVOKE ALL ON tenancy.usage_observation FROM PUBLIC;
GRANT SELECT ON tenancy.usage_observation TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION tenancy.usage_quantity(
    tenant_id uuid, metric text, from_time timestamptz, to_time timestamptz) RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_usage_quantity'
LANGUAGE C STRICT STABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) IS
'What a tenant used of a metric between two times, the second excluded: the one place that aggregates, for reports and invoices alike. Result: in the unit of the metric; null for an unknown metric. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.usage_quantity(uuid, text, timestamptz, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.usage_quantities(
    tenant_ids uuid[], metrics text[], from_times timestamptz[], to_times timestamptz[])
RETURNS TABLE (ordinal integer, quantity numeric)
AS 'MODULE_PATHNAME', 'tenancy_usage_quantities'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) IS
'What tenants used, for many tenants, metrics and periods in one statement. tenant_ids, metrics, from_times, to_times: lists of one length, an entry of each a question; the second time is excluded. Result: a row a question, in their order, with its place in the lists, from 1, and what usage_quantity() answers. Errors: 22004 null in a list; 22023 lists of different lengths. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.usage_quantities(uuid[], text[], timestamptz[], timestamptz[]) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.usage_report(
    tenant @extschema@.regtenant, from_time timestamptz, to_time timestamptz,
    metric text DEFAULT NULL, bucket interval DEFAULT NULL, time_zone text DEFAULT NULL,
    group_by text[] DEFAULT NULL)
RETURNS TABLE (metric_name text, bucket_start timestamptz, quantity numeric, unit text, groups jsonb)
AS 'MODULE_PATHNAME', 'tenancy_usage_report'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval, text, text[]) IS
'What a tenant used. tenant: slug or id. from_time, to_time: the second is excluded. metric: one metric, or null for all that were used. bucket: length of the parts, at most 10000 of them; null for one. time_zone: the boundaries count from from_time in the civil time of this zone, null for that of the session: a day may have 23 or 25 hours, which parts of an hour show as such, while longer parts of a day begin at the same times of each. group_by: properties by whose values the quantities are told apart, of those that the metric was created with; null for none. Result: one row a metric, bucket and group, in the unit of the metric; groups: the values of the properties. Errors: 22023 bad times, bucket, time zone or group_by; 42704 unknown tenant or metric; 55000 a part begins or ends within an hour whose events retention has removed. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval, text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_report(@extschema@.regtenant, timestamptz, timestamptz, text, interval, text, text[]) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.usage_roll_up(
    OUT announced bigint, OUT rolled bigint, OUT merged bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_usage_roll_up'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_roll_up() IS
'Rolls up the events of hours that are over, as the background worker does; reports are the same before and after. In steps, each a transaction: what one call announces the next may prepare, and the one after that, when every transaction has ended that may not know, rolls up. Result: how many metrics were announced; how many rows were made of events; how many of rows that late events had left. Errors: none of its own; it does nothing while others roll up or cancel events. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.usage_roll_up() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_roll_up() TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.usage_event_prune(
    dry_run boolean DEFAULT false, older_than interval DEFAULT NULL, max_events integer DEFAULT 100000,
    OUT events bigint, OUT hours bigint, OUT tenants bigint, OUT finished boolean)
RETURNS record
AS 'MODULE_PATHNAME', 'tenancy_usage_event_prune'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.usage_event_prune(boolean, interval, integer) IS
'Removes the rows of usage events that are old, as the background worker does by tenancy.usage_event_retention, by whole hours of a tenant and metric. Those that are not rolled up, or that an open billing period needs, stay; so do all of an hour in which a period or a part of one began or ended. Roll-ups and identities stay: reports by the hour, invoices, and what is found to be a repeat are the same before and after. dry_run: only count. older_than: their age, at least a day; null for that of the setting, which may be for ever. max_events: about how many one call removes, at least 1. Result: how many events, in how many hours of a tenant and metric, of how many tenants; and whether that was all. Errors: 22023 bad older_than or max_events; 55000 others roll up or cancel events now. Rights: tenancy_admin. Side effects: rows can not be brought back.';
REVOKE ALL ON FUNCTION @extschema@.usage_event_prune(boolean, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.usage_event_prune(boolean, interval, integer) TO tenancy_admin;

/* The same from the rows of the roll-up and from the events. */
CREATE OR REPLACE VIEW tenancy.usage_rollup_difference AS
    WITH rolled AS (
        SELECT r.tenant_id, r.metric, r.hour, r.group_values, r.value,
               pg_catalog.jsonb_build_object(
                   'count', pg_catalog.sum(r.count), 'sum', pg_catalog.sum(r.sum),
                   'min', pg_catalog.min(r.min), 'max', pg_catalog.max(r.max),
                   'moment', pg_catalog.sum(r.moment),
                   'latest', (pg_catalog.array_agg(r.latest ORDER BY r.latest_at DESC NULLS LAST,
                                  r.latest_recorded_at DESC, r.latest DESC))[1]) AS totals
          FROM tenancy.usage_rollup r
          JOIN tenancy.usage_frontier f ON f.metric = r.metric AND r.hour < f.rolled_until
         WHERE r.is_delta OR NOT EXISTS (
               SELECT FROM tenancy.metric m
                 JOIN tenancy.usage_event_pruned g ON g.tenant_id = r.tenant_id AND g.metric = m.event
                WHERE m.name = r.metric AND g.hours OPERATOR(pg_catalog.@>) r.hour)
         GROUP BY r.tenant_id, r.metric, r.hour, r.group_values, r.value),
    point AS (
        SELECT e.tenant_id, m.name AS metric,
               pg_catalog.date_trunc('hour', e.occurred_at, 'UTC') AS hour,
               tenancy.usage_group(e.properties, m.group_by) AS group_values,
               CASE WHEN m.aggregation = 'unique' THEN e.properties ->> m.property END AS value,
               e.quantity, e.occurred_at, e.recorded_at, m.aggregation
          FROM tenancy.usage_event e
          JOIN tenancy.metric m ON m.event = e.metric
          JOIN tenancy.usage_frontier f ON f.metric = m.name AND e.occurred_at < f.rolled_until
         WHERE e.cancelled_at IS NULL
           AND (m.filters IS NULL OR tenancy.usage_matches(e.properties, m.filters))
           AND (m.property IS NULL OR e.properties ->> m.property IS NOT NULL)),
    recounted AS (
        SELECT p.tenant_id, p.metric, p.hour, p.group_values, p.value,
               pg_catalog.jsonb_build_object(
                   'count', pg_catalog.count(*), 'sum', pg_catalog.sum(p.quantity),
                   'min', pg_catalog.min(p.quantity), 'max', pg_catalog.max(p.quantity),
                   'moment', pg_catalog.sum(p.quantity
                                 * EXTRACT(epoch FROM p.occurred_at - p.hour) * 1000000)
                             FILTER (WHERE p.aggregation = 'weighted_sum'),
                   'latest', (pg_catalog.array_agg(p.quantity ORDER BY p.occurred_at DESC,
                                  p.recorded_at DESC, p.quantity DESC)
                             FILTER (WHERE p.aggregation IN ('latest', 'max', 'min')))[1]) AS totals
          FROM point p
         GROUP BY p.tenant_id, p.metric, p.hour, p.group_values, p.value)
    SELECT d.tenant_id, d.metric, d.hour, d.group_values, d.value,
           (pg_catalog.array_agg(d.totals) FILTER (WHERE d.is_rolled))[1] AS rolled,
           (pg_catalog.array_agg(d.totals) FILTER (WHERE NOT d.is_rolled))[1] AS recounted
      FROM (SELECT r.*, true AS is_rolled FROM rolled r
            UNION ALL SELECT c.*, false FROM recounted c) d
     GROUP BY d.tenant_id, d.metric, d.hour, d.group_values, d.value
    HAVING (pg_catalog.array_agg(d.totals) FILTER (WHERE d.is_rolled))[1]
           IS DISTINCT FROM (pg_catalog.array_agg(d.totals) FILTER (WHERE NOT d.is_rolled))[1];
COMMENT ON VIEW tenancy.usage_rollup_difference IS
'Where tenancy.usage_rollup is not what the events add up to, of those that are kept: always empty. Reads all events that are rolled up.';
REVOKE ALL ON tenancy.usage_rollup_difference FROM PUBLIC;
GRANT SELECT ON tenancy.usage_rollup_difference TO tenancy_admin, tenancy_auditor;
