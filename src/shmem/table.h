/*
 * shmem/table.h
 *		A hash table in shared memory whose partitions are locked apart.
 *
 * Lock rules.  The lock of a key's partition is held, shared or exclusive, while
 * an entry is looked at; entries are made and removed under the exclusive lock.
 * Under the shared lock an entry's atomic counters may be added to.  No other
 * lock is taken meanwhile, nothing is allocated and nothing raises.
 */
#pragma once

#include "postgres.h"

#include "port/atomics.h"
#include "shmem/shmem.h"
#include "utils/hsearch.h"

#define SHARED_TABLE_PARTITIONS 32

typedef struct SharedTable
{
	const char *name;
	Size key_size; /* the key stands first in the entry and has no padding */
	Size entry_size;
	int (*capacity)(void);
	SharedPart part; /* owned by table.c, as is all below */
	HTAB *hash;
	LWLockPadded *locks;
	struct SharedTableState *state;
} SharedTable;

extern void shared_table_register(SharedTable *table);

/*
 * The entry of a key, with its partition locked; NULL and no lock where there is
 * none.  shared_table_find() takes the lock in the mode given.
 */
extern void *shared_table_find(SharedTable *table, const void *key, LWLockMode mode, LWLock **lock);

/*
 * The same, making the entry (zeroed behind its key) where there is none; the
 * lock is then exclusive.  NULL and no lock when the table is full, which is counted.
 */
extern void *shared_table_ensure(SharedTable *table, const void *key, LWLockMode mode,
								 LWLock **lock);

/*
 * Several entries at once: lock the partitions of their keys exclusively, in ascending order
 * and each once; then look, or make where there is none (NULL when full); then release them.
 */
extern int shared_table_partition(SharedTable *table, const void *key);
extern LWLock *shared_table_partition_lock(SharedTable *table, int partition);
extern void *shared_table_find_locked(SharedTable *table, const void *key);
extern void *shared_table_ensure_locked(SharedTable *table, const void *key);

/* Remove an entry that the caller found under the exclusive lock. */
extern void shared_table_remove(SharedTable *table, const void *key);

/* Visit every entry with all partitions locked in the mode given: copy and be gone. */
extern void shared_table_scan(SharedTable *table, LWLockMode mode,
							  void (*visit)(void *entry, void *state), void *state);

extern int64 shared_table_entry_count(SharedTable *table);
extern int64 shared_table_refused_count(SharedTable *table);

/* For shmem.c: what the tables themselves need, and making or attaching them. */
extern Size shared_table_memory(void);
extern void shared_table_startup(void);
