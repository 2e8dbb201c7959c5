/*
 * billing/write.c
 *		Bills become rows: a statement a table, for any number of bills.
 *
 * Invoices are written as what they are to be: a run writes them final, with their numbers,
 * instead of drafts that it would have to update.  Numbers are taken right before that, so that
 * the row of the series is locked as briefly as can be.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "price/document.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Who sells and who buys is copied into what is final, by INVOICE_PARTIES. */
GATE_STATEMENT(
	bills_insert,
	"INSERT INTO tenancy.invoice (id, tenant_id, legal_entity, subscription_id, purpose, number,"
	"    state, period_number, period_start, period_end, currency, line_count, tax_count,"
	"    discount_count, subtotal, discount, tax, inclusive_tax, total, deferred, usage_cutoff,"
	"    payment_terms_days, seller, customer, issued_at, due_at, paid_at, created_at)"
	" SELECT u.id, u.tenant_id, u.legal_entity, u.subscription_id, u.purpose, u.number,"
	"        CASE WHEN u.number IS NULL THEN 'draft' WHEN u.total = 0 THEN 'paid' ELSE 'open' END,"
	"        u.period_number, u.period_start, u.period_end, u.currency, u.line_count, u.tax_count,"
	"        u.discount_count, u.subtotal, u.discount, u.tax, u.inclusive_tax, u.total,"
	"        u.deferred, $21, u.payment_terms_days,"
	"        CASE WHEN u.number IS NOT NULL THEN " INVOICE_SELLER " END,"
	"        CASE WHEN u.number IS NOT NULL THEN " INVOICE_CUSTOMER " END,"
	"        CASE WHEN u.number IS NOT NULL THEN $22 END,"
	"        CASE WHEN u.number IS NOT NULL THEN"
	"            $22 + pg_catalog.make_interval(days => u.payment_terms_days) END,"
	"        CASE WHEN u.number IS NOT NULL AND u.total = 0 THEN $22 END, $22"
	"   FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
	"               $18, $19, $20)"
	"     AS u(id, tenant_id, legal_entity, subscription_id, purpose, number, period_number,"
	"          period_start, period_end, currency, line_count, tax_count, discount_count,"
	"          subtotal, discount, tax, inclusive_tax, total, deferred, payment_terms_days)"
	"   JOIN tenancy.tenant t ON t.id = u.tenant_id"
	"   JOIN tenancy.legal_entity e ON e.id = u.legal_entity"
	"   LEFT JOIN tenancy.billing_account a ON a.tenant_id = u.tenant_id",
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
	INT4ARRAYOID, INT4ARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID, NUMERICARRAYOID, INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	lines_insert,
	"INSERT INTO tenancy.invoice_line (invoice_id, position, tenant_id, subscription_id,"
	"    item_line, plan, price_version, charge, kind, description, metric, quantity, unit,"
	"    unit_price, amount, discount, tax, net, tax_rates, period_start, period_end, corrects,"
	"    corrects_position, trace)"
	" SELECT u.invoice_id, u.position, u.tenant_id, u.subscription_id, u.item_line, u.plan,"
	"        u.price_version, u.charge, u.kind, u.description, u.metric, u.quantity, u.unit,"
	"        u.unit_price, u.amount, u.discount, u.tax, u.net,"
	"        CASE WHEN u.tax_rates = '' THEN '{}'::text[]"
	"             ELSE pg_catalog.string_to_array(u.tax_rates, E'\\x1f') END,"
	"        u.period_start, u.period_end, u.corrects, u.corrects_position, u.trace"
	"   FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
	"               $18, $19, $20, $21, $22, $23, $24)"
	"     AS u(invoice_id, position, tenant_id, subscription_id, item_line, plan, price_version,"
	"          charge, kind, description, metric, quantity, unit, unit_price, amount, discount,"
	"          tax, net, tax_rates, period_start, period_end, corrects, corrects_position, trace)",
	UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
	INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
	TEXTARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
	NUMERICARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID,
	INT4ARRAYOID, JSONBARRAYOID);
GATE_STATEMENT(
	taxes_insert,
	"INSERT INTO tenancy.invoice_tax (invoice_id, position, tenant_id, tax_rate, name, percentage,"
	"    category, is_inclusive, reason, base, amount)"
	" SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS u",
	UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
	TEXTARRAYOID, BOOLARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID);
GATE_STATEMENT(discounts_insert,
			   "INSERT INTO tenancy.invoice_discount (invoice_id, position, tenant_id,"
			   "    redemption_id, coupon, description, amount)"
			   " SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6, $7) AS u",
			   UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			   NUMERICARRAYOID);
