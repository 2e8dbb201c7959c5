/*
 * core/attempt.c
 *		Work that may fail without ending the transaction.
 */
#include "postgres.h"

#include "core/attempt.h"

#include "access/xact.h"
#include "utils/resowner.h"

static ErrorData *
run_in_subtransaction(const char *name, AttemptWork work, void *argument, bool keeps)
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
	return error;
}

ErrorData *
attempt(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, true);
}

ErrorData *
rehearse(const char *name, AttemptWork work, void *argument)
{
	return run_in_subtransaction(name, work, argument, false);
}
