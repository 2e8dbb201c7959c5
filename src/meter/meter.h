/*
 * meter/meter.h
 *		What a tenant's statements used: counting it, and moving it to tables.
 */
#pragma once

#include "postgres.h"

#include "meter/counter.h"

#include "access/xact.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

extern void meter_flush_transaction_event(XactEvent event);
extern void meter_flush_subtransaction_event(SubXactEvent event, SubTransactionId self,
											 SubTransactionId parent);

/* The extension is gone: what this session counts from here on is nobody's. */
extern void meter_end_session(void);

/* The extension of this oid is being dropped: its counts are forgotten at commit. */
extern void meter_note_dropped(Oid extension);

/* What is counted so far, from all backends, into the shared entries of a database. */
extern void meter_collect(Oid database);

/* Look which sessions wait for a lock now; each has waited for so long since the last look. */
extern void meter_sample_waits(int64 interval_us);

typedef struct MeterTotals
{
	pg_uuid_t tenant;
	MeterCounts total;    /* since the server started, or the entry was evicted */
	MeterCounts flushed;  /* of those, what is in the tables */
	uint64 memory_peak;   /* since it was flushed */
	uint64 memory_record; /* since the server started */
} MeterTotals;

/* The entries of a database, palloc'd. */
extern MeterTotals *meter_read(Oid database, int *count);
extern void meter_set_flushed(Oid database, const MeterTotals *written);

/* Latencies that are not in the tables yet, as pairs of a bucket and a count; palloc'd. */
typedef struct MeterLatencies
{
	pg_uuid_t tenant;
	int count;
	struct MeterBucket *buckets;
} MeterLatencies;

extern MeterLatencies *meter_read_latencies(Oid database, int *count);
extern void meter_set_latencies_flushed(Oid database, const MeterLatencies *written);

/* May the current user read the counters of all tenants? */
extern bool meter_may_read_all(void);

/* Forget a database that is gone, or lost the extension.  Never raises. */
extern void meter_forget(Oid database);

/* Does the database have counts that are not in its tables? */
extern bool meter_has_pending(Oid database);

/* Visit every database that has; the visitor may not allocate or take a lock. */
extern void meter_for_each_pending(void (*visit)(Oid database, void *state), void *state);

/* How full the memory of metering is. */
typedef struct MeterCapacity
{
	int64 used;
	int64 limit;
	int64 evicted;  /* entries that made room, all that they held being in tables */
	int64 overflow; /* records that went to a file, for want of room */
	int64 refused;  /* records that went to no tenant, for the file failed too */
} MeterCapacity;

extern MeterCapacity meter_capacity(void);

/* Move counters to the tables; how many tenants had any.  In a transaction. */
extern int64 meter_flush(void);

/*
 * Measure the storage of tenants with a schema, at most so many, and of shared tables: those whose
 * turn it is, until the time is over; how many tenants had theirs.
 */
extern int64 meter_measure_storage(int max_tenants, int64 budget_us);

/* That of the schemas of those given. */
extern int64 meter_measure_storage_of(const pg_uuid_t *tenants, int count);

/*
 * Estimate that of tenants without a schema from shared tables, until a deadline (meter_clock());
 * how many there are.
 */
extern int64 meter_measure_shared_storage(int64 deadline_us);

/* Time that passes, in microseconds, from anywhere on. */
extern int64 meter_clock(void);

/* Before writing to tables by time: one writer at a time per database, to the transaction's end. */
extern void meter_lock_hours(void);

/* The start of the hour of a time, in UTC. */
extern TimestampTz meter_hour_of(TimestampTz time);

/* In the postmaster, from _PG_init. */
extern void meter_init(void);
extern void meter_entry_init(void);
extern void meter_flush_init(void);
extern void meter_overflow_init(void);
extern void meter_partition_init(void);
extern void meter_slot_init(void);
extern void meter_storage_init(void);
extern void meter_wire_init(void);
