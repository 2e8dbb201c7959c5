/* billing: invoices, credit notes, and what they are made from. */

CREATE TABLE tenancy.invoice (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    legal_entity    text NOT NULL,
    subscription_id uuid,
    purpose         text NOT NULL,
    number          text,
    state           text NOT NULL,
    state_reason    text,
    period_number   integer,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    currency        text NOT NULL,
    line_count      integer NOT NULL,
    tax_count       integer NOT NULL,
    discount_count  integer NOT NULL,
    subtotal        numeric NOT NULL,
    discount        numeric NOT NULL,
    tax             numeric NOT NULL,
    inclusive_tax   numeric NOT NULL,
    total           numeric NOT NULL,
    deferred        numeric NOT NULL,
    amount_applied  numeric NOT NULL DEFAULT 0,
    amount_credited numeric NOT NULL DEFAULT 0,
    amount_paid     numeric NOT NULL DEFAULT 0,
    amount_due      numeric NOT NULL GENERATED ALWAYS AS (total - amount_applied - amount_credited - amount_paid) STORED,
    usage_cutoff    timestamptz NOT NULL,
    payment_terms_days integer NOT NULL,
    seller          jsonb,
    customer        jsonb,
    issued_at       timestamptz,
    due_at          timestamptz,
    paid_at         timestamptz,
    created_at      timestamptz NOT NULL,
    replaces        uuid,
    CONSTRAINT invoice_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_number_key UNIQUE (number),
    CONSTRAINT invoice_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT invoice_legal_entity_fkey FOREIGN KEY (legal_entity) REFERENCES tenancy.legal_entity (id),
    CONSTRAINT invoice_subscription_fkey FOREIGN KEY (subscription_id) REFERENCES tenancy.subscription (id),
    CONSTRAINT invoice_purpose_check CHECK (purpose IN ('change', 'cycle', 'late', 'manual')),
    CONSTRAINT invoice_state_check CHECK (state IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
    CONSTRAINT invoice_period_check CHECK (period_start <= period_end),
    CONSTRAINT invoice_total_check CHECK (total = subtotal - discount + tax),
    CONSTRAINT invoice_number_check CHECK ((state = 'draft') = (number IS NULL))
);
COMMENT ON TABLE tenancy.invoice IS
'What was billed. From finalization on nobody can change more than its state and what was paid. Kept for ever.';
COMMENT ON COLUMN tenancy.invoice.subscription_id IS 'null for an invoice of several subscriptions, or of none';
COMMENT ON COLUMN tenancy.invoice.purpose IS 'cycle: a period has ended; change: what a change within a period costs, or what is due at its start; late: usage that became known after a subscription had ended; manual: none of these';
COMMENT ON COLUMN tenancy.invoice.period_number IS 'of the subscription; 0 begins at its anchor';
COMMENT ON COLUMN tenancy.invoice.number IS 'given on finalization, without gaps in each series';
COMMENT ON COLUMN tenancy.invoice.subtotal IS 'the sum of the amounts of the lines';
COMMENT ON COLUMN tenancy.invoice.tax IS 'tax on top; what prices include is in tenancy.invoice_tax';
COMMENT ON COLUMN tenancy.invoice.amount_applied IS 'paid from the credit of the tenant; negative where the invoice added to it';
COMMENT ON COLUMN tenancy.invoice.replaces IS 'the void invoice that it bills anew; until there is one, runs leave alone what a void invoice billed';
COMMENT ON COLUMN tenancy.invoice.usage_cutoff IS 'no usage that was recorded before is missing in it';
COMMENT ON COLUMN tenancy.invoice.seller IS 'the legal entity as it was on finalization';
COMMENT ON COLUMN tenancy.invoice.customer IS 'the billing account as it was on finalization';
CREATE UNIQUE INDEX invoice_period_key ON tenancy.invoice (subscription_id, period_start) WHERE state <> 'void' AND purpose = 'cycle';
CREATE UNIQUE INDEX invoice_replaces_key ON tenancy.invoice (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX invoice_tenant_idx ON tenancy.invoice (tenant_id, period_start);
CREATE INDEX invoice_due_idx ON tenancy.invoice (due_at) WHERE state = 'open';
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
    subscription_id uuid,
    item_line       uuid,
    plan            text,
    price_version   integer,
    charge          text,
    kind            text NOT NULL,
    description     text NOT NULL,
    metric          text,
    quantity        numeric NOT NULL,
    unit            text,
    unit_price      numeric,
    amount          numeric NOT NULL,
    discount        numeric NOT NULL,
    tax             numeric NOT NULL,
    net             numeric NOT NULL,
    tax_rates       text[] NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    corrects        uuid,
    corrects_position integer,
    trace           jsonb NOT NULL,
    CONSTRAINT invoice_line_pkey PRIMARY KEY (invoice_id, position),
    CONSTRAINT invoice_line_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT invoice_line_kind_check CHECK (kind IN ('advance', 'credit', 'late', 'manual', 'maximum', 'minimum', 'one_off', 'recurring', 'usage')),
    CONSTRAINT invoice_line_position_check CHECK (position > 0)
);
COMMENT ON TABLE tenancy.invoice_line IS
'The lines of invoices; trace holds what each was computed from. Kept as long as the invoice.';
COMMENT ON COLUMN tenancy.invoice_line.kind IS 'advance, recurring, usage, one_off: a charge of the plan; credit: what was billed in advance and is not used; late: usage that came after its invoice; minimum, maximum: what was agreed a period';
COMMENT ON COLUMN tenancy.invoice_line.tax IS 'on top of the amount';
COMMENT ON COLUMN tenancy.invoice_line.net IS 'the amount less discounts and the taxes that it contains: what is earned';
COMMENT ON COLUMN tenancy.invoice_line.corrects IS 'of a credit: the invoice whose line it takes back in part';
CREATE INDEX invoice_line_subscription_idx ON tenancy.invoice_line (subscription_id, period_end)
    WHERE kind IN ('advance', 'credit', 'one_off');
CREATE INDEX invoice_line_corrects_idx ON tenancy.invoice_line (corrects, corrects_position) WHERE corrects IS NOT NULL;
ALTER TABLE tenancy.invoice_line ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice_line FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice_line FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice_line FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_line TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_line', '');

CREATE TABLE tenancy.invoice_tax (
    invoice_id      uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    tax_rate        text,
    name            text NOT NULL,
    percentage      numeric NOT NULL,
    category        text NOT NULL,
    is_inclusive    boolean NOT NULL,
    reason          text,
    base            numeric NOT NULL,
    amount          numeric NOT NULL,
    CONSTRAINT invoice_tax_pkey PRIMARY KEY (invoice_id, position),
    CONSTRAINT invoice_tax_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id)
);
COMMENT ON TABLE tenancy.invoice_tax IS
'The taxes of invoices by rate. Kept as long as the invoice.';
COMMENT ON COLUMN tenancy.invoice_tax.reason IS 'why none is due: exemption or reverse charge';
COMMENT ON COLUMN tenancy.invoice_tax.base IS 'the net amount that was taxed';
ALTER TABLE tenancy.invoice_tax ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice_tax FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice_tax FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice_tax FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_tax TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_tax', '');

