/*
 * worker/directory.c
 *		The databases that have work for a runner, in shared memory.
 *
 * The launcher reads it, runners and sessions write to it.  It is rebuilt by discovery
 * after a crash.
 *
 * Lock rules.  One LWLock guards the whole array: it is small, and taken a few times a
 * second at most.  Nothing allocates, raises or takes another lock while it is held.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/settings.h"
#include "shmem/shmem.h"
#include "worker/directory.h"

#include <signal.h>

#include "access/htup_details.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#define PAUSE_US (60 * USECS_PER_SEC)

/* A restore ends with its sessions; should that be forgotten, after a day. */
#define RESTORE_US USECS_PER_DAY

/* pg_restore --jobs ends its first session before it starts the others, and they before the last. */
#define RESTORE_GOES_ON_US (10 * USECS_PER_SEC)
#define RUNNER_LEAVES_WITHIN_US (5 * USECS_PER_SEC)
#define POLL_MS 10

/* After 1, 2, 4 … seconds, 5 minutes at most, a quarter more or less. */
#define FIRST_RETRY_US USECS_PER_SEC
#define LAST_RETRY_US (5 * USECS_PER_MINUTE)
#define MAX_DOUBLINGS 9

typedef struct Directory
{
	pid_t launcher;
	TimestampTz launcher_since;
	bool is_crowded;
	bool is_job_crowded;
	int64 refused_count;
	DirectoryEntry entries[FLEXIBLE_ARRAY_MEMBER];
} Directory;

static Directory *directory;
static JobWorker *job_workers; /* max_worker_processes of them; under the same lock */
static LWLockPadded *locks;

static Size
directory_size(void)
{
	return add_size(offsetof(Directory, entries),
					mul_size(setting_max_databases, sizeof(DirectoryEntry)));
}

static Size
job_workers_size(void)
{
	return mul_size(max_worker_processes, sizeof(JobWorker));
}

static SharedPart job_workers_part = {
	.name = "pg_tenancy job workers",
	.size = job_workers_size,
	.memory = (void **) &job_workers,
};

static int
one_lock(void)
{
	return 1;
}

static SharedPart directory_part = {
	.name = "pg_tenancy databases",
	.size = directory_size,
	.lock_count = one_lock,
	.memory = (void **) &directory,
	.locks = &locks,
};

void
directory_init(void)
{
	shmem_register(&directory_part);
	shmem_register(&job_workers_part);
}

static DirectoryEntry *
find(Oid database)
{
	for (int i = 0; i < setting_max_databases; i++)
	{
		if (directory->entries[i].database == database)
			return &directory->entries[i];
	}
	return NULL;
}

/* The entry, locked for writing; NULL, and nothing locked, where there is none. */
static DirectoryEntry *
lock_entry(Oid database)
{
	DirectoryEntry *entry;

	if (!shmem_is_ready() || !OidIsValid(database))
		return NULL;
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry == NULL)
		LWLockRelease(&locks->lock);
	return entry;
}

static void
unlock_entry(void)
{
	LWLockRelease(&locks->lock);
}

bool
directory_note_due(Oid database, TimestampTz due)
{
	DirectoryEntry *entry;

	if (!shmem_is_ready())
		return false;
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
		entry->next_due = Min(entry->next_due, due);
	else if ((entry = find(InvalidOid)) != NULL)
		*entry = (DirectoryEntry){
			.database = database, .next_due = due, .next_job = {DUE_NEVER, DUE_NEVER}};
	else
		directory->refused_count++;
	LWLockRelease(&locks->lock);
	return entry != NULL;
}

TimestampTz
directory_take_due(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);
	TimestampTz due;

	if (entry == NULL)
		return DUE_NEVER;
	due = entry->next_due;
	entry->next_due = DUE_NEVER;
	unlock_entry();
	return due;
}

void
directory_remove(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	memset(entry, 0, sizeof(DirectoryEntry));
	unlock_entry();
}

