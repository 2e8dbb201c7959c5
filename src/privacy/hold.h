/*
 * privacy/hold.h
 *		Legal holds: what must not go, whoever asks.
 */
#pragma once

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* A row of tenancy.legal_hold that is in force. */
typedef struct Hold
{
	pg_uuid_t id;
	pg_uuid_t *tenant; /* NULL for none */
	char *schema;      /* of the table; NULL for none */
	char *table;
	char *predicate; /* NULL for none */
	Jsonb *subject;  /* NULL for none */
	bool is_of_tenant;
	bool blocks_updates;
	char *case_id;
} Hold;

/*
 * What a hold covers of a table: all of it or, of the conditions that are there, the rows that
 * fit all.
 */
typedef struct HoldReach
{
	const Hold *hold;
	AttrNumber tenant_column; /* rows with the hold's tenant; 0 for any */
	bool has_predicate;
	int subject_count; /* rows with one of these values, as text; 0 for any */
	AttrNumber *subject_columns;
	char **subject_values;
} HoldReach;

/* Is any hold in force?  No table access but for the first time after a change. */
extern bool hold_is_any(void);

/* The holds that cover a table or rows of it: HoldReach; NIL for none. */
extern List *hold_find(Oid relid);
extern bool hold_covers_all(const HoldReach *reach);

/* The hold that is named to who asks about a tenant; NULL for none in force. */
extern const Hold *hold_of_tenant(const pg_uuid_t *tenant);

/* SQL that is true for the rows of the table, called "alias", that are held; NULL for none. */
extern char *hold_condition(Oid relid, const char *alias);

/* Raise 55000 naming the hold, but for tenants, whom it must not warn. */
extern void hold_refuse(const Hold *hold, const char *what, const char *name)
	__attribute__((noreturn));

/* The same for the first hold in force, where hold_is_any(). */
extern void hold_refuse_any(const char *what, const char *name) __attribute__((noreturn));

/* The tables that a hold covers, partitions included, in order. */
extern List *hold_relations(const Hold *hold);

/* Lock out writers and make the triggers; take them away where nothing is held any more. */
extern void hold_protect(List *relids);
extern void hold_unprotect(List *relids);

/* Is it our trigger?  While we make and drop them, nobody else does. */
extern bool hold_is_working(void);
extern bool hold_has_trigger(Oid relid);
extern Oid hold_trigger_function(void);

/* Retention drops a partition, having looked that nothing in it is held; InvalidOid: no more. */
extern void hold_permit_drop(Oid partition);
extern bool hold_permits_drop(Oid relid);

/* Around utility statements and for what is truncated or dropped; for the hook floor. */
extern void hold_before_statement(Node *statement);
extern void hold_after_statement(Node *statement);
extern void hold_check_truncate(Oid relid);
extern void hold_check_dropped(Oid class_id, Oid object_id, int sub_id);
