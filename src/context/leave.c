/*
 * context/leave.c
 *		What a tenant could leave behind for the next client of a pooled connection, undone
 *		when its transaction ends.
 *
 * Doing this when the next tenant enters would be too late: the next client may not enter
 * at all, and its rollback would undo the undoing.  What is transactional (temporary
 * objects, settings) is undone before the commit, which then makes it so; the rest
 * (prepared statements, session locks, the memory of sequences) outlives a rollback too and
 * goes at the end, either way.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "context/leave.h"
#include "core/compat.h"
#include "core/function.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "storage/lock.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

GATE_STATEMENT(leftovers,
			   "SELECT 'temporary relation', c.relname::text FROM pg_catalog.pg_class c"
			   "  WHERE c.relnamespace = pg_catalog.pg_my_temp_schema()"
			   " UNION ALL SELECT 'prepared statement', p.name"
			   "  FROM pg_catalog.pg_prepared_statements p WHERE p.from_sql"
			   " UNION ALL SELECT 'cursor', c.name FROM pg_catalog.pg_cursors c WHERE c.is_holdable"
			   " UNION ALL SELECT 'channel', l FROM pg_catalog.pg_listening_channels() l"
			   " UNION ALL SELECT 'advisory lock', pg_catalog.concat_ws(' ', k.classid, k.objid)"
			   "  FROM pg_catalog.pg_locks k"
			   "  WHERE k.locktype = 'advisory' AND k.pid = pg_catalog.pg_backend_pid()"
			   " LIMIT 1",
			   InvalidOid);

/* What poolers follow themselves, so that each client finds its own. */
static const char *const followed_settings[] = {
	"application_name",
	"client_encoding",
	"DateStyle",
	"IntervalStyle",
	"standard_conforming_strings",
	"TimeZone",
};

static bool are_settings_touched = false;
static List *prepared_names = NIL; /* of char *, in TopTransactionContext */

/* Pairs of catalog and object, in TopTransactionContext; temporary or not is not known yet. */
static List *created = NIL;

void
leave_note_settings(void)
{
	are_settings_touched = true;
}

void
leave_note_prepared(const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	prepared_names = lappend(prepared_names, pstrdup(name));
	MemoryContextSwitchTo(old);
}

void
leave_note_created(Oid class_id, Oid object_id)
{
	MemoryContext old;

	/* Only when the temporary schema is in use can it be one in there. */
	if ((MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) == 0)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	created = lappend_oid(created, class_id);
	created = lappend_oid(created, object_id);
	MemoryContextSwitchTo(old);
}

static Oid
schema_of(const ObjectAddress *object)
{
	Relation catalog = table_open(object->classId, AccessShareLock);
	HeapTuple tuple = get_catalog_object_by_oid(catalog, get_object_attnum_oid(object->classId),
												object->objectId);
	Oid schema = InvalidOid;
	bool is_null;

	if (HeapTupleIsValid(tuple))
		schema = DatumGetObjectId(heap_getattr(tuple, get_object_attnum_namespace(object->classId),
											   RelationGetDescr(catalog), &is_null));
	table_close(catalog, AccessShareLock);
	return schema;
}

/* Only the tenant's: the connection may have temporary tables of its own. */
static void
drop_temporary_objects(void)
{
	ObjectAddresses *objects = new_object_addresses();

	for (int i = 0; i < list_length(created); i += 2)
	{
		ObjectAddress object = {.classId = list_nth_oid(created, i),
								.objectId = list_nth_oid(created, i + 1)};
		Oid schema;

		/* Gone again, by DROP or by ROLLBACK TO. */
		if (!is_objectclass_supported(object.classId) ||
			get_object_attnum_namespace(object.classId) == InvalidAttrNumber)
			continue;
		schema = schema_of(&object);
		if (OidIsValid(schema) && isTempNamespace(schema))
			add_exact_object_address(&object, objects);
	}
	created = NIL;
	performMultipleDeletions(objects, DROP_CASCADE,
							 PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
	free_object_addresses(objects);
}

/*
 * Make what this transaction SET end with it, as SET LOCAL does.  All subtransactions are
 * merged by now, so each setting has at most the one entry of the transaction.
 */
static void
make_settings_local(void)
{
	int count;
	struct config_generic **settings = compat_guc_variables(&count);

	for (int i = 0; i < count; i++)
	{
		GucStack *entry = settings[i]->stack;

		if (entry != NULL && (entry->state == GUC_SET || entry->state == GUC_SET_LOCAL))
			entry->state = GUC_SAVE;
	}
}

void
leave_before_commit(void)
{
	if (are_settings_touched)
		make_settings_local();
	if (created != NIL)
	{
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		drop_temporary_objects();
		PopActiveSnapshot();
	}
}

void
leave_at_end(void)
{
	ListCell *cell;

	foreach (cell, prepared_names)
		DropPreparedStatement(lfirst(cell), false);
	prepared_names = created = NIL;
	are_settings_touched = false;
	LockReleaseAll(USER_LOCKMETHOD, true);
	ResetSequenceCaches();
}

/* Poolers go on after an error of their check, but not after the end of the session. */
static void
refuse_leftover(int level, const char *kind, const char *name)
{
	ereport(level, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("this connection is not clean"), errdetail("It has the %s \"%s\".", kind, name),
			errhint("DISCARD ALL cleans it."));
}

/* connection_check(terminate boolean) → boolean */
TENANCY_FUNCTION(connection_check)
{
	int level = PG_GETARG_BOOL(0) ? FATAL : ERROR;
	int count;
	struct config_generic **settings = compat_guc_variables(&count);
	GateRows *rows;

	if (context_tenant() != NULL)
		refuse_leftover(level, "tenant", "current_tenant()");
	for (int i = 0; i < count; i++)
	{
		bool is_followed = false;

		for (int j = 0; j < lengthof(followed_settings); j++)
			is_followed |= strcmp(settings[i]->name, followed_settings[j]) == 0;
		if (settings[i]->source == PGC_S_SESSION && !is_followed &&
			(settings[i]->flags & GUC_NO_RESET_ALL) == 0)
			refuse_leftover(level, "setting", settings[i]->name);
	}
	rows = gate_run_array(&leftovers, EXPECT_AT_MOST_ONE, NULL, 0);
	if (rows->count > 0)
		refuse_leftover(level, row_text(rows, 0, 0), row_text(rows, 0, 1));
	PG_RETURN_BOOL(true);
}
