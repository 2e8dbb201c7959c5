/*
 * billing/invoice_html.c
 *		An invoice as a page: self-contained, printing on one sheet of A4.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/regtenant.h"
#include "core/function.h"
#include "core/id.h"
#include "core/money.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

GATE_LOOKUP(invoice_page,
			"SELECT coalesce(i.number, 'Draft'), i.state, t.name, t.slug,"
			"       pg_catalog.to_char(i.period_start AT TIME ZONE z.zone, 'YYYY-MM-DD'),"
			"       pg_catalog.to_char(i.period_end AT TIME ZONE z.zone, 'YYYY-MM-DD'),"
			"       pg_catalog.to_char(i.issued_at AT TIME ZONE z.zone, 'YYYY-MM-DD'),"
			"       pg_catalog.to_char(i.due_at AT TIME ZONE z.zone, 'YYYY-MM-DD'),"
			"       i.currency, i.total, i.tenant_id, coalesce(p.name, '')"
			"  FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id"
			"  LEFT JOIN tenancy.subscription s ON s.id = i.subscription_id"
			"  LEFT JOIN tenancy.plan p ON p.id = s.plan,"
			"  LATERAL (SELECT coalesce(s.time_zone, 'UTC') AS zone) z"
			" WHERE i.id = $1",
			UUIDOID);
GATE_LOOKUP(invoice_page_lines,
			"SELECT l.description, l.quantity, l.unit, l.unit_price, l.amount"
			"  FROM tenancy.invoice_line l WHERE l.invoice_id = $1 ORDER BY l.position",
			UUIDOID);

static const char page_head[] =
	"<!DOCTYPE html>\n"
	"<html lang=\"en\">\n"
	"<head>\n"
	"<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>Invoice %s</title>\n"
	"<style>\n"
	"@page { size: A4; margin: 20mm }\n"
	"body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1e; max-width: 44rem;"
	" margin: 3rem auto; padding: 0 1.5rem }\n"
	"header { display: flex; justify-content: space-between; align-items: baseline;"
	" border-bottom: 2px solid #1c1c1e; padding-bottom: .75rem }\n"
	"h1 { font-size: 1.6rem; margin: 0 }\n"
	".state { text-transform: uppercase; letter-spacing: .08em; font-size: .8rem }\n"
	"dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem;"
	" margin: 1.5rem 0 2rem }\n"
	"dt { color: #6e6e73 }\n"
	"dd { margin: 0 }\n"
	"table { width: 100%%; border-collapse: collapse }\n"
	"th { text-align: left; font-weight: 600; border-bottom: 1px solid #c7c7cc; padding: .4rem 0 "
	"}\n"
	"td { border-bottom: 1px solid #e5e5ea; padding: .5rem 0 }\n"
	".number { text-align: right; font-variant-numeric: tabular-nums }\n"
	"tfoot td { border-bottom: none; font-weight: 600; padding-top: .8rem }\n"
	"@media print { body { margin: 0; padding: 0; max-width: none } }\n"
	"</style>\n"
	"</head>\n";

/* Text that may hold anything, as text of a page. */
static char *
escape(const char *text)
{
	StringInfoData result;

	initStringInfo(&result);
	for (; text != NULL && *text; text++)
	{
		switch (*text)
		{
			case '&':
				appendStringInfoString(&result, "&amp;");
				break;
			case '<':
				appendStringInfoString(&result, "&lt;");
				break;
			case '>':
				appendStringInfoString(&result, "&gt;");
				break;
			case '"':
				appendStringInfoString(&result, "&quot;");
				break;
			case '\'':
				appendStringInfoString(&result, "&#39;");
				break;
			default:
				appendStringInfoChar(&result, *text);
				break;
		}
	}
	return result.data;
}

/* "additional_users" reads "Additional users". */
static char *
as_words(const char *name)
{
	char *words = pstrdup(name);

	for (char *c = words; *c; c++)
	{
		if (*c == '_')
			*c = ' ';
	}
	words[0] = pg_toupper((unsigned char) words[0]);
	return words;
}

static void
append_fact(StringInfo page, const char *name, const char *value)
{
	if (value != NULL)
		appendStringInfo(page, "<dt>%s</dt><dd>%s</dd>\n", name, escape(value));
}

static void
append_line(StringInfo page, const GateRows *lines, int64 row, int exponent)
{
	char *unit = row_text(lines, row, 2);
	Numeric unit_price = row_numeric(lines, row, 3);

	appendStringInfo(page, "<tr><td>%s</td><td class=\"number\">%s%s%s</td>",
					 escape(as_words(row_text(lines, row, 0))),
					 numeric_text(row_numeric(lines, row, 1)), unit != NULL ? " " : "",
					 escape(unit));
	appendStringInfo(page, "<td class=\"number\">%s</td><td class=\"number\">%s</td></tr>\n",
					 unit_price != NULL ? numeric_text(unit_price) : "",
					 numeric_text(money_round(row_numeric(lines, row, 4), exponent)));
}

/* invoice_html(invoice uuid) → text */
TENANCY_FUNCTION(invoice_html)
{
	pg_uuid_t *invoice = required_uuid(fcinfo, 0, "invoice");
	GateRows *head = gate_run(&invoice_page, EXPECT_AT_MOST_ONE, gate_uuid(invoice));
	GateRows *lines;
	StringInfoData page;
	char *number;
	char *currency;
	int exponent;

	if (head->count == 0 || !tenant_is_visible(row_uuid(head, 0, 10)))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("invoice \"%s\" does not exist", id_text(invoice)));
	lines = gate_run(&invoice_page_lines, EXPECT_ANY, gate_uuid(invoice));
	number = escape(row_text(head, 0, 0));
	currency = row_text(head, 0, 8);
	exponent = currency_exponent(currency);

	initStringInfo(&page);
	appendStringInfo(&page, page_head, number);
	appendStringInfo(&page,
					 "<body>\n<header><h1>Invoice %s</h1><span class=\"state\">%s</span></header>\n"
					 "<dl>\n",
					 number, escape(row_text(head, 0, 1)));
	append_fact(&page, "Customer", psprintf("%s (%s)", row_text(head, 0, 2), row_text(head, 0, 3)));
	append_fact(&page, "Plan", row_text(head, 0, 11));
	append_fact(
		&page, "Period",
		psprintf("%s to %s, the last day excluded", row_text(head, 0, 4), row_text(head, 0, 5)));
	append_fact(&page, "Issued", row_text(head, 0, 6));
	append_fact(&page, "Due", row_text(head, 0, 7));
	appendStringInfo(
		&page,
		"</dl>\n<table>\n<thead><tr><th>Item</th><th class=\"number\">Quantity</th>"
		"<th class=\"number\">Price</th><th class=\"number\">Amount (%s)</th></tr></thead>\n"
		"<tbody>\n",
		currency);
	for (int64 i = 0; i < lines->count; i++)
		append_line(&page, lines, i, exponent);
	appendStringInfo(&page,
					 "</tbody>\n<tfoot><tr><td colspan=\"3\">Total</td><td class=\"number\">%s</td>"
					 "</tr></tfoot>\n</table>\n</body>\n</html>\n",
					 numeric_text(money_round(row_numeric(head, 0, 9), exponent)));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(page.data, page.len));
}
