/*
 * credit/credit.c
 *		Granting credit, expiring and revoking it, and giving it back.
 *
 * What remains of a credit is its amount and the sum of its entries: both change in one place,
 * credit_move(), under the lock of the credit.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "credit/credit.h"
#include "credit/move.h"
#include "job/kind.h"
#include "job/outbox.h"
#include "ledger/ledger.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* What expires in one transaction's step. */
#define EXPIRY_BATCH 1000

GATE_STATEMENT(credit_insert,
			   "INSERT INTO tenancy.credit (id, tenant_id, currency, source, reason, amount,"
			   "    remaining, priority, legal_entity, document_id, expires_at, created_at)"
			   " VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, nullif($10, 'infinity'), $11)",
			   UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID, INT4OID, TEXTOID, UUIDOID,
			   TIMESTAMPTZOID, TIMESTAMPTZOID);
GATE_STATEMENT(credit_whole_row, "SELECT c FROM tenancy.credit c WHERE c.id = $1", UUIDOID);
GATE_LOOKUP(credit_account,
			"SELECT coalesce(a.legal_entity, 'default'),"
			"       (SELECT s.currency FROM tenancy.subscription s WHERE s.tenant_id = t.id"
			"         ORDER BY s.state = 'ended', s.created_at DESC LIMIT 1)"
			"  FROM tenancy.tenant t"
			"  LEFT JOIN tenancy.billing_account a ON a.tenant_id = t.id"
			" WHERE t.id = $1",
			UUIDOID);
/* The rows are looked up without their locks, then taken in the order of their ids. */
GATE_STATEMENT(credit_expired,
			   "SELECT c.id, c.tenant_id, c.currency, c.source, c.legal_entity, c.remaining"
			   "  FROM tenancy.credit c"
			   " WHERE c.id IN (SELECT e.id FROM tenancy.credit e"
			   "                 WHERE e.remaining > 0 AND e.expires_at <= $1"
			   "                 ORDER BY e.expires_at LIMIT $2)"
			   "   AND c.remaining > 0 AND c.expires_at <= $1"
			   " ORDER BY c.id FOR UPDATE",
			   TIMESTAMPTZOID, INT4OID);
GATE_STATEMENT(credit_for_update,
			   "SELECT c.id, c.tenant_id, c.currency, c.source, c.legal_entity, c.remaining"
			   "  FROM tenancy.credit c WHERE c.id = $1 FOR UPDATE",
			   UUIDOID);
/* What a document has used and not yet got back; the caller holds its lock. */
GATE_STATEMENT(credit_used_by,
			   "SELECT c.id, c.tenant_id, c.currency, c.source, c.legal_entity,"
			   "       (SELECT -sum(e.amount) FROM tenancy.credit_entry e"
			   "         WHERE e.credit_id = c.id AND e.document_id = $1"
			   "           AND e.kind IN ('use', 'return'))"
			   "  FROM tenancy.credit c"
			   " WHERE c.id IN (SELECT e.credit_id FROM tenancy.credit_entry e"
			   "                 WHERE e.document_id = $1 AND e.kind IN ('use', 'return'))"
			   " ORDER BY c.id FOR UPDATE",
			   UUIDOID);
/* The columns of the last three. */
enum
{
	CREDIT_ID,
	CREDIT_TENANT,
	CREDIT_CURRENCY,
	CREDIT_SOURCE,
	CREDIT_LEGAL_ENTITY,
	CREDIT_AMOUNT
};

static const EventType event_types[] = {
	{"credit.granted", 1, "credit was added to the tenant's balance"},
	{"credit.expired", 1, "credit of the tenant expired unused"},
};

static void
tell(const char *type, const pg_uuid_t *tenant, const pg_uuid_t *credit, const char *currency,
	 Numeric amount)
{
	JsonBuilder payload;

	json_begin(&payload);
	json_put_numeric(&payload, "amount", amount);
	json_put_text(&payload, "credit", id_text(credit));
	json_put_text(&payload, "currency", currency);
	(void) outbox_put(tenant, type, json_end(&payload));
}

/* What a new credit is posted against; not there: the document that it comes from has done so. */
static const struct
{
	const char *source;
	LedgerAccount account;
} contra_accounts[] = {
	{"promotion", LEDGER_PROMOTION},
	{"purchase", LEDGER_CASH},
};

