/*
 * price/allocation.c
 *		Spreading one amount over several: largest remainder.
 *
 * Each share is first cut to whole units of the currency; the units that are left go to the
 * shares that lost most, the first among equals.  All in whole numbers: nothing is rounded.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/proration.h"

typedef struct Share
{
	int position;
	Numeric units;
	Numeric remainder;
} Share;

static int
by_remainder(const void *a, const void *b)
{
	const Share *x = a;
	const Share *y = b;
	int order = numeric_compare(y->remainder, x->remainder);

	return order != 0 ? order : x->position - y->position;
}

/* Round the shares down to units and give the units that are missing to the largest remainders. */
static Numeric *
distribute(Share *shares, int count, Numeric units, bool is_negative, int decimals)
{
	Numeric *amounts = palloc(sizeof(Numeric) * Max(count, 1));
	Numeric one = numeric_from_int(1);

	for (int i = 0; i < count; i++)
		units = numeric_minus(units, shares[i].units);
	qsort(shares, count, sizeof(Share), by_remainder);
	for (int i = 0; i < count; i++)
	{
		Numeric share = shares[i].units;

		if (numeric_compare(units, numeric_zero()) > 0)
		{
			share = numeric_plus(share, one);
			units = numeric_minus(units, one);
		}
		share = money_round(numeric_shift(share, -decimals), decimals);
		amounts[shares[i].position] = is_negative ? numeric_negate(share) : share;
	}
	return amounts;
}

Numeric *
allocate(Numeric amount, const Numeric *weights, int count, int decimals)
{
	bool is_negative = numeric_compare(amount, numeric_zero()) < 0;
	Numeric units = numeric_shift(is_negative ? numeric_negate(amount) : amount, decimals);
	Numeric sum = numeric_zero();
	Share *shares = palloc(sizeof(Share) * Max(count, 1));
	bool is_even;

	for (int i = 0; i < count; i++)
		sum = numeric_plus(sum, weights[i]);
	is_even = numeric_is_zero(sum);
	if (is_even)
		sum = numeric_from_int(count);
	for (int i = 0; i < count; i++)
	{
		Numeric product = is_even ? units : numeric_times(units, weights[i]);

		shares[i].position = i;
		shares[i].units = numeric_quotient(product, sum);
		shares[i].remainder = numeric_minus(product, numeric_times(shares[i].units, sum));
	}
	return distribute(shares, count, units, is_negative, decimals);
}

Numeric *
round_to_sum(const Numeric *amounts, int count, Numeric sum, int decimals)
{
	Share *shares = palloc(sizeof(Share) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		Numeric units = numeric_shift(amounts[i], decimals);

		shares[i].position = i;
		shares[i].units = numeric_floor_of(units);
		shares[i].remainder = numeric_minus(units, shares[i].units);
	}
	return distribute(shares, count, numeric_shift(sum, decimals), false, decimals);
}
