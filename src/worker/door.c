/*
 * worker/door.c
 *		The process that answers HTTP on this machine.
 *
 * It is connected to no database, so that nothing of a database can hold it up and it is in
 * nobody's way: /ask is answered from shared memory, and the other pages are texts that the
 * reader has left in a file.  One thread waits for its latch and for libmicrohttpd's
 * descriptor.  Also a standby has a door: /healthz then says why the other pages say 503.
 */
#include "postgres.h"

#include "core/address.h"
#include "core/settings.h"
#include "domain/domain.h"
#include "observe/door_state.h"
#include "worker/directory.h"
#include "worker/door.h"
#include "worker/door_server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LIBRARY "pg_tenancy_door"
#define SYMBOL "tenancy_door_server"
#define RESTART_SECONDS 1
#define BACKLOG 511
#define RETRY_MS 2000
/* A page is stale when the reader has missed so many turns. */
#define MISSED_TURNS 3
#define SLACK_US (5 * USECS_PER_SEC)

static const DoorServer *server;
static MemoryContext scratch;
static char *served_address = NULL; /* in TopMemoryContext; NULL: the door is shut */
static char *problems = NULL;       /* what the reader has found, in TopMemoryContext */
static uint64 loaded_at = 0;
static WaitEventSet *events = NULL;

static void
on_door_exit(int code, Datum argument)
{
	uint32 self = MyProcPid;

	if (served_address != NULL && *served_address == '/')
		(void) unlink(served_address);
	(void) pg_atomic_compare_exchange_u32(&door_state->door, &self, 0);
}

static int
ask(const char *domain, size_t length)
{
	Oid database = pg_atomic_read_u32(&door_state->database);
	DomainAnswer answer =
		OidIsValid(database) ? domain_ask(database, domain, length) : DOMAIN_UNKNOWN;

	switch (answer)
	{
		case DOMAIN_ALLOWED:
			return 200;
		case DOMAIN_REFUSED:
			return 403;
		case DOMAIN_UNKNOWN:
			break;
	}
	door_wake_reader();
	return 503;
}

static const DoorCallbacks callbacks = {.ask = ask, .answered = door_count};

/* A socket that nobody listens on any more is in the way of the next. */
static void
remove_stale_socket(const struct sockaddr_un *address)
{
	struct stat status;
	int probe;

	if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
		return;
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return;
	if (connect(probe, (const struct sockaddr *) address, sizeof(*address)) != 0 &&
		errno == ECONNREFUSED)
		(void) unlink(address->sun_path);
	close(probe);
}

/* -1, with errno, where it fails. */
static int
listen_on(const char *text)
{
	struct sockaddr_storage address;
	int length = address_read_listen(text, &address);
	int one = 1;
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int saved_errno;

	if (fd < 0)
		return -1;
	if (address.ss_family == AF_UNIX)
		remove_stale_socket((struct sockaddr_un *) &address);
	else
		(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *) &address, length) == 0 && listen(fd, BACKLOG) == 0)
	{
		/* Who may reach it is a matter of its directory, as with the server's own sockets. */
		if (address.ss_family == AF_UNIX)
			(void) chmod(text, 0777);
		return fd;
	}
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return -1;
}

static void
shut(void)
{
	if (served_address == NULL)
		return;
	FreeWaitEventSet(events);
	server->close();
	if (*served_address == '/')
		(void) unlink(served_address);
	pfree(served_address);
	served_address = NULL;
}

static bool
open_at(const char *address)
{
	int listener = listen_on(address);

	if (listener < 0)
	{
		ereport(LOG, errcode_for_socket_access(),
				errmsg("the door could not listen on \"%s\": %m", address));
		return false;
	}
	if (!server->open(listener, &callbacks))
	{
		close(listener);
		ereport(LOG, errmsg("the door could not be opened on \"%s\"", address));
		return false;
	}
	served_address = MemoryContextStrdup(TopMemoryContext, address);
	events = CreateWaitEventSet(TopMemoryContext, 3);
	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(events, WL_SOCKET_READABLE, server->event_fd(), NULL, NULL);
	ereport(LOG, errmsg("the door is open on \"%s\"", address));
	return true;
}

/* What the reader has left; false where it is no whole file. */
static bool
take_file(void)
{
	int fd = OpenTransientFile(DOOR_FILE, O_RDONLY | PG_BINARY);
	DoorFile head;
	char *texts[DOOR_TEXTS];
	bool is_whole;

	if (fd < 0)
		return false;
	is_whole = read(fd, &head, sizeof(head)) == sizeof(head) && head.magic == DOOR_MAGIC;
	for (int i = 0; i < DOOR_TEXTS && is_whole; i++)
	{
		texts[i] = MemoryContextAllocHuge(scratch, (Size) head.lengths[i] + 1);
		is_whole = read(fd, texts[i], head.lengths[i]) == (ssize_t) head.lengths[i];
		texts[i][head.lengths[i]] = '\0';
	}
	CloseTransientFile(fd);
	if (!is_whole)
		return false;
	server->publish(DOOR_METRICS, 200, texts[DOOR_TEXT_METRICS], head.lengths[DOOR_TEXT_METRICS]);
	server->publish(DOOR_TARGETS, 200, texts[DOOR_TEXT_TARGETS], head.lengths[DOOR_TEXT_TARGETS]);
	if (problems != NULL)
		pfree(problems);
	problems = MemoryContextStrdup(TopMemoryContext, texts[DOOR_TEXT_PROBLEMS]);
	return true;
}

