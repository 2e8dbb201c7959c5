/*
 * billing/invoice.c
 *		Single invoices: drafting, finalizing, voiding and explaining them.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/state.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rangetypes.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

GATE_STATEMENT(invoice_whole_row, "SELECT i FROM tenancy.invoice i WHERE i.id = $1", UUIDOID);
GATE_STATEMENT(invoice_of_period,
			   "SELECT i.id FROM tenancy.invoice i"
			   " WHERE i.tenant_id = $1 AND i.period_start = $2 AND i.period_end = $3"
			   "   AND i.state <> 'void'",
			   UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(subscription_next,
			   "SELECT s.id, tenancy.period_boundary(s.starts_at, s.next_period, p.billing_period, "
			   "s.time_zone),"
			   "       least(s.ends_at, tenancy.period_boundary(s.starts_at, s.next_period + 1,"
			   "                                                p.billing_period, s.time_zone))"
			   "  FROM tenancy.subscription s"
			   "  JOIN tenancy.plan_price p ON p.plan = s.plan AND p.version = s.price_version AND "
			   "p.currency = s.currency"
			   " WHERE s.tenant_id = $1 AND s.state <> 'ended'",
			   UUIDOID);
GATE_STATEMENT(invoice_for_update,
			   "SELECT i.state, coalesce(i.number, i.id::text), i.total FROM tenancy.invoice i"
			   " WHERE i.id = $1 FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(invoice_void_of_period,
			   "SELECT i.subscription_id, i.id FROM tenancy.invoice i"
			   " WHERE i.tenant_id = $1 AND i.period_start = $2 AND i.period_end = $3"
			   "   AND i.state = 'void'"
			   " ORDER BY i.id DESC LIMIT 1",
			   UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	invoice_number_all,
	"WITH ready AS ("
	"    SELECT i.id, pg_catalog.row_number() OVER (ORDER BY i.period_start, i.id) AS place"
	"      FROM tenancy.invoice i WHERE i.id = ANY ($1) AND i.state = 'draft'),"
	" taken AS ("
	"    INSERT INTO tenancy.invoice_series AS n (name, next_number)"
	"    SELECT $2, 1 + pg_catalog.count(*) FROM ready HAVING pg_catalog.count(*) > 0"
	"    ON CONFLICT (name) DO UPDATE SET next_number = n.next_number + excluded.next_number - 1"
	"    RETURNING n.next_number - (SELECT pg_catalog.count(*) FROM ready) AS first),"
	" issued AS ("
	"    UPDATE tenancy.invoice AS i"
	"       SET number = pg_catalog.format('%s-%s', $2,"
	"               pg_catalog.lpad((t.first + r.place - 1)::text,"
	"                   greatest(6, pg_catalog.length((t.first + r.place - 1)::text)), '0')),"
	"           state = CASE WHEN i.total = 0 THEN 'paid' ELSE 'open' END,"
	"           paid_at = CASE WHEN i.total = 0 THEN $3 END,"
	"           issued_at = $3, due_at = $3 + interval '14 days'"
	"      FROM ready r, taken t WHERE r.id = i.id"
	"    RETURNING i.currency, i.line_count, i.total)"
	" SELECT s.currency, pg_catalog.count(*), pg_catalog.sum(s.line_count), pg_catalog.sum(s.total)"
	"   FROM issued s GROUP BY s.currency ORDER BY s.currency",
	UUIDARRAYOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(invoice_set_state,
			   "UPDATE tenancy.invoice SET state = $2, state_reason = $3 WHERE id = $1", UUIDOID,
			   TEXTOID, TEXTOID);
GATE_LOOKUP(invoice_lines,
			"SELECT l.position, l.description, l.quantity, l.unit, l.amount, l.trace, i.currency,"
			"       i.tenant_id"
			"  FROM tenancy.invoice i LEFT JOIN tenancy.invoice_line l ON l.invoice_id = i.id"
			" WHERE i.id = $1 ORDER BY l.position",
			UUIDOID);

static const StateMove moves[] = {
	{"draft", "finalize", "open"},
	{"draft", "finalize at zero", "paid"},
	{"open", "pay", "paid"},
	{"open", "void", "void"},
	{"open", "write off", "uncollectible"},
	{"uncollectible", "pay", "paid"},
	{"uncollectible", "void", "void"},
};

static StateMachine invoice_states = {
	.name = "invoice",
	.table = "tenancy.invoice",
	.moves = moves,
	.move_count = lengthof(moves),
};

#define SERIES "INV"

void
invoice_init(void)
{
	state_machine_register(&invoice_states);
}

Datum
invoice_row(const pg_uuid_t *invoice)
{
	return row_datum(gate_run(&invoice_whole_row, EXPECT_ONE, gate_uuid(invoice)), 0, 0);
}

static GateRows *
lock_invoice(const pg_uuid_t *invoice)
{
	GateRows *rows = gate_run(&invoice_for_update, EXPECT_AT_MOST_ONE, gate_uuid(invoice));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(invoice)));
	return rows;
}

static void
read_period(FunctionCallInfo fcinfo, int n, TimestampTz *starts, TimestampTz *ends)
{
	RangeType *range = PG_GETARG_RANGE_P(n);
	RangeBound lower;
	RangeBound upper;
	bool is_empty;

	range_deserialize(lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO), range,
					  &lower, &upper, &is_empty);
	if (is_empty || lower.infinite || upper.infinite || !lower.inclusive || upper.inclusive)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"period\" must be a bounded range [start, end)"));
	*starts = DatumGetTimestampTz(lower.val);
	*ends = DatumGetTimestampTz(upper.val);
}

/* invoice_generate(tenant regtenant, period tstzrange) → tenancy.invoice */
TENANCY_FUNCTION(invoice_generate)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	GateRows *next;
	GateRows *found;
	GateRows *voided;
	TimestampTz starts = 0;
	TimestampTz ends = 0;

	context_require_none("billing");
	(void) registry_get(tenant);
	if (!PG_ARGISNULL(1))
	{
		read_period(fcinfo, 1, &starts, &ends);
		found = gate_run(&invoice_of_period, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
						 gate_timestamptz(starts), gate_timestamptz(ends));
		if (found->count == 1)
			PG_RETURN_DATUM(invoice_row(row_uuid(found, 0, 0)));
		voided = gate_run(&invoice_void_of_period, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
						  gate_timestamptz(starts), gate_timestamptz(ends));
		if (voided->count == 1)
		{
			bill_period_again(row_uuid(voided, 0, 0), row_uuid(voided, 0, 1));
			found = gate_run(&invoice_of_period, EXPECT_ONE, gate_uuid(tenant),
							 gate_timestamptz(starts), gate_timestamptz(ends));
			PG_RETURN_DATUM(invoice_row(row_uuid(found, 0, 0)));
		}
	}

	next = gate_run(&subscription_next, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (next->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no subscription", registry_slug(tenant)));
	if (!PG_ARGISNULL(1) &&
		(row_timestamptz(next, 0, 1) != starts || row_timestamptz(next, 0, 2) != ends))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the period is not the next one to be billed"),
				errdetail("That is from %s to %s.",
						  pstrdup(timestamptz_to_str(row_timestamptz(next, 0, 1))),
						  pstrdup(timestamptz_to_str(row_timestamptz(next, 0, 2)))));
	starts = row_timestamptz(next, 0, 1);
	ends = row_timestamptz(next, 0, 2);
	if (ends > clock_now())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing is due for tenant \"%s\"", registry_slug(tenant)),
				errdetail("Its period ends at %s.", timestamptz_to_str(ends)));

	bill_subscription(row_uuid(next, 0, 0), ends);
	found = gate_run(&invoice_of_period, EXPECT_ONE, gate_uuid(tenant), gate_timestamptz(starts),
					 gate_timestamptz(ends));
	PG_RETURN_DATUM(invoice_row(row_uuid(found, 0, 0)));
}

