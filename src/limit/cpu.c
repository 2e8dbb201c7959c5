/*
 * limit/cpu.c
 *		CPU budgets: seconds of CPU per minute, for all sessions of a tenant together.
 *
 * A budget is a bucket that leaks (GCRA), whose cost is the CPU time of the process: a nanosecond
 * of CPU moves the arrival time on by as many as the budget is smaller than a minute.  A tenant
 * may use a minute's budget at once.  Beyond it a statement waits until there is some again, at
 * most LONGEST_DELAY; with a whole minute in debt it is refused, and one that runs is cancelled.
 *
 * Tenants without a budget cost a look at a cache.  CPU time is read at the ends of a statement
 * and, while it runs, by a timer; that of parallel workers as they end.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "core/compat.h"
#include "core/settings.h"
#include "limit/resource.h"
#include "shmem/table.h"

#include <time.h>

#include "access/parallel.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define NS_PER_SECOND INT64CONST(1000000000)
#define PERIOD_NS (60 * NS_PER_SECOND)
#define LONGEST_DELAY_MS 1000
#define SAMPLE_MS 100

typedef struct CpuKey
{
	Oid database;
	pg_uuid_t tenant;
} CpuKey;

typedef struct CpuEntry
{
	CpuKey key;
	pg_atomic_uint64 arrival_ns;
	pg_atomic_uint64 budget_ns; /* per period, as the last statement knew it */
} CpuEntry;

static int
entry_capacity(void)
{
	return setting_max_tenants;
}

static SharedTable entries = {
	.name = "pg_tenancy cpu budgets",
	.key_size = sizeof(CpuKey),
	.entry_size = sizeof(CpuEntry),
	.capacity = entry_capacity,
};

/* The statement that runs under a budget. */
static struct
{
	volatile bool is_running;
	volatile bool is_cancelled;
	CpuKey key;
	char slug[64];
	int64 budget_ns;
	int64 started_cpu_ns;
	volatile int64 cancel_at_cpu_ns;
} running;

static int64
clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		return 0;
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

/* How far the arrival time is ahead, in budget: PERIOD_NS is a minute's budget. */
static int64
ahead_of(const CpuEntry *entry)
{
	int64 ahead = (int64) pg_atomic_read_u64(&unconstify(CpuEntry *, entry)->arrival_ns) -
				  clock_ns(CLOCK_REALTIME);

	return Max(ahead, 0);
}

static void
charge_entry(CpuEntry *entry, int64 cpu_ns)
{
	int64 budget = Max((int64) pg_atomic_read_u64(&entry->budget_ns), 1);
	int64 cost = (int64) ((int128) cpu_ns * PERIOD_NS / budget);
	uint64 seen = pg_atomic_read_u64(&entry->arrival_ns);
	uint64 now = clock_ns(CLOCK_REALTIME);

	while (!pg_atomic_compare_exchange_u64(&entry->arrival_ns, &seen, Max(seen, now) + cost))
		;
}

static void
make_key(CpuKey *key, const pg_uuid_t *tenant)
{
	key->database = MyDatabaseId;
	key->tenant = *tenant;
}

/* In a signal handler: no locks, no memory; the clock may be read. */
static void
on_sample(void)
{
	if (!running.is_running || running.is_cancelled)
		return;
	if (clock_ns(CLOCK_PROCESS_CPUTIME_ID) < running.cancel_at_cpu_ns)
		return;
	running.is_cancelled = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static bool has_timeout = false;
static TimeoutId timeout;

/* The timer goes on to the end of the transaction: setting it costs a system call. */
static void
watch(void)
{
	if (!has_timeout)
		timeout = RegisterTimeout(USER_TIMEOUT, on_sample);
	has_timeout = true;
	if (!get_timeout_active(timeout))
		enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SAMPLE_MS),
							 SAMPLE_MS);
}

/* An idle session is not to be woken.  A procedure that commits still runs. */
static void
stop_watching(void)
{
	if (has_timeout && !running.is_running && get_timeout_active(timeout))
		disable_timeout(timeout, false);
}

static pg_noreturn void
refuse(const char *slug, int64 budget_ns, int64 excess_ns)
{
	ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("the CPU budget of tenant \"%s\" is used up", slug),
			errdetail("It is %.3f s of CPU a minute, and overdrawn by %.1f minutes.",
					  (double) budget_ns / NS_PER_SECOND, (double) excess_ns / PERIOD_NS),
			errhint("Try again in %d s.", (int) (excess_ns / NS_PER_SECOND) + 1));
}

