/*
 * workflow/engine.c
 *		Running workflows.
 *
 * A system step is a job: its work, the record that it is done and the jobs of the steps that
 * may follow are one transaction, so that a step in the database happens once, wherever the
 * server dies.  A user's step is done in the transaction of who brings the data.  The row of
 * the workflow is locked first, whoever moves it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/state.h"
#include "job/outbox.h"
#include "job/perform.h"
#include "job/queue.h"
#include "job/retry.h"
#include "workflow/workflow.h"

#include "utils/builtins.h"

#define STEP_KIND "workflow.step"

GATE_STATEMENT(
	workflow_insert,
	"INSERT INTO tenancy.workflow (id, name, version, state, request, idempotency_key, created_at)"
	" SELECT $1, d.name, d.version, 'running', $3, $4, $5"
	"   FROM tenancy.workflow_definition d WHERE d.name = $2"
	"  ORDER BY d.version DESC LIMIT 1 ON CONFLICT (idempotency_key) DO NOTHING",
	UUIDOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(workflow_with_key,
			   "SELECT w.id FROM tenancy.workflow w WHERE w.idempotency_key = $1", TEXTOID);
GATE_STATEMENT(workflow_definition_exists,
			   "SELECT FROM tenancy.workflow_definition d WHERE d.name = $1 LIMIT 1", TEXTOID);
GATE_STATEMENT(workflow_steps_insert,
			   "INSERT INTO tenancy.workflow_step (workflow_id, step, position, state, attempts)"
			   " SELECT w.id, s.value ->> 'id', s.number::integer, 'pending', 0"
			   "   FROM tenancy.workflow w"
			   "   JOIN tenancy.workflow_definition d ON d.name = w.name AND d.version = w.version,"
			   "        pg_catalog.jsonb_array_elements(d.definition -> 'steps') WITH ORDINALITY "
			   "AS s(value, number)"
			   "  WHERE w.id = $1",
			   UUIDOID);
GATE_STATEMENT(workflow_lock,
			   "SELECT w.state, w.tenant_id, w.request, d.definition FROM tenancy.workflow w"
			   "  JOIN tenancy.workflow_definition d ON d.name = w.name AND d.version = w.version"
			   " WHERE w.id = $1 FOR UPDATE OF w",
			   UUIDOID);
GATE_STATEMENT(workflow_row, "SELECT w FROM tenancy.workflow w WHERE w.id = $1", UUIDOID);
GATE_STATEMENT(workflow_step_row,
			   "SELECT s FROM tenancy.workflow_step s WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(workflow_step_get,
			   "SELECT s.state, s.result FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(workflow_put_tenant, "UPDATE tenancy.workflow w SET tenant_id = $2 WHERE w.id = $1",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(workflow_move,
			   "UPDATE tenancy.workflow w SET state = $3, error = $4,"
			   "       finished_at = CASE WHEN $3 = 'running' THEN NULL ELSE $5 END"
			   " WHERE w.id = $1 AND w.state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
/* Steps that wait for nothing any more. */
GATE_STATEMENT(workflow_ready_steps,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state = 'pending' AND NOT EXISTS ("
			   "     SELECT FROM pg_catalog.jsonb_array_elements($2 -> 'steps') AS e(value),"
			   "            pg_catalog.jsonb_array_elements_text(coalesce(e.value -> 'depends_on', "
			   "'[]')) AS d(step)"
			   "       JOIN tenancy.workflow_step o ON o.workflow_id = $1 AND o.step = d.step"
			   "      WHERE e.value ->> 'id' = s.step AND o.state NOT IN ('completed', 'skipped'))"
			   " ORDER BY s.position",
			   UUIDOID, JSONBOID);
GATE_STATEMENT(workflow_step_begin,
			   "UPDATE tenancy.workflow_step s SET state = 'running', job_id = $3, error = NULL,"
			   "       started_at = $4, finished_at = NULL"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(workflow_step_end,
			   "UPDATE tenancy.workflow_step s SET state = $3, result = coalesce($4, s.result),"
			   "       error = $5, attempts = s.attempts + $6, finished_at = $7"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT4OID, TIMESTAMPTZOID);
GATE_STATEMENT(workflow_open_steps,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state NOT IN ('completed', 'skipped')"
			   " ORDER BY s.position",
			   UUIDOID);
/* Failed, or running by a job that is no more. */
GATE_STATEMENT(workflow_stuck_steps,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND (s.state = 'failed' OR s.state = 'running'"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = s.job_id))"
			   " ORDER BY s.position",
			   UUIDOID);
GATE_STATEMENT(workflow_undo_steps,
			   "SELECT s.step, s.result FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state = 'completed'"
			   " ORDER BY s.finished_at DESC, s.position DESC",
			   UUIDOID);
GATE_STATEMENT(workflow_cancel_jobs,
			   "DELETE FROM tenancy.job_pending j USING tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state = 'running' AND j.id = s.job_id",
			   UUIDOID);
GATE_STATEMENT(
	workflow_progress,
	"WITH step AS (SELECT s.step, s.position, s.state, s.error, e.value,"
	"                     coalesce((e.value ->> 'required')::boolean, true) AS required,"
	"                     ARRAY(SELECT d.step FROM "
	"pg_catalog.jsonb_array_elements_text(coalesce(e.value -> 'depends_on', '[]')) AS d(step)"
	"                             JOIN tenancy.workflow_step o ON o.workflow_id = s.workflow_id "
	"AND o.step = d.step"
	"                            WHERE o.state NOT IN ('completed', 'skipped')) AS blocked_by,"
	"                     (SELECT pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY "
	"h.finished_at - h.started_at)"
	"                        FROM tenancy.workflow_step h WHERE h.step = s.step AND h.state = "
	"'completed') AS usual"
	"                FROM tenancy.workflow_step s"
	"                JOIN tenancy.workflow w ON w.id = s.workflow_id"
	"                JOIN tenancy.workflow_definition f ON f.name = w.name AND f.version = "
	"w.version,"
	"                     pg_catalog.jsonb_array_elements(f.definition -> 'steps') AS e(value)"
	"               WHERE s.workflow_id = $1 AND e.value ->> 'id' = s.step)"
	" SELECT pg_catalog.jsonb_build_object('workflow', w.id, 'tenant_id', w.tenant_id, 'state', "
	"w.state,"
	"     'percent', (SELECT coalesce(pg_catalog.round(100.0 * count(*) FILTER (WHERE p.state = "
	"'completed')"
	"                     / nullif(count(*), 0), 1), 100) FROM step p WHERE p.required),"
	"     'next', (SELECT coalesce(pg_catalog.jsonb_agg(p.step ORDER BY p.position), '[]') FROM "
	"step p"
	"               WHERE p.state = 'pending' AND p.blocked_by = '{}' AND p.value ->> 'type' = "
	"'user'),"
	"     'eta_seconds', (SELECT pg_catalog.round(extract(epoch FROM sum(p.usual))) FROM step p"
	"                      WHERE p.required AND p.state IN ('pending', 'running')),"
	"     'steps', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('step', p.step, "
	"'name', p.value ->> 'name',"
	"                   'type', p.value ->> 'type', 'required', p.required, 'state', p.state, "
	"'error', p.error,"
	"                   'blocked_by', pg_catalog.to_jsonb(p.blocked_by)) ORDER BY p.position) FROM "
	"step p))"
	"   FROM tenancy.workflow w WHERE w.id = $1",
	UUIDOID);

static const StateMove workflow_moves[] = {
	{"running", "complete", "completed"},   {"running", "fail", "failed"},
	{"failed", "retry", "running"},         {"running", "roll back", "compensated"},
	{"failed", "roll back", "compensated"},
};
static StateMachine workflow_states = {
	.name = "workflow",
	.table = "tenancy.workflow",
	.moves = workflow_moves,
	.move_count = lengthof(workflow_moves),
};
static const StateMove step_moves[] = {
	{"pending", "begin", "running"},      {"pending", "complete", "completed"},
	{"running", "complete", "completed"}, {"running", "fail", "failed"},
	{"pending", "fail", "failed"},        {"failed", "retry", "pending"},
	{"failed", "skip", "skipped"},        {"pending", "skip", "skipped"},
	{"completed", "undo", "compensated"},
};
static StateMachine step_states = {
	.name = "step",
	.table = "tenancy.workflow_step",
	.moves = step_moves,
	.move_count = lengthof(step_moves),
};

static const EventType event_types[] = {
	{"tenant.onboarding.success", 1, "the onboarding of a tenant is complete"},
	{"tenant.onboarding.failure", 1, "a required step of the onboarding of a tenant has failed"},
};

typedef struct Running
{
	pg_uuid_t id;
	char *state;
	pg_uuid_t *tenant;
	Jsonb *request;
	Jsonb *definition;
} Running;

static Running
lock_workflow(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&workflow_lock, EXPECT_AT_MOST_ONE, gate_uuid(id));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("workflow \"%s\" does not exist", id_text(id)));
	return (Running){
		.id = *id,
		.state = row_text(rows, 0, 0),
		.tenant = row_uuid(rows, 0, 1),
		.request = row_jsonb(rows, 0, 2),
		.definition = row_jsonb(rows, 0, 3),
	};
}

static void
move(Running *workflow, const char *event, const char *error)
{
	const char *to = state_after(&workflow_states, workflow->state, event, id_text(&workflow->id));

	gate_run(&workflow_move, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(workflow->state),
			 gate_text(to), gate_text(error), gate_timestamptz(clock_wall()));
	workflow->state = pstrdup(to);
}

static void
tell(const Running *workflow, const char *type, const char *step, const char *error)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "workflow", id_text(&workflow->id));
	json_put_text(&payload, "step", step);
	json_put_text(&payload, "error", error);
	(void) outbox_put(workflow->tenant, type, json_end(&payload));
}

