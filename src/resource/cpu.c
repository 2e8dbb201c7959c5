/*
 * resource/cpu.c
 *		CPU budgets: seconds of CPU per minute, for all sessions of a tenant together.
 *
 * A budget is a bucket that leaks (GCRA), whose cost is the CPU time of the process: a nanosecond
 * of CPU moves the arrival time on by as many as the budget is smaller than a minute.  A tenant
 * may use a minute's budget at once.  From 80 percent of it on a session is warned; beyond it a
 * statement waits until there is some again, at most LONGEST_DELAY; with a whole minute in debt
 * statements are refused, and those that run are cancelled.
 *
 * Tenants without a budget cost a look at a cache.  CPU time is read at the ends of a statement
 * and of a transaction, and by a timer while a statement or its parallel workers run.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/login.h"
#include "core/compat.h"
#include "core/hot.h"
#include "core/id.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "limit/quota.h"
#include "limit/refusal.h"
#include "resource/resource.h"
#include "resource/watch.h"
#include "shmem/table.h"

#include <time.h>

#include "access/parallel.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#define NS_PER_SECOND INT64CONST(1000000000)
#define PERIOD_NS (60 * NS_PER_SECOND)
#define LONGEST_DELAY_MS 1000
#define WARNING_PERCENT 80

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

/*
 * The session under a budget.  What it used is charged from where it was charged last: the time
 * between its statements counts, for parsing and planning happen there.
 */
static struct
{
	CpuEntry *entry; /* NULL: no budget; entries are removed with their database alone */
	char slug[64];
	int64 budget_ns;
	volatile int64 charged_cpu_ns; /* the process's CPU time up to which it is charged */
	volatile bool is_running;      /* a statement */
	volatile bool is_cancelled;
	TimestampTz warned_at;
} running;

/* The tenant that was found last to have no budget, and the registry's generation then. */
static struct
{
	uint64 generation;
	pg_uuid_t tenant;
} unlimited HOT_DATA;

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

static void
charge(void)
{
	int64 cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	charge_entry(running.entry, cpu_ns - running.charged_cpu_ns);
	running.charged_cpu_ns = cpu_ns;
}

/*
 * In a signal handler.  All sessions and parallel workers of the tenant charge, so that it is
 * the sum that cancels; a worker ends with its leader.
 */
void
cpu_sample(void)
{
#ifndef PG_HAVE_ATOMIC_U64_SIMULATION
	if (!running.is_running || running.is_cancelled)
		return;
	charge();
	if (IsParallelWorker() || ahead_of(running.entry) <= 2 * PERIOD_NS)
		return;
	running.is_cancelled = true;
	watch_cancel();
#endif
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
static pg_noinline const ResourceLimits *
find_budget(const pg_uuid_t *tenant)
{
	uint64 generation = registry_generation();
	const ResourceLimits *limits;

	if (!extension_is_ready() || IsParallelWorker() || GetUserId() == extension_owner())
		return NULL;
	limits = resource_limits(tenant);
	if (limits->has_cpu)
		return limits;
	unlimited.tenant = *tenant;
	unlimited.generation = generation;
	return NULL;
}

static inline const ResourceLimits *
budgeted(void)
{
	const pg_uuid_t *tenant = context_tenant();

	if (tenant == NULL || likely(unlimited.generation == registry_known_generation &&
								 id_equal(&unlimited.tenant, tenant)))
		return NULL;
	return find_budget(tenant);
}

static void
note(const pg_uuid_t *tenant, RefusalKind kind, int64 ahead, int64 budget_ns)
{
	int64 used = (int64) ((int128) ahead * budget_ns / PERIOD_NS / (NS_PER_SECOND / QUOTA_UNIT));

	refusal_note(tenant, kind, "cpu_seconds_per_minute", used,
				 budget_ns / (NS_PER_SECOND / QUOTA_UNIT), 0);
}

/* Once a minute in each session. */
static void
warn(const ResourceLimits *limits, int64 ahead)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	if (now < running.warned_at + USECS_PER_MINUTE)
		return;
	running.warned_at = now;
	note(&limits->tenant, CPU_WARNED, ahead, limits->cpu_ns_per_minute);
	ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("the CPU budget of tenant \"%s\" is nearly used up", limits->slug),
			errdetail("It is %.3f s of CPU a minute, of which %d percent are used.",
					  (double) limits->cpu_ns_per_minute / NS_PER_SECOND,
					  (int) (ahead / (PERIOD_NS / 100))));
}

