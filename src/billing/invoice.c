/*
 * billing/invoice.c
 *		Single invoices: drafting, finalizing, previewing, voiding, writing off.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "credit/credit.h"
#include "job/outbox.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

GATE_STATEMENT(invoice_whole_row, "SELECT i FROM tenancy.invoice i WHERE i.id = $1", UUIDOID);
GATE_STATEMENT(invoice_of_period,
			   "SELECT i.id FROM tenancy.invoice i"
			   " WHERE i.tenant_id = $1 AND i.period_start = $2 AND i.period_end = $3"
			   "   AND i.purpose = 'cycle' AND i.state <> 'void'"
			   " ORDER BY i.id LIMIT 1",
			   UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
/* Who comes second sees what the first has billed. */
GATE_STATEMENT(subscriptions_of_tenant_lock,
			   "SELECT FROM tenancy.subscription s WHERE s.tenant_id = $1 ORDER BY s.id FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(subscription_next,
			   "SELECT s.id, s.period_start, least(s.period_end, s.ends_at), s.bills_at"
			   "  FROM tenancy.subscription s"
			   " WHERE s.tenant_id = $1 AND s.bills_at IS NOT NULL"
			   " ORDER BY s.bills_at, s.id LIMIT 1",
			   UUIDOID);
GATE_STATEMENT(invoice_void_of_period,
			   "SELECT i.id FROM tenancy.invoice i"
			   " WHERE i.tenant_id = $1 AND i.period_start = $2 AND i.period_end = $3"
			   "   AND i.purpose IN ('change', 'cycle', 'late') AND i.state = 'void'"
			   "   AND " INVOICE_STANDS("i") " ORDER BY i.purpose = 'cycle' DESC, i.id LIMIT 1",
			   UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
/* The same lines once more; what has changed since comes as late usage. */
GATE_STATEMENT(
	invoice_copy,
	"INSERT INTO tenancy.invoice (id, tenant_id, legal_entity, subscription_id, purpose,"
	"    state, period_number, period_start, period_end, currency, line_count, tax_count,"
	"    discount_count, subtotal, discount, tax, inclusive_tax, total, deferred,"
	"    usage_cutoff, payment_terms_days, created_at, replaces)"
	" SELECT $2, v.tenant_id, v.legal_entity, v.subscription_id, v.purpose, 'draft',"
	"        v.period_number, v.period_start, v.period_end, v.currency, v.line_count,"
	"        v.tax_count, v.discount_count, v.subtotal, v.discount, v.tax,"
	"        v.inclusive_tax, v.total, v.deferred, v.usage_cutoff, v.payment_terms_days, $3, v.id"
	"   FROM tenancy.invoice v WHERE v.id = $1",
	UUIDOID, UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	invoice_copy_lines,
	"INSERT INTO tenancy.invoice_line (invoice_id, position, tenant_id, subscription_id,"
	"    item_line, plan, price_version, charge, kind, description, metric, quantity, unit,"
	"    unit_price, amount, discount, tax, net, tax_rates, period_start, period_end,"
	"    corrects, corrects_position, trace)"
	" SELECT $2, l.position, l.tenant_id, l.subscription_id, l.item_line, l.plan,"
	"        l.price_version, l.charge, l.kind, l.description, l.metric, l.quantity, l.unit,"
	"        l.unit_price, l.amount, l.discount, l.tax, l.net, l.tax_rates,"
	"        l.period_start, l.period_end, l.corrects, l.corrects_position, l.trace"
	"   FROM tenancy.invoice_line l WHERE l.invoice_id = $1",
	UUIDOID, UUIDOID);
GATE_STATEMENT(invoice_copy_taxes,
			   "INSERT INTO tenancy.invoice_tax (invoice_id, position, tenant_id, tax_rate, name,"
			   "    percentage, category, is_inclusive, reason, base, amount)"
			   " SELECT $2, x.position, x.tenant_id, x.tax_rate, x.name, x.percentage, x.category,"
			   "        x.is_inclusive, x.reason, x.base, x.amount"
			   "   FROM tenancy.invoice_tax x WHERE x.invoice_id = $1",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(
	invoice_copy_discounts,
	"INSERT INTO tenancy.invoice_discount (invoice_id, position, tenant_id,"
	"    redemption_id, coupon, description, amount)"
	" SELECT $2, d.position, d.tenant_id, d.redemption_id, d.coupon, d.description, d.amount"
	"   FROM tenancy.invoice_discount d WHERE d.invoice_id = $1",
	UUIDOID, UUIDOID);
/*
 * What coupons lost to an invoice is theirs again, or is taken once more: $2 is 1 or -1.  One that
 * the tenant was given again meanwhile stays used up.
 */
GATE_STATEMENT(
	coupons_give_back,
	"UPDATE tenancy.coupon_redemption r"
	"   SET periods_left = r.periods_left + CASE WHEN r.amount_left IS NULL THEN $2"
	"                                            WHEN $2 > 0 AND r.periods_left = 0 THEN 1"
	"                                            WHEN $2 < 0 AND r.amount_left = d.amount THEN -1"
	"                                            ELSE 0 END,"
	"       amount_left = r.amount_left + $2 * d.amount,"
	"       state = CASE WHEN r.state = 'revoked' THEN r.state"
	"                    WHEN $2 > 0 AND NOT EXISTS ("
	"                        SELECT FROM tenancy.coupon_redemption o"
	"                         WHERE o.tenant_id = r.tenant_id AND o.coupon = r.coupon"
	"                           AND o.state = 'active' AND o.id <> r.id) THEN 'active'"
	"                    WHEN $2 > 0 THEN r.state"
	"                    WHEN r.periods_left = 1 AND coalesce(r.amount_left = d.amount, true)"
	"                    THEN 'used_up' ELSE r.state END"
	"  FROM (SELECT v.redemption_id, pg_catalog.sum(v.amount) AS amount"
	"          FROM tenancy.invoice_discount v WHERE v.invoice_id = $1"
	"         GROUP BY v.redemption_id) d"
	" WHERE r.id = d.redemption_id",
	UUIDOID, INT4OID);
GATE_STATEMENT(items_give_back,
			   "UPDATE tenancy.invoice_item SET invoice_id = NULL, void_invoice_id = $1"
			   " WHERE invoice_id = $1",
			   UUIDOID);
/* One that has been billed by another invoice since comes back unchanged. */
GATE_STATEMENT(items_take_again,
			   "UPDATE tenancy.invoice_item i SET invoice_id = coalesce(i.invoice_id, $2)"
			   " WHERE i.void_invoice_id = $1"
			   " RETURNING (SELECT v.number FROM tenancy.invoice v WHERE v.id = i.invoice_id),"
			   "           i.invoice_id <> $2, i.description",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(
	pending_insert,
	"INSERT INTO tenancy.invoice_item AS i (id, tenant_id, currency, description, quantity,"
	"    unit_price, tax_rates, period_start, period_end, created_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING i",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, TEXTARRAYOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_LOOKUP(
	unknown_rate,
	"SELECT u.id FROM unnest($1) AS u(id)"
	" WHERE NOT EXISTS (SELECT FROM tenancy.tax_rate r WHERE r.id = u.id AND r.active) LIMIT 1",
	TEXTARRAYOID);
GATE_STATEMENT(invoice_as_document, "SELECT tenancy.invoice_document($1)", UUIDOID);

Datum
invoice_row(const pg_uuid_t *invoice)
{
	return row_datum(gate_run(&invoice_whole_row, EXPECT_ONE, gate_uuid(invoice)), 0, 0);
}

static void
read_period(FunctionCallInfo fcinfo, int n, TimestampTz *starts, TimestampTz *ends)
{
	RangeType *range = PG_GETARG_RANGE_P(n);
	RangeBound lower;
	RangeBound upper;
	bool is_empty;

	range_deserialize(lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO), range,
					  &lower, &upper, &is_empty);
	if (is_empty || lower.infinite || upper.infinite || !lower.inclusive || upper.inclusive)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"period\" must be a bounded range [start, end)"));
	*starts = DatumGetTimestampTz(lower.val);
	*ends = DatumGetTimestampTz(upper.val);
}

static void
take_items_again(const pg_uuid_t *void_invoice, const pg_uuid_t *invoice)
{
	GateRows *items =
		gate_run(&items_take_again, EXPECT_ANY, gate_uuid(void_invoice), gate_uuid(invoice));

	for (int64 i = 0; i < items->count; i++)
	{
		if (row_bool(items, i, 1))
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the void invoice of the period cannot be billed again"),
					errdetail("Its item \"%s\" is on invoice \"%s\".", row_text(items, i, 2),
							  row_is_null(items, i, 0) ? "draft" : row_text(items, i, 0)));
	}
}

