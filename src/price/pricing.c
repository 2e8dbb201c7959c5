/*
 * price/pricing.c
 *		The pricing document of a plan: what may stand in it, and reading it into charges.
 *
 * A document has charges, and shorthands for the usual ones: a base price, usage metrics,
 * graduated tiers over one metric, a setup fee.  The shorthands become charges here, and nobody
 * else knows of them.  The type of a document says which parts there must be.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/money.h"
#include "price/charge_document.h"
#include "price/price.h"

#define MAX_CHARGES 100

static const char *const pricing_types[] = {"custom", "fixed",       "hybrid",
											"tiered", "usage_based", NULL};
static const char *const timings[] = {"advance", "arrears", NULL};
static const char *const trial_usages[] = {"billed", "free", NULL};
static const char *const proration_units[] = {
	[PRORATE_SECOND] = "second",
	[PRORATE_DAY] = "day",
	[PRORATE_NONE] = "none",
	NULL,
};

static const JsonRule tier_members[] = {
	PRICE_NUMBER("flat_fee"),
	PRICE_NUMBER("unit_price"),
	{.name = "up_to", .type = JSON_NUMBER, .minimum = "0", .is_nullable = true},
	{.name = NULL},
};
static const JsonRule tier = {.type = JSON_OBJECT, .members = tier_members};

static const JsonRule usage_members[] = {
	PRICE_NUMBER("included"),
	{.name = "limit", .type = JSON_TEXT, .max_length = 63},
	{.name = "metric", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "name", .type = JSON_TEXT, .is_required = true, .max_length = 100},
	{.name = "price",
	 .type = JSON_NUMBER,
	 .is_required = true,
	 .minimum = "0",
	 .check = price_check_decimals},
	{.name = "unit", .type = JSON_TEXT, .is_required = true, .max_length = 32},
	{.name = NULL},
};
static const JsonRule usage_metric = {.type = JSON_OBJECT, .members = usage_members};
static const JsonRule tax_rate = {.type = JSON_TEXT, .max_length = 63};

static const JsonRule pricing_members[] = {
	PRICE_NUMBER("base_price"),
	{.name = "base_timing", .type = JSON_TEXT, .choices = timings},
	{.name = "billing_period",
	 .type = JSON_TEXT,
	 .is_required = true,
	 .choices = billing_period_names},
	{.name = "charges", .type = JSON_ARRAY, .element = &charge_rule, .max_length = MAX_CHARGES},
	{.name = "currency", .type = JSON_TEXT, .is_required = true, .check = json_check_currency},
	{.name = "currency_options", .type = JSON_OBJECT},
	PRICE_NUMBER("maximum"),
	{.name = "metric", .type = JSON_TEXT, .max_length = 63},
	PRICE_NUMBER("minimum"),
	{.name = "proration_unit", .type = JSON_TEXT, .choices = proration_units},
	PRICE_NUMBER("setup_fee"),
	{.name = "tax_rates", .type = JSON_ARRAY, .element = &tax_rate, .max_length = 10},
	{.name = "tiers", .type = JSON_ARRAY, .element = &tier, .max_length = 100},
	{.name = "trial_days", .type = JSON_INTEGER, .minimum = "0", .maximum = "3650"},
	{.name = "trial_usage", .type = JSON_TEXT, .choices = trial_usages},
	{.name = "type", .type = JSON_TEXT, .is_required = true, .choices = pricing_types},
	{.name = "usage_metrics", .type = JSON_ARRAY, .element = &usage_metric, .max_length = 100},
	{.name = NULL},
};

/* Which parts each type of pricing must, may (neither) or must not have. */
typedef enum Part
{
	PART_REFUSED,
	PART_ALLOWED,
	PART_REQUIRED
} Part;

static const struct
{
	const char *type;
	Part usage;
	Part tiers;
} type_parts[] = {
	{"custom", PART_ALLOWED, PART_ALLOWED},       {"fixed", PART_REFUSED, PART_REFUSED},
	{"hybrid", PART_ALLOWED, PART_REQUIRED},      {"tiered", PART_REFUSED, PART_REQUIRED},
	{"usage_based", PART_REQUIRED, PART_REFUSED},
};

