/*
 * billing/credit_note.c
 *		Credit notes: what is taken back of an invoice that was issued.
 *
 * The invoice is locked and written to, even where nothing of it changes: of two credit notes at
 * once the second sees what the first has left, or fails under snapshot isolation.  What later
 * invoices have credited of a line by themselves, because it was billed in advance and is not
 * used, counts as if an earlier credit note had taken it.  The number comes last.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "credit/credit.h"
#include "job/outbox.h"
#include "ledger/ledger.h"
#include "price/document.h"

#include "utils/builtins.h"

GATE_STATEMENT(
	creditable_lines,
	"SELECT l.position, l.description, l.kind, l.amount, l.discount, l.net, l.tax_rates,"
	"       c.corrected, n.amount, n.discount, n.net"
	"  FROM tenancy.invoice_line l"
	"  JOIN tenancy.creditable_line c ON c.invoice_id = l.invoice_id AND c.position = l.position,"
	"       LATERAL (SELECT coalesce(sum(e.amount), 0) AS amount,"
	"                       coalesce(sum(e.discount), 0) AS discount,"
	"                       coalesce(sum(e.net), 0) AS net"
	"                  FROM tenancy.credit_note_line e"
	"                 WHERE e.invoice_id = l.invoice_id AND e.invoice_position = l.position) n"
	" WHERE l.invoice_id = $1 ORDER BY l.position",
	UUIDOID);
GATE_STATEMENT(
	creditable_taxes,
	"SELECT x.position, x.tax_rate, x.percentage, x.is_inclusive, x.base, x.amount,"
	"       e.base, e.amount"
	"  FROM tenancy.invoice_tax x,"
	"       LATERAL (SELECT coalesce(sum(n.base), 0) AS base,"
	"                       coalesce(sum(n.amount), 0) AS amount"
	"                  FROM tenancy.credit_note_tax n"
	"                 WHERE n.invoice_id = x.invoice_id AND n.invoice_position = x.position) e"
	" WHERE x.invoice_id = $1 ORDER BY x.position",
	UUIDOID);
GATE_STATEMENT(credited_invoice,
			   "SELECT e.credit_note_series, e.number_width,"
			   "       coalesce(i.seller->>'tax_rounding', e.tax_rounding) = 'invoice',"
			   "       i.total - coalesce((SELECT sum(n.total) FROM tenancy.credit_note n"
			   "                            WHERE n.invoice_id = i.id), 0)"
			   "  FROM tenancy.invoice i JOIN tenancy.legal_entity e ON e.id = i.legal_entity"
			   " WHERE i.id = $1",
			   UUIDOID);
GATE_STATEMENT(
	credit_note_insert,
	"INSERT INTO tenancy.credit_note (id, tenant_id, legal_entity, invoice_id, number, reason,"
	"    currency, line_count, tax_count, subtotal, discount, tax, inclusive_tax, total,"
	"    deferred, amount_off_due, amount_to_credit, amount_to_refund, seller, customer,"
	"    issued_at)"
	" SELECT $1, i.tenant_id, i.legal_entity, i.id, $3, $4, i.currency, $5, $6, $7, $8, $9,"
	"        $10, $11, $12, $13, $14, $15, i.seller, i.customer, $16"
	"   FROM tenancy.invoice i WHERE i.id = $2",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, INT4OID, INT4OID, NUMERICOID, NUMERICOID, NUMERICOID,
	NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	credit_note_line_insert,
	"INSERT INTO tenancy.credit_note_line (credit_note_id, position, tenant_id, invoice_id,"
	"    invoice_position, description, amount, discount, net)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	UUIDOID, INT4OID, UUIDOID, UUIDOID, INT4OID, TEXTOID, NUMERICOID, NUMERICOID, NUMERICOID);
GATE_STATEMENT(
	credit_note_tax_insert,
	"INSERT INTO tenancy.credit_note_tax (credit_note_id, position, tenant_id, invoice_id,"
	"    invoice_position, base, amount)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7)",
	UUIDOID, INT4OID, UUIDOID, UUIDOID, INT4OID, NUMERICOID, NUMERICOID);
GATE_STATEMENT(credit_note_row, "SELECT n FROM tenancy.credit_note n WHERE n.id = $1", UUIDOID);

/* Columns of creditable_lines. */
enum
{
	LINE_POSITION,
	LINE_DESCRIPTION,
	LINE_KIND,
	LINE_AMOUNT,
	LINE_DISCOUNT,
	LINE_NET,
	LINE_TAX_RATES,
	LINE_CORRECTED,
	LINE_EARLIER,
	LINE_EARLIER_DISCOUNT,
	LINE_EARLIER_NET
};

