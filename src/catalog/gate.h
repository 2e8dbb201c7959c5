/*
 * catalog/gate.h
 *		The one way from C to SQL.
 *
 * Three modes.  Statements on our own tables run as tenancy_owner, from plans that
 * are named and kept (GATE_STATEMENT, gate_run).  Roles and schemas are made and
 * dropped as the bootstrap superuser, and nothing else is (gate_run_as_superuser).
 * SQL over users' objects runs as the owner of the object, restricted (GateScope).
 *
 * All three pin the settings that change what a statement means.  Timeouts and
 * read-only stay the caller's.
 */
#pragma once

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define GATE_MAX_ARGUMENTS 48

typedef enum GateKind
{
	GATE_KIND_STATEMENT, /* its own snapshot, sees and makes changes */
	GATE_KIND_LOOKUP,    /* reads in the caller's snapshot; also in parallel workers */
	GATE_KIND_LATEST     /* reads what is committed now, whatever the isolation level */
} GateKind;

typedef enum GatePlanning
{
	GATE_PLAN_KEPT, /* as PostgreSQL decides for prepared statements */
	GATE_PLAN_ANEW, /* for its arguments, each time: they say how much there is to read */
	/*
	 * Once, and by an index in its order: for a few rows of the head of what may be long.  What a
	 * plan would cost for any number of rows, or did when the table was empty, does not matter.
	 */
	GATE_PLAN_BY_INDEX
} GatePlanning;

typedef struct GateStatement
{
	const char *name;
	GateKind kind;
	const char *sql;
	GatePlanning planning;
	Oid argument_types[GATE_MAX_ARGUMENTS + 1]; /* ends with InvalidOid */
	void *plan;                                 /* of this backend; owned by gate.c */
} GateStatement;

/*
 * Define a statement at the top of a file: GATE_STATEMENT(name, "SELECT …", UUIDOID, TEXTOID);
 * the section lets a test find and prepare them all.
 */
#define GATE_DEFINE(kind_, plan_, name_, sql_, ...)                                                \
	static GateStatement name_ = {.name = #name_,                                                  \
								  .kind = kind_,                                                   \
								  .sql = sql_,                                                     \
								  .planning = plan_,                                               \
								  .argument_types = {__VA_ARGS__}};                                \
	static GateStatement *const name_##_entry                                                      \
		__attribute__((section("tenancy_statements"), used)) = &name_
#define GATE_STATEMENT(name, sql, ...)                                                             \
	GATE_DEFINE(GATE_KIND_STATEMENT, GATE_PLAN_KEPT, name, sql, __VA_ARGS__)
#define GATE_LOOKUP(name, sql, ...)                                                                \
	GATE_DEFINE(GATE_KIND_LOOKUP, GATE_PLAN_KEPT, name, sql, __VA_ARGS__)
#define GATE_LATEST(name, sql, ...)                                                                \
	GATE_DEFINE(GATE_KIND_LATEST, GATE_PLAN_KEPT, name, sql, __VA_ARGS__)

#define GATE_STATEMENT_ANEW(name, sql, ...)                                                        \
	GATE_DEFINE(GATE_KIND_STATEMENT, GATE_PLAN_ANEW, name, sql, __VA_ARGS__)
#define GATE_STATEMENT_BY_INDEX(name, sql, ...)                                                    \
	GATE_DEFINE(GATE_KIND_STATEMENT, GATE_PLAN_BY_INDEX, name, sql, __VA_ARGS__)
#define GATE_SCAN(name, sql, ...)                                                                  \
	GATE_DEFINE(GATE_KIND_LOOKUP, GATE_PLAN_ANEW, name, sql, __VA_ARGS__)

/* How many rows are right; anything else is an internal error. */
typedef enum GateExpect
{
	EXPECT_ANY,
	EXPECT_ONE,
	EXPECT_AT_MOST_ONE
} GateExpect;

/* Rows in the caller's memory context.  count also tells of rows changed without RETURNING. */
typedef struct GateRows
{
	int64 count;
	TupleDesc desc; /* NULL where the statement returns no rows */
	HeapTuple *tuples;
} GateRows;

extern GateRows *gate_run_array(GateStatement *statement, GateExpect expect,
								const NullableDatum *arguments, int argument_count);

/* gate_run(&statement, EXPECT_ONE, gate_uuid(id), gate_text(name)) */
#define gate_run(statement, expect, ...)                                                           \
	gate_run_array(statement, expect, (const NullableDatum[]){__VA_ARGS__},                        \
				   (int) (sizeof((const NullableDatum[]){__VA_ARGS__}) / sizeof(NullableDatum)))

/*
 * The rows of a look-up as they come, none kept: for more than memory should hold.  The receiver
 * runs in the caller's memory context.
 */
