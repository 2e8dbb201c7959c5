/*
 * price/charge_document.c
 *		The document of a price: what may stand in it, and reading it into a charge.
 *
 * One table says which members each model must and may have.  A charge of a plan's pricing is a
 * price with a name, a metric and when it is billed beside it.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/money.h"
#include "price/charge_document.h"

#include "utils/fmgrprotos.h"

#define MAX_PRICE_DECIMALS 12
#define MOST_EVENTS "9000000000000000000"

static const char *const model_names[] = {
	[MODEL_FLAT] = "flat",
	[MODEL_PER_UNIT] = "per_unit",
	[MODEL_GRADUATED] = "graduated",
	[MODEL_VOLUME] = "volume",
	[MODEL_PACKAGE] = "package",
	[MODEL_PERCENTAGE] = "percentage",
	[MODEL_GRADUATED_PERCENTAGE] = "graduated_percentage",
	[MODEL_BLOCK_GRADUATED] = "block_graduated",
	[MODEL_BLOCK_VOLUME] = "block_volume",
	[MODEL_DYNAMIC] = "dynamic",
	NULL,
};
static const char *const rounding_names[] = {"up", "down", "half_up", NULL};
static const char *const package_roundings[] = {"up", "down", NULL};
static const char *const timings[] = {"advance", "arrears", NULL};

const char *
price_check_decimals(JsonbValue *value)
{
	int32 decimals =
		DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(value->val.numeric)));

	return decimals <= MAX_PRICE_DECIMALS ? NULL : "a number of at most 12 decimals";
}

static const char *
check_positive(JsonbValue *value)
{
	return numeric_is_zero(value->val.numeric) ? "more than 0" : price_check_decimals(value);
}

#define POSITIVE_NUMBER(name_)                                                                     \
	{                                                                                              \
		.name = name_, .type = JSON_NUMBER, .minimum = "0", .maximum = LARGEST_PRICE,              \
		.check = check_positive                                                                    \
	}

static const JsonRule tier_members[] = {
	PRICE_NUMBER("flat_fee"),
	{.name = "max_blocks", .type = JSON_INTEGER, .minimum = "1", .is_nullable = true},
	PRICE_NUMBER("price"),
	{.name = "rate", .type = JSON_NUMBER, .minimum = "0", .maximum = "1000"},
	POSITIVE_NUMBER("size"),
	PRICE_NUMBER("unit_price"),
	{.name = "up_to",
	 .type = JSON_NUMBER,
	 .minimum = "0",
	 .maximum = LARGEST_PRICE,
	 .is_nullable = true,
	 .check = price_check_decimals},
	{.name = NULL},
};
static const JsonRule tier = {.type = JSON_OBJECT, .members = tier_members};
static const JsonRule tax_rate = {.type = JSON_TEXT, .max_length = 63};

/* What a price has, whoever charges it. */
#define PRICE_MEMBERS                                                                              \
	PRICE_NUMBER("fixed_fee"), PRICE_NUMBER("free_amount"),                                        \
		{.name = "free_events", .type = JSON_INTEGER, .minimum = "0", .maximum = MOST_EVENTS},     \
		PRICE_NUMBER("included"), PRICE_NUMBER("maximum"), PRICE_NUMBER("minimum"),                \
		{.name = "model", .type = JSON_TEXT, .is_required = true, .choices = model_names},         \
		PRICE_NUMBER("multiplier"),                                                                \
		{.name = "package_rounding", .type = JSON_TEXT, .choices = package_roundings},             \
		POSITIVE_NUMBER("package_size"), {.name = "prorate", .type = JSON_BOOLEAN},                \
		{.name = "quantity_decimals", .type = JSON_INTEGER, .minimum = "0", .maximum = "12"},      \
		{.name = "quantity_rounding", .type = JSON_TEXT, .choices = rounding_names},               \
		{.name = "rate", .type = JSON_NUMBER, .minimum = "0", .maximum = "1000"},                  \
		{.name = "tiers", .type = JSON_ARRAY, .element = &tier, .max_length = 100},                \
		PRICE_NUMBER("transaction_maximum"), PRICE_NUMBER("transaction_minimum"),                  \
		PRICE_NUMBER("unit_price")

