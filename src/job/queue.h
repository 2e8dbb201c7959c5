/*
 * job/queue.h
 *		Jobs: from being asked for to being finished.
 *
 * All in a transaction.  A claim is committed before the work starts; the end of the work is
 * recorded under the claim's fencing number, and refused when another claim has come since.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "datatype/timestamp.h"
#include "job/kind.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define JOB_MIDDLE_PRIORITY 5

typedef struct JobRequest
{
	const char *kind;
	const pg_uuid_t *tenant; /* NULL for none */
	const Jsonb *arguments;  /* NULL for {} */
	TimestampTz run_at;      /* 0 for now */
	int priority;            /* 0, the first, to 9 */
	const char *unique_key;  /* NULL for none: one unfinished job of the kind and tenant */
	const pg_uuid_t *depends_on;
	int dependency_count;
	int timeout_seconds;  /* 0 for that of the kind */
	const Jsonb *retry;   /* NULL for that of the kind */
	const char *schedule; /* NULL for none */
} JobRequest;

/* Enqueue a job.  The id of the one that there is already under the unique key; palloc'd. */
extern pg_uuid_t *job_put(const JobRequest *request);

/*
 * Many jobs of one kind, ready at once, in one statement; arguments[i] for tenants[i], which
 * may be NULL.
 */
extern void job_put_many(const char *kind, const pg_uuid_t *const *tenants,
						 const Jsonb *const *arguments, int count);

typedef struct QueuedJob
{
	pg_uuid_t id;
	int64 fence;
	char *kind;
	pg_uuid_t *tenant; /* NULL for none */
	Jsonb *arguments;
	int attempt;
	int timeout_seconds;
} QueuedJob;

/* Claim what comes first in a lane for this process; the claim ends when it dies. */
extern bool job_claim_next(const char *lane, QueuedJob *job);

/* How a job went.  False where the claim has been lost: undo the work. */
extern bool job_succeed(const QueuedJob *job, const Jsonb *result);

typedef struct JobFailure
{
	const char *error;
	const char *sqlstate; /* NULL for none */
	bool is_final;        /* whatever the policy says */
	int64 retry_after_ms; /* at least; 0 */
	const Jsonb *evidence;
} JobFailure;

extern bool job_fail(const pg_uuid_t *id, int64 fence, const JobFailure *failure);

/* Put it off without counting the attempt. */
extern bool job_put_off(const pg_uuid_t *id, int64 fence, TimestampTz until);

/* Make ready what is due, and take from the dead what they held, once a second a lane. */
extern void job_promote(void);
extern void job_rescue(const char *lane);

/* The same in all lanes, those of clients too. */
extern void job_rescue_all(void);

/* When the first scheduled job is due; DT_NOEND for never.  Is something ready in our lanes? */
extern TimestampTz job_next_due(void);
extern bool job_is_ready(void);
extern bool job_is_ready_in(const char *lane);

/* Delete what is older than the settings say; how many. */
extern int64 job_expire(int64 limit);

/* For whom has this transaction made work?  Asked once, at its end. */
typedef struct JobsReady
{
	bool for_workers;
	bool for_webhooks;
} JobsReady;
extern JobsReady job_take_ready(void);

/* A month counts as 30 days. */
extern int64 interval_microseconds(const Interval *interval);

extern void queue_init(void);