typedef void (*GateReceiver)(TupleTableSlot *slot, void *state);
extern void gate_stream(GateStatement *statement, GateReceiver receive, void *state,
						const NullableDatum *arguments, int argument_count);

/*
 * Rows into one of our tables without a statement, for where starting an executor for each is
 * most of what it costs (gate_insert.c).  gate_insert_row() takes all columns, in order; false:
 * a unique key was there already, and nothing was written.  An error needs no gate_insert_end().
 */
typedef struct GateInsert GateInsert;

extern GateInsert *gate_insert_begin(const char *table);
extern bool gate_insert_row(GateInsert *insert, const Datum *values, const bool *nulls);
extern void gate_insert_end(GateInsert *insert);

/* Arguments; a NULL pointer is a null. */
extern NullableDatum gate_null(void);
extern NullableDatum gate_datum(Datum value);
extern NullableDatum gate_text(const char *value);
extern NullableDatum gate_name(const char *value);
extern NullableDatum gate_uuid(const pg_uuid_t *value);
extern NullableDatum gate_jsonb(const Jsonb *value);
extern NullableDatum gate_numeric(Numeric value);
extern NullableDatum gate_timestamptz(TimestampTz value);
extern NullableDatum gate_int64(int64 value);
extern NullableDatum gate_int32(int32 value);
extern NullableDatum gate_bool(bool value);
extern NullableDatum gate_oid(Oid value);
extern NullableDatum gate_uuid_array(const pg_uuid_t *values, int count);
extern NullableDatum gate_int64_array(const int64 *values, int count);
/* Of datums that are already of the type; pass by reference, or eight bytes by value. */
extern NullableDatum gate_array(const Datum *values, int count, Oid type);
extern NullableDatum gate_bytea_array(const bytea *const *values, int count);
extern NullableDatum gate_text_array(const char *const *values, int count);

/* The argument of an SQL function handed on as it is. */
#define gate_argument(n) (fcinfo->args[n])

/* Columns, from 0.  Pointers are NULL where the column is null; plain values must not be. */
extern bool row_is_null(const GateRows *rows, int64 row, int column);
extern Datum row_datum(const GateRows *rows, int64 row, int column);
extern char *row_text(const GateRows *rows, int64 row, int column); /* text or name */
extern pg_uuid_t *row_uuid(const GateRows *rows, int64 row, int column);
extern Numeric row_numeric(const GateRows *rows, int64 row, int column);
extern Jsonb *row_jsonb(const GateRows *rows, int64 row, int column);
extern TimestampTz row_timestamptz(const GateRows *rows, int64 row, int column);
extern int64 row_int64(const GateRows *rows, int64 row, int column);
extern int32 row_int32(const GateRows *rows, int64 row, int column);
extern bool row_bool(const GateRows *rows, int64 row, int column);
/* The elements of a text[], none of them null. */
extern char **row_text_array(const GateRows *rows, int64 row, int column, int *count);

/* Hand all rows to the set-returning SQL function that called, column by column. */
extern void gate_return_rows(FunctionCallInfo fcinfo, const GateRows *rows);

/*
 * Roles and schemas: CREATE, ALTER, DROP, GRANT and REVOKE of them.  Any other
 * statement is an internal error.  Names are quoted by the caller (quote_identifier).
 */
extern void gate_run_as_superuser(const char *sql);

/*
 * ALTER ROLE … IN DATABASE (this one) SET name = value, or RESET for a NULL value; the value
 * is a name or a list of names, quoted.  PostgreSQL refuses the setting "role" to a changed user,
 * so this writes the catalog itself; 42501 within a security-definer function.
 */
extern void gate_set_role_setting(Oid role, const char *name, const char *value);

/*
 * SQL over users' objects, between gate_enter() and gate_leave(): as "role", in a
 * restricted operation, with the search path given (pg_temp comes last by itself).
 * An error needs no gate_leave(): the end of the (sub)transaction restores.
 */
typedef struct GateScope
{
	Oid saved_user;
	int saved_context;
	int settings_level;
} GateScope;

extern void gate_enter(GateScope *scope, Oid role, const char *search_path);

/* The same, and the owner of a table sees all of its rows, be row security forced. */
extern void gate_enter_all_rows(GateScope *scope, Oid owner, const char *search_path);

/* Until gate_leave(), names and values mean what they do here, for whoever is the user; no SQL. */
extern void gate_pin(GateScope *scope);

/* Until gate_leave(), wait no longer than this for a lock (55P03). */
extern void gate_limit_lock_wait(int timeout_ms);

extern void gate_leave(GateScope *scope);
extern void gate_run_text(const char *sql);
extern GateRows *gate_query_text(const char *sql, int argument_count, const Oid *types,
								 const NullableDatum *arguments);
