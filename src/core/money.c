/*
 * core/money.c
 *		Amounts of money: currencies, their exponents, and rounding.
 */
#include "postgres.h"

#include "core/money.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define DEFAULT_EXPONENT 2

/* ISO 4217 list one, active codes, by exponent: all that do not stand here have two decimals. */
static const char *const without_decimals[] = {
	"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG",
	"RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF",
};
static const char *const with_three_decimals[] = {
	"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND",
};
static const char *const with_four_decimals[] = {"CLF", "UYW"};
static const char *const with_two_decimals[] = {
	"AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT",
	"BGN", "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF",
	"CHF", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN",
	"ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GTQ", "GYD", "HKD",
	"HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW",
	"KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK",
	"MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO",
	"NOK", "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD",
	"RUB", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP",
	"STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS",
	"UAH", "USD", "UYU", "UZS", "VED", "VES", "WST", "XCD", "YER", "ZAR", "ZMW", "ZWG",
};

static const struct
{
	int exponent;
	const char *const *codes;
	int count;
} currencies[] = {
	{2, with_two_decimals, lengthof(with_two_decimals)},
	{0, without_decimals, lengthof(without_decimals)},
	{3, with_three_decimals, lengthof(with_three_decimals)},
	{4, with_four_decimals, lengthof(with_four_decimals)},
};

/* -1 for an unknown code. */
static int
find_exponent(const char *code)
{
	for (int i = 0; i < lengthof(currencies); i++)
	{
		for (int j = 0; j < currencies[i].count; j++)
		{
			if (strcmp(currencies[i].codes[j], code) == 0)
				return currencies[i].exponent;
		}
	}
	return -1;
}

bool
currency_is_known(const char *code)
{
	return find_exponent(code) >= 0;
}

int
currency_exponent(const char *code)
{
	int exponent = find_exponent(code);

	if (exponent < 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("unknown currency \"%s\"", code),
				errhint("It is a code of ISO 4217 in upper case, such as \"USD\"."));
	return exponent;
}

/* round(numeric) of PostgreSQL rounds half away from zero. */
Numeric
money_round(Numeric amount, int exponent)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_round, NumericGetDatum(amount), Int32GetDatum(exponent)));
}

Numeric
numeric_from_text(const char *text)
{
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

Numeric
numeric_from_int(int64 value)
{
	return int64_to_numeric(value);
}

char *
numeric_text(Numeric value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
}

static Numeric
apply(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

Numeric
numeric_plus(Numeric a, Numeric b)
{
	return apply(numeric_add, a, b);
}

Numeric
numeric_minus(Numeric a, Numeric b)
{
	return apply(numeric_sub, a, b);
}

Numeric
numeric_times(Numeric a, Numeric b)
{
	return apply(numeric_mul, a, b);
}

Numeric
numeric_over(Numeric a, Numeric b)
{
	return apply(numeric_div, a, b);
}

int
numeric_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

Numeric
numeric_positive_part(Numeric value)
{
	Numeric zero = numeric_from_int(0);

	return numeric_compare(value, zero) > 0 ? value : zero;
}

bool
numeric_is_zero(Numeric value)
{
	return numeric_compare(value, numeric_from_int(0)) == 0;
}
