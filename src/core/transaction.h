/*
 * core/transaction.h
 *		Who wants to hear of the end of this transaction.
 *
 * Most transactions leave nothing behind but what they used.  A module with state that
 * the end of the transaction must settle says so when the state begins; only then are the
 * transaction callbacks of the modules called.  The mark is taken off when the transaction
 * ends, before they are called: one whose state goes on puts it on again.
 */
#pragma once

#include "postgres.h"

extern bool transaction_is_watched;

static inline void
transaction_watch(void)
{
	transaction_is_watched = true;
}
