/*
 * billing/advance.c
 *		Lines for what is billed at the start of a period, or once.
 *
 * What is in force is compared with what earlier invoices have, so that a change within a period
 * needs no bookkeeping of its own: what was billed and is in force no more is credited by the
 * part of it that is left, and what is in force and was not billed is billed by its part.  A
 * credit is computed from the amount that was billed, after its discounts, less earlier credits:
 * never from a price.  (Stripe's flexible billing mode does the same; its classic mode, which
 * takes current prices, had to be given up.)
 */
#include "postgres.h"

#include "billing/batch.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"

#include "utils/timestamp.h"

/* A period of a contract, the whole that it is part of, and what is paid for in it. */
typedef struct Span
{
	TimestampTz start;
	TimestampTz end;
	TimestampTz full_start;
	TimestampTz full_end;
} Span;

static bool
is_billed_as(const BilledLine *line, const SubscriptionItem *item, const Charge *charge)
{
	return id_equal(&line->item_line, &item->line) && line->price_version == item->price_version &&
		   strcmp(line->plan, item->plan) == 0 && strcmp(line->charge, charge->id) == 0 &&
		   (!charge->is_per_seat || numeric_compare(line->quantity, item->quantity) == 0);
}

static const Charge *
find_charge(const Pricing *pricing, const char *id)
{
	for (int i = 0; i < pricing->charge_count; i++)
	{
		if (strcmp(pricing->charges[i].id, id) == 0)
			return &pricing->charges[i];
	}
	return NULL;
}

static Numeric
credited_of(const Contract *contract, const BilledLine *line)
{
	Numeric credited = numeric_from_int(0);

	for (int i = 0; i < contract->billed_count; i++)
	{
		const BilledLine *credit = &contract->billed[i];

		if (strcmp(credit->kind, "credit") == 0 && id_equal(&credit->corrects, &line->invoice) &&
			credit->corrects_position == line->position)
			credited = numeric_minus(credited, credit->net);
	}
	return credited;
}

/* Take back what was billed for a time in which it is not in force; give again what is once more.
 */
static void
credit_unused(Batch *batch, Contract *contract, const BilledLine *line)
{
	const PricedPlan *priced = price_cache_get(batch->prices, line->plan, line->price_version,
											   contract->subscription.currency);
	const Pricing *pricing = priced->pricing;
	const Charge *charge = find_charge(pricing, line->charge);
	const char *zone = contract->subscription.time_zone;
	ProrationPart part = {.part = numeric_from_int(0)};
	TimestampTz unused_from = line->period_start;
	Numeric credited;
	Numeric kept;
	Numeric credit;
	BillLine *credit_line;
	JsonBuilder trace;

	if (charge == NULL || !charge->is_prorated || pricing->proration_unit == PRORATE_NONE ||
		line->period_start >= line->period_end)
		return;
	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];
		TimestampTz from = Max(item->starts_at, line->period_start);
		TimestampTz to = Min(item->ends_at, line->period_end);

		if (from >= to || !is_billed_as(line, item, charge))
			continue;
		part.part =
			numeric_plus(part.part, proration_length(from, to, pricing->proration_unit, zone));
		if (from <= unused_from)
			unused_from = Max(unused_from, to);
	}
	credited = credited_of(contract, line);
	/* All of it is in force, as almost always. */
	if (unused_from >= line->period_end && numeric_is_zero(credited))
		return;
	part.whole =
		proration_length(line->period_start, line->period_end, pricing->proration_unit, zone);
	/* Less than a day, where days count, costs nothing. */
	if (numeric_is_zero(part.whole))
		return;
	credited = numeric_plus(credited, line->noted_after);
	kept = numeric_positive_part(numeric_minus(
		money_round(prorate(line->net, &part), pricing->exponent), line->noted_after));
	credit = numeric_minus(numeric_minus(line->net, credited), kept);
	if (numeric_is_zero(credit))
		return;

	credit_line = palloc0(sizeof(BillLine));
	credit_line->contract = contract;
	credit_line->item_line = line->item_line;
	credit_line->plan = priced->plan;
	credit_line->price_version = priced->version;
	credit_line->charge = charge->id;
	credit_line->kind = "credit";
	credit_line->description = psprintf(
		"Unused time of %s", strcmp(charge->id, "base") == 0 ? priced->name : charge->name);
	credit_line->quantity = line->quantity;
	credit_line->unit = charge->unit;
	credit_line->amount = numeric_minus(numeric_from_int(0), credit);
	credit_line->exact = credit_line->amount;
	credit_line->tax_rates = line->tax_rates;
	credit_line->tax_rate_count = line->tax_rate_count;
	credit_line->period_start = Min(unused_from, line->period_end);
	credit_line->period_end = line->period_end;
	credit_line->corrects = line->invoice;
	credit_line->corrects_position = line->position;
	json_begin(&trace);
	json_put_text(&trace, "rule", "credit");
	json_put_numeric(&trace, "billed", line->net);
	json_put_numeric(&trace, "credited_before", credited);
	json_put_numeric(&trace, "part_used", part.part);
	json_put_numeric(&trace, "whole", part.whole);
	json_put_text(&trace, "proration_unit",
				  pricing->proration_unit == PRORATE_DAY ? "day" : "second");
	credit_line->trace = json_end(&trace);
	bill_add(batch_bill(batch, contract), credit_line);
}

