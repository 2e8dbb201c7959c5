/*
 * worker/restore.c
 *		What sessions of pg_restore, or that run what pg_dump wrote, are to workers.
 *
 * Parts of tables by time and rows that come with a dump must not be there before: workers stay away
 * until all sessions that restore it have ended.  The one that creates the extension is the first.
 * pg_restore --jobs ends it before it starts others, so that the directory waits a moment for those;
 * they are known by the settings that pg_dump has in all of its output, before they restore anything.
 *
 * Their rows come in any order.  The foreign keys of our tables, other than those of users, are there
 * before the rows, and an archive does not tell pg_restore which tables refer to which: so these rows
 * are not checked as they come.  Nor are they by pg_restore --disable-triggers, and it may be done by
 * superusers alone.  Triggers that guard our tables are ALWAYS enabled, and fire.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/compat.h"
#include "worker/directory.h"
#include "worker/restore.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

/* Of those that the directory counts; it did not make the extension. */
static bool is_restorer = false;
static bool has_joined = false;

/* What it makes is, when it commits. */
static bool will_restore = false;

static bool
is_restoring(void)
{
	return !check_function_bodies && *namespace_search_path == '\0';
}

static void
end_restore(int code, Datum argument)
{
	if (!is_restorer)
		return;
	is_restorer = false;
	directory_end_restore(MyDatabaseId);
	directory_wake_launcher();
}

static void
watch_end(void)
{
	static bool is_watched = false;

	if (!is_watched)
		on_shmem_exit(end_restore, (Datum) 0);
	is_watched = true;
}

void
restore_note_extension(void)
{
	will_restore = is_restoring();
	if (will_restore)
		watch_end();
}

void
restore_begin(void)
{
	if (!will_restore || is_restorer)
		return;
	directory_begin_restore(MyDatabaseId);
	is_restorer = true;
}

static void
join(void)
{
	if (is_restorer || !IsTransactionState() || !compat_owns_database(MyDatabaseId, GetUserId()))
		return;
	watch_end();
	is_restorer = has_joined = directory_join_restore(MyDatabaseId);
}

static bool
fills_own_table(Node *statement)
{
	CopyStmt *copy;
	Oid relid;

	if (!IsA(statement, CopyStmt))
		return false;
	copy = castNode(CopyStmt, statement);
	if (!copy->is_from || copy->relation == NULL || !extension_is_ready())
		return false;
	relid = RangeVarGetRelid(copy->relation, NoLock, true);
	return OidIsValid(relid) && get_rel_namespace(relid) == extension_tables_schema();
}

int
restore_before_statement(Node *statement)
{
	int level;

	if (likely(!is_restoring()))
		return 0;
	join();
	if (!has_joined || !fills_own_table(statement) || !superuser())
		return 0;
	level = NewGUCNestLevel();
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
restore_after_statement(int settings_level)
{
	if (settings_level != 0)
		AtEOXact_GUC(true, settings_level);
}
