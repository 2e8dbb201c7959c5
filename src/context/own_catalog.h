/*
 * context/own_catalog.h
 *		System catalogs that show a bound session its own tenant's objects only.
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

/* Before planning: add the condition to every system catalog that a query of such a session reads.
 */
extern void own_catalog_filter(Query *query);
