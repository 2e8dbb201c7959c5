/*
 * catalog/relation.h
 *		Relations of users: whose they are, and what they are called in SQL.
 */
#pragma once

#include "postgres.h"

/* Raises an internal error where there is no such relation. */
extern Oid relation_owner(Oid relid);

/* Its name with the schema, quoted; palloc'd.  Raises 42P01 where it is gone. */
extern char *relation_sql_name(Oid relid);
