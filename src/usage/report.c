/*
 * usage/report.c
 *		What was used of each metric, over time.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/regtenant.h"
#include "core/function.h"

#include "common/int.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"

/* More buckets than this are a mistake in the interval. */
#define MAX_BUCKETS 10000

GATE_LOOKUP(metric_known, "SELECT FROM tenancy.metric m WHERE m.name = $1", TEXTOID);
/* A metric without any use in any bucket is left out unless asked for. */
GATE_LOOKUP(
	usage_by_bucket,
	"SELECT m.name, b.starts_at, q.quantity, m.unit"
	"  FROM tenancy.metric m"
	"  CROSS JOIN unnest($2, $3) AS b(starts_at, ends_at)"
	"  CROSS JOIN LATERAL (SELECT tenancy.usage_quantity($1, m.name, b.starts_at, b.ends_at)"
	"                          AS quantity OFFSET 0) q" /* computed once a row */
	" WHERE ($4 IS NULL AND q.quantity <> 0) OR m.name = $4"
	" ORDER BY m.name, b.starts_at",
	UUIDOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID);

/* The n-th boundary counts from the first, in the civil time of the session: Jan 31, Feb 28,
 * Mar 31. */
static TimestampTz
boundary(TimestampTz anchor, const Interval *bucket, int n)
{
	Interval distance;

	if (pg_mul_s32_overflow(bucket->month, n, &distance.month) ||
		pg_mul_s32_overflow(bucket->day, n, &distance.day) ||
		pg_mul_s64_overflow(bucket->time, n, &distance.time))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"bucket\" is too long"));
	return DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(anchor), IntervalPGetDatum(&distance)));
}

typedef struct Buckets
{
	int count;
	Datum starts[MAX_BUCKETS];
	Datum ends[MAX_BUCKETS];
} Buckets;

static Buckets *
cut(TimestampTz from_time, TimestampTz to_time, const Interval *bucket)
{
	Buckets *buckets = palloc(sizeof(Buckets));
	TimestampTz start = from_time;

	buckets->count = 0;
	while (start < to_time)
	{
		TimestampTz end = to_time;

		if (buckets->count == MAX_BUCKETS)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the report would have more than %d buckets", MAX_BUCKETS));
		if (bucket != NULL)
			end = Min(boundary(from_time, bucket, buckets->count + 1), to_time);
		if (end <= start)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"bucket\" must be positive"));
		buckets->starts[buckets->count] = TimestampTzGetDatum(start);
		buckets->ends[buckets->count++] = TimestampTzGetDatum(end);
		start = end;
	}
	return buckets;
}

static NullableDatum
time_array(Datum *times, int count)
{
	return gate_datum(PointerGetDatum(construct_array(
		times, count, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
}

/*
 * usage_report(tenant regtenant, from_time timestamptz, to_time timestamptz, metric text,
 *     bucket interval) → TABLE(metric, bucket_start, quantity, unit)
 */
TENANCY_FUNCTION(usage_report)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	TimestampTz from_time = required_timestamptz(fcinfo, 1, "from_time");
	TimestampTz to_time = required_timestamptz(fcinfo, 2, "to_time");
	char *metric = optional_text(fcinfo, 3);
	Interval *bucket = PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4);
	Buckets *buckets;

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (from_time >= to_time)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_time\" must be before \"to_time\""));
	if (metric != NULL &&
		gate_run(&metric_known, EXPECT_AT_MOST_ONE, gate_text(metric))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", metric));
	buckets = cut(from_time, to_time, bucket);
	gate_return_rows(fcinfo,
					 gate_run(&usage_by_bucket, EXPECT_ANY, gate_uuid(tenant),
							  time_array(buckets->starts, buckets->count),
							  time_array(buckets->ends, buckets->count), gate_text(metric)));
	return (Datum) 0;
}
