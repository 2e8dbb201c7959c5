/*
 * limit/quota_table.c
 *		Which tables are counted for a quota: making the triggers, and keeping them.
 *
 * The triggers are the truth: they travel with a template to each tenant's copy, with a dump, and
 * with a table that is renamed.  Their statement triggers are not inherited, so each partition and
 * child has its own, from the moment that it becomes one.  They are ENABLE ALWAYS.
 *
 * tenancy.quota_table remembers the names of counted tables: a tenant that owns its tables may
 * drop one and make another of that name, which is then counted, too.  What it may not is
 * drop or disable a trigger, or give back by one on a table of its own.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "limit/quota.h"
#include "limit/quota_table.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define TRIGGER_NAME "tenancy_quota"

GATE_STATEMENT(count_metric,
			   "SELECT m.aggregation IN ('max', 'latest') FROM tenancy.metric m WHERE m.name = $1",
			   TEXTOID);
GATE_STATEMENT(quota_table_insert,
			   "INSERT INTO tenancy.quota_table (schema_name, table_name, metric, counted_at)"
			   " VALUES ($1, $2, $3, $4) ON CONFLICT (schema_name, table_name) DO UPDATE"
			   "    SET metric = excluded.metric, counted_at = excluded.counted_at",
			   NAMEOID, NAMEOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(quota_table_delete,
			   "DELETE FROM tenancy.quota_table q WHERE q.schema_name = $1 AND q.table_name = $2",
			   NAMEOID, NAMEOID);
/* By its own name, or by that of the template that the tenant was made from. */
GATE_STATEMENT(quota_table_metric,
			   "SELECT q.metric FROM tenancy.quota_table q"
			   " WHERE q.table_name = $3 AND (q.schema_name = $2 OR q.schema_name ="
			   "       (SELECT p.schema_name FROM tenancy.tenant t"
			   "          JOIN tenancy.template p ON p.name = t.template WHERE t.id = $1))"
			   " ORDER BY q.schema_name = $2 DESC LIMIT 1",
			   UUIDOID, NAMEOID, NAMEOID);

/* Is it we who make triggers? */
static bool is_making = false;

static Oid
count_function(void)
{
	static Oid function = InvalidOid;
	static Oid schema = InvalidOid;
	Oid now = extension_tables_schema();

	/* Not by its name as the user would look it up: he needs no right to know. */
	if (schema != now || !OidIsValid(function))
	{
		oidvector *no_arguments = buildoidvector(NULL, 0);

		function =
			GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("quota_count"),
							PointerGetDatum(no_arguments), ObjectIdGetDatum(now));
		schema = now;
	}
	return function;
}

/* The metric that a table is counted for, or NULL. */
static char *
metric_of(Oid relid)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	TriggerDesc *triggers;
	char *metric = NULL;

	if (relation == NULL)
		return NULL;
	triggers = relation->trigdesc;
	for (int i = 0; triggers != NULL && i < triggers->numtriggers && metric == NULL; i++)
		if (triggers->triggers[i].tgfoid == count_function() &&
			TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype) && triggers->triggers[i].tgnargs == 1)
			metric = pstrdup(triggers->triggers[i].tgargs[0]);
	relation_close(relation, NoLock);
	return metric;
}

static bool
has_trigger(Oid relid, const char *name)
{
	Relation relation = table_open(relid, NoLock);
	TriggerDesc *triggers = relation->trigdesc;
	bool is_ours = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		is_ours |= triggers->triggers[i].tgfoid == count_function() &&
				   strcmp(triggers->triggers[i].tgname, name) == 0;
	table_close(relation, NoLock);
	return is_ours;
}

static Oid
owner_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static const struct
{
	const char *suffix;
	const char *event;
	bool is_for_shared; /* alone; on a parent, whose children get it from there */
} definitions[] = {
	{"insert", "AFTER INSERT ON %s REFERENCING NEW TABLE AS added FOR EACH STATEMENT", false},
	{"delete", "AFTER DELETE ON %s REFERENCING OLD TABLE AS removed FOR EACH STATEMENT", false},
	{"truncate", "BEFORE TRUNCATE ON %s FOR EACH STATEMENT", false},
	{"move", "BEFORE UPDATE ON %s FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id)",
	 true},
};

static char *
trigger_name(int definition)
{
	return psprintf(TRIGGER_NAME "_%s", definitions[definition].suffix);
}

/* As the owner of the table, and past what stops tenants. */
static void
run_as_owner(Oid relid, List *statements)
{
	GateScope scope;
	ListCell *cell;

	gate_enter(&scope, owner_of(relid), "pg_catalog");
	is_making = true;
	PG_TRY();
	{
		foreach (cell, statements)
			gate_run_text(lfirst(cell));
	}
	PG_FINALLY();
	{
		is_making = false;
	}
	PG_END_TRY();
	gate_leave(&scope);
}

