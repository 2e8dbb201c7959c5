/*
 * usage/prune.h
 *		Retention: removing rows of usage events whose sums are kept.
 */
#pragma once

#include "postgres.h"

#include "catalog/column.h"
#include "catalog/gate.h"

/*
 * What tenants still need their events for.  Rows of tenant and time: events from then on are
 * wanted; and an hour that the time lies within is asked for in part.
 */
typedef struct UsageNeeds
{
	Column open_tenants;
	Column open_since;
	Column cut_tenants;
	Column cut_at;
} UsageNeeds;

/* Who bills adds what he needs of some tenants, a uuid[]. */
typedef void (*UsageNeedsLister)(NullableDatum tenants, UsageNeeds *needs);
extern void usage_set_needs_lister(UsageNeedsLister lister);

/*
 * Raise 55000 where retention has removed events of a metric between two times, of which somebody
 * wants to read all: lists of tenants, metrics, and the times, the second excluded.
 */
extern void usage_require_events(NullableDatum tenants, NullableDatum metrics,
								 NullableDatum from_times, NullableDatum to_times);

/* In the postmaster, from _PG_init. */
extern void prune_init(void);
