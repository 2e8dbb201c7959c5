/*
 * domain/lookup.c
 *		Which names may be served, in shared memory.
 *
 * There is an entry for each verified domain and for each slug of an active tenant, and one for
 * the database, which says that all of them are there.  Nothing here survives a crash: whoever
 * asks next in that database loads it again.
 *
 * Triggers note the names whose rows a transaction changes.  Right before it commits it looks
 * up what they stand for now, and once it has committed it writes that.  A heavyweight lock,
 * one per database, is held from before the first to the end of the transaction, so that two
 * commits cannot write in another order than they read; loading holds it, too.
 *
 * Lock rules.  The lock of an entry's partition is held for a look-up or a store.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/function.h"
#include "core/hostname.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "crypto/digest.h"
#include "domain/domain.h"
#include "shmem/table.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Tells our lock apart from others on the same class. */
#define LOCK_NUMBER 3

/* A transaction that changes more names than this has all of them loaded again. */
#define MAX_CHANGED_NAMES 1000

typedef enum NameKind
{
	NAME_DATABASE, /* the entry that says that the others are there */
	NAME_DOMAIN,
	NAME_SLUG
} NameKind;

typedef struct NameKey
{
	Oid database;
	int32 kind;
	unsigned char digest[DIGEST_LENGTH];
} NameKey;

typedef struct NameEntry
{
	NameKey key;
	bool is_loaded;   /* of a database */
	bool lacks_names; /* of a database: there was no room for some */
} NameEntry;

/* All that shared memory knows. */
#define ALL_NAMES                                                                                  \
	"SELECT true, t.slug FROM tenancy.tenant t WHERE t.state = 'active'"                           \
	" UNION ALL SELECT false, d.domain FROM tenancy.domain d"                                      \
	"   JOIN tenancy.tenant t ON t.id = d.tenant_id"                                               \
	"  WHERE d.state = 'verified' AND t.state = 'active'"
GATE_SCAN(domain_all_names, ALL_NAMES, InvalidOid);
GATE_LATEST(
	domain_changed_names,
	"SELECT true, n.name, EXISTS (SELECT FROM tenancy.tenant t"
	"                              WHERE t.slug = n.name AND t.state = 'active')"
	"  FROM pg_catalog.unnest($1) AS n (name)"
	" UNION ALL"
	" SELECT false, n.name, EXISTS (SELECT FROM tenancy.domain d"
	"                                 JOIN tenancy.tenant t ON t.id = d.tenant_id"
	"                                WHERE d.domain = n.name AND d.state = 'verified'"
	"                                  AND t.state = 'active')"
	"  FROM (SELECT pg_catalog.unnest($2) UNION"
	"        SELECT d.domain FROM tenancy.domain d WHERE d.tenant_id = ANY ($3)) AS n (name)",
	TEXTARRAYOID, TEXTARRAYOID, UUIDARRAYOID);
GATE_LOOKUP(domain_is_verified,
			"SELECT FROM tenancy.domain d JOIN tenancy.tenant t ON t.id = d.tenant_id"
			" WHERE d.domain = $1 AND d.state = 'verified' AND t.state = 'active'",
			TEXTOID);
GATE_LOOKUP(domain_slug_is_active,
			"SELECT FROM tenancy.tenant t WHERE t.slug = $1 AND t.state = 'active'", TEXTOID);

static int
name_capacity(void)
{
	return setting_max_domains;
}

static SharedTable names = {
	.name = "pg_tenancy domains",
	.key_size = sizeof(NameKey),
	.entry_size = sizeof(NameEntry),
	.capacity = name_capacity,
};

/* What this transaction has changed, in TopTransactionContext; names may be there twice. */
typedef struct ChangedNames
{
	List *slugs;
	List *domains;
	List *tenants;
	bool is_all; /* too many, or all of a table */
	/* From right before the commit on. */
	int count;
	NameKey *keys;
	bool *are_allowed;
} ChangedNames;

