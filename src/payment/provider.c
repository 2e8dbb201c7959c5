/*
 * payment/provider.c
 *		Providers, the secrets they sign with, and the methods by which tenants pay.
 *
 * No data of cards is taken: a method is a token of the provider and what may be shown.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "payment/payment.h"
#include "payment/signature.h"

#include <ctype.h>

#include "utils/builtins.h"

GATE_STATEMENT(payment_provider_insert,
			   "INSERT INTO tenancy.payment_provider AS p (id, scheme, created_at, shipped)"
			   " VALUES ($1, $2, $3, false)"
			   " ON CONFLICT (id) DO NOTHING RETURNING p",
			   TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_LOOKUP(payment_provider_scheme,
			"SELECT p.scheme FROM tenancy.payment_provider p WHERE p.id = $1", TEXTOID);
GATE_STATEMENT(payment_secret_insert,
			   "INSERT INTO tenancy.payment_provider_secret (id, provider, secret, created_at)"
			   " VALUES ($1, $2, $3, $4)",
			   UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_secret_expire_others,
			   "UPDATE tenancy.payment_provider_secret s SET expires_at = $3"
			   " WHERE s.provider = $1 AND s.id <> $2"
			   "   AND (s.expires_at IS NULL OR s.expires_at > $3)",
			   TEXTOID, UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_secret_prune,
			   "DELETE FROM tenancy.payment_provider_secret s WHERE s.expires_at <= $1",
			   TIMESTAMPTZOID);
GATE_STATEMENT(payment_method_insert,
			   "INSERT INTO tenancy.payment_method AS m (id, tenant_id, provider, token, details,"
			   "    is_default, created_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7)"
			   " ON CONFLICT (tenant_id, provider, token) WHERE removed_at IS NULL DO NOTHING"
			   " RETURNING m",
			   UUIDOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(payment_method_clear_default,
			   "UPDATE tenancy.payment_method SET is_default = false"
			   " WHERE tenant_id = $1 AND is_default",
			   UUIDOID);
GATE_STATEMENT(payment_method_has_default,
			   "SELECT FROM tenancy.payment_method m WHERE m.tenant_id = $1 AND m.is_default",
			   UUIDOID);
GATE_STATEMENT(payment_method_find,
			   "SELECT m.id FROM tenancy.payment_method m"
			   " WHERE m.tenant_id = $1 AND m.removed_at IS NULL"
			   "   AND CASE WHEN $2 IS NULL THEN m.is_default ELSE m.id = $2 END",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(payment_method_remove,
			   "UPDATE tenancy.payment_method m SET removed_at = $2, is_default = false"
			   " WHERE m.id = $1 AND m.removed_at IS NULL RETURNING m",
			   UUIDOID, TIMESTAMPTZOID);

char *
provider_scheme(const char *provider)
{
	GateRows *rows = gate_run(&payment_provider_scheme, EXPECT_AT_MOST_ONE, gate_text(provider));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("payment provider \"%s\" does not exist", provider));
	return row_text(rows, 0, 0);
}

/* payment_provider_create(id text, scheme text) → tenancy.payment_provider */
TENANCY_FUNCTION(payment_provider_create)
{
	char *id = required_text(fcinfo, 0, "id");
	char *scheme = required_text(fcinfo, 1, "scheme");
	size_t length = strlen(id);
	GateRows *rows;

	context_require_none("configuring payments");
	if (length == 0 || length > 63 ||
		strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != length || id[0] == '_' ||
		id[0] == '-')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid payment provider \"%s\"", id),
				errdetail("Lower-case letters, digits, underscores and hyphens are expected, at "
						  "most 63."));
	if (strcmp(scheme, "manual") != 0 && strcmp(scheme, "standard") != 0 &&
		strcmp(scheme, "stripe") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"scheme\" must be \"manual\", \"standard\" or \"stripe\""));
	rows = gate_run(&payment_provider_insert, EXPECT_AT_MOST_ONE, gate_text(id), gate_text(scheme),
					gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("payment provider \"%s\" exists already", id));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* payment_provider_secret_set(provider text, secret text, keep_others interval) → uuid */
TENANCY_FUNCTION(payment_provider_secret_set)
{
	char *provider = required_text(fcinfo, 0, "provider");
	char *secret = required_text(fcinfo, 1, "secret");
	char *scheme;
	const char *fault;
	pg_uuid_t *id = id_new();
	TimestampTz now = clock_now();
	TimestampTz until;

	context_require_none("configuring payments");
	require_argument(fcinfo, 2, "keep_others");
	scheme = provider_scheme(provider);
	if (strcmp(scheme, "manual") == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("payment provider \"%s\" sends no webhooks", provider));
	fault = signature_secret_fault(scheme, secret);
	if (fault != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"secret\" must be %s", fault));
	until = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), PG_GETARG_DATUM(2)));
	if (until < now)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"keep_others\" must not be negative"));
	gate_run(&payment_secret_insert, EXPECT_ONE, gate_uuid(id), gate_text(provider),
			 gate_text(secret), gate_timestamptz(now));
	gate_run(&payment_secret_expire_others, EXPECT_ANY, gate_text(provider), gate_uuid(id),
			 gate_timestamptz(until));
	gate_run(&payment_secret_prune, EXPECT_ANY, gate_timestamptz(now));
	PG_RETURN_UUID_P(id);
}

