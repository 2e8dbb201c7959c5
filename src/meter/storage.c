/*
 * meter/storage.c
 *		How much storage the schemas of each tenant take.
 *
 * In rotation: the tenants measured least recently come first.  A relation that is
 * dropped meanwhile has no size and is left out; one that is locked exclusively is
 * waited for, as by any reader.
 *
 * Lock rules.  Rows are written in the order of tenants, as flush.c does.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "job/kind.h"
#include "meter/meter.h"
#include "meter/partition.h"

#define TENANTS_PER_MEASUREMENT 100
#define SECONDS_BETWEEN_MEASUREMENTS 300

GATE_STATEMENT(
	storage_measure_next,
	"WITH next AS ("
	"    SELECT t.id FROM tenancy.tenant t"
	"      LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id"
	"     WHERE t.schema_name IS NOT NULL AND t.state IN ('active', 'suspended', 'deactivated')"
	"       AND ($4 IS NULL OR t.id = ANY ($4))"
	"     ORDER BY m.measured_at NULLS FIRST LIMIT $1),"
	" measured AS ("
	"    SELECT n.id, coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint AS bytes"
	"      FROM next n"
	"      LEFT JOIN tenancy.tenant_schema s ON s.tenant_id = n.id"
	"      LEFT JOIN pg_catalog.pg_namespace ns ON ns.nspname = s.schema_name"
	"      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = ns.oid AND c.relkind IN ('r', 'm')"
	"     GROUP BY n.id),"
	" kept AS ("
	"    INSERT INTO tenancy.storage_measurement (tenant_id, bytes, measured_at)"
	"    SELECT m.id, m.bytes, $2 FROM measured m ORDER BY m.id"
	"    ON CONFLICT (tenant_id) DO UPDATE SET bytes = excluded.bytes,"
	"                                          measured_at = excluded.measured_at)"
	" MERGE INTO tenancy.usage_hour AS h USING measured AS m"
	"    ON h.tenant_id = m.id AND h.hour = $3"
	"  WHEN MATCHED THEN UPDATE SET storage_bytes = greatest(h.storage_bytes, m.bytes)"
	"  WHEN NOT MATCHED THEN INSERT (tenant_id, hour, storage_bytes) VALUES (m.id, $3, m.bytes)",
	INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDARRAYOID);

static int64
measure(int max_tenants, NullableDatum tenants)
{
	TimestampTz now = clock_now();

	meter_lock_hours();
	partition_ensure(USAGE_HOUR, now);
	return gate_run(&storage_measure_next, EXPECT_ANY, gate_int32(max_tenants),
					gate_timestamptz(now), gate_timestamptz(meter_hour_of(now)), tenants)
		->count;
}

int64
meter_measure_storage(int max_tenants)
{
	return measure(max_tenants, gate_null());
}

int64
meter_measure_storage_of(const pg_uuid_t *tenants, int count)
{
	return measure(count, gate_uuid_array(tenants, count));
}

static char *
run_storage_job(void)
{
	return psprintf("{\"tenants\": " INT64_FORMAT "}",
					meter_measure_storage(TENANTS_PER_MEASUREMENT) +
						meter_measure_shared_storage());
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

/* storage_measure(max_tenants int) → bigint */
TENANCY_FUNCTION(storage_measure)
{
	int32 max_tenants = PG_GETARG_INT32(0);

	if (max_tenants < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"max_tenants\" must be at least 1"));
	PG_RETURN_INT64(meter_measure_storage(max_tenants) + meter_measure_shared_storage());
}
