/*
 * price/document_api.c
 *		Documents and credit notes as SQL functions from jsonb to jsonb.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/json.h"
#include "core/money.h"
#include "price/charge_document.h"
#include "price/document.h"

static const char *const discount_kinds[] = {
	[DISCOUNT_PERCENT] = "percent",
	[DISCOUNT_MAXIMUM] = "maximum",
	[DISCOUNT_FIXED] = "fixed",
	NULL,
};
static const char *const tax_roundings[] = {
	[TAX_PER_LINE] = "line",
	[TAX_PER_INVOICE] = "invoice",
	NULL,
};
static const char *const inclusive_roundings[] = {"tax", "net", NULL};
static const char *const tax_bases[] = {"line", "exact", NULL};
static const char *const tax_treatments[] = {"taxed", "exempt", "reverse_charge", NULL};

static const JsonRule name_element = {.type = JSON_TEXT};

static const JsonRule line_members[] = {
	{.name = "amount", .type = JSON_NUMBER, .is_required = true},
	{.name = "charge", .type = JSON_TEXT},
	{.name = "metric", .type = JSON_TEXT, .is_nullable = true},
	{.name = "plan", .type = JSON_TEXT},
	{.name = "subscription", .type = JSON_INTEGER, .minimum = "1", .maximum = "2147483647"},
	{.name = "taxes", .type = JSON_ARRAY, .element = &name_element},
	{.name = NULL},
};
static const JsonRule discount_members[] = {
	{.name = "charge", .type = JSON_TEXT},
	{.name = "kind", .type = JSON_TEXT, .is_required = true, .choices = discount_kinds},
	{.name = "metrics", .type = JSON_ARRAY, .element = &name_element},
	{.name = "per_line", .type = JSON_BOOLEAN},
	{.name = "plans", .type = JSON_ARRAY, .element = &name_element},
	{.name = "subscription", .type = JSON_INTEGER, .minimum = "1", .maximum = "2147483647"},
	{.name = "value", .type = JSON_NUMBER, .is_required = true, .minimum = "0"},
	{.name = NULL},
};
static const JsonRule tax_members[] = {
	{.name = "compound", .type = JSON_BOOLEAN},
	{.name = "id", .type = JSON_TEXT, .is_required = true},
	{.name = "inclusive", .type = JSON_BOOLEAN},
	{.name = "percentage",
	 .type = JSON_NUMBER,
	 .is_required = true,
	 .minimum = "0",
	 .maximum = "1000"},
	{.name = NULL},
};
static const JsonRule credit_members[] = {
	{.name = "available", .type = JSON_NUMBER, .is_required = true, .minimum = "0"},
	{.name = "id", .type = JSON_TEXT},
	{.name = NULL},
};
static const JsonRule line_rule = {.type = JSON_OBJECT, .members = line_members};
static const JsonRule discount_rule = {.type = JSON_OBJECT, .members = discount_members};
static const JsonRule tax_rule = {.type = JSON_OBJECT, .members = tax_members};
static const JsonRule credit_rule = {.type = JSON_OBJECT, .members = credit_members};

static const JsonRule document_members[] = {
	{.name = "credits", .type = JSON_ARRAY, .element = &credit_rule, .max_length = 100},
	{.name = "currency", .type = JSON_TEXT, .is_required = true, .check = json_check_currency},
	{.name = "discounts", .type = JSON_ARRAY, .element = &discount_rule, .max_length = 100},
	{.name = "inclusive_rounding", .type = JSON_TEXT, .choices = inclusive_roundings},
	{.name = "lines",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &line_rule,
	 .max_length = 10000},
	{.name = "tax_base", .type = JSON_TEXT, .choices = tax_bases},
	{.name = "tax_rounding", .type = JSON_TEXT, .choices = tax_roundings},
	{.name = "tax_treatment", .type = JSON_TEXT, .choices = tax_treatments},
	{.name = "taxes", .type = JSON_ARRAY, .element = &tax_rule, .max_length = 100},
	{.name = NULL},
};

/* The place of the document's choice in the list; the first where it has none. */
static int
choice(const Jsonb *document, const char *member, const char *const *names)
{
	char *name = json_text(document, member);
	int i = 0;

	while (name != NULL && strcmp(names[i], name) != 0)
		i++;
	return i;
}

static void
read_tax(DocumentTax *tax, const Jsonb *from)
{
	memset(tax, 0, sizeof(DocumentTax));
	tax->id = json_text(from, "id");
	tax->percentage = json_numeric(from, "percentage");
	tax->is_inclusive = json_bool(from, "inclusive", false);
	tax->is_compound = json_bool(from, "compound", false);
}

