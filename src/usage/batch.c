/*
 * usage/batch.c
 *		Many usage events in one statement: as a document, or by COPY.
 *
 * Each event is checked as usage_record() checks it, then all are claimed and written by one
 * INSERT.  Those whose id was taken are compared with what is there by one query more.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "usage/event.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define LARGEST_BATCH 100000

GATE_STATEMENT(
	usage_event_claim_many,
	"INSERT INTO tenancy.usage_event AS e (tenant_id, event_id, metric, quantity, occurred_at,"
	"    recorded_at, properties, payload_hash)"
	" SELECT u.tenant_id, u.event_id, u.metric, u.quantity, u.occurred_at, $8, u.properties,"
	"        u.payload_hash"
	"   FROM unnest($1, $2, $3, $4, $5, $6, $7)"
	"     AS u(tenant_id, event_id, metric, quantity, occurred_at, properties, payload_hash)"
	/* in one order, so that two batches wait for one another and never in a circle */
	"  ORDER BY u.tenant_id, u.event_id"
	" ON CONFLICT (tenant_id, event_id) DO NOTHING RETURNING e.tenant_id, e.event_id",
	UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID,
	BYTEAARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(usage_event_other,
			   "SELECT u.event_id, e.payload_hash, u.payload_hash"
			   "  FROM unnest($1, $2, $3) AS u(tenant_id, event_id, payload_hash)"
			   "  JOIN tenancy.usage_event e USING (tenant_id, event_id)"
			   " WHERE e.payload_hash <> u.payload_hash ORDER BY 1 LIMIT 1",
			   UUIDARRAYOID, TEXTARRAYOID, BYTEAARRAYOID);

static const JsonRule event_members[] = {
	{.name = "event_id", .type = JSON_TEXT},
	{.name = "metric", .type = JSON_TEXT, .is_required = true},
	{.name = "occurred_at", .type = JSON_TEXT},
	{.name = "properties", .type = JSON_OBJECT},
	{.name = "quantity", .type = JSON_NUMBER},
	{.name = "tenant", .type = JSON_TEXT},
	{.name = NULL},
};

static pg_uuid_t
read_tenant(const char *text, const char *place)
{
	const pg_uuid_t *current = context_tenant();
	pg_uuid_t *found;

	if (text == NULL && current != NULL)
		return *current;
	if (text == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid usage events: \"%stenant\" is missing", place));
	if (id_is_shaped(text))
		return *id_parse(text);
	found = registry_find_slug(text);
	if (found == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", text));
	return *found;
}

static void
read_event(UsageEvent *event, const Jsonb *document, const char *place)
{
	char *occurred_at = json_text(document, "occurred_at");
	Jsonb *properties = json_member(document, "properties");
	Numeric quantity = json_numeric(document, "quantity");

	event->tenant = read_tenant(json_text(document, "tenant"), place);
	event->metric = json_text(document, "metric");
	event->quantity = quantity != NULL ? quantity : numeric_from_int(1);
	event->event_id = json_text(document, "event_id");
	event->occurred_at = occurred_at == NULL
							 ? GetCurrentTransactionStartTimestamp()
							 : DatumGetTimestampTz(DirectFunctionCall3(
								   timestamptz_in, CStringGetDatum(occurred_at),
								   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(event->occurred_at))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("argument \"%soccurred_at\" must be a finite time", place));
	event->properties = properties != NULL ? properties : json_empty_object();
	event_prepare(event, place);
}

static UsageEvent *
read_events(const Jsonb *document, int count)
{
	UsageEvent *events = palloc0(sizeof(UsageEvent) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		Jsonb *element = json_element(document, i);
		char place[32];

		CHECK_FOR_INTERRUPTS();
		json_validate(element, event_members, "usage event");
		snprintf(place, sizeof(place), "events[%d].", i);
		read_event(&events[i], element, place);
	}
	return events;
}