/* The period of a void invoice is billed anew. */
static pg_uuid_t *
bill_again(const pg_uuid_t *void_invoice)
{
	pg_uuid_t *id = id_new();

	gate_run(&invoice_copy, EXPECT_ONE, gate_uuid(void_invoice), gate_uuid(id),
			 gate_timestamptz(clock_now()));
	gate_run(&invoice_copy_lines, EXPECT_ANY, gate_uuid(void_invoice), gate_uuid(id));
	gate_run(&invoice_copy_taxes, EXPECT_ANY, gate_uuid(void_invoice), gate_uuid(id));
	gate_run(&invoice_copy_discounts, EXPECT_ANY, gate_uuid(void_invoice), gate_uuid(id));
	gate_run(&coupons_give_back, EXPECT_ANY, gate_uuid(id), gate_int32(-1));
	take_items_again(void_invoice, id);
	return id;
}

/* The void invoice of the period, billed anew, or that which there is; else NULL. */
static pg_uuid_t *
find_period(const pg_uuid_t *tenant, TimestampTz starts, TimestampTz ends)
{
	GateRows *rows = gate_run(&invoice_void_of_period, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
							  gate_timestamptz(starts), gate_timestamptz(ends));

	if (rows->count == 1)
		return bill_again(row_uuid(rows, 0, 0));
	rows = gate_run(&invoice_of_period, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
					gate_timestamptz(starts), gate_timestamptz(ends));
	return rows->count == 1 ? row_uuid(rows, 0, 0) : NULL;
}

