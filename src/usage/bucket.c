/*
 * usage/bucket.c
 *		A time cut into buckets, in civil time.
 */
#include "postgres.h"

#include "core/period.h"
#include "usage/bucket.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

static Datum
to_civil(const char *zone, TimestampTz time)
{
	return DirectFunctionCall2(timestamptz_zone, CStringGetTextDatum(zone),
							   TimestampTzGetDatum(time));
}

static TimestampTz
from_civil(const char *zone, Datum civil)
{
	return DatumGetTimestampTz(
		DirectFunctionCall2(timestamp_zone, CStringGetTextDatum(zone), civil));
}

static void
refuse_length(const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("argument \"bucket\" must be %s", expected));
}

static Interval
multiply(const Interval *length, int n)
{
	Interval product;

	if (pg_mul_s32_overflow(length->month, n, &product.month) ||
		pg_mul_s32_overflow(length->day, n, &product.day) ||
		pg_mul_s64_overflow(length->time, n, &product.time))
		refuse_length("shorter");
	return product;
}

/* Does it begin at the same times of every day? */
static bool
divides_day(const Interval *length)
{
	return length->month == 0 && length->day == 0 && length->time > USECS_PER_HOUR &&
		   USECS_PER_DAY % length->time == 0;
}

/* The n-th boundary; those of civil times that a day leaves out are not after the one before. */
static TimestampTz
boundary(TimestampTz anchor, const Interval *length, int n, const char *zone)
{
	Interval distance = multiply(length, n);
	TimeOffset exact = divides_day(length) ? 0 : distance.time;
	TimestampTz civil;
	TimestampTz result;

	distance.time -= exact;
	civil = from_civil(zone, DirectFunctionCall2(timestamp_pl_interval, to_civil(zone, anchor),
												 IntervalPGetDatum(&distance)));
	if (pg_add_s64_overflow(civil, exact, &result) || !IS_VALID_TIMESTAMP(result))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	return result;
}

Buckets *
buckets_cut(TimestampTz from_time, TimestampTz to_time, const Interval *length, const char *zone)
{
	Buckets *buckets = palloc(sizeof(Buckets));
	TimestampTz start = from_time;

	if (zone == NULL)
		zone = pg_get_timezone_name(session_timezone);
	else
		require_time_zone(zone);
	buckets->count = 0;
	for (int n = 1; start < to_time; n++)
	{
		TimestampTz end = length == NULL ? to_time : boundary(from_time, length, n, zone);

		if (end <= start && divides_day(length))
			continue;
		if (end <= start)
			refuse_length("positive");
		if (buckets->count == MAX_BUCKETS)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the report would have more than %d buckets", MAX_BUCKETS));
		buckets->starts[buckets->count++] = start;
		start = Min(end, to_time);
	}
	buckets->starts[buckets->count] = to_time;
	return buckets;
}
