/*
 * payment/webhook.c
 *		What providers tell by webhooks.
 *
 * The signature is checked over the body as it came; the event is claimed by its id in the same
 * transaction as its effect, so that a second delivery finds it, or waits for the first.  What it
 * says is turned into facts; facts.c knows what follows.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "payment/payment.h"
#include "payment/signature.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#define LONGEST_BODY (1024 * 1024)
#define LONGEST_EVENT_ID 255

GATE_LOOKUP(payment_secrets,
			"SELECT s.secret FROM tenancy.payment_provider_secret s"
			" WHERE s.provider = $1 AND (s.expires_at IS NULL OR s.expires_at > $2)",
			TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_event_claim,
			   "INSERT INTO tenancy.payment_event (provider, event_id, type, outcome, facts,"
			   "    received_at) VALUES ($1, $2, $3, 'ignored', $4, $5)"
			   " ON CONFLICT (provider, event_id) DO NOTHING",
			   TEXTOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_event_set,
			   "UPDATE tenancy.payment_event e SET payment_id = $3, outcome = $4"
			   " WHERE e.provider = $1 AND e.event_id = $2",
			   TEXTOID, TEXTOID, UUIDOID, TEXTOID);
GATE_STATEMENT(payment_event_whole_row,
			   "SELECT e FROM tenancy.payment_event e WHERE e.provider = $1 AND e.event_id = $2",
			   TEXTOID, TEXTOID);
GATE_STATEMENT(payment_of_event,
			   "SELECT p.id FROM tenancy.payment p"
			   " WHERE p.provider = $1 AND (p.id = $2 OR p.provider_reference = $3)"
			   " ORDER BY p.id = $2 DESC NULLS LAST LIMIT 1",
			   TEXTOID, UUIDOID, TEXTOID);

/* What an event says, in our words. */
typedef struct WebhookEvent
{
	char *id;
	char *type;
	char *payment;   /* our id, as the provider hands it back; NULL where it does not */
	char *reference; /* the provider's */
	char *currency;  /* in upper case; NULL where none is told */
	bool is_about_payment;
	PaymentFacts facts;
} WebhookEvent;

pg_noreturn static void refuse(const char *provider, const char *why);

static void
refuse(const char *provider, const char *why)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			errmsg("webhook of payment provider \"%s\" is refused", provider),
			errdetail("It is not proved to be of the provider: %s.", why));
}

static void
check_signature(const char *provider, const Webhook *webhook)
{
	GateRows *rows =
		gate_run(&payment_secrets, EXPECT_ANY, gate_text(provider), gate_timestamptz(webhook->at));
	const char **secrets = palloc(sizeof(char *) * Max(rows->count, 1));
	const char *fault;

	for (int64 i = 0; i < rows->count; i++)
		secrets[i] = row_text(rows, i, 0);
	if (rows->count == 0)
		refuse(provider, "it has no secret");
	fault = signature_fault(webhook, secrets, rows->count);
	if (fault != NULL)
		refuse(provider, fault);
}

/* A member in minor units as an amount; NULL where there is none. */
static Numeric
stripe_amount(const Jsonb *object, const char *member, const char *currency)
{
	Numeric minor = json_numeric(object, member);

	return minor == NULL || currency == NULL ? NULL : money_from_minor(minor, currency, "stripe");
}

static char *
in_upper_case(char *text)
{
	for (char *c = text; c != NULL && *c != '\0'; c++)
		*c = pg_toupper((unsigned char) *c);
	return text;
}

static void
stripe_intent(WebhookEvent *event, const Jsonb *object)
{
	Jsonb *error = json_member(object, "last_payment_error");

	event->reference = json_text(object, "id");
	if (strcmp(event->type, "payment_intent.succeeded") == 0)
		event->facts.captured = stripe_amount(object, "amount_received", event->currency);
	else if (strcmp(event->type, "payment_intent.processing") == 0)
		event->facts.is_processing = true;
	else
		event->facts.is_failed = true;
	if (strcmp(event->type, "payment_intent.canceled") == 0)
		event->facts.failure_code = "canceled";
	else if (event->facts.is_failed && error != NULL)
	{
		char *decline = json_text(error, "decline_code");

		event->facts.failure_code = decline != NULL ? decline : json_text(error, "code");
		event->facts.failure_message = json_text(error, "message");
	}
}

static void
stripe_charge(WebhookEvent *event, const Jsonb *object)
{
	event->reference = json_text(object, "payment_intent");
	event->facts.captured = stripe_amount(object, "amount_captured", event->currency);
	event->facts.refunded = stripe_amount(object, "amount_refunded", event->currency);
}

