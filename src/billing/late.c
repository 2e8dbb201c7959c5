/*
 * billing/late.c
 *		Usage that came after the invoice of its period.
 *
 * An invoice never changes.  What its period would cost with all that is known now, less what
 * was billed for it, goes on the next invoice as a line of the original period: charge by charge,
 * and then what the minimum of the whole plan comes to with that.  A subscription that has ended
 * gets an invoice of its own for it.
 *
 * Which periods to look at: those of invoices whose usage was read before an event of theirs was
 * visible.  An invoice keeps the start of the oldest transaction that ran when its usage was
 * read; an event that was not visible then was recorded later than that.  The amount is a
 * difference of totals, so looking at a period in vain costs time and nothing else.
 */
#include "postgres.h"

#include "billing/batch.h"
#include "billing/billing.h"
#include "catalog/column.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"

#include "nodes/bitmapset.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

TimestampTz
billing_usage_cutoff(void)
{
	TimestampTz oldest = clock_wall();
	int count = pgstat_fetch_stat_numbackends();

	for (int i = 1; i <= count; i++)
	{
		LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
		TimestampTz start = local != NULL ? local->backendStatus.st_xact_start_timestamp : 0;

		if (start != 0)
			oldest = Min(oldest, start);
	}
	return oldest;
}

/* Usage that became known after the last bill, by the period that it belongs to. */
GATE_STATEMENT(
	late_usage,
	"WITH asked AS ("
	"    SELECT u.* FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4))"
	"        WITH ORDINALITY AS u(tenant_id, subscription_id, cutoff, before, n)),"
	" late AS ("
	"    SELECT a.n, a.subscription_id, m.name AS metric, l.occurred_at"
	"      FROM asked a JOIN tenancy.usage_late l ON l.tenant_id = a.tenant_id"
	"       AND l.noted_at >= a.cutoff AND l.occurred_at < a.before"
	"      JOIN tenancy.metric m ON m.event = l.metric)"
	" SELECT l.n, l.metric, coalesce(i.period_start, '-infinity'), coalesce(i.period_end, "
	"'-infinity'),"
	"        pg_catalog.min(l.occurred_at)"
	"   FROM late l"
	"   LEFT JOIN tenancy.invoice i ON i.subscription_id = l.subscription_id AND i.purpose = "
	"'cycle'"
	"    AND " INVOICE_STANDS("i")
	"    AND i.period_start <= l.occurred_at AND i.period_end > l.occurred_at"
	"  GROUP BY l.n, l.metric, i.period_start, i.period_end,"
	"           CASE WHEN i.id IS NULL THEN pg_catalog.date_trunc('day', l.occurred_at) END"
	"  ORDER BY l.n, l.metric, 5",
	UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);
/* The plans in force then that price the metric. */
GATE_STATEMENT(late_items,
			   "SELECT g.n, g.line, g.is_addon, g.plan, g.price_version, pg_catalog.lower(r.r),"
			   "       pg_catalog.upper(r.r)"
			   "  FROM (SELECT u.n, i.line, i.is_addon, i.plan, i.price_version,"
			   "               pg_catalog.range_agg(pg_catalog.tstzrange("
			   "                   greatest(i.starts_at, u.period_start),"
			   "                   least(i.ends_at, u.period_end))) AS times"
			   "          FROM ROWS FROM (unnest($1), unnest($2), unnest($3))"
			   "              WITH ORDINALITY AS u(subscription_id, period_start, period_end, n)"
			   "          JOIN tenancy.subscription_item i ON i.subscription_id = u.subscription_id"
			   "           AND i.superseded_at = 'infinity' AND i.starts_at < u.period_end"
			   "           AND i.ends_at > u.period_start"
			   "         GROUP BY u.n, i.line, i.is_addon, i.plan, i.price_version) g,"
			   "       unnest(g.times) AS r(r)"
			   " ORDER BY g.n, g.line, 6",
			   UUIDARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);
/*
 * What a charge, and its whole plan, was billed for a part of a period; and after discounts.  Then
 * what counts towards the minimum of the plan, and what was missing to it.
 */
