/*
 * billing/compose.c
 *		From lines to bills: which line comes on which, discounts, taxes, totals.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "billing/billing.h"
#include "core/id.h"
#include "core/money.h"

#include "utils/builtins.h"

static Bill *
bill_begin(Batch *batch, Payer *payer, Contract *contract, const char *currency)
{
	Bill *bill = palloc0(sizeof(Bill));

	bill->id = *id_new();
	bill->payer = payer;
	bill->contract = contract;
	bill->currency = pstrdup(currency);
	batch->bills = lappend(batch->bills, bill);
	return bill;
}

Bill *
batch_bill(Batch *batch, Contract *contract)
{
	const Subscription *subscription = &contract->subscription;
	bool consolidates = contract->payer->consolidates;
	ListCell *cell;
	Bill *bill;

	/* Bills of a payer follow each other. */
	for (int i = list_length(batch->bills) - 1; i >= 0; i--)
	{
		bill = list_nth(batch->bills, i);
		if (bill->payer != contract->payer)
			break;
		if (bill->contract == contract)
			return bill;
	}
	if (consolidates)
	{
		foreach (cell, batch->bills)
		{
			bill = lfirst(cell);
			if (bill->payer == contract->payer && bill->contract == NULL && bill->ends_as == NULL &&
				!bill->stays_draft && contract->pause_mode == NULL &&
				strcmp(bill->currency, subscription->currency) == 0)
			{
				if (!contract->is_over)
				{
					bill->period_start = Min(bill->period_start, subscription->period_start);
					bill->period_end = Max(bill->period_end, contract->closes_at);
				}
				return bill;
			}
		}
	}
	bill = bill_begin(batch, contract->payer,
					  consolidates && contract->pause_mode == NULL ? NULL : contract,
					  subscription->currency);
	bill->purpose = contract->is_over ? "late" : contract->closes ? "cycle" : "change";
	bill->period_start = subscription->period_start;
	bill->period_end = contract->closes_at;
	if (contract->pause_mode != NULL)
	{
		bill->stays_draft = strcmp(contract->pause_mode, "draft") == 0;
		if (strcmp(contract->pause_mode, "void") == 0 ||
			strcmp(contract->pause_mode, "uncollectible") == 0)
			bill->ends_as = contract->pause_mode;
	}
	return bill;
}

void
bill_add(Bill *bill, BillLine *line)
{
	bill->lines = lappend(bill->lines, line);
}

static Bill *
find_bill(Batch *batch, const Payer *payer, const char *currency)
{
	ListCell *cell;

	foreach (cell, batch->bills)
	{
		Bill *bill = lfirst(cell);

		if (bill->payer == payer && bill->ends_as == NULL && !bill->stays_draft &&
			strcmp(bill->currency, currency) == 0)
			return bill;
	}
	return NULL;
}

void
batch_add_pending(Batch *batch, bool alone)
{
	for (int i = 0; i < batch->payer_count; i++)
	{
		Payer *payer = &batch->payers[i];

		for (int j = 0; j < payer->item_count; j++)
		{
			PendingItem *item = &payer->items[j];
			Bill *bill = find_bill(batch, payer, item->currency);
			BillLine *line;

			if (bill == NULL && !alone)
				continue;
			if (bill == NULL)
			{
				bill = bill_begin(batch, payer, NULL, item->currency);
				bill->purpose = "manual";
				bill->period_start = item->period_start;
				bill->period_end = item->period_end;
			}
			line = palloc0(sizeof(BillLine));
			line->kind = "manual";
			line->description = item->description;
			line->quantity = item->quantity;
			line->unit_price = item->unit_price;
			line->exact = numeric_times(item->quantity, item->unit_price);
			line->amount = money_round(line->exact, currency_exponent(item->currency));
			line->tax_rates = item->tax_rates != NULL ? item->tax_rates : payer->tax_rates;
			line->tax_rate_count =
				item->tax_rates != NULL ? item->tax_rate_count : payer->tax_rate_count;
			line->period_start = item->period_start;
			line->period_end = item->period_end;
			line->trace = NULL;
			bill_add(bill, line);
			item->bill = bill;
		}
	}
}

