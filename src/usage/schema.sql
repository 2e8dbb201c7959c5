/* usage: metrics and events. */

CREATE TABLE tenancy.metric (
    name            text NOT NULL,
    unit            text NOT NULL,
    aggregation     text NOT NULL,
    carries_over    boolean NOT NULL,
    source          text NOT NULL,
    description     text,
    property        text,
    shipped         boolean NOT NULL,
    event           text,
    filters         jsonb,
    group_by        text[] NOT NULL DEFAULT '{}',
    CONSTRAINT metric_pkey PRIMARY KEY (name),
    CONSTRAINT metric_event_fkey FOREIGN KEY (event) REFERENCES tenancy.metric (name),
    CONSTRAINT metric_event_check CHECK ((source = 'event') = (event IS NOT NULL)),
    CONSTRAINT metric_filters_check CHECK (filters IS NULL OR source = 'event'),
    CONSTRAINT metric_group_by_check CHECK (group_by = '{}' OR source = 'event'),
    CONSTRAINT metric_aggregation_check CHECK (aggregation IN ('avg', 'count', 'latest', 'max', 'min', 'sum', 'unique', 'weighted_sum')),
    CONSTRAINT metric_carries_over_check CHECK (NOT carries_over OR aggregation IN ('latest', 'max', 'min', 'weighted_sum')),
    CONSTRAINT metric_property_check CHECK ((aggregation = 'unique') = (property IS NOT NULL)),
    CONSTRAINT metric_source_check CHECK (source IN ('event', 'statement'))
);
COMMENT ON TABLE tenancy.metric IS
'What can be metered. Kept for ever: events and prices refer to it.';
COMMENT ON COLUMN tenancy.metric.aggregation IS 'how the quantities of a period become one';
COMMENT ON COLUMN tenancy.metric.carries_over IS 'a level: its last value before a period still holds at the start of it';
COMMENT ON COLUMN tenancy.metric.property IS 'for unique: the member of the events'' properties whose values are counted';
COMMENT ON COLUMN tenancy.metric.event IS 'the metric whose events count: itself, or another one';
COMMENT ON COLUMN tenancy.metric.filters IS 'what the properties of an event must be to count; null: anything';
COMMENT ON COLUMN tenancy.metric.group_by IS 'properties by whose values the quantities can be told apart';
COMMENT ON COLUMN tenancy.metric.source IS 'event: usage_record(); statement: counted by the server';
REVOKE ALL ON tenancy.metric FROM PUBLIC;
GRANT SELECT ON tenancy.metric TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.metric', 'WHERE NOT shipped');

INSERT INTO tenancy.metric (name, unit, aggregation, carries_over, source, description, shipped, event)
SELECT v.*, CASE v.source WHEN 'event' THEN v.name END FROM (VALUES
    ('api_calls',                     'call',        'sum', false, 'event',     'calls of the product''s API', true),
    ('custom_domains',                'domain',      'max', true,  'event',     'host names of the tenant''s own', true),
    ('entities',                      'entity',      'max', true,  'event',     'entities in the catalog', true),
    ('plugins',                       'plugin',      'max', true,  'event',     'plugins switched on', true),
    ('statement.blocks_read',         'block',       'sum', false, 'statement', 'blocks read from outside shared buffers', true),
    ('statement.bytes_received',      'B',           'sum', false, 'statement', 'query texts, parameters and COPY data from clients', true),
    ('statement.bytes_sent',          'B',           'sum', false, 'statement', 'messages to clients', true),
    ('statement.calls',               'call',        'sum', false, 'statement', 'statements', true),
    ('statement.connection_seconds',  's',           'sum', false, 'statement', 'how long sessions of bound logins lasted', true),
    ('statement.connections',         'connection',  'sum', false, 'statement', 'sessions of bound logins', true),
    ('statement.cpu_seconds',         's',           'sum', false, 'statement', 'CPU time of the sessions', true),
    ('statement.elapsed_seconds',     's',           'sum', false, 'statement', 'time in the executor', true),
    ('statement.io_seconds',          's',           'sum', false, 'statement', 'reading and writing of blocks and temporary files, where timed', true),
    ('statement.lock_wait_seconds',   's',           'sum', false, 'statement', 'waiting for locks, sampled', true),
    ('statement.memory_bytes',        'B',           'max', false, 'statement', 'the most memory of a statement', true),
    ('statement.planning_seconds',    's',           'sum', false, 'statement', 'planning', true),
    ('statement.rows',                'row',         'sum', false, 'statement', 'rows returned or changed', true),
    ('statement.rows_written',        'row',         'sum', false, 'statement', 'rows written', true),
    ('statement.temp_blocks_written', 'block',       'sum', false, 'statement', 'blocks written to temporary files', true),
    ('statement.transactions',        'transaction', 'sum', false, 'statement', 'transactions, committed or rolled back', true),
    ('statement.wal_bytes',           'B',           'sum', false, 'statement', 'write-ahead log written', true),
    ('storage',                       'GB',          'max', true,  'event',     'storage in units of 10^9 bytes: the tenant''s schemas, measured, or what the application reports', true),
    ('storage.bytes',                 'B',           'max', true,  'statement', 'storage of the tenant''s schemas, or its part of shared tables, measured', true),
    ('users',                         'user',        'max', true,  'event',     'users with a seat', true)
) AS v(name, unit, aggregation, carries_over, source, description, shipped);

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.metric FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.metric ENABLE ALWAYS TRIGGER registry_changed;

