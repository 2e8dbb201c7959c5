/*
 * resource/resource.c
 *		Allocations: what a tenant is guaranteed of the server's capacity, and what it may use
 *		at most.
 *
 * Requests are promises: all of them together stay within the capacity that was declared, times
 * its overcommit.  Limits are enforced: CPU by cpu.c, storage by the quota, connections here, when
 * a session enters.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/state.h"
#include "limit/quota.h"
#include "limit/rate_entry.h"
#include "limit/rate_limit.h"
#include "limit/refusal.h"
#include "resource/resource.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

#define MAX_CONNECTIONS 262143 /* PostgreSQL's own limit */

static const char *const resources[] = {"connections", "cpu_seconds_per_minute", "memory_mb",
										"storage_gb"};

static const StateMove allocation_moves[] = {
	{"active", "deallocate", "released"},
};
static StateMachine allocation_states = {
	.name = "allocation",
	.table = "tenancy.allocation",
	.moves = allocation_moves,
	.move_count = lengthof(allocation_moves),
};

GATE_LATEST(limits_of_tenant,
			"SELECT a.limits, t.slug FROM tenancy.allocation a"
			"  JOIN tenancy.tenant t ON t.id = a.tenant_id"
			" WHERE a.tenant_id = $1 AND a.state = 'active'",
			UUIDOID);
GATE_STATEMENT(capacity_upsert,
			   "INSERT INTO tenancy.resource_capacity AS c (resource, capacity, overcommit)"
			   " VALUES ($1, $2, $3) ON CONFLICT (resource)"
			   " DO UPDATE SET capacity = excluded.capacity, overcommit = excluded.overcommit"
			   " RETURNING c",
			   TEXTOID, NUMERICOID, NUMERICOID);
/* In one order, so that two who allocate wait for one another and never in a circle. */
GATE_STATEMENT(capacity_lock,
			   "SELECT FROM tenancy.resource_capacity c ORDER BY c.resource FOR UPDATE");
GATE_STATEMENT(
	capacity_short,
	"SELECT c.resource, c.capacity * c.overcommit AS available, r.requested"
	"  FROM tenancy.resource_capacity c,"
	"       LATERAL (SELECT coalesce(sum((a.requests ->> c.resource)::numeric), 0) AS requested"
	"                  FROM tenancy.allocation a WHERE a.state = 'active') r"
	" WHERE r.requested > c.capacity * c.overcommit ORDER BY c.resource LIMIT 1");
