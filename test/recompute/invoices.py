"""Random invoices, computed by the extension and by rules.py, compared to the last digit.

    invoices.py [N [SEED]]    # 10000 documents; connects as the environment says

Each document takes the lines of one to three random pricings (all models, shorthands, minimum,
parts of periods, seats, what was billed before) and credits for unused time, and puts discounts,
taxes and credits on them; one in four is then credited by notes until nothing is left.
"""
import random
import sys
from decimal import Decimal
from fractions import Fraction

import rules
from psql import Session, document, quote

CURRENCIES = (("USD", 2), ("EUR", 2), ("JPY", 0), ("KRW", 0), ("BHD", 3), ("KWD", 3))
METRICS = ("users", "calls", "storage", "value", "tokens")
PLANS = ("starter", "growth", "scale")
BATCH = 200


def plain(value):
    """A Fraction of a decimal number, and all that contains such, as numbers of a document."""
    if isinstance(value, Fraction):
        digits = Decimal(value.numerator) / Decimal(value.denominator)
        assert Fraction(digits) == value, value
        return digits
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(element) for element in value]
    return value


class Maker:
    """Makes random pricings, usage and documents."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def number(self, most, decimals=2):
        """At least 0; small and round numbers are as likely as others."""
        if self.chance(15):
            return Fraction(self.random.choice((0, 1, 2, 5, 10, 100)))
        decimals = self.random.randrange(decimals + 1)
        return Fraction(self.random.randrange(most * 10 ** decimals + 1), 10 ** decimals)

    def some(self, *makers):
        """Members that may be there or not."""
        return {name: make() for name, percent, make in makers if self.chance(percent)}

    def tiers(self, model):
        count = self.random.randrange(1, 5)
        if model.startswith("block"):
            tiers = [{"size": self.number(50, 1) + 1, "price": self.number(20, 3),
                      "max_blocks": Fraction(self.random.randrange(1, 30))} for _ in range(count)]
            if self.chance(70):
                del tiers[-1]["max_blocks"]
            return tiers
        price = "rate" if model == "graduated_percentage" else "unit_price"
        bound, tiers = Fraction(0), []
        for n in range(count):
            tiers.append(self.some((price, 85, lambda: self.number(20, 4)), ("flat_fee", 40, lambda: self.number(50))))
            bound += self.number(60, 1) + Fraction(n > 0 or self.chance(80))
            if n < count - 1:
                tiers[-1]["up_to"] = bound
            bound += Fraction(1, 2)
        return tiers

    def price(self, model):
        price = {"model": model}
        if model in ("flat", "per_unit", "package"):
            price["unit_price"] = self.number(200, 5)
        if model == "package":
            price["package_size"] = self.number(100, 1) + 1
            price.update(self.some(("package_rounding", 50, lambda: self.random.choice(("up", "down")))))
        if model in ("graduated", "volume", "graduated_percentage", "block_graduated", "block_volume"):
            price["tiers"] = self.tiers(model)
        if model == "percentage":
            price["rate"] = self.number(10, 3)
            price.update(self.some(("fixed_fee", 50, lambda: self.number(3)), ("free_amount", 40, lambda: self.number(300)),
                                   ("free_events", 40, lambda: Fraction(self.random.randrange(5))),
                                   ("transaction_minimum", 30, lambda: self.number(2))))
            if self.chance(30):
                price["transaction_maximum"] = price.get("transaction_minimum", Fraction(0)) + self.number(20)
        if model == "dynamic":
            price.update(self.some(("multiplier", 70, lambda: self.number(3, 5))))
        if self.chance(20):
            price["quantity_rounding"] = self.random.choice(("up", "down", "half_up"))
            price.update(self.some(("quantity_decimals", 50, lambda: self.random.randrange(4))))
        price.update(self.some(("minimum", 15, lambda: self.number(300, 3))))
        return price

    MODELS = ("flat", "per_unit", "graduated", "volume", "package", "percentage", "graduated_percentage",
              "block_graduated", "block_volume", "dynamic")

    def charge(self, n):
        model = self.random.choice(self.MODELS)
        charge = {"id": "c%d" % n, **self.price(model)}
        if model == "flat":
            charge.update(self.some(("recurring", 25, lambda: False), ("timing", 30, lambda: "advance")))
            if charge.get("recurring", True):
                charge.update(self.some(("prorate", 30, lambda: self.chance(50))))
            return charge
        is_of_values = model in ("percentage", "graduated_percentage", "dynamic")
        if is_of_values or self.chance(70):
            charge["metric"] = self.random.choice(METRICS)
            if model in ("per_unit", "graduated", "volume"):
                charge.update(self.some(("prorate", 40, lambda: self.chance(70))))
        else:
            charge["per_seat"] = True
            charge.update(self.some(("prorate", 30, lambda: self.chance(50))))
        if model not in ("percentage", "dynamic"):
            if self.chance(20):
                charge["limit"] = self.random.choice(("small", "large", "none"))
            else:
                charge.update(self.some(("included", 30, lambda: self.number(40, 1))))
        return charge

    def pricing(self, currency):
        pricing = {"type": "custom", "currency": currency, "billing_period": "monthly"}
        pricing.update(self.some(("base_price", 60, lambda: self.number(300, 3)), ("setup_fee", 20, lambda: self.number(100)),
                                 ("base_timing", 30, lambda: self.random.choice(("advance", "arrears"))),
                                 ("minimum", 20, lambda: self.number(800, 3))))
        if self.chance(30):
            pricing["usage_metrics"] = [{"name": "over " + metric, "metric": metric, "unit": "unit",
                                         "price": self.number(9, 4), **self.included()}
                                        for metric in self.random.sample(METRICS, self.random.randrange(1, 3))]
        if self.chance(20):
            pricing["tiers"] = self.tiers("graduated")
            pricing["metric"] = self.random.choice(METRICS)
        pricing["charges"] = [self.charge(n) for n in range(self.random.randrange(4))]
        return pricing

    def included(self):
        if self.chance(30):
            return {"included": self.number(40, 1)}
        return {"limit": self.random.choice(("small", "large", "none"))} if self.chance(40) else {}

    def usage(self, exponent):
        """What was used of each metric, as a number or by the event."""
        usage = {}
        for metric in METRICS:
            if self.chance(10):
                continue
            if self.chance(40):
                usage[metric] = self.number(400, 3)
                continue
            values = [self.number(200) for _ in range(self.random.randrange(6))]
            signs = [-1 if self.chance(20) else 1 for _ in values]
            values = [value * sign for value, sign in zip(values, signs)]
            usage[metric] = {"quantity": max(sum(values, Fraction(0)), Fraction(0)), "values": values,
                             "parts": [value * Fraction(self.random.randrange(101), 100) for value in values]}
            if self.chance(15):
                usage[metric]["billed"] = Fraction(self.random.randrange(5000), 10 ** exponent)
        return usage

    def taxes(self):
        taxes = [{"id": "t%d" % n, "percentage": self.number(25, 3)} for n in range(self.random.choice((0, 1, 1, 1, 2, 3)))]
        for tax in taxes:
            tax.update(self.some(("inclusive", 25, lambda: True)))
            if not tax.get("inclusive"):
                tax.update(self.some(("compound", 15, lambda: True)))
        return taxes

    def discount(self, lines, exponent):
        kind = self.random.choice(("percent", "percent", "fixed", "fixed", "maximum"))
        value = self.number(100, 2) if kind == "percent" else Fraction(self.random.randrange(40000), 10 ** exponent)
        discount = {"kind": kind, "value": min(value, Fraction(100)) if kind == "percent" else value}
        if kind == "percent":
            discount.update(self.some(("per_line", 20, lambda: True)))
        scope = self.random.randrange(6)
        if scope == 0:
            discount["plans"] = self.random.sample(PLANS, self.random.randrange(1, 3))
        elif scope == 1:
            discount["metrics"] = self.random.sample(METRICS, self.random.randrange(1, 3))
        elif scope == 2 and lines:
            discount["subscription"] = self.random.choice(lines)["subscription"]
        elif scope == 3 and lines:
            discount["charge"] = self.random.choice(lines)["charge"]
        return discount

    def document(self, currency, exponent, lines):
        """Discounts, taxes and credits upon lines."""
        taxes = self.taxes()
        for line in lines:
            if self.chance(15):
                line["taxes"] = self.random.sample([tax["id"] for tax in taxes], self.random.randrange(len(taxes) + 1))
        made = {"currency": currency, "lines": lines, "taxes": taxes,
                "discounts": [self.discount(lines, exponent) for _ in range(self.random.choice((0, 0, 1, 1, 2, 3)))]}
        made.update(self.some(("tax_rounding", 60, lambda: self.random.choice(("line", "invoice"))),
                              ("inclusive_rounding", 30, lambda: self.random.choice(("tax", "net"))),
                              ("tax_base", 20, lambda: "exact"),
                              ("tax_treatment", 10, lambda: self.random.choice(("exempt", "reverse_charge")))))
        if self.chance(30):
            made["credits"] = [{"available": Fraction(self.random.randrange(30000), 10 ** exponent)}
                               for _ in range(self.random.randrange(1, 3))]
        return made


class Comparison:
    """Counts what agrees, and shows the first that do not."""

    def __init__(self):
        self.compared = self.faults = 0

    def same(self, have, want, where, decimals=None):
        self.compared += 1
        have = None if have is None else Fraction(have)
        if decimals is not None and want is not None:
            want = rules.half_away(want, decimals)
        if have != want:
            self.fault("%s: %s, recomputed %s" % (where, have, want))

    def fault(self, text):
        self.faults += 1
        if self.faults <= 20:
            print(text)


LIMITS = {"small": Fraction(5), "large": Fraction(1000), "none": Fraction(-1)}


def compare_lines(comparison, have, want, where):
    if len(have) != len(want):
        comparison.fault("%s: %d lines, recomputed %d: %s, recomputed %s" % (
            where, len(have), len(want), [(line["charge"], line["kind"]) for line in have], [line[:2] for line in want]))
        return
    for line, (charge, kind, amount, quantity) in zip(have, want):
        if (line["charge"], line["kind"]) != (charge, kind):
            comparison.fault("%s: line %s/%s, recomputed %s/%s" % (where, line["charge"], line["kind"], charge, kind))
        comparison.same(line["amount"], amount, "%s, amount of %s" % (where, charge))
        comparison.same(line["quantity"], quantity, "%s, quantity of %s" % (where, charge), 20)


def compare_documents(comparison, have, want, where):
    for name in ("subtotal", "discount", "tax", "inclusive_tax", "total", "credited", "due"):
        comparison.same(have[name], want[name], "%s, %s" % (where, name))
    for n, (line, again) in enumerate(zip(have["lines"], want["lines"])):
        for name in ("amount", "discount", "net", "tax", "total"):
            comparison.same(line[name], again[name], "%s, %s of line %d" % (where, name, n))
    for n, (discount, again) in enumerate(zip(have["discounts"], want["discounts"])):
        comparison.same(discount["base"], again["base"], "%s, base of discount %d" % (where, n))
        comparison.same(discount["amount"], again["amount"], "%s, discount %d" % (where, n))
        for share, share_again in zip(discount["shares"], again["shares"]):
            comparison.same(share, share_again, "%s, share of discount %d" % (where, n))
    for n, (tax, again) in enumerate(zip(have["taxes"], want["taxes"])):
        comparison.same(tax["base"], again["base"], "%s, base of tax %d" % (where, n))
        comparison.same(tax["amount"], again["amount"], "%s, tax %d" % (where, n))
    for credit, again in zip(have["credits"], want["credits"]):
        comparison.same(credit, again, "%s, credit" % where)


def ask(session, function, documents):
    """The results of a function for each of the documents, in their order."""
    rows = session.query(
        "SELECT e.n, tenancy.%s(e.d) AS result FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS e(d, n) ORDER BY 1"
        % (function, quote(document(plain(documents)))))
    return [row["result"] for row in rows]


def rate_all(session, requests):
    rows = session.query(
        "SELECT e.n, (SELECT coalesce(json_agg(json_build_object('charge', r.charge, 'kind', r.kind, 'metric', r.metric,"
        "          'amount', r.amount, 'quantity', r.quantity) ORDER BY r.line), '[]')"
        "     FROM tenancy.pricing_rate(e.d->'pricing', e.d->'usage', e.d->'limits', (e.d->>'seats')::numeric,"
        "          (e.d->>'part')::numeric, (e.d->>'whole')::numeric, (e.d->>'is_first')::boolean) r) AS lines"
        "  FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS e(d, n) ORDER BY 1" % quote(document(plain(requests))))
    return [row["lines"] for row in rows]


def make_request(maker, currency, exponent):
    whole = maker.random.choice((28, 29, 30, 31, 365, 2592000, 2678400, 2419200))
    part = whole if maker.chance(40) else maker.random.randrange(1, whole + 1)
    return {"pricing": maker.pricing(currency), "usage": maker.usage(exponent), "limits": LIMITS,
            "seats": Fraction(maker.random.randrange(30)), "part": Fraction(part), "whole": Fraction(whole),
            "is_first": maker.chance(50)}


def document_lines(maker, exponent, rated):
    """Lines of up to three subscriptions, and credits for time that was not used."""
    lines = []
    for subscription, rated_lines in enumerate(rated, 1):
        plan = maker.random.choice(PLANS)
        for line in rated_lines:
            made = {"amount": Fraction(line["amount"]), "plan": plan, "subscription": subscription}
            made.update({name: line[name] for name in ("charge", "metric") if line[name] is not None})
            made.setdefault("charge", "commitment")
            lines.append(made)
        if maker.chance(15):
            lines.append({"amount": -Fraction(maker.random.randrange(20000), 10 ** exponent), "plan": plan,
                          "subscription": subscription, "charge": "unused"})
    return lines


def notes_of(maker, made, calculated, exponent):
    """Credit notes that take random parts of lines, the last one all that is left."""
    lines = [{"amount": line["amount"], "discount": line["discount"], "earlier": Fraction(0), "earlier_discount": Fraction(0),
              **({"taxes": given["taxes"]} if "taxes" in given else {})}
             for line, given in zip(calculated["lines"], made["lines"])]
    taxes = [{**tax, "base": total["base"], "amount": total["amount"], "earlier_base": Fraction(0),
              "earlier_amount": Fraction(0)} for tax, total in zip(made["taxes"], calculated["taxes"])]
    common = {name: made[name] for name in ("currency", "tax_rounding", "inclusive_rounding", "tax_treatment") if name in made}
    for turn in range(3):
        for line in lines:
            left = line["amount"] - line["earlier"]
            some = Fraction(int(left * 10 ** exponent * maker.random.randrange(101) / 100), 10 ** exponent)
            line["credit"] = left if turn == 2 or maker.chance(20) else some
        note = {**common, "lines": [dict(line) for line in lines], "taxes": [dict(tax) for tax in taxes]}
        answer = rules.credit_note(note, exponent)
        yield note, answer
        for line, part in zip(lines, answer["lines"]):
            line["earlier"] += part["credit"]
            line["earlier_discount"] += part["discount"]
        for tax, part in zip(taxes, answer["taxes"]):
            tax["earlier_base"] += part["base"]
            tax["earlier_amount"] += part["amount"]


def compare_notes(comparison, session, maker, made, calculated, exponent, where):
    notes = list(notes_of(maker, made, calculated, exponent))
    for (note, want), have in zip(notes, ask(session, "credit_note_calculate", [note for note, _ in notes])):
        for name in ("subtotal", "discount", "tax", "total"):
            comparison.same(have[name], want[name], "%s, %s of a note" % (where, name))
        for n, (tax, again) in enumerate(zip(have["taxes"], want["taxes"])):
            comparison.same(tax["base"], again["base"], "%s, base of tax %d of a note" % (where, n))
            comparison.same(tax["amount"], again["amount"], "%s, tax %d of a note" % (where, n))
    total = sum((want["total"] for _, want in notes), Fraction(0))
    comparison.same(total, calculated["total"], "%s, sum of the notes" % where)


def run(count, seed):
    session, maker, comparison = Session(), Maker(seed), Comparison()
    done = 0
    while done < count:
        batch = min(BATCH, count - done)
        plans = [maker.random.choice(CURRENCIES) for _ in range(batch)]
        requests = [[make_request(maker, *plan) for _ in range(maker.random.choice((1, 1, 2, 3)))] for plan in plans]
        rated = iter(rate_all(session, [request for group in requests for request in group]))
        documents = []
        for n, (group, (currency, exponent)) in enumerate(zip(requests, plans)):
            lines = []
            for request in group:
                have = next(rated)
                want = rules.rate(exponent=exponent, **request)
                compare_lines(comparison, have, want, "document %d" % (done + n))
                lines.append(have)
            documents.append(maker.document(currency, exponent, document_lines(maker, exponent, lines)))
        for n, (made, have) in enumerate(zip(documents, ask(session, "document_calculate", documents))):
            want = rules.calculate(made, plans[n][1])
            compare_documents(comparison, have, want, "document %d" % (done + n))
            # What is taken from the unrounded line cannot be taken back by the line.
            if maker.chance(25) and made.get("tax_base") != "exact":
                compare_notes(comparison, session, maker, made, want, plans[n][1], "document %d" % (done + n))
        done += batch
    session.close()
    print("%d documents, %d values compared, %d differ (seed %d)" % (count, comparison.compared, comparison.faults, seed))
    return 0 if comparison.faults == 0 else 1


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(run(*(arguments + [10000, 20261125][len(arguments):])))
