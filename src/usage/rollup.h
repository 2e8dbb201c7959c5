/*
 * usage/rollup.h
 *		Keeping tenancy.usage_rollup equal to the events.
 */
#pragma once

#include "postgres.h"

#include "usage/event.h"

/*
 * Events that were written in this transaction: those that came after their hour was rolled up,
 * or is about to be, are added to it.
 */
extern void rollup_add(UsageEvent *const *events, int count);

/* Before an event is cancelled; and after it was, to make its hour anew. */
extern void rollup_lock(const pg_uuid_t *tenant);
extern void rollup_renew(const pg_uuid_t *tenant, const char *metric, TimestampTz occurred_at);

/*
 * To the end of the transaction nobody else rolls up, merges or cancels; false where somebody
 * does who does not end soon.
 */
extern bool rollup_lock_all(void);

/* In the postmaster, from _PG_init. */
extern void rollup_init(void);
