/*
 * job/kind.h
 *		The kinds of periodic work, as a table.
 */
#pragma once

#include "postgres.h"

typedef struct JobKind
{
	const char *name; /* "billing.run" */
	/* One bounded run, in a transaction of its own; what it did as JSON, palloc'd, or NULL. */
	char *(*run)(void);
	int every_seconds;   /* default interval; 0 for a kind that runs when has_work() says so */
	int timeout_seconds; /* a runner gives up after this; 0 for a kind without a schedule */
	bool (*has_work)(Oid database); /* reads shared memory alone; NULL for a scheduled kind */
	const char *description;
} JobKind;

/* From the init function of a module, in the postmaster. */
extern void job_kind_register(const JobKind *kind);

extern int job_kind_count(void);
extern const JobKind *job_kind(int index);

/* NULL where there is none of that name. */
extern const JobKind *job_kind_find(const char *name);
