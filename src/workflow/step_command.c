/*
 * workflow/step_command.c
 *		Steps that a command does, outside of the database.
 *
 * The command is one of tenancy.command_file; what it is to do is its parameter "action".  It
 * is done and then checked in one job, which the step's policy tries again, so that what is
 * done must bear to be done again; the job that undoes it is another.
 */
#include "postgres.h"

#include "core/id.h"
#include "core/json.h"
#include "job/command.h"
#include "job/queue.h"
#include "job/retry.h"
#include "workflow/engine.h"

#define COMMAND_KIND "workflow.command"
#define COMMAND_TIMEOUT_SECONDS (10 * SECS_PER_MINUTE)

pg_uuid_t *
step_command_put(const Running *workflow, const Jsonb *step, bool is_undo, const Jsonb *input)
{
	Jsonb *command = json_member(step, "command");
	char *action = json_text(command, is_undo ? "undo" : "do");
	JobRequest request = {
		.kind = COMMAND_KIND,
		.tenant = workflow->tenant,
		.priority = JOB_MIDDLE_PRIORITY,
		.timeout_seconds = json_int32(step, "timeout_seconds", 0),
		.retry = json_member(step, "retry"),
	};
	JsonBuilder arguments;

	if (action == NULL && is_undo)
		return NULL;
	command_require(json_text(command, "name"));
	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(&workflow->id));
	json_put_text(&arguments, "step", json_text(step, "id"));
	json_put_text(&arguments, "command", json_text(command, "name"));
	json_put_text(&arguments, "action", action == NULL ? "do" : action);
	json_put_text(&arguments, "check", is_undo ? NULL : json_text(command, "check"));
	json_put_bool(&arguments, "retryable", is_undo || json_bool(step, "retryable", true));
	json_put_jsonb(&arguments, "retry", request.retry);
	json_put_jsonb(&arguments, "input", input);
	request.arguments = json_end(&arguments);
	return job_put(&request);
}

static JobOutcome
run_command(const JobTask *task)
{
	const char *actions[] = {
		json_text(task->arguments, "action"),
		json_text(task->arguments, "check"),
		NULL,
	};

	return command_perform_actions(task, json_text(task->arguments, "command"),
								   json_member(task->arguments, "input"), actions);
}

static void
settle_command(const JobTask *task, JobOutcome *outcome)
{
	RetryPolicy policy = retry_read(json_member(task->arguments, "retry"));

	if (outcome->error != NULL)
	{
		command_judge_failure(task, outcome, &policy);
		outcome->is_final |= !json_bool(task->arguments, "retryable", true);
		if (!outcome->is_final)
			return;
	}
	workflow_step_end(id_parse(json_text(task->arguments, "workflow")),
					  json_text(task->arguments, "step"), task->id, command_answers(outcome),
					  outcome->error);
}

static const JobKind command_kind = {
	.name = COMMAND_KIND,
	.perform_outside = run_command,
	.settle = settle_command,
	.timeout_seconds = COMMAND_TIMEOUT_SECONDS,
	.description = "runs the command of a step of a workflow",
};

void
step_command_init(void)
{
	job_kind_register(&command_kind);
}
