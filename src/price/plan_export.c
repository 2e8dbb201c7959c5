/*
 * price/plan_export.c
 *		Plans as documents, from one database to another.
 *
 * What plan_export() writes plan_import() reads, and the plan then exports to the same document.
 * A plan that exists gets the versions that it lacks; all else must be equal, since what was
 * promised stays.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/function.h"
#include "core/json.h"
#include "price/charge_document.h"
#include "price/plan.h"
#include "price/price.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define PLAN_DOCUMENT                                                                              \
	"SELECT pg_catalog.jsonb_build_object('id', p.id, 'name', p.name, 'tier', p.tier,"             \
	"    'kind', p.kind, 'family', p.family, 'features', p.features, 'limits', p.limits,"          \
	"    'support', p.support, 'sla', p.sla,"                                                      \
	"    'prices', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("                    \
	"            'version', v.version, 'main', v.is_main, 'valid_from', v.valid_from,"             \
	"            'pricing', v.pricing) ORDER BY v.version, NOT v.is_main, v.currency)"             \
	"        FROM tenancy.plan_price v WHERE v.plan = p.id))"                                      \
	"    || CASE WHEN p.changes_to IS NULL THEN '{}'"                                              \
	"            ELSE pg_catalog.jsonb_build_object('changes_to', p.changes_to) END"               \
	"    || CASE WHEN p.retired_at IS NULL THEN '{}'"                                              \
	"            ELSE pg_catalog.jsonb_build_object('retired_at', p.retired_at) END"               \
	"  FROM tenancy.plan p WHERE p.id = $1"

GATE_LOOKUP(plan_document, PLAN_DOCUMENT, TEXTOID);
/* After a lock was waited for, what the other has committed counts. */
GATE_STATEMENT(plan_document_now, PLAN_DOCUMENT, TEXTOID);
GATE_STATEMENT(plan_document_locked, "SELECT FROM tenancy.plan p WHERE p.id = $1 FOR UPDATE",
			   TEXTOID);

static const JsonRule price_members[] = {
	{.name = "main", .type = JSON_BOOLEAN, .is_required = true},
	{.name = "pricing", .type = JSON_OBJECT, .is_required = true},
	{.name = "valid_from", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "version",
	 .type = JSON_INTEGER,
	 .is_required = true,
	 .minimum = "1",
	 .maximum = "2147483647"},
	{.name = NULL},
};
static const JsonRule price_rule = {.type = JSON_OBJECT, .members = price_members};
static const JsonRule id_rule = {.type = JSON_TEXT, .max_length = 63};

static const JsonRule plan_members[] = {
	{.name = "changes_to", .type = JSON_ARRAY, .element = &id_rule, .max_length = 1000},
	{.name = "family", .type = JSON_TEXT, .is_required = true},
	{.name = "features", .type = JSON_OBJECT, .is_required = true},
	{.name = "id", .type = JSON_TEXT, .is_required = true},
	{.name = "kind", .type = JSON_TEXT, .is_required = true},
	{.name = "limits", .type = JSON_OBJECT, .is_required = true},
	{.name = "name", .type = JSON_TEXT, .is_required = true, .max_length = 200},
	{.name = "prices",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &price_rule,
	 .max_length = 10000},
	{.name = "retired_at", .type = JSON_TEXT, .max_length = 63},
	{.name = "sla", .type = JSON_OBJECT, .is_required = true},
	{.name = "support", .type = JSON_OBJECT, .is_required = true},
	{.name = "tier", .type = JSON_TEXT, .is_required = true},
	{.name = NULL},
};

/* plan_export(plan text) → jsonb */
TENANCY_FUNCTION(plan_export)
{
	char *id = required_text(fcinfo, 0, "plan");
	GateRows *rows = gate_run(&plan_document, EXPECT_AT_MOST_ONE, gate_text(id));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("plan \"%s\" does not exist", id));
	PG_RETURN_JSONB_P(row_jsonb(rows, 0, 0));
}

