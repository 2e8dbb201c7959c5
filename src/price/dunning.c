/*
 * price/dunning.c
 *		The arithmetic of dunning: when to try again, and whether to ask now.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/money.h"
#include "price/dunning.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

bool
dunning_is_due(const DunningState *state)
{
	return numeric_compare(state->overdue, state->threshold) >= 0 &&
		   state->attempts < state->max_attempts &&
		   (state->attempts == 0 || state->days_since_last > state->days_between);
}

/* tenancy.dunning_days(gaps integer[]) → integer[] */
TENANCY_FUNCTION(dunning_days)
{
	ArrayType *gaps = PG_GETARG_ARRAYTYPE_P(0);
	Datum *elements;
	bool *nulls;
	int count;
	int64 day = 0;

	deconstruct_array(gaps, INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] || DatumGetInt32(elements[i]) < 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("argument \"gaps\" must contain numbers of at least 0"));
		day += DatumGetInt32(elements[i]);
		if (day > PG_INT32_MAX)
			ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					errmsg("the gaps add up to more than %d days", PG_INT32_MAX));
		elements[i] = Int32GetDatum((int32) day);
	}
	PG_RETURN_DATUM(PointerGetDatum(
		construct_array(elements, count, INT4OID, sizeof(int32), true, TYPALIGN_INT)));
}

/*
 * tenancy.dunning_is_due(overdue, threshold numeric, attempts, max_attempts, days_since_last,
 *     days_between integer) → boolean
 */
TENANCY_FUNCTION(dunning_is_due)
{
	DunningState state = {
		.overdue = required_numeric(fcinfo, 0, "overdue"),
		.threshold = required_numeric(fcinfo, 1, "threshold"),
		.attempts = PG_GETARG_INT32(2),
		.max_attempts = PG_GETARG_INT32(3),
		.days_since_last = PG_GETARG_INT32(4),
		.days_between = PG_GETARG_INT32(5),
	};

	PG_RETURN_BOOL(dunning_is_due(&state));
}
