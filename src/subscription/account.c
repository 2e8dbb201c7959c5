/*
 * subscription/account.c
 *		Who sells, who pays, and the taxes between them.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/json.h"
#include "core/money.h"

#include "utils/builtins.h"

GATE_STATEMENT(tax_rate_insert,
			   "INSERT INTO tenancy.tax_rate AS r (id, name, percentage, is_inclusive, category,"
			   "    country, active, created_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, true, $7) ON CONFLICT DO NOTHING RETURNING r",
			   TEXTOID, TEXTOID, NUMERICOID, BOOLOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(tax_rate_deactivate,
			   "UPDATE tenancy.tax_rate r SET active = false WHERE r.id = $1 RETURNING r", TEXTOID);
/* A member that is there replaces what is in the row; a JSON null is the default. */
GATE_STATEMENT(
	legal_entity_put,
	"WITH put AS ("
	"    SELECT coalesce(d.d->>'name', $1) AS name, coalesce(d.d->'address', '{}') AS address,"
	"           d.d->>'country' AS country, d.d->>'tax_id' AS tax_id, d.d->>'email' AS email,"
	"           coalesce(d.d->'bank_account', '{}') AS bank_account,"
	"           coalesce(d.d->>'invoice_series', pg_catalog.upper($1) || '-INV') AS invoice_series,"
	"           coalesce(d.d->>'credit_note_series', pg_catalog.upper($1) || '-CN')"
	"               AS credit_note_series,"
	"           coalesce((d.d->>'number_width')::integer, 6) AS number_width,"
	"           coalesce(d.d->>'tax_rounding', 'line') AS tax_rounding,"
	"           coalesce(d.d->>'zero_invoices', 'issue') AS zero_invoices,"
	"           coalesce((d.d->>'payment_terms_days')::integer, 14) AS payment_terms_days,"
	"           coalesce((SELECT pg_catalog.array_agg(t)"
	"                       FROM pg_catalog.jsonb_array_elements_text(d.d->'tax_rates') t), '{}')"
	"               AS tax_rates"
	"      FROM (SELECT pg_catalog.jsonb_strip_nulls("
	"                       coalesce((SELECT pg_catalog.to_jsonb(o) FROM tenancy.legal_entity o"
	"                                  WHERE o.id = $1), '{}') || $2) AS d) d),"
	" changed AS ("
	"    UPDATE tenancy.legal_entity AS e SET name = p.name, address = p.address,"
	"           country = p.country, tax_id = p.tax_id, email = p.email,"
	"           bank_account = p.bank_account, invoice_series = p.invoice_series,"
	"           credit_note_series = p.credit_note_series, number_width = p.number_width,"
	"           tax_rounding = p.tax_rounding, zero_invoices = p.zero_invoices,"
	"           payment_terms_days = p.payment_terms_days, tax_rates = p.tax_rates,"
	"           shipped = false"
	"      FROM put p WHERE e.id = $1 RETURNING e),"
	" added AS ("
	"    INSERT INTO tenancy.legal_entity AS e (id, name, address, country, tax_id, email,"
	"        bank_account, invoice_series, credit_note_series, number_width, tax_rounding,"
	"        zero_invoices, payment_terms_days, tax_rates, shipped)"
	"    SELECT $1, p.name, p.address, p.country, p.tax_id, p.email, p.bank_account,"
	"           p.invoice_series, p.credit_note_series, p.number_width, p.tax_rounding,"
	"           p.zero_invoices, p.payment_terms_days, p.tax_rates, false"
	"      FROM put p WHERE NOT EXISTS (SELECT FROM changed) RETURNING e)"
	" SELECT c.e FROM changed c UNION ALL SELECT a.e FROM added a",
	TEXTOID, JSONBOID);
