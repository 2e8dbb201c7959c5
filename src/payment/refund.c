/*
 * payment/refund.c
 *		Money that goes back: asking the provider, and what follows when it has gone.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/state.h"
#include "credit/credit.h"
#include "job/outbox.h"
#include "ledger/ledger.h"
#include "payment/payment.h"

#include "utils/builtins.h"

GATE_STATEMENT(refund_insert,
			   "INSERT INTO tenancy.refund (id, payment_id, tenant_id, credit_note_id, currency,"
			   "    amount, state, reason, requested_at, changed_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, 'requested', $7, $8, $8)",
			   UUIDOID, UUIDOID, UUIDOID, UUIDOID, TEXTOID, NUMERICOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(refund_whole_row, "SELECT r FROM tenancy.refund r WHERE r.id = $1", UUIDOID);
GATE_STATEMENT(refund_get,
			   "SELECT r.payment_id, r.credit_note_id, r.amount, r.state FROM tenancy.refund r"
			   " WHERE r.id = $1",
			   UUIDOID);
GATE_STATEMENT(refund_set,
			   "UPDATE tenancy.refund r SET state = $3, failure_code = $4,"
			   "       provider_reference = coalesce($5, r.provider_reference), changed_at = $6"
			   " WHERE r.id = $1 AND r.state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(refund_sums,
			   "SELECT coalesce(sum(r.amount) FILTER (WHERE r.state = 'succeeded'), 0),"
			   "       coalesce(sum(r.amount) FILTER (WHERE r.state IN ('requested', 'processing',"
			   "           'unknown')), 0)"
			   "  FROM tenancy.refund r WHERE r.payment_id = $1",
			   UUIDOID);
GATE_STATEMENT(refunds_under_way,
			   "SELECT r.id, r.amount FROM tenancy.refund r"
			   " WHERE r.payment_id = $1 AND r.state IN ('requested', 'processing', 'unknown')"
			   " ORDER BY r.requested_at, r.id",
			   UUIDOID);
/*
 * What a credit note has left for refunds: of what it has kept for them, and of its credit; what
 * the payment has paid of its invoice; and what is on its way already, in all and of the payment.
 */
GATE_STATEMENT(refund_credit_note,
			   "SELECT n.tenant_id, n.currency, n.invoice_id,"
			   "       n.amount_to_refund"
			   "           - coalesce((SELECT sum(e.amount) FROM tenancy.refund r"
			   "                         JOIN tenancy.ledger_transaction t"
			   "                           ON t.document_id = r.id AND t.kind = 'refund'"
			   "                         JOIN tenancy.ledger_entry e"
			   "                           ON e.transaction_id = t.id AND e.account = 'receivable'"
			   "                        WHERE r.credit_note_id = n.id AND r.state = 'succeeded'), 0),"
			   "       coalesce((SELECT sum(c.remaining) FROM tenancy.credit c"
			   "                  WHERE c.document_id = n.id), 0),"
			   "       coalesce((SELECT sum(a.amount) FROM tenancy.payment_allocation a"
			   "                  WHERE a.payment_id = $2 AND a.invoice_id = n.invoice_id), 0),"
			   "       coalesce(p.in_all, 0), coalesce(p.of_payment, 0)"
			   "  FROM tenancy.credit_note n,"
			   "       LATERAL (SELECT sum(r.amount) AS in_all,"
			   "                       sum(r.amount) FILTER (WHERE r.payment_id = $2) AS of_payment"
			   "                  FROM tenancy.refund r"
			   "                 WHERE r.credit_note_id = n.id"
			   "                   AND r.state IN ('requested', 'processing', 'unknown')) p"
			   " WHERE n.id = $1",
			   UUIDOID, UUIDOID);

static const StateMove moves[] = {
	{"requested", "process", "processing"}, {"requested", "lose sight", "unknown"},
	{"requested", "succeed", "succeeded"},  {"requested", "fail", "failed"},
	{"unknown", "process", "processing"},   {"unknown", "succeed", "succeeded"},
	{"unknown", "fail", "failed"},          {"processing", "lose sight", "unknown"},
	{"processing", "succeed", "succeeded"}, {"processing", "fail", "failed"},
	{"succeeded", "take back", "failed"},
};

