/*
 * tenant/health.c
 *		Is everything there that a tenant needs?
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "tenant/tenant.h"

/*
 * One statement over the catalogs.  Each check is a row: what it looks at, whether it
 * is right, the value found, and what to do where it is not.
 */
GATE_LOOKUP(
	health_checks,
	"WITH t AS (SELECT x.id, x.state, x.state_reason, x.role_name, x.owner_name FROM "
	"tenancy.tenant x"
	"           WHERE x.id = $1),"
	" relations AS ("
	"    SELECT count(*) AS total,"
	"           count(*) FILTER (WHERE c.relowner <> o.oid) AS foreign_owned,"
	"           coalesce(sum(pg_catalog.pg_total_relation_size(c.oid))"
	"                    FILTER (WHERE c.relkind IN ('r', 'm')), 0) AS bytes"
	"      FROM t JOIN tenancy.tenant_schema s ON s.tenant_id = t.id"
	"      JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
	"      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', "
	"'m', 'S')"
	"      LEFT JOIN pg_catalog.pg_roles o ON o.rolname = t.owner_name),"
	" missing AS ("
	"    SELECT string_agg(s.schema_name, ', ' ORDER BY s.schema_name) AS names"
	"      FROM t JOIN tenancy.tenant_schema s ON s.tenant_id = t.id"
	"     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = s.schema_name))"
	" SELECT 'state', CASE t.state WHEN 'active' THEN 'ok' WHEN 'failed' THEN 'critical' ELSE "
	"'warning' END,"
	"        t.state, t.state_reason FROM t"
	" UNION ALL"
	" SELECT 'role', CASE WHEN r.oid IS NULL THEN 'critical'"
	"                     WHEN r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication"
	"                     THEN 'critical' ELSE 'ok' END,"
	"        t.role_name,"
	"        CASE WHEN r.oid IS NULL THEN 'the role does not exist in this cluster: restore it by "
	"pg_dumpall --globals-only'"
	"             WHEN r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication"
	"             THEN 'the role has an attribute that no tenant may have' END"
	"   FROM t LEFT JOIN pg_catalog.pg_roles r ON r.rolname = t.role_name"
	" UNION ALL"
	" SELECT 'role_membership', CASE WHEN pg_catalog.count(m.roleid) = 0 THEN 'ok' ELSE 'critical' "
	"END,"
	"        pg_catalog.count(m.roleid)::text,"
	"        'the role is a member of ' || string_agg(m.roleid::regrole::text, ', ')"
	"   FROM t LEFT JOIN pg_catalog.pg_roles r ON r.rolname = t.role_name"
	"   LEFT JOIN pg_catalog.pg_auth_members m ON m.member = r.oid"
	"        AND m.roleid <> 'tenancy_tenant'::regrole"
	" UNION ALL"
	" SELECT 'schemas', CASE WHEN m.names IS NULL THEN 'ok' ELSE 'critical' END,"
	"        (SELECT pg_catalog.count(*)::text FROM t JOIN tenancy.tenant_schema s ON s.tenant_id "
	"= t.id),"
	"        'missing: ' || m.names FROM missing m"
	" UNION ALL"
	" SELECT 'ownership', CASE WHEN r.foreign_owned = 0 THEN 'ok' ELSE 'critical' END,"
	"        r.foreign_owned::text,"
	"        CASE WHEN r.foreign_owned > 0"
	"             THEN 'relations in the tenant''s schemas are owned by somebody else' END"
	"   FROM relations r"
	" UNION ALL"
	" SELECT 'relations', 'ok', r.total::text, NULL FROM relations r"
	" UNION ALL"
	" SELECT 'storage_bytes', 'ok', r.bytes::text, NULL FROM relations r",
	UUIDOID);

/* tenant_health(tenant regtenant) → TABLE(check_name, status, value, detail) */
TENANCY_FUNCTION(tenant_health)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");

	tenant_require_visible(id);
	(void) registry_get(id);
	gate_return_rows(fcinfo, gate_run(&health_checks, EXPECT_ANY, gate_uuid(id)));
	return (Datum) 0;
}
