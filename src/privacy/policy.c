/*
 * privacy/policy.c
 *		Retention policies: setting and removing them, and what they mean in SQL.
 *
 * A policy keeps the name of its table, not its OID, so that a dump can be restored.  A table of
 * a template stands for its copies in the tenants' schemas.
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
#include "privacy/expression.h"
#include "privacy/policy.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_partitioned_table.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define MAX_BATCH_ROWS 100000
#define LONGEST_PERIOD_YEARS 1000

GATE_STATEMENT(retention_policy_put,
			   "INSERT INTO tenancy.retention_policy AS p (id, template, schema_name, table_name,"
			   "    time_expression, period, action, legal_basis, batch_rows, anonymise, filter,"
			   "    created_at, updated_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)"
			   " ON CONFLICT (schema_name, table_name, action) DO UPDATE"
			   "    SET template = excluded.template,"
			   "        time_expression = excluded.time_expression, period = excluded.period,"
			   "        legal_basis = excluded.legal_basis, batch_rows = excluded.batch_rows,"
			   "        anonymise = excluded.anonymise, filter = excluded.filter,"
			   "        updated_at = excluded.updated_at"
			   " RETURNING p",
			   UUIDOID, TEXTOID, NAMEOID, NAMEOID, TEXTOID, INTERVALOID, TEXTOID, TEXTOID, INT4OID,
			   JSONBOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(retention_policy_delete,
			   "DELETE FROM tenancy.retention_policy AS p WHERE p.id = $1 RETURNING p", UUIDOID);
GATE_STATEMENT(policy_template,
			   "SELECT t.name FROM tenancy.template t WHERE t.schema_name = $1 ORDER BY t.name"
			   " LIMIT 1",
			   NAMEOID);
GATE_STATEMENT(policy_is_template,
			   "SELECT p.template IS NOT NULL FROM tenancy.retention_policy p WHERE p.id = $1",
			   UUIDOID);
GATE_STATEMENT(period_put,
			   "INSERT INTO tenancy.retention_period AS r (policy_id, tenant_id, period, set_at)"
			   " VALUES ($1, $2, $3, $4) ON CONFLICT (policy_id, tenant_id) DO UPDATE"
			   "    SET period = excluded.period, set_at = excluded.set_at RETURNING r",
			   UUIDOID, UUIDOID, INTERVALOID, TIMESTAMPTZOID);
GATE_STATEMENT(period_delete,
			   "DELETE FROM tenancy.retention_period AS r"
			   " WHERE r.policy_id = $1 AND r.tenant_id = $2 RETURNING r",
			   UUIDOID, UUIDOID);

static const char *const actions[] = {
	[RETENTION_ANONYMISE] = "anonymise",
	[RETENTION_DELETE] = "delete",
	[RETENTION_DROP_PARTITION] = "drop_partition",
};

const char *
retention_action_name(RetentionAction action)
{
	return actions[action];
}

static RetentionAction
read_action(const char *text)
{
	for (int i = 0; i < lengthof(actions); i++)
		if (strcmp(actions[i], text) == 0)
			return i;
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid action \"%s\"", text),
			errhint("Possible: \"delete\", \"anonymise\" and \"drop_partition\"."));
}

/* What a column becomes, as SQL: a constant of JSON, or {"expression": …}. */
static char *
replacement(Oid relid, const Jsonb *anonymise, const char *name, AttrNumber column)
{
	Oid type;
	int32 modifier;
	Oid collation;
	Jsonb *value = json_member(anonymise, name);
	char *sql;

	get_atttypetypmodcoll(relid, column, &type, &modifier, &collation);
	if (value == NULL)
		sql = pstrdup("NULL");
	else if (JB_ROOT_IS_OBJECT(value))
	{
		char *text = json_text(value, "expression");

		if (text == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("column \"%s\" cannot become an object", name),
					errhint("{\"expression\": \"…\"} computes a value from other columns."));
		sql = expression_sql(relid, expression_parse(relid, text, ANYOID, "anonymise"), "t");
	}
	else
	{
		text *unquoted;

		if (!JB_ROOT_IS_SCALAR(value))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("column \"%s\" cannot become an array", name));
		unquoted = DatumGetTextPP(DirectFunctionCall2(
			jsonb_object_field_text, JsonbPGetDatum(anonymise), CStringGetTextDatum(name)));
		sql = quote_literal_cstr(text_to_cstring(unquoted));
	}
	return psprintf("(%s)::%s", sql, format_type_with_typemod(type, modifier));
}

