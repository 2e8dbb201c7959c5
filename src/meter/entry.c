/*
 * meter/entry.c
 *		An entry per tenant in shared memory: what is counted of it, and how much is flushed.
 *
 * Every database has an entry for work of no tenant, kept free for it.  Where there is no
 * room for another tenant, entries whose counts are all in the tables make some; where all
 * have something that is not, the record goes to a file (overflow.c) and from there to the
 * tables with the next flush.
 *
 * Lock rules.  An entry's counters are atomic and are added to under the shared lock of its
 * partition (shmem/table.h).  Evicting takes all partitions exclusively, so it is not tried
 * again before a flush could have made an entry idle.
 */
#include "postgres.h"

#include "core/id.h"
#include "core/settings.h"
#include "meter/meter.h"
#include "meter/overflow.h"
#include "meter/slot.h"
#include "shmem/shmem.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct MeterEntry
{
	MeterKey key;
	pg_atomic_uint64 total[METER_COUNTERS];
	pg_atomic_uint64 flushed[METER_COUNTERS]; /* one writer: who holds the flush lock */
	pg_atomic_uint64 memory_record;
	pg_atomic_uint64 memory_peak;                /* that is not flushed */
	pg_atomic_uint32 latencies[LATENCY_BUCKETS]; /* that are not flushed */
} MeterEntry;

typedef struct MeterState
{
	pg_atomic_uint64 flush_count;
	pg_atomic_uint64 fruitless_at; /* flush count + 1 when evicting found nothing */
	pg_atomic_uint64 evicted;
	pg_atomic_uint64 overflow;
	pg_atomic_uint64 refused;
} MeterState;

static MeterState *state;

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
state_size(void)
{
	return sizeof(MeterState);
}

static SharedPart state_part = {
	.name = "pg_tenancy meter state",
	.size = state_size,
	.memory = (void **) &state,
};

static bool
is_nobody(const MeterKey *key)
{
	static const pg_uuid_t nobody = {{0}};

	return id_equal(&key->tenant, &nobody);
}

static bool
is_flushed(MeterEntry *entry)
{
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (pg_atomic_read_u64(&entry->total[i]) != pg_atomic_read_u64(&entry->flushed[i]))
			return false;
	}
	for (int i = 0; i < LATENCY_BUCKETS; i++)
	{
		if (pg_atomic_read_u32(&entry->latencies[i]) != 0)
			return false;
	}
	return pg_atomic_read_u64(&entry->memory_peak) == 0;
}

/* A scan may remove the entry that it stands on. */
static void
evict_entry(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;
	int *wanted = argument;

	if (*wanted == 0 || is_nobody(&entry->key) || !is_flushed(entry))
		return;
	shared_table_remove(&entries, &entry->key);
	pg_atomic_fetch_add_u64(&state->evicted, 1);
	(*wanted)--;
}

/* Make room for an eighth, so that it is not needed again at once. */
static bool
evict(void)
{
	uint64 now = pg_atomic_read_u64(&state->flush_count) + 1;
	int most = Max(setting_max_tenants / 8, 1);
	int wanted = most;

	if (pg_atomic_read_u64(&state->fruitless_at) == now)
		return false;
	shared_table_scan(&entries, LW_EXCLUSIVE, evict_entry, &wanted);
	if (wanted == most)
		pg_atomic_write_u64(&state->fruitless_at, now);
	return wanted < most;
}

/* The entry with its partition locked; NULL where there is no room. */
static MeterEntry *
ensure_entry(const MeterKey *key, LWLock **lock)
{
	MeterEntry *entry = shared_table_find(&entries, key, LW_SHARED, lock);

	if (entry != NULL)
		return entry;
	if (is_nobody(key) || shared_table_entry_count(&entries) < setting_max_tenants || evict())
		return shared_table_ensure(&entries, key, LW_SHARED, lock);
	return NULL;
}

static void
raise_to(pg_atomic_uint64 *peak, uint64 value)
{
	uint64 seen = pg_atomic_read_u64(peak);

	while (seen < value && !pg_atomic_compare_exchange_u64(peak, &seen, value))
		;
}

static void
add(MeterEntry *entry, const MeterDelta *delta)
{
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (delta->counts.value[i] > 0)
			pg_atomic_fetch_add_u64(&entry->total[i], delta->counts.value[i]);
	}
	for (int i = 0; i < delta->bucket_count; i++)
		pg_atomic_fetch_add_u32(&entry->latencies[delta->buckets[i].bucket],
								delta->buckets[i].count);
}

