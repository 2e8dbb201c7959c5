/*
 * price/explain.c
 *		How an amount came about, step by step.
 *
 * The steps are computed by themselves and not noted while rating, which a billing run does half
 * a million times and explains never.  They add up to the exact amount; a test holds them to it.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/explain.h"
#include "price/proration.h"
#include "price/tier.h"

#include "utils/fmgrprotos.h"

typedef struct Steps
{
	ChargeStep *list;
	int count;
	int size;
} Steps;

static ChargeStep *
add_step(Steps *steps, const char *rule, Numeric quantity, Numeric unit_price, Numeric amount,
		 char *description)
{
	ChargeStep *step;

	if (steps->count == steps->size)
	{
		steps->size = Max(2 * steps->size, 8);
		steps->list = steps->list == NULL ? palloc(sizeof(ChargeStep) * steps->size)
										  : repalloc(steps->list, sizeof(ChargeStep) * steps->size);
	}
	step = &steps->list[steps->count++];
	step->rule = rule;
	step->quantity = quantity;
	step->unit_price = unit_price;
	step->amount = amount;
	step->description = description;
	return step;
}

/* Without the zeros that a scale puts behind. */
static char *
plain(Numeric value)
{
	return numeric_text(
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value))));
}

static char *
bounds(Numeric lower, Numeric upper)
{
	if (upper == NULL)
		return psprintf("above %s", plain(lower));
	return numeric_is_zero(lower) ? psprintf("up to %s", plain(upper))
								  : psprintf("above %s up to %s", plain(lower), plain(upper));
}

/* "5 × 6.5 + 20 = 52.5", or without the fee where there is none. */
static char *
sum_text(Numeric quantity, Numeric price, Numeric fee, Numeric amount)
{
	return numeric_is_zero(fee)
			   ? psprintf("%s × %s = %s", plain(quantity), plain(price), plain(amount))
			   : psprintf("%s × %s + %s = %s", plain(quantity), plain(price), plain(fee),
						  plain(amount));
}

static void
explain_graduated(Steps *steps, const Charge *charge, Numeric quantity)
{
	const Tier *last = tier_of(charge, quantity);

	for (const Tier *tier = charge->tiers; tier <= last; tier++)
	{
		Numeric upper = tier == last ? quantity : tier->up_to;
		Numeric within = numeric_minus(upper, tier->lower);
		Numeric amount = numeric_plus(tier->flat_fee, numeric_times(within, tier->unit_price));

		add_step(steps, "tier", within, tier->unit_price, amount,
				 psprintf("tier %d, %s: %s", (int) (tier - charge->tiers) + 1,
						  bounds(tier->lower, tier->up_to),
						  sum_text(within, tier->unit_price, tier->flat_fee, amount)));
	}
}

static void
explain_volume(Steps *steps, const Charge *charge, Numeric quantity)
{
	const Tier *tier = tier_of(charge, quantity);
	Numeric amount = volume_amount(charge, quantity);

	add_step(steps, "tier", quantity, tier->unit_price, amount,
			 psprintf("all in tier %d, %s: %s", (int) (tier - charge->tiers) + 1,
					  bounds(tier->lower, tier->up_to),
					  sum_text(quantity, tier->unit_price, tier->flat_fee, amount)));
}

static void
explain_blocks(Steps *steps, const char *rule, int tier, Numeric blocks, Numeric size,
			   Numeric price)
{
	Numeric amount = numeric_times(blocks, price);
	char *place = tier > 0 ? psprintf("tier %d, ", tier) : "";

	add_step(steps, rule, blocks, price, amount,
			 psprintf("%s%s of %s: %s", place, rule, plain(size),
					  sum_text(blocks, price, numeric_zero(), amount)));
}

static void
explain_block_graduated(Steps *steps, const Charge *charge, Numeric quantity)
{
	for (int i = 0; i < charge->tier_count; i++)
	{
		const Tier *tier = &charge->tiers[i];
		Numeric blocks = started_blocks(quantity, tier->size, false);
		bool is_beyond = tier->max_blocks != NULL && numeric_compare(blocks, tier->max_blocks) > 0;

		explain_blocks(steps, "blocks", i + 1, is_beyond ? tier->max_blocks : blocks, tier->size,
					   tier->price);
		if (!is_beyond)
			break;
		quantity = numeric_minus(quantity, numeric_times(tier->max_blocks, tier->size));
	}
}

