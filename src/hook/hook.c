/*
 * hook/hook.c
 *		Every hook pointer of PostgreSQL that the extension takes, and the one callback
 *		of each kind.
 *
 * Modules give functions; this file owns chaining, nesting and order.  A hook calls
 * the previous one exactly once on every path, and stands aside where the extension
 * is not created.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/ceiling.h"
#include "context/context.h"
#include "context/guard.h"
#include "context/guard_function.h"
#include "context/guard_statement.h"
#include "context/leave.h"
#include "context/login.h"
#include "context/own_catalog.h"
#include "core/compat.h"
#include "core/hot.h"
#include "core/transaction.h"
#include "domain/domain.h"
#include "hook/hook.h"
#include "resource/adding.h"
#include "limit/quota.h"
#include "limit/quota_table.h"
#include "limit/rate_limit.h"
#include "resource/resource.h"
#include "meter/meter.h"
#include "meter/overflow.h"
#include "meter/statement.h"
#include "privacy/hold.h"
#include "shmem/shmem.h"
#include "tenant/shared_table.h"
#include "worker/restore.h"
#include "worker/worker.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "storage/ipc.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;
static ExecutorCheckPerms_hook_type previous_check_permissions HOT_DATA = NULL;
static object_access_hook_type previous_object_access HOT_DATA = NULL;
static ProcessUtility_hook_type previous_utility = NULL;
static planner_hook_type previous_planner = NULL;
static needs_fmgr_hook_type previous_needs_call = NULL;
static ExecutorStart_hook_type previous_start HOT_DATA = NULL;
static ExecutorRun_hook_type previous_run HOT_DATA = NULL;
static ExecutorFinish_hook_type previous_finish HOT_DATA = NULL;
static ExecutorEnd_hook_type previous_end HOT_DATA = NULL;
static post_parse_analyze_hook_type previous_analyze = NULL;

/*
 * How deep we are in statements within statements; 0 outside.  An error leaves the executor
 * without a word, and catching it would cost every statement: the level is set right when
 * the transaction aborts, or the subtransaction that catches the error.  Utility statements
 * do catch, for procedures end transactions within them.
 */
static int nesting_level HOT_DATA = 0;
static int utility_level = 0; /* of these, utility statements */

/* The level where each subtransaction began, by its depth; in TopMemoryContext. */
static int *levels = NULL;
static int levels_capacity = 0;

/* How deep in EXPLAIN. */
static int explain_level HOT_DATA = 0;

static void
on_shmem_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	shmem_request();
}

static void
on_shmem_startup(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	shmem_startup();
	overflow_load();
}

static pg_attribute_hot bool
on_check_permissions(CHECK_PERMS_PARAMS)
{
	if (previous_check_permissions && !previous_check_permissions(CHECK_PERMS_ARGS))
		return false;
	if (!extension_is_ready())
		return true;
	return guard_check_permissions(CHECK_PERMS_LIST, raise_error);
}

/* What the executor does not ask.  What drops the extension may be any DROP. */
static pg_attribute_hot pg_noinline void
look_at_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *argument)
{
	switch (access)
	{
		case OAT_FUNCTION_EXECUTE:
			if (extension_is_ready())
				guard_check_function(object_id);
			break;
		case OAT_NAMESPACE_SEARCH:
			if (extension_is_ready())
			{
				/* A name that was said; what only stands in a search path is judged by relation. */
				ObjectAccessNamespaceSearch *search = argument;

				if (search->result && search->ereport_on_violation)
					guard_check_schema(object_id);
			}
			break;
		case OAT_TRUNCATE:
			if (class_id == RelationRelationId && extension_is_ready())
			{
				guard_check_truncate(object_id);
				hold_check_truncate(object_id);
			}
			break;
		case OAT_DROP:
			if (extension_is_ready())
				hold_check_dropped(class_id, object_id, sub_id);
			if (class_id == ExtensionRelationId)
			{
				meter_note_dropped(object_id);
				domain_note_dropped(object_id);
			}
			else if (class_id == RelationRelationId && sub_id == 0 && extension_is_ready())
				shared_table_note_dropped(object_id);
			else if (class_id == TriggerRelationId && extension_is_ready())
				quota_table_note_dropped(object_id);
			break;
		case OAT_POST_CREATE:
			if (class_id == ExtensionRelationId)
				worker_note_extension();
			if (context_is_entered() && sub_id == 0)
				leave_note_created(class_id, object_id);
			break;
		case OAT_POST_ALTER:
			break;
	}
}