/* SET …, and a condition that is true where that would change something. */
static void
read_anonymise(Oid relid, const Jsonb *anonymise, PolicySql *sql)
{
	StringInfoData assignments;
	StringInfoData condition;
	int count;
	char **names = json_member_names(anonymise, &count);

	if (count == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"anonymise\" names no column"));
	initStringInfo(&assignments);
	initStringInfo(&condition);
	for (int i = 0; i < count; i++)
	{
		AttrNumber column = get_attnum(relid, names[i]);
		char *value;

		if (column <= 0)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" of table \"%s\" does not exist", names[i],
						   get_rel_name(relid)));
		value = replacement(relid, anonymise, names[i], column);
		appendStringInfo(&assignments, "%s%s = %s", i == 0 ? "" : ", ", quote_identifier(names[i]),
						 value);
		/* By their text: json has no equality. */
		appendStringInfo(&condition, "%st.%s::pg_catalog.text IS DISTINCT FROM %s::pg_catalog.text",
						 i == 0 ? "" : " OR ", quote_identifier(names[i]), value);
	}
	sql->assignments = assignments.data;
	sql->condition = psprintf("(%s) AND (%s)", sql->condition, condition.data);
}

PolicySql
retention_sql(const Policy *policy, Oid relid)
{
	Node *time = expression_parse(relid, policy->time_expression, EXPRESSION_TIME, "time");
	PolicySql sql = {
		.time = expression_sql(relid, time, "t"),
		.column = expression_column(time),
		.time_type = exprType(time),
		.condition = "true",
	};

	if (policy->filter != NULL)
		sql.condition = expression_sql(
			relid, expression_parse(relid, policy->filter, BOOLOID, "filter"), "t");
	if (policy->anonymise != NULL)
		read_anonymise(relid, policy->anonymise, &sql);
	return sql;
}

/* The table is partitioned by range, of the column of the policy's time before all. */
static bool
is_partitioned_by(Oid relid, AttrNumber column)
{
	HeapTuple tuple = SearchSysCache1(PARTRELID, ObjectIdGetDatum(relid));
	bool is_it;

	if (!HeapTupleIsValid(tuple))
		return false;
	is_it = ((Form_pg_partitioned_table) GETSTRUCT(tuple))->partstrat == PARTITION_STRATEGY_RANGE &&
			((Form_pg_partitioned_table) GETSTRUCT(tuple))->partattrs.values[0] == column &&
			column != InvalidAttrNumber;
	ReleaseSysCache(tuple);
	return is_it;
}

static bool
is_not_null(Oid relid, const char *column)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, column);
	bool result = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/*
 * What a column cannot become is refused now, and not when rows are due: the update is planned,
 * with the owner's rights.
 */
static void
check_replacements(const Policy *policy, Oid relid, const char *assignments)
{
	GateScope scope;
	int count;
	char **names = json_member_names(policy->anonymise, &count);

	for (int i = 0; i < count; i++)
	{
		if (json_member(policy->anonymise, names[i]) == NULL && is_not_null(relid, names[i]))
			ereport(ERROR, errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("column \"%s\" of table \"%s\" cannot become null", names[i],
						   policy->table));
	}
	gate_enter_all_rows(&scope, relation_owner(relid), "pg_catalog");
	(void) gate_query_text(psprintf("EXPLAIN UPDATE ONLY %s t SET %s", relation_sql_name(relid),
									assignments),
						   0, NULL, NULL);
	gate_leave(&scope);
}

static void
check_action(const Policy *policy, Oid relid)
{
	PolicySql sql = retention_sql(policy, relid);

	if (policy->action == RETENTION_ANONYMISE)
		check_replacements(policy, relid, sql.assignments);
	if (policy->action != RETENTION_DROP_PARTITION)
		return;
	if (!is_partitioned_by(relid, sql.column))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("table \"%s\" is not partitioned by ranges of \"%s\"", policy->table,
					   policy->time_expression));
	if (policy->filter != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a policy that drops partitions has no filter"));
}

/* Whose table it is says who may let it go: the control plane, or else its owner. */
static char *
require_may_govern(Oid relid)
{
	pg_uuid_t tenant;
	GateRows *rows;
	char kind = get_rel_relkind(relid);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("relation %u is not a table", relid));
	if (get_rel_namespace(relid) == extension_tables_schema() ||
		registry_relation_scope(relid, &tenant) == SCOPE_TENANT)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("table \"%s\" has no retention policy of its own", get_rel_name(relid)),
				errhint("A policy for a table of a template is for those of its tenants; the "
						"extension's tables have settings."));
	rows = gate_run(&policy_template, EXPECT_AT_MOST_ONE,
					gate_name(get_namespace_name(get_rel_namespace(relid))));
	if (rows->count > 0)
		return row_text(rows, 0, 0);
	if (registry_relation_scope(relid, &tenant) != SCOPE_SHARED &&
		!compat_owns_relation(relid, GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table \"%s\"", get_rel_name(relid)));
	return NULL;
}

