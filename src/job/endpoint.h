/*
 * job/endpoint.h
 *		Endpoints: who is told of events, and telling them.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "job/queue.h"
#include "job/transport.h"

#define WEBHOOK_KIND "webhook.deliver"

/* Enqueue a delivery of each of the events, arrays of ids and tenants, to each that subscribed. */
extern void endpoint_deliver(const char *type, const NullableDatum *ids,
							 const NullableDatum *tenants);

/* A delivery that is under way. */
typedef struct Delivery
{
	pg_uuid_t job;
	int64 fence;
	pg_uuid_t endpoint;
	HttpExchange exchange;
	MemoryContext memory; /* all that it points to, and itself */
} Delivery;

/*
 * Claim deliveries and make them ready to be sent, at most "max": in a transaction.  What need
 * not be sent any more is finished here.  They live in contexts of their own below "parent".
 */
extern List *delivery_claim(int max, MemoryContext parent);

/* Record how one went: in a transaction. */
extern void delivery_record(const Delivery *delivery);

extern void endpoint_init(void);
