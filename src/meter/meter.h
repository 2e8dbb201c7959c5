/*
 * meter/meter.h
 *		What a tenant's statements used: counting it, and moving it to tables.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "nodes/nodes.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* The counters of one tenant, in the order of METER_COLUMNS. */
typedef enum MeterCounter
{
	METER_SELECTS,
	METER_INSERTS,
	METER_UPDATES,
	METER_DELETES,
	METER_MERGES,
	METER_UTILITIES,
	METER_ROWS,
	METER_ELAPSED_US,
	METER_CPU_US,
	METER_BLOCKS_HIT,
	METER_BLOCKS_READ,
	METER_BLOCKS_DIRTIED,
	METER_BLOCKS_WRITTEN,
	METER_LOCAL_BLOCKS_READ,
	METER_LOCAL_BLOCKS_WRITTEN,
	METER_TEMP_BLOCKS_READ,
	METER_TEMP_BLOCKS_WRITTEN,
	METER_WAL_RECORDS,
	METER_WAL_BYTES,
	METER_COMMITS,
	METER_ROLLBACKS,
	METER_PLANNING_US,
	METER_IO_US, /* 0 where track_io_timing is off */
	METER_COUNTERS
} MeterCounter;

/* Their columns in tenancy.usage_hour, each wrapped in X, with S between them. */
#define METER_COLUMNS(X, S)                                                                        \
	X("selects")                                                                                   \
	S X("inserts") S X("updates") S X("deletes") S X("merges") S X("utilities") S X("rows")        \
		S X("elapsed_us") S X("cpu_us") S X("blocks_hit") S X("blocks_read") S X("blocks_dirtied") \
			S X("blocks_written") S X("local_blocks_read") S X("local_blocks_written")             \
				S X("temp_blocks_read") S X("temp_blocks_written") S X("wal_records")              \
					S X("wal_bytes") S X("commits") S X("rollbacks") S X("planning_us")            \
						S X("io_us")

typedef struct MeterCounts
{
	uint64 value[METER_COUNTERS];
} MeterCounts;

/*
 * The hook floor brackets what it runs at nesting level 0.  meter_begin() returns false
 * where nothing is to be counted; meter_end() is then not called.  Between the two a
 * statement that the client sent is counted once, by its kind: meter_is_client_statement()
 * tells it from what the server runs for itself outside of a portal (functions that
 * the planner evaluates, input functions of parameters, deferred triggers).
 */
extern bool meter_begin(void);
extern bool meter_begin_untimed(void); /* what it takes is no elapsed time */
extern bool meter_is_client_statement(void);
extern void meter_count_query(CmdType kind);
extern void meter_count_utility(void);
extern void meter_end(uint64 rows);

/* The statement of the client is done, after all its brackets; it took so long. */
extern void meter_note_latency(void);

/* Around the planner, where a statement of the client is planned. */
extern bool meter_begin_planning(void);
extern void meter_end_planning(void);
extern void meter_transaction_event(XactEvent event);
extern void meter_flush_transaction_event(XactEvent event);
extern void meter_flush_subtransaction_event(SubXactEvent event, SubTransactionId self,
											 SubTransactionId parent);

/* The extension of this oid is being dropped: its counts are forgotten at commit. */
extern void meter_note_dropped(Oid extension);

/*
 * Into the slot of this backend: what a transaction of the tenant used.  Never raises
 * once meter_slot_prepare() was called.
 */
extern void meter_slot_prepare(void);
extern void meter_slot_add(const pg_uuid_t *tenant, const MeterCounts *counts);

/* The same for latencies, as buckets of the histogram (latency.h). */
#define METER_PENDING_LATENCIES 32
extern void meter_slot_add_latencies(const pg_uuid_t *tenant, const uint16 *buckets, int count);

/* What is counted so far, from all backends, into the shared entries of a database. */
extern void meter_collect(Oid database);

typedef struct MeterTotals
{
	pg_uuid_t tenant;
	MeterCounts total;   /* since the server started */
	MeterCounts flushed; /* of those, what is in the tables */
} MeterTotals;

/* The entries of a database, palloc'd. */
extern MeterTotals *meter_read(Oid database, int *count);
extern void meter_set_flushed(Oid database, const pg_uuid_t *tenant, const MeterCounts *flushed);

/* Visit the histogram of every tenant of a database. */
extern void meter_read_latencies(Oid database,
								 void (*visit)(const pg_uuid_t *tenant, const uint32 *counts,
											   void *state),
								 void *state);

/* May the current user read the counters of all tenants? */
extern bool meter_may_read_all(void);

/* Forget a database that is gone, or lost the extension.  Never raises. */
extern void meter_forget(Oid database);

/* Does the database have counts that are not in its tables? */
extern bool meter_has_pending(Oid database);

/* Visit every database that has; the visitor may not allocate or take a lock. */
extern void meter_for_each_pending(void (*visit)(Oid database, void *state), void *state);

/* Entries in use, entries there is room for, and how often there was none. */
typedef struct MeterCapacity
{
	int64 used;
	int64 limit;
	int64 refused;
} MeterCapacity;

extern MeterCapacity meter_capacity(void);

/* Move counters to tenancy.usage_hour; how many tenants had any.  In a transaction. */
extern int64 meter_flush(void);

/* Measure the storage of the schemas of the tenants measured least recently; how many were. */
extern int64 meter_measure_storage(int max_tenants);

/* The same for those given. */
extern int64 meter_measure_storage_of(const pg_uuid_t *tenants, int count);

/* Estimate that of all tenants without a schema, from shared tables; how many there are. */
extern int64 meter_measure_shared_storage(void);

/* The start of the hour of a time, in UTC. */
extern TimestampTz meter_hour_of(TimestampTz time);

/* In the postmaster, from _PG_init. */
extern void meter_init(void);
extern void meter_entry_init(void);
extern void meter_flush_init(void);
extern void meter_storage_init(void);
