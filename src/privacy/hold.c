/*
 * privacy/hold.c
 *		Legal holds: setting and releasing them, and what each covers.
 *
 * Setting one locks writers of all that it covers out until it is committed, so no statement
 * that began before deletes what it covers.  What is in force is remembered by each backend
 * until the registry's generation moves on.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/relation.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "job/outbox.h"
#include "privacy/expression.h"
#include "privacy/hold.h"
#include "privacy/privacy.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define TENANT_COLUMN "tenant_id"

GATE_LATEST(holds_in_force,
			"SELECT h.id, h.tenant_id, h.schema_name, h.table_name, h.predicate, h.subject,"
			"       h.scope = 'tenant', h.blocks_updates, h.case_id"
			"  FROM tenancy.legal_hold h WHERE h.released_at IS NULL ORDER BY h.id");
GATE_STATEMENT(hold_insert,
			   "INSERT INTO tenancy.legal_hold AS h (id, scope, tenant_id, schema_name, table_name,"
			   "    predicate, subject, blocks_updates, reason, case_id, set_by, set_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING h",
			   UUIDOID, TEXTOID, UUIDOID, NAMEOID, NAMEOID, TEXTOID, JSONBOID, BOOLOID, TEXTOID,
			   TEXTOID, NAMEOID, TIMESTAMPTZOID);
GATE_STATEMENT(hold_lock,
			   "SELECT h.set_by, h.released_at IS NOT NULL, h.tenant_id FROM tenancy.legal_hold h"
			   " WHERE h.id = $1 FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(hold_set_released,
			   "UPDATE tenancy.legal_hold AS h SET released_by = $2, released_at = $3,"
			   "       release_reason = $4 WHERE h.id = $1 RETURNING h",
			   UUIDOID, NAMEOID, TIMESTAMPTZOID, TEXTOID);
/* The tables of a tenant's schemas, and the shared ones. */
GATE_STATEMENT(hold_tenant_tables,
			   "SELECT c.oid FROM tenancy.tenant_schema s"
			   "  JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
			   "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
			   " WHERE s.tenant_id = $1 AND c.relkind IN ('r', 'p')"
			   " UNION SELECT c.oid FROM tenancy.tenant_table t"
			   "  JOIN pg_catalog.pg_class c ON c.oid = t.relation ORDER BY 1",
			   UUIDOID);

/* The holds that this backend remembers, and in which generation they were read. */
static MemoryContext remembered = NULL;
static Hold *holds = NULL;
static int hold_count = 0;
static uint64 holds_generation;

static void
remember(void)
{
	uint64 generation = registry_generation();
	GateRows *rows;
	MemoryContext previous;
	Hold *read;

	if (likely(remembered != NULL && holds_generation == generation))
		return;
	/* The extension is being dropped; hold_check_dropped() has let its tables go. */
	if (!OidIsValid(extension_relation("legal_hold")))
	{
		hold_count = 0;
		return;
	}
	rows = gate_run(&holds_in_force, EXPECT_ANY);
	if (remembered == NULL)
		remembered =
			AllocSetContextCreate(TopMemoryContext, "pg_tenancy holds", ALLOCSET_SMALL_SIZES);
	hold_count = 0;
	MemoryContextReset(remembered);
	previous = MemoryContextSwitchTo(remembered);
	read = palloc0(sizeof(Hold) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		pg_uuid_t *tenant = row_uuid(rows, i, 1);
		Jsonb *subject = row_jsonb(rows, i, 5);

		read[i] = (Hold){
			.id = *row_uuid(rows, i, 0),
			.tenant = tenant == NULL ? NULL : memcpy(palloc(UUID_LEN), tenant, UUID_LEN),
			.schema = row_text(rows, i, 2),
			.table = row_text(rows, i, 3),
			.predicate = row_text(rows, i, 4),
			.subject = subject == NULL ? NULL : memcpy(palloc(VARSIZE(subject)), subject,
													   VARSIZE(subject)),
			.is_of_tenant = row_bool(rows, i, 6),
			.blocks_updates = row_bool(rows, i, 7),
			.case_id = row_text(rows, i, 8),
		};
	}
	MemoryContextSwitchTo(previous);
	holds = read;
	hold_count = (int) rows->count;
	holds_generation = generation;
}

