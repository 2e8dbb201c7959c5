/*
 * limit/policy.c
 *		The rate limits that hold for a tenant: setting them, and knowing them.
 *
 * A policy of the tenant takes the place of one of the same name that is for all tenants.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "catalog/tenant_cache.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "limit/policy.h"
#include "limit/rate_limit.h"

#include "utils/builtins.h"

#define MAX_POLICIES 64
#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

static const char *const algorithms[] = {
	[RATE_GCRA] = "gcra",
	[RATE_SLIDING_WINDOW] = "sliding_window",
	[RATE_CONCURRENCY] = "concurrency",
};
static const char *const subjects[] = {
	[SUBJECT_SERVICE] = "service",
	[SUBJECT_TENANT] = "tenant",
	[SUBJECT_USER] = "user",
};

GATE_LATEST(
	rate_limits_of_tenant,
	"SELECT p.* FROM ("
	" SELECT DISTINCT ON (r.name) r.id, r.name, r.endpoint, r.subject, r.algorithm, r.quota,"
	"        r.period_ms, r.burst, r.shadow, r.on_full = 'closed'"
	"   FROM tenancy.rate_limit r"
	"  WHERE r.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000')"
	"  ORDER BY r.name, r.tenant_id DESC) p"
	" ORDER BY p.name",
	UUIDOID);
GATE_LATEST(rate_limit_salt, "SELECT s.salt FROM tenancy.rate_limit_salt s");
GATE_STATEMENT(rate_limits_remove,
			   "DELETE FROM tenancy.rate_limit r WHERE r.tenant_id = $1 AND r.name <> ALL ($2)",
			   UUIDOID, TEXTARRAYOID);
GATE_STATEMENT(
	rate_limit_upsert,
	"INSERT INTO tenancy.rate_limit AS r (id, tenant_id, name, endpoint, subject, algorithm, quota,"
	"    period_ms, burst, shadow, on_full, changed_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	" ON CONFLICT (tenant_id, name) DO UPDATE SET endpoint = excluded.endpoint,"
	"    subject = excluded.subject, algorithm = excluded.algorithm, quota = excluded.quota,"
	"    period_ms = excluded.period_ms, burst = excluded.burst, shadow = excluded.shadow,"
	"    on_full = excluded.on_full, changed_at = excluded.changed_at,"
	/* what was counted by another algorithm or pace means nothing to this one */
	"    id = CASE WHEN (r.algorithm, r.subject, r.period_ms) = (excluded.algorithm,"
	"              excluded.subject, excluded.period_ms) THEN r.id ELSE excluded.id END",
	UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, BOOLOID,
	TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(rate_limit_ids,
			   "SELECT r.id FROM tenancy.rate_limit r WHERE r.tenant_id = $1 ORDER BY r.id",
			   UUIDOID);
GATE_STATEMENT(rate_limits_get,
			   "SELECT r.* FROM tenancy.rate_limit r WHERE r.tenant_id = $1 ORDER BY r.name",
			   UUIDOID);

static const char *const full_modes[] = {"open", "closed", NULL};

/* One table for the lists; what makes no sense in one of them is told by read_policy(). */
static const JsonRule limit_members[] = {
	{.name = "burst", .type = JSON_INTEGER, .minimum = "0", .maximum = "1000000000"},
	{.name = "endpoint", .type = JSON_TEXT, .max_length = 255},
	{.name = "limit",
	 .type = JSON_INTEGER,
	 .is_required = true,
	 .minimum = "1",
	 .maximum = "1000000000"},
	{.name = "name", .type = JSON_TEXT, .max_length = 63},
	{.name = "period_seconds", .type = JSON_NUMBER, .minimum = "0.001", .maximum = "31622400"},
	{.name = "shadow", .type = JSON_BOOLEAN},
	{.name = NULL},
};
static const JsonRule limit_element = {.type = JSON_OBJECT, .members = limit_members};
#define LIMIT_LIST(name_)                                                                          \
	{                                                                                              \
		.name = name_, .type = JSON_ARRAY, .max_length = MAX_POLICIES, .element = &limit_element   \
	}
static const JsonRule document_members[] = {
	{.name = "burst_allowance", .type = JSON_INTEGER, .minimum = "0", .maximum = "1000000000"},
	LIMIT_LIST("concurrency_limits"),
	LIMIT_LIST("endpoint_limits"),
	LIMIT_LIST("global_limits"),
	{.name = "on_full", .type = JSON_TEXT, .choices = full_modes},
	LIMIT_LIST("service_limits"),
	{.name = "shadow", .type = JSON_BOOLEAN},
	{.name = "sliding_window", .type = JSON_BOOLEAN},
	LIMIT_LIST("user_limits"),
	{.name = NULL},
};

