/*
 * job/command.c
 *		Commands: what jobs do outside of the database.
 *
 * Which commands there are stands in a file that only the server's operator writes; a job
 * names one and gives its parameters.  There is no shell: a command is a vector of arguments,
 * and a parameter never becomes more than a part of one of them.  The input of the job comes
 * as JSON on standard input.  A command has a process group of its own, which is killed when
 * it takes too long; its output is capped.
 *
 *	{"dns.update": {"argv": ["/usr/bin/nsupdate", "-k", "${key}"], "timeout_seconds": 30,
 *	                "environment": {"LANG": "C"}}}
 *
 * Exit status 0 is success, 75 (EX_TEMPFAIL of sysexits.h) a failure to be tried again; any
 * other is final, and so is death by a signal that is not our own.
 */
#include "postgres.h"

#include "core/attempt.h"
#include "core/compat.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "job/command.h"
#include "job/kind.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMAND_KIND "command.run"
#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_ARGUMENTS 100
#define MAX_COMMAND_NAME 100
#define MAX_SAID_BYTES 300
#define MAX_OUTPUT_BYTES (64 * 1024)
#define MAX_EVIDENCE_BYTES 4000
#define DEFAULT_TIMEOUT_SECONDS 60
#define POLL_MS 100
#define GRACE_US (2 * USECS_PER_SEC)
#define STATUS_NO_EXEC 127
#define STATUS_TRY_AGAIN 75

static const JsonRule argument_rule = {.type = JSON_TEXT, .max_length = 4096};

static const JsonRule command_rules[] = {
	{.name = "argv",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &argument_rule,
	 .max_length = MAX_ARGUMENTS},
	{.name = "timeout_seconds", .type = JSON_INTEGER, .minimum = "1", .maximum = "86400"},
	{.name = "environment", .type = JSON_OBJECT},
	{0},
};

static const JsonRule argument_rules[] = {
	{.name = "command", .type = JSON_TEXT, .is_required = true, .max_length = MAX_COMMAND_NAME},
	{.name = "parameters", .type = JSON_OBJECT},
	{.name = "input", .type = JSON_ANY},
	{0},
};

typedef struct Command
{
	char **argv;
	char **environment;
	int timeout_seconds;
	char *input;
} Command;

/* A process that has been started, and what it has said. */
typedef struct Child
{
	pid_t pid;
	int in;
	int out[2]; /* standard output and error */
	StringInfoData said[2];
	bool is_capped;
	bool has_timed_out;
} Child;

static void
tell_file(void *argument)
{
	errcontext("file \"%s\" of tenancy.command_file", setting_command_file);
}

static Jsonb *
read_commands(void)
{
	StringInfoData content;
	char buffer[8192];
	ErrorContextCallback context = {0};
	Jsonb *commands;
	size_t length;
	FILE *file;

	if (*setting_command_file == '\0')
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("there are no commands"),
				errhint("The setting tenancy.command_file names a file with them."));
	file = AllocateFile(setting_command_file, "r");
	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(),
				errmsg("could not open file \"%s\": %m", setting_command_file));
	initStringInfo(&content);
	while ((length = fread(buffer, 1, sizeof(buffer), file)) > 0 && content.len < MAX_FILE_BYTES)
		appendBinaryStringInfo(&content, buffer, (int) length);
	FreeFile(file);
	context.callback = tell_file;
	context.previous = error_context_stack;
	error_context_stack = &context;
	commands = json_parse(content.data);
	error_context_stack = context.previous;
	return commands;
}

/* A member as text: numbers and booleans as JSON writes them.  "what" says whose it is. */
static char *
member_text(const Jsonb *object, const char *name, const char *what)
{
	Jsonb *value = json_member(object, name);
	char *result;

	if (value == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s \"%s\" of the command is missing", what, name));
	if (!JB_ROOT_IS_SCALAR(value))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s \"%s\" of the command must be a text or a number", what, name));
	result = json_text(object, name);
	return result != NULL ? result : JsonbToCString(NULL, &value->root, VARSIZE(value));
}

