/*
 * worker/worker.c
 *		What all background workers share: signals, sleeping, and the utility hook's part.
 */
#include "postgres.h"

#include "core/settings.h"
#include "meter/meter.h"
#include "worker/directory.h"
#include "worker/worker.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#define LAUNCHER_RESTART_SECONDS 1

static volatile sig_atomic_t is_interruptible = false;

/* Between jobs a request to stop is looked at; within one it interrupts like any other backend's. */
static void
on_terminate(SIGNAL_ARGS)
{
	if (is_interruptible)
		die(postgres_signal_arg);
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

void
worker_set_interruptible(bool yes)
{
	is_interruptible = yes;
	if (yes && ShutdownRequestPending)
		ProcDiePending = InterruptPending = true;
}

void
worker_begin(const char *name)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_terminate);
	BackgroundWorkerUnblockSignals();
	pgstat_report_appname(name);
}

bool
worker_is_told_to_stop(void)
{
	return ShutdownRequestPending;
}

void
worker_sleep(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static Oid
template_of(CreatedbStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return get_database_oid(defGetString(option), true);
	}
	return get_database_oid("template1", true);
}

static bool
moves_tablespace(AlterDatabaseStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			return true;
	}
	return false;
}

Oid
worker_before_utility(Node *statement)
{
	Oid database = InvalidOid;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			database = get_database_oid(castNode(DropdbStmt, statement)->dbname, true);
			break;
		case T_CreatedbStmt:
			database = template_of(castNode(CreatedbStmt, statement));
			break;
		case T_AlterDatabaseStmt:
			if (moves_tablespace(castNode(AlterDatabaseStmt, statement)))
				database = get_database_oid(castNode(AlterDatabaseStmt, statement)->dbname, true);
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				database = get_database_oid(castNode(RenameStmt, statement)->subname, true);
			break;
		default:
			break;
	}
	/* Who will be refused anyway must not be able to stop our work. */
	if (!OidIsValid(database) || !(have_createdb_privilege() || superuser()))
		return InvalidOid;
	directory_pause(database);
	return database;
}

void
worker_after_utility(Oid database, bool is_dropped)
{
	if (is_dropped)
	{
		directory_remove(database);
		meter_forget(database);
	}
	else
		directory_resume(database);
}

void
worker_init(void)
{
	BackgroundWorker launcher = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = LAUNCHER_RESTART_SECONDS,
	};

	snprintf(launcher.bgw_name, BGW_MAXLEN, "pg_tenancy launcher");
	snprintf(launcher.bgw_type, BGW_MAXLEN, "pg_tenancy launcher");
	snprintf(launcher.bgw_library_name, BGW_MAXLEN, "pg_tenancy");
	snprintf(launcher.bgw_function_name, BGW_MAXLEN, "tenancy_launcher_main");
	RegisterBackgroundWorker(&launcher);
	directory_init();
}
