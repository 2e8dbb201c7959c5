/*
 * tenant/template.c
 *		Template schemas: capturing their structure, and rebuilding it for a tenant.
 *
 * The structure is captured once and kept as statements, so that making a tenant costs
 * no more than the DDL itself.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "crypto/digest.h"
#include "tenant/template.h"
#include "tenant/template_capture.h"

#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

GATE_STATEMENT(
	template_insert,
	"INSERT INTO tenancy.template (name, schema_name, captured_at, statement_count, fingerprint)"
	" VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
	TEXTOID, NAMEOID, TIMESTAMPTZOID, INT4OID, BYTEAOID);
GATE_STATEMENT(
	template_update,
	"UPDATE tenancy.template SET captured_at = $2, statement_count = $3, fingerprint = $4"
	" WHERE name = $1",
	TEXTOID, TIMESTAMPTZOID, INT4OID, BYTEAOID);
GATE_STATEMENT(
	template_statements_replace,
	"WITH gone AS (DELETE FROM tenancy.template_statement WHERE template = $1"
	"              AND position > pg_catalog.cardinality($2))"
	" INSERT INTO tenancy.template_statement (template, position, kind, ddl)"
	" SELECT $1, s.position, s.kind, s.ddl"
	"   FROM ROWS FROM (unnest($2), unnest($3)) WITH ORDINALITY AS s(kind, ddl, position)"
	" ON CONFLICT (template, position) DO UPDATE SET kind = excluded.kind, ddl = excluded.ddl",
	TEXTOID, TEXTARRAYOID, TEXTARRAYOID);
GATE_STATEMENT(template_statements,
			   "SELECT s.kind, s.ddl FROM tenancy.template_statement s WHERE s.template = $1"
			   " ORDER BY s.position",
			   TEXTOID);
GATE_STATEMENT(template_get,
			   "SELECT t, t.schema_name, t.fingerprint FROM tenancy.template t WHERE t.name = $1",
			   TEXTOID);
GATE_STATEMENT(template_delete,
			   "WITH statements AS (DELETE FROM tenancy.template_statement WHERE template = $1)"
			   " DELETE FROM tenancy.template AS t WHERE t.name = $1 RETURNING t",
			   TEXTOID);
GATE_STATEMENT(template_tenants,
			   "SELECT pg_catalog.count(*) FROM tenancy.tenant t WHERE t.template = $1", TEXTOID);

static bytea *
fingerprint(const CapturedStatement *statements, int count)
{
	Digest digest;

	digest_begin(&digest);
	for (int i = 0; i < count; i++)
		digest_add_text(&digest, statements[i].ddl);
	return digest_end(&digest);
}

static void
store(const char *name, const CapturedStatement *statements, int count)
{
	const char **kinds = palloc(sizeof(char *) * Max(count, 1));
	const char **ddl = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		kinds[i] = statements[i].kind;
		ddl[i] = statements[i].ddl;
	}
	gate_run(&template_statements_replace, EXPECT_ANY, gate_text(name),
			 gate_text_array(kinds, count), gate_text_array(ddl, count));
}

/* The row, its schema and fingerprint; 42704 where there is none. */
static GateRows *
get_template(const char *name)
{
	GateRows *rows = gate_run(&template_get, EXPECT_AT_MOST_ONE, gate_text(name));

	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("template \"%s\" does not exist", name));
	return rows;
}

static Oid
schema_of(const GateRows *template)
{
	return get_namespace_oid(row_text(template, 0, 1), false);
}

static void
require_usable_schema(Oid schema)
{
	char *name = get_namespace_name(schema);
	pg_uuid_t tenant;

	if (name == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_SCHEMA),
				errmsg("schema with OID %u does not exist", schema));
	if (!compat_may_use(schema, GetUserId()))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for schema \"%s\"", name));
	if (IsCatalogNamespace(schema) || schema == extension_tables_schema() ||
		schema == extension_public_schema() || isAnyTempNamespace(schema) ||
		strcmp(name, "information_schema") == 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("schema \"%s\" cannot be a template", name),
				errdetail("It belongs to the system or to pg_tenancy."));
	if (registry_schema_scope(schema, &tenant) == SCOPE_TENANT)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("schema \"%s\" cannot be a template", name),
				errdetail("It belongs to a tenant."));
}

