/*
 * billing/batch.h
 *		A batch of tenants that are billed together, while they are.
 *
 * read.c fills it from tables, charge.c and advance.c make lines, compose.c makes
 * bills of them, write.c writes those.  Each step is a handful of statements for any number of
 * tenants, or none.  All lives in one memory context, which goes with the batch.
 */
#pragma once

#include "postgres.h"

#include "price/document.h"
#include "price/price.h"
#include "price/proration.h"
#include "subscription/plan_price.h"
#include "subscription/subscription.h"

#include "nodes/pg_list.h"

/* A rate of tax, as its row says. */
typedef struct TaxRate
{
	char *id;
	char *name;
	Numeric percentage;
	bool is_inclusive;
	char *category;
} TaxRate;

/* A coupon that a tenant has; what is left of it is what earlier bills of the batch left. */
typedef struct GivenCoupon
{
	pg_uuid_t redemption;
	char *code;
	char *name;
	bool is_percent;
	Numeric value;
	char *currency; /* of a fixed amount */
	char **plans;
	int plan_count;
	char **metrics;
	int metric_count;
	int32 periods_left;  /* -1 for ever */
	Numeric amount_left; /* NULL where each invoice gets the value anew */
	bool has_changed;
} GivenCoupon;

/* What is to be billed once. */
typedef struct PendingItem
{
	pg_uuid_t id;
	char *currency;
	char *description;
	Numeric quantity;
	Numeric unit_price;
	char **tax_rates; /* NULL for those of the payer */
	int tax_rate_count;
	TimestampTz period_start;
	TimestampTz period_end;
	const struct Bill *bill; /* that it is on; NULL for none */
} PendingItem;

typedef struct Payer
{
	pg_uuid_t tenant;
	char *legal_entity;
	char *series;
	int32 number_width;
	bool rounds_tax_per_invoice;
	bool skips_zero;
	int32 payment_terms_days;
	char **tax_rates;
	int tax_rate_count;
	bool is_tax_free;
	char *tax_category; /* where it is free */
	char *exemption_reason;
	bool consolidates;
	bool is_purged; /* its usage is gone, or is about to go */
	GivenCoupon *coupons;
	int coupon_count;
	PendingItem *items;
	int item_count;
} Payer;

/* A line in advance, a credit of one, or a one-off, that earlier invoices have. */
typedef struct BilledLine
{
	pg_uuid_t invoice;
	int32 position;
	pg_uuid_t item_line;
	char *plan;
	int32 price_version;
	char *charge;
	char *kind;
	Numeric quantity;
	Numeric net;         /* amount less discount, and less what credit notes took at first */
	Numeric committed;   /* the same, also where the invoice is void and net is nothing */
	Numeric noted_after; /* what they took after it had been credited in part */
	char **tax_rates;
	int tax_rate_count;
	TimestampTz period_start;
	TimestampTz period_end;
	pg_uuid_t corrects;
	int32 corrects_position; /* 0 for none */
} BilledLine;

/* A subscription that is due. */
typedef struct Contract
{
	Subscription subscription;
	Payer *payer;
	SubscriptionItem *items; /* known now, by line and time */
	int item_count;
	BilledLine *billed;
	int billed_count;
	TimestampTz closes_at;  /* end of the open period or of the subscription */
	bool closes;            /* the open period ends with this bill */
	bool ends;              /* and the subscription does */
	bool expires;           /* it was never paid for: it ends, and its invoice is void */
	bool is_over;           /* it has ended and been billed: only late usage is looked for */
	TimestampTz full_start; /* the whole period that the open one is part of */
	TimestampTz full_end;
	/* What follows. */
	TimestampTz next_anchor;
	const PricedPlan *next_plan;
	int32 next_number;
	TimestampTz next_end;
	TimestampTz next_full_start;
	char *pause_mode;         /* NULL when it is not paused */
	const char *state;        /* after the bill */
	bool has_advance;         /* after the bill */
	TimestampTz usage_cutoff; /* of the last bill; DT_NOEND for none */
} Contract;

typedef struct BillLine
{
	Contract *contract; /* NULL for what belongs to no subscription */
	pg_uuid_t item_line;
	const char *plan;
	int32 price_version;
	const char *charge;
	const char *kind;
	const char *description;
	const char *metric;
	Numeric quantity;
	const char *unit;
	Numeric unit_price;
	Numeric amount;
	Numeric exact;
	int group;        /* of lines that an agreed maximum is about; 0 for none */
	char **tax_rates; /* resolved */
	int tax_rate_count;
	TimestampTz period_start;
	TimestampTz period_end;
	pg_uuid_t corrects;
	int32 corrects_position; /* 0 for none */
	Jsonb *trace;
	/* out */
	Numeric discount;
	Numeric tax;
	Numeric net;
} BillLine;

