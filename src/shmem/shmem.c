/*
 * shmem/shmem.c
 *		The registry of what lives in shared memory.
 *
 * Nothing here survives a crash of the server: the postmaster starts over with
 * zeroed memory, and each part's init function runs again.
 */
#include "postgres.h"

#include "shmem/shmem.h"
#include "shmem/table.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

static SharedPart *parts = NULL;
static bool is_ready = false;

void
shmem_register(SharedPart *part)
{
	part->next = parts;
	parts = part;
}

bool
shmem_is_ready(void)
{
	return is_ready;
}

void
shmem_request(void)
{
	for (SharedPart *part = parts; part != NULL; part = part->next)
	{
		RequestAddinShmemSpace(MAXALIGN(part->size()));
		if (part->lock_count != NULL)
			RequestNamedLWLockTranche(part->name, part->lock_count());
	}
	RequestAddinShmemSpace(shared_table_memory());
}

void
shmem_startup(void)
{
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (SharedPart *part = parts; part != NULL; part = part->next)
	{
		bool found;
		Size size = part->size();
		void *memory = ShmemInitStruct(part->name, size, &found);

		*part->memory = memory;
		if (part->locks != NULL)
			*part->locks = GetNamedLWLockTranche(part->name);
		if (!found)
		{
			memset(memory, 0, size);
			if (part->init != NULL)
				part->init(memory);
		}
	}
	shared_table_startup();
	LWLockRelease(AddinShmemInitLock);
	is_ready = true;
}
