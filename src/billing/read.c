/*
 * billing/read.c
 *		What a batch of bills is made from, read by a handful of statements.
 *
 * Subscriptions are locked in the order of their ids; their items, what they were billed, and
 * the coupons of the tenants change under that lock or are locked after it.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/money.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A join: a comparison with ANY of a parameter would look through the list for every row. */
#define CONTRACT_COLUMNS(which)                                                                    \
	"SELECT s.id, s.tenant_id, s.plan, s.price_version, s.family, s.currency, s.billing_period,"   \
	"       s.state, s.time_zone, s.starts_at, s.anchor, coalesce(s.trial_ends_at, '-infinity'),"  \
	"       s.period_number, s.period_start, s.period_end, coalesce(s.bills_at, 'infinity'),"      \
	"       s.has_advance,"                                                                        \
	"       coalesce(s.ends_at, 'infinity'), s.pause_mode, s.usage_cutoff"                         \
	"  FROM unnest($1) AS t(id) JOIN tenancy.subscription s ON s.tenant_id = t.id"                 \
	" WHERE " which " AND ($3 IS NULL OR s.id = $3)"                                               \
	" ORDER BY s.tenant_id, s.id FOR UPDATE OF s"
GATE_STATEMENT(batch_contracts, CONTRACT_COLUMNS("s.bills_at <= $2"), UUIDARRAYOID, TIMESTAMPTZOID,
			   UUIDOID);
GATE_STATEMENT(batch_contracts_free, CONTRACT_COLUMNS("s.bills_at <= $2") " SKIP LOCKED",
			   UUIDARRAYOID, TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(batch_contracts_over, CONTRACT_COLUMNS(MAY_HAVE_LATE_USAGE("s", "$2")), UUIDARRAYOID,
			   TIMESTAMPTZOID, UUIDOID);
GATE_STATEMENT(batch_payers,
			   "SELECT t.id, e.id, e.invoice_series, e.number_width, e.tax_rounding = 'invoice',"
			   "       e.zero_invoices = 'skip',"
			   "       coalesce(a.payment_terms_days, e.payment_terms_days),"
			   "       coalesce(a.tax_rates, e.tax_rates), coalesce(a.tax_treatment, 'taxed'),"
			   "       a.exemption_reason, coalesce(a.consolidates, false),"
			   "       t.state IN ('purging', 'purged')"
			   "  FROM tenancy.tenant t"
			   "  LEFT JOIN tenancy.billing_account a ON a.tenant_id = t.id"
			   "  JOIN tenancy.legal_entity e ON e.id = coalesce(a.legal_entity, 'default')"
			   " WHERE t.id = ANY ($1) ORDER BY t.id",
			   UUIDARRAYOID);
/* Also what has ended since, as long as a line in advance for it reaches into the open period. */
GATE_STATEMENT(
	batch_items,
	"SELECT s.tenant_id, i.subscription_id, i.line, i.is_addon, i.plan,"
	"       i.price_version, i.quantity, i.starts_at, i.ends_at"
	"  FROM tenancy.subscription_item i"
	"  JOIN tenancy.subscription s ON s.id = i.subscription_id"
	" WHERE i.subscription_id = ANY ($1) AND i.superseded_at = 'infinity'"
	"   AND i.ends_at > CASE WHEN s.has_advance THEN"
	"           (SELECT least(s.period_start, pg_catalog.min(l.period_start))"
	"              FROM tenancy.invoice_line l"
	"             WHERE l.subscription_id = s.id AND l.kind IN ('advance', 'credit', 'one_off')"
	"               AND l.period_end > s.period_start)"
	"           ELSE s.period_start END"
	" ORDER BY s.tenant_id, i.subscription_id, i.is_addon, CASE WHEN i.is_addon THEN i.line END,"
	"          i.starts_at",
	UUIDARRAYOID);
/*
 * What a void invoice billed was billed, for nothing; a credit of it counts as given.  One-offs are
 * looked for however long ago they were.  What credit notes took of a line before
 * it was credited as unused lowers all of it, and afterwards what was left: the used part.
 */
GATE_STATEMENT(
	batch_billed,
	"SELECT l.tenant_id, l.subscription_id, l.invoice_id, l.position, l.item_line, l.plan,"
	"       l.price_version, l.charge, l.kind, l.quantity,"
	"       CASE WHEN v.state = 'void' AND l.kind <> 'credit' THEN 0"
	"            ELSE l.amount - l.discount - n.before END,"
	"       l.tax_rates, l.period_start, l.period_end, l.corrects, l.corrects_position, n.after,"
	"       l.amount - l.discount - n.before"
	"  FROM tenancy.invoice_line l"
	"  JOIN tenancy.subscription s ON s.id = l.subscription_id"
	"  JOIN tenancy.invoice v ON v.id = l.invoice_id AND " INVOICE_STANDS("v") ","
	"       LATERAL (SELECT coalesce(sum(e.amount - e.discount) FILTER (WHERE NOT e.is_after), 0)"
	"                           AS before,"
	"                       coalesce(sum(e.amount - e.discount) FILTER (WHERE e.is_after), 0)"
	"                           AS after"
	"                  FROM (SELECT c.amount, c.discount, EXISTS ("
	"                                   SELECT FROM tenancy.invoice_line o"
	"                                     JOIN tenancy.invoice w"
	"                                       ON w.id = o.invoice_id AND " INVOICE_STANDS("w")
	"                                    WHERE o.corrects = l.invoice_id"
	"                                      AND o.corrects_position = l.position"
	"                                      AND o.invoice_id < c.credit_note_id) AS is_after"
	"                          FROM tenancy.credit_note_line c"
	"                         WHERE c.invoice_id = l.invoice_id"
	"                           AND c.invoice_position = l.position) e) n"
	" WHERE l.subscription_id = ANY ($1) AND l.kind IN ('advance', 'credit', 'one_off')"
	"   AND (l.period_end > s.period_start OR l.kind = 'one_off')"
	" ORDER BY l.tenant_id, l.subscription_id, l.invoice_id, l.position",
	UUIDARRAYOID);
GATE_STATEMENT(batch_coupons,
			   "SELECT r.tenant_id, r.id, c.code, c.name, c.kind = 'percent', c.value, c.currency,"
			   "       c.plans, c.metrics, coalesce(r.periods_left, -1), r.amount_left"
			   "  FROM tenancy.coupon_redemption r JOIN tenancy.coupon c ON c.code = r.coupon"
			   " WHERE r.tenant_id = ANY ($1) AND r.state = 'active'"
			   " ORDER BY r.tenant_id, r.applied_at, r.id FOR UPDATE OF r",
			   UUIDARRAYOID);
GATE_STATEMENT(batch_pending,
			   "SELECT i.tenant_id, i.id, i.currency, i.description, i.quantity, i.unit_price,"
			   "       i.tax_rates, i.period_start, i.period_end"
			   "  FROM tenancy.invoice_item i"
			   " WHERE i.tenant_id = ANY ($1) AND i.invoice_id IS NULL"
			   " ORDER BY i.tenant_id, i.id FOR UPDATE",
			   UUIDARRAYOID);
GATE_STATEMENT(batch_rates, "SELECT r.id, r.name, r.percentage, r.is_inclusive, r.category"
							"  FROM tenancy.tax_rate r ORDER BY r.id");

static int
compare_ids(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN);
}

