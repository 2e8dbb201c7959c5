/*
 * billing/billing.h
 *		Plans, subscriptions and invoices.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* What a billing run did. */
typedef struct BillingResult
{
	int64 invoices;
	int64 lines;
	int64 failed; /* subscriptions */
} BillingResult;

/*
 * Invoice and finalize every period that has ended by "at".  A subscription that fails
 * is recorded in tenancy.billing_failure and does not stop the others.
 */
extern BillingResult billing_run(TimestampTz at);

/* Draft the next ended period of one subscription, without finalizing it. */
extern void bill_subscription(const pg_uuid_t *subscription, TimestampTz at);

/* The rows tenancy.invoice and tenancy.subscription as composite datums. */
extern Datum invoice_row(const pg_uuid_t *invoice);
extern Datum subscription_row(const pg_uuid_t *subscription);

/* In the postmaster, from _PG_init. */
extern void billing_init(void);
extern void subscription_init(void);
extern void invoice_init(void);
