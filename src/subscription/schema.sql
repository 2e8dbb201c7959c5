/* subscription: who sells, who pays, for what, since when. */

CREATE TABLE tenancy.tax_rate (
    id              text NOT NULL,
    name            text NOT NULL,
    percentage      numeric NOT NULL,
    is_inclusive    boolean NOT NULL,
    category        text NOT NULL,
    country         text,
    active          boolean NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT tax_rate_pkey PRIMARY KEY (id),
    CONSTRAINT tax_rate_percentage_check CHECK (percentage >= 0 AND percentage < 1000),
    CONSTRAINT tax_rate_category_check CHECK (category IN ('S', 'Z', 'E', 'AE', 'K', 'G', 'O', 'L', 'M')),
    CONSTRAINT tax_rate_country_check CHECK (country ~ '^[A-Z]{2}$')
);
COMMENT ON TABLE tenancy.tax_rate IS
'Rates of tax. A rate never changes; a new one is made and the old one set inactive. Kept for ever: invoices refer to it.';
COMMENT ON COLUMN tenancy.tax_rate.category IS 'of UNCL5305, as EN 16931 has it: S standard, Z zero, E exempt, AE reverse charge, …';
COMMENT ON COLUMN tenancy.tax_rate.is_inclusive IS 'prices contain the tax';
REVOKE ALL ON tenancy.tax_rate FROM PUBLIC;
GRANT SELECT ON tenancy.tax_rate TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.tax_rate', '');

CREATE TABLE tenancy.legal_entity (
    id                  text NOT NULL,
    name                text NOT NULL,
    address             jsonb NOT NULL,
    country             text,
    tax_id              text,
    email               text,
    bank_account        jsonb NOT NULL,
    invoice_series      text NOT NULL,
    credit_note_series  text NOT NULL,
    number_width        integer NOT NULL,
    tax_rounding        text NOT NULL,
    zero_invoices       text NOT NULL,
    payment_terms_days  integer NOT NULL,
    tax_rates           text[] NOT NULL,
    shipped             boolean NOT NULL,
    CONSTRAINT legal_entity_pkey PRIMARY KEY (id),
    CONSTRAINT legal_entity_invoice_series_key UNIQUE (invoice_series),
    CONSTRAINT legal_entity_credit_note_series_key UNIQUE (credit_note_series),
    CONSTRAINT legal_entity_series_check CHECK (invoice_series <> credit_note_series),
    CONSTRAINT legal_entity_number_width_check CHECK (number_width BETWEEN 1 AND 18),
    CONSTRAINT legal_entity_tax_rounding_check CHECK (tax_rounding IN ('invoice', 'line')),
    CONSTRAINT legal_entity_zero_invoices_check CHECK (zero_invoices IN ('issue', 'skip')),
    CONSTRAINT legal_entity_payment_terms_check CHECK (payment_terms_days BETWEEN 0 AND 3650),
    CONSTRAINT legal_entity_country_check CHECK (country ~ '^[A-Z]{2}$')
);
COMMENT ON TABLE tenancy.legal_entity IS
'Who sells: name and address on invoices, series of numbers, rules of rounding. Kept for ever.';
COMMENT ON COLUMN tenancy.legal_entity.zero_invoices IS 'issue: invoices over nothing get a number; skip: a period of which every line is over nothing is closed without one; what lines or coupons make up for is invoiced';
REVOKE ALL ON tenancy.legal_entity FROM PUBLIC;
GRANT SELECT ON tenancy.legal_entity TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.legal_entity', 'WHERE NOT shipped');

INSERT INTO tenancy.legal_entity (id, name, address, bank_account, invoice_series, credit_note_series, number_width,
    tax_rounding, zero_invoices, payment_terms_days, tax_rates, shipped)
    VALUES ('default', 'Seller', '{}', '{}', 'INV', 'CN', 6, 'line', 'issue', 14, '{}', true);

CREATE TRIGGER replace_shipped BEFORE INSERT ON tenancy.legal_entity
    FOR EACH ROW EXECUTE FUNCTION tenancy.replace_shipped('id');
ALTER TABLE tenancy.legal_entity ENABLE ALWAYS TRIGGER replace_shipped;

