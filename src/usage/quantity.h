/*
 * usage/quantity.h
 *		What tenants used: many questions answered at once.
 */
#pragma once

#include "postgres.h"

#include "usage/total.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct UsageQuestion
{
	pg_uuid_t tenant;
	UsageSpan span; /* a NULL metric is not asked about; times may be infinite */
} UsageQuestion;

typedef struct UsageAnswer
{
	int question;
	Numeric quantity; /* in the unit of the metric */
	Jsonb *groups;    /* the values of the properties asked for; NULL where none was */
} UsageAnswer;

/*
 * One answer a question, in their order; or, told apart by the properties named in a text[],
 * those of each question by the values of the properties, none where there was nothing.  The
 * metrics must then have the properties in their group_by.  Palloc'd.
 */
extern UsageAnswer *usage_answer(const UsageQuestion *questions, int count, ArrayType *group_by,
								 int *answer_count);
