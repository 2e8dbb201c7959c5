/*
 * context/context.c
 *		Who the tenant of the session is now: entering and leaving.
 *
 * Entering switches the user by SetUserIdAndSecContext(tenant's role,
 * SECURITY_LOCAL_USERID_CHANGE): core itself then refuses SET ROLE, RESET ROLE and
 * SET SESSION AUTHORIZATION.  Core restores the user when a transaction or
 * subtransaction aborts; at commit we do, always to the outer user and never to a
 * saved one, which could be that of a function's owner.
 *
 * The tenant is also written to a slot of shared memory that this backend alone
 * writes; the parallel workers of its queries read it from there.  They are started
 * after it was written and cannot outlive the transaction, so no lock is needed.
 *
 * The slots also say how many sessions are in a tenant.  Where their number is limited, they
 * are counted and one more is added under a lock, so that the limit is exact; who leaves takes no
 * lock.  Nothing of it outlives its backend: there is no counter that could be left too high.
 */
#include "postgres.h"

#include "context/ceiling.h"
#include "context/context.h"
#include "context/entry.h"
#include "context/leave.h"
#include "context/login.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/hot.h"
#include "core/id.h"
#include "core/settings.h"
#include "core/transaction.h"
#include "shmem/shmem.h"
#include "shmem/slot.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

typedef struct ContextSlot
{
	bool is_set;
	bool is_counted; /* among the sessions of the tenant */
	pg_uuid_t tenant;
} ContextSlot;

static ContextSlot *slots;
static LWLockPadded *claim_locks;

#define CLAIM_LOCKS 16

static struct
{
	bool is_set;
	pg_uuid_t tenant;
	SubTransactionId subtransaction; /* that entered, or inherited the entry */
	char *actor;                     /* in TopTransactionContext */
	uint8 restrictions;              /* of the token */
	bool is_suspended;
} current HOT_DATA;

/* The first tenant entered in this transaction, which outlives a ROLLBACK TO of the entry. */
static struct
{
	bool is_set;
	pg_uuid_t tenant;
} first;

static struct
{
	bool is_set;
	pg_uuid_t tenant;
} touched;

/* Is this session counted for what it entered?  A bound login is, and stays. */
static bool has_claimed_entry = false;

bool context_is_used HOT_DATA = false;

/* In a parallel worker: has the leader's slot been read? */
static bool leader_was_read = false;

static Size
slots_size(void)
{
	return mul_size(slot_count(), sizeof(ContextSlot));
}

static int
claim_lock_count(void)
{
	return CLAIM_LOCKS;
}

static SharedPart slots_part = {
	.name = "pg_tenancy contexts",
	.size = slots_size,
	.lock_count = claim_lock_count,
	.memory = (void **) &slots,
	.locks = &claim_locks,
};

static void
publish(void)
{
	ContextSlot *slot;

	if (!shmem_is_ready())
		return;
	slot = &slots[slot_self()];
	slot->tenant = current.tenant;
	slot->is_set = current.is_set;
}

static void
unpublish_login(int code, Datum arg)
{
	slots[slot_self()].is_set = false;
	slots[slot_self()].is_counted = false;
}

void
context_publish_login(const pg_uuid_t *tenant)
{
	static bool is_registered = false;
	ContextSlot *slot;

	if (!shmem_is_ready() || current.is_set)
		return;
	slot = &slots[slot_self()];
	if (tenant != NULL)
	{
		/* The next backend with this slot starts without a tenant. */
		if (!is_registered)
			before_shmem_exit(unpublish_login, (Datum) 0);
		is_registered = true;
		if (!id_equal(&slot->tenant, tenant))
			slot->is_counted = false;
		slot->tenant = *tenant;
	}
	else
		slot->is_counted = false;
	slot->is_set = tenant != NULL;
}

bool
context_claim(const pg_uuid_t *tenant, int most)
{
	ContextSlot *own;
	LWLock *lock;
	bool is_free = true;

	if (!shmem_is_ready())
		return true;
	own = &slots[slot_self()];
	if (own->is_counted && id_equal(&own->tenant, tenant))
		return true;
	lock = &claim_locks[tenant->data[UUID_LEN - 1] % CLAIM_LOCKS].lock;
	if (most >= 0)
	{
		LWLockAcquire(lock, LW_EXCLUSIVE);
		is_free = context_count_sessions(tenant) < most;
	}
	if (is_free)
	{
		own->tenant = *tenant;
		own->is_counted = true;
		has_claimed_entry = login_tenant() == NULL;
		transaction_watch();
	}
	if (most >= 0)
		LWLockRelease(lock);
	return is_free;
}

