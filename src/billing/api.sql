/* billing: subscriptions and invoices. */

CREATE OR REPLACE FUNCTION @extschema@.subscription_create(
    tenant @extschema@.regtenant, plan text, starts_at timestamptz DEFAULT now(), time_zone text DEFAULT 'UTC')
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text) IS
'Subscribes a tenant to a plan, at the price in force at the start. tenant: slug or id. plan: id. starts_at: the anchor of all its periods. time_zone: the periods begin at civil times of this zone. Result: the row. Errors: 42704 unknown tenant or plan; 23505 the tenant has one that has not ended; 22023 unknown zone; 55000 the plan has no price then. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_cancel(
    subscription uuid, reason text DEFAULT NULL, at_period_end boolean DEFAULT true)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean) IS
'Cancels a subscription. subscription: id. reason: for the record. at_period_end: whether it runs to the end of its period, or ends now with the base price billed to the second. Result: the row. Errors: 42704 unknown subscription; 55000 in another state. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_generate(
    tenant @extschema@.regtenant, period tstzrange DEFAULT NULL)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_invoice_generate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_generate(@extschema@.regtenant, tstzrange) IS
'Drafts the invoice of the next period of a tenant that has ended. tenant: slug or id. period: the period expected, or null; one whose invoices are all void is billed anew. Result: the row; that of the same period again when it exists. Errors: 55000 nothing is due, or no subscription; 22023 another period comes first; 42704 unknown tenant. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_generate(@extschema@.regtenant, tstzrange) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_generate(@extschema@.regtenant, tstzrange) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_finalize(
    invoice uuid)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_invoice_finalize'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_finalize(uuid) IS
'Finalizes a draft: gives it its number and due date; from then on it does not change. invoice: id. Result: the row; it is paid at once when its total is zero. Errors: 42704 unknown invoice; 55000 no draft. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_finalize(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_finalize(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_void(
    invoice uuid, reason text)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_invoice_void'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_void(uuid, text) IS
'Voids an open invoice; it keeps its number. invoice: id. reason: for the record. Result: the row. Errors: 42704 unknown invoice; 55000 in another state. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_void(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_void(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_explain(
    invoice uuid)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_invoice_explain'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.invoice_explain(uuid) IS
'Why an invoice says what it says. invoice: id. Result: one sentence a line. Errors: 42704 unknown invoice, or another tenants. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.invoice_explain(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_explain(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.invoice_html(
    invoice uuid)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_invoice_html'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.invoice_html(uuid) IS
'An invoice as a self-contained HTML page that prints on A4. invoice: id. Errors: 42704 unknown invoice, or another tenants. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.invoice_html(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_html(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.billing_run(
    at timestamptz DEFAULT now(), OUT invoices bigint, OUT lines bigint, OUT failed bigint, OUT total jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_billing_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.billing_run(timestamptz) IS
'Invoices and finalizes every period of every subscription that has ended by then; a second run adds nothing, drafts that were there before stay drafts, and a period whose invoice is void is not billed again. at: the moment to bill up to. Result: one row: invoices, their lines, subscriptions that failed, which tenancy.billing_failure tells about and which do not stop the others, and the totals by currency. Errors: 42501 within a tenant context; 40001 under snapshot isolation, as ever. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.billing_run(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.billing_run(timestamptz) TO tenancy_admin;

