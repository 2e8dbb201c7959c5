/*
 * tenant/shared_table.h
 *		Tables that hold rows of many tenants.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "nodes/parsenodes.h"

/*
 * SQL, for a row "c" of pg_class: what is missing that registration made, as text; null for
 * nothing.  The function's name is as the gate's search path shows it.
 */
#define SHARED_TABLE_FAULT                                                                         \
	"NULLIF(pg_catalog.concat_ws(', ',"                                                            \
	" CASE WHEN NOT c.relrowsecurity THEN 'row security is not enabled' END,"                      \
	" CASE WHEN NOT c.relforcerowsecurity THEN 'row security is not forced' END,"                  \
	" CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid"        \
	"     AND a.attname = 'tenant_id' AND a.attnotnull) THEN 'tenant_id is not NOT NULL' END,"     \
	" CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a"                                 \
	"     JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"           \
	"     WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'"                                    \
	"       AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) = " CURRENT_TENANT_CALL ")"             \
	"   THEN 'tenant_id has not the current tenant as default' END,"                               \
	" CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid"           \
	"     AND p.polname = 'tenancy_isolation' AND NOT p.polpermissive AND p.polcmd = '*'"          \
	"     AND p.polroles = '{0}'"                                                                  \
	"     AND pg_catalog.pg_get_expr(p.polqual, c.oid) = '(tenant_id = ' || " CURRENT_TENANT_CALL  \
	" || ')' AND pg_catalog.pg_get_expr(p.polwithcheck, c.oid) = '(tenant_id = ' "                 \
	"|| " CURRENT_TENANT_CALL " || ')') THEN 'the policy tenancy_isolation is not ours' END), '')"

/* SQL: the call of current_tenant_id() as the gate's search path shows it. */
#define CURRENT_TENANT_CALL                                                                        \
	"(SELECT pg_catalog.quote_ident(n.nspname) || '.current_tenant_id()'"                          \
	"   FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"   \
	"  WHERE e.extname = 'pg_tenancy')"

/* Register one table, or put right what has changed on it since; its children are not looked at. */
extern void shared_table_adopt(Oid relid);

/* Take a table that is gone off the registry. */
extern void shared_table_forget(Oid relid);

/*
 * Around each utility statement: the shared tables that it changes, which must be as
 * registration made them when it is done.  Changing their policies is the operator's (42501).
 */
extern List *shared_table_before_statement(Node *statement);
extern void shared_table_after_statement(List *changed);

/* A relation is being dropped. */
extern void shared_table_note_dropped(Oid relid);

extern void shared_table_transaction_event(XactEvent event);