GATE_STATEMENT(
	late_billed,
	"SELECT u.n, coalesce(pg_catalog.sum(l.amount) FILTER (WHERE l.charge = u.charge), 0),"
	"       coalesce(pg_catalog.sum(l.amount - l.discount) FILTER (WHERE l.charge = u.charge), 0),"
	"       coalesce(pg_catalog.sum(l.amount - l.discount)"
	"                    FILTER (WHERE l.kind NOT IN ('advance', 'credit')), 0),"
	"       coalesce(pg_catalog.sum(CASE WHEN l.kind IN ('advance', 'credit')"
	"                                    THEN l.amount - l.discount ELSE l.amount END)"
	"                    FILTER (WHERE l.charge IS NOT NULL), 0),"
	"       coalesce(pg_catalog.sum(l.amount) FILTER (WHERE l.charge IS NULL), 0)"
	"  FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6))"
	"      WITH ORDINALITY AS u(tenant_id, subscription_id, item_line, charge, from_time, to_time, "
	"n)"
	"  LEFT JOIN (tenancy.invoice i JOIN tenancy.invoice_line l ON l.invoice_id = i.id)"
	"    ON i.tenant_id = u.tenant_id AND " INVOICE_STANDS("i")
	"   AND l.subscription_id = u.subscription_id AND l.item_line = u.item_line"
	"   AND CASE WHEN l.kind IN ('advance', 'credit')"
	"            THEN l.period_start < u.to_time AND l.period_end > u.from_time"
	"            WHEN l.kind IN ('late', 'minimum', 'recurring', 'usage')"
	"            THEN l.period_start >= u.from_time AND l.period_end <= u.to_time"
	"            ELSE false END"
	" GROUP BY u.n ORDER BY u.n",
	UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID);

/* Of prices of transactions: those of which retention has removed some. */
GATE_STATEMENT(late_removed,
			   "SELECT DISTINCT u.n FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4))"
			   "      WITH ORDINALITY AS u(tenant_id, metric, from_time, to_time, n)"
			   "  JOIN tenancy.metric m ON m.name = u.metric"
			   "  JOIN tenancy.usage_event_pruned g ON g.tenant_id = u.tenant_id"
			   "   AND g.metric = m.event AND g.hours && tstzrange(u.from_time, u.to_time)"
			   " ORDER BY 1",
			   UUIDARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID);

/* Usage that is recorded this soon is no exception: see tenancy.usage_late. */
#define SOON (10 * USECS_PER_MINUTE)

/* A closed period of a contract, and a metric of which it has to be looked at. */
typedef struct LatePeriod
{
	Contract *contract;
	char *metric;
	TimestampTz start;
	TimestampTz end;
} LatePeriod;

/* A plan at a price that was in force in such a period, whatever the metrics. */
typedef struct LateStretch
{
	Contract *contract;
	SubscriptionItem item;
	const PricedPlan *priced;
	TimestampTz from;
	TimestampTz to;
	TimestampTz full_start; /* of the whole period that its period is part of */
	TimestampTz full_end;
	ProrationPart part;
	bool is_part;
	bool is_trial;
	Bitmapset *charges; /* that are looked at, by their place in the plan */
	Numeric amount;     /* that came late */
} LateStretch;

/* A charge of it. */
typedef struct LateCharge
{
	LateStretch *stretch;
	const Charge *charge;
	ChargeUsage usage;
} LateCharge;

/* Until when its periods have been billed; what is later is not late. */
static TimestampTz
billed_until(const Contract *contract)
{
	return contract->is_over ? contract->closes_at : contract->subscription.period_start;
}

/* The period that a time lies in, by the anchor, where no invoice tells. */
static void
find_period(LatePeriod *period, TimestampTz at)
{
	const Subscription *subscription = &period->contract->subscription;
	int32 number;

	if (at < subscription->trial_ends_at)
	{
		period->start = subscription->starts_at;
		period->end = Min(subscription->trial_ends_at, billed_until(period->contract));
		return;
	}
	subscription_period_at(subscription, at, &number, &period->end);
	period->start = period_boundary(subscription->anchor, number, subscription->period,
									subscription->time_zone);
	period->start = Max(period->start, Max(subscription->starts_at, subscription->trial_ends_at));
	period->end = Min(period->end, billed_until(period->contract));
}

/*
 * As a first period may begin within a whole one, and a last one, also of a trial, end within it;
 * one of another length is whole by itself.
 */
