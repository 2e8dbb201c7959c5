/*
 * context/login.h
 *		Logins that belong to one tenant.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"

#include "miscadmin.h"
#include "utils/uuid.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

/*
 * The tenant that the login of this session is bound to, or NULL.  It is a function of
 * session_user alone, so that nothing the session does can change it.  Cheap enough for
 * every row.
 */
typedef struct LoginState
{
	bool is_known;
	bool is_resolving;
	Oid session_user;
	uint64 generation; /* of the registry, when it was read */
	bool is_bound;
	bool has_own_catalog;
	pg_uuid_t tenant;
	bool is_usable; /* checked by login_require_usable() */
	bool is_suspended;
	bool is_orphan; /* was bound when the session began, and is so no more */
	bool is_plain;  /* known, and neither bound nor an orphan */
} LoginState;

extern LoginState login_state; /* of login.c alone */
extern void login_resolve(void);

static inline const pg_uuid_t *
login_tenant(void)
{
	if (unlikely(!login_state.is_known || login_state.session_user != GetSessionUserId() ||
				 login_state.generation != registry_known_generation))
		login_resolve();
	return unlikely(login_state.is_known && login_state.is_bound) ? &login_state.tenant : NULL;
}

/* Is the session's login bound to no tenant, now and when the session began? */
static inline bool
login_is_plain(void)
{
	if (likely(login_state.is_plain && login_state.generation == registry_known_generation &&
			   login_state.session_user == GetSessionUserId()))
		return true;
	(void) login_tenant();
	return login_state.is_plain;
}

/* Is the role a login that is bound to a tenant, and to which? */
extern bool login_is_bound(const char *role, pg_uuid_t *tenant);

/*
 * When the session begins: a bound login is counted among the sessions of its tenant, or refused
 * (53300), before it has sent a statement.  In a transaction.
 */
extern void login_begin_session(void);

/* Is the tenant of the bound login suspended?  False for any other session. */
extern bool login_is_suspended(void);

/* Does a bound session see only its own tenant's objects in the system catalogs? */
extern bool login_has_own_catalog(void);

/*
 * Before a statement of a bound session: the tenant is active (55000), the login has not
 * got rights since that no tenant may have (42501), and the ceilings are set.  Checked
 * again only when the registry or a role has changed.  Needs a snapshot.
 */
extern void login_require_usable(void);

#pragma GCC visibility pop