static void
read_contracts(Batch *batch, const BatchRequest *request)
{
	GateStatement *statement = request->is_over        ? &batch_contracts_over
							   : request->skips_locked ? &batch_contracts_free
													   : &batch_contracts;
	GateRows *rows = gate_run(statement, EXPECT_ANY, request->tenants,
							  gate_timestamptz(request->at), gate_uuid(request->subscription));

	batch->contracts = palloc0(sizeof(Contract) * Max(rows->count, 1));
	batch->contract_count = rows->count;
	for (int i = 0; i < rows->count; i++)
	{
		Contract *contract = &batch->contracts[i];
		Subscription *subscription = &contract->subscription;

		subscription->id = *row_uuid(rows, i, 0);
		subscription->tenant = *row_uuid(rows, i, 1);
		subscription->plan = row_text(rows, i, 2);
		subscription->price_version = row_int32(rows, i, 3);
		subscription->family = row_text(rows, i, 4);
		subscription->currency = row_text(rows, i, 5);
		subscription->period_name = row_text(rows, i, 6);
		subscription->period = billing_period(subscription->period_name);
		subscription->state = row_text(rows, i, 7);
		subscription->time_zone = row_text(rows, i, 8);
		subscription->starts_at = row_timestamptz(rows, i, 9);
		subscription->anchor = row_timestamptz(rows, i, 10);
		subscription->trial_ends_at = row_timestamptz(rows, i, 11);
		subscription->period_number = row_int32(rows, i, 12);
		subscription->period_start = row_timestamptz(rows, i, 13);
		subscription->period_end = row_timestamptz(rows, i, 14);
		subscription->bills_at = row_timestamptz(rows, i, 15);
		subscription->has_advance = row_bool(rows, i, 16);
		subscription->ends_at = row_timestamptz(rows, i, 17);
		contract->pause_mode = row_is_null(rows, i, 18) ? NULL : row_text(rows, i, 18);
		contract->usage_cutoff = row_timestamptz(rows, i, 19);
		contract->state = subscription->state;
		contract->has_advance = subscription->has_advance;
		contract->closes_at = Min(subscription->period_end, subscription->ends_at);
		contract->is_over = request->is_over;
		contract->closes = !contract->is_over && subscription->bills_at >= contract->closes_at;
		contract->ends = contract->closes && subscription->ends_at <= subscription->period_end;
	}
}

