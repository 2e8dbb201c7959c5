/*
 * context/token.c
 *		Entering by a signed token (doc/token.md).
 *
 * The application signs, with Ed25519 (RFC 8032), who may enter what for how long; the
 * database keeps public keys only.  Whoever injects SQL can enter no other tenant, since
 * nothing in the database can sign.  What is wrong with a token is told to the server log
 * alone.
 *
 * Used tokens are remembered in shared memory until they expire.  A restart forgets them,
 * so tokens issued before it are refused while used ones could still be alive.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/token.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/settings.h"
#include "core/state.h"
#include "shmem/shmem.h"
#include "shmem/table.h"

#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include <sodium.h>

#define PREFIX "t1."
#define PREFIX_LENGTH (sizeof(PREFIX) - 1)
#define VERSION 1
#define LONGEST_TTL 300 /* seconds */
#define LONGEST_TOKEN 1024
#define CACHED_TOKENS 16

/* Where what lies in the payload; numbers are big-endian. */
enum
{
	AT_VERSION = 0,
	AT_KEY_ID = 1,
	AT_SYSTEM_IDENTIFIER = 5,
	AT_DATABASE = 13,
	AT_TENANT = 17,
	AT_FLAGS = 33,
	AT_ISSUED = 34,
	AT_TTL = 42,
	AT_ID = 44,
	AT_ACTOR_LENGTH = 60,
	AT_ACTOR = 61
};
#define LONGEST_PAYLOAD (AT_ACTOR + 255)

typedef struct TokenId
{
	uint32 key;
	uint8 id[16];
} TokenId;

typedef struct Token
{
	TokenId id;
	uint64 system_identifier;
	Oid database;
	pg_uuid_t tenant;
	uint8 flags;
	int64 issued_ms; /* since 1970 */
	int32 ttl;       /* seconds */
	char actor[256];
} Token;

