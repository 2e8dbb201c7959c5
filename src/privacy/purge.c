/*
 * privacy/purge.c
 *		Removing a tenant for good: tenant_purge(), and the rollback of an onboarding.
 *
 * Each step finds what is left to remove, so a purge that was cut off goes on wherever it was: at
 * once, in the caller's transaction, or by jobs that work for STEP_US each.  Rows of shared tables
 * go first, then the tables and schemas, the logins, the records of the extension, the roles; the
 * state and the certificate come last.  A row of the tenant stays, with nothing in it but its id,
 * for the documents that refer to it.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/relation.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "job/kind.h"
#include "job/outbox.h"
#include "job/queue.h"
#include "meter/meter.h"
#include "privacy/hold.h"
#include "privacy/purge.h"
#include "tenant/tenant.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define PURGE_KIND "tenant.purge"
#define STEP_US INT64CONST(200000)
#define TABLES_AT_ONCE 20
#define LOOK_AGAIN_US (5 * USECS_PER_SEC)

GATE_STATEMENT(purge_facts,
			   "SELECT t.state, d.purge_after FROM tenancy.tenant t"
			   "  LEFT JOIN tenancy.tenant_deletion d ON d.tenant_id = t.id"
			   " WHERE t.id = $1 FOR UPDATE OF t",
			   UUIDOID);
/* First, as a billing run does, which then refers to the tenant. */
GATE_STATEMENT(purge_lock_subscriptions,
			   "SELECT FROM tenancy.subscription s WHERE s.tenant_id = $1 ORDER BY s.id FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(purge_certificate,
			   "SELECT c FROM tenancy.deletion_certificate c WHERE c.tenant_id = $1", UUIDOID);
/* Shared tables, those that refer to others first. */
GATE_STATEMENT(purge_shared,
			   "WITH RECURSIVE own AS (SELECT c.oid FROM tenancy.tenant_table t"
			   "    JOIN pg_catalog.pg_class c ON c.oid = t.relation AND NOT c.relispartition),"
			   " walk AS (SELECT o.oid, o.oid AS at, 0 AS depth, ARRAY[o.oid] AS path FROM own o"
			   "    UNION ALL SELECT w.oid, k.confrelid, w.depth + 1, w.path || k.confrelid"
			   "      FROM walk w JOIN pg_catalog.pg_constraint k ON k.contype = 'f'"
			   "       AND k.conrelid = w.at AND k.confrelid <> ALL (w.path))"
			   " SELECT w.oid FROM walk w GROUP BY w.oid ORDER BY pg_catalog.max(w.depth) DESC, w.oid");
GATE_STATEMENT(purge_schemas,
			   "SELECT n.oid, n.nspname FROM tenancy.tenant_schema s"
			   "  JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
			   " WHERE s.tenant_id = $1 ORDER BY n.nspname",
			   UUIDOID);
GATE_STATEMENT(purge_schema_tables,
			   "SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid)"
			   "  FROM pg_catalog.pg_class c"
			   " WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p', 'm')"
			   "   AND NOT c.relispartition ORDER BY c.oid LIMIT $2",
			   OIDOID, INT4OID);
/* Views and foreign keys of others that a CASCADE would take along. */
GATE_STATEMENT(purge_strangers,
			   "SELECT pg_catalog.pg_describe_object(d.classid, d.objid, 0)"
			   "  FROM tenancy.tenant_schema s"
			   "  JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name"
			   "  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
			   "  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
			   "   AND d.refobjid = c.oid AND d.deptype = 'n'"
			   "  LEFT JOIN pg_catalog.pg_rewrite w"
			   "    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND w.oid = d.objid"
			   "  LEFT JOIN pg_catalog.pg_constraint k"
			   "    ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid"
			   "  JOIN pg_catalog.pg_class o ON o.oid = coalesce(w.ev_class, k.conrelid)"
			   "  JOIN pg_catalog.pg_namespace m ON m.oid = o.relnamespace"
			   " WHERE s.tenant_id = $1 AND NOT EXISTS (SELECT FROM tenancy.tenant_schema x"
			   "        WHERE x.tenant_id = $1 AND x.schema_name = m.nspname) LIMIT 1",
			   UUIDOID);
