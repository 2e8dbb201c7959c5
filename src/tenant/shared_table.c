/*
 * tenant/shared_table.c
 *		Tables that hold rows of many tenants: registering and unregistering them.
 *
 * A registered table has tenant_id NOT NULL DEFAULT current_tenant_id(), row security
 * enabled and forced, and a RESTRICTIVE policy on tenant_id: no other policy can open
 * what it closes.  What row security does not see is refused at registration: a key
 * without tenant_id tells whether another tenant has a value, and a foreign key
 * without it points at another tenant's rows, since the server checks both with row
 * security off.  The guard refuses every access that row security would not filter.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/transaction.h"
#include "tenant/shared_table.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define TENANT_COLUMN "tenant_id"

GATE_STATEMENT(
	shared_table_insert,
	"INSERT INTO tenancy.tenant_table AS t (relation, registered_at) VALUES ($1::oid, $2)"
	" ON CONFLICT (relation) DO UPDATE SET relation = excluded.relation RETURNING t",
	OIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(shared_table_delete,
			   "DELETE FROM tenancy.tenant_table AS t WHERE t.relation = $1::oid RETURNING t",
			   OIDOID);

/* Unique and exclusion indexes without the tenant's column among their keys. */
GATE_STATEMENT(keys_without_tenant,
			   "SELECT i.indexrelid::regclass::text FROM pg_catalog.pg_index i"
			   " WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)"
			   "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a"
			   "                   WHERE a.attrelid = i.indrelid AND a.attname = 'tenant_id'"
			   "                     AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))"
			   " ORDER BY 1 LIMIT 1",
			   OIDOID);

/* Foreign keys between shared tables, in either direction, that leave the tenant out. */
GATE_STATEMENT(
	references_without_tenant,
	"SELECT c.conname::text, c.conrelid::regclass::text FROM pg_catalog.pg_constraint c"
	" WHERE c.contype = 'f' AND c.conparentid = 0"
	"   AND (c.conrelid = $1 OR c.confrelid = $1)"
	"   AND (c.conrelid = $1 OR EXISTS (SELECT FROM tenancy.tenant_table t"
	"                                   WHERE t.relation = c.conrelid))"
	"   AND (c.confrelid = $1 OR EXISTS (SELECT FROM tenancy.tenant_table t"
	"                                    WHERE t.relation = c.confrelid))"
	"   AND NOT EXISTS ("
	"       SELECT FROM pg_catalog.generate_subscripts(c.conkey, 1) AS k"
	"         JOIN pg_catalog.pg_attribute f ON f.attrelid = c.conrelid AND f.attnum = c.conkey[k]"
	"         JOIN pg_catalog.pg_attribute p ON p.attrelid = c.confrelid AND p.attnum = "
	"c.confkey[k]"
	"        WHERE f.attname = 'tenant_id' AND p.attname = 'tenant_id')"
	" ORDER BY 1 LIMIT 1",
	OIDOID);
/* Who reads these sees what the owner of the view sees, or saw. */
GATE_STATEMENT(
	views_past_row_security,
	"SELECT v.oid::pg_catalog.regclass::text, v.relkind = 'm' FROM pg_catalog.pg_depend d"
	"  JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid"
	"  JOIN pg_catalog.pg_class v ON v.oid = r.ev_class"
	"  JOIN pg_catalog.pg_roles o ON o.oid = v.relowner"
	" WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
	"   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1"
	"   AND (v.relkind = 'm' OR v.relkind = 'v' AND (o.rolsuper OR o.rolbypassrls)"
	"        AND NOT coalesce(v.reloptions::text[] && '{security_invoker=true,security_invoker=on,"
	"security_invoker=1,security_invoker=yes}', false))"
	" ORDER BY 1 LIMIT 1",
	OIDOID);
GATE_STATEMENT(shared_table_fault,
			   "SELECT " SHARED_TABLE_FAULT " FROM pg_catalog.pg_class c WHERE c.oid = $1", OIDOID);
