/*
 * job/line.h
 *		Places in the line of jobs: who is next, fairly.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* A step of priority is worth this many places. */
#define PLACES_A_PRIORITY 100

/*
 * The first of "count" consecutive places for jobs of the tenant (NULL for none) in a lane.
 * A job's rank is its place plus its priority × PLACES_A_PRIORITY.
 */
extern int64 line_reserve(const char *lane, const pg_uuid_t *tenant, int count);

/* A place at the head, for a job that has waited already. */
extern int64 line_head(const char *lane);

/* Jobs up to this rank and place have been claimed. */
extern void line_advance(const char *lane, int64 place, int64 rank);

/* No job with a higher rank has been claimed: PG_INT64_MAX when it is not known. */
extern int64 line_last_rank(const char *lane);

/* All claims have been looked at, of which the highest has this rank: from here on it is known. */
extern void line_set_known(const char *lane, int64 rank);

/* True for one caller an interval: who looks for claims that nobody holds any more. */
extern bool line_take_turn(const char *lane, TimestampTz now, int64 interval_us);

/* Forget the tenants who have nothing in line. */
extern void line_sweep(void);

extern void line_init(void);
