/*
 * ledger/ledger.c
 *		Posting: accounts, amounts, and the two statements that write them.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"
#include "ledger/ledger.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

/* ids in the order of the arrays: the newest at the right edge of the index */
GATE_STATEMENT(
	ledger_transaction_insert,
	"INSERT INTO tenancy.ledger_transaction AS t (id, tenant_id, legal_entity, kind, document_id,"
	"    purpose, currency, effective_at, recorded_at, description)"
	" SELECT u.id, u.tenant_id, u.legal_entity, u.kind, u.document_id, u.purpose, u.currency,"
	"        u.effective_at, $10, u.description"
	"   FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS u(id, tenant_id, legal_entity, kind,"
	"        document_id, purpose, currency, effective_at, description)"
	" ON CONFLICT (document_id, kind, purpose) DO NOTHING RETURNING t.id",
	UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	ledger_entry_insert,
	"INSERT INTO tenancy.ledger_entry (transaction_id, position, tenant_id, account, currency,"
	"    amount)"
	" SELECT u.transaction_id, u.position, u.tenant_id, u.account, u.currency, u.amount"
	"   FROM unnest($1, $2, $3, $4, $5, $6)"
	"     AS u(transaction_id, position, tenant_id, account, currency, amount)",
	UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID);
GATE_STATEMENT(ledger_posted_amounts,
			   "SELECT e.account, sum(e.amount)"
			   "  FROM tenancy.ledger_transaction t"
			   "  JOIN tenancy.ledger_entry e ON e.transaction_id = t.id"
			   " WHERE t.document_id = $1 AND t.kind = ANY ($2)"
			   " GROUP BY e.account",
			   UUIDOID, TEXTARRAYOID);

static const char *const account_names[LEDGER_ACCOUNT_COUNT] = {
	[LEDGER_RECEIVABLE] = "receivable",
	[LEDGER_CASH] = "cash",
	[LEDGER_DISPUTED] = "disputed",
	[LEDGER_REVENUE] = "revenue",
	[LEDGER_DEFERRED] = "deferred_revenue",
	[LEDGER_TAX_PAYABLE] = "tax_payable",
	[LEDGER_CUSTOMER_CREDIT] = "customer_credit",
	[LEDGER_PROMOTION] = "promotion",
	[LEDGER_BREAKAGE] = "breakage",
	[LEDGER_WRITE_OFF] = "write_off",
};

const char *
ledger_account_name(LedgerAccount account)
{
	return account_names[account];
}

static LedgerAccount
find_account(const char *name)
{
	for (int i = 0; i < LEDGER_ACCOUNT_COUNT; i++)
	{
		if (strcmp(account_names[i], name) == 0)
			return i;
	}
	elog(ERROR, "there is no account \"%s\"", name);
}

void
ledger_debit(LedgerPosting *posting, LedgerAccount account, Numeric amount)
{
	if (amount == NULL)
		return;
	if (posting->amounts[account] != NULL)
		amount = numeric_plus(posting->amounts[account], amount);
	posting->amounts[account] = amount;
}

void
ledger_credit(LedgerPosting *posting, LedgerAccount account, Numeric amount)
{
	if (amount == NULL)
		return;
	ledger_debit(posting, account, numeric_negate(amount));
}

Numeric
ledger_credited(const LedgerPosting *posting, LedgerAccount account)
{
	return posting->amounts[account] == NULL ? numeric_zero()
											 : numeric_negate(posting->amounts[account]);
}

bool
ledger_add_reverse(LedgerPosting *posting, const char *const *kinds, int kind_count)
{
	GateRows *rows = gate_run(&ledger_posted_amounts, EXPECT_ANY, gate_uuid(&posting->document),
							  gate_text_array(kinds, kind_count));

	for (int64 i = 0; i < rows->count; i++)
		ledger_credit(posting, find_account(row_text(rows, i, 0)), row_numeric(rows, i, 1));
	return rows->count > 0;
}

static bool
has_amount(const LedgerPosting *posting, LedgerAccount account)
{
	return posting->amounts[account] != NULL && !numeric_is_zero(posting->amounts[account]);
}

static int
count_entries(const LedgerPosting *posting)
{
	int count = 0;

	for (int i = 0; i < LEDGER_ACCOUNT_COUNT; i++)
		count += has_amount(posting, i);
	return count;
}

/* Those with entries; the transactions' ids are in "ids", in the same order. */
typedef struct Batch
{
	const LedgerPosting **postings;
	pg_uuid_t *ids;
	int count;
	int entry_count;
} Batch;

static Batch
make_batch(const LedgerPosting *postings, int count)
{
	Batch batch = {.postings = palloc(sizeof(LedgerPosting *) * Max(count, 1)),
				   .ids = palloc(sizeof(pg_uuid_t) * Max(count, 1))};

	for (int i = 0; i < count; i++)
	{
		int entries = count_entries(&postings[i]);

		if (entries == 0)
			continue;
		batch.postings[batch.count] = &postings[i];
		batch.ids[batch.count] = *id_new();
		batch.count++;
		batch.entry_count += entries;
	}
	return batch;
}

