/*
 * tenant/template_capture.c
 *		A schema's structure as DDL, in an order in which it can be made.
 *
 * The server deparses its own catalogs.  For the time of the reading the schema is
 * renamed, within a subtransaction that is rolled back, to a name that occurs nowhere
 * else: every reference to it then carries that name, whatever its own name is and
 * whatever columns, aliases or literals happen to be called the same.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/id.h"
#include "tenant/template_capture.h"
#include "tenant/template_queries.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

GATE_STATEMENT(template_unsupported, QUERY_UNSUPPORTED, OIDOID);
GATE_STATEMENT(template_units, QUERY_UNITS, OIDOID);
GATE_STATEMENT(template_edges, QUERY_EDGES, OIDOID);
GATE_STATEMENT(template_finish, QUERY_FINISH, OIDOID);

GATE_STATEMENT(
	template_object_names,
	"SELECT o.name::text FROM ("
	"   SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = $1"
	"   UNION SELECT p.proname FROM pg_catalog.pg_proc p WHERE p.pronamespace = $1"
	"   UNION SELECT t.typname FROM pg_catalog.pg_type t WHERE t.typnamespace = $1) o(name)"
	" WHERE EXISTS (SELECT FROM pg_catalog.pg_class c"
	"               WHERE c.relnamespace = $1 AND c.relname = $2)",
	OIDOID, NAMEOID);

/* An object with what must be made before it. */
typedef struct Unit
{
	Oid class_id;
	Oid object_id;
	char *kind;
	char *ddl;
	int needs;       /* units that still have to come before */
	List *needed_by; /* indexes of units */
	bool is_done;
} Unit;

/*
 * pg_get_functiondef() prints the body as it stands; only there, and in a SET
 * search_path of the header, can the old name of the schema have stayed.
 */
static char *
retarget_function(const Unit *unit, const char *schema, List *objects)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(unit->object_id));
	Form_pg_proc function;
	bool has_parsed_body;
	char *language;
	char *body;
	char *place;
	Datum datum;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", unit->object_id);
	function = (Form_pg_proc) GETSTRUCT(tuple);
	(void) SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	has_parsed_body = !isnull;
	datum = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
	body = TextDatumGetCString(datum);
	language = get_language_name(function->prolang, false);

	place = has_parsed_body || *body == '\0' ? NULL : strstr(unit->ddl, body);
	if (place != NULL)
	{
		char *head = retarget_search_path(pnstrdup(unit->ddl, place - unit->ddl), schema);
		char *tail = place + strlen(body);

		if (strcmp(language, "sql") == 0 || strcmp(language, "plpgsql") == 0)
			body = retarget_body(body, schema, NameStr(function->proname), objects);
		else if (strstr(body, schema) != NULL)
			ereport(WARNING,
					errmsg("function \"%s\" may name schema \"%s\" in language %s",
						   NameStr(function->proname), schema, language),
					errdetail("Its body stays as it is in every tenant."));
		ReleaseSysCache(tuple);
		return psprintf("%s%s%s", head, body, tail);
	}
	ReleaseSysCache(tuple);
	return retarget_search_path(unit->ddl, schema);
}

static int
find_unit(const Unit *units, int count, Oid class_id, Oid object_id)
{
	for (int i = 0; i < count; i++)
	{
		if (units[i].object_id == object_id && units[i].class_id == class_id)
			return i;
	}
	return -1;
}

static void
link_units(Unit *units, int count, const GateRows *edges)
{
	for (int64 i = 0; i < edges->count; i++)
	{
		int later = find_unit(units, count, DatumGetObjectId(row_datum(edges, i, 0)),
							  DatumGetObjectId(row_datum(edges, i, 1)));
		int earlier = find_unit(units, count, DatumGetObjectId(row_datum(edges, i, 2)),
								DatumGetObjectId(row_datum(edges, i, 3)));

		if (later < 0 || earlier < 0)
			continue;
		units[later].needs++;
		units[earlier].needed_by = lappend_int(units[earlier].needed_by, later);
	}
}

