/* billing: invoices, credit notes, runs. */

CREATE OR REPLACE FUNCTION @extschema@.invoice_generate(
    tenant @extschema@.regtenant, period tstzrange DEFAULT NULL)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_invoice_generate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_generate(@extschema@.regtenant, tstzrange) IS
'Drafts the next invoice of a tenant that is due: of a period that has ended, of what is due at a start, of items that are to be billed once, or, with no period asked for and none due, of usage that came late for a subscription that has ended. tenant: slug or id. period: the period expected, or null; a void invoice of the period is billed anew, with the same lines. Result: the row; that of the same period again when it exists. Errors: 55000 nothing is due, no subscription, or an item of the void invoice is on another; 22023 another period comes first; 42704 unknown tenant. Rights: tenancy_admin.';
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
'Voids an open invoice; it keeps its number. What it billed of subscriptions is billed again by invoice_generate() with the period, and not otherwise; items are, with the next invoice. invoice: id. reason: for the record. Result: the row. Errors: 42704 unknown invoice; 55000 in another state. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_void(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_void(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_preview(
    tenant @extschema@.regtenant, at timestamptz DEFAULT NULL)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_invoice_preview'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_preview(@extschema@.regtenant, timestamptz) IS
'What a billing run would invoice a tenant, by doing it and taking it back. tenant: slug or id. at: the moment to bill up to; when the next invoice is due, if null. Result: a list of documents as invoice_document() makes them. Errors: 42704 unknown tenant; those of the run. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_preview(@extschema@.regtenant, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_preview(@extschema@.regtenant, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_write_off(
    invoice uuid, reason text)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_invoice_write_off'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_write_off(uuid, text) IS
'Gives up an open invoice: what is due of it leaves the receivables. It can still be paid or made void. invoice: id. reason: for the record. Result: the row. Errors: 42704 unknown invoice; 55000 in another state. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_write_off(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_write_off(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.invoice_item_add(
    tenant @extschema@.regtenant, description text, unit_price numeric, currency text, quantity numeric DEFAULT 1,
    period tstzrange DEFAULT NULL, tax_rates text[] DEFAULT NULL)
RETURNS tenancy.invoice_item
AS 'MODULE_PATHNAME', 'tenancy_invoice_item_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.invoice_item_add(@extschema@.regtenant, text, numeric, text, numeric, tstzrange, text[]) IS
'Bills a tenant something once, on its next invoice in the currency or by invoice_generate(). tenant: slug or id. description: as the line shows it. unit_price: negative for a credit. currency: of ISO 4217. quantity: times the price. period: when it was supplied; now when null. tax_rates: ids; those of the billing account when null. Result: the row. Errors: 42704 unknown tenant or rate; 22023. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.invoice_item_add(@extschema@.regtenant, text, numeric, text, numeric, tstzrange, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_item_add(@extschema@.regtenant, text, numeric, text, numeric, tstzrange, text[]) TO tenancy_admin;

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

CREATE OR REPLACE VIEW tenancy.creditable_line WITH (security_invoker = true) AS
    SELECT l.invoice_id, l.position, l.tenant_id, i.number, l.description, i.currency, l.amount,
           n.credited, c.corrected, l.amount - n.credited - c.corrected AS remaining
      FROM tenancy.invoice i
      JOIN tenancy.invoice_line l ON l.invoice_id = i.id,
           LATERAL (SELECT coalesce(sum(e.amount), 0) AS credited
                      FROM tenancy.credit_note_line e
                     WHERE e.invoice_id = l.invoice_id AND e.invoice_position = l.position) n,
           LATERAL (SELECT CASE WHEN l.amount = l.discount THEN 0
                                ELSE pg_catalog.round(o.net * l.amount / (l.amount - l.discount),
                                                      pg_catalog.scale(l.amount)) END AS corrected
                      FROM (SELECT coalesce(sum(coalesce((SELECT sum(e.amount)
                                                            FROM tenancy.credit_note_line e
                                                           WHERE e.invoice_id = o.invoice_id
                                                             AND e.invoice_position = o.position), 0)
                                                - o.amount), 0) AS net
                              FROM tenancy.invoice_line o
                              JOIN tenancy.invoice v ON v.id = o.invoice_id
                               AND (v.state <> 'void' OR NOT EXISTS (SELECT FROM tenancy.invoice r WHERE r.replaces = v.id))
                             WHERE o.corrects = l.invoice_id AND o.corrects_position = l.position) o) c
     WHERE i.state IN ('open', 'paid', 'uncollectible');
COMMENT ON VIEW tenancy.creditable_line IS
'What credit_note_create() can still take back of the lines of invoices: of the amount of each, before discounts, what credit notes and later invoices have not credited yet. A tenant sees its own.';
REVOKE ALL ON tenancy.creditable_line FROM PUBLIC;
GRANT SELECT ON tenancy.creditable_line TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.credit_note_create(
    invoice uuid, reason text, lines jsonb DEFAULT NULL, use text DEFAULT 'credit')
