"""What rating costs: a subscription with five priced lines, each pricing model by itself, and an explained quote."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from benchmarks.measuring import cpu_microseconds
from billing.plan import Plan, PlanItem
from billing.portion import Portion
from billing.preview import Trial, quote
from billing.pricing import (
    Capacity,
    Cell,
    CostPlus,
    Dynamic,
    Flat,
    Formula,
    Graduated,
    GraduatedPercentage,
    Grouped,
    Matrix,
    Model,
    OneTime,
    Package,
    Percentage,
    PercentTier,
    PerUnit,
    Stair,
    Stairstep,
    Tier,
    Volume,
)
from billing.rating import rate_fixed, rate_usage, usage_windows
from billing.terms import Terms
from billing.usage import Measured, units

START = date(2026, 1, 1)
LIMIT_MICROSECONDS = 150
TIERS = (
    Tier(Decimal(2_000_000), Decimal("0.000003")),
    Tier(Decimal(8_000_000), Decimal("0.0000025")),
    Tier(None, Decimal("0.000002")),
)
FIVE = Plan(
    "team",
    1,
    "Team",
    "EUR",
    (
        PlanItem("platform", "Platform fee", Flat(Decimal("499.00"))),
        PlanItem("seats", "Seats", PerUnit(Decimal("20.00")), "seats"),
        PlanItem("input", "Input tokens", Graduated(TIERS), "meter", "input", "tokens"),
        PlanItem("output", "Output tokens", PerUnit(Decimal("0.00001")), "meter", "output", "tokens"),
        PlanItem("calls", "Tool calls", Package(Decimal(1_000), Decimal("1.50")), "meter", "calls"),
    ),
)
PARTS = tuple(Portion(Decimal(1_000 + n), 10, (("region", f"r{n}"),)) for n in range(5))
EVENTS = tuple(Portion(Decimal(n) * 3, 3, each=Decimal(n)) for n in range(1, 21))
MODELS: tuple[tuple[Model, Measured], ...] = (
    (Flat(Decimal(5)), units(Decimal(1))),
    (OneTime(Decimal(5)), units(Decimal(1))),
    (PerUnit(Decimal("0.0000025")), units(Decimal(5_234_567))),
    (Package(Decimal(1_000), Decimal("1.50")), units(Decimal(5_234_567))),
    (Graduated(TIERS), units(Decimal(9_234_567))),
    (Volume(TIERS), units(Decimal(9_234_567))),
    (Stairstep((Stair(Decimal(10), Decimal(5)), Stair(None, Decimal(50)))), units(Decimal(99))),
    (Percentage(Decimal("2.9"), Decimal("0.30"), minimum_per_transaction=Decimal("0.50")), Measured(EVENTS)),
    (
        GraduatedPercentage((PercentTier(Decimal(1000), Decimal(3)), PercentTier(None, Decimal(2)))),
        units(Decimal(5000)),
    ),
    (Dynamic(), units(Decimal("1234.56"))),
    (Matrix(("region",), (Cell(("r1",), Decimal(2)), Cell(("r3",), Decimal(3))), Decimal(1)), Measured(PARTS)),
    (Grouped("region", Graduated(TIERS)), Measured(PARTS)),
    (Capacity(Decimal(1_000), Decimal(500), Decimal("0.60")), units(Decimal(1_500))),
    (CostPlus(Decimal(20)), units(Decimal("1234.56"))),
    (Formula("max(1, ceil(quantity / 1000)) * 1.5 + events * 0.01"), units(Decimal(5_234_567), 99)),
)


def measure() -> list[str]:
    """Lines of text for the table of results."""
    terms = (Terms(1, START, FIVE, Decimal(10)),)
    whole = FIVE.interval.period_at(START, START)
    meters = ("input", "output", "calls")
    month = {(m, START + timedelta(days=d)): (Portion(Decimal(234_567), 100),) for m in meters for d in range(31)}
    sums = {meter: (Portion(Decimal(5_234_567), 100),) for meter in meters}
    counted = [(w, w.measured(month)) for w in usage_windows(terms, whole, whole)]

    def rated() -> None:
        rate_fixed(terms, whole, whole, advance=True)
        for window, used in counted:
            rate_usage(window, used)

    def measured_and_rated() -> None:
        rate_fixed(terms, whole, whole, advance=True)
        for window in usage_windows(terms, whole, whole):
            rate_usage(window, window.measured(month))

    trial = Trial(FIVE, sums, seats=Decimal(10))
    return [
        _row("five priced lines from their quantities", cpu_microseconds(rated), f"at most {LIMIT_MICROSECONDS} µs"),
        _row("the same from 93 folded days of three meters", cpu_microseconds(measured_and_rated)),
        _row("a quote of the plan, every line explained", cpu_microseconds(lambda: quote(trial, START), 500)),
        *(
            _row(f"`{type(m).__name__}` alone", cpu_microseconds(lambda m=m, u=u: m.charge(u).amount))
            for m, u in MODELS
        ),  # type: ignore[misc]
    ]


def _row(what: str, microseconds: float, limit: str = "") -> str:
    return f"| {what} | {microseconds:.1f} µs | {limit} |"
