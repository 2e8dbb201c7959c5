/*
 * meter/slot.c
 *		A slot per backend: what it has counted, for everybody to see.
 *
 * At the end of each transaction a backend copies its counters to its slot, as they are:
 * sums since the process began.  Who collects (meter_collect) adds what is new since the
 * last collection to the entry of the slot's tenant.  When the backend turns to another
 * tenant it collects its own slot first.  So as long as backends keep to a tenant they
 * share nothing, and the end of a transaction costs a copy.
 *
 * Lock rules.  The backend alone writes what it shows, and takes no lock: its change count
 * is odd meanwhile, and who reads tries again (as for pg_stat_activity).  What was collected,
 * and whose the slot is, changes under the slot's LWLock.  It is released before anything is
 * added to an entry: no two locks are held at once.
 */
#include "postgres.h"

#include "context/context.h"
#include "core/compat.h"
#include "core/id.h"
#include "meter/meter.h"
#include "meter/slot.h"
#include "meter/statement.h"
#include "shmem/shmem.h"
#include "shmem/slot.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

/* How often a reader looks at a slot that changes all the time, before it leaves it for later. */
#define TRIES 1000

#define WAIT_CLASS 0xFF000000 /* of a wait event */

/* What a backend shows. */
typedef struct Shown
{
	MeterReading reading;
	uint32 latencies[LATENCY_BUCKETS];
} Shown;

typedef struct MeterSlot
{
	uint64 change_count; /* odd while the backend writes; the three below are its alone */
	MeterKey key;
	Shown shown;

	/* Under the lock, as is changing the key. */
	uint64 collected_count; /* of changes */
	Shown collected;
	bool is_connected;
	bool is_new_connection; /* not counted yet */
	MeterKey connection;
	TimestampTz connected_until; /* what is before is counted */
} MeterSlot;

/* No two backends write to the same cache line. */
typedef union PaddedSlot
{
	MeterSlot slot;
	char padding[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(MeterSlot))];
} PaddedSlot;

static PaddedSlot *slots;
static LWLockPadded *locks;

/* Of this backend. */
static MeterSlot *own = NULL;
static LWLock *own_lock;

/* The buckets that this backend has counted in since its slot was emptied by it. */
#define TOUCHED_BUCKETS 64
static uint16 touched[TOUCHED_BUCKETS];
static int touched_count = 0; /* one more than there is room for: look at all */
static bool is_touched[LATENCY_BUCKETS];

static const pg_uuid_t no_tenant = {{0}};
bool meter_slot_is_nobodys = false;

static void
note_whose(void)
{
	meter_slot_is_nobodys =
		id_equal(&own->key.tenant, &no_tenant) && id_equal(&own->connection.tenant, &no_tenant);
}

static Size
slots_size(void)
{
	return mul_size(slot_count(), sizeof(PaddedSlot));
}

static SharedPart slots_part = {
	.name = "pg_tenancy meter slots",
	.size = slots_size,
	.lock_count = slot_count,
	.memory = (void **) &slots,
	.locks = &locks,
};

static inline void
begin_write(void)
{
	own->change_count++;
	pg_write_barrier();
}

static inline void
end_write(void)
{
	pg_write_barrier();
	own->change_count++;
}

static uint64
microseconds(instr_time now, instr_time before)
{
	INSTR_TIME_SUBTRACT(now, before);
	return INSTR_TIME_GET_MICROSEC(now);
}

static void
subtract(const MeterReading *now, const MeterReading *before, MeterCounts *result)
{
	uint64 *value = result->value;
	const BufferUsage *n = &now->buffers;
	const BufferUsage *b = &before->buffers;

	for (int i = 0; i < METER_OWN_COUNTERS; i++)
		value[i] = now->own[i] - before->own[i];
	value[METER_BLOCKS_HIT] = n->shared_blks_hit - b->shared_blks_hit;
	value[METER_BLOCKS_READ] = n->shared_blks_read - b->shared_blks_read;
	value[METER_BLOCKS_DIRTIED] = n->shared_blks_dirtied - b->shared_blks_dirtied;
	value[METER_BLOCKS_WRITTEN] = n->shared_blks_written - b->shared_blks_written;
	value[METER_LOCAL_BLOCKS_HIT] = n->local_blks_hit - b->local_blks_hit;
	value[METER_LOCAL_BLOCKS_READ] = n->local_blks_read - b->local_blks_read;
	value[METER_LOCAL_BLOCKS_DIRTIED] = n->local_blks_dirtied - b->local_blks_dirtied;
	value[METER_LOCAL_BLOCKS_WRITTEN] = n->local_blks_written - b->local_blks_written;
	value[METER_TEMP_BLOCKS_READ] = n->temp_blks_read - b->temp_blks_read;
	value[METER_TEMP_BLOCKS_WRITTEN] = n->temp_blks_written - b->temp_blks_written;
	value[METER_IO_US] = microseconds(compat_block_time(n), compat_block_time(b));
	value[METER_TEMP_IO_US] = microseconds(compat_temp_time(n), compat_temp_time(b));
	value[METER_WAL_RECORDS] = now->wal.wal_records - before->wal.wal_records;
	value[METER_WAL_PAGES] = now->wal.wal_fpi - before->wal.wal_fpi;
	value[METER_WAL_BYTES] = now->wal.wal_bytes - before->wal.wal_bytes;
}

