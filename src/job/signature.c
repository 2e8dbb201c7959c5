/*
 * job/signature.c
 *		Signatures of Standard Webhooks 1.0: v1 (HMAC-SHA256) and v1a (Ed25519).
 */
#include "postgres.h"

#include "core/function.h"
#include "crypto/hmac.h"
#include "job/signature.h"

#include "utils/builtins.h"

#include <sodium.h>

/* The specification asks for 24 to 64 bytes. */
#define SHORTEST_SECRET 24
#define LONGEST_SECRET 64
#define NEW_SECRET 32

static const struct
{
	const char *name;
	const char *secret_prefix;
	const char *receiver_prefix;
} schemes[] = {
	[SIGNATURE_V1] = {"v1", "whsec_", "whsec_"},
	[SIGNATURE_V1A] = {"v1a", "whsk_", "whpk_"},
};

SignatureScheme
signature_scheme(const char *name)
{
	for (int i = 0; i < lengthof(schemes); i++)
	{
		if (strcmp(schemes[i].name, name) == 0)
			return (SignatureScheme) i;
	}
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("invalid signature scheme \"%s\"", name),
			errhint("Possible: \"v1\" for HMAC-SHA256, \"v1a\" for Ed25519."));
}

const char *
signature_scheme_name(SignatureScheme scheme)
{
	return schemes[scheme].name;
}

static bytea *
bytes(const unsigned char *data, size_t length)
{
	bytea *result = palloc(VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), data, length);
	return result;
}

static char *
base64(const unsigned char *data, size_t length)
{
	size_t size = sodium_base64_ENCODED_LEN(length, sodium_base64_VARIANT_ORIGINAL);

	return sodium_bin2base64(palloc(size), size, data, length, sodium_base64_VARIANT_ORIGINAL);
}

bytea *
signature_new_secret(SignatureScheme scheme)
{
	unsigned char public_key[crypto_sign_PUBLICKEYBYTES];
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	bytea *result;

	if (scheme == SIGNATURE_V1A)
		crypto_sign_keypair(public_key, secret);
	else
		randombytes_buf(secret, NEW_SECRET);
	result = bytes(secret, scheme == SIGNATURE_V1A ? crypto_sign_SECRETKEYBYTES : NEW_SECRET);
	sodium_memzero(secret, sizeof(secret));
	return result;
}

char *
signature_receiver_key(SignatureScheme scheme, const bytea *secret)
{
	const unsigned char *data = (const unsigned char *) VARDATA_ANY(secret);
	size_t length = VARSIZE_ANY_EXHDR(secret);

	/* libsodium keeps the public half behind the seed. */
	if (scheme == SIGNATURE_V1A)
	{
		data += crypto_sign_SEEDBYTES;
		length = crypto_sign_PUBLICKEYBYTES;
	}
	return psprintf("%s%s", schemes[scheme].receiver_prefix, base64(data, length));
}

static bool
fits(SignatureScheme scheme, size_t length)
{
	return scheme == SIGNATURE_V1A ? length == crypto_sign_SECRETKEYBYTES
								   : length >= SHORTEST_SECRET && length <= LONGEST_SECRET;
}

bytea *
signature_read_secret(const char *text, SignatureScheme *scheme)
{
	unsigned char data[crypto_sign_SECRETKEYBYTES + 1];
	size_t length;

	for (int i = 0; i < lengthof(schemes); i++)
	{
		size_t prefix = strlen(schemes[i].secret_prefix);

		if (strncmp(text, schemes[i].secret_prefix, prefix) != 0)
			continue;
		if (sodium_base642bin(data, sizeof(data), text + prefix, strlen(text + prefix), NULL,
							  &length, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 ||
			!fits((SignatureScheme) i, length))
			break;
		*scheme = (SignatureScheme) i;
		return bytes(data, length);
	}
	ereport(
		ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid secret for webhooks"),
		errdetail("It is \"whsec_\" and 24 to 64 bytes in base64, or \"whsk_\" and the 64 bytes "
				  "of an Ed25519 secret key."));
}

char *
signature_make(SignatureScheme scheme, const bytea *secret, const char *id, int64 timestamp,
			   const char *body)
{
	char *signed_content = psprintf("%s." INT64_FORMAT ".%s", id, timestamp, body);
	const unsigned char *content = (const unsigned char *) signed_content;
	const unsigned char *key = (const unsigned char *) VARDATA_ANY(secret);
	unsigned char out[Max(crypto_sign_BYTES, HMAC_LENGTH)];
	size_t length = HMAC_LENGTH;
	Hmac hmac;

	if (scheme == SIGNATURE_V1A)
	{
		crypto_sign_detached(out, NULL, content, strlen(signed_content), key);
		length = crypto_sign_BYTES;
	}
	else
	{
		hmac_begin(&hmac, key, VARSIZE_ANY_EXHDR(secret));
		hmac_add(&hmac, content, strlen(signed_content));
		hmac_end(&hmac, out);
	}
	return psprintf("%s,%s", schemes[scheme].name, base64(out, length));
}

/* tenancy.webhook_signature(secret text, id text, timestamp bigint, body text) → text */
TENANCY_FUNCTION(webhook_signature)
{
	SignatureScheme scheme;
	bytea *secret = signature_read_secret(text_to_cstring(PG_GETARG_TEXT_PP(0)), &scheme);

	PG_RETURN_TEXT_P(
		cstring_to_text(signature_make(scheme, secret, text_to_cstring(PG_GETARG_TEXT_PP(1)),
									   PG_GETARG_INT64(2), text_to_cstring(PG_GETARG_TEXT_PP(3)))));
}
