/*
 * provision/provision.c
 *		Rows of tenancy.provision, and the jobs that make them true.
 *
 * What is in the database is done with the request; what is outside is done by a command, in
 * a job that does and then checks, or undoes, and may run more than once.  Its end and the new
 * state of the row are one transaction, with the step of the workflow that waits for it.
 *
 * Locks: the workflow first, then all rows of the tenant in order, then jobs.
 */
#include "postgres.h"

#include "core/attempt.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/id.h"
#include "core/state.h"
#include "job/command.h"
#include "job/outbox.h"
#include "job/queue.h"
#include "job/retry.h"
#include "privacy/purge.h"
#include "provision/provision.h"
#include "workflow/workflow.h"

#define PROVISION_KIND "provision.run"
#define WATCH_KIND "provision.check"
#define TIMEOUT_SECONDS (15 * SECS_PER_MINUTE)
#define MAX_LOOKED_AFTER 1000
#define LOOK_AGAIN_US (2 * USECS_PER_SEC)

/* Names and certificates take their time to spread: an hour of tries. */
#define WORK_RETRY "{\"max_attempts\": 15, \"initial_seconds\": 1, \"max_seconds\": 600}"
#define CHECK_RETRY "{\"max_attempts\": 3, \"initial_seconds\": 5, \"max_seconds\": 60}"

#define ROW_COLUMNS                                                                                \
	"p.component, p.name, p.state, p.spec, p.input, p.holdings, p.evidence, p.job_id,"             \
	" EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = p.job_id), p.workflow_id, p.step"