static ChangedNames *changed = NULL;
static bool is_dropped = false;

static void
make_key(NameKey *key, Oid database, NameKind kind, const char *name)
{
	memset(key, 0, sizeof(NameKey));
	key->database = database;
	key->kind = kind;
	if (kind != NAME_DATABASE)
		crypto_generichash(key->digest, sizeof(key->digest), (const unsigned char *) name,
						   strlen(name), NULL, 0);
}

static bool
is_known(Oid database, NameKind kind, const char *name)
{
	NameKey key;
	LWLock *lock;

	make_key(&key, database, kind, name);
	if (shared_table_find(&names, &key, LW_SHARED, &lock) == NULL)
		return false;
	LWLockRelease(lock);
	return true;
}

/* Is all of the database there?  False where some had no room. */
static bool
is_complete(Oid database, bool *is_loaded)
{
	NameKey key;
	LWLock *lock;
	NameEntry *entry;
	bool result;

	make_key(&key, database, NAME_DATABASE, NULL);
	entry = shared_table_find(&names, &key, LW_SHARED, &lock);
	*is_loaded = entry != NULL && entry->is_loaded;
	if (entry == NULL)
		return false;
	result = entry->is_loaded && !entry->lacks_names;
	LWLockRelease(lock);
	return result;
}

static bool
mark_database(Oid database, bool is_loaded, bool lacks_names)
{
	NameKey key;
	LWLock *lock;
	NameEntry *entry;

	make_key(&key, database, NAME_DATABASE, NULL);
	entry = shared_table_ensure(&names, &key, LW_EXCLUSIVE, &lock);
	if (entry == NULL)
		return false;
	entry->is_loaded = is_loaded;
	entry->lacks_names = lacks_names;
	LWLockRelease(lock);
	return true;
}

static void
set_name(const NameKey *key, bool is_allowed)
{
	LWLock *lock;

	if (is_allowed)
	{
		if (shared_table_ensure(&names, key, LW_EXCLUSIVE, &lock) != NULL)
			LWLockRelease(lock);
		else
			(void) mark_database(key->database, true, true);
	}
	else if (shared_table_find(&names, key, LW_EXCLUSIVE, &lock) != NULL)
	{
		shared_table_remove(&names, key);
		LWLockRelease(lock);
	}
}

static void
forget_name(void *pointer, void *argument)
{
	NameEntry *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&names, &entry->key);
}

void
domain_forget(Oid database)
{
	shared_table_scan(&names, LW_EXCLUSIVE, forget_name, &database);
}

/* The slug of a name right below the domain of the platform, else NULL; in the name's buffer. */
static const char *
slug_of(char *name)
{
	size_t length = strlen(name) - strlen(setting_base_domain) - 1;

	if (*setting_base_domain == '\0' || !hostname_is_below(name, setting_base_domain) ||
		strcmp(name, setting_base_domain) == 0 || memchr(name, '.', length) != NULL)
		return NULL;
	name[length] = '\0';
	return name;
}

DomainAnswer
domain_ask(Oid database, const char *text, size_t length)
{
	char name[HOSTNAME_LENGTH + 1];
	bool is_loaded;
	bool was_complete;
	const char *slug;

	if (hostname_read(text, length, name) != NULL)
		return DOMAIN_REFUSED;
	/* Looked at first: what is not found afterwards was not there. */
	was_complete = shmem_is_ready() && is_complete(database, &is_loaded);
	if (!was_complete && !(shmem_is_ready() && is_loaded))
		return DOMAIN_UNKNOWN;
	if (is_known(database, NAME_DOMAIN, name))
		return DOMAIN_ALLOWED;
	slug = slug_of(name);
	if (slug != NULL && is_known(database, NAME_SLUG, slug))
		return DOMAIN_ALLOWED;
	return was_complete ? DOMAIN_REFUSED : DOMAIN_UNKNOWN;
}

