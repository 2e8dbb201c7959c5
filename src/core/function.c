/*
 * core/function.c
 *		Readers for the arguments of SQL functions.
 */
#include "postgres.h"

#include "core/function.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

void
require_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" must not be null", name));
}

char *
optional_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

char *
required_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	require_argument(fcinfo, n, name);
	return optional_text(fcinfo, n);
}

pg_uuid_t *
optional_uuid(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_UUID_P(n);
}

pg_uuid_t *
required_uuid(FunctionCallInfo fcinfo, int n, const char *name)
{
	require_argument(fcinfo, n, name);
	return optional_uuid(fcinfo, n);
}

Jsonb *
optional_jsonb(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n);
}

Numeric
required_numeric(FunctionCallInfo fcinfo, int n, const char *name)
{
	Numeric value;

	require_argument(fcinfo, n, name);
	value = PG_GETARG_NUMERIC(n);
	if (numeric_is_nan(value) || numeric_is_inf(value))
		ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("argument \"%s\" must be a finite number", name));
	return value;
}

TimestampTz
required_timestamptz(FunctionCallInfo fcinfo, int n, const char *name)
{
	TimestampTz value;

	require_argument(fcinfo, n, name);
	value = PG_GETARG_TIMESTAMPTZ(n);
	if (TIMESTAMP_NOT_FINITE(value))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("argument \"%s\" must be a finite time", name));
	return value;
}

Numeric *
required_numeric_array(FunctionCallInfo fcinfo, int n, const char *name, int *count)
{
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	Numeric *values;

	require_argument(fcinfo, n, name);
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%s\" must have one dimension", name));
	deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	values = palloc(sizeof(Numeric) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("argument \"%s\" must not contain nulls", name));
		values[i] = DatumGetNumeric(elements[i]);
		if (numeric_is_nan(values[i]) || numeric_is_inf(values[i]))
			ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					errmsg("argument \"%s\" must contain finite numbers", name));
	}
	return values;
}

static void
tell_name(void *name)
{
	errcontext("reading \"%s\"", (const char *) name);
}

TimestampTz
timestamptz_from_text(const char *text, const char *name)
{
	ErrorContextCallback teller = {
		.previous = error_context_stack, .callback = tell_name, .arg = unconstify(char *, name)};
	TimestampTz value;

	error_context_stack = &teller;
	value = DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	error_context_stack = teller.previous;
	if (TIMESTAMP_NOT_FINITE(value))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("\"%s\" must be a finite time", name));
	return value;
}
