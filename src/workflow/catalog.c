/*
 * workflow/catalog.c
 *		Importing entities in the form of Backstage's catalog.
 *
 * Entities are documents with "apiVersion", "kind" and "metadata.name", known by their
 * reference (https://backstage.io/docs/features/software-catalog/references).  They come as a JSON
 * array, as lines, or as what yq makes of YAML.  A row that is wrong is told of and keeps
 * no other from being imported.
 *
 * They go to tenancy.catalog_entity, or into a table of the tenant's schema, with the rights of the
 * tenant's role and in its context: what the table's triggers do is the tenant's doing.
 */
#include "postgres.h"

#include "catalog/column.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "tenant/configuration.h"
#include "workflow/catalog.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"

#define MAX_ENTITIES 100000

/* So many go into a table of a tenant by one statement; where one of them cannot, singly. */
#define ROWS_A_STATEMENT 500

GATE_STATEMENT(
	catalog_entity_put,
	"INSERT INTO tenancy.catalog_entity AS c (tenant_id, entity_ref, entity,"
	"    imported_at, workflow_id)"
	" SELECT $1, e.reference, e.entity, $4, $5 FROM unnest($2, $3) AS e(reference, entity)"
	" ON CONFLICT (tenant_id, entity_ref) DO NOTHING RETURNING c.entity_ref",
	UUIDOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(catalog_entity_remove,
			   "DELETE FROM tenancy.catalog_entity e WHERE e.tenant_id = $1 AND e.workflow_id = $2",
			   UUIDOID, UUIDOID);
GATE_LOOKUP(catalog_entity_count,
			"SELECT pg_catalog.count(*) FROM tenancy.catalog_entity e WHERE e.tenant_id = $1",
			UUIDOID);
static CatalogRows *
new_rows(int count)
{
	CatalogRows *result = palloc0(sizeof(CatalogRows));

	if (count > MAX_ENTITIES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%d entities are too many to be imported at once", count),
				errdetail("At most %d are.", MAX_ENTITIES));
	result->rows = palloc0(sizeof(CatalogRow) * Max(count, 1));
	return result;
}

/* kind:namespace/name, in lower case, as Backstage compares them. */
static void
add_entity(CatalogRows *rows, Jsonb *entity, const char *fault)
{
	CatalogRow *row = &rows->rows[rows->count++];
	Jsonb *metadata;
	char *name = NULL;

	row->entity = entity;
	row->fault = fault;
	if (fault != NULL)
		return;
	if (JB_ROOT_IS_OBJECT(entity) && json_text(entity, "apiVersion") != NULL &&
		json_text(entity, "kind") != NULL)
	{
		metadata = json_member(entity, "metadata");
		if (metadata != NULL && JB_ROOT_IS_OBJECT(metadata))
			name = json_text(metadata, "name");
	}
	if (name == NULL || *name == '\0')
		row->fault = "it is no object with \"apiVersion\", \"kind\" and \"metadata.name\"";
	else
	{
		char *namespace = json_text(metadata, "namespace");

		row->reference = psprintf("%s:%s/%s", json_text(entity, "kind"),
								  namespace == NULL ? "default" : namespace, name);
		row->reference = asc_tolower(row->reference, strlen(row->reference));
	}
}

CatalogRows *
catalog_read_array(const Jsonb *array)
{
	int count = json_element_count(array);
	CatalogRows *rows = new_rows(count);

	for (int i = 0; i < count; i++)
		add_entity(rows, json_element(array, i), NULL);
	return rows;
}

static bool
is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

static bool
is_blank_line(const char *text)
{
	text += strspn(text, " \t\r");
	return *text == '\n' || *text == '\0';
}

/*
 * Is each line a document?  Then a broken one breaks no other.  Where a document goes over lines,
 * as yq and jq lay it out, some are indented or begin with what closes it.
 */
static bool
is_lines(const char *text)
{
	while (text != NULL)
	{
		if (strchr(" \t}]", *text) != NULL && !is_blank_line(text))
			return false;
		text = strchr(text, '\n');
		if (text != NULL)
			text++;
	}
	return true;
}

/* The end of the document that begins here: where its braces are closed, outside of strings. */
static const char *
end_of_document(const char *text)
{
	int depth = 0;
	bool is_string = false;

	for (; *text != '\0'; text++)
	{
		if (is_string)
		{
			if (*text == '\\' && text[1] != '\0')
				text++;
			else if (*text == '"')
				is_string = false;
		}
		else if (*text == '"')
			is_string = true;
		else if (*text == '{' || *text == '[')
			depth++;
		else if ((*text == '}' || *text == ']') && --depth <= 0)
			return text + 1;
	}
	return text;
}

typedef struct Parsing
{
	const char *text;
	Jsonb *document;
} Parsing;

static void
parse(void *argument)
{
	Parsing *parsing = argument;

	parsing->document = json_parse(parsing->text);
}

CatalogRows *
catalog_read_text(const char *text)
{
	bool by_line = is_lines(text);
	List *documents = NIL;
	ListCell *cell;
	CatalogRows *rows;

	text += strspn(text, " \t\r\n");
	if (*text == '[')
		return catalog_read_array(json_parse(text));
	while (!is_blank(text))
	{
		const char *end = by_line ? text + strcspn(text, "\n") : end_of_document(text);
		char *document = pnstrdup(text, end - text);

		if (!is_blank(document))
			documents = lappend(documents, document);
		text = end;
		if (by_line && *text != '\0')
			text++;
	}
	rows = new_rows(list_length(documents));
	foreach (cell, documents)
	{
		Parsing parsing = {.text = lfirst(cell)};
		ErrorData *error = attempt("catalog_entity", parse, &parsing);

		add_entity(rows, parsing.document, error == NULL ? NULL : error->message);
	}
	return rows;
}

static const char *
duplicate_fault(const char *reference)
{
	return psprintf("entity \"%s\" is there already", reference);
}

typedef struct ReferenceEntry
{
	uint32 hash;
	const char *reference;
	char status;
} ReferenceEntry;

#define SH_PREFIX references
#define SH_ELEMENT_TYPE ReferenceEntry
#define SH_KEY_TYPE const char *
#define SH_KEY reference
#define SH_HASH_KEY(table, key) DatumGetUInt32(hash_any((const unsigned char *) key, strlen(key)))
#define SH_EQUAL(table, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) entry->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "common/hashfn.h"
#include "lib/simplehash.h"

/* Of two that have the same reference the first counts; of more than the plan allows, the first. */
static void
refuse_surplus(const pg_uuid_t *tenant, CatalogRows *rows, bool is_limited)
{
	references_hash *seen = references_create(CurrentMemoryContext, Max(rows->count, 1), NULL);
	int64 room = -1;

	if (is_limited)
		room = json_int32(json_member(configuration_in_force(tenant), "feature_limits"),
						  "max_entities", -1);
	if (room >= 0)
	{
		GateRows *rows_there = gate_run(&catalog_entity_count, EXPECT_ONE, gate_uuid(tenant));

		room = Max(room - row_int64(rows_there, 0, 0), 0);
	}
	for (int i = 0; i < rows->count; i++)
	{
		CatalogRow *row = &rows->rows[i];
		bool was_seen;

		if (row->fault != NULL)
			continue;
		(void) references_insert(seen, row->reference, &was_seen);
		if (was_seen)
			row->fault = duplicate_fault(row->reference);
		else if (room == 0)
			row->fault = "the plan allows no more entities";
		else if (room > 0)
			room--;
	}
}

static void
import_here(const pg_uuid_t *tenant, const pg_uuid_t *workflow, CatalogRows *rows)
{
	references_hash *written = references_create(CurrentMemoryContext, Max(rows->count, 1), NULL);
	Column references;
	Column entities;
	GateRows *put;

	column_begin(&references, TEXTOID);
	column_begin(&entities, JSONBOID);
	for (int i = 0; i < rows->count; i++)
	{
		if (rows->rows[i].fault != NULL)
			continue;
		column_add(&references, gate_text(rows->rows[i].reference));
		column_add(&entities, gate_jsonb(rows->rows[i].entity));
	}
	put = gate_run(&catalog_entity_put, EXPECT_ANY, gate_uuid(tenant), column_array(&references),
				   column_array(&entities), gate_timestamptz(clock_now()), gate_uuid(workflow));
	for (int64 i = 0; i < put->count; i++)
	{
		bool found;

		(void) references_insert(written, row_text(put, i, 0), &found);
	}
	for (int i = 0; i < rows->count; i++)
	{
		CatalogRow *row = &rows->rows[i];

		if (row->fault == NULL && references_lookup(written, row->reference) == NULL)
			row->fault = duplicate_fault(row->reference);
	}
}

/* What a table may take of an entity, by the names of its columns. */
static const char *const columns_of_entity[] = {
	"entity_ref",  "api_version", "kind", "namespace", "name",   "title",
	"description", "metadata",    "spec", "relations", "entity",
};

static Jsonb *
row_of_entity(const CatalogRow *row)
{
	Jsonb *metadata = json_member(row->entity, "metadata");
	char *namespace = json_text(metadata, "namespace");
	JsonBuilder builder;

	json_begin(&builder);
	json_put_text(&builder, "entity_ref", row->reference);
	json_put_text(&builder, "api_version", json_text(row->entity, "apiVersion"));
	json_put_text(&builder, "kind", json_text(row->entity, "kind"));
	json_put_text(&builder, "namespace", namespace == NULL ? "default" : namespace);
	json_put_text(&builder, "name", json_text(metadata, "name"));
	json_put_text(&builder, "title", json_text(metadata, "title"));
	json_put_text(&builder, "description", json_text(metadata, "description"));
	json_put_jsonb(&builder, "metadata", metadata);
	json_put_jsonb(&builder, "spec", json_member(row->entity, "spec"));
	json_put_jsonb(&builder, "relations", json_member(row->entity, "relations"));
	json_put_jsonb(&builder, "entity", row->entity);
	return json_end(&builder);
}

/* An insert of rows_of_entity() documents into the columns that the table has. */
static char *
insert_statement(const char *schema, const char *table)
{
	Oid namespace = get_namespace_oid(schema, false);
	Oid relid = get_relname_relid(table, namespace);
	StringInfoData columns;
	char *target = quote_qualified_identifier(schema, table);

	if (!OidIsValid(relid))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the tenant has no table \"%s\"", table));
	initStringInfo(&columns);
	for (int i = 0; i < lengthof(columns_of_entity); i++)
	{
		AttrNumber number = get_attnum(relid, columns_of_entity[i]);

		if (number == InvalidAttrNumber || get_attgenerated(relid, number) != '\0')
			continue;
		appendStringInfo(&columns, "%s%s", columns.len == 0 ? "" : ", ", columns_of_entity[i]);
	}
	if (columns.len == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("table \"%s\" has no column for an entity", table),
				errdetail("Such columns are entity_ref, api_version, kind, namespace, name, title, "
						  "description, metadata, spec, relations and entity."));
	return psprintf("INSERT INTO %s (%s) SELECT %s FROM pg_catalog.unnest($1::jsonb[]) d(document),"
					" LATERAL pg_catalog.jsonb_populate_record(NULL::%s, d.document) r"
					" ON CONFLICT DO NOTHING",
					target, columns.data, columns.data, target);
}