static void
lock_names(void)
{
	LockDatabaseObject(extension_relation("domain"), 0, LOCK_NUMBER, ExclusiveLock);
}

static void
receive_name(TupleTableSlot *slot, void *argument)
{
	bool *lacks_names = argument;
	bool is_null;
	bool is_slug = DatumGetBool(slot_getattr(slot, 1, &is_null));
	char *name = TextDatumGetCString(slot_getattr(slot, 2, &is_null));
	NameKey key;
	LWLock *lock;

	make_key(&key, MyDatabaseId, is_slug ? NAME_SLUG : NAME_DOMAIN, name);
	pfree(name);
	if (shared_table_ensure(&names, &key, LW_EXCLUSIVE, &lock) == NULL)
		*lacks_names = true;
	else
		LWLockRelease(lock);
}

void
domain_load(void)
{
	bool lacks_names = false;
	bool is_loaded;

	(void) is_complete(MyDatabaseId, &is_loaded);
	if (is_loaded)
		return;
	lock_names();
	(void) is_complete(MyDatabaseId, &is_loaded);
	if (!is_loaded)
	{
		domain_forget(MyDatabaseId);
		if (mark_database(MyDatabaseId, false, false))
		{
			PushActiveSnapshot(GetLatestSnapshot());
			gate_stream(&domain_all_names, receive_name, &lacks_names, NULL, 0);
			PopActiveSnapshot();
			(void) mark_database(MyDatabaseId, true, lacks_names);
		}
	}
	UnlockDatabaseObject(extension_relation("domain"), 0, LOCK_NUMBER, ExclusiveLock);
}

/* From the tables, where shared memory does not know. */
static bool
is_allowed_by_tables(const char *text, size_t length)
{
	char name[HOSTNAME_LENGTH + 1];
	const char *slug;

	if (hostname_read(text, length, name) != NULL)
		return false;
	if (gate_run(&domain_is_verified, EXPECT_AT_MOST_ONE, gate_text(name))->count == 1)
		return true;
	slug = slug_of(name);
	return slug != NULL &&
		   gate_run(&domain_slug_is_active, EXPECT_AT_MOST_ONE, gate_text(slug))->count == 1;
}

/* domain_allowed(domain text) → boolean */
TENANCY_FUNCTION(domain_allowed)
{
	text *domain = PG_GETARG_TEXT_PP(0);
	const char *name = VARDATA_ANY(domain);
	size_t length = VARSIZE_ANY_EXHDR(domain);
	DomainAnswer answer = DOMAIN_UNKNOWN;

	extension_require();
	if (!RecoveryInProgress())
	{
		answer = domain_ask(MyDatabaseId, name, length);
		if (answer == DOMAIN_UNKNOWN && !IsInParallelMode())
		{
			domain_load();
			answer = domain_ask(MyDatabaseId, name, length);
		}
	}
	PG_RETURN_BOOL(answer == DOMAIN_UNKNOWN ? is_allowed_by_tables(name, length)
											: answer == DOMAIN_ALLOWED);
}

static Datum
value_of(Relation relation, HeapTuple tuple, const char *column)
{
	bool is_null;

	return heap_getattr(tuple, get_attnum(RelationGetRelid(relation), column),
						RelationGetDescr(relation), &is_null);
}

static void
note_row(Relation relation, HeapTuple tuple)
{
	bool is_domain = strcmp(RelationGetRelationName(relation), "domain") == 0;
	char *name = TextDatumGetCString(value_of(relation, tuple, is_domain ? "domain" : "slug"));

	if (is_domain)
		changed->domains = lappend(changed->domains, name);
	else
	{
		pg_uuid_t *tenant = palloc(sizeof(pg_uuid_t));

		*tenant = *DatumGetUUIDP(value_of(relation, tuple, "id"));
		changed->slugs = lappend(changed->slugs, name);
		changed->tenants = lappend(changed->tenants, tenant);
	}
}

