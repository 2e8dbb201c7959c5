/*
 * backup/restore.c
 *		Restoring a backup into a new tenant.
 *
 * A command unpacks it: pg_restore turns the dump into text.  A job in the database then
 * applies it, activates the tenant and records so, in one transaction.  The names in it are
 * those of the old tenant; as they are opaque, the new one's are put in their place.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/state.h"
#include "job/command.h"
#include "job/outbox.h"
#include "job/queue.h"
#include "tenant/tenant.h"

#define APPLY_KIND "backup.apply"
#define APPLY_RETRY "{\"max_attempts\": 2, \"initial_seconds\": 5}"
#define APPLY_ATTEMPTS 2
#define MAX_LOST 100
#define DEFAULT_SUFFIX "-restored"
#define WORK_SUFFIX ".d"

GATE_STATEMENT(restoration_insert,
			   "INSERT INTO tenancy.restoration (id, backup_id, tenant_id, state, requested_at,"
			   "    job_id)"
			   " VALUES ($1, $2, $3, 'unpacking', $4, $5)",
			   UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(restoration_for_update,
			   "SELECT r.state, r.backup_id, r.tenant_id, b.tenant_id, b.evidence"
			   "  FROM tenancy.restoration r JOIN tenancy.backup b ON b.id = r.backup_id"
			   " WHERE r.id = $1 FOR UPDATE OF r",
			   UUIDOID);
GATE_STATEMENT(restoration_set_state,
			   "UPDATE tenancy.restoration SET state = $3, error = $4,"
			   "       job_id = coalesce($5, job_id),"
			   "       finished_at = CASE WHEN $3 IN ('succeeded', 'failed') THEN $6 END"
			   " WHERE id = $1 AND state = $2",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(restoration_lost,
			   "SELECT r.id FROM tenancy.restoration r WHERE r.state IN ('unpacking', 'applying')"
			   "   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.id = r.job_id)"
			   " LIMIT $1",
			   INT4OID);

static const StateMove moves[] = {
	{"unpacking", "apply", "applying"},
	{"unpacking", "fail", "failed"},
	{"applying", "succeed", "succeeded"},
	{"applying", "fail", "failed"},
};

static StateMachine restoration_states = {
	.name = "restoration",
	.table = "tenancy.restoration",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const EventType event_types[] = {
	{"backup.restore", 1, "a backup was restored into this tenant"},
};

/* A restoration, locked: its state and whose it is. */
typedef struct Restoration
{
	const pg_uuid_t *id;
	char *state;
	pg_uuid_t *backup;
	pg_uuid_t *tenant; /* the new one */
	pg_uuid_t *from;
	Jsonb *evidence;
} Restoration;

static Restoration
get(const pg_uuid_t *id)
{
	GateRows *rows = gate_run(&restoration_for_update, EXPECT_ONE, gate_uuid(id));

	return (Restoration){
		.id = id,
		.state = row_text(rows, 0, 0),
		.backup = row_uuid(rows, 0, 1),
		.tenant = row_uuid(rows, 0, 2),
		.from = row_uuid(rows, 0, 3),
		.evidence = row_jsonb(rows, 0, 4),
	};
}

static void
move(const Restoration *restoration, const char *event, const char *error, const pg_uuid_t *job)
{
	gate_run(&restoration_set_state, EXPECT_ONE, gate_uuid(restoration->id),
			 gate_text(restoration->state),
			 gate_text(state_after(&restoration_states, restoration->state, event,
								   id_text(restoration->id))),
			 gate_text(error), gate_uuid(job), gate_timestamptz(clock_now()));
}

/* What was unpacked is not needed any more. */
static void
discard(const Restoration *restoration)
{
	(void) backup_command("discard", restoration->id, restoration->tenant,
						  backup_input(restoration->backup, restoration->id, NULL));
}

static void
fail(const Restoration *restoration, const char *error)
{
	move(restoration, "fail", error, NULL);
	(void) tenant_move(restoration->tenant, "fail", "a backup could not be restored");
	discard(restoration);
}

/* What the old tenant was. */
static TenantDraft
draft_of(const Jsonb *source, const char *slug)
{
	Jsonb *labels = json_member(source, "labels");
	int count = json_element_count(labels);
	char *isolation = json_text(source, "isolation");
	TenantDraft draft = {
		.slug =
			slug != NULL ? pstrdup(slug) : psprintf("%s" DEFAULT_SUFFIX, json_text(source, "slug")),
		.name = json_text(source, "name"),
		.template = json_text(source, "template"),
		.has_schema = strcmp(isolation, "schema") == 0,
		.owns_ddl = json_bool(source, "owns_ddl", false),
		.configuration = json_member(source, "configuration"),
		.metadata = json_member(source, "metadata"),
		.labels = palloc(sizeof(char *) * Max(count, 1)),
		.label_count = count,
	};

	for (int i = 0; i < count; i++)
		draft.labels[i] = json_element_text(labels, i);
	return draft;
}

