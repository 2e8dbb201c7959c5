/*
 * tenant/tenant.c
 *		Tenants: making one, naming it, and moving it through its life.
 *
 * A tenant is made in the caller's transaction: a failure leaves no row, no schema
 * and no role behind.  The row comes first, so that two sessions that ask for one
 * slug meet at its unique index and not half way through the DDL.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/state.h"
#include "job/outbox.h"
#include "tenant/configuration.h"
#include "tenant/isolation.h"
#include "tenant/template.h"
#include "tenant/tenant.h"

#include "utils/builtins.h"

GATE_STATEMENT(
	tenant_insert,
	"INSERT INTO tenancy.tenant (id, slug, name, plan, isolation, state, template,"
	"    schema_name, role_name, owner_name, owns_ddl, configuration, metadata,"
	"    created_at, updated_at)"
	" VALUES ($1, $2, $3, $4, $5, 'provisioning', $6, $7, $8, $9, $10,"
	"    coalesce($11, '{}'), coalesce($12, '{}'), $13, $13)"
	" ON CONFLICT DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, NAMEOID, NAMEOID, BOOLOID,
	 JSONBOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(tenant_schema_insert,
			   "INSERT INTO tenancy.tenant_schema AS s (tenant_id, schema_name, label, created_at)"
			   " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING s",
			   UUIDOID, NAMEOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(tenant_set_state,
			   "UPDATE tenancy.tenant SET state = $3, state_reason = $4, updated_at = $5"
			   " WHERE id = $1 AND state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(tenant_state_for_update,
			   "SELECT t.state, t.slug FROM tenancy.tenant t WHERE t.id = $1 FOR UPDATE", UUIDOID);
GATE_STATEMENT(tenant_set_name,
			   "UPDATE tenancy.tenant SET slug = coalesce($2, slug), name = coalesce($3, name),"
			   "       updated_at = $4"
			   " WHERE id = $1"
			   "   AND NOT EXISTS (SELECT FROM tenancy.tenant o WHERE o.slug = $2 AND o.id <> $1)",
			   UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(tenant_whole_row, "SELECT t FROM tenancy.tenant t WHERE t.id = $1", UUIDOID);
GATE_STATEMENT(plan_exists, "SELECT FROM tenancy.plan p WHERE p.id = $1", TEXTOID);
GATE_STATEMENT(template_exists, "SELECT FROM tenancy.template t WHERE t.name = $1", TEXTOID);

static const StateMove moves[] = {
	{"pending", "provision", "provisioning"}, {"provisioning", "activate", "active"},
	{"provisioning", "fail", "failed"},       {"failed", "provision", "provisioning"},
	{"failed", "delete", "deactivated"},      {"active", "suspend", "suspended"},
	{"suspended", "resume", "active"},        {"active", "delete", "deactivated"},
	{"suspended", "delete", "deactivated"},   {"deactivated", "undelete", "active"},
	{"deactivated", "purge", "purging"},      {"purging", "finish", "purged"},
};

static StateMachine tenant_states = {
	.name = "tenant",
	.table = "tenancy.tenant",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const EventType event_types[] = {
	{"tenant.activate", 1, "the tenant can be entered: it was created, resumed or undeleted"},
	{"tenant.deactivate", 1, "the tenant can no longer work: it was suspended or deleted"},
	{"tenant.deprovision", 1, "the tenant and its data are gone"},
};

/* The moves that are told of. */
static const struct
{
	const char *move;
	const char *type;
} told_moves[] = {
	{"activate", "tenant.activate"}, {"resume", "tenant.activate"},
	{"undelete", "tenant.activate"}, {"suspend", "tenant.deactivate"},
	{"delete", "tenant.deactivate"}, {"finish", "tenant.deprovision"},
};

/* The template that stands for "no structure" until somebody creates one of that name. */
#define DEFAULT_TEMPLATE "default"

static TenantSubscriber subscribe = NULL;
static TenantClaimer claim_domain = NULL;

void
tenant_set_subscriber(TenantSubscriber subscriber)
{
	subscribe = subscriber;
}

static TenantEraser eraser = NULL;

void
tenant_set_eraser(TenantEraser function)
{
	eraser = function;
}

void
tenant_erase(const pg_uuid_t *tenant, const char *reason)
{
	if (eraser == NULL)
		elog(ERROR, "nothing erases tenants");
	eraser(tenant, reason);
}

void
tenant_set_claimer(TenantClaimer claimer)
{
	claim_domain = claimer;
}

void
tenant_init(void)
{
	state_machine_register(&tenant_states);
	event_types_register(event_types, lengthof(event_types));
}

