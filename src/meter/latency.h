/*
 * meter/latency.h
 *		How long statements take: a histogram with a bounded relative error.
 *
 * DDSketch (Masson, Rim and Lee, VLDB 2019) with a relative error of 2 %: bucket i holds what
 * is longer than γ^(i-1) and at most γ^i microseconds, γ = 1.02 / 0.98, and stands for
 * 2 γ^i / (γ + 1).  Two histograms are merged by adding them.
 */
#pragma once

#include "postgres.h"

#define LATENCY_ERROR 0.02
#define LATENCY_BUCKETS 551 /* to an hour; what is longer is in the last */

typedef struct MeterBucket
{
	uint32 count;
	uint16 bucket;
} MeterBucket;

/* Fill the table of short latencies; in the postmaster. */
extern void latency_init(void);

extern int latency_bucket(uint64 us);
extern double latency_value(int bucket); /* microseconds */

/* The value below which a share q of the observations lies; 0 where there are none. */
extern double latency_quantile(const uint64 *counts, double q);