static bool
is_empty(const MeterDelta *delta)
{
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (delta->counts.value[i] > 0)
			return false;
	}
	return delta->bucket_count == 0;
}

void
meter_entry_add(const MeterDelta *delta)
{
	MeterKey nobody = {.database = delta->key.database};
	LWLock *lock;
	MeterEntry *entry;

	if (is_empty(delta))
		return;
	entry = ensure_entry(&delta->key, &lock);
	if (entry == NULL && overflow_write(delta))
	{
		pg_atomic_fetch_add_u64(&state->overflow, 1);
		return;
	}
	if (entry == NULL)
	{
		pg_atomic_fetch_add_u64(&state->refused, 1);
		entry = shared_table_ensure(&entries, &nobody, LW_SHARED, &lock);
	}
	if (entry == NULL)
		return; /* more databases than tenancy.max_databases; table.c counts it */
	add(entry, delta);
	LWLockRelease(lock);
}

/* The peak of a tenant without an entry is not worth a file. */
void
meter_entry_note_memory(const pg_uuid_t *tenant, uint64 bytes)
{
	MeterKey key = {.database = MyDatabaseId, .tenant = *tenant};
	LWLock *lock;
	MeterEntry *entry = ensure_entry(&key, &lock);

	if (entry == NULL)
		return;
	raise_to(&entry->memory_peak, bytes);
	raise_to(&entry->memory_record, bytes);
	LWLockRelease(lock);
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
	ReadState *read = argument;
	MeterTotals *totals;

	if (entry->key.database != read->database || read->count == read->capacity)
		return;
	totals = &read->totals[read->count++];
	totals->tenant = entry->key.tenant;
	totals->memory_peak = pg_atomic_read_u64(&entry->memory_peak);
	totals->memory_record = pg_atomic_read_u64(&entry->memory_record);
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
	ReadState read = {.database = database};

	read.capacity = shared_table_entry_count(&entries) + ROOM_FOR_NEW_ENTRIES;
	read.totals =
		MemoryContextAllocHuge(CurrentMemoryContext, mul_size(read.capacity, sizeof(MeterTotals)));
	shared_table_scan(&entries, LW_SHARED, read_entry, &read);
	*count = read.count;
	return read.totals;
}

/*
 * Histograms are copied in two steps, for nothing may be allocated under the locks: how many
 * buckets there are, then the buckets.
 */
typedef struct LatencyState
{
	Oid database;
	int tenant_count;
	int bucket_count;
	int tenant_capacity;
	int bucket_capacity;
	MeterLatencies *tenants; /* NULL while they are counted */
	MeterBucket *buckets;
} LatencyState;

static void
copy_latencies(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;
	LatencyState *copy = argument;
	int before = copy->bucket_count;

	if (entry->key.database != copy->database)
		return;
	if (copy->tenants != NULL && (copy->tenant_count == copy->tenant_capacity ||
								  copy->bucket_count + LATENCY_BUCKETS > copy->bucket_capacity))
		return;
	for (int i = 0; i < LATENCY_BUCKETS; i++)
	{
		uint32 count = pg_atomic_read_u32(&entry->latencies[i]);

		if (count == 0)
			continue;
		if (copy->tenants != NULL)
			copy->buckets[copy->bucket_count] = (MeterBucket){.count = count, .bucket = i};
		copy->bucket_count++;
	}
	if (copy->bucket_count == before)
		return;
	if (copy->tenants != NULL)
		copy->tenants[copy->tenant_count] = (MeterLatencies){.tenant = entry->key.tenant,
															 .count = copy->bucket_count - before,
															 .buckets = copy->buckets + before};
	copy->tenant_count++;
}

