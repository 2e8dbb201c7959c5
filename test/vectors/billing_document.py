"""Cases of rounding, discounts, taxes, credits, numbers and dunning."""
import re
from decimal import Decimal

from billing_case import Money, NotUnderstood, Number

TAX = "tax"


def line_amounts(case, *names):
    """Lines as amounts in units, and as the objects that they may be."""
    for name in names or ("lines", "invoice_lines", "items", "charges", "fees"):
        for suffix in ("", "_cents", "_minor"):
            values = case.get(name + suffix)
            if values is None:
                continue
            values = values if isinstance(values, list) else [values]
            if values and isinstance(values[0], dict):
                return [case.amount_in(item, "amount", "cents", "price") for item in values], values
            return case.monies(name), [{} for _ in values]
    raise NotUnderstood("there are no lines")


def percentage_of(item, *names):
    for name in names:
        if item.get(name) is not None:
            return Decimal(item[name])
    return None


def tax_rounding(case, default):
    """Lago, Flexprice and Polar round each tax of an invoice once, Stripe and Zuora that of each line."""
    choice = case.get("tax_rounding", "rounding_mode")
    if choice in ("line", "invoice"):
        return choice
    return "invoice" if re.search("lago|flexprice|polar", case.source) else default


def taxed_lines(case, amounts, items):
    """Lines that each bear their own rate, or that of the whole input."""
    taxes = {}
    lines = []
    for n, (amount, item) in enumerate(zip(amounts, items)):
        rate = percentage_of(item, "tax_pct", "tax_rate")
        if rate is None:
            rate = case.number("tax_pct", "tax_rate", default=Decimal(0))
        taxes.setdefault(str(rate), {"id": str(rate), "percentage": rate})
        lines.append({"amount": amount, "charge": "line%d" % n, "taxes": [str(rate)]})
        for scope in ("plan", "metric"):
            if item.get(scope) is not None:
                lines[-1][scope] = item[scope]
    return lines, list(taxes.values())


def results(result):
    """The members of a calculated document under the names that sources use."""
    lines = result["lines"]
    net = result["subtotal"] - result["discount"]
    return {"lines": [Money(line["total"]) for line in lines],
            "line_tax": [Money(line["tax"]) for line in lines],
            "net": [Money(line["net"]) for line in lines],
            "discounts": [Money(line["discount"]) for line in lines],
            "subtotal": Money(net), "gross_subtotal": Money(result["subtotal"]), "discount": Money(result["discount"]),
            "subtotal_excl": Money(net), "subtotal_incl": Money(result["total"]),
            "tax": Money(result["tax"]), "total": Money(result["total"]), "final": Money(result["total"]),
            "taxes": [Money(tax["amount"]) for tax in result["taxes"]], "due": Money(result["due"]),
            "credits": [Money(used) for used in result["credits"]], "sum": Money(result["discount"])}


def rounding(case):
    if case.money("unit_price") is not None:
        price = {"model": "per_unit", "unit_price": case.money("unit_price")}
        amount = case.value_of("price_calculate($, $, $)", price, case.number("quantity", default=Decimal(1)),
                               case.currency)
    elif case.has("rate_pct", "pct"):
        amount = case.document(lines=[{"amount": case.need_money("amount")}],
                               taxes=[{"id": TAX, "percentage": case.number("rate_pct", "pct")}])["tax"]
    else:
        amount = case.value_of("tenancy.money_round($, $)", case.need_money("amount", "value"), case.currency)
    return {"amount": Money(amount), "total": Money(amount),
            "rounded": Money(amount)}


def sum_of_rounded_lines(case):
    amounts, _ = line_amounts(case)
    return results(case.document(lines=[{"amount": amount} for amount in amounts]))


def minor_units(case):
    """Stripe's own units where the source, or a rule that departs from ISO 4217, says so."""
    gateway = "stripe" if "stripe" in case.source or case.has("rule", "gateway") else None
    if case.has("minor"):
        amount = case.value_of("tenancy.money_from_minor($, $, $)", case.number("minor"), case.currency, gateway)
        return {"amount": Number(amount)}
    minor = case.value_of("tenancy.money_to_minor($, $, $)", case.number("amount"), case.currency, gateway)
    return {"minor": Number(minor)}