CREATE TABLE tenancy.billing_account (
    tenant_id           uuid NOT NULL,
    legal_entity        text NOT NULL,
    name                text,
    email               text,
    address             jsonb NOT NULL,
    country             text,
    tax_id              text,
    tax_treatment       text NOT NULL,
    exemption_reason    text,
    payment_terms_days  integer,
    consolidates        boolean NOT NULL,
    tax_rates           text[],
    dunning_policy      text,
    updated_at          timestamptz NOT NULL,
    CONSTRAINT billing_account_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT billing_account_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT billing_account_legal_entity_fkey FOREIGN KEY (legal_entity) REFERENCES tenancy.legal_entity (id),
    CONSTRAINT billing_account_tax_treatment_check CHECK (tax_treatment IN ('exempt', 'reverse_charge', 'taxed')),
    CONSTRAINT billing_account_exemption_check CHECK ((tax_treatment = 'taxed') = (exemption_reason IS NULL)),
    CONSTRAINT billing_account_payment_terms_check CHECK (payment_terms_days BETWEEN 0 AND 3650),
    CONSTRAINT billing_account_country_check CHECK (country ~ '^[A-Z]{2}$')
);
COMMENT ON TABLE tenancy.billing_account IS
'Who pays for a tenant, as invoices name them, and how. A tenant without a row has the defaults. Kept as long as the tenant.';
COMMENT ON COLUMN tenancy.billing_account.consolidates IS 'what falls due at the same time comes on one invoice a currency';
COMMENT ON COLUMN tenancy.billing_account.tax_rates IS 'before those of the legal entity; null for theirs';
ALTER TABLE tenancy.billing_account ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.billing_account FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.billing_account FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.billing_account FROM PUBLIC;
GRANT SELECT ON tenancy.billing_account TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.billing_account', '');

CREATE TABLE tenancy.coupon (
    code                text NOT NULL,
    name                text NOT NULL,
    kind                text NOT NULL,
    value               numeric NOT NULL,
    currency            text,
    duration            text NOT NULL,
    duration_periods    integer,
    plans               text[],
    metrics             text[],
    valid_from          timestamptz NOT NULL,
    valid_until         timestamptz NOT NULL,
    max_redemptions     integer,
    redemptions         integer NOT NULL,
    created_at          timestamptz NOT NULL,
    CONSTRAINT coupon_pkey PRIMARY KEY (code),
    CONSTRAINT coupon_kind_check CHECK (kind IN ('fixed', 'percent')),
    CONSTRAINT coupon_value_check CHECK (value > 0 AND (kind = 'fixed' OR value <= 100)),
    CONSTRAINT coupon_currency_check CHECK ((kind = 'fixed') = (currency IS NOT NULL)),
    CONSTRAINT coupon_duration_check CHECK (duration IN ('forever', 'once', 'repeating')),
    CONSTRAINT coupon_duration_periods_check CHECK ((duration = 'repeating') = (duration_periods IS NOT NULL)),
    CONSTRAINT coupon_redemptions_check CHECK (redemptions >= 0 AND redemptions <= coalesce(max_redemptions, redemptions))
);
COMMENT ON TABLE tenancy.coupon IS
'Discounts that tenants can be given. Kept for ever: invoices refer to them.';
COMMENT ON COLUMN tenancy.coupon.duration IS 'once: until used up, on the first invoice that it can reduce; repeating: on so many invoices; forever';
COMMENT ON COLUMN tenancy.coupon.plans IS 'the plans whose lines it reduces; null for all';
COMMENT ON COLUMN tenancy.coupon.metrics IS 'the metrics whose lines it reduces; null for all lines';
REVOKE ALL ON tenancy.coupon FROM PUBLIC;
GRANT SELECT ON tenancy.coupon TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.coupon', '');

CREATE TABLE tenancy.subscription (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    plan            text NOT NULL,
    price_version   integer NOT NULL,
    family          text NOT NULL,
    currency        text NOT NULL,
    billing_period  text NOT NULL,
    state           text NOT NULL,
    time_zone       text NOT NULL,
    starts_at       timestamptz NOT NULL,
    anchor          timestamptz NOT NULL,
    trial_ends_at   timestamptz,
    period_number   integer NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    bills_at        timestamptz,
    has_advance     boolean NOT NULL,
    usage_cutoff    timestamptz NOT NULL DEFAULT 'infinity',
    pause_mode      text,
    paused_at       timestamptz,
    resumes_at      timestamptz,
    ends_at         timestamptz,
    cancelled_at    timestamptz,
    cancel_reason   text,
    created_at      timestamptz NOT NULL,
    CONSTRAINT subscription_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT subscription_price_fkey FOREIGN KEY (plan, price_version, currency) REFERENCES tenancy.plan_price (plan, version, currency),
    CONSTRAINT subscription_state_check CHECK (state IN ('active', 'cancelled', 'ended', 'incomplete', 'past_due', 'paused', 'pending', 'trialing')),
    CONSTRAINT subscription_period_check CHECK (starts_at <= period_start AND period_start < period_end),
    CONSTRAINT subscription_bills_at_check CHECK ((state = 'ended') = (bills_at IS NULL)),
    CONSTRAINT subscription_pause_check CHECK ((state = 'paused') = (paused_at IS NOT NULL) AND (paused_at IS NULL) = (pause_mode IS NULL)),
    CONSTRAINT subscription_pause_mode_check CHECK (pause_mode IN ('draft', 'service', 'uncollectible', 'void')),
    CONSTRAINT subscription_ends_at_check CHECK (ends_at IS NULL OR ends_at >= starts_at)
);
COMMENT ON TABLE tenancy.subscription IS
'Which tenant pays for which plan. Kept for ever: invoices refer to it.';
COMMENT ON COLUMN tenancy.subscription.plan IS 'the plan in force; its history, seats and add-ons are in tenancy.subscription_item';
COMMENT ON COLUMN tenancy.subscription.anchor IS 'all boundaries of periods are counted from it';
COMMENT ON COLUMN tenancy.subscription.period_number IS 'of the open period, whose boundaries are the anchor and so many, and one more, billing periods';
COMMENT ON COLUMN tenancy.subscription.period_start IS 'of the open period; what came before has its invoice';
COMMENT ON COLUMN tenancy.subscription.bills_at IS 'when the next invoice is due: at the end of the open period or of the subscription, or earlier for what is paid in advance';
COMMENT ON COLUMN tenancy.subscription.has_advance IS 'something in it is billed at the start of a period, or once';
COMMENT ON COLUMN tenancy.subscription.usage_cutoff IS 'no usage that was recorded before is missing on its invoices; infinity when it has none';
COMMENT ON COLUMN tenancy.subscription.pause_mode IS 'service: nothing accrues; draft, void, uncollectible: what becomes of the invoices';
CREATE UNIQUE INDEX subscription_live_key ON tenancy.subscription (tenant_id, family) WHERE state <> 'ended';
CREATE INDEX subscription_due_idx ON tenancy.subscription (bills_at) WHERE bills_at IS NOT NULL;
CREATE INDEX subscription_ended_idx ON tenancy.subscription (tenant_id) WHERE state = 'ended';
CREATE INDEX subscription_resumes_idx ON tenancy.subscription (resumes_at) WHERE state = 'paused';
ALTER TABLE tenancy.subscription ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.subscription FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.subscription FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.subscription FROM PUBLIC;
GRANT SELECT ON tenancy.subscription TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.subscription', '');

