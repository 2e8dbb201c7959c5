/*
 * billing/usage_need.c
 *		Which usage events are still needed, for usage/prune.c.
 *
 * All since the start of a period that is open; and of a period that is billed those of the hours
 * that it, or an item within it, began or ended in the middle of: usage that comes late is priced
 * by all usage between these times (late.c).  A level that is prorated is known by all of its
 * changes, also after the subscription has ended.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "core/period.h"
#include "meter/meter.h"
#include "usage/prune.h"

GATE_STATEMENT(need_subscriptions,
			   "SELECT s.tenant_id,"
			   "       CASE WHEN EXISTS ("
			   "           SELECT FROM tenancy.subscription_item i"
			   "             JOIN tenancy.plan_price p ON p.plan = i.plan"
			   "              AND p.version = i.price_version AND p.currency = i.currency"
			   "            CROSS JOIN LATERAL pg_catalog.jsonb_array_elements("
			   "                coalesce(p.pricing -> 'charges', '[]')) AS c (charge)"
			   "            WHERE i.subscription_id = s.id AND c.charge ? 'metric'"
			   "              AND (c.charge ->> 'prorate')::boolean)"
			   "       THEN '-infinity' WHEN s.state <> 'ended' THEN s.period_start END,"
			   "       s.starts_at, s.anchor,"
			   "       s.period_number, s.billing_period, s.time_zone"
			   "  FROM tenancy.subscription s WHERE s.tenant_id = ANY ($1)",
			   UUIDARRAYOID);
/* Times that are written down; boundaries of periods without an invoice follow from the anchor. */
GATE_STATEMENT(need_cuts,
			   "SELECT DISTINCT x.tenant_id, x.at FROM ("
			   "    SELECT s.tenant_id, v.at FROM tenancy.subscription s"
			   "     CROSS JOIN LATERAL (VALUES (s.starts_at), (s.trial_ends_at), (s.ends_at), "
			   "(s.period_start))"
			   "           AS v(at) WHERE s.tenant_id = ANY ($1)"
			   "    UNION ALL"
			   "    SELECT s.tenant_id, v.at FROM tenancy.subscription s"
			   "      JOIN tenancy.subscription_item i ON i.subscription_id = s.id"
			   "       AND i.superseded_at = 'infinity'"
			   "     CROSS JOIN LATERAL (VALUES (i.starts_at), (i.ends_at)) AS v(at)"
			   "     WHERE s.tenant_id = ANY ($1)"
			   "    UNION ALL"
			   "    SELECT n.tenant_id, v.at FROM tenancy.invoice n"
			   "     CROSS JOIN LATERAL (VALUES (n.period_start), (n.period_end)) AS v(at)"
			   "     WHERE n.tenant_id = ANY ($1)) x"
			   " WHERE pg_catalog.isfinite(x.at) AND x.at <> pg_catalog.date_trunc('hour', x.at)",
			   UUIDARRAYOID);

static void
add_cut(UsageNeeds *needs, const pg_uuid_t *tenant, TimestampTz at)
{
	column_add(&needs->cut_tenants, gate_uuid(tenant));
	column_add(&needs->cut_at, gate_timestamptz(at));
}

static void
add_boundaries(UsageNeeds *needs, const GateRows *rows, int64 row)
{
	BillingPeriod period = billing_period(row_text(rows, row, 5));
	TimestampTz anchor = row_timestamptz(rows, row, 3);
	const char *zone = row_text(rows, row, 6);
	int32 last = row_int32(rows, row, 4);

	for (int32 n = period_number_at(anchor, row_timestamptz(rows, row, 2), period, zone); n <= last;
		 n++)
	{
		TimestampTz at = period_boundary(anchor, n, period, zone);

		if (at != meter_hour_of(at))
			add_cut(needs, row_uuid(rows, row, 0), at);
	}
}

void
billing_list_usage_needs(NullableDatum tenants, UsageNeeds *needs)
{
	GateRows *rows = gate_run(&need_subscriptions, EXPECT_ANY, tenants);

	for (int64 i = 0; i < rows->count; i++)
	{
		if (!row_is_null(rows, i, 1))
		{
			column_add(&needs->open_tenants, gate_uuid(row_uuid(rows, i, 0)));
			column_add(&needs->open_since, gate_timestamptz(row_timestamptz(rows, i, 1)));
		}
		add_boundaries(needs, rows, i);
	}
	rows = gate_run(&need_cuts, EXPECT_ANY, tenants);
	for (int64 i = 0; i < rows->count; i++)
		add_cut(needs, row_uuid(rows, i, 0), row_timestamptz(rows, i, 1));
}
