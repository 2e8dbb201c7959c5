/*
 * worker/webhook_worker.c
 *		The process that delivers webhooks of a database.
 *
 * It alone loads the library with libcurl.  Deliveries are claimed and committed, sent with no
 * transaction open, as many at a time as there is room for, and recorded as they end.  A
 * delivery that was sent and not recorded, because the process died, is sent again.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "job/endpoint.h"
#include "job/transport.h"
#include "worker/directory.h"
#include "worker/worker.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LIBRARY "pg_tenancy_http"
#define SYMBOL "tenancy_http_transport"
#define MAX_IN_FLIGHT 64
#define POLL_MS 100

static MemoryContext deliveries;
static const HttpTransport *transport;
static int in_flight = 0;
static bool has_left_work = false;

static void
on_webhook_worker_exit(int code, Datum argument)
{
	Oid database = DatumGetObjectId(argument);

	directory_leave_job_worker();
	if (code != 0 && !worker_is_told_to_stop())
		directory_note_failure(database);
	if (code != 0 || has_left_work)
		directory_note_jobs(database, WEBHOOK_WORKER, DUE_NOW);
}

static void
record(Delivery *delivery)
{
	worker_start_transaction("recording a delivery");
	delivery_record(delivery);
	worker_commit();
	MemoryContextDelete(delivery->memory);
}

/* How many were claimed. */
static int
claim(void)
{
	List *claimed;
	ListCell *cell;
	int count;

	worker_start_transaction("claiming deliveries");
	if (!extension_is_ready())
	{
		worker_commit();
		proc_exit(0);
	}
	directory_take_jobs(MyDatabaseId, WEBHOOK_WORKER);
	claimed = delivery_claim(MAX_IN_FLIGHT - in_flight, deliveries);
	worker_commit();

	foreach (cell, claimed)
	{
		Delivery *delivery = lfirst(cell);

		if (transport->start(&delivery->exchange))
			in_flight++;
		else
			record(delivery);
	}
	count = list_length(claimed);
	list_free(claimed);
	return count;
}

static void
work(void)
{
	TimestampTz idle_since = GetCurrentTimestamp();

	for (;;)
	{
		HttpExchange *done;
		int claimed = 0;

		CHECK_FOR_INTERRUPTS();
		if (worker_is_told_to_stop() || !setting_workers)
		{
			/* What is under way is not waited for: its lease ends with this process. */
			has_left_work = true;
			return;
		}
		if (in_flight < MAX_IN_FLIGHT)
			claimed = claim();
		if (claimed > 0 || in_flight > 0)
			idle_since = GetCurrentTimestamp();
		if (in_flight > 0)
		{
			while (in_flight > 0 && (done = transport->poll(POLL_MS)) != NULL)
			{
				in_flight--;
				record(done->owner);
			}
			continue;
		}
		if (claimed > 0)
			continue;
		if (GetCurrentTimestamp() - idle_since >= setting_runner_idle_timeout * INT64CONST(1000))
			return;
		directory_set_idle(true);
		worker_sleep(setting_runner_idle_timeout + 1);
		directory_set_idle(false);
	}
}

void
tenancy_webhook_worker_main(Datum argument)
{
	Oid database = DatumGetObjectId(argument);
	HttpTransportFunction load;

	worker_begin("pg_tenancy webhook worker");
	if (!directory_enter_job_worker(database, WEBHOOK_WORKER))
		proc_exit(0);
	before_shmem_exit(on_webhook_worker_exit, argument);
	load = (HttpTransportFunction) load_external_function(LIBRARY, SYMBOL, true, NULL);
	transport = load();
	worker_connect(database);
	deliveries = AllocSetContextCreate(TopMemoryContext, "pg_tenancy webhook worker",
									   ALLOCSET_DEFAULT_SIZES);
	work();
	proc_exit(0);
}

bool
webhook_worker_start(Oid database)
{
	return worker_start("webhook worker", "tenancy_webhook_worker_main", database);
}