static void
find_full_period(const LatePeriod *period, const Pricing *pricing, TimestampTz *full_start,
				 TimestampTz *full_end)
{
	const Subscription *subscription = &period->contract->subscription;
	TimestampTz end;
	int32 number;

	*full_start = period->start;
	*full_end = period->end;
	if (period->start < subscription->trial_ends_at)
	{
		*full_start = subscription->starts_at;
		*full_end = subscription->trial_ends_at;
		return;
	}
	if (strcmp(pricing->period_name, subscription->period_name) != 0)
		return;
	subscription_period_at(subscription, period->start, &number, &end);
	if (end < period->end)
		return;
	*full_start = period_boundary(subscription->anchor, number, subscription->period,
								  subscription->time_zone);
	*full_end = end;
}

static bool
is_listed(List *periods, const LatePeriod *period)
{
	ListCell *cell;

	foreach (cell, periods)
	{
		const LatePeriod *listed = lfirst(cell);

		if (listed->contract == period->contract && listed->start == period->start &&
			listed->end == period->end && strcmp(listed->metric, period->metric) == 0)
			return true;
	}
	return false;
}

/*
 * The last bill may have read its usage so soon after the end of its period that what it missed
 * is not late enough to tell: then that period is looked at whatever is known.
 */
static List *
list_recent(Batch *batch, List *periods, Contract *contract)
{
	const Subscription *subscription = &contract->subscription;
	LatePeriod recent = {.contract = contract};

	if (contract->usage_cutoff >= billed_until(contract) + SOON)
		return periods;
	find_period(&recent, billed_until(contract) - 1);
	for (int i = 0; i < contract->item_count; i++)
	{
		const SubscriptionItem *item = &contract->items[i];
		const Pricing *pricing =
			price_cache_get(batch->prices, item->plan, item->price_version, subscription->currency)
				->pricing;

		for (int j = 0; j < pricing->charge_count; j++)
		{
			LatePeriod *period;

			if (pricing->charges[j].metric == NULL)
				continue;
			recent.metric = pricing->charges[j].metric;
			if (is_listed(periods, &recent))
				continue;
			period = palloc(sizeof(LatePeriod));
			*period = recent;
			periods = lappend(periods, period);
		}
	}
	return periods;
}

static List *
list_periods(Batch *batch)
{
	Column tenants;
	Column subscriptions;
	Column cutoffs;
	Column befores;
	Contract **asked = palloc(sizeof(Contract *) * Max(batch->contract_count, 1));
	int asked_count = 0;
	List *periods = NIL;
	GateRows *rows;

	column_begin(&tenants, UUIDOID);
	column_begin(&subscriptions, UUIDOID);
	column_begin(&cutoffs, TIMESTAMPTZOID);
	column_begin(&befores, TIMESTAMPTZOID);
	for (int i = 0; i < batch->contract_count; i++)
	{
		Contract *contract = &batch->contracts[i];

		/* What has not been billed for anything cannot have been billed too early. */
		if ((!contract->closes && !contract->is_over) || contract->usage_cutoff == DT_NOEND ||
			contract->payer->is_purged)
			continue;
		asked[asked_count++] = contract;
		column_add(&tenants, gate_uuid(&contract->subscription.tenant));
		column_add(&subscriptions, gate_uuid(&contract->subscription.id));
		column_add(&cutoffs, gate_timestamptz(contract->usage_cutoff));
		column_add(&befores, gate_timestamptz(billed_until(contract)));
	}
	if (asked_count == 0)
		return NIL;
	rows = gate_run(&late_usage, EXPECT_ANY, column_array(&tenants), column_array(&subscriptions),
					column_array(&cutoffs), column_array(&befores));
	for (int64 i = 0; i < rows->count; i++)
	{
		LatePeriod *period = palloc(sizeof(LatePeriod));
		TimestampTz at = row_timestamptz(rows, i, 4);

		period->contract = asked[row_int64(rows, i, 0) - 1];
		period->metric = row_text(rows, i, 1);
		period->start = row_timestamptz(rows, i, 2);
		period->end = row_timestamptz(rows, i, 3);
		if (at < period->contract->subscription.starts_at)
			continue;
		if (period->start == DT_NOBEGIN)
			find_period(period, at);
		if (!is_listed(periods, period))
			periods = lappend(periods, period);
	}
	for (int i = 0; i < asked_count; i++)
		periods = list_recent(batch, periods, asked[i]);
	return periods;
}

