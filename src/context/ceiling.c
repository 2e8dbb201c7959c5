/*
 * context/ceiling.c
 *		Settings that a tenant may not raise.
 *
 * The ceilings are rows of tenancy.ceiling, by plan.  A check hook could refuse a SET, but
 * is not asked by RESET, by SET … TO DEFAULT or by set_config(…, NULL).  So the values
 * themselves are compared, through the variables that hold them, before each statement and
 * after each that may have changed a setting: a dozen loads, no look-up.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/ceiling.h"
#include "core/function.h"
#include "core/hot.h"
#include "core/id.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include <float.h>

typedef enum CeilingType
{
	CEILING_INT,
	CEILING_REAL,
	CEILING_PINNED /* an enum: it is what the operator says */
} CeilingType;

/* What has no limit when it has this value. */
#define NEVER_UNLIMITED INT_MIN

static const struct
{
	const char *name;
	CeilingType type;
	void *variable;
	int unlimited;
} kinds[] = {
	{"hash_mem_multiplier", CEILING_REAL, &hash_mem_multiplier, NEVER_UNLIMITED},
	{"idle_in_transaction_session_timeout", CEILING_INT, &IdleInTransactionSessionTimeout, 0},
	{"idle_session_timeout", CEILING_INT, &IdleSessionTimeout, 0},
	{"lock_timeout", CEILING_INT, &LockTimeout, 0},
	{"log_parameter_max_length_on_error", CEILING_INT, &log_parameter_max_length_on_error, -1},
	{"maintenance_work_mem", CEILING_INT, &maintenance_work_mem, NEVER_UNLIMITED},
	{"max_parallel_maintenance_workers", CEILING_INT, &max_parallel_maintenance_workers,
	 NEVER_UNLIMITED},
	{"max_parallel_workers_per_gather", CEILING_INT, &max_parallel_workers_per_gather,
	 NEVER_UNLIMITED},
	{"statement_timeout", CEILING_INT, &StatementTimeout, 0},
	{"synchronous_commit", CEILING_PINNED, &synchronous_commit, NEVER_UNLIMITED},
	{"temp_file_limit", CEILING_INT, &temp_file_limit, -1},
	{"work_mem", CEILING_INT, &work_mem, NEVER_UNLIMITED},
};

GATE_LOOKUP(all_ceilings, "SELECT c.plan, c.setting, c.value FROM tenancy.ceiling c"
						  " ORDER BY c.setting, c.plan = '*', c.shipped");
GATE_STATEMENT(
	ceiling_upsert,
	"INSERT INTO tenancy.ceiling AS c (plan, setting, value, shipped) VALUES ($1, $2, $3, false)"
	" ON CONFLICT (plan, setting, shipped) DO UPDATE SET value = excluded.value"
	" RETURNING c",
	TEXTOID, TEXTOID, TEXTOID);
GATE_STATEMENT(ceiling_plan_exists, "SELECT FROM tenancy.plan p WHERE p.id = $1", TEXTOID);

/* Those of the tenant that this session is in. */
static Ceiling ceilings[lengthof(kinds)];
static int ceiling_count = 0;
static bool is_of_session = false;

/*
 * The same as every statement asks for them, each at the place of its ceiling: a value is within
 * where "value - lowest", without a sign, is at most "span".  The one setting that is no integer
 * has a bound of its own.
 */
typedef struct Bound
{
	const int *variable;
	uint32 lowest;
	uint32 span;
} Bound;

static Bound bounds[lengthof(kinds)] HOT_DATA;
static int bound_count HOT_DATA = 0;
static double most_hash_mem HOT_DATA = DBL_MAX;

/* Of a ceiling that every integer is within. */
static const int unbounded = 0;

static inline bool
is_within(const Bound *bound)
{
	return (uint32) *bound->variable - bound->lowest <= bound->span;
}

static inline bool
is_hash_mem_within(void)
{
	return hash_mem_multiplier <= most_hash_mem;
}

static inline bool
all_within(void)
{
	for (int i = 0; i < bound_count; i++)
		if (unlikely(!is_within(&bounds[i])))
			return false;
	return is_hash_mem_within();
}

