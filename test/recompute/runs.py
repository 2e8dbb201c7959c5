"""Invoices written by billing_run(), computed again from what went in.

    runs.py [INVOICES [SEED]]    # at least so many invoices; connects as the environment says

Random plans and add-ons, subscriptions with and without trials, changes, pauses, usage (some of it
late), coupons and taxes are put into the database, which is billed at random moments.  Then every invoice is made again: from the history
of the subscriptions, the rows of usage, the versions of prices, and the coupons that were given; no
row that billing wrote is looked at but to compare it.  Amounts are Fraction; times are whole
microseconds, and civil times are Python's.
"""
import random
import sys
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import rules
from invoices import Comparison
from psql import Session, document, quote

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata")
METRICS = {"r_sum": "sum", "r_max": "max", "r_count": "count", "r_value": "sum"}
EXPONENTS = {"USD": 2, "BHD": 3, "JPY": 0}
ZERO = Fraction(0)


# Time.

def instant(text):
    return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND if text not in ("infinity", None) else float("inf")


def civil(at, zone):
    return (EPOCH + at * MICROSECOND).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def from_civil(local, zone):
    """What does not exist is later by the gap; of two moments the one in standard time, the second."""
    moments = [(local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) - EPOCH) // MICROSECOND for fold in (0, 1)]
    return moments[0] if civil(moments[0], zone) != local else moments[1]


