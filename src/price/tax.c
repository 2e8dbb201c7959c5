/*
 * price/tax.c
 *		Taxes of a document.
 *
 * Each rate is taken of the same base, the line less its discounts and the taxes within it, and
 * rounded by itself; one that is compound counts the taxes before it in.  Of an inclusive price p
 * with rates r, s … within it, r is p × r ÷ (100 + r + s + …).
 *
 * Rounded per line, the taxes of lines add up to that of the document; rounded per invoice, the
 * exact taxes of all lines are added up and rounded once, and lines get shares by largest
 * remainder.
 */
#include "postgres.h"

#include "core/money.h"
#include "price/proration.h"
#include "price/tax.h"

/* Of quotients that are added up before they are rounded, and of their sum. */
#define QUOTIENT_DECIMALS 32
#define SUM_DECIMALS 20

static Numeric
percentage_of(const Document *document, const DocumentTax *tax)
{
	return document->is_tax_free ? numeric_zero() : tax->percentage;
}

static Numeric
quotient(Numeric numerator, Numeric denominator)
{
	return numeric_over(money_round(numerator, QUOTIENT_DECIMALS), denominator);
}

/* The taxes within a price; what remains of it. */
static Numeric
inclusive_taxes(const Document *document, const DocumentLine *line, Numeric price, Numeric *amounts)
{
	bool rounds = document->tax_rounding == TAX_PER_LINE;
	Numeric hundred = numeric_from_int(100);
	Numeric divisor = hundred;
	Numeric net = price;
	Numeric *rates = palloc(sizeof(Numeric) * Max(line->tax_count, 1));

	for (int i = 0; i < line->tax_count; i++)
	{
		const DocumentTax *tax = &document->taxes[line->taxes[i]];

		rates[i] = tax->is_inclusive ? percentage_of(document, tax) : numeric_zero();
		divisor = numeric_plus(divisor, rates[i]);
	}
	if (numeric_compare(divisor, hundred) == 0)
		return net;
	if (rounds && document->inclusive_by_net)
	{
		Numeric *shares;

		net = money_ratio(numeric_times(price, hundred), divisor, document->exponent);
		shares = allocate(numeric_minus(price, net), rates, line->tax_count, document->exponent);
		for (int i = 0; i < line->tax_count; i++)
			amounts[i] = shares[i];
		return net;
	}
	for (int i = 0; i < line->tax_count; i++)
	{
		Numeric product;

		if (numeric_is_zero(rates[i]))
			continue;
		product = numeric_times(price, rates[i]);
		amounts[i] =
			rounds ? money_ratio(product, divisor, document->exponent) : quotient(product, divisor);
		net = numeric_minus(net, amounts[i]);
	}
	return net;
}

/* The taxes of a line in the order of its rates, exact or rounded as the document says. */
static Numeric *
tax_line(const Document *document, const DocumentLine *line)
{
	Numeric price = numeric_minus(
		document->tax_on_exact && line->exact != NULL ? line->exact : line->amount, line->discount);
	Numeric *amounts = palloc(sizeof(Numeric) * Max(line->tax_count, 1));
	Numeric net;
	Numeric compound_base;

	for (int i = 0; i < line->tax_count; i++)
		amounts[i] = numeric_zero();
	net = compound_base = inclusive_taxes(document, line, price, amounts);
	for (int i = 0; i < line->tax_count; i++)
	{
		const DocumentTax *tax = &document->taxes[line->taxes[i]];

		if (tax->is_inclusive)
			continue;
		amounts[i] = numeric_times(tax->is_compound ? compound_base : net,
								   numeric_shift(percentage_of(document, tax), -2));
		if (document->tax_rounding == TAX_PER_LINE)
			amounts[i] = money_round(amounts[i], document->exponent);
		compound_base = numeric_plus(compound_base, amounts[i]);
	}
	return amounts;
}

/* Round one rate's exact taxes of all lines once, and give the lines their shares. */
static void
round_rate(Document *document, int tax, Numeric **taxes)
{
	Numeric **places = palloc(sizeof(Numeric *) * Max(document->line_count, 1));
	Numeric *exact = palloc(sizeof(Numeric) * Max(document->line_count, 1));
	Numeric sum = numeric_zero();
	Numeric *shares;
	int count = 0;

	for (int i = 0; i < document->line_count; i++)
	{
		const DocumentLine *line = &document->lines[i];

		for (int j = 0; j < line->tax_count; j++)
		{
			if (line->taxes[j] != tax)
				continue;
			places[count] = &taxes[i][j];
			exact[count] = taxes[i][j];
			sum = numeric_plus(sum, exact[count++]);
		}
	}
	sum = money_round(money_round(sum, SUM_DECIMALS), document->exponent);
	shares = round_to_sum(exact, count, sum, document->exponent);
	for (int i = 0; i < count; i++)
		*places[i] = shares[i];
}

/* What a line comes to, and what it adds to its rates; a compound one's base has taxes in it. */
static void
add_line(Document *document, DocumentLine *line, const Numeric *amounts)
{
	line->tax = numeric_zero();
	line->net = numeric_minus(line->amount, line->discount);
	line->total = line->net;
	for (int i = 0; i < line->tax_count; i++)
	{
		if (!document->taxes[line->taxes[i]].is_inclusive)
			continue;
		line->net = numeric_minus(line->net, amounts[i]);
		document->inclusive_tax = numeric_plus(document->inclusive_tax, amounts[i]);
	}
	for (int i = 0; i < line->tax_count; i++)
	{
		DocumentTax *tax = &document->taxes[line->taxes[i]];

		tax->base = numeric_plus(tax->base, line->net);
		tax->amount = numeric_plus(tax->amount, amounts[i]);
		if (tax->is_inclusive)
			continue;
		if (tax->is_compound)
			tax->base = numeric_plus(tax->base, line->tax);
		line->tax = numeric_plus(line->tax, amounts[i]);
	}
	line->total = numeric_plus(line->total, line->tax);
	document->tax = numeric_plus(document->tax, line->tax);
}

void
document_tax(Document *document)
{
	Numeric **taxes = palloc(sizeof(Numeric *) * Max(document->line_count, 1));

	document->tax = document->inclusive_tax = numeric_zero();
	for (int i = 0; i < document->tax_count; i++)
		document->taxes[i].base = document->taxes[i].amount = numeric_zero();
	for (int i = 0; i < document->line_count; i++)
		taxes[i] = tax_line(document, &document->lines[i]);
	if (document->tax_rounding == TAX_PER_INVOICE)
	{
		for (int i = 0; i < document->tax_count; i++)
			round_rate(document, i, taxes);
	}
	for (int i = 0; i < document->line_count; i++)
		add_line(document, &document->lines[i], taxes[i]);
}
