/*
 * subscription/change.c
 *		Changes of plan, seats, add-ons and price of a subscription.
 *
 * A change is written into the items; the billing engine compares what is in force with what
 * has been billed.  So a change needs no arithmetic here, and one that is scheduled is replaced,
 * not stacked, by a later one.
 *
 * Upgrades take effect now and downgrades with the next period, unless the caller says when
 * (as Lago has it; Stripe leaves it to the caller).
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "subscription/subscription.h"

#include "utils/builtins.h"

GATE_STATEMENT(subscription_set_plan,
			   "UPDATE tenancy.subscription SET plan = $2, price_version = $3, family = $4"
			   " WHERE id = $1",
			   UUIDOID, TEXTOID, INT4OID, TEXTOID);
GATE_STATEMENT(subscription_cut_period,
			   "UPDATE tenancy.subscription SET period_end = $2, bills_at = least(bills_at, $2)"
			   " WHERE id = $1",
			   UUIDOID, TIMESTAMPTZOID);

static const char *const invoice_times[] = {"next", "now", NULL};
static const JsonRule addon_members[] = {
	{.name = "plan", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "quantity", .type = JSON_NUMBER, .is_required = true, .minimum = "0"},
	{.name = NULL},
};
static const JsonRule addon = {.type = JSON_OBJECT, .members = addon_members};
static const JsonRule change_members[] = {
	{.name = "addons", .type = JSON_ARRAY, .element = &addon, .max_length = 50},
	{.name = "effective", .type = JSON_TEXT, .max_length = 63},
	{.name = "invoice", .type = JSON_TEXT, .choices = invoice_times},
	{.name = "latest_price", .type = JSON_BOOLEAN},
	{.name = "plan", .type = JSON_TEXT, .max_length = 63},
	{.name = "quantity", .type = JSON_NUMBER, .minimum = "0"},
	{.name = NULL},
};

/* Does the change make the subscription cheaper?  Only then does it wait by itself. */
static bool
is_downgrade(const PlanPrice *before, Numeric quantity_before, const PlanPrice *after,
			 Numeric quantity_after)
{
	return numeric_compare(numeric_times(after->monthly_value, quantity_after),
						   numeric_times(before->monthly_value, quantity_before)) < 0;
}

/* When the change takes effect: "now", "period_end", or a time within or after the open period. */
static TimestampTz
effective_at(const Subscription *subscription, const Jsonb *changes, bool waits, TimestampTz at)
{
	char *effective = json_text(changes, "effective");
	TimestampTz time;

	if (effective == NULL)
		effective = waits ? "period_end" : "now";
	if (strcmp(effective, "period_end") == 0)
		time = subscription->period_end;
	else if (strcmp(effective, "now") == 0)
		time = Max(at, subscription->starts_at);
	else
		time = timestamptz_from_text(effective, "effective");
	if (time < subscription->period_start)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a change cannot take effect in a period that has been billed"),
				errdetail("The open period is from %s.",
						  timestamptz_to_str(subscription->period_start)));
	if (time >= subscription->ends_at)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a change cannot take effect when the subscription has ended"),
				errdetail("It ends at %s.", timestamptz_to_str(subscription->ends_at)),
				errhint("subscription_reactivate() takes its cancellation back."));
	return time;
}

static bool
may_follow(const PlanPrice *before, const PlanPrice *after)
{
	if (strcmp(before->plan, after->plan) == 0)
		return true;
	if (strcmp(before->family, after->family) != 0)
		return false;
	if (before->changes_to == NULL)
		return true;
	for (int i = 0; i < before->changes_to_count; i++)
	{
		if (strcmp(before->changes_to[i], after->plan) == 0)
			return true;
	}
	return false;
}

