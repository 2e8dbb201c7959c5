/*
 * resource/rightsize.c
 *		What a tenant's allocation should be, and what else could be saved, from what it used.
 *
 * The history is tenancy.usage_hour: the mean of each hour of the last eight days, an hour without
 * a row being one in which nothing was used.  Of storage the peak of each day counts.  What is not
 * measured by the hour (memory, connections) is not recommended.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "resource/recommend.h"
#include "resource/resource.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define HISTORY_DAYS 8
#define WORTH_CHANGING 0.1 /* of what it is */

GATE_LOOKUP(current_allocation,
			"SELECT a.requests, a.limits FROM tenancy.allocation a"
			" WHERE a.tenant_id = $1 AND a.state = 'active'",
			UUIDOID);
/* Each whole hour since the tenant is known, at most so many days. */
GATE_LOOKUP(cpu_history,
			"SELECT (coalesce(h.cpu_us, 0) / 60000000.0)::float8,"
			"       (EXTRACT(epoch FROM $2 - g.hour) / 86400)::float8"
			"  FROM (SELECT pg_catalog.generate_series("
			"           greatest(pg_catalog.date_trunc('hour', t.created_at, 'UTC'),"
			"                    pg_catalog.date_trunc('hour', $2, 'UTC') - $3 * interval '1 day'),"
			"           pg_catalog.date_trunc('hour', $2, 'UTC') - interval '1 hour',"
			"           interval '1 hour') AS hour"
			"          FROM tenancy.tenant t WHERE t.id = $1) g"
			"  LEFT JOIN tenancy.usage_hour h ON h.tenant_id = $1 AND h.hour = g.hour",
			UUIDOID, TIMESTAMPTZOID, INT4OID);
GATE_LOOKUP(storage_history,
			"SELECT (pg_catalog.max(h.storage_bytes) / 1000000000.0)::float8,"
			"       (EXTRACT(epoch FROM $2 - pg_catalog.date_trunc('day', h.hour, 'UTC')) / "
			"86400)::float8"
			"  FROM tenancy.usage_hour h"
			" WHERE h.tenant_id = $1 AND h.hour > $2 - $3 * interval '1 day' AND h.hour <= $2"
			"   AND h.storage_bytes IS NOT NULL"
			" GROUP BY pg_catalog.date_trunc('day', h.hour, 'UTC')",
			UUIDOID, TIMESTAMPTZOID, INT4OID);

static const struct
{
	const char *resource;
	GateStatement *history;
	double observations_a_day;
} sized[] = {
	{"cpu_seconds_per_minute", &cpu_history, 24},
	{"storage_gb", &storage_history, 1},
};

typedef struct Sizing
{
	const char *resource;
	Numeric request; /* NULL for none, as below */
	Numeric limit;
	int observation_count;
	Recommendation wanted;
	Numeric new_request;
	Numeric new_limit;
	const char *action;
} Sizing;

static double
to_double(Numeric value)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value)));
}

/* Three decimals are more than anybody measures. */
static Numeric
to_numeric(double value)
{
	return DatumGetNumeric(DirectFunctionCall2(
		numeric_round, DirectFunctionCall1(float8_numeric, Float8GetDatum(value)),
		Int32GetDatum(3)));
}

static bool
is_worth_changing(Numeric current, double wanted, double lower, double upper)
{
	double now = current == NULL ? 0 : to_double(current);

	return current != NULL && (now < lower || now > upper) &&
		   fabs(wanted - now) > WORTH_CHANGING * now;
}

static void
decide(Sizing *size)
{
	const Recommendation *wanted = &size->wanted;

	if (size->observation_count == 0)
	{
		size->action = "none: there is no history";
		return;
	}
	/* A promise is what is used as a rule; a limit leaves room for what is used at times. */
	if (is_worth_changing(size->request, wanted->target, wanted->lower, wanted->upper))
		size->new_request = to_numeric(wanted->target);
	if (is_worth_changing(size->limit, wanted->upper, wanted->target, wanted->upper))
		size->new_limit = to_numeric(wanted->upper);
	if (size->new_request != NULL && size->limit != NULL && size->new_limit == NULL &&
		numeric_compare(size->new_request, size->limit) > 0)
		size->new_limit = to_numeric(wanted->upper);
	if (size->new_limit != NULL && size->request != NULL && size->new_request == NULL &&
		numeric_compare(size->request, size->new_limit) > 0)
		size->new_request = to_numeric(wanted->target);
	if (size->new_request == NULL && size->new_limit == NULL)
		size->action = size->request == NULL && size->limit == NULL ? "none: nothing is allocated"
																	: "none: it fits";
	else
		size->action = "change";
}

