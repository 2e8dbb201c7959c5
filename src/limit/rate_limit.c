/*
 * limit/rate_limit.c
 *		Rate limits in shared memory: asking, counting, and surviving a restart.
 *
 * Nothing is written to tables by a request, so that it is counted in a READ ONLY transaction
 * and when its transaction fails.  A request that one policy alone concerns, by GCRA, takes the
 * shared lock of a partition and a compare-and-swap; what several policies decide is decided
 * under the exclusive locks of their partitions, taken in ascending order, so that it is
 * counted by all or by none.
 *
 * A subject is known by a keyed hash (SipHash, 128 bits) of policy, tenant and user: who
 * chooses his own name cannot choose whom he shares a bucket with.
 *
 * An entry that has run empty is as good as none and makes room for others.  Counts of long
 * periods are saved by a job, and read back by the first request after a restart.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "job/kind.h"
#include "limit/policy.h"
#include "limit/rate_limit.h"
#include "shmem/shmem.h"
#include "shmem/table.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include <sodium.h>

#define MATCHING_POLICIES 64
#define LONGEST_ENDPOINT 2048
#define LONGEST_USER 1024
#define LONG_PERIOD_NS (INT64CONST(3600) * 1000000000)
#define SAVE_INTERVAL_MS 10000

typedef struct RateKey
{
	Oid database;
	unsigned char subject[16];
} RateKey;

typedef struct RateEntry
{
	RateKey key;
	RateAlgorithm algorithm;
	int64 period_ns;
	pg_uuid_t policy;
	pg_uuid_t tenant;
	pg_atomic_uint64 first; /* of the RateState; changed by CAS under the shared lock, for GCRA */
	uint64 second;
	pg_atomic_uint64 allowed;
	pg_atomic_uint64 limited;
} RateEntry;

static int
entry_capacity(void)
{
	return setting_max_rate_subjects;
}

static SharedTable entries = {
	.name = "pg_tenancy rate limits",
	.key_size = sizeof(RateKey),
	.entry_size = sizeof(RateEntry),
	.capacity = entry_capacity,
};

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

/* What this transaction holds at once. */
typedef struct Held
{
	RateKey key;
	int64 count;
} Held;

static List *held = NIL; /* in TopTransactionContext */

GATE_LATEST(
	rate_limit_state_load,
	"SELECT s.subject, s.policy_id, s.tenant_id, s.algorithm, s.period_ms, s.first, s.second"
	"  FROM tenancy.rate_limit_state s");
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

static inline int64
now_ns(void)
{
	return clock_unix_milliseconds(0) * 1000000 + clock_wall() * 1000;
}

static RateDatabase *
own_database(LWLock **lock)
{
	Oid database = MyDatabaseId;

	return shared_table_ensure(&databases, &database, LW_SHARED, lock);
}

static RateState
state_of(RateEntry *entry)
{
	return (RateState){.first = pg_atomic_read_u64(&entry->first), .second = entry->second};
}

static RateRule
rule_of(const RateEntry *entry)
{
	return (RateRule){.algorithm = entry->algorithm, .quota = 1, .period_ns = entry->period_ns};
}

static void
remove_expired(void *pointer, void *argument)
{
	RateEntry *entry = pointer;
	RateRule rule = rule_of(entry);

	if (rate_is_expired(&rule, state_of(entry), *(int64 *) argument))
		shared_table_remove(&entries, &entry->key);
}

static void
make_room(int64 now)
{
	shared_table_scan(&entries, LW_EXCLUSIVE, remove_expired, &now);
}

