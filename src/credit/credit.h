/*
 * credit/credit.h
 *		Credit of tenants: grants that invoices use up, and what is posted for it.
 *
 * Lock order: documents (subscriptions, invoices, payments) before credits, credits by id.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* Priorities run from 0; what a tenant paid for is used after what it was given. */
#define CREDIT_PRIORITY_DEFAULT 50

/*
 * A new credit.  "promotion" and "purchase" are posted here; "overpayment", "credit_note" and
 * "proration" are the rest of a document whose own posting has credited customer_credit.
 */
typedef struct CreditGrant
{
	pg_uuid_t tenant;
	const char *currency;
	const char *legal_entity;
	const char *source;
	const char *reason;
	Numeric amount; /* > 0, rounded */
	int32 priority;
	TimestampTz expires_at;    /* DT_NOEND for never */
	const pg_uuid_t *document; /* NULL for promotion and purchase */
} CreditGrant;

/* Grant it; the id, palloc'd. */
extern pg_uuid_t *credit_grant(const CreditGrant *grant);

/* What an invoice could take from the credit of its tenant. */
typedef struct CreditDemand
{
	pg_uuid_t document;
	pg_uuid_t tenant;
	const char *legal_entity;
	const char *currency;
	Numeric due;     /* what is left to pay; nothing is taken where it is <= 0 */
	Numeric applied; /* out: what was taken; NULL for nothing */
} CreditDemand;

/*
 * Let invoices, in their order, take what they need of the credits that have not expired "at"
 * then, and post it.  One statement where there are none.  Locks the credits.  The caller
 * lowers what is due.  Result: how many invoices took something.
 */
extern int credit_apply_many(CreditDemand *demands, int count, TimestampTz at);

/*
 * Give back all that a document took (it is void) and post it; NULL when it took nothing.  What
 * has expired meanwhile expires again with the next credit_expire().
 */
extern Numeric credit_return(const pg_uuid_t *document, TimestampTz at);

/*
 * Take back from the credits that came from a document, for a refund of it: at most "amount".
 * The refund posts it.  Result: how much was there, perhaps zero.
 */
extern Numeric credit_take_back(const pg_uuid_t *document, const pg_uuid_t *refund, Numeric amount,
								TimestampTz at);

/* An invoice whose credit was taken from it again. */
typedef struct CreditReclaim
{
	pg_uuid_t invoice;
	Numeric amount;
} CreditReclaim;

/*
 * The invoices that have used the credits that came from a document, for the caller to lock
 * before credit_reclaim().
 */
extern pg_uuid_t *credit_users(const pg_uuid_t *document, int *count);

/*
 * When the money behind credits is gone, take them back from the invoices that have used them,
 * the last first, at most "amount", and post it; the caller raises what is due of those.
 * Result: the invoices; *reclaimed is the sum.
 */
extern CreditReclaim *credit_reclaim(const pg_uuid_t *document, const pg_uuid_t *refund,
									 Numeric amount, TimestampTz at, int *count,
									 Numeric *reclaimed);

/* Expire what is due; how many credits. */
extern int64 credit_expire(TimestampTz at);

/* In the postmaster, from _PG_init. */
extern void credit_init(void);