static void
read_payers(Batch *batch, NullableDatum tenants)
{
	GateRows *rows = gate_run(&batch_payers, EXPECT_ANY, tenants);

	batch->payers = palloc0(sizeof(Payer) * Max(rows->count, 1));
	batch->payer_count = rows->count;
	for (int i = 0; i < rows->count; i++)
	{
		Payer *payer = &batch->payers[i];
		char *treatment = row_text(rows, i, 8);

		payer->tenant = *row_uuid(rows, i, 0);
		payer->legal_entity = row_text(rows, i, 1);
		payer->series = row_text(rows, i, 2);
		payer->number_width = row_int32(rows, i, 3);
		payer->rounds_tax_per_invoice = row_bool(rows, i, 4);
		payer->skips_zero = row_bool(rows, i, 5);
		payer->payment_terms_days = row_int32(rows, i, 6);
		payer->tax_rates = row_text_array(rows, i, 7, &payer->tax_rate_count);
		payer->is_tax_free = strcmp(treatment, "taxed") != 0;
		/* Codes of UNCL5305, as EN 16931 takes them. */
		payer->tax_category = strcmp(treatment, "reverse_charge") == 0 ? "AE" : "E";
		payer->exemption_reason = row_is_null(rows, i, 9) ? NULL : row_text(rows, i, 9);
		payer->consolidates = row_bool(rows, i, 10);
		payer->is_purged = row_bool(rows, i, 11);
	}
}

/*
 * Rows that are sorted by tenant, and by subscription within, are dealt out to whom they
 * belong; the first two columns say to whom.
 */
typedef struct Dealer
{
	const GateRows *rows;
	int64 next;
} Dealer;

/* The next rows of a tenant, or of one of its subscriptions; rows of nobody asked for are passed. */
static int
deal(Dealer *dealer, const pg_uuid_t *tenant, const pg_uuid_t *subscription, int64 *first)
{
	int count = 0;

	for (; dealer->next < dealer->rows->count; dealer->next++)
	{
		int order = compare_ids(row_uuid(dealer->rows, dealer->next, 0), tenant);

		if (order == 0 && subscription != NULL)
			order = compare_ids(row_uuid(dealer->rows, dealer->next, 1), subscription);
		if (order > 0)
			break;
		if (order == 0 && count++ == 0)
			*first = dealer->next;
	}
	return count;
}

static int
deal_contract(Dealer *dealer, const Contract *contract, int64 *first)
{
	return deal(dealer, &contract->subscription.tenant, &contract->subscription.id, first);
}

static int
deal_payer(Dealer *dealer, const Payer *payer, int64 *first)
{
	return deal(dealer, &payer->tenant, NULL, first);
}

static void
read_items(Batch *batch, NullableDatum subscriptions)
{
	Dealer dealer = {.rows = gate_run(&batch_items, EXPECT_ANY, subscriptions)};
	SubscriptionItem *items = palloc0(sizeof(SubscriptionItem) * Max(dealer.rows->count, 1));
	const GateRows *rows = dealer.rows;

	for (int64 i = 0; i < rows->count; i++)
		items[i] = (SubscriptionItem){.line = *row_uuid(rows, i, 2),
									  .is_addon = row_bool(rows, i, 3),
									  .plan = row_text(rows, i, 4),
									  .price_version = row_int32(rows, i, 5),
									  .quantity = row_numeric(rows, i, 6),
									  .starts_at = row_timestamptz(rows, i, 7),
									  .ends_at = row_timestamptz(rows, i, 8)};
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];
		int64 first = 0;

		contract->item_count = deal_contract(&dealer, contract, &first);
		contract->items = items + first;
	}
}

