/*
 * context/guard_statement.c
 *		May this utility statement run now?
 *
 * PostgreSQL's own rights stop most of what a tenant could do with utility statements.
 * Here is what they do not: what acts on the whole database or cluster, gives rights to
 * others, reaches a shared table past row security, or stays on the connection.
 *
 * A context is "entered" when the client of a pool entered it for a transaction; a bound
 * login has the connection to itself.
 */
#include "postgres.h"

#include "catalog/registry.h"
#include "context/context.h"
#include "context/guard_function.h"
#include "context/guard_statement.h"
#include "context/leave.h"
#include "context/login.h"
#include "core/compat.h"
#include "core/id.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "executor/instrument.h"
#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"

/* What no tenant runs, whatever rights its role has got. */
static const NodeTag refused[] = {
	T_AlterDatabaseSetStmt,
	T_AlterDatabaseStmt,
	T_AlterEventTrigStmt,
	T_AlterExtensionContentsStmt,
	T_AlterExtensionStmt,
	T_AlterFdwStmt,
	T_AlterForeignServerStmt,
	T_AlterPublicationStmt,
	T_AlterRoleSetStmt,
	T_AlterRoleStmt,
	T_AlterSubscriptionStmt,
	T_AlterSystemStmt,
	T_AlterUserMappingStmt,
	T_CheckPointStmt,
	T_ClusterStmt,
	T_CreateAmStmt,
	T_CreateEventTrigStmt,
	T_CreateExtensionStmt,
	T_CreateFdwStmt,
	T_CreateForeignServerStmt,
	T_CreateForeignTableStmt,
	T_CreatePLangStmt,
	T_CreatePublicationStmt,
	T_CreateRoleStmt,
	T_CreateSchemaStmt,
	T_CreateSubscriptionStmt,
	T_CreateTableSpaceStmt,
	T_CreateUserMappingStmt,
	T_CreatedbStmt,
	T_DropOwnedStmt,
	T_DropRoleStmt,
	T_DropSubscriptionStmt,
	T_DropUserMappingStmt,
	T_DropdbStmt,
	T_GrantRoleStmt,
	T_ImportForeignSchemaStmt,
	T_LoadStmt,
	T_ReassignOwnedStmt,
	T_SecLabelStmt,
};

static void
refuse(Node *statement, const char *detail)
{
	const char *command = CreateCommandName(statement);

	ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("a tenant may not %s", asc_tolower(command, strlen(command))),
			detail == NULL ? 0 : errdetail("%s", detail));
}

static void
refuse_in_pool(const char *what)
{
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("%s is not supported in a tenant context", what),
			errdetail("It would outlive the transaction, on a connection that other tenants use."));
}

/* The relation of another tenant, or a shared one, is not a tenant's to define anything on. */
static void
check_target(Node *statement, const RangeVar *name, const pg_uuid_t *tenant)
{
	Oid relid;
	pg_uuid_t owner;

	if (name == NULL)
		return;
	relid = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(relid))
		return;
	switch (registry_relation_scope(relid, &owner))
	{
		case SCOPE_NONE:
		case SCOPE_UNFILTERED:
			break;
		case SCOPE_TENANT:
			if (!id_equal(&owner, tenant))
				refuse(statement, "The relation belongs to another tenant.");
			break;
		case SCOPE_SHARED:
			refuse(statement, "The table is shared by all tenants.");
	}
}

static void
check_constraints(Node *statement, List *elements, const pg_uuid_t *tenant)
{
	ListCell *cell;

	foreach (cell, elements)
	{
		Node *element = lfirst(cell);

		if (IsA(element, Constraint) && castNode(Constraint, element)->contype == CONSTR_FOREIGN)
			check_target(statement, castNode(Constraint, element)->pktable, tenant);
		else if (IsA(element, ColumnDef))
			check_constraints(statement, castNode(ColumnDef, element)->constraints, tenant);
	}
}

static void
check_targets(Node *statement, List *names, const pg_uuid_t *tenant)
{
	ListCell *cell;

	foreach (cell, names)
	{
		Node *name = lfirst(cell);

		if (IsA(name, RangeVar))
			check_target(statement, castNode(RangeVar, name), tenant);
		else if (IsA(name, VacuumRelation))
			check_target(statement, castNode(VacuumRelation, name)->relation, tenant);
	}
}

