/*
 * limit/quota_use.c
 *		What tenants use of their quotas, in shared memory.
 *
 * Rows of counted tables are known exactly: a statement that adds rows reserves them before it
 * ends, and its transaction turns them into used ones or gives them back.  So are sums of usage
 * events where more of them would be refused (quota_event.c).  Other metrics are read from the
 * tables when they were not asked for in REFRESH_INTERVAL, and added to as transactions commit
 * events.  How many sessions a tenant has is asked when it is wanted.
 *
 * Lock rules.  An entry is looked at and changed under the exclusive lock of its partition,
 * for a few instructions; nothing raises meanwhile.  Entries are removed with their database
 * alone, so that a session may keep a pointer to one of its own, for its signal handler.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "limit/quota.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define REFRESH_INTERVAL (60 * USECS_PER_SEC)

struct QuotaEntry
{
	QuotaKey key;
	bool is_counted;          /* rows of tables, known exactly */
	bool is_exact;            /* a sum of events of one period, known exactly */
	bool is_written;          /* the tenant has written since its storage was measured */
	bool is_changed;          /* since quota_take_changed() */
	uint32 changes;           /* by commits */
	int64 used;               /* committed */
	int64 reserved;           /* by transactions that go on; counted metrics alone */
	TimestampTz period_start; /* of a sum */
	TimestampTz refreshed_at; /* 0: not known */
};

static int
entry_capacity(void)
{
	return setting_max_tenants * 4;
}

static SharedTable entries = {
	.name = "pg_tenancy quotas",
	.key_size = sizeof(QuotaKey),
	.entry_size = sizeof(QuotaEntry),
	.capacity = entry_capacity,
};

GATE_LOOKUP(quota_sum_used, "SELECT coalesce(tenancy.usage_quantity($1, $2, $3, $4), 0)", UUIDOID,
			TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_LOOKUP(quota_storage_used,
			"SELECT coalesce((SELECT m.bytes / 1000000000.0 FROM tenancy.storage_measurement m"
			"                  WHERE m.tenant_id = $1),"
			"                tenancy.usage_quantity($1, 'storage', $2, $3), 0)",
			UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

/* What this transaction changes when it commits; in TopTransactionContext. */
typedef struct Pending
{
	QuotaKey key;
	SubTransactionId subtransaction;
	int64 reserved;   /* is in the entry, too */
	int64 given_back; /* is not */
	int64 added;      /* by usage events */
	bool is_stale;    /* what is known is not so any more */
} Pending;

static List *pending = NIL;

static Pending *
own_pending(const QuotaKey *key)
{
	SubTransactionId self = GetCurrentSubTransactionId();
	MemoryContext old;
	Pending *found;
	ListCell *cell;

	if (pending != NIL)
	{
		/* As a rule it is the one of the row before. */
		found = llast(pending);
		if (found->subtransaction == self && memcmp(&found->key, key, sizeof(*key)) == 0)
			return found;
	}
	foreach (cell, pending)
	{
		found = lfirst(cell);
		if (found->subtransaction == self && memcmp(&found->key, key, sizeof(*key)) == 0)
			return found;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	found = palloc0(sizeof(Pending));
	found->key = *key;
	found->subtransaction = self;
	pending = lappend(pending, found);
	transaction_watch();
	MemoryContextSwitchTo(old);
	return found;
}

/* Of this transaction, but for what is reserved: what is given back, and what comes. */
static int64
own_given_back(const QuotaKey *key)
{
	int64 sum = 0;
	ListCell *cell;

	foreach (cell, pending)
	{
		const Pending *one = lfirst(cell);

		if (memcmp(&one->key, key, sizeof(*key)) == 0)
			sum = quota_plus(sum, quota_plus(one->given_back, -one->added));
	}
	return sum;
}

bool
quota_is_counted(const QuotaKey *key)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);
	bool result;

	if (entry == NULL)
		return false;
	result = entry->is_counted;
	LWLockRelease(lock);
	return result;
}

static QuotaEntry *
ensure(const QuotaKey *key, LWLock **lock)
{
	QuotaEntry *entry = shared_table_ensure(&entries, key, LW_EXCLUSIVE, lock);

	if (entry == NULL)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("out of shared memory for quotas"),
				errhint("Raise \"tenancy.max_tenants\"."));
	return entry;
}

bool
quota_set_counted(const QuotaKey *key, int64 used)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_ensure(&entries, key, LW_EXCLUSIVE, &lock);

	if (entry == NULL)
		return false;
	entry->used = used;
	entry->is_counted = true;
	entry->refreshed_at = clock_wall();
	LWLockRelease(lock);
	return true;
}

