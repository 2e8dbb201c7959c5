/*
 * job/recurring.c
 *		Schedules: jobs that are enqueued again and again.
 *
 * The n-th time of a schedule is n intervals after its anchor, in the civil time of its zone
 * where the interval has days or months: 9 o'clock stays 9 o'clock.  A time that the clock
 * skips comes after the gap; of one that comes twice the second is taken, as PostgreSQL reads
 * it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "core/period.h"
#include "job/queue.h"
#include "job/queue_internal.h"
#include "job/schedule.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_FIRED 100
#define MAX_NAME_BYTES 100

/* Later than this a time has been missed, where misfires are skipped. */
#define PUNCTUAL_US USECS_PER_MINUTE

GATE_STATEMENT(schedule_change,
			   "UPDATE tenancy.schedule AS s"
			   "   SET every = coalesce($2, s.every), enabled = coalesce($3, s.enabled),"
			   "       next_run_at = CASE WHEN $2 IS NULL THEN s.next_run_at"
			   "                          ELSE least(s.next_run_at, $4 + $2) END"
			   " WHERE s.name = $1 RETURNING s",
			   TEXTOID, INTERVALOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(schedule_get,
			   "SELECT s.kind, s.every, s.enabled, s.arguments, s.tenant_id, s.anchor, s.zone,"
			   "       s.misfire, s.overlap"
			   "  FROM tenancy.schedule s WHERE s.name = $1 AND s.anchor IS NOT NULL FOR UPDATE",
			   TEXTOID);
GATE_STATEMENT(
	schedule_put,
	"INSERT INTO tenancy.schedule AS s (name, kind, every, enabled, arguments, tenant_id,"
	"    anchor, zone, misfire, overlap, next_run_at, fence, failures)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0)"
	" ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, every = excluded.every,"
	"    enabled = excluded.enabled, arguments = excluded.arguments,"
	"    tenant_id = excluded.tenant_id, anchor = excluded.anchor, zone = excluded.zone,"
	"    misfire = excluded.misfire, overlap = excluded.overlap,"
	"    next_run_at = excluded.next_run_at"
	" RETURNING s",
	TEXTOID, TEXTOID, INTERVALOID, BOOLOID, JSONBOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID,
	TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	schedule_delete,
	"DELETE FROM tenancy.schedule s WHERE s.name = $1 AND s.anchor IS NOT NULL RETURNING s",
	TEXTOID);
GATE_STATEMENT(
	schedule_due_recurring,
	"SELECT s.name, s.kind, s.every, s.arguments, s.tenant_id, s.anchor, s.zone, s.misfire,"
	"       s.next_run_at, s.overlap = 'skip' AND EXISTS"
	"           (SELECT FROM tenancy.job_pending j WHERE j.id = s.last_job)"
	"  FROM tenancy.schedule s"
	" WHERE s.enabled AND s.anchor IS NOT NULL AND s.next_run_at <= $1"
	" ORDER BY s.next_run_at LIMIT $2 FOR UPDATE OF s SKIP LOCKED",
	TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(
	schedule_fired,
	"UPDATE tenancy.schedule s SET next_run_at = $2, last_job = coalesce($3, s.last_job),"
	"       last_started_at = CASE WHEN $3 IS NULL THEN s.last_started_at ELSE $4 END,"
	"       last_error = $5, failures = CASE WHEN $5 IS NULL THEN 0 ELSE s.failures + 1 END"
	" WHERE s.name = $1",
	TEXTOID, TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID, TEXTOID);

typedef struct Rhythm
{
	TimestampTz anchor;
	Interval every;
	const char *zone;
} Rhythm;

static TimestampTz
nth_time(const Rhythm *rhythm, int64 n)
{
	Datum zone = CStringGetTextDatum(rhythm->zone);
	Interval span = {
		.month = (int32) (n * rhythm->every.month),
		.day = (int32) (n * rhythm->every.day),
		.time = n * rhythm->every.time,
	};
	Datum civil;

	if (rhythm->every.month == 0 && rhythm->every.day == 0)
		return rhythm->anchor + span.time;
	civil = DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(rhythm->anchor));
	civil = DirectFunctionCall2(timestamp_pl_interval, civil, IntervalPGetDatum(&span));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone, civil));
}

