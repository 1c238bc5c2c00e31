"""Plans: what is on the price list. A plan is a version that never changes; a new price is a new version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from billing.errors import Fault, Refused
from billing.money import CURRENCIES
from billing.period import Interval
from billing.pricing import Price

Basis = Literal["fixed", "seats", "meter"]
RevenueKind = Literal["recurring", "usage", "one_time"]


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One priced part of a plan. `basis` says what its quantity is: one, the seats, or a meter's total.

    Metered items are billed in arrears; fixed and seat items in advance unless `in_advance` is false.
    """

    key: str
    name: str
    price: Price
    basis: Basis = "fixed"
    meter: str | None = None
    unit: str = ""
    in_advance: bool = True

    @property
    def advance(self) -> bool:
        return self.in_advance and self.basis != "meter"

    @property
    def revenue(self) -> RevenueKind:
        return "usage" if self.basis == "meter" else "recurring"

    def quantity(self, seats: Decimal) -> Decimal:
        return seats if self.basis == "seats" else Decimal(1)


@dataclass(frozen=True, slots=True)
class Plan:
    """A published version of a price list entry, in one currency."""

    plan_id: str
    version: int
    name: str
    currency: str
    items: tuple[PlanItem, ...]
    interval: Interval = Interval()

    def named(self, plan_id: str, version: int) -> Plan:
        return replace(self, plan_id=plan_id, version=version)


def check(plan: Plan, meters: frozenset[str]) -> None:
    """Refuse a plan that cannot be billed, naming every fault with its path. `meters` are those that exist."""
    faults: list[Fault] = []
    if plan.currency not in CURRENCIES:
        faults.append(Fault("currency", f"{plan.currency!r} is not an ISO 4217 currency in use"))
    if plan.interval.count < 1:
        faults.append(Fault("interval.count", "must be at least 1"))
    if not plan.items:
        faults.append(Fault("items", "at least one item is needed"))
    keys = [item.key for item in plan.items]
    for i, item in enumerate(plan.items):
        where = f"items.{i}"
        if keys.count(item.key) > 1:
            faults.append(Fault(f"{where}.key", f"{item.key!r} stands more than once"))
        if (item.basis == "meter") != (item.meter is not None):
            faults.append(Fault(f"{where}.meter", "a meter goes with basis 'meter', and only with it"))
        elif item.meter is not None and item.meter not in meters:
            faults.append(Fault(f"{where}.meter", f"there is no meter {item.meter!r}; create it first"))
        faults += [Fault(f"{where}.price.{fault.field}", fault.reason) for fault in item.price.faults()]
    if faults:
        raise Refused(
            f"The plan {plan.plan_id!r} cannot be billed as it stands.",
            code="invalid_plan",
            faults=faults,
            remedy="Mend the named fields and send it again; nothing was stored.",
        )