/* Most are functions that the executor prepares to call. */
static pg_attribute_hot void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *argument)
{
	if (unlikely(previous_object_access != NULL))
		previous_object_access(access, class_id, object_id, sub_id, argument);
	if (unlikely(access != OAT_FUNCTION_EXECUTE || !context_is_plain()))
		look_at_access(access, class_id, object_id, sub_id, argument);
}

/* Every function that is not the server's own passes here before it is called, triggers too. */
static bool
on_needs_call(Oid function)
{
	if (extension_is_ready())
		guard_check_call(function);
	return previous_needs_call != NULL && previous_needs_call(function);
}

static PlannedStmt *
plan(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	bool is_metered = nesting_level == 0 && meter_begin_planning();
	PlannedStmt *result = previous_planner
							  ? previous_planner(query, query_string, cursor_options, params)
							  : standard_planner(query, query_string, cursor_options, params);

	if (is_metered)
		meter_end_planning();
	return result;
}

static PlannedStmt *
on_planner(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	/* The gate's own statements see all. */
	if (extension_is_ready() && context_tenant() != NULL && GetUserId() != extension_owner())
	{
		guard_exchange_functions(query);
		if (login_has_own_catalog())
			own_catalog_filter(query);
	}
	return plan(query, query_string, cursor_options, params);
}

static void
on_analyze(ParseState *state, Query *query, JumbleState *jumble)
{
	if (previous_analyze)
		previous_analyze(state, query, jumble);
	meter_note_parse(state);
}

/* The registry knows a tenant's schema by its name, which is opaque and never changes. */
static void
check_rename(RenameStmt *statement)
{
	Oid schema = get_namespace_oid(statement->subname, true);
	pg_uuid_t tenant;

	if (OidIsValid(schema) && registry_schema_scope(schema, &tenant) == SCOPE_TENANT)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("schema \"%s\" belongs to a tenant", statement->subname),
				errdetail("Its name never changes."),
				errhint("tenant_rename() changes what people see."));
}

/* Neither does LOCK TABLE. */
static void
check_lock(LockStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->relations)
	{
		Oid relid = RangeVarGetRelid(lfirst_node(RangeVar, cell), NoLock, true);

		if (OidIsValid(relid))
			(void) guard_check_relation(relid, GetUserId(), true);
	}
}

/* A statement of the client; not what a rule adds to it. */
static pg_attribute_hot bool
is_client_query(const QueryDesc *query)
{
	return meter_is_client_statement() && query->plannedstmt->canSetTag;
}

/* What a tenant's session is held to before a statement. */
static pg_attribute_hot pg_noinline void
check_session(QueryDesc *query, int flags)
{
	if (unlikely(!login_is_plain()))
		login_require_usable();
	ceiling_enforce(false);
	context_enforce_restrictions();
	if (nesting_level == 1)
		cpu_admit();
	if ((flags & EXEC_FLAG_EXPLAIN_ONLY) == 0 && extension_is_ready())
		adding_check_query(query);
}

/*
 * A call is counted here, so that one refused for want of permission is.  What the guard
 * looks up, and functions that pruning evaluates, run within it and are no calls.
 */
static pg_attribute_hot void
on_executor_start(QueryDesc *query, int flags)
{
	if (nesting_level == 0 && meter_is_on() && is_client_query(query))
		meter_count_query(query);
	nesting_level++;
	if (!context_is_plain())
		check_session(query, flags);
	previous_start(query, flags);
	/* What is started has begun nothing yet. */
	if (unlikely(explain_level > 0))
		guard_check_explained(query);
	nesting_level--;
}

/* Does what writes come to its end in ExecutorFinish? */
static bool
has_more_to_do(const QueryDesc *query)
{
	return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
}

static void
end_watched(bool is_budgeted, bool is_adding, bool has_failed)
{
	if (is_budgeted)
		cpu_charge(has_failed);
	if (is_adding)
		adding_end(has_failed);
	if (!has_failed)
		return;
	if (is_budgeted)
		cpu_translate_error();
	if (is_adding)
		adding_translate_error();
}

