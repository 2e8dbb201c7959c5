/*
 * provision/component.c
 *		The parts that can be provisioned: what may be asked for, what is done in the database,
 *		and what the command is given.
 *
 * Commands get everything that they need to do, check and undo, and look nothing up.  How the
 * servers around the database are reached stands in the command file alone.
 */
#include "postgres.h"

#include "catalog/own_call.h"
#include "core/hostname.h"
#include "core/id.h"
#include "core/settings.h"
#include "provision/backups.h"
#include "provision/provision.h"

#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include <arpa/inet.h>

#define DEFAULT_TTL 300

GATE_STATEMENT(component_allocation,
			   "SELECT a.id FROM tenancy.allocation a"
			   " WHERE a.tenant_id = $1 AND a.state = 'active'",
			   UUIDOID);

GATE_STATEMENT(scrape_target_exists,
			   "SELECT FROM tenancy.scrape_target s WHERE s.tenant_id = $1 AND s.target = $2",
			   UUIDOID, TEXTOID);

static char *
text_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static const char *
check_host(JsonbValue *value)
{
	char name[HOSTNAME_LENGTH + 1];

	return hostname_read(value->val.string.val, value->val.string.len, name) == NULL
			   ? NULL
			   : "a host name";
}

/* host:port, where the host is a name or an IPv4 address, or an IPv6 address in brackets. */
static const char *
check_upstream(JsonbValue *value)
{
	char *text = text_of(value);
	char *colon = strrchr(text, ':');
	size_t length = colon == NULL ? 0 : colon - text;
	char *port = colon == NULL ? "" : colon + 1;

	if (length == 0 || strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
									"0123456789.-:[]") < length)
		return "a host and a port, as in \"app.internal:8080\"";
	if (*port == '\0' || strlen(port) > 5 || strspn(port, "0123456789") != strlen(port))
		return "a host and a port, as in \"app.internal:8080\"";
	return upstream_is_allowed(text) ? NULL : "an address of the setting tenancy.upstreams";
}

static const char *
check_address(JsonbValue *value)
{
	char *text = text_of(value);
	struct in6_addr bits;

	return inet_pton(AF_INET, text, &bits) == 1 || inet_pton(AF_INET6, text, &bits) == 1
			   ? NULL
			   : "an IP address";
}

/* The name of a directory of migrations: no path. */
static const char *
check_bundle(JsonbValue *value)
{
	char *text = text_of(value);

	return *text != '\0' && *text != '.' && *text != '-' &&
				   strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
								"0123456789._-") == strlen(text)
			   ? NULL
			   : "a name of letters, digits, dots, dashes and underscores";
}

static const JsonRule infrastructure_members[] = {
	{.name = "allocation", .type = JSON_OBJECT},
	{.name = "pooled", .type = JSON_BOOLEAN},
	{.name = "pool_size", .type = JSON_INTEGER, .minimum = "1", .maximum = "10000"},
	{.name = "max_connections", .type = JSON_INTEGER, .minimum = "1", .maximum = "100000"},
	{.name = "tablespace", .type = JSON_BOOLEAN},
	{0},
};

static const JsonRule database_members[] = {
	{.name = "own", .type = JSON_BOOLEAN},
	{0},
};

static const JsonRule host_rule = {.type = JSON_TEXT, .check = check_host};
static const JsonRule application_members[] = {
	{.name = "hosts", .type = JSON_ARRAY, .element = &host_rule, .max_length = 100},
	{.name = "upstream", .type = JSON_TEXT, .max_length = 300, .check = check_upstream},
	{.name = "bundle", .type = JSON_TEXT, .max_length = 100, .check = check_bundle},
	{0},
};

static const JsonRule address_rule = {.type = JSON_TEXT, .check = check_address};
static const JsonRule dns_members[] = {
	{.name = "domain", .type = JSON_TEXT, .check = check_host},
	{.name = "addresses", .type = JSON_ARRAY, .element = &address_rule, .max_length = 20},
	{.name = "target", .type = JSON_TEXT, .check = check_host},
	{.name = "ttl", .type = JSON_INTEGER, .minimum = "1", .maximum = "604800"},
	{0},
};

static const char *const methods[] = {"on-demand", "dns-01", NULL};
static const JsonRule ssl_members[] = {
	{.name = "domain", .type = JSON_TEXT, .check = check_host},
	{.name = "method", .type = JSON_TEXT, .choices = methods},
	{0},
};

static const JsonRule monitoring_members[] = {
	{.name = "target", .type = JSON_TEXT, .max_length = 300, .check = check_upstream},
	{.name = "path", .type = JSON_TEXT, .max_length = 200},
	{0},
};

static void
begin_input(JsonBuilder *input, const ProvisionRequest *request)
{
	json_begin(input);
	json_put_text(input, "tenant", id_text(&request->tenant->id));
	json_put_text(input, "slug", request->tenant->slug);
}

static void
put_integer(JsonBuilder *input, const Jsonb *spec, const char *name)
{
	if (json_numeric(spec, name) != NULL)
		json_put_numeric(input, name, json_numeric(spec, name));
}

