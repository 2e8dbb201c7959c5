/*
 * observe/scrape_target.c
 *		What Prometheus is to scrape for tenants.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/hostname.h"
#include "core/json.h"
#include "observe/observe.h"

#include <arpa/inet.h>

#define MAX_TARGETS 100
#define MAX_LABELS 30
#define MAX_LABEL_BYTES 200
#define MAX_PORT 65535
#define MAX_PORT_DIGITS 5
#define TENANT_LABEL "tenant"

GATE_STATEMENT(scrape_target_upsert,
			   "INSERT INTO tenancy.scrape_target AS s (tenant_id, target, labels, changed_at)"
			   " SELECT $1, $2, $3, $4"
			   "  WHERE (SELECT pg_catalog.count(*) FROM tenancy.scrape_target o"
			   "          WHERE o.tenant_id = $1 AND o.target <> $2) < $5"
			   " ON CONFLICT (tenant_id, target)"
			   " DO UPDATE SET labels = EXCLUDED.labels, changed_at = EXCLUDED.changed_at"
			   " RETURNING s",
			   UUIDOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(scrape_target_delete,
			   "DELETE FROM tenancy.scrape_target AS s WHERE s.tenant_id = $1 AND s.target = $2"
			   " RETURNING s",
			   UUIDOID, TEXTOID);
GATE_LOOKUP(scrape_targets_json,
			"SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object("
			"           'targets', pg_catalog.jsonb_build_array(s.target),"
			"           'labels', s.labels || pg_catalog.jsonb_build_object('tenant', t.slug))"
			"           ORDER BY t.slug, s.target), '[]')::text"
			"  FROM tenancy.scrape_target s JOIN tenancy.tenant t ON t.id = s.tenant_id"
			" WHERE t.state = 'active'");

pg_noreturn static void
refuse_target(const char *target)
{
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid target \"%s\"", target),
			errhint("It is host:port, the host a name or an address."));
}

static bool
is_host(const char *host, size_t length)
{
	char name[HOSTNAME_LENGTH + 1];
	struct in6_addr address;
	bool is_bracketed = length > 2 && host[0] == '[' && host[length - 1] == ']';

	if (length == 0 || length > HOSTNAME_LENGTH)
		return false;
	if (is_bracketed)
		return inet_pton(AF_INET6, pnstrdup(host + 1, length - 2), &address) == 1;
	return inet_pton(AF_INET, pnstrdup(host, length), &address) == 1 ||
		   hostname_read(host, length, name) == NULL ||
		   /* A label alone is a name in a private network. */
		   (memchr(host, '.', length) == NULL &&
			hostname_read(psprintf("%.*s.x", (int) length, host), length + 2, name) == NULL);
}

static void
require_target(const char *target)
{
	const char *colon = strrchr(target, ':');
	size_t digits = colon == NULL ? 0 : strlen(colon + 1);

	if (digits == 0 || digits > MAX_PORT_DIGITS || strspn(colon + 1, "0123456789") != digits ||
		atoi(colon + 1) < 1 || atoi(colon + 1) > MAX_PORT || !is_host(target, colon - target))
		refuse_target(target);
}

/* https://prometheus.io/docs/concepts/data_model/ */
static bool
is_label_name(const char *name)
{
	static const char *const special[] = {"__metrics_path__", "__scheme__", "__scrape_interval__",
										  "__scrape_timeout__"};
	size_t length = strlen(name);

	for (int i = 0; i < lengthof(special); i++)
	{
		if (strcmp(name, special[i]) == 0)
			return true;
	}
	return length > 0 && length <= MAX_LABEL_BYTES && strncmp(name, "__", 2) != 0 &&
		   (name[0] < '0' || name[0] > '9') && strcmp(name, TENANT_LABEL) != 0 &&
		   strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
			   length;
}

static void
require_labels(const Jsonb *labels)
{
	char **names;
	int count;

	if (!JB_ROOT_IS_OBJECT(labels))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the labels of a target must be a JSON object"));
	names = json_member_names(labels, &count);
	if (count > MAX_LABELS)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a target has at most %d labels", MAX_LABELS));
	for (int i = 0; i < count; i++)
	{
		JsonbValue key = {.type = jbvString,
						  .val.string = {.val = names[i], .len = strlen(names[i])}};
		JsonbValue *value =
			findJsonbValueFromContainer((JsonbContainer *) &labels->root, JB_FOBJECT, &key);

		if (!is_label_name(names[i]))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid name \"%s\" of a label", names[i]));
		if (value->type != jbvString || value->val.string.len > MAX_LABEL_BYTES)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("label \"%s\" must be a text of at most %d bytes", names[i],
						   MAX_LABEL_BYTES));
	}
}

/* scrape_target_set(tenant regtenant, target text, labels jsonb) → tenancy.scrape_target */
TENANCY_FUNCTION(scrape_target_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *target = required_text(fcinfo, 1, "target");
	Jsonb *labels;
	GateRows *rows;

	context_require_none("setting what is scraped");
	require_argument(fcinfo, 2, "labels");
	labels = optional_jsonb(fcinfo, 2);
	(void) registry_get(tenant);
	require_target(target);
	require_labels(labels);
	rows = gate_run(&scrape_target_upsert, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(target),
					gate_jsonb(labels), gate_timestamptz(clock_now()), gate_int32(MAX_TARGETS));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("there are %d targets already", MAX_TARGETS));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* scrape_target_remove(tenant regtenant, target text) → tenancy.scrape_target */
TENANCY_FUNCTION(scrape_target_remove)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *target = required_text(fcinfo, 1, "target");
	GateRows *rows;

	context_require_none("setting what is scraped");
	rows =
		gate_run(&scrape_target_delete, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_text(target));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("target \"%s\" does not exist", target));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

char *
scrape_targets_text(void)
{
	return row_text(gate_run_array(&scrape_targets_json, EXPECT_ONE, NULL, 0), 0, 0);
}