typedef struct PolicyList
{
	const char *member;
	const char *prefix; /* of the names that are made up */
	RateSubject subject;
	bool is_concurrency;
} PolicyList;

static const PolicyList lists[] = {
	{"concurrency_limits", "concurrency", SUBJECT_TENANT, true},
	{"endpoint_limits", "endpoint", SUBJECT_TENANT, false},
	{"global_limits", "global", SUBJECT_TENANT, false},
	{"service_limits", "service", SUBJECT_SERVICE, false},
	{"user_limits", "user", SUBJECT_USER, false},
};

typedef struct Configuration
{
	const pg_uuid_t *tenant;
	const Jsonb *document;
	const char *names[MAX_POLICIES];
	int count;
} Configuration;

static pg_noreturn void pg_attribute_printf(1, 2) refuse(const char *format, ...)
{
	char reason[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid rate limits: %s", reason));
}

/* Names go into HTTP header fields, as strings of RFC 9651: printable ASCII without quotes. */
static void
check_name(Configuration *configuration, const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			refuse("the name \"%s\" has characters that no header field takes", name);
	if (*name == '\0' || strlen(name) > 63)
		refuse("the name \"%s\" has not 1 to 63 characters", name);
	for (int i = 0; i < configuration->count; i++)
		if (strcmp(configuration->names[i], name) == 0)
			refuse("there are two of the name \"%s\"", name);
	if (configuration->count == MAX_POLICIES)
		refuse("there are more than %d", MAX_POLICIES);
	configuration->names[configuration->count++] = name;
}

static int64
read_period_ms(const Jsonb *limit, const PolicyList *list, const char *name)
{
	Numeric seconds = json_numeric(limit, "period_seconds");

	if (list->is_concurrency)
	{
		if (seconds != NULL)
			refuse("\"%s\" counts at once, and has no period_seconds", name);
		return 0;
	}
	if (seconds == NULL)
		refuse("\"%s\" has no period_seconds", name);
	return DatumGetInt64(DirectFunctionCall1(
		numeric_int8, DirectFunctionCall2(numeric_mul, NumericGetDatum(seconds),
										  NumericGetDatum(int64_to_numeric(1000)))));
}

static void
put_policy(Configuration *configuration, const PolicyList *list, const Jsonb *limit)
{
	const Jsonb *document = configuration->document;
	char *endpoint = json_text(limit, "endpoint");
	char *name = json_text(limit, "name");
	int64 quota = json_int32(limit, "limit", 0);
	int64 burst = json_int32(limit, "burst", json_int32(document, "burst_allowance", quota - 1));
	bool is_sliding = json_bool(document, "sliding_window", false);
	RateAlgorithm algorithm = list->is_concurrency ? RATE_CONCURRENCY
							  : is_sliding         ? RATE_SLIDING_WINDOW
												   : RATE_GCRA;
	char *on_full = json_text(document, "on_full");
	int64 period_ms;

	if (name == NULL)
		name =
			endpoint == NULL ? pstrdup(list->prefix) : psprintf("%s %.50s", list->prefix, endpoint);
	if (strcmp(list->member, "endpoint_limits") == 0 && endpoint == NULL)
		refuse("\"%s\" has no endpoint", name);
	if (list->subject == SUBJECT_SERVICE && !id_is_nil(configuration->tenant))
		refuse("service_limits are those of all tenants together");
	check_name(configuration, name);
	period_ms = read_period_ms(limit, list, name);
	gate_run(&rate_limit_upsert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(configuration->tenant),
			 gate_text(name), gate_text(endpoint), gate_text(subjects[list->subject]),
			 gate_text(algorithms[algorithm]), gate_int64(quota), gate_int64(period_ms),
			 gate_int64(algorithm == RATE_GCRA ? burst : 0),
			 gate_bool(json_bool(limit, "shadow", json_bool(document, "shadow", false))),
			 gate_text(on_full == NULL ? "open" : on_full), gate_timestamptz(clock_now()));
}

/* What was counted for policies that are no more makes room when this commits. */
static void
note_gone(const GateRows *before, const GateRows *after)
{
	for (int64 i = 0; i < before->count; i++)
	{
		const pg_uuid_t *id = row_uuid(before, i, 0);
		bool is_there = false;

		for (int64 n = 0; n < after->count && !is_there; n++)
			is_there = id_equal(id, row_uuid(after, n, 0));
		if (!is_there)
			rate_limit_forget_policy(id);
	}
}

/* rate_limit_configure(tenant regtenant, limits jsonb) → SETOF tenancy.rate_limit */
TENANCY_FUNCTION(rate_limit_configure)
{
	static const pg_uuid_t everybody = {{0}};
	pg_uuid_t *tenant = optional_uuid(fcinfo, 0);
	Configuration configuration = {.tenant = tenant != NULL ? tenant : &everybody};
	GateRows *before;

	require_argument(fcinfo, 1, "limits");
	context_require_none("configuring rate limits");
	if (tenant != NULL)
		(void) registry_get(tenant);
	configuration.document = PG_GETARG_JSONB_P(1);
	json_validate(configuration.document, document_members, "rate limits");
	before = gate_run(&rate_limit_ids, EXPECT_ANY, gate_uuid(configuration.tenant));

	for (int i = 0; i < lengthof(lists); i++)
	{
		Jsonb *limits = json_member(configuration.document, lists[i].member);

		for (int n = 0; n < json_element_count(limits); n++)
			put_policy(&configuration, &lists[i], json_element(limits, n));
	}
	gate_run(&rate_limits_remove, EXPECT_ANY, gate_uuid(configuration.tenant),
			 gate_text_array(configuration.names, configuration.count));
	note_gone(before, gate_run(&rate_limit_ids, EXPECT_ANY, gate_uuid(configuration.tenant)));
	gate_return_rows(fcinfo,
					 gate_run(&rate_limits_get, EXPECT_ANY, gate_uuid(configuration.tenant)));
	return (Datum) 0;
}

static TenantCache known = {.name = "rate limits", .entry_size = sizeof(RatePolicies)};

static int
find_word(const char *const *words, int count, const char *word)
{
	for (int i = 0; i < count; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	elog(ERROR, "unexpected word \"%s\"", word);
}

/* As draft-ietf-httpapi-ratelimit-headers-10 has them: items of an RFC 9651 list. */
static void
put_items(RatePolicy *policy)
{
	int64 period_s = (policy->rule.period_ns + 999999999) / 1000000000;

	policy->policy_item = policy->rule.algorithm == RATE_CONCURRENCY
							  ? psprintf("\"%s\";q=" INT64_FORMAT ";qu=\"concurrent-requests\"",
										 policy->name, policy->rule.quota)
							  : psprintf("\"%s\";q=" INT64_FORMAT ";w=" INT64_FORMAT, policy->name,
										 policy->rule.quota, period_s);
	policy->policy_item_length = strlen(policy->policy_item);
	policy->state_item = psprintf("\"%s\";r=", policy->name);
	policy->state_item_length = strlen(policy->state_item);
}

static void
read_row(RatePolicy *policy, const GateRows *rows, int64 i)
{
	policy->id = *row_uuid(rows, i, 0);
	policy->name = row_text(rows, i, 1);
	policy->endpoint = row_text(rows, i, 2);
	policy->subject = find_word(subjects, lengthof(subjects), row_text(rows, i, 3));
	policy->rule.algorithm = find_word(algorithms, lengthof(algorithms), row_text(rows, i, 4));
	policy->rule.quota = row_int64(rows, i, 5);
	policy->rule.period_ns = row_int64(rows, i, 6) * INT64CONST(1000000);
	policy->rule.burst = row_int64(rows, i, 7);
	policy->is_shadow = row_bool(rows, i, 8);
	policy->is_closed_full = row_bool(rows, i, 9);
	put_items(policy);
}

const RatePolicies *
policy_list(const pg_uuid_t *tenant)
{
	RatePolicies *found = tenant_cache_find(&known, tenant);
	RatePolicy *policies;
	bytea *salt;
	GateRows *rows;
	MemoryContext old;

	if (likely(found != NULL))
		return found;
	rows = gate_run(&rate_limits_of_tenant, EXPECT_ANY, gate_uuid(tenant));
	salt = DatumGetByteaPP(row_datum(gate_run_array(&rate_limit_salt, EXPECT_ONE, NULL, 0), 0, 0));
	old = MemoryContextSwitchTo(known.memory);
	policies = palloc(sizeof(RatePolicy) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
		read_row(&policies[i], rows, i);
	MemoryContextSwitchTo(old);

	found = tenant_cache_add(&known, tenant);
	found->count = rows->count;
	found->policies = policies;
	memcpy(found->salt, VARDATA_ANY(salt), sizeof(found->salt));
	return found;
}

static bool
fits(const char *pattern, const char *text)
{
	const char *star = NULL;
	const char *resume = NULL;

	while (*text != '\0')
	{
		if (*pattern == '*')
		{
			star = pattern++;
			resume = text;
		}
		else if (*pattern == *text)
		{
			pattern++;
			text++;
		}
		else if (star != NULL)
		{
			/* let the last star take one character more */
			pattern = star + 1;
			text = ++resume;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool
policy_matches(const RatePolicy *policy, const char *endpoint, bool has_user)
{
	if (policy->subject == SUBJECT_USER && !has_user)
		return false;
	return policy->endpoint == NULL || fits(policy->endpoint, endpoint);
}
