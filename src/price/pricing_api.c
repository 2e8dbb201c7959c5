/*
 * price/pricing_api.c
 *		A whole pricing rated by one pure SQL function: the lines of a period.
 *
 * The billing engine calls the same C functions, with what it has read; here all comes as
 * arguments.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "price/charge_document.h"
#include "price/price.h"
#include "price/proration.h"

#include "utils/tuplestore.h"

enum
{
	ARGUMENT_PRICING,
	ARGUMENT_USAGE,
	ARGUMENT_LIMITS,
	ARGUMENT_SEATS,
	ARGUMENT_PART,
	ARGUMENT_WHOLE,
	ARGUMENT_IS_FIRST
};

static const JsonRule number_rule = {.type = JSON_NUMBER};
static const JsonRule usage_members[] = {
	{.name = "billed", .type = JSON_NUMBER},
	{.name = "parts", .type = JSON_ARRAY, .element = &number_rule},
	{.name = "quantity", .type = JSON_NUMBER},
	{.name = "values", .type = JSON_ARRAY, .element = &number_rule},
	{.name = NULL},
};

static void
put_line(ReturnSetInfo *set, int position, const RatedLine *line)
{
	const char *texts[] = {
		line->charge != NULL ? line->charge->id : NULL,
		line->kind,
		line->description,
		line->metric,
		line->unit,
	};
	Numeric numbers[] = {line->quantity, line->unit_price, line->amount, line->exact};
	Datum values[10];
	bool nulls[10] = {false};
	int n = 0;

	values[n++] = Int32GetDatum(position);
	for (int i = 0; i < lengthof(texts); i++, n++)
	{
		nulls[n] = texts[i] == NULL;
		values[n] = nulls[n] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	for (int i = 0; i < lengthof(numbers); i++, n++)
	{
		nulls[n] = numbers[i] == NULL;
		values[n] = nulls[n] ? (Datum) 0 : NumericGetDatum(numbers[i]);
	}
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
}

static Numeric *
read_numbers(const Jsonb *array, int *count)
{
	Numeric *numbers;

	*count = json_element_count(array);
	numbers = palloc(sizeof(Numeric) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		numbers[i] = json_element_numeric(array, i);
	return numbers;
}

/* The usage of a metric: a number, or an object. */
static void
read_usage(ChargeUsage *to, const Jsonb *usage, const Charge *charge)
{
	Jsonb *from = json_member(usage, charge->metric);
	DocumentPath at = {"usage", psprintf("%s.", charge->metric)};
	Jsonb *parts;
	int count;

	to->quantity = json_numeric(usage, charge->metric);
	if (from == NULL || to->quantity != NULL)
	{
		if (to->quantity == NULL)
			to->quantity = numeric_zero();
		return;
	}
	json_validate(from, usage_members, psprintf("usage of \"%s\"", charge->metric));
	to->quantity = json_numeric(from, "quantity");
	to->billed_amount = json_numeric(from, "billed");
	if (json_has(from, "values"))
		to->values = read_numbers(json_member(from, "values"), &to->value_count);
	parts = json_member(from, "parts");
	if (parts == NULL || !charge->is_prorated)
		return;
	to->prorated_values = read_numbers(parts, &count);
	if (count != to->value_count)
		document_fault(&at, "parts", "must have as many elements as \"values\"");
}

/* How many of the item there are; a number of seats costs by the seat. */
static Numeric
seats_argument(FunctionCallInfo fcinfo)
{
	Numeric seats = required_numeric(fcinfo, ARGUMENT_SEATS, "seats");

	if (numeric_compare(seats, numeric_zero()) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"seats\" must be at least 0"));
	return seats;
}

/*
 * tenancy.pricing_rate(pricing jsonb, usage jsonb, limits jsonb, seats, part, whole numeric,
 *     is_first boolean)
 *     → TABLE(line integer, charge, kind, description, metric, unit text,
 *             quantity, unit_price, amount, exact numeric)
 */
TENANCY_FUNCTION(pricing_rate)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb *document = PG_GETARG_JSONB_P(ARGUMENT_PRICING);
	Jsonb *usage = PG_GETARG_JSONB_P(ARGUMENT_USAGE);
	Numeric seats = seats_argument(fcinfo);
	ProrationPart part = {
		.part = required_numeric(fcinfo, ARGUMENT_PART, "part"),
		.whole = required_numeric(fcinfo, ARGUMENT_WHOLE, "whole"),
	};
	bool is_first = PG_GETARG_BOOL(ARGUMENT_IS_FIRST);
	Pricing *pricing;
	RatedLine lines[CHARGE_MAX_LINES];
	Numeric sum = numeric_zero();
	int position = 0;

	pricing_validate(document);
	proration_part_check(part.part, part.whole);
	pricing = pricing_parse(document, PG_GETARG_JSONB_P(ARGUMENT_LIMITS));
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < pricing->charge_count; i++)
	{
		const Charge *charge = &pricing->charges[i];
		ChargeUsage used = {0};
		int count;

		if (!charge->is_recurring && !is_first)
			continue;
		if (charge->metric != NULL)
			read_usage(&used, usage, charge);
		else if (charge->is_per_seat)
			used.quantity = seats;
		count = charge_rate(charge, pricing->exponent, &used, &part, lines);
		for (int j = 0; j < count; j++)
		{
			put_line(set, ++position, &lines[j]);
			sum = numeric_plus(sum, lines[j].amount);
		}
	}
	if (pricing->minimum != NULL &&
		commitment_rate(pricing->minimum, sum, pricing->exponent, &part, lines))
		put_line(set, ++position, lines);
	return (Datum) 0;
}
