/*
 * privacy/target.c
 *		Which tables, and whose rows, a retention policy is for now.
 *
 * A tenant's period is its own (tenancy.retention_period), else the policy's, else retention_days
 * of its configuration, else retention_days (or retention_period) of its plan's limits; -1 is
 * for ever.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/clock.h"
#include "privacy/policy.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/*
 * How many steps a table is away from the tables that all others refer to, at most: those that
 * refer come first.  Circles are cut where they are found.
 */
GATE_STATEMENT(policies_in_order,
			   "WITH RECURSIVE ref AS ("
			   "    SELECT DISTINCT k.conrelid AS child, k.confrelid AS parent"
			   "      FROM pg_catalog.pg_constraint k"
			   "     WHERE k.contype = 'f' AND k.conrelid <> k.confrelid),"
			   " own AS (SELECT p.id, c.oid FROM tenancy.retention_policy p"
			   "           JOIN pg_catalog.pg_namespace n ON n.nspname = p.schema_name"
			   "           JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
			   "                                     AND c.relname = p.table_name),"
			   " walk AS ("
			   "    SELECT o.id, o.oid, 0 AS depth, ARRAY[o.oid] AS path FROM own o"
			   "    UNION ALL"
			   "    SELECT w.id, r.parent, w.depth + 1, w.path || r.parent FROM walk w"
			   "      JOIN ref r ON r.child = w.oid WHERE r.parent <> ALL (w.path))"
			   " SELECT p.id, p.template, p.schema_name, p.table_name, p.time_expression, p.action,"
			   "        p.legal_basis, p.batch_rows, p.anonymise, p.filter"
			   "   FROM tenancy.retention_policy p"
			   "   LEFT JOIN (SELECT w.id, pg_catalog.max(w.depth) AS depth FROM walk w"
			   "               GROUP BY w.id) d ON d.id = p.id"
			   "  ORDER BY coalesce(d.depth, 0) DESC, p.id");

/* The shipped plans call it retention_days. */
#define PLAN_DAYS "coalesce(l.limits ->> 'retention_days', l.limits ->> 'retention_period')"
#define OWN_PERIOD                                                                                 \
	"coalesce(o.period, p.period,"                                                                 \
	"    pg_catalog.make_interval(days => (t.configuration #>> '{compliance,retention_days}')"     \
	"::integer),"                                                                                  \
	"    CASE WHEN (" PLAN_DAYS ")::numeric >= 0"                                                  \
	"         THEN least((" PLAN_DAYS ")::numeric, 365250) * interval '1 day' END)"
#define TENANTS_OF_POLICY                                                                          \
	"  FROM tenancy.retention_policy p"                                                            \
	"  JOIN tenancy.tenant t ON t.state NOT IN ('purging', 'purged')"                              \
	"  LEFT JOIN tenancy.retention_period o ON o.policy_id = p.id AND o.tenant_id = t.id"          \
	"  LEFT JOIN tenancy.plan l ON l.id = t.plan"
#define BY_TENANT                                                                                  \
	" WHERE p.id = $1 AND ($2 IS NULL OR t.id = $2) AND ($3 IS NULL OR t.id >= $3)"                \
	"   AND " OWN_PERIOD " IS NOT NULL ORDER BY t.id LIMIT $5"

