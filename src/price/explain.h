/*
 * price/explain.h
 *		How an amount came about, step by step.
 */
#pragma once

#include "postgres.h"

#include "price/price.h"

typedef struct ChargeStep
{
	const char *rule;   /* "tier", "included", "packages", … */
	Numeric quantity;   /* NULL where there is none */
	Numeric unit_price; /* NULL where there is none */
	Numeric amount;     /* exact; the steps add up */
	char *description;  /* a sentence without full stop */
} ChargeStep;

/* The steps of what charge_rate() makes of the same, whatever was billed before; their number. */
extern int charge_explain(const Charge *charge, int exponent, const ChargeUsage *usage,
						  const ProrationPart *part, ChargeStep **steps);
