/*
 * core/attempt.c
 *		Work that may fail without ending the transaction.
 */
#include "postgres.h"

#include "core/attempt.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/resowner.h"
#include "utils/timeout.h"

#define MS_PER_SECOND 1000

/* Of attempt_within(): has its time run out? */
static volatile sig_atomic_t is_late = false;

static ErrorData *
run_in_subtransaction(const char *name, AttemptWork work, void *argument, bool keeps,
					  bool may_be_cancelled)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(name);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(argument);
		if (keeps)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED && !may_be_cancelled)
		ReThrowError(error);
	return error;
}

ErrorData *
attempt(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, true, false);
}

ErrorData *
attempt_cancellable(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, true, true);
}

/* Signal handler. */
static void
cancel_late(void)
{
	is_late = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

ErrorData *
attempt_within(const char *name, AttemptWork work, void *argument, int timeout_seconds)
{
	static TimeoutId timeout = MAX_TIMEOUTS;
	ErrorData *error;

	if (timeout_seconds == 0)
		return attempt(name, work, argument);
	if (timeout == MAX_TIMEOUTS)
		timeout = RegisterTimeout(USER_TIMEOUT, cancel_late);
	is_late = false;
	enable_timeout_after(timeout, timeout_seconds * MS_PER_SECOND);
	error = attempt_cancellable(name, work, argument);
	disable_timeout(timeout, false);
	if (!is_late)
	{
		if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		return error;
	}
	/* Where the work was done in that moment nobody else is to be cancelled. */
	QueryCancelPending = false;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		error->message = psprintf("it was cancelled after its timeout of %d s", timeout_seconds);
	return error;
}

ErrorData *
rehearse(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, false, false);
}
