/*
 * worker/directory.h
 *		The databases that have work for a runner, in shared memory.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct DirectoryEntry
{
	Oid database;             /* InvalidOid: free */
	pid_t runner;             /* 0: none */
	TimestampTz since;        /* the runner came or, without one, the last one left */
	TimestampTz next_due;     /* of scheduled work; DUE_NOW until a runner has looked */
	TimestampTz paused_until; /* no runner before this */
	TimestampTz retry_at;     /* nor before this, after failures */
	int failure_count;        /* in a row */
} DirectoryEntry;

/* Due at once, or not known; and not due at all. */
#define DUE_NOW ((TimestampTz) 0)
#define DUE_NEVER DT_NOEND

/*
 * There is work in this database at the time given, or earlier as known before.  Makes
 * an entry where there is none; false (and counted) when the directory is full.  Never
 * raises.
 */
extern bool directory_note_due(Oid database, TimestampTz due);

/*
 * What was known to be due, and forget it: taken before looking into the tables, so that
 * what is noted while looking is not lost.
 */
extern TimestampTz directory_take_due(Oid database);

extern void directory_remove(Oid database);

/* The same, unless work was noted meanwhile. */
extern void directory_remove_unless_due(Oid database);

/* The runner of this process takes or leaves its database; false when it has one, or is paused. */
extern bool directory_take(Oid database);
extern void directory_leave(Oid database);

/* How the turn of a runner went: after failures the next one comes later and later. */
extern void directory_note_success(Oid database);
extern void directory_note_failure(Oid database);

/* Copies of all entries, palloc'd. */
extern DirectoryEntry *directory_read(int *count);

/*
 * Keep runners away from a database, and wait for the one that is there to leave, 5
 * seconds at most.  In the backend that is about to drop, rename or copy it.
 */
extern void directory_pause(Oid database);
extern void directory_resume(Oid database);

/* Databases wait because all runners are busy: who has done a turn makes room. */
extern void directory_set_crowded(bool is_crowded);
extern bool directory_is_crowded(void);

/* The launcher; waking it does nothing when it does not run, and never raises. */
extern void directory_set_launcher(pid_t pid);
extern void directory_wake_launcher(void);

extern void directory_init(void);
