/*
 * core/clock.h
 *		What time it is, unless a test says otherwise.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/guc.h"

/* The start of the transaction, or the time of the setting tenancy.test_clock. */
extern TimestampTz clock_now(void);

/* The clock on the wall, or the time of the setting tenancy.test_clock. */
extern TimestampTz clock_wall(void);

/* Milliseconds since 1970, as other systems count. */
extern int64 clock_unix_milliseconds(TimestampTz time);

/* The hooks of the setting tenancy.test_clock: a timestamp with time zone, or empty. */
extern bool clock_check_setting(char **value, void **extra, GucSource source);
extern void clock_assign_setting(const char *value, void *extra);