/* What lines of a group come to at most. */
typedef struct BillMaximum
{
	int group;
	const char *charge; /* NULL for all of the group */
	Numeric maximum;
	const char *description;
} BillMaximum;

/* What a bill took off, by coupon or by maximum. */
typedef struct BillDiscount
{
	const GivenCoupon *coupon; /* NULL for a maximum */
	const char *description;
	Numeric amount;
} BillDiscount;

typedef struct BillTax
{
	const TaxRate *rate;
	Numeric percentage;
	Numeric base;
	Numeric amount;
} BillTax;

typedef struct Bill
{
	pg_uuid_t id;
	Payer *payer;
	Contract *contract; /* NULL for several or none */
	const char *purpose;
	char *currency;
	TimestampTz period_start;
	TimestampTz period_end;
	List *lines;    /* of BillLine * */
	List *maximums; /* of BillMaximum * */
	BillTax *taxes;
	int tax_count;
	BillDiscount *discounts;
	int discount_count;
	Numeric subtotal;
	Numeric discount;
	Numeric tax;
	Numeric inclusive_tax;
	Numeric total;
	Numeric deferred;
	char *number;    /* NULL for a draft */
	bool is_skipped; /* nothing to issue */
	bool stays_draft;
	const char *ends_as; /* "void", "uncollectible", or NULL */
} Bill;

typedef struct Batch
{
	MemoryContext context;
	PriceCache *prices;
	TimestampTz at;
	Payer *payers; /* by tenant */
	int payer_count;
	Contract *contracts; /* by tenant and id */
	int contract_count;
	TaxRate *rates;
	int rate_count;
	List *bills; /* of Bill * */
	int last_group;
	TimestampTz usage_cutoff;
} Batch;

/* What a batch is to be: which tenants, or only one subscription; what is due, or what is over. */
typedef struct BatchRequest
{
	NullableDatum tenants;         /* uuid[], ascending */
	const pg_uuid_t *subscription; /* NULL for all of the tenants */
	TimestampTz at;
	bool skips_locked;
	bool is_over; /* those that have ended and may have usage that came late */
} BatchRequest;

/* Lock what is due of the tenants by "at", and read all that bills are made from. */
extern void batch_read(Batch *batch, const BatchRequest *request);

/* A rate by its id; the row exists. */
extern const TaxRate *batch_tax_rate(const Batch *batch, const char *id);

/* The whole period that a time lies in, and what follows the open one. */
extern void contract_plan_ahead(Batch *batch, Contract *contract);

/* The bill that the lines of a contract go on. */
extern Bill *batch_bill(Batch *batch, Contract *contract);

/* A metered charge whose usage is to be read, for a part of a whole period. */
typedef struct UsageWanted
{
	const Contract *contract;
	const Charge *charge;
	const Pricing *pricing;
	TimestampTz from;
	TimestampTz to;
	TimestampTz full_start;
	TimestampTz full_end;
	ChargeUsage *usage; /* to be filled */
} UsageWanted;

extern void usage_read(UsageWanted *wanted, int count);

/* Lines of charges in arrears and of usage, for the open period of each that closes. */
extern void charge_arrears(Batch *batch);

/* Lines of charges in advance and once: what is in force, less what has been billed. */
extern void charge_advance(Batch *batch);

/* Lines for usage that came after the invoice of its period. */
extern void charge_late(Batch *batch);

/*
 * Put what is to be billed once on the bills of its payer; on one of its own, where it has
 * none in the currency and "alone" says so.
 */
extern void batch_add_pending(Batch *batch, bool alone);

/* Discounts, taxes and totals. */
extern void batch_compose(Batch *batch);

/* A line of a charge that has been rated, without its place in time. */
extern BillLine *bill_line_rated(Batch *batch, Contract *contract, const SubscriptionItem *item,
								 const PricedPlan *priced, const RatedLine *rated,
								 const char *kind);

extern void bill_add(Bill *bill, BillLine *line);

typedef enum WriteMode
{
	WRITE_DRAFTS,
	WRITE_FINAL
} WriteMode;

/*
 * Write the bills and move the subscriptions on.  What is final has its number and is posted;
 * what is to be a draft, and what the pause of its subscription keeps one, is a draft.
 */
extern void batch_write(Batch *batch, WriteMode mode);