GATE_STATEMENT(
	provision_insert,
	"INSERT INTO tenancy.provision (tenant_id, component, name, state, spec, requested_at)"
	" VALUES ($1, $2, $3, 'pending', $4, $5) ON CONFLICT DO NOTHING",
	UUIDOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(provision_lock,
			   "SELECT " ROW_COLUMNS " FROM tenancy.provision p WHERE p.tenant_id = $1"
			   " ORDER BY p.component, p.name FOR UPDATE OF p",
			   UUIDOID);
GATE_STATEMENT(provision_ask,
			   "UPDATE tenancy.provision p SET state = $4, spec = $5, input = $6, holdings = $7,"
			   "       evidence = $8, workflow_id = $9, step = $10, requested_at = $11,"
			   "       finished_at = NULL, error = NULL"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID, UUIDOID,
			   TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(provision_set_job,
			   "UPDATE tenancy.provision p SET job_id = $4"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID, UUIDOID);
GATE_STATEMENT(provision_move,
			   "UPDATE tenancy.provision p SET state = $4, error = $5,"
			   "       evidence = coalesce(p.evidence, '{}') || coalesce($6, '{}'),"
			   "       finished_at = CASE WHEN $4 = 'removing' THEN NULL ELSE $7 END,"
			   "       checked_at = CASE WHEN $4 = 'active' THEN $7 ELSE p.checked_at END,"
			   "       holdings = CASE WHEN $4 = 'removed' THEN NULL ELSE p.holdings END"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(provision_set_holdings,
			   "UPDATE tenancy.provision p SET holdings = $4"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID, JSONBOID);
GATE_STATEMENT(provision_note_error,
			   "UPDATE tenancy.provision p SET error = $4"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID);
GATE_STATEMENT(provision_cancel_job,
			   "DELETE FROM tenancy.job_pending j WHERE j.id = $1 AND j.lease_until IS NULL",
			   UUIDOID);
GATE_STATEMENT(provision_get,
			   "SELECT p FROM tenancy.provision p"
			   " WHERE p.tenant_id = $1 AND p.component = $2 AND p.name = $3",
			   UUIDOID, TEXTOID, TEXTOID);
GATE_STATEMENT(provision_tenants_due,
			   "SELECT DISTINCT p.tenant_id FROM tenancy.provision p"
			   " WHERE p.state IN ('active', 'drifted') AND p.checked_at < $1 - interval '1 day'"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = p.job_id)"
			   " LIMIT $2",
			   TIMESTAMPTZOID, INT4OID);

static const StateMove moves[] = {
	{"pending", "request", "pending"},        {"active", "request", "pending"},
	{"drifted", "request", "pending"},        {"failed", "request", "pending"},
	{"removal_failed", "request", "pending"}, {"removed", "request", "pending"},
	{"pending", "succeed", "active"},         {"pending", "fail", "failed"},
	{"active", "succeed", "active"},          {"active", "fail", "drifted"},
	{"drifted", "succeed", "active"},         {"drifted", "fail", "drifted"},
	{"pending", "remove", "removing"},        {"active", "remove", "removing"},
	{"drifted", "remove", "removing"},        {"failed", "remove", "removing"},
	{"removal_failed", "remove", "removing"}, {"removing", "remove", "removing"},
	{"removing", "succeed", "removed"},       {"removing", "fail", "removal_failed"},
};

static StateMachine provision_states = {
	.name = "provision",
	.table = "tenancy.provision",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const EventType event_types[] = {
	{"tenant.provision.active", 1, "something outside of the database is there for a tenant"},
	{"tenant.provision.drifted", 1, "it is no longer as it should be"},
	{"tenant.provision.failed", 1, "it could not be provided, and needs a human"},
	{"tenant.provision.removed", 1, "it is gone"},
	{"tenant.provision.removal_failed", 1, "it could not be removed, and needs a human"},
};

/* What a job is for; it stands in its arguments. */
typedef enum Action
{
	ACTION_DO,
	ACTION_CHECK,
	ACTION_UNDO
} Action;

static const char *const action_names[] = {
	[ACTION_DO] = "do",
	[ACTION_CHECK] = "check",
	[ACTION_UNDO] = "undo",
};

/* All rows of a tenant, locked. */
typedef struct ProvisionRows
{
	int count;
	Provision *rows;
} ProvisionRows;

static ProvisionRows
lock_rows(const pg_uuid_t *tenant)
{
	GateRows *found = gate_run(&provision_lock, EXPECT_ANY, gate_uuid(tenant));
	ProvisionRows result = {(int) found->count, palloc0(sizeof(Provision) * Max(found->count, 1))};

	for (int i = 0; i < result.count; i++)
		result.rows[i] = (Provision){
			.tenant = *tenant,
			.component = row_text(found, i, 0),
			.name = row_text(found, i, 1),
			.state = row_text(found, i, 2),
			.spec = row_jsonb(found, i, 3),
			.input = row_jsonb(found, i, 4),
			.holdings = row_jsonb(found, i, 5),
			.evidence = row_jsonb(found, i, 6),
			.job = row_uuid(found, i, 7),
			.has_job = row_bool(found, i, 8),
			.workflow = row_uuid(found, i, 9),
			.step = row_text(found, i, 10),
		};
	return result;
}

static Provision *
find_row(const ProvisionRows *rows, const char *component, const char *name)
{
	for (int i = 0; i < rows->count; i++)
	{
		if (strcmp(rows->rows[i].component, component) == 0 &&
			strcmp(rows->rows[i].name, name) == 0)
			return &rows->rows[i];
	}
	return NULL;
}

static char *
title(const Provision *row)
{
	return psprintf("%s \"%s\"", row->component, row->name);
}

Datum
provision_row(const pg_uuid_t *tenant, const char *component, const char *name)
{
	return row_datum(gate_run(&provision_get, EXPECT_ONE, gate_uuid(tenant), gate_text(component),
							  gate_text(name)),
					 0, 0);
}

static void
tell(const Provision *row, const char *error)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "component", row->component);
	json_put_text(&payload, "name", row->name);
	json_put_text(&payload, "error", error);
	(void) outbox_put(&row->tenant, psprintf("tenant.provision.%s", row->state),
					  json_end(&payload));
}

static void
move(Provision *row, const char *event, const Jsonb *evidence, const char *error)
{
	const char *to = state_after(&provision_states, row->state, event, title(row));
	bool is_other = strcmp(row->state, to) != 0;

	gate_run(&provision_move, EXPECT_ONE, gate_uuid(&row->tenant), gate_text(row->component),
			 gate_text(row->name), gate_text(to), gate_text(error), gate_jsonb(evidence),
			 gate_timestamptz(clock_wall()));
	row->state = pstrdup(to);
	if (is_other && strcmp(to, "removing") != 0)
		tell(row, error);
}

static void
refuse_busy(const Provision *row)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("%s of the tenant is being worked on", title(row)),
			errdetail("It is %s.", row->state), errhint("Try again when that is finished."));
}

/* Its job is no more, unless it is at work just now. */
static void
stop_job(const Provision *row)
{
	if (row->has_job &&
		gate_run(&provision_cancel_job, EXPECT_AT_MOST_ONE, gate_uuid(row->job))->count == 0)
		refuse_busy(row);
}

static const char *
retry_of(Action action)
{
	return action == ACTION_CHECK ? CHECK_RETRY : WORK_RETRY;
}

