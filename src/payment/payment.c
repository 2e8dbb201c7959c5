/*
 * payment/payment.c
 *		Asking for money, and being told of it.
 *
 * Collecting is two-phase: the attempt is written with the command for the provider, as an event
 * of the outbox, in the caller's transaction; who carries commands out says payment_result(), or
 * the provider's webhook does.  While an attempt may still succeed nobody makes another.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "job/outbox.h"
#include "payment/payment.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/* As strong as an update, so that payments of one tenant come one after the other. */
GATE_STATEMENT(payment_tenant_lock,
			   "SELECT FROM tenancy.tenant t WHERE t.id = $1 FOR NO KEY UPDATE", UUIDOID);
GATE_STATEMENT(payment_tenant, "SELECT p.tenant_id FROM tenancy.payment p WHERE p.id = $1",
			   UUIDOID);
GATE_STATEMENT(payment_for_update,
			   "SELECT p.tenant_id, p.legal_entity, p.invoice_id, p.payment_method_id, p.provider,"
			   "       p.provider_reference, p.currency, p.amount, p.state, p.captured, p.refunded,"
			   "       p.disputed, p.dispute_state, p.attempt, p.failure_code,"
			   "       coalesce(p.failed_at, '-infinity'), p.returned"
			   "  FROM tenancy.payment p WHERE p.id = $1 FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(payment_whole_row, "SELECT p FROM tenancy.payment p WHERE p.id = $1", UUIDOID);
GATE_STATEMENT(payment_insert,
			   "INSERT INTO tenancy.payment (id, tenant_id, legal_entity, invoice_id,"
			   "    payment_method_id, provider, provider_reference, currency, amount, state,"
			   "    attempt, requested_at, changed_at)"
			   " SELECT $1, $2, $3, $4, m.id, coalesce($6, m.provider), $7, $8, $9, 'requested',"
			   "        (SELECT count(*) FROM tenancy.payment p WHERE p.invoice_id = $4) + 1, $10,"
			   "        $10"
			   "   FROM (SELECT $5::uuid AS wanted) w"
			   "   LEFT JOIN tenancy.payment_method m ON m.id = w.wanted"
			   " RETURNING provider, attempt,"
			   "    (SELECT m.token FROM tenancy.payment_method m WHERE m.id = $5)",
			   UUIDOID, UUIDOID, TEXTOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID,
			   TIMESTAMPTZOID);
GATE_STATEMENT(payment_live,
			   "SELECT p.id, p.state, p.provider, p.provider_reference FROM tenancy.payment p"
			   " WHERE p.invoice_id = $1 AND p.state IN ('requested', 'processing', 'unknown')",
			   UUIDOID);
GATE_STATEMENT(payment_by_reference,
			   "SELECT p.id, p.tenant_id, p.captured, p.currency FROM tenancy.payment p"
			   " WHERE p.provider = $1 AND p.provider_reference = $2",
			   TEXTOID, TEXTOID);
GATE_STATEMENT(payment_account,
			   "SELECT coalesce(a.legal_entity, 'default'),"
			   "       (SELECT s.currency FROM tenancy.subscription s WHERE s.tenant_id = t.id"
			   "         ORDER BY s.state = 'ended', s.created_at DESC LIMIT 1)"
			   "  FROM tenancy.tenant t"
			   "  LEFT JOIN tenancy.billing_account a ON a.tenant_id = t.id"
			   " WHERE t.id = $1",
			   UUIDOID);

GATE_STATEMENT(payment_invoice_tenant, "SELECT i.tenant_id FROM tenancy.invoice i WHERE i.id = $1",
			   UUIDOID);

void
payment_lock_tenant(const pg_uuid_t *tenant)
{
	if (gate_run(&payment_tenant_lock, EXPECT_AT_MOST_ONE, gate_uuid(tenant))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(tenant)));
}