bool
hold_is_any(void)
{
	remember();
	return hold_count > 0;
}

static bool
is_named(Oid relid, const Hold *hold)
{
	char *name = get_rel_name(relid);

	return name != NULL && strcmp(name, hold->table) == 0 &&
		   strcmp(get_namespace_name(get_rel_namespace(relid)), hold->schema) == 0;
}

/* The table of the hold, or a partition or child of it. */
static bool
is_table_or_part(Oid relid, const Hold *hold)
{
	ListCell *cell;

	if (is_named(relid, hold))
		return true;
	if (get_rel_relispartition(relid))
	{
		foreach (cell, get_partition_ancestors(relid))
			if (is_named(lfirst_oid(cell), hold))
				return true;
		return false;
	}
	if (has_superclass(relid))
	{
		Oid table = get_relname_relid(hold->table, get_namespace_oid(hold->schema, true));

		return OidIsValid(table) && table != relid &&
			   list_member_oid(find_all_inheritors(table, NoLock, NULL), relid);
	}
	return false;
}

/* Which rows of the table are the tenant's; false for none. */
static bool
reach_tenant(Oid relid, const Hold *hold, HoldReach *reach)
{
	pg_uuid_t owner;

	switch (registry_relation_scope(relid, &owner))
	{
		case SCOPE_TENANT:
			return id_equal(&owner, hold->tenant);
		case SCOPE_SHARED:
			reach->tenant_column = get_attnum(relid, TENANT_COLUMN);
			return true;
		case SCOPE_NONE:
		case SCOPE_UNFILTERED:
			break;
	}
	return false;
}

static bool
reach_subject(Oid relid, const Hold *hold, HoldReach *reach)
{
	int count;
	char **names = json_member_names(hold->subject, &count);

	reach->subject_columns = palloc(sizeof(AttrNumber) * count);
	reach->subject_values = palloc(sizeof(char *) * count);
	for (int i = 0; i < count; i++)
	{
		AttrNumber column = get_attnum(relid, names[i]);
		char *text;

		if (column <= 0)
			continue;
		text = json_text(hold->subject, names[i]);
		reach->subject_columns[reach->subject_count] = column;
		reach->subject_values[reach->subject_count++] =
			text != NULL ? text : numeric_text(json_numeric(hold->subject, names[i]));
	}
	return reach->subject_count > 0;
}

List *
hold_find(Oid relid)
{
	List *found = NIL;

	remember();
	for (int i = 0; i < hold_count; i++)
	{
		HoldReach reach = {.hold = &holds[i]};
		bool is_reached = true;

		if (holds[i].table != NULL)
			is_reached = is_table_or_part(relid, &holds[i]);
		if (is_reached && holds[i].tenant != NULL)
			is_reached = reach_tenant(relid, &holds[i], &reach);
		if (is_reached && holds[i].subject != NULL)
			is_reached = reach_subject(relid, &holds[i], &reach);
		reach.has_predicate = holds[i].predicate != NULL;
		if (is_reached)
			found = lappend(found, memcpy(palloc(sizeof(HoldReach)), &reach, sizeof(HoldReach)));
	}
	return found;
}

bool
hold_covers_all(const HoldReach *reach)
{
	return reach->tenant_column == InvalidAttrNumber && reach->subject_count == 0 &&
		   !reach->has_predicate;
}

const Hold *
hold_of_tenant(const pg_uuid_t *tenant)
{
	remember();
	for (int i = 0; i < hold_count; i++)
		if (holds[i].tenant != NULL && id_equal(holds[i].tenant, tenant))
			return &holds[i];
	return NULL;
}

static void
add_condition(StringInfo sql, Oid relid, const char *alias, const HoldReach *reach)
{
	const char *glue = "";

	appendStringInfoChar(sql, '(');
	if (reach->tenant_column != InvalidAttrNumber)
	{
		appendStringInfo(sql, "%s." TENANT_COLUMN " OPERATOR(pg_catalog.=) %s::pg_catalog.uuid",
						 alias, quote_literal_cstr(id_text(reach->hold->tenant)));
		glue = " AND ";
	}
	if (reach->has_predicate)
	{
		Node *predicate = expression_parse(relid, reach->hold->predicate, BOOLOID, "predicate");

		appendStringInfo(sql, "%s(%s)", glue, expression_sql(relid, predicate, alias));
		glue = " AND ";
	}
	for (int i = 0; i < reach->subject_count; i++)
		appendStringInfo(sql, "%spg_catalog.format('%%s', %s.%s) OPERATOR(pg_catalog.=) %s",
						 i == 0 ? psprintf("%s(", glue) : " OR ", alias,
						 quote_identifier(get_attname(relid, reach->subject_columns[i], false)),
						 quote_literal_cstr(reach->subject_values[i]));
	appendStringInfoString(sql, reach->subject_count > 0 ? "))" : ")");
}