/* tenancy.domain_changed(): the trigger of tenancy.domain and tenancy.tenant */
TENANCY_FUNCTION(domain_changed)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	MemoryContext previous;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		RelationGetNamespace(trigger->tg_relation) != extension_tables_schema())
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("domain_changed() is not called as the extension makes its triggers"));
	previous = MemoryContextSwitchTo(TopTransactionContext);
	if (changed == NULL)
		changed = palloc0(sizeof(ChangedNames));
	transaction_watch();
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		list_length(changed->slugs) + list_length(changed->domains) > MAX_CHANGED_NAMES)
		changed->is_all = true;
	else
	{
		note_row(trigger->tg_relation, trigger->tg_trigtuple);
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			note_row(trigger->tg_relation, trigger->tg_newtuple);
	}
	MemoryContextSwitchTo(previous);
	PG_RETURN_POINTER(NULL);
}

static NullableDatum
text_array(List *texts)
{
	const char **values = palloc(sizeof(char *) * (list_length(texts) + 1));
	int count = 0;
	ListCell *cell;

	foreach (cell, texts)
		values[count++] = lfirst(cell);
	return gate_text_array(values, count);
}

static NullableDatum
uuid_array(List *uuids)
{
	pg_uuid_t *values = palloc(sizeof(pg_uuid_t) * (list_length(uuids) + 1));
	int count = 0;
	ListCell *cell;

	foreach (cell, uuids)
		values[count++] = *(pg_uuid_t *) lfirst(cell);
	return gate_uuid_array(values, count);
}

/* What the names that were changed stand for, with the lock that orders commits. */
static void
read_changed(void)
{
	MemoryContext previous = MemoryContextSwitchTo(TopTransactionContext);
	GateRows *rows;

	lock_names();
	if (!changed->is_all)
	{
		rows = gate_run(&domain_changed_names, EXPECT_ANY, text_array(changed->slugs),
						text_array(changed->domains), uuid_array(changed->tenants));
		changed->keys = palloc(sizeof(NameKey) * (rows->count + 1));
		changed->are_allowed = palloc(sizeof(bool) * (rows->count + 1));
		for (int64 i = 0; i < rows->count; i++)
		{
			make_key(&changed->keys[i], MyDatabaseId,
					 row_bool(rows, i, 0) ? NAME_SLUG : NAME_DOMAIN, row_text(rows, i, 1));
			changed->are_allowed[i] = row_bool(rows, i, 2);
		}
		changed->count = rows->count;
	}
	MemoryContextSwitchTo(previous);
}

static void
write_changed(void)
{
	bool is_loaded;

	(void) is_complete(MyDatabaseId, &is_loaded);
	if (!is_loaded)
		return;
	for (int i = 0; i < changed->count; i++)
		set_name(&changed->keys[i], changed->are_allowed[i]);
	if (changed->is_all)
		domain_forget(MyDatabaseId);
}

void
domain_note_dropped(Oid extension)
{
	if (extension != get_extension_oid("pg_tenancy", true))
		return;
	is_dropped = true;
	transaction_watch();
}

void
domain_transaction_event(XactEvent event)
{
	if (changed == NULL && !is_dropped)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot prepare a transaction that has changed tenants or domains"));
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (changed != NULL && extension_is_ready())
				read_changed();
			break;
		case XACT_EVENT_COMMIT:
			if (is_dropped)
				domain_forget(MyDatabaseId);
			else if (changed != NULL)
				write_changed();
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			changed = NULL;
			is_dropped = false;
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

int64
domain_known_count(void)
{
	return shared_table_entry_count(&names);
}

int64
domain_refused_count(void)
{
	return shared_table_refused_count(&names);
}

void
domain_lookup_init(void)
{
	shared_table_register(&names);
}