static void
make_triggers(Oid relid, const char *metric)
{
	char *name = qualified_name(relid);
	pg_uuid_t tenant;
	bool is_shared = registry_relation_scope(relid, &tenant) == SCOPE_SHARED;
	List *statements = NIL;

	for (int i = 0; i < lengthof(definitions); i++)
	{
		char *trigger = trigger_name(i);

		if (definitions[i].is_for_shared && (!is_shared || has_trigger(relid, trigger)))
			continue;
		statements =
			lappend(statements, psprintf("CREATE OR REPLACE TRIGGER %s %s EXECUTE FUNCTION "
										 "tenancy.quota_count(%s)",
										 trigger, psprintf(definitions[i].event, name),
										 quote_literal_cstr(metric)));
		statements = lappend(
			statements, psprintf("ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s", name, trigger));
	}
	run_as_owner(relid, statements);
}

/* From now on the table is counted, with the rows that it has. */
static void
begin_counting(Oid relid, const char *metric)
{
	char *former = metric_of(relid);

	if (former != NULL && strcmp(former, metric) == 0)
		return;
	if (former != NULL)
		quota_count_existing(relid, former, -1);
	quota_count_prepare(relid, metric);
	make_triggers(relid, metric);
	quota_count_existing(relid, metric, 1);
}

static void
begin_counting_all(Oid relid, const char *metric)
{
	ListCell *cell;

	foreach (cell, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
		begin_counting(lfirst_oid(cell), metric);
}

static Oid
countable_table(FunctionCallInfo fcinfo, int n)
{
	Oid relid;

	require_argument(fcinfo, n, "relation");
	relid = PG_GETARG_OID(n);
	if (get_rel_relkind(relid) != RELKIND_RELATION &&
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("relation %u is not a table", relid));
	if (!compat_owns_relation(relid, GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table \"%s\"", get_rel_name(relid)));
	return relid;
}

static void
require_level(const char *metric)
{
	GateRows *rows = gate_run(&count_metric, EXPECT_AT_MOST_ONE, gate_text(metric));

	if (rows->count == 0 || !row_bool(rows, 0, 0) || strcmp(metric, QUOTA_CONNECTIONS) == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist, or is no level", metric),
				errhint("metric_create(…, aggregation => 'max', carries_over => true) makes one."));
}

/* quota_count_table(metric text, relation regclass) → regclass */
TENANCY_FUNCTION(quota_count_table)
{
	char *metric = required_text(fcinfo, 0, "metric");
	Oid relid = countable_table(fcinfo, 1);

	context_require_none("counting a table");
	require_level(metric);
	begin_counting_all(relid, metric);
	gate_run(&quota_table_insert, EXPECT_ANY,
			 gate_name(get_namespace_name(get_rel_namespace(relid))),
			 gate_name(get_rel_name(relid)), gate_text(metric), gate_timestamptz(clock_now()));
	PG_RETURN_OID(relid);
}

/* quota_uncount_table(relation regclass) → regclass */
TENANCY_FUNCTION(quota_uncount_table)
{
	Oid relid = countable_table(fcinfo, 0);
	ListCell *cell;
	bool is_counted = metric_of(relid) != NULL;

	context_require_none("counting a table no more");
	if (!is_counted)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("table \"%s\" is not counted", get_rel_name(relid)));
	foreach (cell, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
	{
		Oid one = lfirst_oid(cell);
		List *statements = NIL;

		for (int i = 0; i < lengthof(definitions); i++)
			if (has_trigger(one, trigger_name(i)) &&
				(!definitions[i].is_for_shared || one == relid))
				statements = lappend(statements, psprintf("DROP TRIGGER %s ON %s", trigger_name(i),
														  qualified_name(one)));
		run_as_owner(one, statements);
	}
	gate_run(&quota_table_delete, EXPECT_ANY,
			 gate_name(get_namespace_name(get_rel_namespace(relid))),
			 gate_name(get_rel_name(relid)));
	PG_RETURN_OID(relid);
}

/* quota_recount(tenant regtenant, metric text) → bigint */
TENANCY_FUNCTION(quota_recount)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *metric = required_text(fcinfo, 1, "metric");

	context_require_none("counting rows again");
	(void) registry_get(tenant);
	require_level(metric);
	PG_RETURN_INT64(quota_count_again(tenant, metric));
}

static pg_noreturn void
refuse(Oid relid)
{
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for the triggers " TRIGGER_NAME "_* of table \"%s\"",
				   get_rel_name(relid)),
			errdetail("They count its rows for quota \"%s\".", metric_of(relid)),
			errhint("quota_uncount_table() is the operator's."));
}

static Oid
relation_of(const RangeVar *name)
{
	return name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);
}

static bool
is_counted(Oid relid)
{
	return OidIsValid(relid) && metric_of(relid) != NULL;
}