/* The base plan, or its seats, from a time on.  Is anything of it due at the start of a period? */
static bool
change_base(Subscription *subscription, const SubscriptionItem *base, const Jsonb *changes,
			TimestampTz at)
{
	char *plan = json_text(changes, "plan");
	Numeric quantity = json_numeric(changes, "quantity");
	PlanPrice *before = plan_price_version(base->plan, base->price_version, subscription->currency);
	bool takes_latest = plan != NULL || json_bool(changes, "latest_price", false);
	PlanPrice *after =
		takes_latest ? plan_price_at(plan != NULL ? plan : base->plan, at, subscription->currency)
					 : before;
	bool is_same_line = strcmp(before->plan, after->plan) == 0;
	TimestampTz from;

	if (quantity == NULL)
		quantity = base->quantity;
	if (after->is_addon || !may_follow(before, after))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" cannot follow plan \"%s\"", after->plan, before->plan),
				errdetail("A plan is followed by plans of its family, as far as it names them."));
	from = effective_at(subscription, changes,
						is_downgrade(before, base->quantity, after, quantity), at);
	if (strcmp(before->billing_period, after->billing_period) != 0 &&
		from != subscription->period_end)
	{
		/* A new billing period has a new anchor, and begins with an invoice. */
		if (from > subscription->period_end)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a change of the billing period takes effect now or at the end of the "
						   "period"));
		if (from > subscription->period_start)
			gate_run(&subscription_cut_period, EXPECT_ONE, gate_uuid(&subscription->id),
					 gate_timestamptz(from));
	}
	item_end_base(subscription, from, "changed");
	item_begin(subscription, is_same_line ? &base->line : NULL, false, after, quantity, from,
			   "changed");
	if (after->has_advance || after->has_one_off)
		subscription_set_advance(&subscription->id);
	if (from <= at)
	{
		gate_run(&subscription_set_plan, EXPECT_ONE, gate_uuid(&subscription->id),
				 gate_text(after->plan), gate_int32(after->version), gate_text(after->family));
		subscription_follow_plan(&subscription->tenant, after->plan);
	}
	return from < subscription->period_end &&
		   (after->has_advance || before->has_advance || (!is_same_line && after->has_one_off));
}

static const SubscriptionItem *
find_item(const SubscriptionItem *items, int count, const char *plan)
{
	for (int i = 0; i < count; i++)
	{
		if (items[i].is_addon && strcmp(items[i].plan, plan) == 0)
			return &items[i];
	}
	return NULL;
}

static bool
change_addon(Subscription *subscription, const SubscriptionItem *items, int item_count,
			 const Jsonb *wanted, const Jsonb *changes, TimestampTz at)
{
	char *plan = json_text(wanted, "plan");
	Numeric quantity = json_numeric(wanted, "quantity");
	bool is_removed = numeric_is_zero(quantity);
	const SubscriptionItem *item = find_item(items, item_count, plan);
	PlanPrice *price;
	TimestampTz from;

	if (item == NULL && is_removed)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("the subscription has no add-on \"%s\"", plan));
	price = item != NULL && !json_bool(changes, "latest_price", false)
				? plan_price_version(plan, item->price_version, subscription->currency)
				: addon_price_at(subscription, plan, at);
	from = effective_at(subscription, changes,
						item != NULL && numeric_compare(quantity, item->quantity) < 0, at);
	if (item != NULL)
		item_end(subscription, &item->line, from, "changed");
	if (!is_removed)
		item_begin(subscription, item != NULL ? &item->line : NULL, true, price, quantity, from,
				   "changed");
	if (price->has_advance || price->has_one_off)
		subscription_set_advance(&subscription->id);
	return from < subscription->period_end &&
		   (price->has_advance || (item == NULL && price->has_one_off));
}

/* subscription_update(subscription uuid, changes jsonb, at timestamptz) → tenancy.subscription */
TENANCY_FUNCTION(subscription_update)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");
	TimestampTz at = PG_ARGISNULL(2) ? clock_now() : required_timestamptz(fcinfo, 2, "at");
	Subscription *subscription;
	SubscriptionItem *items;
	Jsonb *changes;
	Jsonb *addons;
	char *invoice;
	int item_count;
	bool is_due_at_once = false;

	require_argument(fcinfo, 1, "changes");
	changes = PG_GETARG_JSONB_P(1);
	context_require_none("billing");
	json_validate(changes, change_members, "changes");
	addons = json_member(changes, "addons");
	subscription = subscription_lock(id);
	if (strcmp(subscription->state, "ended") == 0 || strcmp(subscription->state, "paused") == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("subscription \"%s\" is %s", id_text(id), subscription->state),
				strcmp(subscription->state, "paused") == 0
					? errhint("subscription_resume() takes it up again.")
					: 0);
	items = items_at(id, Max(at, subscription->starts_at), &item_count);
	if (item_count == 0 || items[0].is_addon)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing is in force at %s", timestamptz_to_str(at)));
	if (json_has(changes, "plan") || json_has(changes, "quantity") ||
		json_bool(changes, "latest_price", false))
		is_due_at_once = change_base(subscription, &items[0], changes, at);
	for (int i = 0; i < json_element_count(addons); i++)
	{
		if (change_addon(subscription, items, item_count, json_element(addons, i), changes, at))
			is_due_at_once = true;
	}
	invoice = json_text(changes, "invoice");
	if (is_due_at_once && invoice != NULL && strcmp(invoice, "now") == 0)
		subscription_set_bills_at(id, Max(at, subscription->period_start));
	PG_RETURN_DATUM(subscription_row(id));
}
