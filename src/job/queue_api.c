/*
 * job/queue_api.c
 *		The queue for SQL: clients that claim jobs, and operators who look after them.
 */
#include "postgres.h"

#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "job/queue.h"
#include "job/queue_internal.h"

#include "access/xact.h"
#include "common/int.h"
#include "storage/procsignal.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include <signal.h>

#define MAX_CLAIMED 10000
#define LONGEST_LEASE_US (7 * USECS_PER_DAY)
#define LONGEST_RETRY_AFTER_US (30 * USECS_PER_DAY)

GATE_STATEMENT(job_get, "SELECT j FROM tenancy.job j WHERE j.id = $1", UUIDOID);
GATE_STATEMENT(job_extend,
			   "UPDATE tenancy.job_pending j"
			   "   SET lease_until = least($4 + $3, j.started_at + j.timeout * interval '1 second')"
			   " WHERE j.id = $1 AND j.fence = $2 AND j.lease_until IS NOT NULL"
			   " RETURNING j.lease_until",
			   UUIDOID, INT8OID, INTERVALOID, TIMESTAMPTZOID);
GATE_STATEMENT(job_holder,
			   "SELECT j.worker_pid, j.worker_since FROM tenancy.job_pending j"
			   " WHERE j.id = $1 AND j.lane IN ('', '*') AND j.worker_pid IS NOT NULL FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(
	job_finished,
	"SELECT d.kind, d.tenant_id, d.arguments, d.priority, d.timeout, d.retry, d.unique_key,"
	"       d.outcome"
	"  FROM tenancy.job_done d WHERE d.id = $1",
	UUIDOID);
GATE_STATEMENT(job_kinds,
			   "SELECT DISTINCT j.kind FROM tenancy.job_pending j WHERE j.id = ANY ($1)",
			   UUIDARRAYOID);
GATE_STATEMENT(job_state, "SELECT j.state FROM tenancy.job j WHERE j.id = $1", UUIDOID);

/* Of what is too long for a sum the longest, or shortest. */
int64
interval_microseconds(const Interval *interval)
{
	int64 days = interval->day + (int64) interval->month * DAYS_PER_MONTH;
	int64 result;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result))
		return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return result;
}

Datum
job_row(const pg_uuid_t *id)
{
	return row_datum(gate_run(&job_get, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

static int64
required_lease(FunctionCallInfo fcinfo, int n)
{
	int64 lease;

	require_argument(fcinfo, n, "lease");
	lease = interval_microseconds(PG_GETARG_INTERVAL_P(n));
	if (lease <= 0 || lease > LONGEST_LEASE_US)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"lease\" must be positive, and seven days at most"));
	return lease;
}

static int64
required_fence(FunctionCallInfo fcinfo, int n)
{
	require_argument(fcinfo, n, "fence");
	return PG_GETARG_INT64(n);
}

pg_noreturn static void
refuse_lost(const pg_uuid_t *id)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the claim on job \"%s\" is lost", id_text(id)),
			errdetail("It was cancelled, finished, or claimed again since."),
			errhint("Undo what was done for it."));
}

/* Clients end what clients have claimed; the kind of a job never changes. */
static void
require_may_end(const NullableDatum *ids)
{
	GateRows *rows;

	if (job_caller_is_operator())
		return;
	rows = gate_run(&job_kinds, EXPECT_ANY, *ids);
	for (int64 i = 0; i < rows->count; i++)
		job_require_operator_for(row_text(rows, i, 0));
}

static void
require_may_end_one(const pg_uuid_t *id)
{
	NullableDatum ids = gate_uuid_array(id, 1);

	require_may_end(&ids);
}

/*
 * job_claim(kind text, max_jobs int, lease interval, bound boolean)
 *     → TABLE(id uuid, fence bigint, tenant_id uuid, arguments jsonb, attempt int, lease_until
 * timestamptz)
 */
TENANCY_FUNCTION(job_claim)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *name = required_text(fcinfo, 0, "kind");
	JobKindEntry *kind = job_kind_entry(name);
	JobClaimRequest request = {.lane = name};
	GateRows *rows;

	require_argument(fcinfo, 1, "max_jobs");
	request.max_jobs = PG_GETARG_INT32(1);
	request.lease_ms = required_lease(fcinfo, 2) / 1000;
	require_argument(fcinfo, 3, "bound");
	request.is_bound = PG_GETARG_BOOL(3);
	if (request.max_jobs < 1 || request.max_jobs > MAX_CLAIMED)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_jobs\" must be between 1 and %d", MAX_CLAIMED));
	context_require_none("claiming jobs");
	if (kind == NULL || kind->library != NULL || kind->procedure != NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("job kind \"%s\" does not exist, or is not for clients", name));

	InitMaterializedSRF(fcinfo, 0);
	job_rescue(name);
	rows = job_claim_rows(&request);
	for (int64 i = 0; i < rows->count; i++)
	{
		Datum values[6];
		bool nulls[6] = {false};

		for (int column = 0; column < lengthof(values); column++)
		{
			nulls[column] = row_is_null(rows, i, column);
			values[column] = nulls[column] ? (Datum) 0 : row_datum(rows, i, column);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* job_heartbeat(job uuid, fence bigint, lease interval) → timestamptz */
TENANCY_FUNCTION(job_heartbeat)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "job");
	int64 fence = required_fence(fcinfo, 1);
	GateRows *rows;

	(void) required_lease(fcinfo, 2);
	require_may_end_one(id);
	rows = gate_run(&job_extend, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_int64(fence),
					gate_argument(2), gate_timestamptz(clock_wall()));
	if (rows->count == 0)
		refuse_lost(id);
	PG_RETURN_TIMESTAMPTZ(row_timestamptz(rows, 0, 0));
}

