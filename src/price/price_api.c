/*
 * price/price_api.c
 *		Prices as pure SQL functions.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "price/charge_document.h"
#include "price/explain.h"
#include "price/price.h"
#include "price/proration.h"

#include "utils/tuplestore.h"

/* The arguments that price_calculate() and price_explain() have in common. */
enum
{
	ARGUMENT_PRICE,
	ARGUMENT_QUANTITY,
	ARGUMENT_CURRENCY,
	ARGUMENT_TRANSACTIONS,
	ARGUMENT_PARTS,
	ARGUMENT_PART,
	ARGUMENT_WHOLE,
	ARGUMENT_BILLED_QUANTITY
};

/* The price of the last call, kept with the expression that calls: it is mostly a constant. */
typedef struct KeptPrice
{
	MemoryContext context;
	Jsonb *document; /* NULL before the first */
	Charge charge;
} KeptPrice;

typedef struct PriceCall
{
	const Charge *charge;
	int exponent;
	ChargeUsage usage;
	ProrationPart part;
	bool has_part;
} PriceCall;

static const Charge *
read_price(FunctionCallInfo fcinfo)
{
	Jsonb *price = PG_GETARG_JSONB_P(ARGUMENT_PRICE);
	KeptPrice *kept = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (kept == NULL)
	{
		kept = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(KeptPrice));
		kept->context =
			AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "price", ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = kept;
	}
	if (kept->document != NULL && VARSIZE(kept->document) == VARSIZE(price) &&
		memcmp(kept->document, price, VARSIZE(price)) == 0)
		return &kept->charge;
	kept->document = NULL;
	price_validate(price);
	MemoryContextReset(kept->context);
	caller = MemoryContextSwitchTo(kept->context);
	price_read(&kept->charge, price);
	kept->document = palloc(VARSIZE(price));
	memcpy(kept->document, price, VARSIZE(price));
	MemoryContextSwitchTo(caller);
	return &kept->charge;
}

static void
read_call(FunctionCallInfo fcinfo, PriceCall *call)
{
	memset(call, 0, sizeof(PriceCall));
	call->charge = read_price(fcinfo);
	call->exponent = currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(ARGUMENT_CURRENCY)));
	call->usage.quantity = required_numeric(fcinfo, ARGUMENT_QUANTITY, "quantity");
	if (!PG_ARGISNULL(ARGUMENT_TRANSACTIONS))
		call->usage.values = required_numeric_array(fcinfo, ARGUMENT_TRANSACTIONS, "transactions",
													&call->usage.value_count);
	if (!PG_ARGISNULL(ARGUMENT_PARTS))
	{
		int count;

		call->usage.prorated_values =
			required_numeric_array(fcinfo, ARGUMENT_PARTS, "parts", &count);
		if (count != call->usage.value_count || call->usage.values == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("arguments \"transactions\" and \"parts\" must have as many elements"));
		if (!charge_prorates_levels(call->charge))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"parts\" has no meaning for model \"%s\"",
						   charge_model_name(call->charge->model)));
	}
	call->has_part = !PG_ARGISNULL(ARGUMENT_PART) || !PG_ARGISNULL(ARGUMENT_WHOLE);
	if (call->has_part)
	{
		call->part.part = required_numeric(fcinfo, ARGUMENT_PART, "part");
		call->part.whole = required_numeric(fcinfo, ARGUMENT_WHOLE, "whole");
		proration_part_check(call->part.part, call->part.whole);
	}
}

/* What a period costs in the end: rounded, at least the minimum, at most the maximum. */
static Numeric
total(const PriceCall *call, const ChargeUsage *usage)
{
	RatedLine lines[CHARGE_MAX_LINES];
	const ProrationPart *part = call->has_part ? &call->part : NULL;
	int count = charge_rate(call->charge, call->exponent, usage, part, lines);
	Numeric sum = money_round(numeric_zero(), call->exponent);

	for (int i = 0; i < count; i++)
		sum = numeric_plus(sum, lines[i].amount);
	if (call->charge->maximum != NULL)
		sum = numeric_smaller_of(sum, money_round(call->charge->maximum, call->exponent));
	return sum;
}

/*
 * price_calculate(price jsonb, quantity numeric, currency text, transactions numeric[],
 *     parts numeric[], part numeric, whole numeric, billed_quantity numeric) → numeric
 */