/* The counts of long periods, as they were saved last. */
static void
load(void)
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
		entry = shared_table_ensure(&entries, &key, LW_EXCLUSIVE, &lock);
		if (entry == NULL)
			break;
		/* Two may load at once: what was counted meanwhile stays. */
		if (pg_atomic_read_u64(&entry->first) < (uint64) row_int64(rows, i, 5))
		{
			entry->policy = *row_uuid(rows, i, 1);
			entry->tenant = *row_uuid(rows, i, 2);
			entry->algorithm = row_int64(rows, i, 3);
			entry->period_ns = row_int64(rows, i, 4) * 1000000;
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

/* One policy and what it says of this request. */
typedef struct Question
{
	const RatePolicy *policy;
	RateKey key;
	int partition;
	RateEntry *entry; /* NULL: no room */
	RateVerdict verdict;
} Question;

typedef struct Request
{
	const pg_uuid_t *tenant;
	const char *user;
	int64 cost;
	int64 now;
	int count;
	Question questions[MATCHING_POLICIES];
} Request;

static void
make_key(RateKey *key, const RatePolicy *policy, const Request *request, const unsigned char *salt)
{
	unsigned char subject[2 * UUID_LEN + LONGEST_USER];
	size_t length = 0;

	memcpy(subject, policy->id.data, UUID_LEN);
	length += UUID_LEN;
	if (policy->subject != SUBJECT_SERVICE)
	{
		memcpy(subject + length, request->tenant->data, UUID_LEN);
		length += UUID_LEN;
	}
	if (policy->subject == SUBJECT_USER)
	{
		memcpy(subject + length, request->user, strlen(request->user));
		length += strlen(request->user);
	}
	key->database = MyDatabaseId;
	crypto_shorthash_siphashx24(key->subject, subject, length, salt);
}

static void
introduce(RateEntry *entry, const Question *question, const Request *request)
{
	static const pg_uuid_t everybody = {{0}};

	entry->algorithm = question->policy->rule.algorithm;
	entry->period_ns = question->policy->rule.period_ns;
	entry->policy = question->policy->id;
	entry->tenant = question->policy->subject == SUBJECT_SERVICE ? everybody : *request->tenant;
}

static void
count_outcome(RateEntry *entry, bool is_limited)
{
	pg_atomic_fetch_add_u64(is_limited ? &entry->limited : &entry->allowed, 1);
}

/* A bucket that leaks, alone: no other backend waits. */
static void
decide_alone(Request *request)
{
	Question *question = &request->questions[0];
	LWLock *lock;
	RateEntry *entry = shared_table_find(&entries, &question->key, LW_SHARED, &lock);
	uint64 seen;

	if (entry == NULL)
	{
		entry = shared_table_ensure(&entries, &question->key, LW_EXCLUSIVE, &lock);
		if (entry == NULL)
		{
			make_room(request->now);
			entry = shared_table_ensure(&entries, &question->key, LW_EXCLUSIVE, &lock);
		}
		if (entry != NULL)
			introduce(entry, question, request);
	}
	question->entry = entry;
	if (entry == NULL)
		return;
	seen = pg_atomic_read_u64(&entry->first);
	do
	{
		question->verdict = rate_decide(&question->policy->rule, (RateState){.first = seen},
										request->now, request->cost);
	} while (question->verdict.is_allowed && request->cost > 0 &&
			 !pg_atomic_compare_exchange_u64(&entry->first, &seen, question->verdict.next.first));
	if (request->cost > 0)
		count_outcome(entry, !question->verdict.is_allowed);
	LWLockRelease(lock);
}

static int
compare_partitions(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

static int
lock_partitions(const Request *request, int *partitions)
{
	int count = 0;

	for (int i = 0; i < request->count; i++)
		partitions[i] = request->questions[i].partition;
	qsort(partitions, request->count, sizeof(int), compare_partitions);
	for (int i = 0; i < request->count; i++)
	{
		if (i > 0 && partitions[i] == partitions[i - 1])
			continue;
		LWLockAcquire(shared_table_partition_lock(&entries, partitions[i]), LW_EXCLUSIVE);
		partitions[count++] = partitions[i];
	}
	return count;
}

static bool
find_entries(Request *request)
{
	bool has_all = true;

	for (int i = 0; i < request->count; i++)
	{
		Question *question = &request->questions[i];

		question->entry = shared_table_ensure_locked(&entries, &question->key);
		if (question->entry == NULL)
			has_all = false;
		else
			introduce(question->entry, question, request);
	}
	return has_all;
}

static bool
is_denied(const Question *question)
{
	if (question->policy->is_shadow)
		return false;
	return question->entry == NULL ? question->policy->is_closed_full
								   : !question->verdict.is_allowed;
}

static void
charge_all(const Request *request)
{
	bool is_limited = false;

	for (int i = 0; i < request->count; i++)
		is_limited |= is_denied(&request->questions[i]);
	for (int i = 0; i < request->count; i++)
	{
		const Question *question = &request->questions[i];
		const RateVerdict *verdict = &question->verdict;

		if (question->entry == NULL || request->cost == 0)
			continue;
		count_outcome(question->entry, !verdict->is_allowed);
		if (is_limited || !verdict->is_allowed)
			continue;
		pg_atomic_write_u64(&question->entry->first, verdict->next.first);
		question->entry->second = verdict->next.second;
	}
}

static void
decide_together(Request *request)
{
	int partitions[MATCHING_POLICIES];
	int count = lock_partitions(request, partitions);

	if (!find_entries(request))
	{
		for (int i = count - 1; i >= 0; i--)
			LWLockRelease(shared_table_partition_lock(&entries, partitions[i]));
		make_room(request->now);
		count = lock_partitions(request, partitions);
		(void) find_entries(request);
	}
	for (int i = 0; i < request->count; i++)
	{
		Question *question = &request->questions[i];

		if (question->entry != NULL)
			question->verdict = rate_decide(&question->policy->rule, state_of(question->entry),
											request->now, request->cost);
	}
	charge_all(request);
	for (int i = count - 1; i >= 0; i--)
		LWLockRelease(shared_table_partition_lock(&entries, partitions[i]));
}

static void
hold(const Request *request)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	for (int i = 0; i < request->count; i++)
	{
		const Question *question = &request->questions[i];
		Held *one;

		if (question->entry == NULL || question->policy->rule.algorithm != RATE_CONCURRENCY ||
			!question->verdict.is_allowed)
			continue;
		one = palloc(sizeof(Held));
		one->key = question->key;
		one->count = request->cost;
		held = lappend(held, one);
	}
	MemoryContextSwitchTo(old);
}

void
rate_limit_transaction_event(XactEvent event)
{
	ListCell *cell;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	foreach (cell, held)
	{
		const Held *one = lfirst(cell);
		LWLock *lock;
		RateEntry *entry = shared_table_find(&entries, &one->key, LW_EXCLUSIVE, &lock);

		if (entry == NULL)
			continue;
		pg_atomic_write_u64(&entry->first, pg_atomic_read_u64(&entry->first) - one->count);
		LWLockRelease(lock);
	}
	held = NIL;
}

static void
note_change(const Request *request)
{
	for (int i = 0; i < request->count; i++)
	{
		LWLock *lock;
		RateDatabase *own;

		if (request->questions[i].policy->rule.period_ns < LONG_PERIOD_NS)
			continue;
		own = own_database(&lock);
		if (own != NULL)
		{
			pg_atomic_fetch_add_u64(&own->changes, 1);
			LWLockRelease(lock);
		}
		return;
	}
}

/* The one to tell the client of: the longest wait where it is denied, else the least remaining. */
static const Question *
most_restrictive(const Request *request, bool is_limited)
{
	const Question *found = NULL;

	for (int i = 0; i < request->count; i++)
	{
		const Question *question = &request->questions[i];
		const RateVerdict *verdict = &question->verdict;

		if (question->policy->is_shadow || is_denied(question) != is_limited ||
			(question->entry == NULL && !is_limited))
			continue;
		if (found == NULL ||
			(is_limited ? verdict->retry_after_ns > found->verdict.retry_after_ns ||
							  (verdict->retry_after_ns < 0 && found->verdict.retry_after_ns >= 0)
						: verdict->remaining < found->verdict.remaining))
			found = question;
	}
	return found;
}

static const Question *
denying_shadow(const Request *request)
{
	for (int i = 0; i < request->count; i++)
	{
		const Question *question = &request->questions[i];

		if (question->policy->is_shadow && question->entry != NULL && !question->verdict.is_allowed)
			return question;
	}
	return NULL;
}

static int64
milliseconds(int64 ns)
{
	return ns < 0 ? -1 : ns / 1000000;
}

static int64
seconds(int64 ns)
{
	return (ns + 999999999) / 1000000000;
}

/* Columns of tenancy.rate_limit_result. */
enum
{
	RESULT_LIMITED,
	RESULT_POLICY,
	RESULT_LIMIT,
	RESULT_REMAINING,
	RESULT_RETRY_AFTER_MS,
	RESULT_RESET_AFTER_MS,
	RESULT_SHADOW_POLICY,
	RESULT_RATELIMIT_POLICY,
	RESULT_RATELIMIT,
	RESULT_RETRY_AFTER,
	RESULT_COLUMNS
};

/* The field values of draft-ietf-httpapi-ratelimit-headers, and Retry-After of RFC 9110. */
static void
put_headers(const Question *question, bool is_limited, Datum *values, bool *nulls)
{
	const RatePolicy *policy = question->policy;
	const RateVerdict *verdict = &question->verdict;
	char text[256];

	if (policy->rule.algorithm == RATE_CONCURRENCY)
		snprintf(text, sizeof(text), "\"%s\";q=" INT64_FORMAT ";qu=\"concurrent-requests\"",
				 policy->name, policy->rule.quota);
	else
		snprintf(text, sizeof(text), "\"%s\";q=" INT64_FORMAT ";w=" INT64_FORMAT, policy->name,
				 policy->rule.quota, seconds(policy->rule.period_ns));
	values[RESULT_RATELIMIT_POLICY] = CStringGetTextDatum(text);
	nulls[RESULT_RATELIMIT_POLICY] = false;
	snprintf(text, sizeof(text), "\"%s\";r=" INT64_FORMAT ";t=" INT64_FORMAT, policy->name,
			 verdict->remaining,
			 seconds(is_limited ? Max(verdict->retry_after_ns, 0) : verdict->reset_after_ns));
	values[RESULT_RATELIMIT] = CStringGetTextDatum(text);
	nulls[RESULT_RATELIMIT] = false;
	if (is_limited && verdict->retry_after_ns >= 0)
	{
		values[RESULT_RETRY_AFTER] = Int64GetDatum(seconds(verdict->retry_after_ns));
		nulls[RESULT_RETRY_AFTER] = false;
	}
}

static TupleDesc
result_desc(FunctionCallInfo fcinfo)
{
	TupleDesc desc = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (likely(desc != NULL))
		return desc;
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = desc;
	return desc;
}

static Datum
make_result(FunctionCallInfo fcinfo, const Request *request)
{
	Datum values[RESULT_COLUMNS] = {0};
	bool nulls[RESULT_COLUMNS];
	const Question *shadow = denying_shadow(request);
	const Question *told;
	bool is_limited = false;

	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < request->count; i++)
		is_limited |= is_denied(&request->questions[i]);
	values[RESULT_LIMITED] = BoolGetDatum(is_limited);
	nulls[RESULT_LIMITED] = false;
	told = most_restrictive(request, is_limited);
	if (told != NULL)
	{
		const RateVerdict *verdict = &told->verdict;

		values[RESULT_POLICY] = CStringGetTextDatum(told->policy->name);
		nulls[RESULT_POLICY] = false;
		if (told->entry != NULL)
		{
			values[RESULT_LIMIT] = Int64GetDatum(verdict->limit);
			values[RESULT_REMAINING] = Int64GetDatum(verdict->remaining);
			values[RESULT_RETRY_AFTER_MS] = Int64GetDatum(milliseconds(verdict->retry_after_ns));
			values[RESULT_RESET_AFTER_MS] = Int64GetDatum(milliseconds(verdict->reset_after_ns));
			for (int i = RESULT_LIMIT; i <= RESULT_RESET_AFTER_MS; i++)
				nulls[i] = false;
			put_headers(told, is_limited, values, nulls);
		}
	}
	if (shadow != NULL)
	{
		values[RESULT_SHADOW_POLICY] = CStringGetTextDatum(shadow->policy->name);
		nulls[RESULT_SHADOW_POLICY] = false;
	}
	return HeapTupleGetDatum(heap_form_tuple(result_desc(fcinfo), values, nulls));
}

