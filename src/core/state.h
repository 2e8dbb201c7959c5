/*
 * core/state.h
 *		State machines as tables: {from, event, to}.
 *
 * A state is a text with a CHECK in the table that holds it; the machine here is
 * the one place that says which moves exist.  A test compares the two.
 */
#pragma once

#include "postgres.h"

typedef struct StateMove
{
	const char *from;
	const char *event;
	const char *to;
} StateMove;

typedef struct StateMachine
{
	const char *name;  /* "tenant", "invoice", … */
	const char *table; /* the table whose column "state" it governs */
	const StateMove *moves;
	int move_count;
	struct StateMachine *next; /* owned by state.c */
} StateMachine;

/* Make the machine visible to the SQL function tenancy.state_moves(). */
extern void state_machine_register(StateMachine *machine);

/*
 * The state that the event leads to from "from".  Raises 55000, naming the object,
 * its state and the events that are possible, where there is no such move.
 */
extern const char *state_after(const StateMachine *machine, const char *from, const char *event,
							   const char *object);
