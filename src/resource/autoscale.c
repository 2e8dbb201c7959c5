/*
 * resource/autoscale.c
 *		Changing limits by what is used, within the range that an allocation allows.
 *
 * Every five minutes the tenants that have such a range are measured; a limit rises at once, to at
 * most twice what it was, and falls to what the highest measurement of the last quarter of an
 * hour wants.  Measurements are kept for an hour, decisions for ever.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "job/kind.h"
#include "resource/recommend.h"
#include "resource/resource.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

#define SECONDS_BETWEEN_RUNS 300
#define LARGEST_RISE 2    /* times what it was, */
#define LEAST_RISE 4      /* or so much more */
#define DEFAULT_TARGET 70 /* percent */

GATE_STATEMENT(
	resource_sample_take,
	"WITH old AS (DELETE FROM tenancy.resource_sample s WHERE s.sampled_at < $2 - interval '1 "
	"hour')"
	" INSERT INTO tenancy.resource_sample (tenant_id, sampled_at, cpu_us, storage_bytes)"
	" SELECT a.tenant_id, $2, coalesce(c.cpu_us, 0), m.bytes"
	"   FROM tenancy.allocation a"
	"   LEFT JOIN tenancy.tenant_stat_read() c ON c.tenant_id = a.tenant_id"
	"   LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = a.tenant_id"
	"  WHERE a.state = 'active' AND a.scaling <> '{}' AND ($1 IS NULL OR a.tenant_id = $1)"
	"  ORDER BY a.tenant_id"
	" ON CONFLICT (tenant_id, sampled_at) DO NOTHING",
	UUIDOID, TIMESTAMPTZOID);
/* What was used between two measurements; a counter that fell began anew with the server. */
GATE_STATEMENT(
	resource_pressure,
	"WITH steps AS (SELECT s.tenant_id, s.sampled_at, s.storage_bytes,"
	"      s.cpu_us - pg_catalog.lag(s.cpu_us) OVER w AS cpu_us, s.cpu_us AS cpu_total_us,"
	"      EXTRACT(epoch FROM s.sampled_at - pg_catalog.lag(s.sampled_at) OVER w) / 60 AS minutes"
	"    FROM tenancy.resource_sample s WHERE s.sampled_at <= $2"
	"     AND s.sampled_at >= $2 - interval '20 minutes'"
	"  WINDOW w AS (PARTITION BY s.tenant_id ORDER BY s.sampled_at)),"
	" used AS (SELECT s.tenant_id, 'cpu_seconds_per_minute' AS resource, s.sampled_at,"
	"      CASE WHEN s.cpu_us >= 0 THEN s.cpu_us ELSE s.cpu_total_us END / 1000000.0 / s.minutes"
	"        AS quantity FROM steps s WHERE s.minutes > 0"
	"  UNION ALL SELECT s.tenant_id, 'storage_gb', s.sampled_at, s.storage_bytes / 1000000000.0"
	"    FROM steps s WHERE s.storage_bytes IS NOT NULL),"
	" pressure AS (SELECT u.tenant_id, u.resource, pg_catalog.max(u.quantity) AS highest,"
	"      (pg_catalog.array_agg(u.quantity ORDER BY u.sampled_at DESC))[1] AS latest"
	"    FROM used u WHERE u.sampled_at > $2 - interval '15 minutes' GROUP BY 1, 2)"
	" SELECT a.tenant_id, t.slug, r.key, (a.limits ->> r.key)::numeric,"
	"        coalesce((a.requests ->> r.key)::numeric, 0), (r.value ->> 'min')::numeric,"
	"        (r.value ->> 'max')::numeric, coalesce((r.value ->> 'target_percent')::int, $3),"
	"        p.latest::float8, p.highest::float8"
	"   FROM tenancy.allocation a JOIN tenancy.tenant t ON t.id = a.tenant_id"
	"  CROSS JOIN LATERAL pg_catalog.jsonb_each(a.scaling) r"
	"   LEFT JOIN pressure p ON p.resource = r.key AND p.tenant_id = a.tenant_id"
	"  WHERE a.state = 'active' AND ($1 IS NULL OR a.tenant_id = $1) ORDER BY t.id, r.key",
	UUIDOID, TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(scaling_decision_insert,
			   "INSERT INTO tenancy.scaling_decision (tenant_id, resource, decided_at, from_limit,"
			   "    to_limit, used, target_percent, reason)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID, NUMERICOID, NUMERICOID, NUMERICOID, INT4OID,
			   TEXTOID);

typedef struct Decision
{
	pg_uuid_t tenant;
	char *slug;
	char *resource;
	Numeric limit; /* NULL: there is none to change */
	double request;
	double minimum;
	double maximum;
	int32 target_percent;
	bool is_measured;
	double latest;
	double highest;
	Numeric new_limit; /* NULL: it stays */
	char *reason;
} Decision;

static double
to_double(Numeric value)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value)));
}

static Numeric
to_numeric(double value)
{
	return DatumGetNumeric(DirectFunctionCall2(
		numeric_round, DirectFunctionCall1(float8_numeric, Float8GetDatum(value)),
		Int32GetDatum(3)));
}

