/*
 * provision/api.c
 *		The SQL functions, and the steps of workflows that do the same.
 */
#include "postgres.h"

#include "context/context.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "core/id.h"
#include "provision/provision.h"
#include "workflow/workflow.h"

#define TENANT_WORKFLOW "provisioning"

GATE_STATEMENT(provision_rows_of,
			   "SELECT p FROM tenancy.provision p WHERE p.tenant_id = $1"
			   "   AND ($2 IS NULL OR p.component = $2) AND ($3 IS NULL OR p.name = $3)"
			   " ORDER BY p.component, p.name",
			   UUIDOID, TEXTOID, TEXTOID);
GATE_STATEMENT(provision_workflow_of,
			   "SELECT w.id FROM tenancy.workflow w"
			   " WHERE w.tenant_id = $1 AND w.name = $2 AND w.state = 'running'"
			   " ORDER BY w.id DESC LIMIT 1",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(provision_workflow_row, "SELECT w FROM tenancy.workflow w WHERE w.id = $1", UUIDOID);

static void
validate_spec(const Component *component, const Jsonb *spec)
{
	if (!JB_ROOT_IS_OBJECT(spec))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("what to provision must be a JSON object"));
	json_validate(spec, component->members, component->name);
}

/* "name" is NULL where the component is of a domain and there is none. */
static ProvisionRequest
request_for(const pg_uuid_t *tenant, const Component *component, const Jsonb *spec)
{
	ProvisionRequest request = {
		.tenant = registry_get(tenant),
		.component = component,
		.name = MAIN_NAME,
		.spec = spec,
	};

	validate_spec(component, spec);
	if (component->is_of_domain)
		request.name = component_domain(request.tenant, spec);
	return request;
}

static Datum
provide(FunctionCallInfo fcinfo, const char *name, const Jsonb *spec)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	ProvisionRequest request;

	context_require_none("provisioning");
	request = request_for(tenant, component_find(name), spec);
	if (request.name == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("which domain?"),
				errhint("Name a \"domain\", or set tenancy.base_domain, below which each tenant "
						"has its slug."));
	(void) provision_put(&request);
	return provision_row(tenant, name, request.name);
}

static Jsonb *
required_spec(FunctionCallInfo fcinfo, const char *name)
{
	require_argument(fcinfo, 1, name);
	return PG_GETARG_JSONB_P(1);
}

/* provision_infrastructure(tenant regtenant, spec jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_infrastructure)
{
	PG_RETURN_DATUM(provide(fcinfo, "infrastructure", required_spec(fcinfo, "spec")));
}

/* provision_database(tenant regtenant, config jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_database)
{
	PG_RETURN_DATUM(provide(fcinfo, "database", required_spec(fcinfo, "config")));
}

/* provision_application(tenant regtenant, config jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_application)
{
	PG_RETURN_DATUM(provide(fcinfo, "application", required_spec(fcinfo, "config")));
}

/* provision_dns(tenant regtenant, config jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_dns)
{
	PG_RETURN_DATUM(provide(fcinfo, "dns", required_spec(fcinfo, "config")));
}

/* provision_ssl(tenant regtenant, domain text, method text) → tenancy.provision */
TENANCY_FUNCTION(provision_ssl)
{
	char *domain = optional_text(fcinfo, 1);
	char *method = optional_text(fcinfo, 2);
	JsonBuilder spec;

	json_begin(&spec);
	if (domain != NULL)
		json_put_text(&spec, "domain", domain);
	if (method != NULL)
		json_put_text(&spec, "method", method);
	PG_RETURN_DATUM(provide(fcinfo, "ssl", json_end(&spec)));
}

/* provision_monitoring(tenant regtenant, config jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_monitoring)
{
	PG_RETURN_DATUM(provide(fcinfo, "monitoring", required_spec(fcinfo, "config")));
}

/* provision_backups(tenant regtenant, config jsonb) → tenancy.provision */
TENANCY_FUNCTION(provision_backups)
{
	PG_RETURN_DATUM(provide(fcinfo, "backups", required_spec(fcinfo, "config")));
}

/* The rows of a tenant, or those of one component. */
static Datum
return_rows(FunctionCallInfo fcinfo, const pg_uuid_t *tenant, const char *component,
			const char *name)
{
	GateRows *rows = gate_run(&provision_rows_of, EXPECT_ANY, gate_uuid(tenant),
							  gate_text(component), gate_text(name));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_BLESS);
	for (int64 i = 0; i < rows->count; i++)
	{
		HeapTupleHeader header = DatumGetHeapTupleHeader(row_datum(rows, i, 0));
		HeapTupleData tuple = {
			.t_len = HeapTupleHeaderGetDatumLength(header),
			.t_data = header,
		};

		tuplestore_puttuple(result->setResult, &tuple);
	}
	return (Datum) 0;
}

static char *
optional_component(FunctionCallInfo fcinfo, int n)
{
	char *component = optional_text(fcinfo, n);

	return component == NULL ? NULL : pstrdup(component_find(component)->name);
}