static void
read_billed(Batch *batch, NullableDatum subscriptions)
{
	Dealer dealer = {.rows = gate_run(&batch_billed, EXPECT_ANY, subscriptions)};
	BilledLine *billed = palloc0(sizeof(BilledLine) * Max(dealer.rows->count, 1));
	const GateRows *rows = dealer.rows;

	for (int64 i = 0; i < rows->count; i++)
	{
		BilledLine *line = &billed[i];

		line->invoice = *row_uuid(rows, i, 2);
		line->position = row_int32(rows, i, 3);
		line->item_line = *row_uuid(rows, i, 4);
		line->plan = row_text(rows, i, 5);
		line->price_version = row_int32(rows, i, 6);
		line->charge = row_text(rows, i, 7);
		line->kind = row_text(rows, i, 8);
		line->quantity = row_numeric(rows, i, 9);
		line->net = row_numeric(rows, i, 10);
		line->tax_rates = row_text_array(rows, i, 11, &line->tax_rate_count);
		line->period_start = row_timestamptz(rows, i, 12);
		line->period_end = row_timestamptz(rows, i, 13);
		if (!row_is_null(rows, i, 14))
		{
			line->corrects = *row_uuid(rows, i, 14);
			line->corrects_position = row_int32(rows, i, 15);
		}
		line->noted_after = row_numeric(rows, i, 16);
		line->committed = row_numeric(rows, i, 17);
	}
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];
		int64 first = 0;

		contract->billed_count = deal_contract(&dealer, contract, &first);
		contract->billed = billed + first;
	}
}

static void
read_coupons(Batch *batch, NullableDatum tenants)
{
	Dealer dealer = {.rows = gate_run(&batch_coupons, EXPECT_ANY, tenants)};
	GivenCoupon *coupons = palloc0(sizeof(GivenCoupon) * Max(dealer.rows->count, 1));
	const GateRows *rows = dealer.rows;

	for (int64 i = 0; i < rows->count; i++)
	{
		GivenCoupon *coupon = &coupons[i];

		coupon->redemption = *row_uuid(rows, i, 1);
		coupon->code = row_text(rows, i, 2);
		coupon->name = row_text(rows, i, 3);
		coupon->is_percent = row_bool(rows, i, 4);
		coupon->value = row_numeric(rows, i, 5);
		coupon->currency = row_is_null(rows, i, 6) ? NULL : row_text(rows, i, 6);
		coupon->plans = row_text_array(rows, i, 7, &coupon->plan_count);
		coupon->metrics = row_text_array(rows, i, 8, &coupon->metric_count);
		coupon->periods_left = row_int32(rows, i, 9);
		coupon->amount_left = row_numeric(rows, i, 10);
	}
	for (int i = 0; i < batch->payer_count; i++)
	{
		int64 first = 0;

		batch->payers[i].coupon_count = deal_payer(&dealer, &batch->payers[i], &first);
		batch->payers[i].coupons = coupons + first;
	}
}

static void
read_pending(Batch *batch, NullableDatum tenants)
{
	Dealer dealer = {.rows = gate_run(&batch_pending, EXPECT_ANY, tenants)};
	PendingItem *items = palloc0(sizeof(PendingItem) * Max(dealer.rows->count, 1));
	const GateRows *rows = dealer.rows;

	for (int64 i = 0; i < rows->count; i++)
	{
		PendingItem *item = &items[i];

		item->id = *row_uuid(rows, i, 1);
		item->currency = row_text(rows, i, 2);
		item->description = row_text(rows, i, 3);
		item->quantity = row_numeric(rows, i, 4);
		item->unit_price = row_numeric(rows, i, 5);
		item->tax_rates = row_text_array(rows, i, 6, &item->tax_rate_count);
		item->period_start = row_timestamptz(rows, i, 7);
		item->period_end = row_timestamptz(rows, i, 8);
	}
	for (int i = 0; i < batch->payer_count; i++)
	{
		int64 first = 0;

		batch->payers[i].item_count = deal_payer(&dealer, &batch->payers[i], &first);
		batch->payers[i].items = items + first;
	}
}

static void
read_rates(Batch *batch)
{
	GateRows *rows = gate_run_array(&batch_rates, EXPECT_ANY, NULL, 0);

	batch->rates = palloc0(sizeof(TaxRate) * Max(rows->count, 1));
	batch->rate_count = rows->count;
	for (int i = 0; i < rows->count; i++)
		batch->rates[i] = (TaxRate){.id = row_text(rows, i, 0),
									.name = row_text(rows, i, 1),
									.percentage = row_numeric(rows, i, 2),
									.is_inclusive = row_bool(rows, i, 3),
									.category = row_text(rows, i, 4)};
}

const TaxRate *
batch_tax_rate(const Batch *batch, const char *id)
{
	for (int i = 0; i < batch->rate_count; i++)
	{
		if (strcmp(batch->rates[i].id, id) == 0)
			return &batch->rates[i];
	}
	ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("tax rate \"%s\" does not exist", id));
}

