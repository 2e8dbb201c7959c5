/*
 * limit/rate_limit.c
 *		Rate limits in shared memory: asking and counting.
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
 * periods survive a restart: rate_state.c.
 */
#include "postgres.h"

#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/settings.h"
#include "limit/policy.h"
#include "limit/rate_entry.h"
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

static int
entry_capacity(void)
{
	return setting_max_rate_subjects;
}

SharedTable rate_entries = {
	.name = "pg_tenancy rate limits",
	.key_size = sizeof(RateKey),
	.entry_size = sizeof(RateEntry),
	.capacity = entry_capacity,
};

/* What this transaction holds at once. */
typedef struct Held
{
	RateKey key;
	int64 count;
} Held;

static List *held = NIL; /* in TopTransactionContext */

static inline int64
now_ns(void)
{
	return clock_unix_milliseconds(0) * 1000000 + clock_wall() * 1000;
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
remove_entry(RateEntry *entry)
{
	shared_table_remove(&rate_entries, &entry->key);
}

static void
remove_expired(void *pointer, void *argument)
{
	RateEntry *entry = pointer;
	RateRule rule = rule_of(entry);

	if (rate_is_expired(&rule, state_of(entry), *(int64 *) argument))
		remove_entry(entry);
}

static void
make_room(int64 now)
{
	shared_table_scan(&rate_entries, LW_EXCLUSIVE, remove_expired, &now);
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
	RateEntry *entry = shared_table_find(&rate_entries, &question->key, LW_SHARED, &lock);
	uint64 seen;

	if (entry == NULL)
	{
		entry = shared_table_ensure(&rate_entries, &question->key, LW_EXCLUSIVE, &lock);
		if (entry == NULL)
		{
			make_room(request->now);
			entry = shared_table_ensure(&rate_entries, &question->key, LW_EXCLUSIVE, &lock);
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
		LWLockAcquire(shared_table_partition_lock(&rate_entries, partitions[i]), LW_EXCLUSIVE);
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

		question->entry = shared_table_ensure_locked(&rate_entries, &question->key);
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
			LWLockRelease(shared_table_partition_lock(&rate_entries, partitions[i]));
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
		LWLockRelease(shared_table_partition_lock(&rate_entries, partitions[i]));
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
		RateEntry *entry = shared_table_find(&rate_entries, &one->key, LW_EXCLUSIVE, &lock);

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
		if (request->questions[i].policy->rule.period_ns >= RATE_LONG_PERIOD_NS)
		{
			rate_state_note_change();
			return;
		}
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
		question->partition = shared_table_partition(&rate_entries, &question->key);
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
	rate_state_load();
	request.now = now_ns();
	ask(&request, endpoint);
	if (request.cost > 0)
		note_change(&request);
	PG_RETURN_DATUM(make_result(fcinfo, &request));
}

static void
forget(void *pointer, void *argument)
{
	RateEntry *entry = pointer;

	if (entry->key.database == *(Oid *) argument)
		remove_entry(entry);
}

void
rate_limit_forget(Oid database)
{
	shared_table_scan(&rate_entries, LW_EXCLUSIVE, forget, &database);
}

void
rate_limit_init(void)
{
	shared_table_register(&rate_entries);
	rate_state_init();
}
