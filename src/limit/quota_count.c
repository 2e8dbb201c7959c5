/*
 * limit/quota_count.c
 *		Metrics that are the number of rows of tables, exact under concurrency.
 *
 * Triggers FOR EACH STATEMENT with transition tables see what a statement really added or
 * took away, ON CONFLICT, COPY, MERGE and cascades included, whatever its size.  They travel with
 * a template, so that each tenant's copy of the table counts for that tenant.
 *
 * The first touch after a restart counts the rows.  Whoever comes meanwhile waits for a lock
 * that is released as soon as the count is known; nobody's rows can be missed, for nobody can
 * commit rows without coming here.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "limit/quota.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#define TENANT_COLUMN "tenant_id"
#define TRIGGER_NAME "tenancy_quota"

/* The tables that count for a metric: those with our trigger, of a tenant or shared. */
GATE_STATEMENT(counted_tables,
			   "SELECT DISTINCT c.oid FROM pg_catalog.pg_trigger g"
			   "  JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid AND c.relkind IN ('r', 'p')"
			   "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
			   " WHERE g.tgfoid = 'tenancy.quota_count()'::pg_catalog.regprocedure"
			   "   AND pg_catalog.encode(g.tgargs, 'escape') = $2 || '\\000'"
			   "   AND (EXISTS (SELECT FROM tenancy.tenant_schema s WHERE s.tenant_id = $1"
			   "                   AND s.schema_name = n.nspname)"
			   "        OR EXISTS (SELECT FROM tenancy.tenant_table t WHERE t.relation = c.oid))",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(count_metric,
			   "SELECT m.aggregation IN ('max', 'latest') FROM tenancy.metric m WHERE m.name = $1",
			   TEXTOID);

/* Rows that are committed; those of a tenant alone where the table is shared. */
static int64
count_rows(Oid relid, const pg_uuid_t *tenant)
{
	Relation relation = table_open(relid, AccessShareLock);
	AttrNumber column = InvalidAttrNumber;
	pg_uuid_t owner;
	Snapshot snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64 count = 0;

	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		table_close(relation, AccessShareLock);
		return 0; /* its partitions have triggers of their own */
	}
	if (registry_relation_scope(relid, &owner) == SCOPE_SHARED)
		column = get_attnum(relid, TENANT_COLUMN);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* As it was before this transaction, whose own changes the triggers tell. */
	snapshot->curcid = FirstCommandId;
	scan = table_beginscan(relation, snapshot, 0, NULL);
	slot = table_slot_create(relation, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool is_null = true;
		Datum value;

		CHECK_FOR_INTERRUPTS();
		if (column == InvalidAttrNumber)
		{
			count++;
			continue;
		}
		value = slot_getattr(slot, column, &is_null);
		if (!is_null && id_equal(DatumGetUUIDP(value), tenant))
			count++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	return count;
}

static void
ensure_counted(const QuotaKey *key)
{
	Oid table = extension_relation("quota");
	uint32 object = hash_bytes((const unsigned char *) key, sizeof(*key));
	GateRows *rows;
	int64 count = 0;

	if (likely(quota_is_counted(key)))
		return;
	/* A lock on no object in particular: of our table's class, by the hash of the key. */
	LockDatabaseObject(table, object, 0, ExclusiveLock);
	if (!quota_is_counted(key))
	{
		rows =
			gate_run(&counted_tables, EXPECT_ANY, gate_uuid(&key->tenant), gate_text(key->metric));
		for (int64 i = 0; i < rows->count; i++)
			count += count_rows(DatumGetObjectId(row_datum(rows, i, 0)), &key->tenant);
		quota_set_counted(key, count * QUOTA_UNIT);
	}
	UnlockDatabaseObject(table, object, 0, ExclusiveLock);
}

static void
change(const pg_uuid_t *tenant, const char *metric, int64 rows, TriggerEvent event)
{
	QuotaKey key;
	const Quota *quota;
	int64 used;

	if (rows == 0)
		return;
	quota_make_key(&key, tenant, metric);
	ensure_counted(&key);
	if (TRIGGER_FIRED_BY_DELETE(event))
	{
		quota_give_back(&key, rows * QUOTA_UNIT);
		return;
	}
	quota = quota_find(tenant, metric);
	if (!quota_reserve(&key, rows * QUOTA_UNIT, quota == NULL ? QUOTA_NONE : quota->hard, &used))
		quota_refuse(tenant, quota, used, rows * QUOTA_UNIT);
}

/* Without a context the rows of a shared table may be those of any tenants. */
static void
change_each(TriggerData *trigger, Tuplestorestate *rows, const char *metric)
{
	AttrNumber column = get_attnum(RelationGetRelid(trigger->tg_relation), TENANT_COLUMN);
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	pg_uuid_t tenant = {{0}};
	int64 count = 0;

	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool is_null;
		Datum value = slot_getattr(slot, column, &is_null);

		if (is_null)
			continue;
		if (count > 0 && !id_equal(DatumGetUUIDP(value), &tenant))
		{
			change(&tenant, metric, count, trigger->tg_event);
			count = 0;
		}
		tenant = *DatumGetUUIDP(value);
		count++;
	}
	change(&tenant, metric, count, trigger->tg_event);
	ExecDropSingleTupleTableSlot(slot);
}

