/*
 * meter/overflow.c
 *		Counts that have no place in shared memory: a file per database.
 *
 * Two reasons to write one.  The memory is full of tenants whose counts are not in the
 * tables yet: the record waits in the file for the next flush, which takes the file aside
 * and deletes it when it has committed.  And the server stops: what nobody could flush is
 * saved, and read back by the next start.
 *
 * A crash loses the first kind, as it loses what is in memory: a start deletes what it finds.
 * The saved file is deleted before anything of it is flushed, so that nothing counts twice.
 *
 * Lock rules.  One LWLock for the list of databases with a file and for writing to one; it
 * is a leaf.  Files are small and the case is rare, so it is held while one is written.
 */
#include "postgres.h"

#include "core/settings.h"
#include "meter/meter.h"
#include "meter/overflow.h"
#include "shmem/shmem.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#define OVERFLOW_PREFIX "pg_tenancy."
#define SAVED_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/pg_tenancy.saved"

/* What a record looks like, for a start with another version of the library. */
#define RECORD_FORMAT (0x544E0000 + METER_COUNTERS)

typedef struct RecordHead
{
	uint32 format;
	uint32 size; /* with the head */
} RecordHead;

/* The file of a database, and the one that a flush has taken aside. */
typedef struct OverflowFile
{
	Oid database;
	bool has_records;
	bool is_taken;
} OverflowFile;

typedef struct OverflowState
{
	int count;
	OverflowFile files[FLEXIBLE_ARRAY_MEMBER];
} OverflowState;

static OverflowState *state;
static LWLockPadded *locks;

static Size
state_size(void)
{
	return add_size(offsetof(OverflowState, files),
					mul_size(setting_max_databases, sizeof(OverflowFile)));
}

static int
one_lock(void)
{
	return 1;
}

static SharedPart state_part = {
	.name = "pg_tenancy meter overflow",
	.size = state_size,
	.lock_count = one_lock,
	.memory = (void **) &state,
	.locks = &locks,
};

static void
file_path(char *path, Oid database, bool is_taken)
{
	snprintf(path, MAXPGPATH, "%s/" OVERFLOW_PREFIX "%u.%s", PG_STAT_TMP_DIR, database,
			 is_taken ? "taken" : "overflow");
}

static Size
used_size(const MeterDelta *delta)
{
	return offsetof(MeterDelta, buckets) + delta->bucket_count * sizeof(MeterBucket);
}

/* All of the record, or nothing. */
static bool
append(const char *path, const MeterDelta *delta)
{
	Size size = sizeof(RecordHead) + used_size(delta);
	static char buffer[sizeof(RecordHead) + sizeof(MeterDelta)];
	RecordHead head = {.format = RECORD_FORMAT, .size = size};
	struct stat before;
	bool is_written;
	int fd = BasicOpenFile(path, O_WRONLY | O_CREAT | O_APPEND | PG_BINARY);

	if (fd < 0)
		return false;
	memcpy(buffer, &head, sizeof(head));
	memcpy(buffer + sizeof(head), delta, used_size(delta));
	is_written = fstat(fd, &before) == 0 && write(fd, buffer, size) == size;
	if (!is_written && ftruncate(fd, before.st_size) != 0)
		ereport(LOG, errcode_for_file_access(), errmsg("could not truncate file \"%s\": %m", path));
	close(fd);
	return is_written;
}

/* Under the lock. */
static OverflowFile *
find_file(Oid database, bool may_add)
{
	for (int i = 0; i < state->count; i++)
	{
		if (state->files[i].database == database)
			return &state->files[i];
	}
	if (!may_add || state->count == setting_max_databases)
		return NULL;
	state->files[state->count] = (OverflowFile){.database = database};
	return &state->files[state->count++];
}

bool
overflow_write(const MeterDelta *delta)
{
	char path[MAXPGPATH];
	OverflowFile *file;
	bool is_written = false;

	file_path(path, delta->key.database, false);
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	file = find_file(delta->key.database, true);
	if (file != NULL)
		is_written = append(path, delta);
	if (is_written)
		file->has_records = true;
	LWLockRelease(&locks->lock);
	return is_written;
}

/* A record of the file, palloc'd; NULL at its end, or where it makes no sense. */
static MeterDelta *
read_record(FILE *file)
{
	RecordHead head;
	MeterDelta *delta;
	Size size;

	if (fread(&head, sizeof(head), 1, file) != 1 || head.format != RECORD_FORMAT ||
		head.size < sizeof(head) + offsetof(MeterDelta, buckets) ||
		head.size > sizeof(head) + sizeof(MeterDelta))
		return NULL;
	size = head.size - sizeof(head);
	delta = palloc(size);
	if (fread(delta, size, 1, file) != 1 || used_size(delta) != size)
		return NULL;
	for (int i = 0; i < delta->bucket_count; i++)
	{
		if (delta->buckets[i].bucket >= LATENCY_BUCKETS)
			return NULL;
	}
	return delta;
}