# Taxes.

def tax(case):
    amounts = case.monies("taxable", "amount", "base") or line_amounts(case)[0]
    result = case.document(lines=[{"amount": amount} for amount in amounts],
                           taxes=[{"id": TAX, "percentage": case.number("tax_pct", "rate_pct")}])
    return results(result)


def tax_by(how):
    def handler(case):
        amounts, items = line_amounts(case)
        lines, taxes = taxed_lines(case, amounts, items)
        return results(case.document(lines=lines, taxes=taxes, tax_rounding=how))
    return handler


def tax_multi_rate(case):
    taxes = [{"id": str(n), "percentage": rate, "compound": bool(case.get("compound", default=False))}
             for n, rate in enumerate(case.numbers("rates_pct", "rates"))]
    result = case.document(lines=[{"amount": case.need_money("taxable", "amount", "base")}], taxes=taxes)
    answer = results(result)
    answer["total"] = answer["tax"]
    return answer


def tax_inclusive(case):
    gross = case.need_money("gross", "amount", "total")
    result = case.document(lines=[{"amount": gross}], inclusive_rounding=case.get("round", default=TAX),
                           taxes=[{"id": TAX, "percentage": case.number("tax_pct"), "inclusive": True}])
    return {"net": Money(result["lines"][0]["net"]), "tax": Money(result["inclusive_tax"]),
            "gross": Money(result["total"])}


# Discounts.

def coupons_of(case):
    """Coupons, in the order they are given: percentages, fixed amounts, or objects of one member."""
    coupons = []
    for name in ("coupons", "coupon", "discounts", "discount"):
        for suffix, factor in (("", Decimal(1)), ("_cents", case.minor_factor)):
            given = case.get(name + suffix)
            for value in given if isinstance(given, list) else [given] if given is not None else []:
                if isinstance(value, dict):
                    percent = percentage_of(value, "pct", "percent", "percentage")
                    fixed = case.amount_in(value, "fixed", "amount", "cents")
                    if percent is None and case.is_in_minor and "cents" not in value:
                        fixed /= case.minor_factor
                    coupons.append({"kind": "fixed", "value": fixed} if percent is None
                                   else {"kind": "percent", "value": percent})
                    for ours, theirs in (("metrics", ("metrics", "metric")), ("plans", ("plans", "plan"))):
                        scope = value.get(theirs[0], value.get(theirs[1]))
                        if scope:
                            coupons[-1][ours] = scope if isinstance(scope, list) else [scope]
                else:
                    coupons.append({"kind": "fixed", "value": Decimal(value) / factor})
        percentages = case.get(name + "_pct")
        for value in percentages if isinstance(percentages, list) else [percentages] if percentages is not None else []:
            coupons.append({"kind": "percent", "value": Decimal(value)})
    return coupons


def discount_tax(case):
    amounts, items = line_amounts(case)
    lines, taxes = taxed_lines(case, amounts, items)
    discounts = coupons_of(case)
    for n, item in enumerate(items):
        own = case.amount_in(item, "coupon", "discount")
        if own is not None:
            discounts.append({"kind": "fixed", "value": own, "charge": "line%d" % n})
        percent = percentage_of(item, "coupon_pct", "discount_pct")
        if percent is not None:
            discounts.append({"kind": "percent", "value": percent, "charge": "line%d" % n})
    result = case.document(lines=lines, taxes=taxes, discounts=discounts, tax_rounding=tax_rounding(case, "line"))
    answer = results(result)
    net = result["subtotal"] - result["discount"]
    answer["effective_rate_pct"] = Number(case.value_of("tenancy.prorate(100, $, $)", result["tax"], net) if net else 0)
    return answer


def base_of(case):
    return case.need_money("base", "subtotal", "amount", "price")


def coupon_chain(case):
    return results(case.document(lines=[{"amount": base_of(case)}], discounts=coupons_of(case)))


def coupon_fixed(case):
    left = case.money("remaining", "amount_off", "fixed", "coupon")
    return results(case.document(lines=[{"amount": base_of(case)}], discounts=[{"kind": "fixed", "value": left}]))