GATE_STATEMENT(allocation_insert,
			   "INSERT INTO tenancy.allocation AS a (id, tenant_id, requests, limits, scaling,"
			   "    state, created_at, changed_at)"
			   " VALUES ($1, $2, $3, $4, $5, 'active', $6, $6)"
			   " ON CONFLICT (tenant_id) WHERE state = 'active' DO NOTHING RETURNING a",
			   UUIDOID, UUIDOID, JSONBOID, JSONBOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(allocation_active,
			   "SELECT a.id, a.requests, a.limits, a.scaling FROM tenancy.allocation a"
			   " WHERE a.tenant_id = $1 AND a.state = 'active' FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(allocation_change,
			   "UPDATE tenancy.allocation AS a"
			   "   SET requests = $2, limits = $3, scaling = $4, changed_at = $5"
			   " WHERE a.id = $1 RETURNING a",
			   UUIDOID, JSONBOID, JSONBOID, JSONBOID, TIMESTAMPTZOID);
GATE_STATEMENT(allocation_state,
			   "SELECT a.state FROM tenancy.allocation a WHERE a.id = $1 AND a.tenant_id = $2"
			   " FOR UPDATE",
			   UUIDOID, UUIDOID);
GATE_STATEMENT(allocation_release,
			   "UPDATE tenancy.allocation AS a SET state = $2, changed_at = $3"
			   " WHERE a.id = $1 RETURNING a",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
GATE_LOOKUP(
	resource_document,
	"SELECT pg_catalog.jsonb_build_object("
	"    'tenant_id', t.id, 'slug', t.slug, 'measured_at', $2,"
	"    'cpu', pg_catalog.jsonb_build_object('seconds', pg_catalog.round(s.cpu_us / 1000000.0, 6),"
	"        'limit_seconds_per_minute', a.limits -> 'cpu_seconds_per_minute',"
	"        'budget_used', pg_catalog.round($3::numeric, 4)),"
	"    'memory', pg_catalog.jsonb_build_object('request_mb', a.requests -> 'memory_mb',"
	"        'limit_mb', a.limits -> 'memory_mb'),"
	"    'storage', pg_catalog.jsonb_build_object('bytes', m.bytes, 'measured_at', m.measured_at,"
	"        'limit_gb', a.limits -> 'storage_gb'),"
	"    'network', pg_catalog.jsonb_build_object('bytes_sent', s.bytes_sent,"
	"        'bytes_received', s.bytes_received),"
	"    'database', pg_catalog.jsonb_build_object('connections', $4,"
	"        'limit_connections', a.limits -> 'connections',"
	"        'calls', s.selects + s.inserts + s.updates + s.deletes + s.merges + s.utilities,"
	"        'rows', s.rows, 'blocks_hit', s.blocks_hit, 'blocks_read', s.blocks_read,"
	"        'blocks_written', s.blocks_written, 'temp_blocks_written', s.temp_blocks_written,"
	"        'wal_bytes', s.wal_bytes))"
	"  FROM tenancy.tenant t"
	"  LEFT JOIN tenancy.allocation a ON a.tenant_id = t.id AND a.state = 'active'"
	"  LEFT JOIN tenancy.storage_measurement m ON m.tenant_id = t.id"
	"  LEFT JOIN LATERAL (SELECT coalesce(sum(h.selects), 0) AS selects,"
	"      coalesce(sum(h.inserts), 0) AS inserts, coalesce(sum(h.updates), 0) AS updates,"
	"      coalesce(sum(h.deletes), 0) AS deletes, coalesce(sum(h.merges), 0) AS merges,"
	"      coalesce(sum(h.utilities), 0) AS utilities, coalesce(sum(h.rows), 0) AS rows,"
	"      coalesce(sum(h.cpu_us), 0) AS cpu_us, coalesce(sum(h.blocks_hit), 0) AS blocks_hit,"
	"      coalesce(sum(h.blocks_read), 0) AS blocks_read,"
	"      coalesce(sum(h.blocks_written), 0) AS blocks_written,"
	"      coalesce(sum(h.temp_blocks_written), 0) AS temp_blocks_written,"
	"      coalesce(sum(h.wal_bytes), 0) AS wal_bytes,"
	"      coalesce(sum(h.bytes_sent), 0) AS bytes_sent,"
	"      coalesce(sum(h.bytes_received), 0) AS bytes_received"
	"        FROM tenancy.usage_hour h WHERE h.tenant_id = t.id) s ON true"
	" WHERE t.id = $1",
	UUIDOID, TIMESTAMPTZOID, FLOAT8OID, INT4OID);
GATE_LOOKUP(
	resource_hours,
	"SELECT h.hour, h.calls, h.cpu_us / 1000000.0, h.elapsed_us / 1000000.0, h.rows, h.blocks_hit,"
	"       h.blocks_read, h.blocks_written, h.temp_blocks_written, h.wal_bytes, h.storage_bytes,"
	"       h.bytes_sent, h.bytes_received"
	"  FROM tenancy.usage_hour h WHERE h.tenant_id = $1 AND h.hour >= $2 AND h.hour < $3"
	" ORDER BY h.hour",
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID);

static TenantCache known = {.name = "resource limits", .entry_size = sizeof(ResourceLimits)};

/*
 * The ceilings that an allocation sets: those that it names, and what memory_mb means for a
 * session.  PostgreSQL limits no memory but that of one node of a plan, so that a session's share
 * is memory_mb / connections, of which one node gets a quarter and maintenance all.
 */
#define SESSIONS_BY_DEFAULT 8
#define NODES_OF_A_QUERY 4
#define LEAST_WORK_MEM_KB 64
#define LEAST_MAINTENANCE_KB 1024

static int
read_ceilings(const Jsonb *limits, Ceiling *ceilings)
{
	Jsonb *settings = json_member(limits, "settings");
	Numeric memory_mb = json_numeric(limits, "memory_mb");
	int named;
	char **names = json_member_names(settings, &named);
	int count = 0;

	if (memory_mb != NULL)
	{
		int32 sessions = Max(json_int32(limits, "connections", SESSIONS_BY_DEFAULT), 1);
		int64 share_kb =
			DatumGetInt64(DirectFunctionCall1(
				numeric_int8, NumericGetDatum(numeric_times(memory_mb, numeric_from_int(1024))))) /
			sessions;

		share_kb = Min(share_kb, MAX_KILOBYTES);
		ceilings[count++] =
			ceiling_make("work_mem", psprintf(INT64_FORMAT "kB",
											  Max(share_kb / NODES_OF_A_QUERY, LEAST_WORK_MEM_KB)));
		ceilings[count++] =
			ceiling_make("maintenance_work_mem",
						 psprintf(INT64_FORMAT "kB", Max(share_kb, LEAST_MAINTENANCE_KB)));
	}
	/* Later ones take the place of those before. */
	for (int i = 0; i < named; i++)
	{
		char *value = json_text(settings, names[i]);

		if (value == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid resource request: \"limits.settings.%s\" must be a text",
						   names[i]));
		ceilings[count++] = ceiling_make(names[i], value);
	}
	return count;
}

static Ceiling *
make_ceilings(const Jsonb *limits, int *count)
{
	int named;
	Ceiling *ceilings;

	(void) json_member_names(json_member(limits, "settings"), &named);
	ceilings = palloc_array(Ceiling, named + 2);
	*count = read_ceilings(limits, ceilings);
	return ceilings;
}

pg_attribute_hot const ResourceLimits *
resource_limits(const pg_uuid_t *tenant)
{
	ResourceLimits *found = tenant_cache_find(&known, tenant);
	GateRows *rows;
	Numeric cpu = NULL;
	Ceiling *ceilings = NULL;
	int ceiling_count = 0;

	if (likely(found != NULL))
		return found;
	rows = gate_run(&limits_of_tenant, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (rows->count == 1)
	{
		Jsonb *limits = row_jsonb(rows, 0, 0);
		Ceiling *made = make_ceilings(limits, &ceiling_count);

		cpu = json_numeric(limits, "cpu_seconds_per_minute");
		ceilings = MemoryContextAlloc(known.memory, sizeof(Ceiling) * Max(ceiling_count, 1));
		memcpy(ceilings, made, sizeof(Ceiling) * ceiling_count);
	}
	found = tenant_cache_add(&known, tenant);
	if (rows->count == 1)
		strlcpy(found->slug, row_text(rows, 0, 1), sizeof(found->slug));
	found->ceilings = ceilings;
	found->ceiling_count = ceiling_count;
	found->has_cpu = cpu != NULL;
	if (cpu != NULL)
		found->cpu_ns_per_minute = DatumGetInt64(DirectFunctionCall1(
			numeric_int8, NumericGetDatum(numeric_times(cpu, numeric_from_int(1000000000)))));
	return found;
}

static const Ceiling *
own_ceilings(const pg_uuid_t *tenant, int *count)
{
	const ResourceLimits *limits = resource_limits(tenant);

	*count = limits->ceiling_count;
	return limits->ceilings;
}

/* A session enters, or a bound login begins: is there room for it? */
static void
admit(const pg_uuid_t *tenant)
{
	const Quota *quota = quota_find(tenant, QUOTA_CONNECTIONS);
	int64 most = quota == NULL || quota->hard == QUOTA_NONE ? -1 : quota->hard / QUOTA_UNIT;
	bool is_free = context_claim(tenant, (int) Min(most, MAX_CONNECTIONS));
	int64 used;
	QuotaKey key;

	if (likely(quota == NULL))
		return;
	/* The thresholds of warnings are looked at (quota_watch.c). */
	used = context_count_sessions(tenant) * QUOTA_UNIT;
	quota_make_key(&key, tenant, QUOTA_CONNECTIONS);
	quota_set_used(&key, used);
	if (is_free)
		return;
	refusal_note(tenant, REFUSED_CONNECTION, QUOTA_CONNECTIONS, used, quota->hard, QUOTA_UNIT);
	ereport(ERROR, errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			errmsg("too many connections for tenant \"%s\"", registry_slug(tenant)),
			errdetail("At most " INT64_FORMAT " sessions may be in it at once.", most),
			errhint("The limit of \"%s\" comes from %s.", quota->metric, quota->source));
}

/* The document of requests or limits; a change may also take an amount away. */
#define AMOUNTS(is_nullable_)                                                                      \
	{.name = "connections",                                                                        \
	 .type = JSON_INTEGER,                                                                         \
	 .is_nullable = is_nullable_,                                                                  \
	 .minimum = "0",                                                                               \
	 .maximum = "262143"},                                                                         \
		{.name = "cpu_seconds_per_minute",                                                         \
		 .type = JSON_NUMBER,                                                                      \
		 .is_nullable = is_nullable_,                                                              \
		 .minimum = "0.001",                                                                       \
		 .maximum = "61440"},                                                                      \
	{                                                                                              \
		.name = "memory_mb", .type = JSON_NUMBER, .is_nullable = is_nullable_, .minimum = "0",     \
		.maximum = "1000000000"                                                                    \
	}
#define STORAGE(is_nullable_)                                                                      \
	{                                                                                              \
		.name = "storage_gb", .type = JSON_NUMBER, .is_nullable = is_nullable_, .minimum = "0",    \
		.maximum = "1000000000"                                                                    \
	}
#define SETTINGS(is_nullable_)                                                                     \
	{                                                                                              \
		.name = "settings", .type = JSON_OBJECT, .is_nullable = is_nullable_                       \
	}

static const JsonRule requested[] = {AMOUNTS(false), STORAGE(false), {.name = NULL}};
static const JsonRule limited[] = {AMOUNTS(false), SETTINGS(false), STORAGE(false), {.name = NULL}};
static const JsonRule scaled_requests[] = {AMOUNTS(true), STORAGE(true), {.name = NULL}};
static const JsonRule scaled_limits[] = {
	AMOUNTS(true), SETTINGS(true), STORAGE(true), {.name = NULL}};

/* How far autoscaling may go. */
static const JsonRule range_members[] = {
	{.name = "max", .type = JSON_NUMBER, .is_required = true, .minimum = "0.001"},
	{.name = "min", .type = JSON_NUMBER, .is_required = true, .minimum = "0.001"},
	{.name = "target_percent", .type = JSON_INTEGER, .minimum = "1", .maximum = "100"},
	{.name = NULL},
};
#define RANGE(name_)                                                                               \
	{                                                                                              \
		.name = name_, .type = JSON_OBJECT, .is_nullable = true, .members = range_members          \
	}
static const JsonRule scaling_ranges[] = {
	RANGE("cpu_seconds_per_minute"), RANGE("storage_gb"), {.name = NULL}};

static const JsonRule request_members[] = {
	{.name = "limits", .type = JSON_OBJECT, .members = limited},
	{.name = "requests", .type = JSON_OBJECT, .members = requested},
	{.name = "scaling", .type = JSON_OBJECT, .members = scaling_ranges},
	{.name = NULL},
};
static const JsonRule scaling_members[] = {
	{.name = "limits", .type = JSON_OBJECT, .members = scaled_limits},
	{.name = "requests", .type = JSON_OBJECT, .members = scaled_requests},
	{.name = "scaling", .type = JSON_OBJECT, .members = scaling_ranges},
	{.name = NULL},
};

/* What json_validate() cannot say: settings that have a ceiling, ranges that are none. */
static void
require_sound(const Jsonb *limits, const Jsonb *scaling)
{
	int count;
	char **names = json_member_names(scaling, &count);

	for (int i = 0; i < count; i++)
	{
		Jsonb *range = json_member(scaling, names[i]);

		if (numeric_compare(json_numeric(range, "min"), json_numeric(range, "max")) > 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid resource request: \"scaling.%s.min\" is above its maximum",
						   names[i]));
	}
	(void) make_ceilings(limits, &count);
}

static Jsonb *
amounts(const Jsonb *document, const char *name)
{
	Jsonb *member = json_member(document, name);

	return member != NULL ? member : json_empty_object();
}

static void
require_requests_within_limits(const Jsonb *requests, const Jsonb *limits)
{
	for (int i = 0; i < lengthof(resources); i++)
	{
		Numeric request = json_numeric(requests, resources[i]);
		Numeric limit = json_numeric(limits, resources[i]);

		if (request != NULL && limit != NULL && numeric_compare(request, limit) > 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the request of %s must not be above its limit", resources[i]),
					errdetail("%s is requested, %s is the limit.", numeric_text(request),
							  numeric_text(limit)));
	}
}

static void
require_capacity(void)
{
	GateRows *rows = gate_run_array(&capacity_short, EXPECT_AT_MOST_ONE, NULL, 0);

	if (rows->count > 0)
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				errmsg("not enough %s left", row_text(rows, 0, 0)),
				errdetail("%s would be requested of %s.", numeric_text(row_numeric(rows, 0, 2)),
						  numeric_text(row_numeric(rows, 0, 1))),
				errhint("resource_capacity_set() declares what there is."));
}