CREATE TABLE tenancy.invoice_discount (
    invoice_id      uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    redemption_id   uuid,
    coupon          text,
    description     text NOT NULL,
    amount          numeric NOT NULL,
    CONSTRAINT invoice_discount_pkey PRIMARY KEY (invoice_id, position),
    CONSTRAINT invoice_discount_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT invoice_discount_redemption_fkey FOREIGN KEY (redemption_id) REFERENCES tenancy.coupon_redemption (id)
);
COMMENT ON TABLE tenancy.invoice_discount IS
'What each coupon, or an agreed maximum, took off an invoice. Kept as long as the invoice.';
ALTER TABLE tenancy.invoice_discount ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice_discount FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice_discount FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice_discount FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_discount TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_discount', '');

CREATE TABLE tenancy.invoice_item (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    currency        text NOT NULL,
    description     text NOT NULL,
    quantity        numeric NOT NULL,
    unit_price      numeric NOT NULL,
    tax_rates       text[],
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    invoice_id      uuid,
    void_invoice_id uuid,
    created_at      timestamptz NOT NULL,
    CONSTRAINT invoice_item_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_item_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT invoice_item_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT invoice_item_period_check CHECK (period_start <= period_end)
);
COMMENT ON TABLE tenancy.invoice_item IS
'What is to be billed once, besides subscriptions: it comes on the next invoice of the tenant in its currency. Kept for ever.';
COMMENT ON COLUMN tenancy.invoice_item.void_invoice_id IS 'the last one that it was on and that became void';
CREATE INDEX invoice_item_void_idx ON tenancy.invoice_item (void_invoice_id) WHERE void_invoice_id IS NOT NULL;
CREATE INDEX invoice_item_open_idx ON tenancy.invoice_item (tenant_id) WHERE invoice_id IS NULL;
ALTER TABLE tenancy.invoice_item ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.invoice_item FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.invoice_item FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.invoice_item FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_item TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_item', '');