/* The whole table, sorted by setting, a plan's own before those of every plan ("*"). */
typedef struct PlanCeiling
{
	char *plan;
	Ceiling ceiling;
} PlanCeiling;

static MemoryContext memory = NULL;
static PlanCeiling *known;
static int64 known_count = 0;
static uint64 known_generation;

static int
find_kind(const char *setting)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i].name, setting) == 0)
			return i;
	return -1;
}

static double
current_value(int kind)
{
	return kinds[kind].type == CEILING_REAL ? *(double *) kinds[kind].variable
											: *(int *) kinds[kind].variable;
}

static bool
exceeds(int place)
{
	if (kinds[ceilings[place].kind].type == CEILING_REAL)
		return !is_hash_mem_within();
	return !is_within(&bounds[place]);
}

/* The statement that runs began without a limit, or with a higher one. */
static void
start_timer(const Ceiling *ceiling)
{
	if (kinds[ceiling->kind].variable == &StatementTimeout && StatementTimeout > 0 &&
		!get_timeout_active(STATEMENT_TIMEOUT))
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
}

/* An override becomes what RESET returns to; it is of the session and no rollback undoes it. */
static void
lower_at(int place)
{
	const Ceiling *ceiling = &ceilings[place];

	(void) set_config_option(kinds[ceiling->kind].name, ceiling->value, PGC_SUSET,
							 is_of_session ? PGC_S_OVERRIDE : PGC_S_SESSION,
							 is_of_session ? GUC_ACTION_SET : GUC_ACTION_LOCAL, true, 0, false);
	/* A value of the session hides its default. */
	if (is_of_session && exceeds(place))
		(void) set_config_option(kinds[ceiling->kind].name, ceiling->value, PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SET, true, 0, false);
	start_timer(ceiling);
}

/* Range and words are known to the setting itself, so it is tried for a moment. */
static double
parse_limit(int kind, const char *value)
{
	int level = NewGUCNestLevel();
	double limit;

	(void) set_config_option(kinds[kind].name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, ERROR, false);
	limit = current_value(kind);
	AtEOXact_GUC(true, level);
	return limit;
}

static void
load(void)
{
	uint64 generation = registry_generation();
	GateRows *rows;
	MemoryContext old;

	if (memory != NULL && known_generation == generation)
		return;
	rows = gate_run_array(&all_ceilings, EXPECT_ANY, NULL, 0);
	if (memory == NULL)
		memory =
			AllocSetContextCreate(TopMemoryContext, "pg_tenancy ceilings", ALLOCSET_SMALL_SIZES);
	known_count = 0;
	MemoryContextReset(memory);
	old = MemoryContextSwitchTo(memory);
	known = palloc(sizeof(PlanCeiling) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		PlanCeiling *entry = &known[known_count];
		const char *value = row_text(rows, i, 2);
		int kind = find_kind(row_text(rows, i, 1));

		if (kind < 0)
			continue;
		entry->plan = row_text(rows, i, 0);
		entry->ceiling = ceiling_make(kinds[kind].name, value);
		known_count++;
	}
	MemoryContextSwitchTo(old);
	known_generation = generation;
}

/* No value of these settings is below 0 but what is unlimited. */
static Bound
bound_of(const Ceiling *ceiling)
{
	int kind = ceiling->kind;
	uint32 lowest = kinds[kind].unlimited == 0 ? 1 : 0;

	switch (kinds[kind].type)
	{
		case CEILING_PINNED:
			return (Bound){kinds[kind].variable, (uint32) (int) ceiling->limit, 0};
		case CEILING_INT:
			if (ceiling->is_unlimited)
				break;
			return (Bound){kinds[kind].variable, lowest, (uint32) (int) ceiling->limit - lowest};
		case CEILING_REAL:
			break;
	}
	return (Bound){&unbounded, 0, PG_UINT32_MAX};
}

static void
set_bounds(void)
{
	bound_count = ceiling_count;
	most_hash_mem = DBL_MAX;
	for (int i = 0; i < ceiling_count; i++)
	{
		bounds[i] = bound_of(&ceilings[i]);
		if (kinds[ceilings[i].kind].type == CEILING_REAL)
			most_hash_mem = ceilings[i].limit;
	}
}

static CeilingSource source = NULL;

