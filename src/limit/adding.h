/*
 * limit/adding.h
 *		May this statement add anything?  Over its storage quota a tenant's may not, nor while the
 *		tenant is suspended; reading and deleting always work.
 */
#pragma once

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"

/* Before a query or a utility statement runs; raises 53400 or 55000. */
extern void adding_check_query(const QueryDesc *query);
extern void adding_check_utility(Node *statement);
