/*
 * job/enqueue.c
 *		Asking for jobs, and making them ready: dependencies, limits, the line.
 *
 * A job is blocked until what it depends on has succeeded, scheduled until run_at, held while
 * its tenant has as many ready jobs as it may, and ready then.  Who finishes a job, or claims
 * one, moves on what can be moved on.
 *
 * Locks.  Jobs that a new one depends on are locked in ascending order of ids; the row of a
 * tenant's limit comes after jobs, and jobs behind it are skipped where they are locked.
 */
#include "postgres.h"

#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/transaction.h"
#include "crypto/digest.h"
#include "job/line.h"
#include "job/queue.h"
#include "job/queue_internal.h"
#include "job/retry.h"

#include "commands/async.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* Clients that claim jobs LISTEN to this; the payload is the kind. */
#define CHANNEL "tenancy_job"

#define MAX_PROMOTED 500
#define MAX_DEPENDENCIES 1000
#define MAX_KEY_BYTES 255
#define MAX_TIMEOUT_SECONDS (7 * SECS_PER_DAY)

GATE_STATEMENT(job_insert,
			   "INSERT INTO tenancy.job_pending (id, lane, kind, tenant_id, state, rank, priority,"
			   "    run_at, attempt, max_attempts, timeout, blocked_by, has_dependents, is_limited,"
			   "    fence, enqueued_at, arguments, retry, unique_key, schedule)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, false, $12, 0, $13,"
			   "    coalesce($14, '{}'), $15, $16, $17)"
			   " ON CONFLICT (kind, (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')),"
			   "    unique_key) WHERE unique_key IS NOT NULL DO NOTHING",
			   UUIDOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, INT8OID, INT2OID, TIMESTAMPTZOID,
			   INT4OID, INT4OID, INT4OID, BOOLOID, TIMESTAMPTZOID, JSONBOID, JSONBOID, TEXTOID,
			   TEXTOID);
GATE_STATEMENT(job_insert_many,
			   "INSERT INTO tenancy.job_pending (id, lane, kind, tenant_id, state, rank, priority,"
			   "    run_at, attempt, max_attempts, timeout, blocked_by, has_dependents, is_limited,"
			   "    fence, enqueued_at, arguments)"
			   " SELECT n.id, $1, $2, n.tenant_id, 'scheduled', NULL, 5, $3, 0, $4, $5, 0, false,"
			   "    false, 0, $3, n.arguments"
			   "   FROM unnest($6, $7, $8) AS n(id, tenant_id, arguments)",
			   TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT4OID, UUIDARRAYOID, UUIDARRAYOID,
			   JSONBARRAYOID);
GATE_STATEMENT(
	job_with_unique_key,
	"SELECT j.id FROM tenancy.job_pending j"
	" WHERE j.kind = $1 AND coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000')"
	"     = coalesce($2, '00000000-0000-0000-0000-000000000000')"
	"   AND j.unique_key = $3",
	TEXTOID, UUIDOID, TEXTOID);
GATE_STATEMENT(job_key_insert,
			   "INSERT INTO tenancy.job_key (scope, kind, key, job_id, arguments_hash)"
			   " VALUES (coalesce($1, '00000000-0000-0000-0000-000000000000'), $2, $3, $4, $5)"
			   " ON CONFLICT DO NOTHING",
			   UUIDOID, TEXTOID, TEXTOID, UUIDOID, BYTEAOID);
GATE_STATEMENT(job_key_get,
			   "SELECT k.job_id, k.arguments_hash = $4 FROM tenancy.job_key k"
			   " WHERE k.scope = coalesce($1, '00000000-0000-0000-0000-000000000000')"
			   "   AND k.kind = $2 AND k.key = $3 FOR KEY SHARE",
			   UUIDOID, TEXTOID, TEXTOID, BYTEAOID);
GATE_STATEMENT(
	job_lock_many,
	"SELECT j.id FROM tenancy.job_pending j"
	" WHERE j.id = ANY ($1) AND ($2 IS NULL OR j.tenant_id = $2) ORDER BY j.id FOR UPDATE",
	UUIDARRAYOID, UUIDOID);
