/*
 * door.c
 *		The library pg_tenancy_door: the door's side of HTTP, by GNU libmicrohttpd.
 *
 * One process uses it, the worker at the door.  There are no threads; requests are GET, short,
 * and without a body; a client that dawdles is cut off.  Pages are made outside and only sent
 * here, so that one who fetches a large one holds up nobody.
 */
#include "postgres.h"

#include "fmgr.h"
#include "worker/door_server.h"

#include <microhttpd.h>
#include <sys/socket.h>
#include <time.h>

PG_MODULE_MAGIC;

extern PGDLLEXPORT const DoorServer *tenancy_door_server(void);

#define MAX_CONNECTIONS 512
#define BYTES_PER_CONNECTION 8192 /* the request with all its headers must fit in */
#define IDLE_SECONDS 30
#define FIRST_REQUEST_SECONDS 10
#define NEXT_REQUEST_SECONDS 60
#define ANY_TIMEOUT_MS 1000

#define TEXT_TYPE "text/plain; charset=utf-8"
#define JSON_TYPE "application/json"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static const struct
{
	const char *path;
	const char *type;
} pages[DOOR_PAGES] = {
	[DOOR_ASK] = {"/ask", TEXT_TYPE},
	[DOOR_HEALTH] = {"/healthz", JSON_TYPE},
	[DOOR_METRICS] = {"/metrics", METRICS_TYPE},
	[DOOR_TARGETS] = {"/sd", JSON_TYPE},
	[DOOR_OTHER] = {NULL, TEXT_TYPE},
};

typedef struct Connection
{
	int fd;
	time_t since; /* it was made, or its last request answered */
	bool has_asked;
	bool is_cut_off;
	struct Connection *next;
	struct Connection *previous;
} Connection;

static struct MHD_Daemon *http = NULL;
static const DoorCallbacks *callbacks;
static Connection *connections = NULL;
static unsigned connection_count = 0;
static uint64 cut_off = 0;
static time_t looked_at = 0;

/* What is published, and what is always the same. */
static struct MHD_Response *published[DOOR_PAGES];
static int published_status[DOOR_PAGES];
static struct MHD_Response *plain[DOOR_STATUSES];
static const char *const plain_texts[DOOR_STATUSES] = {
	"allowed\n",   "which domain?\n",       "not allowed\n",   "not found\n",
	"GET alone\n", "a body is not taken\n", "not known now\n",
};

static time_t
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
	return time.tv_sec;
}

static struct MHD_Response *
make_response(const char *type, const char *text, size_t length)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(length, (void *) text, MHD_RESPMEM_MUST_COPY);

	if (response == NULL)
		return NULL;
	(void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void) MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	return response;
}

static bool
make_plain_responses(void)
{
	for (int i = 0; i < DOOR_STATUSES; i++)
	{
		if (plain[i] == NULL)
			plain[i] = make_response(TEXT_TYPE, plain_texts[i], strlen(plain_texts[i]));
		if (plain[i] == NULL)
			return false;
		if (door_statuses[i] == MHD_HTTP_METHOD_NOT_ALLOWED)
			(void) MHD_add_response_header(plain[i], MHD_HTTP_HEADER_ALLOW, MHD_HTTP_METHOD_GET);
	}
	return true;
}

static enum MHD_Result
send_plain(struct MHD_Connection *connection, DoorPage page, int status)
{
	for (int i = 0; i < DOOR_STATUSES; i++)
	{
		if (door_statuses[i] != status)
			continue;
		callbacks->answered(page, status);
		return MHD_queue_response(connection, status, plain[i]);
	}
	return MHD_NO;
}

static DoorPage
page_of(const char *path)
{
	for (int page = 0; page < DOOR_OTHER; page++)
	{
		if (strcmp(pages[page].path, path) == 0)
			return page;
	}
	return DOOR_OTHER;
}

static bool
has_body(struct MHD_Connection *connection)
{
	const char *length =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return (length != NULL && strcmp(length, "0") != 0) ||
		   MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
									   MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

/* A value may hold a zero byte. */
static enum MHD_Result
answer_ask(struct MHD_Connection *connection)
{
	const char *domain = NULL;
	size_t length = 0;

	if (MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND, "domain", strlen("domain"),
									  &domain, &length) != MHD_YES ||
		domain == NULL)
		return send_plain(connection, DOOR_ASK, MHD_HTTP_BAD_REQUEST);
	return send_plain(connection, DOOR_ASK, callbacks->ask(domain, length));
}