/* tenant_restore(tenant regtenant, backup uuid, into_slug text) → tenancy.tenant */
TENANCY_FUNCTION(tenant_restore)
{
	pg_uuid_t *from = required_uuid(fcinfo, 0, "tenant");
	pg_uuid_t *backup = required_uuid(fcinfo, 1, "backup");
	char *slug = optional_text(fcinfo, 2);
	pg_uuid_t *id = id_new();
	TenantDraft draft;
	pg_uuid_t *tenant;
	pg_uuid_t *job;
	GateRows *rows;

	context_require_none("restoring a tenant");
	rows = backup_get(backup);
	if (!id_equal(row_uuid(rows, 0, 1), from))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("backup \"%s\" is not one of this tenant", id_text(backup)));
	backup_require(backup, row_text(rows, 0, 0));
	backup_require_command();
	draft = draft_of(row_jsonb(rows, 0, 2), slug);
	tenant = tenant_make_empty(&draft);
	job = backup_command("unpack", id, tenant, backup_input(backup, id, NULL));
	gate_run(&restoration_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(backup), gate_uuid(tenant),
			 gate_timestamptz(clock_now()), gate_uuid(job));
	PG_RETURN_DATUM(tenant_row(tenant));
}

void
restore_unpacked(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome)
{
	Restoration restoration = get(id);
	JobRequest request = {
		.kind = APPLY_KIND,
		.tenant = restoration.tenant,
		.priority = JOB_MIDDLE_PRIORITY,
	};
	JsonBuilder arguments;

	if (strcmp(restoration.state, "unpacking") != 0)
		return;
	if (outcome->error != NULL)
	{
		if (outcome->is_final)
			fail(&restoration, command_error(outcome));
		return;
	}
	json_begin(&arguments);
	json_put_text(&arguments, "restoration", id_text(id));
	request.arguments = json_end(&arguments);
	move(&restoration, "apply", NULL, job_put(&request));
}

/* The job backup.apply. */
static Jsonb *
apply(const JobTask *task)
{
	pg_uuid_t *id = id_parse(json_text(task->arguments, "restoration"));
	Restoration restoration = get(id);
	char *directory = backup_path(restoration.from, id, WORK_SUFFIX);
	JsonBuilder payload;

	if (strcmp(restoration.state, "applying") != 0)
		return NULL;
	apply_schemas(directory, restoration.from, restoration.tenant, restoration.evidence);
	(void) tenant_move(restoration.tenant, "activate", NULL);
	apply_shared(directory, restoration.tenant, restoration.evidence);
	move(&restoration, "succeed", NULL, NULL);
	discard(&restoration);
	json_begin(&payload);
	json_put_text(&payload, "backup", id_text(restoration.backup));
	json_put_text(&payload, "from", id_text(restoration.from));
	(void) outbox_put(restoration.tenant, "backup.restore", json_end(&payload));
	return NULL;
}

static void
settle_apply(const JobTask *task, JobOutcome *outcome)
{
	Restoration restoration;

	if (outcome->error == NULL || task->attempt < APPLY_ATTEMPTS)
		return;
	restoration = get(id_parse(json_text(task->arguments, "restoration")));
	if (strcmp(restoration.state, "applying") == 0)
		fail(&restoration, outcome->error);
}

void
restore_fail_lost(void)
{
	GateRows *lost = gate_run(&restoration_lost, EXPECT_ANY, gate_int32(MAX_LOST));

	for (int64 i = 0; i < lost->count; i++)
	{
		Restoration restoration = get(row_uuid(lost, i, 0));

		fail(&restoration, "its job was given up; see tenancy.job");
	}
}

static const JobKind apply_kind = {
	.name = APPLY_KIND,
	.perform = apply,
	.settle = settle_apply,
	.retry = APPLY_RETRY,
	.timeout_seconds = SECS_PER_DAY,
	.description = "fills a new tenant with what was unpacked of a backup",
};

void
restore_init(void)
{
	state_machine_register(&restoration_states);
	event_types_register(event_types, lengthof(event_types));
	job_kind_register(&apply_kind);
}