static bool
is_system(const Jsonb *step)
{
	return strcmp(json_text(step, "type"), "system") == 0;
}

static pg_uuid_t *
enqueue(const Running *workflow, const char *name, const Jsonb *step)
{
	JobRequest request = {
		.kind = STEP_KIND,
		.tenant = workflow->tenant,
		.priority = JOB_MIDDLE_PRIORITY,
		.timeout_seconds = json_int32(step, "timeout_seconds", 0),
		.retry = json_member(step, "retry"),
	};
	JsonBuilder arguments;

	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(&workflow->id));
	json_put_text(&arguments, "step", name);
	request.arguments = json_end(&arguments);
	return job_put(&request);
}

/* Begin the system steps that may; complete the workflow where nothing is left. */
static void
advance(Running *workflow)
{
	GateRows *rows = gate_run(&workflow_ready_steps, EXPECT_ANY, gate_uuid(&workflow->id),
							  gate_jsonb(workflow->definition));

	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);
		Jsonb *step = workflow_find_step(workflow->definition, name);

		if (is_system(step))
			gate_run(&workflow_step_begin, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(name),
					 gate_uuid(enqueue(workflow, name, step)), gate_timestamptz(clock_wall()));
	}
	if (gate_run(&workflow_open_steps, EXPECT_ANY, gate_uuid(&workflow->id))->count == 0)
	{
		move(workflow, "complete", NULL);
		tell(workflow, "tenant.onboarding.success", NULL, NULL);
	}
}

