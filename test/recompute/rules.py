"""What invoices come to, by the rules and in exact fractions.

Written from the documentation of prices and documents, not from the extension's code, so that two
who err would have to err alike.  Amounts and quantities are Fraction; nothing is a float.
"""
from fractions import Fraction
from math import ceil, floor

ZERO = Fraction(0)


def half_away(value, decimals):
    """Rounded half away from zero."""
    units = floor(abs(value) * 10 ** decimals + Fraction(1, 2))
    return Fraction(units if value >= 0 else -units, 10 ** decimals)


def largest_remainder(exact, total, decimals):
    """Amounts cut down to units; what is missing to the total goes to those that lost most."""
    units = [floor(value * 10 ** decimals) for value in exact]
    missing = int(total * 10 ** decimals) - sum(units)
    lost = sorted(range(len(exact)), key=lambda n: (units[n] - exact[n] * 10 ** decimals, n))
    for n in lost[:missing]:
        units[n] += 1
    return [Fraction(unit, 10 ** decimals) for unit in units]


def spread(amount, weights, decimals):
    """An amount over weights; all zero count as equal.  Signs are put aside."""
    if not weights:
        return []
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    shares = largest_remainder([abs(amount) * weight / whole for weight in weights], abs(amount), decimals)
    return [-share if amount < 0 else share for share in shares]


# Prices.

def tier_costs(tiers, price, quantity):
    """Graduated: the units in each tier at its price, and the fee of each tier that is entered."""
    cost, lower = ZERO, ZERO
    for n, tier in enumerate(tiers):
        upper = tier.get("up_to")
        if n > 0 and quantity <= lower:
            break
        within = (quantity if upper is None else min(quantity, upper)) - lower
        cost += tier.get("flat_fee", ZERO) + max(within, ZERO) * tier.get(price, ZERO)
        lower = upper
    return cost


def tier_of(tiers, quantity):
    return next(tier for tier in tiers if tier.get("up_to") is None or quantity <= tier["up_to"])


def blocks(tiers, quantity, everything_in_last):
    """Started blocks, tier by tier; or all of them in the last tier that is reached."""
    rest, cost = quantity, ZERO
    for n, tier in enumerate(tiers):
        started = ceil(rest / tier["size"])
        most = tier.get("max_blocks")
        fits = most is None or started <= most
        if everything_in_last and (fits or n == len(tiers) - 1):
            return ceil(quantity / tier["size"]) * tier["price"]
        if not everything_in_last:
            cost += (started if fits else most) * tier["price"]
            if fits:
                return cost
        rest -= most * tier["size"]
    return cost


def transactions(price, values):
    """A rate of each value and a fee, after what is free, between a least and a most."""
    events, amount = price.get("free_events"), price.get("free_amount")
    is_over = events is None and amount is None
    cost = ZERO
    for value in values:
        if events == 0:
            is_over = True
        costs = value
        if not is_over:
            if amount is None or value <= amount:
                if events is not None:
                    events -= 1
                if amount is not None:
                    amount -= value
                continue
            costs, is_over = value - amount, True
        fee = costs * price["rate"] / 100
        if value >= 0:
            fee += price.get("fixed_fee", ZERO)
            fee = max(fee, price.get("transaction_minimum", fee))
            fee = min(fee, price.get("transaction_maximum", fee))
        cost += fee
    return max(cost, ZERO)


def slope_sum(pieces, level):
    """The integral of a step function from 0 to a level: pieces are (upper bound, height)."""
    total, lower = ZERO, ZERO
    if level < 0:
        return level * pieces[0][1]
    for upper, height in pieces:
        until = level if upper is None else min(level, upper)
        if until > lower:
            total += (until - lower) * height
        if upper is None or level <= upper:
            break
        lower = upper
    return total


