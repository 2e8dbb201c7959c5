/*
 * limit/rate_request.h
 *		A request and what each policy that matches says of it.  For rate_limit.c, which
 *		decides, and rate_result.c, which tells.
 */
#pragma once

#include "postgres.h"

#include "fmgr.h"
#include "limit/policy.h"
#include "limit/rate_entry.h"
#include "utils/uuid.h"

#define MATCHING_POLICIES 64

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

/* Does the policy deny the request?  A shadow never does. */
extern bool rate_is_denied(const Question *question);

/* The tenancy.rate_limit_result of a request that was decided. */
extern Datum rate_make_result(FunctionCallInfo fcinfo, const Request *request);
