/*
 * usage/bucket.h
 *		A time cut into buckets, in civil time.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* More than this are a mistake in the interval. */
#define MAX_BUCKETS 10000

typedef struct Buckets
{
	int count;
	TimestampTz starts[MAX_BUCKETS + 1]; /* and the end of the last */
} Buckets;

/*
 * From a time to another, which may end the last bucket early; one bucket where the length is
 * NULL.  The n-th boundary counts from the first in the civil time of the zone, as in Jan 31,
 * Feb 28, Mar 31: a day may have 23 or 25 hours.  Of lengths below a day, those of up to an hour
 * are as long as they say, and there are 23 or 25 hours in such a day; longer ones that divide a
 * day begin at the same times of every day, and one of them is shorter or longer.  Raises 22023
 * for a length that is not positive, or too short; 22023 for an unknown zone.
 */
extern Buckets *buckets_cut(TimestampTz from_time, TimestampTz to_time, const Interval *length,
							const char *zone);
