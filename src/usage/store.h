/*
 * usage/store.h
 *		The partitions of tenancy.usage_event.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"

/* The month of the year of a time, in UTC, 1 to 12: it names the partition. */
extern int event_month(TimestampTz time);

/*
 * The months of a time, which may go over the end of a year: twice first and last, as arguments
 * of the type smallint.
 */
#define MONTH_ARGUMENTS 4
extern void event_months(TimestampTz first, TimestampTz last, NullableDatum *months);

/* How an id is known in tenancy.usage_event_key. */
extern void event_hash_id(const char *event_id, pg_uuid_t *hash);

/*
 * Cancel an event, if it is not: its row and its metric.  Raises 42704 where there never was
 * one, 55000 where its row is not kept any more.
 */
extern GateRows *event_cancel(const pg_uuid_t *tenant, const char *event_id);
