/*
 * backup/backup.h
 *		Copies of tenants, outside of the database.
 *
 * What is outside is done by the command "backup" of tenancy.command_file, in jobs of one kind,
 * "backup.command", whose arguments are {action, id, input}; each action has a function here
 * that is called when it has ended.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "job/kind.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* An action has ended, in the transaction that records so. */
typedef void (*BackupSettle)(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome);

/* Raise 55000 or 42704 where there is no directory or no command. */
extern void backup_require_command(void);

/* Have the command do something; the id of the job. */
extern pg_uuid_t *backup_command(const char *action, const pg_uuid_t *id, const pg_uuid_t *tenant,
								 const Jsonb *input);

/*
 * What an action needs to know, an object: where the files are, and what the tenant was; NULL for
 * what the backup says that it was.  "id" names the files that the action leaves.
 */
extern Jsonb *backup_input(const pg_uuid_t *backup, const pg_uuid_t *id, const Jsonb *source);

/* State, tenant, source and sha256 of a backup, locked; 42704. */
extern GateRows *backup_get(const pg_uuid_t *id);

/* A file that the command has left for this id: its path, and its content as JSON. */
extern char *backup_path(const pg_uuid_t *tenant, const pg_uuid_t *id, const char *suffix);
extern Jsonb *backup_read_json(const char *path);

/* Ask for one, of a tenant that exists; for the removal of its file; and give it up. */
extern pg_uuid_t *backup_request(const pg_uuid_t *tenant);
extern void backup_expire(const pg_uuid_t *id);
extern void backup_fail(const pg_uuid_t *id, const char *error);

/* Raise 55000 unless the state is that of one that can be restored. */
extern void backup_require(const pg_uuid_t *id, const char *state);

/* What ended in restore.c. */
extern void restore_unpacked(const pg_uuid_t *id, const JobTask *task, JobOutcome *outcome);

extern void restore_fail_lost(void);

/*
 * Put what the command has unpacked into a tenant: into its schemas, which are empty, and, when
 * it is active, into shared tables.  Raise 23xxx and whatever the tables refuse; XX001 where the
 * rows are not as many as the evidence says.
 */
extern void apply_schemas(const char *directory, const pg_uuid_t *from, const pg_uuid_t *tenant,
						  const Jsonb *evidence);
extern void apply_shared(const char *directory, const pg_uuid_t *tenant, const Jsonb *evidence);

/* In the postmaster, from _PG_init. */
extern void backup_init(void);
extern void restore_init(void);
extern void backup_policy_init(void);
