/*
 * crypto/digest.c
 *		Digests of what must be recognised again.
 */
#include "postgres.h"

#include "core/compat.h"
#include "crypto/digest.h"

void
digest_begin(Digest *digest)
{
	crypto_generichash_init(&digest->state, NULL, 0, DIGEST_LENGTH);
}

void
digest_add(Digest *digest, const void *data, size_t length)
{
	uint64 prefix = length;

	crypto_generichash_update(&digest->state, (const unsigned char *) &prefix, sizeof(prefix));
	crypto_generichash_update(&digest->state, data, length);
}

void
digest_add_text(Digest *digest, const char *text)
{
	uint64 absent = UINT64_MAX;

	if (text == NULL)
		crypto_generichash_update(&digest->state, (const unsigned char *) &absent, sizeof(absent));
	else
		digest_add(digest, text, strlen(text));
}

bytea *
digest_end(Digest *digest)
{
	bytea *result = palloc(VARHDRSZ + DIGEST_LENGTH);

	SET_VARSIZE(result, VARHDRSZ + DIGEST_LENGTH);
	crypto_generichash_final(&digest->state, (unsigned char *) VARDATA(result), DIGEST_LENGTH);
	return result;
}

char *
digest_hex(const bytea *digest)
{
	size_t length = VARSIZE_ANY_EXHDR(digest);
	char *hex = palloc(2 * length + 1);

	return sodium_bin2hex(hex, 2 * length + 1, (const unsigned char *) VARDATA_ANY(digest), length);
}

void
digest_end_short(Digest *digest, pg_uuid_t *result)
{
	unsigned char whole[DIGEST_LENGTH];

	crypto_generichash_final(&digest->state, whole, DIGEST_LENGTH);
	memcpy(result->data, whole, UUID_LEN);
}

char *
digest_short_hex(const pg_uuid_t *digest)
{
	char *hex = palloc(2 * UUID_LEN + 1);

	return sodium_bin2hex(hex, 2 * UUID_LEN + 1, digest->data, UUID_LEN);
}
