/* billing: subscriptions and invoices. */

CREATE TABLE tenancy.subscription (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    plan            text NOT NULL,
    price_version   integer NOT NULL,
    currency        text NOT NULL,
    state           text NOT NULL,
    time_zone       text NOT NULL,
    starts_at       timestamptz NOT NULL,
    next_period     integer NOT NULL,
    ends_at         timestamptz,
    cancelled_at    timestamptz,
    cancel_reason   text,
    created_at      timestamptz NOT NULL,
    CONSTRAINT subscription_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT subscription_price_fkey FOREIGN KEY (plan, price_version, currency)
        REFERENCES tenancy.plan_price (plan, version, currency),
    CONSTRAINT subscription_state_check CHECK (state IN ('active', 'cancelled', 'ended')),
    CONSTRAINT subscription_next_period_check CHECK (next_period >= 0),
    CONSTRAINT subscription_ends_at_check CHECK (ends_at IS NULL OR ends_at >= starts_at)
);
COMMENT ON TABLE tenancy.subscription IS
'Which tenant pays for which plan. Kept for ever: invoices refer to it.';
COMMENT ON COLUMN tenancy.subscription.starts_at IS 'the anchor: all periods are counted from it';
COMMENT ON COLUMN tenancy.subscription.next_period IS 'number of the first period without an invoice, from 0';
CREATE UNIQUE INDEX subscription_live_key ON tenancy.subscription (tenant_id) WHERE state <> 'ended';
ALTER TABLE tenancy.subscription ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.subscription FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.subscription FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.subscription FROM PUBLIC;
GRANT SELECT ON tenancy.subscription TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.subscription', '');

CREATE TABLE tenancy.invoice (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    subscription_id uuid NOT NULL,
    number          text,
    state           text NOT NULL,
    state_reason    text,
    period_number   integer NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    currency        text NOT NULL,
    line_count      integer NOT NULL,
    total           numeric NOT NULL,
    issued_at       timestamptz,
    due_at          timestamptz,
    paid_at         timestamptz,
    created_at      timestamptz NOT NULL,
    CONSTRAINT invoice_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_number_key UNIQUE (number),
    CONSTRAINT invoice_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT invoice_subscription_fkey FOREIGN KEY (subscription_id) REFERENCES tenancy.subscription (id),
    CONSTRAINT invoice_state_check CHECK (state IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
    CONSTRAINT invoice_period_check CHECK (period_start < period_end),
    CONSTRAINT invoice_period_number_check CHECK (period_number >= 0),
    CONSTRAINT invoice_number_check CHECK ((state = 'draft') = (number IS NULL))
);
COMMENT ON TABLE tenancy.invoice IS
'What was billed. From finalization on nobody can change more than its state. Kept for ever.';
COMMENT ON COLUMN tenancy.invoice.period_number IS 'of the subscription, from 0';
COMMENT ON COLUMN tenancy.invoice.number IS 'given on finalization, without gaps';
CREATE UNIQUE INDEX invoice_period_key ON tenancy.invoice (subscription_id, period_start) WHERE state <> 'void';
CREATE INDEX invoice_tenant_idx ON tenancy.invoice (tenant_id, period_start);
ALTER TABLE tenancy.invoice ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice FROM PUBLIC;
GRANT SELECT ON tenancy.invoice TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice', '');

CREATE TABLE tenancy.invoice_line (
    invoice_id      uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    description     text NOT NULL,
    metric          text,
    quantity        numeric NOT NULL,
    unit            text,
    unit_price      numeric,
    amount          numeric NOT NULL,
    trace           jsonb NOT NULL,
    CONSTRAINT invoice_line_pkey PRIMARY KEY (invoice_id, position),
    CONSTRAINT invoice_line_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT invoice_line_position_check CHECK (position > 0)
);
COMMENT ON TABLE tenancy.invoice_line IS
'The lines of invoices; trace holds what each was computed from. Kept as long as the invoice.';
ALTER TABLE tenancy.invoice_line ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice_line FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice_line FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice_line FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_line TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_line', '');

CREATE TABLE tenancy.invoice_series (
    name            text NOT NULL,
    next_number     bigint NOT NULL,
    CONSTRAINT invoice_series_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE tenancy.invoice_series IS
'The next number of each series of invoices: a row and no sequence, so that a rollback leaves no gap. Kept for ever.';
REVOKE ALL ON tenancy.invoice_series FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_series TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_series', '');

CREATE TABLE tenancy.billing_failure (
    id              uuid NOT NULL,
    subscription_id uuid NOT NULL,
    failed_at       timestamptz NOT NULL,
    sqlstate        text NOT NULL,
    error           text NOT NULL,
    CONSTRAINT billing_failure_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE tenancy.billing_failure IS
'Subscriptions that a billing run could not bill, and why; the next run tries them again. Kept for ever.';
REVOKE ALL ON tenancy.billing_failure FROM PUBLIC;
GRANT SELECT ON tenancy.billing_failure TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.billing_failure', '');

/* What was issued stays as it was, whoever asks. */
CREATE FUNCTION tenancy.immutable_row() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_immutable_row'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.immutable_row() IS
'Trigger: refuses changes of invoices and their lines from finalization on.';
REVOKE ALL ON FUNCTION tenancy.immutable_row() FROM PUBLIC;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.invoice
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.invoice_line
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice_line
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.invoice ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice ENABLE ALWAYS TRIGGER immutable_all;
ALTER TABLE tenancy.invoice_line ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice_line ENABLE ALWAYS TRIGGER immutable_all;

