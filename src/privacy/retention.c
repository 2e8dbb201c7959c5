/*
 * privacy/retention.c
 *		Enforcing retention policies: in the transaction of who asks, or by jobs.
 *
 * A job works for STEP_US and enqueues its successor in the transaction that also deletes, with
 * where to go on: whenever the server dies, it goes on there.  Policies come in the order of
 * foreign keys, in each the tenants, in each the partitions of its table.  One chain of jobs is
 * at work in a database at a time.
 *
 * A table is worked at in a subtransaction: one that its tenant has altered, or keeps locked, is
 * left with a reason in the log, and stops nobody else's.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/relation.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "crypto/digest.h"
#include "job/kind.h"
#include "job/outbox.h"
#include "job/queue.h"
#include "privacy/purge.h"
#include "privacy/retention.h"
#include "privacy/work.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define START_KIND "retention.start"
#define STEP_KIND "retention.step"

/* Rows stay locked to the end of the transaction: a third of the 100 ms that somebody may wait. */
#define STEP_US INT64CONST(30000)

/* Who does many jobs in one transaction leaves the next step to a later one. */
#define PAUSE_US USECS_PER_SEC
/* So often in a row a step finds a table locked before the run leaves it. */
#define MAX_WAITS 60
#define LOCKED_REASON "somebody has locked it for too long"
#define TARGETS_AT_ONCE 100
#define MAX_EXPIRED 100000

GATE_STATEMENT(retention_is_running,
			   "SELECT FROM tenancy.job_pending j WHERE j.kind = $1 LIMIT 1", TEXTOID);
GATE_STATEMENT(log_insert,
			   "INSERT INTO tenancy.retention_log (id, policy_id, relation, tenant_id, action,"
			   "    legal_basis, cutoff, rows, partitions, batches, keys_hash, held, referenced,"
			   "    started_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, $8, 0, 0, $9)",
			   UUIDOID, UUIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID,
			   TIMESTAMPTZOID);
GATE_STATEMENT(log_add,
			   "UPDATE tenancy.retention_log SET rows = rows + $2, partitions = partitions + $3,"
			   "       batches = batches + 1, first_time = least(first_time, $4),"
			   "       last_time = greatest(last_time, $5), keys_hash = $6,"
			   "       referenced = referenced + $7, reason = coalesce($8, reason)"
			   " WHERE id = $1",
			   UUIDOID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, INT8OID,
			   TEXTOID);
GATE_STATEMENT(log_hash, "SELECT l.keys_hash FROM tenancy.retention_log l WHERE l.id = $1",
			   UUIDOID);