/* A trigger of the tenant's own would count as well, and could give back what it never took. */
static void
check_create_trigger(const CreateTrigStmt *statement)
{
	Oid relid = relation_of(statement->relation);

	if (LookupFuncName(statement->funcname, 0, NULL, true) == count_function())
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("a tenant may not count tables"),
				errhint("quota_count_table() is the operator's."));
	if (statement->replace && OidIsValid(relid) && has_trigger(relid, statement->trigname))
		refuse(relid);
}

static void
check_alter_table(const AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);
		Oid relid;

		switch (command->subtype)
		{
			case AT_DisableTrigAll:
			case AT_DisableTrigUser:
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
				relid = relation_of(statement->relation);
				if (is_counted(relid))
					refuse(relid);
				break;
			case AT_DisableTrig:
			case AT_EnableReplicaTrig:
			case AT_EnableTrig:
				relid = relation_of(statement->relation);
				if (is_counted(relid) && has_trigger(relid, command->name))
					refuse(relid);
				break;
			default:
				break;
		}
	}
}

static void
check_drop(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_TRIGGER)
		return;
	foreach (cell, statement->objects)
	{
		List *name = list_copy(castNode(List, lfirst(cell)));
		char *trigger = strVal(llast(name));
		Oid relid = relation_of(makeRangeVarFromNameList(list_delete_last(name)));

		if (OidIsValid(relid) && has_trigger(relid, trigger))
			refuse(relid);
	}
}

void
quota_table_before_statement(Node *statement)
{
	if (context_tenant() == NULL || is_making)
		return;
	switch (nodeTag(statement))
	{
		case T_CreateTrigStmt:
			check_create_trigger(castNode(CreateTrigStmt, statement));
			break;
		case T_AlterTableStmt:
			check_alter_table(castNode(AlterTableStmt, statement));
			break;
		case T_DropStmt:
			check_drop(castNode(DropStmt, statement));
			break;
		default:
			break;
	}
}

/* A child of a counted table is counted. */
static void
follow_parent(Oid child, Oid parent)
{
	char *metric = OidIsValid(parent) && OidIsValid(child) ? metric_of(parent) : NULL;

	if (metric != NULL)
		begin_counting_all(child, metric);
}

static void
follow_parents(const CreateStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->inhRelations)
		follow_parent(relation_of(statement->relation), relation_of(lfirst_node(RangeVar, cell)));
}

static void
follow_alter_table(const AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_AttachPartition)
			follow_parent(relation_of(castNode(PartitionCmd, command->def)->name),
						  relation_of(statement->relation));
		else if (command->subtype == AT_AddInherit)
			follow_parent(relation_of(statement->relation),
						  relation_of(castNode(RangeVar, command->def)));
	}
}

/* A table of a tenant that has the name of a counted one is one. */
static void
follow_name(Oid relid)
{
	pg_uuid_t tenant;
	GateRows *rows;

	if (!OidIsValid(relid) || registry_relation_scope(relid, &tenant) != SCOPE_TENANT ||
		(get_rel_relkind(relid) != RELKIND_RELATION &&
		 get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE) ||
		metric_of(relid) != NULL)
		return;
	rows = gate_run(&quota_table_metric, EXPECT_AT_MOST_ONE, gate_uuid(&tenant),
					gate_name(get_namespace_name(get_rel_namespace(relid))),
					gate_name(get_rel_name(relid)));
	if (rows->count > 0)
		begin_counting_all(relid, row_text(rows, 0, 0));
}

static void
follow_rename(const RenameStmt *statement)
{
	if (statement->renameType == OBJECT_TABLE && statement->relation != NULL)
		follow_name(
			relation_of(makeRangeVar(statement->relation->schemaname, statement->newname, -1)));
}

void
quota_table_after_statement(Node *statement)
{
	if (is_making)
		return;
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			follow_parents(castNode(CreateStmt, statement));
			/* What instantiates a template makes its triggers, too. */
			if (context_tenant() != NULL)
				follow_name(relation_of(castNode(CreateStmt, statement)->relation));
			break;
		case T_CreateTableAsStmt:
			if (context_tenant() != NULL)
				follow_name(relation_of(castNode(CreateTableAsStmt, statement)->into->rel));
			break;
		case T_AlterTableStmt:
			follow_alter_table(castNode(AlterTableStmt, statement));
			break;
		case T_RenameStmt:
			follow_rename(castNode(RenameStmt, statement));
			break;
		case T_AlterObjectSchemaStmt:
			if (castNode(AlterObjectSchemaStmt, statement)->objectType == OBJECT_TABLE)
				follow_name(relation_of(makeRangeVar(
					castNode(AlterObjectSchemaStmt, statement)->newschema,
					castNode(AlterObjectSchemaStmt, statement)->relation->relname, -1)));
			break;
		default:
			break;
	}
}

void
quota_table_note_dropped(Oid trigger)
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
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgfoid == count_function() && TRIGGER_FOR_INSERT(form->tgtype))
			relid = form->tgrelid;
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	if (OidIsValid(relid) && is_counted(relid))
		quota_count_existing(relid, metric_of(relid), -1);
}