CREATE TABLE tenancy.credit_note (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    legal_entity    text NOT NULL,
    invoice_id      uuid NOT NULL,
    number          text NOT NULL,
    reason          text NOT NULL,
    currency        text NOT NULL,
    line_count      integer NOT NULL,
    tax_count       integer NOT NULL,
    subtotal        numeric NOT NULL,
    discount        numeric NOT NULL,
    tax             numeric NOT NULL,
    inclusive_tax   numeric NOT NULL,
    total           numeric NOT NULL,
    deferred        numeric NOT NULL,
    amount_off_due  numeric NOT NULL,
    amount_to_credit numeric NOT NULL,
    amount_to_refund numeric NOT NULL,
    seller          jsonb NOT NULL,
    customer        jsonb NOT NULL,
    issued_at       timestamptz NOT NULL,
    CONSTRAINT credit_note_pkey PRIMARY KEY (id),
    CONSTRAINT credit_note_number_key UNIQUE (number),
    CONSTRAINT credit_note_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT credit_note_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id),
    CONSTRAINT credit_note_total_check CHECK (total > 0 AND total = subtotal - discount + tax),
    CONSTRAINT credit_note_use_check CHECK (total = amount_off_due + amount_to_credit + amount_to_refund),
    CONSTRAINT credit_note_uses_check CHECK (amount_off_due >= 0 AND amount_to_credit >= 0 AND amount_to_refund >= 0)
);
COMMENT ON TABLE tenancy.credit_note IS
'What was taken back of an invoice. Never changed. Kept for ever.';
COMMENT ON COLUMN tenancy.credit_note.subtotal IS 'the sum of the amounts of the lines, before discounts';
COMMENT ON COLUMN tenancy.credit_note.tax IS 'tax on top; what prices include is in inclusive_tax';
COMMENT ON COLUMN tenancy.credit_note.deferred IS 'net, of what the invoice billed in advance';
COMMENT ON COLUMN tenancy.credit_note.amount_off_due IS 'what the invoice is reduced by';
COMMENT ON COLUMN tenancy.credit_note.amount_to_credit IS 'had been paid and is credit of the tenant now';
COMMENT ON COLUMN tenancy.credit_note.amount_to_refund IS 'had been paid and is to go back: until it has, less than nothing is due of the invoice';
CREATE INDEX credit_note_invoice_idx ON tenancy.credit_note (invoice_id);
ALTER TABLE tenancy.credit_note ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.credit_note FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.credit_note FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.credit_note FROM PUBLIC;
GRANT SELECT ON tenancy.credit_note TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.credit_note', '');

CREATE TABLE tenancy.credit_note_line (
    credit_note_id  uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    invoice_id      uuid NOT NULL,
    invoice_position integer NOT NULL,
    description     text NOT NULL,
    amount          numeric NOT NULL,
    discount        numeric NOT NULL,
    net             numeric NOT NULL,
    CONSTRAINT credit_note_line_pkey PRIMARY KEY (credit_note_id, position),
    CONSTRAINT credit_note_line_credit_note_fkey FOREIGN KEY (credit_note_id) REFERENCES tenancy.credit_note (id),
    CONSTRAINT credit_note_line_invoice_line_fkey FOREIGN KEY (invoice_id, invoice_position) REFERENCES tenancy.invoice_line (invoice_id, position),
    CONSTRAINT credit_note_line_position_check CHECK (position > 0)
);
COMMENT ON TABLE tenancy.credit_note_line IS
'The lines of credit notes: what each takes back of a line of the invoice. Never changed. Kept for ever.';
COMMENT ON COLUMN tenancy.credit_note_line.amount IS 'of the amount of the line of the invoice, before its discount';
COMMENT ON COLUMN tenancy.credit_note_line.net IS 'the amount less discount and the taxes that it contains: what is earned no more';
CREATE INDEX credit_note_line_invoice_idx ON tenancy.credit_note_line (invoice_id, invoice_position);
ALTER TABLE tenancy.credit_note_line ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.credit_note_line FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.credit_note_line FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.credit_note_line FROM PUBLIC;
GRANT SELECT ON tenancy.credit_note_line TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.credit_note_line', '');