RETURNS tenancy.credit_note
AS 'MODULE_PATHNAME', 'tenancy_credit_note_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credit_note_create(uuid, text, jsonb, text) IS
'Takes back an invoice, or a part of it, by a credit note of its own series; discounts and taxes are taken back pro rata, and whoever takes the rest of a line or a tax takes all of it, so that all credit notes add up to the invoice. What is due is reduced first. invoice: id, of one that was issued and is not void. reason: as the note shows it. lines: [{position, amount}], the amount before discounts and taxes, or none for all that is left of the line (see tenancy.creditable_line); null for all of the invoice. use: what becomes of what had been paid: credit, or refund: then less than nothing is due of the invoice until payment_refund() has paid it; what credit had paid becomes credit again. Result: the row. Errors: 42704 unknown invoice; 55000 a draft or void one, or nothing is left; 22023 a line that it has not, more than is left, or nothing; 22004; 42501 within a tenant context; 40001 under snapshot isolation. Rights: tenancy_admin. Side effects: is posted to the ledger; event credit_note.created.';
REVOKE ALL ON FUNCTION @extschema@.credit_note_create(uuid, text, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_note_create(uuid, text, jsonb, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.credit_note_explain(
    credit_note uuid)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'tenancy_credit_note_explain'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.credit_note_explain(uuid) IS
'Why a credit note says what it says. credit_note: id. Result: one sentence a line. Errors: 42704 unknown credit note, or another tenants. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.credit_note_explain(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_note_explain(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.credit_note_html(
    credit_note uuid)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_credit_note_html'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.credit_note_html(uuid) IS
'A credit note as a self-contained HTML page that prints on A4. credit_note: id. Errors: 42704 unknown credit note, or another tenants. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.credit_note_html(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_note_html(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.invoice_ubl(
    invoice uuid)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_invoice_ubl'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.invoice_ubl(uuid) IS
'An invoice as UBL 2.1 that follows EN 16931, for machines. invoice: id. Result: XML; it casts to xml. Errors: 42704 unknown, or another tenants; 55000 a draft or void one; naming what the data lacks, such as the country of the customer, or what EN 16931 cannot express: several taxes on a line, or lines without any beside others. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.invoice_ubl(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.invoice_ubl(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.credit_note_ubl(
    credit_note uuid)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_credit_note_ubl'
LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.credit_note_ubl(uuid) IS
'A credit note as UBL 2.1 that follows EN 16931, for machines. credit_note: id. Result: XML; it casts to xml. Errors: 42704 unknown, or another tenants; 55000 naming what the data lacks, such as the country of the customer, or what EN 16931 cannot express: several taxes on a line, or lines without any beside others. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.credit_note_ubl(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_note_ubl(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.billing_run(
    at timestamptz DEFAULT now(), OUT invoices bigint, OUT lines bigint, OUT failed bigint, OUT total jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_billing_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.billing_run(timestamptz) IS
'Invoices and finalizes every period of every subscription that has ended by then; then, on invoices of purpose late, usage that became known after subscriptions had ended; a second run adds nothing, drafts that were there before stay drafts, and a period whose invoice is void is not billed again. at: the moment to bill up to. Result: one row: invoices, their lines, tenants that failed, which tenancy.billing_failure tells about and which do not stop the others, and the totals by currency. Errors: 42501 within a tenant context; 40001 under snapshot isolation, as ever. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.billing_run(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.billing_run(timestamptz) TO tenancy_admin;


CREATE OR REPLACE FUNCTION tenancy.invoice_document(invoice uuid) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'id', i.id, 'number', i.number, 'state', i.state, 'purpose', i.purpose, 'currency', i.currency,
               'subscription', i.subscription_id, 'period_start', i.period_start, 'period_end', i.period_end,
               'issued_at', i.issued_at, 'due_at', i.due_at, 'seller', i.seller, 'customer', i.customer,
               'subtotal', i.subtotal, 'discount', i.discount, 'tax', i.tax, 'inclusive_tax', i.inclusive_tax,
               'total', i.total, 'amount_applied', i.amount_applied, 'amount_credited', i.amount_credited,
               'amount_paid', i.amount_paid, 'amount_due', i.amount_due,
               'lines', coalesce((
                   SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                              'position', l.position, 'kind', l.kind, 'description', l.description,
                              'plan', l.plan, 'charge', l.charge, 'metric', l.metric, 'quantity', l.quantity,
                              'unit', l.unit, 'unit_price', l.unit_price, 'amount', l.amount,
                              'discount', l.discount, 'tax', l.tax, 'net', l.net, 'tax_rates', l.tax_rates,
                              'period_start', l.period_start, 'period_end', l.period_end, 'trace', l.trace)
                              ORDER BY l.position)
                     FROM tenancy.invoice_line l WHERE l.invoice_id = i.id), '[]'),
               'discounts', coalesce((
                   SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                              'coupon', d.coupon, 'description', d.description, 'amount', d.amount)
                              ORDER BY d.position)
                     FROM tenancy.invoice_discount d WHERE d.invoice_id = i.id), '[]'),
               'taxes', coalesce((
                   SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                              'rate', x.tax_rate, 'name', x.name, 'percentage', x.percentage,
                              'category', x.category, 'is_inclusive', x.is_inclusive, 'reason', x.reason,
                              'base', x.base, 'amount', x.amount) ORDER BY x.position)
                     FROM tenancy.invoice_tax x WHERE x.invoice_id = i.id), '[]'))
      FROM tenancy.invoice i WHERE i.id = invoice_document.invoice;
END;
COMMENT ON FUNCTION tenancy.invoice_document(uuid) IS
'An invoice with all its parts as one document. invoice: id. Result: null for an unknown one, or another tenants. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION tenancy.invoice_document(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.invoice_document(uuid) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.billing_run_start(
    at timestamptz DEFAULT now(), parts integer DEFAULT 2)
RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_billing_run_start'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.billing_run_start(timestamptz, integer) IS
'Has background workers do what billing_run() does, several at once and in transactions of some thousand tenants: what is done is committed, and a run that is cut off goes on. at: the moment to bill up to. parts: of the tenants, billed side by side; 1 to 64. Result: how many jobs of the kind billing.part were put; tenancy.job tells how they fare. Errors: 22023; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.billing_run_start(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.billing_run_start(timestamptz, integer) TO tenancy_admin;
