/*
 * tenant/isolation.h
 *		Does the database still keep tenants apart?
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

/*
 * Give the tables of a tenant's schemas that have a tenant_id row security as well: a second
 * wall, should a row of another tenant ever get there.
 */
extern void isolation_back_up(const pg_uuid_t *tenant);