MeterLatencies *
meter_read_latencies(Oid database, int *count)
{
	LatencyState copy = {.database = database};

	shared_table_scan(&entries, LW_SHARED, copy_latencies, &copy);
	copy.tenant_capacity = copy.tenant_count + ROOM_FOR_NEW_ENTRIES;
	copy.bucket_capacity = copy.bucket_count + ROOM_FOR_NEW_ENTRIES * LATENCY_BUCKETS;
	copy.tenants = MemoryContextAllocHuge(CurrentMemoryContext,
										  mul_size(copy.tenant_capacity, sizeof(MeterLatencies)));
	copy.buckets = MemoryContextAllocHuge(CurrentMemoryContext,
										  mul_size(copy.bucket_capacity, sizeof(MeterBucket)));
	copy.tenant_count = copy.bucket_count = 0;
	shared_table_scan(&entries, LW_SHARED, copy_latencies, &copy);
	*count = copy.tenant_count;
	return copy.tenants;
}

void
meter_set_flushed(Oid database, const MeterTotals *written)
{
	MeterKey key = {.database = database, .tenant = written->tenant};
	LWLock *lock;
	MeterEntry *entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	uint64 peak = written->memory_peak;

	pg_atomic_fetch_add_u64(&state->flush_count, 1);
	if (entry == NULL)
		return;
	for (int i = 0; i < METER_COUNTERS; i++)
		pg_atomic_write_u64(&entry->flushed[i], written->total.value[i]);
	/* One that is higher stays for the next flush. */
	(void) pg_atomic_compare_exchange_u64(&entry->memory_peak, &peak, 0);
	LWLockRelease(lock);
}

void
meter_set_latencies_flushed(Oid database, const MeterLatencies *written)
{
	MeterKey key = {.database = database, .tenant = written->tenant};
	LWLock *lock;
	MeterEntry *entry = shared_table_find(&entries, &key, LW_SHARED, &lock);

	if (entry == NULL)
		return;
	for (int i = 0; i < written->count; i++)
		pg_atomic_fetch_sub_u32(&entry->latencies[written->buckets[i].bucket],
								written->buckets[i].count);
	LWLockRelease(lock);
}

static void
remove_entry(void *pointer, void *argument)
{
	MeterEntry *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&entries, &entry->key);
}

void
meter_forget(Oid database)
{
	meter_collect(database);
	shared_table_scan(&entries, LW_EXCLUSIVE, remove_entry, &database);
	overflow_forget(database);
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
	PendingState *pending = argument;

	if (!is_flushed(entry))
		pending->visit(entry->key.database, pending->state);
}

void
meter_for_each_pending(void (*visit)(Oid database, void *state), void *argument)
{
	PendingState pending = {.visit = visit, .state = argument};

	meter_slot_for_each_pending(visit, argument);
	shared_table_scan(&entries, LW_SHARED, visit_pending_entry, &pending);
	overflow_for_each_pending(visit, argument);
}

typedef struct FindState
{
	Oid database;
	bool is_found;
} FindState;

static void
find_database(Oid database, void *argument)
{
	FindState *find = argument;

	find->is_found = find->is_found || find->database == database;
}

bool
meter_has_pending(Oid database)
{
	FindState find = {.database = database};

	meter_for_each_pending(find_database, &find);
	return find.is_found;
}

MeterCapacity
meter_capacity(void)
{
	return (MeterCapacity){
		.used = shared_table_entry_count(&entries),
		.limit = setting_max_tenants,
		.evicted = pg_atomic_read_u64(&state->evicted),
		.overflow = pg_atomic_read_u64(&state->overflow),
		.refused = pg_atomic_read_u64(&state->refused) + shared_table_refused_count(&entries),
	};
}

/* As the server stops: what is not in the tables is kept in a file. */
static void
save_entry(void *pointer, void *argument)
{
	static MeterDelta delta;
	MeterEntry *entry = pointer;

	if (is_flushed(entry))
		return;
	delta.key = entry->key;
	delta.bucket_count = 0;
	for (int i = 0; i < METER_COUNTERS; i++)
		delta.counts.value[i] =
			pg_atomic_read_u64(&entry->total[i]) - pg_atomic_read_u64(&entry->flushed[i]);
	for (int i = 0; i < LATENCY_BUCKETS; i++)
	{
		uint32 count = pg_atomic_read_u32(&entry->latencies[i]);

		if (count > 0)
			delta.buckets[delta.bucket_count++] = (MeterBucket){.count = count, .bucket = i};
	}
	overflow_save(&delta);
}

void
meter_entry_save(void)
{
	shared_table_scan(&entries, LW_SHARED, save_entry, NULL);
}

void
meter_entry_init(void)
{
	shared_table_register(&entries);
	shmem_register(&state_part);
}