CREATE TABLE tenancy.subscription_item (
    id              uuid NOT NULL,
    line            uuid NOT NULL,
    subscription_id uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    is_addon        boolean NOT NULL,
    plan            text NOT NULL,
    price_version   integer NOT NULL,
    currency        text NOT NULL,
    quantity        numeric NOT NULL,
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    superseded_at   timestamptz NOT NULL,
    reason          text,
    CONSTRAINT subscription_item_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_item_subscription_fkey FOREIGN KEY (subscription_id) REFERENCES tenancy.subscription (id),
    CONSTRAINT subscription_item_price_fkey FOREIGN KEY (plan, price_version, currency) REFERENCES tenancy.plan_price (plan, version, currency),
    CONSTRAINT subscription_item_quantity_check CHECK (quantity >= 0),
    CONSTRAINT subscription_item_time_check CHECK (starts_at < ends_at),
    CONSTRAINT subscription_item_known_check CHECK (recorded_at <= superseded_at)
);
COMMENT ON TABLE tenancy.subscription_item IS
'What a subscription consists of, with two times: in force from starts_at to ends_at, as was known from recorded_at to superseded_at. Kept for ever.';
COMMENT ON COLUMN tenancy.subscription_item.line IS 'the same for one plan or add-on from its first day to its last, whatever becomes of its quantity';
COMMENT ON COLUMN tenancy.subscription_item.quantity IS 'seats, or how many of an add-on';
COMMENT ON COLUMN tenancy.subscription_item.ends_at IS 'infinity where no end is known';
COMMENT ON COLUMN tenancy.subscription_item.superseded_at IS 'infinity for what is known now';
CREATE INDEX subscription_item_subscription_idx ON tenancy.subscription_item (subscription_id, starts_at) WHERE superseded_at = 'infinity';
ALTER TABLE tenancy.subscription_item ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.subscription_item FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.subscription_item FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.subscription_item FROM PUBLIC;
GRANT SELECT ON tenancy.subscription_item TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.subscription_item', '');

CREATE TABLE tenancy.coupon_redemption (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    coupon          text NOT NULL,
    applied_at      timestamptz NOT NULL,
    periods_left    integer,
    amount_left     numeric,
    state           text NOT NULL,
    CONSTRAINT coupon_redemption_pkey PRIMARY KEY (id),
    CONSTRAINT coupon_redemption_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT coupon_redemption_coupon_fkey FOREIGN KEY (coupon) REFERENCES tenancy.coupon (code),
    CONSTRAINT coupon_redemption_state_check CHECK (state IN ('active', 'revoked', 'used_up')),
    CONSTRAINT coupon_redemption_left_check CHECK (periods_left >= 0 AND amount_left >= 0)
);
COMMENT ON TABLE tenancy.coupon_redemption IS
'Which tenant has which coupon, and what is left of it. Kept for ever.';
COMMENT ON COLUMN tenancy.coupon_redemption.amount_left IS 'of a fixed amount that is given once: what invoices have not used';
CREATE UNIQUE INDEX coupon_redemption_active_key ON tenancy.coupon_redemption (tenant_id, coupon) WHERE state = 'active';
ALTER TABLE tenancy.coupon_redemption ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.coupon_redemption FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.coupon_redemption FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.coupon_redemption FROM PUBLIC;
GRANT SELECT ON tenancy.coupon_redemption TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.coupon_redemption', '');