/* The first draft of a batch; NULL where there is nothing to bill.  Was a subscription due? */
static const pg_uuid_t *
draft(const BatchRequest *request, bool *was_due)
{
	Batch *batch = billing_batch(request, WRITE_DRAFTS, true);
	ListCell *cell;

	*was_due = batch->contract_count > 0;
	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (!bill->is_skipped)
			return &bill->id;
	}
	return NULL;
}

/* invoice_generate(tenant regtenant, period tstzrange) → tenancy.invoice */
TENANCY_FUNCTION(invoice_generate)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	BatchRequest request = {.at = clock_now()};
	GateRows *next;
	const pg_uuid_t *drafted;
	bool was_due;
	TimestampTz starts = 0;
	TimestampTz ends = 0;

	context_require_none("billing");
	(void) registry_get(tenant);
	gate_run(&subscriptions_of_tenant_lock, EXPECT_ANY, gate_uuid(tenant));
	subscriptions_resume_due(tenant, request.at);
	if (!PG_ARGISNULL(1))
	{
		pg_uuid_t *found;

		read_period(fcinfo, 1, &starts, &ends);
		found = find_period(tenant, starts, ends);
		if (found != NULL)
			PG_RETURN_DATUM(invoice_row(found));
	}
	request.tenants = gate_uuid_array(tenant, 1);
	next = gate_run(&subscription_next, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (next->count == 1)
		request.subscription = row_uuid(next, 0, 0);
	if (next->count == 1 && !PG_ARGISNULL(1) &&
		(row_timestamptz(next, 0, 1) != starts || row_timestamptz(next, 0, 2) != ends))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the period is not the next one to be billed"),
				errdetail("That is from %s to %s.",
						  pstrdup(timestamptz_to_str(row_timestamptz(next, 0, 1))),
						  pstrdup(timestamptz_to_str(row_timestamptz(next, 0, 2)))));
	/*
	 * One invoice, of one period; without one that is due, what waits to be billed once, and then
	 * what came late for what has ended.  A period that comes to nothing stays open: the error
	 * undoes its end, which another invoice would hide.
	 */
	drafted = draft(&request, &was_due);
	if (drafted == NULL && !was_due && PG_ARGISNULL(1))
	{
		request.subscription = NULL;
		request.is_over = true;
		drafted = draft(&request, &was_due);
	}
	if (drafted != NULL)
		PG_RETURN_DATUM(invoice_row(drafted));
	if (next->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no subscription", registry_slug(tenant)));
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("nothing is due for tenant \"%s\"", registry_slug(tenant)),
			errdetail("Its period ends at %s.", timestamptz_to_str(row_timestamptz(next, 0, 2))));
}

