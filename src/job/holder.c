/*
 * job/holder.c
 *		Who holds jobs: so that what a dead process held is taken up at once.
 *
 * A process id alone may be another process's by now, hence the time of the start beside it.
 * Each slot has one writer, its backend; a reader who sees half of a write takes a process
 * for dead that has just begun, which holds nothing yet.
 */
#include "postgres.h"

#include "core/compat.h"
#include "job/queue_internal.h"
#include "shmem/shmem.h"
#include "shmem/slot.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"

typedef struct Holder
{
	int pid;
	TimestampTz since;
} Holder;

static Holder *holders;

static Size
holders_size(void)
{
	return mul_size(slot_count(), sizeof(Holder));
}

static SharedPart holders_part = {
	.name = "pg_tenancy job holders",
	.size = holders_size,
	.memory = (void **) &holders,
};

void
holder_init(void)
{
	shmem_register(&holders_part);
}

static void
withdraw(int code, Datum argument)
{
	holders[slot_self()].pid = 0;
}

TimestampTz
holder_publish(void)
{
	Holder *self = &holders[slot_self()];

	if (self->pid != MyProcPid)
	{
		self->since = MyStartTimestamp;
		self->pid = MyProcPid;
		before_shmem_exit(withdraw, (Datum) 0);
	}
	return MyStartTimestamp;
}

bool
holder_is_alive(int pid, TimestampTz since)
{
	for (int i = 0; i < slot_count(); i++)
	{
		if (holders[i].pid == pid && holders[i].since == since)
			return BackendPidGetProc(pid) != NULL;
	}
	return false;
}
