/*
 * billing/price.h
 *		Rating: what a quantity costs.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

/* Raise 22023 naming the first fault of a plan's pricing, or of a price. */
extern void pricing_validate(const Jsonb *pricing);

/* One line of an invoice, rated. */
typedef struct RatedLine
{
	char *description;
	char *metric; /* NULL for the base price */
	char *unit;
	Numeric quantity;
	Numeric unit_price; /* NULL where there is no single one */
	Numeric amount;     /* rounded */
	Jsonb *trace;
} RatedLine;

/* Σ over the tiers of the units in each × its price + the flat fee of each entered; unrounded. */
extern Numeric rate_graduated(const Jsonb *tiers, Numeric quantity);