typedef struct Columns
{
	Datum *tenants;
	Datum *ids;
	Datum *metrics;
	Datum *quantities;
	Datum *times;
	Datum *properties;
	Datum *hashes;
} Columns;

static Columns
make_columns(UsageEvent *events, int count)
{
	Size size = sizeof(Datum) * Max(count, 1);
	Columns c = {palloc(size), palloc(size), palloc(size), palloc(size),
				 palloc(size), palloc(size), palloc(size)};

	for (int i = 0; i < count; i++)
	{
		c.tenants[i] = UUIDPGetDatum(&events[i].tenant);
		c.ids[i] = CStringGetTextDatum(events[i].event_id);
		c.metrics[i] = CStringGetTextDatum(events[i].metric);
		c.quantities[i] = NumericGetDatum(events[i].quantity);
		c.times[i] = TimestampTzGetDatum(events[i].occurred_at);
		c.properties[i] = JsonbPGetDatum(events[i].properties);
		c.hashes[i] = PointerGetDatum(events[i].hash);
	}
	return c;
}

static int
compare_events(const void *a, const void *b)
{
	const UsageEvent *one = *(const UsageEvent *const *) a;
	const UsageEvent *other = *(const UsageEvent *const *) b;
	int tenants = memcmp(one->tenant.data, other->tenant.data, UUID_LEN);

	return tenants != 0 ? tenants : strcmp(one->event_id, other->event_id);
}

/* Of events with one id within the batch the first alone is in the table, and counts. */
static void
tell(UsageEvent *events, int count, const GateRows *recorded)
{
	const UsageEvent **sorted = palloc(sizeof(UsageEvent *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		sorted[i] = &events[i];
	qsort(sorted, count, sizeof(UsageEvent *), compare_events);
	for (int64 i = 0; i < recorded->count; i++)
	{
		UsageEvent wanted = {.tenant = *row_uuid(recorded, i, 0),
							 .event_id = row_text(recorded, i, 1)};
		const UsageEvent *key = &wanted;
		const UsageEvent **found =
			bsearch(&key, sorted, count, sizeof(UsageEvent *), compare_events);

		if (found != NULL)
			event_tell(*found);
	}
}

/* All or none; how many were not there before. */
static int64
record_many(UsageEvent *events, int count)
{
	Columns c = make_columns(events, count);
	GateRows *recorded = gate_run(
		&usage_event_claim_many, EXPECT_ANY, gate_array(c.tenants, count, UUIDOID),
		gate_array(c.ids, count, TEXTOID), gate_array(c.metrics, count, TEXTOID),
		gate_array(c.quantities, count, NUMERICOID), gate_array(c.times, count, TIMESTAMPTZOID),
		gate_array(c.properties, count, JSONBOID), gate_array(c.hashes, count, BYTEAOID),
		gate_timestamptz(clock_wall()));

	if (recorded->count < count)
	{
		GateRows *other =
			gate_run(&usage_event_other, EXPECT_AT_MOST_ONE, gate_array(c.tenants, count, UUIDOID),
					 gate_array(c.ids, count, TEXTOID), gate_array(c.hashes, count, BYTEAOID));

		if (other->count > 0)
			event_refuse_other(row_text(other, 0, 0), DatumGetByteaPP(row_datum(other, 0, 1)),
							   DatumGetByteaPP(row_datum(other, 0, 2)));
	}
	tell(events, count, recorded);
	ForceSyncCommit();
	return recorded->count;
}

/* usage_record_batch(events jsonb) → (recorded bigint, repeated bigint) */
TENANCY_FUNCTION(usage_record_batch)
{
	Jsonb *document;
	int count;
	int64 recorded;
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false};

	require_argument(fcinfo, 0, "events");
	document = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(document) || JB_ROOT_IS_SCALAR(document))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"events\" must be a JSON array"));
	count = json_element_count(document);
	if (count > LARGEST_BATCH)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"events\" has %d events; at most %d are taken", count,
					   LARGEST_BATCH));
	recorded = record_many(read_events(document, count), count);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(recorded);
	values[1] = Int64GetDatum(count - recorded);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * The inbox: a view whose rows become events, so that COPY can bring them.  Its triggers
 * begin a list, add to it, and write it in parts and at the end of the statement.
 */
