/*
 * limit/quota_count.c
 *		Metrics that are the number of rows of tables, exact under concurrency.
 *
 * Triggers FOR EACH STATEMENT with transition tables see what a statement really added or
 * took away, ON CONFLICT, COPY, MERGE and cascades included, whatever its size.  TRUNCATE and
 * what is dropped have none: there the rows are counted before they go.  Which tables have the
 * triggers: quota_table.c.
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
#include "core/function.h"
#include "core/id.h"
#include "limit/quota.h"
#include "limit/quota_table.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#define TENANT_COLUMN "tenant_id"

/* The tables that count for a metric: those with our trigger, of a tenant, shared, or our own. */
GATE_STATEMENT(counted_tables,
			   "SELECT DISTINCT c.oid FROM pg_catalog.pg_trigger g"
			   "  JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid AND c.relkind IN ('r', 'p')"
			   "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
			   " WHERE g.tgfoid = 'tenancy.quota_count()'::pg_catalog.regprocedure"
			   "   AND pg_catalog.encode(g.tgargs, 'escape') = $2 || '\\000'"
			   "   AND (EXISTS (SELECT FROM tenancy.tenant_schema s WHERE s.tenant_id = $1"
			   "                   AND s.schema_name = n.nspname)"
			   "        OR EXISTS (SELECT FROM tenancy.tenant_table t WHERE t.relation = c.oid)"
			   "        OR n.nspname = 'tenancy') ORDER BY 1",
			   UUIDOID, TEXTOID);

/* How many rows of a table each tenant has. */
typedef struct TenantRows
{
	pg_uuid_t tenant;
	int64 rows;
} TenantRows;

/* Whose rows a table holds: a tenant's, or, by their column, those of many. */
static bool
tells_tenants_apart(Oid relid, pg_uuid_t *tenant, AttrNumber *column)
{
	*column = InvalidAttrNumber;
	switch (registry_relation_scope(relid, tenant))
	{
		case SCOPE_TENANT:
			return true;
		case SCOPE_SHARED:
			*column = get_attnum(relid, TENANT_COLUMN);
			return true;
		case SCOPE_NONE:
		case SCOPE_UNFILTERED:
			break;
	}
	/* Our own tables are no tenant's. */
	if (get_rel_namespace(relid) == extension_tables_schema())
		*column = get_attnum(relid, TENANT_COLUMN);
	return *column != InvalidAttrNumber;
}

static void
add_row(HTAB *counts, const pg_uuid_t *tenant)
{
	bool is_found;
	TenantRows *entry = hash_search(counts, tenant, HASH_ENTER, &is_found);

	entry->rows = is_found ? entry->rows + 1 : 1;
}

/*
 * The rows of one table, without its children, by tenant; NULL for none.  Of others' changes
 * what is committed counts, and of this transaction's own either all or none.
 */
static HTAB *
count_rows(Oid relid, bool with_own)
{
	HASHCTL control = {.keysize = sizeof(pg_uuid_t),
					   .entrysize = sizeof(TenantRows),
					   .hcxt = CurrentMemoryContext};
	Relation relation = try_table_open(relid, AccessShareLock);
	AttrNumber column;
	pg_uuid_t owner;
	Snapshot snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	HTAB *counts = NULL;

	/* It was dropped meanwhile, or its partitions have the rows. */
	if (relation == NULL)
		return NULL;
	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		RelationGetNumberOfBlocks(relation) == 0 || !tells_tenants_apart(relid, &owner, &column))
	{
		table_close(relation, AccessShareLock);
		return NULL;
	}
	counts = hash_create("pg_tenancy rows", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	snapshot->curcid = with_own ? GetCurrentCommandId(false) : FirstCommandId;
	scan = table_beginscan(relation, snapshot, 0, NULL);
	slot = table_slot_create(relation, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool is_null;
		Datum value;

		CHECK_FOR_INTERRUPTS();
		if (column == InvalidAttrNumber)
		{
			add_row(counts, &owner);
			continue;
		}
		value = slot_getattr(slot, column, &is_null);
		if (!is_null)
			add_row(counts, DatumGetUUIDP(value));
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, AccessShareLock);
	return counts;
}

