/*
 * billing/run.c
 *		Billing runs: from what is due to invoices.
 *
 * A batch of tenants is billed by a handful of statements, whatever its size.  Some batches
 * share a subtransaction; when it fails each has its own, and the one that fails is halved until
 * the tenant that fails stands alone and is recorded.  So one bad subscription costs some
 * repeated work and stops nobody.
 *
 * A period is billed once: the subscription, locked, says which is open, and an invoice that is
 * not void is unique by subscription and period.  What was billed is committed with the move of
 * the subscription, so a run that was cut off is taken up by the next.
 */
#include "postgres.h"

#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/extension.h"
#include "catalog/gate.h"
#include "context/context.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "core/settings.h"
#include "job/kind.h"
#include "job/queue.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#define BATCH_SIZE 1000
/*
 * Of ids that are read, and billed in a subtransaction, at once: memory stays flat.  The index is
 * read about once.  A subtransaction keeps what its transition tables took, about half a kilobyte
 * a tenant, until the transaction ends, and uses it again from batch to batch.
 */
#define READ_SIZE (20 * BATCH_SIZE)

#define DUE(which)                                                                                 \
	"SELECT DISTINCT s.tenant_id FROM tenancy.subscription s"                                      \
	" WHERE " which " AND s.tenant_id > $2"                                                        \
	"   AND (pg_catalog.uuid_hash(s.tenant_id) & 2147483647) % $5 = $4"                            \
	" ORDER BY s.tenant_id LIMIT $3"
GATE_STATEMENT(billing_due, DUE("s.bills_at <= $1"), TIMESTAMPTZOID, UUIDOID, INT4OID, INT4OID,
			   INT4OID);
GATE_STATEMENT(billing_late, DUE(MAY_HAVE_LATE_USAGE("s", "$1")), TIMESTAMPTZOID, UUIDOID, INT4OID,
			   INT4OID, INT4OID);
GATE_STATEMENT(billing_failure_insert,
			   "INSERT INTO tenancy.billing_failure (id, tenant_id, failed_at, sqlstate, error)"
			   " VALUES ($1, $2, $3, $4, $5)",
			   UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, TEXTOID);

/* The ids in the first column. */
static pg_uuid_t *
ids_of(const GateRows *rows)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));

	for (int64 i = 0; i < rows->count; i++)
		ids[i] = *row_uuid(rows, i, 0);
	return ids;
}

Batch *
billing_batch(const BatchRequest *request, WriteMode mode, bool alone)
{
	Batch *batch = palloc0(sizeof(Batch));

	batch->context = CurrentMemoryContext;
	batch->prices = price_cache_create(CurrentMemoryContext);
	batch->usage_cutoff = billing_usage_cutoff();
	batch_read(batch, request);
	charge_arrears(batch);
	charge_advance(batch);
	charge_late(batch);
	batch_add_pending(batch, alone);
	batch_compose(batch);
	batch_write(batch, mode);
	return batch;
}

/* Amounts of different currencies are never added to each other. */
static void
add_total(BillingResult *result, const char *currency, Numeric total)
{
	int n = 0;

	while (n < result->currency_count && strcmp(result->currencies[n].code, currency) != 0)
		n++;
	if (n == result->currency_count)
	{
		result->currencies = n == 0 ? palloc(sizeof(BillingTotal))
									: repalloc(result->currencies, sizeof(BillingTotal) * (n + 1));
		result->currencies[n].code = pstrdup(currency);
		result->currencies[n].total = numeric_from_int(0);
		result->currency_count++;
	}
	result->currencies[n].total = numeric_plus(result->currencies[n].total, total);
}

static void
add_batch(BillingResult *result, const Batch *batch)
{
	MemoryContext batch_context = MemoryContextSwitchTo(result->context);
	ListCell *cell;

	foreach (cell, batch->bills)
	{
		const Bill *bill = lfirst(cell);

		if (bill->is_skipped)
			continue;
		add_total(result, bill->currency, bill->total);
		result->invoices++;
		result->lines += list_length(bill->lines);
	}
	result->subscriptions += batch->contract_count;
	MemoryContextSwitchTo(batch_context);
}

/* What an attempt did becomes part of what the run did. */
static void
add_result(BillingResult *result, const BillingResult *part)
{
	MemoryContext caller = MemoryContextSwitchTo(result->context);

	for (int i = 0; i < part->currency_count; i++)
		add_total(result, part->currencies[i].code, part->currencies[i].total);
	result->invoices += part->invoices;
	result->lines += part->lines;
	result->subscriptions += part->subscriptions;
	MemoryContextSwitchTo(caller);
}

static void
record_failure(const pg_uuid_t *tenant, const ErrorData *error)
{
	gate_run(&billing_failure_insert, EXPECT_ONE, gate_uuid(id_new()), gate_uuid(tenant),
			 gate_timestamptz(clock_now()), gate_text(unpack_sql_state(error->sqlerrcode)),
			 gate_text(error->message));
}