static StateMachine refund_states = {
	.name = "refund",
	.table = "tenancy.refund",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const struct
{
	const char *status;
	const char *event;
} statuses[] = {
	{"processing", "process"},
	{"unknown", "lose sight"},
	{"succeeded", "succeed"},
	{"failed", "fail"},
};

/* Of one that has succeeded: the bank of the tenant would not take the money, for example. */
static const char *const taken_back = "take back";

void
refund_init(void)
{
	state_machine_register(&refund_states);
}

typedef struct Refund
{
	pg_uuid_t id;
	pg_uuid_t *credit_note; /* NULL for none */
	Numeric amount;
	char *state;
} Refund;

/* Below the lock of its payment. */
static Refund
refund_read(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&refund_get, EXPECT_ONE, gate_uuid(id));

	return (Refund){
		.id = *id,
		.credit_note = row_uuid(rows, 0, 1),
		.amount = row_numeric(rows, 0, 2),
		.state = row_text(rows, 0, 3),
	};
}

/*
 * A credit note has made the invoice one that is paid too much: it goes out of that first.  Or it
 * has made credit of what was paid: then it goes out of that.
 */
static MoneyBack
take_back(const Payment *payment, const Refund *refund)
{
	Numeric left = refund->amount;
	Numeric from_note = numeric_zero();
	Numeric from_invoice = numeric_zero();
	MoneyBack back;

	if (refund->credit_note != NULL)
	{
		GateRows *note = gate_run(&refund_credit_note, EXPECT_ONE, gate_uuid(refund->credit_note),
								  gate_uuid(&payment->id));

		from_invoice = money_back_of(payment, row_uuid(note, 0, 2),
									 numeric_smaller_of(left, row_numeric(note, 0, 3)));
		left = numeric_minus(left, from_invoice);
		from_note = credit_take_back(refund->credit_note, &refund->id, left, clock_now());
		left = numeric_minus(left, from_note);
	}
	back = money_back(payment, &refund->id, left);
	back.from_credit = numeric_plus(back.from_credit, from_note);
	back.from_invoices = numeric_plus(back.from_invoices, from_invoice);
	return back;
}

static void
succeed(const Payment *payment, const Refund *refund, const char *reference)
{
	MoneyBack back = take_back(payment, refund);
	LedgerPosting posting = {
		.kind = "refund",
		.document = refund->id,
		.tenant = payment->tenant,
		.legal_entity = payment->legal_entity,
		.currency = payment->currency,
		.effective_at = clock_now(),
	};

	gate_run(&refund_set, EXPECT_ONE, gate_uuid(&refund->id), gate_text(refund->state),
			 gate_text("succeeded"), gate_null(), gate_text(reference),
			 gate_timestamptz(clock_now()));
	ledger_debit(&posting, LEDGER_CUSTOMER_CREDIT, back.from_credit);
	ledger_debit(&posting, LEDGER_RECEIVABLE, back.from_invoices);
	ledger_debit(&posting, LEDGER_WRITE_OFF, back.from_nowhere);
	ledger_credit(&posting, LEDGER_CASH, refund->amount);
	(void) ledger_post(&posting);
}

/*
 * The money is here again: what a credit note owes is owed once more, what had become due is paid,
 * and the rest is credit, which can be refunded again.
 */
static void
come_back(Payment *payment, const Refund *refund, const char *failure_code)
{
	static const char *const made[] = {"refund"};
	LedgerPosting posting = {
		.kind = "refund_returned",
		.document = refund->id,
		.tenant = payment->tenant,
		.legal_entity = payment->legal_entity,
		.currency = payment->currency,
		.effective_at = clock_now(),
	};
	LedgerPosting was = posting;
	Numeric to_invoices;
	Numeric lost;
	Numeric credit;

	(void) ledger_add_reverse(&was, made, lengthof(made));
	to_invoices = ledger_credited(&was, LEDGER_RECEIVABLE);
	lost = ledger_credited(&was, LEDGER_WRITE_OFF);
	if (refund->credit_note != NULL)
	{
		GateRows *note = gate_run(&refund_credit_note, EXPECT_ONE, gate_uuid(refund->credit_note),
								  gate_uuid(&payment->id));

		money_again_of(payment, row_uuid(note, 0, 2), to_invoices);
	}
	else
		to_invoices = numeric_minus(to_invoices, money_again(payment, to_invoices));
	credit = numeric_minus(numeric_minus(refund->amount, to_invoices), lost);
	if (!numeric_is_zero(credit))
	{
		CreditGrant grant = {
			.tenant = payment->tenant,
			.currency = payment->currency,
			.legal_entity = payment->legal_entity,
			.source = refund->credit_note != NULL ? "credit_note" : "overpayment",
			.reason = psprintf("refund %s was returned", id_text(&refund->id)),
			.amount = credit,
			.priority = CREDIT_PRIORITY_DEFAULT,
			.expires_at = DT_NOEND,
			.document = refund->credit_note != NULL ? refund->credit_note : &payment->id,
		};

		(void) credit_grant(&grant);
	}
	ledger_debit(&posting, LEDGER_CASH, refund->amount);
	ledger_credit(&posting, LEDGER_RECEIVABLE, to_invoices);
	ledger_credit(&posting, LEDGER_WRITE_OFF, lost);
	ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, credit);
	(void) ledger_post(&posting);
	gate_run(&refund_set, EXPECT_ONE, gate_uuid(&refund->id), gate_text(refund->state),
			 gate_text("failed"), gate_text(failure_code), gate_null(),
			 gate_timestamptz(clock_now()));
	(void) payment_learn(payment, &(PaymentFacts){
									  .returned = numeric_plus(payment->returned, refund->amount),
									  .occurred_at = clock_wall(),
								  });
}

