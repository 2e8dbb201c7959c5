/*
 * limit/quota.c
 *		How much a tenant may have: limits from its plan or set for it, and what is used.
 *
 * What is used is known in shared memory.  Rows of counted tables are known exactly: a
 * statement that adds rows reserves them before it ends, and its transaction turns them into
 * used ones or gives them back.  Other metrics are sums of usage events, read from the tables
 * when they were not asked for in REFRESH_INTERVAL and added to as transactions commit events.
 *
 * A limit for which the plan has a price beyond it is soft: more is billed, not refused.
 *
 * Lock rules.  An entry is looked at and changed under the exclusive lock of its partition,
 * for a few instructions; nothing raises meanwhile.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "limit/quota.h"
#include "meter/meter.h"
#include "shmem/table.h"
#include "usage/event.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

#define REFRESH_INTERVAL (60 * USECS_PER_SEC)
#define MANY_PENDING 500

typedef struct QuotaEntry
{
	QuotaKey key;
	bool is_counted;          /* rows of tables, known exactly */
	bool is_written;          /* the tenant has written since its storage was measured */
	bool is_changed;          /* since quota_take_changed() */
	uint32 changes;           /* by commits */
	int64 used;               /* committed */
	int64 reserved;           /* by transactions that go on; counted metrics alone */
	TimestampTz period_start; /* of a sum */
	TimestampTz refreshed_at; /* 0: not known */
} QuotaEntry;

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

GATE_LATEST(
	quotas_of_tenant,
	"WITH t AS (SELECT x.id, x.plan FROM tenancy.tenant x WHERE x.id = $1),"
	" allocated AS (SELECT (a.limits ->> 'storage_gb')::numeric AS quantity FROM "
	"tenancy.allocation a"
	"   WHERE a.tenant_id = $1 AND a.state = 'active' AND a.limits ? 'storage_gb'),"
	" priced AS (SELECT item ->> 'limit' AS limit_key FROM t CROSS JOIN LATERAL ("
	"     SELECT v.pricing FROM tenancy.plan_price v WHERE v.plan = t.plan"
	"      ORDER BY v.version DESC LIMIT 1) p,"
	"     LATERAL pg_catalog.jsonb_array_elements(coalesce(p.pricing -> 'usage_metrics', '[]')) "
	"item),"
	" planned AS (SELECT k.metric, l.value::text::numeric AS quantity,"
	"                    EXISTS (SELECT FROM priced r WHERE r.limit_key = k.limit_key) AS is_soft,"
	"                    pg_catalog.format('plan \"%s\"', t.plan) AS source"
	"   FROM t JOIN tenancy.plan p ON p.id = t.plan,"
	"        LATERAL pg_catalog.jsonb_each(p.limits) l"
	"   JOIN tenancy.quota_limit k ON k.limit_key = l.key"
	"  WHERE pg_catalog.jsonb_typeof(l.value) = 'number' AND l.value <> '-1'"
	"    AND NOT (k.metric = 'storage' AND EXISTS (SELECT FROM allocated))"
	" UNION ALL SELECT 'storage', x.quantity, false, 'resource_allocate()' FROM allocated x)"
	" SELECT m.name, m.aggregation IN ('max', 'latest'),"
	"        CASE WHEN q.metric IS NOT NULL THEN q.soft WHEN p.is_soft THEN p.quantity END,"
	"        CASE WHEN q.metric IS NOT NULL THEN q.hard WHEN NOT p.is_soft THEN p.quantity END,"
	"        CASE WHEN q.metric IS NOT NULL THEN 'quota_set()' ELSE p.source END"
	"   FROM tenancy.metric m"
	"   LEFT JOIN tenancy.quota q ON q.tenant_id = $1 AND q.metric = m.name"
	"   LEFT JOIN planned p ON p.metric = m.name"
	"  WHERE q.metric IS NOT NULL OR p.metric IS NOT NULL"
	"  ORDER BY m.name",
	UUIDOID);
GATE_LATEST(quota_sum_used, "SELECT coalesce(tenancy.usage_quantity($1, $2, $3, $4), 0)", UUIDOID,
			TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_LATEST(quota_storage_used,
			"SELECT coalesce((SELECT m.bytes / 1000000000.0 FROM tenancy.storage_measurement m"
			"                  WHERE m.tenant_id = $1),"
			"                tenancy.usage_quantity($1, 'storage', $2, $3), 0)",
			UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

static TenantCache known = {.name = "quotas", .entry_size = sizeof(QuotaList)};

int64
quota_from_numeric(Numeric value)
{
	Datum scaled;

	if (value == NULL)
		return QUOTA_NONE;
	scaled = DirectFunctionCall2(numeric_mul, NumericGetDatum(value),
								 NumericGetDatum(int64_to_numeric(QUOTA_UNIT)));
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, scaled,
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX / 2)))))
		return PG_INT64_MAX / 2;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, scaled));
}

