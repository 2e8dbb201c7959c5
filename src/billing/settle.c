/*
 * billing/settle.c
 *		What is paid, credited or applied to invoices, and their states.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/money.h"
#include "core/state.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(
	invoice_for_update,
	"SELECT i.tenant_id, i.legal_entity, i.subscription_id, coalesce(i.number, i.id::text),"
	"       i.state, i.currency, i.total, i.amount_applied, i.amount_credited,"
	"       i.amount_paid, i.amount_due, coalesce(i.issued_at, '-infinity'),"
	"       coalesce(i.due_at, 'infinity')"
	"  FROM tenancy.invoice i WHERE i.id = $1 FOR UPDATE",
	UUIDOID);
GATE_STATEMENT(
	invoice_set_state,
	"UPDATE tenancy.invoice i SET state = $3, state_reason = coalesce($4, i.state_reason),"
	"       paid_at = CASE WHEN $3 = 'paid' THEN $5 END"
	" WHERE i.id = $1 AND i.state = $2",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	invoices_add,
	"UPDATE tenancy.invoice i"
	"   SET amount_applied = i.amount_applied + CASE $3 WHEN 0 THEN u.amount ELSE 0 END,"
	"       amount_credited = i.amount_credited + CASE $3 WHEN 1 THEN u.amount ELSE 0 END,"
	"       amount_paid = i.amount_paid + CASE $3 WHEN 2 THEN u.amount ELSE 0 END,"
	"       state = CASE WHEN (i.amount_due - u.amount) * pg_catalog.sign(i.total) <= 0 THEN 'paid'"
	"                    WHEN i.state = 'paid' THEN 'open' ELSE i.state END,"
	"       paid_at = CASE WHEN (i.amount_due - u.amount) * pg_catalog.sign(i.total) <= 0"
	"                      THEN coalesce(i.paid_at, $4) END"
	"  FROM unnest($1, $2) AS u(id, amount)"
	" WHERE i.id = u.id AND i.state IN ('open', 'paid', 'uncollectible')",
	UUIDARRAYOID, NUMERICARRAYOID, INT4OID, TIMESTAMPTZOID);

/* What waited for its first payment begins. */
GATE_STATEMENT(subscriptions_complete,
			   "UPDATE tenancy.subscription s"
			   "   SET state = 'active', bills_at = least(s.period_end, s.ends_at)"
			   "  FROM tenancy.invoice i"
			   " WHERE i.id = ANY ($1) AND i.state = 'paid' AND s.id = i.subscription_id"
			   "   AND s.state = 'incomplete'",
			   UUIDARRAYOID);

static const StateMove moves[] = {
	{"draft", "finalize", "open"},    {"draft", "finalize at zero", "paid"},
	{"open", "pay", "paid"},          {"paid", "take back", "open"},
	{"open", "void", "void"},         {"open", "write off", "uncollectible"},
	{"uncollectible", "pay", "paid"}, {"uncollectible", "void", "void"},
};

static StateMachine invoice_states = {
	.name = "invoice",
	.table = "tenancy.invoice",
	.moves = moves,
	.move_count = lengthof(moves),
};

void
invoice_init(void)
{
	state_machine_register(&invoice_states);
}

Invoice *
invoice_lock(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&invoice_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Invoice *invoice = palloc0(sizeof(Invoice));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(id)));
	invoice->id = *id;
	invoice->tenant = *row_uuid(rows, 0, 0);
	invoice->legal_entity = row_text(rows, 0, 1);
	invoice->subscription = row_uuid(rows, 0, 2);
	invoice->number = row_text(rows, 0, 3);
	invoice->state = row_text(rows, 0, 4);
	invoice->currency = row_text(rows, 0, 5);
	invoice->total = row_numeric(rows, 0, 6);
	invoice->amount_applied = row_numeric(rows, 0, 7);
	invoice->amount_credited = row_numeric(rows, 0, 8);
	invoice->amount_paid = row_numeric(rows, 0, 9);
	invoice->amount_due = row_numeric(rows, 0, 10);
	invoice->issued_at = row_timestamptz(rows, 0, 11);
	invoice->due_at = row_timestamptz(rows, 0, 12);
	return invoice;
}

const char *
invoice_after(const Invoice *invoice, const char *event)
{
	return state_after(&invoice_states, invoice->state, event, invoice->number);
}

void
invoice_move(Invoice *invoice, const char *event, const char *reason)
{
	const char *to = invoice_after(invoice, event);

	gate_run(&invoice_set_state, EXPECT_ONE, gate_uuid(&invoice->id), gate_text(invoice->state),
			 gate_text(to), gate_text(reason), gate_timestamptz(clock_now()));
	invoice->state = pstrdup(to);
}

/*
 * An invoice over less than nothing is settled by giving what it says.  What a credit note takes
 * off one that is paid is owed to the tenant, until a refund has taken it from what was paid.
 */
static bool
is_too_much(const Invoice *invoice, SettleKind kind, Numeric amount, Numeric due)
{
	Numeric zero = numeric_zero();

	if (numeric_compare(invoice->total, zero) < 0)
		return numeric_compare(due, zero) > 0 && numeric_compare(amount, zero) < 0;
	return numeric_compare(due, zero) < 0 && numeric_compare(amount, zero) > 0 &&
		   kind != SETTLE_CREDITED;
}

Numeric
invoice_settle(const pg_uuid_t *id, SettleKind kind, Numeric amount)
{
	Invoice *invoice = invoice_lock(id);
	Numeric due = numeric_minus(invoice->amount_due, amount);

	if (strcmp(invoice->state, "draft") == 0 || strcmp(invoice->state, "void") == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("invoice \"%s\" is %s", invoice->number, invoice->state),
				errdetail("Nothing can be settled of it."));
	if (is_too_much(invoice, kind, amount, due))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("more would be settled of invoice \"%s\" than is due", invoice->number),
				errdetail("%s %s is due, and %s would be settled.",
						  numeric_text(invoice->amount_due), invoice->currency,
						  numeric_text(amount)));
	invoices_settle(kind, id, &amount, 1);
	return due;
}

void
invoices_settle(SettleKind kind, const pg_uuid_t *invoices, const Numeric *amounts, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = NumericGetDatum(amounts[i]);
	gate_run(&invoices_add, EXPECT_ANY, gate_uuid_array(invoices, count),
			 gate_array(elements, count, NUMERICOID), gate_int32(kind),
			 gate_timestamptz(clock_now()));
	gate_run(&subscriptions_complete, EXPECT_ANY, gate_uuid_array(invoices, count));
}
