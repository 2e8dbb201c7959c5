/*
 * catalog/registry.c
 *		The registry of tenants, and a cache of what belongs to whom.
 *
 * The cache of relations is one hash per backend.  It is thrown away when the
 * registry's tables change (their triggers send an invalidation of the table's
 * relcache entry, since a change of rows alone sends none) or when a schema
 * changes; one relation is forgotten when its own definition changes.  The rows
 * are read as they are committed now, so that an old snapshot cannot leave a
 * stale "belongs to nobody" behind.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "core/function.h"
#include "core/hot.h"
#include "core/id.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#define TENANT_BY_ID                                                                               \
	"SELECT t.id, t.slug, t.state, t.role_name, t.owner_name, t.schema_name,"                      \
	"       coalesce((SELECT string_agg(quote_ident(s.schema_name::text), ', '"                    \
	"                                   ORDER BY s.created_at, s.schema_name)"                     \
	"                 FROM tenancy.tenant_schema s"                                                \
	"                 WHERE s.tenant_id = t.id AND s.schema_name <> t.schema_name), ''),"          \
	"       t.plan"                                                                                \
	"  FROM tenancy.tenant t WHERE t.id = $1"
GATE_LOOKUP(tenant_by_id, TENANT_BY_ID, UUIDOID);
GATE_LATEST(tenant_by_id_latest, TENANT_BY_ID, UUIDOID);
#define TENANT_ID_BY_SLUG "SELECT t.id FROM tenancy.tenant t WHERE t.slug = $1"
GATE_LOOKUP(tenant_id_by_slug, TENANT_ID_BY_SLUG, TEXTOID);
GATE_LATEST(tenant_id_by_slug_latest, TENANT_ID_BY_SLUG, TEXTOID);
GATE_LOOKUP(tenant_slug_by_id, "SELECT t.slug FROM tenancy.tenant t WHERE t.id = $1", UUIDOID);
/* Columns of tenancy.tenant_schema and tenancy.tenant_table. */
enum
{
	SCHEMA_TENANT = 1,
	SCHEMA_NAME = 2,
	TABLE_RELATION = 1
};

typedef struct ScopeEntry
{
	Oid oid; /* of the relation or of the schema: oids of the two never meet in one hash */
	RelationScope scope;
	pg_uuid_t tenant;
} ScopeEntry;

static HTAB *relation_scopes = NULL;
static HTAB *schema_scopes = NULL;
static Oid tenant_schema_relid;
static Oid tenant_table_relid;

/* A change of their rows moves the generation on. */
static const char *const followed[] = {
	"tenant", "tenant_schema", "tenant_login",       "ceiling",    "token_key",
	"metric", "plan",          "plan_price",         "rate_limit", "quota_limit",
	"quota",  "allocation",    "usage_announcement", "legal_hold"};
static Oid followed_relids[lengthof(followed)];
static bool is_stale = false;

/* Of tenants, logins, ceilings, keys and roles. */
uint64 registry_known_generation HOT_DATA = 0;

/*
 * Invalidations come at any moment, even while an entry is being made: they only
 * mark, and the next look-up clears.  generation tells a look-up in progress.
 */
uint64 registry_generation_of_scopes HOT_DATA = 0;
RecentRelation registry_recent[REGISTRY_RECENT_RELATIONS];

static void
forget_all(void)
{
	is_stale = true;
	registry_generation_of_scopes++;
}

static void
schema_changed(Datum arg, int cache_id, uint32 hash)
{
	/* Perhaps the extension came or went. */
	memset(followed_relids, 0, sizeof(followed_relids));
	registry_known_generation++;
	forget_all();
}

static void
role_changed(Datum arg, int cache_id, uint32 hash)
{
	registry_known_generation++;
}

static void
relation_changed(Datum arg, Oid relid)
{
	bool is_followed = !OidIsValid(relid);

	for (int i = 0; i < lengthof(followed) && !is_followed; i++)
		is_followed = relid == followed_relids[i];
	if (is_followed)
		registry_known_generation++;
	if (!OidIsValid(relid) || relid == tenant_schema_relid || relid == tenant_table_relid)
		forget_all();
	else if (relation_scopes != NULL)
	{
		registry_generation_of_scopes++;
		(void) hash_search(relation_scopes, &relid, HASH_REMOVE, NULL);
	}
}

void
registry_init(void)
{
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum) 0);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

pg_attribute_hot uint64
registry_generation(void)
{
	if (unlikely(!OidIsValid(followed_relids[0]) && extension_is_ready()))
		for (int i = 0; i < lengthof(followed); i++)
			followed_relids[i] = extension_relation(followed[i]);
	return registry_known_generation;
}

