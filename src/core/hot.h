/*
 * core/hot.h
 *		Where the variables are that every statement reads.
 *
 * A statement of a session that is in no tenant costs a few hundred instructions of ours, and as
 * much again by what they push out of the processor's caches.  So they touch few lines: these
 * variables lie side by side, and the functions, marked pg_attribute_hot, do.
 */
#pragma once

#include "postgres.h"

#if defined(__ELF__)
#define HOT_DATA __attribute__((section("tenancy_hot")))
#else
#define HOT_DATA
#endif