static void
stripe_dispute(WebhookEvent *event, const Jsonb *object)
{
	char *status = json_text(object, "status");

	event->reference = json_text(object, "payment_intent");
	event->facts.disputed = stripe_amount(object, "amount", event->currency);
	event->facts.dispute = DISPUTE_OPEN;
	if (strcmp(event->type, "charge.dispute.closed") == 0 && status != NULL)
		event->facts.dispute = strcmp(status, "lost") == 0 ? DISPUTE_LOST : DISPUTE_WON;
}

static const struct
{
	const char *type;
	void (*read)(WebhookEvent *event, const Jsonb *object);
} stripe_types[] = {
	{"charge.dispute.closed", stripe_dispute},
	{"charge.dispute.created", stripe_dispute},
	{"charge.refunded", stripe_charge},
	{"payment_intent.canceled", stripe_intent},
	{"payment_intent.payment_failed", stripe_intent},
	{"payment_intent.processing", stripe_intent},
	{"payment_intent.succeeded", stripe_intent},
};

static void
read_stripe(WebhookEvent *event, const Jsonb *document)
{
	Jsonb *data = json_member(document, "data");
	Jsonb *object = data == NULL ? NULL : json_member(data, "object");
	Jsonb *metadata = object == NULL ? NULL : json_member(object, "metadata");
	Numeric created = json_numeric(document, "created");

	event->id = json_text(document, "id");
	if (object == NULL || created == NULL)
		return;
	event->payment = metadata == NULL ? NULL : json_text(metadata, "payment");
	event->currency = in_upper_case(json_text(object, "currency"));
	event->facts.occurred_at = time_t_to_timestamptz(
		DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(created))));
	for (int i = 0; i < lengthof(stripe_types); i++)
	{
		if (strcmp(stripe_types[i].type, event->type) != 0)
			continue;
		event->is_about_payment = true;
		stripe_types[i].read(event, object);
	}
}

/* The types of a provider that speaks Standard Webhooks, and what each says. */
static void
read_standard(WebhookEvent *event, const Jsonb *document)
{
	Jsonb *data = json_member(document, "data");
	char *time = json_text(document, "timestamp");
	Numeric amount;

	if (data == NULL || strncmp(event->type, "payment.", 8) != 0)
		return;
	event->payment = json_text(data, "payment");
	event->reference = json_text(data, "reference");
	event->currency = json_text(data, "currency");
	event->facts.failure_code = json_text(data, "code");
	event->facts.failure_message = json_text(data, "message");
	if (time != NULL)
		event->facts.occurred_at = DatumGetTimestampTz(
			DirectFunctionCall3(timestamptz_in, CStringGetDatum(time), ObjectIdGetDatum(InvalidOid),
								Int32GetDatum(-1)));
	amount = json_numeric(data, "amount");
	if (amount == NULL && json_text(data, "amount") != NULL)
		amount = numeric_from_text(json_text(data, "amount"));
	event->is_about_payment = true;
	if (strcmp(event->type, "payment.succeeded") == 0)
		event->facts.captured = amount;
	else if (strcmp(event->type, "payment.refunded") == 0)
		event->facts.refunded = amount;
	else if (strcmp(event->type, "payment.processing") == 0)
		event->facts.is_processing = true;
	else if (strcmp(event->type, "payment.failed") == 0)
		event->facts.is_failed = true;
	else if (strcmp(event->type, "payment.disputed") == 0)
		event->facts.dispute = DISPUTE_OPEN;
	else if (strcmp(event->type, "payment.dispute_won") == 0)
		event->facts.dispute = DISPUTE_WON;
	else if (strcmp(event->type, "payment.dispute_lost") == 0)
		event->facts.dispute = DISPUTE_LOST;
	else
		event->is_about_payment = false;
	if (event->facts.dispute != DISPUTE_NONE)
		event->facts.disputed = amount;
}

static WebhookEvent
read_event(const char *provider, const Webhook *webhook)
{
	Jsonb *document = json_parse(webhook->body);
	WebhookEvent event = {.facts.occurred_at = webhook->at};

	if (!JB_ROOT_IS_OBJECT(document) || (event.type = json_text(document, "type")) == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("webhook of payment provider \"%s\" is no event with a \"type\"", provider));
	if (strcmp(webhook->scheme, "stripe") == 0)
		read_stripe(&event, document);
	else
	{
		event.id = webhook_header(webhook->headers, "webhook-id");
		read_standard(&event, document);
	}
	if (event.id == NULL || *event.id == '\0' || strlen(event.id) > LONGEST_EVENT_ID)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("webhook of payment provider \"%s\" has no id", provider));
	return event;
}

