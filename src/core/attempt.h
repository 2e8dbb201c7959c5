/*
 * core/attempt.h
 *		Work that may fail without ending the transaction.
 */
#pragma once

#include "postgres.h"

typedef void (*AttemptWork)(void *argument);

/*
 * Do the work in a subtransaction.  NULL when it succeeded; else its error, and all that it
 * did is undone.  Runs in the caller's memory context, where the error is, too.  That the
 * statement is cancelled, by its timeout or by somebody, is no failure of the work, and is raised.
 */
extern ErrorData *attempt(const char *name, AttemptWork work, void *argument);

/* The same for work with a timeout of its own, whose end is a failure like others. */
extern ErrorData *attempt_cancellable(const char *name, AttemptWork work, void *argument);

/*
 * The same as attempt() for work that may take so long: that it takes longer is a failure, that
 * the statement is cancelled otherwise is not.  Zero seconds are no limit.
 */
extern ErrorData *attempt_within(const char *name, AttemptWork work, void *argument,
								 int timeout_seconds);

/*
 * Do the work in a subtransaction and undo all of it, whatever becomes of it.  NULL when it
 * succeeded; what it left in the caller's memory context stays.
 */
extern ErrorData *rehearse(const char *name, AttemptWork work, void *argument);
