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

extern Numeric money_round(Numeric amount, int exponent);

extern Numeric numeric_from_text(const char *text);
extern Numeric numeric_from_int(int64 value);
extern char *numeric_text(Numeric value);
extern Numeric numeric_plus(Numeric a, Numeric b);
extern Numeric numeric_minus(Numeric a, Numeric b);
extern Numeric numeric_times(Numeric a, Numeric b);
extern Numeric numeric_over(Numeric a, Numeric b);
extern int numeric_compare(Numeric a, Numeric b);

/* The larger of a value and zero. */
extern Numeric numeric_positive_part(Numeric value);
extern bool numeric_is_zero(Numeric value);
