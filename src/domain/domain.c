/*
 * domain/domain.c
 *		Host names of tenants: claiming one, proving it, giving it up.
 *
 * A claim is a row per tenant and domain, and keeps nobody else from claiming.  A domain is
 * proven by a TXT record that only who controls it can publish; its value is random and in the
 * row, so that there is no key to keep or to lose, and a record that was left behind by an
 * earlier claim proves nothing.  Whoever looks the record up hands over what was seen.
 *
 * Locks.  A tenant can hold its own claims locked for as long as it likes, so that verifying
 * locks only the claim that is proven and, where the domain goes over, before it that of the
 * former owner.  Those who verify one domain take turns by a heavyweight lock on its hash, which
 * comes first.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/hostname.h"
#include "core/id.h"
#include "core/json.h"
#include "core/settings.h"
#include "core/state.h"
#include "domain/domain.h"
#include "job/outbox.h"
#include "tenant/tenant.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/array.h"

#include <sodium.h>

#define RECORD_PREFIX "_tenant-challenge."
#define CHALLENGE_PREFIX "tenant-challenge="
#define CHALLENGE_BYTES 32

/* Tells our lock apart from others on the same class: that of commits is database-wide. */
#define VERIFY_LOCK_NUMBER 4

#define MAX_OBSERVED 1000

/* The name of the record is a name, too. */
#define MAX_DOMAIN_LENGTH (HOSTNAME_LENGTH - (sizeof(RECORD_PREFIX) - 1))

