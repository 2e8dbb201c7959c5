/*
 * workflow/definition.c
 *		Definitions of workflows: checked once, kept for ever.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "job/perform.h"
#include "job/retry.h"
#include "workflow/workflow.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_STEPS 200
#define MAX_NAME_BYTES 100

GATE_STATEMENT(
	workflow_definition_insert,
	"INSERT INTO tenancy.workflow_definition AS d (name, version, definition, created_at, shipped)"
	" SELECT $1, coalesce(pg_catalog.max(o.version), 0) + 1, $2, $3, false"
	"   FROM tenancy.workflow_definition o WHERE o.name = $1 RETURNING d",
	TEXTOID, JSONBOID, TIMESTAMPTZOID);

static const char *const step_types[] = {"system", "user", NULL};

static const JsonRule id_rule = {.type = JSON_TEXT, .max_length = 63};

static const JsonRule command_members[] = {
	{.name = "name", .type = JSON_TEXT, .is_required = true, .max_length = 100},
	{.name = "do", .type = JSON_TEXT, .max_length = 100},
	{.name = "check", .type = JSON_TEXT, .max_length = 100},
	{.name = "undo", .type = JSON_TEXT, .max_length = 100},
	{0},
};

static const JsonRule step_members[] = {
	{.name = "id", .type = JSON_TEXT, .is_required = true, .max_length = 63},
	{.name = "name", .type = JSON_TEXT, .max_length = 200},
	{.name = "type", .type = JSON_TEXT, .is_required = true, .choices = step_types},
	{.name = "required", .type = JSON_BOOLEAN},
	{.name = "depends_on", .type = JSON_ARRAY, .element = &id_rule, .max_length = MAX_STEPS},
	{.name = "timeout_seconds", .type = JSON_INTEGER, .minimum = "1", .maximum = "86400"},
	{.name = "retryable", .type = JSON_BOOLEAN},
	{.name = "retry", .type = JSON_OBJECT},
	{.name = "validator", .type = JSON_TEXT},
	{.name = "processor", .type = JSON_TEXT},
	{.name = "compensation", .type = JSON_TEXT},
	{.name = "command", .type = JSON_OBJECT, .members = command_members},
	{0},
};
static const JsonRule step_rule = {.type = JSON_OBJECT, .members = step_members};

static const char *const purposes[] = {"onboarding", "provisioning", NULL};

static const JsonRule definition_members[] = {
	{.name = "purpose", .type = JSON_TEXT, .choices = purposes},
	{.name = "steps",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &step_rule,
	 .max_length = MAX_STEPS},
	{0},
};

/* Of the library, by their names. */
#define MAX_FUNCTION_TABLES 8
static struct
{
	const StepFunctionEntry *functions;
	int count;
} function_tables[MAX_FUNCTION_TABLES];
static int function_table_count = 0;

void
step_functions_register(const StepFunctionEntry *functions, int count)
{
	if (function_table_count == MAX_FUNCTION_TABLES)
		elog(ERROR, "too many tables of functions for steps");
	function_tables[function_table_count].functions = functions;
	function_tables[function_table_count++].count = count;
}

StepFunction
step_function(const char *name)
{
	for (int t = 0; t < function_table_count; t++)
	{
		for (int i = 0; i < function_tables[t].count; i++)
		{
			if (strcmp(function_tables[t].functions[i].name, name) == 0)
				return function_tables[t].functions[i].function;
		}
	}
	return NULL;
}

static int
find_step(const Jsonb *steps, const char *id)
{
	for (int i = 0; i < json_element_count(steps); i++)
	{
		if (strcmp(json_text(json_element(steps, i), "id"), id) == 0)
			return i;
	}
	return -1;
}

Jsonb *
workflow_find_step(const Jsonb *definition, const char *step)
{
	Jsonb *steps = json_member(definition, "steps");
	int index = find_step(steps, step);

	return index < 0 ? NULL : json_element(steps, index);
}