typedef struct Preview
{
	const pg_uuid_t *tenant;
	BatchRequest request;
	List *documents; /* of Jsonb * */
} Preview;

static void
preview_batch(Preview *preview, bool alone)
{
	Batch *batch = billing_batch(&preview->request, WRITE_FINAL, alone);
	ListCell *cell;

	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (!bill->is_skipped)
			preview->documents = lappend(
				preview->documents,
				row_jsonb(gate_run(&invoice_as_document, EXPECT_ONE, gate_uuid(&bill->id)), 0, 0));
	}
}

static void
preview(void *argument)
{
	Preview *preview = argument;
	GateRows *next;

	/* As a run does, or invoice_generate() where no period is due. */
	subscriptions_resume_due(preview->tenant, preview->request.at);
	next = gate_run(&subscription_next, EXPECT_AT_MOST_ONE, gate_uuid(preview->tenant));
	preview_batch(preview, next->count == 0 || row_timestamptz(next, 0, 3) > preview->request.at);
	preview->request.is_over = true;
	preview_batch(preview, false);
}

/* invoice_preview(tenant regtenant, at timestamptz) → jsonb */
TENANCY_FUNCTION(invoice_preview)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	Preview previewed = {.tenant = tenant, .request = {.tenants = gate_uuid_array(tenant, 1)}};
	JsonbParseState *state = NULL;
	ErrorData *error;
	ListCell *cell;

	context_require_none("billing");
	(void) registry_get(tenant);
	if (PG_ARGISNULL(1))
	{
		GateRows *next = gate_run(&subscription_next, EXPECT_AT_MOST_ONE, gate_uuid(tenant));

		previewed.request.at = next->count == 1 ? row_timestamptz(next, 0, 3) : clock_now();
	}
	else
		previewed.request.at = required_timestamptz(fcinfo, 1, "at");
	error = rehearse("invoice preview", preview, &previewed);
	if (error != NULL)
		ReThrowError(error);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach (cell, previewed.documents)
	{
		JsonbValue value;

		JsonbToJsonbValue(lfirst(cell), &value);
		pushJsonbValue(&state, WJB_ELEM, &value);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/* invoice_finalize(invoice uuid) → tenancy.invoice */
TENANCY_FUNCTION(invoice_finalize)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	Invoice *invoice;

	context_require_none("billing");
	invoice = invoice_lock(id);
	(void) invoice_after(invoice,
						 numeric_is_zero(invoice->total) ? "finalize at zero" : "finalize");
	invoices_finalize(id, 1);
	PG_RETURN_DATUM(invoice_row(id));
}

/* Take an amount out of what is owed: the whole invoice, or what is due of it. */
static void
post_end(const Invoice *invoice, const char *kind, LedgerAccount account)
{
	static const char *const invoiced[] = {"invoice", "write_off", "recovery", "recognition"};
	LedgerPosting posting = {.kind = kind,
							 .document = invoice->id,
							 .tenant = invoice->tenant,
							 .legal_entity = invoice->legal_entity,
							 .currency = invoice->currency,
							 .effective_at = clock_now(),
							 .description = invoice->number};

	if (account == LEDGER_RECEIVABLE)
		(void) ledger_add_reverse(&posting, invoiced, lengthof(invoiced));
	else
	{
		/* It may have been paid since it was given up before, and be due again. */
		posting.purpose = id_text(id_new());
		ledger_debit(&posting, account, invoice->amount_due);
		ledger_credit(&posting, LEDGER_RECEIVABLE, invoice->amount_due);
	}
	(void) ledger_post(&posting);
}

