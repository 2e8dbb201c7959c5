"""Cases of periods, time zones and proration."""
import re
from decimal import Decimal
from fractions import Fraction

from billing_case import Money, Moment, NotUnderstood, Number, parse_instant

PERIODS = {"day": ("daily", 1), "week": ("weekly", 1), "biweek": ("weekly", 2), "month": ("monthly", 1),
           "quarter": ("quarterly", 1), "biannual": ("monthly", 6), "semiannual": ("monthly", 6),
           "half_year": ("monthly", 6), "year": ("yearly", 1), "thirty_days": ("daily", 30), "biennial": ("yearly", 2)}
SYNONYMS = {"daily": "day", "weekly": "week", "biweekly": "biweek", "monthly": "month", "quarterly": "quarter",
            "yearly": "year", "annual": "year", "annually": "year", "days": "day", "weeks": "week",
            "months": "month", "quarters": "quarter", "years": "year"}


def period_of(case):
    """The billing period of an interval, and how many of them it is."""
    name = str(case.need("interval", "billing_period", "cadence")).lower()
    period, count = PERIODS[SYNONYMS.get(name, name)]
    return period, count * int(case.number("interval_count", "every", default=Decimal(1)))


def zone_of(case):
    return case.get("timezone", "time_zone", "tz", default="UTC")


def instant_of(case, text):
    """A date is its midnight in the zone; a time without an offset is UTC."""
    if len(text) == len("2026-01-31"):
        return case.value_of("$::timestamp AT TIME ZONE $", text, zone_of(case))
    return case.value_of("$::timestamptz", text)


def moment(case, instant):
    return Moment(instant, case.value_of("to_char($::timestamptz AT TIME ZONE $, 'YYYY-MM-DD')", instant,
                                         zone_of(case)))


def boundary(case, anchor, n):
    period, count = period_of(case)
    return case.value_of("tenancy.period_boundary($::timestamptz, $, $, $)", anchor, n * count, period, zone_of(case))


def anchor_sequence(case):
    anchor = instant_of(case, case.need("anchor", "start"))
    count = int(case.number("count", "n"))
    start = int(case.number("from_n", default=Decimal(1)))
    dates = [moment(case, boundary(case, anchor, n)) for n in range(start, start + count)]
    return {"dates": dates, "boundaries": dates}


