/*
 * workflow/processor.c
 *		The steps of the onboarding that is shipped.
 *
 * They call the public functions that an operator would call, and undo what they did in their
 * compensations.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/own_call.h"
#include "catalog/registry.h"
#include "core/compat.h"
#include "core/id.h"
#include "core/json.h"
#include "tenant/configuration.h"
#include "tenant/tenant.h"
#include "workflow/catalog.h"
#include "workflow/workflow.h"

#include "catalog/namespace.h"

#define MAX_ROW_ERRORS 100

pg_noreturn static void
refuse(const char *what)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what));
}

void
integration_put(const pg_uuid_t *tenant, const char *name, const Jsonb *value)
{
	JsonBuilder integrations;
	JsonBuilder patch;

	json_begin(&integrations);
	json_put_jsonb(&integrations, name, value);
	json_begin(&patch);
	json_put_jsonb(&patch, "integrations", json_end(&integrations));
	(void) own_call_run("tenant_configure", NULL, 2, (Oid[]){UUIDOID, JSONBOID},
						(NullableDatum[]){gate_uuid(tenant), gate_jsonb(json_end(&patch))});
}

/* A limit of the plan, or -1 for none. */
static int
plan_limit(const pg_uuid_t *tenant, const char *name)
{
	return json_int32(json_member(configuration_in_force(tenant), "feature_limits"), name, -1);
}

static Jsonb *
create_tenant(const StepTask *task)
{
	char *slug = json_text(task->request, "slug");
	char *isolation = json_text(task->request, "isolation");
	char *template = json_text(task->request, "template");
	NullableDatum arguments[] = {
		gate_text(slug),
		gate_text(json_text(task->request, "name")),
		gate_text(json_text(task->request, "plan")),
		gate_text(isolation == NULL ? "schema" : isolation),
		gate_text(template == NULL ? "default" : template),
		gate_text(json_text(task->request, "domain")),
	};
	GateRows *rows;
	pg_uuid_t *tenant;
	JsonBuilder result;

	if (slug == NULL)
		refuse("the request for an onboarding has no \"slug\"");
	rows = own_call_run("tenant_create", "id", lengthof(arguments),
						(Oid[]){TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}, arguments);
	tenant = row_uuid(rows, 0, 0);
	workflow_set_tenant(task->workflow, tenant);
	json_begin(&result);
	json_put_text(&result, "tenant_id", id_text(tenant));
	return json_end(&result);
}

static Jsonb *
delete_tenant(const StepTask *task)
{
	if (task->tenant != NULL)
		tenant_erase(task->tenant, "onboarding rolled back");
	return NULL;
}

static Jsonb *
check_database(const StepTask *task)
{
	TenantEntry *tenant = registry_get_latest(task->tenant);
	JsonBuilder result;

	registry_require_active(tenant);
	if (tenant->schema != NULL && !OidIsValid(get_namespace_oid(tenant->schema, true)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_SCHEMA),
				errmsg("schema \"%s\" does not exist", tenant->schema));
	json_begin(&result);
	json_put_text(&result, "schema", tenant->schema);
	json_put_text(&result, "role", tenant->role);
	return json_end(&result);
}

static void
add_row_error(JsonbParseState **errors, int row, const char *error)
{
	JsonBuilder builder;
	JsonbValue value;

	json_begin(&builder);
	json_put_int64(&builder, "row", row);
	json_put_text(&builder, "error", error);
	JsonbToJsonbValue(json_end(&builder), &value);
	(void) pushJsonbValue(errors, WJB_ELEM, &value);
}

/* "entities" is a list, or a text of documents; "entities_table" a table of the tenant. */
static Jsonb *
import_catalog(const StepTask *task)
{
	char *text = json_text(task->request, "entities");
	CatalogRows *rows = text != NULL ? catalog_read_text(text)
									 : catalog_read_array(json_member(task->request, "entities"));
	JsonbParseState *errors = NULL;
	JsonBuilder result;
	int failed = 0;

	catalog_import(task->tenant, task->workflow, rows, json_text(task->request, "entities_table"));
	(void) pushJsonbValue(&errors, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < rows->count; i++)
	{
		if (rows->rows[i].fault != NULL && failed++ < MAX_ROW_ERRORS)
			add_row_error(&errors, i + 1, rows->rows[i].fault);
	}
	json_begin(&result);
	json_put_int64(&result, "imported", rows->imported);
	json_put_int64(&result, "failed", failed);
	json_put_jsonb(&result, "errors",
				   JsonbValueToJsonb(pushJsonbValue(&errors, WJB_END_ARRAY, NULL)));
	return json_end(&result);
}

/* What is in a table of the tenant goes with the tenant. */
static Jsonb *
remove_catalog(const StepTask *task)
{
	catalog_remove(task->tenant, task->workflow);
	return NULL;
}

static Jsonb *
select_plugins(const StepTask *task)
{
	Jsonb *plugins = json_member(task->data, "plugins");
	int count = json_element_count(plugins);
	int limit = plan_limit(task->tenant, "max_plugins");

	if (!json_is_array(plugins))
		refuse("\"plugins\" must be a list of names");
	for (int i = 0; i < count; i++)
	{
		if (getIthJsonbValueFromContainer(&plugins->root, i)->type != jbvString)
			refuse("\"plugins\" must be a list of names");
	}
	if (limit >= 0 && count > limit)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("%d plugins are more than the plan allows", count),
				errdetail("It allows %d.", limit));
	integration_put(task->tenant, "plugins", plugins);
	return plugins;
}

static Jsonb *
deselect_plugins(const StepTask *task)
{
	integration_put(task->tenant, "plugins", NULL);
	return NULL;
}

static const StepFunctionEntry functions[] = {
	{"catalog.import", import_catalog},       {"catalog.remove", remove_catalog},
	{"database.check", check_database},       {"github.connect", github_connect},
	{"github.disconnect", github_disconnect}, {"plugins.deselect", deselect_plugins},
	{"plugins.select", select_plugins},       {"tenant.create", create_tenant},
	{"tenant.delete", delete_tenant},
};

void
processors_init(void)
{
	step_functions_register(functions, lengthof(functions));
	github_init();
}
