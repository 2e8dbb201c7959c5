/*
 * limit/rate_state.c
 *		The counts of rate limits beyond the memory of the server: saving those of long
 *		periods, reading them back after a restart, showing all.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "job/kind.h"
#include "limit/rate_entry.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#define SAVE_INTERVAL_MS 10000

/* Of each database: were saved counts read, and are there any that are not saved? */
typedef struct RateDatabase
{
	Oid database;
	pg_atomic_uint32 is_loaded;
	pg_atomic_uint64 changes;
	pg_atomic_uint64 saved_changes;
	pg_atomic_uint64 saved_at_ms;
} RateDatabase;

static int
database_capacity(void)
{
	return setting_max_databases;
}

static SharedTable databases = {
	.name = "pg_tenancy rate limit databases",
	.key_size = sizeof(Oid),
	.entry_size = sizeof(RateDatabase),
	.capacity = database_capacity,
};

GATE_LATEST(
	rate_limit_state_load,
	"SELECT s.subject, s.policy_id, s.tenant_id, s.algorithm, s.period_ms, s.first, s.second"
	"  FROM tenancy.rate_limit_state s JOIN tenancy.rate_limit r ON r.id = s.policy_id");
GATE_STATEMENT(
	rate_limit_state_save,
	"WITH saved AS ("
	" INSERT INTO tenancy.rate_limit_state AS s"
	"    (subject, policy_id, tenant_id, algorithm, period_ms, first, second, saved_at)"
	" SELECT u.subject, u.policy_id, u.tenant_id, u.algorithm, u.period_ms, u.first, u.second, $8"
	"   FROM unnest($1, $2, $3, $4, $5, $6, $7)"
	"     AS u(subject, policy_id, tenant_id, algorithm, period_ms, first, second)"
	"  ORDER BY u.subject"
	" ON CONFLICT (subject) DO UPDATE SET first = excluded.first, second = excluded.second,"
	"    saved_at = excluded.saved_at RETURNING s.subject)"
	" DELETE FROM tenancy.rate_limit_state d WHERE d.subject <> ALL ($1)",
	BYTEAARRAYOID, UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZOID);

static RateDatabase *
own_database(LWLock **lock)
{
	Oid database = MyDatabaseId;

	return shared_table_ensure(&databases, &database, LW_SHARED, lock);
}

/* The counts of long periods, as they were saved last. */
void
rate_state_load(void)
{
	static bool is_loaded = false; /* seen by this backend */
	LWLock *lock;
	RateDatabase *own;
	GateRows *rows;

	if (likely(is_loaded))
		return;
	own = own_database(&lock);
	if (own == NULL)
		return;
	is_loaded = pg_atomic_read_u32(&own->is_loaded) != 0;
	LWLockRelease(lock);
	if (is_loaded)
		return;
	rows = gate_run_array(&rate_limit_state_load, EXPECT_ANY, NULL, 0);
	for (int64 i = 0; i < rows->count; i++)
	{
		RateKey key = {.database = MyDatabaseId};
		RateEntry *entry;

		memcpy(key.subject, VARDATA_ANY(DatumGetByteaPP(row_datum(rows, i, 0))),
			   sizeof(key.subject));
		entry = shared_table_ensure(&rate_entries, &key, LW_EXCLUSIVE, &lock);
		if (entry == NULL)
			break;
		/* Two may load at once: what was counted meanwhile stays. */
		if (pg_atomic_read_u64(&entry->first) < (uint64) row_int64(rows, i, 5))
		{
			RateEntry new = {
				.policy = *row_uuid(rows, i, 1),
				.tenant = *row_uuid(rows, i, 2),
				.algorithm = row_int64(rows, i, 3),
				.period_ns = row_int64(rows, i, 4) * 1000000,
			};

			rate_entry_introduce(entry, &new);
			pg_atomic_write_u64(&entry->first, row_int64(rows, i, 5));
			entry->second = row_int64(rows, i, 6);
		}
		LWLockRelease(lock);
	}
	own = own_database(&lock);
	if (own != NULL)
	{
		pg_atomic_write_u32(&own->is_loaded, 1);
		LWLockRelease(lock);
	}
}

void
rate_state_note_change(void)
{
	LWLock *lock;
	RateDatabase *own = own_database(&lock);

	if (own == NULL)
		return;
	pg_atomic_fetch_add_u64(&own->changes, 1);
	LWLockRelease(lock);
}

typedef struct Saved
{
	int count;
	int capacity;
	RateEntry *entries;
} Saved;

static void
copy_long(void *pointer, void *argument)
{
	RateEntry *entry = pointer;
	Saved *saved = argument;

	if (entry->key.database != MyDatabaseId || entry->period_ns < RATE_LONG_PERIOD_NS ||
		saved->count == saved->capacity)
		return;
	saved->entries[saved->count++] = *entry;
}

static NullableDatum
int64_column(const Saved *saved, int64 (*get)(RateEntry *entry))
{
	int64 *values = palloc(sizeof(int64) * Max(saved->count, 1));

	for (int i = 0; i < saved->count; i++)
		values[i] = get(&saved->entries[i]);
	return gate_int64_array(values, saved->count);
}

static int64
get_algorithm(RateEntry *entry)
{
	return entry->algorithm;
}

static int64
get_period_ms(RateEntry *entry)
{
	return entry->period_ns / 1000000;
}

static int64
get_first(RateEntry *entry)
{
	return pg_atomic_read_u64(&entry->first);
}

static int64
get_second(RateEntry *entry)
{
	return entry->second;
}