GATE_STATEMENT(purge_schema_forget, "DELETE FROM tenancy.tenant_schema s WHERE s.schema_name = $1",
			   NAMEOID);
GATE_STATEMENT(purge_logins,
			   "SELECT l.role_name FROM tenancy.tenant_login l WHERE l.tenant_id = $1"
			   " ORDER BY l.role_name",
			   UUIDOID);
GATE_STATEMENT(purge_login_forget, "DELETE FROM tenancy.tenant_login l WHERE l.role_name = $1",
			   NAMEOID);
GATE_STATEMENT(purge_released_holds,
			   "SELECT h.id, h.case_id, h.released_at::pg_catalog.text FROM tenancy.legal_hold h"
			   " WHERE h.tenant_id = $1 AND h.released_at IS NOT NULL ORDER BY h.id",
			   UUIDOID);
GATE_STATEMENT(purge_empty_row,
			   "UPDATE tenancy.tenant SET slug = $2, name = 'purged', plan = NULL,"
			   "       isolation = 'pool', template = NULL, schema_name = NULL,"
			   "       role_name = $2, owner_name = $2, owns_ddl = false, configuration = '{}',"
			   "       metadata = '{}', state_reason = NULL, updated_at = $3"
			   " WHERE id = $1",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(purge_deletion, "DELETE FROM tenancy.tenant_deletion d WHERE d.tenant_id = $1",
			   UUIDOID);
GATE_STATEMENT(purge_tenant_row, "DELETE FROM tenancy.tenant t WHERE t.id = $1", UUIDOID);
GATE_STATEMENT(purge_workflows,
			   "UPDATE tenancy.workflow w SET tenant_id = NULL WHERE w.tenant_id = $1", UUIDOID);

static PurgeClearer clear_outside = NULL;

void
purge_set_clearer(PurgeClearer clearer)
{
	clear_outside = clearer;
}

static bool
purge_shared_rows(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_shared, EXPECT_ANY);

	for (int64 i = 0; i < rows->count; i++)
	{
		Oid relid = DatumGetObjectId(row_datum(rows, i, 0));
		int64 count;
		bool is_done = purge_rows(purge, relid, relation_owner(relid),
								  "x.tenant_id OPERATOR(pg_catalog.=) ANY ($1)", &count);

		if (count > 0)
			certificate_note(purge, "rows", relation_sql_name(relid), count, -1);
		if (!is_done)
			return false;
	}
	return true;
}

static void
refuse_strangers(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_strangers, EXPECT_AT_MOST_ONE, gate_uuid(&purge->tenant->id));

	if (rows->count > 0)
		ereport(ERROR, errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("cannot purge tenant \"%s\" because other objects depend on its tables",
					   purge->tenant->slug),
				errdetail("One is %s.", row_text(rows, 0, 0)), errhint("Drop it first."));
}

static void
run_as(Oid role, const char *sql)
{
	GateScope scope;

	gate_enter_all_rows(&scope, role, "pg_catalog");
	gate_run_text("SET LOCAL client_min_messages = warning");
	gate_run_text(sql);
	gate_leave(&scope);
}

static int64
count_rows(Oid relid)
{
	GateScope scope;
	GateRows *rows;

	gate_enter_all_rows(&scope, relation_owner(relid), "pg_catalog");
	rows = gate_query_text(psprintf("SELECT count(*) FROM %s", relation_sql_name(relid)), 0, NULL,
						   NULL);
	gate_leave(&scope);
	return row_int64(rows, 0, 0);
}

/* What is owned by somebody else goes with the schema. */
static void
drop_tables(const Purge *purge, const GateRows *rows, Oid owner)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int64 i = 0; i < rows->count; i++)
	{
		Oid relid = DatumGetObjectId(row_datum(rows, i, 0));
		char *name = relation_sql_name(relid);

		certificate_note(purge, "table", name, count_rows(relid), row_int64(rows, i, 1));
		if (relation_owner(relid) == owner && get_rel_relkind(relid) != RELKIND_MATVIEW)
			appendStringInfo(&names, "%s%s", names.len == 0 ? "" : ", ", name);
	}
	if (names.len > 0)
		run_as(owner, psprintf("DROP TABLE %s CASCADE", names.data));
}

