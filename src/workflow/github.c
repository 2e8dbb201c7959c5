/*
 * workflow/github.c
 *		The step that connects a tenant to GitHub.
 *
 * What a user gives is judged by its form at once.  Where the server's operator has a command
 * "github" (recipes/github), it then asks GitHub whether the installation is one of the
 * application's, and the step waits for the answer; without it the connection is as the user said.
 * Of the secret of the webhook a digest is kept.
 *
 * The number of an installation is no secret, and that it exists is no proof that the user has a
 * part in it: an installation belongs to one tenant at most, and to the account that the request
 * for the onboarding names in "github_account", if it does.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "crypto/digest.h"
#include "job/command.h"
#include "job/queue.h"
#include "workflow/workflow.h"

#include "utils/builtins.h"

GATE_LOOKUP(
	github_holder,
	"SELECT FROM tenancy.tenant t"
	" WHERE t.configuration #>> '{integrations,github,installation_id}' = $1 AND t.id <> $2",
	TEXTOID, UUIDOID);

#define GITHUB_COMMAND "github"
#define GITHUB_KIND "github.verify"
#define GITHUB_TIMEOUT_SECONDS (2 * SECS_PER_MINUTE)
#define GITHUB_RETRY "{\"max_attempts\": 8, \"initial_seconds\": 5, \"max_seconds\": 600}"
#define SHORTEST_WEBHOOK_SECRET 16

static Jsonb *
connection(const Jsonb *installation, const char *digest, const Jsonb *seen)
{
	JsonBuilder github;

	json_begin(&github);
	json_put_jsonb(&github, "installation_id", installation);
	json_put_text(&github, "webhook_secret_digest", digest);
	json_put_bool(&github, "is_installed", seen != NULL);
	if (seen != NULL)
	{
		json_put_time(&github, "checked_at", clock_wall());
		json_put_jsonb(&github, "account", json_member(seen, "account"));
	}
	return json_end(&github);
}

/* GitHub's ids are positive integers; its documentation asks for a secret with high entropy. */
static char *
require_form(const StepTask *task)
{
	Numeric installation = json_numeric(task->data, "installation_id");
	char *secret = json_text(task->data, "webhook_secret");
	Digest digest;

	if (installation == NULL || numeric_compare(installation, numeric_from_int(1)) < 0 ||
		strchr(numeric_text(installation), '.') != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"installation_id\" must be a positive integer"));
	if (secret == NULL || strlen(secret) < SHORTEST_WEBHOOK_SECRET)
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("\"webhook_secret\" must have %d characters at least", SHORTEST_WEBHOOK_SECRET));
	/* An index keeps what two do at once apart. */
	if (gate_run(&github_holder, EXPECT_ANY, gate_text(numeric_text(installation)),
				 gate_uuid(task->tenant))
			->count > 0)
		ereport(
			ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
			errmsg("installation %s is connected to another tenant", numeric_text(installation)));
	digest_begin(&digest);
	digest_add_text(&digest, secret);
	return digest_hex(digest_end(&digest));
}

Jsonb *
github_connect(const StepTask *task)
{
	char *digest = require_form(task);
	Jsonb *installation = json_member(task->data, "installation_id");
	JobRequest request = {
		.kind = GITHUB_KIND,
		.tenant = task->tenant,
		.priority = JOB_MIDDLE_PRIORITY,
	};
	JsonBuilder arguments;
	Jsonb *result;

	if (!command_exists(GITHUB_COMMAND))
	{
		result = connection(installation, digest, NULL);
		integration_put(task->tenant, "github", result);
		return result;
	}
	json_begin(&arguments);
	json_put_text(&arguments, "workflow", id_text(task->workflow));
	json_put_text(&arguments, "step", task->step);
	json_put_jsonb(&arguments, "installation_id", installation);
	json_put_text(&arguments, "webhook_secret_digest", digest);
	json_put_text(&arguments, "account", json_text(task->request, "github_account"));
	request.arguments = json_end(&arguments);
	*task->waits_for = job_put(&request);
	return NULL;
}

Jsonb *
github_disconnect(const StepTask *task)
{
	integration_put(task->tenant, "github", NULL);
	return NULL;
}

static JobOutcome
ask_github(const JobTask *task)
{
	static const char *const actions[] = {"check", NULL};
	JsonBuilder input;

	json_begin(&input);
	json_put_text(&input, "tenant", id_text(task->tenant));
	json_put_jsonb(&input, "installation_id", json_member(task->arguments, "installation_id"));
	json_put_text(&input, "account", json_text(task->arguments, "account"));
	return command_perform_actions(task, GITHUB_COMMAND, json_end(&input), actions);
}

static void
take_answer(const JobTask *task, JobOutcome *outcome)
{
	RetryPolicy policy = retry_read(json_parse(GITHUB_RETRY));
	Jsonb *result = NULL;

	if (outcome->error != NULL)
	{
		command_judge_failure(task, outcome, &policy);
		if (!outcome->is_final)
			return;
	}
	else
	{
		result = connection(json_member(task->arguments, "installation_id"),
							json_text(task->arguments, "webhook_secret_digest"),
							json_member(command_answers(outcome), "check"));
		integration_put(task->tenant, "github", result);
	}
	workflow_step_end(id_parse(json_text(task->arguments, "workflow")),
					  json_text(task->arguments, "step"), task->id, result, outcome->error);
}

static const JobKind github_kind = {
	.name = GITHUB_KIND,
	.perform_outside = ask_github,
	.settle = take_answer,
	.timeout_seconds = GITHUB_TIMEOUT_SECONDS,
	.retry = GITHUB_RETRY,
	.description = "asks GitHub whether an installation is one of the application's",
};

void
github_init(void)
{
	job_kind_register(&github_kind);
}
