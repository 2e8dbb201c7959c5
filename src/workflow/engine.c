/*
 * workflow/engine.c
 *		Running workflows.
 *
 * A system step is a job: its work, the record that it is done and the jobs of the steps that
 * may follow are one transaction, so that a step in the database happens once, wherever the
 * server dies.  A user's step is done in the transaction of who brings the data.  The row of
 * the workflow is locked first, whoever moves it.
 *
 * A step whose work is outside of the database only begins it, and waits for the job that does
 * it, at least once; the record that this job has ended and the end of the step are one
 * transaction again.
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
#include "workflow/engine.h"

#include "utils/builtins.h"

GATE_STATEMENT(
	workflow_insert,
	"INSERT INTO tenancy.workflow (id, name, version, state, request, idempotency_key, created_at,"
	"    tenant_id)"
	" SELECT $1, d.name, d.version, 'running', $3, $4, $5, $6"
	"   FROM tenancy.workflow_definition d WHERE d.name = $2"
	"  ORDER BY d.version DESC LIMIT 1 ON CONFLICT (idempotency_key) DO NOTHING",
	UUIDOID, TEXTOID, JSONBOID, TEXTOID, TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(workflow_with_key,
			   "SELECT w.id, w.name = $2 AND w.request = $3 FROM tenancy.workflow w"
			   " WHERE w.idempotency_key = $1",
			   TEXTOID, TEXTOID, JSONBOID);
GATE_STATEMENT(workflow_definition_exists,
			   "SELECT FROM tenancy.workflow_definition d WHERE d.name = $1 LIMIT 1", TEXTOID);
GATE_STATEMENT(workflow_steps_insert,
			   "INSERT INTO tenancy.workflow_step (workflow_id, step, position, state, attempts,"
			   "    is_outside)"
			   " SELECT w.id, s.value ->> 'id', s.number::integer, 'pending', 0, false"
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
			   "SELECT s.state, s.job_id FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(workflow_put_tenant, "UPDATE tenancy.workflow w SET tenant_id = $2 WHERE w.id = $1",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(workflow_move,
			   "UPDATE tenancy.workflow w SET state = $3, error = $4,"
			   "       finished_at = CASE WHEN $3 IN ('running', 'compensating') THEN NULL"
			   "           ELSE $5 END"
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
GATE_STATEMENT(workflow_step_put_end,
			   "UPDATE tenancy.workflow_step s SET state = $3, result = coalesce($4, s.result),"
			   "       error = $5, attempts = s.attempts + $6, finished_at = $7"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT4OID, TIMESTAMPTZOID);
GATE_STATEMENT(workflow_open_steps,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state NOT IN ('completed', 'skipped')"
			   " ORDER BY s.position",
			   UUIDOID);
GATE_STATEMENT(workflow_cancel_jobs,
			   "DELETE FROM tenancy.job_pending j USING tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND s.state = 'running' AND j.id = s.job_id"
			   "   AND (j.lane <> '*' OR j.lease_until IS NULL)",
			   UUIDOID);
/* The job goes on when the step has begun anew. */
GATE_STATEMENT(workflow_step_wait,
			   "UPDATE tenancy.workflow_step s SET state = $3, job_id = $4,"
			   "       input = coalesce($5, s.input), error = NULL, is_outside = true"
			   " WHERE s.workflow_id = $1 AND s.step = $2",
			   UUIDOID, TEXTOID, TEXTOID, UUIDOID, JSONBOID);
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
	{"running", "complete", "completed"},
	{"running", "fail", "failed"},
	{"failed", "retry", "running"},
	{"running", "roll back", "compensating"},
	{"failed", "roll back", "compensating"},
	{"compensating", "fail", "compensation_failed"},
	{"compensation_failed", "roll back", "compensating"},
	{"compensating", "finish", "compensated"},
};
static StateMachine workflow_states = {
	.name = "workflow",
	.table = "tenancy.workflow",
	.moves = workflow_moves,
	.move_count = lengthof(workflow_moves),
};
static const StateMove step_moves[] = {
	{"pending", "begin", "running"},
	{"pending", "complete", "completed"},
	{"running", "complete", "completed"},
	{"running", "fail", "failed"},
	{"pending", "fail", "failed"},
	{"failed", "retry", "pending"},
	{"failed", "skip", "skipped"},
	{"pending", "skip", "skipped"},
	{"completed", "undo", "compensated"},
	{"completed", "begin to undo", "compensating"},
	{"failed", "begin to undo", "compensating"},
	{"skipped", "begin to undo", "compensating"},
	{"compensating", "undo", "compensated"},
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
	{"tenant.onboarding.undo_failed", 1, "undoing an onboarding has failed, and needs a human"},
	{"tenant.provisioning.success", 1, "what a tenant needs outside of the database is there"},
	{"tenant.provisioning.failure", 1,
	 "a required step of the provisioning of a tenant has failed"},
	{"tenant.provisioning.undo_failed", 1, "undoing a provisioning has failed, and needs a human"},
};