static TimestampTz
time_of(const Jsonb *object, const char *name)
{
	return DatumGetTimestampTz(
		DirectFunctionCall3(timestamptz_in, CStringGetDatum(json_text(object, name)),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static bool
is_equal(const Jsonb *a, const Jsonb *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers((JsonbContainer *) &a->root, (JsonbContainer *) &b->root) == 0;
}

/* Each version has one main currency, and no currency twice. */
static void
check_prices(const Jsonb *prices)
{
	int count = json_element_count(prices);

	for (int i = 0; i < count; i++)
	{
		const Jsonb *price = json_element(prices, i);
		Jsonb *pricing = json_member(price, "pricing");
		DocumentPath at = {"plan", psprintf("prices[%d].", i)};
		int32 version = json_int32(price, "version", 0);
		int mains = 0;

		pricing_validate(pricing);
		if (json_has(pricing, "currency_options"))
			document_fault(&at, "pricing.currency_options",
						   "has no meaning: each currency is a price");
		for (int j = 0; j < count; j++)
		{
			const Jsonb *other = json_element(prices, j);

			if (json_int32(other, "version", 0) != version)
				continue;
			mains += json_bool(other, "main", false);
			if (j < i && strcmp(json_text(json_member(other, "pricing"), "currency"),
								json_text(pricing, "currency")) == 0)
				document_fault(&at, "pricing.currency", "must differ within a version");
		}
		if (mains != 1)
			document_fault(&at, "main", "must be true for one price of each version");
	}
	if (count == 0)
		document_fault(&(DocumentPath){"plan", ""}, "prices", "must not be empty");
}

static void
read_plan(PlanDocument *plan, const Jsonb *document)
{
	Jsonb *changes_to = json_member(document, "changes_to");

	plan->id = json_text(document, "id");
	plan->name = json_text(document, "name");
	plan->tier = json_text(document, "tier");
	plan->kind = json_text(document, "kind");
	plan->family = json_text(document, "family");
	if (changes_to != NULL)
		plan->changes_to = text_list_read(changes_to, &plan->changes_to_count);
	plan->features = json_member(document, "features");
	plan->limits = json_member(document, "limits");
	plan->support = json_member(document, "support");
	plan->sla = json_member(document, "sla");
}

/* What is there must be what the document says. */
static void
check_same_plan(const Jsonb *document, const Jsonb *there, const char *id)
{
	for (const JsonRule *member = plan_members; member->name != NULL; member++)
	{
		if (strcmp(member->name, "prices") != 0 &&
			!is_equal(json_member(document, member->name), json_member(there, member->name)))
			ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("plan \"%s\" already exists, with another \"%s\"", id, member->name));
	}
}

/* The same version and currency among the prices; NULL where there is none. */
static const Jsonb *
find_price(const Jsonb *prices, const Jsonb *price)
{
	char *currency = json_text(json_member(price, "pricing"), "currency");

	for (int i = 0; i < json_element_count(prices); i++)
	{
		const Jsonb *other = json_element(prices, i);

		if (json_int32(other, "version", 0) == json_int32(price, "version", 0) &&
			strcmp(json_text(json_member(other, "pricing"), "currency"), currency) == 0)
			return other;
	}
	return NULL;
}

/* Is there any price of the version? */
static bool
has_version(const Jsonb *prices, int32 version)
{
	for (int i = 0; i < json_element_count(prices); i++)
	{
		if (json_int32(json_element(prices, i), "version", 0) == version)
			return true;
	}
	return false;
}

static bool
is_same_price(const Jsonb *a, const Jsonb *b)
{
	return is_equal(json_member(a, "pricing"), json_member(b, "pricing")) &&
		   json_bool(a, "main", false) == json_bool(b, "main", false) &&
		   time_of(a, "valid_from") == time_of(b, "valid_from");
}

static void
import_prices(const char *plan, const Jsonb *prices, const Jsonb *there, const Jsonb *limits)
{
	for (int i = 0; i < json_element_count(prices); i++)
	{
		const Jsonb *price = json_element(prices, i);
		int32 version = json_int32(price, "version", 0);
		const Jsonb *same = find_price(there, price);

		if (same == NULL && !has_version(there, version))
			plan_price_add(plan, version, json_member(price, "pricing"),
						   json_bool(price, "main", false), limits, time_of(price, "valid_from"));
		else if (same == NULL || !is_same_price(price, same))
			ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("plan \"%s\" already has another version %d", plan, version));
	}
}

/* plan_import(document jsonb) → tenancy.plan */
TENANCY_FUNCTION(plan_import)
{
	Jsonb *document;
	Jsonb *prices;
	Jsonb *there = NULL;
	PlanDocument plan = {0};
	bool is_retired;

	require_argument(fcinfo, 0, "document");
	document = PG_GETARG_JSONB_P(0);
	json_validate(document, plan_members, "plan");
	read_plan(&plan, document);
	plan_validate(&plan);
	prices = json_member(document, "prices");
	check_prices(prices);
	is_retired = json_has(document, "retired_at");
	if (!plan_add(&plan, is_retired, is_retired ? time_of(document, "retired_at") : 0))
	{
		gate_run(&plan_document_locked, EXPECT_ONE, gate_text(plan.id));
		there = row_jsonb(gate_run(&plan_document_now, EXPECT_ONE, gate_text(plan.id)), 0, 0);
		check_same_plan(document, there, plan.id);
	}
	import_prices(plan.id, prices, there != NULL ? json_member(there, "prices") : NULL,
				  plan.limits);
	PG_RETURN_DATUM(plan_row(plan.id));
}
