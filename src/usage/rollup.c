/*
 * usage/rollup.c
 *		Events rolled up by tenant, metric and hour, without a lock for those who record.
 *
 * A metric has a frontier.  Hours before it are in tenancy.usage_rollup: what the rows of an hour
 * there add up to is what its events add up to, in every snapshot.  An event before the frontier
 * is late: whoever records it adds a row of its own to the roll-up ("delta"), in the same
 * transaction.  Others cost nothing.
 *
 * Moving the frontier.  Whoever records an event while the frontier moves over it must know, or
 * the event would be in neither place.  Therefore it moves in three steps, each a transaction:
 *
 *	1. announce: from now on events before the new frontier are late;
 *	2. note the transactions that may not have heard: those that have a number by now;
 *	3. when these have ended, roll up: what they wrote is visible now.  What those wrote who had
 *	   heard is visible too, and its deltas with it: they are deleted as the hours are made.
 *
 * An event is written first and its lateness looked at then, by the invalidation that the
 * announcement sends (registry.c): a transaction that gets its number after step 2 sees it.
 * Transaction numbers of step 2 are compared with the oldest that still runs; "the highest id"
 * would not do, for ids are given out in another order than that of commits.
 *
 * Cancelling an event makes its hour anew from its events.  Deltas are merged into one row an
 * hour and group from time to time.
 *
 * Of hours whose events are removed (prune.c) the rows that are no deltas are never made anew, and
 * deltas stay deltas: they are what the events add up to that came afterwards.
 *
 * Lock rules.  Rolling up and merging take the lock of the roll-ups in a mode that shuts out all
 * others, and give way to whoever has it.  Cancelling shares it, and has one of the tenant to
 * itself.  Adding deltas takes none.  All are held to the end of the transaction.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "common/hashfn.h"
#include "core/clock.h"
#include "core/function.h"
#include "job/kind.h"
#include "meter/meter.h"
#include "usage/filter.h"
#include "usage/metric.h"
#include "usage/rollup.h"
#include "usage/store.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/wait_event.h"
#include "utils/xid8.h"

/* An hour is rolled up when it has been over for so long: most of what comes late has come. */
#define SETTLING_TIME (10 * USECS_PER_MINUTE)

/* Hours whose deltas are merged in one run. */
#define MERGED_HOURS 5000

/* Steps longer than this read their months from one end to the other. */
#define LONG_STEP USECS_PER_DAY

#define SECONDS_BETWEEN_RUNS 60

/* Who cancels events shuts us out for a moment. */
#define LOCK_ATTEMPTS 20
#define LOCK_ATTEMPT_MS 50

#define ROLLUP_COLUMNS                                                                             \
	"tenant_id, metric, hour, id, group_values, value, count, sum, min, max, moment, latest,"      \
	" latest_at, latest_recorded_at, is_delta"

/* Points of metrics, as a query c, to rows of the roll-up. */
#define LATEST(column)                                                                             \
	"(array_agg(c." column " ORDER BY c.occurred_at DESC, c.recorded_at DESC, c.quantity DESC)"    \
	" FILTER (WHERE c.is_level))[1]"
#define CELLS_OF(is_delta)                                                                         \
	" INSERT INTO tenancy.usage_rollup (" ROLLUP_COLUMNS ")"                                       \
	" SELECT c.tenant_id, c.metric, c.hour, tenancy.id_new(), c.group_values, c.value, count(*),"  \
	"        sum(c.quantity), min(c.quantity), max(c.quantity),"                                   \
	"        sum(c.quantity * c.offset_us) FILTER (WHERE c.is_weighted),"                          \
	"        " LATEST("quantity") ", " LATEST("occurred_at") ", " LATEST(                          \
		"recorded_at") ","                                                                         \
					   "        " is_delta "  FROM c"                                              \
					   " GROUP BY c.tenant_id, c.metric, c.hour, c.group_values, c.value"

