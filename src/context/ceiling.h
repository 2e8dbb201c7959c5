/*
 * context/ceiling.h
 *		Settings that a tenant may not raise.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"

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