static bool
purge_schema_of(const Purge *purge, Oid schema, const char *name, Oid owner)
{
	GateRows *rows;
	int64 previous = -1;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (purge_is_time_up(purge))
			return false;
		rows = gate_run(&purge_schema_tables, EXPECT_ANY, gate_oid(schema),
						gate_int32(TABLES_AT_ONCE));
		/* What the owner cannot drop alone would be found again and again. */
		if (rows->count > 0 && (int64) DatumGetObjectId(row_datum(rows, 0, 0)) == previous)
			break;
		previous = rows->count > 0 ? (int64) DatumGetObjectId(row_datum(rows, 0, 0)) : -1;
		drop_tables(purge, rows, owner);
	} while (rows->count > 0);
	run_as(owner, psprintf("DROP SCHEMA %s CASCADE", quote_identifier(name)));
	gate_run(&purge_schema_forget, EXPECT_ANY, gate_name(name));
	certificate_note(purge, "schema", name, -1, -1);
	return true;
}

static bool
purge_all_schemas(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_schemas, EXPECT_ANY, gate_uuid(&purge->tenant->id));

	refuse_strangers(purge);
	for (int64 i = 0; i < rows->count; i++)
	{
		Oid owner = get_role_oid(purge->tenant->owner, false);

		if (!purge_schema_of(purge, DatumGetObjectId(row_datum(rows, i, 0)), row_text(rows, i, 1),
							 owner))
			return false;
	}
	return true;
}

static void
drop_role(void *argument)
{
	const char *name = quote_identifier(argument);
	Oid role = get_role_oid(argument, false);

	run_as(role, psprintf("DROP OWNED BY %s CASCADE", name));
	gate_run_as_superuser(psprintf("DROP ROLE %s", name));
}

/* Another database may still know the role: then it stays, and may do nothing. */
static void
purge_role(const Purge *purge, const char *kind, char *name)
{
	Oid role = get_role_oid(name, true);
	ErrorData *error;

	if (!OidIsValid(role))
		return;
	if (role == GetSessionUserId())
		ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("cannot drop the login of this session"));
	error = attempt("purge", drop_role, name);
	if (error == NULL)
	{
		certificate_note(purge, kind, name, -1, -1);
		return;
	}
	if (error->sqlerrcode != ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST || purge->certificate == NULL)
		ReThrowError(error);
	gate_run_as_superuser(psprintf("ALTER ROLE %s NOLOGIN", quote_identifier(name)));
	certificate_note_kept(purge, kind, name, -1, error->message);
}

static void
purge_all_logins(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_logins, EXPECT_ANY, gate_uuid(&purge->tenant->id));

	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);

		gate_run(&purge_login_forget, EXPECT_ONE, gate_name(name));
		purge_role(purge, "login", name);
	}
}

static void
note_holds(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_released_holds, EXPECT_ANY, gate_uuid(&purge->tenant->id));

	for (int64 i = 0; i < rows->count; i++)
		certificate_note(purge, "hold",
						 psprintf("%s of case %s, released %s", id_text(row_uuid(rows, i, 0)),
								  row_text(rows, i, 1), row_text(rows, i, 2)),
						 -1, -1);
}

/* Everything but the tenant's own row.  False: the time is up. */
static bool
remove_all(const Purge *purge)
{
	if (!purge_shared_rows(purge) || !purge_all_schemas(purge))
		return false;
	purge_all_logins(purge);
	/* What was counted and not written would be written later. */
	(void) meter_flush();
	note_holds(purge);
	if (!purge_records(purge))
		return false;
	purge_role(purge, "role", purge->tenant->role);
	if (strcmp(purge->tenant->owner, purge->tenant->role) != 0)
		purge_role(purge, "role", purge->tenant->owner);
	return true;
}