def levels(price, values, parts):
    """
    Levels that last for a part of the period.  Each change is priced by the tiers between the level
    before and after it, scaled to its part; below zero the first tier goes on.
    """
    free = price.get("included", ZERO)
    tiers = price.get("tiers", [{"unit_price": price.get("unit_price")}])
    bounds = [None if tier.get("up_to") is None else tier["up_to"] + free for tier in tiers]
    heights = [tier.get("unit_price", ZERO) for tier in tiers]
    pieces = list(zip(bounds, heights))
    counted = [(None, Fraction(1))]
    if "included" in price:
        pieces = [(free, ZERO)] + pieces
        counted = [(free, ZERO)] + counted
    level, cost, units, top = ZERO, ZERO, ZERO, 0
    for value, part in zip(values, parts):
        if value == 0:
            continue
        after = level + value
        cost += part * (slope_sum(pieces, after) - slope_sum(pieces, level)) / value
        units += part * (slope_sum(counted, after) - slope_sum(counted, level)) / value
        for n in range(1, len(tiers)):
            if max(level, after) > tiers[n - 1]["up_to"] + free:
                top = max(top, n)
        level = after
    if price["model"] == "volume":
        tier = tier_of(tiers, level - free)
        cost = units * tier.get("unit_price", ZERO) + tier.get("flat_fee", ZERO)
    elif price["model"] == "graduated":
        cost += sum((tier.get("flat_fee", ZERO) for tier in tiers[:top + 1]), ZERO)
    return max(cost, ZERO), max(units, ZERO)


def rounded_quantity(price, quantity):
    how, decimals = price.get("quantity_rounding"), price.get("quantity_decimals", 0)
    if how is None:
        return quantity
    if how == "half_up":
        return half_away(quantity, decimals)
    scaled = quantity * 10 ** decimals
    return Fraction(ceil(scaled) if how == "up" else floor(scaled), 10 ** decimals)


def cost_of(price, quantity, values=None, parts=None):
    """The exact cost of a quantity, and the quantity that is billed."""
    if parts is not None:
        return levels(price, values, parts)
    quantity = max(quantity - price.get("included", ZERO), ZERO)
    quantity = rounded_quantity(price, quantity)
    model = price["model"]
    if model == "flat":
        return price["unit_price"], quantity
    if model == "per_unit":
        return quantity * price["unit_price"], quantity
    if model == "graduated":
        return tier_costs(price["tiers"], "unit_price", quantity), quantity
    if model == "graduated_percentage":
        tiers = [{**tier, "share": tier.get("rate", ZERO) / 100} for tier in price["tiers"]]
        return tier_costs(tiers, "share", quantity), quantity
    if model == "volume":
        tier = tier_of(price["tiers"], quantity)
        return quantity * tier.get("unit_price", ZERO) + tier.get("flat_fee", ZERO), quantity
    if model == "package":
        packages = quantity / price["package_size"]
        whole = floor(packages) if price.get("package_rounding") == "down" else ceil(packages)
        return whole * price["unit_price"], quantity
    if model == "percentage":
        return transactions(price, [quantity] if values is None else values), quantity
    if model == "block_graduated":
        return blocks(price["tiers"], quantity, False), quantity
    if model == "block_volume":
        return blocks(price["tiers"], quantity, True), quantity
    assert model == "dynamic", model
    return quantity * price.get("multiplier", Fraction(1)), quantity


# Pricing.

def charges_of(pricing):
    """The charges of a document, those that its shorthands stand for included, in order."""
    in_advance = pricing.get("base_timing") == "advance"
    charges = []
    for name, recurs in (("base_price", True), ("setup_fee", False)):
        if pricing.get(name):
            charges.append({"id": "base" if recurs else name, "model": "flat", "unit_price": pricing[name],
                            "recurring": recurs, "timing": "advance" if in_advance else "arrears"})
    for usage in pricing.get("usage_metrics", []):
        charge = {"id": usage["name"], "model": "per_unit", "unit_price": usage["price"], "metric": usage["metric"]}
        charge.update({name: usage[name] for name in ("included", "limit") if name in usage})
        charges.append(charge)
    if pricing.get("tiers"):
        charges.append({"id": "tiers", "model": "graduated", "metric": pricing["metric"], "tiers": pricing["tiers"]})
    return charges + pricing.get("charges", [])