static const EventType event_types[] = {
	{"credit_note.created", 1, "A credit note has taken back something of an invoice."},
};

static const JsonRule line_members[] = {
	{.name = "amount", .type = JSON_NUMBER},
	{.name = "position",
	 .type = JSON_INTEGER,
	 .is_required = true,
	 .minimum = "1",
	 .maximum = "2147483647"},
	{.name = NULL},
};
static const JsonRule line_rule = {.type = JSON_OBJECT, .members = line_members};
static const JsonRule request_members[] = {
	{.name = "lines",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &line_rule,
	 .max_length = 10000},
	{.name = NULL},
};

/* A credit note that is being made. */
typedef struct Draft
{
	const Invoice *invoice;
	GateRows *lines; /* of the invoice */
	GateRows *taxes;
	CreditNote note;      /* its lines and taxes are those of the invoice, in their order */
	Numeric *earlier_net; /* of each line */
	Numeric *net;         /* of each line, by this note */
	Numeric inclusive_tax;
	Numeric deferred;
	Numeric off_due;
	Numeric to_credit;
	Numeric to_refund;
} Draft;

static const InvoiceWatcher *watcher; /* NULL for nobody */

void
credit_note_set_watcher(const InvoiceWatcher *new_watcher)
{
	watcher = new_watcher;
}

void
credit_note_init(void)
{
	event_types_register(event_types, lengthof(event_types));
}

static Numeric
part_of(Numeric whole, Numeric part, Numeric of, int exponent)
{
	return numeric_is_zero(of) ? numeric_zero()
							   : money_ratio(numeric_times(whole, part), of, exponent);
}

static void
read_taxes(Draft *draft)
{
	CreditNote *note = &draft->note;
	GateRows *rows = gate_run(&creditable_taxes, EXPECT_ANY, gate_uuid(&draft->invoice->id));

	draft->taxes = rows;
	note->tax_count = rows->count;
	note->taxes = palloc0(sizeof(CreditedTax) * Max(rows->count, 1));
	for (int i = 0; i < note->tax_count; i++)
		note->taxes[i] = (CreditedTax){
			.tax = {.id = row_text(rows, i, 1),
					.percentage = row_numeric(rows, i, 2),
					.is_inclusive = row_bool(rows, i, 3)},
			.base = row_numeric(rows, i, 4),
			.amount = row_numeric(rows, i, 5),
			.earlier_base = numeric_zero(),
			.earlier_amount = numeric_zero(),
		};
}

/* The taxes of a line by their place in the note. */
static int *
taxes_of(const Draft *draft, int64 row, int *count)
{
	char **ids = row_text_array(draft->lines, row, LINE_TAX_RATES, count);
	int *taxes = palloc(sizeof(int) * Max(*count, 1));

	for (int i = 0; i < *count; i++)
	{
		int tax = 0;

		while (tax < draft->note.tax_count && strcmp(draft->note.taxes[tax].tax.id, ids[i]) != 0)
			tax++;
		if (tax == draft->note.tax_count)
			elog(ERROR, "a line of invoice \"%s\" has a tax that the invoice has not",
				 draft->invoice->number);
		taxes[i] = tax;
	}
	return taxes;
}

static void
read_lines(Draft *draft)
{
	CreditNote *note = &draft->note;
	GateRows *rows = gate_run(&creditable_lines, EXPECT_ANY, gate_uuid(&draft->invoice->id));

	draft->lines = rows;
	note->line_count = rows->count;
	note->lines = palloc0(sizeof(CreditedLine) * Max(rows->count, 1));
	draft->net = palloc0(sizeof(Numeric) * Max(rows->count, 1));
	draft->earlier_net = palloc0(sizeof(Numeric) * Max(rows->count, 1));
	for (int i = 0; i < note->line_count; i++)
	{
		CreditedLine *line = &note->lines[i];

		line->amount = row_numeric(rows, i, LINE_AMOUNT);
		line->discount = row_numeric(rows, i, LINE_DISCOUNT);
		line->earlier = line->earlier_discount = line->credit = numeric_zero();
		line->taxes = taxes_of(draft, i, &line->tax_count);
		draft->earlier_net[i] = numeric_zero();
	}
}