static void
measure(Sizing *size, int which, const pg_uuid_t *tenant, const Jsonb *requests,
		const Jsonb *limits)
{
	GateRows *rows = gate_run(sized[which].history, EXPECT_ANY, gate_uuid(tenant),
							  gate_timestamptz(clock_now()), gate_int32(HISTORY_DAYS));
	Observation *observations = palloc_array(Observation, Max(rows->count, 1));

	size->resource = sized[which].resource;
	size->request = json_numeric(requests, size->resource);
	size->limit = json_numeric(limits, size->resource);
	size->observation_count = (int) rows->count;
	for (int64 i = 0; i < rows->count; i++)
		observations[i] = (Observation){DatumGetFloat8(row_datum(rows, i, 0)),
										DatumGetFloat8(row_datum(rows, i, 1))};
	if (rows->count > 0)
		size->wanted = recommend(observations, (int) rows->count,
								 rows->count / sized[which].observations_a_day);
	decide(size);
}

static void
apply(const pg_uuid_t *tenant, const Sizing *sizes)
{
	JsonBuilder requests;
	JsonBuilder limits;
	JsonBuilder changes;
	bool is_any = false;

	json_begin(&requests);
	json_begin(&limits);
	for (int i = 0; i < lengthof(sized); i++)
	{
		if (sizes[i].new_request != NULL)
			json_put_numeric(&requests, sizes[i].resource, sizes[i].new_request);
		if (sizes[i].new_limit != NULL)
			json_put_numeric(&limits, sizes[i].resource, sizes[i].new_limit);
		is_any |= sizes[i].new_request != NULL || sizes[i].new_limit != NULL;
	}
	if (!is_any)
		return;
	json_begin(&changes);
	json_put_jsonb(&changes, "requests", json_end(&requests));
	json_put_jsonb(&changes, "limits", json_end(&limits));
	(void) resource_change(tenant, json_end(&changes));
}

static void
put_numeric(Datum *values, bool *nulls, int column, Numeric value)
{
	nulls[column] = value == NULL;
	values[column] = value == NULL ? 0 : NumericGetDatum(value);
}

enum
{
	SIZE_RESOURCE,
	SIZE_REQUEST,
	SIZE_LIMIT,
	SIZE_LOWER,
	SIZE_TARGET,
	SIZE_UPPER,
	SIZE_CONFIDENCE,
	SIZE_OBSERVATIONS,
	SIZE_NEW_REQUEST,
	SIZE_NEW_LIMIT,
	SIZE_ACTION,
	SIZE_COLUMNS
};

static void
put_size(ReturnSetInfo *result, const Sizing *size, bool is_dry)
{
	bool has_history = size->observation_count > 0;
	bool is_change = size->new_request != NULL || size->new_limit != NULL;
	Datum values[SIZE_COLUMNS];
	bool nulls[SIZE_COLUMNS] = {false};

	values[SIZE_RESOURCE] = CStringGetTextDatum(size->resource);
	put_numeric(values, nulls, SIZE_REQUEST, size->request);
	put_numeric(values, nulls, SIZE_LIMIT, size->limit);
	put_numeric(values, nulls, SIZE_LOWER, has_history ? to_numeric(size->wanted.lower) : NULL);
	put_numeric(values, nulls, SIZE_TARGET, has_history ? to_numeric(size->wanted.target) : NULL);
	put_numeric(values, nulls, SIZE_UPPER, has_history ? to_numeric(size->wanted.upper) : NULL);
	put_numeric(values, nulls, SIZE_CONFIDENCE,
				has_history ? to_numeric(size->wanted.confidence) : NULL);
	values[SIZE_OBSERVATIONS] = Int32GetDatum(size->observation_count);
	put_numeric(values, nulls, SIZE_NEW_REQUEST, size->new_request);
	put_numeric(values, nulls, SIZE_NEW_LIMIT, size->new_limit);
	values[SIZE_ACTION] =
		CStringGetTextDatum(is_change ? (is_dry ? "would be changed" : "changed") : size->action);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* resource_rightsize(tenant regtenant, dry_run boolean) → TABLE(…) */
TENANCY_FUNCTION(resource_rightsize)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	Sizing sizes[lengthof(sized)] = {0};
	GateRows *allocation;

	require_argument(fcinfo, 1, "dry_run");
	context_require_none("sizing resources");
	InitMaterializedSRF(fcinfo, 0);
	allocation = gate_run(&current_allocation, EXPECT_AT_MOST_ONE, gate_uuid(&tenant->id));
	for (int i = 0; i < lengthof(sized); i++)
		measure(&sizes[i], i, &tenant->id,
				allocation->count > 0 ? row_jsonb(allocation, 0, 0) : json_empty_object(),
				allocation->count > 0 ? row_jsonb(allocation, 0, 1) : json_empty_object());
	if (!PG_GETARG_BOOL(1) && allocation->count > 0)
		apply(&tenant->id, sizes);
	for (int i = 0; i < lengthof(sized); i++)
		put_size((ReturnSetInfo *) fcinfo->resultinfo, &sizes[i], PG_GETARG_BOOL(1));
	return (Datum) 0;
}

