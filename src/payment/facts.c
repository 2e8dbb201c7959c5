/*
 * payment/facts.c
 *		What becomes of a payment: facts in, state out.
 *
 * Webhooks come twice, late and in any order, beside what the worker that asked the provider has
 * to say.  So the state is not moved step by step but follows from all that is known: amounts
 * only grow to the largest total heard of, a dispute only goes forward, and money that came in
 * outweighs every failure.  Whatever order the facts come in, they end in the same place.  The
 * moves that this makes are those of the state machine below, which raises if one is not.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/state.h"
#include "job/outbox.h"
#include "ledger/ledger.h"
#include "payment/payment.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(payment_set,
			   "UPDATE tenancy.payment p SET state = $3, captured = $4, refunded = $5,"
			   "       disputed = $6, dispute_state = $7, failure_code = $8, failure_message ="
			   "       CASE WHEN p.failed_at IS DISTINCT FROM nullif($10, '-infinity') THEN $9"
			   "            ELSE p.failure_message END,"
			   "       failed_at = nullif($10, '-infinity'),"
			   "       provider_reference = coalesce(p.provider_reference, $11), changed_at = $12,"
			   "       returned = $13"
			   " WHERE p.id = $1 AND p.state = $2",
			   UUIDOID, TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, NUMERICOID, TEXTOID, TEXTOID,
			   TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, NUMERICOID);

static const StateMove moves[] = {
	{"requested", "process", "processing"}, {"requested", "lose sight", "unknown"},
	{"requested", "succeed", "succeeded"},  {"requested", "fail", "failed"},
	{"requested", "refund", "refunded"},    {"requested", "dispute", "disputed"},
	{"unknown", "process", "processing"},   {"unknown", "succeed", "succeeded"},
	{"unknown", "fail", "failed"},          {"unknown", "refund", "refunded"},
	{"unknown", "dispute", "disputed"},     {"processing", "succeed", "succeeded"},
	{"processing", "fail", "failed"},       {"processing", "refund", "refunded"},
	{"processing", "dispute", "disputed"},  {"failed", "succeed", "succeeded"},
	{"failed", "refund", "refunded"},       {"failed", "dispute", "disputed"},
	{"succeeded", "refund", "refunded"},    {"succeeded", "dispute", "disputed"},
	{"refunded", "dispute", "disputed"},    {"refunded", "succeed", "succeeded"},
	{"disputed", "succeed", "succeeded"},   {"disputed", "refund", "refunded"},
};

static StateMachine payment_states = {
	.name = "payment",
	.table = "tenancy.payment",
	.moves = moves,
	.move_count = lengthof(moves),
};

/* The event that leads to each state, and what is told of it. */
static const struct
{
	const char *state;
	const char *event;
	const char *type; /* NULL: nobody is told */
} arrivals[] = {
	{"processing", "process", NULL},
	{"unknown", "lose sight", "payment.unknown"},
	{"succeeded", "succeed", "payment.succeeded"},
	{"failed", "fail", "payment.failed"},
	{"refunded", "refund", "payment.refunded"},
	{"disputed", "dispute", "payment.disputed"},
};

static const EventType event_types[] = {
	{"invoice.payment_asked", 1, "a text for the tenant: all that is overdue in a currency"},
	{"invoice.reminder", 1, "a text for the tenant: an invoice is due, or more"},
	{"payment.disputed", 1, "the tenant disputes a payment: the provider holds it back"},
	{"payment.failed", 1, "an attempt to collect has failed"},
	{"payment.refund_requested", 1,
	 "a command: give back what \"amount\" says, once per \"refund\""},
	{"payment.refunded", 1, "all of a payment went back"},
	{"payment.requested", 1, "a command: collect what \"amount\" says, once per \"payment\""},
	{"payment.succeeded", 1, "money came in"},
	{"payment.unknown", 1, "a command: find out what has become of a payment"},
};

static const char *const dispute_names[] = {
	[DISPUTE_NONE] = "none",
	[DISPUTE_OPEN] = "open",
	[DISPUTE_WON] = "won",
	[DISPUTE_LOST] = "lost",
};

void
payment_facts_init(void)
{
	state_machine_register(&payment_states);
	event_types_register(event_types, lengthof(event_types));
}

static DisputeState
dispute_from_name(const char *name)
{
	for (int i = 0; i < lengthof(dispute_names); i++)
	{
		if (strcmp(dispute_names[i], name) == 0)
			return i;
	}
	elog(ERROR, "there is no dispute state \"%s\"", name);
}

