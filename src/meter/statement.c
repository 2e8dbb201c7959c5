/*
 * meter/statement.c
 *		Counting what statements use: the hot path.
 *
 * A statement adds to variables of its backend.  At the end of the transaction, when
 * its tenant is known, they go to the backend's slot in shared memory; a slot holds the
 * counts of one tenant and is emptied into that tenant's entry when the backend turns
 * to another tenant, when somebody collects (meter_collect), and when the backend ends.
 * So as long as backends keep to a tenant they share nothing.
 *
 * Lock rules.  A slot's spinlock guards the slot; its owner adds, and anybody empties.
 * An entry's counters are atomic and are added to under the shared lock of its
 * partition (shmem/table.h).  A slot is copied and zeroed under its spinlock, and added
 * to the entry after that is released: no two locks are held at once.
 *
 * The clock is read twice a statement, without a system call.  CPU time costs one, so
 * it is read at the end of a transaction when a millisecond has passed since it was
 * read, or when the tenant is another than before; what passed since the last reading
 * belongs to the tenant of the transaction that ends.
 *
 * Nothing here survives a crash: see flush.c.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "core/id.h"
#include "core/settings.h"
#include "meter/meter.h"
#include "shmem/shmem.h"
#include "shmem/slot.h"
#include "shmem/table.h"

#include <time.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/spin.h"

#define CPU_READING_INTERVAL_US 1000

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
} MeterEntry;

typedef struct MeterSlot
{
	slock_t lock;
	bool is_used;
	MeterKey key;
	MeterCounts counts;
} MeterSlot;

static MeterSlot *slots;
static const pg_uuid_t no_tenant = {{0}};

static int
entry_capacity(void)
{
	return setting_max_tenants;
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
	return mul_size(slot_count(), sizeof(MeterSlot));
}

static void
slots_init(void *memory)
{
	for (int i = 0; i < slot_count(); i++)
		SpinLockInit(&((MeterSlot *) memory)[i].lock);
}

static SharedPart slots_part = {
	.name = "pg_tenancy meter slots",
	.size = slots_size,
	.init = slots_init,
	.memory = (void **) &slots,
};

/* The statement that runs at level 0, and the sum of the transaction so far. */
static struct
{
	bool is_running;
	instr_time start;
	BufferUsage buffers;
	WalUsage wal;
} running;

static struct
{
	bool is_used;
	MeterCounts counts;
} pending;

static bool is_exit_registered = false;
static uint64 cpu_read_us = 0; /* the process's CPU time at the last reading */
static instr_time cpu_read_at;
static instr_time last_end;
static pg_uuid_t last_tenant;

/* Entries. */

static void
add_to_entry(const MeterKey *key, const MeterCounts *counts)
{
	LWLock *lock;
	MeterEntry *entry = shared_table_ensure(&entries, key, LW_SHARED, &lock);

	if (entry == NULL)
	{
		/* Full, which is counted; the work is then that of no tenant. */
		MeterKey nobody = {.database = key->database};

		entry = shared_table_ensure(&entries, &nobody, LW_SHARED, &lock);
		if (entry == NULL)
			return;
	}
	for (int i = 0; i < METER_COUNTERS; i++)
	{
		if (counts->value[i] > 0)
			pg_atomic_fetch_add_u64(&entry->total[i], counts->value[i]);
	}
	LWLockRelease(lock);
}

static void
empty_slot(MeterSlot *slot)
{
	MeterKey key;
	MeterCounts counts;
	bool is_used;

	SpinLockAcquire(&slot->lock);
	is_used = slot->is_used;
	key = slot->key;
	counts = slot->counts;
	slot->is_used = false;
	memset(&slot->counts, 0, sizeof(MeterCounts));
	SpinLockRelease(&slot->lock);

	if (is_used)
		add_to_entry(&key, &counts);
}

void
meter_collect(Oid database)
{
	for (int i = 0; i < slot_count(); i++)
	{
		/* An unlocked look: what is missed was not committed before the call. */
		if (slots[i].is_used && slots[i].key.database == database)
			empty_slot(&slots[i]);
	}
}

/* Statements. */