GATE_STATEMENT(job_mark_depended_on,
			   "UPDATE tenancy.job_pending j SET has_dependents = true WHERE j.id = ANY ($1)",
			   UUIDARRAYOID);
GATE_STATEMENT(job_dependency_insert,
			   "INSERT INTO tenancy.job_dependency (depends_on, job_id)"
			   " SELECT d.id, $2 FROM unnest($1) AS d(id)",
			   UUIDARRAYOID, UUIDOID);
/* Those asked for that are not pending: how each ended, null where it does not exist. */
GATE_STATEMENT(job_ended,
			   "SELECT a.id, d.outcome FROM unnest($1) AS a(id)"
			   "  LEFT JOIN tenancy.job_done d"
			   "    ON d.id = a.id AND ($3 IS NULL OR d.tenant_id = $3)"
			   " WHERE a.id <> ALL ($2)",
			   UUIDARRAYOID, UUIDARRAYOID, UUIDOID);
GATE_STATEMENT(job_limit_exists, "SELECT FROM tenancy.job_limit l WHERE l.tenant_id = $1", UUIDOID);
GATE_STATEMENT(job_limit_lock,
			   "SELECT l.max_running FROM tenancy.job_limit l WHERE l.tenant_id = $1 FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(job_count_ready,
			   "SELECT pg_catalog.count(*)::integer FROM tenancy.job_pending j"
			   " WHERE j.tenant_id = $1 AND j.state = 'ready'",
			   UUIDOID);
GATE_STATEMENT(job_held,
			   "SELECT j.id, j.lane, j.tenant_id, j.priority, j.attempt, true"
			   "  FROM tenancy.job_pending j WHERE j.tenant_id = $1 AND j.state = 'held'"
			   " ORDER BY j.priority, j.id LIMIT $2 FOR UPDATE SKIP LOCKED",
			   UUIDOID, INT4OID);
