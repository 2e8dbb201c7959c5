/*
 * job/endpoint.c
 *		Endpoints: who is told of events.
 *
 * A secret is shown once, to whoever makes it.  While a key is being replaced deliveries are
 * signed with the old one and the new one.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "job/endpoint.h"
#include "job/queue_internal.h"
#include "job/signature.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define MAX_URL_BYTES 2048
#define MAX_EVENT_TYPES 100
#define MAX_ENDPOINTS 50
#define LONGEST_OVERLAP_US (30 * USECS_PER_DAY)

GATE_STATEMENT(endpoint_insert,
			   "INSERT INTO tenancy.endpoint (id, tenant_id, url, event_types, enabled, created_at)"
			   " SELECT $1, $2, $3, $4, true, $5"
			   "  WHERE (SELECT pg_catalog.count(*) FROM tenancy.endpoint p"
			   "          WHERE p.tenant_id IS NOT DISTINCT FROM $2) < $6",
			   UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(endpoint_owner,
			   "SELECT p.tenant_id FROM tenancy.endpoint p WHERE p.id = $1 FOR UPDATE", UUIDOID);
GATE_STATEMENT(endpoint_update,
			   "UPDATE tenancy.endpoint AS p SET url = coalesce($2, p.url),"
			   "       event_types = coalesce($3, p.event_types),"
			   "       enabled = coalesce($4, p.enabled),"
			   "       disabled_reason = CASE WHEN $4 THEN NULL ELSE p.disabled_reason END"
			   " WHERE p.id = $1 RETURNING p",
			   UUIDOID, TEXTOID, TEXTARRAYOID, BOOLOID);
GATE_STATEMENT(endpoint_delete, "DELETE FROM tenancy.endpoint AS p WHERE p.id = $1 RETURNING p",
			   UUIDOID);
GATE_STATEMENT(endpoint_key_insert,
			   "INSERT INTO tenancy.endpoint_key (id, endpoint_id, scheme, secret, created_at)"
			   " VALUES ($1, $2, $3, $4, $5)",
			   UUIDOID, UUIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID);
GATE_STATEMENT(endpoint_key_retire,
			   "WITH gone AS (DELETE FROM tenancy.endpoint_key d"
			   "               WHERE d.endpoint_id = $1 AND d.expires_at <= $2)"
			   " UPDATE tenancy.endpoint_key k SET expires_at = $2 + $3"
			   "  WHERE k.endpoint_id = $1 AND k.expires_at IS NULL",
			   UUIDOID, TIMESTAMPTZOID, INTERVALOID);
GATE_STATEMENT(endpoint_event_tenant,
			   "SELECT e.tenant_id, p.tenant_id IS NULL OR p.tenant_id = e.tenant_id"
			   "  FROM tenancy.outbox_event e"
			   "  LEFT JOIN tenancy.endpoint p ON p.id = $2 WHERE e.id = $1",
			   UUIDOID, UUIDOID);

pg_noreturn static void
refuse_url(const char *why)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid URL of an endpoint"),
			errdetail("%s", why));
}

/* What the transport would misread, and what hides where a delivery goes. */
static void
require_url(const char *url)
{
	const char *host;
	size_t length;

	if (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0)
		refuse_url("It must begin with \"https://\" or, in an allowed network, \"http://\".");
	if (strlen(url) > MAX_URL_BYTES)
		refuse_url("It is too long.");
	for (const char *c = url; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7f || *c == '\\')
			refuse_url("It has a character that must be escaped.");
	}
	host = strstr(url, "://") + 3;
	length = strcspn(host, "/?#");
	if (length == 0 || *host == ':')
		refuse_url("It has no host.");
	if (memchr(host, '@', length) != NULL)
		refuse_url("It must not have a user name or a password.");
	if (strchr(url, '#') != NULL)
		refuse_url("It must not have a fragment.");
}

static void
require_event_types(ArrayType *types)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	if (count == 0 || count > MAX_EVENT_TYPES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"event_types\" must have between 1 and %d elements",
					   MAX_EVENT_TYPES));
	for (int i = 0; i < count; i++)
	{
		char *type = nulls[i] ? "" : TextDatumGetCString(elements[i]);
		size_t length = strlen(type);

		if (length == 0 || length > 100 ||
			strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789_.*") != length ||
			(strchr(type, '*') != NULL && strcmp(type, "*") != 0 &&
			 (length < 3 || strchr(type, '*') != type + length - 1 || type[length - 2] != '.')))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid event type \"%s\"", type),
					errhint("A type, \"*\" for all, or \"invoice.*\" for all that begin so."));
	}
}

/* Whose endpoint may it be: a tenant's own within a context, also the operator's outside. */
static void
require_owner(const pg_uuid_t *tenant)
{
	if (tenant == NULL)
		context_require_none("an endpoint for the events of all tenants");
	else
		tenant_require_visible(tenant);
}

static void
require_endpoint(const pg_uuid_t *endpoint)
{
	GateRows *rows = gate_run(&endpoint_owner, EXPECT_AT_MOST_ONE, gate_uuid(endpoint));
	const pg_uuid_t *self = context_tenant();
	pg_uuid_t *owner = rows->count == 0 ? NULL : row_uuid(rows, 0, 0);

	if (rows->count == 0 || (self != NULL && (owner == NULL || !id_equal(owner, self))))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("endpoint \"%s\" does not exist", id_text(endpoint)));
}

