/*
 * revenue/revenue.h
 *		What is earned, and when: above all other floors of billing.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* Post what has been earned until a time; how many invoices it was posted for. */
extern int64 revenue_recognize(TimestampTz at);

/* In the postmaster, from _PG_init. */
extern void revenue_init(void);
