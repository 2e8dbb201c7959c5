/*
 * billing/invoice_ubl.c
 *		Invoices and credit notes as UBL 2.1 (ISO/IEC 19845), as EN 16931 has it.
 *
 * Amounts of lines are net there: taxes that prices contain are taken out, and the discount of a
 * line is an allowance of it.  A line has one category and rate of VAT, so that what bears
 * several rates cannot be expressed.  Names of rules (BR-…) are those of EN 16931.
 */
#include "postgres.h"

#include "billing/printed.h"
#include "core/function.h"
#include "core/money.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#define UBL_CUSTOMIZATION "urn:cen.eu:en16931:2017"
/* UNCL1001, UNCL4461 and UN/ECE Recommendation 20. */
#define TYPE_INVOICE 380
#define TYPE_CREDIT_NOTE 381
#define MEANS_CREDIT_TRANSFER 30
#define UNIT_ONE "C62"

/* A category and rate, and what bears it. */
typedef struct VatGroup
{
	const char *category;
	Numeric percentage;
	const char *reason;
	Numeric base;
	Numeric tax;
} VatGroup;

typedef struct Ubl
{
	const Printed *printed;
	StringInfoData xml;
	StringInfoData missing; /* what EN 16931 wants and nobody has said */
	VatGroup *groups;
	int group_count;
	int *group_of;   /* of each line */
	bool is_untaxed; /* nothing is subject to VAT */
} Ubl;

static void
miss(Ubl *ubl, const char *what)
{
	appendStringInfo(&ubl->missing, "%s%s", ubl->missing.len > 0 ? ", " : "", what);
}

/* Writing. */

static void
put(Ubl *ubl, const char *element, const char *text)
{
	if (text == NULL)
		return;
	appendStringInfo(&ubl->xml, "<cbc:%s>", element);
	append_escaped(&ubl->xml, text);
	appendStringInfo(&ubl->xml, "</cbc:%s>\n", element);
}

static void
open_element(Ubl *ubl, const char *element)
{
	appendStringInfo(&ubl->xml, "<cac:%s>\n", element);
}

static void
close_element(Ubl *ubl, const char *element)
{
	appendStringInfo(&ubl->xml, "</cac:%s>\n", element);
}

static char *
amount_text(const Ubl *ubl, Numeric amount)
{
	return numeric_text(money_round(amount, ubl->printed->exponent));
}

static void
put_amount(Ubl *ubl, const char *element, Numeric amount)
{
	appendStringInfo(&ubl->xml, "<cbc:%s currencyID=\"%s\">%s</cbc:%s>\n", element,
					 ubl->printed->currency, amount_text(ubl, amount), element);
}

static void
put_scheme(Ubl *ubl)
{
	open_element(ubl, "TaxScheme");
	put(ubl, "ID", "VAT");
	close_element(ubl, "TaxScheme");
}

static void
put_category(Ubl *ubl, const char *element, const VatGroup *group, bool with_reason)
{
	open_element(ubl, element);
	put(ubl, "ID", group->category);
	/* What is not subject to VAT has no rate (BR-O-05). */
	if (strcmp(group->category, "O") != 0)
		put(ubl, "Percent", numeric_text(group->percentage));
	if (with_reason)
		put(ubl, "TaxExemptionReason", group->reason);
	put_scheme(ubl);
	close_element(ubl, element);
}

/* Parties. */

/* Is it a VAT identifier: does it begin with the code of its country (BR-CO-09)? */
static bool
is_vat_id(const PrintedParty *party)
{
	const char *prefix = party->country;

	if (party->tax_id == NULL || prefix == NULL)
		return false;
	if (strcmp(prefix, "GR") == 0)
		prefix = "EL";
	return strncmp(party->tax_id, prefix, strlen(prefix)) == 0;
}