GATE_STATEMENT(permissive_policies,
			   "SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = $1 AND p.polpermissive"
			   " AND p.polname <> 'tenancy_access'",
			   OIDOID);
GATE_STATEMENT(owned_sequences,
			   "SELECT d.objid::regclass::text FROM pg_catalog.pg_depend d"
			   "  JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
			   " WHERE d.classid = 'pg_catalog.pg_class'::regclass"
			   "   AND d.refclassid = 'pg_catalog.pg_class'::regclass"
			   "   AND d.refobjid = $1 AND d.deptype IN ('a', 'i')",
			   OIDOID);

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static pg_noreturn void
refuse_key(const char *key, const char *name)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			errmsg("key \"%s\" of table \"%s\" does not contain \"" TENANT_COLUMN "\"", key, name),
			errdetail("It would tell one tenant which values another has."),
			errhint("Put " TENANT_COLUMN " first in the key."));
}

/* What row security cannot see, but a key can. */
static void
require_keys_by_tenant(Oid relid, const char *name)
{
	GateRows *rows = gate_run(&keys_without_tenant, EXPECT_AT_MOST_ONE, gate_oid(relid));

	if (rows->count == 1)
		refuse_key(row_text(rows, 0, 0), name);
	rows = gate_run(&references_without_tenant, EXPECT_AT_MOST_ONE, gate_oid(relid));
	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("foreign key \"%s\" of table \"%s\" does not contain \"" TENANT_COLUMN "\"",
					   row_text(rows, 0, 0), row_text(rows, 0, 1)),
				errdetail("It would let rows of one tenant refer to those of another."),
				errhint("Refer to (" TENANT_COLUMN ", …) on both sides."));
}

static void
require_views_filtered(Oid relid, const char *name)
{
	GateRows *rows = gate_run(&views_past_row_security, EXPECT_AT_MOST_ONE, gate_oid(relid));

	if (rows->count == 0)
		return;
	if (row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("materialized view \"%s\" reads table \"%s\"", row_text(rows, 0, 0), name),
				errdetail("It keeps rows of all tenants, and has no row security."),
				errhint("Make it a table with a " TENANT_COLUMN ", registered too."));
	ereport(ERROR, errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			errmsg("view \"%s\" reads table \"%s\" past row security", row_text(rows, 0, 0), name),
			errdetail("Its owner is superuser or has BYPASSRLS."),
			errhint("ALTER VIEW %s SET (security_invoker = true).", row_text(rows, 0, 0)));
}

static void
require_shareable(Oid relid, const char *name)
{
	char kind = get_rel_relkind(relid);
	pg_uuid_t tenant;
	AttrNumber column;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a table", name));
	if (get_rel_namespace(relid) == extension_tables_schema() ||
		IsCatalogNamespace(get_rel_namespace(relid)) ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" cannot be shared by tenants", name),
				errdetail("It is temporary, or belongs to the system or to pg_tenancy."));
	if (registry_relation_scope(relid, &tenant) == SCOPE_TENANT)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" belongs to a tenant", name),
				errhint("Only tables outside of the tenants' schemas can be shared."));

	column = get_attnum(relid, TENANT_COLUMN);
	if (column == InvalidAttrNumber)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("table \"%s\" has no column \"" TENANT_COLUMN "\"", name),
				errhint("Add it: ALTER TABLE %s ADD COLUMN " TENANT_COLUMN " uuid;", name));
	if (get_atttype(relid, column) != UUIDOID)
		ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"" TENANT_COLUMN "\" of table \"%s\" must have type uuid", name));

	require_keys_by_tenant(relid, name);
	require_views_filtered(relid, name);
}

/* Our own statements are not those of somebody else. */
static bool is_protecting = false;

static void
run_as_owner(Oid relid, const char *sql)
{
	GateScope scope;

	is_protecting = true;
	PG_TRY();
	{
		gate_enter(&scope, relation_owner(relid), "pg_catalog");
		gate_run_text(sql);
		gate_leave(&scope);
	}
	PG_FINALLY();
	{
		is_protecting = false;
	}
	PG_END_TRY();
}

