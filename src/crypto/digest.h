/*
 * crypto/digest.h
 *		Digests of what must be recognised again: BLAKE2b (RFC 7693), 256 bits.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

#include <sodium.h>

#define DIGEST_LENGTH crypto_generichash_BYTES

typedef struct Digest
{
	crypto_generichash_state state;
} Digest;

extern void digest_begin(Digest *digest);

/* A part goes in behind its length, so that "ab","c" differs from "a","bc". */
extern void digest_add(Digest *digest, const void *data, size_t length);
extern void digest_add_text(Digest *digest, const char *text); /* NULL differs from "" */

extern bytea *digest_end(Digest *digest);
extern char *digest_hex(const bytea *digest);

/* The first 128 bits alone, in a type of that width. */
extern void digest_end_short(Digest *digest, pg_uuid_t *result);
extern char *digest_short_hex(const pg_uuid_t *digest);
