/*
 * payment/dunning.c
 *		What dunning hears: attempts that failed, invoices that were settled.
 *
 * How many attempts have failed is counted from the payments, however often and in whatever order
 * their providers told of it.  When the last invoice for which something was done is settled, it
 * is undone in the same transaction.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/state.h"
#include "payment/dunning.h"
#include "payment/payment.h"
#include "payment/policy.h"
#include "subscription/subscription.h"
#include "tenant/tenant.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(
	dunning_insert,
	"INSERT INTO tenancy.dunning (invoice_id, tenant_id, policy, state, next_at, started_at)"
	" SELECT i.id, i.tenant_id, p.id, 'active',"
	"        CASE p.first_attempt WHEN 'issue' THEN least(i.issued_at, i.due_at"
	"            + p.first_days * interval '24 hours')"
	"            ELSE i.due_at + p.first_days * interval '24 hours' END, $2"
	"   FROM tenancy.invoice i"
	"   LEFT JOIN tenancy.billing_account a ON a.tenant_id = i.tenant_id"
	"   JOIN tenancy.dunning_policy p ON p.id = coalesce(a.dunning_policy, 'default')"
	"  WHERE i.state = 'open' AND i.amount_due > 0 AND ($1 IS NULL OR i.id = $1)"
	"    AND NOT EXISTS (SELECT FROM tenancy.dunning d WHERE d.invoice_id = i.id)"
	" ON CONFLICT (invoice_id) DO NOTHING",
	UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(dunning_for_update,
			   "SELECT d.state, d.past_due_at IS NOT NULL, d.suspended_at IS NOT NULL, p.policy"
			   "  FROM tenancy.dunning d JOIN tenancy.dunning_policy p ON p.id = d.policy"
			   " WHERE d.invoice_id = $1 FOR UPDATE OF d",
			   UUIDOID);
GATE_STATEMENT(dunning_failures,
			   "SELECT count(*)::integer, min(p.failed_at) FROM tenancy.payment p"
			   " WHERE p.invoice_id = $1 AND p.state = 'failed'",
			   UUIDOID);
GATE_STATEMENT(
	dunning_set_failure,
	"UPDATE tenancy.dunning d SET attempts = $2, first_failed_at = $3, failure_code = $4,"
	"       next_retry_at = nullif($5, 'infinity'), next_at = $6"
	" WHERE d.invoice_id = $1 AND d.state = 'active'",
	UUIDOID, INT4OID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(dunning_set_state,
			   "UPDATE tenancy.dunning d SET state = $3, next_retry_at = NULL, error = NULL,"
			   "       next_at = CASE WHEN $3 = 'active' THEN $4 END,"
			   "       ended_at = CASE WHEN $3 <> 'active' THEN $4 END,"
			   "       started_at = CASE WHEN $3 = 'active' THEN $4 ELSE d.started_at END,"
			   "       past_due_at = CASE WHEN $3 = 'abandoned' THEN d.past_due_at END,"
			   "       suspended_at = CASE WHEN $3 = 'abandoned' THEN d.suspended_at END"
			   " WHERE d.invoice_id = $1 AND d.state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(invoice_state, "SELECT i.state, i.tenant_id FROM tenancy.invoice i WHERE i.id = $1",
			   UUIDOID);
GATE_STATEMENT(invoice_subscriptions,
			   "SELECT DISTINCT l.subscription_id FROM tenancy.invoice_line l"
			   " WHERE l.invoice_id = $1 AND l.subscription_id IS NOT NULL ORDER BY 1",
			   UUIDOID);
GATE_STATEMENT(subscription_other_debt,
			   "SELECT FROM tenancy.dunning d"
			   "  JOIN tenancy.invoice_line l ON l.invoice_id = d.invoice_id"
			   " WHERE d.tenant_id = $1 AND d.state = 'active' AND d.past_due_at IS NOT NULL"
			   "   AND l.subscription_id = $2 LIMIT 1",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(tenant_to_resume,
			   "SELECT FROM tenancy.tenant t WHERE t.id = $1 AND t.state = 'suspended'"
			   "   AND starts_with(t.state_reason, $2)"
			   "   AND NOT EXISTS (SELECT FROM tenancy.dunning d WHERE d.tenant_id = t.id"
			   "                      AND d.state = 'active' AND d.suspended_at IS NOT NULL)",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(payment_under_way,
			   "SELECT p.id FROM tenancy.payment p"
			   " WHERE p.invoice_id = $1 AND p.state IN ('requested', 'processing', 'unknown')",
			   UUIDOID);
GATE_STATEMENT(dunning_new_method,
			   "UPDATE tenancy.dunning d SET next_at = $2,"
			   "       next_retry_at = CASE WHEN d.attempts > 0 THEN $2 END"
			   " WHERE d.tenant_id = $1 AND d.state = 'active'",
			   UUIDOID, TIMESTAMPTZOID);

static const StateMove moves[] = {
	{"active", "settle", "settled"},    {"active", "abandon", "abandoned"},
	{"settled", "reopen", "active"},    {"settled", "abandon", "abandoned"},
	{"abandoned", "settle", "settled"}, {"abandoned", "reopen", "active"},
};

static StateMachine dunning_states = {
	.name = "dunning",
	.table = "tenancy.dunning",
	.moves = moves,
	.move_count = lengthof(moves),
};

void
dunning_state_init(void)
{
	state_machine_register(&dunning_states);
}

int64
dunning_begin(const pg_uuid_t *invoice, TimestampTz at)
{
	return gate_run(&dunning_insert, EXPECT_ANY, gate_uuid(invoice), gate_timestamptz(at))->count;
}

pg_uuid_t *
subscriptions_of_invoice(const pg_uuid_t *invoice, int *count)
{
	GateRows *rows = gate_run(&invoice_subscriptions, EXPECT_ANY, gate_uuid(invoice));
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));

	*count = rows->count;
	for (int i = 0; i < *count; i++)
		ids[i] = *row_uuid(rows, i, 0);
	return ids;
}

void
dunning_heard_failure(const Payment *payment)
{
	GateRows *rows;
	GateRows *failures;
	DunningPolicy policy;
	int32 attempts;
	int32 days;
	TimestampTz retry_at = DT_NOEND;

	if (payment->invoice == NULL)
		return;
	(void) dunning_begin(payment->invoice, clock_now());
	rows = gate_run(&dunning_for_update, EXPECT_AT_MOST_ONE, gate_uuid(payment->invoice));
	if (rows->count == 0 || strcmp(row_text(rows, 0, 0), "active") != 0)
		return;
	policy = policy_parse(row_jsonb(rows, 0, 3));
	failures = gate_run(&dunning_failures, EXPECT_ONE, gate_uuid(payment->invoice));
	attempts = row_int32(failures, 0, 0);
	days = policy_retry_days(&policy, attempts, payment->failure_code);
	if (days != POLICY_NEVER)
		/* counted from the first failure, but never twice on a day when attempts come late */
		retry_at = Max(days_after(row_timestamptz(failures, 0, 1), days),
					   days_after(payment->failed_at, 1));
	gate_run(&dunning_set_failure, EXPECT_ONE, gate_uuid(payment->invoice), gate_int32(attempts),
			 gate_timestamptz(row_timestamptz(failures, 0, 1)), gate_text(payment->failure_code),
			 gate_timestamptz(retry_at), gate_timestamptz(clock_now()));
}

