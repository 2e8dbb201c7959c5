/*
 * observe/health.c
 *		Whether the work of a database is done in time.
 *
 * What tenants or their receivers are to blame for is no fault of the service: a delivery that
 * waits for its next attempt, and jobs that clients claim, are not looked at.  Nor is a queue
 * that is long: whoever fills it would turn the service away from everybody.  Jobs are late
 * where some are due and for as long nobody has worked on any.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/settings.h"
#include "observe/observe.h"

#include "lib/stringinfo.h"

GATE_STATEMENT(
	health_delays,
	"SELECT 'periodic work \"' || s.name || '\"', s.late FROM ("
	"   SELECT s.name, pg_catalog.date_part('epoch',"
	"          pg_catalog.clock_timestamp() - s.next_run_at)::bigint AS late"
	"     FROM tenancy.schedule s WHERE s.enabled AND s.lease_until IS NULL"
	"    ORDER BY s.next_run_at LIMIT 1) s"
	" UNION ALL"
	" SELECT w.what, w.late FROM ("
	"   SELECT j.lane = 'webhook.deliver' AS is_delivery,"
	"          CASE WHEN j.lane = 'webhook.deliver' THEN 'the oldest delivery'"
	"               ELSE 'the oldest job' END AS what,"
	"          pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()"
	"                               - pg_catalog.min(j.run_at))::bigint AS late"
	"     FROM tenancy.job_pending j"
	"    WHERE j.state = 'ready' AND j.lease_until IS NULL"
	"      AND j.lane IN ('', '*', 'webhook.deliver')"
	"    GROUP BY 1, 2) w,"
	"  LATERAL (SELECT pg_catalog.clock_timestamp() - $1 * interval '1 second') s (since)"
	"  WHERE w.late > $1"
	"    AND NOT EXISTS (SELECT FROM tenancy.job_pending p"
	"                     WHERE p.lane IN ('', '*', 'webhook.deliver')"
	"                       AND (p.lane = 'webhook.deliver') = w.is_delivery"
	"                       AND (p.started_at >= s.since"
	"                            OR p.lease_until > pg_catalog.clock_timestamp()"
	"                               AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity a"
	"                                            WHERE a.pid = p.worker_pid)))"
	"    AND NOT EXISTS (SELECT FROM tenancy.job_done d"
	"                     WHERE d.finished_at >= s.since AND d.started_at IS NOT NULL"
	"                       AND d.outcome <> 'cancelled'"
	"                       AND (d.kind = 'webhook.deliver') = w.is_delivery"
	"                       AND NOT EXISTS (SELECT FROM tenancy.job_kind_defined k"
	"                                        WHERE k.name = d.kind"
	"                                          AND k.procedure IS NULL))",
	INT4OID);

char *
health_problems(void)
{
	GateRows *rows = gate_run(&health_delays, EXPECT_ANY, gate_int32(setting_health_max_delay));
	StringInfoData problems;

	initStringInfo(&problems);
	for (int64 i = 0; i < rows->count; i++)
	{
		int64 late_seconds = row_int64(rows, i, 1);

		if (late_seconds > setting_health_max_delay)
			appendStringInfo(&problems, "%s%s is late by " INT64_FORMAT " s",
							 problems.len > 0 ? "\n" : "", row_text(rows, i, 0), late_seconds);
	}
	return problems.data;
}
