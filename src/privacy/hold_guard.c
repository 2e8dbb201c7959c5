/*
 * privacy/hold_guard.c
 *		What would take held rows past the trigger: DDL, TRUNCATE, and whatever drops.
 *
 * Asked for everybody, owners and superusers included, but only while a hold is in force.  DROP
 * SCHEMA, DROP OWNED and cascades drop their tables one by one, and each is asked for.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "privacy/hold.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static Oid permitted = InvalidOid;

void
hold_permit_drop(Oid partition)
{
	permitted = partition;
}

bool
hold_permits_drop(Oid relid)
{
	return OidIsValid(permitted) && permitted == relid;
}

static Oid
relation_of(const RangeVar *name)
{
	return name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);
}

static bool
is_table(Oid relid)
{
	char kind = get_rel_relkind(relid);

	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

static void
refuse_where_held(Oid relid)
{
	List *reaches;

	if (!OidIsValid(relid) || !is_table(relid) || hold_permits_drop(relid))
		return;
	reaches = hold_find(relid);
	if (reaches != NIL)
		hold_refuse(((HoldReach *) linitial(reaches))->hold, "table", get_rel_name(relid));
}

/* A change of a column reaches the children, which may be held where the parent is not. */
static void
refuse_where_any_held(Oid relid)
{
	ListCell *cell;

	if (!OidIsValid(relid) || !is_table(relid))
		return;
	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
		refuse_where_held(lfirst_oid(cell));
}

static void
check_alter_table(const AlterTableStmt *statement)
{
	Oid relid = relation_of(statement->relation);
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		switch (command->subtype)
		{
			case AT_AlterColumnType:
			case AT_DisableTrigAll:
			case AT_DisableTrigUser:
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
			case AT_SetUnLogged:
				refuse_where_any_held(relid);
				break;
			case AT_DisableTrig:
			case AT_EnableTrig:
			case AT_EnableReplicaTrig:
				if (strcmp(command->name, "tenancy_hold") == 0)
					refuse_where_any_held(relid);
				break;
			case AT_DetachPartition:
			case AT_DropInherit:
				refuse_where_any_held(relation_of(
					IsA(command->def, PartitionCmd) ? castNode(PartitionCmd, command->def)->name
													: castNode(RangeVar, command->def)));
				break;
			default:
				break;
		}
	}
}

void
hold_before_statement(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			if (hold_is_any() && !hold_is_working())
				check_alter_table(castNode(AlterTableStmt, statement));
			break;
		case T_RenameStmt:
		{
			const RenameStmt *rename = castNode(RenameStmt, statement);

			if ((rename->renameType == OBJECT_TABLE || rename->renameType == OBJECT_COLUMN ||
				 (rename->renameType == OBJECT_TRIGGER &&
				  strcmp(rename->subname, "tenancy_hold") == 0)) &&
				hold_is_any())
				refuse_where_any_held(relation_of(rename->relation));
			break;
		}
		case T_AlterObjectSchemaStmt:
		{
			const AlterObjectSchemaStmt *move = castNode(AlterObjectSchemaStmt, statement);

			if (move->objectType == OBJECT_TABLE && hold_is_any())
				refuse_where_any_held(relation_of(move->relation));
			break;
		}
		default:
			break;
	}
}

/* What is new, or is new in a schema or below a parent, may be held from now on. */
static void
protect_where_held(Oid relid)
{
	List *held = NIL;
	ListCell *cell;

	if (!OidIsValid(relid) || !is_table(relid))
		return;
	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
		if (hold_find(lfirst_oid(cell)) != NIL && !hold_has_trigger(lfirst_oid(cell)))
			held = lappend_oid(held, lfirst_oid(cell));
	if (held != NIL)
		hold_protect(held);
}

static void
follow_alter_table(const AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_AttachPartition)
			protect_where_held(relation_of(castNode(PartitionCmd, command->def)->name));
		else if (command->subtype == AT_AddInherit)
			protect_where_held(relation_of(statement->relation));
	}
}

void
hold_after_statement(Node *statement)
{
	if (hold_is_working())
		return;
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			if (hold_is_any())
				protect_where_held(relation_of(castNode(CreateStmt, statement)->relation));
			break;
		case T_CreateTableAsStmt:
			if (hold_is_any())
				protect_where_held(relation_of(castNode(CreateTableAsStmt, statement)->into->rel));
			break;
		case T_AlterTableStmt:
			if (hold_is_any())
				follow_alter_table(castNode(AlterTableStmt, statement));
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_TABLE && hold_is_any())
				protect_where_held(relation_of(
					makeRangeVar(castNode(RenameStmt, statement)->relation->schemaname,
								 castNode(RenameStmt, statement)->newname, -1)));
			break;
		case T_AlterObjectSchemaStmt:
			if (castNode(AlterObjectSchemaStmt, statement)->objectType == OBJECT_TABLE &&
				hold_is_any())
				protect_where_held(relation_of(makeRangeVar(
					castNode(AlterObjectSchemaStmt, statement)->newschema,
					castNode(AlterObjectSchemaStmt, statement)->relation->relname, -1)));
			break;
		default:
			break;
	}
}

void
hold_check_truncate(Oid relid)
{
	if (hold_is_any())
		refuse_where_held(relid);
}

/* The table of our trigger; InvalidOid for a trigger that is none of ours. */
static Oid
table_of_trigger(Oid trigger)
{
	Relation relation = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid relid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(relation, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid == hold_trigger_function())
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return relid;
}

static void
check_dropped_schema(Oid schema)
{
	pg_uuid_t tenant;
	const Hold *hold;

	if (registry_schema_scope(schema, &tenant) != SCOPE_TENANT)
		return;
	hold = hold_of_tenant(&tenant);
	if (hold != NULL && hold->is_of_tenant)
		hold_refuse(hold, "schema", get_namespace_name(schema));
}

void
hold_check_dropped(Oid class_id, Oid object_id, int sub_id)
{
	if (hold_is_working() || !hold_is_any())
		return;
	switch (class_id)
	{
		case RelationRelationId:
			if (object_id == extension_relation("legal_hold"))
				hold_refuse_any("extension", "pg_tenancy");
			refuse_where_held(object_id);
			break;
		case NamespaceRelationId:
			check_dropped_schema(object_id);
			break;
		case TriggerRelationId:
			refuse_where_held(table_of_trigger(object_id));
			break;
		default:
			break;
	}
}
