/*
 * subscription/subscription.c
 *		Subscriptions: which tenant pays for which plan, from when on.
 *
 * Boundaries of periods are computed from the anchor and stored.  A trial is a period of its
 * own before the anchor.  bills_at is the next moment that the billing engine has to look at the
 * subscription; everything that changes what is due moves it.
 *
 * A subscription is locked before its items are read or written.
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
#include "core/state.h"
#include "subscription/coupon.h"
#include "subscription/subscription.h"
#include "tenant/tenant.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

GATE_STATEMENT(subscription_insert,
			   "INSERT INTO tenancy.subscription AS s (id, tenant_id, plan, price_version, family,"
			   "    currency, billing_period, state, time_zone, starts_at, anchor, trial_ends_at,"
			   "    period_number, period_start, period_end, bills_at, has_advance, created_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $10, $14, $15,"
			   "    $16, $17)"
			   " ON CONFLICT (tenant_id, family) WHERE state <> 'ended' DO NOTHING",
			   UUIDOID, UUIDOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
			   TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID,
			   TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID);
/* The plan whose limits hold is that of the family which the tenant had a plan of first. */
GATE_STATEMENT(tenant_set_plan,
			   "UPDATE tenancy.tenant t SET plan = $2, updated_at = $3"
			   " WHERE t.id = $1"
			   "   AND (t.plan IS NULL OR EXISTS ("
			   "       SELECT FROM tenancy.plan o, tenancy.plan n"
			   "        WHERE o.id = t.plan AND n.id = $2 AND o.family = n.family))",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(subscription_whole_row, "SELECT s FROM tenancy.subscription s WHERE s.id = $1",
			   UUIDOID);
GATE_STATEMENT(subscription_for_update,
			   "SELECT s.tenant_id, s.plan, s.price_version, s.family, s.currency,"
			   "       s.billing_period, s.state, s.time_zone, s.starts_at, s.anchor,"
			   "       coalesce(s.trial_ends_at, '-infinity'), s.period_number, s.period_start,"
			   "       s.period_end, coalesce(s.bills_at, 'infinity'), s.has_advance,"
			   "       coalesce(s.ends_at, 'infinity'), coalesce(s.paused_at, 'infinity')"
			   "  FROM tenancy.subscription s WHERE s.id = $1 FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(subscription_set_state,
			   "UPDATE tenancy.subscription SET state = $3,"
			   "       bills_at = CASE WHEN $3 <> 'ended' THEN bills_at END"
			   " WHERE id = $1 AND state = $2",
			   UUIDOID, TEXTOID, TEXTOID);
GATE_STATEMENT(subscription_set_bill,
			   "UPDATE tenancy.subscription SET bills_at = least(bills_at, $2)"
			   " WHERE id = $1 AND state <> 'ended'",
			   UUIDOID, TIMESTAMPTZOID);

GATE_STATEMENT(subscription_has_advance,
			   "UPDATE tenancy.subscription SET has_advance = true WHERE id = $1", UUIDOID);
/* What has been billed to one subscription of the family is not billed to the next. */
GATE_STATEMENT(subscription_before,
			   "SELECT s.id, s.ends_at FROM tenancy.subscription s"
			   " WHERE s.tenant_id = $1 AND s.family = $2 AND s.state = 'ended' AND s.ends_at > $3"
			   " ORDER BY s.ends_at DESC LIMIT 1",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);

static const StateMove moves[] = {
	{"pending", "start", "active"},
	{"pending", "start trial", "trialing"},
	{"pending", "cancel", "cancelled"},
	{"pending", "end", "ended"},
	{"trialing", "activate", "active"},
	{"trialing", "pause", "paused"},
	{"trialing", "cancel", "cancelled"},
	{"trialing", "end", "ended"},
	{"active", "fall behind", "past_due"},
	{"active", "pause", "paused"},
	{"active", "cancel", "cancelled"},
	{"active", "end", "ended"},
	{"past_due", "recover", "active"},
	{"past_due", "pause", "paused"},
	{"past_due", "cancel", "cancelled"},
	{"past_due", "end", "ended"},
	{"paused", "resume", "active"},
	{"paused", "resume trial", "trialing"},
	{"paused", "cancel", "cancelled"},
	{"paused", "end", "ended"},
	{"cancelled", "reactivate", "active"},
	{"cancelled", "reactivate trial", "trialing"},
	{"cancelled", "end", "ended"},
	{"incomplete", "pay", "active"},
	{"incomplete", "expire", "ended"},
	{"incomplete", "end", "ended"},
};

static StateMachine subscription_states = {
	.name = "subscription",
	.table = "tenancy.subscription",
	.moves = moves,
	.move_count = lengthof(moves),
};

Datum
subscription_row(const pg_uuid_t *subscription)
{
	return row_datum(gate_run(&subscription_whole_row, EXPECT_ONE, gate_uuid(subscription)), 0, 0);
}

Subscription *
subscription_lock(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&subscription_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Subscription *subscription = palloc0(sizeof(Subscription));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("subscription \"%s\" does not exist", id_text(id)));
	subscription->id = *id;
	subscription->tenant = *row_uuid(rows, 0, 0);
	subscription->plan = row_text(rows, 0, 1);
	subscription->price_version = row_int32(rows, 0, 2);
	subscription->family = row_text(rows, 0, 3);
	subscription->currency = row_text(rows, 0, 4);
	subscription->period_name = row_text(rows, 0, 5);
	subscription->period = billing_period(subscription->period_name);
	subscription->state = row_text(rows, 0, 6);
	subscription->time_zone = row_text(rows, 0, 7);
	subscription->starts_at = row_timestamptz(rows, 0, 8);
	subscription->anchor = row_timestamptz(rows, 0, 9);
	subscription->trial_ends_at = row_timestamptz(rows, 0, 10);
	subscription->period_number = row_int32(rows, 0, 11);
	subscription->period_start = row_timestamptz(rows, 0, 12);
	subscription->period_end = row_timestamptz(rows, 0, 13);
	subscription->bills_at = row_timestamptz(rows, 0, 14);
	subscription->has_advance = row_bool(rows, 0, 15);
	subscription->ends_at = row_timestamptz(rows, 0, 16);
	subscription->paused_at = row_timestamptz(rows, 0, 17);
	return subscription;
}

