/*
 * payment/dunning.h
 *		Dunning of invoices, within the floor.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* Make rows of tenancy.dunning for open invoices that have none and whose tenants have a policy;
 * of one invoice, or of all for NULL. */
extern int64 dunning_begin(const pg_uuid_t *invoice, TimestampTz at);

/* What a run did. */
typedef struct DunningResult
{
	int64 attempts; /* to collect */
	int64 reminders;
	int64 suspended; /* tenants */
	int64 cancelled; /* subscriptions */
	int64 written_off;
	int64 campaigns;
	int64 failed; /* tenants */
} DunningResult;

/* Do what is due at a time for all invoices that are not paid. */
extern DunningResult dunning_run(TimestampTz at);

/* Within the floor, from dunning_init(). */
extern void dunning_state_init(void);

/* The subscriptions that an invoice bills, in the order of their ids. */
extern pg_uuid_t *subscriptions_of_invoice(const pg_uuid_t *invoice, int *count);

/* Whose reason for a suspension is dunning's is resumed by it. */
#define SUSPENSION_REASON "unpaid invoice "
