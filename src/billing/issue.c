/*
 * billing/issue.c
 *		Issuing invoices: numbers, the ledger, and whoever else is to know.
 *
 * The row of a series is locked from the moment that a number is taken until the transaction
 * ends, and rolls back with it: a series has no gaps.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "credit/credit.h"
#include "job/outbox.h"
#include "ledger/ledger.h"
#include "price/document.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(series_next,
			   "INSERT INTO tenancy.invoice_series AS n (name, next_number) VALUES ($1, 1 + $2)"
			   " ON CONFLICT (name) DO UPDATE SET next_number = n.next_number + $2"
			   " RETURNING n.next_number - $2",
			   TEXTOID, INT8OID);
GATE_STATEMENT(drafts_lock,
			   "SELECT i.id, e.invoice_series, e.number_width FROM tenancy.invoice i"
			   "  JOIN tenancy.legal_entity e ON e.id = i.legal_entity"
			   " WHERE i.id = ANY ($1) AND i.state = 'draft'"
			   " ORDER BY e.invoice_series, i.period_start, i.id FOR UPDATE OF i",
			   UUIDARRAYOID);
GATE_STATEMENT(
	drafts_open,
	"UPDATE tenancy.invoice i"
	"   SET number = u.number, state = CASE WHEN i.total = 0 THEN 'paid' ELSE 'open' END,"
	"       seller = " INVOICE_SELLER ", customer = " INVOICE_CUSTOMER ", issued_at = $3,"
	"       due_at = $3 + pg_catalog.make_interval(days => i.payment_terms_days),"
	"       paid_at = CASE WHEN i.total = 0 THEN $3 END"
	"  FROM unnest($1, $2) AS u(id, number)"
	"  JOIN tenancy.invoice o ON o.id = u.id"
	"  JOIN tenancy.tenant t ON t.id = o.tenant_id"
	"  JOIN tenancy.legal_entity e ON e.id = o.legal_entity"
	"  LEFT JOIN tenancy.billing_account a ON a.tenant_id = o.tenant_id"
	" WHERE i.id = u.id"
	" RETURNING i.id, i.tenant_id, i.legal_entity, i.currency, i.number, i.total,"
	"           i.tax + i.inclusive_tax, i.deferred, i.due_at, i.line_count",
	UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID);

static const EventType event_types[] = {
	{"invoice.finalized", 1, "An invoice has got its number and is due."},
	{"invoice.uncollectible", 1, "An invoice was written off."},
	{"invoice.voided", 1, "An invoice counts no more."},
};

void
invoice_events_init(void)
{
	event_types_register(event_types, lengthof(event_types));
}

int64
series_take(const char *series, int count)
{
	return row_int64(gate_run(&series_next, EXPECT_ONE, gate_text(series), gate_int64(count)), 0,
					 0);
}

static bool
is_negative(Numeric amount)
{
	return numeric_compare(amount, numeric_from_int(0)) < 0;
}

static void
post(const IssuedInvoice *invoices, int count)
{
	LedgerPosting *postings = palloc0(sizeof(LedgerPosting) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		const IssuedInvoice *invoice = &invoices[i];
		LedgerPosting *posting = &postings[i];

		posting->kind = "invoice";
		posting->document = invoice->id;
		posting->tenant = invoice->tenant;
		posting->legal_entity = invoice->legal_entity;
		posting->currency = invoice->currency;
		posting->effective_at = invoice->issued_at;
		posting->description = invoice->number;
		if (is_negative(invoice->total))
			ledger_debit(posting, LEDGER_CUSTOMER_CREDIT, invoice->total);
		else
			ledger_debit(posting, LEDGER_RECEIVABLE, invoice->total);
		ledger_credit(posting, LEDGER_TAX_PAYABLE, invoice->tax);
		ledger_credit(posting, LEDGER_DEFERRED, invoice->deferred);
		ledger_credit(
			posting, LEDGER_REVENUE,
			numeric_minus(numeric_minus(invoice->total, invoice->tax), invoice->deferred));
	}
	(void) ledger_post_many(postings, count);
}

static void
tell(const IssuedInvoice *invoices, int count)
{
	pg_uuid_t *tenants = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	const Jsonb **payloads = palloc(sizeof(Jsonb *) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		JsonBuilder payload;

		tenants[i] = invoices[i].tenant;
		json_begin(&payload);
		json_put_text(&payload, "invoice", id_text(&invoices[i].id));
		json_put_text(&payload, "number", invoices[i].number);
		json_put_numeric(&payload, "total", invoices[i].total);
		json_put_text(&payload, "currency", invoices[i].currency);
		payloads[i] = json_end(&payload);
	}
	outbox_put_many("invoice.finalized", tenants, payloads, count);
}

/* What comes to less than nothing is credit from now on. */
static void
grant(const IssuedInvoice *invoice)
{
	CreditGrant credit = {.tenant = invoice->tenant,
						  .currency = invoice->currency,
						  .legal_entity = invoice->legal_entity,
						  .source = "proration",
						  .reason = psprintf("invoice %s", invoice->number),
						  .amount = numeric_minus(numeric_from_int(0), invoice->total),
						  .priority = CREDIT_PRIORITY_DEFAULT,
						  .expires_at = DT_NOEND,
						  .document = &invoice->id};

	(void) credit_grant(&credit);
	(void) invoice_settle(&invoice->id, SETTLE_APPLIED, invoice->total);
}