CREATE TABLE tenancy.credit_note_tax (
    credit_note_id  uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    invoice_id      uuid NOT NULL,
    invoice_position integer NOT NULL,
    base            numeric NOT NULL,
    amount          numeric NOT NULL,
    CONSTRAINT credit_note_tax_pkey PRIMARY KEY (credit_note_id, position),
    CONSTRAINT credit_note_tax_credit_note_fkey FOREIGN KEY (credit_note_id) REFERENCES tenancy.credit_note (id),
    CONSTRAINT credit_note_tax_invoice_tax_fkey FOREIGN KEY (invoice_id, invoice_position) REFERENCES tenancy.invoice_tax (invoice_id, position),
    CONSTRAINT credit_note_tax_position_check CHECK (position > 0)
);
COMMENT ON TABLE tenancy.credit_note_tax IS
'The taxes of credit notes by rate: what each takes back of a tax of the invoice. Never changed. Kept for ever.';
COMMENT ON COLUMN tenancy.credit_note_tax.base IS 'the net amount whose tax it is';
CREATE INDEX credit_note_tax_invoice_idx ON tenancy.credit_note_tax (invoice_id, invoice_position);
ALTER TABLE tenancy.credit_note_tax ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.credit_note_tax FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.credit_note_tax FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.credit_note_tax FROM PUBLIC;
GRANT SELECT ON tenancy.credit_note_tax TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.credit_note_tax', '');

CREATE TABLE tenancy.invoice_series (
    name            text NOT NULL,
    next_number     bigint NOT NULL,
    CONSTRAINT invoice_series_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE tenancy.invoice_series IS
'The next number of each series of invoices and credit notes: a row and no sequence, so that a rollback leaves no gap. Kept for ever.';
REVOKE ALL ON tenancy.invoice_series FROM PUBLIC;
GRANT SELECT ON tenancy.invoice_series TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.invoice_series', '');

CREATE TABLE tenancy.billing_failure (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    failed_at       timestamptz NOT NULL,
    sqlstate        text NOT NULL,
    error           text NOT NULL,
    CONSTRAINT billing_failure_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE tenancy.billing_failure IS
'Tenants that a billing run could not bill, and why; the next run tries them again. Kept for ever.';
REVOKE ALL ON tenancy.billing_failure FROM PUBLIC;
GRANT SELECT ON tenancy.billing_failure TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.billing_failure', '');

/* What was issued stays as it was, whoever asks. */
CREATE FUNCTION tenancy.immutable_row() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_immutable_row'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.immutable_row() IS
'Trigger: refuses changes of invoices and their parts from finalization on, and of credit notes.';
REVOKE ALL ON FUNCTION tenancy.immutable_row() FROM PUBLIC;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.invoice
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.invoice ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.invoice_line
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice_line
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.invoice_line ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice_line ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.invoice_tax
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice_tax
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.invoice_tax ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice_tax ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.invoice_discount
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.invoice_discount
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.invoice_discount ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.invoice_discount ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.credit_note
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.credit_note
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.credit_note ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.credit_note ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.credit_note_line
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.credit_note_line
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.credit_note_line ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.credit_note_line ENABLE ALWAYS TRIGGER immutable_all;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenancy.credit_note_tax
    FOR EACH ROW EXECUTE FUNCTION tenancy.immutable_row();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.credit_note_tax
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.immutable_row();
ALTER TABLE tenancy.credit_note_tax ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.credit_note_tax ENABLE ALWAYS TRIGGER immutable_all;
