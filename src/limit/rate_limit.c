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
#include "core/id.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "limit/policy.h"
#include "limit/rate_entry.h"
#include "limit/rate_limit.h"
#include "limit/rate_request.h"
#include "shmem/shmem.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include <sodium.h>

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

/* How many entries tenants have, by a hash of the tenant; and when room may be made again. */
#define SHARES 4096

typedef struct Room
{
	pg_atomic_uint64 next_sweep_us;
	pg_atomic_uint32 shares[SHARES];
} Room;

static Room *room;

static Size
room_size(void)
{
	return sizeof(Room);
}

static void
room_init(void *memory)
{
	Room *new = memory;

	pg_atomic_init_u64(&new->next_sweep_us, 0);
	for (int i = 0; i < SHARES; i++)
		pg_atomic_init_u32(&new->shares[i], 0);
}

static SharedPart room_part = {
	.name = "pg_tenancy rate limit room",
	.size = room_size,
	.init = room_init,
	.memory = (void **) &room,
};

/* The end of a tenant's id is random. */
static pg_atomic_uint32 *
share_of(const pg_uuid_t *tenant)
{
	uint16 end;

	memcpy(&end, tenant->data + UUID_LEN - sizeof(end), sizeof(end));
	return &room->shares[end % SHARES];
}

void
rate_entry_introduce(RateEntry *entry, const RateEntry *new)
{
	if (id_is_nil(&entry->policy))
		pg_atomic_fetch_add_u32(share_of(&new->tenant), 1);
	entry->algorithm = new->algorithm;
	entry->period_ns = new->period_ns;
	entry->policy = new->policy;
	entry->tenant = new->tenant;
}

static void
remove_entry(RateEntry *entry)
{
	pg_atomic_fetch_sub_u32(share_of(&entry->tenant), 1);
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

/*
 * Looking through all entries stops everybody, so no more than a part of the time is spent on it:
 * who comes between finds no room.
 */
#define SWEEP_PAUSE 20 /* times as long as the last sweep took */

static void
make_room(int64 now)
{
	uint64 next = pg_atomic_read_u64(&room->next_sweep_us);
	TimestampTz start = GetCurrentTimestamp();

	/* Nobody sweeps beside another; a clock that was set back must not stop it for long. */
	if ((start < (int64) next && (int64) next - start < USECS_PER_MINUTE) ||
		!pg_atomic_compare_exchange_u64(&room->next_sweep_us, &next, start + USECS_PER_SEC))
		return;
	shared_table_scan(&rate_entries, LW_EXCLUSIVE, remove_expired, &now);
	pg_atomic_write_u64(&room->next_sweep_us,
						start + (GetCurrentTimestamp() - start) * (SWEEP_PAUSE + 1));
}

/*
 * May the tenant have one more?  Who names users without end takes a quarter of the room, once
 * half of it is taken, and leaves the rest to others.
 */
static bool
has_share(const pg_uuid_t *tenant)
{
	int64 capacity = setting_max_rate_subjects;

	return shared_table_entry_count(&rate_entries) < capacity / 2 ||
		   pg_atomic_read_u32(share_of(tenant)) < capacity / 4;
}

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
	RateEntry new = {
		.algorithm = question->policy->rule.algorithm,
		.period_ns = question->policy->rule.period_ns,
		.policy = question->policy->id,
	};

	/* What the service bears is nobody's. */
	if (question->policy->subject != SUBJECT_SERVICE)
		new.tenant = *request->tenant;
	rate_entry_introduce(entry, &new);
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
		if (has_share(request->tenant))
			entry = shared_table_ensure(&rate_entries, &question->key, LW_EXCLUSIVE, &lock);
		if (entry == NULL)
		{
			make_room(request->now);
			if (has_share(request->tenant))
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

		question->entry = shared_table_find_locked(&rate_entries, &question->key);
		if (question->entry != NULL)
			continue;
		if (has_share(request->tenant))
			question->entry = shared_table_ensure_locked(&rate_entries, &question->key);
		if (question->entry == NULL)
			has_all = false;
		else
			introduce(question->entry, question, request);
	}
	return has_all;
}

static void
charge_all(const Request *request)
{
	bool is_limited = false;

	for (int i = 0; i < request->count; i++)
		is_limited |= rate_is_denied(&request->questions[i]);
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
		transaction_watch();
	}
	MemoryContextSwitchTo(old);
}

/* Policies that are gone when this transaction commits; in TopTransactionContext. */
typedef struct Gone
{
	pg_uuid_t policy;
	SubTransactionId subtransaction;
} Gone;

static List *gone = NIL;

void
rate_limit_forget_policy(const pg_uuid_t *policy)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Gone *one = palloc(sizeof(Gone));

	*one = (Gone){*policy, GetCurrentSubTransactionId()};
	gone = lappend(gone, one);
	transaction_watch();
	MemoryContextSwitchTo(old);
}

static void
remove_gone(void *pointer, void *argument)
{
	RateEntry *entry = pointer;
	ListCell *cell;

	foreach (cell, gone)
	{
		if (id_equal(&entry->policy, &((const Gone *) lfirst(cell))->policy))
		{
			remove_entry(entry);
			return;
		}
	}
}

void
rate_limit_subtransaction_event(SubXactEvent event, SubTransactionId self, SubTransactionId parent)
{
	ListCell *cell;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach (cell, gone)
	{
		Gone *one = lfirst(cell);

		if (one->subtransaction != self)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			one->subtransaction = parent;
		else
			gone = foreach_delete_current(gone, cell);
	}
}

void
rate_limit_transaction_event(XactEvent event)
{
	ListCell *cell;

	if (event == XACT_EVENT_COMMIT && gone != NIL)
		shared_table_scan(&rate_entries, LW_EXCLUSIVE, remove_gone, NULL);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		gone = NIL;
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
	PG_RETURN_DATUM(rate_make_result(fcinfo, &request));
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
	shmem_register(&room_part);
	rate_state_init();
}
