/*
 * privacy/expression.h
 *		Expressions over the columns of a table, as people write them into policies and holds.
 *
 * They run for whoever touches the table, so they hold nothing that somebody else could
 * define: operators and functions are the server's own and immutable, without subqueries.
 */
#pragma once

#include "postgres.h"

#include "nodes/nodes.h"

/* What expression_parse() may ask for beside a type: a time (timestamptz, timestamp of UTC, or
 * date); ANYOID is anything. */
#define EXPRESSION_TIME InvalidOid

/*
 * The analysed expression, with Vars of relation 1.  "type" is what it must yield.  42601 and
 * others of the parser; 22023 for what may not be in it; 42804 for another type.  "argument"
 * names it in messages.
 */
extern Node *expression_parse(Oid relid, const char *text, Oid type, const char *argument);

/* SQL for it, its columns behind "alias." or, for NULL, bare; palloc'd. */
extern char *expression_sql(Oid relid, Node *expression, const char *alias);

/* The column that it is, or InvalidAttrNumber where it is more than one. */
extern AttrNumber expression_column(const Node *expression);