static void
tell_end(const Invoice *invoice, const char *type, const char *reason)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "invoice", id_text(&invoice->id));
	json_put_text(&payload, "number", invoice->number);
	json_put_text(&payload, "reason", reason);
	(void) outbox_put(&invoice->tenant, type, json_end(&payload));
}

void
invoice_make_void(const pg_uuid_t *id, const char *reason)
{
	Invoice *invoice = invoice_lock(id);

	(void) invoice_after(invoice, "void");
	if (!numeric_is_zero(invoice->amount_paid) || !numeric_is_zero(invoice->amount_credited))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("invoice \"%s\" has been paid or credited in part", invoice->number),
				errhint("Refund what was paid, or issue a credit note over the rest."));
	if (!numeric_is_zero(invoice->amount_applied))
	{
		Numeric returned = credit_return(id, clock_now());

		if (returned != NULL)
			(void) invoice_settle(id, SETTLE_APPLIED, numeric_minus(numeric_from_int(0), returned));
		invoice = invoice_lock(id);
	}
	post_end(invoice, "void", LEDGER_RECEIVABLE);
	gate_run(&coupons_give_back, EXPECT_ANY, gate_uuid(id), gate_int32(1));
	gate_run(&items_give_back, EXPECT_ANY, gate_uuid(id));
	invoice_move(invoice, "void", reason);
	tell_end(invoice, "invoice.voided", reason);
}

void
invoice_write_off(const pg_uuid_t *id, const char *reason)
{
	Invoice *invoice = invoice_lock(id);

	(void) invoice_after(invoice, "write off");
	post_end(invoice, "write_off", LEDGER_WRITE_OFF);
	invoice_move(invoice, "write off", reason);
	tell_end(invoice, "invoice.uncollectible", reason);
}

/* invoice_void(invoice uuid, reason text) → tenancy.invoice */
TENANCY_FUNCTION(invoice_void)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	char *reason = required_text(fcinfo, 1, "reason");

	context_require_none("billing");
	invoice_make_void(id, reason);
	PG_RETURN_DATUM(invoice_row(id));
}

/* invoice_write_off(invoice uuid, reason text) → tenancy.invoice */
TENANCY_FUNCTION(invoice_write_off)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	char *reason = required_text(fcinfo, 1, "reason");

	context_require_none("billing");
	invoice_write_off(id, reason);
	PG_RETURN_DATUM(invoice_row(id));
}

/*
 * invoice_item_add(tenant regtenant, description text, unit_price numeric, currency text,
 *     quantity numeric, period tstzrange, tax_rates text[]) → tenancy.invoice_item
 */
TENANCY_FUNCTION(invoice_item_add)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *description = required_text(fcinfo, 1, "description");
	Numeric unit_price = required_numeric(fcinfo, 2, "unit_price");
	char *currency = required_text(fcinfo, 3, "currency");
	Numeric quantity = required_numeric(fcinfo, 4, "quantity");
	TimestampTz starts = clock_now();
	TimestampTz ends = starts;

	context_require_none("billing");
	(void) registry_get(tenant);
	(void) currency_exponent(currency);
	if (!PG_ARGISNULL(5))
		read_period(fcinfo, 5, &starts, &ends);
	if (!PG_ARGISNULL(6))
	{
		GateRows *unknown = gate_run(&unknown_rate, EXPECT_AT_MOST_ONE, gate_argument(6));

		if (unknown->count == 1)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("tax rate \"%s\" does not exist or is not active",
						   row_is_null(unknown, 0, 0) ? "" : row_text(unknown, 0, 0)));
	}
	PG_RETURN_DATUM(
		row_datum(gate_run(&pending_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(tenant),
						   gate_text(currency), gate_text(description), gate_numeric(quantity),
						   gate_numeric(unit_price), gate_argument(6), gate_timestamptz(starts),
						   gate_timestamptz(ends), gate_timestamptz(clock_now())),
				  0, 0));
}