static uint64
read_cpu_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) != 0)
		return cpu_read_us;
	return (uint64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

static void
on_exit_empty(int code, Datum argument)
{
	empty_slot(&slots[slot_self()]);
}

static void
start_counting(void)
{
	running.buffers = pgBufferUsage;
	running.wal = pgWalUsage;
	INSTR_TIME_SET_CURRENT(running.start);
}

static void
stop_counting(void)
{
	uint64 *value = pending.counts.value;
	const BufferUsage *before = &running.buffers;
	instr_time elapsed;

	INSTR_TIME_SET_CURRENT(last_end);
	elapsed = last_end;
	INSTR_TIME_SUBTRACT(elapsed, running.start);
	value[METER_ELAPSED_US] += INSTR_TIME_GET_MICROSEC(elapsed);
	value[METER_BLOCKS_HIT] += pgBufferUsage.shared_blks_hit - before->shared_blks_hit;
	value[METER_BLOCKS_READ] += pgBufferUsage.shared_blks_read - before->shared_blks_read;
	value[METER_BLOCKS_DIRTIED] += pgBufferUsage.shared_blks_dirtied - before->shared_blks_dirtied;
	value[METER_BLOCKS_WRITTEN] += pgBufferUsage.shared_blks_written - before->shared_blks_written;
	value[METER_TEMP_BLOCKS_READ] += pgBufferUsage.temp_blks_read - before->temp_blks_read;
	value[METER_TEMP_BLOCKS_WRITTEN] +=
		pgBufferUsage.temp_blks_written - before->temp_blks_written;
	value[METER_WAL_RECORDS] += pgWalUsage.wal_records - running.wal.wal_records;
	value[METER_WAL_BYTES] += pgWalUsage.wal_bytes - running.wal.wal_bytes;
}

bool
meter_begin(bool is_new)
{
	/* Client sessions alone: neither autovacuum nor our own workers count for a tenant. */
	if (setting_metering == METERING_OFF || MyBackendType != B_BACKEND || !extension_is_ready() ||
		RecoveryInProgress())
		return false;

	if (unlikely(!is_exit_registered))
	{
		before_shmem_exit(on_exit_empty, (Datum) 0);
		is_exit_registered = true;
		INSTR_TIME_SET_CURRENT(cpu_read_at);
	}
	pending.is_used = true;
	pending.counts.value[METER_CALLS] += is_new;
	running.is_running = true;
	start_counting();
	return true;
}

void
meter_end(uint64 rows)
{
	stop_counting();
	running.is_running = false;
	pending.counts.value[METER_ROWS] += rows;
}

/* Nothing below may raise: it runs at the end of a transaction. */
static void
settle(void)
{
	MeterSlot *slot = &slots[slot_self()];
	const pg_uuid_t *attributed = context_attributed_tenant();
	const pg_uuid_t *tenant = attributed != NULL ? attributed : &no_tenant;
	bool is_same = id_equal(tenant, &last_tenant);
	instr_time since = last_end;
	bool is_other_slot;

	INSTR_TIME_SUBTRACT(since, cpu_read_at);
	if (setting_metering == METERING_FULL &&
		(!is_same || INSTR_TIME_GET_MICROSEC(since) >= CPU_READING_INTERVAL_US))
	{
		uint64 cpu = read_cpu_us();

		pending.counts.value[METER_CPU_US] += cpu - cpu_read_us;
		cpu_read_us = cpu;
		cpu_read_at = last_end;
	}
	last_tenant = *tenant;

	/* This backend alone sets the key, so it may look without the lock. */
	is_other_slot = slot->key.database != MyDatabaseId || !id_equal(&slot->key.tenant, tenant);
	if (is_other_slot && slot->is_used)
		empty_slot(slot);

	SpinLockAcquire(&slot->lock);
	if (is_other_slot)
	{
		slot->key.database = MyDatabaseId;
		slot->key.tenant = *tenant;
	}
	slot->is_used = true;
	for (int i = 0; i < METER_COUNTERS; i++)
		slot->counts.value[i] += pending.counts.value[i];
	SpinLockRelease(&slot->lock);

	memset(&pending, 0, sizeof(pending));
}

void
meter_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (!pending.is_used)
				break;

			/* A procedure may end a transaction in the middle of its statement. */
			if (running.is_running)
				stop_counting();
			settle();
			if (running.is_running)
			{
				pending.is_used = true;
				start_counting();
			}
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

/* Reading. */

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

MeterTotals *
meter_read(Oid database, int *count)
{
	ReadState state = {.database = database};

	/* Entries that come while we read can wait for the next reader. */
	state.capacity = shared_table_entry_count(&entries) + 64;
	state.totals = palloc(mul_size(state.capacity, sizeof(MeterTotals)));
	shared_table_scan(&entries, LW_SHARED, read_entry, &state);
	*count = state.count;
	return state.totals;
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

void
meter_forget(Oid database)
{
	int count;
	MeterTotals *totals;

	meter_collect(database);
	totals = meter_read(database, &count);
	for (int i = 0; i < count; i++)
	{
		MeterKey key = {.database = database, .tenant = totals[i].tenant};
		LWLock *lock;

		if (shared_table_find(&entries, &key, LW_EXCLUSIVE, &lock) != NULL)
		{
			shared_table_remove(&entries, &key);
			LWLockRelease(lock);
		}
	}
	pfree(totals);
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

	if (pg_atomic_read_u64(&entry->total[METER_CALLS]) !=
		pg_atomic_read_u64(&entry->flushed[METER_CALLS]))
		state->visit(entry->key.database, state->state);
}

void
meter_for_each_pending(void (*visit)(Oid database, void *state), void *argument)
{
	PendingState state = {.visit = visit, .state = argument};

	for (int i = 0; i < slot_count(); i++)
	{
		if (slots[i].is_used)
			visit(slots[i].key.database, argument);
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

void
meter_init(void)
{
	shared_table_register(&entries);
	shmem_register(&slots_part);
	meter_flush_init();
}