static void
put_party(Ubl *ubl, const char *element, const PrintedParty *party, bool is_seller)
{
	/* What is not subject to VAT names nobody's VAT identifier (BR-O-02). */
	bool has_vat_id = is_vat_id(party) && !ubl->is_untaxed;

	open_element(ubl, element);
	open_element(ubl, "Party");
	open_element(ubl, "PostalAddress");
	put(ubl, "StreetName", party->line1);
	put(ubl, "AdditionalStreetName", party->line2);
	put(ubl, "CityName", party->city);
	put(ubl, "PostalZone", party->postal_code);
	put(ubl, "CountrySubentity", party->region);
	open_element(ubl, "Country");
	put(ubl, "IdentificationCode", party->country);
	close_element(ubl, "Country");
	close_element(ubl, "PostalAddress");
	/* The tax registration of a seller that is no VAT identifier has a scheme of its own. */
	if (party->tax_id != NULL && (has_vat_id || is_seller))
	{
		open_element(ubl, "PartyTaxScheme");
		put(ubl, "CompanyID", party->tax_id);
		open_element(ubl, "TaxScheme");
		put(ubl, "ID", has_vat_id ? "VAT" : "TAX");
		close_element(ubl, "TaxScheme");
		close_element(ubl, "PartyTaxScheme");
	}
	open_element(ubl, "PartyLegalEntity");
	put(ubl, "RegistrationName", party->name);
	if (!has_vat_id)
		put(ubl, "CompanyID", party->tax_id);
	close_element(ubl, "PartyLegalEntity");
	if (party->email != NULL)
	{
		open_element(ubl, "Contact");
		put(ubl, "ElectronicMail", party->email);
		close_element(ubl, "Contact");
	}
	close_element(ubl, "Party");
	close_element(ubl, element);
}

/* Groups of VAT. */

static int
group_for(Ubl *ubl, const char *category, Numeric percentage, const char *reason)
{
	VatGroup *group;

	for (int i = 0; i < ubl->group_count; i++)
	{
		group = &ubl->groups[i];
		if (strcmp(group->category, category) == 0 &&
			numeric_compare(group->percentage, percentage) == 0)
			return i;
	}
	group = &ubl->groups[ubl->group_count];
	*group = (VatGroup){.category = category,
						.percentage = percentage,
						.reason = reason,
						.base = numeric_zero(),
						.tax = numeric_zero()};
	return ubl->group_count++;
}

/* Which category each line has, and what each comes to. */
static int
group_of_line(Ubl *ubl, const PrintedLine *line)
{
	const Printed *printed = ubl->printed;
	int group = -1;

	/* What bears no tax at all is outside of its scope. */
	if (line->tax_count == 0)
		return group_for(ubl, "O", numeric_zero(), NULL);
	for (int i = 0; i < line->tax_count; i++)
	{
		const PrintedTax *tax = &printed->taxes[line->taxes[i]];
		int next = group_for(ubl, tax->category, tax->percentage, tax->reason);

		/* Taxes of which none is due are one. */
		if (i > 0 && (next != group || !numeric_is_zero(tax->percentage)))
			ereport(
				ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("line %d of \"%s\" bears several taxes", line->position, printed->number),
				errdetail("A line of EN 16931 has one category and rate of VAT."));
		group = next;
	}
	return group;
}

static void
group_lines(Ubl *ubl)
{
	const Printed *printed = ubl->printed;

	ubl->groups = palloc0(sizeof(VatGroup) * (printed->tax_count + 1));
	ubl->group_of = palloc0(sizeof(int) * Max(printed->line_count, 1));
	for (int i = 0; i < printed->line_count; i++)
	{
		const PrintedLine *line = &printed->lines[i];
		VatGroup *group;

		ubl->group_of[i] = group_of_line(ubl, line);
		group = &ubl->groups[ubl->group_of[i]];
		group->base = numeric_plus(group->base, line->net);
	}
	for (int i = 0; i < printed->tax_count; i++)
	{
		const PrintedTax *tax = &printed->taxes[i];
		VatGroup *group = &ubl->groups[group_for(ubl, tax->category, tax->percentage, tax->reason)];

		group->tax = numeric_plus(group->tax, tax->amount);
	}
}

static const char *
reason_of(const VatGroup *group)
{
	static const struct
	{
		const char *category;
		const char *reason;
	} reasons[] = {
		{"AE", "Reverse charge"},       {"E", "Exempt"},
		{"G", "Export outside the EU"}, {"K", "Intra-Community supply"},
		{"O", "Not subject to VAT"},
	};

	if (group->reason != NULL)
		return group->reason;
	for (int i = 0; i < lengthof(reasons); i++)
	{
		if (strcmp(reasons[i].category, group->category) == 0)
			return reasons[i].reason;
	}
	return NULL;
}

/* BR-S-05, BR-Z-05, BR-E-05, BR-AE-05, BR-IC-05, BR-G-05. */
static void
check_rate(const Ubl *ubl, const VatGroup *group)
{
	bool is_standard = strcmp(group->category, "S") == 0;

	if (strcmp(group->category, "L") == 0 || strcmp(group->category, "M") == 0 ||
		is_standard != numeric_is_zero(group->percentage))
		return;
	ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("\"%s\" has tax of category \"%s\" at %s %%", ubl->printed->number,
				   group->category, numeric_text(group->percentage)),
			errdetail("In EN 16931 the standard rate is above zero, and others are zero."));
}

