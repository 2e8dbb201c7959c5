/*
 * subscription/item.c
 *		What a subscription consists of, with two times.
 *
 * A row is in force from starts_at to ends_at, as was known from recorded_at to superseded_at.
 * Nothing is overwritten: what is known no more is superseded, and what is known instead is
 * inserted beside it.  The caller has locked the subscription.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"
#include "subscription/subscription.h"

#include "utils/builtins.h"

GATE_STATEMENT(
	item_insert,
	"INSERT INTO tenancy.subscription_item (id, line, subscription_id, tenant_id,"
	"    is_addon, plan, price_version, currency, quantity, starts_at, ends_at,"
	"    recorded_at, superseded_at, reason)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
	"        coalesce((SELECT s.ends_at FROM tenancy.subscription s WHERE s.id = $3), 'infinity'),"
	"        $11, 'infinity', $12)",
	UUIDOID, UUIDOID, UUIDOID, UUIDOID, BOOLOID, TEXTOID, INT4OID, TEXTOID, NUMERICOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(
	item_truncate,
	"WITH gone AS ("
	"    UPDATE tenancy.subscription_item i SET superseded_at = greatest($4, i.recorded_at)"
	"     WHERE i.subscription_id = $1 AND ($2 IS NULL OR i.line = $2)"
	"       AND ($6 IS NULL OR i.is_addon = $6)"
	"       AND i.superseded_at = 'infinity' AND i.ends_at > $3"
	"    RETURNING i.*)"
	" INSERT INTO tenancy.subscription_item (id, line, subscription_id, tenant_id,"
	"    is_addon, plan, price_version, currency, quantity, starts_at, ends_at,"
	"    recorded_at, superseded_at, reason)"
	" SELECT tenancy.id_new(), g.line, g.subscription_id, g.tenant_id, g.is_addon, g.plan,"
	"        g.price_version, g.currency, g.quantity, g.starts_at, $3, g.superseded_at,"
	"        'infinity', $5"
	"   FROM gone g WHERE g.starts_at < $3",
	UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, BOOLOID);
GATE_STATEMENT(
	item_continue,
	"WITH gone AS ("
	"    UPDATE tenancy.subscription_item i SET superseded_at = greatest($3, i.recorded_at)"
	"     WHERE i.subscription_id = $1 AND i.superseded_at = 'infinity' AND i.ends_at = $2"
	"    RETURNING i.*)"
	" INSERT INTO tenancy.subscription_item (id, line, subscription_id, tenant_id,"
	"    is_addon, plan, price_version, currency, quantity, starts_at, ends_at,"
	"    recorded_at, superseded_at, reason)"
	" SELECT tenancy.id_new(), g.line, g.subscription_id, g.tenant_id, g.is_addon, g.plan,"
	"        g.price_version, g.currency, g.quantity, g.starts_at, 'infinity',"
	"        g.superseded_at, 'infinity', $4"
	"   FROM gone g",
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(
	item_restart,
	"INSERT INTO tenancy.subscription_item (id, line, subscription_id, tenant_id,"
	"    is_addon, plan, price_version, currency, quantity, starts_at, ends_at,"
	"    recorded_at, superseded_at, reason)"
	" SELECT tenancy.id_new(), g.line, g.subscription_id, g.tenant_id, g.is_addon, g.plan,"
	"        g.price_version, g.currency, g.quantity, $3, 'infinity', $4, 'infinity', $5"
	"   FROM tenancy.subscription_item g"
	"  WHERE g.subscription_id = $1 AND g.superseded_at = 'infinity' AND g.ends_at = $2",
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(
	items_in_force,
	"SELECT i.line, i.is_addon, i.plan, i.price_version, i.quantity, i.starts_at, i.ends_at"
	"  FROM tenancy.subscription_item i"
	" WHERE i.subscription_id = $1 AND i.superseded_at = 'infinity'"
	"   AND i.starts_at <= $2 AND i.ends_at > $2"
	" ORDER BY i.is_addon, i.line",
	UUIDOID, TIMESTAMPTZOID);

void
item_begin(const Subscription *subscription, const pg_uuid_t *line, bool is_addon,
		   const PlanPrice *price, Numeric quantity, TimestampTz from, const char *reason)
{
	gate_run(&item_insert, EXPECT_ONE, gate_uuid(id_new()),
			 gate_uuid(line != NULL ? line : id_new()), gate_uuid(&subscription->id),
			 gate_uuid(&subscription->tenant), gate_bool(is_addon), gate_text(price->plan),
			 gate_int32(price->version), gate_text(price->currency), gate_numeric(quantity),
			 gate_timestamptz(from), gate_timestamptz(clock_now()), gate_text(reason));
}

void
item_end(const Subscription *subscription, const pg_uuid_t *line, TimestampTz from,
		 const char *reason)
{
	gate_run(&item_truncate, EXPECT_ANY, gate_uuid(&subscription->id), gate_uuid(line),
			 gate_timestamptz(from), gate_timestamptz(clock_now()), gate_text(reason), gate_null());
}

void
item_end_base(const Subscription *subscription, TimestampTz from, const char *reason)
{
	gate_run(&item_truncate, EXPECT_ANY, gate_uuid(&subscription->id), gate_null(),
			 gate_timestamptz(from), gate_timestamptz(clock_now()), gate_text(reason),
			 gate_bool(false));
}

void
items_continue(const Subscription *subscription, TimestampTz ended_at, const char *reason)
{
	gate_run(&item_continue, EXPECT_ANY, gate_uuid(&subscription->id), gate_timestamptz(ended_at),
			 gate_timestamptz(clock_now()), gate_text(reason));
}

void
items_restart(const Subscription *subscription, TimestampTz ended_at, TimestampTz from,
			  const char *reason)
{
	gate_run(&item_restart, EXPECT_ANY, gate_uuid(&subscription->id), gate_timestamptz(ended_at),
			 gate_timestamptz(from), gate_timestamptz(clock_now()), gate_text(reason));
}

SubscriptionItem *
items_at(const pg_uuid_t *subscription, TimestampTz at, int *count)
{
	GateRows *rows =
		gate_run(&items_in_force, EXPECT_ANY, gate_uuid(subscription), gate_timestamptz(at));
	SubscriptionItem *items = palloc0(sizeof(SubscriptionItem) * Max(rows->count, 1));

	*count = rows->count;
	for (int i = 0; i < rows->count; i++)
		items[i] = (SubscriptionItem){.line = *row_uuid(rows, i, 0),
									  .is_addon = row_bool(rows, i, 1),
									  .plan = row_text(rows, i, 2),
									  .price_version = row_int32(rows, i, 3),
									  .quantity = row_numeric(rows, i, 4),
									  .starts_at = row_timestamptz(rows, i, 5),
									  .ends_at = row_timestamptz(rows, i, 6)};
	return items;
}