/* The points of events e for a metric m. */
#define POINTS_OF_EVENTS                                                                           \
	"SELECT e.tenant_id, m.name AS metric, date_trunc('hour', e.occurred_at) AS hour,"             \
	"       CASE WHEN m.group_by = '{}' THEN m.group_by"                                           \
	"            ELSE tenancy.usage_group(e.properties, m.group_by) END AS group_values,"          \
	"       CASE WHEN m.aggregation = 'unique' THEN e.properties ->> m.property END AS value,"     \
	"       e.quantity, e.occurred_at, e.recorded_at,"                                             \
	"       CASE WHEN m.aggregation = 'weighted_sum' THEN (extract(epoch FROM e.occurred_at"       \
	"           - date_trunc('hour', e.occurred_at)) * 1000000)::bigint END AS offset_us,"         \
	"       m.aggregation IN ('latest', 'max', 'min') AS is_level,"                                \
	"       m.aggregation = 'weighted_sum' AS is_weighted,"                                        \
	"       coalesce(g.hours @> e.occurred_at, false) AS is_pruned"
/* What of the events e is removed. */
#define PRUNED                                                                                     \
	" LEFT JOIN tenancy.usage_event_pruned g ON g.tenant_id = e.tenant_id AND g.metric = e.metric"
#define COUNTS                                                                                     \
	" e.cancelled_at IS NULL AND (m.filters IS NULL OR tenancy.usage_matches(e.properties, "       \
	"m.filters))"                                                                                  \
	" AND (m.property IS NULL OR e.properties ->> m.property IS NOT NULL)"

#define MERGED_ORDER                                                                               \
	"ORDER BY g.latest_at DESC NULLS LAST, g.latest_recorded_at DESC, g.latest DESC"

/* Metrics $1, hours from $2 to $3, whose months are $4 to $5 and $6 to $7. */
#define MONTHS "(e.month_of_year BETWEEN $4 AND $5 OR e.month_of_year BETWEEN $6 AND $7)"
#define DELETE_DELTAS                                                                              \
	" gone AS (DELETE FROM tenancy.usage_rollup r WHERE r.metric = ANY ($1) AND r.is_delta"        \
	"             AND r.hour >= $2 AND r.hour < $3)"
#define STEP_TYPES TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT2OID, INT2OID, INT2OID, INT2OID
/*
 * A short step visits the end of the index for each tenant and event, which it finds by going
 * from one to the next; a long one reads what there is.
 */
GATE_STATEMENT_ANEW(
	rollup_short_step,
	"WITH RECURSIVE series AS ("
	"    (SELECT e.tenant_id, e.metric FROM tenancy.usage_event e WHERE " MONTHS
	"      ORDER BY e.tenant_id, e.metric LIMIT 1)"
	"    UNION ALL"
	"    SELECT n.tenant_id, n.metric FROM series s CROSS JOIN LATERAL ("
	"        SELECT e.tenant_id, e.metric FROM tenancy.usage_event e"
	"         WHERE " MONTHS " AND (e.tenant_id, e.metric) > (s.tenant_id, s.metric)"
	"         ORDER BY e.tenant_id, e.metric LIMIT 1) n),"
	" c AS ("
	"    " POINTS_OF_EVENTS "  FROM series s JOIN tenancy.metric m ON m.event = s.metric"
	"     CROSS JOIN LATERAL (SELECT e.tenant_id, e.metric, e.quantity, e.occurred_at,"
	"                                e.recorded_at, e.properties, e.cancelled_at"
	"         FROM tenancy.usage_event e"
	"         WHERE e.tenant_id = s.tenant_id AND e.metric = s.metric"
	"           AND e.occurred_at >= $2 AND e.occurred_at < $3 AND " MONTHS ") e" PRUNED
	"     WHERE m.name = ANY ($1) AND" COUNTS ")," DELETE_DELTAS CELLS_OF("bool_or(c.is_pruned)"),
	STEP_TYPES);
GATE_STATEMENT_ANEW(rollup_long_step,
					"WITH c AS ("
					"    " POINTS_OF_EVENTS "  FROM tenancy.usage_event e"
					"      JOIN tenancy.metric m ON m.event = e.metric" PRUNED
					"     WHERE m.name = ANY ($1) AND e.occurred_at >= $2 AND e.occurred_at < $3"
					"       AND " MONTHS " AND" COUNTS
					")," DELETE_DELTAS CELLS_OF("bool_or(c.is_pruned)"),
					STEP_TYPES);
