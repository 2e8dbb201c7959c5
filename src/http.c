/*
 * http.c
 *		The library pg_tenancy_http: POST by libcurl, many at a time.
 *
 * One process uses it, the worker that delivers webhooks.  Redirects are not followed,
 * proxies of the environment not used, and each address that is about to be connected to is
 * shown to the caller first: what a name resolves to a moment later does not matter.
 */
#include "postgres.h"

#include "fmgr.h"
#include "job/transport.h"

#include <curl/curl.h>
#include <unistd.h>

PG_MODULE_MAGIC;

extern PGDLLEXPORT const HttpTransport *tenancy_http_transport(void);

typedef struct Handles
{
	CURL *easy;
	struct curl_slist *headers;
	char error[CURL_ERROR_SIZE];
} Handles;

static CURLM *multi = NULL;

static size_t
keep_answer(char *data, size_t size, size_t count, void *argument)
{
	HttpExchange *exchange = argument;
	size_t kept = Min(size * count, HTTP_KEPT_BYTES - exchange->answer_length);

	memcpy(exchange->answer + exchange->answer_length, data, kept);
	exchange->answer_length += kept;
	return size * count;
}

static curl_socket_t
open_socket(void *argument, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpExchange *exchange = argument;
	bool is_encrypted = strncmp(exchange->url, "https:", 6) == 0;

	if (!exchange->may_connect(&address->addr, is_encrypted))
	{
		exchange->is_refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void
release(Handles *handles)
{
	if (handles->easy != NULL)
		curl_easy_cleanup(handles->easy);
	curl_slist_free_all(handles->headers);
	free(handles);
}

static bool
configure(HttpExchange *exchange, Handles *handles)
{
	CURL *easy = handles->easy;
	CURLcode result = CURLE_OK;

#define SET(option, value)                                                                         \
	result = result == CURLE_OK ? curl_easy_setopt(easy, option, value) : result
	SET(CURLOPT_URL, exchange->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TIMEOUT_MS, exchange->timeout_ms);
	SET(CURLOPT_CONNECTTIMEOUT_MS, exchange->timeout_ms / 2);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDS, exchange->body);
	SET(CURLOPT_POSTFIELDSIZE, (long) strlen(exchange->body));
	SET(CURLOPT_HTTPHEADER, handles->headers);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, exchange);
	SET(CURLOPT_WRITEFUNCTION, keep_answer);
	SET(CURLOPT_WRITEDATA, exchange);
	SET(CURLOPT_ERRORBUFFER, handles->error);
	SET(CURLOPT_PRIVATE, exchange);
#undef SET
	if (result != CURLE_OK)
		strlcpy(exchange->error, curl_easy_strerror(result), sizeof(exchange->error));
	return result == CURLE_OK;
}

static bool
start(HttpExchange *exchange)
{
	Handles *handles = calloc(1, sizeof(Handles));

	if (handles == NULL || (handles->easy = curl_easy_init()) == NULL)
	{
		free(handles);
		strlcpy(exchange->error, "out of memory", sizeof(exchange->error));
		return false;
	}
	for (const char *const *header = exchange->headers; *header != NULL; header++)
	{
		struct curl_slist *longer = curl_slist_append(handles->headers, *header);

		if (longer != NULL)
			handles->headers = longer;
	}
	if (!configure(exchange, handles) || curl_multi_add_handle(multi, handles->easy) != CURLM_OK)
	{
		release(handles);
		return false;
	}
	exchange->handles = handles;
	return true;
}

static HttpExchange *
finish(CURL *easy, CURLcode result)
{
	HttpExchange *exchange;
	Handles *handles;
	curl_off_t retry_after = 0;
	curl_off_t elapsed_us = 0;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &exchange);
	handles = exchange->handles;
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &exchange->status);
	curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after);
	curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &elapsed_us);
	exchange->retry_after_seconds = retry_after;
	exchange->elapsed_ms = elapsed_us / 1000;
	exchange->answer[exchange->answer_length] = '\0';
	if (result != CURLE_OK)
	{
		exchange->status = 0;
		strlcpy(exchange->error,
				handles->error[0] != '\0' ? handles->error : curl_easy_strerror(result),
				sizeof(exchange->error));
	}
	curl_multi_remove_handle(multi, easy);
	release(handles);
	exchange->handles = NULL;
	return exchange;
}

static HttpExchange *
next_done(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		if (message->msg == CURLMSG_DONE)
			return finish(message->easy_handle, message->data.result);
	}
	return NULL;
}

static HttpExchange *
poll_once(int timeout_ms)
{
	HttpExchange *done;
	int running;

	curl_multi_perform(multi, &running);
	done = next_done();
	if (done != NULL || running == 0)
		return done;
	curl_multi_poll(multi, NULL, 0, timeout_ms, NULL);
	curl_multi_perform(multi, &running);
	return next_done();
}

const HttpTransport *
tenancy_http_transport(void)
{
	static const HttpTransport transport = {.start = start, .poll = poll_once};

	if (multi == NULL)
	{
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
			(multi = curl_multi_init()) == NULL)
			ereport(ERROR, errmsg("could not initialize libcurl"));
	}
	return &transport;
}
