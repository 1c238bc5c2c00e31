"""A subscription whose usage comes late and is taken back, and people who answer what is asked about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from hypothesis import strategies as st

from billing.late import Below, CreditAndRebill, Hold, IgnoreBelow, Late, NextInvoice
from billing.modifiers import Discount
from billing.money import total
from billing.period import instant, zone
from billing.plan import Plan, PlanItem
from billing.pricing import Graduated, PerUnit, Tier
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed
from tests.billing.story import RATES

D = Decimal
FIRST, BERLIN = date(2026, 1, 1), zone("Europe/Berlin")
CALLS = PlanItem("calls", "Calls", PerUnit(D("0.01")), "meter", "calls")
TIERS = replace(CALLS, price=Graduated((Tier(D(900), D("0.01")), Tier(None, D("0.004")))))
OFF = (Discount("percent", D(20)), Discount("amount", D(3), name="Welcome"))
PLANS = {
    "plain": plan_of("EUR", CALLS),
    "tiers": plan_of("EUR", TIERS),
    "no line without usage": plan_of("EUR", replace(CALLS, zero_line=False)),
    "discounts": replace(plan_of("EUR", CALLS), discounts=OFF),
}
BELOW_5 = IgnoreBelow((Below("EUR", D(5)),))
EQUAL = st.sampled_from([-900, -600, -400, -300, -200, 200, 300, 400, 600])
"""So that quantities of different lines are the same."""
LATE = st.sampled_from([NextInvoice(), CreditAndRebill(), BELOW_5, Hold()])


class Life:
    """January has been billed; each further step is usage of January, and a bill a month later."""

    def __init__(self, plan: Plan, late: Late, used: int = 1000) -> None:
        one = replace(signed(Agreement(FIRST, plan)), late=(("calls", late),))
        self.books, self.month, self.used = Books({"sub_1": one}, rates=RATES), 1, 0
        self.use(used)

    def use(self, calls: int) -> None:
        self.used += calls
        self.books.use("calls", FIRST, D(calls))
        self.bill()

    def bill(self) -> None:
        self.month += 1
        self.books.bill(instant(date(2026 + (self.month - 1) // 12, (self.month - 1) % 12 + 1, 1), BERLIN))

    def answers(self, *to_be_billed: bool) -> None:
        """About what is asked, in order; then all is billed."""
        for one in to_be_billed:
            self.books.answer(one)
        self.bill()

    def policy(self, late: Late) -> None:
        self.books.standing = replace(self.books.standing, late=(("calls", late),))

    @property
    def asked(self) -> list[int]:
        return [line.net.minor for line in self.books.asked]

    @property
    def billed(self) -> int:
        """Of January, on documents."""
        found = [line.net for d in self.books.documents for line in d.lines if line.period.start == FIRST]
        return total(found, "EUR").minor
