/*
 * price/document.c
 *		Documents: from lines to a total, by discounts, taxes and credits in their order.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/document.h"
#include "price/proration.h"
#include "price/tax.h"

/* Discounts. */

static bool
is_listed(const char *name, const char *const *list, int count)
{
	if (count == 0)
		return true;
	for (int i = 0; name != NULL && i < count; i++)
	{
		if (strcmp(list[i], name) == 0)
			return true;
	}
	return false;
}

/* Does the discount take from the line?  What is given back is not discounted. */
static bool
is_discounted(const DocumentDiscount *discount, const DocumentLine *line)
{
	return numeric_compare(line->amount, numeric_zero()) > 0 &&
		   (discount->subscription == 0 || discount->subscription == line->subscription) &&
		   (discount->charge == NULL ||
			(line->charge != NULL && strcmp(discount->charge, line->charge) == 0)) &&
		   is_listed(line->metric, discount->metrics, discount->metric_count) &&
		   is_listed(line->plan, discount->plans, discount->plan_count);
}

static Numeric
discount_amount(const DocumentDiscount *discount, Numeric base, int exponent)
{
	switch (discount->kind)
	{
		case DISCOUNT_PERCENT:
			return money_round(numeric_times(base, numeric_shift(discount->value, -2)), exponent);
		case DISCOUNT_MAXIMUM:
			return numeric_positive_part(numeric_minus(base, discount->value));
		case DISCOUNT_FIXED:
			return discount->value;
	}
	return numeric_zero();
}

static void
apply_discount(Document *document, DocumentDiscount *discount)
{
	int count = document->line_count;
	Numeric *left = palloc(sizeof(Numeric) * Max(count, 1));

	discount->base = numeric_zero();
	for (int i = 0; i < count; i++)
	{
		DocumentLine *line = &document->lines[i];

		left[i] = is_discounted(discount, line) ? numeric_minus(line->amount, line->discount)
												: numeric_zero();
		discount->base = numeric_plus(discount->base, left[i]);
	}
	if (discount->is_per_line)
	{
		discount->amount = numeric_zero();
		discount->shares = palloc(sizeof(Numeric) * Max(count, 1));
		for (int i = 0; i < count; i++)
		{
			discount->shares[i] = discount_amount(discount, left[i], document->exponent);
			discount->amount = numeric_plus(discount->amount, discount->shares[i]);
		}
	}
	else
	{
		discount->amount = numeric_smaller_of(
			discount_amount(discount, discount->base, document->exponent), discount->base);
		/* No share is larger than what is left of its line: shares are cut, and then get a unit. */
		discount->shares = allocate(discount->amount, left, count, document->exponent);
	}
	if (numeric_is_zero(discount->amount))
		return;
	for (int i = 0; i < count; i++)
		document->lines[i].discount =
			numeric_plus(document->lines[i].discount, discount->shares[i]);
	document->discount = numeric_plus(document->discount, discount->amount);
}

/* Percentages, maxima, fixed amounts; of each, those that are limited most come first. */
static int
discount_rank(const DocumentDiscount *discount)
{
	int scope = 2;

	if (discount->metric_count > 0 || discount->charge != NULL)
		scope = 0;
	else if (discount->plan_count > 0 || discount->subscription != 0)
		scope = 1;
	return (int) discount->kind * 3 + scope;
}