static void
protect(Oid relid, const char *name)
{
	char *function = quote_qualified_identifier(get_namespace_name(extension_public_schema()),
												"current_tenant_id");
	bool has_permissive = gate_run(&permissive_policies, EXPECT_ANY, gate_oid(relid))->count > 0;
	GateRows *sequences = gate_run(&owned_sequences, EXPECT_ANY, gate_oid(relid));
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "ALTER TABLE %s ALTER COLUMN tenant_id SET DEFAULT %s(),"
					 " ALTER COLUMN tenant_id SET NOT NULL,"
					 " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;",
					 name, function);
	appendStringInfo(&sql,
					 "DROP POLICY IF EXISTS tenancy_isolation ON %s;"
					 "CREATE POLICY tenancy_isolation ON %s AS RESTRICTIVE TO PUBLIC"
					 " USING (tenant_id OPERATOR(pg_catalog.=) %s())"
					 " WITH CHECK (tenant_id OPERATOR(pg_catalog.=) %s());",
					 name, name, function, function);
	appendStringInfo(&sql, "DROP POLICY IF EXISTS tenancy_access ON %s;", name);
	/* A restrictive policy only narrows: without a permissive one nothing would be seen. */
	if (!has_permissive)
		appendStringInfo(&sql, "CREATE POLICY tenancy_access ON %s TO PUBLIC USING (true);", name);
	appendStringInfo(&sql, "GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO tenancy_tenant;", name);
	for (int64 i = 0; i < sequences->count; i++)
		appendStringInfo(&sql, "GRANT USAGE ON SEQUENCE %s TO tenancy_tenant;",
						 row_text(sequences, i, 0));

	run_as_owner(relid, sql.data);
}

static void
open_schema(Oid schema)
{
	Oid group = get_role_oid("tenancy_tenant", false);

	if (!compat_may_use(schema, group))
		gate_run_as_superuser(psprintf("GRANT USAGE ON SCHEMA %s TO tenancy_tenant",
									   quote_identifier(get_namespace_name(schema))));
}

/* Notices "policy … does not exist, skipping" are of no use to the caller. */
static int
silence(void)
{
	int level = NewGUCNestLevel();

	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static void
require_owner(Oid relid, const char *name)
{
	context_require_none("registering a shared table");
	if (get_rel_relkind(relid) == '\0')
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", relid));
	if (!compat_owns_relation(relid, GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table \"%s\"", name));
}

static Datum
register_one(Oid relid)
{
	char *name = qualified_name(relid);

	require_shareable(relid, name);
	protect(relid, name);
	open_schema(get_rel_namespace(relid));
	return row_datum(
		gate_run(&shared_table_insert, EXPECT_ONE, gate_oid(relid), gate_timestamptz(clock_now())),
		0, 0);
}

void
shared_table_adopt(Oid relid)
{
	int level = silence();

	(void) register_one(relid);
	AtEOXact_GUC(true, level);
}

void
shared_table_forget(Oid relid)
{
	(void) gate_run(&shared_table_delete, EXPECT_AT_MOST_ONE, gate_oid(relid));
}

/* tenant_table_register(relation regclass) → tenancy.tenant_table */
TENANCY_FUNCTION(tenant_table_register)
{
	Oid relid = PG_GETARG_OID(0);
	char *name = get_rel_name(relid);
	List *family;
	ListCell *cell;
	Datum result = (Datum) 0;
	int level;

	require_owner(relid, name);
	level = silence();

	/* Partitions and children too: who names one directly meets its own policies, not the parent's.
	 */
	family = find_all_inheritors(relid, AccessExclusiveLock, NULL);
	foreach (cell, family)
	{
		Datum row = register_one(lfirst_oid(cell));

		if (lfirst_oid(cell) == relid)
			result = row;
	}
	AtEOXact_GUC(true, level);
	PG_RETURN_DATUM(result);
}

/* tenant_table_unregister(relation regclass) → tenancy.tenant_table */
TENANCY_FUNCTION(tenant_table_unregister)
{
	Oid relid = PG_GETARG_OID(0);
	char *name = get_rel_name(relid);
	ListCell *cell;
	Datum result = (Datum) 0;
	int level;

	require_owner(relid, name);
	level = silence();
	foreach (cell, find_all_inheritors(relid, AccessExclusiveLock, NULL))
	{
		Oid member = lfirst_oid(cell);
		char *qualified = qualified_name(member);
		GateRows *rows = gate_run(&shared_table_delete, EXPECT_AT_MOST_ONE, gate_oid(member));

		if (rows->count == 0)
		{
			if (member == relid)
				ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" is not registered", name));
			continue;
		}
		if (member == relid)
			result = row_datum(rows, 0, 0);
		run_as_owner(member,
					 psprintf("DROP POLICY IF EXISTS tenancy_isolation ON %s;"
							  "DROP POLICY IF EXISTS tenancy_access ON %s;"
							  "ALTER TABLE %s NO FORCE ROW LEVEL SECURITY,"
							  " ALTER COLUMN tenant_id DROP DEFAULT;"
							  "REVOKE SELECT, INSERT, UPDATE, DELETE ON %s FROM tenancy_tenant;",
							  qualified, qualified, qualified, qualified));
	}
	AtEOXact_GUC(true, level);
	PG_RETURN_DATUM(result);
}