static void
finish(const Purge *purge)
{
	const pg_uuid_t *id = &purge->tenant->id;

	certificate_note_kept(purge, "record", "tenancy.tenant", 1,
						  "an empty row, for the documents that refer to the tenant");
	certificate_finish(purge);
	gate_run(&purge_empty_row, EXPECT_ONE, gate_uuid(id),
			 gate_text(psprintf("purged-%s", id_name('p', id) + 2)),
			 gate_timestamptz(clock_now()));
	gate_run(&purge_deletion, EXPECT_ANY, gate_uuid(id));
	(void) tenant_move(id, "finish", NULL);
}

/* Nothing of the tenant's may be under legal hold, be it for another reason. */
static void
refuse_held(const TenantEntry *tenant)
{
	const Hold *hold = hold_of_tenant(&tenant->id);
	Hold all = {.tenant = unconstify(pg_uuid_t *, &tenant->id)};
	ListCell *cell;

	if (hold != NULL)
		hold_refuse(hold, "tenant", tenant->slug);
	if (!hold_is_any())
		return;
	foreach (cell, hold_relations(&all))
	{
		pg_uuid_t owner;
		List *reaches = registry_relation_scope(lfirst_oid(cell), &owner) == SCOPE_TENANT
							? hold_find(lfirst_oid(cell))
							: NIL;

		if (reaches != NIL)
			hold_refuse(((HoldReach *) linitial(reaches))->hold, "table",
						get_rel_name(lfirst_oid(cell)));
	}
}

static void
refuse_grace(const TenantEntry *tenant, TimestampTz purge_after)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("tenant \"%s\" is in its grace period", tenant->slug),
			errdetail("It can be purged from %s on.", timestamptz_to_str(purge_after)),
			errhint("tenant_undelete() takes the deletion back; force => true purges it now."));
}

/* Check that it may go, and begin: from here on the tenant is "purging". */
static void
begin(Purge *purge, bool force)
{
	const TenantEntry *tenant = purge->tenant;
	GateRows *rows;
	int sessions;

	refuse_held(tenant);
	gate_run(&purge_lock_subscriptions, EXPECT_ANY, gate_uuid(&tenant->id));
	rows = gate_run(&purge_facts, EXPECT_ONE, gate_uuid(&tenant->id));
	if (strcmp(row_text(rows, 0, 0), "purging") != 0)
	{
		if (!force && strcmp(row_text(rows, 0, 0), "deactivated") == 0 && !row_is_null(rows, 0, 1) &&
			row_timestamptz(rows, 0, 1) > clock_now())
			refuse_grace(tenant, row_timestamptz(rows, 0, 1));
		(void) tenant_move(&tenant->id, "purge", NULL);
	}
	sessions = context_count_sessions(&tenant->id);
	if (sessions > 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("tenant \"%s\" is in use", tenant->slug),
				errdetail("%d session(s) are still in it.", sessions),
				errhint("pg_terminate_backend() ends them; new ones cannot enter."));
	refuse_strangers(purge);
	purge->certificate = certificate_begin(&tenant->id);
}

static Datum
certificate_row(const pg_uuid_t *tenant)
{
	return row_datum(gate_run(&purge_certificate, EXPECT_ONE, gate_uuid(tenant)), 0, 0);
}

static void
enqueue_step(const pg_uuid_t *tenant, TimestampTz run_at)
{
	JobRequest request = {
		.kind = PURGE_KIND,
		.priority = JOB_MIDDLE_PRIORITY,
		.run_at = run_at,
	};
	JsonBuilder arguments;

	/* Of no tenant: the jobs of this one go, too. */
	json_begin(&arguments);
	json_put_text(&arguments, "tenant", id_text(tenant));
	request.arguments = json_end(&arguments);
	(void) job_put(&request);
}

/* False: what is outside is being removed, and a job goes on afterwards. */
static bool
begin_outside(const Purge *purge)
{
	if (clear_outside == NULL || clear_outside(purge))
		return true;
	enqueue_step(&purge->tenant->id, clock_wall() + LOOK_AGAIN_US);
	return false;
}