GATE_STATEMENT(log_finish,
			   "UPDATE tenancy.retention_log SET held = held + $2, referenced = referenced + $3,"
			   "       reason = coalesce(reason, $4), finished_at = $5 WHERE id = $1"
			   " RETURNING rows, partitions, first_time, held, referenced, reason",
			   UUIDOID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(log_expire,
			   "DELETE FROM tenancy.retention_log l WHERE l.id IN (SELECT o.id"
			   "   FROM tenancy.retention_log o WHERE o.started_at < $1"
			   "  ORDER BY o.started_at LIMIT $2)",
			   TIMESTAMPTZOID, INT4OID);

/* Where a run is: at a policy, at a tenant of it, at a table of that. */
typedef struct Cursor
{
	pg_uuid_t *policy; /* NULL: at the first */
	pg_uuid_t *tenant; /* NULL: at the first */
	char *relation;    /* NULL: at the first */
	WorkPosition position;
	pg_uuid_t *log; /* of the table; NULL: nothing is noted */
	int waits;      /* how often in a row the table was found locked */
} Cursor;

/* A run: what it is for, and what is told of it. */
typedef struct Run
{
	const pg_uuid_t *only; /* a tenant; NULL for all */
	bool is_dry;
	bool is_step;
	TimestampTz until; /* of a step */
	bool is_waiting;   /* for a table that somebody has locked */
	Cursor at;
	ReturnSetInfo *told; /* NULL for jobs */
} Run;

static const EventType event_types[] = {
	{"legal_hold.release", 1, "a legal hold was released, by a second person"},
	{"legal_hold.set", 1, "a legal hold was set"},
	{"retention.enforce", 1, "rows were deleted or anonymised by a retention policy"},
};

static void
put_result(const Run *run, const Policy *policy, const Target *target, const char *relation,
		   const WorkResult *result)
{
	Datum values[10] = {
		UUIDPGetDatum(&policy->id),
		CStringGetTextDatum(relation),
		UUIDPGetDatum(target->tenant),
		CStringGetTextDatum(retention_action_name(policy->action)),
		Int64GetDatum(result->rows),
		Int32GetDatum(result->partitions),
		TimestampTzGetDatum(result->first),
		Int64GetDatum(result->held),
		Int64GetDatum(result->referenced),
		result->reason == NULL ? (Datum) 0 : CStringGetTextDatum(result->reason),
	};
	bool nulls[10] = {[2] = target->tenant == NULL,
					  [6] = !result->has_times,
					  [9] = result->reason == NULL};

	if (run->told != NULL &&
		(result->rows > 0 || result->held > 0 || result->referenced > 0 ||
		 result->partitions > 0 || result->reason != NULL))
		tuplestore_putvalues(run->told->setResult, run->told->setDesc, values, nulls);
}

static NullableDatum
time_or_null(const WorkResult *result, TimestampTz time)
{
	return result->has_times ? gate_timestamptz(time) : gate_null();
}

static bytea *
empty_hash(void)
{
	Digest digest;

	digest_begin(&digest);
	return digest_end(&digest);
}

/* Note what a batch did, in the log of the table. */
static void
note(Run *run, const Policy *policy, const Target *target, const char *relation,
	 const WorkResult *result)
{
	if (run->at.log == NULL)
	{
		run->at.log = id_new();
		gate_run(&log_insert, EXPECT_ONE, gate_uuid(run->at.log), gate_uuid(&policy->id),
				 gate_text(relation), gate_uuid(target->tenant),
				 gate_text(retention_action_name(policy->action)), gate_text(policy->legal_basis),
				 gate_timestamptz(target->cutoff), gate_datum(PointerGetDatum(empty_hash())),
				 gate_timestamptz(clock_wall()));
	}
	if (result->keys_hash != NULL)
		gate_run(&log_add, EXPECT_ONE, gate_uuid(run->at.log), gate_int64(result->rows),
				 gate_int32(result->partitions), time_or_null(result, result->first),
				 time_or_null(result, result->last),
				 gate_datum(PointerGetDatum(result->keys_hash)), gate_int64(result->referenced),
				 gate_text(result->reason));
}

static void
tell(const Policy *policy, const Target *target, const char *relation, int64 rows)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "policy", id_text(&policy->id));
	json_put_text(&payload, "relation", relation);
	json_put_text(&payload, "action", retention_action_name(policy->action));
	json_put_int64(&payload, "rows", rows);
	(void) outbox_put(target->tenant, "retention.enforce", json_end(&payload));
}

/* A table is done: what stays is counted, and all of it told. */
static void
finish(Run *run, const Policy *policy, const Target *target, const char *relation,
	   const WorkResult *left)
{
	WorkResult result = {0};
	GateRows *rows;

	if (run->at.log == NULL && left->held == 0 && left->referenced == 0 && left->reason == NULL)
		return;
	if (run->at.log == NULL)
		note(run, policy, target, relation, &(WorkResult){0});
	rows = gate_run(&log_finish, EXPECT_ONE, gate_uuid(run->at.log), gate_int64(left->held),
					gate_int64(left->referenced), gate_text(left->reason),
					gate_timestamptz(clock_wall()));
	result = (WorkResult){
		.rows = row_int64(rows, 0, 0),
		.partitions = row_int32(rows, 0, 1),
		.has_times = !row_is_null(rows, 0, 2),
		.held = row_int64(rows, 0, 3),
		.referenced = row_int64(rows, 0, 4),
		.reason = row_text(rows, 0, 5),
	};
	if (result.has_times)
		result.first = row_timestamptz(rows, 0, 2);
	put_result(run, policy, target, relation, &result);
	if (result.rows > 0 || result.partitions > 0)
		tell(policy, target, relation, result.rows);
}

static bool
is_time_up(const Run *run)
{
	return run->is_step && GetCurrentTimestamp() >= run->until;
}

