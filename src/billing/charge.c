/*
 * billing/charge.c
 *		Lines for what a period has used up: charges in arrears, and metered ones.
 *
 * A charge that is not metered is billed by segment: whatever plan, price and number of seats were
 * in force for a part of the period cost that part.  Usage belongs to the plan that was in force
 * when it occurred; a change of seats does not begin its tiers and included quantities anew, a
 * change of plan does.
 *
 * First all charges are listed, then all of their usage is read at once, then they are rated.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "core/id.h"
#include "core/money.h"
#include "usage/prune.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A charge to be rated, for a part of a period. */
typedef struct Task
{
	Contract *contract;
	const SubscriptionItem *item;
	const PricedPlan *priced;
	const Charge *charge;
	TimestampTz from;
	TimestampTz to;
	bool is_part;
	ProrationPart part;
	int group;
	ChargeUsage usage;
} Task;

static bool
is_in_trial(const Contract *contract)
{
	return contract->subscription.period_start < contract->subscription.trial_ends_at;
}

/* The part of the whole period that the task is about. */
static void
set_part(Task *task)
{
	const Contract *contract = task->contract;

	task->is_part = task->from != contract->full_start || task->to != contract->full_end;
	if (task->is_part)
		task->part =
			proration_part(task->from, task->to, contract->full_start, contract->full_end,
						   task->priced->pricing->proration_unit, contract->subscription.time_zone);
}

typedef struct TaskList
{
	Task *tasks;
	int count;
	int capacity;
} TaskList;

static Task *
add_task(TaskList *list, const Task *task)
{
	if (list->count == list->capacity)
	{
		list->capacity *= 2;
		list->tasks = repalloc(list->tasks, sizeof(Task) * list->capacity);
	}
	list->tasks[list->count] = *task;
	return &list->tasks[list->count++];
}

/* The charges in arrears of one segment. */
static void
list_recurring(TaskList *list, const Task *segment, bool is_first)
{
	const Pricing *pricing = segment->priced->pricing;

	for (int i = 0; i < pricing->charge_count; i++)
	{
		const Charge *charge = &pricing->charges[i];
		Task *task;

		if (charge->metric != NULL || charge->is_in_advance || !charge->is_recurring)
			continue;
		/* What is not prorated is due in full, once a period. */
		if ((!charge->is_prorated || pricing->proration_unit == PRORATE_NONE) && !is_first)
			continue;
		task = add_task(list, segment);
		task->charge = charge;
		task->usage.quantity = charge->is_per_seat ? segment->item->quantity : numeric_from_int(1);
		set_part(task);
	}
}

static void
list_metered(TaskList *list, const Task *stretch)
{
	const Pricing *pricing = stretch->priced->pricing;

	for (int i = 0; i < pricing->charge_count; i++)
	{
		const Charge *charge = &pricing->charges[i];
		Task *task;

		if (charge->metric == NULL)
			continue;
		task = add_task(list, stretch);
		task->charge = charge;
		set_part(task);
	}
}

/* Is the item the same plan and price as the one before it, going on? */
static bool
goes_on(const SubscriptionItem *before, const SubscriptionItem *item)
{
	return id_equal(&before->line, &item->line) && before->price_version == item->price_version &&
		   strcmp(before->plan, item->plan) == 0 && before->ends_at == item->starts_at;
}

static void
list_contract(Batch *batch, TaskList *list, Contract *contract)
{
	const Subscription *subscription = &contract->subscription;
	bool is_trial = is_in_trial(contract);
	const SubscriptionItem *before = NULL;
	Task stretch = {.contract = contract};

	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];
		const SubscriptionItem *after = i + 1 < contract->item_count ? item + 1 : NULL;
		Task segment = {.contract = contract,
						.item = item,
						.from = Max(item->starts_at, subscription->period_start),
						.to = Min(item->ends_at, contract->closes_at)};
		bool is_first;

		if (segment.from >= segment.to)
			continue;
		/* Of an add-on, or of what the subscription is at all. */
		is_first = before == NULL || (item->is_addon && !id_equal(&before->line, &item->line));
		segment.priced =
			price_cache_get(batch->prices, item->plan, item->price_version, subscription->currency);
		if (before == NULL || !goes_on(before, item))
		{
			stretch = segment;
			stretch.group = ++batch->last_group;
		}
		stretch.to = segment.to;
		segment.group = stretch.group;
		if (!is_trial)
			list_recurring(list, &segment, is_first);
		if ((after == NULL || !goes_on(item, after) || after->starts_at >= contract->closes_at) &&
			!(is_trial && segment.priced->pricing->trial_usage_is_free))
			list_metered(list, &stretch);
		before = item;
	}
}

static void
read_usage(TaskList *list)
{
	UsageWanted *wanted = palloc(sizeof(UsageWanted) * Max(list->count, 1));
	int count = 0;

	for (int i = 0; i < list->count; i++)
	{
		Task *task = &list->tasks[i];

		if (task->charge->metric != NULL)
			wanted[count++] = (UsageWanted){.contract = task->contract,
											.charge = task->charge,
											.pricing = task->priced->pricing,
											.from = task->from,
											.to = task->to,
											.full_start = task->contract->full_start,
											.full_end = task->contract->full_end,
											.usage = &task->usage};
	}
	usage_read(wanted, count);
}