static bool
is_positive(Numeric amount)
{
	return numeric_compare(amount, numeric_zero()) > 0;
}

static const char *
failure_code_of(const PaymentFacts *facts)
{
	return facts->failure_code != NULL ? facts->failure_code : "unspecified";
}

/* The last failure counts; of two at the same time it does not matter which, but always the same.
 */
static bool
is_later_failure(const Payment *before, const PaymentFacts *facts)
{
	if (facts->occurred_at != before->failed_at)
		return facts->occurred_at > before->failed_at;
	return strcmp(failure_code_of(facts), before->failure_code) > 0;
}

/* What is disputed: all, where nobody has said how much. */
static Numeric
disputed_by(const Payment *before, const PaymentFacts *facts, Numeric captured)
{
	if (facts->disputed != NULL)
		return numeric_larger_of(before->disputed, facts->disputed);
	return is_positive(before->disputed) ? before->disputed : captured;
}

/* What is known after the facts: the totals, without their effects. */
static Payment
add_facts(const Payment *before, const PaymentFacts *facts)
{
	Payment after = *before;
	DisputeState dispute = dispute_from_name(before->dispute_state);

	if (facts->captured != NULL)
		after.captured = numeric_larger_of(before->captured, facts->captured);
	/* what goes back, or is disputed, has come in */
	if ((facts->refunded != NULL && is_positive(facts->refunded)) || facts->dispute != DISPUTE_NONE)
	{
		if (!is_positive(after.captured))
			after.captured = before->amount;
	}
	if (facts->dispute > dispute)
		dispute = facts->dispute;
	after.dispute_state = pstrdup(dispute_names[dispute]);
	if (facts->dispute != DISPUTE_NONE)
		after.disputed =
			numeric_smaller_of(disputed_by(before, facts, after.captured), after.captured);
	if (facts->refunded != NULL)
	{
		Numeric most = after.captured;

		if (dispute == DISPUTE_LOST)
			most = numeric_minus(most, after.disputed);
		after.refunded =
			numeric_larger_of(before->refunded,
							  numeric_smaller_of(numeric_minus(facts->refunded, before->returned),
												 most));
	}
	if (facts->returned != NULL && numeric_compare(facts->returned, before->returned) > 0)
	{
		after.returned = facts->returned;
		after.refunded = numeric_positive_part(numeric_minus(
			after.refunded, numeric_minus(facts->returned, before->returned)));
	}
	if (facts->is_failed && is_later_failure(before, facts))
	{
		after.failure_code = pstrdup(failure_code_of(facts));
		after.failed_at = facts->occurred_at;
	}
	if (after.reference == NULL && facts->reference != NULL)
		after.reference = pstrdup(facts->reference);
	return after;
}

/* The state that follows from what is known. */
static const char *
state_of(const Payment *after, const PaymentFacts *facts)
{
	DisputeState dispute = dispute_from_name(after->dispute_state);

	if (dispute == DISPUTE_OPEN || dispute == DISPUTE_LOST)
		return "disputed";
	if (is_positive(after->captured))
		return numeric_compare(after->refunded, after->captured) == 0 ? "refunded" : "succeeded";
	if (after->failure_code != NULL)
		return "failed";
	if (facts->is_processing || strcmp(after->state, "processing") == 0)
		return "processing";
	if (facts->is_unknown)
		return "unknown";
	return after->state;
}

static void
tell(const Payment *payment, const char *type)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_numeric(&payload, "amount", payment->amount);
	json_put_int64(&payload, "attempt", payment->attempt);
	json_put_numeric(&payload, "captured", payment->captured);
	json_put_text(&payload, "currency", payment->currency);
	json_put_text(&payload, "failure_code", payment->failure_code);
	json_put_text(&payload, "invoice", payment->invoice == NULL ? NULL : id_text(payment->invoice));
	json_put_text(&payload, "payment", id_text(&payment->id));
	json_put_text(&payload, "provider", payment->provider);
	json_put_text(&payload, "provider_reference", payment->reference);
	json_put_numeric(&payload, "refunded", payment->refunded);
	(void) outbox_put(&payment->tenant, type, json_end(&payload));
}

static LedgerPosting
dispute_posting(const Payment *payment, const char *kind)
{
	return (LedgerPosting){
		.kind = kind,
		.document = payment->id,
		.tenant = payment->tenant,
		.legal_entity = payment->legal_entity,
		.currency = payment->currency,
		.effective_at = clock_now(),
		.description = payment->reference,
	};
}

/*
 * While a dispute is open the provider has the money; when it is lost the tenant has, and what
 * the money had paid is due again.
 */