/* What EN 16931 wants: BR-02 to BR-11, BR-CO-26, BR-S-02, BR-AE-02, BR-IC-02, BR-G-02, BR-O-02. */
static void
check(Ubl *ubl)
{
	const Printed *printed = ubl->printed;
	bool seller_has_vat_id = is_vat_id(&printed->seller);

	if (printed->seller.name == NULL)
		miss(ubl, "name of the seller");
	if (printed->seller.line1 == NULL && printed->seller.city == NULL)
		miss(ubl, "address of the seller");
	if (printed->seller.country == NULL)
		miss(ubl, "country of the seller");
	if (printed->seller.tax_id == NULL)
		miss(ubl, "tax_id of the seller");
	if (printed->customer.name == NULL)
		miss(ubl, "name of the customer");
	if (printed->customer.country == NULL)
		miss(ubl, "country of the customer");
	if (printed->line_count == 0)
		miss(ubl, "lines");
	for (int i = 0; i < ubl->group_count; i++)
	{
		VatGroup *group = &ubl->groups[i];
		bool is_across = strcmp(group->category, "AE") == 0 || strcmp(group->category, "K") == 0;

		group->reason = reason_of(group);
		if (is_across && printed->customer.tax_id == NULL)
			miss(ubl, "tax_id of the customer");
		else if (strcmp(group->category, "K") == 0 && !is_vat_id(&printed->customer))
			miss(ubl, "tax_id of the customer beginning with its country");
		if ((is_across || strcmp(group->category, "G") == 0) && printed->seller.tax_id != NULL &&
			!seller_has_vat_id)
			miss(ubl, "tax_id of the seller beginning with its country");
		ubl->is_untaxed = ubl->is_untaxed || strcmp(group->category, "O") == 0;
		check_rate(ubl, group);
	}
	if (ubl->missing.len > 0)
		ereport(
			ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("\"%s\" lacks what EN 16931 requires", printed->number),
			errdetail("Missing: %s.", ubl->missing.data),
			errhint("legal_entity_set() and billing_account_set() say it for documents that are "
					"issued from then on."));
	/* BR-O-11 to BR-O-14. */
	if (ubl->is_untaxed && ubl->group_count > 1)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("lines of \"%s\" bear VAT, and others bear none", printed->number),
				errdetail("In EN 16931 what is not subject to VAT comes alone."),
				errhint("Give the other lines a tax rate of category \"Z\" or \"E\"."));
}

/* Parts of the document. */

static void
put_head(Ubl *ubl)
{
	const Printed *printed = ubl->printed;

	put(ubl, "CustomizationID", UBL_CUSTOMIZATION);
	put(ubl, "ID", printed->number);
	put(ubl, "IssueDate", printed->issued);
	if (!printed->is_credit_note)
		put(ubl, "DueDate", printed->due);
	if (printed->is_credit_note)
		put(ubl, "CreditNoteTypeCode", psprintf("%d", TYPE_CREDIT_NOTE));
	else
		put(ubl, "InvoiceTypeCode", psprintf("%d", TYPE_INVOICE));
	put(ubl, "Note", printed->reason);
	put(ubl, "DocumentCurrencyCode", printed->currency);
	open_element(ubl, "InvoicePeriod");
	put(ubl, "StartDate", printed->first_day);
	put(ubl, "EndDate", printed->last_day);
	close_element(ubl, "InvoicePeriod");
	if (printed->is_credit_note)
	{
		open_element(ubl, "BillingReference");
		open_element(ubl, "InvoiceDocumentReference");
		put(ubl, "ID", printed->references[0].number);
		put(ubl, "IssueDate", printed->references[0].day);
		close_element(ubl, "InvoiceDocumentReference");
		close_element(ubl, "BillingReference");
	}
}

/* Where a supply within the Union went to (BR-IC-11, BR-IC-12). */
static void
put_delivery(Ubl *ubl)
{
	for (int i = 0; i < ubl->group_count; i++)
	{
		if (strcmp(ubl->groups[i].category, "K") != 0)
			continue;
		open_element(ubl, "Delivery");
		put(ubl, "ActualDeliveryDate", ubl->printed->last_day);
		open_element(ubl, "DeliveryLocation");
		open_element(ubl, "Address");
		open_element(ubl, "Country");
		put(ubl, "IdentificationCode", ubl->printed->customer.country);
		close_element(ubl, "Country");
		close_element(ubl, "Address");
		close_element(ubl, "DeliveryLocation");
		close_element(ubl, "Delivery");
	}
}

