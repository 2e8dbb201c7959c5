/*
 * meter/statement.c
 *		Counting what statements use: the hot path.
 *
 * A statement adds to variables of its backend.  At the end of the transaction, when
 * its tenant is known, they go to the backend's slot in shared memory (entry.c).
 *
 * The clock is read twice a bracket, without a system call; not where an executor starts, as
 * pg_stat_statements does not either.  CPU time costs one, so it
 * is read at the end of a transaction when CPU_READING_INTERVAL_US have passed since it
 * was read, or when the tenant is another than before; what passed since the last
 * reading belongs to the tenant of the transaction that ends.  Blocks and WAL of
 * parallel workers are added to those of the leader by the server; their CPU time is
 * added here, by each worker as it ends.
 *
 * No locks but that of entry.c.  Nothing here survives a crash: see flush.c.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "core/compat.h"
#include "core/id.h"
#include "core/settings.h"
#include "meter/latency.h"
#include "meter/meter.h"

#include <time.h>

#include "access/xlog.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "tcop/pquery.h"

#define CPU_READING_INTERVAL_US 1000

static const pg_uuid_t no_tenant = {{0}};

/* What runs at level 0. */
static struct
{
	bool is_running;
	bool is_timed;
	instr_time start;
	BufferUsage buffers;
	WalUsage wal;
} running;

/* The sum of the transaction so far. */
static struct
{
	bool is_used;
	MeterCounts counts;
} pending;

/* How long the statement of the client took so far, and those of the transaction that are done. */
static uint64 statement_us = 0;
static uint16 latencies[METER_PENDING_LATENCIES];
static int latency_count = 0;

static uint64 cpu_read_us = 0; /* the process's CPU time at the last reading */
static instr_time cpu_read_at; /* zero before the first */
static instr_time last_end;
static pg_uuid_t last_tenant;