/* The row of an id is as short as it can be: there is one for ever. */
CREATE TABLE tenancy.usage_event_key (
    tenant_id       uuid NOT NULL,
    id_hash         uuid NOT NULL,
    payload_hash    uuid NOT NULL,
    occurred_at     timestamptz NOT NULL,
    CONSTRAINT usage_event_key_pkey PRIMARY KEY (tenant_id, id_hash)
);
COMMENT ON TABLE tenancy.usage_event_key IS
'Every event id that was ever taken, once per tenant: what comes again is recognised. Kept for ever, also when retention has taken the event.';
COMMENT ON COLUMN tenancy.usage_event_key.id_hash IS 'the first 128 bits of BLAKE2b-256 of the event id';
COMMENT ON COLUMN tenancy.usage_event_key.payload_hash IS 'the first 128 bits of BLAKE2b-256 of metric, quantity, occurred_at where it was given, and properties';
ALTER TABLE tenancy.usage_event_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_event_key FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.usage_event_key FROM PUBLIC;
GRANT SELECT ON tenancy.usage_event_key TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_key', '');

/*
 * A partition for each month of the year.  They belong to the extension, like the table: a
 * partition made later would be dumped with its columns of today, and not fit the table of a
 * newer version when it is restored.
 */
CREATE TABLE tenancy.usage_event (
    tenant_id       uuid NOT NULL,
    event_id        text NOT NULL,
    metric          text NOT NULL,
    quantity        numeric NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    properties      jsonb NOT NULL,
    cancelled_at    timestamptz,
    month_of_year   smallint NOT NULL,
    /*
     * No key: usage_event_key has the identities.  No foreign key to the metric, which is never
     * deleted: each event would lock its row.
     */
    CONSTRAINT usage_event_month_check CHECK (month_of_year = EXTRACT(month FROM (occurred_at AT TIME ZONE 'UTC')))
) PARTITION BY LIST (month_of_year);
COMMENT ON TABLE tenancy.usage_event IS
'What applications reported, once per tenant and event id. Kept for tenancy.usage_event_retention, by the kind usage.prune.';
COMMENT ON COLUMN tenancy.usage_event.month_of_year IS 'of occurred_at in UTC: the partition';
/* The only one: every event pays for each. */
CREATE INDEX usage_event_period_idx ON tenancy.usage_event (tenant_id, metric, occurred_at);
CREATE TABLE tenancy.usage_event_01 PARTITION OF tenancy.usage_event FOR VALUES IN (1);
CREATE TABLE tenancy.usage_event_02 PARTITION OF tenancy.usage_event FOR VALUES IN (2);
CREATE TABLE tenancy.usage_event_03 PARTITION OF tenancy.usage_event FOR VALUES IN (3);
CREATE TABLE tenancy.usage_event_04 PARTITION OF tenancy.usage_event FOR VALUES IN (4);
CREATE TABLE tenancy.usage_event_05 PARTITION OF tenancy.usage_event FOR VALUES IN (5);
CREATE TABLE tenancy.usage_event_06 PARTITION OF tenancy.usage_event FOR VALUES IN (6);
CREATE TABLE tenancy.usage_event_07 PARTITION OF tenancy.usage_event FOR VALUES IN (7);
CREATE TABLE tenancy.usage_event_08 PARTITION OF tenancy.usage_event FOR VALUES IN (8);
CREATE TABLE tenancy.usage_event_09 PARTITION OF tenancy.usage_event FOR VALUES IN (9);
CREATE TABLE tenancy.usage_event_10 PARTITION OF tenancy.usage_event FOR VALUES IN (10);
CREATE TABLE tenancy.usage_event_11 PARTITION OF tenancy.usage_event FOR VALUES IN (11);
CREATE TABLE tenancy.usage_event_12 PARTITION OF tenancy.usage_event FOR VALUES IN (12);
COMMENT ON TABLE tenancy.usage_event_01 IS 'Events of January of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_02 IS 'Events of February of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_03 IS 'Events of March of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_04 IS 'Events of April of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_05 IS 'Events of May of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_06 IS 'Events of June of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_07 IS 'Events of July of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_08 IS 'Events of August of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_09 IS 'Events of September of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_10 IS 'Events of October of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_11 IS 'Events of November of any year, in UTC.';
COMMENT ON TABLE tenancy.usage_event_12 IS 'Events of December of any year, in UTC.';
/* There is no key to tell rows by, for those who replicate UPDATE and DELETE. */
ALTER TABLE tenancy.usage_event_01 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_02 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_03 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_04 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_05 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_06 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_07 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_08 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_09 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_10 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_11 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenancy.usage_event_12 REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON tenancy.usage_event_01, tenancy.usage_event_02, tenancy.usage_event_03, tenancy.usage_event_04, tenancy.usage_event_05, tenancy.usage_event_06, tenancy.usage_event_07, tenancy.usage_event_08, tenancy.usage_event_09, tenancy.usage_event_10, tenancy.usage_event_11, tenancy.usage_event_12 FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_01', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_02', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_03', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_04', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_05', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_06', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_07', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_08', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_09', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_10', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_11', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_12', '');