/* The number of the first time that is after "now"; times are numbered from the anchor, 0. */
static int64
first_after(const Rhythm *rhythm, TimestampTz now)
{
	/* No month is longer than 31 days, no day longer than 25 hours: so this is not too late. */
	int64 longest = rhythm->every.time + rhythm->every.day * 25 * USECS_PER_HOUR +
					rhythm->every.month * INT64CONST(31) * USECS_PER_DAY;
	int64 n = now < rhythm->anchor ? 0 : (now - rhythm->anchor) / longest;

	while (nth_time(rhythm, n) <= now)
		n++;
	return n;
}

/* Enqueue the jobs of one schedule that is due; its next time. */
static TimestampTz
fire(const GateRows *rows, int64 row, TimestampTz now, pg_uuid_t **last_job)
{
	Rhythm rhythm = {
		.anchor = row_timestamptz(rows, row, 5),
		.every = *DatumGetIntervalP(row_datum(rows, row, 2)),
		.zone = row_text(rows, row, 6),
	};
	int64 next = first_after(&rhythm, now);
	TimestampTz latest = next == 0 ? row_timestamptz(rows, row, 8) : nth_time(&rhythm, next - 1);
	TimestampTz planned = row_timestamptz(rows, row, 8);
	char *misfire = row_text(rows, row, 7);
	JobRequest request = {
		.kind = row_text(rows, row, 1),
		.tenant = row_uuid(rows, row, 4),
		.arguments = row_jsonb(rows, row, 3),
		.priority = JOB_MIDDLE_PRIORITY,
		.schedule = row_text(rows, row, 0),
		.run_at = latest,
	};

	if (strcmp(misfire, "all") == 0 && latest > planned)
	{
		/* One now; the others when the schedule is looked at again, which is at once. */
		request.run_at = planned;
		next = first_after(&rhythm, planned);
	}
	if (!row_bool(rows, row, 9) && !(strcmp(misfire, "skip") == 0 && now - latest > PUNCTUAL_US))
		*last_job = job_put(&request);
	return nth_time(&rhythm, next);
}

int
schedule_fire(void)
{
	TimestampTz now = clock_wall();
	GateRows *rows =
		gate_run(&schedule_due_recurring, EXPECT_ANY, gate_timestamptz(now), gate_int32(MAX_FIRED));

	for (int64 i = 0; i < rows->count; i++)
	{
		pg_uuid_t *job = NULL;
		char *error = NULL;
		TimestampTz next;

		/* A kind that was dropped must not stop the other schedules. */
		if (job_kind_entry(row_text(rows, i, 1)) == NULL)
		{
			error = psprintf("job kind \"%s\" does not exist", row_text(rows, i, 1));
			next = now + USECS_PER_HOUR;
		}
		else
			next = fire(rows, i, now, &job);
		gate_run(&schedule_fired, EXPECT_ONE, gate_text(row_text(rows, i, 0)),
				 gate_timestamptz(next), gate_uuid(job), gate_timestamptz(now), gate_text(error));
	}
	return (int) rows->count;
}

static void
require_every(const Interval *every)
{
	Interval shortest = {.time = USECS_PER_SEC};
	Interval longest = {.month = MONTHS_PER_YEAR};

	if (every->time < 0 || every->day < 0 || every->month < 0 ||
		DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(every),
										 IntervalPGetDatum(&shortest))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(every),
										 IntervalPGetDatum(&longest))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"every\" must be between one second and one year"));
}

static void
require_choice(const char *name, const char *value, const char *const *choices)
{
	for (int i = 0; choices[i] != NULL; i++)
	{
		if (strcmp(choices[i], value) == 0)
			return;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid value \"%s\" of argument \"%s\"", value, name));
}

/* The argument or, where it is null, what the schedule has, or the default of a new one. */
static NullableDatum
choose(FunctionCallInfo fcinfo, int n, const GateRows *rows, int column, NullableDatum otherwise)
{
	if (!PG_ARGISNULL(n))
		return fcinfo->args[n];
	if (rows->count == 0)
		return otherwise;
	return row_is_null(rows, 0, column) ? gate_null() : gate_datum(row_datum(rows, 0, column));
}

