/*
 * backup/apply.c
 *		Putting what pg_restore has written as text into a tenant.
 *
 * The definitions are run, and the rows are copied, as the owner of the tenant's objects in a
 * restricted operation: what a tenant has put into its functions, constraints and defaults is
 * done with the rights of the tenant's owner, whoever restores it.
 *
 * In definitions the 26 letters that a tenant's roles and schemas are called by are replaced by
 * those of the new one, wherever they stand: also in the text of functions.  Among the rows only
 * a column "tenant_id" is changed, where it has the old tenant's id.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/compat.h"
#include "core/id.h"
#include "core/json.h"
#include "limit/quota.h"
#include "limit/quota_table.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/copy.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* A tenant's counted tables, and what they count for. */
GATE_STATEMENT(
	apply_counted,
	"SELECT c.oid, pg_catalog.replace(pg_catalog.encode(g.tgargs, 'escape'), '\\000', '')"
	"  FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid"
	"  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
	"  JOIN tenancy.tenant_schema s ON s.schema_name = n.nspname"
	" WHERE g.tgfoid = 'tenancy.quota_count()'::pg_catalog.regprocedure"
	"   AND g.tgname = 'tenancy_quota_insert' AND s.tenant_id = $1 ORDER BY 1",
	UUIDOID);

#define TENANT_COLUMN "tenant_id"
#define END_OF_ROWS "\\."
#define RESTRICT "\\restrict "

typedef struct Application
{
	const char *directory;
	const TenantEntry *tenant;
	char old_letters[ID_NAME_LENGTH + 1];
	char new_letters[ID_NAME_LENGTH + 1];
	char *old_id;
	char *new_id;
	const Jsonb *tables; /* of the evidence */
} Application;

/* What COPY reads: the rows of one table of the file, a line each. */
static struct
{
	FILE *file;
	const char *old_id;
	const char *new_id;
	int tenant_column; /* from 0; -1 for none */
	bool is_at_end;
	StringInfoData line;
	int given; /* of the line */
} source;

static char *
replace_all(const char *text, const char *from, const char *to)
{
	size_t length = strlen(from);
	StringInfoData result;
	const char *found;

	initStringInfo(&result);
	while ((found = strstr(text, from)) != NULL)
	{
		appendBinaryStringInfo(&result, text, (int) (found - text));
		appendStringInfoString(&result, to);
		text = found + length;
	}
	appendStringInfoString(&result, text);
	return result.data;
}

static FILE *
open_file(const char *directory, const char *name)
{
	char *path = psprintf("%s/%s", directory, name);
	FILE *file = AllocateFile(path, PG_BINARY_R);

	if (file == NULL)
		ereport(ERROR, errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path));
	return file;
}

/* A line with its end; false at the end of the file. */
static bool
read_line(FILE *file, StringInfo line)
{
	char buffer[8192];

	resetStringInfo(line);
	while (fgets(buffer, sizeof(buffer), file) != NULL)
	{
		appendStringInfoString(line, buffer);
		if (line->data[line->len - 1] == '\n')
			return true;
	}
	return line->len > 0;
}

static bool
begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

/*
 * What psql alone understands: newer minor versions guard the script by \restrict and \unrestrict
 * with a random word, which nothing else in it can hold.
 */
static void
remove_guard(char *script)
{
	char *begin = begins_with(script, RESTRICT) ? script : strstr(script, "\n" RESTRICT);
	char *word;
	char *end;

	if (begin == NULL)
		return;
	begin += *begin == '\n';
	word = begin + strlen(RESTRICT);
	word = pnstrdup(word, strcspn(word, "\n"));
	memset(begin, ' ', strcspn(begin, "\n"));
	end = strstr(script, psprintf("\n\\unrestrict %s", word));
	if (end != NULL)
		memset(end + 1, ' ', strcspn(end + 1, "\n"));
}

static void
run_definitions(const Application *application, const char *name)
{
	FILE *file = open_file(application->directory, name);
	StringInfoData script;
	StringInfoData line;

	initStringInfo(&script);
	initStringInfo(&line);
	while (read_line(file, &line))
		appendBinaryStringInfo(&script, line.data, line.len);
	FreeFile(file);
	remove_guard(script.data);
	gate_run_text(replace_all(script.data, application->old_letters, application->new_letters));
	CommandCounterIncrement();
}

/* The field of the tenant's id, where it has the old one. */
static void
change_tenant(StringInfo line)
{
	char *field = line->data;
	size_t length = strlen(source.old_id);

	for (int i = 0; i < source.tenant_column && field != NULL; i++)
	{
		field = strchr(field, '\t');
		field = field == NULL ? NULL : field + 1;
	}
	if (field == NULL || strncmp(field, source.old_id, length) != 0 ||
		(field[length] != '\t' && field[length] != '\n'))
		return;
	/* They are of one length. */
	memcpy(field, source.new_id, length);
}

static int
give_rows(void *buffer, int least, int most)
{
	int total = 0;

	while (total < most && !source.is_at_end)
	{
		int part;

		if (source.given == source.line.len)
		{
			if (!read_line(source.file, &source.line))
				ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the rows of a backup end in the middle"));
			source.given = 0;
			source.is_at_end = strcmp(source.line.data, END_OF_ROWS "\n") == 0;
			if (source.is_at_end)
				break;
			if (source.tenant_column >= 0)
				change_tenant(&source.line);
		}
		part = Min(source.line.len - source.given, most - total);
		memcpy((char *) buffer + total, source.line.data + source.given, part);
		source.given += part;
		total += part;
		if (total >= least && source.given == source.line.len)
			break;
	}
	return total;
}

