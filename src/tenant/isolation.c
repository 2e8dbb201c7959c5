/*
 * tenant/isolation.c
 *		Does the database still keep tenants apart?  Looking, and repairing.
 *
 * The checks are a table: what must hold, how to find where it does not, and what to do there.
 * isolation_lint() prints it as TAP for a test run; isolation_enforce() repairs what can be
 * repaired without taking anything from anybody who should have it, and names the rest.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/function.h"
#include "core/id.h"
#include "tenant/isolation.h"
#include "tenant/isolation_queries.h"
#include "tenant/shared_table.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

/* Columns of a fault. */
enum
{
	FAULT_TENANT,
	FAULT_OBJECT,
	FAULT_FINDING,
	FAULT_REPAIR,
	FAULT_RUN_AS,
	FAULT_RELATION
};

GATE_STATEMENT(lint_roles_exist, QUERY_ROLES_EXIST, UUIDOID);
GATE_STATEMENT(lint_role_attributes, QUERY_ROLE_ATTRIBUTES, UUIDOID);
GATE_STATEMENT(lint_role_memberships, QUERY_ROLE_MEMBERSHIPS, UUIDOID);
GATE_STATEMENT(lint_role_members, QUERY_ROLE_MEMBERS, UUIDOID);
GATE_STATEMENT(lint_bound_logins, QUERY_BOUND_LOGINS, UUIDOID);
GATE_STATEMENT(lint_schemas_exist, QUERY_SCHEMAS_EXIST, UUIDOID);
GATE_STATEMENT(lint_owners, QUERY_OWNERS, UUIDOID);
GATE_STATEMENT(lint_grants, QUERY_GRANTS, UUIDOID);
GATE_STATEMENT(lint_backup, QUERY_BACKUP_ROW_SECURITY, UUIDOID);
GATE_STATEMENT(lint_shared_tables, QUERY_SHARED_TABLES, UUIDOID);
GATE_STATEMENT(lint_shared_children, QUERY_SHARED_CHILDREN, UUIDOID);
GATE_STATEMENT(lint_shared_keys, QUERY_SHARED_KEYS, UUIDOID);
GATE_STATEMENT(lint_shared_references, QUERY_SHARED_REFERENCES, UUIDOID);
GATE_STATEMENT(lint_shared_views, QUERY_SHARED_VIEWS, UUIDOID);
GATE_STATEMENT(lint_unregistered, QUERY_UNREGISTERED, UUIDOID);
GATE_STATEMENT(lint_inert_policies, QUERY_INERT_POLICIES, UUIDOID);
GATE_STATEMENT(lint_pool_logins, QUERY_POOL_LOGINS, UUIDOID);
GATE_STATEMENT(lint_pool_owners, QUERY_POOL_OWNERS, UUIDOID);
GATE_STATEMENT(lint_security_definer, QUERY_SECURITY_DEFINER, UUIDOID);
GATE_STATEMENT(lint_open_schemas, QUERY_OPEN_SCHEMAS, UUIDOID);
GATE_STATEMENT(lint_own_schema, QUERY_OWN_SCHEMA, UUIDOID);
GATE_STATEMENT(lint_default_grants, QUERY_DEFAULT_GRANTS, UUIDOID);
GATE_STATEMENT(lint_drifted_grants, QUERY_DRIFTED_GRANTS, UUIDOID);
GATE_STATEMENT(lint_foreign_servers, QUERY_FOREIGN_SERVERS, UUIDOID);
GATE_STATEMENT(lint_server_version, QUERY_SERVER_VERSION, UUIDOID);

typedef struct Check
{
	const char *name; /* what holds */
	GateStatement *faults;
	const char *cure; /* where nothing but an operator can */
} Check;

static const Check checks[] = {
	{"tenants have their roles", &lint_roles_exist,
	 "restore them: pg_dumpall --globals-only on the old cluster"},
	{"roles of tenants have no attributes", &lint_role_attributes, NULL},
	{"roles of tenants are members of tenancy_tenant only", &lint_role_memberships, NULL},
	{"only bound logins are members of a tenant's role", &lint_role_members, NULL},
	{"bound logins can be nothing but their tenant", &lint_bound_logins,
	 "take it away, then tenant_login_bind() again"},
	{"tenants have their schemas", &lint_schemas_exist, "restore it from a backup"},
	{"what is in a tenant's schemas is its owner's", &lint_owners, "ALTER … OWNER TO the owner"},
	{"strangers have no rights in a tenant's schemas", &lint_grants, NULL},
	{"tables with a tenant_id in a tenant's schemas have row security too", &lint_backup, NULL},
	{"shared tables are as they were registered", &lint_shared_tables, NULL},
	{"partitions of shared tables are registered", &lint_shared_children, NULL},
	{"keys of shared tables contain the tenant", &lint_shared_keys,
	 "make it again with tenant_id first"},
	{"foreign keys between shared tables contain the tenant", &lint_shared_references,
	 "make it again with tenant_id on both sides"},
	{"views read shared tables as who calls them", &lint_shared_views,
	 "ALTER VIEW … SET (security_invoker = true); a table instead of a materialized view"},
	{"tables with a tenant_id are registered", &lint_unregistered, "tenant_table_register()"},
	{"policies are in force", &lint_inert_policies, "ALTER TABLE … ENABLE ROW LEVEL SECURITY"},
	{"logins of pools have no rights beside tenancy_app", &lint_pool_logins,
	 "ALTER ROLE … NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION; REVOKE"},
	{"logins of pools do not own tables of tenants", &lint_pool_owners,
	 "ALTER TABLE … OWNER TO a role without login"},
	{"SECURITY DEFINER functions pin their search_path", &lint_security_definer,
	 "ALTER FUNCTION … SET search_path = pg_catalog, …, pg_temp"},
	{"not everybody may create in schemas and the database", &lint_open_schemas,
	 "REVOKE CREATE ON … FROM PUBLIC"},
	{"superusers alone may create in the schema of pg_tenancy", &lint_own_schema,
	 "REVOKE CREATE ON SCHEMA … FROM it; ALTER SCHEMA or DATABASE … OWNER TO a superuser"},
	{"new tables are not open to everybody", &lint_default_grants,
	 "ALTER DEFAULT PRIVILEGES … REVOKE … FROM PUBLIC"},
	{"rights on pg_tenancy are as installed", &lint_drifted_grants, "REVOKE them"},
	{"tenants reach no foreign server", &lint_foreign_servers, "REVOKE USAGE ON FOREIGN SERVER"},
	{"the server has no known way around row security", &lint_server_version,
	 "upgrade to the latest minor release"},
};

