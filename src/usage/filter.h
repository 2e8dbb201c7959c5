/*
 * usage/filter.h
 *		Which events count for a metric, and how they are told apart: by their properties.
 */
#pragma once

#include "postgres.h"

#include "utils/array.h"
#include "utils/jsonb.h"

/*
 * What the properties must be: {"region": "eu", "status": [200, 201], "bytes": {">=": 1024}}.
 * A value is equalled, one of a list is, and comparisons hold of a number or of a text (by its
 * bytes); all members must fit.  Raises 22023 naming the path of the first fault.
 */
extern void filter_validate(const Jsonb *filters);

/* Does an event with these properties count?  NULL filters let all pass. */
extern bool filter_matches(const Jsonb *filters, const Jsonb *properties);

/* A property as text, as ->> has it; NULL where it is absent or null.  Palloc'd. */
extern char *property_text(const Jsonb *properties, const char *name);

/* The values of the properties named in a text[], as a text[] with nulls. */
extern ArrayType *group_values(const Jsonb *properties, ArrayType *group_by);