GATE_STATEMENT_BY_INDEX(
	job_due,
	"SELECT j.id, j.lane, j.tenant_id, j.priority, j.attempt,"
	"       EXISTS (SELECT FROM tenancy.job_limit l WHERE l.tenant_id = j.tenant_id)"
	"  FROM tenancy.job_pending j WHERE j.state = 'scheduled' AND j.run_at <= $1"
	" ORDER BY j.run_at LIMIT $2 FOR UPDATE OF j SKIP LOCKED",
	TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(job_make_ready,
			   "UPDATE tenancy.job_pending j SET state = 'ready', rank = n.rank, is_limited = $3"
			   "  FROM unnest($1, $2) AS n(id, rank) WHERE j.id = n.id AND j.state <> 'ready'",
			   UUIDARRAYOID, INT8ARRAYOID, BOOLOID);
GATE_STATEMENT(job_hold, "UPDATE tenancy.job_pending j SET state = 'held' WHERE j.id = ANY ($1)",
			   UUIDARRAYOID);
GATE_STATEMENT(job_limit_put,
			   "INSERT INTO tenancy.job_limit AS l (tenant_id, max_running) VALUES ($1, $2)"
			   " ON CONFLICT (tenant_id) DO UPDATE SET max_running = excluded.max_running"
			   " RETURNING l.tenant_id",
			   UUIDOID, INT4OID);
GATE_STATEMENT(job_limit_delete,
			   "DELETE FROM tenancy.job_limit l WHERE l.tenant_id = $1 RETURNING l.tenant_id",
			   UUIDOID);
/* What is ready and not running stands back; what runs lets another in when it ends. */
GATE_STATEMENT(job_hold_ready,
			   "UPDATE tenancy.job_pending j"
			   "   SET state = CASE WHEN j.lease_until IS NULL THEN 'held' ELSE j.state END,"
			   "       rank = CASE WHEN j.lease_until IS NULL THEN NULL ELSE j.rank END,"
			   "       is_limited = true"
			   " WHERE j.tenant_id = $1 AND j.state = 'ready'",
			   UUIDOID);

static JobsReady ready_here = {0};

JobsReady
job_take_ready(void)
{
	JobsReady result = ready_here;

	ready_here = (JobsReady){0};
	return result;
}

/* Tell those who wait for work that there is some, when the transaction commits. */
static void
tell(const char *lane)
{
	transaction_watch();
	if (strcmp(lane, JOB_OWN_LANE) == 0 || strcmp(lane, JOB_OUTSIDE_LANE) == 0)
		ready_here.for_workers = true;
	else if (job_kind_find(lane) != NULL)
		ready_here.for_webhooks = true;
	else
		Async_Notify(CHANNEL, lane);
}

/* Whoever makes ready what is due must know when that is. */
void
job_note_scheduled(const char *lane)
{
	ready_here.for_workers = true;
	transaction_watch();
}

static int64
rank_of(int64 place, int priority)
{
	return place + (int64) priority * PLACES_A_PRIORITY;
}

/* Rows (id, lane, tenant, priority, attempt, …) become ready, in their order. */
static void
make_ready(const GateRows *rows, bool is_limited)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));
	int64 *ranks = palloc(sizeof(int64) * Max(rows->count, 1));
	int count = 0;

	for (int64 i = 0; i < rows->count; i++)
	{
		char *lane = row_text(rows, i, 1);
		bool has_waited = row_int32(rows, i, 4) > 0;

		if (row_bool(rows, i, 5) != is_limited)
			continue;
		ids[count] = *row_uuid(rows, i, 0);
		ranks[count++] =
			rank_of(has_waited ? line_head(lane) : line_reserve(lane, row_uuid(rows, i, 2), 1),
					DatumGetInt16(row_datum(rows, i, 3)));
		tell(lane);
	}
	if (count > 0)
		gate_run(&job_make_ready, EXPECT_ANY, gate_uuid_array(ids, count),
				 gate_int64_array(ranks, count), gate_bool(is_limited));
}

void
job_admit(const pg_uuid_t *tenant)
{
	GateRows *limit = gate_run(&job_limit_lock, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	int room = PG_INT32_MAX;

	if (limit->count == 1)
		room = row_int32(limit, 0, 0) -
			   row_int32(gate_run(&job_count_ready, EXPECT_ONE, gate_uuid(tenant)), 0, 0);
	if (room > 0)
		make_ready(gate_run(&job_held, EXPECT_ANY, gate_uuid(tenant), gate_int32(room)), true);
}

static bool
is_limited(const pg_uuid_t *tenant)
{
	return tenant != NULL &&
		   gate_run(&job_limit_exists, EXPECT_AT_MOST_ONE, gate_uuid(tenant))->count == 1;
}

/* Who is limited is held first, and admitted as far as there is room. */
static void
hold_limited(const GateRows *rows)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));
	int count = 0;

	for (int64 i = 0; i < rows->count; i++)
	{
		if (row_bool(rows, i, 5))
			ids[count++] = *row_uuid(rows, i, 0);
	}
	if (count == 0)
		return;
	gate_run(&job_hold, EXPECT_ANY, gate_uuid_array(ids, count));
	for (int64 i = 0; i < rows->count; i++)
	{
		if (row_bool(rows, i, 5))
			job_admit(row_uuid(rows, i, 2));
	}
}

void
job_promote(void)
{
	GateRows *rows =
		gate_run(&job_due, EXPECT_ANY, gate_timestamptz(clock_wall()), gate_int32(MAX_PROMOTED));

	if (rows->count == 0)
		return;
	make_ready(rows, false);
	hold_limited(rows);
}

/*
 * Locks what is still to be waited for; how many.  What has failed cannot be waited for, and to
 * a tenant the jobs of others do not exist.
 */
