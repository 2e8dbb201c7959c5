/*
 * job/perform.c
 *		Doing a queued job.
 *
 * A function that an application has registered runs in the context of the job's tenant, so
 * that the guard holds, as its owner, who is no superuser, and in a restricted operation.
 * Where the tenant owns its schemas they are not in the search path of somebody else's
 * function: what it found there would run with more rights than the tenant's.
 *
 * A tenant that cannot be entered just now is no failure of the job, which is put off.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/json.h"
#include "job/perform.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define PUT_OFF_US (60 * USECS_PER_SEC)

typedef struct Performance
{
	const QueuedJob *job;
	JobKindEntry *kind;
	Jsonb *result;
} Performance;

static Oid
owner_of(Oid procedure)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(procedure));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", procedure);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (superuser_arg(owner))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("function \"%s\" belongs to a superuser", get_func_name(procedure)));
	return owner;
}

static char *
path_without_tenant(void)
{
	return psprintf("pg_catalog, %s, pg_temp",
					quote_identifier(get_namespace_name(extension_public_schema())));
}

static Jsonb *
call_procedure(const QueuedJob *job, const JobKindEntry *kind)
{
	Oid procedure =
		DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(kind->procedure)));
	Oid types[] = {JSONBOID};
	NullableDatum arguments[] = {gate_jsonb(job->arguments)};
	char *sql = psprintf("SELECT %s.%s($1)",
						 quote_identifier(get_namespace_name(get_func_namespace(procedure))),
						 quote_identifier(get_func_name(procedure)));
	ContextRole tenant = {0};
	Oid role = owner_of(procedure);
	GateScope scope;
	GateRows *rows;
	Jsonb *result;

	if (job->tenant != NULL)
		tenant = context_push(job->tenant);
	if (kind->runs_as_tenant)
	{
		if (job->tenant == NULL)
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("job \"%s\" runs as its tenant, and has none", job->kind));
		role = tenant.role;
	}
	gate_enter(&scope, role,
			   job->tenant == NULL || (tenant.owns_schemas && !kind->runs_as_tenant)
				   ? path_without_tenant()
				   : tenant.search_path);
	rows = gate_query_text(sql, 1, types, arguments);
	/* What is deferred is the job's, and fails it. */
	gate_run_text("SET CONSTRAINTS ALL IMMEDIATE");
	gate_leave(&scope);
	result = row_jsonb(rows, 0, 0);
	if (job->tenant != NULL)
		context_pop();
	return result;
}

Jsonb *
job_call_procedure(const char *signature, const pg_uuid_t *tenant, const Jsonb *arguments)
{
	QueuedJob job = {.tenant = unconstify(pg_uuid_t *, tenant),
					 .arguments = unconstify(Jsonb *, arguments)};
	JobKindEntry kind = {.procedure = pstrdup(signature)};

	return call_procedure(&job, &kind);
}

static JobTask
task_of(const QueuedJob *job)
{
	return (JobTask){
		.id = &job->id,
		.tenant = job->tenant,
		.arguments = job->arguments,
		.attempt = job->attempt,
	};
}

static void
perform(void *argument)
{
	Performance *performance = argument;
	JobTask task = task_of(performance->job);

	if (performance->kind->library != NULL)
		performance->result = performance->kind->library->perform(&task);
	else
		performance->result = call_procedure(performance->job, performance->kind);
}

bool
job_is_outside(const QueuedJob *job)
{
	const JobKind *kind = job_kind_find(job->kind);

	return kind != NULL && kind->perform_outside != NULL;
}

static JobOutcome
outcome_of(const ErrorData *error, Jsonb *result)
{
	JobOutcome outcome = {0};

	if (error == NULL)
	{
		outcome.document = result;
		return outcome;
	}
	outcome.error = error->message;
	outcome.sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	return outcome;
}

static bool
may_enter(const pg_uuid_t *tenant)
{
	return tenant == NULL || strcmp(registry_get_latest(tenant)->state, "active") == 0;
}

JobOutcome
job_perform(const QueuedJob *job, CancelPolicy on_cancel)
{
	Performance performance = {.job = job, .kind = job_kind_entry(job->kind)};
	JobOutcome outcome = {0};
	ErrorData *error;

	if (performance.kind == NULL)
	{
		outcome.error = psprintf("job kind \"%s\" does not exist", job->kind);
		outcome.sqlstate = pstrdup("42704");
		return outcome;
	}
	if (performance.kind->library == NULL &&
		(job->tenant == NULL || registry_exists(job->tenant)) && !may_enter(job->tenant))
	{
		outcome.put_off_until = clock_wall() + PUT_OFF_US;
		return outcome;
	}
	error = on_cancel == CANCEL_RAISES
				? attempt_within(job->kind, perform, &performance, job->timeout_seconds)
				: attempt_cancellable(job->kind, perform, &performance);
	return outcome_of(error, performance.result);
}

JobOutcome
job_perform_outside(const QueuedJob *job)
{
	JobTask task = task_of(job);
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile error = NULL;
	JobOutcome outcome = {0};

	PG_TRY();
	{
		outcome = job_kind_find(job->kind)->perform_outside(&task);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return error != NULL ? outcome_of(error, NULL) : outcome;
}

bool
job_record(const QueuedJob *job, JobOutcome *outcome)
{
	const JobKind *kind = job_kind_find(job->kind);
	JobTask task = task_of(job);
	JobFailure failure;

	if (kind != NULL && kind->settle != NULL)
		kind->settle(&task, outcome);
	failure = (JobFailure){
		.error = outcome->error,
		.sqlstate = outcome->sqlstate,
		.is_final = outcome->is_final,
		.retry_after_ms = outcome->retry_after_ms,
		.evidence = outcome->document,
	};

	if (outcome->put_off_until != 0)
		return job_put_off(&job->id, job->fence, outcome->put_off_until);
	if (outcome->error != NULL)
		return job_fail(&job->id, job->fence, &failure);
	return job_succeed(job, outcome->document);
}
