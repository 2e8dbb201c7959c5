/*
 * worker/launcher.c
 *		The launcher: one per cluster, connected to no database.
 *
 * It starts a runner in each database that has work: counters to flush, or scheduled
 * work that is due.  When it starts it knows nothing, so it sends a runner through every
 * database once, one after the other; after that a database makes itself known by its
 * counters.
 */
#include "postgres.h"

#include "core/settings.h"
#include "meter/meter.h"
#include "worker/directory.h"
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

static bool
database_exists(Oid database)
{
	bool exists;

	StartTransactionCommand();
	exists = SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
	CommitTransactionCommand();
	return exists;
}

/* Every database that takes connections and is no template becomes due at once. */
static void
discover(void)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->datallowconn && !database->datistemplate)
			(void) directory_add(database->oid, 0);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
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

/* Start what is due; how long until the next look, in milliseconds. */
static long
dispatch(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long sleep_ms = Min(setting_metering_flush_interval, LONGEST_SLEEP_MS);
	PendingDatabases pending = {.capacity = setting_max_databases};
	DirectoryEntry *entries;
	int count;

	pending.oids = palloc(sizeof(Oid) * pending.capacity);
	meter_for_each_pending(note_pending, &pending);
	for (int i = 0; i < pending.count; i++)
		(void) directory_add(pending.oids[i], 0);

	entries = directory_read(&count);
	for (int i = 0; i < count; i++)
	{
		const DirectoryEntry *entry = &entries[i];

		if (entry->runner != 0 || entry->paused_until > now ||
			(entry->next_due > now && !has(&pending, entry->database)))
			continue;
		if (!database_exists(entry->database))
		{
			directory_remove(entry->database);
			meter_forget(entry->database);
		}
		else if (!runner_start(entry->database))
			break;
	}
	return sleep_ms;
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
	scratch = AllocSetContextCreate(TopMemoryContext, "pg_tenancy launcher",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	discover();

	while (!worker_is_told_to_stop())
	{
		/* Switched off it stays, and looks again when the settings are reloaded. */
		long sleep_ms = setting_workers ? dispatch() : LONGEST_SLEEP_MS;

		MemoryContextReset(scratch);
		MemoryContextSwitchTo(scratch);
		worker_sleep(sleep_ms);
	}
	proc_exit(0);
}
