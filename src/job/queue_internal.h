/*
 * job/queue_internal.h
 *		What the files of the queue know of each other.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* The row of tenancy.job. */
extern Datum job_row(const pg_uuid_t *id);

typedef struct JobClaimRequest
{
	const char *lane;
	int max_jobs;
	int64 lease_ms; /* 0 for that of the job: its timeout and a margin */
	bool is_bound;  /* to this process: its death ends the claim */
} JobClaimRequest;

/*
 * Rows (id, fence, tenant, arguments, attempt, lease until, kind, timeout, rank, priority),
 * the first in line first.
 */
extern GateRows *job_claim_rows(const JobClaimRequest *request);

/* Arrays of one length; the results may be null.  As many rows as claims that were not lost. */
extern GateRows *job_succeed_rows(const NullableDatum *ids, const NullableDatum *fences,
								  const NullableDatum *results);

/* Whoever has it.  False where it is not pending. */
extern bool job_cancel_any(const pg_uuid_t *id, const char *reason);

/*
 * What the library does, some of it outside of the database, is the operator's alone to ask for,
 * to end and to repeat: 42501 for others, and within a context.
 */
extern bool job_caller_is_operator(void);
extern void job_require_operator_for(const char *kind);

/* A job of the lane was scheduled for later. */
extern void job_note_scheduled(const char *lane);

/* Make ready what a tenant's limit leaves room for. */
extern void job_admit(const pg_uuid_t *tenant);

/* Is the process that claimed a job still there? */
extern bool holder_is_alive(int pid, TimestampTz since);

/* Say that this process holds jobs; when it started. */
extern TimestampTz holder_publish(void);

extern void holder_init(void);
