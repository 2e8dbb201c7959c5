/*
 * context/guard.h
 *		May this relation be touched now?
 */
#pragma once

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Check one relation for the role whose rights count.  Refused (42501) when it lies
 * in another tenant's schema; when it is a tenant's or shared and there is no
 * context, unless the role is superuser or owns it; when it is shared and row
 * security would not filter it.  Notes the tenant whose schema was touched.
 * Returns whether it may be touched; raises instead of returning false if asked to.
 */
extern bool guard_check_relation(Oid relid, Oid role, bool raise_error);

/* The same for all relations that a statement asks rights on. */
extern bool guard_check_permissions(List *entries, bool raise_error);

/* TRUNCATE is not filtered by row security; a shared table is no tenant's to truncate. */
extern void guard_check_truncate(Oid relid);

/* Raise 42501 for a schema of another tenant. */
extern void guard_check_schema(Oid schema);
