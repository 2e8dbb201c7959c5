/*
 * subscription/plan_price.c
 *		The prices of plans, as subscriptions and the billing engine need them.
 *
 * A version of a price never changes, but what it includes may be a limit of the plan, which
 * can: so nothing is kept longer than a piece of work lasts.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/function.h"
#include "core/money.h"
#include "subscription/plan_price.h"
#include "subscription/subscription.h"

#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

GATE_LOOKUP(
	price_at,
	"SELECT v.version, v.currency FROM tenancy.plan_price v"
	" WHERE v.plan = $1 AND v.valid_from <= $2 AND (v.currency = $3 OR ($3 IS NULL AND v.is_main))"
	" ORDER BY v.valid_from DESC, v.version DESC LIMIT 1",
	TEXTOID, TIMESTAMPTZOID, TEXTOID);
GATE_LOOKUP(price_read,
			"SELECT l.name, v.pricing, l.limits, l.kind, l.family, l.changes_to"
			"  FROM tenancy.plan_price v JOIN tenancy.plan l ON l.id = v.plan"
			" WHERE v.plan = $1 AND v.version = $2 AND v.currency = $3",
			TEXTOID, INT4OID, TEXTOID);
GATE_LOOKUP(plan_is_there,
			"SELECT coalesce(l.retired_at <= $2, false) FROM tenancy.plan l WHERE l.id = $1",
			TEXTOID, TIMESTAMPTZOID);

#define MAX_KEY 200

struct PriceCache
{
	MemoryContext context;
	HTAB *entries;
};

typedef struct CacheEntry
{
	char key[MAX_KEY];
	PricedPlan *priced;
} CacheEntry;

static GateRows *
read_price(const char *plan, int32 version, const char *currency)
{
	return gate_run(&price_read, EXPECT_ONE, gate_text(plan), gate_int32(version),
					gate_text(currency));
}

PriceCache *
price_cache_create(MemoryContext context)
{
	PriceCache *cache = MemoryContextAlloc(context, sizeof(PriceCache));
	HASHCTL control = {.keysize = MAX_KEY, .entrysize = sizeof(CacheEntry), .hcxt = context};

	cache->context = context;
	cache->entries = hash_create("prices", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return cache;
}

const PricedPlan *
price_cache_get(PriceCache *cache, const char *plan, int32 version, const char *currency)
{
	char key[MAX_KEY];
	CacheEntry *entry;
	bool found;

	snprintf(key, sizeof(key), "%s %d %s", plan, version, currency);
	entry = hash_search(cache->entries, key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(cache->context);
		GateRows *rows = read_price(plan, version, currency);
		PricedPlan *priced = palloc(sizeof(PricedPlan));

		priced->plan = pstrdup(plan);
		priced->name = row_text(rows, 0, 0);
		priced->version = version;
		priced->pricing = pricing_parse(row_jsonb(rows, 0, 1), row_jsonb(rows, 0, 2));
		MemoryContextSwitchTo(caller);
		entry = hash_search(cache->entries, key, HASH_ENTER, &found);
		entry->priced = priced;
	}
	return entry->priced;
}

/* Months of the billing period: 12 for a year, 7 × 12 / 365.25 for a week. */
static Numeric
period_in_months(BillingPeriod period)
{
	if (period.months > 0)
		return numeric_from_int(period.months);
	return numeric_over(numeric_from_int(1200 * period.days), numeric_from_int(36525));
}

/* What so many of the plan cost a month, by what is known before anything is used. */
static Numeric
monthly_value(const Pricing *pricing, Numeric quantity)
{
	Numeric sum = numeric_from_int(0);
	Numeric priced;

	for (int i = 0; i < pricing->charge_count; i++)
	{
		const Charge *charge = &pricing->charges[i];
		ChargeUsage usage = {.quantity = charge->is_per_seat ? quantity : numeric_from_int(1)};

		if (charge->metric == NULL && charge->is_recurring)
			sum = numeric_plus(sum, charge_amount(charge, &usage, &priced));
	}
	return numeric_over(sum, period_in_months(pricing->period));
}

PlanPrice *
plan_price_version(const char *plan, int32 version, const char *currency)
{
	GateRows *rows = read_price(plan, version, currency);
	PlanPrice *price = palloc0(sizeof(PlanPrice));
	Pricing *pricing = pricing_parse(row_jsonb(rows, 0, 1), row_jsonb(rows, 0, 2));

	price->plan = pstrdup(plan);
	price->version = version;
	price->currency = pstrdup(currency);
	price->is_addon = strcmp(row_text(rows, 0, 3), "addon") == 0;
	price->family = row_text(rows, 0, 4);
	price->billing_period = pricing->period_name;
	price->has_advance = pricing->has_advance;
	price->has_one_off = pricing->has_one_off;
	price->trial_days = pricing->trial_days;
	price->monthly_value = monthly_value(pricing, numeric_from_int(1));
	if (!row_is_null(rows, 0, 5))
		price->changes_to = row_text_array(rows, 0, 5, &price->changes_to_count);
	return price;
}

PlanPrice *
plan_price_at(const char *plan, TimestampTz at, const char *currency)
{
	GateRows *rows =
		gate_run(&plan_is_there, EXPECT_AT_MOST_ONE, gate_text(plan), gate_timestamptz(at));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("plan \"%s\" does not exist", plan));
	if (row_bool(rows, 0, 0))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" is retired", plan));
	rows = gate_run(&price_at, EXPECT_AT_MOST_ONE, gate_text(plan), gate_timestamptz(at),
					gate_text(currency));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" has no price at %s", plan, timestamptz_to_str(at)),
				currency != NULL ? errdetail("The currency is %s.", currency) : 0);
	return plan_price_version(plan, row_int32(rows, 0, 0), row_text(rows, 0, 1));
}

PlanPrice *
addon_price_at(const Subscription *subscription, const char *plan, TimestampTz at)
{
	PlanPrice *price = plan_price_at(plan, at, subscription->currency);

	if (!price->is_addon)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" is not an add-on", plan));
	if (strcmp(price->billing_period, subscription->period_name) != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("add-on \"%s\" is billed %s and the subscription %s", plan,
					   price->billing_period, subscription->period_name));
	return price;
}

/*
 * tenancy.plan_monthly_value(plan text, version integer, currency text, quantity numeric)
 *     → numeric
 */
TENANCY_FUNCTION(plan_monthly_value)
{
	char *plan = required_text(fcinfo, 0, "plan");
	char *currency = required_text(fcinfo, 2, "currency");
	Numeric quantity = required_numeric(fcinfo, 3, "quantity");
	GateRows *rows;

	require_argument(fcinfo, 1, "version");
	rows = gate_run(&price_read, EXPECT_AT_MOST_ONE, gate_text(plan), gate_argument(1),
					gate_text(currency));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("plan \"%s\" has no version %d in %s", plan, PG_GETARG_INT32(1), currency));
	PG_RETURN_NUMERIC(
		monthly_value(pricing_parse(row_jsonb(rows, 0, 1), row_jsonb(rows, 0, 2)), quantity));
}