Datum
payment_row(const pg_uuid_t *id)
{
	return row_datum(gate_run(&payment_whole_row, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

Payment *
payment_lock(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&payment_tenant, EXPECT_AT_MOST_ONE, gate_uuid(id));
	Payment *payment = palloc(sizeof(Payment));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("payment \"%s\" does not exist", id_text(id)));
	payment_lock_tenant(row_uuid(rows, 0, 0));
	rows = gate_run(&payment_for_update, EXPECT_ONE, gate_uuid(id));
	*payment = (Payment){
		.id = *id,
		.tenant = *row_uuid(rows, 0, 0),
		.legal_entity = row_text(rows, 0, 1),
		.invoice = row_uuid(rows, 0, 2),
		.method = row_uuid(rows, 0, 3),
		.provider = row_text(rows, 0, 4),
		.reference = row_text(rows, 0, 5),
		.currency = row_text(rows, 0, 6),
		.amount = row_numeric(rows, 0, 7),
		.state = row_text(rows, 0, 8),
		.captured = row_numeric(rows, 0, 9),
		.refunded = row_numeric(rows, 0, 10),
		.disputed = row_numeric(rows, 0, 11),
		.dispute_state = row_text(rows, 0, 12),
		.attempt = row_int32(rows, 0, 13),
		.failure_code = row_text(rows, 0, 14),
		.failed_at = row_timestamptz(rows, 0, 15),
		.returned = row_numeric(rows, 0, 16),
	};
	return payment;
}

static void
refuse_second(const pg_uuid_t *invoice)
{
	GateRows *live = gate_run(&payment_live, EXPECT_AT_MOST_ONE, gate_uuid(invoice));

	if (live->count > 0)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("a payment of invoice \"%s\" is under way", id_text(invoice)),
			errdetail("Payment \"%s\" is %s.", id_text(row_uuid(live, 0, 0)), row_text(live, 0, 1)),
			errhint("Its outcome must be known before another is tried."));
}

static Numeric
require_money(Numeric amount, const char *currency, const char *name)
{
	int exponent = currency_exponent(currency);

	if (numeric_compare(amount, numeric_zero()) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must be positive", name));
	if (numeric_compare(amount, money_round(amount, exponent)) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" has more than %d decimals, which is what %s has", name,
					   exponent, currency));
	return money_round(amount, exponent);
}

/* The command for who talks to the provider; the id of the payment is the idempotency key. */
static void
command(const pg_uuid_t *payment, const Invoice *invoice, Numeric amount, const GateRows *inserted)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_numeric(&payload, "amount", amount);
	json_put_int64(&payload, "attempt", row_int32(inserted, 0, 1));
	json_put_text(&payload, "currency", invoice->currency);
	json_put_text(&payload, "invoice", id_text(&invoice->id));
	json_put_text(&payload, "number", invoice->number);
	json_put_text(&payload, "payment", id_text(payment));
	json_put_text(&payload, "provider", row_text(inserted, 0, 0));
	json_put_text(&payload, "token", row_text(inserted, 0, 2));
	(void) outbox_put(&invoice->tenant, "payment.requested", json_end(&payload));
}

pg_uuid_t *
payment_request(const pg_uuid_t *id, const pg_uuid_t *method, Numeric amount)
{
	Invoice *invoice = invoice_lock(id);
	pg_uuid_t *payment = id_new();
	pg_uuid_t *by;
	GateRows *inserted;

	if ((strcmp(invoice->state, "open") != 0 && strcmp(invoice->state, "uncollectible") != 0) ||
		numeric_compare(invoice->amount_due, numeric_zero()) <= 0)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("nothing is due of invoice \"%s\": it is %s", invoice->number, invoice->state));
	refuse_second(id);
	by = method_find(&invoice->tenant, method);
	if (by == NULL)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("the tenant of invoice \"%s\" has no default payment method", invoice->number));
	if (amount == NULL)
		amount = invoice->amount_due;
	else if (numeric_compare(require_money(amount, invoice->currency, "amount"),
							 invoice->amount_due) > 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" is more than is due"),
				errdetail("%s %s is due.", numeric_text(invoice->amount_due), invoice->currency));
	inserted = gate_run(
		&payment_insert, EXPECT_ONE, gate_uuid(payment), gate_uuid(&invoice->tenant),
		gate_text(invoice->legal_entity), gate_uuid(id), gate_uuid(by), gate_null(), gate_null(),
		gate_text(invoice->currency), gate_numeric(amount), gate_timestamptz(clock_now()));
	command(payment, invoice, amount, inserted);
	return payment;
}