def boundary(anchor, number, period, zone):
    """The anchor and so many whole periods, clamped to the month: never from the boundary before."""
    local = civil(anchor, zone)
    if period == "weekly":
        return from_civil(local + timedelta(days=7 * number), zone)
    months = local.year * 12 + local.month - 1 + number * {"monthly": 1, "quarterly": 3, "yearly": 12}[period]
    year, month = divmod(months, 12)
    last = (datetime(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return from_civil(local.replace(year=year, month=month + 1, day=min(local.day, last)), zone)


def length(start, end, unit, zone):
    if unit == "day":
        return (civil(end, zone).date() - civil(start, zone).date()).days
    return end - start


# What goes in.

class World:
    def __init__(self, seed, tenants):
        self.random, self.session, self.tenants = random.Random(seed), Session(), tenants

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def pick(self, choices):
        return self.random.choice(choices)

    def amount(self, most, decimals):
        return Decimal(self.random.randrange(1, most * 10 ** decimals)).scaleb(-decimals)

    def tiers(self):
        return [{"up_to": 5, "unit_price": self.amount(3, 3)}, {"up_to": 40, "unit_price": self.amount(2, 4), "flat_fee": self.amount(4, 2)},
                {"unit_price": self.amount(1, 5)}]

    def charge(self, n):
        model = self.pick(("per_unit", "graduated", "volume", "package", "percentage", "flat", "seats", "seats"))
        charge = {"id": "c%d" % n, "name": "Charge %d" % n, "model": "per_unit" if model == "seats" else model}
        if model == "flat":
            return {**charge, "unit_price": self.amount(60, 2), "timing": self.pick(("advance", "arrears")), "prorate": self.chance(70)}
        if model == "seats":
            return {**charge, "unit_price": self.amount(25, 3), "per_seat": True, "timing": self.pick(("advance", "arrears"))}
        charge["metric"] = "r_value" if model == "percentage" else self.pick(("r_sum", "r_max", "r_count"))
        if model == "per_unit":
            charge.update(unit_price=self.amount(3, 5), included=self.random.randrange(10))
        elif model == "package":
            charge.update(unit_price=self.amount(9, 2), package_size=self.random.randrange(2, 20))
        elif model == "percentage":
            charge.update(rate=self.amount(6, 3), fixed_fee=self.amount(1, 2), **({"free_events": 2} if self.chance(40) else {}))
        else:
            charge["tiers"] = self.tiers()
        return charge if not self.chance(15) else {**charge, "minimum": self.amount(20, 2)}

    def pricing(self, family):
        pricing = {"type": "custom", "currency": family["currency"], "billing_period": family["period"], "proration_unit": family["unit"],
                   "base_price": self.amount(120, 2), "base_timing": self.pick(("advance", "arrears")),
                   "charges": [self.charge(n) for n in range(self.random.randrange(1, 4))]}
        if family["setup_fee"]:
            pricing["setup_fee"] = self.amount(30, 2)
        if family["trial_days"]:
            pricing.update(trial_days=family["trial_days"], trial_usage=self.pick(("billed", "free")))
        if family["minimum"]:
            pricing.update(base_timing="arrears", minimum=self.amount(200, 2))
            pricing["charges"] = [{**charge, "timing": "arrears"} if "timing" in charge else charge for charge in pricing["charges"]]
        return pricing

    def addon(self, family):
        """Its base price, its setup fee and its charges are besides those of the plan."""
        return {name: value for name, value in self.pricing({**family, "minimum": False, "trial_days": 0, "setup_fee": self.chance(40)}).items()}

    def call(self, *statements):
        """Calls that may be refused, such as a change of a time that has been billed."""
        self.session.execute(";".join("DO $do$ BEGIN PERFORM %s; EXCEPTION WHEN invalid_parameter_value OR undefined_object OR object_not_in_prerequisite_state"
                                      " OR unique_violation THEN NULL; END $do$" % statement for statement in statements) or "SELECT WHERE false")

    def set_clock(self, at):
        self.session.execute("SET tenancy.test_clock = %s" % quote(at.isoformat()))

    def set_up(self):
        session = self.session
        for name, aggregation in METRICS.items():
            self.call("metric_create(%s, 'u', %s)" % (quote(name), quote(aggregation)))
        self.call("schedule_set('billing.run', enabled => false)", "tax_rate_create('vat', 19)", "tax_rate_create('city', 2.125)",
                  "tax_rate_create('inc', 7, is_inclusive => true)")
        for n, entity in enumerate(({"tax_rates": ["vat", "city"]}, {"tax_rates": ["inc"], "tax_rounding": "invoice"}, {"tax_rates": []},
                                    {"tax_rates": ["vat"], "tax_rounding": "invoice"})):
            self.call("legal_entity_set('e%d', %s)" % (n, quote(document({"name": "Entity %d" % n, **entity}))))
        for code, coupon in {"p10": {"kind": "percent", "value": 10, "duration": "forever"},
                             "p33": {"kind": "percent", "value": Decimal("33.3"), "duration": "repeating", "duration_periods": 3},
                             "m20": {"kind": "percent", "value": 20, "duration": "forever", "metrics": ["r_sum", "r_count"]},
                             "f25": {"kind": "fixed", "value": 25, "currency": "USD"},
                             "f5": {"kind": "fixed", "value": 5, "currency": "USD", "duration": "forever"}}.items():
            self.call("coupon_create(%s, %s)" % (quote(code), quote(document(coupon))))
        self.families = []
        for n in range(12):
            family = {"currency": self.pick(("USD", "USD", "BHD", "JPY")), "period": self.pick(("monthly", "monthly", "weekly", "quarterly")),
                      "unit": self.pick(("second", "day")), "minimum": self.chance(25), "setup_fee": self.chance(30),
                      "trial_days": self.random.randrange(1, 40) if self.chance(35) else 0}
            for kind in ("plan", "addon"):
                family[kind + "s"] = ["f%d%s%d" % (n, kind[0], m) for m in range(3 if kind == "plan" else 2)]
                for plan in family[kind + "s"]:
                    pricing = self.pricing(family) if kind == "plan" else self.addon(family)
                    self.call("plan_create(%s, %s, 'custom', %s, kind => %s, family => 'f%d')" % (
                        quote(plan), quote(plan), quote(document(pricing)), quote(kind), n))
            self.families.append(family)
        clock = datetime(2024, 1, 20, tzinfo=UTC)
        self.set_clock(clock)
        self.subscribed = []
        for n in range(self.tenants):
            family = self.pick(self.families)
            start = clock + timedelta(seconds=self.random.randrange(20 * 86400))
            self.call("tenant_create('r-%d', isolation => 'pool')" % n)
            self.call("billing_account_set('r-%d', '{\"legal_entity\": \"e%d\"}')" % (n, self.random.randrange(4)),
                      "subscription_create('r-%d', %s, %s, %s, %d, options => %s)" % (
                          n, quote(self.pick(family["plans"])), quote(start.isoformat()), quote(self.pick(ZONES)), self.random.randrange(1, 6),
                          quote(document({"addons": [self.some_addon(family)]} if self.chance(20) else {}))))
            self.subscribed.append((n, family))
        return clock + timedelta(days=20)

    def some_addon(self, family):
        return {"plan": self.pick(family["addons"]), "quantity": self.random.randrange(1, 4)}

    def change(self, family):
        change = {"invoice": "next", "effective": self.pick(("now", "now", "period_end"))}
        if self.chance(30):
            addon = self.some_addon(family)
            return {**change, "addons": [{**addon, "quantity": 0} if self.chance(30) else addon]}
        change["quantity"] = self.random.randrange(1, 8)
        return {**change, "plan": self.pick(family["plans"])} if self.chance(60) else change

    def live(self, months):
        """Steps of at most 20 days: something happens to each, then all is billed."""
        clock, self.runs, self.modes = self.set_up(), [], []
        end = clock + timedelta(days=30 * months)
        while clock < end:
            step = len(self.runs)
            clock += timedelta(seconds=self.random.randrange(5 * 86400, 20 * 86400))
            self.set_clock(clock)
            calls = []
            for n, family in self.subscribed:
                subscription = "(SELECT id FROM tenancy.subscription WHERE tenant_id = 'r-%d'::regtenant)" % n
                for event in range(self.random.randrange(4)):
                    metric, back = self.pick(list(METRICS)), self.random.random() ** 3 * 50 * 86400
                    calls.append("usage_record('r-%d', %s, %s, %s, %s)" % (n, quote(metric), self.amount(60, self.pick((0, 0, 2))), quote(
                        "%d-%d" % (step, event)), quote((clock - timedelta(seconds=int(back))).isoformat())))
                if self.chance(8):
                    calls.append("subscription_update(%s, %s)" % (subscription, quote(document(self.change(family)))))
                elif self.chance(3):
                    calls.append("subscription_pause(%s, %s)" % (subscription, quote(self.pick(("service", "service", "draft", "void", "uncollectible")))))
                elif self.chance(30):
                    calls.append("subscription_resume(%s)" % subscription)
                elif self.chance(1):
                    calls.append("subscription_cancel(%s, 'random', %s)" % (subscription, self.pick(("true", "false"))))
                if self.chance(3):
                    calls.append("coupon_apply('r-%d', %s)" % (n, quote(self.pick(("p10", "p33", "m20", "f25", "f5")))))
            self.call(*calls)
            # What becomes of the invoices of a run is asked before it, and is no work of billing.
            self.modes.append({row["id"]: row["pause_mode"] for row in self.session.query(
                "SELECT id, pause_mode FROM tenancy.subscription WHERE pause_mode <> 'service'")})
            failed = self.session.value("(SELECT failed FROM billing_run(%s))" % quote(clock.isoformat()))
            if failed:
                raise SystemExit("billing failed: %s" % self.session.query("SELECT error FROM tenancy.billing_failure LIMIT 3"))
            self.runs.append((clock - EPOCH) // MICROSECOND)


# What must come out.

def exact(value):
    """A document with Fraction for numbers."""
    if isinstance(value, dict):
        return {name: exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [exact(element) for element in value]
    return Fraction(value) if isinstance(value, Decimal) else value


class Inputs:
    def __init__(self, session):
        ask = session.query
        self.prices = {(row["plan"], row["version"]): exact(row["pricing"]) for row in ask("SELECT plan, version, pricing FROM tenancy.plan_price")}
        self.entities = {row["id"]: row for row in ask("SELECT id, tax_rounding, tax_rates FROM tenancy.legal_entity")}
        self.rates = {row["id"]: {"id": row["id"], "percentage": Fraction(row["percentage"]), "inclusive": row["is_inclusive"]}
                      for row in ask("SELECT id, percentage, is_inclusive FROM tenancy.tax_rate")}
        self.accounts = {row["tenant_id"]: row for row in ask("SELECT tenant_id, legal_entity FROM tenancy.billing_account")}
        self.coupons = {row["code"]: row for row in ask("SELECT code, kind, value, currency, duration, duration_periods, plans, metrics FROM tenancy.coupon")}
        self.subscriptions = ask("SELECT id, tenant_id, currency, time_zone, starts_at, cancelled_at, ends_at FROM tenancy.subscription ORDER BY id")
        self.given, self.items, self.events = defaultdict(list), defaultdict(list), defaultdict(list)
        for row in ask("SELECT tenant_id, coupon, applied_at FROM tenancy.coupon_redemption ORDER BY applied_at, id"):
            self.given[row["tenant_id"]].append(row)
        for row in ask("SELECT subscription_id, line, is_addon, plan, price_version, quantity, starts_at, ends_at, recorded_at, superseded_at"
                       "  FROM tenancy.subscription_item ORDER BY is_addon, starts_at, recorded_at, ends_at"):
            for name in ("starts_at", "ends_at", "recorded_at", "superseded_at"):
                row[name] = instant(row[name])
            self.items[row["subscription_id"]].append(row)
        for row in ask("SELECT tenant_id, metric, quantity, event_id, occurred_at FROM tenancy.usage_event WHERE cancelled_at IS NULL ORDER BY recorded_at"):
            self.events[row["tenant_id"], row["metric"]].append(
                (instant(row["occurred_at"]), Fraction(row["quantity"]), int(row["event_id"].split("-")[0])))


class Line(dict):
    """kind, charge, amount, quantity, start, end, and whom the line belongs to."""


class Account:
    """A subscription from its first invoice to its last."""

    def __init__(self, inputs, subscription):
        self.inputs, self.zone, self.currency = inputs, subscription["time_zone"], subscription["currency"]
        self.id, self.tenant, self.starts_at = subscription["id"], subscription["tenant_id"], instant(subscription["starts_at"])
        self.cancelled_at, self.ends_at = instant(subscription["cancelled_at"]), instant(subscription["ends_at"])
        self.exponent = EXPONENTS[self.currency]
        first = min((item for item in inputs.items[self.id] if not item["is_addon"]), key=lambda item: item["recorded_at"])
        self.trial_days = self.pricing(first).get("trial_days", 0)
        # A trial is a period of its own before the anchor.
        self.anchor = from_civil(civil(self.starts_at, self.zone) + timedelta(days=int(self.trial_days)), self.zone)
        self.number, self.is_over, self.has_begun, self.looked_at = -1 if self.trial_days else 0, False, False, None
        self.billed, self.closed, self.invoices = [], [], []
        self.coupons = [{"left": Fraction(coupon["value"]) if coupon["kind"] == "fixed" and coupon["duration"] == "once" else None,
                         "periods": {"once": 1, "forever": -1}.get(coupon["duration"], coupon["duration_periods"]),
                         "applied_at": instant(given["applied_at"]), **{name: coupon[name] for name in ("kind", "value", "currency", "plans", "metrics")}}
                        for given in inputs.given[self.tenant] for coupon in [inputs.coupons[given["coupon"]]]]

    def pricing(self, item):
        return self.inputs.prices[item["plan"], item["price_version"]]

    def charges(self, item):
        return [{**charge, "prorates": charge.get("prorate", charge.get("recurring", True) and "metric" not in charge)}
                for charge in rules.charges_of(self.pricing(item))]

    def known(self, at):
        """The plan and what followed it, then each add-on."""
        return sorted((item for item in self.inputs.items[self.id] if item["recorded_at"] <= at < item["superseded_at"]),
                      key=lambda item: (item["is_addon"], item["is_addon"] and item["line"], item["starts_at"]))

    def is_trial(self, start):
        return self.trial_days and start < self.anchor

    def period(self, number):
        base = self.inputs.items[self.id][0]
        if number < 0:
            return [self.starts_at, self.anchor]
        return [boundary(self.anchor, n, self.pricing(base)["billing_period"], self.zone) for n in (number, number + 1)]

    def share(self, item, start, end, full):
        unit = self.pricing(item)["proration_unit"]
        return Fraction(length(start, end, unit, self.zone), length(*full, unit, self.zone))

    def rounded(self, amount):
        return rules.half_away(amount, self.exponent)

    def quantity(self, metric, start, end, step):
        values = [value for at, value, when in sorted(self.inputs.events[self.tenant, metric], key=lambda event: event[0])
                  if start <= at < end and when <= step]
        how = METRICS[metric]
        return (sum(values, ZERO) if how == "sum" else max(values, default=ZERO) if how == "max" else Fraction(len(values))), values

    def stretches(self, items, start, end):
        """Times of one plan at one price, whatever its seats."""
        found = []
        for item in items:
            begin, finish = max(item["starts_at"], start), min(item["ends_at"], end)
            if begin >= finish:
                continue
            last = found[-1] if found else None
            if last and last["end"] == begin and all(last["item"][name] == item[name] for name in ("line", "plan", "price_version")):
                last["end"] = finish
                last["segments"].append((item, begin, finish))
            else:
                found.append({"item": item, "start": begin, "end": finish, "segments": [(item, begin, finish)]})
        return found

    def used_up(self, items, start, end, full, step):
        """The lines of a period by stretch, as of what is known."""
        answer, begun = [], set()
        for stretch in self.stretches(items, start, end):
            lines, item = [], stretch["item"]
            # What is not prorated is due once a period: of the plan, whatever plans follow it, and of each add-on.
            whose = item["is_addon"] and item["line"]
            part = self.share(item, stretch["start"], stretch["end"], full)
            for segment, begin, finish in [] if self.is_trial(start) else stretch["segments"]:
                for charge in self.charges(segment):
                    if "metric" in charge or charge.get("timing") == "advance" or not charge.get("recurring", True) or not (charge["prorates"] or whose not in begun):
                        continue
                    quantity = Fraction(segment["quantity"]) if charge.get("per_seat") else Fraction(1)
                    cost, billed = rules.cost_of(charge, quantity)
                    amount = self.rounded(cost * (self.share(segment, begin, finish, full) if charge["prorates"] else 1))
                    if amount or billed:
                        lines.append(self.line("recurring", charge, segment, amount, billed, begin, finish))
                begun.add(whose)
            for charge in self.charges(item):
                if "metric" not in charge or self.is_trial(start) and self.pricing(item).get("trial_usage") == "free":
                    continue
                quantity, values = self.quantity(charge["metric"], stretch["start"], stretch["end"], step)
                cost, billed = rules.cost_of(charge, quantity, values if charge["model"] == "percentage" else None)
                amount = self.rounded(cost)
                if amount or billed:
                    lines.append(self.line("usage", charge, item, amount, billed, stretch["start"], stretch["end"]))
                least = ZERO if self.is_trial(start) else self.rounded(charge.get("minimum", ZERO) * part)
                if least > amount:
                    lines.append(self.line("minimum", charge, item, least - amount, Fraction(1), stretch["start"], stretch["end"]))
            least = ZERO if self.is_trial(start) else self.rounded(self.pricing(item).get("minimum", ZERO) * part)
            total = sum((line["amount"] for line in lines), ZERO)
            if least > total:
                lines.append(self.line("minimum", {"id": None}, item, least - total, Fraction(1), stretch["start"], stretch["end"]))
            answer.append((stretch, lines))
        return answer

    def line(self, kind, charge, item, amount, quantity, start, end, **more):
        return Line(kind=kind, charge=charge["id"], amount=amount, quantity=quantity, start=start, end=end, plan=item["plan"],
                    metric=charge.get("metric"), item=item["line"], version=item["price_version"], seats=item["quantity"],
                    per_seat=charge.get("per_seat", False), is_addon=item["is_addon"], **more)

    def is_same(self, line, item):
        return ((line["item"], line["plan"], line["version"]) == (item["line"], item["plan"], item["price_version"])
                and (not line["per_seat"] or line["seats"] == item["quantity"]))

    def credits(self, items, open_start):
        """What was billed in advance and is not in force."""
        for line in [line for line in self.billed if line["kind"] == "advance" and line["end"] > open_start]:
            charge = next(charge for charge in self.charges({"plan": line["plan"], "price_version": line["version"]}) if charge["id"] == line["charge"])
            unit = self.pricing({"plan": line["plan"], "price_version": line["version"]})["proration_unit"]
            if not charge["prorates"] or not length(line["start"], line["end"], unit, self.zone):
                continue
            used = sum(length(max(item["starts_at"], line["start"]), min(item["ends_at"], line["end"]), unit, self.zone)
                       for item in items if self.is_same(line, item) and max(item["starts_at"], line["start"]) < min(item["ends_at"], line["end"]))
            # What a void invoice billed was billed for nothing.
            net = ZERO if line["is_void"] else line["amount"] - line["discount"]
            credit = net - line["given_back"] - self.rounded(net * used / length(line["start"], line["end"], unit, self.zone))
            whole = any(self.is_same(line, item) and item["starts_at"] <= line["start"] and item["ends_at"] >= line["end"] for item in items)
            if credit and not (whole and not line["given_back"]):
                line["given_back"] += credit
                yield self.line("credit", charge, {"line": line["item"], "plan": line["plan"], "price_version": line["version"], "quantity": line["seats"], "is_addon": line["is_addon"]},
                                -credit, line["quantity"], None, line["end"])

    def in_advance(self, items, span):
        """What is in force in a period and was not billed for it."""
        first = {}
        if self.is_trial(span[0]):
            return
        for item in items:
            start, end = max(item["starts_at"], span[0]), min(item["ends_at"], span[1])
            if start >= end:
                continue
            whose = item["is_addon"] and item["line"]
            first.setdefault(whose, item)
            for charge in self.charges(item):
                if charge.get("timing") != "advance" or not charge.get("recurring", True):
                    continue
                quantity = Fraction(item["quantity"]) if charge.get("per_seat") else Fraction(1)
                cost, billed = rules.cost_of(charge, quantity)
                before = [line for line in self.billed if line["kind"] == "advance" and line["end"] > span[0] and line["start"] < span[1]]
                if not charge["prorates"]:
                    is_billed = any((line["is_addon"] and line["item"]) == whose for line in before)
                    gaps = [] if is_billed or item is not first[whose] else [(start, end)]
                else:
                    gaps, at = [], start
                    for line in sorted((line for line in before if line["charge"] == charge["id"] and self.is_same(line, item)), key=lambda line: line["start"]):
                        if line["start"] > at:
                            gaps.append((at, min(line["start"], end)))
                        at = max(at, line["end"])
                    if at < end:
                        gaps.append((at, end))
                for gap in gaps:
                    amount = self.rounded(cost * (self.share(item, *gap, span) if charge["prorates"] else 1))
                    if amount or billed:
                        yield self.line("advance", charge, item, amount, billed, *gap)

    def once(self, items, start, at):
        """What is due once for a plan: when it has begun, whatever becomes of its seats."""
        begun = set()
        for item in items:
            if item["starts_at"] > at or item["line"] in begun:
                continue
            begun.add(item["line"])
            for charge in self.charges(item):
                if not charge.get("recurring", True) and not any(
                        line["kind"] == "one_off" and (line["item"], line["charge"]) == (item["line"], charge["id"]) for line in self.billed):
                    moment = max(item["starts_at"], start)
                    yield self.line("one_off", charge, item, self.rounded(charge["unit_price"]), Fraction(1), moment, moment)

    def late(self, items, closed, step):
        """f(all that is known) less f(billed), of each charge of each closed period."""
        for start, end, full in closed:
            for stretch, lines in self.used_up([item for item in items], start, end, full, step):
                costs, groups = defaultdict(lambda: ZERO), {}
                for line in lines:
                    if "metric" not in line or line["metric"] is None and line["charge"] is not None:
                        continue
                    costs[line["charge"]] += line["amount"]
                metered = {charge["id"]: charge for charge in self.charges(stretch["item"]) if "metric" in charge}
                for name in [*metered, None]:
                    billed = sum((line["amount"] for line in self.billed if line["charge"] == name and line["item"] == stretch["item"]["line"] and line["start"] is not None
                                  and line["kind"] in ("usage", "minimum", "late") and stretch["start"] <= line["start"] and line["end"] <= stretch["end"]), ZERO)
                    amount = costs[name] - billed
                    if amount:
                        charge = metered.get(name, {"id": None})
                        quantity = self.quantity(charge["metric"], stretch["start"], stretch["end"], step)[0] if name else Fraction(1)
                        yield self.line("late", charge, stretch["item"], amount, quantity, stretch["start"], stretch["end"])

    def bill(self, step, at):
        items, full = self.known(at), self.period(self.number)
        if self.is_over:
            return self.bill_late(items, step, at)
        ends_at = self.ends_at if self.cancelled_at <= at else float("inf")
        start, end = full[0], min(full[1], ends_at)
        begins = [charge for item in items if item["starts_at"] <= self.starts_at for charge in self.charges(item)
                  if charge.get("timing") == "advance" or not charge.get("recurring", True)]
        if not self.has_begun and begins and start <= at:
            self.has_begun = True
            # it closes at once where its end has come, too
            if end > start:
                lines = [*self.in_advance(items, full), *self.once(items, start, start)]
                return self.issue(lines, "change", at)
        if end > at:
            return False
        lines = [line for _, part in self.used_up(items, start, end, full, step) for line in part]
        lines += [*self.credits(items, start), *self.in_advance(items, full), *self.once(items, start, end)]
        self.is_over = ends_at <= full[1]
        if not self.is_over:
            lines += self.in_advance(items, self.period(self.number + 1))
        lines += self.late(items, self.closed, step)
        self.closed.append((start, end, full))
        self.number += 1
        return self.issue(lines, "cycle", at)

    def bill_late(self, items, step, at):
        """After the end a run bills what has become known since, on an invoice of its own."""
        if self.looked_at == step:
            return False
        self.looked_at = step
        return self.issue(list(self.late(items, self.closed, step)), "late", at)

    def issue(self, lines, purpose, at):
        for line in lines:
            line.update(discount=ZERO, given_back=ZERO, is_void=False)
        self.billed += lines
        if lines:
            self.invoices.append({"lines": lines, "purpose": purpose, "at": at})
        return True

    def finish(self, invoice, order, mode):
        """Discounts, taxes and totals, of lines in the order in which the document has them; and the state."""
        entity = self.inputs.entities[self.inputs.accounts[self.tenant]["legal_entity"]]
        usable = [coupon for coupon in self.coupons if coupon["applied_at"] <= invoice["at"] and coupon["periods"] != 0
                  and coupon["currency"] in (None, self.currency)]
        made = rules.calculate({
            "lines": [{name: line[name] for name in ("amount", "plan", "metric", "charge")} for line in order],
            "taxes": [self.inputs.rates[rate] for rate in entity["tax_rates"]], "tax_rounding": entity["tax_rounding"],
            "discounts": [{"kind": coupon["kind"], "value": Fraction(coupon["value"]) if coupon["left"] is None else coupon["left"],
                           "plans": coupon["plans"], "metrics": coupon["metrics"]} for coupon in usable]}, self.exponent)
        for line, again in zip(order, made["lines"]):
            line["discount"] = again["discount"]
        made["state"] = "draft" if mode == "draft" else mode if mode and made["total"] > 0 else "open" if made["total"] > 0 else "paid"
        for line in order if made["state"] == "void" else []:
            line["is_void"] = True
        # A void invoice gives back what it used of coupons.
        for coupon, discount in zip(usable, made["discounts"]) if made["state"] != "void" else []:
            if not discount["amount"]:
                continue
            if coupon["left"] is not None:
                coupon["left"] -= discount["amount"]
            if coupon["periods"] > 0 and not coupon["left"]:
                coupon["periods"] -= 1
        return made


def key(line):
    return line["kind"], str(line["charge"]), line["end"], Fraction(line["amount"]), Fraction(line["quantity"]), line["plan"]


def compare(comparison, account, runs, modes, written):
    """Run by run, since discounts on what was billed in advance come back with its credits."""
    have = iter(written)
    for step, at in enumerate(runs):
        done = len(account.invoices)
        while account.bill(step, at):
            for invoice in account.invoices[done:]:
                row = next(have, None)
                where = "subscription %s, %s" % (account.id, row["number"] if row else "missing")
                if row is None:
                    return comparison.fault("%s: an invoice of %d lines" % (where, len(invoice["lines"])))
                lines = sorted(row["lines"], key=key)
                again = sorted(invoice["lines"], key=key)
                if [key(line) for line in lines] != [key(line) for line in again]:
                    difference = [key(line) for line in lines if key(line) not in map(key, again)], [key(line) for line in again if key(line) not in map(key, lines)]
                    return comparison.fault("%s (run %d): %s, recomputed %s" % (where, step, *difference))
                comparison.compared += 4 * len(lines)
                places = dict(zip([line["position"] for line in lines], again))
                order = [places[position] for position in sorted(places)]
                # A pause is over when the subscription has ended.
                made = account.finish(invoice, order, modes[step].get(account.id) if invoice["purpose"] != "late" else None)
                # Credit may have paid for it.
                states = row["purpose"], "open" if row["state"] == "paid" and made["total"] > 0 else row["state"]
                comparison.compared += 2
                if states != (invoice["purpose"], made["state"]):
                    comparison.fault("%s: %s, recomputed %s" % (where, states, (invoice["purpose"], made["state"])))
                for name in ("subtotal", "discount", "tax", "inclusive_tax", "total"):
                    comparison.same(row[name], made[name], "%s, %s" % (where, name))
                for line, remade in zip(sorted(lines, key=lambda line: line["position"]), made["lines"]):
                    for name in ("discount", "tax", "net"):
                        comparison.same(line[name], remade[name], "%s, %s of line %s" % (where, name, line["position"]))
            done = len(account.invoices)
    if next(have, None) is not None:
        comparison.fault("subscription %s: more invoices than recomputed" % account.id)


def run(count, seed):
    world = World(seed, max(count // 22, 10))
    world.live(18)
    inputs, comparison, written = Inputs(world.session), Comparison(), defaultdict(list)
    for row in world.session.query(
            "SELECT i.subscription_id, i.number, i.purpose, i.state, i.subtotal, i.discount, i.tax, i.inclusive_tax, i.total,"
            "       (SELECT json_agg(l) FROM (SELECT l.position, l.kind, l.charge, l.plan, l.quantity, l.amount, l.discount, l.tax, l.net,"
            "           (extract(epoch FROM l.period_end) * 1000000)::bigint AS end FROM tenancy.invoice_line l WHERE l.invoice_id = i.id) l) AS lines"
            "  FROM tenancy.invoice i ORDER BY i.id"):
        written[row["subscription_id"]].append(row)
    for subscription in inputs.subscriptions:
        compare(comparison, Account(inputs, subscription), world.runs, world.modes, written[subscription["id"]])
    states = world.session.value("(SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM tenancy.invoice GROUP BY state) s)")
    paused, addons, trials = (world.session.value("(SELECT count(DISTINCT %s) FROM tenancy.%s)" % counted) for counted in (
        ("subscription_id", "subscription_item WHERE reason IN ('paused', 'resumed')"), ("line", "subscription_item WHERE is_addon"),
        ("id", "subscription WHERE trial_ends_at IS NOT NULL")))
    kinds = world.session.value("(SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM tenancy.invoice_line)")
    world.session.close()
    print("%d invoices (%s) with lines of %s, %s trials, %s add-ons, %s pauses of the service, %d values compared, %d differ (seed %d)" % (
        sum(map(len, written.values())), states, kinds, trials, addons, paused, comparison.compared, comparison.faults, seed))
    return 0 if comparison.faults == 0 else 1


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(run(*(arguments + [10000, 20261125][len(arguments):])))
