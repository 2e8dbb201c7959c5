/*
 * backup/backup.c
 *		Backups: asking for one, and recording how it went.
 *
 * A job in the database says what is to be dumped, as it is then; a command dumps it, with no
 * transaction open; and the end of the command's job records the evidence.  A process that dies
 * meanwhile loses its claim, and the command is run again: it begins by removing what another
 * run has left.  What was given up for good is found by backup.maintain.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "core/state.h"
#include "job/command.h"
#include "job/outbox.h"
#include "job/queue.h"

#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port.h"
#include "storage/fd.h"

#define COMMAND "backup"
#define COMMAND_KIND "backup.command"
#define START_KIND "backup.start"
#define MAX_JSON_BYTES (64 * 1024 * 1024)

GATE_STATEMENT(backup_insert,
			   "INSERT INTO tenancy.backup (id, tenant_id, state, requested_at, job_id)"
			   " VALUES ($1, $2, 'requested', $3, $4)",
			   UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(backup_for_update,
			   "SELECT b.state, b.tenant_id, b.source, b.sha256 FROM tenancy.backup b"
			   " WHERE b.id = $1"
			   " FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(backup_set_state,
			   "UPDATE tenancy.backup SET state = $3, error = $4,"
			   "       started_at = CASE WHEN $3 = 'running' THEN $5 ELSE started_at END,"
			   "       finished_at = CASE WHEN $3 IN ('succeeded', 'failed')"
			   "                          THEN $5 ELSE finished_at END,"
			   "       source = CASE WHEN $3 <> 'expired' THEN source END,"
			   "       removed_at = CASE WHEN $3 = 'expired' THEN $5 ELSE removed_at END"
			   " WHERE id = $1 AND state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(backup_set_source,
			   "UPDATE tenancy.backup SET source = $2, job_id = $3 WHERE id = $1", UUIDOID,
			   JSONBOID, UUIDOID);
GATE_STATEMENT(backup_set_job, "UPDATE tenancy.backup SET job_id = $2 WHERE id = $1", UUIDOID,
			   UUIDOID);
GATE_STATEMENT(backup_evidence,
			   "SELECT b.evidence -> 'tables' FROM tenancy.backup b WHERE b.id = $1", UUIDOID);
GATE_STATEMENT(backup_set_evidence,
			   "UPDATE tenancy.backup AS b SET size_bytes = ($2 ->> 'size_bytes')::bigint,"
			   "       sha256 = $2 ->> 'sha256', evidence = $2,"
			   "       expires_at = $3 + (SELECT p.keep_for FROM tenancy.backup_policy p"
			   "                           WHERE p.tenant_id = b.tenant_id)"
			   " WHERE b.id = $1",
			   UUIDOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(backup_set_verified,
			   "UPDATE tenancy.backup AS b SET verification = $2,"
			   "       verified_at = CASE WHEN $3 IS NULL THEN $4 END, error = $3"
			   " WHERE b.id = $1",
			   UUIDOID, JSONBOID, TEXTOID, TIMESTAMPTZOID);
/* Tables whose content is not the same, or that only one side has. */
GATE_STATEMENT(backup_differences,
			   "SELECT pg_catalog.string_agg(coalesce(a.key, b.key), ', ' ORDER BY 1)"
			   "  FROM pg_catalog.jsonb_each($1) a FULL JOIN pg_catalog.jsonb_each($2) b"
			   "    ON a.key = b.key WHERE a.value IS DISTINCT FROM b.value",
			   JSONBOID, JSONBOID);
GATE_STATEMENT(backup_row, "SELECT b FROM tenancy.backup b WHERE b.id = $1", UUIDOID);
GATE_STATEMENT(backup_source,
			   "SELECT pg_catalog.to_jsonb(t) || pg_catalog.jsonb_build_object("
			   "  'schemas', coalesce((SELECT pg_catalog.jsonb_agg(s.schema_name"
			   "                                ORDER BY s.created_at, s.schema_name)"
			   "        FROM tenancy.tenant_schema s WHERE s.tenant_id = t.id), '[]'),"
			   "  'labels', coalesce((SELECT pg_catalog.jsonb_agg(s.label"
			   "                                ORDER BY s.created_at, s.schema_name)"
			   "        FROM tenancy.tenant_schema s WHERE s.tenant_id = t.id"
			   "         AND s.schema_name <> t.schema_name), '[]'),"
			   "  'shared', coalesce((SELECT pg_catalog.jsonb_agg(r.relation::text ORDER BY 1)"
			   "        FROM tenancy.tenant_table r JOIN pg_catalog.pg_class c"
			   "          ON c.oid = r.relation AND NOT c.relispartition), '[]'))"
			   "  FROM tenancy.tenant t WHERE t.id = $1",
			   UUIDOID);

