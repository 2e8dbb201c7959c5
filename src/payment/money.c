/*
 * payment/money.c
 *		Where money goes that comes in, and where it is taken from when it goes back.
 *
 * A payment pays the invoice that it was asked for, or the oldest that are due; what is too much
 * becomes credit of the tenant.  What goes back comes from that credit first, then from the
 * invoices, the last first, which are due again, and at last from the invoices that have used
 * the credit.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"
#include "credit/credit.h"
#include "ledger/ledger.h"
#include "payment/payment.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

GATE_STATEMENT(invoices_to_pay,
			   "SELECT i.id, i.amount_due, i.state FROM tenancy.invoice i"
			   " WHERE i.tenant_id = $1 AND i.currency = $2 AND i.legal_entity = $3"
			   "   AND i.state IN ('open', 'uncollectible') AND i.amount_due > 0"
			   "   AND ($4 IS NULL OR i.id = $4)"
			   " ORDER BY i.state, i.due_at, i.number, i.id FOR UPDATE",
			   UUIDOID, TEXTOID, TEXTOID, UUIDOID);
GATE_STATEMENT(payment_allocation_insert,
			   "INSERT INTO tenancy.payment_allocation (id, payment_id, invoice_id, tenant_id,"
			   "    amount, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
			   UUIDOID, UUIDOID, UUIDOID, UUIDOID, NUMERICOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_allocated,
			   "SELECT a.invoice_id, sum(a.amount) FROM tenancy.payment_allocation a"
			   " WHERE a.payment_id = $1 GROUP BY a.invoice_id HAVING sum(a.amount) > 0"
			   " ORDER BY max(a.created_at) DESC, a.invoice_id DESC",
			   UUIDOID);
GATE_STATEMENT(invoices_lock,
			   "SELECT FROM tenancy.invoice i WHERE i.id = ANY ($1) ORDER BY i.id FOR UPDATE",
			   UUIDARRAYOID);

static void
put_allocation(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	gate_run(&payment_allocation_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(&payment->id),
			 gate_uuid(invoice), gate_uuid(&payment->tenant), gate_numeric(amount),
			 gate_timestamptz(clock_now()));
}

static void
give(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	put_allocation(payment, invoice, amount);
	(void) invoice_settle(invoice, SETTLE_PAID, amount);
	dunning_heard_settlement(invoice);
}

static LedgerPosting
posting_of(const Payment *payment, const char *kind, const pg_uuid_t *document)
{
	return (LedgerPosting){
		.kind = kind,
		.document = *document,
		.tenant = payment->tenant,
		.legal_entity = payment->legal_entity,
		.currency = payment->currency,
		.effective_at = clock_now(),
		.description = payment->reference,
	};
}

/* What had been given up is owed again, for a moment, and paid. */
static void
recover(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	LedgerPosting posting = posting_of(payment, "recovery", invoice);

	posting.purpose = id_text(id_new());
	ledger_debit(&posting, LEDGER_RECEIVABLE, amount);
	ledger_credit(&posting, LEDGER_WRITE_OFF, amount);
	(void) ledger_post(&posting);
}

/* The opposite: what goes back of an invoice that is given up is given up, too. */
static void
give_up(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	LedgerPosting posting = posting_of(payment, "write_off", invoice);

	posting.purpose = id_text(id_new());
	ledger_debit(&posting, LEDGER_WRITE_OFF, amount);
	ledger_credit(&posting, LEDGER_RECEIVABLE, amount);
	(void) ledger_post(&posting);
}

/* Pay invoices, in their order, of an amount; what is left of it. */
static Numeric
pay_invoices(const Payment *payment, const GateRows *invoices, Numeric amount)
{
	for (int64 i = 0; i < invoices->count && !numeric_is_zero(amount); i++)
	{
		pg_uuid_t *invoice = row_uuid(invoices, i, 0);
		Numeric part = numeric_smaller_of(row_numeric(invoices, i, 1), amount);

		if (strcmp(row_text(invoices, i, 2), "uncollectible") == 0)
			recover(payment, invoice, part);
		give(payment, invoice, part);
		amount = numeric_minus(amount, part);
	}
	return amount;
}

static void
keep_as_credit(const Payment *payment, Numeric amount)
{
	CreditGrant grant = {
		.tenant = payment->tenant,
		.currency = payment->currency,
		.legal_entity = payment->legal_entity,
		.source = "overpayment",
		.reason = payment->reference != NULL ? payment->reference : "paid too much",
		.amount = amount,
		.priority = CREDIT_PRIORITY_DEFAULT,
		.expires_at = DT_NOEND,
		.document = &payment->id,
	};

	(void) credit_grant(&grant);
}

Numeric
money_again(const Payment *payment, Numeric amount)
{
	return pay_invoices(payment,
						gate_run(&invoices_to_pay, EXPECT_ANY, gate_uuid(&payment->tenant),
								 gate_text(payment->currency), gate_text(payment->legal_entity),
								 gate_uuid(payment->invoice)),
						amount);
}

