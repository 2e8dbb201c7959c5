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

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

#define REFRESH_INTERVAL (60 * USECS_PER_SEC)

typedef struct QuotaEntry
{
	QuotaKey key;
	bool is_counted;          /* rows of tables, known exactly */
	bool is_written;          /* the tenant has written since its storage was measured */
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
GATE_LOOKUP(quota_metric, "SELECT m.aggregation FROM tenancy.metric m WHERE m.name = $1", TEXTOID);
GATE_LATEST(quota_sum_used, "SELECT coalesce(tenancy.usage_quantity($1, $2, $3, $4), 0)", UUIDOID,
			TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_LATEST(quota_storage_used,
			"SELECT coalesce((SELECT m.bytes / 1000000000.0 FROM tenancy.storage_measurement m"
			"                  WHERE m.tenant_id = $1),"
			"                tenancy.usage_quantity($1, 'storage', $2, $3), 0)",
			UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(quota_upsert,
			   "INSERT INTO tenancy.quota AS q (tenant_id, metric, soft, hard, changed_at)"
			   " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, metric)"
			   " DO UPDATE SET soft = excluded.soft, hard = excluded.hard,"
			   "               changed_at = excluded.changed_at"
			   " RETURNING q",
			   UUIDOID, TEXTOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	quota_remove,
	"DELETE FROM tenancy.quota AS q WHERE q.tenant_id = $1 AND q.metric = $2 RETURNING q", UUIDOID,
	TEXTOID);

typedef struct QuotaList
{
	pg_uuid_t tenant;
	int count;
	Quota *quotas;
} QuotaList;

static TenantCache known = {.name = "quotas", .entry_size = sizeof(QuotaList)};

static int64
from_numeric(Numeric value)
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

static Datum
to_numeric(int64 value)
{
	return DirectFunctionCall1(numeric_trim_scale,
							   DirectFunctionCall2(numeric_div,
												   NumericGetDatum(int64_to_numeric(value)),
												   NumericGetDatum(int64_to_numeric(QUOTA_UNIT))));
}

static char *
to_text(int64 value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, to_numeric(value)));
}

static const QuotaList *
list(const pg_uuid_t *tenant)
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
		quotas[i].soft = from_numeric(row_numeric(rows, i, 2));
		quotas[i].hard = from_numeric(row_numeric(rows, i, 3));
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
	const QuotaList *quotas = list(tenant);

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
			wanted > 0 ? errdetail("%s of %s are used; the statement would add %s.", to_text(used),
								   to_text(quota->hard), to_text(wanted))
					   : errdetail("%s of %s are used.", to_text(used), to_text(quota->hard)),
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

	quota_make_key(&key, tenant, metric);
	own = own_pending(&key);
	if (aggregation == NULL ||
		(strcmp(aggregation, "sum") != 0 && strcmp(aggregation, "count") != 0))
		own->is_stale = true;
	else if (month_start(occurred_at, 0) == month_start(clock_wall(), 0))
		own->added += *aggregation == 's' ? from_numeric(quantity) : QUOTA_UNIT;
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

	return from_numeric(row_numeric(rows, 0, 0));
}

static QuotaUse
measure(const pg_uuid_t *tenant, const char *metric, bool is_level)
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

/* Columns of tenancy.quota_result. */
enum
{
	RESULT_ALLOWED,
	RESULT_RESOURCE,
	RESULT_USED,
	RESULT_SOFT,
	RESULT_HARD,
	RESULT_REMAINING,
	RESULT_PERCENT,
	RESULT_RESETS_AT,
	RESULT_REASON,
	RESULT_COLUMNS
};

static const char *
explain(const Quota *quota, const QuotaUse *use, int64 amount, bool is_allowed)
{
	if (!is_allowed)
		return psprintf("%s of %s are used, and %s more would pass the limit of %s",
						to_text(use->used), to_text(quota->hard), to_text(amount), quota->source);
	if (quota->soft != QUOTA_NONE && use->used + amount > quota->soft)
		return psprintf("more than the %s that are included by %s", to_text(quota->soft),
						quota->source);
	return NULL;
}

