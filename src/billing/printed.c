/*
 * billing/printed.c
 *		Reading what is printed of invoices and credit notes.
 *
 * What was issued is printed as it was; a draft with the seller and the customer as they are.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "billing/printed.h"
#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#define DAY(time) "pg_catalog.to_char((" time ") AT TIME ZONE z.zone, 'YYYY-MM-DD')"
/* The last day that a period [start, end) touches; its first for one without length. */
#define LAST_DAY(table)                                                                            \
	DAY("greatest(" table ".period_start, " table ".period_end - interval '1 microsecond')")
#define ZONE_OF(invoice)                                                                           \
	"LATERAL (SELECT coalesce((SELECT s.time_zone FROM tenancy.subscription s"                     \
	"                           WHERE s.id = " invoice ".subscription_id), 'UTC') AS zone) z"

GATE_LOOKUP(
	printed_invoice_row,
	"SELECT i.tenant_id, i.number, i.state, i.currency, " DAY(
		"i.issued_at") ", "
					   "       " DAY("i.due_at") ", " DAY("i.paid_at") ", " DAY(
						   "i.period_start") ","
											 "       " LAST_DAY(
												 "i") ", coalesce(i.seller, " INVOICE_SELLER "),"
													  "       "
													  "coalesce(i.customer, " INVOICE_CUSTOMER
													  "), i.subtotal, i.discount, i.tax,"
													  "       i.inclusive_tax, i.total, "
													  "i.amount_applied, i.amount_credited, "
													  "i.amount_paid,"
													  "       i.amount_due"
													  "  FROM tenancy.invoice i"
													  "  JOIN tenancy.tenant t ON t.id = "
													  "i.tenant_id"
													  "  JOIN tenancy.legal_entity e ON e.id = "
													  "i.legal_entity"
													  "  LEFT JOIN tenancy.billing_account a ON "
													  "a.tenant_id = i.tenant_id, " ZONE_OF(
														  "i") " WHERE i.id = $1",
	UUIDOID);
GATE_LOOKUP(printed_invoice_lines,
			"SELECT l.position, l.kind, l.description, l.quantity, l.unit, l.unit_price, l.amount,"
			"       l.discount, l.net, l.tax_rates, " DAY("l.period_start") ", " LAST_DAY(
				"l") ","
					 "       (l.trace->>'part')::numeric, (l.trace->>'whole')::numeric"
					 "  FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = "
					 "l.invoice_id, " ZONE_OF("l") " WHERE l.invoice_id = $1 ORDER BY l.position",
			UUIDOID);
GATE_LOOKUP(printed_invoice_taxes,
			"SELECT x.tax_rate, x.name, x.percentage, x.category, x.is_inclusive, x.reason, x.base,"
			"       x.amount"
			"  FROM tenancy.invoice_tax x WHERE x.invoice_id = $1 ORDER BY x.position",
			UUIDOID);
GATE_LOOKUP(printed_discounts,
			"SELECT d.description, d.coupon, d.amount FROM tenancy.invoice_discount d"
			" WHERE d.invoice_id = $1 ORDER BY d.position",
			UUIDOID);
GATE_LOOKUP(
	printed_notes,
	"SELECT n.number, " DAY("n.issued_at") ", n.total"
										   "  FROM tenancy.credit_note n JOIN tenancy.invoice i ON "
										   "i.id = n.invoice_id, " ZONE_OF(
											   "i") " WHERE n.invoice_id = $1 ORDER BY "
													"pg_catalog.length(n.number), n.number",
	UUIDOID);
GATE_LOOKUP(
	printed_note_row,
	"SELECT n.tenant_id, n.number, n.reason, n.currency, " DAY(
		"n.issued_at") ","
					   "       " DAY("i.period_start") ", " LAST_DAY(
						   "i") ", n.seller, n.customer, n.subtotal,"
								"       n.discount, n.tax, n.inclusive_tax, n.total, "
								"n.amount_off_due,"
								"       n.amount_to_credit, n.amount_to_refund, i.number, " DAY(
									"i.issued_at") ", i.total"
												   "  FROM tenancy.credit_note n JOIN "
												   "tenancy.invoice i ON i.id = "
												   "n.invoice_id, " ZONE_OF("i") " WHERE n.id = $1",
	UUIDOID);
GATE_LOOKUP(
	printed_note_lines,
	"SELECT l.position, l.kind, n.description, NULL, l.unit, NULL, n.amount, n.discount, n.net,"
	"       l.tax_rates, " DAY("l.period_start") ", " LAST_DAY(
		"l") ", NULL::numeric, NULL::numeric"
			 "  FROM tenancy.credit_note_line n"
			 "  JOIN tenancy.invoice_line l"
			 "    ON l.invoice_id = n.invoice_id AND l.position = n.invoice_position, " ZONE_OF(
				 "l") " WHERE n.credit_note_id = $1 ORDER BY n.position",
	UUIDOID);
