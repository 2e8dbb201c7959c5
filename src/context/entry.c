/*
 * context/entry.c
 *		What entering a tenant needs to know, looked up once.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/tenant_cache.h"
#include "context/entry.h"
#include "core/id.h"
#include "core/settings.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static TenantCache entries = {.name = "tenant entries", .entry_size = sizeof(Entry)};

/* Nobody may gain a right by entering: the role has no attribute and no predefined role. */
void
entry_require_plain_role(Oid role, const char *name)
{
	static const Oid predefined[] = {
		ROLE_PG_CHECKPOINT,        ROLE_PG_EXECUTE_SERVER_PROGRAM, ROLE_PG_MONITOR,
		ROLE_PG_READ_ALL_DATA,     ROLE_PG_READ_ALL_SETTINGS,      ROLE_PG_READ_ALL_STATS,
		ROLE_PG_READ_SERVER_FILES, ROLE_PG_SIGNAL_BACKEND,         ROLE_PG_STAT_SCAN_TABLES,
		ROLE_PG_WRITE_ALL_DATA,    ROLE_PG_WRITE_SERVER_FILES,
	};
	bool is_plain = !superuser_arg(role) && !has_createrole_privilege(role) &&
					!has_bypassrls_privilege(role) && !has_rolreplication(role);

	for (int i = 0; i < lengthof(predefined) && is_plain; i++)
		is_plain = !is_member_of_role_nosuper(role, predefined[i]);
	if (!is_plain)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" has rights that no tenant may have", name),
				errdetail("The role of a tenant must not be superuser, CREATEROLE, BYPASSRLS or "
						  "REPLICATION, nor a member of a predefined role."));
}

char *
entry_search_path(const TenantEntry *tenant)
{
	char *public_schema = get_namespace_name(extension_public_schema());
	StringInfoData path;

	initStringInfo(&path);
	if (tenant->schema != NULL)
		appendStringInfo(&path, "%s, ", quote_identifier(tenant->schema));
	if (*tenant->other_schemas)
		appendStringInfo(&path, "%s, ", tenant->other_schemas);
	/* Who may create in the extension's schema must not come before what is the system's. */
	appendStringInfoString(&path, "pg_catalog, ");
	if (public_schema != NULL)
		appendStringInfo(&path, "%s, ", quote_identifier(public_schema));
	appendStringInfoString(&path, "pg_temp");
	return path.data;
}

static bool
is_suspended(const TenantEntry *tenant)
{
	return strcmp(tenant->state, "suspended") == 0;
}

Oid
entry_require_enterable(const TenantEntry *tenant)
{
	Oid role;

	if (!(is_suspended(tenant) && setting_suspended_access == SUSPENDED_DELETES))
		registry_require_active(tenant);
	role = get_role_oid(tenant->role, true);
	if (!OidIsValid(role))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no role", tenant->slug),
				errdetail("Role \"%s\" does not exist in this cluster.", tenant->role),
				errhint("Roles are restored by pg_dumpall --globals-only, before the database."));
	return role;
}

const Entry *
entry_get(const pg_uuid_t *id)
{
	Entry *entry = tenant_cache_find(&entries, id);
	TenantEntry *tenant;
	Oid role;
	char *search_path;
	MemoryContext old;

	if (entry != NULL)
	{
		/* The setting may have changed since. */
		if (unlikely(entry->is_suspended))
			(void) entry_require_enterable(&entry->tenant);
		return entry;
	}

	tenant = registry_get_latest(id);
	role = entry_require_enterable(tenant);
	entry_require_plain_role(role, tenant->role);
	search_path = entry_search_path(tenant);

	old = MemoryContextSwitchTo(entries.memory);
	tenant = registry_copy(tenant);
	search_path = pstrdup(search_path);
	entry = tenant_cache_add(&entries, id);
	entry->tenant = *tenant;
	entry->role = role;
	entry->is_suspended = is_suspended(tenant);
	entry->search_path = search_path;
	entry->id = id_text(id);
	MemoryContextSwitchTo(old);
	return entry;
}