/* The place of a rate in the document, where it is added the first time. */
static int
document_tax(Document *document, const Batch *batch, const TaxRate **rates, const char *id)
{
	DocumentTax *tax;

	for (int i = 0; i < document->tax_count; i++)
	{
		if (strcmp(document->taxes[i].id, id) == 0)
			return i;
	}
	rates[document->tax_count] = batch_tax_rate(batch, id);
	tax = &document->taxes[document->tax_count];
	tax->id = rates[document->tax_count]->id;
	tax->percentage = rates[document->tax_count]->percentage;
	tax->is_inclusive = rates[document->tax_count]->is_inclusive;
	return document->tax_count++;
}

static void
add_lines(Document *document, const Batch *batch, const Bill *bill, const TaxRate **rates)
{
	ListCell *cell;

	foreach (cell, bill->lines)
	{
		const BillLine *line = lfirst(cell);
		DocumentLine *into = &document->lines[document->line_count++];
		int *taxes = palloc(sizeof(int) * Max(line->tax_rate_count, 1));

		for (int i = 0; i < line->tax_rate_count; i++)
			taxes[i] = document_tax(document, batch, rates, line->tax_rates[i]);
		into->amount = line->amount;
		into->exact = line->exact;
		into->plan = line->plan;
		into->metric = line->metric;
		into->charge = line->charge;
		into->subscription = line->group;
		into->taxes = taxes;
		into->tax_count = line->tax_rate_count;
	}
}

/* Can the coupon take anything off the bill? */
static bool
is_usable(const GivenCoupon *coupon, const Bill *bill)
{
	if (coupon->periods_left == 0)
		return false;
	return coupon->is_percent || strcmp(coupon->currency, bill->currency) == 0;
}

static void
add_discounts(Document *document, const Bill *bill, GivenCoupon **used)
{
	ListCell *cell;

	for (int i = 0; i < bill->payer->coupon_count; i++)
	{
		GivenCoupon *coupon = &bill->payer->coupons[i];
		DocumentDiscount *discount = &document->discounts[document->discount_count];

		if (!is_usable(coupon, bill))
			continue;
		discount->kind = coupon->is_percent ? DISCOUNT_PERCENT : DISCOUNT_FIXED;
		discount->value = coupon->amount_left != NULL ? coupon->amount_left : coupon->value;
		discount->plans = (const char *const *) coupon->plans;
		discount->plan_count = coupon->plan_count;
		discount->metrics = (const char *const *) coupon->metrics;
		discount->metric_count = coupon->metric_count;
		used[document->discount_count++] = coupon;
	}
	foreach (cell, bill->maximums)
	{
		const BillMaximum *maximum = lfirst(cell);
		DocumentDiscount *discount = &document->discounts[document->discount_count++];

		discount->kind = DISCOUNT_MAXIMUM;
		discount->value = maximum->maximum;
		discount->charge = maximum->charge;
		discount->subscription = maximum->group;
	}
}

/* A coupon that took something off has less left. */
static void
use_coupon(GivenCoupon *coupon, Numeric amount)
{
	coupon->has_changed = true;
	if (coupon->amount_left != NULL)
	{
		coupon->amount_left = numeric_minus(coupon->amount_left, amount);
		if (!numeric_is_zero(coupon->amount_left))
			return;
	}
	if (coupon->periods_left > 0)
		coupon->periods_left--;
}