static bytea *
hash_so_far(const Run *run)
{
	if (run->at.log == NULL)
		return NULL;
	return DatumGetByteaPP(
		row_datum(gate_run(&log_hash, EXPECT_ONE, gate_uuid(run->at.log)), 0, 0));
}

/*
 * The table is locked before anything is decided about it: who sets a hold has it locked until
 * that is committed.  A step, which may hold rows of other tables, does not wait.
 */
static bool
lock_table(Run *run, Oid relid)
{
	if (!run->is_step)
		LockRelationOid(relid, RowExclusiveLock);
	else if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
		run->is_waiting = true;
	return !run->is_waiting;
}

/* One table.  False: the time is up, and the cursor is in it. */
static bool
enforce_at(Run *run, const Policy *policy, const Target *target, Oid relid, char *relation)
{
	WorkResult left = {0};
	bool has_more = true;
	Work work;

	run->at.relation = relation;
	if (!run->is_dry && !lock_table(run, relid))
		return false;
	work_begin(&work, policy, target, relid);
	if (run->is_dry)
	{
		work_count(&work, &left);
		put_result(run, policy, target, relation, &left);
		return true;
	}
	while (has_more)
	{
		WorkResult result = {0};

		CHECK_FOR_INTERRUPTS();
		has_more = work_batch(&work, &run->at.position, hash_so_far(run), &result);
		if (result.rows > 0 || result.referenced > 0)
			note(run, policy, target, relation, &result);
		if (has_more && is_time_up(run))
			return false;
	}
	work_count_left(&work, &left);
	finish(run, policy, target, relation, &left);
	return true;
}

static bool
enforce_partitions(Run *run, const Policy *policy, const Target *target, char *relation)
{
	WorkResult result = {0};

	run->at.relation = relation;
	(void) work_drop_partitions(policy, target, run->is_dry, run->is_step ? 1 : INT_MAX, &result);
	if (run->is_dry)
	{
		put_result(run, policy, target, relation, &result);
		return true;
	}
	if (result.partitions > 0)
	{
		WorkResult gone = result;

		/* What is left is noted when no more can go. */
		gone.referenced = 0;
		gone.reason = NULL;
		note(run, policy, target, relation, &gone);
		if (run->is_step)
			return false;
	}
	finish(run, policy, target, relation, &result);
	return true;
}

/* A table, or what is partitioned as a whole where "relid" is invalid. */
typedef struct Visit
{
	Run *run;
	const Policy *policy;
	const Target *target;
	Oid relid;
	char *relation; /* NULL where it is gone */
	bool is_done;
} Visit;

static void
visit(void *argument)
{
	Visit *visit = argument;
	bool is_table = OidIsValid(visit->relid);

	visit->relation = relation_sql_name(is_table ? visit->relid : visit->target->relid);
	visit->is_done =
		is_table ? enforce_at(visit->run, visit->policy, visit->target, visit->relid,
							  visit->relation)
				 : enforce_partitions(visit->run, visit->policy, visit->target, visit->relation);
}