void
ceiling_set_source(CeilingSource knows)
{
	source = knows;
}

static void
put_own_ceilings(const Ceiling *own, int count)
{
	for (int i = 0; i < count; i++)
	{
		int place = 0;

		while (place < ceiling_count && ceilings[place].kind != own[i].kind)
			place++;
		ceilings[place] = own[i];
		if (place == ceiling_count)
			ceiling_count++;
	}
}

static void
set_ceilings(const TenantEntry *tenant)
{
	int own_count = 0;
	const Ceiling *own;

	/* First what can raise. */
	load();
	own = source == NULL ? NULL : source(&tenant->id, &own_count);
	ceiling_count = 0;
	for (int64 i = 0; i < known_count; i++)
	{
		const PlanCeiling *entry = &known[i];

		if (strcmp(entry->plan, "*") != 0 &&
			(tenant->plan == NULL || strcmp(entry->plan, tenant->plan) != 0))
			continue;
		/* The plan's own came first. */
		if (ceiling_count > 0 && ceilings[ceiling_count - 1].kind == entry->ceiling.kind)
			continue;
		ceilings[ceiling_count++] = entry->ceiling;
	}
	put_own_ceilings(own, own_count);
	set_bounds();
	for (int i = 0; i < ceiling_count; i++)
		if (exceeds(i))
			lower_at(i);
}

void
ceiling_set_for_transaction(const TenantEntry *tenant)
{
	is_of_session = false;
	set_ceilings(tenant);
}

void
ceiling_set_for_session(const TenantEntry *tenant)
{
	is_of_session = true;
	set_ceilings(tenant);
}

void
ceiling_clear(void)
{
	if (is_of_session)
		return;
	ceiling_count = 0;
	set_bounds();
}

static pg_noinline void
enforce(bool was_set)
{
	if (IsParallelWorker())
		return;
	for (int i = 0; i < ceiling_count; i++)
	{
		if (likely(!exceeds(i)))
			continue;
		/* Programs ask for no limit as a matter of course, as pg_dump does: they get what there is.
		 */
		if (was_set)
			ereport(
				is_of_session &&
						current_value(ceilings[i].kind) == kinds[ceilings[i].kind].unlimited
					? WARNING
					: ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to set parameter \"%s\"", kinds[ceilings[i].kind].name),
				errdetail("The ceiling for this tenant is %s.", ceilings[i].value));
		/* In a parallel operation no setting may change; the next statement comes here again. */
		if (!IsInParallelMode())
			lower_at(i);
	}
}

pg_attribute_hot void
ceiling_enforce(bool was_set)
{
	if (unlikely(!all_within()))
		enforce(was_set);
}

Ceiling
ceiling_make(const char *setting, const char *value)
{
	Ceiling ceiling = {.kind = find_kind(setting)};

	if (ceiling.kind < 0)
	{
		StringInfoData names;

		initStringInfo(&names);
		for (int i = 0; i < lengthof(kinds); i++)
			appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", kinds[i].name);
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("setting \"%s\" has no ceiling", setting),
				errdetail("Those that have: %s.", names.data));
	}
	if (strlen(value) >= sizeof(ceiling.value))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid value for setting \"%s\": \"%s\"", setting, value));
	ceiling.limit = parse_limit(ceiling.kind, value);
	ceiling.is_unlimited = ceiling.limit == kinds[ceiling.kind].unlimited;
	strlcpy(ceiling.value, value, sizeof(ceiling.value));
	return ceiling;
}

/* ceiling_set(setting text, value text, plan text) → tenancy.ceiling */
TENANCY_FUNCTION(ceiling_set)
{
	char *setting = required_text(fcinfo, 0, "setting");
	char *value = required_text(fcinfo, 1, "value");
	char *plan = optional_text(fcinfo, 2);

	(void) ceiling_make(setting, value);
	if (plan != NULL &&
		gate_run(&ceiling_plan_exists, EXPECT_AT_MOST_ONE, gate_text(plan))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("plan \"%s\" does not exist", plan));
	PG_RETURN_DATUM(
		row_datum(gate_run(&ceiling_upsert, EXPECT_ONE, gate_text(plan == NULL ? "*" : plan),
						   gate_text(setting), gate_text(value)),
				  0, 0));
}
