/* payment: providers, payments, refunds, dunning. */

CREATE TABLE tenancy.payment_provider (
    id              text NOT NULL,
    scheme          text NOT NULL,
    created_at      timestamptz NOT NULL,
    shipped         boolean NOT NULL,
    CONSTRAINT payment_provider_pkey PRIMARY KEY (id),
    CONSTRAINT payment_provider_id_check CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT payment_provider_scheme_check CHECK (scheme IN ('manual', 'standard', 'stripe'))
);
COMMENT ON TABLE tenancy.payment_provider IS
'Who collects money. Kept for ever: payments refer to it.';
COMMENT ON COLUMN tenancy.payment_provider.scheme IS 'how it tells of payments: manual, by payment_record(); stripe, standard: by webhooks signed so';
REVOKE ALL ON tenancy.payment_provider FROM PUBLIC;
GRANT SELECT ON tenancy.payment_provider TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.payment_provider', 'WHERE NOT shipped');

INSERT INTO tenancy.payment_provider (id, scheme, created_at, shipped) VALUES ('manual', 'manual', now(), true);

CREATE TABLE tenancy.payment_provider_secret (
    id              uuid NOT NULL,
    provider        text NOT NULL,
    secret          text NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    CONSTRAINT payment_provider_secret_pkey PRIMARY KEY (id),
    CONSTRAINT payment_provider_secret_provider_fkey FOREIGN KEY (provider) REFERENCES tenancy.payment_provider (id)
);
COMMENT ON TABLE tenancy.payment_provider_secret IS
'The secrets that providers sign webhooks with. Nobody but the library reads them; set them again after a restore. Kept until replaced. Not dumped.';
CREATE INDEX payment_provider_secret_provider_idx ON tenancy.payment_provider_secret (provider);
REVOKE ALL ON tenancy.payment_provider_secret FROM PUBLIC;

CREATE TABLE tenancy.payment_method (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    provider        text NOT NULL,
    token           text NOT NULL,
    details         jsonb NOT NULL,
    is_default      boolean NOT NULL,
    created_at      timestamptz NOT NULL,
    removed_at      timestamptz,
    CONSTRAINT payment_method_pkey PRIMARY KEY (id),
    CONSTRAINT payment_method_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT payment_method_provider_fkey FOREIGN KEY (provider) REFERENCES tenancy.payment_provider (id),
    CONSTRAINT payment_method_default_check CHECK (NOT (is_default AND removed_at IS NOT NULL))
);
COMMENT ON TABLE tenancy.payment_method IS
'How tenants pay: the token that a provider knows, and what may be shown of it; no data of cards. Kept for ever: payments refer to it.';
CREATE UNIQUE INDEX payment_method_default_key ON tenancy.payment_method (tenant_id) WHERE is_default;
CREATE UNIQUE INDEX payment_method_token_key ON tenancy.payment_method (tenant_id, provider, token) WHERE removed_at IS NULL;
ALTER TABLE tenancy.payment_method ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.payment_method FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.payment_method FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.payment_method FROM PUBLIC;
GRANT SELECT ON tenancy.payment_method TO tenancy_admin, tenancy_auditor;
GRANT SELECT (id, tenant_id, provider, details, is_default, created_at, removed_at) ON tenancy.payment_method TO tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.payment_method', '');

