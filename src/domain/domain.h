/*
 * domain/domain.h
 *		Host names of tenants, and which of them may be served.
 */
#pragma once

#include "postgres.h"

#include "access/xact.h"
#include "utils/uuid.h"

/* What shared memory says of a name. */
typedef enum DomainAnswer
{
	DOMAIN_REFUSED,
	DOMAIN_ALLOWED,
	DOMAIN_UNKNOWN /* nothing has been loaded, or not all had room */
} DomainAnswer;

/*
 * May the name be served?  It is the verified domain of an active tenant of the database, or
 * the slug of one below tenancy.base_domain.  In any process with shared memory, without a
 * transaction; allocates nothing and never raises.
 */
extern DomainAnswer domain_ask(Oid database, const char *text, size_t length);

/* Palloc'd: the tenant that has proven the domain, as hostname_read() writes it; NULL for none. */
extern pg_uuid_t *domain_owner(const char *domain);

/* Have shared memory know the names of this database, unless it does already. */
extern void domain_load(void);

/* The database, or the extension, is gone. */
extern void domain_forget(Oid database);
extern void domain_note_dropped(Oid extension);

extern void domain_transaction_event(XactEvent event);

/* For lookup.c's users: how many names there is room for, and how many had none. */
extern int64 domain_known_count(void);
extern int64 domain_refused_count(void);

/* In the postmaster, from _PG_init. */
extern void domain_init(void);
extern void domain_lookup_init(void);
