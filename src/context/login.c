/*
 * context/login.c
 *		Logins that belong to one tenant.
 *
 * An application with a process per tenant, a BI tool or psql does not enter: it works
 * in autocommit, and no hook precedes the resolution of names.  So the login's settings
 * in this database make it the tenant's role with the tenant's search path from its
 * start, and the tenant is a function of session_user.  A session that resets its role is
 * a login that may do nothing, and is still that tenant.
 *
 * The row of tenancy.tenant_login is read by its index in a catalog snapshot: the first
 * statement may be SET TRANSACTION, before which no snapshot may be taken.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/ceiling.h"
#include "context/context.h"
#include "context/entry.h"
#include "context/login.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/hot.h"
#include "core/id.h"
#include "core/settings.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Columns of tenancy.tenant_login. */
enum
{
	LOGIN_ROLE_NAME = 1,
	LOGIN_TENANT_ID = 2,
	LOGIN_OWN_CATALOG = 3
};

GATE_STATEMENT(login_insert,
			   "INSERT INTO tenancy.tenant_login AS l (role_name, tenant_id, own_catalog, bound_at)"
			   " VALUES ($1, $2, $3, $4)"
			   " ON CONFLICT (role_name) DO UPDATE SET own_catalog = excluded.own_catalog"
			   "    WHERE l.tenant_id = excluded.tenant_id"
			   " RETURNING l",
			   NAMEOID, UUIDOID, BOOLOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	login_delete,
	"DELETE FROM tenancy.tenant_login AS l WHERE l.role_name = $1 RETURNING l, l.tenant_id",
	NAMEOID);
GATE_STATEMENT(other_memberships,
			   "SELECT pg_catalog.pg_get_userbyid(m.roleid) FROM pg_catalog.pg_auth_members m"
			   " WHERE m.member = $1 AND m.roleid <> $2 LIMIT 1",
			   OIDOID, OIDOID);

LoginState login_state HOT_DATA;

/* The row of a login, in a catalog snapshot; false where it is bound to none. */
static bool
find_login(const char *name, pg_uuid_t *tenant, bool *has_own_catalog)
{
	Oid table = extension_relation("tenant_login");
	Oid index = extension_relation("tenant_login_pkey");
	Relation relation;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	NameData role_name;
	bool is_bound;

	/* The extension is being created or dropped. */
	if (!OidIsValid(table) || !OidIsValid(index))
		return false;
	namestrcpy(&role_name, name);
	relation = table_open(table, AccessShareLock);
	ScanKeyInit(&key, LOGIN_ROLE_NAME, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&role_name));
	scan = systable_beginscan(relation, index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	is_bound = HeapTupleIsValid(tuple);
	if (is_bound)
	{
		bool is_null;

		*tenant = *DatumGetUUIDP(
			heap_getattr(tuple, LOGIN_TENANT_ID, RelationGetDescr(relation), &is_null));
		*has_own_catalog = DatumGetBool(
			heap_getattr(tuple, LOGIN_OWN_CATALOG, RelationGetDescr(relation), &is_null));
	}
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return is_bound;
}

bool
login_is_bound(const char *role, pg_uuid_t *tenant)
{
	bool has_own_catalog;

	return find_login(role, tenant, &has_own_catalog);
}

static void
read_login(const char *name)
{
	login_state.is_bound = find_login(name, &login_state.tenant, &login_state.has_own_catalog);
}

void
login_resolve(void)
{
	uint64 generation = registry_generation();
	Oid session_user = GetSessionUserId();
	char *name;

	if (login_state.is_resolving || !IsTransactionState() || IsParallelWorker() ||
		!extension_is_ready())
		return;
	login_state.is_resolving = true;
	PG_TRY();
	{
		bool was_bound = login_state.is_known && login_state.is_bound;
		Oid previous_user = login_state.session_user;
		pg_uuid_t previous_tenant = login_state.tenant;

		login_state.session_user = session_user;
		name = GetUserNameFromId(session_user, true);
		login_state.is_bound = false;
		if (name != NULL)
			read_login(name);
		/* The session still has the role that it began with. */
		if (session_user != previous_user)
			login_state.is_orphan = false;
		else if (was_bound &&
				 !(login_state.is_bound && id_equal(&previous_tenant, &login_state.tenant)))
			login_state.is_orphan = true;
		login_state.generation = generation;
		login_state.is_usable = false;
		login_state.is_known = true;
		login_state.is_plain = !login_state.is_bound && !login_state.is_orphan;
		context_publish_login(login_state.is_bound ? &login_state.tenant : NULL);
	}
	PG_FINALLY();
	{
		login_state.is_resolving = false;
	}
	PG_END_TRY();
}

bool
login_has_own_catalog(void)
{
	return login_tenant() != NULL && login_state.has_own_catalog;
}

static void
require_no_other_membership(Oid role, Oid tenant_role)
{
	GateRows *rows =
		gate_run(&other_memberships, EXPECT_AT_MOST_ONE, gate_oid(role), gate_oid(tenant_role));

	if (rows->count > 0)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" has rights that no tenant may have",
					   GetUserNameFromId(role, false)),
				errdetail("It is a member of role \"%s\".", row_text(rows, 0, 0)),
				errhint("A bound login may be a member of its tenant's role only."));
}