/* Row security on a table that tells tenants apart is not the tenant's, wherever it is. */
static void
check_row_security(Node *statement, const RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(relid) && get_attnum(relid, "tenant_id") != InvalidAttrNumber)
		refuse(statement, "Row security of a table with a tenant_id stays.");
}

static void
check_alter_table(AlterTableStmt *alter, const pg_uuid_t *tenant)
{
	ListCell *cell;

	check_target((Node *) alter, alter->relation, tenant);
	foreach (cell, alter->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_DisableRowSecurity || command->subtype == AT_NoForceRowSecurity)
			check_row_security((Node *) alter, alter->relation);
		if (command->def == NULL)
			continue;
		if (IsA(command->def, Constraint) || IsA(command->def, ColumnDef))
			check_constraints((Node *) alter, list_make1(command->def), tenant);
		else if (IsA(command->def, RangeVar))
			check_target((Node *) alter, castNode(RangeVar, command->def), tenant);
	}
}

/* To whom a tenant may give rights: its own role and owner. */
static void
check_grantees(Node *statement, GrantStmt *grant, const pg_uuid_t *tenant)
{
	TenantEntry *entry;
	ListCell *cell;

	if (!grant->is_grant)
		return;
	entry = registry_get(tenant);
	foreach (cell, grant->grantees)
	{
		RoleSpec *role = lfirst_node(RoleSpec, cell);
		const char *name;

		if (role->roletype == ROLESPEC_PUBLIC)
			refuse(statement, "A tenant may grant rights to its own roles only.");
		name = GetUserNameFromId(get_rolespec_oid(role, false), false);
		if (strcmp(name, entry->role) != 0 && strcmp(name, entry->owner) != 0)
			refuse(statement, "A tenant may grant rights to its own roles only.");
	}
}

static void
check_schema_of_tenant(Node *statement, const char *name, const pg_uuid_t *tenant)
{
	Oid schema = get_namespace_oid(name, true);
	pg_uuid_t owner;

	if (OidIsValid(schema) &&
		(registry_schema_scope(schema, &owner) != SCOPE_TENANT || !id_equal(&owner, tenant)))
		refuse(statement, "The schema is not one of the tenant's.");
}

/* A lock that stops others is not a tenant's to take on what it shares with them. */
static void
check_lock_mode(LockStmt *lock)
{
	ListCell *cell;

	if (lock->mode <= RowExclusiveLock)
		return;
	foreach (cell, lock->relations)
	{
		Oid relid = RangeVarGetRelid(lfirst_node(RangeVar, cell), NoLock, true);
		pg_uuid_t owner;

		if (OidIsValid(relid) && registry_relation_scope(relid, &owner) != SCOPE_TENANT &&
			get_rel_persistence(relid) != RELPERSISTENCE_TEMP)
			refuse((Node *) lock, "The lock would stop other tenants.");
	}
}

static bool
has_option(List *options, const char *name)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0)
			return defGetBoolean(option);
	}
	return false;
}

static void
check_on_connection(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ListenStmt:
		case T_UnlistenStmt:
			if (context_is_entered())
				refuse_in_pool("listening");
			refuse(statement, "Notifications are shared by all tenants.");
			break;
		case T_NotifyStmt:
			/* The command is the function by another name. */
			guard_check_notify();
			break;
		case T_DeclareCursorStmt:
			if (context_is_entered() &&
				(castNode(DeclareCursorStmt, statement)->options & CURSOR_OPT_HOLD) != 0)
				refuse_in_pool("a cursor WITH HOLD");
			break;
		case T_PrepareStmt:
			if (context_is_entered())
				leave_note_prepared(castNode(PrepareStmt, statement)->name);
			break;
		default:
			break;
	}
}