def coupon_pct(case):
    percent = case.number("pct", "percent", "percent_off", "coupon_pct")
    return results(case.document(lines=[{"amount": base_of(case)}], discounts=[{"kind": "percent", "value": percent}]))


def discount_allocation(case):
    amounts, _ = line_amounts(case)
    if case.has("pct", "discount_pct"):
        discount = {"kind": "percent", "value": case.number("pct", "discount_pct")}
    else:
        discount = {"kind": "fixed", "value": case.need_money("discount", "coupon")}
    return results(case.document(lines=[{"amount": amount} for amount in amounts], discounts=[discount]))


def discount_pct_per_line(case):
    amounts, _ = line_amounts(case)
    lines = [{"amount": amount} for amount in amounts]
    percent = {"kind": "percent", "value": case.number("pct", "discount_pct")}
    answer = results(case.document(lines=lines, discounts=[{**percent, "per_line": True}]))
    answer["on_total"] = Money(case.document(lines=lines, discounts=[percent])["discount"])
    return answer


def allocation(case):
    decimals = case.number("decimals")
    if decimals is None:
        decimals = len(str(int(case.minor_factor))) - 1
    shares = case.value_of("tenancy.allocate($, $, $)", case.need_money("amount", "total"),
                           case.numbers("weights", "shares"), int(decimals))
    return {"shares": [Money(share) for share in shares]}


# Credits.

def credit_note_sequence(case):
    """Each line credited by a note of its own, one after the other."""
    amounts, items = line_amounts(case)
    lines, taxes = taxed_lines(case, amounts, items)
    how = tax_rounding(case, "line")
    invoice = case.document(lines=lines, taxes=taxes, discounts=coupons_of(case), tax_rounding=how)
    credited = [{"amount": line["amount"], "discount": line["discount"], "earlier": Decimal(0),
                 "earlier_discount": Decimal(0), "taxes": of["taxes"]} for line, of in zip(invoice["lines"], lines)]
    rates = [{**rate, "base": total["base"], "amount": total["amount"], "earlier_base": Decimal(0),
              "earlier_amount": Decimal(0)} for rate, total in zip(taxes, invoice["taxes"])]
    answer = {}
    for n, name in zip(range(len(credited)), ("first", "second", "third", "fourth", "fifth", "sixth")):
        note = case.value_of("tenancy.credit_note_calculate($)", {
            "currency": case.currency, "tax_rounding": how, "taxes": rates,
            "lines": [{**line, "credit": line["amount"] if m == n else Decimal(0)} for m, line in enumerate(credited)]})
        answer[name] = {"subtotal": Money(note["subtotal"]), "tax": Money(note["tax"]), "total": Money(note["total"])}
        for line, part in zip(credited, note["lines"]):
            line["earlier"] += part["credit"]
            line["earlier_discount"] += part["discount"]
        for rate, part in zip(rates, note["taxes"]):
            rate["earlier_base"] += part["base"]
            rate["earlier_amount"] += part["amount"]
    answer["invoice"] = results(invoice)
    return answer


def credits_after_tax(case):
    """One invoice after the other is paid from what is left of a wallet."""
    balance = case.need_money("wallet", "prepaid", "credits", "balance")
    answer = {"totals": [], "due": [], "balance": []}
    for amount in case.monies("charges", "lines", "usage"):
        result = case.document(lines=[{"amount": amount}], credits=[{"available": balance}],
                               taxes=[{"id": TAX, "percentage": case.number("tax_pct", default=Decimal(0))}])
        balance -= result["credited"]
        answer["totals"].append(Money(result["total"]))
        answer["due"].append(Money(result["due"]))
        answer["balance"].append(Money(balance))
    return answer


CREDIT = re.compile(r"(credit|prepaid|wallet|balance)")
DISCOUNT = re.compile(r"(coupon|discount|_off$)")
PERCENT = re.compile(r"_(pct|percent|percentage)$")
# Names of parts of the input that are no amounts, or sums of others.
NO_FEES = re.compile(r"^(currency|decimals|tax|round|timezone)")


