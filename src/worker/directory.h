/*
 * worker/directory.h
 *		The databases that have work for a runner, in shared memory.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* Who does queued jobs. */
typedef enum JobRole
{
	JOB_WORKER,     /* what is done in the database, and commands */
	WEBHOOK_WORKER, /* deliveries; one a database */
	DOOR_READER     /* does no jobs, but has a place among those who do */
} JobRole;
#define JOB_ROLES (WEBHOOK_WORKER + 1) /* that have jobs */

typedef struct DirectoryEntry
{
	Oid database;                    /* InvalidOid: free */
	pid_t runner;                    /* 0: none */
	TimestampTz since;               /* the runner came or, without one, the last one left */
	TimestampTz next_due;            /* of scheduled work; DUE_NOW until a runner has looked */
	TimestampTz paused_until;        /* no runner before this */
	TimestampTz retry_at;            /* nor before this, after failures */
	int restorer_count;              /* sessions that restore a dump into it */
	bool is_restored;                /* by them, or it was a moment ago */
	int failure_count;               /* in a row */
	TimestampTz next_job[JOB_ROLES]; /* DUE_NOW while queued jobs are ready */
	TimestampTz jobs_since;          /* the last job worker came or left */
} DirectoryEntry;

/* A process that does queued jobs. */
typedef struct JobWorker
{
	Oid database; /* InvalidOid: a free place */
	JobRole role;
	pid_t pid;
	TimestampTz since;
	bool is_idle;
} JobWorker;

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

/*
 * A session restores a dump into the database: none has seen it yet, and none comes until the last
 * such session has ended, and a moment later, in which others may take over.  Never raise.
 */
extern void directory_begin_restore(Oid database);
extern void directory_end_restore(Oid database);

/* One more session does; false where nobody began, or it has ended. */
extern bool directory_join_restore(Oid database);

/*
 * Queued jobs are ready in this database, or will be at the time given: wakes a worker that is
 * idle there, or else the launcher.  Never raises.
 */
extern void directory_note_jobs(Oid database, JobRole role, TimestampTz due);

/* Nothing is known to be ready, until it is noted again. */
extern void directory_take_jobs(Oid database, JobRole role);

/*
 * This process does queued jobs of the database from now on; false when it is paused or there
 * is no place.  It says when it waits for more.
 */
extern bool directory_enter_job_worker(Oid database, JobRole role);
extern void directory_leave_job_worker(void);
extern void directory_set_idle(bool is_idle);

/* Copies of all job workers, palloc'd. */
extern JobWorker *directory_read_job_workers(int *count);

/* A database waits for its first job worker: one of another has to make room. */
extern void directory_set_job_crowded(bool is_crowded);
extern bool directory_is_job_crowded(void);

/* Databases wait because all runners are busy: who has done a turn makes room. */
extern void directory_set_crowded(bool is_crowded);
extern bool directory_is_crowded(void);

/* The launcher; waking it does nothing when it does not run, and never raises. */
extern void directory_set_launcher(pid_t pid);
extern void directory_wake_launcher(void);
extern bool directory_has_launcher(void);

extern void directory_init(void);
