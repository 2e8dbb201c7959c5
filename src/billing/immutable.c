/*
 * billing/immutable.c
 *		The trigger that keeps what was issued as it was, whoever asks.
 *
 * A finalized invoice changes in its state, the
 * reason for it and the time of payment alone; its lines not at all, and none can be
 * added: their number is fixed and each position is taken.  (That rule lets a restore
 * put back the lines of a finalized invoice.)
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/function.h"
#include "core/id.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "utils/datum.h"
#include "utils/rel.h"

GATE_LOOKUP(invoice_is_final,
			"SELECT i.line_count FROM tenancy.invoice i WHERE i.id = $1 AND i.state <> 'draft'",
			UUIDOID);

static void
refuse(const char *what)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("%s cannot be changed", what), errdetail("What was issued stays as it was."),
			errhint("An invoice is corrected by invoice_void() and a new one."));
}

static Datum
column(HeapTuple tuple, TupleDesc desc, const char *name, bool *isnull)
{
	for (int i = 0; i < desc->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return heap_getattr(tuple, i + 1, desc, isnull);
	}
	elog(ERROR, "there is no column \"%s\"", name);
}

/* Are the two rows equal in all columns but those named? */
static bool
is_same_but_for(HeapTuple a, HeapTuple b, TupleDesc desc, const char *const *except)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char *const *name = except;
		bool a_isnull;
		bool b_isnull;
		Datum a_value;
		Datum b_value;

		while (*name != NULL && strcmp(*name, NameStr(attribute->attname)) != 0)
			name++;
		if (*name != NULL || attribute->attisdropped)
			continue;
		a_value = heap_getattr(a, i + 1, desc, &a_isnull);
		b_value = heap_getattr(b, i + 1, desc, &b_isnull);
		if (a_isnull != b_isnull ||
			(!a_isnull &&
			 !datum_image_eq(a_value, b_value, attribute->attbyval, attribute->attlen)))
			return false;
	}
	return true;
}

static void
check_invoice(TriggerData *trigger, TupleDesc desc)
{
	static const char *const may_change[] = {"state", "state_reason", "paid_at", NULL};
	bool isnull;
	char *state = TextDatumGetCString(column(trigger->tg_trigtuple, desc, "state", &isnull));

	if (strcmp(state, "draft") == 0)
		return;
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!is_same_but_for(trigger->tg_trigtuple, trigger->tg_newtuple, desc, may_change))
		refuse("a finalized invoice");
}

static void
check_line(TriggerData *trigger, TupleDesc desc, HeapTuple tuple)
{
	bool isnull;
	pg_uuid_t *invoice = DatumGetUUIDP(column(tuple, desc, "invoice_id", &isnull));
	int32 position = DatumGetInt32(column(tuple, desc, "position", &isnull));
	GateRows *rows = gate_run(&invoice_is_final, EXPECT_AT_MOST_ONE, gate_uuid(invoice));

	if (rows->count == 0)
		return;
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) || position > row_int32(rows, 0, 0))
		refuse("a line of a finalized invoice");
}

/* tenancy.immutable_row() → trigger */
TENANCY_FUNCTION(immutable_row)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *table;
	TupleDesc desc;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("immutable_row() is a trigger"));
	table = RelationGetRelationName(trigger->tg_relation);
	desc = RelationGetDescr(trigger->tg_relation);
	if (TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		refuse(psprintf("table \"%s\"", table));

	if (strcmp(table, "invoice") == 0)
		check_invoice(trigger, desc);
	else
	{
		check_line(trigger, desc, trigger->tg_trigtuple);
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			check_line(trigger, desc, trigger->tg_newtuple);
	}
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																	  : trigger->tg_trigtuple);
}