#define INBOX_PART 10000

static struct
{
	MemoryContext memory; /* a child of the transaction's; NULL between statements */
	int count;
	UsageEvent *events;
} inbox;

/* Columns of tenancy.usage_inbox. */
enum
{
	INBOX_TENANT = 1,
	INBOX_METRIC,
	INBOX_QUANTITY,
	INBOX_EVENT_ID,
	INBOX_OCCURRED_AT,
	INBOX_PROPERTIES
};

static void
begin_inbox(void)
{
	/* What an error has left went with its transaction. */
	inbox.memory =
		AllocSetContextCreate(TopTransactionContext, "pg_tenancy inbox", ALLOCSET_DEFAULT_SIZES);
	inbox.events = MemoryContextAllocHuge(inbox.memory, sizeof(UsageEvent) * INBOX_PART);
	inbox.count = 0;
}

static void
write_inbox(void)
{
	MemoryContext part =
		AllocSetContextCreate(inbox.memory, "pg_tenancy inbox part", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(part);

	if (inbox.count > 0)
		(void) record_many(inbox.events, inbox.count);
	inbox.count = 0;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(part);
}

static Datum
column(TriggerData *trigger, int number, bool *is_null)
{
	return heap_getattr(trigger->tg_trigtuple, number, RelationGetDescr(trigger->tg_relation),
						is_null);
}

static char *
text_column(TriggerData *trigger, int number)
{
	bool is_null;
	Datum value = column(trigger, number, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

static void
add_to_inbox(TriggerData *trigger)
{
	MemoryContext old = MemoryContextSwitchTo(inbox.memory);
	UsageEvent *event = &inbox.events[inbox.count];
	bool is_null;
	Datum value;

	memset(event, 0, sizeof(*event));
	event->tenant = read_tenant(text_column(trigger, INBOX_TENANT), "");
	event->metric = text_column(trigger, INBOX_METRIC);
	if (event->metric == NULL)
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"metric\" must not be null"));
	value = column(trigger, INBOX_QUANTITY, &is_null);
	event->quantity = is_null ? numeric_from_int(1)
							  : DatumGetNumeric(PointerGetDatum(PG_DETOAST_DATUM_COPY(value)));
	if (numeric_is_nan(event->quantity) || numeric_is_inf(event->quantity))
		ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("argument \"quantity\" must be a finite number"));
	event->event_id = text_column(trigger, INBOX_EVENT_ID);
	value = column(trigger, INBOX_OCCURRED_AT, &is_null);
	event->occurred_at =
		is_null ? GetCurrentTransactionStartTimestamp() : DatumGetTimestampTz(value);
	if (TIMESTAMP_NOT_FINITE(event->occurred_at))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("argument \"occurred_at\" must be a finite time"));
	value = column(trigger, INBOX_PROPERTIES, &is_null);
	event->properties = is_null ? json_empty_object() : DatumGetJsonbPCopy(value);
	event_prepare(event, "");
	inbox.count++;
	MemoryContextSwitchTo(old);
	if (inbox.count == INBOX_PART)
		write_inbox();
}

/* tenancy.usage_inbox_write(): the triggers of the view */
TENANCY_FUNCTION(usage_inbox_write)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("usage_inbox_write() is a trigger of INSERT"));
	if (TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
	{
		add_to_inbox(trigger);
		return PointerGetDatum(trigger->tg_trigtuple);
	}
	if (TRIGGER_FIRED_BEFORE(trigger->tg_event))
		begin_inbox();
	else
	{
		write_inbox();
		MemoryContextDelete(inbox.memory);
		inbox.memory = NULL;
	}
	PG_RETURN_POINTER(NULL);
}
