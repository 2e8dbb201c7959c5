/*
 * price/charge_document.h
 *		The document of a price: what may stand in it, and reading it into a charge.
 */
#pragma once

#include "postgres.h"

#include "core/json.h"
#include "price/price.h"

/* Where in which document a fault is: "pricing", "charges[2]." */
typedef struct DocumentPath
{
	const char *what;
	const char *path; /* empty, or ends with a point */
} DocumentPath;

/* Raise 22023: invalid (what): "(path)(member)" (fault). */
extern void document_fault(const DocumentPath *at, const char *member, const char *fault);

/* For JsonRule.check: a number of at most 12 decimals. */
extern const char *price_check_decimals(JsonbValue *value);

/* The rule of a member that is a price, or an amount of a price's unit. */
#define LARGEST_PRICE "999999999999999999999999"
#define PRICE_NUMBER(name_)                                                                        \
	{                                                                                              \
		.name = name_, .type = JSON_NUMBER, .minimum = "0", .maximum = LARGEST_PRICE,              \
		.check = price_check_decimals                                                              \
	}

/* The members of a charge, for the rules of the documents that it stands in. */
extern const JsonRule charge_rule;

/* What the rule alone cannot say. */
extern void charge_check(const Jsonb *charge, const DocumentPath *at);

/* The tiers of a price: its model's members, and bounds that rise; nothing for NULL. */
extern void tiers_check(const Jsonb *tiers, const DocumentPath *at, ChargeModel model);

/* A price alone, as for price_calculate(); 22023. */
extern void price_validate(const Jsonb *price);

/* From valid documents, into the current memory context. */
extern void price_read(Charge *charge, const Jsonb *price);
extern void charge_read(Charge *charge, const Jsonb *document, bool is_base_in_advance);
extern char **text_list_read(const Jsonb *array, int *count);

/* "up", "down", "half_up"; 22023 for anything else. */
extern QuantityRounding quantity_rounding(const char *name);

/* Can the model price levels that last for a part of the period? */
extern bool charge_prorates_levels(const Charge *charge);
