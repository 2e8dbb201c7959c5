/*
 * context/guard_function.c
 *		May this function be called now?
 *
 * Nothing is revoked from PUBLIC, so that databases and sessions without tenants are as
 * they were.  Instead the object access hook, which is told of every function before it
 * runs, refuses a tenant those that reach past it: in PostgreSQL, sessions of one role see
 * and may stop each other, advisory locks and notifications have one namespace per
 * database, and sizes and statistics of relations are public.
 *
 * Functions of the system keep their oids between releases; fmgroids.h names them.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/guard_function.h"
#include "context/leave.h"
#include "context/login.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

typedef enum FunctionGroup
{
	GROUP_ACTIVITY, /* shows other sessions, their locks and transactions */
	GROUP_ADVISORY_LOCKS,
	GROUP_LARGE_OBJECTS,
	GROUP_NOTIFY,
	GROUP_SEQUENCES, /* sets any sequence */
	GROUP_SESSION,   /* shows what earlier clients of this connection left */
	GROUP_SIGNAL,    /* stops other sessions */
	GROUP_SIZES,
	GROUP_STATISTICS
} FunctionGroup;

static const struct
{
	const char *name;
	const char *detail;
} groups[] = {
	[GROUP_ACTIVITY] = {"activity", "It shows other sessions."},
	[GROUP_ADVISORY_LOCKS] = {"advisory_locks", "Advisory locks are shared by all tenants."},
	[GROUP_LARGE_OBJECTS] = {"large_objects", "Large objects have no row security."},
	[GROUP_NOTIFY] = {"notify", "Notifications are shared by all tenants."},
	[GROUP_SEQUENCES] = {"sequences", "It would set a sequence that others use."},
	[GROUP_SESSION] = {"session", "It shows what other clients of this connection prepared."},
	[GROUP_SIGNAL] = {"signal", "It touches other sessions."},
	[GROUP_SIZES] = {"sizes", "It tells the size of any relation."},
	[GROUP_STATISTICS] = {"statistics", "It tells what happens in any relation."},
};

typedef struct GroupedFunction
{
	Oid oid;
	FunctionGroup group;
} GroupedFunction;

