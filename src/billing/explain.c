/*
 * billing/explain.c
 *		Why an invoice says what it says, sentence by sentence.
 *
 * Lines keep what was measured and which price was in force; the steps from there to the amount
 * are computed again, by the code that rated them.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "price/explain.h"
#include "subscription/plan_price.h"

#include "utils/builtins.h"
#include "utils/tuplestore.h"

GATE_LOOKUP(
	explained_invoice,
	"SELECT i.tenant_id, i.currency, i.subtotal, i.discount, i.tax, i.total,"
	"       i.inclusive_tax, i.amount_applied, i.amount_credited, i.amount_paid, i.amount_due,"
	"       i.state = 'draft'"
	"  FROM tenancy.invoice i WHERE i.id = $1",
	UUIDOID);
GATE_LOOKUP(explained_lines,
			"SELECT l.description, l.kind, l.plan, l.price_version, l.charge, l.metric, l.quantity,"
			"       l.amount, l.discount, l.trace, v.number,"
			"       pg_catalog.to_char(l.period_start AT TIME ZONE coalesce(s.time_zone, 'UTC'),"
			"                          'YYYY-MM-DD'),"
			"       pg_catalog.to_char(l.period_end AT TIME ZONE coalesce(s.time_zone, 'UTC'),"
			"                          'YYYY-MM-DD'), l.unit_price"
			"  FROM tenancy.invoice_line l"
			"  LEFT JOIN tenancy.subscription s ON s.id = l.subscription_id"
			"  LEFT JOIN tenancy.invoice v ON v.id = l.corrects"
			" WHERE l.invoice_id = $1 ORDER BY l.position",
			UUIDOID);
GATE_LOOKUP(explained_discounts,
			"SELECT d.description, d.coupon, d.amount FROM tenancy.invoice_discount d"
			" WHERE d.invoice_id = $1 ORDER BY d.position",
			UUIDOID);
GATE_LOOKUP(explained_taxes,
			"SELECT x.name, x.percentage, x.base, x.amount, x.is_inclusive, x.reason"
			"  FROM tenancy.invoice_tax x WHERE x.invoice_id = $1 ORDER BY x.position",
			UUIDOID);

typedef struct Explanation
{
	ReturnSetInfo *result;
	char *currency;
	PriceCache *prices;
} Explanation;

static void
say(const Explanation *explanation, const char *sentence)
{
	Datum value = CStringGetTextDatum(sentence);
	bool isnull = false;

	tuplestore_putvalues(explanation->result->setResult, explanation->result->setDesc, &value,
						 &isnull);
}

static char *
or_text(Numeric value, const char *when_null)
{
	return value != NULL ? numeric_text(value) : pstrdup(when_null);
}

static const Charge *
charge_of(const PricedPlan *priced, const char *id)
{
	for (int i = 0; id != NULL && i < priced->pricing->charge_count; i++)
	{
		if (strcmp(priced->pricing->charges[i].id, id) == 0)
			return &priced->pricing->charges[i];
	}
	return NULL;
}

/* The steps from what was used to what it costs. */
static void
append_steps(StringInfo text, const Explanation *explanation, const GateRows *rows, int64 row)
{
	char *plan = row_text(rows, row, 2);
	Jsonb *trace = row_jsonb(rows, row, 9);
	const PricedPlan *priced =
		price_cache_get(explanation->prices, plan, row_int32(rows, row, 3), explanation->currency);
	const Charge *charge = charge_of(priced, row_text(rows, row, 4));
	Numeric used = json_numeric(trace, "used");
	ChargeUsage usage = {.quantity = used != NULL ? used : row_numeric(rows, row, 6)};
	ProrationPart part = {json_numeric(trace, "part"), json_numeric(trace, "whole")};
	ChargeStep *steps;
	int count;

	if (!row_is_null(rows, row, 5))
		appendStringInfo(text, "%s of metric \"%s\" were used", or_text(used, "0"),
						 row_text(rows, row, 5));
	if (charge == NULL)
		return;
	if (json_bool(trace, "by_changes", false))
	{
		appendStringInfo(text, " on average; plan \"%s\" prices each change of the level for the part "
							   "of the period that was left: %s units in all",
						 plan, numeric_text(row_numeric(rows, row, 6)));
		return;
	}
	if (charge->model == MODEL_PERCENTAGE)
	{
		appendStringInfo(text, "; %s %% of each transaction, and what else plan \"%s\" says",
						 numeric_text(numeric_times(charge->rate, numeric_from_int(100))), plan);
		return;
	}
	count = charge_explain(charge, priced->pricing->exponent, &usage,
						   part.part != NULL ? &part : NULL, &steps);
	for (int i = 0; i < count; i++)
	{
		if (strcmp(steps[i].rule, "minimum") == 0)
			continue;
		if (strcmp(steps[i].rule, "included") == 0)
			appendStringInfo(text, "%s%s in plan \"%s\"", text->len > 0 ? " and " : "",
							 steps[i].description, plan);
		else
			appendStringInfo(text, "%s%s", text->len > 0 ? "; " : "", steps[i].description);
	}
}