bool
login_is_suspended(void)
{
	return login_tenant() != NULL && login_state.is_suspended;
}

/*
 * What it may do is asked before each statement; whether there is room for it is asked here,
 * so that sessions that send nothing are counted, too.
 */
void
login_begin_session(void)
{
	if (!extension_is_ready() || login_tenant() == NULL)
		return;
	login_state.is_resolving = true;
	PG_TRY();
	{
		context_admit(&login_state.tenant);
	}
	PG_FINALLY();
	{
		login_state.is_resolving = false;
	}
	PG_END_TRY();
}

static bool
suspended_may_delete(void)
{
	return setting_suspended_access == SUSPENDED_DELETES;
}

pg_attribute_hot void
login_require_usable(void)
{
	const pg_uuid_t *bound = login_tenant();
	TenantEntry *tenant;
	Oid role;

	if (unlikely(login_state.is_orphan))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("this login is not bound to its tenant any more"),
				errhint("Connect again."));
	if (bound == NULL || login_state.is_resolving || IsParallelWorker())
		return;
	if (likely(login_state.is_usable && (!login_state.is_suspended || suspended_may_delete())))
		return;
	/* What is asked below passes through the hooks that called. */
	login_state.is_resolving = true;
	PG_TRY();
	{
		tenant = registry_get(&login_state.tenant);
		role = entry_require_enterable(tenant);
		entry_require_plain_role(login_state.session_user,
								 GetUserNameFromId(login_state.session_user, false));
		require_no_other_membership(login_state.session_user, role);
		context_admit(&tenant->id);
		login_state.is_suspended = strcmp(tenant->state, "active") != 0;
		ceiling_set_for_session(tenant);
		(void) set_config_option("tenancy.current_tenant", id_text(&tenant->id), PGC_INTERNAL,
								 PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
		login_state.is_usable = true;
	}
	PG_FINALLY();
	{
		login_state.is_resolving = false;
	}
	PG_END_TRY();
}

static void
require_may_bind(Oid role, const char *name, const TenantEntry *tenant, Oid tenant_role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool can_login;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role %u does not exist", role));
	can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (!can_login || role == tenant_role)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("role \"%s\" is not a login of its own", name),
				errhint("CREATE ROLE … LOGIN makes one."));
	if (role == GetSessionUserId())
		ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("cannot bind the login of this session"));
	entry_require_plain_role(role, name);
	require_no_other_membership(role, tenant_role);
}

/* tenant_login_bind(role regrole, tenant regtenant, own_catalog boolean) → tenancy.tenant_login */
TENANCY_FUNCTION(tenant_login_bind)
{
	Oid role;
	const char *name;
	const char *quoted;
	TenantEntry *tenant;
	Oid tenant_role;
	GateRows *rows;

	require_argument(fcinfo, 0, "role");
	require_argument(fcinfo, 2, "own_catalog");
	context_require_none("binding a login");
	role = PG_GETARG_OID(0);
	tenant = registry_get(required_uuid(fcinfo, 1, "tenant"));
	tenant_role = entry_require_enterable(tenant);
	name = GetUserNameFromId(role, true);
	if (name == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role %u does not exist", role));
	rows = gate_run(&login_insert, EXPECT_AT_MOST_ONE, gate_name(name), gate_uuid(&tenant->id),
					gate_bool(PG_GETARG_BOOL(2)), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("role \"%s\" is bound to another tenant", name),
				errhint("Unbind it first, by tenant_login_unbind()."));
	require_may_bind(role, name, tenant, tenant_role);

	quoted = quote_identifier(name);
	gate_run_as_superuser(psprintf("ALTER ROLE %s NOINHERIT", quoted));
	gate_run_as_superuser(psprintf("GRANT %s TO %s", quote_identifier(tenant->role), quoted));
	gate_set_role_setting(role, "role", quote_identifier(tenant->role));
	gate_set_role_setting(role, "search_path", entry_search_path(tenant));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* tenant_login_unbind(role regrole) → tenancy.tenant_login */
TENANCY_FUNCTION(tenant_login_unbind)
{
	const char *name;
	const char *quoted;
	GateRows *rows;
	TenantEntry *tenant;

	require_argument(fcinfo, 0, "role");
	context_require_none("unbinding a login");
	name = GetUserNameFromId(PG_GETARG_OID(0), true);
	if (name == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("role %u does not exist", PG_GETARG_OID(0)));
	rows = gate_run(&login_delete, EXPECT_AT_MOST_ONE, gate_name(name));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("role \"%s\" is not bound to a tenant", name));
	quoted = quote_identifier(name);
	tenant = registry_get(row_uuid(rows, 0, 1));
	gate_set_role_setting(PG_GETARG_OID(0), "role", NULL);
	gate_set_role_setting(PG_GETARG_OID(0), "search_path", NULL);
	if (OidIsValid(get_role_oid(tenant->role, true)))
		gate_run_as_superuser(
			psprintf("REVOKE %s FROM %s", quote_identifier(tenant->role), quoted));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
