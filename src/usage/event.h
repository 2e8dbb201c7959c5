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
	/* set by event_prepare() */
	pg_uuid_t id_hash; /* in the table of identities, as is the next */
	pg_uuid_t payload_hash;
	/* set by event_write() */
	TimestampTz recorded_at;
	bool is_new;
} UsageEvent;

/*
 * Check what can be checked without the tables of events, and fill in the rest.  Errors as
 * usage_record() has them; "place" names the event in them, as in "events[3]", or is "".
 */
extern void event_prepare(UsageEvent *event, const char *place);

/*
 * Claim the identities of events and write those that were free.  The others must have the
 * payload that was recorded, or 23505 is raised.  Reorders the pointers.
 */
extern void event_write(UsageEvent **events, int count);

/* Tell who listens: the event is in this transaction, and was not before. */
extern void event_tell(const UsageEvent *event);

/*
 * The row of an event that event_write() found to be there, as a datum.  Where retention has
 * taken it, what was said again, with a null recorded_at.
 */
extern Datum event_get_row(const UsageEvent *event);

/* The row that event_write() has written, as a datum. */
extern Datum event_make_row(const UsageEvent *event);

/*
 * Who wants to know of each usage event that was not recorded before, in its transaction;
 * with a NULL aggregation, of one that was cancelled.
 */
typedef void (*UsageEventListener)(const pg_uuid_t *tenant, const char *metric,
								   const char *aggregation, Numeric quantity,
								   TimestampTz occurred_at);
extern void usage_set_event_listener(UsageEventListener listener);
