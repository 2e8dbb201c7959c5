/*
 * ledger/ledger.h
 *		Double entry: every document is posted once, balanced, and stays.
 *
 * A posting is filled account by account and then written, alone or with a thousand others
 * in two statements.  Whoever posts holds the lock of the document (of its row or of its
 * subscription): the ledger itself locks nothing, so that no account is ever a queue.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* The chart of accounts.  ledger.c names them; tenancy.ledger_account holds the same list. */
typedef enum LedgerAccount
{
	LEDGER_RECEIVABLE,      /* asset: what tenants owe for invoices */
	LEDGER_CASH,            /* asset: what came in */
	LEDGER_DISPUTED,        /* asset: what a provider holds back until a dispute ends */
	LEDGER_REVENUE,         /* income: earned */
	LEDGER_DEFERRED,        /* liability: billed for service that is still to come */
	LEDGER_TAX_PAYABLE,     /* liability */
	LEDGER_CUSTOMER_CREDIT, /* liability: balances of tenants: grants, top-ups, overpayments */
	LEDGER_PROMOTION,       /* expense: credit that was given away */
	LEDGER_BREAKAGE,        /* income: paid credit that expired unused */
	LEDGER_WRITE_OFF,       /* expense: what will not be paid */
	LEDGER_ACCOUNT_COUNT
} LedgerAccount;

/*
 * One transaction: a document of a tenant, in one currency.  What is posted is known by
 * (kind, document, purpose): posting it again does nothing.
 */
typedef struct LedgerPosting
{
	const char *kind;    /* one of those that tenancy.ledger_transaction allows: "invoice" */
	pg_uuid_t document;  /* the invoice, credit note, payment, … */
	const char *purpose; /* tells two postings of one kind for one document apart; NULL for "" */
	pg_uuid_t tenant;
	const char *legal_entity;
	const char *currency;
	TimestampTz effective_at;              /* when it counts; when it was recorded is the clock's */
	const char *description;               /* NULL for none */
	Numeric amounts[LEDGER_ACCOUNT_COUNT]; /* debit > 0, credit < 0; NULL for none */
} LedgerPosting;

/* Add to an account of the posting; a NULL amount, or zero, adds nothing. */
extern void ledger_debit(LedgerPosting *posting, LedgerAccount account, Numeric amount);
extern void ledger_credit(LedgerPosting *posting, LedgerAccount account, Numeric amount);

/* What the account is credited so far; negative for a debit. */
extern Numeric ledger_credited(const LedgerPosting *posting, LedgerAccount account);

/*
 * Add the opposite of all that was posted for a document (posting->document) with one of
 * the kinds; false when there was nothing.
 */
extern bool ledger_add_reverse(LedgerPosting *posting, const char *const *kinds, int kind_count);

/*
 * Write one posting or many.  A posting all of whose amounts are zero is left out, and so is
 * one that is in the ledger already.  Result: how many were written.  One that is not
 * balanced raises 23514, as does any other way to write to the ledger.
 */
extern bool ledger_post(const LedgerPosting *posting);
extern int64 ledger_post_many(const LedgerPosting *postings, int count);

/* The name of an account, as in tenancy.ledger_account. */
extern const char *ledger_account_name(LedgerAccount account);
