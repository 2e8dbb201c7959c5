/*
 * core/money.c
 *		Amounts of money: currencies, their exponents, and rounding.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/money.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* Decimals of a quantity or an amount, at most; numeric_shift() moves the point so far. */
#define MAX_SCALED_PLACES 12

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

static int
compare_code(const void *code, const void *entry)
{
	return strcmp(code, *(const char *const *) entry);
}

/* -1 for an unknown code.  The lists are sorted. */
static int
find_exponent(const char *code)
{
	for (int i = 0; i < lengthof(currencies); i++)
	{
		if (bsearch(code, currencies[i].codes, currencies[i].count, sizeof(char *), compare_code) !=
			NULL)
			return currencies[i].exponent;
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

/*
 * What gateways take for an amount where that is not its minor unit (docs.stripe.com/currencies):
 * Stripe keeps two decimals of ISK and UGX, which must be zero, and of three decimals the last
 * must be zero.
 */
static const struct
{
	const char *gateway;
	const char *currency;
	int decimals;  /* that are transmitted */
	int precision; /* that may differ from zero */
} gateway_units[] = {
	{"stripe", "ISK", 2, 0}, {"stripe", "UGX", 2, 0}, {"stripe", "BHD", 3, 2},
	{"stripe", "IQD", 3, 2}, {"stripe", "JOD", 3, 2}, {"stripe", "KWD", 3, 2},
	{"stripe", "LYD", 3, 2}, {"stripe", "OMR", 3, 2}, {"stripe", "TND", 3, 2},
};

static void
find_units(const char *currency, const char *gateway, int *decimals, int *precision)
{
	*decimals = *precision = currency_exponent(currency);
	for (int i = 0; gateway != NULL && i < lengthof(gateway_units); i++)
	{
		if (strcmp(gateway_units[i].gateway, gateway) == 0 &&
			strcmp(gateway_units[i].currency, currency) == 0)
		{
			*decimals = gateway_units[i].decimals;
			*precision = gateway_units[i].precision;
		}
	}
}

Numeric
money_to_minor(Numeric amount, const char *currency, const char *gateway)
{
	int decimals;
	int precision;

	find_units(currency, gateway, &decimals, &precision);
	return money_round(numeric_shift(money_round(amount, precision), decimals), 0);
}

Numeric
money_from_minor(Numeric minor, const char *currency, const char *gateway)
{
	int decimals;
	int precision;

	find_units(currency, gateway, &decimals, &precision);
	return money_round(numeric_shift(minor, -decimals), currency_exponent(currency));
}

/* round(numeric) of PostgreSQL rounds half away from zero. */
Numeric
money_round(Numeric amount, int exponent)
{
	return DatumGetNumeric(
		DirectFunctionCall2(numeric_round, NumericGetDatum(amount), Int32GetDatum(exponent)));
}

/*
 * Half away from zero of |n| ÷ d is the whole part of (2 |n| + d) ÷ 2 d.  numeric_div() would
 * first cut the quotient to some 16 digits, which can turn what is just below a half into one.
 */
Numeric
money_ratio(Numeric numerator, Numeric denominator, int exponent)
{
	bool is_negative = numeric_compare(numerator, numeric_zero()) < 0;
	Numeric units = numeric_shift(is_negative ? numeric_negate(numerator) : numerator, exponent);
	Numeric whole = numeric_quotient(numeric_plus(numeric_plus(units, units), denominator),
									 numeric_plus(denominator, denominator));
	Numeric amount = money_round(numeric_shift(whole, -exponent), exponent);

	return is_negative ? numeric_negate(amount) : amount;
}

Numeric
numeric_zero(void)
{
	static Numeric zero = NULL;

	if (zero == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		zero = int64_to_numeric(0);
		MemoryContextSwitchTo(caller);
	}
	return zero;
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

Numeric
numeric_negate(Numeric value)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_uminus, NumericGetDatum(value)));
}

Numeric
numeric_quotient(Numeric a, Numeric b)
{
	return apply(numeric_div_trunc, a, b);
}

Numeric
numeric_remainder(Numeric a, Numeric b)
{
	return apply(numeric_mod, a, b);
}

Numeric
numeric_floor_of(Numeric value)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_floor, NumericGetDatum(value)));
}

Numeric
numeric_shift(Numeric value, int places)
{
	static Numeric powers[2 * MAX_SCALED_PLACES + 1];

	Assert(places >= -MAX_SCALED_PLACES && places <= MAX_SCALED_PLACES);
	if (places == 0)
		return value;
	if (powers[places + MAX_SCALED_PLACES] == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		powers[places + MAX_SCALED_PLACES] = numeric_from_text(psprintf("1e%d", places));
		MemoryContextSwitchTo(caller);
	}
	return numeric_times(value, powers[places + MAX_SCALED_PLACES]);
}

Numeric
numeric_smaller_of(Numeric a, Numeric b)
{
	return numeric_compare(a, b) <= 0 ? a : b;
}

Numeric
numeric_larger_of(Numeric a, Numeric b)
{
	return numeric_compare(a, b) >= 0 ? a : b;
}

int
numeric_compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

Numeric
numeric_positive_part(Numeric value)
{
	return numeric_larger_of(value, numeric_zero());
}

bool
numeric_is_zero(Numeric value)
{
	return numeric_compare(value, numeric_zero()) == 0;
}

/* tenancy.money_round(amount numeric, currency text) → numeric */
TENANCY_FUNCTION(money_round)
{
	PG_RETURN_NUMERIC(money_round(required_numeric(fcinfo, 0, "amount"),
								  currency_exponent(text_to_cstring(PG_GETARG_TEXT_PP(1)))));
}

/* tenancy.money_to_minor(amount numeric, currency text, gateway text) → numeric */
TENANCY_FUNCTION(money_to_minor)
{
	char *currency = required_text(fcinfo, 1, "currency");

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(
		money_to_minor(required_numeric(fcinfo, 0, "amount"), currency, optional_text(fcinfo, 2)));
}

/* tenancy.money_from_minor(minor numeric, currency text, gateway text) → numeric */
TENANCY_FUNCTION(money_from_minor)
{
	char *currency = required_text(fcinfo, 1, "currency");

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(
		money_from_minor(required_numeric(fcinfo, 0, "minor"), currency, optional_text(fcinfo, 2)));
}
