/*
 * credit/apply.c
 *		Invoices take credit: which of which, for a thousand at once.
 *
 * One statement locks what the tenants of the batch have, and returns it in the order of use;
 * where that is nothing, which is the rule, it was the only one.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/money.h"
#include "credit/credit.h"
#include "credit/move.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

GATE_STATEMENT(
	credit_available,
	"WITH available AS MATERIALIZED ("
	"    SELECT c.id, c.tenant_id, c.currency, c.remaining, c.priority, c.expires_at, c.created_at"
	"      FROM tenancy.credit c"
	"     WHERE (c.tenant_id, c.currency) IN (SELECT u.t, u.c FROM unnest($1, $2) AS u(t, c))"
	"       AND c.remaining > 0 AND (c.expires_at IS NULL OR c.expires_at > $3)"
	"     ORDER BY c.id FOR UPDATE)"
	" SELECT a.id, a.tenant_id, a.currency, a.remaining FROM available a"
	"  ORDER BY a.tenant_id, a.currency COLLATE \"C\", a.priority, a.expires_at NULLS LAST,"
	"           a.created_at, a.id",
	UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(credit_change,
			   "UPDATE tenancy.credit c SET remaining = c.remaining + u.amount"
			   "  FROM (SELECT m.id, sum(m.amount) AS amount FROM unnest($1, $2) AS m(id, amount)"
			   "         GROUP BY m.id) u"
			   " WHERE c.id = u.id",
			   UUIDARRAYOID, NUMERICARRAYOID);
GATE_STATEMENT(
	credit_entry_insert,
	"INSERT INTO tenancy.credit_entry (id, credit_id, tenant_id, kind, document_id, amount,"
	"    created_at)"
	" SELECT u.id, u.credit_id, u.tenant_id, $6, nullif(u.document_id,"
	"        '00000000-0000-0000-0000-000000000000'), u.amount, $7"
	"   FROM unnest($1, $2, $3, $4, $5) AS u(id, credit_id, tenant_id, document_id, amount)",
	UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, NUMERICARRAYOID, TEXTOID,
	TIMESTAMPTZOID);

void
credit_move(const CreditMove *moves, int count, const char *kind, TimestampTz at)
{
	static const pg_uuid_t none = {{0}};
	Size size = sizeof(Datum) * Max(count, 1);
	Datum *ids = palloc(size);
	Datum *credits = palloc(size);
	Datum *tenants = palloc(size);
	Datum *documents = palloc(size);
	Datum *amounts = palloc(size);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		ids[i] = UUIDPGetDatum(&moves[i].id);
		credits[i] = UUIDPGetDatum(&moves[i].credit);
		tenants[i] = UUIDPGetDatum(&moves[i].tenant);
		documents[i] = UUIDPGetDatum(moves[i].document != NULL ? moves[i].document : &none);
		amounts[i] = NumericGetDatum(moves[i].amount);
	}
	gate_run(&credit_change, EXPECT_ANY, gate_array(credits, count, UUIDOID),
			 gate_array(amounts, count, NUMERICOID));
	gate_run(&credit_entry_insert, EXPECT_ANY, gate_array(ids, count, UUIDOID),
			 gate_array(credits, count, UUIDOID), gate_array(tenants, count, UUIDOID),
			 gate_array(documents, count, UUIDOID), gate_array(amounts, count, NUMERICOID),
			 gate_text(kind), gate_timestamptz(at));
}

/* A credit that is locked, and what is still left of it. */
typedef struct Available
{
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *currency;
	Numeric left;
} Available;

typedef struct AvailableList
{
	Available *items; /* by tenant and currency, then in the order of use */
	int count;
} AvailableList;