static pg_uuid_t *
put_job(Provision *row, Action action, const pg_uuid_t *after)
{
	JobRequest request = {
		.kind = PROVISION_KIND,
		.tenant = &row->tenant,
		.priority = JOB_MIDDLE_PRIORITY,
		.retry = json_parse(retry_of(action)),
		.depends_on = after,
		.dependency_count = after != NULL,
	};
	JsonBuilder arguments;

	if (component_find(row->component)->command != NULL)
		command_require(component_find(row->component)->command);
	json_begin(&arguments);
	json_put_text(&arguments, "action", action_names[action]);
	json_put_text(&arguments, "component", row->component);
	json_put_text(&arguments, "name", row->name);
	json_put_text(&arguments, "workflow", row->workflow == NULL ? NULL : id_text(row->workflow));
	json_put_jsonb(&arguments, "input", row->input);
	request.arguments = json_end(&arguments);
	row->job = job_put(&request);
	row->has_job = true;
	gate_run(&provision_set_job, EXPECT_ONE, gate_uuid(&row->tenant), gate_text(row->component),
			 gate_text(row->name), gate_uuid(row->job));
	return row->job;
}

static bool
is_same(const Jsonb *a, const Jsonb *b)
{
	return compareJsonbContainers((JsonbContainer *) &a->root, (JsonbContainer *) &b->root) == 0;
}

pg_noreturn static void
refuse_taken(const ProvisionRequest *request)
{
	ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
			errmsg("%s \"%s\" is another tenant's", request->component->name, request->name));
}

pg_uuid_t *
provision_put(ProvisionRequest *request)
{
	const pg_uuid_t *tenant = &request->tenant->id;
	ProvisionRows rows;
	Provision *row;
	const char *state;

	registry_require_active(request->tenant);
	if (request->component->is_of_domain &&
		host_owner(request->tenant, request->name) == HOST_OF_ANOTHER)
		refuse_taken(request);
	gate_run(&provision_insert, EXPECT_ANY, gate_uuid(tenant), gate_text(request->component->name),
			 gate_text(request->name), gate_jsonb(request->spec), gate_timestamptz(clock_wall()));
	rows = lock_rows(tenant);
	row = find_row(&rows, request->component->name, request->name);
	if (row == NULL)
		refuse_taken(request);
	if (is_same(row->spec, request->spec) &&
		(strcmp(row->state, "active") == 0 ||
		 (strcmp(row->state, "pending") == 0 && row->has_job && request->workflow == NULL)))
		return NULL;
	if (strcmp(row->state, "removing") == 0)
		refuse_busy(row);
	stop_job(row);

	state = state_after(&provision_states, row->state, "request", title(row));
	request->holdings = row->holdings;
	row->input = request->component->prepare(request);
	row->workflow = unconstify(pg_uuid_t *, request->workflow);
	row->state = pstrdup(state);
	gate_run(&provision_ask, EXPECT_ONE, gate_uuid(tenant), gate_text(row->component),
			 gate_text(row->name), gate_text(state), gate_jsonb(request->spec),
			 gate_jsonb(row->input), gate_jsonb(request->holdings), gate_jsonb(request->evidence),
			 gate_uuid(request->workflow), gate_text(request->step),
			 gate_timestamptz(clock_wall()));
	row->holdings = request->holdings;
	if (row->input != NULL || request->component->await != NULL)
		return put_job(row, ACTION_DO, NULL);
	move(row, "succeed", NULL, NULL);
	return NULL;
}

void
provision_hold(Provision *row, Jsonb *holdings)
{
	gate_run(&provision_set_holdings, EXPECT_ONE, gate_uuid(&row->tenant),
			 gate_text(row->component), gate_text(row->name), gate_jsonb(holdings));
	row->holdings = holdings;
}

/* What is in the database goes with the end of it. */
static void
release(void *argument)
{
	const Provision *row = argument;
	const Component *component = component_find(row->component);

	if (component->release != NULL && row->holdings != NULL)
		component->release(row);
}

static void
end_removal(Provision *row, const Jsonb *evidence)
{
	ErrorData *error = attempt("releasing what was provisioned", release, row);

	if (error == NULL)
		move(row, "succeed", evidence, NULL);
	else
		move(row, "fail", evidence, error->message);
}

/* The job that removes it, after another; NULL where none is needed. */
static pg_uuid_t *
take_back(Provision *row, const pg_uuid_t *after)
{
	/* Being removed by a job that is not finished. */
	if (strcmp(row->state, "removing") == 0 && row->has_job)
		return row->job;
	stop_job(row);
	move(row, "remove", NULL, NULL);
	if (row->input != NULL)
		return put_job(row, ACTION_UNDO, after);
	end_removal(row, NULL);
	return NULL;
}

