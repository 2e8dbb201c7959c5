/*
 * meter/flush.c
 *		Moving statement counters from shared memory to tenancy.usage_hour.
 *
 * Each shared entry has totals and, of them, what was flushed.  A flush writes the
 * difference in one statement for all tenants and moves "flushed" only when its
 * transaction has committed: an abort loses nothing and counts nothing twice.  It
 * cannot be prepared, for nobody would hear of its commit.  A crash of the server takes
 * the memory with it, and so loses what was counted since the last flush.
 *
 * Lock rules.  One flush at a time per database, by a heavyweight lock that is held to
 * the end of the transaction.  Whoever writes many rows of usage_hour writes them in the
 * order of tenants, so that two writers wait for one another and never in a circle.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "job/kind.h"
#include "meter/meter.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#define PLAIN(column) column
#define ADD(column) column " = h." column " + excluded." column

GATE_STATEMENT(
	usage_hour_add,
	"INSERT INTO tenancy.usage_hour AS h (tenant_id, hour, " METER_COLUMNS(
		PLAIN,
		", ") ")"
			  " SELECT u.tenant_id, $1, " METER_COLUMNS(
				  PLAIN,
				  ", ") "   FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, "
						"$15, $16,"
						"               $17, $18, $19, $20, $21, $22, $23, $24, $25)"
						"     AS u(tenant_id, " METER_COLUMNS(
							PLAIN,
							", ") ")"
								  "  ORDER BY u.tenant_id"
								  " ON CONFLICT (tenant_id, hour) DO UPDATE SET " METER_COLUMNS(
									  ADD, ", "),
	TIMESTAMPTZOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID);

/* What this transaction has written, to be marked as flushed when it commits. */
static struct
{
	int count;           /* 0: nothing */
	MeterTotals *totals; /* in TopTransactionContext */
	SubTransactionId subtransaction;
} written;

/* The extension that this transaction drops, if it does not bring it back by ROLLBACK TO. */
static Oid dropped_extension = InvalidOid;

TimestampTz
meter_hour_of(TimestampTz time)
{
	return time - (time % USECS_PER_HOUR + USECS_PER_HOUR) % USECS_PER_HOUR;
}

static NullableDatum
tenant_array(const MeterTotals *totals, int count)
{
	pg_uuid_t *tenants = palloc(sizeof(pg_uuid_t) * count);

	for (int i = 0; i < count; i++)
		tenants[i] = totals[i].tenant;
	return gate_uuid_array(tenants, count);
}

static NullableDatum
delta_array(const MeterTotals *totals, int count, MeterCounter counter)
{
	int64 *deltas = palloc(sizeof(int64) * count);

	for (int i = 0; i < count; i++)
		deltas[i] = (int64) (totals[i].total.value[counter] - totals[i].flushed.value[counter]);
	return gate_int64_array(deltas, count);
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

	/* A lock on the object, not on the relation, which vacuum would want. */
	LockDatabaseObject(RelationRelationId, extension_relation("usage_hour"), 0, ExclusiveLock);
	if (written.count > 0)
		return 0;

	meter_collect(MyDatabaseId);
	previous = MemoryContextSwitchTo(TopTransactionContext);
	totals = meter_read(MyDatabaseId, &count);
	MemoryContextSwitchTo(previous);
	count = keep_changed(totals, count);
	if (count == 0)
		return 0;

	arguments[0] = gate_timestamptz(meter_hour_of(clock_now()));
	arguments[1] = tenant_array(totals, count);
	for (int i = 0; i < METER_COUNTERS; i++)
		arguments[2 + i] = delta_array(totals, count, i);
	gate_run_array(&usage_hour_add, EXPECT_ANY, arguments, lengthof(arguments));

	written.totals = totals;
	written.count = count;
	written.subtransaction = GetCurrentSubTransactionId();
	return count;
}

void
meter_note_dropped(Oid extension)
{
	if (extension == get_extension_oid("pg_tenancy", true))
		dropped_extension = extension;
}

void
meter_flush_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (written.count > 0)
				ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has flushed usage counters"));
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (OidIsValid(dropped_extension) &&
				get_extension_oid("pg_tenancy", true) == dropped_extension)
				dropped_extension = InvalidOid;
			break;
		case XACT_EVENT_COMMIT:
			for (int i = 0; i < written.count; i++)
				meter_set_flushed(MyDatabaseId, &written.totals[i].tenant,
								  &written.totals[i].total);
			if (OidIsValid(dropped_extension))
				meter_forget(MyDatabaseId);
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			written.count = 0;
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
	if (written.count == 0 || written.subtransaction != self)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		written.count = 0;
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
	.description = "moves statement counters from shared memory to tenancy.usage_hour",
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