/* A text and its datum: those of neighbours in a run are mostly the same. */
typedef struct Repeated
{
	const char *text;
	Datum datum;
} Repeated;

static Datum
text_datum(Repeated *last, const char *text)
{
	if (text == NULL)
		text = "";
	if (last->text == NULL || strcmp(last->text, text) != 0)
		*last = (Repeated){.text = text, .datum = CStringGetTextDatum(text)};
	return last->datum;
}

static GateRows *
insert_transactions(const Batch *batch)
{
	Size size = sizeof(Datum) * batch->count;
	Datum *ids = palloc(size);
	Datum *tenants = palloc(size);
	Datum *entities = palloc(size);
	Datum *kinds = palloc(size);
	Datum *documents = palloc(size);
	Datum *purposes = palloc(size);
	Datum *currencies = palloc(size);
	Datum *times = palloc(size);
	Datum *descriptions = palloc(size);
	Repeated entity = {NULL};
	Repeated kind = {NULL};
	Repeated purpose = {NULL};
	Repeated currency = {NULL};
	Repeated description = {NULL};

	for (int i = 0; i < batch->count; i++)
	{
		const LedgerPosting *posting = batch->postings[i];

		ids[i] = UUIDPGetDatum(&batch->ids[i]);
		tenants[i] = UUIDPGetDatum(&posting->tenant);
		entities[i] = text_datum(&entity, posting->legal_entity);
		kinds[i] = text_datum(&kind, posting->kind);
		documents[i] = UUIDPGetDatum(&posting->document);
		purposes[i] = text_datum(&purpose, posting->purpose);
		currencies[i] = text_datum(&currency, posting->currency);
		times[i] = TimestampTzGetDatum(posting->effective_at);
		descriptions[i] = text_datum(&description, posting->description);
	}
	return gate_run(
		&ledger_transaction_insert, EXPECT_ANY, gate_array(ids, batch->count, UUIDOID),
		gate_array(tenants, batch->count, UUIDOID), gate_array(entities, batch->count, TEXTOID),
		gate_array(kinds, batch->count, TEXTOID), gate_array(documents, batch->count, UUIDOID),
		gate_array(purposes, batch->count, TEXTOID), gate_array(currencies, batch->count, TEXTOID),
		gate_array(times, batch->count, TIMESTAMPTZOID),
		gate_array(descriptions, batch->count, TEXTOID), gate_timestamptz(clock_now()));
}

/*
 * The entries of those transactions that were inserted, which come back in the order of the
 * arrays.
 */
static void
insert_entries(const Batch *batch, const GateRows *inserted)
{
	Size size = sizeof(Datum) * batch->entry_count;
	Datum *transactions = palloc(size);
	Datum *positions = palloc(size);
	Datum *tenants = palloc(size);
	Datum *accounts = palloc(size);
	Datum *currencies = palloc(size);
	Datum *amounts = palloc(size);
	Datum names[LEDGER_ACCOUNT_COUNT];
	Repeated currency = {NULL};
	int64 next = 0;
	int count = 0;

	for (int i = 0; i < LEDGER_ACCOUNT_COUNT; i++)
		names[i] = CStringGetTextDatum(account_names[i]);
	for (int i = 0; i < batch->count && next < inserted->count; i++)
	{
		const LedgerPosting *posting = batch->postings[i];
		int32 position = 0;

		if (!id_equal(&batch->ids[i], row_uuid(inserted, next, 0)))
			continue;
		next++;
		for (int account = 0; account < LEDGER_ACCOUNT_COUNT; account++)
		{
			if (!has_amount(posting, account))
				continue;
			transactions[count] = UUIDPGetDatum(&batch->ids[i]);
			positions[count] = Int32GetDatum(++position);
			tenants[count] = UUIDPGetDatum(&posting->tenant);
			accounts[count] = names[account];
			currencies[count] = text_datum(&currency, posting->currency);
			amounts[count] = NumericGetDatum(posting->amounts[account]);
			count++;
		}
	}
	if (next < inserted->count)
		elog(ERROR, "transactions of the ledger came back in another order");
	gate_run(&ledger_entry_insert, EXPECT_ANY, gate_array(transactions, count, UUIDOID),
			 gate_array(positions, count, INT4OID), gate_array(tenants, count, UUIDOID),
			 gate_array(accounts, count, TEXTOID), gate_array(currencies, count, TEXTOID),
			 gate_array(amounts, count, NUMERICOID));
}

int64
ledger_post_many(const LedgerPosting *postings, int count)
{
	Batch batch = make_batch(postings, count);
	GateRows *inserted;

	if (batch.count == 0)
		return 0;
	inserted = insert_transactions(&batch);
	if (inserted->count > 0)
		insert_entries(&batch, inserted);
	return inserted->count;
}

bool
ledger_post(const LedgerPosting *posting)
{
	return ledger_post_many(posting, 1) > 0;
}

/* tenancy.ledger_accounts() → SETOF text */
TENANCY_FUNCTION(ledger_accounts)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; i < LEDGER_ACCOUNT_COUNT; i++)
	{
		Datum name = CStringGetTextDatum(account_names[i]);
		bool isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &name, &isnull);
	}
	return (Datum) 0;
}