typedef struct Rehearsal
{
	Purge purge;
	bool force;
	bool is_dry; /* what is outside stays out of it */
	Datum certificate;
} Rehearsal;

static void
purge_at_once(void *argument)
{
	Rehearsal *rehearsal = argument;

	begin(&rehearsal->purge, rehearsal->force);
	if (rehearsal->is_dry || begin_outside(&rehearsal->purge))
	{
		(void) remove_all(&rehearsal->purge);
		finish(&rehearsal->purge);
	}
	rehearsal->certificate = certificate_row(&rehearsal->purge.tenant->id);
}

/* tenant_purge(tenant regtenant, force boolean, dry_run boolean) → tenancy.deletion_certificate */
TENANCY_FUNCTION(tenant_purge)
{
	Rehearsal rehearsal = {0};

	context_require_none("purging a tenant");
	require_argument(fcinfo, 1, "force");
	require_argument(fcinfo, 2, "dry_run");
	rehearsal.purge.tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	rehearsal.force = PG_GETARG_BOOL(1);
	rehearsal.is_dry = PG_GETARG_BOOL(2);
	if (rehearsal.is_dry)
	{
		ErrorData *error = rehearse("tenant_purge", purge_at_once, &rehearsal);

		if (error != NULL)
			ReThrowError(error);
	}
	else
		purge_at_once(&rehearsal);
	PG_RETURN_DATUM(rehearsal.certificate);
}

/* tenant_purge_start(tenant regtenant, force boolean) → tenancy.deletion_certificate */
TENANCY_FUNCTION(tenant_purge_start)
{
	Purge purge = {0};

	context_require_none("purging a tenant");
	require_argument(fcinfo, 1, "force");
	purge.tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	begin(&purge, PG_GETARG_BOOL(1));
	if (begin_outside(&purge))
		enqueue_step(&purge.tenant->id, 0);
	PG_RETURN_DATUM(certificate_row(&purge.tenant->id));
}

static Jsonb *
perform_step(const JobTask *task)
{
	pg_uuid_t *id = id_parse(json_text(task->arguments, "tenant"));
	Purge purge = {.tenant = registry_get_latest(id)};

	if (strcmp(purge.tenant->state, "purging") != 0)
		return NULL;
	begin(&purge, false);
	if (!begin_outside(&purge))
		return NULL;
	purge.until = GetCurrentTimestamp() + STEP_US;
	if (remove_all(&purge))
		finish(&purge);
	else
		enqueue_step(id, 0);
	return NULL;
}

/*
 * What an onboarding has made is undone: nothing stays, not even the tenant's row.  Where something
 * was booked or issued meanwhile, it is a purge like any other.
 */
static void
erase(const pg_uuid_t *id, const char *reason)
{
	Rehearsal rehearsal = {.purge = {.tenant = registry_get(id)}, .force = true};
	JsonBuilder payload;

	refuse_held(rehearsal.purge.tenant);
	/* The history of the workflow is the workflow's. */
	gate_run(&purge_workflows, EXPECT_ANY, gate_uuid(id));
	if (purge_has_documents(id))
	{
		(void) tenant_move(id, "delete", reason);
		purge_at_once(&rehearsal);
		return;
	}
	refuse_strangers(&rehearsal.purge);
	(void) remove_all(&rehearsal.purge);
	gate_run(&purge_tenant_row, EXPECT_ONE, gate_uuid(id));
	json_begin(&payload);
	json_put_text(&payload, "slug", rehearsal.purge.tenant->slug);
	json_put_text(&payload, "tenant_id", id_text(id));
	json_put_text(&payload, "state", "purged");
	json_put_text(&payload, "cause", "rollback");
	json_put_text(&payload, "reason", reason);
	(void) outbox_put(NULL, "tenant.deprovision", json_end(&payload));
}

static const JobKind purge_kind = {
	.name = PURGE_KIND,
	.perform = perform_step,
	.timeout_seconds = 30 * SECS_PER_MINUTE,
	.description = "purges a tenant, and goes on in the next job",
};

void
purge_init(void)
{
	job_kind_register(&purge_kind);
	tenant_set_eraser(erase);
}
