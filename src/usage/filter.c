/*
 * usage/filter.c
 *		Which events count for a metric, and how they are told apart: by their properties.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/money.h"
#include "usage/filter.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#define MOST_PROPERTIES 20
#define MOST_VALUES 1000

typedef enum Comparison
{
	COMPARE_EQUAL,
	COMPARE_OTHER,
	COMPARE_LESS,
	COMPARE_AT_MOST,
	COMPARE_MORE,
	COMPARE_AT_LEAST
} Comparison;

static const struct
{
	const char *name;
	Comparison comparison;
	bool is_of_order;
} comparisons[] = {
	{"=", COMPARE_EQUAL, false},   {"<>", COMPARE_OTHER, false}, {"<", COMPARE_LESS, true},
	{"<=", COMPARE_AT_MOST, true}, {">", COMPARE_MORE, true},    {">=", COMPARE_AT_LEAST, true},
};

/* The place in the table; -1 for none of that name. */
static int
find_comparison(const JsonbValue *key)
{
	for (int i = 0; i < lengthof(comparisons); i++)
		if (strlen(comparisons[i].name) == key->val.string.len &&
			memcmp(comparisons[i].name, key->val.string.val, key->val.string.len) == 0)
			return i;
	return -1;
}

static void
fault(const char *path, const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid filters: \"%s\" must be %s", path, expected));
}

static char *
key_text(const JsonbValue *key)
{
	return pnstrdup(key->val.string.val, key->val.string.len);
}

static void
validate_list(JsonbContainer *list, const char *path)
{
	JsonbIterator *it = JsonbIteratorInit(list);
	JsonbIteratorToken token;
	JsonbValue value;
	int count = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type == jbvBinary)
			fault(psprintf("%s[%d]", path, count), "a text, a number, true, false or null");
		count++;
	}
	if (count == 0 || count > MOST_VALUES)
		fault(path, psprintf("a list of 1 to %d values", MOST_VALUES));
}

static void
validate_comparisons(JsonbContainer *object, const char *path)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue key;
	int count = 0;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue value;
		char *place;
		int found;

		if (token != WJB_KEY)
			continue;
		place = psprintf("%s.%s", path, key_text(&key));
		found = find_comparison(&key);
		(void) JsonbIteratorNext(&it, &value, true);
		if (found < 0)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid filters: \"%s\" is no comparison", place),
					errhint("Possible: \"=\", \"<>\", \"<\", \"<=\", \">\", \">=\"."));
		if (comparisons[found].is_of_order && value.type != jbvNumeric && value.type != jbvString)
			fault(place, "a number or a text");
		if (value.type == jbvBinary)
			fault(place, "a text, a number, true, false or null");
		count++;
	}
	if (count == 0)
		fault(path, "at least one comparison");
}

void
filter_validate(const Jsonb *filters)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	int count = 0;

	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"filters\" must be a JSON object"));
	it = JsonbIteratorInit(unconstify(JsonbContainer *, &filters->root));
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue value;
		char *path;

		if (token != WJB_KEY)
			continue;
		path = key_text(&key);
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data))
			validate_list(value.val.binary.data, path);
		else if (value.type == jbvBinary)
			validate_comparisons(value.val.binary.data, path);
		count++;
	}
	if (count == 0 || count > MOST_PROPERTIES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"filters\" must have 1 to %d members", MOST_PROPERTIES));
}

static bool
is_equal(const JsonbValue *a, const JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvNumeric:
			return numeric_compare(a->val.numeric, b->val.numeric) == 0;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				   memcmp(a->val.string.val, b->val.string.val, a->val.string.len) == 0;
		case jbvArray:
		case jbvObject:
		case jbvBinary:
		case jbvDatetime:
			return false;
	}
	return false;
}

