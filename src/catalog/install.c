/*
 * catalog/install.c
 *		What the install script cannot say in SQL.  Called by it alone, as the superuser
 *		who creates the extension; both functions are dropped by the script.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/compat.h"
#include "core/function.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"

static const struct
{
	const char *name;
	const char *comment;
} group_roles[] = {
	{"tenancy_owner", "owns the tables of pg_tenancy; nobody logs in as it"},
	{"tenancy_admin", "control plane of pg_tenancy: may create, change, bill and remove tenants"},
	{"tenancy_app", "gateway of pg_tenancy: may resolve and enter tenants"},
	{"tenancy_auditor", "may read everything that pg_tenancy records"},
	{"tenancy_tenant", "every tenant's role is a member; holds the grants on shared tables"},
};

static void
require_installing(void)
{
	if (!creating_extension)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("this function is for the install script of pg_tenancy alone"));
}

/* Somebody else's objects in the path of our callers would run with their rights. */
static void
require_closed_schema(const char *schema)
{
	Oid oid = get_namespace_oid(schema, false);

	if (compat_may_create_in(oid, ACL_ID_PUBLIC))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("everybody may create objects in schema \"%s\"", schema),
				errdetail("The functions of pg_tenancy could be shadowed there."),
				errhint("REVOKE CREATE ON SCHEMA %s FROM PUBLIC, or create the extension in a "
						"schema of its own.",
						quote_identifier(schema)));
}

/* Others may have reasons to; isolation_lint() goes on naming them. */
static void
warn_of_creators(const char *schema)
{
	GateRows *rows = gate_query_text(CREATORS_IN("$1"), 1, (Oid[]){OIDOID},
									 (NullableDatum[]){gate_oid(get_namespace_oid(schema, false))});

	for (int64 i = 0; i < rows->count; i++)
		ereport(WARNING,
				errmsg("role \"%s\" may create objects in schema \"%s\"",
					   NameStr(*DatumGetName(row_datum(rows, i, 0))), schema),
				errdetail("The functions of pg_tenancy could be shadowed there."),
				errhint("Let superusers alone create there, or create the extension in a schema of "
						"its own."));
}

static void
ensure_role(const char *name, const char *comment)
{
	Oid role = get_role_oid(name, true);

	if (!OidIsValid(role))
	{
		gate_run_as_superuser(psprintf("CREATE ROLE %s NOLOGIN NOSUPERUSER NOCREATEDB "
									   "NOCREATEROLE NOREPLICATION NOBYPASSRLS",
									   quote_identifier(name)));
		gate_run_text(psprintf("COMMENT ON ROLE %s IS %s", quote_identifier(name),
							   quote_literal_cstr(comment)));
		return;
	}
	if (superuser_arg(role) || has_bypassrls_privilege(role) || has_createrole_privilege(role))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("role \"%s\" exists and has rights it must not have", name),
				errdetail("It must not be superuser, CREATEROLE or BYPASSRLS."));
}

/* tenancy_install_begin(target name) → boolean */
TENANCY_FUNCTION(install_begin)
{
	const char *target = NameStr(*PG_GETARG_NAME(0));

	require_installing();
	require_closed_schema(target);
	warn_of_creators(target);
	for (int i = 0; i < lengthof(group_roles); i++)
		ensure_role(group_roles[i].name, group_roles[i].comment);
	/* Tenants and the owners of their objects call our functions; what is in the schema has rights
	 * of its own. */
	if (!compat_may_use(get_namespace_oid(target, false), ACL_ID_PUBLIC))
		gate_run_as_superuser(
			psprintf("GRANT USAGE ON SCHEMA %s TO PUBLIC", quote_identifier(target)));
	gate_run_as_superuser("CREATE SCHEMA tenancy AUTHORIZATION tenancy_owner");
	gate_run_as_superuser("GRANT USAGE ON SCHEMA tenancy TO PUBLIC");
	PG_RETURN_BOOL(true);
}

/*
 * tenancy.install_finish() → boolean: the tables go to tenancy_owner, and what default
 * privileges of this database have opened on them to anybody is closed.
 */
TENANCY_FUNCTION(install_finish)
{
	static const char *const list_statements =
		"WITH member AS ("
		"    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d"
		"    WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = "
		"'e'"
		"      AND d.refobjid = (SELECT e.oid FROM pg_catalog.pg_extension e"
		"                        WHERE e.extname = 'pg_tenancy'))"
		" SELECT pg_catalog.format('ALTER TABLE %s OWNER TO tenancy_owner', c.oid::regclass)"
		"   FROM member m JOIN pg_catalog.pg_class c"
		"     ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.objid"
		"  WHERE c.relnamespace = 'tenancy'::regnamespace AND c.relkind IN ('r', 'v', 'p')"
		" UNION ALL"
		" SELECT pg_catalog.format('REVOKE ALL ON %s FROM %s', c.oid::regclass,"
		"                          CASE a.grantee WHEN 0 THEN 'PUBLIC'"
		"                               ELSE pg_catalog.quote_ident(a.grantee::regrole::text) END)"
		"   FROM member m JOIN pg_catalog.pg_class c"
		"     ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.objid,"
		"        pg_catalog.aclexplode(c.relacl) a"
		"  WHERE c.relnamespace = 'tenancy'::regnamespace AND a.grantee <> c.relowner"
		"    AND (a.grantee = 0 OR a.grantee::regrole::text NOT LIKE 'tenancy\\_%'"
		"         AND NOT (a.grantee::regrole::text = 'pg_monitor' AND a.privilege_type = 'SELECT'"
		"                  AND c.relname = 'tenant_stat'))"
		" UNION ALL"
		" SELECT pg_catalog.format('ALTER ROUTINE %s OWNER TO tenancy_owner', p.oid::regprocedure)"
		"   FROM member m JOIN pg_catalog.pg_proc p"
		"     ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.objid"
		"  WHERE p.pronamespace = 'tenancy'::regnamespace AND p.prokind <> 'a'"
		"    AND p.proname <> 'install_finish'"
		" UNION ALL"
		" SELECT pg_catalog.format('ALTER DOMAIN %s OWNER TO tenancy_owner', t.oid::regtype)"
		"   FROM member m JOIN pg_catalog.pg_type t"
		"     ON m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = m.objid"
		"  WHERE t.typnamespace = 'tenancy'::regnamespace AND t.typtype = 'd'";
	GateRows *rows;
	GateScope scope;

	require_installing();
	/* The script's path begins with a schema in which others may have operators. */
	gate_pin(&scope);
	rows = gate_query_text(list_statements, 0, NULL, NULL);
	for (int64 i = 0; i < rows->count; i++)
		gate_run_text(row_text(rows, i, 0));
	gate_leave(&scope);
	PG_RETURN_BOOL(true);
}
