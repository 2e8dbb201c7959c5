/*
 * usage/read.c
 *		Reading the ranges that questions were cut into, those of all questions by one statement
 *		each.
 *
 * A few ranges are looked up one by one by index; many that cover a good part of what happened
 * in their time are answered by reading all of that time once.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "usage/prune.h"
#include "usage/run.h"
#include "usage/store.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "pgtime.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Of tenant_id, metric and time, for the ranges in $1 to $5. */
#define RANGES "unnest($1, $2, $3, $4, $5) AS q(ordinal, tenant_id, metric, starts, ends)"
#define RANGE_TYPES                                                                                \
	INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID
/*
 * One range after the other, each by index: joined, all ranges of a tenant and metric would meet
 * all that the tenant has of it.
 */
#define EACH(query, name) " CROSS JOIN LATERAL (" query " OFFSET 0) " name
/* Months may go over the end of the year. */
#define MONTHS(first, last, also_first, also_last)                                                 \
	"(e.month_of_year BETWEEN " first " AND " last " OR e.month_of_year BETWEEN " also_first       \
	" AND " also_last ")"

#define EVENT_COLUMNS "e.occurred_at, e.recorded_at, e.quantity, e.properties"
GATE_LOOKUP(
	events_of_ranges,
	"SELECT q.ordinal, e.* FROM " RANGES EACH(
		"SELECT " EVENT_COLUMNS
		"  FROM tenancy.usage_event e WHERE e.tenant_id = q.tenant_id AND e.metric = q.metric"
		"   AND e.occurred_at >= q.starts AND e.occurred_at < q.ends"
		"   AND e.cancelled_at IS NULL AND " MONTHS("$6", "$7", "$8", "$9"),
		"e"),
	RANGE_TYPES, INT2OID, INT2OID, INT2OID, INT2OID);
GATE_SCAN(events_of_time,
		  "SELECT e.tenant_id, e.metric, " EVENT_COLUMNS "  FROM tenancy.usage_event e"
		  " WHERE e.cancelled_at IS NULL AND e.occurred_at >= $1 AND e.occurred_at < $2"
		  "   AND " MONTHS("$3", "$4", "$5", "$6"),
		  TIMESTAMPTZOID, TIMESTAMPTZOID, INT2OID, INT2OID, INT2OID, INT2OID);

#define CELL_COLUMNS                                                                               \
	"r.hour, r.group_values, r.value, r.count, r.sum, r.min, r.max, r.moment, r.latest,"           \
	" r.latest_at, r.latest_recorded_at"
GATE_LOOKUP(
	cells_of_ranges,
	"SELECT q.ordinal, c.* FROM " RANGES EACH(
		"SELECT " CELL_COLUMNS
		"  FROM tenancy.usage_rollup r WHERE r.tenant_id = q.tenant_id AND r.metric = q.metric"
		"   AND r.hour >= q.starts AND r.hour < q.ends",
		"c"),
	RANGE_TYPES);
GATE_SCAN(cells_of_time,
		  "SELECT r.tenant_id, r.metric, " CELL_COLUMNS "  FROM tenancy.usage_rollup r"
		  " WHERE r.hour >= $1 AND r.hour < $2",
		  TIMESTAMPTZOID, TIMESTAMPTZOID);

GATE_LOOKUP(hours_of_ranges,
			"SELECT q.ordinal, u.* FROM " RANGES EACH(
				"SELECT u.hour, u.quantity"
				"  FROM tenancy.usage_measurement u WHERE u.tenant_id = q.tenant_id"
				"   AND u.metric = q.metric AND u.hour >= q.starts AND u.hour < q.ends",
				"u"),
			RANGE_TYPES);

/* The last point of each range, from the end of the index. */
#define LAST_OF_RANGES(columns, source, order)                                                     \
	"SELECT q.ordinal, l.* FROM unnest($1, $2, $3, $4, $5, $6)"                                    \
	"    AS q(ordinal, tenant_id, metric, starts, ends, filters)"                                  \
	" CROSS JOIN LATERAL (SELECT " columns " FROM " source " ORDER BY " order " LIMIT 1) l"
