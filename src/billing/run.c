/*
 * billing/run.c
 *		Billing runs: from ended periods to finalized invoices.
 *
 * A batch of subscriptions is billed by a handful of statements, whatever its size: draft
 * the invoices, rate their lines, number them, move the subscriptions on.  It runs in a
 * subtransaction; when it fails it is halved, until the subscription that fails stands
 * alone and is recorded.  So one bad subscription costs some repeated work and stops
 * nobody.
 *
 * A period is billed once: an invoice that is not void is unique by subscription and
 * period, and the subscription counts the periods that it has invoices for.  The row of
 * the series is locked by the last statement, so that runs wait for each other as
 * briefly as can be.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/extension.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/settings.h"
#include "job/kind.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#define BATCH_SIZE 1000

/* Start and end of the first period without an invoice; the end may come early by ends_at. */
#define NEXT_PERIOD                                                                                \
	"LATERAL (SELECT tenancy.period_boundary(s.starts_at, s.next_period, p.billing_period, "       \
	"s.time_zone) AS starts,"                                                                      \
	"        tenancy.period_boundary(s.starts_at, s.next_period + 1, p.billing_period, "           \
	"s.time_zone) AS full_end) b"

/* From an id on, so that a run reads each subscription about once and not once a batch. */
GATE_STATEMENT(billing_due,
			   "SELECT s.id FROM tenancy.subscription s"
			   "  JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version AND "
			   "p.currency = s.currency,"
			   "  " NEXT_PERIOD
			   " WHERE s.id >= $4 AND s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $1"
			   "   AND s.id <> ALL ($2)"
			   " ORDER BY s.id LIMIT $3",
			   TIMESTAMPTZOID, UUIDARRAYOID, INT4OID, UUIDOID);
GATE_STATEMENT(billing_lock,
			   "SELECT FROM tenancy.subscription s WHERE s.id = ANY ($1) ORDER BY s.id FOR UPDATE",
			   UUIDARRAYOID);