def rate(pricing, usage, limits, seats, part, whole, is_first, exponent):
    """The lines of a period: (charge, kind, amount, quantity)."""
    lines = []
    for charge in charges_of(pricing):
        recurs = charge.get("recurring", True)
        if not recurs and not is_first:
            continue
        is_metered = "metric" in charge
        prorates = charge.get("prorate", recurs and not is_metered)
        quantity, values, parts, billed = Fraction(1), None, None, None
        if is_metered:
            used = usage.get(charge["metric"], ZERO)
            if isinstance(used, dict):
                quantity, values, billed = used.get("quantity", ZERO), used.get("values"), used.get("billed")
                parts = used.get("parts") if prorates else None
            else:
                quantity = used
        elif charge.get("per_seat"):
            quantity = seats
        price = dict(charge)
        if "limit" in charge:
            limit = limits[charge["limit"]]
            price["included"] = limit
        if "limit" in charge and limits[charge["limit"]] < 0:
            exact, quantity = ZERO, ZERO
        else:
            exact, quantity = cost_of(price, quantity, values, parts)
        share = Fraction(part, whole) if prorates and parts is None else Fraction(1)
        amount = half_away(exact * share, exponent)
        minimum = half_away(charge.get("minimum", ZERO) * part / whole, exponent)
        if billed is not None:
            amount = max(amount, minimum) - billed
            if amount:
                lines.append((charge["id"], "charge", amount, quantity))
            continue
        if amount or quantity:
            lines.append((charge["id"], "charge", amount, quantity))
        if minimum > amount:
            lines.append((charge["id"], "minimum", minimum - amount, Fraction(1)))
    if "minimum" in pricing:
        committed = half_away(pricing["minimum"] * part / whole, exponent)
        billed = sum((line[2] for line in lines), ZERO)
        if committed > billed:
            lines.append((None, "minimum", committed - billed, Fraction(1)))
    return lines


# Documents.

def fits(discount, line):
    return (line["amount"] > 0 and discount.get("subscription") in (None, line.get("subscription"))
            and discount.get("charge") in (None, line.get("charge"))
            and (not discount.get("metrics") or line.get("metric") in discount["metrics"])
            and (not discount.get("plans") or line.get("plan") in discount["plans"]))


def precedence(discount):
    """Percentages, maximum spend, fixed amounts; within each the narrowest scope first."""
    kind = ("percent", "maximum", "fixed").index(discount["kind"])
    if discount.get("metrics") or discount.get("charge") is not None:
        return kind, 0
    return kind, 1 if discount.get("plans") or discount.get("subscription") is not None else 2


def discounted(document, lines, exponent):
    """Take each discount of what the ones before have left; its amount and the shares of lines."""
    answers = [None] * len(document.get("discounts", []))
    for n in sorted(range(len(answers)), key=lambda n: precedence(document["discounts"][n])):
        discount = document["discounts"][n]
        left = [line["amount"] - line["discount"] if fits(discount, line) else ZERO for line in lines]
        base, value = sum(left), discount["value"]
        if discount.get("per_line"):
            shares = [half_away(amount * value / 100, exponent) for amount in left]
        else:
            if discount["kind"] == "percent":
                amount = half_away(base * value / 100, exponent)
            else:
                amount = base - value if discount["kind"] == "maximum" else value
            shares = spread(min(max(amount, ZERO), base), left, exponent)
        for line, share in zip(lines, shares):
            line["discount"] += share
        answers[n] = {"base": base, "amount": sum(shares), "shares": shares}
    return answers


def line_taxes(document, line, taxes, exponent):
    """The taxes of a line, rounded where taxes are rounded by the line, and their bases."""
    by_line = document.get("tax_rounding", "line") == "line"
    rate = (lambda tax: ZERO) if document.get("tax_treatment", "taxed") != "taxed" else (lambda tax: tax["percentage"])
    rounded = (lambda value: half_away(value, exponent)) if by_line else (lambda value: value)
    start = line["exact"] if document.get("tax_base") == "exact" else line["amount"]
    gross = start - line["discount"]
    within = [rate(tax) if tax.get("inclusive") else ZERO for tax in taxes]
    whole = 100 + sum(within)
    amounts = [rounded(gross * share / whole) for share in within]
    if sum(within) and by_line and document.get("inclusive_rounding") == "net":
        amounts = spread(gross - half_away(gross * 100 / whole, exponent), within, exponent)
    net = gross - sum(amounts)
    growing = net
    for n, tax in enumerate(taxes):
        if not tax.get("inclusive"):
            amounts[n] = rounded((growing if tax.get("compound") else net) * rate(tax) / 100)
            growing += amounts[n]
    return amounts


def base_of(taxes, line, n):
    """What a rate is taken of: the net amount, and for a compound one the taxes before it on top."""
    before = line["bears"][:line["bears"].index(n)] if taxes[n].get("compound") and not taxes[n].get("inclusive") else []
    return line["net"] + sum((line["amounts"][line["bears"].index(m)] for m in before if not taxes[m].get("inclusive")),
                             ZERO)