#define VERIFICATION_SUFFIX ".verification.json"

static const StateMove moves[] = {
	{"requested", "start", "running"},   {"requested", "fail", "failed"},
	{"running", "succeed", "succeeded"}, {"running", "fail", "failed"},
	{"succeeded", "expire", "expiring"}, {"failed", "expire", "expiring"},
	{"expiring", "remove", "expired"},
};

static StateMachine backup_states = {
	.name = "backup",
	.table = "tenancy.backup",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const EventType event_types[] = {
	{"backup.succeed", 1, "a tenant was backed up"},
	{"backup.fail", 1, "a tenant could not be backed up"},
	{"backup.verify", 1, "a backup was restored for a drill, and all rows were there"},
	{"backup.unsound", 1, "the drill of a backup found something else than was backed up"},
};

static Datum
row(const pg_uuid_t *id)
{
	return row_datum(gate_run(&backup_row, EXPECT_ONE, gate_uuid(id)), 0, 0);
}

GateRows *
backup_get(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&backup_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("backup \"%s\" does not exist", id_text(id)));
	return rows;
}

static void
move(const pg_uuid_t *id, const char *event, const char *error)
{
	char *from = row_text(backup_get(id), 0, 0);

	gate_run(&backup_set_state, EXPECT_ONE, gate_uuid(id), gate_text(from),
			 gate_text(state_after(&backup_states, from, event, id_text(id))), gate_text(error),
			 gate_timestamptz(clock_now()));
}

static void
tell(const pg_uuid_t *tenant, const char *type, const pg_uuid_t *backup, const char *error)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "backup", id_text(backup));
	json_put_text(&payload, "error", error);
	(void) outbox_put(tenant, type, json_end(&payload));
}

void
backup_require_command(void)
{
	if (*setting_backup_directory == '\0')
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("there is no place for backups"),
				errhint("The setting tenancy.backup_directory names it."));
	command_require(COMMAND);
}

pg_uuid_t *
backup_command(const char *action, const pg_uuid_t *id, const pg_uuid_t *tenant, const Jsonb *input)
{
	JsonBuilder arguments;
	JobRequest request = {
		.kind = COMMAND_KIND,
		.tenant = tenant,
		.priority = JOB_MIDDLE_PRIORITY,
	};

	json_begin(&arguments);
	json_put_text(&arguments, "action", action);
	json_put_text(&arguments, "id", id_text(id));
	json_put_jsonb(&arguments, "input", input);
	request.arguments = json_end(&arguments);
	return job_put(&request);
}

Jsonb *
backup_input(const pg_uuid_t *backup, const pg_uuid_t *id, const Jsonb *source)
{
	GateRows *rows = backup_get(backup);
	char *bindir = pstrdup(my_exec_path);
	JsonBuilder input;

	/* The programs that belong to this server. */
	get_parent_directory(bindir);
	if (source == NULL)
		source = row_jsonb(rows, 0, 2);
	json_begin(&input);
	json_put_text(&input, "bindir", bindir);
	json_put_text(&input, "directory", setting_backup_directory);
	json_put_text(&input, "database", get_database_name(MyDatabaseId));
	json_put_text(&input, "tenant", id_text(row_uuid(rows, 0, 1)));
	json_put_text(&input, "backup", id_text(backup));
	json_put_text(&input, "id", id_text(id));
	json_put_text(&input, "sha256", row_text(rows, 0, 3));
	if (source != NULL)
	{
		json_put_jsonb(&input, "schemas", json_member(source, "schemas"));
		json_put_jsonb(&input, "shared", json_member(source, "shared"));
	}
	return json_end(&input);
}

