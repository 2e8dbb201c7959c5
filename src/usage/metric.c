/*
 * usage/metric.c
 *		Metrics: what can be reported, and how the quantities of a period become one.
 *
 * A metric either takes events of its own or counts those of another metric, or it is measured
 * by the server.  What it is never changes: what was rolled up stays true.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/function.h"
#include "usage/filter.h"
#include "usage/metric.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MOST_GROUPS 8

#define METRICS                                                                                    \
	"SELECT m.name, m.unit, m.aggregation, m.carries_over, m.event, m.property, m.filters,"        \
	"       m.group_by, coalesce(f.rolled_from, '-infinity'),"                                     \
	"       coalesce(f.rolled_until, '-infinity'),"                                                \
	"       coalesce(a.rolls_until, f.rolled_until, '-infinity')"                                  \
	"  FROM tenancy.metric m LEFT JOIN tenancy.usage_frontier f ON f.metric = m.name"              \
	"  LEFT JOIN tenancy.usage_announcement a ON a.metric = m.name"                                \
	" ORDER BY m.name COLLATE \"C\""
GATE_LOOKUP(metrics, METRICS);
GATE_LATEST(metrics_latest, METRICS);
GATE_STATEMENT(metric_insert,
			   "INSERT INTO tenancy.metric AS m (name, unit, aggregation, carries_over, source,"
			   "    description, property, event, filters, group_by, shipped)"
			   " VALUES ($1, $2, $3, $4, 'event', $5, $6, $7, $8, $9, false)"
			   " ON CONFLICT DO NOTHING RETURNING m",
			   TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID,
			   TEXTARRAYOID);

static const struct
{
	const char *name;
	bool is_level;     /* may carry over */
	bool has_property; /* counts the values of a member of the events' properties */
} aggregations[AGGREGATIONS] = {
	[AGGREGATION_AVG] = {"avg"},
	[AGGREGATION_COUNT] = {"count"},
	[AGGREGATION_LATEST] = {"latest", .is_level = true},
	[AGGREGATION_MAX] = {"max", .is_level = true},
	[AGGREGATION_MIN] = {"min", .is_level = true},
	[AGGREGATION_SUM] = {"sum"},
	[AGGREGATION_UNIQUE] = {"unique", .has_property = true},
	[AGGREGATION_WEIGHTED_SUM] = {"weighted_sum", .is_level = true},
};

const char *
aggregation_name(Aggregation aggregation)
{
	return aggregations[aggregation].name;
}

static Aggregation
find_aggregation(const char *name)
{
	for (int i = 0; i < AGGREGATIONS; i++)
	{
		if (strcmp(name, aggregations[i].name) == 0)
			return i;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid aggregation \"%s\"", name),
			errhint("Possible: \"avg\", \"count\", \"latest\", \"max\", \"min\", \"sum\", "
					"\"unique\", \"weighted_sum\"."));
}

/* In the current memory context. */
static void
read_metrics(const GateRows *rows, MetricList *list)
{
	list->count = rows->count;
	list->metrics = palloc0(sizeof(Metric) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		Jsonb *filters = row_jsonb(rows, i, 6);

		list->metrics[i] = (Metric){
			.name = row_text(rows, i, 0),
			.unit = row_text(rows, i, 1),
			.aggregation = find_aggregation(row_text(rows, i, 2)),
			.carries_over = row_bool(rows, i, 3),
			.event = row_text(rows, i, 4),
			.property = row_text(rows, i, 5),
			.filters = filters == NULL ? NULL : DatumGetJsonbPCopy(JsonbPGetDatum(filters)),
			.group_by = DatumGetArrayTypePCopy(row_datum(rows, i, 7)),
			.rolled_from = row_timestamptz(rows, i, 8),
			.rolled_until = row_timestamptz(rows, i, 9),
			.late_before = row_timestamptz(rows, i, 10),
		};
	}
}

MetricList *
metric_list(void)
{
	MetricList *list = palloc(sizeof(MetricList));

	read_metrics(gate_run_array(&metrics, EXPECT_ANY, NULL, 0), list);
	return list;
}