static char *
dependency(const Jsonb *step, int index)
{
	JsonbValue *value =
		getIthJsonbValueFromContainer(&json_member(step, "depends_on")->root, index);

	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int
dependency_count(const Jsonb *step)
{
	return json_element_count(json_member(step, "depends_on"));
}

/* Kahn's algorithm: what is left over when nothing can be taken any more is in a cycle or behind
 * one. */
static void
refuse_cycles(const Jsonb *steps)
{
	int count = json_element_count(steps);
	bool *taken = palloc0(sizeof(bool) * Max(count, 1));
	bool has_moved = true;
	int at = -1;
	StringInfoData cycle;

	while (has_moved)
	{
		has_moved = false;
		for (int i = 0; i < count; i++)
		{
			Jsonb *step = json_element(steps, i);
			bool is_free = !taken[i];

			for (int d = 0; d < dependency_count(step) && is_free; d++)
				is_free = taken[find_step(steps, dependency(step, d))];
			taken[i] |= is_free;
			has_moved |= is_free;
		}
	}
	for (int i = 0; i < count && at < 0; i++)
		at = taken[i] ? -1 : i;
	if (at < 0)
		return;

	/* Going back along what is left leads into the cycle, and then around it. */
	for (int n = 0; n < 2; n++)
	{
		int first = at;
		int steps_gone = 0;

		initStringInfo(&cycle);
		appendStringInfoString(&cycle, json_text(json_element(steps, at), "id"));
		do
		{
			Jsonb *step = json_element(steps, at);
			int next = -1;

			for (int d = 0; d < dependency_count(step) && next < 0; d++)
			{
				int index = find_step(steps, dependency(step, d));

				next = taken[index] ? -1 : index;
			}
			at = next;
			appendStringInfo(&cycle, " → %s", json_text(json_element(steps, at), "id"));
		} while ((n == 0 || at != first) && ++steps_gone < count);
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("the steps of the workflow depend on each other in a circle"),
			errdetail("%s", cycle.data));
}

static void
require_own_functions(const Jsonb *step)
{
	static const char *const roles[] = {"validator", "processor", "compensation"};
	char *id = json_text(step, "id");

	for (int i = 0; i < lengthof(roles); i++)
	{
		if (json_text(step, roles[i]) != NULL)
			require_step_function(json_text(step, roles[i]), id);
	}
	if (json_text(step, "processor") == NULL && json_member(step, "command") == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("step \"%s\" has neither a processor nor a command", id));
	if (json_member(step, "command") != NULL && strcmp(json_text(step, "type"), "system") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("step \"%s\" has a command and is a user's", id),
				errdetail("Only system steps have commands."));
	if (json_member(step, "retry") != NULL)
		retry_validate(json_member(step, "retry"));
}

void
workflow_validate(const Jsonb *definition)
{
	Jsonb *steps;

	json_validate(definition, definition_members, "workflow");
	steps = json_member(definition, "steps");
	if (json_element_count(steps) == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a workflow needs a step"));
	for (int i = 0; i < json_element_count(steps); i++)
	{
		Jsonb *step = json_element(steps, i);
		char *id = json_text(step, "id");

		if (*id == '\0' || find_step(steps, id) != i)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the id \"%s\" of a step is empty, or used twice", id));
		for (int d = 0; d < dependency_count(step); d++)
		{
			if (find_step(steps, dependency(step, d)) < 0)
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("step \"%s\" depends on \"%s\", which does not exist", id,
							   dependency(step, d)));
		}
		require_own_functions(step);
	}
	refuse_cycles(steps);
}

/* InvalidOid where there is none. */
static Datum
lookup_procedure(const char *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum result;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	result = to_regprocedure(fcinfo);
	return fcinfo->isnull ? ObjectIdGetDatum(InvalidOid) : result;
}

void
require_step_function(const char *name, const char *step)
{
	Datum procedure = (Datum) 0;

	if (step_function(name) != NULL)
		return;
	/* What is shaped like no signature at all would be another error. */
	if (strchr(name, '(') != NULL)
		procedure = lookup_procedure(name);
	if (!OidIsValid(DatumGetObjectId(procedure)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("function \"%s\" of step \"%s\" does not exist", name, step),
				errhint("Write its signature, as in \"app.check(jsonb)\"."));
	(void) job_check_procedure(DatumGetObjectId(procedure));
}

/* workflow_define(name text, definition jsonb) → tenancy.workflow_definition */
TENANCY_FUNCTION(workflow_define)
{
	char *name = required_text(fcinfo, 0, "name");

	context_require_none("defining a workflow");
	require_argument(fcinfo, 1, "definition");
	if (*name == '\0' || strlen(name) > MAX_NAME_BYTES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the name of a workflow must have between 1 and %d bytes", MAX_NAME_BYTES));
	workflow_validate(PG_GETARG_JSONB_P(1));
	PG_RETURN_DATUM(row_datum(gate_run(&workflow_definition_insert, EXPECT_ONE, gate_text(name),
									   gate_argument(1), gate_timestamptz(clock_now())),
							  0, 0));
}
