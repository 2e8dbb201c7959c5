/*
 * payment/payment.h
 *		Money that comes in and goes back, and what is done where it does not come.
 *
 * Lock order: the tenant's row, then invoices, then payments and refunds, then credits.  All that
 * changes payments or dunning of a tenant holds the lock of its row.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* A payment as its row says. */
typedef struct Payment
{
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *legal_entity;
	pg_uuid_t *invoice; /* NULL for a receipt that names none */
	pg_uuid_t *method;
	char *provider;
	char *reference; /* of the provider; NULL while unknown */
	char *currency;
	Numeric amount;
	char *state;
	Numeric captured;
	Numeric refunded; /* and not returned */
	Numeric returned; /* of refunds that had been made */
	Numeric disputed;
	char *dispute_state;
	int32 attempt;
	char *failure_code;
	TimestampTz failed_at; /* DT_NOBEGIN where it never failed */
} Payment;

/* Serialize with all else that happens to payments of the tenant; 42704 for an unknown one. */
extern void payment_lock_tenant(const pg_uuid_t *tenant);

/* The same of an invoice's tenant, before the invoice; 42704 for an unknown one. */
extern void payment_lock_tenant_of(const pg_uuid_t *invoice);

/* Lock the tenant and the payment; 42704 where there is none. */
extern Payment *payment_lock(const pg_uuid_t *id);

/* The row tenancy.payment as a composite datum. */
extern Datum payment_row(const pg_uuid_t *id);

/*
 * Ask a provider to collect an amount of an invoice (NULL: what is due): the attempt and the
 * command are written, the provider is asked after the commit.  55000 where nothing is due or an
 * attempt is under way.  The id of the payment.
 */
extern pg_uuid_t *payment_request(const pg_uuid_t *invoice, const pg_uuid_t *method,
								  Numeric amount);

/* What is known of a dispute; each is final for those before it. */
typedef enum DisputeState
{
	DISPUTE_NONE,
	DISPUTE_OPEN,
	DISPUTE_WON,
	DISPUTE_LOST
} DisputeState;

/*
 * What somebody says has become of a payment.  Facts add up: amounts are totals, never steps, and
 * what a fact says it says for good.  So it does not matter in which order they come, nor how
 * often.
 */
typedef struct PaymentFacts
{
	bool is_processing;
	bool is_unknown;
	bool is_failed;
	Numeric captured; /* NULL: nothing is said */
	Numeric refunded; /* whatever has been returned since */
	Numeric returned;
	DisputeState dispute;
	Numeric disputed; /* NULL: all that was captured */
	const char *failure_code;
	const char *failure_message;
	const char *reference;
	TimestampTz occurred_at; /* as the provider says */
} PaymentFacts;

/* Apply them to a payment that is locked; false when they said nothing new. */
extern bool payment_learn(Payment *payment, const PaymentFacts *facts);

/* Money of a payment that has come in goes to its invoice, the oldest ones, or the credit. */
extern void money_in(const Payment *payment, Numeric amount);

/* Where money that goes back has been: for the posting of the refund or dispute. */
typedef struct MoneyBack
{
	Numeric from_credit;   /* debit customer_credit */
	Numeric from_invoices; /* debit receivable */
	Numeric from_nowhere;  /* debit write_off: it had expired, or was given to somebody else */
} MoneyBack;

/* Take money back from where it went; "document" is the refund or the dispute. */
extern MoneyBack money_back(const Payment *payment, const pg_uuid_t *document, Numeric amount);

/*
 * The opposite of money_back_of(): pay an invoice again, also one that a credit note has taken it
 * off of.  And of money_back(): pay what is due; what is left of the amount.
 */
extern void money_again_of(const Payment *payment, const pg_uuid_t *invoice, Numeric amount);
extern Numeric money_again(const Payment *payment, Numeric amount);

/* The same of one invoice alone; how much of it was paid by the payment, at most "amount". */
extern Numeric money_back_of(const Payment *payment, const pg_uuid_t *invoice, Numeric amount);

/*
 * Make the refunds of a payment that have succeeded add up to a total: those that are under way
 * succeed, the rest is a refund that somebody made at the provider.
 */
extern void refunds_reach(const Payment *payment, Numeric total);

/* Dunning hears: an attempt has failed; what is due of an invoice has changed; there is another
 * way to pay. */
extern void dunning_heard_failure(const Payment *payment);
extern void dunning_heard_settlement(const pg_uuid_t *invoice);
extern void dunning_heard_method(const pg_uuid_t *tenant);

/* How a provider tells of payments: "manual", "stripe" or "standard"; 42704 for an unknown one. */
extern char *provider_scheme(const char *provider);

/* The tenant's default method, or the one given if it is its own; NULL or 42704 otherwise. */
extern pg_uuid_t *method_find(const pg_uuid_t *tenant, const pg_uuid_t *method);

/* In the postmaster, from _PG_init. */
extern void payment_init(void);
extern void payment_facts_init(void);
extern void refund_init(void);
extern void dunning_init(void);
