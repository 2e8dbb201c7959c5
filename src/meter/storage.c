/*
 * meter/storage.c
 *		How much storage the tables of each tenant take.
 *
 * In rotation: the tenants measured least recently come first, a few in one statement, until the
 * time of a run is over; the next run goes on with those whose turn it is then.  A relation that
 * somebody has locked for himself would make the run wait: it keeps what was measured last, with the
 * time of that, and so does one that is dropped meanwhile, until the next run.
 *
 * Lock rules.  Rows are written in the order of tenants, as flush.c does.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/settings.h"
#include "job/kind.h"
#include "meter/meter.h"
#include "meter/partition.h"

#include "miscadmin.h"
#include "portability/instr_time.h"

/* In one statement, between two looks at the clock: some hundred relations, a few milliseconds. */
#define TENANTS_PER_STEP 10

/* Whose turn it is, as it is known when a run begins. */
#define TURNS_PER_RUN 100000

#define SECONDS_BETWEEN_MEASUREMENTS 300

/* Without a limit of time. */
#define NO_BUDGET PG_INT64_MAX

GATE_STATEMENT(storage_turns,
			   "SELECT t.id FROM tenancy.tenant t"
			   "  LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id"
			   " WHERE t.schema_name IS NOT NULL"
			   "   AND t.state IN ('active', 'suspended', 'deactivated')"
			   " ORDER BY m.measured_at NULLS FIRST, t.id LIMIT $1",
			   INT4OID);