/* job_complete(job uuid, fence bigint, result jsonb) → tenancy.job */
TENANCY_FUNCTION(job_complete)
{
	QueuedJob job = {
		.id = *required_uuid(fcinfo, 0, "job"),
		.fence = required_fence(fcinfo, 1),
	};

	require_may_end_one(&job.id);
	if (!job_succeed(&job, optional_jsonb(fcinfo, 2)))
		refuse_lost(&job.id);
	PG_RETURN_DATUM(job_row(&job.id));
}

static int
length_of(ArrayType *array)
{
	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

/* job_complete_batch(jobs uuid[], fences bigint[], results jsonb[]) → int */
TENANCY_FUNCTION(job_complete_batch)
{
	int count;

	require_argument(fcinfo, 0, "jobs");
	require_argument(fcinfo, 1, "fences");
	count = length_of(PG_GETARG_ARRAYTYPE_P(0));
	if (length_of(PG_GETARG_ARRAYTYPE_P(1)) != count ||
		(!PG_ARGISNULL(2) && length_of(PG_GETARG_ARRAYTYPE_P(2)) != count))
		ereport(ERROR, errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				errmsg("the arrays of a batch must have one length"));
	require_may_end(&fcinfo->args[0]);
	PG_RETURN_INT32(
		(int32) job_succeed_rows(&fcinfo->args[0], &fcinfo->args[1], &fcinfo->args[2])->count);
}

/* job_fail(job uuid, fence bigint, error text, retry boolean, retry_after interval, evidence jsonb)
 * → tenancy.job */
TENANCY_FUNCTION(job_fail)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "job");
	int64 fence = required_fence(fcinfo, 1);
	JobFailure failure = {.error = required_text(fcinfo, 2, "error")};

	require_argument(fcinfo, 3, "retry");
	failure.is_final = !PG_GETARG_BOOL(3);
	if (!PG_ARGISNULL(4))
	{
		int64 retry_after = interval_microseconds(PG_GETARG_INTERVAL_P(4));

		if (retry_after < 0 || retry_after > LONGEST_RETRY_AFTER_US)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"retry_after\" must be between zero and 30 days"));
		failure.retry_after_ms = retry_after / 1000;
	}
	failure.evidence = optional_jsonb(fcinfo, 5);
	require_may_end_one(id);
	if (!job_fail(id, fence, &failure))
		refuse_lost(id);
	PG_RETURN_DATUM(job_row(id));
}

/* job_snooze(job uuid, fence bigint, until timestamptz) → tenancy.job */
TENANCY_FUNCTION(job_snooze)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "job");
	int64 fence = required_fence(fcinfo, 1);
	TimestampTz until = required_timestamptz(fcinfo, 2, "until");

	require_may_end_one(id);
	if (!job_put_off(id, fence, until))
		refuse_lost(id);
	PG_RETURN_DATUM(job_row(id));
}

/* Interrupt who is at it: its transaction would be undone anyway when it reports. */
static void
interrupt_holder(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&job_holder, EXPECT_AT_MOST_ONE, gate_uuid(id));

	if (rows->count == 1 && holder_is_alive(row_int32(rows, 0, 0), row_timestamptz(rows, 0, 1)))
		(void) kill(row_int32(rows, 0, 0), SIGINT);
}

/* job_cancel(job uuid, reason text) → tenancy.job */
TENANCY_FUNCTION(job_cancel)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "job");
	GateRows *rows;

	context_require_none("cancelling a job");
	require_may_end_one(id);
	interrupt_holder(id);
	if (!job_cancel_any(id, optional_text(fcinfo, 1)))
	{
		rows = gate_run(&job_state, EXPECT_AT_MOST_ONE, gate_uuid(id));
		if (rows->count == 0)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("job \"%s\" does not exist", id_text(id)));
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("job \"%s\" is %s", id_text(id), row_text(rows, 0, 0)));
	}
	PG_RETURN_DATUM(job_row(id));
}

/* job_replay(job uuid) → tenancy.job: a new one */
TENANCY_FUNCTION(job_replay)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "job");
	JobRequest request = {0};
	GateRows *rows;

	context_require_none("replaying a job");
	rows = gate_run(&job_finished, EXPECT_AT_MOST_ONE, gate_uuid(id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("there is no finished job \"%s\"", id_text(id)));
	request.kind = row_text(rows, 0, 0);
	job_require_operator_for(request.kind);
	request.tenant = row_uuid(rows, 0, 1);
	request.arguments = row_jsonb(rows, 0, 2);
	request.priority = DatumGetInt16(row_datum(rows, 0, 3));
	request.timeout_seconds = row_int32(rows, 0, 4);
	request.retry = row_jsonb(rows, 0, 5);
	request.unique_key = row_text(rows, 0, 6);
	PG_RETURN_DATUM(job_row(job_put(&request)));
}
