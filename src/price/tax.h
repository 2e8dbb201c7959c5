/*
 * price/tax.h
 *		Taxes of a document.
 */
#pragma once

#include "postgres.h"

#include "price/document.h"

/* Fill what is "out" of taxes and, but for discounts, of lines; Document.tax, inclusive_tax. */
extern void document_tax(Document *document);