void
payment_lock_tenant_of(const pg_uuid_t *invoice)
{
	GateRows *rows = gate_run(&payment_invoice_tenant, EXPECT_AT_MOST_ONE, gate_uuid(invoice));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(invoice)));
	payment_lock_tenant(row_uuid(rows, 0, 0));
}

/* payment_process(invoice uuid, payment_method uuid, amount numeric) → tenancy.payment */
TENANCY_FUNCTION(payment_process)
{
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	pg_uuid_t *method = optional_uuid(fcinfo, 1);
	Numeric amount = PG_ARGISNULL(2) ? NULL : required_numeric(fcinfo, 2, "amount");

	context_require_none("processing payments");
	payment_lock_tenant_of(invoice);
	PG_RETURN_DATUM(payment_row(payment_request(invoice, method, amount)));
}

static void
read_status(PaymentFacts *facts, const char *status, const Payment *payment, Numeric amount)
{
	if (strcmp(status, "processing") == 0)
		facts->is_processing = true;
	else if (strcmp(status, "unknown") == 0)
		facts->is_unknown = true;
	else if (strcmp(status, "failed") == 0)
		facts->is_failed = true;
	else if (strcmp(status, "succeeded") == 0)
		facts->captured = amount != NULL ? amount : payment->amount;
	else
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"status\" must be \"processing\", \"unknown\", \"succeeded\" or "
					   "\"failed\""));
	if (amount != NULL && facts->captured == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" is for payments that succeeded"));
}

/*
 * payment_result(payment uuid, status text, provider_reference text, amount numeric,
 *                failure_code text, failure_message text) → tenancy.payment
 */
TENANCY_FUNCTION(payment_result)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "payment");
	char *status = required_text(fcinfo, 1, "status");
	Payment *payment;
	Numeric amount = NULL;
	PaymentFacts facts = {
		.reference = optional_text(fcinfo, 2),
		.failure_code = optional_text(fcinfo, 4),
		.failure_message = optional_text(fcinfo, 5),
		.occurred_at = clock_wall(),
	};

	context_require_none("processing payments");
	payment = payment_lock(id);
	if (!PG_ARGISNULL(3))
		amount = require_money(required_numeric(fcinfo, 3, "amount"), payment->currency, "amount");
	read_status(&facts, status, payment, amount);
	(void) payment_learn(payment, &facts);
	PG_RETURN_DATUM(payment_row(id));
}

/* The row of a receipt that is new: that of the attempt it answers, or one of its own. */
static pg_uuid_t *
receipt_payment(const pg_uuid_t *tenant, const Invoice *invoice, const char *legal_entity,
				const char *provider, const char *currency, Numeric amount)
{
	pg_uuid_t *id = id_new();

	if (invoice != NULL)
	{
		GateRows *live = gate_run(&payment_live, EXPECT_AT_MOST_ONE, gate_uuid(&invoice->id));

		if (live->count > 0 && strcmp(row_text(live, 0, 2), provider) == 0 &&
			row_is_null(live, 0, 3))
			return row_uuid(live, 0, 0);
	}
	gate_run(&payment_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(tenant), gate_text(legal_entity),
			 gate_uuid(invoice == NULL ? NULL : &invoice->id), gate_null(), gate_text(provider),
			 gate_null(), gate_text(currency), gate_numeric(amount), gate_timestamptz(clock_now()));
	return id;
}

