/*
 * job/run_due.c
 *		The work of the background workers as a function, for pg_cron and for people.
 *
 * All is done in the transaction of the caller, each piece in a subtransaction.  A server
 * that dies of a piece so forgets that it was tried: the workers count first.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/own_call.h"
#include "context/context.h"
#include "core/function.h"
#include "job/perform.h"
#include "job/queue.h"
#include "job/schedule.h"

#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define CRON_JOB "pg_tenancy"

/* A schedule that makes up for all that it has missed is left to the next call. */
#define MAX_FIRINGS 1000

static void
put_result(ReturnSetInfo *result, const char *kind, const JobOutcome *outcome)
{
	bool nulls[3] = {false, false, outcome->error == NULL};
	Datum values[3] = {
		CStringGetTextDatum(kind),
		CStringGetTextDatum(outcome->error == NULL ? "succeeded" : "failed"),
		outcome->error == NULL ? (Datum) 0 : CStringGetTextDatum(outcome->error),
	};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Kinds that say themselves when they have work: told of where they fail. */
static void
run_pending(ReturnSetInfo *result)
{
	for (int i = 0; i < job_kind_count(); i++)
	{
		const JobKind *kind = job_kind(i);
		JobOutcome outcome;

		if (kind->has_work == NULL || !kind->has_work(MyDatabaseId))
			continue;
		outcome = schedule_run(kind, CANCEL_RAISES);
		if (outcome.error == NULL)
			continue;
		schedule_note_failure(kind, &outcome);
		put_result(result, kind->name, &outcome);
	}
}

/* job_run_due(max_jobs int) → TABLE(kind text, state text, error text) */
TENANCY_FUNCTION(job_run_due)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32 max_jobs = PG_GETARG_INT32(0);
	JobClaim claim;
	QueuedJob job;
	int count;

	if (max_jobs < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_jobs\" must be at least 1"));
	context_require_none("running jobs");
	extension_require();
	InitMaterializedSRF(fcinfo, 0);
	run_pending(result);
	schedule_sync();
	for (count = 0; count < max_jobs && schedule_claim(&claim); count++)
	{
		JobOutcome outcome = schedule_run(claim.kind, CANCEL_RAISES);

		/* The row of the schedule stays locked from the claim on. */
		if (!schedule_finish(&claim, &outcome))
			elog(ERROR, "the claim on job \"%s\" was lost", claim.kind->name);
		put_result(result, claim.kind->name, &outcome);
	}

	for (int i = 0; i < MAX_FIRINGS && schedule_fire() > 0; i++)
		CHECK_FOR_INTERRUPTS();
	job_rescue(JOB_OWN_LANE);
	for (; count < max_jobs && job_claim_next(JOB_OWN_LANE, &job); count++)
	{
		JobOutcome outcome = job_perform(&job, CANCEL_RAISES);

		if (!job_record(&job, &outcome))
			elog(ERROR, "the claim on a job of kind \"%s\" was lost", job.kind);
		if (outcome.put_off_until == 0)
			put_result(result, job.kind, &outcome);
	}
	/* Last: what is rescued stays locked, also for those whose lanes these are. */
	job_rescue_all();
	return (Datum) 0;
}

static void
require_cron(void)
{
	if (!OidIsValid(get_extension_oid("pg_cron", true)))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the extension pg_cron does not exist in this database"),
				errhint("Set cron.database_name to \"%s\" and run CREATE EXTENSION pg_cron.",
						get_database_name(MyDatabaseId)));
}

/* With the rights of the caller, whose job it then is. */
static NullableDatum
call_cron(const char *sql, int argument_count, const char *const *texts)
{
	Oid types[3] = {TEXTOID, TEXTOID, TEXTOID};
	NullableDatum arguments[3];
	GateRows *rows;

	for (int i = 0; i < argument_count; i++)
		arguments[i] = gate_text(texts[i]);
	rows = gate_query_text(sql, argument_count, types, arguments);
	return rows->count == 0 ? gate_null() : gate_datum(row_datum(rows, 0, 0));
}

/* cron_install(schedule text) → bigint */
TENANCY_FUNCTION(cron_install)
{
	char *schedule = required_text(fcinfo, 0, "schedule");
	const char *texts[] = {
		CRON_JOB,
		schedule,
		psprintf("SELECT %s", own_call("job_run_due", 0, NULL)),
	};

	context_require_none("installing jobs");
	require_cron();
	return call_cron("SELECT cron.schedule($1, $2, $3)", 3, texts).value;
}

/* cron_uninstall() → boolean */
TENANCY_FUNCTION(cron_uninstall)
{
	const char *texts[] = {CRON_JOB};
	NullableDatum job;

	context_require_none("uninstalling jobs");
	require_cron();
	job = call_cron("SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE j.jobname = $1"
					"   AND j.username = pg_catalog.current_user()",
					1, texts);
	PG_RETURN_BOOL(!job.isnull);
}