static NullableDatum
uuid_column(const Saved *saved, bool is_policy)
{
	pg_uuid_t *values = palloc(sizeof(pg_uuid_t) * Max(saved->count, 1));

	for (int i = 0; i < saved->count; i++)
		values[i] = is_policy ? saved->entries[i].policy : saved->entries[i].tenant;
	return gate_uuid_array(values, saved->count);
}

static NullableDatum
subject_column(const Saved *saved)
{
	bytea **values = palloc(sizeof(bytea *) * Max(saved->count, 1));

	for (int i = 0; i < saved->count; i++)
	{
		values[i] = palloc(VARHDRSZ + 16);
		SET_VARSIZE(values[i], VARHDRSZ + 16);
		memcpy(VARDATA(values[i]), saved->entries[i].key.subject, 16);
	}
	return gate_bytea_array((const bytea *const *) values, saved->count);
}

static bool
is_unsaved(RateDatabase *entry)
{
	return pg_atomic_read_u64(&entry->changes) != pg_atomic_read_u64(&entry->saved_changes) &&
		   clock_unix_milliseconds(GetCurrentTimestamp()) -
				   (int64) pg_atomic_read_u64(&entry->saved_at_ms) >=
			   SAVE_INTERVAL_MS;
}

static bool
has_unsaved(Oid database)
{
	LWLock *lock;
	RateDatabase *entry = shared_table_find(&databases, &database, LW_SHARED, &lock);
	bool result;

	if (entry == NULL)
		return false;
	result = is_unsaved(entry);
	LWLockRelease(lock);
	return result;
}

typedef struct Visitor
{
	void (*visit)(Oid database, void *state);
	void *state;
} Visitor;

static void
visit_pending(void *pointer, void *argument)
{
	RateDatabase *entry = pointer;
	const Visitor *visitor = argument;

	if (is_unsaved(entry))
		visitor->visit(entry->database, visitor->state);
}

void
rate_state_for_each_pending(void (*visit)(Oid database, void *state), void *state)
{
	Visitor visitor = {visit, state};

	shared_table_scan(&databases, LW_SHARED, visit_pending, &visitor);
}

static char *
save(void)
{
	Saved saved = {.capacity = shared_table_entry_count(&rate_entries) + 64};
	LWLock *lock;
	RateDatabase *own = own_database(&lock);
	uint64 changes;

	if (own == NULL)
		return NULL;
	changes = pg_atomic_read_u64(&own->changes);
	LWLockRelease(lock);
	/* what was saved before a restart is not lost by saving before it was read */
	rate_state_load();
	saved.entries =
		MemoryContextAllocHuge(CurrentMemoryContext, mul_size(saved.capacity, sizeof(RateEntry)));
	shared_table_scan(&rate_entries, LW_SHARED, copy_long, &saved);
	gate_run(&rate_limit_state_save, EXPECT_ANY, subject_column(&saved), uuid_column(&saved, true),
			 uuid_column(&saved, false), int64_column(&saved, get_algorithm),
			 int64_column(&saved, get_period_ms), int64_column(&saved, get_first),
			 int64_column(&saved, get_second), gate_timestamptz(clock_now()));
	own = own_database(&lock);
	if (own != NULL)
	{
		pg_atomic_write_u64(&own->saved_changes, changes);
		pg_atomic_write_u64(&own->saved_at_ms, clock_unix_milliseconds(GetCurrentTimestamp()));
		LWLockRelease(lock);
	}
	return psprintf("{\"subjects\": %d}", saved.count);
}

static const JobKind save_job = {
	.name = "limits.save",
	.run = save,
	.every_seconds = 0, /* whenever there is something */
	.has_work = has_unsaved,
	.description = "saves the counts of rate limits whose period is an hour or longer",
};

typedef struct Stats
{
	ReturnSetInfo *result;
	const pg_uuid_t *tenant; /* NULL for all */
	Saved copies;
} Stats;

static void
copy_own(void *pointer, void *argument)
{
	RateEntry *entry = pointer;
	Stats *stats = argument;

	if (entry->key.database != MyDatabaseId || stats->copies.count == stats->copies.capacity ||
		(stats->tenant != NULL && !id_equal(stats->tenant, &entry->tenant)))
		return;
	stats->copies.entries[stats->copies.count++] = *entry;
}

/* tenancy.rate_limit_read() → TABLE(policy_id, tenant_id, allowed, limited) */
TENANCY_FUNCTION(rate_limit_read)
{
	Stats stats = {
		.result = (ReturnSetInfo *) fcinfo->resultinfo,
		.tenant = context_tenant(),
		.copies = {.capacity = shared_table_entry_count(&rate_entries) + 64},
	};

	InitMaterializedSRF(fcinfo, 0);
	stats.copies.entries = MemoryContextAllocHuge(
		CurrentMemoryContext, mul_size(stats.copies.capacity, sizeof(RateEntry)));
	shared_table_scan(&rate_entries, LW_SHARED, copy_own, &stats);
	for (int i = 0; i < stats.copies.count; i++)
	{
		RateEntry *entry = &stats.copies.entries[i];
		bool nulls[4] = {false};
		Datum values[4] = {
			UUIDPGetDatum(&entry->policy),
			UUIDPGetDatum(&entry->tenant),
			Int64GetDatum((int64) pg_atomic_read_u64(&entry->allowed)),
			Int64GetDatum((int64) pg_atomic_read_u64(&entry->limited)),
		};

		tuplestore_putvalues(stats.result->setResult, stats.result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

void
rate_state_init(void)
{
	shared_table_register(&databases);
	job_kind_register(&save_job);
}