GateRows *
invoices_finalize(NullableDatum ids)
{
	return gate_run(&invoice_number_all, EXPECT_ANY, ids, gate_text(SERIES),
					gate_timestamptz(clock_now()));
}

/* invoice_finalize(invoice uuid) → tenancy.invoice */
TENANCY_FUNCTION(invoice_finalize)
{
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	GateRows *rows = lock_invoice(invoice);
	Datum id = UUIDPGetDatum(invoice);

	(void) state_after(&invoice_states, row_text(rows, 0, 0),
					   numeric_is_zero(row_numeric(rows, 0, 2)) ? "finalize at zero" : "finalize",
					   row_text(rows, 0, 1));
	(void) invoices_finalize(gate_datum(
		PointerGetDatum(construct_array(&id, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR))));
	PG_RETURN_DATUM(invoice_row(invoice));
}

/* invoice_void(invoice uuid, reason text) → tenancy.invoice */
TENANCY_FUNCTION(invoice_void)
{
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	char *reason = required_text(fcinfo, 1, "reason");
	GateRows *rows = lock_invoice(invoice);

	gate_run(
		&invoice_set_state, EXPECT_ONE, gate_uuid(invoice),
		gate_text(state_after(&invoice_states, row_text(rows, 0, 0), "void", row_text(rows, 0, 1))),
		gate_text(reason));
	PG_RETURN_DATUM(invoice_row(invoice));
}