GATE_LOOKUP(printed_note_taxes,
			"SELECT x.tax_rate, x.name, x.percentage, x.category, x.is_inclusive, x.reason, n.base,"
			"       n.amount"
			"  FROM tenancy.credit_note_tax n"
			"  JOIN tenancy.invoice_tax x"
			"    ON x.invoice_id = n.invoice_id AND x.position = n.invoice_position"
			" WHERE n.credit_note_id = $1 ORDER BY n.position",
			UUIDOID);

/* NULL, too, for a text of nothing. */
static char *
member(const Jsonb *object, const char *name)
{
	char *text = object != NULL ? json_text(object, name) : NULL;

	return text != NULL && *text != '\0' ? text : NULL;
}

static char *
column_text(const GateRows *rows, int64 row, int column)
{
	return row_is_null(rows, row, column) ? NULL : row_text(rows, row, column);
}

static PrintedParty
party_of(const Jsonb *from)
{
	const Jsonb *address = json_member(from, "address");

	return (PrintedParty){.name = member(from, "name"),
						  .line1 = member(address, "line1"),
						  .line2 = member(address, "line2"),
						  .postal_code = member(address, "postal_code"),
						  .city = member(address, "city"),
						  .region = member(address, "region"),
						  .country = member(from, "country"),
						  .tax_id = member(from, "tax_id"),
						  .email = member(from, "email")};
}

static void
read_parties(Printed *printed, const Jsonb *seller, const Jsonb *customer)
{
	const Jsonb *bank = json_member(seller, "bank_account");

	printed->seller = party_of(seller);
	printed->customer = party_of(customer);
	printed->iban = member(bank, "iban");
	printed->bic = member(bank, "bic");
	printed->account_holder = member(bank, "holder");
}

static void
read_taxes(Printed *printed, const GateRows *rows)
{
	printed->tax_count = rows->count;
	printed->taxes = palloc0(sizeof(PrintedTax) * Max(rows->count, 1));
	for (int i = 0; i < rows->count; i++)
		printed->taxes[i] = (PrintedTax){.id = row_text(rows, i, 0),
										 .name = row_text(rows, i, 1),
										 .percentage = row_numeric(rows, i, 2),
										 .category = row_text(rows, i, 3),
										 .is_inclusive = row_bool(rows, i, 4),
										 .reason = column_text(rows, i, 5),
										 .base = row_numeric(rows, i, 6),
										 .amount = row_numeric(rows, i, 7)};
}

static void
read_line_taxes(const Printed *printed, PrintedLine *line, char **ids, int count)
{
	line->taxes = palloc(sizeof(int) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		for (int j = 0; j < printed->tax_count; j++)
		{
			if (strcmp(printed->taxes[j].id, ids[i]) == 0)
				line->taxes[line->tax_count++] = j;
		}
	}
}

/* After the taxes, which lines refer to. */
static void
read_lines(Printed *printed, const GateRows *rows)
{
	printed->line_count = rows->count;
	printed->lines = palloc0(sizeof(PrintedLine) * Max(rows->count, 1));
	for (int i = 0; i < rows->count; i++)
	{
		PrintedLine *line = &printed->lines[i];
		int rate_count;
		char **rates = row_text_array(rows, i, 9, &rate_count);

		line->position = row_int32(rows, i, 0);
		line->kind = row_text(rows, i, 1);
		line->description = row_text(rows, i, 2);
		line->quantity = printed->is_credit_note ? NULL : row_numeric(rows, i, 3);
		line->unit = column_text(rows, i, 4);
		line->unit_price = printed->is_credit_note ? NULL : row_numeric(rows, i, 5);
		line->amount = row_numeric(rows, i, 6);
		line->discount = row_numeric(rows, i, 7);
		line->net = row_numeric(rows, i, 8);
		line->first_day = row_text(rows, i, 10);
		line->last_day = row_text(rows, i, 11);
		line->part = row_numeric(rows, i, 12);
		line->whole = row_numeric(rows, i, 13);
		read_line_taxes(printed, line, rates, rate_count);
	}
}

static void
read_discounts(Printed *printed)
{
	GateRows *rows = gate_run(&printed_discounts, EXPECT_ANY, gate_uuid(&printed->id));

	printed->discount_count = rows->count;
	printed->discounts = palloc0(sizeof(PrintedDiscount) * Max(rows->count, 1));
	for (int i = 0; i < rows->count; i++)
		printed->discounts[i] = (PrintedDiscount){.description = row_text(rows, i, 0),
												  .coupon = column_text(rows, i, 1),
												  .amount = row_numeric(rows, i, 2)};
}

static void
read_notes(Printed *printed)
{
	GateRows *rows = gate_run(&printed_notes, EXPECT_ANY, gate_uuid(&printed->id));

	printed->reference_count = rows->count;
	printed->references = palloc0(sizeof(PrintedReference) * Max(rows->count, 1));
	for (int i = 0; i < rows->count; i++)
		printed->references[i] = (PrintedReference){.number = row_text(rows, i, 0),
													.day = row_text(rows, i, 1),
													.total = row_numeric(rows, i, 2)};
}

