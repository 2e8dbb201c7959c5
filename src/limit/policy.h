/*
 * limit/policy.h
 *		The rate limits that hold for a tenant.
 */
#pragma once

#include "postgres.h"

#include "limit/rate.h"
#include "utils/uuid.h"

/* Whose requests are counted together. */
typedef enum RateSubject
{
	SUBJECT_SERVICE, /* all tenants' */
	SUBJECT_TENANT,
	SUBJECT_USER
} RateSubject;

typedef struct RatePolicy
{
	pg_uuid_t id;
	char *name;
	char *endpoint; /* a pattern with *; NULL for every endpoint */
	RateSubject subject;
	RateRule rule;
	bool is_shadow;      /* counts, and denies nothing */
	bool is_closed_full; /* denies where there is no room to count */

	/* Of the header fields: the policy's item of the one, and how the other's begins. */
	char *policy_item; /* "name";q=100;w=60 */
	int policy_item_length;
	char *state_item; /* "name";r= */
	int state_item_length;
} RatePolicy;

typedef struct RatePolicies
{
	pg_uuid_t tenant;
	int count;
	RatePolicy *policies;
	unsigned char salt[16]; /* of this database, for the keys of subjects */
} RatePolicies;

/* Those that hold for a tenant, by name; kept by the backend until they change. */
extern const RatePolicies *policy_list(const pg_uuid_t *tenant);

/* Does the endpoint fit the pattern?  A star stands for anything, slashes too. */
extern bool policy_matches(const RatePolicy *policy, const char *endpoint, bool has_user);