GATE_STATEMENT(coupons_update,
			   "UPDATE tenancy.coupon_redemption r"
			   "   SET periods_left = CASE WHEN u.periods_left >= 0 THEN u.periods_left END,"
			   "       amount_left = u.amount_left,"
			   "       state = CASE WHEN u.periods_left = 0 THEN 'used_up' ELSE r.state END"
			   "  FROM unnest($1, $2, $3) AS u(id, periods_left, amount_left)"
			   " WHERE r.id = u.id",
			   UUIDARRAYOID, INT4ARRAYOID, NUMERICARRAYOID);
GATE_STATEMENT(pending_update,
			   "UPDATE tenancy.invoice_item i SET invoice_id = u.invoice_id"
			   "  FROM unnest($1, $2) AS u(id, invoice_id) WHERE i.id = u.id",
			   UUIDARRAYOID, UUIDARRAYOID);
GATE_STATEMENT(
	subscriptions_update,
	"UPDATE tenancy.subscription s"
	"   SET state = u.state, plan = u.plan, price_version = u.price_version,"
	"       billing_period = u.billing_period, anchor = u.anchor,"
	"       period_number = u.period_number, period_start = u.period_start,"
	"       period_end = u.period_end, bills_at = u.bills_at, has_advance = u.has_advance,"
	"       usage_cutoff = u.usage_cutoff"
	"  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	"    AS u(id, state, plan, price_version, billing_period, anchor, period_number,"
	"         period_start, period_end, bills_at, has_advance, usage_cutoff)"
	" WHERE s.id = u.id",
	UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	INT4ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,
	TIMESTAMPTZARRAYOID);
GATE_STATEMENT(
	subscription_pause_over,
	"UPDATE tenancy.subscription SET pause_mode = NULL, paused_at = NULL, resumes_at = NULL,"
	"       state = 'ended', bills_at = NULL, usage_cutoff = $2"
	" WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID);

GATE_STATEMENT(invoices_unpaid,
			   "SELECT i.id FROM tenancy.invoice i"
			   " WHERE i.subscription_id = $1 AND i.state = 'open' ORDER BY i.id",
			   UUIDOID);

/* How long the first payment may take, as Stripe has it. */
#define INCOMPLETE_HOURS 23

/* A set of columns, filled row by row. */
typedef struct Table
{
	Column columns[GATE_MAX_ARGUMENTS];
	int width;
	int next;
	int64 rows;
} Table;

static void
table_begin(Table *table, const Oid *types, int width)
{
	table->width = width;
	table->next = 0;
	table->rows = 0;
	for (int i = 0; i < width; i++)
		column_begin(&table->columns[i], types[i]);
}

/* The next column of the row. */
static void
put(Table *table, NullableDatum value)
{
	column_add(&table->columns[table->next], value);
	if (++table->next == table->width)
	{
		table->next = 0;
		table->rows++;
	}
}

static GateRows *
table_write(const Table *table, GateStatement *statement, const NullableDatum *more, int more_count)
{
	NullableDatum arguments[GATE_MAX_ARGUMENTS];

	Assert(table->next == 0);
	for (int i = 0; i < table->width; i++)
		arguments[i] = column_array(&table->columns[i]);
	for (int i = 0; i < more_count; i++)
		arguments[table->width + i] = more[i];
	return gate_run_array(statement, EXPECT_ANY, arguments, table->width + more_count);
}

static int
compare_bills(const ListCell *a, const ListCell *b)
{
	const Bill *left = lfirst(a);
	const Bill *right = lfirst(b);

	if (left->period_start != right->period_start)
		return left->period_start < right->period_start ? -1 : 1;
	return memcmp(left->id.data, right->id.data, UUID_LEN);
}

static int
compare_series(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Give the bills of each series their numbers, by period; series in order, against deadlocks. */
static void
number_bills(Batch *batch)
{
	List *series = NIL;
	ListCell *cell;
	ListCell *bill_cell;

	list_sort(batch->bills, compare_bills);
	foreach (bill_cell, batch->bills)
	{
		const Bill *bill = lfirst(bill_cell);
		bool is_known = false;

		foreach (cell, series)
			is_known = is_known || strcmp(lfirst(cell), bill->payer->series) == 0;
		if (!is_known)
			series = lappend(series, bill->payer->series);
	}
	list_sort(series, compare_series);
	foreach (cell, series)
	{
		const char *name = lfirst(cell);
		int count = 0;
		int64 number;

		foreach (bill_cell, batch->bills)
		{
			const Bill *bill = lfirst(bill_cell);

			if (!bill->is_skipped && !bill->stays_draft && strcmp(bill->payer->series, name) == 0)
				count++;
		}
		if (count == 0)
			continue;
		number = series_take(name, count);
		foreach (bill_cell, batch->bills)
		{
			Bill *bill = lfirst(bill_cell);

			if (!bill->is_skipped && !bill->stays_draft && strcmp(bill->payer->series, name) == 0)
				bill->number = document_number(name, number++, bill->payer->number_width);
		}
	}
}

static void
write_invoices(Batch *batch, TimestampTz now)
{
	static const Oid types[] = {UUIDOID,    UUIDOID,    TEXTOID,        UUIDOID,        TEXTOID,
								TEXTOID,    INT4OID,    TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
								INT4OID,    INT4OID,    INT4OID,        NUMERICOID,     NUMERICOID,
								NUMERICOID, NUMERICOID, NUMERICOID,     NUMERICOID,     INT4OID};
	const NullableDatum more[] = {gate_timestamptz(batch->usage_cutoff), gate_timestamptz(now)};
	Table table;
	ListCell *cell;

	table_begin(&table, types, lengthof(types));
	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (bill->is_skipped)
			continue;
		put(&table, gate_uuid(&bill->id));
		put(&table, gate_uuid(&bill->payer->tenant));
		put(&table, gate_text(bill->payer->legal_entity));
		put(&table,
			bill->contract != NULL ? gate_uuid(&bill->contract->subscription.id) : gate_null());
		put(&table, gate_text(bill->purpose));
		put(&table, gate_text(bill->number));
		put(&table, bill->contract != NULL ? gate_int32(bill->contract->subscription.period_number)
										   : gate_null());
		put(&table, gate_timestamptz(bill->period_start));
		put(&table, gate_timestamptz(bill->period_end));
		put(&table, gate_text(bill->currency));
		put(&table, gate_int32(list_length(bill->lines)));
		put(&table, gate_int32(bill->tax_count));
		put(&table, gate_int32(bill->discount_count));
		put(&table, gate_numeric(bill->subtotal));
		put(&table, gate_numeric(bill->discount));
		put(&table, gate_numeric(bill->tax));
		put(&table, gate_numeric(bill->inclusive_tax));
		put(&table, gate_numeric(bill->total));
		put(&table, gate_numeric(bill->deferred));
		put(&table, gate_int32(bill->payer->payment_terms_days));
	}
	if (table.rows > 0)
		table_write(&table, &bills_insert, more, lengthof(more));
}

/* Several ids as one text: an array of arrays would have to be rectangular. */
static char *
joined(char **texts, int count)
{
	StringInfoData all;

	if (count == 0)
		return "";
	if (count == 1)
		return texts[0];
	initStringInfo(&all);
	for (int i = 0; i < count; i++)
		appendStringInfo(&all, "%s%s", i > 0 ? "\x1f" : "", texts[i]);
	return all.data;
}

static void
write_lines(const Batch *batch)
{
	static const Oid types[] = {UUIDOID,        INT4OID,    UUIDOID,    UUIDOID,    UUIDOID,
								TEXTOID,        INT4OID,    TEXTOID,    TEXTOID,    TEXTOID,
								TEXTOID,        NUMERICOID, TEXTOID,    NUMERICOID, NUMERICOID,
								NUMERICOID,     NUMERICOID, NUMERICOID, TEXTOID,    TIMESTAMPTZOID,
								TIMESTAMPTZOID, UUIDOID,    INT4OID,    JSONBOID};
	const Jsonb *no_trace = json_empty_object();
	Table table;
	ListCell *bill_cell;

	table_begin(&table, types, lengthof(types));
	foreach (bill_cell, batch->bills)
	{
		const Bill *bill = lfirst(bill_cell);
		int position = 0;
		ListCell *cell;

		if (bill->is_skipped)
			continue;
		foreach (cell, bill->lines)
		{
			const BillLine *line = lfirst(cell);
			bool has_contract = line->contract != NULL;

			put(&table, gate_uuid(&bill->id));
			put(&table, gate_int32(++position));
			put(&table, gate_uuid(&bill->payer->tenant));
			put(&table, has_contract ? gate_uuid(&line->contract->subscription.id) : gate_null());
			put(&table, has_contract ? gate_uuid(&line->item_line) : gate_null());
			put(&table, gate_text(line->plan));
			put(&table, has_contract ? gate_int32(line->price_version) : gate_null());
			put(&table, gate_text(line->charge));
			put(&table, gate_text(line->kind));
			put(&table, gate_text(line->description));
			put(&table, gate_text(line->metric));
			put(&table, gate_numeric(line->quantity));
			put(&table, gate_text(line->unit));
			put(&table, gate_numeric(line->unit_price));
			put(&table, gate_numeric(line->amount));
			put(&table, gate_numeric(line->discount));
			put(&table, gate_numeric(line->tax));
			put(&table, gate_numeric(line->net));
			put(&table, gate_text(joined(line->tax_rates, line->tax_rate_count)));
			put(&table, gate_timestamptz(line->period_start));
			put(&table, gate_timestamptz(line->period_end));
			put(&table, line->corrects_position > 0 ? gate_uuid(&line->corrects) : gate_null());
			put(&table,
				line->corrects_position > 0 ? gate_int32(line->corrects_position) : gate_null());
			put(&table, gate_jsonb(line->trace != NULL ? line->trace : no_trace));
		}
	}
	if (table.rows > 0)
		table_write(&table, &lines_insert, NULL, 0);
}

static void
write_taxes(const Batch *batch)
{
	static const Oid types[] = {UUIDOID, INT4OID, UUIDOID, TEXTOID,    TEXTOID,   NUMERICOID,
								TEXTOID, BOOLOID, TEXTOID, NUMERICOID, NUMERICOID};
	Table table;
	ListCell *cell;

	table_begin(&table, types, lengthof(types));
	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		for (int i = 0; !bill->is_skipped && i < bill->tax_count; i++)
		{
			const BillTax *tax = &bill->taxes[i];
			bool is_free = bill->payer->is_tax_free;

			put(&table, gate_uuid(&bill->id));
			put(&table, gate_int32(i + 1));
			put(&table, gate_uuid(&bill->payer->tenant));
			put(&table, gate_text(tax->rate->id));
			put(&table, gate_text(tax->rate->name));
			put(&table, gate_numeric(tax->percentage));
			put(&table, gate_text(is_free ? bill->payer->tax_category : tax->rate->category));
			put(&table, gate_bool(tax->rate->is_inclusive));
			put(&table, gate_text(bill->payer->exemption_reason));
			put(&table, gate_numeric(tax->base));
			put(&table, gate_numeric(tax->amount));
		}
	}
	if (table.rows > 0)
		table_write(&table, &taxes_insert, NULL, 0);
}

static void
write_discounts(const Batch *batch)
{
	static const Oid types[] = {UUIDOID, INT4OID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, NUMERICOID};
	static const Oid coupon_types[] = {UUIDOID, INT4OID, NUMERICOID};
	Table table;
	Table coupons;
	ListCell *cell;

	table_begin(&table, types, lengthof(types));
	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		for (int i = 0; !bill->is_skipped && i < bill->discount_count; i++)
		{
			const BillDiscount *discount = &bill->discounts[i];
			const GivenCoupon *coupon = discount->coupon;

			put(&table, gate_uuid(&bill->id));
			put(&table, gate_int32(i + 1));
			put(&table, gate_uuid(&bill->payer->tenant));
			put(&table, coupon != NULL ? gate_uuid(&coupon->redemption) : gate_null());
			put(&table, coupon != NULL ? gate_text(coupon->code) : gate_null());
			put(&table, gate_text(discount->description));
			put(&table, gate_numeric(discount->amount));
		}
	}
	if (table.rows > 0)
		table_write(&table, &discounts_insert, NULL, 0);
	table_begin(&coupons, coupon_types, lengthof(coupon_types));
	for (int i = 0; i < batch->payer_count; i++)
	{
		for (int j = 0; j < batch->payers[i].coupon_count; j++)
		{
			const GivenCoupon *coupon = &batch->payers[i].coupons[j];

			if (!coupon->has_changed)
				continue;
			put(&coupons, gate_uuid(&coupon->redemption));
			put(&coupons, gate_int32(coupon->periods_left));
			put(&coupons, gate_numeric(coupon->amount_left));
		}
	}
	if (coupons.rows > 0)
		table_write(&coupons, &coupons_update, NULL, 0);
}

