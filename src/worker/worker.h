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

/* While this is set a request to stop or to cancel interrupts what runs. */
extern void worker_set_interruptible(bool is_interruptible);

/* Until it is disarmed, what runs is cancelled after so long, or by a request. */
extern void worker_arm(int timeout_seconds);
extern void worker_disarm(void);

/* Connect as the bootstrap superuser, with the settings of a worker. */
extern void worker_connect(Oid database);
extern void worker_set(const char *name, const char *value);

/* Transactions of a worker. */
extern void worker_start_transaction(const char *activity);
extern void worker_commit(void);
extern void worker_abort(void);

extern PGDLLEXPORT void tenancy_launcher_main(Datum argument);
extern PGDLLEXPORT void tenancy_runner_main(Datum argument);
extern PGDLLEXPORT void tenancy_job_worker_main(Datum argument);
extern PGDLLEXPORT void tenancy_webhook_worker_main(Datum argument);

/* Start one for a database; false when no worker is free. */
extern bool runner_start(Oid database);
extern bool job_worker_start(Oid database);
extern bool webhook_worker_start(Oid database);

/* The same for any: "what" names it, "function" is its main function. */
extern bool worker_start(const char *what, const char *function, Oid database);
