/*
 * core/period.h
 *		Civil time: the boundaries of billing periods.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* How long a billing period is; one of the two is zero. */
typedef struct BillingPeriod
{
	int months;
	int days;
} BillingPeriod;

/* Of "daily", "weekly", "monthly", "quarterly", "yearly"; 22023 for anything else. */
extern BillingPeriod billing_period(const char *name);

/* The names, for documents that are validated; NULL-terminated. */
extern const char *const billing_period_names[];

/* Raise 22023 unless the name is that of a time zone. */
extern void require_time_zone(const char *name);

/*
 * The n-th boundary: the anchor's civil time in the zone plus n periods, clamped to the
 * last day of the month, always from the anchor itself: Jan 31, Feb 28, Mar 31.  n may be
 * negative.
 */
extern TimestampTz period_boundary(TimestampTz anchor, int32 n, BillingPeriod period,
								   const char *zone);

/* The number of the period that "at" lies in: its boundary is the last that is not after "at". */
extern int32 period_number_at(TimestampTz anchor, TimestampTz at, BillingPeriod period,
							  const char *zone);
