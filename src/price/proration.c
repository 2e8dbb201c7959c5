/*
 * price/proration.c
 *		Parts of periods, parts of amounts.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/proration.h"

#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MICROSECOND_PLACES 6

/* Midnight of the civil day that an instant lies in, as a number of days. */
static int64
civil_day(TimestampTz at, Datum zone)
{
	Timestamp civil =
		DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(at)));
	int64 day = civil / USECS_PER_DAY;

	return civil % USECS_PER_DAY < 0 ? day - 1 : day;
}

/* Of 30 days a month each: from the 31st on a day is the 30th. */
static int64
day_of_30(TimestampTz at, Datum zone)
{
	int64 day = civil_day(at, zone) + POSTGRES_EPOCH_JDATE;
	int year;
	int month;
	int day_of_month;

	j2date((int) day, &year, &month, &day_of_month);
	return ((int64) year * MONTHS_PER_YEAR + month) * DAYS_PER_MONTH +
		   Min(day_of_month, DAYS_PER_MONTH);
}

Numeric
proration_length(TimestampTz starts_at, TimestampTz ends_at, ProrationUnit unit,
				 const char *time_zone)
{
	Datum zone;

	switch (unit)
	{
		case PRORATE_SECOND:
		{
			int64 length = ends_at - starts_at;

			return length % USECS_PER_SEC == 0
					   ? numeric_from_int(length / USECS_PER_SEC)
					   : numeric_shift(numeric_from_int(length), -MICROSECOND_PLACES);
		}
		case PRORATE_DAY:
			zone = CStringGetTextDatum(time_zone);
			return numeric_from_int(civil_day(ends_at, zone) - civil_day(starts_at, zone));
		case PRORATE_DAY_OF_30:
			zone = CStringGetTextDatum(time_zone);
			return numeric_from_int(day_of_30(ends_at, zone) - day_of_30(starts_at, zone));
		case PRORATE_NONE:
			return numeric_from_int(1);
	}
	return NULL;
}

ProrationPart
proration_part(TimestampTz starts_at, TimestampTz ends_at, TimestampTz period_start,
			   TimestampTz period_end, ProrationUnit unit, const char *time_zone)
{
	ProrationPart part = {
		.part = proration_length(starts_at, ends_at, unit, time_zone),
		.whole = proration_length(period_start, period_end, unit, time_zone),
	};

	return part;
}

void
proration_part_check(Numeric part, Numeric whole)
{
	if (numeric_compare(whole, numeric_zero()) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"whole\" must be more than 0"));
	if (numeric_compare(part, numeric_zero()) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"part\" must be at least 0"));
}

Numeric
prorate(Numeric amount, const ProrationPart *part)
{
	return part == NULL ? amount : numeric_over(numeric_times(amount, part->part), part->whole);
}

Numeric
credit_cap(Numeric credit, Numeric paid, Numeric earlier_credits)
{
	return numeric_positive_part(numeric_smaller_of(credit, numeric_minus(paid, earlier_credits)));
}
