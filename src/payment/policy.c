/*
 * payment/policy.c
 *		Dunning policies: reading them, and their arithmetic.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "payment/policy.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MOST_DAYS "365"

GATE_STATEMENT(dunning_policy_set,
			   "INSERT INTO tenancy.dunning_policy AS p (id, policy, first_attempt, first_days,"
			   "    updated_at) VALUES ($1, $2, $3, $4, $5)"
			   " ON CONFLICT (id) DO UPDATE SET policy = $2, first_attempt = $3, first_days = $4,"
			   "    updated_at = $5"
			   " RETURNING p",
			   TEXTOID, JSONBOID, TEXTOID, INT4OID, TIMESTAMPTZOID);
/* What the new policy asks for may be due at once. */
GATE_STATEMENT(
	dunning_look_again,
	"UPDATE tenancy.dunning d SET next_at = $2 WHERE d.policy = $1 AND d.state = 'active'", TEXTOID,
	TIMESTAMPTZOID);

/*
 * Codes that say that trying again is no use ("Smart Retries", docs.stripe.com, has the list of
 * hard declines); a policy can say otherwise by code.
 */
static const char *const hard_declines[] = {
	"authentication_required",
	"highest_risk_level",
	"incorrect_number",
	"lost_card",
	"pickup_card",
	"revocation_of_all_authorizations",
	"revocation_of_authorization",
	"stolen_card",
	"transaction_not_allowed",
};

/* What is said where the policy has no words of its own. */
static const struct
{
	const char *kind;
	const char *subject;
	const char *body;
} default_texts[] = {
	{"before_due", "Invoice {{number}} is due on {{due_date}}",
	 "Dear {{name}},\n\ninvoice {{number}} over {{amount}} {{currency}} is due on {{due_date}}.\n"},
	{"overdue", "Invoice {{number}} is overdue",
	 "Dear {{name}},\n\ninvoice {{number}} was due on {{due_date}}, and {{amount}} {{currency}} "
	 "of it are still to be paid.\n"},
	{"failed", "The payment of invoice {{number}} has failed",
	 "Dear {{name}},\n\nwe could not collect {{amount}} {{currency}} for invoice {{number}}.  "
	 "Please look at your payment method.\n"},
	{"suspended", "Your service is suspended",
	 "Dear {{name}},\n\ninvoice {{number}} was due on {{due_date}}.  Your service is suspended "
	 "until the {{amount}} {{currency}} that are open are paid.\n"},
	{"cancelled", "Your subscription has been cancelled",
	 "Dear {{name}},\n\ninvoice {{number}} was due on {{due_date}} and {{amount}} {{currency}} of "
	 "it were not paid.  Your subscription has been cancelled.\n"},
	{"request", "{{amount}} {{currency}} are overdue",
	 "Dear {{name}},\n\n{{amount}} {{currency}} are overdue in all.  Please pay: "
	 "{{number}}.\n"},
};

/* An object whose members are arrays of whole numbers of days. */
static const char *
check_failure_codes(JsonbValue *value)
{
	Jsonb *codes = JsonbValueToJsonb(value);
	JsonbIterator *iterator = JsonbIteratorInit(&codes->root);
	JsonbValue item;
	JsonbIteratorToken token;
	int depth = 0;

	while ((token = JsonbIteratorNext(&iterator, &item, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_ARRAY && ++depth > 1)
			return "an array of numbers of days for each code";
		if (token == WJB_END_ARRAY)
			depth--;
		if (token == WJB_VALUE)
			return "an array of numbers of days for each code";
		if (token == WJB_ELEM)
		{
			Numeric days;

			if (item.type != jbvNumeric)
				return "an array of numbers of days for each code";
			days = item.val.numeric;
			if (numeric_compare(days, numeric_from_int(1)) < 0 ||
				numeric_compare(days, numeric_from_text(MOST_DAYS)) > 0 ||
				numeric_compare(days, money_round(days, 0)) != 0)
				return "whole days from 1 to " MOST_DAYS " for each code";
		}
	}
	return NULL;
}

static const char *
check_thresholds(JsonbValue *value)
{
	Jsonb *thresholds = JsonbValueToJsonb(value);
	JsonbIterator *iterator = JsonbIteratorInit(&thresholds->root);
	JsonbValue item;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY &&
			!currency_is_known(pnstrdup(item.val.string.val, item.val.string.len)))
			return "amounts by currency of ISO 4217";
		if (token == WJB_VALUE &&
			(item.type != jbvNumeric || numeric_compare(item.val.numeric, numeric_zero()) <= 0))
			return "positive amounts by currency";
	}
	return NULL;
}

static const char *const first_attempts[] = {"due", "issue", NULL};

static const JsonRule gap_rule = {.type = JSON_INTEGER, .minimum = "1", .maximum = MOST_DAYS};
static const JsonRule reminder_rule = {
	.type = JSON_INTEGER, .minimum = "-90", .maximum = MOST_DAYS};

