/*
 * usage/report.c
 *		What was used of each metric: of one tenant over time, or of many at once.
 */
#include "postgres.h"

#include "catalog/registry.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "core/money.h"
#include "usage/bucket.h"
#include "usage/quantity.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Columns of usage_report(). */
enum
{
	REPORT_METRIC,
	REPORT_BUCKET_START,
	REPORT_QUANTITY,
	REPORT_UNIT,
	REPORT_GROUPS,
	REPORT_COLUMNS
};

/* The first of the properties that the metric is not grouped by; NULL for none. */
static char *
find_missing_group(const Metric *metric, ArrayType *group_by)
{
	Datum *wanted;
	Datum *known;
	bool *nulls;
	int wanted_count;
	int known_count;

	deconstruct_array(group_by, TEXTOID, -1, false, TYPALIGN_INT, &wanted, &nulls, &wanted_count);
	deconstruct_array(metric->group_by, TEXTOID, -1, false, TYPALIGN_INT, &known, NULL,
					  &known_count);
	for (int i = 0; i < wanted_count; i++)
	{
		int j = 0;

		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"group_by\" must not contain nulls"));
		while (j < known_count &&
			   strcmp(TextDatumGetCString(wanted[i]), TextDatumGetCString(known[j])) != 0)
			j++;
		if (j == known_count)
			return TextDatumGetCString(wanted[i]);
	}
	return NULL;
}

/* The metrics that the report is about: the one that is named, else all that fit. */
static List *
choose_metrics(const MetricList *list, const char *name, ArrayType *group_by)
{
	List *chosen = NIL;

	if (name != NULL)
	{
		const Metric *metric = metric_find(list, name);
		char *missing;

		if (metric == NULL)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("metric \"%s\" does not exist", name));
		missing = group_by == NULL ? NULL : find_missing_group(metric, group_by);
		if (missing != NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("metric \"%s\" is not grouped by \"%s\"", name, missing),
					errhint("What it is grouped by is said once, to metric_create()."));
		return list_make1((void *) metric);
	}
	for (int i = 0; i < list->count; i++)
	{
		const Metric *metric = &list->metrics[i];

		if (group_by == NULL || find_missing_group(metric, group_by) == NULL)
			chosen = lappend(chosen, (void *) metric);
	}
	return chosen;
}

static int
compare_answers(const void *a, const void *b)
{
	const UsageAnswer *one = a;
	const UsageAnswer *other = b;

	if (one->question != other->question)
		return one->question < other->question ? -1 : 1;
	return one->groups == NULL ? 0
							   : compareJsonbContainers(&one->groups->root, &other->groups->root);
}

static ArrayType *
read_group_by(FunctionCallInfo fcinfo, int n)
{
	ArrayType *group_by = PG_ARGISNULL(n) ? NULL : PG_GETARG_ARRAYTYPE_P(n);

	if (group_by == NULL || ArrayGetNItems(ARR_NDIM(group_by), ARR_DIMS(group_by)) == 0)
		return NULL;
	if (ARR_NDIM(group_by) > 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"group_by\" must have one dimension"));
	return group_by;
}

/*
 * usage_report(tenant regtenant, from_time timestamptz, to_time timestamptz, metric text,
 *     bucket interval, time_zone text, group_by text[])
 *     → TABLE(metric_name, bucket_start, quantity, unit, groups)
 */