static DocumentTax *
read_taxes(const Jsonb *array, int *count)
{
	DocumentTax *taxes;

	*count = json_element_count(array);
	taxes = palloc(sizeof(DocumentTax) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		read_tax(&taxes[i], json_element(array, i));
	return taxes;
}

/* The places of the rates that a line names; all, where it names none. */
static const int *
read_line_taxes(const Jsonb *names, const DocumentTax *taxes, int tax_count, int line, int *count)
{
	int *places = palloc(sizeof(int) * Max(tax_count, json_element_count(names)));

	*count = names == NULL ? tax_count : json_element_count(names);
	for (int i = 0; i < *count; i++)
	{
		char *name;

		places[i] = i;
		if (names == NULL)
			continue;
		name = json_element_text(names, i);
		for (places[i] = 0; places[i] < tax_count; places[i]++)
		{
			if (strcmp(taxes[places[i]].id, name) == 0)
				break;
		}
		if (places[i] == tax_count)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid document: \"lines[%d].taxes[%d]\" must be the id of one of "
						   "\"taxes\"",
						   line, i));
	}
	return places;
}

static void
read_lines(Document *document, const Jsonb *lines)
{
	document->line_count = json_element_count(lines);
	document->lines = palloc0(sizeof(DocumentLine) * Max(document->line_count, 1));
	for (int i = 0; i < document->line_count; i++)
	{
		const Jsonb *from = json_element(lines, i);
		DocumentLine *line = &document->lines[i];

		line->exact = json_numeric(from, "amount");
		line->amount = money_round(line->exact, document->exponent);
		line->plan = json_text(from, "plan");
		line->metric = json_text(from, "metric");
		line->charge = json_text(from, "charge");
		line->subscription = json_int32(from, "subscription", 0);
		line->taxes = read_line_taxes(json_member(from, "taxes"), document->taxes,
									  document->tax_count, i, &line->tax_count);
	}
}

static void
read_discounts(Document *document, const Jsonb *discounts)
{
	document->discount_count = json_element_count(discounts);
	document->discounts = palloc0(sizeof(DocumentDiscount) * Max(document->discount_count, 1));
	for (int i = 0; i < document->discount_count; i++)
	{
		const Jsonb *from = json_element(discounts, i);
		DocumentDiscount *discount = &document->discounts[i];

		discount->kind = (DiscountKind) choice(from, "kind", discount_kinds);
		discount->value = json_numeric(from, "value");
		/* Only percentages leave something to round. */
		if (discount->kind != DISCOUNT_PERCENT)
			discount->value = money_round(discount->value, document->exponent);
		else if (numeric_compare(discount->value, numeric_from_int(100)) > 0)
			document_fault(&(DocumentPath){"document", psprintf("discounts[%d].", i)}, "value",
						   "must be at most 100");
		discount->plans =
			(const char *const *) text_list_read(json_member(from, "plans"), &discount->plan_count);
		discount->metrics = (const char *const *) text_list_read(json_member(from, "metrics"),
																 &discount->metric_count);
		discount->charge = json_text(from, "charge");
		discount->subscription = json_int32(from, "subscription", 0);
		discount->is_per_line = json_bool(from, "per_line", false);
		if (discount->is_per_line && discount->kind != DISCOUNT_PERCENT)
			document_fault(&(DocumentPath){"document", psprintf("discounts[%d].", i)}, "per_line",
						   "has no meaning for what is no percentage");
	}
}

static void
read_credits(Document *document, const Jsonb *credits)
{
	document->credit_count = json_element_count(credits);
	document->credits = palloc0(sizeof(DocumentCredit) * Max(document->credit_count, 1));
	for (int i = 0; i < document->credit_count; i++)
		document->credits[i].available =
			money_round(json_numeric(json_element(credits, i), "available"), document->exponent);
}

static void
put_array(JsonBuilder *builder, const char *name, Jsonb *const *elements, int count)
{
	json_put_jsonb(builder, name, json_array(elements, count));
}

static Jsonb *
line_result(const DocumentLine *line)
{
	JsonBuilder builder;

	json_begin(&builder);
	json_put_numeric(&builder, "amount", line->amount);
	json_put_numeric(&builder, "discount", line->discount);
	json_put_numeric(&builder, "net", line->net);
	json_put_numeric(&builder, "tax", line->tax);
	json_put_numeric(&builder, "total", line->total);
	return json_end(&builder);
}

static Jsonb *
discount_result(const DocumentDiscount *discount, int line_count)
{
	JsonBuilder builder;

	json_begin(&builder);
	json_put_text(&builder, "kind", discount_kinds[discount->kind]);
	json_put_numeric(&builder, "base", discount->base);
	json_put_numeric(&builder, "amount", discount->amount);
	json_put_jsonb(&builder, "shares", json_numeric_array(discount->shares, line_count));
	return json_end(&builder);
}

