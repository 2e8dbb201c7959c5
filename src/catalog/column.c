/*
 * catalog/column.c
 *		Columns of rows to be written: lists that grow, and become arrays for unnest().
 */
#include "postgres.h"

#include "catalog/column.h"

#include "utils/array.h"
#include "utils/lsyscache.h"

#define FIRST_CAPACITY 64

void
column_begin(Column *column, Oid type)
{
	column->type = type;
	column->count = 0;
	column->capacity = FIRST_CAPACITY;
	column->values = palloc(sizeof(Datum) * column->capacity);
	column->nulls = palloc(sizeof(bool) * column->capacity);
}

void
column_add(Column *column, NullableDatum value)
{
	if (column->count == column->capacity)
	{
		column->capacity *= 2;
		column->values = repalloc(column->values, sizeof(Datum) * column->capacity);
		column->nulls = repalloc(column->nulls, sizeof(bool) * column->capacity);
	}
	column->values[column->count] = value.value;
	column->nulls[column->count] = value.isnull;
	column->count++;
}

NullableDatum
column_array(const Column *column)
{
	int lower_bound = 1;
	int count = column->count;
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(column->type, &length, &by_value, &align);
	if (count == 0)
		return gate_datum(PointerGetDatum(construct_empty_array(column->type)));
	return gate_datum(
		PointerGetDatum(construct_md_array(column->values, column->nulls, 1, &count, &lower_bound,
										   column->type, length, by_value, align)));
}