static void
give_back_claim(void)
{
	if (likely(!has_claimed_entry))
		return;
	has_claimed_entry = false;
	slots[slot_self()].is_counted = false;
}

static void
clear(void)
{
	if (!current.is_set)
		return;
	current.is_set = false;
	current.actor = NULL;
	publish();
	give_back_claim();
}

static void
read_leader(void)
{
	ContextSlot *slot = &slots[slot_leader()];

	current.is_set = slot->is_set;
	current.tenant = slot->tenant;
	leader_was_read = true;
}

pg_attribute_hot const pg_uuid_t *
context_tenant(void)
{
	if (current.is_set)
		return &current.tenant;
	if (unlikely(IsParallelWorker()))
	{
		if (!leader_was_read)
			read_leader();
		return current.is_set ? &current.tenant : NULL;
	}
	return login_tenant();
}

bool
context_is_entered(void)
{
	return current.is_set || first.is_set;
}

const char *
context_actor(void)
{
	return current.is_set ? current.actor : NULL;
}

void
context_require_none(const char *what)
{
	if (context_tenant() != NULL)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("%s is not possible in a tenant context", what),
				errhint("Run it in a transaction that has not entered a tenant."));
}

const pg_uuid_t *
context_attributed_tenant(void)
{
	const pg_uuid_t *bound;

	if (current.is_set)
		return &current.tenant;
	bound = login_tenant();
	if (bound != NULL)
		return bound;
	if (first.is_set)
		return &first.tenant;
	return touched.is_set ? &touched.tenant : NULL;
}

pg_attribute_hot void
context_note_touched(const pg_uuid_t *tenant)
{
	if (touched.is_set || current.is_set)
		return;
	touched.is_set = context_is_used = true;
	touched.tenant = *tenant;
	transaction_watch();
}

/*
 * A function that changes the user restores it on return, and one with a SET clause
 * restores the settings: entered below either, the context would be torn in two.
 * Each subtransaction opens one level of settings; any other level is a function's.
 */
static void
require_entry_allowed(void)
{
	Oid user;
	int security_context;
	int settings_level;

	if (IsInParallelMode())
		ereport(ERROR, errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				errmsg("cannot enter a tenant during a parallel operation"));

	GetUserIdAndSecContext(&user, &security_context);
	if (security_context != 0 || user != GetOuterUserId())
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("cannot enter a tenant inside a security-definer function"),
				errhint("Call the function that enters from the session itself."));

	settings_level = NewGUCNestLevel();
	AtEOXact_GUC(true, settings_level);
	if (settings_level != GetCurrentTransactionNestLevel() + 1)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("cannot enter a tenant inside a function with a SET clause"),
				errhint("Call the function that enters from the session itself."));
}

/* Without the lock a session that comes or goes meanwhile may be counted or not. */
int
context_count_sessions(const pg_uuid_t *tenant)
{
	int count = 0;

	for (int i = 0; i < slot_count(); i++)
		count += slots[i].is_counted && id_equal(&slots[i].tenant, tenant);
	return count;
}

bool
context_tenant_of_slot(int slot, pg_uuid_t *tenant)
{
	if (!slots[slot].is_set)
		return false;
	*tenant = slots[slot].tenant;
	return true;
}

static ContextAdmission admission = NULL;

void
context_set_admission(ContextAdmission wants)
{
	admission = wants;
}

void
context_admit(const pg_uuid_t *tenant)
{
	if (admission != NULL)
		admission(tenant);
}

/* A token for a tenant that was entered already can only take away. */
static void
add_restrictions(uint8 restrictions)
{
	current.restrictions |= restrictions;
	context_enforce_restrictions();
}

