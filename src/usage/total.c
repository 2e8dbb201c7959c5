/*
 * usage/total.c
 *		How quantities become one: the aggregations, in one place.
 *
 * Everything is exact: sums of numerics, and one division at the end where there is one.
 */
#include "postgres.h"

#include "core/money.h"
#include "usage/total.h"

#include "utils/fmgrprotos.h"

static Numeric
copy(Numeric value)
{
	return DatumGetNumeric(PointerGetDatum(memcpy(palloc(VARSIZE(value)), value, VARSIZE(value))));
}

static void
add_to(Numeric *sum, Numeric value)
{
	Numeric old = *sum;

	*sum = old == NULL ? copy(value) : numeric_plus(old, value);
	if (old != NULL)
		pfree(old);
}

static void
keep_extreme(Numeric *kept, Numeric value, Aggregation aggregation)
{
	int order = *kept == NULL ? 0 : numeric_compare(value, *kept);

	if (*kept != NULL && (aggregation == AGGREGATION_MIN ? order >= 0 : order <= 0))
		return;
	if (*kept != NULL)
		pfree(*kept);
	*kept = copy(value);
}

/* Of two at one time the one that was recorded later is the latest. */
static void
keep_latest(UsagePoint *kept, const UsagePoint *point)
{
	if (kept->quantity != NULL)
	{
		if (point->at < kept->at ||
			(point->at == kept->at && point->recorded_at < kept->recorded_at) ||
			(point->at == kept->at && point->recorded_at == kept->recorded_at &&
			 numeric_compare(point->quantity, kept->quantity) <= 0))
			return;
		pfree(kept->quantity);
	}
	*kept = *point;
	kept->quantity = copy(point->quantity);
}

static void
add_area(Numeric *area, Numeric change, TimestampTz length_us)
{
	Numeric length = numeric_from_int(length_us);
	Numeric product = numeric_times(change, length);

	add_to(area, product);
	pfree(product);
	pfree(length);
}

void
total_add_point(UsageTotal *total, const UsageSpan *span, const UsagePoint *point)
{
	Aggregation aggregation = span->metric->aggregation;

	switch (aggregation)
	{
		case AGGREGATION_AVG:
		case AGGREGATION_SUM:
			add_to(&total->sum, point->quantity);
			break;
		case AGGREGATION_LATEST:
			keep_latest(&total->latest, point);
			break;
		case AGGREGATION_MAX:
		case AGGREGATION_MIN:
			if (point->at < span->from_time)
				keep_latest(&total->latest, point);
			else
				keep_extreme(&total->extreme, point->quantity, aggregation);
			break;
		case AGGREGATION_WEIGHTED_SUM:
			add_area(&total->sum, point->quantity, span->to_time - Max(point->at, span->from_time));
			break;
		case AGGREGATION_COUNT:
		case AGGREGATION_UNIQUE:
		case AGGREGATIONS:
			break;
	}
	total->count++;
}

void
total_add_cell(UsageTotal *total, const UsageSpan *span, const UsageCell *cell)
{
	Aggregation aggregation = span->metric->aggregation;
	bool is_before = cell->hour < span->from_time;

	switch (aggregation)
	{
		case AGGREGATION_AVG:
		case AGGREGATION_SUM:
			add_to(&total->sum, cell->sum);
			break;
		case AGGREGATION_LATEST:
			keep_latest(&total->latest, &cell->latest);
			break;
		case AGGREGATION_MAX:
		case AGGREGATION_MIN:
			if (is_before)
				keep_latest(&total->latest, &cell->latest);
			else
				keep_extreme(&total->extreme,
							 aggregation == AGGREGATION_MAX ? cell->max : cell->min, aggregation);
			break;
		case AGGREGATION_WEIGHTED_SUM:
			add_area(&total->sum, cell->sum, span->to_time - Max(cell->hour, span->from_time));
			if (!is_before)
				add_area(&total->sum, cell->moment, -1);
			break;
		case AGGREGATION_COUNT:
		case AGGREGATION_UNIQUE:
		case AGGREGATIONS:
			break;
	}
	total->count += cell->count;
}

void
total_add_value(UsageTotal *total)
{
	total->count++;
}

/* One value has one quotient, however many decimals it was written with. */
static Numeric
divide(Numeric sum, int64 divisor)
{
	Numeric trimmed =
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(sum)));

	return numeric_over(trimmed, numeric_from_int(divisor));
}

Numeric
total_quantity(const UsageTotal *total, const UsageSpan *span)
{
	Aggregation aggregation = span->metric->aggregation;
	Numeric quantity = NULL;
	Numeric level;

	switch (aggregation)
	{
		case AGGREGATION_AVG:
			if (total->count > 0)
				quantity = divide(total->sum, total->count);
			break;
		case AGGREGATION_SUM:
			quantity = total->sum;
			break;
		case AGGREGATION_LATEST:
			quantity = total->latest.quantity;
			break;
		case AGGREGATION_MAX:
		case AGGREGATION_MIN:
			quantity = total->extreme;
			level = total->latest.quantity;
			if (quantity == NULL)
				quantity = level;
			else if (level != NULL)
				quantity = aggregation == AGGREGATION_MAX ? numeric_larger_of(quantity, level)
														  : numeric_smaller_of(quantity, level);
			break;
		case AGGREGATION_WEIGHTED_SUM:
			if (total->sum != NULL)
				quantity = divide(total->sum, span->to_time - span->from_time);
			break;
		case AGGREGATION_COUNT:
		case AGGREGATION_UNIQUE:
			quantity = numeric_from_int(total->count);
			break;
		case AGGREGATIONS:
			break;
	}
	return quantity != NULL ? quantity : numeric_zero();
}
