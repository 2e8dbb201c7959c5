/*
 * privacy/hold_trigger.c
 *		The trigger that keeps held rows, and putting it on tables.
 *
 * Row triggers fire for whoever deletes, in cascades of foreign keys and under
 * session_replication_role = replica, too (ENABLE ALWAYS).  Partitions get them from their parent.
 * What a hold says of a table is prepared once and kept by the backend until the registry's
 * generation moves on: under a hold no column of the table goes, changes its type or its name.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/relation.h"
#include "core/function.h"
#include "core/id.h"
#include "privacy/expression.h"
#include "privacy/hold.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define TRIGGER_NAME "tenancy_hold"

/* One hold on one table, ready to judge rows. */
typedef struct Judge
{
	HoldReach reach;
	ExprState *predicate; /* NULL for none */
	FmgrInfo *outputs;    /* of the subject's columns */
} Judge;

typedef struct TableEntry
{
	Oid relid;
	int count;
	Judge *judges;
} TableEntry;

static MemoryContext prepared = NULL;
static HTAB *tables = NULL;
static EState *estate = NULL;
static uint64 prepared_generation;
static bool is_working = false;

bool
hold_is_working(void)
{
	return is_working;
}

Oid
hold_trigger_function(void)
{
	static Oid function = InvalidOid;
	static Oid schema = InvalidOid;
	Oid now = extension_tables_schema();

	if (schema != now || !OidIsValid(function))
	{
		oidvector *no_arguments = buildoidvector(NULL, 0);

		function =
			GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("hold_check"),
							PointerGetDatum(no_arguments), ObjectIdGetDatum(now));
		schema = now;
	}
	return function;
}

static void
begin_anew(uint64 generation)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TableEntry)};
	MemoryContext previous;

	if (prepared == NULL)
		prepared =
			AllocSetContextCreate(TopMemoryContext, "pg_tenancy held rows", ALLOCSET_SMALL_SIZES);
	tables = NULL;
	MemoryContextReset(prepared);
	previous = MemoryContextSwitchTo(prepared);
	estate = CreateExecutorState();
	control.hcxt = prepared;
	tables = hash_create("pg_tenancy held tables", 16, &control,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	prepared_generation = generation;
	MemoryContextSwitchTo(previous);
}

static void
prepare_judge(Oid relid, const HoldReach *reach, Judge *judge)
{
	judge->reach = *reach;
	if (reach->has_predicate)
		judge->predicate = ExecPrepareExpr(
			(Expr *) expression_parse(relid, reach->hold->predicate, BOOLOID, "predicate"), estate);
	judge->outputs = palloc(sizeof(FmgrInfo) * Max(reach->subject_count, 1));
	for (int i = 0; i < reach->subject_count; i++)
	{
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(get_atttype(relid, reach->subject_columns[i]), &output, &is_varlena);
		fmgr_info_cxt(output, &judge->outputs[i], prepared);
	}
}

/* Found or made; the entry is kept only when it is complete. */
static TableEntry
judges_of(Oid relid)
{
	uint64 generation = registry_generation();
	TableEntry *entry = NULL;
	TableEntry made = {.relid = relid};
	MemoryContext previous;
	List *reaches;
	ListCell *cell;

	if (tables == NULL || prepared_generation != generation)
		begin_anew(generation);
	entry = hash_search(tables, &relid, HASH_FIND, NULL);
	if (entry != NULL)
		return *entry;
	previous = MemoryContextSwitchTo(prepared);
	reaches = hold_find(relid);
	made.judges = palloc0(sizeof(Judge) * Max(list_length(reaches), 1));
	foreach (cell, reaches)
		prepare_judge(relid, lfirst(cell), &made.judges[made.count++]);
	MemoryContextSwitchTo(previous);
	entry = hash_search(tables, &relid, HASH_ENTER, NULL);
	*entry = made;
	return made;
}

static bool
fits_tenant(const Judge *judge, TupleTableSlot *slot)
{
	bool isnull;
	Datum tenant = slot_getattr(slot, judge->reach.tenant_column, &isnull);

	return !isnull && id_equal(DatumGetUUIDP(tenant), judge->reach.hold->tenant);
}

static bool
fits_predicate(const Judge *judge, TupleTableSlot *slot)
{
	ExprContext *context = GetPerTupleExprContext(estate);
	bool isnull;
	Datum value;

	ResetExprContext(context);
	context->ecxt_scantuple = slot;
	value = ExecEvalExprSwitchContext(judge->predicate, context, &isnull);
	return !isnull && DatumGetBool(value);
}

