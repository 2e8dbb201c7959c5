/*
 * core/state.c
 *		State machines as tables: {from, event, to}.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/state.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/tuplestore.h"

static StateMachine *machines = NULL;

void
state_machine_register(StateMachine *machine)
{
	machine->next = machines;
	machines = machine;
}

const char *
state_after(const StateMachine *machine, const char *from, const char *event, const char *object)
{
	StringInfoData possible;

	for (int i = 0; i < machine->move_count; i++)
	{
		const StateMove *move = &machine->moves[i];

		if (strcmp(move->from, from) == 0 && strcmp(move->event, event) == 0)
			return move->to;
	}

	initStringInfo(&possible);
	for (int i = 0; i < machine->move_count; i++)
	{
		const StateMove *move = &machine->moves[i];

		if (strcmp(move->from, from) == 0)
			appendStringInfo(&possible, "%s\"%s\"", possible.len > 0 ? ", " : "", move->event);
	}
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("cannot %s %s \"%s\": it is %s", event, machine->name, object, from),
			possible.len > 0 ? errdetail("Possible in this state: %s.", possible.data)
							 : errdetail("This state is final."));
}

/* tenancy.state_moves() → TABLE(machine, relation, from_state, event, to_state) */
TENANCY_FUNCTION(state_moves)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (StateMachine *machine = machines; machine != NULL; machine = machine->next)
	{
		for (int i = 0; i < machine->move_count; i++)
		{
			const StateMove *move = &machine->moves[i];
			bool nulls[5] = {false};
			Datum values[5] = {
				CStringGetTextDatum(machine->name), CStringGetTextDatum(machine->table),
				CStringGetTextDatum(move->from),    CStringGetTextDatum(move->event),
				CStringGetTextDatum(move->to),
			};

			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}
