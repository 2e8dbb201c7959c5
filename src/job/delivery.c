/*
 * job/delivery.c
 *		Delivering events to endpoints, as Standard Webhooks 1.0 says.
 *
 * A delivery is a job, so that leases, retries, fairness, the dead letter and the replay are
 * those of jobs.  2xx is success and all else is not, redirects included; 410 disables the
 * endpoint; Retry-After is honoured.  The event's id is the receiver's idempotency key.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/address.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "job/endpoint.h"
#include "job/queue_internal.h"
#include "job/signature.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#define STATUS_GONE 410
#define MS_PER_SECOND 1000
/* Nobody may keep a delivery for longer than this. */
#define LONGEST_RETRY_AFTER_SECONDS SECS_PER_DAY

GATE_STATEMENT(
	delivery_subscribers,
	"SELECT n.id, n.tenant_id, p.id FROM unnest($2, $3) AS n(id, tenant_id)"
	"  JOIN tenancy.endpoint p ON p.enabled"
	"       AND (p.tenant_id IS NULL OR p.tenant_id = n.tenant_id)"
	" WHERE EXISTS (SELECT FROM unnest(p.event_types) AS t(pattern)"
	"                WHERE t.pattern IN ('*', $1)"
	"                   OR t.pattern LIKE '%.*'"
	"                      AND pg_catalog.starts_with($1, pg_catalog.left(t.pattern, -1)))",
	TEXTOID, UUIDARRAYOID, UUIDARRAYOID);