static inline void
take_bucket(MeterSlot *slot, const Shown *shown, int bucket, MeterDelta *delta)
{
	uint32 count = shown->latencies[bucket] - slot->collected.latencies[bucket];

	if (count == 0)
		return;
	delta->buckets[delta->bucket_count++] = (MeterBucket){.bucket = bucket, .count = count};
	slot->collected.latencies[bucket] = shown->latencies[bucket];
}

/* Under the lock: what is new in what was shown after so many changes. */
static void
take(MeterSlot *slot, const Shown *shown, uint64 change_count, MeterDelta *delta)
{
	delta->key = slot->key;
	delta->bucket_count = 0;
	memset(&delta->counts, 0, sizeof(delta->counts));
	subtract(&shown->reading, &slot->collected.reading, &delta->counts);
	slot->collected.reading = shown->reading;
	slot->collected_count = change_count;
}

/* The owner empties its slot and gives it to another tenant. */
void
meter_slot_turn_to(const pg_uuid_t *tenant)
{
	static MeterDelta delta; /* too large for the stack of a commit */

	LWLockAcquire(own_lock, LW_EXCLUSIVE);
	begin_write();
	take(own, &own->shown, own->change_count + 1, &delta);
	if (touched_count <= TOUCHED_BUCKETS)
		for (int i = 0; i < touched_count; i++)
			take_bucket(own, &own->shown, touched[i], &delta);
	else
		for (int i = 0; i < LATENCY_BUCKETS; i++)
			take_bucket(own, &own->shown, i, &delta);
	own->key.database = MyDatabaseId;
	own->key.tenant = *tenant;
	end_write();
	LWLockRelease(own_lock);

	for (int i = 0; i < Min(touched_count, TOUCHED_BUCKETS); i++)
		is_touched[touched[i]] = false;
	touched_count = 0;
	note_whose();
	meter_entry_add(&delta);
}

bool
meter_slot_is_of(const pg_uuid_t *tenant)
{
	return id_equal(&own->key.tenant, tenant);
}

static inline void
show_latency(uint16 bucket)
{
	own->shown.latencies[bucket]++;
	if (unlikely(!is_touched[bucket]))
	{
		if (touched_count < TOUCHED_BUCKETS)
		{
			touched[touched_count] = bucket;
			is_touched[bucket] = true;
		}
		touched_count = Min(touched_count + 1, TOUCHED_BUCKETS + 1);
	}
}

pg_attribute_hot void
meter_slot_publish(const uint16 *buckets, int bucket_count)
{
	begin_write();
	memcpy(own->shown.reading.own, meter_own, sizeof(own->shown.reading.own));
	own->shown.reading.buffers = pgBufferUsage;
	own->shown.reading.wal = pgWalUsage;
	for (int i = 0; i < bucket_count; i++)
		show_latency(buckets[i]);
	end_write();
}

void
meter_slot_publish_latencies(const pg_uuid_t *tenant, const uint16 *buckets, int bucket_count)
{
	if (!meter_slot_is_of(tenant))
		meter_slot_turn_to(tenant);
	begin_write();
	for (int i = 0; i < bucket_count; i++)
		show_latency(buckets[i]);
	end_write();
}

void
meter_slot_amend(MeterCounter counter, uint64 value)
{
	begin_write();
	own->shown.reading.own[counter] = value;
	end_write();
}

void
meter_slot_skip(void)
{
	meter_slot_turn_to(&own->key.tenant);
	meter_slot_publish(NULL, 0);
	LWLockAcquire(own_lock, LW_EXCLUSIVE);
	own->collected.reading = own->shown.reading;
	own->collected_count = own->change_count;
	LWLockRelease(own_lock);
}

/* Under the lock: the time of the connection that is not counted yet. */
static bool
take_connection(MeterSlot *slot, TimestampTz now, MeterDelta *delta)
{
	if (!slot->is_connected || now <= slot->connected_until)
		return false;
	memset(&delta->counts, 0, sizeof(delta->counts));
	delta->bucket_count = 0;
	delta->key = slot->connection;
	delta->counts.value[METER_CONNECTIONS] = slot->is_new_connection;
	delta->counts.value[METER_CONNECTION_US] = now - slot->connected_until;
	slot->is_new_connection = false;
	slot->connected_until = now;
	return true;
}

static void
begin_connection(const pg_uuid_t *tenant, TimestampTz since)
{
	own->is_connected = true;
	own->is_new_connection = true;
	own->connection.database = MyDatabaseId;
	own->connection.tenant = *tenant;
	own->connected_until = since;
}

static void
end_connection(TimestampTz now, bool is_last, const pg_uuid_t *next)
{
	static MeterDelta delta;
	bool has_any;

	LWLockAcquire(own_lock, LW_EXCLUSIVE);
	has_any = take_connection(own, now, &delta);
	if (is_last)
		own->is_connected = false;
	else
		begin_connection(next, now);
	LWLockRelease(own_lock);
	if (has_any)
		meter_entry_add(&delta);
}

