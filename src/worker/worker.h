/*
 * worker/worker.h
 *		Background workers: one launcher per cluster, runners per database.
 */
#pragma once

#include "postgres.h"

#include "nodes/nodes.h"

/*
 * For the utility hook, around a statement that drops, renames, moves or copies a
 * database: keep runners away from it.  Returns the database, or InvalidOid where the
 * statement is of another kind.
 */
extern Oid worker_before_utility(Node *statement);
extern void worker_after_utility(Oid database, bool is_dropped);

/* In the postmaster, from _PG_init. */
extern void worker_init(void);

/* What every worker's main function does first, and the two ways in which it sleeps. */
extern void worker_begin(const char *name);
extern void worker_sleep(long timeout_ms);
extern bool worker_is_told_to_stop(void);

/* While this is set a request to stop interrupts what runs. */
extern void worker_set_interruptible(bool is_interruptible);

extern PGDLLEXPORT void tenancy_launcher_main(Datum argument);
extern PGDLLEXPORT void tenancy_runner_main(Datum argument);

/* Start a runner for a database; false when no worker is free. */
extern bool runner_start(Oid database);
