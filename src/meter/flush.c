/*
 * meter/flush.c
 *		Moving statement counters from shared memory to tenancy.usage_hour.
 *
 * Each shared entry has totals and, of them, what was flushed.  A flush writes the
 * difference in one statement for all tenants and moves "flushed" only when its
 * transaction has committed: an abort loses nothing and counts nothing twice.  One
 * flush at a time per database, by a self-conflicting lock on the table that is held
 * to the end of the transaction.  A crash of the server takes the memory with it, and
 * so loses what was counted since the last flush.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "job/kind.h"
#include "meter/meter.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#define COUNTER_COLUMNS                                                                            \
	"calls, rows, elapsed_us, cpu_us, blocks_hit, blocks_read, blocks_dirtied, blocks_written,"    \
	" temp_blocks_read, temp_blocks_written, wal_records, wal_bytes"

#define ADD(column) column " = h." column " + excluded." column

GATE_STATEMENT(usage_hour_add,
			   "INSERT INTO tenancy.usage_hour AS h (tenant_id, hour, " COUNTER_COLUMNS ")"
			   " SELECT u.tenant_id, $1, u.c1, u.c2, u.c3, u.c4, u.c5, u.c6, u.c7, u.c8, u.c9,"
			   "        u.c10, u.c11, u.c12"
			   "   FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
			   "     AS u(tenant_id, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12)"
			   " ON CONFLICT (tenant_id, hour) DO UPDATE SET " ADD("calls") ", " ADD("rows") ", "
			   ADD("elapsed_us") ", " ADD("cpu_us") ", " ADD("blocks_hit") ", "
			   ADD("blocks_read") ", " ADD("blocks_dirtied") ", " ADD("blocks_written") ", "
			   ADD("temp_blocks_read") ", " ADD("temp_blocks_written") ", "
			   ADD("wal_records") ", " ADD("wal_bytes"),
			   TIMESTAMPTZOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
			   INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
			   INT8ARRAYOID, INT8ARRAYOID);
GATE_STATEMENT(storage_measure_next,
			   "WITH next AS ("
			   "    SELECT t.id FROM tenancy.tenant t"
			   "      LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id"
			   "     WHERE t.schema_name IS NOT NULL AND t.state IN ('active', 'suspended', 'deactivated')"
			   "     ORDER BY m.measured_at NULLS FIRST LIMIT $1),"
			   " measured AS ("
			   "    SELECT n.id, coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint AS bytes"
			   "      FROM next n"
			   "      LEFT JOIN tenancy.tenant_schema s ON s.tenant_id = n.id"
			   "      LEFT JOIN pg_catalog.pg_namespace ns ON ns.nspname = s.schema_name"
			   "      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = ns.oid AND c.relkind IN ('r', 'm')"
			   "     GROUP BY n.id),"
			   " kept AS ("
			   "    INSERT INTO tenancy.storage_measurement (tenant_id, bytes, measured_at)"
			   "    SELECT m.id, m.bytes, $2 FROM measured m"
			   "    ON CONFLICT (tenant_id) DO UPDATE SET bytes = excluded.bytes,"
			   "                                          measured_at = excluded.measured_at)"
			   " INSERT INTO tenancy.usage_hour AS h (tenant_id, hour, storage_bytes)"
			   " SELECT m.id, $3, m.bytes FROM measured m"
			   " ON CONFLICT (tenant_id, hour) DO UPDATE"
			   "    SET storage_bytes = greatest(h.storage_bytes, excluded.storage_bytes)",
			   INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* What this transaction has written, to be marked as flushed when it commits. */
static struct
{
	int count; /* 0: nothing */
	MeterTotals *totals; /* in TopTransactionContext */
	SubTransactionId subtransaction;
} written;

static TimestampTz
hour_of(TimestampTz time)
{
	return time - (time % USECS_PER_HOUR + USECS_PER_HOUR) % USECS_PER_HOUR;
}

