/*
 * shmem/table.c
 *		A hash table in shared memory whose partitions are locked apart.
 *
 * See table.h for the lock rules.  shared_table_scan() locks the partitions in
 * ascending order.
 */
#include "postgres.h"

#include "shmem/table.h"

#include "storage/shmem.h"

typedef struct SharedTableState
{
	pg_atomic_uint64 entry_count;
	pg_atomic_uint64 refused_count;
} SharedTableState;

static SharedTable *tables[32];
static int table_count = 0;

static int
partition_locks(void)
{
	return SHARED_TABLE_PARTITIONS;
}

static Size
state_size(void)
{
	return sizeof(SharedTableState);
}

static void
state_init(void *memory)
{
	SharedTableState *state = memory;

	pg_atomic_init_u64(&state->entry_count, 0);
	pg_atomic_init_u64(&state->refused_count, 0);
}

void
shared_table_register(SharedTable *table)
{
	if (table_count == lengthof(tables))
		elog(ERROR, "too many shared tables");
	tables[table_count++] = table;

	table->part = (SharedPart){
		.name = table->name,
		.size = state_size,
		.lock_count = partition_locks,
		.init = state_init,
		.memory = (void **) &table->state,
		.locks = &table->locks,
	};
	shmem_register(&table->part);
}

Size
shared_table_memory(void)
{
	Size total = 0;

	for (int i = 0; i < table_count; i++)
		total = add_size(total, hash_estimate_size(tables[i]->capacity(), tables[i]->entry_size));
	return total;
}

void
shared_table_startup(void)
{
	for (int i = 0; i < table_count; i++)
	{
		SharedTable *table = tables[i];
		HASHCTL control = {
			.keysize = table->key_size,
			.entrysize = table->entry_size,
			.num_partitions = SHARED_TABLE_PARTITIONS,
		};

		table->hash =
			ShmemInitHash(psprintf("%s entries", table->name), table->capacity(), table->capacity(),
						  &control, HASH_ELEM | HASH_BLOBS | HASH_PARTITION | HASH_FIXED_SIZE);
	}
}

static LWLock *
partition_lock(SharedTable *table, uint32 hash)
{
	return &table->locks[hash % SHARED_TABLE_PARTITIONS].lock;
}

void *
shared_table_find(SharedTable *table, const void *key, LWLockMode mode, LWLock **lock)
{
	uint32 hash = get_hash_value(table->hash, key);
	void *entry;

	*lock = partition_lock(table, hash);
	LWLockAcquire(*lock, mode);
	entry = hash_search_with_hash_value(table->hash, key, hash, HASH_FIND, NULL);
	if (entry == NULL)
		LWLockRelease(*lock);
	return entry;
}

int
shared_table_partition(SharedTable *table, const void *key)
{
	return get_hash_value(table->hash, key) % SHARED_TABLE_PARTITIONS;
}

LWLock *
shared_table_partition_lock(SharedTable *table, int partition)
{
	return &table->locks[partition].lock;
}

void *
shared_table_find_locked(SharedTable *table, const void *key)
{
	uint32 hash = get_hash_value(table->hash, key);

	Assert(LWLockHeldByMe(partition_lock(table, hash)));
	return hash_search_with_hash_value(table->hash, key, hash, HASH_FIND, NULL);
}

void *
shared_table_ensure_locked(SharedTable *table, const void *key)
{
	uint32 hash = get_hash_value(table->hash, key);
	bool found;
	void *entry;

	Assert(LWLockHeldByMeInMode(partition_lock(table, hash), LW_EXCLUSIVE));
	entry = hash_search_with_hash_value(table->hash, key, hash, HASH_ENTER_NULL, &found);
	if (entry == NULL)
	{
		pg_atomic_fetch_add_u64(&table->state->refused_count, 1);
		return NULL;
	}
	if (!found)
	{
		memset((char *) entry + table->key_size, 0, table->entry_size - table->key_size);
		pg_atomic_fetch_add_u64(&table->state->entry_count, 1);
	}
	return entry;
}

void *
shared_table_ensure(SharedTable *table, const void *key, LWLockMode mode, LWLock **lock)
{
	void *entry = shared_table_find(table, key, mode, lock);

	if (entry != NULL)
		return entry;
	LWLockAcquire(*lock, LW_EXCLUSIVE);
	entry = shared_table_ensure_locked(table, key);
	if (entry == NULL)
		LWLockRelease(*lock);
	return entry;
}

void
shared_table_remove(SharedTable *table, const void *key)
{
	uint32 hash = get_hash_value(table->hash, key);

	Assert(LWLockHeldByMeInMode(partition_lock(table, hash), LW_EXCLUSIVE));
	if (hash_search_with_hash_value(table->hash, key, hash, HASH_REMOVE, NULL) != NULL)
		pg_atomic_fetch_sub_u64(&table->state->entry_count, 1);
}

void
shared_table_scan(SharedTable *table, LWLockMode mode, void (*visit)(void *entry, void *state),
				  void *state)
{
	HASH_SEQ_STATUS scan;
	void *entry;

	for (int i = 0; i < SHARED_TABLE_PARTITIONS; i++)
		LWLockAcquire(&table->locks[i].lock, mode);

	hash_seq_init(&scan, table->hash);
	while ((entry = hash_seq_search(&scan)) != NULL)
		visit(entry, state);

	for (int i = SHARED_TABLE_PARTITIONS - 1; i >= 0; i--)
		LWLockRelease(&table->locks[i].lock);
}

int64
shared_table_entry_count(SharedTable *table)
{
	return pg_atomic_read_u64(&table->state->entry_count);
}

int64
shared_table_refused_count(SharedTable *table)
{
	return pg_atomic_read_u64(&table->state->refused_count);
}