static Jsonb *
run_function(const char *name, const StepTask *task)
{
	StepFunction function = step_function(name);
	JsonBuilder arguments;

	if (function != NULL)
		return function(task);
	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(task->workflow));
	json_put_text(&arguments, "tenant_id", task->tenant == NULL ? NULL : id_text(task->tenant));
	json_put_jsonb(&arguments, "request", task->request);
	json_put_jsonb(&arguments, "data", task->data);
	json_put_jsonb(&arguments, "result", task->result);
	return job_call_procedure(name, task->tenant, json_end(&arguments));
}

typedef struct Attempted
{
	const char *function;
	StepTask task;
	Jsonb *result;
} Attempted;

static void
attempt_function(void *argument)
{
	Attempted *attempted = argument;

	attempted->result = run_function(attempted->function, &attempted->task);
}

static StepTask
task_for(const Running *workflow, const Jsonb *data)
{
	return (StepTask){
		.workflow = &workflow->id,
		.tenant = workflow->tenant,
		.request = workflow->request,
		.data = data,
	};
}

/* {"valid": …, "errors": […]}: what the validator says or, without one, that it may be tried. */
static Jsonb *
validate(const Running *workflow, const Jsonb *step, const Jsonb *data)
{
	Attempted attempted = {json_text(step, "validator"), task_for(workflow, data)};
	ErrorData *error;
	JsonBuilder result;
	JsonbParseState *errors = NULL;

	/* Without a validator a dry run of the processor is the judge. */
	if (attempted.function == NULL)
		attempted.function = json_text(step, "processor");
	else
	{
		attempted.result = run_function(attempted.function, &attempted.task);
		if (attempted.result != NULL)
			return attempted.result;
	}
	error = rehearse(attempted.function, attempt_function, &attempted);
	(void) pushJsonbValue(&errors, WJB_BEGIN_ARRAY, NULL);
	if (error != NULL)
	{
		JsonbValue text = {.type = jbvString};

		text.val.string.val = error->message;
		text.val.string.len = strlen(error->message);
		(void) pushJsonbValue(&errors, WJB_ELEM, &text);
	}
	json_begin(&result);
	json_put_bool(&result, "valid", error == NULL);
	json_put_jsonb(&result, "errors",
				   JsonbValueToJsonb(pushJsonbValue(&errors, WJB_END_ARRAY, NULL)));
	return json_end(&result);
}