/*
 * One argument with its ${parameters} replaced.  It is an option only where the file says so:
 * the first parameter may be empty, and the next one decides.
 */
static char *
fill_in(const char *template, const Jsonb *parameters)
{
	StringInfoData result;
	const char *rest = template;
	const char *begin;

	initStringInfo(&result);
	while ((begin = strstr(rest, "${")) != NULL)
	{
		const char *end = strchr(begin, '}');
		char *value;

		if (end == NULL)
			break;
		value = member_text(parameters, pnstrdup(begin + 2, end - begin - 2), "parameter");
		appendBinaryStringInfo(&result, rest, (int) (begin - rest));
		appendStringInfoString(&result, value);
		rest = end + 1;
	}
	appendStringInfoString(&result, rest);
	if (*result.data == '-' && *template != '-')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a parameter of the command begins with a dash"));
	return result.data;
}

static char **
environment_of(const Jsonb *command, const JobTask *task)
{
	Jsonb *environment = json_member(command, "environment");
	int variables;
	char **names = json_member_names(environment, &variables);
	char **result = palloc0(sizeof(char *) * (variables + 4));
	int count = 0;

	result[count++] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	result[count++] = psprintf("TENANCY_JOB=%s", id_text(task->id));
	result[count++] =
		psprintf("TENANCY_TENANT=%s", task->tenant == NULL ? "" : id_text(task->tenant));
	for (int i = 0; i < variables; i++)
		result[count++] =
			psprintf("%s=%s", names[i], member_text(environment, names[i], "variable"));
	return result;
}

static Jsonb *
read_template(const char *name)
{
	Jsonb *template = json_member(read_commands(), name);

	if (template == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("command \"%s\" does not exist", name),
				errhint("The file \"%s\" has no command of that name.", setting_command_file));
	json_validate(template, command_rules, psprintf("command \"%s\"", name));
	return template;
}

void
command_require(const char *name)
{
	(void) read_template(name);
}

bool
command_exists(const char *name)
{
	return *setting_command_file != '\0' && json_member(read_commands(), name) != NULL;
}

/* What the job asks for, from the file. */
static Command
read_command(const JobTask *task, const CommandCall *call)
{
	Jsonb *template = read_template(call->name);
	Jsonb *argv = json_member(template, "argv");
	Command command;
	int count;

	count = json_element_count(argv);
	command.argv = palloc0(sizeof(char *) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(&argv->root, i);
		char *argument = pnstrdup(value->val.string.val, value->val.string.len);

		command.argv[i] = i == 0 ? argument : fill_in(argument, call->parameters);
	}
	if (count == 0 || command.argv[0][0] != '/')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("command \"%s\" does not begin with an absolute path", call->name));
	command.environment = environment_of(template, task);
	command.timeout_seconds = json_int32(template, "timeout_seconds", DEFAULT_TIMEOUT_SECONDS);
	command.input =
		call->input == NULL
			? ""
			: JsonbToCString(NULL, (JsonbContainer *) &call->input->root, VARSIZE(call->input));
	return command;
}

/* In the child: nothing of the server's may be reached from here on. */
pg_noreturn static void
become(const Command *command, int in, int out, int err)
{
	sigset_t none;

	setpgid(0, 0);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir("/") != 0)
		_exit(STATUS_NO_EXEC);
	closefrom(3);
	execve(command->argv[0], command->argv, command->environment);
	_exit(STATUS_NO_EXEC);
}