ALTER TABLE tenancy.usage_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_event FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_event FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_event FROM PUBLIC;
GRANT SELECT ON tenancy.usage_event TO tenancy_admin, tenancy_auditor, tenancy_tenant;

/* Few have a row here; an index on the events would be paid for by all. */
CREATE TABLE tenancy.usage_late (
    tenant_id       uuid NOT NULL,
    noted_at        timestamptz NOT NULL,
    id_hash         uuid NOT NULL,
    metric          text NOT NULL,
    occurred_at     timestamptz NOT NULL,
    CONSTRAINT usage_late_pkey PRIMARY KEY (tenant_id, noted_at, id_hash)
);
COMMENT ON TABLE tenancy.usage_late IS
'Events that were recorded more than ten minutes after they occurred, or cancelled: what an invoice may have missed. Kept for ever.';
COMMENT ON COLUMN tenancy.usage_late.noted_at IS 'when it was recorded or cancelled';
COMMENT ON COLUMN tenancy.usage_late.metric IS 'that the event was recorded for; others may count it, too';
ALTER TABLE tenancy.usage_late ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_late FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.usage_late FROM PUBLIC;
GRANT SELECT ON tenancy.usage_late TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_late', '');

CREATE TABLE tenancy.usage_rollup (
    tenant_id       uuid NOT NULL,
    metric          text NOT NULL,
    hour            timestamptz NOT NULL,
    id              uuid NOT NULL,
    group_values    text[] NOT NULL,
    value           text,
    count           bigint NOT NULL,
    sum             numeric NOT NULL,
    min             numeric NOT NULL,
    max             numeric NOT NULL,
    moment          numeric,
    latest          numeric,
    latest_at       timestamptz,
    latest_recorded_at timestamptz,
    is_delta        boolean NOT NULL,
    CONSTRAINT usage_rollup_pkey PRIMARY KEY (tenant_id, metric, hour, id)
);
COMMENT ON TABLE tenancy.usage_rollup IS
'Events by tenant, metric and hour, for the hours before tenancy.usage_frontier: what its rows of an hour add up to is what the events of the hour add up to. Kept for ever.';
COMMENT ON COLUMN tenancy.usage_rollup.group_values IS 'the values of the properties that the metric can be grouped by';
COMMENT ON COLUMN tenancy.usage_rollup.value IS 'for unique: the value that is counted';
COMMENT ON COLUMN tenancy.usage_rollup.moment IS 'for weighted_sum: the sum of quantity times microseconds since the start of the hour';
COMMENT ON COLUMN tenancy.usage_rollup.latest IS 'for levels: the quantity that was reported last';
COMMENT ON COLUMN tenancy.usage_rollup.is_delta IS 'of events that came after their hour was rolled up; merged with the others from time to time';
CREATE INDEX usage_rollup_delta_idx ON tenancy.usage_rollup (metric, hour) WHERE is_delta;
CREATE INDEX usage_rollup_time_idx ON tenancy.usage_rollup USING brin (hour) WITH (autosummarize = on);
ALTER TABLE tenancy.usage_rollup ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_rollup FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_rollup FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_rollup FROM PUBLIC;
GRANT SELECT ON tenancy.usage_rollup TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_rollup', '');

