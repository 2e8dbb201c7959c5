/*
 * resource/watch.c
 *		A timer that looks at the statement that runs.
 *
 * It goes on to the end of the transaction, for setting it costs a system call.  What it calls
 * runs in a signal handler: no locks, no memory; clocks and atomics may be read.
 */
#include "postgres.h"

#include "core/transaction.h"
#include "resource/adding.h"
#include "resource/resource.h"
#include "resource/watch.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define SAMPLE_MS 100

static bool has_timeout = false;
static TimeoutId timeout;

static void
on_sample(void)
{
	cpu_sample();
	adding_sample();
}

void
watch_start(void)
{
	if (!has_timeout)
		timeout = RegisterTimeout(USER_TIMEOUT, on_sample);
	has_timeout = true;
	transaction_watch();
	if (!get_timeout_active(timeout))
		enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SAMPLE_MS),
							 SAMPLE_MS);
}

void
watch_stop(void)
{
	if (has_timeout && get_timeout_active(timeout))
		disable_timeout(timeout, false);
}

void
watch_cancel(void)
{
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

void
watch_take_back_cancel(void)
{
	QueryCancelPending = false;
}
