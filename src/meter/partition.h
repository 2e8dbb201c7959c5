/*
 * meter/partition.h
 *		The tables of counters by time, a part for each day or month.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

typedef enum PartitionedTable
{
	USAGE_MINUTE,
	USAGE_HOUR,
	LATENCY_HOUR,
	PARTITIONED_TABLES
} PartitionedTable;

/* Before a row of that time is written: make its part where there is none. */
extern void partition_ensure(PartitionedTable table, TimestampTz time);