void
context_enter(const pg_uuid_t *tenant, const char *actor, uint8 restrictions)
{
	const pg_uuid_t *bound;
	const Entry *entry;

	if (current.is_set && id_equal(&current.tenant, tenant))
	{
		add_restrictions(restrictions);
		return;
	}
	if (first.is_set && !id_equal(&first.tenant, tenant))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("this transaction has entered another tenant"),
				errdetail("The first tenant of a transaction is final."),
				errhint("End the transaction first."));
	bound = login_tenant();
	if (bound != NULL)
	{
		if (!id_equal(bound, tenant))
			ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("this login is bound to another tenant"));
		if (restrictions != 0)
			ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("a bound login cannot be restricted by a token"));
		return;
	}
	require_entry_allowed();
	/* With all remembered no lock is taken on the way, which would do this: a suspension counts. */
	AcceptInvalidationMessages();
	context_admit(tenant);
	entry = entry_get(tenant);

	/* From here on nothing fails half way: first what can raise, then the state. */
	(void) set_config_option("search_path", entry->search_path, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("tenancy.current_tenant", entry->id, PGC_INTERNAL, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	ceiling_set_for_transaction(&entry->tenant);
	current.actor = actor == NULL ? NULL : MemoryContextStrdup(TopTransactionContext, actor);
	current.tenant = *tenant;
	current.subtransaction = GetCurrentSubTransactionId();
	current.restrictions = 0;
	current.is_suspended = entry->is_suspended;
	current.is_set = true;
	context_is_used = true;
	transaction_watch();
	first.is_set = true;
	first.tenant = *tenant;
	publish();
	SetUserIdAndSecContext(entry->role, SECURITY_LOCAL_USERID_CHANGE);
	add_restrictions(restrictions);
}

/*
 * Nothing of the tenant outlives it: a restricted operation has no temporary objects and no
 * settings but those of its own level, and sessions' functions are refused in a context.
 */
ContextRole
context_push(const pg_uuid_t *tenant)
{
	const Entry *entry;

	context_require_none("working for a tenant");
	entry = entry_get(tenant);
	current.actor = NULL;
	current.tenant = *tenant;
	current.subtransaction = GetCurrentSubTransactionId();
	current.restrictions = 0;
	current.is_set = true;
	publish();
	return (ContextRole){
		.role = entry->role,
		.search_path = pstrdup(entry->search_path),
		.owns_schemas = strcmp(entry->tenant.owner, entry->tenant.role) == 0,
	};
}

void
context_pop(void)
{
	clear();
}

void
context_warn_of_autocommit(void)
{
	if (!IsTransactionBlock() && (MyXactFlags & XACT_FLAGS_PIPELINING) == 0)
		ereport(WARNING, errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
				errmsg("the tenant context ends with this statement"),
				errhint("Enter after BEGIN, in the transaction that does the work."));
}

uint8
context_restrictions(void)
{
	return current.is_set ? current.restrictions : 0;
}

bool
context_is_suspended(void)
{
	return current.is_set ? current.is_suspended : login_is_suspended();
}

/* RESET passes no check hook: it would make the transaction writable again. */
pg_attribute_hot void
context_enforce_restrictions(void)
{
	if (current.is_set && unlikely((current.restrictions & RESTRICT_READ_ONLY) != 0))
		XactReadOnly = true;
}

/* Leaving is final: nothing of the tenant is left for the next client of the connection. */
static void
leave(void)
{
	if (context_is_entered())
	{
		ceiling_clear();
		leave_at_end();
	}
	clear();
	/* An entry that failed half way has claimed, too. */
	give_back_claim();
	first.is_set = touched.is_set = context_is_used = false;
}

void
context_transaction_event(XactEvent event)
{
	/* The tenant is the leader's; connecting is a transaction too, and ends before the work. */
	if (IsParallelWorker())
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (current.is_set)
				SetUserIdAndSecContext(GetOuterUserId(), 0);
			leave();
			break;
		case XACT_EVENT_ABORT:
			leave();
			break;
		case XACT_EVENT_PRE_COMMIT:
			if (context_is_entered())
				leave_before_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
	}
}

void
context_subtransaction_event(SubXactEvent event, SubTransactionId self, SubTransactionId parent)
{
	if (!current.is_set || current.subtransaction != self)
		return;
	switch (event)
	{
		case SUBXACT_EVENT_ABORT_SUB:
			clear();
			ceiling_clear();
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			current.subtransaction = parent;
			break;
		case SUBXACT_EVENT_START_SUB:
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			break;
	}
}

/*
 * tenancy.compatible_settings: settings that nobody can write and that show the
 * tenant, for policies written against current_setting('app.current_tenant_id').
 * INTERNAL settings have neither a SET nor a RESET.
 */
static const char *
show_tenant(void)
{
	static char text[37];
	const pg_uuid_t *tenant = context_tenant();
	char *out = text;

	if (tenant == NULL)
		return "";
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		out += sprintf(out, "%02x", tenant->data[i]);
	}
	return text;
}

static void
define_compatible_settings(void)
{
	List *names;
	ListCell *cell;
	static char *ignored;

	if (!SplitGUCList(pstrdup(setting_compatible_settings), ',', &names))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid list in setting \"tenancy.compatible_settings\""));
	foreach (cell, names)
	{
		const char *name = lfirst(cell);

		if (strchr(name, '.') == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("setting \"%s\" cannot show the tenant", name),
					errdetail("Its name must have a prefix, as in \"app.current_tenant_id\"."));
		DefineCustomStringVariable(MemoryContextStrdup(TopMemoryContext, name),
								   "Shows the id of the current tenant.", NULL, &ignored, "",
								   PGC_INTERNAL, GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL,
								   NULL, show_tenant);
	}
}

void
context_init(void)
{
	shmem_register(&slots_part);
	define_compatible_settings();
}
