/*
 * billing/billing.h
 *		Invoices: making, issuing and settling them.
 */
#pragma once

#include "postgres.h"

#include "billing/batch.h"
#include "catalog/gate.h"
#include "datatype/timestamp.h"
#include "usage/prune.h"
#include "utils/uuid.h"

/* What invoices keep of legal entity e, and of billing account a of tenant t. */
#define INVOICE_SELLER                                                                             \
	"pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('legal_entity', e.id, 'name', "    \
	"e.name, 'address', e.address, 'country', e.country, 'tax_id', e.tax_id, 'email', e.email, "   \
	"'bank_account', e.bank_account, 'tax_rounding', e.tax_rounding))"
#define INVOICE_CUSTOMER                                                                           \
	"pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('slug', t.slug, 'name', "          \
	"coalesce(a.name, t.name), 'address', coalesce(a.address, '{}'), 'country', a.country, "       \
	"'tax_id', a.tax_id, 'email', a.email))"

/*
 * Does invoice v say what was billed?  A void one does, at no charge, until another replaces it:
 * what it billed is not billed again unless somebody asks, and then with the same lines.
 */
#define INVOICE_STANDS(v)                                                                          \
	"(" v ".state <> 'void'"                                                                       \
	" OR NOT EXISTS (SELECT FROM tenancy.invoice r WHERE r.replaces = " v ".id))"

/*
 * Has a subscription ended by "at" and may there be usage that its invoices missed?  Some was noted
 * since its last bill, or that was made so soon that what it missed is not noted: see
 * tenancy.usage_late.
 */
#define MAY_HAVE_LATE_USAGE(s, at)                                                                 \
	"(" s ".state = 'ended' AND least(" s ".period_end, " s ".ends_at) <= " at " AND (" s          \
	".usage_cutoff < least(" s ".period_end, " s ".ends_at) + interval '10 minutes'"               \
	"      OR EXISTS (SELECT FROM tenancy.usage_late l WHERE l.tenant_id = " s ".tenant_id"        \
	"                    AND l.noted_at >= " s ".usage_cutoff)))"

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
	int64 subscriptions; /* looked at */
	BillingTotal *currencies;
	int currency_count;
	int64 failed; /* tenants */
	pg_uuid_t *failed_ids;
	MemoryContext context; /* of the lists */
} BillingResult;

/*
 * Invoice and finalize all that is due by "at".  A tenant that fails is recorded in
 * tenancy.billing_failure and does not stop the others.  Drafts that were there before stay
 * drafts.
 */
extern BillingResult billing_run(TimestampTz at);

/* Bill a batch, in the current memory context; "alone" as for batch_add_pending(). */
extern Batch *billing_batch(const BatchRequest *request, WriteMode mode, bool alone);

/* No transaction that may still record usage began before: see tenancy.invoice.usage_cutoff. */
extern TimestampTz billing_usage_cutoff(void);

/* What bills that are still to be made, or made again for late usage, need of usage events. */
extern void billing_list_usage_needs(NullableDatum tenants, UsageNeeds *needs);

/* Is a line of the kind billed before what it is for, or a credit of one that was? */
extern bool line_is_deferred(const char *kind);

/* An invoice that has just been issued, open unless it is over nothing. */
typedef struct IssuedInvoice
{
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *legal_entity;
	char *currency;
	char *number;
	Numeric total;    /* negative: the seller owes it */
	Numeric tax;      /* in all: on top of amounts and within them */
	Numeric deferred; /* net, for what is still to come */
	TimestampTz issued_at;
	TimestampTz due_at;
	int64 line_count;
	bool is_given_up; /* at once, because of a pause: credit does not pay for it */
} IssuedInvoice;

/*
 * Post what was issued to the ledger and tell the outbox; then let the credit of the tenants
 * pay for it, unless it is given up, and make credit of totals below zero.
 */
extern void invoices_issued(const IssuedInvoice *invoices, int count);

/* What changes what is due of an invoice; each has a column of its own. */
typedef enum SettleKind
{
	SETTLE_APPLIED,  /* credit of the tenant; negative: given to it */
	SETTLE_CREDITED, /* a credit note */
	SETTLE_PAID      /* a payment; negative: a refund, or one that was taken back */
} SettleKind;

/*
 * Add an amount to what is settled of an invoice, locked; it becomes paid when nothing is due,
 * and open again when something is.  Posts nothing: the caller does.  Errors: 42704; 55000 a
 * draft or void invoice, or more than is due (the caller keeps what is too much).  Result: what
 * is due then.
 */
extern Numeric invoice_settle(const pg_uuid_t *invoice, SettleKind kind, Numeric amount);

/* The same for many invoices in one statement: open ones, never more than is due. */
extern void invoices_settle(SettleKind kind, const pg_uuid_t *invoices, const Numeric *amounts,
							int count);

/*
 * What the floor above does around a credit note: lock what it locks before invoices (42704 where
 * there is no invoice), and hear of what is due then.
 */
typedef struct InvoiceWatcher
{
	void (*lock)(const pg_uuid_t *invoice);
	void (*heard)(const pg_uuid_t *invoice);
} InvoiceWatcher;

extern void credit_note_set_watcher(const InvoiceWatcher *watcher);

/* An invoice as its row says, locked. */
typedef struct Invoice
{
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *legal_entity;
	pg_uuid_t *subscription; /* NULL for several or none */
	char *number;            /* or its id, of a draft */
	char *state;
	char *currency;
	Numeric total;
	Numeric amount_applied;
	Numeric amount_credited;
	Numeric amount_paid;
	Numeric amount_due;
	TimestampTz issued_at; /* DT_NOBEGIN for a draft */
	TimestampTz due_at;
} Invoice;

/* 42704 where there is none. */
extern Invoice *invoice_lock(const pg_uuid_t *id);

/* The state that an event leads to; 55000 where there is no such move. */
extern const char *invoice_after(const Invoice *invoice, const char *event);

/* Move it along its state machine, as invoice_after() says. */
extern void invoice_move(Invoice *invoice, const char *event, const char *reason);

/*
 * Make an invoice void, or give up what is due of it, with all that follows; 55000 where its state
 * does not allow it.
 */
extern void invoice_make_void(const pg_uuid_t *id, const char *reason);
extern void invoice_write_off(const pg_uuid_t *id, const char *reason);

/* Number, open and post drafts; the same as a run does with what it has not written yet. */
extern void invoices_finalize(const pg_uuid_t *ids, int count);

/* The first of "count" numbers of a series, in the order of calls; locks it until commit. */
extern int64 series_take(const char *series, int count);

/* The row tenancy.invoice as a composite datum. */
extern Datum invoice_row(const pg_uuid_t *invoice);

/* In the postmaster, from _PG_init. */
extern void billing_init(void);
extern void invoice_init(void);
extern void invoice_events_init(void);
extern void credit_note_init(void);