static void
mark_pending(const Batch *batch)
{
	static const Oid types[] = {UUIDOID, UUIDOID};
	Table table;

	table_begin(&table, types, lengthof(types));
	for (int i = 0; i < batch->payer_count; i++)
	{
		const Payer *payer = &batch->payers[i];

		for (int j = 0; j < payer->item_count; j++)
		{
			const PendingItem *item = &payer->items[j];

			/* What comes to nothing and is not issued stays for the next bill. */
			if (item->bill == NULL || item->bill->is_skipped)
				continue;
			put(&table, gate_uuid(&item->id));
			put(&table, gate_uuid(&item->bill->id));
		}
	}
	if (table.rows > 0)
		table_write(&table, &pending_update, NULL, 0);
}

/* When the engine has to look at the subscription next. */
static TimestampTz
next_look(const Contract *contract)
{
	const Subscription *subscription = &contract->subscription;

	if (strcmp(contract->state, "incomplete") == 0)
		return subscription->bills_at + INCOMPLETE_HOURS * USECS_PER_HOUR;
	return Min(subscription->ends_at,
			   contract->closes ? contract->next_end : subscription->period_end);
}

static void
void_unpaid(const Batch *batch)
{
	for (int i = 0; i < batch->contract_count; i++)
	{
		GateRows *rows;

		if (!batch->contracts[i].expires)
			continue;
		rows =
			gate_run(&invoices_unpaid, EXPECT_ANY, gate_uuid(&batch->contracts[i].subscription.id));
		for (int64 j = 0; j < rows->count; j++)
			invoice_make_void(row_uuid(rows, j, 0), "not paid in time");
	}
}