typedef struct Insertion
{
	const char *sql;
	CatalogRow *rows;
	int count;
} Insertion;

static void
insert(void *argument)
{
	Insertion *insertion = argument;
	Column documents;
	Oid types[] = {JSONBARRAYOID};
	NullableDatum arguments[1];
	int wanted = 0;
	int64 count;

	column_begin(&documents, JSONBOID);
	for (int i = 0; i < insertion->count; i++)
	{
		if (insertion->rows[i].fault != NULL)
			continue;
		column_add(&documents, gate_jsonb(row_of_entity(&insertion->rows[i])));
		wanted++;
	}
	if (wanted == 0)
		return;
	arguments[0] = column_array(&documents);
	count = gate_query_text(insertion->sql, 1, types, arguments)->count;
	gate_run_text("SET CONSTRAINTS ALL IMMEDIATE");
	if (count < wanted)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("%s", wanted == 1 ? duplicate_fault(insertion->rows[0].reference)
										 : "some are there already"));
}

static void
import_into(const pg_uuid_t *tenant, CatalogRows *rows, const char *table)
{
	TenantEntry *entry = registry_get_latest(tenant);
	ContextRole role;
	GateScope scope;
	char *sql;

	if (entry->schema == NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no schema", entry->slug));
	sql = insert_statement(entry->schema, table);
	role = context_push(tenant);
	gate_enter(&scope, role.role, role.search_path);
	for (int start = 0; start < rows->count; start += ROWS_A_STATEMENT)
	{
		Insertion many = {.sql = sql,
						  .rows = rows->rows + start,
						  .count = Min(ROWS_A_STATEMENT, rows->count - start)};

		if (attempt("catalog_rows", insert, &many) == NULL)
			continue;
		for (int i = 0; i < many.count; i++)
		{
			Insertion one = {.sql = sql, .rows = many.rows + i, .count = 1};
			ErrorData *error = attempt("catalog_row", insert, &one);

			if (error != NULL)
				one.rows->fault = error->message;
		}
	}
	gate_leave(&scope);
	context_pop();
}

void
catalog_import(const pg_uuid_t *tenant, const pg_uuid_t *workflow, CatalogRows *rows,
			   const char *table)
{
	registry_require_active(registry_get_latest(tenant));
	/* In a table of its own the tenant's entities are counted by quota_count_table(). */
	refuse_surplus(tenant, rows, table == NULL);
	if (table == NULL)
		import_here(tenant, workflow, rows);
	else
		import_into(tenant, rows, table);
	for (int i = 0; i < rows->count; i++)
		rows->imported += rows->rows[i].fault == NULL;
}

void
catalog_remove(const pg_uuid_t *tenant, const pg_uuid_t *workflow)
{
	gate_run(&catalog_entity_remove, EXPECT_ANY, gate_uuid(tenant), gate_uuid(workflow));
}

/* catalog_import(tenant regtenant, entities text, into_table text) */
TENANCY_FUNCTION(catalog_import)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	CatalogRows *rows = catalog_read_text(required_text(fcinfo, 1, "entities"));
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;

	context_require_none("catalog_import()");
	(void) registry_get(tenant);
	catalog_import(tenant, NULL, rows, optional_text(fcinfo, 2));
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < rows->count; i++)
	{
		CatalogRow *row = &rows->rows[i];
		Datum values[] = {
			Int32GetDatum(i + 1),
			row->reference == NULL ? (Datum) 0 : CStringGetTextDatum(row->reference),
			BoolGetDatum(row->fault == NULL),
			row->fault == NULL ? (Datum) 0 : CStringGetTextDatum(row->fault),
		};
		bool nulls[] = {false, row->reference == NULL, false, row->fault == NULL};

		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	}
	return (Datum) 0;
}
