/*
 * usage/total.h
 *		How quantities become one: the aggregations, in one place.
 */
#pragma once

#include "postgres.h"

#include "usage/metric.h"
#include "utils/numeric.h"

/* What is asked: how much of a metric between two times, the second excluded. */
typedef struct UsageSpan
{
	const Metric *metric;
	TimestampTz from_time;
	TimestampTz to_time;
} UsageSpan;

/* One observation. */
typedef struct UsagePoint
{
	TimestampTz at;
	TimestampTz recorded_at;
	Numeric quantity;
} UsagePoint;

/* All observations of an hour: a row of tenancy.usage_rollup. */
typedef struct UsageCell
{
	TimestampTz hour;
	int64 count;
	Numeric sum;
	Numeric min;
	Numeric max;
	Numeric moment;    /* NULL but for weighted_sum */
	UsagePoint latest; /* of levels; a NULL quantity for others */
} UsageCell;

/* What was added up so far; begins as zeros, and what it points to is its own. */
typedef struct UsageTotal
{
	int64 count;
	Numeric sum;       /* for weighted_sum the area below the level, in microseconds */
	Numeric extreme;   /* the least or the most */
	UsagePoint latest; /* of a level: the last one, or the one before the span */
} UsageTotal;

/*
 * Add what lies in the span.  Where the metric carries over, what lies before it may be added,
 * too: a level counts with its last point, a change of a level for the whole span.
 */
extern void total_add_point(UsageTotal *total, const UsageSpan *span, const UsagePoint *point);
extern void total_add_cell(UsageTotal *total, const UsageSpan *span, const UsageCell *cell);

/* One more value of a unique metric. */
extern void total_add_value(UsageTotal *total);

/* The quantity; 0 where there was nothing. */
extern Numeric total_quantity(const UsageTotal *total, const UsageSpan *span);