/* What of a tenant's own tables and indexes could be saved, and whether it is used at all. */
GATE_LOOKUP(
	savings,
	"WITH objects AS (SELECT c.oid, c.relname, n.nspname FROM tenancy.tenant_schema s"
	"    JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
	"    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'"
	"   WHERE s.tenant_id = $1),"
	" stats AS (SELECT o.*, t.seq_scan, t.seq_tup_read, coalesce(t.idx_scan, 0) AS idx_scan,"
	"          t.n_live_tup, t.n_dead_tup, pg_catalog.pg_relation_size(o.oid) AS bytes"
	"   FROM objects o JOIN pg_catalog.pg_stat_all_tables t ON t.relid = o.oid),"
	" week AS (SELECT pg_catalog.sum(h.calls) AS calls, pg_catalog.sum(h.blocks_hit) AS hit,"
	"          pg_catalog.sum(h.blocks_read) AS read FROM tenancy.usage_hour h"
	"   WHERE h.tenant_id = $1 AND h.hour > $2 - interval '7 days')"
	" SELECT 'unused index', pg_catalog.format('%I.%I', o.nspname, x.indexrelname),"
	"        pg_catalog.jsonb_build_object('scans', x.idx_scan, 'bytes', b.bytes),"
	"        'drop it, if nothing but the statistics since they were reset speaks for it', b.bytes"
	"   FROM objects o JOIN pg_catalog.pg_stat_all_indexes x ON x.relid = o.oid"
	"   JOIN pg_catalog.pg_index i ON i.indexrelid = x.indexrelid,"
	"        LATERAL (SELECT pg_catalog.pg_relation_size(x.indexrelid) AS bytes) b"
	"  WHERE x.idx_scan = 0 AND NOT i.indisunique AND NOT i.indisexclusion AND b.bytes >= 1000000"
	" UNION ALL"
	" SELECT 'sequential scans', pg_catalog.format('%I.%I', s.nspname, s.relname),"
	"        pg_catalog.jsonb_build_object('scans', s.seq_scan, 'rows_read', s.seq_tup_read,"
	"            'index_scans', s.idx_scan, 'rows', s.n_live_tup),"
	"        'look for a missing index', NULL"
	"   FROM stats s WHERE s.n_live_tup >= 10000 AND s.seq_scan >= 100 AND s.seq_scan > s.idx_scan"
	"    AND s.seq_tup_read >= 50 * s.n_live_tup"
	" UNION ALL"
	" SELECT 'dead rows', pg_catalog.format('%I.%I', s.nspname, s.relname),"
	"        pg_catalog.jsonb_build_object('dead', s.n_dead_tup, 'live', s.n_live_tup, 'bytes', "
	"s.bytes),"
	"        'VACUUM it, and see what keeps autovacuum from doing so',"
	"        (s.bytes * (s.n_dead_tup / (s.n_dead_tup + s.n_live_tup)::numeric))::bigint"
	"   FROM stats s WHERE s.n_dead_tup >= 1000 AND s.n_dead_tup > 0.2 * s.n_live_tup"
	" UNION ALL"
	" SELECT 'cache misses', NULL, pg_catalog.jsonb_build_object('blocks_hit', w.hit,"
	"            'blocks_read', w.read),"
	"        'give the server more shared_buffers, or the queries better indexes', NULL"
	"   FROM week w WHERE w.read >= 100000 AND w.read > 0.1 * (w.read + w.hit)"
	" UNION ALL"
	" SELECT 'idle tenant', NULL, pg_catalog.jsonb_build_object('calls_in_7_days',"
	"            coalesce(w.calls, 0), 'storage_bytes', m.bytes),"
	"        'ask whether it is still wanted', m.bytes"
	"   FROM week w, tenancy.tenant t LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id"
	"  WHERE t.id = $1 AND t.created_at < $2 - interval '7 days' AND coalesce(w.calls, 0) = 0"
	" ORDER BY 5 DESC NULLS LAST, 1, 2",
	UUIDOID, TIMESTAMPTZOID);

/* resource_optimize(tenant regtenant) → TABLE(finding, object, numbers, recommendation, bytes) */
TENANCY_FUNCTION(resource_optimize)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));

	context_require_none("looking for savings");
	gate_return_rows(fcinfo, gate_run(&savings, EXPECT_ANY, gate_uuid(&tenant->id),
									  gate_timestamptz(clock_now())));
	return (Datum) 0;
}