GATE_STATEMENT(rollup_move,
			   "INSERT INTO tenancy.usage_frontier AS f (metric, rolled_from, rolled_until)"
			   " SELECT u.metric, $2, $3 FROM unnest($1) AS u(metric)"
			   " ON CONFLICT (metric) DO UPDATE SET rolled_until = excluded.rolled_until",
			   TEXTARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* Metrics that are announced and that nobody is left to hear of, by step. */
GATE_STATEMENT(rollup_ready,
			   "SELECT array_agg(a.metric ORDER BY a.metric), f.rolled_until, a.rolls_until"
			   "  FROM tenancy.usage_announcement a"
			   "  LEFT JOIN tenancy.usage_frontier f ON f.metric = a.metric"
			   " WHERE a.rolls_until > coalesce(f.rolled_until, '-infinity')"
			   "   AND a.waits_for <= pg_snapshot_xmin(pg_current_snapshot())"
			   " GROUP BY f.rolled_until, a.rolls_until ORDER BY 2, 3");
/* The first event of metrics that have no frontier. */
GATE_STATEMENT(rollup_first,
			   "SELECT coalesce(min(e.occurred_at), 'infinity') FROM tenancy.usage_event e"
			   "  JOIN tenancy.metric m ON m.event = e.metric WHERE m.name = ANY ($1)",
			   TEXTARRAYOID);
GATE_STATEMENT(rollup_note,
			   "UPDATE tenancy.usage_announcement a SET waits_for = $1 WHERE a.waits_for IS NULL",
			   XID8OID);
/* Most of the time there is none, and every backend would forget what it knows for it. */
GATE_STATEMENT(rollup_wanted,
			   "SELECT FROM tenancy.metric m"
			   "  LEFT JOIN tenancy.usage_frontier f ON f.metric = m.name"
			   "  LEFT JOIN tenancy.usage_announcement o ON o.metric = m.name"
			   " WHERE m.event IS NOT NULL AND coalesce(f.rolled_until, '-infinity') < $1"
			   "   AND coalesce(o.rolls_until, '-infinity')"
			   "       <= coalesce(f.rolled_until, '-infinity')",
			   TIMESTAMPTZOID);
/* One step goes to the end of a month at most. */
GATE_STATEMENT(
	rollup_announce,
	"INSERT INTO tenancy.usage_announcement AS a (metric, rolls_until)"
	" SELECT n.metric, n.rolls_until FROM ("
	"    SELECT m.name AS metric, least($1, date_trunc('month', b.begins) + interval '1 month')"
	"           AS rolls_until, b.begins"
	"      FROM tenancy.metric m"
	"      LEFT JOIN tenancy.usage_frontier f ON f.metric = m.name"
	"     CROSS JOIN LATERAL (SELECT coalesce(f.rolled_until,"
	"         (SELECT min(e.occurred_at) FROM tenancy.usage_event e WHERE e.metric = m.event),"
	"         $1) AS begins) b"
	"     WHERE m.event IS NOT NULL) n"
	"   LEFT JOIN tenancy.usage_frontier f ON f.metric = n.metric"
	"   LEFT JOIN tenancy.usage_announcement o ON o.metric = n.metric"
	"  WHERE n.rolls_until > coalesce(f.rolled_until, '-infinity')"
	"    AND coalesce(o.rolls_until, '-infinity') <= coalesce(f.rolled_until, '-infinity')"
	" ON CONFLICT (metric) DO UPDATE SET rolls_until = excluded.rolls_until, waits_for = NULL",
	TIMESTAMPTZOID);

GATE_STATEMENT(
	rollup_merge,
	"WITH hours AS (SELECT DISTINCT r.tenant_id, r.metric, r.hour FROM tenancy.usage_rollup r"
	"                 JOIN tenancy.usage_frontier f ON f.metric = r.metric"
	"                WHERE r.is_delta AND r.hour < f.rolled_until AND NOT EXISTS ("
	"                      SELECT FROM tenancy.metric m JOIN tenancy.usage_event_pruned g"
	"                          ON g.tenant_id = r.tenant_id AND g.metric = m.event"
	"                       WHERE m.name = r.metric AND g.hours @> r.hour) LIMIT $1),"
	" gone AS (DELETE FROM tenancy.usage_rollup r USING hours h"
	"           WHERE r.tenant_id = h.tenant_id AND r.metric = h.metric AND r.hour = h.hour"
	"          RETURNING r.*)"
	" INSERT INTO tenancy.usage_rollup (" ROLLUP_COLUMNS ")"
	" SELECT g.tenant_id, g.metric, g.hour, tenancy.id_new(), g.group_values, g.value,"
	"        sum(g.count), sum(g.sum), min(g.min), max(g.max), sum(g.moment),"
	"        (array_agg(g.latest " MERGED_ORDER "))[1], (array_agg(g.latest_at " MERGED_ORDER
	"))[1],"
	"        (array_agg(g.latest_recorded_at " MERGED_ORDER "))[1], false"
	"   FROM gone g GROUP BY g.tenant_id, g.metric, g.hour, g.group_values, g.value",
	INT4OID);
GATE_STATEMENT(rollup_late,
			   "WITH c AS ("
			   "    SELECT u.tenant_id, u.metric, date_trunc('hour', u.occurred_at) AS hour,"
			   "           u.group_values::text[] AS group_values, u.value, u.quantity,"
			   "           u.occurred_at, u.recorded_at,"
			   "           (extract(epoch FROM u.occurred_at - date_trunc('hour', u.occurred_at))"
			   "               * 1000000)::bigint AS offset_us,"
			   "           m.aggregation IN ('latest', 'max', 'min') AS is_level,"
			   "           m.aggregation = 'weighted_sum' AS is_weighted"
			   "      FROM unnest($1, $2, $3, $4, $5, $6, $7)"
			   "           AS u(tenant_id, metric, group_values, value, quantity, occurred_at,"
			   "                recorded_at)"
			   "      JOIN unnest($8, $9) AS m(metric, aggregation) USING (metric))"
			   "" CELLS_OF("true"),
			   UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID,
			   TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID);
GATE_STATEMENT(
	rollup_renew_hour,
	"WITH rolled AS (SELECT m.name FROM tenancy.metric m"
	"                  JOIN tenancy.usage_frontier f ON f.metric = m.name"
	"                 WHERE m.event = $2 AND f.rolled_until > $3),"
	" gone AS (DELETE FROM tenancy.usage_rollup r USING rolled o"
	"           WHERE r.tenant_id = $1 AND r.metric = o.name AND r.hour = $3"
	"             AND (r.is_delta OR NOT EXISTS ("
	"                  SELECT FROM tenancy.usage_event_pruned g"
	"                   WHERE g.tenant_id = $1 AND g.metric = $2 AND g.hours @> $3))),"
	" c AS ("
	"    " POINTS_OF_EVENTS "  FROM tenancy.usage_event e"
	"      JOIN tenancy.metric m ON m.event = e.metric JOIN rolled o ON o.name = m.name" PRUNED
	"     WHERE e.tenant_id = $1 AND e.metric = $2 AND e.occurred_at >= $3"
	"       AND e.occurred_at < $3 + interval '1 hour' AND e.month_of_year = $4 AND" COUNTS ")"
	"" CELLS_OF("bool_or(c.is_pruned)"),
	UUIDOID, TEXTOID, TIMESTAMPTZOID, INT2OID);

/* One lock for the roll-ups, and one for those of a tenant (or of a few). */
static LOCKTAG
lock_tag(uint16 part)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, extension_relation("usage_rollup"),
					   part);
	return tag;
}