void
money_in(const Payment *payment, Numeric amount)
{
	LedgerPosting posting = posting_of(payment, "payment", &payment->id);
	Numeric left = money_again(payment, amount);

	if (!numeric_is_zero(left))
		keep_as_credit(payment, left);
	/* more may come in for the same payment */
	posting.purpose = numeric_text(payment->captured);
	ledger_debit(&posting, LEDGER_CASH, amount);
	ledger_credit(&posting, LEDGER_RECEIVABLE, numeric_minus(amount, left));
	ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, left);
	(void) ledger_post(&posting);
}

void
money_again_of(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	if (numeric_is_zero(amount))
		return;
	if (strcmp(invoice_lock(invoice)->state, "uncollectible") == 0)
		recover(payment, invoice, amount);
	put_allocation(payment, invoice, amount);
	invoices_settle(SETTLE_PAID, invoice, &amount, 1);
	dunning_heard_settlement(invoice);
}

/* All invoices that the money may be taken from, in the order of their ids. */
static void
lock_invoices(const GateRows *allocated, const pg_uuid_t *users, int user_count)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * (allocated->count + user_count + 1));
	int count = 0;

	for (int64 i = 0; i < allocated->count; i++)
		ids[count++] = *row_uuid(allocated, i, 0);
	for (int i = 0; i < user_count; i++)
		ids[count++] = users[i];
	gate_run(&invoices_lock, EXPECT_ANY, gate_uuid_array(ids, count));
}

static void
take_from_invoice(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	if (strcmp(invoice_lock(invoice)->state, "uncollectible") == 0)
		give_up(payment, invoice, amount);
	give(payment, invoice, numeric_negate(amount));
}

static Numeric
take_from_invoices(const Payment *payment, const GateRows *allocated, Numeric amount)
{
	Numeric left = amount;

	for (int64 i = 0; i < allocated->count && !numeric_is_zero(left); i++)
	{
		Numeric part = numeric_smaller_of(row_numeric(allocated, i, 1), left);

		take_from_invoice(payment, row_uuid(allocated, i, 0), part);
		left = numeric_minus(left, part);
	}
	return numeric_minus(amount, left);
}

Numeric
money_back_of(const Payment *payment, const pg_uuid_t *invoice, Numeric amount)
{
	GateRows *allocated = gate_run(&payment_allocated, EXPECT_ANY, gate_uuid(&payment->id));

	for (int64 i = 0; i < allocated->count; i++)
	{
		Numeric part = numeric_smaller_of(row_numeric(allocated, i, 1), amount);

		if (!id_equal(row_uuid(allocated, i, 0), invoice) || numeric_is_zero(part))
			continue;
		take_from_invoice(payment, invoice, part);
		return part;
	}
	return numeric_zero();
}

static Numeric
take_from_users(const Payment *payment, const pg_uuid_t *document, Numeric amount)
{
	int count;
	Numeric reclaimed;
	CreditReclaim *taken =
		credit_reclaim(&payment->id, document, amount, clock_now(), &count, &reclaimed);

	for (int i = 0; i < count; i++)
	{
		if (strcmp(invoice_lock(&taken[i].invoice)->state, "uncollectible") == 0)
			give_up(payment, &taken[i].invoice, taken[i].amount);
		(void) invoice_settle(&taken[i].invoice, SETTLE_APPLIED, numeric_negate(taken[i].amount));
		dunning_heard_settlement(&taken[i].invoice);
	}
	return reclaimed;
}

MoneyBack
money_back(const Payment *payment, const pg_uuid_t *document, Numeric amount)
{
	int user_count;
	pg_uuid_t *users = credit_users(&payment->id, &user_count);
	GateRows *allocated = gate_run(&payment_allocated, EXPECT_ANY, gate_uuid(&payment->id));
	MoneyBack back;

	lock_invoices(allocated, users, user_count);
	back.from_credit = credit_take_back(&payment->id, document, amount, clock_now());
	amount = numeric_minus(amount, back.from_credit);
	back.from_invoices = take_from_invoices(payment, allocated, amount);
	amount = numeric_minus(amount, back.from_invoices);
	if (!numeric_is_zero(amount) && user_count > 0)
	{
		Numeric reclaimed = take_from_users(payment, document, amount);

		back.from_credit = numeric_plus(back.from_credit, reclaimed);
		amount = numeric_minus(amount, reclaimed);
	}
	back.from_nowhere = amount;
	return back;
}

/* credit_use(invoice uuid) → tenancy.invoice */
TENANCY_FUNCTION(credit_use)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "invoice");
	Invoice *invoice;
	CreditDemand demand;

	context_require_none("using credit");
	payment_lock_tenant_of(id);
	invoice = invoice_lock(id);
	if (strcmp(invoice->state, "open") != 0 ||
		numeric_compare(invoice->amount_due, numeric_zero()) <= 0)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("nothing is due of invoice \"%s\": it is %s", invoice->number, invoice->state));
	demand = (CreditDemand){
		.document = *id,
		.tenant = invoice->tenant,
		.legal_entity = invoice->legal_entity,
		.currency = invoice->currency,
		.due = invoice->amount_due,
	};
	if (credit_apply_many(&demand, 1, clock_now()) > 0)
	{
		(void) invoice_settle(id, SETTLE_APPLIED, demand.applied);
		dunning_heard_settlement(id);
	}
	PG_RETURN_DATUM(invoice_row(id));
}