GATE_STATEMENT(domain_insert,
			   "INSERT INTO tenancy.domain (tenant_id, domain, state, record_name, record_value,"
			   "    created_at)"
			   " VALUES ($1, $2, 'pending', $3, $4, $5) ON CONFLICT DO NOTHING",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(domain_state_for_update,
			   "SELECT d.state FROM tenancy.domain d WHERE d.tenant_id = $1 AND d.domain = $2"
			   " FOR UPDATE",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(domain_claim_again,
			   "UPDATE tenancy.domain SET state = $4, record_value = $5, created_at = $6"
			   " WHERE tenant_id = $1 AND domain = $2 AND state = $3",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(domain_set_state,
			   "UPDATE tenancy.domain SET state = $4,"
			   "       verified_at = CASE WHEN $4 = 'verified' THEN $5 ELSE verified_at END"
			   " WHERE tenant_id = $1 AND domain = $2 AND state = $3",
			   UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(domain_set_checked,
			   "UPDATE tenancy.domain SET checked_at = $3 WHERE tenant_id = $1 AND domain = $2",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID);
/* Who has it comes first, then who has claimed it first. */
GATE_STATEMENT(domain_claims,
			   "SELECT d.tenant_id, d.state, d.record_value FROM tenancy.domain d"
			   " WHERE d.domain = $1 AND d.state <> 'lost'"
			   " ORDER BY d.state DESC, d.created_at, d.tenant_id",
			   TEXTOID);
GATE_STATEMENT(domain_owner_for_update,
			   "SELECT d.tenant_id FROM tenancy.domain d WHERE d.domain = $1"
			   " AND d.state = 'verified' FOR UPDATE",
			   TEXTOID);
GATE_STATEMENT(domain_claim_for_update,
			   "SELECT d.state FROM tenancy.domain d WHERE d.tenant_id = $1 AND d.domain = $2"
			   " AND d.record_value = $3 AND d.state <> 'lost' FOR UPDATE",
			   UUIDOID, TEXTOID, TEXTOID);
GATE_STATEMENT(domain_claimants,
			   "SELECT d.tenant_id FROM tenancy.domain d WHERE d.domain = $1"
			   " ORDER BY d.state DESC, d.tenant_id",
			   TEXTOID);
GATE_STATEMENT(domain_verified_owner,
			   "SELECT d.tenant_id FROM tenancy.domain d WHERE d.domain = $1"
			   " AND d.state = 'verified'",
			   TEXTOID);
GATE_STATEMENT(domain_delete,
			   "DELETE FROM tenancy.domain AS d WHERE d.tenant_id = $1 AND d.domain = $2"
			   " RETURNING d",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(domain_row,
			   "SELECT d FROM tenancy.domain d WHERE d.tenant_id = $1 AND d.domain = $2", UUIDOID,
			   TEXTOID);

static const StateMove moves[] = {
	{"pending", "verify", "verified"},
	{"verified", "lose", "lost"},
	{"lost", "claim", "pending"},
};

static StateMachine domain_states = {
	.name = "domain",
	.table = "tenancy.domain",
	.moves = moves,
	.move_count = lengthof(moves),
};

static const EventType event_types[] = {
	{"domain.verify", 1, "a tenant has proven that it controls a domain"},
	{"domain.lose", 1, "another tenant has proven the domain, and the proof of this one was gone"},
	{"domain.remove", 1, "a tenant has given up a domain that it had proven"},
};

/* The name as it is kept; 22023 and 42939. */
static char *
read_domain(const char *text)
{
	char *name = palloc(HOSTNAME_LENGTH + 1);
	const char *fault = hostname_read(text, strlen(text), name);

	if (fault == NULL && strlen(name) > MAX_DOMAIN_LENGTH)
		fault = "It is so long that there is no room for \"" RECORD_PREFIX "\" before it.";
	if (fault != NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid domain \"%s\"", text), errdetail_internal("%s", fault));
	return name;
}

static char *
required_domain(FunctionCallInfo fcinfo, int n)
{
	return read_domain(required_text(fcinfo, n, "domain"));
}

static char *
new_challenge(void)
{
	unsigned char bytes[CHALLENGE_BYTES];
	char text[sodium_base64_ENCODED_LEN(CHALLENGE_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];

	randombytes_buf(bytes, sizeof(bytes));
	sodium_bin2base64(text, sizeof(text), bytes, sizeof(bytes),
					  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return psprintf(CHALLENGE_PREFIX "%s", text);
}

static Datum
row(const pg_uuid_t *tenant, const char *domain)
{
	return row_datum(gate_run(&domain_row, EXPECT_ONE, gate_uuid(tenant), gate_text(domain)), 0, 0);
}

static void
claim(const pg_uuid_t *tenant, const char *text)
{
	char *domain = read_domain(text);
	GateRows *rows;
	char *state;

	if ((*setting_base_domain != '\0' && hostname_is_below(domain, setting_base_domain)) ||
		hostname_is_reserved(domain))
		ereport(ERROR, errcode(ERRCODE_RESERVED_NAME), errmsg("domain \"%s\" is reserved", domain),
				errhint("The settings \"tenancy.base_domain\" and \"tenancy.reserved_domains\" say "
						"which domains no tenant may claim."));
	rows = gate_run(&domain_insert, EXPECT_ANY, gate_uuid(tenant), gate_text(domain),
					gate_text(psprintf(RECORD_PREFIX "%s", domain)), gate_text(new_challenge()),
					gate_timestamptz(clock_now()));
	if (rows->count == 1)
		return;
	rows = gate_run(&domain_state_for_update, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
					gate_text(domain));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("domain \"%s\" was removed meanwhile", domain));
	state = row_text(rows, 0, 0);
	if (strcmp(state, "lost") == 0)
		gate_run(&domain_claim_again, EXPECT_ONE, gate_uuid(tenant), gate_text(domain),
				 gate_text(state), gate_text(state_after(&domain_states, state, "claim", domain)),
				 gate_text(new_challenge()), gate_timestamptz(clock_now()));
}

/* tenant_domain_add(tenant regtenant, domain text) → tenancy.domain */
TENANCY_FUNCTION(tenant_domain_add)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *domain = required_domain(fcinfo, 1);

	tenant_require_visible(tenant);
	(void) registry_get(tenant);
	claim(tenant, domain);
	PG_RETURN_DATUM(row(tenant, domain));
}

static void
tell(const pg_uuid_t *tenant, const char *type, const char *domain)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_text(&payload, "domain", domain);
	(void) outbox_put(tenant, type, json_end(&payload));
}

static void
move(const pg_uuid_t *tenant, const char *domain, const char *from, const char *event)
{
	gate_run(&domain_set_state, EXPECT_ONE, gate_uuid(tenant), gate_text(domain), gate_text(from),
			 gate_text(state_after(&domain_states, from, event, domain)),
			 gate_timestamptz(clock_now()));
	tell(tenant, psprintf("domain.%s", event), domain);
}

/* Is the challenge among the values?  In a time that depends on their lengths alone. */
static bool
is_observed(const char *challenge, const Datum *observed, const bool *nulls, int count)
{
	size_t length = strlen(challenge);
	bool is_there = false;

	for (int i = 0; i < count; i++)
	{
		text *value = nulls[i] ? NULL : DatumGetTextPP(observed[i]);

		if (value != NULL && VARSIZE_ANY_EXHDR(value) == length)
			is_there |= sodium_memcmp(VARDATA_ANY(value), challenge, length) == 0;
	}
	return is_there;
}

/* Whose proof counts, of the claims: -1 for nobody's. */
static int64
find_proof(const GateRows *claims, const Datum *observed, const bool *nulls, int count)
{
	for (int64 i = 0; i < claims->count; i++)
	{
		if (is_observed(row_text(claims, i, 2), observed, nulls, count))
			return i;
	}
	return -1;
}

pg_noreturn static void
refuse_unclaimed(const char *domain)
{
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
			errmsg("domain \"%s\" is claimed by no tenant", domain));
}

/* Those who verify one domain take turns. */
static void
lock_verifying(const char *domain)
{
	LockDatabaseObject(extension_relation("domain"),
					   hash_bytes((const unsigned char *) domain, strlen(domain)),
					   VERIFY_LOCK_NUMBER, ExclusiveLock);
}

/* The domain is the tenant's, whose claim has the record, and nobody else's. */
static void
give(const pg_uuid_t *tenant, const char *domain, const char *record)
{
	GateRows *owner = gate_run(&domain_owner_for_update, EXPECT_AT_MOST_ONE, gate_text(domain));
	bool has_other = owner->count == 1 && !id_equal(row_uuid(owner, 0, 0), tenant);
	GateRows *claim = gate_run(&domain_claim_for_update, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
							   gate_text(domain), gate_text(record));

	if (claim->count == 0)
		ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("the claim on domain \"%s\" was removed meanwhile", domain));
	if (has_other)
		move(row_uuid(owner, 0, 0), domain, "verified", "lose");
	if (strcmp(row_text(claim, 0, 0), "pending") == 0)
		move(tenant, domain, "pending", "verify");
}

/* tenant_domain_verify(domain text, observed text[]) → tenancy.domain */
TENANCY_FUNCTION(tenant_domain_verify)
{
	char *domain = required_domain(fcinfo, 0);
	GateRows *claims;
	pg_uuid_t *tenant;
	Datum *observed;
	bool *nulls;
	int count;
	int64 proven;

	context_require_none("verifying a domain");
	require_argument(fcinfo, 1, "observed");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &observed, &nulls,
					  &count);
	if (count > MAX_OBSERVED)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"observed\" must have at most %d elements", MAX_OBSERVED));
	lock_verifying(domain);
	claims = gate_run(&domain_claims, EXPECT_ANY, gate_text(domain));
	if (claims->count == 0)
		refuse_unclaimed(domain);

	proven = find_proof(claims, observed, nulls, count);
	if (proven < 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("domain \"%s\" is not proven", domain),
				errdetail("None of the %d values observed is that of a claim.", count),
				errhint("Publish a TXT record \"%s%s\" with the record_value of the claim in "
						"tenancy.domain.",
						RECORD_PREFIX, domain));
	tenant = row_uuid(claims, proven, 0);
	give(tenant, domain, row_text(claims, proven, 2));
	gate_run(&domain_set_checked, EXPECT_ONE, gate_uuid(tenant), gate_text(domain),
			 gate_timestamptz(clock_now()));
	PG_RETURN_DATUM(row(tenant, domain));
}