static bool
fits_subject(Judge *judge, TupleTableSlot *slot)
{
	for (int i = 0; i < judge->reach.subject_count; i++)
	{
		bool isnull;
		Datum value = slot_getattr(slot, judge->reach.subject_columns[i], &isnull);

		if (!isnull && strcmp(OutputFunctionCall(&judge->outputs[i], value),
							  judge->reach.subject_values[i]) == 0)
			return true;
	}
	return false;
}

static bool
is_held_by(Judge *judge, TupleTableSlot *slot)
{
	return (judge->reach.tenant_column == InvalidAttrNumber || fits_tenant(judge, slot)) &&
		   (!judge->reach.has_predicate || fits_predicate(judge, slot)) &&
		   (judge->reach.subject_count == 0 || fits_subject(judge, slot));
}

/* tenancy.hold_check() → trigger */
TENANCY_FUNCTION(hold_check)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TableEntry table;
	bool is_update;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("hold_check() is a trigger BEFORE UPDATE OR DELETE FOR EACH ROW"));
	is_update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	table = judges_of(RelationGetRelid(trigger->tg_relation));
	for (int i = 0; i < table.count; i++)
	{
		Judge *judge = &table.judges[i];

		if (!is_held_by(judge, trigger->tg_trigslot))
			continue;
		if (!is_update || judge->reach.hold->blocks_updates ||
			!is_held_by(judge, trigger->tg_newslot))
			hold_refuse(judge->reach.hold, "a row of table",
						RelationGetRelationName(trigger->tg_relation));
	}
	PG_RETURN_POINTER(is_update ? trigger->tg_newtuple : trigger->tg_trigtuple);
}

bool
hold_has_trigger(Oid relid)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	TriggerDesc *triggers;
	bool is_there = false;

	if (relation == NULL)
		return false;
	triggers = relation->trigdesc;
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		is_there |= triggers->triggers[i].tgfoid == hold_trigger_function();
	relation_close(relation, NoLock);
	return is_there;
}

static void
run_as_owner(Oid relid, const char *sql)
{
	GateScope scope;

	gate_enter(&scope, relation_owner(relid), "pg_catalog");
	is_working = true;
	PG_TRY();
	{
		gate_run_text(sql);
	}
	PG_FINALLY();
	{
		is_working = false;
	}
	PG_END_TRY();
	gate_leave(&scope);
}

void
hold_protect(List *relids)
{
	ListCell *cell;

	relids = list_copy(relids);
	list_sort(relids, list_oid_cmp);
	foreach (cell, relids)
		LockRelationOid(lfirst_oid(cell), ShareRowExclusiveLock);
	/* A partition may get the trigger from its parent, whichever comes first. */
	for (int pass = 0; pass < 2; pass++)
		foreach (cell, relids)
		{
			Oid relid = lfirst_oid(cell);
			char *name;

			if (get_rel_relkind(relid) == '\0' || (pass == 0 && get_rel_relispartition(relid)) ||
				hold_has_trigger(relid))
				continue;
			name = relation_sql_name(relid);
			run_as_owner(relid, psprintf("CREATE TRIGGER " TRIGGER_NAME
										 " BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE "
										 "FUNCTION tenancy.hold_check();"
										 "ALTER TABLE %s ENABLE ALWAYS TRIGGER " TRIGGER_NAME,
										 name, name));
			CommandCounterIncrement();
		}
}

void
hold_unprotect(List *relids)
{
	ListCell *cell;

	foreach (cell, relids)
	{
		Oid relid = lfirst_oid(cell);

		/* That of a partition goes with its parent's. */
		if (get_rel_relkind(relid) == '\0' || hold_find(relid) != NIL || !hold_has_trigger(relid))
			continue;
		if (get_rel_relispartition(relid) &&
			hold_has_trigger(linitial_oid(get_partition_ancestors(relid))))
			continue;
		run_as_owner(relid, psprintf("DROP TRIGGER " TRIGGER_NAME " ON %s",
									 relation_sql_name(relid)));
		CommandCounterIncrement();
	}
}

/* tenancy.hold_registered() → trigger: a table becomes a shared one. */
TENANCY_FUNCTION(hold_registered)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("hold_registered() is a trigger AFTER INSERT FOR EACH ROW"));
	/* Rows that a restore brings are none of ours; their triggers come with the dump. */
	if (GetUserId() == extension_owner() && hold_is_any())
	{
		bool isnull;
		Oid relid = DatumGetObjectId(heap_getattr(trigger->tg_trigtuple, 1,
												  RelationGetDescr(trigger->tg_relation), &isnull));

		/* What the backend remembers of the table is from before. */
		CacheInvalidateRelcache(trigger->tg_relation);
		CommandCounterIncrement();
		if (hold_find(relid) != NIL)
			hold_protect(list_make1_oid(relid));
	}
	PG_RETURN_POINTER(NULL);
}
