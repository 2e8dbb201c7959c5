/* ledger: reports. */

CREATE OR REPLACE FUNCTION tenancy.ledger_accounts() RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_ledger_accounts'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.ledger_accounts() IS
'The accounts that the library posts to, for the tests: those of tenancy.ledger_account. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.ledger_accounts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.ledger_accounts() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.ledger_balance(
    at timestamptz DEFAULT now(), tenant @extschema@.regtenant DEFAULT NULL)
RETURNS TABLE (legal_entity text, currency text, account text, kind text, debit numeric, credit numeric, balance numeric)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT s.legal_entity, s.currency, a.code, a.kind, s.debit, s.credit,
           CASE a.normal_side WHEN 'debit' THEN s.debit - s.credit ELSE s.credit - s.debit END
      FROM (SELECT t.legal_entity, e.currency, e.account,
                   coalesce(sum(e.amount) FILTER (WHERE e.amount > 0), 0) AS debit,
                   coalesce(-sum(e.amount) FILTER (WHERE e.amount < 0), 0) AS credit
              FROM tenancy.ledger_transaction t
              JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
             WHERE t.effective_at <= ledger_balance.at
               AND (ledger_balance.tenant IS NULL OR t.tenant_id = ledger_balance.tenant::uuid)
             GROUP BY t.legal_entity, e.currency, e.account) s
      JOIN tenancy.ledger_account a ON a.code = s.account
     ORDER BY s.legal_entity, s.currency, a.kind, a.code;
END;
COMMENT ON FUNCTION @extschema@.ledger_balance(timestamptz, @extschema@.regtenant) IS
'The trial balance: debits, credits and balance of every account by legal entity and currency; debits and credits are equal. at: what was in effect then. tenant: slug or id of one tenant, or null for all. Result: one row an account; balance is positive on the normal side of the account. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.ledger_balance(timestamptz, @extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.ledger_balance(timestamptz, @extschema@.regtenant) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.trial_balance WITH (security_invoker = true) AS
    SELECT s.legal_entity, s.currency, a.code AS account, a.kind, s.debit, s.credit,
           CASE a.normal_side WHEN 'debit' THEN s.debit - s.credit ELSE s.credit - s.debit END AS balance
      FROM (SELECT t.legal_entity, e.currency, e.account,
                   coalesce(sum(e.amount) FILTER (WHERE e.amount > 0), 0) AS debit,
                   coalesce(-sum(e.amount) FILTER (WHERE e.amount < 0), 0) AS credit
              FROM tenancy.ledger_transaction t
              JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
             GROUP BY t.legal_entity, e.currency, e.account) s
      JOIN tenancy.ledger_account a ON a.code = s.account;
COMMENT ON VIEW tenancy.trial_balance IS
'Debits, credits and balance of every account, by legal entity and currency; the balance is positive on the normal side. For a moment in the past, or one tenant: ledger_balance().';
REVOKE ALL ON tenancy.trial_balance FROM PUBLIC;
GRANT SELECT ON tenancy.trial_balance TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE VIEW tenancy.customer_balance WITH (security_invoker = true) AS
    SELECT t.tenant_id, e.currency,
           coalesce(sum(e.amount) FILTER (WHERE e.account = 'receivable'), 0) AS receivable,
           coalesce(-sum(e.amount) FILTER (WHERE e.account = 'customer_credit'), 0) AS credit,
           sum(e.amount) AS balance
      FROM tenancy.ledger_transaction t
      JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
     WHERE e.account IN ('receivable', 'customer_credit')
     GROUP BY t.tenant_id, e.currency;
COMMENT ON VIEW tenancy.customer_balance IS
'What each tenant owes (receivable), what stands to its credit, and the difference: positive where the tenant owes. A tenant sees its own.';
REVOKE ALL ON tenancy.customer_balance FROM PUBLIC;
GRANT SELECT ON tenancy.customer_balance TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE VIEW tenancy.ledger_document WITH (security_invoker = true) AS
    SELECT t.document_id, t.kind, t.purpose, t.id AS transaction_id, t.tenant_id, t.legal_entity,
           t.effective_at, t.recorded_at, t.description, e.position, e.account, e.currency,
           CASE WHEN e.amount > 0 THEN e.amount END AS debit,
           CASE WHEN e.amount < 0 THEN -e.amount END AS credit
      FROM tenancy.ledger_transaction t
      JOIN tenancy.ledger_entry e ON e.transaction_id = t.id;
COMMENT ON VIEW tenancy.ledger_document IS
'The entries of the ledger with the document that each was posted for.';
REVOKE ALL ON tenancy.ledger_document FROM PUBLIC;
GRANT SELECT ON tenancy.ledger_document TO tenancy_admin, tenancy_auditor;

