/*
 * job/queue.c
 *		Jobs at work: claims, and how they end.
 *
 * A claim is a lease with a fencing number.  The lease ends when its time is over or, where a
 * backend of this server holds it, when that backend is gone; the job has then failed once
 * and is tried again as its policy says.  Whoever still reports under the old number is
 * refused, so that what he did in the same transaction is undone.
 *
 * A job that ends moves to tenancy.job_done in one statement.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "core/state.h"
#include "job/endpoint.h"
#include "job/line.h"
#include "job/queue.h"
#include "job/queue_internal.h"
#include "job/retry.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

/* Longer than its timeout no attempt may hold a job; what ends it needs a moment. */
#define LEASE_MARGIN_SECONDS 60

#define RESCUE_INTERVAL_US USECS_PER_SEC
#define MAX_RESCUED 1000
#define MAX_ERROR_BYTES 2000
#define MAX_KEPT_FAILURES 25

#define LOST_ERROR "the worker is gone, or has not been heard of in time"
#define LOST_SQLSTATE "57P02" /* crash_shutdown */
#define BLOCKED_ERROR "a job that it depends on has not succeeded"
#define BLOCKED_SQLSTATE "55000" /* object_not_in_prerequisite_state */

GATE_STATEMENT_BY_INDEX(
	job_claim_many,
	"WITH claimed AS ("
	"    UPDATE tenancy.job_pending j"
	"       SET attempt = j.attempt + 1, fence = j.fence + 1, started_at = $2,"
	"           lease_until = $2 + least(coalesce($4, j.timeout + 60), j.timeout + 60)"
	"                              * interval '1 second',"
	"           worker_pid = $5, worker_since = $6"
	"     WHERE j.ctid = ANY (ARRAY("
	"         SELECT r.ctid FROM tenancy.job_pending r"
	"          WHERE r.lane = $1 AND r.state = 'ready' AND r.lease_until IS NULL"
	"          ORDER BY r.rank LIMIT $3 FOR UPDATE SKIP LOCKED))"
	"    RETURNING j.id, j.fence, j.tenant_id, j.arguments, j.attempt, j.lease_until,"
	"              j.kind, j.timeout, j.rank, j.priority)"
	" SELECT c.id, c.fence, c.tenant_id, c.arguments, c.attempt, c.lease_until,"
	"        c.kind, c.timeout, c.rank, c.priority"
	"   FROM claimed c ORDER BY c.rank",
	TEXTOID, TIMESTAMPTZOID, INT4OID, FLOAT8OID, INT4OID, TIMESTAMPTZOID);

#define DONE_COLUMNS                                                                               \
	"id, kind, tenant_id, outcome, priority, run_at, attempt, max_attempts, timeout, fence,"       \
	" started_at, enqueued_at, finished_at, arguments, retry, unique_key, schedule, failures,"     \
	" result"
#define DONE_VALUES(state, now, failures, result)                                                  \
	"g.id, g.kind, g.tenant_id, " state ", g.priority, g.run_at, g.attempt, g.max_attempts,"       \
	" g.timeout, g.fence, g.started_at, g.enqueued_at, " now ", g.arguments, g.retry,"             \
	" g.unique_key, g.schedule, " failures ", " result
#define GONE_COLUMNS                                                                               \
	"j.id, j.kind, j.tenant_id, j.priority, j.run_at, j.attempt, j.max_attempts, j.timeout,"       \
	" j.fence, j.started_at, j.enqueued_at, j.arguments, j.retry, j.unique_key, j.schedule,"       \
	" j.failures, j.has_dependents, j.is_limited"

GATE_STATEMENT(
	job_succeed_many,
	"WITH gone AS ("
	"    DELETE FROM tenancy.job_pending j USING unnest($1, $2, $3) AS e(id, fence, result)"
	"     WHERE j.id = e.id AND j.fence = e.fence AND j.lease_until IS NOT NULL"
	"    RETURNING " GONE_COLUMNS ", e.result),"
	" kept AS ("
	"    INSERT INTO tenancy.job_done (" DONE_COLUMNS ")"
	"    SELECT " DONE_VALUES(
		"'succeeded'", "$4", "g.failures",
		"g.result") "      FROM gone g)"
					" SELECT g.id, g.tenant_id, g.has_dependents, g.is_limited FROM gone g",
	UUIDARRAYOID, INT8ARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID);
