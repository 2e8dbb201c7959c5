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
    CONSTRAINT metric_pkey PRIMARY KEY (name),
    CONSTRAINT metric_aggregation_check CHECK (aggregation IN ('count', 'latest', 'max', 'sum', 'unique', 'weighted_sum')),
    CONSTRAINT metric_carries_over_check CHECK (NOT carries_over OR aggregation IN ('latest', 'max', 'weighted_sum')),
    CONSTRAINT metric_property_check CHECK ((aggregation = 'unique') = (property IS NOT NULL)),
    CONSTRAINT metric_source_check CHECK (source IN ('event', 'statement'))
);
COMMENT ON TABLE tenancy.metric IS
'What can be metered. Kept for ever: events and prices refer to it.';
COMMENT ON COLUMN tenancy.metric.aggregation IS 'how the quantities of a period become one';
COMMENT ON COLUMN tenancy.metric.carries_over IS 'a level: its last value before a period still holds at the start of it';
COMMENT ON COLUMN tenancy.metric.property IS 'for unique: the member of the events'' properties whose values are counted';
COMMENT ON COLUMN tenancy.metric.source IS 'event: usage_record(); statement: counted by the server';
REVOKE ALL ON tenancy.metric FROM PUBLIC;
GRANT SELECT ON tenancy.metric TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.metric', 'WHERE NOT shipped');

INSERT INTO tenancy.metric (name, unit, aggregation, carries_over, source, description, shipped) VALUES
    ('api_calls',                 'call',   'sum', false, 'event',     'calls of the product''s API', true),
    ('custom_domains',            'domain', 'max', true,  'event',     'host names of the tenant''s own', true),
    ('entities',                  'entity', 'max', true,  'event',     'entities in the catalog', true),
    ('plugins',                   'plugin', 'max', true,  'event',     'plugins switched on', true),
    ('statement.blocks_read',     'block',  'sum', false, 'statement', 'blocks read from outside shared buffers', true),
    ('statement.calls',           'call',   'sum', false, 'statement', 'statements', true),
    ('statement.cpu_seconds',     's',      'sum', false, 'statement', 'CPU time of the sessions', true),
    ('statement.elapsed_seconds', 's',      'sum', false, 'statement', 'time in the executor', true),
    ('statement.rows',            'row',    'sum', false, 'statement', 'rows returned or changed', true),
    ('statement.wal_bytes',       'B',      'sum', false, 'statement', 'write-ahead log written', true),
    ('storage',                   'GB',     'max', true,  'event',     'storage in units of 10^9 bytes: the tenant''s schemas, measured, or what the application reports', true),
    ('users',                     'user',   'max', true,  'event',     'users with a seat', true);

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
    cancelled_at    timestamptz
    /*
     * No key: usage_event_key has the identities.  No foreign key to the metric, which is never
     * deleted: each event would lock its row.
     */
) PARTITION BY LIST ((EXTRACT(month FROM (occurred_at AT TIME ZONE 'UTC'))::integer));
COMMENT ON TABLE tenancy.usage_event IS
'What applications reported, once per tenant and event id.';
CREATE INDEX usage_event_period_idx ON tenancy.usage_event (tenant_id, metric, occurred_at)
    INCLUDE (quantity) WHERE cancelled_at IS NULL;
CREATE INDEX usage_event_cancelled_idx ON tenancy.usage_event (tenant_id, metric, occurred_at)
    WHERE cancelled_at IS NOT NULL;
/* Events come about in the order of their time: what happened since then is at the end. */
CREATE INDEX usage_event_time_idx ON tenancy.usage_event USING brin (occurred_at) WITH (autosummarize = on);
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
