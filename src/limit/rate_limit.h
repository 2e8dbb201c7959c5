/*
 * limit/rate_limit.h
 *		Rate limits in shared memory.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "utils/uuid.h"

/* What is held at once is given back at the end of the transaction. */
extern void rate_limit_transaction_event(XactEvent event);

/* When this transaction commits: forget what was counted for a policy. */
extern void rate_limit_forget_policy(const pg_uuid_t *policy);

/* The database is gone. */
extern void rate_limit_forget(Oid database);

extern void rate_limit_subtransaction_event(SubXactEvent event, SubTransactionId self,
											SubTransactionId parent);

/* In the postmaster, from _PG_init. */
extern void rate_limit_init(void);
