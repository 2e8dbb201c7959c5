/*
 * workflow/recover.c
 *		Ending workflows otherwise than step by step: completing, retrying, skipping, undoing.
 *
 * Undoing goes back from the last step.  What was done in the database is undone in the
 * caller's transaction.  Where a step was outside of it, undoing begins there and waits for
 * the job that does it; the end of that job goes on with the step before, in a job again.  So
 * all or nothing holds for what lies between two steps outside.  What cannot be undone is left
 * to a human: the workflow is then compensation_failed.
 */
#include "postgres.h"

#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "job/queue.h"
#include "job/retry.h"
#include "workflow/engine.h"

#define GIVEN_UP "given up: the workflow was rolled back"

/* Failed, or running by a job that is no more. */
GATE_STATEMENT(workflow_stuck_steps,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND (s.state = 'failed' OR s.state = 'running'"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = s.job_id))"
			   " ORDER BY s.position",
			   UUIDOID);
GATE_STATEMENT(workflow_at_work,
			   "SELECT s.step FROM tenancy.workflow_step s"
			   "  JOIN tenancy.job_pending j ON j.id = s.job_id"
			   " WHERE s.workflow_id = $1 AND s.state IN ('running', 'compensating') LIMIT 1",
			   UUIDOID);
GATE_STATEMENT(workflow_give_up_steps,
			   "UPDATE tenancy.workflow_step s SET state = 'failed', error = $2, finished_at = $3"
			   " WHERE s.workflow_id = $1 AND s.state = 'running'"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = s.job_id)",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(workflow_undo_steps,
			   "SELECT s.step, s.result, s.input FROM tenancy.workflow_step s"
			   " WHERE s.workflow_id = $1 AND (s.state IN ('completed', 'compensating')"
			   "    OR s.state IN ('failed', 'skipped') AND s.is_outside)"
			   " ORDER BY s.state = 'compensating' DESC, s.finished_at DESC, s.position DESC",
			   UUIDOID);
GATE_STATEMENT(workflow_undone_by_hand,
			   "UPDATE tenancy.workflow_step s SET state = 'compensated'"
			   " WHERE s.workflow_id = $1 AND s.state = 'compensating'",
			   UUIDOID);

/* A step that is done outside just now; NULL for none. */
static char *
step_at_work(const Running *workflow)
{
	GateRows *rows = gate_run(&workflow_at_work, EXPECT_AT_MOST_ONE, gate_uuid(&workflow->id));

	return rows->count == 0 ? NULL : row_text(rows, 0, 0);
}

static void
refuse_at_work(const Running *workflow)
{
	char *step = step_at_work(workflow);

	if (step != NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("step \"%s\" is being done just now", step),
				errhint("Try again when it is finished."));
}

/* Optional steps that are open; raises for a required one. */
static void
skip_open(const Running *workflow)
{
	GateRows *rows = running_open_steps(workflow);

	for (int64 i = 0; i < rows->count; i++)
	{
		char *name = row_text(rows, i, 0);

		if (json_bool(workflow_find_step(workflow->definition, name), "required", true))
			ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the workflow is not complete"), errdetail("Step \"%s\" is not.", name));
	}
	running_cancel_jobs(workflow);
	refuse_at_work(workflow);
	for (int64 i = 0; i < rows->count; i++)
		step_finish(workflow, row_text(rows, i, 0), "skipped", NULL, NULL);
}

