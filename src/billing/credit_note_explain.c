/*
 * billing/credit_note_explain.c
 *		Why a credit note says what it says, sentence by sentence.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"

#include "utils/builtins.h"
#include "utils/tuplestore.h"

GATE_LOOKUP(explained_note,
			"SELECT n.tenant_id, n.number, i.number, n.reason, n.currency, n.subtotal, n.discount,"
			"       n.tax, n.total, n.amount_off_due, n.amount_to_credit, n.amount_to_refund"
			"  FROM tenancy.credit_note n JOIN tenancy.invoice i ON i.id = n.invoice_id"
			" WHERE n.id = $1",
			UUIDOID);
/* What was left of the line before: all less what earlier notes took. */
GATE_LOOKUP(explained_note_lines,
			"SELECT n.invoice_position, n.description, n.amount, n.discount, l.amount, l.discount,"
			"       coalesce((SELECT sum(e.amount) FROM tenancy.credit_note_line e"
			"                   JOIN tenancy.credit_note o ON o.id = e.credit_note_id"
			"                  WHERE e.invoice_id = n.invoice_id"
			"                    AND e.invoice_position = n.invoice_position"
			"                    AND (pg_catalog.length(o.number), o.number)"
			"                        < (pg_catalog.length(c.number), c.number)), 0)"
			"  FROM tenancy.credit_note_line n"
			"  JOIN tenancy.credit_note c ON c.id = n.credit_note_id"
			"  JOIN tenancy.invoice_line l"
			"    ON l.invoice_id = n.invoice_id AND l.position = n.invoice_position"
			" WHERE n.credit_note_id = $1 ORDER BY n.position",
			UUIDOID);
GATE_LOOKUP(
	explained_note_taxes,
	"SELECT x.name, x.percentage, n.base, n.amount, x.is_inclusive,"
	"       coalesce((SELECT sum(e.amount) FROM tenancy.credit_note_tax e"
	"                   JOIN tenancy.credit_note o ON o.id = e.credit_note_id"
	"                  WHERE e.invoice_id = n.invoice_id"
	"                    AND e.invoice_position = n.invoice_position"
	"                    AND (pg_catalog.length(o.number), o.number)"
	"                        <= (pg_catalog.length(c.number), c.number)), 0) = x.amount, x.amount"
	"  FROM tenancy.credit_note_tax n"
	"  JOIN tenancy.credit_note c ON c.id = n.credit_note_id"
	"  JOIN tenancy.invoice_tax x"
	"    ON x.invoice_id = n.invoice_id AND x.position = n.invoice_position"
	" WHERE n.credit_note_id = $1 ORDER BY n.position",
	UUIDOID);

static void
say(const ReturnSetInfo *result, const char *sentence)
{
	Datum value = CStringGetTextDatum(sentence);
	bool isnull = false;

	tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
}

static char *
amount(const GateRows *rows, int64 row, int column)
{
	return numeric_text(row_numeric(rows, row, column));
}

static void
explain_lines(const ReturnSetInfo *result, const pg_uuid_t *id, const char *currency)
{
	GateRows *lines = gate_run(&explained_note_lines, EXPECT_ANY, gate_uuid(id));

	for (int64 i = 0; i < lines->count; i++)
	{
		StringInfoData text;

		initStringInfo(&text);
		appendStringInfo(&text, "Line %d, %s: %s of %s %s", row_int32(lines, i, 0),
						 row_text(lines, i, 1), amount(lines, i, 2), amount(lines, i, 4), currency);
		if (!numeric_is_zero(row_numeric(lines, i, 6)))
			appendStringInfo(&text, ", of which credit notes had taken %s before",
							 amount(lines, i, 6));
		if (!numeric_is_zero(row_numeric(lines, i, 5)))
			appendStringInfo(&text, ", less %s of its discount of %s", amount(lines, i, 3),
							 amount(lines, i, 5));
		appendStringInfoChar(&text, '.');
		say(result, text.data);
	}
}

static void
explain_taxes(const ReturnSetInfo *result, const pg_uuid_t *id, const char *currency)
{
	GateRows *taxes = gate_run(&explained_note_taxes, EXPECT_ANY, gate_uuid(id));

	for (int64 i = 0; i < taxes->count; i++)
		say(result, psprintf("%s of %s %% %s %s: %s %s%s.", row_text(taxes, i, 0),
							 amount(taxes, i, 1), row_bool(taxes, i, 4) ? "within" : "on",
							 amount(taxes, i, 2), amount(taxes, i, 3), currency,
							 row_bool(taxes, i, 5) ? psprintf(", the rest of the %s of the invoice",
															  amount(taxes, i, 6))
												   : ""));
}

/* credit_note_explain(credit_note uuid) → SETOF text */
TENANCY_FUNCTION(credit_note_explain)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "credit_note");
	GateRows *note = gate_run(&explained_note, EXPECT_AT_MOST_ONE, gate_uuid(id));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *currency;

	if (note->count == 0 || !tenant_is_visible(row_uuid(note, 0, 0)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("credit note \"%s\" does not exist", id_text(id)));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	currency = row_text(note, 0, 4);
	say(result, psprintf("Credit note %s takes something of invoice %s back: %s.",
						 row_text(note, 0, 1), row_text(note, 0, 2), row_text(note, 0, 3)));
	explain_lines(result, id, currency);
	explain_taxes(result, id, currency);
	say(result, psprintf("Lines of %s less discounts of %s plus tax of %s: total %s %s.",
						 amount(note, 0, 5), amount(note, 0, 6), amount(note, 0, 7),
						 amount(note, 0, 8), currency));
	say(result, psprintf("Of that, %s is due no more, %s is credit now, and %s goes back.",
						 amount(note, 0, 9), amount(note, 0, 10), amount(note, 0, 11)));
	return (Datum) 0;
}