static const char *
check_last4(JsonbValue *value)
{
	if (value->val.string.len != 4)
		return "the last four digits";
	for (int i = 0; i < 4; i++)
	{
		if (!isdigit((unsigned char) value->val.string.val[i]))
			return "the last four digits";
	}
	return NULL;
}

/* What may be shown of a method: nothing that one could pay with. */
static const JsonRule detail_members[] = {
	{.name = "bank", .type = JSON_TEXT, .max_length = 100},
	{.name = "brand", .type = JSON_TEXT, .max_length = 40},
	{.name = "country", .type = JSON_TEXT, .max_length = 2},
	{.name = "exp_month", .type = JSON_INTEGER, .minimum = "1", .maximum = "12"},
	{.name = "exp_year", .type = JSON_INTEGER, .minimum = "2000", .maximum = "2200"},
	{.name = "last4", .type = JSON_TEXT, .check = check_last4},
	{.name = "mandate", .type = JSON_TEXT, .max_length = 100},
	{.name = "type", .type = JSON_TEXT, .max_length = 40},
	{.name = NULL},
};

/* 12 to 19 digits, with spaces or hyphens, whose check digit is right (ISO/IEC 7812-1, Luhn). */
static bool
is_card_number(const char *text)
{
	int digits[20];
	int count = 0;
	int sum = 0;

	for (; *text != '\0'; text++)
	{
		if (*text == ' ' || *text == '-')
			continue;
		if (!isdigit((unsigned char) *text) || count == 19)
			return false;
		digits[count++] = *text - '0';
	}
	if (count < 12)
		return false;
	for (int i = 0; i < count; i++)
	{
		int digit = digits[count - 1 - i] * (i % 2 + 1);

		sum += digit > 9 ? digit - 9 : digit;
	}
	return sum % 10 == 0;
}

pg_uuid_t *
method_find(const pg_uuid_t *tenant, const pg_uuid_t *method)
{
	GateRows *rows =
		gate_run(&payment_method_find, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_uuid(method));

	if (rows->count == 0 && method != NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("payment method \"%s\" does not exist", id_text(method)),
				errdetail("The tenant has no such method."));
	return rows->count == 0 ? NULL : row_uuid(rows, 0, 0);
}

/*
 * payment_method_add(tenant regtenant, provider text, token text, details jsonb,
 *                    is_default boolean) → tenancy.payment_method
 */
TENANCY_FUNCTION(payment_method_add)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *provider = required_text(fcinfo, 1, "provider");
	char *token = required_text(fcinfo, 2, "token");
	Jsonb *details;
	bool is_default;
	GateRows *rows;

	context_require_none("configuring payments");
	require_argument(fcinfo, 3, "details");
	details = PG_GETARG_JSONB_P(3);
	json_validate(details, detail_members, "details of a payment method");
	(void) provider_scheme(provider);
	if (*token == '\0' || strlen(token) > 255)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"token\" must have 1 to 255 characters"));
	if (is_card_number(token))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"token\" looks like the number of a card"),
				errhint("Give the token that the provider made for it."));

	payment_lock_tenant(tenant);
	is_default =
		PG_ARGISNULL(4)
			? gate_run(&payment_method_has_default, EXPECT_ANY, gate_uuid(tenant))->count == 0
			: PG_GETARG_BOOL(4);
	if (is_default)
		gate_run(&payment_method_clear_default, EXPECT_ANY, gate_uuid(tenant));
	rows = gate_run(&payment_method_insert, EXPECT_AT_MOST_ONE, gate_uuid(id_new()),
					gate_uuid(tenant), gate_text(provider), gate_text(token), gate_jsonb(details),
					gate_bool(is_default), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("the tenant has this payment method already"));
	if (is_default)
		dunning_heard_method(tenant);
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* payment_method_remove(payment_method uuid) → tenancy.payment_method */
TENANCY_FUNCTION(payment_method_remove)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "payment_method");
	GateRows *rows;

	context_require_none("configuring payments");
	rows = gate_run(&payment_method_remove, EXPECT_AT_MOST_ONE, gate_uuid(id),
					gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("payment method \"%s\" does not exist", id_text(id)));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