void
meter_slot_begin(const pg_uuid_t *tenant)
{
	own = &slots[slot_self()].slot;
	own_lock = &locks[slot_self()].lock;

	/* The process before has emptied it. */
	LWLockAcquire(own_lock, LW_EXCLUSIVE);
	begin_write();
	memset(&own->shown.reading, 0, sizeof(MeterReading));
	memset(&own->collected.reading, 0, sizeof(MeterReading));
	own->key.database = MyDatabaseId;
	own->key.tenant = *tenant;
	end_write();
	own->collected_count = own->change_count;
	begin_connection(tenant, MyStartTimestamp);
	LWLockRelease(own_lock);
	note_whose();
	meter_slot_publish(NULL, 0);
}

void
meter_slot_end(void)
{
	meter_slot_publish(NULL, 0);
	meter_slot_turn_to(&own->key.tenant);
	end_connection(GetCurrentTimestamp(), true, NULL);
}

void
meter_slot_discard(void)
{
	LWLockAcquire(own_lock, LW_EXCLUSIVE);
	own->collected = own->shown;
	own->collected_count = own->change_count;
	own->is_connected = false;
	LWLockRelease(own_lock);
}

bool
meter_slot_is_connection_of(const pg_uuid_t *tenant)
{
	return id_equal(&own->connection.tenant, tenant);
}

void
meter_slot_set_connection(const pg_uuid_t *tenant)
{
	end_connection(GetCurrentTimestamp(), false, tenant);
	note_whose();
}

/* What the backend shows, between two of its changes; false where it did not hold still. */
static bool
look(MeterSlot *slot, Shown *shown, uint64 *change_count)
{
	volatile uint64 *count = &slot->change_count;

	for (int i = 0; i < TRIES; i++)
	{
		uint64 before = *count;

		if (before % 2 == 0)
		{
			pg_read_barrier();
			*shown = slot->shown;
			pg_read_barrier();
			if (*count == before)
			{
				*change_count = before;
				return true;
			}
		}
		pg_spin_delay();
	}
	return false;
}

static void
collect_counts(MeterSlot *slot, LWLock *lock)
{
	static Shown shown;
	static MeterDelta delta;
	uint64 change_count;
	bool is_new;

	if (!look(slot, &shown, &change_count))
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	/* Not where another has collected this or more meanwhile. */
	is_new = slot->collected_count < change_count;
	if (is_new)
	{
		take(slot, &shown, change_count, &delta);
		for (int i = 0; i < LATENCY_BUCKETS; i++)
			take_bucket(slot, &shown, i, &delta);
	}
	LWLockRelease(lock);
	if (is_new)
		meter_entry_add(&delta);
}

static void
collect_connection(MeterSlot *slot, LWLock *lock, TimestampTz now)
{
	static MeterDelta delta;
	bool has_any;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	has_any = take_connection(slot, now, &delta);
	LWLockRelease(lock);
	if (has_any)
		meter_entry_add(&delta);
}

void
meter_collect(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < slot_count(); i++)
	{
		MeterSlot *slot = &slots[i].slot;

		/* An unlocked look: what is missed was not committed before the call. */
		if (slot->key.database != database)
			continue;
		if (slot->collected_count != slot->change_count)
			collect_counts(slot, &locks[i].lock);
		if (slot->is_connected)
			collect_connection(slot, &locks[i].lock, now);
	}
}

/* The connections of tenants are brought up to date so often, even where nobody does anything. */
#define CONNECTION_INTERVAL_US (60 * USECS_PER_SEC)

void
meter_slot_for_each_pending(void (*visit)(Oid database, void *state), void *state)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < slot_count(); i++)
	{
		const MeterSlot *slot = &slots[i].slot;

		if (slot->collected_count != slot->change_count ||
			(slot->is_connected && !id_equal(&slot->connection.tenant, &no_tenant) &&
			 now - slot->connected_until >= CONNECTION_INTERVAL_US))
			visit(slot->key.database, state);
	}
}

void
meter_sample_waits(int64 interval_us)
{
	static MeterDelta delta;

	for (int i = 0; i < slot_count(); i++)
	{
		const PGPROC *proc = GetPGProcByNumber(i);

		/* Unlocked: a wait that ends now is one. */
		if (!slots[i].slot.is_connected || (proc->wait_event_info & WAIT_CLASS) != PG_WAIT_LOCK)
			continue;
		memset(&delta.counts, 0, sizeof(delta.counts));
		delta.key.database = slots[i].slot.key.database;
		delta.key.tenant = slots[i].slot.connection.tenant;
		(void) context_tenant_of_slot(i, &delta.key.tenant);
		delta.counts.value[METER_LOCK_WAITS] = 1;
		delta.counts.value[METER_LOCK_WAIT_US] = interval_us;
		meter_entry_add(&delta);
	}
}

void
meter_slot_init(void)
{
	shmem_register(&slots_part);
}