char *
component_domain(const TenantEntry *tenant, const Jsonb *spec)
{
	char *domain = json_text(spec, "domain");
	char *name = palloc(HOSTNAME_LENGTH + 1);

	if (domain == NULL && *setting_base_domain != '\0')
		domain = psprintf("%s.%s", tenant->slug, setting_base_domain);
	if (domain == NULL || hostname_read(domain, strlen(domain), name) != NULL)
		return NULL;
	return name;
}

/* An allocation that was there before is changed, and stays. */
static void
allocate(ProvisionRequest *request, const Jsonb *allocation)
{
	const pg_uuid_t *tenant = &request->tenant->id;
	Oid types[] = {UUIDOID, JSONBOID};
	NullableDatum arguments[] = {gate_uuid(tenant), gate_jsonb(allocation)};
	GateRows *rows = gate_run(&component_allocation, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	JsonBuilder holdings;

	if (rows->count == 1)
	{
		(void) own_call_run("resource_scale", "id", lengthof(types), types, arguments);
		return;
	}
	rows = own_call_run("resource_allocate", "id", lengthof(types), types, arguments);
	json_begin(&holdings);
	json_put_text(&holdings, "allocation", id_text(row_uuid(rows, 0, 0)));
	request->holdings = json_end(&holdings);
}

static Jsonb *
prepare_infrastructure(ProvisionRequest *request)
{
	bool is_pooled = json_bool(request->spec, "pooled", true);
	bool has_tablespace = json_bool(request->spec, "tablespace", false);
	JsonBuilder input;

	if (json_member(request->spec, "allocation") != NULL)
		allocate(request, json_member(request->spec, "allocation"));
	request->evidence = request->holdings;
	if (!is_pooled && !has_tablespace)
		return NULL;
	begin_input(&input, request);
	json_put_text(&input, "database", get_database_name(MyDatabaseId));
	json_put_text(&input, "role", request->tenant->role);
	json_put_text(&input, "owner", request->tenant->owner);
	json_put_bool(&input, "pooled", is_pooled);
	put_integer(&input, request->spec, "pool_size");
	put_integer(&input, request->spec, "max_connections");
	json_put_bool(&input, "tablespace", has_tablespace);
	return json_end(&input);
}

static void
release_infrastructure(const Provision *row)
{
	char *allocation = json_text(row->holdings, "allocation");
	GateRows *rows = gate_run(&component_allocation, EXPECT_AT_MOST_ONE, gate_uuid(&row->tenant));

	if (allocation == NULL || rows->count == 0 ||
		!id_equal(row_uuid(rows, 0, 0), id_parse(allocation)))
		return;
	(void) own_call_run(
		"resource_deallocate", "id", 2, (Oid[]){UUIDOID, UUIDOID},
		(NullableDatum[]){gate_uuid(&row->tenant), gate_uuid(id_parse(allocation))});
}

/* tenant_create() has made schema and role: they are looked at.  A database is the command's. */
static Jsonb *
prepare_database(ProvisionRequest *request)
{
	const TenantEntry *tenant = request->tenant;
	JsonBuilder evidence;
	JsonBuilder input;

	if (tenant->schema != NULL && !OidIsValid(get_namespace_oid(tenant->schema, true)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_SCHEMA),
				errmsg("schema \"%s\" does not exist", tenant->schema));
	json_begin(&evidence);
	json_put_text(&evidence, "database", get_database_name(MyDatabaseId));
	json_put_text(&evidence, "schema", tenant->schema);
	json_put_text(&evidence, "role", tenant->role);
	request->evidence = json_end(&evidence);
	if (!json_bool(request->spec, "own", false))
		return NULL;
	begin_input(&input, request);
	json_put_text(&input, "database", tenant->role);
	json_put_text(&input, "role", tenant->role);
	json_put_text(&input, "owner", tenant->owner);
	return json_end(&input);
}

static void
require_own_hosts(const ProvisionRequest *request, const Jsonb *hosts)
{
	HostOwner owner;
	char *name = host_not_own(request->tenant, hosts, &owner);

	if (name == NULL)
		return;
	if (owner == HOST_OF_ANOTHER)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("host \"%s\" is another tenant's", name));
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("host \"%s\" is not proven to be the tenant's", name),
			errhint("tenant_domain_add() and tenant_domain_verify() do that."));
}

static Jsonb *
prepare_application(ProvisionRequest *request)
{
	Jsonb *hosts = json_member(request->spec, "hosts");
	char *domain = component_domain(request->tenant, NULL);
	JsonBuilder input;

	if (json_element_count(hosts) == 0 && domain == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an application needs \"hosts\""),
				errhint("Or set tenancy.base_domain, below which each tenant has its slug."));
	begin_input(&input, request);
	json_put_text(&input, "database", get_database_name(MyDatabaseId));
	json_put_text(&input, "schema", request->tenant->schema);
	json_put_text(&input, "owner", request->tenant->owner);
	json_put_text(&input, "role", request->tenant->role);
	hosts =
		json_element_count(hosts) > 0 ? host_list(hosts) : json_parse(psprintf("[\"%s\"]", domain));
	require_own_hosts(request, hosts);
	json_put_jsonb(&input, "hosts", hosts);
	json_put_text(&input, "upstream", json_text(request->spec, "upstream"));
	json_put_text(&input, "bundle", json_text(request->spec, "bundle"));
	return json_end(&input);
}