/* Sorted on first use, so that they stand here by topic. */
static GroupedFunction functions[] = {
	{F_PG_STAT_GET_ACTIVITY, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_IDSET, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_PID, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_DBID, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_USERID, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_ACTIVITY, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_ACTIVITY_START, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_XACT_START, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_START, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_CLIENT_ADDR, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_CLIENT_PORT, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_WAIT_EVENT, GROUP_ACTIVITY},
	{F_PG_STAT_GET_BACKEND_WAIT_EVENT_TYPE, GROUP_ACTIVITY},
	{F_PG_STAT_GET_PROGRESS_INFO, GROUP_ACTIVITY},
	{F_PG_STAT_GET_WAL_SENDERS, GROUP_ACTIVITY},
	{F_PG_STAT_GET_WAL_RECEIVER, GROUP_ACTIVITY},
	{F_PG_STAT_GET_SUBSCRIPTION, GROUP_ACTIVITY},
	{F_PG_LOCK_STATUS, GROUP_ACTIVITY},
	{F_PG_PREPARED_XACT, GROUP_ACTIVITY},
	{F_PG_BLOCKING_PIDS, GROUP_ACTIVITY},
	{F_PG_SAFE_SNAPSHOT_BLOCKING_PIDS, GROUP_ACTIVITY},
	{F_PG_ISOLATION_TEST_SESSION_IS_BLOCKED, GROUP_ACTIVITY},
	{F_PG_GET_REPLICATION_SLOTS, GROUP_ACTIVITY},
	{F_PG_XACT_COMMIT_TIMESTAMP, GROUP_ACTIVITY},
	{F_PG_XACT_COMMIT_TIMESTAMP_ORIGIN, GROUP_ACTIVITY},
	{F_PG_LAST_COMMITTED_XACT, GROUP_ACTIVITY},
	{F_PG_GET_MULTIXACT_MEMBERS, GROUP_ACTIVITY},
	{F_PG_EXPORT_SNAPSHOT, GROUP_ACTIVITY},
	{F_PG_CANCEL_BACKEND, GROUP_SIGNAL},
	{F_PG_TERMINATE_BACKEND, GROUP_SIGNAL},
	{F_PG_LOG_BACKEND_MEMORY_CONTEXTS, GROUP_SIGNAL},
	{F_PG_PREPARED_STATEMENT, GROUP_SESSION},
	{F_PG_CURSOR, GROUP_SESSION},
	{F_PG_ADVISORY_LOCK_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_LOCK_SHARED_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_LOCK_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_LOCK_SHARED_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_LOCK_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_LOCK_SHARED_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_LOCK_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_LOCK_SHARED_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_XACT_LOCK_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_XACT_LOCK_SHARED_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_XACT_LOCK_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_XACT_LOCK_SHARED_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_XACT_LOCK_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_XACT_LOCK_SHARED_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_XACT_LOCK_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_TRY_ADVISORY_XACT_LOCK_SHARED_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_UNLOCK_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_UNLOCK_SHARED_INT8, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_UNLOCK_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_UNLOCK_SHARED_INT4_INT4, GROUP_ADVISORY_LOCKS},
	{F_PG_ADVISORY_UNLOCK_ALL, GROUP_ADVISORY_LOCKS},
	{F_PG_NOTIFY, GROUP_NOTIFY},
	{F_PG_LISTENING_CHANNELS, GROUP_NOTIFY},
	{F_PG_NOTIFICATION_QUEUE_USAGE, GROUP_NOTIFY},
	{F_LO_OPEN, GROUP_LARGE_OBJECTS},
	{F_LO_CREAT, GROUP_LARGE_OBJECTS},
	{F_LO_CREATE, GROUP_LARGE_OBJECTS},
	{F_LO_UNLINK, GROUP_LARGE_OBJECTS},
	{F_LO_IMPORT_TEXT, GROUP_LARGE_OBJECTS},
	{F_LO_IMPORT_TEXT_OID, GROUP_LARGE_OBJECTS},
	{F_LO_EXPORT, GROUP_LARGE_OBJECTS},
	{F_LO_FROM_BYTEA, GROUP_LARGE_OBJECTS},
	{F_LO_GET_OID, GROUP_LARGE_OBJECTS},
	{F_LO_GET_OID_INT8_INT4, GROUP_LARGE_OBJECTS},
	{F_LO_PUT, GROUP_LARGE_OBJECTS},
	{F_LOREAD, GROUP_LARGE_OBJECTS},
	{F_LOWRITE, GROUP_LARGE_OBJECTS},
	{F_LO_TRUNCATE, GROUP_LARGE_OBJECTS},
	{F_LO_TRUNCATE64, GROUP_LARGE_OBJECTS},
	{F_SETVAL_REGCLASS_INT8, GROUP_SEQUENCES},
	{F_SETVAL_REGCLASS_INT8_BOOL, GROUP_SEQUENCES},
	{F_PG_RELATION_SIZE_REGCLASS, GROUP_SIZES},
	{F_PG_RELATION_SIZE_REGCLASS_TEXT, GROUP_SIZES},
	{F_PG_TABLE_SIZE, GROUP_SIZES},
	{F_PG_INDEXES_SIZE, GROUP_SIZES},
	{F_PG_TOTAL_RELATION_SIZE, GROUP_SIZES},
	{F_PG_DATABASE_SIZE_NAME, GROUP_SIZES},
	{F_PG_DATABASE_SIZE_OID, GROUP_SIZES},
	{F_PG_TABLESPACE_SIZE_NAME, GROUP_SIZES},
	{F_PG_TABLESPACE_SIZE_OID, GROUP_SIZES},
	{F_PG_RELATION_FILENODE, GROUP_SIZES},
	{F_PG_RELATION_FILEPATH, GROUP_SIZES},
	{F_PG_FILENODE_RELATION, GROUP_SIZES},
	{F_PG_STAT_GET_NUMSCANS, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_RETURNED, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_FETCHED, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_INSERTED, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_UPDATED, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_DELETED, GROUP_STATISTICS},
	{F_PG_STAT_GET_TUPLES_HOT_UPDATED, GROUP_STATISTICS},
	{F_PG_STAT_GET_BLOCKS_FETCHED, GROUP_STATISTICS},
	{F_PG_STAT_GET_BLOCKS_HIT, GROUP_STATISTICS},
	{F_PG_STAT_GET_LIVE_TUPLES, GROUP_STATISTICS},
	{F_PG_STAT_GET_DEAD_TUPLES, GROUP_STATISTICS},
	{F_PG_STAT_GET_MOD_SINCE_ANALYZE, GROUP_STATISTICS},
	{F_PG_STAT_GET_INS_SINCE_VACUUM, GROUP_STATISTICS},
	{F_PG_STAT_GET_LAST_VACUUM_TIME, GROUP_STATISTICS},
	{F_PG_STAT_GET_LAST_AUTOVACUUM_TIME, GROUP_STATISTICS},
	{F_PG_STAT_GET_LAST_ANALYZE_TIME, GROUP_STATISTICS},
	{F_PG_STAT_GET_LAST_AUTOANALYZE_TIME, GROUP_STATISTICS},
	{F_PG_STAT_GET_VACUUM_COUNT, GROUP_STATISTICS},
	{F_PG_STAT_GET_AUTOVACUUM_COUNT, GROUP_STATISTICS},
	{F_PG_STAT_GET_ANALYZE_COUNT, GROUP_STATISTICS},
	{F_PG_STAT_GET_AUTOANALYZE_COUNT, GROUP_STATISTICS},
	{F_PG_STAT_GET_FUNCTION_CALLS, GROUP_STATISTICS},
	{F_PG_STAT_GET_FUNCTION_TOTAL_TIME, GROUP_STATISTICS},
	{F_PG_STAT_GET_FUNCTION_SELF_TIME, GROUP_STATISTICS},
};