static void
put_payment(Ubl *ubl)
{
	const Printed *printed = ubl->printed;

	if (printed->iban == NULL || printed->is_credit_note)
		return;
	open_element(ubl, "PaymentMeans");
	put(ubl, "PaymentMeansCode", psprintf("%d", MEANS_CREDIT_TRANSFER));
	put(ubl, "PaymentID", printed->number);
	open_element(ubl, "PayeeFinancialAccount");
	put(ubl, "ID", printed->iban);
	put(ubl, "Name", printed->account_holder);
	if (printed->bic != NULL)
	{
		open_element(ubl, "FinancialInstitutionBranch");
		put(ubl, "ID", printed->bic);
		close_element(ubl, "FinancialInstitutionBranch");
	}
	close_element(ubl, "PayeeFinancialAccount");
	close_element(ubl, "PaymentMeans");
}

/* BR-CO-25: what is positive has a due date or terms; a credit note has no date. */
static void
put_terms(Ubl *ubl)
{
	const Printed *printed = ubl->printed;

	if (!printed->is_credit_note)
		return;
	open_element(ubl, "PaymentTerms");
	put(ubl, "Note",
		psprintf("%s off invoice %s, %s added to credit, %s to be refunded",
				 amount_text(ubl, printed->amount_off_due), printed->references[0].number,
				 amount_text(ubl, printed->amount_to_credit),
				 amount_text(ubl, printed->amount_to_refund)));
	close_element(ubl, "PaymentTerms");
}

static void
put_taxes(Ubl *ubl)
{
	Numeric tax = numeric_plus(ubl->printed->tax, ubl->printed->inclusive_tax);

	open_element(ubl, "TaxTotal");
	put_amount(ubl, "TaxAmount", tax);
	for (int i = 0; i < ubl->group_count; i++)
	{
		open_element(ubl, "TaxSubtotal");
		put_amount(ubl, "TaxableAmount", ubl->groups[i].base);
		put_amount(ubl, "TaxAmount", ubl->groups[i].tax);
		put_category(ubl, "TaxCategory", &ubl->groups[i], true);
		close_element(ubl, "TaxSubtotal");
	}
	close_element(ubl, "TaxTotal");
}

/* BR-CO-10, 13, 15 and 16: sums of sums. */
static void
put_totals(Ubl *ubl)
{
	const Printed *printed = ubl->printed;
	Numeric net = numeric_zero();
	Numeric gross;
	Numeric prepaid = numeric_zero();

	for (int i = 0; i < printed->line_count; i++)
		net = numeric_plus(net, printed->lines[i].net);
	gross = numeric_plus(numeric_plus(net, printed->tax), printed->inclusive_tax);
	if (!printed->is_credit_note)
		prepaid = numeric_plus(printed->amount_paid, printed->amount_applied);
	open_element(ubl, "LegalMonetaryTotal");
	put_amount(ubl, "LineExtensionAmount", net);
	put_amount(ubl, "TaxExclusiveAmount", net);
	put_amount(ubl, "TaxInclusiveAmount", gross);
	if (!numeric_is_zero(prepaid))
		put_amount(ubl, "PrepaidAmount", prepaid);
	/* Of tax within prices a part can be a cent off. */
	if (numeric_compare(gross, printed->total) != 0)
		put_amount(ubl, "PayableRoundingAmount", numeric_minus(printed->total, gross));
	put_amount(ubl, "PayableAmount", numeric_minus(printed->total, prepaid));
	close_element(ubl, "LegalMonetaryTotal");
}

static void
put_allowance(Ubl *ubl, Numeric discount, Numeric amount)
{
	bool is_charge = numeric_compare(discount, numeric_zero()) < 0;

	open_element(ubl, "AllowanceCharge");
	put(ubl, "ChargeIndicator", is_charge ? "true" : "false");
	put(ubl, "AllowanceChargeReason", "Discount");
	put_amount(ubl, "Amount", is_charge ? numeric_negate(discount) : discount);
	put_amount(ubl, "BaseAmount", amount);
	close_element(ubl, "AllowanceCharge");
}

