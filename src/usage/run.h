/*
 * usage/run.h
 *		Answering questions of usage: what quantity.c and read.c share.
 */
#pragma once

#include "postgres.h"

#include "usage/quantity.h"
#include "utils/hsearch.h"

/* A part of a question that is read from one place. */
typedef struct Range
{
	int question;
	const char *name; /* of the metric there */
	TimestampTz starts;
	TimestampTz ends;
	int next; /* of the same tenant and name while all of a time is read; -1 for none */
} Range;

typedef struct Ranges
{
	int count;
	int size;
	Range *ranges;
	TimestampTz first; /* of all */
	TimestampTz last;
} Ranges;

/* A total: of a question, or of one group of it. */
typedef struct Group
{
	int question;
	Jsonb *groups; /* NULL where nothing is told apart */
	UsageTotal total;
} Group;

typedef struct Run
{
	const UsageQuestion *questions;
	int question_count;
	ArrayType *group_by; /* NULL where nothing is told apart */
	Group *groups;       /* where nothing is, one a question, in their order */
	int group_count;
	int group_size;
	HTAB *group_index;     /* by question and values */
	HTAB *values;          /* of unique metrics, by group; NULL before the first */
	MemoryContext memory;  /* what is kept */
	MemoryContext scratch; /* what a row needs */
	Ranges events;
	Ranges cells;
	Ranges hours;
	Ranges levels;  /* of which the last point counts, wherever it is */
	bool *is_found; /* by question: the last point */
} Run;

/*
 * Texts that belong to a number, as keys of a number.  enter_text() copies a text that is new;
 * find_text() is NULL where there is none.
 */
typedef struct TextEntry
{
	int number;
	Size length;
	const char *text;
	int value;
} TextEntry;

extern HTAB *text_table(MemoryContext memory);
extern TextEntry *enter_text(HTAB *table, int number, const char *text, Size length,
							 MemoryContext memory, bool *is_found);
extern TextEntry *find_text(HTAB *table, int number, const char *text, Size length);

/* The hour of a time, and the first hour that does not begin before it. */
extern TimestampTz floor_hour(TimestampTz time);
extern TimestampTz ceil_hour(TimestampTz time);

extern void add_range(Ranges *list, int question, const char *name, TimestampTz starts,
					  TimestampTz ends);

/* Add what was read for a question; what they need for it is in the current memory context. */
extern void add_event(Run *run, int question, const UsagePoint *point, Datum properties);
extern void add_cell(Run *run, int question, const UsageCell *cell, const char *value,
					 ArrayType *group_values);
extern void add_point(Run *run, int question, const UsagePoint *point);

/* Read all ranges, each from where it is (read.c). */
extern void read_ranges(Run *run);
