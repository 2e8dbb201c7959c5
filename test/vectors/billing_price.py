"""Cases of prices, of usage, of minimum and maximum."""
from decimal import Decimal

from billing_case import Money, NotUnderstood, Number

OPEN = (None, "", "inf", "infinity", "unlimited", -1, Decimal(-1), "-1")


def number_or_none(value):
    return None if value in OPEN else Decimal(value)


def first(item, *names):
    for name in names:
        if item.get(name) is not None:
            return Decimal(item[name])
    return None


def tiers_of(case, item=None):
    """Tiers as our prices have them, by whatever names the source calls their members."""
    item = case.input if item is None else item
    if item.get("tiers") is None:
        raise NotUnderstood("there are no \"tiers\"")
    result = []
    for tier in item["tiers"]:
        ours = {
            "up_to": number_or_none(tier.get("up_to", tier.get("last_unit", tier.get("to")))),
            "unit_price": first(tier, "unit", "unit_price", "unit_amount", "per_unit"),
            "flat_fee": first(tier, "flat", "flat_fee", "flat_amount"),
            "rate": first(tier, "rate_pct", "rate"),
            "size": first(tier, "size", "block_size"),
            "max_blocks": number_or_none(tier.get("max_blocks", tier.get("max"))),
            "price": first(tier, "price", "block_price"),
        }
        for name, cents in (("unit_price", "unit_cents"), ("flat_fee", "flat_cents"), ("price", "price_cents")):
            if ours[name] is None and tier.get(cents) is not None:
                ours[name] = Decimal(tier[cents]) / case.minor_factor
        result.append({name: value for name, value in ours.items() if value is not None})
    # Tiers that say where they begin end where the next one does.
    starts = [tier.get("first_unit", tier.get("from")) for tier in item["tiers"]]
    if all(start is not None for start in starts) and "up_to" not in result[0]:
        for tier, start in zip(result, starts[1:]):
            tier["up_to"] = Decimal(start)
    return result


def quantity_of(case, *names):
    value = case.number(*(names or ("quantity", "units", "usage")))
    if value is None:
        raise NotUnderstood("there is no \"quantity\"")
    return value


def cost(case, price, quantity, **arguments):
    """What our rater says; the exact amount is the sum of the steps that explain it."""
    options = "".join(case.fill(", %s => $" % name, value)
                      for name, value in arguments.items() if value is not None)
    explained = "".join(case.fill(", %s => $" % name, value)
                        for name, value in arguments.items()
                        if value is not None and name != "billed_quantity")
    row = case.row_of("SELECT price_calculate($, $, $" + options + ") AS amount,"
                      " (SELECT sum(e.amount) FROM tenancy.price_explain($, $, $" + explained +
                      ") e WHERE e.rule <> 'total') AS exact",
                      price, quantity, case.currency, price, quantity, case.currency)
    return Money(row["amount"], None if "billed_quantity" in arguments else row["exact"])


def model_of(case, model=None):
    """The price that the input describes."""
    if model in ("graduated", "volume", "graduated_percentage", "block_graduated", "block_volume"):
        return {"model": model, "tiers": tiers_of(case)}
    if model == "package" or (model is None and case.has("package_size", "block_size", "divide_by")):
        price = {"model": "package", "package_size": case.number("package_size", "block_size", "divide_by", "size"),
                 "unit_price": case.need_money("price", "package_price", "unit_price")}
        if case.has("free_units", "free", "included"):
            price["included"] = case.number("free_units", "free", "included")
        if case.has("rounding", "round"):
            price["package_rounding"] = case.get("rounding", "round")
        return price
    if model == "per_unit" or (model is None and case.money("unit_price", "unit_amount") is not None):
        price = {"model": "per_unit", "unit_price": case.need_money("unit_price", "unit_amount", "price")}
        if case.has("free_units", "included"):
            price["included"] = case.number("free_units", "included")
        return price
    if case.has("tiers"):
        # Suites that test one model a file may not repeat its name in the case.
        model = case.get("model", "mode", default="graduated" if "graduated" in case.source else "volume")
        return {"model": model, "tiers": tiers_of(case)}
    raise NotUnderstood("no price is described")


def by_model(model):
    def handler(case):
        quantity = quantity_of(case, "quantity", "units", "usage", "total", "value")
        amount = cost(case, model_of(case, model), quantity)
        return {"amount": amount, "quantity": Number(quantity), "total": amount}
    return handler


