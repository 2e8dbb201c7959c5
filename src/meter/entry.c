/*
 * meter/entry.c
 *		The counters in shared memory: a slot per backend, an entry per tenant.
 *
 * A slot holds the counts of one tenant and is emptied into that tenant's entry when the
 * backend turns to another tenant, when somebody collects (meter_collect), and when the
 * backend ends.  So as long as backends keep to a tenant they share nothing.
 *
 * Every database has an entry for work of no tenant, kept free for it; work of tenants
 * beyond tenancy.max_tenants goes there too, and is counted as refused.
 *
 * Lock rules.  A slot's spinlock guards the slot; its owner adds, and anybody empties.
 * An entry's counters are atomic and are added to under the shared lock of its
 * partition (shmem/table.h).  A slot is copied and zeroed under its spinlock, and added
 * to the entry after that is released: no two locks are held at once.
 */
#include "postgres.h"

#include "core/id.h"
#include "core/settings.h"
#include "meter/latency.h"
#include "meter/meter.h"
#include "shmem/shmem.h"
#include "shmem/slot.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/spin.h"
#include "utils/memutils.h"

typedef struct MeterKey
{
	Oid database;
	pg_uuid_t tenant;
} MeterKey;

typedef struct MeterEntry
{
	MeterKey key;
	pg_atomic_uint64 total[METER_COUNTERS];
	pg_atomic_uint64 flushed[METER_COUNTERS]; /* one writer: who holds the flush lock */
	pg_atomic_uint32 latencies[LATENCY_BUCKETS];
} MeterEntry;

typedef struct MeterSlot
{
	slock_t lock;
	bool is_used;
	MeterKey key;
	MeterCounts counts;
	int latency_count;
	uint16 latencies[METER_PENDING_LATENCIES]; /* buckets */
} MeterSlot;

/* No two backends write to the same cache line. */
typedef union PaddedSlot
{
	MeterSlot slot;
	char padding[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(MeterSlot))];
} PaddedSlot;

static PaddedSlot *slots;
static pg_atomic_uint64 *refused_count;

static int
entry_capacity(void)
{
	return setting_max_tenants + setting_max_databases;
}

static SharedTable entries = {
	.name = "pg_tenancy meter",
	.key_size = sizeof(MeterKey),
	.entry_size = sizeof(MeterEntry),
	.capacity = entry_capacity,
};

static Size
slots_size(void)
{
	return mul_size(slot_count(), sizeof(PaddedSlot));
}

static void
slots_init(void *memory)
{
	for (int i = 0; i < slot_count(); i++)
		SpinLockInit(&((PaddedSlot *) memory)[i].slot.lock);
}

static SharedPart slots_part = {
	.name = "pg_tenancy meter slots",
	.size = slots_size,
	.init = slots_init,
	.memory = (void **) &slots,
};

static Size
refused_size(void)
{
	return sizeof(pg_atomic_uint64);
}

static void
refused_init(void *memory)
{
	pg_atomic_init_u64(memory, 0);
}

static SharedPart refused_part = {
	.name = "pg_tenancy meter refusals",
	.size = refused_size,
	.init = refused_init,
	.memory = (void **) &refused_count,
};

static void
add_to_entry(const MeterKey *key, const MeterCounts *counts, const uint16 *latencies,
			 int latency_count)
{
	const MeterKey nobody = {.database = key->database};
	LWLock *lock;
	MeterEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);

	if (entry == NULL && shared_table_entry_count(&entries) < setting_max_tenants)
		entry = shared_table_ensure(&entries, key, LW_SHARED, &lock);
	if (entry == NULL)
	{
		if (!id_equal(&key->tenant, &nobody.tenant))
			pg_atomic_fetch_add_u64(refused_count, 1);
		entry = shared_table_ensure(&entries, &nobody, LW_SHARED, &lock);
	}
	if (entry == NULL)
		return; /* more databases than tenancy.max_databases; table.c counts it */
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (counts->value[i] > 0)
			pg_atomic_fetch_add_u64(&entry->total[i], counts->value[i]);
	}
	for (int i = 0; i < latency_count; i++)
		pg_atomic_fetch_add_u32(&entry->latencies[latencies[i]], 1);
	LWLockRelease(lock);
}

