/*
 * privacy/purge.h
 *		Removing a tenant for good.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

typedef struct Purge
{
	TenantEntry *tenant;
	pg_uuid_t *certificate; /* NULL where nothing of the tenant is to stay, not even that */
	TimestampTz until;      /* a step ends then; 0 for never */
} Purge;

extern bool purge_is_time_up(const Purge *purge);

/* What was removed: added up for each object.  "bytes" -1 is not known. */
extern void certificate_note(const Purge *purge, const char *kind, const char *object, int64 rows,
							 int64 bytes);
extern void certificate_note_kept(const Purge *purge, const char *kind, const char *object,
								  int64 rows, const char *why);

/* Begin the certificate, or find the one that was begun. */
extern pg_uuid_t *certificate_begin(const pg_uuid_t *tenant);

/* Write the document and its hash. */
extern void certificate_finish(const Purge *purge);

/*
 * Delete the rows of a table, its partitions included, for which "condition" holds ($1 is an array
 * of the tenant), as "owner".  False: the time is up and there are more.
 */
extern bool purge_rows(const Purge *purge, Oid relid, Oid owner, const char *condition,
					   int64 *count);

/* The tenant's rows in the extension's own tables.  False: the time is up. */
extern bool purge_records(const Purge *purge);

/*
 * Rows that came after the purge: from counters in shared memory, or of a transaction that had
 * begun before; how many.
 */
extern int64 purge_sweep(void);

/*
 * Asked before anything is removed, of a tenant that is "purging": true where nothing of it is
 * outside of the database any more, which the certificate is then told; else it has begun to
 * remove that, and is asked again.
 */
typedef bool (*PurgeClearer)(const Purge *purge);
extern void purge_set_clearer(PurgeClearer clearer);

/* Are there documents of the tenant that the law wants kept? */
extern bool purge_has_documents(const pg_uuid_t *tenant);

/* In the postmaster, from _PG_init. */
extern void purge_init(void);
