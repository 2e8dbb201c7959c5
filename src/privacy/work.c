/*
 * privacy/work.c
 *		Retention at one table, batch by batch.
 *
 * As the owner of the table, in a restricted operation, and in the tenant's context where it can
 * be entered: triggers of the table do their work, and no more.  Rows are taken FOR UPDATE SKIP
 * LOCKED, so the application is never waited for; a batch is made as large as keeps its rows
 * locked for TARGET_US.  Where an index has the time, the oldest rows come first; else the table
 * is read block by block, once from end to end.
 *
 * What would fail is left out where it is known: rows under legal hold, those that a foreign key
 * without action refers to, those whose cascade would reach a held row.  What fails nevertheless
 * is found by halving the batch, and left.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/relation.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/id.h"
#include "crypto/digest.h"
#include "privacy/hold.h"
#include "privacy/work.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/itemptr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* A few make a step (retention.c). */
#define TARGET_US INT64CONST(10000)
#define LOCK_WAIT_MS 50
#define FIRST_ROWS 200
#define FIRST_BLOCKS 8
#define MAX_BLOCKS 8192
#define MAX_GROWTH 2
#define MAX_DEPTH 8 /* of cascades */

GATE_STATEMENT(work_key,
			   "SELECT pg_catalog.string_agg(pg_catalog.format('t.%I', a.attname), ', '"
			   "                             ORDER BY k.number)"
			   "  FROM pg_catalog.pg_index i,"
			   "       pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, number),"
			   "       pg_catalog.pg_attribute a"
			   " WHERE i.indrelid = $1 AND i.indisprimary"
			   "   AND a.attrelid = i.indrelid AND a.attnum = k.attnum",
			   OIDOID);
GATE_STATEMENT(work_has_index,
			   "SELECT FROM pg_catalog.pg_index i"
			   "  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
			   "  JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'btree'"
			   " WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL"
			   "   AND (i.indkey[0] = $2 OR i.indkey[0] = $3 AND i.indkey[1] = $2) LIMIT 1",
			   OIDOID, INT2OID, INT2OID);
/* The keys that refer to a table, as "@p.column = @c.column AND …". */
GATE_STATEMENT(work_references,
			   "SELECT k.conrelid, k.confdeltype::text,"
			   "       pg_catalog.string_agg(pg_catalog.format('@p.%I OPERATOR(%I.%s) @c.%I',"
			   "           p.attname, n.nspname, o.oprname, c.attname), ' AND ')"
			   "  FROM pg_catalog.pg_constraint k"
			   "  JOIN pg_catalog.pg_class r ON r.oid = k.conrelid AND NOT r.relispartition,"
			   "       ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),"
			   "                  pg_catalog.unnest(k.conpfeqop)) AS x(child, parent, operator),"
			   "       pg_catalog.pg_attribute p, pg_catalog.pg_attribute c,"
			   "       pg_catalog.pg_operator o, pg_catalog.pg_namespace n"
			   " WHERE k.contype = 'f' AND k.confrelid = $1"
			   "   AND p.attrelid = k.confrelid AND p.attnum = x.parent"
			   "   AND c.attrelid = k.conrelid AND c.attnum = x.child"
			   "   AND o.oid = x.operator AND n.oid = o.oprnamespace"
			   " GROUP BY k.oid, k.conrelid, k.confdeltype ORDER BY k.oid",
			   OIDOID);

typedef struct References
{
	Oid owner;
	int aliases;
	List *path; /* the tables on the way to this one */
} References;

static char *
replace_aliases(const char *condition, const char *parent, const char *child)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (const char *c = condition; *c != '\0'; c++)
	{
		if (c[0] == '@' && (c[1] == 'p' || c[1] == 'c') && c[2] == '.' &&
			(c == condition || c[-1] == ' '))
		{
			appendStringInfoString(&sql, c[1] == 'p' ? parent : child);
			c++;
		}
		else
			appendStringInfoChar(&sql, *c);
	}
	return sql.data;
}