def delta(model):
    """f(total) - f(billed), which is not f(total - billed)."""
    def handler(case):
        before = case.number("previous_quantity", "quantity_from", "billed_quantity", default=Decimal(0))
        to = case.number("quantity_to", "total_quantity")
        if to is None:
            to = before + quantity_of(case)
        return {"amount": cost(case, model_of(case, model), to, billed_quantity=before)}
    return handler


def several(model):
    def handler(case):
        total = Decimal(0)
        for unit in case.need("units"):
            price = {"model": model, "tiers": tiers_of(case, unit)}
            total += cost(case, price, Decimal(unit["quantity"])).amount
        return {"amount": Money(total)}
    return handler


def transactions_of(case):
    """The values of the transactions; made to fit where only sums are told."""
    if case.has("event_values", "values", "transactions"):
        return case.numbers("event_values", "values", "transactions")
    total = case.number("total", "amount", "value")
    if total is None:
        raise NotUnderstood("there are no \"event_values\" and no \"total\"")
    count = int(case.number("events", "count", default=Decimal(1)))
    free_events = int(case.number("free_events", default=Decimal(0)))
    inside = case.number("amount_inside_free")
    within = int(case.number("events_inside_free", default=Decimal(0)))
    if free_events and case.has("events_inside_free") and within < free_events:
        # The free amount ends first: some events stay within it, the next exceeds it.
        values = [Decimal(0)] * within + [total]
    elif free_events and inside is not None:
        # The free events come to so much.
        values = [inside] + [Decimal(0)] * (free_events - 1) + [total - inside]
    elif within:
        values = [Decimal(0)] * within + [total]
    else:
        values = [total]
    return values + [Decimal(0)] * (count - len(values))


def percentage(case):
    price = {"model": "percentage", "rate": case.number("rate_pct", "rate", default=Decimal(0))}
    for ours, names in (("fixed_fee", ("fixed", "fixed_amount", "fixed_fee")),
                        ("free_events", ("free_events",)),
                        ("free_amount", ("free_amount",)),
                        ("transaction_minimum", ("per_tx_min", "min", "transaction_minimum")),
                        ("transaction_maximum", ("per_tx_max", "max", "transaction_maximum"))):
        value = case.number(*names)
        if value is not None:
            price[ours] = value
    values = transactions_of(case)
    return {"amount": cost(case, price, sum(values, Decimal(0)), transactions=values)}


def graduated_percentage(case):
    price = {"model": "graduated_percentage", "tiers": tiers_of(case)}
    return {"amount": cost(case, price, quantity_of(case, "total", "value", "quantity", "amount"))}


def prorated_graduated(case):
    price = {"model": "graduated", "tiers": tiers_of(case)}
    changes = case.numbers("unit_deltas", "units", "deltas")
    return {"amount": cost(case, price, sum(changes, Decimal(0)), transactions=changes,
                           parts=case.numbers("prorated_deltas", "prorated_units"))}


def dynamic(case):
    price = {"model": "dynamic", "multiplier": case.number("multiplier", "markup", default=Decimal(1))}
    values = case.get("provider_amounts", "amounts", "event_amounts")
    value = sum(Decimal(v) for v in values) if values else case.need_money("provider_amount", "amount")
    return {"amount": cost(case, price, value)}


def quantity_rounding(case):
    rounding = {"floor": "down", "ceil": "up", "ceiling": "up", "round": "half_up", "nearest": "half_up",
                "half_even": "half_up"}.get(case.get("rounding"), case.get("rounding", default="half_up"))
    decimals = case.number("decimals", "precision", default=Decimal(0))
    quantity = case.value_of("tenancy.quantity_round($, $, $)", quantity_of(case), rounding, int(decimals))
    price = {"model": "per_unit", "unit_price": case.money("unit_price", "price", default=Decimal(0)),
             "quantity_rounding": rounding, "quantity_decimals": decimals}
    # "decimals" are those of the quantity here.
    currency = case.get("currency", default="USD")
    return {"quantity": Number(quantity),
            "amount": Money(case.value_of("price_calculate($, $, $)", price, quantity_of(case), currency))}


# Usage: through events, metrics and a tenant.

def tenant_of(case):
    if not hasattr(case.session, "metrics"):
        case.session.query("SELECT slug FROM tenant_create('vectors')")
        case.session.metrics = 0
    case.session.metrics += 1
    return "vectors", "vector.%d" % case.session.metrics


