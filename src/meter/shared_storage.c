/*
 * meter/shared_storage.c
 *		How much of the shared tables is each tenant's: for tenants without a schema.
 *
 * A sample of blocks of each table says which share of its bytes is whose; the table's whole
 * size, with indexes and TOAST, is divided by these shares.  The blocks are read directly, past
 * row security, by nobody's rights but ours, and nothing of them but sizes and tenant ids is
 * looked at.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "meter/meter.h"
#include "meter/partition.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define TENANT_COLUMN "tenant_id"
#define SAMPLED_BLOCKS 300 /* of a table; a smaller one is read whole */

GATE_STATEMENT(shared_tables, "SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid)"
							  "  FROM tenancy.tenant_table t JOIN pg_catalog.pg_class c"
							  "    ON c.oid = t.relation::pg_catalog.oid"
							  "  JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'heap'"
							  " WHERE c.relkind = 'r' ORDER BY c.oid");
GATE_STATEMENT(
	shared_storage_keep,
	"WITH measured AS ("
	"    SELECT t.id, coalesce(u.bytes, 0) AS bytes FROM tenancy.tenant t"
	"      LEFT JOIN unnest($1, $2) AS u(id, bytes) ON u.id = t.id"
	"     WHERE t.schema_name IS NULL AND t.state IN ('active', 'suspended', 'deactivated')),"
	" kept AS ("
	"    INSERT INTO tenancy.storage_measurement (tenant_id, bytes, measured_at)"
	"    SELECT m.id, m.bytes, $3 FROM measured m ORDER BY m.id"
	"    ON CONFLICT (tenant_id) DO UPDATE SET bytes = excluded.bytes,"
	"                                          measured_at = excluded.measured_at)"
	" MERGE INTO tenancy.usage_hour AS h USING measured AS m"
	"    ON h.tenant_id = m.id AND h.hour = $4"
	"  WHEN MATCHED THEN UPDATE SET storage_bytes = greatest(h.storage_bytes, m.bytes)"
	"  WHEN NOT MATCHED THEN INSERT (tenant_id, hour, storage_bytes) VALUES (m.id, $4, m.bytes)",
	UUIDARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

typedef struct Share
{
	pg_uuid_t tenant;
	double sampled; /* bytes, of the table that is being read */
	double bytes;   /* of all tables */
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
			share->sampled = share->bytes = 0;
		tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		share->sampled += tuple->t_len + sizeof(ItemIdData);
		total += tuple->t_len + sizeof(ItemIdData);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return total;
}

/* What was sampled of a table becomes shares of its size. */
static void
divide(HTAB *shares, double total, int64 size)
{
	HASH_SEQ_STATUS scan;
	Share *share;

	hash_seq_init(&scan, shares);
	while ((share = hash_seq_search(&scan)) != NULL)
	{
		if (total > 0)
			share->bytes += share->sampled / total * size;
		share->sampled = 0;
	}
}

static void
sample(Oid relid, int64 size, HTAB *shares)
{
	Relation relation = try_relation_open(relid, AccessShareLock);
	AttrNumber column = get_attnum(relid, TENANT_COLUMN);
	Snapshot snapshot;
	BlockNumber blocks;
	double total = 0;

	/* It was dropped meanwhile. */
	if (relation == NULL)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	blocks = RelationGetNumberOfBlocks(relation);
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
	relation_close(relation, AccessShareLock);
	divide(shares, total, size);
}

int64
meter_measure_shared_storage(void)
{
	HTAB *shares = make_shares();
	GateRows *tables = gate_run_array(&shared_tables, EXPECT_ANY, NULL, 0);
	HASH_SEQ_STATUS scan;
	Share *share;
	pg_uuid_t *tenants;
	int64 *bytes;
	int count = 0;
	TimestampTz now = clock_now();

	for (int64 i = 0; i < tables->count; i++)
		sample(DatumGetObjectId(row_datum(tables, i, 0)), row_int64(tables, i, 1), shares);

	tenants = palloc(sizeof(pg_uuid_t) * Max(hash_get_num_entries(shares), 1));
	bytes = palloc(sizeof(int64) * Max(hash_get_num_entries(shares), 1));
	hash_seq_init(&scan, shares);
	while ((share = hash_seq_search(&scan)) != NULL)
	{
		tenants[count] = share->tenant;
		bytes[count++] = (int64) share->bytes;
	}
	hash_destroy(shares);
	meter_lock_hours();
	partition_ensure(USAGE_HOUR, now);
	return gate_run(&shared_storage_keep, EXPECT_ANY, gate_uuid_array(tenants, count),
					gate_int64_array(bytes, count), gate_timestamptz(now),
					gate_timestamptz(meter_hour_of(now)))
		->count;
}