static int
compare_functions(const void *a, const void *b)
{
	Oid left = ((const GroupedFunction *) a)->oid;
	Oid right = ((const GroupedFunction *) b)->oid;

	return left < right ? -1 : left > right;
}

/* Only asked when a tenant is about to be refused. */
static bool
is_allowed(FunctionGroup group)
{
	List *names;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(setting_allowed_functions), ',', &names))
		return false;
	foreach (cell, names)
		if (strcmp(lfirst(cell), groups[group].name) == 0)
			return true;
	return false;
}

/* Functions of the server that are in no group, as they were called. */
#define REMEMBERED_FUNCTIONS 64

static Oid ungrouped[REMEMBERED_FUNCTIONS];

static pg_noinline void
look_up_system_function(Oid function)
{
	static bool is_sorted = false;
	GroupedFunction wanted = {.oid = function};
	const GroupedFunction *found;

	if (!is_sorted)
	{
		qsort(functions, lengthof(functions), sizeof(GroupedFunction), compare_functions);
		is_sorted = true;
	}
	found = bsearch(&wanted, functions, lengthof(functions), sizeof(GroupedFunction),
					compare_functions);
	if (found == NULL)
	{
		ungrouped[function % REMEMBERED_FUNCTIONS] = function;
		return;
	}
	if (is_allowed(found->group))
		return;
	/* A bound login has its connection to itself. */
	if (found->group == GROUP_SESSION && !context_is_entered())
		return;
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for function %s", get_func_name(function)),
			errdetail("A tenant may not call it. %s", groups[found->group].detail),
			errhint("The operator can allow it to all tenants: \"%s\" in setting "
					"\"tenancy.allowed_functions\".",
					groups[found->group].name));
}