CREATE TABLE tenancy.payment (
    id                  uuid NOT NULL,
    tenant_id           uuid NOT NULL,
    legal_entity        text NOT NULL,
    invoice_id          uuid,
    payment_method_id   uuid,
    provider            text NOT NULL,
    provider_reference  text,
    currency            text NOT NULL,
    amount              numeric NOT NULL,
    state               text NOT NULL,
    captured            numeric NOT NULL DEFAULT 0,
    refunded            numeric NOT NULL DEFAULT 0,
    returned            numeric NOT NULL DEFAULT 0,
    disputed            numeric NOT NULL DEFAULT 0,
    dispute_state       text NOT NULL DEFAULT 'none',
    attempt             integer NOT NULL,
    failure_code        text,
    failure_message     text,
    failed_at           timestamptz,
    requested_at        timestamptz NOT NULL,
    changed_at          timestamptz NOT NULL,
    CONSTRAINT payment_pkey PRIMARY KEY (id),
    CONSTRAINT payment_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT payment_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT payment_method_fkey FOREIGN KEY (payment_method_id) REFERENCES tenancy.payment_method (id),
    CONSTRAINT payment_provider_fkey FOREIGN KEY (provider) REFERENCES tenancy.payment_provider (id),
    CONSTRAINT payment_state_check CHECK (state IN ('requested', 'processing', 'unknown', 'succeeded', 'failed', 'refunded', 'disputed')),
    CONSTRAINT payment_dispute_check CHECK (dispute_state IN ('none', 'open', 'won', 'lost')),
    CONSTRAINT payment_amount_check CHECK (amount > 0),
    CONSTRAINT payment_captured_check CHECK (captured >= 0),
    CONSTRAINT payment_refunded_check CHECK (refunded >= 0 AND refunded <= captured),
    CONSTRAINT payment_disputed_check CHECK (disputed >= 0 AND disputed <= captured AND (disputed > 0 OR dispute_state = 'none')),
    CONSTRAINT payment_failure_check CHECK (state <> 'failed' OR failure_code IS NOT NULL)
);
COMMENT ON TABLE tenancy.payment IS
'Attempts to collect money, and what came of them. Kept for ever.';
COMMENT ON COLUMN tenancy.payment.invoice_id IS 'what it was asked for; where the money went is in tenancy.payment_allocation';
COMMENT ON COLUMN tenancy.payment.state IS 'unknown: nobody can say whether money moved, so nobody tries again';
COMMENT ON COLUMN tenancy.payment.captured IS 'what came in; more than amount where somebody paid too much';
COMMENT ON COLUMN tenancy.payment.refunded IS 'what went back and stayed there';
COMMENT ON COLUMN tenancy.payment.returned IS 'what came back of refunds that the provider had made';
COMMENT ON COLUMN tenancy.payment.attempt IS 'of the invoice, from 1';
COMMENT ON COLUMN tenancy.payment.failure_code IS 'of the provider, of the last failure, failed_at; stays where it succeeded all the same';
CREATE UNIQUE INDEX payment_reference_key ON tenancy.payment (provider, provider_reference);
CREATE UNIQUE INDEX payment_live_key ON tenancy.payment (invoice_id) WHERE state IN ('requested', 'processing', 'unknown');
CREATE INDEX payment_invoice_idx ON tenancy.payment (invoice_id);
CREATE INDEX payment_tenant_idx ON tenancy.payment (tenant_id, requested_at);
ALTER TABLE tenancy.payment ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.payment FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.payment FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.payment FROM PUBLIC;
GRANT SELECT ON tenancy.payment TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.payment', '');

CREATE TABLE tenancy.payment_allocation (
    id              uuid NOT NULL,
    payment_id      uuid NOT NULL,
    invoice_id      uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    amount          numeric NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT payment_allocation_pkey PRIMARY KEY (id),
    CONSTRAINT payment_allocation_payment_fkey FOREIGN KEY (payment_id) REFERENCES tenancy.payment (id),
    CONSTRAINT payment_allocation_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT payment_allocation_amount_check CHECK (amount <> 0)
);
COMMENT ON TABLE tenancy.payment_allocation IS
'Which invoices the money of a payment went to; negative where a refund or a dispute took it back. Never changed. Kept for ever.';
CREATE INDEX payment_allocation_payment_idx ON tenancy.payment_allocation (payment_id);
CREATE INDEX payment_allocation_invoice_idx ON tenancy.payment_allocation (invoice_id);
ALTER TABLE tenancy.payment_allocation ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.payment_allocation FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.payment_allocation FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.payment_allocation FROM PUBLIC;
GRANT SELECT ON tenancy.payment_allocation TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.payment_allocation', '');