static void
bill_part(Batch *batch, Contract *contract, const SubscriptionItem *item, const PricedPlan *priced,
		  const Charge *charge, const Span *span, TimestampTz from, TimestampTz to)
{
	ChargeUsage usage = {.quantity = charge->is_per_seat ? item->quantity : numeric_from_int(1)};
	const Pricing *pricing = priced->pricing;
	bool is_part = charge->is_prorated && pricing->proration_unit != PRORATE_NONE &&
				   (from != span->full_start || to != span->full_end);
	ProrationPart *part = NULL;
	RatedLine rated[CHARGE_MAX_LINES];
	int count;

	if (is_part)
	{
		part = palloc(sizeof(ProrationPart));
		*part = proration_part(from, to, span->full_start, span->full_end, pricing->proration_unit,
							   contract->subscription.time_zone);
	}
	count = charge_rate(charge, pricing->exponent, &usage, part, rated);
	for (int i = 0; i < count; i++)
	{
		BillLine *line = bill_line_rated(batch, contract, item, priced, &rated[i], "advance");

		line->period_start = from;
		line->period_end = to;
		bill_add(batch_bill(batch, contract), line);
	}
}

/* The gaps in [from, to) that no earlier line covers. */
static void
bill_gaps(Batch *batch, Contract *contract, const SubscriptionItem *item, const PricedPlan *priced,
		  const Charge *charge, const Span *span, TimestampTz from, TimestampTz to)
{
	while (from < to)
	{
		TimestampTz covered_from = to;
		TimestampTz covered_to = to;

		for (int i = 0; i < contract->billed_count; i++)
		{
			const BilledLine *line = &contract->billed[i];

			if (strcmp(line->kind, "advance") == 0 && is_billed_as(line, item, charge) &&
				line->period_end > from && line->period_start < covered_from)
			{
				covered_from = Max(line->period_start, from);
				covered_to = line->period_end;
			}
		}
		if (from < covered_from)
			bill_part(batch, contract, item, priced, charge, span, from, covered_from);
		from = covered_to;
	}
}

/* Has the charge, of whatever plan of the subscription, been billed for the period? */
static bool
is_billed_in(const Contract *contract, const SubscriptionItem *item, const Span *span)
{
	for (int i = 0; i < contract->billed_count; i++)
	{
		const BilledLine *line = &contract->billed[i];

		if (strcmp(line->kind, "advance") == 0 && line->period_end > span->start &&
			line->period_start < span->end &&
			(!item->is_addon || id_equal(&line->item_line, &item->line)))
			return true;
	}
	return false;
}

