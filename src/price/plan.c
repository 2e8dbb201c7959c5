/*
 * price/plan.c
 *		Plans and the versions of their prices.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "price/price.h"

#include "commands/trigger.h"
#include "utils/builtins.h"

GATE_STATEMENT(
	plan_insert,
	"INSERT INTO tenancy.plan (id, name, tier, kind, family, features, limits, support, sla,"
	"    created_at, shipped)"
	" VALUES ($1, $2, $3, 'plan', 'default', $4, $5, $6, $7, $8, false) ON CONFLICT DO NOTHING",
	TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	plan_price_insert,
	"INSERT INTO tenancy.plan_price AS p"
	"    (plan, version, currency, is_main, billing_period, pricing, valid_from, shipped)"
	" SELECT $1, 1 + coalesce(max(v.version), 0), $2->>'currency', true, $2->>'billing_period',"
	"        $2, $3, false"
	"   FROM tenancy.plan_price v WHERE v.plan = $1"
	" RETURNING p",
	TEXTOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(plan_row, "SELECT p FROM tenancy.plan p WHERE p.id = $1", TEXTOID);
GATE_STATEMENT(plan_lock, "SELECT FROM tenancy.plan p WHERE p.id = $1 FOR UPDATE", TEXTOID);
GATE_LOOKUP(unknown_metric,
			"SELECT w.metric FROM ("
			"   SELECT e->>'metric' FROM pg_catalog.jsonb_array_elements("
			"       coalesce($1->'usage_metrics', '[]')) AS e"
			"   UNION ALL SELECT $1->>'metric') AS w(metric)"
			" WHERE w.metric IS NOT NULL"
			"   AND NOT EXISTS (SELECT FROM tenancy.metric m WHERE m.name = w.metric)"
			" LIMIT 1",
			JSONBOID);
GATE_LOOKUP(unknown_limit,
			"SELECT e->>'limit' FROM pg_catalog.jsonb_array_elements("
			"       coalesce($1->'usage_metrics', '[]')) AS e"
			" WHERE e->>'limit' IS NOT NULL AND NOT $2 ? (e->>'limit') LIMIT 1",
			JSONBOID, JSONBOID);
GATE_LOOKUP(plan_limits, "SELECT p.limits FROM tenancy.plan p WHERE p.id = $1", TEXTOID);

static const JsonRule document_members[] = {
	{.name = "features", .type = JSON_OBJECT, .is_required = true, .check = json_check_booleans},
	{.name = "limits", .type = JSON_OBJECT, .is_required = true, .check = json_check_numbers},
	{.name = "sla", .type = JSON_OBJECT, .is_required = true},
	{.name = "support", .type = JSON_OBJECT, .is_required = true},
	{.name = NULL},
};

static Jsonb *
argument_or_empty(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? json_empty_object() : PG_GETARG_JSONB_P(n);
}

/* The pricing refers to metrics and limits that there are. */
static void
validate_references(const Jsonb *pricing, const Jsonb *limits)
{
	GateRows *rows = gate_run(&unknown_metric, EXPECT_AT_MOST_ONE, gate_jsonb(pricing));

	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", row_text(rows, 0, 0)),
				errhint("metric_create() makes one."));
	rows = gate_run(&unknown_limit, EXPECT_AT_MOST_ONE, gate_jsonb(pricing), gate_jsonb(limits));
	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("limit \"%s\" is not among the limits of the plan", row_text(rows, 0, 0)));
}

/*
 * plan_create(id text, name text, tier text, pricing jsonb, limits jsonb, features jsonb,
 *     support jsonb, sla jsonb) → tenancy.plan
 */
TENANCY_FUNCTION(plan_create)
{
	static const char *const tiers[] = {"custom", "enterprise", "professional", "starter"};
	char *id = required_text(fcinfo, 0, "id");
	char *name = required_text(fcinfo, 1, "name");
	char *tier = required_text(fcinfo, 2, "tier");
	Jsonb *pricing;
	Jsonb *limits = argument_or_empty(fcinfo, 4);
	Jsonb *features = argument_or_empty(fcinfo, 5);
	Jsonb *support = argument_or_empty(fcinfo, 6);
	Jsonb *sla = argument_or_empty(fcinfo, 7);
	JsonBuilder document;
	bool is_tier = false;

	require_argument(fcinfo, 3, "pricing");
	pricing = PG_GETARG_JSONB_P(3);
	if (*id == '\0' || strlen(id) >= NAMEDATALEN ||
		strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(id))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid id \"%s\" for a plan", id),
				errhint("It has 1 to 63 lower-case letters, digits, underscores and hyphens."));
	for (int i = 0; i < lengthof(tiers); i++)
		is_tier = is_tier || strcmp(tier, tiers[i]) == 0;
	if (!is_tier)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid tier \"%s\"", tier),
				errhint("Possible: \"starter\", \"professional\", \"enterprise\", \"custom\"."));

	json_begin(&document);
	json_put_jsonb(&document, "features", features);
	json_put_jsonb(&document, "limits", limits);
	json_put_jsonb(&document, "support", support);
	json_put_jsonb(&document, "sla", sla);
	json_validate(json_end(&document), document_members, "plan");
	pricing_validate(pricing);
	validate_references(pricing, limits);

	if (gate_run(&plan_insert, EXPECT_AT_MOST_ONE, gate_text(id), gate_text(name), gate_text(tier),
				 gate_jsonb(features), gate_jsonb(limits), gate_jsonb(support), gate_jsonb(sla),
				 gate_timestamptz(clock_now()))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("plan \"%s\" already exists", id),
				errhint("plan_price_change() gives it a new price."));
	gate_run(&plan_price_insert, EXPECT_ONE, gate_text(id), gate_jsonb(pricing),
			 gate_timestamptz(DT_NOBEGIN));
	PG_RETURN_DATUM(row_datum(gate_run(&plan_row, EXPECT_ONE, gate_text(id)), 0, 0));
}

/* plan_price_change(plan text, pricing jsonb, valid_from timestamptz) → tenancy.plan_price */
TENANCY_FUNCTION(plan_price_change)
{
	char *plan = required_text(fcinfo, 0, "plan");
	Jsonb *pricing;
	TimestampTz valid_from = required_timestamptz(fcinfo, 2, "valid_from");

	require_argument(fcinfo, 1, "pricing");
	pricing = PG_GETARG_JSONB_P(1);
	pricing_validate(pricing);
	if (gate_run(&plan_lock, EXPECT_AT_MOST_ONE, gate_text(plan))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("plan \"%s\" does not exist", plan));
	validate_references(pricing,
						row_jsonb(gate_run(&plan_limits, EXPECT_ONE, gate_text(plan)), 0, 0));
	PG_RETURN_DATUM(row_datum(gate_run(&plan_price_insert, EXPECT_ONE, gate_text(plan),
									   gate_jsonb(pricing), gate_timestamptz(valid_from)),
							  0, 0));
}

/* tenancy.plan_price_immutable() → trigger */
TENANCY_FUNCTION(plan_price_immutable)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("plan_price_immutable() is a trigger"));
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("a version of a price cannot be changed"),
			errhint("plan_price_change() gives the plan a new one."));
}