static void
check_part(const DocumentPath *at, const char *type, const char *name, Part part, bool is_there,
		   bool is_charged)
{
	if (part == PART_REQUIRED && !is_there && !is_charged)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid %s: \"%s\" is missing", at->what, name),
				errdetail("Pricing of type \"%s\" has it, or such charges.", type));
	if (part == PART_REFUSED && is_there)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid %s: \"%s\" has no meaning", at->what, name),
				errdetail("Pricing of type \"%s\" does not have it.", type));
}

/* Charges that do what the shorthands do. */
static void
check_charges(const Jsonb *charges, const DocumentPath *at, bool *has_metered, bool *has_tiered)
{
	*has_metered = *has_tiered = false;
	for (int i = 0; i < json_element_count(charges); i++)
	{
		Jsonb *charge = json_element(charges, i);

		charge_check(charge, &(DocumentPath){at->what, psprintf("charges[%d].", i)});
		*has_metered = *has_metered || json_text(charge, "metric") != NULL;
		*has_tiered = *has_tiered || json_member(charge, "tiers") != NULL;
	}
}

static void
check_parts(const Jsonb *pricing, const DocumentPath *at)
{
	char *type = json_text(pricing, "type");
	Jsonb *usage = json_member(pricing, "usage_metrics");
	Jsonb *tiers = json_member(pricing, "tiers");
	Jsonb *charges = json_member(pricing, "charges");
	bool has_tiers = json_element_count(tiers) > 0;
	bool has_metered;
	bool has_tiered;

	check_charges(charges, at, &has_metered, &has_tiered);
	for (int i = 0; i < lengthof(type_parts); i++)
	{
		if (strcmp(type_parts[i].type, type) != 0)
			continue;
		check_part(at, type, "usage_metrics", type_parts[i].usage, json_element_count(usage) > 0,
				   has_metered);
		check_part(at, type, "tiers", type_parts[i].tiers, has_tiers, has_tiered);
		check_part(at, type, "metric", has_tiers ? PART_REQUIRED : PART_REFUSED,
				   json_text(pricing, "metric") != NULL, false);
	}
	if (strcmp(type, "fixed") == 0)
	{
		if (json_element_count(charges) == 0 && !json_has(pricing, "base_price"))
			document_fault(at, "base_price", "is missing");
		if (has_metered)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"charges\" are metered", at->what),
					errdetail("Pricing of type \"fixed\" meters nothing."));
	}
}

/* Lines are told apart by the ids of their charges. */
static void
check_ids(const Jsonb *pricing, const DocumentPath *at)
{
	Pricing *parsed = pricing_parse(pricing, NULL);

	for (int i = 0; i < parsed->charge_count; i++)
	{
		for (int j = 0; j < i; j++)
		{
			if (strcmp(parsed->charges[i].id, parsed->charges[j].id) == 0)
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid %s: there are two charges \"%s\"", at->what,
							   parsed->charges[i].id),
						errdetail("\"base\", \"tiers\", \"setup_fee\" and the names of usage "
								  "metrics are charges, too."));
		}
	}
}

static void
validate(const Jsonb *pricing, const char *what)
{
	DocumentPath at = {what, ""};
	Jsonb *usage;
	Numeric minimum;
	Numeric maximum;

	json_validate(pricing, pricing_members, what);
	check_parts(pricing, &at);
	tiers_check(json_member(pricing, "tiers"), &at, MODEL_GRADUATED);
	usage = json_member(pricing, "usage_metrics");
	for (int i = 0; i < json_element_count(usage); i++)
	{
		Jsonb *item = json_element(usage, i);

		if (json_has(item, "included") && json_has(item, "limit"))
			document_fault(&(DocumentPath){what, psprintf("usage_metrics[%d].", i)}, "limit",
						   "has no meaning beside \"included\"");
	}
	minimum = json_numeric(pricing, "minimum");
	maximum = json_numeric(pricing, "maximum");
	if (minimum != NULL && maximum != NULL && numeric_compare(minimum, maximum) > 0)
		document_fault(&at, "maximum", psprintf("must be at least %s", numeric_text(minimum)));
	check_ids(pricing, &at);
}