GATE_STATEMENT(
	billing_draft,
	"INSERT INTO tenancy.invoice (id, tenant_id, subscription_id, state, period_number,"
	"    period_start, period_end, currency, line_count, total, created_at)"
	" SELECT tenancy.id_new(), s.tenant_id, s.id, 'draft', s.next_period, b.starts,"
	"        least(b.full_end, s.ends_at), p.currency, 0, 0, $3"
	"   FROM tenancy.subscription s"
	"   JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version AND "
	"p.currency = s.currency,"
	"   " NEXT_PERIOD
	"  WHERE s.id = ANY ($1) AND s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $2"
	"    AND b.starts < least(b.full_end, s.ends_at)"
	" ON CONFLICT DO NOTHING RETURNING id",
	UUIDARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(billing_draft_again,
			   "INSERT INTO tenancy.invoice (id, tenant_id, subscription_id, state, period_number,"
			   "    period_start, period_end, currency, line_count, total, created_at)"
			   " SELECT tenancy.id_new(), v.tenant_id, v.subscription_id, 'draft', v.period_number,"
			   "        v.period_start, v.period_end, v.currency, 0, 0, $2"
			   "   FROM tenancy.invoice v WHERE v.id = $1"
			   " ON CONFLICT DO NOTHING RETURNING id",
			   UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	billing_lines,
	"INSERT INTO tenancy.invoice_line (invoice_id, position, tenant_id, description, metric,"
	"    quantity, unit, unit_price, amount, trace)"
	" SELECT i.id, r.line, i.tenant_id,"
	"        CASE WHEN r.metric IS NULL THEN l.name ELSE r.description END, r.metric,"
	"        r.quantity, r.unit, r.unit_price, r.amount,"
	"        r.trace || pg_catalog.jsonb_build_object('plan', s.plan, 'price_version', "
	"s.price_version)"
	"   FROM tenancy.invoice i"
	"   JOIN tenancy.subscription s ON s.id = i.subscription_id"
	"   JOIN tenancy.plan l ON l.id = s.plan"
	"   JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version AND "
	"p.currency = s.currency,"
	"   LATERAL (SELECT coalesce(pg_catalog.jsonb_object_agg(w.metric,"
	"                tenancy.usage_quantity(i.tenant_id, w.metric, i.period_start, i.period_end)), "
	"'{}') AS usage"
	"              FROM (SELECT e->>'metric' AS metric FROM pg_catalog.jsonb_array_elements("
	"                        coalesce(p.pricing->'usage_metrics', '[]')) AS e"
	"                    UNION SELECT p.pricing->>'metric') w"
	"             WHERE w.metric IS NOT NULL) u,"
	"   LATERAL tenancy.rate(p.pricing, l.limits, u.usage,"
	"       extract(epoch FROM i.period_end - i.period_start),"
	"       extract(epoch FROM"
	"           tenancy.period_boundary(s.starts_at, i.period_number + 1, p.billing_period, "
	"s.time_zone)"
	"           - i.period_start)) r"
	"  WHERE i.id = ANY ($1)",
	UUIDARRAYOID);
GATE_STATEMENT(
	billing_total,
	"UPDATE tenancy.invoice i SET line_count = t.lines, total = t.total"
	"  FROM (SELECT l.invoice_id, pg_catalog.count(*) AS lines, pg_catalog.sum(l.amount) AS total"
	"          FROM tenancy.invoice_line l WHERE l.invoice_id = ANY ($1) GROUP BY l.invoice_id) t"
	" WHERE i.id = t.invoice_id AND i.id = ANY ($1)",
	UUIDARRAYOID);
GATE_STATEMENT(billing_advance,
			   "UPDATE tenancy.subscription s"
			   "   SET next_period = s.next_period + 1,"
			   "       state = CASE WHEN s.ends_at <= b.full_end THEN 'ended' ELSE s.state END"
			   "  FROM tenancy.plan_price p, tenancy.subscription o,"
			   "       LATERAL (SELECT tenancy.period_boundary(o.starts_at, o.next_period + 1, "
			   "p.billing_period, o.time_zone) AS full_end) b"
			   " WHERE s.id = ANY ($1) AND o.id = ANY ($1) AND o.id = s.id AND p.plan = o.plan AND "
			   "p.version = o.price_version AND p.currency = o.currency"
			   "   AND s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $2",
			   UUIDARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	billing_failure_insert,
	"INSERT INTO tenancy.billing_failure (id, subscription_id, failed_at, sqlstate, error)"
	" VALUES ($1, $2, $3, $4, $5)",
	UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID);

static NullableDatum
uuid_array(const pg_uuid_t *ids, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	return gate_datum(
		PointerGetDatum(construct_array(elements, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

/* The ids in the first column. */
static pg_uuid_t *
ids_of(const GateRows *rows)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));

	for (int64 i = 0; i < rows->count; i++)
		ids[i] = *row_uuid(rows, i, 0);
	return ids;
}

/* Lines and totals of drafts that have none; the ids of the drafts, as an array. */
static NullableDatum
fill_drafts(const GateRows *drafts)
{
	NullableDatum ids = uuid_array(ids_of(drafts), drafts->count);

	if (drafts->count > 0)
	{
		gate_run(&billing_lines, EXPECT_ANY, ids);
		gate_run(&billing_total, EXPECT_ANY, ids);
	}
	return ids;
}

/* Draft one period of each subscription; the ids of the drafts, as an array. */
static NullableDatum
draft_batch(const pg_uuid_t *ids, int count, TimestampTz at)
{
	NullableDatum batch = uuid_array(ids, count);
	NullableDatum drafts;

	gate_run(&billing_lock, EXPECT_ANY, batch);
	drafts = fill_drafts(gate_run(&billing_draft, EXPECT_ANY, batch, gate_timestamptz(at),
								  gate_timestamptz(clock_now())));
	gate_run(&billing_advance, EXPECT_ANY, batch, gate_timestamptz(at));
	return drafts;
}

/* Amounts of different currencies are never added to each other. */
static void
add_issued(BillingResult *result, const GateRows *issued)
{
	MemoryContext batch_context = MemoryContextSwitchTo(result->context);

	for (int64 i = 0; i < issued->count; i++)
	{
		char *currency = row_text(issued, i, 0);
		Numeric total = row_numeric(issued, i, 3);
		int n = 0;

		while (n < result->currency_count && strcmp(result->currencies[n].code, currency) != 0)
			n++;
		if (n == result->currency_count)
		{
			result->currencies = n == 0
									 ? palloc(sizeof(BillingTotal))
									 : repalloc(result->currencies, sizeof(BillingTotal) * (n + 1));
			result->currencies[n].code = currency;
			result->currencies[n].total = numeric_from_int(0);
			result->currency_count++;
		}
		result->currencies[n].total = numeric_plus(result->currencies[n].total, total);
		result->invoices += row_int64(issued, i, 1);
		result->lines += row_int64(issued, i, 2);
	}
	MemoryContextSwitchTo(batch_context);
}

static void
record_failure(const pg_uuid_t *subscription, const ErrorData *error)
{
	gate_run(&billing_failure_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(subscription),
			 gate_timestamptz(clock_now()), gate_text(unpack_sql_state(error->sqlerrcode)),
			 gate_text(error->message));
}

/* An error of the run and not of a subscription: trying again in this transaction is no use. */
static bool
stops_the_run(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		   error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

typedef struct Batch
{
	const pg_uuid_t *ids;
	int count;
	TimestampTz at;
	GateRows *issued;
} Batch;

static void
bill(void *argument)
{
	Batch *batch = argument;

	batch->issued = invoices_finalize(draft_batch(batch->ids, batch->count, batch->at));
}

/* NULL when the batch was billed, else its error with everything it did undone. */
static ErrorData *
try_batch(const pg_uuid_t *ids, int count, TimestampTz at, BillingResult *result)
{
	Batch batch = {ids, count, at};
	ErrorData *error = attempt("billing batch", bill, &batch);

	if (error == NULL)
		add_issued(result, batch.issued);
	else if (stops_the_run(error))
		ReThrowError(error);
	return error;
}

/* Bill what can be billed of the batch; the others are recorded and added to result->failed_ids. */
static void
bill_or_halve(const pg_uuid_t *ids, int count, TimestampTz at, BillingResult *result)
{
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	error = try_batch(ids, count, at, result);
	if (error == NULL)
		return;
	if (count > 1)
	{
		bill_or_halve(ids, count / 2, at, result);
		bill_or_halve(ids + count / 2, count - count / 2, at, result);
		return;
	}
	record_failure(ids, error);
	result->failed_ids = repalloc(result->failed_ids, sizeof(pg_uuid_t) * (result->failed + 1));
	result->failed_ids[result->failed++] = *ids;
}

BillingResult
billing_run(TimestampTz at)
{
	MemoryContext batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "billing batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext context = MemoryContextSwitchTo(batch_context);
	BillingResult result = {.context = context};
	pg_uuid_t from = {{0}};

	result.failed_ids = MemoryContextAlloc(context, sizeof(pg_uuid_t));
	for (;;)
	{
		GateRows *due = gate_run(&billing_due, EXPECT_ANY, gate_timestamptz(at),
								 uuid_array(result.failed_ids, result.failed),
								 gate_int32(BATCH_SIZE), gate_uuid(&from));

		if (due->count == 0)
			break;
		/* What comes before the first is not due, and will not be in this run. */
		from = *row_uuid(due, 0, 0);
		bill_or_halve(ids_of(due), due->count, at, &result);
		MemoryContextReset(batch_context);
	}
	MemoryContextSwitchTo(context);
	MemoryContextDelete(batch_context);
	return result;
}

static char *
run_billing_job(void)
{
	BillingResult result = billing_run(clock_wall() - setting_billing_grace * USECS_PER_SEC);

	/* An error would undo the invoices of the others. */
	if (result.failed > 0)
		ereport(WARNING, errmsg(INT64_FORMAT " subscriptions could not be billed", result.failed),
				errhint("See tenancy.billing_failure."));
	return psprintf("{\"invoices\": " INT64_FORMAT ", \"lines\": " INT64_FORMAT
					", \"failed\": " INT64_FORMAT "}",
					result.invoices, result.lines, result.failed);
}

static const JobKind billing_job = {
	.name = "billing.run",
	.run = run_billing_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "invoices every period that has ended",
};

void
billing_init(void)
{
	job_kind_register(&billing_job);
	subscription_init();
	invoice_init();
}

static Jsonb *
total_by_currency(const BillingResult *result)
{
	JsonBuilder total;

	json_begin(&total);
	for (int i = 0; i < result->currency_count; i++)
		json_put_numeric(&total, result->currencies[i].code, result->currencies[i].total);
	return json_end(&total);
}

/* billing_run(at timestamptz) → TABLE(invoices bigint, lines bigint, failed bigint, total jsonb) */
TENANCY_FUNCTION(billing_run)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingResult result;
	Datum values[4];
	bool nulls[4] = {false};

	context_require_none("billing");
	extension_require();
	InitMaterializedSRF(fcinfo, 0);
	result = billing_run(at);
	values[0] = Int64GetDatum(result.invoices);
	values[1] = Int64GetDatum(result.lines);
	values[2] = Int64GetDatum(result.failed);
	values[3] = JsonbPGetDatum(total_by_currency(&result));
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	return (Datum) 0;
}

void
bill_subscription(const pg_uuid_t *subscription, TimestampTz at)
{
	(void) draft_batch(subscription, 1, at);
}

void
bill_period_again(const pg_uuid_t *subscription, const pg_uuid_t *void_invoice)
{
	gate_run(&billing_lock, EXPECT_ANY, uuid_array(subscription, 1));
	(void) fill_drafts(gate_run(&billing_draft_again, EXPECT_ANY, gate_uuid(void_invoice),
								gate_timestamptz(clock_now())));
}
