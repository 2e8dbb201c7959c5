/*
 * job/schedule.c
 *		When each kind of periodic work is due, and running it.
 *
 * A run is claimed and committed, then done, then its outcome is committed together
 * with the work.  The claim is a lease with a fencing number: when its holder dies the
 * lease ends and another may claim, and what the first might still report is discarded
 * because its number is no longer the row's.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/state.h"
#include "core/transaction.h"
#include "job/command.h"
#include "job/endpoint.h"
#include "job/outbox.h"
#include "job/queue.h"
#include "job/schedule.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

/* A failure is tried again after 30 s, 1 min, 2 min … up to the interval, a quarter more or less.
 */
#define RETRY_DELAY                                                                                \
	"least(s.every, interval '30 seconds' * (2 ^ least(s.failures, 20)))"                          \
	" * (0.75 + 0.5 * pg_catalog.random())"

#define CUT_OFF_ERROR "the run was cut off by a crash or a shutdown"
#define CUT_OFF_SQLSTATE "57P02" /* crash_shutdown */

GATE_STATEMENT(
	schedule_add,
	"INSERT INTO tenancy.schedule (name, kind, every, next_run_at, enabled, fence, failures)"
	" VALUES ($1, $1, pg_catalog.make_interval(secs => $2), $3, true, 0, 0)"
	" ON CONFLICT (name) DO NOTHING",
	TEXTOID, FLOAT8OID, TIMESTAMPTZOID);
GATE_STATEMENT(schedule_claim_next,
			   "UPDATE tenancy.schedule AS s"
			   "   SET fence = s.fence + 1, last_started_at = $1,"
			   "       lease_until = $1 + interval '1 minute' + due.timeout * interval '1 second'"
			   "  FROM (SELECT d.kind, k.timeout"
			   "          FROM tenancy.schedule d"
			   "          JOIN unnest($2, $3) AS k(kind, timeout) ON k.kind = d.kind"
			   "         WHERE d.enabled AND d.next_run_at <= $1"
			   "           AND (d.lease_until IS NULL OR d.lease_until <= $1)"
			   "         ORDER BY d.next_run_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED) AS due"
			   " WHERE s.kind = due.kind"
			   " RETURNING s.kind, s.fence",
			   TIMESTAMPTZOID, TEXTARRAYOID, INT4ARRAYOID);