/* resource_capacity_set(resource text, capacity numeric, overcommit numeric)
 *     → tenancy.resource_capacity */
TENANCY_FUNCTION(resource_capacity_set)
{
	char *resource = required_text(fcinfo, 0, "resource");
	Numeric capacity = required_numeric(fcinfo, 1, "capacity");
	Numeric overcommit = required_numeric(fcinfo, 2, "overcommit");
	bool is_known = false;
	Datum result;

	for (int i = 0; i < lengthof(resources); i++)
		is_known |= strcmp(resources[i], resource) == 0;
	if (!is_known)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown resource \"%s\"", resource),
				errhint("Possible: connections, cpu_seconds_per_minute, memory_mb, storage_gb."));
	if (numeric_compare(capacity, numeric_from_int(0)) < 0 ||
		numeric_compare(overcommit, numeric_from_int(0)) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("capacity must not be negative, and overcommit must be positive"));
	result = row_datum(gate_run(&capacity_upsert, EXPECT_ONE, gate_text(resource),
								gate_numeric(capacity), gate_numeric(overcommit)),
					   0, 0);
	require_capacity();
	PG_RETURN_DATUM(result);
}

/* resource_allocate(tenant regtenant, request jsonb) → tenancy.allocation */
TENANCY_FUNCTION(resource_allocate)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	Jsonb *request;
	Jsonb *requests;
	Jsonb *limits;
	Jsonb *scaling;
	GateRows *rows;

	require_argument(fcinfo, 1, "request");
	context_require_none("allocating resources");
	request = PG_GETARG_JSONB_P(1);
	json_validate(request, request_members, "resource request");
	requests = amounts(request, "requests");
	limits = amounts(request, "limits");
	scaling = amounts(request, "scaling");
	require_requests_within_limits(requests, limits);
	require_sound(limits, scaling);
	gate_run_array(&capacity_lock, EXPECT_ANY, NULL, 0);
	rows = gate_run(&allocation_insert, EXPECT_AT_MOST_ONE, gate_uuid(id_new()),
					gate_uuid(&tenant->id), gate_jsonb(requests), gate_jsonb(limits),
					gate_jsonb(scaling), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has an allocation", tenant->slug),
				errhint("resource_scale() changes it."));
	require_capacity();
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

