/*
 * resource/recommend.h
 *		How much of a resource a tenant should have, from what it used.
 */
#pragma once

#include "postgres.h"

/* What was used at some time; its weight halves with each day that has passed since. */
typedef struct Observation
{
	double value;
	double age_days;
} Observation;

typedef struct Recommendation
{
	double lower;
	double target;
	double upper;
	double confidence; /* in days of history */
} Recommendation;

/*
 * As the Vertical Pod Autoscaler of Kubernetes recommends: the 50th, 90th and 95th percentile of a
 * histogram with decaying weights, and a margin; the less history, the wider the bounds.  At
 * least one observation; they are sorted.
 */
extern Recommendation recommend(Observation *observations, int count, double history_days);

/* The percentile (0 to 1) of observations in ascending order: the end of its bucket. */
extern double recommend_percentile(const Observation *sorted, int count, double fraction);

/* An estimate that widens (exponent > 0) or narrows as confidence is small. */
extern double recommend_with_confidence(double estimate, double multiplier, double exponent,
										double confidence);

/*
 * As the Horizontal Pod Autoscaler scales: current × used / target, rounded up; current as it is
 * where that would change it by a tenth or less.
 */
extern double recommend_scale(double current, double used_percent, double target_percent);