/* Under the lock. */
static bool
has_worker(Oid database)
{
	for (int i = 0; i < max_worker_processes; i++)
	{
		if (job_workers[i].database == database)
			return true;
	}
	return false;
}

void
directory_remove_unless_due(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	if (entry->next_due == DUE_NEVER && entry->next_job[JOB_WORKER] == DUE_NEVER &&
		entry->next_job[WEBHOOK_WORKER] == DUE_NEVER && !has_worker(database))
		memset(entry, 0, sizeof(DirectoryEntry));
	unlock_entry();
}

bool
directory_take(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);
	bool taken = false;

	if (entry == NULL)
		return false;
	if (entry->runner == 0 && entry->paused_until <= now)
	{
		entry->runner = MyProcPid;
		entry->since = now;
		entry->is_restored = false;
		taken = true;
	}
	unlock_entry();
	return taken;
}

void
directory_leave(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	if (entry->runner == MyProcPid)
	{
		entry->runner = 0;
		entry->since = now;
	}
	unlock_entry();
}

void
directory_note_success(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	entry->failure_count = 0;
	entry->retry_at = 0;
	unlock_entry();
}

void
directory_note_failure(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	double jitter = 0.75 + 0.5 * pg_prng_double(&pg_global_prng_state);
	DirectoryEntry *entry = lock_entry(database);
	int64 delay_us;

	if (entry == NULL)
		return;
	delay_us = Min(FIRST_RETRY_US << Min(entry->failure_count, MAX_DOUBLINGS), LAST_RETRY_US);
	entry->failure_count++;
	entry->retry_at = now + (int64) (delay_us * jitter);
	unlock_entry();
}

DirectoryEntry *
directory_read(int *count)
{
	DirectoryEntry *entries = palloc(sizeof(DirectoryEntry) * setting_max_databases);
	int n = 0;

	LWLockAcquire(&locks->lock, LW_SHARED);
	for (int i = 0; i < setting_max_databases; i++)
	{
		if (OidIsValid(directory->entries[i].database))
			entries[n++] = directory->entries[i];
	}
	LWLockRelease(&locks->lock);
	*count = n;
	return entries;
}

/* Under the lock: the pid of a process of the database, not yet asked to stop; 0 for none. */
static pid_t
next_to_stop(const DirectoryEntry *entry, const pid_t *asked, int asked_count, bool *is_free)
{
	pid_t found = 0;

	*is_free = entry->runner == 0;
	for (int i = -1; i < max_worker_processes; i++)
	{
		bool was_asked = false;
		pid_t pid = i < 0 ? entry->runner : job_workers[i].pid;

		if (pid == 0 || (i >= 0 && job_workers[i].database != entry->database))
			continue;
		*is_free = false;
		for (int n = 0; n < asked_count; n++)
			was_asked |= asked[n] == pid;
		if (!was_asked)
			found = pid;
	}
	return found;
}