/* An error of the run and not of a subscription: trying again in this transaction is no use. */
static bool
stops_the_run(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		   error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* Which tenants a run is about, and how much of them. */
typedef struct Share
{
	TimestampTz at;
	int part; /* of the tenants, by the hash of their ids */
	int parts;
	int most_batches; /* 0 for all there are */
	int batches;      /* done */
	bool is_over;     /* what has ended and may have usage that came late, not what is due */
	pg_uuid_t last;   /* tenant of the round that was looked at */
} Share;

typedef struct Try
{
	const pg_uuid_t *ids;
	int count;
	const Share *share;
	BillingResult done;
} Try;

/* Batch by batch; the memory of each goes with it. */
static void
bill(void *argument)
{
	Try *try = argument;
	MemoryContext batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "billing batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(batch_context);

	for (int i = 0; i < try->count; i += BATCH_SIZE)
	{
		BatchRequest request = {.at = try->share->at, .is_over = try->share->is_over};

		CHECK_FOR_INTERRUPTS();
		request.tenants = gate_uuid_array(try->ids + i, Min(BATCH_SIZE, try->count - i));
		add_batch(&try->done, billing_batch(&request, WRITE_FINAL, false));
		MemoryContextReset(batch_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(batch_context);
}

/* NULL when they were billed, else the error with everything that was done undone. */
static ErrorData *
try_billing(const pg_uuid_t *ids, int count, const Share *share, BillingResult *result)
{
	Try try = {.ids = ids, .count = count, .share = share, .done.context = CurrentMemoryContext};
	ErrorData *error = attempt("billing", bill, &try);

	if (error == NULL)
		add_result(result, &try.done);
	else if (stops_the_run(error))
		ReThrowError(error);
	return error;
}

/* Bill what can be billed of them; the others are recorded and added to result->failed_ids. */
static void
bill_or_divide(const pg_uuid_t *ids, int count, const Share *share, BillingResult *result)
{
	ErrorData *error = try_billing(ids, count, share, result);
	int step = count > BATCH_SIZE ? BATCH_SIZE : (count + 1) / 2;

	if (error == NULL)
		return;
	if (count > 1)
	{
		for (int i = 0; i < count; i += step)
			bill_or_divide(ids + i, Min(step, count - i), share, result);
		return;
	}
	record_failure(ids, error);
	result->failed_ids = repalloc(result->failed_ids, sizeof(pg_uuid_t) * (result->failed + 1));
	result->failed_ids[result->failed++] = *ids;
}

/* The ids that have not failed in this run, in place; how many. */
static int
without_failed(pg_uuid_t *ids, int count, const BillingResult *result)
{
	int left = 0;

	for (int i = 0; i < count; i++)
	{
		bool has_failed = false;

		for (int64 j = 0; j < result->failed && !has_failed; j++)
			has_failed = id_equal(&ids[i], &result->failed_ids[j]);
		if (!has_failed)
			ids[left++] = ids[i];
	}
	return left;
}

static const Share whole = {.parts = 1};
static const pg_uuid_t no_tenant = {{0}}; /* before all */

static bool
is_used_up(const Share *share)
{
	return share->most_batches > 0 && share->batches >= share->most_batches;
}

/* Bill each tenant that is due once, after the last; false when none was. */
static bool
bill_round(Share *share, BillingResult *result)
{
	MemoryContext read_context =
		AllocSetContextCreate(CurrentMemoryContext, "billing ids", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(read_context);
	int64 before = result->subscriptions;

	while (!is_used_up(share))
	{
		int32 most = share->most_batches > 0
						 ? Min(READ_SIZE, BATCH_SIZE * (share->most_batches - share->batches))
						 : READ_SIZE;
		GateRows *due =
			gate_run(share->is_over ? &billing_late : &billing_due, EXPECT_ANY,
					 gate_timestamptz(share->at), gate_uuid(&share->last), gate_int32(most),
					 gate_int32(share->part), gate_int32(share->parts));
		pg_uuid_t *ids = ids_of(due);
		int count;

		if (due->count == 0)
			break;
		share->last = ids[due->count - 1];
		count = without_failed(ids, due->count, result);
		bill_or_divide(ids, count, share, result);
		share->batches += (count + BATCH_SIZE - 1) / BATCH_SIZE;
		MemoryContextReset(read_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(read_context);
	return result->subscriptions > before;
}

/*
 * Who is several periods behind is billed one a round.  Then what has ended is looked at, once: it
 * may be asked for again as long as an old transaction runs, whatever was found.  So a share that
 * is used up within goes on after the tenant that was the last.
 */
static BillingResult
bill_share(Share *share)
{
	BillingResult result = {.context = CurrentMemoryContext};

	result.failed_ids = palloc(sizeof(pg_uuid_t));
	if (!share->is_over)
	{
		bool found = true;

		subscriptions_resume_due(NULL, share->at);
		while (found && !is_used_up(share))
		{
			share->last = no_tenant;
			found = bill_round(share, &result);
		}
		if (is_used_up(share))
			return result;
		share->last = no_tenant;
		share->is_over = true;
	}
	(void) bill_round(share, &result);
	return result;
}

BillingResult
billing_run(TimestampTz at)
{
	Share all = whole;

	all.at = at;
	return bill_share(&all);
}

/* What a transaction of a background worker bills: a few seconds of work. */
#define BATCHES_PER_JOB 4

/* What of a share is left for a job. */
static void
put_part(const Share *share)
{
	JsonBuilder arguments;
	JobRequest request = {.kind = "billing.part", .priority = JOB_MIDDLE_PRIORITY};

	json_begin(&arguments);
	json_put_text(&arguments, "at", timestamptz_to_str(share->at));
	json_put_int64(&arguments, "part", share->part);
	json_put_int64(&arguments, "parts", share->parts);
	if (share->is_over)
		json_put_text(&arguments, "over_after", id_text(&share->last));
	request.arguments = json_end(&arguments);
	(void) job_put(&request);
}

static Jsonb *
result_document(const BillingResult *result)
{
	JsonBuilder document;

	/* An error would undo the invoices of the others. */
	if (result->failed > 0)
		ereport(WARNING, errmsg(INT64_FORMAT " tenants could not be billed", result->failed),
				errhint("See tenancy.billing_failure."));
	json_begin(&document);
	json_put_int64(&document, "invoices", result->invoices);
	json_put_int64(&document, "lines", result->lines);
	json_put_int64(&document, "failed", result->failed);
	return json_end(&document);
}

/* A job bills a bounded part and, while there is more, puts the next: what is done is committed. */
static Jsonb *
perform_part(const JobTask *task)
{
	Share share = {.at = timestamptz_from_text(json_text(task->arguments, "at"), "at"),
				   .part = json_int32(task->arguments, "part", 0),
				   .parts = json_int32(task->arguments, "parts", 1),
				   .most_batches = BATCHES_PER_JOB,
				   .is_over = json_has(task->arguments, "over_after")};
	BillingResult result;

	if (share.is_over)
		share.last = *id_parse(json_text(task->arguments, "over_after"));
	result = bill_share(&share);
	if (is_used_up(&share))
		put_part(&share);
	return result_document(&result);
}

static char *
run_billing_job(void)
{
	Share share = whole;
	BillingResult result;
	Jsonb *document;

	share.at = clock_wall() - setting_billing_grace * USECS_PER_SEC;
	share.most_batches = BATCHES_PER_JOB;
	result = bill_share(&share);
	if (is_used_up(&share))
		put_part(&share);
	document = result_document(&result);
	return JsonbToCString(NULL, &document->root, VARSIZE(document));
}

static const JobKind billing_job = {
	.name = "billing.run",
	.run = run_billing_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "invoices every period that has ended",
};

static const JobKind part_job = {
	.name = "billing.part",
	.perform = perform_part,
	.timeout_seconds = SECS_PER_HOUR,
	.description = "invoices what is due of a part of the tenants",
	/* What it has to do does not go away. */
	.retry = "{\"max_attempts\": 100, \"initial_seconds\": 0.5, \"max_seconds\": 300}",
};

void
billing_init(void)
{
	job_kind_register(&billing_job);
	job_kind_register(&part_job);
	usage_set_needs_lister(billing_list_usage_needs);
	subscription_init();
	invoice_init();
	invoice_events_init();
	credit_note_init();
}

static Jsonb *
total_by_currency(const BillingResult *result)
{
	JsonBuilder total;

	json_begin(&total);
	for (int i = 0; i < result->currency_count; i++)
		json_put_numeric(&total, result->currencies[i].code, result->currencies[i].total);
	return json_end(&total);
}

/* billing_run(at timestamptz) → TABLE(invoices bigint, lines bigint, failed bigint, total jsonb) */
TENANCY_FUNCTION(billing_run)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingResult result;
	Datum values[4];
	bool nulls[4] = {false};

	context_require_none("billing");
	extension_require();
	InitMaterializedSRF(fcinfo, 0);
	result = billing_run(at);
	values[0] = Int64GetDatum(result.invoices);
	values[1] = Int64GetDatum(result.lines);
	values[2] = Int64GetDatum(result.failed);
	values[3] = JsonbPGetDatum(total_by_currency(&result));
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	return (Datum) 0;
}

#define MOST_PARTS 64

/* billing_run_start(at timestamptz, parts int) → bigint */
TENANCY_FUNCTION(billing_run_start)
{
	TimestampTz at = required_timestamptz(fcinfo, 0, "at");
	int32 parts;

	require_argument(fcinfo, 1, "parts");
	parts = PG_GETARG_INT32(1);
	context_require_none("billing");
	extension_require();
	if (parts < 1 || parts > MOST_PARTS)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"parts\" must be from 1 to %d", MOST_PARTS));
	for (int part = 0; part < parts; part++)
		put_part(&(Share){.at = at, .part = part, .parts = parts});
	PG_RETURN_INT64(parts);
}