/* SQL: true for a row that others keep, by foreign keys or by what a cascade would reach. */
static char *
referenced_condition(References *references, Oid relid, const char *alias)
{
	GateRows *rows = gate_run(&work_references, EXPECT_ANY, gate_oid(relid));
	StringInfoData sql;

	if (list_length(references->path) >= MAX_DEPTH || list_member_oid(references->path, relid))
		return NULL;
	references->path = lappend_oid(references->path, relid);
	initStringInfo(&sql);
	for (int64 i = 0; i < rows->count; i++)
	{
		Oid child = DatumGetObjectId(row_datum(rows, i, 0));
		char action = *row_text(rows, i, 1);
		char *name = psprintf("c%d", ++references->aliases);
		char *more = NULL;

		/* Where it may not look, what fails is found when it fails. */
		if (pg_class_aclcheck(child, references->owner, ACL_SELECT) != ACLCHECK_OK)
			continue;
		if (action != FKCONSTR_ACTION_NOACTION && action != FKCONSTR_ACTION_RESTRICT)
		{
			char *held = hold_condition(child, name);
			char *further = action == FKCONSTR_ACTION_CASCADE
								? referenced_condition(references, child, name)
								: NULL;

			if (held == NULL && further == NULL)
				continue;
			more = psprintf(" AND (%s%s%s)", held == NULL ? "" : held,
							held != NULL && further != NULL ? " OR " : "",
							further == NULL ? "" : further);
		}
		appendStringInfo(&sql, "%sEXISTS (SELECT FROM %s %s WHERE %s%s)", sql.len > 0 ? " OR " : "",
						 relation_sql_name(child), name,
						 replace_aliases(row_text(rows, i, 2), alias, name),
						 more == NULL ? "" : more);
	}
	references->path = list_delete_last(references->path);
	return sql.len == 0 ? NULL : psprintf("(%s)", sql.data);
}

static const char *
cast_of(Oid time_type)
{
	return time_type == DATEOID
			   ? "date"
			   : time_type == TIMESTAMPOID ? "timestamp without time zone"
										   : "timestamp with time zone";
}

void
work_begin(Work *work, const Policy *policy, const Target *target, Oid relid)
{
	References references = {.owner = relation_owner(relid)};
	GateRows *rows = gate_run(&work_key, EXPECT_ONE, gate_oid(relid));
	char *key = row_text(rows, 0, 0);

	*work = (Work){
		.policy = policy,
		.target = target,
		.relid = relid,
		.name = relation_sql_name(relid),
		.sql = retention_sql(policy, relid),
		.key = key == NULL ? "t::pg_catalog.text" : psprintf("ROW(%s)::pg_catalog.text", key),
		.held = hold_condition(relid, "t"),
	};
	work->overdue = psprintf(
		"(%s) < $1::%s AND (%s)%s", work->sql.time, cast_of(work->sql.time_type),
		work->sql.condition,
		target->is_shared
			? psprintf(" AND t.tenant_id OPERATOR(pg_catalog.=) %s::pg_catalog.uuid",
					   quote_literal_cstr(id_text(target->tenant)))
			: "");
	if (policy->action != RETENTION_ANONYMISE)
		work->referenced = referenced_condition(&references, relid, "t");
	work->is_by_time =
		work->sql.column != InvalidAttrNumber &&
		gate_run(&work_has_index, EXPECT_AT_MOST_ONE, gate_oid(relid),
				 gate_datum(Int16GetDatum(work->sql.column)),
				 gate_datum(Int16GetDatum(target->is_shared ? get_attnum(relid, "tenant_id") : 0)))
				->count > 0;
}

typedef struct Entered
{
	GateScope scope;
	bool is_pushed;
} Entered;

static void
enter(const Work *work, Entered *entered)
{
	entered->is_pushed = work->target->tenant != NULL && work->target->may_be_entered;
	if (entered->is_pushed)
		(void) context_push(work->target->tenant);
	gate_enter_all_rows(&entered->scope, relation_owner(work->relid), "pg_catalog");
	gate_limit_lock_wait(LOCK_WAIT_MS);
}

static void
leave(Entered *entered)
{
	gate_leave(&entered->scope);
	if (entered->is_pushed)
		context_pop();
}

static char *
without_kept(const Work *work)
{
	return psprintf("%s%s%s%s%s", work->overdue, work->held == NULL ? "" : " AND NOT ",
					work->held == NULL ? "" : work->held,
					work->referenced == NULL ? "" : " AND NOT ",
					work->referenced == NULL ? "" : work->referenced);
}

