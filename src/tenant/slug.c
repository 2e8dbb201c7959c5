/*
 * tenant/slug.c
 *		What may be a slug: a DNS label (RFC 1123, 2.1) that is not reserved.
 */
#include "postgres.h"

#include "core/id.h"
#include "core/settings.h"
#include "tenant/tenant.h"

#include <ctype.h>

#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

/* RFC 1035, 2.3.4. */
#define SLUG_MAX_LENGTH 63

static bool
is_label_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static const char *
fault_of(const char *slug)
{
	size_t length = strlen(slug);

	if (length == 0)
		return "It is empty.";
	if (length > SLUG_MAX_LENGTH)
		return "It is longer than 63 characters.";
	for (const char *c = slug; *c; c++)
	{
		if (*c >= 'A' && *c <= 'Z')
			return "It has upper-case letters.";
		if (!is_label_character(*c))
			return "It has characters other than lower-case letters, digits and hyphens.";
	}
	if (slug[0] == '-' || slug[length - 1] == '-')
		return "It begins or ends with a hyphen.";
	if (strncmp(slug, "xn--", 4) == 0)
		return "It is in the encoded form of an international domain name.";
	if (id_is_shaped(slug))
		return "It has the shape of a uuid.";
	return NULL;
}

static bool
is_reserved(const char *slug)
{
	List *names;
	ListCell *cell;
	bool found = false;

	if (!SplitIdentifierString(pstrdup(setting_reserved_slugs), ',', &names))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid list in setting \"tenancy.reserved_slugs\""));
	foreach (cell, names)
		found = found || strcmp(lfirst(cell), slug) == 0;
	return found;
}

void
slug_validate(const char *slug)
{
	const char *fault = fault_of(slug);

	if (fault != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid slug \"%s\"", slug), errdetail_internal("%s", fault),
				errhint("A slug is a DNS label: 1 to 63 lower-case letters, digits and hyphens."));
	if (is_reserved(slug))
		ereport(ERROR, errcode(ERRCODE_RESERVED_NAME), errmsg("slug \"%s\" is reserved", slug),
				errhint("The setting \"tenancy.reserved_slugs\" lists the names that tenants "
						"may not have."));
}