/* Under limits that it may pass while it runs. */
static void
run_executor_watched(bool is_budgeted, bool is_adding, EXECUTOR_RUN_PARAMS)
{
	PG_TRY();
	{
		previous_run(EXECUTOR_RUN_ARGS);
	}
	PG_CATCH();
	{
		end_watched(is_budgeted, is_adding, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	end_watched(is_budgeted, is_adding, false);
}

/* A statement of a tenant's session: its CPU budget, and what SET has loosened meanwhile. */
static pg_attribute_hot pg_noinline void
run_in_session(EXECUTOR_RUN_PARAMS)
{
	bool is_budgeted = nesting_level == 1 && cpu_begin();
	bool is_adding = extension_is_ready() && adding_begin(query);

	if (unlikely(is_budgeted || is_adding))
		run_executor_watched(is_budgeted, is_adding, EXECUTOR_RUN_ARGS);
	else
		previous_run(EXECUTOR_RUN_ARGS);
	if (nesting_level == 1)
		ceiling_enforce(true);
}

static pg_attribute_hot void
on_executor_run(EXECUTOR_RUN_PARAMS)
{
	bool is_metered = nesting_level == 0 && meter_is_on();

	if (is_metered)
		meter_start_clock();
	nesting_level++;
	if (likely(context_is_plain()))
		previous_run(EXECUTOR_RUN_ARGS);
	else
		run_in_session(EXECUTOR_RUN_ARGS);
	nesting_level--;
	if (is_metered)
		meter_end_run(query, is_client_query(query), !has_more_to_do(query));
}

/* AFTER triggers, foreign key checks and the rest of writing WITH queries run here. */
static pg_noinline void
finish_writing(QueryDesc *query)
{
	bool is_metered = nesting_level == 0 && meter_is_on();

	if (is_metered)
		meter_start_clock();
	nesting_level++;
	previous_finish(query);
	nesting_level--;
	if (!is_metered)
		return;
	meter_stop_clock();
	if (is_client_query(query))
		meter_note_latency();
}

static pg_attribute_hot void
on_executor_finish(QueryDesc *query)
{
	if (likely(!has_more_to_do(query)))
		previous_finish(query);
	else
		finish_writing(query);
}

static pg_attribute_hot void
on_executor_end(QueryDesc *query)
{
	if (unlikely(query->estate->es_jit != NULL || query->estate->es_jit_worker_instr != NULL) &&
		meter_is_on())
		meter_note_jit(query);
	previous_end(query);
}

/* The rows that a utility statement reports: COPY, FETCH, EXECUTE, CREATE TABLE AS and others. */
static uint64
utility_rows(const QueryCompletion *completion)
{
	if (completion == NULL)
		return 0;
	return command_tag_display_rowcount(completion->commandTag) ||
				   completion->commandTag == CMDTAG_REFRESH_MATERIALIZED_VIEW
			   ? completion->nprocessed
			   : 0;
}

/*
 * SET and SHOW come without a snapshot.  They get one, so that the first statement of a
 * bound session finds its ceilings; not where SET TRANSACTION could still follow.
 */
static void
prepare_login(Node *statement)
{
	if (ActiveSnapshotSet())
		login_require_usable();
	else if ((IsA(statement, VariableSetStmt) &&
			  castNode(VariableSetStmt, statement)->kind != VAR_SET_MULTI) ||
			 IsA(statement, VariableShowStmt))
	{
		if (login_tenant() == NULL || (IsTransactionBlock() && !FirstSnapshotSet))
			return;
		PushActiveSnapshot(GetTransactionSnapshot());
		login_require_usable();
		PopActiveSnapshot();
	}
}

/* What utility statements would do past the executor's check. */
static void
check_utility(Node *statement)
{
	prepare_login(statement);
	adding_check_utility(statement);
	if (IsA(statement, LockStmt))
		check_lock(castNode(LockStmt, statement));
	else if (IsA(statement, RenameStmt) &&
			 castNode(RenameStmt, statement)->renameType == OBJECT_SCHEMA)
		check_rename(castNode(RenameStmt, statement));
}

static void
run_utility(PlannedStmt *statement, const char *query_string, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(statement, query_string, read_only_tree, context, params, environment,
						 dest, completion);
	else
		standard_ProcessUtility(statement, query_string, read_only_tree, context, params,
								environment, dest, completion);
}

static void
run_utility_watched(PlannedStmt *statement, const char *query_string, bool read_only_tree,
					ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	/* What comes without a snapshot is done in no time, and may not take one. */
	bool may_be_budgeted = nesting_level == 1 && ActiveSnapshotSet();
	bool is_budgeted;
	bool is_adding;

	if (may_be_budgeted)
		cpu_admit();
	is_budgeted = may_be_budgeted && cpu_begin();
	is_adding = adding_begin_utility(statement->utilityStmt);
	if (likely(!is_budgeted && !is_adding))
	{
		run_utility(statement, query_string, read_only_tree, context, params, environment, dest,
					completion);
		return;
	}
	PG_TRY();
	{
		run_utility(statement, query_string, read_only_tree, context, params, environment, dest,
					completion);
	}
	PG_CATCH();
	{
		end_watched(is_budgeted, is_adding, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	end_watched(is_budgeted, is_adding, false);
}

/* Does it write the rows that it reports? */
static bool
writes_rows(Node *node)
{
	return (IsA(node, CopyStmt) && castNode(CopyStmt, node)->is_from) ||
		   IsA(node, CreateTableAsStmt) || IsA(node, RefreshMatViewStmt);
}

static bool
copies_from_client(Node *node)
{
	CopyStmt *copy = (CopyStmt *) node;

	return IsA(node, CopyStmt) && copy->is_from && copy->filename == NULL;
}

/* What is metered of a utility statement, after it; it may have failed. */
static void
end_metering(Node *node, const QueryCompletion *completion, bool is_done)
{
	uint64 rows;

	meter_end_utility(copies_from_client(node));
	if (!meter_is_client_statement())
		return;
	rows = is_done ? utility_rows(completion) : 0;
	meter_own[METER_ROWS] += rows;
	if (writes_rows(node))
		meter_own[METER_ROWS_WRITTEN] += rows;
	if (is_done)
		meter_note_latency();
}

static void
on_utility(PlannedStmt *statement, const char *query_string, bool read_only_tree,
		   ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
		   DestReceiver *dest, QueryCompletion *completion)
{
	Node *node = statement->utilityStmt;
	volatile Oid database = InvalidOid;
	volatile bool is_done = false;
	volatile bool is_explaining = false;
	volatile int restore_level = 0;
	PlannedStmt *volatile allowed = statement;
	List *volatile changed = NIL;
	int level = nesting_level;
	bool is_metered;

	/* BEGIN and COMMIT are no work of their own, and not to be held up. */
	if (IsA(node, TransactionStmt))
	{
		if (context_is_entered())
			(void) guard_check_statement(statement, read_only_tree);
		run_utility(statement, query_string, read_only_tree, context, params, environment, dest,
					completion);
		return;
	}

	/* What we look up ourselves from here on is part of the statement. */
	is_metered = nesting_level == 0 && meter_is_on();
	if (is_metered)
	{
		meter_begin_utility();
		if (meter_is_client_statement())
			meter_count_utility();
	}
	utility_level++;
	nesting_level++;
	PG_TRY();
	{
		if (extension_is_ready())
		{
			check_utility(node);
			context_enforce_restrictions();
			allowed = guard_check_statement(statement, read_only_tree);
			changed = shared_table_before_statement(node);
			quota_table_before_statement(node);
			hold_before_statement(node);
		}
		is_explaining = IsA(node, ExplainStmt);
		explain_level += is_explaining;
		if (context == PROCESS_UTILITY_TOPLEVEL)
		{
			database = worker_before_utility(node);
			restore_level = restore_before_statement(node);
		}
		run_utility_watched(allowed, query_string, read_only_tree, context, params, environment,
							dest, completion);
		restore_after_statement(restore_level);
		if (extension_is_ready())
		{
			shared_table_after_statement(changed);
			quota_table_after_statement(node);
			hold_after_statement(node);
		}
		if (IsA(node, VariableSetStmt))
			ceiling_enforce(castNode(VariableSetStmt, node)->kind == VAR_SET_VALUE);
		is_done = true;
	}
	PG_FINALLY();
	{
		utility_level--;
		nesting_level = level;
		explain_level -= is_explaining;
		if (is_metered)
			end_metering(node, completion, is_done);
		if (OidIsValid(database))
			worker_after_utility(node, database, is_done);
	}
	PG_END_TRY();
}

/*
 * The first transaction of a session ends when it has connected: what is raised here is FATAL,
 * and the client hears that it may not.
 */
static bool has_begun = false;

static void
begin_session(XactEvent event)
{
	if (has_begun || event != XACT_EVENT_PRE_COMMIT)
		return;
	has_begun = true;
	if (MyBackendType != B_BACKEND)
		return;
	nesting_level++;
	login_begin_session();
	nesting_level--;
}

static pg_noinline void
settle_transaction(XactEvent event)
{
	bool is_end;

	begin_session(event);
	if (event == XACT_EVENT_PRE_COMMIT && !transaction_is_watched)
		return;
	is_end = event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE;
	if (event == XACT_EVENT_ABORT)
		nesting_level = utility_level;

	/* Metering asks whose transaction it was, so it comes before the context is cleared. */
	if (is_end || IsParallelWorker())
		meter_transaction_event(event);
	if (!transaction_is_watched && !IsParallelWorker())
		return;
	if (is_end)
		transaction_is_watched = false;
	meter_flush_transaction_event(event);
	worker_transaction_event(event);
	context_transaction_event(event);
	shared_table_transaction_event(event);
	rate_limit_transaction_event(event);
	quota_transaction_event(event);
	cpu_transaction_event(event);
	/* Its lock is taken last, and its look-ups are no statements of the client. */
	nesting_level++;
	domain_transaction_event(event);
	nesting_level--;
}

/* Most transactions have nothing to settle but what they used. */
static pg_attribute_hot void
on_transaction(XactEvent event, void *argument)
{
	if (unlikely(transaction_is_watched || !has_begun || IsParallelWorker()))
		settle_transaction(event);
	else if (event == XACT_EVENT_COMMIT)
		meter_transaction_event(event);
	else if (event != XACT_EVENT_PRE_COMMIT)
		settle_transaction(event);
}

/* A subtransaction begins at this level, and an error that it catches leads back to it. */
static void
keep_level(void)
{
	int depth = GetCurrentTransactionNestLevel();

	if (depth >= levels_capacity)
	{
		int capacity = Max(2 * depth, 16);

		levels = levels == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(int) * capacity)
								: repalloc(levels, sizeof(int) * capacity);
		levels_capacity = capacity;
	}
	levels[depth] = nesting_level;
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId self, SubTransactionId parent,
				  void *argument)
{
	if (event == SUBXACT_EVENT_START_SUB)
		keep_level();
	else if (event == SUBXACT_EVENT_ABORT_SUB && GetCurrentTransactionNestLevel() < levels_capacity)
		nesting_level = levels[GetCurrentTransactionNestLevel()];
	context_subtransaction_event(event, self, parent);
	meter_flush_subtransaction_event(event, self, parent);
	quota_subtransaction_event(event, self, parent);
	rate_limit_subtransaction_event(event, self, parent);
}

#define TAKE(hook, previous, ours)                                                                 \
	do                                                                                             \
	{                                                                                              \
		previous = hook;                                                                           \
		hook = ours;                                                                               \
	} while (0)

void
hooks_install(void)
{
	TAKE(shmem_request_hook, previous_shmem_request, on_shmem_request);
	TAKE(shmem_startup_hook, previous_shmem_startup, on_shmem_startup);
	TAKE(ExecutorCheckPerms_hook, previous_check_permissions, on_check_permissions);
	TAKE(object_access_hook, previous_object_access, on_object_access);
	TAKE(ProcessUtility_hook, previous_utility, on_utility);
	TAKE(needs_fmgr_hook, previous_needs_call, on_needs_call);
	TAKE(planner_hook, previous_planner, on_planner);
	TAKE(ExecutorStart_hook, previous_start, on_executor_start);
	TAKE(ExecutorRun_hook, previous_run, on_executor_run);
	TAKE(ExecutorFinish_hook, previous_finish, on_executor_finish);
	TAKE(ExecutorEnd_hook, previous_end, on_executor_end);
	TAKE(post_parse_analyze_hook, previous_analyze, on_analyze);
	/* Nobody before us: the server itself, without a question each time. */
	if (previous_start == NULL)
		previous_start = standard_ExecutorStart;
	if (previous_run == NULL)
		previous_run = standard_ExecutorRun;
	if (previous_finish == NULL)
		previous_finish = standard_ExecutorFinish;
	if (previous_end == NULL)
		previous_end = standard_ExecutorEnd;
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}
