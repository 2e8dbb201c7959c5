/*
 * limit/rate.c
 *		The algorithms of rate limits.
 *
 * Products of quotas, costs and nanoseconds are taken in 128 bits and cut to FAR, so that no
 * parameter that is stored can wrap around.
 */
#include "postgres.h"

#include "limit/rate.h"

#define FAR ((int64) 1 << 62)

static int64
cut(int128 value)
{
	return value > FAR ? FAR : (int64) value;
}

static int64
ceiling(int128 numerator, int128 denominator)
{
	return cut((numerator + denominator - 1) / denominator);
}

/*
 * GCRA: "first" is the theoretical arrival time.  A request moves it on by the interval between
 * two requests, from now if it has passed; it comes too early when that would be more than the
 * tolerance ahead.
 */
static RateVerdict
decide_gcra(const RateRule *rule, RateState state, int64 now_ns, int64 cost)
{
	int64 interval = Max(rule->period_ns / rule->quota, 1);
	int64 tolerance = cut((int128) interval * (rule->burst + 1));
	int64 ahead = Max((int64) state.first - now_ns, 0);
	int64 wanted = cut((int128) interval * cost + ahead);
	RateVerdict verdict = {.limit = rule->burst + 1, .retry_after_ns = -1, .next = state};

	verdict.is_allowed = wanted <= tolerance;
	if (verdict.is_allowed)
	{
		ahead = wanted;
		verdict.next.first = (uint64) (now_ns + ahead);
	}
	else if (cost <= rule->burst + 1)
		verdict.retry_after_ns = wanted - tolerance;
	verdict.remaining = Max(tolerance - ahead, 0) / interval;
	verdict.reset_after_ns = ahead;
	return verdict;
}

/*
 * The count of the last window weighs as much as it overlaps the window that ends now
 * (Cloudflare's formula: 42 of the last minute, 18 of this one, 15 s in: 42 × 0.75 + 18 = 49.5).
 */
static RateVerdict
decide_sliding(const RateRule *rule, RateState state, int64 now_ns, int64 cost)
{
	int64 width = rule->period_ns;
	int64 start = Max(now_ns - now_ns % width, (int64) state.first);
	int64 last = state.second >> 32;
	int64 current = state.second & PG_UINT32_MAX;
	int64 elapsed;
	int128 used;
	RateVerdict verdict = {.limit = rule->quota, .retry_after_ns = -1};

	if (start != (int64) state.first)
	{
		last = start - width == (int64) state.first ? current : 0;
		current = 0;
	}
	elapsed = Max(now_ns - start, 0);
	used = (int128) last * (width - elapsed) + (int128) current * width;

	verdict.is_allowed = used + (int128) cost * width <= (int128) rule->quota * width;
	if (verdict.is_allowed)
	{
		current += cost;
		used += (int128) cost * width;
	}
	else if (cost <= rule->quota)
	{
		int64 room = rule->quota - current - cost; /* for what is left of the last window */

		if (room >= 0 && last > 0)
			verdict.retry_after_ns = ceiling((int128) (last - room) * width, last) - elapsed;
		else
			verdict.retry_after_ns =
				width - elapsed +
				ceiling((int128) Max(current + cost - rule->quota, 0) * width, Max(current, 1));
	}
	verdict.next.first = start;
	verdict.next.second = (uint64) last << 32 | (uint64) current;
	verdict.remaining = (int64) (((int128) rule->quota * width - used) / width);
	verdict.remaining = Max(verdict.remaining, 0);
	verdict.reset_after_ns = current > 0 ? 2 * width - elapsed : last > 0 ? width - elapsed : 0;
	return verdict;
}

static RateVerdict
decide_concurrency(const RateRule *rule, RateState state, int64 cost)
{
	RateVerdict verdict = {.limit = rule->quota, .retry_after_ns = -1, .next = state};

	verdict.is_allowed = (int64) state.first + cost <= rule->quota;
	if (verdict.is_allowed)
		verdict.next.first += cost;
	verdict.remaining = Max(rule->quota - (int64) verdict.next.first, 0);
	return verdict;
}

RateVerdict
rate_decide(const RateRule *rule, RateState state, int64 now_ns, int64 cost)
{
	switch (rule->algorithm)
	{
		case RATE_GCRA:
			return decide_gcra(rule, state, now_ns, cost);
		case RATE_SLIDING_WINDOW:
			return decide_sliding(rule, state, now_ns, cost);
		case RATE_CONCURRENCY:
			break;
	}
	return decide_concurrency(rule, state, cost);
}

bool
rate_is_expired(const RateRule *rule, RateState state, int64 now_ns)
{
	switch (rule->algorithm)
	{
		case RATE_GCRA:
			return (int64) state.first <= now_ns;
		case RATE_SLIDING_WINDOW:
			return (int64) state.first + 2 * rule->period_ns <= now_ns;
		case RATE_CONCURRENCY:
			break;
	}
	return state.first == 0;
}
