/*
 * limit/refusal.h
 *		What was refused last, and how often, per tenant and limit: so that it can be explained.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

typedef enum RefusalKind
{
	REFUSED_QUOTA,
	REFUSED_RATE,
	REFUSED_CONNECTION,
	REFUSED_SUSPENDED,
	CPU_WARNED,
	CPU_DELAYED,
	CPU_REFUSED,
	CPU_CANCELLED
} RefusalKind;

/*
 * Note it, in shared memory: it stays when the transaction fails.  Numbers are in millionths
 * of the unit of the limit.  Never raises; not from a signal handler.
 */
extern void refusal_note(const pg_uuid_t *tenant, RefusalKind kind, const char *name, int64 used,
						 int64 hard, int64 wanted);

/* The database is gone. */
extern void refusal_forget(Oid database);

/* In the postmaster, from _PG_init. */
extern void refusal_init(void);
