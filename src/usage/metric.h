/*
 * usage/metric.h
 *		Metrics, as those who record and those who aggregate see them.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"

typedef enum Aggregation
{
	AGGREGATION_AVG,
	AGGREGATION_COUNT,
	AGGREGATION_LATEST,
	AGGREGATION_MAX,
	AGGREGATION_MIN,
	AGGREGATION_SUM,
	AGGREGATION_UNIQUE,
	AGGREGATION_WEIGHTED_SUM,
	AGGREGATIONS
} Aggregation;

extern const char *aggregation_name(Aggregation aggregation);

typedef struct Metric
{
	char *name;
	char *unit;
	Aggregation aggregation;
	bool carries_over;
	bool is_measured;         /* by the server: from the hours of statements, not from events */
	char *event;              /* the metric whose events count; NULL for a measured one */
	char *property;           /* of unique; else NULL */
	Jsonb *filters;           /* NULL for none */
	ArrayType *group_by;      /* text[], perhaps empty */
	TimestampTz rolled_from;  /* the first hour that is rolled up, or about */
	TimestampTz rolled_until; /* hours before it are in tenancy.usage_rollup */
	TimestampTz late_before;  /* an event before it goes there itself; never before rolled_until */
} Metric;

typedef struct MetricList
{
	int count;
	Metric *metrics; /* by name */
} MetricList;

/* All, as the caller's snapshot shows them; palloc'd. */
extern MetricList *metric_list(void);
extern const Metric *metric_find(const MetricList *list, const char *name);

/*
 * All, as they are committed now, kept by the backend: for those who record.  Valid until the
 * next call.
 */
extern const MetricList *metric_list_latest(void);

/* Does the server measure it?  Of storage applications report, too. */
extern bool metric_is_measured(const Metric *metric);

/* One that takes events; 42704 for any other name. */
extern const Metric *metric_require_events(const char *name);