def order_of_operations(case):
    """Fees, discounts, taxes, credit notes, prepaid credits, in whatever order they are named."""
    lines, discounts, credits = [], [], []
    rates = [Decimal(rate) for name, rate in case.input.items() if name.startswith("tax") and not isinstance(rate, list)]
    fees = [name for name in case.input if not (CREDIT.search(name) or DISCOUNT.search(name) or NO_FEES.search(name))]
    if len(fees) > 1:
        fees = [name for name in fees if name not in ("subtotal", "subtotal_cents")]
    for name in fees:
        amounts, items = line_amounts(case, re.sub(r"_(cents|minor)$", "", name))
        for amount, item in zip(amounts, items):
            lines.append({"amount": amount, "charge": "%s.%d" % (name, len(lines))})
            percent = percentage_of(item, "coupon_pct", "discount_pct")
            fixed = case.amount_in(item, "coupon", "discount")
            if percent is not None or fixed is not None:
                discounts.append({"kind": "percent" if percent is not None else "fixed", "charge": lines[-1]["charge"],
                                  "value": percent if percent is not None else fixed})
    for name, given in case.input.items():
        if CREDIT.search(name):
            credits += [{"available": amount} for amount in case.monies(re.sub(r"_(cents|minor)$", "", name))]
        elif DISCOUNT.search(name):
            for value in given if isinstance(given, list) else [given]:
                discounts.append(named_discount(case, name, value, lines))
    # Credit notes come before what was paid in advance.
    order = [name for name in case.input if CREDIT.search(name)]
    credits = [credit for _, credit in sorted(zip(order, credits), key=lambda pair: "note" not in pair[0])]
    result = case.document(lines=lines, discounts=discounts, credits=credits, tax_rounding=tax_rounding(case, "line"),
                           taxes=[{"id": str(n), "percentage": rate} for n, rate in enumerate(rates)])
    answer = results(result)
    answer["taxable"] = answer["net_total"] = answer["subtotal_excl"]
    answer["amount_due"] = answer["payable"] = answer["due"]
    # Flexprice takes credits into what it calls the total.
    if "flexprice" in case.source:
        answer["total"] = answer["due"]
    return answer


def named_discount(case, name, value, lines):
    """A discount that its name limits: to lines called alike, to the first for "line", or to none."""
    if isinstance(value, dict):
        percent = percentage_of(value, "pct", "percent")
        amount = case.amount_in(value, "fixed", "amount")
    else:
        percent = Decimal(value) if PERCENT.search(name) else None
        amount = Decimal(value) / (case.minor_factor if name.endswith("_cents") else 1)
    discount = {"kind": "fixed", "value": amount} if percent is None else {"kind": "percent", "value": percent}
    words = set(re.split(r"[_.]", DISCOUNT.sub("", name)))
    alike = [line for line in lines if words & set(re.split(r"[_.]", line["charge"])[:-1])]
    if alike:
        discount["charge"] = alike[0]["charge"]
    elif "line" in words and lines:
        discount["charge"] = lines[0]["charge"]
    return discount


def progressive_billing(case):
    """What was billed within the period is taken off its final invoice."""
    amounts = case.monies("plan_fee", "fee", "subscription_fee") + case.monies("usage", "charges")
    billed = case.money("already_billed", "previously_billed", default=Decimal(0))
    result = case.document(lines=[{"amount": amount} for amount in amounts], credits=[{"available": billed}],
                           taxes=[{"id": TAX, "percentage": case.number("tax_pct", default=Decimal(0))}])
    return {"fees": Money(result["subtotal"]), "total": Money(result["due"]), "due": Money(result["due"]),
            "credit": Money(result["credited"])}


def credit_balance(case):
    """Charges, corrections and payments of an account; what is paid too much is its credit."""
    lines = [amount for name in ("charge", "tax", "adjustment") for amount in case.monies(name)]
    document = case.document(lines=[{"amount": amount} for amount in lines],
                             credits=[{"available": case.money("account_credit", "credit", default=Decimal(0))}])
    charged = document["total"]
    paid = case.money("paid", "payment", default=Decimal(0))
    refunded = abs(case.money("refunded", "refund", default=Decimal(0)))
    row = case.row_of("SELECT * FROM tenancy.amount_due($, $, $)", document["due"], paid, refunded)
    return {"charged": Money(charged), "account_credit": Money(row["overpaid"]), "balance": Money(row["due"]),
            "credit_used": Money(document["credited"]), "due": Money(row["due"]),
            "credit_left": Money(case.money("account_credit", "credit", default=Decimal(0)) - document["credited"])}


