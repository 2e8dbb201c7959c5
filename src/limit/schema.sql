/* limit: rate limits and quotas. */

CREATE TABLE tenancy.rate_limit (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    name            text NOT NULL,
    endpoint        text,
    subject         text NOT NULL,
    algorithm       text NOT NULL,
    quota           bigint NOT NULL,
    period_ms       bigint NOT NULL,
    burst           bigint NOT NULL,
    shadow          boolean NOT NULL,
    on_full         text NOT NULL,
    changed_at      timestamptz NOT NULL,
    CONSTRAINT rate_limit_pkey PRIMARY KEY (id),
    CONSTRAINT rate_limit_name_key UNIQUE (tenant_id, name),
    CONSTRAINT rate_limit_subject_check CHECK (subject IN ('service', 'tenant', 'user')),
    CONSTRAINT rate_limit_algorithm_check CHECK (algorithm IN ('gcra', 'sliding_window', 'concurrency')),
    CONSTRAINT rate_limit_quota_check CHECK (quota BETWEEN 1 AND 1000000000),
    CONSTRAINT rate_limit_period_check CHECK ((algorithm = 'concurrency') = (period_ms = 0) AND period_ms >= 0),
    CONSTRAINT rate_limit_burst_check CHECK (burst BETWEEN 0 AND 1000000000),
    CONSTRAINT rate_limit_on_full_check CHECK (on_full IN ('open', 'closed'))
);
COMMENT ON TABLE tenancy.rate_limit IS
'Rate limits, set by rate_limit_configure(); the nil uuid stands for all tenants. Kept until configured otherwise.';
COMMENT ON COLUMN tenancy.rate_limit.endpoint IS 'a pattern in which * stands for anything; null is every endpoint';
COMMENT ON COLUMN tenancy.rate_limit.subject IS 'whose requests are counted together: all tenants'', a tenant''s, a user''s';
COMMENT ON COLUMN tenancy.rate_limit.burst IS 'gcra: how many beyond the first may come at once';
COMMENT ON COLUMN tenancy.rate_limit.shadow IS 'counts and denies nothing';
COMMENT ON COLUMN tenancy.rate_limit.on_full IS 'what happens where there is no room to count';
REVOKE ALL ON tenancy.rate_limit FROM PUBLIC;
GRANT SELECT ON tenancy.rate_limit TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.rate_limit', '');

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.rate_limit FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.rate_limit ENABLE ALWAYS TRIGGER registry_changed;

CREATE TABLE tenancy.rate_limit_salt (
    salt            bytea NOT NULL,
    is_only         boolean NOT NULL DEFAULT true,
    CONSTRAINT rate_limit_salt_pkey PRIMARY KEY (is_only),
    CONSTRAINT rate_limit_salt_only_check CHECK (is_only),
    CONSTRAINT rate_limit_salt_length_check CHECK (octet_length(salt) = 16)
);
COMMENT ON TABLE tenancy.rate_limit_salt IS
'Key of the hash that subjects of rate limits are known by, one row, random. Not dumped.';
INSERT INTO tenancy.rate_limit_salt (salt)
VALUES (decode(replace(gen_random_uuid()::text, '-', ''), 'hex'));
REVOKE ALL ON tenancy.rate_limit_salt FROM PUBLIC;

CREATE TABLE tenancy.rate_limit_state (
    subject         bytea NOT NULL,
    policy_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    algorithm       bigint NOT NULL,
    period_ms       bigint NOT NULL,
    first           bigint NOT NULL,
    second          bigint NOT NULL,
    saved_at        timestamptz NOT NULL,
    CONSTRAINT rate_limit_state_pkey PRIMARY KEY (subject)
);
COMMENT ON TABLE tenancy.rate_limit_state IS
'Counts of rate limits whose period is an hour or longer, saved every ten seconds for a restart. Kept until they have run out. Not dumped.';
REVOKE ALL ON tenancy.rate_limit_state FROM PUBLIC;
GRANT SELECT ON tenancy.rate_limit_state TO tenancy_admin, tenancy_auditor;

CREATE TYPE tenancy.rate_limit_result AS (
    limited             boolean,
    policy              text,
    "limit"             bigint,
    remaining           bigint,
    retry_after_ms      bigint,
    reset_after_ms      bigint,
    shadow_policy       text,
    ratelimit_policy    text,
    ratelimit           text,
    retry_after         bigint
);
COMMENT ON TYPE tenancy.rate_limit_result IS
'What rate_limit_enforce() says: the five values of redis-cell for the policy that restricts most (retry_after_ms is -1 when allowed or when no wait would help), the first shadow policy that would have denied, and the values of the HTTP fields RateLimit-Policy, RateLimit and Retry-After.';

