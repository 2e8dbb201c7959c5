/*
 * core/transaction.c
 *		Who wants to hear of the end of this transaction.
 */
#include "postgres.h"

#include "core/transaction.h"

bool transaction_is_watched = false;