void
dunning_heard_method(const pg_uuid_t *tenant)
{
	gate_run(&dunning_new_method, EXPECT_ANY, gate_uuid(tenant), gate_timestamptz(clock_now()));
}

static void
recover_subscriptions(const pg_uuid_t *tenant, const pg_uuid_t *invoice)
{
	int count;
	pg_uuid_t *ids = subscriptions_of_invoice(invoice, &count);

	for (int i = 0; i < count; i++)
	{
		Subscription *subscription = subscription_lock(&ids[i]);

		if (strcmp(subscription->state, "past_due") == 0 &&
			gate_run(&subscription_other_debt, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
					 gate_uuid(&ids[i]))
					->count == 0)
			subscription_move(subscription, "recover");
	}
}

/* What was done for this invoice is undone, unless another is a reason for it, too. */
static void
reactivate(const pg_uuid_t *tenant, const pg_uuid_t *invoice, bool was_past_due, bool was_suspended)
{
	if (was_past_due)
		recover_subscriptions(tenant, invoice);
	if (was_suspended && gate_run(&tenant_to_resume, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
								  gate_text(SUSPENSION_REASON))
								 ->count > 0)
		(void) tenant_move(tenant, "resume", "paid");
}

static const char *
event_of(const char *invoice_state)
{
	if (strcmp(invoice_state, "open") == 0)
		return "reopen";
	return strcmp(invoice_state, "paid") == 0 ? "settle" : "abandon";
}

void
dunning_heard_settlement(const pg_uuid_t *invoice)
{
	GateRows *rows = gate_run(&dunning_for_update, EXPECT_AT_MOST_ONE, gate_uuid(invoice));
	GateRows *now = gate_run(&invoice_state, EXPECT_ONE, gate_uuid(invoice));
	const char *from;
	const char *to;

	if (rows->count == 0)
		return;
	from = row_text(rows, 0, 0);
	if (strcmp(from, "active") == 0 && strcmp(row_text(now, 0, 0), "open") == 0)
		return;
	if (strcmp(from, "settled") == 0 && strcmp(row_text(now, 0, 0), "paid") == 0)
		return;
	if (strcmp(from, "abandoned") == 0 && strcmp(event_of(row_text(now, 0, 0)), "abandon") == 0)
		return;
	to = state_after(&dunning_states, from, event_of(row_text(now, 0, 0)), id_text(invoice));
	gate_run(&dunning_set_state, EXPECT_ONE, gate_uuid(invoice), gate_text(from), gate_text(to),
			 gate_timestamptz(clock_now()));
	if (strcmp(to, "settled") == 0 || strcmp(row_text(now, 0, 0), "void") == 0)
		reactivate(row_uuid(now, 0, 1), invoice, row_bool(rows, 0, 1), row_bool(rows, 0, 2));
}

/* payment_failed(invoice uuid, failure_code text, failure_message text) → tenancy.payment */
TENANCY_FUNCTION(payment_failed)
{
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	GateRows *rows;
	Payment *payment;
	PaymentFacts facts = {
		.is_failed = true,
		.failure_code = optional_text(fcinfo, 1),
		.failure_message = optional_text(fcinfo, 2),
		.occurred_at = clock_wall(),
	};

	context_require_none("processing payments");
	if (gate_run(&invoice_state, EXPECT_AT_MOST_ONE, gate_uuid(invoice))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(invoice)));
	rows = gate_run(&payment_under_way, EXPECT_AT_MOST_ONE, gate_uuid(invoice));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("no payment of invoice \"%s\" is under way", id_text(invoice)));
	payment = payment_lock(row_uuid(rows, 0, 0));
	(void) payment_learn(payment, &facts);
	PG_RETURN_DATUM(payment_row(&payment->id));
}
