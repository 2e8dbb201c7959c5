/*
 * backup/policy.c
 *		When tenants are backed up, and which backups are kept.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "job/queue.h"

#define SECONDS_BETWEEN_RUNS 60
#define MAX_PER_RUN 100
#define MINUTE_US (60 * USECS_PER_SEC)
#define LONGEST_US (36525 * USECS_PER_DAY)

GATE_STATEMENT(backup_policy_upsert,
			   "INSERT INTO tenancy.backup_policy AS p (tenant_id, every, keep_for, keep, next_at)"
			   " VALUES ($1, $2, $3, $4, $5)"
			   " ON CONFLICT (tenant_id) DO UPDATE SET every = EXCLUDED.every,"
			   "       keep_for = EXCLUDED.keep_for, keep = EXCLUDED.keep,"
			   "       next_at = least(p.next_at, EXCLUDED.next_at + EXCLUDED.every)"
			   " RETURNING p",
			   UUIDOID, INTERVALOID, INTERVALOID, INT4OID, TIMESTAMPTZOID);
GATE_STATEMENT(backup_policy_delete,
			   "DELETE FROM tenancy.backup_policy AS p WHERE p.tenant_id = $1 RETURNING p",
			   UUIDOID);
/* Missed times are skipped; a tenant whose last backup is still at work waits for it. */
GATE_STATEMENT(backup_policy_due,
			   "UPDATE tenancy.backup_policy AS p SET next_at = p.every"
			   "    + CASE WHEN p.next_at + p.every > $1 THEN p.next_at ELSE $1 END"
			   " WHERE p.tenant_id IN ("
			   "   SELECT d.tenant_id FROM tenancy.backup_policy d"
			   "     JOIN tenancy.tenant t ON t.id = d.tenant_id"
			   "    WHERE d.next_at <= $1 AND t.state IN ('active', 'suspended', 'deactivated')"
			   "      AND NOT EXISTS (SELECT FROM tenancy.backup b WHERE b.tenant_id = d.tenant_id"
			   "                         AND b.state IN ('requested', 'running'))"
			   "    ORDER BY d.next_at, d.tenant_id LIMIT $2 FOR UPDATE OF d SKIP LOCKED)"
			   " RETURNING p.tenant_id",
			   TIMESTAMPTZOID, INT4OID);
/*
 * What is not to be kept, but never the last one that succeeded of a tenant that is not purged;
 * and removals that went wrong.
 */
GATE_STATEMENT(
	backup_policy_expired,
	"SELECT b.id FROM ("
	"   SELECT b.id, b.tenant_id, b.state, b.expires_at, b.requested_at,"
	"          pg_catalog.row_number() OVER (PARTITION BY b.tenant_id"
	"                                        ORDER BY b.requested_at DESC, b.id DESC) AS n"
	"     FROM tenancy.backup b WHERE b.state = 'succeeded') b"
	"  LEFT JOIN tenancy.backup_policy p ON p.tenant_id = b.tenant_id"
	"  LEFT JOIN tenancy.tenant t ON t.id = b.tenant_id"
	" WHERE (b.n > 1 AND (b.expires_at <= $1 OR b.n > p.keep))"
	"    OR t.state IS NULL OR t.state = 'purged'"
	" UNION ALL"
	" SELECT b.id FROM tenancy.backup b WHERE b.state = 'expiring'"
	"    AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = b.job_id)"
	" LIMIT $2",
	TIMESTAMPTZOID, INT4OID);
/* Their job has been given up for good. */
GATE_STATEMENT(backup_policy_lost,
			   "SELECT b.id FROM tenancy.backup b WHERE b.state IN ('requested', 'running')"
			   "    AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = b.job_id)"
			   " LIMIT $1",
			   INT4OID);

static void
require_interval(const Interval *interval, int64 least, const char *name)
{
	if (interval != NULL && interval_microseconds(interval) > LONGEST_US)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be at most " INT64_FORMAT " days", name,
					   LONGEST_US / USECS_PER_DAY));
	if (interval != NULL && interval_microseconds(interval) < least)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be at least " INT64_FORMAT " s", name,
					   least / USECS_PER_SEC));
}

/*
 * backup_policy_set(tenant regtenant, every interval, keep_for interval, keep integer)
 *     → tenancy.backup_policy
 */
TENANCY_FUNCTION(backup_policy_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	context_require_none("setting when a tenant is backed up");
	(void) registry_get(tenant);
	require_argument(fcinfo, 1, "every");
	require_interval(PG_GETARG_INTERVAL_P(1), MINUTE_US, "every");
	require_interval(PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2), MINUTE_US, "keep_for");
	if (!PG_ARGISNULL(3) && PG_GETARG_INT32(3) < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"keep\" must be at least 1"));
	backup_require_command();
	PG_RETURN_DATUM(
		row_datum(gate_run(&backup_policy_upsert, EXPECT_ONE, gate_uuid(tenant), gate_argument(1),
						   gate_argument(2), gate_argument(3), gate_timestamptz(clock_now())),
				  0, 0));
}

/* backup_policy_reset(tenant regtenant) → tenancy.backup_policy */
TENANCY_FUNCTION(backup_policy_reset)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	GateRows *rows;

	context_require_none("setting when a tenant is backed up");
	rows = gate_run(&backup_policy_delete, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" has no policy for backups", registry_get(tenant)->slug));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* Each is a job of its own, and few are due at a time. */
static char *
maintain(void)
{
	TimestampTz now = clock_now();
	GateRows *lost = gate_run(&backup_policy_lost, EXPECT_ANY, gate_int32(MAX_PER_RUN));
	GateRows *due;
	GateRows *expired;

	for (int64 i = 0; i < lost->count; i++)
		backup_fail(row_uuid(lost, i, 0), "its job was given up; see tenancy.job");
	restore_fail_lost();
	due = gate_run(&backup_policy_due, EXPECT_ANY, gate_timestamptz(now), gate_int32(MAX_PER_RUN));
	for (int64 i = 0; i < due->count; i++)
		(void) backup_request(row_uuid(due, i, 0));
	expired = gate_run(&backup_policy_expired, EXPECT_ANY, gate_timestamptz(now),
					   gate_int32(MAX_PER_RUN));
	for (int64 i = 0; i < expired->count; i++)
		backup_expire(row_uuid(expired, i, 0));
	return psprintf("{\"lost\": " INT64_FORMAT ", \"requested\": " INT64_FORMAT
					", \"expired\": " INT64_FORMAT "}",
					lost->count, due->count, expired->count);
}

static const JobKind maintain_kind = {
	.name = "backup.maintain",
	.run = maintain,
	.every_seconds = SECONDS_BETWEEN_RUNS,
	.timeout_seconds = SECONDS_BETWEEN_RUNS,
	.description = "asks for backups that are due, and has files removed that are not to be kept",
};

void
backup_policy_init(void)
{
	job_kind_register(&maintain_kind);
}
