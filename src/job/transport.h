/*
 * job/transport.h
 *		What the library pg_tenancy_http offers to the worker that delivers webhooks.
 *
 * It is a library of its own so that no session carries libcurl.  The worker loads it and asks
 * it for its table of functions by the symbol "tenancy_http_transport".
 */
#pragma once

#include "postgres.h"

#include <sys/socket.h>

#define HTTP_KEPT_BYTES 2048
#define HTTP_ERROR_BYTES 256

typedef struct HttpExchange
{
	/* Set by the caller, and valid until it is done. */
	const char *url;
	const char *const *headers; /* NULL-terminated */
	const char *body;
	long timeout_ms;
	bool (*may_connect)(const struct sockaddr *address, bool is_encrypted);
	void *owner;

	/* How it went. */
	long status; /* 0: there was no answer */
	int64 retry_after_seconds;
	int64 elapsed_ms;
	bool is_refused; /* by may_connect() */
	char error[HTTP_ERROR_BYTES];
	char answer[HTTP_KEPT_BYTES + 1]; /* the beginning of the body */
	size_t answer_length;
	void *handles; /* of the library */
} HttpExchange;

typedef struct HttpTransport
{
	/* POST; false, with the error, where it cannot even begin. */
	bool (*start)(HttpExchange *exchange);
	/* Wait for something to happen, at most so long; one that is done, or NULL. */
	HttpExchange *(*poll)(int timeout_ms);
} HttpTransport;

typedef const HttpTransport *(*HttpTransportFunction)(void);