static Datum
return_key(FunctionCallInfo fcinfo, const pg_uuid_t *endpoint, SignatureScheme scheme,
		   const bytea *secret)
{
	Datum values[2] = {UUIDPGetDatum(endpoint),
					   CStringGetTextDatum(signature_receiver_key(scheme, secret))};
	bool nulls[2] = {false, false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static void
add_key(const pg_uuid_t *endpoint, SignatureScheme scheme, bytea *secret)
{
	gate_run(&endpoint_key_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(endpoint),
			 gate_text(signature_scheme_name(scheme)), gate_datum(PointerGetDatum(secret)),
			 gate_timestamptz(clock_now()));
}

/*
 * endpoint_create(tenant regtenant, url text, event_types text[], scheme text, secret text)
 *     → (id uuid, key text)
 */
TENANCY_FUNCTION(endpoint_create)
{
	pg_uuid_t *tenant = optional_uuid(fcinfo, 0);
	char *url = required_text(fcinfo, 1, "url");
	SignatureScheme scheme = signature_scheme(required_text(fcinfo, 3, "scheme"));
	pg_uuid_t *id = id_new();
	SignatureScheme given;
	bytea *secret;

	require_owner(tenant);
	if (tenant != NULL)
		(void) registry_get(tenant);
	require_url(url);
	require_argument(fcinfo, 2, "event_types");
	require_event_types(PG_GETARG_ARRAYTYPE_P(2));
	if (PG_ARGISNULL(4))
		secret = signature_new_secret(scheme);
	else
	{
		secret = signature_read_secret(optional_text(fcinfo, 4), &given);
		if (given != scheme)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the secret is one of the other scheme"));
	}
	if (gate_run(&endpoint_insert, EXPECT_ANY, gate_uuid(id), gate_uuid(tenant), gate_text(url),
				 gate_argument(2), gate_timestamptz(clock_now()), gate_int32(MAX_ENDPOINTS))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("there are %d endpoints already", MAX_ENDPOINTS));
	add_key(id, scheme, secret);
	PG_RETURN_DATUM(return_key(fcinfo, id, scheme, secret));
}

/* endpoint_rotate(endpoint uuid, overlap interval, scheme text) → (id uuid, key text) */
TENANCY_FUNCTION(endpoint_rotate)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "endpoint");
	SignatureScheme scheme = signature_scheme(required_text(fcinfo, 2, "scheme"));
	bytea *secret = signature_new_secret(scheme);
	int64 overlap;

	require_argument(fcinfo, 1, "overlap");
	overlap = interval_microseconds(PG_GETARG_INTERVAL_P(1));
	if (overlap < 0 || overlap > LONGEST_OVERLAP_US)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"overlap\" must be between zero and 30 days"));
	require_endpoint(id);
	gate_run(&endpoint_key_retire, EXPECT_ANY, gate_uuid(id), gate_timestamptz(clock_now()),
			 gate_argument(1));
	add_key(id, scheme, secret);
	PG_RETURN_DATUM(return_key(fcinfo, id, scheme, secret));
}

/* endpoint_set(endpoint uuid, url text, event_types text[], enabled boolean) → tenancy.endpoint */
TENANCY_FUNCTION(endpoint_set)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "endpoint");

	require_endpoint(id);
	if (!PG_ARGISNULL(1))
		require_url(optional_text(fcinfo, 1));
	if (!PG_ARGISNULL(2))
		require_event_types(PG_GETARG_ARRAYTYPE_P(2));
	PG_RETURN_DATUM(row_datum(gate_run(&endpoint_update, EXPECT_ONE, gate_uuid(id),
									   gate_argument(1), gate_argument(2), gate_argument(3)),
							  0, 0));
}

/* endpoint_delete(endpoint uuid) → tenancy.endpoint */
TENANCY_FUNCTION(endpoint_delete)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "endpoint");

	require_endpoint(id);
	PG_RETURN_DATUM(row_datum(gate_run(&endpoint_delete, EXPECT_ONE, gate_uuid(id)), 0, 0));
}

/* delivery_replay(event uuid, endpoint uuid) → tenancy.job */
TENANCY_FUNCTION(delivery_replay)
{
	pg_uuid_t *event = required_uuid(fcinfo, 0, "event");
	pg_uuid_t *endpoint = required_uuid(fcinfo, 1, "endpoint");
	GateRows *rows =
		gate_run(&endpoint_event_tenant, EXPECT_AT_MOST_ONE, gate_uuid(event), gate_uuid(endpoint));
	const pg_uuid_t *self = context_tenant();
	JobRequest request = {.kind = WEBHOOK_KIND, .priority = JOB_MIDDLE_PRIORITY};
	JsonBuilder arguments;

	if (rows->count == 0 ||
		(self != NULL && (row_is_null(rows, 0, 0) || !id_equal(row_uuid(rows, 0, 0), self))))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("event \"%s\" does not exist", id_text(event)));
	require_endpoint(endpoint);
	/* An event of no tenant is the operator's. */
	if (row_is_null(rows, 0, 1) || !row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("event \"%s\" is not for endpoint \"%s\"", id_text(event),
					   id_text(endpoint)),
				errdetail("They are of different tenants."));
	json_begin(&arguments);
	json_put_text(&arguments, "event", id_text(event));
	json_put_text(&arguments, "endpoint", id_text(endpoint));
	request.tenant = row_uuid(rows, 0, 0);
	request.arguments = json_end(&arguments);
	PG_RETURN_DATUM(job_row(job_put(&request)));
}
