/*
 * context/regtenant.h
 *		Who may see which tenant.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

/*
 * May this session know of the tenant?  Within a context only of its own; outside
 * of one the roles of the control plane know of all, others of none.
 */
extern bool tenant_is_visible(const pg_uuid_t *id);

/* Raise 42704, as for a tenant that does not exist, unless it may. */
extern void tenant_require_visible(const pg_uuid_t *id);
