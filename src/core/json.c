/*
 * core/json.c
 *		Reading jsonb documents: typed look-ups and validation driven by tables.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/json.h"
#include "core/money.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/datetime.h"
#include "utils/json.h"

static void validate_value(JsonbValue *value, const JsonRule *rule, const char *path,
						   const char *what);

static void
fault(const char *what, const char *path, const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid %s: \"%s\" must be %s", what, path, expected));
}

static const char *
type_name(JsonType type)
{
	static const char *const names[] = {
		[JSON_TEXT] = "a text",
		[JSON_NUMBER] = "a number",
		[JSON_INTEGER] = "a whole number",
		[JSON_BOOLEAN] = "true or false",
		[JSON_OBJECT] = "an object",
		[JSON_ARRAY] = "an array",
		[JSON_ANY] = "anything",
	};

	return names[type];
}

static bool
is_whole(Numeric value)
{
	Datum truncated = DirectFunctionCall2(numeric_trunc, NumericGetDatum(value), Int32GetDatum(0));

	return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(value), truncated));
}

static bool
has_type(JsonbValue *value, JsonType type)
{
	switch (type)
	{
		case JSON_TEXT:
			return value->type == jbvString;
		case JSON_NUMBER:
			return value->type == jbvNumeric;
		case JSON_INTEGER:
			return value->type == jbvNumeric && is_whole(value->val.numeric);
		case JSON_BOOLEAN:
			return value->type == jbvBool;
		case JSON_OBJECT:
			return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
		case JSON_ARRAY:
			return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
				   !JsonContainerIsScalar(value->val.binary.data);
		case JSON_ANY:
			return true;
	}
	return false;
}

/* The names of a table of members, for a hint. */
static char *
list_names(const JsonRule *members)
{
	StringInfoData names;

	initStringInfo(&names);
	for (const JsonRule *rule = members; rule->name != NULL; rule++)
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "", rule->name);
	return names.data;
}

static char *
list_choices(const char *const *choices)
{
	StringInfoData names;

	initStringInfo(&names);
	for (; *choices != NULL; choices++)
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "", *choices);
	return names.data;
}

static void
validate_text(JsonbValue *value, const JsonRule *rule, const char *path, const char *what)
{
	const char *text = value->val.string.val;
	int length = value->val.string.len;

	if (rule->max_length > 0 && pg_mbstrlen_with_len(text, length) > rule->max_length)
		fault(what, path, psprintf("at most %d characters long", rule->max_length));
	if (rule->choices != NULL)
	{
		const char *const *choice = rule->choices;

		while (*choice != NULL &&
			   !(strlen(*choice) == length && memcmp(*choice, text, length) == 0))
			choice++;
		if (*choice == NULL)
			fault(what, path, psprintf("one of %s", list_choices(rule->choices)));
	}
}

static void
validate_number(JsonbValue *value, const JsonRule *rule, const char *path, const char *what)
{
	if (rule->minimum != NULL &&
		numeric_compare(value->val.numeric, numeric_from_text(rule->minimum)) < 0)
		fault(what, path, psprintf("at least %s", rule->minimum));
	if (rule->maximum != NULL &&
		numeric_compare(value->val.numeric, numeric_from_text(rule->maximum)) > 0)
		fault(what, path, psprintf("at most %s", rule->maximum));
}

static void
validate_members(JsonbContainer *object, const JsonRule *members, const char *path,
				 const char *what)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue key;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const JsonRule *rule;
		JsonbValue value;
		char *name;
		char *member_path;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		member_path = *path ? psprintf("%s.%s", path, name) : name;
		(void) JsonbIteratorNext(&it, &value, true);
		for (rule = members; rule->name != NULL && strcmp(rule->name, name) != 0; rule++)
			;
		if (rule->name == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"%s\" is unknown", what, member_path),
					errhint("Known here: %s.", list_names(members)));
		validate_value(&value, rule, member_path, what);
	}

	for (const JsonRule *rule = members; rule->name != NULL; rule++)
	{
		JsonbValue found;

		if (rule->is_required &&
			getKeyJsonValueFromContainer(object, rule->name, strlen(rule->name), &found) == NULL)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid %s: \"%s%s%s\" is missing", what, path, *path ? "." : "",
						   rule->name));
	}
}

static void
validate_elements(JsonbContainer *array, const JsonRule *rule, const char *path, const char *what)
{
	int count = JsonContainerSize(array);

	if (rule->max_length > 0 && count > rule->max_length)
		fault(what, path, psprintf("at most %d elements long", rule->max_length));
	if (rule->element == NULL)
		return;
	for (int i = 0; i < count; i++)
		validate_value(getIthJsonbValueFromContainer(array, i), rule->element,
					   psprintf("%s[%d]", path, i), what);
}