Datum
tenant_row(const pg_uuid_t *id)
{
	return row_datum(gate_run(&tenant_whole_row, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

static void
tell(const pg_uuid_t *id, const char *slug, const char *move, const char *state, const char *reason)
{
	JsonBuilder payload;

	for (int i = 0; i < lengthof(told_moves); i++)
	{
		if (strcmp(told_moves[i].move, move) != 0)
			continue;
		json_begin(&payload);
		json_put_text(&payload, "slug", slug);
		json_put_text(&payload, "state", state);
		json_put_text(&payload, "cause", move);
		json_put_text(&payload, "reason", reason);
		(void) outbox_put(id, told_moves[i].type, json_end(&payload));
	}
}

const char *
tenant_move(const pg_uuid_t *id, const char *event, const char *reason)
{
	GateRows *rows = gate_run(&tenant_state_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));
	const char *from;
	const char *to;

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(id)));
	from = row_text(rows, 0, 0);
	to = state_after(&tenant_states, from, event, row_text(rows, 0, 1));
	gate_run(&tenant_set_state, EXPECT_ONE, gate_uuid(id), gate_text(from), gate_text(to),
			 gate_text(reason), gate_timestamptz(clock_now()));
	tell(id, row_text(rows, 0, 1), event, to, reason);
	return to;
}

/* What tenant_create() was asked for, checked. */
typedef struct TenantRequest
{
	char *slug;
	char *name;
	char *plan;     /* NULL for none */
	char *template; /* NULL for an empty schema */
	char *domain;   /* NULL for none */
	bool has_schema;
	bool owns_ddl;
	Jsonb *configuration;
	Jsonb *metadata;
	TimestampTz starts_at;
} TenantRequest;

static void
require_known(GateStatement *statement, const char *kind, const char *name)
{
	if (gate_run(statement, EXPECT_AT_MOST_ONE, gate_text(name))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("%s \"%s\" does not exist", kind, name));
}

static bool
read_isolation(const char *isolation)
{
	if (strcmp(isolation, "schema") == 0)
		return true;
	if (strcmp(isolation, "pool") == 0)
		return false;
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid isolation \"%s\"", isolation),
			errhint("Possible: \"schema\" for a schema of its own, \"pool\" for rows in shared "
					"tables."));
}

static void
read_request(FunctionCallInfo fcinfo, TenantRequest *request)
{
	request->slug = required_text(fcinfo, 0, "slug");
	slug_validate(request->slug);
	request->name = PG_ARGISNULL(1) ? request->slug : optional_text(fcinfo, 1);
	if (*request->name == '\0')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the name of a tenant must not be empty"));

	request->plan = optional_text(fcinfo, 2);
	if (request->plan != NULL)
		require_known(&plan_exists, "plan", request->plan);
	request->has_schema = read_isolation(required_text(fcinfo, 3, "isolation"));

	request->template = optional_text(fcinfo, 4);
	if (request->template != NULL &&
		gate_run(&template_exists, EXPECT_AT_MOST_ONE, gate_text(request->template))->count == 0)
	{
		if (strcmp(request->template, DEFAULT_TEMPLATE) != 0)
			require_known(&template_exists, "template", request->template);
		request->template = NULL;
	}
	if (!request->has_schema)
		request->template = NULL;

	request->domain = optional_text(fcinfo, 5);
	request->configuration = optional_jsonb(fcinfo, 6);
	if (request->configuration != NULL)
		configuration_validate(request->configuration);
	request->metadata = optional_jsonb(fcinfo, 7);
	if (request->metadata != NULL && !JB_ROOT_IS_OBJECT(request->metadata))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the metadata of a tenant must be a JSON object"));
	require_argument(fcinfo, 8, "owns_ddl");
	request->owns_ddl = PG_GETARG_BOOL(8);
	request->starts_at = required_timestamptz(fcinfo, 9, "starts_at");
}

/* A schema of the tenant: made for its owner, open to its role, in the registry. */
static Datum
add_schema(const TenantEntry *tenant, const char *schema, const char *label)
{
	GateRows *rows;

	rows = gate_run(&tenant_schema_insert, EXPECT_AT_MOST_ONE, gate_uuid(&tenant->id),
					gate_name(schema), gate_text(label), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_DUPLICATE_SCHEMA),
				errmsg("tenant \"%s\" already has a schema \"%s\"", tenant->slug, label));

	gate_run_as_superuser(psprintf("CREATE SCHEMA %s AUTHORIZATION %s", quote_identifier(schema),
								   quote_identifier(tenant->owner)));
	if (strcmp(tenant->owner, tenant->role) != 0)
		gate_run_as_superuser(psprintf("GRANT USAGE ON SCHEMA %s TO %s", quote_identifier(schema),
									   quote_identifier(tenant->role)));
	return row_datum(rows, 0, 0);
}

static void
create_roles(const TenantEntry *tenant)
{
	static const char *const attributes =
		"NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

	gate_run_as_superuser(psprintf("CREATE ROLE %s %s IN ROLE tenancy_tenant",
								   quote_identifier(tenant->role), attributes));
	if (strcmp(tenant->owner, tenant->role) != 0)
		gate_run_as_superuser(
			psprintf("CREATE ROLE %s %s", quote_identifier(tenant->owner), attributes));
}

