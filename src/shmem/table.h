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
