/*
 * meter/slot.h
 *		The place in shared memory where a session shows what it has counted.
 */
#pragma once

#include "postgres.h"

#include "meter/counter.h"
#include "meter/latency.h"

#include "executor/instrument.h"
#include "utils/uuid.h"

typedef struct MeterKey
{
	Oid database;
	pg_uuid_t tenant;
} MeterKey;

/* The counters of a process, from its beginning to the end of a transaction. */
typedef struct MeterReading
{
	uint64 own[METER_OWN_COUNTERS];
	BufferUsage buffers;
	WalUsage wal;
} MeterReading;

/* What moves from a slot to an entry. */
typedef struct MeterDelta
{
	MeterKey key;
	MeterCounts counts;
	int bucket_count;
	MeterBucket buckets[LATENCY_BUCKETS];
} MeterDelta;

/*
 * Begin to use the slot of this backend; what the process used so far is the tenant's whose
 * connection it is.  None of these raises.
 */
extern void meter_slot_begin(const pg_uuid_t *tenant);

/* The process ends: the rest is that of the tenant before. */
extern void meter_slot_end(void);

/* What the slot holds is nobody's: the extension was dropped. */
extern void meter_slot_discard(void);

/* Is the slot that of the tenant?  Of none, and the connection too? */
extern bool meter_slot_is_of(const pg_uuid_t *tenant);
extern bool meter_slot_is_nobodys;

/* Give the slot to another tenant; publish what was counted, with these latencies. */
extern void meter_slot_turn_to(const pg_uuid_t *tenant);
extern void meter_slot_publish(const uint16 *buckets, int bucket_count);

/* Only the latencies, of a transaction that goes on. */
extern void meter_slot_publish_latencies(const pg_uuid_t *tenant, const uint16 *buckets,
										 int bucket_count);

/* What the tenant before is still to get: bytes that were sent after its transaction. */
extern void meter_slot_amend(MeterCounter counter, uint64 value);

/* What the process used since it last published is nobody's: it was not metered. */
extern void meter_slot_skip(void);

/* Whose connection this is has changed. */
extern void meter_slot_set_connection(const pg_uuid_t *tenant);
extern bool meter_slot_is_connection_of(const pg_uuid_t *tenant);

/* For entry.c: does any slot hold something?  Unlocked. */
extern void meter_slot_for_each_pending(void (*visit)(Oid database, void *state), void *state);

/* Of entry.c: add to the entry of a tenant.  Never raises. */
extern void meter_entry_add(const MeterDelta *delta);
extern void meter_entry_note_memory(const pg_uuid_t *tenant, uint64 bytes);
