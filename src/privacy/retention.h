/*
 * privacy/retention.h
 *		Retention: enforcing all policies, at once or step by step.
 */
#pragma once

#include "postgres.h"

/* In the postmaster, from _PG_init. */
extern void retention_init(void);