static int
compare_rows(const void *a, const void *b)
{
	return component_order(((const Provision *) b)->component) -
		   component_order(((const Provision *) a)->component);
}

int
provision_take_back(const pg_uuid_t *tenant, const char *component, const char *name)
{
	ProvisionRows rows = lock_rows(tenant);
	const pg_uuid_t *last = NULL;
	int count = 0;

	qsort(rows.rows, rows.count, sizeof(Provision), compare_rows);
	for (int i = 0; i < rows.count; i++)
	{
		Provision *row = &rows.rows[i];
		pg_uuid_t *job;

		if ((component != NULL && strcmp(component, row->component) != 0) ||
			(name != NULL && strcmp(name, row->name) != 0) || strcmp(row->state, "removed") == 0)
			continue;
		job = take_back(row, last);
		last = job == NULL ? last : job;
		count++;
	}
	return count;
}

/*
 * Nothing of a tenant that is purged may stay outside.  What could not be removed waits for a
 * human, who calls provision_remove().
 */
static bool
clear_for_purge(const Purge *purge)
{
	const pg_uuid_t *tenant = &purge->tenant->id;
	ProvisionRows rows = lock_rows(tenant);
	bool is_clear = true;
	bool has_failed = false;
	bool is_at_work = true;

	for (int i = 0; i < rows.count; i++)
	{
		const Provision *row = &rows.rows[i];

		if (strcmp(row->state, "removed") == 0)
			continue;
		is_clear = false;
		has_failed |= strcmp(row->state, "removal_failed") == 0;
		is_at_work &= strcmp(row->state, "removing") == 0 && row->has_job;
	}
	if (!is_at_work && !has_failed)
		(void) provision_take_back(tenant, NULL, NULL);
	for (int i = 0; i < rows.count && is_clear; i++)
		certificate_note(purge, "provision", title(&rows.rows[i]), -1, -1);
	return is_clear;
}

pg_uuid_t *
provision_take_back_step(const pg_uuid_t *tenant, const pg_uuid_t *workflow, const char *step)
{
	ProvisionRows rows = lock_rows(tenant);

	for (int i = 0; i < rows.count; i++)
	{
		Provision *row = &rows.rows[i];

		if (row->workflow != NULL && id_equal(row->workflow, workflow) &&
			strcmp(row->step, step) == 0 && strcmp(row->state, "removed") != 0)
			return take_back(row, NULL);
	}
	return NULL;
}

/* A name of its route that is no longer the tenant's, or was never; NULL for none. */
static char *
foreign_host(const Provision *row)
{
	HostOwner owner;

	return row->input == NULL || !json_has(row->input, "hosts")
			   ? NULL
			   : host_not_own(registry_get(&row->tenant), json_member(row->input, "hosts"), &owner);
}

int
provision_look_after(const pg_uuid_t *tenant, const char *component, bool repair)
{
	ProvisionRows rows = lock_rows(tenant);
	int count = 0;

	for (int i = 0; i < rows.count; i++)
	{
		Provision *row = &rows.rows[i];
		char *host;

		if ((component != NULL && strcmp(component, row->component) != 0) || row->has_job ||
			(strcmp(row->state, "active") != 0 && strcmp(row->state, "drifted") != 0))
			continue;
		count++;
		/* No step waits for it any more. */
		row->workflow = NULL;
		host = foreign_host(row);
		if (host != NULL)
			move(row, "fail", NULL, psprintf("host \"%s\" is not the tenant's", host));
		else if (row->input == NULL && component_find(row->component)->await == NULL)
			move(row, "succeed", NULL, NULL);
		else
			put_job(row, repair ? ACTION_DO : ACTION_CHECK, NULL);
	}
	return count;
}

static JobOutcome
run(const JobTask *task)
{
	const Component *component = component_find(json_text(task->arguments, "component"));
	char *action = json_text(task->arguments, "action");
	const char *actions[] = {action, strcmp(action, "do") == 0 ? "check" : NULL, NULL};

	/* settle() looks how far others are. */
	if (component->await != NULL)
		return (JobOutcome){.document = json_empty_object()};
	return command_perform_actions(task, component->command, json_member(task->arguments, "input"),
								   actions);
}

typedef struct Waiting
{
	Provision *row;
	bool is_check;
	Progress progress;
	Jsonb *evidence;
} Waiting;

