/*
 * context/ceiling.h
 *		Settings that a tenant may not raise.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"

/* How high a setting may be. */
typedef struct Ceiling
{
	int kind;
	bool is_unlimited;
	double limit;
	char value[32]; /* as it is set */
} Ceiling;

/* Errors: 22023 for a setting without ceiling, or an invalid value. */
extern Ceiling ceiling_make(const char *setting, const char *value);

/* Who knows of ceilings of a tenant's own, which take the place of its plan's; NULL for none. */
typedef const Ceiling *(*CeilingSource)(const pg_uuid_t *tenant, int *count);
extern void ceiling_set_source(CeilingSource source);

/* Lower what is above the tenant's ceilings, until the transaction ends or for the session. */
extern void ceiling_set_for_transaction(const TenantEntry *tenant);
extern void ceiling_set_for_session(const TenantEntry *tenant);

/* The tenant has left: nothing is limited any more. */
extern void ceiling_clear(void);

/*
 * Before and after a statement of a tenant: what RESET or a function brought above a
 * ceiling is lowered again, silently; what the statement SET is refused (42501), but for
 * a bound login that asks for no limit at all, which is warned and gets the ceiling.
 */
extern void ceiling_enforce(bool was_set);
