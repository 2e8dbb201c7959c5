/*
 * price/tier.c
 *		Prices that depend on how much there is: tiers, blocks, and tiers over time.
 *
 * The upper bound of a tier belongs to it, as Stripe, Lago and OpenMeter have it; the first tier
 * is entered even by nothing, so that its flat fee is due.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/tier.h"

/* Decimals of quotients that are summed up before they are rounded, and of their sum. */
#define QUOTIENT_DECIMALS 32
#define SUM_DECIMALS 20

const Tier *
tier_of(const Charge *charge, Numeric quantity)
{
	const Tier *tier = charge->tiers;

	while (tier->up_to != NULL && numeric_compare(quantity, tier->up_to) > 0)
		tier++;
	return tier;
}

Numeric
graduated_amount(const Charge *charge, Numeric quantity)
{
	const Tier *tier = tier_of(charge, quantity);

	return numeric_plus(tier->base,
						numeric_times(numeric_minus(quantity, tier->lower), tier->unit_price));
}

Numeric
volume_amount(const Charge *charge, Numeric quantity)
{
	const Tier *tier = tier_of(charge, quantity);

	return numeric_plus(tier->flat_fee, numeric_times(quantity, tier->unit_price));
}

Numeric
started_blocks(Numeric quantity, Numeric size, bool rounds_down)
{
	Numeric blocks = numeric_quotient(quantity, size);

	if (!rounds_down && numeric_compare(numeric_times(blocks, size), quantity) < 0)
		blocks = numeric_plus(blocks, numeric_from_int(1));
	return blocks;
}

/* The blocks of a tier that a quantity starts; true where it goes beyond the tier. */
static bool
fill_blocks(const Tier *tier, Numeric quantity, Numeric *blocks)
{
	*blocks = started_blocks(quantity, tier->size, false);
	if (tier->max_blocks == NULL || numeric_compare(*blocks, tier->max_blocks) <= 0)
		return false;
	*blocks = tier->max_blocks;
	return true;
}

/* Kill Bill's ALL_TIERS: what goes beyond a last tier of so many blocks costs no more. */
Numeric
block_graduated_amount(const Charge *charge, Numeric quantity)
{
	Numeric amount = numeric_zero();

	for (int i = 0; i < charge->tier_count; i++)
	{
		const Tier *tier = &charge->tiers[i];
		Numeric blocks;
		bool is_beyond = fill_blocks(tier, quantity, &blocks);

		amount = numeric_plus(amount, numeric_times(blocks, tier->price));
		if (!is_beyond)
			break;
		quantity = numeric_minus(quantity, numeric_times(blocks, tier->size));
	}
	return amount;
}

/* Kill Bill's TOP_TIER: everything in blocks of the last tier that the quantity reaches. */
const Tier *
block_volume_tier(const Charge *charge, Numeric quantity)
{
	Numeric rest = quantity;
	int i = 0;
	Numeric blocks;

	while (i < charge->tier_count - 1 && fill_blocks(&charge->tiers[i], rest, &blocks))
		rest = numeric_minus(rest, numeric_times(blocks, charge->tiers[i++].size));
	return &charge->tiers[i];
}

Numeric
block_volume_amount(const Charge *charge, Numeric quantity)
{
	const Tier *tier = block_volume_tier(charge, quantity);

	return numeric_times(started_blocks(quantity, tier->size, false), tier->price);
}

/*
 * Tiers over time: the level decides the tier, the prorated part is what costs.  A change of the
 * level walks the tiers from where the level stands, up or down, and each tier that it passes
 * takes its share of the change's part: what came last leaves first.  Below zero the first tier
 * goes on.
 */
typedef struct Walk
{
	const Tier *tiers;
	int tier_count;
	Numeric free_units; /* below the first tier, at no price; NULL for none */
	Numeric level;
	int highest; /* tier that was entered */
	Numeric amount;
	Numeric units; /* prorated, that are priced */
} Walk;

/* Where tier i begins; NULL for minus infinity.  -1 is what is free. */
static Numeric
walk_lower(const Walk *walk, int i)
{
	if (i < 0 || (i == 0 && walk->free_units == NULL))
		return NULL;
	return walk->free_units == NULL ? walk->tiers[i].lower
									: numeric_plus(walk->tiers[i].lower, walk->free_units);
}

static Numeric
walk_upper(const Walk *walk, int i)
{
	return i == walk->tier_count - 1 ? NULL : walk_lower(walk, i + 1);
}

/* The part of [from, to] within tier i; zero where they do not meet. */
static Numeric
walk_within(const Walk *walk, int i, Numeric from, Numeric to)
{
	Numeric lower = walk_lower(walk, i);
	Numeric upper = walk_upper(walk, i);

	if (lower != NULL)
		from = numeric_larger_of(from, lower);
	if (upper != NULL)
		to = numeric_smaller_of(to, upper);
	return numeric_positive_part(numeric_minus(to, from));
}

static void
walk_step(Walk *walk, Numeric change, Numeric part)
{
	Numeric after = numeric_plus(walk->level, change);
	Numeric from = numeric_smaller_of(walk->level, after);
	Numeric to = numeric_larger_of(walk->level, after);
	Numeric length = numeric_minus(to, from);
	Numeric amount = numeric_zero();
	Numeric units = numeric_zero();

	if (numeric_is_zero(change))
		return;
	for (int i = walk->free_units == NULL ? 0 : -1; i < walk->tier_count; i++)
	{
		Numeric within = walk_within(walk, i, from, to);

		if (i < 0 || numeric_is_zero(within))
			continue;
		walk->highest = Max(walk->highest, i);
		units = numeric_plus(units, within);
		amount = numeric_plus(amount, numeric_times(within, walk->tiers[i].unit_price));
	}
	walk->level = after;
	/* The part has the sign of the change. */
	part = money_round(part, QUOTIENT_DECIMALS);
	walk->amount = numeric_plus(walk->amount, numeric_over(numeric_times(part, amount), length));
	walk->units = numeric_plus(walk->units, numeric_over(numeric_times(part, units), length));
}

static Numeric
flat_fees(const Charge *charge, int last)
{
	Numeric sum = numeric_zero();

	for (int i = 0; i <= last; i++)
		sum = numeric_plus(sum, charge->tiers[i].flat_fee);
	return sum;
}

Numeric
prorated_level_amount(const Charge *charge, const ChargeUsage *usage, Numeric *billed_quantity)
{
	Tier single = {.unit_price = charge->unit_price, .lower = numeric_zero()};
	bool is_single = charge->model == MODEL_PER_UNIT;
	Walk walk = {
		.tiers = is_single ? &single : charge->tiers,
		.tier_count = is_single ? 1 : charge->tier_count,
		.free_units = charge->included,
		.level = numeric_zero(),
		.amount = numeric_zero(),
		.units = numeric_zero(),
	};
	Numeric amount;

	for (int i = 0; i < usage->value_count; i++)
		walk_step(&walk, usage->values[i], usage->prorated_values[i]);
	*billed_quantity = numeric_positive_part(money_round(walk.units, SUM_DECIMALS));
	if (charge->model == MODEL_VOLUME)
	{
		const Tier *tier =
			tier_of(charge, charge->included == NULL ? walk.level
													 : numeric_minus(walk.level, charge->included));

		amount = numeric_plus(tier->flat_fee, numeric_times(walk.units, tier->unit_price));
	}
	else
		amount =
			is_single ? walk.amount : numeric_plus(walk.amount, flat_fees(charge, walk.highest));
	return numeric_positive_part(money_round(amount, SUM_DECIMALS));
}
