/*
 * provision/backups.c
 *		The component "backups": a policy, and a first backup that is restored in a drill.
 *
 * What is outside is done by the jobs of the backups themselves; the job of the component
 * looks how far they are.
 */
#include "postgres.h"

#include "catalog/own_call.h"
#include "core/clock.h"
#include "core/id.h"
#include "provision/backups.h"

#define BACKUP_EVERY "1 day"
#define BACKUP_KEEP_FOR "30 days"

/* (id, state, error, finished, verified, is at work, bytes, digest) */
#define BACKUP_COLUMNS                                                                             \
	"b.id, b.state, b.error, b.finished_at, b.verified_at,"                                        \
	" EXISTS (SELECT FROM tenancy.job_pending j WHERE j.tenant_id = b.tenant_id"                   \
	"            AND j.kind = 'backup.command' AND j.arguments ->> 'id' = b.id::text),"             \
	" b.size_bytes, b.sha256"

GATE_STATEMENT(backup_progress, "SELECT " BACKUP_COLUMNS " FROM tenancy.backup b WHERE b.id = $1",
			   UUIDOID);
GATE_STATEMENT(backup_last,
			   "SELECT " BACKUP_COLUMNS " FROM tenancy.backup b"
			   " WHERE b.tenant_id = $1 AND b.state = 'succeeded'"
			   "   AND b.finished_at > $3 - 2 * $2::interval"
			   " ORDER BY b.finished_at DESC LIMIT 1",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(backup_policy_go_on,
			   "UPDATE tenancy.backup_policy SET next_at = $2 + every WHERE tenant_id = $1",
			   UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(backup_policy_exists, "SELECT FROM tenancy.backup_policy p WHERE p.tenant_id = $1",
			   UUIDOID);

const JsonRule backups_members[] = {
	{.name = "every", .type = JSON_TEXT, .max_length = 50},
	{.name = "keep_for", .type = JSON_TEXT, .max_length = 50},
	{.name = "keep", .type = JSON_INTEGER, .minimum = "1", .maximum = "100000"},
	{.name = "drill", .type = JSON_BOOLEAN},
	{0},
};

static const char *
interval_of(const Jsonb *spec, const char *name, const char *when_absent)
{
	char *text = json_text(spec, name);

	return text == NULL ? when_absent : text;
}

/* A first backup at once: what has never been restored is none. */
Jsonb *
backups_prepare(ProvisionRequest *request)
{
	const pg_uuid_t *tenant = &request->tenant->id;
	NullableDatum policy[] = {
		gate_uuid(tenant),
		gate_text(interval_of(request->spec, "every", BACKUP_EVERY)),
		gate_text(interval_of(request->spec, "keep_for", BACKUP_KEEP_FOR)),
		gate_numeric(json_numeric(request->spec, "keep")),
	};
	JsonBuilder holdings;
	GateRows *rows;

	rows = own_call_run("tenant_backup", "id", 1, (Oid[]){UUIDOID}, policy);
	(void) own_call_run("backup_policy_set", "tenant_id", lengthof(policy),
						(Oid[]){UUIDOID, TEXTOID, TEXTOID, NUMERICOID}, policy);
	/* The first one is asked for here. */
	gate_run(&backup_policy_go_on, EXPECT_ONE, gate_uuid(tenant), gate_timestamptz(clock_now()));
	json_begin(&holdings);
	json_put_text(&holdings, "backup", id_text(row_uuid(rows, 0, 0)));
	json_put_bool(&holdings, "is_drilled", !json_bool(request->spec, "drill", true));
	request->holdings = json_end(&holdings);
	return NULL;
}

static Jsonb *
backup_evidence(const GateRows *rows)
{
	JsonBuilder evidence;

	json_begin(&evidence);
	json_put_text(&evidence, "backup", id_text(row_uuid(rows, 0, 0)));
	json_put_time(&evidence, "finished_at", row_timestamptz(rows, 0, 3));
	if (!row_is_null(rows, 0, 4))
		json_put_time(&evidence, "verified_at", row_timestamptz(rows, 0, 4));
	json_put_int64(&evidence, "size_bytes", row_int64(rows, 0, 6));
	json_put_text(&evidence, "sha256", row_text(rows, 0, 7));
	return json_end(&evidence);
}

/* The last one that succeeded must be younger than two times the distance between them. */
static Progress
check_backups(const Provision *row, Jsonb **evidence)
{
	GateRows *rows = gate_run(&backup_last, EXPECT_AT_MOST_ONE, gate_uuid(&row->tenant),
							  gate_text(interval_of(row->spec, "every", BACKUP_EVERY)),
							  gate_timestamptz(clock_now()));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("there is no backup of late that has succeeded"));
	*evidence = backup_evidence(rows);
	return PROGRESS_DONE;
}

/* The backup, and then the drill: both are jobs. */
Progress
backups_await(Provision *row, bool is_check, Jsonb **evidence)
{
	GateRows *rows;
	char *state;
	char *error;
	JsonBuilder holdings;

	if (is_check)
		return check_backups(row, evidence);
	rows = gate_run(&backup_progress, EXPECT_AT_MOST_ONE,
					gate_uuid(id_parse(json_text(row->holdings, "backup"))));
	state = rows->count == 0 ? "gone" : row_text(rows, 0, 1);
	error = rows->count == 0 ? NULL : row_text(rows, 0, 2);
	if (strcmp(state, "requested") == 0 || strcmp(state, "running") == 0)
		return PROGRESS_WAITING;
	if (strcmp(state, "succeeded") != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the first backup is %s: %s", state, error == NULL ? "" : error));
	if (!json_bool(row->holdings, "is_drilled", true))
	{
		NullableDatum backup = gate_uuid(id_parse(json_text(row->holdings, "backup")));

		(void) own_call_run("backup_verify", "id", 1, (Oid[]){UUIDOID}, &backup);
		json_begin(&holdings);
		json_put_text(&holdings, "backup", json_text(row->holdings, "backup"));
		json_put_bool(&holdings, "is_drilled", true);
		provision_hold(row, json_end(&holdings));
		return PROGRESS_WAITING;
	}
	if (row_bool(rows, 0, 5))
		return PROGRESS_WAITING;
	if (json_bool(row->spec, "drill", true) && row_is_null(rows, 0, 4))
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the first backup could not be restored: %s", error == NULL ? "" : error));
	*evidence = backup_evidence(rows);
	return PROGRESS_DONE;
}

/* Its backups are kept as long as they were to be; with the tenant they go. */
void
backups_release(const Provision *row)
{
	NullableDatum tenant = gate_uuid(&row->tenant);

	if (gate_run(&backup_policy_exists, EXPECT_AT_MOST_ONE, tenant)->count == 1)
		(void) own_call_run("backup_policy_reset", "tenant_id", 1, (Oid[]){UUIDOID}, &tenant);
}
