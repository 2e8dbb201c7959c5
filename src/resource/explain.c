/*
 * resource/explain.c
 *		Every limit of a tenant, what is used of it, and what it has refused.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/regtenant.h"
#include "core/function.h"

#define ALL_TENANTS "'00000000-0000-0000-0000-000000000000'"

GATE_LOOKUP(
	limits_explained,
	"WITH refused AS ("
	"  SELECT x.kind, x.name, pg_catalog.sum(x.refusals)::bigint AS refusals,"
	"         pg_catalog.max(x.refused_at) AS refused_at,"
	"         (pg_catalog.array_agg(pg_catalog.concat(x.what, CASE WHEN x.hard > 0 OR x.used > 0"
	"              THEN pg_catalog.format(' when %s of %s were used', x.used, x.hard) END,"
	"            CASE WHEN x.wanted > 0 THEN pg_catalog.format(', and %s more wanted', x.wanted) "
	"END)"
	"            ORDER BY x.refused_at DESC))[1] AS last"
	"    FROM tenancy.refusal_read($1) x GROUP BY x.kind, x.name),"
	" allocated AS (SELECT a.limits FROM tenancy.allocation a"
	"   WHERE a.tenant_id = $1 AND a.state = 'active'),"
	" limited (kind, name, used, soft, hard, resets_at, source, explanation) AS ("
	"  SELECT CASE q.resource WHEN 'connections' THEN 'connections' ELSE 'quota' END, q.resource,"
	"         q.used, q.soft, q.hard, q.resets_at, q.source,"
	"         CASE WHEN q.hard IS NULL AND q.soft IS NULL THEN 'unlimited'"
	"              WHEN q.used >= q.hard AND q.resource = 'connections'"
	"                THEN 'all taken: no session enters (53300)'"
	"              WHEN q.used >= q.hard THEN 'used up: statements that add are refused (53400)'"
	"              WHEN q.used >= q.soft THEN 'beyond what is included'"
	"              ELSE 'within' END"
	"    FROM tenancy.quota_read($1) q"
	"  UNION ALL"
	"  SELECT 'cpu budget', 'cpu_seconds_per_minute',"
	"         pg_catalog.round((u.used * (a.limits ->> 'cpu_seconds_per_minute')::numeric), 3),"
	"         NULL, (a.limits ->> 'cpu_seconds_per_minute')::numeric, NULL, 'resource_allocate()',"
	"         CASE WHEN u.used > 2 THEN 'overdrawn by a minute: statements are refused (53400)'"
	"              WHEN u.used > 1 THEN 'overdrawn: statements wait up to a second'"
	"              WHEN u.used > 0.8 THEN 'nearly used up: sessions are warned'"
	"              ELSE 'within' END"
	"    FROM allocated a,"
	"         LATERAL (SELECT tenancy.cpu_budget_used($1)::numeric AS used OFFSET 0) u"
	"   WHERE a.limits ? 'cpu_seconds_per_minute'"
	"  UNION ALL"
	"  SELECT 'rate limit', r.name, NULL, NULL, r.quota, NULL,"
	"         CASE r.tenant_id WHEN $1 THEN 'rate_limit_configure()'"
	"              ELSE 'rate_limit_configure(), for all tenants' END,"
	"         pg_catalog.concat_ws(', ', r.algorithm,"
	"             CASE r.subject WHEN 'user' THEN 'each user'"
	"                            WHEN 'service' THEN 'all tenants together' END,"
	"             CASE WHEN r.period_ms > 0"
	"                  THEN pg_catalog.format('per %s s', pg_catalog.trim_scale(r.period_ms / "
	"1000.0)) ELSE 'at once' END,"
	"             'endpoint ' || r.endpoint, CASE WHEN r.shadow THEN 'shadow: denies nothing' END,"
	"             pg_catalog.format('%s let through, %s denied', coalesce(c.allowed, 0),"
	"                 coalesce(c.limited, 0)))"
	"    FROM (SELECT DISTINCT ON (x.name) x.* FROM tenancy.rate_limit x"
	"           WHERE x.tenant_id IN ($1, " ALL_TENANTS ") ORDER BY x.name, x.tenant_id DESC) r"
	"    LEFT JOIN LATERAL (SELECT pg_catalog.sum(s.allowed) AS allowed,"
	"                              pg_catalog.sum(s.limited) AS limited"
	"                         FROM tenancy.rate_limit_read() s"
	"                        WHERE s.policy_id = r.id AND s.tenant_id IN ($1, " ALL_TENANTS ")) c"
	"           ON true"
	"  UNION ALL"
	"  SELECT 'ceiling', c.setting, NULL, NULL, NULL, NULL, c.source,"
	"         pg_catalog.format('at most %s', c.value)"
	"    FROM (SELECT DISTINCT ON (x.setting) x.setting, x.value, x.source"
	"            FROM (SELECT s.key AS setting, s.value, 'resource_allocate()' AS source, 0 AS "
	"place"
	"                    FROM allocated a,"
	"                         LATERAL pg_catalog.jsonb_each_text(a.limits -> 'settings') s"
	"                  UNION ALL"
	"                  SELECT p.setting, p.value, CASE p.plan WHEN '*' THEN 'every plan'"
	"                         ELSE pg_catalog.format('plan \"%s\"', p.plan) END,"
	"                         CASE WHEN p.plan <> '*' THEN 1 WHEN NOT p.shipped THEN 2 ELSE 3 END"
	"                    FROM tenancy.ceiling p WHERE p.plan = '*' OR p.plan ="
	"                         (SELECT t.plan FROM tenancy.tenant t WHERE t.id = $1)) x"
	"           ORDER BY x.setting, x.place) c)"
	" SELECT coalesce(l.kind, f.kind), coalesce(l.name, f.name), l.used, l.soft, l.hard,"
	"        l.resets_at, l.source, coalesce(l.explanation, 'holds no more'),"
	"        coalesce(f.refusals, 0), f.refused_at, f.last"
	"   FROM limited l FULL JOIN refused f ON f.kind = l.kind AND f.name = l.name"
	"  ORDER BY 1, 2",
	UUIDOID);

/* limit_explain(tenant regtenant) → TABLE(…) */
TENANCY_FUNCTION(limit_explain)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	gate_return_rows(fcinfo, gate_run(&limits_explained, EXPECT_ANY, gate_uuid(tenant)));
	return (Datum) 0;
}
