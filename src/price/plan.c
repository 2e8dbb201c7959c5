/*
 * price/plan.c
 *		Plans and the versions of their prices.
 *
 * A version of a price has a row for each currency, each complete by itself.  Versions are added
 * under a lock of the plan, and never changed.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "price/plan.h"
#include "price/price.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/array.h"
#include "utils/builtins.h"

GATE_STATEMENT(
	plan_insert,
	"INSERT INTO tenancy.plan (id, name, tier, kind, family, changes_to, features, limits,"
	"    support, sla, created_at, retired_at, shipped)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, false)"
	" ON CONFLICT DO NOTHING",
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, JSONBOID, JSONBOID, JSONBOID,
	JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(plan_price_insert,
			   "INSERT INTO tenancy.plan_price (plan, version, currency, is_main, billing_period,"
			   "    pricing, valid_from, shipped)"
			   " VALUES ($1, $2, $3->>'currency', $4, $3->>'billing_period', $3, $5, false)",
			   TEXTOID, INT4OID, JSONBOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(plan_next_version,
			   "SELECT 1 + coalesce(pg_catalog.max(v.version), 0) FROM tenancy.plan_price v"
			   " WHERE v.plan = $1",
			   TEXTOID);
GATE_STATEMENT(plan_price_row,
			   "SELECT p FROM tenancy.plan_price p"
			   " WHERE p.plan = $1 AND p.version = $2 AND p.is_main",
			   TEXTOID, INT4OID);
GATE_STATEMENT(plan_whole_row, "SELECT p FROM tenancy.plan p WHERE p.id = $1", TEXTOID);
GATE_STATEMENT(plan_for_update, "SELECT p.limits FROM tenancy.plan p WHERE p.id = $1 FOR UPDATE",
			   TEXTOID);
GATE_STATEMENT(plan_set_retired,
			   "UPDATE tenancy.plan SET retired_at = $2 WHERE id = $1 RETURNING id", TEXTOID,
			   TIMESTAMPTZOID);
GATE_LOOKUP(unknown_metric,
			"SELECT w.metric FROM pg_catalog.unnest($1) AS w(metric)"
			" WHERE NOT EXISTS (SELECT FROM tenancy.metric m WHERE m.name = w.metric) LIMIT 1",
			TEXTARRAYOID);

static const JsonRule document_members[] = {
	{.name = "features", .type = JSON_OBJECT, .is_required = true, .check = json_check_booleans},
	{.name = "limits", .type = JSON_OBJECT, .is_required = true, .check = json_check_numbers},
	{.name = "sla", .type = JSON_OBJECT, .is_required = true},
	{.name = "support", .type = JSON_OBJECT, .is_required = true},
	{.name = NULL},
};

static void
require_identifier(const char *id, const char *what)
{
	if (*id == '\0' || strlen(id) >= NAMEDATALEN ||
		strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(id))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid %s \"%s\" for a plan", what, id),
				errhint("It has 1 to 63 lower-case letters, digits, underscores and hyphens."));
}

static void
require_choice(const char *value, const char *what, const char *const *choices)
{
	StringInfoData list;

	initStringInfo(&list);
	for (; *choices != NULL; choices++)
	{
		if (strcmp(*choices, value) == 0)
			return;
		appendStringInfo(&list, "%s\"%s\"", list.len > 0 ? ", " : "", *choices);
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid %s \"%s\"", what, value), errhint("Possible: %s.", list.data));
}

/* The pricing refers to metrics and limits that there are. */
static void
validate_references(const Jsonb *pricing, const Jsonb *limits)
{
	Pricing *parsed = pricing_parse(pricing, limits);
	const char **metrics = palloc(sizeof(char *) * Max(parsed->charge_count, 1));
	int count = 0;
	GateRows *rows;

	for (int i = 0; i < parsed->charge_count; i++)
	{
		const Charge *charge = &parsed->charges[i];

		if (charge->metric != NULL)
			metrics[count++] = charge->metric;
		if (charge->limit != NULL && json_numeric(limits, charge->limit) == NULL)
			ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("limit \"%s\" is not among the limits of the plan", charge->limit));
	}
	rows = gate_run(&unknown_metric, EXPECT_AT_MOST_ONE, gate_text_array(metrics, count));
	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("metric \"%s\" does not exist", row_text(rows, 0, 0)),
				errhint("metric_create() makes one."));
}

void
plan_validate(const PlanDocument *plan)
{
	static const char *const tiers[] = {"starter", "professional", "enterprise", "custom", NULL};
	static const char *const kinds[] = {"plan", "addon", NULL};
	JsonBuilder document;

	require_identifier(plan->id, "id");
	require_identifier(plan->family, "family");
	for (int i = 0; i < plan->changes_to_count; i++)
		require_identifier(plan->changes_to[i], "id");
	require_choice(plan->tier, "tier", tiers);
	require_choice(plan->kind, "kind", kinds);
	json_begin(&document);
	json_put_jsonb(&document, "features", plan->features);
	json_put_jsonb(&document, "limits", plan->limits);
	json_put_jsonb(&document, "support", plan->support);
	json_put_jsonb(&document, "sla", plan->sla);
	json_validate(json_end(&document), document_members, "plan");
}

