/*
 * core/function.h
 *		How a C function is offered to SQL, and how it reads its arguments.
 *
 * PG_FUNCTION_INFO_V1 of PostgreSQL 15 exports the info record alone; the
 * function itself must be exported too where the default is hidden.
 */
#pragma once

#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define TENANCY_FUNCTION(name)                                                                     \
	extern PGDLLEXPORT Datum tenancy_##name(PG_FUNCTION_ARGS);                                     \
	PG_FUNCTION_INFO_V1(tenancy_##name);                                                           \
	Datum tenancy_##name(PG_FUNCTION_ARGS)

/* Raise 22004 when argument n is null; "name" is the SQL name of the argument. */
extern void require_argument(FunctionCallInfo fcinfo, int n, const char *name);

/* The argument, or NULL where it is null; results live in the caller's context. */
extern char *optional_text(FunctionCallInfo fcinfo, int n);
extern char *required_text(FunctionCallInfo fcinfo, int n, const char *name);
extern pg_uuid_t *optional_uuid(FunctionCallInfo fcinfo, int n);
extern pg_uuid_t *required_uuid(FunctionCallInfo fcinfo, int n, const char *name);
extern Jsonb *optional_jsonb(FunctionCallInfo fcinfo, int n);

/* Finite values only; 22003 and 22008 otherwise. */
extern Numeric required_numeric(FunctionCallInfo fcinfo, int n, const char *name);
extern TimestampTz required_timestamptz(FunctionCallInfo fcinfo, int n, const char *name);

/* The elements of numeric[], finite and without nulls; 22004, 22003 and 22023 otherwise. */
extern Numeric *required_numeric_array(FunctionCallInfo fcinfo, int n, const char *name,
									   int *count);

/* The time that a text stands for, as the type's input has it; 22007, and 22008 unless finite. */
extern TimestampTz timestamptz_from_text(const char *text, const char *name);