static void
end_step(const Running *workflow, const char *step, const char *state, const Jsonb *result,
		 const char *error)
{
	gate_run(&workflow_step_end, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(step),
			 gate_text(state), gate_jsonb(result), gate_text(error), gate_int32(1),
			 gate_timestamptz(clock_wall()));
}

static void
complete_step(Running *workflow, const char *name, const Jsonb *result)
{
	end_step(workflow, name, "completed", result, NULL);
	/* A step may have made the tenant. */
	*workflow = lock_workflow(&workflow->id);
	advance(workflow);
}

static void
fail_step(Running *workflow, const char *name, const Jsonb *step, const char *error)
{
	end_step(workflow, name, "failed", NULL, error);
	if (!json_bool(step, "required", true))
		return;
	move(workflow, "fail", error);
	tell(workflow, "tenant.onboarding.failure", name, error);
}

/* A job of the kind workflow.step. */
static Jsonb *
perform_step(const JobTask *task)
{
	char *name = json_text(task->arguments, "step");
	Running workflow = lock_workflow(id_parse(json_text(task->arguments, "workflow")));
	Jsonb *step = workflow_find_step(workflow.definition, name);
	GateRows *rows =
		gate_run(&workflow_step_get, EXPECT_ONE, gate_uuid(&workflow.id), gate_text(name));
	Attempted attempted = {json_text(step, "processor"), task_for(&workflow, json_empty_object())};
	RetryPolicy policy = retry_read(json_member(step, "retry"));
	ErrorData *error;

	if (strcmp(workflow.state, "running") != 0 || strcmp(row_text(rows, 0, 0), "running") != 0)
		return NULL;
	error = attempt(name, attempt_function, &attempted);
	if (error == NULL)
		complete_step(&workflow, name, attempted.result);
	else if (json_bool(step, "retryable", true) && task->attempt < policy.max_attempts &&
			 retry_is_retryable(&policy, unpack_sql_state(error->sqlerrcode)))
		ReThrowError(error);
	else
		fail_step(&workflow, name, step, error->message);
	return attempted.result;
}

static const JobKind step_kind = {
	.name = STEP_KIND,
	.perform = perform_step,
	.timeout_seconds = 10 * SECS_PER_MINUTE,
	.description = "does a step of a workflow",
};

