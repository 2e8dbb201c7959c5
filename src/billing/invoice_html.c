/*
 * billing/invoice_html.c
 *		Invoices and credit notes as pages: self-contained, printing on A4.
 *
 * The page is ASCII but for what names hold, so that it is right in any encoding.
 */
#include "postgres.h"

#include "billing/printed.h"
#include "core/function.h"
#include "core/money.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

static const char style[] =
	"@page { size: A4; margin: 16mm 20mm 18mm; @bottom-right { content: counter(page) \" / \""
	" counter(pages); color: #666b75; font: 8pt Helvetica, Arial, \"Liberation Sans\", sans-serif "
	"} }\n"
	":root { --ink: #1a1c20; --soft: #666b75; --rule: #d9dce1; --hair: #eceef1 }\n"
	"* { box-sizing: border-box }\n"
	"html { background: #f3f3f1; -webkit-text-size-adjust: 100% }\n"
	"body { margin: 0 auto; padding: 18mm 20mm; max-width: 210mm; min-height: 297mm;"
	" background: #fff; color: var(--ink);"
	" font: 9.5pt/1.5 Inter, \"Helvetica Neue\", Helvetica, Arial, \"Liberation Sans\", sans-serif;"
	" font-variant-numeric: tabular-nums; overflow-wrap: break-word }\n"
	"p, h1, h2, address, dl, dd { margin: 0; font-style: normal; font-weight: normal }\n"
	".soft, dt, th { color: var(--soft) }\n"
	".small { font-size: 8.5pt; line-height: 1.45 }\n"
	"header { display: flex; justify-content: space-between; align-items: baseline; gap: 12mm }\n"
	"header .seller { font-size: 13pt; font-weight: 600; letter-spacing: -.01em }\n"
	"h1 { font-size: 21pt; line-height: 1.15; font-weight: 600; letter-spacing: -.02em;"
	" margin-top: 10mm }\n"
	"h2 { font-size: 8.5pt; color: var(--soft); margin-bottom: 1mm }\n"
	".lead { margin-top: 1.5mm; font-size: 11pt; color: var(--soft) }\n"
	".lead strong { color: var(--ink); font-weight: 600 }\n"
	".parties { display: grid; grid-template-columns: 1fr 1fr 1.1fr; gap: 10mm; margin: 9mm 0 10mm;"
	" padding-top: 5mm; border-top: .35mm solid var(--ink) }\n"
	".parties strong { font-weight: 600 }\n"
	"dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .6mm 5mm;"
	" align-content: start }\n"
	"dl.facts dd { text-align: right }\n"
	"table { width: 100%; border-collapse: collapse }\n"
	"th { font-size: 8.5pt; font-weight: normal; text-align: left; vertical-align: bottom;"
	" padding: 0 0 1.6mm; border-bottom: .25mm solid var(--rule) }\n"
	"td { vertical-align: top; padding: 2mm 0; border-bottom: .2mm solid var(--hair) }\n"
	"tr { break-inside: avoid }\n"
	"th + th, td + td { padding-left: 6mm }\n"
	".n { text-align: right; white-space: nowrap }\n"
	".what { width: 55% }\n"
	"td:first-child { overflow-wrap: anywhere }\n"
	".totals { display: flex; justify-content: flex-end; margin-top: 3mm }\n"
	".totals dl { display: grid; grid-template-columns: 1fr max-content; width: 88mm }\n"
	".totals dt, .totals dd { padding: 1.1mm 0 }\n"
	".totals dd { text-align: right; white-space: nowrap; padding-left: 8mm }\n"
	".totals .sum { color: var(--ink); font-weight: 600; border-top: .25mm solid var(--rule);"
	" margin-top: 1.2mm; padding-top: 2.2mm }\n"
	".totals .due { font-size: 12pt; border-top-color: var(--ink); border-top-width: .35mm }\n"
	".within { display: block; font-size: 8.5pt; color: var(--soft); font-weight: normal }\n"
	".notes { display: grid; grid-template-columns: 1fr 1fr; gap: 6mm 10mm; margin-top: 11mm;"
	" padding-top: 4mm; border-top: .25mm solid var(--rule) }\n"
	".end { break-inside: avoid }\n"
	".notes p + p { margin-top: 1mm }\n"
	"@media screen and (max-width: 640px) { body { padding: 8mm 6mm; min-height: 0 }"
	" .parties, .notes { grid-template-columns: 1fr; gap: 6mm } th + th, td + td"
	" { padding-left: 3mm } .totals dl { width: 100% } }\n"
	"@media print { html { background: none } body { padding: 0; max-width: none; min-height: 0 } "
	"}\n";

