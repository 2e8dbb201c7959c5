/*
 * price/dunning.h
 *		The arithmetic of dunning: when to try again, and whether to ask now.
 */
#pragma once

#include "postgres.h"

#include "utils/numeric.h"

typedef struct DunningState
{
	Numeric overdue; /* in one currency */
	Numeric threshold;
	int32 attempts; /* made so far */
	int32 max_attempts;
	int32 days_since_last; /* attempt; says nothing before the first */
	int32 days_between;
} DunningState;

/* Enough is overdue, attempts are left, and more days than the gap have passed since the last. */
extern bool dunning_is_due(const DunningState *state);