void
workflow_init(void)
{
	state_machine_register(&workflow_states);
	state_machine_register(&step_states);
	event_types_register(event_types, lengthof(event_types));
	job_kind_register(&step_kind);
}

void
workflow_set_tenant(const pg_uuid_t *workflow, const pg_uuid_t *tenant)
{
	gate_run(&workflow_put_tenant, EXPECT_ONE, gate_uuid(workflow), gate_uuid(tenant));
}

static Datum
row_of(const pg_uuid_t *workflow)
{
	return row_datum(gate_run(&workflow_row, EXPECT_ONE, gate_uuid(workflow)), 0, 0);
}

/* onboarding_start(request jsonb, workflow text, idempotency_key text) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_start)
{
	char *name = required_text(fcinfo, 1, "workflow");
	char *key = optional_text(fcinfo, 2);
	pg_uuid_t *id = id_new();
	Running workflow;

	context_require_none("an onboarding");
	require_argument(fcinfo, 0, "request");
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(0)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the request for an onboarding must be a JSON object"));
	if (gate_run(&workflow_definition_exists, EXPECT_AT_MOST_ONE, gate_text(name))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("workflow \"%s\" is not defined", name));
	if (gate_run(&workflow_insert, EXPECT_ANY, gate_uuid(id), gate_text(name), gate_argument(0),
				 gate_text(key), gate_timestamptz(clock_now()))
			->count == 0)
		PG_RETURN_DATUM(
			row_of(row_uuid(gate_run(&workflow_with_key, EXPECT_ONE, gate_text(key)), 0, 0)));
	gate_run(&workflow_steps_insert, EXPECT_ANY, gate_uuid(id));
	workflow = lock_workflow(id);
	advance(&workflow);
	PG_RETURN_DATUM(row_of(id));
}

static Jsonb *
require_step(const Running *workflow, const char *name)
{
	Jsonb *step = workflow_find_step(workflow->definition, name);

	if (step == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("step \"%s\" does not exist", name));
	return step;
}

/* A user's step of a running workflow, when it is its turn. */
static Jsonb *
require_turn(const Running *workflow, const char *name)
{
	Jsonb *step = require_step(workflow, name);
	GateRows *rows = gate_run(&workflow_ready_steps, EXPECT_ANY, gate_uuid(&workflow->id),
							  gate_jsonb(workflow->definition));

	if (strcmp(workflow->state, "running") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the workflow is %s", workflow->state));
	for (int64 i = 0; i < rows->count; i++)
	{
		if (strcmp(row_text(rows, i, 0), name) == 0 && !is_system(step))
			return step;
	}
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("step \"%s\" cannot be done now", name),
			errdetail("It waits for other steps, is done, or is done by the system."));
}

static Jsonb *
optional_data(FunctionCallInfo fcinfo, int n)
{
	Jsonb *data = optional_jsonb(fcinfo, n);

	if (data == NULL)
		return json_empty_object();
	if (!JB_ROOT_IS_OBJECT(data))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the data of a step must be a JSON object"));
	return data;
}

/* onboarding_step_execute(workflow uuid, step text, data jsonb) → tenancy.workflow_step */
TENANCY_FUNCTION(onboarding_step_execute)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	char *name = required_text(fcinfo, 1, "step");
	Jsonb *data = optional_data(fcinfo, 2);
	Running workflow;
	Jsonb *step;
	StepTask task;

	context_require_none("a step of an onboarding");
	workflow = lock_workflow(id);
	step = require_turn(&workflow, name);
	if (json_text(step, "validator") != NULL &&
		!json_bool(validate(&workflow, step, data), "valid", false))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the data of step \"%s\" is not valid", name),
				errhint("onboarding_step_validate() says why."));
	task = task_for(&workflow, data);
	complete_step(&workflow, name, run_function(json_text(step, "processor"), &task));
	PG_RETURN_DATUM(
		row_datum(gate_run(&workflow_step_row, EXPECT_ONE, gate_uuid(id), gate_text(name)), 0, 0));
}

