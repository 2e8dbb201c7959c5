/*
 * limit/quota_storage.c
 *		The storage quota: over it a tenant's statements add nothing, and all others work.
 *
 * A tenant with a limit that writes is measured again by the next turn of the runner, which
 * comes every tenancy.metering_flush_interval; so a flood stops within one.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "job/kind.h"
#include "limit/quota.h"
#include "meter/meter.h"

#include "miscadmin.h"

#define STORAGE_METRIC "storage"
#define TENANTS_PER_TURN 100

GATE_LATEST(storage_measured,
			"SELECT m.tenant_id, (m.bytes / 1000)::bigint" /* millionths of 10^9 bytes */
			"  FROM tenancy.storage_measurement m WHERE m.tenant_id = ANY ($1)",
			UUIDARRAYOID);

void
quota_check_storage(const pg_uuid_t *tenant)
{
	const Quota *quota = quota_find(tenant, STORAGE_METRIC);
	QuotaKey key;
	int64 used;

	if (likely(quota == NULL || quota->hard == QUOTA_NONE))
		return;
	quota_make_key(&key, tenant, STORAGE_METRIC);
	/* Also before refusing: what was deleted since makes room. */
	quota_note_written(&key);
	used = quota_known_use(&key);
	if (unlikely(used > quota->hard))
		quota_refuse(tenant, quota, used, 0);
}

bool
quota_watch_storage(const pg_uuid_t *tenant, QuotaWatch *watch)
{
	const Quota *quota = quota_find(tenant, STORAGE_METRIC);
	QuotaKey key;

	if (likely(quota == NULL || quota->hard == QUOTA_NONE))
		return false;
	quota_make_key(&key, tenant, STORAGE_METRIC);
	watch->tenant = *tenant;
	watch->hard = quota->hard;
	watch->entry = quota_entry(&key);
	return watch->entry != NULL;
}

void
quota_refuse_storage(const QuotaWatch *watch)
{
	const Quota *quota = quota_find(&watch->tenant, STORAGE_METRIC);
	QuotaKey key;

	quota_make_key(&key, &watch->tenant, STORAGE_METRIC);
	if (quota == NULL)
		elog(ERROR, "the storage quota is gone");
	quota_refuse(&watch->tenant, quota, quota_known_use(&key), 0);
}

static char *
measure_written(void)
{
	pg_uuid_t tenants[TENANTS_PER_TURN];
	int count = quota_take_written(MyDatabaseId, tenants, lengthof(tenants));
	GateRows *rows;

	if (count == 0)
		return NULL;
	(void) meter_measure_storage_of(tenants, count);
	rows = gate_run(&storage_measured, EXPECT_ANY, gate_uuid_array(tenants, count));
	for (int64 i = 0; i < rows->count; i++)
	{
		QuotaKey key;

		quota_make_key(&key, row_uuid(rows, i, 0), STORAGE_METRIC);
		quota_set_used(&key, row_int64(rows, i, 1));
	}
	return psprintf("{\"tenants\": %d}", count);
}

static const JobKind storage_job = {
	.name = "limits.storage",
	.run = measure_written,
	.every_seconds = 0, /* whenever there is something */
	.has_work = quota_has_written,
	.description = "measures the storage of tenants that have written and have a limit",
};

void
quota_storage_init(void)
{
	job_kind_register(&storage_job);
}
