/* price: what is sold, and at what price. */

CREATE TABLE tenancy.plan (
    id              text NOT NULL,
    name            text NOT NULL,
    tier            text NOT NULL,
    features        jsonb NOT NULL,
    limits          jsonb NOT NULL,
    support         jsonb NOT NULL,
    sla             jsonb NOT NULL,
    kind            text NOT NULL,
    family          text NOT NULL,
    changes_to      text[],
    created_at      timestamptz NOT NULL,
    retired_at      timestamptz,
    shipped         boolean NOT NULL,
    CONSTRAINT plan_pkey PRIMARY KEY (id),
    CONSTRAINT plan_kind_check CHECK (kind IN ('addon', 'plan')),
    CONSTRAINT plan_tier_check CHECK (tier IN ('starter', 'professional', 'enterprise', 'custom'))
);
COMMENT ON TABLE tenancy.plan IS
'What a tenant can subscribe to. Kept for ever: subscriptions refer to it.';
COMMENT ON COLUMN tenancy.plan.limits IS 'what the plan includes; -1 is unlimited';
COMMENT ON COLUMN tenancy.plan.kind IS 'plan: subscribed to by itself; addon: beside a plan';
COMMENT ON COLUMN tenancy.plan.family IS 'a tenant has one subscription a family; changes of plan stay within it';
COMMENT ON COLUMN tenancy.plan.changes_to IS 'the plans that a subscription may change to; null for all of the family';
COMMENT ON COLUMN tenancy.plan.retired_at IS 'from then on nobody can subscribe to it; subscriptions that exist go on';
REVOKE ALL ON tenancy.plan FROM PUBLIC;
GRANT SELECT ON tenancy.plan TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.plan', 'WHERE NOT shipped');

CREATE TABLE tenancy.plan_price (
    plan            text NOT NULL,
    version         integer NOT NULL,
    currency        text NOT NULL,
    is_main         boolean NOT NULL,
    billing_period  text NOT NULL,
    pricing         jsonb NOT NULL,
    valid_from      timestamptz NOT NULL,
    shipped         boolean NOT NULL,
    CONSTRAINT plan_price_pkey PRIMARY KEY (plan, version, currency),
    CONSTRAINT plan_price_plan_fkey FOREIGN KEY (plan) REFERENCES tenancy.plan (id),
    CONSTRAINT plan_price_version_check CHECK (version > 0),
    CONSTRAINT plan_price_billing_period_check
        CHECK (billing_period IN ('daily', 'weekly', 'monthly', 'quarterly', 'yearly'))
);
COMMENT ON TABLE tenancy.plan_price IS
'Versions of the price of a plan, a row for each currency. A version never changes; a subscription keeps the one that it was made with. Kept for ever.';
COMMENT ON COLUMN tenancy.plan_price.is_main IS 'the currency that the document was written in; the others are its currency_options';
COMMENT ON COLUMN tenancy.plan_price.pricing IS 'complete for this currency';
CREATE UNIQUE INDEX plan_price_main_key ON tenancy.plan_price (plan, version) WHERE is_main;
REVOKE ALL ON tenancy.plan_price FROM PUBLIC;
GRANT SELECT ON tenancy.plan_price TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.plan_price', 'WHERE NOT shipped');

CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.plan FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.plan ENABLE ALWAYS TRIGGER registry_changed;
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON tenancy.plan_price FOR EACH STATEMENT EXECUTE FUNCTION tenancy.registry_changed();
ALTER TABLE tenancy.plan_price ENABLE ALWAYS TRIGGER registry_changed;

INSERT INTO tenancy.plan (id, name, tier, kind, family, features, limits, support, sla, created_at, shipped) VALUES
    ('starter', 'Starter', 'starter', 'plan', 'default', '{}',
     '{"max_users": 10, "max_entities": 100, "max_plugins": 5, "storage_limit_gb": 5, "api_calls_per_month": 10000, "custom_domains": 0, "retention_days": 30}',
     '{}', '{}', now(), true),
    ('professional', 'Professional', 'professional', 'plan', 'default', '{}',
     '{"max_users": 50, "max_entities": 1000, "max_plugins": 20, "storage_limit_gb": 50, "api_calls_per_month": 100000, "custom_domains": 1, "retention_days": 90}',
     '{}', '{}', now(), true),
    ('enterprise', 'Enterprise', 'enterprise', 'plan', 'default', '{}',
     '{"max_users": -1, "max_entities": -1, "max_plugins": -1, "storage_limit_gb": -1, "api_calls_per_month": -1, "custom_domains": 5, "retention_days": 365}',
     '{}', '{}', now(), true);
INSERT INTO tenancy.plan_price (plan, version, currency, is_main, billing_period, pricing, valid_from, shipped) VALUES
    ('starter', 1, 'USD', true, 'monthly',
     '{"type": "fixed", "base_price": 29, "currency": "USD", "billing_period": "monthly"}', '-infinity', true),
    ('professional', 1, 'USD', true, 'monthly',
     '{"type": "usage_based", "base_price": 99, "currency": "USD", "billing_period": "monthly", "usage_metrics": [{"name": "additional_users", "metric": "users", "limit": "max_users", "price": 15, "unit": "user"}, {"name": "storage_overage", "metric": "storage", "limit": "storage_limit_gb", "price": 2, "unit": "GB"}]}',
     '-infinity', true),
    ('enterprise', 1, 'USD', true, 'monthly',
     '{"type": "custom", "base_price": 500, "currency": "USD", "billing_period": "monthly"}', '-infinity', true);

/* What was promised stays as it was, whoever asks. */
CREATE FUNCTION tenancy.plan_price_immutable() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_plan_price_immutable'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.plan_price_immutable() IS
'Trigger: refuses changes of versions of prices. Errors: 55000.';
REVOKE ALL ON FUNCTION tenancy.plan_price_immutable() FROM PUBLIC;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.plan_price
    FOR EACH ROW EXECUTE FUNCTION tenancy.plan_price_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.plan_price
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.plan_price_immutable();
ALTER TABLE tenancy.plan_price ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.plan_price ENABLE ALWAYS TRIGGER immutable_all;

ALTER TABLE tenancy.tenant ADD CONSTRAINT tenant_plan_fkey
    FOREIGN KEY (plan) REFERENCES tenancy.plan (id);
