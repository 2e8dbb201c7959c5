/*
 * meter/shared_storage.c
 *		How much of the shared tables is each tenant's: for tenants without a schema.
 *
 * A sample of blocks of each table says which share of its bytes is whose; the sizes of the table,
 * its indexes and its TOAST are divided by these shares.  The tables sampled least recently come
 * first, until the time of a run is over; a tenant has the sum of its shares.  A table that somebody
 * has locked for himself, or an index of it, is passed over, which is noted, and has its turn again in
 * the next run.  The blocks are read directly, past
 * row security, by nobody's rights but ours, and nothing of them but sizes and tenant ids is
 * looked at.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "meter/meter.h"
#include "meter/relation_size.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define TENANT_COLUMN "tenant_id"
#define SAMPLED_BLOCKS 300 /* of a table; a smaller one is read whole */

GATE_STATEMENT(shared_tables, "SELECT c.oid, n.nspname, c.relname FROM tenancy.tenant_table t"
							  "  JOIN pg_catalog.pg_class c ON c.oid = t.relation::pg_catalog.oid"
							  "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
							  "  JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'heap'"
							  "  LEFT JOIN tenancy.shared_table_measurement m"
							  "    ON m.schema_name = n.nspname AND m.relation_name = c.relname"
							  " WHERE c.relkind = 'r' ORDER BY m.measured_at NULLS FIRST, c.oid");
GATE_STATEMENT(
	shared_table_keep,
	"WITH gone AS ("
	"    DELETE FROM tenancy.tenant_relation_storage r"
	"     WHERE r.schema_name = $1 AND r.relation_name = $2 AND r.is_shared"
	"       AND r.tenant_id <> ALL ($3)),"
	" listed AS ("
	"    INSERT INTO tenancy.tenant_relation_storage (tenant_id, schema_name, relation_name,"
	"        is_shared, heap_bytes, index_bytes, toast_bytes, measured_at)"
	"    SELECT u.id, $1, $2, true, u.heap, u.index, u.toast, $7"
	"      FROM unnest($3, $4, $5, $6) AS u(id, heap, index, toast)"
	"      JOIN tenancy.tenant t ON t.id = u.id"
	"       AND t.state IN ('active', 'suspended', 'deactivated') ORDER BY u.id"
	"    ON CONFLICT (tenant_id, schema_name, relation_name) DO UPDATE"
	"       SET is_shared = true, heap_bytes = excluded.heap_bytes,"
	"           index_bytes = excluded.index_bytes, toast_bytes = excluded.toast_bytes,"
	"           measured_at = excluded.measured_at)"
	" INSERT INTO tenancy.shared_table_measurement (schema_name, relation_name, measured_at)"
	" VALUES ($1, $2, $7)"
	" ON CONFLICT (schema_name, relation_name) DO UPDATE"
	"    SET measured_at = excluded.measured_at, skipped_at = NULL",
	NAMEOID, NAMEOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(shared_table_skip,
			   "INSERT INTO tenancy.shared_table_measurement (schema_name, relation_name, skipped_at)"
			   " VALUES ($1, $2, $3)"
			   " ON CONFLICT (schema_name, relation_name) DO UPDATE"
			   "    SET skipped_at = excluded.skipped_at",
			   NAMEOID, NAMEOID, TIMESTAMPTZOID);
/* Tables that were dropped, renamed, or are not registered any more. */
#define NOT_SHARED                                                                                 \
	"NOT EXISTS (SELECT FROM tenancy.tenant_table t"                                               \
	"              JOIN pg_catalog.pg_class c ON c.oid = t.relation::pg_catalog.oid"               \
	"              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                       \
	"             WHERE n.nspname = m.schema_name AND c.relname = m.relation_name)"
GATE_STATEMENT(shared_table_forget,
			   "WITH gone AS (DELETE FROM tenancy.shared_table_measurement m WHERE " NOT_SHARED
			   "              RETURNING m.schema_name, m.relation_name)"
			   " DELETE FROM tenancy.tenant_relation_storage r USING gone g"
			   "  WHERE r.schema_name = g.schema_name AND r.relation_name = g.relation_name"
			   "    AND r.is_shared");
GATE_STATEMENT(
	shared_storage_keep,
	"WITH measured AS ("
	"    SELECT t.id, coalesce(sum(r.total_bytes), 0)::bigint AS bytes FROM tenancy.tenant t"
	"      LEFT JOIN tenancy.tenant_relation_storage r ON r.tenant_id = t.id"
	"     WHERE t.schema_name IS NULL AND t.state IN ('active', 'suspended', 'deactivated')"
	"     GROUP BY t.id),"
	" kept AS ("
	"    INSERT INTO tenancy.storage_measurement (tenant_id, bytes, measured_at)"
	"    SELECT m.id, m.bytes, $1 FROM measured m ORDER BY m.id"
	"    ON CONFLICT (tenant_id) DO UPDATE SET bytes = excluded.bytes,"
	"                                          measured_at = excluded.measured_at)"
	" MERGE INTO tenancy.usage_hour AS h USING measured AS m"
	"    ON h.tenant_id = m.id AND h.hour = $2"
	"  WHEN MATCHED THEN UPDATE SET storage_bytes = greatest(h.storage_bytes, m.bytes)"
	"  WHEN NOT MATCHED THEN INSERT (tenant_id, hour, storage_bytes) VALUES (m.id, $2, m.bytes)",
	TIMESTAMPTZOID, TIMESTAMPTZOID);