static NullableDatum
uuid_array(const MeterTotals *totals, int count)
{
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		elements[i] = UUIDPGetDatum(&totals[i].tenant);
	return gate_datum(PointerGetDatum(
		construct_array(elements, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

static NullableDatum
delta_array(const MeterTotals *totals, int count, MeterCounter counter)
{
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(
			(int64) (totals[i].total.value[counter] - totals[i].flushed.value[counter]));
	return gate_datum(PointerGetDatum(
		construct_array(elements, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
}

/* The entries with something new, in front; how many. */
static int
keep_changed(MeterTotals *totals, int count)
{
	int changed = 0;

	for (int i = 0; i < count; i++)
	{
		if (memcmp(&totals[i].total, &totals[i].flushed, sizeof(MeterCounts)) != 0)
			totals[changed++] = totals[i];
	}
	return changed;
}

int64
meter_flush(void)
{
	NullableDatum arguments[2 + METER_COUNTERS];
	MemoryContext previous;
	MeterTotals *totals;
	int count;

	extension_require();
	LockRelationOid(extension_relation("usage_hour"), ShareUpdateExclusiveLock);
	if (written.count > 0)
		return 0;

	meter_collect(MyDatabaseId);
	previous = MemoryContextSwitchTo(TopTransactionContext);
	totals = meter_read(MyDatabaseId, &count);
	MemoryContextSwitchTo(previous);
	count = keep_changed(totals, count);
	if (count == 0)
		return 0;

	arguments[0] = gate_timestamptz(hour_of(clock_now()));
	arguments[1] = uuid_array(totals, count);
	for (int i = 0; i < METER_COUNTERS; i++)
		arguments[2 + i] = delta_array(totals, count, i);
	gate_run_array(&usage_hour_add, EXPECT_ANY, arguments, lengthof(arguments));

	written.totals = totals;
	written.count = count;
	written.subtransaction = GetCurrentSubTransactionId();
	return count;
}

void
meter_flush_transaction_event(XactEvent event)
{
	if (event == XACT_EVENT_COMMIT)
	{
		for (int i = 0; i < written.count; i++)
			meter_set_flushed(MyDatabaseId, &written.totals[i].tenant, &written.totals[i].total);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		written.count = 0;
}

void
meter_flush_subtransaction_event(SubXactEvent event, SubTransactionId self, SubTransactionId parent)
{
	if (written.count == 0 || written.subtransaction != self)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		written.count = 0;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		written.subtransaction = parent;
}

int64
meter_measure_storage(int max_tenants)
{
	return gate_run(&storage_measure_next, EXPECT_ANY, gate_int32(max_tenants),
					gate_timestamptz(clock_now()), gate_timestamptz(hour_of(clock_now())))
		->count;
}

static void
run_flush_job(void)
{
	(void) meter_flush();
}

#define TENANTS_PER_MEASUREMENT 100

static void
run_storage_job(void)
{
	(void) meter_measure_storage(TENANTS_PER_MEASUREMENT);
}

static const JobKind flush_job = {
	.name = "metering.flush",
	.run = run_flush_job,
	.every_seconds = 0, /* whenever there is something */
	.has_work = meter_has_pending,
	.description = "moves statement counters from shared memory to tenancy.usage_hour",
};

static const JobKind storage_job = {
	.name = "storage.measure",
	.run = run_storage_job,
	.every_seconds = 300,
	.description = "measures the storage of the tenants measured least recently",
};

void
meter_flush_init(void)
{
	job_kind_register(&flush_job);
	job_kind_register(&storage_job);
}

/* usage_flush() → bigint */
TENANCY_FUNCTION(usage_flush)
{
	PG_RETURN_INT64(meter_flush());
}

/* storage_measure(max_tenants int) → bigint */
TENANCY_FUNCTION(storage_measure)
{
	int32 max_tenants = PG_GETARG_INT32(0);

	if (max_tenants < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_tenants\" must be at least 1"));
	PG_RETURN_INT64(meter_measure_storage(max_tenants));
}

/* tenancy.tenant_stat_read() → TABLE(tenant_id uuid, twelve counters bigint) */
TENANCY_FUNCTION(tenant_stat_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MeterTotals *totals;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	meter_collect(MyDatabaseId);
	totals = meter_read(MyDatabaseId, &count);
	for (int i = 0; i < count; i++)
	{
		Datum values[1 + METER_COUNTERS];
		bool nulls[1 + METER_COUNTERS] = {false};

		values[0] = UUIDPGetDatum(&totals[i].tenant);
		for (int c = 0; c < METER_COUNTERS; c++)
			values[1 + c] = Int64GetDatum((int64) totals[i].total.value[c]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