GATE_STATEMENT(
	storage_measure_some,
	"WITH turn AS ("
	"    SELECT t.id FROM tenancy.tenant t WHERE t.id = ANY ($1) AND t.schema_name IS NOT NULL"
	"       AND t.state IN ('active', 'suspended', 'deactivated')),"
	" sized AS MATERIALIZED ("
	"    SELECT n.id, ns.nspname, c.relname, z.heap_bytes, z.index_bytes, z.toast_bytes,"
	"           z.heap_bytes IS NOT NULL AS is_free"
	"      FROM turn n"
	"      JOIN tenancy.tenant_schema s ON s.tenant_id = n.id"
	"      JOIN pg_catalog.pg_namespace ns ON ns.nspname = s.schema_name"
	"      JOIN pg_catalog.pg_class c ON c.relnamespace = ns.oid AND c.relkind IN ('r', 'm')"
	"     CROSS JOIN LATERAL tenancy.relation_size_read(c.oid) z),"
	" known AS ("
	"    SELECT z.id, z.nspname, z.relname,"
	"           coalesce(z.heap_bytes, r.heap_bytes, 0) AS heap_bytes,"
	"           coalesce(z.index_bytes, r.index_bytes, 0) AS index_bytes,"
	"           coalesce(z.toast_bytes, r.toast_bytes, 0) AS toast_bytes,"
	"           CASE WHEN z.is_free THEN $2 ELSE coalesce(r.measured_at, '-infinity') END"
	"               AS measured_at"
	"      FROM sized z LEFT JOIN tenancy.tenant_relation_storage r"
	"        ON r.tenant_id = z.id AND r.schema_name = z.nspname AND r.relation_name = z.relname),"
	" gone AS ("
	"    DELETE FROM tenancy.tenant_relation_storage r USING turn n"
	"     WHERE r.tenant_id = n.id AND NOT EXISTS (SELECT FROM sized z WHERE z.id = r.tenant_id"
	"           AND z.nspname = r.schema_name AND z.relname = r.relation_name)),"
	" listed AS ("
	"    INSERT INTO tenancy.tenant_relation_storage (tenant_id, schema_name, relation_name,"
	"        is_shared, heap_bytes, index_bytes, toast_bytes, measured_at)"
	"    SELECT k.id, k.nspname, k.relname, false, k.heap_bytes, k.index_bytes, k.toast_bytes,"
	"           k.measured_at FROM known k ORDER BY k.id"
	"    ON CONFLICT (tenant_id, schema_name, relation_name) DO UPDATE"
	"       SET is_shared = false, heap_bytes = excluded.heap_bytes,"
	"           index_bytes = excluded.index_bytes, toast_bytes = excluded.toast_bytes,"
	"           measured_at = excluded.measured_at),"
	" measured AS ("
	"    SELECT n.id, coalesce(sum(k.heap_bytes + k.index_bytes + k.toast_bytes), 0)::bigint"
	"               AS bytes"
	"      FROM turn n LEFT JOIN known k ON k.id = n.id GROUP BY n.id),"
	" kept AS ("
	"    INSERT INTO tenancy.storage_measurement (tenant_id, bytes, measured_at)"
	"    SELECT m.id, m.bytes, $2 FROM measured m ORDER BY m.id"
	"    ON CONFLICT (tenant_id) DO UPDATE SET bytes = excluded.bytes,"
	"                                          measured_at = excluded.measured_at)"
	" MERGE INTO tenancy.usage_hour AS h USING measured AS m"
	"    ON h.tenant_id = m.id AND h.hour = $3"
	"  WHEN MATCHED THEN UPDATE SET storage_bytes = greatest(h.storage_bytes, m.bytes)"
	"  WHEN NOT MATCHED THEN INSERT (tenant_id, hour, storage_bytes) VALUES (m.id, $3, m.bytes)",
	UUIDARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
/* Of tenants whose data is gone. */
GATE_STATEMENT(
	storage_forget,
	"DELETE FROM tenancy.tenant_relation_storage r USING tenancy.tenant t"
	" WHERE t.id = r.tenant_id AND t.state NOT IN ('active', 'suspended', 'deactivated')");

int64
meter_clock(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MICROSEC(now);
}

static int64
measure(const pg_uuid_t *tenants, int count, TimestampTz now)
{
	return gate_run(&storage_measure_some, EXPECT_ANY, gate_uuid_array(tenants, count),
					gate_timestamptz(now), gate_timestamptz(meter_hour_of(now)))
		->count;
}

int64
meter_measure_storage_of(const pg_uuid_t *tenants, int count)
{
	TimestampTz now = clock_now();

	meter_lock_hours();
	partition_ensure(USAGE_HOUR, now);
	return measure(tenants, count, now);
}

static int64
measure_schemas(int max_tenants, int64 deadline_us)
{
	TimestampTz now = clock_now();
	GateRows *turns =
		gate_run(&storage_turns, EXPECT_ANY, gate_int32(Min(max_tenants, TURNS_PER_RUN)));
	int64 measured = 0;
	int64 next = 0;

	while (next < turns->count)
	{
		pg_uuid_t tenants[TENANTS_PER_STEP];
		int count = 0;

		CHECK_FOR_INTERRUPTS();
		while (count < TENANTS_PER_STEP && next < turns->count)
			tenants[count++] = *row_uuid(turns, next++, 0);
		measured += measure(tenants, count, now);
		if (meter_clock() >= deadline_us)
			break;
	}
	return measured;
}

/* Shared tables have half of the time; what they leave of it the schemas have. */
int64
meter_measure_storage(int max_tenants, int64 budget_us)
{
	int64 start = meter_clock();
	bool is_limited = budget_us != NO_BUDGET;
	int64 measured;

	meter_lock_hours();
	partition_ensure(USAGE_HOUR, clock_now());
	(void) gate_run_array(&storage_forget, EXPECT_ANY, NULL, 0);
	measured = meter_measure_shared_storage(is_limited ? start + budget_us / 2 : NO_BUDGET);
	return measured + measure_schemas(max_tenants, is_limited ? start + budget_us : NO_BUDGET);
}

static char *
run_storage_job(void)
{
	return psprintf(
		"{\"tenants\": " INT64_FORMAT "}",
		meter_measure_storage(TURNS_PER_RUN, setting_storage_budget * INT64CONST(1000)));
}

static const JobKind storage_job = {
	.name = "storage.measure",
	.run = run_storage_job,
	.every_seconds = SECONDS_BETWEEN_MEASUREMENTS,
	.timeout_seconds = 5 * SECS_PER_MINUTE,
	.description = "measures the storage of the tenants measured least recently",
};

void
meter_storage_init(void)
{
	job_kind_register(&storage_job);
}

/* storage_measure(max_tenants int, budget interval) → bigint */
TENANCY_FUNCTION(storage_measure)
{
	int32 max_tenants;
	int64 budget_us = NO_BUDGET;

	require_argument(fcinfo, 0, "max_tenants");
	max_tenants = PG_GETARG_INT32(0);
	if (max_tenants < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_tenants\" must be at least 1"));
	if (!PG_ARGISNULL(1))
	{
		const Interval *budget = PG_GETARG_INTERVAL_P(1);

		if (budget->month != 0 || budget->day != 0 || budget->time < 0 ||
			budget->time > USECS_PER_HOUR)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"budget\" must be at least nothing and at most an hour"));
		budget_us = budget->time;
	}
	PG_RETURN_INT64(meter_measure_storage(max_tenants, budget_us));
}
