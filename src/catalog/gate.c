/*
 * catalog/gate.c
 *		The one way from C to SQL.  No other file includes executor/spi.h.
 *
 * A trigger, view or function that runs below a statement of ours would run with
 * the statement's rights, so the gate is never superuser over tables: our own are
 * tenancy_owner's, users' objects are touched as their owner.  The flags of the
 * security context are only added to, so that a restriction set by an outer caller
 * stays.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/function.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_db_role_setting.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/guc.h"
#include "utils/varlena.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#define OUR_SEARCH_PATH "pg_catalog, pg_temp"

/* The settings that change what a statement means, and a cheap look at each. */
static bool
datestyle_is_iso(void)
{
	return DateStyle == USE_ISO_DATES && DateOrder == DATEORDER_YMD;
}

static bool
intervalstyle_is_postgres(void)
{
	return IntervalStyle == INTSTYLE_POSTGRES;
}

static bool
timezone_is_utc(void)
{
	return strcmp(pg_get_timezone_name(session_timezone), "UTC") == 0;
}

static bool
row_security_is_on(void)
{
	return row_security;
}

static bool
bytea_output_is_hex(void)
{
	return bytea_output == BYTEA_OUTPUT_HEX;
}

static bool
float_digits_are_one(void)
{
	return extra_float_digits == 1;
}

static const struct
{
	const char *name;
	const char *value;
	bool (*is_pinned)(void);
} pins[] = {
	{"bytea_output", "hex", bytea_output_is_hex},
	{"datestyle", "ISO, YMD", datestyle_is_iso},
	{"extra_float_digits", "1", float_digits_are_one},
	{"intervalstyle", "postgres", intervalstyle_is_postgres},
	{"row_security", "on", row_security_is_on},
	{"timezone", "UTC", timezone_is_utc},
};

static void
pin(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

static void
switch_to(GateScope *scope, Oid role, int flags, const char *search_path)
{
	GetUserIdAndSecContext(&scope->saved_user, &scope->saved_context);
	SetUserIdAndSecContext(role, scope->saved_context | flags);
	scope->settings_level = NewGUCNestLevel();

	if (strcmp(namespace_search_path, search_path) != 0)
		pin("search_path", search_path);
	for (int i = 0; i < lengthof(pins); i++)
	{
		if (!pins[i].is_pinned())
			pin(pins[i].name, pins[i].value);
	}
}

static void
switch_back(const GateScope *scope)
{
	AtEOXact_GUC(false, scope->settings_level);
	SetUserIdAndSecContext(scope->saved_user, scope->saved_context);
}

static int
count_arguments(const GateStatement *statement)
{
	int count = 0;

	while (OidIsValid(statement->argument_types[count]))
		count++;
	return count;
}

static const int cursor_options[] = {
	[GATE_PLAN_KEPT] = 0,
	[GATE_PLAN_ANEW] = CURSOR_OPT_CUSTOM_PLAN,
	[GATE_PLAN_BY_INDEX] = CURSOR_OPT_GENERIC_PLAN,
};

/* Inside a scope and an SPI connection. */
static void
prepare(GateStatement *statement)
{
	SPIPlanPtr plan;

	if (statement->plan != NULL)
		return;
	plan = SPI_prepare_cursor(statement->sql, count_arguments(statement), statement->argument_types,
							  cursor_options[statement->planning]);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare statement \"%s\": %s", statement->name,
			 SPI_result_code_string(SPI_result));
	statement->plan = plan;
}

/*
 * The planner looks at these variables when it plans, which may be any time that something has
 * changed: for it alone they are set here, not as settings, of which each would take longer
 * than the look-up.
 */