static pg_uuid_t *
insert(const Payment *payment, const pg_uuid_t *credit_note, Numeric amount, const char *reason)
{
	pg_uuid_t *id = id_new();

	gate_run(&refund_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(&payment->id),
			 gate_uuid(&payment->tenant), gate_uuid(credit_note), gate_text(payment->currency),
			 gate_numeric(amount), gate_text(reason), gate_timestamptz(clock_now()));
	return id;
}

void
refunds_reach(const Payment *payment, Numeric total)
{
	GateRows *sums = gate_run(&refund_sums, EXPECT_ONE, gate_uuid(&payment->id));
	Numeric left = numeric_minus(total, row_numeric(sums, 0, 0));
	GateRows *waiting;

	if (numeric_compare(left, numeric_zero()) <= 0)
		return;
	waiting = gate_run(&refunds_under_way, EXPECT_ANY, gate_uuid(&payment->id));
	for (int64 i = 0; i < waiting->count; i++)
	{
		Refund refund;

		if (numeric_compare(row_numeric(waiting, i, 1), left) > 0)
			continue;
		refund = refund_read(row_uuid(waiting, i, 0));
		succeed(payment, &refund, NULL);
		left = numeric_minus(left, refund.amount);
	}
	if (!numeric_is_zero(left))
	{
		Refund refund = refund_read(insert(payment, NULL, left, "made at the provider"));

		succeed(payment, &refund, NULL);
	}
}

/* What can still go back of a payment, besides refunds that are under way. */
static Numeric
refundable(const Payment *payment)
{
	GateRows *sums = gate_run(&refund_sums, EXPECT_ONE, gate_uuid(&payment->id));
	Numeric left = numeric_minus(numeric_minus(payment->captured, row_numeric(sums, 0, 0)),
								 row_numeric(sums, 0, 1));

	if (strcmp(payment->dispute_state, "open") == 0 || strcmp(payment->dispute_state, "lost") == 0)
		left = numeric_minus(left, payment->disputed);
	return numeric_positive_part(left);
}

/* What a credit note has left to be refunded of a payment of its tenant. */
static Numeric
refundable_by(const pg_uuid_t *credit_note, const Payment *payment)
{
	GateRows *rows = gate_run(&refund_credit_note, EXPECT_AT_MOST_ONE, gate_uuid(credit_note),
							  gate_uuid(&payment->id));
	Numeric kept;
	Numeric credit;
	Numeric of_payment;

	if (rows->count == 0 || !id_equal(row_uuid(rows, 0, 0), &payment->tenant) ||
		strcmp(row_text(rows, 0, 1), payment->currency) != 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("credit note \"%s\" does not exist", id_text(credit_note)),
				errdetail("The tenant of the payment has no such credit note in %s.",
						  payment->currency));
	kept = numeric_positive_part(row_numeric(rows, 0, 3));
	credit = row_numeric(rows, 0, 4);
	/* what is kept for refunds goes back of a payment of its invoice */
	of_payment = numeric_positive_part(numeric_smaller_of(kept, row_numeric(rows, 0, 5)));
	return numeric_positive_part(numeric_smaller_of(
		numeric_minus(numeric_plus(kept, credit), row_numeric(rows, 0, 6)),
		numeric_minus(numeric_plus(of_payment, credit), row_numeric(rows, 0, 7))));
}

