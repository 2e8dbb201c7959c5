/*
 * meter/statement.c
 *		Counting what statements use: the hot path.
 *
 * A statement adds to variables of its backend.  At the end of the transaction, when its
 * tenant is known, they are published (slot.c), with the blocks and the WAL that the server
 * has counted for the process meanwhile: so what is used between two ends, by parsing,
 * planning, triggers and the commit itself, belongs to the tenant of the transaction that
 * ends, whether it succeeds or fails.
 *
 * The clock is read twice a statement, without a system call.  CPU time costs one, so it is
 * read at the end of a transaction when CPU_READING_INTERVAL_NS have passed since it was
 * read, or when the tenant is another than before; what passed since the last reading belongs
 * to the tenant of the transaction that ends.  Blocks and WAL of parallel workers are added
 * to those of the leader by the server; their CPU time is added here, by each worker as it
 * ends.  What connecting used is that of the login's tenant, or of none.
 *
 * No locks but those of slot.c and entry.c.  Nothing here survives a crash: see flush.c.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "context/login.h"
#include "core/compat.h"
#include "core/hot.h"
#include "core/id.h"
#include "core/settings.h"
#include "meter/latency.h"
#include "meter/meter.h"
#include "meter/slot.h"
#include "meter/statement.h"

#include <time.h>

#include "access/xlog.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"

#define NS_PER_SECOND UINT64CONST(1000000000)
#define CPU_READING_INTERVAL_NS UINT64CONST(1000000)

/* What takes less time has no memory worth looking at. */
#define MEMORY_READING_NS UINT64CONST(1000000)

/* More than a transaction of these are added to the slot on the way. */
#define PENDING_LATENCIES 32

static const pg_uuid_t no_tenant = {{0}};

uint64 meter_own[METER_OWN_COUNTERS] HOT_DATA;
uint64 meter_sent_before HOT_DATA = 0;
bool meter_is_open HOT_DATA = false;
bool meter_is_begun HOT_DATA = false;

/* What runs at level 0. */
static bool is_running HOT_DATA = false;
static bool is_utility = false;
static uint64 started_ns HOT_DATA;

static uint64 elapsed_ns HOT_DATA = 0; /* since the process began */

/* How long the statement of the client took so far, and those of the transaction that are done. */
static uint64 statement_ns HOT_DATA = 0;
static uint16 latencies[PENDING_LATENCIES] HOT_DATA;
static int latency_count HOT_DATA = 0;

static uint64 memory_peak = 0; /* of the transaction */
static uint64 cpu_read_at_ns = 0;
static uint64 last_stop_ns HOT_DATA;

/* Transactions have passed that were not metered. */
static bool was_off = false;

static inline uint64
read_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64) now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static void
read_cpu(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0)
		meter_own[METER_CPU_US] = (uint64) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

static void
fill_own(void)
{
	meter_own[METER_ELAPSED_US] = elapsed_ns / 1000;
	meter_own[METER_BYTES_SENT] = meter_bytes_sent;
}

/* Is the slot in use? */
static bool has_begun = false;

static void
at_exit(int code, Datum argument)
{
	if (!has_begun)
		return;
	if (setting_metering == METERING_FULL)
		read_cpu();
	fill_own();
	meter_slot_end();
}

/* The first statement of the session. */
static void
begin_session(void)
{
	static bool is_registered = false;
	const pg_uuid_t *login = login_tenant();

	/* Not before_shmem_exit: the transaction that a FATAL error ends is still to come. */
	if (!is_registered)
		on_shmem_exit(at_exit, (Datum) 0);
	is_registered = true;
	read_cpu();
	fill_own();
	meter_slot_begin(login != NULL ? login : &no_tenant);
}

bool
meter_open(void)
{
	/* Client sessions alone: neither autovacuum nor our own workers count for a tenant. */
	if (MyBackendType != B_BACKEND || !extension_is_ready() || RecoveryInProgress())
	{
		was_off = true;
		meter_is_begun = false;
		return false;
	}
	if (unlikely(!has_begun))
		begin_session();
	else if (unlikely(was_off))
	{
		read_cpu();
		meter_slot_skip();
	}
	has_begun = meter_is_begun = true;
	was_off = false;
	meter_sent_before = meter_bytes_sent;
	meter_is_open = true;
	return true;
}

