/*
 * context/regtenant.c
 *		The type regtenant: a tenant by its slug, in the family of regclass.
 *
 * It is a uuid that is read and shown as the slug.  Reading a uuid never looks it
 * up and showing one never fails.  Who may not see a tenant is told that it does
 * not exist: within a context a session can name its own tenant only, and outside
 * of one only the control plane can name any.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "catalog/registry.h"
#include "core/function.h"
#include "core/id.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"

static bool
find_control_plane(Oid user)
{
	static const char *const groups[] = {"tenancy_admin", "tenancy_app", "tenancy_auditor",
										 TENANCY_OWNER};

	if (superuser_arg(user))
		return true;
	for (int i = 0; i < lengthof(groups); i++)
	{
		Oid group = get_role_oid(groups[i], true);

		if (OidIsValid(group) && has_privs_of_role(user, group))
			return true;
	}
	return false;
}

/* The last answer, until a role changes. */
static bool
is_control_plane(Oid user)
{
	static Oid known_user = InvalidOid;
	static uint64 known_generation;
	static bool is_known_member;
	uint64 generation = registry_generation();

	if (likely(known_user == user && known_generation == generation))
		return is_known_member;
	is_known_member = find_control_plane(user);
	known_generation = generation;
	known_user = user;
	return is_known_member;
}

bool
tenant_is_visible(const pg_uuid_t *id)
{
	const pg_uuid_t *tenant = context_tenant();

	if (tenant != NULL)
		return id_equal(tenant, id);
	return is_control_plane(GetUserId());
}

void
tenant_require_visible(const pg_uuid_t *id)
{
	if (!tenant_is_visible(id))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(id)));
}

static pg_uuid_t *
read_tenant(const char *text)
{
	pg_uuid_t *id = NULL;

	if (id_is_shaped(text))
		return id_parse(text);
	if (extension_is_ready() && (context_tenant() != NULL || is_control_plane(GetUserId())))
		id = registry_find_slug(text);
	if (id == NULL || !tenant_is_visible(id))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", text));
	return id;
}

TENANCY_FUNCTION(regtenant_in)
{
	PG_RETURN_UUID_P(read_tenant(PG_GETARG_CSTRING(0)));
}

/* text → regtenant, for columns, variables and drivers that send typed text */
TENANCY_FUNCTION(regtenant_from_text)
{
	PG_RETURN_UUID_P(read_tenant(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

TENANCY_FUNCTION(regtenant_out)
{
	pg_uuid_t *id = PG_GETARG_UUID_P(0);
	char *slug = NULL;

	if (IsTransactionState() && extension_is_ready() && tenant_is_visible(id))
		slug = registry_slug(id);
	PG_RETURN_CSTRING(slug != NULL ? slug : id_text(id));
}

TENANCY_FUNCTION(regtenant_recv)
{
	return DirectFunctionCall1(uuid_recv, PG_GETARG_DATUM(0));
}

TENANCY_FUNCTION(regtenant_send)
{
	return DirectFunctionCall1(uuid_send, PG_GETARG_DATUM(0));
}
