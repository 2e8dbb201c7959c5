/*
 * limit/rate_limit.h
 *		Rate limits in shared memory.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"

/* What is held at once is given back at the end of the transaction. */
extern void rate_limit_transaction_event(XactEvent event);

/* The database is gone. */
extern void rate_limit_forget(Oid database);

/* In the postmaster, from _PG_init. */
extern void rate_limit_init(void);