static int64
rows_of(HTAB *counts, const pg_uuid_t *tenant)
{
	TenantRows *entry = counts == NULL ? NULL : hash_search(counts, tenant, HASH_FIND, NULL);
	int64 rows = entry == NULL ? 0 : entry->rows;

	if (counts != NULL)
		hash_destroy(counts);
	return rows;
}

static int64
count_committed(const QuotaKey *key, LOCKMODE lock)
{
	GateRows *rows =
		gate_run(&counted_tables, EXPECT_ANY, gate_uuid(&key->tenant), gate_text(key->metric));
	int64 count = 0;

	if (lock != NoLock)
		for (int64 i = 0; i < rows->count; i++)
			LockRelationOid(DatumGetObjectId(row_datum(rows, i, 0)), lock);
	for (int64 i = 0; i < rows->count; i++)
		count += rows_of(count_rows(DatumGetObjectId(row_datum(rows, i, 0)), false), &key->tenant);
	return count;
}

/* False where there is no room in shared memory. */
static bool
ensure_counted(const QuotaKey *key)
{
	Oid table = extension_relation("quota");
	uint32 object = hash_bytes((const unsigned char *) key, sizeof(*key));
	bool is_counted;

	if (likely(quota_is_counted(key)))
		return true;
	/* A lock on no object in particular: of our table's class, by the hash of the key. */
	LockDatabaseObject(table, object, 1, ExclusiveLock);
	is_counted =
		quota_is_counted(key) || quota_set_counted(key, count_committed(key, NoLock) * QUOTA_UNIT);
	UnlockDatabaseObject(table, object, 1, ExclusiveLock);
	return is_counted;
}

/* More rows, or fewer.  Nothing holds up a delete: who has no entry is counted when there is room.
 */
static void
change(const pg_uuid_t *tenant, const char *metric, int64 rows)
{
	QuotaKey key;
	const Quota *quota;
	int64 used;

	if (rows == 0)
		return;
	quota_make_key(&key, tenant, metric);
	if (!ensure_counted(&key))
	{
		if (rows > 0)
			ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("out of shared memory for quotas"),
					errhint("Raise \"tenancy.max_tenants\"."));
		return;
	}
	if (rows < 0)
	{
		quota_give_back(&key, -rows * QUOTA_UNIT);
		return;
	}
	quota = quota_find(tenant, metric);
	if (!quota_reserve(&key, rows * QUOTA_UNIT, quota == NULL ? QUOTA_NONE : quota->hard, &used))
		quota_refuse(tenant, quota, used, rows * QUOTA_UNIT);
}

/* Without a context the rows of a shared table may be those of any tenants. */
static void
change_each(Relation relation, Tuplestorestate *rows, const char *metric, int sign)
{
	AttrNumber column = get_attnum(RelationGetRelid(relation), TENANT_COLUMN);
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsMinimalTuple);
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
			change(&tenant, metric, sign * count);
			count = 0;
		}
		tenant = *DatumGetUUIDP(value);
		count++;
	}
	change(&tenant, metric, sign * count);
	ExecDropSingleTupleTableSlot(slot);
}

void
quota_count_prepare(Oid relid, const char *metric)
{
	HTAB *counts = count_rows(relid, true);
	HASH_SEQ_STATUS scan;
	TenantRows *entry;

	if (counts == NULL)
		return;
	hash_seq_init(&scan, counts);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		QuotaKey key;

		quota_make_key(&key, &entry->tenant, metric);
		(void) ensure_counted(&key);
	}
	hash_destroy(counts);
}

