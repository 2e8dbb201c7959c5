/*
 * catalog/tenant_cache.c
 *		What a backend remembers of tenants until the registry changes.
 */
#include "postgres.h"

#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "core/id.h"

#include "utils/memutils.h"

#define CACHED_TENANTS 256

static void
clear(TenantCache *cache, uint64 generation)
{
	HASHCTL control = {.keysize = sizeof(pg_uuid_t), .entrysize = cache->entry_size};

	if (cache->memory == NULL)
		cache->memory =
			AllocSetContextCreate(TopMemoryContext, "pg_tenancy cache", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSetIdentifier(cache->memory, cache->name);
	cache->entries = NULL;
	cache->last = NULL;
	MemoryContextReset(cache->memory);
	control.hcxt = cache->memory;
	cache->entries =
		hash_create(cache->name, CACHED_TENANTS, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cache->generation = generation;
}

pg_attribute_hot void *
tenant_cache_find(TenantCache *cache, const pg_uuid_t *tenant)
{
	uint64 generation = registry_generation();

	if (likely(cache->last != NULL && cache->generation == generation &&
			   id_equal(cache->last, tenant)))
		return cache->last;
	if (unlikely(cache->entries == NULL || cache->generation != generation ||
				 hash_get_num_entries(cache->entries) >= CACHED_TENANTS))
		clear(cache, generation);
	cache->last = hash_search(cache->entries, tenant, HASH_FIND, NULL);
	return cache->last;
}

/* What changed while it was fetched has moved the generation on: the entry serves once. */
void *
tenant_cache_add(TenantCache *cache, const pg_uuid_t *tenant)
{
	char *entry = hash_search(cache->entries, tenant, HASH_ENTER, NULL);

	memset(entry + sizeof(pg_uuid_t), 0, cache->entry_size - sizeof(pg_uuid_t));
	return entry;
}
