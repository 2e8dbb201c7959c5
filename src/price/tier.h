/*
 * price/tier.h
 *		Prices that depend on how much there is: tiers, blocks, and tiers over time.
 */
#pragma once

#include "postgres.h"

#include "price/price.h"

/* Quantities are ≥ 0; amounts are exact. */
extern Numeric graduated_amount(const Charge *charge, Numeric quantity);
extern Numeric volume_amount(const Charge *charge, Numeric quantity);
extern Numeric block_graduated_amount(const Charge *charge, Numeric quantity);
extern Numeric block_volume_amount(const Charge *charge, Numeric quantity);

/* The tier that a quantity lies in. */
extern const Tier *tier_of(const Charge *charge, Numeric quantity);
extern const Tier *block_volume_tier(const Charge *charge, Numeric quantity);

/* Blocks of a size that a quantity starts, or those that it fills. */
extern Numeric started_blocks(Numeric quantity, Numeric size, bool rounds_down);

/*
 * Levels that last for a part of the period only (per_unit, graduated, volume): changes of the
 * level in usage->values, their parts in usage->prorated_values.  To 20 decimals.
 */
extern Numeric prorated_level_amount(const Charge *charge, const ChargeUsage *usage,
									 Numeric *billed_quantity);
