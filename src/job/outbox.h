/*
 * job/outbox.h
 *		Events: what has happened, for whoever wants to hear of it.
 *
 * An event is a row that is written in the caller's transaction: it exists if and only if
 * what it tells of does.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* A type of events that the library itself puts out; nobody else may. */
typedef struct EventType
{
	const char *name; /* "invoice.finalized" */
	int version;      /* of the payload; a member more is no new version */
	const char *description;
} EventType;

/* From the init function of a module, in the postmaster. */
extern void event_types_register(const EventType *types, int count);

/*
 * Tell that something has happened to a tenant, or NULL for what concerns none.  The type is a
 * registered one; the payload is a JSON object.  Result: the id of the event, palloc'd.
 */
extern pg_uuid_t *outbox_put(const pg_uuid_t *tenant, const char *type, const Jsonb *payload);

/* The same for many at once, in one statement: one payload a tenant. */
extern void outbox_put_many(const char *type, const pg_uuid_t *tenants,
							const Jsonb *const *payloads, int count);

/* Delete events that are older than tenancy.event_retention, at most "limit"; how many. */
extern int64 outbox_expire(int64 limit);