typedef struct Share
{
	pg_uuid_t tenant;
	double sampled; /* bytes */
} Share;

static HTAB *
make_shares(void)
{
	HASHCTL control = {
		.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Share), .hcxt = CurrentMemoryContext};

	return hash_create("pg_tenancy shared storage", 256, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static double
read_blocks(Relation relation, Snapshot snapshot, BlockNumber start, BlockNumber count,
			AttrNumber column, HTAB *shares)
{
	TableScanDesc scan = table_beginscan_strat(relation, snapshot, 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	double total = 0;

	heap_setscanlimits(scan, start, count);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool is_null;
		bool is_found;
		Datum tenant = slot_getattr(slot, column, &is_null);
		Share *share;
		HeapTuple tuple;

		if (is_null)
			continue;
		share = hash_search(shares, DatumGetUUIDP(tenant), HASH_ENTER, &is_found);
		if (!is_found)
			share->sampled = 0;
		tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		share->sampled += tuple->t_len + sizeof(ItemIdData);
		total += tuple->t_len + sizeof(ItemIdData);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return total;
}

/* What was sampled of a table; all of it. */
static double
sample(Relation relation, HTAB *shares)
{
	AttrNumber column = get_attnum(RelationGetRelid(relation), TENANT_COLUMN);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	BlockNumber blocks = RelationGetNumberOfBlocks(relation);
	double total = 0;

	if (column != InvalidAttrNumber && blocks > 0 && blocks <= SAMPLED_BLOCKS)
		total = read_blocks(relation, snapshot, 0, blocks, column, shares);
	else if (column != InvalidAttrNumber)
	{
		/* One block at random of each of so many equal parts. */
		for (int i = 0; i < SAMPLED_BLOCKS && blocks > 0; i++)
		{
			BlockNumber from = (uint64) blocks * i / SAMPLED_BLOCKS;
			BlockNumber to = (uint64) blocks * (i + 1) / SAMPLED_BLOCKS;

			CHECK_FOR_INTERRUPTS();
			total += read_blocks(
				relation, snapshot,
				from + (BlockNumber) pg_prng_uint64_range(&pg_global_prng_state, 0, to - from - 1),
				1, column, shares);
		}
	}
	UnregisterSnapshot(snapshot);
	return total;
}

/* The sizes of a table become shares. */
static void
keep_shares(const RelationSize *size, const char *schema, const char *name, HTAB *shares,
			double total)
{
	int64 count = hash_get_num_entries(shares);
	pg_uuid_t *tenants = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	int64 *heap = palloc(sizeof(int64) * Max(count, 1));
	int64 *index = palloc(sizeof(int64) * Max(count, 1));
	int64 *toast = palloc(sizeof(int64) * Max(count, 1));
	HASH_SEQ_STATUS scan;
	Share *share;
	int n = 0;

	hash_seq_init(&scan, shares);
	while ((share = hash_seq_search(&scan)) != NULL)
	{
		double part = share->sampled / total;

		tenants[n] = share->tenant;
		heap[n] = (int64) (part * size->heap);
		index[n] = (int64) (part * size->index);
		toast[n++] = (int64) (part * size->toast);
	}
	(void) gate_run(&shared_table_keep, EXPECT_ONE, gate_name(schema), gate_name(name),
					gate_uuid_array(tenants, n), gate_int64_array(heap, n),
					gate_int64_array(index, n), gate_int64_array(toast, n),
					gate_timestamptz(clock_now()));
}

/* The lock is kept to the end: sizes are those of the table that was sampled. */
static void
measure_table(Oid relid, const char *schema, const char *name)
{
	RelationSize size;
	Relation relation = NULL;

	if (ConditionalLockRelationOid(relid, AccessShareLock))
	{
		relation = try_relation_open(relid, NoLock);
		/* It was dropped meanwhile. */
		if (relation == NULL)
			return;
	}
	if (relation == NULL || !relation_size_of(relation, &size))
		(void) gate_run(&shared_table_skip, EXPECT_ONE, gate_name(schema), gate_name(name),
						gate_timestamptz(clock_now()));
	else
	{
		HTAB *shares = make_shares();
		double total = sample(relation, shares);

		keep_shares(&size, schema, name, shares, total);
		hash_destroy(shares);
	}
	if (relation != NULL)
		relation_close(relation, NoLock);
}

int64
meter_measure_shared_storage(int64 deadline_us)
{
	GateRows *tables;
	TimestampTz now = clock_now();

	(void) gate_run_array(&shared_table_forget, EXPECT_ANY, NULL, 0);
	tables = gate_run_array(&shared_tables, EXPECT_ANY, NULL, 0);
	for (int64 i = 0; i < tables->count; i++)
	{
		measure_table(DatumGetObjectId(row_datum(tables, i, 0)), row_text(tables, i, 1),
					  row_text(tables, i, 2));
		if (meter_clock() >= deadline_us)
			break;
	}
	return gate_run(&shared_storage_keep, EXPECT_ANY, gate_timestamptz(now),
					gate_timestamptz(meter_hour_of(now)))
		->count;
}
