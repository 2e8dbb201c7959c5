/*
 * privacy/work.h
 *		Retention at one table: batches of rows, or its partitions.
 */
#pragma once

#include "postgres.h"

#include "privacy/policy.h"

typedef struct Work
{
	const Policy *policy;
	const Target *target;
	Oid relid;        /* the table itself or one of its partitions or children */
	char *name;       /* quoted */
	PolicySql sql;
	char *overdue;    /* SQL, $1 is the cutoff: rows that the policy is for */
	char *held;       /* SQL: those under legal hold; NULL for none */
	char *referenced; /* SQL: those that other rows keep; NULL for none */
	char *key;        /* SQL: what tells a row */
	bool is_by_time;  /* there is an index; else the table is read from end to end */
} Work;

/* How far the work is; all zero is the beginning. */
typedef struct WorkPosition
{
	TimestampTz from; /* by time: that of the last row, and where it was; 0 at the beginning */
	int64 block;      /* else of the next row */
	int offset;
	int size; /* of the next batch, in rows or blocks; 0: not known yet */
} WorkPosition;

/* What a batch, or a look at all that is overdue, has come to. */
typedef struct WorkResult
{
	int64 rows;
	int partitions;
	int64 held;
	int64 referenced; /* left, for others refer to them or the deletion failed */
	TimestampTz first; /* valid where something was found */
	TimestampTz last;
	bool has_times;
	bytea *keys_hash; /* of the former one and the keys */
	char *reason;     /* why something was left; NULL */
} WorkResult;

extern void work_begin(Work *work, const Policy *policy, const Target *target, Oid relid);

/* Delete or anonymise some rows.  False: there are no more. */
extern bool work_batch(Work *work, WorkPosition *position, const bytea *keys_hash,
					   WorkResult *result);

/* Count what is overdue, and what of it would stay. */
extern void work_count(Work *work, WorkResult *result);

/* Count what stays, where anything can. */
extern void work_count_left(Work *work, WorkResult *result);

/*
 * Drop at most so many partitions of a table that are overdue as a whole; with "is_dry" only say
 * how many.  What is in use, or holds a row under legal hold, is left, with the reason.
 */
extern void work_drop_partitions(const Policy *policy, const Target *target, bool is_dry, int most,
								 WorkResult *result);
