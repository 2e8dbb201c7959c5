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

CREATE TABLE tenancy.usage_event (
    tenant_id       uuid NOT NULL,
    event_id        text NOT NULL,
    metric          text NOT NULL,
    quantity        numeric NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    properties      jsonb NOT NULL,
    payload_hash    bytea NOT NULL,
    cancelled_at    timestamptz,
    /* No foreign key to the metric, which is never deleted: each event would lock its row. */
    CONSTRAINT usage_event_pkey PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON TABLE tenancy.usage_event IS
'What applications reported, once per tenant and event id. Kept for ever: invoices are explained by it.';
COMMENT ON COLUMN tenancy.usage_event.payload_hash IS 'BLAKE2b-256 of metric, quantity, occurred_at where it was given, and properties';
CREATE INDEX usage_event_period_idx ON tenancy.usage_event (tenant_id, metric, occurred_at)
    INCLUDE (quantity) WHERE cancelled_at IS NULL;
ALTER TABLE tenancy.usage_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.usage_event FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.usage_event FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.usage_event FROM PUBLIC;
GRANT SELECT ON tenancy.usage_event TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.usage_event', '');
