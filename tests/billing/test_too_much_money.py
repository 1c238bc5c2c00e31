"""What comes to more than an amount may be is refused: by the item and its quantity, or by the largest line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.amending import preview
from billing.errors import Refused
from billing.plan import PlanItem
from billing.pricing import Flat, PerUnit
from tests.billing.bookkeeping import Agreement, Books, plan_of, signed
from tests.billing.story import RATES
from tests.billing.test_attacks import FIRST, billed_up_to, change, midnight


def test_what_comes_to_more_than_an_amount_may_be_is_refused_by_the_item_and_its_quantity() -> None:
    seats = plan_of("EUR", PlanItem("seat", "Seat", PerUnit(Decimal("0.01")), "seats"))
    with pytest.raises(Refused) as refused:
        preview(billed_up_to(FIRST).standing, change(FIRST, seats="1000000000000001", plan=seats), midnight(FIRST))
    assert refused.value.code == "amount_too_large"
    assert refused.value.reason == (
        "1,000,000,000,000,001 of the item 'seat' of pro version 1, 2026-01-01 to 2026-01-31:"
        " that comes to 10,000,000,000,000.01 EUR, and no amount may be beyond 10,000,000,000,000.00 EUR."
    )


def test_lines_that_add_up_to_more_than_a_document_may_have_are_refused() -> None:
    """Each is just small enough, and so are both without tax of 19%."""
    fees = [PlanItem(f"fee {n}", "Fee", Flat(Decimal(amount))) for n, amount in enumerate(["4E12", "5E12"])]
    books = Books({"sub_1": signed(Agreement(FIRST, plan_of("EUR", *fees)))}, rates=RATES)
    with pytest.raises(Refused) as refused:
        books.bill(midnight(FIRST))
    assert refused.value.code == "amount_too_large"
    assert "2 lines, of which that of 'fee 1' is the largest" in refused.value.reason