static void
check_definition(Node *statement, const pg_uuid_t *tenant)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			check_alter_table(castNode(AlterTableStmt, statement), tenant);
			break;
		case T_CreateStmt:
			check_constraints(statement, castNode(CreateStmt, statement)->tableElts, tenant);
			check_targets(statement, castNode(CreateStmt, statement)->inhRelations, tenant);
			break;
		case T_IndexStmt:
			check_target(statement, castNode(IndexStmt, statement)->relation, tenant);
			break;
		case T_CreateTrigStmt:
			check_target(statement, castNode(CreateTrigStmt, statement)->relation, tenant);
			break;
		case T_RuleStmt:
			check_target(statement, castNode(RuleStmt, statement)->relation, tenant);
			break;
		case T_CreatePolicyStmt:
			check_target(statement, castNode(CreatePolicyStmt, statement)->table, tenant);
			break;
		case T_AlterPolicyStmt:
			check_target(statement, castNode(AlterPolicyStmt, statement)->table, tenant);
			break;
		case T_CreateStatsStmt:
			check_targets(statement, castNode(CreateStatsStmt, statement)->relations, tenant);
			break;
		case T_RenameStmt:
			check_target(statement, castNode(RenameStmt, statement)->relation, tenant);
			break;
		case T_AlterObjectSchemaStmt:
			check_target(statement, castNode(AlterObjectSchemaStmt, statement)->relation, tenant);
			check_schema_of_tenant(statement, castNode(AlterObjectSchemaStmt, statement)->newschema,
								   tenant);
			break;
		case T_ReindexStmt:
			if (castNode(ReindexStmt, statement)->relation == NULL)
				refuse(statement, "It would reach every tenant.");
			check_target(statement, castNode(ReindexStmt, statement)->relation, tenant);
			break;
		case T_VacuumStmt:
			if (has_option(castNode(VacuumStmt, statement)->options, "full"))
				refuse(statement, "VACUUM FULL would take the disk from other tenants.");
			check_targets(statement, castNode(VacuumStmt, statement)->rels, tenant);
			break;
		case T_AlterObjectDependsStmt:
			if (strcmp(strVal(castNode(AlterObjectDependsStmt, statement)->extname), "pg_tenancy") == 0)
				refuse(statement, "It would lock the extension, which workers want to hold.");
			break;
		case T_LockStmt:
			check_lock_mode(castNode(LockStmt, statement));
			break;
		case T_GrantStmt:
			check_grantees(statement, castNode(GrantStmt, statement), tenant);
			break;
		case T_AlterDefaultPrivilegesStmt:
			check_grantees(statement, castNode(AlterDefaultPrivilegesStmt, statement)->action,
						   tenant);
			break;
		default:
			break;
	}
}

PlannedStmt *
guard_check_statement(PlannedStmt *statement, bool is_read_only)
{
	Node *node = statement->utilityStmt;
	const pg_uuid_t *tenant = context_tenant();

	if (tenant == NULL)
		return statement;
	if (IsA(node, TransactionStmt))
	{
		if (context_is_entered() && castNode(TransactionStmt, node)->kind == TRANS_STMT_PREPARE)
			refuse_in_pool("PREPARE TRANSACTION");
		return statement;
	}
	for (int i = 0; i < lengthof(refused); i++)
		if (nodeTag(node) == refused[i])
			refuse(node, NULL);
	if ((context_restrictions() & RESTRICT_NO_DDL) != 0 && GetCommandLogLevel(node) == LOGSTMT_DDL)
		refuse(node, "The token of this context allows no definitions.");
	check_on_connection(node);
	check_definition(node, tenant);

	if (IsA(node, VariableSetStmt) && context_is_entered())
	{
		leave_note_settings();
		if (!castNode(VariableSetStmt, node)->is_local)
		{
			if (is_read_only)
				statement = copyObject(statement);
			castNode(VariableSetStmt, statement->utilityStmt)->is_local = true;
		}
	}
	return statement;
}

void
guard_check_explained(const QueryDesc *query)
{
	ListCell *cell;

	if (query->instrument_options == 0 || context_tenant() == NULL)
		return;
	foreach (cell, query->plannedstmt->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);
		pg_uuid_t owner;

		if (entry->rtekind == RTE_RELATION &&
			registry_relation_scope(entry->relid, &owner) == SCOPE_SHARED)
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for EXPLAIN ANALYZE of shared table \"%s\"",
						   get_rel_name(entry->relid)),
					errdetail("It would count the rows of other tenants."),
					errhint("EXPLAIN without ANALYZE shows the plan."));
	}
}
