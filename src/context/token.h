/*
 * context/token.h
 *		Entering by a signed token.
 */
#pragma once

#include "postgres.h"

/* In the postmaster, from _PG_init. */
extern void token_init(void);