Datum
quota_to_numeric(int64 value)
{
	return DirectFunctionCall1(numeric_trim_scale,
							   DirectFunctionCall2(numeric_div,
												   NumericGetDatum(int64_to_numeric(value)),
												   NumericGetDatum(int64_to_numeric(QUOTA_UNIT))));
}

char *
quota_to_text(int64 value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, quota_to_numeric(value)));
}

const QuotaList *
quota_list(const pg_uuid_t *tenant)
{
	QuotaList *found = tenant_cache_find(&known, tenant);
	GateRows *rows;
	Quota *quotas;
	MemoryContext old;

	if (likely(found != NULL))
		return found;
	rows = gate_run(&quotas_of_tenant, EXPECT_ANY, gate_uuid(tenant));
	old = MemoryContextSwitchTo(known.memory);
	quotas = palloc(sizeof(Quota) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		quotas[i].metric = row_text(rows, i, 0);
		quotas[i].is_level = row_bool(rows, i, 1);
		quotas[i].soft = quota_from_numeric(row_numeric(rows, i, 2));
		quotas[i].hard = quota_from_numeric(row_numeric(rows, i, 3));
		quotas[i].source = row_text(rows, i, 4);
	}
	MemoryContextSwitchTo(old);
	found = tenant_cache_add(&known, tenant);
	found->count = rows->count;
	found->quotas = quotas;
	return found;
}

const Quota *
quota_find(const pg_uuid_t *tenant, const char *metric)
{
	const QuotaList *quotas = quota_list(tenant);

	for (int i = 0; i < quotas->count; i++)
		if (strcmp(quotas->quotas[i].metric, metric) == 0)
			return &quotas->quotas[i];
	return NULL;
}

void
quota_make_key(QuotaKey *key, const pg_uuid_t *tenant, const char *metric)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->tenant = *tenant;
	strlcpy(key->metric, metric, sizeof(key->metric));
}

void
quota_refuse(const pg_uuid_t *tenant, const Quota *quota, int64 used, int64 wanted)
{
	char *slug = registry_slug(tenant);

	ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("quota \"%s\" of tenant \"%s\" is used up", quota->metric,
				   slug != NULL ? slug : id_text(tenant)),
			wanted > 0
				? errdetail("%s of %s are used; the statement would add %s.", quota_to_text(used),
							quota_to_text(quota->hard), quota_to_text(wanted))
				: errdetail("%s of %s are used.", quota_to_text(used), quota_to_text(quota->hard)),
			errhint("The limit comes from %s. Deleting makes room.", quota->source));
}

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
	MemoryContextSwitchTo(old);
	return found;
}

static int64
own_given_back(const QuotaKey *key)
{
	int64 sum = 0;
	ListCell *cell;

	foreach (cell, pending)
	{
		const Pending *one = lfirst(cell);

		if (memcmp(&one->key, key, sizeof(*key)) == 0)
			sum += one->given_back;
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

void
quota_set_counted(const QuotaKey *key, int64 used)
{
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);

	entry->used = used;
	entry->is_counted = true;
	entry->refreshed_at = clock_wall();
	LWLockRelease(lock);
}

bool
quota_reserve(const QuotaKey *key, int64 amount, int64 hard, int64 *used)
{
	Pending *own = own_pending(key);
	int64 room = own_given_back(key);
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);
	bool fits;

	*used = entry->used + entry->reserved - room;
	fits = hard == QUOTA_NONE || *used + amount <= hard;
	if (fits)
	{
		entry->reserved += amount;
		own->reserved += amount;
	}
	LWLockRelease(lock);
	return fits;
}

void
quota_give_back(const QuotaKey *key, int64 amount)
{
	own_pending(key)->given_back += amount;
}

