/*
 * worker/launcher.c
 *		The launcher: one per cluster, connected to no database.
 *
 * It starts a runner in each database that has work: counters to flush, or scheduled
 * work that is due.  When it starts it knows nothing, so it sends a runner through every
 * database once; after that a database makes itself known by its counters, and when the
 * extension is created or its schedule is changed.
 *
 * It runs no flush of its own when the server stops: it is connected to no database, and
 * the postmaster starts no runner any more.
 */
#include "postgres.h"

#include "core/settings.h"
#include "domain/domain.h"
#include "resource/resource.h"
#include "meter/meter.h"
#include "observe/door_state.h"
#include "worker/directory.h"
#include "worker/door.h"
#include "worker/worker.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define LONGEST_SLEEP_MS 60000
#define DOOR_RETRY_MS 2000
#define SAMPLE_MS 1000 /* between two looks at who waits for a lock */

/* Databases that no runner has been sent to since the start, in TopMemoryContext. */
static List *undiscovered = NIL;

typedef enum DatabaseState
{
	DATABASE_GONE,
	DATABASE_CLOSED, /* takes no connections, or is a template */
	DATABASE_OPEN
} DatabaseState;

static bool
is_open(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate;
}

static DatabaseState
database_state(Oid database)
{
	DatabaseState state = DATABASE_GONE;
	HeapTuple tuple;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		state = is_open((Form_pg_database) GETSTRUCT(tuple)) ? DATABASE_OPEN : DATABASE_CLOSED;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return state;
}

/*
 * Every database that takes connections and is no template; in TopMemoryContext.  Where a name
 * is given, that one alone.
 */
static List *
list_databases(const char *name)
{
	MemoryContext previous;
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;
	List *databases = NIL;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	/* Not by an index: what finds one needs a database. */
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!is_open(database) || (name != NULL && strcmp(NameStr(database->datname), name) != 0))
			continue;
		previous = MemoryContextSwitchTo(TopMemoryContext);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(previous);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/*
 * As many at a time as there may be runners, so that the directory is not filled with
 * databases that do not have the extension.
 */
static void
discover(const DirectoryEntry *entries, int count)
{
	TimestampTz now = GetCurrentTimestamp();
	int looked_at = 0;

	for (int i = 0; i < count; i++)
		looked_at += entries[i].next_due == DUE_NOW && entries[i].failure_count == 0 &&
					 entries[i].paused_until <= now;
	for (; undiscovered != NIL && looked_at < setting_max_runners; looked_at++)
	{
		if (!directory_note_due(linitial_oid(undiscovered), DUE_NOW))
			return;
		undiscovered = list_delete_first(undiscovered);
	}
}

/* Oids of databases with counters to flush; the visitor may not allocate. */
typedef struct PendingDatabases
{
	int count;
	int capacity;
	Oid *oids;
} PendingDatabases;

static void
note_pending(Oid database, void *argument)
{
	PendingDatabases *pending = argument;

	for (int i = 0; i < pending->count; i++)
	{
		if (pending->oids[i] == database)
			return;
	}
	if (pending->count < pending->capacity)
		pending->oids[pending->count++] = database;
}

static bool
has(const PendingDatabases *pending, Oid database)
{
	for (int i = 0; i < pending->count; i++)
	{
		if (pending->oids[i] == database)
			return true;
	}
	return false;
}

/* Who has been without a runner the longest comes first. */
static int
compare_since(const void *a, const void *b)
{
	const DirectoryEntry *left = a;
	const DirectoryEntry *right = b;

	return (left->since > right->since) - (left->since < right->since);
}

static bool
is_due(const DirectoryEntry *entry, const PendingDatabases *pending, TimestampTz now)
{
	int64 interval_us = setting_metering_flush_interval * INT64CONST(1000);

	return entry->runner == 0 && entry->paused_until <= now && entry->retry_at <= now &&
		   (entry->next_due <= now ||
			(entry->since + interval_us <= now && has(pending, entry->database)));
}

/*
 * Start a runner where something is due, as far as there may be runners.  When one
 * leaves, the postmaster wakes the launcher; so nothing waits longer than it has to.
 */
static void
dispatch(void)
{
	PendingDatabases pending = {.capacity = setting_max_databases};
	DirectoryEntry *entries;
	TimestampTz now;
	bool is_crowded = false;
	int runners = 0;
	int count;

	pending.oids = palloc(sizeof(Oid) * pending.capacity);
	meter_for_each_pending(note_pending, &pending);
	limits_for_each_pending(note_pending, &pending);
	for (int i = 0; i < pending.count; i++)
		(void) directory_note_due(pending.oids[i], DUE_NEVER);
	entries = directory_read(&count);
	discover(entries, count);

	entries = directory_read(&count);
	qsort(entries, count, sizeof(DirectoryEntry), compare_since);
	for (int i = 0; i < count; i++)
		runners += entries[i].runner != 0;
	now = GetCurrentTimestamp();
	for (int i = 0; i < count; i++)
	{
		DatabaseState state;

		if (!is_due(&entries[i], &pending, now))
			continue;
		state = database_state(entries[i].database);
		if (state == DATABASE_GONE)
		{
			directory_remove(entries[i].database);
			meter_forget(entries[i].database);
			limits_forget(entries[i].database);
			domain_forget(entries[i].database);
		}
		if (state != DATABASE_OPEN)
			continue;
		is_crowded = runners >= setting_max_runners || !runner_start(entries[i].database);
		if (is_crowded)
			break;
		runners++;
	}
	directory_set_crowded(is_crowded);
}

