/*
 * billing/charge.c
 *		Lines for what a period has used up: charges in arrears, and metered ones.
 *
 * A charge that is not metered is billed by segment: whatever plan, price and number of seats were
 * in force for a part of the period cost that part.  Usage belongs to the plan that was in force
 * when it occurred; a change of seats does not begin its tiers and included quantities anew, a
 * change of plan does.
 *
 * First all charges are listed, then all of their usage is read by one statement, then they are
 * rated.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/id.h"
#include "core/money.h"
#include "usage/prune.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

GATE_STATEMENT(batch_usage,
			   "SELECT q.ordinal, q.quantity FROM tenancy.usage_quantities($1, $2, $3, $4) q",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);
/* For prices of transactions: each of them, in order. */
GATE_STATEMENT(batch_transactions,
			   "SELECT u.ordinal, e.quantity"
			   "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
			   "                  pg_catalog.unnest($3), pg_catalog.unnest($4))"
			   "           WITH ORDINALITY AS u(tenant_id, metric, from_time, to_time, ordinal)"
			   "  JOIN tenancy.usage_observation e"
			   "    ON e.tenant_id = u.tenant_id AND e.metric = u.metric"
			   "   AND e.occurred_at >= u.from_time AND e.occurred_at < u.to_time"
			   " ORDER BY u.ordinal, e.occurred_at, e.recorded_at, e.quantity",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);

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
	int question; /* of usage, from 0; -1 for none */
	int transactions;
	int group;
	ChargeUsage usage;
} Task;

typedef struct Questions
{
	Column tenants;
	Column metrics;
	Column from_times;
	Column to_times;
} Questions;

static void
questions_begin(Questions *questions)
{
	column_begin(&questions->tenants, UUIDOID);
	column_begin(&questions->metrics, TEXTOID);
	column_begin(&questions->from_times, TIMESTAMPTZOID);
	column_begin(&questions->to_times, TIMESTAMPTZOID);
}

static int
ask(Questions *questions, const Task *task)
{
	column_add(&questions->tenants, gate_uuid(&task->contract->subscription.tenant));
	column_add(&questions->metrics, gate_text(task->charge->metric));
	column_add(&questions->from_times, gate_timestamptz(task->from));
	column_add(&questions->to_times, gate_timestamptz(task->to));
	return questions->tenants.count - 1;
}

static GateRows *
answers(GateStatement *statement, const Questions *questions)
{
	return gate_run(statement, EXPECT_ANY, column_array(&questions->tenants),
					column_array(&questions->metrics), column_array(&questions->from_times),
					column_array(&questions->to_times));
}

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
	Questions usage;
	Questions transactions;
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
		if (charge->is_prorated && pricing->proration_unit != PRORATE_NONE)
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
		if (charge->is_prorated)
			set_part(task);
		if (charge->model == MODEL_PERCENTAGE)
			task->transactions = ask(&list->transactions, task);
		else
			task->question = ask(&list->usage, task);
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
						.to = Min(item->ends_at, contract->closes_at),
						.question = -1,
						.transactions = -1};
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
	GateRows *rows;
	Numeric *quantities;
	int64 row = 0;

	if (list->usage.tenants.count > 0)
	{
		quantities = palloc0(sizeof(Numeric) * list->usage.tenants.count);
		rows = answers(&batch_usage, &list->usage);
		for (int64 i = 0; i < rows->count; i++)
			quantities[row_int32(rows, i, 0) - 1] = row_numeric(rows, i, 1);
		for (int i = 0; i < list->count; i++)
		{
			if (list->tasks[i].question >= 0)
				list->tasks[i].usage.quantity = quantities[list->tasks[i].question];
		}
	}
	if (list->transactions.tenants.count == 0)
		return;
	usage_require_events(
		column_array(&list->transactions.tenants), column_array(&list->transactions.metrics),
		column_array(&list->transactions.from_times), column_array(&list->transactions.to_times));
	rows = answers(&batch_transactions, &list->transactions);
	for (int i = 0; i < list->count; i++)
	{
		Task *task = &list->tasks[i];
		Numeric *values;
		int count = 0;

		if (task->transactions < 0)
			continue;
		while (row + count < rows->count &&
			   row_int64(rows, row + count, 0) == task->transactions + 1)
			count++;
		values = palloc(sizeof(Numeric) * Max(count, 1));
		task->usage.quantity = numeric_from_int(0);
		for (int j = 0; j < count; j++)
		{
			values[j] = row_numeric(rows, row + j, 1);
			task->usage.quantity = numeric_plus(task->usage.quantity, values[j]);
		}
		task->usage.values = values;
		task->usage.value_count = count;
		row += count;
	}
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
	limit->maximum =
		task->is_part ? money_round(prorate(maximum, &task->part), task->priced->pricing->exponent)
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
		BillLine *line = bill_line_rated(batch, task->contract, task->item, task->priced, &rated[i],
										 is_minimum                     ? "minimum"
										 : task->charge->metric != NULL ? "usage"
																		: "recurring");
		Bill *bill = batch_bill(batch, task->contract);

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
	questions_begin(&list.usage);
	questions_begin(&list.transactions);
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