void
template_instantiate(const char *template, const char *schema, const char *owner, const char *role)
{
	GateRows *rows = gate_run(&template_statements, EXPECT_ANY, gate_text(template));
	bool owns_itself = strcmp(owner, role) == 0;
	StringInfoData script;
	char *sql;
	GateScope scope;

	initStringInfo(&script);
	for (int64 i = 0; i < rows->count; i++)
	{
		if (owns_itself && strcmp(row_text(rows, i, 0), KIND_TENANT_GRANT) == 0)
			continue;
		appendStringInfo(&script, "%s;\n", row_text(rows, i, 1));
	}
	if (script.len == 0)
		return;
	sql = replace_all(script.data, PLACEHOLDER_SCHEMA, quote_identifier(schema));
	sql = replace_all(sql, PLACEHOLDER_OWNER, quote_identifier(owner));
	sql = replace_all(sql, PLACEHOLDER_ROLE, quote_identifier(role));

	gate_enter(&scope, get_role_oid(owner, false),
			   psprintf("%s, pg_catalog", quote_identifier(schema)));
	gate_run_text(sql);
	gate_leave(&scope);
}

/* template_create(name text, schema regnamespace) → tenancy.template */
TENANCY_FUNCTION(template_create)
{
	char *name = required_text(fcinfo, 0, "name");
	CapturedStatement *statements;
	Oid schema;
	int count;

	require_argument(fcinfo, 1, "schema");
	schema = PG_GETARG_OID(1);
	context_require_none("creating a template");
	if (*name == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid name \"%s\" for a template", name),
				errhint("It has 1 to %d bytes.", NAMEDATALEN - 1));
	require_usable_schema(schema);

	statements = template_capture(schema, &count);
	if (gate_run(&template_insert, EXPECT_AT_MOST_ONE, gate_text(name),
				 gate_name(get_namespace_name(schema)), gate_timestamptz(clock_now()),
				 gate_int32(count), gate_datum(PointerGetDatum(fingerprint(statements, count))))
			->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("template \"%s\" already exists", name),
				errhint("template_refresh() captures its schema again."));
	store(name, statements, count);
	PG_RETURN_DATUM(row_datum(get_template(name), 0, 0));
}

/* template_refresh(name text) → tenancy.template */
TENANCY_FUNCTION(template_refresh)
{
	char *name = required_text(fcinfo, 0, "name");
	Oid schema = schema_of(get_template(name));
	CapturedStatement *statements;
	int count;

	context_require_none("refreshing a template");
	require_usable_schema(schema);
	statements = template_capture(schema, &count);
	gate_run(&template_update, EXPECT_ONE, gate_text(name), gate_timestamptz(clock_now()),
			 gate_int32(count), gate_datum(PointerGetDatum(fingerprint(statements, count))));
	store(name, statements, count);
	PG_RETURN_DATUM(row_datum(get_template(name), 0, 0));
}

/* template_is_stale(name text) → boolean */
TENANCY_FUNCTION(template_is_stale)
{
	GateRows *template = get_template(required_text(fcinfo, 0, "name"));
	bytea *kept = DatumGetByteaPP(row_datum(template, 0, 2));
	CapturedStatement *statements;
	bytea *live;
	int count;

	context_require_none("comparing a template");
	statements = template_capture(schema_of(template), &count);
	live = fingerprint(statements, count);
	PG_RETURN_BOOL(memcmp(VARDATA_ANY(kept), VARDATA_ANY(live), DIGEST_LENGTH) != 0);
}

/* template_drop(name text) → tenancy.template */
TENANCY_FUNCTION(template_drop)
{
	char *name = required_text(fcinfo, 0, "name");
	int64 tenants;

	context_require_none("dropping a template");
	(void) get_template(name);
	tenants = row_int64(gate_run(&template_tenants, EXPECT_ONE, gate_text(name)), 0, 0);
	if (tenants > 0)
		ereport(ERROR, errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				errmsg("template \"%s\" is in use", name),
				errdetail_plural(INT64_FORMAT " tenant was made from it.",
								 INT64_FORMAT " tenants were made from it.", tenants, tenants));
	PG_RETURN_DATUM(row_datum(gate_run(&template_delete, EXPECT_ONE, gate_text(name)), 0, 0));
}
