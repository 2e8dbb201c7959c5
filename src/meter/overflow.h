/*
 * meter/overflow.h
 *		Counts that have no place in shared memory: a file per database.
 */
#pragma once

#include "postgres.h"

#include "meter/slot.h"

/* Append a record to the file of its database; false where that fails.  Never raises. */
extern bool overflow_write(const MeterDelta *delta);

/*
 * Take the records of a database, in the current memory context, as many as are returned.  They
 * stay in the file until overflow_flushed(), which is called when they are in the tables.
 */
extern MeterDelta **overflow_take(Oid database, int *count);
extern void overflow_flushed(Oid database);

extern void overflow_for_each_pending(void (*visit)(Oid database, void *state), void *state);
extern void overflow_forget(Oid database);

/* In the postmaster: what a clean stop has saved becomes entries again; and saving it. */
extern void overflow_load(void);
extern void overflow_save(const MeterDelta *delta);

/* Of entry.c: save them all. */
extern void meter_entry_save(void);
