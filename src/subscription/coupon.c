/*
 * subscription/coupon.c
 *		Coupons: discounts that tenants are given.
 *
 * A redemption says what is left of a coupon for a tenant.  The billing engine takes from it
 * when an invoice is finalized and gives back when one is made void.
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
#include "core/state.h"
#include "subscription/coupon.h"

#include "utils/builtins.h"

GATE_STATEMENT(coupon_insert,
			   "INSERT INTO tenancy.coupon (code, name, kind, value, currency, duration,"
			   "    duration_periods, plans, metrics, valid_from, valid_until, max_redemptions,"
			   "    redemptions, created_at)"
			   " SELECT $1, coalesce($2->>'name', $1), $2->>'kind', ($2->>'value')::numeric,"
			   "        $2->>'currency', coalesce($2->>'duration', 'once'),"
			   "        ($2->>'duration_periods')::integer,"
			   "        (SELECT pg_catalog.array_agg(e) FROM "
			   "pg_catalog.jsonb_array_elements_text($2->'plans') e),"
			   "        (SELECT pg_catalog.array_agg(e) FROM "
			   "pg_catalog.jsonb_array_elements_text($2->'metrics') e),"
			   "        coalesce(($2->>'valid_from')::timestamptz, '-infinity'),"
			   "        coalesce(($2->>'valid_until')::timestamptz, 'infinity'),"
			   "        ($2->>'max_redemptions')::integer, 0, $3"
			   " ON CONFLICT DO NOTHING",
			   TEXTOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(coupon_row, "SELECT c FROM tenancy.coupon c WHERE c.code = $1", TEXTOID);
GATE_LOOKUP(coupon_unknown_plan,
			"SELECT e FROM pg_catalog.jsonb_array_elements_text(coalesce($1->'plans', '[]')) e"
			" WHERE NOT EXISTS (SELECT FROM tenancy.plan p WHERE p.id = e) LIMIT 1",
			JSONBOID);
GATE_LOOKUP(coupon_unknown_metric,
			"SELECT e FROM pg_catalog.jsonb_array_elements_text(coalesce($1->'metrics', '[]')) e"
			" WHERE NOT EXISTS (SELECT FROM tenancy.metric m WHERE m.name = e) LIMIT 1",
			JSONBOID);
GATE_STATEMENT(coupon_for_update,
			   "SELECT c.valid_from <= $2 AND c.valid_until > $2,"
			   "       c.redemptions < coalesce(c.max_redemptions, c.redemptions + 1)"
			   "  FROM tenancy.coupon c WHERE c.code = $1 FOR UPDATE",
			   TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	redemption_insert,
	"INSERT INTO tenancy.coupon_redemption (id, tenant_id, coupon, applied_at,"
	"    periods_left, amount_left, state)"
	" SELECT $1, $2, c.code, $4,"
	"        CASE c.duration WHEN 'repeating' THEN c.duration_periods"
	"                        WHEN 'once' THEN 1 END,"
	"        CASE WHEN c.duration = 'once' AND c.kind = 'fixed' THEN c.value END, 'active'"
	"   FROM tenancy.coupon c WHERE c.code = $3"
	" ON CONFLICT (tenant_id, coupon) WHERE state = 'active' DO NOTHING",
	UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(coupon_count,
			   "UPDATE tenancy.coupon SET redemptions = redemptions + 1 WHERE code = $1", TEXTOID);
GATE_STATEMENT(redemption_row, "SELECT r FROM tenancy.coupon_redemption r WHERE r.id = $1",
			   UUIDOID);
GATE_STATEMENT(redemption_for_update,
			   "SELECT r.id, r.state FROM tenancy.coupon_redemption r"
			   " WHERE r.tenant_id = $1 AND r.coupon = $2 AND r.state = 'active' FOR UPDATE",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(redemption_set_state,
			   "UPDATE tenancy.coupon_redemption SET state = $2 WHERE id = $1", UUIDOID, TEXTOID);

static const StateMove moves[] = {
	{"active", "use up", "used_up"},
	{"active", "revoke", "revoked"},
	{"used_up", "give back", "active"},
};

static StateMachine redemption_states = {
	.name = "coupon_redemption",
	.table = "tenancy.coupon_redemption",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const char *const kinds[] = {"fixed", "percent", NULL};
static const char *const durations[] = {"forever", "once", "repeating", NULL};
static const JsonRule name_element = {.type = JSON_TEXT, .max_length = 63};

static const JsonRule coupon_members[] = {
	{.name = "currency", .type = JSON_TEXT, .check = json_check_currency},
	{.name = "duration", .type = JSON_TEXT, .choices = durations},
	{.name = "duration_periods", .type = JSON_INTEGER, .minimum = "1", .maximum = "1200"},
	{.name = "kind", .type = JSON_TEXT, .is_required = true, .choices = kinds},
	{.name = "max_redemptions", .type = JSON_INTEGER, .minimum = "1", .maximum = "2147483647"},
	{.name = "metrics", .type = JSON_ARRAY, .element = &name_element, .max_length = 100},
	{.name = "name", .type = JSON_TEXT, .max_length = 200},
	{.name = "plans", .type = JSON_ARRAY, .element = &name_element, .max_length = 100},
	{.name = "valid_from", .type = JSON_TEXT, .max_length = 63},
	{.name = "valid_until", .type = JSON_TEXT, .max_length = 63},
	{.name = "value", .type = JSON_NUMBER, .is_required = true, .minimum = "0"},
	{.name = NULL},
};

void
coupon_init(void)
{
	state_machine_register(&redemption_states);
}

static void
require_known(GateStatement *unknown, const Jsonb *document, const char *what)
{
	GateRows *rows = gate_run(unknown, EXPECT_AT_MOST_ONE, gate_jsonb(document));

	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("%s \"%s\" does not exist", what, row_text(rows, 0, 0)));
}

static void
invalid_coupon(const char *fault)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid coupon: %s", fault));
}

/* Infinity, of the sign that there is, where it is not said. */
static TimestampTz
validity(const Jsonb *document, const char *name, TimestampTz unsaid)
{
	char *text = json_text(document, name);

	if (text == NULL || strcmp(text, unsaid == DT_NOEND ? "infinity" : "-infinity") == 0)
		return unsaid;
	return timestamptz_from_text(text, name);
}