def metric(case, aggregation, carries_over=False, prop=None):
    tenant, name = tenant_of(case)
    case.session.query(case.fill("SELECT name FROM metric_create($, 'unit', $, $, NULL, $)", name, aggregation,
                                 carries_over, prop))
    return tenant, name


def record(case, tenant, name, quantity, at, properties=None):
    case.session.query(case.fill("SELECT event_id FROM usage_record($, $, $, occurred_at => $::timestamptz, properties => $)",
                                 tenant, name, quantity, at, properties or {}))


def used(case, tenant, name, start, end):
    return case.value_of("tenancy.usage_quantity($::regtenant, $, $::timestamptz, $::timestamptz)",
                         tenant, name, start, end)


def weighted_sum(case):
    start, end = case.need("period")
    tenant, name = metric(case, "weighted_sum", carries_over=True)
    initial = case.number("initial", "carried_in", default=Decimal(0))
    if initial:
        record(case, tenant, name, initial, case.value_of("$::timestamptz - interval '1 day'", start))
    for change in case.need("deltas", "events"):
        record(case, tenant, name, Decimal(change.get("delta", change.get("value"))), change["at"])
    value = used(case, tenant, name, start, end)
    return {"value": Number(value)}


def aggregation(case):
    kind = case.need("type", "aggregation")
    ours = {"unique_count": "unique", "count_unique": "unique", "count_distinct": "unique",
            "distinct": "unique", "last": "latest"}.get(kind, kind)
    field = case.get("field")
    tenant, name = metric(case, ours, prop=field if ours == "unique" else None)
    for n, event in enumerate(case.need("events")):
        at = event.get("at", event.get("timestamp", "2026-01-10T00:00:%02d+00:00" % n))
        value = Decimal(1) if ours in ("count", "unique") else Decimal(event[field])
        record(case, tenant, name, value, at, {key: str(member) for key, member in event.items()})
    start, end = case.get("period", default=("2000-01-01", "2026-02-01"))
    return {"value": Number(used(case, tenant, name, start, end))}


def tz_usage_bucket(case):
    zone = case.need("timezone", "tz")
    unit = case.get("interval", default="month")
    tenant, name = metric(case, "count")
    events = case.need("events")
    for event in events:
        record(case, tenant, name, Decimal(1), event)
    period = {"day": "daily", "week": "weekly", "month": "monthly", "quarter": "quarterly", "year": "yearly"}[unit]
    digits = {"day": 10, "week": 10, "month": 7, "quarter": 7, "year": 4}[unit]
    buckets = case.rows_of(
        "WITH first AS (SELECT date_trunc($, min(e::timestamptz AT TIME ZONE $)) AT TIME ZONE $ AS anchor,"
        "                      max(e::timestamptz) AS last FROM unnest(string_to_array($, ' ')) e)"
        " SELECT to_char(b.starts_at AT TIME ZONE $, 'YYYY-MM-DD') AS bucket,"
        "        tenancy.usage_quantity($::regtenant, $, b.starts_at, b.ends_at) AS used"
        "   FROM first, generate_series(0, 1000) n,"
        "        LATERAL tenancy.period_at(anchor, $, tenancy.period_boundary(anchor, n, $, $), $) b"
        "  WHERE b.starts_at <= last",
        unit, zone, zone, " ".join(events), zone, tenant, name, period, period, zone, zone)
    return {bucket["bucket"][:digits]: Number(bucket["used"]) for bucket in buckets}


def prorated_units(case, changes):
    """Levels that last for some days of the period: Lago rounds their sum up to 5 decimals."""
    days = case.number("days_in_period")
    value = case.number("persisted", default=Decimal(0))
    for units, active in changes:
        value += case.value_of("tenancy.prorate($, $, $)", units, active, days)
    rounding = case.get("rounding", default="up")
    decimals = int(case.number("decimals", default=Decimal(5)))
    return {"value": Number(case.value_of("tenancy.quantity_round($, $, $)", round(value, 12), rounding, decimals))}


def prorated_sum(case):
    return prorated_units(case, [(Decimal(a["value"]), Decimal(a["days_active"])) for a in case.get("added", default=[])])


def prorated_unique(case):
    return prorated_units(case, [(Decimal(1), Decimal(days)) for days in case.get("added_days_active", default=[])])


# Minimum and maximum.

def part_of(case):
    whole = case.number("days_in_period", "seconds_in_period")
    part = case.number("days_used", "seconds_used", "days_active")
    return (part, whole) if part is not None and whole is not None else (Decimal(1), Decimal(1))


