/*
 * context/entry.h
 *		What entering a tenant needs to know, looked up once.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"

typedef struct Entry
{
	pg_uuid_t tenant_id; /* the key of the cache */
	TenantEntry tenant;
	Oid role;
	bool is_suspended; /* may read and delete alone */
	char *search_path;
	char *id; /* as text */
} Entry;

/*
 * The entry of a tenant that may be entered now: valid until the next call.  Errors: 42704
 * unknown tenant; 55000 when it is neither active nor suspended (tenancy.suspended_access) or has
 * no role; 42501 when the role has rights
 * that no tenant may have.  No table access but for the first time after a change.
 */
extern const Entry *entry_get(const pg_uuid_t *tenant);

/* The role of a tenant that may be entered now; 55000 as above. */
extern Oid entry_require_enterable(const TenantEntry *tenant);

/* Raise 42501 for a role with an attribute or a predefined role: none that a tenant uses may. */
extern void entry_require_plain_role(Oid role, const char *name);

/* Palloc'd: the schemas of the tenant, then the system's and the extension's. */
extern char *entry_search_path(const TenantEntry *tenant);