char *
backup_path(const pg_uuid_t *tenant, const pg_uuid_t *id, const char *suffix)
{
	return psprintf("%s/%s/%s%s", setting_backup_directory, id_text(tenant), id_text(id), suffix);
}

Jsonb *
backup_read_json(const char *path)
{
	FILE *file = AllocateFile(path, PG_BINARY_R);
	StringInfoData content;
	char buffer[8192];
	size_t length;

	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path));
	initStringInfo(&content);
	while ((length = fread(buffer, 1, sizeof(buffer), file)) > 0 && content.len < MAX_JSON_BYTES)
		appendBinaryStringInfo(&content, buffer, (int) length);
	FreeFile(file);
	return json_parse(content.data);
}

pg_uuid_t *
backup_request(const pg_uuid_t *tenant)
{
	pg_uuid_t *id = id_new();
	JsonBuilder arguments;
	JobRequest request = {.kind = START_KIND, .tenant = tenant, .priority = JOB_MIDDLE_PRIORITY};

	backup_require_command();
	json_begin(&arguments);
	json_put_text(&arguments, "backup", id_text(id));
	request.arguments = json_end(&arguments);
	gate_run(&backup_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(tenant),
			 gate_timestamptz(clock_now()), gate_uuid(job_put(&request)));
	return id;
}

/* tenant_backup(tenant regtenant) → tenancy.backup */
TENANCY_FUNCTION(tenant_backup)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	context_require_none("backing up a tenant");
	(void) registry_get(tenant);
	PG_RETURN_DATUM(row(backup_request(tenant)));
}

/* The job backup.start: what there is to be dumped, now. */
static Jsonb *
start(const JobTask *task)
{
	pg_uuid_t *id = id_parse(json_text(task->arguments, "backup"));
	GateRows *rows = backup_get(id);
	pg_uuid_t *tenant = row_uuid(rows, 0, 1);
	GateRows *source = gate_run(&backup_source, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	pg_uuid_t *job;

	if (source->count == 0)
	{
		backup_fail(id, "the tenant does not exist any more");
		return NULL;
	}
	move(id, "start", NULL);
	job = backup_command("dump", id, tenant, backup_input(id, id, row_jsonb(source, 0, 0)));
	gate_run(&backup_set_source, EXPECT_ONE, gate_uuid(id), gate_jsonb(row_jsonb(source, 0, 0)),
			 gate_uuid(job));
	return NULL;
}

/* What there is of it is removed. */
void
backup_fail(const pg_uuid_t *id, const char *error)
{
	pg_uuid_t *tenant = row_uuid(backup_get(id), 0, 1);

	move(id, "fail", error);
	(void) backup_command("remove", id, tenant, backup_input(id, id, NULL));
	tell(tenant, "backup.fail", id, error);
}

static void
dumped(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome)
{
	GateRows *rows = backup_get(id);
	pg_uuid_t *tenant = row_uuid(rows, 0, 1);
	Jsonb *evidence;

	/* Another run was quicker, or it was given up. */
	if (strcmp(row_text(rows, 0, 0), "running") != 0)
		return;
	if (outcome->error != NULL)
	{
		if (!outcome->is_final)
			return;
		backup_fail(id, command_error(outcome));
		return;
	}
	evidence = backup_read_json(backup_path(tenant, id, ".json"));
	gate_run(&backup_set_evidence, EXPECT_ONE, gate_uuid(id), gate_jsonb(evidence),
			 gate_timestamptz(clock_now()));
	move(id, "succeed", NULL);
	tell(tenant, "backup.succeed", id, NULL);
}

/* backup_verify(backup uuid) → tenancy.backup */
TENANCY_FUNCTION(backup_verify)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "backup");
	GateRows *rows;
	pg_uuid_t *tenant;

	context_require_none("verifying a backup");
	rows = backup_get(id);
	tenant = row_uuid(rows, 0, 1);
	backup_require(id, row_text(rows, 0, 0));
	backup_require_command();
	(void) backup_command("verify", id, tenant, backup_input(id, id, NULL));
	PG_RETURN_DATUM(row(id));
}