static Datum
change_allocation(const pg_uuid_t *id, const Jsonb *requests, const Jsonb *limits,
				  const Jsonb *scaling)
{
	Datum result;

	require_requests_within_limits(requests, limits);
	require_sound(limits, scaling);
	result =
		row_datum(gate_run(&allocation_change, EXPECT_ONE, gate_uuid(id), gate_jsonb(requests),
						   gate_jsonb(limits), gate_jsonb(scaling), gate_timestamptz(clock_now())),
				  0, 0);
	require_capacity();
	return result;
}

Datum
resource_change(const pg_uuid_t *tenant, const Jsonb *changes)
{
	GateRows *rows;

	gate_run_array(&capacity_lock, EXPECT_ANY, NULL, 0);
	rows = gate_run(&allocation_active, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("tenant \"%s\" has no allocation", registry_slug(tenant)),
				errhint("resource_allocate() makes one."));
	return change_allocation(row_uuid(rows, 0, 0),
							 json_merge_patch(row_jsonb(rows, 0, 1), amounts(changes, "requests")),
							 json_merge_patch(row_jsonb(rows, 0, 2), amounts(changes, "limits")),
							 json_merge_patch(row_jsonb(rows, 0, 3), amounts(changes, "scaling")));
}

/* resource_scale(tenant regtenant, scaling jsonb) → tenancy.allocation; also tenant_scale() */
TENANCY_FUNCTION(resource_scale)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));

	require_argument(fcinfo, 1, "scaling");
	context_require_none("scaling resources");
	json_validate(PG_GETARG_JSONB_P(1), scaling_members, "scaling");
	PG_RETURN_DATUM(resource_change(&tenant->id, PG_GETARG_JSONB_P(1)));
}

