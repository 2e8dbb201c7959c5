/*
 * credit/reclaim.c
 *		Money that had become credit goes back: the credit is taken back with it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/id.h"
#include "core/money.h"
#include "credit/credit.h"
#include "credit/move.h"
#include "ledger/ledger.h"

#include "utils/fmgrprotos.h"

GATE_STATEMENT(credit_of_document,
			   "SELECT c.id, c.tenant_id, c.remaining"
			   "  FROM tenancy.credit c WHERE c.document_id = $1 AND c.remaining > 0"
			   " ORDER BY c.id FOR UPDATE",
			   UUIDOID);
GATE_STATEMENT(credit_users_of,
			   "SELECT DISTINCT e.document_id FROM tenancy.credit c"
			   "  JOIN tenancy.credit_entry e ON e.credit_id = c.id"
			   " WHERE c.document_id = $1 AND e.kind = 'use' ORDER BY 1",
			   UUIDOID);
GATE_STATEMENT(
	credit_lock_of_document,
	"SELECT c.id FROM tenancy.credit c WHERE c.document_id = $1 ORDER BY c.id FOR UPDATE", UUIDOID);
GATE_STATEMENT(credit_uses_of,
			   "SELECT c.id, c.tenant_id, -sum(e.amount), e.document_id, c.legal_entity, c.currency"
			   "  FROM tenancy.credit c JOIN tenancy.credit_entry e ON e.credit_id = c.id"
			   " WHERE c.document_id = $1 AND e.kind IN ('use', 'return')"
			   " GROUP BY c.id, e.document_id HAVING sum(e.amount) < 0"
			   " ORDER BY max(e.created_at) DESC, e.document_id DESC",
			   UUIDOID);

/* The columns. */
enum
{
	SOURCE_CREDIT,
	SOURCE_TENANT,
	SOURCE_AMOUNT,
	SOURCE_USER,
	SOURCE_LEGAL_ENTITY,
	SOURCE_CURRENCY
};

static CreditMove
move_of(const GateRows *rows, int64 row, const pg_uuid_t *document, Numeric amount)
{
	return (CreditMove){
		.id = *id_new(),
		.credit = *row_uuid(rows, row, SOURCE_CREDIT),
		.tenant = *row_uuid(rows, row, SOURCE_TENANT),
		.document = document,
		.amount = amount,
	};
}

Numeric
credit_take_back(const pg_uuid_t *document, const pg_uuid_t *refund, Numeric amount, TimestampTz at)
{
	GateRows *rows = gate_run(&credit_of_document, EXPECT_ANY, gate_uuid(document));
	CreditMove *moves = palloc(sizeof(CreditMove) * Max(rows->count, 1));
	Numeric left = amount;
	int count = 0;

	for (int64 i = 0; i < rows->count && !numeric_is_zero(left); i++)
	{
		Numeric part = numeric_smaller_of(row_numeric(rows, i, SOURCE_AMOUNT), left);

		left = numeric_minus(left, part);
		moves[count++] = move_of(rows, i, refund, numeric_negate(part));
	}
	credit_move(moves, count, "refund", at);
	return numeric_minus(amount, left);
}

pg_uuid_t *
credit_users(const pg_uuid_t *document, int *count)
{
	GateRows *rows = gate_run(&credit_users_of, EXPECT_ANY, gate_uuid(document));
	pg_uuid_t *users = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));

	*count = rows->count;
	for (int i = 0; i < *count; i++)
		users[i] = *row_uuid(rows, i, 0);
	return users;
}

static void
post_return(const GateRows *rows, int64 row, const pg_uuid_t *entry, Numeric amount, TimestampTz at)
{
	LedgerPosting posting = {
		.kind = "credit_return",
		.document = *row_uuid(rows, row, SOURCE_USER),
		.purpose = id_text(entry),
		.tenant = *row_uuid(rows, row, SOURCE_TENANT),
		.legal_entity = row_text(rows, row, SOURCE_LEGAL_ENTITY),
		.currency = row_text(rows, row, SOURCE_CURRENCY),
		.effective_at = at,
		.description = "the money behind the credit is gone",
	};

	ledger_debit(&posting, LEDGER_RECEIVABLE, amount);
	ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, amount);
	(void) ledger_post(&posting);
}

CreditReclaim *
credit_reclaim(const pg_uuid_t *document, const pg_uuid_t *refund, Numeric amount, TimestampTz at,
			   int *count, Numeric *reclaimed)
{
	GateRows *rows;
	CreditMove *returns;
	CreditMove *refunds;
	CreditReclaim *result;
	Numeric left = amount;

	gate_run(&credit_lock_of_document, EXPECT_ANY, gate_uuid(document));
	rows = gate_run(&credit_uses_of, EXPECT_ANY, gate_uuid(document));
	returns = palloc(sizeof(CreditMove) * Max(rows->count, 1));
	refunds = palloc(sizeof(CreditMove) * Max(rows->count, 1));
	result = palloc(sizeof(CreditReclaim) * Max(rows->count, 1));
	*count = 0;
	for (int64 i = 0; i < rows->count && !numeric_is_zero(left); i++)
	{
		Numeric part = numeric_smaller_of(row_numeric(rows, i, SOURCE_AMOUNT), left);

		left = numeric_minus(left, part);
		result[*count] =
			(CreditReclaim){.invoice = *row_uuid(rows, i, SOURCE_USER), .amount = part};
		returns[*count] = move_of(rows, i, &result[*count].invoice, part);
		refunds[*count] = move_of(rows, i, refund, numeric_negate(part));
		post_return(rows, i, &returns[*count].id, part, at);
		(*count)++;
	}
	/* what comes back remains for a moment, so that each entry is true by itself */
	credit_move(returns, *count, "return", at);
	credit_move(refunds, *count, "refund", at);
	*reclaimed = numeric_minus(amount, left);
	return result;
}
