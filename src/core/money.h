/*
 * core/money.h
 *		Amounts of money: currencies, their exponents, and rounding.
 *
 * Amounts are numeric, never floating point.  A price keeps its decimals; an amount is
 * rounded once, half away from zero, to the exponent of its currency.
 */
#pragma once

#include "postgres.h"

#include "utils/numeric.h"

/* Decimals of the currency (ISO 4217): 2 for USD, 0 for JPY, 3 for KWD.  22023 for an unknown code.
 */
extern int currency_exponent(const char *code);
extern bool currency_is_known(const char *code);

/*
 * An amount in the minor units that a payment gateway counts in: cents; and back.  The gateway is
 * NULL for those of ISO 4217, which most take; "stripe" has its own for some currencies.
 */
extern Numeric money_to_minor(Numeric amount, const char *currency, const char *gateway);
extern Numeric money_from_minor(Numeric minor, const char *currency, const char *gateway);

extern Numeric money_round(Numeric amount, int exponent);

/* numerator ÷ denominator (> 0), rounded once and exactly, half away from zero. */
extern Numeric money_ratio(Numeric numerator, Numeric denominator, int exponent);

/* Zero, which nobody must free or change. */
extern Numeric numeric_zero(void);
extern Numeric numeric_from_text(const char *text);
extern Numeric numeric_from_int(int64 value);
extern char *numeric_text(Numeric value);
extern Numeric numeric_plus(Numeric a, Numeric b);
extern Numeric numeric_minus(Numeric a, Numeric b);
extern Numeric numeric_times(Numeric a, Numeric b);
extern Numeric numeric_over(Numeric a, Numeric b);
extern Numeric numeric_negate(Numeric value);
extern Numeric numeric_smaller_of(Numeric a, Numeric b);
extern Numeric numeric_larger_of(Numeric a, Numeric b);
extern int numeric_compare(Numeric a, Numeric b);

/* The quotient cut to a whole number, and what remains: a = quotient × b + remainder. */
extern Numeric numeric_quotient(Numeric a, Numeric b);
extern Numeric numeric_remainder(Numeric a, Numeric b);

extern Numeric numeric_floor_of(Numeric value);

/* The value × 10^places; up to 12 places either way. */
extern Numeric numeric_shift(Numeric value, int places);

/* The larger of a value and zero. */
extern Numeric numeric_positive_part(Numeric value);
extern bool numeric_is_zero(Numeric value);
