/*
 * payment/remind.h
 *		Reminders: what is said of an invoice, once a kind and step.
 */
#pragma once

#include "postgres.h"

#include "payment/policy.h"
#include "utils/uuid.h"

/* What a text says of an invoice, or of all that is overdue. */
typedef struct Reminded
{
	pg_uuid_t tenant;
	pg_uuid_t invoice;
	char *name; /* of the customer */
	char *email;
	char *number;
	char *currency;
	Numeric amount_due;
	TimestampTz due_at;
} Reminded;

/* A text of the policy with the placeholders filled in. */
extern char *remind_render(const DunningPolicy *policy, const char *text, const char *part,
						   const Reminded *of);

/*
 * Give a reminder to the outbox, unless it was given before; true if it was not.  "kind" and
 * "step" tell reminders of an invoice apart, "text" is what the policy calls it.  The caller holds
 * the tenant's lock.
 */
extern bool remind(const DunningPolicy *policy, const Reminded *of, const char *kind, int32 step,
				   const char *text);