static int
lock_dependencies(const JobRequest *request, pg_uuid_t *pending)
{
	NullableDatum self = gate_uuid(context_tenant());
	GateRows *rows =
		gate_run(&job_lock_many, EXPECT_ANY,
				 gate_uuid_array(request->depends_on, request->dependency_count), self);
	GateRows *others;
	int count = (int) rows->count;

	for (int i = 0; i < count; i++)
		pending[i] = *row_uuid(rows, i, 0);
	others = gate_run(&job_ended, EXPECT_ANY,
					  gate_uuid_array(request->depends_on, request->dependency_count),
					  gate_uuid_array(pending, count), self);
	for (int64 i = 0; i < others->count; i++)
	{
		char *state = row_text(others, i, 1);
		char *id = id_text(row_uuid(others, i, 0));

		if (state == NULL)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("job \"%s\" does not exist", id));
		if (strcmp(state, "succeeded") != 0)
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("job \"%s\" is %s", id, state),
					errdetail("A job cannot wait for one that will not succeed."));
	}
	if (count > 0)
		gate_run(&job_mark_depended_on, EXPECT_ANY, gate_uuid_array(pending, count));
	return count;
}

static JobKindEntry *
require_kind(const char *kind)
{
	JobKindEntry *entry = job_kind_entry(kind);

	if (entry == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("job kind \"%s\" does not exist", kind),
				errhint("job_kind_define() makes one."));
	return entry;
}

pg_uuid_t *
job_put(const JobRequest *request)
{
	JobKindEntry *kind = require_kind(request->kind);
	RetryPolicy policy = retry_read(request->retry != NULL ? request->retry : kind->retry);
	const char *lane = job_kind_lane(kind, request->kind);
	TimestampTz now = clock_wall();
	TimestampTz run_at = request->run_at == 0 ? now : request->run_at;
	pg_uuid_t *pending = palloc(sizeof(pg_uuid_t) * Max(request->dependency_count, 1));
	int blocked_by = request->dependency_count == 0 ? 0 : lock_dependencies(request, pending);
	bool limited = is_limited(request->tenant);
	const char *state = blocked_by > 0 ? "blocked"
						: run_at > now ? "scheduled"
						: limited      ? "held"
									   : "ready";
	bool is_ready = strcmp(state, "ready") == 0;
	pg_uuid_t *id = id_new();

	for (;;)
	{
		NullableDatum rank =
			is_ready
				? gate_int64(rank_of(line_reserve(lane, request->tenant, 1), request->priority))
				: gate_null();
		GateRows *rows;

		if (gate_run(&job_insert, EXPECT_ANY, gate_uuid(id), gate_text(lane),
					 gate_text(request->kind), gate_uuid(request->tenant), gate_text(state), rank,
					 gate_datum(Int16GetDatum(request->priority)), gate_timestamptz(run_at),
					 gate_int32(policy.max_attempts),
					 gate_int32(request->timeout_seconds > 0 ? request->timeout_seconds
															 : kind->timeout_seconds),
					 gate_int32(blocked_by), gate_bool(limited), gate_timestamptz(now),
					 gate_jsonb(request->arguments), gate_jsonb(request->retry),
					 gate_text(request->unique_key), gate_text(request->schedule))
				->count == 1)
			break;
		rows = gate_run(&job_with_unique_key, EXPECT_AT_MOST_ONE, gate_text(request->kind),
						gate_uuid(request->tenant), gate_text(request->unique_key));
		if (rows->count == 1)
			return row_uuid(rows, 0, 0);
		/* It was finished meanwhile; under REPEATABLE READ it cannot be seen at all. */
		if (IsolationUsesXactSnapshot())
			ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to concurrent update"));
	}
	if (blocked_by > 0)
		gate_run(&job_dependency_insert, EXPECT_ANY, gate_uuid_array(pending, blocked_by),
				 gate_uuid(id));
	if (is_ready)
		tell(lane);
	else if (strcmp(state, "held") == 0)
		job_admit(request->tenant);
	else
		job_note_scheduled(lane);
	return id;
}