static const JsonRule price_members[] = {PRICE_MEMBERS, {.name = NULL}};
static const JsonRule charge_members[] = {
	{.name = "id", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "limit", .type = JSON_TEXT, .max_length = 63},
	{.name = "metric", .type = JSON_TEXT, .max_length = 63},
	{.name = "name", .type = JSON_TEXT, .max_length = 100},
	{.name = "per_seat", .type = JSON_BOOLEAN},
	{.name = "recurring", .type = JSON_BOOLEAN},
	{.name = "tax_rates", .type = JSON_ARRAY, .element = &tax_rate, .max_length = 10},
	{.name = "timing", .type = JSON_TEXT, .choices = timings},
	{.name = "unit", .type = JSON_TEXT, .max_length = 32},
	PRICE_MEMBERS,
	{.name = NULL},
};
const JsonRule charge_rule = {.type = JSON_OBJECT, .members = charge_members};

/* Members that depend on the model; what stands nowhere here fits every model. */
#define MAX_MODEL_MEMBERS 6
static const struct
{
	const char *required[MAX_MODEL_MEMBERS];
	const char *allowed[MAX_MODEL_MEMBERS];
	const char *tier_required[MAX_MODEL_MEMBERS];
	const char *tier_allowed[MAX_MODEL_MEMBERS];
	bool is_of_values;    /* of what events are worth, not of how many there are */
	bool prorates_levels; /* the parts of a period that units were there for can be priced */
} models[] = {
	[MODEL_FLAT] = {.required = {"unit_price"}},
	[MODEL_PER_UNIT] = {.required = {"unit_price"},
						.allowed = {"included", "limit"},
						.prorates_levels = true},
	[MODEL_GRADUATED] = {.required = {"tiers"},
						 .allowed = {"included", "limit"},
						 .tier_allowed = {"flat_fee", "unit_price", "up_to"},
						 .prorates_levels = true},
	[MODEL_VOLUME] = {.required = {"tiers"},
					  .allowed = {"included", "limit"},
					  .tier_allowed = {"flat_fee", "unit_price", "up_to"},
					  .prorates_levels = true},
	[MODEL_PACKAGE] = {.required = {"package_size", "unit_price"},
					   .allowed = {"included", "limit", "package_rounding"}},
	[MODEL_PERCENTAGE] = {.required = {"rate"},
						  .allowed = {"fixed_fee", "free_amount", "free_events",
									  "transaction_maximum", "transaction_minimum"},
						  .is_of_values = true},
	[MODEL_GRADUATED_PERCENTAGE] = {.required = {"tiers"},
									.allowed = {"included", "limit"},
									.tier_allowed = {"flat_fee", "rate", "up_to"},
									.is_of_values = true},
	[MODEL_BLOCK_GRADUATED] = {.required = {"tiers"},
							   .allowed = {"included", "limit"},
							   .tier_required = {"price", "size"},
							   .tier_allowed = {"max_blocks"}},
	[MODEL_BLOCK_VOLUME] = {.required = {"tiers"},
							.allowed = {"included", "limit"},
							.tier_required = {"price", "size"},
							.tier_allowed = {"max_blocks"}},
	[MODEL_DYNAMIC] = {.allowed = {"multiplier"}, .is_of_values = true},
};
static const char *const model_members[] = {
	"fixed_fee",  "free_amount",         "free_events",         "included", "limit",
	"multiplier", "package_size",        "package_rounding",    "rate",     "tiers",
	"unit_price", "transaction_maximum", "transaction_minimum",
};
static const char *const tier_member_names[] = {
	"flat_fee", "max_blocks", "price", "rate", "size", "unit_price", "up_to",
};