static bool
is_in_note(const CreditedLine *line)
{
	return !numeric_is_zero(line->credit);
}

/* A part of an amount, at most what is left of it; of a negative amount both are negative. */
static Numeric
part_at_most(Numeric amount, Numeric part, Numeric left)
{
	return numeric_compare(amount, numeric_zero()) < 0 ? numeric_larger_of(part, left)
													   : numeric_smaller_of(part, left);
}

/* What is earned no more of each line: net of taxes that its amount contains. */
static void
calculate_net(Draft *draft)
{
	const CreditNote *note = &draft->note;

	for (int i = 0; i < note->line_count; i++)
	{
		const CreditedLine *line = &note->lines[i];
		Numeric charged = numeric_minus(line->amount, line->discount);
		Numeric net = row_numeric(draft->lines, i, LINE_NET);
		Numeric within = numeric_minus(charged, net);
		Numeric earlier = numeric_minus(numeric_minus(line->earlier, line->earlier_discount),
										draft->earlier_net[i]);
		bool is_last =
			numeric_compare(numeric_plus(line->earlier, line->credit), line->amount) == 0;

		if (is_last)
			draft->net[i] = numeric_minus(net, draft->earlier_net[i]);
		else
			draft->net[i] = numeric_minus(
				line->credit_net,
				part_at_most(charged, part_of(within, line->credit_net, charged, note->exponent),
							 numeric_minus(within, earlier)));
	}
}

/* Does the note take back anything that bears the tax? */
static bool
is_tax_in_note(const CreditNote *note, int tax)
{
	for (int i = 0; i < note->line_count; i++)
	{
		for (int j = 0; is_in_note(&note->lines[i]) && j < note->lines[i].tax_count; j++)
		{
			if (note->lines[i].taxes[j] == tax)
				return true;
		}
	}
	return false;
}

/* What is left of a tax after the note. */
static Numeric
left_of_tax(const CreditedTax *tax)
{
	return numeric_minus(numeric_minus(tax->amount, tax->earlier_amount), tax->credit_amount);
}

/*
 * Taxes that amounts contain are what the lines of the note contain, so that its lines add up to
 * it: rounded on the note they could be a cent more or less.  That cent is with the rate of which
 * most is left.
 */
static void
follow_lines(Draft *draft)
{
	CreditNote *note = &draft->note;
	Numeric missing = numeric_zero();
	CreditedTax *most = NULL;

	for (int i = 0; i < note->line_count; i++)
		missing = numeric_plus(missing, numeric_minus(note->lines[i].credit_net, draft->net[i]));
	for (int n = 0; n < note->tax_count; n++)
	{
		CreditedTax *tax = &note->taxes[n];

		if (!tax->tax.is_inclusive || !is_tax_in_note(note, n))
			continue;
		missing = numeric_minus(missing, tax->credit_amount);
		if (most == NULL || numeric_compare(left_of_tax(tax), left_of_tax(most)) > 0)
			most = tax;
	}
	if (most == NULL || numeric_is_zero(missing))
		return;
	most->credit_amount = numeric_plus(most->credit_amount, missing);
	for (int n = 0; n < note->tax_count; n++)
	{
		note->taxes[n].credit_base = numeric_zero();
		for (int i = 0; i < note->line_count; i++)
		{
			for (int j = 0; is_in_note(&note->lines[i]) && j < note->lines[i].tax_count; j++)
			{
				if (note->lines[i].taxes[j] == n)
					note->taxes[n].credit_base =
						numeric_plus(note->taxes[n].credit_base, draft->net[i]);
			}
		}
	}
}

static void
calculate(Draft *draft)
{
	credit_note_calculate(&draft->note);
	calculate_net(draft);
	follow_lines(draft);
}

