/*
 * crypto/hmac.c
 *		HMAC-SHA-256.
 */
#include "postgres.h"

#include "crypto/hmac.h"

void
hmac_begin(Hmac *hmac, const void *key, size_t length)
{
	crypto_auth_hmacsha256_init(&hmac->state, key, length);
}

void
hmac_add(Hmac *hmac, const void *data, size_t length)
{
	crypto_auth_hmacsha256_update(&hmac->state, data, length);
}

void
hmac_end(Hmac *hmac, unsigned char out[HMAC_LENGTH])
{
	crypto_auth_hmacsha256_final(&hmac->state, out);
	sodium_memzero(&hmac->state, sizeof(hmac->state));
}

bool
hmac_equal(const unsigned char *a, const unsigned char *b)
{
	return sodium_memcmp(a, b, HMAC_LENGTH) == 0;
}
