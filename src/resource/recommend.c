/*
 * resource/recommend.c
 *		How much of a resource a tenant should have, from what it used.
 *
 * The rules and constants are those of Kubernetes' Vertical Pod Autoscaler (buckets that grow by 5
 * percent from 0.01, a half-life of a day, percentiles 50, 90 and 95, a margin of 15 percent,
 * multipliers 1 and 0.001 of confidence) and of its Horizontal Pod Autoscaler (tolerance 0.1).
 * Usage is no money: floating point is right here.
 */
#include "postgres.h"

#include "core/function.h"
#include "resource/recommend.h"

#include <math.h>

#include "utils/array.h"

#define FIRST_BUCKET 0.01
#define BUCKET_GROWTH 1.05
#define HALF_LIFE_DAYS 1.0
#define MARGIN 1.15
#define LOWER_PERCENTILE 0.5
#define TARGET_PERCENTILE 0.9
#define UPPER_PERCENTILE 0.95
#define UPPER_MULTIPLIER 1.0
#define UPPER_EXPONENT 1.0
#define LOWER_MULTIPLIER 0.001
#define LOWER_EXPONENT -2.0
#define LEAST_CONFIDENCE (1.0 / 1440)
#define TOLERANCE 0.1

static double
weight(const Observation *observation)
{
	return exp2(-Max(observation->age_days, 0) / HALF_LIFE_DAYS);
}

/* Bucket n is as wide as FIRST_BUCKET × BUCKET_GROWTH^n; where the one of a value ends. */
static double
bucket_end(double value)
{
	double n = 0;

	if (value >= FIRST_BUCKET)
		n = floor(log(value / FIRST_BUCKET * (BUCKET_GROWTH - 1) + 1) / log(BUCKET_GROWTH));
	return FIRST_BUCKET * (pow(BUCKET_GROWTH, n + 1) - 1) / (BUCKET_GROWTH - 1);
}

double
recommend_percentile(const Observation *sorted, int count, double fraction)
{
	double total = 0;
	double sum = 0;

	for (int i = 0; i < count; i++)
		total += weight(&sorted[i]);
	for (int i = 0; i < count; i++)
	{
		sum += weight(&sorted[i]);
		if (sum >= fraction * total)
			return bucket_end(sorted[i].value);
	}
	return bucket_end(sorted[count - 1].value);
}

double
recommend_with_confidence(double estimate, double multiplier, double exponent, double confidence)
{
	return estimate * pow(1 + multiplier / confidence, exponent);
}

static int
compare_values(const void *a, const void *b)
{
	double one = ((const Observation *) a)->value;
	double other = ((const Observation *) b)->value;

	return (one > other) - (one < other);
}

Recommendation
recommend(Observation *observations, int count, double history_days)
{
	double confidence = Max(history_days, LEAST_CONFIDENCE);

	qsort(observations, count, sizeof(Observation), compare_values);
	return (Recommendation){
		.confidence = confidence,
		.target = MARGIN * recommend_percentile(observations, count, TARGET_PERCENTILE),
		.lower = recommend_with_confidence(
			MARGIN * recommend_percentile(observations, count, LOWER_PERCENTILE), LOWER_MULTIPLIER,
			LOWER_EXPONENT, confidence),
		.upper = recommend_with_confidence(
			MARGIN * recommend_percentile(observations, count, UPPER_PERCENTILE), UPPER_MULTIPLIER,
			UPPER_EXPONENT, confidence),
	};
}

double
recommend_scale(double current, double used_percent, double target_percent)
{
	double ratio = used_percent / target_percent;

	if (fabs(ratio - 1) <= TOLERANCE + 1e-9)
		return current;
	return ceil(current * ratio - 1e-9);
}

/* tenancy.usage_percentile(values float8[], ages_days float8[], fraction float8) → float8 */
TENANCY_FUNCTION(usage_percentile)
{
	Datum *values;
	Datum *ages;
	int count;
	int age_count;
	Observation *observations;
	double fraction = PG_GETARG_FLOAT8(2);

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, NULL, &count);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ages, NULL, &age_count);
	if (count == 0 || count != age_count || !(fraction >= 0 && fraction <= 1))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("as many values as ages are expected, and a fraction of 0 to 1"));
	observations = palloc_array(Observation, count);
	for (int i = 0; i < count; i++)
		observations[i] = (Observation){DatumGetFloat8(values[i]), DatumGetFloat8(ages[i])};
	qsort(observations, count, sizeof(Observation), compare_values);
	PG_RETURN_FLOAT8(recommend_percentile(observations, count, fraction));
}

/* tenancy.usage_confidence(estimate, multiplier, exponent, confidence float8) → float8 */
TENANCY_FUNCTION(usage_confidence)
{
	if (!(PG_GETARG_FLOAT8(3) > 0))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"confidence\" must be positive"));
	PG_RETURN_FLOAT8(recommend_with_confidence(PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1),
											   PG_GETARG_FLOAT8(2), PG_GETARG_FLOAT8(3)));
}

/* tenancy.scale_to_target(current, used_percent, target_percent float8) → float8 */
TENANCY_FUNCTION(scale_to_target)
{
	if (!(PG_GETARG_FLOAT8(2) > 0))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"target_percent\" must be positive"));
	PG_RETURN_FLOAT8(
		recommend_scale(PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1), PG_GETARG_FLOAT8(2)));
}