static pg_attribute_hot void
check_system_function(Oid function)
{
	if (unlikely(ungrouped[function % REMEMBERED_FUNCTIONS] != function))
		look_up_system_function(function);
}

/* Connections out of the database lead back into it, past the context. */
static bool
opens_connections(HeapTuple function)
{
	bool is_null;
	Datum library;

	if (((Form_pg_proc) GETSTRUCT(function))->prolang != ClanguageId)
		return false;
	library = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_probin, &is_null);
	return !is_null && strstr(TextDatumGetCString(library), "dblink") != NULL;
}

/* Whose doing is what the roles make?  Asked for every function that is called. */
typedef struct RoleOfTenant
{
	Oid role;
	uint64 generation; /* of the registry, when it was looked up */
	bool is_of_tenant;
	pg_uuid_t tenant;
} RoleOfTenant;

#define REMEMBERED_ROLES 16

static RoleOfTenant remembered_roles[REMEMBERED_ROLES];

/*
 * The tenant whose role or bound login it is.  The owner of a tenant's objects is none: what came
 * with a template is trusted.
 */
static bool
is_role_of_tenant(Oid role, pg_uuid_t *tenant)
{
	RoleOfTenant *entry = &remembered_roles[role % REMEMBERED_ROLES];
	uint64 generation = registry_generation();

	if (entry->role != role || entry->generation != generation)
	{
		char *name = GetUserNameFromId(role, true);
		bool is_of_tenant = false;

		if (name != NULL && !superuser_arg(role))
			is_of_tenant = id_of_name('t', name, tenant) ? registry_exists(tenant)
														 : login_is_bound(name, tenant);
		*entry = (RoleOfTenant){role, generation, is_of_tenant};
		if (is_of_tenant)
			entry->tenant = *tenant;
	}
	*tenant = entry->tenant;
	return entry->is_of_tenant;
}

static void
check_user_function(Oid function, const pg_uuid_t *tenant)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	pg_uuid_t owner;
	const char *detail = NULL;

	if (!HeapTupleIsValid(tuple))
		return;
	if (registry_schema_scope(((Form_pg_proc) GETSTRUCT(tuple))->pronamespace, &owner) ==
			SCOPE_TENANT &&
		!id_equal(&owner, tenant))
		detail = "It belongs to another tenant.";
	else if (opens_connections(tuple))
		detail = "A tenant may not call it. It opens connections, which have no tenant context.";
	ReleaseSysCache(tuple);
	if (detail != NULL)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for function %s", get_func_name(function)),
				errdetail_internal("%s", detail));
}

pg_attribute_hot void
guard_check_function(Oid function)
{
	const pg_uuid_t *tenant = context_tenant();

	if (tenant == NULL)
		return;
	if (function == F_SET_CONFIG)
		leave_note_settings();
	if (function < FirstNormalObjectId)
		check_system_function(function);
	else
		check_user_function(function, tenant);
}

void
guard_check_notify(void)
{
	if (context_tenant() != NULL)
		check_system_function(F_PG_NOTIFY);
}

/*
 * A tenant writes functions that run with the rights of whoever touches its tables and views, or
 * calls them by mistake: in its schema where it owns_ddl, else where everybody may, which is in
 * its temporary schema at least.
 */
void
guard_check_call(Oid function)
{
	const pg_uuid_t *current = context_tenant();
	bool is_superuser = superuser();
	HeapTuple tuple;
	Form_pg_proc form;
	pg_uuid_t tenant;
	bool is_refused;

	if (function < FirstNormalObjectId || (current == NULL && !is_superuser))
		return;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	is_refused = !form->prosecdef && (isOtherTempNamespace(form->pronamespace) ||
									  (is_role_of_tenant(form->proowner, &tenant) &&
									   (is_superuser || !id_equal(&tenant, current))));
	ReleaseSysCache(tuple);
	if (!is_refused)
		return;
	if (!is_superuser)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for function %s", get_func_name(function)),
				errdetail("Another tenant wrote it, and it would run with your rights."));
	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("a superuser may not run function %s of a tenant", get_func_name(function)),
			errdetail("The tenant wrote it, and it would run with your rights."),
			errhint("Enter the tenant first, or SET ROLE to its owner."));
}