/* The stretch that a row of late_items is about; several metrics may have come late in it. */
static LateStretch *
find_stretch(List **stretches, const LatePeriod *period, const GateRows *rows, int64 row,
			 const PricedPlan *priced)
{
	const Subscription *subscription = &period->contract->subscription;
	LateStretch found = {
		.contract = period->contract,
		.item = {.line = *row_uuid(rows, row, 1), .is_addon = row_bool(rows, row, 2)},
		.priced = priced,
		.from = row_timestamptz(rows, row, 5),
		.to = row_timestamptz(rows, row, 6),
		.is_trial = period->start < subscription->trial_ends_at,
		.amount = numeric_zero(),
	};
	LateStretch *stretch;
	ListCell *cell;

	foreach (cell, *stretches)
	{
		stretch = lfirst(cell);
		if (stretch->contract == found.contract && stretch->priced == found.priced &&
			stretch->from == found.from && stretch->to == found.to &&
			id_equal(&stretch->item.line, &found.item.line))
			return stretch;
	}
	find_full_period(period, priced->pricing, &found.full_start, &found.full_end);
	found.part = proration_part(found.from, found.to, found.full_start, found.full_end,
								priced->pricing->proration_unit, subscription->time_zone);
	found.is_part = numeric_compare(found.part.part, found.part.whole) != 0;
	stretch = palloc(sizeof(LateStretch));
	*stretch = found;
	*stretches = lappend(*stretches, stretch);
	return stretch;
}

static LateCharge *
list_charges(Batch *batch, List *periods, List **stretches, int *count)
{
	Column subscriptions;
	Column starts;
	Column ends;
	LateCharge *charges;
	int capacity = 64;
	GateRows *rows;
	ListCell *cell;

	column_begin(&subscriptions, UUIDOID);
	column_begin(&starts, TIMESTAMPTZOID);
	column_begin(&ends, TIMESTAMPTZOID);
	foreach (cell, periods)
	{
		const LatePeriod *period = lfirst(cell);

		column_add(&subscriptions, gate_uuid(&period->contract->subscription.id));
		column_add(&starts, gate_timestamptz(period->start));
		column_add(&ends, gate_timestamptz(period->end));
	}
	rows = gate_run(&late_items, EXPECT_ANY, column_array(&subscriptions), column_array(&starts),
					column_array(&ends));
	charges = palloc(sizeof(LateCharge) * capacity);
	*count = 0;
	for (int64 i = 0; i < rows->count; i++)
	{
		const LatePeriod *period = list_nth(periods, row_int64(rows, i, 0) - 1);
		const PricedPlan *priced =
			price_cache_get(batch->prices, row_text(rows, i, 3), row_int32(rows, i, 4),
							period->contract->subscription.currency);
		LateStretch *stretch = find_stretch(stretches, period, rows, i, priced);

		if (stretch->is_trial && priced->pricing->trial_usage_is_free)
			continue;
		for (int j = 0; j < priced->pricing->charge_count; j++)
		{
			const Charge *charge = &priced->pricing->charges[j];

			if (charge->metric == NULL || strcmp(charge->metric, period->metric) != 0)
				continue;
			/* Periods that differ may come to the same part of a plan: it costs what it does once. */
			if (bms_is_member(j, stretch->charges))
				continue;
			stretch->charges = bms_add_member(stretch->charges, j);
			if (*count == capacity)
			{
				capacity *= 2;
				charges = repalloc(charges, sizeof(LateCharge) * capacity);
			}
			charges[(*count)++] = (LateCharge){.stretch = stretch, .charge = charge};
		}
	}
	return charges;
}

/*
 * What transactions cost cannot be told again without all of them.  What comes too late for that is
 * said and left out: the rest of the tenant is billed.
 */
