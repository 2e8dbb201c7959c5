/*
 * billing/immutable.c
 *		The trigger that keeps what was issued as it was, whoever asks.
 *
 * A finalized invoice changes in its state and in what is settled of it alone; its lines, taxes
 * and discounts not at all, and none can be added: the invoice says how many there are, and
 * each position is taken.  (That rule lets a restore put them back.)  A credit note does not
 * change, and nothing is added to it, by the same rule.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/function.h"
#include "core/id.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "storage/proc.h"
#include "utils/datum.h"
#include "utils/rel.h"

GATE_LOOKUP(invoice_is_final,
			"SELECT i.line_count, i.tax_count, i.discount_count FROM tenancy.invoice i"
			" WHERE i.id = $1 AND i.state <> 'draft'",
			UUIDOID);
GATE_LOOKUP(credit_note_counts,
			"SELECT n.line_count, n.tax_count, 0 FROM tenancy.credit_note n WHERE n.id = $1",
			UUIDOID);

static void
refuse(const char *what)
{
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("%s cannot be changed", what), errdetail("What was issued stays as it was."),
			errhint("An invoice is corrected by credit_note_create(), or by invoice_void() and a "
					"new one."));
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
	static const char *const may_change[] = {
		"state",           "state_reason", "paid_at",    "amount_applied",
		"amount_credited", "amount_paid",  "amount_due", NULL};
	bool isnull;
	char *state = TextDatumGetCString(column(trigger->tg_trigtuple, desc, "state", &isnull));

	if (strcmp(state, "draft") == 0)
		return;
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!is_same_but_for(trigger->tg_trigtuple, trigger->tg_newtuple, desc, may_change))
		refuse("a finalized invoice");
}

/* The parts of invoices and credit notes, and where those say how many they have. */
static const struct
{
	const char *table;
	const char *part;
	const char *whole_column;
	GateStatement *counts;
	int count_column; /* of the statement */
} parts[] = {
	{"invoice_line", "a line of a finalized invoice", "invoice_id", &invoice_is_final, 0},
	{"invoice_tax", "a tax of a finalized invoice", "invoice_id", &invoice_is_final, 1},
	{"invoice_discount", "a discount of a finalized invoice", "invoice_id", &invoice_is_final, 2},
	{"credit_note_line", "a line of a credit note", "credit_note_id", &credit_note_counts, 0},
	{"credit_note_tax", "a tax of a credit note", "credit_note_id", &credit_note_counts, 1},
};

/*
 * How many parts of a kind the document has; -1 for a draft.  Many lines of an invoice are
 * written by one command, which cannot finalize it, too: the answer is kept that long.
 */
static int32
count_of(const pg_uuid_t *whole, GateStatement *counts, int count_column)
{
	static struct
	{
		pg_uuid_t whole;
		LocalTransactionId transaction;
		CommandId command;
		int32 counts[3];
	} last;
	CommandId command = GetCurrentCommandId(false);
	GateRows *rows;

	if (last.transaction == MyProc->lxid && last.command == command && id_equal(&last.whole, whole))
		return last.counts[count_column];
	rows = gate_run(counts, EXPECT_AT_MOST_ONE, gate_uuid(whole));
	for (int i = 0; i < lengthof(last.counts); i++)
		last.counts[i] = rows->count == 1 ? row_int32(rows, 0, i) : -1;
	last.whole = *whole;
	last.command = command;
	last.transaction = MyProc->lxid;
	return last.counts[count_column];
}

static void
check_part(TriggerData *trigger, TupleDesc desc, HeapTuple tuple, int n)
{
	bool isnull;
	pg_uuid_t *whole = DatumGetUUIDP(column(tuple, desc, parts[n].whole_column, &isnull));
	int32 position = DatumGetInt32(column(tuple, desc, "position", &isnull));
	int32 count = count_of(whole, parts[n].counts, parts[n].count_column);

	if (count >= 0 && (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) || position > count))
		refuse(parts[n].part);
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
	if (strcmp(table, "credit_note") == 0)
		refuse("a credit note");
	if (strcmp(table, "invoice") == 0)
		check_invoice(trigger, desc);
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (strcmp(table, parts[i].table) != 0)
			continue;
		check_part(trigger, desc, trigger->tg_trigtuple, i);
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			check_part(trigger, desc, trigger->tg_newtuple, i);
	}
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple
																	  : trigger->tg_trigtuple);
}
