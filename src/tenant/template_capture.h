/*
 * tenant/template_capture.h
 *		A schema's structure as DDL.
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

/* What stands for the new schema and its roles in captured DDL. */
#define PLACEHOLDER_SCHEMA "@tenant_schema@"
#define PLACEHOLDER_OWNER "@tenant_owner@"
#define PLACEHOLDER_ROLE "@tenant_role@"

/* Grants that fall away where the tenant's role owns its objects itself. */
#define KIND_TENANT_GRANT "tenant grant"

typedef struct CapturedStatement
{
	char *kind; /* "table", "index", … */
	char *ddl;
} CapturedStatement;

/*
 * All of a schema in an order in which it can be made.  Raises 0A000 naming what
 * cannot be cloned.
 */
extern CapturedStatement *template_capture(Oid schema, int *count);

/* Re-target the text of a function from one schema to the placeholder (retarget.c). */
/*
 * "objects" holds the names of the schema's objects where the schema's own name is
 * ambiguous, since a relation in it has the same; it is NIL where it is not.
 */
extern char *retarget_body(const char *body, const char *schema, const char *function,
						   List *objects);
extern char *retarget_search_path(const char *header, const char *schema);
extern char *replace_all(const char *text, const char *from, const char *to);
