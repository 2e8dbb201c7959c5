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
	int64 refused_count;
	DirectoryEntry entries[FLEXIBLE_ARRAY_MEMBER];
} Directory;

static Directory *directory;
static LWLockPadded *locks;

static Size
directory_size(void)
{
	return add_size(offsetof(Directory, entries),
					mul_size(setting_max_databases, sizeof(DirectoryEntry)));
}

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
		*entry = (DirectoryEntry){.database = database, .next_due = due};
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

void
directory_remove_unless_due(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	if (entry->next_due == DUE_NEVER)
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

void
directory_pause(Oid database)
{
	TimestampTz started = GetCurrentTimestamp();
	pid_t signalled = 0;

	for (;;)
	{
		DirectoryEntry *entry = lock_entry(database);
		pid_t runner;

		if (entry == NULL)
			return;
		entry->paused_until = started + PAUSE_US;
		runner = entry->runner;
		unlock_entry();

		if (runner == 0 || GetCurrentTimestamp() - started > RUNNER_LEAVES_WITHIN_US)
			return;
		if (runner != signalled)
			(void) kill(runner, SIGTERM);
		signalled = runner;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
directory_resume(Oid database)
{
	DirectoryEntry *entry = lock_entry(database);

	if (entry == NULL)
		return;
	entry->paused_until = 0;
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

void
directory_wake_launcher(void)
{
	pid_t pid;
	PGPROC *proc;

	if (!shmem_is_ready())
		return;
	LWLockAcquire(&locks->lock, LW_SHARED);
	pid = directory->launcher;
	LWLockRelease(&locks->lock);
	proc = pid == 0 ? NULL : BackendPidGetProc(pid);
	if (proc != NULL)
		SetLatch(&proc->procLatch);
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
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz launcher_since;
	DirectoryEntry *entries;
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