/* Of two numbers or two texts; false for anything else, which has no order. */
static bool
find_order(const JsonbValue *a, const JsonbValue *b, int *order)
{
	if (a->type == jbvNumeric && b->type == jbvNumeric)
		*order = numeric_compare(a->val.numeric, b->val.numeric);
	else if (a->type == jbvString && b->type == jbvString)
	{
		*order =
			memcmp(a->val.string.val, b->val.string.val, Min(a->val.string.len, b->val.string.len));
		if (*order == 0)
			*order = a->val.string.len - b->val.string.len;
	}
	else
		return false;
	return true;
}

static bool
holds(Comparison comparison, const JsonbValue *property, const JsonbValue *operand)
{
	int order;

	switch (comparison)
	{
		case COMPARE_EQUAL:
			return is_equal(property, operand);
		case COMPARE_OTHER:
			return !is_equal(property, operand);
		case COMPARE_LESS:
			return find_order(property, operand, &order) && order < 0;
		case COMPARE_AT_MOST:
			return find_order(property, operand, &order) && order <= 0;
		case COMPARE_MORE:
			return find_order(property, operand, &order) && order > 0;
		case COMPARE_AT_LEAST:
			return find_order(property, operand, &order) && order >= 0;
	}
	return false;
}

static bool
is_in_list(JsonbContainer *list, const JsonbValue *property)
{
	JsonbIterator *it = JsonbIteratorInit(list);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && is_equal(property, &value))
			return true;
	}
	return false;
}

static bool
all_hold(JsonbContainer *object, const JsonbValue *property)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue key;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue operand;
		int found;

		if (token != WJB_KEY)
			continue;
		found = find_comparison(&key);
		(void) JsonbIteratorNext(&it, &operand, true);
		if (found < 0 || !holds(comparisons[found].comparison, property, &operand))
			return false;
	}
	return true;
}

static bool
fits(const JsonbValue *filter, const JsonbValue *property)
{
	if (filter->type != jbvBinary)
		return is_equal(property, filter);
	if (JsonContainerIsArray(filter->val.binary.data))
		return is_in_list(filter->val.binary.data, property);
	return all_hold(filter->val.binary.data, property);
}

bool
filter_matches(const Jsonb *filters, const Jsonb *properties)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;

	if (filters == NULL)
		return true;
	it = JsonbIteratorInit(unconstify(JsonbContainer *, &filters->root));
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue filter;
		JsonbValue *property;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &filter, true);
		property = getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &properties->root),
												key.val.string.val, key.val.string.len, NULL);
		if (property == NULL || !fits(&filter, property))
			return false;
	}
	return true;
}

char *
property_text(const Jsonb *properties, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(
		unconstify(JsonbContainer *, &properties->root), name, strlen(name), NULL);

	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvNumeric:
			return numeric_text(value->val.numeric);
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvBinary:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		case jbvArray:
		case jbvObject:
		case jbvDatetime:
			break;
	}
	elog(ERROR, "a member of a jsonb value has type %d", value->type);
}

ArrayType *
group_values(const Jsonb *properties, ArrayType *group_by)
{
	Datum *names;
	Datum *values;
	bool *nulls;
	int count;
	int lower = 1;

	deconstruct_array(group_by, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
	if (count == 0)
		return construct_empty_array(TEXTOID);
	values = palloc(sizeof(Datum) * count);
	for (int i = 0; i < count; i++)
	{
		char *value = property_text(properties, TextDatumGetCString(names[i]));

		nulls[i] = value == NULL;
		values[i] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
	}
	return construct_md_array(values, nulls, 1, &count, &lower, TEXTOID, -1, false, TYPALIGN_INT);
}

/* tenancy.usage_matches(properties jsonb, filters jsonb) → boolean */
TENANCY_FUNCTION(usage_matches)
{
	PG_RETURN_BOOL(filter_matches(PG_GETARG_JSONB_P(1), PG_GETARG_JSONB_P(0)));
}

/* tenancy.usage_group(properties jsonb, group_by text[]) → text[] */
TENANCY_FUNCTION(usage_group)
{
	PG_RETURN_ARRAYTYPE_P(group_values(PG_GETARG_JSONB_P(0), PG_GETARG_ARRAYTYPE_P(1)));
}