GATE_LOOKUP(
	last_events,
	LAST_OF_RANGES("e.occurred_at, e.recorded_at, e.quantity",
				   "tenancy.usage_event e WHERE e.tenant_id = q.tenant_id"
				   "  AND e.metric = q.metric AND e.occurred_at >= q.starts"
				   "  AND e.occurred_at < q.ends AND e.cancelled_at IS NULL"
				   "  AND " MONTHS("$7", "$8", "$9",
								   "$10") "  AND (q.filters IS NULL OR"
										  "       tenancy.usage_matches(e.properties, q.filters))",
				   "e.occurred_at DESC, e.recorded_at DESC, e.quantity DESC"),
	RANGE_TYPES, JSONBARRAYOID, INT2OID, INT2OID, INT2OID, INT2OID);
GATE_LOOKUP(last_cells,
			LAST_OF_RANGES("r.latest_at, r.latest_recorded_at, r.latest",
						   "tenancy.usage_rollup r WHERE r.tenant_id = q.tenant_id"
						   "  AND r.metric = q.metric AND r.hour >= q.starts AND r.hour < q.ends",
						   "r.hour DESC, r.latest_at DESC, r.latest_recorded_at DESC,"
						   " r.latest DESC"),
			RANGE_TYPES, JSONBARRAYOID);
GATE_LOOKUP(last_hours,
			LAST_OF_RANGES("u.hour, u.hour, u.quantity",
						   "tenancy.usage_measurement u WHERE u.tenant_id = q.tenant_id"
						   "  AND u.metric = q.metric AND u.hour >= q.starts AND u.hour < q.ends",
						   "u.hour DESC"),
			RANGE_TYPES, JSONBARRAYOID);

/* Fewer ranges than this are looked up whatever there is. */
#define MANY_RANGES 10000
/* Looking a range up costs about as much as reading so many rows in their order. */
#define ROWS_PER_LOOKUP 8
#define ROWS_PER_BLOCK 50

/* The memory of one row. */
static MemoryContext
begin_row(const Run *run)
{
	return MemoryContextSwitchTo(run->scratch);
}

static void
end_row(const Run *run, MemoryContext old)
{
	MemoryContextSwitchTo(old);
	MemoryContextReset(run->scratch);
}

/* A column, from 1. */
static Datum
column(TupleTableSlot *slot, int number)
{
	bool is_null;
	Datum value = slot_getattr(slot, number, &is_null);

	if (is_null)
		elog(ERROR, "column %d is null", number);
	return value;
}

static Numeric
numeric_column(TupleTableSlot *slot, int number)
{
	bool is_null;
	Datum value = slot_getattr(slot, number, &is_null);

	return is_null ? NULL : DatumGetNumeric(value);
}

/* From this column on: occurred_at, recorded_at, quantity. */
static UsagePoint
read_point(TupleTableSlot *slot, int first)
{
	return (UsagePoint){.at = DatumGetTimestampTz(column(slot, first)),
						.recorded_at = DatumGetTimestampTz(column(slot, first + 1)),
						.quantity = numeric_column(slot, first + 2)};
}

/* From this column on, those of CELL_COLUMNS. */
static void
read_cell(Run *run, int question, TupleTableSlot *slot, int first)
{
	UsageCell cell = {.hour = DatumGetTimestampTz(column(slot, first)),
					  .count = DatumGetInt64(column(slot, first + 3)),
					  .sum = numeric_column(slot, first + 4),
					  .min = numeric_column(slot, first + 5),
					  .max = numeric_column(slot, first + 6),
					  .moment = numeric_column(slot, first + 7),
					  .latest = {.quantity = numeric_column(slot, first + 8)}};
	bool has_no_value;
	Datum value = slot_getattr(slot, first + 2, &has_no_value);

	if (cell.latest.quantity != NULL)
	{
		cell.latest.at = DatumGetTimestampTz(column(slot, first + 9));
		cell.latest.recorded_at = DatumGetTimestampTz(column(slot, first + 10));
	}
	add_cell(run, question, &cell, has_no_value ? NULL : TextDatumGetCString(value),
			 DatumGetArrayTypeP(column(slot, first + 1)));
}

static void
receive_event(TupleTableSlot *slot, void *state)
{
	Run *run = state;
	MemoryContext old = begin_row(run);
	UsagePoint point = read_point(slot, 2);

	add_event(run, DatumGetInt32(column(slot, 1)), &point, column(slot, 5));
	end_row(run, old);
}