GATE_STATEMENT(
	billing_account_put,
	"INSERT INTO tenancy.billing_account AS a (tenant_id, legal_entity, name, email, address,"
	"    country, tax_id, tax_treatment, exemption_reason, payment_terms_days,"
	"    consolidates, tax_rates, dunning_policy, updated_at)"
	" SELECT $1, coalesce(d.d->>'legal_entity', 'default'), d.d->>'name', d.d->>'email',"
	"        coalesce(d.d->'address', '{}'), d.d->>'country', d.d->>'tax_id',"
	"        coalesce(d.d->>'tax_treatment', 'taxed'),"
	"        CASE WHEN d.d->>'tax_treatment' <> 'taxed' THEN d.d->>'exemption_reason' END,"
	"        (d.d->>'payment_terms_days')::integer,"
	"        coalesce((d.d->>'consolidates')::boolean, false),"
	"        CASE WHEN d.d ? 'tax_rates' THEN"
	"            coalesce((SELECT pg_catalog.array_agg(t)"
	"                        FROM pg_catalog.jsonb_array_elements_text(d.d->'tax_rates') t), '{}')"
	"        END,"
	"        d.d->>'dunning_policy', $3"
	"   FROM (SELECT pg_catalog.jsonb_strip_nulls("
	"                    coalesce((SELECT pg_catalog.to_jsonb(o) FROM tenancy.billing_account o"
	"                               WHERE o.tenant_id = $1), '{}') || $2) AS d) d"
	" ON CONFLICT (tenant_id) DO UPDATE SET legal_entity = excluded.legal_entity,"
	"    name = excluded.name, email = excluded.email, address = excluded.address,"
	"    country = excluded.country, tax_id = excluded.tax_id,"
	"    tax_treatment = excluded.tax_treatment,"
	"    exemption_reason = excluded.exemption_reason,"
	"    payment_terms_days = excluded.payment_terms_days,"
	"    consolidates = excluded.consolidates, tax_rates = excluded.tax_rates,"
	"    dunning_policy = excluded.dunning_policy, updated_at = excluded.updated_at"
	" RETURNING a",
	UUIDOID, JSONBOID, TIMESTAMPTZOID);
GATE_LOOKUP(
	unknown_tax_rate,
	"SELECT t FROM pg_catalog.jsonb_array_elements_text("
	"    CASE pg_catalog.jsonb_typeof($1->'tax_rates') WHEN 'array' THEN $1->'tax_rates' ELSE '[]' "
	"END) t"
	" WHERE NOT EXISTS (SELECT FROM tenancy.tax_rate r WHERE r.id = t AND r.active) LIMIT 1",
	JSONBOID);
GATE_LOOKUP(legal_entity_exists, "SELECT FROM tenancy.legal_entity e WHERE e.id = $1", TEXTOID);
GATE_LOOKUP(dunning_policy_exists, "SELECT FROM tenancy.dunning_policy p WHERE p.id = $1", TEXTOID);
/* Of another legal entity, that numbers its documents by a series. */
GATE_LOOKUP(series_taken,
			"SELECT e.id, v.series FROM tenancy.legal_entity e,"
			"       LATERAL (VALUES (e.invoice_series), (e.credit_note_series)) AS v(series)"
			" WHERE e.id <> $1 AND v.series IN ($2, $3) LIMIT 1",
			TEXTOID, TEXTOID, TEXTOID);

static const char *const categories[] = {"AE", "E", "G", "K", "L", "M", "O", "S", "Z", NULL};
static const char *const roundings[] = {"invoice", "line", NULL};
static const char *const zeros[] = {"issue", "skip", NULL};
static const char *const treatments[] = {"exempt", "reverse_charge", "taxed", NULL};

static bool
is_country(const char *text, int length)
{
	return length == 2 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z';
}

static const char *
check_country(JsonbValue *value)
{
	return is_country(value->val.string.val, value->val.string.len)
			   ? NULL
			   : "a country of ISO 3166-1, such as \"DE\"";
}

