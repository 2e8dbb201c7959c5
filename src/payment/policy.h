/*
 * payment/policy.h
 *		Dunning policies: what is done, and when, where an invoice is not paid.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#define POLICY_MAX_STEPS 20
#define POLICY_NEVER (-1)

typedef struct DunningPolicy
{
	const Jsonb *document;
	char *first_attempt;             /* "issue" or "due"; NULL: nobody collects by itself */
	int32 retries[POLICY_MAX_STEPS]; /* gaps in days, the first from the first failure */
	int retry_count;
	int32 reminders[POLICY_MAX_STEPS]; /* days from the due date, ascending; negative before */
	int reminder_count;
	bool reminds_on_failure;
	int32 grace_days;         /* then the subscription is past due */
	int32 suspend_after_days; /* from the due date, as are the next two; POLICY_NEVER */
	int32 cancel_after_days;
	int32 write_off_after_days;
} DunningPolicy;

/* Raise 22023 naming the path of the first fault. */
extern void policy_validate(const Jsonb *document);
extern DunningPolicy policy_parse(const Jsonb *document);

/* Days from the due date to the first thing that is to be done. */
extern int32 policy_first_days(const DunningPolicy *policy);

/*
 * Days from the first failure to the next retry, after so many failed attempts, of which the
 * last had the code; POLICY_NEVER for no more.
 */
extern int32 policy_retry_days(const DunningPolicy *policy, int32 attempts, const char *code);

/* The text of a kind with a policy's own words; placeholders are still in it. */
extern char *policy_text(const DunningPolicy *policy, const char *kind, const char *part);

extern TimestampTz days_after(TimestampTz time, int32 days);