CREATE TABLE tenancy.refund (
    id                  uuid NOT NULL,
    payment_id          uuid NOT NULL,
    tenant_id           uuid NOT NULL,
    credit_note_id      uuid,
    currency            text NOT NULL,
    amount              numeric NOT NULL,
    state               text NOT NULL,
    reason              text,
    failure_code        text,
    provider_reference  text,
    requested_at        timestamptz NOT NULL,
    changed_at          timestamptz NOT NULL,
    CONSTRAINT refund_pkey PRIMARY KEY (id),
    CONSTRAINT refund_payment_fkey FOREIGN KEY (payment_id) REFERENCES tenancy.payment (id),
    CONSTRAINT refund_state_check CHECK (state IN ('requested', 'processing', 'unknown', 'succeeded', 'failed')),
    CONSTRAINT refund_amount_check CHECK (amount > 0)
);
COMMENT ON TABLE tenancy.refund IS
'Money that went back. Kept for ever.';
COMMENT ON COLUMN tenancy.refund.credit_note_id IS 'whose rest it pays out; null where the invoice is due again, or an overpayment goes back';
CREATE INDEX refund_payment_idx ON tenancy.refund (payment_id);
ALTER TABLE tenancy.refund ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.refund FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.refund FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.refund FROM PUBLIC;
GRANT SELECT ON tenancy.refund TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.refund', '');

CREATE TABLE tenancy.payment_event (
    provider        text NOT NULL,
    event_id        text NOT NULL,
    type            text NOT NULL,
    payment_id      uuid,
    outcome         text NOT NULL,
    facts           jsonb NOT NULL,
    received_at     timestamptz NOT NULL,
    CONSTRAINT payment_event_pkey PRIMARY KEY (provider, event_id),
    CONSTRAINT payment_event_provider_fkey FOREIGN KEY (provider) REFERENCES tenancy.payment_provider (id),
    CONSTRAINT payment_event_payment_fkey FOREIGN KEY (payment_id) REFERENCES tenancy.payment (id),
    CONSTRAINT payment_event_outcome_check CHECK (outcome IN ('applied', 'stale', 'ignored', 'unmatched'))
);
COMMENT ON TABLE tenancy.payment_event IS
'Webhooks of providers, each once. Kept for ever.';
COMMENT ON COLUMN tenancy.payment_event.outcome IS 'applied: it changed something; stale: what it tells was known, or overtaken; ignored: of a type that concerns no payment; unmatched: of a payment that is not ours';
COMMENT ON COLUMN tenancy.payment_event.facts IS 'what was understood of it';
CREATE INDEX payment_event_payment_idx ON tenancy.payment_event (payment_id);
REVOKE ALL ON tenancy.payment_event FROM PUBLIC;
GRANT SELECT ON tenancy.payment_event TO tenancy_admin, tenancy_app, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.payment_event', '');

CREATE TABLE tenancy.dunning_policy (
    id              text NOT NULL,
    policy          jsonb NOT NULL,
    first_attempt   text,
    first_days      integer NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT dunning_policy_pkey PRIMARY KEY (id),
    CONSTRAINT dunning_policy_id_check CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT dunning_policy_first_attempt_check CHECK (first_attempt IN ('due', 'issue'))
);
COMMENT ON TABLE tenancy.dunning_policy IS
'What is done where invoices are not paid; the one called default is for tenants without another. Kept until set otherwise.';
COMMENT ON COLUMN tenancy.dunning_policy.first_days IS 'from the due date to the first thing to be done';
REVOKE ALL ON tenancy.dunning_policy FROM PUBLIC;
GRANT SELECT ON tenancy.dunning_policy TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.dunning_policy', '');

ALTER TABLE tenancy.billing_account ADD CONSTRAINT billing_account_dunning_policy_fkey
    FOREIGN KEY (dunning_policy) REFERENCES tenancy.dunning_policy (id);