CREATE TABLE tenancy.usage_frontier (
    metric          text NOT NULL,
    rolled_from     timestamptz NOT NULL,
    rolled_until    timestamptz NOT NULL,
    CONSTRAINT usage_frontier_pkey PRIMARY KEY (metric),
    CONSTRAINT usage_frontier_metric_fkey FOREIGN KEY (metric) REFERENCES tenancy.metric (name)
);
COMMENT ON TABLE tenancy.usage_frontier IS
'How far the events of each metric are rolled up. Kept for ever.';
COMMENT ON COLUMN tenancy.usage_frontier.rolled_from IS 'the hour of the first event when it began';
REVOKE ALL ON tenancy.usage_frontier FROM PUBLIC;
GRANT SELECT ON tenancy.usage_frontier TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_frontier', '');

CREATE TABLE tenancy.usage_announcement (
    metric          text NOT NULL,
    rolls_until     timestamptz NOT NULL,
    waits_for       xid8,
    CONSTRAINT usage_announcement_pkey PRIMARY KEY (metric),
    CONSTRAINT usage_announcement_metric_fkey FOREIGN KEY (metric) REFERENCES tenancy.metric (name)
);
COMMENT ON TABLE tenancy.usage_announcement IS
'How far each metric is going to be rolled up. Transaction numbers are of this cluster. Not dumped.';
COMMENT ON COLUMN tenancy.usage_announcement.waits_for IS 'the last transaction that may not know; null: not yet noted';
REVOKE ALL ON tenancy.usage_announcement FROM PUBLIC;
GRANT SELECT ON tenancy.usage_announcement TO tenancy_admin, tenancy_auditor;
/* Of the transactions that are waited for nobody needs to hear. */
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OF rolls_until OR DELETE OR TRUNCATE
    ON tenancy.usage_announcement FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.usage_announcement ENABLE ALWAYS TRIGGER registry_changed;

CREATE TABLE tenancy.usage_event_pruned (
    tenant_id       uuid NOT NULL,
    metric          text NOT NULL,
    hours           tstzmultirange NOT NULL,
    CONSTRAINT usage_event_pruned_pkey PRIMARY KEY (tenant_id, metric)
);
COMMENT ON TABLE tenancy.usage_event_pruned IS
'The hours whose events retention has removed: rows of tenancy.usage_rollup that are no deltas are all that is known of them. Kept for ever.';
COMMENT ON COLUMN tenancy.usage_event_pruned.metric IS 'that the events were recorded for; others may have counted them, too';
ALTER TABLE tenancy.usage_event_pruned ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_event_pruned FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.usage_event_pruned FROM PUBLIC;
GRANT SELECT ON tenancy.usage_event_pruned TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event_pruned', '');

CREATE TABLE tenancy.usage_prune_round (
    id              boolean NOT NULL,
    after_tenant    uuid,
    until           timestamptz NOT NULL,
    CONSTRAINT usage_prune_round_pkey PRIMARY KEY (id),
    CONSTRAINT usage_prune_round_id_check CHECK (id)
);
COMMENT ON TABLE tenancy.usage_prune_round IS
'How far the periodic removal of usage events has come: one row. Not dumped.';
COMMENT ON COLUMN tenancy.usage_prune_round.after_tenant IS 'whose turn it was last; null: all had theirs';
COMMENT ON COLUMN tenancy.usage_prune_round.until IS 'what the round removes is older';
REVOKE ALL ON tenancy.usage_prune_round FROM PUBLIC;
GRANT SELECT ON tenancy.usage_prune_round TO tenancy_admin, tenancy_auditor;
