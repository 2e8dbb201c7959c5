/*
 * price/proration_api.c
 *		Parts of periods and of amounts as pure SQL functions.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/money.h"
#include "core/period.h"
#include "price/proration.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/tuplestore.h"

static ProrationUnit
proration_unit(const char *name)
{
	static const char *const names[] = {
		[PRORATE_SECOND] = "second",
		[PRORATE_DAY] = "day",
		[PRORATE_NONE] = "none",
		[PRORATE_DAY_OF_30] = "day_of_30",
	};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], name) == 0)
			return (ProrationUnit) i;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid unit \"%s\" of proration", name),
			errhint("Possible: \"second\", \"day\", \"day_of_30\", \"none\"."));
}

static Datum
row_result(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the function must return a row");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* tenancy.proration_length(starts_at, ends_at timestamptz, unit text, time_zone text) → numeric */
TENANCY_FUNCTION(proration_length)
{
	TimestampTz starts_at = required_timestamptz(fcinfo, 0, "starts_at");
	TimestampTz ends_at = required_timestamptz(fcinfo, 1, "ends_at");

	PG_RETURN_NUMERIC(proration_length(starts_at, ends_at,
									   proration_unit(text_to_cstring(PG_GETARG_TEXT_PP(2))),
									   text_to_cstring(PG_GETARG_TEXT_PP(3))));
}

/* tenancy.prorate(amount, part, whole numeric, currency text) → numeric */
TENANCY_FUNCTION(prorate)
{
	Numeric amount = required_numeric(fcinfo, 0, "amount");
	ProrationPart part = {
		.part = required_numeric(fcinfo, 1, "part"),
		.whole = required_numeric(fcinfo, 2, "whole"),
	};

	proration_part_check(part.part, part.whole);
	if (PG_ARGISNULL(3))
		PG_RETURN_NUMERIC(prorate(amount, &part));
	PG_RETURN_NUMERIC(money_ratio(numeric_times(amount, part.part), part.whole,
								  currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(3)))));
}

/*
 * tenancy.proration_split(starts_at, ends_at, anchor timestamptz, billing_period, unit,
 *     time_zone text)
 *     → TABLE(starts_at, ends_at, period_start, period_end timestamptz, part, whole numeric)
 */
TENANCY_FUNCTION(proration_split)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz starts_at = required_timestamptz(fcinfo, 0, "starts_at");
	TimestampTz ends_at = required_timestamptz(fcinfo, 1, "ends_at");
	TimestampTz anchor = required_timestamptz(fcinfo, 2, "anchor");
	BillingPeriod period = billing_period(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	ProrationUnit unit = proration_unit(text_to_cstring(PG_GETARG_TEXT_PP(4)));
	char *zone = text_to_cstring(PG_GETARG_TEXT_PP(5));
	int32 n = period_number_at(anchor, starts_at, period, zone);
	TimestampTz period_start = period_boundary(anchor, n, period, zone);

	InitMaterializedSRF(fcinfo, 0);
	while (starts_at < ends_at)
	{
		TimestampTz period_end = period_boundary(anchor, ++n, period, zone);
		TimestampTz until = Min(ends_at, period_end);
		ProrationPart part = proration_part(starts_at, until, period_start, period_end, unit, zone);
		bool nulls[6] = {false};
		Datum values[6] = {
			TimestampTzGetDatum(starts_at),    TimestampTzGetDatum(until),
			TimestampTzGetDatum(period_start), TimestampTzGetDatum(period_end),
			NumericGetDatum(part.part),        NumericGetDatum(part.whole),
		};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
		starts_at = until;
		period_start = period_end;
	}
	return (Datum) 0;
}

/* tenancy.credit_cap(credit, paid, earlier numeric) → numeric */
TENANCY_FUNCTION(credit_cap)
{
	PG_RETURN_NUMERIC(credit_cap(required_numeric(fcinfo, 0, "credit"),
								 required_numeric(fcinfo, 1, "paid"),
								 required_numeric(fcinfo, 2, "earlier")));
}

/* tenancy.proration_change(old_amount, new_amount, part, whole numeric, currency text) → (…) */
TENANCY_FUNCTION(proration_change)
{
	Numeric old_amount = required_numeric(fcinfo, 0, "old_amount");
	Numeric new_amount = required_numeric(fcinfo, 1, "new_amount");
	ProrationPart part = {
		.part = required_numeric(fcinfo, 2, "part"),
		.whole = required_numeric(fcinfo, 3, "whole"),
	};
	int exponent = currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(4)));
	bool resets = PG_GETARG_BOOL(5);
	Numeric credit;
	Numeric debit;
	bool nulls[3] = {false};
	Datum values[3];

	proration_part_check(part.part, part.whole);
	credit = money_ratio(numeric_times(old_amount, part.part), part.whole, exponent);
	debit = resets ? money_round(new_amount, exponent)
				   : money_ratio(numeric_times(new_amount, part.part), part.whole, exponent);
	values[0] = NumericGetDatum(credit);
	values[1] = NumericGetDatum(debit);
	values[2] = NumericGetDatum(numeric_minus(debit, credit));
	return row_result(fcinfo, values, nulls);
}

/* tenancy.allocate(amount numeric, weights numeric[], decimals integer) → numeric[] */
TENANCY_FUNCTION(allocate)
{
	Numeric amount = required_numeric(fcinfo, 0, "amount");
	int32 decimals = PG_GETARG_INT32(2);
	int count;
	Numeric *weights = required_numeric_array(fcinfo, 1, "weights", &count);
	Numeric *shares;
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	if (decimals < 0 || decimals > 12)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"decimals\" must be from 0 to 12"));
	if (numeric_compare(money_round(amount, decimals), amount) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" has more than %d decimals", decimals));
	if (count == 0 && !numeric_is_zero(amount))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"weights\" must not be empty"));
	for (int i = 0; i < count; i++)
	{
		if (numeric_compare(weights[i], numeric_zero()) < 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"weights\" must not contain a negative number"));
	}
	shares = allocate(amount, weights, count, decimals);
	for (int i = 0; i < count; i++)
		elements[i] = NumericGetDatum(shares[i]);
	PG_RETURN_DATUM(
		PointerGetDatum(construct_array(elements, count, NUMERICOID, -1, false, TYPALIGN_INT)));
}

/* tenancy.amount_due(charged, paid, refunded numeric) → (due numeric, overpaid numeric) */
TENANCY_FUNCTION(amount_due)
{
	Numeric charged = required_numeric(fcinfo, 0, "charged");
	Numeric kept =
		numeric_minus(required_numeric(fcinfo, 1, "paid"), required_numeric(fcinfo, 2, "refunded"));
	bool nulls[2] = {false};
	Datum values[2] = {
		NumericGetDatum(numeric_positive_part(numeric_minus(charged, kept))),
		NumericGetDatum(numeric_positive_part(numeric_minus(kept, charged))),
	};

	return row_result(fcinfo, values, nulls);
}
