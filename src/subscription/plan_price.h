/*
 * subscription/plan_price.h
 *		The prices of plans, parsed once per use.
 */
#pragma once

#include "postgres.h"

#include "price/price.h"

typedef struct PricedPlan
{
	char *plan;
	char *name;
	int32 version;
	Pricing *pricing;
} PricedPlan;

/* Prices that a piece of work has met; it lives in a context that the caller gives. */
typedef struct PriceCache PriceCache;
extern PriceCache *price_cache_create(MemoryContext context);

/* The price is one that a subscription has: it exists. */
extern const PricedPlan *price_cache_get(PriceCache *cache, const char *plan, int32 version,
										 const char *currency);
