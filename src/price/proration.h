/*
 * price/proration.h
 *		Parts of periods, parts of amounts.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "price/price.h"
#include "utils/numeric.h"

/*
 * From a start to an end in seconds, or in civil days of a time zone, half-open.  In days the
 * day of the end does not count and that of the start does.
 */
extern Numeric proration_length(TimestampTz starts_at, TimestampTz ends_at, ProrationUnit unit,
								const char *time_zone);

/* The part [starts_at, ends_at) of the period [period_start, period_end). */
extern ProrationPart proration_part(TimestampTz starts_at, TimestampTz ends_at,
									TimestampTz period_start, TimestampTz period_end,
									ProrationUnit unit, const char *time_zone);

/* Raise 22023 unless 0 ≤ part and 0 < whole; for arguments of these names. */
extern void proration_part_check(Numeric part, Numeric whole);

/* amount × part ÷ whole, unrounded; the amount itself where part is NULL. */
extern Numeric prorate(Numeric amount, const ProrationPart *part);

/* What may still be given back: the part asked for, at most what was paid less earlier credits,
 * at least nothing.
 */
extern Numeric credit_cap(Numeric credit, Numeric paid, Numeric earlier_credits);

/*
 * Spread an amount over weights (≥ 0) at so many decimals by largest remainder, ties by order:
 * the shares add up to the amount.  Where all weights are zero they count as equal.
 */
extern Numeric *allocate(Numeric amount, const Numeric *weights, int count, int decimals);

/*
 * Exact amounts as rounded ones that add up to their rounded sum, by largest remainder.  They may
 * be of either sign.
 */
extern Numeric *round_to_sum(const Numeric *amounts, int count, Numeric sum, int decimals);
