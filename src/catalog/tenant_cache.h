/*
 * catalog/tenant_cache.h
 *		What a backend remembers of tenants until the registry changes.
 */
#pragma once

#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/uuid.h"

typedef struct TenantCache
{
	const char *name;
	Size entry_size;      /* an entry begins with the tenant's id */
	MemoryContext memory; /* what entries point to; all below is owned by tenant_cache.c */
	HTAB *entries;
	uint64 generation;
	void *last; /* the entry found last: a session mostly asks for its own tenant */
} TenantCache;

/* The entry of a tenant, or NULL; entries from before a change of the registry are gone. */
extern void *tenant_cache_find(TenantCache *cache, const pg_uuid_t *tenant);

/*
 * A new entry, zeroed behind its id, right after tenant_cache_find() returned NULL.  Fill it
 * from what is committed now (GATE_LATEST), fetched before: nothing may raise between.
 * Pointers are valid until the next tenant_cache_find().
 */
extern void *tenant_cache_add(TenantCache *cache, const pg_uuid_t *tenant);
