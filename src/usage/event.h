/*
 * usage/event.h
 *		A usage event, from what was said to what is written.
 */
#pragma once

#include "postgres.h"

#include "core/compat.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct UsageEvent
{
	pg_uuid_t tenant;
	char *event_id; /* made up where it was NULL */
	char *metric;
	Numeric quantity;
	TimestampTz occurred_at;
	Jsonb *properties;
	const char *aggregation; /* from here on set by event_prepare() */
	bytea *hash;
} UsageEvent;

/*
 * Check what can be checked without the table of events, and fill in the rest.  Errors as
 * usage_record() has them; "place" names the event in them, as in "events[3]", or is "".
 */
extern void event_prepare(UsageEvent *event, const char *place);

/* Raise 23505: another event has that id. */
extern pg_noreturn void event_refuse_other(const char *event_id, const bytea *kept,
										   const bytea *hash);

/* Tell who listens: the event is in this transaction, and was not before. */
extern void event_tell(const UsageEvent *event);

/*
 * Who wants to know of each usage event that was not recorded before, in its transaction;
 * with a NULL aggregation, of one that was cancelled.
 */
typedef void (*UsageEventListener)(const pg_uuid_t *tenant, const char *metric,
								   const char *aggregation, Numeric quantity,
								   TimestampTz occurred_at);
extern void usage_set_event_listener(UsageEventListener listener);
