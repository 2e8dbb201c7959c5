/*
 * limit/quota_api.c
 *		The SQL functions of quotas: asking, setting, showing.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "limit/quota.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

GATE_LOOKUP(quota_metric, "SELECT m.aggregation FROM tenancy.metric m WHERE m.name = $1", TEXTOID);
GATE_STATEMENT(quota_upsert,
			   "INSERT INTO tenancy.quota AS q"
			   "    (tenant_id, metric, soft, hard, refuses_events, changed_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, metric)"
			   " DO UPDATE SET soft = excluded.soft, hard = excluded.hard,"
			   "    refuses_events = excluded.refuses_events, changed_at = excluded.changed_at"
			   " RETURNING q",
			   UUIDOID, TEXTOID, NUMERICOID, NUMERICOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(quota_limit_upsert,
			   "INSERT INTO tenancy.quota_limit AS k (limit_key, metric, refuses_events, shipped)"
			   " VALUES ($1, $2, $3, false) ON CONFLICT (limit_key, shipped)"
			   " DO UPDATE SET metric = excluded.metric, refuses_events = excluded.refuses_events"
			   " RETURNING k",
			   TEXTOID, TEXTOID, BOOLOID);
GATE_STATEMENT(
	quota_remove,
	"DELETE FROM tenancy.quota AS q WHERE q.tenant_id = $1 AND q.metric = $2 RETURNING q", UUIDOID,
	TEXTOID);

/* Columns of tenancy.quota_result. */
enum
{
	RESULT_ALLOWED,
	RESULT_RESOURCE,
	RESULT_USED,
	RESULT_SOFT,
	RESULT_HARD,
	RESULT_REMAINING,
	RESULT_PERCENT,
	RESULT_RESETS_AT,
	RESULT_REASON,
	RESULT_LIMIT,
	RESULT_COLUMNS
};

static const char *
explain(const Quota *quota, const QuotaUse *use, int64 amount, bool is_allowed)
{
	if (!is_allowed)
		return psprintf("%s of %s are used, and %s more would pass the limit of %s",
						quota_to_text(use->used), quota_to_text(quota->hard), quota_to_text(amount),
						quota->source);
	if (quota->soft != QUOTA_NONE && quota_plus(use->used, amount) > quota->soft)
		return psprintf("more than the %s that are included by %s", quota_to_text(quota->soft),
						quota->source);
	if (quota->hard == QUOTA_NONE && quota->soft == QUOTA_NONE)
		return psprintf("unlimited by %s", quota->source);
	return psprintf("within the %s of %s",
					quota_to_text(quota->hard != QUOTA_NONE ? quota->hard : quota->soft),
					quota->source);
}

static Datum
make_result(FunctionCallInfo fcinfo, const char *resource, const Quota *quota, const QuotaUse *use,
			int64 amount)
{
	bool has_hard = quota != NULL && quota->hard != QUOTA_NONE;
	bool has_soft = quota != NULL && quota->soft != QUOTA_NONE;
	bool is_allowed = !has_hard || quota_plus(use->used, amount) <= quota->hard;
	const char *reason =
		quota == NULL ? "unlimited: nothing limits it" : explain(quota, use, amount, is_allowed);
	int64 limit = has_hard ? quota->hard : has_soft ? quota->soft : 0;
	Datum values[RESULT_COLUMNS] = {
		[RESULT_ALLOWED] = BoolGetDatum(is_allowed),
		[RESULT_RESOURCE] = CStringGetTextDatum(resource),
		[RESULT_USED] = quota_to_numeric(use->used),
		[RESULT_SOFT] = has_soft ? quota_to_numeric(quota->soft) : 0,
		[RESULT_HARD] = has_hard ? quota_to_numeric(quota->hard) : 0,
		[RESULT_REMAINING] = has_hard ? quota_to_numeric(Max(quota->hard - use->used, 0)) : 0,
		[RESULT_RESETS_AT] = TimestampTzGetDatum(use->resets_at),
		[RESULT_REASON] = CStringGetTextDatum(reason),
		[RESULT_LIMIT] = quota_to_numeric(has_hard || has_soft ? limit : -QUOTA_UNIT),
	};
	bool nulls[RESULT_COLUMNS] = {
		[RESULT_SOFT] = !has_soft,
		[RESULT_HARD] = !has_hard,
		[RESULT_REMAINING] = !has_hard,
		[RESULT_PERCENT] = limit <= 0,
		[RESULT_RESETS_AT] = TIMESTAMP_NOT_FINITE(use->resets_at),
	};
	TupleDesc desc;

	if (limit > 0)
		values[RESULT_PERCENT] = DirectFunctionCall2(
			numeric_round,
			DirectFunctionCall2(numeric_div,
								DirectFunctionCall2(numeric_mul,
													NumericGetDatum(int64_to_numeric(use->used)),
													NumericGetDatum(int64_to_numeric(100))),
								NumericGetDatum(int64_to_numeric(limit))),
			Int32GetDatum(2));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static char *
metric_aggregation(const char *metric)
{
	GateRows *rows = gate_run(&quota_metric, EXPECT_AT_MOST_ONE, gate_text(metric));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", metric),
				errhint("A quota is one of a metric: see tenancy.metric."));
	return row_text(rows, 0, 0);
}

static bool
metric_is_level(const char *metric)
{
	char *aggregation = metric_aggregation(metric);

	return strcmp(aggregation, "max") == 0 || strcmp(aggregation, "latest") == 0;
}

