/*
 * price/price.h
 *		Charges: what a quantity costs.
 *
 * The pricing of a plan is parsed once into charges; a charge turns the usage of a period
 * into lines.  Nothing here reads a table, a clock or a setting.  A line is rounded once,
 * half away from zero, to the exponent of the currency; nothing else is.
 */
#pragma once

#include "postgres.h"

#include "core/period.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* In the order of the names in charge_model_name(). */
typedef enum ChargeModel
{
	MODEL_FLAT,                 /* a price, whatever the quantity */
	MODEL_PER_UNIT,             /* a price for each unit */
	MODEL_GRADUATED,            /* units in each tier at its price */
	MODEL_VOLUME,               /* all units at the price of the tier of the total */
	MODEL_PACKAGE,              /* a price for each started package */
	MODEL_PERCENTAGE,           /* a part of the value of each transaction */
	MODEL_GRADUATED_PERCENTAGE, /* of the accumulated value, tier by tier */
	MODEL_BLOCK_GRADUATED,      /* started blocks of each tier at its price */
	MODEL_BLOCK_VOLUME,         /* started blocks of the last tier that is reached */
	MODEL_DYNAMIC               /* the values that events bring, times a factor */
} ChargeModel;

typedef enum QuantityRounding
{
	QUANTITY_EXACT,
	QUANTITY_UP,
	QUANTITY_DOWN,
	QUANTITY_HALF_UP
} QuantityRounding;

typedef struct Tier
{
	Numeric up_to;      /* inclusive; NULL where the tier is open above */
	Numeric unit_price; /* of a percentage its rate as a fraction; never NULL: zero */
	Numeric flat_fee;   /* due when the tier is entered; never NULL */
	Numeric size;       /* of a block; NULL outside of the block models */
	Numeric max_blocks; /* NULL for any number */
	Numeric price;      /* of a block */
	/* What the tiers below cost when they are full, and the flat fees up to and with this one. */
	Numeric base;
	Numeric lower; /* where this one begins */
} Tier;

typedef struct Charge
{
	char *id;
	char *name;
	char *metric; /* NULL where nothing is metered */
	char *unit;   /* NULL for none */
	char *limit;  /* the limit of the plan that says what is included; NULL for none */
	ChargeModel model;
	bool is_per_seat;   /* the quantity is that of the subscription's item */
	bool is_in_advance; /* billed at the start of a period; never when metered */
	bool is_recurring;  /* false: once, on the first invoice, and never prorated */
	bool is_prorated;   /* part of a period costs part of the amount */
	bool is_unlimited;  /* all is included */
	bool needs_values;  /* each event counts by itself: ChargeUsage.values */
	Numeric included;   /* free units; NULL for none */
	Numeric unit_price; /* of a unit or a package; of the whole when flat */
	Tier *tiers;
	int tier_count;
	Numeric package_size;
	bool packages_round_down;
	Numeric rate; /* as a fraction */
	Numeric fixed_fee;
	int64 free_events;           /* -1 for none */
	Numeric free_amount;         /* NULL for none */
	Numeric transaction_minimum; /* NULL for none */
	Numeric transaction_maximum;
	Numeric multiplier; /* NULL for 1 */
	QuantityRounding quantity_rounding;
	int quantity_decimals;
	Numeric minimum; /* of a period; NULL for none */
	Numeric maximum;
	char **tax_rates; /* its own, or those of the pricing; NULL where neither has any */
	int tax_rate_count;
} Charge;

typedef enum ProrationUnit
{
	PRORATE_SECOND,
	PRORATE_DAY,
	PRORATE_NONE,
	PRORATE_DAY_OF_30 /* months of 30 days; no plan has it */
} ProrationUnit;