static int
compare_places(Datum a, Datum b, void *argument)
{
	return DatumGetInt32(b) - DatumGetInt32(a);
}

static void
refuse_circle(const Unit *units, int count)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < count; i++)
	{
		if (!units[i].is_done)
			appendStringInfo(&names, "%s%s %u", names.len > 0 ? ", " : "", units[i].kind,
							 units[i].object_id);
	}
	ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("objects of the schema depend on each other in a circle"),
			errdetail("Objects in or behind the circle: %s.", names.data));
}

/* Topological order; among what is possible, the order of the query (Kahn 1962). */
static void
emit_units(Unit *units, int count, CapturedStatement *statements)
{
	binaryheap *possible = binaryheap_allocate(Max(count, 1), compare_places, NULL);
	int emitted = 0;

	for (int i = 0; i < count; i++)
	{
		if (units[i].needs == 0)
			binaryheap_add(possible, Int32GetDatum(i));
	}
	while (!binaryheap_empty(possible))
	{
		Unit *unit = &units[DatumGetInt32(binaryheap_remove_first(possible))];
		ListCell *cell;

		unit->is_done = true;
		statements[emitted].kind = unit->kind;
		statements[emitted].ddl = unit->ddl;
		emitted++;
		foreach (cell, unit->needed_by)
		{
			if (--units[lfirst_int(cell)].needs == 0)
				binaryheap_add(possible, Int32GetDatum(lfirst_int(cell)));
		}
	}
	if (emitted < count)
		refuse_circle(units, count);
	binaryheap_free(possible);
}

static void
require_clonable(Oid schema, const char *name)
{
	GateRows *rows = gate_run(&template_unsupported, EXPECT_AT_MOST_ONE, gate_oid(schema));

	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("schema \"%s\" cannot be a template", name),
				errdetail("It holds %s, which cannot be cloned.", row_text(rows, 0, 0)));
}

CapturedStatement *
template_capture(Oid schema, int *count)
{
	char *name = get_namespace_name(schema);
	char *marker = id_name('x', id_new());
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	CapturedStatement *statements;
	GateRows *rows;
	GateRows *edges;
	GateRows *finish;
	GateRows *names;
	List *objects = NIL;
	Unit *units;

	require_clonable(schema, name);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	gate_run_as_superuser(psprintf("ALTER SCHEMA %s RENAME TO %s", quote_identifier(name), marker));
	rows = gate_run(&template_units, EXPECT_ANY, gate_oid(schema));
	edges = gate_run(&template_edges, EXPECT_ANY, gate_oid(schema));
	finish = gate_run(&template_finish, EXPECT_ANY, gate_oid(schema));
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	names = gate_run(&template_object_names, EXPECT_ANY, gate_oid(schema), gate_name(name));
	for (int64 i = 0; i < names->count; i++)
		objects = lappend(objects, row_text(names, i, 0));

	units = palloc0(sizeof(Unit) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		Unit *unit = &units[i];

		unit->class_id = DatumGetObjectId(row_datum(rows, i, 0));
		unit->object_id = DatumGetObjectId(row_datum(rows, i, 1));
		unit->kind = row_text(rows, i, 3);
		unit->ddl = row_text(rows, i, 4);
		if (unit->class_id == ProcedureRelationId)
			unit->ddl = retarget_function(unit, name, objects);
	}
	link_units(units, rows->count, edges);

	*count = rows->count + finish->count;
	statements = palloc(sizeof(CapturedStatement) * Max(*count, 1));
	emit_units(units, rows->count, statements);
	for (int64 i = 0; i < finish->count; i++)
	{
		statements[rows->count + i].kind = row_text(finish, i, 1);
		statements[rows->count + i].ddl = row_text(finish, i, 2);
	}
	for (int i = 0; i < *count; i++)
		statements[i].ddl = replace_all(statements[i].ddl, marker, PLACEHOLDER_SCHEMA);
	return statements;
}