# Numbers and dunning.

def invoice_number(case):
    series = "-".join(str(case.get(name)) for name in ("prefix", "month") if case.has(name))
    first = int(case.number("existing_in_entity", "existing", "last_number", default=Decimal(0))) + 1
    width = int(case.number("width", "digits", default=Decimal(3)))
    count = int(case.number("count", default=Decimal(1)))
    numbers = [case.value_of("tenancy.document_number($, $, $)", series, first + n, width) for n in range(count)]
    return {"numbers": numbers, "number": numbers[0]}


def dunning(case):
    """The gaps of a policy as days from the first failure on."""
    policy = {"retries": [int(gap) for gap in case.need("retry_gaps_days", "gaps_days", "gaps")]}
    steps = case.rows_of("SELECT day FROM tenancy.dunning_schedule($) WHERE action = 'retry' ORDER BY step", policy)
    return {"retry_days": [Number(step["day"]) for step in steps]}


def overdue_at(text, day):
    """What is overdue by currency: "EUR 14900 until day 5, 15900 from day 6; USD 12000"."""
    amounts = {}
    for clause in text.split(";"):
        currency, _, rest = clause.strip().partition(" ")
        for part in rest.split(","):
            amount, _, bound = part.strip().partition(" ")
            words = bound.split()
            until = int(words[words.index("until") + 2]) if "until" in words else None
            since = int(words[words.index("from") + 2]) if "from" in words else None
            if (until is None or day <= until) and (since is None or day >= since):
                amounts[currency] = Decimal(amount)
    return amounts


def dunning_campaign(case):
    thresholds = case.get("thresholds", "thresholds_cents")
    campaign = {"thresholds": {currency: Decimal(amount) for currency, amount in thresholds.items()},
                "max_attempts": case.number("max_attempts"),
                "days_between_attempts": case.number("days_between_attempts", "days_between")}
    attempts, last, answer = {}, {}, []
    for day in map(int, case.need("run_days")):
        overdue = case.need("overdue", "overdue_cents")
        overdue = overdue_at(overdue, day) if isinstance(overdue, str) else overdue
        at = case.value_of("timestamptz '2026-01-01 00:00+00' + $ * interval '1 day'", day)
        for currency in thresholds:
            if case.value_of("tenancy.dunning_campaign_due($, $, $, $, $::timestamptz, $::timestamptz)", campaign, currency,
                             Decimal(overdue.get(currency, 0)), attempts.get(currency, 0), last.get(currency), at):
                attempts[currency] = attempts.get(currency, 0) + 1
                last[currency] = at
        answer.append({currency: Number(count) for currency, count in attempts.items()})
    return {"attempts": answer}


HANDLERS = {
    "rounding": rounding,
    "sum_of_rounded_lines": sum_of_rounded_lines,
    "minor_units": minor_units,
    "tax": tax,
    "tax_per_line": tax_by("line"),
    "tax_per_invoice": tax_by("invoice"),
    "tax_multi_rate": tax_multi_rate,
    "tax_inclusive": tax_inclusive,
    "discount_tax": discount_tax,
    "coupon_chain": coupon_chain,
    "coupon_fixed": coupon_fixed,
    "coupon_pct": coupon_pct,
    "discount_allocation": discount_allocation,
    "discount_pct_per_line": discount_pct_per_line,
    "allocation_largest_remainder": allocation,
    "credit_note_sequence": credit_note_sequence,
    "credits_after_tax": credits_after_tax,
    "order_of_operations": order_of_operations,
    "progressive_billing": progressive_billing,
    "credit_balance": credit_balance,
    "invoice_number": invoice_number,
    "dunning": dunning,
    "dunning_campaign": dunning_campaign,
}
