/*
 * limit/quota.c
 *		How much a tenant may have: limits from its plan, set for it, or allocated to it.
 *
 * A limit for which the plan has a price beyond it is soft: more is billed, not refused.
 * What is used is known to quota_use.c.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "core/function.h"
#include "core/id.h"
#include "limit/quota.h"
#include "limit/refusal.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * In order of precedence: quota_set(), the allocation, the tenant's own feature_limits, the plan.
 * Of two limits of a plan for one metric the lower holds.
 */
GATE_LATEST(
	quotas_of_tenant,
	"WITH t AS (SELECT x.id, x.plan, x.configuration -> 'feature_limits' AS own"
	"             FROM tenancy.tenant x WHERE x.id = $1),"
	" allocated AS (SELECT v.metric, (a.limits ->> v.resource)::numeric AS quantity"
	"   FROM tenancy.allocation a, (VALUES ('storage', 'storage_gb'), ('connections', "
	"'connections')) v (metric, resource)"
	"   WHERE a.tenant_id = $1 AND a.state = 'active' AND a.limits ? v.resource),"
	" priced AS (SELECT item ->> 'limit' AS limit_key FROM t CROSS JOIN LATERAL ("
	"     SELECT v.pricing FROM tenancy.plan_price v WHERE v.plan = t.plan"
	"      ORDER BY v.version DESC LIMIT 1) p,"
	"     LATERAL pg_catalog.jsonb_array_elements(coalesce(p.pricing -> 'usage_metrics', '[]')) "
	"item),"
	" mapped AS (SELECT DISTINCT ON (k.limit_key) k.* FROM tenancy.quota_limit k"
	"   ORDER BY k.limit_key, k.shipped),"
	" planned AS (SELECT DISTINCT ON (k.metric) k.metric, k.refuses_events,"
	"        l.value::text::numeric AS quantity,"
	"        EXISTS (SELECT FROM priced r WHERE r.limit_key = k.limit_key) AS is_soft,"
	"        CASE WHEN t.own ? l.key THEN 'tenant_configure()'"
	"             ELSE pg_catalog.format('plan \"%s\"', t.plan) END AS source"
	"   FROM t LEFT JOIN tenancy.plan p ON p.id = t.plan,"
	"        LATERAL pg_catalog.jsonb_each(coalesce(p.limits, '{}') || coalesce(t.own, '{}')) l"
	"   JOIN mapped k ON k.limit_key = l.key"
	"  WHERE pg_catalog.jsonb_typeof(l.value) = 'number' AND l.value <> '-1'"
	"    AND NOT EXISTS (SELECT FROM allocated x WHERE x.metric = k.metric)"
	"  ORDER BY k.metric, l.value::text::numeric),"
	" given AS (SELECT p.metric, p.refuses_events, p.quantity, p.is_soft, p.source FROM planned p"
	" UNION ALL SELECT x.metric, false, x.quantity, false, 'resource_allocate()' FROM allocated x)"
	" SELECT m.name, m.aggregation IN ('max', 'latest'),"
	"        CASE WHEN q.metric IS NOT NULL THEN q.soft WHEN g.is_soft THEN g.quantity END,"
	"        CASE WHEN q.metric IS NOT NULL THEN q.hard WHEN NOT g.is_soft THEN g.quantity END,"
	"        CASE WHEN q.metric IS NOT NULL THEN 'quota_set()' ELSE g.source END,"
	"        coalesce(q.refuses_events, g.refuses_events)"
	"   FROM tenancy.metric m"
	"   LEFT JOIN tenancy.quota q ON q.tenant_id = $1 AND q.metric = m.name"
	"   LEFT JOIN given g ON g.metric = m.name"
	"  WHERE q.metric IS NOT NULL OR g.metric IS NOT NULL"
	"  ORDER BY m.name",
	UUIDOID);

static TenantCache known = {.name = "quotas", .entry_size = sizeof(QuotaList)};

int64
quota_from_numeric(Numeric value)
{
	Datum scaled;
	Datum most = NumericGetDatum(int64_to_numeric(QUOTA_MOST));
	Datum least = NumericGetDatum(int64_to_numeric(-QUOTA_MOST));

	if (value == NULL)
		return QUOTA_NONE;
	scaled = DirectFunctionCall2(numeric_mul, NumericGetDatum(value),
								 NumericGetDatum(int64_to_numeric(QUOTA_UNIT)));
	scaled = DirectFunctionCall2(numeric_smaller, scaled, most);
	scaled = DirectFunctionCall2(numeric_larger, scaled, least);
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, scaled));
}

int64
quota_limit_from_numeric(Numeric value)
{
	return value == NULL ? QUOTA_NONE : Min(quota_from_numeric(value), QUOTA_LARGEST_LIMIT);
}

Datum
quota_to_numeric(int64 value)
{
	return DirectFunctionCall1(numeric_trim_scale,
							   NumericGetDatum(int64_div_fast_to_numeric(value, QUOTA_DIGITS)));
}

char *
quota_to_text(int64 value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, quota_to_numeric(value)));
}

const QuotaList *
quota_list(const pg_uuid_t *tenant)
{
	QuotaList *found = tenant_cache_find(&known, tenant);
	GateRows *rows;
	Quota *quotas;
	MemoryContext old;

	if (likely(found != NULL))
		return found;
	rows = gate_run(&quotas_of_tenant, EXPECT_ANY, gate_uuid(tenant));
	old = MemoryContextSwitchTo(known.memory);
	quotas = palloc(sizeof(Quota) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		quotas[i].metric = row_text(rows, i, 0);
		quotas[i].is_level = row_bool(rows, i, 1);
		quotas[i].soft = quota_limit_from_numeric(row_numeric(rows, i, 2));
		quotas[i].hard = quota_limit_from_numeric(row_numeric(rows, i, 3));
		quotas[i].source = row_text(rows, i, 4);
		quotas[i].refuses_events = row_bool(rows, i, 5);
	}
	MemoryContextSwitchTo(old);
	found = tenant_cache_add(&known, tenant);
	found->count = rows->count;
	found->quotas = quotas;
	return found;
}

const Quota *
quota_find(const pg_uuid_t *tenant, const char *metric)
{
	const QuotaList *quotas = quota_list(tenant);

	for (int i = 0; i < quotas->count; i++)
		if (strcmp(quotas->quotas[i].metric, metric) == 0)
			return &quotas->quotas[i];
	return NULL;
}

void
quota_make_key(QuotaKey *key, const pg_uuid_t *tenant, const char *metric)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->tenant = *tenant;
	strlcpy(key->metric, metric, sizeof(key->metric));
}

void
quota_refuse(const pg_uuid_t *tenant, const Quota *quota, int64 used, int64 wanted)
{
	char *slug = registry_slug(tenant);

	refusal_note(tenant, REFUSED_QUOTA, quota->metric, used, quota->hard, wanted);
	ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("quota \"%s\" of tenant \"%s\" is used up", quota->metric,
				   slug != NULL ? slug : id_text(tenant)),
			wanted > 0
				? errdetail("%s of %s are used; the statement would add %s.", quota_to_text(used),
							quota_to_text(quota->hard), quota_to_text(wanted))
				: errdetail("%s of %s are used.", quota_to_text(used), quota_to_text(quota->hard)),
			errhint("The limit of \"%s\" comes from %s. %s", quota->metric, quota->source,
					quota->is_level ? "Deleting makes room." : "It begins anew with the month."));
}