/* What an event adds must be known without those before it. */
static void
require_refusable(const char *metric)
{
	char *aggregation = metric_aggregation(metric);

	if (strcmp(aggregation, "unique") == 0 || strcmp(aggregation, "weighted_sum") == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("events of metric \"%s\" cannot be refused", metric),
				errdetail("Its aggregation is \"%s\".", aggregation));
}

/* quota_check(tenant regtenant, resource text, amount numeric) → tenancy.quota_result */
TENANCY_FUNCTION(quota_check)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	Numeric amount = required_numeric(fcinfo, 2, "amount");
	const Quota *quota;
	QuotaUse use;

	tenant_require_visible(tenant);
	quota = quota_find(tenant, resource);
	use = quota_measure(tenant, resource,
						quota != NULL ? quota->is_level : metric_is_level(resource));
	/* What was read has perhaps emptied the cache. */
	quota = quota_find(tenant, resource);
	PG_RETURN_DATUM(make_result(fcinfo, resource, quota, &use, quota_from_numeric(amount)));
}

static Numeric
optional_limit(FunctionCallInfo fcinfo, int n, const char *name)
{
	Numeric limit = PG_ARGISNULL(n) ? NULL : required_numeric(fcinfo, n, name);

	/* The plans' word for no limit. */
	if (limit != NULL && quota_from_numeric(limit) == -QUOTA_UNIT)
		return NULL;
	if (limit != NULL && quota_from_numeric(limit) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must not be negative", name), errhint("-1 is no limit."));
	if (limit != NULL && quota_from_numeric(limit) > QUOTA_LARGEST_LIMIT)
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("argument \"%s\" must be at most %s", name, quota_to_text(QUOTA_LARGEST_LIMIT)),
			errhint("-1 is no limit. Count in a larger unit."));
	return limit;
}

/*
 * quota_set(tenant regtenant, resource text, soft numeric, hard numeric, refuses_events boolean)
 *     → tenancy.quota
 */
TENANCY_FUNCTION(quota_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	Numeric soft = optional_limit(fcinfo, 2, "soft");
	Numeric hard = optional_limit(fcinfo, 3, "hard");
	QuotaKey key;

	require_argument(fcinfo, 4, "refuses_events");
	context_require_none("setting a quota");
	(void) registry_get(tenant);
	(void) metric_aggregation(resource);
	if (PG_GETARG_BOOL(4))
		require_refusable(resource);
	if (soft != NULL && hard != NULL && quota_from_numeric(soft) > quota_from_numeric(hard))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the soft limit must not be above the hard one"));
	/* The next look compares what is used with the new limit. */
	quota_make_key(&key, tenant, resource);
	quota_note_changed(&key);
	PG_RETURN_DATUM(row_datum(gate_run(&quota_upsert, EXPECT_ONE, gate_uuid(tenant),
									   gate_text(resource), gate_numeric(soft), gate_numeric(hard),
									   gate_argument(4), gate_timestamptz(clock_now())),
							  0, 0));
}

/* quota_limit_set(limit_key text, metric text, refuses_events boolean) → tenancy.quota_limit */
TENANCY_FUNCTION(quota_limit_set)
{
	char *limit_key = required_text(fcinfo, 0, "limit_key");
	char *metric = required_text(fcinfo, 1, "metric");

	require_argument(fcinfo, 2, "refuses_events");
	context_require_none("naming a limit of plans");
	(void) metric_aggregation(metric);
	if (PG_GETARG_BOOL(2))
		require_refusable(metric);
	if (*limit_key == '\0' || strlen(limit_key) > 63)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"limit_key\" must have 1 to 63 bytes"));
	PG_RETURN_DATUM(row_datum(gate_run(&quota_limit_upsert, EXPECT_ONE, gate_text(limit_key),
									   gate_text(metric), gate_argument(2)),
							  0, 0));
}

/* quota_reset(tenant regtenant, resource text) → tenancy.quota */
TENANCY_FUNCTION(quota_reset)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	GateRows *rows;

	context_require_none("resetting a quota");
	(void) registry_get(tenant);
	rows = gate_run(&quota_remove, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(resource));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" has no quota \"%s\" of its own", registry_slug(tenant),
					   resource));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

static NullableDatum
optional_number(int64 value)
{
	return value == QUOTA_NONE ? gate_null() : gate_datum(quota_to_numeric(value));
}

/* tenancy.quota_read(tenant uuid) → TABLE(resource, used, soft, hard, source, resets_at) */
TENANCY_FUNCTION(quota_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	int count;

	tenant_require_visible(tenant);
	InitMaterializedSRF(fcinfo, 0);
	count = quota_list(tenant)->count;
	for (int i = 0; i < count && i < quota_list(tenant)->count; i++)
	{
		Quota quota = quota_list(tenant)->quotas[i];
		char *metric = pstrdup(quota.metric);
		char *source = pstrdup(quota.source);
		QuotaUse use = quota_measure(tenant, metric, quota.is_level);
		NullableDatum soft = optional_number(quota.soft);
		NullableDatum hard = optional_number(quota.hard);
		Datum values[6] = {
			CStringGetTextDatum(metric), quota_to_numeric(use.used),         soft.value, hard.value,
			CStringGetTextDatum(source), TimestampTzGetDatum(use.resets_at),
		};
		bool nulls[6] = {false,       false, soft.isnull,
						 hard.isnull, false, TIMESTAMP_NOT_FINITE(use.resets_at)};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