static void
ask(Request *request, const char *endpoint)
{
	const RatePolicies *policies = policy_list(request->tenant);
	bool has_concurrency = false;

	for (int i = 0; i < policies->count; i++)
	{
		const RatePolicy *policy = &policies->policies[i];
		Question *question;

		if (!policy_matches(policy, endpoint, request->user != NULL))
			continue;
		if (request->count == MATCHING_POLICIES)
			ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("more than %d rate limits match", MATCHING_POLICIES));
		question = &request->questions[request->count++];
		question->policy = policy;
		make_key(&question->key, policy, request, policies->salt);
		question->partition = shared_table_partition(&entries, &question->key);
		has_concurrency |= policy->rule.algorithm == RATE_CONCURRENCY;
	}
	if (request->count == 1 && request->questions[0].policy->rule.algorithm == RATE_GCRA)
		decide_alone(request);
	else if (request->count > 0)
		decide_together(request);
	if (has_concurrency && request->cost > 0)
		hold(request);
}

/*
 * rate_limit_enforce(tenant regtenant, endpoint text, user_id text, cost integer)
 *     → tenancy.rate_limit_result
 */
TENANCY_FUNCTION(rate_limit_enforce)
{
	Request request;
	char *endpoint = required_text(fcinfo, 1, "endpoint");

	request.tenant = required_uuid(fcinfo, 0, "tenant");
	request.user = optional_text(fcinfo, 2);
	request.count = 0;
	require_argument(fcinfo, 3, "cost");
	request.cost = PG_GETARG_INT32(3);
	if (request.cost < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"cost\" must not be negative"),
				errhint("0 asks without counting."));
	if (strlen(endpoint) > LONGEST_ENDPOINT)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"endpoint\" is longer than %d bytes", LONGEST_ENDPOINT));
	if (request.user != NULL && strlen(request.user) > LONGEST_USER)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"user_id\" is longer than %d bytes", LONGEST_USER));
	tenant_require_visible(request.tenant);
	load();
	request.now = now_ns();
	ask(&request, endpoint);
	if (request.cost > 0)
		note_change(&request);
	PG_RETURN_DATUM(make_result(fcinfo, &request));
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

	if (entry->key.database != MyDatabaseId || entry->period_ns < LONG_PERIOD_NS ||
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
has_unsaved(Oid database)
{
	LWLock *lock;
	RateDatabase *entry = shared_table_find(&databases, &database, LW_SHARED, &lock);
	bool result;

	if (entry == NULL)
		return false;
	result = pg_atomic_read_u64(&entry->changes) != pg_atomic_read_u64(&entry->saved_changes) &&
			 clock_unix_milliseconds(GetCurrentTimestamp()) -
					 (int64) pg_atomic_read_u64(&entry->saved_at_ms) >=
				 SAVE_INTERVAL_MS;
	LWLockRelease(lock);
	return result;
}

static char *
save(void)
{
	Saved saved = {.capacity = shared_table_entry_count(&entries) + 64};
	LWLock *lock;
	RateDatabase *own = own_database(&lock);
	uint64 changes;

	if (own == NULL)
		return NULL;
	changes = pg_atomic_read_u64(&own->changes);
	LWLockRelease(lock);
	/* what was saved before a restart is not lost by saving before it was read */
	load();
	saved.entries =
		MemoryContextAllocHuge(CurrentMemoryContext, mul_size(saved.capacity, sizeof(RateEntry)));
	shared_table_scan(&entries, LW_SHARED, copy_long, &saved);
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
		.copies = {.capacity = shared_table_entry_count(&entries) + 64},
	};

	InitMaterializedSRF(fcinfo, 0);
	stats.copies.entries = MemoryContextAllocHuge(
		CurrentMemoryContext, mul_size(stats.copies.capacity, sizeof(RateEntry)));
	shared_table_scan(&entries, LW_SHARED, copy_own, &stats);
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
rate_limit_init(void)
{
	shared_table_register(&entries);
	shared_table_register(&databases);
	job_kind_register(&save_job);
}