static void
apply_credit(const IssuedInvoice *invoices, int count)
{
	CreditDemand *demands = palloc0(sizeof(CreditDemand) * Max(count, 1));
	pg_uuid_t *settled = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	Numeric *amounts = palloc(sizeof(Numeric) * Max(count, 1));
	int settled_count = 0;
	int demand_count = 0;

	for (int i = 0; i < count; i++)
	{
		if (!invoices[i].is_given_up)
			demands[demand_count++] = (CreditDemand){.document = invoices[i].id,
													 .tenant = invoices[i].tenant,
													 .legal_entity = invoices[i].legal_entity,
													 .currency = invoices[i].currency,
													 .due = invoices[i].total};
	}
	if (credit_apply_many(demands, demand_count, clock_now()) == 0)
		return;
	for (int i = 0; i < demand_count; i++)
	{
		if (demands[i].applied == NULL)
			continue;
		settled[settled_count] = demands[i].document;
		amounts[settled_count++] = demands[i].applied;
	}
	invoices_settle(SETTLE_APPLIED, settled, amounts, settled_count);
}

void
invoices_issued(const IssuedInvoice *invoices, int count)
{
	if (count == 0)
		return;
	post(invoices, count);
	tell(invoices, count);
	for (int i = 0; i < count; i++)
	{
		if (is_negative(invoices[i].total))
			grant(&invoices[i]);
	}
	apply_credit(invoices, count);
}

void
invoices_finalize(const pg_uuid_t *ids, int count)
{
	GateRows *drafts = gate_run(&drafts_lock, EXPECT_ANY, gate_uuid_array(ids, count));
	TimestampTz now = clock_now();
	GateRows *rows;
	IssuedInvoice *issued;
	Column id_column;
	Column numbers;
	int64 number = 0;

	column_begin(&id_column, UUIDOID);
	column_begin(&numbers, TEXTOID);
	for (int64 i = 0; i < drafts->count; i++)
	{
		char *series = row_text(drafts, i, 1);

		if (i == 0 || strcmp(series, row_text(drafts, i - 1, 1)) != 0)
		{
			int of_series = 1;

			while (i + of_series < drafts->count &&
				   strcmp(series, row_text(drafts, i + of_series, 1)) == 0)
				of_series++;
			number = series_take(series, of_series);
		}
		column_add(&id_column, gate_uuid(row_uuid(drafts, i, 0)));
		column_add(&numbers, gate_text(document_number(series, number++, row_int32(drafts, i, 2))));
	}
	rows = gate_run(&drafts_open, EXPECT_ANY, column_array(&id_column), column_array(&numbers),
					gate_timestamptz(now));
	issued = palloc0(sizeof(IssuedInvoice) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
		issued[i] = (IssuedInvoice){.id = *row_uuid(rows, i, 0),
									.tenant = *row_uuid(rows, i, 1),
									.legal_entity = row_text(rows, i, 2),
									.currency = row_text(rows, i, 3),
									.number = row_text(rows, i, 4),
									.total = row_numeric(rows, i, 5),
									.tax = row_numeric(rows, i, 6),
									.deferred = row_numeric(rows, i, 7),
									.issued_at = now,
									.due_at = row_timestamptz(rows, i, 8),
									.line_count = row_int32(rows, i, 9)};
	invoices_issued(issued, rows->count);
}