/* The object without one member; the rest as it was. */
static Jsonb *
without_member(const Jsonb *object, const char *name)
{
	JsonBuilder patch;

	json_begin(&patch);
	json_put_text(&patch, name, NULL);
	return json_merge_patch(object, json_end(&patch));
}

Jsonb *
pricing_in_currency(const Jsonb *pricing, const char *currency)
{
	Jsonb *options = json_member(pricing, "currency_options");
	Jsonb *alone = without_member(pricing, "currency_options");
	Jsonb *option;
	JsonBuilder patch;

	if (strcmp(json_text(pricing, "currency"), currency) == 0)
		return alone;
	option = json_member(options, currency);
	if (option == NULL)
		return NULL;
	json_begin(&patch);
	json_put_text(&patch, "currency", currency);
	return json_merge_patch(json_merge_patch(alone, option), json_end(&patch));
}

/* What is the same in all currencies, since subscriptions count on it. */
static const char *const common_members[] = {
	"billing_period", "currency", "currency_options", "proration_unit", "trial_days",
	"trial_usage",    "type"};

void
pricing_validate(const Jsonb *pricing)
{
	Jsonb *options;
	char **currencies;
	int count;

	validate(pricing, "pricing");
	options = json_member(pricing, "currency_options");
	currencies = json_member_names(options, &count);
	for (int i = 0; i < count; i++)
	{
		Jsonb *option = json_member(options, currencies[i]);
		DocumentPath at = {"pricing", psprintf("currency_options.%s.", currencies[i])};

		if (!currency_is_known(currencies[i]) ||
			strcmp(currencies[i], json_text(pricing, "currency")) == 0)
			document_fault(&(DocumentPath){"pricing", "currency_options."}, currencies[i],
						   "must be another currency of ISO 4217");
		if (option == NULL || !JB_ROOT_IS_OBJECT(option))
			document_fault(&(DocumentPath){"pricing", "currency_options."}, currencies[i],
						   "must be an object");
		for (int j = 0; j < lengthof(common_members); j++)
		{
			if (json_has(option, common_members[j]))
				document_fault(&at, common_members[j], "is the same in all currencies");
		}
		validate(pricing_in_currency(pricing, currencies[i]),
				 psprintf("pricing in %s", currencies[i]));
	}
}

/* Reading. */

static void
add_base(Pricing *pricing, const char *id, const char *name, Numeric price, bool is_in_advance,
		 bool is_recurring)
{
	Charge *charge = &pricing->charges[pricing->charge_count];

	if (price == NULL || numeric_is_zero(price))
		return;
	memset(charge, 0, sizeof(Charge));
	charge->id = pstrdup(id);
	charge->name = pstrdup(name);
	charge->model = MODEL_FLAT;
	charge->unit_price = price;
	charge->is_in_advance = is_in_advance;
	charge->is_recurring = is_recurring;
	charge->is_prorated = is_recurring;
	charge->free_events = -1;
	pricing->charge_count++;
}

/* A member of a shorthand under the name that it has in a charge. */
static void
put_member(JsonBuilder *charge, const char *to, const Jsonb *from, const char *name)
{
	Jsonb *value = json_member(from, name);

	if (value != NULL)
		json_put_jsonb(charge, to, value);
}

static void
add_usage_metric(Pricing *pricing, const Jsonb *item)
{
	JsonBuilder charge;

	json_begin(&charge);
	json_put_text(&charge, "model", "per_unit");
	put_member(&charge, "id", item, "name");
	put_member(&charge, "name", item, "name");
	put_member(&charge, "metric", item, "metric");
	put_member(&charge, "unit", item, "unit");
	put_member(&charge, "unit_price", item, "price");
	put_member(&charge, "included", item, "included");
	put_member(&charge, "limit", item, "limit");
	charge_read(&pricing->charges[pricing->charge_count++], json_end(&charge), false);
}