/* Relations that were dropped in this transaction, until the statement is done; in its context. */
static List *dropped = NIL;

void
shared_table_note_dropped(Oid relid)
{
	pg_uuid_t tenant;
	MemoryContext old;

	char kind = get_rel_relkind(relid);

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		registry_relation_scope(relid, &tenant) != SCOPE_SHARED)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	dropped = lappend_oid(dropped, relid);
	transaction_watch();
	MemoryContextSwitchTo(old);
}

void
shared_table_transaction_event(XactEvent event)
{
	/* Its memory went with the transaction, as the rows did where it failed. */
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		dropped = NIL;
}

static List *
add_shared(List *relids, const RangeVar *name)
{
	Oid relid = name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);
	pg_uuid_t tenant;

	if (OidIsValid(relid) && registry_relation_scope(relid, &tenant) == SCOPE_SHARED)
		relids = list_append_unique_oid(relids, relid);
	return relids;
}

static List *
add_references(List *relids, List *elements)
{
	ListCell *cell;

	foreach (cell, elements)
	{
		Node *element = lfirst(cell);

		if (element == NULL)
			continue;
		if (IsA(element, AlterTableCmd))
			relids = add_references(relids, list_make1(castNode(AlterTableCmd, element)->def));
		else if (IsA(element, Constraint) &&
				 castNode(Constraint, element)->contype == CONSTR_FOREIGN)
			relids = add_shared(relids, castNode(Constraint, element)->pktable);
		else if (IsA(element, ColumnDef))
			relids = add_references(relids, castNode(ColumnDef, element)->constraints);
	}
	return relids;
}

/* The policies of a shared table are the operator's, and ours are nobody's. */
static void
require_may_change_policy(const RangeVar *table, const char *policy, bool is_made)
{
	Oid admin = get_role_oid("tenancy_admin", true);
	/* Without the one that isolates, the table is not sound; the other is made as any is. */
	bool is_ours = !is_made && (strcmp(policy, "tenancy_isolation") == 0 ||
								strcmp(policy, "tenancy_access") == 0);

	if (add_shared(NIL, table) == NIL)
		return;
	if (is_ours || !(superuser() || (OidIsValid(admin) && has_privs_of_role(GetUserId(), admin))))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for policy \"%s\" of shared table \"%s\"", policy,
					   table->relname),
				is_ours
					? errhint("tenant_table_unregister() drops it.")
					: errhint("Only members of role \"tenancy_admin\" that own the table may."));
}