static Datum
set_recurring(FunctionCallInfo fcinfo, const char *name)
{
	static const char *const misfires[] = {"skip", "once", "all", NULL};
	static const char *const overlaps[] = {"skip", "allow", NULL};
	GateRows *rows = gate_run(&schedule_get, EXPECT_AT_MOST_ONE, gate_text(name));
	TimestampTz now = clock_wall();
	NullableDatum kind = choose(fcinfo, 1, rows, 0, gate_null());
	NullableDatum every = choose(fcinfo, 2, rows, 1, gate_null());
	NullableDatum enabled = choose(fcinfo, 3, rows, 2, gate_bool(true));
	NullableDatum arguments = choose(fcinfo, 4, rows, 3, gate_jsonb(json_empty_object()));
	NullableDatum tenant = choose(fcinfo, 5, rows, 4, gate_null());
	NullableDatum anchor = choose(fcinfo, 6, rows, 5, gate_timestamptz(now));
	NullableDatum zone = choose(fcinfo, 7, rows, 6, gate_text("UTC"));
	NullableDatum misfire = choose(fcinfo, 8, rows, 7, gate_text("once"));
	NullableDatum overlap = choose(fcinfo, 9, rows, 8, gate_text("skip"));
	Rhythm rhythm;

	if (kind.isnull || every.isnull)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("schedule \"%s\" does not exist", name),
				errhint("A new one needs the arguments \"kind\" and \"every\"."));
	if (*name == '\0' || strlen(name) > MAX_NAME_BYTES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the name of a schedule must have between 1 and %d bytes", MAX_NAME_BYTES));
	if (job_kind_entry(TextDatumGetCString(kind.value)) == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("job kind \"%s\" does not exist", TextDatumGetCString(kind.value)));
	job_kind_require_for_callers(TextDatumGetCString(kind.value));
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(arguments.value)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the arguments of a job must be a JSON object"));
	if (!tenant.isnull)
		(void) registry_get(DatumGetUUIDP(tenant.value));
	if (TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(anchor.value)))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("argument \"anchor\" must be a finite time"));
	require_every(DatumGetIntervalP(every.value));
	require_time_zone(TextDatumGetCString(zone.value));
	require_choice("misfire", TextDatumGetCString(misfire.value), misfires);
	require_choice("overlap", TextDatumGetCString(overlap.value), overlaps);

	rhythm = (Rhythm){
		.anchor = DatumGetTimestampTz(anchor.value),
		.every = *DatumGetIntervalP(every.value),
		.zone = TextDatumGetCString(zone.value),
	};
	return row_datum(gate_run(&schedule_put, EXPECT_ONE, gate_text(name), kind, every, enabled,
							  arguments, tenant, anchor, zone, misfire, overlap,
							  gate_timestamptz(nth_time(&rhythm, first_after(&rhythm, now)))),
					 0, 0);
}

/*
 * schedule_set(name text, kind text, every interval, enabled boolean, arguments jsonb,
 *     tenant regtenant, anchor timestamptz, zone text, misfire text, overlap text)
 *     → tenancy.schedule
 */
TENANCY_FUNCTION(schedule_set)
{
	char *name = required_text(fcinfo, 0, "name");
	const JobKind *kind = job_kind_find(name);

	context_require_none("changing a schedule");
	schedule_note_changed();
	if (kind == NULL)
		PG_RETURN_DATUM(set_recurring(fcinfo, name));
	if (!job_kind_is_periodic(kind))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("job kind \"%s\" is not scheduled", name),
				errhint("The view tenancy.job_kind lists those that are."));
	for (int n = 4; n < PG_NARGS(); n++)
	{
		if (!PG_ARGISNULL(n) || !PG_ARGISNULL(1))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("of job kind \"%s\" only \"every\" and \"enabled\" can be set", name));
	}
	if (!PG_ARGISNULL(2))
		require_every(PG_GETARG_INTERVAL_P(2));
	schedule_sync();
	PG_RETURN_DATUM(
		row_datum(gate_run(&schedule_change, EXPECT_ONE, gate_text(name), gate_argument(2),
						   gate_argument(3), gate_timestamptz(clock_wall())),
				  0, 0));
}

/* schedule_drop(name text) → tenancy.schedule */
TENANCY_FUNCTION(schedule_drop)
{
	char *name = required_text(fcinfo, 0, "name");
	GateRows *rows;

	context_require_none("dropping a schedule");
	rows = gate_run(&schedule_delete, EXPECT_AT_MOST_ONE, gate_text(name));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("schedule \"%s\" does not exist, or is one of the extension's own", name),
				errhint("The latter can be disabled with schedule_set()."));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