CREATE TABLE tenancy.quota (
    tenant_id       uuid NOT NULL,
    metric          text NOT NULL,
    soft            numeric,
    hard            numeric,
    refuses_events  boolean NOT NULL,
    changed_at      timestamptz NOT NULL,
    CONSTRAINT quota_pkey PRIMARY KEY (tenant_id, metric),
    CONSTRAINT quota_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT quota_metric_fkey FOREIGN KEY (metric) REFERENCES tenancy.metric (name),
    CONSTRAINT quota_soft_check CHECK (soft >= 0 AND soft <= hard),
    CONSTRAINT quota_hard_check CHECK (hard >= 0)
);
COMMENT ON TABLE tenancy.quota IS
'Quotas set for a tenant, in the place of those of its plan; null is no limit. Kept until quota_reset().';
COMMENT ON COLUMN tenancy.quota.refuses_events IS 'whether usage events that would pass the hard limit are refused';
REVOKE ALL ON tenancy.quota FROM PUBLIC;
GRANT SELECT ON tenancy.quota TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.quota', '');

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.quota FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.quota ENABLE ALWAYS TRIGGER registry_changed;

INSERT INTO tenancy.metric (name, unit, aggregation, carries_over, source, description, shipped) VALUES
    ('connections', 'session', 'max', true, 'statement', 'sessions at once: those that have entered the tenant, and its bound logins; known live, without a history', true);

CREATE TABLE tenancy.quota_limit (
    limit_key       text NOT NULL,
    metric          text NOT NULL,
    refuses_events  boolean NOT NULL,
    shipped         boolean NOT NULL,
    CONSTRAINT quota_limit_pkey PRIMARY KEY (limit_key, shipped),
    CONSTRAINT quota_limit_metric_fkey FOREIGN KEY (metric) REFERENCES tenancy.metric (name)
);
COMMENT ON TABLE tenancy.quota_limit IS
'Which limit of a plan is a quota of which metric; a row of the operator''s, from quota_limit_set(), comes before the shipped one of the same limit. Kept for ever.';
COMMENT ON COLUMN tenancy.quota_limit.refuses_events IS 'whether usage events that would pass the hard limit are refused';
REVOKE ALL ON tenancy.quota_limit FROM PUBLIC;
GRANT SELECT ON tenancy.quota_limit TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.quota_limit', 'WHERE NOT shipped');
INSERT INTO tenancy.quota_limit (limit_key, metric, refuses_events, shipped) VALUES
    ('api_calls_per_month', 'api_calls', false, true),
    ('custom_domains', 'custom_domains', false, true),
    ('max_connections', 'connections', false, true),
    ('max_entities', 'entities', false, true),
    ('max_plugins', 'plugins', false, true),
    ('max_users', 'users', false, true),
    ('storage_limit_gb', 'storage', false, true);

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.quota_limit FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.quota_limit ENABLE ALWAYS TRIGGER registry_changed;

CREATE TABLE tenancy.quota_table (
    schema_name     name NOT NULL,
    table_name      name NOT NULL,
    metric          text NOT NULL,
    counted_at      timestamptz NOT NULL,
    CONSTRAINT quota_table_pkey PRIMARY KEY (schema_name, table_name),
    CONSTRAINT quota_table_metric_fkey FOREIGN KEY (metric) REFERENCES tenancy.metric (name)
);
COMMENT ON TABLE tenancy.quota_table IS
'Names of the tables that quota_count_table() was told to count: a tenant''s table that takes the name of one, or of one of its template, is counted, too. Kept until quota_uncount_table().';
REVOKE ALL ON tenancy.quota_table FROM PUBLIC;
GRANT SELECT ON tenancy.quota_table TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.quota_table', '');

CREATE TYPE tenancy.quota_result AS (
    allowed             boolean,
    resource            text,
    used                numeric,
    soft                numeric,
    hard                numeric,
    remaining           numeric,
    percent             numeric,
    resets_at           timestamptz,
    reason              text,
    "limit"             numeric
);
COMMENT ON TYPE tenancy.quota_result IS
'What quota_check() says, in the unit of the metric: soft and hard are null for no limit, percent is of the hard one or else of the soft one, resets_at is null for a level, reason says what the answer comes from, limit is the hard one, else the soft one, else -1: unlimited.';

CREATE TABLE tenancy.quota_event (
    tenant_id           uuid NOT NULL,
    metric              text NOT NULL,
    threshold_percent   integer NOT NULL,
    period_start        timestamptz NOT NULL,
    used                numeric NOT NULL,
    quota               numeric NOT NULL,
    recorded_at         timestamptz NOT NULL,
    cleared_at          timestamptz,
    CONSTRAINT quota_event_pkey PRIMARY KEY (tenant_id, metric, threshold_percent, period_start, recorded_at),
    CONSTRAINT quota_event_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id)
);
COMMENT ON TABLE tenancy.quota_event IS
'Quotas of which 80 and 100 percent were used, once a threshold and period, and of a level again after it was below; within a minute. Each is also an event quota.warning. Kept for ever.';
COMMENT ON COLUMN tenancy.quota_event.period_start IS 'the start of the month of a sum; 2000-01-01 for a level';
COMMENT ON COLUMN tenancy.quota_event.quota IS 'the soft limit, else the hard one, in the unit of the metric, as it was';
COMMENT ON COLUMN tenancy.quota_event.cleared_at IS 'when a level was found below the threshold again';
CREATE UNIQUE INDEX quota_event_open_idx
    ON tenancy.quota_event (tenant_id, metric, threshold_percent, period_start) WHERE cleared_at IS NULL;
REVOKE ALL ON tenancy.quota_event FROM PUBLIC;
GRANT SELECT ON tenancy.quota_event TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.quota_event', '');