/* resource_deallocate(tenant regtenant, allocation uuid) → tenancy.allocation */
TENANCY_FUNCTION(resource_deallocate)
{
	TenantEntry *tenant = registry_get(required_uuid(fcinfo, 0, "tenant"));
	pg_uuid_t *allocation = required_uuid(fcinfo, 1, "allocation");
	GateRows *rows;
	const char *to;

	context_require_none("deallocating resources");
	rows = gate_run(&allocation_state, EXPECT_AT_MOST_ONE, gate_uuid(allocation),
					gate_uuid(&tenant->id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" has no allocation %s", tenant->slug, id_text(allocation)));
	to = state_after(&allocation_states, row_text(rows, 0, 0), "deallocate", id_text(allocation));
	PG_RETURN_DATUM(row_datum(gate_run(&allocation_release, EXPECT_ONE, gate_uuid(allocation),
									   gate_text(to), gate_timestamptz(clock_now())),
							  0, 0));
}

/* resource_usage(tenant regtenant) → jsonb */
TENANCY_FUNCTION(resource_usage)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	PG_RETURN_JSONB_P(row_jsonb(gate_run(&resource_document, EXPECT_ONE, gate_uuid(tenant),
										 gate_timestamptz(clock_wall()),
										 gate_datum(Float8GetDatum(cpu_budget_used(tenant))),
										 gate_int32(context_count_sessions(tenant))),
								0, 0));
}

