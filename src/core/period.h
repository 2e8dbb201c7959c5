/*
 * core/period.h
 *		Civil time: the boundaries of billing periods.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* Months of "monthly", "quarterly", "yearly"; 22023 for anything else. */
extern int period_months(const char *billing_period);

/* Raise 22023 unless the name is that of a time zone. */
extern void require_time_zone(const char *name);

/*
 * The n-th boundary: the anchor's civil time in the zone plus n × months, clamped to the
 * last day of the month, always from the anchor itself: Jan 31, Feb 28, Mar 31.
 */
extern TimestampTz period_boundary(TimestampTz anchor, int32 n, int months, const char *zone);
