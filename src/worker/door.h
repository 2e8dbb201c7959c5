/*
 * worker/door.h
 *		The door for HTTP: one process that answers, and one that reads the database for it.
 */
#pragma once

#include "postgres.h"

#include "worker/worker.h"

/* Where the reader leaves what it has read. */
#define DOOR_FILE "pg_stat_tmp/pg_tenancy_door"

typedef enum DoorText
{
	DOOR_TEXT_METRICS,
	DOOR_TEXT_TARGETS,
	DOOR_TEXT_PROBLEMS
} DoorText;
#define DOOR_TEXTS (DOOR_TEXT_PROBLEMS + 1)

/* The head of the file; the texts follow. */
typedef struct DoorFile
{
	uint32 magic;
	uint32 lengths[DOOR_TEXTS];
} DoorFile;
#define DOOR_MAGIC 0x646f6f72

extern PGDLLEXPORT void tenancy_door_main(Datum argument);
extern PGDLLEXPORT void tenancy_door_reader_main(Datum argument);

/* In the postmaster: where the door is to be open from the start. */
extern void door_register(void);

/* Start it where it is not; false when no worker is free. */
extern bool door_start(void);
extern bool door_reader_start(Oid database);

/* Have the reader come before its time; from the door. */
extern void door_wake_reader(void);