/* As it is now, claimed or not, where no fence is given. */
GATE_STATEMENT(job_end_one,
			   "WITH gone AS ("
			   "    DELETE FROM tenancy.job_pending j"
			   "     WHERE j.id = $1 AND ($2 IS NULL OR j.fence = $2 AND j.lease_until IS NOT NULL)"
			   "    RETURNING " GONE_COLUMNS "),"
			   " kept AS ("
			   "    INSERT INTO tenancy.job_done (" DONE_COLUMNS ")"
			   "    SELECT " DONE_VALUES(
				   "$3", "$4", "coalesce(g.failures, '[]') || $5",
				   "NULL") "      FROM gone g)"
						   " SELECT g.id, g.tenant_id, g.has_dependents, g.is_limited FROM gone g",
			   UUIDOID, INT8OID, TEXTOID, TIMESTAMPTZOID, JSONBOID);
#define FOR_END                                                                                    \
	"SELECT j.kind, j.attempt, j.max_attempts, j.retry, j.started_at, j.tenant_id,"                \
	"       j.is_limited, coalesce(pg_catalog.jsonb_array_length(j.failures), 0)"                  \
	"  FROM tenancy.job_pending j"                                                                 \
	" WHERE j.id = $1 AND j.fence = $2 AND j.lease_until IS NOT NULL FOR UPDATE"
GATE_STATEMENT(job_for_end, FOR_END, UUIDOID, INT8OID);
/* What somebody else is settling needs no rescue, and nobody is to wait for him. */
GATE_STATEMENT(job_for_rescue, FOR_END " SKIP LOCKED", UUIDOID, INT8OID);
GATE_STATEMENT(
	job_try_again,
	"UPDATE tenancy.job_pending j"
	"   SET state = 'scheduled', rank = NULL, run_at = $3, lease_until = NULL,"
	"       worker_pid = NULL, worker_since = NULL, is_limited = false,"
	"       attempt = j.attempt - $4, failures = CASE WHEN $5 IS NULL THEN j.failures"
	"           ELSE (CASE WHEN pg_catalog.jsonb_array_length(j.failures) >= $6"
	"                      THEN j.failures - 0 ELSE coalesce(j.failures, '[]') END) || $5 END"
	" WHERE j.id = $1 AND j.fence = $2 AND j.lease_until IS NOT NULL"
	" RETURNING j.tenant_id, j.lane",
	UUIDOID, INT8OID, TIMESTAMPTZOID, INT4OID, JSONBOID, INT4OID);
GATE_STATEMENT(job_release_dependents,
			   "WITH freed AS (DELETE FROM tenancy.job_dependency d WHERE d.depends_on = ANY ($1)"
			   "               RETURNING d.job_id),"
			   " counted AS (SELECT f.job_id, pg_catalog.count(*)::integer AS n"
			   "               FROM freed f GROUP BY f.job_id)"
			   " UPDATE tenancy.job_pending j SET blocked_by = j.blocked_by - c.n,"
			   "        state = CASE WHEN j.blocked_by = c.n THEN 'scheduled' ELSE j.state END"
			   "   FROM counted c WHERE j.id = c.job_id AND j.state = 'blocked'",
			   UUIDARRAYOID);
GATE_STATEMENT(job_dependents,
			   "DELETE FROM tenancy.job_dependency d WHERE d.depends_on = $1 RETURNING d.job_id",
			   UUIDOID);
GATE_STATEMENT(job_forget_dependencies, "DELETE FROM tenancy.job_dependency d WHERE d.job_id = $1",
			   UUIDOID);