const char *
charge_model_name(ChargeModel model)
{
	return model_names[model];
}

bool
charge_prorates_levels(const Charge *charge)
{
	return models[charge->model].prorates_levels;
}

static bool
is_among(const char *name, const char *const *names)
{
	for (int i = 0; i < MAX_MODEL_MEMBERS && names[i] != NULL; i++)
	{
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static ChargeModel
model_of(const Jsonb *document)
{
	char *name = json_text(document, "model");
	int model = 0;

	while (strcmp(model_names[model], name) != 0)
		model++;
	return (ChargeModel) model;
}

void
document_fault(const DocumentPath *at, const char *member, const char *fault)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid %s: \"%s%s\" %s", at->what, at->path, member, fault));
}

/* The members that the model must, may and must not have. */
static void
check_members(const Jsonb *document, const DocumentPath *at, const char *model,
			  const char *const *names, int count, const char *const *required,
			  const char *const *allowed)
{
	for (int i = 0; i < count; i++)
	{
		bool is_there = json_member(document, names[i]) != NULL;

		if (is_there && !is_among(names[i], required) && !is_among(names[i], allowed))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"%s%s\" has no meaning", at->what, at->path, names[i]),
					errdetail("Model \"%s\" does not have it.", model));
		if (!is_there && is_among(names[i], required))
			document_fault(at, names[i], "is missing");
	}
}

/* The bounds rise, and the last tier alone is open. */
static void
check_bounds(const Jsonb *tiers, const DocumentPath *at, const char *bound, bool rises)
{
	int count = json_element_count(tiers);
	Numeric previous = NULL;

	for (int i = 0; i < count; i++)
	{
		Numeric up_to = json_numeric(json_element(tiers, i), bound);
		bool is_last = i == count - 1;

		/* A last tier of a number of blocks is a cap, as Kill Bill has it. */
		if (up_to == NULL ? !is_last : is_last && rises)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"%stiers[%d].%s\" must be %s", at->what, at->path, i,
						   bound, up_to == NULL ? "a number" : "absent"),
					errdetail(rises ? "The last tier, and no other, is open above."
									: "No tier but the last is open above."));
		if (rises && up_to != NULL && previous != NULL && numeric_compare(up_to, previous) <= 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"%stiers[%d].%s\" must be more than %s", at->what,
						   at->path, i, bound, numeric_text(previous)));
		previous = up_to;
	}
}

void
tiers_check(const Jsonb *tiers, const DocumentPath *at, ChargeModel model)
{
	bool is_of_blocks = model == MODEL_BLOCK_GRADUATED || model == MODEL_BLOCK_VOLUME;

	if (tiers == NULL)
		return;
	if (json_element_count(tiers) == 0)
		document_fault(at, "tiers", "is missing");
	for (int i = 0; i < json_element_count(tiers); i++)
	{
		DocumentPath tier_at = {at->what, psprintf("%stiers[%d].", at->path, i)};

		check_members(json_element(tiers, i), &tier_at, model_names[model], tier_member_names,
					  lengthof(tier_member_names), models[model].tier_required,
					  models[model].tier_allowed);
	}
	check_bounds(tiers, at, is_of_blocks ? "max_blocks" : "up_to", !is_of_blocks);
}

/* What every price keeps to, in a plan or alone. */
static void
check_price(const Jsonb *price, const DocumentPath *at)
{
	ChargeModel model = model_of(price);
	Numeric minimum = json_numeric(price, "minimum");
	Numeric maximum = json_numeric(price, "maximum");
	Numeric least = json_numeric(price, "transaction_minimum");
	Numeric most = json_numeric(price, "transaction_maximum");

	check_members(price, at, model_names[model], model_members, lengthof(model_members),
				  models[model].required, models[model].allowed);
	tiers_check(json_member(price, "tiers"), at, model);
	if (json_has(price, "quantity_decimals") && !json_has(price, "quantity_rounding"))
		document_fault(at, "quantity_rounding", "is missing");
	if (minimum != NULL && maximum != NULL && numeric_compare(minimum, maximum) > 0)
		document_fault(at, "maximum", psprintf("must be at least %s", numeric_text(minimum)));
	if (least != NULL && most != NULL && numeric_compare(least, most) > 0)
		document_fault(at, "transaction_maximum",
					   psprintf("must be at least %s", numeric_text(least)));
}