void
backup_require(const pg_uuid_t *id, const char *state)
{
	if (strcmp(state, "succeeded") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("backup \"%s\" is %s", id_text(id), state),
				errhint("It must have succeeded, and its file be there."));
}

/* The drill has ended: what was restored must be what was dumped. */
static void
verified(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome)
{
	pg_uuid_t *tenant = row_uuid(backup_get(id), 0, 1);
	char *error = NULL;
	Jsonb *found = NULL;

	if (outcome->error != NULL && !outcome->is_final)
		return;
	if (outcome->error != NULL)
		error = command_error(outcome);
	else
	{
		GateRows *differences;

		found = backup_read_json(backup_path(tenant, id, VERIFICATION_SUFFIX));
		differences = gate_run(
			&backup_differences, EXPECT_ONE,
			gate_jsonb(row_jsonb(gate_run(&backup_evidence, EXPECT_ONE, gate_uuid(id)), 0, 0)),
			gate_jsonb(json_member(found, "tables")));
		if (!row_is_null(differences, 0, 0))
			error = psprintf("these tables are not what was backed up: %s",
							 row_text(differences, 0, 0));
	}
	gate_run(&backup_set_verified, EXPECT_ONE, gate_uuid(id), gate_jsonb(found), gate_text(error),
			 gate_timestamptz(clock_now()));
	tell(tenant, error == NULL ? "backup.verify" : "backup.unsound", id, error);
}

void
backup_expire(const pg_uuid_t *id)
{
	GateRows *rows = backup_get(id);
	pg_uuid_t *tenant = row_uuid(rows, 0, 1);

	if (strcmp(row_text(rows, 0, 0), "expiring") != 0)
		move(id, "expire", NULL);
	gate_run(&backup_set_job, EXPECT_ONE, gate_uuid(id),
			 gate_uuid(backup_command("remove", id, tenant, backup_input(id, id, NULL))));
}

/* backup_remove(backup uuid) → tenancy.backup */
TENANCY_FUNCTION(backup_remove)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "backup");
	char *state;

	context_require_none("removing a backup");
	state = row_text(backup_get(id), 0, 0);
	(void) state_after(&backup_states, state, "expire", id_text(id));
	backup_require_command();
	backup_expire(id);
	PG_RETURN_DATUM(row(id));
}

static void
removed(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome)
{
	if (outcome->error == NULL && strcmp(row_text(backup_get(id), 0, 0), "expiring") == 0)
		move(id, "remove", NULL);
}

static void
discarded(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome)
{
}

static const struct
{
	const char *action;
	BackupSettle settle;
} actions[] = {
	{"dump", dumped},       {"verify", verified}, {"remove", removed}, {"unpack", restore_unpacked},
	{"discard", discarded},
};

static JobOutcome
run_command(const JobTask *task)
{
	const char *action[] = {json_text(task->arguments, "action"), NULL};

	return command_perform_actions(task, COMMAND, json_member(task->arguments, "input"), action);
}

static void
settle(const JobTask *task, JobOutcome *outcome)
{
	char *action = json_text(task->arguments, "action");

	for (int i = 0; i < lengthof(actions); i++)
	{
		if (strcmp(actions[i].action, action) == 0)
			actions[i].settle(id_parse(json_text(task->arguments, "id")), task, outcome);
	}
}

static const JobKind start_kind = {
	.name = START_KIND,
	.perform = start,
	.timeout_seconds = SECS_PER_MINUTE,
	.description = "looks what is to be backed up of a tenant",
};

static const JobKind command_kind = {
	.name = COMMAND_KIND,
	.perform_outside = run_command,
	.settle = settle,
	.retry = "{\"max_attempts\": 5, \"initial_seconds\": 5, \"max_seconds\": 600}",
	.timeout_seconds = SECS_PER_DAY,
	.description = "dumps, unpacks, verifies and removes backups, by the command \"backup\"",
};

void
backup_init(void)
{
	state_machine_register(&backup_states);
	event_types_register(event_types, lengthof(event_types));
	job_kind_register(&start_kind);
	job_kind_register(&command_kind);
	restore_init();
	backup_policy_init();
}
