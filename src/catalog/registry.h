/*
 * catalog/registry.h
 *		The registry of tenants: who they are, and which schemas and shared tables
 *		belong to them.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

typedef struct TenantEntry
{
	pg_uuid_t id;
	char *slug;
	char *state;         /* "active", … */
	char *plan;          /* NULL for none */
	char *role;          /* the role that sessions of the tenant become */
	char *owner;         /* the owner of the tenant's objects; the role itself when it owns_ddl */
	char *schema;        /* the main schema; NULL in the pool tier */
	char *other_schemas; /* quoted and joined for a search path; "" for none */
} TenantEntry;

/* Palloc'd, as the caller's snapshot shows it; 42704 'tenant "…" does not exist'. */
extern TenantEntry *registry_get(const pg_uuid_t *id);

/* The same as it is committed now: for what is kept until registry_generation() moves on. */
extern TenantEntry *registry_get_latest(const pg_uuid_t *id);

/* Raise 55000 'tenant "…" is suspended', or what else it is. */
extern void registry_require_active(const TenantEntry *tenant);
extern TenantEntry *registry_copy(const TenantEntry *entry);

/* Is there such a tenant now?  No table access but for the first time after a change. */
extern bool registry_exists(const pg_uuid_t *id);

/* The id of a slug and back; NULL where there is no such tenant. */
extern pg_uuid_t *registry_find_slug(const char *slug);
extern char *registry_slug(const pg_uuid_t *id);

typedef enum RelationScope
{
	SCOPE_NONE,      /* no business of ours */
	SCOPE_TENANT,    /* lies in a schema of a tenant */
	SCOPE_SHARED,    /* holds rows of many tenants, registered by tenant_table_register() */
	SCOPE_UNFILTERED /* has a tenant_id, but is not registered and has no row security */
} RelationScope;

/*
 * Whose is the relation?  Answered from a cache of the backend that follows the
 * catalogs and the registry: no table access but for the first time.  *tenant is
 * set for SCOPE_TENANT.
 */
extern RelationScope registry_relation_scope(Oid relid, pg_uuid_t *tenant);

/* What was found of the relations that statements touch, each in the place of its OID. */
#define REGISTRY_RECENT_RELATIONS 32
typedef struct RecentRelation
{
	Oid relid;
	RelationScope scope;
	uint64 generation;
	pg_uuid_t tenant; /* for SCOPE_TENANT */
} RecentRelation;

extern RecentRelation registry_recent[REGISTRY_RECENT_RELATIONS]; /* of registry.c alone, as is */
extern uint64 registry_generation_of_scopes;                      /* this */

/* NULL where it was another's place, or something has changed since. */
static inline const RecentRelation *
registry_recent_relation(Oid relid)
{
	const RecentRelation *entry = &registry_recent[relid % REGISTRY_RECENT_RELATIONS];

	return entry->relid == relid && entry->generation == registry_generation_of_scopes ? entry
																					   : NULL;
}

/* True where the relation is known to be SCOPE_NONE; false says nothing. */
static inline bool
registry_is_free(Oid relid)
{
	const RecentRelation *entry = registry_recent_relation(relid);

	return entry != NULL && entry->scope == SCOPE_NONE;
}

/* The same for a schema: SCOPE_NONE or SCOPE_TENANT. */
extern RelationScope registry_schema_scope(Oid schema, pg_uuid_t *tenant);

/*
 * Grows when a tenant, a bound login, a ceiling, a token's key or a role has changed: what was
 * derived from them is to be read again.
 */
extern uint64 registry_generation(void);

/* Its value for who has called it since it last moved on; of registry.c alone. */
extern uint64 registry_known_generation;

extern void registry_init(void);

#pragma GCC visibility pop