static void
move_on(Batch *batch)
{
	static const Oid types[] = {UUIDOID,        TEXTOID,        TEXTOID, INT4OID,
								TEXTOID,        TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID,
								TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID};
	Table table;

	table_begin(&table, types, lengthof(types));
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];
		const Subscription *subscription = &contract->subscription;
		bool goes_on = contract->closes && !contract->ends;

		if (contract->ends && contract->pause_mode != NULL)
		{
			gate_run(&subscription_pause_over, EXPECT_ONE, gate_uuid(&subscription->id),
					 gate_timestamptz(batch->usage_cutoff));
			continue;
		}
		put(&table, gate_uuid(&subscription->id));
		put(&table, gate_text(contract->state));
		put(&table, gate_text(contract->next_plan->plan));
		put(&table, gate_int32(contract->next_plan->version));
		put(&table, gate_text(goes_on ? contract->next_plan->pricing->period_name
									  : subscription->period_name));
		put(&table, gate_timestamptz(contract->next_anchor));
		put(&table, gate_int32(goes_on ? contract->next_number : subscription->period_number));
		put(&table, gate_timestamptz(goes_on ? contract->closes_at : subscription->period_start));
		put(&table, gate_timestamptz(goes_on ? contract->next_end : subscription->period_end));
		put(&table, contract->ends ? gate_null() : gate_timestamptz(next_look(contract)));
		put(&table, gate_bool(contract->has_advance));
		put(&table,
			gate_timestamptz(contract->closes || contract->is_over ? batch->usage_cutoff
																   : contract->usage_cutoff));
		if (goes_on && strcmp(contract->next_plan->plan, subscription->plan) != 0)
			subscription_follow_plan(&subscription->tenant, contract->next_plan->plan);
	}
	if (table.rows > 0)
		table_write(&table, &subscriptions_update, NULL, 0);
}

