/*
 * job/kind.c
 *		The kinds of periodic work, as a table that modules add to.
 */
#include "postgres.h"

#include "core/function.h"
#include "job/kind.h"

#include "utils/tuplestore.h"

#define MAX_KINDS 32

static const JobKind *kinds[MAX_KINDS];
static int kind_count = 0;

void
job_kind_register(const JobKind *kind)
{
	if (kind_count == MAX_KINDS)
		elog(ERROR, "too many kinds of jobs");
	kinds[kind_count++] = kind;
}

int
job_kind_count(void)
{
	return kind_count;
}

const JobKind *
job_kind(int index)
{
	return kinds[index];
}

const JobKind *
job_kind_find(const char *name)
{
	for (int i = 0; i < kind_count; i++)
	{
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	}
	return NULL;
}

/* tenancy.job_kind_read() → TABLE(name text, every interval, timeout interval, description text) */
TENANCY_FUNCTION(job_kind_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < kind_count; i++)
	{
		Interval every = {.time = kinds[i]->every_seconds * USECS_PER_SEC};
		Interval timeout = {.time = kinds[i]->timeout_seconds * USECS_PER_SEC};
		Datum values[4] = {CStringGetTextDatum(kinds[i]->name), IntervalPGetDatum(&every),
						   IntervalPGetDatum(&timeout), CStringGetTextDatum(kinds[i]->description)};
		bool nulls[4] = {false, kinds[i]->every_seconds == 0, kinds[i]->timeout_seconds == 0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