/* The row, the roles and the main schema, empty; it is not active yet. */
static TenantEntry
make_tenant(const TenantRequest *request)
{
	TenantEntry tenant = {.id = *id_new(), .slug = request->slug};
	GateRows *rows;

	tenant.role = id_name('t', &tenant.id);
	tenant.owner = request->owns_ddl ? tenant.role : id_name('o', &tenant.id);
	tenant.schema = request->has_schema ? tenant.role : NULL;
	rows = gate_run(&tenant_insert, EXPECT_ANY, gate_uuid(&tenant.id), gate_text(request->slug),
					gate_text(request->name), gate_text(request->plan),
					gate_text(request->has_schema ? "schema" : "pool"),
					gate_text(request->template), gate_name(tenant.schema), gate_name(tenant.role),
					gate_name(tenant.owner), gate_bool(request->owns_ddl),
					gate_jsonb(request->configuration), gate_jsonb(request->metadata),
					gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tenant \"%s\" already exists", request->slug));
	create_roles(&tenant);
	if (tenant.schema != NULL)
		(void) add_schema(&tenant, tenant.schema, "main");
	return tenant;
}

pg_uuid_t *
tenant_make_empty(const TenantDraft *draft)
{
	TenantRequest request = {
		.slug = draft->slug,
		.name = draft->name,
		.template = draft->template,
		.has_schema = draft->has_schema,
		.owns_ddl = draft->owns_ddl,
		.configuration = draft->configuration,
		.metadata = draft->metadata,
	};
	TenantEntry tenant;
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	slug_validate(request.slug);
	if (request.template != NULL &&
		gate_run(&template_exists, EXPECT_AT_MOST_ONE, gate_text(request.template))->count == 0)
		request.template = NULL;
	tenant = make_tenant(&request);
	for (int i = 0; i < draft->label_count; i++)
		(void) add_schema(&tenant, psprintf("%s_%s", tenant.role, draft->labels[i]),
						  draft->labels[i]);
	*id = tenant.id;
	return id;
}

/*
 * tenant_create(slug text, name text, plan text, isolation text, template text, domain text,
 *     configuration jsonb, metadata jsonb, owns_ddl boolean, starts_at timestamptz)
 *     → tenancy.tenant
 */
TENANCY_FUNCTION(tenant_create)
{
	TenantRequest request;
	TenantEntry tenant;

	context_require_none("creating a tenant");
	read_request(fcinfo, &request);
	tenant = make_tenant(&request);
	if (request.template != NULL)
	{
		template_instantiate(request.template, tenant.schema, tenant.owner, tenant.role);
		isolation_back_up(&tenant.id);
	}
	(void) tenant_move(&tenant.id, "activate", NULL);
	if (request.plan != NULL && subscribe != NULL)
		subscribe(&tenant.id, request.plan, request.starts_at);
	if (request.domain != NULL && claim_domain != NULL)
		claim_domain(&tenant.id, request.domain);

	PG_RETURN_DATUM(tenant_row(&tenant.id));
}

/* tenant_get(tenant regtenant) → tenancy.tenant */
TENANCY_FUNCTION(tenant_get)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");

	tenant_require_visible(id);
	(void) registry_get(id);
	PG_RETURN_DATUM(tenant_row(id));
}

/* tenant_schema_add(tenant regtenant, name text) → tenancy.tenant_schema */
TENANCY_FUNCTION(tenant_schema_add)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	char *label = required_text(fcinfo, 1, "name");
	size_t room = NAMEDATALEN - 1 - strlen(tenant->role) - 1;

	context_require_none("adding a schema to a tenant");
	if (tenant->schema == NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no schema of its own", tenant->slug),
				errdetail("Its isolation is \"pool\"."));
	if (*label == '\0' || strlen(label) > room ||
		strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(label))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid name \"%s\" for a schema of a tenant", label),
				errhint("It has 1 to %d lower-case letters, digits and underscores.", (int) room));
	PG_RETURN_DATUM(add_schema(tenant, psprintf("%s_%s", tenant->role, label), label));
}

/* tenant_rename(tenant regtenant, slug text, name text) → tenancy.tenant */
TENANCY_FUNCTION(tenant_rename)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	char *slug = optional_text(fcinfo, 1);
	char *name = optional_text(fcinfo, 2);

	context_require_none("renaming a tenant");
	if (slug != NULL)
		slug_validate(slug);
	if (name != NULL && *name == '\0')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the name of a tenant must not be empty"));
	if (gate_run(&tenant_set_name, EXPECT_AT_MOST_ONE, gate_uuid(&tenant->id), gate_text(slug),
				 gate_text(name), gate_timestamptz(clock_now()))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tenant \"%s\" already exists", slug));
	PG_RETURN_DATUM(tenant_row(&tenant->id));
}

static Datum
move_by_call(FunctionCallInfo fcinfo, const char *event, const char *reason)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");

	context_require_none("changing the state of a tenant");
	(void) tenant_move(id, event, reason);
	return tenant_row(id);
}

/* tenant_suspend(tenant regtenant, reason text) → tenancy.tenant */
TENANCY_FUNCTION(tenant_suspend)
{
	PG_RETURN_DATUM(move_by_call(fcinfo, "suspend", required_text(fcinfo, 1, "reason")));
}

/* tenant_resume(tenant regtenant) → tenancy.tenant */
TENANCY_FUNCTION(tenant_resume)
{
	PG_RETURN_DATUM(move_by_call(fcinfo, "resume", NULL));
}
