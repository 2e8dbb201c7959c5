/*
 * payment/campaign.c
 *		Campaigns: a tenant is asked for all that is overdue in a currency, once it is more than
 *		the policy's threshold, a number of times.
 *
 * Attempts are counted by currency, and forgotten when nothing is overdue any more.  The next
 * attempt needs more than the days between attempts, as Lago's campaigns do.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "job/outbox.h"
#include "payment/campaign.h"
#include "payment/remind.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(campaign_forget,
			   "DELETE FROM tenancy.dunning_campaign c"
			   " WHERE NOT EXISTS (SELECT FROM tenancy.invoice i"
			   "                    WHERE i.tenant_id = c.tenant_id AND i.currency = c.currency"
			   "                      AND i.state = 'open' AND i.amount_due > 0 AND i.due_at < $1)",
			   TIMESTAMPTZOID);
GATE_STATEMENT(
	campaign_attempt,
	"WITH overdue AS ("
	"    SELECT i.tenant_id, i.currency, sum(i.amount_due) AS amount, min(i.due_at) AS due_at,"
	"           string_agg(i.number, ', ' ORDER BY i.due_at, i.number) AS numbers,"
	"           min(p.id) AS policy"
	"      FROM tenancy.invoice i"
	"      LEFT JOIN tenancy.billing_account a ON a.tenant_id = i.tenant_id"
	"      JOIN tenancy.dunning_policy p ON p.id = coalesce(a.dunning_policy, 'default')"
	"     WHERE i.state = 'open' AND i.amount_due > 0 AND i.due_at < $1"
	"       AND p.policy->'campaign' IS NOT NULL AND p.policy->'campaign' <> 'null'"
	"       AND NOT EXISTS (SELECT FROM tenancy.payment q WHERE q.invoice_id = i.id"
	"                          AND q.state IN ('requested', 'processing', 'unknown'))"
	"     GROUP BY i.tenant_id, i.currency),"
	" asked AS ("
	"    INSERT INTO tenancy.dunning_campaign AS c (tenant_id, currency, attempts, overdue,"
	"        last_attempt_at)"
	"    SELECT o.tenant_id, o.currency, 1, o.amount, $1"
	"      FROM overdue o JOIN tenancy.dunning_policy p ON p.id = o.policy"
	"      LEFT JOIN tenancy.dunning_campaign b"
	"        ON b.tenant_id = o.tenant_id AND b.currency = o.currency"
	"     WHERE tenancy.dunning_campaign_due(p.policy->'campaign', o.currency, o.amount,"
	"               coalesce(b.attempts, 0), b.last_attempt_at, $1)"
	"     ORDER BY o.tenant_id, o.currency"
	"    ON CONFLICT (tenant_id, currency) DO UPDATE"
	"       SET attempts = c.attempts + 1, overdue = excluded.overdue, last_attempt_at = $1"
	"     WHERE c.last_attempt_at < $1"
	"    RETURNING c.tenant_id, c.currency, c.attempts)"
	" SELECT k.tenant_id, k.currency, k.attempts, o.amount, o.due_at, o.numbers, p.policy,"
	"        coalesce(a.name, t.name, t.slug), a.email"
	"   FROM asked k JOIN overdue o USING (tenant_id, currency)"
	"   JOIN tenancy.dunning_policy p ON p.id = o.policy"
	"   JOIN tenancy.tenant t ON t.id = k.tenant_id"
	"   LEFT JOIN tenancy.billing_account a ON a.tenant_id = k.tenant_id"
	"  ORDER BY k.tenant_id, k.currency",
	TIMESTAMPTZOID);

/* The columns of campaign_attempt. */
enum
{
	ASKED_TENANT,
	ASKED_CURRENCY,
	ASKED_ATTEMPTS,
	ASKED_AMOUNT,
	ASKED_DUE_AT,
	ASKED_NUMBERS,
	ASKED_POLICY,
	ASKED_NAME,
	ASKED_EMAIL
};

static void
ask(const GateRows *rows, int64 row)
{
	DunningPolicy policy = policy_parse(row_jsonb(rows, row, ASKED_POLICY));
	Reminded of = {
		.tenant = *row_uuid(rows, row, ASKED_TENANT),
		.name = row_text(rows, row, ASKED_NAME),
		.email = row_text(rows, row, ASKED_EMAIL),
		.number = row_text(rows, row, ASKED_NUMBERS),
		.currency = row_text(rows, row, ASKED_CURRENCY),
		.amount_due = row_numeric(rows, row, ASKED_AMOUNT),
		.due_at = row_timestamptz(rows, row, ASKED_DUE_AT),
	};
	JsonBuilder payload;

	json_begin(&payload);
	json_put_numeric(&payload, "amount_due", of.amount_due);
	json_put_int64(&payload, "attempt", row_int32(rows, row, ASKED_ATTEMPTS));
	json_put_text(&payload, "body", remind_render(&policy, "request", "body", &of));
	json_put_text(&payload, "currency", of.currency);
	json_put_text(&payload, "email", of.email);
	json_put_text(&payload, "numbers", of.number);
	json_put_text(&payload, "subject", remind_render(&policy, "request", "subject", &of));
	(void) outbox_put(&of.tenant, "invoice.payment_asked", json_end(&payload));
}

int64
campaign_run(TimestampTz at)
{
	GateRows *rows;

	gate_run(&campaign_forget, EXPECT_ANY, gate_timestamptz(at));
	rows = gate_run(&campaign_attempt, EXPECT_ANY, gate_timestamptz(at));
	for (int64 i = 0; i < rows->count; i++)
		ask(rows, i);
	return rows->count;
}

/*
 * tenancy.dunning_campaign_due(campaign jsonb, currency text, overdue numeric, attempts integer,
 *     last_attempt_at timestamptz, at timestamptz) → boolean
 */
TENANCY_FUNCTION(dunning_campaign_due)
{
	Jsonb *campaign;
	char *currency = required_text(fcinfo, 1, "currency");
	Numeric overdue = required_numeric(fcinfo, 2, "overdue");
	int32 attempts;
	TimestampTz at = required_timestamptz(fcinfo, 5, "at");
	Jsonb *thresholds;
	Numeric threshold;

	require_argument(fcinfo, 0, "campaign");
	require_argument(fcinfo, 3, "attempts");
	campaign = PG_GETARG_JSONB_P(0);
	attempts = PG_GETARG_INT32(3);
	thresholds = json_member(campaign, "thresholds");
	threshold = thresholds == NULL ? NULL : json_numeric(thresholds, currency);
	if (threshold == NULL || numeric_compare(overdue, threshold) < 0 ||
		attempts >= json_int32(campaign, "max_attempts", 0))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(PG_ARGISNULL(4) ||
				   days_after(PG_GETARG_TIMESTAMPTZ(4),
							  json_int32(campaign, "days_between_attempts", 0)) < at);
}