/* onboarding_complete(workflow uuid) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_complete)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	Running workflow;

	context_require_none("an onboarding");
	workflow = running_lock(id);
	if (!running_is(&workflow, "completed"))
	{
		running_require_event(&workflow, "complete");
		skip_open(&workflow);
		running_advance(&workflow);
	}
	PG_RETURN_DATUM(workflow_row_of(id));
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
		step_finish(workflow, name, skip ? "skipped" : "pending", NULL, NULL);
	}
	if (running_is(workflow, "failed"))
		running_move(workflow, "retry", NULL);
	running_advance(workflow);
}

/* True where it is undone, false where it waits for its job. */
static bool
undo_step(const Running *workflow, const char *name, const Jsonb *result, const Jsonb *input)
{
	Jsonb *step = workflow_find_step(workflow->definition, name);
	char *compensation = json_text(step, "compensation");
	pg_uuid_t *job = NULL;
	StepTask task = step_task(workflow, name, json_empty_object(), &job);

	task.result = result;
	if (compensation != NULL)
	{
		Jsonb *made = step_call(compensation, &task);

		input = made == NULL ? input : made;
	}
	if (json_member(step, "command") != NULL && input != NULL)
		job = step_command_put(workflow, step, true, input);
	if (job != NULL)
		step_wait(workflow, name, "compensating", job, NULL);
	else
		step_finish(workflow, name, "compensated", NULL, NULL);
	return job == NULL;
}

void
compensate(Running *workflow)
{
	GateRows *rows;

	/* Its end comes back here. */
	if (step_at_work(workflow) != NULL)
		return;
	rows = gate_run(&workflow_undo_steps, EXPECT_ANY, gate_uuid(&workflow->id));
	for (int64 i = 0; i < rows->count; i++)
	{
		if (!undo_step(workflow, row_text(rows, i, 0), row_jsonb(rows, i, 1),
					   row_jsonb(rows, i, 2)))
			return;
	}
	running_move(workflow, "finish", NULL);
}

void
compensation_put(const Running *workflow)
{
	/* Of no tenant: the jobs of this one may go with it. */
	JobRequest request = {.kind = STEP_KIND, .priority = JOB_MIDDLE_PRIORITY};
	JsonBuilder arguments;

	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(&workflow->id));
	request.arguments = json_end(&arguments);
	(void) job_put(&request);
}

static void
compensate_in_attempt(void *argument)
{
	compensate(argument);
}

Jsonb *
compensation_perform(const JobTask *task)
{
	Running workflow = running_lock(id_parse(json_text(task->arguments, "workflow")));
	RetryPolicy policy = retry_read(NULL);
	Running undone = workflow;
	ErrorData *error;

	if (!running_is(&workflow, "compensating"))
		return NULL;
	error = attempt_cancellable("undoing a workflow", compensate_in_attempt, &undone);
	if (error == NULL)
		return NULL;
	if (retry_may_go_on(&policy, task->attempt, unpack_sql_state(error->sqlerrcode)))
		ReThrowError(error);
	running_move(&workflow, "fail", error->message);
	running_tell(&workflow, "undo_failed", NULL, error->message);
	return NULL;
}

static void
roll_back(Running *workflow)
{
	if (!running_is(workflow, "compensating"))
		running_move(workflow, "roll back", NULL);
	running_cancel_jobs(workflow);
	gate_run(&workflow_give_up_steps, EXPECT_ANY, gate_uuid(&workflow->id), gate_text(GIVEN_UP),
			 gate_timestamptz(clock_wall()));
	compensate(workflow);
}

/* onboarding_recover(workflow uuid, action text) → tenancy.workflow */
TENANCY_FUNCTION(onboarding_recover)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "workflow");
	char *action = required_text(fcinfo, 1, "action");
	bool is_retry = strcmp(action, "retry") == 0;
	bool is_skip = strcmp(action, "skip") == 0;
	bool is_going_back;
	Running workflow;

	context_require_none("an onboarding");
	if (!is_retry && !is_skip && strcmp(action, "rollback") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid action \"%s\"", action),
				errhint("Possible: \"retry\", \"skip\" and \"rollback\"."));
	workflow = running_lock(id);
	is_going_back =
		running_is(&workflow, "compensating") || running_is(&workflow, "compensation_failed");
	if (!is_going_back && !running_is(&workflow, "running") && !running_is(&workflow, "failed"))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the workflow is %s", workflow.state));
	if (is_going_back && is_skip)
	{
		refuse_at_work(&workflow);
		gate_run(&workflow_undone_by_hand, EXPECT_ANY, gate_uuid(id));
	}
	if (is_going_back || (!is_retry && !is_skip))
		roll_back(&workflow);
	else
		recover_steps(&workflow, is_skip);
	PG_RETURN_DATUM(workflow_row_of(id));
}