static void
receive_cell(TupleTableSlot *slot, void *state)
{
	Run *run = state;
	MemoryContext old = begin_row(run);

	read_cell(run, DatumGetInt32(column(slot, 1)), slot, 2);
	end_row(run, old);
}

static void
receive_hour(TupleTableSlot *slot, void *state)
{
	Run *run = state;
	MemoryContext old = begin_row(run);
	TimestampTz hour = DatumGetTimestampTz(column(slot, 2));
	UsagePoint point = {.at = hour, .recorded_at = hour, .quantity = numeric_column(slot, 3)};

	add_point(run, DatumGetInt32(column(slot, 1)), &point);
	end_row(run, old);
}

static void
receive_level(TupleTableSlot *slot, void *state)
{
	Run *run = state;
	MemoryContext old = begin_row(run);
	int question = DatumGetInt32(column(slot, 1));
	UsagePoint point = read_point(slot, 2);

	run->is_found[question] = true;
	add_point(run, question, &point);
	end_row(run, old);
}

/* $1 to $5 of RANGES, and the filters of their metrics. */
#define RANGE_ARGUMENTS 5

static void
make_range_arguments(const Run *run, const Ranges *list, NullableDatum *arguments)
{
	Datum *columns[RANGE_ARGUMENTS];
	static const Oid types[RANGE_ARGUMENTS] = {INT4OID, UUIDOID, TEXTOID, TIMESTAMPTZOID,
											   TIMESTAMPTZOID};

	for (int i = 0; i < RANGE_ARGUMENTS; i++)
		columns[i] = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * list->count);
	for (int i = 0; i < list->count; i++)
	{
		const Range *range = &list->ranges[i];

		columns[0][i] = Int32GetDatum(range->question);
		columns[1][i] = UUIDPGetDatum(&run->questions[range->question].tenant);
		columns[2][i] = CStringGetTextDatum(range->name);
		columns[3][i] = TimestampTzGetDatum(range->starts);
		columns[4][i] = TimestampTzGetDatum(range->ends);
	}
	for (int i = 0; i < RANGE_ARGUMENTS; i++)
		arguments[i] = gate_array(columns[i], list->count, types[i]);
}

static NullableDatum
make_filter_argument(const Run *run, const Ranges *list)
{
	Datum *filters = palloc(sizeof(Datum) * list->count);
	bool *nulls = palloc(sizeof(bool) * list->count);
	int lower = 1;
	int count = list->count;

	for (int i = 0; i < count; i++)
	{
		const Metric *metric = run->questions[list->ranges[i].question].span.metric;

		filters[i] = JsonbPGetDatum(metric->filters);
		nulls[i] = metric->filters == NULL;
	}
	return gate_datum(PointerGetDatum(
		construct_md_array(filters, nulls, 1, &count, &lower, JSONBOID, -1, false, TYPALIGN_INT)));
}

/* While all of a time is read: which ranges want the rows of a tenant and name. */
typedef struct Scan
{
	Run *run;
	const Ranges *list;
	HTAB *index;
} Scan;

#define SCAN_KEY_SIZE (UUID_LEN + NAMEDATALEN)

static Size
make_scan_key(char *key, const pg_uuid_t *tenant, const char *name, Size length)
{
	memcpy(key, tenant->data, UUID_LEN);
	memcpy(key + UUID_LEN, name, Min(length, NAMEDATALEN));
	return UUID_LEN + Min(length, NAMEDATALEN);
}

static void
begin_scan(Scan *scan, Run *run, Ranges *list)
{
	*scan = (Scan){.run = run, .list = list, .index = text_table(run->memory)};
	for (int i = 0; i < list->count; i++)
	{
		Range *range = &list->ranges[i];
		char key[SCAN_KEY_SIZE];
		Size length = make_scan_key(key, &run->questions[range->question].tenant, range->name,
									strlen(range->name));
		bool is_found;
		TextEntry *entry = enter_text(scan->index, 0, key, length, run->memory, &is_found);

		range->next = is_found ? entry->value : -1;
		entry->value = i;
	}
}