static void
post_grant(const CreditGrant *grant, const pg_uuid_t *id)
{
	LedgerPosting posting = {
		.kind = "credit_grant",
		.document = *id,
		.tenant = grant->tenant,
		.legal_entity = grant->legal_entity,
		.currency = grant->currency,
		.effective_at = clock_now(),
		.description = grant->reason,
	};

	for (int i = 0; i < lengthof(contra_accounts); i++)
	{
		if (strcmp(contra_accounts[i].source, grant->source) != 0)
			continue;
		ledger_debit(&posting, contra_accounts[i].account, grant->amount);
		ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, grant->amount);
	}
	(void) ledger_post(&posting);
}

pg_uuid_t *
credit_grant(const CreditGrant *grant)
{
	pg_uuid_t *id = id_new();

	gate_run(&credit_insert, EXPECT_ONE, gate_uuid(id), gate_uuid(&grant->tenant),
			 gate_text(grant->currency), gate_text(grant->source), gate_text(grant->reason),
			 gate_numeric(grant->amount), gate_int32(grant->priority),
			 gate_text(grant->legal_entity), gate_uuid(grant->document),
			 gate_timestamptz(grant->expires_at), gate_timestamptz(clock_now()));
	post_grant(grant, id);
	tell("credit.granted", &grant->tenant, id, grant->currency, grant->amount);
	return id;
}

static Numeric
take_all(const GateRows *rows, const char *kind, const pg_uuid_t *document, bool is_return,
		 TimestampTz at)
{
	CreditMove *moves = palloc(sizeof(CreditMove) * Max(rows->count, 1));
	Numeric total = numeric_zero();
	int count = 0;

	for (int64 i = 0; i < rows->count; i++)
	{
		Numeric amount = row_numeric(rows, i, CREDIT_AMOUNT);

		if (amount == NULL || numeric_is_zero(amount))
			continue;
		total = numeric_plus(total, amount);
		moves[count++] = (CreditMove){
			.id = *id_new(),
			.credit = *row_uuid(rows, i, CREDIT_ID),
			.tenant = *row_uuid(rows, i, CREDIT_TENANT),
			.document = document,
			.amount = is_return ? amount : numeric_negate(amount),
		};
	}
	credit_move(moves, count, kind, at);
	return total;
}

/* Post what has left the credits of the rows: given away it costs nothing after all. */
static void
post_end(const GateRows *rows, TimestampTz at, const char *description)
{
	LedgerPosting *postings = palloc0(sizeof(LedgerPosting) * Max(rows->count, 1));

	for (int64 i = 0; i < rows->count; i++)
	{
		Numeric amount = row_numeric(rows, i, CREDIT_AMOUNT);
		bool is_promotion = strcmp(row_text(rows, i, CREDIT_SOURCE), "promotion") == 0;

		postings[i] = (LedgerPosting){
			.kind = "credit_expiry",
			.document = *row_uuid(rows, i, CREDIT_ID),
			.purpose = id_text(id_new()), /* what was given back expires once more */
			.tenant = *row_uuid(rows, i, CREDIT_TENANT),
			.legal_entity = row_text(rows, i, CREDIT_LEGAL_ENTITY),
			.currency = row_text(rows, i, CREDIT_CURRENCY),
			.effective_at = at,
			.description = description,
		};
		ledger_debit(&postings[i], LEDGER_CUSTOMER_CREDIT, amount);
		ledger_credit(&postings[i], is_promotion ? LEDGER_PROMOTION : LEDGER_BREAKAGE, amount);
	}
	(void) ledger_post_many(postings, rows->count);
}

int64
credit_expire(TimestampTz at)
{
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "credit expiry", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch);
	int64 total = 0;

	for (;;)
	{
		GateRows *rows =
			gate_run(&credit_expired, EXPECT_ANY, gate_timestamptz(at), gate_int32(EXPIRY_BATCH));

		if (rows->count == 0)
			break;
		(void) take_all(rows, "expiry", NULL, false, at);
		post_end(rows, at, "expired");
		for (int64 i = 0; i < rows->count; i++)
			tell("credit.expired", row_uuid(rows, i, CREDIT_TENANT), row_uuid(rows, i, CREDIT_ID),
				 row_text(rows, i, CREDIT_CURRENCY), row_numeric(rows, i, CREDIT_AMOUNT));
		total += rows->count;
		MemoryContextReset(batch);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
	return total;
}

