/*
 * context/guard_function.h
 *		May this function be called now?
 */
#pragma once

#include "postgres.h"

/*
 * Raise 42501 where a tenant calls a function that shows or touches other sessions, or
 * one in the schema of another tenant.  Notes what may leave something behind.
 */
extern void guard_check_function(Oid function);

/* The same for the command NOTIFY, which calls no function. */
extern void guard_check_notify(void);