void
meter_end_session(void)
{
	if (has_begun)
		meter_slot_discard();
	has_begun = meter_is_begun = meter_is_open = false;
}

pg_attribute_hot void
meter_start_clock(void)
{
	is_running = true;
	started_ns = read_clock_ns();
}

static inline void
stop_clock(void)
{
	uint64 now = read_clock_ns();
	uint64 passed_ns = now - started_ns;

	is_running = false;
	elapsed_ns += passed_ns;
	statement_ns += passed_ns;
	last_stop_ns = now;
}

void
meter_stop_clock(void)
{
	stop_clock();
}

pg_attribute_hot void
meter_count_query(const QueryDesc *query)
{
	static const MeterCounter counters[] = {
		[CMD_SELECT] = METER_SELECTS, [CMD_INSERT] = METER_INSERTS, [CMD_UPDATE] = METER_UPDATES,
		[CMD_DELETE] = METER_DELETES, [CMD_MERGE] = METER_MERGES,
	};

	if (likely(query->operation != CMD_UNKNOWN && query->operation < lengthof(counters)))
		meter_own[counters[query->operation]]++;
	if (query->params != NULL)
		meter_own[METER_BYTES_RECEIVED] += meter_parameter_bytes(query->params);
	meter_note_statement_text();
}

void
meter_count_utility(void)
{
	meter_own[METER_UTILITIES]++;
	meter_note_statement_text();
}

void
meter_begin_utility(void)
{
	is_utility = true;
	meter_start_clock();
}

void
meter_end_utility(bool copies_in)
{
	is_utility = false;
	meter_stop_clock();
	/* COPY says how far it got, and the last word stays where it said so. */
	if (copies_in && MyBEEntry != NULL)
		meter_own[METER_BYTES_RECEIVED] +=
			MyBEEntry->st_progress_param[PROGRESS_COPY_BYTES_PROCESSED];
}

static void
add_jit(const JitInstrumentation *instrumentation)
{
	instr_time time = instrumentation->generation_counter;

	INSTR_TIME_ADD(time, instrumentation->inlining_counter);
	INSTR_TIME_ADD(time, instrumentation->optimization_counter);
	INSTR_TIME_ADD(time, instrumentation->emission_counter);
	meter_own[METER_JIT_FUNCTIONS] += instrumentation->created_functions;
	meter_own[METER_JIT_US] += INSTR_TIME_GET_MICROSEC(time);
}

void
meter_note_jit(const QueryDesc *query)
{
	if (query->estate->es_jit != NULL)
		add_jit(&query->estate->es_jit->instr);
	if (query->estate->es_jit_worker_instr != NULL)
		add_jit(query->estate->es_jit_worker_instr);
}

static const pg_uuid_t *
attributed(void)
{
	const pg_uuid_t *tenant = context_attributed_tenant();

	return tenant != NULL ? tenant : &no_tenant;
}

/* A long transaction: whose it is so far. */
static pg_noinline void
publish_latencies(void)
{
	meter_slot_publish_latencies(attributed(), latencies, latency_count);
	latency_count = 0;
}

static inline void
note_latency(void)
{
	if (unlikely(latency_count == PENDING_LATENCIES))
		publish_latencies();
	latencies[latency_count++] = latency_bucket(statement_ns / 1000);
	statement_ns = 0;
}

pg_attribute_hot void
meter_note_latency(void)
{
	note_latency();
}

/* Still running, after a bracket: what memory has it? */
static pg_noinline void
read_memory(const QueryDesc *query)
{
	memory_peak = Max(memory_peak, MemoryContextMemAllocated(query->estate->es_query_cxt, true));
}

pg_attribute_hot void
meter_end_run(const QueryDesc *query, bool is_client, bool is_last)
{
	uint64 rows = query->estate->es_processed;

	stop_clock();
	if (unlikely(statement_ns >= MEMORY_READING_NS))
		read_memory(query);
	if (!is_client)
		return;
	meter_own[METER_ROWS] += rows;
	if (query->operation != CMD_SELECT)
		meter_own[METER_ROWS_WRITTEN] += rows;
	if (is_last)
		note_latency();
}

