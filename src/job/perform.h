/*
 * job/perform.h
 *		Doing a queued job.
 */
#pragma once

#include "postgres.h"

#include "job/queue.h"
#include "job/schedule.h"

/* Does the kind take its time outside of the database, and so outside of a transaction? */
extern bool job_is_outside(const QueuedJob *job);

/*
 * Do the work, in a subtransaction, or with no transaction open where it is outside.  Results
 * are in the caller's context.
 */
extern JobOutcome job_perform(const QueuedJob *job, CancelPolicy on_cancel);
extern JobOutcome job_perform_outside(const QueuedJob *job);

/* Record how it went.  False where the claim is lost: undo what was done. */
extern bool job_record(const QueuedJob *job, JobOutcome *outcome);

/* May the function do jobs for who asks?  Raises, as job_kind_define() does; its signature. */
extern char *job_check_procedure(Oid procedure);

/* Call it as its owner, in the context of the tenant (NULL for none), restricted. */
extern Jsonb *job_call_procedure(const char *signature, const pg_uuid_t *tenant,
								 const Jsonb *arguments);