/* What is exchanged for what; the arguments are the same. */
static const struct
{
	Oid function;
	const char *own;
	int argument_count;
	Oid arguments[3];
} exchanges[] = {
	{F_SETVAL_REGCLASS_INT8, "own_setval", 2, {REGCLASSOID, INT8OID}},
	{F_SETVAL_REGCLASS_INT8_BOOL, "own_setval_called", 3, {REGCLASSOID, INT8OID, BOOLOID}},
	{F_PG_RELATION_SIZE_REGCLASS, "own_relation_size", 1, {REGCLASSOID}},
	{F_PG_RELATION_SIZE_REGCLASS_TEXT, "own_fork_size", 2, {REGCLASSOID, TEXTOID}},
	{F_PG_TABLE_SIZE, "own_table_size", 1, {REGCLASSOID}},
	{F_PG_INDEXES_SIZE, "own_indexes_size", 1, {REGCLASSOID}},
	{F_PG_TOTAL_RELATION_SIZE, "own_total_relation_size", 1, {REGCLASSOID}},
};

static bool
exchange_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker(castNode(Query, node), exchange_walker, context, 0);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = castNode(FuncExpr, node);

		for (int i = 0; i < lengthof(exchanges); i++)
			if (call->funcid == exchanges[i].function)
			{
				call->funcid = LookupFuncName(
					list_make2(makeString(TENANCY_SCHEMA), makeString(pstrdup(exchanges[i].own))),
					exchanges[i].argument_count, exchanges[i].arguments, false);
				break;
			}
	}
	return expression_tree_walker(node, exchange_walker, context);
}

void
guard_exchange_functions(Query *query)
{
	(void) exchange_walker((Node *) query, NULL);
}

/* Kept plans run without a tenant too, where all is as PostgreSQL has it. */
static bool
is_own(Oid relid)
{
	const pg_uuid_t *tenant = context_tenant();
	pg_uuid_t owner;

	return tenant == NULL ||
		   (registry_schema_scope(get_rel_namespace(relid), &owner) == SCOPE_TENANT &&
			id_equal(&owner, tenant)) ||
		   isTempNamespace(get_rel_namespace(relid));
}

/* tenancy.own_setval(regclass, bigint), own_setval_called(regclass, bigint, boolean) → bigint */
TENANCY_FUNCTION(own_setval)
{
	if (!is_own(PG_GETARG_OID(0)))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for sequence \"%s\"", get_rel_name(PG_GETARG_OID(0))),
				errdetail("%s", groups[GROUP_SEQUENCES].detail));
	return PG_NARGS() == 2 ? setval_oid(fcinfo) : setval3_oid(fcinfo);
}

/* The size of a relation that is not the tenant's is null. */
#define OWN_SIZE(name)                                                                             \
	TENANCY_FUNCTION(own_##name)                                                                   \
	{                                                                                              \
		if (!is_own(PG_GETARG_OID(0)))                                                             \
			PG_RETURN_NULL();                                                                      \
		return pg_##name(fcinfo);                                                                  \
	}

OWN_SIZE(table_size)
OWN_SIZE(indexes_size)
OWN_SIZE(total_relation_size)

/* tenancy.own_relation_size(regclass), own_fork_size(regclass, text) → bigint */
TENANCY_FUNCTION(own_relation_size)
{
	if (!is_own(PG_GETARG_OID(0)))
		PG_RETURN_NULL();
	if (PG_NARGS() == 2)
		return pg_relation_size(fcinfo);
	return DirectFunctionCall2(pg_relation_size, PG_GETARG_DATUM(0),
							   PointerGetDatum(cstring_to_text("main")));
}
