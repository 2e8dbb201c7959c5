/*
 * limit/quota.h
 *		How much a tenant may have: limits from its plan or set for it, and what is used.
 *
 * Quantities are in millionths of the metric's unit.
 */
#pragma once

#include "postgres.h"

#include "core/compat.h"

#include "access/xact.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define QUOTA_UNIT INT64CONST(1000000)
#define QUOTA_DIGITS 6
#define QUOTA_NONE PG_INT64_MAX /* no limit */

/*
 * Quantities are cut off at this, up and down, so that two of them can be added.  A limit is less
 * than it: what is cut off is beyond any limit.
 */
#define QUOTA_MOST (PG_INT64_MAX / 2)
#define QUOTA_LARGEST_LIMIT (QUOTA_MOST - 1)

static inline int64
quota_plus(int64 a, int64 b)
{
	return Max(Min(a + b, QUOTA_MOST), -QUOTA_MOST);
}

/* Was it cut off, so that no sum of it is known? */
static inline bool
quota_is_cut_off(int64 quantity)
{
	return quantity >= QUOTA_MOST || quantity <= -QUOTA_MOST;
}

typedef struct Quota
{
	char *metric;
	bool is_level; /* else a sum that begins anew each calendar month, UTC */
	int64 soft;    /* QUOTA_NONE for none, as below */
	int64 hard;
	char *source;        /* 'plan "starter"', or "quota_set()" */
	bool refuses_events; /* usage events that would pass the hard limit are refused */
} Quota;

/* A metric that is asked for, not kept: sessions of the tenant. */
#define QUOTA_CONNECTIONS "connections"

typedef struct QuotaKey
{
	Oid database;
	pg_uuid_t tenant;
	char metric[NAMEDATALEN]; /* zero-padded */
} QuotaKey;

typedef struct QuotaList
{
	pg_uuid_t tenant;
	int count;
	Quota *quotas;
} QuotaList;

typedef struct QuotaUse
{
	int64 used;            /* by transactions that are committed, and those that go on */
	TimestampTz resets_at; /* DT_NOEND for a level */
} QuotaUse;

/* All quotas of a tenant: valid until the next look-up. */
extern const QuotaList *quota_list(const pg_uuid_t *tenant);

/* What is used of a metric, from shared memory or else from the tables. */
extern QuotaUse quota_measure(const pg_uuid_t *tenant, const char *metric, bool is_level);

/* Numbers of the outside, and back; NULL is QUOTA_NONE. */
extern int64 quota_from_numeric(Numeric value);
extern int64 quota_limit_from_numeric(Numeric value);
extern Datum quota_to_numeric(int64 value);
extern char *quota_to_text(int64 value);

/* The quota of a tenant for a metric, or NULL where nothing limits it.  Kept by the backend. */
extern const Quota *quota_find(const pg_uuid_t *tenant, const char *metric);

extern void quota_make_key(QuotaKey *key, const pg_uuid_t *tenant, const char *metric);

/* Raise 53400: the statement would pass the hard limit. */
extern pg_noreturn void quota_refuse(const pg_uuid_t *tenant, const Quota *quota, int64 used,
									 int64 wanted);

/*
 * What is known exactly: the number of rows of tables (quota_count.c), or a sum of events
 * (quota_event.c).  reserve: it is there, and counts if the transaction commits; false where
 * it would pass the limit, minus what the transaction has given back.  give_back: it is gone when
 * the transaction commits.
 */
extern bool quota_is_counted(const QuotaKey *key);
extern bool quota_set_counted(const QuotaKey *key, int64 used); /* false: no room */
extern bool quota_is_exact(const QuotaKey *key, TimestampTz period_start);
extern void quota_set_exact(const QuotaKey *key, TimestampTz period_start, int64 used);
extern bool quota_reserve(const QuotaKey *key, int64 amount, int64 hard, int64 *used);
extern void quota_give_back(const QuotaKey *key, int64 amount);

/* Has this transaction reserved or given back any of the key; and how many keys does it change? */
extern bool quota_has_reserved(const QuotaKey *key);
extern int quota_pending_count(void);

/* What is known in about a minute: more of it, or to be read again, if this commits. */
extern void quota_add_at_commit(const QuotaKey *key, int64 amount);
extern void quota_forget_at_commit(const QuotaKey *key);

/* What is used by committed transactions, from the tables. */
extern int64 quota_read_committed(const pg_uuid_t *tenant, const char *metric, bool is_level,
								  TimestampTz period_start, TimestampTz period_end);

/* The start of the month of a time, UTC, or of one so many months later. */
extern TimestampTz quota_month(TimestampTz time, int months);

/* Storage (quota_storage.c): before a statement that adds; raises 53400 over the limit. */
extern void quota_check_storage(const pg_uuid_t *tenant);

/*
 * While it runs: what to look at, where the tenant has such a quota.  quota_is_over() may be
 * called in a signal handler; it asks for the storage to be measured again.
 */
typedef struct QuotaEntry QuotaEntry;
typedef struct QuotaWatch
{
	pg_uuid_t tenant;
	QuotaEntry *entry;
	int64 hard;
} QuotaWatch;
extern bool quota_watch_storage(const pg_uuid_t *tenant, QuotaWatch *watch);
extern bool quota_is_over(QuotaEntry *entry, int64 hard);
extern QuotaEntry *quota_entry(const QuotaKey *key); /* NULL: no room */
extern pg_noreturn void quota_refuse_storage(const QuotaWatch *watch);

/* Has the tenant written since its storage was measured?  Both under no lock of the caller. */
extern void quota_note_written(const QuotaKey *key);
extern int quota_take_written(Oid database, pg_uuid_t *tenants, int max);
extern bool quota_has_written(Oid database);
extern void quota_set_used(const QuotaKey *key, int64 used);
extern int64 quota_known_use(const QuotaKey *key); /* -1: not known */

/* What has changed of the quotas of a database since it was taken, palloc'd; without what goes on.
 */
typedef struct QuotaKnown
{
	QuotaKey key;
	int64 used;
	TimestampTz period_start; /* 2000-01-01 for a level */
} QuotaKnown;
extern QuotaKnown *quota_take_changed(Oid database, int *count);
extern bool quota_has_changed(Oid database);
extern void quota_for_each_pending(void (*visit)(Oid database, void *state), void *state);
extern void quota_note_changed(const QuotaKey *key);

extern void quota_transaction_event(XactEvent event);
extern void quota_subtransaction_event(SubXactEvent event, SubTransactionId self,
									   SubTransactionId parent);

/* The database is gone. */
extern void quota_forget(Oid database);

/* In the postmaster, from _PG_init. */
extern void quota_init(void);
extern void quota_event_init(void);
extern void quota_storage_init(void);
extern void quota_watch_init(void);
