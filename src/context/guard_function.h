/*
 * context/guard_function.h
 *		May this function be called now?
 */
#pragma once

#include "postgres.h"

#include "nodes/parsenodes.h"

/*
 * Raise 42501 where a tenant calls a function that shows or touches other sessions, or
 * one in the schema of another tenant.  Notes what may leave something behind.
 */
extern void guard_check_function(Oid function);

/* The same for the command NOTIFY, which calls no function. */
extern void guard_check_notify(void);

/*
 * Raise 42501 where a superuser, or another tenant, would call a function that a tenant has
 * written, as a trigger, a CHECK or a view of the tenant makes it do unawares.
 */
extern void guard_check_call(Oid function);

/*
 * Before planning a query of a tenant: functions that take a relation are exchanged for
 * ours, which answer for the tenant's own relations.  Called otherwise they are refused.
 */
extern void guard_exchange_functions(Query *query);