static void
put_line(Ubl *ubl, int n)
{
	const Printed *printed = ubl->printed;
	const PrintedLine *line = &printed->lines[n];
	const char *element = printed->is_credit_note ? "CreditNoteLine" : "InvoiceLine";
	const char *quantity = printed->is_credit_note ? "CreditedQuantity" : "InvoicedQuantity";
	/* The discount as the net amount has it: without the tax that it contained. */
	Numeric charged = numeric_minus(line->amount, line->discount);
	Numeric discount =
		numeric_is_zero(charged)
			? line->discount
			: money_ratio(numeric_times(line->discount, line->net), charged, printed->exponent);
	Numeric amount = numeric_plus(line->net, discount);
	bool is_negative = numeric_compare(amount, numeric_zero()) < 0;

	open_element(ubl, element);
	put(ubl, "ID", psprintf("%d", line->position));
	/* One of what it is: prices by tier have none that could be multiplied (BR-26, BR-27). */
	appendStringInfo(&ubl->xml, "<cbc:%s unitCode=\"%s\">%s</cbc:%s>\n", quantity, UNIT_ONE,
					 is_negative ? "-1" : "1", quantity);
	put_amount(ubl, "LineExtensionAmount", line->net);
	open_element(ubl, "InvoicePeriod");
	put(ubl, "StartDate", line->first_day);
	put(ubl, "EndDate", line->last_day);
	close_element(ubl, "InvoicePeriod");
	if (!numeric_is_zero(discount))
		put_allowance(ubl, discount, amount);
	open_element(ubl, "Item");
	if (line->quantity != NULL && line->unit_price != NULL)
		put(ubl, "Description",
			psprintf("%s%s%s at %s %s", numeric_text(line->quantity), line->unit != NULL ? " " : "",
					 line->unit != NULL ? line->unit : "", numeric_text(line->unit_price),
					 printed->currency));
	else if (line->quantity != NULL)
		put(ubl, "Description",
			psprintf("%s%s%s", numeric_text(line->quantity), line->unit != NULL ? " " : "",
					 line->unit != NULL ? line->unit : ""));
	put(ubl, "Name", line->description);
	put_category(ubl, "ClassifiedTaxCategory", &ubl->groups[ubl->group_of[n]], false);
	close_element(ubl, "Item");
	open_element(ubl, "Price");
	put_amount(ubl, "PriceAmount", is_negative ? numeric_negate(amount) : amount);
	close_element(ubl, "Price");
	close_element(ubl, element);
}

static Datum
ubl_of(const Printed *printed)
{
	const char *root = printed->is_credit_note ? "CreditNote" : "Invoice";
	Ubl ubl = {.printed = printed};

	if (printed->number == NULL || (printed->state != NULL && strcmp(printed->state, "void") == 0))
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the invoice is %s", printed->state),
				errdetail("Only what was issued and counts is sent to machines."));
	initStringInfo(&ubl.xml);
	initStringInfo(&ubl.missing);
	group_lines(&ubl);
	check(&ubl);
	appendStringInfo(&ubl.xml,
					 "<%s xmlns=\"urn:oasis:names:specification:ubl:schema:xsd:%s-2\""
					 " xmlns:cac=\"urn:oasis:names:specification:ubl:schema:xsd:"
					 "CommonAggregateComponents-2\""
					 " xmlns:cbc=\"urn:oasis:names:specification:ubl:schema:xsd:"
					 "CommonBasicComponents-2\">\n",
					 root, root);
	put_head(&ubl);
	put_party(&ubl, "AccountingSupplierParty", &printed->seller, true);
	put_party(&ubl, "AccountingCustomerParty", &printed->customer, false);
	put_delivery(&ubl);
	put_payment(&ubl);
	put_terms(&ubl);
	put_taxes(&ubl);
	put_totals(&ubl);
	for (int i = 0; i < printed->line_count; i++)
		put_line(&ubl, i);
	appendStringInfo(&ubl.xml, "</%s>\n", root);
	return PointerGetDatum(cstring_to_text_with_len(ubl.xml.data, ubl.xml.len));
}

/* invoice_ubl(invoice uuid) → text */
TENANCY_FUNCTION(invoice_ubl)
{
	PG_RETURN_DATUM(ubl_of(printed_invoice(required_uuid(fcinfo, 0, "invoice"))));
}

/* credit_note_ubl(credit_note uuid) → text */
TENANCY_FUNCTION(credit_note_ubl)
{
	PG_RETURN_DATUM(ubl_of(printed_credit_note(required_uuid(fcinfo, 0, "credit_note"))));
}