void
rollup_lock(const pg_uuid_t *tenant)
{
	uint32 hash = hash_bytes(tenant->data, UUID_LEN);
	LOCKTAG tag = lock_tag(0);

	(void) LockAcquire(&tag, RowExclusiveLock, false, false);
	tag = lock_tag(1 + hash % PG_UINT16_MAX);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
rollup_renew(const pg_uuid_t *tenant, const char *metric, TimestampTz occurred_at)
{
	(void) gate_run(&rollup_renew_hour, EXPECT_ANY, gate_uuid(tenant), gate_text(metric),
					gate_timestamptz(meter_hour_of(occurred_at)),
					gate_datum(Int16GetDatum(event_month(occurred_at))));
}

/* The columns of rollup_late. */
typedef struct Deltas
{
	int count;
	int size;
	Datum *tenants;
	Datum *metrics;
	Datum *groups;
	Datum *values;
	bool *has_no_value;
	Datum *quantities;
	Datum *times;
	Datum *recorded;
} Deltas;

static void
grow(Deltas *d)
{
	Datum **columns[] = {&d->tenants, &d->metrics,    &d->groups,  &d->values,
						 &d->times,   &d->quantities, &d->recorded};

	if (d->count < d->size)
		return;
	d->size = Max(d->size * 2, 16);
	for (int i = 0; i < lengthof(columns); i++)
		*columns[i] = d->count == 0 ? palloc(sizeof(Datum) * d->size)
									: repalloc_huge(*columns[i], sizeof(Datum) * d->size);
	d->has_no_value = d->count == 0 ? palloc(sizeof(bool) * d->size)
									: repalloc_huge(d->has_no_value, sizeof(bool) * d->size);
}

static void
add_delta(Deltas *d, const UsageEvent *event, const Metric *metric)
{
	char *value =
		metric->property == NULL ? NULL : property_text(event->properties, metric->property);
	int n = d->count;

	if (metric->property != NULL && value == NULL)
		return;
	grow(d);
	d->tenants[n] = UUIDPGetDatum(&event->tenant);
	d->metrics[n] = CStringGetTextDatum(metric->name);
	d->groups[n] = CStringGetTextDatum(OidOutputFunctionCall(
		F_ARRAY_OUT, PointerGetDatum(group_values(event->properties, metric->group_by))));
	d->values[n] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
	d->has_no_value[n] = value == NULL;
	d->quantities[n] = NumericGetDatum(event->quantity);
	d->times[n] = TimestampTzGetDatum(event->occurred_at);
	d->recorded[n] = TimestampTzGetDatum(event->recorded_at);
	d->count++;
}

static void
write_deltas(const Deltas *d, const MetricList *list)
{
	Datum *names = palloc(sizeof(Datum) * list->count);
	Datum *aggregations = palloc(sizeof(Datum) * list->count);
	int count = d->count;
	int lower = 1;

	for (int i = 0; i < list->count; i++)
	{
		names[i] = CStringGetTextDatum(list->metrics[i].name);
		aggregations[i] = CStringGetTextDatum(aggregation_name(list->metrics[i].aggregation));
	}
	(void) gate_run(
		&rollup_late, EXPECT_ANY, gate_array(d->tenants, count, UUIDOID),
		gate_array(d->metrics, count, TEXTOID), gate_array(d->groups, count, TEXTOID),
		gate_datum(PointerGetDatum(construct_md_array(d->values, d->has_no_value, 1, &count, &lower,
													  TEXTOID, -1, false, TYPALIGN_INT))),
		gate_array(d->quantities, count, NUMERICOID), gate_array(d->times, count, TIMESTAMPTZOID),
		gate_array(d->recorded, count, TIMESTAMPTZOID), gate_array(names, list->count, TEXTOID),
		gate_array(aggregations, list->count, TEXTOID));
}

void
rollup_add(UsageEvent *const *events, int count)
{
	Deltas deltas = {0};
	const MetricList *list;

	/* We have our transaction number: whoever rolls up without waiting for us, we hear of now. */
	Assert(TransactionIdIsValid(GetTopTransactionIdIfAny()));
	AcceptInvalidationMessages();
	list = metric_list_latest();
	for (int i = 0; i < count; i++)
	{
		const UsageEvent *event = events[i];

		if (!event->is_new)
			continue;
		for (int j = 0; j < list->count; j++)
		{
			const Metric *metric = &list->metrics[j];

			if (event->occurred_at < metric->late_before && metric->event != NULL &&
				strcmp(metric->event, event->metric) == 0 &&
				filter_matches(metric->filters, event->properties))
				add_delta(&deltas, event, metric);
		}
	}
	if (deltas.count > 0)
		write_deltas(&deltas, list);
}

/* One step of metrics that share it; how many rows it made. */
static int64
roll_step(NullableDatum metrics, TimestampTz from, TimestampTz until)
{
	NullableDatum arguments[3 + MONTH_ARGUMENTS];
	bool is_first = TIMESTAMP_IS_NOBEGIN(from);
	int64 made = 0;

	if (is_first)
	{
		from = row_timestamptz(gate_run(&rollup_first, EXPECT_ONE, metrics), 0, 0);
		from = TIMESTAMP_IS_NOEND(from) ? until : Min(meter_hour_of(from), until);
	}
	if (from < until)
	{
		arguments[0] = metrics;
		arguments[1] = gate_timestamptz(from);
		arguments[2] = gate_timestamptz(until);
		event_months(from, until, &arguments[3]);
		made = gate_run_array(is_first || until - from > LONG_STEP ? &rollup_long_step
																   : &rollup_short_step,
							  EXPECT_ANY, arguments, lengthof(arguments))
				   ->count;
	}
	(void) gate_run(&rollup_move, EXPECT_ANY, metrics, gate_timestamptz(from),
					gate_timestamptz(until));
	return made;
}

/* The transaction that announced last: nobody else knows of it until it commits. */
static TransactionId announced_in = InvalidTransactionId;

/* Every number that was given out so far may be that of somebody who has not heard. */
static void
note_unaware(void)
{
	if (TransactionIdIsValid(announced_in) && announced_in == GetTopTransactionIdIfAny())
		return;
	(void) gate_run(&rollup_note, EXPECT_ANY,
					gate_datum(FullTransactionIdGetDatum(ReadNextFullTransactionId())));
}

static int64
announce(TimestampTz until)
{
	if (gate_run(&rollup_wanted, EXPECT_ANY, gate_timestamptz(until))->count == 0)
		return 0;
	announced_in = GetTopTransactionId();
	return gate_run(&rollup_announce, EXPECT_ANY, gate_timestamptz(until))->count;
}

typedef struct RollupWork
{
	int64 announced;
	int64 rolled; /* rows made of events */
	int64 merged; /* rows made of deltas */
} RollupWork;

/*
 * Not by waiting in line: those who cancel events would wait behind, for as long as the one
 * before keeps its transaction open.
 */
bool
rollup_lock_all(void)
{
	LOCKTAG tag = lock_tag(0);

	for (int i = 0; i < LOCK_ATTEMPTS; i++)
	{
		if (LockAcquire(&tag, ShareRowExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
			return true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_ATTEMPT_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

/* What can be done now; for the next part somebody calls again. */
static RollupWork
roll_up(void)
{
	RollupWork work = {0};
	GateRows *ready;

	if (!rollup_lock_all())
		return work;
	ready = gate_run_array(&rollup_ready, EXPECT_ANY, NULL, 0);
	for (int64 i = 0; i < ready->count; i++)
		work.rolled +=
			roll_step(gate_datum(row_datum(ready, i, 0)),
					  row_is_null(ready, i, 1) ? DT_NOBEGIN : row_timestamptz(ready, i, 1),
					  row_timestamptz(ready, i, 2));
	work.merged = gate_run(&rollup_merge, EXPECT_ANY, gate_int32(MERGED_HOURS))->count;
	note_unaware();
	work.announced = announce(meter_hour_of(clock_now() - SETTLING_TIME));
	return work;
}

static char *
run_rollup_job(void)
{
	RollupWork work = roll_up();

	return psprintf("{\"announced\": " INT64_FORMAT ", \"rolled\": " INT64_FORMAT
					", \"merged\": " INT64_FORMAT "}",
					work.announced, work.rolled, work.merged);
}

static const JobKind rollup_job = {
	.name = "usage.roll_up",
	.run = run_rollup_job,
	.every_seconds = SECONDS_BETWEEN_RUNS,
	.timeout_seconds = 10 * SECS_PER_MINUTE,
	.description = "rolls up usage events of hours that are over",
};

void
rollup_init(void)
{
	job_kind_register(&rollup_job);
}

/* usage_roll_up() → (announced bigint, rolled bigint, merged bigint) */
TENANCY_FUNCTION(usage_roll_up)
{
	RollupWork work;
	TupleDesc desc;
	Datum values[3];
	bool nulls[3] = {false};

	PreventCommandIfReadOnly("usage_roll_up()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	work = roll_up();
	values[0] = Int64GetDatum(work.announced);
	values[1] = Int64GetDatum(work.rolled);
	values[2] = Int64GetDatum(work.merged);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
