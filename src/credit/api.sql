/* credit: balances of tenants. */

CREATE OR REPLACE FUNCTION @extschema@.credit_add(
    tenant @extschema@.regtenant, amount numeric, reason text, currency text DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL, priority integer DEFAULT 50, source text DEFAULT 'promotion')
RETURNS tenancy.credit
AS 'MODULE_PATHNAME', 'tenancy_credit_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credit_add(@extschema@.regtenant, numeric, text, text, timestamptz, integer, text) IS
'Adds credit to the balance of a tenant, which the next invoices use up after tax. tenant: slug or id. amount: positive, in the decimals of the currency. reason: for the record. currency: ISO 4217, or null for that of the tenants subscription. expires_at: when what is left of it expires, or null for never. priority: from 0 to 1000; the lowest is used first, then what expires first. source: promotion (given away) or purchase (paid in advance). Result: the row. Errors: 22023; 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger; event credit.granted.';
REVOKE ALL ON FUNCTION @extschema@.credit_add(@extschema@.regtenant, numeric, text, text, timestamptz, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_add(@extschema@.regtenant, numeric, text, text, timestamptz, integer, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.credit_revoke(
    credit uuid, reason text)
RETURNS tenancy.credit
AS 'MODULE_PATHNAME', 'tenancy_credit_revoke'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credit_revoke(uuid, text) IS
'Takes back what remains of a credit. credit: id. reason: for the record. Result: the row. Errors: 42704 unknown credit; 55000 nothing remains of it; 22004; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger.';
REVOKE ALL ON FUNCTION @extschema@.credit_revoke(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_revoke(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.credit_expire(
    at timestamptz DEFAULT now())
RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_credit_expire'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credit_expire(timestamptz) IS
'Expires what remains of credits whose time has come; the kind of work credit.expire does it every hour. at: the moment to expire up to. Result: the number of credits. Errors: 22004; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger; events credit.expired.';
REVOKE ALL ON FUNCTION @extschema@.credit_expire(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_expire(timestamptz) TO tenancy_admin;

CREATE OR REPLACE VIEW tenancy.credit_balance WITH (security_invoker = true) AS
    SELECT c.tenant_id, c.currency, sum(c.amount) AS granted, sum(c.amount - c.remaining) AS used,
           sum(c.remaining) AS remaining,
           min(c.expires_at) FILTER (WHERE c.remaining > 0) AS next_expiry
      FROM tenancy.credit c
     GROUP BY c.tenant_id, c.currency;
COMMENT ON VIEW tenancy.credit_balance IS
'The credit of each tenant by currency: granted, used (or expired, revoked, refunded), remaining, and when some of it expires next. A tenant sees its own.';
REVOKE ALL ON tenancy.credit_balance FROM PUBLIC;
GRANT SELECT ON tenancy.credit_balance TO tenancy_admin, tenancy_auditor, tenancy_tenant;

