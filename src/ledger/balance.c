/*
 * ledger/balance.c
 *		The triggers that keep the ledger: balanced, and as it was posted.
 *
 * The entries that one statement adds make up whole transactions: numbered from 1, of one
 * tenant and one currency, rounded to it, and adding up to zero.  A later statement cannot
 * add to a transaction, for its numbers are taken.  The check reads the statement's rows
 * alone, so a run of a thousand documents costs a hash table of a thousand, and a restore,
 * which brings the table by one COPY, is checked like everything else.
 */
#include "postgres.h"

#include "core/compat.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#define CURRENCY_LENGTH 3

/* What the statement has of one transaction. */
typedef struct Posted
{
	pg_uuid_t transaction;
	uint32 status; /* of simplehash */
	int32 count;
	int32 last_position;
	pg_uuid_t tenant;
	char currency[CURRENCY_LENGTH + 1];
	int exponent;
	Numeric sum;
} Posted;

#define SH_PREFIX group
#define SH_ELEMENT_TYPE Posted
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY transaction
#define SH_HASH_KEY(table, key) hash_bytes((key).data, UUID_LEN)
#define SH_EQUAL(table, a, b) (memcmp((a).data, (b).data, UUID_LEN) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The columns of tenancy.ledger_entry, in its order. */
enum
{
	ENTRY_TRANSACTION = 1,
	ENTRY_POSITION,
	ENTRY_TENANT,
	ENTRY_ACCOUNT,
	ENTRY_CURRENCY,
	ENTRY_AMOUNT
};

static void
refuse(const pg_uuid_t *transaction, const char *detail)
{
	ereport(ERROR, errcode(ERRCODE_CHECK_VIOLATION),
			errmsg("ledger transaction \"%s\" is not balanced", id_text(transaction)),
			errdetail_internal("%s", detail));
}

static Datum
entry_column(TupleTableSlot *slot, int number)
{
	bool isnull;
	Datum value = slot_getattr(slot, number, &isnull);

	if (isnull)
		elog(ERROR, "column %d of an entry is null", number);
	return value;
}

static void
begin_group(Posted *group, TupleTableSlot *slot, const char *currency)
{
	group->count = 0;
	group->last_position = 0;
	group->tenant = *DatumGetUUIDP(entry_column(slot, ENTRY_TENANT));
	group->exponent = currency_exponent(currency);
	strlcpy(group->currency, currency, sizeof(group->currency));
	group->sum = numeric_from_int(0);
}

static bool
is_amount_of(Numeric amount, int exponent)
{
	return !numeric_is_nan(amount) && !numeric_is_inf(amount) &&
		   DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(amount))) <=
			   exponent;
}

static void
add_entry(group_hash *groups, TupleTableSlot *slot)
{
	pg_uuid_t *transaction = DatumGetUUIDP(entry_column(slot, ENTRY_TRANSACTION));
	Datum stored = entry_column(slot, ENTRY_AMOUNT);
	Numeric amount = DatumGetNumeric(stored);
	char currency[CURRENCY_LENGTH + 2];
	bool found;
	Posted *group = group_insert(groups, *transaction, &found);
	Numeric sum;

	text_to_cstring_buffer(DatumGetTextPP(entry_column(slot, ENTRY_CURRENCY)), currency,
						   sizeof(currency));
	if (!found)
		begin_group(group, slot, currency);
	else if (strcmp(group->currency, currency) != 0 ||
			 !id_equal(&group->tenant, DatumGetUUIDP(entry_column(slot, ENTRY_TENANT))))
		refuse(transaction, "Its entries are of several tenants or currencies.");
	if (!is_amount_of(amount, group->exponent))
		refuse(transaction,
			   psprintf("The amount %s is not one of %s.", numeric_text(amount), currency));

	group->count++;
	group->last_position =
		Max(group->last_position, DatumGetInt32(entry_column(slot, ENTRY_POSITION)));
	/* a restore brings millions: nothing is left behind for each */
	sum = numeric_plus(group->sum, amount);
	pfree(group->sum);
	group->sum = sum;
	if ((Pointer) amount != DatumGetPointer(stored))
		pfree(amount);
}

static void
check_group(const Posted *group)
{
	if (!numeric_is_zero(group->sum))
		refuse(&group->transaction, psprintf("Debits less credits are %s %s.",
											 numeric_text(group->sum), group->currency));
	/* each position once, by the primary key */
	if (group->last_position != group->count)
		refuse(&group->transaction, "Its entries are not all here, numbered from 1.");
}

/* tenancy.ledger_balance_check() → trigger */
TENANCY_FUNCTION(ledger_balance_check)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	MemoryContext context;
	MemoryContext old;
	group_hash *groups;
	group_iterator iterator;
	Posted *group;
	TupleTableSlot *slot;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) || trigger->tg_newtable == NULL)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("ledger_balance_check() is a trigger of INSERT with a transition table"));

	context = AllocSetContextCreate(CurrentMemoryContext, "ledger balance", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	groups = group_create(context, 1024, NULL);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigger->tg_relation), &TTSOpsMinimalTuple);
	tuplestore_select_read_pointer(trigger->tg_newtable, 0);
	tuplestore_rescan(trigger->tg_newtable);
	while (tuplestore_gettupleslot(trigger->tg_newtable, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		add_entry(groups, slot);
	}
	ExecDropSingleTupleTableSlot(slot);

	group_start_iterate(groups, &iterator);
	while ((group = group_iterate(groups, &iterator)) != NULL)
		check_group(group);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	PG_RETURN_POINTER(NULL);
}

/* tenancy.ledger_immutable() → trigger */
TENANCY_FUNCTION(ledger_immutable)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("ledger_immutable() is a trigger"));
	ereport(
		ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		errmsg("rows of \"%s\" cannot be changed", RelationGetRelationName(trigger->tg_relation)),
		errdetail("What was posted stays as it was."), errhint("Post the opposite."));
}