static uint64
read_cpu_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) != 0)
		return cpu_read_us;
	return (uint64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

static void
start_counting(void)
{
	running.buffers = pgBufferUsage;
	running.wal = pgWalUsage;
	if (running.is_timed)
		INSTR_TIME_SET_CURRENT(running.start);
}

static void
stop_counting(void)
{
	uint64 *value = pending.counts.value;
	const BufferUsage *before = &running.buffers;
	instr_time elapsed;

	if (running.is_timed)
	{
		INSTR_TIME_SET_CURRENT(last_end);
		elapsed = last_end;
		INSTR_TIME_SUBTRACT(elapsed, running.start);
		value[METER_ELAPSED_US] += INSTR_TIME_GET_MICROSEC(elapsed);
		statement_us += INSTR_TIME_GET_MICROSEC(elapsed);
	}
	value[METER_BLOCKS_HIT] += pgBufferUsage.shared_blks_hit - before->shared_blks_hit;
	value[METER_BLOCKS_READ] += pgBufferUsage.shared_blks_read - before->shared_blks_read;
	value[METER_BLOCKS_DIRTIED] += pgBufferUsage.shared_blks_dirtied - before->shared_blks_dirtied;
	value[METER_BLOCKS_WRITTEN] += pgBufferUsage.shared_blks_written - before->shared_blks_written;
	value[METER_LOCAL_BLOCKS_READ] += pgBufferUsage.local_blks_read - before->local_blks_read;
	value[METER_LOCAL_BLOCKS_WRITTEN] +=
		pgBufferUsage.local_blks_written - before->local_blks_written;
	value[METER_TEMP_BLOCKS_READ] += pgBufferUsage.temp_blks_read - before->temp_blks_read;
	value[METER_TEMP_BLOCKS_WRITTEN] += pgBufferUsage.temp_blks_written - before->temp_blks_written;
	elapsed = compat_block_time(&pgBufferUsage);
	INSTR_TIME_SUBTRACT(elapsed, compat_block_time(before));
	value[METER_IO_US] += INSTR_TIME_GET_MICROSEC(elapsed);
	value[METER_WAL_RECORDS] += pgWalUsage.wal_records - running.wal.wal_records;
	value[METER_WAL_BYTES] += pgWalUsage.wal_bytes - running.wal.wal_bytes;
}

static bool
begin(bool is_timed)
{
	/* Client sessions alone: neither autovacuum nor our own workers count for a tenant. */
	if (setting_metering == METERING_OFF || MyBackendType != B_BACKEND || !extension_is_ready() ||
		RecoveryInProgress())
		return false;

	meter_slot_prepare();
	pending.is_used = true;
	running.is_running = true;
	running.is_timed = is_timed;
	start_counting();
	return true;
}

bool
meter_begin(void)
{
	return begin(true);
}

bool
meter_begin_untimed(void)
{
	return begin(false);
}

bool
meter_is_client_statement(void)
{
	return ActivePortal != NULL;
}

void
meter_count_query(CmdType kind)
{
	static const MeterCounter counters[] = {
		[CMD_SELECT] = METER_SELECTS, [CMD_INSERT] = METER_INSERTS, [CMD_UPDATE] = METER_UPDATES,
		[CMD_DELETE] = METER_DELETES, [CMD_MERGE] = METER_MERGES,
	};

	if (likely(kind != CMD_UNKNOWN && kind < lengthof(counters)))
		pending.counts.value[counters[kind]]++;
}

void
meter_count_utility(void)
{
	pending.counts.value[METER_UTILITIES]++;
}

void
meter_end(uint64 rows)
{
	stop_counting();
	running.is_running = false;
	pending.counts.value[METER_ROWS] += rows;
}

static const pg_uuid_t *
attributed(void)
{
	const pg_uuid_t *tenant = context_attributed_tenant();

	return tenant != NULL ? tenant : &no_tenant;
}

void
meter_note_latency(void)
{
	if (latency_count == METER_PENDING_LATENCIES)
	{
		/* A long transaction: whose it is so far. */
		meter_slot_add_latencies(attributed(), latencies, latency_count);
		latency_count = 0;
	}
	latencies[latency_count++] = latency_bucket(statement_us);
	statement_us = 0;
}

/* A function that the planner evaluates may plan again, within; an error leaves the flag. */
static bool is_planning = false;
static instr_time planning_start;

bool
meter_begin_planning(void)
{
	if (setting_metering == METERING_OFF || MyBackendType != B_BACKEND || running.is_running ||
		is_planning)
		return false;
	is_planning = true;
	INSTR_TIME_SET_CURRENT(planning_start);
	return true;
}

void
meter_end_planning(void)
{
	instr_time elapsed;

	INSTR_TIME_SET_CURRENT(elapsed);
	INSTR_TIME_SUBTRACT(elapsed, planning_start);
	pending.counts.value[METER_PLANNING_US] += INSTR_TIME_GET_MICROSEC(elapsed);
	is_planning = false;
}

/* Runs at the end of a transaction, so nothing here may raise. */
static void
settle(XactEvent event)
{
	const pg_uuid_t *tenant = attributed();
	instr_time since = last_end;

	INSTR_TIME_SUBTRACT(since, cpu_read_at);
	if (setting_metering == METERING_FULL &&
		(INSTR_TIME_GET_MICROSEC(since) >= CPU_READING_INTERVAL_US ||
		 !id_equal(tenant, &last_tenant)))
	{
		uint64 cpu = read_cpu_us();

		pending.counts.value[METER_CPU_US] += cpu - cpu_read_us;
		cpu_read_us = cpu;
		cpu_read_at = last_end;
	}
	last_tenant = *tenant;
	pending.counts.value[event == XACT_EVENT_ABORT ? METER_ROLLBACKS : METER_COMMITS]++;
	meter_slot_add(tenant, &pending.counts);
	if (latency_count > 0)
		meter_slot_add_latencies(tenant, latencies, latency_count);
	latency_count = 0;
	statement_us = 0;
	memset(&pending, 0, sizeof(pending));
}

/* A parallel worker is a process of its own and lives for one query: all its CPU time is that. */
static void
settle_parallel_worker(void)
{
	MeterCounts counts = {0};

	if (setting_metering != METERING_FULL || !extension_is_ready())
		return;
	meter_slot_prepare();
	(void) context_tenant(); /* reads that of the leader */
	counts.value[METER_CPU_US] = read_cpu_us();
	meter_slot_add(attributed(), &counts);
}

void
meter_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			is_planning = false;
			if (!pending.is_used)
				break;

			/* A procedure may end a transaction in the middle of its statement. */
			if (running.is_running)
				stop_counting();
			settle(event);
			if (running.is_running)
			{
				pending.is_used = true;
				start_counting();
			}
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			settle_parallel_worker();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
meter_init(void)
{
	meter_entry_init();
	meter_flush_init();
	meter_storage_init();
}