static int
count_workers(const JobWorker *workers, int count, Oid database, JobRole role, bool idle_only)
{
	int n = 0;

	for (int i = 0; i < count; i++)
		n += workers[i].database == database && workers[i].role == role &&
			 (!idle_only || workers[i].is_idle);
	return n;
}

/* Of those that have a place, who does no jobs. */
static int
count_readers(const JobWorker *workers, int count)
{
	int n = 0;

	for (int i = 0; i < count; i++)
		n += workers[i].role == DOOR_READER;
	return n;
}

static int
compare_jobs_since(const void *a, const void *b)
{
	const DirectoryEntry *left = a;
	const DirectoryEntry *right = b;

	return (left->jobs_since > right->jobs_since) - (left->jobs_since < right->jobs_since);
}

/*
 * Start a job worker where jobs are ready and none is idle.  A database without one comes
 * before a database that has some already, and makes those leave when there is no room.
 */
static void
dispatch_jobs(void)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entries;
	JobWorker *workers;
	bool is_crowded = false;
	int entry_count;
	int count;

	entries = directory_read(&entry_count);
	qsort(entries, entry_count, sizeof(DirectoryEntry), compare_jobs_since);
	for (int wanted = 0; wanted <= 1; wanted++)
	{
		for (int i = 0; i < entry_count; i++)
		{
			Oid database = entries[i].database;

			if (entries[i].next_job[JOB_WORKER] > now || entries[i].paused_until > now ||
				entries[i].retry_at > now)
				continue;
			workers = directory_read_job_workers(&count);
			if (Min(count_workers(workers, count, database, JOB_WORKER, false), 1) != wanted ||
				count_workers(workers, count, database, JOB_WORKER, true) > 0 ||
				database_state(database) != DATABASE_OPEN)
				continue;
			if (count - count_readers(workers, count) >= setting_max_job_workers ||
				!job_worker_start(database))
				is_crowded |= wanted == 0;
		}
	}
	directory_set_job_crowded(is_crowded);
}

/* One process delivers all webhooks of a database. */
static void
dispatch_webhooks(void)
{
	TimestampTz now = GetCurrentTimestamp();
	DirectoryEntry *entries;
	JobWorker *workers;
	int entry_count;
	int count;

	entries = directory_read(&entry_count);
	for (int i = 0; i < entry_count; i++)
	{
		Oid database = entries[i].database;

		workers = directory_read_job_workers(&count);
		if (entries[i].next_job[WEBHOOK_WORKER] <= now && entries[i].paused_until <= now &&
			entries[i].retry_at <= now &&
			count_workers(workers, count, database, WEBHOOK_WORKER, false) == 0 &&
			database_state(database) == DATABASE_OPEN)
			(void) webhook_worker_start(database);
	}
}

static bool
is_paused(Oid database, TimestampTz now)
{
	int count;
	DirectoryEntry *entries = directory_read(&count);

	for (int i = 0; i < count; i++)
	{
		if (entries[i].database == database)
			return entries[i].paused_until > now;
	}
	return false;
}

/* The door, and who reads the database for it. */
static void
dispatch_door(void)
{
	static TimestampTz next_try = 0;
	TimestampTz now = GetCurrentTimestamp();
	List *databases;

	if (*setting_http_listen == '\0' || now < next_try)
		return;
	next_try = now + DOOR_RETRY_MS * INT64CONST(1000);
	(void) door_start();
	if (*setting_http_database == '\0' || pg_atomic_read_u32(&door_state->reader) != 0)
		return;
	databases = list_databases(setting_http_database);
	if (databases != NIL && !is_paused(linitial_oid(databases), now))
		(void) door_reader_start(linitial_oid(databases));
	list_free(databases);
}

/* Each session that waits now stands for the time since the last look. */
static void
sample_waits(void)
{
	static TimestampTz last_look = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (last_look != 0)
		meter_sample_waits(Min(now - last_look, SAMPLE_MS * INT64CONST(1000)));
	last_look = now;
}

static void
on_launcher_exit(int code, Datum argument)
{
	directory_set_launcher(0);
}

void
tenancy_launcher_main(Datum argument)
{
	MemoryContext scratch;

	worker_begin("pg_tenancy launcher");
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(on_launcher_exit, (Datum) 0);
	directory_set_launcher(MyProcPid);
	scratch =
		AllocSetContextCreate(TopMemoryContext, "pg_tenancy launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	undiscovered = list_databases(NULL);

	while (!worker_is_told_to_stop())
	{
		/* Switched off it stays, and looks again when the settings are reloaded. */
		long sleep_ms = LONGEST_SLEEP_MS;

		MemoryContextSwitchTo(scratch);
		if (setting_workers)
		{
			dispatch();
			sample_waits();
			dispatch_jobs();
			dispatch_webhooks();
			sleep_ms = Min(setting_metering_flush_interval, SAMPLE_MS);
		}
		dispatch_door();
		if (*setting_http_listen != '\0')
			sleep_ms = Min(sleep_ms, DOOR_RETRY_MS);
		MemoryContextReset(scratch);
		worker_sleep(sleep_ms);
	}

	/* After an exit with 0 the postmaster would not start it again. */
	proc_exit(1);
}