const char *
subscription_after(const Subscription *subscription, const char *event)
{
	return state_after(&subscription_states, subscription->state, event,
					   id_text(&subscription->id));
}

void
subscription_move(Subscription *subscription, const char *event)
{
	const char *to = subscription_after(subscription, event);

	gate_run(&subscription_set_state, EXPECT_ONE, gate_uuid(&subscription->id),
			 gate_text(subscription->state), gate_text(to));
	subscription->state = pstrdup(to);
}

void
subscription_set_bills_at(const pg_uuid_t *id, TimestampTz at)
{
	gate_run(&subscription_set_bill, EXPECT_ANY, gate_uuid(id), gate_timestamptz(at));
}

void
subscription_set_advance(const pg_uuid_t *id)
{
	gate_run(&subscription_has_advance, EXPECT_ONE, gate_uuid(id));
}

void
subscription_period_at(const Subscription *subscription, TimestampTz at, int32 *period_number,
					   TimestampTz *period_end)
{
	*period_number =
		period_number_at(subscription->anchor, at, subscription->period, subscription->time_zone);
	*period_end = period_boundary(subscription->anchor, *period_number + 1, subscription->period,
								  subscription->time_zone);
}

void
subscription_follow_plan(const pg_uuid_t *tenant, const char *plan)
{
	gate_run(&tenant_set_plan, EXPECT_ANY, gate_uuid(tenant), gate_text(plan),
			 gate_timestamptz(clock_now()));
}