/* Waits while there is nothing to spend; interruptible. */
static void
delay(int64 excess_ns)
{
	int64 left_ms = Min(excess_ns / 1000000 + 1, LONGEST_DELAY_MS);
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), left_ms);

	while (left_ms > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left_ms,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	}
}

/* The limits of the session's tenant; NULL where it has no budget. */
static const ResourceLimits *
budgeted(void)
{
	const pg_uuid_t *tenant;
	const ResourceLimits *limits;

	if (!extension_is_ready() || IsParallelWorker())
		return NULL;
	tenant = context_tenant();
	if (tenant == NULL || GetUserId() == extension_owner())
		return NULL;
	limits = resource_limits(tenant);
	return limits->has_cpu ? limits : NULL;
}

void
cpu_admit(void)
{
	const ResourceLimits *limits = budgeted();
	CpuKey key;
	LWLock *lock;
	CpuEntry *entry;
	int64 ahead;

	if (likely(limits == NULL))
		return;
	make_key(&key, &limits->tenant);
	entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	if (entry == NULL)
		return;
	ahead = ahead_of(entry);
	LWLockRelease(lock);
	if (ahead > 2 * PERIOD_NS)
		refuse(limits->slug, limits->cpu_ns_per_minute, ahead - PERIOD_NS);
	if (ahead > PERIOD_NS)
		delay(ahead - PERIOD_NS);
}

bool
cpu_begin(void)
{
	const ResourceLimits *limits = budgeted();
	LWLock *lock;
	CpuEntry *entry;
	int64 ahead;

	if (likely(limits == NULL))
		return false;
	make_key(&running.key, &limits->tenant);
	entry = shared_table_ensure(&entries, &running.key, LW_SHARED, &lock);
	if (entry == NULL)
		return false; /* more tenants than tenancy.max_tenants: table.c counts it */
	pg_atomic_write_u64(&entry->budget_ns, limits->cpu_ns_per_minute);
	ahead = ahead_of(entry);
	LWLockRelease(lock);

	running.budget_ns = limits->cpu_ns_per_minute;
	strlcpy(running.slug, limits->slug, sizeof(running.slug));
	running.started_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	running.cancel_at_cpu_ns =
		running.started_cpu_ns +
		(int64) ((int128) Max(2 * PERIOD_NS - ahead, 0) * running.budget_ns / PERIOD_NS);
	running.is_cancelled = false;
	running.is_running = true;
	watch();
	return true;
}

/* A cancel that came too late must not hit what comes next. */
static void
take_back_cancel(void)
{
	if (running.is_cancelled)
		QueryCancelPending = false;
	running.is_cancelled = false;
}

void
cpu_charge(bool has_failed)
{
	LWLock *lock;
	CpuEntry *entry;
	int64 used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - running.started_cpu_ns;

	running.is_running = false;
	if (!has_failed)
		take_back_cancel();
	entry = shared_table_find(&entries, &running.key, LW_SHARED, &lock);
	if (entry == NULL)
		return;
	charge_entry(entry, used);
	LWLockRelease(lock);
}

void
cpu_translate_error(void)
{
	if (!running.is_cancelled)
		return;
	take_back_cancel();
	FlushErrorState();
	refuse(running.slug, running.budget_ns, PERIOD_NS);
}

/* A parallel worker lives for one query: its CPU time is that of the leader's tenant. */
static void
charge_parallel_worker(void)
{
	const pg_uuid_t *tenant;
	CpuKey key;
	LWLock *lock;
	CpuEntry *entry;

	if (!extension_is_ready())
		return;
	tenant = context_tenant();
	if (tenant == NULL)
		return;
	make_key(&key, tenant);
	entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	if (entry == NULL)
		return;
	charge_entry(entry, clock_ns(CLOCK_PROCESS_CPUTIME_ID));
	LWLockRelease(lock);
}

void
cpu_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			stop_watching();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			charge_parallel_worker();
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

double
cpu_budget_used(const pg_uuid_t *tenant)
{
	CpuKey key;
	LWLock *lock;
	CpuEntry *entry;
	double used;

	make_key(&key, tenant);
	entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	if (entry == NULL)
		return 0;
	used = (double) ahead_of(entry) / PERIOD_NS;
	LWLockRelease(lock);
	return used;
}

static void
forget(void *pointer, void *argument)
{
	CpuEntry *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&entries, &entry->key);
}

void
cpu_forget(Oid database)
{
	shared_table_scan(&entries, LW_EXCLUSIVE, forget, &database);
}

void
cpu_init(void)
{
	shared_table_register(&entries);
}