/* What comes to nothing or less is settled, whatever the pause says. */
static bool
is_given_up(const Bill *bill)
{
	return bill->number != NULL && bill->ends_as != NULL &&
		   numeric_compare(bill->total, numeric_zero()) > 0;
}

static void
issue(const Batch *batch, TimestampTz now)
{
	IssuedInvoice *issued = palloc0(sizeof(IssuedInvoice) * Max(list_length(batch->bills), 1));
	int count = 0;
	ListCell *cell;

	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (bill->number == NULL)
			continue;
		issued[count++] = (IssuedInvoice){
			.id = bill->id,
			.tenant = bill->payer->tenant,
			.legal_entity = bill->payer->legal_entity,
			.currency = bill->currency,
			.number = bill->number,
			.total = bill->total,
			.tax = numeric_plus(bill->tax, bill->inclusive_tax),
			.deferred = bill->deferred,
			.issued_at = now,
			.due_at = now + bill->payer->payment_terms_days * USECS_PER_DAY,
			.line_count = list_length(bill->lines),
			.is_given_up = is_given_up(bill),
		};
	}
	invoices_issued(issued, count);
	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (!is_given_up(bill))
			continue;
		if (strcmp(bill->ends_as, "void") == 0)
			invoice_make_void(&bill->id, "paused");
		else
			invoice_write_off(&bill->id, "paused");
	}
}

void
batch_write(Batch *batch, WriteMode mode)
{
	TimestampTz now = clock_now();

	if (mode == WRITE_FINAL)
		number_bills(batch);
	write_invoices(batch, now);
	write_lines(batch);
	write_taxes(batch);
	write_discounts(batch);
	mark_pending(batch);
	move_on(batch);
	void_unpaid(batch);
	if (mode == WRITE_FINAL)
		issue(batch, now);
}