/* The first range of the tenant and name in the columns 1 and 2; -1 for none. */
static int
find_ranges(const Scan *scan, TupleTableSlot *slot)
{
	text *name = DatumGetTextPP(column(slot, 2));
	char key[SCAN_KEY_SIZE];
	Size length = make_scan_key(key, DatumGetUUIDP(column(slot, 1)), VARDATA_ANY(name),
								VARSIZE_ANY_EXHDR(name));
	const TextEntry *entry = find_text(scan->index, 0, key, length);

	return entry == NULL ? -1 : entry->value;
}

static void
scan_event(TupleTableSlot *slot, void *state)
{
	Scan *scan = state;
	int found = find_ranges(scan, slot);
	MemoryContext old;
	UsagePoint point;

	if (found < 0)
		return;
	old = begin_row(scan->run);
	point = read_point(slot, 3);
	for (; found >= 0; found = scan->list->ranges[found].next)
	{
		const Range *range = &scan->list->ranges[found];

		if (point.at >= range->starts && point.at < range->ends)
			add_event(scan->run, range->question, &point, column(slot, 6));
	}
	end_row(scan->run, old);
}

static void
scan_cell(TupleTableSlot *slot, void *state)
{
	Scan *scan = state;
	int found = find_ranges(scan, slot);
	TimestampTz hour = DatumGetTimestampTz(column(slot, 3));
	MemoryContext old;

	if (found < 0)
		return;
	old = begin_row(scan->run);
	for (; found >= 0; found = scan->list->ranges[found].next)
	{
		const Range *range = &scan->list->ranges[found];

		if (hour >= range->starts && hour < range->ends)
			read_cell(scan->run, range->question, slot, 3);
	}
	end_row(scan->run, old);
}

static double
rows_of(const char *table)
{
	Relation relation = relation_open(extension_relation(table), AccessShareLock);
	double rows = (double) RelationGetNumberOfBlocks(relation) * ROWS_PER_BLOCK;

	relation_close(relation, NoLock);
	return rows;
}

/* About how many events there are in the partitions of a time. */
static double
events_between(TimestampTz first, TimestampTz last)
{
	NullableDatum months[MONTH_ARGUMENTS];
	double rows = 0;

	event_months(first, last, months);
	for (int i = 0; i < MONTH_ARGUMENTS; i += 2)
		for (int month = DatumGetInt16(months[i].value);
			 month <= DatumGetInt16(months[i + 1].value); month++)
			if (month > 0)
				rows += rows_of(psprintf("usage_event_%02d", month));
	return rows;
}

/* About how many cells there are in a time. */
static double
cells_between(const Run *run, const Ranges *list)
{
	const Metric *metric = run->questions[list->ranges[0].question].span.metric;
	TimestampTz first = Max(list->first, metric->rolled_from);
	double rolled = Max(metric->rolled_until - metric->rolled_from, USECS_PER_HOUR);

	return rows_of("usage_rollup") * Min(1.0, Max(list->last - first, 0) / rolled);
}

static bool
is_worth_a_scan(const Ranges *list, double rows)
{
	return list->count >= MANY_RANGES && rows <= (double) list->count * ROWS_PER_LOOKUP;
}

/* Of parts of hours that are rolled up, the events must be there. */
static void
require_events(const Run *run, const Ranges *list)
{
	Ranges parts = {0};
	NullableDatum arguments[RANGE_ARGUMENTS];

	for (int i = 0; i < list->count; i++)
	{
		const Range *range = &list->ranges[i];
		const Metric *metric = run->questions[range->question].span.metric;

		if (range->starts < metric->rolled_until)
			add_range(&parts, range->question, metric->name, range->starts, range->ends);
	}
	if (parts.count == 0)
		return;
	make_range_arguments(run, &parts, arguments);
	usage_require_events(arguments[1], arguments[2], arguments[3], arguments[4]);
}

