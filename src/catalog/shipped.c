/*
 * catalog/shipped.c
 *		Rows that the install script brings and users change: their way through a dump.
 *
 * A changed row is the user's ("shipped" is false) and is dumped; where the dump is restored the
 * install script has brought it anew.  Where nothing refers to rows, both stand beside each other,
 * "shipped" being part of the key.  Elsewhere this trigger makes room: what comes in replaces what
 * was shipped under its key.  Whoever changes such a row must UPDATE it, for it may be referred to.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/function.h"

#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/rel.h"

static int
column_number(Relation relation, const char *name)
{
	TupleDesc desc = RelationGetDescr(relation);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	elog(ERROR, "table \"%s\" has no column \"%s\"", RelationGetRelationName(relation), name);
}

/* tenancy.replace_shipped(): BEFORE INSERT FOR EACH ROW; the argument is the key, a text. */
TENANCY_FUNCTION(replace_shipped)
{
	static const Oid types[] = {TEXTOID};
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation relation;
	const char *key;
	Datum shipped;
	NullableDatum value;
	GateScope scope;
	bool is_null;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("replace_shipped() is a trigger before INSERT of rows, with one argument"));
	relation = trigger->tg_relation;
	key = trigger->tg_trigger->tgargs[0];
	shipped = heap_getattr(trigger->tg_trigtuple, column_number(relation, "shipped"),
						   RelationGetDescr(relation), &is_null);
	if (!is_null && DatumGetBool(shipped))
		return PointerGetDatum(trigger->tg_trigtuple);
	value.value = heap_getattr(trigger->tg_trigtuple, column_number(relation, key),
							   RelationGetDescr(relation), &value.isnull);
	gate_enter(&scope, extension_owner(), "pg_catalog");
	(void) gate_query_text(psprintf("DELETE FROM tenancy.%s r WHERE r.%s = $1 AND r.shipped",
									quote_identifier(RelationGetRelationName(relation)),
									quote_identifier(key)),
						   lengthof(types), types, &value);
	gate_leave(&scope);
	return PointerGetDatum(trigger->tg_trigtuple);
}
