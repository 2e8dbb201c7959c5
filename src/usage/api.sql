/* usage: metrics, recording, reporting. */

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