static void
decide(Decision *decision)
{
	double limit;
	double up;
	double down;
	double wanted;

	if (decision->limit == NULL || !decision->is_measured)
	{
		decision->reason = decision->limit == NULL ? "it has no limit" : "it was not measured yet";
		return;
	}
	limit = to_double(decision->limit);
	up = recommend_scale(limit, 100 * decision->latest / limit, decision->target_percent);
	down = recommend_scale(limit, 100 * decision->highest / limit, decision->target_percent);
	wanted = up > limit ? Min(up, Max(limit * LARGEST_RISE, limit + LEAST_RISE)) : Min(down, limit);
	wanted = Min(Max(Max(wanted, decision->minimum), decision->request), decision->maximum);
	decision->reason =
		psprintf("%.3f of %.3f are used, at most %.3f in a quarter of an hour; "
				 "%d percent are wanted",
				 decision->latest, limit, decision->highest, decision->target_percent);
	if (wanted != limit)
		decision->new_limit = to_numeric(wanted);
}

static Decision *
decide_all(const pg_uuid_t *tenant, int *count)
{
	GateRows *rows = gate_run(&resource_pressure, EXPECT_ANY, gate_uuid(tenant),
							  gate_timestamptz(clock_now()), gate_int32(DEFAULT_TARGET));
	Decision *decisions = palloc0(sizeof(Decision) * Max(rows->count, 1));

	for (int64 i = 0; i < rows->count; i++)
	{
		Decision *decision = &decisions[i];

		decision->tenant = *row_uuid(rows, i, 0);
		decision->slug = row_text(rows, i, 1);
		decision->resource = row_text(rows, i, 2);
		decision->limit = row_numeric(rows, i, 3);
		decision->request = to_double(row_numeric(rows, i, 4));
		decision->minimum = to_double(row_numeric(rows, i, 5));
		decision->maximum = to_double(row_numeric(rows, i, 6));
		decision->target_percent = row_int32(rows, i, 7);
		decision->is_measured = !row_is_null(rows, i, 8);
		if (decision->is_measured)
		{
			decision->latest = DatumGetFloat8(row_datum(rows, i, 8));
			decision->highest = DatumGetFloat8(row_datum(rows, i, 9));
		}
		decide(decision);
	}
	*count = (int) rows->count;
	return decisions;
}

static void
apply(const Decision *decision)
{
	JsonBuilder limits;
	JsonBuilder changes;

	json_begin(&limits);
	json_put_numeric(&limits, decision->resource, decision->new_limit);
	json_begin(&changes);
	json_put_jsonb(&changes, "limits", json_end(&limits));
	(void) resource_change(&decision->tenant, json_end(&changes));
	gate_run(&scaling_decision_insert, EXPECT_ANY, gate_uuid(&decision->tenant),
			 gate_text(decision->resource), gate_timestamptz(clock_now()),
			 gate_numeric(decision->limit), gate_numeric(decision->new_limit),
			 gate_numeric(to_numeric(decision->latest)), gate_int32(decision->target_percent),
			 gate_text(decision->reason));
}

static Decision *
scale(const pg_uuid_t *tenant, bool is_dry, int *count)
{
	Decision *decisions;

	if (!is_dry)
		gate_run(&resource_sample_take, EXPECT_ANY, gate_uuid(tenant),
				 gate_timestamptz(clock_now()));
	decisions = decide_all(tenant, count);
	for (int i = 0; i < *count && !is_dry; i++)
		if (decisions[i].new_limit != NULL)
			apply(&decisions[i]);
	return decisions;
}

static void
put_decision(ReturnSetInfo *result, const Decision *decision, bool is_dry)
{
	bool is_change = decision->new_limit != NULL;
	bool nulls[8] = {false,
					 false,
					 false,
					 decision->limit == NULL,
					 !decision->is_measured,
					 decision->limit == NULL,
					 false,
					 false};
	Datum values[8] = {
		UUIDPGetDatum(&decision->tenant),
		CStringGetTextDatum(decision->slug),
		CStringGetTextDatum(decision->resource),
		nulls[3] ? 0 : NumericGetDatum(decision->limit),
		nulls[4] ? 0 : NumericGetDatum(to_numeric(decision->latest)),
		nulls[5] ? 0 : NumericGetDatum(is_change ? decision->new_limit : decision->limit),
		CStringGetTextDatum(!is_change ? "none"
							: is_dry   ? "would be changed"
									   : "changed"),
		CStringGetTextDatum(decision->reason),
	};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* resource_autoscale(tenant regtenant, dry_run boolean) → TABLE(…) */
TENANCY_FUNCTION(resource_autoscale)
{
	pg_uuid_t *tenant = optional_uuid(fcinfo, 0);
	Decision *decisions;
	int count;

	require_argument(fcinfo, 1, "dry_run");
	context_require_none("scaling resources");
	if (tenant != NULL)
		(void) registry_get(tenant);
	InitMaterializedSRF(fcinfo, 0);
	decisions = scale(tenant, PG_GETARG_BOOL(1), &count);
	for (int i = 0; i < count; i++)
		put_decision((ReturnSetInfo *) fcinfo->resultinfo, &decisions[i], PG_GETARG_BOOL(1));
	return (Datum) 0;
}

static char *
run(void)
{
	int count;
	Decision *decisions = scale(NULL, false, &count);
	int changed = 0;

	for (int i = 0; i < count; i++)
		changed += decisions[i].new_limit != NULL;
	return psprintf("{\"looked_at\": %d, \"changed\": %d}", count, changed);
}

static const JobKind autoscale_job = {
	.name = "limits.autoscale",
	.run = run,
	.every_seconds = SECONDS_BETWEEN_RUNS,
	.timeout_seconds = SECONDS_BETWEEN_RUNS,
	.description = "changes limits by what is used, where allocations allow it",
};

void
autoscale_init(void)
{
	job_kind_register(&autoscale_job);
}
