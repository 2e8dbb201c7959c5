/*
 * worker/runner.c
 *		A runner: connects to a database that has work, does it, and leaves.
 *
 * A worker that stayed would be in the way of DROP DATABASE and CREATE DATABASE …
 * TEMPLATE.  It is connected as the bootstrap superuser and touches tables through the
 * gate alone, that is as tenancy_owner.
 *
 * A request to stop interrupts the job that runs, whose transaction is then rolled back
 * and whose lease ends by itself.  On the way out the counters are flushed once more;
 * in a shutdown of the server sessions may end after that, and what they counted since
 * the flush before is lost.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "job/schedule.h"
#include "meter/meter.h"
#include "worker/directory.h"
#include "worker/worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static void
on_runner_exit(int code, Datum argument)
{
	directory_leave(MyDatabaseId);
}

static void
begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Kinds that say themselves when they have work. */
static bool
run_pending(void)
{
	bool did_work = false;

	for (int i = 0; i < job_kind_count(); i++)
	{
		const JobKind *kind = job_kind(i);
		JobOutcome outcome;

		if (kind->has_work == NULL || !kind->has_work(MyDatabaseId))
			continue;
		begin(kind->name);
		outcome = schedule_run(kind);
		if (outcome.error != NULL)
			ereport(LOG,
					errmsg("job \"%s\" failed: %s", kind->name, outcome.error));
		commit();
		did_work = true;
	}
	return did_work;
}

/* Scheduled kinds: claim and commit, then the work and its outcome in one transaction. */
static bool
run_scheduled(void)
{
	bool did_work = false;
	JobClaim claim;
	bool is_claimed;

	for (;;)
	{
		JobOutcome outcome;

		begin("claiming a job");
		is_claimed = schedule_claim(&claim);
		commit();
		if (!is_claimed || worker_is_told_to_stop())
			break;

		begin(claim.kind->name);
		worker_set_interruptible(true);
		outcome = schedule_run(claim.kind);
		worker_set_interruptible(false);
		if (outcome.error != NULL)
			ereport(LOG,
					errmsg("job \"%s\" failed: %s", claim.kind->name, outcome.error));
		schedule_finish(&claim, &outcome);
		commit();
		did_work = true;
	}

	begin("looking for the next job");
	directory_set_due(MyDatabaseId, schedule_next_due());
	commit();
	return did_work;
}

/* False where the extension does not exist (any more). */
static bool
is_at_home(void)
{
	bool is_ready;

	begin("looking for the extension");
	is_ready = extension_is_ready();
	if (is_ready)
		schedule_sync();
	commit();
	return is_ready;
}

void
tenancy_runner_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);
	TimestampTz last_work = GetCurrentTimestamp();
	MemoryContext scratch;

	worker_begin("pg_tenancy runner");
	if (!directory_take(database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	before_shmem_exit(on_runner_exit, (Datum) 0);
	scratch = AllocSetContextCreate(TopMemoryContext, "pg_tenancy runner", ALLOCSET_DEFAULT_SIZES);

	while (!worker_is_told_to_stop() && setting_workers)
	{
		bool did_work;

		MemoryContextSwitchTo(scratch);
		if (!is_at_home())
		{
			directory_remove(database);
			meter_forget(database);
			proc_exit(0);
		}
		did_work = run_pending();
		did_work = run_scheduled() || did_work;
		MemoryContextReset(scratch);

		if (did_work)
			last_work = GetCurrentTimestamp();
		else if (GetCurrentTimestamp() - last_work >=
				 (int64) setting_runner_idle_timeout * INT64CONST(1000))
			break;
		worker_sleep(setting_metering_flush_interval);
	}

	MemoryContextSwitchTo(scratch);
	if (worker_is_told_to_stop() && is_at_home())
		(void) run_pending();
	proc_exit(0);
}

bool
runner_start(Oid database)
{
	BackgroundWorkerHandle *handle;
	pid_t pid;
	BackgroundWorker runner = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = ObjectIdGetDatum(database),
		.bgw_notify_pid = MyProcPid,
	};

	snprintf(runner.bgw_name, BGW_MAXLEN, "pg_tenancy runner for database %u", database);
	snprintf(runner.bgw_type, BGW_MAXLEN, "pg_tenancy runner");
	snprintf(runner.bgw_library_name, BGW_MAXLEN, "pg_tenancy");
	snprintf(runner.bgw_function_name, BGW_MAXLEN, "tenancy_runner_main");
	if (!RegisterDynamicBackgroundWorker(&runner, &handle))
		return false;
	(void) WaitForBackgroundWorkerStartup(handle, &pid);
	pfree(handle);
	return true;
}
