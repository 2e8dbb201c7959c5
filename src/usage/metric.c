/*
 * usage/metric.c
 *		Metrics: what can be reported, and how the quantities of a period become one.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/function.h"

GATE_STATEMENT(metric_insert,
			   "INSERT INTO tenancy.metric AS m (name, unit, aggregation, carries_over, source,"
			   "                                 description, property, shipped)"
			   " VALUES ($1, $2, $3, $4, 'event', $5, $6, false)"
			   " ON CONFLICT DO NOTHING RETURNING m",
			   TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, TEXTOID);

typedef struct Aggregation
{
	const char *name;
	bool is_level;     /* may carry over */
	bool has_property; /* counts the values of a member of the events' properties */
} Aggregation;

static const Aggregation aggregations[] = {
	{"count"}, {"latest", .is_level = true},     {"max", .is_level = true},
	{"sum"},   {"unique", .has_property = true}, {"weighted_sum", .is_level = true},
};

static const Aggregation *
find_aggregation(const char *name)
{
	for (int i = 0; i < lengthof(aggregations); i++)
	{
		if (strcmp(name, aggregations[i].name) == 0)
			return &aggregations[i];
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid aggregation \"%s\"", name),
			errhint("Possible: \"count\", \"latest\", \"max\", \"sum\", \"unique\", "
					"\"weighted_sum\"."));
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

/*
 * metric_create(name text, unit text, aggregation text, carries_over boolean,
 *     description text, property text) → tenancy.metric
 */
TENANCY_FUNCTION(metric_create)
{
	char *name = required_text(fcinfo, 0, "name");
	char *unit = required_text(fcinfo, 1, "unit");
	const Aggregation *aggregation = find_aggregation(required_text(fcinfo, 2, "aggregation"));
	char *property = optional_text(fcinfo, 5);
	GateRows *rows;

	require_argument(fcinfo, 3, "carries_over");
	check_name(name);
	if (PG_GETARG_BOOL(3) && !aggregation->is_level)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("aggregation \"%s\" cannot carry over", aggregation->name),
				errhint("Only a level does: \"latest\", \"max\" or \"weighted_sum\"."));
	if ((property != NULL && *property != '\0') != aggregation->has_property)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"property\" does not fit aggregation \"%s\"", aggregation->name),
				errhint("\"unique\" needs the member of the events' properties whose values "
						"are counted; the others take none."));

	rows = gate_run(&metric_insert, EXPECT_AT_MOST_ONE, gate_text(name), gate_text(unit),
					gate_text(aggregation->name), gate_argument(3),
					gate_text(optional_text(fcinfo, 4)), gate_text(property));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("metric \"%s\" already exists", name));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