Numeric
credit_return(const pg_uuid_t *document, TimestampTz at)
{
	GateRows *rows = gate_run(&credit_used_by, EXPECT_ANY, gate_uuid(document));
	LedgerPosting posting;
	Numeric total;

	if (rows->count == 0)
		return NULL;
	total = take_all(rows, "return", document, true, at);
	if (numeric_is_zero(total))
		return NULL;
	posting = (LedgerPosting){
		.kind = "credit_return",
		.document = *document,
		.purpose = id_text(id_new()),
		.tenant = *row_uuid(rows, 0, CREDIT_TENANT),
		.legal_entity = row_text(rows, 0, CREDIT_LEGAL_ENTITY),
		.currency = row_text(rows, 0, CREDIT_CURRENCY),
		.effective_at = at,
	};
	ledger_debit(&posting, LEDGER_RECEIVABLE, total);
	ledger_credit(&posting, LEDGER_CUSTOMER_CREDIT, total);
	(void) ledger_post(&posting);
	return total;
}

static char *
run_expiry_job(void)
{
	return psprintf("{\"credits\": " INT64_FORMAT "}", credit_expire(clock_wall()));
}

static const JobKind expiry_job = {
	.name = "credit.expire",
	.run = run_expiry_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "expires credits that were not used in time",
};

void
credit_init(void)
{
	job_kind_register(&expiry_job);
	event_types_register(event_types, lengthof(event_types));
}

/* Amounts of money that a caller names: positive, and exact in the currency. */
static void
require_amount(Numeric amount, const char *currency)
{
	int exponent = currency_exponent(currency);

	if (numeric_compare(amount, numeric_zero()) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" must be positive"));
	if (numeric_compare(amount, money_round(amount, exponent)) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"amount\" has more than %d decimals, which is what %s has",
					   exponent, currency));
}

static void
require_source(const char *source)
{
	if (strcmp(source, "promotion") != 0 && strcmp(source, "purchase") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"source\" must be \"promotion\" or \"purchase\""));
}

/*
 * credit_add(tenant regtenant, amount numeric, reason text, currency text, expires_at timestamptz,
 *            priority integer, source text) → tenancy.credit
 */
TENANCY_FUNCTION(credit_add)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	Numeric amount = required_numeric(fcinfo, 1, "amount");
	char *reason = required_text(fcinfo, 2, "reason");
	char *currency = optional_text(fcinfo, 3);
	char *source = required_text(fcinfo, 6, "source");
	CreditGrant grant = {
		.tenant = *tenant,
		.reason = reason,
		.source = source,
		.expires_at = PG_ARGISNULL(4) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(4),
	};
	GateRows *account;

	context_require_none("granting credit");
	require_argument(fcinfo, 5, "priority");
	grant.priority = PG_GETARG_INT32(5);
	require_source(source);
	if (grant.priority < 0 || grant.priority > 1000)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"priority\" must be between 0 and 1000"));
	if (grant.expires_at <= clock_now())
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"expires_at\" is in the past"));
	account = gate_run(&credit_account, EXPECT_AT_MOST_ONE, gate_uuid(tenant));
	if (account->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(tenant)));
	grant.legal_entity = row_text(account, 0, 0);
	grant.currency = currency != NULL ? currency : row_text(account, 0, 1);
	if (grant.currency == NULL)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"currency\" must not be null"),
				errdetail("The tenant has no subscription that names one."));
	require_amount(amount, grant.currency);
	grant.amount = money_round(amount, currency_exponent(grant.currency));
	PG_RETURN_DATUM(
		row_datum(gate_run(&credit_whole_row, EXPECT_ONE, gate_uuid(credit_grant(&grant))), 0, 0));
}

/* credit_revoke(credit uuid, reason text) → tenancy.credit */
TENANCY_FUNCTION(credit_revoke)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "credit");
	char *reason = required_text(fcinfo, 1, "reason");
	GateRows *rows;

	context_require_none("revoking credit");
	rows = gate_run(&credit_for_update, EXPECT_AT_MOST_ONE, gate_uuid(id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("credit \"%s\" does not exist", id_text(id)));
	if (numeric_is_zero(row_numeric(rows, 0, CREDIT_AMOUNT)))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("nothing remains of credit \"%s\"", id_text(id)));
	(void) take_all(rows, "revocation", NULL, false, clock_now());
	post_end(rows, clock_now(), reason);
	PG_RETURN_DATUM(row_datum(gate_run(&credit_whole_row, EXPECT_ONE, gate_uuid(id)), 0, 0));
}

/* credit_expire(at timestamptz) → bigint */
TENANCY_FUNCTION(credit_expire)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");

	context_require_none("expiring credit");
	PG_RETURN_INT64(credit_expire(at));
}
