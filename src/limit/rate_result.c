/*
 * limit/rate_result.c
 *		What a client is told of a request that rate limits were asked about.
 */
#include "postgres.h"

#include "limit/quota.h"
#include "limit/rate_request.h"
#include "limit/refusal.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define LONGEST_NUMBER 21 /* of 64 bits, with its sign */

bool
rate_is_denied(const Question *question)
{
	if (question->policy->is_shadow)
		return false;
	return question->entry == NULL ? question->policy->is_closed_full
								   : !question->verdict.is_allowed;
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

		if (question->policy->is_shadow || rate_is_denied(question) != is_limited ||
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

/* An item of a header field, after the others. */
static char *
put_item(char *out, const char *start, const char *item, int length)
{
	if (out != start)
		*out++ = ',';
	memcpy(out, item, length);
	return out + length;
}

static char *
put_state(char *out, const char *start, const Question *question)
{
	const RatePolicy *policy = question->policy;
	const RateVerdict *verdict = &question->verdict;

	out = put_item(out, start, policy->state_item, policy->state_item_length);
	out += pg_lltoa(verdict->remaining, out);
	/* What is given back at once when somebody is done has no time. */
	if (policy->rule.algorithm == RATE_CONCURRENCY)
		return out;
	*out++ = ';';
	*out++ = 't';
	*out++ = '=';
	return out + pg_lltoa(seconds(verdict->is_allowed || verdict->retry_after_ns < 0
									  ? verdict->reset_after_ns
									  : verdict->retry_after_ns),
						  out);
}

/*
 * The fields RateLimit-Policy and RateLimit, one item for each policy that was asked and can
 * deny, and Retry-After (RFC 9110): whole seconds, and not before the t of what denied.
 */
static void
put_headers(const Request *request, const Question *told, bool is_limited, Datum *values,
			bool *nulls)
{
	int size = 0;
	text *policies;
	text *states;
	char *policy_end;
	char *state_end;

	for (int i = 0; i < request->count; i++)
		size += request->questions[i].policy->policy_item_length + 2 * LONGEST_NUMBER;
	policies = palloc(VARHDRSZ + size);
	states = palloc(VARHDRSZ + size);
	policy_end = VARDATA(policies);
	state_end = VARDATA(states);
	for (int i = 0; i < request->count; i++)
	{
		const Question *question = &request->questions[i];
		const RatePolicy *policy = question->policy;

		if (policy->is_shadow || question->entry == NULL)
			continue;
		policy_end = put_item(policy_end, VARDATA(policies), policy->policy_item,
							  policy->policy_item_length);
		state_end = put_state(state_end, VARDATA(states), question);
	}
	SET_VARSIZE(policies, policy_end - (char *) policies);
	SET_VARSIZE(states, state_end - (char *) states);
	values[RESULT_RATELIMIT_POLICY] = PointerGetDatum(policies);
	values[RESULT_RATELIMIT] = PointerGetDatum(states);
	nulls[RESULT_RATELIMIT_POLICY] = nulls[RESULT_RATELIMIT] = false;
	if (is_limited && told->verdict.retry_after_ns >= 0)
	{
		values[RESULT_RETRY_AFTER] = Int64GetDatum(seconds(told->verdict.retry_after_ns));
		nulls[RESULT_RETRY_AFTER] = false;
	}
}

/* The row type of the function's result, which is found once; released by the caller. */
static TupleDesc
result_desc(FunctionCallInfo fcinfo)
{
	static Oid known_function = InvalidOid;
	static Oid known_type;

	if (unlikely(known_function != fcinfo->flinfo->fn_oid))
	{
		known_type = get_func_rettype(fcinfo->flinfo->fn_oid);
		known_function = fcinfo->flinfo->fn_oid;
	}
	return lookup_rowtype_tupdesc(known_type, -1);
}

/* So that limit_explain() can tell of it. */
static void
note_denied(const Request *request, const Question *told)
{
	int64 limit = told->policy->rule.quota * QUOTA_UNIT;

	refusal_note(
		request->tenant, REFUSED_RATE, told->policy->name,
		told->entry == NULL ? 0 : (told->verdict.limit - told->verdict.remaining) * QUOTA_UNIT,
		told->entry == NULL ? limit : told->verdict.limit * QUOTA_UNIT, request->cost * QUOTA_UNIT);
}

Datum
rate_make_result(FunctionCallInfo fcinfo, const Request *request)
{
	Datum values[RESULT_COLUMNS] = {0};
	bool nulls[RESULT_COLUMNS];
	const Question *shadow = denying_shadow(request);
	const Question *told;
	bool is_limited = false;
	TupleDesc desc;
	Datum result;

	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < request->count; i++)
		is_limited |= rate_is_denied(&request->questions[i]);
	values[RESULT_LIMITED] = BoolGetDatum(is_limited);
	nulls[RESULT_LIMITED] = false;
	told = most_restrictive(request, is_limited);
	if (is_limited && told != NULL && request->cost > 0)
		note_denied(request, told);
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
			put_headers(request, told, is_limited, values, nulls);
		}
	}
	if (shadow != NULL)
	{
		values[RESULT_SHADOW_POLICY] = CStringGetTextDatum(shadow->policy->name);
		nulls[RESULT_SHADOW_POLICY] = false;
	}
	desc = result_desc(fcinfo);
	result = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	ReleaseTupleDesc(desc);
	return result;
}
