/*
 * price/document.h
 *		Documents: from lines to a total, by discounts, taxes and credits in their order.
 *
 * Lines → percentages → maximum spend → fixed discounts → taxes → total → credits.  Percentages
 * come before fixed amounts, so that the order of coupons does not matter; each takes from what
 * the ones before have left.  Of each kind, those on metrics come before those on plans, and
 * those before the ones on everything.  Amounts that are spread over lines are spread by largest
 * remainder, so that lines always add up to totals.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

/* One rate of tax of a document; each line refers to the rates that it bears. */
typedef struct DocumentTax
{
	const char *id; /* for the caller */
	Numeric percentage;
	bool is_inclusive; /* the amounts of lines contain it */
	bool is_compound;  /* its base includes the taxes before it */
	/* out */
	Numeric base;
	Numeric amount;
} DocumentTax;

typedef struct DocumentLine
{
	Numeric amount; /* rounded; negative for credits, which bear taxes and get no discounts */
	Numeric exact;  /* before rounding, for "tax from the unrounded base"; NULL: the amount */
	/* What discounts are limited to; each may be NULL. */
	const char *plan;
	const char *metric;
	const char *charge;
	int subscription; /* a number that the caller gives; 0 where there is one */
	/* Rates by their place in Document.taxes. */
	const int *taxes;
	int tax_count;
	/* out */
	Numeric discount; /* ≥ 0 */
	Numeric tax;      /* on top of the amount */
	Numeric net;      /* amount - discount - inclusive taxes */
	Numeric total;    /* amount - discount + tax */
} DocumentLine;

typedef enum DiscountKind
{
	DISCOUNT_PERCENT, /* value: percent of what is left of the lines */
	DISCOUNT_MAXIMUM, /* value: what the lines may come to at most */
	DISCOUNT_FIXED    /* value: an amount, at most what is left of the lines */
} DiscountKind;

typedef struct DocumentDiscount
{
	DiscountKind kind;
	Numeric value;
	/* The lines it is limited to: all of these must fit; NULL or 0 for no limit. */
	const char *const *plans;
	int plan_count;
	const char *const *metrics;
	int metric_count;
	const char *charge;
	int subscription; /* 0 for all */
	bool is_per_line; /* a percentage that is rounded on each line and not on their sum */
	/* out */
	Numeric base;    /* what was left of the lines before it */
	Numeric amount;  /* ≥ 0 */
	Numeric *shares; /* of each line of the document */
} DocumentDiscount;

/* What pays for a document besides payments, in the order it is used. */
typedef struct DocumentCredit
{
	Numeric available;
	/* out */
	Numeric used;
} DocumentCredit;

typedef enum TaxRounding
{
	TAX_PER_LINE,   /* each rate is rounded on each line */
	TAX_PER_INVOICE /* each rate is rounded once, and spread over the lines */
} TaxRounding;

typedef struct Document
{
	int exponent;
	DocumentLine *lines;
	int line_count;
	DocumentDiscount *discounts; /* in the order they were given */
	int discount_count;
	DocumentTax *taxes;
	int tax_count;
	TaxRounding tax_rounding;
	bool tax_on_exact;       /* taxes from DocumentLine.exact */
	bool inclusive_by_net;   /* of inclusive prices the net amount is rounded, not the tax */
	bool is_tax_free;        /* exempt or reverse charge: rates are shown, and come to nothing */
	DocumentCredit *credits; /* after tax; only a positive total uses any */
	int credit_count;
	/* out */
	Numeric subtotal; /* Σ amount */
	Numeric discount;
	Numeric tax;           /* on top */
	Numeric inclusive_tax; /* within */
	Numeric total;         /* subtotal - discount + tax */
	Numeric credited;      /* Σ credits used */
	Numeric due;           /* total - credited */
} Document;

/* Fill all that is "out".  Results are in the current memory context. */
extern void document_calculate(Document *document);

/*
 * A credit note over part of an invoice.  Per line: what is credited of its amount, before its
 * discount.  Discount and taxes are taken back pro rata; who credits the rest of a line, or of
 * a rate's base, takes all that remains, so that credit notes add up to the invoice.
 */
typedef struct CreditedLine
{
	Numeric amount; /* of the invoice line */
	Numeric discount;
	Numeric earlier; /* credited by earlier notes, as amount and as discount */
	Numeric earlier_discount;
	Numeric credit; /* of the amount, by this note */
	const int *taxes;
	int tax_count;
	/* out */
	Numeric credit_discount;
	Numeric credit_net; /* credit - credit_discount */
} CreditedLine;

typedef struct CreditedTax
{
	DocumentTax tax; /* the rate */
	Numeric base;    /* of the invoice */
	Numeric amount;
	Numeric earlier_base;
	Numeric earlier_amount;
	/* out */
	Numeric credit_base;
	Numeric credit_amount;
} CreditedTax;

typedef struct CreditNote
{
	int exponent;
	CreditedLine *lines;
	int line_count;
	CreditedTax *taxes;
	int tax_count;
	TaxRounding tax_rounding; /* as of the invoice */
	bool inclusive_by_net;
	bool is_tax_free;
	/* out */
	Numeric subtotal;
	Numeric discount;
	Numeric tax; /* on top */
	Numeric total;
} CreditNote;

/* 22023 where more would be credited than is left of a line. */
extern void credit_note_calculate(CreditNote *note);

/* "INV-000042": a series, and a number of so many digits at least. */
extern char *document_number(const char *series, int64 number, int width);
