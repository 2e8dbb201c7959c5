/*
 * job/signature.h
 *		Signatures of Standard Webhooks 1.0: v1 (HMAC-SHA256) and v1a (Ed25519).
 */
#pragma once

#include "postgres.h"

typedef enum SignatureScheme
{
	SIGNATURE_V1,
	SIGNATURE_V1A
} SignatureScheme;

/* "v1" or "v1a"; 22023 otherwise. */
extern SignatureScheme signature_scheme(const char *name);
extern const char *signature_scheme_name(SignatureScheme scheme);

/* A new secret, and what the receiver verifies with: "whsec_…", or "whpk_…" of a pair. */
extern bytea *signature_new_secret(SignatureScheme scheme);
extern char *signature_receiver_key(SignatureScheme scheme, const bytea *secret);

/* The secret in "whsec_…" or "whsk_…"; 22023 where it is none. */
extern bytea *signature_read_secret(const char *text, SignatureScheme *scheme);

/* "v1,<base64>" over "<id>.<timestamp>.<body>". */
extern char *signature_make(SignatureScheme scheme, const bytea *secret, const char *id,
							int64 timestamp, const char *body);
