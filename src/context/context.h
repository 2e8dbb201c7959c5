/*
 * context/context.h
 *		Who the tenant of the session is now.
 *
 * The state belongs to the transaction: it is set once, and every way out of the
 * transaction clears it.
 */
#pragma once

#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/registry.h"
#include "context/login.h"
#include "utils/uuid.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

/* Has this transaction entered or touched a tenant?  Of context.c alone. */
extern bool context_is_used;

/* The current tenant, or NULL.  Valid until the transaction ends; cheap enough for every row. */
extern const pg_uuid_t *context_tenant(void);

/* Is there no tenant, nor was one entered or touched in this transaction?  Cheaper still. */
static inline bool
context_is_plain(void)
{
	return !context_is_used && !IsParallelWorker() && login_is_plain();
}

/* What a token can take away. */
#define RESTRICT_READ_ONLY 0x01
#define RESTRICT_NO_DDL 0x02
#define RESTRICT_SUPPORT 0x04 /* takes nothing: it says that somebody of the operator acts */
#define RESTRICT_ALL (RESTRICT_READ_ONLY | RESTRICT_NO_DDL | RESTRICT_SUPPORT)

/*
 * Make the tenant the one of this transaction: its role, its search path.  Errors:
 * 42501 from a security-definer function, under a SET clause, or when another tenant
 * was entered before; 55000 when the tenant is not active.  "actor" may be NULL.
 */
extern void context_enter(const pg_uuid_t *tenant, const char *actor, uint8 restrictions);

/*
 * Be in a tenant for a while, in C that does the tenant's work with a role of its own choice
 * in a restricted operation: between context_push() and context_pop(), within one
 * subtransaction, whose abort pops, too.  Errors: 42501 in a context; those of a tenant that cannot
 * be entered. Result: the entry's search path and role.
 */
typedef struct ContextRole
{
	Oid role;
	const char *search_path;
	bool owns_schemas; /* the tenant's role is the owner of the tenant's objects */
} ContextRole;
extern ContextRole context_push(const pg_uuid_t *tenant);
extern void context_pop(void);

/* After an entry: say so where no transaction block keeps it. */
extern void context_warn_of_autocommit(void);

/* Sessions that are in the tenant now: those that have entered it, and its bound logins. */
extern int context_count_sessions(const pg_uuid_t *tenant);

/* The tenant that the session in a slot (shmem/slot.h) is in; false for none.  Unlocked. */
extern bool context_tenant_of_slot(int slot, pg_uuid_t *tenant);

/*
 * Asked before a session becomes the tenant's, by entering or as a bound login; may raise.
 * context_claim() then makes it one of at most so many (-1: any number), exactly, or returns
 * false; a session that is one already stays.  What was claimed by entering is given back at
 * the end of the transaction, what a bound login claimed when it ends.
 */
typedef void (*ContextAdmission)(const pg_uuid_t *tenant);
extern void context_set_admission(ContextAdmission admission);
extern void context_admit(const pg_uuid_t *tenant);
extern bool context_claim(const pg_uuid_t *tenant, int most);

/* Is the tenant of this session suspended?  It may read and delete, and nothing else. */
extern bool context_is_suspended(void);

/* The restrictions of the context that was entered; 0 without one. */
extern uint8 context_restrictions(void);

/* Before each statement: what a RESET has loosened is fastened again. */
extern void context_enforce_restrictions(void);

/* Has this transaction entered a tenant, as the client of a pool?  False for a bound login. */
extern bool context_is_entered(void);

/* Tell the parallel workers of this session the tenant of its login; NULL for none. */
extern void context_publish_login(const pg_uuid_t *tenant);

/* Who acts, as the application said on entry; NULL when it did not. */
extern const char *context_actor(void);

/* Raise 42501 when called within a tenant context: what administers does not run in one. */
extern void context_require_none(const char *what);

/*
 * The tenant whose work this transaction is: the one entered, even where the entry
 * was rolled back to a savepoint, else the first whose schema a statement touched; NULL
 * for none.
 */
extern const pg_uuid_t *context_attributed_tenant(void);
extern void context_note_touched(const pg_uuid_t *tenant);

/* The hooks that the hook floor calls. */
extern void context_transaction_event(XactEvent event);
extern void context_subtransaction_event(SubXactEvent event, SubTransactionId self,
										 SubTransactionId parent);

/* In the postmaster, from _PG_init. */
extern void context_init(void);

#pragma GCC visibility pop