static void
post_dispute(const Payment *before, const Payment *after)
{
	DisputeState from = dispute_from_name(before->dispute_state);
	DisputeState to = dispute_from_name(after->dispute_state);
	Numeric held = from == DISPUTE_OPEN ? before->disputed : numeric_zero();
	LedgerPosting posting;

	if (from == to && (to == DISPUTE_NONE || numeric_compare(held, after->disputed) == 0))
		return;
	switch (to)
	{
		case DISPUTE_NONE:
			return;
		case DISPUTE_OPEN:
			posting = dispute_posting(after, "dispute");
			posting.purpose = numeric_text(after->disputed);
			ledger_debit(&posting, LEDGER_DISPUTED, numeric_minus(after->disputed, held));
			ledger_credit(&posting, LEDGER_CASH, numeric_minus(after->disputed, held));
			break;
		case DISPUTE_WON:
			if (from == DISPUTE_WON)
				return;
			posting = dispute_posting(after, "dispute_won");
			ledger_debit(&posting, LEDGER_CASH, held);
			ledger_credit(&posting, LEDGER_DISPUTED, held);
			break;
		case DISPUTE_LOST:
		{
			MoneyBack back;

			if (from == DISPUTE_LOST)
				return;
			back = money_back(after, &after->id,
							  numeric_smaller_of(after->disputed,
												 numeric_minus(after->captured, after->refunded)));
			posting = dispute_posting(after, "dispute_lost");
			ledger_debit(&posting, LEDGER_CUSTOMER_CREDIT, back.from_credit);
			ledger_debit(&posting, LEDGER_RECEIVABLE, back.from_invoices);
			ledger_debit(&posting, LEDGER_WRITE_OFF, back.from_nowhere);
			ledger_credit(&posting, LEDGER_DISPUTED, held);
			ledger_credit(
				&posting, LEDGER_CASH,
				numeric_minus(numeric_plus(numeric_plus(back.from_credit, back.from_invoices),
										   back.from_nowhere),
							  held));
			break;
		}
	}
	(void) ledger_post(&posting);
}

static bool
is_same(const Payment *before, const Payment *after)
{
	return strcmp(before->state, after->state) == 0 &&
		   strcmp(before->dispute_state, after->dispute_state) == 0 &&
		   numeric_compare(before->captured, after->captured) == 0 &&
		   numeric_compare(before->refunded, after->refunded) == 0 &&
		   numeric_compare(before->returned, after->returned) == 0 &&
		   numeric_compare(before->disputed, after->disputed) == 0 &&
		   before->failed_at == after->failed_at && before->failure_code == after->failure_code &&
		   (before->reference == NULL) == (after->reference == NULL);
}

static void
write(const Payment *before, const Payment *after, const PaymentFacts *facts)
{
	gate_run(&payment_set, EXPECT_ONE, gate_uuid(&after->id), gate_text(before->state),
			 gate_text(after->state), gate_numeric(after->captured), gate_numeric(after->refunded),
			 gate_numeric(after->disputed), gate_text(after->dispute_state),
			 gate_text(after->failure_code), gate_text(facts->failure_message),
			 gate_timestamptz(after->failed_at), gate_text(after->reference),
			 gate_timestamptz(clock_now()), gate_numeric(after->returned));
}

static void
arrive(const Payment *before, const Payment *after)
{
	for (int i = 0; i < lengthof(arrivals); i++)
	{
		if (strcmp(arrivals[i].state, after->state) != 0)
			continue;
		(void) state_after(&payment_states, before->state, arrivals[i].event, id_text(&after->id));
		if (arrivals[i].type != NULL)
			tell(after, arrivals[i].type);
	}
}

bool
payment_learn(Payment *payment, const PaymentFacts *facts)
{
	Payment before = *payment;
	Payment after = add_facts(&before, facts);

	after.state = pstrdup(state_of(&after, facts));
	if (is_same(&before, &after))
		return false;
	write(&before, &after, facts);
	*payment = after;
	if (numeric_compare(after.captured, before.captured) > 0)
		money_in(&after, numeric_minus(after.captured, before.captured));
	if (numeric_compare(after.refunded, before.refunded) > 0)
		refunds_reach(&after, after.refunded);
	post_dispute(&before, &after);
	if (strcmp(before.state, after.state) != 0)
		arrive(&before, &after);
	if (strcmp(after.state, "failed") == 0 && strcmp(before.state, "failed") != 0)
		dunning_heard_failure(&after);
	return true;
}