/* Numbers. */

/* The text of a number with its thousands apart; a minus is a minus. */
static char *
grouped(const char *number)
{
	StringInfoData text;
	const char *digit = number;
	int whole;

	initStringInfo(&text);
	if (*digit == '-')
	{
		appendStringInfoString(&text, "&minus;");
		digit++;
	}
	whole = strspn(digit, "0123456789");
	for (int i = 0; i < whole; i++)
	{
		appendStringInfoChar(&text, digit[i]);
		if (i < whole - 1 && (whole - 1 - i) % 3 == 0)
			appendStringInfoChar(&text, ',');
	}
	appendStringInfoString(&text, digit + whole);
	return text.data;
}

static char *
money(const Printed *printed, Numeric amount)
{
	return grouped(numeric_text(money_round(amount, printed->exponent)));
}

/* A number without the zeros at its end, but with so many decimals at least. */
static char *
shortest(Numeric value, int decimals)
{
	char *text = numeric_text(value);
	char *point = strchr(text, '.');
	int length = strlen(text);

	if (point == NULL)
		return decimals > 0 ? grouped(numeric_text(money_round(value, decimals))) : grouped(text);
	while (text + length - 1 > point + decimals && text[length - 1] == '0')
		length--;
	if (text + length - 1 == point)
		length--;
	text[length] = '\0';
	if (text + length <= point + decimals)
		return grouped(numeric_text(money_round(value, decimals)));
	return grouped(text);
}

/* Days. */

/* "2026-02-01" reads "1 February 2026". */
static char *
day(const char *iso)
{
	static const char *const months[] = {"January",   "February", "March",    "April",
										 "May",       "June",     "July",     "August",
										 "September", "October",  "November", "December"};
	int year;
	int month;
	int number;

	/* Years beyond 9999 are not worth a format of their own. */
	if (sscanf(iso, "%d-%d-%d", &year, &month, &number) != 3 || month < 1 || month > 12)
		return pstrdup(iso);
	return psprintf("%d %s %d", number, months[month - 1], year);
}

static void
append_day(StringInfo page, const char *iso)
{
	appendStringInfo(page, "<time datetime=\"%s\">%s</time>", iso, day(iso));
}

static void
append_period(StringInfo page, const char *first, const char *last)
{
	append_day(page, first);
	if (strcmp(first, last) != 0)
	{
		appendStringInfoString(page, " &ndash; ");
		append_day(page, last);
	}
}

/* Parts of the page. */

/* "additional_users" reads "Additional users"; what somebody has written stays as it is. */
static char *
as_words(const char *name)
{
	char *words = pstrdup(name);

	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name) || *name == '\0')
		return words;
	for (char *c = words; *c; c++)
	{
		if (*c == '_')
			*c = ' ';
	}
	words[0] = pg_toupper((unsigned char) words[0]);
	return words;
}

static void
append_line_of(StringInfo page, const char *text)
{
	if (text == NULL)
		return;
	append_escaped(page, text);
	appendStringInfoString(page, "<br>\n");
}

