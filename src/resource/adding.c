/*
 * resource/adding.c
 *		Which statements add something, and whether they may now.
 *
 * Adding is what makes a tenant's storage grow: INSERT, UPDATE, MERGE unless it only deletes,
 * COPY FROM, and what fills tables or indexes by a utility statement.  Temporary tables are
 * no storage of the tenant's.  A tenant that is suspended may define nothing either, but drop.
 *
 * A statement that adds is looked at while it runs, too: one that has passed the quota by itself
 * is cancelled when its tenant's storage was measured again (quota_storage.c).
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "resource/adding.h"
#include "limit/quota.h"
#include "limit/refusal.h"
#include "resource/watch.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

/* The tenant whose statement this is; NULL where it is the operator's, or our own. */
static pg_attribute_hot const pg_uuid_t *
adding_tenant(void)
{
	const pg_uuid_t *tenant = context_tenant();

	return tenant == NULL || GetUserId() == extension_owner() ? NULL : tenant;
}

static pg_noreturn void
refuse_suspended(const pg_uuid_t *tenant)
{
	refusal_note(tenant, REFUSED_SUSPENDED, "suspended", 0, 0, 0);
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("tenant \"%s\" is suspended", registry_slug(tenant)),
			errdetail("It can read and delete, and nothing else."));
}

static void
check(const pg_uuid_t *tenant)
{
	if (unlikely(context_is_suspended()))
		refuse_suspended(tenant);
	quota_check_storage(tenant);
}

static bool
is_stored(Oid relid)
{
	return OidIsValid(relid) && get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
}

static bool
merge_adds(const ModifyTable *plan)
{
	ListCell *cell;

	foreach (cell, plan->mergeActionLists)
	{
		ListCell *action;

		foreach (action, lfirst_node(List, cell))
			if (lfirst_node(MergeAction, action)->commandType != CMD_DELETE &&
				lfirst_node(MergeAction, action)->commandType != CMD_NOTHING)
				return true;
	}
	return false;
}

/* Does this part of a plan write rows that stay? */
static bool
plan_adds(const Plan *plan, const PlannedStmt *statement)
{
	const ModifyTable *modify;
	ListCell *cell;

	if (plan == NULL || !IsA(plan, ModifyTable))
		return false;
	modify = (const ModifyTable *) plan;
	if (modify->operation == CMD_DELETE || (modify->operation == CMD_MERGE && !merge_adds(modify)))
		return false;
	foreach (cell, modify->resultRelations)
		if (is_stored(rt_fetch(lfirst_int(cell), statement->rtable)->relid))
			return true;
	return false;
}

static bool
query_adds(const QueryDesc *query)
{
	const PlannedStmt *statement = query->plannedstmt;
	bool adds;
	ListCell *cell;

	/* What only reads is the rule. */
	if (likely(query->operation == CMD_SELECT && !statement->hasModifyingCTE))
		return false;
	adds = plan_adds(statement->planTree, statement);
	if (statement->hasModifyingCTE)
		foreach (cell, statement->subplans)
			adds |= plan_adds(lfirst(cell), statement);
	return adds;
}

pg_attribute_hot void
adding_check_query(const QueryDesc *query)
{
	const pg_uuid_t *tenant;

	if (likely(!query_adds(query)))
		return;
	tenant = adding_tenant();
	if (tenant != NULL)
		check(tenant);
}

/* Does it make storage grow? */
static bool
utility_adds(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CopyStmt:
			return castNode(CopyStmt, statement)->is_from &&
				   is_stored(
					   RangeVarGetRelid(castNode(CopyStmt, statement)->relation, NoLock, true));
		case T_CreateTableAsStmt:
			return castNode(CreateTableAsStmt, statement)->into->rel->relpersistence !=
					   RELPERSISTENCE_TEMP &&
				   !castNode(CreateTableAsStmt, statement)->into->skipData;
		case T_RefreshMatViewStmt:
			return !castNode(RefreshMatViewStmt, statement)->skipData;
		case T_IndexStmt:
			return is_stored(
				RangeVarGetRelid(castNode(IndexStmt, statement)->relation, NoLock, true));
		default:
			return false;
	}
}

void
adding_check_utility(Node *statement)
{
	const pg_uuid_t *tenant = adding_tenant();

	if (tenant == NULL)
		return;
	if (utility_adds(statement))
		check(tenant);
	else if (unlikely(context_is_suspended()) && GetCommandLogLevel(statement) == LOGSTMT_DDL &&
			 !IsA(statement, DropStmt))
		refuse_suspended(tenant);
}

/* The statements that add and run, one within another; their tenant's storage. */
static struct
{
	volatile int depth;
	volatile bool is_cancelled;
	QuotaWatch storage;
} running;

static bool
begin(void)
{
	const pg_uuid_t *tenant = adding_tenant();

	if (tenant == NULL || !quota_watch_storage(tenant, &running.storage))
		return false;
	if (running.depth++ == 0)
		running.is_cancelled = false;
	watch_start();
	return true;
}

pg_attribute_hot bool
adding_begin(const QueryDesc *query)
{
	return query_adds(query) && begin();
}

bool
adding_begin_utility(Node *statement)
{
	return extension_is_ready() && context_tenant() != NULL && utility_adds(statement) && begin();
}

void
adding_sample(void)
{
	if (running.depth == 0 || running.is_cancelled ||
		!quota_is_over(running.storage.entry, running.storage.hard))
		return;
	running.is_cancelled = true;
	watch_cancel();
}

static void
take_back_cancel(void)
{
	if (running.is_cancelled)
		watch_take_back_cancel();
	running.is_cancelled = false;
}

void
adding_end(bool has_failed)
{
	running.depth--;
	if (!has_failed && running.depth == 0)
		take_back_cancel();
}

void
adding_translate_error(void)
{
	if (!running.is_cancelled)
		return;
	take_back_cancel();
	FlushErrorState();
	quota_refuse_storage(&running.storage);
}
