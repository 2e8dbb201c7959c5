/*
 * core/hostname.c
 *		Host names: letters, digits and hyphens in labels, no address and no wildcard.
 */
#include "postgres.h"

#include "core/hostname.h"
#include "core/settings.h"

/* RFC 1035, 2.3.4. */
#define LABEL_LENGTH 63

static const char *
label_fault(const char *label, size_t length)
{
	if (length == 0)
		return "It has an empty label.";
	if (length > LABEL_LENGTH)
		return "It has a label of more than 63 characters.";
	if (label[0] == '-' || label[length - 1] == '-')
		return "It has a label that begins or ends with a hyphen.";
	for (size_t i = 0; i < length; i++)
	{
		if (label[i] == '*')
			return "It is a wildcard.";
		if (IS_HIGHBIT_SET(label[i]))
			return "It has characters other than letters, digits and hyphens; international "
				   "names are given in their encoded form, which begins with xn--.";
		if (!((label[i] >= 'a' && label[i] <= 'z') || (label[i] >= '0' && label[i] <= '9') ||
			  label[i] == '-'))
			return "It has characters other than letters, digits and hyphens.";
	}
	return NULL;
}

const char *
hostname_read(const char *text, size_t length, char *name)
{
	size_t begin = 0;

	if (length > 0 && text[length - 1] == '.')
		length--;
	if (length == 0)
		return "It is empty.";
	if (length > HOSTNAME_LENGTH)
		return "It is longer than 253 characters.";
	for (size_t i = 0; i < length; i++)
		name[i] = text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i];
	name[length] = '\0';

	for (size_t i = 0; i <= length; i++)
	{
		const char *fault;

		if (i < length && name[i] != '.')
			continue;
		fault = label_fault(name + begin, i - begin);
		if (fault != NULL)
			return fault;
		if (i < length)
			begin = i + 1;
	}
	if (begin == 0)
		return "It has one label alone.";
	/* No top-level domain is (RFC 3696, 2), and so no IPv4 address is a name. */
	if (strspn(name + begin, "0123456789") == length - begin)
		return "Its last label is a number.";
	return NULL;
}

bool
hostname_is_below(const char *name, const char *suffix)
{
	size_t name_length = strlen(name);
	size_t suffix_length = strlen(suffix);

	return name_length >= suffix_length &&
		   strcmp(name + name_length - suffix_length, suffix) == 0 &&
		   (name_length == suffix_length || name[name_length - suffix_length - 1] == '.');
}

/* The next name of a list, without what surrounds it; false at its end. */
static bool
next_name(const char **list, const char **name, size_t *length)
{
	*name = *list + strspn(*list, ", \t\n");
	*length = strcspn(*name, ", \t\n");
	*list = *name + *length;
	return *length > 0;
}

bool
hostname_is_reserved(const char *name)
{
	const char *list = setting_reserved_domains;
	char suffix[HOSTNAME_LENGTH + 1];
	const char *word;
	size_t length;

	while (next_name(&list, &word, &length))
	{
		memcpy(suffix, word, length);
		suffix[length] = '\0';
		if (hostname_is_below(name, suffix))
			return true;
	}
	return false;
}

bool
hostname_check_base(char **value, void **extra, GucSource source)
{
	char name[HOSTNAME_LENGTH + 1];
	const char *fault;

	if (**value == '\0')
		return true;
	fault = hostname_read(*value, strlen(*value), name);
	if (fault == NULL && strcmp(name, *value) == 0)
		return true;
	GUC_check_errdetail("%s", fault != NULL ? fault
											: "It must be in lower case and without a dot at its "
											  "end.");
	return false;
}

/* A label alone may be reserved, too. */
bool
hostname_check_reserved(char **value, void **extra, GucSource source)
{
	const char *list = *value;
	const char *word;
	size_t length;

	while (next_name(&list, &word, &length))
	{
		for (size_t i = 0; i < length; i++)
		{
			if (length <= HOSTNAME_LENGTH &&
				((word[i] >= 'a' && word[i] <= 'z') || (word[i] >= '0' && word[i] <= '9') ||
				 word[i] == '-' || word[i] == '.'))
				continue;
			GUC_check_errdetail("It is a list of host names in lower case, such as \"local, "
								"example.com\".");
			return false;
		}
	}
	return true;
}
