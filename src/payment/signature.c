/*
 * payment/signature.c
 *		The signatures of webhooks: Stripe's scheme, and Standard Webhooks version 1.
 *
 * Stripe ("Resolve webhook signature verification errors", docs.stripe.com): the header
 * Stripe-Signature is "t=<seconds>,v1=<hex>[,v1=<hex>…]", signed is "<t>.<body>", the key is
 * the secret as it is written.  Standard Webhooks (specification 1.0.0): the header
 * webhook-signature is "v1,<base64>[ v1,<base64>…]", signed is "<id>.<timestamp>.<body>", the
 * key is the base64 behind "whsec_".  Both may carry several signatures, and a receiver may
 * have several secrets while one is exchanged.
 */
#include "postgres.h"

#include "core/clock.h"
#include "crypto/hmac.h"
#include "payment/signature.h"

#include <ctype.h>

#include "utils/builtins.h"
#include "utils/memutils.h"

#define SECRET_PREFIX "whsec_"
#define LARGEST_KEY 256
#define SHORTEST_KEY 16

/* A signature that is offered, and those that the secrets would make. */
typedef struct Check
{
	unsigned char *expected; /* one a secret */
	int count;
	bool is_valid;
} Check;

char *
webhook_header(const Jsonb *headers, const char *name)
{
	JsonbIterator *iterator = JsonbIteratorInit((JsonbContainer *) &headers->root);
	JsonbValue key;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		JsonbValue value;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (key.val.string.len != strlen(name) ||
			pg_strncasecmp(key.val.string.val, name, key.val.string.len) != 0)
			continue;
		if (value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data) &&
			JsonContainerSize(value.val.binary.data) == 1)
			value = *getIthJsonbValueFromContainer(value.val.binary.data, 0);
		if (value.type == jbvString)
			return pnstrdup(value.val.string.val, value.val.string.len);
	}
	return NULL;
}

/* The bytes of a secret; 0 where it is none. */
static size_t
secret_key(const char *scheme, const char *secret, unsigned char key[LARGEST_KEY])
{
	size_t length;

	if (strcmp(scheme, "stripe") == 0)
	{
		length = strlen(secret);
		if (length > LARGEST_KEY)
			return 0;
		memcpy(key, secret, length);
		return length;
	}
	if (strncmp(secret, SECRET_PREFIX, strlen(SECRET_PREFIX)) == 0)
		secret += strlen(SECRET_PREFIX);
	if (sodium_base642bin(key, LARGEST_KEY, secret, strlen(secret), NULL, &length, NULL,
						  sodium_base64_VARIANT_ORIGINAL) != 0)
		return 0;
	return length;
}

const char *
signature_secret_fault(const char *scheme, const char *secret)
{
	unsigned char key[LARGEST_KEY];
	size_t length = secret_key(scheme, secret, key);

	sodium_memzero(key, sizeof(key));
	if (length >= SHORTEST_KEY)
		return NULL;
	return strcmp(scheme, "stripe") == 0 ? "16 to 256 characters"
										 : "base64 of 16 to 256 bytes, behind \"" SECRET_PREFIX
										   "\"";
}

static void
expect(Check *check, const Webhook *webhook, const char *const *secrets, int count,
	   const char *signed_head)
{
	check->expected = palloc(HMAC_LENGTH * Max(count, 1));
	check->count = count;
	check->is_valid = false;
	for (int i = 0; i < count; i++)
	{
		unsigned char key[LARGEST_KEY];
		size_t length = secret_key(webhook->scheme, secrets[i], key);
		Hmac hmac;

		hmac_begin(&hmac, key, length);
		hmac_add(&hmac, signed_head, strlen(signed_head));
		hmac_add(&hmac, webhook->body, strlen(webhook->body));
		hmac_end(&hmac, check->expected + i * HMAC_LENGTH);
		sodium_memzero(key, sizeof(key));
	}
}

static void
offer(Check *check, const unsigned char *signature)
{
	/* all are looked at, whichever fits */
	for (int i = 0; i < check->count; i++)
		check->is_valid |= hmac_equal(signature, check->expected + i * HMAC_LENGTH);
}

/* Seconds since 1970 in digits; false for anything else. */
static bool
is_in_time(const char *text, TimestampTz at, bool *is_near)
{
	char *end;
	int64 seconds;

	if (!isdigit((unsigned char) *text) || strlen(text) > 12)
		return false;
	seconds = strtoll(text, &end, 10);
	if (*end != '\0')
		return false;
	*is_near = Abs(clock_unix_milliseconds(at) / 1000 - seconds) <= SIGNATURE_TOLERANCE_SECONDS;
	return true;
}

static const char *
verdict(const Check *check, bool is_near)
{
	if (!check->is_valid)
		return "the signature is not one of its secrets";
	return is_near ? NULL : "the signature is too old, or of the future";
}

static const char *
stripe_fault(const Webhook *webhook, const char *const *secrets, int secret_count)
{
	char *header = webhook_header(webhook->headers, "Stripe-Signature");
	const char *time = NULL;
	const char **offered;
	int offered_count = 0;
	bool is_near;
	Check check;
	char *part;
	char *rest;

	if (header == NULL)
		return "the header Stripe-Signature is missing";
	offered = palloc(sizeof(char *) * (strlen(header) / 2 + 1));
	for (part = strtok_r(header, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest))
	{
		while (*part == ' ')
			part++;
		if (strncmp(part, "t=", 2) == 0)
			time = part + 2;
		else if (strncmp(part, "v1=", 3) == 0)
			offered[offered_count++] = part + 3;
	}
	if (time == NULL || !is_in_time(time, webhook->at, &is_near))
		return "the header Stripe-Signature has no time";
	expect(&check, webhook, secrets, secret_count, psprintf("%s.", time));
	for (int i = 0; i < offered_count; i++)
	{
		unsigned char signature[HMAC_LENGTH];
		size_t length;

		if (sodium_hex2bin(signature, sizeof(signature), offered[i], strlen(offered[i]), NULL,
						   &length, NULL) == 0 &&
			length == HMAC_LENGTH)
			offer(&check, signature);
	}
	return verdict(&check, is_near);
}

static const char *
standard_fault(const Webhook *webhook, const char *const *secrets, int secret_count)
{
	char *id = webhook_header(webhook->headers, "webhook-id");
	char *time = webhook_header(webhook->headers, "webhook-timestamp");
	char *header = webhook_header(webhook->headers, "webhook-signature");
	bool is_near;
	Check check;
	char *part;
	char *rest;

	if (id == NULL || *id == '\0' || time == NULL || header == NULL)
		return "one of the headers webhook-id, webhook-timestamp and webhook-signature is missing";
	if (!is_in_time(time, webhook->at, &is_near))
		return "the header webhook-timestamp is no time";
	expect(&check, webhook, secrets, secret_count, psprintf("%s.%s.", id, time));
	for (part = strtok_r(header, " ", &rest); part != NULL; part = strtok_r(NULL, " ", &rest))
	{
		unsigned char signature[HMAC_LENGTH];
		size_t length;

		if (strncmp(part, "v1,", 3) == 0 &&
			sodium_base642bin(signature, sizeof(signature), part + 3, strlen(part + 3), NULL,
							  &length, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
			length == HMAC_LENGTH)
			offer(&check, signature);
	}
	return verdict(&check, is_near);
}

const char *
signature_fault(const Webhook *webhook, const char *const *secrets, int secret_count)
{
	if (strcmp(webhook->scheme, "stripe") == 0)
		return stripe_fault(webhook, secrets, secret_count);
	return standard_fault(webhook, secrets, secret_count);
}
