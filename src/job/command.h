/*
 * job/command.h
 *		Commands: what jobs do outside of the database.
 */
#pragma once

#include "postgres.h"

#include "job/kind.h"
#include "job/retry.h"

typedef struct CommandCall
{
	const char *name;        /* in the file tenancy.command_file */
	const Jsonb *parameters; /* NULL for none */
	const Jsonb *input;      /* for its standard input; NULL for none */
} CommandCall;

/* Raise what is to be mended where the file has no such command. */
extern void command_require(const char *name);

/* Is there a file, and does it have such a command? */
extern bool command_exists(const char *name);

/* Run it, with no transaction open; the document of the outcome is the evidence. */
extern JobOutcome command_perform(const JobTask *task, const CommandCall *call);

/*
 * The same for several actions of one command, up to the first that fails: the action is its
 * parameter "action".  The document is {action: evidence}.
 */
extern JobOutcome command_perform_actions(const JobTask *task, const char *name, const Jsonb *input,
										  const char *const *actions);

/* In a transaction: {action: what it said on standard output}; and why the last one failed. */
extern Jsonb *command_answers(const JobOutcome *outcome);
extern char *command_error(const JobOutcome *outcome);

/*
 * For settle(), of commands that failed: the error is what the command said, and it is final when
 * the policy has no further attempt.
 */
extern void command_judge_failure(const JobTask *task, JobOutcome *outcome,
								  const RetryPolicy *policy);

extern void command_init(void);