static void
begin(const Command *command, Child *child)
{
	int pipes[3][2];

	for (int i = 0; i < 3; i++)
	{
		if (pipe2(pipes[i], O_CLOEXEC) != 0)
			ereport(ERROR, errcode_for_file_access(), errmsg("could not make a pipe: %m"));
	}
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0)
		become(command, pipes[0][0], pipes[1][1], pipes[2][1]);
	setpgid(child->pid, child->pid);
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
	child->in = pipes[0][1];
	child->out[0] = pipes[1][0];
	child->out[1] = pipes[2][0];
	for (int i = 0; i < 2; i++)
	{
		initStringInfo(&child->said[i]);
		fcntl(child->out[i], F_SETFL, O_NONBLOCK);
	}
	fcntl(child->in, F_SETFL, O_NONBLOCK);
	if (child->pid < 0)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("could not start a process: %m"));
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Read what there is, once; false where there is nothing now. */
static bool
listen_to(Child *child, int stream)
{
	char buffer[4096];
	ssize_t length = read(child->out[stream], buffer, sizeof(buffer));

	if (length < 0)
	{
		if (errno != EAGAIN && errno != EINTR)
			close_fd(&child->out[stream]);
		return false;
	}
	if (length == 0)
		close_fd(&child->out[stream]);
	else if (child->said[stream].len + length <= MAX_OUTPUT_BYTES)
		appendBinaryStringInfo(&child->said[stream], buffer, (int) length);
	else
		child->is_capped = true;
	return length > 0;
}

/* Some input to it, some output from it; false when both its outputs are closed. */
static bool
exchange(Child *child, const char **input)
{
	struct pollfd fds[3] = {
		{.fd = child->out[0], .events = POLLIN},
		{.fd = child->out[1], .events = POLLIN},
		{.fd = child->in, .events = POLLOUT},
	};

	if (**input == '\0')
		close_fd(&child->in);
	fds[2].fd = child->in;
	(void) poll(fds, 3, POLL_MS);
	if (child->in >= 0 && fds[2].revents != 0)
	{
		ssize_t written = write(child->in, *input, strlen(*input));

		if (written > 0)
			*input += written;
		else if (errno != EAGAIN && errno != EINTR)
			close_fd(&child->in);
	}
	for (int i = 0; i < 2; i++)
	{
		if (child->out[i] >= 0 && fds[i].revents != 0)
			(void) listen_to(child, i);
	}
	return child->out[0] >= 0 || child->out[1] >= 0;
}

static void
stop(Child *child)
{
	int status;

	if (child->pid > 0)
	{
		kill(-child->pid, SIGKILL);
		(void) waitpid(child->pid, &status, 0);
		child->pid = 0;
	}
	close_fd(&child->in);
	close_fd(&child->out[0]);
	close_fd(&child->out[1]);
}

/* Until it has ended; its status.  A request to stop or to cancel kills it. */
static int
attend(const Command *command, Child *child)
{
	TimestampTz deadline = GetCurrentTimestamp() + command->timeout_seconds * (int64) USECS_PER_SEC;
	const char *input = command->input;
	bool is_open = true;
	int status;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		if (is_open)
			is_open = exchange(child, &input);
		else
			pg_usleep(10000);
		if (waitpid(child->pid, &status, WNOHANG) == child->pid)
			break;
		if (now > deadline + GRACE_US)
			kill(-child->pid, SIGKILL);
		else if (now > deadline && !child->has_timed_out)
		{
			child->has_timed_out = true;
			kill(-child->pid, SIGTERM);
		}
	}
	/* What it has left behind in its group must not outlive it. */
	kill(-child->pid, SIGKILL);
	for (int i = 0; i < 2; i++)
	{
		while (child->out[i] >= 0 && !child->is_capped && listen_to(child, i))
			;
	}
	child->pid = 0;
	stop(child);
	return status;
}

static void
put_output(JsonBuilder *builder, const char *name, StringInfo said)
{
	said->data[pg_encoding_mbcliplen(PG_UTF8, said->data, said->len, MAX_EVIDENCE_BYTES)] = '\0';
	if (pg_verify_mbstr(GetDatabaseEncoding(), said->data, strlen(said->data), true))
		json_put_text(builder, name, said->data);
}

