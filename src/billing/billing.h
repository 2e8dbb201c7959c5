/*
 * billing/billing.h
 *		Plans, subscriptions and invoices.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct BillingTotal
{
	char *code; /* of the currency */
	Numeric total;
} BillingTotal;

/* What a billing run did. */
typedef struct BillingResult
{
	int64 invoices;
	int64 lines;
	BillingTotal *currencies;
	int currency_count;
	int64 failed; /* subscriptions */
	pg_uuid_t *failed_ids;
	MemoryContext context; /* of the lists */
} BillingResult;

/*
 * Invoice and finalize every period that has ended by "at".  A subscription that fails
 * is recorded in tenancy.billing_failure and does not stop the others.  Drafts that
 * were there before stay drafts.
 */
extern BillingResult billing_run(TimestampTz at);

/* Draft the next ended period of one subscription, without finalizing it. */
extern void bill_subscription(const pg_uuid_t *subscription, TimestampTz at);

/* Draft the period of a void invoice anew, unless it has another invoice by now. */
extern void bill_period_again(const pg_uuid_t *subscription, const pg_uuid_t *void_invoice);

/*
 * Number and open the drafts of an array of ids, by period; one row a currency: its code, the
 * number of invoices, that of their lines, and the total.  Locks the series until commit.
 */
extern GateRows *invoices_finalize(NullableDatum ids);

/* The rows tenancy.invoice and tenancy.subscription as composite datums. */
extern Datum invoice_row(const pg_uuid_t *invoice);
extern Datum subscription_row(const pg_uuid_t *subscription);

/* In the postmaster, from _PG_init. */
extern void billing_init(void);
extern void subscription_init(void);
extern void invoice_init(void);