static char *
explain_line(const Explanation *explanation, const GateRows *rows, int64 row)
{
	char *kind = row_text(rows, row, 1);
	Jsonb *trace = row_jsonb(rows, row, 9);
	StringInfoData text;

	initStringInfo(&text);
	if (strcmp(kind, "credit") == 0)
		appendStringInfo(&text,
						 "invoice %s billed %s in advance, of which %s of %s %ss are in force, and "
						 "%s was credited before",
						 row_is_null(rows, row, 10) ? "(draft)" : row_text(rows, row, 10),
						 or_text(json_numeric(trace, "billed"), "0"),
						 or_text(json_numeric(trace, "part_used"), "0"),
						 or_text(json_numeric(trace, "whole"), "0"),
						 json_text(trace, "proration_unit"),
						 or_text(json_numeric(trace, "credited_before"), "0"));
	else if (strcmp(kind, "late") == 0 && row_is_null(rows, row, 4))
		appendStringInfo(&text,
						 "at least %s was agreed, %s is known now to count towards it, and %s was "
						 "billed for what was missing",
						 or_text(json_numeric(trace, "minimum"), "0"),
						 or_text(json_numeric(trace, "counted"), "0"),
						 or_text(json_numeric(trace, "billed"), "0"));
	else if (strcmp(kind, "late") == 0)
		appendStringInfo(&text,
						 "%s of metric \"%s\" are known now for this period, which cost %s, and %s "
						 "was billed for it before",
						 or_text(json_numeric(trace, "used"), "0"), row_text(rows, row, 5),
						 or_text(json_numeric(trace, "cost"), "0"),
						 or_text(json_numeric(trace, "billed"), "0"));
	else if (strcmp(kind, "minimum") == 0)
		appendStringInfo(&text, "at least %s was agreed and %s was billed towards it",
						 or_text(json_numeric(trace, "minimum"), "0"),
						 or_text(json_numeric(trace, "billed"), "0"));
	else if (strcmp(kind, "manual") == 0)
		appendStringInfo(&text, "%s × %s", numeric_text(row_numeric(rows, row, 6)),
						 or_text(row_numeric(rows, row, 13), "0"));
	else
		append_steps(&text, explanation, rows, row);
	return psprintf("%s, %s to %s: %s; that is %s %s.", row_text(rows, row, 0),
					row_text(rows, row, 11), row_text(rows, row, 12), text.data,
					numeric_text(row_numeric(rows, row, 7)), explanation->currency);
}

static void
explain_totals(const Explanation *explanation, const pg_uuid_t *id, const GateRows *invoice)
{
	GateRows *discounts = gate_run(&explained_discounts, EXPECT_ANY, gate_uuid(id));
	GateRows *taxes = gate_run(&explained_taxes, EXPECT_ANY, gate_uuid(id));

	for (int64 i = 0; i < discounts->count; i++)
		say(explanation,
			psprintf("%s %s takes off %s %s.",
					 row_is_null(discounts, i, 1) ? "Agreed maximum" : "Coupon",
					 row_text(discounts, i, row_is_null(discounts, i, 1) ? 0 : 1),
					 numeric_text(row_numeric(discounts, i, 2)), explanation->currency));
	for (int64 i = 0; i < taxes->count; i++)
		say(explanation,
			psprintf("%s of %s %% %s %s: %s %s%s%s.", row_text(taxes, i, 0),
					 numeric_text(row_numeric(taxes, i, 1)),
					 row_bool(taxes, i, 4) ? "within" : "on",
					 numeric_text(row_numeric(taxes, i, 2)), numeric_text(row_numeric(taxes, i, 3)),
					 explanation->currency, row_is_null(taxes, i, 5) ? "" : ", since ",
					 row_is_null(taxes, i, 5) ? "" : row_text(taxes, i, 5)));
	say(explanation,
		psprintf("Lines of %s less discounts of %s plus tax of %s: total %s %s.",
				 numeric_text(row_numeric(invoice, 0, 2)), numeric_text(row_numeric(invoice, 0, 3)),
				 numeric_text(row_numeric(invoice, 0, 4)), numeric_text(row_numeric(invoice, 0, 5)),
				 explanation->currency));
	if (!row_bool(invoice, 0, 11))
		say(explanation,
			psprintf("Of that, %s came from credit, %s was credited and %s was paid: %s %s is due.",
					 numeric_text(row_numeric(invoice, 0, 7)),
					 numeric_text(row_numeric(invoice, 0, 8)),
					 numeric_text(row_numeric(invoice, 0, 9)),
					 numeric_text(row_numeric(invoice, 0, 10)), explanation->currency));
}

/* invoice_explain(invoice uuid) → SETOF text */
TENANCY_FUNCTION(invoice_explain)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	GateRows *invoice = gate_run(&explained_invoice, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Explanation explanation = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	GateRows *lines;

	if (invoice->count == 0 || !tenant_is_visible(row_uuid(invoice, 0, 0)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(id)));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	explanation.currency = row_text(invoice, 0, 1);
	explanation.prices = price_cache_create(CurrentMemoryContext);
	lines = gate_run(&explained_lines, EXPECT_ANY, gate_uuid(id));
	for (int64 i = 0; i < lines->count; i++)
		say(&explanation, explain_line(&explanation, lines, i));
	explain_totals(&explanation, id, invoice);
	return (Datum) 0;
}
