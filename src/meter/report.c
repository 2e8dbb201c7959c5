/*
 * meter/report.c
 *		What was used of each metric, over time.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/regtenant.h"
#include "core/function.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* More buckets than this are a mistake in the interval. */
#define MAX_BUCKETS 10000

GATE_LOOKUP(metric_known, "SELECT FROM tenancy.metric m WHERE m.name = $1", TEXTOID);
GATE_LOOKUP(bucket_count,
			"SELECT pg_catalog.count(*) FROM ("
			"  SELECT pg_catalog.generate_series($1, $2 - interval '1 microsecond', $3)"
			"  LIMIT $4 + 1) b",
			TIMESTAMPTZOID, TIMESTAMPTZOID, INTERVALOID, INT8OID);

/* $5 null: one bucket.  A metric without any use in any bucket is left out unless asked for. */
GATE_LOOKUP(usage_by_bucket,
			"SELECT m.name, b.bucket_start, q.quantity, m.unit"
			"  FROM tenancy.metric m"
			"  CROSS JOIN pg_catalog.generate_series($2, $3 - interval '1 microsecond',"
			"                                        coalesce($5, $3 - $2)) AS b(bucket_start)"
			"  CROSS JOIN LATERAL (SELECT tenancy.usage_quantity("
			"      $1, m.name, b.bucket_start, least(b.bucket_start + coalesce($5, $3 - $2), $3))"
			"      AS quantity OFFSET 0) q" /* computed once a row */
			" WHERE ($4 IS NULL AND q.quantity <> 0) OR m.name = $4"
			" ORDER BY m.name, b.bucket_start",
			UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INTERVALOID);

static bool
is_positive(Interval *interval)
{
	Interval zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(interval),
											IntervalPGetDatum(&zero)));
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

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (from_time >= to_time)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_time\" must be before \"to_time\""));
	if (metric != NULL &&
		gate_run(&metric_known, EXPECT_AT_MOST_ONE, gate_text(metric))->count == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", metric));
	if (bucket != NULL)
	{
		if (!is_positive(bucket))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"bucket\" must be positive"));
		if (row_int64(gate_run(&bucket_count, EXPECT_ONE, gate_timestamptz(from_time),
							   gate_timestamptz(to_time), gate_argument(4),
							   gate_int64(MAX_BUCKETS)),
					  0, 0) > MAX_BUCKETS)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the report would have more than %d buckets", MAX_BUCKETS));
	}
	gate_return_rows(fcinfo, gate_run(&usage_by_bucket, EXPECT_ANY, gate_uuid(tenant),
									  gate_timestamptz(from_time), gate_timestamptz(to_time),
									  gate_text(metric), gate_argument(4)));
	return (Datum) 0;
}
