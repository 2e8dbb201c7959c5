/*
 * usage/prune.c
 *		Retention: removing rows of usage events whose sums are kept.
 *
 * Removed are all events of a tenant and metric in an hour, once they are old enough, rolled up for
 * every metric that counts them, and before everything that a bill is still to be made of.  The
 * hour is noted in tenancy.usage_event_pruned in the same statement: from then on its rows in
 * tenancy.usage_rollup that are no deltas stand for themselves.  An event that comes for such an
 * hour later is kept like any other, with its delta, until it is removed in its turn.
 *
 * A bill is compared with all usage of its period again when some comes late, so that an hour in
 * which a period, or a part of one, began or ended can not be known by its sums alone: its events
 * stay.  Whoever asks for a part of an hour that is removed is refused, never told less.
 *
 * Lock rules.  The lock of the roll-ups, for itself (rollup.c), to the end of the transaction.
 * Recording is not shut out: what it adds in the meantime the one statement does not see.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "job/kind.h"
#include "meter/meter.h"
#include "usage/prune.h"
#include "usage/rollup.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

/* Tenants that one statement looks at. */
#define TENANTS_PER_STEP 100

/* A run of the job is one transaction: what is beyond is left to the next. */
#define STEPS_PER_RUN 50
#define EVENTS_PER_RUN 200000

#define SECONDS_BETWEEN_RUNS 300

#define LEAST_AGE USECS_PER_DAY

/* A round goes through all tenants; the next one begins when there is a day more to remove. */
#define TIME_BETWEEN_ROUNDS USECS_PER_DAY

/*
 * Events of the tenants $1 before $2 that may go, at most $3: but those since the times $5 of the
 * tenants $4, and those in an hour of the times $7 of the tenants $6.
 */
#define PRUNABLE                                                                                   \
	"WITH open AS (SELECT u.tenant_id, min(date_trunc('hour', u.since)) AS since"                  \
	"                FROM unnest($4, $5) AS u(tenant_id, since) GROUP BY u.tenant_id),"            \
	" cut AS (SELECT u.tenant_id, range_agg(tstzrange(date_trunc('hour', u.at),"                   \
	"                date_trunc('hour', u.at) + interval '1 hour')) AS hours"                      \
	"           FROM unnest($6, $7) AS u(tenant_id, at) GROUP BY u.tenant_id),"                    \
	" counted AS (SELECT m.event, min(coalesce(f.rolled_until, '-infinity')) AS until"             \
	"               FROM tenancy.metric m"                                                         \
	"               LEFT JOIN tenancy.usage_frontier f ON f.metric = m.name"                       \
	"              WHERE m.event IS NOT NULL GROUP BY m.event),"                                   \
	" prunable AS (SELECT p.* FROM unnest($1) AS t(id)"                                            \
	"     LEFT JOIN open o ON o.tenant_id = t.id LEFT JOIN cut x ON x.tenant_id = t.id"            \
	"     CROSS JOIN counted c"                                                                    \
	"     CROSS JOIN LATERAL ("                                                                    \
	"         SELECT e.tenant_id, e.metric, date_trunc('hour', e.occurred_at) AS hour"             \
	"           FROM tenancy.usage_event e"                                                        \
	"          WHERE e.tenant_id = t.id AND e.metric = c.event"                                    \
	"            AND e.occurred_at < least($2, o.since, c.until)"                                  \
	"            AND (x.hours IS NULL OR NOT x.hours @> e.occurred_at) LIMIT $3) p"                \
	"     LIMIT $3)"
#define PRUNABLE_TYPES                                                                             \
	UUIDARRAYOID, TIMESTAMPTZOID, INT8OID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, UUIDARRAYOID,        \
		TIMESTAMPTZARRAYOID

GATE_STATEMENT_ANEW(
	prune_step,
	PRUNABLE
	", chosen AS MATERIALIZED ("
	"    SELECT DISTINCT p.tenant_id, p.metric, p.hour,"
	"           EXTRACT(month FROM (p.hour AT TIME ZONE 'UTC'))::smallint AS month_of_year"
	"      FROM prunable p),"
	" gone AS (DELETE FROM tenancy.usage_event e USING chosen c"
	"           WHERE e.tenant_id = c.tenant_id AND e.metric = c.metric"
	"             AND e.occurred_at >= c.hour AND e.occurred_at < c.hour + interval '1 hour'"
	"             AND e.month_of_year = c.month_of_year RETURNING e.tenant_id),"
	" settled AS (UPDATE tenancy.usage_rollup r SET is_delta = false"
	"               FROM chosen c JOIN tenancy.metric m ON m.event = c.metric"
	"              WHERE r.tenant_id = c.tenant_id AND r.metric = m.name AND r.hour = c.hour"
	"                AND r.is_delta),"
	" noted AS (INSERT INTO tenancy.usage_event_pruned AS g (tenant_id, metric, hours)"
	"           SELECT c.tenant_id, c.metric,"
	"                  range_agg(tstzrange(c.hour, c.hour + interval '1 hour')) FROM chosen c"
	"            GROUP BY c.tenant_id, c.metric ORDER BY c.tenant_id, c.metric"
	"           ON CONFLICT (tenant_id, metric) DO UPDATE SET hours = g.hours + excluded.hours)"
	" SELECT (SELECT count(*) FROM gone), count(*), count(DISTINCT c.tenant_id),"
	"        (SELECT count(*) FROM prunable) FROM chosen c",
	PRUNABLE_TYPES);