GATE_STATEMENT(token_key_insert,
			   "INSERT INTO tenancy.token_key AS k"
			   "    (key_id, public_key, state, valid_from, valid_until, created_at)"
			   " VALUES ($1, $2, 'active', $3, $4, $5)"
			   " ON CONFLICT (public_key) DO UPDATE"
			   "    SET valid_from = excluded.valid_from, valid_until = excluded.valid_until"
			   "    WHERE k.state = 'active'"
			   " RETURNING k",
			   INT8OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(token_key_revoke,
			   "UPDATE tenancy.token_key AS k"
			   "    SET state = 'revoked', revoked_at = coalesce(k.revoked_at, $2)"
			   "  WHERE k.key_id = $1 RETURNING k",
			   INT8OID, TIMESTAMPTZOID);
GATE_LATEST(token_key_find,
			"SELECT k.public_key, k.valid_from, k.valid_until FROM tenancy.token_key k"
			" WHERE k.key_id = $1 AND k.state = 'active'",
			INT8OID);

static const StateMove key_moves[] = {
	{"active", "revoke", "revoked"},
	{"revoked", "revoke", "revoked"},
};

static StateMachine key_states = {
	.name = "token_key",
	.table = "tenancy.token_key",
	.moves = key_moves,
	.move_count = lengthof(key_moves),
};

/* A used token; the key has no padding. */
typedef struct UsedToken
{
	TokenId token;
	int64 expires_ms;
} UsedToken;

static int
used_capacity(void)
{
	return setting_token_replay_capacity;
}

static SharedTable used = {
	.name = "pg_tenancy used tokens",
	.key_size = sizeof(TokenId),
	.entry_size = sizeof(UsedToken),
	.capacity = used_capacity,
};

/* When the server began to remember. */
static int64 *remembered_since_ms;

static Size
since_size(void)
{
	return sizeof(int64);
}

static void
since_init(void *memory)
{
	*(int64 *) memory = clock_unix_milliseconds(GetCurrentTimestamp());
}

static SharedPart since_part = {
	.name = "pg_tenancy used tokens since",
	.size = since_size,
	.init = since_init,
	.memory = (void **) &remembered_since_ms,
};

/* Tokens whose signature this backend has checked, for those that enter more than once. */
typedef struct CheckedToken
{
	uint64 generation; /* of the registry: keys can be revoked */
	size_t length;     /* 0 for none */
	char text[LONGEST_TOKEN];
	Token token;
	TimestampTz valid_from; /* of its key */
	TimestampTz valid_until;
} CheckedToken;

static CheckedToken *checked = NULL;
static int next_checked = 0;

/* The holder learns nothing but that it does not work; the statement holds the token. */
static pg_noreturn void pg_attribute_printf(1, 2) refuse(const char *format, ...)
{
	char reason[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	ereport(LOG_SERVER_ONLY, errmsg("tenant token refused: %s", reason), errhidestmt(true),
			errhidecontext(true));
	ereport(ERROR, errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			errmsg("invalid tenant token"), errhint("The server log says what is wrong with it."),
			errhidestmt(true));
}

static uint64
read_number(const unsigned char *at, int bytes)
{
	uint64 number = 0;

	for (int i = 0; i < bytes; i++)
		number = number << 8 | at[i];
	return number;
}

/* Base64url without padding, as it stands between two ends; strictly one spelling each. */
static size_t
decode(const char *text, size_t length, unsigned char *out, size_t capacity, const char *part)
{
	size_t decoded;
	const char *end;

	if (sodium_base642bin(out, capacity, text, length, NULL, &decoded, &end,
						  sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
		end != text + length)
		refuse("its %s is not base64url", part);
	return decoded;
}

static void
parse_payload(const unsigned char *payload, size_t length, Token *token)
{
	size_t actor_length;

	if (length <= AT_ACTOR_LENGTH)
		refuse("its payload has %zu bytes", length);
	if (payload[AT_VERSION] != VERSION)
		refuse("its version is %d", payload[AT_VERSION]);
	token->id.key = read_number(payload + AT_KEY_ID, 4);
	token->system_identifier = read_number(payload + AT_SYSTEM_IDENTIFIER, 8);
	token->database = read_number(payload + AT_DATABASE, 4);
	memcpy(token->tenant.data, payload + AT_TENANT, UUID_LEN);
	token->flags = payload[AT_FLAGS];
	token->issued_ms = (int64) read_number(payload + AT_ISSUED, 8);
	token->ttl = read_number(payload + AT_TTL, 2);
	memcpy(token->id.id, payload + AT_ID, sizeof(token->id.id));
	actor_length = payload[AT_ACTOR_LENGTH];
	if (length != AT_ACTOR + actor_length)
		refuse("its payload has %zu bytes for an actor of %zu", length, actor_length);
	memcpy(token->actor, payload + AT_ACTOR, actor_length);
	token->actor[actor_length] = '\0';
	if (strlen(token->actor) != actor_length ||
		!pg_verify_mbstr(PG_UTF8, token->actor, actor_length, true))
		refuse("its actor is not UTF-8");
}

static void
check_times(const Token *token, TimestampTz valid_from, TimestampTz valid_until)
{
	TimestampTz now = clock_wall();
	int64 now_ms = clock_unix_milliseconds(now);

	if (token->ttl < 1 || token->ttl > LONGEST_TTL)
		refuse("its time to live is %d s, which is not between 1 and %d", token->ttl, LONGEST_TTL);
	if (token->issued_ms < 0 || token->issued_ms > now_ms + (int64) setting_token_clock_skew * 1000)
		refuse("it was issued in the future");
	if (now_ms >= token->issued_ms + (int64) token->ttl * 1000)
		refuse("it expired " INT64_FORMAT " ms ago",
			   now_ms - token->issued_ms - (int64) token->ttl * 1000);
	if (now < valid_from || now >= valid_until)
		refuse("its key %u is not valid now", token->id.key);
}

static void
check_signature(const char *text, size_t signed_length, const unsigned char *signature,
				CheckedToken *result)
{
	GateRows *rows =
		gate_run(&token_key_find, EXPECT_AT_MOST_ONE, gate_int64(result->token.id.key));
	bytea *key;

	if (rows->count == 0)
		refuse("its key %u is unknown or revoked", result->token.id.key);
	key = DatumGetByteaPP(row_datum(rows, 0, 0));
	if (VARSIZE_ANY_EXHDR(key) != crypto_sign_PUBLICKEYBYTES ||
		crypto_sign_verify_detached(signature, (const unsigned char *) text, signed_length,
									(const unsigned char *) VARDATA_ANY(key)) != 0)
		refuse("its signature is not that of key %u", result->token.id.key);
	result->valid_from = row_timestamptz(rows, 0, 1);
	result->valid_until = row_timestamptz(rows, 0, 2);
}

static void
check_token(const char *text, size_t length, CheckedToken *result)
{
	unsigned char payload[LONGEST_PAYLOAD];
	unsigned char signature[crypto_sign_BYTES];
	const char *dot;
	size_t payload_length;

	if (length >= LONGEST_TOKEN || strncmp(text, PREFIX, PREFIX_LENGTH) != 0 ||
		(dot = strchr(text + PREFIX_LENGTH, '.')) == NULL)
		refuse("it has not the form of a token");
	payload_length = decode(text + PREFIX_LENGTH, dot - text - PREFIX_LENGTH, payload,
							sizeof(payload), "payload");
	if (decode(dot + 1, text + length - dot - 1, signature, sizeof(signature), "signature") !=
		sizeof(signature))
		refuse("its signature is too short");
	/* Nothing of the payload is believed before the signature, but for which key to ask. */
	parse_payload(payload, payload_length, &result->token);
	check_signature(text, dot - text, signature, result);
	if (result->token.system_identifier != GetSystemIdentifier() ||
		result->token.database != MyDatabaseId)
		refuse("it is for another database");
	if ((result->token.flags & ~RESTRICT_ALL) != 0)
		refuse("it has unknown flags 0x%02x", result->token.flags);
}

static const CheckedToken *
find_checked(const char *text, size_t length, uint64 generation)
{
	for (int i = 0; checked != NULL && i < CACHED_TOKENS; i++)
		if (checked[i].length == length && checked[i].generation == generation &&
			sodium_memcmp(checked[i].text, text, length) == 0)
			return &checked[i];
	return NULL;
}

static const CheckedToken *
check_cached(const char *text, size_t length)
{
	uint64 generation = registry_generation();
	const CheckedToken *found = find_checked(text, length, generation);
	CheckedToken *slot;

	if (found != NULL)
		return found;
	if (checked == NULL)
		checked = MemoryContextAllocZero(TopMemoryContext, CACHED_TOKENS * sizeof(CheckedToken));
	slot = &checked[next_checked];
	next_checked = (next_checked + 1) % CACHED_TOKENS;
	slot->length = 0;
	check_token(text, length, slot);
	slot->generation = generation;
	memcpy(slot->text, text, length);
	slot->length = length;
	return slot;
}

static void
remove_expired(void *entry, void *state)
{
	const UsedToken *token = entry;

	if (token->expires_ms <= *(int64 *) state)
		shared_table_remove(&used, &token->token);
}

/* Remember that the token was used; a second use finds it. */
static void
use_once(const Token *token)
{
	LWLock *lock;
	UsedToken *entry;
	bool is_first;

	if (token->issued_ms < *remembered_since_ms)
		refuse("it was issued before the server was started");
	entry = shared_table_ensure(&used, &token->id, LW_EXCLUSIVE, &lock);
	if (entry == NULL)
	{
		int64 now_ms = clock_unix_milliseconds(clock_wall());

		shared_table_scan(&used, LW_EXCLUSIVE, remove_expired, &now_ms);
		entry = shared_table_ensure(&used, &token->id, LW_EXCLUSIVE, &lock);
	}
	if (entry == NULL)
		refuse("%d used tokens are remembered (tenancy.token_replay_capacity)",
			   setting_token_replay_capacity);
	is_first = entry->expires_ms == 0;
	entry->expires_ms = token->issued_ms + (int64) token->ttl * 1000;
	LWLockRelease(lock);
	if (!is_first)
		refuse("it was used before");
}

/* tenant_enter(token text) → uuid */
TENANCY_FUNCTION(tenant_enter)
{
	char *text = required_text(fcinfo, 0, "token");
	bool was_in_tenant = context_tenant() != NULL;
	const CheckedToken *valid;
	Token token;
	pg_uuid_t *result;

	if (!shmem_is_ready())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("pg_tenancy must be loaded via shared_preload_libraries"));
	valid = check_cached(text, strlen(text));
	token = valid->token;
	check_times(&token, valid->valid_from, valid->valid_until);
	if (setting_token_replay == TOKEN_ONCE)
		use_once(&token);
	context_enter(&token.tenant, token.actor[0] == '\0' ? NULL : token.actor, token.flags);
	if (!was_in_tenant)
		context_warn_of_autocommit();
	result = palloc(sizeof(pg_uuid_t));
	*result = token.tenant;
	PG_RETURN_UUID_P(result);
}

/* tenant_token_audience() → jsonb */
TENANCY_FUNCTION(tenant_token_audience)
{
	return DirectFunctionCall1(
		jsonb_in,
		CStringGetDatum(psprintf("{\"system_identifier\": \"" UINT64_FORMAT "\", \"database\": %u}",
								 GetSystemIdentifier(), MyDatabaseId)));
}

/* The first four bytes of the key's BLAKE2b-256 (RFC 7693). */
static uint32
key_id_of(const bytea *key)
{
	unsigned char digest[crypto_generichash_BYTES];

	crypto_generichash(digest, sizeof(digest), (const unsigned char *) VARDATA_ANY(key),
					   VARSIZE_ANY_EXHDR(key), NULL, 0);
	return read_number(digest, 4);
}

/* tenant_token_key_add(public_key bytea, valid_from timestamptz, valid_until timestamptz) →
 * tenancy.token_key */
TENANCY_FUNCTION(tenant_token_key_add)
{
	bytea *key;
	GateRows *rows;
	TimestampTz valid_from;
	TimestampTz valid_until;

	require_argument(fcinfo, 0, "public_key");
	require_argument(fcinfo, 1, "valid_from");
	require_argument(fcinfo, 2, "valid_until");
	context_require_none("adding a key");
	key = PG_GETARG_BYTEA_PP(0);
	valid_from = PG_GETARG_TIMESTAMPTZ(1);
	valid_until = PG_GETARG_TIMESTAMPTZ(2);
	if (VARSIZE_ANY_EXHDR(key) != crypto_sign_PUBLICKEYBYTES)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("an Ed25519 public key has %d bytes, not %zu", crypto_sign_PUBLICKEYBYTES,
					   VARSIZE_ANY_EXHDR(key)),
				errhint("Give the raw key: the last %d bytes of its DER form.",
						crypto_sign_PUBLICKEYBYTES));
	if (!crypto_core_ed25519_is_valid_point((const unsigned char *) VARDATA_ANY(key)))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid Ed25519 public key"));
	if (valid_until <= valid_from)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a key must be valid for some time"),
				errdetail("\"valid_until\" is not after \"valid_from\"."));
	rows = gate_run(&token_key_insert, EXPECT_AT_MOST_ONE, gate_int64(key_id_of(key)),
					gate_datum(PointerGetDatum(key)), gate_timestamptz(valid_from),
					gate_timestamptz(valid_until), gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the key has been revoked"), errhint("Make a new pair of keys."));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

/* tenant_token_key_revoke(key_id bigint) → tenancy.token_key */
TENANCY_FUNCTION(tenant_token_key_revoke)
{
	GateRows *rows;

	require_argument(fcinfo, 0, "key_id");
	context_require_none("revoking a key");
	rows = gate_run(&token_key_revoke, EXPECT_AT_MOST_ONE, gate_int64(PG_GETARG_INT64(0)),
					gate_timestamptz(clock_now()));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("token key " INT64_FORMAT " does not exist", PG_GETARG_INT64(0)));
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}

void
token_init(void)
{
	shared_table_register(&used);
	shmem_register(&since_part);
	state_machine_register(&key_states);
}
