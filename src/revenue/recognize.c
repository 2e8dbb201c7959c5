/*
 * revenue/recognize.c
 *		Revenue that was billed in advance is earned as its service periods pass.
 *
 * Each line is earned in a straight line by time; the total to a moment is rounded once, and what
 * was posted before is subtracted, so that no cent is lost and the end of the period earns the
 * rest.  What a credit note takes back of a line counts from its issue on as if it had never been
 * billed: then less than nothing may be earned.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"
#include "job/kind.h"
#include "ledger/ledger.h"
#include "revenue/revenue.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define INVOICE_BATCH 1000

/*
 * Invoices with something to earn that were not looked at for that moment, and what their totals
 * come to then.
 */
GATE_STATEMENT(
	revenue_due,
	"WITH candidate AS MATERIALIZED ("
	"    SELECT i.id FROM tenancy.invoice i"
	"      LEFT JOIN tenancy.revenue_recognition r ON r.invoice_id = i.id"
	"     WHERE i.deferred <> 0 AND i.issued_at <= $1"
	"       AND i.state IN ('open', 'paid', 'uncollectible')"
	"       AND (r.invoice_id IS NULL OR r.recognized_at < $1"
	"            AND (NOT r.is_complete"
	"                 OR EXISTS (SELECT FROM tenancy.credit_note n"
	"                             WHERE n.invoice_id = i.id AND n.issued_at > r.recognized_at"
	"                               AND n.issued_at <= $1)))"
	"     ORDER BY i.id LIMIT $2)"
	" SELECT i.id, i.tenant_id, i.legal_entity, i.currency, i.number,"
	"        coalesce(r.recognized, 0),"
	"        sum(tenancy.revenue_earned(l.net - coalesce((SELECT sum(e.net)"
	"                FROM tenancy.credit_note_line e"
	"                JOIN tenancy.credit_note n ON n.id = e.credit_note_id"
	"               WHERE e.invoice_id = l.invoice_id AND e.invoice_position = l.position"
	"                 AND n.issued_at <= $1), 0),"
	"            l.period_start, l.period_end, $1, i.currency)),"
	"        max(l.period_end) <= $1"
	"   FROM candidate c JOIN tenancy.invoice i ON i.id = c.id"
	"   JOIN tenancy.invoice_line l ON l.invoice_id = i.id AND l.kind IN ('advance', 'credit')"
	"   LEFT JOIN tenancy.revenue_recognition r ON r.invoice_id = i.id"
	"  GROUP BY i.id, r.recognized ORDER BY i.id",
	TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(revenue_set,
			   "INSERT INTO tenancy.revenue_recognition AS r (invoice_id, tenant_id, recognized,"
			   "    recognized_at, is_complete)"
			   " SELECT u.i, u.t, u.a, $5, u.c FROM unnest($1, $2, $3, $4) AS u(i, t, a, c)"
			   " ON CONFLICT (invoice_id) DO UPDATE SET recognized = excluded.recognized,"
			   "    recognized_at = excluded.recognized_at, is_complete = excluded.is_complete",
			   UUIDARRAYOID, UUIDARRAYOID, NUMERICARRAYOID, BOOLARRAYOID, TIMESTAMPTZOID);
/* Two runs at once would post the same for the same time. */
GATE_STATEMENT(revenue_lock, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", TEXTOID);

/* The columns of revenue_due. */
enum
{
	DUE_INVOICE,
	DUE_TENANT,
	DUE_LEGAL_ENTITY,
	DUE_CURRENCY,
	DUE_NUMBER,
	DUE_RECOGNIZED,
	DUE_EARNED,
	DUE_IS_COMPLETE
};

static void
set_recognized(const GateRows *rows, TimestampTz at)
{
	Size size = sizeof(Datum) * Max(rows->count, 1);
	Datum *invoices = palloc(size);
	Datum *tenants = palloc(size);
	Datum *amounts = palloc(size);
	Datum *complete = palloc(size);

	for (int64 i = 0; i < rows->count; i++)
	{
		invoices[i] = row_datum(rows, i, DUE_INVOICE);
		tenants[i] = row_datum(rows, i, DUE_TENANT);
		amounts[i] = row_datum(rows, i, DUE_EARNED);
		complete[i] = row_datum(rows, i, DUE_IS_COMPLETE);
	}
	gate_run(&revenue_set, EXPECT_ANY, gate_array(invoices, rows->count, UUIDOID),
			 gate_array(tenants, rows->count, UUIDOID),
			 gate_array(amounts, rows->count, NUMERICOID),
			 gate_array(complete, rows->count, BOOLOID), gate_timestamptz(at));
}

static int64
post(const GateRows *rows, TimestampTz at)
{
	LedgerPosting *postings = palloc0(sizeof(LedgerPosting) * Max(rows->count, 1));
	/* microseconds: once for each moment */
	char *purpose = psprintf(INT64_FORMAT, at);

	for (int64 i = 0; i < rows->count; i++)
	{
		Numeric amount =
			numeric_minus(row_numeric(rows, i, DUE_EARNED), row_numeric(rows, i, DUE_RECOGNIZED));

		postings[i] = (LedgerPosting){
			.kind = "recognition",
			.document = *row_uuid(rows, i, DUE_INVOICE),
			.purpose = purpose,
			.tenant = *row_uuid(rows, i, DUE_TENANT),
			.legal_entity = row_text(rows, i, DUE_LEGAL_ENTITY),
			.currency = row_text(rows, i, DUE_CURRENCY),
			.effective_at = at,
			.description = row_text(rows, i, DUE_NUMBER),
		};
		ledger_debit(&postings[i], LEDGER_DEFERRED, amount);
		ledger_credit(&postings[i], LEDGER_REVENUE, amount);
	}
	return ledger_post_many(postings, rows->count);
}

int64
revenue_recognize(TimestampTz at)
{
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "revenue batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	int64 total = 0;

	gate_run(&revenue_lock, EXPECT_ANY, gate_text("pg_tenancy revenue"));
	for (;;)
	{
		GateRows *rows =
			gate_run(&revenue_due, EXPECT_ANY, gate_timestamptz(at), gate_int32(INVOICE_BATCH));

		if (rows->count == 0)
			break;
		total += post(rows, at);
		set_recognized(rows, at);
		MemoryContextReset(batch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
	return total;
}

static char *
run_recognition_job(void)
{
	return psprintf("{\"invoices\": " INT64_FORMAT "}", revenue_recognize(clock_wall()));
}

static const JobKind recognition_job = {
	.name = "revenue.recognize",
	.run = run_recognition_job,
	.every_seconds = SECS_PER_DAY,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "posts what was billed in advance and has been earned",
};

void
revenue_init(void)
{
	job_kind_register(&recognition_job);
}

/* revenue_recognize(at timestamptz) → bigint */
TENANCY_FUNCTION(revenue_recognize)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");

	context_require_none("recognizing revenue");
	PG_RETURN_INT64(revenue_recognize(at));
}

/*
 * tenancy.revenue_earned(amount numeric, period_start timestamptz, period_end timestamptz,
 *     at timestamptz, currency text) → numeric
 */
TENANCY_FUNCTION(revenue_earned)
{
	Numeric amount = required_numeric(fcinfo, 0, "amount");
	TimestampTz period_start = required_timestamptz(fcinfo, 1, "period_start");
	TimestampTz period_end = required_timestamptz(fcinfo, 2, "period_end");
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(3);
	char *currency = required_text(fcinfo, 4, "currency");

	if (at >= period_end)
		PG_RETURN_NUMERIC(amount);
	if (at <= period_start)
		PG_RETURN_NUMERIC(numeric_zero());
	PG_RETURN_NUMERIC(money_ratio(numeric_times(amount, numeric_from_int(at - period_start)),
								  numeric_from_int(period_end - period_start),
								  currency_exponent(currency)));
}