bool
running_find(const pg_uuid_t *id, Running *workflow)
{
	GateRows *rows = gate_run(&workflow_lock, EXPECT_AT_MOST_ONE, gate_uuid(id));

	if (rows->count == 0)
		return false;
	*workflow = (Running){
		.id = *id,
		.state = row_text(rows, 0, 0),
		.tenant = row_uuid(rows, 0, 1),
		.request = row_jsonb(rows, 0, 2),
		.definition = row_jsonb(rows, 0, 3),
	};
	return true;
}

void
workflow_hold(const pg_uuid_t *id)
{
	Running workflow;

	(void) running_find(id, &workflow);
}

Running
running_lock(const pg_uuid_t *id)
{
	Running workflow;

	if (!running_find(id, &workflow))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("workflow \"%s\" does not exist", id_text(id)));
	return workflow;
}

bool
running_is(const Running *workflow, const char *state)
{
	return strcmp(workflow->state, state) == 0;
}

void
running_require_event(const Running *workflow, const char *event)
{
	(void) state_after(&workflow_states, workflow->state, event, id_text(&workflow->id));
}

void
running_move(Running *workflow, const char *event, const char *error)
{
	const char *to = state_after(&workflow_states, workflow->state, event, id_text(&workflow->id));

	gate_run(&workflow_move, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(workflow->state),
			 gate_text(to), gate_text(error), gate_timestamptz(clock_wall()));
	workflow->state = pstrdup(to);
}

void
running_tell(const Running *workflow, const char *event, const char *step, const char *error)
{
	char *purpose = json_text(workflow->definition, "purpose");
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "workflow", id_text(&workflow->id));
	json_put_text(&payload, "step", step);
	json_put_text(&payload, "error", error);
	(void) outbox_put(workflow->tenant,
					  psprintf("tenant.%s.%s", purpose == NULL ? "onboarding" : purpose, event),
					  json_end(&payload));
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

GateRows *
running_open_steps(const Running *workflow)
{
	return gate_run(&workflow_open_steps, EXPECT_ANY, gate_uuid(&workflow->id));
}

void
running_cancel_jobs(const Running *workflow)
{
	gate_run(&workflow_cancel_jobs, EXPECT_ANY, gate_uuid(&workflow->id));
}

void
running_advance(Running *workflow)
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
	if (running_open_steps(workflow)->count == 0)
	{
		running_move(workflow, "complete", NULL);
		running_tell(workflow, "success", NULL, NULL);
	}
}

Jsonb *
step_arguments(const StepTask *task)
{
	JsonBuilder arguments;

	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(task->workflow));
	json_put_text(&arguments, "tenant_id", task->tenant == NULL ? NULL : id_text(task->tenant));
	json_put_jsonb(&arguments, "request", task->request);
	json_put_jsonb(&arguments, "data", task->data);
	json_put_jsonb(&arguments, "result", task->result);
	return json_end(&arguments);
}

Jsonb *
step_call(const char *name, const StepTask *task)
{
	StepFunction function = step_function(name);

	if (function != NULL)
		return function(task);
	return job_call_procedure(name, task->tenant, step_arguments(task));
}

/* A try at a step: where it has a command its processor, if any, makes the input for that. */
typedef struct Attempted
{
	const Running *workflow;
	const Jsonb *step;
	const char *function;
	StepTask task;
	Jsonb *result;
	pg_uuid_t *waits_for;
} Attempted;

