/*
 * meter/event.c
 *		Usage events: what the application reports, once and for ever.
 *
 * An event is known by tenant and id.  Claiming the id and writing the event are one
 * statement: were they two, a failure between them would leave an id that is taken by
 * nothing.  The same event again returns the row that is there; another event under
 * the same id is an error, never silence.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "crypto/digest.h"
#include "meter/meter.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* How far the clock of a reporter may be ahead (Stripe's limit for meter events). */
#define MAX_FUTURE (5 * USECS_PER_MINUTE)

#define MAX_EVENT_ID_BYTES 255

/* Whether there is such a metric, and what it asks of an event. */
GATE_LOOKUP(metric_rules,
			"SELECT m.aggregation, m.property, $2 ? m.property AS has_property"
			"  FROM tenancy.metric m WHERE m.name = $1 AND m.source = 'event'",
			TEXTOID, JSONBOID);
GATE_STATEMENT(usage_event_claim,
			   "INSERT INTO tenancy.usage_event AS e (tenant_id, event_id, metric, quantity,"
			   "    occurred_at, recorded_at, properties, payload_hash)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
			   " ON CONFLICT (tenant_id, event_id) DO NOTHING RETURNING e",
			   UUIDOID, TEXTOID, TEXTOID, NUMERICOID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID,
			   BYTEAOID);
GATE_STATEMENT(usage_event_get,
			   "SELECT e, e.payload_hash FROM tenancy.usage_event e"
			   " WHERE e.tenant_id = $1 AND e.event_id = $2 FOR KEY SHARE",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(usage_event_cancel,
			   "UPDATE tenancy.usage_event AS e SET cancelled_at = coalesce(e.cancelled_at, $3)"
			   " WHERE e.tenant_id = $1 AND e.event_id = $2 RETURNING e, e.metric",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);

/*
 * In canonical form: numeric and jsonb print one text for one value.  A time that is the
 * transaction's own is the default of the argument, and another one when the event comes
 * again; it is not part of what was said.
 */
static bytea *
hash_payload(const char *metric, Numeric quantity, TimestampTz occurred_at, Jsonb *properties)
{
	Digest digest;
	Datum normalized = DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(quantity));

	digest_begin(&digest);
	digest_add_text(&digest, metric);
	digest_add_text(&digest, DatumGetCString(DirectFunctionCall1(numeric_out, normalized)));
	if (occurred_at == GetCurrentTransactionStartTimestamp())
		digest_add_text(&digest, NULL);
	else
		digest_add(&digest, &occurred_at, sizeof(occurred_at));
	digest_add_text(&digest, JsonbToCString(NULL, &properties->root, VARSIZE(properties)));
	return digest_end(&digest);
}

static Datum
existing_event(const pg_uuid_t *tenant, const char *event_id, const bytea *hash)
{
	GateRows *rows = gate_run(&usage_event_get, EXPECT_ONE, gate_uuid(tenant), gate_text(event_id));
	bytea *kept = DatumGetByteaPP(row_datum(rows, 0, 1));

	if (VARSIZE_ANY_EXHDR(kept) != DIGEST_LENGTH ||
		memcmp(VARDATA_ANY(kept), VARDATA_ANY(hash), DIGEST_LENGTH) != 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("usage event \"%s\" was recorded with another content", event_id),
				errdetail("Digest of the recorded content: %s; of this one: %s.", digest_hex(kept),
						  digest_hex(hash)),
				errhint("An event is corrected by usage_cancel() and a new event."));
	return row_datum(rows, 0, 0);
}

static MeterEventListener listener = NULL;

void
meter_set_event_listener(MeterEventListener wants)
{
	listener = wants;
}

/* How the metric adds up; raises unless it takes such an event. */
static const char *
require_measurable(const char *metric, Numeric quantity, const Jsonb *properties)
{
	GateRows *rows =
		gate_run(&metric_rules, EXPECT_AT_MOST_ONE, gate_text(metric), gate_jsonb(properties));
	bool is_negative = DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(quantity),
														 NumericGetDatum(int64_to_numeric(0)))) < 0;

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist, or takes no events", metric),
				errhint("metric_create() makes one."));
	if (is_negative && strcmp(row_text(rows, 0, 0), "sum") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"quantity\" must not be negative for metric \"%s\"", metric),
				errdetail("Its aggregation is \"%s\"; only a sum can be taken back from.",
						  row_text(rows, 0, 0)));
	if (!row_is_null(rows, 0, 1) && !row_bool(rows, 0, 2))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"properties\" must have the member \"%s\" for metric \"%s\"",
					   row_text(rows, 0, 1), metric));
	return row_text(rows, 0, 0);
}

/*
 * usage_record(tenant regtenant, metric text, quantity numeric, event_id text,
 *     occurred_at timestamptz, properties jsonb) → tenancy.usage_event
 */
TENANCY_FUNCTION(usage_record)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *metric = required_text(fcinfo, 1, "metric");
	Numeric quantity = required_numeric(fcinfo, 2, "quantity");
	char *event_id = optional_text(fcinfo, 3);
	TimestampTz occurred_at = required_timestamptz(fcinfo, 4, "occurred_at");
	Jsonb *properties = optional_jsonb(fcinfo, 5);
	const char *aggregation;
	GateRows *rows;
	bytea *hash;

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (event_id != NULL && (*event_id == '\0' || strlen(event_id) > MAX_EVENT_ID_BYTES))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"event_id\" must have 1 to %d bytes", MAX_EVENT_ID_BYTES));
	if (occurred_at > clock_wall() + MAX_FUTURE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("usage event lies in the future"),
				errdetail("occurred_at is %s; at most 5 minutes ahead are taken.",
						  timestamptz_to_str(occurred_at)));
	if (properties == NULL || !JB_ROOT_IS_OBJECT(properties))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"properties\" must be a JSON object"));
	aggregation = require_measurable(metric, quantity, properties);

	hash = hash_payload(metric, quantity, occurred_at, properties);
	if (event_id == NULL)
		event_id = id_text(id_new());
	rows = gate_run(&usage_event_claim, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(event_id),
					gate_text(metric), gate_numeric(quantity), gate_timestamptz(occurred_at),
					gate_timestamptz(clock_wall()), gate_jsonb(properties),
					gate_datum(PointerGetDatum(hash)));

	if (rows->count == 1 && listener != NULL)
		listener(tenant, metric, aggregation, quantity, occurred_at);
	/* What is billed is on disk when the caller hears of it. */
	ForceSyncCommit();
	PG_RETURN_DATUM(rows->count == 1 ? row_datum(rows, 0, 0)
									 : existing_event(tenant, event_id, hash));
}

/* usage_cancel(tenant regtenant, event_id text) → tenancy.usage_event */
TENANCY_FUNCTION(usage_cancel)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *event_id = required_text(fcinfo, 1, "event_id");
	GateRows *rows;

	(void) registry_get(tenant);
	rows = gate_run(&usage_event_cancel, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(event_id),
					gate_timestamptz(clock_wall()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("usage event \"%s\" does not exist", event_id));
	if (listener != NULL)
		listener(tenant, row_text(rows, 0, 1), NULL, NULL, 0);
	ForceSyncCommit();
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
