/*
 * job/retry.c
 *		What happens to a job that has failed: a policy, and what it decides.
 */
#include "postgres.h"

#include "core/json.h"
#include "job/retry.h"

#include "common/pg_prng.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#define DEFAULT_MAX_ATTEMPTS 20
#define DEFAULT_INITIAL_MS 5000
#define DEFAULT_FACTOR 2
#define DEFAULT_MAX_MS (3600 * 1000)
#define MS_PER_SECOND 1000

static const char *const jitters[] = {"full", "none", NULL};

static const JsonRule seconds = {
	.type = JSON_NUMBER,
	.minimum = "0",
	.maximum = "2592000",
};
static const JsonRule sqlstate = {
	.type = JSON_TEXT,
	.max_length = 5,
};

static const JsonRule policy_rules[] = {
	{.name = "max_attempts", .type = JSON_INTEGER, .minimum = "1", .maximum = "100"},
	{.name = "initial_seconds", .type = JSON_NUMBER, .minimum = "0", .maximum = "2592000"},
	{.name = "factor", .type = JSON_INTEGER, .minimum = "1", .maximum = "10"},
	{.name = "max_seconds", .type = JSON_NUMBER, .minimum = "0", .maximum = "2592000"},
	{.name = "jitter", .type = JSON_TEXT, .choices = jitters},
	{.name = "delays_seconds", .type = JSON_ARRAY, .element = &seconds, .max_length = 100},
	{.name = "non_retryable", .type = JSON_ARRAY, .element = &sqlstate, .max_length = 100},
	{0},
};

void
retry_validate(const Jsonb *policy)
{
	json_validate(policy, policy_rules, "retry policy");
}

static int64
numeric_ms(Numeric value)
{
	Datum ms = DirectFunctionCall2(numeric_mul, NumericGetDatum(value),
								   NumericGetDatum(int64_to_numeric(MS_PER_SECOND)));

	return DatumGetInt64(DirectFunctionCall1(numeric_int8, ms));
}

static int64
milliseconds(const Jsonb *policy, const char *name, int64 when_absent)
{
	Numeric value = json_numeric(policy, name);

	return value == NULL ? when_absent : numeric_ms(value);
}

RetryPolicy
retry_read(const Jsonb *policy)
{
	RetryPolicy result;
	char *jitter = json_text(policy, "jitter");

	result.max_attempts = json_int32(policy, "max_attempts", DEFAULT_MAX_ATTEMPTS);
	result.initial_ms = milliseconds(policy, "initial_seconds", DEFAULT_INITIAL_MS);
	result.factor = json_int32(policy, "factor", DEFAULT_FACTOR);
	result.max_ms = milliseconds(policy, "max_seconds", DEFAULT_MAX_MS);
	result.has_jitter = jitter == NULL || strcmp(jitter, "full") == 0;
	result.delays = json_member(policy, "delays_seconds");
	result.non_retryable = json_member(policy, "non_retryable");
	if (result.delays != NULL && json_numeric(policy, "max_attempts") == NULL)
		result.max_attempts = json_element_count(result.delays) + 1;
	return result;
}

static int64
element_ms(const Jsonb *array, int index)
{
	JsonbValue *value = getIthJsonbValueFromContainer((JsonbContainer *) &array->root, index);

	return numeric_ms(value->val.numeric);
}

int64
retry_delay_ms(const RetryPolicy *policy, int attempt)
{
	int64 delay = Min(policy->initial_ms, policy->max_ms);

	if (policy->delays != NULL && json_element_count(policy->delays) > 0)
		return element_ms(policy->delays,
						  Min(Max(attempt, 1), json_element_count(policy->delays)) - 1);
	for (int n = 1; n < attempt && delay < policy->max_ms; n++)
		delay = Min(delay * policy->factor, policy->max_ms);
	if (policy->has_jitter)
		delay = pg_prng_uint64_range(&pg_global_prng_state, 0, delay);
	return delay;
}

bool
retry_is_retryable(const RetryPolicy *policy, const char *state)
{
	int count = json_element_count(policy->non_retryable);

	if (state == NULL)
		return true;
	for (int i = 0; i < count; i++)
	{
		JsonbValue *value =
			getIthJsonbValueFromContainer((JsonbContainer *) &policy->non_retryable->root, i);

		if (strncmp(state, value->val.string.val, value->val.string.len) == 0)
			return false;
	}
	return true;
}

bool
retry_may_go_on(const RetryPolicy *policy, int attempt, const char *sqlstate)
{
	return attempt < policy->max_attempts && retry_is_retryable(policy, sqlstate);
}