BillLine *
bill_line_rated(Batch *batch, Contract *contract, const SubscriptionItem *item,
				const PricedPlan *priced, const RatedLine *rated, const char *kind)
{
	BillLine *line = palloc0(sizeof(BillLine));
	const Charge *charge = rated->charge;

	line->contract = contract;
	line->item_line = item->line;
	line->plan = priced->plan;
	line->price_version = priced->version;
	line->charge = charge != NULL ? charge->id : NULL;
	line->kind = kind;
	/* The base price is known by the name of the plan. */
	line->description =
		charge != NULL && strcmp(charge->id, "base") == 0 ? priced->name : rated->description;
	line->metric = rated->metric;
	line->quantity = rated->quantity;
	line->unit = rated->unit;
	line->unit_price = rated->unit_price;
	line->amount = rated->amount;
	line->exact = rated->exact;
	if (charge != NULL && charge->tax_rates != NULL)
	{
		line->tax_rates = charge->tax_rates;
		line->tax_rate_count = charge->tax_rate_count;
	}
	else if (priced->pricing->tax_rates != NULL)
	{
		line->tax_rates = priced->pricing->tax_rates;
		line->tax_rate_count = priced->pricing->tax_rate_count;
	}
	else
	{
		line->tax_rates = contract->payer->tax_rates;
		line->tax_rate_count = contract->payer->tax_rate_count;
	}
	line->trace = rated_line_trace(rated, priced->version);
	return line;
}

static void
add_maximum(Bill *bill, const Task *task, const char *charge, Numeric maximum,
			const char *description)
{
	BillMaximum *limit = palloc(sizeof(BillMaximum));

	limit->group = task->group;
	limit->charge = charge;
	limit->maximum = task->is_part ? money_ratio(numeric_times(maximum, task->part.part),
												 task->part.whole, task->priced->pricing->exponent)
								   : maximum;
	limit->description = description;
	bill->maximums = lappend(bill->maximums, limit);
}

static void
rate_task(Batch *batch, const Task *task)
{
	RatedLine rated[CHARGE_MAX_LINES];
	int count = charge_rate(task->charge, task->priced->pricing->exponent, &task->usage,
							task->is_part ? &task->part : NULL, rated);

	for (int i = 0; i < count; i++)
	{
		bool is_minimum = strcmp(rated[i].kind, "minimum") == 0;
		BillLine *line;
		Bill *bill;

		/* A trial is billed what was used and no price. */
		if (is_minimum && is_in_trial(task->contract))
			continue;
		line = bill_line_rated(batch, task->contract, task->item, task->priced, &rated[i],
							   is_minimum                     ? "minimum"
							   : task->charge->metric != NULL ? "usage"
															  : "recurring");
		bill = batch_bill(batch, task->contract);
		line->period_start = task->from;
		line->period_end = task->to;
		line->group = task->group;
		bill_add(bill, line);
		if (i == 0 && task->charge->maximum != NULL)
			add_maximum(bill, task, task->charge->id, task->charge->maximum, task->charge->name);
	}
}

/* What was billed in advance for the period of a group also counts towards its commitment. */
static Numeric
billed_in_advance(const Task *task)
{
	const Contract *contract = task->contract;
	Numeric sum = numeric_from_int(0);

	for (int i = 0; i < contract->billed_count; i++)
	{
		const BilledLine *line = &contract->billed[i];

		if (id_equal(&line->item_line, &task->item->line) && strcmp(line->kind, "one_off") != 0 &&
			line->period_start < task->to && line->period_end > task->from)
			sum = numeric_plus(sum, line->committed);
	}
	return sum;
}

/* Commitments and maximums of whole plans, once a stretch. */
static void
rate_commitment(Batch *batch, const Task *task)
{
	const Pricing *pricing = task->priced->pricing;
	Task whole = *task;
	Bill *bill;
	Numeric billed;
	RatedLine rated = {0};
	ListCell *cell;

	if (pricing->minimum == NULL && pricing->maximum == NULL)
		return;
	bill = batch_bill(batch, task->contract);
	set_part(&whole);
	if (pricing->minimum != NULL)
	{
		billed = billed_in_advance(task);
		foreach (cell, bill->lines)
		{
			const BillLine *line = lfirst(cell);

			if (line->group == task->group)
				billed = numeric_plus(billed, line->amount);
		}
		if (commitment_rate(pricing->minimum, billed, pricing->exponent,
							whole.is_part ? &whole.part : NULL, &rated))
		{
			BillLine *line =
				bill_line_rated(batch, task->contract, task->item, task->priced, &rated, "minimum");

			line->period_start = task->from;
			line->period_end = task->to;
			line->group = task->group;
			bill_add(bill, line);
		}
	}
	if (pricing->maximum != NULL)
		add_maximum(bill, &whole, NULL, pricing->maximum, task->priced->name);
}

void
charge_arrears(Batch *batch)
{
	TaskList list = {.capacity = 256};

	list.tasks = palloc(sizeof(Task) * list.capacity);
	for (int i = 0; i < batch->contract_count; i++)
	{
		if (batch->contracts[i].closes)
			list_contract(batch, &list, &batch->contracts[i]);
	}
	read_usage(&list);
	for (int i = 0; i < list.count; i++)
	{
		const Task *task = &list.tasks[i];

		rate_task(batch, task);
		/* Tasks of a group follow each other. */
		if ((i + 1 == list.count || list.tasks[i + 1].group != task->group) &&
			!is_in_trial(task->contract))
		{
			Task stretch = *task;

			for (int j = i; j >= 0 && list.tasks[j].group == task->group; j--)
			{
				stretch.from = Min(stretch.from, list.tasks[j].from);
				stretch.to = Max(stretch.to, list.tasks[j].to);
			}
			rate_commitment(batch, &stretch);
		}
	}
}
