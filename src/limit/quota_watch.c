/*
 * limit/quota_watch.c
 *		Telling, once a threshold and period, that a quota is being used up.
 *
 * Looks at what shared memory knows, that is at tenants that have used something or were asked
 * about since the server started.  A sum passes a threshold once a month; a level may pass one
 * again once it was below it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "job/kind.h"
#include "job/outbox.h"
#include "limit/quota.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define LOOK_INTERVAL (10 * USECS_PER_SEC)

/* Percent of the soft limit, else of the hard one. */
#define THRESHOLDS "(VALUES (80), (100))"

static const EventType event_types[] = {
	{"quota.warning", 1, "a tenant has used 80 or 100 percent of a quota"},
};

#define KNOWN "unnest($1, $2, $3, $4, $5) AS k(tenant_id, metric, period_start, used, quota)"

/* A level that went below: its next rise is news. */
GATE_STATEMENT(quota_event_clear,
			   "UPDATE tenancy.quota_event e SET cleared_at = $6 FROM " KNOWN
			   " WHERE e.tenant_id = k.tenant_id AND e.metric = k.metric AND e.cleared_at IS NULL"
			   "   AND k.period_start = '2000-01-01 00:00+00'"
			   "   AND k.used::numeric * 100 < k.quota::numeric * e.threshold_percent",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
			   TIMESTAMPTZOID);
/*
 * Nothing is written of a tenant that is being purged: the lock waits for the end of that, and the
 * state is then looked at again.
 */
GATE_STATEMENT(
	quota_event_insert,
	"WITH due AS MATERIALIZED ("
	"    SELECT k.*, h.percent FROM " KNOWN " CROSS JOIN " THRESHOLDS " AS h(percent)"
	"     WHERE k.used::numeric * 100 >= k.quota::numeric * h.percent"
	"       AND NOT EXISTS (SELECT FROM tenancy.quota_event e WHERE e.tenant_id = k.tenant_id"
	"             AND e.metric = k.metric AND e.threshold_percent = h.percent"
	"             AND e.period_start = k.period_start AND e.cleared_at IS NULL)),"
	" held AS MATERIALIZED ("
	"    SELECT t.id FROM tenancy.tenant t WHERE t.id IN (SELECT d.tenant_id FROM due d)"
	"       AND t.state NOT IN ('purging', 'purged') ORDER BY t.id FOR KEY SHARE)"
	" INSERT INTO tenancy.quota_event AS e (tenant_id, metric, threshold_percent, period_start,"
	"    used, quota, recorded_at)"
	" SELECT d.tenant_id, d.metric, d.percent, d.period_start,"
	"        pg_catalog.trim_scale(d.used::numeric / 1000000),"
	"        pg_catalog.trim_scale(d.quota::numeric / 1000000), $6"
	"   FROM due d JOIN held t ON t.id = d.tenant_id"
	"  ORDER BY d.tenant_id, d.metric, d.percent"
	" ON CONFLICT (tenant_id, metric, threshold_percent, period_start) WHERE cleared_at IS NULL"
	"    DO NOTHING"
	" RETURNING e.tenant_id, pg_catalog.jsonb_build_object('metric', e.metric, 'threshold_percent',"
	"    e.threshold_percent, 'period_start', e.period_start, 'used', e.used, 'quota', e.quota)",
	UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZOID);

typedef struct Columns
{
	int count;
	Datum *tenants;
	Datum *metrics;
	Datum *period_starts;
	Datum *used;
	Datum *quotas;
} Columns;

static void
add_known(Columns *columns, QuotaKnown *known)
{
	const Quota *quota = quota_find(&known->key.tenant, known->key.metric);
	int64 limit;

	if (quota == NULL)
		return;
	limit = quota->soft != QUOTA_NONE ? quota->soft : quota->hard;
	if (limit == QUOTA_NONE || limit <= 0)
		return;
	columns->tenants[columns->count] = UUIDPGetDatum(&known->key.tenant);
	columns->metrics[columns->count] = CStringGetTextDatum(known->key.metric);
	columns->period_starts[columns->count] = TimestampTzGetDatum(known->period_start);
	columns->used[columns->count] = Int64GetDatum(known->used);
	columns->quotas[columns->count] = Int64GetDatum(limit);
	columns->count++;
}

static void
put_events(const GateRows *told)
{
	pg_uuid_t *tenants = palloc_array(pg_uuid_t, told->count);
	const Jsonb **payloads = palloc_array(const Jsonb *, told->count);

	for (int64 i = 0; i < told->count; i++)
	{
		tenants[i] = *row_uuid(told, i, 0);
		payloads[i] = row_jsonb(told, i, 1);
	}
	outbox_put_many("quota.warning", tenants, payloads, (int) told->count);
}

static int64
tell(QuotaKnown *known, int count)
{
	Size size = sizeof(Datum) * Max(count, 1);
	Columns c = {0, palloc(size), palloc(size), palloc(size), palloc(size), palloc(size)};
	NullableDatum now = gate_timestamptz(clock_now());
	GateRows *told;

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_known(&c, &known[i]);
	}
	if (c.count == 0)
		return 0;
#define COLUMNS                                                                                    \
	gate_array(c.tenants, c.count, UUIDOID), gate_array(c.metrics, c.count, TEXTOID),              \
		gate_array(c.period_starts, c.count, TIMESTAMPTZOID),                                      \
		gate_array(c.used, c.count, INT8OID), gate_array(c.quotas, c.count, INT8OID), now
	/* In this order: it waits for a purge before it has changed what that will delete. */
	told = gate_run(&quota_event_insert, EXPECT_ANY, COLUMNS);
	gate_run(&quota_event_clear, EXPECT_ANY, COLUMNS);
#undef COLUMNS
	if (told->count > 0)
		put_events(told);
	return told->count;
}

/* Of this process, which is the database's one runner or a session that does its work. */
static TimestampTz looked_at = 0;

static bool
has_changed(Oid database)
{
	return GetCurrentTimestamp() >= looked_at + LOOK_INTERVAL && quota_has_changed(database);
}

static char *
watch(void)
{
	int count;
	QuotaKnown *known = quota_take_changed(MyDatabaseId, &count);

	looked_at = GetCurrentTimestamp();
	return psprintf("{\"events\": " INT64_FORMAT "}", tell(known, count));
}

static const JobKind watch_job = {
	.name = "limits.watch",
	.run = watch,
	.every_seconds = 0, /* whenever there is something */
	.has_work = has_changed,
	.description = "records quotas of which 80 and 100 percent are used, once a period",
};

void
quota_watch_init(void)
{
	job_kind_register(&watch_job);
	event_types_register(event_types, lengthof(event_types));
}