/* It becomes part of numbers and of names of files. */
static const char *
check_series(JsonbValue *value)
{
	char *series = pnstrdup(value->val.string.val, value->val.string.len);

	return *series != '\0' &&
				   strspn(series, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/") == strlen(series)
			   ? NULL
			   : "capital letters, digits, -, _ and /";
}

static const JsonRule address_members[] = {
	{.name = "city", .type = JSON_TEXT, .max_length = 100},
	{.name = "line1", .type = JSON_TEXT, .max_length = 200},
	{.name = "line2", .type = JSON_TEXT, .max_length = 200},
	{.name = "postal_code", .type = JSON_TEXT, .max_length = 20},
	{.name = "region", .type = JSON_TEXT, .max_length = 100},
	{.name = NULL},
};
static const JsonRule bank_members[] = {
	{.name = "bic", .type = JSON_TEXT, .max_length = 11},
	{.name = "holder", .type = JSON_TEXT, .max_length = 100},
	{.name = "iban", .type = JSON_TEXT, .max_length = 34},
	{.name = NULL},
};
static const JsonRule rate_name = {.type = JSON_TEXT, .max_length = 63};
static const JsonRule legal_entity_members[] = {
	{.name = "address", .type = JSON_OBJECT, .is_nullable = true, .members = address_members},
	{.name = "bank_account", .type = JSON_OBJECT, .is_nullable = true, .members = bank_members},
	{.name = "country", .type = JSON_TEXT, .is_nullable = true, .check = check_country},
	{.name = "credit_note_series", .type = JSON_TEXT, .max_length = 30, .check = check_series},
	{.name = "email", .type = JSON_TEXT, .is_nullable = true, .max_length = 254},
	{.name = "invoice_series", .type = JSON_TEXT, .max_length = 30, .check = check_series},
	{.name = "name", .type = JSON_TEXT, .max_length = 200},
	{.name = "number_width", .type = JSON_INTEGER, .minimum = "1", .maximum = "18"},
	{.name = "payment_terms_days", .type = JSON_INTEGER, .minimum = "0", .maximum = "3650"},
	{.name = "tax_id", .type = JSON_TEXT, .is_nullable = true, .max_length = 50},
	{.name = "tax_rates",
	 .type = JSON_ARRAY,
	 .is_nullable = true,
	 .element = &rate_name,
	 .max_length = 10},
	{.name = "tax_rounding", .type = JSON_TEXT, .choices = roundings},
	{.name = "zero_invoices", .type = JSON_TEXT, .choices = zeros},
	{.name = NULL},
};
static const JsonRule billing_account_members[] = {
	{.name = "address", .type = JSON_OBJECT, .is_nullable = true, .members = address_members},
	{.name = "consolidates", .type = JSON_BOOLEAN},
	{.name = "country", .type = JSON_TEXT, .is_nullable = true, .check = check_country},
	{.name = "dunning_policy", .type = JSON_TEXT, .is_nullable = true, .max_length = 63},
	{.name = "email", .type = JSON_TEXT, .is_nullable = true, .max_length = 254},
	{.name = "exemption_reason", .type = JSON_TEXT, .is_nullable = true, .max_length = 500},
	{.name = "legal_entity", .type = JSON_TEXT, .max_length = 63},
	{.name = "name", .type = JSON_TEXT, .is_nullable = true, .max_length = 200},
	{.name = "payment_terms_days",
	 .type = JSON_INTEGER,
	 .is_nullable = true,
	 .minimum = "0",
	 .maximum = "3650"},
	{.name = "tax_id", .type = JSON_TEXT, .is_nullable = true, .max_length = 50},
	{.name = "tax_rates",
	 .type = JSON_ARRAY,
	 .is_nullable = true,
	 .element = &rate_name,
	 .max_length = 10},
	{.name = "tax_treatment", .type = JSON_TEXT, .choices = treatments},
	{.name = NULL},
};

static void
require_known_rates(const Jsonb *document)
{
	GateRows *rows = gate_run(&unknown_tax_rate, EXPECT_AT_MOST_ONE, gate_jsonb(document));

	if (rows->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tax rate \"%s\" does not exist or is not active", row_text(rows, 0, 0)));
}

/* As the table has it. */
#define MOST_PERCENT 1000

/*
 * tax_rate_create(id text, percentage numeric, name text, is_inclusive boolean, category text,
 *     country text) → tenancy.tax_rate
 */
