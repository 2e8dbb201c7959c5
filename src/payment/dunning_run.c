/*
 * payment/dunning_run.c
 *		Doing what is due for invoices that are not paid.
 *
 * Each row of tenancy.dunning says when the next thing is to be done.  A tenant is worked on in a
 * subtransaction under its lock; what was done is on record (a payment, a reminder, a time), so
 * that a run that was cut off, or comes twice, does nothing twice.  While a payment may still
 * succeed the tenant is neither asked again nor reminded.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"
#include "job/kind.h"
#include "payment/campaign.h"
#include "payment/dunning.h"
#include "payment/payment.h"
#include "payment/remind.h"
#include "subscription/subscription.h"
#include "tenant/tenant.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Tenants that are looked up at once. */
#define TENANT_BATCH 1000

GATE_STATEMENT(dunning_tenants_due,
			   "SELECT DISTINCT d.tenant_id FROM tenancy.dunning d"
			   " WHERE d.state = 'active' AND d.next_at <= $1 AND d.tenant_id > $2"
			   " ORDER BY d.tenant_id LIMIT $3",
			   TIMESTAMPTZOID, UUIDOID, INT4OID);
GATE_STATEMENT(
	dunning_due,
	"SELECT d.invoice_id, d.attempts, coalesce(d.next_retry_at, 'infinity'),"
	"       d.past_due_at IS NOT NULL, d.suspended_at IS NOT NULL, d.cancelled_at IS NOT NULL,"
	"       p.policy, i.state, coalesce(i.customer->>'name', t.name, t.slug),"
	"       i.customer->>'email', i.number, i.currency, i.amount_due, i.due_at, i.issued_at,"
	"       t.state, d.started_at,"
	"       EXISTS (SELECT FROM tenancy.payment q WHERE q.invoice_id = i.id),"
	"       EXISTS (SELECT FROM tenancy.payment q WHERE q.invoice_id = i.id"
	"                  AND q.state IN ('requested', 'processing', 'unknown')),"
	"       EXISTS (SELECT FROM tenancy.payment_method m"
	"                WHERE m.tenant_id = d.tenant_id AND m.is_default)"
	"  FROM tenancy.dunning d"
	"  JOIN tenancy.invoice i ON i.id = d.invoice_id"
	"  JOIN tenancy.tenant t ON t.id = d.tenant_id"
	"  JOIN tenancy.dunning_policy p ON p.id = d.policy"
	" WHERE d.tenant_id = $1 AND d.state = 'active' AND d.next_at <= $2"
	" ORDER BY d.invoice_id FOR UPDATE OF i, d",
	UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(dunning_done,
			   "UPDATE tenancy.dunning d SET next_at = $2, error = NULL,"
			   "       next_retry_at = CASE WHEN $3 THEN NULL ELSE d.next_retry_at END,"
			   "       past_due_at = CASE WHEN $4 THEN coalesce(d.past_due_at, $7) END,"
			   "       suspended_at = CASE WHEN $5 THEN coalesce(d.suspended_at, $7) END,"
			   "       cancelled_at = CASE WHEN $6 THEN coalesce(d.cancelled_at, $7) END"
			   " WHERE d.invoice_id = $1 AND d.state = 'active'",
			   UUIDOID, TIMESTAMPTZOID, BOOLOID, BOOLOID, BOOLOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(dunning_failed,
			   "UPDATE tenancy.dunning d SET error = $3, next_at = $2 + interval '1 hour'"
			   " WHERE d.tenant_id = $1 AND d.state = 'active' AND d.next_at <= $2",
			   UUIDOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(dunning_overtaken,
			   "SELECT d.invoice_id, d.tenant_id FROM tenancy.dunning d"
			   "  JOIN tenancy.invoice i ON i.id = d.invoice_id"
			   " WHERE d.state = 'active' AND i.state <> 'open'"
			   " ORDER BY d.tenant_id, d.invoice_id LIMIT $1",
			   INT4OID);

/* The columns of dunning_due. */
enum
{
	DUE_INVOICE,
	DUE_ATTEMPTS,
	DUE_NEXT_RETRY_AT,
	DUE_IS_PAST_DUE,
	DUE_IS_SUSPENDED,
	DUE_IS_CANCELLED,
	DUE_POLICY,
	DUE_STATE,
	DUE_NAME,
	DUE_EMAIL,
	DUE_NUMBER,
	DUE_CURRENCY,
	DUE_AMOUNT_DUE,
	DUE_DUE_AT,
	DUE_ISSUED_AT,
	DUE_TENANT_STATE,
	DUE_STARTED_AT,
	DUE_WAS_ATTEMPTED,
	DUE_IS_UNDER_WAY,
	DUE_HAS_METHOD
};

/* One invoice that is being worked on. */
typedef struct Due
{
	DunningPolicy policy;
	Reminded of;
	int32 attempts;
	TimestampTz next_retry_at; /* DT_NOEND for none */
	TimestampTz issued_at;
	TimestampTz counts_from; /* the due date, or when the policy came to hold */
	bool is_past_due;
	bool is_suspended;
	bool is_cancelled;
	bool was_attempted;
	bool is_under_way;
	bool has_method;
	bool retried;
	char *tenant_state;
} Due;

static Due
read_due(const GateRows *rows, int64 row, const pg_uuid_t *tenant)
{
	return (Due){
		.policy = policy_parse(row_jsonb(rows, row, DUE_POLICY)),
		.of =
			{
				.tenant = *tenant,
				.invoice = *row_uuid(rows, row, DUE_INVOICE),
				.name = row_text(rows, row, DUE_NAME),
				.email = row_text(rows, row, DUE_EMAIL),
				.number = row_text(rows, row, DUE_NUMBER),
				.currency = row_text(rows, row, DUE_CURRENCY),
				.amount_due = row_numeric(rows, row, DUE_AMOUNT_DUE),
				.due_at = row_timestamptz(rows, row, DUE_DUE_AT),
			},
		.attempts = row_int32(rows, row, DUE_ATTEMPTS),
		.next_retry_at = row_timestamptz(rows, row, DUE_NEXT_RETRY_AT),
		.issued_at = row_timestamptz(rows, row, DUE_ISSUED_AT),
		.counts_from =
			Max(row_timestamptz(rows, row, DUE_DUE_AT), row_timestamptz(rows, row, DUE_STARTED_AT)),
		.is_past_due = row_bool(rows, row, DUE_IS_PAST_DUE),
		.is_suspended = row_bool(rows, row, DUE_IS_SUSPENDED),
		.is_cancelled = row_bool(rows, row, DUE_IS_CANCELLED),
		.was_attempted = row_bool(rows, row, DUE_WAS_ATTEMPTED),
		.is_under_way = row_bool(rows, row, DUE_IS_UNDER_WAY),
		.has_method = row_bool(rows, row, DUE_HAS_METHOD),
		.tenant_state = row_text(rows, row, DUE_TENANT_STATE),
	};
}

/* When the first attempt is made; never where nobody collects by itself, or one was made. */
static TimestampTz
first_attempt_at(const Due *due)
{
	if (due->policy.first_attempt == NULL || due->was_attempted || !due->has_method)
		return DT_NOEND;
	return strcmp(due->policy.first_attempt, "issue") == 0 ? due->issued_at : due->of.due_at;
}

static TimestampTz
retry_at(const Due *due)
{
	return due->has_method && !due->retried ? due->next_retry_at : DT_NOEND;
}

/* A policy that is new does not suspend at once for what is long overdue. */
static TimestampTz
at_day(const Due *due, int32 days)
{
	return days == POLICY_NEVER ? DT_NOEND : days_after(due->counts_from, days);
}

/* When the next thing is to be done, later than "at". */
static TimestampTz
next_at(const Due *due, TimestampTz at)
{
	const DunningPolicy *policy = &due->policy;
	TimestampTz times[] = {
		first_attempt_at(due),
		retry_at(due),
		due->is_past_due ? DT_NOEND : at_day(due, policy->grace_days),
		due->is_suspended ? DT_NOEND : at_day(due, policy->suspend_after_days),
		due->is_cancelled ? DT_NOEND : at_day(due, policy->cancel_after_days),
		at_day(due, policy->write_off_after_days),
	};
	TimestampTz next = DT_NOEND;

	if (due->is_under_way)
		return days_after(at, 1);
	for (int i = 0; i < lengthof(times); i++)
	{
		if (times[i] > at)
			next = Min(next, times[i]);
	}
	for (int i = 0; i < policy->reminder_count; i++)
	{
		TimestampTz time = days_after(due->of.due_at, policy->reminders[i]);

		if (time > at)
			next = Min(next, time);
	}
	return next;
}

static bool
collect(Due *due, TimestampTz at)
{
	if (first_attempt_at(due) > at && retry_at(due) > at)
		return false;
	due->retried = true;
	(void) payment_request(&due->of.invoice, NULL, NULL);
	due->is_under_way = true;
	return true;
}

/* The latest of the reminders that are due: what was missed is not made up for. */
static int64
remind_due(const Due *due, TimestampTz at)
{
	const DunningPolicy *policy = &due->policy;
	int latest = -1;
	int64 count = 0;

	for (int i = 0; i < policy->reminder_count; i++)
	{
		if (days_after(due->of.due_at, policy->reminders[i]) <= at)
			latest = i;
	}
	if (latest >= 0)
		count += remind(policy, &due->of, "due", policy->reminders[latest],
						policy->reminders[latest] < 0 ? "before_due" : "overdue");
	if (due->attempts > 0 && policy->reminds_on_failure)
		count += remind(policy, &due->of, "failed", due->attempts, "failed");
	return count;
}

static void
fall_behind(Due *due)
{
	int count;
	pg_uuid_t *ids = subscriptions_of_invoice(&due->of.invoice, &count);

	for (int i = 0; i < count; i++)
	{
		Subscription *subscription = subscription_lock(&ids[i]);

		if (strcmp(subscription->state, "active") == 0)
			subscription_move(subscription, "fall behind");
	}
	due->is_past_due = true;
}

static void
suspend(Due *due, DunningResult *result)
{
	due->is_suspended = true;
	if (strcmp(due->tenant_state, "active") != 0)
		return;
	(void) tenant_move(&due->of.tenant, "suspend",
					   psprintf(SUSPENSION_REASON "%s", due->of.number));
	due->tenant_state = "suspended";
	result->suspended++;
	result->reminders += remind(&due->policy, &due->of, "suspended", 0, "suspended");
}

static void
cancel(Due *due, TimestampTz at, DunningResult *result)
{
	int count;
	pg_uuid_t *ids = subscriptions_of_invoice(&due->of.invoice, &count);

	for (int i = 0; i < count; i++)
	{
		Subscription *subscription = subscription_lock(&ids[i]);

		if (strcmp(subscription->state, "cancelled") == 0 ||
			strcmp(subscription->state, "ended") == 0)
			continue;
		subscription_cancel_now(subscription, at, psprintf(SUSPENSION_REASON "%s", due->of.number));
		result->cancelled++;
	}
	due->is_cancelled = true;
	result->reminders += remind(&due->policy, &due->of, "cancelled", 0, "cancelled");
}

static void
write_off(Due *due, DunningResult *result)
{
	invoice_write_off(&due->of.invoice, "not paid");
	dunning_heard_settlement(&due->of.invoice);
	result->written_off++;
}

static void
work_on(Due *due, TimestampTz at, DunningResult *result)
{
	const DunningPolicy *policy = &due->policy;

	if (!due->is_under_way)
	{
		if (collect(due, at))
			result->attempts++;
		else
			result->reminders += remind_due(due, at);
	}
	if (!due->is_under_way)
	{
		if (!due->is_past_due && at_day(due, policy->grace_days) <= at)
			fall_behind(due);
		if (!due->is_suspended && at_day(due, policy->suspend_after_days) <= at)
			suspend(due, result);
		if (!due->is_cancelled && at_day(due, policy->cancel_after_days) <= at)
			cancel(due, at, result);
	}
	gate_run(&dunning_done, EXPECT_ONE, gate_uuid(&due->of.invoice),
			 gate_timestamptz(next_at(due, at)), gate_bool(due->retried),
			 gate_bool(due->is_past_due), gate_bool(due->is_suspended),
			 gate_bool(due->is_cancelled), gate_timestamptz(at));
	if (!due->is_under_way && at_day(due, policy->write_off_after_days) <= at)
		write_off(due, result);
}

typedef struct TenantWork
{
	pg_uuid_t tenant;
	TimestampTz at;
	DunningResult result;
} TenantWork;

static void
work_on_tenant(void *argument)
{
	TenantWork *work = argument;
	GateRows *rows;
	char *tenant_state = NULL;

	payment_lock_tenant(&work->tenant);
	rows = gate_run(&dunning_due, EXPECT_ANY, gate_uuid(&work->tenant), gate_timestamptz(work->at));
	for (int64 i = 0; i < rows->count; i++)
	{
		Due due = read_due(rows, i, &work->tenant);

		if (tenant_state != NULL)
			due.tenant_state = tenant_state;
		if (strcmp(row_text(rows, i, DUE_STATE), "open") != 0)
			dunning_heard_settlement(&due.of.invoice);
		else
			work_on(&due, work->at, &work->result);
		tenant_state = due.tenant_state;
	}
}

/* An error of the run and not of a tenant: trying on in this transaction is no use. */
static bool
stops_the_run(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		   error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

static void
add(DunningResult *sum, const DunningResult *part)
{
	sum->attempts += part->attempts;
	sum->reminders += part->reminders;
	sum->suspended += part->suspended;
	sum->cancelled += part->cancelled;
	sum->written_off += part->written_off;
}

static void
try_tenant(const pg_uuid_t *tenant, TimestampTz at, DunningResult *result)
{
	TenantWork work = {.tenant = *tenant, .at = at};
	ErrorData *error = attempt("dunning of a tenant", work_on_tenant, &work);

	if (error == NULL)
	{
		add(result, &work.result);
		return;
	}
	if (stops_the_run(error))
		ReThrowError(error);
	gate_run(&dunning_failed, EXPECT_ANY, gate_uuid(tenant), gate_timestamptz(at),
			 gate_text(error->message));
	result->failed++;
}

/* Invoices that were paid by credit, credited or void: nobody has told us. */
static void
settle_overtaken(void)
{
	GateRows *rows;

	do
	{
		rows = gate_run(&dunning_overtaken, EXPECT_ANY, gate_int32(TENANT_BATCH));
		for (int64 i = 0; i < rows->count; i++)
		{
			payment_lock_tenant(row_uuid(rows, i, 1));
			dunning_heard_settlement(row_uuid(rows, i, 0));
			CHECK_FOR_INTERRUPTS();
		}
	} while (rows->count == TENANT_BATCH);
}

DunningResult
dunning_run(TimestampTz at)
{
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "dunning batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	DunningResult result = {0};
	pg_uuid_t after = {{0}};

	(void) dunning_begin(NULL, at);
	settle_overtaken();
	for (;;)
	{
		GateRows *tenants = gate_run(&dunning_tenants_due, EXPECT_ANY, gate_timestamptz(at),
									 gate_uuid(&after), gate_int32(TENANT_BATCH));

		if (tenants->count == 0)
			break;
		for (int64 i = 0; i < tenants->count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			try_tenant(row_uuid(tenants, i, 0), at, &result);
		}
		after = *row_uuid(tenants, tenants->count - 1, 0);
		MemoryContextReset(batch);
	}
	result.campaigns = campaign_run(at);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
	return result;
}

static char *
run_dunning_job(void)
{
	DunningResult result = dunning_run(clock_wall());

	if (result.failed > 0)
		ereport(WARNING, errmsg(INT64_FORMAT " tenants could not be reminded", result.failed),
				errhint("See tenancy.dunning."));
	return psprintf("{\"attempts\": " INT64_FORMAT ", \"reminders\": " INT64_FORMAT
					", \"suspended\": " INT64_FORMAT ", \"cancelled\": " INT64_FORMAT
					", \"written_off\": " INT64_FORMAT ", \"campaigns\": " INT64_FORMAT
					", \"failed\": " INT64_FORMAT "}",
					result.attempts, result.reminders, result.suspended, result.cancelled,
					result.written_off, result.campaigns, result.failed);
}

static const JobKind dunning_job = {
	.name = "dunning.run",
	.run = run_dunning_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "collects, reminds and suspends where invoices are not paid",
};

/* A credit note may be all that was missing. */
static const InvoiceWatcher credit_note_watcher = {
	.lock = payment_lock_tenant_of,
	.heard = dunning_heard_settlement,
};

void
dunning_init(void)
{
	credit_note_set_watcher(&credit_note_watcher);
	job_kind_register(&dunning_job);
	dunning_state_init();
}

/*
 * dunning_run(at timestamptz) → TABLE(attempts bigint, reminders bigint, suspended bigint,
 *     cancelled bigint, written_off bigint, campaigns bigint, failed bigint)
 */
TENANCY_FUNCTION(dunning_run)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	DunningResult result;
	Datum values[7];
	bool nulls[7] = {false};

	context_require_none("dunning");
	InitMaterializedSRF(fcinfo, 0);
	result = dunning_run(at);
	values[0] = Int64GetDatum(result.attempts);
	values[1] = Int64GetDatum(result.reminders);
	values[2] = Int64GetDatum(result.suspended);
	values[3] = Int64GetDatum(result.cancelled);
	values[4] = Int64GetDatum(result.written_off);
	values[5] = Int64GetDatum(result.campaigns);
	values[6] = Int64GetDatum(result.failed);
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	return (Datum) 0;
}