static void
append_party(StringInfo page, const char *title, const PrintedParty *party)
{
	appendStringInfo(page, "<section>\n<h2>%s</h2>\n<address>\n<strong>", title);
	append_escaped(page, party->name);
	appendStringInfoString(page, "</strong><br>\n");
	append_line_of(page, party->line1);
	append_line_of(page, party->line2);
	if (party->postal_code != NULL || party->city != NULL)
	{
		append_escaped(page, party->postal_code);
		if (party->postal_code != NULL && party->city != NULL)
			appendStringInfoChar(page, ' ');
		append_line_of(page, party->city != NULL ? party->city : "");
	}
	append_line_of(page, party->region);
	append_line_of(page, party->country);
	if (party->tax_id != NULL)
	{
		appendStringInfoString(page, "<span class=\"soft\">Tax id</span> ");
		append_line_of(page, party->tax_id);
	}
	append_line_of(page, party->email);
	appendStringInfoString(page, "</address>\n</section>\n");
}

static void
append_fact_day(StringInfo page, const char *name, const char *iso)
{
	if (iso == NULL)
		return;
	appendStringInfo(page, "<dt>%s</dt><dd>", name);
	append_day(page, iso);
	appendStringInfoString(page, "</dd>\n");
}

static void
append_fact(StringInfo page, const char *name, const char *value)
{
	appendStringInfo(page, "<dt>%s</dt><dd>", name);
	append_escaped(page, value);
	appendStringInfoString(page, "</dd>\n");
}

static void
append_facts(StringInfo page, const Printed *printed)
{
	appendStringInfoString(page, "<dl class=\"facts\">\n");
	append_fact_day(page, "Issued", printed->issued);
	append_fact_day(page, "Due", printed->due);
	append_fact_day(page, "Paid", printed->paid);
	if (printed->is_credit_note)
	{
		append_fact(page, "Of invoice", printed->references[0].number);
		append_fact_day(page, "Invoiced", printed->references[0].day);
	}
	appendStringInfoString(page, "<dt>Period</dt><dd>");
	append_day(page, printed->first_day);
	if (strcmp(printed->first_day, printed->last_day) != 0)
	{
		appendStringInfoString(page, " &ndash;<br>\n");
		append_day(page, printed->last_day);
	}
	appendStringInfoString(page, "</dd>\n</dl>\n");
}

/* What somebody wants to know first. */
static void
append_lead(StringInfo page, const Printed *printed)
{
	bool owes = numeric_compare(printed->is_credit_note ? printed->total : printed->amount_due,
								numeric_zero()) > 0;

	appendStringInfoString(page, "<p class=\"lead\">");
	if (printed->is_credit_note)
	{
		appendStringInfo(page, "<strong>%s %s</strong> &middot; ", money(printed, printed->total),
						 printed->currency);
		append_escaped(page, printed->reason);
	}
	else if (strcmp(printed->state, "draft") == 0)
		appendStringInfoString(page, "A draft, which is not due");
	else if (strcmp(printed->state, "void") == 0)
		appendStringInfoString(page, "Void: nothing is due");
	else if (owes)
		appendStringInfo(page, "<strong>%s %s</strong> due on %s",
						 money(printed, printed->amount_due), printed->currency, day(printed->due));
	else if (numeric_compare(printed->amount_due, numeric_zero()) < 0)
		appendStringInfo(page, "<strong>%s %s</strong> will be refunded",
						 money(printed, numeric_negate(printed->amount_due)), printed->currency);
	else
		appendStringInfoString(page, "Paid in full, with thanks");
	appendStringInfoString(page, "</p>\n");
}

/* "18 of 28 days", or a percentage where they are no whole days. */
static char *
share(Numeric part, Numeric whole)
{
	const Numeric day_seconds = numeric_from_int(SECS_PER_DAY);
	/* No period has so many days, or so few seconds. */
	bool is_in_days = numeric_compare(whole, numeric_from_int(1000)) < 0;

	if (!is_in_days && numeric_is_zero(numeric_remainder(part, day_seconds)) &&
		numeric_is_zero(numeric_remainder(whole, day_seconds)))
	{
		part = numeric_quotient(part, day_seconds);
		whole = numeric_quotient(whole, day_seconds);
		is_in_days = true;
	}
	if (is_in_days)
		return psprintf("%s of %s days", shortest(part, 0), shortest(whole, 0));
	return psprintf("%s&#8239;%% of the period",
					shortest(money_ratio(numeric_shift(part, 2), whole, 2), 0));
}

