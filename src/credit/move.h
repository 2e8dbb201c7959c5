/*
 * credit/move.h
 *		Changing what remains of credits, within the floor.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

typedef struct CreditMove
{
	pg_uuid_t id; /* of the entry */
	pg_uuid_t credit;
	pg_uuid_t tenant;
	const pg_uuid_t *document; /* NULL for none */
	Numeric amount;            /* > 0 where it comes back */
} CreditMove;

/* Write the entries and add them to what remains.  The caller holds the locks of the credits. */
extern void credit_move(const CreditMove *moves, int count, const char *kind, TimestampTz at);