static int
column_number(List *columns, const char *name)
{
	ListCell *cell;
	int n = 0;

	foreach (cell, columns)
	{
		if (strcmp(strVal(lfirst(cell)), name) == 0)
			return n;
		n++;
	}
	return -1;
}

static void
require_count(const Jsonb *tables, const char *table, uint64 count)
{
	Jsonb *evidence = json_member(tables, table);
	Numeric rows = evidence == NULL ? NULL : json_numeric(evidence, "rows");
	int64 expected =
		rows == NULL ? -1 : DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(rows)));

	if (expected != (int64) count)
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("table %s has " UINT64_FORMAT " rows instead of " INT64_FORMAT, table, count,
					   expected));
}

/* CopyFrom() asks nobody whether it may: only the tables that this was made for. */
static void
require_own(Relation relation, const TenantEntry *tenant)
{
	pg_uuid_t owner;

	if (registry_schema_scope(RelationGetNamespace(relation), &owner) != SCOPE_TENANT ||
		!id_equal(&owner, &tenant->id) ||
		!compat_owns_relation(RelationGetRelid(relation), GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("table \"%s\" is not the tenant's", RelationGetRelationName(relation)));
}

/* "COPY schema.table (columns) FROM stdin;" and what follows it. */
static void
copy_rows(const Application *application, const char *header, FILE *file)
{
	List *parsed = raw_parser(header, RAW_PARSE_DEFAULT);
	CopyStmt *statement = castNode(CopyStmt, linitial_node(RawStmt, parsed)->stmt);
	Relation relation = table_openrv(statement->relation, RowExclusiveLock);
	ParseState *state = make_parsestate(NULL);
	CopyFromState copy;
	uint64 count;
	char *name;

	require_own(relation, application->tenant);
	name = psprintf("%s.%s", quote_identifier(get_namespace_name(RelationGetNamespace(relation))),
					quote_identifier(RelationGetRelationName(relation)));
	source.file = file;
	source.old_id = application->old_id;
	source.new_id = application->new_id;
	source.tenant_column = column_number(statement->attlist, TENANT_COLUMN);
	source.is_at_end = false;
	source.given = source.line.len;
	(void) addRangeTableEntryForRelation(state, relation, RowExclusiveLock, NULL, false, false);
	copy = BeginCopyFrom(state, relation, NULL, NULL, false, give_rows, statement->attlist, NIL);
	count = CopyFrom(copy);
	EndCopyFrom(copy);
	table_close(relation, NoLock);
	CommandCounterIncrement();
	if (!source.is_at_end)
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the rows of a backup do not end where they should"));
	require_count(application->tables,
				  replace_all(name, application->new_letters, application->old_letters), count);
}

/* pg_restore writes nothing else into the section of the data. */
static void
run_data(const Application *application, const char *name)
{
	FILE *file = open_file(application->directory, name);
	StringInfoData line;

	initStringInfo(&line);
	initStringInfo(&source.line);
	while (read_line(file, &line))
	{
		if (begins_with(line.data, "COPY "))
			copy_rows(application,
					  replace_all(line.data, application->old_letters, application->new_letters),
					  file);
		else if (begins_with(line.data, "SELECT pg_catalog.setval('"))
			gate_run_text(
				replace_all(line.data, application->old_letters, application->new_letters));
		else if (line.data[0] != '\n' && line.data[0] != '\\' && !begins_with(line.data, "--") &&
				 !begins_with(line.data, "SET ") &&
				 !begins_with(line.data, "SELECT pg_catalog.set_config('search_path', '', false)"))
			ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("the data of a backup has a line that is not expected"));
	}
	FreeFile(file);
}

/* The triggers have come after the rows. */
static void
count_rows(const pg_uuid_t *tenant)
{
	GateRows *rows = gate_run(&apply_counted, EXPECT_ANY, gate_uuid(tenant));

	for (int64 i = 0; i < rows->count; i++)
	{
		Oid table = DatumGetObjectId(row_datum(rows, i, 0));

		quota_count_prepare(table, row_text(rows, i, 1));
		quota_count_existing(table, row_text(rows, i, 1), 1);
	}
}

void
apply_schemas(const char *directory, const pg_uuid_t *from, const pg_uuid_t *tenant,
			  const Jsonb *evidence)
{
	Application application = {
		.directory = directory,
		.tenant = registry_get_latest(tenant),
		.old_id = id_text(from),
		.new_id = id_text(tenant),
		.tables = json_member(evidence, "tables"),
	};
	GateScope scope;

	if (application.tenant->schema == NULL)
		return;
	strlcpy(application.old_letters, id_name('t', from) + 2, sizeof(application.old_letters));
	strlcpy(application.new_letters, id_name('t', tenant) + 2, sizeof(application.new_letters));
	gate_enter(&scope, get_role_oid(application.tenant->owner, false), "pg_catalog");
	run_definitions(&application, "pre.sql");
	run_data(&application, "data.sql");
	run_definitions(&application, "post.sql");
	gate_leave(&scope);
	count_rows(tenant);
}