static char *
or_text(Numeric value, const char *when_null)
{
	return value != NULL ? numeric_text(value) : pstrdup(when_null);
}

/* Why the line says what it says, as a sentence. */
static char *
explain_line(const GateRows *rows, int64 row)
{
	char *description = row_text(rows, row, 1);
	char *amount = numeric_text(row_numeric(rows, row, 4));
	char *currency = row_text(rows, row, 6);
	Jsonb *trace = row_jsonb(rows, row, 5);
	char *rule = json_text(trace, "rule");

	if (strcmp(rule, "base") == 0 && numeric_compare(json_numeric(trace, "seconds_billed"),
													 json_numeric(trace, "seconds_of_period")) == 0)
		return psprintf("%s: %s for the whole period = %s %s.", description,
						or_text(json_numeric(trace, "price"), "0"), amount, currency);
	if (strcmp(rule, "base") == 0)
		return psprintf("%s: %s for the period, of which %s of %s seconds are billed: %s %s.",
						description, or_text(json_numeric(trace, "price"), "0"),
						numeric_text(json_numeric(trace, "seconds_billed")),
						numeric_text(json_numeric(trace, "seconds_of_period")), amount, currency);
	if (strcmp(rule, "overage") == 0)
		return psprintf("%s: %s of metric \"%s\" were used and %s are included in plan \"%s\"; "
						"%s × %s = %s %s.",
						description, or_text(json_numeric(trace, "used"), "0"),
						json_text(trace, "metric"), or_text(json_numeric(trace, "included"), "all"),
						json_text(trace, "plan"), numeric_text(row_numeric(rows, row, 2)),
						or_text(json_numeric(trace, "price"), "0"), amount, currency);
	return psprintf("%s: %s of metric \"%s\" were used, priced by the tiers of plan \"%s\": %s %s.",
					description, or_text(json_numeric(trace, "used"), "0"),
					json_text(trace, "metric"), json_text(trace, "plan"), amount, currency);
}

/* invoice_explain(invoice uuid) → SETOF text */
TENANCY_FUNCTION(invoice_explain)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	GateRows *rows = gate_run(&invoice_lines, EXPECT_ANY, gate_uuid(invoice));

	if (rows->count == 0 || !tenant_is_visible(row_uuid(rows, 0, 7)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(invoice)));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int64 i = 0; i < rows->count; i++)
	{
		Datum sentence;
		bool isnull = false;

		if (row_is_null(rows, i, 0))
			continue;
		sentence = CStringGetTextDatum(explain_line(rows, i));
		tuplestore_putvalues(result->setResult, result->setDesc, &sentence, &isnull);
	}
	return (Datum) 0;
}
