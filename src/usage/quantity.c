/*
 * usage/quantity.c
 *		What tenants used: many questions answered at once.
 *
 * Each question is cut into ranges: whole hours before the metric's frontier are read from
 * tenancy.usage_rollup, what is before, behind or between them from the events, and what the
 * server measured from its hours.  The ranges of all questions are read together (read.c) and
 * added to the totals of the questions as they come (total.c).
 *
 * All of it sees one snapshot, the caller's: rows of the roll-ups, the frontier and the events
 * fit together in any snapshot (rollup.c says why).
 */
#include "postgres.h"

#include "core/json.h"
#include "meter/meter.h"
#include "usage/filter.h"
#include "usage/run.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define TEXT_KEY_SIZE offsetof(TextEntry, value)

static uint32
hash_text_key(const void *key, Size size)
{
	const TextEntry *k = key;

	return hash_combine(hash_bytes((const unsigned char *) k->text, k->length),
						murmurhash32(k->number));
}

static int
match_text_keys(const void *a, const void *b, Size size)
{
	const TextEntry *x = a;
	const TextEntry *y = b;

	return x->number != y->number || x->length != y->length ||
		   memcmp(x->text, y->text, x->length) != 0;
}

HTAB *
text_table(MemoryContext memory)
{
	HASHCTL control = {.keysize = TEXT_KEY_SIZE,
					   .entrysize = sizeof(TextEntry),
					   .hash = hash_text_key,
					   .match = match_text_keys,
					   .hcxt = memory};

	return hash_create("pg_tenancy usage", 1024, &control,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

TextEntry *
enter_text(HTAB *table, int number, const char *text, Size length, MemoryContext memory,
		   bool *is_found)
{
	TextEntry key = {.number = number, .length = length, .text = text};
	TextEntry *entry = hash_search(table, &key, HASH_ENTER, is_found);

	if (!*is_found)
		entry->text = memcpy(MemoryContextAlloc(memory, Max(length, 1)), text, length);
	return entry;
}

TextEntry *
find_text(HTAB *table, int number, const char *text, Size length)
{
	TextEntry key = {.number = number, .length = length, .text = text};

	return hash_search(table, &key, HASH_FIND, NULL);
}

TimestampTz
floor_hour(TimestampTz time)
{
	return TIMESTAMP_NOT_FINITE(time) ? time : meter_hour_of(time);
}

TimestampTz
ceil_hour(TimestampTz time)
{
	TimestampTz floor = floor_hour(time);

	return floor == time ? time : floor + USECS_PER_HOUR;
}

void
add_range(Ranges *list, int question, const char *name, TimestampTz starts, TimestampTz ends)
{
	if (starts >= ends)
		return;
	if (list->count == list->size)
	{
		list->size = Max(list->size * 2, 64);
		list->ranges =
			list->ranges == NULL
				? MemoryContextAllocHuge(CurrentMemoryContext, list->size * sizeof(Range))
				: repalloc_huge(list->ranges, list->size * sizeof(Range));
	}
	list->first = list->count == 0 ? starts : Min(list->first, starts);
	list->last = list->count == 0 ? ends : Max(list->last, ends);
	list->ranges[list->count++] =
		(Range){.question = question, .name = name, .starts = starts, .ends = ends, .next = -1};
}

/* What happened between two times. */
static void
add_span(Run *run, int question, TimestampTz starts, TimestampTz ends)
{
	const Metric *metric = run->questions[question].span.metric;
	TimestampTz first_hour = ceil_hour(starts);
	TimestampTz last_hour = Min(floor_hour(ends), metric->rolled_until);

	if (first_hour >= last_hour)
	{
		add_range(&run->events, question, metric->event, starts, ends);
		return;
	}
	add_range(&run->events, question, metric->event, starts, first_hour);
	add_range(&run->cells, question, metric->name, first_hour, last_hour);
	add_range(&run->events, question, metric->event, last_hour, ends);
}

static void
ask(Run *run, int question)
{
	const UsageSpan *span = &run->questions[question].span;
	const Metric *metric = span->metric;
	bool is_level = metric->aggregation == AGGREGATION_LATEST ||
					metric->aggregation == AGGREGATION_MAX ||
					metric->aggregation == AGGREGATION_MIN;
	TimestampTz since = metric->carries_over ? DT_NOBEGIN : span->from_time;

	if (metric->aggregation == AGGREGATION_WEIGHTED_SUM &&
		(TIMESTAMP_NOT_FINITE(span->from_time) || TIMESTAMP_NOT_FINITE(span->to_time)))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("the period of a weighted sum must be finite"));

	/* Of a group the last point cannot be looked up by index: all are read. */
	if (run->group_by != NULL || !is_level)
	{
		/* No cell lies on both sides of the start. */
		if (metric->event != NULL)
		{
			add_span(run, question, since, span->from_time);
			add_span(run, question, span->from_time, span->to_time);
		}
		if (metric_is_measured(metric) && run->group_by == NULL)
			add_range(&run->hours, question, metric->name, since, span->to_time);
		return;
	}
	if (metric->aggregation == AGGREGATION_LATEST)
	{
		add_range(&run->levels, question, metric->name, since, span->to_time);
		return;
	}
	if (metric->event != NULL)
		add_span(run, question, span->from_time, span->to_time);
	if (metric_is_measured(metric))
		add_range(&run->hours, question, metric->name, span->from_time, span->to_time);
	add_range(&run->levels, question, metric->name, since, span->from_time);
}

/* The values of the properties that are asked for, as a document. */
static Jsonb *
make_groups(ArrayType *group_by, char *const *values)
{
	Datum *names;
	bool *nulls;
	int count;
	JsonBuilder builder;

	deconstruct_array(group_by, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
	json_begin(&builder);
	for (int i = 0; i < count; i++)
		json_put_text(&builder, TextDatumGetCString(names[i]), values[i]);
	return json_end(&builder);
}

/* The group of these values; in the scratch memory. */
static Group *
find_group(Run *run, int question, char *const *values, int count)
{
	StringInfoData key;
	TextEntry *entry;
	bool is_found;

	initStringInfo(&key);
	for (int i = 0; i < count; i++)
	{
		appendStringInfoChar(&key, values[i] == NULL ? 0 : 1);
		if (values[i] != NULL)
			appendBinaryStringInfo(&key, values[i], strlen(values[i]) + 1);
	}
	entry = enter_text(run->group_index, question, key.data, key.len, run->memory, &is_found);
	if (!is_found)
	{
		MemoryContext old;

		if (run->group_count == run->group_size)
		{
			run->group_size *= 2;
			run->groups = repalloc_huge(run->groups, run->group_size * sizeof(Group));
		}
		old = MemoryContextSwitchTo(run->memory);
		run->groups[run->group_count] =
			(Group){.question = question, .groups = make_groups(run->group_by, values)};
		MemoryContextSwitchTo(old);
		entry->value = run->group_count++;
	}
	return &run->groups[entry->value];
}

/* A text[] as texts, NULL for nulls. */
static char **
read_texts(ArrayType *array, int *count)
{
	Datum *elements;
	bool *nulls;
	char **texts;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	texts = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		texts[i] = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
	return texts;
}

static Group *
group_of_event(Run *run, int question, const Jsonb *properties)
{
	int count;
	char **values;

	if (run->group_by == NULL)
		return &run->groups[question];
	values = read_texts(group_values(properties, run->group_by), &count);
	return find_group(run, question, values, count);
}

/* Of all that the metric is grouped by, those that are asked for. */
static Group *
group_of_cell(Run *run, int question, ArrayType *all_values)
{
	int count;
	int all_count;
	int value_count;
	char **names;
	char **all_names;
	char **values;

	if (run->group_by == NULL)
		return &run->groups[question];
	names = read_texts(run->group_by, &count);
	all_names = read_texts(run->questions[question].span.metric->group_by, &all_count);
	values = read_texts(all_values, &value_count);
	for (int i = 0; i < count; i++)
	{
		for (int j = 0; j < all_count; j++)
			if (strcmp(names[i], all_names[j]) == 0)
			{
				names[i] = values[j];
				break;
			}
	}
	return find_group(run, question, names, count);
}

static void
add_to_group(Run *run, Group *group, const UsagePoint *point)
{
	MemoryContext old = MemoryContextSwitchTo(run->memory);

	total_add_point(&group->total, &run->questions[group->question].span, point);
	MemoryContextSwitchTo(old);
}

static void
add_value(Run *run, Group *group, const char *value)
{
	bool is_found;

	if (run->values == NULL)
		run->values = text_table(run->memory);
	(void) enter_text(run->values, group - run->groups, value, strlen(value), run->memory,
					  &is_found);
	if (!is_found)
		total_add_value(&group->total);
}

void
add_event(Run *run, int question, const UsagePoint *point, Datum properties_datum)
{
	const Metric *metric = run->questions[question].span.metric;
	bool wants_properties =
		metric->filters != NULL || metric->property != NULL || run->group_by != NULL;
	const Jsonb *properties = wants_properties ? DatumGetJsonbP(properties_datum) : NULL;

	if (!filter_matches(metric->filters, properties))
		return;
	if (metric->aggregation == AGGREGATION_UNIQUE)
	{
		char *value = property_text(properties, metric->property);

		if (value != NULL)
			add_value(run, group_of_event(run, question, properties), value);
		return;
	}
	add_to_group(run, group_of_event(run, question, properties), point);
}

void
add_cell(Run *run, int question, const UsageCell *cell, const char *value, ArrayType *values)
{
	Group *group = group_of_cell(run, question, values);
	MemoryContext old;

	if (value != NULL)
	{
		add_value(run, group, value);
		return;
	}
	old = MemoryContextSwitchTo(run->memory);
	total_add_cell(&group->total, &run->questions[question].span, cell);
	MemoryContextSwitchTo(old);
}

void
add_point(Run *run, int question, const UsagePoint *point)
{
	add_to_group(run, &run->groups[question], point);
}

static UsageAnswer *
make_answers(const Run *run)
{
	UsageAnswer *answers = MemoryContextAllocHuge(CurrentMemoryContext,
												  sizeof(UsageAnswer) * Max(run->group_count, 1));

	for (int i = 0; i < run->group_count; i++)
	{
		const Group *group = &run->groups[i];
		const UsageSpan *span = &run->questions[group->question].span;

		answers[i] = (UsageAnswer){
			.question = group->question,
			.groups = group->groups,
			.quantity = span->metric == NULL ? NULL : total_quantity(&group->total, span)};
	}
	return answers;
}

UsageAnswer *
usage_answer(const UsageQuestion *questions, int count, ArrayType *group_by, int *answer_count)
{
	Run run = {.questions = questions, .question_count = count, .group_by = group_by};

	run.memory = CurrentMemoryContext;
	run.scratch = AllocSetContextCreate(run.memory, "pg_tenancy usage row", ALLOCSET_DEFAULT_SIZES);
	run.group_size = Max(count, 64);
	run.groups = MemoryContextAllocExtended(run.memory, sizeof(Group) * run.group_size,
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (group_by != NULL)
		run.group_index = text_table(run.memory);
	else
	{
		for (int i = 0; i < count; i++)
			run.groups[i].question = i;
		run.group_count = count;
	}
	for (int i = 0; i < count; i++)
		if (questions[i].span.metric != NULL &&
			questions[i].span.from_time < questions[i].span.to_time)
			ask(&run, i);
	read_ranges(&run);
	MemoryContextDelete(run.scratch);
	*answer_count = run.group_count;
	return make_answers(&run);
}