MeterDelta **
overflow_take(Oid database, int *count)
{
	char path[MAXPGPATH];
	char aside[MAXPGPATH];
	MeterDelta **records = palloc(sizeof(MeterDelta *));
	int capacity = 1;
	OverflowFile *known;
	bool is_taken = false;
	FILE *file;

	*count = 0;
	file_path(path, database, false);
	file_path(aside, database, true);
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	known = find_file(database, false);
	if (known != NULL && !known->is_taken && known->has_records && rename(path, aside) == 0)
	{
		known->has_records = false;
		known->is_taken = true;
	}
	/* One that is there already is that of a flush that has failed. */
	is_taken = known != NULL && known->is_taken;
	LWLockRelease(&locks->lock);
	if (!is_taken)
		return records;

	file = AllocateFile(aside, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(), errmsg("could not open file \"%s\": %m", aside));
	for (MeterDelta *delta = read_record(file); delta != NULL; delta = read_record(file))
	{
		if (*count == capacity)
			records = repalloc_huge(records, mul_size(capacity *= 2, sizeof(MeterDelta *)));
		records[(*count)++] = delta;
	}
	FreeFile(file);
	return records;
}

static void
remove_file(const char *path)
{
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(LOG, errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path));
}

void
overflow_flushed(Oid database)
{
	char aside[MAXPGPATH];
	OverflowFile *known;

	file_path(aside, database, true);
	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	known = find_file(database, false);
	if (known != NULL && known->is_taken)
	{
		remove_file(aside);
		known->is_taken = false;
	}
	LWLockRelease(&locks->lock);
}

void
overflow_for_each_pending(void (*visit)(Oid database, void *state), void *argument)
{
	/* Unlocked: whoever comes now is seen the next time. */
	for (int i = 0; i < state->count; i++)
	{
		if (state->files[i].has_records || state->files[i].is_taken)
			visit(state->files[i].database, argument);
	}
}

void
overflow_forget(Oid database)
{
	char path[MAXPGPATH];
	OverflowFile *known;

	LWLockAcquire(&locks->lock, LW_EXCLUSIVE);
	known = find_file(database, false);
	if (known != NULL)
	{
		for (int is_taken = false; is_taken <= true; is_taken++)
		{
			file_path(path, database, is_taken);
			remove_file(path);
		}
		*known = state->files[--state->count];
	}
	LWLockRelease(&locks->lock);
}

void
overflow_save(const MeterDelta *delta)
{
	if (!append(SAVED_FILE, delta))
		ereport(LOG, errcode_for_file_access(),
				errmsg("could not write file \"%s\": %m", SAVED_FILE),
				errdetail("Statement counters of database %u are lost.", delta->key.database));
}

/* Every record of a file goes to "use". */
static void
for_each_record(const char *path, void (*use)(const MeterDelta *delta))
{
	FILE *file = AllocateFile(path, PG_BINARY_R);
	MeterDelta *delta;

	if (file == NULL)
		return;
	while ((delta = read_record(file)) != NULL)
	{
		use(delta);
		pfree(delta);
	}
	FreeFile(file);
}

/*
 * Only a clean stop waits for the backends: after an immediate one a flush may have committed
 * without its entries knowing.
 */
static bool
is_clean_stop(void)
{
	bool is_sound;
	ControlFileData *control = get_controlfile(DataDir, &is_sound);

	return is_sound &&
		   (control->state == DB_SHUTDOWNED || control->state == DB_SHUTDOWNED_IN_RECOVERY);
}

/* The postmaster is the last process: every backend has emptied its slot. */
static void
save_all(int code, Datum argument)
{
	char path[MAXPGPATH];

	if (code != 0 || IsUnderPostmaster || !is_clean_stop())
		return;
	meter_entry_save();
	for (int i = 0; i < state->count; i++)
	{
		for (int is_taken = false; is_taken <= true; is_taken++)
		{
			file_path(path, state->files[i].database, is_taken);
			for_each_record(path, overflow_save);
		}
	}
}

static void
remove_leftovers(void)
{
	DIR *dir = AllocateDir(PG_STAT_TMP_DIR);
	struct dirent *entry;
	char path[MAXPGPATH];

	while (dir != NULL && (entry = ReadDirExtended(dir, PG_STAT_TMP_DIR, LOG)) != NULL)
	{
		if (strncmp(entry->d_name, OVERFLOW_PREFIX, strlen(OVERFLOW_PREFIX)) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", PG_STAT_TMP_DIR, entry->d_name);
		remove_file(path);
	}
	if (dir != NULL)
		FreeDir(dir);
}

void
overflow_load(void)
{
	if (IsUnderPostmaster)
		return;
	remove_leftovers();
	for_each_record(SAVED_FILE, meter_entry_add);
	remove_file(SAVED_FILE);
	on_shmem_exit(save_all, (Datum) 0);
}

void
meter_overflow_init(void)
{
	shmem_register(&state_part);
}