static Jsonb *
prepare_dns(ProvisionRequest *request)
{
	JsonBuilder input;

	if (json_element_count(json_member(request->spec, "addresses")) > 0 &&
		json_text(request->spec, "target") != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a name has either \"addresses\" or a \"target\""));
	begin_input(&input, request);
	json_put_text(&input, "domain", request->name);
	if (json_member(request->spec, "addresses") != NULL)
		json_put_jsonb(&input, "addresses", json_member(request->spec, "addresses"));
	json_put_text(&input, "target", json_text(request->spec, "target"));
	json_put_int64(&input, "ttl", json_int32(request->spec, "ttl", DEFAULT_TTL));
	return json_end(&input);
}

static Jsonb *
prepare_ssl(ProvisionRequest *request)
{
	char *method = json_text(request->spec, "method");
	JsonBuilder input;

	begin_input(&input, request);
	json_put_text(&input, "domain", request->name);
	json_put_text(&input, "method", method == NULL ? methods[0] : method);
	return json_end(&input);
}

static void
release_monitoring(const Provision *row)
{
	char *target = json_text(row->holdings, "target");

	if (target != NULL && gate_run(&scrape_target_exists, EXPECT_AT_MOST_ONE,
								   gate_uuid(&row->tenant), gate_text(target))
								  ->count == 1)
		(void) own_call_run("scrape_target_remove", "target", 2, (Oid[]){UUIDOID, TEXTOID},
							(NullableDatum[]){gate_uuid(&row->tenant), gate_text(target)});
}

/* A target that is named here is served at the door, others are the command's. */
static void
set_target(ProvisionRequest *request, const char *target)
{
	char *path = json_text(request->spec, "path");
	Provision before = {.tenant = request->tenant->id, .holdings = request->holdings};
	JsonBuilder labels;
	JsonBuilder holdings;

	release_monitoring(&before);
	request->holdings = NULL;
	if (target == NULL)
		return;
	json_begin(&labels);
	json_put_text(&labels, "tenant_id", id_text(&request->tenant->id));
	if (path != NULL)
		json_put_text(&labels, "__metrics_path__", path);
	json_begin(&holdings);
	json_put_text(&holdings, "target", target);
	json_put_jsonb(&holdings, "labels", json_end(&labels));
	request->holdings = json_end(&holdings);
	(void) own_call_run(
		"scrape_target_set", "target", 3, (Oid[]){UUIDOID, TEXTOID, JSONBOID},
		(NullableDatum[]){gate_uuid(&request->tenant->id), gate_text(target),
						  gate_jsonb(json_member(request->holdings, "labels"))});
}

static Jsonb *
prepare_monitoring(ProvisionRequest *request)
{
	JsonBuilder input;

	set_target(request, json_text(request->spec, "target"));
	request->evidence = request->holdings;
	begin_input(&input, request);
	json_put_text(&input, "target", json_text(request->spec, "target"));
	json_put_text(&input, "path", json_text(request->spec, "path"));
	return json_end(&input);
}

/* In the order in which they build on each other; they are removed in the opposite one. */
static const Component components[] = {
	{
		.name = "infrastructure",
		.command = "provision.infrastructure",
		.members = infrastructure_members,
		.prepare = prepare_infrastructure,
		.release = release_infrastructure,
	},
	{
		.name = "database",
		.command = "provision.database",
		.members = database_members,
		.prepare = prepare_database,
	},
	{
		.name = "application",
		.command = "provision.application",
		.members = application_members,
		.prepare = prepare_application,
	},
	{
		.name = "dns",
		.command = "provision.dns",
		.members = dns_members,
		.is_of_domain = true,
		.prepare = prepare_dns,
	},
	{
		.name = "ssl",
		.command = "provision.ssl",
		.members = ssl_members,
		.is_of_domain = true,
		.is_renewed = true,
		.prepare = prepare_ssl,
	},
	{
		.name = "monitoring",
		.command = "provision.monitoring",
		.members = monitoring_members,
		.prepare = prepare_monitoring,
		.release = release_monitoring,
	},
	{
		.name = "backups",
		.members = backups_members,
		.prepare = backups_prepare,
		.await = backups_await,
		.release = backups_release,
	},
};

const Component *
component_get(int index)
{
	return index < lengthof(components) ? &components[index] : NULL;
}

int
component_order(const char *name)
{
	int index = 0;

	while (index < lengthof(components) && strcmp(components[index].name, name) != 0)
		index++;
	return index;
}

const Component *
component_find(const char *name)
{
	const Component *component = component_get(component_order(name));

	if (component == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no component \"%s\"", name),
				errhint("Possible: infrastructure, database, application, dns, ssl, monitoring "
						"and backups."));
	return component;
}