static void
add_tiers(Pricing *pricing, const Jsonb *document)
{
	JsonBuilder charge;

	if (json_element_count(json_member(document, "tiers")) == 0)
		return;
	json_begin(&charge);
	json_put_text(&charge, "model", "graduated");
	json_put_text(&charge, "id", "tiers");
	put_member(&charge, "name", document, "metric");
	put_member(&charge, "metric", document, "metric");
	put_member(&charge, "tiers", document, "tiers");
	charge_read(&pricing->charges[pricing->charge_count++], json_end(&charge), false);
}

/* What a limit of the plan includes; below zero is without limit. */
static void
include_limit(Charge *charge, const Jsonb *limits)
{
	Numeric limit = charge->limit != NULL ? json_numeric(limits, charge->limit) : NULL;

	if (limit == NULL)
		return;
	charge->is_unlimited = numeric_compare(limit, numeric_zero()) < 0;
	charge->included = charge->is_unlimited ? NULL : limit;
}

static bool
is_choice(const Jsonb *document, const char *member, const char *choice)
{
	char *text = json_text(document, member);

	return text != NULL && strcmp(text, choice) == 0;
}

static ProrationUnit
read_proration_unit(const Jsonb *document)
{
	char *name = json_text(document, "proration_unit");
	int unit = PRORATE_SECOND;

	while (name != NULL && strcmp(proration_units[unit], name) != 0)
		unit++;
	return (ProrationUnit) unit;
}

/* What the charges say together. */
static void
summarize(Pricing *pricing)
{
	for (int i = 0; i < pricing->charge_count; i++)
	{
		Charge *charge = &pricing->charges[i];

		pricing->has_advance = pricing->has_advance || charge->is_in_advance;
		pricing->has_one_off = pricing->has_one_off || !charge->is_recurring;
		pricing->has_seats = pricing->has_seats || charge->is_per_seat;
		if (charge->tax_rates == NULL)
		{
			charge->tax_rates = pricing->tax_rates;
			charge->tax_rate_count = pricing->tax_rate_count;
		}
	}
}

Pricing *
pricing_parse(const Jsonb *document, const Jsonb *limits)
{
	Pricing *pricing = palloc0(sizeof(Pricing));
	bool is_base_in_advance = is_choice(document, "base_timing", "advance");
	Jsonb *usage = json_member(document, "usage_metrics");
	Jsonb *charges = json_member(document, "charges");
	Jsonb *tax_rates = json_member(document, "tax_rates");

	pricing->currency = json_text(document, "currency");
	pricing->exponent = currency_exponent(pricing->currency);
	pricing->period_name = json_text(document, "billing_period");
	pricing->period = billing_period(pricing->period_name);
	pricing->minimum = json_numeric(document, "minimum");
	pricing->maximum = json_numeric(document, "maximum");
	pricing->trial_days = json_int32(document, "trial_days", 0);
	pricing->trial_usage_is_free = is_choice(document, "trial_usage", "free");
	pricing->proration_unit = read_proration_unit(document);
	if (tax_rates != NULL)
		pricing->tax_rates = text_list_read(tax_rates, &pricing->tax_rate_count);

	/* The base price, the setup fee and the tiers are one charge each. */
	pricing->charges =
		palloc(sizeof(Charge) * (json_element_count(usage) + json_element_count(charges) + 3));
	add_base(pricing, "base", "Base price", json_numeric(document, "base_price"),
			 is_base_in_advance, true);
	add_base(pricing, "setup_fee", "Setup fee", json_numeric(document, "setup_fee"),
			 is_base_in_advance, false);
	for (int i = 0; i < json_element_count(usage); i++)
		add_usage_metric(pricing, json_element(usage, i));
	add_tiers(pricing, document);
	for (int i = 0; i < json_element_count(charges); i++)
		charge_read(&pricing->charges[pricing->charge_count++], json_element(charges, i),
					is_base_in_advance);
	for (int i = 0; i < pricing->charge_count; i++)
		include_limit(&pricing->charges[i], limits);
	summarize(pricing);
	return pricing;
}