CREATE TABLE tenancy.dunning (
    invoice_id      uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    policy          text NOT NULL,
    state           text NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    first_failed_at timestamptz,
    failure_code    text,
    next_retry_at   timestamptz,
    past_due_at     timestamptz,
    suspended_at    timestamptz,
    cancelled_at    timestamptz,
    next_at         timestamptz,
    error           text,
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT dunning_pkey PRIMARY KEY (invoice_id),
    CONSTRAINT dunning_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT dunning_policy_fkey FOREIGN KEY (policy) REFERENCES tenancy.dunning_policy (id),
    CONSTRAINT dunning_state_check CHECK (state IN ('active', 'settled', 'abandoned')),
    CONSTRAINT dunning_next_at_check CHECK ((state = 'active') = (next_at IS NOT NULL)),
    CONSTRAINT dunning_ended_at_check CHECK ((state = 'active') = (ended_at IS NULL))
);
COMMENT ON TABLE tenancy.dunning IS
'What is being done about each invoice that is open, under a policy. Kept for ever.';
COMMENT ON COLUMN tenancy.dunning.attempts IS 'that have failed: of payments, not of what was heard of them';
COMMENT ON COLUMN tenancy.dunning.next_at IS 'when the next thing is to be done; infinity where nothing is';
COMMENT ON COLUMN tenancy.dunning.error IS 'why the last run could not do it; the next one tries again';
CREATE INDEX dunning_next_at_idx ON tenancy.dunning (next_at) WHERE state = 'active';
CREATE INDEX dunning_tenant_idx ON tenancy.dunning (tenant_id) WHERE state = 'active';
ALTER TABLE tenancy.dunning ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.dunning FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.dunning FROM PUBLIC;
GRANT SELECT ON tenancy.dunning TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.dunning', '');

CREATE TABLE tenancy.dunning_reminder (
    invoice_id      uuid NOT NULL,
    kind            text NOT NULL,
    step            integer NOT NULL,
    tenant_id       uuid NOT NULL,
    subject         text NOT NULL,
    body            text NOT NULL,
    event_id        uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT dunning_reminder_pkey PRIMARY KEY (invoice_id, kind, step),
    CONSTRAINT dunning_reminder_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT dunning_reminder_kind_check CHECK (kind IN ('due', 'failed', 'suspended', 'cancelled', 'asked'))
);
COMMENT ON TABLE tenancy.dunning_reminder IS
'The reminders that were given to the outbox, each once. Kept for ever.';
COMMENT ON COLUMN tenancy.dunning_reminder.step IS 'due: days from the due date; failed: how many attempts; asked, by payment_remind(): days from the due date';
ALTER TABLE tenancy.dunning_reminder ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.dunning_reminder FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.dunning_reminder FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.dunning_reminder FROM PUBLIC;
GRANT SELECT ON tenancy.dunning_reminder TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.dunning_reminder', '');

CREATE TABLE tenancy.dunning_campaign (
    tenant_id       uuid NOT NULL,
    currency        text NOT NULL,
    attempts        integer NOT NULL,
    overdue         numeric NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    CONSTRAINT dunning_campaign_pkey PRIMARY KEY (tenant_id, currency),
    CONSTRAINT dunning_campaign_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT dunning_campaign_attempts_check CHECK (attempts > 0)
);
COMMENT ON TABLE tenancy.dunning_campaign IS
'How often each tenant was asked to pay all that is overdue in a currency. Kept until nothing is.';
ALTER TABLE tenancy.dunning_campaign ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.dunning_campaign FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.dunning_campaign FROM PUBLIC;
GRANT SELECT ON tenancy.dunning_campaign TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.dunning_campaign', '');

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.payment_allocation
    FOR EACH ROW EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.payment_allocation
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_immutable();
ALTER TABLE tenancy.payment_allocation ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.payment_allocation ENABLE ALWAYS TRIGGER immutable_all;

