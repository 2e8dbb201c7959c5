/*
 * shmem/shmem.h
 *		The registry of what lives in shared memory: {name, size, init}.
 *
 * One table drives both the request and the start-up, so that nothing can be
 * used that was not asked for.
 */
#pragma once

#include "postgres.h"

#include "storage/lwlock.h"

typedef struct SharedPart
{
	const char *name;           /* unique; also the name of its LWLock tranche */
	Size (*size)(void);         /* bytes, once the settings are final */
	int (*lock_count)(void);    /* LWLocks it wants; NULL for none */
	void (*init)(void *memory); /* first process only: memory comes zeroed */
	void **memory;              /* set in every process */
	LWLockPadded **locks;       /* set in every process; NULL for none */
	struct SharedPart *next;    /* owned by shmem.c */
} SharedPart;

/* From the init function of a module, in the postmaster. */
extern void shmem_register(SharedPart *part);

/* For the hooks of the same names. */
extern void shmem_request(void);
extern void shmem_startup(void);

/* False in a process that was started without the library preloaded. */
extern bool shmem_is_ready(void);
