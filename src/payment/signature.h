/*
 * payment/signature.h
 *		Who has sent a webhook: the signature schemes.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* How far the time of a signature may be from ours, either way. */
#define SIGNATURE_TOLERANCE_SECONDS 300

/* A webhook as it came in; the body byte for byte. */
typedef struct Webhook
{
	const char *scheme; /* "stripe" or "standard" */
	const char *body;
	const Jsonb *headers; /* names in any case; values are texts, or arrays of texts */
	TimestampTz at;       /* now */
} Webhook;

/*
 * Is it signed with one of the secrets?  NULL when it is, else why not, in a few words that tell
 * nothing of a secret.
 */
extern const char *signature_fault(const Webhook *webhook, const char *const *secrets,
								   int secret_count);

/* A header whatever the case of its name; NULL where there is none. */
extern char *webhook_header(const Jsonb *headers, const char *name);

/* NULL where a text can be a secret of the scheme, else what is expected. */
extern const char *signature_secret_fault(const char *scheme, const char *secret);
