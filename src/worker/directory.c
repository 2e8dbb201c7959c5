/*
 * worker/directory.c
 *		The databases that have work for a runner, in shared memory.
 *
 * Lock rules.  One LWLock guards the whole array: it is small, and taken a few times a
 * second at most.  Nothing allocates, raises or takes another lock while it is held.
 */
#include "postgres.h"

#include "core/settings.h"
#include "core/function.h"
#include "worker/directory.h"
#include "shmem/shmem.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#define PAUSE_US (60 * USECS_PER_SEC)
#define RUNNER_LEAVES_WITHIN_US (5 * USECS_PER_SEC)
#define POLL_MS 10

typedef struct Directory
{
	pid_t launcher;
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

bool
directory_add(Oid database, TimestampTz next_due)
{
	DirectoryEntry *entry;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry == NULL && (entry = find(InvalidOid)) != NULL)
		*entry = (DirectoryEntry){.database = database, .next_due = next_due};
	if (entry == NULL)
		directory->refused_count++;
	LWLockRelease(&locks->lock);
	return entry != NULL;
}

void
directory_remove(Oid database)
{
	DirectoryEntry *entry;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
		memset(entry, 0, sizeof(DirectoryEntry));
	LWLockRelease(&locks->lock);
}

void
directory_set_due(Oid database, TimestampTz next_due)
{
	DirectoryEntry *entry;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
		entry->next_due = next_due;
	LWLockRelease(&locks->lock);
}

bool
directory_take(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entry;
	bool taken = false;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL && entry->runner == 0 && entry->paused_until <= now)
	{
		entry->runner = MyProcPid;
		taken = true;
	}
	LWLockRelease(&locks->lock);
	return taken;
}

void
directory_leave(Oid database)
{
	DirectoryEntry *entry;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL && entry->runner == MyProcPid)
		entry->runner = 0;
	LWLockRelease(&locks->lock);
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

	if (!shmem_is_ready())
		return;
	for (;;)
	{
		DirectoryEntry *entry;
		pid_t runner = 0;

		LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
		entry = find(database);
		if (entry != NULL)
		{
			entry->paused_until = started + PAUSE_US;
			runner = entry->runner;
		}
		LWLockRelease(&locks->lock);

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
	DirectoryEntry *entry;

	if (!shmem_is_ready())
		return;
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	entry = find(database);
	if (entry != NULL)
		entry->paused_until = 0;
	LWLockRelease(&locks->lock);
}

void
directory_set_launcher(pid_t pid)
{
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	directory->launcher = pid;
	LWLockRelease(&locks->lock);
}

pid_t
directory_launcher(void)
{
	pid_t pid;

	LWLockAcquire(&locks->lock, LW_SHARED);
	pid = directory->launcher;
	LWLockRelease(&locks->lock);
	return pid;
}

/* tenancy.worker_read() → TABLE(role text, database oid, pid int, next_due_at timestamptz) */
TENANCY_FUNCTION(worker_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DirectoryEntry *entries;
	pid_t launcher = directory_launcher();
	int count;

	InitMaterializedSRF(fcinfo, 0);
	if (launcher != 0)
	{
		Datum values[4] = {CStringGetTextDatum("launcher"), 0, Int32GetDatum(launcher), 0};
		bool nulls[4] = {false, true, false, true};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	entries = directory_read(&count);
	for (int i = 0; i < count; i++)
	{
		Datum values[4] = {CStringGetTextDatum("runner"), ObjectIdGetDatum(entries[i].database),
						   Int32GetDatum(entries[i].runner),
						   TimestampTzGetDatum(entries[i].next_due)};
		bool nulls[4] = {false, false, entries[i].runner == 0,
						 TIMESTAMP_NOT_FINITE(entries[i].next_due)};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