static int
without_removed(LateCharge *charges, int count)
{
	static const Oid types[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Column columns[lengthof(types)];
	GateRows *removed;
	int64 next = 0;
	int64 ordinal = 0;
	int left = 0;

	for (int i = 0; i < lengthof(types); i++)
		column_begin(&columns[i], types[i]);
	for (int i = 0; i < count; i++)
	{
		if (charges[i].charge->model != MODEL_PERCENTAGE)
			continue;
		column_add(&columns[0], gate_uuid(&charges[i].stretch->contract->subscription.tenant));
		column_add(&columns[1], gate_text(charges[i].charge->metric));
		column_add(&columns[2], gate_timestamptz(charges[i].stretch->from));
		column_add(&columns[3], gate_timestamptz(charges[i].stretch->to));
	}
	if (columns[0].count == 0)
		return count;
	removed = gate_run(&late_removed, EXPECT_ANY, column_array(&columns[0]),
					   column_array(&columns[1]), column_array(&columns[2]),
					   column_array(&columns[3]));
	for (int i = 0; i < count; i++)
	{
		if (charges[i].charge->model != MODEL_PERCENTAGE || next == removed->count ||
			row_int64(removed, next, 0) != ++ordinal)
		{
			charges[left++] = charges[i];
			continue;
		}
		next++;
		ereport(WARNING,
				errmsg("late usage of metric \"%s\" cannot be billed", charges[i].charge->metric),
				errdetail("Events of tenant %s of the period from %s are not kept any more.",
						  id_text(&charges[i].stretch->contract->subscription.tenant),
						  timestamptz_to_str(charges[i].stretch->from)));
	}
	return left;
}

/* At most what is left to an agreed maximum. */
static Numeric
within(Numeric amount, const LateStretch *stretch, Numeric maximum, Numeric billed)
{
	Numeric room;

	if (maximum == NULL)
		return amount;
	if (stretch->is_part)
		maximum = money_ratio(numeric_times(maximum, stretch->part.part), stretch->part.whole,
							  stretch->priced->pricing->exponent);
	room = numeric_positive_part(numeric_minus(maximum, billed));
	return numeric_compare(amount, room) > 0 ? room : amount;
}

/* An invoice of late usage alone is of the time that its lines are of. */
static void
cover(Bill *bill, const LateStretch *stretch)
{
	bool is_first = bill->lines == NIL;

	bill->period_start = is_first ? stretch->from : Min(bill->period_start, stretch->from);
	bill->period_end = is_first ? stretch->to : Max(bill->period_end, stretch->to);
}

static BillLine *
add_line(Batch *batch, LateStretch *stretch, const RatedLine *rated, Numeric amount)
{
	Contract *contract = stretch->contract;
	BillLine *line =
		bill_line_rated(batch, contract, &stretch->item, stretch->priced, rated, "late");
	Bill *bill;

	line->amount = money_round(amount, stretch->priced->pricing->exponent);
	line->exact = line->amount;
	line->period_start = stretch->from;
	line->period_end = stretch->to;
	stretch->amount = numeric_plus(stretch->amount, line->amount);
	bill = batch_bill(batch, contract);
	if (contract->is_over)
		cover(bill, stretch);
	bill_add(bill, line);
	return line;
}

static void
bill_late(Batch *batch, const LateCharge *late, const GateRows *billed, int64 row)
{
	LateStretch *stretch = late->stretch;
	const Pricing *pricing = stretch->priced->pricing;
	RatedLine rated[CHARGE_MAX_LINES];
	Numeric before = row_numeric(billed, row, 1);
	Numeric used = late->usage.quantity;
	Numeric cost = numeric_from_int(0);
	Numeric amount;
	BillLine *line;
	JsonBuilder trace;
	int count = charge_rate(late->charge, pricing->exponent, &late->usage,
							stretch->is_part ? &stretch->part : NULL, rated);

	for (int i = 0; i < count; i++)
	{
		if (!stretch->is_trial || strcmp(rated[i].kind, "minimum") != 0)
			cost = numeric_plus(cost, rated[i].amount);
	}
	amount = within(numeric_minus(cost, before), stretch, late->charge->maximum,
					row_numeric(billed, row, 2));
	amount = within(amount, stretch, pricing->maximum,
					numeric_plus(row_numeric(billed, row, 3), stretch->amount));
	if (numeric_is_zero(amount))
		return;
	if (count == 0)
		rated[0] = (RatedLine){.charge = late->charge,
							   .description = late->charge->name,
							   .metric = late->charge->metric,
							   .unit = late->charge->unit,
							   .used = used};
	line = add_line(batch, stretch, &rated[0], amount);
	line->quantity = used;
	line->unit_price = NULL;
	json_begin(&trace);
	json_put_text(&trace, "rule", "late");
	json_put_int64(&trace, "price_version", stretch->priced->version);
	json_put_numeric(&trace, "used", used);
	json_put_numeric(&trace, "cost", cost);
	json_put_numeric(&trace, "billed", before);
	line->trace = json_end(&trace);
}

/* What is missing to the minimum of the plan now, less what was. */
static void
bill_late_minimum(Batch *batch, LateStretch *stretch, const GateRows *billed, int64 row)
{
	const Pricing *pricing = stretch->priced->pricing;
	Numeric counted = numeric_plus(row_numeric(billed, row, 4), stretch->amount);
	Numeric before = row_numeric(billed, row, 5);
	Numeric minimum;
	Numeric missing;
	RatedLine rated = {0};
	BillLine *line;
	JsonBuilder trace;

	if (numeric_is_zero(stretch->amount) || stretch->is_trial)
		return;
	minimum = stretch->is_part ? money_ratio(numeric_times(pricing->minimum, stretch->part.part),
											 stretch->part.whole, pricing->exponent)
							   : money_round(pricing->minimum, pricing->exponent);
	missing = numeric_positive_part(numeric_minus(minimum, counted));
	if (numeric_compare(missing, before) == 0)
		return;
	rated.kind = "minimum";
	rated.description = "Minimum";
	rated.quantity = numeric_from_int(1);
	line = add_line(batch, stretch, &rated, numeric_minus(missing, before));
	json_begin(&trace);
	json_put_text(&trace, "rule", "late_minimum");
	json_put_int64(&trace, "price_version", stretch->priced->version);
	json_put_numeric(&trace, "minimum", minimum);
	json_put_numeric(&trace, "counted", counted);
	json_put_numeric(&trace, "billed", before);
	line->trace = json_end(&trace);
}

/* What a late charge, or (NULL) the plan of a late stretch, was billed: a question. */
static void
ask_billed(Column *columns, const LateStretch *stretch, const char *charge)
{
	column_add(&columns[0], gate_uuid(&stretch->contract->subscription.tenant));
	column_add(&columns[1], gate_uuid(&stretch->contract->subscription.id));
	column_add(&columns[2], gate_uuid(&stretch->item.line));
	column_add(&columns[3], gate_text(charge));
	column_add(&columns[4], gate_timestamptz(stretch->from));
	column_add(&columns[5], gate_timestamptz(stretch->to));
}

void
charge_late(Batch *batch)
{
	static const Oid types[] = {UUIDOID, UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	List *periods = list_periods(batch);
	List *stretches = NIL;
	LateCharge *charges;
	UsageWanted *wanted;
	GateRows *billed;
	Column columns[lengthof(types)];
	int64 row;
	int count;
	ListCell *cell;

	if (periods == NIL)
		return;
	charges = list_charges(batch, periods, &stretches, &count);
	count = without_removed(charges, count);
	if (count == 0)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		column_begin(&columns[i], types[i]);
	wanted = palloc(sizeof(UsageWanted) * count);
	for (int i = 0; i < count; i++)
	{
		LateCharge *late = &charges[i];

		wanted[i] = (UsageWanted){.contract = late->stretch->contract,
								  .charge = late->charge,
								  .pricing = late->stretch->priced->pricing,
								  .from = late->stretch->from,
								  .to = late->stretch->to,
								  .full_start = late->stretch->full_start,
								  .full_end = late->stretch->full_end,
								  .usage = &late->usage};
		ask_billed(columns, late->stretch, late->charge->id);
	}
	foreach (cell, stretches)
		ask_billed(columns, lfirst(cell), NULL);
	usage_read(wanted, count);
	billed =
		gate_run(&late_billed, EXPECT_ANY, column_array(&columns[0]), column_array(&columns[1]),
				 column_array(&columns[2]), column_array(&columns[3]), column_array(&columns[4]),
				 column_array(&columns[5]));
	for (row = 0; row < count; row++)
		bill_late(batch, &charges[row], billed, row);
	foreach (cell, stretches)
	{
		LateStretch *stretch = lfirst(cell);

		if (stretch->priced->pricing->minimum != NULL)
			bill_late_minimum(batch, stretch, billed, row);
		row++;
	}
}