static void
empty_slot(MeterSlot *slot)
{
	MeterKey key;
	MeterCounts counts;
	uint16 latencies[METER_PENDING_LATENCIES];
	int latency_count;
	bool is_used;

	SpinLockAcquire(&slot->lock);
	is_used = slot->is_used;
	key = slot->key;
	counts = slot->counts;
	latency_count = slot->latency_count;
	memcpy(latencies, slot->latencies, latency_count * sizeof(uint16));
	slot->is_used = false;
	slot->latency_count = 0;
	memset(&slot->counts, 0, sizeof(MeterCounts));
	SpinLockRelease(&slot->lock);

	if (is_used)
		add_to_entry(&key, &counts, latencies, latency_count);
}

static void
empty_own_slot(int code, Datum argument)
{
	empty_slot(&slots[slot_self()].slot);
}

void
meter_slot_prepare(void)
{
	static bool is_registered = false;

	if (likely(is_registered))
		return;

	/* Not before_shmem_exit: the transaction that a FATAL error ends is still to come. */
	on_shmem_exit(empty_own_slot, (Datum) 0);
	is_registered = true;
}

/* This backend alone sets the key, so it may look without the lock.  Is another wanted? */
static bool
turn_to(MeterSlot *slot, const pg_uuid_t *tenant)
{
	bool is_other = slot->key.database != MyDatabaseId || !id_equal(&slot->key.tenant, tenant);

	if (is_other && slot->is_used)
		empty_slot(slot);
	return is_other;
}

static void
set_key(MeterSlot *slot, const pg_uuid_t *tenant)
{
	slot->key.database = MyDatabaseId;
	slot->key.tenant = *tenant;
}

void
meter_slot_add_latencies(const pg_uuid_t *tenant, const uint16 *buckets, int count)
{
	MeterSlot *slot = &slots[slot_self()].slot;
	bool is_other = turn_to(slot, tenant);

	/* Others only empty it. */
	if (slot->latency_count + count > METER_PENDING_LATENCIES)
		empty_slot(slot);
	SpinLockAcquire(&slot->lock);
	if (is_other)
		set_key(slot, tenant);
	slot->is_used = true;
	memcpy(slot->latencies + slot->latency_count, buckets, count * sizeof(uint16));
	slot->latency_count += count;
	SpinLockRelease(&slot->lock);
}

void
meter_slot_add(const pg_uuid_t *tenant, const MeterCounts *counts)
{
	MeterSlot *slot = &slots[slot_self()].slot;
	bool is_other = turn_to(slot, tenant);

	SpinLockAcquire(&slot->lock);
	if (is_other)
		set_key(slot, tenant);
	slot->is_used = true;
	for (int i = 0; i < METER_COUNTERS; i++)
		slot->counts.value[i] += counts->value[i];
	SpinLockRelease(&slot->lock);
}

void
meter_collect(Oid database)
{
	for (int i = 0; i < slot_count(); i++)
	{
		/* An unlocked look: what is missed was not committed before the call. */
		if (slots[i].slot.is_used && slots[i].slot.key.database == database)
			empty_slot(&slots[i].slot);
	}
}

typedef struct ReadState
{
	Oid database;
	MeterTotals *totals;
	int count;
	int capacity;
} ReadState;

static void
read_entry(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;
	ReadState *state = argument;
	MeterTotals *totals;

	if (entry->key.database != state->database || state->count == state->capacity)
		return;
	totals = &state->totals[state->count++];
	totals->tenant = entry->key.tenant;
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		totals->total.value[i] = pg_atomic_read_u64(&entry->total[i]);
		totals->flushed.value[i] = pg_atomic_read_u64(&entry->flushed[i]);
	}
}

/* Entries that come while we read can wait for the next reader. */
#define ROOM_FOR_NEW_ENTRIES 64

MeterTotals *
meter_read(Oid database, int *count)
{
	ReadState state = {.database = database};

	state.capacity = shared_table_entry_count(&entries) + ROOM_FOR_NEW_ENTRIES;
	state.totals =
		MemoryContextAllocHuge(CurrentMemoryContext, mul_size(state.capacity, sizeof(MeterTotals)));
	shared_table_scan(&entries, LW_SHARED, read_entry, &state);
	*count = state.count;
	return state.totals;
}

