/*
 * job/kind.c
 *		The kinds of work: a table that modules add to, and those that applications define.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/function.h"
#include "core/json.h"
#include "job/kind.h"
#include "job/perform.h"
#include "job/retry.h"

#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#define MAX_KINDS 32
#define MAX_NAME_LENGTH 100
#define MAX_TIMEOUT_SECONDS (7 * SECS_PER_DAY)

static const JobKind *kinds[MAX_KINDS];
static int kind_count = 0;

GATE_LATEST(job_kind_get,
			"SELECT d.procedure, d.run_as = 'tenant', d.for_tenants, d.retry,"
			"       extract(epoch FROM d.timeout)::integer"
			"  FROM tenancy.job_kind_defined d WHERE d.name = $1",
			TEXTOID);
GATE_STATEMENT(job_kind_put,
			   "INSERT INTO tenancy.job_kind_defined AS d"
			   "    (name, procedure, run_as, for_tenants, retry, timeout, description)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $7)"
			   " ON CONFLICT (name) DO UPDATE SET procedure = excluded.procedure,"
			   "    run_as = excluded.run_as, for_tenants = excluded.for_tenants,"
			   "    retry = excluded.retry, timeout = excluded.timeout,"
			   "    description = excluded.description"
			   " WHERE (d.procedure IS NULL) = (excluded.procedure IS NULL)"
			   "    OR NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.kind = d.name)"
			   " RETURNING d",
			   TEXTOID, TEXTOID, TEXTOID, BOOLOID, JSONBOID, INTERVALOID, TEXTOID);
GATE_STATEMENT(
	job_kind_delete,
	"DELETE FROM tenancy.job_kind_defined d WHERE d.name = $1"
	"   AND NOT EXISTS (SELECT FROM tenancy.job_pending j WHERE j.kind = $1) RETURNING d",
	TEXTOID);

void
job_kind_register(const JobKind *kind)
{
	if (kind_count == MAX_KINDS)
		elog(ERROR, "too many kinds of jobs");
	kinds[kind_count++] = kind;
}

int
job_kind_count(void)
{
	return kind_count;
}

const JobKind *
job_kind(int index)
{
	return kinds[index];
}

const JobKind *
job_kind_find(const char *name)
{
	for (int i = 0; i < kind_count; i++)
	{
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	}
	return NULL;
}

static bool
is_queued(const JobKind *kind)
{
	return kind->perform != NULL || kind->perform_outside != NULL || kind->has_own_worker;
}

bool
job_kind_is_periodic(const JobKind *kind)
{
	return kind->has_work == NULL && !is_queued(kind);
}

JobKindEntry *
job_kind_entry(const char *name)
{
	JobKindEntry *entry = palloc0(sizeof(JobKindEntry));
	const JobKind *kind = job_kind_find(name);
	GateRows *rows;

	if (kind != NULL)
	{
		if (!is_queued(kind))
			return NULL;
		entry->library = kind;
		entry->timeout_seconds = kind->timeout_seconds;
		entry->retry = kind->retry == NULL ? NULL : json_parse(kind->retry);
		return entry;
	}
	rows = gate_run(&job_kind_get, EXPECT_AT_MOST_ONE, gate_text(name));
	if (rows->count == 0)
		return NULL;
	entry->procedure = row_text(rows, 0, 0);
	entry->runs_as_tenant = row_bool(rows, 0, 1);
	entry->is_for_tenants = row_bool(rows, 0, 2);
	entry->retry = row_jsonb(rows, 0, 3);
	entry->timeout_seconds = row_int32(rows, 0, 4);
	return entry;
}

void
job_kind_require_for_callers(const char *name)
{
	const JobKind *kind = job_kind_find(name);

	if (kind != NULL && !kind->is_for_callers)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("jobs of kind \"%s\" are enqueued by the extension alone", name));
}

const char *
job_kind_lane(const JobKindEntry *entry, const char *name)
{
	if (entry->library != NULL && entry->library->perform_outside != NULL)
		return JOB_OUTSIDE_LANE;
	if (entry->procedure != NULL || (entry->library != NULL && !entry->library->has_own_worker))
		return JOB_OWN_LANE;
	return name;
}

/* tenancy.job_kind_read() → TABLE(name text, every interval, timeout interval, description text) */
TENANCY_FUNCTION(job_kind_read)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < kind_count; i++)
	{
		Interval every = {.time = kinds[i]->every_seconds * USECS_PER_SEC};
		Interval timeout = {.time = kinds[i]->timeout_seconds * USECS_PER_SEC};
		Datum values[4] = {CStringGetTextDatum(kinds[i]->name), IntervalPGetDatum(&every),
						   IntervalPGetDatum(&timeout), CStringGetTextDatum(kinds[i]->description)};
		bool nulls[4] = {false, kinds[i]->every_seconds == 0, kinds[i]->timeout_seconds == 0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* tenancy.job_kind_is_own(kind text) → boolean */
TENANCY_FUNCTION(job_kind_is_own)
{
	PG_RETURN_BOOL(job_kind_find(text_to_cstring(PG_GETARG_TEXT_PP(0))) != NULL);
}

static void
require_name(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > MAX_NAME_LENGTH ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != length)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid name \"%s\" of a job kind", name),
				errdetail("It has lower-case letters, digits, dots, dashes and underscores, and at "
						  "most %d of them.",
						  MAX_NAME_LENGTH));
	if (job_kind_find(name) != NULL)
		ereport(ERROR, errcode(ERRCODE_RESERVED_NAME),
				errmsg("job kind \"%s\" is one of the extension itself", name));
}

