/*
 * core/compat.h
 *		What differs between the PostgreSQL versions we build on, in one place.
 *
 * Each shim has the newest signature.  Nothing outside this file looks at
 * PG_VERSION_NUM.
 */
#pragma once

#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#if PG_VERSION_NUM < 150000
#error "pg_tenancy needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#include "varatt.h"
#endif

/* 18 marks what does not return before the declaration (commit 28e33dc4f25b). */
#ifndef pg_noreturn
#define pg_noreturn __attribute__((noreturn))
#endif

/* The oldest minor release of each major without a known bypass of row security. */
#if PG_VERSION_NUM >= 190000
#define SAFE_SERVER_VERSION 190000
#elif PG_VERSION_NUM >= 180000
#define SAFE_SERVER_VERSION 180006
#elif PG_VERSION_NUM >= 170000
#define SAFE_SERVER_VERSION 170011
#elif PG_VERSION_NUM >= 160000
#define SAFE_SERVER_VERSION 160015
#else
#define SAFE_SERVER_VERSION 150020
#endif

/* ExecutorRun lost execute_once in 18 (commit 3eea7a0c97e). */
#if PG_VERSION_NUM >= 180000
#define EXECUTOR_RUN_PARAMS QueryDesc *query, ScanDirection direction, uint64 row_limit
#define EXECUTOR_RUN_ARGS query, direction, row_limit
#else
#define EXECUTOR_RUN_PARAMS                                                                        \
	QueryDesc *query, ScanDirection direction, uint64 row_limit, bool execute_once
#define EXECUTOR_RUN_ARGS query, direction, row_limit, execute_once
#endif

/* Permissions moved out of the range table in 16 (commit a61b1f74823). */
#if PG_VERSION_NUM >= 160000
#define CHECK_PERMS_PARAMS List *range_table, List *permissions, bool raise_error
#define CHECK_PERMS_ARGS range_table, permissions, raise_error
#else
#define CHECK_PERMS_PARAMS List *range_table, bool raise_error
#define CHECK_PERMS_ARGS range_table, raise_error
#endif

/*
 * Walk what a statement asks to touch: relation and the role that it is checked
 * as.  From 16 on those are the permission entries, before the range table.
 */
/* The relation; InvalidOid for what is none, or is not touched. */
static inline Oid
compat_touched_relid(const void *list_entry)
{
#if PG_VERSION_NUM >= 160000
	const RTEPermissionInfo *permission = list_entry;

	return permission->relid;
#else
	const RangeTblEntry *entry = list_entry;

	return entry->rtekind == RTE_RELATION && entry->requiredPerms != 0 ? entry->relid : InvalidOid;
#endif
}

/* The role whose rights count; never InvalidOid. */
static inline Oid
compat_touched_as(const void *list_entry)
{
#if PG_VERSION_NUM >= 160000
	const RTEPermissionInfo *permission = list_entry;
	Oid role = permission->checkAsUser;
#else
	const RangeTblEntry *entry = list_entry;
	Oid role = entry->checkAsUser;
#endif

	return OidIsValid(role) ? role : GetUserId();
}

#if PG_VERSION_NUM >= 160000
#define CHECK_PERMS_LIST permissions
#else
#define CHECK_PERMS_LIST range_table
#endif

/* The time of reading and writing blocks of tables, where it is tracked; 17 split it (commit
 * 295c36c0c1f). */
static inline instr_time
compat_block_time(const BufferUsage *usage)
{
	instr_time sum;

#if PG_VERSION_NUM >= 170000
	sum = usage->shared_blk_read_time;
	INSTR_TIME_ADD(sum, usage->shared_blk_write_time);
	INSTR_TIME_ADD(sum, usage->local_blk_read_time);
	INSTR_TIME_ADD(sum, usage->local_blk_write_time);
#else
	sum = usage->blk_read_time;
	INSTR_TIME_ADD(sum, usage->blk_write_time);
#endif
	return sum;
}

static inline instr_time
compat_temp_time(const BufferUsage *usage)
{
	instr_time sum = usage->temp_blk_read_time;

	INSTR_TIME_ADD(sum, usage->temp_blk_write_time);
	return sum;
}

/* The number of a backend in the array of PGPROCs, from 0. */
static inline int
compat_proc_number(PGPROC *proc)
{
#if PG_VERSION_NUM >= 170000
	return GetNumberFromPGProc(proc);
#else
	return proc->pgprocno;
#endif
}

/* 16 merged the ownership checks per kind into one (commit afbfc02983f). */
static inline bool
compat_owns_relation(Oid relid, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, roleid);
#else
	return pg_class_ownercheck(relid, roleid);
#endif
}

static inline bool
compat_owns_database(Oid database, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, roleid);
#else
	return pg_database_ownercheck(database, roleid);
#endif
}

/* 16 gave DecodeDateTime one more argument (commit bcc704b52490). */
static inline int
compat_decode_datetime(char **field, int *field_type, int field_count, int *kind, struct pg_tm *tm,
					   fsec_t *fsec, int *zone)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(field, field_type, field_count, kind, tm, fsec, zone, &extra);
#else
	return DecodeDateTime(field, field_type, field_count, kind, tm, fsec, zone);
#endif
}

/* 16 keeps a setting's "extra" in memory of its own (commit 3057465acfb). */
static inline void *
compat_guc_malloc(Size size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/* 16 merged the access checks per kind into one (commit c727f511bd7). */
static inline bool
compat_may_create_in(Oid schema, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, roleid, ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, roleid, ACL_CREATE) == ACLCHECK_OK;
#endif
}

static inline bool
compat_may_use(Oid schema, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, roleid, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, roleid, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* 16 keeps settings in a hash and copies them out (commit 3057465acfb). */
static inline struct config_generic **
compat_guc_variables(int *count)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(count);
#else
	*count = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

/* 18 lets it leave out the tuple that is being updated (commit 9f133763961e). */
static inline bool
compat_check_index_constraints(ResultRelInfo *target, TupleTableSlot *slot, EState *estate,
							   ItemPointer conflict)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData none;

	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(target, slot, estate, conflict, &none, NIL);
#else
	return ExecCheckIndexConstraints(target, slot, estate, conflict, NIL);
#endif
}

/* For INSERT.  16 can do summarizing indexes alone (commit 19d8e2308bcd). */
static inline List *
compat_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot, EState *estate,
						   bool is_speculative, bool *is_taken)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(target, slot, estate, false, is_speculative, is_taken, NIL, false);
#else
	return ExecInsertIndexTuples(target, slot, estate, false, is_speculative, is_taken, NIL);
#endif
}