GATE_STATEMENT_BY_INDEX(
	job_claimed,
	"SELECT j.id, j.fence, j.rank, j.lease_until <= $3, coalesce(j.worker_pid, 0),"
	"       coalesce(j.worker_since, $3)"
	"  FROM tenancy.job_pending j"
	" WHERE j.lane = $1 AND j.state = 'ready' AND j.rank <= $2"
	"   AND j.lease_until IS NOT NULL"
	" ORDER BY j.rank LIMIT $4",
	TEXTOID, INT8OID, TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(job_client_lanes,
			   "SELECT d.name FROM tenancy.job_kind_defined d WHERE d.procedure IS NULL");
GATE_STATEMENT(job_first_due, "SELECT pg_catalog.min(j.run_at) FROM tenancy.job_pending j"
							  " WHERE j.state = 'scheduled'");
GATE_STATEMENT(job_any_ready,
			   "SELECT FROM tenancy.job_pending j"
			   " WHERE j.lane = $1 AND j.state = 'ready' AND j.lease_until IS NULL LIMIT 1",
			   TEXTOID);
GATE_STATEMENT(
	job_done_expire,
	"DELETE FROM tenancy.job_done d WHERE d.ctid = ANY (ARRAY("
	"    SELECT o.ctid FROM tenancy.job_done o"
	"     WHERE o.finished_at < $1 - $2 * interval '1 second' AND o.outcome <> 'discarded'"
	"        OR o.finished_at < $1 - 4 * $2 * interval '1 second'"
	"     LIMIT $3))",
	TIMESTAMPTZOID, INT4OID, INT8OID);
GATE_STATEMENT(job_done_trim,
			   "DELETE FROM tenancy.job_done d WHERE d.ctid = ANY (ARRAY("
			   "    SELECT n.ctid FROM (SELECT o.ctid, pg_catalog.row_number() OVER"
			   "            (PARTITION BY o.kind ORDER BY o.finished_at DESC) AS number"
			   "        FROM tenancy.job_done o WHERE o.outcome = 'succeeded') n"
			   "     WHERE n.number > $1 LIMIT $2))",
			   INT4OID, INT8OID);
GATE_STATEMENT(job_key_expire,
			   "DELETE FROM tenancy.job_key k"
			   " WHERE NOT EXISTS (SELECT FROM tenancy.job_pending p WHERE p.id = k.job_id)"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_done d WHERE d.id = k.job_id)");

/* "Running" is no state of its own: a ready job with a lease.  What is finished is elsewhere. */
static const StateMove moves[] = {
	{"blocked", "release", "scheduled"}, {"scheduled", "hold", "held"},
	{"scheduled", "promote", "ready"},   {"held", "admit", "ready"},
	{"ready", "hold", "held"},           {"ready", "retry", "scheduled"},
};

static StateMachine job_states = {
	.name = "job",
	.table = "tenancy.job_pending",
	.moves = moves,
	.move_count = lengthof(moves),
};

void
queue_init(void)
{
	state_machine_register(&job_states);
	line_init();
	holder_init();
}

GateRows *
job_claim_rows(const JobClaimRequest *request)
{
	int64 place = 0;
	int64 highest = 0;
	GateRows *rows;

	job_promote();
	rows = gate_run(&job_claim_many, EXPECT_ANY, gate_text(request->lane),
					gate_timestamptz(clock_wall()), gate_int32(request->max_jobs),
					request->lease_ms > 0 ? gate_datum(Float8GetDatum(request->lease_ms / 1000.0))
										  : gate_null(),
					request->is_bound ? gate_int32(MyProcPid) : gate_null(),
					request->is_bound ? gate_timestamptz(holder_publish()) : gate_null());
	for (int64 i = 0; i < rows->count; i++)
	{
		int64 rank = row_int64(rows, i, 8);
		int16 priority = DatumGetInt16(row_datum(rows, i, 9));

		place = Max(place, rank - (int64) priority * PLACES_A_PRIORITY);
		highest = Max(highest, rank);
	}
	if (rows->count > 0)
		line_advance(request->lane, place, highest);
	return rows;
}

bool
job_claim_next(const char *lane, QueuedJob *job)
{
	JobClaimRequest request = {.lane = lane, .max_jobs = 1, .is_bound = true};
	GateRows *rows = job_claim_rows(&request);

	if (rows->count == 0)
		return false;
	job->id = *row_uuid(rows, 0, 0);
	job->fence = row_int64(rows, 0, 1);
	job->tenant = row_uuid(rows, 0, 2);
	job->arguments = row_jsonb(rows, 0, 3);
	job->attempt = row_int32(rows, 0, 4);
	job->kind = row_text(rows, 0, 6);
	job->timeout_seconds = row_int32(rows, 0, 7);
	return true;
}

static Jsonb *
failure_entry(const JobFailure *failure, int attempt, const NullableDatum *started_at)
{
	JsonBuilder builder;
	char *error = pstrdup(failure->error == NULL ? "failed" : failure->error);

	error[pg_mbcliplen(error, strlen(error), MAX_ERROR_BYTES)] = '\0';
	json_begin(&builder);
	json_put_int64(&builder, "attempt", attempt);
	if (!started_at->isnull)
		json_put_time(&builder, "started_at", DatumGetTimestampTz(started_at->value));
	json_put_time(&builder, "failed_at", clock_wall());
	json_put_text(&builder, "error", error);
	if (failure->sqlstate != NULL)
		json_put_text(&builder, "sqlstate", failure->sqlstate);
	if (failure->evidence != NULL)
		json_put_jsonb(&builder, "evidence", failure->evidence);
	return json_end(&builder);
}

static void end_badly(const pg_uuid_t *id, const int64 *fence, const char *state,
					  const Jsonb *entry);

/* Jobs that wait for one that will not succeed. */
static void
discard_dependents(const pg_uuid_t *id)
{
	static const JobFailure blocked = {.error = BLOCKED_ERROR, .sqlstate = BLOCKED_SQLSTATE};
	GateRows *rows = gate_run(&job_dependents, EXPECT_ANY, gate_uuid(id));
	NullableDatum never = gate_null();

	for (int64 i = 0; i < rows->count; i++)
	{
		check_stack_depth();
		end_badly(row_uuid(rows, i, 0), NULL, "discarded", failure_entry(&blocked, 0, &never));
	}
}

/* Rows (id, tenant, has dependents, is limited) have succeeded: who waited for them may go on. */
static void
let_others_in(const GateRows *rows, bool succeeded)
{
	pg_uuid_t *depended_on = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));
	int count = 0;

	for (int64 i = 0; i < rows->count; i++)
	{
		if (row_bool(rows, i, 2))
			depended_on[count++] = *row_uuid(rows, i, 0);
	}
	if (count > 0 && succeeded)
	{
		gate_run(&job_release_dependents, EXPECT_ANY, gate_uuid_array(depended_on, count));
		job_promote();
	}
	for (int i = 0; i < count && !succeeded; i++)
		discard_dependents(&depended_on[i]);
	for (int64 i = 0; i < rows->count; i++)
	{
		if (row_bool(rows, i, 3))
			job_admit(row_uuid(rows, i, 1));
	}
}

