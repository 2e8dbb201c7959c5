/*
 * price/rate.c
 *		Rating of a whole period by one SQL function.
 *
 * Pricing of the types "fixed", "usage_based", "tiered", "hybrid" and "custom" has up to
 * three parts, each a line: a base price; per metric, the quantity above what is included
 * times a price; and graduated tiers over one metric.  The type says which parts there
 * must be.  A line is rounded once, half away from zero, to the exponent of the currency.
 *
 * Tiers are graduated as Stripe, Lago and OpenMeter have it: the upper bound of a tier
 * belongs to it, and a flat fee is due for every tier that is entered.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "price/price.h"

#include "utils/tuplestore.h"

/* One line of an invoice, rated. */
typedef struct PeriodLine
{
	char *description;
	char *metric; /* NULL for the base price */
	char *unit;
	Numeric quantity;
	Numeric unit_price; /* NULL where there is no single one */
	Numeric amount;     /* rounded */
	Jsonb *trace;
} PeriodLine;

static Numeric
or_zero(Numeric value)
{
	return value != NULL ? value : numeric_from_int(0);
}

static Numeric
rate_graduated(const Jsonb *tiers, Numeric quantity)
{
	Numeric total = numeric_from_int(0);
	Numeric lower = numeric_from_int(0);

	for (int i = 0; i < json_element_count(tiers); i++)
	{
		Jsonb *item = json_element(tiers, i);
		Numeric up_to = json_numeric(item, "up_to");
		Numeric upper = up_to == NULL || numeric_compare(quantity, up_to) < 0 ? quantity : up_to;

		/* The first tier is entered even by nothing: its flat fee is due. */
		if (i > 0 && numeric_compare(quantity, lower) <= 0)
			break;
		total = numeric_plus(total, or_zero(json_numeric(item, "flat_fee")));
		total =
			numeric_plus(total, numeric_times(numeric_positive_part(numeric_minus(upper, lower)),
											  or_zero(json_numeric(item, "unit_price"))));
		lower = up_to != NULL ? up_to : lower;
	}
	return total;
}

/* What is included of a metric; NULL for all of it. */
static Numeric
included_quantity(const Jsonb *item, const Jsonb *limits)
{
	char *limit = json_text(item, "limit");
	Numeric included = limit != NULL ? json_numeric(limits, limit) : json_numeric(item, "included");

	if (limit != NULL && included != NULL && numeric_compare(included, numeric_from_int(0)) < 0)
		return NULL;
	return or_zero(included);
}

static void
rate_base(PeriodLine *line, const Jsonb *pricing, Numeric part, Numeric whole, int exponent)
{
	Numeric price = json_numeric(pricing, "base_price");
	JsonBuilder trace;

	line->description = "Base price";
	line->metric = NULL;
	line->unit = NULL;
	line->quantity = numeric_from_int(1);
	line->unit_price = price;
	/* Multiply first: a quotient is cut to some 16 digits. */
	line->amount = money_round(numeric_over(numeric_times(price, part), whole), exponent);
	json_begin(&trace);
	json_put_text(&trace, "rule", "base");
	json_put_numeric(&trace, "price", price);
	json_put_numeric(&trace, "seconds_billed", part);
	json_put_numeric(&trace, "seconds_of_period", whole);
	line->trace = json_end(&trace);
}

static void
rate_usage(PeriodLine *line, const Jsonb *item, const Jsonb *limits, const Jsonb *usage,
		   int exponent)
{
	Numeric used;
	Numeric included = included_quantity(item, limits);
	JsonBuilder trace;

	line->metric = json_text(item, "metric");
	used = or_zero(json_numeric(usage, line->metric));
	line->description = json_text(item, "name");
	line->unit = json_text(item, "unit");
	line->unit_price = json_numeric(item, "price");
	line->quantity = included == NULL ? numeric_from_int(0)
									  : numeric_positive_part(numeric_minus(used, included));
	line->amount = money_round(numeric_times(line->quantity, line->unit_price), exponent);
	json_begin(&trace);
	json_put_text(&trace, "rule", "overage");
	json_put_text(&trace, "metric", line->metric);
	json_put_numeric(&trace, "used", used);
	json_put_numeric(&trace, "included", included);
	json_put_text(&trace, "limit", json_text(item, "limit"));
	json_put_numeric(&trace, "price", line->unit_price);
	line->trace = json_end(&trace);
}

static void
rate_tiers(PeriodLine *line, const Jsonb *pricing, const Jsonb *tiers, const Jsonb *usage,
		   int exponent)
{
	JsonBuilder trace;

	line->metric = json_text(pricing, "metric");
	line->description = line->metric;
	line->unit = NULL;
	line->quantity = or_zero(json_numeric(usage, line->metric));
	line->unit_price = NULL;
	line->amount = money_round(rate_graduated(tiers, line->quantity), exponent);
	json_begin(&trace);
	json_put_text(&trace, "rule", "graduated");
	json_put_text(&trace, "metric", line->metric);
	json_put_numeric(&trace, "used", line->quantity);
	json_put_jsonb(&trace, "tiers", tiers);
	line->trace = json_end(&trace);
}

static void
put_line(ReturnSetInfo *result, int position, const PeriodLine *line)
{
	bool nulls[8] = {
		false, false, line->metric == NULL, false, line->unit == NULL, line->unit_price == NULL,
		false, false};
	Datum values[8] = {
		Int32GetDatum(position),
		CStringGetTextDatum(line->description),
		line->metric != NULL ? CStringGetTextDatum(line->metric) : (Datum) 0,
		NumericGetDatum(line->quantity),
		line->unit != NULL ? CStringGetTextDatum(line->unit) : (Datum) 0,
		line->unit_price != NULL ? NumericGetDatum(line->unit_price) : (Datum) 0,
		NumericGetDatum(line->amount),
		JsonbPGetDatum(line->trace),
	};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * tenancy.rate(pricing jsonb, limits jsonb, usage jsonb, part numeric, whole numeric)
 *     → TABLE(line, description, metric, quantity, unit, unit_price, amount, trace)
 */
TENANCY_FUNCTION(rate)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb *pricing = PG_GETARG_JSONB_P(0);
	Jsonb *limits = PG_GETARG_JSONB_P(1);
	Jsonb *usage = PG_GETARG_JSONB_P(2);
	Jsonb *metrics = json_member(pricing, "usage_metrics");
	Jsonb *tiers = json_member(pricing, "tiers");
	int exponent = currency_exponent(json_text(pricing, "currency"));
	int position = 0;
	PeriodLine line;

	InitMaterializedSRF(fcinfo, 0);
	if (!numeric_is_zero(json_numeric(pricing, "base_price")))
	{
		rate_base(&line, pricing, PG_GETARG_NUMERIC(3), PG_GETARG_NUMERIC(4), exponent);
		put_line(result, ++position, &line);
	}
	for (int i = 0; i < json_element_count(metrics); i++)
	{
		rate_usage(&line, json_element(metrics, i), limits, usage, exponent);
		if (!numeric_is_zero(line.quantity))
			put_line(result, ++position, &line);
	}
	if (json_element_count(tiers) > 0)
	{
		rate_tiers(&line, pricing, tiers, usage, exponent);
		put_line(result, ++position, &line);
	}
	return (Datum) 0;
}
