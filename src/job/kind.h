/*
 * job/kind.h
 *		The kinds of periodic work, as a table.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* What the work of a queued job is given. */
typedef struct JobTask
{
	const pg_uuid_t *id;     /* also the idempotency key for what is outside of the database */
	const pg_uuid_t *tenant; /* NULL for none */
	const Jsonb *arguments;
	int attempt; /* from 1 */
} JobTask;

/* How a run went; error is NULL when it succeeded. */
typedef struct JobOutcome
{
	char *error;
	char *sqlstate;
	char *result; /* JSON, or NULL */
	/* Of queued jobs: */
	Jsonb *document;           /* the result or, of a failure, the evidence; or NULL */
	TimestampTz put_off_until; /* 0: it was done */
	bool is_final;             /* a failure is not to be tried again */
	int64 retry_after_ms;
} JobOutcome;

/*
 * A kind of periodic work, or of queued jobs: the first have run(), the second one of
 * perform() and perform_outside().
 */
typedef struct JobKind
{
	const char *name; /* "billing.run" */
	/* One bounded run, in a transaction of its own; what it did as JSON, palloc'd, or NULL. */
	char *(*run)(void);
	int every_seconds;   /* default interval; 0 for a kind that runs when has_work() says so */
	int timeout_seconds; /* a worker gives up after this; 0 for a kind without a schedule */
	bool (*has_work)(Oid database); /* reads shared memory alone; NULL for a scheduled kind */
	const char *description;
	/* One job, in the transaction that also records its end; its result, or NULL. */
	Jsonb *(*perform)(const JobTask *task);
	/* The same with no transaction open, for what takes its time outside. */
	JobOutcome (*perform_outside)(const JobTask *task);
	/* In the transaction that records the end of what was done outside, before the record. */
	void (*settle)(const JobTask *task, JobOutcome *outcome);
	const char *retry;   /* the policy, as JSON; NULL for the default */
	bool has_own_worker; /* a queued kind that a process of another sort does */
	bool is_for_callers; /* job_enqueue() and schedule_set() take it, with any arguments */
} JobKind;

/* From the init function of a module, in the postmaster. */
extern void job_kind_register(const JobKind *kind);

extern int job_kind_count(void);
extern const JobKind *job_kind(int index);

/* NULL where there is none of that name. */
extern const JobKind *job_kind_find(const char *name);

extern bool job_kind_is_periodic(const JobKind *kind);

/* What enqueuing and running a job needs to know of its kind, wherever it is defined. */
typedef struct JobKindEntry
{
	const JobKind *library; /* NULL for one that an application has defined */
	char *procedure;        /* a signature; NULL for one that clients claim */
	bool runs_as_tenant;
	bool is_for_tenants;
	Jsonb *retry; /* NULL for the default */
	int timeout_seconds;
} JobKindEntry;

/* Palloc'd; NULL where no jobs of that kind can be enqueued. */
extern JobKindEntry *job_kind_entry(const char *name);

/* Raise 42809 for a kind of the library whose jobs it alone enqueues. */
extern void job_kind_require_for_callers(const char *name);

/* The lanes of the kinds that job workers do: in the database, and outside of it. */
#define JOB_OWN_LANE ""
#define JOB_OUTSIDE_LANE "*"

/* The lane of its jobs: one of the two, or the kind itself for all others. */
extern const char *job_kind_lane(const JobKindEntry *entry, const char *name);
