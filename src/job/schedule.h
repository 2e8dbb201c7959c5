/*
 * job/schedule.h
 *		When each kind of periodic work is due, and running it.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "job/kind.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* A kind that this process alone may run until its lease ends. */
typedef struct JobClaim
{
	const JobKind *kind;
	int64 fence; /* a later claim has a higher one */
	pg_uuid_t run;
} JobClaim;

/* What a cancelled job is: an error of the session that called, or a failure of the job. */
typedef enum CancelPolicy
{
	CANCEL_RAISES,
	CANCEL_FAILS
} CancelPolicy;

/* Give every kind of the library its row.  In a transaction, as is all below. */
extern void schedule_sync(void);

/* Claim what has been due the longest; false when nothing is. */
extern bool schedule_claim(JobClaim *claim);

/* Run a kind in a subtransaction. */
extern JobOutcome schedule_run(const JobKind *kind, CancelPolicy on_cancel);

/*
 * Record the outcome and when the kind is due next.  False when the lease was lost
 * meanwhile: the caller then undoes the work.
 */
extern bool schedule_finish(const JobClaim *claim, const JobOutcome *outcome);

/* Record that a kind without a schedule failed. */
extern void schedule_note_failure(const JobKind *kind, const JobOutcome *outcome);

/*
 * Fail the runs of runners that are gone.  Only for the one runner of the database: what
 * is claimed and committed when it starts was claimed by one before it.
 */
extern void schedule_recover(void);

/* Has this process changed a schedule since the last call? */
extern bool schedule_take_changed(void);
extern void schedule_note_changed(void);

/* Enqueue the jobs of schedules that are due; how many schedules were. */
extern int schedule_fire(void);

/* The next time at which something is due; DT_NOEND for never. */
extern TimestampTz schedule_next_due(void);

/* In the postmaster, from _PG_init. */
extern void job_init(void);
