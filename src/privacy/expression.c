/*
 * privacy/expression.c
 *		Expressions over the columns of a table, as people write them into policies and holds.
 *
 * Their text is kept, and analysed again for each table that it is for: the copies of a
 * template's table may number their columns differently.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "privacy/expression.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

static bool
is_not_of_server(Oid function, void *context)
{
	return function >= FirstNormalObjectId || func_volatile(function) != PROVOLATILE_IMMUTABLE;
}

/* What depends on more than the row, or runs what somebody may have defined. */
static bool
has_more(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_not_of_server, context))
		return true;
	switch (nodeTag(node))
	{
		case T_Var:
			/* Columns alone: no ctid, no whole row. */
			return castNode(Var, node)->varattno <= 0;
		case T_Param:
		case T_SQLValueFunction:
		case T_CoerceToDomain:
		case T_NextValueExpr:
		case T_XmlExpr:
			return true;
		default:
			return expression_tree_walker(node, has_more, context);
	}
}

/* The one expression of "SELECT …", which is all there may be. */
static Node *
raw_expression(const char *text, const char *argument)
{
	List *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, statements)->stmt);

	if (list_length(select->targetList) != 1 || select->fromClause != NIL ||
		select->whereClause != NULL || select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL || select->limitCount != NULL ||
		select->limitOffset != NULL || select->lockingClause != NIL || select->withClause != NULL ||
		select->distinctClause != NIL || select->op != SETOP_NONE || select->valuesLists != NIL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be one expression", argument));
	return linitial_node(ResTarget, select->targetList)->val;
}

static Node *
analyse(Oid relid, const char *text, const char *argument)
{
	Relation relation = table_open(relid, AccessShareLock);
	ParseState *state = make_parsestate(NULL);
	ParseNamespaceItem *item =
		addRangeTableEntryForRelation(state, relation, AccessShareLock, NULL, false, true);
	Node *expression;

	addNSItemToQuery(state, item, false, true, true);
	expression = transformExpr(state, raw_expression(text, argument), EXPR_KIND_CHECK_CONSTRAINT);
	assign_expr_collations(state, expression);
	free_parsestate(state);
	table_close(relation, NoLock);
	return expression;
}

static void
require_type(Node *expression, Oid type, const char *argument)
{
	Oid is = exprType(expression);

	if (type == EXPRESSION_TIME ? is == TIMESTAMPTZOID || is == TIMESTAMPOID || is == DATEOID
								: is == type)
		return;
	ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
			errmsg("argument \"%s\" must be of type %s, not %s", argument,
				   type == EXPRESSION_TIME ? "timestamp with time zone, timestamp or date"
										   : format_type_be(type),
				   format_type_be(is)));
}

Node *
expression_parse(Oid relid, const char *text, Oid type, const char *argument)
{
	GateScope scope;
	Node *expression;

	/* Names mean what they do in pg_catalog, whatever the search path of the caller. */
	gate_pin(&scope);
	expression = analyse(relid, text, argument);
	gate_leave(&scope);
	if (type != ANYOID)
		require_type(expression, type, argument);
	if (has_more(expression, NULL))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" is not made of columns and immutable functions of the "
					   "server alone",
					   argument),
				errdetail("It is: %s", text));
	return expression;
}

char *
expression_sql(Oid relid, Node *expression, const char *alias)
{
	GateScope scope;
	char *sql;

	gate_pin(&scope);
	sql = deparse_expression(expression,
							 deparse_context_for(alias == NULL ? get_rel_name(relid) : alias, relid),
							 alias != NULL, false);
	gate_leave(&scope);
	return sql;
}

AttrNumber
expression_column(const Node *expression)
{
	return IsA(expression, Var) ? ((const Var *) expression)->varattno : InvalidAttrNumber;
}