/* resource_metrics(tenant regtenant, from_time timestamptz, to_time timestamptz) → TABLE(…) */
TENANCY_FUNCTION(resource_metrics)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	TimestampTz from_time = required_timestamptz(fcinfo, 1, "from_time");
	TimestampTz to_time = required_timestamptz(fcinfo, 2, "to_time");

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	if (from_time >= to_time)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"from_time\" must be before \"to_time\""));
	gate_return_rows(fcinfo, gate_run(&resource_hours, EXPECT_ANY, gate_uuid(tenant),
									  gate_timestamptz(from_time), gate_timestamptz(to_time)));
	return (Datum) 0;
}

/* tenancy.cpu_budget_used(tenant uuid) → double precision */
TENANCY_FUNCTION(cpu_budget_used)
{
	tenant_require_visible(PG_GETARG_UUID_P(0));
	PG_RETURN_FLOAT8(cpu_budget_used(PG_GETARG_UUID_P(0)));
}

/* tenancy.tenant_sessions(tenant uuid) → integer */
TENANCY_FUNCTION(tenant_sessions)
{
	tenant_require_visible(PG_GETARG_UUID_P(0));
	PG_RETURN_INT32(context_count_sessions(PG_GETARG_UUID_P(0)));
}

void
limits_forget(Oid database)
{
	cpu_forget(database);
	quota_forget(database);
	rate_limit_forget(database);
	refusal_forget(database);
}

void
limits_for_each_pending(void (*visit)(Oid database, void *state), void *state)
{
	quota_for_each_pending(visit, state);
	rate_state_for_each_pending(visit, state);
}

void
resource_init(void)
{
	cpu_init();
	refusal_init();
	autoscale_init();
	state_machine_register(&allocation_states);
	context_set_admission(admit);
	ceiling_set_source(own_ceilings);
}