/* The base item in force at a time; NULL where there is none, as in a pause. */
static const SubscriptionItem *
base_item_at(const Contract *contract, TimestampTz at)
{
	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];

		if (!item->is_addon && item->starts_at <= at && at < item->ends_at)
			return item;
	}
	return NULL;
}

/*
 * The whole period that the open one is part of is that of its number: a first period may begin
 * within it and a last one end within it.  A trial is whole by itself.
 */
static void
find_full_period(Contract *contract)
{
	const Subscription *subscription = &contract->subscription;

	if (subscription->period_start < subscription->trial_ends_at)
	{
		contract->full_start = subscription->period_start;
		contract->full_end = subscription->period_end;
		return;
	}
	contract->full_start = period_boundary(subscription->anchor, subscription->period_number,
										   subscription->period, subscription->time_zone);
	contract->full_end = period_boundary(subscription->anchor, subscription->period_number + 1,
										 subscription->period, subscription->time_zone);
}

void
contract_plan_ahead(Batch *batch, Contract *contract)
{
	Subscription *subscription = &contract->subscription;
	const SubscriptionItem *base;
	Subscription next = *subscription;

	find_full_period(contract);
	contract->next_anchor = subscription->anchor;
	contract->next_plan = price_cache_get(batch->prices, subscription->plan,
										  subscription->price_version, subscription->currency);
	if (strcmp(subscription->state, "pending") == 0 && subscription->starts_at <= batch->at)
		contract->state = subscription->trial_ends_at > subscription->starts_at
							  ? subscription_after(subscription, "start trial")
							  : subscription_after(subscription, "start");
	if (contract->is_over)
	{
		contract->ends = true;
		return;
	}
	/* The first invoice is there and has not been paid in time. */
	contract->expires =
		strcmp(subscription->state, "incomplete") == 0 && contract->billed_count > 0;
	if (contract->expires)
	{
		contract->state = subscription_after(subscription, "expire");
		contract->closes = false;
		contract->ends = true;
		return;
	}
	if (contract->ends)
	{
		subscription->state = unconstify(char *, contract->state);
		contract->state = subscription_after(subscription, "end");
		return;
	}
	if (!contract->closes)
		return;
	if (subscription->trial_ends_at == contract->closes_at &&
		strcmp(contract->state, "trialing") == 0)
		contract->state = subscription_after(subscription, "activate");
	base = base_item_at(contract, contract->closes_at);
	if (base != NULL)
	{
		contract->next_plan =
			price_cache_get(batch->prices, base->plan, base->price_version, subscription->currency);
		/* Another billing period begins where it begins. */
		if (strcmp(contract->next_plan->pricing->period_name, subscription->period_name) != 0)
			contract->next_anchor = contract->closes_at;
	}
	next.anchor = contract->next_anchor;
	next.period = contract->next_plan->pricing->period;
	subscription_period_at(&next, contract->closes_at, &contract->next_number, &contract->next_end);
	contract->next_full_start =
		period_boundary(next.anchor, contract->next_number, next.period, next.time_zone);
}

void
batch_read(Batch *batch, const BatchRequest *request)
{
	Column subscriptions;
	Column tenants;
	NullableDatum subscription_ids;
	NullableDatum tenant_ids;
	bool has_advance = false;
	int payer = 0;

	batch->at = request->at;
	read_contracts(batch, request);
	column_begin(&subscriptions, UUIDOID);
	column_begin(&tenants, UUIDOID);
	for (int i = 0; i < batch->contract_count; i++)
	{
		const Subscription *subscription = &batch->contracts[i].subscription;

		column_add(&subscriptions, gate_uuid(&subscription->id));
		if (i == 0 ||
			compare_ids(&subscription->tenant, &batch->contracts[i - 1].subscription.tenant) != 0)
			column_add(&tenants, gate_uuid(&subscription->tenant));
		has_advance = has_advance || subscription->has_advance ||
					  subscription->bills_at < batch->contracts[i].closes_at;
	}
	subscription_ids = column_array(&subscriptions);
	/* Who has nothing that is due may have items that are to be billed once. */
	tenant_ids = request->skips_locked ? column_array(&tenants) : request->tenants;
	read_rates(batch);
	read_payers(batch, tenant_ids);
	read_coupons(batch, tenant_ids);
	read_pending(batch, tenant_ids);
	read_items(batch, subscription_ids);
	if (has_advance)
		read_billed(batch, subscription_ids);
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];

		while (compare_ids(&batch->payers[payer].tenant, &contract->subscription.tenant) < 0)
			payer++;
		contract->payer = &batch->payers[payer];
		contract_plan_ahead(batch, contract);
	}
}
