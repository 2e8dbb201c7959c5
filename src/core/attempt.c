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

/* Of attempt_within(): has its time run out, and its timer. */
static volatile sig_atomic_t is_late = false;
static TimeoutId late_timeout = MAX_TIMEOUTS;

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

typedef struct Limited
{
	AttemptWork work;
	void *argument;
	int timeout_seconds;
	bool is_timed; /* has the statement a timeout? */
	bool is_late;
} Limited;

/*
 * Whose cancellation it is can be told only before anything is rolled back, which takes its
 * time: from here on every other is somebody else's, and so is one that came before ours.
 */
static void
stop_clock(Limited *limited, bool is_cancelled)
{
	disable_timeout(late_timeout, false);
	limited->is_late = is_late && (!limited->is_timed || get_timeout_active(STATEMENT_TIMEOUT));
	if (is_cancelled)
		limited->is_late = limited->is_late && !QueryCancelPending;
	else if (limited->is_late)
		/* The work was done, or failed, in that moment: nobody else is to be cancelled. */
		QueryCancelPending = false;
	is_late = false;
}

static void
do_limited(void *argument)
{
	Limited *limited = argument;

	is_late = false;
	enable_timeout_after(late_timeout, limited->timeout_seconds * MS_PER_SECOND);
	PG_TRY();
	{
		limited->work(limited->argument);
	}
	PG_CATCH();
	{
		stop_clock(limited, geterrcode() == ERRCODE_QUERY_CANCELED);
		PG_RE_THROW();
	}
	PG_END_TRY();
	stop_clock(limited, false);
}

ErrorData *
attempt_within(const char *name, AttemptWork work, void *argument, int timeout_seconds)
{
	Limited limited = {
		.work = work,
		.argument = argument,
		.timeout_seconds = timeout_seconds,
		.is_timed = get_timeout_active(STATEMENT_TIMEOUT),
	};
	ErrorData *error;

	if (timeout_seconds == 0)
		return attempt(name, work, argument);
	if (late_timeout == MAX_TIMEOUTS)
		late_timeout = RegisterTimeout(USER_TIMEOUT, cancel_late);
	error = attempt_cancellable(name, do_limited, &limited);
	if (error == NULL || error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		return error;
	if (!limited.is_late)
		ReThrowError(error);
	error->message = psprintf("it was cancelled after its timeout of %d s", timeout_seconds);
	return error;
}

ErrorData *
rehearse(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, false, false);
}
