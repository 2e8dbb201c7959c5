/*
 * workflow/engine.h
 *		What the files of the engine know of each other.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "workflow/workflow.h"

#define STEP_KIND "workflow.step"

/* A workflow whose row is locked. */
typedef struct Running
{
	pg_uuid_t id;
	char *state;
	pg_uuid_t *tenant;
	Jsonb *request;
	Jsonb *definition;
} Running;

/* Raises 42704 where there is none; running_find() says so. */
extern Running running_lock(const pg_uuid_t *id);
extern bool running_find(const pg_uuid_t *id, Running *workflow);
extern bool running_is(const Running *workflow, const char *state);

/* Raise 55000 where the state has no such event. */
extern void running_require_event(const Running *workflow, const char *event);
extern void running_move(Running *workflow, const char *event, const char *error);
extern void running_tell(const Running *workflow, const char *event, const char *step,
						 const char *error);

/* Begin the system steps that may; complete the workflow where nothing is left. */
extern void running_advance(Running *workflow);

/* Steps that are neither completed nor skipped, in order. */
extern GateRows *running_open_steps(const Running *workflow);

/* Jobs of steps that are not at work outside of the database are no more. */
extern void running_cancel_jobs(const Running *workflow);

extern void step_finish(const Running *workflow, const char *step, const char *state,
						const Jsonb *result, const char *error);

/* "state" until the job is done, which workflow_step_end() tells; "input" is NULL to keep it. */
extern void step_wait(const Running *workflow, const char *step, const char *state,
					  const pg_uuid_t *job, const Jsonb *input);

extern StepTask step_task(const Running *workflow, const char *step, const Jsonb *data,
						  pg_uuid_t **waits_for);
extern Jsonb *step_call(const char *function, const StepTask *task);

/* What a command without a processor is given. */
extern Jsonb *step_arguments(const StepTask *task);

/* A job that runs the command of a step, to do it or to undo it; NULL: no such action. */
extern pg_uuid_t *step_command_put(const Running *workflow, const Jsonb *step, bool is_undo,
								   const Jsonb *input);
extern void step_command_init(void);

extern Datum workflow_row_of(const pg_uuid_t *workflow);

/* Undo what is left, the last step first, until one waits for its job. */
extern void compensate(Running *workflow);

/* The same in a job. */
extern void compensation_put(const Running *workflow);
extern Jsonb *compensation_perform(const JobTask *task);
