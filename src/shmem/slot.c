/*
 * shmem/slot.c
 *		Fixed places per backend, numbered as the server's array of PGPROCs is.
 */
#include "postgres.h"

#include "core/compat.h"
#include "shmem/slot.h"

#include "miscadmin.h"
#include "storage/proc.h"

int
slot_count(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

int
slot_self(void)
{
	return compat_proc_number(MyProc);
}

int
slot_leader(void)
{
	PGPROC *leader = MyProc->lockGroupLeader;

	return compat_proc_number(leader != NULL ? leader : MyProc);
}
