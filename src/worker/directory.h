/*
 * worker/directory.h
 *		The databases that have work for a runner, in shared memory.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct DirectoryEntry
{
	Oid database; /* InvalidOid: free */
	pid_t runner; /* 0: none */
	TimestampTz next_due; /* of scheduled work */
	TimestampTz paused_until; /* no runner before this */
} DirectoryEntry;

/* Make sure that there is an entry; false (counted) when the directory is full. */
extern bool directory_add(Oid database, TimestampTz next_due);
extern void directory_remove(Oid database);
extern void directory_set_due(Oid database, TimestampTz next_due);

/* The runner of this process takes or leaves its database; false when it has one, or is paused. */
extern bool directory_take(Oid database);
extern void directory_leave(Oid database);

/* Copies of all entries, palloc'd. */
extern DirectoryEntry *directory_read(int *count);

/*
 * Keep runners away from a database, and wait for the one that is there to leave, 5
 * seconds at most.  In the backend that is about to drop, rename or copy it.
 */
extern void directory_pause(Oid database);
extern void directory_resume(Oid database);

/* The launcher, to be woken; 0 when it does not run. */
extern void directory_set_launcher(pid_t pid);
extern pid_t directory_launcher(void);

extern void directory_init(void);
