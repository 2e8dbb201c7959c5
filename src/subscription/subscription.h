/*
 * subscription/subscription.h
 *		Who pays for what: billing accounts, coupons, subscriptions and what they consist of.
 */
#pragma once

#include "postgres.h"

#include "core/period.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* A subscription as its row says, locked. */
typedef struct Subscription
{
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *plan;
	int32 price_version;
	char *family;
	char *currency;
	char *period_name;
	BillingPeriod period;
	char *state;
	char *time_zone;
	TimestampTz starts_at;
	TimestampTz anchor;
	TimestampTz trial_ends_at; /* DT_NOBEGIN for none */
	int32 period_number;
	TimestampTz period_start;
	TimestampTz period_end;
	TimestampTz bills_at; /* DT_NOEND when it has ended */
	bool has_advance;
	TimestampTz ends_at; /* DT_NOEND for none */
	TimestampTz paused_at;
} Subscription;

/* Lock and read; 42704 where there is none. */
extern Subscription *subscription_lock(const pg_uuid_t *id);

/* The row tenancy.subscription as a composite datum. */
extern Datum subscription_row(const pg_uuid_t *id);

/* The state that an event leads to; 55000 where there is no such move. */
extern const char *subscription_after(const Subscription *subscription, const char *event);

/* Move it along its state machine, as subscription_after() says. */
extern void subscription_move(Subscription *subscription, const char *event);

/* The price that a plan has at a time, parsed as far as subscriptions need it. */
typedef struct PlanPrice
{
	char *plan;
	char *family;
	bool is_addon;
	int32 version;
	char *currency;
	char *billing_period;
	bool has_advance;      /* a charge is billed at the start of a period */
	bool has_one_off;      /* a charge is billed once */
	int32 trial_days;      /* 0 for none */
	Numeric monthly_value; /* of one, for telling an upgrade from a downgrade */
	char **changes_to;     /* plans that may follow; NULL for all of the family */
	int changes_to_count;
} PlanPrice;

/*
 * The version in force at "at", in the currency or, for NULL, in the plan's first.  42704
 * unknown plan; 55000 no price then, or none in the currency.
 */
extern PlanPrice *plan_price_at(const char *plan, TimestampTz at, const char *currency);
extern PlanPrice *plan_price_version(const char *plan, int32 version, const char *currency);

/* The same for an add-on to a subscription: in its currency and billing period; 55000 otherwise. */
extern PlanPrice *addon_price_at(const Subscription *subscription, const char *plan,
								 TimestampTz at);

/* The limits of the tenant are those of the plan, if it is of the family of its first plan. */
extern void subscription_follow_plan(const pg_uuid_t *tenant, const char *plan);

/* One row of tenancy.subscription_item that is known now. */
typedef struct SubscriptionItem
{
	pg_uuid_t line;
	bool is_addon;
	char *plan;
	int32 price_version;
	Numeric quantity;
	TimestampTz starts_at;
	TimestampTz ends_at; /* DT_NOEND */
} SubscriptionItem;

/* What is known now of the items in force at a time, base plan first. */
extern SubscriptionItem *items_at(const pg_uuid_t *subscription, TimestampTz at, int *count);

/* From a time on, add an item; the line is made up when NULL.  Its end is infinity. */
extern void item_begin(const Subscription *subscription, const pg_uuid_t *line, bool is_addon,
					   const PlanPrice *price, Numeric quantity, TimestampTz from,
					   const char *reason);

/*
 * From a time on, a line (NULL: all lines) is in force no more, whatever was scheduled for it.
 * What was known before stays on record.
 */
extern void item_end(const Subscription *subscription, const pg_uuid_t *line, TimestampTz from,
					 const char *reason);

/* The same for the base plan, and for every plan that was to follow it. */
extern void item_end_base(const Subscription *subscription, TimestampTz from, const char *reason);

/* What ended at a time goes on instead, as if nothing had been: an end is taken back. */
extern void items_continue(const Subscription *subscription, TimestampTz ended_at,
						   const char *reason);

/* What ended at a time begins again at a later one. */
extern void items_restart(const Subscription *subscription, TimestampTz ended_at, TimestampTz from,
						  const char *reason);

/*
 * The period that follows a boundary: its number, and where it ends.  The n-th boundary of the
 * subscription's own anchor, never of the previous boundary.
 */
extern void subscription_period_at(const Subscription *subscription, TimestampTz at,
								   int32 *period_number, TimestampTz *period_end);

/*
 * Bill it soon: called when something that is billed in advance has changed at a time within
 * the open period, or when the subscription ends at a time.
 */
extern void subscription_set_bills_at(const pg_uuid_t *id, TimestampTz at);

/* Something in it is billed at the start of a period, or once. */
extern void subscription_set_advance(const pg_uuid_t *id);

/* Cancel it to end at a time, but not before its open period; 55000 when it cannot be. */
extern void subscription_cancel_now(Subscription *subscription, TimestampTz at, const char *reason);

/* Take up what was paused until "at" or earlier: of a tenant, or of all (NULL). */
extern void subscriptions_resume_due(const pg_uuid_t *tenant, TimestampTz at);

/* In the postmaster, from _PG_init. */
extern void subscription_init(void);