/* A function that the planner evaluates may plan again, within; an error leaves the flag. */
static bool is_planning = false;
static uint64 planning_start_ns;

bool
meter_begin_planning(void)
{
	if (setting_metering == METERING_OFF || MyBackendType != B_BACKEND || is_running || is_planning)
		return false;
	is_planning = true;
	planning_start_ns = read_clock_ns();
	return true;
}

void
meter_end_planning(void)
{
	meter_own[METER_PLANNING_US] += (read_clock_ns() - planning_start_ns) / 1000;
	is_planning = false;
}

/* Runs at the end of a transaction, so nothing here may raise. */
static pg_attribute_hot void
settle(XactEvent event)
{
	bool is_plain = context_is_plain();
	const pg_uuid_t *tenant = is_plain ? &no_tenant : attributed();
	const pg_uuid_t *login;
	bool is_other = !(is_plain && meter_slot_is_nobodys) && !meter_slot_is_of(tenant);

	if (unlikely(is_other))
		meter_slot_amend(METER_BYTES_SENT, meter_sent_before);
	if (setting_metering == METERING_FULL &&
		(is_other || last_stop_ns - cpu_read_at_ns >= CPU_READING_INTERVAL_NS))
	{
		read_cpu();
		cpu_read_at_ns = last_stop_ns;
	}
	meter_own[event == XACT_EVENT_ABORT ? METER_ROLLBACKS : METER_COMMITS]++;
	fill_own();
	if (unlikely(is_other))
		meter_slot_turn_to(tenant);
	meter_slot_publish(latencies, latency_count);
	latency_count = 0;
	statement_ns = 0;
	if (unlikely(memory_peak > 0))
	{
		meter_entry_note_memory(tenant, memory_peak);
		memory_peak = 0;
	}
	if (likely(is_plain && meter_slot_is_nobodys))
		return;
	login = login_tenant();
	if (unlikely(!meter_slot_is_connection_of(login != NULL ? login : &no_tenant)))
		meter_slot_set_connection(login != NULL ? login : &no_tenant);
}

static pg_attribute_hot void
end_transaction(XactEvent event)
{
	bool goes_on = is_running && is_utility;

	meter_is_open = false;
	is_planning = false;

	/* A procedure may end a transaction in the middle of its statement; an error ends both. */
	if (is_running)
		meter_stop_clock();
	settle(event);
	if (goes_on)
	{
		meter_is_open = true;
		meter_sent_before = meter_bytes_sent;
		meter_start_clock();
	}
}

/* A parallel worker is a process of its own and lives for one query: all its CPU time is that. */
static void
settle_parallel_worker(void)
{
	static MeterDelta delta;
	static bool is_settled = false;

	/* One that fails, or is told to stop by a leader that was cancelled, comes here by ABORT. */
	if (is_settled)
		return;
	is_settled = true;
	if (setting_metering != METERING_FULL || !extension_is_ready())
		return;
	(void) context_tenant(); /* reads that of the leader */
	read_cpu();
	delta.key.database = MyDatabaseId;
	delta.key.tenant = *attributed();
	delta.counts.value[METER_CPU_US] = meter_own[METER_CPU_US];
	meter_entry_add(&delta);
}

static pg_noinline void
note_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (meter_is_open)
				end_transaction(event);
			else
			{
				is_planning = false;
				if (setting_metering == METERING_OFF)
				{
					was_off = true;
					meter_is_begun = false;
				}
			}
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			settle_parallel_worker();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
			break;
	}
}

pg_attribute_hot void
meter_transaction_event(XactEvent event)
{
	if (likely(event == XACT_EVENT_COMMIT && meter_is_open))
		end_transaction(event);
	else
		note_transaction_event(event);
}

void
meter_init(void)
{
	latency_init();
	meter_slot_init();
	meter_entry_init();
	meter_overflow_init();
	meter_wire_init();
	meter_flush_init();
	meter_partition_init();
	meter_storage_init();
}
