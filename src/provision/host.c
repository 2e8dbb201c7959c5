/*
 * provision/host.c
 *		Whose a host name is, and which addresses may be named.
 *
 * Requests come from whoever signs up, passed on by the operator's application: a name is the
 * tenant's only where it is proven, or where the platform's domain gives it to its slug.
 */
#include "postgres.h"

#include "core/hostname.h"
#include "core/id.h"
#include "core/settings.h"
#include "domain/domain.h"
#include "provision/provision.h"

HostOwner
host_owner(const TenantEntry *tenant, const char *name)
{
	const char *base = setting_base_domain;
	const pg_uuid_t *owner = domain_owner(name);

	if (owner != NULL && !id_equal(owner, &tenant->id))
		return HOST_OF_ANOTHER;
	if (*base != '\0' && hostname_is_below(name, base))
		return hostname_is_below(name, psprintf("%s.%s", tenant->slug, base)) ? HOST_OWN
																			  : HOST_OF_ANOTHER;
	return owner != NULL ? HOST_OWN : HOST_OF_NOBODY;
}

Jsonb *
host_list(const Jsonb *hosts)
{
	int count = json_element_count(hosts);
	Jsonb **names = palloc(sizeof(Jsonb *) * (count + 1));

	for (int i = 0; i < count; i++)
	{
		char *text = json_element_text(hosts, i);
		char name[HOSTNAME_LENGTH + 1];

		(void) hostname_read(text, strlen(text), name);
		names[i] = json_parse(psprintf("\"%s\"", name));
	}
	return json_array(names, count);
}

char *
host_not_own(const TenantEntry *tenant, const Jsonb *hosts, HostOwner *owner)
{
	for (int i = 0; i < json_element_count(hosts); i++)
	{
		char *name = json_element_text(hosts, i);

		*owner = host_owner(tenant, name);
		if (*owner != HOST_OWN)
			return name;
	}
	return NULL;
}

bool
upstream_is_allowed(const char *address)
{
	const char *list = setting_upstreams;
	size_t length;

	for (;;)
	{
		list += strspn(list, ", \t\n");
		length = strcspn(list, ", \t\n");
		if (length == 0)
			return false;
		if (length == strlen(address) && pg_strncasecmp(list, address, length) == 0)
			return true;
		list += length;
	}
}