static bool
is_busy(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* False: the time is up or somebody has it locked, and the cursor is in it. */
static bool
enforce_or_leave(Run *run, const Policy *policy, const Target *target, Oid relid)
{
	Visit here = {.run = run, .policy = policy, .target = target, .relid = relid};
	WorkResult left = {0};
	Cursor before = run->at;
	ErrorData *error = attempt("retention", visit, &here);

	if (error == NULL && !run->is_waiting)
	{
		run->at.waits = 0;
		return here.is_done;
	}
	if (error != NULL)
		run->at = before;
	/* Dropped meanwhile. */
	if (here.relation == NULL || get_rel_relkind(OidIsValid(relid) ? relid : target->relid) == '\0')
	{
		run->is_waiting = false;
		return true;
	}
	run->at.relation = here.relation;
	run->is_waiting = run->is_step && (error == NULL || is_busy(error));
	if (run->is_waiting && run->at.waits++ < MAX_WAITS)
		return false;
	left.reason = run->is_waiting ? LOCKED_REASON : error->message;
	run->is_waiting = false;
	if (run->is_dry)
		put_result(run, policy, target, here.relation, &left);
	else
		finish(run, policy, target, here.relation, &left);
	return true;
}

/* The next table, tenant or policy begins at its beginning. */
static void
move_on(Run *run, bool from_tenant, bool from_policy)
{
	run->at.relation = NULL;
	run->at.position = (WorkPosition){0};
	run->at.log = NULL;
	run->at.waits = 0;
	if (from_tenant)
		run->at.tenant = NULL;
	if (from_policy)
		run->at.policy = NULL;
}

static bool
enforce_target(Run *run, const Policy *policy, const Target *target)
{
	List *parts;
	ListCell *cell;

	if (policy->action == RETENTION_DROP_PARTITION)
		return enforce_or_leave(run, policy, target, InvalidOid);
	/* Targets are read without locks. */
	if (get_rel_relkind(target->relid) == '\0')
		return true;
	parts = find_all_inheritors(target->relid, NoLock, NULL);
	foreach (cell, parts)
	{
		Oid relid = lfirst_oid(cell);
		ListCell *next;

		if (get_rel_relkind(relid) != RELKIND_RELATION)
			continue;
		/* Those before it are done; one that is gone is passed by, to be found by the next run. */
		if (run->at.relation != NULL && strcmp(run->at.relation, relation_sql_name(relid)) != 0)
			continue;
		if (!enforce_or_leave(run, policy, target, relid))
			return false;
		move_on(run, false, false);
		next = lnext(parts, cell);
		/* The cursor is only at a table where the next step finds it. */
		if (is_time_up(run) && next != NULL &&
			get_rel_relkind(lfirst_oid(next)) == RELKIND_RELATION)
		{
			run->at.relation = relation_sql_name(lfirst_oid(next));
			return false;
		}
	}
	return true;
}

/* False: the time is up, and the cursor is in it. */
static bool
enforce_policy(Run *run, const Policy *policy)
{
	int count = TARGETS_AT_ONCE;
	Target *targets = NULL;

	while (count == TARGETS_AT_ONCE)
	{
		const pg_uuid_t *from = run->at.tenant;

		targets = retention_targets(policy, run->only, from, TARGETS_AT_ONCE, &count);
		for (int i = 0; i < count; i++)
		{
			const pg_uuid_t *tenant = targets[i].tenant;

			/* The first is the last of those before, or the one that the cursor is in. */
			if (from != NULL && tenant != NULL && id_equal(from, tenant) &&
				run->at.relation == NULL)
				continue;
			if (from != NULL && (tenant == NULL || !id_equal(from, tenant)) && i == 0)
				move_on(run, false, false);
			run->at.tenant = unconstify(pg_uuid_t *, tenant);
			if (!enforce_target(run, policy, &targets[i]))
				return false;
			move_on(run, false, false);
			/* A table that is no tenant's is all of its policy. */
			if (tenant != NULL && is_time_up(run))
				return false;
		}
		if (count > 0 && targets[0].tenant == NULL)
			break;
	}
	return true;
}

/* False: the time is up, and the cursor says where to go on. */
static bool
enforce(Run *run)
{
	int count;
	Policy *policies = retention_policies(&count);
	int first = 0;

	/* A policy that is gone takes its run with it: the next one begins anew. */
	while (run->at.policy != NULL && first < count &&
		   !id_equal(run->at.policy, &policies[first].id))
		first++;
	for (int i = first; i < count; i++)
	{
		run->at.policy = &policies[i].id;
		if (!enforce_policy(run, &policies[i]))
			return false;
		move_on(run, true, true);
		if (is_time_up(run) && i + 1 < count)
		{
			run->at.policy = &policies[i + 1].id;
			return false;
		}
	}
	return true;
}

/*
 * retention_enforce(tenant regtenant, dry_run boolean) → TABLE(policy_id uuid, relation text,
 *     tenant_id uuid, action text, rows bigint, partitions integer, oldest timestamptz,
 *     held bigint, referenced bigint, reason text)
 */
TENANCY_FUNCTION(retention_enforce)
{
	Run run = {
		.only = optional_uuid(fcinfo, 0),
		.told = (ReturnSetInfo *) fcinfo->resultinfo,
	};

	context_require_none("retention");
	require_argument(fcinfo, 1, "dry_run");
	run.is_dry = PG_GETARG_BOOL(1);
	if (run.only != NULL)
		(void) registry_get(run.only);
	InitMaterializedSRF(fcinfo, 0);
	(void) enforce(&run);
	return (Datum) 0;
}

static void
put_uuid(JsonBuilder *builder, const char *name, const pg_uuid_t *id)
{
	if (id != NULL)
		json_put_text(builder, name, id_text(id));
}

static Jsonb *
cursor_to_json(const Cursor *cursor)
{
	JsonBuilder builder;

	json_begin(&builder);
	put_uuid(&builder, "policy", cursor->policy);
	put_uuid(&builder, "tenant", cursor->tenant);
	if (cursor->relation != NULL)
		json_put_text(&builder, "relation", cursor->relation);
	put_uuid(&builder, "log", cursor->log);
	json_put_text(&builder, "block", psprintf(INT64_FORMAT, cursor->position.block));
	json_put_int64(&builder, "offset", cursor->position.offset);
	json_put_int64(&builder, "size", cursor->position.size);
	json_put_int64(&builder, "waits", cursor->waits);
	json_put_text(&builder, "from", psprintf(INT64_FORMAT, cursor->position.from));
	return json_end(&builder);
}

static pg_uuid_t *
read_uuid(const Jsonb *arguments, const char *name)
{
	char *text = json_text(arguments, name);

	return text == NULL ? NULL : id_parse(text);
}

static Cursor
cursor_from_json(const Jsonb *arguments)
{
	char *from = json_text(arguments, "from");
	char *block = json_text(arguments, "block");

	return (Cursor){
		.policy = read_uuid(arguments, "policy"),
		.tenant = read_uuid(arguments, "tenant"),
		.relation = json_text(arguments, "relation"),
		.log = read_uuid(arguments, "log"),
		.position = {.block = block == NULL ? 0 : strtoll(block, NULL, 10),
					 .offset = json_int32(arguments, "offset", 0),
					 .size = json_int32(arguments, "size", 0),
					 .from = from == NULL ? 0 : strtoll(from, NULL, 10)},
		.waits = json_int32(arguments, "waits", 0),
	};
}

static bool
is_our_worker(void)
{
	return MyBgworkerEntry != NULL && strcmp(MyBgworkerEntry->bgw_library_name, "pg_tenancy") == 0;
}

static void
enqueue(const Jsonb *cursor, bool is_later)
{
	JobRequest request = {
		.kind = STEP_KIND,
		.priority = JOB_MIDDLE_PRIORITY,
		.arguments = cursor,
		.run_at = is_later ? GetCurrentTimestamp() + PAUSE_US : 0,
	};

	(void) job_put(&request);
}

static Jsonb *
perform_step(const JobTask *task)
{
	Run run = {
		.is_step = true,
		.until = GetCurrentTimestamp() + STEP_US,
		.at = cursor_from_json(task->arguments),
	};
	Jsonb *cursor;

	if (enforce(&run))
		return NULL;
	cursor = cursor_to_json(&run.at);
	/* In a transaction of ours a job is all there is; who does many must let go of the rows. */
	enqueue(cursor, run.is_waiting || !is_our_worker());
	return cursor;
}

/* The periodic run: begins a chain where none is at work. */
static char *
start(void)
{
	GateRows *rows =
		gate_run(&log_expire, EXPECT_ANY,
				 gate_timestamptz(clock_now() - setting_retention_log_retention * USECS_PER_SEC),
				 gate_int32(MAX_EXPIRED));
	int64 swept = purge_sweep();
	int count;

	(void) retention_policies(&count);
	if (count > 0 &&
		gate_run(&retention_is_running, EXPECT_AT_MOST_ONE, gate_text(STEP_KIND))->count == 0)
		enqueue(json_empty_object(), false);
	return psprintf("{\"policies\": %d, \"logs\": " INT64_FORMAT ", \"swept\": " INT64_FORMAT "}",
					count, rows->count, swept);
}

static const JobKind start_kind = {
	.name = START_KIND,
	.run = start,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = 5 * SECS_PER_MINUTE,
	.description = "begins to enforce retention policies, and sweeps up behind purges",
};

static const JobKind step_kind = {
	.name = STEP_KIND,
	.perform = perform_step,
	.timeout_seconds = 10 * SECS_PER_MINUTE,
	.description = "enforces retention policies for a moment, and goes on in the next job",
};

void
retention_init(void)
{
	event_types_register(event_types, lengthof(event_types));
	job_kind_register(&start_kind);
	job_kind_register(&step_kind);
}