pg_attribute_hot void
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
	{
		note(&limits->tenant, CPU_REFUSED, ahead, limits->cpu_ns_per_minute);
		refuse(limits->slug, limits->cpu_ns_per_minute, ahead - PERIOD_NS);
	}
	if (ahead > PERIOD_NS)
	{
		note(&limits->tenant, CPU_DELAYED, ahead, limits->cpu_ns_per_minute);
		delay(ahead - PERIOD_NS);
	}
	else if (ahead > PERIOD_NS / 100 * WARNING_PERCENT)
		warn(limits, ahead);
}

/* Worker or not: the statement is charged to this entry from now on. */
static void
begin(CpuEntry *entry)
{
	/* What came before was another's. */
	if (running.entry != entry && !IsParallelWorker())
		running.charged_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	running.entry = entry;
	running.is_cancelled = false;
	running.is_running = true;
	watch_start();
}

/* A parallel worker lives for one query: its CPU time is that of the leader's tenant. */
static bool
begin_worker(void)
{
	const pg_uuid_t *tenant = extension_is_ready() ? context_tenant() : NULL;
	CpuKey key;
	LWLock *lock;
	CpuEntry *entry;

	if (tenant == NULL)
		return false;
	make_key(&key, tenant);
	entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	if (entry == NULL)
		return false;
	LWLockRelease(lock);
	begin(entry);
	return true;
}

pg_attribute_hot bool
cpu_begin(void)
{
	const ResourceLimits *limits;
	CpuKey key;
	LWLock *lock;
	CpuEntry *entry;

	if (unlikely(IsParallelWorker()))
		return begin_worker();
	limits = budgeted();
	if (likely(limits == NULL))
		return false;
	make_key(&key, &limits->tenant);
	entry = shared_table_ensure(&entries, &key, LW_SHARED, &lock);
	if (entry == NULL)
		return false; /* more tenants than tenancy.max_tenants: table.c counts it */
	pg_atomic_write_u64(&entry->budget_ns, limits->cpu_ns_per_minute);
	LWLockRelease(lock);
	running.budget_ns = limits->cpu_ns_per_minute;
	strlcpy(running.slug, limits->slug, sizeof(running.slug));
	begin(entry);
	return true;
}

static void
take_back_cancel(void)
{
	if (running.is_cancelled)
		watch_take_back_cancel();
	running.is_cancelled = false;
}

void
cpu_charge(bool has_failed)
{
	running.is_running = false;
	if (!has_failed)
		take_back_cancel();
	charge();
}

void
cpu_translate_error(void)
{
	if (!running.is_cancelled)
		return;
	take_back_cancel();
	FlushErrorState();
	note(&running.entry->key.tenant, CPU_CANCELLED, ahead_of(running.entry), running.budget_ns);
	refuse(running.slug, running.budget_ns, PERIOD_NS);
}

/* The rest of the transaction, its end included; a bound login goes on to be charged. */
static pg_attribute_hot void
end_transaction(void)
{
	if (likely(running.entry == NULL))
		return;
	charge();
	/* A procedure that commits still runs. */
	if (!running.is_running && login_tenant() == NULL)
		running.entry = NULL;
}

void
cpu_transaction_event(XactEvent event)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			end_transaction();
			if (!running.is_running)
				watch_stop();
			/* There is more to charge when the next one ends. */
			if (running.is_running || running.entry != NULL)
				transaction_watch();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			if (running.entry != NULL)
				charge();
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