/* What has been credited before is earlier from now on, by later invoices and by notes. */
static void
take_earlier(Draft *draft)
{
	CreditNote *note = &draft->note;
	bool is_corrected = false;

	for (int i = 0; i < note->line_count; i++)
	{
		note->lines[i].credit = row_numeric(draft->lines, i, LINE_CORRECTED);
		is_corrected = is_corrected || !numeric_is_zero(note->lines[i].credit);
	}
	if (is_corrected)
		calculate(draft);
	for (int i = 0; i < note->line_count; i++)
	{
		CreditedLine *line = &note->lines[i];

		line->earlier = numeric_plus(line->credit, row_numeric(draft->lines, i, LINE_EARLIER));
		line->earlier_discount = row_numeric(draft->lines, i, LINE_EARLIER_DISCOUNT);
		draft->earlier_net[i] = row_numeric(draft->lines, i, LINE_EARLIER_NET);
		if (is_corrected)
		{
			line->earlier_discount = numeric_plus(line->earlier_discount, line->credit_discount);
			draft->earlier_net[i] = numeric_plus(draft->earlier_net[i], draft->net[i]);
		}
		line->credit = numeric_zero();
	}
	for (int i = 0; i < note->tax_count; i++)
	{
		CreditedTax *tax = &note->taxes[i];

		tax->earlier_base = row_numeric(draft->taxes, i, 6);
		tax->earlier_amount = row_numeric(draft->taxes, i, 7);
		if (is_corrected)
		{
			tax->earlier_base = numeric_plus(tax->earlier_base, tax->credit_base);
			tax->earlier_amount = numeric_plus(tax->earlier_amount, tax->credit_amount);
		}
	}
}

static Numeric
rest_of(const CreditedLine *line)
{
	return numeric_minus(line->amount, line->earlier);
}

static void
ask_for_rest(Draft *draft)
{
	for (int i = 0; i < draft->note.line_count; i++)
		draft->note.lines[i].credit = rest_of(&draft->note.lines[i]);
}

/* One line of the request. */
static void
ask_for_line(Draft *draft, const Jsonb *wanted)
{
	int32 position = json_int32(wanted, "position", 0);
	Numeric amount = json_numeric(wanted, "amount");
	CreditedLine *line = NULL;
	Numeric rest;

	for (int i = 0; i < draft->note.line_count; i++)
	{
		if (row_int32(draft->lines, i, LINE_POSITION) == position)
			line = &draft->note.lines[i];
	}
	if (line == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invoice \"%s\" has no line %d", draft->invoice->number, position));
	if (!numeric_is_zero(line->credit))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("line %d is credited twice", position));
	rest = rest_of(line);
	if (amount == NULL)
		amount = rest;
	if (numeric_compare(amount, money_round(amount, draft->note.exponent)) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the amount of line %d has more than %d decimals, which is what %s has",
					   position, draft->note.exponent, draft->invoice->currency));
	amount = money_round(amount, draft->note.exponent);
	/* Of a line that gave something back, a negative amount is taken back. */
	if (numeric_is_zero(amount) ||
		numeric_compare(amount, numeric_larger_of(rest, numeric_zero())) > 0 ||
		numeric_compare(amount, numeric_smaller_of(rest, numeric_zero())) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s cannot be credited of line %d", numeric_text(amount), position),
				errdetail("Of its %s %s, %s are left.", numeric_text(line->amount),
						  draft->invoice->currency, numeric_text(rest)));
	line->credit = amount;
}

/* What the note does with its total. */
static void
share_out(Draft *draft, bool is_refunded)
{
	const Invoice *invoice = draft->invoice;
	Numeric rest;

	draft->off_due =
		numeric_positive_part(numeric_smaller_of(draft->note.total, invoice->amount_due));
	rest = numeric_minus(draft->note.total, draft->off_due);
	draft->to_refund = numeric_zero();
	if (is_refunded)
	{
		/* Of what was paid, less what goes back already. */
		Numeric refundable = numeric_plus(invoice->amount_paid,
										  numeric_smaller_of(invoice->amount_due, numeric_zero()));

		draft->to_refund = numeric_positive_part(numeric_smaller_of(rest, refundable));
	}
	draft->to_credit = numeric_minus(rest, draft->to_refund);
}

static void
sum_up(Draft *draft)
{
	const CreditNote *note = &draft->note;

	draft->inclusive_tax = draft->deferred = numeric_zero();
	for (int i = 0; i < note->tax_count; i++)
	{
		if (note->taxes[i].tax.is_inclusive)
			draft->inclusive_tax = numeric_plus(draft->inclusive_tax, note->taxes[i].credit_amount);
	}
	for (int i = 0; i < note->line_count; i++)
	{
		if (line_is_deferred(row_text(draft->lines, i, LINE_KIND)))
			draft->deferred = numeric_plus(draft->deferred, draft->net[i]);
	}
}