void
directory_pause(Oid database)
{
	TimestampTz started = GetCurrentTimestamp();
	pid_t *asked = palloc(sizeof(pid_t) * (max_worker_processes + 1));
	int asked_count = 0;

	for (;;)
	{
		DirectoryEntry *entry = lock_entry(database);
		bool is_free;
		pid_t pid;

		if (entry == NULL)
			return;
		entry->paused_until = started + PAUSE_US;
		pid = next_to_stop(entry, asked, asked_count, &is_free);
		unlock_entry();

		if (is_free || GetCurrentTimestamp() - started > RUNNER_LEAVES_WITHIN_US)
			return;
		if (pid != 0 && asked_count <= max_worker_processes)
		{
			(void) kill(pid, SIGTERM);
			asked[asked_count++] = pid;
			continue;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
directory_begin_restore(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry;

	(void) directory_note_due(database, DUE_NEVER);
	entry = lock_entry(database);
	if (entry == NULL)
		return;
	entry->is_restored = true;
	entry->restorer_count++;
	entry->paused_until = now + RESTORE_US;
	unlock_entry();
}

bool
directory_join_restore(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);
	bool is_restored;

	if (entry == NULL)
		return false;
	is_restored = entry->is_restored && entry->paused_until > now;
	if (is_restored)
	{
		entry->restorer_count++;
		entry->paused_until = now + RESTORE_US;
	}
	unlock_entry();
	return is_restored;
}

void
directory_end_restore(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	if (entry->restorer_count > 0 && --entry->restorer_count == 0)
		entry->paused_until = now + RESTORE_GOES_ON_US;
	unlock_entry();
}

void
directory_resume(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	entry->paused_until = entry->restorer_count > 0 ? now + RESTORE_US : 0;
	unlock_entry();
}

void
directory_set_crowded(bool is_crowded)
{
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	directory->is_crowded = is_crowded;
	LWLockRelease(&locks->lock);
}

bool
directory_is_crowded(void)
{
	bool is_crowded;

	LWLockAcquire(&locks->lock, LW_SHARED);
	is_crowded = directory->is_crowded;
	LWLockRelease(&locks->lock);
	return is_crowded;
}

void
directory_set_launcher(pid_t pid)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	directory->launcher = pid;
	directory->launcher_since = now;
	LWLockRelease(&locks->lock);
}

static void
wake(pid_t pid)
{
	PGPROC *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

void
directory_wake_launcher(void)
{
	pid_t pid;

	if (!shmem_is_ready())
		return;
	LWLockAcquire(&locks->lock, LW_SHARED);
	pid = directory->launcher;
	LWLockRelease(&locks->lock);
	wake(pid);
}

bool
directory_has_launcher(void)
{
	pid_t pid;

	LWLockAcquire(&locks->lock, LW_SHARED);
	pid = directory->launcher;
	LWLockRelease(&locks->lock);
	return pid != 0;
}

void
directory_note_jobs(Oid database, JobRole role, TimestampTz due)
{
	DirectoryEntry *entry;
	pid_t idle = 0;

	if (!directory_note_due(database, DUE_NEVER))
		return;
	entry = lock_entry(database);
	if (entry == NULL)
		return;
	entry->next_job[role] = Min(entry->next_job[role], due);
	for (int i = 0; i < max_worker_processes && due == DUE_NOW; i++)
	{
		if (job_workers[i].database == database && job_workers[i].role == role &&
			job_workers[i].is_idle)
			idle = job_workers[i].pid;
	}
	unlock_entry();
	if (idle != 0)
		wake(idle);
	else if (due == DUE_NOW)
		directory_wake_launcher();
}

void
directory_take_jobs(Oid database, JobRole role)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	entry->next_job[role] = DUE_NEVER;
	unlock_entry();
}

static JobWorker *
own_place(void)
{
	for (int i = 0; i < max_worker_processes; i++)
	{
		if (job_workers[i].pid == MyProcPid)
			return &job_workers[i];
	}
	return NULL;
}

bool
directory_enter_job_worker(Oid database, JobRole role)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry = lock_entry(database);
	bool has_entered = false;

	if (entry == NULL)
		return false;
	for (int i = 0; i < max_worker_processes && entry->paused_until <= now && !has_entered; i++)
	{
		if (OidIsValid(job_workers[i].database))
			continue;
		job_workers[i] =
			(JobWorker){.database = database, .role = role, .pid = MyProcPid, .since = now};
		entry->jobs_since = now;
		has_entered = true;
	}
	unlock_entry();
	return has_entered;
}

void
directory_leave_job_worker(void)
{
	TimestampTz now = GetCurrentTimestamp();
	JobWorker *self;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	self = own_place();
	if (self != NULL)
	{
		DirectoryEntry *entry = find(self->database);

		if (entry != NULL)
			entry->jobs_since = now;
		memset(self, 0, sizeof(JobWorker));
	}
	LWLockRelease(&locks->lock);
}

void
directory_set_idle(bool is_idle)
{
	JobWorker *self;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	self = own_place();
	if (self != NULL)
		self->is_idle = is_idle;
	LWLockRelease(&locks->lock);
}

