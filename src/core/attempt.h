/*
 * core/attempt.h
 *		Work that may fail without ending the transaction.
 */
#pragma once

#include "postgres.h"

typedef void (*AttemptWork)(void *argument);

/*
 * Do the work in a subtransaction.  NULL when it succeeded; else its error, and all that it
 * did is undone.  Runs in the caller's memory context, where the error is, too.
 */
extern ErrorData *attempt(const char *name, AttemptWork work, void *argument);