static NullableDatum
place(int64 block, int offset)
{
	ItemPointer pointer = palloc(sizeof(ItemPointerData));

	ItemPointerSet(pointer, (BlockNumber) block, offset);
	return gate_datum(PointerGetDatum(pointer));
}

static GateRows *
take_by_time(const Work *work, const WorkPosition *position)
{
	TimestampTz from = position->from == 0 ? DT_NOBEGIN : position->from;
	const char *cast = cast_of(work->sql.time_type);

	return gate_query_text(
		psprintf("SELECT t.ctid, (%s)::timestamp with time zone FROM ONLY %s t"
				 " WHERE %s AND (%s) >= $2::%s AND ((%s) > $2::%s OR t.ctid > $3)"
				 " ORDER BY %s, t.ctid LIMIT %d FOR UPDATE OF t SKIP LOCKED",
				 work->sql.time, work->name, without_kept(work), work->sql.time, cast, work->sql.time,
				 cast, work->sql.time, position->size),
		3, (Oid[]){TIMESTAMPTZOID, TIMESTAMPTZOID, TIDOID},
		(NullableDatum[]){gate_timestamptz(work->target->cutoff), gate_timestamptz(from),
						  place(position->block, position->offset)});
}

static GateRows *
take_by_block(const Work *work, const WorkPosition *position)
{
	return gate_query_text(
		psprintf("SELECT t.ctid, (%s)::timestamp with time zone FROM ONLY %s t"
				 " WHERE t.ctid >= $2 AND t.ctid < $3 AND %s FOR UPDATE OF t SKIP LOCKED",
				 work->sql.time, work->name, without_kept(work)),
		3, (Oid[]){TIMESTAMPTZOID, TIDOID, TIDOID},
		(NullableDatum[]){gate_timestamptz(work->target->cutoff), place(position->block, 0),
						  place(position->block + position->size, 0)});
}

/* Rows that are locked, and what becomes of them. */
typedef struct Doomed
{
	const Work *work;
	GateRows *rows;
	int64 first;
	int64 count;
	Digest digest;
	WorkResult *result;
} Doomed;

static void
finish_off(void *argument)
{
	Doomed *doomed = argument;
	const Work *work = doomed->work;
	Datum *tids = palloc(sizeof(Datum) * doomed->count);
	NullableDatum array;
	GateRows *gone;

	for (int64 i = 0; i < doomed->count; i++)
		tids[i] = row_datum(doomed->rows, doomed->first + i, 0);
	array = gate_array(tids, (int) doomed->count, TIDOID);
	gone = gate_query_text(
		work->sql.assignments != NULL
			? psprintf("UPDATE ONLY %s t SET %s WHERE t.ctid = ANY ($1) RETURNING %s", work->name,
					   work->sql.assignments, work->key)
			: psprintf("DELETE FROM ONLY %s t WHERE t.ctid = ANY ($1) RETURNING %s", work->name,
					   work->key),
		1, (Oid[]){TIDARRAYOID}, &array);
	for (int64 i = 0; i < gone->count; i++)
		digest_add_text(&doomed->digest, row_text(gone, i, 0));
	doomed->result->rows += gone->count;
}

static void
finish_off_or_halve(Doomed *doomed)
{
	Digest before = doomed->digest;
	int64 rows = doomed->result->rows;
	Doomed half;
	ErrorData *error = attempt("retention", finish_off, doomed);

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);
	doomed->digest = before;
	doomed->result->rows = rows;
	if (doomed->count == 1)
	{
		doomed->result->referenced++;
		doomed->result->reason = error->message;
		return;
	}
	half = *doomed;
	half.count = doomed->count / 2;
	finish_off_or_halve(&half);
	half.first += half.count;
	half.count = doomed->count - half.count;
	finish_off_or_halve(&half);
	doomed->digest = half.digest;
}

/* As much more, or less, as would have taken TARGET_US. */
static int
next_size(int size, int64 elapsed_us, int most)
{
	int64 next = elapsed_us <= 0 ? (int64) size * MAX_GROWTH : size * TARGET_US / elapsed_us;

	next = Min(next, (int64) size * MAX_GROWTH);
	return (int) Max(Min(next, most), 1);
}

static void
note_times(WorkResult *result, const GateRows *rows)
{
	for (int64 i = 0; i < rows->count; i++)
	{
		TimestampTz time = row_timestamptz(rows, i, 1);

		result->first = result->has_times ? Min(result->first, time) : time;
		result->last = result->has_times ? Max(result->last, time) : time;
		result->has_times = true;
	}
}

