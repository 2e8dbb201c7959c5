/*
 * price/plan.h
 *		Plans and the versions of their prices.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct PlanDocument
{
	char *id;
	char *name;
	char *tier;
	char *kind;
	char *family;
	char **changes_to; /* NULL for all of the family */
	int changes_to_count;
	Jsonb *features;
	Jsonb *limits;
	Jsonb *support;
	Jsonb *sla;
} PlanDocument;

/* 22023 for what a plan cannot be. */
extern void plan_validate(const PlanDocument *plan);

/* Write a plan without a price; false where there is one of its id. */
extern bool plan_add(const PlanDocument *plan, bool is_retired, TimestampTz retired_at);

/*
 * Write one version in one currency; the pricing is valid, for this currency alone.  42704 for
 * a metric or a limit that there is not.
 */
extern void plan_price_add(const char *plan, int32 version, const Jsonb *pricing, bool is_main,
						   const Jsonb *limits, TimestampTz valid_from);

/* The row tenancy.plan as a composite datum. */
extern Datum plan_row(const char *id);
