/*
 * worker/door_reader.c
 *		The process that reads a database for the door.
 *
 * It sees to it that shared memory knows the domains, and writes what /metrics, /sd and
 * /healthz say to a file that the door reads.  Each is a transaction of its own; one that takes
 * longer than the time between two turns is cancelled, and the process starts over.  It has a
 * place in the directory, so that it leaves for who wants the database for himself.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "domain/domain.h"
#include "observe/door_state.h"
#include "observe/observe.h"
#include "worker/directory.h"
#include "worker/door.h"

#include <unistd.h>

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define NEW_FILE DOOR_FILE ".new"

static void
on_reader_exit(int code, Datum argument)
{
	uint32 self = MyProcPid;

	(void) pg_atomic_compare_exchange_u32(&door_state->reader, &self, 0);
	directory_leave_job_worker();
}

static void
begin(const char *activity)
{
	worker_start_transaction(activity);
	worker_arm(Max(setting_http_refresh_interval / 1000, 1));
}

static void
end(void)
{
	worker_disarm();
	worker_commit();
}

/* Is this still the database that the door is for? */
static bool
is_wanted(void)
{
	char *name;
	bool result;

	worker_start_transaction("looking for the database of the door");
	name = get_database_name(MyDatabaseId);
	result = extension_is_ready() && *setting_http_listen != '\0' && name != NULL &&
			 strcmp(name, setting_http_database) == 0;
	worker_commit();
	return result;
}

static char *
read_text(const char *activity, char *(*read)(void), MemoryContext context)
{
	char *text;

	begin(activity);
	text = MemoryContextStrdup(context, read());
	end();
	return text;
}

static void
write_file(char *const *texts)
{
	DoorFile head = {.magic = DOOR_MAGIC};
	FILE *file = AllocateFile(NEW_FILE, PG_BINARY_W);
	bool is_written;

	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(),
				errmsg("could not write file \"%s\": %m", NEW_FILE));
	for (int i = 0; i < DOOR_TEXTS; i++)
		head.lengths[i] = strlen(texts[i]);
	is_written = fwrite(&head, sizeof(head), 1, file) == 1;
	for (int i = 0; i < DOOR_TEXTS && is_written; i++)
		is_written = fwrite(texts[i], 1, head.lengths[i], file) == head.lengths[i];
	if (FreeFile(file) != 0 || !is_written || rename(NEW_FILE, DOOR_FILE) != 0)
		ereport(ERROR, errcode_for_file_access(),
				errmsg("could not write file \"%s\": %m", DOOR_FILE));
}

static void
read_all(MemoryContext context)
{
	char *texts[DOOR_TEXTS];

	texts[DOOR_TEXT_PROBLEMS] = read_text("looking for what is late", health_problems, context);
	texts[DOOR_TEXT_TARGETS] = read_text("listing targets", scrape_targets_text, context);
	texts[DOOR_TEXT_METRICS] = read_text("reading metrics", metrics_text, context);
	write_file(texts);
	pg_atomic_write_u64(&door_state->read_at, GetCurrentTimestamp());
}

static void
work(void)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "pg_tenancy door reader", ALLOCSET_DEFAULT_SIZES);
	TimestampTz next = 0;

	while (!worker_is_told_to_stop() && is_wanted())
	{
		TimestampTz now = GetCurrentTimestamp();

		begin("loading domains");
		domain_load();
		end();
		pg_atomic_write_u32(&door_state->database, MyDatabaseId);
		if (now >= next)
		{
			read_all(context);
			MemoryContextReset(context);
			next = now + setting_http_refresh_interval * INT64CONST(1000);
		}
		worker_sleep(Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), 1));
	}
}

void
tenancy_door_reader_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);
	uint32 nobody = 0;

	worker_begin("pg_tenancy door reader");
	/* Its place is found by the entry of its database. */
	(void) directory_note_due(database, DUE_NEVER);
	if (!pg_atomic_compare_exchange_u32(&door_state->reader, &nobody, MyProcPid))
		proc_exit(0);
	before_shmem_exit(on_reader_exit, argument);
	if (!directory_enter_job_worker(database, DOOR_READER))
		proc_exit(0);
	worker_connect(database);
	work();
	proc_exit(0);
}

bool
door_reader_start(Oid database)
{
	return worker_start("door reader", "tenancy_door_reader_main", database);
}