/* When it was supplied, where that says more than the page does. */
static void
append_when(StringInfo page, const Printed *printed, const PrintedLine *line)
{
	bool is_other = strcmp(line->first_day, printed->first_day) != 0 ||
					strcmp(line->last_day, printed->last_day) != 0;
	bool is_part = line->part != NULL && line->whole != NULL && !numeric_is_zero(line->whole);

	if (!is_other && !is_part)
		return;
	appendStringInfoString(page, "<br>\n<span class=\"soft small\">");
	if (is_other)
		append_period(page, line->first_day, line->last_day);
	if (is_part)
		appendStringInfo(page, "%s%s", is_other ? " &middot; " : "",
						 share(line->part, line->whole));
	appendStringInfoString(page, "</span>");
}

static void
append_invoice_line(StringInfo page, const Printed *printed, const PrintedLine *line)
{
	appendStringInfoString(page, "<tr><td>");
	append_escaped(page, as_words(line->description));
	append_when(page, printed, line);
	appendStringInfoString(page, "</td>");
	if (!printed->is_credit_note)
	{
		appendStringInfo(page, "<td class=\"n\">%s", shortest(line->quantity, 0));
		if (line->unit != NULL)
		{
			appendStringInfoString(page, " <span class=\"soft\">");
			append_escaped(page, line->unit);
			appendStringInfoString(page, "</span>");
		}
		appendStringInfo(page, "</td><td class=\"n\">%s</td>",
						 line->unit_price != NULL ? shortest(line->unit_price, printed->exponent)
												  : "");
	}
	appendStringInfo(page, "<td class=\"n\">%s</td></tr>\n", money(printed, line->amount));
}

static void
append_lines(StringInfo page, const Printed *printed)
{
	appendStringInfoString(page, "<table>\n<thead><tr><th scope=\"col\" class=\"what\">Item</th>");
	if (!printed->is_credit_note)
		appendStringInfoString(page, "<th scope=\"col\" class=\"n\">Quantity</th>"
									 "<th scope=\"col\" class=\"n\">Unit price</th>");
	appendStringInfo(page,
					 "<th scope=\"col\" class=\"n\">Amount in %s</th></tr></thead>\n<tbody>\n",
					 printed->currency);
	for (int i = 0; i < printed->line_count; i++)
		append_invoice_line(page, printed, &printed->lines[i]);
	appendStringInfoString(page, "</tbody>\n</table>\n");
}

/* Totals. */

static void
begin_total(StringInfo page, const char *class)
{
	if (class != NULL)
		appendStringInfo(page, "<dt class=\"%s\">", class);
	else
		appendStringInfoString(page, "<dt>");
}

static void
end_total(StringInfo page, const Printed *printed, const char *class, Numeric amount)
{
	if (class != NULL)
		appendStringInfo(page, "</dt><dd class=\"%s\">%s</dd>\n", class, money(printed, amount));
	else
		appendStringInfo(page, "</dt><dd>%s</dd>\n", money(printed, amount));
}

static void
append_total(StringInfo page, const Printed *printed, const char *class, const char *name,
			 Numeric amount)
{
	begin_total(page, class);
	append_escaped(page, name);
	end_total(page, printed, class, amount);
}

/* What lowers the total, where there is some of it. */
static void
append_less(StringInfo page, const Printed *printed, const char *name, Numeric amount)
{
	if (!numeric_is_zero(amount))
		append_total(page, printed, NULL, name, numeric_negate(amount));
}

static char *
tax_name(const PrintedTax *tax)
{
	StringInfoData name;

	initStringInfo(&name);
	append_escaped(&name, tax->name);
	appendStringInfo(&name, " %s&#8239;%%", shortest(tax->percentage, 0));
	return name.data;
}

static void
append_taxes(StringInfo page, const Printed *printed)
{
	for (int i = 0; i < printed->tax_count; i++)
	{
		const PrintedTax *tax = &printed->taxes[i];

		if (tax->is_inclusive)
			continue;
		begin_total(page, NULL);
		appendStringInfo(page, "%s on %s", tax_name(tax), money(printed, tax->base));
		end_total(page, printed, NULL, tax->amount);
	}
}

