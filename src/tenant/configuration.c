/*
 * tenant/configuration.c
 *		The configuration of a tenant: what may stand in it, setting it, reading it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "tenant/configuration.h"
#include "tenant/tenant.h"

#include "utils/builtins.h"

GATE_STATEMENT(configuration_for_update,
			   "SELECT t.configuration FROM tenancy.tenant t WHERE t.id = $1 FOR UPDATE", UUIDOID);
GATE_STATEMENT(configuration_set,
			   "UPDATE tenancy.tenant SET configuration = $2, updated_at = $3 WHERE id = $1",
			   UUIDOID, JSONBOID, TIMESTAMPTZOID);
GATE_LOOKUP(configuration_get,
			"SELECT t.configuration,"
			"       pg_catalog.jsonb_build_object('features', coalesce(p.features, '{}'),"
			"                                     'feature_limits', coalesce(p.limits, '{}'))"
			"  FROM tenancy.tenant t LEFT JOIN tenancy.plan p ON p.id = t.plan WHERE t.id = $1",
			UUIDOID);

static const char *
check_color(JsonbValue *value)
{
	const char *text = value->val.string.val;
	bool is_color = value->val.string.len == 7 && text[0] == '#';

	for (int i = 1; is_color && i < 7; i++)
		is_color = strchr("0123456789abcdefABCDEF", text[i]) != NULL;
	return is_color ? NULL : "a color such as \"#1a2b3c\"";
}

static const char *
check_url(JsonbValue *value)
{
	const char *text = value->val.string.val;
	int length = value->val.string.len;

	return (length > 8 && strncmp(text, "https://", 8) == 0) ? NULL : "a URL with https";
}

static const JsonRule branding[] = {
	{.name = "display_name", .type = JSON_TEXT, .max_length = 200},
	{.name = "favicon_url", .type = JSON_TEXT, .check = check_url},
	{.name = "logo_url", .type = JSON_TEXT, .check = check_url},
	{.name = "primary_color", .type = JSON_TEXT, .check = check_color},
	{.name = "secondary_color", .type = JSON_TEXT, .check = check_color},
	{.name = "support_email", .type = JSON_TEXT, .max_length = 254},
	{.name = "support_url", .type = JSON_TEXT, .check = check_url},
	{.name = NULL},
};

static const char *const identity_providers[] = {"password", "github", "google", "microsoft",
												 "oidc",     "okta",   "saml",   NULL};
static const JsonRule provider = {.type = JSON_TEXT, .choices = identity_providers};
static const JsonRule domain_name = {.type = JSON_TEXT, .max_length = 253};

static const JsonRule authentication[] = {
	{.name = "allowed_email_domains", .type = JSON_ARRAY, .element = &domain_name},
	{.name = "mfa_required", .type = JSON_BOOLEAN},
	{.name = "providers", .type = JSON_ARRAY, .element = &provider},
	{.name = "session_timeout_minutes", .type = JSON_INTEGER, .minimum = "1", .maximum = "525600"},
	{.name = "sso_required", .type = JSON_BOOLEAN},
	{.name = NULL},
};

static const JsonRule address_range = {.type = JSON_TEXT, .max_length = 43};

static const JsonRule security[] = {
	{.name = "ip_allow_list", .type = JSON_ARRAY, .element = &address_range},
	{.name = "password_min_length", .type = JSON_INTEGER, .minimum = "8", .maximum = "128"},
	{.name = "support_access", .type = JSON_BOOLEAN},
	{.name = NULL},
};

static const char *const standard_names[] = {"ccpa",    "gdpr", "hipaa", "iso27001",
											 "pci_dss", "soc2", NULL};
static const JsonRule standard = {.type = JSON_TEXT, .choices = standard_names};

static const JsonRule compliance[] = {
	{.name = "data_residency", .type = JSON_TEXT, .max_length = 64},
	{.name = "retention_days", .type = JSON_INTEGER, .minimum = "1", .maximum = "36525"},
	{.name = "standards", .type = JSON_ARRAY, .element = &standard},
	{.name = NULL},
};

static const JsonRule members[] = {
	{.name = "authentication", .type = JSON_OBJECT, .members = authentication},
	{.name = "branding", .type = JSON_OBJECT, .members = branding},
	{.name = "compliance", .type = JSON_OBJECT, .members = compliance},
	{.name = "feature_limits", .type = JSON_OBJECT, .check = json_check_numbers},
	{.name = "features", .type = JSON_OBJECT, .check = json_check_booleans},
	{.name = "integrations", .type = JSON_OBJECT},
	{.name = "security", .type = JSON_OBJECT, .members = security},
	{.name = NULL},
};

void
configuration_validate(const Jsonb *configuration)
{
	json_validate(configuration, members, "configuration");
}

Jsonb *
configuration_in_force(const pg_uuid_t *tenant)
{
	GateRows *rows = gate_run(&configuration_get, EXPECT_ONE, gate_uuid(tenant));

	return json_merge_patch(row_jsonb(rows, 0, 1), row_jsonb(rows, 0, 0));
}

/* tenant_configure(tenant regtenant, configuration jsonb) → jsonb */
TENANCY_FUNCTION(tenant_configure)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");
	Jsonb *merged;

	require_argument(fcinfo, 1, "configuration");
	(void) registry_get(id);
	merged = json_merge_patch(
		row_jsonb(gate_run(&configuration_for_update, EXPECT_ONE, gate_uuid(id)), 0, 0),
		PG_GETARG_JSONB_P(1));
	configuration_validate(merged);
	gate_run(&configuration_set, EXPECT_ONE, gate_uuid(id), gate_jsonb(merged),
			 gate_timestamptz(clock_now()));
	PG_RETURN_JSONB_P(merged);
}

/* tenant_configuration(tenant regtenant) → jsonb */
TENANCY_FUNCTION(tenant_configuration)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "tenant");

	tenant_require_visible(id);
	(void) registry_get(id);
	PG_RETURN_JSONB_P(configuration_in_force(id));
}