GATE_STATEMENT(
	job_run_start,
	"INSERT INTO tenancy.job_run (id, kind, state, started_at) VALUES ($1, $2, 'running', $3)",
	UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(job_run_end,
			   "UPDATE tenancy.job_run SET state = $2, finished_at = $3, error = $4, sqlstate = $5,"
			   "       result = $6::jsonb"
			   " WHERE id = $1 AND state = 'running'",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID);

/* A claim that nobody holds any more: its run has failed, and the next one waits. */
GATE_STATEMENT(
	schedule_recover_all,
	"WITH dead AS (SELECT d.kind FROM tenancy.schedule d"
	"               WHERE d.lease_until IS NOT NULL FOR UPDATE SKIP LOCKED)"
	" UPDATE tenancy.schedule AS s"
	"    SET lease_until = NULL, fence = s.fence + 1, last_finished_at = $1, last_error = $2,"
	"        failures = s.failures + 1, next_run_at = $1 + " RETRY_DELAY
	"   FROM dead WHERE s.kind = dead.kind RETURNING s.kind",
	TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(
	job_run_cut_off,
	"UPDATE tenancy.job_run AS r SET state = $1, finished_at = $2, error = $3, sqlstate = $4"
	" WHERE r.state = 'running' AND r.kind = $5",
	TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID);

/* What runs too late is run once. */
GATE_STATEMENT(schedule_end,
			   "UPDATE tenancy.schedule AS s"
			   "   SET lease_until = NULL, last_finished_at = $3, last_error = $4,"
			   "       failures = CASE WHEN $4 IS NULL THEN 0 ELSE s.failures + 1 END,"
			   "       next_run_at = CASE"
			   "           WHEN $4 IS NULL THEN greatest(s.next_run_at + s.every, $3)"
			   "           ELSE $3 + " RETRY_DELAY " END"
			   " WHERE s.kind = $1 AND s.fence = $2",
			   TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(
	schedule_due,
	"SELECT pg_catalog.min(greatest(s.next_run_at, coalesce(s.lease_until, s.next_run_at)))"
	"  FROM tenancy.schedule s"
	" WHERE s.enabled AND (s.anchor IS NOT NULL OR s.kind = ANY ($1))",
	TEXTARRAYOID);
GATE_STATEMENT(job_run_expire,
			   "DELETE FROM tenancy.job_run WHERE started_at < $1 - interval '30 days'",
			   TIMESTAMPTZOID);

static const StateMove moves[] = {
	{"running", "succeed", "succeeded"},
	{"running", "fail", "failed"},
};

static StateMachine job_run_states = {
	.name = "job run",
	.table = "tenancy.job_run",
	.moves = moves,
	.move_count = lengthof(moves),
};

/* A run is one transaction: what is beyond is left to the next. */
#define MAX_EXPIRED 500000

/* Has this process changed a schedule that the launcher has not heard of? */
static bool is_changed = false;

void
schedule_note_changed(void)
{
	is_changed = true;
	transaction_watch();
}

static char *
run_retention_job(void)
{
	GateRows *rows = gate_run(&job_run_expire, EXPECT_ANY, gate_timestamptz(clock_now()));

	return psprintf("{\"runs\": " INT64_FORMAT ", \"events\": " INT64_FORMAT
					", \"jobs\": " INT64_FORMAT "}",
					rows->count, outbox_expire(MAX_EXPIRED), job_expire(MAX_EXPIRED));
}

static const JobKind retention_job = {
	.name = "job.retention",
	.run = run_retention_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = 5 * SECS_PER_MINUTE,
	.description = "deletes old runs, events and finished jobs",
};

void
job_init(void)
{
	state_machine_register(&job_run_states);
	job_kind_register(&retention_job);
	queue_init();
	endpoint_init();
	command_init();
}

static NullableDatum
scheduled_kinds(void)
{
	const char **names = palloc(sizeof(char *) * job_kind_count());
	int count = 0;

	for (int i = 0; i < job_kind_count(); i++)
	{
		if (job_kind_is_periodic(job_kind(i)))
			names[count++] = job_kind(i)->name;
	}
	return gate_text_array(names, count);
}

/* In the order of scheduled_kinds(). */
static NullableDatum
scheduled_timeouts(void)
{
	Datum *timeouts = palloc(sizeof(Datum) * job_kind_count());
	int count = 0;

	for (int i = 0; i < job_kind_count(); i++)
	{
		if (job_kind_is_periodic(job_kind(i)))
			timeouts[count++] = Int32GetDatum(job_kind(i)->timeout_seconds);
	}
	return gate_datum(PointerGetDatum(
		construct_array(timeouts, count, INT4OID, sizeof(int32), true, TYPALIGN_INT)));
}

/* The runs of a kind whose lease is over. */
static void
fail_cut_off(const char *kind)
{
	gate_run(&job_run_cut_off, EXPECT_ANY,
			 gate_text(state_after(&job_run_states, "running", "fail", kind)),
			 gate_timestamptz(clock_wall()), gate_text(CUT_OFF_ERROR), gate_text(CUT_OFF_SQLSTATE),
			 gate_text(kind));
}

void
schedule_recover(void)
{
	GateRows *rows = gate_run(&schedule_recover_all, EXPECT_ANY, gate_timestamptz(clock_wall()),
							  gate_text(CUT_OFF_ERROR));

	for (int64 i = 0; i < rows->count; i++)
		fail_cut_off(row_text(rows, i, 0));
}

static void
start_run(const pg_uuid_t *id, const JobKind *kind)
{
	gate_run(&job_run_start, EXPECT_ONE, gate_uuid(id), gate_text(kind->name),
			 gate_timestamptz(clock_wall()));
}

/* False where the run was ended by somebody else. */
static bool
end_run(const pg_uuid_t *id, const JobKind *kind, const JobOutcome *outcome)
{
	const char *event = outcome->error == NULL ? "succeed" : "fail";
	GateRows *rows = gate_run(&job_run_end, EXPECT_AT_MOST_ONE, gate_uuid(id),
							  gate_text(state_after(&job_run_states, "running", event, kind->name)),
							  gate_timestamptz(clock_wall()), gate_text(outcome->error),
							  gate_text(outcome->sqlstate), gate_text(outcome->result));

	return rows->count == 1;
}

void
schedule_sync(void)
{
	for (int i = 0; i < job_kind_count(); i++)
	{
		const JobKind *kind = job_kind(i);

		if (job_kind_is_periodic(kind))
			gate_run(&schedule_add, EXPECT_ANY, gate_text(kind->name),
					 gate_datum(Float8GetDatum(kind->every_seconds)),
					 gate_timestamptz(clock_wall()));
	}
}

bool
schedule_claim(JobClaim *claim)
{
	GateRows *rows =
		gate_run(&schedule_claim_next, EXPECT_AT_MOST_ONE, gate_timestamptz(clock_wall()),
				 scheduled_kinds(), scheduled_timeouts());

	if (rows->count == 0)
		return false;
	claim->kind = job_kind_find(row_text(rows, 0, 0));
	claim->fence = row_int64(rows, 0, 1);
	claim->run = *id_new();
	fail_cut_off(claim->kind->name);
	start_run(&claim->run, claim->kind);
	return true;
}

typedef struct Work
{
	const JobKind *kind;
	char *result;
} Work;

static void
do_work(void *argument)
{
	Work *work = argument;

	work->result = work->kind->run();
}

JobOutcome
schedule_run(const JobKind *kind, CancelPolicy on_cancel)
{
	Work work = {kind};
	JobOutcome outcome = {0};
	ErrorData *error =
		on_cancel == CANCEL_RAISES
			? attempt_within(kind->name, do_work, &work, kind->timeout_seconds)
			: attempt_cancellable(kind->name, do_work, &work);

	if (error == NULL)
	{
		outcome.result = work.result;
		return outcome;
	}
	outcome.error = error->message;
	outcome.sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	return outcome;
}

bool
schedule_finish(const JobClaim *claim, const JobOutcome *outcome)
{
	GateRows *rows = gate_run(&schedule_end, EXPECT_AT_MOST_ONE, gate_text(claim->kind->name),
							  gate_int64(claim->fence), gate_timestamptz(clock_wall()),
							  gate_text(outcome->error));

	return rows->count == 1 && end_run(&claim->run, claim->kind, outcome);
}

void
schedule_note_failure(const JobKind *kind, const JobOutcome *outcome)
{
	pg_uuid_t run = *id_new();

	start_run(&run, kind);
	(void) end_run(&run, kind, outcome);
}

bool
schedule_take_changed(void)
{
	bool result = is_changed;

	is_changed = false;
	return result;
}

TimestampTz
schedule_next_due(void)
{
	GateRows *rows = gate_run(&schedule_due, EXPECT_ONE, scheduled_kinds());

	return row_is_null(rows, 0, 0) ? DT_NOEND : row_timestamptz(rows, 0, 0);
}