GATE_STATEMENT_ANEW(prune_count,
					PRUNABLE " SELECT count(*), count(DISTINCT (p.tenant_id, p.metric, p.hour)),"
							 "        count(DISTINCT p.tenant_id), count(*) FROM prunable p",
					PRUNABLE_TYPES);
GATE_STATEMENT(prune_tenants,
			   "SELECT array_agg(n.id ORDER BY n.id), (array_agg(n.id ORDER BY n.id DESC))[1]"
			   "  FROM (SELECT t.id FROM tenancy.tenant t WHERE $1 IS NULL OR t.id > $1"
			   "         ORDER BY t.id LIMIT $2) n",
			   UUIDOID, INT4OID);
GATE_STATEMENT(prune_round, "SELECT r.after_tenant, r.until FROM tenancy.usage_prune_round r");
GATE_STATEMENT(prune_round_keep,
			   "INSERT INTO tenancy.usage_prune_round (id, after_tenant, until)"
			   " VALUES (true, $1, $2)"
			   " ON CONFLICT (id) DO UPDATE SET after_tenant = excluded.after_tenant,"
			   "                                until = excluded.until",
			   UUIDOID, TIMESTAMPTZOID);
GATE_LOOKUP(events_pruned,
			"SELECT u.tenant_id, u.metric, u.from_time, u.to_time"
			"  FROM unnest($1, $2, $3, $4) AS u(tenant_id, metric, from_time, to_time)"
			"  JOIN tenancy.metric m ON m.name = u.metric"
			"  JOIN tenancy.usage_event_pruned g ON g.tenant_id = u.tenant_id"
			"   AND g.metric = m.event AND g.hours && tstzrange(u.from_time, u.to_time)"
			" LIMIT 1",
			UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);

static UsageNeedsLister list_needs = NULL;

void
usage_set_needs_lister(UsageNeedsLister lister)
{
	list_needs = lister;
}

void
usage_require_events(NullableDatum tenants, NullableDatum metrics, NullableDatum from_times,
					 NullableDatum to_times)
{
	GateRows *rows =
		gate_run(&events_pruned, EXPECT_AT_MOST_ONE, tenants, metrics, from_times, to_times);

	if (rows->count == 0)
		return;
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("usage events of metric \"%s\" are not kept any more", row_text(rows, 0, 1)),
			errdetail("Of tenant %s those between %s and %s would have to be read.",
					  id_text(row_uuid(rows, 0, 0)),
					  pstrdup(timestamptz_to_str(row_timestamptz(rows, 0, 2))),
					  pstrdup(timestamptz_to_str(row_timestamptz(rows, 0, 3)))),
			errhint("Of the time that \"tenancy.usage_event_retention\" has left behind, full "
					"hours in UTC are known."));
}

typedef struct Pruned
{
	int64 events;
	int64 hours; /* of tenants and metrics */
	int64 tenants;
	bool is_finished;
} Pruned;

/* What is older may go; the beginning of time where all is kept for ever. */
static TimestampTz
retention_end(void)
{
	if (setting_usage_event_retention == 0)
		return DT_NOBEGIN;
	return meter_hour_of(clock_now() - setting_usage_event_retention * USECS_PER_MINUTE);
}

/* What is older than an age that was asked for. */
static TimestampTz
age_end(Interval *age)
{
	TimestampTz now = clock_now();
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(now), IntervalPGetDatum(age)));

	if (end > now - LEAST_AGE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"older_than\" must be at least a day"));
	return meter_hour_of(end);
}

/* Of some tenants; were there more than the most that may go? */
static bool
prune_some(GateStatement *statement, NullableDatum tenants, TimestampTz until, int64 most,
		   Pruned *pruned)
{
	UsageNeeds needs;
	GateRows *rows;

	column_begin(&needs.open_tenants, UUIDOID);
	column_begin(&needs.open_since, TIMESTAMPTZOID);
	column_begin(&needs.cut_tenants, UUIDOID);
	column_begin(&needs.cut_at, TIMESTAMPTZOID);
	if (list_needs != NULL)
		list_needs(tenants, &needs);
	rows = gate_run(statement, EXPECT_ONE, tenants, gate_timestamptz(until), gate_int64(most),
					column_array(&needs.open_tenants), column_array(&needs.open_since),
					column_array(&needs.cut_tenants), column_array(&needs.cut_at));
	pruned->events += row_int64(rows, 0, 0);
	pruned->hours += row_int64(rows, 0, 1);
	pruned->tenants += row_int64(rows, 0, 2);
	return row_int64(rows, 0, 3) >= most;
}

