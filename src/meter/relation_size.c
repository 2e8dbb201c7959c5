/*
 * meter/relation_size.c
 *		How large a table is, without waiting for who has it for himself.
 *
 * PostgreSQL's own functions lock a table, its indexes, its TOAST table and the index of that, one
 * after the other, and wait for each: REINDEX has the last ones for itself while the table can be
 * read.  So all of them are locked first, if that can be done at once, then measured, then let go:
 * a run measures more relations than a transaction may have locks.
 */
#include "postgres.h"

#include "core/function.h"
#include "meter/relation_size.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

static int64
size_by(PGFunction function, Oid relid)
{
	return DatumGetInt64(DirectFunctionCall1(function, ObjectIdGetDatum(relid)));
}

static void
unlock(List *locked)
{
	ListCell *cell;

	foreach (cell, locked)
		UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
}

/* False where somebody has one of them; what was locked is in the list all the same. */
static bool
lock_indexes(Relation relation, List **locked)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(relation))
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
			return false;
		*locked = lappend_oid(*locked, lfirst_oid(cell));
	}
	return true;
}

static bool
lock_toast(Oid toast, List **locked)
{
	Relation relation;
	bool is_locked;

	if (!OidIsValid(toast))
		return true;
	if (!ConditionalLockRelationOid(toast, AccessShareLock))
		return false;
	*locked = lappend_oid(*locked, toast);
	relation = relation_open(toast, NoLock);
	is_locked = lock_indexes(relation, locked);
	relation_close(relation, NoLock);
	return is_locked;
}

bool
relation_size_of(Relation relation, RelationSize *size)
{
	Oid relid = RelationGetRelid(relation);
	Oid toast = relation->rd_rel->reltoastrelid;
	List *locked = NIL;
	bool is_free = lock_indexes(relation, &locked) && lock_toast(toast, &locked);

	if (is_free)
	{
		size->toast = OidIsValid(toast) ? size_by(pg_total_relation_size, toast) : 0;
		size->heap = size_by(pg_table_size, relid) - size->toast;
		size->index = size_by(pg_indexes_size, relid);
	}
	unlock(locked);
	list_free(locked);
	return is_free;
}

/* tenancy.relation_size_read(relation oid) → (heap_bytes, index_bytes, toast_bytes bigint) */
TENANCY_FUNCTION(relation_size_read)
{
	Oid relid = PG_GETARG_OID(0);
	RelationSize size = {0};
	bool is_known = false;
	Datum values[3];
	bool nulls[3];
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (ConditionalLockRelationOid(relid, AccessShareLock))
	{
		/* NULL: it was dropped meanwhile. */
		Relation relation = try_relation_open(relid, NoLock);

		if (relation != NULL)
		{
			is_known = relation_size_of(relation, &size);
			relation_close(relation, NoLock);
		}
		UnlockRelationOid(relid, AccessShareLock);
	}
	values[0] = Int64GetDatum(size.heap);
	values[1] = Int64GetDatum(size.index);
	values[2] = Int64GetDatum(size.toast);
	memset(nulls, !is_known, sizeof(nulls));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