const Metric *
metric_find(const MetricList *list, const char *name)
{
	int low = 0;
	int high = list->count;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order = strcmp(name, list->metrics[middle].name);

		if (order == 0)
			return &list->metrics[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

bool
metric_is_measured(const Metric *metric)
{
	return metric->event == NULL || strcmp(metric->name, "storage") == 0;
}

static struct
{
	MemoryContext memory;
	uint64 generation;
	MetricList list;
} known;

const MetricList *
metric_list_latest(void)
{
	uint64 generation = registry_generation();
	GateRows *rows;
	MemoryContext old;

	if (likely(known.memory != NULL && known.generation == generation))
		return &known.list;
	rows = gate_run_array(&metrics_latest, EXPECT_ANY, NULL, 0);
	if (known.memory == NULL)
		known.memory =
			AllocSetContextCreate(TopMemoryContext, "pg_tenancy metrics", ALLOCSET_SMALL_SIZES);
	known.list.count = 0;
	MemoryContextReset(known.memory);
	old = MemoryContextSwitchTo(known.memory);
	read_metrics(rows, &known.list);
	MemoryContextSwitchTo(old);
	known.generation = generation;
	return &known.list;
}

const Metric *
metric_require_events(const char *name)
{
	const Metric *metric = metric_find(metric_list_latest(), name);

	if (metric == NULL || metric->event == NULL || strcmp(metric->event, name) != 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist, or takes no events", name),
				errhint("metric_create() makes one."));
	return metric;
}

static void
check_name(const char *name)
{
	if (*name == '\0' || strlen(name) >= NAMEDATALEN ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen(name))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid name \"%s\" for a metric", name),
				errhint("It has 1 to 63 lower-case letters, digits, underscores and dots."));
}

static void
check_aggregation(Aggregation aggregation, bool carries_over, const char *property)
{
	if (carries_over && !aggregations[aggregation].is_level)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("aggregation \"%s\" cannot carry over", aggregation_name(aggregation)),
				errhint("Only a level does: \"latest\", \"max\", \"min\" or \"weighted_sum\"."));
	if ((property != NULL && *property != '\0') != aggregations[aggregation].has_property)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"property\" does not fit aggregation \"%s\"",
					   aggregation_name(aggregation)),
				errhint("\"unique\" needs the member of the events' properties whose values "
						"are counted; the others take none."));
}

static ArrayType *
read_groups(FunctionCallInfo fcinfo, int n)
{
	ArrayType *groups;
	Datum *names;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(n))
		return construct_empty_array(TEXTOID);
	groups = PG_GETARG_ARRAYTYPE_P(n);
	deconstruct_array(groups, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
	if (ARR_NDIM(groups) > 1 || count > MOST_GROUPS)
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("argument \"group_by\" must be a list of at most %d properties", MOST_GROUPS));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] || VARSIZE_ANY_EXHDR(DatumGetTextPP(names[i])) == 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"group_by[%d]\" must be the name of a property", i + 1));
		for (int j = 0; j < i; j++)
			if (strcmp(TextDatumGetCString(names[i]), TextDatumGetCString(names[j])) == 0)
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"group_by\" names \"%s\" twice",
							   TextDatumGetCString(names[i])));
	}
	return count == 0 ? construct_empty_array(TEXTOID) : groups;
}

/*
 * metric_create(name text, unit text, aggregation text, carries_over boolean,
 *     description text, property text, filters jsonb, group_by text[], event text)
 *     → tenancy.metric
 */
TENANCY_FUNCTION(metric_create)
{
	char *name = required_text(fcinfo, 0, "name");
	char *unit = required_text(fcinfo, 1, "unit");
	Aggregation aggregation = find_aggregation(required_text(fcinfo, 2, "aggregation"));
	char *property = optional_text(fcinfo, 5);
	Jsonb *filters = optional_jsonb(fcinfo, 6);
	ArrayType *groups = read_groups(fcinfo, 7);
	char *event = optional_text(fcinfo, 8);
	GateRows *rows;

	require_argument(fcinfo, 3, "carries_over");
	check_name(name);
	check_aggregation(aggregation, PG_GETARG_BOOL(3), property);
	if (filters != NULL)
		filter_validate(filters);
	if (event != NULL && strcmp(event, name) != 0)
		(void) metric_require_events(event);

	rows = gate_run(&metric_insert, EXPECT_AT_MOST_ONE, gate_text(name), gate_text(unit),
					gate_text(aggregation_name(aggregation)), gate_argument(3),
					gate_text(optional_text(fcinfo, 4)), gate_text(property),
					gate_text(event != NULL ? event : name), gate_jsonb(filters),
					gate_datum(PointerGetDatum(groups)));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("metric \"%s\" already exists", name));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