static void
put_line(ReturnSetInfo *result, const char *line)
{
	Datum value = CStringGetTextDatum(line);
	bool is_null = false;

	tuplestore_putvalues(result->setResult, result->setDesc, &value, &is_null);
}

static bool
has_repair(const GateRows *faults, int64 i)
{
	return !row_is_null(faults, i, FAULT_REPAIR) ||
		   OidIsValid(DatumGetObjectId(row_datum(faults, i, FAULT_RELATION)));
}

/* isolation_lint() → SETOF text */
TENANCY_FUNCTION(isolation_lint)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	context_require_none("looking at all tenants");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int n = 0; n < lengthof(checks); n++)
	{
		const Check *check = &checks[n];
		GateRows *faults;

		CHECK_FOR_INTERRUPTS();
		faults = gate_run(check->faults, EXPECT_ANY, gate_uuid(NULL));
		put_line(result,
				 psprintf("%s %d - %s", faults->count == 0 ? "ok" : "not ok", n + 1, check->name));
		for (int64 i = 0; i < faults->count; i++)
			put_line(result, psprintf("# %s: %s; %s", row_text(faults, i, FAULT_OBJECT),
									  row_text(faults, i, FAULT_FINDING),
									  has_repair(faults, i) ? "isolation_enforce() repairs it"
															: check->cure));
	}
	put_line(result, psprintf("1..%d", (int) lengthof(checks)));
	return (Datum) 0;
}

typedef struct Repair
{
	const char *sql;
	Oid run_as;
	Oid relation;
} Repair;

static void
do_repair(void *argument)
{
	const Repair *repair = argument;
	GateScope scope;

	if (OidIsValid(repair->relation))
	{
		if (get_rel_relkind(repair->relation) == '\0')
			shared_table_forget(repair->relation);
		else
			shared_table_adopt(repair->relation);
	}
	else if (OidIsValid(repair->run_as))
	{
		int level = NewGUCNestLevel();

		/* That a policy to be dropped was not there is of no use to the caller. */
		(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		gate_enter(&scope, repair->run_as, "pg_catalog");
		gate_run_text(repair->sql);
		gate_leave(&scope);
		AtEOXact_GUC(true, level);
	}
	else
		gate_run_as_superuser(repair->sql);
}

static const char *
describe(const Repair *repair)
{
	if (!OidIsValid(repair->relation))
		return repair->sql;
	return get_rel_relkind(repair->relation) == '\0' ? "taken off the registry"
													 : "tenant_table_register()";
}

static const char *
enforce(const Check *check, const GateRows *faults, int64 i, bool is_dry_run)
{
	Repair repair = {
		.sql = row_text(faults, i, FAULT_REPAIR),
		.run_as = DatumGetObjectId(row_datum(faults, i, FAULT_RUN_AS)),
		.relation = DatumGetObjectId(row_datum(faults, i, FAULT_RELATION)),
	};
	const char *what;
	ErrorData *error;

	if (!has_repair(faults, i))
		return psprintf("left: %s", check->cure);
	what = describe(&repair);
	if (is_dry_run)
		return psprintf("would be repaired: %s", what);
	error = attempt("isolation repair", do_repair, &repair);
	if (error == NULL)
		return psprintf("repaired: %s", what);
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	return psprintf("failed: %s: %s", what, error->message);
}

/* isolation_enforce(tenant regtenant, dry_run boolean) → TABLE(object, finding, action) */
TENANCY_FUNCTION(isolation_enforce)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	pg_uuid_t *tenant = optional_uuid(fcinfo, 0);

	require_argument(fcinfo, 1, "dry_run");
	context_require_none("repairing isolation");
	if (tenant != NULL)
		(void) registry_get(tenant);
	InitMaterializedSRF(fcinfo, 0);
	for (int n = 0; n < lengthof(checks); n++)
	{
		GateRows *faults = gate_run(checks[n].faults, EXPECT_ANY, gate_uuid(tenant));

		CHECK_FOR_INTERRUPTS();
		for (int64 i = 0; i < faults->count; i++)
		{
			bool nulls[3] = {false};
			Datum values[3] = {
				CStringGetTextDatum(row_text(faults, i, FAULT_OBJECT)),
				CStringGetTextDatum(row_text(faults, i, FAULT_FINDING)),
				CStringGetTextDatum(enforce(&checks[n], faults, i, PG_GETARG_BOOL(1))),
			};

			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

void
isolation_back_up(const pg_uuid_t *tenant)
{
	GateRows *faults = gate_run(&lint_backup, EXPECT_ANY, gate_uuid(tenant));

	for (int64 i = 0; i < faults->count; i++)
	{
		Repair repair = {
			.sql = row_text(faults, i, FAULT_REPAIR),
			.run_as = DatumGetObjectId(row_datum(faults, i, FAULT_RUN_AS)),
		};

		do_repair(&repair);
	}
}
