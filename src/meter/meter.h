/*
 * meter/meter.h
 *		What a tenant's statements used: counting it, and moving it to tables.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "executor/instrument.h"
#include "utils/uuid.h"

/* The counters of one tenant.  Order and names are those of tenancy.usage_hour. */
typedef enum MeterCounter
{
	METER_CALLS,
	METER_ROWS,
	METER_ELAPSED_US,
	METER_CPU_US,
	METER_BLOCKS_HIT,
	METER_BLOCKS_READ,
	METER_BLOCKS_DIRTIED,
	METER_BLOCKS_WRITTEN,
	METER_TEMP_BLOCKS_READ,
	METER_TEMP_BLOCKS_WRITTEN,
	METER_WAL_RECORDS,
	METER_WAL_BYTES,
	METER_COUNTERS
} MeterCounter;

typedef struct MeterCounts
{
	uint64 value[METER_COUNTERS];
} MeterCounts;

/*
 * The hook floor brackets what it runs at nesting level 0: begin returns false where
 * nothing is to be counted, and end is then not called.  is_new tells a statement from
 * a further portion of a cursor.
 */
extern bool meter_begin(bool is_new);
extern void meter_end(uint64 rows);
extern void meter_transaction_event(XactEvent event);
extern void meter_flush_transaction_event(XactEvent event);
extern void meter_flush_subtransaction_event(SubXactEvent event, SubTransactionId self,
											 SubTransactionId parent);

/* What is counted so far, from all backends, into the shared entries of a database. */
extern void meter_collect(Oid database);

typedef struct MeterTotals
{
	pg_uuid_t tenant;
	MeterCounts total; /* since the server started */
	MeterCounts flushed; /* of those, what is in the tables */
} MeterTotals;

/* The entries of a database, palloc'd. */
extern MeterTotals *meter_read(Oid database, int *count);
extern void meter_set_flushed(Oid database, const pg_uuid_t *tenant, const MeterCounts *flushed);

/* Forget a database that is gone. */
extern void meter_forget(Oid database);

/* Does the database have counts that are not in its tables? */
extern bool meter_has_pending(Oid database);

/* Visit every database that has; the visitor may not allocate or take a lock. */
extern void meter_for_each_pending(void (*visit)(Oid database, void *state), void *state);

/* Move counters to tenancy.usage_hour; how many tenants had any.  In a transaction. */
extern int64 meter_flush(void);

/* Measure the storage of the tenants measured least recently; how many were. */
extern int64 meter_measure_storage(int max_tenants);

/* In the postmaster, from _PG_init. */
extern void meter_init(void);
extern void meter_flush_init(void);
