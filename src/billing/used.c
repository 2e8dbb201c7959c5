/*
 * billing/used.c
 *		What charges were used: for any number of them, a statement for each way to ask.
 *
 * Most charges want a quantity.  Prices of transactions want each of them; a level that is
 * prorated, such as seats that come and go, wants each of its changes with the part of the period
 * that was left.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/money.h"
#include "usage/prune.h"

#include "utils/timestamp.h"

GATE_STATEMENT(used_quantities,
			   "SELECT q.ordinal, q.quantity FROM tenancy.usage_quantities($1, $2, $3, $4) q"
			   " ORDER BY q.ordinal",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);
GATE_STATEMENT(used_transactions,
			   "SELECT u.ordinal, e.quantity"
			   "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
			   "                  pg_catalog.unnest($3), pg_catalog.unnest($4))"
			   "           WITH ORDINALITY AS u(tenant_id, metric, from_time, to_time, ordinal)"
			   "  JOIN tenancy.usage_observation e"
			   "    ON e.tenant_id = u.tenant_id AND e.metric = u.metric"
			   "   AND e.occurred_at >= u.from_time AND e.occurred_at < u.to_time"
			   " ORDER BY u.ordinal, e.occurred_at, e.recorded_at, e.quantity",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);
/* Of levels alone; what one was before is its first change. */
GATE_STATEMENT(used_changes,
			   "SELECT u.ordinal, pg_catalog.sum(e.quantity),"
			   "       greatest(e.occurred_at, u.from_time) AS at"
			   "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
			   "                  pg_catalog.unnest($3), pg_catalog.unnest($4))"
			   "           WITH ORDINALITY AS u(tenant_id, metric, from_time, to_time, ordinal)"
			   "  JOIN tenancy.metric m ON m.name = u.metric AND m.aggregation = 'weighted_sum'"
			   "  JOIN tenancy.usage_observation e"
			   "    ON e.tenant_id = u.tenant_id AND e.metric = u.metric"
			   "   AND e.occurred_at < u.to_time"
			   "   AND (e.occurred_at >= u.from_time OR m.carries_over)"
			   " GROUP BY u.ordinal, at ORDER BY u.ordinal, at",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);

typedef bool (*IsAsked)(const UsageWanted *wanted);

static bool
wants_quantity(const UsageWanted *wanted)
{
	return wanted->charge->model != MODEL_PERCENTAGE;
}

static bool
wants_transactions(const UsageWanted *wanted)
{
	return wanted->charge->model == MODEL_PERCENTAGE;
}

static bool
wants_changes(const UsageWanted *wanted)
{
	return wanted->charge->is_prorated && wanted->pricing->proration_unit != PRORATE_NONE &&
		   (wanted->charge->model == MODEL_PER_UNIT || wanted->charge->model == MODEL_GRADUATED ||
			wanted->charge->model == MODEL_VOLUME);
}

/* Which events are read one by one, of which retention must have removed none. */
typedef enum EventsRead
{
	EVENTS_NONE,
	EVENTS_OF_PERIOD,
	EVENTS_UNTIL_END
} EventsRead;

/* NULL where nobody asks. */
static GateRows *
ask(GateStatement *statement, const UsageWanted *wanted, int count, IsAsked is_asked,
	EventsRead events)
{
	static const Oid types[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Column columns[lengthof(types)];

	for (int i = 0; i < lengthof(types); i++)
		column_begin(&columns[i], types[i]);
	for (int i = 0; i < count; i++)
	{
		if (!is_asked(&wanted[i]))
			continue;
		column_add(&columns[0], gate_uuid(&wanted[i].contract->subscription.tenant));
		column_add(&columns[1], gate_text(wanted[i].charge->metric));
		column_add(&columns[2], gate_timestamptz(wanted[i].from));
		column_add(&columns[3], gate_timestamptz(wanted[i].to));
	}
	if (columns[0].count == 0)
		return NULL;
	if (events != EVENTS_NONE)
	{
		Column ever;

		column_begin(&ever, TIMESTAMPTZOID);
		for (int i = 0; i < columns[0].count; i++)
			column_add(&ever, gate_timestamptz(DT_NOBEGIN));
		usage_require_events(column_array(&columns[0]), column_array(&columns[1]),
							 column_array(events == EVENTS_OF_PERIOD ? &columns[2] : &ever),
							 column_array(&columns[3]));
	}
	return gate_run(statement, EXPECT_ANY, column_array(&columns[0]), column_array(&columns[1]),
					column_array(&columns[2]), column_array(&columns[3]));
}

static void
read_quantities(UsageWanted *wanted, int count)
{
	GateRows *rows = ask(&used_quantities, wanted, count, wants_quantity, EVENTS_NONE);
	int64 row = 0;

	for (int i = 0; i < count; i++)
	{
		if (wants_quantity(&wanted[i]))
			wanted[i].usage->quantity = row_numeric(rows, row++, 1);
	}
}

/* How many rows, from one on, answer the question with the ordinal. */
static int
answers_to(const GateRows *rows, int64 row, int64 ordinal)
{
	int count = 0;

	while (row + count < rows->count && row_int64(rows, row + count, 0) == ordinal)
		count++;
	return count;
}

static void
read_transactions(UsageWanted *wanted, int count)
{
	GateRows *rows = ask(&used_transactions, wanted, count, wants_transactions, EVENTS_OF_PERIOD);
	int64 row = 0;
	int64 ordinal = 0;

	for (int i = 0; i < count && rows != NULL; i++)
	{
		ChargeUsage *usage = wanted[i].usage;
		Numeric *values;

		if (!wants_transactions(&wanted[i]))
			continue;
		usage->value_count = answers_to(rows, row, ++ordinal);
		values = palloc(sizeof(Numeric) * Max(usage->value_count, 1));
		usage->quantity = numeric_zero();
		for (int j = 0; j < usage->value_count; j++)
		{
			values[j] = row_numeric(rows, row++, 1);
			usage->quantity = numeric_plus(usage->quantity, values[j]);
		}
		usage->values = values;
	}
}

static void
read_changes(UsageWanted *wanted, int count)
{
	GateRows *rows = ask(&used_changes, wanted, count, wants_changes, EVENTS_UNTIL_END);
	int64 row = 0;
	int64 ordinal = 0;

	for (int i = 0; i < count && rows != NULL; i++)
	{
		const UsageWanted *about = &wanted[i];
		ChargeUsage *usage = about->usage;
		Numeric *values;
		Numeric *prorated;
		int changes;

		if (!wants_changes(about))
			continue;
		changes = answers_to(rows, row, ++ordinal);
		if (changes == 0)
			continue;
		values = palloc(sizeof(Numeric) * changes);
		prorated = palloc(sizeof(Numeric) * changes);
		for (int j = 0; j < changes; j++, row++)
		{
			ProrationPart left = proration_part(
				row_timestamptz(rows, row, 2), about->to, about->full_start, about->full_end,
				about->pricing->proration_unit, about->contract->subscription.time_zone);

			values[j] = row_numeric(rows, row, 1);
			prorated[j] = prorate(values[j], &left);
		}
		usage->values = values;
		usage->prorated_values = prorated;
		usage->value_count = changes;
	}
}

void
usage_read(UsageWanted *wanted, int count)
{
	read_quantities(wanted, count);
	read_transactions(wanted, count);
	read_changes(wanted, count);
}