void
price_validate(const Jsonb *price)
{
	json_validate(price, price_members, "price");
	check_price(price, &(DocumentPath){"price", ""});
}

void
charge_check(const Jsonb *charge, const DocumentPath *at)
{
	ChargeModel model = model_of(charge);
	char *id = json_text(charge, "id");
	bool is_metered = json_text(charge, "metric") != NULL;
	bool is_per_seat = json_bool(charge, "per_seat", false);
	char *timing = json_text(charge, "timing");

	if (*id == '\0' || strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(id))
		document_fault(at, "id", "must be of lower-case letters, digits, underscores and hyphens");
	check_price(charge, at);
	if (json_has(charge, "included") && json_has(charge, "limit"))
		document_fault(at, "limit", "has no meaning beside \"included\"");
	if (is_metered && is_per_seat)
		document_fault(at, "per_seat", "has no meaning beside \"metric\"");
	if (is_per_seat && model == MODEL_FLAT)
		document_fault(at, "per_seat", "has no meaning for model \"flat\"");
	if (is_metered && model == MODEL_FLAT)
		document_fault(at, "metric", "has no meaning for model \"flat\"");
	if (!is_metered && !is_per_seat && model != MODEL_FLAT)
		document_fault(at, "metric", "is missing");
	if (!is_metered && models[model].is_of_values)
		document_fault(at, "metric", "is missing");
	if (is_metered && timing != NULL && strcmp(timing, "advance") == 0)
		document_fault(at, "timing", "must be \"arrears\": it is metered");
	if (is_metered && !json_bool(charge, "recurring", true))
		document_fault(at, "recurring", "must be true: it is metered");
	if (is_metered && json_bool(charge, "prorate", false) && !models[model].prorates_levels)
		document_fault(at, "prorate",
					   psprintf("must be false for model \"%s\" of a metric", model_names[model]));
	if (!json_bool(charge, "recurring", true) && json_bool(charge, "prorate", false))
		document_fault(at, "prorate", "must be false: it is billed once");
}

/* Reading. */

static Numeric
or_zero(Numeric value)
{
	return value != NULL ? value : numeric_zero();
}

/* A percentage as a fraction, without a division. */
static Numeric
fraction(Numeric percentage)
{
	return percentage != NULL ? numeric_shift(percentage, -2) : numeric_zero();
}

static void
read_tiers(Charge *charge, const Jsonb *tiers)
{
	Numeric base = numeric_zero();
	Numeric lower = numeric_zero();

	charge->tier_count = json_element_count(tiers);
	charge->tiers = palloc0(sizeof(Tier) * Max(charge->tier_count, 1));
	for (int i = 0; i < charge->tier_count; i++)
	{
		const Jsonb *from = json_element(tiers, i);
		Tier *to = &charge->tiers[i];

		to->up_to = json_numeric(from, "up_to");
		to->unit_price = charge->model == MODEL_GRADUATED_PERCENTAGE
							 ? fraction(json_numeric(from, "rate"))
							 : or_zero(json_numeric(from, "unit_price"));
		to->flat_fee = or_zero(json_numeric(from, "flat_fee"));
		to->size = json_numeric(from, "size");
		to->max_blocks = json_numeric(from, "max_blocks");
		to->price = json_numeric(from, "price");
		to->lower = lower;
		to->base = base = numeric_plus(base, to->flat_fee);
		if (to->up_to != NULL)
		{
			base =
				numeric_plus(base, numeric_times(numeric_minus(to->up_to, lower), to->unit_price));
			lower = to->up_to;
		}
	}
}