pg_uuid_t *
domain_owner(const char *domain)
{
	GateRows *rows = gate_run(&domain_verified_owner, EXPECT_AT_MOST_ONE, gate_text(domain));

	return rows->count == 0 ? NULL : row_uuid(rows, 0, 0);
}

/* Whose claim is meant where no tenant was named: the session's, the owner's, or the only one. */
static pg_uuid_t *
find_claimant(const char *domain)
{
	pg_uuid_t *owner;
	GateRows *rows;

	if (context_tenant() != NULL)
		return (pg_uuid_t *) context_tenant();
	owner = domain_owner(domain);
	if (owner != NULL)
		return owner;
	rows = gate_run(&domain_claimants, EXPECT_ANY, gate_text(domain));
	if (rows->count == 0)
		refuse_unclaimed(domain);
	if (rows->count > 1)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("domain \"%s\" is claimed by several tenants", domain),
				errhint("Name the tenant."));
	return row_uuid(rows, 0, 0);
}

/* tenant_domain_remove(domain text, tenant regtenant) → tenancy.domain */
TENANCY_FUNCTION(tenant_domain_remove)
{
	char *domain = required_domain(fcinfo, 0);
	pg_uuid_t *tenant = optional_uuid(fcinfo, 1);
	GateRows *rows;
	char *state;

	if (tenant != NULL)
		tenant_require_visible(tenant);
	else
		tenant = find_claimant(domain);
	rows = gate_run(&domain_state_for_update, EXPECT_AT_MOST_ONE, gate_uuid(tenant),
					gate_text(domain));
	if (rows->count == 0)
		refuse_unclaimed(domain);
	state = row_text(rows, 0, 0);
	rows = gate_run(&domain_delete, EXPECT_ONE, gate_uuid(tenant), gate_text(domain));
	if (strcmp(state, "verified") == 0)
		tell(tenant, "domain.remove", domain);
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

void
domain_init(void)
{
	state_machine_register(&domain_states);
	event_types_register(event_types, lengthof(event_types));
	tenant_set_claimer(claim);
	domain_lookup_init();
}