static void
add_problem(StringInfo list, const char *problem)
{
	if (list->len > 0)
		appendStringInfoString(list, ", ");
	escape_json(list, problem);
}

/* What a load balancer wants to know, and a human why. */
static void
publish_health(bool is_stale)
{
	TimestampTz read_at = pg_atomic_read_u64(&door_state->read_at);
	StringInfoData list;
	StringInfoData text;

	initStringInfo(&list);
	if (RecoveryInProgress())
		add_problem(&list, "the server is in recovery");
	else
	{
		if (!directory_has_launcher())
			add_problem(&list, "the launcher is not there");
		if (*setting_http_database == '\0')
			add_problem(&list, "tenancy.http_database is not set");
		else if (read_at == 0)
			add_problem(&list, "the database has not been read");
		else if (is_stale)
			add_problem(&list, "the database has not been read for too long");
		if (problems != NULL && *problems != '\0')
		{
			char *problem = pstrdup(problems);

			for (char *next; problem != NULL; problem = next)
			{
				next = strchr(problem, '\n');
				if (next != NULL)
					*next++ = '\0';
				add_problem(&list, problem);
			}
		}
	}
	initStringInfo(&text);
	appendStringInfo(&text, "{\"status\": \"%s\", \"problems\": [%s]",
					 list.len == 0 ? "ok" : "failing", list.data);
	if (read_at != 0)
		appendStringInfo(&text, ", \"age_seconds\": %ld",
						 (long) ((GetCurrentTimestamp() - read_at) / USECS_PER_SEC));
	appendStringInfoString(&text, "}\n");
	server->publish(DOOR_HEALTH, list.len == 0 ? 200 : 503, text.data, text.len);
}

/* Once a second. */
static void
look_around(void)
{
	static TimestampTz looked_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	uint64 read_at = pg_atomic_read_u64(&door_state->read_at);
	bool is_stale = read_at == 0 ||
					now - (TimestampTz) read_at >
						setting_http_refresh_interval * MISSED_TURNS * INT64CONST(1000) + SLACK_US;

	if (now - looked_at < USECS_PER_SEC)
		return;
	looked_at = now;
	MemoryContextSwitchTo(scratch);
	if (read_at != loaded_at && take_file())
		loaded_at = read_at;
	if (is_stale)
	{
		server->publish(DOOR_METRICS, 503, NULL, 0);
		server->publish(DOOR_TARGETS, 503, NULL, 0);
	}
	publish_health(is_stale);
	MemoryContextReset(scratch);
	pg_atomic_write_u32(&door_state->connections, server->open_count());
	pg_atomic_write_u64(&door_state->cut_off, server->cut_off_count());
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (*setting_http_listen == '\0')
		proc_exit(0);
	if (served_address != NULL && strcmp(served_address, setting_http_listen) != 0)
		shut();
}

static void
serve(void)
{
	while (!worker_is_told_to_stop())
	{
		WaitEvent event;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		if (served_address == NULL && !open_at(setting_http_listen))
		{
			worker_sleep(RETRY_MS);
			continue;
		}
		look_around();
		(void) WaitEventSetWait(events, server->run(), &event, 1, PG_WAIT_EXTENSION);
		if (event.events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
}

void
tenancy_door_main(Datum argument)
{
	DoorServerFunction load;
	uint32 nobody = 0;

	worker_begin("pg_tenancy door");
	if (*setting_http_listen == '\0' ||
		!pg_atomic_compare_exchange_u32(&door_state->door, &nobody, MyProcPid))
		proc_exit(0);
	before_shmem_exit(on_door_exit, (Datum) 0);
	load = (DoorServerFunction) load_external_function(LIBRARY, SYMBOL, true, NULL);
	server = load();
	scratch = AllocSetContextCreate(TopMemoryContext, "pg_tenancy door", ALLOCSET_DEFAULT_SIZES);
	serve();
	shut();
	/* After an exit with 0 the postmaster would not start it again. */
	proc_exit(1);
}

static void
describe(BackgroundWorker *worker)
{
	*worker = (BackgroundWorker){
		.bgw_flags = BGWORKER_SHMEM_ACCESS,
		.bgw_start_time = BgWorkerStart_ConsistentState,
		.bgw_restart_time = RESTART_SECONDS,
	};
	snprintf(worker->bgw_name, BGW_MAXLEN, "pg_tenancy door");
	snprintf(worker->bgw_type, BGW_MAXLEN, "pg_tenancy door");
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "pg_tenancy");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "tenancy_door_main");
}

void
door_register(void)
{
	BackgroundWorker worker;

	if (*setting_http_listen == '\0')
		return;
	describe(&worker);
	RegisterBackgroundWorker(&worker);
}

bool
door_start(void)
{
	BackgroundWorker worker;

	if (pg_atomic_read_u32(&door_state->door) != 0)
		return true;
	describe(&worker);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

void
door_wake_reader(void)
{
	pid_t pid = pg_atomic_read_u32(&door_state->reader);
	PGPROC *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}
