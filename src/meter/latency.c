/*
 * meter/latency.c
 *		How long statements take: the histogram, and what it says.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "meter/latency.h"
#include "meter/meter.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/hsearch.h"
#include "utils/tuplestore.h"

#define GAMMA ((1 + LATENCY_ERROR) / (1 - LATENCY_ERROR))

/* Of what is at most so many microseconds, which is most of it, the bucket is looked up. */
#define SHORT_US 4096
static uint16 short_buckets[SHORT_US];

static int
compute_bucket(uint64 us)
{
	if (us <= 1)
		return 0;
	return Min((int) ceil(log((double) us) / log(GAMMA)), LATENCY_BUCKETS - 1);
}

void
latency_init(void)
{
	for (int us = 0; us < SHORT_US; us++)
		short_buckets[us] = compute_bucket(us);
}

pg_attribute_hot int
latency_bucket(uint64 us)
{
	return likely(us < SHORT_US) ? short_buckets[us] : compute_bucket(us);
}

double
latency_value(int bucket)
{
	return 2 * pow(GAMMA, bucket) / (GAMMA + 1);
}

double
latency_quantile(const uint64 *counts, double q)
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

/*
 * A histogram as SQL has it: pairs of a bucket and a count, ascending, as a list of bigint.
 */
static void
add_pairs(uint64 *counts, ArrayType *pairs)
{
	const int64 *value = (const int64 *) ARR_DATA_PTR(pairs);
	int length = ArrayGetNItems(ARR_NDIM(pairs), ARR_DIMS(pairs));

	if (ARR_NDIM(pairs) > 1 || ARR_HASNULL(pairs) || ARR_ELEMTYPE(pairs) != INT8OID ||
		length % 2 != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid histogram"),
				errdetail("It has pairs of a bucket and a count, and no nulls."));
	for (int i = 0; i < length; i += 2)
	{
		if (value[i] < 0 || value[i] >= LATENCY_BUCKETS || value[i + 1] < 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid histogram"),
					errdetail("Buckets are between 0 and %d, and counts not negative.",
							  LATENCY_BUCKETS - 1));
		counts[value[i]] += value[i + 1];
	}
}

/* tenancy.latency_merge(a bigint[], b bigint[]) → bigint[] */
TENANCY_FUNCTION(latency_merge)
{
	uint64 counts[LATENCY_BUCKETS] = {0};
	Datum pairs[2 * LATENCY_BUCKETS];
	int length = 0;

	add_pairs(counts, PG_GETARG_ARRAYTYPE_P(0));
	add_pairs(counts, PG_GETARG_ARRAYTYPE_P(1));
	for (int i = 0; i < LATENCY_BUCKETS; i++)
	{
		if (counts[i] == 0)
			continue;
		pairs[length++] = Int64GetDatum(i);
		pairs[length++] = Int64GetDatum((int64) counts[i]);
	}
	PG_RETURN_ARRAYTYPE_P(
		construct_array(pairs, length, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

GATE_LOOKUP(latency_hours,
			"SELECT h.histogram FROM tenancy.latency_hour h"
			" WHERE h.tenant_id = $1 AND h.hour >= $2 AND h.hour < $3",
			UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_LOOKUP(latency_recent,
			"SELECT h.tenant_id, h.histogram FROM tenancy.latency_hour h"
			" WHERE h.hour >= $1 AND ($2 IS NULL OR h.tenant_id = $2)",
			TIMESTAMPTZOID, UUIDOID);

static const double quantiles[] = {0.50, 0.95, 0.99};

/* The number of statements, and their quantiles in units of so many microseconds. */
static void
fill_values(const uint64 *counts, double unit_us, Datum *values, bool *nulls)
{
	uint64 total = 0;

	for (int i = 0; i < LATENCY_BUCKETS; i++)
		total += counts[i];
	values[0] = Int64GetDatum((int64) total);
	nulls[0] = false;
	for (int i = 0; i < lengthof(quantiles); i++)
	{
		values[1 + i] = Float8GetDatum(latency_quantile(counts, quantiles[i]) / unit_us);
		nulls[1 + i] = total == 0;
	}
}

typedef struct LatencyRow
{
	pg_uuid_t tenant;
	uint64 counts[LATENCY_BUCKETS];
} LatencyRow;

static LatencyRow *
row_of(HTAB *rows, const pg_uuid_t *tenant)
{
	bool is_found;
	LatencyRow *row = hash_search(rows, tenant, HASH_ENTER, &is_found);

	if (!is_found)
		memset(row->counts, 0, sizeof(row->counts));
	return row;
}

/* What is in the tables of this hour and the one before, and what is not yet. */
static HTAB *
recent_rows(const pg_uuid_t *tenant)
{
	HASHCTL control = {.keysize = sizeof(pg_uuid_t),
					   .entrysize = sizeof(LatencyRow),
					   .hcxt = CurrentMemoryContext};
	HTAB *rows =
		hash_create("pg_tenancy latencies", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int count;
	MeterLatencies *live;
	GateRows *stored;

	meter_collect(MyDatabaseId);
	live = meter_read_latencies(MyDatabaseId, &count);
	for (int i = 0; i < count; i++)
	{
		LatencyRow *row;

		if (tenant != NULL && !id_equal(tenant, &live[i].tenant))
			continue;
		row = row_of(rows, &live[i].tenant);
		for (int b = 0; b < live[i].count; b++)
			row->counts[live[i].buckets[b].bucket] += live[i].buckets[b].count;
	}
	stored =
		gate_run(&latency_recent, EXPECT_ANY,
				 gate_timestamptz(meter_hour_of(clock_now() - USECS_PER_HOUR)), gate_uuid(tenant));
	for (int64 i = 0; i < stored->count; i++)
		add_pairs(row_of(rows, row_uuid(stored, i, 0))->counts,
				  DatumGetArrayTypeP(row_datum(stored, i, 1)));
	return rows;
}

/* tenancy.tenant_latency_read() → TABLE(tenant_id, statements, p50_us, p95_us, p99_us) */
TENANCY_FUNCTION(tenant_latency_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const pg_uuid_t *tenant = context_tenant();
	HASH_SEQ_STATUS scan;
	LatencyRow *row;

	InitMaterializedSRF(fcinfo, 0);
	if (tenant == NULL && !meter_may_read_all())
		return (Datum) 0;
	hash_seq_init(&scan, recent_rows(tenant));
	while ((row = hash_seq_search(&scan)) != NULL)
	{
		Datum values[5];
		bool nulls[5] = {false};

		values[0] = UUIDPGetDatum(&row->tenant);
		fill_values(row->counts, 1, values + 1, nulls + 1);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * usage_latency(tenant regtenant, from_time timestamptz, to_time timestamptz)
 *     → (statements, p50_ms, p95_ms, p99_ms)
 */
TENANCY_FUNCTION(usage_latency)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	TimestampTz from_time = required_timestamptz(fcinfo, 1, "from_time");
	TimestampTz to_time = required_timestamptz(fcinfo, 2, "to_time");
	uint64 counts[LATENCY_BUCKETS] = {0};
	Datum values[4];
	bool nulls[4];
	TupleDesc desc;
	GateRows *rows;

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (from_time >= to_time)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_time\" must be before \"to_time\""));
	rows = gate_run(&latency_hours, EXPECT_ANY, gate_uuid(tenant), gate_timestamptz(from_time),
					gate_timestamptz(to_time));
	for (int64 i = 0; i < rows->count; i++)
		add_pairs(counts, DatumGetArrayTypeP(row_datum(rows, i, 0)));
	fill_values(counts, 1000, values, nulls);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