static void
explain_block_volume(Steps *steps, const Charge *charge, Numeric quantity)
{
	const Tier *tier = block_volume_tier(charge, quantity);

	explain_blocks(steps, "blocks", (int) (tier - charge->tiers) + 1,
				   started_blocks(quantity, tier->size, false), tier->size, tier->price);
}

/* Of models that are one product, or whose parts are too many to list. */
static void
explain_amount(Steps *steps, const Charge *charge, Numeric quantity, Numeric amount)
{
	const char *rule = charge_model_name(charge->model);
	char *description;

	switch (charge->model)
	{
		case MODEL_FLAT:
			description = psprintf("a price of %s", plain(amount));
			break;
		case MODEL_PER_UNIT:
			description = sum_text(quantity, charge->unit_price, numeric_zero(), amount);
			break;
		case MODEL_DYNAMIC:
			description = psprintf("%s × %s = %s", plain(quantity),
								   charge->multiplier != NULL ? plain(charge->multiplier) : "1",
								   plain(amount));
			break;
		default:
			description = psprintf("%s %% of each transaction and what else its price says: %s",
								   plain(numeric_shift(charge->rate, 2)), plain(amount));
			break;
	}
	add_step(steps, rule, quantity, charge->unit_price, amount, description);
}

static void
explain_model(Steps *steps, const Charge *charge, const ChargeUsage *usage, Numeric quantity,
			  Numeric amount)
{
	if (usage->prorated_values != NULL)
	{
		add_step(steps, "levels", quantity, NULL, amount,
				 psprintf("%d changes of the level, each for its part of the period: %s",
						  usage->value_count, plain(amount)));
		return;
	}
	switch (charge->model)
	{
		case MODEL_GRADUATED:
		case MODEL_GRADUATED_PERCENTAGE:
			explain_graduated(steps, charge, quantity);
			break;
		case MODEL_VOLUME:
			explain_volume(steps, charge, quantity);
			break;
		case MODEL_PACKAGE:
			explain_blocks(
				steps, "packages", 0,
				started_blocks(quantity, charge->package_size, charge->packages_round_down),
				charge->package_size, charge->unit_price);
			break;
		case MODEL_BLOCK_GRADUATED:
			explain_block_graduated(steps, charge, quantity);
			break;
		case MODEL_BLOCK_VOLUME:
			explain_block_volume(steps, charge, quantity);
			break;
		case MODEL_FLAT:
		case MODEL_PER_UNIT:
		case MODEL_PERCENTAGE:
		case MODEL_DYNAMIC:
			explain_amount(steps, charge, quantity, amount);
			break;
	}
}

int
charge_explain(const Charge *charge, int exponent, const ChargeUsage *usage,
			   const ProrationPart *part, ChargeStep **list)
{
	Steps steps = {0};
	RatedLine lines[CHARGE_MAX_LINES];
	ChargeUsage unbilled = *usage;
	Numeric quantity;
	Numeric exact = charge_amount(charge, usage, &quantity);
	int count;

	unbilled.billed_amount = NULL;
	count = charge_rate(charge, exponent, &unbilled, part, lines);
	if (charge->is_unlimited)
		add_step(&steps, "included", usage->quantity, NULL, numeric_zero(),
				 pstrdup("all is included"));
	else
	{
		if (charge->included != NULL)
			add_step(&steps, "included", charge->included, NULL, numeric_zero(),
					 psprintf("%s are included", plain(charge->included)));
		explain_model(&steps, charge, usage, quantity, exact);
	}
	if (part != NULL && charge->is_prorated && usage->prorated_values == NULL)
	{
		Numeric prorated = prorate(exact, part);

		add_step(
			&steps, "part", part->part, NULL, numeric_minus(prorated, exact),
			psprintf("for %s of %s: %s", plain(part->part), plain(part->whole), plain(prorated)));
	}
	for (int i = 0; i < count; i++)
	{
		if (strcmp(lines[i].kind, "minimum") == 0)
			add_step(&steps, "minimum", NULL, NULL, lines[i].amount,
					 psprintf("to the minimum of %s: %s", plain(lines[i].minimum),
							  plain(lines[i].amount)));
	}
	*list = steps.list;
	return steps.count;
}
