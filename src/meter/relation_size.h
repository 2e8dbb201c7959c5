/*
 * meter/relation_size.h
 *		How large a table is, without waiting for who has it for himself.
 */
#pragma once

#include "postgres.h"

#include "utils/relcache.h"

typedef struct RelationSize
{
	int64 heap;  /* bytes, with free space and visibility maps */
	int64 index;
	int64 toast; /* with its index */
} RelationSize;

/*
 * The size of a table that is open under a lock.  False where one of its indexes, or what is out of
 * line, is locked by somebody for himself.
 */
extern bool relation_size_of(Relation relation, RelationSize *size);
