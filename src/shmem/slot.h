/*
 * shmem/slot.h
 *		Fixed places per backend, for arrays in shared memory that have one writer
 *		each.
 */
#pragma once

#include "postgres.h"

/* How many places there are; valid once the settings are final. */
extern int slot_count(void);

/* The place of this backend. */
extern int slot_self(void);

/* The place of the leader of this backend's parallel query; its own outside of one. */
extern int slot_leader(void);