static const JsonRule text_members[] = {
	{.name = "body", .type = JSON_TEXT, .max_length = 10000},
	{.name = "subject", .type = JSON_TEXT, .max_length = 200},
	{.name = NULL},
};
static const JsonRule texts_members[] = {
	{.name = "before_due", .type = JSON_OBJECT, .members = text_members},
	{.name = "cancelled", .type = JSON_OBJECT, .members = text_members},
	{.name = "failed", .type = JSON_OBJECT, .members = text_members},
	{.name = "overdue", .type = JSON_OBJECT, .members = text_members},
	{.name = "request", .type = JSON_OBJECT, .members = text_members},
	{.name = "suspended", .type = JSON_OBJECT, .members = text_members},
	{.name = NULL},
};

static const JsonRule campaign_members[] = {
	{.name = "days_between_attempts",
	 .type = JSON_INTEGER,
	 .is_required = true,
	 .minimum = "1",
	 .maximum = MOST_DAYS},
	{.name = "max_attempts",
	 .type = JSON_INTEGER,
	 .is_required = true,
	 .minimum = "1",
	 .maximum = "100"},
	{.name = "thresholds", .type = JSON_OBJECT, .is_required = true, .check = check_thresholds},
	{.name = NULL},
};

static const JsonRule policy_members[] = {
	{.name = "campaign", .type = JSON_OBJECT, .is_nullable = true, .members = campaign_members},
	{.name = "cancel_after_days",
	 .type = JSON_INTEGER,
	 .is_nullable = true,
	 .minimum = "0",
	 .maximum = MOST_DAYS},
	{.name = "failure_codes", .type = JSON_OBJECT, .check = check_failure_codes},
	{.name = "first_attempt", .type = JSON_TEXT, .is_nullable = true, .choices = first_attempts},
	{.name = "grace_days", .type = JSON_INTEGER, .minimum = "0", .maximum = MOST_DAYS},
	{.name = "remind_on_failure", .type = JSON_BOOLEAN},
	{.name = "reminders",
	 .type = JSON_ARRAY,
	 .max_length = POLICY_MAX_STEPS,
	 .element = &reminder_rule},
	{.name = "retries", .type = JSON_ARRAY, .max_length = POLICY_MAX_STEPS, .element = &gap_rule},
	{.name = "suspend_after_days",
	 .type = JSON_INTEGER,
	 .is_nullable = true,
	 .minimum = "0",
	 .maximum = MOST_DAYS},
	{.name = "texts", .type = JSON_OBJECT, .members = texts_members},
	{.name = "write_off_after_days",
	 .type = JSON_INTEGER,
	 .is_nullable = true,
	 .minimum = "0",
	 .maximum = MOST_DAYS},
	{.name = NULL},
};

/* The elements of an array of whole numbers; how many. */
static int
read_days(const Jsonb *array, int32 days[POLICY_MAX_STEPS])
{
	int count = json_element_count(array);

	for (int i = 0; i < count && i < POLICY_MAX_STEPS; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer((JsonbContainer *) &array->root, i);

		days[i] =
			DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value->val.numeric)));
	}
	return Min(count, POLICY_MAX_STEPS);
}

static void
refuse(const char *member, const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid dunning policy: \"%s\" must be %s", member, expected));
}

void
policy_validate(const Jsonb *document)
{
	DunningPolicy policy;
	int32 reached;

	json_validate(document, policy_members, "dunning policy");
	policy = policy_parse(document);
	for (int i = 1; i < policy.reminder_count; i++)
	{
		if (policy.reminders[i] <= policy.reminders[i - 1])
			refuse("reminders", "ascending");
	}
	reached = policy.grace_days;
	if (policy.suspend_after_days != POLICY_NEVER)
	{
		if (policy.suspend_after_days < reached)
			refuse("suspend_after_days", "at least \"grace_days\"");
		reached = policy.suspend_after_days;
	}
	if (policy.cancel_after_days != POLICY_NEVER)
	{
		if (policy.cancel_after_days < reached)
			refuse("cancel_after_days", "at least \"grace_days\" and \"suspend_after_days\"");
		reached = policy.cancel_after_days;
	}
	if (policy.write_off_after_days != POLICY_NEVER && policy.write_off_after_days < reached)
		refuse("write_off_after_days", "the last of all days");
}

DunningPolicy
policy_parse(const Jsonb *document)
{
	DunningPolicy policy = {
		.document = document,
		.first_attempt = json_text(document, "first_attempt"),
		.reminds_on_failure = json_bool(document, "remind_on_failure", true),
		.grace_days = json_int32(document, "grace_days", 0),
		.suspend_after_days = json_int32(document, "suspend_after_days", POLICY_NEVER),
		.cancel_after_days = json_int32(document, "cancel_after_days", POLICY_NEVER),
		.write_off_after_days = json_int32(document, "write_off_after_days", POLICY_NEVER),
	};

	policy.retry_count = read_days(json_member(document, "retries"), policy.retries);
	policy.reminder_count = read_days(json_member(document, "reminders"), policy.reminders);
	return policy;
}