static void
post(const Draft *draft, const pg_uuid_t *id, const char *number)
{
	const Invoice *invoice = draft->invoice;
	bool is_given_up = strcmp(invoice->state, "uncollectible") == 0;
	Numeric tax = numeric_plus(draft->note.tax, draft->inclusive_tax);
	LedgerPosting posting = {.kind = "credit_note",
							 .document = *id,
							 .tenant = invoice->tenant,
							 .legal_entity = invoice->legal_entity,
							 .currency = invoice->currency,
							 .effective_at = clock_now(),
							 .description = number};

	ledger_debit(&posting, LEDGER_TAX_PAYABLE, tax);
	ledger_debit(&posting, LEDGER_DEFERRED, draft->deferred);
	ledger_debit(&posting, LEDGER_REVENUE,
				 numeric_minus(numeric_minus(draft->note.total, tax), draft->deferred));
	/* What was given up is no receivable any more. */
	ledger_credit(&posting, is_given_up ? LEDGER_WRITE_OFF : LEDGER_RECEIVABLE, draft->off_due);
	ledger_credit(&posting, LEDGER_RECEIVABLE, draft->to_refund);
	ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, draft->to_credit);
	(void) ledger_post(&posting);
}

static void
tell(const Draft *draft, const pg_uuid_t *id, const char *number)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "credit_note", id_text(id));
	json_put_text(&payload, "number", number);
	json_put_text(&payload, "invoice", id_text(&draft->invoice->id));
	json_put_numeric(&payload, "total", money_round(draft->note.total, draft->note.exponent));
	json_put_numeric(&payload, "to_refund", money_round(draft->to_refund, draft->note.exponent));
	json_put_text(&payload, "currency", draft->invoice->currency);
	(void) outbox_put(&draft->invoice->tenant, "credit_note.created", json_end(&payload));
}

static void
grant(const Draft *draft, const pg_uuid_t *id, const char *number)
{
	const Invoice *invoice = draft->invoice;
	CreditGrant credit = {.tenant = invoice->tenant,
						  .currency = invoice->currency,
						  .legal_entity = invoice->legal_entity,
						  .source = "credit_note",
						  .reason = psprintf("credit note %s", number),
						  .amount = money_round(draft->to_credit, draft->note.exponent),
						  .priority = CREDIT_PRIORITY_DEFAULT,
						  .expires_at = DT_NOEND,
						  .document = id};

	(void) credit_grant(&credit);
}

static void
write_parts(const Draft *draft, const pg_uuid_t *id)
{
	const CreditNote *note = &draft->note;
	const Invoice *invoice = draft->invoice;
	int position = 0;

	for (int i = 0; i < note->line_count; i++)
	{
		if (!is_in_note(&note->lines[i]))
			continue;
		gate_run(&credit_note_line_insert, EXPECT_ONE, gate_uuid(id), gate_int32(++position),
				 gate_uuid(&invoice->tenant), gate_uuid(&invoice->id),
				 gate_int32(row_int32(draft->lines, i, LINE_POSITION)),
				 gate_text(row_text(draft->lines, i, LINE_DESCRIPTION)),
				 gate_numeric(note->lines[i].credit),
				 gate_numeric(money_round(note->lines[i].credit_discount, note->exponent)),
				 gate_numeric(money_round(draft->net[i], note->exponent)));
	}
	position = 0;
	for (int i = 0; i < note->tax_count; i++)
	{
		if (!is_tax_in_note(note, i))
			continue;
		gate_run(&credit_note_tax_insert, EXPECT_ONE, gate_uuid(id), gate_int32(++position),
				 gate_uuid(&invoice->tenant), gate_uuid(&invoice->id),
				 gate_int32(row_int32(draft->taxes, i, 0)),
				 gate_numeric(money_round(note->taxes[i].credit_base, note->exponent)),
				 gate_numeric(money_round(note->taxes[i].credit_amount, note->exponent)));
	}
}