/* What subscription_create() takes beside its arguments. */
static const JsonRule addon_members[] = {
	{.name = "plan", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "quantity", .type = JSON_NUMBER, .minimum = "0"},
	{.name = NULL},
};
static const JsonRule addon = {.type = JSON_OBJECT, .members = addon_members};
static const JsonRule option_members[] = {
	{.name = "addons", .type = JSON_ARRAY, .element = &addon, .max_length = 50},
	{.name = "anchor", .type = JSON_TEXT, .max_length = 63},
	{.name = "coupon", .type = JSON_TEXT, .max_length = 63},
	{.name = "requires_payment", .type = JSON_BOOLEAN},
	{.name = "trial_days", .type = JSON_INTEGER, .minimum = "0", .maximum = "3650"},
	{.name = NULL},
};

typedef struct NewSubscription
{
	const pg_uuid_t *tenant;
	const char *plan;
	TimestampTz starts_at;
	const char *time_zone;
	Numeric quantity;
	const char *currency; /* NULL: the plan's first */
	const Jsonb *options;
} NewSubscription;

/* "calendar", or a time; without one the start is the anchor. */
static TimestampTz
read_anchor(const NewSubscription *asked, BillingPeriod period, TimestampTz first_paid)
{
	char *anchor = json_text(asked->options, "anchor");

	if (anchor == NULL)
		return first_paid;
	if (strcmp(anchor, "calendar") == 0)
	{
		Datum zone = CStringGetTextDatum(asked->time_zone);
		Datum civil = DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(first_paid));

		/* From Monday, or January first: periods then begin with those of the calendar. */
		civil = DirectFunctionCall2(timestamp_trunc,
									CStringGetTextDatum(period.days == 7 ? "week" : "year"), civil);
		return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone, civil));
	}
	return timestamptz_from_text(anchor, "anchor");
}

/* The items of the subscription, from its start; whether any is billed in advance or once. */
static bool
begin_items(Subscription *subscription, const PlanPrice *price, const NewSubscription *asked)
{
	Jsonb *addons = json_member(asked->options, "addons");
	bool bills_at_once = price->has_advance || price->has_one_off;

	item_begin(subscription, NULL, false, price, asked->quantity, asked->starts_at, "created");
	for (int i = 0; i < json_element_count(addons); i++)
	{
		Jsonb *wanted = json_element(addons, i);
		Numeric quantity = json_numeric(wanted, "quantity");
		PlanPrice *addon_price =
			addon_price_at(subscription, json_text(wanted, "plan"), asked->starts_at);

		item_begin(subscription, NULL, true, addon_price,
				   quantity != NULL ? quantity : numeric_from_int(1), asked->starts_at, "created");
		bills_at_once = bills_at_once || addon_price->has_advance || addon_price->has_one_off;
	}
	return bills_at_once;
}

static void
refuse_overlap(const NewSubscription *asked, const char *family)
{
	GateRows *rows = gate_run(&subscription_before, EXPECT_AT_MOST_ONE, gate_uuid(asked->tenant),
							  gate_text(family), gate_timestamptz(asked->starts_at));

	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a subscription cannot begin before the end of another of its family"),
				errdetail("Subscription \"%s\" ended at %s.", id_text(row_uuid(rows, 0, 0)),
						  timestamptz_to_str(row_timestamptz(rows, 0, 1))));
}

