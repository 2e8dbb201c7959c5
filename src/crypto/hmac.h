/*
 * crypto/hmac.h
 *		HMAC-SHA-256 (RFC 2104, FIPS 180-4): what somebody who knows the key has signed.
 */
#pragma once

#include "postgres.h"

#include <sodium.h>

#define HMAC_LENGTH crypto_auth_hmacsha256_BYTES

typedef struct Hmac
{
	crypto_auth_hmacsha256_state state;
} Hmac;

/* A key of any length; the parts go in as they are, one behind the other. */
extern void hmac_begin(Hmac *hmac, const void *key, size_t length);
extern void hmac_add(Hmac *hmac, const void *data, size_t length);
extern void hmac_end(Hmac *hmac, unsigned char out[HMAC_LENGTH]);

/* In a time that does not depend on where they differ. */
extern bool hmac_equal(const unsigned char *a, const unsigned char *b);