static void
command(const Payment *payment, const pg_uuid_t *refund, Numeric amount)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_numeric(&payload, "amount", amount);
	json_put_text(&payload, "currency", payment->currency);
	json_put_text(&payload, "payment", id_text(&payment->id));
	json_put_text(&payload, "provider", payment->provider);
	json_put_text(&payload, "provider_reference", payment->reference);
	json_put_text(&payload, "refund", id_text(refund));
	(void) outbox_put(&payment->tenant, "payment.refund_requested", json_end(&payload));
}

static void
settle(Payment *payment, const Refund *refund, const char *reference)
{
	succeed(payment, refund, reference);
	(void) payment_learn(payment,
						 &(PaymentFacts){
							 .refunded = numeric_plus(
								 payment->returned,
								 row_numeric(gate_run(&refund_sums, EXPECT_ONE,
													  gate_uuid(&payment->id)),
											 0, 0)),
							 .occurred_at = clock_wall(),
						 });
}

static Datum
refund_row(const pg_uuid_t *id)
{
	return row_datum(gate_run(&refund_whole_row, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

/* payment_refund(payment uuid, amount numeric, reason text, credit_note uuid) → tenancy.refund */
TENANCY_FUNCTION(payment_refund)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "payment");
	Numeric amount = PG_ARGISNULL(1) ? NULL : required_numeric(fcinfo, 1, "amount");
	char *reason = optional_text(fcinfo, 2);
	pg_uuid_t *credit_note = optional_uuid(fcinfo, 3);
	Payment *payment;
	Numeric most;
	pg_uuid_t *refund;

	context_require_none("refunding payments");
	payment = payment_lock(id);
	most = refundable(payment);
	if (numeric_is_zero(most))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing of payment \"%s\" can be refunded", id_text(id)));
	if (credit_note != NULL)
		most = numeric_smaller_of(most, refundable_by(credit_note, payment));
	if (numeric_is_zero(most))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing of credit note \"%s\" can be refunded of payment \"%s\"",
					   id_text(credit_note), id_text(id)));
	if (amount == NULL)
		amount = most;
	if (numeric_compare(amount, numeric_zero()) <= 0 || numeric_compare(amount, most) > 0 ||
		numeric_compare(amount, money_round(amount, currency_exponent(payment->currency))) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" must be an amount of %s of at most %s",
					   payment->currency, numeric_text(most)));
	amount = money_round(amount, currency_exponent(payment->currency));

	refund = insert(payment, credit_note, amount, reason);
	if (strcmp(provider_scheme(payment->provider), "manual") == 0)
	{
		Refund made = refund_read(refund);

		settle(payment, &made, NULL);
	}
	else
		command(payment, refund, amount);
	PG_RETURN_DATUM(refund_row(refund));
}

/*
 * refund_result(refund uuid, status text, provider_reference text, failure_code text)
 *     → tenancy.refund
 */
TENANCY_FUNCTION(refund_result)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "refund");
	char *status = required_text(fcinfo, 1, "status");
	char *reference = optional_text(fcinfo, 2);
	char *failure_code = optional_text(fcinfo, 3);
	const char *event = NULL;
	GateRows *rows;
	Payment *payment;
	Refund refund;
	const char *to;

	context_require_none("refunding payments");
	for (int i = 0; i < lengthof(statuses); i++)
	{
		if (strcmp(statuses[i].status, status) == 0)
			event = statuses[i].event;
	}
	if (event == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"status\" must be \"processing\", \"unknown\", \"succeeded\" or "
					   "\"failed\""));
	rows = gate_run(&refund_get, EXPECT_AT_MOST_ONE, gate_uuid(id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("refund \"%s\" does not exist", id_text(id)));
	payment = payment_lock(row_uuid(rows, 0, 0));
	refund = refund_read(id);
	if (strcmp(refund.state, status) == 0)
		PG_RETURN_DATUM(refund_row(id));
	if (strcmp(refund.state, "succeeded") == 0 && strcmp(status, "failed") == 0)
		event = taken_back;
	to = state_after(&refund_states, refund.state, event, id_text(id));
	if (strcmp(to, "succeeded") == 0)
		settle(payment, &refund, reference);
	else if (event == taken_back)
		come_back(payment, &refund, failure_code);
	else
		gate_run(&refund_set, EXPECT_ONE, gate_uuid(id), gate_text(refund.state), gate_text(to),
				 gate_text(failure_code), gate_text(reference), gate_timestamptz(clock_now()));
	PG_RETURN_DATUM(refund_row(id));
}
