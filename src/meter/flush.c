/*
 * meter/flush.c
 *		Moving statement counters from shared memory to tables.
 *
 * Each shared entry has totals and, of them, what was flushed.  A flush writes the
 * difference, by the hour and by the minute, in a statement each for all tenants, and the
 * histograms of latencies in a third; it moves "flushed" only when its transaction has
 * committed: an abort loses nothing and counts nothing twice.  It cannot be prepared, for
 * nobody would hear of its commit.  A crash of the server takes the memory with it, and so
 * loses what was counted since the last flush.
 *
 * Lock rules.  One writer at a time per database to usage_hour and the like, by a heavyweight
 * lock that is held to the end of the transaction (meter_lock_hours).
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "job/kind.h"
#include "meter/latency.h"
#include "meter/meter.h"
#include "meter/overflow.h"
#include "meter/partition.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define NAME(name, column, n) ", " #column
#define NEW(name, column, n) ", u." #column
#define PARAMETER(name, column, n) ", $" #n
#define SUM(name, column, n) ", " #column " = h." #column " + u." #column
#define TYPE(name, column, n) , INT8ARRAYOID
#define COLUMNS METER_COUNTER_LIST(NAME)

#define FIRST_COUNTER 4 /* of the parameters */
#define CHECK(name, column, n)                                                                     \
	StaticAssertDecl(METER_##name + FIRST_COUNTER == n, "parameters are numbered in their order");
METER_COUNTER_LIST(CHECK)

/* The tables have no key of their own, but their parts (partition.c): hence no ON CONFLICT. */
#define USAGE_ADD(table, time)                                                                     \
	"MERGE INTO tenancy." table " AS h"                                                            \
	" USING unnest($2, $3" METER_COUNTER_LIST(                                                     \
		PARAMETER) ") AS u(tenant_id, memory_bytes" COLUMNS                                        \
				   ")    ON h.tenant_id = u.tenant_id AND h." time " = $1"                         \
				   "  WHEN MATCHED THEN UPDATE"                                                    \
				   "   SET memory_bytes = greatest(h.memory_bytes, "                               \
				   "u.memory_bytes)" METER_COUNTER_LIST(                                           \
					   SUM) "  WHEN NOT MATCHED THEN INSERT (tenant_id, " time                     \
							", memory_bytes" COLUMNS                                               \
							") VALUES (u.tenant_id, $1, u.memory_bytes" METER_COUNTER_LIST(        \
								NEW) ")",                                                          \
		TIMESTAMPTZOID, UUIDARRAYOID, INT8ARRAYOID METER_COUNTER_LIST(TYPE)

GATE_STATEMENT(usage_minute_add, USAGE_ADD("usage_minute", "minute"));
GATE_STATEMENT(usage_hour_add, USAGE_ADD("usage_hour", "hour"));

/* All histograms are one array, of which each tenant has the part from $4 to $5. */
GATE_STATEMENT(
	latency_add,
	"MERGE INTO tenancy.latency_hour AS h"
	" USING (SELECT n.tenant_id, n.statements, ($6)[n.first:n.last] AS histogram"
	"          FROM unnest($2, $3, $4, $5) AS n(tenant_id, statements, first, last)) AS u"
	"    ON h.tenant_id = u.tenant_id AND h.hour = $1"
	"  WHEN MATCHED THEN UPDATE"
	"   SET statements = h.statements + u.statements,"
	"       histogram = tenancy.latency_merge(h.histogram, u.histogram)"
	"  WHEN NOT MATCHED THEN INSERT (tenant_id, hour, statements, histogram)"
	"       VALUES (u.tenant_id, $1, u.statements, u.histogram)",
	TIMESTAMPTZOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID);

/* What this transaction has written, to be marked as flushed when it commits. */
static struct
{
	bool is_set;
	int count;
	MeterTotals *totals; /* all of this in TopTransactionContext */
	int latency_count;
	MeterLatencies *latencies;
	SubTransactionId subtransaction;
} written;

/* The extension that this transaction drops, if it does not bring it back by ROLLBACK TO. */
static Oid dropped_extension = InvalidOid;

TimestampTz
meter_hour_of(TimestampTz time)
{
	return time - (time % USECS_PER_HOUR + USECS_PER_HOUR) % USECS_PER_HOUR;
}

/* A lock on the object, not on the relation, which vacuum would want. */
void
meter_lock_hours(void)
{
	LockDatabaseObject(RelationRelationId, extension_relation("usage_hour"), 0, ExclusiveLock);
}

/* What is to be written of a tenant; entries of shared memory come first. */
typedef struct Row
{
	pg_uuid_t tenant; /* first: the key of a hash */
	MeterCounts counts;
	uint64 memory_peak;
	int64 latencies[LATENCY_BUCKETS];
	bool has_latencies;
} Row;

typedef struct Rows
{
	HTAB *hash;
	int count;
	int capacity;
	Row **rows;
} Rows;

static Row *
row_of(Rows *rows, const pg_uuid_t *tenant)
{
	bool is_found;
	Row *row = hash_search(rows->hash, tenant, HASH_ENTER, &is_found);

	if (is_found)
		return row;
	memset((char *) row + sizeof(pg_uuid_t), 0, sizeof(Row) - sizeof(pg_uuid_t));
	if (rows->count == rows->capacity)
		rows->rows = repalloc_huge(rows->rows, mul_size(rows->capacity *= 2, sizeof(Row *)));
	rows->rows[rows->count++] = row;
	return row;
}

static void
make_rows(Rows *rows)
{
	HASHCTL control = {
		.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Row), .hcxt = CurrentMemoryContext};

	rows->hash =
		hash_create("pg_tenancy flush", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	rows->count = 0;
	rows->capacity = 256;
	rows->rows = palloc(sizeof(Row *) * rows->capacity);
}

/* The entries with something new, in front; how many. */
static int
keep_changed(MeterTotals *totals, int count)
{
	int changed = 0;

	for (int i = 0; i < count; i++)
	{
		if (totals[i].memory_peak > 0 ||
			memcmp(&totals[i].total, &totals[i].flushed, sizeof(MeterCounts)) != 0)
			totals[changed++] = totals[i];
	}
	return changed;
}

static void
add_buckets(Row *row, const MeterBucket *buckets, int count)
{
	row->has_latencies = row->has_latencies || count > 0;
	for (int i = 0; i < count; i++)
		row->latencies[buckets[i].bucket] += buckets[i].count;
}

static void
add_entries(Rows *rows)
{
	for (int i = 0; i < written.count; i++)
	{
		const MeterTotals *totals = &written.totals[i];
		Row *row = row_of(rows, &totals->tenant);

		row->memory_peak = totals->memory_peak;
		for (int c = 0; c < METER_COUNTERS; c++)
			row->counts.value[c] += totals->total.value[c] - totals->flushed.value[c];
	}
	for (int i = 0; i < written.latency_count; i++)
		add_buckets(row_of(rows, &written.latencies[i].tenant), written.latencies[i].buckets,
					written.latencies[i].count);
}

static void
add_overflow(Rows *rows)
{
	int count;
	MeterDelta **deltas = overflow_take(MyDatabaseId, &count);

	for (int i = 0; i < count; i++)
	{
		Row *row = row_of(rows, &deltas[i]->key.tenant);

		for (int c = 0; c < METER_COUNTERS; c++)
			row->counts.value[c] += deltas[i]->counts.value[c];
		add_buckets(row, deltas[i]->buckets, deltas[i]->bucket_count);
	}
}

static void
write_counts(const Rows *rows, TimestampTz now)
{
	NullableDatum arguments[FIRST_COUNTER - 1 + METER_COUNTERS];
	pg_uuid_t *tenants = palloc(mul_size(sizeof(pg_uuid_t), rows->count));
	int64 *values = palloc(mul_size(sizeof(int64), rows->count));
	TimestampTz minute = now - (now % USECS_PER_MINUTE + USECS_PER_MINUTE) % USECS_PER_MINUTE;

	for (int i = 0; i < rows->count; i++)
	{
		tenants[i] = rows->rows[i]->tenant;
		values[i] = (int64) rows->rows[i]->memory_peak;
	}
	arguments[1] = gate_uuid_array(tenants, rows->count);
	arguments[2] = gate_int64_array(values, rows->count);
	for (int c = 0; c < METER_COUNTERS; c++)
	{
		for (int i = 0; i < rows->count; i++)
			values[i] = (int64) rows->rows[i]->counts.value[c];
		arguments[FIRST_COUNTER - 1 + c] = gate_int64_array(values, rows->count);
	}
	partition_ensure(USAGE_HOUR, now);
	arguments[0] = gate_timestamptz(meter_hour_of(now));
	gate_run_array(&usage_hour_add, EXPECT_ANY, arguments, lengthof(arguments));
	if (setting_usage_minute_retention == 0)
		return;
	partition_ensure(USAGE_MINUTE, now);
	arguments[0] = gate_timestamptz(minute);
	gate_run_array(&usage_minute_add, EXPECT_ANY, arguments, lengthof(arguments));
}

static void
write_latencies(const Rows *rows, TimestampTz now)
{
	pg_uuid_t *tenants = palloc(mul_size(sizeof(pg_uuid_t), rows->count));
	int64 *statements = palloc(mul_size(sizeof(int64), rows->count));
	int64 *firsts = palloc(mul_size(sizeof(int64), rows->count));
	int64 *lasts = palloc(mul_size(sizeof(int64), rows->count));
	int64 *values;
	int count = 0;
	int64 used = 0;

	for (int i = 0; i < rows->count; i++)
	{
		for (int b = 0; rows->rows[i]->has_latencies && b < LATENCY_BUCKETS; b++)
			used += rows->rows[i]->latencies[b] > 0 ? 2 : 0;
	}
	if (used == 0)
		return;
	partition_ensure(LATENCY_HOUR, now);
	values = MemoryContextAllocHuge(CurrentMemoryContext, mul_size(sizeof(int64), used));
	used = 0;
	for (int i = 0; i < rows->count; i++)
	{
		const Row *row = rows->rows[i];

		if (!row->has_latencies)
			continue;
		tenants[count] = row->tenant;
		statements[count] = 0;
		firsts[count] = used + 1;
		for (int b = 0; b < LATENCY_BUCKETS; b++)
		{
			if (row->latencies[b] == 0)
				continue;
			values[used++] = b;
			values[used++] = row->latencies[b];
			statements[count] += row->latencies[b];
		}
		lasts[count++] = used;
	}
	gate_run(&latency_add, EXPECT_ANY, gate_timestamptz(meter_hour_of(now)),
			 gate_uuid_array(tenants, count), gate_int64_array(statements, count),
			 gate_int64_array(firsts, count), gate_int64_array(lasts, count),
			 gate_int64_array(values, used));
}

int64
meter_flush(void)
{
	MemoryContext scratch;
	MemoryContext previous;
	Rows rows;

	extension_require();

	meter_lock_hours();
	if (written.is_set)
		return 0;

	meter_collect(MyDatabaseId);
	previous = MemoryContextSwitchTo(TopTransactionContext);
	written.totals = meter_read(MyDatabaseId, &written.count);
	written.count = keep_changed(written.totals, written.count);
	written.latencies = meter_read_latencies(MyDatabaseId, &written.latency_count);
	scratch =
		AllocSetContextCreate(CurrentMemoryContext, "pg_tenancy flush", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	make_rows(&rows);
	add_entries(&rows);
	add_overflow(&rows);
	if (rows.count > 0)
	{
		TimestampTz now = clock_now();

		transaction_watch();
		write_counts(&rows, now);
		write_latencies(&rows, now);
		written.subtransaction = GetCurrentSubTransactionId();
		written.is_set = true;
	}
	MemoryContextSwitchTo(previous);
	MemoryContextDelete(scratch);
	return rows.count;
}

/* Its transaction has committed.  Never raises. */
static void
note_flushed(void)
{
	for (int i = 0; i < written.count; i++)
		meter_set_flushed(MyDatabaseId, &written.totals[i]);
	for (int i = 0; i < written.latency_count; i++)
		meter_set_latencies_flushed(MyDatabaseId, &written.latencies[i]);
	overflow_flushed(MyDatabaseId);
}

void
meter_note_dropped(Oid extension)
{
	if (extension == get_extension_oid("pg_tenancy", true))
	{
		dropped_extension = extension;
		transaction_watch();
	}
}

void
meter_flush_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (written.is_set)
				ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has flushed usage counters"));
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (OidIsValid(dropped_extension) &&
				get_extension_oid("pg_tenancy", true) == dropped_extension)
				dropped_extension = InvalidOid;
			break;
		case XACT_EVENT_COMMIT:
			if (written.is_set)
				note_flushed();
			if (OidIsValid(dropped_extension))
			{
				meter_end_session();
				meter_forget(MyDatabaseId);
			}
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			written.is_set = false;
			dropped_extension = InvalidOid;
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
meter_flush_subtransaction_event(SubXactEvent event, SubTransactionId self, SubTransactionId parent)
{
	if (!written.is_set || written.subtransaction != self)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		written.is_set = false;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		written.subtransaction = parent;
}

static char *
run_flush_job(void)
{
	return psprintf("{\"tenants\": " INT64_FORMAT "}", meter_flush());
}

static const JobKind flush_job = {
	.name = "metering.flush",
	.run = run_flush_job,
	.every_seconds = 0, /* whenever there is something */
	.has_work = meter_has_pending,
	.description = "moves statement counters from shared memory to tables",
};

void
meter_flush_init(void)
{
	job_kind_register(&flush_job);
}

/* usage_flush() → bigint */
TENANCY_FUNCTION(usage_flush)
{
	PG_RETURN_INT64(meter_flush());
}