static Jsonb *
tax_result(const DocumentTax *tax)
{
	JsonBuilder builder;

	json_begin(&builder);
	json_put_text(&builder, "id", tax->id);
	json_put_numeric(&builder, "percentage", tax->percentage);
	json_put_numeric(&builder, "base", tax->base);
	json_put_numeric(&builder, "amount", tax->amount);
	return json_end(&builder);
}

static Jsonb *
document_result(const Document *document)
{
	JsonBuilder builder;
	int most = document->line_count + document->discount_count + document->tax_count;
	Jsonb **elements = palloc(sizeof(Jsonb *) * Max(most, 1));
	Numeric *used = palloc(sizeof(Numeric) * Max(document->credit_count, 1));

	json_begin(&builder);
	for (int i = 0; i < document->line_count; i++)
		elements[i] = line_result(&document->lines[i]);
	put_array(&builder, "lines", elements, document->line_count);
	for (int i = 0; i < document->discount_count; i++)
		elements[i] = discount_result(&document->discounts[i], document->line_count);
	put_array(&builder, "discounts", elements, document->discount_count);
	for (int i = 0; i < document->tax_count; i++)
		elements[i] = tax_result(&document->taxes[i]);
	put_array(&builder, "taxes", elements, document->tax_count);
	for (int i = 0; i < document->credit_count; i++)
		used[i] = document->credits[i].used;
	json_put_jsonb(&builder, "credits", json_numeric_array(used, document->credit_count));
	json_put_numeric(&builder, "subtotal", document->subtotal);
	json_put_numeric(&builder, "discount", document->discount);
	json_put_numeric(&builder, "tax", document->tax);
	json_put_numeric(&builder, "inclusive_tax", document->inclusive_tax);
	json_put_numeric(&builder, "total", document->total);
	json_put_numeric(&builder, "credited", document->credited);
	json_put_numeric(&builder, "due", document->due);
	return json_end(&builder);
}

/* tenancy.document_calculate(document jsonb) → jsonb */
TENANCY_FUNCTION(document_calculate)
{
	Jsonb *from = PG_GETARG_JSONB_P(0);
	Document document = {0};

	json_validate(from, document_members, "document");
	document.exponent = currency_exponent(json_text(from, "currency"));
	document.tax_rounding = (TaxRounding) choice(from, "tax_rounding", tax_roundings);
	document.tax_on_exact = choice(from, "tax_base", tax_bases) > 0;
	document.inclusive_by_net = choice(from, "inclusive_rounding", inclusive_roundings) > 0;
	document.is_tax_free = choice(from, "tax_treatment", tax_treatments) > 0;
	document.taxes = read_taxes(json_member(from, "taxes"), &document.tax_count);
	read_lines(&document, json_member(from, "lines"));
	read_discounts(&document, json_member(from, "discounts"));
	read_credits(&document, json_member(from, "credits"));
	document_calculate(&document);
	PG_RETURN_JSONB_P(document_result(&document));
}

/* Credit notes. */

static const JsonRule credited_line_members[] = {
	{.name = "amount", .type = JSON_NUMBER, .is_required = true},
	{.name = "credit", .type = JSON_NUMBER, .is_required = true},
	{.name = "discount", .type = JSON_NUMBER, .minimum = "0"},
	{.name = "earlier", .type = JSON_NUMBER},
	{.name = "earlier_discount", .type = JSON_NUMBER, .minimum = "0"},
	{.name = "taxes", .type = JSON_ARRAY, .element = &name_element},
	{.name = NULL},
};
static const JsonRule credited_tax_members[] = {
	{.name = "amount", .type = JSON_NUMBER, .is_required = true},
	{.name = "base", .type = JSON_NUMBER, .is_required = true},
	{.name = "compound", .type = JSON_BOOLEAN},
	{.name = "earlier_amount", .type = JSON_NUMBER},
	{.name = "earlier_base", .type = JSON_NUMBER},
	{.name = "id", .type = JSON_TEXT, .is_required = true},
	{.name = "inclusive", .type = JSON_BOOLEAN},
	{.name = "percentage",
	 .type = JSON_NUMBER,
	 .is_required = true,
	 .minimum = "0",
	 .maximum = "1000"},
	{.name = NULL},
};
static const JsonRule credited_line_rule = {.type = JSON_OBJECT, .members = credited_line_members};
static const JsonRule credited_tax_rule = {.type = JSON_OBJECT, .members = credited_tax_members};

static const JsonRule note_members[] = {
	{.name = "currency", .type = JSON_TEXT, .is_required = true, .check = json_check_currency},
	{.name = "inclusive_rounding", .type = JSON_TEXT, .choices = inclusive_roundings},
	{.name = "lines",
	 .type = JSON_ARRAY,
	 .is_required = true,
	 .element = &credited_line_rule,
	 .max_length = 10000},
	{.name = "tax_rounding", .type = JSON_TEXT, .choices = tax_roundings},
	{.name = "tax_treatment", .type = JSON_TEXT, .choices = tax_treatments},
	{.name = "taxes", .type = JSON_ARRAY, .element = &credited_tax_rule, .max_length = 100},
	{.name = NULL},
};

