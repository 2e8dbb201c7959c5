/*
 * payment/campaign.h
 *		Asking a tenant for all that is overdue in a currency, beyond a threshold.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"

/* Ask those who are to be asked; how many. */
extern int64 campaign_run(TimestampTz at);
