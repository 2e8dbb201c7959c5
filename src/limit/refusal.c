/*
 * limit/refusal.c
 *		What was refused last, and how often, per tenant and limit.
 *
 * One entry for each limit that has refused something since the server started: metrics and
 * policies are named by the operator, so that no tenant can fill the table with names.  Where it
 * is full, what comes on top is not noted, and counted by table.c.
 *
 * Lock rules.  An entry is changed under the exclusive lock of its partition, for a few stores.
 */
#include "postgres.h"

#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "limit/quota.h"
#include "limit/refusal.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

typedef struct RefusalKey
{
	Oid database;
	pg_uuid_t tenant;
	int32 kind;
	char name[NAMEDATALEN]; /* zero-padded */
} RefusalKey;

typedef struct Refusal
{
	RefusalKey key;
	int64 count;
	TimestampTz at;
	int64 used;
	int64 hard;
	int64 wanted;
} Refusal;

static const struct
{
	const char *kind; /* as limit_explain() names it */
	const char *what;
} words[] = {
	[REFUSED_QUOTA] = {"quota", "refused (53400)"},
	[REFUSED_RATE] = {"rate limit", "denied"},
	[REFUSED_CONNECTION] = {"connections", "refused (53300)"},
	[REFUSED_SUSPENDED] = {"suspended", "refused (55000)"},
	[CPU_WARNED] = {"cpu budget", "warned"},
	[CPU_DELAYED] = {"cpu budget", "delayed"},
	[CPU_REFUSED] = {"cpu budget", "refused (53400)"},
	[CPU_CANCELLED] = {"cpu budget", "cancelled (53400)"},
};

static int
entry_capacity(void)
{
	return setting_max_tenants * 4;
}

static SharedTable entries = {
	.name = "pg_tenancy refusals",
	.key_size = sizeof(RefusalKey),
	.entry_size = sizeof(Refusal),
	.capacity = entry_capacity,
};

void
refusal_note(const pg_uuid_t *tenant, RefusalKind kind, const char *name, int64 used, int64 hard,
			 int64 wanted)
{
	TimestampTz now = clock_wall();
	RefusalKey key;
	Refusal *entry;
	LWLock *lock;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.tenant = *tenant;
	key.kind = kind;
	strlcpy(key.name, name, sizeof(key.name));
	entry = shared_table_ensure(&entries, &key, LW_EXCLUSIVE, &lock);
	if (entry == NULL)
		return;
	entry->count++;
	entry->at = now;
	entry->used = used;
	entry->hard = hard;
	entry->wanted = wanted;
	LWLockRelease(lock);
}

typedef struct Copies
{
	const pg_uuid_t *tenant; /* NULL for all */
	int count;
	int capacity;
	Refusal *refusals;
} Copies;

static void
copy_own(void *pointer, void *argument)
{
	const Refusal *entry = pointer;
	Copies *copies = argument;

	if (entry->key.database == MyDatabaseId &&
		(copies->tenant == NULL || id_equal(&entry->key.tenant, copies->tenant)) &&
		copies->count < copies->capacity)
		copies->refusals[copies->count++] = *entry;
}

/*
 * tenancy.refusal_read(tenant uuid)
 *     → TABLE(kind, name, what, refusals, refused_at, used, hard, wanted)
 */
TENANCY_FUNCTION(refusal_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Copies copies = {
		.tenant = required_uuid(fcinfo, 0, "tenant"),
		.capacity = shared_table_entry_count(&entries) + 64,
	};

	tenant_require_visible(copies.tenant);
	InitMaterializedSRF(fcinfo, 0);
	copies.refusals = palloc_array(Refusal, copies.capacity);
	shared_table_scan(&entries, LW_SHARED, copy_own, &copies);
	for (int i = 0; i < copies.count; i++)
	{
		const Refusal *refusal = &copies.refusals[i];
		bool nulls[8] = {false};
		Datum values[8] = {
			CStringGetTextDatum(words[refusal->key.kind].kind),
			CStringGetTextDatum(refusal->key.name),
			CStringGetTextDatum(words[refusal->key.kind].what),
			Int64GetDatum(refusal->count),
			TimestampTzGetDatum(refusal->at),
			quota_to_numeric(refusal->used),
			quota_to_numeric(refusal->hard),
			quota_to_numeric(refusal->wanted),
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* tenancy.refusal_count_read() → TABLE(tenant_id uuid, kind, what text, refusals bigint) */
TENANCY_FUNCTION(refusal_count_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Copies copies = {.capacity = shared_table_entry_count(&entries) + 64};

	context_require_none("reading what all tenants were refused");
	InitMaterializedSRF(fcinfo, 0);
	copies.refusals = palloc_array(Refusal, copies.capacity);
	shared_table_scan(&entries, LW_SHARED, copy_own, &copies);
	for (int i = 0; i < copies.count; i++)
	{
		const Refusal *refusal = &copies.refusals[i];
		bool nulls[4] = {false};
		Datum values[4] = {
			UUIDPGetDatum(&refusal->key.tenant),
			CStringGetTextDatum(words[refusal->key.kind].kind),
			CStringGetTextDatum(words[refusal->key.kind].what),
			Int64GetDatum(refusal->count),
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static void
forget(void *pointer, void *argument)
{
	Refusal *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		shared_table_remove(&entries, &entry->key);
}

void
refusal_forget(Oid database)
{
	shared_table_scan(&entries, LW_EXCLUSIVE, forget, &database);
}

void
refusal_init(void)
{
	shared_table_register(&entries);
}
