/*
 * job/retry.h
 *		What happens to a job that has failed: a policy, and what it decides.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"

typedef struct RetryPolicy
{
	int max_attempts;
	int64 initial_ms;
	int64 factor;
	int64 max_ms;
	bool has_jitter;
	const Jsonb *delays;        /* an array of seconds that replaces the exponential; or NULL */
	const Jsonb *non_retryable; /* an array of SQLSTATEs and classes; or NULL */
} RetryPolicy;

/* Raise 22023 naming the fault. */
extern void retry_validate(const Jsonb *policy);

/* A validated policy; what it leaves out is the default.  NULL: all is. */
extern RetryPolicy retry_read(const Jsonb *policy);

/*
 * How long to wait after attempt n, from 1: min(max, initial × factor^(n-1)), and of that with
 * full jitter anything from zero (AWS Architecture Blog, "Exponential Backoff And Jitter").
 */
extern int64 retry_delay_ms(const RetryPolicy *policy, int attempt);

/* After attempt n has failed with this SQLSTATE, or NULL, is there to be another? */
extern bool retry_may_go_on(const RetryPolicy *policy, int attempt, const char *sqlstate);

/* May a failure with this SQLSTATE, or NULL, be tried again at all? */
extern bool retry_is_retryable(const RetryPolicy *policy, const char *sqlstate);
