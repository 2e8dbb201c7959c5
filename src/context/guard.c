/*
 * context/guard.c
 *		May this relation be touched now?
 *
 * On top of PostgreSQL's grants.  Within a context nobody touches another tenant's
 * relation: neither its owner nor a superuser nor a function that runs as one of
 * them.  Without a context superusers and owners do (pg_dump, administrators, the
 * owner's own maintenance), and nobody else.
 *
 * Row security has ways around it that are all legal: the owner's rights behind a
 * view, BYPASSRLS, a table without FORCE.  So a shared table is refused whenever
 * row security would not be applied for the role that the access is checked as.
 * The one exception is the server's own foreign key check, which sees all rows and
 * shows none.
 */
#include "postgres.h"

#include "context/context.h"
#include "context/guard.h"
#include "catalog/registry.h"
#include "core/compat.h"
#include "core/id.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

/* Why a relation is refused. */
typedef enum Refusal
{
	ALLOWED,
	OTHER_TENANT,
	NO_CONTEXT,
	NOT_FILTERED,
	NOT_REGISTERED
} Refusal;

static const struct
{
	const char *detail;
	const char *hint;
} refusals[] = {
	[OTHER_TENANT] = {"It belongs to another tenant.",
					  "A tenant context reaches the tables of its own tenant only."},
	[NO_CONTEXT] = {"There is no tenant context.",
					"Enter the tenant first, in the same transaction."},
	[NOT_FILTERED] = {"Row security does not filter this access to a shared table.",
					  "A view over a shared table must be security_invoker."},
	[NOT_REGISTERED] = {"It has a column tenant_id, but nothing tells its rows apart.",
						"tenant_table_register() makes it a shared table."},
};

static bool
is_owner_or_superuser(Oid relid, Oid role)
{
	return superuser_arg(role) || compat_owns_relation(relid, role);
}

static pg_attribute_hot Refusal
judge(Oid relid, Oid role)
{
	const pg_uuid_t *tenant = context_tenant();
	pg_uuid_t owner;

	switch (registry_relation_scope(relid, &owner))
	{
		case SCOPE_NONE:
			return ALLOWED;

		case SCOPE_TENANT:
			if (tenant != NULL && !id_equal(tenant, &owner))
				return OTHER_TENANT;
			if (tenant == NULL && !is_owner_or_superuser(relid, role))
				return NO_CONTEXT;
			/* What we do ourselves, as the owner, is not the tenant's work. */
			if (!InSecurityRestrictedOperation())
				context_note_touched(&owner);
			return ALLOWED;

		case SCOPE_SHARED:
			if (tenant == NULL)
				return is_owner_or_superuser(relid, role) ? ALLOWED : NO_CONTEXT;
			if (check_enable_rls(relid, role, true) != RLS_ENABLED && !InNoForceRLSOperation())
				return NOT_FILTERED;
			return ALLOWED;

		case SCOPE_UNFILTERED:
			return tenant == NULL || InNoForceRLSOperation() ? ALLOWED : NOT_REGISTERED;
	}
	return ALLOWED;
}

pg_attribute_hot bool
guard_check_relation(Oid relid, Oid role, bool raise_error)
{
	Refusal refusal = judge(relid, role);

	if (refusal != ALLOWED && raise_error)
	{
		char *name = get_rel_name(relid);

		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for relation \"%s\"", name != NULL ? name : "?"),
				errdetail_internal("%s", refusals[refusal].detail),
				errhint("%s", refusals[refusal].hint));
	}
	return refusal == ALLOWED;
}

static pg_attribute_hot pg_noinline bool
check_entries(List *entries, bool raise_error)
{
	ListCell *cell;

	foreach (cell, entries)
	{
		Oid relid = compat_touched_relid(lfirst(cell));

		if (OidIsValid(relid) && !registry_is_free(relid) &&
			!guard_check_relation(relid, compat_touched_as(lfirst(cell)), raise_error))
			return false;
	}
	return true;
}

/* As a rule all are free: that is seen without a call. */
pg_attribute_hot bool
guard_check_permissions(List *entries, bool raise_error)
{
	ListCell *cell;

	foreach (cell, entries)
	{
		Oid relid = compat_touched_relid(lfirst(cell));

		if (OidIsValid(relid) && unlikely(!registry_is_free(relid)))
			return check_entries(entries, raise_error);
	}
	return true;
}

void
guard_check_truncate(Oid relid)
{
	pg_uuid_t owner;

	(void) guard_check_relation(relid, GetUserId(), true);
	if (context_tenant() != NULL && registry_relation_scope(relid, &owner) == SCOPE_SHARED)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for relation \"%s\"", get_rel_name(relid)),
				errdetail("TRUNCATE would delete the rows of other tenants."),
				errhint("DELETE deletes those of the tenant."));
}

void
guard_check_schema(Oid schema)
{
	const pg_uuid_t *tenant = context_tenant();
	pg_uuid_t owner;

	if (tenant != NULL && registry_schema_scope(schema, &owner) == SCOPE_TENANT &&
		!id_equal(&owner, tenant))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for schema %s", get_namespace_name(schema)),
				errdetail_internal("%s", refusals[OTHER_TENANT].detail),
				errhint("%s", refusals[OTHER_TENANT].hint));
}