Printed *
printed_invoice(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&printed_invoice_row, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Printed *printed = palloc0(sizeof(Printed));

	if (rows->count == 0 || !tenant_is_visible(row_uuid(rows, 0, 0)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(id)));
	printed->id = *id;
	printed->tenant = *row_uuid(rows, 0, 0);
	printed->number = column_text(rows, 0, 1);
	printed->state = row_text(rows, 0, 2);
	printed->currency = row_text(rows, 0, 3);
	printed->exponent = currency_exponent(printed->currency);
	printed->issued = column_text(rows, 0, 4);
	printed->due = column_text(rows, 0, 5);
	printed->paid = column_text(rows, 0, 6);
	printed->first_day = row_text(rows, 0, 7);
	printed->last_day = row_text(rows, 0, 8);
	read_parties(printed, row_jsonb(rows, 0, 9), row_jsonb(rows, 0, 10));
	printed->subtotal = row_numeric(rows, 0, 11);
	printed->discount = row_numeric(rows, 0, 12);
	printed->tax = row_numeric(rows, 0, 13);
	printed->inclusive_tax = row_numeric(rows, 0, 14);
	printed->total = row_numeric(rows, 0, 15);
	printed->amount_applied = row_numeric(rows, 0, 16);
	printed->amount_credited = row_numeric(rows, 0, 17);
	printed->amount_paid = row_numeric(rows, 0, 18);
	printed->amount_due = row_numeric(rows, 0, 19);
	read_taxes(printed, gate_run(&printed_invoice_taxes, EXPECT_ANY, gate_uuid(id)));
	read_lines(printed, gate_run(&printed_invoice_lines, EXPECT_ANY, gate_uuid(id)));
	read_discounts(printed);
	read_notes(printed);
	return printed;
}

Printed *
printed_credit_note(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&printed_note_row, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Printed *printed = palloc0(sizeof(Printed));

	if (rows->count == 0 || !tenant_is_visible(row_uuid(rows, 0, 0)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("credit note \"%s\" does not exist", id_text(id)));
	printed->is_credit_note = true;
	printed->id = *id;
	printed->tenant = *row_uuid(rows, 0, 0);
	printed->number = row_text(rows, 0, 1);
	printed->reason = row_text(rows, 0, 2);
	printed->currency = row_text(rows, 0, 3);
	printed->exponent = currency_exponent(printed->currency);
	printed->issued = row_text(rows, 0, 4);
	printed->first_day = row_text(rows, 0, 5);
	printed->last_day = row_text(rows, 0, 6);
	read_parties(printed, row_jsonb(rows, 0, 7), row_jsonb(rows, 0, 8));
	printed->subtotal = row_numeric(rows, 0, 9);
	printed->discount = row_numeric(rows, 0, 10);
	printed->tax = row_numeric(rows, 0, 11);
	printed->inclusive_tax = row_numeric(rows, 0, 12);
	printed->total = row_numeric(rows, 0, 13);
	printed->amount_off_due = row_numeric(rows, 0, 14);
	printed->amount_to_credit = row_numeric(rows, 0, 15);
	printed->amount_to_refund = row_numeric(rows, 0, 16);
	printed->references = palloc(sizeof(PrintedReference));
	printed->reference_count = 1;
	printed->references[0] = (PrintedReference){.number = row_text(rows, 0, 17),
												.day = row_text(rows, 0, 18),
												.total = row_numeric(rows, 0, 19)};
	read_taxes(printed, gate_run(&printed_note_taxes, EXPECT_ANY, gate_uuid(id)));
	read_lines(printed, gate_run(&printed_note_lines, EXPECT_ANY, gate_uuid(id)));
	return printed;
}

/* How many bytes at the text are a character that HTML or XML has not, not even as a reference. */
static int
forbidden_length(const unsigned char *text)
{
	if ((*text < ' ' && *text != '\n' && *text != '\t') || *text == 0x7f)
		return 1;
	if (GetDatabaseEncoding() != PG_UTF8)
		return 0;
	/* U+0080 to U+009F; U+FFFE and U+FFFF. */
	if (*text == 0xc2 && text[1] < 0xa0)
		return 2;
	return *text == 0xef && text[1] == 0xbf && text[2] >= 0xbe ? 3 : 0;
}

void
append_escaped(StringInfo page, const char *text)
{
	while (text != NULL && *text)
	{
		int forbidden = forbidden_length((const unsigned char *) text);

		if (forbidden > 0)
		{
			text += forbidden;
			continue;
		}
		switch (*text)
		{
			case '&':
				appendStringInfoString(page, "&amp;");
				break;
			case '<':
				appendStringInfoString(page, "&lt;");
				break;
			case '>':
				appendStringInfoString(page, "&gt;");
				break;
			case '"':
				appendStringInfoString(page, "&quot;");
				break;
			case '\'':
				appendStringInfoString(page, "&#39;");
				break;
			default:
				appendStringInfoChar(page, *text);
				break;
		}
		text++;
	}
}
