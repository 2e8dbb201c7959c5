/*
 * usage/batch.c
 *		Many usage events in one statement: as a document, or by COPY.
 *
 * Each event is checked as usage_record() checks it, then all are claimed and written.
 * Those whose id was taken are compared with what is there by one query.
 */
#include "postgres.h"

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
		char what[48];
		char place[32];

		CHECK_FOR_INTERRUPTS();
		snprintf(what, sizeof(what), "usage event events[%d]", i);
		json_validate(element, event_members, what);
		snprintf(place, sizeof(place), "events[%d].", i);
		read_event(&events[i], element, place);
	}
	return events;
}

/* All or none; how many were not there before. */
static int64
record_many(UsageEvent *events, int count)
{
	UsageEvent **pointers = palloc(sizeof(UsageEvent *) * Max(count, 1));
	int64 recorded = 0;

	for (int i = 0; i < count; i++)
		pointers[i] = &events[i];
	event_write(pointers, count);
	for (int i = 0; i < count; i++)
		recorded += events[i].is_new;
	ForceSyncCommit();
	return recorded;
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
	if (!json_is_array(document))
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
