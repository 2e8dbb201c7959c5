/*
 * context/api.c
 *		The SQL functions of the tenant context.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/entry.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/settings.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"

GATE_LOOKUP(context_document,
			"SELECT pg_catalog.jsonb_build_object("
			"    'tenant_id', t.id, 'tenant_slug', t.slug, 'tenant_name', t.name, 'plan', t.plan,"
			"    'schema', t.schema_name, 'role', t.role_name, 'actor', $2,"
			"    'limits', coalesce(p.limits, '{}'), 'features', coalesce(p.features, '{}'),"
			"    'configuration', t.configuration, 'metadata', t.metadata,"
			"    'read_only', $3, 'no_ddl', $4, 'support', $5)"
			"  FROM tenancy.tenant t LEFT JOIN tenancy.plan p ON p.id = t.plan"
			" WHERE t.id = $1",
			UUIDOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID);

/* current_tenant_id() → uuid, and current_tenant() → regtenant, of the same representation */
TENANCY_FUNCTION(current_tenant_id)
{
	const pg_uuid_t *tenant = context_tenant();

	if (tenant == NULL)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(tenant);
}

/* tenant_context_set(tenant regtenant, actor text) → uuid */
TENANCY_FUNCTION(tenant_context_set)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");
	char *actor = optional_text(fcinfo, 1);
	const pg_uuid_t *entered = context_tenant();

	if (entered == NULL)
	{
		Oid app = get_role_oid("tenancy_app", true);

		if (!setting_trusted_entry)
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("trusted entry is switched off"),
					errdetail("The setting \"tenancy.trusted_entry\" is off."));
		if (!superuser() && !(OidIsValid(app) && has_privs_of_role(GetUserId(), app)))
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied to enter a tenant"),
					errhint("Only members of role \"tenancy_app\" may."));
	}
	context_enter(id, actor, 0);
	if (entered == NULL)
		context_warn_of_autocommit();
	PG_RETURN_UUID_P(id);
}

/*
 * tenant_context_set_owner(tenant regtenant, actor text) → uuid
 *
 * A migration runs as the owner, and what it fires may be the tenant's: a session that had become
 * the owner by SET ROLE would be left by RESET ROLE in a trigger, and be a superuser's again.
 */
TENANCY_FUNCTION(tenant_context_set_owner)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");
	TenantEntry *tenant = registry_get_latest(id);
	Oid owner = get_role_oid(tenant->owner, true);

	if (!OidIsValid(owner) || !is_member_of_role(GetUserId(), owner))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to enter a tenant as its owner"),
				errhint("Only superusers and members of role \"%s\" may.", tenant->owner));
	entry_require_plain_role(owner, tenant->owner);
	context_require_none("entering a tenant as its owner");
	context_enter(id, optional_text(fcinfo, 1), 0);
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
	context_warn_of_autocommit();
	PG_RETURN_UUID_P(id);
}

/* tenant_context() → jsonb */
TENANCY_FUNCTION(tenant_context)
{
	const pg_uuid_t *tenant = context_tenant();
	uint8 restrictions;
	GateRows *rows;

	if (tenant == NULL)
		PG_RETURN_NULL();
	restrictions = context_restrictions();
	rows = gate_run(&context_document, EXPECT_ONE, gate_uuid(tenant), gate_text(context_actor()),
					gate_bool((restrictions & RESTRICT_READ_ONLY) != 0),
					gate_bool((restrictions & RESTRICT_NO_DDL) != 0),
					gate_bool((restrictions & RESTRICT_SUPPORT) != 0));
	PG_RETURN_JSONB_P(row_jsonb(rows, 0, 0));
}