char *
hold_condition(Oid relid, const char *alias)
{
	List *reaches = hold_find(relid);
	StringInfoData sql;
	ListCell *cell;

	if (reaches == NIL)
		return NULL;
	initStringInfo(&sql);
	foreach (cell, reaches)
	{
		const HoldReach *reach = lfirst(cell);

		if (hold_covers_all(reach))
			return pstrdup("true");
		if (sql.len > 0)
			appendStringInfoString(&sql, " OR ");
		add_condition(&sql, relid, alias, reach);
	}
	return psprintf("coalesce(%s, false)", sql.data);
}

void
hold_refuse(const Hold *hold, const char *what, const char *name)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("%s \"%s\" is under legal hold", what, name),
			context_tenant() != NULL
				? 0
				: errdetail("Hold \"%s\" of case \"%s\".", id_text(&hold->id), hold->case_id),
			context_tenant() != NULL
				? 0
				: errhint("A second person releases it by legal_hold_release()."));
	pg_unreachable();
}

void
hold_refuse_any(const char *what, const char *name)
{
	hold_refuse(&holds[0], what, name);
}

List *
hold_relations(const Hold *hold)
{
	List *relids = NIL;
	GateRows *rows;

	if (hold->table != NULL)
	{
		Oid table = get_relname_relid(hold->table, get_namespace_oid(hold->schema, true));

		return OidIsValid(table) ? find_all_inheritors(table, NoLock, NULL) : NIL;
	}
	rows = gate_run(&hold_tenant_tables, EXPECT_ANY, gate_uuid(hold->tenant));
	for (int64 i = 0; i < rows->count; i++)
	{
		Oid relid = DatumGetObjectId(row_datum(rows, i, 0));
		HoldReach reach = {0};

		if (hold->subject == NULL || reach_subject(relid, hold, &reach))
			relids = lappend_oid(relids, relid);
	}
	return relids;
}

static void
require_subject(const Jsonb *subject)
{
	int count;
	char **names;

	if (subject == NULL || !JB_ROOT_IS_OBJECT(subject))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"subject\" must be an object of columns and values"));
	names = json_member_names(subject, &count);
	for (int i = 0; i < count; i++)
		if (json_text(subject, names[i]) == NULL && json_numeric(subject, names[i]) == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the value of column \"%s\" of the subject must be a text or a number",
						   names[i]));
	if (count == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the subject names no column"));
}

static void
require_only(FunctionCallInfo fcinfo, const char *scope, bool tenant, bool relation, bool predicate,
			 bool subject)
{
	static const char *const names[] = {"tenant", "relation", "predicate", "subject"};
	const bool may_be[] = {tenant, relation, predicate, subject};

	for (int i = 0; i < lengthof(names); i++)
		if (!PG_ARGISNULL(3 + i) && !may_be[i])
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a hold on a %s has no argument \"%s\"", scope, names[i]));
}

static void
name_relation(Oid relid, Hold *hold)
{
	char kind = get_rel_relkind(relid);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("relation %u is not a table", relid));
	if (get_rel_namespace(relid) == extension_tables_schema() ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("table \"%s\" cannot be held", get_rel_name(relid)),
				errdetail("It is temporary, or one of the extension's own."));
	hold->schema = get_namespace_name(get_rel_namespace(relid));
	hold->table = get_rel_name(relid);
}