bool
quota_reserve(const QuotaKey *key, int64 amount, int64 hard, int64 *used)
{
	Pending *own = own_pending(key);
	int64 room = own_given_back(key);
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);
	bool fits;

	*used = quota_plus(quota_plus(entry->used, entry->reserved), -room);
	fits = hard == QUOTA_NONE || quota_plus(*used, amount) <= hard;
	if (fits)
	{
		entry->reserved += amount;
		own->reserved += amount;
	}
	LWLockRelease(lock);
	return fits;
}

bool
quota_has_reserved(const QuotaKey *key)
{
	ListCell *cell;

	foreach (cell, pending)
	{
		const Pending *one = lfirst(cell);

		if ((one->reserved != 0 || one->given_back != 0) &&
			memcmp(&one->key, key, sizeof(*key)) == 0)
			return true;
	}
	return false;
}

int
quota_pending_count(void)
{
	return list_length(pending);
}

void
quota_add_at_commit(const QuotaKey *key, int64 amount)
{
	Pending *own = own_pending(key);

	own->added = quota_plus(own->added, amount);
	own->is_stale |= quota_is_cut_off(amount) || quota_is_cut_off(own->added);
}

void
quota_forget_at_commit(const QuotaKey *key)
{
	own_pending(key)->is_stale = true;
}

bool
quota_is_exact(const QuotaKey *key, TimestampTz period_start)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);
	bool result;

	if (entry == NULL)
		return false;
	result = entry->is_exact && entry->period_start == period_start;
	LWLockRelease(lock);
	return result;
}

void
quota_set_exact(const QuotaKey *key, TimestampTz period_start, int64 used)
{
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);

	entry->used = used;
	entry->period_start = period_start;
	entry->refreshed_at = clock_wall();
	entry->is_exact = true;
	LWLockRelease(lock);
}

void
quota_give_back(const QuotaKey *key, int64 amount)
{
	Pending *own = own_pending(key);

	own->given_back = quota_plus(own->given_back, amount);
	own->is_stale |= quota_is_cut_off(amount) || quota_is_cut_off(own->given_back);
}

void
quota_note_written(const QuotaKey *key)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);

	if (entry == NULL)
		entry = shared_table_ensure(&entries, key, LW_EXCLUSIVE, &lock);
	if (entry == NULL)
		return;
	if (!entry->is_written)
		entry->is_written = true;
	LWLockRelease(lock);
}

void
quota_note_changed(const QuotaKey *key)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_EXCLUSIVE, &lock);

	if (entry == NULL)
		return;
	entry->is_changed = true;
	LWLockRelease(lock);
}

QuotaEntry *
quota_entry(const QuotaKey *key)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_ensure(&entries, key, LW_EXCLUSIVE, &lock);

	if (entry != NULL)
		LWLockRelease(lock);
	return entry;
}

/* Without a lock: single words, of an entry that stays. */
bool
quota_is_over(QuotaEntry *entry, int64 hard)
{
	entry->is_written = true;
	return entry->refreshed_at != 0 && entry->used > hard;
}

/*
 * What a job has taken to work on, until its transaction commits: where it does not, it is there
 * again for the next.  In TopMemoryContext.
 */
static struct
{
	QuotaKey *keys;
	int count;
	bool is_written; /* else is_changed */
} taken;

static void
note_taken(const QuotaKey *keys, int count, bool is_written)
{
	if (count == 0)
		return;
	taken.keys = MemoryContextAlloc(TopMemoryContext, sizeof(QuotaKey) * count);
	memcpy(taken.keys, keys, sizeof(QuotaKey) * count);
	taken.is_written = is_written;
	taken.count = count;
}

static void
settle_taken(bool is_commit)
{
	for (int i = 0; i < taken.count && !is_commit; i++)
	{
		LWLock *lock;
		QuotaEntry *entry = shared_table_find(&entries, &taken.keys[i], LW_EXCLUSIVE, &lock);

		if (entry == NULL)
			continue;
		if (taken.is_written)
			entry->is_written = true;
		else
			entry->is_changed = true;
		LWLockRelease(lock);
	}
	if (taken.count > 0)
		pfree(taken.keys);
	taken.count = 0;
}

typedef struct Written
{
	Oid database;
	QuotaKey *keys; /* NULL: only counts */
	int count;
	int max;
} Written;