static Datum
make_result(FunctionCallInfo fcinfo, const char *resource, const Quota *quota, const QuotaUse *use,
			int64 amount)
{
	bool has_hard = quota != NULL && quota->hard != QUOTA_NONE;
	bool has_soft = quota != NULL && quota->soft != QUOTA_NONE;
	bool is_allowed = !has_hard || use->used + amount <= quota->hard;
	const char *reason = quota == NULL ? NULL : explain(quota, use, amount, is_allowed);
	int64 limit = has_hard ? quota->hard : has_soft ? quota->soft : 0;
	Datum values[RESULT_COLUMNS] = {
		[RESULT_ALLOWED] = BoolGetDatum(is_allowed),
		[RESULT_RESOURCE] = CStringGetTextDatum(resource),
		[RESULT_USED] = to_numeric(use->used),
		[RESULT_SOFT] = has_soft ? to_numeric(quota->soft) : 0,
		[RESULT_HARD] = has_hard ? to_numeric(quota->hard) : 0,
		[RESULT_REMAINING] = has_hard ? to_numeric(Max(quota->hard - use->used, 0)) : 0,
		[RESULT_RESETS_AT] = TimestampTzGetDatum(use->resets_at),
		[RESULT_REASON] = reason == NULL ? 0 : CStringGetTextDatum(reason),
	};
	bool nulls[RESULT_COLUMNS] = {
		[RESULT_SOFT] = !has_soft,
		[RESULT_HARD] = !has_hard,
		[RESULT_REMAINING] = !has_hard,
		[RESULT_PERCENT] = limit <= 0,
		[RESULT_RESETS_AT] = TIMESTAMP_NOT_FINITE(use->resets_at),
		[RESULT_REASON] = reason == NULL,
	};
	TupleDesc desc;

	if (limit > 0)
		values[RESULT_PERCENT] = DirectFunctionCall2(
			numeric_round,
			DirectFunctionCall2(numeric_div,
								DirectFunctionCall2(numeric_mul,
													NumericGetDatum(int64_to_numeric(use->used)),
													NumericGetDatum(int64_to_numeric(100))),
								NumericGetDatum(int64_to_numeric(limit))),
			Int32GetDatum(2));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static bool
metric_is_level(const char *metric)
{
	GateRows *rows = gate_run(&quota_metric, EXPECT_AT_MOST_ONE, gate_text(metric));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", metric),
				errhint("A quota is one of a metric: see tenancy.metric."));
	return strcmp(row_text(rows, 0, 0), "max") == 0 || strcmp(row_text(rows, 0, 0), "latest") == 0;
}

/* quota_check(tenant regtenant, resource text, amount numeric) → tenancy.quota_result */
TENANCY_FUNCTION(quota_check)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	Numeric amount = required_numeric(fcinfo, 2, "amount");
	const Quota *quota;
	QuotaUse use;

	tenant_require_visible(tenant);
	quota = quota_find(tenant, resource);
	use = measure(tenant, resource, quota != NULL ? quota->is_level : metric_is_level(resource));
	/* What was read has perhaps emptied the cache. */
	quota = quota_find(tenant, resource);
	PG_RETURN_DATUM(make_result(fcinfo, resource, quota, &use, from_numeric(amount)));
}

static Numeric
optional_limit(FunctionCallInfo fcinfo, int n, const char *name)
{
	Numeric limit = PG_ARGISNULL(n) ? NULL : required_numeric(fcinfo, n, name);

	/* The plans' word for no limit. */
	if (limit != NULL && from_numeric(limit) == -QUOTA_UNIT)
		return NULL;
	if (limit != NULL && from_numeric(limit) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must not be negative", name), errhint("-1 is no limit."));
	return limit;
}

/* quota_set(tenant regtenant, resource text, soft numeric, hard numeric) → tenancy.quota */
TENANCY_FUNCTION(quota_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	Numeric soft = optional_limit(fcinfo, 2, "soft");
	Numeric hard = optional_limit(fcinfo, 3, "hard");

	context_require_none("setting a quota");
	(void) registry_get(tenant);
	(void) metric_is_level(resource);
	if (soft != NULL && hard != NULL && from_numeric(soft) > from_numeric(hard))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the soft limit must not be above the hard one"));
	PG_RETURN_DATUM(
		row_datum(gate_run(&quota_upsert, EXPECT_ONE, gate_uuid(tenant), gate_text(resource),
						   gate_numeric(soft), gate_numeric(hard), gate_timestamptz(clock_now())),
				  0, 0));
}

/* quota_reset(tenant regtenant, resource text) → tenancy.quota */
TENANCY_FUNCTION(quota_reset)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *resource = required_text(fcinfo, 1, "resource");
	GateRows *rows;

	context_require_none("resetting a quota");
	(void) registry_get(tenant);
	rows = gate_run(&quota_remove, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(resource));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" has no quota \"%s\" of its own", registry_slug(tenant),
					   resource));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

static NullableDatum
optional_number(int64 value)
{
	return value == QUOTA_NONE ? gate_null() : gate_datum(to_numeric(value));
}

/* tenancy.quota_read(tenant uuid) → TABLE(resource, used, soft, hard, source, resets_at) */
TENANCY_FUNCTION(quota_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	int count;

	tenant_require_visible(tenant);
	InitMaterializedSRF(fcinfo, 0);
	count = list(tenant)->count;
	for (int i = 0; i < count && i < list(tenant)->count; i++)
	{
		Quota quota = list(tenant)->quotas[i];
		char *metric = pstrdup(quota.metric);
		char *source = pstrdup(quota.source);
		QuotaUse use = measure(tenant, metric, quota.is_level);
		NullableDatum soft = optional_number(quota.soft);
		NullableDatum hard = optional_number(quota.hard);
		Datum values[6] = {
			CStringGetTextDatum(metric),
			to_numeric(use.used),
			soft.value,
			hard.value,
			CStringGetTextDatum(source),
			TimestampTzGetDatum(use.resets_at),
		};
		bool nulls[6] = {false,       false, soft.isnull,
						 hard.isnull, false, TIMESTAMP_NOT_FINITE(use.resets_at)};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

void
quota_init(void)
{
	shared_table_register(&entries);
	meter_set_event_listener(note_event);
	quota_storage_init();
}
