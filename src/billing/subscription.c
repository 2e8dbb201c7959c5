/*
 * billing/subscription.c
 *		Subscriptions: which tenant pays for which plan.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/period.h"
#include "core/state.h"
#include "tenant/tenant.h"

#include "utils/builtins.h"

/* The price in force at the start; the newest of several that are valid since then. */
GATE_STATEMENT(
	subscription_insert,
	"INSERT INTO tenancy.subscription AS s (id, tenant_id, plan, price_version, currency, state,"
	"    time_zone, starts_at, next_period, created_at)"
	" SELECT $1, $2, p.plan, p.version, p.currency, 'active', $4, $5, 0, $6"
	"   FROM tenancy.plan_price p"
	"  WHERE p.plan = $3 AND p.valid_from <= $5 AND p.is_main"
	"  ORDER BY p.valid_from DESC, p.version DESC LIMIT 1"
	" ON CONFLICT (tenant_id) WHERE state <> 'ended' DO NOTHING",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(tenant_set_plan,
			   "UPDATE tenancy.tenant SET plan = $2, updated_at = $3 WHERE id = $1", UUIDOID,
			   TEXTOID, TIMESTAMPTZOID);
GATE_LOOKUP(priced_plan,
			"SELECT EXISTS (SELECT FROM tenancy.plan_price v"
			"               WHERE v.plan = p.id AND v.valid_from <= $2)"
			"  FROM tenancy.plan p WHERE p.id = $1",
			TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(subscription_whole_row, "SELECT s FROM tenancy.subscription s WHERE s.id = $1",
			   UUIDOID);
GATE_STATEMENT(subscription_for_update,
			   "SELECT s.state, s.starts_at, s.time_zone, p.billing_period"
			   "  FROM tenancy.subscription s"
			   "  JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version AND "
			   "p.currency = s.currency"
			   " WHERE s.id = $1 FOR UPDATE OF s",
			   UUIDOID);
GATE_STATEMENT(subscription_set_end,
			   "UPDATE tenancy.subscription SET state = $2, ends_at = $3, cancelled_at = $4,"
			   "       cancel_reason = $5 WHERE id = $1",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);

static const StateMove moves[] = {
	{"active", "cancel", "cancelled"},
	{"cancelled", "reactivate", "active"},
	{"active", "end", "ended"},
	{"cancelled", "end", "ended"},
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

static pg_uuid_t *
subscribe(const pg_uuid_t *tenant, const char *plan, TimestampTz starts_at, const char *time_zone)
{
	pg_uuid_t *id = id_new();
	GateRows *rows;

	require_time_zone(time_zone);
	rows = gate_run(&priced_plan, EXPECT_AT_MOST_ONE, gate_text(plan), gate_timestamptz(starts_at));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("plan \"%s\" does not exist", plan));
	if (!row_bool(rows, 0, 0))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("plan \"%s\" has no price at %s", plan, timestamptz_to_str(starts_at)));
	if (gate_run(&subscription_insert, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_uuid(tenant),
				 gate_text(plan), gate_text(time_zone), gate_timestamptz(starts_at),
				 gate_timestamptz(clock_now()))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tenant \"%s\" already has a subscription", registry_slug(tenant)),
				errhint("Cancel it first; it then ends with its period."));
	gate_run(&tenant_set_plan, EXPECT_ONE, gate_uuid(tenant), gate_text(plan),
			 gate_timestamptz(clock_now()));
	return id;
}

/* For tenant_create(… plan => …). */
static void
subscribe_new_tenant(const pg_uuid_t *tenant, const char *plan, TimestampTz starts_at)
{
	(void) subscribe(tenant, plan, starts_at, "UTC");
}

void
subscription_init(void)
{
	state_machine_register(&subscription_states);
	tenant_set_subscriber(subscribe_new_tenant);
}

/*
 * subscription_create(tenant regtenant, plan text, starts_at timestamptz, time_zone text)
 *     → tenancy.subscription
 */
TENANCY_FUNCTION(subscription_create)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *plan = required_text(fcinfo, 1, "plan");
	TimestampTz starts_at = required_timestamptz(fcinfo, 2, "starts_at");
	char *time_zone = required_text(fcinfo, 3, "time_zone");

	(void) registry_get(tenant);
	PG_RETURN_DATUM(subscription_row(subscribe(tenant, plan, starts_at, time_zone)));
}

/* The first boundary of the subscription's periods that is not before "at". */
static TimestampTz
end_of_period(const GateRows *subscription, TimestampTz at)
{
	TimestampTz anchor = row_timestamptz(subscription, 0, 1);
	char *zone = row_text(subscription, 0, 2);
	BillingPeriod period = billing_period(row_text(subscription, 0, 3));
	int32 n = period_number_at(anchor, at, period, zone);

	/* A boundary is the end of the period before it; the first period is over at its own end. */
	if (n < 0 || period_boundary(anchor, n, period, zone) != at)
		n++;
	return period_boundary(anchor, Max(n, 1), period, zone);
}

/* subscription_cancel(subscription uuid, reason text, at_period_end boolean) → tenancy.subscription
 */
TENANCY_FUNCTION(subscription_cancel)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");
	GateRows *rows = gate_run(&subscription_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));
	TimestampTz now = clock_now();
	TimestampTz ends_at;
	const char *state;

	require_argument(fcinfo, 2, "at_period_end");
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("subscription \"%s\" does not exist", id_text(id)));
	state = state_after(&subscription_states, row_text(rows, 0, 0), "cancel", id_text(id));
	ends_at = PG_GETARG_BOOL(2) ? end_of_period(rows, now) : Max(now, row_timestamptz(rows, 0, 1));
	gate_run(&subscription_set_end, EXPECT_ONE, gate_uuid(id), gate_text(state),
			 gate_timestamptz(ends_at), gate_timestamptz(now), gate_text(optional_text(fcinfo, 1)));
	PG_RETURN_DATUM(subscription_row(id));
}
