/*
 * limit/quota_event.c
 *		What usage events do to quotas.
 *
 * An event says what has happened, so that as a rule it is recorded whatever the limit.  A quota
 * can be told to refuse instead (refuses_events): then an event of a metric that sums or counts
 * is let in as a row of a counted table is, exactly; one of a level when it is not above the
 * limit.
 *
 * Lock rules.  A transaction that has reserved some of such a sum holds a RowShareLock on no object
 * in particular: of tenancy.quota's class, by the hash of the key.  Who reads the sum from the
 * table waits for all of them (ExclusiveLock), so that what he reads is what is committed, and what
 * comes later is added to it.  It is read at the first event after a start of the server, in a new
 * month, and after an event was cancelled.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/clock.h"
#include "limit/quota.h"
#include "usage/event.h"

#include "common/hashfn.h"
#include "storage/lmgr.h"

#define MANY_PENDING 500

GATE_LATEST(any_quota_refuses,
			"SELECT EXISTS (SELECT FROM tenancy.quota q WHERE q.refuses_events)"
			"    OR EXISTS (SELECT FROM tenancy.quota_limit k WHERE k.refuses_events)");

/* Most databases have no such quota: their events are spared the look-up. */
static bool
may_refuse(void)
{
	static uint64 generation;
	static bool is_known = false;
	static bool is_any;
	uint64 now = registry_generation();

	if (unlikely(!is_known || generation != now))
	{
		is_any = row_bool(gate_run_array(&any_quota_refuses, EXPECT_ONE, NULL, 0), 0, 0);
		generation = now;
		is_known = true;
	}
	return is_any;
}

static void
ensure_exact(const QuotaKey *key, TimestampTz period_start, TimestampTz period_end)
{
	Oid table = extension_relation("quota");
	uint32 object = hash_bytes((const unsigned char *) key, sizeof(*key));

	/* Our own lock keeps it as it is. */
	if (quota_has_reserved(key))
		return;
	for (;;)
	{
		LockDatabaseObject(table, object, 0, RowShareLock);
		if (likely(quota_is_exact(key, period_start)))
			return;
		UnlockDatabaseObject(table, object, 0, RowShareLock);
		LockDatabaseObject(table, object, 0, ExclusiveLock);
		if (!quota_is_exact(key, period_start))
			quota_set_exact(
				key, period_start,
				quota_read_committed(&key->tenant, key->metric, false, period_start, period_end));
		UnlockDatabaseObject(table, object, 0, ExclusiveLock);
	}
}

/* For as long as the caller needs it: what is read may empty the cache. */
static Quota
keep(const Quota *quota)
{
	Quota copy = *quota;

	copy.metric = pstrdup(quota->metric);
	copy.source = pstrdup(quota->source);
	return copy;
}

static pg_noreturn void
refuse_level(const Quota *quota, const QuotaKey *key, int64 amount, TimestampTz now)
{
	Quota copy = keep(quota);
	int64 used = quota_read_committed(&key->tenant, key->metric, true, now, now);

	quota_refuse(&key->tenant, &copy, used, amount - used);
}

/* An event under a quota that refuses. */
static void
admit(const Quota *quota, const QuotaKey *key, int64 amount, TimestampTz occurred_at)
{
	TimestampTz now = clock_wall();
	TimestampTz period_start = quota_month(now, 0);
	Quota copy;
	int64 used;

	if (quota->is_level)
	{
		if (amount > quota->hard)
			refuse_level(quota, key, amount, now);
		quota_forget_at_commit(key);
		return;
	}
	/* What was reported late belongs to a month that is over. */
	if (quota_month(occurred_at, 0) != period_start)
		return;
	copy = keep(quota);
	ensure_exact(key, period_start, quota_month(now, 1));
	if (amount < 0)
		quota_give_back(key, -amount);
	else if (!quota_reserve(key, amount, copy.hard, &used))
		quota_refuse(&key->tenant, &copy, used, amount);
}

/* A usage event was recorded, and counts when the transaction commits; or was cancelled. */
static void
note_event(const pg_uuid_t *tenant, const char *metric, const char *aggregation, Numeric quantity,
		   TimestampTz occurred_at)
{
	bool is_sum = aggregation != NULL && strcmp(aggregation, "sum") == 0;
	bool is_count = aggregation != NULL && strcmp(aggregation, "count") == 0;
	int64 amount = is_count ? QUOTA_UNIT : aggregation != NULL ? quota_from_numeric(quantity) : 0;
	QuotaKey key;

	quota_make_key(&key, tenant, metric);
	if (aggregation != NULL && may_refuse())
	{
		const Quota *quota = quota_find(tenant, metric);

		if (quota != NULL && quota->refuses_events && quota->hard != QUOTA_NONE)
		{
			admit(quota, &key, amount, occurred_at);
			return;
		}
	}
	/* A batch for very many: they are read from the tables again within a minute. */
	if (quota_pending_count() >= MANY_PENDING)
		return;
	if (!is_sum && !is_count)
		quota_forget_at_commit(&key);
	else if (quota_month(occurred_at, 0) == quota_month(clock_wall(), 0))
		quota_add_at_commit(&key, amount);
}

void
quota_event_init(void)
{
	usage_set_event_listener(note_event);
}