static void
take_discounts(Bill *bill, const Document *document, GivenCoupon *const *used)
{
	int maximum = 0;

	bill->discounts = palloc0(sizeof(BillDiscount) * Max(document->discount_count, 1));
	for (int i = 0; i < document->discount_count; i++)
	{
		const DocumentDiscount *discount = &document->discounts[i];
		BillDiscount *into = &bill->discounts[bill->discount_count];
		const BillMaximum *limit = used[i] == NULL ? list_nth(bill->maximums, maximum++) : NULL;

		if (numeric_is_zero(discount->amount))
			continue;
		into->coupon = used[i];
		into->description = used[i] != NULL ? used[i]->name
											: psprintf("%s: at most %s", limit->description,
													   numeric_text(limit->maximum));
		into->amount = discount->amount;
		bill->discount_count++;
		if (used[i] != NULL)
			use_coupon(used[i], discount->amount);
	}
}

bool
line_is_deferred(const char *kind)
{
	return strcmp(kind, "advance") == 0 || strcmp(kind, "credit") == 0;
}

static void
take_lines(Bill *bill, const Document *document)
{
	ListCell *cell;
	int i = 0;

	bill->deferred = numeric_from_int(0);
	foreach (cell, bill->lines)
	{
		BillLine *line = lfirst(cell);
		const DocumentLine *from = &document->lines[i++];

		line->discount = from->discount;
		line->tax = from->tax;
		line->net = from->net;
		if (line_is_deferred(line->kind))
			bill->deferred = numeric_plus(bill->deferred, line->net);
	}
}

/*
 * What a coupon took off whole, and what lines make up for, is nothing in total and has been
 * billed: without an invoice that says so it would be billed again.
 */
static bool
is_over_nothing(const Bill *bill)
{
	ListCell *cell;

	foreach (cell, bill->lines)
	{
		const BillLine *line = lfirst(cell);

		if (!numeric_is_zero(line->amount))
			return false;
	}
	return true;
}

static void
compose(Batch *batch, Bill *bill)
{
	int line_count = list_length(bill->lines);
	int most_discounts = bill->payer->coupon_count + list_length(bill->maximums);
	const TaxRate **rates = palloc(sizeof(TaxRate *) * Max(batch->rate_count, 1));
	GivenCoupon **used = palloc0(sizeof(GivenCoupon *) * Max(most_discounts, 1));
	Document document = {
		.exponent = currency_exponent(bill->currency),
		.lines = palloc0(sizeof(DocumentLine) * Max(line_count, 1)),
		.discounts = palloc0(sizeof(DocumentDiscount) * Max(most_discounts, 1)),
		.taxes = palloc0(sizeof(DocumentTax) * Max(batch->rate_count, 1)),
		.tax_rounding = bill->payer->rounds_tax_per_invoice ? TAX_PER_INVOICE : TAX_PER_LINE,
		.is_tax_free = bill->payer->is_tax_free,
	};

	add_lines(&document, batch, bill, rates);
	add_discounts(&document, bill, used);
	document_calculate(&document);
	take_lines(bill, &document);
	take_discounts(bill, &document, used);
	bill->taxes = palloc0(sizeof(BillTax) * Max(document.tax_count, 1));
	for (int i = 0; i < document.tax_count; i++)
		bill->taxes[i] = (BillTax){.rate = rates[i],
								   .percentage = document.is_tax_free ? numeric_from_int(0)
																	  : rates[i]->percentage,
								   .base = document.taxes[i].base,
								   .amount = document.taxes[i].amount};
	bill->tax_count = document.tax_count;
	/* For their scale alone: they are sums of rounded amounts. */
	bill->subtotal = money_round(document.subtotal, document.exponent);
	bill->discount = money_round(document.discount, document.exponent);
	bill->tax = money_round(document.tax, document.exponent);
	bill->inclusive_tax = money_round(document.inclusive_tax, document.exponent);
	bill->total = money_round(document.total, document.exponent);
	bill->is_skipped = line_count == 0 || (bill->payer->skips_zero && is_over_nothing(bill));
}

void
batch_compose(Batch *batch)
{
	ListCell *cell;

	foreach (cell, batch->bills)
		compose(batch, lfirst(cell));
}
