/*
 * meter/stat.c
 *		The live counters, as SQL reads them.
 *
 * In a tenant context a session is shown the counters of its tenant alone, whatever
 * else it may do; outside of one the readers are those that the function is granted to.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "core/function.h"
#include "core/id.h"
#include "meter/meter.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/tuplestore.h"

bool
meter_may_read_all(void)
{
	static const char *const groups[] = {"tenancy_admin", "tenancy_auditor"};

	/* A statement of ours, through the gate, is asked for by somebody who may. */
	if (GetUserId() == extension_owner() || has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		return true;
	for (int i = 0; i < lengthof(groups); i++)
	{
		Oid group = get_role_oid(groups[i], true);

		if (OidIsValid(group) && has_privs_of_role(GetUserId(), group))
			return true;
	}
	return false;
}

/* tenancy.tenant_stat_read() → TABLE(tenant_id uuid, counters bigint …, memory_bytes bigint) */
TENANCY_FUNCTION(tenant_stat_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const pg_uuid_t *tenant = context_tenant();
	bool sees_all = tenant == NULL && meter_may_read_all();
	MeterTotals *totals;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	meter_collect(MyDatabaseId);
	totals = meter_read(MyDatabaseId, &count);
	for (int i = 0; i < count; i++)
	{
		Datum values[2 + METER_COUNTERS];
		bool nulls[2 + METER_COUNTERS] = {false};

		if (!sees_all && (tenant == NULL || !id_equal(tenant, &totals[i].tenant)))
			continue;
		values[0] = UUIDPGetDatum(&totals[i].tenant);
		for (int c = 0; c < METER_COUNTERS; c++)
			values[1 + c] = Int64GetDatum((int64) totals[i].total.value[c]);
		values[1 + METER_COUNTERS] = Int64GetDatum((int64) totals[i].memory_record);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* tenancy.meter_read() → (used, capacity, evicted, overflow, refused bigint) */
TENANCY_FUNCTION(meter_read)
{
	MeterCapacity capacity = meter_capacity();
	Datum values[5] = {Int64GetDatum(capacity.used), Int64GetDatum(capacity.limit),
					   Int64GetDatum(capacity.evicted), Int64GetDatum(capacity.overflow),
					   Int64GetDatum(capacity.refused)};
	bool nulls[5] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