/* First called with the headers alone. */
static enum MHD_Result
on_request(void *argument, struct MHD_Connection *connection, const char *path, const char *method,
		   const char *version, const char *upload, size_t *upload_length, void **request)
{
	DoorPage page = page_of(path);

	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
		return send_plain(connection, page, MHD_HTTP_METHOD_NOT_ALLOWED);
	if (has_body(connection))
		return send_plain(connection, page, MHD_HTTP_CONTENT_TOO_LARGE);
	if (*request == NULL)
	{
		*request = connection;
		return MHD_YES;
	}
	if (page == DOOR_OTHER)
		return send_plain(connection, page, MHD_HTTP_NOT_FOUND);
	if (page == DOOR_ASK)
		return answer_ask(connection);
	if (published[page] == NULL)
		return send_plain(connection, page, MHD_HTTP_SERVICE_UNAVAILABLE);
	callbacks->answered(page, published_status[page]);
	return MHD_queue_response(connection, published_status[page], published[page]);
}

static void
on_connection(void *argument, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	Connection *self = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

		self = calloc(1, sizeof(Connection));
		if (self == NULL || info == NULL)
		{
			free(self);
			return;
		}
		self->fd = info->connect_fd;
		self->since = now();
		self->next = connections;
		if (connections != NULL)
			connections->previous = self;
		connections = self;
		connection_count++;
		*context = self;
		return;
	}
	if (self == NULL)
		return;
	if (self->next != NULL)
		self->next->previous = self->previous;
	if (self->previous != NULL)
		self->previous->next = self->next;
	else
		connections = self->next;
	connection_count--;
	free(self);
	*context = NULL;
}

static void
on_completed(void *argument, struct MHD_Connection *connection, void **request,
			 enum MHD_RequestTerminationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	Connection *self = info == NULL ? NULL : info->socket_context;

	if (self == NULL)
		return;
	self->since = now();
	self->has_asked = true;
}

/* A byte now and then must not hold a connection for ever. */
static void
cut_off_slow(void)
{
	time_t at = now();

	if (at == looked_at)
		return;
	looked_at = at;
	for (Connection *c = connections; c != NULL; c = c->next)
	{
		if (c->is_cut_off ||
			at - c->since <= (c->has_asked ? NEXT_REQUEST_SECONDS : FIRST_REQUEST_SECONDS))
			continue;
		(void) shutdown(c->fd, SHUT_RDWR);
		c->is_cut_off = true;
		cut_off++;
	}
}

static bool
open_door(int listener, const DoorCallbacks *functions)
{
	callbacks = functions;
	if (!make_plain_responses())
		return false;
	http = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, NULL,
							MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
							(unsigned) MAX_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
							(size_t) BYTES_PER_CONNECTION, MHD_OPTION_CONNECTION_TIMEOUT,
							(unsigned) IDLE_SECONDS, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
							NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
	return http != NULL;
}

static void
close_door(void)
{
	if (http != NULL)
		MHD_stop_daemon(http);
	http = NULL;
}

static int
event_fd(void)
{
	return MHD_get_daemon_info(http, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

static int
run(void)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms = ANY_TIMEOUT_MS;

	(void) MHD_run(http);
	cut_off_slow();
	if (MHD_get_timeout(http, &timeout_ms) != MHD_YES)
		return ANY_TIMEOUT_MS;
	return (int) Min(timeout_ms, ANY_TIMEOUT_MS);
}

/* Who is being sent the former text keeps it. */
static void
publish(DoorPage page, int status, const char *text, size_t length)
{
	if (published[page] != NULL)
		MHD_destroy_response(published[page]);
	published[page] = text == NULL ? NULL : make_response(pages[page].type, text, length);
	published_status[page] = status;
}

static unsigned
open_count(void)
{
	return connection_count;
}

static uint64
cut_off_count(void)
{
	return cut_off;
}

const DoorServer *
tenancy_door_server(void)
{
	static const DoorServer server = {
		.open = open_door,
		.close = close_door,
		.event_fd = event_fd,
		.run = run,
		.publish = publish,
		.open_count = open_count,
		.cut_off_count = cut_off_count,
	};

	return &server;
}