static Jsonb *
facts_document(const WebhookEvent *event)
{
	static const char *const disputes[] = {NULL, "open", "won", "lost"};
	JsonBuilder facts;

	json_begin(&facts);
	json_put_numeric(&facts, "captured", event->facts.captured);
	json_put_text(&facts, "currency", event->currency);
	json_put_text(&facts, "dispute", disputes[event->facts.dispute]);
	json_put_numeric(&facts, "disputed", event->facts.disputed);
	json_put_text(&facts, "failure_code", event->facts.failure_code);
	json_put_text(&facts, "payment", event->payment);
	json_put_text(&facts, "reference", event->reference);
	json_put_numeric(&facts, "refunded", event->facts.refunded);
	return json_end(&facts);
}

/* The payment that the event is about, locked; NULL where it is none of ours. */
static Payment *
find_payment(const char *provider, const WebhookEvent *event)
{
	bool has_id = event->payment != NULL && id_is_shaped(event->payment);
	GateRows *rows;
	Payment *payment;

	rows =
		gate_run(&payment_of_event, EXPECT_AT_MOST_ONE, gate_text(provider),
				 gate_uuid(has_id ? id_parse(event->payment) : NULL), gate_text(event->reference));
	if (rows->count == 0)
		return NULL;
	payment = payment_lock(row_uuid(rows, 0, 0));
	return event->currency == NULL || strcmp(event->currency, payment->currency) == 0 ? payment
																					  : NULL;
}

static const char *
apply(const char *provider, WebhookEvent *event, pg_uuid_t **payment_id)
{
	Payment *payment = find_payment(provider, event);
	bool is_success = strcmp(event->type, "payment.succeeded") == 0 ||
					  strcmp(event->type, "payment_intent.succeeded") == 0;

	if (payment == NULL)
		return "unmatched";
	*payment_id = &payment->id;
	event->facts.reference = event->reference;
	if (is_success && event->facts.captured == NULL)
		event->facts.captured = payment->amount;
	if (strcmp(event->type, "payment.refunded") == 0 && event->facts.refunded == NULL)
		event->facts.refunded = payment->amount;
	return payment_learn(payment, &event->facts) ? "applied" : "stale";
}

/* payment_webhook(provider text, body text, headers jsonb) → tenancy.payment_event */
TENANCY_FUNCTION(payment_webhook)
{
	char *provider = required_text(fcinfo, 0, "provider");
	Webhook webhook = {.body = required_text(fcinfo, 1, "body"), .at = clock_wall()};
	WebhookEvent event;

	context_require_none("receiving webhooks");
	require_argument(fcinfo, 2, "headers");
	webhook.headers = PG_GETARG_JSONB_P(2);
	webhook.scheme = provider_scheme(provider);
	if (strcmp(webhook.scheme, "manual") == 0)
		refuse(provider, "it sends no webhooks");
	if (!JB_ROOT_IS_OBJECT(webhook.headers))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"headers\" must be a JSON object"));
	if (strlen(webhook.body) > LONGEST_BODY)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"body\" is longer than %d bytes", LONGEST_BODY));
	check_signature(provider, &webhook);
	event = read_event(provider, &webhook);
	if (gate_run(&payment_event_claim, EXPECT_AT_MOST_ONE, gate_text(provider), gate_text(event.id),
				 gate_text(event.type), gate_jsonb(facts_document(&event)),
				 gate_timestamptz(webhook.at))
				->count > 0 &&
		event.is_about_payment)
	{
		pg_uuid_t *payment = NULL;
		const char *outcome = apply(provider, &event, &payment);

		gate_run(&payment_event_set, EXPECT_ONE, gate_text(provider), gate_text(event.id),
				 gate_uuid(payment), gate_text(outcome));
	}
	PG_RETURN_DATUM(row_datum(
		gate_run(&payment_event_whole_row, EXPECT_ONE, gate_text(provider), gate_text(event.id)), 0,
		0));
}

/*
 * tenancy.webhook_fault(scheme text, secret text, body text, headers jsonb, at timestamptz) → text
 */
TENANCY_FUNCTION(webhook_fault)
{
	char *scheme = required_text(fcinfo, 0, "scheme");
	const char *secret = required_text(fcinfo, 1, "secret");
	Webhook webhook = {
		.scheme = scheme,
		.body = required_text(fcinfo, 2, "body"),
		.headers = PG_GETARG_JSONB_P(3),
		.at = required_timestamptz(fcinfo, 4, "at"),
	};
	const char *fault;

	if (strcmp(scheme, "stripe") != 0 && strcmp(scheme, "standard") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"scheme\" must be \"standard\" or \"stripe\""));
	fault = signature_fault(&webhook, &secret, 1);
	if (fault == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(fault));
}