static Hold
read_hold(FunctionCallInfo fcinfo, const char *scope)
{
	Hold hold = {
		.id = *id_new(),
		.tenant = optional_uuid(fcinfo, 3),
		.is_of_tenant = strcmp(scope, "tenant") == 0,
	};

	if (strcmp(scope, "relation") == 0)
	{
		require_only(fcinfo, scope, true, true, true, false);
		require_argument(fcinfo, 4, "relation");
		name_relation(PG_GETARG_OID(4), &hold);
		if (!PG_ARGISNULL(5))
		{
			char *text = optional_text(fcinfo, 5);
			Node *predicate = expression_parse(PG_GETARG_OID(4), text, BOOLOID, "predicate");

			hold.predicate = expression_sql(PG_GETARG_OID(4), predicate, NULL);
		}
	}
	else if (strcmp(scope, "subject") == 0)
	{
		require_only(fcinfo, scope, true, false, false, true);
		hold.subject = optional_jsonb(fcinfo, 6);
		require_subject(hold.subject);
	}
	else if (strcmp(scope, "tenant") == 0)
		require_only(fcinfo, scope, true, false, false, false);
	else
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid scope \"%s\"", scope),
				errhint("Possible: \"tenant\", \"subject\" and \"relation\"."));
	if (strcmp(scope, "relation") != 0)
		require_argument(fcinfo, 3, "tenant");
	if (hold.tenant != NULL)
		(void) registry_get(hold.tenant);
	return hold;
}

static char *
required_words(FunctionCallInfo fcinfo, int n, const char *name)
{
	char *text = required_text(fcinfo, n, name);

	if (strspn(text, " ") == strlen(text))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must not be empty", name));
	return text;
}

static void
tell(const char *type, const pg_uuid_t *hold, const pg_uuid_t *tenant, const char *by)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "hold", id_text(hold));
	json_put_text(&payload, "tenant_id", tenant == NULL ? NULL : id_text(tenant));
	json_put_text(&payload, "by", by);
	/* Of no tenant: it must not be warned. */
	(void) outbox_put(NULL, type, json_end(&payload));
}

/*
 * legal_hold_set(scope text, reason text, case_id text, tenant regtenant, relation regclass,
 *     predicate text, subject jsonb, blocks_updates boolean) → tenancy.legal_hold
 */
TENANCY_FUNCTION(legal_hold_set)
{
	char *scope = required_text(fcinfo, 0, "scope");
	char *reason = required_words(fcinfo, 1, "reason");
	char *case_id = required_words(fcinfo, 2, "case_id");
	char *by = GetUserNameFromId(GetSessionUserId(), false);
	Hold hold;
	GateRows *rows;

	context_require_none("a legal hold");
	require_argument(fcinfo, 7, "blocks_updates");
	hold = read_hold(fcinfo, scope);
	rows = gate_run(&hold_insert, EXPECT_ONE, gate_uuid(&hold.id), gate_text(scope),
					gate_uuid(hold.tenant), gate_name(hold.schema), gate_name(hold.table),
					gate_text(hold.predicate), gate_jsonb(hold.subject), gate_argument(7),
					gate_text(reason), gate_text(case_id), gate_name(by),
					gate_timestamptz(clock_now()));
	hold_protect(hold_relations(&hold));
	tell("legal_hold.set", &hold.id, hold.tenant, by);
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* legal_hold_release(hold uuid, reason text) → tenancy.legal_hold */
TENANCY_FUNCTION(legal_hold_release)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "hold");
	char *reason = required_words(fcinfo, 1, "reason");
	char *by = GetUserNameFromId(GetSessionUserId(), false);
	List *relids = NIL;
	GateRows *rows;
	Datum result;

	context_require_none("a legal hold");
	rows = gate_run(&hold_lock, EXPECT_AT_MOST_ONE, gate_uuid(id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("legal hold \"%s\" does not exist", id_text(id)));
	if (row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("legal hold \"%s\" has been released", id_text(id)));
	if (strcmp(row_text(rows, 0, 0), by) == 0)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("legal hold \"%s\" was set by \"%s\"", id_text(id), by),
				errdetail("It takes a second person to release a hold."),
				errhint("Another login calls legal_hold_release()."));
	remember();
	for (int i = 0; i < hold_count; i++)
		if (id_equal(&holds[i].id, id))
			relids = hold_relations(&holds[i]);
	result = row_datum(gate_run(&hold_set_released, EXPECT_ONE, gate_uuid(id), gate_name(by),
								gate_timestamptz(clock_now()), gate_text(reason)),
					   0, 0);
	hold_unprotect(relids);
	tell("legal_hold.release", id, row_uuid(rows, 0, 2), by);
	PG_RETURN_DATUM(result);
}
