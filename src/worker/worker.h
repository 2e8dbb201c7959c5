/*
 * worker/worker.h
 *		Background workers: one launcher per cluster, runners per database.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "nodes/nodes.h"

/*
 * For the utility hook, around a statement that drops, renames, moves or copies a
 * database: keep runners away from it.  Returns the database, or InvalidOid where the
 * statement is of another kind.  The second is called for that database afterwards,
 * whatever became of the statement.
 */
extern Oid worker_before_utility(Node *statement);
extern void worker_after_utility(Node *statement, Oid database, bool is_done);

/* An extension is being created here: the launcher is told when it commits. */
extern void worker_note_extension(void);
extern void worker_transaction_event(XactEvent event);

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
