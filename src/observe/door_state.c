/*
 * observe/door_state.c
 *		The door, in shared memory.  Nothing of it survives a crash.
 */
#include "postgres.h"

#include "observe/door_state.h"
#include "shmem/shmem.h"

DoorState *door_state;

static Size
state_size(void)
{
	return sizeof(DoorState);
}

static void
state_init(void *memory)
{
	DoorState *state = memory;

	pg_atomic_init_u32(&state->door, 0);
	pg_atomic_init_u32(&state->reader, 0);
	pg_atomic_init_u32(&state->database, InvalidOid);
	pg_atomic_init_u32(&state->connections, 0);
	pg_atomic_init_u64(&state->read_at, 0);
	pg_atomic_init_u64(&state->cut_off, 0);
	for (int page = 0; page < DOOR_PAGES; page++)
	{
		for (int status = 0; status < DOOR_STATUSES; status++)
			pg_atomic_init_u64(&state->served[page][status], 0);
	}
}

static SharedPart part = {
	.name = "pg_tenancy door",
	.size = state_size,
	.init = state_init,
	.memory = (void **) &door_state,
};

void
door_count(DoorPage page, int status)
{
	for (int i = 0; i < DOOR_STATUSES; i++)
	{
		if (door_statuses[i] == status)
			(void) pg_atomic_fetch_add_u64(&door_state->served[page][i], 1);
	}
}

void
observe_init(void)
{
	shmem_register(&part);
}