/*
 * The function does its work with the rights of its owner: who defines the kind must have
 * them, and a superuser's are too many.
 */
char *
job_check_procedure(Oid procedure)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(procedure));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("function with OID %u does not exist", procedure));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset || proc->pronargs != 1 ||
		proc->proargtypes.values[0] != JSONBOID || proc->prorettype != JSONBOID)
		ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("function %s cannot do jobs", format_procedure(procedure)),
				errdetail("It must take one jsonb, the arguments of the job, and return jsonb."));
	if (superuser_arg(proc->proowner))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("function %s belongs to a superuser", format_procedure(procedure)),
				errhint("Give it to a role that has no more rights than the work needs."));
	if (!has_privs_of_role(GetUserId(), proc->proowner))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be owner of function %s", format_procedure(procedure)));
	ReleaseSysCache(tuple);
	return format_procedure_qualified(procedure);
}

static void
require_timeout(const Interval *timeout)
{
	Interval shortest = {.time = USECS_PER_SEC};
	Interval longest = {.time = MAX_TIMEOUT_SECONDS * USECS_PER_SEC};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(timeout),
										 IntervalPGetDatum(&shortest))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(timeout),
										 IntervalPGetDatum(&longest))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"timeout\" must be between one second and seven days"));
}

/*
 * job_kind_define(name text, procedure regprocedure, retry jsonb, timeout interval,
 *     run_as text, for_tenants boolean, description text) → tenancy.job_kind_defined
 */
TENANCY_FUNCTION(job_kind_define)
{
	char *name = required_text(fcinfo, 0, "name");
	char *procedure = NULL;
	char *run_as = required_text(fcinfo, 4, "run_as");
	GateRows *rows;

	context_require_none("defining a kind of jobs");
	require_name(name);
	if (!PG_ARGISNULL(1))
		procedure = job_check_procedure(PG_GETARG_OID(1));
	require_argument(fcinfo, 2, "retry");
	retry_validate(PG_GETARG_JSONB_P(2));
	require_argument(fcinfo, 3, "timeout");
	require_timeout(PG_GETARG_INTERVAL_P(3));
	if (strcmp(run_as, "owner") != 0 && strcmp(run_as, "tenant") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"run_as\" must be \"owner\" or \"tenant\""));
	require_argument(fcinfo, 5, "for_tenants");
	rows = gate_run(&job_kind_put, EXPECT_AT_MOST_ONE, gate_text(name), gate_text(procedure),
					gate_text(run_as), gate_argument(5), gate_argument(2), gate_argument(3),
					gate_argument(6));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("job kind \"%s\" has jobs that are not finished", name),
				errdetail("Whether a function or clients do the work cannot change meanwhile."));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* job_kind_drop(name text) → tenancy.job_kind_defined */
TENANCY_FUNCTION(job_kind_drop)
{
	char *name = required_text(fcinfo, 0, "name");
	GateRows *rows;

	context_require_none("dropping a kind of jobs");
	if (job_kind_find(name) != NULL || job_kind_entry(name) == NULL)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("no application has defined job kind \"%s\"", name));
	rows = gate_run(&job_kind_delete, EXPECT_AT_MOST_ONE, gate_text(name));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("job kind \"%s\" has jobs that are not finished", name));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