static void
read_events(Run *run)
{
	Ranges *list = &run->events;
	NullableDatum arguments[RANGE_ARGUMENTS + MONTH_ARGUMENTS];
	Scan scan;

	if (list->count == 0)
		return;
	require_events(run, list);
	if (!is_worth_a_scan(list, events_between(list->first, list->last)))
	{
		make_range_arguments(run, list, arguments);
		event_months(list->first, list->last, &arguments[RANGE_ARGUMENTS]);
		gate_stream(&events_of_ranges, receive_event, run, arguments, lengthof(arguments));
		return;
	}
	begin_scan(&scan, run, list);
	arguments[0] = gate_timestamptz(list->first);
	arguments[1] = gate_timestamptz(list->last);
	event_months(list->first, list->last, &arguments[2]);
	gate_stream(&events_of_time, scan_event, &scan, arguments, 2 + MONTH_ARGUMENTS);
}

static void
read_cells(Run *run)
{
	Ranges *list = &run->cells;
	NullableDatum arguments[RANGE_ARGUMENTS];
	Scan scan;

	if (list->count == 0)
		return;
	if (!is_worth_a_scan(list, cells_between(run, list)))
	{
		make_range_arguments(run, list, arguments);
		gate_stream(&cells_of_ranges, receive_cell, run, arguments, lengthof(arguments));
		return;
	}
	begin_scan(&scan, run, list);
	arguments[0] = gate_timestamptz(list->first);
	arguments[1] = gate_timestamptz(list->last);
	gate_stream(&cells_of_time, scan_cell, &scan, arguments, 2);
}

static void
read_hours(Run *run)
{
	NullableDatum arguments[RANGE_ARGUMENTS];

	if (run->hours.count == 0)
		return;
	make_range_arguments(run, &run->hours, arguments);
	gate_stream(&hours_of_ranges, receive_hour, run, arguments, lengthof(arguments));
}

static void
read_last(Run *run, Ranges *list, GateStatement *statement)
{
	NullableDatum arguments[RANGE_ARGUMENTS + 1 + MONTH_ARGUMENTS];
	bool has_months = statement == &last_events;

	if (list->count == 0)
		return;
	if (has_months)
		require_events(run, list);
	make_range_arguments(run, list, arguments);
	arguments[RANGE_ARGUMENTS] = make_filter_argument(run, list);
	event_months(list->first, list->last, &arguments[RANGE_ARGUMENTS + 1]);
	gate_stream(statement, receive_level, run, arguments,
				has_months ? lengthof(arguments) : RANGE_ARGUMENTS + 1);
}

/* Where the cells of a level end: behind it are events that are not rolled up. */
static TimestampTz
cell_end(const Metric *metric, const Range *level)
{
	return Max(level->starts, Min(metric->rolled_until, floor_hour(level->ends)));
}

/*
 * The last point before a time: of the events that are not rolled up; else of the cells, from
 * the first whole hour on; else of the events before that.
 */
static void
read_levels(Run *run)
{
	Ranges recent = {0};
	Ranges cells = {0};
	Ranges early = {0};
	Ranges hours = {0};

	if (run->levels.count == 0)
		return;
	run->is_found = MemoryContextAllocExtended(run->memory, sizeof(bool) * run->question_count,
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < run->levels.count; i++)
	{
		const Range *level = &run->levels.ranges[i];
		const Metric *metric = run->questions[level->question].span.metric;

		if (metric->event != NULL)
			add_range(&recent, level->question, metric->event, cell_end(metric, level),
					  level->ends);
	}
	read_last(run, &recent, &last_events);
	for (int i = 0; i < run->levels.count; i++)
	{
		const Range *level = &run->levels.ranges[i];
		const Metric *metric = run->questions[level->question].span.metric;

		if (metric->event != NULL && !run->is_found[level->question])
			add_range(&cells, level->question, metric->name, ceil_hour(level->starts),
					  cell_end(metric, level));
	}
	read_last(run, &cells, &last_cells);
	for (int i = 0; i < run->levels.count; i++)
	{
		const Range *level = &run->levels.ranges[i];
		const Metric *metric = run->questions[level->question].span.metric;

		if (metric->event != NULL && !run->is_found[level->question])
			add_range(&early, level->question, metric->event, level->starts,
					  Min(ceil_hour(level->starts), cell_end(metric, level)));
		if (metric_is_measured(metric))
			add_range(&hours, level->question, metric->name, level->starts, level->ends);
	}
	read_last(run, &early, &last_events);
	read_last(run, &hours, &last_hours);
}

void
read_ranges(Run *run)
{
	read_events(run);
	read_cells(run);
	read_hours(run);
	read_levels(run);
}
