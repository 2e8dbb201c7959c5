/* credit: balances of tenants, as grants that are used up. */

CREATE TABLE tenancy.credit (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    currency        text NOT NULL,
    source          text NOT NULL,
    reason          text NOT NULL,
    amount          numeric NOT NULL,
    remaining       numeric NOT NULL,
    priority        integer NOT NULL,
    legal_entity    text NOT NULL,
    document_id     uuid,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL,
    CONSTRAINT credit_pkey PRIMARY KEY (id),
    CONSTRAINT credit_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT credit_source_check CHECK (source IN ('promotion', 'purchase', 'overpayment', 'credit_note', 'proration')),
    CONSTRAINT credit_amount_check CHECK (amount > 0),
    CONSTRAINT credit_remaining_check CHECK (remaining >= 0 AND remaining <= amount),
    CONSTRAINT credit_priority_check CHECK (priority BETWEEN 0 AND 1000),
    CONSTRAINT credit_document_check CHECK ((source IN ('overpayment', 'credit_note', 'proration')) = (document_id IS NOT NULL))
);
COMMENT ON TABLE tenancy.credit IS
'Credit of tenants: what was granted, and what remains of it. Kept for ever.';
COMMENT ON COLUMN tenancy.credit.source IS 'promotion: given away; purchase: paid in advance; overpayment, credit_note, proration: of the document document_id';
COMMENT ON COLUMN tenancy.credit.priority IS 'the lowest is used first, then what expires first, then the oldest';
CREATE INDEX credit_open_idx ON tenancy.credit (tenant_id, currency) WHERE remaining > 0;
CREATE INDEX credit_expires_at_idx ON tenancy.credit (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;
CREATE INDEX credit_document_idx ON tenancy.credit (document_id) WHERE document_id IS NOT NULL;
ALTER TABLE tenancy.credit ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.credit FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.credit FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.credit FROM PUBLIC;
GRANT SELECT ON tenancy.credit TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.credit', '');

CREATE TABLE tenancy.credit_entry (
    id              uuid NOT NULL,
    credit_id       uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    kind            text NOT NULL,
    document_id     uuid,
    amount          numeric NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT credit_entry_pkey PRIMARY KEY (id),
    CONSTRAINT credit_entry_credit_fkey FOREIGN KEY (credit_id) REFERENCES tenancy.credit (id),
    CONSTRAINT credit_entry_kind_check CHECK (kind IN ('use', 'return', 'expiry', 'revocation', 'refund')),
    CONSTRAINT credit_entry_amount_check CHECK (amount <> 0 AND (amount > 0) = (kind = 'return')),
    CONSTRAINT credit_entry_document_check CHECK ((kind IN ('use', 'return', 'refund')) = (document_id IS NOT NULL))
);
COMMENT ON TABLE tenancy.credit_entry IS
'What became of credits: negative where it was used, refunded, expired or revoked, positive where it came back. Never changed. Kept for ever.';
COMMENT ON COLUMN tenancy.credit_entry.document_id IS 'the invoice, or the refund';
CREATE INDEX credit_entry_credit_idx ON tenancy.credit_entry (credit_id);
CREATE INDEX credit_entry_document_idx ON tenancy.credit_entry (document_id) WHERE document_id IS NOT NULL;
ALTER TABLE tenancy.credit_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.credit_entry FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.credit_entry FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.credit_entry FROM PUBLIC;
GRANT SELECT ON tenancy.credit_entry TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.credit_entry', '');

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.credit_entry
    FOR EACH ROW EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.credit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_immutable();
ALTER TABLE tenancy.credit_entry ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.credit_entry ENABLE ALWAYS TRIGGER immutable_all;

