/*
 * observe/health.c
 *		Whether the work of a database is done in time.
 *
 * What tenants or their receivers are to blame for is no fault of the service: a delivery that
 * waits for its next attempt, and jobs that clients claim, are not looked at.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/settings.h"
#include "observe/observe.h"

#include "lib/stringinfo.h"

GATE_STATEMENT(health_delays,
			   "SELECT 'periodic work \"' || s.name || '\"', s.late FROM ("
			   "   SELECT s.name, pg_catalog.date_part('epoch',"
			   "          pg_catalog.clock_timestamp() - s.next_run_at)::bigint AS late"
			   "     FROM tenancy.schedule s WHERE s.enabled AND s.lease_until IS NULL"
			   "    ORDER BY s.next_run_at LIMIT 1) s"
			   " UNION ALL"
			   " SELECT CASE j.lane WHEN 'webhook.deliver' THEN 'the oldest delivery'"
			   "        ELSE 'the oldest job' END,"
			   "        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()"
			   "                             - pg_catalog.min(j.run_at))::bigint"
			   "   FROM tenancy.job_pending j"
			   "  WHERE j.state = 'ready' AND j.lease_until IS NULL"
			   "    AND j.lane IN ('', '*', 'webhook.deliver')"
			   "  GROUP BY j.lane");

char *
health_problems(void)
{
	GateRows *rows = gate_run_array(&health_delays, EXPECT_ANY, NULL, 0);
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
