/*
 * core/json.h
 *		Reading jsonb documents: typed look-ups and validation driven by tables.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

typedef enum JsonType
{
	JSON_TEXT,
	JSON_NUMBER, /* finite by nature */
	JSON_INTEGER,
	JSON_BOOLEAN,
	JSON_OBJECT, /* of "members"; any members where that is NULL */
	JSON_ARRAY,  /* each element as "element" says; anything where that is NULL */
	JSON_ANY
} JsonType;

/* What a value must be.  A table of members ends with a row whose name is NULL. */
typedef struct JsonRule
{
	const char *name; /* of the member; ignored for an element */
	JsonType type;
	bool is_required;
	bool is_nullable;           /* a JSON null is as good as absent */
	const char *const *choices; /* of a text; NULL-terminated */
	const char *minimum;        /* of a number, as a decimal; NULL for none */
	const char *maximum;
	int max_length; /* of a text in characters or an array in elements; 0 for no limit */
	const struct JsonRule *members;
	const struct JsonRule *element;
	/* A last word on the value: NULL if it is right, else what is expected ("a DNS name"). */
	const char *(*check)(JsonbValue *value);
} JsonRule;

/*
 * Raise 22023 naming the path of the first fault, as in
 * 'invalid plan: "pricing.tiers[2].up_to" must be a number'.  "what" names the
 * document.  Unknown members are faults and are named, with those that exist.
 */
extern void json_validate(const Jsonb *document, const JsonRule *members, const char *what);

/* For "check": an object whose members are all true or false, or all numbers. */
extern const char *json_check_booleans(JsonbValue *value);
extern const char *json_check_numbers(JsonbValue *value);

/* For "check" of a text: a currency. */
extern const char *json_check_currency(JsonbValue *value);

/* Members of an object; NULL or the default where absent or null.  Copies in the caller's context.
 */
extern char *json_text(const Jsonb *object, const char *name);
extern Numeric json_numeric(const Jsonb *object, const char *name);
extern bool json_bool(const Jsonb *object, const char *name, bool when_absent);
extern int32 json_int32(const Jsonb *object, const char *name, int32 when_absent);
extern Jsonb *json_member(const Jsonb *object, const char *name); /* object, array or scalar */

/* Is there such a member, be it null? */
extern bool json_has(const Jsonb *object, const char *name);

/* The names of the members; none for NULL. */
extern char **json_member_names(const Jsonb *object, int *count);

/* Is there a value, and is it an array? */
extern bool json_is_array(const Jsonb *value);

/* Elements of an array; none of anything else. */
extern int json_element_count(const Jsonb *array);
extern Jsonb *json_element(const Jsonb *array, int index);
extern char *json_element_text(const Jsonb *array, int index);      /* NULL where it is no text */
extern Numeric json_element_numeric(const Jsonb *array, int index); /* or no number */

/* RFC 7396 JSON merge patch: null removes. */
extern Jsonb *json_merge_patch(const Jsonb *target, const Jsonb *patch);

extern Jsonb *json_parse(const char *text);
extern Jsonb *json_empty_object(void);

/* Building an object: json_begin, then json_put_*, then json_end. */
typedef struct JsonBuilder
{
	JsonbParseState *state;
} JsonBuilder;

extern void json_begin(JsonBuilder *builder);
extern void json_put_text(JsonBuilder *builder, const char *name,
						  const char *value); /* NULL: null */
extern void json_put_numeric(JsonBuilder *builder, const char *name, Numeric value);
extern void json_put_int64(JsonBuilder *builder, const char *name, int64 value);
extern void json_put_bool(JsonBuilder *builder, const char *name, bool value);
extern void json_put_jsonb(JsonBuilder *builder, const char *name, const Jsonb *value);
extern void json_put_time(JsonBuilder *builder, const char *name, TimestampTz time); /* ISO 8601 */
extern Jsonb *json_end(JsonBuilder *builder);

/* Arrays of what is there already. */
extern Jsonb *json_array(Jsonb *const *elements, int count);
extern Jsonb *json_numeric_array(const Numeric *elements, int count);