static void
apply_discounts(Document *document)
{
	int *order = palloc(sizeof(int) * Max(document->discount_count, 1));

	/* By insertion: there are few, and equals keep their order. */
	for (int i = 0; i < document->discount_count; i++)
	{
		int rank = discount_rank(&document->discounts[i]);
		int j = i;

		for (; j > 0 && discount_rank(&document->discounts[order[j - 1]]) > rank; j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	for (int i = 0; i < document->discount_count; i++)
		apply_discount(document, &document->discounts[order[i]]);
}

static void
use_credits(Document *document)
{
	document->due = document->total;
	document->credited = numeric_zero();
	for (int i = 0; i < document->credit_count; i++)
	{
		DocumentCredit *credit = &document->credits[i];

		credit->used = numeric_positive_part(numeric_smaller_of(credit->available, document->due));
		document->due = numeric_minus(document->due, credit->used);
		document->credited = numeric_plus(document->credited, credit->used);
	}
}

void
document_calculate(Document *document)
{
	document->subtotal = document->discount = numeric_zero();
	for (int i = 0; i < document->line_count; i++)
	{
		document->lines[i].discount = numeric_zero();
		document->subtotal = numeric_plus(document->subtotal, document->lines[i].amount);
	}
	apply_discounts(document);
	document_tax(document);
	document->total =
		numeric_plus(numeric_minus(document->subtotal, document->discount), document->tax);
	use_credits(document);
}

/* Credit notes. */

/* What a note takes of an amount that belongs to a line or a rate. */
static Numeric
take_back(Numeric share, Numeric whole, Numeric earlier, bool is_last)
{
	Numeric rest = numeric_minus(whole, earlier);

	return is_last ? rest : numeric_smaller_of(share, rest);
}

static void
credit_line(CreditedLine *line, int exponent)
{
	Numeric rest = numeric_minus(line->amount, line->earlier);
	Numeric least = numeric_smaller_of(rest, numeric_zero());
	Numeric most = numeric_larger_of(rest, numeric_zero());
	bool is_last = numeric_compare(line->credit, rest) == 0;

	/* Of a line that gave something back, a negative amount can be credited. */
	if (numeric_compare(line->credit, most) > 0 || numeric_compare(line->credit, least) < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s cannot be credited", numeric_text(line->credit)),
				errdetail("Of the line %s are left.", numeric_text(rest)));
	line->credit_discount = numeric_zero();
	if (!numeric_is_zero(line->credit) && !numeric_is_zero(line->discount))
		line->credit_discount = take_back(
			money_ratio(numeric_times(line->discount, line->credit), line->amount, exponent),
			line->discount, line->earlier_discount, is_last);
	line->credit_net = numeric_minus(line->credit, line->credit_discount);
}

/* Is nothing left of the lines that bear a rate? */
static bool
credits_all_of(const CreditNote *note, int tax)
{
	for (int i = 0; i < note->line_count; i++)
	{
		const CreditedLine *line = &note->lines[i];

		for (int j = 0; j < line->tax_count; j++)
		{
			if (line->taxes[j] == tax &&
				numeric_compare(numeric_plus(line->earlier, line->credit), line->amount) != 0)
				return false;
		}
	}
	return true;
}

void
credit_note_calculate(CreditNote *note)
{
	Document document = {
		.exponent = note->exponent,
		.lines = palloc0(sizeof(DocumentLine) * Max(note->line_count, 1)),
		.line_count = note->line_count,
		.taxes = palloc0(sizeof(DocumentTax) * Max(note->tax_count, 1)),
		.tax_count = note->tax_count,
		.tax_rounding = note->tax_rounding,
		.inclusive_by_net = note->inclusive_by_net,
		.is_tax_free = note->is_tax_free,
	};

	note->subtotal = note->discount = note->tax = numeric_zero();
	for (int i = 0; i < note->line_count; i++)
	{
		CreditedLine *line = &note->lines[i];

		credit_line(line, note->exponent);
		note->subtotal = numeric_plus(note->subtotal, line->credit);
		note->discount = numeric_plus(note->discount, line->credit_discount);
		document.lines[i].amount = line->credit_net;
		document.lines[i].taxes = line->taxes;
		document.lines[i].tax_count = line->tax_count;
	}
	for (int i = 0; i < note->tax_count; i++)
		document.taxes[i] = note->taxes[i].tax;
	document_calculate(&document);
	for (int i = 0; i < note->tax_count; i++)
	{
		CreditedTax *tax = &note->taxes[i];
		bool is_last = credits_all_of(note, i);

		tax->credit_base = take_back(document.taxes[i].base, tax->base, tax->earlier_base, is_last);
		tax->credit_amount =
			take_back(document.taxes[i].amount, tax->amount, tax->earlier_amount, is_last);
		if (!tax->tax.is_inclusive)
			note->tax = numeric_plus(note->tax, tax->credit_amount);
	}
	note->total = numeric_plus(numeric_minus(note->subtotal, note->discount), note->tax);
}

char *
document_number(const char *series, int64 number, int width)
{
	return psprintf("%s-%0*lld", series, width, (long long) number);
}
