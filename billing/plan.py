"""Plans: what is on the price list. A plan is a version that never changes; a new price is a new version."""

from __future__ import annotations

from dataclasses import Field, dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from billing.modifiers import NO_BOUNDS, Bounds, Discount
from billing.money import Ties
from billing.period import Interval
from billing.pricing import Price
from billing.quantity import Conversion

Basis = Literal["fixed", "seats", "meter"]
RevenueKind = Literal["recurring", "usage", "one_time"]
SeatPolicy = Literal["prorated", "peak", "average"]


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One priced part of a plan. `basis` says what its quantity is: `count`, the seats, or a meter's total.

    Metered items are billed in arrears: their `in_advance` is always false, also if stored content says otherwise.
    Fixed and seat items are billed in advance unless it is false. Seats are charged by the days they were agreed
    (`prorated`), or in arrears by the most or the mean of the period. `convert`, `free`, `discounts`, `bounds` act in
    the order of billing/recipe.py. With `zero_line` false, no usage gives no line, unless it costs something (a
    minimum, a first tier's fee).
    `origin` says where the item comes from if not from the plan itself: an add-on, a customer's override.
    """

    key: str
    name: str
    price: Price
    basis: Basis = "fixed"
    meter: str | None = None
    unit: str = ""
    in_advance: bool = True
    seats: SeatPolicy = "prorated"
    count: Decimal = Decimal(1)
    convert: Conversion | None = None
    free: Decimal = Decimal(0)
    discounts: tuple[Discount, ...] = ()
    bounds: Bounds = NO_BOUNDS
    zero_line: bool = True
    allow_negative: bool = False
    product: str | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if self.basis == "meter" and self.in_advance:
            object.__setattr__(self, "in_advance", False)

    @property
    def revenue(self) -> RevenueKind:
        return "usage" if self.basis == "meter" else "one_time" if self.price.once else "recurring"

    @property
    def meters(self) -> tuple[str, ...]:
        """All meters it asks, each once: its own and those that its price names."""
        return () if self.meter is None else tuple(dict.fromkeys((self.meter, *self.price.meters())))

    @property
    def has_bounds(self) -> bool:
        return self.bounds is not NO_BOUNDS and self.bounds != NO_BOUNDS

    @property
    def apart(self) -> bool:
        """Whether more than the sum of what was measured counts."""
        return bool(self.price.dimensions() or self.price.meters() or self.price.per_event())

    def costs_as(self, other: PlanItem) -> bool:
        """Whether it is priced as the other is; what it is called, and by whom it is sold or reported, aside."""
        return self == replace(other, name=self.name, unit=self.unit, origin=self.origin, product=self.product)

    def quantity(self, seats: Decimal) -> Decimal:
        return seats if self.basis == "seats" else self.count


def usual(value: object, field: Field[Any]) -> object:
    """What a field of a value is if nothing is said of it."""
    if isinstance(value, PlanItem) and field.name == "in_advance":
        return value.basis != "meter"
    return field.default


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a plan gives of a feature: that it is on (or, taking back an add-on's, off), up to a limit, or a value."""

    feature: str
    enabled: bool = True
    limit: Decimal | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class InCurrency:
    """A plan's prices in a further currency: the same items, with figures of their own."""

    currency: str
    items: tuple[PlanItem, ...]
    bounds: Bounds = NO_BOUNDS
    invoice_bounds: Bounds = NO_BOUNDS
    discounts: tuple[Discount, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A published version of a price list entry. An `add_on` is sold with plans of the same interval.

    `discounts` reduce the plan's lines; `bounds` hold for all of a period's lines together, `invoice_bounds` for one
    invoice. `ties` says where half a minor unit is rounded to.
    """

    plan_id: str
    version: int
    name: str
    currency: str
    items: tuple[PlanItem, ...]
    interval: Interval = Interval()
    kind: Literal["plan", "add_on"] = "plan"
    product: str | None = None
    discounts: tuple[Discount, ...] = ()
    bounds: Bounds = NO_BOUNDS
    invoice_bounds: Bounds = NO_BOUNDS
    entitlements: tuple[Entitlement, ...] = ()
    ties: Ties = "away_from_zero"
    in_currencies: tuple[InCurrency, ...] = ()

    def named(self, plan_id: str, version: int) -> Plan:
        return replace(self, plan_id=plan_id, version=version)

    @property
    def currencies(self) -> tuple[str, ...]:
        return (self.currency, *(other.currency for other in self.in_currencies))

    def priced_in(self, currency: str) -> Plan | None:
        """The plan with its prices in that currency; None if it has none."""
        if currency == self.currency:
            return self
        for other in self.in_currencies:
            if other.currency == currency:
                return replace(
                    self,
                    currency=currency,
                    items=other.items,
                    bounds=other.bounds,
                    invoice_bounds=other.invoice_bounds,
                    discounts=other.discounts,
                    in_currencies=(),
                )
        return None
