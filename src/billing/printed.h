/*
 * billing/printed.h
 *		An invoice or a credit note with all that is printed of it: on a page, or as UBL.
 */
#pragma once

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* Texts are NULL where there is none. */
typedef struct PrintedParty
{
	char *name;
	char *line1;
	char *line2;
	char *postal_code;
	char *city;
	char *region;
	char *country; /* ISO 3166-1 */
	char *tax_id;
	char *email;
} PrintedParty;

/* Dates are of ISO 8601, in the time zone of the subscription. */
typedef struct PrintedLine
{
	int32 position; /* of the invoice, also on a credit note */
	char *kind;
	char *description;
	Numeric quantity; /* NULL on a credit note */
	char *unit;
	Numeric unit_price;
	Numeric amount; /* before discount; on a credit note what it takes back */
	Numeric discount;
	Numeric net; /* less discount and taxes within */
	int *taxes;  /* by their place */
	int tax_count;
	char *first_day; /* of its period */
	char *last_day;
	Numeric part; /* billed of the whole period, in days or seconds; NULL for all of it */
	Numeric whole;
} PrintedLine;

typedef struct PrintedTax
{
	char *id;
	char *name;
	Numeric percentage;
	char *category; /* UNCL5305 */
	bool is_inclusive;
	char *reason; /* why none is due */
	Numeric base;
	Numeric amount;
} PrintedTax;

typedef struct PrintedDiscount
{
	char *description;
	char *coupon; /* NULL for a maximum that was agreed */
	Numeric amount;
} PrintedDiscount;

/* Another document that this one refers to. */
typedef struct PrintedReference
{
	char *number;
	char *day;
	Numeric total;
} PrintedReference;

typedef struct Printed
{
	bool is_credit_note;
	pg_uuid_t id;
	pg_uuid_t tenant;
	char *number; /* NULL for a draft */
	char *state;  /* of an invoice */
	char *reason; /* of a credit note */
	char *currency;
	int exponent;
	char *issued; /* NULL for a draft */
	char *due;    /* of an invoice */
	char *paid;
	char *first_day; /* of the period */
	char *last_day;
	PrintedParty seller;
	PrintedParty customer;
	char *iban;
	char *bic;
	char *account_holder;
	PrintedLine *lines;
	int line_count;
	PrintedTax *taxes;
	int tax_count;
	PrintedDiscount *discounts; /* of an invoice: by coupon */
	int discount_count;
	PrintedReference *references; /* an invoice's credit notes, or a credit note's invoice */
	int reference_count;
	Numeric subtotal;
	Numeric discount;
	Numeric tax;
	Numeric inclusive_tax;
	Numeric total;
	/* Of an invoice. */
	Numeric amount_applied;
	Numeric amount_credited;
	Numeric amount_paid;
	Numeric amount_due;
	/* Of a credit note: its total is the sum of these. */
	Numeric amount_off_due;
	Numeric amount_to_credit;
	Numeric amount_to_refund;
} Printed;

/* 42704 where there is none, or for another tenant's. */
extern Printed *printed_invoice(const pg_uuid_t *id);
extern Printed *printed_credit_note(const pg_uuid_t *id);

/*
 * Append text as it has to be within elements and quoted attributes of HTML and XML; without the
 * characters that those do not have.
 */
extern void append_escaped(StringInfo page, const char *text);
