/*
 * limit/rate_entry.h
 *		What shared memory knows of the subjects of rate limits.  For rate_limit.c, which
 *		counts, and rate_state.c, which saves and shows.
 */
#pragma once

#include "postgres.h"

#include "limit/rate.h"
#include "port/atomics.h"
#include "shmem/table.h"
#include "utils/uuid.h"

typedef struct RateKey
{
	Oid database;
	unsigned char subject[16];
} RateKey;

typedef struct RateEntry
{
	RateKey key;
	RateAlgorithm algorithm;
	int64 period_ns;
	pg_uuid_t policy;
	pg_uuid_t tenant;
	pg_atomic_uint64 first; /* of the RateState; changed by CAS under the shared lock, for GCRA */
	uint64 second;
	pg_atomic_uint64 allowed;
	pg_atomic_uint64 limited;
} RateEntry;

extern SharedTable rate_entries;

/* Say whose an entry is, one just made or found, under its exclusive lock. */
extern void rate_entry_introduce(RateEntry *entry, const RateEntry *new);

/* Periods that survive a restart. */
#define RATE_LONG_PERIOD_NS (INT64CONST(3600) * 1000000000)

/* Before the first look at an entry: the counts that were saved, once after a restart. */
extern void rate_state_load(void);

/* A subject of a long period was counted. */
extern void rate_state_note_change(void);

extern void rate_state_for_each_pending(void (*visit)(Oid database, void *state), void *state);

extern void rate_state_init(void);