def calculate(document, exponent):
    """A document from its lines to what is due."""
    taxes = document.get("taxes", [])
    lines = [{**line, "exact": line["amount"], "amount": half_away(line["amount"], exponent), "discount": ZERO,
              "bears": [n for n, tax in enumerate(taxes) if tax["id"] in line.get("taxes", [tax["id"]])]}
             for line in document["lines"]]
    # A line bears its taxes in the order in which it names them.
    for line, given in zip(lines, document["lines"]):
        if "taxes" in given:
            line["bears"] = [next(n for n, tax in enumerate(taxes) if tax["id"] == name) for name in given["taxes"]]
    discounts = discounted(document, lines, exponent)
    for line in lines:
        line["amounts"] = line_taxes(document, line, [taxes[n] for n in line["bears"]], exponent)
    if document.get("tax_rounding") == "invoice":
        for n in range(len(taxes)):
            places = [(line, line["bears"].index(n)) for line in lines if n in line["bears"]]
            exact = [line["amounts"][place] for line, place in places]
            shares = largest_remainder(exact, half_away(sum(exact, ZERO), exponent), exponent)
            for (line, place), share in zip(places, shares):
                line["amounts"][place] = share
    for line in lines:
        inside = sum((amount for n, amount in zip(line["bears"], line["amounts"]) if taxes[n].get("inclusive")), ZERO)
        line["tax"] = sum(line["amounts"], ZERO) - inside
        line["net"] = line["amount"] - line["discount"] - inside
        line["total"] = line["amount"] - line["discount"] + line["tax"]
    totals = [{"amount": sum((line["amounts"][line["bears"].index(n)] for line in lines if n in line["bears"]), ZERO),
               "base": sum((base_of(taxes, line, n) for line in lines if n in line["bears"]), ZERO)}
              for n in range(len(taxes))]
    subtotal = sum((line["amount"] for line in lines), ZERO)
    discount = sum((line["discount"] for line in lines), ZERO)
    tax = sum((line["tax"] for line in lines), ZERO)
    due, used = subtotal - discount + tax, []
    total = due
    for credit in document.get("credits", []):
        used.append(max(min(credit["available"], due), ZERO))
        due -= used[-1]
    return {"lines": lines, "discounts": discounts, "taxes": totals, "credits": used, "subtotal": subtotal,
            "discount": discount, "tax": tax, "total": total, "credited": sum(used, ZERO), "due": due,
            "inclusive_tax": sum((amount["amount"] for tax, amount in zip(taxes, totals) if tax.get("inclusive")), ZERO)}


def credit_note(note, exponent):
    """A note over parts of lines; who credits the rest of a line or a rate takes all that is left."""
    lines = []
    for line in note["lines"]:
        is_rest = line["credit"] == line["amount"] - line["earlier"]
        left = line["discount"] - line["earlier_discount"]
        share = half_away(line["discount"] * line["credit"] / line["amount"], exponent) if line["amount"] else ZERO
        discount = ZERO if line["credit"] == 0 else left if is_rest else min(share, left)
        lines.append({"credit": line["credit"], "discount": discount, "net": line["credit"] - discount})
    document = {name: note[name] for name in ("tax_rounding", "inclusive_rounding", "tax_treatment", "taxes") if name in note}
    document["lines"] = [{"amount": line["net"], **({"taxes": given["taxes"]} if "taxes" in given else {})}
                         for line, given in zip(lines, note["lines"])]
    calculated = calculate(document, exponent)
    taxes, on_top = [], ZERO
    for n, tax in enumerate(note["taxes"]):
        is_rest = all(line["earlier"] + line["credit"] == line["amount"] for line in note["lines"]
                      if tax["id"] in line.get("taxes", [tax["id"]]))
        answer = {}
        for name in ("base", "amount"):
            left = tax[name] - tax["earlier_" + name]
            answer[name] = left if is_rest else min(calculated["taxes"][n][name], left)
        taxes.append(answer)
        if not tax.get("inclusive"):
            on_top += answer["amount"]
    subtotal = sum((line["credit"] for line in lines), ZERO)
    discount = sum((line["discount"] for line in lines), ZERO)
    return {"lines": lines, "taxes": taxes, "subtotal": subtotal, "discount": discount, "tax": on_top,
            "total": subtotal - discount + on_top}