static void
validate_value(JsonbValue *value, const JsonRule *rule, const char *path, const char *what)
{
	const char *expected;

	if (value->type == jbvNull && rule->is_nullable)
		return;
	if (!has_type(value, rule->type))
		fault(what, path, type_name(rule->type));

	switch (rule->type)
	{
		case JSON_TEXT:
			validate_text(value, rule, path, what);
			break;
		case JSON_NUMBER:
		case JSON_INTEGER:
			validate_number(value, rule, path, what);
			break;
		case JSON_OBJECT:
			if (rule->members != NULL)
				validate_members(value->val.binary.data, rule->members, path, what);
			break;
		case JSON_ARRAY:
			validate_elements(value->val.binary.data, rule, path, what);
			break;
		case JSON_BOOLEAN:
		case JSON_ANY:
			break;
	}

	expected = rule->check != NULL ? rule->check(value) : NULL;
	if (expected != NULL)
		fault(what, path, expected);
}

void
json_validate(const Jsonb *document, const JsonRule *members, const char *what)
{
	if (!JB_ROOT_IS_OBJECT(document))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid %s: it must be a JSON object", what));
	validate_members((JsonbContainer *) &document->root, members, "", what);
}

/* Is every member of the object of one type? */
static bool
members_are(JsonbValue *object, enum jbvType type)
{
	JsonbIterator *it = JsonbIteratorInit(object->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue member;

	while ((token = JsonbIteratorNext(&it, &member, true)) != WJB_DONE)
	{
		if (token == WJB_VALUE && member.type != type)
			return false;
	}
	return true;
}

const char *
json_check_booleans(JsonbValue *value)
{
	return members_are(value, jbvBool) ? NULL : "an object of true and false";
}

const char *
json_check_numbers(JsonbValue *value)
{
	return members_are(value, jbvNumeric) ? NULL : "an object of numbers";
}

const char *
json_check_currency(JsonbValue *value)
{
	char *code = pnstrdup(value->val.string.val, value->val.string.len);

	return currency_is_known(code) ? NULL : "a currency of ISO 4217, such as \"USD\"";
}

/* Members. */

static bool
find_member(const Jsonb *object, const char *name, JsonbValue *value)
{
	return object != NULL && JB_ROOT_IS_OBJECT(object) &&
		   getKeyJsonValueFromContainer((JsonbContainer *) &object->root, name, strlen(name),
										value) != NULL &&
		   value->type != jbvNull;
}

bool
json_has(const Jsonb *object, const char *name)
{
	JsonbValue value;

	return getKeyJsonValueFromContainer((JsonbContainer *) &object->root, name, strlen(name),
										&value) != NULL;
}

char *
json_text(const Jsonb *object, const char *name)
{
	JsonbValue value;

	if (!find_member(object, name, &value) || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

Numeric
json_numeric(const Jsonb *object, const char *name)
{
	JsonbValue value;

	if (!find_member(object, name, &value) || value.type != jbvNumeric)
		return NULL;
	return DatumGetNumericCopy(NumericGetDatum(value.val.numeric));
}

bool
json_bool(const Jsonb *object, const char *name, bool when_absent)
{
	JsonbValue value;

	return find_member(object, name, &value) && value.type == jbvBool ? value.val.boolean
																	  : when_absent;
}

int32
json_int32(const Jsonb *object, const char *name, int32 when_absent)
{
	Numeric value = json_numeric(object, name);

	return value == NULL ? when_absent
						 : DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value)));
}

Jsonb *
json_member(const Jsonb *object, const char *name)
{
	JsonbValue value;

	return find_member(object, name, &value) ? JsonbValueToJsonb(&value) : NULL;
}

char **
json_member_names(const Jsonb *object, int *count)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue value;
	char **names;

	*count = 0;
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	names = palloc(sizeof(char *) * Max(JB_ROOT_COUNT(object), 1));
	it = JsonbIteratorInit((JsonbContainer *) &object->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			names[(*count)++] = pnstrdup(value.val.string.val, value.val.string.len);
	}
	return names;
}

bool
json_is_array(const Jsonb *value)
{
	/* A scalar is kept as an array of one. */
	return value != NULL && JB_ROOT_IS_ARRAY(value) && !JB_ROOT_IS_SCALAR(value);
}

int
json_element_count(const Jsonb *array)
{
	return json_is_array(array) ? JB_ROOT_COUNT(array) : 0;
}

Jsonb *
json_element(const Jsonb *array, int index)
{
	return JsonbValueToJsonb(getIthJsonbValueFromContainer((JsonbContainer *) &array->root, index));
}

