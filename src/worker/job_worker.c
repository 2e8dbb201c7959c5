/*
 * worker/job_worker.c
 *		A job worker: does the queued jobs of a database, and leaves.
 *
 * It claims one job at a time and commits, so that an attempt counts before the work starts;
 * then the work, the record of its end and the claim on the next job are one transaction.
 * Work outside of the database is done with no transaction open.
 *
 * What goes wrong outside of a job ends the process; whoever comes next finds that the
 * holder of the job is gone.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "job/perform.h"
#include "job/queue.h"
#include "worker/directory.h"
#include "worker/worker.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Who has to make room for another database does so after this. */
#define SHORTEST_STAY_US USECS_PER_SEC

static TimestampTz started;

/* Where the claimed job lives. */
static MemoryContext job_context;

static bool has_left_work = false;

static const char *const lanes[] = {JOB_OWN_LANE, JOB_OUTSIDE_LANE};
static int first_lane = 0;

static void
on_job_worker_exit(int code, Datum argument)
{
	Oid database = DatumGetObjectId(argument);

	directory_leave_job_worker();
	if (code != 0 && !worker_is_told_to_stop())
		directory_note_failure(database);
	if (code != 0 || has_left_work)
		directory_note_jobs(database, JOB_WORKER, DUE_NOW);
}

static bool
has_to_leave(void)
{
	if (!worker_is_told_to_stop() && setting_workers &&
		!(directory_is_job_crowded() && GetCurrentTimestamp() - started > SHORTEST_STAY_US))
		return false;
	has_left_work = true;
	return true;
}

/* In a transaction.  While there is more than this process does, another is wanted. */
static bool
claim(QueuedJob *job)
{
	MemoryContext previous = MemoryContextSwitchTo(job_context);
	bool is_claimed;

	directory_take_jobs(MyDatabaseId, JOB_WORKER);
	for (int i = 0; i < lengthof(lanes); i++)
		job_rescue(lanes[i]);
	/* In turn: neither lane waits for the other to be empty. */
	first_lane ^= 1;
	is_claimed =
		job_claim_next(lanes[first_lane], job) || job_claim_next(lanes[first_lane ^ 1], job);
	MemoryContextSwitchTo(previous);
	if (!is_claimed)
	{
		directory_note_jobs(MyDatabaseId, JOB_WORKER, job_next_due());
		return false;
	}
	directory_note_jobs(MyDatabaseId, JOB_WORKER, job_is_ready() ? DUE_NOW : job_next_due());
	return true;
}

static bool
claim_first(QueuedJob *job)
{
	bool is_claimed = false;

	worker_start_transaction("claiming a job");
	if (!extension_is_ready())
	{
		worker_commit();
		proc_exit(0);
	}
	if (!has_to_leave())
		is_claimed = claim(job);
	worker_commit();
	return is_claimed;
}

/* False where the claim was lost: what was done is undone. */
static bool
record(const QueuedJob *job, JobOutcome *outcome)
{
	if (outcome->error != NULL)
		ereport(LOG, errmsg("job of kind \"%s\" failed: %s", job->kind, outcome->error));
	if (job_record(job, outcome))
		return true;
	worker_abort();
	ereport(LOG, errmsg("the claim on a job of kind \"%s\" was lost", job->kind));
	return false;
}

/* The job, its end, and the claim on the next. */
static bool
do_job(QueuedJob *job)
{
	JobOutcome outcome;
	bool is_claimed;

	if (job_is_outside(job))
	{
		worker_arm(job->timeout_seconds);
		outcome = job_perform_outside(job);
		worker_disarm();
		worker_start_transaction("recording a job");
	}
	else
	{
		worker_start_transaction(job->kind);
		worker_arm(job->timeout_seconds);
		outcome = job_perform(job, CANCEL_FAILS);
		worker_disarm();
	}
	if (!record(job, &outcome))
		return claim_first(job);
	is_claimed = !has_to_leave() && claim(job);
	worker_commit();
	return is_claimed;
}

/* How long to wait for more: until the next job is due, or it is time to leave. */
static long
patience_ms(TimestampTz idle_since)
{
	int count;
	DirectoryEntry *entries = directory_read(&count);
	TimestampTz until = idle_since + setting_runner_idle_timeout * INT64CONST(1000);

	for (int i = 0; i < count; i++)
	{
		if (entries[i].database == MyDatabaseId)
			until = Min(until, entries[i].next_job[JOB_WORKER]);
	}
	return Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until), 1);
}

/* Two jobs live at a time, the one that is done and the one that is claimed: so two contexts. */
static void
work(void)
{
	MemoryContext contexts[2];
	TimestampTz idle_since = GetCurrentTimestamp();
	bool is_claimed = false;
	QueuedJob job;

	for (int i = 0; i < 2; i++)
		contexts[i] = AllocSetContextCreate(TopMemoryContext, "pg_tenancy job worker",
											ALLOCSET_DEFAULT_SIZES);
	for (int turn = 0;; turn ^= 1)
	{
		job_context = contexts[turn];
		MemoryContextReset(job_context);
		MemoryContextSwitchTo(job_context);
		CHECK_FOR_INTERRUPTS();
		if (is_claimed)
		{
			is_claimed = do_job(&job);
			idle_since = GetCurrentTimestamp();
		}
		else
			is_claimed = claim_first(&job);
		if (is_claimed)
			continue;
		if (worker_is_told_to_stop() || directory_is_job_crowded() ||
			GetCurrentTimestamp() - idle_since >= setting_runner_idle_timeout * INT64CONST(1000))
			return;
		directory_set_idle(true);
		worker_sleep(patience_ms(idle_since));
		directory_set_idle(false);
	}
}

void
tenancy_job_worker_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);

	worker_begin("pg_tenancy job worker");
	if (!directory_enter_job_worker(database, JOB_WORKER))
		proc_exit(0);
	before_shmem_exit(on_job_worker_exit, argument);
	started = GetCurrentTimestamp();
	worker_connect(database);
	work();
	proc_exit(0);
}

bool
job_worker_start(Oid database)
{
	return worker_start("job worker", "tenancy_job_worker_main", database);
}