/* provision_check(tenant regtenant, component text, repair boolean) → SETOF tenancy.provision */
TENANCY_FUNCTION(provision_check)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *component = optional_component(fcinfo, 1);

	context_require_none("checking what is provisioned");
	require_argument(fcinfo, 2, "repair");
	(void) provision_look_after(tenant, component, PG_GETARG_BOOL(2));
	return return_rows(fcinfo, tenant, component, NULL);
}

/* provision_remove(tenant regtenant, component text, name text) → SETOF tenancy.provision */
TENANCY_FUNCTION(provision_remove)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *component = optional_component(fcinfo, 1);
	char *name = optional_text(fcinfo, 2);

	context_require_none("removing what is provisioned");
	(void) provision_take_back(tenant, component, name);
	return return_rows(fcinfo, tenant, component, name);
}

/* What is asked for of a component within {"dns": {…}, "monitoring": false, …}; NULL: nothing. */
static Jsonb *
part_of(const Jsonb *specs, const Component *component)
{
	Jsonb *spec = json_member(specs, component->name);

	if (spec == NULL)
		return json_empty_object();
	if (JB_ROOT_IS_SCALAR(spec))
		return json_bool(specs, component->name, true) ? json_empty_object() : NULL;
	return spec;
}

static void
validate_specs(const Jsonb *specs)
{
	int count;
	char **names;

	if (!JB_ROOT_IS_OBJECT(specs))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("what to provision must be a JSON object of components"));
	names = json_member_names(specs, &count);
	for (int i = 0; i < count; i++)
	{
		const Component *component = component_find(names[i]);
		Jsonb *value = json_member(specs, names[i]);
		Jsonb *spec = part_of(specs, component);

		if (value != NULL && !JB_ROOT_IS_OBJECT(value) &&
			json_bool(specs, names[i], true) != json_bool(specs, names[i], false))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("component \"%s\" must be a JSON object, true or false", names[i]));
		if (spec != NULL)
			validate_spec(component, spec);
	}
}

/* tenant_provision(tenant regtenant, spec jsonb) → tenancy.workflow */
TENANCY_FUNCTION(tenant_provision)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	Jsonb *spec = required_spec(fcinfo, "spec");
	GateRows *rows;
	pg_uuid_t *id;

	context_require_none("provisioning");
	validate_specs(spec);
	(void) registry_get(tenant);
	rows = gate_run(&provision_workflow_of, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
					gate_text(TENANT_WORKFLOW));
	if (rows->count == 1)
		id = row_uuid(rows, 0, 0);
	else
	{
		JsonBuilder request;

		json_begin(&request);
		json_put_jsonb(&request, "provision", spec);
		id = workflow_begin(TENANT_WORKFLOW, json_end(&request), tenant, NULL);
	}
	PG_RETURN_DATUM(row_datum(gate_run(&provision_workflow_row, EXPECT_ONE, gate_uuid(id)), 0, 0));
}

static Jsonb *
skipped(const char *reason)
{
	JsonBuilder result;

	json_begin(&result);
	json_put_text(&result, "skipped", reason);
	return json_end(&result);
}

/* A step of a workflow whose request has the specifications as "provision". */
static Jsonb *
do_step(const StepTask *task, const char *name)
{
	const Component *component = component_find(name);
	Jsonb *spec = part_of(json_member(task->request, "provision"), component);
	ProvisionRequest request;
	JsonBuilder result;

	if (task->tenant == NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("step \"%s\" comes before there is a tenant", task->step));
	if (spec == NULL)
		return skipped("it was not asked for");
	request = request_for(task->tenant, component, spec);
	if (request.name == NULL)
		return skipped("the tenant has no domain");
	request.workflow = task->workflow;
	request.step = task->step;
	*task->waits_for = provision_put(&request);
	json_begin(&result);
	json_put_text(&result, "component", component->name);
	json_put_text(&result, "name", request.name);
	return json_end(&result);
}

#define PROVISION_STEP(component)                                                                  \
	static Jsonb *do_##component(const StepTask *task)                                             \
	{                                                                                              \
		return do_step(task, #component);                                                          \
	}
PROVISION_STEP(infrastructure)
PROVISION_STEP(database)
PROVISION_STEP(application)
PROVISION_STEP(dns)
PROVISION_STEP(ssl)
PROVISION_STEP(monitoring)
PROVISION_STEP(backups)

static Jsonb *
undo_step(const StepTask *task)
{
	if (task->tenant != NULL)
		*task->waits_for = provision_take_back_step(task->tenant, task->workflow, task->step);
	return NULL;
}

static const StepFunctionEntry step_functions[] = {
	{"provision.infrastructure", do_infrastructure},
	{"provision.database", do_database},
	{"provision.application", do_application},
	{"provision.dns", do_dns},
	{"provision.ssl", do_ssl},
	{"provision.monitoring", do_monitoring},
	{"provision.backups", do_backups},
	{"provision.remove", undo_step},
};

void
provision_steps_init(void)
{
	step_functions_register(step_functions, lengthof(step_functions));
}
