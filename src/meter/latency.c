/*
 * meter/latency.c
 *		How long statements take: the histogram, and what it says.
 */
#include "postgres.h"

#include "context/context.h"
#include "core/function.h"
#include "core/id.h"
#include "meter/latency.h"
#include "meter/meter.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/tuplestore.h"

#define GAMMA ((1 + LATENCY_ERROR) / (1 - LATENCY_ERROR))

int
latency_bucket(uint64 us)
{
	static double inverse = 0;
	int bucket;

	if (us <= 1)
		return 0;
	if (unlikely(inverse == 0))
		inverse = 1 / log(GAMMA);
	bucket = (int) ceil(log((double) us) * inverse);
	return Min(bucket, LATENCY_BUCKETS - 1);
}

double
latency_value(int bucket)
{
	return 2 * pow(GAMMA, bucket) / (GAMMA + 1);
}

double
latency_quantile(const uint32 *counts, double q)
{
	uint64 total = 0;
	uint64 seen = 0;
	double rank;

	for (int i = 0; i < LATENCY_BUCKETS; i++)
		total += counts[i];
	if (total == 0)
		return 0;
	rank = q * (double) (total - 1);
	for (int i = 0; i < LATENCY_BUCKETS; i++)
	{
		seen += counts[i];
		if ((double) seen > rank)
			return latency_value(i);
	}
	return latency_value(LATENCY_BUCKETS - 1);
}

/* tenancy.latency_estimate(us double precision) → double precision */
TENANCY_FUNCTION(latency_estimate)
{
	double us = PG_GETARG_FLOAT8(0);

	if (!(us >= 0 && us <= 9e15))
		ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("argument \"us\" must be between 0 and 9e15"));
	PG_RETURN_FLOAT8(latency_value(latency_bucket((uint64) us)));
}

typedef struct LatencyRows
{
	ReturnSetInfo *result;
	const pg_uuid_t *tenant; /* NULL for all */
} LatencyRows;

static void
put_row(const pg_uuid_t *tenant, const uint32 *counts, void *argument)
{
	LatencyRows *rows = argument;
	bool nulls[5] = {false};
	uint64 total = 0;
	Datum values[5];

	if (rows->tenant != NULL && !id_equal(rows->tenant, tenant))
		return;
	for (int i = 0; i < LATENCY_BUCKETS; i++)
		total += counts[i];
	values[0] = UUIDPGetDatum(tenant);
	values[1] = Int64GetDatum((int64) total);
	values[2] = Float8GetDatum(latency_quantile(counts, 0.50));
	values[3] = Float8GetDatum(latency_quantile(counts, 0.95));
	values[4] = Float8GetDatum(latency_quantile(counts, 0.99));
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
}

/* tenancy.tenant_latency_read() → TABLE(tenant_id, statements, p50_us, p95_us, p99_us) */
TENANCY_FUNCTION(tenant_latency_read)
{
	LatencyRows rows = {.result = (ReturnSetInfo *) fcinfo->resultinfo, .tenant = context_tenant()};

	InitMaterializedSRF(fcinfo, 0);
	meter_collect(MyDatabaseId);
	if (rows.tenant != NULL || meter_may_read_all())
		meter_read_latencies(MyDatabaseId, put_row, &rows);
	return (Datum) 0;
}
