"""A case: reading its input, and comparing what we compute with what it expects."""
import re
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Decimal

MINOR = re.compile(r"(^|_)(cents|minor)$")
# A quotient is printed with some decimals; fewer than these are taken for exact.
FEWEST_DECIMALS_OF_A_QUOTIENT = 3


class NotUnderstood(Exception):
    """The input lacks what the kind needs."""


class Money:
    """An amount in units; "exact" before it was rounded, where a source shows that."""

    def __init__(self, amount, exact=None, of_either_sign=False):
        self.amount = Decimal(amount)
        self.exact = exact
        self.of_either_sign = of_either_sign

    def agrees(self, text, case, in_minor):
        want = Decimal(text) / (case.minor_factor if in_minor else 1)
        have = [self.amount]
        # A source that names no currency may show what it has not rounded yet.
        if self.exact is not None and not case.has("currency"):
            have.append(self.exact)
        if self.of_either_sign:
            return abs(want) in [abs(value) for value in have]
        return want in have

    def __str__(self):
        return str(self.amount)


class Number:
    """A quantity, a factor, a count."""

    def __init__(self, value):
        self.value = Decimal(value)

    def agrees(self, text, case, in_minor):
        want = Decimal(text)
        decimals = -want.as_tuple().exponent
        if decimals < FEWEST_DECIMALS_OF_A_QUOTIENT:
            return self.value == want
        return self.value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) == want

    def __str__(self):
        return str(self.value)


class Moment:
    """An instant, compared as such, or by its civil date where that is all that is expected."""

    def __init__(self, instant, civil):
        self.instant = instant
        self.civil = civil

    def agrees(self, text, case, in_minor):
        if len(text) == len("2026-01-31"):
            return self.civil[:10] == text
        return parse_instant(self.instant) == parse_instant(text)

    def __str__(self):
        return self.instant


def parse_instant(text):
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def is_in_minor(value):
    """Does a member anywhere in the input name minor units?"""
    if isinstance(value, dict):
        return any(MINOR.search(key) or is_in_minor(member) for key, member in value.items())
    return isinstance(value, list) and any(is_in_minor(element) for element in value)


class Case:
    def __init__(self, session, description):
        self.session = session
        self.id = description["id"]
        self.source = description.get("source", "").lower()
        self.input = description["input"]
        self.currency = self.input.get("currency") or self._currency_of(self.input.get("decimals"))
        self.minor_factor = self.value_of("tenancy.money_to_minor(1, $)", self.currency)
        self.is_in_minor = is_in_minor(self.input)

    @staticmethod
    def _currency_of(decimals):
        if decimals is None:
            return "USD"
        return {0: "JPY", 2: "USD", 3: "BHD", 4: "CLF"}.get(int(decimals), "USD")

    # The input.

    def has(self, *names):
        return any(self.input.get(name) is not None for name in names)

    def get(self, *names, default=None):
        for name in names:
            if self.input.get(name) is not None:
                return self.input[name]
        return default

    def need(self, *names):
        value = self.get(*names)
        if value is None:
            raise NotUnderstood("there is no \"%s\"" % names[0])
        return value

    def number(self, *names, default=None):
        value = self.get(*names)
        return default if value is None else Decimal(value)

    def numbers(self, *names):
        return [Decimal(value) for value in self.need(*names)]

    def money(self, *names, default=None):
        """An amount in units, under any of the names, be it in minor units."""
        for name in names:
            if self.input.get(name) is not None:
                value = Decimal(self.input[name])
                return value / self.minor_factor if MINOR.search(name) else value
            for suffix in ("_cents", "_minor"):
                if self.input.get(name + suffix) is not None:
                    return Decimal(self.input[name + suffix]) / self.minor_factor
        return default

    def need_money(self, *names):
        value = self.money(*names)
        if value is None:
            raise NotUnderstood("there is no \"%s\"" % names[0])
        return value

    def monies(self, *names):
        """A list of amounts, or one amount alone; nothing where there is none."""
        for name in names:
            for suffix, factor in (("", 1), ("_cents", self.minor_factor), ("_minor", self.minor_factor)):
                value = self.input.get(name + suffix)
                if value is not None:
                    values = value if isinstance(value, list) else [value]
                    return [Decimal(element) / factor for element in values]
        return []

    def amount_in(self, item, *names):
        """The same of a member of the input that is an object; None where there is none."""
        for name in names:
            for suffix, factor in (("", 1), ("_cents", self.minor_factor)):
                if item.get(name + suffix) is not None:
                    divisor = self.minor_factor if MINOR.search(name) else factor
                    return Decimal(item[name + suffix]) / divisor
        return None

    # The database.

    def fill(self, sql, *arguments):
        """Put literals for each $."""
        from psql import literal
        parts = sql.split("$")
        assert len(parts) == len(arguments) + 1, sql
        return "".join(part + literal(value) for part, value in zip(parts, arguments)) + parts[-1]

    def value_of(self, expression, *arguments):
        return self.session.value(self.fill(expression, *arguments))

    def row_of(self, sql, *arguments):
        return self.session.row(self.fill(sql, *arguments))

    def rows_of(self, sql, *arguments):
        return self.session.query(self.fill(sql, *arguments))

    def document(self, **members):
        members.setdefault("currency", self.currency)
        return self.value_of("tenancy.document_calculate($)", members)


def disagreements(computed, expected, case, path=""):
    """Where what is expected is not what was computed."""
    if isinstance(expected, dict):
        faults = []
        for key, want in expected.items():
            name = key if isinstance(computed, dict) and key in computed else MINOR.sub("", key)
            if not isinstance(computed, dict) or name not in computed:
                faults.append("%s%s: nothing computed" % (path, key))
            else:
                in_minor = bool(MINOR.search(key)) or case.is_in_minor
                faults += compare(computed[name], want, case, path + key, in_minor)
        return faults
    return compare(computed, expected, case, path, case.is_in_minor)


def compare(computed, want, case, path, in_minor):
    if isinstance(want, dict):
        return disagreements(computed, want, case, path + ".")
    if isinstance(want, list):
        if not isinstance(computed, list) or len(computed) != len(want):
            return ["%s: %s elements expected" % (path, len(want))]
        return [fault for n, (have, element) in enumerate(zip(computed, want))
                for fault in compare(have, element, case, "%s[%d]" % (path, n), in_minor)]
    if hasattr(computed, "agrees"):
        agrees = computed.agrees(str(want), case, in_minor)
    else:
        agrees = str(computed) == str(want)
    return [] if agrees else ["%s: %s, expected %s" % (path, computed, want)]
