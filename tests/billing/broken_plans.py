"""Plans that are wrong in one way each, and where: `BROKEN` is a table of name, plan, and the reason by path."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from billing.modifiers import Bounds, Commitment, Discount
from billing.period import Interval
from billing.plan import Entitlement, InCurrency, Plan, PlanItem
from billing.pricing import (
    Capacity,
    Cell,
    CostPlus,
    Flat,
    Formula,
    Graduated,
    GraduatedPercentage,
    Grouped,
    Matrix,
    OneTime,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Price,
    Quantity,
    Stair,
    Stairstep,
    Tier,
    Volume,
)
from billing.quantity import Conversion


def number(written: int | str) -> Decimal:
    return Decimal(written)


ONE, BELOW, NAN, ENDLESS = number(1), number(-1), number("NaN"), number("Infinity")
BASE = PlanItem("base", "Base", Flat(number(10)))
CALLS = PlanItem("calls", "Calls", PerUnit(number("0.01")), "meter", "calls")
SEATS = PlanItem("seat", "Seat", PerUnit(number(20)), "seats")
TRAFFIC = replace(CALLS, key="traffic", meter="traffic", price=Matrix(("region",), (), ONE))
GOOD = Plan("pro", 1, "Pro", "EUR", (BASE, CALLS, SEATS, TRAFFIC))


def with_items(*items: PlanItem) -> Plan:
    return replace(GOOD, items=items)


def priced(price: Price, meter: str | None = None) -> Plan:
    """A plan of one item with that price, on a meter if one is named."""
    return with_items(PlanItem("it", "It", price, "meter" if meter else "fixed", meter))


def tiers(*bounds: int | str | None) -> tuple[Tier, ...]:
    return tuple(Tier(None if bound is None else number(bound), ONE) for bound in bounds)


def formula(text: str, *quantities: Quantity) -> Plan:
    return priced(Formula(text, quantities), "calls")


NEGATIVE, ABOVE_ZERO = "negative", "above zero"

OF_THE_PLAN: dict[str, tuple[Plan, dict[str, str]]] = {
    "too many discounts": (
        replace(GOOD, discounts=(Discount("percent", ONE),) * 101),
        {"discounts": "are 101; at most 100"},
    ),
    "unknown currency": (replace(GOOD, currency="ZZZ"), {"currency": "is not an ISO 4217 currency"}),
    "no interval": (replace(GOOD, interval=Interval("month", 0)), {"interval.count": "at least 1"}),
    "unknown product": (replace(GOOD, product="gone"), {"product": "no product 'gone'"}),
    "no items": (with_items(), {"items": "at least one"}),
    "empty key": (with_items(replace(BASE, key="")), {"items.0.key": "must not be empty"}),
    "key with a colon": (with_items(replace(BASE, key="a:b")), {"items.0.key": "':'"}),
    "key with a slash": (with_items(replace(BASE, key="a/b")), {"items.0.key": "'/'"}),
    "key twice": (with_items(BASE, BASE), {"items.0.key": "more than once", "items.1.key": "more than once"}),
    "discount on no item": (
        replace(GOOD, discounts=(Discount("percent", ONE, on=("base", "gone")),)),
        {"discounts.0.on": "no item 'gone'"},
    ),
    "units off at a plan": (replace(GOOD, discounts=(Discount("units", ONE),)), {"discounts.0.kind": "at a price"}),
    "plan minimum below zero": (replace(GOOD, bounds=Bounds(BELOW)), {"bounds.minimum": NEGATIVE}),
    "plan maximum below minimum": (
        replace(GOOD, bounds=Bounds(number(2), ONE)),
        {"bounds.maximum": "below the minimum, 2"},
    ),
    "invoice maximum that is no number": (
        replace(GOOD, invoice_bounds=Bounds(maximum=NAN)),
        {"invoice_bounds.maximum": "must be a number"},
    ),
    "commitment of an invoice": (
        replace(GOOD, invoice_bounds=Bounds(commitment=Commitment(ONE))),
        {"invoice_bounds.commitment": "a price or to the plan"},
    ),
    "bounds of an add-on": (
        replace(GOOD, kind="add_on", bounds=Bounds(ONE), invoice_bounds=Bounds(ONE)),
        {"bounds": "belong to a plan", "invoice_bounds": "belong to a plan"},
    ),
    "unknown feature": (
        replace(GOOD, entitlements=(Entitlement("gone"),)),
        {"entitlements.0.feature": "no feature 'gone'"},
    ),
    "feature twice": (
        replace(GOOD, entitlements=(Entitlement("sso"), Entitlement("sso"))),
        {"entitlements.0.feature": "more than once", "entitlements.1.feature": "more than once"},
    ),
    "limit without a number": (
        replace(GOOD, entitlements=(Entitlement("projects"),)),
        {"entitlements.0.limit": "is needed"},
    ),
    "limit below zero": (
        replace(GOOD, entitlements=(Entitlement("projects", limit=BELOW),)),
        {"entitlements.0.limit": NEGATIVE},
    ),
    "switch with a limit": (
        replace(GOOD, entitlements=(Entitlement("sso", limit=ONE),)),
        {"entitlements.0.limit": "does not belong here: the feature is a switch"},
    ),
    "value without one": (
        replace(GOOD, entitlements=(Entitlement("support"),)),
        {"entitlements.0.value": "is needed: the feature is a value"},
    ),
}

EURO = with_items(BASE, CALLS)


def also_in(other: InCurrency) -> Plan:
    return replace(EURO, in_currencies=(other,))


OF_CURRENCIES: dict[str, tuple[Plan, dict[str, str]]] = {
    "further currency unknown": (
        also_in(InCurrency("ZZZ", EURO.items)),
        {"in_currencies.0.currency": "not an ISO 4217 currency"},
    ),
    "the currency again": (
        also_in(InCurrency("EUR", EURO.items)),
        {"in_currencies.0.currency": "has prices in EUR already"},
    ),
    "a further currency twice": (
        replace(EURO, in_currencies=(InCurrency("USD", EURO.items), InCurrency("USD", EURO.items))),
        {"in_currencies.0.currency": "USD already", "in_currencies.1.currency": "USD already"},
    ),
    "an item is missing there": (
        also_in(InCurrency("USD", (BASE,))),
        {"in_currencies.0.items": "these differ: calls"},
    ),
    "another item there": (
        also_in(InCurrency("USD", (*EURO.items, SEATS))),
        {"in_currencies.0.items": "these differ: seat"},
    ),
    "another meter there": (
        also_in(InCurrency("USD", (BASE, replace(CALLS, meter="cost")))),
        {"in_currencies.0.items": "these differ: calls"},
    ),
    "billed otherwise there": (
        also_in(InCurrency("USD", (replace(BASE, in_advance=False), CALLS))),
        {"in_currencies.0.items": "these differ: base"},
    ),
    "a wrong price there": (
        also_in(InCurrency("USD", (replace(BASE, price=Flat(BELOW)), CALLS))),
        {"in_currencies.0.items.0.price.amount": NEGATIVE},
    ),
    "a wrong bound there": (
        also_in(InCurrency("USD", EURO.items, Bounds(BELOW))),
        {"in_currencies.0.bounds.minimum": NEGATIVE},
    ),
    "a discount on no item there": (
        also_in(InCurrency("USD", EURO.items, discounts=(Discount("amount", ONE, on=("gone",)),))),
        {"in_currencies.0.discounts.0.on": "no item 'gone'"},
    ),
    "bounds of an add-on there": (
        replace(also_in(InCurrency("USD", EURO.items, Bounds(ONE))), kind="add_on"),
        {"in_currencies.0.bounds": "belong to a plan"},
    ),
}

OF_ITEMS: dict[str, tuple[Plan, dict[str, str]]] = {
    "unknown meter": (with_items(replace(CALLS, meter="gone")), {"items.0.meter": "no meter 'gone'"}),
    "basis meter without a meter": (with_items(replace(CALLS, meter=None)), {"items.0.meter": "goes with basis"}),
    "a meter with another basis": (with_items(replace(BASE, meter="calls")), {"items.0.meter": "goes with basis"}),
    "matrix without a meter": (priced(Matrix(("region",), (), ONE)), {"items.0.basis": "needs a meter"}),
    "dimension that the meter does not keep": (
        priced(Matrix(("region",), (), ONE), "calls"),
        {"items.0.price.by": "does not keep"},
    ),
    "group that the meter does not keep": (
        priced(Grouped("user", Graduated(tiers(None))), "traffic"),
        {"items.0.price.by": "does not keep 'user'"},
    ),
    "fee per transaction of a meter that adds up": (
        priced(Percentage(ONE, fixed_fee=ONE), "cost"),
        {"items.0.meter": "make it `per_event`"},
    ),
    "formula over an unknown meter": (
        formula("quantity + x", Quantity("x", "gone")),
        {"items.0.price.quantities.0.meter": "no meter 'gone'"},
    ),
    "unknown product of an item": (with_items(replace(BASE, product="gone")), {"items.0.product": "no product"}),
    "peak seats in advance": (with_items(replace(SEATS, seats="peak")), {"items.0.seats": "in_advance false"}),
    "average of no seats": (
        with_items(replace(BASE, seats="average", in_advance=False)),
        {"items.0.seats": "basis 'seats'"},
    ),
    "one-time fee by peak": (
        with_items(replace(SEATS, price=OneTime(ONE), seats="peak", in_advance=False)),
        {"items.0.seats": "charged at once"},
    ),
    "one-time fee with a meter": (priced(OneTime(ONE), "calls"), {"items.0.price.kind": "has no meter"}),
    "count below zero": (with_items(replace(BASE, count=BELOW)), {"items.0.count": NEGATIVE}),
    "count that is no number": (with_items(replace(BASE, count=NAN)), {"items.0.count": "must be a number"}),
    "free below zero": (with_items(replace(CALLS, free=BELOW)), {"items.0.free": NEGATIVE}),
    "free without end": (with_items(replace(CALLS, free=ENDLESS)), {"items.0.free": "must be a number"}),
    "free units of a matrix": (with_items(replace(TRAFFIC, free=ONE)), {"items.0.free": "no single quantity"}),
    "units off a matrix": (
        with_items(replace(TRAFFIC, discounts=(Discount("units_percent", ONE),))),
        {"items.0.free": "no single quantity"},
    ),
    "conversion without an end": (
        with_items(replace(CALLS, convert=Conversion(divide=number(3)))),
        {"items.0.convert.rounding": "dividing by 3 has no end in decimals"},
    ),
    "step without a rounding": (
        with_items(replace(CALLS, convert=Conversion(step=number(5)))),
        {"items.0.convert.step": "goes with a rounding"},
    ),
    "conversion by nothing": (
        with_items(replace(CALLS, convert=Conversion(number(0), NAN, "up", BELOW))),
        {f"items.0.convert.{name}": ABOVE_ZERO for name in ("multiply", "divide", "step")},
    ),
    "percent above 100": (
        with_items(replace(CALLS, discounts=(Discount("percent", number("100.01")),))),
        {"items.0.discounts.0.value": "from 0 to 100"},
    ),
    "percent of units above 100": (
        with_items(replace(CALLS, discounts=(Discount("units_percent", number(101)),))),
        {"items.0.discounts.0.value": "from 0 to 100"},
    ),
    "amount off below zero": (
        with_items(replace(CALLS, discounts=(Discount("percent", ONE), Discount("amount", BELOW)))),
        {"items.0.discounts.1.value": NEGATIVE},
    ),
    "discount for no period": (
        with_items(replace(CALLS, discounts=(Discount("amount", ONE, periods=0),))),
        {"items.0.discounts.0.periods": "at least 1"},
    ),
    "discount of a price on another": (
        with_items(replace(CALLS, discounts=(Discount("amount", ONE, on=("calls",)),))),
        {"items.0.discounts.0.on": "reduces that price"},
    ),
    "bounds of a price": (
        with_items(replace(CALLS, bounds=Bounds(BELOW, NAN, Commitment(BELOW, BELOW)))),
        {
            "items.0.bounds.minimum": NEGATIVE,
            "items.0.bounds.maximum": "must be a number",
            "items.0.bounds.commitment.amount": NEGATIVE,
            "items.0.bounds.commitment.overage_factor": NEGATIVE,
        },
    ),
}

TOO_DEEP = "(" * 31 + "quantity" + ")" * 31

OF_MODELS: dict[str, tuple[Plan, dict[str, str]]] = {
    "fee below zero": (priced(Flat(BELOW)), {"items.0.price.amount": "`allow_negative` of the item permits it"}),
    "one-time fee below zero": (priced(OneTime(BELOW)), {"items.0.price.amount": NEGATIVE}),
    "rate below zero": (priced(PerUnit(BELOW)), {"items.0.price.rate": NEGATIVE}),
    "rate that is no number": (priced(PerUnit(NAN)), {"items.0.price.rate": "must be a number"}),
    "rate without end, though negative ones are allowed": (
        with_items(replace(BASE, price=PerUnit(ENDLESS), allow_negative=True)),
        {"items.0.price.rate": "must be a number"},
    ),
    "package of nothing": (
        priced(Package(number(0), BELOW)),
        {"items.0.price.size": ABOVE_ZERO, "items.0.price.amount": NEGATIVE},
    ),
    "no tiers": (priced(Graduated(())), {"items.0.price.tiers": "at least one tier"}),
    "no last tier": (priced(Graduated(tiers(10, 20))), {"items.0.price.tiers.1.up_to": "without end"}),
    "gap: a tier without end in the middle": (
        priced(Volume(tiers(10, None, None))),
        {"items.0.price.tiers.1.up_to": "only the last tier"},
    ),
    "overlapping tiers": (priced(Graduated(tiers(10, 5, None))), {"items.0.price.tiers.1.up_to": "above 10"}),
    "the same bound twice": (priced(Volume(tiers(10, 10, None))), {"items.0.price.tiers.1.up_to": "above 10"}),
    "a first tier of nothing": (priced(Graduated(tiers(0, None))), {"items.0.price.tiers.0.up_to": "above 0"}),
    "a bound that is no number": (priced(Graduated(tiers("NaN", None))), {"items.0.price.tiers.0.up_to": "above 0"}),
    "tier prices below zero": (
        priced(Graduated((Tier(ONE, BELOW), Tier(None, ONE, BELOW)))),
        {"items.0.price.tiers.0.rate": NEGATIVE, "items.0.price.tiers.1.flat_fee": NEGATIVE},
    ),
    "stair below zero": (priced(Stairstep((Stair(None, BELOW),))), {"items.0.price.tiers.0.amount": NEGATIVE}),
    "percent of a tier below zero": (
        priced(GraduatedPercentage((PercentTier(ONE, ONE), PercentTier(ONE, BELOW)))),
        {"items.0.price.tiers.1.percent": NEGATIVE, "items.0.price.tiers.1.up_to": "without end"},
    ),
    "percentage below zero": (
        priced(Percentage(BELOW, BELOW, -1, BELOW, BELOW, BELOW), "payments"),
        {
            "items.0.price.percent": NEGATIVE,
            "items.0.price.fixed_fee": NEGATIVE,
            "items.0.price.minimum_per_transaction": NEGATIVE,
            "items.0.price.maximum_per_transaction": NEGATIVE,
            "items.0.price.free_amount": NEGATIVE,
            "items.0.price.free_transactions": NEGATIVE,
        },
    ),
    "most of a transaction below its least": (
        priced(Percentage(ONE, minimum_per_transaction=number(2), maximum_per_transaction=ONE), "payments"),
        {"items.0.price.maximum_per_transaction": "below the minimum, 2"},
    ),
    "matrix by nothing": (
        priced(Matrix((), (Cell((), BELOW),), BELOW), "traffic"),
        {"items.0.price.by": "one or more", "items.0.price.default": NEGATIVE, "items.0.price.cells.0.rate": NEGATIVE},
    ),
    "matrix by the same property twice": (
        priced(Matrix(("region", "region"), (), ONE), "traffic"),
        {"items.0.price.by": "each once"},
    ),
    "cells with too few values and twice": (
        priced(
            Matrix(("region", "size"), (Cell(("eu",), ONE), Cell(("eu", "s"), ONE), Cell(("eu", "s"), ONE)), ONE),
            "traffic",
        ),
        {"items.0.price.cells.0.values": "must have 2", "items.0.price.cells.2.values": "earlier cell"},
    ),
    "grouped with wrong tiers": (
        priced(Grouped("region", Volume(tiers(1))), "traffic"),
        {"items.0.price.price.tiers.0.up_to": "without end"},
    ),
    "grouped with too many tiers": (
        priced(Grouped("region", Volume(tiers(*range(1, 101), None))), "traffic"),
        {"items.0.price.price.tiers": "are more than 100"},
    ),
    "grouped by nothing": (
        priced(Grouped("", Volume(tiers(None)))),
        {"items.0.basis": "needs a meter", "items.0.price.by": "must name a property"},
    ),
    "capacity of nothing": (
        priced(Capacity(number(0), BELOW, BELOW), "calls"),
        {
            f"items.0.price.{name}": why
            for name, why in (("included", ABOVE_ZERO), ("amount", NEGATIVE), ("overage_rate", NEGATIVE))
        },
    ),
    "margin below zero": (
        priced(CostPlus(BELOW, BELOW), "cost"),
        {"items.0.price.margin_percent": NEGATIVE, "items.0.price.fee_per_event": NEGATIVE},
    ),
    "formula that does not parse": (formula("quantity +"), {"items.0.price.expression": "was expected"}),
    "formula that goes on": (formula("quantity 2"), {"items.0.price.expression": "goes on with '2'"}),
    "formula with what is no formula": (
        formula("quantity if events else 0"),
        {"items.0.price.expression": "goes on with 'if'"},
    ),
    "formula with a strange sign": (formula("quantity ** 2"), {"items.0.price.expression": "'*' where a number"}),
    "formula that cannot be read": (
        formula("quantity $ 2"),
        {"items.0.price.expression": "cannot be read from '$ 2' on"},
    ),
    "formula that calls something else": (formula("open(quantity)"), {"items.0.price.expression": "calls 'open'"}),
    "formula with too few arguments": (formula("max(quantity)"), {"items.0.price.expression": "it takes 2 to 10"}),
    "formula without its bracket": (formula("max(quantity, 1"), {"items.0.price.expression": "lacks ')'"}),
    "formula over unknown quantities": (formula("quantity * gb + x"), {"items.0.price.expression": "asks for gb, x"}),
    "formula that divides by zero at zero": (
        formula("100 / quantity"),
        {"items.0.price.expression": "cannot price a usage of 0"},
    ),
    "formula below zero at zero": (formula("quantity - 5"), {"items.0.price.expression": "negative at a usage of 0"}),
    "formula below zero of much": (formula("5 - quantity"), {"items.0.price.expression": "a usage of 1,000,000"}),
    "formula that divides by zero at one": (
        formula("100 / (quantity - 1) + 100"),
        {"items.0.price.expression": "cannot price a usage of 1:"},
    ),
    "formula too deep": (formula(TOO_DEEP), {"items.0.price.expression": "nested deeper than 30"}),
    "formula too long": (formula("quantity" + " + 1" * 200), {"items.0.price.expression": "longer than 500"}),
    "formula with nothing in it": (formula(""), {"items.0.price.expression": "its end"}),
    "formula that gives its own name away": (
        formula("quantity", Quantity("events", "cost")),
        {"items.0.price.quantities.0.name": "'events' is taken"},
    ),
    "formula with a name for two meters": (
        formula("quantity", Quantity("x", "cost"), Quantity("x", "traffic")),
        {"items.0.price.quantities.0.name": "is taken", "items.0.price.quantities.1.name": "is taken"},
    ),
    "formula with two names for a meter": (
        formula("x + y", Quantity("x", "cost"), Quantity("y", "cost")),
        {f"items.0.price.quantities.{i}.meter": "more than one name" for i in (0, 1)},
    ),
}

BROKEN = OF_THE_PLAN | OF_CURRENCIES | OF_ITEMS | OF_MODELS