GATE_STATEMENT(delivery_event,
			   "SELECT e.type, e.version, e.tenant_id, e.payload, e.created_at, p.url, p.enabled"
			   "  FROM tenancy.outbox_event e, tenancy.endpoint p WHERE e.id = $1 AND p.id = $2",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(delivery_keys,
			   "SELECT k.scheme, k.secret FROM tenancy.endpoint_key k"
			   " WHERE k.endpoint_id = $1 AND (k.expires_at IS NULL OR k.expires_at > $2)"
			   " ORDER BY k.id DESC",
			   UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(endpoint_disable,
			   "UPDATE tenancy.endpoint p SET enabled = false, disabled_reason = $2"
			   " WHERE p.id = $1",
			   UUIDOID, TEXTOID);

/* Retry schedule of the specification, "Deliverability and reliability": the first is at once. */
static const JobKind webhook_kind = {
	.name = WEBHOOK_KIND,
	.has_own_worker = true,
	.timeout_seconds = 2 * SECS_PER_MINUTE,
	.retry = "{\"delays_seconds\": [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]}",
	.description = "delivers an event to an endpoint",
};

void
endpoint_init(void)
{
	job_kind_register(&webhook_kind);
}

static Jsonb *
delivery_arguments(const pg_uuid_t *event, const pg_uuid_t *endpoint)
{
	JsonBuilder builder;

	json_begin(&builder);
	json_put_text(&builder, "event", id_text(event));
	json_put_text(&builder, "endpoint", id_text(endpoint));
	return json_end(&builder);
}

void
endpoint_deliver(const char *type, const NullableDatum *ids, const NullableDatum *tenants)
{
	GateRows *rows = gate_run(&delivery_subscribers, EXPECT_ANY, gate_text(type), *ids, *tenants);
	const pg_uuid_t **owners;
	const Jsonb **arguments;

	if (rows->count == 0)
		return;
	owners = palloc(sizeof(pg_uuid_t *) * rows->count);
	arguments = palloc(sizeof(Jsonb *) * rows->count);
	for (int64 i = 0; i < rows->count; i++)
	{
		owners[i] = row_uuid(rows, i, 1);
		arguments[i] = delivery_arguments(row_uuid(rows, i, 0), row_uuid(rows, i, 2));
	}
	job_put_many(WEBHOOK_KIND, owners, arguments, (int) rows->count);
}

/* Encrypted anywhere that is public; what is allowed besides, also in clear. */
static bool
may_connect(const struct sockaddr *address, bool is_encrypted)
{
	return (is_encrypted && address_is_public(address)) || address_is_allowed(address);
}

static char *
body_of(const GateRows *event)
{
	JsonBuilder builder;
	Jsonb *body;
	pg_uuid_t *tenant = row_uuid(event, 0, 2);

	json_begin(&builder);
	json_put_text(&builder, "type", row_text(event, 0, 0));
	json_put_int64(&builder, "version", row_int32(event, 0, 1));
	json_put_time(&builder, "timestamp", row_timestamptz(event, 0, 4));
	json_put_text(&builder, "tenant_id", tenant == NULL ? NULL : id_text(tenant));
	json_put_jsonb(&builder, "data", row_jsonb(event, 0, 3));
	body = json_end(&builder);
	return JsonbToCString(NULL, &body->root, VARSIZE(body));
}

static const char *const *
headers_of(const pg_uuid_t *endpoint, const char *event, const char *body)
{
	TimestampTz now = clock_wall();
	int64 timestamp = clock_unix_milliseconds(now) / MS_PER_SECOND;
	GateRows *keys =
		gate_run(&delivery_keys, EXPECT_ANY, gate_uuid(endpoint), gate_timestamptz(now));
	const char **headers = palloc0(sizeof(char *) * 8);
	StringInfoData signatures;

	initStringInfo(&signatures);
	for (int64 i = 0; i < keys->count; i++)
		appendStringInfo(&signatures, "%s%s", i > 0 ? " " : "",
						 signature_make(signature_scheme(row_text(keys, i, 0)),
										DatumGetByteaPP(row_datum(keys, i, 1)), event, timestamp,
										body));
	headers[0] = "Content-Type: application/json";
	headers[1] = "User-Agent: pg_tenancy";
	headers[2] = "Expect:";
	headers[3] = psprintf("webhook-id: %s", event);
	headers[4] = psprintf("webhook-timestamp: " INT64_FORMAT, timestamp);
	headers[5] = psprintf("webhook-signature: %s", signatures.data);
	return headers;
}

/* In a context of its own; NULL, and the job finished, where there is nothing to send. */
static Delivery *
prepare(const GateRows *rows, int64 row, MemoryContext parent)
{
	MemoryContext memory =
		AllocSetContextCreate(parent, "pg_tenancy delivery", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(memory);
	Delivery *delivery = palloc0(sizeof(Delivery));
	Jsonb *arguments = row_jsonb(rows, row, 3);
	pg_uuid_t *event_id = id_parse(json_text(arguments, "event"));
	GateRows *event;
	JobFailure failure = {.is_final = true};

	delivery->memory = memory;
	delivery->job = *row_uuid(rows, row, 0);
	delivery->fence = row_int64(rows, row, 1);
	delivery->endpoint = *id_parse(json_text(arguments, "endpoint"));
	event = gate_run(&delivery_event, EXPECT_AT_MOST_ONE, gate_uuid(event_id),
					 gate_uuid(&delivery->endpoint));
	if (event->count == 0)
		failure.error = "the event or the endpoint is gone";
	else if (!row_bool(event, 0, 6))
		failure.error = "the endpoint is disabled";
	if (failure.error != NULL)
	{
		(void) job_fail(&delivery->job, delivery->fence, &failure);
		MemoryContextSwitchTo(previous);
		MemoryContextDelete(memory);
		return NULL;
	}
	delivery->exchange.url = row_text(event, 0, 5);
	delivery->exchange.body = body_of(event);
	delivery->exchange.headers =
		headers_of(&delivery->endpoint, id_text(event_id), delivery->exchange.body);
	delivery->exchange.timeout_ms = setting_webhook_timeout * (long) MS_PER_SECOND;
	delivery->exchange.may_connect = may_connect;
	delivery->exchange.owner = delivery;
	MemoryContextSwitchTo(previous);
	return delivery;
}

List *
delivery_claim(int max, MemoryContext parent)
{
	JobClaimRequest request = {.lane = WEBHOOK_KIND, .max_jobs = max, .is_bound = true};
	List *deliveries = NIL;
	GateRows *rows;

	job_rescue(WEBHOOK_KIND);
	rows = job_claim_rows(&request);
	for (int64 i = 0; i < rows->count; i++)
	{
		Delivery *delivery = prepare(rows, i, parent);
		MemoryContext previous;

		if (delivery == NULL)
			continue;
		previous = MemoryContextSwitchTo(parent);
		deliveries = lappend(deliveries, delivery);
		MemoryContextSwitchTo(previous);
	}
	return deliveries;
}

/* What a receiver says is shown where it is text. */
static Jsonb *
evidence_of(const HttpExchange *exchange)
{
	JsonBuilder builder;
	char *answer = pstrdup(exchange->answer);

	answer[pg_mbcliplen(answer, strlen(answer), HTTP_KEPT_BYTES)] = '\0';
	json_begin(&builder);
	json_put_int64(&builder, "status", exchange->status);
	json_put_int64(&builder, "elapsed_ms", exchange->elapsed_ms);
	if (pg_verify_mbstr(GetDatabaseEncoding(), answer, strlen(answer), true))
		json_put_text(&builder, "answer", answer);
	return json_end(&builder);
}

void
delivery_record(const Delivery *delivery)
{
	const HttpExchange *exchange = &delivery->exchange;
	QueuedJob job = {.id = delivery->job, .fence = delivery->fence};
	JobFailure failure = {.evidence = evidence_of(exchange)};

	if (exchange->status >= 200 && exchange->status < 300)
	{
		(void) job_succeed(&job, failure.evidence);
		return;
	}
	/* Of several addresses another may have answered. */
	if (exchange->is_refused && exchange->status == 0)
	{
		failure.error = "the address of the endpoint is not public";
		failure.is_final = true;
	}
	else if (exchange->status == 0)
		failure.error = exchange->error;
	else
		failure.error = psprintf("the receiver answered with status %ld", exchange->status);
	if (exchange->status == STATUS_GONE)
	{
		gate_run(&endpoint_disable, EXPECT_ANY, gate_uuid(&delivery->endpoint),
				 gate_text("the receiver answered with status 410"));
		failure.is_final = true;
	}
	failure.retry_after_ms =
		Min(exchange->retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS) * MS_PER_SECOND;
	(void) job_fail(&job.id, job.fence, &failure);
}