GateRows *
job_succeed_rows(const NullableDatum *ids, const NullableDatum *fences,
				 const NullableDatum *results)
{
	GateRows *rows = gate_run(&job_succeed_many, EXPECT_ANY, *ids, *fences, *results,
							  gate_timestamptz(clock_wall()));

	let_others_in(rows, true);
	return rows;
}

bool
job_succeed(const QueuedJob *job, const Jsonb *result)
{
	Datum document = JsonbPGetDatum(result);
	NullableDatum ids = gate_uuid_array(&job->id, 1);
	NullableDatum fences = gate_int64_array(&job->fence, 1);
	NullableDatum results = result == NULL ? gate_null() : gate_array(&document, 1, JSONBOID);

	return job_succeed_rows(&ids, &fences, &results)->count == 1;
}

static void
end_badly(const pg_uuid_t *id, const int64 *fence, const char *state, const Jsonb *entry)
{
	GateRows *rows = gate_run(&job_end_one, EXPECT_AT_MOST_ONE, gate_uuid(id),
							  fence == NULL ? gate_null() : gate_int64(*fence), gate_text(state),
							  gate_timestamptz(clock_wall()), gate_jsonb(entry));

	let_others_in(rows, false);
	if (rows->count > 0)
		gate_run(&job_forget_dependencies, EXPECT_ANY, gate_uuid(id));
}

/* A job whose tenant is limited makes room for another when it goes back. */
static void
go_back(const pg_uuid_t *id, int64 fence, TimestampTz until, int uncounted, const Jsonb *entry,
		bool was_limited)
{
	GateRows *rows = gate_run(&job_try_again, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_int64(fence),
							  gate_timestamptz(until), gate_int32(uncounted), gate_jsonb(entry),
							  gate_int32(MAX_KEPT_FAILURES));

	if (rows->count == 0)
		return;
	job_note_scheduled(row_text(rows, 0, 1));
	if (was_limited)
		job_admit(row_uuid(rows, 0, 0));
}

/* "rows": the job as it was locked, or none. */
static bool
fail_locked(const GateRows *rows, const pg_uuid_t *id, int64 fence, const JobFailure *failure)
{
	JobKindEntry *kind;
	RetryPolicy policy;
	Jsonb *own_policy;
	Jsonb *entry;
	int attempt;

	if (rows->count == 0)
		return false;
	kind = job_kind_entry(row_text(rows, 0, 0));
	own_policy = row_jsonb(rows, 0, 3);
	policy = retry_read(own_policy != NULL ? own_policy : kind != NULL ? kind->retry : NULL);
	attempt = row_int32(rows, 0, 1);
	entry = failure_entry(failure, attempt, &(NullableDatum){row_datum(rows, 0, 4), false});
	if (failure->is_final || attempt >= row_int32(rows, 0, 2) ||
		!retry_is_retryable(&policy, failure->sqlstate))
		end_badly(id, &fence, "discarded", entry);
	else
	{
		int64 delay_ms = Max(retry_delay_ms(&policy, attempt), failure->retry_after_ms);

		go_back(id, fence, clock_wall() + delay_ms * 1000, 0, entry, row_bool(rows, 0, 6));
	}
	return true;
}

