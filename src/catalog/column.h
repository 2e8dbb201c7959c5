/*
 * catalog/column.h
 *		Columns of rows to be written: lists that grow, and become arrays for unnest().
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"

typedef struct Column
{
	Oid type; /* of the elements */
	Datum *values;
	bool *nulls;
	int count;
	int capacity;
} Column;

/* Empty, in the current memory context. */
extern void column_begin(Column *column, Oid type);

/* Add a value of the type; it is not copied. */
extern void column_add(Column *column, NullableDatum value);

/* The array, to be handed to a statement. */
extern NullableDatum column_array(const Column *column);
