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
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "job/kind.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"

#define BATCH_SIZE 1000
#define PAYMENT_TERM "interval '14 days'"

/* Start and end of the first period without an invoice; the end may come early by ends_at. */
#define NEXT_PERIOD                                                                                \
	"LATERAL (SELECT tenancy.period_boundary(s.starts_at, s.next_period, p.billing_period, s.time_zone) AS starts," \
	"        tenancy.period_boundary(s.starts_at, s.next_period + 1, p.billing_period, s.time_zone) AS full_end) b"

GATE_STATEMENT(billing_due,
			   "SELECT s.id FROM tenancy.subscription s"
			   "  JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version,"
			   "  " NEXT_PERIOD
			   " WHERE s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $1"
			   "   AND s.id <> ALL ($2)"
			   " ORDER BY s.id LIMIT $3",
			   TIMESTAMPTZOID, UUIDARRAYOID, INT4OID);
GATE_STATEMENT(billing_lock,
			   "SELECT FROM tenancy.subscription s WHERE s.id = ANY ($1) ORDER BY s.id FOR UPDATE",
			   UUIDARRAYOID);
GATE_STATEMENT(billing_draft,
			   "INSERT INTO tenancy.invoice (id, tenant_id, subscription_id, state, period_start,"
			   "    period_end, currency, line_count, total, created_at)"
			   " SELECT tenancy.id_new(), s.tenant_id, s.id, 'draft', b.starts,"
			   "        least(b.full_end, s.ends_at), p.currency, 0, 0, $3"
			   "   FROM tenancy.subscription s"
			   "   JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version,"
			   "   " NEXT_PERIOD
			   "  WHERE s.id = ANY ($1) AND s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $2"
			   "    AND b.starts < least(b.full_end, s.ends_at)"
			   " ON CONFLICT DO NOTHING",
			   UUIDARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(billing_lines,
			   "INSERT INTO tenancy.invoice_line (invoice_id, position, tenant_id, description, metric,"
			   "    quantity, unit, unit_price, amount, trace)"
			   " SELECT i.id, r.line, i.tenant_id,"
			   "        CASE WHEN r.metric IS NULL THEN l.name ELSE r.description END, r.metric,"
			   "        r.quantity, r.unit, r.unit_price, r.amount,"
			   "        r.trace || pg_catalog.jsonb_build_object('plan', s.plan, 'price_version', s.price_version)"
			   "   FROM tenancy.invoice i"
			   "   JOIN tenancy.subscription s ON s.id = i.subscription_id"
			   "   JOIN tenancy.plan l ON l.id = s.plan"
			   "   JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version,"
			   "   " NEXT_PERIOD ","
			   "   LATERAL (SELECT coalesce(pg_catalog.jsonb_object_agg(w.metric,"
			   "                tenancy.usage_quantity(i.tenant_id, w.metric, i.period_start, i.period_end)), '{}') AS usage"
			   "              FROM (SELECT e->>'metric' AS metric FROM pg_catalog.jsonb_array_elements("
			   "                        coalesce(p.pricing->'usage_metrics', '[]')) AS e"
			   "                    UNION SELECT p.pricing->>'metric') w"
			   "             WHERE w.metric IS NOT NULL) u,"
			   "   LATERAL tenancy.rate(p.pricing, l.limits, u.usage,"
			   "       extract(epoch FROM i.period_end - i.period_start),"
			   "       extract(epoch FROM b.full_end - b.starts)) r"
			   "  WHERE i.subscription_id = ANY ($1) AND i.state = 'draft' AND i.line_count = 0"
			   "    AND i.period_start = b.starts",
			   UUIDARRAYOID);
GATE_STATEMENT(billing_total,
			   "UPDATE tenancy.invoice i SET line_count = t.lines, total = t.total"
			   "  FROM (SELECT l.invoice_id, pg_catalog.count(*) AS lines, pg_catalog.sum(l.amount) AS total"
			   "          FROM tenancy.invoice_line l JOIN tenancy.invoice d ON d.id = l.invoice_id"
			   "         WHERE d.subscription_id = ANY ($1) AND d.state = 'draft' GROUP BY l.invoice_id) t"
			   " WHERE i.id = t.invoice_id",
			   UUIDARRAYOID);
GATE_STATEMENT(billing_advance,
			   "UPDATE tenancy.subscription s"
			   "   SET next_period = s.next_period + 1,"
			   "       state = CASE WHEN s.ends_at <= b.full_end THEN 'ended' ELSE s.state END"
			   "  FROM tenancy.plan_price p, tenancy.subscription o,"
			   "       LATERAL (SELECT tenancy.period_boundary(o.starts_at, o.next_period + 1, p.billing_period, o.time_zone) AS full_end) b"
			   " WHERE s.id = ANY ($1) AND o.id = s.id AND p.plan = o.plan AND p.version = o.price_version"
			   "   AND s.state <> 'ended' AND least(b.full_end, s.ends_at) <= $2",
			   UUIDARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(billing_finalize,
			   "WITH ready AS ("
			   "    SELECT i.id, pg_catalog.row_number() OVER (ORDER BY i.period_start, i.id) AS place"
			   "      FROM tenancy.invoice i WHERE i.subscription_id = ANY ($1) AND i.state = 'draft'),"
			   " taken AS ("
			   "    INSERT INTO tenancy.invoice_series AS n (name, next_number)"
			   "    SELECT $2, 1 + pg_catalog.count(*) FROM ready HAVING pg_catalog.count(*) > 0"
			   "    ON CONFLICT (name) DO UPDATE SET next_number = n.next_number + excluded.next_number - 1"
			   "    RETURNING n.next_number - (SELECT pg_catalog.count(*) FROM ready) AS first)"
			   " UPDATE tenancy.invoice AS i"
			   "    SET number = pg_catalog.format('%s-%s', $2,"
			   "            pg_catalog.lpad((t.first + r.place - 1)::text,"
			   "                greatest(6, pg_catalog.length((t.first + r.place - 1)::text)), '0')),"
			   "        state = CASE WHEN i.total = 0 THEN 'paid' ELSE 'open' END,"
			   "        paid_at = CASE WHEN i.total = 0 THEN $3 END,"
			   "        issued_at = $3, due_at = $3 + " PAYMENT_TERM
			   "   FROM ready r, taken t WHERE r.id = i.id"
			   " RETURNING i.line_count",
			   UUIDARRAYOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(billing_failure_insert,
			   "INSERT INTO tenancy.billing_failure (id, subscription_id, failed_at, sqlstate, error)"
			   " VALUES ($1, $2, $3, $4, $5)",
			   UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID);

#define SERIES "INV"

static NullableDatum
uuid_array(const pg_uuid_t *ids, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	return gate_datum(PointerGetDatum(
		construct_array(elements, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

/* One period of each subscription. */
static void
bill_batch(const pg_uuid_t *ids, int count, TimestampTz at, bool finalizes, BillingResult *result)
{
	NullableDatum batch = uuid_array(ids, count);

	gate_run(&billing_lock, EXPECT_ANY, batch);
	gate_run(&billing_draft, EXPECT_ANY, batch, gate_timestamptz(at), gate_timestamptz(clock_now()));
	gate_run(&billing_lines, EXPECT_ANY, batch);
	gate_run(&billing_total, EXPECT_ANY, batch);
	gate_run(&billing_advance, EXPECT_ANY, batch, gate_timestamptz(at));
	if (finalizes)
	{
		GateRows *issued = gate_run(&billing_finalize, EXPECT_ANY, batch, gate_text(SERIES),
									gate_timestamptz(clock_now()));

		result->invoices += issued->count;
		for (int64 i = 0; i < issued->count; i++)
			result->lines += row_int32(issued, i, 0);
	}
}

static void
record_failure(const pg_uuid_t *subscription, const ErrorData *error)
{
	gate_run(&billing_failure_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(subscription),
			 gate_timestamptz(clock_now()), gate_text(unpack_sql_state(error->sqlerrcode)),
			 gate_text(error->message));
}

/* NULL when the batch was billed, else its error with everything it did undone. */
static ErrorData *
try_batch(const pg_uuid_t *ids, int count, TimestampTz at, BillingResult *result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	BillingResult done = *result;

	BeginInternalSubTransaction("billing batch");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		bill_batch(ids, count, at, true, &done);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		*result = done;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
	}
	PG_END_TRY();
	return error;
}

/* The subscriptions that failed, appended to "failed". */
static void
bill_or_halve(const pg_uuid_t *ids, int count, TimestampTz at, BillingResult *result,
			  pg_uuid_t **failed)
{
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	error = try_batch(ids, count, at, result);
	if (error == NULL)
		return;
	if (count > 1)
	{
		bill_or_halve(ids, count / 2, at, result, failed);
		bill_or_halve(ids + count / 2, count - count / 2, at, result, failed);
		return;
	}
	record_failure(ids, error);
	*failed = repalloc(*failed, sizeof(pg_uuid_t) * (result->failed + 1));
	(*failed)[result->failed++] = *ids;
}

BillingResult
billing_run(TimestampTz at)
{
	BillingResult result = {0};
	pg_uuid_t *failed = palloc(sizeof(pg_uuid_t));

	for (;;)
	{
		GateRows *due = gate_run(&billing_due, EXPECT_ANY, gate_timestamptz(at),
								 uuid_array(failed, result.failed), gate_int32(BATCH_SIZE));
		pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(due->count, 1));

		if (due->count == 0)
			return result;
		for (int64 i = 0; i < due->count; i++)
			ids[i] = *row_uuid(due, i, 0);
		bill_or_halve(ids, due->count, at, &result, &failed);
	}
}

static void
run_billing_job(void)
{
	BillingResult result = billing_run(clock_wall() - setting_billing_grace * USECS_PER_SEC);

	/* An error would undo the invoices of the others. */
	if (result.failed > 0)
		ereport(WARNING,
				errmsg(INT64_FORMAT " subscriptions could not be billed", result.failed),
				errhint("See tenancy.billing_failure."));
}

static const JobKind billing_job = {
	.name = "billing.run",
	.run = run_billing_job,
	.every_seconds = SECS_PER_HOUR,
	.description = "invoices every period that has ended",
};

void
billing_init(void)
{
	job_kind_register(&billing_job);
	subscription_init();
	invoice_init();
}

/* billing_run(at timestamptz) → TABLE(invoices bigint, lines bigint, failed bigint) */
TENANCY_FUNCTION(billing_run)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingResult result;
	Datum values[3];
	bool nulls[3] = {false};

	context_require_none("billing");
	extension_require();
	InitMaterializedSRF(fcinfo, 0);
	result = billing_run(at);
	values[0] = Int64GetDatum(result.invoices);
	values[1] = Int64GetDatum(result.lines);
	values[2] = Int64GetDatum(result.failed);
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	return (Datum) 0;
}

void
bill_subscription(const pg_uuid_t *subscription, TimestampTz at)
{
	BillingResult ignored = {0};

	bill_batch(subscription, 1, at, false, &ignored);
}
