/*
 * limit/quota_watch.c
 *		Telling, once a threshold and period, that a quota is being used up.
 *
 * Looks at what shared memory knows, that is at tenants that have used something or were asked
 * about since the server started.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "job/kind.h"
#include "limit/quota.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#define LOOK_INTERVAL (10 * USECS_PER_SEC)

static const int thresholds[] = {80, 100}; /* percent of the soft limit, else of the hard one */

GATE_STATEMENT(quota_event_insert,
			   "INSERT INTO tenancy.quota_event AS e (tenant_id, metric, threshold_percent,"
			   "    period_start, used, quota, recorded_at)"
			   " SELECT $1, $2, $3, $4, $5::numeric / 1000000, $6::numeric / 1000000, $7"
			   "  WHERE EXISTS (SELECT FROM tenancy.tenant t WHERE t.id = $1)"
			   " ON CONFLICT (tenant_id, metric, threshold_percent, period_start) DO NOTHING",
			   UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID);

static int64
tell(const QuotaKnown *known)
{
	const Quota *quota = quota_find(&known->key.tenant, known->key.metric);
	int64 limit;
	int64 told = 0;

	if (quota == NULL)
		return 0;
	limit = quota->soft != QUOTA_NONE ? quota->soft : quota->hard;
	if (limit == QUOTA_NONE || limit <= 0)
		return 0;
	for (int i = 0; i < lengthof(thresholds); i++)
		if ((int128) known->used * 100 >= (int128) limit * thresholds[i])
			told += gate_run(&quota_event_insert, EXPECT_ANY, gate_uuid(&known->key.tenant),
							 gate_text(known->key.metric), gate_int32(thresholds[i]),
							 gate_timestamptz(known->period_start), gate_int64(known->used),
							 gate_int64(limit), gate_timestamptz(clock_now()))
						->count;
	return told;
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
	int64 told = 0;

	looked_at = GetCurrentTimestamp();

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		told += tell(&known[i]);
	}
	return psprintf("{\"events\": " INT64_FORMAT "}", told);
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
}
