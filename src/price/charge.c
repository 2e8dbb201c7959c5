/*
 * price/charge.c
 *		Rating: from what was used to lines.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/money.h"
#include "price/price.h"
#include "price/proration.h"
#include "price/tier.h"

#include "utils/fmgrprotos.h"

Numeric
quantity_round(Numeric quantity, QuantityRounding rounding, int decimals)
{
	Datum places = Int32GetDatum(decimals);
	Datum value = NumericGetDatum(quantity);

	switch (rounding)
	{
		case QUANTITY_EXACT:
			return quantity;
		case QUANTITY_HALF_UP:
			return DatumGetNumeric(DirectFunctionCall2(numeric_round, value, places));
		case QUANTITY_DOWN:
			return DatumGetNumeric(DirectFunctionCall2(numeric_trunc, value, places));
		case QUANTITY_UP:
			return money_round(
				numeric_shift(
					DatumGetNumeric(DirectFunctionCall1(
						numeric_ceil, NumericGetDatum(numeric_shift(quantity, decimals)))),
					-decimals),
				decimals);
	}
	return quantity;
}

/* Transactions. */

/* What is free before anything costs: so many events, or so much value, whichever ends first. */
typedef struct Allowance
{
	bool has_ended;
	int64 events;   /* -1: not counted */
	Numeric amount; /* NULL: not counted */
} Allowance;

/* What of a transaction costs; the whole transaction is free where nothing does. */
static Numeric
beyond_allowance(Allowance *allowance, Numeric value, bool *is_free)
{
	*is_free = false;
	if (!allowance->has_ended && allowance->events == 0)
		allowance->has_ended = true;
	if (allowance->has_ended)
		return value;
	if (allowance->amount == NULL || numeric_compare(value, allowance->amount) <= 0)
	{
		*is_free = true;
		if (allowance->amount != NULL)
			allowance->amount = numeric_minus(allowance->amount, value);
		if (allowance->events > 0)
			allowance->events--;
		return numeric_zero();
	}
	/* The one that exceeds what is free ends it, and costs for the rest. */
	allowance->has_ended = true;
	return numeric_minus(value, allowance->amount);
}

static Numeric
percentage_amount(const Charge *charge, const Numeric *values, int count)
{
	Allowance allowance = {
		.has_ended = charge->free_events < 0 && charge->free_amount == NULL,
		.events = charge->free_events,
		.amount = charge->free_amount,
	};
	Numeric sum = numeric_zero();

	for (int i = 0; i < count; i++)
	{
		bool is_free;
		Numeric costs = beyond_allowance(&allowance, values[i], &is_free);
		Numeric fee = numeric_times(costs, charge->rate);

		if (is_free)
			continue;
		/* A refund gives its rate back, and nothing else. */
		if (numeric_compare(values[i], numeric_zero()) >= 0)
		{
			fee = numeric_plus(fee, charge->fixed_fee);
			if (charge->transaction_minimum != NULL)
				fee = numeric_larger_of(fee, charge->transaction_minimum);
			if (charge->transaction_maximum != NULL)
				fee = numeric_smaller_of(fee, charge->transaction_maximum);
		}
		sum = numeric_plus(sum, fee);
	}
	return numeric_positive_part(sum);
}

/* Amounts. */

static Numeric
model_amount(const Charge *charge, const ChargeUsage *usage, Numeric quantity)
{
	switch (charge->model)
	{
		case MODEL_FLAT:
			return charge->unit_price;
		case MODEL_PER_UNIT:
			return numeric_times(quantity, charge->unit_price);
		case MODEL_GRADUATED:
		case MODEL_GRADUATED_PERCENTAGE:
			return graduated_amount(charge, quantity);
		case MODEL_VOLUME:
			return volume_amount(charge, quantity);
		case MODEL_PACKAGE:
			return numeric_times(
				started_blocks(quantity, charge->package_size, charge->packages_round_down),
				charge->unit_price);
		case MODEL_PERCENTAGE:
			return usage->values != NULL
					   ? percentage_amount(charge, usage->values, usage->value_count)
					   : percentage_amount(charge, &quantity, 1);
		case MODEL_BLOCK_GRADUATED:
			return block_graduated_amount(charge, quantity);
		case MODEL_BLOCK_VOLUME:
			return block_volume_amount(charge, quantity);
		case MODEL_DYNAMIC:
			return charge->multiplier != NULL ? numeric_times(quantity, charge->multiplier)
											  : quantity;
	}
	return quantity;
}