static void
give_back_all(Oid relid, const char *metric)
{
	pg_uuid_t tenant;
	QuotaKey key;

	if (registry_relation_scope(relid, &tenant) != SCOPE_TENANT)
		ereport(
			ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("cannot truncate table \"%s\", whose rows are counted for many tenants",
				   get_rel_name(relid)),
			errhint("Drop the trigger " TRIGGER_NAME " first, and count the table again later."));
	quota_make_key(&key, &tenant, metric);
	ensure_counted(&key);
	(void) quota_give_back_all(&key);
}

/* tenancy.quota_count(): the trigger; its argument is the metric */
TENANCY_FUNCTION(quota_count)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Tuplestorestate *rows;
	pg_uuid_t tenant;
	const char *metric;
	Oid relid;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) || trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("quota_count() is a trigger AFTER … FOR EACH STATEMENT, with a metric"),
				errhint("quota_count_table() makes it."));
	metric = trigger->tg_trigger->tgargs[0];
	relid = RelationGetRelid(trigger->tg_relation);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		give_back_all(relid, metric);
		PG_RETURN_POINTER(NULL);
	}
	rows = TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? trigger->tg_oldtable : trigger->tg_newtable;
	if (rows == NULL)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("trigger \"%s\" has no transition table", trigger->tg_trigger->tgname));
	switch (registry_relation_scope(relid, &tenant))
	{
		case SCOPE_TENANT:
			change(&tenant, metric, tuplestore_tuple_count(rows), trigger->tg_event);
			break;
		case SCOPE_SHARED:
			/* In a context row security lets through rows of its tenant alone. */
			if (context_tenant() != NULL)
				change(context_tenant(), metric, tuplestore_tuple_count(rows), trigger->tg_event);
			else
				change_each(trigger, rows, metric);
			break;
		case SCOPE_NONE:
		case SCOPE_UNFILTERED:
			break; /* of a template */
	}
	PG_RETURN_POINTER(NULL);
}

static Oid
owner_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
make_triggers(Oid relid, const char *metric)
{
	static const struct
	{
		const char *event;
		const char *suffix;
		const char *transition;
	} events[] = {
		{"INSERT", "insert", " REFERENCING NEW TABLE AS added"},
		{"DELETE", "delete", " REFERENCING OLD TABLE AS removed"},
		{"TRUNCATE", "truncate", ""},
	};
	char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
											get_rel_name(relid));
	GateScope scope;

	gate_enter(&scope, owner_of(relid), "pg_catalog");
	for (int i = 0; i < lengthof(events); i++)
		gate_run_text(psprintf("CREATE OR REPLACE TRIGGER " TRIGGER_NAME "_%s AFTER %s ON %s%s"
							   " FOR EACH STATEMENT EXECUTE FUNCTION tenancy.quota_count(%s)",
							   events[i].suffix, events[i].event, name, events[i].transition,
							   quote_literal_cstr(metric)));
	gate_leave(&scope);
}

/* quota_count_table(metric text, relation regclass) → regclass */
TENANCY_FUNCTION(quota_count_table)
{
	char *metric = required_text(fcinfo, 0, "metric");
	Oid relid;
	GateRows *rows;
	ListCell *cell;
	int count = 0;

	require_argument(fcinfo, 1, "relation");
	context_require_none("counting a table");
	relid = PG_GETARG_OID(1);
	if (get_rel_relkind(relid) != RELKIND_RELATION &&
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("relation %u is not a table", relid));
	if (!compat_owns_relation(relid, GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of table \"%s\"", get_rel_name(relid)));
	rows = gate_run(&count_metric, EXPECT_AT_MOST_ONE, gate_text(metric));
	if (rows->count == 0 || !row_bool(rows, 0, 0))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist, or is no level", metric),
				errhint("metric_create(…, aggregation => 'max', carries_over => true) makes one."));
	foreach (cell, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
	{
		make_triggers(lfirst_oid(cell), metric);
		count++;
	}
	PG_RETURN_OID(relid);
}