static QuantityRounding
read_quantity_rounding(const Jsonb *price)
{
	char *name = json_text(price, "quantity_rounding");

	if (name == NULL)
		return QUANTITY_EXACT;
	return quantity_rounding(name);
}

QuantityRounding
quantity_rounding(const char *name)
{
	for (int i = 0; rounding_names[i] != NULL; i++)
	{
		if (strcmp(rounding_names[i], name) == 0)
			return (QuantityRounding) (QUANTITY_UP + i);
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid rounding \"%s\"", name),
			errhint("Possible: \"up\", \"down\", \"half_up\"."));
}

void
price_read(Charge *charge, const Jsonb *price)
{
	char *package_rounding = json_text(price, "package_rounding");
	Numeric free_events = json_numeric(price, "free_events");

	memset(charge, 0, sizeof(Charge));
	charge->model = model_of(price);
	charge->is_recurring = true;
	charge->included = json_numeric(price, "included");
	charge->unit_price = json_numeric(price, "unit_price");
	charge->package_size = json_numeric(price, "package_size");
	charge->packages_round_down = package_rounding != NULL && strcmp(package_rounding, "down") == 0;
	charge->rate = fraction(json_numeric(price, "rate"));
	charge->fixed_fee = or_zero(json_numeric(price, "fixed_fee"));
	charge->free_events =
		free_events == NULL
			? -1
			: DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(free_events)));
	charge->free_amount = json_numeric(price, "free_amount");
	charge->transaction_minimum = json_numeric(price, "transaction_minimum");
	charge->transaction_maximum = json_numeric(price, "transaction_maximum");
	charge->multiplier = json_numeric(price, "multiplier");
	charge->quantity_rounding = read_quantity_rounding(price);
	charge->quantity_decimals = json_int32(price, "quantity_decimals", 0);
	charge->minimum = json_numeric(price, "minimum");
	charge->maximum = json_numeric(price, "maximum");
	charge->is_prorated = json_bool(price, "prorate", true);
	read_tiers(charge, json_member(price, "tiers"));
	/* A rate alone is the same of a sum as of its parts. */
	charge->needs_values =
		charge->model == MODEL_PERCENTAGE &&
		(!numeric_is_zero(charge->fixed_fee) || charge->free_events >= 0 ||
		 charge->transaction_minimum != NULL || charge->transaction_maximum != NULL);
}

char **
text_list_read(const Jsonb *array, int *count)
{
	char **list;

	*count = json_element_count(array);
	list = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		list[i] = json_element_text(array, i);
	return list;
}

void
charge_read(Charge *charge, const Jsonb *document, bool is_base_in_advance)
{
	char *timing = json_text(document, "timing");
	Jsonb *tax_rates = json_member(document, "tax_rates");
	bool is_metered;

	price_read(charge, document);
	charge->id = json_text(document, "id");
	charge->name = json_text(document, "name");
	if (charge->name == NULL)
		charge->name = charge->id;
	charge->metric = json_text(document, "metric");
	is_metered = charge->metric != NULL;
	charge->unit = json_text(document, "unit");
	charge->limit = json_text(document, "limit");
	charge->is_per_seat = json_bool(document, "per_seat", false);
	charge->is_in_advance =
		!is_metered && (timing == NULL ? is_base_in_advance : strcmp(timing, "advance") == 0);
	charge->is_recurring = json_bool(document, "recurring", true);
	charge->is_prorated = json_bool(document, "prorate", !is_metered && charge->is_recurring);
	charge->needs_values = charge->needs_values || (is_metered && charge->is_prorated);
	if (tax_rates != NULL)
		charge->tax_rates = text_list_read(tax_rates, &charge->tax_rate_count);
}
