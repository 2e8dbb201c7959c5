/* ledger: double entry, append-only. */

CREATE TABLE tenancy.ledger_account (
    code            text NOT NULL,
    kind            text NOT NULL,
    normal_side     text NOT NULL,
    description     text NOT NULL,
    CONSTRAINT ledger_account_pkey PRIMARY KEY (code),
    CONSTRAINT ledger_account_kind_check CHECK (kind IN ('asset', 'liability', 'income', 'expense')),
    CONSTRAINT ledger_account_normal_side_check
        CHECK (normal_side = CASE WHEN kind IN ('asset', 'expense') THEN 'debit' ELSE 'credit' END)
);
COMMENT ON TABLE tenancy.ledger_account IS
'The chart of accounts. Brought by the extension, the same in every database. Not dumped.';
COMMENT ON COLUMN tenancy.ledger_account.normal_side IS 'on which side its balance normally is';
REVOKE ALL ON tenancy.ledger_account FROM PUBLIC;
GRANT SELECT ON tenancy.ledger_account TO tenancy_admin, tenancy_auditor, tenancy_tenant;

INSERT INTO tenancy.ledger_account (code, kind, normal_side, description) VALUES
    ('receivable', 'asset', 'debit', 'what tenants owe for invoices'),
    ('cash', 'asset', 'debit', 'what came in'),
    ('disputed', 'asset', 'debit', 'what a provider holds back until a dispute ends'),
    ('revenue', 'income', 'credit', 'what was earned'),
    ('deferred_revenue', 'liability', 'credit', 'billed for service that is still to come'),
    ('tax_payable', 'liability', 'credit', 'tax that was billed'),
    ('customer_credit', 'liability', 'credit', 'balances of tenants: grants, top-ups and overpayments'),
    ('promotion', 'expense', 'debit', 'credit that was given away'),
    ('breakage', 'income', 'credit', 'paid credit that expired unused'),
    ('write_off', 'expense', 'debit', 'what will not be paid');

CREATE TABLE tenancy.ledger_transaction (
    id              uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    legal_entity    text NOT NULL,
    kind            text NOT NULL,
    document_id     uuid NOT NULL,
    purpose         text NOT NULL,
    currency        text NOT NULL,
    effective_at    timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    description     text NOT NULL,
    CONSTRAINT ledger_transaction_pkey PRIMARY KEY (id),
    CONSTRAINT ledger_transaction_document_key UNIQUE (document_id, kind, purpose),
    CONSTRAINT ledger_transaction_tenant_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenant (id),
    CONSTRAINT ledger_transaction_kind_check CHECK (kind IN ('invoice', 'void', 'credit_note', 'write_off', 'recovery',
        'payment', 'refund', 'refund_returned', 'dispute', 'dispute_won', 'dispute_lost',
        'credit_grant', 'credit_use', 'credit_return', 'credit_expiry', 'recognition'))
);
COMMENT ON TABLE tenancy.ledger_transaction IS
'What was posted: one row a document, kind and purpose; never changed. Kept for ever.';
COMMENT ON COLUMN tenancy.ledger_transaction.document_id IS 'of the invoice, credit note, payment, refund or credit grant';
COMMENT ON COLUMN tenancy.ledger_transaction.purpose IS 'tells several postings of one kind for one document apart; empty where there is one';
COMMENT ON COLUMN tenancy.ledger_transaction.effective_at IS 'when it counts';
COMMENT ON COLUMN tenancy.ledger_transaction.recorded_at IS 'when it was written';
CREATE INDEX ledger_transaction_tenant_idx ON tenancy.ledger_transaction (tenant_id, effective_at);
ALTER TABLE tenancy.ledger_transaction ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.ledger_transaction FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.ledger_transaction FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id());
REVOKE ALL ON tenancy.ledger_transaction FROM PUBLIC;
GRANT SELECT ON tenancy.ledger_transaction TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.ledger_transaction', '');

CREATE TABLE tenancy.ledger_entry (
    transaction_id  uuid NOT NULL,
    position        integer NOT NULL,
    tenant_id       uuid NOT NULL,
    account         text NOT NULL,
    currency        text NOT NULL,
    amount          numeric NOT NULL,
    CONSTRAINT ledger_entry_pkey PRIMARY KEY (transaction_id, position),
    CONSTRAINT ledger_entry_transaction_fkey FOREIGN KEY (transaction_id) REFERENCES tenancy.ledger_transaction (id),
    CONSTRAINT ledger_entry_account_check CHECK (account IN ('receivable', 'cash', 'disputed', 'revenue', 'deferred_revenue',
        'tax_payable', 'customer_credit', 'promotion', 'breakage', 'write_off')),
    CONSTRAINT ledger_entry_amount_check CHECK (amount <> 0)
);
COMMENT ON TABLE tenancy.ledger_entry IS
'The entries of the ledger. Those of a transaction are numbered from 1, come in one statement and add up to zero; none is ever changed. Kept for ever.';
COMMENT ON COLUMN tenancy.ledger_entry.amount IS 'a debit is positive, a credit negative; rounded to the exponent of the currency';
ALTER TABLE tenancy.ledger_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.ledger_entry FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY own ON tenancy.ledger_entry FOR SELECT TO tenancy_tenant
    USING (tenant_id OPERATOR(pg_catalog.=) @extschema@.current_tenant_id()
           AND account OPERATOR(pg_catalog.=) ANY (ARRAY['receivable', 'customer_credit']));
REVOKE ALL ON tenancy.ledger_entry FROM PUBLIC;
GRANT SELECT ON tenancy.ledger_entry TO tenancy_admin, tenancy_auditor, tenancy_tenant;
SELECT pg_catalog.pg_extension_config_dump('tenancy.ledger_entry', '');

/* Whoever writes, however: the triggers always fire. */
CREATE FUNCTION tenancy.ledger_balance_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_ledger_balance_check'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.ledger_balance_check() IS
'Trigger: the entries that a statement adds make up whole transactions, each in balance. Errors: 23514.';
REVOKE ALL ON FUNCTION tenancy.ledger_balance_check() FROM PUBLIC;

CREATE FUNCTION tenancy.ledger_immutable() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_ledger_immutable'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.ledger_immutable() IS
'Trigger: refuses changes of what was posted. Errors: 55000.';
REVOKE ALL ON FUNCTION tenancy.ledger_immutable() FROM PUBLIC;

CREATE TRIGGER balanced AFTER INSERT ON tenancy.ledger_entry
    REFERENCING NEW TABLE AS entries
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_balance_check();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.ledger_entry
    FOR EACH ROW EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.ledger_transaction
    FOR EACH ROW EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.ledger_transaction
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON tenancy.ledger_account
    FOR EACH ROW EXECUTE FUNCTION tenancy.ledger_immutable();
CREATE TRIGGER immutable_all BEFORE TRUNCATE ON tenancy.ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.ledger_immutable();
ALTER TABLE tenancy.ledger_entry ENABLE ALWAYS TRIGGER balanced;
ALTER TABLE tenancy.ledger_entry ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.ledger_entry ENABLE ALWAYS TRIGGER immutable_all;
ALTER TABLE tenancy.ledger_transaction ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.ledger_transaction ENABLE ALWAYS TRIGGER immutable_all;
ALTER TABLE tenancy.ledger_account ENABLE ALWAYS TRIGGER immutable;
ALTER TABLE tenancy.ledger_account ENABLE ALWAYS TRIGGER immutable_all;

