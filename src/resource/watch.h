/*
 * resource/watch.h
 *		A timer that looks at the statement that runs, for limits that it may pass meanwhile.
 */
#pragma once

#include "postgres.h"

/* A statement begins that is to be looked at ten times a second. */
extern void watch_start(void);

/* At the end of a transaction: an idle session is not to be woken. */
extern void watch_stop(void);

/* From a look, that is from a signal handler: cancel the statement. */
extern void watch_cancel(void);

/*
 * A cancel that came too late must not hit what comes next.  The others: FlushErrorState() in a
 * handler of errors, so that what follows is raised in the place of the cancel.
 */
extern void watch_take_back_cancel(void);