JobWorker *
directory_read_job_workers(int *count)
{
	JobWorker *workers = palloc(sizeof(JobWorker) * Max(max_worker_processes, 1));
	int n = 0;

	LWLockAcquire(&locks->lock, LW_SHARED);
	for (int i = 0; i < max_worker_processes; i++)
	{
		if (OidIsValid(job_workers[i].database))
			workers[n++] = job_workers[i];
	}
	LWLockRelease(&locks->lock);
	*count = n;
	return workers;
}

void
directory_set_job_crowded(bool is_crowded)
{
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	directory->is_job_crowded = is_crowded;
	LWLockRelease(&locks->lock);
}

bool
directory_is_job_crowded(void)
{
	bool is_crowded;

	LWLockAcquire(&locks->lock, LW_SHARED);
	is_crowded = directory->is_job_crowded;
	LWLockRelease(&locks->lock);
	return is_crowded;
}

static const char *
state_of(const DirectoryEntry *entry, TimestampTz now)
{
	if (entry->paused_until > now)
		return "paused";
	if (entry->runner != 0)
		return "running";
	return entry->retry_at > now ? "failing" : "idle";
}

/* A time as SQL shows it; what is not known, or never, is null. */
static void
put_time(Datum *values, bool *nulls, int column, TimestampTz time)
{
	nulls[column] = time == 0 || TIMESTAMP_NOT_FINITE(time);
	values[column] = TimestampTzGetDatum(time);
}

/*
 * tenancy.worker_read() → TABLE(role text, database oid, pid int, state text,
 * since timestamptz, next_due_at timestamptz, failures int, retry_at timestamptz)
 */
TENANCY_FUNCTION(worker_read)
{
	static const char *const roles[] = {[JOB_WORKER] = "job worker",
										[WEBHOOK_WORKER] = "webhook worker",
										[DOOR_READER] = "door reader"};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz launcher_since;
	DirectoryEntry *entries;
	JobWorker *workers;
	pid_t launcher;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(&locks->lock, LW_SHARED);
	launcher = directory->launcher;
	launcher_since = directory->launcher_since;
	LWLockRelease(&locks->lock);
	if (launcher != 0)
	{
		Datum values[8] = {CStringGetTextDatum("launcher"), 0, Int32GetDatum(launcher),
						   CStringGetTextDatum(setting_workers ? "running" : "off")};
		bool nulls[8] = {false, true, false, false, false, true, true, true};

		put_time(values, nulls, 4, launcher_since);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}

	workers = directory_read_job_workers(&count);
	for (int i = 0; i < count; i++)
	{
		Datum values[8] = {CStringGetTextDatum(roles[workers[i].role]),
						   ObjectIdGetDatum(workers[i].database), Int32GetDatum(workers[i].pid),
						   CStringGetTextDatum(workers[i].is_idle ? "idle" : "running")};
		bool nulls[8] = {false, false, false, false, false, true, true, true};

		put_time(values, nulls, 4, workers[i].since);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}

	entries = directory_read(&count);
	for (int i = 0; i < count; i++)
	{
		const DirectoryEntry *entry = &entries[i];
		Datum values[8] = {CStringGetTextDatum("runner"), ObjectIdGetDatum(entry->database),
						   Int32GetDatum(entry->runner), CStringGetTextDatum(state_of(entry, now))};
		bool nulls[8] = {false, false, entry->runner == 0};

		put_time(values, nulls, 4, entry->since);
		put_time(values, nulls, 5, entry->next_due);
		values[6] = Int32GetDatum(entry->failure_count);
		put_time(values, nulls, 7, entry->retry_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* tenancy.directory_read() → (used bigint, capacity bigint, refused bigint) */
TENANCY_FUNCTION(directory_read)
{
	Datum values[3];
	bool nulls[3] = {false};
	TupleDesc desc;
	int64 refused;
	int used;

	(void) directory_read(&used);
	LWLockAcquire(&locks->lock, LW_SHARED);
	refused = directory->refused_count;
	LWLockRelease(&locks->lock);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(used);
	values[1] = Int64GetDatum(setting_max_databases);
	values[2] = Int64GetDatum(refused);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
