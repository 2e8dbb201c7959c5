/*
 * privacy/privacy.h
 *		How long data is kept, what must not go, and how tenants go.
 */
#pragma once

#include "postgres.h"

/* In the postmaster, from _PG_init. */
extern void privacy_init(void);