static pg_uuid_t *
subscribe(const NewSubscription *asked)
{
	PlanPrice *price = plan_price_at(asked->plan, asked->starts_at, asked->currency);
	int32 trial_days = json_int32(asked->options, "trial_days", price->trial_days);
	pg_uuid_t *id = id_new();
	Subscription subscription = {.id = *id,
								 .tenant = *asked->tenant,
								 .currency = price->currency,
								 .period = billing_period(price->billing_period),
								 .period_name = price->billing_period,
								 .starts_at = asked->starts_at,
								 .time_zone = pstrdup(asked->time_zone),
								 .trial_ends_at = DT_NOBEGIN};
	char *coupon = json_text(asked->options, "coupon");
	TimestampTz first_paid = asked->starts_at;
	const char *state = "active";
	bool bills_at_once;

	if (price->is_addon)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" is an add-on", asked->plan),
				errhint("It is added to a subscription by subscription_update()."));
	refuse_overlap(asked, price->family);
	if (trial_days > 0)
	{
		first_paid = period_boundary(asked->starts_at, trial_days, billing_period("daily"),
									 asked->time_zone);
		subscription.trial_ends_at = first_paid;
		state = "trialing";
	}
	if (asked->starts_at > clock_now())
		state = "pending";
	if (json_bool(asked->options, "requires_payment", false))
	{
		if (strcmp(state, "active") != 0 || !(price->has_advance || price->has_one_off))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid options: \"requires_payment\" has no meaning"),
					errdetail("Nothing of plan \"%s\" is to be paid now.", asked->plan));
		state = "incomplete";
	}
	subscription.anchor = read_anchor(asked, subscription.period, first_paid);
	subscription_period_at(&subscription, first_paid, &subscription.period_number,
						   &subscription.period_end);
	if (trial_days > 0)
	{
		subscription.period_number--;
		subscription.period_end = first_paid;
	}
	if (gate_run(&subscription_insert, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_uuid(asked->tenant),
				 gate_text(price->plan), gate_int32(price->version), gate_text(price->family),
				 gate_text(price->currency), gate_text(price->billing_period), gate_text(state),
				 gate_text(asked->time_zone), gate_timestamptz(asked->starts_at),
				 gate_timestamptz(subscription.anchor),
				 trial_days > 0 ? gate_timestamptz(first_paid) : gate_null(),
				 gate_int32(subscription.period_number), gate_timestamptz(subscription.period_end),
				 gate_timestamptz(subscription.period_end),
				 gate_bool(price->has_advance || price->has_one_off), gate_timestamptz(clock_now()))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tenant \"%s\" already has a subscription", registry_slug(asked->tenant)),
				errhint("Cancel it first; it then ends with its period. subscription_update() "
						"changes its plan."));
	/* A later start, and what is due at a start, are events of their own. */
	bills_at_once = begin_items(&subscription, price, asked);
	if (bills_at_once)
		subscription_set_advance(id);
	if (bills_at_once || strcmp(state, "pending") == 0)
		subscription_set_bills_at(id, asked->starts_at);
	if (coupon != NULL)
		coupon_give(asked->tenant, coupon);
	subscription_follow_plan(asked->tenant, price->plan);
	return id;
}

/* For tenant_create(… plan => …). */
static void
subscribe_new_tenant(const pg_uuid_t *tenant, const char *plan, TimestampTz starts_at)
{
	NewSubscription asked = {.tenant = tenant,
							 .plan = plan,
							 .starts_at = starts_at,
							 .time_zone = "UTC",
							 .quantity = numeric_from_int(1),
							 .options = json_empty_object()};

	(void) subscribe(&asked);
}

void
subscription_init(void)
{
	state_machine_register(&subscription_states);
	coupon_init();
	tenant_set_subscriber(subscribe_new_tenant);
}

/*
 * subscription_create(tenant regtenant, plan text, starts_at timestamptz, time_zone text,
 *     quantity numeric, currency text, options jsonb) → tenancy.subscription
 */
TENANCY_FUNCTION(subscription_create)
{
	NewSubscription asked = {.tenant = required_uuid(fcinfo, 0, "tenant"),
							 .plan = required_text(fcinfo, 1, "plan"),
							 .starts_at = required_timestamptz(fcinfo, 2, "starts_at"),
							 .time_zone = required_text(fcinfo, 3, "time_zone"),
							 .quantity = required_numeric(fcinfo, 4, "quantity"),
							 .currency = optional_text(fcinfo, 5),
							 .options = optional_jsonb(fcinfo, 6)};

	context_require_none("billing");
	(void) registry_get(asked.tenant);
	require_time_zone(asked.time_zone);
	if (asked.options == NULL)
		asked.options = json_empty_object();
	json_validate(asked.options, option_members, "options");
	if (numeric_compare(asked.quantity, numeric_from_int(0)) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"quantity\" must not be negative"));
	PG_RETURN_DATUM(subscription_row(subscribe(&asked)));
}
