/*
 * privacy/partition.c
 *		Dropping partitions that are overdue as a whole.
 *
 * DETACH needs the table for itself, if only for an instant, and whoever waits for a lock makes
 * all others wait behind it: so it waits for LOCK_WAIT_MS, tries again a little later, and leaves
 * the partition to the next run when it had no luck.  DETACH … CONCURRENTLY cannot run in a
 * transaction that does anything else.  Detaching and dropping are one transaction, so that no
 * orphan is left, and a job drops one partition a transaction.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/relation.h"
#include "core/attempt.h"
#include "crypto/digest.h"
#include "privacy/hold.h"
#include "privacy/work.h"

#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#define LOCK_WAIT_MS 50
#define MAX_TRIES 3
#define PAUSE_US 100000L

typedef struct Drop
{
	const char *parent;
	Oid partition;
	const char *name;
	Oid owner;
	bool has_held;
	int64 rows;
} Drop;

static void
drop_partition(void *argument)
{
	Drop *drop = argument;
	GateScope scope;
	char *held;
	GateRows *rows;

	gate_enter_all_rows(&scope, drop->owner, "pg_catalog");
	gate_limit_lock_wait(LOCK_WAIT_MS);
	gate_run_text(psprintf("LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", drop->name));
	held = hold_condition(drop->partition, "t");
	if (held != NULL)
	{
		/* Nobody can add one any more. */
		rows = gate_query_text(psprintf("SELECT EXISTS (SELECT FROM %s t WHERE %s)", drop->name,
										held),
							   0, NULL, NULL);
		drop->has_held = row_bool(rows, 0, 0);
	}
	if (!drop->has_held)
	{
		hold_permit_drop(drop->partition);
		gate_run_text(psprintf("ALTER TABLE %s DETACH PARTITION %s; DROP TABLE %s", drop->parent,
							   drop->name, drop->name));
	}
	gate_leave(&scope);
}

static ErrorData *
try_to_drop(Drop *drop)
{
	ErrorData *error = NULL;

	for (int i = 0; i < MAX_TRIES; i++)
	{
		if (i > 0)
			pg_usleep(PAUSE_US);
		CHECK_FOR_INTERRUPTS();
		error = attempt("retention", drop_partition, drop);
		hold_permit_drop(InvalidOid);
		if (error == NULL || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			break;
	}
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

static int64
count_rows(Oid relid)
{
	GateScope scope;
	GateRows *rows;

	gate_enter_all_rows(&scope, relation_owner(relid), "pg_catalog");
	rows = gate_query_text(psprintf("SELECT count(*) FROM %s", relation_sql_name(relid)), 0, NULL,
						   NULL);
	gate_leave(&scope);
	return row_int64(rows, 0, 0);
}

static void
leave_out(WorkResult *result, const char *partition, const char *reason, int64 rows, bool is_held)
{
	if (is_held)
		result->held += rows;
	else
		result->referenced += rows;
	result->reason = psprintf("%s: %s", partition, reason);
}

static bool
has_held_rows(Oid partition)
{
	char *held = hold_condition(partition, "t");
	GateScope scope;
	GateRows *rows;

	if (held == NULL)
		return false;
	gate_enter_all_rows(&scope, relation_owner(partition), "pg_catalog");
	rows = gate_query_text(psprintf("SELECT EXISTS (SELECT FROM %s t WHERE %s)",
									relation_sql_name(partition), held),
						   0, NULL, NULL);
	gate_leave(&scope);
	return row_bool(rows, 0, 0);
}

/* One that is overdue: is it gone, or why not? */
static bool
drop_or_leave(Drop *drop, bool is_dry, WorkResult *result)
{
	ErrorData *error = NULL;

	/* Before the table is locked: counting takes its time. */
	drop->rows = count_rows(drop->partition);
	if (has_held_rows(drop->partition))
		drop->has_held = true;
	else if (!is_dry)
		error = try_to_drop(drop);
	if (drop->has_held)
		leave_out(result, drop->name, "legal hold", drop->rows, true);
	else if (error != NULL)
		leave_out(result, drop->name, error->message, drop->rows, false);
	return !drop->has_held && error == NULL;
}

void
work_drop_partitions(const Policy *policy, const Target *target, bool is_dry, int most,
					 WorkResult *result)
{
	List *partitions = find_inheritance_children(target->relid, NoLock);
	Digest digest;
	ListCell *cell;

	digest_begin(&digest);
	foreach (cell, partitions)
	{
		Oid partition = lfirst_oid(cell);
		Drop drop;
		TimestampTz end;

		/* They are listed without locks. */
		if (!retention_partition_end(partition, &end) || end > target->cutoff)
			continue;
		drop = (Drop){
			.parent = relation_sql_name(target->relid),
			.partition = partition,
			.name = relation_sql_name(partition),
			.owner = relation_owner(target->relid),
		};
		/* The table is locked from the first one on: the others are the next transaction's. */
		if (result->partitions == most)
			break;
		if (!drop_or_leave(&drop, is_dry, result))
			continue;
		result->partitions++;
		result->rows += drop.rows;
		result->first = result->has_times ? Min(result->first, end) : end;
		result->last = result->has_times ? Max(result->last, end) : end;
		result->has_times = true;
		digest_add_text(&digest, drop.name);
	}
	result->keys_hash = digest_end(&digest);
}