/* onboarding_step_validate(workflow uuid, step text, data jsonb) → jsonb */
TENANCY_FUNCTION(onboarding_step_validate)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	char *name = required_text(fcinfo, 1, "step");
	Jsonb *data = optional_data(fcinfo, 2);
	Running workflow;

	context_require_none("a step of an onboarding");
	workflow = lock_workflow(id);
	PG_RETURN_JSONB_P(validate(&workflow, require_turn(&workflow, name), data));
}

/* onboarding_progress(workflow uuid) → jsonb */
TENANCY_FUNCTION(onboarding_progress)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	GateRows *rows = gate_run(&workflow_progress, EXPECT_AT_MOST_ONE, gate_uuid(id));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("workflow \"%s\" does not exist", id_text(id)));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* Optional steps that are open; raises for a required one. */
static void
skip_open(const Running *workflow)
{
	GateRows *rows = gate_run(&workflow_open_steps, EXPECT_ANY, gate_uuid(&workflow->id));

	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);

		if (json_bool(workflow_find_step(workflow->definition, name), "required", true))
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the workflow is not complete"), errdetail("Step \"%s\" is not.", name));
	}
	gate_run(&workflow_cancel_jobs, EXPECT_ANY, gate_uuid(&workflow->id));
	for (int64 i = 0; i < rows->count; i++)
		end_step(workflow, row_text(rows, i, 0), "skipped", NULL, NULL);
}

/* onboarding_complete(workflow uuid) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_complete)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	Running workflow;

	context_require_none("an onboarding");
	workflow = lock_workflow(id);
	if (strcmp(workflow.state, "completed") != 0)
	{
		if (strcmp(workflow.state, "running") != 0)
			(void) state_after(&workflow_states, workflow.state, "complete", id_text(id));
		skip_open(&workflow);
		advance(&workflow);
	}
	PG_RETURN_DATUM(row_of(id));
}

/* Steps that are stuck begin again, or are skipped where they are optional. */
static void
recover_steps(Running *workflow, bool skip)
{
	GateRows *rows = gate_run(&workflow_stuck_steps, EXPECT_ANY, gate_uuid(&workflow->id));

	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);

		if (skip && json_bool(workflow_find_step(workflow->definition, name), "required", true))
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("step \"%s\" is required and cannot be skipped", name));
		end_step(workflow, name, skip ? "skipped" : "pending", NULL, NULL);
	}
	if (strcmp(workflow->state, "failed") == 0)
		move(workflow, "retry", NULL);
	advance(workflow);
}

/* All in one transaction: where one compensation fails, nothing has been undone. */
static void
roll_back(Running *workflow)
{
	GateRows *rows;

	gate_run(&workflow_cancel_jobs, EXPECT_ANY, gate_uuid(&workflow->id));
	rows = gate_run(&workflow_undo_steps, EXPECT_ANY, gate_uuid(&workflow->id));
	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);
		char *compensation =
			json_text(workflow_find_step(workflow->definition, name), "compensation");
		StepTask task = task_for(workflow, json_empty_object());

		task.result = row_jsonb(rows, i, 1);
		if (compensation != NULL)
			(void) run_function(compensation, &task);
		end_step(workflow, name, "compensated", NULL, NULL);
	}
	move(workflow, "roll back", NULL);
}

/* onboarding_recover(workflow uuid, action text) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_recover)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	char *action = required_text(fcinfo, 1, "action");
	Running workflow;

	context_require_none("an onboarding");
	workflow = lock_workflow(id);
	if (strcmp(workflow.state, "running") != 0 && strcmp(workflow.state, "failed") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the workflow is %s", workflow.state));
	if (strcmp(action, "retry") == 0 || strcmp(action, "skip") == 0)
		recover_steps(&workflow, *action == 's');
	else if (strcmp(action, "rollback") == 0)
		roll_back(&workflow);
	else
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid action \"%s\"", action),
				errhint("Possible: \"retry\", \"skip\" and \"rollback\"."));
	PG_RETURN_DATUM(row_of(id));
}
