/*
 * tenant/retarget.c
 *		Re-targeting the text of functions from a template's schema.
 *
 * Everything else is deparsed by the server from its catalogs; the body of a function
 * is text, so it is read with the server's own scanner.  Re-targeted are: the schema's
 * name before a dot, a literal that is nothing but the qualified name of an object
 * ('portal.entity_id_seq'), and the elements of a search_path.  What a literal only
 * mentions is left alone, with a warning.
 */
#include "postgres.h"

#include "tenant/template_capture.h"

#include "parser/scanner.h"
#include "common/keywords.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

/* Codes of the core scanner, fixed by the order of its tokens as PL/pgSQL relies on too. */
enum
{
	TOKEN_IDENT = 258,
	TOKEN_SCONST = 261
};

typedef struct Token
{
	int code;
	int start;
	int end;
	char *text; /* of an identifier, keyword or literal; NULL else */
} Token;

char *
replace_all(const char *text, const char *from, const char *to)
{
	StringInfoData result;
	size_t length = strlen(from);
	const char *found;

	initStringInfo(&result);
	while ((found = strstr(text, from)) != NULL)
	{
		appendBinaryStringInfo(&result, text, found - text);
		appendStringInfoString(&result, to);
		text = found + length;
	}
	appendStringInfoString(&result, text);
	return result.data;
}

static bool
starts_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static Token *
scan(const char *text, int *count)
{
	core_yy_extra_type extra;
	core_yyscan_t scanner = scanner_init(text, &extra, &ScanKeywords, ScanKeywordTokens);
	int capacity = 64;
	Token *tokens = palloc(capacity * sizeof(Token));
	int n = 0;

	for (;;)
	{
		core_YYSTYPE value;
		YYLTYPE location;
		int code = core_yylex(&value, &location, scanner);

		if (n > 0)
		{
			int end = code == 0 ? (int) strlen(text) : location;

			while (end > tokens[n - 1].start && isspace((unsigned char) text[end - 1]))
				end--;
			tokens[n - 1].end = end;
		}
		if (code == 0)
			break;
		if (n == capacity)
			tokens = repalloc(tokens, (capacity *= 2) * sizeof(Token));
		tokens[n].code = code;
		tokens[n].start = location;
		tokens[n].text = NULL;
		if (code == TOKEN_IDENT || code == TOKEN_SCONST)
			tokens[n].text = pstrdup(value.str);
		else if (starts_word(text[location]))
			tokens[n].text = pstrdup(value.keyword);
		n++;
	}
	scanner_finish(scanner);
	*count = n;
	return tokens;
}

static bool
is_name(const Token *token, const char *name)
{
	return token->code != TOKEN_SCONST && token->text != NULL && strcmp(token->text, name) == 0;
}

/* Does a literal hold the qualified name of one object of the schema, and nothing more? */
static bool
is_qualified_name(const char *literal, const char *prefix)
{
	size_t length = strlen(prefix);

	if (strncmp(literal, prefix, length) != 0 || literal[length] != '.')
		return false;
	for (literal += length + 1; *literal; literal++)
	{
		if (!starts_word(*literal) && !isdigit((unsigned char) *literal) &&
			strchr("$\"", *literal) == NULL)
			return false;
	}
	return true;
}

static bool
is_among(List *names, const Token *token)
{
	ListCell *cell;

	foreach (cell, names)
	{
		if (token->text != NULL && strcmp(lfirst(cell), token->text) == 0)
			return true;
	}
	return false;
}

char *
retarget_body(const char *body, const char *schema, const char *function, List *objects)
{
	const char *quoted = quote_identifier(schema);
	int count;
	Token *tokens = scan(body, &count);
	StringInfoData result;
	int copied = 0;
	bool in_path = false;

	initStringInfo(&result);
	for (int i = 0; i < count; i++)
	{
		const Token *token = &tokens[i];
		const char *replacement = NULL;

		/* "search_path TO a, b" or "search_path = a": a list of names and literals. */
		if (i >= 2 && is_name(&tokens[i - 2], "search_path") &&
			(tokens[i - 1].code == '=' || is_name(&tokens[i - 1], "to")))
			in_path = true;
		else if (in_path && token->code != ',' && tokens[i - 1].code != ',')
			in_path = false;

		if (in_path && token->text != NULL && strcmp(token->text, schema) == 0)
			replacement =
				token->code == TOKEN_SCONST ? "'" PLACEHOLDER_SCHEMA "'" : PLACEHOLDER_SCHEMA;
		else if (is_name(token, schema) && i + 2 < count && tokens[i + 1].code == '.' &&
				 (objects == NIL || is_among(objects, &tokens[i + 2])))
			replacement = PLACEHOLDER_SCHEMA;
		else if (token->code == TOKEN_SCONST && is_qualified_name(token->text, quoted))
			replacement = quote_literal_cstr(
				psprintf("%s%s", PLACEHOLDER_SCHEMA, token->text + strlen(quoted)));
		else if (token->code == TOKEN_SCONST && strstr(token->text, psprintf("%s.", quoted)))
			ereport(WARNING,
					errmsg("function \"%s\" mentions schema \"%s\" in a literal", function, schema),
					errdetail("The literal stays as it is in every tenant."),
					errhint("Leave the schema out: a tenant's own comes first in its "
							"search_path."));

		if (replacement != NULL)
		{
			appendBinaryStringInfo(&result, body + copied, token->start - copied);
			appendStringInfoString(&result, replacement);
			copied = token->end;
		}
	}
	appendStringInfoString(&result, body + copied);
	return result.data;
}

/* The clause as pg_get_functiondef() prints it: SET search_path TO 'a', 'b' on a line. */
char *
retarget_search_path(const char *header, const char *schema)
{
	const char *start = strstr(header, "\n SET search_path TO ");
	const char *end;
	char *clause;

	if (start == NULL)
		return pstrdup(header);
	end = strchr(start + 1, '\n');
	if (end == NULL)
		end = header + strlen(header);
	clause = replace_all(pnstrdup(start, end - start), quote_literal_cstr(schema),
						 "'" PLACEHOLDER_SCHEMA "'");
	return psprintf("%s%s%s", pnstrdup(header, start - header), clause, end);
}
