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

#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

int
period_months(const char *billing_period)
{
	static const struct
	{
		const char *name;
		int months;
	} periods[] = {{"monthly", 1}, {"quarterly", 3}, {"yearly", 12}};

	for (int i = 0; i < lengthof(periods); i++)
	{
		if (strcmp(periods[i].name, billing_period) == 0)
			return periods[i].months;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid billing period \"%s\"", billing_period),
			errhint("Possible: \"monthly\", \"quarterly\", \"yearly\"."));
}

void
require_time_zone(const char *name)
{
	if (pg_tzset(name) == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" not recognized", name));
}

TimestampTz
period_boundary(TimestampTz anchor, int32 n, int months, const char *zone)
{
	Datum zone_datum = CStringGetTextDatum(zone);
	Interval span = {.month = n * months};
	Datum civil = DirectFunctionCall2(timestamptz_zone, zone_datum, TimestampTzGetDatum(anchor));

	civil = DirectFunctionCall2(timestamp_pl_interval, civil, IntervalPGetDatum(&span));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone_datum, civil));
}

/* tenancy.period_boundary(anchor timestamptz, n int, billing_period text, time_zone text) →
 * timestamptz */
TENANCY_FUNCTION(period_boundary)
{
	char *billing_period = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *zone = text_to_cstring(PG_GETARG_TEXT_PP(3));

	PG_RETURN_TIMESTAMPTZ(period_boundary(PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_INT32(1),
										  period_months(billing_period), zone));
}
