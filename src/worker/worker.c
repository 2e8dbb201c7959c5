/*
 * worker/worker.c
 *		What all background workers share: signals, sleeping, and the utility hook's part.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/compat.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "domain/domain.h"
#include "job/queue.h"
#include "job/schedule.h"
#include "resource/resource.h"
#include "meter/meter.h"
#include "worker/directory.h"
#include "worker/door.h"
#include "worker/restore.h"
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
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define LAUNCHER_RESTART_SECONDS 1

/* While the extension may be dropped; less than the usual deadlock_timeout, so that it is we who give up. */
#define LOCK_TIMEOUT_UNHELD "500ms"

/* Settings that a database may have for its sessions, and that are not for us. */
static const char *const own_settings[][2] = {
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_isolation", "read committed"},
};

static volatile sig_atomic_t is_interruptible = false;

/* What this transaction makes, for the launcher to hear of when it commits. */
static bool extension_is_new = false;
static Oid new_database = InvalidOid;

/* Between jobs a request to stop is looked at; within one it interrupts like any other backend's.
 */
static void
on_terminate(SIGNAL_ARGS)
{
	if (is_interruptible)
		die(postgres_signal_arg);
	SignalHandlerForShutdownRequest(postgres_signal_arg);
}

/*
 * A request to cancel is for the job that runs, and must not hit what comes after.  That a lock was
 * waited for too long is a signal to oneself.
 */
static void
on_cancel(SIGNAL_ARGS)
{
	if (is_interruptible || get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
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
	pqsignal(SIGINT, on_cancel);
	BackgroundWorkerUnblockSignals();
	pgstat_report_appname(name);
}

void
worker_arm(int timeout_seconds)
{
	enable_timeout_after(STATEMENT_TIMEOUT, timeout_seconds * 1000);
	worker_set_interruptible(true);
}

void
worker_disarm(void)
{
	worker_set_interruptible(false);
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

void
worker_set(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
worker_connect(Oid database)
{
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	for (int i = 0; i < lengthof(own_settings); i++)
		worker_set(own_settings[i][0], own_settings[i][1]);
}

void
worker_start_transaction(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!extension_hold())
		/* Not PGC_S_OVERRIDE: that would stay when the transaction has ended. */
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_UNHELD, PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
report(void)
{
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	report();
}

void
worker_abort(void)
{
	AbortCurrentTransaction();
	report();
}

bool
worker_start(const char *what, const char *function, Oid database)
{
	BackgroundWorkerHandle *handle;
	pid_t pid;
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = ObjectIdGetDatum(database),
		.bgw_notify_pid = MyProcPid,
	};

	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_tenancy %s for database %u", what, database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "pg_tenancy %s", what);
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "pg_tenancy");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "%s", function);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	(void) WaitForBackgroundWorkerStartup(handle, &pid);
	pfree(handle);
	return true;
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

/* The database that the statement wants for itself. */
static Oid
wanted_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return get_database_oid(castNode(DropdbStmt, statement)->dbname, true);
		case T_CreatedbStmt:
			return template_of(castNode(CreatedbStmt, statement));
		case T_AlterDatabaseStmt:
			if (moves_tablespace(castNode(AlterDatabaseStmt, statement)))
				return get_database_oid(castNode(AlterDatabaseStmt, statement)->dbname, true);
			return InvalidOid;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_DATABASE)
				return get_database_oid(castNode(RenameStmt, statement)->subname, true);
			return InvalidOid;
		default:
			return InvalidOid;
	}
}

/* Who will be refused anyway must not be able to stop our work. */
static bool
may_want(Node *statement, Oid database)
{
	if (IsA(statement, CreatedbStmt))
		return have_createdb_privilege();
	return compat_owns_database(database, GetUserId());
}

Oid
worker_before_utility(Node *statement)
{
	Oid database = wanted_database(statement);

	if (!OidIsValid(database) || !may_want(statement, database))
		return InvalidOid;
	PG_TRY();
	{
		directory_pause(database);
	}
	PG_CATCH();
	{
		directory_resume(database);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return database;
}

void
worker_after_utility(Node *statement, Oid database, bool is_done)
{
	if (is_done && IsA(statement, DropdbStmt))
	{
		directory_remove(database);
		meter_forget(database);
		limits_forget(database);
		domain_forget(database);
		return;
	}
	directory_resume(database);
	if (is_done && IsA(statement, CreatedbStmt))
	{
		new_database = get_database_oid(castNode(CreatedbStmt, statement)->dbname, true);
		transaction_watch();
	}
}

void
worker_note_extension(void)
{
	extension_is_new = true;
	transaction_watch();
	restore_note_extension();
}

/* Sometimes a database is looked at for nothing: after ROLLBACK TO, or of a copied template. */
void
worker_transaction_event(XactEvent event)
{
	bool is_due_here;
	JobsReady ready;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			extension_is_new = extension_is_new && extension_is_ready();
			break;
		case XACT_EVENT_COMMIT:
			is_due_here = schedule_take_changed() || extension_is_new;
			if (extension_is_new)
				restore_begin();
			if (is_due_here)
				(void) directory_note_due(MyDatabaseId, DUE_NOW);
			if (OidIsValid(new_database))
				(void) directory_note_due(new_database, DUE_NOW);
			ready = job_take_ready();
			if (ready.for_workers)
				directory_note_jobs(MyDatabaseId, JOB_WORKER, DUE_NOW);
			if (ready.for_webhooks)
				directory_note_jobs(MyDatabaseId, WEBHOOK_WORKER, DUE_NOW);
			if (is_due_here || OidIsValid(new_database))
				directory_wake_launcher();
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			(void) schedule_take_changed();
			(void) job_take_ready();
			extension_is_new = false;
			new_database = InvalidOid;
			break;
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
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
	door_register();
}