/*
 * Of the tenants after one, NULL for all; who was the last that had its turn, NULL when all have
 * had theirs.  A tenant whose turn was cut short has it again.
 */
static pg_uuid_t *
prune_from(pg_uuid_t *after, TimestampTz until, int64 most, int steps, Pruned *pruned)
{
	for (int i = 0; i < steps; i++)
	{
		GateRows *rows =
			gate_run(&prune_tenants, EXPECT_ONE, gate_uuid(after), gate_int32(TENANTS_PER_STEP));

		CHECK_FOR_INTERRUPTS();
		if (row_is_null(rows, 0, 0))
		{
			pruned->is_finished = true;
			return NULL;
		}
		if (pruned->events >= most || prune_some(&prune_step, gate_datum(row_datum(rows, 0, 0)),
												 until, most - pruned->events, pruned))
			return after;
		after = row_uuid(rows, 0, 1);
	}
	return after;
}

static void
count_prunable(TimestampTz until, Pruned *pruned)
{
	pg_uuid_t *after = NULL;
	GateRows *rows;

	while (rows =
			   gate_run(&prune_tenants, EXPECT_ONE, gate_uuid(after), gate_int32(TENANTS_PER_STEP)),
		   !row_is_null(rows, 0, 0))
	{
		CHECK_FOR_INTERRUPTS();
		(void) prune_some(&prune_count, gate_datum(row_datum(rows, 0, 0)), until, PG_INT64_MAX,
						  pruned);
		after = row_uuid(rows, 0, 1);
	}
	pruned->is_finished = true;
}

static char *
run_prune_job(void)
{
	Pruned pruned = {0};
	pg_uuid_t *after = NULL;
	TimestampTz until;
	GateRows *round;

	until = retention_end();
	if (TIMESTAMP_IS_NOBEGIN(until))
		return NULL;
	round = gate_run_array(&prune_round, EXPECT_AT_MOST_ONE, NULL, 0);
	if (round->count == 1)
	{
		after = row_uuid(round, 0, 0);
		if (after == NULL && until < row_timestamptz(round, 0, 1) + TIME_BETWEEN_ROUNDS)
			return NULL;
	}
	if (!rollup_lock_all())
		return NULL;
	/* A round keeps to the time that it began with, so that the next one is a day later. */
	if (after != NULL)
		until = Min(until, row_timestamptz(round, 0, 1));
	after = prune_from(after, until, EVENTS_PER_RUN, STEPS_PER_RUN, &pruned);
	/* Nobody had his turn: begin where this run began, with the lowest of ids. */
	if (after == NULL && !pruned.is_finished)
		after = palloc0(sizeof(pg_uuid_t));
	(void) gate_run(&prune_round_keep, EXPECT_ONE, gate_uuid(after), gate_timestamptz(until));
	return psprintf("{\"events\": " INT64_FORMAT ", \"hours\": " INT64_FORMAT
					", \"tenants\": " INT64_FORMAT "}",
					pruned.events, pruned.hours, pruned.tenants);
}

static const JobKind prune_job = {
	.name = "usage.prune",
	.run = run_prune_job,
	.every_seconds = SECONDS_BETWEEN_RUNS,
	.timeout_seconds = 10 * SECS_PER_MINUTE,
	.description = "removes usage events that are older than their retention",
};

void
prune_init(void)
{
	job_kind_register(&prune_job);
}

/*
 * usage_event_prune(dry_run boolean, older_than interval, max_events integer)
 *     → (events bigint, hours bigint, tenants bigint, finished boolean)
 */
TENANCY_FUNCTION(usage_event_prune)
{
	Pruned pruned = {0};
	TimestampTz until;
	bool is_dry_run;
	int32 most;
	TupleDesc desc;
	Datum values[4];
	bool nulls[4] = {false};

	require_argument(fcinfo, 0, "dry_run");
	require_argument(fcinfo, 2, "max_events");
	is_dry_run = PG_GETARG_BOOL(0);
	until = PG_ARGISNULL(1) ? retention_end() : age_end(PG_GETARG_INTERVAL_P(1));
	most = PG_GETARG_INT32(2);
	if (most < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_events\" must be at least 1"));
	if (!is_dry_run)
		PreventCommandIfReadOnly("usage_event_prune()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	extension_require();
	if (TIMESTAMP_IS_NOBEGIN(until))
		pruned.is_finished = true;
	else if (is_dry_run)
		count_prunable(until, &pruned);
	else if (!rollup_lock_all())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("usage events are being rolled up or cancelled"), errhint("Try again."));
	else
		(void) prune_from(NULL, until, most, INT_MAX, &pruned);
	values[0] = Int64GetDatum(pruned.events);
	values[1] = Int64GetDatum(pruned.hours);
	values[2] = Int64GetDatum(pruned.tenants);
	values[3] = BoolGetDatum(pruned.is_finished);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
