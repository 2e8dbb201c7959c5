/*
 * resource/adding.h
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

/*
 * While it runs: is it one that a storage quota may stop?  Then adding_end() is to follow on
 * every way out, and where it failed adding_translate_error(): was it stopped by the quota?
 */
extern bool adding_begin(const QueryDesc *query);
extern bool adding_begin_utility(Node *statement);
extern void adding_end(bool has_failed);
extern void adding_translate_error(void);
extern void adding_sample(void); /* from watch.c */