static HTAB *
make_cache(const char *name)
{
	HASHCTL control = {
		.keysize = sizeof(Oid), .entrysize = sizeof(ScopeEntry), .hcxt = TopMemoryContext};

	return hash_create(name, 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
clear_if_stale(void)
{
	if (likely(!is_stale && relation_scopes != NULL))
		return;
	if (relation_scopes != NULL)
	{
		hash_destroy(relation_scopes);
		hash_destroy(schema_scopes);
	}
	relation_scopes = make_cache("pg_tenancy relation scopes");
	schema_scopes = make_cache("pg_tenancy schema scopes");
	is_stale = false;
	tenant_schema_relid = extension_relation("tenant_schema");
	tenant_table_relid = extension_relation("tenant_table");
}

/* Keep an answer unless the world changed meanwhile, or the snapshot may have been an old one. */
static void
remember(HTAB **cache, Oid oid, RelationScope scope, const pg_uuid_t *tenant, uint64 seen)
{
	ScopeEntry *entry;

	if (is_stale || registry_generation_of_scopes != seen || IsInParallelMode())
		return;
	entry = hash_search(*cache, &oid, HASH_ENTER, NULL);
	entry->scope = scope;
	if (scope == SCOPE_TENANT)
		entry->tenant = *tenant;
}

/*
 * The row of a key, as it is committed now or changed by ourselves; its column "wanted", a
 * uuid, goes to *result.  An index scan and no query, so that no lock is left on our tables
 * by a statement that has nothing to do with them.
 */
static bool
find_row(const char *table, const char *index, AttrNumber column, RegProcedure equals, Datum value,
		 AttrNumber wanted, pg_uuid_t *result)
{
	Relation relation = table_open(extension_relation(table), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool is_found;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, equals, value);
	scan = systable_beginscan(relation, extension_relation(index), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	is_found = HeapTupleIsValid(tuple);
	if (is_found && wanted != InvalidAttrNumber)
	{
		bool is_null;

		*result = *DatumGetUUIDP(heap_getattr(tuple, wanted, RelationGetDescr(relation), &is_null));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return is_found;
}

RelationScope
registry_schema_scope(Oid schema, pg_uuid_t *tenant)
{
	ScopeEntry *entry;
	RelationScope scope = SCOPE_NONE;
	uint64 seen;
	char *name;

	/* Our own tables first: the look-up below reads them, through this very function. */
	if (schema < FirstNormalObjectId || !extension_is_ready() ||
		schema == extension_tables_schema())
		return SCOPE_NONE;
	clear_if_stale();

	entry = hash_search(schema_scopes, &schema, HASH_FIND, NULL);
	if (entry != NULL)
	{
		*tenant = entry->tenant;
		return entry->scope;
	}

	seen = registry_generation_of_scopes;
	name = get_namespace_name(schema);
	if (name != NULL)
	{
		NameData key;

		namestrcpy(&key, name);
		if (find_row("tenant_schema", "tenant_schema_pkey", SCHEMA_NAME, F_NAMEEQ,
					 NameGetDatum(&key), SCHEMA_TENANT, tenant))
			scope = SCOPE_TENANT;
	}
	remember(&schema_scopes, schema, scope, tenant, seen);
	return scope;
}

/* A table that looks as if it held rows of many tenants, which nothing tells apart. */
static bool
is_unfiltered(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool is_candidate;

	if (!HeapTupleIsValid(tuple))
		return false;
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		is_candidate =
			(form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE) &&
			form->relpersistence != RELPERSISTENCE_TEMP && !form->relrowsecurity;
	}
	ReleaseSysCache(tuple);
	return is_candidate && get_attnum(relid, "tenant_id") != InvalidAttrNumber;
}

pg_attribute_hot RelationScope
registry_relation_scope(Oid relid, pg_uuid_t *tenant)
{
	const RecentRelation *recent = registry_recent_relation(relid);
	ScopeEntry *entry;
	RelationScope scope;
	uint64 seen;
	Oid schema;

	if (likely(recent != NULL && OidIsValid(relid)))
	{
		*tenant = recent->tenant;
		return recent->scope;
	}
	if (relid < FirstNormalObjectId || !extension_is_ready())
		return SCOPE_NONE;
	clear_if_stale();

	entry = hash_search(relation_scopes, &relid, HASH_FIND, NULL);
	if (likely(entry != NULL))
	{
		registry_recent[relid % REGISTRY_RECENT_RELATIONS] =
			(RecentRelation){relid, entry->scope, registry_generation_of_scopes, entry->tenant};
		*tenant = entry->tenant;
		return entry->scope;
	}

	seen = registry_generation_of_scopes;
	schema = get_rel_namespace(relid);
	scope = registry_schema_scope(schema, tenant);
	if (scope == SCOPE_NONE && OidIsValid(schema) && schema != extension_tables_schema() &&
		find_row("tenant_table", "tenant_table_pkey", TABLE_RELATION, F_OIDEQ,
				 ObjectIdGetDatum(relid), InvalidAttrNumber, NULL))
		scope = SCOPE_SHARED;
	if (scope == SCOPE_NONE && schema != extension_tables_schema() && is_unfiltered(relid))
		scope = SCOPE_UNFILTERED;
	remember(&relation_scopes, relid, scope, tenant, seen);
	return scope;
}

static TenantEntry *
find(GateStatement *statement, const pg_uuid_t *id)
{
	GateRows *rows = gate_run(statement, EXPECT_AT_MOST_ONE, gate_uuid(id));
	TenantEntry *entry;

	if (rows->count == 0)
		return NULL;
	entry = palloc(sizeof(TenantEntry));
	entry->id = *row_uuid(rows, 0, 0);
	entry->slug = row_text(rows, 0, 1);
	entry->state = row_text(rows, 0, 2);
	entry->role = row_text(rows, 0, 3);
	entry->owner = row_text(rows, 0, 4);
	entry->schema = row_text(rows, 0, 5);
	entry->other_schemas = row_text(rows, 0, 6);
	entry->plan = row_text(rows, 0, 7);
	return entry;
}

static TenantEntry *
require_found(TenantEntry *entry, const pg_uuid_t *id)
{
	if (entry == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(id)));
	return entry;
}

TenantEntry *
registry_get(const pg_uuid_t *id)
{
	return require_found(find(&tenant_by_id, id), id);
}

void
registry_require_active(const TenantEntry *tenant)
{
	if (strcmp(tenant->state, "active") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" is %s", tenant->slug, tenant->state));
}

TenantEntry *
registry_get_latest(const pg_uuid_t *id)
{
	return require_found(find(&tenant_by_id_latest, id), id);
}

static TenantCache existing = {.name = "existing tenants", .entry_size = sizeof(pg_uuid_t)};

bool
registry_exists(const pg_uuid_t *id)
{
	if (likely(tenant_cache_find(&existing, id) != NULL))
		return true;
	if (find(&tenant_by_id_latest, id) == NULL)
		return false;
	(void) tenant_cache_add(&existing, id);
	return true;
}

static char *
copy_text(const char *text)
{
	return text == NULL ? NULL : pstrdup(text);
}

TenantEntry *
registry_copy(const TenantEntry *entry)
{
	TenantEntry *copy = palloc(sizeof(TenantEntry));

	copy->id = entry->id;
	copy->slug = copy_text(entry->slug);
	copy->state = copy_text(entry->state);
	copy->plan = copy_text(entry->plan);
	copy->role = copy_text(entry->role);
	copy->owner = copy_text(entry->owner);
	copy->schema = copy_text(entry->schema);
	copy->other_schemas = copy_text(entry->other_schemas);
	return copy;
}

/* Slugs that were asked for, each in the place of its hash. */
#define REMEMBERED_SLUGS 256

typedef struct RememberedSlug
{
	uint64 generation;
	char slug[NAMEDATALEN];
	pg_uuid_t id;
} RememberedSlug;

static RememberedSlug remembered_slugs[REMEMBERED_SLUGS];

pg_uuid_t *
registry_find_slug(const char *slug)
{
	uint64 generation;
	Size length = strlen(slug);
	RememberedSlug *entry;
	GateRows *rows;
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	if (length == 0 || length >= NAMEDATALEN)
		return NULL;
	/* What others committed since this transaction began. */
	AcceptInvalidationMessages();
	generation = registry_generation();
	entry = &remembered_slugs[hash_bytes((const unsigned char *) slug, length) % REMEMBERED_SLUGS];
	if (likely(entry->generation == generation && strcmp(entry->slug, slug) == 0))
	{
		*id = entry->id;
		return id;
	}

	/* No other snapshot can be taken there, so what is seen may be old. */
	rows = gate_run(IsInParallelMode() ? &tenant_id_by_slug : &tenant_id_by_slug_latest,
					EXPECT_AT_MOST_ONE, gate_text(slug));
	if (rows->count == 0)
		return NULL;
	*id = *row_uuid(rows, 0, 0);
	if (!IsInParallelMode())
	{
		entry->generation = generation;
		strlcpy(entry->slug, slug, NAMEDATALEN);
		entry->id = *id;
	}
	return id;
}

char *
registry_slug(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&tenant_slug_by_id, EXPECT_AT_MOST_ONE, gate_uuid(id));

	return rows->count == 0 ? NULL : row_text(rows, 0, 0);
}

/* The trigger of the registry's tables: tell every backend to forget. */
TENANCY_FUNCTION(registry_changed)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("registry_changed() is a trigger"));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
