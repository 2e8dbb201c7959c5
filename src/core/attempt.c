/*
 * core/attempt.c
 *		Work that may fail without ending the transaction.
 */
#include "postgres.h"

#include "core/attempt.h"

#include "access/xact.h"
#include "utils/resowner.h"

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

ErrorData *
rehearse(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, false, false);
}
