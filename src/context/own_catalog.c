/*
 * context/own_catalog.c
 *		System catalogs that show a bound session its own tenant's objects only.
 *
 * Applications look objects up by bare names: "is there an index of that name?".  With
 * many tenants in a database the answer is about somebody else's.  Views in front of
 * pg_catalog would break joins with regclass, system columns and locks; so the condition is
 * added where row security adds its own, to the range table entries of the query, under
 * whatever name or view the catalog was reached.
 *
 * The condition is leakproof, so that it stops no index, and depends on the session alone,
 * so that kept plans stay right.  Look-ups of the server itself do not pass here: names
 * resolve as ever.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/login.h"
#include "context/own_catalog.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_conversion.h"
#include "catalog/pg_index.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/lsyscache.h"

/* The column that says to which schema, or to which relation, a row belongs. */
static const struct
{
	Oid catalog;
	AttrNumber column;
	bool is_relation;
} columns[] = {
	{NamespaceRelationId, Anum_pg_namespace_oid, false},
	{RelationRelationId, Anum_pg_class_relnamespace, false},
	{ProcedureRelationId, Anum_pg_proc_pronamespace, false},
	{TypeRelationId, Anum_pg_type_typnamespace, false},
	{ConstraintRelationId, Anum_pg_constraint_connamespace, false},
	{StatisticExtRelationId, Anum_pg_statistic_ext_stxnamespace, false},
	{OperatorRelationId, Anum_pg_operator_oprnamespace, false},
	{OperatorClassRelationId, Anum_pg_opclass_opcnamespace, false},
	{OperatorFamilyRelationId, Anum_pg_opfamily_opfnamespace, false},
	{CollationRelationId, Anum_pg_collation_collnamespace, false},
	{ConversionRelationId, Anum_pg_conversion_connamespace, false},
	{TSConfigRelationId, Anum_pg_ts_config_cfgnamespace, false},
	{TSDictionaryRelationId, Anum_pg_ts_dict_dictnamespace, false},
	{AttributeRelationId, Anum_pg_attribute_attrelid, true},
	{AttrDefaultRelationId, Anum_pg_attrdef_adrelid, true},
	{IndexRelationId, Anum_pg_index_indexrelid, true},
	{TriggerRelationId, Anum_pg_trigger_tgrelid, true},
	{PolicyRelationId, Anum_pg_policy_polrelid, true},
	{RewriteRelationId, Anum_pg_rewrite_ev_class, true},
	{SequenceRelationId, Anum_pg_sequence_seqrelid, true},
	{StatisticRelationId, Anum_pg_statistic_starelid, true},
};

static Oid namespace_function;
static Oid relation_function;

static Oid
find_function(const char *name)
{
	Oid type = OIDOID;

	return LookupFuncName(list_make2(makeString(TENANCY_SCHEMA), makeString(pstrdup(name))), 1,
						  &type, false);
}

static void
filter_entry(RangeTblEntry *entry, Index position)
{
	for (int i = 0; i < lengthof(columns); i++)
	{
		Var *column;
		FuncExpr *condition;

		if (entry->relid != columns[i].catalog)
			continue;
		column = makeVar(position, columns[i].column, OIDOID, -1, InvalidOid, 0);
		condition =
			makeFuncExpr(columns[i].is_relation ? relation_function : namespace_function, BOOLOID,
						 list_make1(column), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
		entry->securityQuals = lcons(condition, entry->securityQuals);
		return;
	}
}

static bool
filter_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query *query = castNode(Query, node);
		Index position = 0;
		ListCell *cell;

		foreach (cell, query->rtable)
		{
			RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

			position++;
			if (entry->rtekind == RTE_RELATION && entry->relid < FirstUnpinnedObjectId)
				filter_entry(entry, position);
		}
		return query_tree_walker(query, filter_walker, NULL, 0);
	}
	return expression_tree_walker(node, filter_walker, NULL);
}

void
own_catalog_filter(Query *query)
{
	namespace_function = find_function("is_own_namespace");
	relation_function = find_function("is_own_relation");
	(void) filter_walker((Node *) query, NULL);
}

/* The tenant's own, the system's, and what its role may use of the rest. */
static bool
is_own_schema(Oid schema)
{
	const pg_uuid_t *tenant = context_tenant();
	pg_uuid_t owner;

	if (tenant == NULL || schema < FirstNormalObjectId || isTempOrTempToastNamespace(schema))
		return true;
	if (registry_schema_scope(schema, &owner) == SCOPE_TENANT)
		return id_equal(&owner, tenant);
	return compat_may_use(schema, GetUserId());
}

/* tenancy.is_own_namespace(namespace oid) → boolean */
TENANCY_FUNCTION(is_own_namespace)
{
	PG_RETURN_BOOL(is_own_schema(PG_GETARG_OID(0)));
}

/* tenancy.is_own_relation(relation oid) → boolean */
TENANCY_FUNCTION(is_own_relation)
{
	Oid relid = PG_GETARG_OID(0);

	PG_RETURN_BOOL(relid < FirstNormalObjectId || is_own_schema(get_rel_namespace(relid)));
}