static void
require_same_receipt(const GateRows *known, const pg_uuid_t *tenant, const char *currency,
					 Numeric amount, const char *reference)
{
	if (!id_equal(row_uuid(known, 0, 1), tenant) ||
		numeric_compare(row_numeric(known, 0, 2), amount) != 0 ||
		(currency != NULL && strcmp(row_text(known, 0, 3), currency) != 0))
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("receipt \"%s\" was recorded otherwise", reference),
				errdetail("%s %s came in with it.", numeric_text(row_numeric(known, 0, 2)),
						  row_text(known, 0, 3)));
}

/*
 * payment_record(tenant regtenant, amount numeric, reference text, invoice uuid, currency text,
 *                provider text) → tenancy.payment
 */
TENANCY_FUNCTION(payment_record)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	Numeric amount = required_numeric(fcinfo, 1, "amount");
	char *reference = required_text(fcinfo, 2, "reference");
	pg_uuid_t *invoice_id = optional_uuid(fcinfo, 3);
	char *currency = optional_text(fcinfo, 4);
	char *provider = required_text(fcinfo, 5, "provider");
	char *legal_entity;
	Invoice *invoice = NULL;
	GateRows *known;
	GateRows *account;
	Payment *payment;

	context_require_none("recording payments");
	if (strcmp(provider_scheme(provider), "manual") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("payment provider \"%s\" tells of payments by webhooks", provider));
	payment_lock_tenant(tenant);
	known = gate_run(&payment_by_reference, EXPECT_AT_MOST_ONE, gate_text(provider),
					 gate_text(reference));
	if (known->count > 0)
	{
		require_same_receipt(known, tenant, currency, amount, reference);
		PG_RETURN_DATUM(payment_row(row_uuid(known, 0, 0)));
	}

	account = gate_run(&payment_account, EXPECT_ONE, gate_uuid(tenant));
	legal_entity = row_text(account, 0, 0);
	if (invoice_id != NULL)
	{
		invoice = invoice_lock(invoice_id);
		if (!id_equal(&invoice->tenant, tenant))
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("invoice \"%s\" does not exist", id_text(invoice_id)),
					errdetail("The tenant has no such invoice."));
		if (currency != NULL && strcmp(currency, invoice->currency) != 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invoice \"%s\" is in %s", invoice->number, invoice->currency));
		currency = invoice->currency;
		legal_entity = invoice->legal_entity;
	}
	else if (currency == NULL)
		currency = row_text(account, 0, 1);
	if (currency == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"currency\" must not be null"),
				errdetail("The tenant has no subscription that names one."));
	amount = require_money(amount, currency, "amount");
	payment =
		payment_lock(receipt_payment(tenant, invoice, legal_entity, provider, currency, amount));
	(void) payment_learn(
		payment,
		&(PaymentFacts){.captured = amount, .reference = reference, .occurred_at = clock_wall()});
	PG_RETURN_DATUM(payment_row(&payment->id));
}

/* payment_dispute(payment uuid, status text, amount numeric) → tenancy.payment */
TENANCY_FUNCTION(payment_dispute)
{
	static const char *const names[] = {"open", "won", "lost"};
	pg_uuid_t *id = required_uuid(fcinfo, 0, "payment");
	char *status = required_text(fcinfo, 1, "status");
	PaymentFacts facts = {.occurred_at = clock_wall()};
	Payment *payment;

	context_require_none("processing payments");
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], status) == 0)
			facts.dispute = DISPUTE_OPEN + i;
	}
	if (facts.dispute == DISPUTE_NONE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"status\" must be \"open\", \"won\" or \"lost\""));
	payment = payment_lock(id);
	if (numeric_is_zero(payment->captured))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing came in with payment \"%s\"", id_text(id)));
	if (!PG_ARGISNULL(2))
	{
		facts.disputed =
			require_money(required_numeric(fcinfo, 2, "amount"), payment->currency, "amount");
		if (numeric_compare(facts.disputed, payment->captured) > 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"amount\" is more than came in"));
	}
	(void) payment_learn(payment, &facts);
	PG_RETURN_DATUM(payment_row(id));
}

void
payment_init(void)
{
	payment_facts_init();
	refund_init();
	dunning_init();
}
