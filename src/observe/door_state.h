/*
 * observe/door_state.h
 *		The door, in shared memory: who is at it, and what it was asked.
 *
 * Lock rules.  Atomics alone: each stands for itself.
 */
#pragma once

#include "postgres.h"

#include "port/atomics.h"

typedef enum DoorPage
{
	DOOR_ASK,
	DOOR_HEALTH,
	DOOR_METRICS,
	DOOR_TARGETS,
	DOOR_OTHER
} DoorPage;
#define DOOR_PAGES (DOOR_OTHER + 1)

/* Its answers. */
static const int door_statuses[] = {200, 400, 403, 404, 405, 413, 503};
#define DOOR_STATUSES 7

typedef struct DoorState
{
	pg_atomic_uint32 door;        /* its pid; 0: nobody is there */
	pg_atomic_uint32 reader;      /* pid of who reads the database for it */
	pg_atomic_uint32 database;    /* whose names are asked for; InvalidOid until it was read */
	pg_atomic_uint32 connections; /* that are open */
	pg_atomic_uint64 read_at;     /* the last time that the reader was through, a TimestampTz */
	pg_atomic_uint64 served[DOOR_PAGES][DOOR_STATUSES];
	pg_atomic_uint64 cut_off; /* connections that were too slow */
} DoorState;

extern DoorState *door_state;

extern void door_count(DoorPage page, int status);

/* In the postmaster, from _PG_init. */
extern void observe_init(void);