static void
look_how_far(void *argument)
{
	Waiting *waiting = argument;

	waiting->progress = component_find(waiting->row->component)
							->await(waiting->row, waiting->is_check, &waiting->evidence);
}

/* False: the work of others is not finished, and the job comes back. */
static bool
await_others(Provision *row, JobOutcome *outcome, Action action, Jsonb **evidence)
{
	Waiting waiting = {.row = row, .is_check = action == ACTION_CHECK};
	ErrorData *error = attempt("looking how far it is", look_how_far, &waiting);

	*evidence = waiting.evidence;
	if (error != NULL)
	{
		outcome->error = error->message;
		outcome->is_final = true;
		return true;
	}
	if (waiting.progress == PROGRESS_WAITING)
		outcome->put_off_until = clock_wall() + LOOK_AGAIN_US;
	return waiting.progress == PROGRESS_DONE;
}

static void
end_job(const JobTask *task, JobOutcome *outcome, Action action)
{
	char *workflow = json_text(task->arguments, "workflow");
	Jsonb *evidence = command_answers(outcome);
	ProvisionRows rows;
	Provision *row;
	const char *error;

	if (workflow != NULL)
		workflow_hold(id_parse(workflow));
	rows = lock_rows(task->tenant);
	row = find_row(&rows, json_text(task->arguments, "component"),
				   json_text(task->arguments, "name"));
	if (row == NULL || row->job == NULL || !id_equal(row->job, task->id))
		return;
	if (component_find(row->component)->await != NULL &&
		!await_others(row, outcome, action, &evidence))
		return;
	error = outcome->error;
	if (error != NULL && !outcome->is_final)
	{
		gate_run(&provision_note_error, EXPECT_ONE, gate_uuid(&row->tenant),
				 gate_text(row->component), gate_text(row->name), gate_text(error));
		return;
	}
	if (error != NULL)
		move(row, "fail", evidence, error);
	else if (action != ACTION_UNDO)
		move(row, "succeed", evidence, NULL);
	else
	{
		end_removal(row, evidence);
		if (strcmp(row->state, "removed") != 0)
			error = "what it has in the database could not be removed";
	}
	if (workflow != NULL)
		workflow_step_end(id_parse(workflow), row->step, task->id, evidence, error);
}

static void
settle(const JobTask *task, JobOutcome *outcome)
{
	char *name = json_text(task->arguments, "action");
	Action action = strcmp(name, "do") == 0     ? ACTION_DO
					: strcmp(name, "undo") == 0 ? ACTION_UNDO
												: ACTION_CHECK;
	RetryPolicy policy = retry_read(json_parse(retry_of(action)));

	if (outcome->error != NULL)
		command_judge_failure(task, outcome, &policy);
	end_job(task, outcome, action);
}

typedef struct Watch
{
	const pg_uuid_t *tenant;
	int count;
} Watch;

static void
look_after_one(void *argument)
{
	Watch *watch = argument;

	for (int i = 0; component_get(i) != NULL; i++)
		watch->count += provision_look_after(watch->tenant, component_get(i)->name,
											 component_get(i)->is_renewed);
}

/* What has not been looked at for a day. */
static char *
look_after_all(void)
{
	GateRows *tenants = gate_run(&provision_tenants_due, EXPECT_ANY, gate_timestamptz(clock_now()),
								 gate_int32(MAX_LOOKED_AFTER));
	Watch watch = {0};
	int failed = 0;

	for (int64 i = 0; i < tenants->count; i++)
	{
		watch.tenant = row_uuid(tenants, i, 0);
		failed += attempt("looking after a tenant", look_after_one, &watch) != NULL;
	}
	return psprintf("{\"checked\": %d, \"failed\": %d}", watch.count, failed);
}

static const JobKind run_kind = {
	.name = PROVISION_KIND,
	.perform_outside = run,
	.settle = settle,
	.timeout_seconds = TIMEOUT_SECONDS,
	.description = "provides, checks or removes what a tenant has outside of the database",
};

static const JobKind watch_kind = {
	.name = WATCH_KIND,
	.run = look_after_all,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = 5 * SECS_PER_MINUTE,
	.description = "has checked what was not for a day, and renews certificates",
};

void
provision_init(void)
{
	state_machine_register(&provision_states);
	event_types_register(event_types, lengthof(event_types));
	job_kind_register(&run_kind);
	job_kind_register(&watch_kind);
	provision_steps_init();
	purge_set_clearer(clear_for_purge);
}