/* Everything about the note is known: write it, settle the invoice, post and tell. */
static pg_uuid_t *
issue(const Draft *draft, const char *reason, const char *series, int width)
{
	const CreditNote *note = &draft->note;
	int exponent = note->exponent;
	pg_uuid_t *id = id_new();
	int line_count = 0;
	int tax_count = 0;
	char *number;

	for (int i = 0; i < note->line_count; i++)
		line_count += is_in_note(&note->lines[i]);
	for (int i = 0; i < note->tax_count; i++)
		tax_count += is_tax_in_note(note, i);
	(void) invoice_settle(&draft->invoice->id, SETTLE_CREDITED,
						  money_round(numeric_plus(draft->off_due, draft->to_refund), exponent));
	number = document_number(series, series_take(series, 1), width);
	gate_run(&credit_note_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(&draft->invoice->id),
			 gate_text(number), gate_text(reason), gate_int32(line_count), gate_int32(tax_count),
			 gate_numeric(money_round(note->subtotal, exponent)),
			 gate_numeric(money_round(note->discount, exponent)),
			 gate_numeric(money_round(note->tax, exponent)),
			 gate_numeric(money_round(draft->inclusive_tax, exponent)),
			 gate_numeric(money_round(note->total, exponent)),
			 gate_numeric(money_round(draft->deferred, exponent)),
			 gate_numeric(money_round(draft->off_due, exponent)),
			 gate_numeric(money_round(draft->to_credit, exponent)),
			 gate_numeric(money_round(draft->to_refund, exponent)), gate_timestamptz(clock_now()));
	write_parts(draft, id);
	post(draft, id, number);
	if (!numeric_is_zero(draft->to_credit))
		grant(draft, id, number);
	tell(draft, id, number);
	return id;
}

/* The list of lines, as the member of a document so that faults are named by their path. */
static void
validate_lines(const Jsonb *lines)
{
	JsonBuilder request;

	json_begin(&request);
	json_put_jsonb(&request, "lines", lines);
	json_validate(json_end(&request), request_members, "credit note");
	if (json_element_count(lines) == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid credit note: \"lines\" is empty"),
				errhint("Null credits all that is left."));
}

static void
check_total(const Draft *draft, Numeric left, bool is_rest)
{
	const Invoice *invoice = draft->invoice;
	Numeric total = draft->note.total;

	if (is_rest && numeric_compare(total, numeric_zero()) <= 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing is left of invoice \"%s\" to be credited", invoice->number));
	if (numeric_compare(total, numeric_zero()) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the credit note would be over %s %s",
					   numeric_text(money_round(total, draft->note.exponent)), invoice->currency),
				errhint("It must come to more than nothing."));
	/* Some lines of the invoice are negative: those that are not come to more than all. */
	if (numeric_compare(total, left) > 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("more would be credited than is left of invoice \"%s\"", invoice->number),
				errdetail("The credit note would be over %s %s, and %s are left.",
						  numeric_text(money_round(total, draft->note.exponent)), invoice->currency,
						  numeric_text(left)));
}

/* credit_note_create(invoice uuid, reason text, lines jsonb, use text) → tenancy.credit_note */
TENANCY_FUNCTION(credit_note_create)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	char *reason = required_text(fcinfo, 1, "reason");
	Jsonb *lines = optional_jsonb(fcinfo, 2);
	char *use = required_text(fcinfo, 3, "use");
	Draft draft = {0};
	Invoice *invoice;
	GateRows *facts;

	context_require_none("billing");
	if (strcmp(use, "credit") != 0 && strcmp(use, "refund") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"use\" must be \"credit\" or \"refund\""));
	if (lines != NULL)
		validate_lines(lines);
	if (watcher != NULL)
		watcher->lock(id);
	draft.invoice = invoice = invoice_lock(id);
	if (strcmp(invoice->state, "draft") == 0 || strcmp(invoice->state, "void") == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("invoice \"%s\" is %s", invoice->number, invoice->state),
				errdetail("A credit note takes back something of an invoice that counts."));
	facts = gate_run(&credited_invoice, EXPECT_ONE, gate_uuid(id));
	draft.note.exponent = currency_exponent(invoice->currency);
	draft.note.tax_rounding = row_bool(facts, 0, 2) ? TAX_PER_INVOICE : TAX_PER_LINE;
	read_taxes(&draft);
	read_lines(&draft);
	take_earlier(&draft);
	if (lines == NULL)
		ask_for_rest(&draft);
	for (int i = 0; i < json_element_count(lines); i++)
		ask_for_line(&draft, json_element(lines, i));
	calculate(&draft);
	check_total(&draft, row_numeric(facts, 0, 3), lines == NULL);
	sum_up(&draft);
	share_out(&draft, strcmp(use, "refund") == 0);
	id = issue(&draft, reason, row_text(facts, 0, 0), row_int32(facts, 0, 1));
	if (watcher != NULL)
		watcher->heard(&invoice->id);
	PG_RETURN_DATUM(row_datum(gate_run(&credit_note_row, EXPECT_ONE, gate_uuid(id)), 0, 0));
}