def taxed(case, amount):
    if not case.has("tax_pct"):
        return Decimal(0)
    return case.document(lines=[{"amount": amount}],
                         taxes=[{"id": "tax", "percentage": case.number("tax_pct")}])["tax"]


def min_commitment(case):
    usage = case.money("usage_amount", "usage")
    if usage is None:
        charges = case.monies("charges", "usages")
        usage = sum(charges) if charges else cost(case, model_of(case), quantity_of(case)).amount
    billed = case.value_of("tenancy.money_round($, $)", usage, case.currency)
    billed += case.money("already_billed", "previously_billed", default=Decimal(0))
    part, whole = part_of(case)
    true_up = case.value_of("tenancy.commitment($, $, $, $, $)", case.need_money("minimum", "minimum_amount"),
                            billed, case.currency, part, whole)
    return {"true_up": Money(true_up), "tax": Money(taxed(case, true_up)), "usage": Money(billed),
            "total": Money(billed + true_up)}


def plan_min_commitment(case):
    part, whole = part_of(case)
    fee = case.value_of("tenancy.prorate($, $, $, $)", case.money("subscription_fee", "fee", default=Decimal(0)),
                        part, whole, case.currency)
    billed = fee + sum(case.monies("charges", "usage"))
    true_up = case.value_of("tenancy.commitment($, $, $, $, $)", case.need_money("commitment", "minimum"), billed,
                            case.currency, part, whole)
    return {"true_up": Money(true_up), "tax": Money(taxed(case, true_up)), "fee": Money(fee)}


def max_spend(case):
    price = model_of(case)
    quantity = quantity_of(case)
    before = case.number("previous_quantity")
    if before is None:
        amount = cost(case, price, quantity).amount
    else:
        amount = cost(case, price, before + quantity, billed_quantity=before).amount
    billed = case.money("previously_billed", "already_billed", default=Decimal(0))
    discounts = [{"kind": "maximum", "value": max(Decimal(0), case.need_money("maximum") - billed)}]
    if case.has("discount_pct"):
        discounts.append({"kind": "percent", "value": case.number("discount_pct")})
    result = case.document(lines=[{"amount": amount}], discounts=discounts)
    return {"amount": Money(amount), "total": Money(result["total"]),
            "max_spend_discount": Money(result["discounts"][0]["amount"]),
            "percentage_discount": Money(result["discounts"][-1]["amount"])}


def hybrid(case):
    """A base price, and beside each unit_… price the quantity whose name contains what follows."""
    usage = {}
    metrics = []
    for member in case.input:
        if not member.startswith("unit_"):
            continue
        what = member[len("unit_"):]
        fits = [name for name in case.input if what in name.replace("unit_", "") and name != member]
        if not fits:
            raise NotUnderstood("there is no quantity for \"%s\"" % member)
        usage[what] = case.number(fits[0])
        metrics.append({"name": what, "metric": what, "unit": what, "price": case.number(member)})
    pricing = {"type": "custom", "billing_period": "monthly", "currency": case.currency,
               "base_price": case.money("base", "base_price", default=Decimal(0)), "usage_metrics": metrics}
    lines = case.rows_of("SELECT amount FROM tenancy.pricing_rate($, $)", pricing, usage)
    return {"amount": Money(sum(line["amount"] for line in lines))}


HANDLERS = {
    "standard": by_model("per_unit"),
    "graduated": by_model("graduated"),
    "volume": by_model("volume"),
    "package": by_model("package"),
    "block_graduated": by_model("block_graduated"),
    "block_volume": by_model("block_volume"),
    "block_graduated_multi": several("block_graduated"),
    "block_volume_multi": several("block_volume"),
    "graduated_delta": delta("graduated"),
    "package_delta": delta("package"),
    "percentage": percentage,
    "percentage_minmax": percentage,
    "graduated_percentage": graduated_percentage,
    "prorated_graduated": prorated_graduated,
    "dynamic": dynamic,
    "quantity_rounding": quantity_rounding,
    "weighted_sum": weighted_sum,
    "aggregation": aggregation,
    "tz_usage_bucket": tz_usage_bucket,
    "prorated_sum": prorated_sum,
    "prorated_unique": prorated_unique,
    "min_commitment": min_commitment,
    "plan_min_commitment": plan_min_commitment,
    "max_spend": max_spend,
    "hybrid": hybrid,
}
