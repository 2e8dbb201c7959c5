/*
 * catalog/gate_insert.c
 *		Rows into one of our tables without a statement.
 *
 * Starting and ending an executor costs several times what writing a short row does, and
 * usage events come one a transaction.  This does what INSERT … ON CONFLICT DO NOTHING does
 * below its executor, as tenancy_owner like all of the gate: the row, every index that the
 * table has, and a speculative insertion where one of them is unique.
 *
 * The caller answers for what is not looked at here: NOT NULL, checks, the bounds of a
 * partition.  Our tables have no column defaults that it leaves out and no triggers of ours
 * that want single rows; others cannot make any (nobody else has TRIGGER on them).
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/compat.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

struct GateInsert
{
	Relation relation;
	EState *estate;
	ResultRelInfo *target;
	TupleTableSlot *slot;
	bool has_unique;
	Oid saved_user;
	int saved_context;
};

GateInsert *
gate_insert_begin(const char *table)
{
	GateInsert *insert = palloc0(sizeof(GateInsert));

	extension_require();
	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");

	insert->relation = table_open(extension_relation(table), RowExclusiveLock);
	insert->estate = CreateExecutorState();
	insert->estate->es_output_cid = GetCurrentCommandId(true);
	insert->target = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->target, insert->relation, 0, NULL, 0);
	ExecOpenIndices(insert->target, true);
	for (int i = 0; i < insert->target->ri_NumIndices; i++)
		insert->has_unique |= insert->target->ri_IndexRelationInfo[i]->ii_Unique;
	insert->slot = table_slot_create(insert->relation, NULL);

	/* Indexes may have expressions. */
	GetUserIdAndSecContext(&insert->saved_user, &insert->saved_context);
	SetUserIdAndSecContext(extension_owner(), insert->saved_context | SECURITY_LOCAL_USERID_CHANGE);
	return insert;
}

/* As ExecInsert() does it for ON CONFLICT DO NOTHING. */
static bool
insert_unless_there(GateInsert *insert)
{
	ItemPointerData conflict;

	for (;;)
	{
		bool is_taken = false;
		uint32 token;

		if (!compat_check_index_constraints(insert->target, insert->slot, insert->estate,
											&conflict))
			return false;
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(insert->relation, insert->slot,
									   insert->estate->es_output_cid, 0, NULL, token);
		(void) compat_insert_index_tuples(insert->target, insert->slot, insert->estate, true,
										  &is_taken);
		table_tuple_complete_speculative(insert->relation, insert->slot, token, !is_taken);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		if (!is_taken)
			return true;

		/* Somebody else was faster, and may yet abort: look again. */
		CHECK_FOR_INTERRUPTS();
	}
}

bool
gate_insert_row(GateInsert *insert, const Datum *values, const bool *nulls)
{
	int natts = insert->slot->tts_tupleDescriptor->natts;
	bool is_new = true;

	ExecClearTuple(insert->slot);
	memcpy(insert->slot->tts_values, values, sizeof(Datum) * natts);
	memcpy(insert->slot->tts_isnull, nulls, sizeof(bool) * natts);
	ExecStoreVirtualTuple(insert->slot);
	insert->slot->tts_tableOid = RelationGetRelid(insert->relation);

	if (insert->has_unique)
		is_new = insert_unless_there(insert);
	else
	{
		table_tuple_insert(insert->relation, insert->slot, insert->estate->es_output_cid, 0, NULL);
		(void) compat_insert_index_tuples(insert->target, insert->slot, insert->estate, false,
										  NULL);
	}
	ResetPerTupleExprContext(insert->estate);
	return is_new;
}

void
gate_insert_end(GateInsert *insert)
{
	SetUserIdAndSecContext(insert->saved_user, insert->saved_context);
	ExecDropSingleTupleTableSlot(insert->slot);
	ExecCloseIndices(insert->target);
	FreeExecutorState(insert->estate);
	table_close(insert->relation, NoLock);
	pfree(insert);

	/* What comes next in the transaction sees the rows. */
	CommandCounterIncrement();
}