static AvailableList
lock_available(const CreditDemand *demands, int count, TimestampTz at)
{
	Datum *tenants = palloc(sizeof(Datum) * Max(count, 1));
	Datum *currencies = palloc(sizeof(Datum) * Max(count, 1));
	AvailableList list;
	GateRows *rows;

	for (int i = 0; i < count; i++)
	{
		tenants[i] = UUIDPGetDatum(&demands[i].tenant);
		currencies[i] = CStringGetTextDatum(demands[i].currency);
	}
	rows = gate_run(&credit_available, EXPECT_ANY, gate_array(tenants, count, UUIDOID),
					gate_array(currencies, count, TEXTOID), gate_timestamptz(at));
	list = (AvailableList){.items = palloc(sizeof(Available) * Max(rows->count, 1)),
						   .count = rows->count};
	for (int i = 0; i < list.count; i++)
		list.items[i] = (Available){
			.id = *row_uuid(rows, i, 0),
			.tenant = *row_uuid(rows, i, 1),
			.currency = row_text(rows, i, 2),
			.left = row_numeric(rows, i, 3),
		};
	return list;
}

static int
compare_owner(const Available *item, const CreditDemand *demand)
{
	int order = memcmp(item->tenant.data, demand->tenant.data, UUID_LEN);

	return order != 0 ? order : strcmp(item->currency, demand->currency);
}

/* The first credit of the demand's tenant and currency, or the place where it would be. */
static int
find_first(const AvailableList *list, const CreditDemand *demand)
{
	int low = 0;
	int high = list->count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (compare_owner(&list->items[middle], demand) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Take from the list what the demand needs; moves for it are added. */
static int
take(AvailableList *list, CreditDemand *demand, CreditMove *moves)
{
	Numeric need = demand->due;
	int count = 0;

	for (int i = find_first(list, demand);
		 i < list->count && compare_owner(&list->items[i], demand) == 0 &&
		 numeric_compare(need, numeric_zero()) > 0;
		 i++)
	{
		Available *item = &list->items[i];
		Numeric part = numeric_smaller_of(item->left, need);

		if (numeric_is_zero(part))
			continue;
		item->left = numeric_minus(item->left, part);
		need = numeric_minus(need, part);
		moves[count++] = (CreditMove){
			.id = *id_new(),
			.credit = item->id,
			.tenant = demand->tenant,
			.document = &demand->document,
			.amount = numeric_negate(part),
		};
	}
	demand->applied = count > 0 ? numeric_minus(demand->due, need) : NULL;
	return count;
}

static LedgerPosting
posting_of(const CreditDemand *demand, const pg_uuid_t *entry, TimestampTz at)
{
	LedgerPosting posting = {
		.kind = "credit_use",
		.document = demand->document,
		.purpose = id_text(entry), /* an invoice can take credit again */
		.tenant = demand->tenant,
		.legal_entity = demand->legal_entity,
		.currency = demand->currency,
		.effective_at = at,
	};

	ledger_debit(&posting, LEDGER_CUSTOMER_CREDIT, demand->applied);
	ledger_credit(&posting, LEDGER_RECEIVABLE, demand->applied);
	return posting;
}

int
credit_apply_many(CreditDemand *demands, int count, TimestampTz at)
{
	AvailableList list = lock_available(demands, count, at);
	CreditMove *moves;
	LedgerPosting *postings;
	int move_count = 0;
	int taker_count = 0;

	for (int i = 0; i < count; i++)
		demands[i].applied = NULL;
	if (list.count == 0)
		return 0;

	/* a demand ends at most one credit that it does not use up */
	moves = palloc(sizeof(CreditMove) * (list.count + count));
	postings = palloc(sizeof(LedgerPosting) * count);
	for (int i = 0; i < count; i++)
	{
		int taken = take(&list, &demands[i], moves + move_count);

		if (taken > 0)
			postings[taker_count++] = posting_of(&demands[i], &moves[move_count].id, at);
		move_count += taken;
	}
	credit_move(moves, move_count, "use", at);
	(void) ledger_post_many(postings, taker_count);
	return taker_count;
}