void
quota_count_existing(Oid relid, const char *metric, int sign)
{
	HTAB *counts = count_rows(relid, true);
	HASH_SEQ_STATUS scan;
	TenantRows *entry;

	if (counts == NULL)
		return;
	hash_seq_init(&scan, counts);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		QuotaKey key;

		quota_make_key(&key, &entry->tenant, metric);
		/* Where nothing is known yet, what is gone by then is not counted. */
		if (sign < 0 && !quota_is_counted(&key))
			continue;
		/* A tenant passes no limit by this either; who operates may take a table as it is. */
		if (context_tenant() != NULL || sign < 0)
			change(&entry->tenant, metric, sign * entry->rows);
		else if (ensure_counted(&key))
		{
			int64 used;

			(void) quota_reserve(&key, entry->rows * QUOTA_UNIT, QUOTA_NONE, &used);
		}
	}
	hash_destroy(counts);
}

int64
quota_count_again(const pg_uuid_t *tenant, const char *metric)
{
	QuotaKey key;
	int64 count;

	quota_make_key(&key, tenant, metric);
	if (quota_has_reserved(&key))
		ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("this transaction has changed what is to be counted"));
	/* Who has changed rows holds a lock on their table until what it reserved is settled. */
	count = count_committed(&key, ShareRowExclusiveLock);
	if (!quota_set_counted(&key, count * QUOTA_UNIT))
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("out of shared memory for quotas"),
				errhint("Raise \"tenancy.max_tenants\"."));
	return count;
}

static void
before_truncate(Oid relid, const char *metric)
{
	pg_uuid_t tenant;
	AttrNumber column;

	if (!tells_tenants_apart(relid, &tenant, &column))
		return;
	if (column != InvalidAttrNumber)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot truncate table \"%s\", whose rows are counted for many tenants",
					   get_rel_name(relid)),
				errhint("quota_uncount_table() first, and quota_count_table() again later."));
	quota_count_existing(relid, metric, -1);
}

static void
on_statement(TriggerData *trigger, const char *metric)
{
	int sign = TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? -1 : 1;
	Tuplestorestate *rows = sign < 0 ? trigger->tg_oldtable : trigger->tg_newtable;
	pg_uuid_t tenant;
	AttrNumber column;

	if (rows == NULL)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("trigger \"%s\" has no transition table", trigger->tg_trigger->tgname));
	/* A table of a template belongs to nobody. */
	if (!tells_tenants_apart(RelationGetRelid(trigger->tg_relation), &tenant, &column))
		return;
	if (column == InvalidAttrNumber)
		change(&tenant, metric, sign * tuplestore_tuple_count(rows));
	else
		change_each(trigger->tg_relation, rows, metric, sign);
}

/* tenancy.quota_count(): the trigger; its argument is the metric */
TENANCY_FUNCTION(quota_count)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TriggerEvent event = CALLED_AS_TRIGGER(fcinfo) ? trigger->tg_event : 0;

	bool is_row = (event & TRIGGER_EVENT_ROW) != 0;
	bool is_after = TRIGGER_FIRED_AFTER(event);

	/* After inserting and deleting, before truncating, and before a row is updated. */
	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1 ||
		is_row != TRIGGER_FIRED_BY_UPDATE(event) ||
		is_after != (TRIGGER_FIRED_BY_INSERT(event) || TRIGGER_FIRED_BY_DELETE(event)))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("quota_count() is not called as quota_count_table() makes its triggers"));
	if (TRIGGER_FIRED_BY_UPDATE(event))
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a row of table \"%s\" cannot move to another tenant",
					   RelationGetRelationName(trigger->tg_relation)),
				errdetail("The rows of each tenant are counted."),
				errhint("Delete it, and insert it for the other tenant."));
	if (TRIGGER_FIRED_BY_TRUNCATE(event))
		before_truncate(RelationGetRelid(trigger->tg_relation), trigger->tg_trigger->tgargs[0]);
	else
		on_statement(trigger, trigger->tg_trigger->tgargs[0]);
	PG_RETURN_POINTER(NULL);
}
