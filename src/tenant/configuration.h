/*
 * tenant/configuration.h
 *		What a tenant may configure.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Raise 22023 naming the first fault. */
extern void configuration_validate(const Jsonb *configuration);

/* What the tenant has configured, and where it has not, the features and limits of its plan. */
extern Jsonb *configuration_in_force(const pg_uuid_t *tenant);