static void
visit_written(void *pointer, void *argument)
{
	QuotaEntry *entry = pointer;
	Written *written = argument;

	if (!entry->is_written || entry->key.database != written->database ||
		written->count == written->max)
		return;
	if (written->keys != NULL)
	{
		written->keys[written->count] = entry->key;
		entry->is_written = false;
	}
	written->count++;
}

int
quota_take_written(Oid database, pg_uuid_t *tenants, int max)
{
	Written written = {.database = database, .keys = palloc_array(QuotaKey, max), .max = max};

	shared_table_scan(&entries, LW_EXCLUSIVE, visit_written, &written);
	for (int i = 0; i < written.count; i++)
		tenants[i] = written.keys[i].tenant;
	note_taken(written.keys, written.count, true);
	return written.count;
}

bool
quota_has_written(Oid database)
{
	Written written = {.database = database, .max = 1};

	shared_table_scan(&entries, LW_SHARED, visit_written, &written);
	return written.count > 0;
}

void
quota_set_used(const QuotaKey *key, int64 used)
{
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);

	entry->used = used;
	entry->is_changed = true;
	entry->refreshed_at = clock_wall();
	LWLockRelease(lock);
}

int64
quota_known_use(const QuotaKey *key)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);
	int64 used = -1;

	if (entry == NULL)
		return used;
	if (entry->refreshed_at != 0)
		used = entry->used;
	LWLockRelease(lock);
	return used;
}

typedef struct KnownState
{
	Oid database;
	QuotaKnown *known;
	int count;
	int capacity;
} KnownState;

static void
copy_known(void *pointer, void *argument)
{
	QuotaEntry *entry = pointer;
	KnownState *state = argument;

	if (entry->key.database != state->database || !entry->is_changed || entry->refreshed_at == 0 ||
		state->count == state->capacity)
		return;
	entry->is_changed = false;
	state->known[state->count++] =
		(QuotaKnown){.key = entry->key, .used = entry->used, .period_start = entry->period_start};
}

QuotaKnown *
quota_take_changed(Oid database, int *count)
{
	KnownState state = {.database = database};
	QuotaKey *keys;

	/* Entries that come while we read can wait for the next look. */
	state.capacity = shared_table_entry_count(&entries) + 64;
	state.known = palloc_array(QuotaKnown, state.capacity);
	shared_table_scan(&entries, LW_EXCLUSIVE, copy_known, &state);
	*count = state.count;
	keys = palloc_array(QuotaKey, Max(state.count, 1));
	for (int i = 0; i < state.count; i++)
		keys[i] = state.known[i].key;
	note_taken(keys, state.count, false);
	return state.known;
}

static void
find_changed(void *pointer, void *argument)
{
	const QuotaEntry *entry = pointer;
	KnownState *state = argument;

	if (entry->key.database == state->database && entry->is_changed && entry->refreshed_at != 0)
		state->count++;
}

bool
quota_has_changed(Oid database)
{
	KnownState state = {.database = database};

	shared_table_scan(&entries, LW_SHARED, find_changed, &state);
	return state.count > 0;
}

typedef struct Visitor
{
	void (*visit)(Oid database, void *state);
	void *state;
} Visitor;

static void
visit_pending(void *pointer, void *argument)
{
	const QuotaEntry *entry = pointer;
	const Visitor *visitor = argument;

	if (entry->is_written || (entry->is_changed && entry->refreshed_at != 0))
		visitor->visit(entry->key.database, visitor->state);
}

void
quota_for_each_pending(void (*visit)(Oid database, void *state), void *state)
{
	Visitor visitor = {visit, state};

	shared_table_scan(&entries, LW_SHARED, visit_pending, &visitor);
}

static void
apply(const Pending *one, bool is_commit)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, &one->key, LW_EXCLUSIVE, &lock);
	int64 change;
	bool is_cut_off;

	if (entry == NULL)
		return;
	entry->reserved -= one->reserved;
	if (is_commit)
	{
		entry->changes++;
		entry->is_changed = true;
		change = quota_plus(quota_plus(one->reserved, -one->given_back), one->added);
		is_cut_off = quota_is_cut_off(entry->used);
		entry->used = quota_plus(entry->used, change);
		is_cut_off = is_cut_off || quota_is_cut_off(entry->used);
		if (one->is_stale || is_cut_off)
		{
			entry->refreshed_at = 0;
			entry->is_exact = false;
		}
	}
	LWLockRelease(lock);
}

