/*
 * core/period.c
 *		Civil time: the boundaries of billing periods.
 *
 * Adding a month to a boundary instead of n months to the anchor would drift: from Jan
 * 31 to the 28th of every month after February.  The zone is a named one, since a fixed
 * offset is wrong for half of the year.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/period.h"

#include "access/htup_details.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

static const struct
{
	const char *name;
	BillingPeriod period;
} periods[] = {
	{"daily", {.days = 1}},       {"weekly", {.days = 7}},    {"monthly", {.months = 1}},
	{"quarterly", {.months = 3}}, {"yearly", {.months = 12}},
};

const char *const billing_period_names[] = {"daily",     "weekly", "monthly",
											"quarterly", "yearly", NULL};

BillingPeriod
billing_period(const char *name)
{
	for (int i = 0; i < lengthof(periods); i++)
	{
		if (strcmp(periods[i].name, name) == 0)
			return periods[i].period;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid billing period \"%s\"", name),
			errhint("Possible: \"daily\", \"weekly\", \"monthly\", \"quarterly\", \"yearly\"."));
}

/*
 * A zone by its rules, such as "EST5" or "+02:00" (which is west of Greenwich), always has a digit.
 * Of the names of zones these have one.
 */
static bool
is_name_of_zone(const char *name)
{
	static const char *const with_digits[] = {"CST6CDT", "EST5EDT", "MST7MDT", "PST8PDT"};

	if (strpbrk(name, "0123456789") == NULL || pg_strncasecmp(name, "Etc/GMT", 7) == 0)
		return true;
	for (int i = 0; i < lengthof(with_digits); i++)
	{
		if (pg_strcasecmp(with_digits[i], name) == 0)
			return true;
	}
	return false;
}

void
require_time_zone(const char *name)
{
	if (pg_tzset(name) == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" not recognized", name));
	if (!is_name_of_zone(name))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" is not the name of a zone", name),
				errhint("A fixed offset is wrong for half of the year: say \"Europe/Berlin\"."));
}

TimestampTz
period_boundary(TimestampTz anchor, int32 n, BillingPeriod period, const char *zone)
{
	Datum zone_datum = CStringGetTextDatum(zone);
	Interval span = {.month = n * period.months, .day = n * period.days};
	Datum civil = DirectFunctionCall2(timestamptz_zone, zone_datum, TimestampTzGetDatum(anchor));

	civil = DirectFunctionCall2(timestamp_pl_interval, civil, IntervalPGetDatum(&span));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone_datum, civil));
}

int32
period_number_at(TimestampTz anchor, TimestampTz at, BillingPeriod period, const char *zone)
{
	/* A month has at most 31 days, a day at most 25 hours; so this is not past it, going up. */
	int64 longest = USECS_PER_DAY * (31 * (int64) period.months + period.days) +
					USECS_PER_HOUR * (int64) (period.days > 0);
	int32 n = (int32) ((at - anchor) / longest) - 1;

	if (at < anchor)
	{
		/* Going down, the shortest are what is surely enough. */
		int64 shortest = USECS_PER_DAY * (28 * (int64) period.months) +
						 (USECS_PER_DAY - USECS_PER_HOUR) * (int64) period.days;

		n = (int32) ((at - anchor) / shortest) - 2;
	}
	while (period_boundary(anchor, n + 1, period, zone) <= at)
		n++;
	return n;
}

/* tenancy.period_boundary(anchor timestamptz, n int, billing_period text, time_zone text) →
 * timestamptz */
TENANCY_FUNCTION(period_boundary)
{
	char *period = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *zone = text_to_cstring(PG_GETARG_TEXT_PP(3));

	PG_RETURN_TIMESTAMPTZ(period_boundary(PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_INT32(1),
										  billing_period(period), zone));
}

/*
 * tenancy.period_at(anchor timestamptz, billing_period text, at timestamptz, time_zone text)
 *     → (number integer, starts_at timestamptz, ends_at timestamptz)
 */
TENANCY_FUNCTION(period_at)
{
	TimestampTz anchor = required_timestamptz(fcinfo, 0, "anchor");
	BillingPeriod period = billing_period(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	TimestampTz at = required_timestamptz(fcinfo, 2, "at");
	char *zone = text_to_cstring(PG_GETARG_TEXT_PP(3));
	int32 n = period_number_at(anchor, at, period, zone);
	TupleDesc desc;
	bool nulls[3] = {false};
	Datum values[3] = {
		Int32GetDatum(n),
		TimestampTzGetDatum(period_boundary(anchor, n, period, zone)),
		TimestampTzGetDatum(period_boundary(anchor, n + 1, period, zone)),
	};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "period_at() must return a row");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