/* The pricing of a plan, immutable.  All in the memory context of the call that parsed it. */
typedef struct Pricing
{
	char *currency;
	int exponent;
	char *period_name;
	BillingPeriod period;
	Charge *charges;
	int charge_count;
	Numeric minimum; /* commitment of a period; NULL for none */
	Numeric maximum; /* most that a period costs */
	char **tax_rates;
	int tax_rate_count;
	int trial_days;
	bool trial_usage_is_free;
	ProrationUnit proration_unit;
	bool has_advance; /* a charge is billed at the start of a period */
	bool has_one_off; /* a charge is billed once */
	bool has_seats;
} Pricing;

/*
 * Raise 22023 naming the path of the first fault of a pricing document, such as
 * "charges[2].tiers[0].unit_price".
 */
extern void pricing_validate(const Jsonb *pricing);

/* Parse a valid document; limits of the plan say what is included ("limit"; NULL for none). */
extern Pricing *pricing_parse(const Jsonb *pricing, const Jsonb *limits);

extern const char *charge_model_name(ChargeModel model);

/* The document for one of its currencies, without currency_options; NULL where it has none. */
extern Jsonb *pricing_in_currency(const Jsonb *pricing, const char *currency);

/* What was used in a period. */
typedef struct ChargeUsage
{
	Numeric quantity; /* units, seats or value; NULL for none */
	/*
	 * Where a charge needs_values.  Of a percentage: the value of each transaction, in order.  Of
	 * a metered charge that is prorated: each change of the level, with the part of it that
	 * falls to the period beside it: 5 units added on day 11 of 31 are 5 and 5 × 21 ÷ 31.  The
	 * quantity then says nothing.  Without values a percentage takes it as one transaction.
	 */
	const Numeric *values;
	const Numeric *prorated_values;
	int value_count;
	/* Of the same period and charge, on earlier invoices; NULL for nothing. */
	Numeric billed_amount;
} ChargeUsage;

/* How much of a period is billed, in seconds or days; multiplied before it is divided. */
typedef struct ProrationPart
{
	Numeric part;
	Numeric whole; /* > 0 */
} ProrationPart;

typedef struct RatedLine
{
	const Charge *charge; /* NULL for the commitment of the whole pricing */
	const char *kind;     /* "charge", "minimum" */
	const char *description;
	const char *metric;
	const char *unit;
	Numeric quantity;   /* billed: above what is included, rounded as the charge says */
	Numeric unit_price; /* NULL where there is no single one */
	Numeric amount;     /* rounded */
	Numeric exact;      /* before it was rounded */
	/* For the trace. */
	Numeric used;              /* NULL where nothing is measured */
	const ProrationPart *part; /* as given, where it took part */
	bool by_changes;           /* of a level, each with its own part */
	Numeric billed_amount;     /* minimum: what was billed towards it; charge: earlier */
	Numeric minimum;           /* of the period or its part, rounded */
} RatedLine;

#define CHARGE_MAX_LINES 2

/*
 * The lines of a charge: itself, and what is missing to its minimum; 0 to CHARGE_MAX_LINES.  A
 * charge without quantity and amount makes no line.  part is NULL for a whole period.  What is
 * allocated lives in the current context.  (A maximum is no line but a discount that comes
 * after percentages: DISCOUNT_MAXIMUM of a document.)
 */
extern int charge_rate(const Charge *charge, int exponent, const ChargeUsage *usage,
					   const ProrationPart *part, RatedLine *lines);

/* What the usage costs, unrounded and whatever was billed before; the billed quantity if wanted. */
extern Numeric charge_amount(const Charge *charge, const ChargeUsage *usage,
							 Numeric *billed_quantity);

/*
 * The line of what is missing to a commitment; false where nothing is.  minimum counts for the
 * whole period and is prorated; billed is the sum of the rounded lines that count towards it.
 */
extern bool commitment_rate(Numeric minimum, Numeric billed, int exponent,
							const ProrationPart *part, RatedLine *line);

/*
 * What a line was computed from, for invoice_explain(): small, since prices and tiers are looked
 * up by plan, version and charge.
 */
extern Jsonb *rated_line_trace(const RatedLine *line, int price_version);

/* The quantity rounded as a price says, to so many decimals. */
extern Numeric quantity_round(Numeric quantity, QuantityRounding rounding, int decimals);