/* The total, with the taxes that the prices contain. */
static void
append_sum(StringInfo page, const Printed *printed)
{
	begin_total(page, "sum");
	appendStringInfoString(page, "Total");
	for (int i = 0; i < printed->tax_count; i++)
	{
		const PrintedTax *tax = &printed->taxes[i];

		if (tax->is_inclusive)
			appendStringInfo(page, "<span class=\"within\">%s within: %s on %s</span>",
							 tax_name(tax), money(printed, tax->amount), money(printed, tax->base));
	}
	end_total(page, printed, "sum", printed->total);
}

static void
append_discounts(StringInfo page, const Printed *printed)
{
	for (int i = 0; i < printed->discount_count; i++)
		append_less(page, printed, printed->discounts[i].description, printed->discounts[i].amount);
	/* A credit note takes discounts back by line. */
	if (printed->is_credit_note)
		append_less(page, printed, "Discounts", printed->discount);
}

static void
append_settlement(StringInfo page, const Printed *printed)
{
	Numeric zero = numeric_zero();

	if (numeric_compare(printed->amount_applied, zero) > 0)
		append_less(page, printed, "Paid from credit", printed->amount_applied);
	else
		append_less(page, printed, "Added to your credit", printed->amount_applied);
	append_less(page, printed, "Credit notes", printed->amount_credited);
	append_less(page, printed, "Paid", printed->amount_paid);
	if (printed->issued == NULL || strcmp(printed->state, "void") == 0)
		return;
	if (numeric_compare(printed->amount_due, zero) < 0)
		append_total(page, printed, "sum due", "To be refunded",
					 numeric_negate(printed->amount_due));
	else
		append_total(page, printed, "sum due", "Amount due", printed->amount_due);
}

static void
append_use(StringInfo page, const Printed *printed, const char *name, Numeric amount)
{
	if (!numeric_is_zero(amount))
		append_total(page, printed, NULL, name, amount);
}

static void
append_totals(StringInfo page, const Printed *printed)
{
	appendStringInfoString(page, "<div class=\"totals\">\n<dl>\n");
	if (printed->discount_count > 0 || !numeric_is_zero(printed->discount) ||
		printed->tax_count > 0)
		append_total(page, printed, NULL, "Subtotal", printed->subtotal);
	append_discounts(page, printed);
	append_taxes(page, printed);
	append_sum(page, printed);
	if (printed->is_credit_note)
	{
		append_use(page, printed, psprintf("Off invoice %s", printed->references[0].number),
				   printed->amount_off_due);
		append_use(page, printed, "Added to your credit", printed->amount_to_credit);
		append_use(page, printed, "To be refunded", printed->amount_to_refund);
	}
	else
		append_settlement(page, printed);
	appendStringInfoString(page, "</dl>\n</div>\n");
}

/* Notes. */

static void
begin_note(StringInfo notes, const char *title)
{
	appendStringInfo(notes, "<section>\n<h2>%s</h2>\n", title);
}

static void
append_bank(StringInfo notes, const Printed *printed)
{
	if (printed->iban == NULL || printed->is_credit_note || printed->issued == NULL ||
		numeric_compare(printed->amount_due, numeric_zero()) <= 0)
		return;
	begin_note(notes, "By bank transfer");
	appendStringInfoString(notes, "<p>");
	append_line_of(notes, printed->account_holder);
	/* In groups of four, as it is read and typed. */
	for (const char *c = printed->iban; *c; c++)
	{
		append_escaped(notes, (char[]){*c, '\0'});
		if ((c + 1 - printed->iban) % 4 == 0 && c[1] != '\0' && strchr(printed->iban, ' ') == NULL)
			appendStringInfoString(notes, "&nbsp;");
	}
	if (printed->bic != NULL)
	{
		appendStringInfoString(notes, " &middot; ");
		append_escaped(notes, printed->bic);
	}
	appendStringInfoString(notes, "<br>\nReference ");
	append_escaped(notes, printed->number);
	appendStringInfoString(notes, "</p>\n</section>\n");
}