TENANCY_FUNCTION(price_calculate)
{
	PriceCall call;
	Numeric amount;

	if (PG_ARGISNULL(ARGUMENT_PRICE) || PG_ARGISNULL(ARGUMENT_QUANTITY) ||
		PG_ARGISNULL(ARGUMENT_CURRENCY))
		PG_RETURN_NULL();
	read_call(fcinfo, &call);
	amount = total(&call, &call.usage);
	if (!PG_ARGISNULL(ARGUMENT_BILLED_QUANTITY))
	{
		ChargeUsage billed = {
			.quantity = required_numeric(fcinfo, ARGUMENT_BILLED_QUANTITY, "billed_quantity"),
		};

		amount = numeric_minus(amount, total(&call, &billed));
	}
	PG_RETURN_NUMERIC(amount);
}

static void
put_step(ReturnSetInfo *set, int position, const char *rule, const char *description,
		 Numeric quantity, Numeric unit_price, Numeric amount)
{
	bool nulls[6] = {false, false, false, quantity == NULL, unit_price == NULL, false};
	Datum values[6] = {
		Int32GetDatum(position),
		CStringGetTextDatum(rule),
		CStringGetTextDatum(description),
		quantity != NULL ? NumericGetDatum(quantity) : (Datum) 0,
		unit_price != NULL ? NumericGetDatum(unit_price) : (Datum) 0,
		NumericGetDatum(amount),
	};

	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
}

/*
 * tenancy.price_explain(price jsonb, quantity numeric, currency text, transactions numeric[],
 *     parts numeric[], part numeric, whole numeric)
 *     → TABLE(step integer, rule text, description text, quantity, unit_price, amount numeric)
 */
TENANCY_FUNCTION(price_explain)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	PriceCall call;
	ChargeStep *steps;
	int count;
	Numeric sum = numeric_zero();
	Numeric amount;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(ARGUMENT_PRICE) || PG_ARGISNULL(ARGUMENT_QUANTITY) ||
		PG_ARGISNULL(ARGUMENT_CURRENCY))
		return (Datum) 0;
	read_call(fcinfo, &call);
	count = charge_explain(call.charge, call.exponent, &call.usage,
						   call.has_part ? &call.part : NULL, &steps);
	for (int i = 0; i < count; i++)
	{
		put_step(set, i + 1, steps[i].rule, steps[i].description, steps[i].quantity,
				 steps[i].unit_price, steps[i].amount);
		sum = numeric_plus(sum, steps[i].amount);
	}
	amount = total(&call, &call.usage);
	if (call.charge->maximum != NULL &&
		numeric_compare(money_round(sum, call.exponent), call.charge->maximum) > 0)
		put_step(set, ++count, "maximum",
				 psprintf("at most %s", numeric_text(call.charge->maximum)), NULL, NULL,
				 numeric_minus(call.charge->maximum, sum));
	put_step(set, count + 1, "total", psprintf("rounded to %d decimals", call.exponent), NULL, NULL,
			 amount);
	return (Datum) 0;
}

/* tenancy.quantity_round(quantity numeric, rounding text, decimals integer) → numeric */
TENANCY_FUNCTION(quantity_round)
{
	int32 decimals = PG_GETARG_INT32(2);

	if (decimals < 0 || decimals > 12)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"decimals\" must be from 0 to 12"));
	PG_RETURN_NUMERIC(quantity_round(required_numeric(fcinfo, 0, "quantity"),
									 quantity_rounding(text_to_cstring(PG_GETARG_TEXT_PP(1))),
									 decimals));
}

/* tenancy.commitment(minimum, billed, currency, part, whole) → numeric */
TENANCY_FUNCTION(commitment)
{
	int exponent = currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	ProrationPart part = {
		.part = required_numeric(fcinfo, 3, "part"),
		.whole = required_numeric(fcinfo, 4, "whole"),
	};
	RatedLine line;

	proration_part_check(part.part, part.whole);
	if (!commitment_rate(required_numeric(fcinfo, 0, "minimum"),
						 required_numeric(fcinfo, 1, "billed"), exponent, &part, &line))
		PG_RETURN_NUMERIC(money_round(numeric_zero(), exponent));
	PG_RETURN_NUMERIC(line.amount);
}