static void
check_dropped_policies(DropStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->objects)
	{
		List *name = list_copy(castNode(List, lfirst(cell)));
		char *policy = strVal(llast(name));

		require_may_change_policy(makeRangeVarFromNameList(list_delete_last(name)), policy, false);
	}
}

/* What is built concurrently is there when it is found out, so this asks before. */
static void
require_index_by_tenant(const IndexStmt *statement)
{
	ListCell *cell;

	if (!statement->unique && statement->excludeOpNames == NIL)
		return;
	foreach (cell, statement->indexParams)
	{
		const IndexElem *element = lfirst_node(IndexElem, cell);

		if (element->name != NULL && strcmp(element->name, TENANT_COLUMN) == 0)
			return;
	}
	if (add_shared(NIL, statement->relation) != NIL)
		refuse_key(statement->idxname == NULL ? "?" : statement->idxname,
				   statement->relation->relname);
}

/* When a dump is restored, keys and policies come after the rows that say what is registered. */
static List *
only_sound(List *relids)
{
	List *sound = NIL;
	ListCell *cell;

	foreach (cell, relids)
		if (row_is_null(gate_run(&shared_table_fault, EXPECT_ONE, gate_oid(lfirst_oid(cell))), 0,
						0))
			sound = lappend_oid(sound, lfirst_oid(cell));
	return sound;
}

List *
shared_table_before_statement(Node *statement)
{
	List *relids = NIL;

	if (is_protecting)
		return NIL;
	switch (nodeTag(statement))
	{
		case T_CreatePolicyStmt:
			if (only_sound(add_shared(NIL, castNode(CreatePolicyStmt, statement)->table)) != NIL)
				require_may_change_policy(castNode(CreatePolicyStmt, statement)->table,
										  castNode(CreatePolicyStmt, statement)->policy_name, true);
			break;
		case T_AlterPolicyStmt:
			require_may_change_policy(castNode(AlterPolicyStmt, statement)->table,
									  castNode(AlterPolicyStmt, statement)->policy_name, false);
			break;
		case T_DropStmt:
			if (castNode(DropStmt, statement)->removeType == OBJECT_POLICY)
				check_dropped_policies(castNode(DropStmt, statement));
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, statement)->renameType == OBJECT_POLICY)
				require_may_change_policy(castNode(RenameStmt, statement)->relation,
										  castNode(RenameStmt, statement)->subname, false);
			relids = add_shared(relids, castNode(RenameStmt, statement)->relation);
			break;
		case T_AlterTableStmt:
			relids = add_shared(relids, castNode(AlterTableStmt, statement)->relation);
			relids = add_references(relids, castNode(AlterTableStmt, statement)->cmds);
			break;
		case T_AlterObjectSchemaStmt:
			relids = add_shared(relids, castNode(AlterObjectSchemaStmt, statement)->relation);
			break;
		case T_CreateStmt:
			relids = add_references(relids, castNode(CreateStmt, statement)->tableElts);
			relids = add_references(relids, castNode(CreateStmt, statement)->constraints);
			break;
		case T_IndexStmt:
			require_index_by_tenant(castNode(IndexStmt, statement));
			relids = add_shared(relids, castNode(IndexStmt, statement)->relation);
			break;
		default:
			break;
	}
	return only_sound(relids);
}

void
shared_table_after_statement(List *changed)
{
	List *gone = dropped;
	ListCell *cell;

	dropped = NIL;
	foreach (cell, gone)
		shared_table_forget(lfirst_oid(cell));
	foreach (cell, changed)
	{
		Oid relid = lfirst_oid(cell);
		char *name;
		GateRows *rows;

		if (get_rel_relkind(relid) == '\0')
			continue;
		name = qualified_name(relid);
		require_shareable(relid, name);
		rows = gate_run(&shared_table_fault, EXPECT_ONE, gate_oid(relid));
		if (!row_is_null(rows, 0, 0))
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("table \"%s\" is shared by tenants", name),
					errdetail("Nothing may take from it what keeps them apart: %s.",
							  row_text(rows, 0, 0)),
					errhint("tenant_table_unregister() first."));
	}
}