/* An amount of a note's document, rounded; zero where it is absent. */
static Numeric
note_amount(const CreditNote *note, const Jsonb *from, const char *name)
{
	Numeric value = json_numeric(from, name);

	return value != NULL ? money_round(value, note->exponent) : numeric_zero();
}

static void
read_note(CreditNote *note, const Jsonb *from)
{
	Jsonb *taxes = json_member(from, "taxes");
	Jsonb *lines = json_member(from, "lines");
	DocumentTax *rates = read_taxes(taxes, &note->tax_count);

	note->taxes = palloc0(sizeof(CreditedTax) * Max(note->tax_count, 1));
	for (int i = 0; i < note->tax_count; i++)
	{
		const Jsonb *tax = json_element(taxes, i);

		note->taxes[i].tax = rates[i];
		note->taxes[i].base = note_amount(note, tax, "base");
		note->taxes[i].amount = note_amount(note, tax, "amount");
		note->taxes[i].earlier_base = note_amount(note, tax, "earlier_base");
		note->taxes[i].earlier_amount = note_amount(note, tax, "earlier_amount");
	}
	note->line_count = json_element_count(lines);
	note->lines = palloc0(sizeof(CreditedLine) * Max(note->line_count, 1));
	for (int i = 0; i < note->line_count; i++)
	{
		const Jsonb *line = json_element(lines, i);
		CreditedLine *to = &note->lines[i];

		to->amount = note_amount(note, line, "amount");
		to->discount = note_amount(note, line, "discount");
		to->earlier = note_amount(note, line, "earlier");
		to->earlier_discount = note_amount(note, line, "earlier_discount");
		to->credit = note_amount(note, line, "credit");
		to->taxes =
			read_line_taxes(json_member(line, "taxes"), rates, note->tax_count, i, &to->tax_count);
	}
}

static Jsonb *
note_result(const CreditNote *note)
{
	JsonBuilder builder;
	JsonBuilder element;
	Jsonb **elements = palloc(sizeof(Jsonb *) * Max(note->line_count + note->tax_count, 1));

	json_begin(&builder);
	for (int i = 0; i < note->line_count; i++)
	{
		json_begin(&element);
		json_put_numeric(&element, "credit", note->lines[i].credit);
		json_put_numeric(&element, "discount", note->lines[i].credit_discount);
		json_put_numeric(&element, "net", note->lines[i].credit_net);
		elements[i] = json_end(&element);
	}
	put_array(&builder, "lines", elements, note->line_count);
	for (int i = 0; i < note->tax_count; i++)
	{
		json_begin(&element);
		json_put_text(&element, "id", note->taxes[i].tax.id);
		json_put_numeric(&element, "base", note->taxes[i].credit_base);
		json_put_numeric(&element, "amount", note->taxes[i].credit_amount);
		elements[i] = json_end(&element);
	}
	put_array(&builder, "taxes", elements, note->tax_count);
	json_put_numeric(&builder, "subtotal", note->subtotal);
	json_put_numeric(&builder, "discount", note->discount);
	json_put_numeric(&builder, "tax", note->tax);
	json_put_numeric(&builder, "total", note->total);
	return json_end(&builder);
}

/* tenancy.credit_note_calculate(note jsonb) → jsonb */
TENANCY_FUNCTION(credit_note_calculate)
{
	Jsonb *from = PG_GETARG_JSONB_P(0);
	CreditNote note = {0};

	json_validate(from, note_members, "credit note");
	note.exponent = currency_exponent(json_text(from, "currency"));
	note.tax_rounding = (TaxRounding) choice(from, "tax_rounding", tax_roundings);
	note.inclusive_by_net = choice(from, "inclusive_rounding", inclusive_roundings) > 0;
	note.is_tax_free = choice(from, "tax_treatment", tax_treatments) > 0;
	read_note(&note, from);
	credit_note_calculate(&note);
	PG_RETURN_JSONB_P(note_result(&note));
}

/* tenancy.document_number(series text, number bigint, width integer) → text */
TENANCY_FUNCTION(document_number)
{
	char *series = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64 number = PG_GETARG_INT64(1);
	int32 width = PG_GETARG_INT32(2);

	if (number < 1 || width < 1 || width > 18)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid number " INT64_FORMAT " of %d digits", number, width),
				errhint("Numbers begin with 1 and have 1 to 18 digits."));
	PG_RETURN_TEXT_P(cstring_to_text(document_number(series, number, width)));
}