static void
bill_span(Batch *batch, Contract *contract, const Span *span)
{
	const SubscriptionItem *first_base = NULL;

	if (span->start < contract->subscription.trial_ends_at)
		return;
	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];
		TimestampTz from = Max(item->starts_at, span->start);
		TimestampTz to = Min(item->ends_at, span->end);
		const PricedPlan *priced;

		if (from >= to)
			continue;
		if (!item->is_addon && (first_base == NULL || item->starts_at < first_base->starts_at))
			first_base = item;
		priced = price_cache_get(batch->prices, item->plan, item->price_version,
								 contract->subscription.currency);
		for (int j = 0; priced->pricing->has_advance && j < priced->pricing->charge_count; j++)
		{
			const Charge *charge = &priced->pricing->charges[j];

			if (!charge->is_in_advance || !charge->is_recurring)
				continue;
			if (charge->is_prorated && priced->pricing->proration_unit != PRORATE_NONE)
				bill_gaps(batch, contract, item, priced, charge, span, from, to);
			else if ((item->is_addon || item == first_base) && !is_billed_in(contract, item, span))
				bill_part(batch, contract, item, priced, charge, span, from, to);
		}
	}
}

static void
bill_once(Batch *batch, Contract *contract)
{
	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];
		const PricedPlan *priced;

		/* A line of items has its charges once, whatever becomes of its seats. */
		if (item->starts_at > contract->subscription.bills_at ||
			(i > 0 && id_equal(&contract->items[i - 1].line, &item->line)))
			continue;
		priced = price_cache_get(batch->prices, item->plan, item->price_version,
								 contract->subscription.currency);
		for (int j = 0; priced->pricing->has_one_off && j < priced->pricing->charge_count; j++)
		{
			const Charge *charge = &priced->pricing->charges[j];
			ChargeUsage usage = {.quantity =
									 charge->is_per_seat ? item->quantity : numeric_from_int(1)};
			RatedLine rated[CHARGE_MAX_LINES];
			bool is_billed = false;
			int count;

			if (charge->is_recurring || charge->metric != NULL)
				continue;
			for (int k = 0; k < contract->billed_count; k++)
				is_billed = is_billed || (strcmp(contract->billed[k].kind, "one_off") == 0 &&
										  id_equal(&contract->billed[k].item_line, &item->line) &&
										  strcmp(contract->billed[k].charge, charge->id) == 0);
			if (is_billed)
				continue;
			count = charge_rate(charge, priced->pricing->exponent, &usage, NULL, rated);
			for (int k = 0; k < count; k++)
			{
				BillLine *line =
					bill_line_rated(batch, contract, item, priced, &rated[k], "one_off");

				line->period_start = Max(item->starts_at, contract->subscription.period_start);
				line->period_end = line->period_start;
				bill_add(batch_bill(batch, contract), line);
			}
		}
	}
}

void
charge_advance(Batch *batch)
{
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];
		const Subscription *subscription = &contract->subscription;
		Span open = {subscription->period_start, subscription->period_end, contract->full_start,
					 contract->full_end};
		Span next = {contract->closes_at, contract->next_end, contract->next_full_start,
					 contract->next_end};

		if (contract->expires || contract->is_over)
			continue;
		if (subscription->has_advance)
		{
			for (int j = 0; j < contract->billed_count; j++)
			{
				if (strcmp(contract->billed[j].kind, "advance") == 0)
					credit_unused(batch, contract, &contract->billed[j]);
			}
			bill_span(batch, contract, &open);
			bill_once(batch, contract);
		}
		if (contract->closes && !contract->ends)
		{
			bill_span(batch, contract, &next);
			contract->has_advance =
				subscription->has_advance || contract->next_plan->pricing->has_advance;
		}
	}
}
