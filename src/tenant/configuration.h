/*
 * tenant/configuration.h
 *		What a tenant may configure.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"

/* Raise 22023 naming the first fault. */
extern void configuration_validate(const Jsonb *configuration);