typedef struct LatencyState
{
	Oid database;
	void (*visit)(const pg_uuid_t *tenant, const uint32 *counts, void *state);
	void *state;
	int count;
	int capacity;
	pg_uuid_t *tenants;
	uint32 (*counts)[LATENCY_BUCKETS];
} LatencyState;

static void
copy_latencies(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;
	LatencyState *state = argument;

	if (entry->key.database != state->database || state->count == state->capacity)
		return;
	state->tenants[state->count] = entry->key.tenant;
	for (int i = 0; i < LATENCY_BUCKETS; i++)
		state->counts[state->count][i] = pg_atomic_read_u32(&entry->latencies[i]);
	state->count++;
}

void
meter_read_latencies(Oid database,
					 void (*visit)(const pg_uuid_t *tenant, const uint32 *counts, void *state),
					 void *argument)
{
	LatencyState state = {.database = database, .visit = visit, .state = argument};

	state.capacity = shared_table_entry_count(&entries) + ROOM_FOR_NEW_ENTRIES;
	state.tenants = palloc(mul_size(state.capacity, sizeof(pg_uuid_t)));
	state.counts = MemoryContextAllocHuge(
		CurrentMemoryContext, mul_size(state.capacity, sizeof(uint32) * LATENCY_BUCKETS));
	shared_table_scan(&entries, LW_SHARED, copy_latencies, &state);
	for (int i = 0; i < state.count; i++)
		visit(&state.tenants[i], state.counts[i], argument);
	pfree(state.counts);
	pfree(state.tenants);
}

void
meter_set_flushed(Oid database, const pg_uuid_t *tenant, const MeterCounts *flushed)
{
	MeterKey key = {.database = database, .tenant = *tenant};
	LWLock *lock;
	MeterEntry *entry = shared_table_find(&entries, &key, LW_SHARED, &lock);

	if (entry == NULL)
		return;
	for (int i = 0; i < METER_COUNTERS; i++)
		pg_atomic_write_u64(&entry->flushed[i], flushed->value[i]);
	LWLockRelease(lock);
}

static void
remove_entry(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;

	/* A scan may remove the entry that it stands on. */
	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&entries, &entry->key);
}

void
meter_forget(Oid database)
{
	meter_collect(database);
	shared_table_scan(&entries, LW_EXCLUSIVE, remove_entry, &database);
}

typedef struct PendingState
{
	void (*visit)(Oid database, void *state);
	void *state;
} PendingState;

static void
visit_pending_entry(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;
	PendingState *state = argument;

	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (pg_atomic_read_u64(&entry->total[i]) != pg_atomic_read_u64(&entry->flushed[i]))
		{
			state->visit(entry->key.database, state->state);
			return;
		}
	}
}

void
meter_for_each_pending(void (*visit)(Oid database, void *state), void *argument)
{
	PendingState state = {.visit = visit, .state = argument};

	for (int i = 0; i < slot_count(); i++)
	{
		if (slots[i].slot.is_used)
			visit(slots[i].slot.key.database, argument);
	}
	shared_table_scan(&entries, LW_SHARED, visit_pending_entry, &state);
}

typedef struct FindState
{
	Oid database;
	bool is_found;
} FindState;

static void
find_database(Oid database, void *argument)
{
	FindState *state = argument;

	state->is_found = state->is_found || state->database == database;
}

bool
meter_has_pending(Oid database)
{
	FindState state = {.database = database};

	meter_for_each_pending(find_database, &state);
	return state.is_found;
}

MeterCapacity
meter_capacity(void)
{
	return (MeterCapacity){
		.used = shared_table_entry_count(&entries),
		.limit = setting_max_tenants,
		.refused = pg_atomic_read_u64(refused_count) + shared_table_refused_count(&entries),
	};
}

void
meter_entry_init(void)
{
	shared_table_register(&entries);
	shmem_register(&slots_part);
	shmem_register(&refused_part);
}