/* Each reason once, however many rates it is about. */
static void
append_reasons(StringInfo notes, const Printed *printed)
{
	bool has_begun = false;

	for (int i = 0; i < printed->tax_count; i++)
	{
		const char *reason = printed->taxes[i].reason;
		bool is_known = reason == NULL;

		for (int j = 0; j < i; j++)
			is_known = is_known || (printed->taxes[j].reason != NULL &&
									strcmp(printed->taxes[j].reason, reason) == 0);
		if (is_known)
			continue;
		if (!has_begun)
			begin_note(notes, strcmp(printed->taxes[i].category, "AE") == 0 ? "Reverse charge"
																			: "No tax is due");
		has_begun = true;
		appendStringInfoString(notes, "<p>");
		append_escaped(notes, reason);
		appendStringInfoString(notes, "</p>\n");
	}
	if (has_begun)
		appendStringInfoString(notes, "</section>\n");
}

static void
append_references(StringInfo notes, const Printed *printed)
{
	if (printed->is_credit_note || printed->reference_count == 0)
		return;
	begin_note(notes, "Credit notes");
	for (int i = 0; i < printed->reference_count; i++)
	{
		const PrintedReference *note = &printed->references[i];

		appendStringInfoString(notes, "<p>");
		append_escaped(notes, note->number);
		appendStringInfoString(notes, " of ");
		append_day(notes, note->day);
		appendStringInfo(notes, ": %s %s</p>\n", money(printed, note->total), printed->currency);
	}
	appendStringInfoString(notes, "</section>\n");
}

static void
append_notes(StringInfo page, const Printed *printed)
{
	StringInfoData notes;

	initStringInfo(&notes);
	append_bank(&notes, printed);
	append_reasons(&notes, printed);
	append_references(&notes, printed);
	if (notes.len > 0)
		appendStringInfo(page, "<div class=\"notes\">\n%s</div>\n", notes.data);
}

static Datum
page_of(const Printed *printed)
{
	const char *title = printed->is_credit_note ? "Credit note" : "Invoice";
	StringInfoData page;

	initStringInfo(&page);
	appendStringInfo(&page,
					 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
					 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
					 "<title>%s ",
					 title);
	append_escaped(&page, printed->number != NULL ? printed->number : "(draft)");
	appendStringInfo(&page,
					 "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n"
					 "<p class=\"seller\">",
					 style);
	append_escaped(&page, printed->seller.name);
	appendStringInfo(&page, "</p>\n</header>\n<main>\n<h1>%s", title);
	if (printed->number != NULL)
	{
		appendStringInfoChar(&page, ' ');
		append_escaped(&page, printed->number);
	}
	appendStringInfoString(&page, "</h1>\n");
	append_lead(&page, printed);
	appendStringInfoString(&page, "<div class=\"parties\">\n");
	append_party(&page, "To", &printed->customer);
	append_party(&page, "From", &printed->seller);
	append_facts(&page, printed);
	appendStringInfoString(&page, "</div>\n");
	append_lines(&page, printed);
	/* Totals and notes are on one sheet. */
	appendStringInfoString(&page, "<div class=\"end\">\n");
	append_totals(&page, printed);
	append_notes(&page, printed);
	appendStringInfoString(&page, "</div>\n</main>\n</body>\n</html>\n");
	return PointerGetDatum(cstring_to_text_with_len(page.data, page.len));
}

/* invoice_html(invoice uuid) → text */
TENANCY_FUNCTION(invoice_html)
{
	PG_RETURN_DATUM(page_of(printed_invoice(required_uuid(fcinfo, 0, "invoice"))));
}

/* credit_note_html(credit_note uuid) → text */
TENANCY_FUNCTION(credit_note_html)
{
	PG_RETURN_DATUM(page_of(printed_credit_note(required_uuid(fcinfo, 0, "credit_note"))));
}