static NullableDatum
optional_uuid_array(const pg_uuid_t *const *values, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));
	bool *nulls = palloc(sizeof(bool) * Max(count, 1));
	int lower_bound = 1;

	for (int i = 0; i < count; i++)
	{
		nulls[i] = values[i] == NULL;
		elements[i] = UUIDPGetDatum(values[i]);
	}
	return gate_datum(PointerGetDatum(construct_md_array(elements, nulls, 1, &count, &lower_bound,
														 UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

void
job_put_many(const char *kind, const pg_uuid_t *const *tenants, const Jsonb *const *arguments,
			 int count)
{
	JobKindEntry *entry = require_kind(kind);
	RetryPolicy policy = retry_read(entry->retry);
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	Datum *documents = palloc(sizeof(Datum) * Max(count, 1));
	const char *lane = job_kind_lane(entry, kind);

	for (int i = 0; i < count; i++)
	{
		ids[i] = *id_new();
		documents[i] = JsonbPGetDatum(arguments[i]);
	}
	gate_run(&job_insert_many, EXPECT_ANY, gate_text(lane), gate_text(kind),
			 gate_timestamptz(clock_wall()), gate_int32(policy.max_attempts),
			 gate_int32(entry->timeout_seconds), gate_uuid_array(ids, count),
			 optional_uuid_array(tenants, count), gate_array(documents, count, JSONBOID));
	/* Who claims from the lane promotes first. */
	if (count > 0)
		tell(lane);
}

static bytea *
hash_arguments(Jsonb *arguments)
{
	Digest digest;

	digest_begin(&digest);
	digest_add_text(&digest, JsonbToCString(NULL, &arguments->root, VARSIZE(arguments)));
	return digest_end(&digest);
}

/* The job that was enqueued under the key before, or NULL, and the key is now that of "id". */
static pg_uuid_t *
find_by_key(const JobRequest *request, const char *key, bytea *hash)
{
	GateRows *rows =
		gate_run(&job_key_get, EXPECT_AT_MOST_ONE, gate_uuid(request->tenant),
				 gate_text(request->kind), gate_text(key), gate_datum(PointerGetDatum(hash)));

	if (rows->count == 0)
		return NULL;
	if (!row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("idempotency key \"%s\" belongs to a job with other arguments", key),
				errdetail("Job \"%s\".", id_text(row_uuid(rows, 0, 0))));
	return row_uuid(rows, 0, 0);
}

static pg_uuid_t *
put_under_key(const JobRequest *request, const char *key)
{
	bytea *hash = hash_arguments((Jsonb *) request->arguments);
	pg_uuid_t *id = find_by_key(request, key, hash);

	if (id != NULL)
		return id;
	id = job_put(request);
	if (gate_run(&job_key_insert, EXPECT_ANY, gate_uuid(request->tenant), gate_text(request->kind),
				 gate_text(key), gate_uuid(id), gate_datum(PointerGetDatum(hash)))
			->count == 0)
		/* Another has enqueued it while we did: the caller is to look again. */
		ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("idempotency key \"%s\" was used at the same time", key),
				errhint("Try again: the job exists then."));
	return id;
}

static char *
optional_key(FunctionCallInfo fcinfo, int n, const char *name)
{
	char *key = optional_text(fcinfo, n);

	if (key != NULL && (*key == '\0' || strlen(key) > MAX_KEY_BYTES))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must have between 1 and %d bytes", name, MAX_KEY_BYTES));
	return key;
}

static pg_uuid_t *
read_dependencies(FunctionCallInfo fcinfo, int n, int *count)
{
	Datum *elements;
	bool *nulls;
	pg_uuid_t *ids;

	*count = 0;
	if (PG_ARGISNULL(n))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elements,
					  &nulls, count);
	if (*count > MAX_DEPENDENCIES)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a job can depend on %d others at most", MAX_DEPENDENCIES));
	ids = palloc(sizeof(pg_uuid_t) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"depends_on\" must not have nulls"));
		ids[i] = *DatumGetUUIDP(elements[i]);
	}
	return ids;
}