TENANCY_FUNCTION(tax_rate_create)
{
	char *id = required_text(fcinfo, 0, "id");
	Numeric percentage = required_numeric(fcinfo, 1, "percentage");
	char *name = optional_text(fcinfo, 2);
	char *category = required_text(fcinfo, 4, "category");
	char *country = optional_text(fcinfo, 5);
	bool is_category = false;
	GateRows *rows;

	context_require_none("billing");
	require_argument(fcinfo, 3, "is_inclusive");
	for (const char *const *known = categories; *known != NULL; known++)
		is_category = is_category || strcmp(*known, category) == 0;
	if (!is_category)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid category \"%s\" of a tax", category),
				errhint("It is a code of UNCL5305, such as \"S\", \"Z\", \"E\" or \"AE\"."));
	if (country != NULL && !is_country(country, strlen(country)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid country \"%s\"", country),
				errhint("It is a code of ISO 3166-1, such as \"DE\"."));
	if (numeric_compare(percentage, numeric_zero()) < 0 ||
		numeric_compare(percentage, numeric_from_int(MOST_PERCENT)) >= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"percentage\" must be at least 0 and less than %d", MOST_PERCENT));
	if (*id == '\0' || strlen(id) >= NAMEDATALEN)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid id \"%s\" for a tax rate", id), errhint("It has 1 to 63 bytes."));
	rows = gate_run(&tax_rate_insert, EXPECT_AT_MOST_ONE, gate_text(id),
					gate_text(name != NULL ? name : id), gate_numeric(percentage), gate_argument(3),
					gate_text(category), gate_text(country), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("tax rate \"%s\" already exists", id),
				errhint("A rate never changes: make a new one and tax_rate_retire() the old."));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* tax_rate_retire(id text) → tenancy.tax_rate */
TENANCY_FUNCTION(tax_rate_retire)
{
	char *id = required_text(fcinfo, 0, "id");
	GateRows *rows;

	context_require_none("billing");
	rows = gate_run(&tax_rate_deactivate, EXPECT_AT_MOST_ONE, gate_text(id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tax rate \"%s\" does not exist", id));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* legal_entity_set(id text, entity jsonb) → tenancy.legal_entity */
TENANCY_FUNCTION(legal_entity_set)
{
	char *id = required_text(fcinfo, 0, "id");
	Jsonb *document;
	GateRows *taken;

	require_argument(fcinfo, 1, "entity");
	document = PG_GETARG_JSONB_P(1);
	context_require_none("billing");
	if (*id == '\0' || strlen(id) >= NAMEDATALEN ||
		strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(id))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid id \"%s\" for a legal entity", id),
				errhint("It has 1 to 63 lower-case letters, digits, underscores and hyphens."));
	json_validate(document, legal_entity_members, "legal entity");
	require_known_rates(document);
	taken = gate_run(&series_taken, EXPECT_AT_MOST_ONE, gate_text(id),
					 gate_text(json_text(document, "invoice_series")),
					 gate_text(json_text(document, "credit_note_series")));
	if (taken->count == 1)
		ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("series \"%s\" is one of legal entity \"%s\"", row_text(taken, 0, 1),
					   row_text(taken, 0, 0)));
	PG_RETURN_DATUM(row_datum(
		gate_run(&legal_entity_put, EXPECT_ONE, gate_text(id), gate_jsonb(document)), 0, 0));
}

/* billing_account_set(tenant regtenant, account jsonb) → tenancy.billing_account */
TENANCY_FUNCTION(billing_account_set)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	Jsonb *document;
	char *entity;
	char *policy;
	char *treatment;

	require_argument(fcinfo, 1, "account");
	document = PG_GETARG_JSONB_P(1);
	context_require_none("billing");
	(void) registry_get(tenant);
	json_validate(document, billing_account_members, "billing account");
	require_known_rates(document);
	entity = json_text(document, "legal_entity");
	if (entity != NULL &&
		gate_run(&legal_entity_exists, EXPECT_AT_MOST_ONE, gate_text(entity))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("legal entity \"%s\" does not exist", entity));
	policy = json_text(document, "dunning_policy");
	if (policy != NULL &&
		gate_run(&dunning_policy_exists, EXPECT_AT_MOST_ONE, gate_text(policy))->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("dunning policy \"%s\" does not exist", policy));
	treatment = json_text(document, "tax_treatment");
	if (treatment != NULL &&
		(strcmp(treatment, "taxed") == 0) != (json_text(document, "exemption_reason") == NULL))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid billing account: \"exemption_reason\" %s",
					   strcmp(treatment, "taxed") == 0 ? "has no meaning" : "is missing"),
				errdetail("Who does not pay tax has a reason, which invoices must give."));
	PG_RETURN_DATUM(row_datum(gate_run(&billing_account_put, EXPECT_ONE, gate_uuid(tenant),
									   gate_jsonb(document), gate_timestamptz(clock_now())),
							  0, 0));
}