char *
json_element_text(const Jsonb *array, int index)
{
	JsonbValue *value = getIthJsonbValueFromContainer((JsonbContainer *) &array->root, index);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

Numeric
json_element_numeric(const Jsonb *array, int index)
{
	JsonbValue *value = getIthJsonbValueFromContainer((JsonbContainer *) &array->root, index);

	if (value == NULL || value->type != jbvNumeric)
		return NULL;
	return DatumGetNumericCopy(NumericGetDatum(value->val.numeric));
}

Jsonb *
json_parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

Jsonb *
json_empty_object(void)
{
	JsonBuilder builder;

	json_begin(&builder);
	return json_end(&builder);
}

/* Building. */

void
json_begin(JsonBuilder *builder)
{
	builder->state = NULL;
	(void) pushJsonbValue(&builder->state, WJB_BEGIN_OBJECT, NULL);
}

static void
put(JsonBuilder *builder, const char *name, JsonbValue *value)
{
	JsonbValue key = {.type = jbvString};

	key.val.string.val = (char *) name;
	key.val.string.len = strlen(name);
	(void) pushJsonbValue(&builder->state, WJB_KEY, &key);
	(void) pushJsonbValue(&builder->state, WJB_VALUE, value);
}

static void
put_null(JsonBuilder *builder, const char *name)
{
	put(builder, name, &(JsonbValue){.type = jbvNull});
}

void
json_put_text(JsonBuilder *builder, const char *name, const char *text)
{
	JsonbValue value = {.type = jbvString};

	if (text == NULL)
	{
		put_null(builder, name);
		return;
	}
	value.val.string.val = (char *) text;
	value.val.string.len = strlen(text);
	put(builder, name, &value);
}

void
json_put_numeric(JsonBuilder *builder, const char *name, Numeric number)
{
	JsonbValue value = {.type = jbvNumeric};

	if (number == NULL)
	{
		put_null(builder, name);
		return;
	}
	value.val.numeric = number;
	put(builder, name, &value);
}

void
json_put_int64(JsonBuilder *builder, const char *name, int64 number)
{
	json_put_numeric(builder, name, int64_to_numeric(number));
}

void
json_put_bool(JsonBuilder *builder, const char *name, bool boolean)
{
	JsonbValue value = {.type = jbvBool};

	value.val.boolean = boolean;
	put(builder, name, &value);
}

void
json_put_jsonb(JsonBuilder *builder, const char *name, const Jsonb *document)
{
	JsonbValue value;

	if (document == NULL)
	{
		put_null(builder, name);
		return;
	}
	if (JB_ROOT_IS_SCALAR(document))
		(void) JsonbExtractScalar((JsonbContainer *) &document->root, &value);
	else
		JsonbToJsonbValue((Jsonb *) document, &value);
	put(builder, name, &value);
}

void
json_put_time(JsonBuilder *builder, const char *name, TimestampTz time)
{
	char text[MAXDATELEN + 1];
	int utc = 0;

	(void) JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	json_put_text(builder, name, pstrdup(text));
}

Jsonb *
json_end(JsonBuilder *builder)
{
	return JsonbValueToJsonb(pushJsonbValue(&builder->state, WJB_END_OBJECT, NULL));
}

Jsonb *
json_array(Jsonb *const *elements, int count)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
	{
		JsonbValue value;

		JsonbToJsonbValue(elements[i], &value);
		(void) pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

Jsonb *
json_numeric_array(const Numeric *elements, int count)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
	{
		JsonbValue value = {.type = jbvNumeric};

		value.val.numeric = elements[i];
		(void) pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/*
 * RFC 7396, section 2.  A patch that is no object replaces; members that are null
 * remove; objects are merged member by member.
 */
Jsonb *
json_merge_patch(const Jsonb *target, const Jsonb *patch)
{
	JsonBuilder builder;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;

	if (!JB_ROOT_IS_OBJECT(patch))
		return (Jsonb *) patch;

	json_begin(&builder);
	if (target != NULL && JB_ROOT_IS_OBJECT(target))
	{
		it = JsonbIteratorInit((JsonbContainer *) &target->root);
		while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
		{
			JsonbValue value;
			JsonbValue found;

			if (token != WJB_KEY)
				continue;
			(void) JsonbIteratorNext(&it, &value, true);
			if (getKeyJsonValueFromContainer((JsonbContainer *) &patch->root, key.val.string.val,
											 key.val.string.len, &found) == NULL)
				put(&builder, pnstrdup(key.val.string.val, key.val.string.len), &value);
		}
	}
	it = JsonbIteratorInit((JsonbContainer *) &patch->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue value;
		char *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvNull)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		json_put_jsonb(&builder, name,
					   json_merge_patch(json_member(target, name), JsonbValueToJsonb(&value)));
	}
	return json_end(&builder);
}
