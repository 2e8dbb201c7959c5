/*
 * limit/rate.h
 *		The algorithms of rate limits: state in, verdict out, no memory and no clock.
 */
#pragma once

#include "postgres.h"

typedef enum RateAlgorithm
{
	RATE_GCRA,           /* a bucket that leaks at an even pace */
	RATE_SLIDING_WINDOW, /* the count of this window, and of the last one as far as it overlaps */
	RATE_CONCURRENCY     /* how many at once; given back by the caller */
} RateAlgorithm;

typedef struct RateRule
{
	RateAlgorithm algorithm;
	int64 quota;     /* requests per period, or at once; 1 to RATE_LARGEST_QUOTA */
	int64 period_ns; /* 0 for concurrency */
	int64 burst;     /* GCRA: requests beyond the first that may come at once */
} RateRule;

#define RATE_LARGEST_QUOTA 1000000000

/* What is remembered of a subject; all zero for one that was never seen. */
typedef struct RateState
{
	uint64 first; /* GCRA: when the bucket is empty; sliding: start of the window; else the count */
	uint64 second; /* sliding: the last window's count in the upper half, this one's in the lower */
} RateState;

typedef struct RateVerdict
{
	bool is_allowed;
	int64 limit;
	int64 remaining;
	int64 retry_after_ns; /* -1: allowed, or no wait would help */
	int64 reset_after_ns; /* until it is as if nothing had been asked */
	RateState next;       /* the state when the request is let through */
} RateVerdict;

/*
 * May a request of this cost (0: only looking) come now?  Times are in nanoseconds since 1970.
 * GCRA is that of redis-cell: its numbers, its table of cases.
 */
extern RateVerdict rate_decide(const RateRule *rule, RateState state, int64 now_ns, int64 cost);

/* Is the state as good as none? */
extern bool rate_is_expired(const RateRule *rule, RateState state, int64 now_ns);