static void
require_period(FunctionCallInfo fcinfo, int n)
{
	Interval none = {0};
	Interval longest = {.month = LONGEST_PERIOD_YEARS * MONTHS_PER_YEAR};

	if (!DatumGetBool(DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(n), IntervalPGetDatum(&none))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"period\" must be longer than nothing"));
	if (DatumGetBool(
			DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(n), IntervalPGetDatum(&longest))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"period\" must be at most %d years", LONGEST_PERIOD_YEARS));
}

/*
 * retention_policy_set(relation regclass, "time" text, period interval, action text,
 *     legal_basis text, batch_rows integer, anonymise jsonb, filter text)
 *     → tenancy.retention_policy
 */
TENANCY_FUNCTION(retention_policy_set)
{
	Policy policy = {.id = *id_new()};
	Oid relid;

	context_require_none("a retention policy");
	require_argument(fcinfo, 0, "relation");
	relid = PG_GETARG_OID(0);
	policy.time_expression = required_text(fcinfo, 1, "time");
	if (!PG_ARGISNULL(2))
		require_period(fcinfo, 2);
	policy.action = read_action(required_text(fcinfo, 3, "action"));
	policy.legal_basis = required_text(fcinfo, 4, "legal_basis");
	require_argument(fcinfo, 5, "batch_rows");
	policy.batch_rows = PG_GETARG_INT32(5);
	policy.anonymise = optional_jsonb(fcinfo, 6);
	policy.filter = optional_text(fcinfo, 7);
	if (strspn(policy.legal_basis, " ") == strlen(policy.legal_basis))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"legal_basis\" must not be empty"));
	if (policy.batch_rows < 1 || policy.batch_rows > MAX_BATCH_ROWS)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"batch_rows\" must be between 1 and %d", MAX_BATCH_ROWS));
	if ((policy.anonymise != NULL) != (policy.action == RETENTION_ANONYMISE) ||
		(policy.anonymise != NULL && !JB_ROOT_IS_OBJECT(policy.anonymise)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("action \"anonymise\", and no other, needs the argument \"anonymise\""),
				errdetail("It is an object of columns and what they become."));

	policy.template = require_may_govern(relid);
	policy.schema = get_namespace_name(get_rel_namespace(relid));
	policy.table = get_rel_name(relid);
	check_action(&policy, relid);
	if (PG_ARGISNULL(2) && policy.template == NULL)
	{
		pg_uuid_t tenant;

		if (registry_relation_scope(relid, &tenant) != SCOPE_SHARED)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("table \"%s\" needs a period", policy.table),
					errdetail("It holds no rows of tenants, whose plans have one."));
	}
	PG_RETURN_DATUM(row_datum(
		gate_run(&retention_policy_put, EXPECT_ONE, gate_uuid(&policy.id), gate_text(policy.template),
				 gate_name(policy.schema), gate_name(policy.table),
				 gate_text(policy.time_expression), gate_argument(2),
				 gate_text(retention_action_name(policy.action)), gate_text(policy.legal_basis),
				 gate_int32(policy.batch_rows), gate_jsonb(policy.anonymise),
				 gate_text(policy.filter), gate_timestamptz(clock_now())),
		0, 0));
}

static pg_noreturn void
refuse_unknown(const pg_uuid_t *policy)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("retention policy \"%s\" does not exist", id_text(policy)));
}

/* retention_policy_remove(policy uuid) → tenancy.retention_policy */
TENANCY_FUNCTION(retention_policy_remove)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "policy");
	GateRows *rows;

	context_require_none("a retention policy");
	rows = gate_run(&retention_policy_delete, EXPECT_AT_MOST_ONE, gate_uuid(id));
	if (rows->count == 0)
		refuse_unknown(id);
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* retention_period_set(tenant regtenant, policy uuid, period interval) → tenancy.retention_period */
TENANCY_FUNCTION(retention_period_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	pg_uuid_t *policy = required_uuid(fcinfo, 1, "policy");
	GateRows *rows;

	context_require_none("a retention period");
	(void) registry_get(tenant);
	if (gate_run(&policy_is_template, EXPECT_AT_MOST_ONE, gate_uuid(policy))->count == 0)
		refuse_unknown(policy);
	if (PG_ARGISNULL(2))
	{
		rows = gate_run(&period_delete, EXPECT_AT_MOST_ONE, gate_uuid(policy), gate_uuid(tenant));
		if (rows->count == 0)
			PG_RETURN_NULL();
	}
	else
	{
		require_period(fcinfo, 2);
		rows = gate_run(&period_put, EXPECT_ONE, gate_uuid(policy), gate_uuid(tenant),
						gate_argument(2), gate_timestamptz(clock_now()));
	}
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
