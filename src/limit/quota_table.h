/*
 * limit/quota_table.h
 *		Tables whose rows are counted for a quota.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/uuid.h"

/*
 * A table that is to be counted, or is not to be any more (quota_count.c).  prepare: before it has
 * triggers, so that what is known does not contain its rows.  existing: its rows come (sign 1;
 * past the limit a tenant is refused) or go (-1).
 */
extern void quota_count_prepare(Oid relid, const char *metric);
extern void quota_count_existing(Oid relid, const char *metric, int sign);

/* Count all of a tenant's rows anew, waiting for writers; how many they are. */
extern int64 quota_count_again(const pg_uuid_t *tenant, const char *metric);

/*
 * Around each utility statement: a tenant takes nothing from what counts its tables (42501), and
 * what becomes part of a counted table, or takes its name, is counted.
 */
extern void quota_table_before_statement(Node *statement);
extern void quota_table_after_statement(Node *statement);

/* A trigger is being dropped: if it was ours, the rows of its table count no more. */
extern void quota_table_note_dropped(Oid trigger);