TENANCY_FUNCTION(usage_report)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	TimestampTz from_time = required_timestamptz(fcinfo, 1, "from_time");
	TimestampTz to_time = required_timestamptz(fcinfo, 2, "to_time");
	char *name = optional_text(fcinfo, 3);
	Interval *length = PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4);
	ArrayType *group_by = read_group_by(fcinfo, 6);
	Buckets *buckets;
	UsageQuestion *questions;
	UsageAnswer *answers;
	List *metrics;
	ListCell *cell;
	int count = 0;
	int answer_count;

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (from_time >= to_time)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_time\" must be before \"to_time\""));
	metrics = choose_metrics(metric_list(), name, group_by);
	buckets = buckets_cut(from_time, to_time, length, optional_text(fcinfo, 5));

	questions = palloc(sizeof(UsageQuestion) * Max(list_length(metrics) * buckets->count, 1));
	foreach (cell, metrics)
	{
		for (int i = 0; i < buckets->count; i++)
			questions[count++] = (UsageQuestion){.tenant = *tenant,
												 .span = {.metric = lfirst(cell),
														  .from_time = buckets->starts[i],
														  .to_time = buckets->starts[i + 1]}};
	}
	answers = usage_answer(questions, count, group_by, &answer_count);
	qsort(answers, answer_count, sizeof(UsageAnswer), compare_answers);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < answer_count; i++)
	{
		const UsageSpan *span = &questions[answers[i].question].span;
		Datum values[REPORT_COLUMNS];
		bool nulls[REPORT_COLUMNS] = {[REPORT_GROUPS] = answers[i].groups == NULL};

		/* A metric without any use is left out unless asked for. */
		if (name == NULL && numeric_is_zero(answers[i].quantity))
			continue;
		values[REPORT_METRIC] = CStringGetTextDatum(span->metric->name);
		values[REPORT_BUCKET_START] = TimestampTzGetDatum(span->from_time);
		values[REPORT_QUANTITY] = NumericGetDatum(answers[i].quantity);
		values[REPORT_UNIT] = CStringGetTextDatum(span->metric->unit);
		values[REPORT_GROUPS] = JsonbPGetDatum(answers[i].groups);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* tenancy.usage_quantity(tenant_id uuid, metric text, from_time timestamptz,
 *     to_time timestamptz) → numeric */
TENANCY_FUNCTION(usage_quantity)
{
	UsageQuestion question = {
		.tenant = *PG_GETARG_UUID_P(0),
		.span = {.metric = metric_find(metric_list(), text_to_cstring(PG_GETARG_TEXT_PP(1))),
				 .from_time = PG_GETARG_TIMESTAMPTZ(2),
				 .to_time = PG_GETARG_TIMESTAMPTZ(3)}};
	int count;

	if (question.span.metric == NULL)
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(usage_answer(&question, 1, NULL, &count)->quantity);
}

/* A list without nulls, as long as the others. */
static Datum *
read_list(FunctionCallInfo fcinfo, int n, const char *name, Oid type, int *count)
{
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	int16 length;
	bool by_value;
	char align;
	int found;

	require_argument(fcinfo, n, name);
	array = PG_GETARG_ARRAYTYPE_P(n);
	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &elements, &nulls, &found);
	if (*count >= 0 && found != *count)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" has %d elements, not %d", name, found, *count));
	for (int i = 0; i < found; i++)
		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not contain nulls", name));
	*count = found;
	return elements;
}

/* The metric of a name, which as a rule is that of the question before. */
static const Metric *
find_again(const MetricList *list, const Metric *last, text *name)
{
	Size length = VARSIZE_ANY_EXHDR(name);

	if (last != NULL && strlen(last->name) == length &&
		memcmp(last->name, VARDATA_ANY(name), length) == 0)
		return last;
	return metric_find(list, text_to_cstring(name));
}

/*
 * tenancy.usage_quantities(tenant_ids uuid[], metrics text[], from_times timestamptz[],
 *     to_times timestamptz[]) → TABLE(ordinal, quantity)
 */
TENANCY_FUNCTION(usage_quantities)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int count = -1;
	Datum *tenants = read_list(fcinfo, 0, "tenant_ids", UUIDOID, &count);
	Datum *names = read_list(fcinfo, 1, "metrics", TEXTOID, &count);
	Datum *from_times = read_list(fcinfo, 2, "from_times", TIMESTAMPTZOID, &count);
	Datum *to_times = read_list(fcinfo, 3, "to_times", TIMESTAMPTZOID, &count);
	UsageQuestion *questions =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(UsageQuestion) * Max(count, 1));
	const MetricList *list = metric_list();
	const Metric *metric = NULL;
	UsageAnswer *answers;
	int answer_count;

	for (int i = 0; i < count; i++)
	{
		metric = find_again(list, metric, DatumGetTextPP(names[i]));
		questions[i] = (UsageQuestion){.tenant = *DatumGetUUIDP(tenants[i]),
									   .span = {.metric = metric,
												.from_time = DatumGetTimestampTz(from_times[i]),
												.to_time = DatumGetTimestampTz(to_times[i])}};
	}
	answers = usage_answer(questions, count, NULL, &answer_count);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < answer_count; i++)
	{
		Datum values[] = {Int32GetDatum(i + 1), NumericGetDatum(answers[i].quantity)};
		bool nulls[] = {false, answers[i].quantity == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