Numeric
charge_amount(const Charge *charge, const ChargeUsage *usage, Numeric *billed_quantity)
{
	Numeric quantity = usage->quantity;
	Numeric amount;

	if (charge->is_unlimited)
	{
		*billed_quantity = numeric_zero();
		return numeric_zero();
	}
	if (usage->prorated_values != NULL)
		return prorated_level_amount(charge, usage, billed_quantity);
	if (quantity == NULL)
		quantity = charge->model == MODEL_FLAT ? numeric_from_int(1) : numeric_zero();
	if (charge->included != NULL)
		quantity = numeric_minus(quantity, charge->included);
	quantity = numeric_positive_part(quantity);
	if (charge->quantity_rounding != QUANTITY_EXACT)
		quantity = quantity_round(quantity, charge->quantity_rounding, charge->quantity_decimals);
	amount = model_amount(charge, usage, quantity);
	*billed_quantity = quantity;
	return amount;
}

/* Lines. */

static Numeric
rounded_part(Numeric amount, const ProrationPart *part, int exponent)
{
	return part == NULL ? money_round(amount, exponent)
						: money_ratio(numeric_times(amount, part->part), part->whole, exponent);
}

bool
commitment_rate(Numeric minimum, Numeric billed, int exponent, const ProrationPart *part,
				RatedLine *line)
{
	Numeric due = rounded_part(minimum, part, exponent);

	if (numeric_compare(due, billed) <= 0)
		return false;
	memset(line, 0, sizeof(RatedLine));
	line->kind = "minimum";
	line->description = "Minimum";
	line->quantity = numeric_from_int(1);
	line->amount = line->exact = numeric_minus(due, billed);
	line->part = part;
	line->billed_amount = billed;
	line->minimum = due;
	return true;
}

static void
rate_line(const Charge *charge, int exponent, const ChargeUsage *usage, const ProrationPart *part,
		  RatedLine *line)
{
	memset(line, 0, sizeof(RatedLine));
	line->charge = charge;
	line->kind = "charge";
	line->description = charge->name;
	line->metric = charge->metric;
	line->unit = charge->unit;
	line->used = usage->quantity;
	if (charge->model == MODEL_FLAT || charge->model == MODEL_PER_UNIT)
		line->unit_price = charge->unit_price;
	line->exact = charge_amount(charge, usage, &line->quantity);
	/* Levels bring the parts of each of their changes with them. */
	line->by_changes = usage->prorated_values != NULL;
	if (charge->is_prorated && !line->by_changes)
		line->part = part;
	line->amount = rounded_part(line->exact, line->part, exponent);
	line->exact = prorate(line->exact, line->part);
}

int
charge_rate(const Charge *charge, int exponent, const ChargeUsage *usage, const ProrationPart *part,
			RatedLine *lines)
{
	RatedLine *line = &lines[0];
	int count = 0;

	rate_line(charge, exponent, usage, part, line);
	if (usage->billed_amount != NULL)
	{
		/* What was billed includes what was missing to the minimum then. */
		if (charge->minimum != NULL)
			line->amount =
				numeric_larger_of(line->amount, rounded_part(charge->minimum, part, exponent));
		line->billed_amount = usage->billed_amount;
		line->amount = numeric_minus(line->amount, usage->billed_amount);
		line->exact = numeric_minus(line->exact, usage->billed_amount);
		return numeric_is_zero(line->amount) ? 0 : 1;
	}
	if (!numeric_is_zero(line->quantity) || !numeric_is_zero(line->amount))
		count++;
	if (charge->minimum != NULL &&
		commitment_rate(charge->minimum, line->amount, exponent, part, &lines[count]))
	{
		lines[count].charge = charge;
		lines[count].description = charge->name;
		lines[count].metric = charge->metric;
		count++;
	}
	return count;
}

Jsonb *
rated_line_trace(const RatedLine *line, int price_version)
{
	JsonBuilder trace;

	json_begin(&trace);
	json_put_text(&trace, "rule",
				  line->charge == NULL || strcmp(line->kind, "minimum") == 0
					  ? "minimum"
					  : charge_model_name(line->charge->model));
	json_put_int64(&trace, "price_version", price_version);
	if (line->used != NULL)
		json_put_numeric(&trace, "used", line->used);
	if (line->charge != NULL && line->charge->is_unlimited)
		json_put_bool(&trace, "unlimited", true);
	else if (line->charge != NULL && line->charge->limit != NULL)
		json_put_numeric(&trace, "included", line->charge->included);
	if (line->by_changes)
		json_put_bool(&trace, "by_changes", true);
	if (line->part != NULL)
	{
		json_put_numeric(&trace, "part", line->part->part);
		json_put_numeric(&trace, "whole", line->part->whole);
	}
	if (line->minimum != NULL)
		json_put_numeric(&trace, "minimum", line->minimum);
	if (line->billed_amount != NULL)
		json_put_numeric(&trace, "billed", line->billed_amount);
	return json_end(&trace);
}
