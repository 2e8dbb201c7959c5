/*
 * backup/apply_shared.c
 *		Putting the rows of shared tables that a backup holds into a tenant.
 *
 * They are inserted in the tenant's context and as its role, so that row security, constraints
 * and quotas hold for them as for any other; the tenant's id is that of the context.  Which table
 * refers to which is not asked: one that is refused for a missing row is tried again after the
 * others, as long as any goes in.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/id.h"
#include "core/json.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#define TENANT_COLUMN "tenant_id"
#define BATCH_BYTES (32 * 1024 * 1024)

GATE_STATEMENT(shared_relation,
			   "SELECT r.relation::text FROM tenancy.tenant_table r WHERE r.relation::text = $1",
			   TEXTOID);

typedef struct SharedRows
{
	const pg_uuid_t *tenant;
	char *path;
	char *table;
	char *sql;
	int64 expected;
	bool is_done;
} SharedRows;

/* A line of COPY's text format with one column, which is JSON; without the line's end. */
static void
append_unescaped(StringInfo to, const char *line)
{
	static const char escapes[] = "bfnrtv";
	static const char meanings[] = "\b\f\n\r\t\v";

	for (const char *c = line; *c != '\0' && *c != '\n'; c++)
	{
		const char *escape;

		if (*c != '\\' || c[1] == '\0')
		{
			appendStringInfoChar(to, *c);
			continue;
		}
		c++;
		escape = strchr(escapes, *c);
		appendStringInfoChar(to, escape == NULL ? *c : meanings[escape - escapes]);
	}
}

static void
insert_batch(const char *sql, StringInfo batch)
{
	if (batch->len == 0)
		return;
	appendStringInfoChar(batch, ']');
	(void) gate_query_text(sql, 1, (Oid[]){JSONOID},
						   (NullableDatum[]){gate_datum(CStringGetTextDatum(batch->data))});
	CommandCounterIncrement();
	resetStringInfo(batch);
}

static int64
insert_lines(const SharedRows *rows)
{
	FILE *file = AllocateFile(rows->path, PG_BINARY_R);
	StringInfoData batch;
	StringInfoData line;
	char buffer[8192];
	int64 count = 0;

	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(),
				errmsg("could not read file \"%s\": %m", rows->path));
	initStringInfo(&batch);
	initStringInfo(&line);
	while (fgets(buffer, sizeof(buffer), file) != NULL)
	{
		appendStringInfoString(&line, buffer);
		if (line.data[line.len - 1] != '\n')
			continue;
		appendStringInfoChar(&batch, batch.len == 0 ? '[' : ',');
		append_unescaped(&batch, line.data);
		resetStringInfo(&line);
		count++;
		if (batch.len >= BATCH_BYTES)
			insert_batch(rows->sql, &batch);
	}
	insert_batch(rows->sql, &batch);
	FreeFile(file);
	return count;
}

/* In a subtransaction. */
static void
insert_rows(void *argument)
{
	SharedRows *rows = argument;
	ContextRole tenant = context_push(rows->tenant);
	GateScope scope;
	int64 count;

	gate_enter(&scope, tenant.role, tenant.search_path);
	count = insert_lines(rows);
	gate_leave(&scope);
	context_pop();
	if (count != rows->expected)
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("table %s has " INT64_FORMAT " rows instead of " INT64_FORMAT, rows->table,
					   count, rows->expected));
	rows->is_done = true;
}

static char *
insert_statement(const char *table, const Jsonb *columns)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < json_element_count(columns); i++)
	{
		char *column = json_element_text(columns, i);

		if (strcmp(column, TENANT_COLUMN) != 0)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", quote_identifier(column));
	}
	return psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE"
					" SELECT %s FROM pg_catalog.json_populate_recordset(NULL::%s, $1)",
					table, list.data, list.data, table);
}

static SharedRows
read_entry(const char *directory, const pg_uuid_t *tenant, const Jsonb *entry)
{
	char *table = json_text(entry, "table");
	GateRows *known = gate_run(&shared_relation, EXPECT_AT_MOST_ONE, gate_text(table));

	if (known->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("table %s is not shared any more", table));
	return (SharedRows){
		.tenant = tenant,
		.path = psprintf("%s/%s", directory, json_text(entry, "file")),
		.table = table,
		/* As the catalog writes it: a name that is quoted where it must be. */
		.sql = insert_statement(row_text(known, 0, 0), json_member(entry, "columns")),
		.expected = json_int32(entry, "rows", 0),
	};
}

static bool
is_missing_row(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION;
}

void
apply_shared(const char *directory, const pg_uuid_t *tenant, const Jsonb *evidence)
{
	Jsonb *entries = json_member(evidence, "shared");
	int count = json_element_count(entries);
	SharedRows *tables = palloc(sizeof(SharedRows) * Max(count, 1));
	ErrorData *error = NULL;
	bool has_moved = true;
	int left = count;

	for (int i = 0; i < count; i++)
		tables[i] = read_entry(directory, tenant, json_element(entries, i));
	while (left > 0 && has_moved)
	{
		has_moved = false;
		for (int i = 0; i < count; i++)
		{
			ErrorData *failure;

			if (tables[i].is_done)
				continue;
			failure = attempt("restoring shared rows", insert_rows, &tables[i]);
			if (failure != NULL && !is_missing_row(failure))
				ReThrowError(failure);
			if (failure == NULL)
			{
				has_moved = true;
				left--;
			}
			else
				error = failure;
		}
	}
	if (left > 0)
		ReThrowError(error);
}