static int64
block_count(Oid relid)
{
	Relation relation = table_open(relid, AccessShareLock);
	int64 count = RelationGetNumberOfBlocks(relation);

	table_close(relation, NoLock);
	return count;
}

bool
work_batch(Work *work, WorkPosition *position, const bytea *keys_hash, WorkResult *result)
{
	TimestampTz began = GetCurrentTimestamp();
	Doomed doomed = {.work = work, .result = result};
	Entered entered;
	bool has_more;
	int size;

	if (work->held != NULL && strcmp(work->held, "true") == 0)
		return false;
	if (position->size == 0)
		position->size = work->is_by_time ? Min(FIRST_ROWS, work->policy->batch_rows) : FIRST_BLOCKS;
	size = position->size;
	enter(work, &entered);
	doomed.rows = work->is_by_time ? take_by_time(work, position) : take_by_block(work, position);
	doomed.count = doomed.rows->count;
	digest_begin(&doomed.digest);
	if (keys_hash != NULL)
		digest_add(&doomed.digest, VARDATA_ANY(keys_hash), VARSIZE_ANY_EXHDR(keys_hash));
	if (doomed.count > 0)
		finish_off_or_halve(&doomed);
	leave(&entered);
	note_times(result, doomed.rows);
	result->keys_hash = digest_end(&doomed.digest);

	if (work->is_by_time)
	{
		has_more = doomed.count == size;
		if (doomed.count > 0)
		{
			ItemPointer last =
				(ItemPointer) DatumGetPointer(row_datum(doomed.rows, doomed.count - 1, 0));

			/* What fails of a moment must not come again and again. */
			position->from = row_timestamptz(doomed.rows, doomed.count - 1, 1);
			position->block = ItemPointerGetBlockNumber(last);
			position->offset = ItemPointerGetOffsetNumber(last);
		}
	}
	else
	{
		position->block += size;
		has_more = position->block < block_count(work->relid);
	}
	position->size = next_size(size, GetCurrentTimestamp() - began,
							   work->is_by_time ? work->policy->batch_rows : MAX_BLOCKS);
	return has_more;
}

static void
count(const Work *work, const char *condition, WorkResult *result)
{
	Entered entered;
	GateRows *rows;
	const char *held = work->held == NULL ? "false" : work->held;
	const char *referenced = work->referenced == NULL ? "false" : work->referenced;

	enter(work, &entered);
	rows = gate_query_text(
		psprintf("SELECT count(*) FILTER (WHERE NOT (%s) AND NOT (%s)), count(*) FILTER (WHERE %s),"
				 "       count(*) FILTER (WHERE NOT (%s) AND %s),"
				 "       min((%s)::timestamp with time zone), max((%s)::timestamp with time zone)"
				 "  FROM ONLY %s t WHERE %s AND (%s)",
				 held, referenced, held, held, referenced, work->sql.time, work->sql.time,
				 work->name, work->overdue, condition),
		1, (Oid[]){TIMESTAMPTZOID}, (NullableDatum[]){gate_timestamptz(work->target->cutoff)});
	leave(&entered);
	result->rows = row_int64(rows, 0, 0);
	result->held = row_int64(rows, 0, 1);
	result->referenced = row_int64(rows, 0, 2);
	result->has_times = !row_is_null(rows, 0, 3);
	if (result->has_times)
	{
		result->first = row_timestamptz(rows, 0, 3);
		result->last = row_timestamptz(rows, 0, 4);
	}
	if (result->held > 0)
		result->reason = "legal hold";
	else if (result->referenced > 0)
		result->reason = "referred to by rows that stay";
}

void
work_count(Work *work, WorkResult *result)
{
	count(work, "true", result);
}

void
work_count_left(Work *work, WorkResult *result)
{
	WorkResult left = {0};

	if (work->held == NULL && work->referenced == NULL)
		return;
	count(work,
		  psprintf("(%s OR %s)", work->held == NULL ? "false" : work->held,
				   work->referenced == NULL ? "false" : work->referenced),
		  &left);
	result->held = left.held;
	result->referenced += left.referenced;
	if (result->reason == NULL)
		result->reason = left.reason;
}