void
quota_transaction_event(XactEvent event)
{
	ListCell *cell;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			foreach (cell, pending)
				apply(lfirst(cell), event == XACT_EVENT_COMMIT);
			pending = NIL;
			settle_taken(event == XACT_EVENT_COMMIT);
			break;
		case XACT_EVENT_PRE_PREPARE:
			foreach (cell, pending)
			{
				const Pending *one = lfirst(cell);

				if (one->reserved != 0 || one->given_back != 0)
					ereport(
						ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has changed a counted table"));
			}
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
quota_subtransaction_event(SubXactEvent event, SubTransactionId self, SubTransactionId parent)
{
	ListCell *cell;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach (cell, pending)
	{
		Pending *one = lfirst(cell);

		if (one->subtransaction != self)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			one->subtransaction = parent;
		else
		{
			apply(one, false);
			pending = foreach_delete_current(pending, cell);
		}
	}
}

TimestampTz
quota_month(TimestampTz time, int months)
{
	struct pg_tm tm;
	fsec_t fsec;
	TimestampTz result;
	int month;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	month = tm.tm_mon - 1 + months;
	tm.tm_year += month / MONTHS_PER_YEAR;
	tm.tm_mon = month % MONTHS_PER_YEAR + 1;
	tm.tm_mday = 1;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	if (tm2timestamp(&tm, 0, NULL, &result) != 0)
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	return result;
}

/* A snapshot of what others have committed: the changes of this transaction are told apart. */
static void
push_committed_snapshot(void)
{
	PushActiveSnapshot(GetLatestSnapshot());
	GetActiveSnapshot()->curcid = FirstCommandId;
}

int64
quota_read_committed(const pg_uuid_t *tenant, const char *metric, bool is_level,
					 TimestampTz period_start, TimestampTz period_end)
{
	TimestampTz now = clock_wall();
	NullableDatum from = gate_timestamptz(is_level ? now : period_start);
	NullableDatum to = gate_timestamptz(is_level ? now + 1 : period_end);
	GateRows *rows;

	push_committed_snapshot();
	rows =
		strcmp(metric, "storage") == 0
			? gate_run(&quota_storage_used, EXPECT_ONE, gate_uuid(tenant), from, to)
			: gate_run(&quota_sum_used, EXPECT_ONE, gate_uuid(tenant), gate_text(metric), from, to);
	PopActiveSnapshot();
	return quota_from_numeric(row_numeric(rows, 0, 0));
}

/* What is known of a metric, if it still holds. */
static bool
find_fresh(const QuotaKey *key, TimestampTz now, TimestampTz period_start, int64 *used,
		   uint32 *changes)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, key, LW_SHARED, &lock);
	bool is_fresh;

	*changes = 0;
	if (entry == NULL)
		return false;
	is_fresh =
		entry->is_counted || (entry->is_exact && entry->period_start == period_start) ||
		(entry->refreshed_at != 0 && entry->refreshed_at <= now &&
		 entry->refreshed_at > now - REFRESH_INTERVAL && entry->period_start == period_start);
	*used = quota_plus(entry->used, entry->reserved);
	*changes = entry->changes;
	LWLockRelease(lock);
	return is_fresh;
}

QuotaUse
quota_measure(const pg_uuid_t *tenant, const char *metric, bool is_level)
{
	TimestampTz now = clock_wall();
	TimestampTz period_start = is_level ? 0 : quota_month(now, 0);
	QuotaUse use = {.resets_at = is_level ? DT_NOEND : quota_month(now, 1)};
	QuotaKey key;
	LWLock *lock;
	QuotaEntry *entry;
	uint32 changes;

	if (strcmp(metric, QUOTA_CONNECTIONS) == 0)
	{
		use.used = context_count_sessions(tenant) * QUOTA_UNIT;
		return use;
	}
	quota_make_key(&key, tenant, metric);
	if (!find_fresh(&key, now, period_start, &use.used, &changes))
	{
		use.used = quota_read_committed(tenant, metric, is_level, period_start, use.resets_at);
		entry = ensure(&key, &lock);
		entry->used = use.used;
		entry->period_start = period_start;
		/* Was something committed meanwhile that was perhaps not read?  Then it is read again. */
		entry->refreshed_at = entry->changes == changes ? now : 0;
		LWLockRelease(lock);
	}
	use.used = quota_plus(use.used, -own_given_back(&key));
	return use;
}

static void
forget(void *pointer, void *argument)
{
	QuotaEntry *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&entries, &entry->key);
}

void
quota_forget(Oid database)
{
	shared_table_scan(&entries, LW_EXCLUSIVE, forget, &database);
}

void
quota_init(void)
{
	shared_table_register(&entries);
	quota_event_init();
	quota_storage_init();
	quota_watch_init();
}