def period_at(case):
    anchor = instant_of(case, case.need("anchor", "start"))
    at = instant_of(case, case.need("at", "now"))
    period, count = period_of(case)
    row = case.row_of("SELECT * FROM tenancy.period_at($::timestamptz, $, $::timestamptz, $)", anchor, period, at,
                      zone_of(case))
    # Of several periods at a time: the first of its group.
    first = int(row["number"]) // count * count
    start, end = (moment(case, boundary(case, anchor, n)) for n in (first // count, first // count + 1))
    return {"start": start, "end": end, "period": [start, end]}


def advance(case):
    date = moment(case, boundary(case, instant_of(case, case.need("start", "anchor", "from_")),
                                 int(case.number("n", "count"))))
    return {"date": date, "end": date}


def tz_period(case):
    """Civil dates as instants: the start in the zone, the end counted in days or months from it."""
    first, last = case.need("period")
    start = instant_of(case, first)
    a, b = parse_instant(first), parse_instant(last)
    if a.day == b.day:
        n, period = (b.year - a.year) * 12 + b.month - a.month, "monthly"
    else:
        n, period = (b - a).days, "daily"
    end = case.value_of("tenancy.period_boundary($::timestamptz, $, $, $)", start, n, period, zone_of(case))
    return {"start_utc": moment(case, start), "end_utc": moment(case, end)}


def tz_local_date(case):
    instant = case.need("instant", "at")
    local = case.value_of("$::timestamptz AT TIME ZONE $", instant, zone_of(case))
    days = int(case.number("trial_days", "days", default=Decimal(0)))
    end = case.value_of("tenancy.period_boundary($::timestamptz, $, 'daily', $)", instant, days, zone_of(case))
    return {"local_date": local[:10], "trial_end": moment(case, end)}


def local_days_between(case):
    days = case.value_of("tenancy.proration_length($::timestamptz, $::timestamptz, 'day', $)", case.need("start", "from_"),
                         case.need("end", "to"), zone_of(case))
    return {"days": Number(days)}


# Proration.

PART = re.compile(r"^(?:(?:days|seconds|hours)_(?:used|remaining|unused|left|active|elapsed)"
                  r"|(?:used|remaining|unused|left|active|elapsed)_(?:days|seconds|hours))$")
WHOLE = re.compile(r"^(?:(?:days|seconds|hours)_(?:in_period|total|in_month|in_year|of_period)"
                   r"|(?:total|period|nominal|fixed)_(?:days|seconds|hours))$")
LENGTH = re.compile(r"(days|seconds|hours)")


def is_unused(case):
    """Does the input speak of what is given back?"""
    return any("unused" in name for name in case.input)


def days_and_seconds(case, *texts):
    """Dates are prorated by the day, instants by the second, unless the input says."""
    unit = case.get("unit", "proration_unit")
    if unit:
        return {"days": "day", "seconds": "second"}.get(unit, unit)
    return "day" if all(len(text) == len("2026-01-31") for text in texts) else "second"


def length(case, start, end, unit):
    return case.value_of("tenancy.proration_length($::timestamptz, $::timestamptz, $, $)", instant_of(case, start),
                         instant_of(case, end), unit, zone_of(case))


def day_after(case, date):
    """An inclusive end is the half-open one a day later."""
    return case.value_of("to_char($::date + 1, 'YYYY-MM-DD')", date)


def whole_period(case):
    """The period as a half-open pair; None where there is none."""
    if case.has("period_inclusive", "old_period_inclusive"):
        start, end = case.need("period_inclusive", "old_period_inclusive")
        return start, day_after(case, end)
    if case.has("period", "old_period"):
        return tuple(case.need("period", "old_period"))
    if case.has("period_start") and case.has("period_end"):
        return case.need("period_start"), case.need("period_end")
    return None


def part_of(case):
    """How much of the period is meant, and the whole of it."""
    fraction = case.get("fraction", "factor")
    if fraction is not None:
        value = Fraction(str(fraction))
        if "/" in str(fraction):
            part, whole = str(fraction).split("/")
            return Decimal(part), Decimal(whole)
        return Decimal(value.numerator), Decimal(value.denominator)
    parts = [name for name in case.input if PART.match(name)]
    wholes = [name for name in case.input if WHOLE.match(name)]
    if parts and wholes:
        return case.number(parts[0]), case.number(wholes[0])
    period = whole_period(case)
    lengths = sorted(Decimal(value) for name, value in case.input.items() if LENGTH.search(name))
    if period is None and len(lengths) == 2:
        return lengths[0], lengths[1]
    if period is None:
        raise NotUnderstood("there is no period")
    start = case.get("from_", "from", "change_at", "changed_at", "cancel", "cancel_at", "cancelled_at", "start",
                     default=period[0])
    end = day_after(case, case.get("to_inclusive")) if case.has("to_inclusive") else case.get("to", "until",
                                                                                           default=period[1])
    unit = days_and_seconds(case, start, end, *period)
    return length(case, start, end, unit), length(case, *period, unit)


def prorated(case, amount, part, whole):
    return case.value_of("tenancy.prorate($, $, $, $)", amount, part, whole, case.currency)


def change(case, old, new, part, whole, resets=False):
    row = case.row_of("SELECT * FROM tenancy.proration_change($, $, $, $, $, $)", old, new, part, whole, case.currency,
                      resets)
    # Some sources show a credit as a negative line, some as an amount that is given.
    return {"credit": Money(row["credit"], of_either_sign=True), "debit": Money(row["debit"]),
            "net": Money(row["net"]), "amount": Money(row["net"]), "total": Money(row["net"])}


OLD = ("old", "old_price", "old_amount", "old_full")
NEW = ("new", "new_price", "new_amount", "new_full")
PRICE = ("price", "amount", "unit_price", "fee")


def proration(case, of_either_sign=False):
    part, whole = part_of(case)
    if case.money("already_invoiced", "already_billed") is not None:
        amount = prorated(case, case.need_money(*(NEW + PRICE)), part, whole)
        net = Money(amount - case.money("already_invoiced", "already_billed"))
        return {"prorated": Money(amount), "amount": Money(amount), "net": net}
    if case.money(*OLD) is not None:
        return change(case, case.money(*OLD), case.money(*NEW, default=Decimal(0)), part, whole)
    amount = prorated(case, case.need_money(*PRICE), part, whole)
    if case.has("quantity"):
        amount = prorated(case, case.need_money(*PRICE) * case.number("quantity"), part, whole)
    money = Money(-amount if is_unused(case) else amount, of_either_sign=of_either_sign or is_unused(case))
    return {"amount": money, "prorated": money, "credit": Money(amount, of_either_sign=True), "net": money}


def proration_change(case):
    part, whole = part_of(case)
    quantity = case.number("quantity", default=Decimal(1))
    before = case.number("old_quantity", "quantity_from", default=quantity)
    after = case.number("new_quantity", "quantity_to", default=quantity)
    # A new price for a period of its own is due in full.
    resets = bool(case.get("resets_cycle", "resets", default=False)) or case.money("new_full") is not None
    return change(case, before * case.money(*OLD, default=Decimal(0)), after * case.money(*NEW, default=Decimal(0)),
                  part, whole, resets)


def proration_seconds(case):
    return proration_change(case) if case.money(*OLD) is not None else proration(case, of_either_sign=True)


def proration_credit(case):
    part, whole = part_of(case)
    money = Money(-prorated(case, case.need_money(*(PRICE + OLD)), part, whole), of_either_sign=True)
    return {"amount": money, "credit": money, "net": money}


def proration_factor(case):
    part, whole = part_of(case)
    return {"factor": Number(case.value_of("tenancy.prorate(1, $, $)", part, whole))}


def proration_factor_fixed30(case):
    start, end = case.need("from_", "from", "start"), case.need("to", "end")
    part = length(case, start, end, "day_of_30")
    return {"factor": Number(case.value_of("tenancy.prorate(1, $, $)", part,
                                           case.number("fixed_days", default=Decimal(30))))}


def proration_factor_sum(case):
    """Whole periods are split off first, so that no part is larger than its period."""
    start, end = case.need("start", "from_"), case.need("end", "to")
    period, count = period_of(case)
    anchor = case.value_of("(SELECT to_char(min(d), 'YYYY-MM-DD') FROM generate_series($::date, $::date + 62,"
                           " interval '1 day') d WHERE date_part('day', d) = $)",
                           start, start, case.number("billing_day", "bcd"))
    parts = case.rows_of("SELECT part, whole FROM tenancy.proration_split($::timestamptz, $::timestamptz,"
                         " $::timestamptz, $, 'day', $)", start, end, anchor, period, zone_of(case))
    factors = [case.value_of("tenancy.prorate(1, $, $)", row["part"], row["whole"]) for row in parts]
    return {"factor": Number(sum(factors) / count)}


def discounted_part(case, price, discount, part, whole):
    """The part of a price less the discount that is its own: rounded once."""
    if not discount:
        return prorated(case, price, part, whole)
    kind, value = discount if isinstance(discount, list) else next(iter(discount.items()))
    value = Decimal(value)
    if kind in ("pct", "percent", "percentage"):
        return prorated(case, price * (100 - value), part, whole * 100)
    if case.is_in_minor:
        value /= case.minor_factor
    return prorated(case, max(price - value, Decimal(0)), part, whole)


def proration_discount(case):
    part, whole = part_of(case)
    credit = discounted_part(case, case.need_money(*OLD), case.get("old_discount"), part, whole)
    debit = discounted_part(case, case.need_money(*NEW), case.get("new_discount"), part, whole)
    return {"credit": Money(credit, of_either_sign=True), "debit": Money(debit), "net": Money(debit - credit)}


def proration_seats(case):
    part, whole = part_of(case)
    unit = case.need_money("unit", "unit_price", "price")
    seats = case.number("seats_to") - case.number("seats_from")
    amount = prorated(case, unit * abs(seats), part, whole)
    direction = "none" if seats == 0 else "debit" if seats > 0 else "credit"
    return {"amount": Money(amount, of_either_sign=True), "direction": direction}


def proration_onetime(case):
    """The part says nothing: what is charged once is charged in full."""
    part, whole = part_of(case)
    price = {"model": "per_unit", "unit_price": case.need_money("unit", "unit_price", "price"), "prorate": False}
    amount = case.value_of("price_calculate($, $, $, part => $, whole => $)", price,
                           case.number("quantity", default=Decimal(1)), case.currency, part, whole)
    return {"amount": Money(amount)}


def proration_tax(case):
    part, whole = part_of(case)
    fee = prorated(case, case.need_money(*PRICE), part, whole)
    result = case.document(lines=[{"amount": fee}], taxes=[{"id": "tax", "percentage": case.number("tax_pct")}])
    return {"fee": Money(fee), "amount": Money(fee), "subtotal": Money(fee), "tax": Money(result["tax"]),
            "total": Money(result["total"])}


def credit_note(case):
    """Of the part of a price that was not used; the tax is that of the unrounded part."""
    part, whole = part_of(case)
    exact = case.value_of("tenancy.prorate($, $, $)", case.need_money(*PRICE), part, whole)
    result = case.document(lines=[{"amount": exact}], tax_base="exact",
                           taxes=[{"id": "tax", "percentage": case.number("tax_pct", default=Decimal(0))}])
    return {"subtotal": Money(result["subtotal"]), "tax": Money(result["tax"]), "total": Money(result["total"]),
            "amount": Money(result["subtotal"])}


def credit_cap(case):
    credit = case.value_of("tenancy.credit_cap($, $, $)", case.need_money("potential_credit", "credit"),
                           case.need_money("originally_paid", "paid"),
                           case.money("previous_credits", "earlier_credits", default=Decimal(0)))
    return {"credit": Money(credit), "amount": Money(credit)}


HANDLERS = {
    "anchor_sequence": anchor_sequence,
    "period_at": period_at,
    "advance": advance,
    "tz_period": tz_period,
    "tz_local_date": tz_local_date,
    "local_days_between": local_days_between,
    "proration": proration,
    "proration_seconds": proration_seconds,
    "proration_change": proration_change,
    "proration_credit": proration_credit,
    "proration_factor": proration_factor,
    "proration_factor_fixed30": proration_factor_fixed30,
    "proration_factor_sum": proration_factor_sum,
    "proration_discount": proration_discount,
    "proration_seats": proration_seats,
    "proration_onetime": proration_onetime,
    "proration_nominal": proration,
    "proration_tax": proration_tax,
    "credit_note": credit_note,
    "credit_cap": credit_cap,
}