GATE_STATEMENT(targets_of_template,
			   "SELECT c.oid, t.id, t.state = 'active', $4 - " OWN_PERIOD TENANTS_OF_POLICY
			   "  JOIN tenancy.tenant_schema s ON s.tenant_id = t.id AND s.schema_name = t.schema_name"
			   "  JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
			   "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.table_name"
			   "   AND c.relkind IN ('r', 'p') AND t.template = p.template" BY_TENANT,
			   UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(targets_of_shared,
			   "SELECT c.oid, t.id, t.state = 'active', $4 - " OWN_PERIOD TENANTS_OF_POLICY
			   "  JOIN pg_catalog.pg_namespace n ON n.nspname = p.schema_name"
			   "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.table_name"
			   BY_TENANT,
			   UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID);
/* A table as a whole: by the longest period, and not at all where one of its tenants has none. */
GATE_STATEMENT(targets_whole,
			   "SELECT CASE WHEN NOT $3 THEN $2 - p.period"
			   "            WHEN pg_catalog.bool_or(" OWN_PERIOD " IS NULL) THEN NULL"
			   "            ELSE $2 - pg_catalog.max(" OWN_PERIOD ") END" TENANTS_OF_POLICY
			   " WHERE p.id = $1 GROUP BY p.period"
			   " UNION ALL SELECT $2 - p.period FROM tenancy.retention_policy p WHERE p.id = $1"
			   "   AND NOT EXISTS (SELECT FROM tenancy.tenant t"
			   "                    WHERE t.state NOT IN ('purging', 'purged'))",
			   UUIDOID, TIMESTAMPTZOID, BOOLOID);

static RetentionAction
action_of(const char *name)
{
	for (int i = RETENTION_ANONYMISE; i <= RETENTION_DROP_PARTITION; i++)
		if (strcmp(retention_action_name(i), name) == 0)
			return i;
	elog(ERROR, "unknown action \"%s\"", name);
}

Policy *
retention_policies(int *count)
{
	GateRows *rows = gate_run(&policies_in_order, EXPECT_ANY);
	Policy *policies = palloc0(sizeof(Policy) * Max(rows->count, 1));

	for (int64 i = 0; i < rows->count; i++)
		policies[i] = (Policy){
			.id = *row_uuid(rows, i, 0),
			.template = row_text(rows, i, 1),
			.schema = row_text(rows, i, 2),
			.table = row_text(rows, i, 3),
			.time_expression = row_text(rows, i, 4),
			.action = action_of(row_text(rows, i, 5)),
			.legal_basis = row_text(rows, i, 6),
			.batch_rows = row_int32(rows, i, 7),
			.anonymise = row_jsonb(rows, i, 8),
			.filter = row_text(rows, i, 9),
		};
	*count = (int) rows->count;
	return policies;
}

/* A table that is dropped or partitioned as a whole is one target, whoever has rows in it. */
static Target *
whole_target(const Policy *policy, Oid relid, bool is_shared, int *count)
{
	GateRows *rows = gate_run(&targets_whole, EXPECT_AT_MOST_ONE, gate_uuid(&policy->id),
							  gate_timestamptz(clock_now()), gate_bool(is_shared));
	Target *target = palloc0(sizeof(Target));

	*count = 0;
	if (rows->count == 0 || row_is_null(rows, 0, 0))
		return target;
	*target = (Target){.relid = relid, .cutoff = row_timestamptz(rows, 0, 0)};
	*count = 1;
	return target;
}

Target *
retention_targets(const Policy *policy, const pg_uuid_t *only, const pg_uuid_t *from, int limit,
			   int *count)
{
	Oid relid = InvalidOid;
	bool is_shared = false;
	GateRows *rows;
	Target *targets;

	*count = 0;
	if (policy->template == NULL)
	{
		pg_uuid_t tenant;

		relid = get_relname_relid(policy->table, get_namespace_oid(policy->schema, true));
		if (!OidIsValid(relid))
			return NULL;
		is_shared = registry_relation_scope(relid, &tenant) == SCOPE_SHARED;
		if (!is_shared || policy->action == RETENTION_DROP_PARTITION)
			return only != NULL ? NULL : whole_target(policy, relid, is_shared, count);
	}
	rows = gate_run(policy->template == NULL ? &targets_of_shared : &targets_of_template,
					EXPECT_ANY, gate_uuid(&policy->id), gate_uuid(only), gate_uuid(from),
					gate_timestamptz(clock_now()), gate_int32(limit));
	targets = palloc0(sizeof(Target) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
		targets[i] = (Target){
			.relid = DatumGetObjectId(row_datum(rows, i, 0)),
			.tenant = row_uuid(rows, i, 1),
			.is_shared = is_shared,
			.may_be_entered = row_bool(rows, i, 2),
			.cutoff = row_timestamptz(rows, i, 3),
		};
	*count = (int) rows->count;
	return targets;
}

/* A boundary as a time; what has none is as in UTC. */
static TimestampTz
as_time(const Const *boundary)
{
	Datum value = boundary->constvalue;

	if (boundary->consttype == DATEOID)
		value = DirectFunctionCall1(date_timestamp, value);
	/* The time of a timestamp is its count of microseconds, in UTC. */
	return DatumGetTimestampTz(value);
}

bool
retention_partition_end(Oid partition, TimestampTz *end)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(partition));
	bool is_null = true;
	Datum value = (Datum) 0;
	PartitionBoundSpec *bound;
	PartitionRangeDatum *upper;

	if (!HeapTupleIsValid(tuple))
		return false;
	value = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &is_null);
	bound = is_null ? NULL : stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(tuple);
	if (bound == NULL || bound->is_default || bound->strategy != PARTITION_STRATEGY_RANGE)
		return false;
	upper = linitial_node(PartitionRangeDatum, bound->upperdatums);
	if (upper->kind != PARTITION_RANGE_DATUM_VALUE)
		return false;
	*end = as_time(castNode(Const, upper->value));
	return true;
}
