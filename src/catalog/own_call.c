/*
 * catalog/own_call.c
 *		Calling our public functions by SQL.
 *
 * Whoever may create in the schema of the extension could place a function there that fits
 * arguments better than ours does, by exact types or without defaults, and that a superuser would
 * then run.  So the function is looked up as a member of the extension, and called with every
 * argument, each cast to its declared type: nothing in the same schema fits better.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/own_call.h"

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Of public functions none is overloaded. */
static Oid
find(const char *name)
{
	Oid extension = get_extension_oid("pg_tenancy", false);
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid result = InvalidOid;

	for (int i = 0; i < list->n_members && !OidIsValid(result); i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (proc->pronamespace == extension_public_schema() &&
			getExtensionOfObject(ProcedureRelationId, proc->oid) == extension)
			result = proc->oid;
	}
	ReleaseSysCacheList(list);
	if (!OidIsValid(result))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("the extension has no function \"%s\"", name));
	return result;
}

static char *
default_of(Oid function, int argument)
{
	return TextDatumGetCString(DirectFunctionCall2(
		pg_get_function_arg_default, ObjectIdGetDatum(function), Int32GetDatum(argument + 1)));
}

char *
own_call(const char *name, int count, const char *const *arguments)
{
	Oid function = find(name);
	Oid *types;
	int type_count;
	StringInfoData sql;

	(void) get_func_signature(function, &types, &type_count);
	initStringInfo(&sql);
	appendStringInfo(
		&sql, "%s(",
		quote_qualified_identifier(get_namespace_name(extension_public_schema()), name));
	for (int i = 0; i < type_count; i++)
		appendStringInfo(&sql, "%s(%s)::%s", i == 0 ? "" : ", ",
						 i < count ? arguments[i] : default_of(function, i),
						 format_type_be_qualified(types[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

GateRows *
own_call_run(const char *name, const char *member, int count, const Oid *types,
			 const NullableDatum *arguments)
{
	const char **parameters = palloc(sizeof(char *) * Max(count, 1));
	char *call;

	for (int i = 0; i < count; i++)
		parameters[i] = psprintf("$%d", i + 1);
	call = own_call(name, count, parameters);
	return gate_query_text(member == NULL
							   ? psprintf("SELECT %s", call)
							   : psprintf("SELECT (%s).%s", call, quote_identifier(member)),
						   count, types, arguments);
}
