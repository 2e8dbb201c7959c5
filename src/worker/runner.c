/*
 * worker/runner.c
 *		A runner: connects to a database that has work, does it, and leaves.
 *
 * A worker that stayed would be in the way of DROP DATABASE and CREATE DATABASE …
 * TEMPLATE.  It is connected as the bootstrap superuser and touches tables through the
 * gate alone, that is as tenancy_owner.
 *
 * A request to stop interrupts the job that runs, whose transaction is then rolled back;
 * the next runner finds its lease, counts a failure and tries again after a pause.  What
 * crashes the server is so not tried again at once.
 *
 * On the way out the counters are flushed once more.  That is all that can be done when
 * the server stops: a fast shutdown ends sessions and runners at the same time, an idle
 * database has no runner, and none can be started any more.  What sessions counted since
 * the last flush, within tenancy.metering_flush_interval, is then lost with the memory.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "job/endpoint.h"
#include "job/queue.h"
#include "job/schedule.h"
#include "meter/meter.h"
#include "worker/directory.h"
#include "worker/worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* Longer than this a flush waits for no lock: it cannot be interrupted. */
#define FLUSH_LOCK_TIMEOUT "2s"

/* Whichever way the process ends.  After an error nothing is known of what is due. */
static void
on_runner_exit(int code, Datum argument)
{
	Oid database = DatumGetObjectId(argument);

	if (code != 0)
	{
		if (!worker_is_told_to_stop())
			directory_note_failure(database);
		(void) directory_note_due(database, DUE_NOW);
	}
	directory_leave(database);
}

static void
log_failure(const JobKind *kind, const JobOutcome *outcome)
{
	if (outcome->error != NULL)
		ereport(LOG, errmsg("job \"%s\" failed: %s", kind->name, outcome->error));
}

typedef struct TurnResult
{
	bool did_work;
	bool has_failed; /* at what is not scheduled, and so has no time of its own to try again */
} TurnResult;

/* Kinds that say themselves when they have work. */
static void
run_pending(TurnResult *result)
{
	worker_set("lock_timeout", FLUSH_LOCK_TIMEOUT);
	for (int i = 0; i < job_kind_count(); i++)
	{
		const JobKind *kind = job_kind(i);
		JobOutcome outcome;

		if (kind->has_work == NULL || !kind->has_work(MyDatabaseId))
			continue;
		worker_start_transaction(kind->name);
		outcome = schedule_run(kind, CANCEL_FAILS);
		log_failure(kind, &outcome);
		if (outcome.error != NULL)
		{
			result->has_failed = true;
			schedule_note_failure(kind, &outcome);
		}
		worker_commit();
		result->did_work = true;
	}
	worker_set("lock_timeout", "0");
}

/* The job, until its timeout or a request to stop.  Neither may come late, and hit what follows. */
static JobOutcome
run_bounded(const JobKind *kind)
{
	JobOutcome outcome;

	worker_arm(kind->timeout_seconds);
	outcome = schedule_run(kind, CANCEL_FAILS);
	worker_disarm();
	return outcome;
}

/* Scheduled kinds: claim and commit, then the work and its outcome in one transaction. */
static void
run_scheduled(TurnResult *result)
{
	TimestampTz next_due;
	JobClaim claim;
	bool is_claimed;

	while (!worker_is_told_to_stop())
	{
		JobOutcome outcome;

		worker_start_transaction("claiming a job");
		is_claimed = schedule_claim(&claim);
		worker_commit();
		if (!is_claimed)
			break;

		worker_start_transaction(claim.kind->name);
		outcome = run_bounded(claim.kind);
		log_failure(claim.kind, &outcome);
		if (schedule_finish(&claim, &outcome))
			worker_commit();
		else
		{
			/* Another has the job now, and will do the work that is undone here. */
			worker_abort();
			ereport(LOG, errmsg("job \"%s\" took longer than its lease", claim.kind->name));
		}
		result->did_work = true;
	}

	worker_start_transaction("looking for the next job");
	if (schedule_fire() > 0)
		result->did_work = true;
	(void) directory_take_due(MyDatabaseId);
	next_due = schedule_next_due();

	/* What is due and could not be claimed is in the hands of a session. */
	next_due =
		Max(next_due, GetCurrentTimestamp() + setting_metering_flush_interval * INT64CONST(1000));
	(void) directory_note_due(MyDatabaseId, next_due);
	worker_commit();
}

/* False where the extension does not exist (any more). */
static bool
is_at_home(void)
{
	TimestampTz due = directory_take_due(MyDatabaseId);
	bool is_ready;

	worker_start_transaction("looking for the extension");
	is_ready = extension_is_ready();
	if (is_ready)
	{
		schedule_sync();
		(void) directory_note_due(MyDatabaseId, due);
	}
	worker_commit();
	return is_ready;
}

static void
recover(void)
{
	worker_start_transaction("looking for what was cut off");
	if (extension_is_ready())
	{
		schedule_recover();
		/* After a crash nobody else knows of the jobs whose workers are gone. */
		job_rescue_all();
		directory_note_jobs(MyDatabaseId, JOB_WORKER, job_is_ready() ? DUE_NOW : job_next_due());
		if (job_is_ready_in(WEBHOOK_KIND))
			directory_note_jobs(MyDatabaseId, WEBHOOK_WORKER, DUE_NOW);
	}
	worker_commit();
}

void
tenancy_runner_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);
	TimestampTz last_work = GetCurrentTimestamp();
	TurnResult result = {0};
	MemoryContext scratch;

	worker_begin("pg_tenancy runner");
	if (!directory_take(database))
		proc_exit(0);
	before_shmem_exit(on_runner_exit, argument);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	scratch = AllocSetContextCreate(TopMemoryContext, "pg_tenancy runner", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	recover();

	while (!worker_is_told_to_stop() && setting_workers)
	{
		result = (TurnResult){0};
		MemoryContextSwitchTo(scratch);
		if (!is_at_home())
		{
			directory_remove_unless_due(database);
			meter_forget(database);
			proc_exit(0);
		}
		run_pending(&result);
		run_scheduled(&result);
		MemoryContextReset(scratch);

		if (result.has_failed)
		{
			directory_note_failure(database);
			proc_exit(0);
		}
		directory_note_success(database);
		if (result.did_work)
			last_work = GetCurrentTimestamp();
		else if (GetCurrentTimestamp() - last_work >=
				 (int64) setting_runner_idle_timeout * INT64CONST(1000))
			break;
		if (directory_is_crowded())
			break;
		worker_sleep(setting_metering_flush_interval);
	}

	MemoryContextSwitchTo(scratch);
	if (worker_is_told_to_stop())
	{
		if (is_at_home())
			run_pending(&result);
		else
			directory_remove_unless_due(database);
	}
	proc_exit(0);
}

bool
runner_start(Oid database)
{
	return worker_start("runner", "tenancy_runner_main", database);
}
