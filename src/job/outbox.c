/*
 * job/outbox.c
 *		Events: what has happened, for whoever wants to hear of it.
 *
 * An event that nobody has subscribed to is one row and no more.  Ids are in order of
 * time, so the oldest are found by the primary key.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "job/endpoint.h"
#include "job/outbox.h"

#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define MAX_TYPES 128
#define MAX_TYPE_LENGTH 100

/* Receivers take no more (Standard Webhooks 1.0, "payload size": 20 kB). */
#define MAX_PAYLOAD_BYTES (20 * 1000)

GATE_STATEMENT(
	outbox_event_insert,
	"INSERT INTO tenancy.outbox_event (id, tenant_id, type, version, payload, created_at)"
	" SELECT n.id, n.tenant_id, $1, $2, n.payload, $6"
	"   FROM unnest($3, $4, $5) AS n(id, tenant_id, payload)",
	TEXTOID, INT4OID, UUIDARRAYOID, UUIDARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(outbox_event_row, "SELECT e FROM tenancy.outbox_event e WHERE e.id = $1", UUIDOID);
GATE_STATEMENT(outbox_event_expire,
			   "DELETE FROM tenancy.outbox_event e"
			   " WHERE e.id IN (SELECT o.id FROM tenancy.outbox_event o WHERE o.id < $1"
			   "                 ORDER BY o.id LIMIT $2)",
			   UUIDOID, INT8OID);

static const EventType *types[MAX_TYPES];
static int type_count = 0;

void
event_types_register(const EventType *added, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (type_count == MAX_TYPES)
			elog(ERROR, "too many types of events");
		types[type_count++] = &added[i];
	}
}

static const EventType *
find_type(const char *name)
{
	for (int i = 0; i < type_count; i++)
	{
		if (strcmp(types[i]->name, name) == 0)
			return types[i];
	}
	return NULL;
}

/* Names of two or more parts: "invoice.finalized". */
static bool
is_type_name(const char *name)
{
	bool has_dot = false;
	char previous = '.';

	if (strlen(name) > MAX_TYPE_LENGTH)
		return false;
	for (; *name != '\0'; previous = *name++)
	{
		bool begins = previous == '.';

		if (*name == '.' && begins)
			return false;
		has_dot |= *name == '.';
		if (!(*name >= 'a' && *name <= 'z') && *name != '.' &&
			(begins || (!(*name >= '0' && *name <= '9') && *name != '_')))
			return false;
	}
	return has_dot && previous != '.';
}

static void
put_events(const char *type, int version, const NullableDatum *ids, const NullableDatum *tenants,
		   const NullableDatum *payloads)
{
	gate_run(&outbox_event_insert, EXPECT_ANY, gate_text(type), gate_int32(version), *ids, *tenants,
			 *payloads, gate_timestamptz(clock_now()));
	endpoint_deliver(type, ids, tenants);
}

/* An array of one element, which may be null. */
static NullableDatum
one_tenant(const pg_uuid_t *tenant)
{
	Datum value = tenant == NULL ? (Datum) 0 : UUIDPGetDatum(tenant);
	bool is_null = tenant == NULL;
	int count = 1;
	int lower_bound = 1;

	return gate_datum(PointerGetDatum(construct_md_array(&value, &is_null, 1, &count, &lower_bound,
														 UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

static pg_uuid_t *
put_event(const pg_uuid_t *tenant, const char *type, int version, const Jsonb *payload)
{
	pg_uuid_t *id = id_new();
	Datum document = JsonbPGetDatum(payload);
	NullableDatum ids = gate_uuid_array(id, 1);
	NullableDatum tenants = one_tenant(tenant);
	NullableDatum payloads = gate_array(&document, 1, JSONBOID);

	put_events(type, version, &ids, &tenants, &payloads);
	return id;
}

static const EventType *
own_type(const char *name)
{
	const EventType *type = find_type(name);

	if (type == NULL)
		elog(ERROR, "event type \"%s\" is not registered", name);
	return type;
}

pg_uuid_t *
outbox_put(const pg_uuid_t *tenant, const char *type, const Jsonb *payload)
{
	return put_event(tenant, type, own_type(type)->version, payload);
}

void
outbox_put_many(const char *type, const pg_uuid_t *tenants, const Jsonb *const *payloads, int count)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	Datum *documents = palloc(sizeof(Datum) * Max(count, 1));
	NullableDatum id_array;
	NullableDatum tenant_array;
	NullableDatum payload_array;

	for (int i = 0; i < count; i++)
	{
		ids[i] = *id_new();
		documents[i] = JsonbPGetDatum(payloads[i]);
	}
	id_array = gate_uuid_array(ids, count);
	tenant_array = gate_uuid_array(tenants, count);
	payload_array = gate_array(documents, count, JSONBOID);
	put_events(type, own_type(type)->version, &id_array, &tenant_array, &payload_array);
}

int64
outbox_expire(int64 limit)
{
	pg_uuid_t oldest = id_first_at(clock_now() - setting_event_retention * USECS_PER_SEC);

	return gate_run(&outbox_event_expire, EXPECT_ANY, gate_uuid(&oldest), gate_int64(limit))->count;
}

static void
require_foreign_type(const char *type)
{
	if (!is_type_name(type))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid event type \"%s\"", type),
				errdetail("A type has two or more parts of lower-case letters, digits and "
						  "underscores, joined by dots, and at most %d characters.",
						  MAX_TYPE_LENGTH));
	if (find_type(type) != NULL)
		ereport(ERROR, errcode(ERRCODE_RESERVED_NAME),
				errmsg("event type \"%s\" is reserved", type),
				errdetail("The extension itself puts out events of this type."));
}

static void
require_small_object(Jsonb *payload)
{
	int length;

	if (!JB_ROOT_IS_OBJECT(payload))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the payload of an event must be a JSON object"));
	length = strlen(JsonbToCString(NULL, &payload->root, VARSIZE(payload)));
	if (length > MAX_PAYLOAD_BYTES)
		ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the payload of an event has %d bytes", length),
				errdetail("At most %d are allowed.", MAX_PAYLOAD_BYTES),
				errhint("Send a reference, and let the receiver fetch the rest."));
}

/* event_publish(tenant regtenant, type text, payload jsonb, version int) → tenancy.outbox_event */
TENANCY_FUNCTION(event_publish)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *type = required_text(fcinfo, 1, "type");
	int32 version;
	pg_uuid_t *id;

	require_argument(fcinfo, 2, "payload");
	require_argument(fcinfo, 3, "version");
	version = PG_GETARG_INT32(3);
	require_foreign_type(type);
	require_small_object(PG_GETARG_JSONB_P(2));
	if (version < 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"version\" must be at least 1"));
	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	id = put_event(tenant, type, version, PG_GETARG_JSONB_P(2));
	PG_RETURN_DATUM(row_datum(gate_run(&outbox_event_row, EXPECT_ONE, gate_uuid(id)), 0, 0));
}

/* tenancy.event_type_read() → TABLE(name text, version int, description text) */
TENANCY_FUNCTION(event_type_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < type_count; i++)
	{
		Datum values[3] = {CStringGetTextDatum(types[i]->name), Int32GetDatum(types[i]->version),
						   CStringGetTextDatum(types[i]->description)};
		bool nulls[3] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
