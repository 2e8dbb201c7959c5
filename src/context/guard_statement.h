/*
 * context/guard_statement.h
 *		May this utility statement run now?
 */
#pragma once

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/plannodes.h"

/*
 * Raise 42501 (or 0A000 for what a pooled connection cannot have) where a tenant's
 * statement would reach past it.  Returns the statement to run: a copy where something of
 * it is changed, as SET, which becomes SET LOCAL in an entered context.
 */
extern PlannedStmt *guard_check_statement(PlannedStmt *statement, bool is_read_only);

/* EXPLAIN ANALYZE counts the rows that row security has filtered out: not to a tenant. */
extern void guard_check_explained(const QueryDesc *query);
