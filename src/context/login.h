/*
 * context/login.h
 *		Logins that belong to one tenant.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

/*
 * The tenant that the login of this session is bound to, or NULL.  It is a function of
 * session_user alone, so that nothing the session does can change it.  Cheap enough for
 * every row.
 */
extern const pg_uuid_t *login_tenant(void);

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
