/*
 * job/schedule.h
 *		When each kind of periodic work is due, and running it.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "job/kind.h"
#include "utils/uuid.h"

/* A kind that this process alone may run until its lease ends. */
typedef struct JobClaim
{
	const JobKind *kind;
	int64 fence; /* a later claim has a higher one */
	pg_uuid_t run;
} JobClaim;

/* How a run went; error is NULL when it succeeded. */
typedef struct JobOutcome
{
	char *error;
	char *sqlstate;
} JobOutcome;

/* Give every kind of the library its row.  In a transaction, as is all below. */
extern void schedule_sync(void);

/* Claim what has been due the longest; false when nothing is. */
extern bool schedule_claim(JobClaim *claim);

/* Run a kind in a subtransaction. */
extern JobOutcome schedule_run(const JobKind *kind);

/* Record the outcome and when the kind is due next; nothing, if the lease was lost meanwhile. */
extern void schedule_finish(const JobClaim *claim, const JobOutcome *outcome);

/* The next time at which something is due; DT_NOEND for never. */
extern TimestampTz schedule_next_due(void);

/* In the postmaster, from _PG_init. */
extern void job_init(void);