static int
read_timeout(FunctionCallInfo fcinfo, int n)
{
	int64 seconds;

	if (PG_ARGISNULL(n))
		return 0;
	seconds = interval_microseconds(PG_GETARG_INTERVAL_P(n)) / USECS_PER_SEC;
	if (seconds < 1 || seconds > MAX_TIMEOUT_SECONDS)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"timeout\" must be between one second and seven days"));
	return (int) seconds;
}

bool
job_caller_is_operator(void)
{
	return context_tenant() == NULL &&
		   has_privs_of_role(GetUserId(), get_role_oid("tenancy_admin", false));
}

void
job_require_operator_for(const char *kind)
{
	if (job_kind_find(kind) != NULL && !job_caller_is_operator())
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("jobs of kind \"%s\" need the role tenancy_admin", kind));
}

/* Within a context a tenant asks for itself, and for what it may ask for. */
static void
require_may_enqueue(const JobRequest *request)
{
	const pg_uuid_t *self = context_tenant();

	if (request->tenant != NULL)
	{
		tenant_require_visible(request->tenant);
		(void) registry_get(request->tenant);
	}
	if (self == NULL)
	{
		(void) require_kind(request->kind);
		job_require_operator_for(request->kind);
		job_kind_require_for_callers(request->kind);
		return;
	}
	if (request->tenant == NULL)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("a tenant can enqueue jobs of its own only"));
	if (!require_kind(request->kind)->is_for_tenants)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("tenants cannot enqueue jobs of kind \"%s\"", request->kind));
}

/*
 * job_enqueue(kind text, arguments jsonb, tenant regtenant, run_at timestamptz, unique_key text,
 *     idempotency_key text, priority int, depends_on uuid[], timeout interval, retry jsonb)
 *     → tenancy.job
 */
TENANCY_FUNCTION(job_enqueue)
{
	JobRequest request = {.kind = required_text(fcinfo, 0, "kind")};
	char *key = optional_key(fcinfo, 5, "idempotency_key");

	require_argument(fcinfo, 1, "arguments");
	request.arguments = PG_GETARG_JSONB_P(1);
	request.tenant = optional_uuid(fcinfo, 2);
	if (request.tenant == NULL && context_tenant() != NULL)
		request.tenant = context_tenant();
	if (!PG_ARGISNULL(3))
		request.run_at = Max(required_timestamptz(fcinfo, 3, "run_at"), clock_wall());
	request.unique_key = optional_key(fcinfo, 4, "unique_key");
	require_argument(fcinfo, 6, "priority");
	request.priority = PG_GETARG_INT32(6);
	if (request.priority < 0 || request.priority > 9)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"priority\" must be between 0, the first, and 9"));
	request.depends_on = read_dependencies(fcinfo, 7, &request.dependency_count);
	request.timeout_seconds = read_timeout(fcinfo, 8);
	request.retry = optional_jsonb(fcinfo, 9);
	if (request.retry != NULL)
		retry_validate(request.retry);
	if (!JB_ROOT_IS_OBJECT(request.arguments))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the arguments of a job must be a JSON object"));
	require_may_enqueue(&request);
	PG_RETURN_DATUM(job_row(key == NULL ? job_put(&request) : put_under_key(&request, key)));
}

/* job_limit_set(tenant regtenant, max_running int) → uuid */
TENANCY_FUNCTION(job_limit_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	context_require_none("limiting jobs");
	(void) registry_get(tenant);
	if (PG_ARGISNULL(1))
		gate_run(&job_limit_delete, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	else if (PG_GETARG_INT32(1) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_running\" must not be negative"));
	else
	{
		gate_run(&job_limit_put, EXPECT_ONE, gate_uuid(tenant), gate_argument(1));
		gate_run(&job_hold_ready, EXPECT_ANY, gate_uuid(tenant));
	}
	job_admit(tenant);
	PG_RETURN_UUID_P(tenant);
}