/* All rows are gone, and nobody else changes them: TRUNCATE has locked them out. */
int64
quota_give_back_all(const QuotaKey *key)
{
	int64 all;
	LWLock *lock;
	QuotaEntry *entry = ensure(key, &lock);

	all = entry->used + entry->reserved;
	LWLockRelease(lock);
	all -= own_given_back(key);
	quota_give_back(key, all);
	return all;
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

typedef struct Written
{
	Oid database;
	pg_uuid_t *tenants; /* NULL: only counts */
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
	if (written->tenants != NULL)
	{
		written->tenants[written->count] = entry->key.tenant;
		entry->is_written = false;
	}
	written->count++;
}

int
quota_take_written(Oid database, pg_uuid_t *tenants, int max)
{
	Written written = {.database = database, .tenants = tenants, .max = max};

	shared_table_scan(&entries, LW_EXCLUSIVE, visit_written, &written);
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

	/* Entries that come while we read can wait for the next look. */
	state.capacity = shared_table_entry_count(&entries) + 64;
	state.known = palloc_array(QuotaKnown, state.capacity);
	shared_table_scan(&entries, LW_EXCLUSIVE, copy_known, &state);
	*count = state.count;
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

static void
apply(const Pending *one, bool is_commit)
{
	LWLock *lock;
	QuotaEntry *entry = shared_table_find(&entries, &one->key, LW_EXCLUSIVE, &lock);

	if (entry == NULL)
		return;
	entry->reserved -= one->reserved;
	if (is_commit)
	{
		entry->changes++;
		entry->is_changed = true;
		entry->used += one->reserved - one->given_back + one->added;
		if (one->is_stale)
			entry->refreshed_at = 0;
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

static TimestampTz
month_start(TimestampTz time, int months)
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

/* A usage event was recorded, and counts when the transaction commits; or was cancelled. */
static void
note_event(const pg_uuid_t *tenant, const char *metric, const char *aggregation, Numeric quantity,
		   TimestampTz occurred_at)
{
	QuotaKey key;
	Pending *own;

	/* A batch for very many: they are read from the tables again within REFRESH_INTERVAL. */
	if (list_length(pending) >= MANY_PENDING)
		return;
	quota_make_key(&key, tenant, metric);
	own = own_pending(&key);
	if (aggregation == NULL ||
		(strcmp(aggregation, "sum") != 0 && strcmp(aggregation, "count") != 0))
		own->is_stale = true;
	else if (month_start(occurred_at, 0) == month_start(clock_wall(), 0))
		own->added += *aggregation == 's' ? quota_from_numeric(quantity) : QUOTA_UNIT;
}

static int64
read_used(const pg_uuid_t *tenant, const char *metric, bool is_level, TimestampTz period_start,
		  TimestampTz period_end)
{
	TimestampTz now = clock_wall();
	NullableDatum from = gate_timestamptz(is_level ? now : period_start);
	NullableDatum to = gate_timestamptz(is_level ? now + 1 : period_end);
	GateRows *rows =
		strcmp(metric, "storage") == 0
			? gate_run(&quota_storage_used, EXPECT_ONE, gate_uuid(tenant), from, to)
			: gate_run(&quota_sum_used, EXPECT_ONE, gate_uuid(tenant), gate_text(metric), from, to);

	return quota_from_numeric(row_numeric(rows, 0, 0));
}

QuotaUse
quota_measure(const pg_uuid_t *tenant, const char *metric, bool is_level)
{
	TimestampTz now = clock_wall();
	TimestampTz period_start = is_level ? 0 : month_start(now, 0);
	QuotaUse use = {.resets_at = is_level ? DT_NOEND : month_start(now, 1)};
	QuotaKey key;
	LWLock *lock;
	QuotaEntry *entry;

	quota_make_key(&key, tenant, metric);
	entry = shared_table_find(&entries, &key, LW_SHARED, &lock);
	if (entry != NULL)
	{
		bool is_fresh =
			entry->is_counted ||
			(entry->refreshed_at != 0 && entry->refreshed_at <= now &&
			 entry->refreshed_at > now - REFRESH_INTERVAL && entry->period_start == period_start);

		use.used = entry->used + entry->reserved;
		if (entry->is_counted)
			use.used -= own_given_back(&key);
		LWLockRelease(lock);
		if (is_fresh)
			return use;
	}
	use.used = read_used(tenant, metric, is_level, period_start, use.resets_at);
	entry = ensure(&key, &lock);
	entry->used = use.used;
	entry->period_start = period_start;
	entry->refreshed_at = now;
	LWLockRelease(lock);
	return use;
}

void
quota_init(void)
{
	shared_table_register(&entries);
	usage_set_event_listener(note_event);
	quota_storage_init();
	quota_watch_init();
}