JobOutcome
command_perform(const JobTask *task, const CommandCall *call)
{
	Command command = read_command(task, call);
	Child *child = palloc0(sizeof(Child));
	JobOutcome outcome = {0};
	JsonBuilder evidence;
	volatile int status = 0;

	begin(&command, child);
	PG_TRY();
	{
		status = attend(&command, child);
	}
	PG_CATCH();
	{
		stop(child);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (child->has_timed_out)
		outcome.error = psprintf("the command took longer than %d s", command.timeout_seconds);
	else if (WIFSIGNALED(status))
		outcome.error = psprintf("the command died of signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		outcome.error = psprintf("the command ended with status %d", WEXITSTATUS(status));
	outcome.is_final = outcome.error != NULL && !child->has_timed_out &&
					   !(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_TRY_AGAIN);
	json_begin(&evidence);
	if (WIFEXITED(status))
		json_put_int64(&evidence, "status", WEXITSTATUS(status));
	json_put_bool(&evidence, "capped", child->is_capped);
	put_output(&evidence, "output", &child->said[0]);
	put_output(&evidence, "errors", &child->said[1]);
	outcome.document = json_end(&evidence);
	return outcome;
}

JobOutcome
command_perform_actions(const JobTask *task, const char *name, const Jsonb *input,
						const char *const *actions)
{
	JobOutcome outcome = {0};
	JsonBuilder all;

	json_begin(&all);
	for (int i = 0; actions[i] != NULL && outcome.error == NULL; i++)
	{
		CommandCall call = {.name = name, .input = input};
		JsonBuilder parameters;

		json_begin(&parameters);
		json_put_text(&parameters, "action", actions[i]);
		call.parameters = json_end(&parameters);
		outcome = command_perform(task, &call);
		json_put_jsonb(&all, actions[i], outcome.document);
	}
	outcome.document = json_end(&all);
	return outcome;
}

typedef struct Parsed
{
	const char *text;
	Jsonb *result;
} Parsed;

static void
parse(void *argument)
{
	Parsed *parsed = argument;

	parsed->result = json_parse(parsed->text);
}

/* JSON where it is JSON, else a text. */
static void
put_answer(JsonBuilder *builder, const char *action, const char *said)
{
	Parsed parsed = {said == NULL ? "" : said};

	if (*parsed.text != '\0' && attempt("reading what a command said", parse, &parsed) == NULL)
		json_put_jsonb(builder, action, parsed.result);
	else
		json_put_text(builder, action, parsed.text);
}

Jsonb *
command_answers(const JobOutcome *outcome)
{
	int count;
	char **actions = json_member_names(outcome->document, &count);
	JsonBuilder answers;

	json_begin(&answers);
	for (int i = 0; i < count; i++)
		put_answer(&answers, actions[i],
				   json_text(json_member(outcome->document, actions[i]), "output"));
	return json_end(&answers);
}

char *
command_error(const JobOutcome *outcome)
{
	int count;
	char **actions = json_member_names(outcome->document, &count);
	char *said = NULL;
	char *end;

	for (int i = 0; i < count && said == NULL; i++)
	{
		Jsonb *evidence = json_member(outcome->document, actions[i]);

		/* Only the last action can have failed. */
		if (json_int32(evidence, "status", -1) != 0)
			said = json_text(evidence, "errors");
	}
	if (said == NULL)
		return outcome->error;
	end = said + strlen(said);
	while (end > said && isspace((unsigned char) end[-1]))
		*--end = '\0';
	said[pg_mbcliplen(said, strlen(said), MAX_SAID_BYTES)] = '\0';
	return *said == '\0' ? outcome->error : psprintf("%s: %s", outcome->error, said);
}

void
command_judge_failure(const JobTask *task, JobOutcome *outcome, const RetryPolicy *policy)
{
	outcome->error = command_error(outcome);
	outcome->is_final |= !retry_may_go_on(policy, task->attempt, outcome->sqlstate);
}

static JobOutcome
run_command(const JobTask *task)
{
	CommandCall call;

	json_validate(task->arguments, argument_rules, "arguments of the command");
	call = (CommandCall){
		.name = json_text(task->arguments, "command"),
		.parameters = json_member(task->arguments, "parameters"),
		.input = json_member(task->arguments, "input"),
	};
	return command_perform(task, &call);
}

static const JobKind command_kind = {
	.name = COMMAND_KIND,
	.perform_outside = run_command,
	.is_for_callers = true,
	.timeout_seconds = SECS_PER_DAY,
	.description = "runs a command of tenancy.command_file",
};

void
command_init(void)
{
	job_kind_register(&command_kind);
}