bool
job_fail(const pg_uuid_t *id, int64 fence, const JobFailure *failure)
{
	return fail_locked(
		gate_run(&job_for_end, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_int64(fence)), id, fence,
		failure);
}

bool
job_put_off(const pg_uuid_t *id, int64 fence, TimestampTz until)
{
	GateRows *rows = gate_run(&job_for_end, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_int64(fence));

	if (rows->count == 0)
		return false;
	go_back(id, fence, until, 1, NULL, row_bool(rows, 0, 6));
	return true;
}

bool
job_cancel_any(const pg_uuid_t *id, const char *reason)
{
	JobFailure cancelled = {.error = reason == NULL ? "cancelled" : reason, .sqlstate = "57014"};
	NullableDatum never = gate_null();
	GateRows *rows = gate_run(&job_end_one, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_null(),
							  gate_text("cancelled"), gate_timestamptz(clock_wall()),
							  gate_jsonb(failure_entry(&cancelled, 0, &never)));

	if (rows->count == 0)
		return false;
	let_others_in(rows, false);
	gate_run(&job_forget_dependencies, EXPECT_ANY, gate_uuid(id));
	return true;
}

void
job_rescue(const char *lane)
{
	static const JobFailure lost = {.error = LOST_ERROR, .sqlstate = LOST_SQLSTATE};
	TimestampTz now = clock_wall();
	int64 highest = 0;
	GateRows *rows;

	if (!line_take_turn(lane, now, RESCUE_INTERVAL_US))
		return;
	rows = gate_run(&job_claimed, EXPECT_ANY, gate_text(lane), gate_int64(line_last_rank(lane)),
					gate_timestamptz(now), gate_int32(MAX_RESCUED));
	for (int64 i = 0; i < rows->count; i++)
	{
		bool is_over = row_bool(rows, i, 3);
		int32 pid = row_int32(rows, i, 4);
		pg_uuid_t *id = row_uuid(rows, i, 0);
		int64 fence = row_int64(rows, i, 1);

		highest = Max(highest, row_int64(rows, i, 2));
		if (is_over || (pid != 0 && !holder_is_alive(pid, row_timestamptz(rows, i, 5))))
			(void) fail_locked(
				gate_run(&job_for_rescue, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_int64(fence)),
				id, fence, &lost);
	}
	if (rows->count < MAX_RESCUED)
		line_set_known(lane, highest);
}

/* A client that is gone leaves nobody who would look: others may only wait to be told. */
void
job_rescue_all(void)
{
	GateRows *clients = gate_run(&job_client_lanes, EXPECT_ANY);

	job_rescue(JOB_OWN_LANE);
	job_rescue(JOB_OUTSIDE_LANE);
	job_rescue(WEBHOOK_KIND);
	for (int64 i = 0; i < clients->count; i++)
		job_rescue(row_text(clients, i, 0));
}

TimestampTz
job_next_due(void)
{
	GateRows *rows = gate_run(&job_first_due, EXPECT_ONE);

	return row_is_null(rows, 0, 0) ? DT_NOEND : row_timestamptz(rows, 0, 0);
}

bool
job_is_ready_in(const char *lane)
{
	return gate_run(&job_any_ready, EXPECT_AT_MOST_ONE, gate_text(lane))->count == 1;
}

bool
job_is_ready(void)
{
	return job_is_ready_in(JOB_OWN_LANE) || job_is_ready_in(JOB_OUTSIDE_LANE);
}

int64
job_expire(int64 limit)
{
	int64 count = gate_run(&job_done_expire, EXPECT_ANY, gate_timestamptz(clock_now()),
						   gate_int32(setting_job_retention), gate_int64(limit))
					  ->count;

	count +=
		gate_run(&job_done_trim, EXPECT_ANY, gate_int32(setting_job_history), gate_int64(limit))
			->count;
	gate_run(&job_key_expire, EXPECT_ANY);
	line_sweep();
	return count;
}