static void
attempt_function(void *argument)
{
	Attempted *attempted = argument;

	attempted->task.waits_for = &attempted->waits_for;
	if (attempted->function != NULL)
		attempted->result = step_call(attempted->function, &attempted->task);
	if (json_member(attempted->step, "command") == NULL)
		return;
	if (attempted->result == NULL)
		attempted->result = step_arguments(&attempted->task);
	attempted->waits_for =
		step_command_put(attempted->workflow, attempted->step, false, attempted->result);
}

StepTask
step_task(const Running *workflow, const char *step, const Jsonb *data, pg_uuid_t **waits_for)
{
	return (StepTask){
		.workflow = &workflow->id,
		.tenant = workflow->tenant,
		.request = workflow->request,
		.data = data,
		.step = step,
		.waits_for = waits_for,
	};
}

static Attempted
try_at(const Running *workflow, const Jsonb *step, const char *role, const Jsonb *data)
{
	return (Attempted){
		.workflow = workflow,
		.step = step,
		.function = json_text(step, role),
		.task = step_task(workflow, json_text(step, "id"), data, NULL),
	};
}

/* {"valid": …, "errors": […]}: what the validator says or, without one, that it may be tried. */
static Jsonb *
validate(const Running *workflow, const Jsonb *step, const Jsonb *data)
{
	Attempted attempted = try_at(workflow, step, "validator", data);
	ErrorData *error;
	JsonBuilder result;
	JsonbParseState *errors = NULL;

	/* Without a validator a dry run of the processor is the judge. */
	if (attempted.function == NULL)
		attempted.function = json_text(step, "processor");
	else
	{
		attempted.result = step_call(attempted.function, &attempted.task);
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

void
step_finish(const Running *workflow, const char *step, const char *state, const Jsonb *result,
			const char *error)
{
	gate_run(&workflow_step_put_end, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(step),
			 gate_text(state), gate_jsonb(result), gate_text(error), gate_int32(1),
			 gate_timestamptz(clock_wall()));
}

void
step_wait(const Running *workflow, const char *step, const char *state, const pg_uuid_t *job,
		  const Jsonb *input)
{
	gate_run(&workflow_step_wait, EXPECT_ONE, gate_uuid(&workflow->id), gate_text(step),
			 gate_text(state), gate_uuid(job), gate_jsonb(input));
}

static void
complete_step(Running *workflow, const char *name, const Jsonb *result)
{
	step_finish(workflow, name, "completed", result, NULL);
	/* A step may have made the tenant. */
	*workflow = running_lock(&workflow->id);
	running_advance(workflow);
}

static void
fail_step(Running *workflow, const char *name, const Jsonb *step, const char *error)
{
	step_finish(workflow, name, "failed", NULL, error);
	if (!json_bool(step, "required", true))
		return;
	running_move(workflow, "fail", error);
	running_tell(workflow, "failure", name, error);
}

/* The work is done, or has begun outside. */
static void
take_result(Running *workflow, const Attempted *attempted)
{
	char *name = json_text(attempted->step, "id");

	if (attempted->waits_for != NULL)
		step_wait(workflow, name, "running", attempted->waits_for, attempted->result);
	else
		complete_step(workflow, name, attempted->result);
}

/* A job of the kind workflow.step. */
static Jsonb *
perform_step(const JobTask *task)
{
	char *name = json_text(task->arguments, "step");
	Running workflow;
	Jsonb *step;
	GateRows *rows;
	Attempted attempted;
	RetryPolicy policy;
	ErrorData *error;

	if (name == NULL)
		return compensation_perform(task);
	workflow = running_lock(id_parse(json_text(task->arguments, "workflow")));
	step = workflow_find_step(workflow.definition, name);
	rows = gate_run(&workflow_step_get, EXPECT_ONE, gate_uuid(&workflow.id), gate_text(name));
	if (!running_is(&workflow, "running") || strcmp(row_text(rows, 0, 0), "running") != 0)
		return NULL;
	attempted = try_at(&workflow, step, "processor", json_empty_object());
	policy = retry_read(json_member(step, "retry"));
	error = attempt_cancellable(name, attempt_function, &attempted);
	if (error == NULL)
		take_result(&workflow, &attempted);
	else if (json_bool(step, "retryable", true) &&
			 retry_may_go_on(&policy, task->attempt, unpack_sql_state(error->sqlerrcode)))
		ReThrowError(error);
	else
		fail_step(&workflow, name, step, error->message);
	return attempted.result;
}

void
workflow_step_end(const pg_uuid_t *id, const char *name, const pg_uuid_t *job, const Jsonb *result,
				  const char *error)
{
	Running workflow;
	GateRows *rows;
	bool is_being_done;

	if (!running_find(id, &workflow))
		return;
	rows = gate_run(&workflow_step_get, EXPECT_AT_MOST_ONE, gate_uuid(id), gate_text(name));
	if (rows->count == 0 || row_is_null(rows, 0, 1) || !id_equal(row_uuid(rows, 0, 1), job))
		return;
	is_being_done = strcmp(row_text(rows, 0, 0), "running") == 0;
	if (!is_being_done && strcmp(row_text(rows, 0, 0), "compensating") != 0)
		return;
	if (!is_being_done && error != NULL)
	{
		step_finish(&workflow, name, "compensating", NULL, error);
		running_move(&workflow, "fail", error);
		running_tell(&workflow, "undo_failed", name, error);
		return;
	}
	if (is_being_done && running_is(&workflow, "running"))
	{
		if (error == NULL)
			complete_step(&workflow, name, result);
		else
			fail_step(&workflow, name, workflow_find_step(workflow.definition, name), error);
		return;
	}
	/* Another step has failed meanwhile, or all is to be undone. */
	step_finish(&workflow, name,
				!is_being_done  ? "compensated"
				: error == NULL ? "completed"
								: "failed",
				result, error);
	if (running_is(&workflow, "compensating"))
		compensation_put(&workflow);
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
	step_command_init();
	processors_init();
}

void
workflow_set_tenant(const pg_uuid_t *workflow, const pg_uuid_t *tenant)
{
	gate_run(&workflow_put_tenant, EXPECT_ONE, gate_uuid(workflow), gate_uuid(tenant));
}

Datum
workflow_row_of(const pg_uuid_t *workflow)
{
	return row_datum(gate_run(&workflow_row, EXPECT_ONE, gate_uuid(workflow)), 0, 0);
}

/* What was begun under the key, and for the same. */
static pg_uuid_t *
begun_under(const char *key, const char *name, const Jsonb *request)
{
	GateRows *rows = gate_run(&workflow_with_key, EXPECT_ONE, gate_text(key), gate_text(name),
							  gate_jsonb(request));

	if (!row_bool(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("idempotency key \"%s\" belongs to a workflow with another request", key),
				errdetail("Workflow \"%s\".", id_text(row_uuid(rows, 0, 0))));
	return row_uuid(rows, 0, 0);
}

pg_uuid_t *
workflow_begin(const char *name, const Jsonb *request, const pg_uuid_t *tenant, const char *key)
{
	pg_uuid_t *id = id_new();
	Running workflow;

	if (gate_run(&workflow_definition_exists, EXPECT_AT_MOST_ONE, gate_text(name))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("workflow \"%s\" is not defined", name));
	if (gate_run(&workflow_insert, EXPECT_ANY, gate_uuid(id), gate_text(name), gate_jsonb(request),
				 gate_text(key), gate_timestamptz(clock_now()), gate_uuid(tenant))
			->count == 0)
		return begun_under(key, name, request);
	gate_run(&workflow_steps_insert, EXPECT_ANY, gate_uuid(id));
	workflow = running_lock(id);
	running_advance(&workflow);
	return id;
}

/* onboarding_start(request jsonb, workflow text, idempotency_key text) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_start)
{
	char *name = required_text(fcinfo, 1, "workflow");

	context_require_none("an onboarding");
	require_argument(fcinfo, 0, "request");
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(0)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the request for an onboarding must be a JSON object"));
	PG_RETURN_DATUM(workflow_row_of(
		workflow_begin(name, PG_GETARG_JSONB_P(0), NULL, optional_text(fcinfo, 2))));
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
	Attempted attempted;

	context_require_none("a step of an onboarding");
	workflow = running_lock(id);
	step = require_turn(&workflow, name);
	if (json_text(step, "validator") != NULL &&
		!json_bool(validate(&workflow, step, data), "valid", false))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the data of step \"%s\" is not valid", name),
				errhint("onboarding_step_validate() says why."));
	attempted = try_at(&workflow, step, "processor", data);
	attempt_function(&attempted);
	take_result(&workflow, &attempted);
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
	workflow = running_lock(id);
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