int32
policy_first_days(const DunningPolicy *policy)
{
	int32 first = policy->grace_days;

	if (policy->reminder_count > 0)
		first = Min(first, policy->reminders[0]);
	if (policy->first_attempt != NULL)
		first = Min(first, 0);
	return first;
}

static bool
is_hard_decline(const char *code)
{
	for (int i = 0; i < lengthof(hard_declines); i++)
	{
		if (strcmp(hard_declines[i], code) == 0)
			return true;
	}
	return false;
}

int32
policy_retry_days(const DunningPolicy *policy, int32 attempts, const char *code)
{
	Jsonb *codes = json_member(policy->document, "failure_codes");
	int32 own_gaps[POLICY_MAX_STEPS];
	const int32 *gaps = policy->retries;
	int gap_count = policy->retry_count;
	int32 days = 0;

	if (code != NULL && codes != NULL && json_has(codes, code))
	{
		gaps = own_gaps;
		gap_count = read_days(json_member(codes, code), own_gaps);
	}
	else if (code != NULL && is_hard_decline(code))
		return POLICY_NEVER;
	if (attempts < 1 || attempts > gap_count)
		return POLICY_NEVER;
	for (int i = 0; i < attempts; i++)
		days += gaps[i];
	return days;
}

char *
policy_text(const DunningPolicy *policy, const char *kind, const char *part)
{
	Jsonb *texts = json_member(policy->document, "texts");
	Jsonb *own = texts == NULL ? NULL : json_member(texts, kind);
	char *text = own == NULL ? NULL : json_text(own, part);

	if (text != NULL)
		return text;
	for (int i = 0; i < lengthof(default_texts); i++)
	{
		if (strcmp(default_texts[i].kind, kind) == 0)
			return pstrdup(strcmp(part, "subject") == 0 ? default_texts[i].subject
														: default_texts[i].body);
	}
	elog(ERROR, "there is no text \"%s\"", kind);
}

TimestampTz
days_after(TimestampTz time, int32 days)
{
	return time + days * USECS_PER_DAY;
}

/* dunning_policy_set(id text, policy jsonb) → tenancy.dunning_policy */
TENANCY_FUNCTION(dunning_policy_set)
{
	char *id = required_text(fcinfo, 0, "id");
	Jsonb *document;
	DunningPolicy policy;
	Datum row;

	context_require_none("configuring dunning");
	require_argument(fcinfo, 1, "policy");
	document = PG_GETARG_JSONB_P(1);
	policy_validate(document);
	policy = policy_parse(document);
	row = row_datum(gate_run(&dunning_policy_set, EXPECT_ONE, gate_text(id), gate_jsonb(document),
							 gate_text(policy.first_attempt),
							 gate_int32(policy_first_days(&policy)), gate_timestamptz(clock_now())),
					0, 0);
	gate_run(&dunning_look_again, EXPECT_ANY, gate_text(id), gate_timestamptz(clock_now()));
	PG_RETURN_DATUM(row);
}

static void
put_step(ReturnSetInfo *result, int32 day, const char *counted_from, const char *action, int32 step)
{
	Datum values[4] = {Int32GetDatum(day), CStringGetTextDatum(counted_from),
					   CStringGetTextDatum(action), Int32GetDatum(step)};
	bool nulls[4] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * tenancy.dunning_schedule(policy jsonb, failure_code text)
 *     → TABLE(day integer, counted_from text, action text, step integer)
 */
TENANCY_FUNCTION(dunning_schedule)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb *document;
	char *code = optional_text(fcinfo, 1);
	DunningPolicy policy;
	int32 day;

	require_argument(fcinfo, 0, "policy");
	document = PG_GETARG_JSONB_P(0);
	policy_validate(document);
	policy = policy_parse(document);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < policy.reminder_count; i++)
		put_step(result, policy.reminders[i], "due", "remind", i + 1);
	for (int attempts = 1; (day = policy_retry_days(&policy, attempts, code)) != POLICY_NEVER;
		 attempts++)
		put_step(result, day, "first failure", "retry", attempts);
	put_step(result, policy.grace_days, "due", "past due", 1);
	if (policy.suspend_after_days != POLICY_NEVER)
		put_step(result, policy.suspend_after_days, "due", "suspend", 1);
	if (policy.cancel_after_days != POLICY_NEVER)
		put_step(result, policy.cancel_after_days, "due", "cancel", 1);
	if (policy.write_off_after_days != POLICY_NEVER)
		put_step(result, policy.write_off_after_days, "due", "write off", 1);
	return (Datum) 0;
}
