/*
 * catalog/own_call.h
 *		Calling our public functions by SQL, as whoever runs it: with his rights, and no other
 *		function in their place.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"

/*
 * SQL that calls a function of ours; palloc'd.  The arguments are SQL, the first "count" of the
 * function's; the rest have their defaults.
 */
extern char *own_call(const char *name, int count, const char *const *arguments);

/* One call; the row has what it returns or, where "member" is not NULL, that member of it. */
extern GateRows *own_call_run(const char *name, const char *member, int count, const Oid *types,
							  const NullableDatum *arguments);
