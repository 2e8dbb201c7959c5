/*
 * resource/resource.h
 *		What is allocated to a tenant: limits of its sessions, and its CPU budget.
 */
#pragma once

#include "postgres.h"

#include "context/ceiling.h"

#include "access/xact.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct ResourceLimits
{
	pg_uuid_t tenant;
	char slug[64];
	bool has_cpu;
	int64 cpu_ns_per_minute;
	int ceiling_count;
	Ceiling *ceilings; /* of settings */
} ResourceLimits;

/* Kept by the backend until an allocation changes. */
extern const ResourceLimits *resource_limits(const pg_uuid_t *tenant);

/* Change an allocation by a merge patch of requests, limits and scaling; the row. */
extern Datum resource_change(const pg_uuid_t *tenant, const Jsonb *changes);

/*
 * The CPU budget, around a statement of a client (cpu.c).  cpu_admit() comes first, and waits or
 * raises 53400 where the budget is overdrawn.  cpu_begin() says whether cpu_charge() is to
 * follow what it is called before, on every way out.
 */
extern void cpu_admit(void);
extern bool cpu_begin(void);
extern void cpu_charge(bool has_failed);

/* Was the statement that failed cancelled by its budget?  Then say so instead (53400). */
extern void cpu_translate_error(void);

extern void cpu_transaction_event(XactEvent event);
extern void cpu_sample(void); /* from watch.c */

/* How much of the budget is used: 1.0 is all of it; more is debt. */
extern double cpu_budget_used(const pg_uuid_t *tenant);

/* The database is gone: forget what shared memory knows of its limits. */
extern void limits_forget(Oid database);

/* Visit every database with something to tell, to measure or to save; as meter_for_each_pending().
 */
extern void limits_for_each_pending(void (*visit)(Oid database, void *state), void *state);
extern void cpu_forget(Oid database);

/* In the postmaster, from _PG_init. */
extern void cpu_init(void);
extern void autoscale_init(void);
extern void resource_init(void);