static int
execute_by_index(SPIPlanPtr plan, Datum *values, const char *nulls, bool is_reading)
{
	bool seqscan = enable_seqscan;
	bool bitmapscan = enable_bitmapscan;
	bool jit = jit_enabled;
	volatile int result = 0;

	enable_seqscan = false;
	enable_bitmapscan = false;
	jit_enabled = false; /* a cost that is made up would ask for it */
	PG_TRY();
	{
		result = SPI_execute_plan(plan, values, nulls, is_reading, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		enable_bitmapscan = bitmapscan;
		jit_enabled = jit;
	}
	PG_END_TRY();
	return result;
}

/* What SPI left behind, copied to "context". */
static GateRows *
collect(MemoryContext context)
{
	MemoryContext spi_context = MemoryContextSwitchTo(context);
	GateRows *rows = palloc0(sizeof(GateRows));

	rows->count = SPI_processed;
	if (SPI_tuptable != NULL)
	{
		rows->count = SPI_tuptable->numvals;
		rows->desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
		rows->tuples = palloc(sizeof(HeapTuple) * Max(rows->count, 1));
		for (int64 i = 0; i < rows->count; i++)
			rows->tuples[i] = heap_copytuple(SPI_tuptable->vals[i]);
	}
	MemoryContextSwitchTo(spi_context);
	return rows;
}

GateRows *
gate_run_array(GateStatement *statement, GateExpect expect, const NullableDatum *arguments,
			   int argument_count)
{
	MemoryContext caller = CurrentMemoryContext;
	bool is_reading = statement->kind != GATE_KIND_STATEMENT;
	bool wants_latest = statement->kind == GATE_KIND_LATEST && !IsInParallelMode();
	bool pushed_snapshot = false;
	Datum values[GATE_MAX_ARGUMENTS];
	char nulls[GATE_MAX_ARGUMENTS];
	GateScope scope;
	GateRows *rows;
	int result;

	extension_require();
	if (argument_count != count_arguments(statement))
		elog(ERROR, "statement \"%s\" takes %d arguments, not %d", statement->name,
			 count_arguments(statement), argument_count);
	for (int i = 0; i < argument_count; i++)
	{
		values[i] = arguments[i].value;
		nulls[i] = arguments[i].isnull ? 'n' : ' ';
	}

	switch_to(&scope, extension_owner(), SECURITY_LOCAL_USERID_CHANGE, OUR_SEARCH_PATH);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	prepare(statement);

	if (wants_latest || (is_reading && !ActiveSnapshotSet()))
	{
		PushActiveSnapshot(wants_latest ? GetLatestSnapshot() : GetTransactionSnapshot());
		pushed_snapshot = true;
	}
	if (statement->planning == GATE_PLAN_BY_INDEX)
		result = execute_by_index(statement->plan, values, nulls, is_reading);
	else
		result = SPI_execute_plan(statement->plan, values, nulls, is_reading, 0);
	if (pushed_snapshot)
		PopActiveSnapshot();
	if (result < 0)
		elog(ERROR, "statement \"%s\" failed: %s", statement->name, SPI_result_code_string(result));

	rows = collect(caller);
	if ((expect == EXPECT_ONE && rows->count != 1) ||
		(expect == EXPECT_AT_MOST_ONE && rows->count > 1))
		elog(ERROR, "statement \"%s\" touched " INT64_FORMAT " rows", statement->name, rows->count);
	SPI_finish();
	switch_back(&scope);
	return rows;
}

typedef struct Receiver
{
	DestReceiver dest;
	GateReceiver receive;
	void *state;
	MemoryContext caller;
} Receiver;

static bool
receive_slot(TupleTableSlot *slot, DestReceiver *self)
{
	Receiver *receiver = (Receiver *) self;
	MemoryContext old = MemoryContextSwitchTo(receiver->caller);

	receiver->receive(slot, receiver->state);
	MemoryContextSwitchTo(old);
	return true;
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receive_nothing(DestReceiver *self)
{
}

void
gate_stream(GateStatement *statement, GateReceiver receive, void *state,
			const NullableDatum *arguments, int argument_count)
{
	Receiver receiver = {.dest = {.receiveSlot = receive_slot,
								  .rStartup = receive_startup,
								  .rShutdown = receive_nothing,
								  .rDestroy = receive_nothing,
								  .mydest = DestNone},
						 .receive = receive,
						 .state = state,
						 .caller = CurrentMemoryContext};
	SPIExecuteOptions options = {.read_only = true, .dest = &receiver.dest};
	bool pushed_snapshot = false;
	GateScope scope;
	int result;

	extension_require();
	Assert(statement->kind == GATE_KIND_LOOKUP);
	if (argument_count != count_arguments(statement))
		elog(ERROR, "statement \"%s\" takes %d arguments, not %d", statement->name,
			 count_arguments(statement), argument_count);
	options.params = makeParamList(argument_count);
	for (int i = 0; i < argument_count; i++)
		options.params->params[i] = (ParamExternData){.value = arguments[i].value,
													  .isnull = arguments[i].isnull,
													  .pflags = PARAM_FLAG_CONST,
													  .ptype = statement->argument_types[i]};

	switch_to(&scope, extension_owner(), SECURITY_LOCAL_USERID_CHANGE, OUR_SEARCH_PATH);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	prepare(statement);
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed_snapshot = true;
	}
	result = SPI_execute_plan_extended(statement->plan, &options);
	if (pushed_snapshot)
		PopActiveSnapshot();
	if (result < 0)
		elog(ERROR, "statement \"%s\" failed: %s", statement->name, SPI_result_code_string(result));
	SPI_finish();
	switch_back(&scope);
}

void
gate_set_role_setting(Oid role, const char *name, const char *value)
{
	VariableSetStmt *statement = makeNode(VariableSetStmt);
	int level = NewGUCNestLevel();
	List *names = NIL;
	ListCell *cell;

	statement->kind = value == NULL ? VAR_RESET : VAR_SET_VALUE;
	statement->name = pstrdup(name);
	if (value != NULL && !SplitIdentifierString(pstrdup(value), ',', &names))
		elog(ERROR, "invalid list of names \"%s\"", value);
	foreach (cell, names)
	{
		A_Const *constant = makeNode(A_Const);

		constant->val.sval.type = T_String;
		constant->val.sval.sval = lfirst(cell);
		statement->args = lappend(statement->args, constant);
	}
	/* That the caller itself could not SET ROLE so is no news. */
	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	AlterSetting(MyDatabaseId, role, statement);
	CommandCounterIncrement();
	AtEOXact_GUC(true, level);
}

void
gate_run_as_superuser(const char *sql)
{
	GateScope scope;
	List *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	ListCell *cell;

	foreach (cell, statements)
	{
		Node *statement = lfirst_node(RawStmt, cell)->stmt;
		bool is_allowed;

		switch (nodeTag(statement))
		{
			case T_CreateRoleStmt:
			case T_AlterRoleStmt:
			case T_AlterRoleSetStmt:
			case T_DropRoleStmt:
			case T_GrantRoleStmt:
				is_allowed = true;
				break;
			case T_CreateSchemaStmt:
				is_allowed = castNode(CreateSchemaStmt, statement)->schemaElts == NIL;
				break;
			case T_RenameStmt:
				is_allowed = castNode(RenameStmt, statement)->renameType == OBJECT_SCHEMA;
				break;
			case T_GrantStmt:
				is_allowed = castNode(GrantStmt, statement)->objtype == OBJECT_SCHEMA;
				break;
			default:
				is_allowed = false;
				break;
		}
		if (!is_allowed)
			elog(ERROR, "statement is not one about roles or schemas");
	}

	switch_to(&scope, BOOTSTRAP_SUPERUSERID, SECURITY_LOCAL_USERID_CHANGE, OUR_SEARCH_PATH);
	gate_run_text(sql);
	switch_back(&scope);
}

static void
enter(GateScope *scope, Oid role, int flags, const char *search_path)
{
	/* Deferred triggers of the caller must not wait until somebody else's rights are in force. */
	gate_run_text("SET CONSTRAINTS ALL IMMEDIATE");
	switch_to(scope, role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION | flags,
			  search_path);
	pin("default_table_access_method", "heap");
	pin("default_tablespace", "");
	pin("check_function_bodies", "off");
}

void
gate_enter(GateScope *scope, Oid role, const char *search_path)
{
	enter(scope, role, 0, search_path);
}

void
gate_enter_all_rows(GateScope *scope, Oid owner, const char *search_path)
{
	enter(scope, owner, SECURITY_NOFORCE_RLS, search_path);
}

void
gate_pin(GateScope *scope)
{
	switch_to(scope, GetUserId(), 0, OUR_SEARCH_PATH);
}

void
gate_limit_lock_wait(int timeout_ms)
{
	pin("lock_timeout", psprintf("%dms", timeout_ms));
}

void
gate_leave(GateScope *scope)
{
	switch_back(scope);
}

void
gate_run_text(const char *sql)
{
	int result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute(sql, false, 0);
	if (result < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	SPI_finish();
}

GateRows *
gate_query_text(const char *sql, int argument_count, const Oid *types,
				const NullableDatum *arguments)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[GATE_MAX_ARGUMENTS];
	char nulls[GATE_MAX_ARGUMENTS];
	GateRows *rows;
	int result;

	for (int i = 0; i < argument_count; i++)
	{
		values[i] = arguments[i].value;
		nulls[i] = arguments[i].isnull ? 'n' : ' ';
	}
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute_with_args(sql, argument_count, (Oid *) types, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "statement failed: %s", SPI_result_code_string(result));
	rows = collect(caller);
	SPI_finish();
	return rows;
}

/* Arguments. */

NullableDatum
gate_datum(Datum value)
{
	return (NullableDatum){.value = value, .isnull = false};
}

NullableDatum
gate_null(void)
{
	return (NullableDatum){.value = (Datum) 0, .isnull = true};
}

NullableDatum
gate_text(const char *value)
{
	return value == NULL ? gate_null() : gate_datum(CStringGetTextDatum(value));
}

NullableDatum
gate_name(const char *value)
{
	return value == NULL ? gate_null()
						 : gate_datum(DirectFunctionCall1(namein, CStringGetDatum(value)));
}

NullableDatum
gate_uuid(const pg_uuid_t *value)
{
	return value == NULL ? gate_null() : gate_datum(UUIDPGetDatum(value));
}

NullableDatum
gate_jsonb(const Jsonb *value)
{
	return value == NULL ? gate_null() : gate_datum(JsonbPGetDatum(value));
}

NullableDatum
gate_numeric(Numeric value)
{
	return value == NULL ? gate_null() : gate_datum(NumericGetDatum(value));
}

NullableDatum
gate_timestamptz(TimestampTz value)
{
	return gate_datum(TimestampTzGetDatum(value));
}

NullableDatum
gate_int64(int64 value)
{
	return gate_datum(Int64GetDatum(value));
}

NullableDatum
gate_int32(int32 value)
{
	return gate_datum(Int32GetDatum(value));
}

NullableDatum
gate_bool(bool value)
{
	return gate_datum(BoolGetDatum(value));
}

NullableDatum
gate_oid(Oid value)
{
	return gate_datum(ObjectIdGetDatum(value));
}

NullableDatum
gate_uuid_array(const pg_uuid_t *values, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = UUIDPGetDatum(&values[i]);
	return gate_datum(
		PointerGetDatum(construct_array(elements, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
}

NullableDatum
gate_int64_array(const int64 *values, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(values[i]);
	return gate_datum(PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
													  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
}

NullableDatum
gate_array(const Datum *values, int count, Oid type)
{
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return gate_datum(PointerGetDatum(
		construct_array(unconstify(Datum *, values), count, type, length, by_value, align)));
}

NullableDatum
gate_bytea_array(const bytea *const *values, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = PointerGetDatum(values[i]);
	return gate_datum(
		PointerGetDatum(construct_array(elements, count, BYTEAOID, -1, false, TYPALIGN_INT)));
}

NullableDatum
gate_text_array(const char *const *values, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = CStringGetTextDatum(values[i]);
	return gate_datum(
		PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT)));
}

/* Columns. */

static Datum
column(const GateRows *rows, int64 row, int column, bool *isnull)
{
	if (row >= rows->count || column >= rows->desc->natts)
		elog(ERROR, "there is no column %d in row " INT64_FORMAT, column, row);
	return heap_getattr(rows->tuples[row], column + 1, rows->desc, isnull);
}

bool
row_is_null(const GateRows *rows, int64 row, int number)
{
	bool isnull;

	(void) column(rows, row, number, &isnull);
	return isnull;
}

Datum
row_datum(const GateRows *rows, int64 row, int number)
{
	bool isnull;
	Datum value = column(rows, row, number, &isnull);

	if (isnull)
		elog(ERROR, "column \"%s\" is null", NameStr(TupleDescAttr(rows->desc, number)->attname));
	return value;
}

char *
row_text(const GateRows *rows, int64 row, int number)
{
	bool isnull;
	Datum value = column(rows, row, number, &isnull);

	if (isnull)
		return NULL;
	if (TupleDescAttr(rows->desc, number)->atttypid == NAMEOID)
		return pstrdup(NameStr(*DatumGetName(value)));
	return TextDatumGetCString(value);
}

pg_uuid_t *
row_uuid(const GateRows *rows, int64 row, int number)
{
	return row_is_null(rows, row, number) ? NULL : DatumGetUUIDP(row_datum(rows, row, number));
}

Numeric
row_numeric(const GateRows *rows, int64 row, int number)
{
	return row_is_null(rows, row, number) ? NULL : DatumGetNumeric(row_datum(rows, row, number));
}

Jsonb *
row_jsonb(const GateRows *rows, int64 row, int number)
{
	return row_is_null(rows, row, number) ? NULL : DatumGetJsonbP(row_datum(rows, row, number));
}

TimestampTz
row_timestamptz(const GateRows *rows, int64 row, int number)
{
	return DatumGetTimestampTz(row_datum(rows, row, number));
}

int64
row_int64(const GateRows *rows, int64 row, int number)
{
	return DatumGetInt64(row_datum(rows, row, number));
}

int32
row_int32(const GateRows *rows, int64 row, int number)
{
	return DatumGetInt32(row_datum(rows, row, number));
}

bool
row_bool(const GateRows *rows, int64 row, int number)
{
	return DatumGetBool(row_datum(rows, row, number));
}

char **
row_text_array(const GateRows *rows, int64 row, int column, int *count)
{
	Datum *elements;
	char **texts;

	*count = 0;
	if (row_is_null(rows, row, column))
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(row_datum(rows, row, column)), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, NULL, count);
	texts = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		texts[i] = TextDatumGetCString(elements[i]);
	return texts;
}

void
gate_return_rows(FunctionCallInfo fcinfo, const GateRows *rows)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (rows->count > 0 && rows->desc->natts != result->setDesc->natts)
		elog(ERROR, "the statement returns %d columns, not %d", rows->desc->natts,
			 result->setDesc->natts);
	for (int64 i = 0; i < rows->count; i++)
		tuplestore_puttuple(result->setResult, rows->tuples[i]);
}

/*
 * tenancy.gate_check() → TABLE(statement): prepare every named statement, for the
 * tests: a statement that does not fit the tables raises here and not at 3 a.m.
 */
extern GateStatement *const __start_tenancy_statements[] __attribute__((visibility("hidden")));
extern GateStatement *const __stop_tenancy_statements[] __attribute__((visibility("hidden")));

TENANCY_FUNCTION(gate_check)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	GateScope scope;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	extension_require();
	for (GateStatement *const *entry = __start_tenancy_statements;
		 entry < __stop_tenancy_statements; entry++)
	{
		Datum name = CStringGetTextDatum((*entry)->name);
		bool isnull = false;

		switch_to(&scope, extension_owner(), SECURITY_LOCAL_USERID_CHANGE, OUR_SEARCH_PATH);
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		prepare(*entry);
		SPI_finish();
		switch_back(&scope);
		tuplestore_putvalues(result->setResult, result->setDesc, &name, &isnull);
	}
	return (Datum) 0;
}