bool
plan_add(const PlanDocument *plan, bool is_retired, TimestampTz retired_at)
{
	return gate_run(&plan_insert, EXPECT_AT_MOST_ONE, gate_text(plan->id), gate_text(plan->name),
					gate_text(plan->tier), gate_text(plan->kind), gate_text(plan->family),
					plan->changes_to == NULL
						? gate_null()
						: gate_text_array((const char *const *) plan->changes_to,
										  plan->changes_to_count),
					gate_jsonb(plan->features), gate_jsonb(plan->limits), gate_jsonb(plan->support),
					gate_jsonb(plan->sla), gate_timestamptz(clock_now()),
					is_retired ? gate_timestamptz(retired_at) : gate_null())
			   ->count == 1;
}

void
plan_price_add(const char *plan, int32 version, const Jsonb *pricing, bool is_main,
			   const Jsonb *limits, TimestampTz valid_from)
{
	validate_references(pricing, limits);
	gate_run(&plan_price_insert, EXPECT_ONE, gate_text(plan), gate_int32(version),
			 gate_jsonb(pricing), gate_bool(is_main), gate_timestamptz(valid_from));
}

/* A version in all currencies of the document, which is valid. */
static int32
add_version(const char *plan, const Jsonb *pricing, const Jsonb *limits, TimestampTz valid_from)
{
	int32 version = row_int32(gate_run(&plan_next_version, EXPECT_ONE, gate_text(plan)), 0, 0);
	char *main_currency = json_text(pricing, "currency");
	int count;
	char **others = json_member_names(json_member(pricing, "currency_options"), &count);

	plan_price_add(plan, version, pricing_in_currency(pricing, main_currency), true, limits,
				   valid_from);
	for (int i = 0; i < count; i++)
		plan_price_add(plan, version, pricing_in_currency(pricing, others[i]), false, limits,
					   valid_from);
	return version;
}

static Jsonb *
argument_or_empty(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? json_empty_object() : PG_GETARG_JSONB_P(n);
}

static char **
optional_text_array(FunctionCallInfo fcinfo, int n, int *count)
{
	Datum *elements;
	bool *nulls;
	char **list;

	*count = 0;
	if (PG_ARGISNULL(n))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  count);
	list = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"changes_to\" must not contain nulls"));
		list[i] = TextDatumGetCString(elements[i]);
	}
	return list;
}

/*
 * plan_create(id text, name text, tier text, pricing jsonb, limits jsonb, features jsonb,
 *     support jsonb, sla jsonb, kind text, family text, changes_to text[]) → tenancy.plan
 */
TENANCY_FUNCTION(plan_create)
{
	PlanDocument plan = {
		.id = required_text(fcinfo, 0, "id"),
		.name = required_text(fcinfo, 1, "name"),
		.tier = required_text(fcinfo, 2, "tier"),
		.limits = argument_or_empty(fcinfo, 4),
		.features = argument_or_empty(fcinfo, 5),
		.support = argument_or_empty(fcinfo, 6),
		.sla = argument_or_empty(fcinfo, 7),
		.kind = required_text(fcinfo, 8, "kind"),
		.family = required_text(fcinfo, 9, "family"),
	};
	Jsonb *pricing;

	require_argument(fcinfo, 3, "pricing");
	pricing = PG_GETARG_JSONB_P(3);
	plan.changes_to = optional_text_array(fcinfo, 10, &plan.changes_to_count);
	plan_validate(&plan);
	pricing_validate(pricing);
	if (!plan_add(&plan, false, 0))
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("plan \"%s\" already exists", plan.id),
				errhint("plan_price_change() gives it a new price."));
	(void) add_version(plan.id, pricing, plan.limits, DT_NOBEGIN);
	PG_RETURN_DATUM(plan_row(plan.id));
}

Datum
plan_row(const char *id)
{
	return row_datum(gate_run(&plan_whole_row, EXPECT_ONE, gate_text(id)), 0, 0);
}

static void
raise_unknown_plan(const char *id)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("plan \"%s\" does not exist", id));
}

/* Lock the plan; its limits. */
static Jsonb *
lock_plan(const char *id)
{
	GateRows *rows = gate_run(&plan_for_update, EXPECT_AT_MOST_ONE, gate_text(id));

	if (rows->count == 0)
		raise_unknown_plan(id);
	return row_jsonb(rows, 0, 0);
}

/* plan_price_change(plan text, pricing jsonb, valid_from timestamptz) → tenancy.plan_price */
TENANCY_FUNCTION(plan_price_change)
{
	char *plan = required_text(fcinfo, 0, "plan");
	Jsonb *pricing;
	TimestampTz valid_from = required_timestamptz(fcinfo, 2, "valid_from");
	Jsonb *limits;
	int32 version;

	require_argument(fcinfo, 1, "pricing");
	pricing = PG_GETARG_JSONB_P(1);
	pricing_validate(pricing);
	limits = lock_plan(plan);
	version = add_version(plan, pricing, limits, valid_from);
	PG_RETURN_DATUM(row_datum(
		gate_run(&plan_price_row, EXPECT_ONE, gate_text(plan), gate_int32(version)), 0, 0));
}

/* plan_retire(plan text, at timestamptz) → tenancy.plan */
TENANCY_FUNCTION(plan_retire)
{
	char *plan = required_text(fcinfo, 0, "plan");
	TimestampTz at = required_timestamptz(fcinfo, 1, "at");

	if (gate_run(&plan_set_retired, EXPECT_AT_MOST_ONE, gate_text(plan), gate_timestamptz(at))
			->count == 0)
		raise_unknown_plan(plan);
	PG_RETURN_DATUM(plan_row(plan));
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