static void
validate_amount(Numeric value, const char *currency)
{
	int exponent = currency_exponent(currency);

	if (numeric_compare(value, money_round(value, exponent)) != 0)
		invalid_coupon(psprintf("\"value\" must have at most %d decimals, which is what %s has",
								exponent, currency));
}

static void
validate_coupon(const Jsonb *document)
{
	char *duration = json_text(document, "duration");
	bool is_fixed;
	Numeric value;

	json_validate(document, coupon_members, "coupon");
	is_fixed = strcmp(json_text(document, "kind"), "fixed") == 0;
	value = json_numeric(document, "value");
	if (numeric_is_zero(value))
		invalid_coupon("\"value\" must be more than 0");
	if (!is_fixed && numeric_compare(value, numeric_from_int(100)) > 0)
		invalid_coupon("\"value\" must be at most 100 percent");
	if (is_fixed != (json_text(document, "currency") != NULL))
		invalid_coupon(is_fixed ? "\"currency\" is missing"
								: "\"currency\" has no meaning for a percentage");
	if (is_fixed)
		validate_amount(value, json_text(document, "currency"));
	if (validity(document, "valid_from", DT_NOBEGIN) >= validity(document, "valid_until", DT_NOEND))
		invalid_coupon("\"valid_until\" must be later than \"valid_from\"");
	if ((duration != NULL && strcmp(duration, "repeating") == 0) !=
		(json_numeric(document, "duration_periods") != NULL))
		invalid_coupon("\"duration_periods\" belongs to the duration \"repeating\"");
	require_known(&coupon_unknown_plan, document, "plan");
	require_known(&coupon_unknown_metric, document, "metric");
}

/* coupon_create(code text, coupon jsonb) → tenancy.coupon */
TENANCY_FUNCTION(coupon_create)
{
	char *code = required_text(fcinfo, 0, "code");
	Jsonb *document;

	require_argument(fcinfo, 1, "coupon");
	document = PG_GETARG_JSONB_P(1);
	context_require_none("billing");
	if (*code == '\0' || strlen(code) >= NAMEDATALEN)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid code \"%s\" for a coupon", code), errhint("It has 1 to 63 bytes."));
	validate_coupon(document);
	if (gate_run(&coupon_insert, EXPECT_ANY, gate_text(code), gate_jsonb(document),
				 gate_timestamptz(clock_now()))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("coupon \"%s\" already exists", code));
	PG_RETURN_DATUM(row_datum(gate_run(&coupon_row, EXPECT_ONE, gate_text(code)), 0, 0));
}

pg_uuid_t *
coupon_give(const pg_uuid_t *tenant, const char *code)
{
	TimestampTz now = clock_now();
	pg_uuid_t *id = id_new();
	GateRows *rows =
		gate_run(&coupon_for_update, EXPECT_AT_MOST_ONE, gate_text(code), gate_timestamptz(now));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("coupon \"%s\" does not exist", code));
	if (!row_bool(rows, 0, 0))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("coupon \"%s\" is not valid now", code));
	if (!row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("coupon \"%s\" has been given as often as it may", code));
	if (gate_run(&redemption_insert, EXPECT_ANY, gate_uuid(id), gate_uuid(tenant), gate_text(code),
				 gate_timestamptz(now))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tenant \"%s\" already has coupon \"%s\"", registry_slug(tenant), code));
	gate_run(&coupon_count, EXPECT_ONE, gate_text(code));
	return id;
}

static Datum
redemption_datum(const pg_uuid_t *id)
{
	return row_datum(gate_run(&redemption_row, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

/* coupon_apply(tenant regtenant, code text) → tenancy.coupon_redemption */
TENANCY_FUNCTION(coupon_apply)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *code = required_text(fcinfo, 1, "code");

	context_require_none("billing");
	(void) registry_get(tenant);
	PG_RETURN_DATUM(redemption_datum(coupon_give(tenant, code)));
}

/* coupon_revoke(tenant regtenant, code text) → tenancy.coupon_redemption */
TENANCY_FUNCTION(coupon_revoke)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *code = required_text(fcinfo, 1, "code");
	GateRows *rows;

	context_require_none("billing");
	(void) registry_get(tenant);
	rows = gate_run(&redemption_for_update, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(code));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" has no coupon \"%s\"", registry_slug(tenant), code));
	gate_run(&redemption_set_state, EXPECT_ONE, gate_uuid(row_uuid(rows, 0, 0)),
			 gate_text(state_after(&redemption_states, row_text(rows, 0, 1), "revoke", code)));
	PG_RETURN_DATUM(redemption_datum(row_uuid(rows, 0, 0)));
}
