/*
 * workflow/workflow.h
 *		Workflows: steps that depend on each other, by a definition of a version.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* What the function of a step is given. */
typedef struct StepTask
{
	const pg_uuid_t *workflow;
	const pg_uuid_t *tenant; /* NULL before there is one */
	const Jsonb *request;    /* that the workflow was started with */
	const Jsonb *data;       /* that a user gave to the step; {} for none */
	const Jsonb *result;     /* of the step, for its compensation; NULL */
	const char *step;
	/* Put here the job that will finish the step, by workflow_step_end(), where its work is
	 * outside of the database and only begins. */
	pg_uuid_t **waits_for;
} StepTask;

/* The work of a step; raises where it fails.  Its result, or NULL. */
typedef Jsonb *(*StepFunction)(const StepTask *task);

typedef struct StepFunctionEntry
{
	const char *name; /* as definitions have it */
	StepFunction function;
} StepFunctionEntry;

/* From the init function of a module, in the postmaster; those of the shipped onboarding. */
extern void step_functions_register(const StepFunctionEntry *functions, int count);
extern void processors_init(void);

/* The step that connects a tenant to GitHub, and its compensation (github.c). */
extern Jsonb *github_connect(const StepTask *task);
extern Jsonb *github_disconnect(const StepTask *task);
extern void github_init(void);

/* What a tenant is integrated with, in its configuration; NULL removes. */
extern void integration_put(const pg_uuid_t *tenant, const char *name, const Jsonb *value);

/* A function of the library by its name; NULL for none. */
extern StepFunction step_function(const char *name);

/* Is the text the name of such a function, or the signature of one that may do jobs? */
extern void require_step_function(const char *name, const char *step);

/* Raise 22023 naming the fault: structure, names, cycles. */
extern void workflow_validate(const Jsonb *definition);

/* The step of a validated definition; NULL for none. */
extern Jsonb *workflow_find_step(const Jsonb *definition, const char *step);

/* Say whose workflow it is. */
extern void workflow_set_tenant(const pg_uuid_t *workflow, const pg_uuid_t *tenant);

/* Start one by its latest definition, for a tenant that there is already or NULL; its id. */
extern pg_uuid_t *workflow_begin(const char *name, const Jsonb *request, const pg_uuid_t *tenant,
								 const char *key);

/* Lock it, before the locks of what its steps work on; does nothing where there is none. */
extern void workflow_hold(const pg_uuid_t *workflow);

/*
 * The job that a step has waited for, to be done or to be undone, has ended: said in the
 * transaction that records that.  "error" is NULL when it succeeded.  Does nothing where the
 * step waits for it no more.
 */
extern void workflow_step_end(const pg_uuid_t *workflow, const char *step, const pg_uuid_t *job,
							  const Jsonb *result, const char *error);

/* In the postmaster, from _PG_init. */
extern void workflow_init(void);
